/* What virtual machines show, and the table of their methods. */
#include "base/mem.h"

#include "disks.h"
#include "inventory.h"
#include "vm.h"

#define GETTER(name)                                                                               \
    static void name(__attribute__((unused)) struct vh_read *r,                                    \
                     __attribute__((unused)) struct vh_obj *o, struct vim_any *out)

/* --- config ----------------------------------------------------------------------------------- */

/* extraConfig with what the guest set on top. */
static struct vim_VirtualMachineConfigInfo *shown(struct vh_read *r, struct vh_vm *vm)
{
    struct vim_VirtualMachineConfigInfo *i =
        arena_copy(r->a, vm->conf->info, sizeof *vm->conf->info);
    vh_options_array list = {0};
    struct vh_guest_var *v;
    if (LIST_EMPTY(&vm->guest))
        return i;
    for (size_t n = 0; n < i->extraConfig.n; n++)
        VIM_PUSH(r->a, &list, i->extraConfig.v[n]);
    LIST_FOREACH (v, &vm->guest, link)
        if (v->shown)
            vh_option_set(r->a, &list, v->key, VIM_ANY_STRING(v->shown));
    i->extraConfig.v = list.v;
    i->extraConfig.n = list.n;
    return i;
}

GETTER(vm_config)
{
    *out = VIM_ANY_OBJECT(shown(r, vh_vm_of(o)));
}

/* --- runtime, guest --------------------------------------------------------------------------- */

static struct vim_VirtualMachineRuntimeInfo *runtime(struct vh_read *r, struct vh_vm *vm)
{
    struct vim_VirtualMachineRuntimeInfo *i = VIM_NEW(r->a, VirtualMachineRuntimeInfo);
    i->host = vh_ref(r->h->host);
    i->connectionState = vim_VirtualMachineConnectionState_connected;
    i->powerState =
        vm->on ? vim_VirtualMachinePowerState_poweredOn : vim_VirtualMachinePowerState_poweredOff;
    i->faultToleranceState = vim_VirtualMachineFaultToleranceState_notConfigured;
    i->recordReplayState = vim_VirtualMachineRecordReplayState_inactive;
    i->has_bootTime = vm->on;
    i->bootTime = vm->boot_ns;
    i->has_maxMemoryUsage = true;
    i->maxMemoryUsage = vm->conf->info->hardware->memoryMB;
    i->has_cleanPowerOff = true;
    i->cleanPowerOff = !vm->on;
    return i;
}

GETTER(vm_runtime)
{
    *out = VIM_ANY_OBJECT(runtime(r, vh_vm_of(o)));
}

static const char *tools_running(const struct vh_vm *vm)
{
    return vm->tools ? "guestToolsRunning" : "guestToolsNotRunning";
}

static enum vim_VirtualMachineToolsStatus tools_status(const struct vh_vm *vm)
{
    return vm->tools ? vim_VirtualMachineToolsStatus_toolsOk
                     : vim_VirtualMachineToolsStatus_toolsNotRunning;
}

GETTER(vm_guest)
{
    struct vh_vm *vm = vh_vm_of(o);
    struct vim_GuestInfo *g = VIM_NEW(r->a, GuestInfo);
    g->toolsStatus = tools_status(vm);
    g->toolsVersionStatus = g->toolsVersionStatus2 = "guestToolsUnmanaged";
    g->toolsRunningStatus = tools_running(vm);
    g->toolsVersion = "2147483647";
    g->guestId = vm->conf->info->guestId;
    g->guestFullName = vm->conf->info->guestFullName;
    g->guestState = vm->on && vm->tools ? "running" : "notRunning";
    g->has_guestOperationsReady = true;
    g->guestOperationsReady = false;
    *out = VIM_ANY_OBJECT(g);
}

GETTER(vm_heartbeat)
{
    *out = VIM_ANY_ENUM(ManagedEntityStatus, vh_vm_of(o)->tools ? vim_ManagedEntityStatus_green
                                                                : vim_ManagedEntityStatus_gray);
}

/* --- files ------------------------------------------------------------------------------------ */

/* Adds one file; its key. */
static int32_t add_file(struct vh_read *r, struct vim_VirtualMachineFileLayoutEx *l,
                        const struct vh_path *p, const char *type)
{
    struct vim_VirtualMachineFileLayoutExFileInfo *f =
        VIM_NEW(r->a, VirtualMachineFileLayoutExFileInfo);
    struct stat st;
    f->key = (int32_t)l->file.n;
    f->name = vh_path_text(r->a, p);
    f->type = type;
    f->has_accessible = true;
    f->accessible = vh_file_stat(p, &st);
    f->size = f->accessible ? (int64_t)st.st_blocks * 512 : 0;
    f->has_uniqueSize = true;
    f->uniqueSize = f->size;
    VIM_PUSH(r->a, &l->file, f);
    return f->key;
}

/* Base first, as vSphere lists a chain. */
static void add_chain(struct vh_read *r, struct vim_VirtualMachineFileLayoutEx *l,
                      struct vim_VirtualMachineFileLayoutExDiskLayout *d, const struct vh_path *p)
{
    struct vim_VirtualMachineFileLayoutExDiskUnit *unit =
        VIM_NEW(r->a, VirtualMachineFileLayoutExDiskUnit);
    struct vh_path up;
    if (vh_disk_parent(r->h, p, &up))
        add_chain(r, l, d, &up);
    VIM_PUSH(r->a, &unit->fileKey, add_file(r, l, p, "diskDescriptor"));
    VIM_PUSH(r->a, &d->chain, unit);
}

static struct vim_VirtualMachineFileLayoutEx *layout(struct vh_read *r, struct vh_vm *vm)
{
    struct vim_VirtualMachineFileLayoutEx *l = VIM_NEW(r->a, VirtualMachineFileLayoutEx);
    struct vh_fault f = {.a = r->a};
    struct vim_VirtualDisk *d;
    struct vh_path p;
    l->timestamp = clock_wall_ns(r->h->opt.clock);
    if (vh_path_parse(r->h, vm->conf->info->files->vmPathName, &p, &f))
        add_file(r, l, &p, "config");
    for (size_t i = 0; (d = vh_disk_at(vm->conf, i)); i++) {
        struct vim_VirtualMachineFileLayoutExDiskLayout *dl =
            VIM_NEW(r->a, VirtualMachineFileLayoutExDiskLayout);
        dl->key = d->key;
        if (vh_disk_path(r->h, d, &p))
            add_chain(r, l, dl, &p);
        VIM_PUSH(r->a, &l->disk, dl);
    }
    return l;
}

GETTER(vm_layout_ex)
{
    *out = VIM_ANY_OBJECT(layout(r, vh_vm_of(o)));
}

static int64_t committed(const struct vim_VirtualMachineFileLayoutEx *l)
{
    int64_t sum = 0;
    for (size_t i = 0; i < l->file.n; i++)
        sum += l->file.v[i]->size;
    return sum;
}

static struct vim_VirtualMachineStorageSummary *storage(struct vh_read *r, struct vh_vm *vm)
{
    struct vim_VirtualMachineStorageSummary *s = VIM_NEW(r->a, VirtualMachineStorageSummary);
    s->committed = s->unshared = committed(layout(r, vm));
    s->timestamp = clock_wall_ns(r->h->opt.clock);
    return s;
}

GETTER(vm_storage)
{
    struct vim_VirtualMachineStorageInfo *s = VIM_NEW(r->a, VirtualMachineStorageInfo);
    struct vim_VirtualMachineUsageOnDatastore *u = VIM_NEW(r->a, VirtualMachineUsageOnDatastore);
    struct vh_path dir;
    if (!vh_vm_dir(r->h, vh_vm_of(o)->conf, &dir))
        return;
    u->datastore = vh_ref(&dir.ds->obj);
    u->committed = u->unshared = committed(layout(r, vh_vm_of(o)));
    s->timestamp = clock_wall_ns(r->h->opt.clock);
    VIM_PUSH(r->a, &s->perDatastoreUsage, u);
    *out = VIM_ANY_OBJECT(s);
}

/* --- summary ---------------------------------------------------------------------------------- */

static int32_t count(const struct vh_conf *c, const struct vim_type *t)
{
    int32_t n = 0;
    for (size_t i = 0; i < c->info->hardware->device.n; i++)
        n += vim_cast(t, c->info->hardware->device.v[i]) != NULL;
    return n;
}

static struct vim_VirtualMachineConfigSummary *config_summary(struct vh_read *r, struct vh_vm *vm)
{
    const struct vim_VirtualMachineConfigInfo *i = vm->conf->info;
    struct vim_VirtualMachineConfigSummary *s = VIM_NEW(r->a, VirtualMachineConfigSummary);
    s->name = i->name;
    s->vmPathName = i->files->vmPathName;
    s->has_memorySizeMB = s->has_numCpu = s->has_numEthernetCards = s->has_numVirtualDisks = true;
    s->memorySizeMB = i->hardware->memoryMB;
    s->numCpu = i->hardware->numCPU;
    s->numEthernetCards = count(vm->conf, &vim_type_VirtualEthernetCard);
    s->numVirtualDisks = count(vm->conf, &vim_type_VirtualDisk);
    s->uuid = i->uuid;
    s->instanceUuid = i->instanceUuid;
    s->guestId = i->guestId;
    s->guestFullName = i->guestFullName;
    s->annotation = i->annotation ? i->annotation : "";
    s->managedBy = i->managedBy;
    return s;
}

/* Resident memory of the process, in MB. */
static int32_t host_memory(pid_t pid)
{
    char path[64], text[128] = "";
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = pid ? fopen(path, "re") : NULL;
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    struct sv rest = sv_make(text, n);
    uint64_t pages = 0;
    sv_cut(&rest, ' ');
    return sv_to_u64(sv_cut(&rest, ' '), &pages)
               ? (int32_t)(pages * (uint64_t)sysconf(_SC_PAGESIZE) >> 20)
               : 0;
}

static struct vim_VirtualMachineQuickStats *quick_stats(struct vh_read *r, struct vh_vm *vm)
{
    struct vim_VirtualMachineQuickStats *q = VIM_NEW(r->a, VirtualMachineQuickStats);
    q->guestHeartbeatStatus =
        vm->tools ? vim_ManagedEntityStatus_green : vim_ManagedEntityStatus_gray;
    q->has_hostMemoryUsage = true;
    q->hostMemoryUsage = vm->on ? host_memory(vmm_pid(r->h->vmm, vm->obj.id)) : 0;
    q->has_uptimeSeconds = true;
    if (vm->on)
        q->uptimeSeconds = (int32_t)((clock_wall_ns(r->h->opt.clock) - vm->boot_ns) / 1000000000);
    return q;
}

GETTER(vm_summary)
{
    struct vh_vm *vm = vh_vm_of(o);
    struct vim_VirtualMachineSummary *s = VIM_NEW(r->a, VirtualMachineSummary);
    s->vm = vh_ref(o);
    s->runtime = runtime(r, vm);
    s->guest = VIM_NEW(r->a, VirtualMachineGuestSummary);
    s->guest->guestId = vm->conf->info->guestId;
    s->guest->guestFullName = vm->conf->info->guestFullName;
    s->guest->toolsStatus = tools_status(vm);
    s->guest->toolsVersionStatus = s->guest->toolsVersionStatus2 = "guestToolsUnmanaged";
    s->guest->toolsRunningStatus = tools_running(vm);
    s->config = config_summary(r, vm);
    s->storage = storage(r, vm);
    s->quickStats = quick_stats(r, vm);
    s->overallStatus = vim_ManagedEntityStatus_green;
    *out = VIM_ANY_OBJECT(s);
}

/* --- relations -------------------------------------------------------------------------------- */

static const struct vh_vm *vm_const(const struct vh_obj *o)
{
    return (const void *)((const char *)o - offsetof(struct vh_vm, obj));
}

struct vh_obj *vh_vm_pool(const struct vh_obj *o)
{
    return vm_const(o)->pool;
}

static bool backs(const struct vim_VirtualDevice *d, const struct vh_obj *thing)
{
    const struct vim_VirtualDeviceFileBackingInfo *file =
        VIM_CAST(VirtualDeviceFileBackingInfo, d->backing);
    const struct vim_VirtualEthernetCardNetworkBackingInfo *net =
        VIM_CAST(VirtualEthernetCardNetworkBackingInfo, d->backing);
    return (file && file->datastore.value && !strcmp(file->datastore.value, thing->id)) ||
           (net && net->network.value && !strcmp(net->network.value, thing->id));
}

bool vh_vm_uses(const struct vh_obj *o, const struct vh_obj *thing)
{
    const struct vh_vm *vm = vm_const(o);
    const struct vim_VirtualHardware *hw = vm->conf->info->hardware;
    const char *vmx = vm->conf->info->files->vmPathName;
    for (size_t i = 0; i < hw->device.n; i++)
        if (backs(hw->device.v[i], thing))
            return true;
    size_t n = strlen(thing->name);
    return thing->type == &vim_managed_Datastore && vmx && vmx[0] == '[' &&
           !strncmp(vmx + 1, thing->name, n) && vmx[1 + n] == ']';
}

static void used(struct vh_read *r, struct vh_obj *o, const struct vim_managed *type,
                 struct vim_any *out)
{
    vh_refs refs = {0};
    for (struct vh_obj *x = r->h->objects; x; x = x->hh.next)
        if (x->type == type && vh_vm_uses(o, x))
            vh_push_ref(r->a, &refs, x);
    *out = vh_any_refs(&refs);
}

GETTER(vm_datastores)
{
    used(r, o, &vim_managed_Datastore, out);
}

GETTER(vm_networks)
{
    used(r, o, &vim_managed_Network, out);
}

GETTER(vm_pool)
{
    *out = VIM_ANY_REF(vh_ref(vh_vm_of(o)->pool));
}

GETTER(vm_resource_config)
{
    const struct vim_VirtualMachineConfigInfo *i = vh_vm_of(o)->conf->info;
    struct vim_ResourceConfigSpec *s = VIM_NEW(r->a, ResourceConfigSpec);
    s->entity = vh_ref(o);
    s->cpuAllocation = i->cpuAllocation ? i->cpuAllocation : VIM_NEW(r->a, ResourceAllocationInfo);
    s->memoryAllocation =
        i->memoryAllocation ? i->memoryAllocation : VIM_NEW(r->a, ResourceAllocationInfo);
    *out = VIM_ANY_OBJECT(s);
}

GETTER(vm_capability)
{
    struct vim_VirtualMachineCapability *c = VIM_NEW(r->a, VirtualMachineCapability);
    c->multipleCoresPerSocketSupported = true;
    c->bootOptionsSupported = true;
    *out = VIM_ANY_OBJECT(c);
}

bool vh_vm_has_uuid(const struct vh_obj *o, const char *uuid, bool instance)
{
    const struct vim_VirtualMachineConfigInfo *i = vm_const(o)->conf->info;
    const char *own = instance ? i->instanceUuid : i->uuid;
    return own && !strcasecmp(own, uuid);
}

bool vh_vm_has_file(struct vh *h, const struct vh_obj *o, const struct vh_path *p)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_fault f = {.a = &a};
    struct vh_path vmx;
    const char *text = vm_const(o)->conf->info->files->vmPathName;
    return text && vh_path_parse(h, text, &vmx, &f) && vh_path_eq(&vmx, p);
}

const struct vh_prop vh_props_vm[] = {
    {&vim_managed_VirtualMachine, "config", vm_config},
    {&vim_managed_VirtualMachine, "runtime", vm_runtime},
    {&vim_managed_VirtualMachine, "summary", vm_summary},
    {&vim_managed_VirtualMachine, "guest", vm_guest},
    {&vim_managed_VirtualMachine, "guestHeartbeatStatus", vm_heartbeat},
    {&vim_managed_VirtualMachine, "layoutEx", vm_layout_ex},
    {&vim_managed_VirtualMachine, "storage", vm_storage},
    {&vim_managed_VirtualMachine, "datastore", vm_datastores},
    {&vim_managed_VirtualMachine, "network", vm_networks},
    {&vim_managed_VirtualMachine, "resourcePool", vm_pool},
    {&vim_managed_VirtualMachine, "resourceConfig", vm_resource_config},
    {&vim_managed_VirtualMachine, "capability", vm_capability},
    {0},
};

static bool refresh_storage(struct vh_call *c)
{
    vh_touch(c->h, c->o); /* sizes are read anew each time */
    return true;
}

const struct vh_method vh_methods_vm[] = {
    {&vim_method_CreateVM_Task, vh_vm_create, 0},
    {&vim_method_PowerOnVM_Task, vh_vm_power_on, 0},
    {&vim_method_PowerOffVM_Task, vh_vm_power_off, 0},
    {&vim_method_ResetVM_Task, vh_vm_reset, 0},
    {&vim_method_ShutdownGuest, vh_vm_shutdown_guest, VH_UNLOCKED},
    {&vim_method_ReconfigVM_Task, vh_vm_reconfig, 0},
    {&vim_method_Rename_Task, vh_entity_rename, 0},
    {&vim_method_Destroy_Task, vh_entity_destroy, 0},
    {&vim_method_UnregisterVM, vh_vm_unregister, 0},
    {&vim_method_RefreshStorageInfo, refresh_storage, 0},
    {0},
};
