/* Tasks: what vSphere says of one, and waiting for one (tools, tests, and files.c's searches). */
#include "client.h"

#include "base/clock.h"

static const char *const info_path[] = {"info", NULL};

enum { WAIT_S = 30 }; /* of one long poll */

void vsp_task_of(struct arena *a, struct vim_ref ref, const struct vim_TaskInfo *info,
                 struct vsp_task *out)
{
    static const enum vsp_task_state states[] = {
        [vim_TaskInfoState_queued] = VSP_TASK_QUEUED,
        [vim_TaskInfoState_running] = VSP_TASK_RUNNING,
        [vim_TaskInfoState_success] = VSP_TASK_SUCCESS,
        [vim_TaskInfoState_error] = VSP_TASK_ERROR,
    };
    *out = (struct vsp_task){.ref = vsp_ref_dup(a, ref), .state = VSP_TASK_GONE};
    if (!info)
        return;
    int state = (int)info->state;
    out->state = state > 0 && state <= vim_TaskInfoState_error ? states[state] : VSP_TASK_RUNNING;
    if (out->state == VSP_TASK_SUCCESS && info->result.kind == VIM_REF && !info->result.array)
        out->result = vsp_ref_dup(a, info->result.ref);
    if (out->state != VSP_TASK_ERROR)
        return;
    const struct vim_LocalizedMethodFault *e = info->error;
    const char *what = info->name ? info->name : "task";
    vsp_fault(&out->err, what, NULL, e ? e->localizedMessage : NULL,
              e ? vim_object_of(e->fault) : NULL);
}

static const struct vim_TaskInfo *info_of(const struct vim_any *v)
{
    return v->kind == VIM_OBJECT && !v->array ? VIM_CAST(TaskInfo, v->object) : NULL;
}

bool vsp_task_read(struct vsp *v, const char *task, struct arena *a, struct vsp_task *out,
                   struct vic_err *err)
{
    struct vim_ref ref;
    struct vim_ObjectContent *o;
    struct vic_err why;
    if (!vsp_ref(a, task, &ref, err))
        return false;
    if (!vsp_read_object(v, ref, info_path, a, &o, &why)) {
        if (why.code == VIC_NOT_FOUND) {
            vsp_task_of(a, ref, NULL, out);
            return true;
        }
        if (err)
            *err = why;
        return false;
    }
    struct vim_any info = vsp_prop(o, "info");
    vsp_task_of(a, ref, info_of(&info), out);
    return true;
}

/* Not ours for sure are only those that vSphere started by itself. */
static bool may_be_ours(const struct vim_TaskInfo *info)
{
    return VIM_IS(TaskReasonUser, info->reason) || !info->reason;
}

/* A task that names no entity may be about any. */
static bool is_about(const struct vim_TaskInfo *info, const char *entity, struct arena *a)
{
    return !entity || !info->entity.value || strcmp(vsp_ref_dup(a, info->entity), entity) == 0;
}

bool vsp_tasks_running(struct vsp *v, const char *entity, size_t *count, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *c;
    static const char *const recent_path[] = {"recentTask", NULL};
    struct vim_ObjectContent *o;
    struct vsp_objects got;
    *count = 0;
    if (!vsp_content(v, &c, err) || !vsp_read_object(v, c->taskManager, recent_path, &a, &o, err))
        return false;
    struct vim_any recent = vsp_prop(o, "recentTask");
    if (recent.kind != VIM_REF || !recent.array || !recent.items.n)
        return true;
    struct vim_PropertyFilterSpec *spec = vsp_spec(&a);
    spec->has_reportMissingObjectsInResults = true;
    spec->reportMissingObjectsInResults = true;
    vsp_spec_props(&a, spec, "Task", info_path);
    for (size_t i = 0; i < recent.items.n; i++)
        vsp_spec_object(&a, spec, ((struct vim_ref *)recent.items.v)[i], NULL);
    if (!vsp_retrieve(v, spec, &a, &got, err))
        return vic_wrap(err, "list the running tasks");
    for (size_t i = 0; i < got.n; i++) {
        struct vim_any value = vsp_prop(got.v[i], "info");
        const struct vim_TaskInfo *info = info_of(&value);
        if (info && may_be_ours(info) && is_about(info, entity, &a) &&
            (info->state == vim_TaskInfoState_queued || info->state == vim_TaskInfoState_running))
            ++*count;
    }
    return true;
}

static const struct vim_TaskInfo *ended(const struct vim_UpdateSet *set)
{
    for (size_t f = 0; set && f < set->filterSet.n; f++)
        for (size_t i = 0; i < set->filterSet.v[f]->objectSet.n; i++) {
            const struct vim_ObjectUpdate *u = set->filterSet.v[f]->objectSet.v[i];
            for (size_t k = 0; k < u->changeSet.n; k++) {
                const struct vim_TaskInfo *info = info_of(&u->changeSet.v[k]->val);
                if (info && (info->state == vim_TaskInfoState_success ||
                             info->state == vim_TaskInfoState_error))
                    return info;
            }
        }
    return NULL;
}

/* One long poll; '*version' moves on. */
static bool poll_task(struct vsp *v, struct vim_ref collector, int64_t left_ms, struct arena *a,
                      const char **version, const struct vim_TaskInfo **info, struct vic_err *err)
{
    int64_t wait_s = left_ms / 1000 + 1 < WAIT_S ? left_ms / 1000 + 1 : WAIT_S;
    struct vim_WaitOptions options = {.has_maxWaitSeconds = true,
                                      .maxWaitSeconds = (int32_t)wait_s};
    struct vim_WaitForUpdatesEx_request q = {
        .self = collector, .version = *version, .options = &options};
    const struct vim_method *m = &vim_method_WaitForUpdatesEx;
    struct vsp_call_options o = {.timeout_ms = v->timeout_ms + wait_s * 1000};
    struct soap_reply reply;
    if (!vsp_exec(v, m, &q, &o, a, &reply, err))
        return false;
    if (reply.is_fault)
        return vsp_fault(err, m->name, reply.fault.type, reply.fault.text, reply.fault.detail);
    const struct vim_UpdateSet *set =
        ((const struct vim_WaitForUpdatesEx_response *)reply.response)->returnval;
    if (set && set->version)
        *version = set->version;
    *info = ended(set);
    return true;
}

static bool wait_on(struct vsp *v, struct vim_ref collector, struct vim_ref task,
                    int64_t timeout_ms, struct arena *a, const struct vim_TaskInfo **info,
                    struct vic_err *err)
{
    struct vim_CreateFilter_request q = {.self = collector, .spec = vsp_spec(a)};
    struct vim_CreateFilter_response *r;
    vsp_spec_props(a, q.spec, "Task", info_path);
    vsp_spec_object(a, q.spec, task, NULL);
    if (!VSP_CALL(v, CreateFilter, &q, a, r, err))
        return false;
    int64_t end = clock_mono_ms(&vic_clock_real) + timeout_ms;
    const char *version = NULL;
    for (;;) {
        int64_t left = end - clock_mono_ms(&vic_clock_real);
        if (left <= 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "%s has not ended", task.value);
        if (!poll_task(v, collector, left, a, &version, info, err))
            return false;
        if (*info)
            return true;
    }
}

bool vsp_wait_info(struct vsp *v, struct vim_ref task, int64_t timeout_ms, struct arena *a,
                   const struct vim_TaskInfo **out, struct vic_err *err)
{
    const struct vim_ServiceContent *c;
    if (!vsp_content(v, &c, err))
        return false;
    struct vim_CreatePropertyCollector_request q = {.self = c->propertyCollector};
    struct vim_CreatePropertyCollector_response *r;
    if (!VSP_CALL(v, CreatePropertyCollector, &q, a, r, err))
        return false;
    bool ok = wait_on(v, r->returnval, task, timeout_ms, a, out, err);
    struct vim_DestroyPropertyCollector_request bye = {.self = r->returnval};
    struct vim_DestroyPropertyCollector_response *gone;
    (void)!VSP_CALL(v, DestroyPropertyCollector, &bye, a, gone, NULL);
    return ok || vic_wrap(err, "wait for %s", task.value);
}

bool vsp_task_wait(struct vsp *v, const char *task, int64_t timeout_ms, char *result_ref,
                   struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_ref ref;
    const struct vim_TaskInfo *info;
    struct vsp_task end;
    if (result_ref)
        result_ref[0] = 0;
    if (!vsp_ref(&a, task, &ref, err) || !vsp_wait_info(v, ref, timeout_ms, &a, &info, err))
        return false;
    vsp_task_of(&a, ref, info, &end);
    if (end.state == VSP_TASK_ERROR) {
        if (err)
            *err = end.err;
        return false;
    }
    if (result_ref && end.result)
        snprintf(result_ref, VSP_REF_SIZE, "%s", end.result);
    return true;
}
