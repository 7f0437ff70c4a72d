/* Tasks: see tasks.h. */
#include "tasks.h"

#include "base/json.h"
#include "base/mem.h"

enum {
    KEEP_MS = 10 * 60 * 1000,
    MAX_ENDED = 1000,      /* kept */
    MAX_RECENT = 200,      /* in TaskManager.recentTask */
    MAX_RECENT_ENTITY = 10 /* in an entity's */
};

static struct vh_task *task_of(struct vh_obj *o)
{
    return CONTAINER_OF(o, struct vh_task, obj);
}

static void free_task(struct vh *h, struct vh_obj *o)
{
    (void)h;
    arena_fini(&task_of(o)->a);
}

static void touch_task(struct vh *h, struct vh_task *t)
{
    vh_touch(h, &t->obj);
    vh_touch(h, vh_find_id(h, "ha-taskmgr"));
    struct vh_obj *entity = vh_find_id(h, t->entity.value);
    if (entity)
        vh_touch(h, entity);
}

static bool ended(const struct vh_task *t)
{
    return t->state == vim_TaskInfoState_success || t->state == vim_TaskInfoState_error;
}

/* --- names ------------------------------------------------------------------------------------ */

static const struct {
    const char *method, *verb;
} verbs[] = {
    {"PowerOnVM_Task", "powerOn"},
    {"PowerOffVM_Task", "powerOff"},
    {"ResetVM_Task", "reset"},
    {"ReconfigVM_Task", "reconfigure"},
    {"CreateVM_Task", "createVm"},
    {"Destroy_Task", "destroy"},
    {"Rename_Task", "rename"},
    {"SearchDatastore_Task", "search"},
    {"SearchDatastoreSubFolders_Task", "searchSubFolders"},
    {"DeleteDatastoreFile_Task", "deleteFile"},
    {"MoveDatastoreFile_Task", "move"},
    {"CopyDatastoreFile_Task", "copy"},
};

static const char *description_id(struct arena *a, const char *type, const char *method)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (!strcmp(verbs[i].method, method))
            return arena_printf(a, "%s.%s", type, verbs[i].verb);
    char *verb = arena_strdup(a, method), *cut = strstr(verb, "_Task");
    if (cut)
        *cut = '\0';
    if (*verb >= 'A' && *verb <= 'Z')
        *verb = (char)(*verb - 'A' + 'a');
    return arena_printf(a, "%s.%s", type, verb);
}

/* --- the record of a running task ------------------------------------------------------------- */

static const char *record_key(struct vh_job *j)
{
    return arena_printf(&j->a, "task/%s", j->task->obj.id);
}

static void put_paths(struct json_writer *w, struct vh_job *j, const char *key,
                      const struct vh_path *list, size_t n)
{
    json_open(w, key, '[');
    for (size_t i = 0; i < n; i++)
        json_add_str(w, NULL, vh_path_text(&j->a, &list[i]));
    json_close(w, ']');
}

static void put_record(struct vh_job *j, struct state_batch *batch, bool done)
{
    AUTO_BUF struct buf text = {0};
    struct json_writer w = json_writer(&text);
    json_open(&w, NULL, '{');
    json_add_str(&w, "method", j->task->method);
    json_add_str(&w, "description", j->task->description_id);
    json_add_str(&w, "entityType", j->task->entity.type);
    json_add_str(&w, "entity", j->task->entity.value);
    json_add_str(&w, "user", j->task->user);
    json_add_i64(&w, "queued", j->task->queued_ns);
    json_add_bool(&w, "done", done);
    if (done)
        put_paths(&w, j, "remove", j->dooms.v, j->dooms.n);
    else
        put_paths(&w, j, "remove", j->makes.v, j->makes.n);
    if (done && j->tidy.ds)
        json_add_str(&w, "tidy", vh_path_text(&j->a, &j->tidy));
    json_close(&w, '}');
    state_put(batch, record_key(j), buf_sv(&text));
}

static bool save_record(struct vh_job *j)
{
    AUTO_BATCH struct state_batch batch = {0};
    struct vic_err err;
    put_record(j, &batch, false);
    return state_commit(j->h->state, &batch, false, &err) ? true
                                                          : vh_fault_err(&j->fault, NULL, &err);
}

bool vh_job_makes(struct vh_job *j, const struct vh_path *p)
{
    VIM_PUSH(&j->a, &j->makes, *p);
    return save_record(j);
}

void vh_job_dooms(struct vh_job *j, const struct vh_path *p)
{
    VIM_PUSH(&j->a, &j->dooms, *p);
}

bool vh_job_fail(struct vh_job *j, const struct vh_path *p, const struct vic_err *err)
{
    return vh_fault_err(&j->fault, p ? vh_path_text(&j->a, p) : NULL, err);
}

/* --- running ---------------------------------------------------------------------------------- */

static void remove_paths(struct vh *h, const struct vh_path *list, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        struct vic_err err;
        if (!vh_file_remove(&list[i], &err) && err.code != VIC_NOT_FOUND)
            log_warn(h->opt.log, "file.left", KV_S("path", list[i].rel), KV_ERR(&err));
    }
}

static void begin(struct vh_job *j)
{
    mutex_lock(&j->h->lock);
    j->task->state = vim_TaskInfoState_running;
    j->task->started_ns = clock_wall_ns(j->h->opt.clock);
    touch_task(j->h, j->task);
    mutex_unlock(&j->h->lock);
}

static bool commit(struct vh_job *j)
{
    struct vic_err err;
    bool durable = j->batch.first != NULL;
    if (j->dooms.n)
        put_record(j, &j->batch, true);
    else
        state_del(&j->batch, record_key(j));
    return state_commit(j->h->state, &j->batch, durable, &err)
               ? true
               : vh_fault_err(&j->fault, NULL, &err);
}

static void drop_record(struct vh_job *j)
{
    AUTO_BATCH struct state_batch batch = {0};
    struct vic_err err;
    state_del(&batch, record_key(j));
    if (!state_commit(j->h->state, &batch, false, &err))
        log_error(j->h->opt.log, "state.failed", KV_ERR(&err));
}

/* The outcome, copied out of the job's arena. */
static void keep_outcome(struct vh_job *j, bool good)
{
    struct vh_task *t = j->task;
    t->fault.a = &t->a;
    if (!good) {
        t->fault.detail = vh_clone_object(&t->a, j->fault.detail);
        t->fault.text = arena_strdup(&t->a, j->fault.text);
    } else if (j->result.kind == VIM_REF) {
        struct vim_ref ref = {arena_strdup(&t->a, j->result.ref.type),
                              arena_strdup(&t->a, j->result.ref.value)};
        t->result = VIM_ANY_REF(ref);
    } else if (j->result.kind != VIM_NONE) {
        t->result = vh_clone_any(&t->a, &j->result);
    }
    t->done_ns = clock_wall_ns(j->h->opt.clock);
    t->state = good ? vim_TaskInfoState_success : vim_TaskInfoState_error;
}

static void end(struct vh_job *j, bool good)
{
    mutex_lock(&j->h->lock);
    if (good && j->publish)
        j->publish(j);
    keep_outcome(j, good);
    if (j->lock && vh_find_id(j->h, j->task->entity.value) == j->lock)
        j->lock->busy = NULL;
    touch_task(j->h, j->task);
    log_event(j->h->opt.log, good ? LOG_INFO : LOG_WARN, good ? "task.done" : "task.failed",
              (const struct log_kv[]){
                  KV_S("task", j->task->obj.id), KV_S("fault", good ? "" : j->fault.text),
                  KV_I("dur_ms", (j->task->done_ns - j->task->queued_ns) / 1000000)},
              3);
    mutex_unlock(&j->h->lock);
}

static void job_main(void *arg)
{
    struct vh_job *j = arg;
    begin(j);
    bool good = save_record(j) && j->run(j) && commit(j);
    if (!good) {
        if (j->rollback)
            j->rollback(j);
        remove_paths(j->h, j->makes.v, j->makes.n);
        drop_record(j);
    }
    /* The caller of a delete wants the file gone when the task says success. */
    if (good && j->dooms.n) {
        remove_paths(j->h, j->dooms.v, j->dooms.n);
        if (j->tidy.ds)
            vh_dir_remove_empty(&j->tidy);
        drop_record(j);
    }
    end(j, good);
    state_batch_fini(&j->batch);
    arena_fini(&j->a);
    free(j);
}

/* --- starting --------------------------------------------------------------------------------- */

bool vh_task_busy(const struct vh *h, const struct vh_obj *o, struct vh_fault *f)
{
    (void)h;
    if (!o->busy)
        return false;
    VH_FAULT(f, TaskInProgress, NULL)->task =
        (struct vim_ref){"Task", arena_strdup(f->a, o->busy->obj.id)};
    return true;
}

static struct vh_task *new_task(struct vh_call *c, const struct vh_obj *entity)
{
    struct vh_task *t = xcalloc(1, sizeof *t);
    const struct vh_obj *shown = entity ? entity : c->o;
    t->method = c->m->name;
    t->description_id = description_id(&t->a, shown->type->name, c->m->name);
    t->user = arena_strdup(&t->a, c->user);
    t->state = vim_TaskInfoState_queued;
    t->queued_ns = clock_wall_ns(c->h->opt.clock);
    t->number = vh_next(c->h);
    if (entity) {
        t->entity = (struct vim_ref){entity->type->name, arena_strdup(&t->a, entity->id)};
        t->entity_name = arena_strdup(&t->a, entity->name);
    }
    t->obj.free = free_task;
    AUTO_FREE char *id = xasprintf("haTask-%s-vim.%s-%llu", shown->id, t->description_id,
                                   (unsigned long long)t->number);
    vh_add(c->h, &t->obj, &vim_managed_Task, id, NULL, NULL);
    touch_task(c->h, t);
    return t;
}

static struct vh_job *new_job(struct vh_call *c, struct vh_obj *entity, bool exclusive)
{
    struct vh_job *j = xcalloc(1, sizeof *j);
    struct soap_request q;
    struct vic_err err;
    /* The request's own arena ends with the answer; the job reads the text again. */
    if (!soap_parse_request(http_body(c->http), SOAP_STRICT, &j->a, &q, &err))
        abort(); /* it was read a moment ago */
    j->h = c->h;
    j->o = c->o;
    j->lock = exclusive ? entity : NULL;
    j->req = q.params;
    j->fault.a = &j->a;
    return j;
}

struct vh_job *vh_task_new(struct vh_call *c, struct vh_obj *entity, bool exclusive,
                           bool (*run)(struct vh_job *j))
{
    if (exclusive && vh_task_busy(c->h, entity, &c->fault))
        return NULL;
    struct vh_job *j = new_job(c, entity, exclusive);
    j->task = new_task(c, entity);
    j->run = run;
    if (exclusive)
        entity->busy = j->task;
    return j;
}

void vh_task_go(struct vh_call *c, struct vh_job *j)
{
    /* Every response of a task method is one reference. */
    ((struct vim_PowerOffVM_Task_response *)c->res)->returnval =
        (struct vim_ref){"Task", arena_strdup(c->a, j->task->obj.id)};
    if (!vh_later(c->h, job_main, j)) /* the host is ending: as if it had ended a moment ago */
        log_warn(c->h->opt.log, "task.dropped", KV_S("task", j->task->obj.id));
}

bool vh_task_start(struct vh_call *c, struct vh_obj *entity, bool exclusive,
                   bool (*run)(struct vh_job *j))
{
    struct vh_job *j = vh_task_new(c, entity, exclusive, run);
    if (j)
        vh_task_go(c, j);
    return j != NULL;
}

/* --- after a crash ---------------------------------------------------------------------------- */

struct recovery {
    struct vh *h;
    struct state_batch batch;
};

static void recover_paths(struct vh *h, struct arena *a, struct json_val list)
{
    struct vh_fault f = {.a = a};
    for (struct json_iter i = json_iter(list); json_next(&i);) {
        struct vh_path p;
        if (vh_path_parse(h, json_str(i.val, ""), &p, &f) && *p.rel)
            remove_paths(h, &p, 1);
    }
}

static void recover_task(struct vh *h, const char *id, struct json_val v)
{
    struct vh_task *t = xcalloc(1, sizeof *t);
    const char *entity = json_str(json_get(v, "entity"), NULL);
    bool done = json_bool(json_get(v, "done"), false);
    const struct vim_method *m = vim_find_method(sv_of(json_str(json_get(v, "method"), "")));
    const struct vim_managed *type =
        vim_find_managed(sv_of(json_str(json_get(v, "entityType"), "")));
    t->obj.free = free_task;
    t->method = m ? m->name : NULL;
    t->description_id = arena_strdup(&t->a, json_str(json_get(v, "description"), ""));
    t->user = arena_strdup(&t->a, json_str(json_get(v, "user"), ""));
    t->queued_ns = t->started_ns = json_i64(json_get(v, "queued"), 0);
    t->done_ns = clock_wall_ns(h->opt.clock);
    t->state = done ? vim_TaskInfoState_success : vim_TaskInfoState_error;
    if (entity && type)
        t->entity = (struct vim_ref){type->name, arena_strdup(&t->a, entity)};
    t->fault.a = &t->a;
    if (!done)
        VH_FAULT(&t->fault, SystemError, "The host ended while the task ran.")->reason =
            "The host ended while the task ran.";
    vh_add(h, &t->obj, &vim_managed_Task, id, NULL, NULL);
    log_warn(h->opt.log, "task.recovered", KV_S("task", id), KV_S("state", done ? "done" : "cut"));
}

static void recover_one(void *arg, const char *key, struct sv value)
{
    struct recovery *r = arg;
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct vic_err err;
    if (json_parse(value, 0, &a, &v, &err)) {
        recover_paths(r->h, &a, json_get(v, "remove"));
        struct vh_fault f = {.a = &a};
        struct vh_path tidy;
        const char *folder = json_str(json_get(v, "tidy"), NULL);
        if (folder && vh_path_parse(r->h, folder, &tidy, &f))
            vh_dir_remove_empty(&tidy);
        recover_task(r->h, key + strlen("task/"), v);
    }
    state_del(&r->batch, key);
}

bool vh_tasks_recover(struct vh *h, struct vic_err *err)
{
    struct recovery r = {.h = h};
    bool good = state_each(h->state, "task/", recover_one, &r, err) &&
                state_commit(h->state, &r.batch, true, err);
    state_batch_fini(&r.batch);
    return good;
}

void vh_tasks_expire(struct vh *h)
{
    int64_t limit = clock_wall_ns(h->opt.clock) - (int64_t)KEEP_MS * 1000000;
    size_t count = 0;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        count += o->type == &vim_managed_Task && ended(task_of(o));
    for (struct vh_obj *o = h->objects, *next; o; o = next) {
        next = o->hh.next;
        if (o->type != &vim_managed_Task || !ended(task_of(o)))
            continue;
        if (task_of(o)->done_ns < limit || count > MAX_ENDED) {
            vh_drop(h, o);
            vh_touch(h, vh_find_id(h, "ha-taskmgr"));
            count--;
        }
    }
}

/* --- what is shown ---------------------------------------------------------------------------- */

void vh_recent_tasks(struct vh_read *r, const struct vh_obj *entity, vh_refs *out)
{
    size_t max = entity ? MAX_RECENT_ENTITY : MAX_RECENT;
    vh_refs all = {0};
    for (struct vh_obj *o = r->h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_Task &&
            (!entity ||
             (task_of(o)->entity.value && !strcmp(task_of(o)->entity.value, entity->id))))
            vh_push_ref(r->a, &all, o);
    if (all.n > max) {
        all.v += all.n - max;
        all.n = max;
    }
    *out = all;
}

static void get_info(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    const struct vh_task *t = task_of(o);
    struct vim_TaskInfo *i = VIM_NEW(r->a, TaskInfo);
    struct vim_TaskReasonUser *reason = VIM_NEW(r->a, TaskReasonUser);
    reason->userName = t->user;
    i->key = o->id;
    i->task = vh_ref(o);
    i->name = t->method;
    i->descriptionId = t->description_id;
    i->entity = t->entity;
    i->entityName = t->entity_name;
    i->state = t->state;
    if (t->state == vim_TaskInfoState_error)
        i->error = vh_fault_localized(&t->fault, r->a);
    i->result = t->result;
    i->reason = VIM_BASE(TaskReason, reason);
    i->queueTime = t->queued_ns;
    i->startTime = t->started_ns;
    i->has_startTime = t->started_ns != 0;
    i->completeTime = t->done_ns;
    i->has_completeTime = t->done_ns != 0;
    i->eventChainId = (int32_t)t->number;
    *out = VIM_ANY_OBJECT(i);
}

static void get_recent(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    vh_refs refs = {0};
    vh_recent_tasks(r, NULL, &refs);
    *out = vh_any_refs(&refs);
}

static void get_max_collector(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)r;
    (void)o;
    *out = VIM_ANY_INT(32);
}

static void get_description(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    *out = VIM_ANY_OBJECT(VIM_NEW(r->a, TaskDescription));
}

const struct vh_prop vh_props_task[] = {
    {&vim_managed_Task, "info", get_info},
    {&vim_managed_TaskManager, "recentTask", get_recent},
    {&vim_managed_TaskManager, "maxCollector", get_max_collector},
    {&vim_managed_TaskManager, "description", get_description},
    {0},
};

static bool cancel_task(struct vh_call *c)
{
    if (!ended(task_of(c->o)))
        return vh_fault_unsupported(&c->fault); /* none of ours can be stopped half-way */
    VH_FAULT(&c->fault, InvalidState, NULL);
    return false;
}

const struct vh_method vh_methods_task[] = {
    {&vim_method_CancelTask, cancel_task, 0},
    {0},
};
