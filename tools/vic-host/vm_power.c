/* Power: on, off, reset, shutdown by the guest, and the end of a QEMU process whoever caused it. */
#include "base/mem.h"

#include "disks.h"
#include "inventory.h"
#include "vm.h"

enum { MAX_DISKS = 64, MAX_NICS = 10 };

static bool wrong_state(struct vh_fault *f, bool on)
{
    struct vim_InvalidPowerState *d = VH_FAULT(f, InvalidPowerState, NULL);
    d->requestedState =
        on ? vim_VirtualMachinePowerState_poweredOff : vim_VirtualMachinePowerState_poweredOn;
    d->existingState =
        on ? vim_VirtualMachinePowerState_poweredOn : vim_VirtualMachinePowerState_poweredOff;
    return false;
}

/* What the record says after a change of power. */
static void put_power(struct vh_job *j, struct vh_vm *vm, bool on, int64_t boot_ns)
{
    mutex_lock(&j->h->lock);
    vh_vm_put_run(&j->batch, vm->obj.id, vm->pool->id, on, boot_ns);
    mutex_unlock(&j->h->lock);
}

/* --- on --------------------------------------------------------------------------------------- */

struct start {
    struct vh_vm *vm;
    struct vh_conf *conf; /* the VM's next one: connected devices */
    struct vmm_spec spec;
    struct vmm_disk disks[MAX_DISKS];
    struct vmm_nic nics[MAX_NICS];
    int64_t boot_ns;
    bool started;
};

static bool parse_mac(const char *text, unsigned char out[6])
{
    for (int i = 0; i < 6; i++) {
        uint64_t byte;
        if (strlen(text) < (size_t)i * 3 + 2 || !sv_hex_to_u64(sv_make(text + i * 3, 2), &byte))
            return false;
        out[i] = (unsigned char)byte;
    }
    return true;
}

static bool file_of(struct vh_job *j, const struct vim_VirtualDevice *d, struct vh_path *p)
{
    const struct vim_VirtualDeviceFileBackingInfo *b =
        VIM_CAST(VirtualDeviceFileBackingInfo, d->backing);
    return b && d->connectable && d->connectable->startConnected &&
           vh_path_parse(j->h, b->fileName, p, &j->fault);
}

static bool start_disk(struct vh_job *j, struct start *s, struct vim_VirtualDisk *d)
{
    struct vh_path p;
    if (!vh_disk_path(j->h, d, &p) || s->spec.disk_count >= MAX_DISKS)
        return vh_fault_argument(&j->fault, "device");
    if (!vh_file_exists(&p))
        return vh_fault_file(&j->fault, &vim_type_FileNotFound, vh_path_text(&j->a, &p));
    mutex_lock(&j->h->lock);
    bool good = vh_hold(j->h, s->vm, &p, &j->fault);
    mutex_unlock(&j->h->lock);
    if (good)
        s->disks[s->spec.disk_count++] = (struct vmm_disk){
            (unsigned)d->unitNumber, vh_path_host(&j->a, &p), vh_disk_read_only(d)};
    return good;
}

static bool start_nic(struct vh_job *j, struct start *s, const struct vim_VirtualEthernetCard *nic)
{
    const struct vim_VirtualEthernetCardNetworkBackingInfo *b =
        VIM_CAST(VirtualEthernetCardNetworkBackingInfo, nic->backing);
    if (!b || s->spec.nic_count >= MAX_NICS ||
        !parse_mac(nic->macAddress, s->nics[s->spec.nic_count].mac))
        return vh_fault_argument(&j->fault, "device");
    s->nics[s->spec.nic_count++].network = arena_strdup(&j->a, b->deviceName);
    return true;
}

static bool start_device(struct vh_job *j, struct start *s, struct vim_VirtualDevice *d)
{
    struct vh_path p;
    if (VIM_IS(VirtualDisk, d))
        return start_disk(j, s, VIM_CAST(VirtualDisk, d));
    if (d->connectable)
        d->connectable->connected = d->connectable->startConnected;
    if (VIM_IS(VirtualEthernetCard, d) && d->connectable && d->connectable->startConnected)
        return start_nic(j, s, VIM_CAST(VirtualEthernetCard, d));
    if (VIM_IS(VirtualCdrom, d) && !s->spec.iso && file_of(j, d, &p)) {
        if (!vh_file_exists(&p))
            return vh_fault_file(&j->fault, &vim_type_FileNotFound, vh_path_text(&j->a, &p));
        s->spec.iso = vh_path_host(&j->a, &p);
    }
    if (VIM_IS(VirtualSerialPort, d) && !s->spec.console && file_of(j, d, &p))
        s->spec.console = vh_path_host(&j->a, &p);
    return true;
}

static bool plan_start(struct vh_job *j, struct start *s)
{
    const struct vim_VirtualMachineConfigInfo *i = s->conf->info;
    s->spec = (struct vmm_spec){.id = arena_strdup(&j->a, s->vm->obj.id),
                                .uuid = i->uuid,
                                .cpus = (unsigned)i->hardware->numCPU,
                                .memory_mb = (uint64_t)i->hardware->memoryMB,
                                .disks = s->disks,
                                .nics = s->nics};
    for (size_t n = 0; n < i->hardware->device.n; n++)
        if (!start_device(j, s, i->hardware->device.v[n]))
            return false;
    const char *boot = vh_option(&s->conf->saved, "vic-host.boot");
    s->spec.direct_boot = s->spec.iso && !(boot && !strcmp(boot, "bios"));
    return true;
}

/* An ISO that cannot be booted directly (no isolinux.cfg) goes through the BIOS. */
static bool start(struct vh_job *j, struct start *s)
{
    struct vic_err err;
    s->started = vmm_start(j->h->vmm, &s->spec, &err);
    if (!s->started && s->spec.direct_boot &&
        (err.code == VIC_INVALID || err.code == VIC_UNSUPPORTED)) {
        log_info(j->h->opt.log, "vm.bios", KV_S("vm", s->spec.id), KV_ERR(&err));
        s->spec.direct_boot = false;
        s->started = vmm_start(j->h->vmm, &s->spec, &err);
    }
    return s->started ? true : vh_fault_err(&j->fault, NULL, &err);
}

static void undo_start(struct vh_job *j)
{
    struct start *s = j->data;
    struct vic_err err;
    if (s->started && !vmm_stop(j->h->vmm, s->spec.id, &err))
        log_error(j->h->opt.log, "vm.left", KV_S("vm", s->spec.id), KV_ERR(&err));
    mutex_lock(&j->h->lock);
    vh_release_all(j->h, s->vm);
    mutex_unlock(&j->h->lock);
    vh_conf_free(s->conf);
}

static void publish_start(struct vh_job *j)
{
    struct start *s = j->data;
    vh_vm_set_conf(j->h, s->vm, s->conf);
    s->vm->on = true;
    s->vm->boot_ns = s->boot_ns;
    /* It may have ended before it was known to run. */
    if (!vmm_running(j->h->vmm, s->vm->obj.id))
        vh_vm_exited(j->h, s->vm->obj.id, true);
}

static bool run_on(struct vh_job *j)
{
    struct start *s = j->data = ARENA_NEW(&j->a, struct start);
    s->vm = vh_vm_of(j->o);
    mutex_lock(&j->h->lock);
    bool on = s->vm->on;
    s->conf = vh_conf_clone(s->vm->conf);
    mutex_unlock(&j->h->lock);
    j->rollback = undo_start;
    j->publish = publish_start;
    if (on)
        j->rollback = NULL, vh_conf_free(s->conf);
    if (on)
        return wrong_state(&j->fault, true);
    if (!plan_start(j, s) || !start(j, s))
        return false;
    s->boot_ns = clock_wall_ns(j->h->opt.clock);
    vh_vm_put(&j->batch, s->spec.id, s->conf);
    put_power(j, s->vm, true, s->boot_ns);
    return true;
}

bool vh_vm_power_on(struct vh_call *c)
{
    return vh_task_start(c, c->o, true, run_on);
}

/* --- off -------------------------------------------------------------------------------------- */

static void publish_off(struct vh_job *j)
{
    vh_vm_ended(j->h, vh_vm_of(j->o));
}

/* The records of a VM whose run is over. */
static void put_ended(struct vh *h, struct vh_vm *vm, struct state_batch *b)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_conf *c = vh_conf_clone(vm->conf);
    c->info->extraConfig.v = c->saved.v;
    c->info->extraConfig.n = c->saved.n;
    (void)h;
    vh_vm_put(b, vm->obj.id, c);
    vh_vm_put_run(b, vm->obj.id, vm->pool->id, false, 0);
    state_del(b, arena_printf(&a, "vm/%s/guest", vm->obj.id));
    vh_conf_free(c);
}

static bool run_off(struct vh_job *j)
{
    struct vh_vm *vm = vh_vm_of(j->o);
    struct vic_err err;
    mutex_lock(&j->h->lock);
    bool on = vm->on;
    if (on)
        put_ended(j->h, vm, &j->batch);
    mutex_unlock(&j->h->lock);
    if (!on)
        return wrong_state(&j->fault, false);
    j->publish = publish_off;
    return vmm_stop(j->h->vmm, vm->obj.id, &err) ? true : vh_fault_err(&j->fault, NULL, &err);
}

bool vh_vm_power_off(struct vh_call *c)
{
    return vh_task_start(c, c->o, true, run_off);
}

static bool run_reset(struct vh_job *j)
{
    struct vh_vm *vm = vh_vm_of(j->o);
    struct vic_err err;
    mutex_lock(&j->h->lock);
    bool on = vm->on;
    mutex_unlock(&j->h->lock);
    if (!on)
        return wrong_state(&j->fault, false);
    return vmm_reset(j->h->vmm, vm->obj.id, &err) ? true : vh_fault_err(&j->fault, NULL, &err);
}

bool vh_vm_reset(struct vh_call *c)
{
    return vh_task_start(c, c->o, true, run_reset);
}

/* Unlocked: QEMU is asked in the call, which has no task. */
bool vh_vm_shutdown_guest(struct vh_call *c)
{
    const struct vim_ShutdownGuest_request *q = c->req;
    struct vic_err err;
    mutex_lock(&c->h->lock);
    struct vh_vm *vm = vh_vm_find(c->h, q->self.value);
    bool busy = vm && vh_task_busy(c->h, &vm->obj, &c->fault);
    bool on = vm && vm->on, tools = vm && vm->tools;
    mutex_unlock(&c->h->lock);
    if (!vm)
        return vh_fault_not_found(&c->fault, q->self);
    if (busy)
        return false;
    if (!on)
        return wrong_state(&c->fault, false);
    if (!tools) {
        VH_FAULT(&c->fault, ToolsUnavailable, NULL);
        return false;
    }
    return vmm_powerdown(c->h->vmm, q->self.value, &err) ? true
                                                         : vh_fault_err(&c->fault, NULL, &err);
}

/* --- the end of a process --------------------------------------------------------------------- */

struct ended {
    struct vh *h;
    char id[64];
    bool by_guest;
};

static void note_end(void *arg)
{
    struct ended *e = arg;
    struct vh *h = e->h;
    AUTO_BATCH struct state_batch batch = {0};
    struct vic_err err;
    mutex_lock(&h->lock);
    struct vh_vm *vm = vh_vm_find(h, e->id);
    bool news = vm && vm->on && !vmm_running(h->vmm, e->id);
    if (news) {
        put_ended(h, vm, &batch);
        vh_vm_ended(h, vm);
    }
    mutex_unlock(&h->lock);
    if (news)
        log_info(h->opt.log, "vm.ended", KV_S("vm", e->id),
                 KV_S("by", e->by_guest ? "guest" : "us"));
    if (!state_commit(h->state, &batch, true, &err))
        log_error(h->opt.log, "state.failed", KV_ERR(&err));
    free(e);
}

/* On vmm's loop thread, which must not block: a pool thread does it. */
void vh_vm_exited(void *arg, const char *id, bool guest_initiated)
{
    struct ended *e = xcalloc(1, sizeof *e);
    e->h = arg;
    snprintf(e->id, sizeof e->id, "%s", id);
    e->by_guest = guest_initiated;
    if (!vh_later(e->h, note_end, e))
        free(e); /* the next start will see that the process is gone */
}
