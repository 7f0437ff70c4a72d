/* VMs: making, booting, watching, destroying.
 *
 *   CREATING  CreateVM_Task, then PowerOnVM_Task (both attempts)
 *   BOOTING   powered on; waits for HELLO, at most CTL_BOOT_MS
 *   IDLE      waiting: no run, no job.  TAKEN: serves what it was reserved or taken for
 *   DYING     off, its disks taken off by one ReconfigVM without fileOperation, destroyed,
 * forgotten
 *
 * A VM serves one run or one worker's job and never returns to the waiting ones.  It goes to DYING
 * from every phase and never back.  It is destroyed only after a fresh read of its device list
 * shows no disk, for Destroy_Task deletes what is attached.
 *
 * A VM whose run has ended powers itself off (the tether unmounts first): so DYING with the reason
 * "exited" waits CTL_OFF_MS for that; every other reason powers it off at once. */
#include <stdio.h>

#include "base/mem.h"
#include "ctl.h"
#include "tether/wire.h"

enum { VM_CREATE_TRIES = 3 };

const char VM_WHY_EXITED[] = "exited";

struct store_vm *vm_reserve(struct step *s, const struct store_vch *vch, enum store_vm_role role)
{
    struct store_vm *vm = ARENA_NEW(s->a, struct store_vm);
    char id[65];
    random_id(id);
    vm->meta.id = arena_sv(s->a, sv_make(id, 32));
    vm->meta.created = s->now_ns;
    vm->phase = store_vm_phase_CREATING;
    vm->role = role;
    vm->class_mb = vch->class_mb;
    vm->cpus = vch->cpus;
    vm->taken = role == store_vm_role_NONE ? 0 : s->now_ns;
    return vm;
}

void vm_doom(struct step *s, struct store_vm *vm, const char *why)
{
    if (vm->phase == store_vm_phase_DYING)
        return;
    vm->doomed = s->now_ns;
    vm->phase = store_vm_phase_DYING;
    vm->why = why;
    /* An attempt that is under way is looked into by the dying phase: by the inventory. */
}

static enum ctl_verdict doom(struct step *s, struct store_vm *vm, const char *why)
{
    struct tx t = {0};
    vm_doom(s, vm, why);
    tx_put(&t, STORE_VM, vm);
    log_warn(s->c->log, "vm.doomed", KV_S("vm", vm->meta.id), KV_S("why", why));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* --- creating
 * -------------------------------------------------------------------------------------- */
struct create_call {
    const struct store_vm *vm;
    const struct store_vch *vch;
};

static const char *vm_name(struct step *s, const struct store_vch *vch, const struct store_vm *vm,
                           unsigned n)
{
    return arena_printf(s->a, "%s-%.12s-%u", vch->meta.name, vm->meta.id, n);
}

static const char *console_path(struct step *s, const struct store_vch *vch,
                                const struct store_vm *vm)
{
    return arena_printf(s->a, "%s/console/%s.log", vch->image_store, vm->meta.id);
}

static bool call_create(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    const struct create_call *c = arg;
    unsigned char key[32];
    char hex[65], uuid[37];
    store_channel_key(s->c->store, c->vm->meta.id, 1, key);
    hex_encode(key, sizeof key, hex);
    disk_uuid(c->vm->meta.id, uuid);
    const struct vsp_kv extra[] = {
        {"guestinfo.vic.vm", c->vm->meta.id},
        {"guestinfo.vic.vch", c->vch->vch_id},
        {"guestinfo.vic.key", hex},
        {"guestinfo.vic.endpoint", c->vch->endpoint},
        {"vic.vm", c->vm->meta.id},
        {"vic.vch", c->vch->vch_id},
        {"vic.attempt", arena_printf(s->a, "%u", n)},
    };
    struct vsp_vm_spec spec = {
        .name = vm_name(s, c->vch, c->vm, n),
        .instance_uuid = uuid,
        .annotation = "made by vSphere Integrated Containers Engine; do not change by hand",
        .cpus = c->vm->cpus,
        .memory_mb = c->vm->class_mb + 64, /* the kernel and the tether */
        .iso = c->vch->iso,
        .console = console_path(s, c->vch, c->vm),
        .extra = extra,
        .extra_count = ARRAY_LEN(extra),
    };
    bool ok = vsp_vm_create(s->c->o.vsp, &s->c->place, &spec, task, s->err);
    explicit_bzero(hex, sizeof hex);
    return ok;
}

static bool call_power_on(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    (void)n;
    return vsp_vm_power_on(s->c->o.vsp, ((struct store_vm *)arg)->ref, task, s->err);
}

static bool call_power_off(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    (void)n;
    return vsp_vm_power_off(s->c->o.vsp, ((struct store_vm *)arg)->ref, task, s->err);
}

static bool call_destroy(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    (void)n;
    return vsp_vm_destroy(s->c->o.vsp, ((struct store_vm *)arg)->ref, task, s->err);
}

/* The result of a finished attempt becomes part of the record. */
static enum ctl_verdict note_result(struct step *s, struct store_vm *vm, const char *ref)
{
    struct tx t = {0};
    if (attempt_is(&vm->attempt, "create"))
        vm->ref = arena_strdup(s->a, ref);
    if (attempt_is(&vm->attempt, "power-on")) {
        vm->powered = true;
        vm->ready = s->now_ns; /* until HELLO: when the boot began */
        if (vm->phase == store_vm_phase_CREATING)
            vm->phase = store_vm_phase_BOOTING;
    }
    attempt_end(s, &vm->attempt);
    tx_put(&t, STORE_VM, vm);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static enum ctl_verdict give_up_attempt(struct step *s, struct store_vm *vm)
{
    struct tx t = {0};
    attempt_end(s, &vm->attempt);
    tx_put(&t, STORE_VM, vm);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* Finds the VM of ours in a full, fresh read of the inventory: 1 found, 0 not there, -1 unknown. */
static int find_fresh(struct step *s, const char *vm_id, struct vsp_vm *out)
{
    size_t running, count;
    struct vsp_vm *all;
    if (!vsp_tasks_running(s->c->o.vsp, &running, s->err))
        return -1;
    if (running) { /* one of them may be the attempt: wait for it */
        vic_fail(s->err, VIC_BUSY, 0, "%zu tasks of ours still run", running);
        return -1;
    }
    if (!vsp_vm_list(s->c->o.vsp, &s->c->place, s->a, &all, &count, s->err))
        return -1;
    for (size_t i = 0; i < count; i++) {
        const char *id = vsp_vm_extra(&all[i], "vic.vm");
        if (id && strcmp(id, vm_id) == 0) {
            *out = all[i];
            return 1;
        }
    }
    return 0;
}

/* The reply of a create or power-on is lost: the inventory tells. */
static enum ctl_verdict look_at_world(struct step *s, struct store_vm *vm)
{
    struct vsp_vm seen;
    switch (find_fresh(s, vm->meta.id, &seen)) {
    case 1:
        if (attempt_is(&vm->attempt, "power-on") && seen.power != VSP_POWERED_ON)
            return give_up_attempt(s, vm);
        return note_result(s, vm, seen.ref);
    case 0:
        if (vm->ref[0])
            return doom(s, vm, "it is gone from the inventory");
        return give_up_attempt(s, vm);
    default:
        return CTL_FAIL;
    }
}

static bool counts_as_booting(void *arg, const void *record)
{
    (void)arg;
    const struct store_vm *vm = record;
    return vm->phase == store_vm_phase_BOOTING ||
           (vm->phase == store_vm_phase_CREATING && attempt_is(&vm->attempt, "power-on"));
}

static bool counts_as_live(void *arg, const void *record)
{
    (void)arg;
    return ((const struct store_vm *)record)->ref[0] != '\0';
}

/* May one more VM boot now?  At most max_boots boot at a time: more only slow each other down. */
static bool may_boot(struct step *s, const struct store_vch *vch)
{
    void **vms;
    size_t booting = 0;
    unsigned limit = vch->max_boots ? vch->max_boots : 2;
    return step_list(s, STORE_VM, counts_as_booting, NULL, &vms, &booting) && booting < limit;
}

static bool admitted(struct step *s, const struct store_vch *vch)
{
    void **vms;
    size_t live = 0;
    if (!step_list(s, STORE_VM, counts_as_live, NULL, &vms, &live))
        return false;
    uint64_t memory = 0;
    for (size_t i = 0; i < live; i++)
        memory += ((struct store_vm *)vms[i])->class_mb + 64;
    if (vch->max_vms && live >= vch->max_vms)
        return vic_fail(s->err, VIC_BUSY, 0, "the VCH's limit of %u VMs is reached", vch->max_vms);
    if (vch->max_memory_mb && memory + vch->class_mb + 64 > vch->max_memory_mb)
        return vic_fail(s->err, VIC_BUSY, 0, "the VCH's limit of %llu MB is reached",
                        (unsigned long long)vch->max_memory_mb);
    return true;
}

static enum ctl_verdict creating(struct step *s, struct store_vm *vm)
{
    struct vsp_task task;
    struct store_vch vch;
    struct tx t = {0};
    if (!step_get(s, STORE_VCH, "vch", &vch))
        return CTL_FAIL;
    switch (attempt_look(s, STORE_VM, vm->meta.id, &vm->attempt, &task)) {
    case ATTEMPT_NONE:
        break;
    case ATTEMPT_RUNNING:
        return CTL_WAIT;
    case ATTEMPT_DONE:
        return note_result(s, vm, task.result ? task.result : "");
    case ATTEMPT_FAILED:
        *s->err = task.err;
        if (!vic_code_retry(task.err.code) || vm->attempt.n >= VM_CREATE_TRIES)
            return doom(s, vm, arena_strdup(s->a, task.err.msg));
        return give_up_attempt(s, vm) == CTL_AGAIN ? CTL_FAIL : CTL_AGAIN;
    case ATTEMPT_UNKNOWN:
        return look_at_world(s, vm);
    }
    if (!vm->ref[0]) {
        if (!vch.iso[0])
            return CTL_WAIT; /* the VCH's step uploads it, and wakes us */
        if (!admitted(s, &vch))
            return CTL_FAIL;
        struct create_call call = {vm, &vch};
        return attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, "create", call_create, &call);
    }
    if (!may_boot(s, &vch)) {
        s->after_ms = 500;
        return CTL_AGAIN;
    }
    return attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, "power-on", call_power_on, vm);
}

/* --- booting, waiting, serving
 * ------------------------------------------------------------------------ */
/* Is the VM certainly off or gone?  Only a connected host's word counts. */
static bool seen_off(struct step *s, const struct store_vm *vm)
{
    struct vsp_vm seen;
    if (!observed_synced(s->c->observed))
        return false;
    if (!observed_vm(s->c->observed, vm->meta.id, s->a, &seen))
        return true;
    return seen.connected && seen.power == VSP_POWERED_OFF;
}

static enum ctl_verdict booting(struct step *s, struct store_vm *vm)
{
    struct hub_guest g;
    if (hub_guest(s->c->hub, vm->meta.id, &g) && g.connected) {
        struct tx t = {0};
        vm->phase = vm->role == store_vm_role_NONE ? store_vm_phase_IDLE : store_vm_phase_TAKEN;
        vm->boot = g.boot;
        vm->ready = s->now_ns;
        tx_put(&t, STORE_VM, vm);
        log_info(s->c->log, "vm.ready", KV_S("vm", vm->meta.id));
        return tx_commit(s, &t, CTL_DONE);
    }
    if (seen_off(s, vm))
        return doom(s, vm, "it was powered off while it booted");
    int64_t waited_ms = (s->now_ns - vm->ready) / 1000000;
    if (waited_ms > CTL_BOOT_MS)
        return doom(s, vm, "it did not connect in time; its console file tells why");
    s->after_ms = CTL_BOOT_MS - waited_ms + 1;
    if (s->after_ms > 5000)
        s->after_ms = 5000;
    return CTL_WAIT;
}

static enum ctl_verdict serving(struct step *s, struct store_vm *vm)
{
    struct hub_guest g;
    bool again = hub_guest(s->c->hub, vm->meta.id, &g) && g.connected && g.role == HUB_ROLE_NONE &&
                 vm->boot[0] && strcmp(g.boot, vm->boot) != 0;
    if (again && (vm->phase == store_vm_phase_IDLE || vm->role == store_vm_role_WORKER))
        return doom(s, vm, "it booted again while it was waiting or working");
    if (vm->role == store_vm_role_WORKER && seen_off(s, vm))
        return doom(s, vm, "it was powered off while it worked");
    if (vm->phase == store_vm_phase_IDLE && seen_off(s, vm))
        return doom(s, vm, "it was powered off while it was waiting");
    /* A run's end, also by power-off, is the container's business. */
    if (vm->container && vm->container[0])
        ctl_wake(s->c, STORE_CONTAINER, vm->container);
    if (vm->image && vm->image[0])
        ctl_wake(s->c, STORE_IMAGE, vm->image);
    return CTL_DONE;
}

/* --- dying
 * -------------------------------------------------------------------------------------------- */
static bool held_by(void *arg, const void *record)
{
    return strcmp(((const struct store_disk *)record)->holder, arg) == 0;
}

/* Clears the holder of every disk that this VM held.  More than fit in one commit take more steps.
 */
static enum ctl_verdict release_disks(struct step *s, const struct store_vm *vm)
{
    void **disks;
    size_t count;
    struct tx t = {0};
    if (!step_list(s, STORE_DISK, held_by, (void *)(uintptr_t)vm->meta.id, &disks, &count))
        return CTL_FAIL;
    for (size_t i = 0; i < count && i < ARRAY_LEN(t.writes); i++) {
        struct store_disk *d = disks[i];
        d->holder = "";
        attempt_end(s, &d->attempt);
        tx_put(&t, STORE_DISK, d);
    }
    if (!count)
        return CTL_DONE;
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static enum ctl_verdict forget(struct step *s, struct store_vm *vm)
{
    struct store_vch vch;
    char task[VSP_REF_SIZE];
    enum ctl_verdict verdict = release_disks(s, vm);
    if (verdict != CTL_DONE)
        return verdict;
    /* Best effort: a console file that stays is a few KB in our own folder. */
    if (vm->ref[0] && step_get(s, STORE_VCH, "vch", &vch) &&
        !vsp_file_delete(s->c->o.vsp, &s->c->place, console_path(s, &vch, vm), task, s->err) &&
        s->err->code != VIC_NOT_FOUND)
        log_warn(s->c->log, "vm.console.kept", KV_S("vm", vm->meta.id), KV_ERR(s->err));
    struct tx t = {0};
    attempt_end(s, &vm->attempt);
    tx_del(&t, STORE_VM, vm);
    verdict = tx_commit(s, &t, CTL_DONE);
    if (verdict == CTL_DONE)
        hub_forget(s->c->hub, vm->meta.id);
    return verdict;
}

static bool call_detach_all(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE])
{
    const struct vsp_vm *seen = arg;
    (void)n;
    unsigned *targets = ARENA_ARRAY(s->a, unsigned, seen->disk_count);
    for (size_t i = 0; i < seen->disk_count; i++)
        targets[i] = seen->disks[i].target;
    struct vsp_reconfig r = {.remove_targets = targets, .remove_count = seen->disk_count};
    return vsp_vm_reconfig(s->c->o.vsp, &s->c->place, seen->ref, &r, task, s->err);
}

/* The VM is off, or must be made so. */
static enum ctl_verdict power_down(struct step *s, struct store_vm *vm, const struct vsp_vm *seen)
{
    struct tx t = {0};
    int64_t since_ms = (s->now_ns - vm->doomed) / 1000000;
    if (strcmp(vm->why, VM_WHY_EXITED) == 0 && since_ms < CTL_OFF_MS) {
        s->after_ms = CTL_OFF_MS - since_ms + 1; /* it unmounts and powers itself off */
        return CTL_WAIT;
    }
    vm->ref = arena_strdup(s->a, seen->ref);
    return attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, "power-off", call_power_off, vm);
}

static enum ctl_verdict dying(struct step *s, struct store_vm *vm)
{
    struct vsp_task task;
    struct vsp_vm seen;
    struct tx t = {0};
    if (!observed_synced(s->c->observed))
        return CTL_WAIT;
    switch (attempt_look(s, STORE_VM, vm->meta.id, &vm->attempt, &task)) {
    case ATTEMPT_NONE:
        break;
    case ATTEMPT_RUNNING:
        return CTL_WAIT;
    case ATTEMPT_DONE:
        return note_result(s, vm, task.result ? task.result : vm->ref);
    case ATTEMPT_FAILED:
        *s->err = task.err;
        return give_up_attempt(s, vm) == CTL_AGAIN ? CTL_FAIL : CTL_AGAIN;
    case ATTEMPT_UNKNOWN:
        return find_fresh(s, vm->meta.id, &seen) < 0 ? CTL_FAIL : give_up_attempt(s, vm);
    }
    if (!vm->ref[0] && !vm->attempt.n)
        return forget(s, vm); /* nothing was ever begun */
    /* A fresh read: what it shows decides what may be destroyed. */
    if (vm->ref[0] && !vsp_vm_read(s->c->o.vsp, vm->ref, s->a, &seen, s->err)) {
        if (s->err->code != VIC_NOT_FOUND)
            return CTL_FAIL;
        return forget(s, vm);
    }
    if (!vm->ref[0]) {
        int found = find_fresh(s, vm->meta.id, &seen);
        if (found <= 0)
            return found < 0 ? CTL_FAIL : forget(s, vm);
        vm->ref = arena_strdup(s->a, seen.ref);
    }
    if (!seen.connected)
        return CTL_WAIT;
    if (seen.power != VSP_POWERED_OFF)
        return power_down(s, vm, &seen);
    if (seen.disk_count)
        return attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, "detach", call_detach_all, &seen);
    enum ctl_verdict verdict = release_disks(s, vm); /* the next start need not wait for Destroy */
    if (verdict != CTL_DONE)
        return verdict;
    return attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, "destroy", call_destroy, vm);
}

enum ctl_verdict vm_step(struct step *s, const char *id)
{
    struct store_vm vm;
    if (!step_get(s, STORE_VM, id, &vm))
        return s->err->code == VIC_NOT_FOUND ? CTL_DONE : CTL_FAIL;
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    switch (vm.phase) {
    case store_vm_phase_CREATING:
        return creating(s, &vm);
    case store_vm_phase_BOOTING:
        return booting(s, &vm);
    case store_vm_phase_IDLE:
    case store_vm_phase_TAKEN:
        return serving(s, &vm);
    case store_vm_phase_DYING:
        return dying(s, &vm);
    case store_vm_phase_COUNT:
        break;
    }
    return CTL_DONE;
}
