/* Control, put together: who wakes whom.
 *
 * Three sources say "look again", and one function turns each into keys (wake_related):
 *   the store's change log     from revision 'seen' on; also the first thing at start: every object
 *   vSphere's update stream    a VM of ours changed, a task that was asked for ended
 *   the hub                    a guest said something
 * The work of turning is done in a pool of one thread, for the callbacks may not block.
 *
 * The place (pool, folder, datastore, network) is looked up by a thread of its own until vSphere
 * answers; steps that need vSphere wait for it (ctl_placed).  While vSphere is away nothing is
 * lost: steps fail and back off, and everything is looked at again on reconnect. */
#include <stdio.h>

#include "base/mem.h"
#include "image.h"

static const struct {
    enum store_kind kind;
    enum ctl_verdict (*step)(struct step *s, const char *id);
} controllers[] = {
    {STORE_CONTAINER, container_step}, {STORE_IMAGE, image_step}, {STORE_LAYER, layer_step},
    {STORE_DISK, disk_step},           {STORE_VM, vm_step},       {STORE_VCH, vch_step},
};

void ctl_wake(struct ctl *c, enum store_kind kind, const char *id)
{
    queue_add(c->queue, kind, id);
}

bool ctl_placed(struct ctl *c)
{
    mutex_lock(&c->lock);
    bool placed = c->placed;
    mutex_unlock(&c->lock);
    return placed;
}

static enum ctl_verdict run_step(void *arg, unsigned kind, const char *id, int64_t *after_ms)
{
    struct ctl *c = arg;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err = {0};
    struct step s = {.c = c, .a = &a, .now_ns = clock_wall_ns(c->o.clock), .err = &err};
    enum ctl_verdict verdict = CTL_DONE;
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
        if (controllers[i].kind == kind)
            verdict = controllers[i].step(&s, id);
    *after_ms = s.after_ms;
    if (verdict == CTL_FAIL)
        log_warn(c->log, "step.failed", KV_S("kind", store_kind_name(kind)), KV_S("id", id),
                 KV_ERR(&err));
    return verdict;
}

/* --- from changes to keys
 * ---------------------------------------------------------------------------------- */
static bool wake_id(void *arg, const char *id)
{
    ctl_wake(arg, STORE_IMAGE, id);
    return true;
}

static void wake_layer_users(struct ctl *c, struct store_txn *t, const char *layer)
{
    struct vic_err ignored;
    if (!store_referrers(t, STORE_LAYER, layer, STORE_IMAGE, wake_id, c, &ignored))
        log_debug(c->log, "wake.failed", KV_S("layer", layer));
}

static void wake_disk_users(struct ctl *c, struct store_txn *t, const struct store_disk *d)
{
    if (d->holder[0])
        ctl_wake(c, STORE_VM, d->holder);
    switch (d->role) {
    case store_disk_role_CONTAINER:
        ctl_wake(c, STORE_CONTAINER, d->owner);
        break;
    case store_disk_role_LAYER:
        wake_layer_users(c, t, d->owner);
        break;
    case store_disk_role_BLANK:
        ctl_wake(c, STORE_VCH, "vch");
        break;
    case store_disk_role_COUNT:
        break;
    }
}

static void wake_vm_users(struct ctl *c, const struct store_vm *vm)
{
    if (vm->container[0])
        ctl_wake(c, STORE_CONTAINER, vm->container);
    if (vm->image[0])
        ctl_wake(c, STORE_IMAGE, vm->image);
    if (vm->role == store_vm_role_WORKER)
        ctl_wake(c, STORE_VCH, "vch");
}

/* The key itself and those whose next step may depend on it. */
static void wake_related(struct ctl *c, struct store_txn *t, struct arena *a, enum store_kind kind,
                         const char *id)
{
    struct store_disk d;
    struct store_vm vm;
    struct vic_err ignored;
    switch (kind) {
    case STORE_DISK:
        if (store_get(t, kind, id, a, &d, &ignored))
            wake_disk_users(c, t, &d);
        break;
    case STORE_VM:
        if (store_get(t, kind, id, a, &vm, &ignored))
            wake_vm_users(c, &vm);
        limit_room(c, t);
        break;
    case STORE_LAYER:
        wake_layer_users(c, t, id);
        break;
    case STORE_CONTAINER:
    case STORE_IMAGE:
    case STORE_VCH:
        break;
    case STORE_TAG:
    case STORE_KINDS:
        return;
    }
    ctl_wake(c, kind, id);
}

struct fan_out {
    struct ctl *c;
    struct store_txn *t;
    enum store_kind kind;
    uint64_t last;
    bool vch_changed;
};

static bool wake_record(void *arg, const void *record)
{
    struct fan_out *f = arg;
    ctl_wake(f->c, f->kind, ((const struct store_meta *)record)->id);
    return true;
}

static void wake_all(struct ctl *c)
{
    struct vic_err err;
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        AUTO_ARENA struct arena a = {0};
        AUTO_TXN struct store_txn *t = store_read(c->store, &err);
        struct fan_out f = {.c = c, .kind = controllers[i].kind};
        if (!t || !store_list(t, f.kind, "", &a, wake_record, &f, &err))
            log_error(c->log, "wake.failed", KV_ERR(&err));
    }
}

static bool wake_entry(void *arg, const struct store_entry *e)
{
    struct fan_out *f = arg;
    AUTO_ARENA struct arena a = {0};
    f->last = e->revision;
    if (e->op == STORE_OP_EVENT)
        return true;
    if (e->kind == STORE_VCH)
        f->vch_changed = true;
    wake_related(f->c, f->t, &a, e->kind, e->id);
    return true;
}

static void follow_changes(void *arg)
{
    struct ctl *c = arg;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(c->store, &err);
    mutex_lock(&c->lock);
    c->changes_due = false;
    uint64_t since = c->seen;
    mutex_unlock(&c->lock);
    struct fan_out f = {.c = c, .t = t, .last = since};
    if (!t)
        return;
    if (!store_entries(t, since, &a, wake_entry, &f, &err)) {
        f.last = store_revision(t);
        wake_all(c);
    }
    mutex_lock(&c->lock);
    c->seen = f.last;
    mutex_unlock(&c->lock);
    if (f.vch_changed) /* the ISO or the blank root has come: who waited for it may go on */
        wake_all(c);
}

static void on_store_changed(void *arg, uint64_t revision)
{
    struct ctl *c = arg;
    (void)revision;
    mutex_lock(&c->lock);
    bool post = !c->changes_due;
    c->changes_due = true;
    mutex_unlock(&c->lock);
    if (post)
        pool_run(c->pool, follow_changes, c);
}

struct wake_job {
    struct ctl *c;
    enum store_kind kind;
    char id[80];
};

static void wake_job(void *arg)
{
    struct wake_job *w = arg;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(w->c->store, &err);
    if (t)
        wake_related(w->c, t, &a, w->kind, w->id);
    free(w);
}

static void wake_later(struct ctl *c, enum store_kind kind, const char *id)
{
    struct wake_job *w = xcalloc(1, sizeof *w);
    w->c = c;
    w->kind = kind;
    snprintf(w->id, sizeof w->id, "%s", id);
    if (!pool_run(c->pool, wake_job, w))
        free(w);
}

/* --- what vSphere and the guests say
 * --------------------------------------------------------------------- */
static void on_vm_changed(void *arg, const char *vm)
{
    wake_later(arg, STORE_VM, vm);
}

static void on_task_changed(void *arg, unsigned kind, const char *id)
{
    wake_later(arg, kind, id);
}

static void on_vsphere_state(void *arg, bool connected, const struct vic_err *err)
{
    struct ctl *c = arg;
    mutex_lock(&c->lock);
    bool was = c->connected;
    c->connected = connected;
    mutex_unlock(&c->lock);
    if (connected && !was)
        log_info(c->log, "vsphere.connected");
    else if (!connected && was)
        log_warn(c->log, "vsphere.lost", KV_S("err", err ? err->msg : ""));
}

static void on_synced(void *arg)
{
    wake_all(arg);
}

static const struct observed_callbacks observed_callbacks = {
    .vm_changed = on_vm_changed,
    .task_changed = on_task_changed,
    .state_changed = on_vsphere_state,
    .synced = on_synced,
};

static void on_job_finished(void *arg, const char *disk)
{
    wake_later(arg, STORE_DISK, disk);
}

static void on_guest(void *arg, const char *vm)
{
    wake_later(arg, STORE_VM, vm);
}

/* Was this run given to this VM?  What a guest says of itself is only its word. */
static bool serves(struct ctl *c, const char *vm, const char *container)
{
    struct store_vm record;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(c->store, &err);
    return t && store_get(t, STORE_VM, vm, &a, &record, &err) &&
           strcmp(record.container, container) == 0;
}

static void on_log(void *arg, const char *vm, const char *container, const char *boot, uint64_t seq,
                   int64_t time_ns, unsigned stream, bool partial, struct sv bytes)
{
    struct ctl *c = arg;
    struct logs_entry e = {
        .boot = boot,
        .seq = seq,
        .time_ns = time_ns,
        .stream = stream,
        .flags = partial ? LOGS_PARTIAL : 0,
        .bytes = bytes,
    };
    if (serves(c, vm, container))
        logs_append(c->o.logs, container, &e);
    else
        log_warn(c->log, "log.refused", KV_S("vm", vm), KV_S("container", container));
}

static uint64_t log_stored(void *arg, const char *container, const char *boot)
{
    return logs_stored(((struct ctl *)arg)->o.logs, container, boot);
}

const struct hub_callbacks ctl_hub_callbacks = {
    .on_guest = on_guest,
    .on_log = on_log,
    .log_stored = log_stored,
};

bool ctl_channel_key(void *ctl, const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE])
{
    struct ctl *c = ctl;
    struct store_vm record;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(c->store, &err);
    if (!t || !store_get(t, STORE_VM, vm, &a, &record, &err))
        return false;
    store_channel_key(c->store, vm, n, out);
    return true;
}

/* Finds the vm that serves a container now, and acknowledges what is stored. */
void ctl_log_stored(void *ctl, const char *container, const char *boot, uint64_t seq)
{
    struct ctl *c = ctl;
    struct store_container record;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(c->store, &err);
    if (c->hub && t && store_get(t, STORE_CONTAINER, container, &a, &record, &err) &&
        record.status.vm[0])
        hub_log_ack(c->hub, record.status.vm, boot, seq);
}

/* --- life
 * ---------------------------------------------------------------------------------------------------
 */
struct ctl *ctl_new(const struct ctl_options *o, struct vic_err *err)
{
    struct ctl *c = xcalloc(1, sizeof *c);
    (void)err;
    c->o = *o;
    c->store = o->store;
    c->log = o->log;
    mutex_init(&c->lock);
    cond_init(&c->wake);
    c->pool = pool_new("wake", 1, 0);
    c->queue = queue_new(o->workers, o->clock, run_step, c);
    c->observed = observed_new(&observed_callbacks, c);
    return c;
}

/* Looks the place up until vSphere answers, then starts the update stream. */
static void *place_main(void *arg)
{
    struct ctl *c = arg;
    int64_t pause_ms = 250;
    for (;;) {
        struct vic_err err = {0};
        bool ok = vsp_find_place(c->o.vsp, &c->o.place, &c->place, &err) &&
                  observed_start(c->observed, c->o.vsp, &c->place, &err);
        mutex_lock(&c->lock);
        if (ok)
            c->placed = true;
        else if (!c->stopping)
            cond_wait_ms(&c->wake, &c->lock, pause_ms);
        bool end = c->placed || c->stopping;
        mutex_unlock(&c->lock);
        if (!ok)
            log_warn(c->log, "vsphere.unreachable", KV_ERR(&err));
        if (end)
            break;
        pause_ms = pause_ms < 5000 ? pause_ms * 2 : pause_ms;
    }
    if (ctl_placed(c))
        wake_all(c);
    return NULL;
}

bool ctl_start(struct ctl *c, struct hub *hub, struct vic_err *err)
{
    c->hub = hub;
    c->jobs = jobs_new(hub, c->o.spool, c->log, on_job_finished, c);
    {
        AUTO_TXN struct store_txn *t = store_read(c->store, err);
        if (!t)
            return false;
        mutex_lock(&c->lock);
        c->seen = store_revision(t);
        mutex_unlock(&c->lock);
    }
    c->watch = store_watch_new(c->store, on_store_changed, c);
    wake_all(c);
    if (pthread_create(&c->place_thread, NULL, place_main, c) != 0)
        return vic_fail(err, VIC_NO_MEMORY, 0, "start a thread");
    c->place_started = true;
    if (!queue_start(c->queue))
        return vic_fail(err, VIC_NO_MEMORY, 0, "start the workers");
    return true;
}

void ctl_stop(struct ctl *c)
{
    mutex_lock(&c->lock);
    c->stopping = true;
    cond_broadcast(&c->wake);
    mutex_unlock(&c->lock);
    if (c->place_started)
        pthread_join(c->place_thread, NULL);
    c->place_started = false;
    queue_stop(c->queue);
    store_watch_free(c->watch);
    c->watch = NULL;
    observed_stop(c->observed);
    jobs_free(c->jobs);
    c->jobs = NULL;
}

void ctl_free(struct ctl *c)
{
    if (!c)
        return;
    ctl_stop(c);
    pool_free(c->pool);
    queue_free(c->queue);
    observed_free(c->observed);
    cond_fini(&c->wake);
    mutex_fini(&c->lock);
    free(c);
}

void ctl_stats(struct ctl *c, struct ctl_stats *out)
{
    struct queue_stats q;
    queue_stats(c->queue, &q);
    *out = (struct ctl_stats){q.steps, q.failures, q.queued, q.running, q.late, false};
    mutex_lock(&c->lock);
    out->vsphere_connected = c->connected;
    mutex_unlock(&c->lock);
}
