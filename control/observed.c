/* What vSphere says, cached.
 *
 * The update stream fills two tables: VMs by reference and tasks by reference.  Controllers read
 * copies.  An update that changes nothing that we look at (a hash over it) wakes nobody.  After a
 * reconnect the stream reports everything anew: VMs that were not reported by the time of on_sync
 * are gone. */
#include "observed.h"

#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/mem.h"
#include "base/sync.h"

struct seen_vm {
    char ref[VSP_REF_SIZE];
    char id[65]; /* our vm id; "" = not one of ours */
    struct arena arena;
    struct vsp_vm vm;
    uint64_t hash;
    uint64_t round; /* of the last full report it was in */
    UT_hash_handle hh;
};

struct seen_task {
    char ref[VSP_REF_SIZE];
    unsigned kind;
    char key[80];
    bool reported;
    enum vsp_task_state state;
    char result[VSP_REF_SIZE];
    struct vic_err err;
    UT_hash_handle hh;
};

struct observed {
    const struct observed_callbacks *cb; /* immutable after init */
    void *arg;
    struct vsp_watch *watch; /* set once by observed_start */
    struct vic_mutex lock;
    /* guarded: lock */
    struct seen_vm *vms VIC_GUARDED;
    struct seen_task *tasks VIC_GUARDED;
    bool synced VIC_GUARDED;
    uint64_t round VIC_GUARDED;
};

struct observed *observed_new(const struct observed_callbacks *cb, void *arg)
{
    struct observed *o = xcalloc(1, sizeof *o);
    o->cb = cb;
    o->arg = arg;
    mutex_init(&o->lock);
    return o;
}

static void copy_vm(const struct vsp_vm *from, struct arena *a, struct vsp_vm *to)
{
    *to = *from;
    to->ref = arena_strdup(a, from->ref);
    to->name = arena_strdup(a, from->name);
    to->instance_uuid = arena_strdup(a, from->instance_uuid);
    to->host = arena_strdup(a, from->host);
    to->mac = arena_strdup(a, from->mac);
    struct vsp_disk *disks = ARENA_ARRAY(a, struct vsp_disk, from->disk_count);
    for (size_t i = 0; i < from->disk_count; i++) {
        disks[i] = from->disks[i];
        disks[i].path = arena_strdup(a, from->disks[i].path);
        disks[i].uuid = arena_strdup(a, from->disks[i].uuid);
        disks[i].parent = arena_strdup(a, from->disks[i].parent);
    }
    to->disks = disks;
    struct vsp_kv *extra = ARENA_ARRAY(a, struct vsp_kv, from->extra_count);
    for (size_t i = 0; i < from->extra_count; i++)
        extra[i] = (struct vsp_kv){arena_strdup(a, from->extra[i].key),
                                   arena_strdup(a, from->extra[i].value)};
    to->extra = extra;
}

static uint64_t mix(uint64_t h, const char *s)
{
    for (; s && *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h * 31 + 7;
}

static uint64_t hash_vm(const struct vsp_vm *vm)
{
    uint64_t h = 1469598103934665603u;
    h = mix(h, vm->name);
    h = h * 31 + (uint64_t)vm->power * 2 + vm->connected;
    h = mix(h, vm->host);
    for (size_t i = 0; i < vm->disk_count; i++)
        h = mix(h * 31 + vm->disks[i].target, vm->disks[i].path);
    for (size_t i = 0; i < vm->extra_count; i++)
        h = mix(mix(h, vm->extra[i].key), vm->extra[i].value);
    return h;
}

static void on_vm(void *arg, const struct vsp_vm *vm)
{
    struct observed *o = arg;
    const char *id = vsp_vm_extra(vm, "vic.vm");
    char changed[65] = "";
    mutex_lock(&o->lock);
    struct seen_vm *s;
    HASH_FIND_STR(o->vms, vm->ref, s);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        snprintf(s->ref, sizeof s->ref, "%s", vm->ref);
        HASH_ADD_STR(o->vms, ref, s);
    }
    uint64_t hash = hash_vm(vm);
    s->round = o->round;
    if (s->hash != hash) {
        arena_fini(&s->arena);
        copy_vm(vm, &s->arena, &s->vm);
        s->hash = hash;
        snprintf(s->id, sizeof s->id, "%s", id ? id : "");
        memcpy(changed, s->id, sizeof changed);
    }
    mutex_unlock(&o->lock);
    if (changed[0])
        o->cb->vm_changed(o->arg, changed);
}

static void drop_vm(struct observed *o, struct seen_vm *s) VIC_REQUIRES(o->lock)
{
    HASH_DEL(o->vms, s);
    arena_fini(&s->arena);
    free(s);
}

static void on_vm_gone(void *arg, const char *ref)
{
    struct observed *o = arg;
    char gone[65] = "";
    mutex_lock(&o->lock);
    struct seen_vm *s;
    HASH_FIND_STR(o->vms, ref, s);
    if (s) {
        memcpy(gone, s->id, sizeof gone);
        drop_vm(o, s);
    }
    mutex_unlock(&o->lock);
    if (gone[0])
        o->cb->vm_changed(o->arg, gone);
}

static void on_task(void *arg, const struct vsp_task *task)
{
    struct observed *o = arg;
    unsigned kind = 0;
    char key[80] = "";
    mutex_lock(&o->lock);
    struct seen_task *t;
    HASH_FIND_STR(o->tasks, task->ref, t);
    if (t && (!t->reported || t->state != task->state)) {
        t->reported = true;
        t->state = task->state;
        snprintf(t->result, sizeof t->result, "%s", task->result ? task->result : "");
        t->err = task->err;
        kind = t->kind;
        memcpy(key, t->key, sizeof key);
    }
    mutex_unlock(&o->lock);
    if (key[0])
        o->cb->task_changed(o->arg, kind, key);
}

static void on_state(void *arg, bool connected, const struct vic_err *err)
{
    struct observed *o = arg;
    mutex_lock(&o->lock);
    o->synced = false;
    o->round++;
    mutex_unlock(&o->lock);
    o->cb->state_changed(o->arg, connected, err);
}

static void on_sync(void *arg)
{
    struct observed *o = arg;
    mutex_lock(&o->lock);
    struct seen_vm *s, *next;
    HASH_ITER(hh, o->vms, s, next)
    {
        if (s->round != o->round)
            drop_vm(o, s);
    }
    o->synced = true;
    mutex_unlock(&o->lock);
    o->cb->synced(o->arg);
}

static const struct vsp_watch_callbacks watch_callbacks = {
    .on_vm = on_vm,
    .on_vm_gone = on_vm_gone,
    .on_task = on_task,
    .on_state = on_state,
    .on_sync = on_sync,
};

bool observed_start(struct observed *o, struct vsp *v, const struct vsp_place *p,
                    struct vic_err *err)
{
    o->watch = vsp_watch_new(v, p, &watch_callbacks, o, err);
    return o->watch != NULL;
}

void observed_stop(struct observed *o)
{
    vsp_watch_free(o->watch);
    o->watch = NULL;
}

void observed_free(struct observed *o)
{
    if (!o)
        return;
    observed_stop(o);
    mutex_lock(&o->lock);
    struct seen_vm *s, *next;
    HASH_ITER(hh, o->vms, s, next)
    {
        drop_vm(o, s);
    }
    struct seen_task *t, *after;
    HASH_ITER(hh, o->tasks, t, after)
    {
        HASH_DEL(o->tasks, t);
        free(t);
    }
    mutex_unlock(&o->lock);
    mutex_fini(&o->lock);
    free(o);
}

bool observed_synced(struct observed *o)
{
    mutex_lock(&o->lock);
    bool synced = o->synced;
    mutex_unlock(&o->lock);
    return synced;
}

bool observed_vm(struct observed *o, const char *vm_id, struct arena *a, struct vsp_vm *out)
{
    bool found = false;
    mutex_lock(&o->lock);
    struct seen_vm *s, *next;
    HASH_ITER(hh, o->vms, s, next)
    {
        if (strcmp(s->id, vm_id) == 0) {
            copy_vm(&s->vm, a, out);
            found = true;
            break;
        }
    }
    mutex_unlock(&o->lock);
    return found;
}

bool observed_task(struct observed *o, const char *task, unsigned kind, const char *id,
                   struct arena *a, struct vsp_task *out)
{
    bool ask = false, reported = false;
    mutex_lock(&o->lock);
    struct seen_task *t;
    HASH_FIND_STR(o->tasks, task, t);
    if (!t) {
        ask = true;
        t = xcalloc(1, sizeof *t);
        snprintf(t->ref, sizeof t->ref, "%s", task);
        HASH_ADD_STR(o->tasks, ref, t);
    }
    t->kind = kind;
    snprintf(t->key, sizeof t->key, "%s", id);
    if (t->reported) {
        reported = true;
        *out = (struct vsp_task){.ref = arena_strdup(a, t->ref),
                                 .state = t->state,
                                 .result = t->result[0] ? arena_strdup(a, t->result) : NULL,
                                 .err = t->err};
    }
    mutex_unlock(&o->lock);
    if (ask && o->watch)
        vsp_watch_task(o->watch, task);
    return reported;
}

void observed_task_done(struct observed *o, const char *task)
{
    mutex_lock(&o->lock);
    struct seen_task *t;
    HASH_FIND_STR(o->tasks, task, t);
    if (t) {
        HASH_DEL(o->tasks, t);
        free(t);
    }
    mutex_unlock(&o->lock);
}
