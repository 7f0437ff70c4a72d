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

enum { VM_CREATE_TRIES = 3, QUIET_MS = 100 };

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
        .memory_mb = c->vm->class_mb + VM_OVERHEAD_MB,
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
    if (!vsp_tasks_running(s->c->o.vsp, NULL, &running, s->err))
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

enum ctl_verdict vm_quiet(struct step *s, const struct store_vm *vm)
{
    size_t running;
    if (!vsp_tasks_running(s->c->o.vsp, vm->ref, &running, s->err))
        return CTL_FAIL;
    s->after_ms = QUIET_MS;
    return running ? CTL_AGAIN : CTL_DONE;
}

/* The reply of a power-on is lost: the VM tells. */
static enum ctl_verdict look_at_vm(struct step *s, struct store_vm *vm)
{
    struct vsp_vm seen;
    enum ctl_verdict verdict = vm_quiet(s, vm);
    if (verdict != CTL_DONE)
        return verdict;
    if (!vsp_vm_read(s->c->o.vsp, vm->ref, s->a, &seen, s->err))
        return s->err->code == VIC_NOT_FOUND ? doom(s, vm, "it is gone from the inventory")
                                             : CTL_FAIL;
    return seen.power == VSP_POWERED_ON ? note_result(s, vm, vm->ref) : give_up_attempt(s, vm);
}

/* The reply of a create is lost: the inventory tells, once no task of ours runs. */
static enum ctl_verdict look_at_world(struct step *s, struct store_vm *vm)
{
    struct vsp_vm seen;
    if (vm->ref[0])
        return look_at_vm(s, vm);
    switch (find_fresh(s, vm->meta.id, &seen)) {
    case 1:
        return note_result(s, vm, seen.ref);
    case 0:
        return give_up_attempt(s, vm);
    default:
        return CTL_FAIL;
    }
}

/* Begins an attempt if there is room; what vSphere refuses for good is not tried again. */
static enum ctl_verdict begin_limited(struct step *s, const struct store_vch *vch,
                                      struct store_vm *vm, const char *what, attempt_call call,
                                      void *arg)
{
    struct limit limit = {vch, vm, vm->ref[0] != '\0'};
    struct tx t = {.allow = limit_allow, .allow_arg = &limit};
    atomic_store(&s->c->room_wanted, true);
    enum ctl_verdict verdict = attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, what, call, arg);
    if (verdict == CTL_WAIT)
        log_debug(s->c->log, "vm.waits", KV_S("vm", vm->meta.id), KV_ERR(s->err));
    if (verdict != CTL_FAIL || !s->refused || vic_code_retry(s->err->code))
        return verdict;
    const char *why = arena_strdup(s->a, s->err->msg);
    return step_get(s, STORE_VM, vm->meta.id, vm) ? doom(s, vm, why) : CTL_FAIL;
}

static enum ctl_verdict creating(struct step *s, struct store_vm *vm)
{
    struct vsp_task task;
    struct store_vch vch;
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
        struct create_call call = {vm, &vch};
        return begin_limited(s, &vch, vm, "create", call_create, &call);
    }
    return begin_limited(s, &vch, vm, "power-on", call_power_on, vm);
}

/* --- booting, waiting, serving
 * ------------------------------------------------------------------------ */
/* Only a connected host's word counts. */
static bool is_off(const struct vsp_vm *seen)
{
    return seen->connected && seen->power == VSP_POWERED_OFF;
}

int vm_off(struct step *s, const struct store_vm *vm)
{
    struct vsp_vm seen;
    if (!vm->ref[0] || !observed_synced(s->c->observed))
        return 0;
    if (observed_vm(s->c->observed, vm->meta.id, s->a, &seen) && !is_off(&seen))
        return 0;
    if (!vsp_vm_read(s->c->o.vsp, vm->ref, s->a, &seen, s->err))
        return s->err->code == VIC_NOT_FOUND ? 1 : -1;
    return is_off(&seen);
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
    int off = vm_off(s, vm);
    if (off)
        return off < 0 ? CTL_FAIL : doom(s, vm, "it was powered off while it booted");
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
    if (vm->phase == store_vm_phase_IDLE || vm->role == store_vm_role_WORKER) {
        int off = vm_off(s, vm);
        if (off)
            return off < 0 ? CTL_FAIL : doom(s, vm, "it was powered off while waiting or working");
    }
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

/* Does a run still look at this VM for its end?  It reads the console file, which goes with the
 * VM. */
static bool run_is_open(struct step *s, const struct store_vm *vm)
{
    struct store_container c;
    if (!vm->container[0] || !step_get(s, STORE_CONTAINER, vm->container, &c) ||
        strcmp(c.status.vm, vm->meta.id) != 0)
        return false;
    return c.status.config_acked && (c.status.phase == store_run_phase_RUNNING ||
                                     c.status.phase == store_run_phase_STARTING);
}

static enum ctl_verdict forget(struct step *s, struct store_vm *vm)
{
    struct store_vch vch;
    char task[VSP_REF_SIZE];
    enum ctl_verdict verdict = release_disks(s, vm);
    if (verdict != CTL_DONE)
        return verdict;
    if (run_is_open(s, vm))
        return CTL_WAIT; /* the container's end of the run wakes us */
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

/* Its run's end was committed together with its doom: the guest may go. */
static void ack_exit(struct step *s, const struct store_vm *vm)
{
    struct hub_guest g;
    struct vic_err ignored;
    if (hub_guest(s->c->hub, vm->meta.id, &g) && g.connected && g.exit.set &&
        g.exit.seq == vm->seq && !hub_exit_ack(s->c->hub, vm->meta.id, g.exit.seq, &ignored))
        log_debug(s->c->log, "exit.ack.unsent", KV_S("vm", vm->meta.id));
}

/* The VM is off, or must be made so. */
static enum ctl_verdict power_down(struct step *s, struct store_vm *vm, const struct vsp_vm *seen)
{
    struct tx t = {0};
    int64_t since_ms = (s->now_ns - vm->doomed) / 1000000;
    if (strcmp(vm->why, VM_WHY_EXITED) == 0 && since_ms < CTL_OFF_MS) {
        ack_exit(s, vm);
        s->after_ms = CTL_OFF_MS - since_ms + 1; /* it unmounts and powers itself off */
        return CTL_WAIT;
    }
    vm->ref = arena_strdup(s->a, seen->ref);
    return attempt_begin(s, &t, STORE_VM, vm, &vm->attempt, "power-off", call_power_off, vm);
}

/* May an attach to this VM still come true?  Whoever works with it attaches its disks, and begins
 * nothing more now that it is doomed; but a step of his may be amid a call, and a call's reply may
 * have been lost. */
static enum ctl_verdict settle_attaches(struct step *s, const struct store_vm *vm)
{
    void **disks;
    size_t count, open = 0;
    if (!step_list(s, STORE_DISK, held_by, (void *)(uintptr_t)vm->meta.id, &disks, &count))
        return CTL_FAIL;
    for (size_t i = 0; i < count; i++)
        open += ((struct store_disk *)disks[i])->attempt.what[0] != '\0';
    if (!open)
        return CTL_DONE;
    s->after_ms = QUIET_MS;
    if (queue_is_running(s->c->queue, STORE_CONTAINER, vm->container) ||
        queue_is_running(s->c->queue, STORE_IMAGE, vm->image) ||
        (vm->role == store_vm_role_WORKER && queue_is_running(s->c->queue, STORE_VCH, "vch")))
        return CTL_AGAIN;
    return vm->ref[0] ? vm_quiet(s, vm) : CTL_DONE;
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
    case ATTEMPT_UNKNOWN: /* what it did is read below */
        return !vm->ref[0] && find_fresh(s, vm->meta.id, &seen) < 0 ? CTL_FAIL
                                                                    : give_up_attempt(s, vm);
    }
    if (!vm->ref[0] && !vm->attempt.n)
        return forget(s, vm); /* nothing was ever begun */
    enum ctl_verdict verdict = settle_attaches(s, vm);
    if (verdict != CTL_DONE)
        return verdict;
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
    verdict = release_disks(s, vm); /* the next start need not wait for Destroy */
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
