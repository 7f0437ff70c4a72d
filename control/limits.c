/* How many VMs may exist and boot.
 *
 * The question is asked inside the transaction that would begin a create or a power-on, for else
 * two VMs that ask at the same time would both be let in.  A VM counts from the commit of its
 * create attempt to the end of its record.
 *
 * Who was refused is woken when room may have come: 'room_wanted' is raised before the question,
 * and a VM's change that finds it raised wakes all VMs that are still being made. */
#include <inttypes.h>

#include "base/mem.h"
#include "ctl.h"

enum { DEFAULT_BOOTS = 2 };

struct tally {
    const struct limit *l;
    uint64_t vms, memory_mb, boots;
};

static bool count_vm(void *arg, const void *record)
{
    struct tally *t = arg;
    const struct store_vm *vm = record;
    if (strcmp(vm->meta.id, t->l->vm->meta.id) == 0)
        return true;
    if (vm->ref[0] || vm->attempt.what[0]) {
        t->vms++;
        t->memory_mb += vm->class_mb + VM_OVERHEAD_MB;
    }
    t->boots += vm->phase == store_vm_phase_BOOTING ||
                (vm->phase == store_vm_phase_CREATING && attempt_is(&vm->attempt, "power-on"));
    return true;
}

bool limit_allow(void *arg, struct store_txn *t, struct vic_err *err)
{
    const struct limit *l = arg;
    const struct store_vch *v = l->vch;
    struct tally n = {.l = l};
    if (!store_list(t, STORE_VM, "", NULL, count_vm, &n, err))
        return false;
    if (l->boot) {
        unsigned limit = v->max_boots ? v->max_boots : DEFAULT_BOOTS;
        return n.boots < limit || vic_fail(err, VIC_BUSY, 0, "%u VMs boot already", limit);
    }
    if (v->max_vms && n.vms >= v->max_vms)
        return vic_fail(err, VIC_BUSY, 0, "the VCH's limit of %u VMs is reached", v->max_vms);
    if (v->max_memory_mb && n.memory_mb + l->vm->class_mb + VM_OVERHEAD_MB > v->max_memory_mb)
        return vic_fail(err, VIC_BUSY, 0, "the VCH's limit of %" PRIu64 " MB is reached",
                        v->max_memory_mb);
    return true;
}

static bool wake_one(void *arg, const void *record)
{
    const struct store_vm *vm = record;
    if (vm->phase == store_vm_phase_CREATING)
        ctl_wake(arg, STORE_VM, vm->meta.id);
    return true;
}

void limit_room(struct ctl *c, struct store_txn *t)
{
    struct vic_err err;
    if (!atomic_exchange(&c->room_wanted, false))
        return;
    if (!store_list(t, STORE_VM, "", NULL, wake_one, c, &err))
        log_warn(c->log, "wake.failed", KV_ERR(&err));
}
