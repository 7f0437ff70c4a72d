/* Disks: attaching, detaching, deleting.
 *
 * A disk's record names the one VM that holds it.  Every attach begins with that commit, and every
 * detach ends with the one that clears it; so a disk is on at most one VM, whatever crashes.  While
 * 'attempt' is set the attach or detach is under way; holder set and no attempt means attached.
 *
 * A disk without a holder that is DELETING is deleted from the datastore once no other disk has it
 * as parent; then its record goes. */
#include <stdio.h>

#include "base/mem.h"
#include "ctl.h"

const char *disk_path(struct step *s, const struct store_vch *vch, const struct store_disk *d)
{
    return arena_printf(s->a, "%s/%s/%s.vmdk", vch->image_store,
                        d->role == store_disk_role_CONTAINER ? "disks" : "layers", d->meta.id);
}

bool disk_attached(const struct store_disk *d, const char *vm)
{
    return strcmp(d->holder, vm) == 0 && !d->attempt.what[0];
}

/* The first 128 bits of the id, as a UUID. */
void disk_uuid(const char *id, char out[37])
{
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20);
}

struct disk_call {
    struct store_disk *d;
    const char *vm, *path, *parent;
};

static bool call_attach(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    struct disk_call *c = arg;
    (void)n;
    struct vsp_disk_add add = {
        .target = c->d->target,
        .path = c->path,
        .parent = c->parent,
        .create = c->d->phase == store_disk_phase_PLANNED,
        .capacity_bytes = c->d->capacity_bytes,
        .uuid = c->d->uuid,
    };
    struct vsp_reconfig r = {.add = &add, .add_count = 1};
    return vsp_vm_reconfig(s->c->o.vsp, &s->c->place, c->vm, &r, task, s->err);
}

static bool call_detach(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    struct disk_call *c = arg;
    (void)n;
    unsigned target = c->d->target;
    struct vsp_reconfig r = {.remove_targets = &target, .remove_count = 1};
    return vsp_vm_reconfig(s->c->o.vsp, &s->c->place, c->vm, &r, task, s->err);
}

/* Is the disk on the VM, by a fresh read?  -1: it could not be read. */
static int on_vm(struct step *s, const struct store_disk *d, const struct store_vm *vm)
{
    struct vsp_vm seen;
    if (!vsp_vm_read(s->c->o.vsp, vm->ref, s->a, &seen, s->err))
        return s->err->code == VIC_NOT_FOUND ? 0 : -1;
    for (size_t i = 0; i < seen.disk_count; i++)
        if (strcmp(seen.disks[i].path, d->path) == 0)
            return 1;
    return 0;
}

static enum ctl_verdict attached(struct step *s, struct store_disk *d)
{
    struct tx t = {0};
    attempt_end(s, &d->attempt);
    d->phase = store_disk_phase_READY;
    tx_put(&t, STORE_DISK, d);
    enum ctl_verdict verdict;
    if (!tx_commit_go(s, &t, &verdict))
        return verdict;
    return step_get(s, STORE_DISK, d->meta.id, d) ? CTL_DONE : CTL_FAIL;
}

static enum ctl_verdict clear_attempt(struct step *s, struct store_disk *d)
{
    struct tx t = {0};
    attempt_end(s, &d->attempt);
    tx_put(&t, STORE_DISK, d);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static void let_go(void *disk)
{
    ((struct store_disk *)disk)->holder = "";
}

/* The attach did not come true: holder and no attempt would say that it did. */
static enum ctl_verdict not_attached(struct step *s, struct store_disk *d)
{
    if (attempt_is(&d->attempt, "attach"))
        let_go(d);
    return clear_attempt(s, d);
}

static enum ctl_verdict begin_attach(struct step *s, struct store_disk *d, struct store_vm *vm,
                                     unsigned target)
{
    struct store_vch vch;
    if (!step_get(s, STORE_VCH, "vch", &vch))
        return CTL_FAIL;
    struct disk_call call = {.d = d, .vm = vm->ref};
    if (d->parent[0]) {
        struct store_disk parent;
        if (!step_get(s, STORE_DISK, d->parent, &parent))
            return CTL_FAIL;
        call.parent = parent.path;
    }
    if (!d->path[0])
        d->path = disk_path(s, &vch, d);
    if (!d->uuid[0]) {
        char *uuid = arena_alloc(s->a, 37);
        disk_uuid(d->meta.id, uuid);
        d->uuid = uuid;
    }
    call.path = d->path;
    d->holder = vm->meta.id;
    d->target = target;
    strs_add(s, &vm->disks, d->meta.id);
    struct tx t = {0};
    tx_put(&t, STORE_VM, vm);
    return attempt_begin_undo(s, &t, STORE_DISK, d, &d->attempt, "attach", call_attach, &call,
                              let_go);
}

enum ctl_verdict disk_attach(struct step *s, struct store_disk *d, struct store_vm *vm,
                             unsigned target)
{
    struct vsp_task task;
    enum ctl_verdict verdict;
    if (disk_attached(d, vm->meta.id) && d->phase == store_disk_phase_READY)
        return CTL_DONE;
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    if (d->holder[0] && strcmp(d->holder, vm->meta.id) != 0)
        return CTL_WAIT; /* its holder is on the way out; the disk's change wakes us */
    switch (attempt_look(s, STORE_DISK, d->meta.id, &d->attempt, &task)) {
    case ATTEMPT_NONE:
        return begin_attach(s, d, vm, target);
    case ATTEMPT_RUNNING:
        return CTL_WAIT;
    case ATTEMPT_DONE:
        return attempt_is(&d->attempt, "attach") ? attached(s, d) : clear_attempt(s, d);
    case ATTEMPT_FAILED:
        *s->err = task.err;
        /* The file is there from an attempt whose end was lost: take it as it is. */
        if (task.err.code == VIC_CONFLICT && d->phase == store_disk_phase_PLANNED) {
            d->phase = store_disk_phase_READY;
            return not_attached(s, d);
        }
        s->refused = true;
        return not_attached(s, d) == CTL_AGAIN ? CTL_FAIL : CTL_AGAIN;
    case ATTEMPT_UNKNOWN:
        verdict = vm_quiet(s, vm);
        if (verdict != CTL_DONE)
            return verdict;
        switch (on_vm(s, d, vm)) {
        case 1:
            return attached(s, d);
        case 0:
            return not_attached(s, d);
        default:
            return CTL_FAIL;
        }
    }
    return CTL_FAIL;
}

static enum ctl_verdict detached(struct step *s, struct store_disk *d, struct store_vm *vm)
{
    struct tx t = {0};
    attempt_end(s, &d->attempt);
    d->holder = "";
    strs_drop(&vm->disks, d->meta.id);
    tx_put(&t, STORE_DISK, d);
    tx_put(&t, STORE_VM, vm);
    enum ctl_verdict verdict;
    if (!tx_commit_go(s, &t, &verdict))
        return verdict;
    if (!step_get(s, STORE_VM, vm->meta.id, vm))
        return CTL_FAIL;
    return step_get(s, STORE_DISK, d->meta.id, d) ? CTL_DONE : CTL_FAIL;
}

enum ctl_verdict disk_detach(struct step *s, struct store_disk *d, struct store_vm *vm)
{
    struct vsp_task task;
    enum ctl_verdict verdict;
    if (strcmp(d->holder, vm->meta.id) != 0)
        return CTL_DONE;
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    struct disk_call call = {.d = d, .vm = vm->ref};
    struct tx t = {0};
    switch (attempt_look(s, STORE_DISK, d->meta.id, &d->attempt, &task)) {
    case ATTEMPT_NONE:
        return attempt_begin(s, &t, STORE_DISK, d, &d->attempt, "detach", call_detach, &call);
    case ATTEMPT_RUNNING:
        return CTL_WAIT;
    case ATTEMPT_DONE:
        if (attempt_is(&d->attempt, "detach"))
            return detached(s, d, vm);
        return clear_attempt(s, d);
    case ATTEMPT_FAILED:
        *s->err = task.err;
        return clear_attempt(s, d) == CTL_AGAIN ? CTL_FAIL : CTL_AGAIN;
    case ATTEMPT_UNKNOWN:
        verdict = vm_quiet(s, vm);
        if (verdict != CTL_DONE)
            return verdict;
        switch (on_vm(s, d, vm)) {
        case 1:
            return clear_attempt(s, d);
        case 0:
            return detached(s, d, vm);
        default:
            return CTL_FAIL;
        }
    }
    return CTL_FAIL;
}

static bool call_delete(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    struct store_disk *d = arg;
    (void)n;
    return vsp_disk_delete(s->c->o.vsp, &s->c->place, d->path, task, s->err);
}

static enum ctl_verdict forget_disk(struct step *s, struct store_disk *d)
{
    struct tx t = {0};
    attempt_end(s, &d->attempt);
    tx_del(&t, STORE_DISK, d);
    enum ctl_verdict verdict = tx_commit(s, &t, CTL_DONE);
    if (verdict == CTL_DONE && d->parent[0])
        ctl_wake(s->c, STORE_DISK, d->parent);
    return verdict;
}

static enum ctl_verdict delete_file(struct step *s, struct store_disk *d)
{
    struct vsp_task task;
    struct tx t = {0};
    switch (attempt_look(s, STORE_DISK, d->meta.id, &d->attempt, &task)) {
    case ATTEMPT_NONE: {
        enum ctl_verdict verdict =
            attempt_begin(s, &t, STORE_DISK, d, &d->attempt, "delete", call_delete, d);
        if (verdict != CTL_FAIL || s->err->code != VIC_NOT_FOUND)
            return verdict;
        return step_get(s, STORE_DISK, d->meta.id, d) ? forget_disk(s, d) : CTL_FAIL;
    }
    case ATTEMPT_RUNNING:
        return CTL_WAIT;
    case ATTEMPT_DONE:
        return forget_disk(s, d);
    case ATTEMPT_FAILED:
        if (task.err.code == VIC_NOT_FOUND)
            return forget_disk(s, d);
        *s->err = task.err;
        return clear_attempt(s, d) == CTL_AGAIN ? CTL_FAIL : CTL_AGAIN;
    case ATTEMPT_UNKNOWN:
        return clear_attempt(s, d); /* deleting twice is harmless: NOT_FOUND ends it */
    }
    return CTL_FAIL;
}

enum ctl_verdict disk_step(struct step *s, const char *id)
{
    struct store_disk d;
    if (!step_get(s, STORE_DISK, id, &d))
        return s->err->code == VIC_NOT_FOUND ? CTL_DONE : CTL_FAIL;
    if (d.phase != store_disk_phase_DELETING)
        return CTL_DONE; /* its owner or its holder acts on it */
    if (d.holder[0]) {
        ctl_wake(s->c, STORE_VM, d.holder);
        return CTL_WAIT;
    }
    if (step_referred(s, STORE_DISK, id, STORE_DISK))
        return CTL_DONE; /* the last child wakes us */
    if (!d.path[0])
        return forget_disk(s, &d);
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    return delete_file(s, &d);
}
