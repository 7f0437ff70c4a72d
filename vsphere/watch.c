/* The update stream: a thread with a property collector of its own, a filter over the pool's VMs,
 * one over a list view of our tasks, and a long poll (WaitForUpdatesEx, at most 30 s).
 *
 *   connect -> wait without version -> everything is reported -> on_sync -> wait, wait, ...
 *      ^                                                            |
 *      +------ any error: on_state(false), forget all VMs, back-off +
 *
 * All its objects in vSphere die with the session; then a wait answers ManagedObjectNotFound, and
 * it connects anew, at once.  What a VM looks like is kept a property at a time, each with an arena
 * of its own, so that a change frees what it replaces.  A change deeper than a property that we
 * asked for (some servers send those) makes the VM be read anew.
 *
 * Tasks are added by the caller's thread (ModifyListView), so that the poll that is under way
 * reports them.  A task that vSphere no longer knows cannot be reported by it: the caller marks it
 * and cancels the poll, and the thread reports it.  A cancel that comes between two polls cancels
 * nothing, so it is sent until the report is out.  A task's end takes it off the list view. */
#include "client.h"

#define HASH_FUNCTION HASH_OAT /* the default falls through cases, which clang warns of */
#include <uthash.h>

#include "base/clock.h"
#include "base/mem.h"

enum { POLL_S = 30, RECANCEL_MS = 100, FIRST_BACKOFF_MS = 250, MAX_BACKOFF_MS = 5000 };

struct seen_vm {
    char ref[VSP_REF_SIZE];
    struct vsp_vm vm; /* its parts live in 'parts', one arena a row of vsp_vm_rows */
    struct arena parts[VSP_VM_ROWS];
    UT_hash_handle hh;
};

struct seen_task {
    char ref[VSP_REF_SIZE];
    bool listed, gone, ended;
    UT_hash_handle hh;
};

struct vsp_watch {
    struct vsp *v;
    struct vsp_watch_callbacks cb;
    void *arg;
    char pool[VSP_REF_SIZE];
    pthread_t thread;
    atomic_bool stop;

    /* owned by the thread */
    CURL *handle;
    struct seen_vm *vms;
    struct buf version;
    bool synced;

    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    struct seen_task *tasks;
    char collector[VSP_REF_SIZE], list[VSP_REF_SIZE]; /* "" = not connected */
};

/* --- tasks
 * ---------------------------------------------------------------------------------------- */

/* Adds to or takes from the list view.  False also when vSphere does not know the task. */
static bool modify_list(struct vsp_watch *w, const char *list, const char *task, bool add,
                        struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_ModifyListView_request q = {0};
    struct vim_ModifyListView_response *r;
    struct vim_ref ref;
    if (!vsp_ref(&a, list, &q.self, err) || !vsp_ref(&a, task, &ref, err))
        return false;
    if (add)
        VIM_PUSH(&a, &q.add, ref);
    else
        VIM_PUSH(&a, &q.remove, ref);
    if (!VSP_CALL(w->v, ModifyListView, &q, &a, r, err))
        return false;
    return !r->returnval.n || vic_fail(err, VIC_NOT_FOUND, 0, "%s is gone", task);
}

static void cancel_poll(struct vsp_watch *w, const char *collector)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_CancelWaitForUpdates_request q = {0};
    struct vim_CancelWaitForUpdates_response *r;
    if (vsp_ref(&a, collector, &q.self, NULL))
        (void)!VSP_CALL(w->v, CancelWaitForUpdates, &q, &a, r, NULL);
}

/* Has the thread reported this task's end, or does it no longer poll with this collector? */
static bool report_is_out(struct vsp_watch *w, const char *collector, const char *task)
    VIC_REQUIRES(w->lock)
{
    struct seen_task *t;
    HASH_FIND_STR(w->tasks, task, t);
    return !t || t->ended || w->stop || strcmp(collector, w->collector) != 0;
}

static void cancel_until_reported(struct vsp_watch *w, const char *collector, const char *task)
{
    bool out = false;
    while (!out) {
        cancel_poll(w, collector);
        mutex_lock(&w->lock);
        if (!report_is_out(w, collector, task))
            cond_wait_ms(&w->wake, &w->lock, RECANCEL_MS);
        out = report_is_out(w, collector, task);
        mutex_unlock(&w->lock);
    }
}

/* Puts a known task on the list view.  A fault that names the view and not the task (the session
 * was renewed) is not held against the task: the reconnect lists it. */
static void list_task(struct vsp_watch *w, const char *task, bool by_watch)
{
    char list[VSP_REF_SIZE], collector[VSP_REF_SIZE];
    struct vic_err err = {0};
    mutex_lock(&w->lock);
    memcpy(list, w->list, sizeof list);
    memcpy(collector, w->collector, sizeof collector);
    mutex_unlock(&w->lock);
    if (!*list)
        return;
    bool ok = modify_list(w, list, task, true, &err), gone = false;
    if (!ok && err.code == VIC_NOT_FOUND) {
        AUTO_ARENA struct arena a = {0};
        struct vsp_task now;
        gone = vsp_task_read(w->v, task, &a, &now, NULL) && now.state == VSP_TASK_GONE;
    }
    struct seen_task *t;
    mutex_lock(&w->lock);
    HASH_FIND_STR(w->tasks, task, t);
    if (t) {
        t->listed = ok && strcmp(list, w->list) == 0;
        t->gone = gone;
    }
    mutex_unlock(&w->lock);
    if (gone && !by_watch)
        cancel_until_reported(w, collector, task);
}

void vsp_watch_task(struct vsp_watch *w, const char *task)
{
    struct seen_task *t;
    if (strlen(task) >= VSP_REF_SIZE)
        return;
    mutex_lock(&w->lock);
    HASH_FIND_STR(w->tasks, task, t);
    bool known = t != NULL;
    if (!known) {
        t = xcalloc(1, sizeof *t);
        snprintf(t->ref, sizeof t->ref, "%s", task);
        HASH_ADD_STR(w->tasks, ref, t);
    }
    mutex_unlock(&w->lock);
    if (!known)
        list_task(w, task, false);
}

static void report_task(struct vsp_watch *w, const struct vsp_task *task)
{
    struct seen_task *t;
    mutex_lock(&w->lock);
    HASH_FIND_STR(w->tasks, task->ref, t);
    bool wanted = t && !t->ended;
    if (wanted && task->state >= VSP_TASK_SUCCESS)
        t->ended = true;
    cond_broadcast(&w->wake);
    mutex_unlock(&w->lock);
    if (wanted && w->cb.on_task)
        w->cb.on_task(w->arg, task);
}

/* One task that is to be reported gone; false when there is none. */
static bool next_gone(struct vsp_watch *w, char ref[VSP_REF_SIZE])
{
    bool found = false;
    mutex_lock(&w->lock);
    for (struct seen_task *t = w->tasks; t && !found; t = t->hh.next)
        if (t->gone && !t->ended) {
            memcpy(ref, t->ref, VSP_REF_SIZE);
            found = true;
        }
    mutex_unlock(&w->lock);
    return found;
}

/* Forgets one ended task; 'ref' gets its name when it is still on the list view. */
static bool drop_ended(struct vsp_watch *w, char ref[VSP_REF_SIZE], char list[VSP_REF_SIZE])
{
    bool found = false;
    mutex_lock(&w->lock);
    for (struct seen_task *t = w->tasks, *next; t && !found; t = next) {
        next = t->hh.next;
        if (!t->ended)
            continue;
        found = true;
        memcpy(ref, t->ref, VSP_REF_SIZE);
        memcpy(list, w->list, VSP_REF_SIZE);
        if (!t->listed)
            *list = 0;
        HASH_DEL(w->tasks, t);
        free(t);
    }
    mutex_unlock(&w->lock);
    return found;
}

static void settle_tasks(struct vsp_watch *w)
{
    char ref[VSP_REF_SIZE], list[VSP_REF_SIZE];
    while (next_gone(w, ref))
        report_task(w, &(struct vsp_task){.ref = ref, .state = VSP_TASK_GONE});
    while (drop_ended(w, ref, list))
        if (*list)
            (void)!modify_list(w, list, ref, false, NULL);
}

/* After a connect: everything that has not ended goes on the new list view. */
static void relist_tasks(struct vsp_watch *w)
{
    AUTO_ARENA struct arena a = {0};
    VIM_ARRAY_OF(const char *) refs = {0};
    mutex_lock(&w->lock);
    for (struct seen_task *t = w->tasks; t; t = t->hh.next)
        if (!t->listed && !t->ended)
            VIM_PUSH(&a, &refs, arena_strdup(&a, t->ref));
    mutex_unlock(&w->lock);
    for (size_t i = 0; i < refs.n; i++)
        list_task(w, refs.v[i], true);
}

static void task_changed(struct vsp_watch *w, const struct vim_ObjectUpdate *u)
{
    AUTO_ARENA struct arena a = {0};
    struct vsp_task task;
    if (u->kind == vim_ObjectUpdateKind_leave) {
        vsp_task_of(&a, u->obj, NULL, &task);
        report_task(w, &task); /* one that had ended is not reported again */
        return;
    }
    for (size_t i = 0; i < u->changeSet.n; i++) {
        const struct vim_PropertyChange *c = u->changeSet.v[i];
        const struct vim_TaskInfo *info = NULL;
        if (c->val.kind == VIM_OBJECT && !c->val.array)
            info = VIM_CAST(TaskInfo, c->val.object);
        if (info)
            vsp_task_of(&a, u->obj, info, &task);
        else if (!vsp_task_read(w->v, vsp_ref_dup(&a, u->obj), &a, &task, NULL))
            continue; /* the connection's fault: the next round begins anew */
        report_task(w, &task);
    }
}

/* --- VMs
 * ------------------------------------------------------------------------------------------ */

static void forget_vm(struct vsp_watch *w, struct seen_vm *s)
{
    HASH_DEL(w->vms, s);
    for (size_t i = 0; i < VSP_VM_ROWS; i++)
        arena_fini(&s->parts[i]);
    free(s);
}

static void forget_vms(struct vsp_watch *w)
{
    struct seen_vm *s, *next;
    HASH_ITER(hh, w->vms, s, next)
    forget_vm(w, s);
}

static struct seen_vm *see_vm(struct vsp_watch *w, const char *ref)
{
    struct seen_vm *s;
    HASH_FIND_STR(w->vms, ref, s);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        snprintf(s->ref, sizeof s->ref, "%s", ref);
        s->vm.ref = s->ref;
        HASH_ADD_STR(w->vms, ref, s);
    }
    return s;
}

static void take_part(struct seen_vm *s, size_t row, const struct vim_any *value)
{
    arena_fini(&s->parts[row]);
    vsp_vm_rows[row].take(&s->parts[row], value, &s->vm);
}

/* Takes a change of a property that we asked for; false when it is deeper than one. */
static bool take_change(struct seen_vm *s, const struct vim_PropertyChange *c)
{
    struct sv name = sv_of(c->name);
    for (size_t i = 0; i < VSP_VM_ROWS; i++) {
        struct sv path = sv_of(vsp_vm_rows[i].path);
        if (sv_eq(name, path)) {
            take_part(s, i, &c->val);
            return true;
        }
        if (sv_starts(name, path) && (name.p[path.len] == '[' || name.p[path.len] == '.'))
            return false;
    }
    return true; /* none of ours */
}

/* All of it anew.  False: it is gone, or cannot be read now. */
static bool reread_vm(struct vsp_watch *w, struct seen_vm *s, struct vim_ref ref)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_ObjectContent *o;
    if (!vsp_read_object(w->v, ref, vsp_vm_paths(), &a, &o, NULL))
        return false;
    for (size_t i = 0; i < VSP_VM_ROWS; i++) {
        struct vim_any value = vsp_prop(o, vsp_vm_rows[i].path);
        take_part(s, i, &value);
    }
    return true;
}

static void vm_changed(struct vsp_watch *w, const struct vim_ObjectUpdate *u)
{
    char ref[VSP_REF_SIZE];
    struct seen_vm *s;
    if (!vsp_ref_text(u->obj, ref, NULL))
        return;
    if (u->kind == vim_ObjectUpdateKind_leave) {
        HASH_FIND_STR(w->vms, ref, s);
        if (s)
            forget_vm(w, s);
        if (w->cb.on_vm_gone)
            w->cb.on_vm_gone(w->arg, ref);
        return;
    }
    s = see_vm(w, ref);
    bool whole = true;
    for (size_t i = 0; i < u->changeSet.n; i++)
        whole &= take_change(s, u->changeSet.v[i]);
    if (!whole && !reread_vm(w, s, u->obj))
        return; /* gone: its leave follows; else the connection is and all begins anew */
    if (w->cb.on_vm)
        w->cb.on_vm(w->arg, &s->vm);
}

static void take_updates(struct vsp_watch *w, const struct vim_UpdateSet *set)
{
    for (size_t f = 0; f < set->filterSet.n; f++)
        for (size_t i = 0; i < set->filterSet.v[f]->objectSet.n; i++) {
            const struct vim_ObjectUpdate *u = set->filterSet.v[f]->objectSet.v[i];
            if (u->obj.type && strcmp(u->obj.type, "VirtualMachine") == 0)
                vm_changed(w, u);
            else if (u->obj.type && strcmp(u->obj.type, "Task") == 0)
                task_changed(w, u);
        }
}

/* --- the connection
 * ------------------------------------------------------------------------------- */

static bool add_filter(struct vsp_watch *w, struct vim_ref collector,
                       struct vim_PropertyFilterSpec *spec, struct arena *a, struct vic_err *err)
{
    struct vim_CreateFilter_request q = {.self = collector, .spec = spec};
    struct vim_CreateFilter_response *r;
    return VSP_CALL(w->v, CreateFilter, &q, a, r, err);
}

/* Remembers a session's object, so that other threads and detach find it. */
static bool publish(struct vsp_watch *w, struct vim_ref ref, char *where, struct vic_err *err)
{
    char text[VSP_REF_SIZE];
    if (!vsp_ref_text(ref, text, err))
        return false;
    mutex_lock(&w->lock);
    memcpy(where, text, VSP_REF_SIZE);
    mutex_unlock(&w->lock);
    return true;
}

static bool watch_tasks(struct vsp_watch *w, const struct vim_ServiceContent *c,
                        struct vim_ref collector, struct arena *a, struct vic_err *err)
{
    static const char *const info[] = {"info", NULL};
    struct vim_CreateListView_request q = {.self = c->viewManager};
    struct vim_CreateListView_response *r;
    struct vim_PropertyFilterSpec *spec = vsp_spec(a);
    if (!VSP_CALL(w->v, CreateListView, &q, a, r, err) || !publish(w, r->returnval, w->list, err))
        return false;
    vsp_spec_props(a, spec, "Task", info);
    vsp_spec_object(a, spec, r->returnval, vsp_traversal(a, "ListView", "view"));
    return add_filter(w, collector, spec, a, err);
}

static bool attach(struct vsp_watch *w, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *c;
    struct vim_CreatePropertyCollector_response *r;
    struct vim_ref pool;
    struct vim_PropertyFilterSpec *spec = vsp_spec(&a);
    if (!vsp_content(w->v, &c, err) || !vsp_ref(&a, w->pool, &pool, err))
        return false;
    struct vim_CreatePropertyCollector_request q = {.self = c->propertyCollector};
    vsp_spec_pool(&a, spec, pool);
    if (!VSP_CALL(w->v, CreatePropertyCollector, &q, &a, r, err) ||
        !publish(w, r->returnval, w->collector, err) ||
        !add_filter(w, r->returnval, spec, &a, err) || !watch_tasks(w, c, r->returnval, &a, err))
        return false;
    relist_tasks(w);
    return true;
}

static void destroy_view(struct vsp_watch *w, struct vim_ref view)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_DestroyView_request q = {.self = view};
    struct vim_DestroyView_response *r;
    (void)!VSP_CALL(w->v, DestroyView, &q, &a, r, NULL);
}

/* Also after a half-done attach; what does not answer is left to the session's end. */
static void detach(struct vsp_watch *w)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_DestroyPropertyCollector_request q = {0};
    struct vim_DestroyPropertyCollector_response *r;
    struct vim_ref list = {0};
    mutex_lock(&w->lock);
    q.self = vim_ref_parse(&a, w->collector);
    list = vim_ref_parse(&a, w->list);
    w->collector[0] = w->list[0] = 0;
    for (struct seen_task *t = w->tasks; t; t = t->hh.next)
        t->listed = false;
    mutex_unlock(&w->lock);
    if (q.self.value)
        (void)!VSP_CALL(w->v, DestroyPropertyCollector, &q, &a, r, NULL);
    if (list.value)
        destroy_view(w, list);
    buf_reset(&w->version);
    w->synced = false;
    forget_vms(w);
}

/* One wait; until everything has been reported, none: where there is nothing to report, a server
 * answers with nothing, and only after the time given.  False: connect anew. */
static bool poll_once(struct vsp_watch *w, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_WaitOptions options = {.has_maxWaitSeconds = true,
                                      .maxWaitSeconds = w->synced ? POLL_S : 0};
    struct vim_WaitForUpdatesEx_request q = {
        .version = w->version.len ? buf_str(&w->version) : NULL, .options = &options};
    struct vsp_call_options o = {.handle = w->handle,
                                 .stop = &w->stop,
                                 .long_poll = true,
                                 .timeout_ms = w->v->timeout_ms + POLL_S * 1000};
    const struct vim_method *m = &vim_method_WaitForUpdatesEx;
    struct soap_reply reply;
    mutex_lock(&w->lock);
    q.self = vim_ref_parse(&a, w->collector);
    mutex_unlock(&w->lock);
    if (!vsp_exec(w->v, m, &q, &o, &a, &reply, err))
        return false;
    if (vsp_is_fault(&reply, &vim_type_RequestCanceled))
        return true; /* by list_task */
    if (reply.is_fault)
        return vsp_fault(err, m->name, reply.fault.type, reply.fault.text, reply.fault.detail);
    const struct vim_UpdateSet *set =
        ((const struct vim_WaitForUpdatesEx_response *)reply.response)->returnval;
    if (set) {
        take_updates(w, set);
        buf_reset(&w->version);
        buf_add_str(&w->version, set->version ? set->version : "");
    }
    if (!w->synced && !(set && set->has_truncated && set->truncated)) {
        w->synced = true;
        if (w->cb.on_sync)
            w->cb.on_sync(w->arg);
    }
    return true;
}

static void say_state(struct vsp_watch *w, bool connected, const struct vic_err *err)
{
    if (connected)
        log_info(w->v->log, "vsphere.watch", KV_S("pool", w->pool));
    else
        log_warn(w->v->log, "vsphere.watch_lost", KV_S("pool", w->pool), KV_ERR(err));
    if (w->cb.on_state)
        w->cb.on_state(w->arg, connected, connected ? NULL : err);
}

/* One life of the connection; true when it had reported everything once. */
static bool live(struct vsp_watch *w, struct vic_err *err)
{
    if (!attach(w, err))
        return false;
    say_state(w, true, NULL);
    while (!atomic_load(&w->stop)) {
        settle_tasks(w);
        if (!poll_once(w, err))
            break;
    }
    return w->synced;
}

static void *run(void *arg)
{
    struct vsp_watch *w = arg;
    int64_t backoff = 0;
    while (!atomic_load(&w->stop)) {
        struct vic_err err = {0};
        bool was_up = live(w, &err);
        bool stopped = atomic_load(&w->stop);
        if (!stopped)
            say_state(w, false, &err);
        detach(w);
        /* a lost session or collector is made good at once; anything else waits a little */
        bool at_once = was_up && (err.code == VIC_NOT_FOUND || err.code == VIC_PROTOCOL);
        backoff = at_once ? 0 : backoff ? backoff * 2 : FIRST_BACKOFF_MS;
        if (was_up && backoff > FIRST_BACKOFF_MS)
            backoff = FIRST_BACKOFF_MS;
        if (backoff > MAX_BACKOFF_MS)
            backoff = MAX_BACKOFF_MS;
        mutex_lock(&w->lock);
        if (backoff && !atomic_load(&w->stop))
            cond_wait_ms(&w->wake, &w->lock, backoff);
        mutex_unlock(&w->lock);
    }
    return NULL;
}

struct vsp_watch *vsp_watch_new(struct vsp *v, const struct vsp_place *p,
                                const struct vsp_watch_callbacks *cb, void *arg,
                                struct vic_err *err)
{
    struct vsp_watch *w = xcalloc(1, sizeof *w);
    *w = (struct vsp_watch){.v = v, .cb = *cb, .arg = arg, .handle = vsp_handle_new()};
    snprintf(w->pool, sizeof w->pool, "%s", p->pool);
    mutex_init(&w->lock);
    cond_init(&w->wake);
    int sys = pthread_create(&w->thread, NULL, run, w);
    if (!sys)
        return w;
    curl_easy_cleanup(w->handle);
    cond_fini(&w->wake);
    mutex_fini(&w->lock);
    free(w);
    vic_fail(err, VIC_NO_MEMORY, sys, "start the watch");
    return NULL;
}

void vsp_watch_free(struct vsp_watch *w)
{
    if (!w)
        return;
    mutex_lock(&w->lock);
    atomic_store(&w->stop, true);
    cond_broadcast(&w->wake);
    mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    struct seen_task *t, *next;
    HASH_ITER(hh, w->tasks, t, next)
    {
        HASH_DEL(w->tasks, t);
        free(t);
    }
    curl_easy_cleanup(w->handle);
    buf_fini(&w->version);
    cond_fini(&w->wake);
    mutex_fini(&w->lock);
    free(w);
}
