/* From the door's specs to vim25's: making, changing and ending VMs.
 *
 * New devices carry negative keys, unique in the request; the server gives the real ones.  What a
 * change of disks needs to know (the SCSI controller's key, the devices at the targets) is read
 * first, and the change then carries that configuration's version, so that another change in
 * between makes it fail (BUSY) rather than hit the wrong device. */
#include "client.h"

#include "base/mem.h"

enum {
    KEY_SCSI = -101,
    KEY_IDE = -201,
    KEY_CDROM = -301,
    KEY_NIC = -401,
    KEY_SERIAL = -501,
    KEY_DISK = -1001,    /* and down */
    RESERVED_TARGET = 7, /* of the SCSI controller itself */
    MAX_TARGET = 15,
};

/* Every VM of ours: disks are known by their UUID in the guest, children share their parent's, and
 * no question may stop a VM. */
static const struct vsp_kv fixed_extra[] = {
    {"disk.EnableUUID", "TRUE"},
    {"answer.msg.disk.duplicateUUID", "Yes"},
    {"answer.msg.serial.file.open", "Append"},
    {"tools.remindInstall", "FALSE"},
    {"tools.upgrade.policy", "manual"},
};

static void add_extra(struct arena *a, struct vim_VirtualMachineConfigSpec *s,
                      const struct vsp_kv *kv, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct vim_OptionValue *o = VIM_NEW(a, OptionValue);
        o->key = kv[i].key;
        o->value = VIM_ANY_STRING(kv[i].value ? kv[i].value : "");
        VIM_PUSH(a, &s->extraConfig, o);
    }
}

static struct vim_VirtualDeviceConfigSpec *
change(struct arena *a, struct vim_VirtualMachineConfigSpec *s, void *device, bool add)
{
    struct vim_VirtualDeviceConfigSpec *c = VIM_NEW(a, VirtualDeviceConfigSpec);
    c->operation = add ? vim_VirtualDeviceConfigSpecOperation_add
                       : vim_VirtualDeviceConfigSpecOperation_remove;
    c->device = device;
    VIM_PUSH(a, &s->deviceChange, c);
    return c;
}

static struct vim_VirtualDeviceConnectInfo *connected(struct arena *a)
{
    struct vim_VirtualDeviceConnectInfo *c = VIM_NEW(a, VirtualDeviceConnectInfo);
    c->startConnected = c->connected = true;
    return c;
}

static void add_controllers(struct arena *a, struct vim_VirtualMachineConfigSpec *s)
{
    struct vim_ParaVirtualSCSIController *scsi = VIM_NEW(a, ParaVirtualSCSIController);
    scsi->key = KEY_SCSI;
    scsi->sharedBus = vim_VirtualSCSISharing_noSharing;
    change(a, s, scsi, true);
    struct vim_VirtualIDEController *ide = VIM_NEW(a, VirtualIDEController);
    ide->key = KEY_IDE;
    change(a, s, ide, true);
}

static void add_cdrom(struct arena *a, struct vim_VirtualMachineConfigSpec *s, const char *iso)
{
    struct vim_VirtualCdromIsoBackingInfo *file = VIM_NEW(a, VirtualCdromIsoBackingInfo);
    file->fileName = iso;
    struct vim_VirtualCdrom *cd = VIM_NEW(a, VirtualCdrom);
    cd->key = KEY_CDROM;
    cd->backing = VIM_BASE(VirtualDeviceBackingInfo, file);
    cd->connectable = connected(a);
    cd->has_controllerKey = cd->has_unitNumber = true;
    cd->controllerKey = KEY_IDE;
    change(a, s, cd, true);
    struct vim_VirtualMachineBootOptionsBootableCdromDevice *first =
        VIM_NEW(a, VirtualMachineBootOptionsBootableCdromDevice);
    s->bootOptions = VIM_NEW(a, VirtualMachineBootOptions);
    VIM_PUSH(a, &s->bootOptions->bootOrder,
             VIM_BASE(VirtualMachineBootOptionsBootableDevice, first));
}

static void add_console(struct arena *a, struct vim_VirtualMachineConfigSpec *s, const char *path)
{
    struct vim_VirtualSerialPortFileBackingInfo *file =
        VIM_NEW(a, VirtualSerialPortFileBackingInfo);
    file->fileName = path;
    struct vim_VirtualSerialPort *port = VIM_NEW(a, VirtualSerialPort);
    port->key = KEY_SERIAL;
    port->backing = VIM_BASE(VirtualDeviceBackingInfo, file);
    port->connectable = connected(a);
    port->yieldOnPoll = true;
    change(a, s, port, true);
}

/* A port group of a distributed switch is named by the switch's UUID and its own key. */
static bool distributed_backing(struct vsp *v, struct vim_ref network, struct arena *a,
                                struct vim_VirtualDeviceBackingInfo **out, struct vic_err *err)
{
    static const char *const group_paths[] = {"key", "config.distributedVirtualSwitch", NULL};
    static const char *const switch_paths[] = {"uuid", NULL};
    struct vim_ObjectContent *group, *dvs;
    if (!vsp_read_object(v, network, group_paths, a, &group, err))
        return false;
    struct vim_any key = vsp_prop(group, "key");
    struct vim_any parent = vsp_prop(group, "config.distributedVirtualSwitch");
    if (key.kind != VIM_STRING || parent.kind != VIM_REF || parent.array)
        return vic_fail(err, VIC_PROTOCOL, 0, "port group %s has no switch", network.value);
    if (!vsp_read_object(v, parent.ref, switch_paths, a, &dvs, err))
        return false;
    struct vim_any uuid = vsp_prop(dvs, "uuid");
    struct vim_VirtualEthernetCardDistributedVirtualPortBackingInfo *b =
        VIM_NEW(a, VirtualEthernetCardDistributedVirtualPortBackingInfo);
    b->port = VIM_NEW(a, DistributedVirtualSwitchPortConnection);
    b->port->portgroupKey = key.s;
    b->port->switchUuid = uuid.kind == VIM_STRING ? uuid.s : "";
    *out = VIM_BASE(VirtualDeviceBackingInfo, b);
    return true;
}

static bool network_backing(struct vsp *v, const struct vsp_place *p, struct arena *a,
                            struct vim_VirtualDeviceBackingInfo **out, struct vic_err *err)
{
    struct vim_ref network;
    if (!vsp_ref(a, p->network, &network, err))
        return false;
    if (strcmp(network.type, "DistributedVirtualPortgroup") == 0)
        return distributed_backing(v, network, a, out, err);
    struct vim_VirtualEthernetCardNetworkBackingInfo *b =
        VIM_NEW(a, VirtualEthernetCardNetworkBackingInfo);
    b->deviceName = p->network_name;
    b->network = network;
    *out = VIM_BASE(VirtualDeviceBackingInfo, b);
    return true;
}

static bool add_nic(struct vsp *v, const struct vsp_place *p, const char *mac, struct arena *a,
                    struct vim_VirtualMachineConfigSpec *s, struct vic_err *err)
{
    struct vim_VirtualVmxnet3 *nic = VIM_NEW(a, VirtualVmxnet3);
    nic->key = KEY_NIC;
    nic->connectable = connected(a);
    nic->addressType = mac ? "manual" : "generated";
    nic->macAddress = mac;
    change(a, s, nic, true);
    return network_backing(v, p, a, &nic->backing, err);
}

static bool create_spec(struct vsp *v, const struct vsp_place *p, const struct vsp_vm_spec *d,
                        struct arena *a, struct vim_VirtualMachineConfigSpec *s,
                        struct vic_err *err)
{
    s->name = d->name;
    s->instanceUuid = d->instance_uuid;
    s->annotation = d->annotation;
    s->guestId = "otherLinux64Guest";
    s->files = VIM_NEW(a, VirtualMachineFileInfo);
    s->files->vmPathName = arena_printf(a, "[%s]", p->datastore_name);
    s->has_numCPUs = s->has_memoryMB = true;
    s->numCPUs = (int32_t)d->cpus;
    s->memoryMB = (int64_t)d->memory_mb;
    add_controllers(a, s);
    if (d->iso)
        add_cdrom(a, s, d->iso);
    if (!add_nic(v, p, d->mac, a, s, err))
        return false;
    if (d->console)
        add_console(a, s, d->console);
    add_extra(a, s, fixed_extra, ARRAY_LEN(fixed_extra));
    add_extra(a, s, d->extra, d->extra_count);
    return true;
}

bool vsp_vm_create(struct vsp *v, const struct vsp_place *p, const struct vsp_vm_spec *s,
                   char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_CreateVM_Task_request q = {.config = VIM_NEW(&a, VirtualMachineConfigSpec)};
    struct vim_CreateVM_Task_response *r;
    bool ok = vsp_ref(&a, p->folder, &q.self, err) && vsp_ref(&a, p->pool, &q.pool, err) &&
              create_spec(v, p, s, &a, q.config, err) &&
              VSP_CALL(v, CreateVM_Task, &q, &a, r, err) && vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "create VM %s", s->name);
}

bool vsp_vm_power_on(struct vsp *v, const char *vm, char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_PowerOnVM_Task_request q = {0};
    struct vim_PowerOnVM_Task_response *r;
    bool ok = vsp_ref(&a, vm, &q.self, err) && VSP_CALL(v, PowerOnVM_Task, &q, &a, r, err) &&
              vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "power on %s", vm);
}

bool vsp_vm_power_off(struct vsp *v, const char *vm, char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_PowerOffVM_Task_request q = {0};
    struct vim_PowerOffVM_Task_response *r;
    bool ok = vsp_ref(&a, vm, &q.self, err) && VSP_CALL(v, PowerOffVM_Task, &q, &a, r, err) &&
              vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "power off %s", vm);
}

bool vsp_vm_destroy(struct vsp *v, const char *vm, char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_Destroy_Task_request q = {0};
    struct vim_Destroy_Task_response *r;
    bool ok = vsp_ref(&a, vm, &q.self, err) && VSP_CALL(v, Destroy_Task, &q, &a, r, err) &&
              vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "destroy %s", vm);
}

/* --- changing disks
 * ------------------------------------------------------------------------------- */

/* What the VM has now. */
struct devices {
    struct vim_VirtualDevice **v;
    size_t n;
    int32_t scsi; /* key of the controller of bus 0 */
    const char *version;
};

static bool read_devices(struct vsp *v, struct vim_ref vm, struct arena *a, struct devices *out,
                         struct vic_err *err)
{
    static const char *const paths[] = {"config.hardware.device", "config.changeVersion", NULL};
    struct vim_ObjectContent *o;
    if (!vsp_read_object(v, vm, paths, a, &o, err))
        return false;
    struct vim_any list = vsp_prop(o, "config.hardware.device");
    struct vim_any version = vsp_prop(o, "config.changeVersion");
    *out = (struct devices){.version = version.kind == VIM_STRING ? version.s : NULL};
    if (list.kind == VIM_OBJECT && list.array && vim_type_is(list.type, &vim_type_VirtualDevice)) {
        out->v = list.items.v;
        out->n = list.items.n;
    }
    for (size_t i = 0; i < out->n; i++) {
        const struct vim_VirtualSCSIController *c = VIM_CAST(VirtualSCSIController, out->v[i]);
        if (c && c->busNumber == 0) {
            out->scsi = c->key;
            return true;
        }
    }
    return vic_fail(err, VIC_CONFLICT, 0, "the VM has no SCSI controller");
}

static struct vim_VirtualDisk *disk_at(const struct devices *d, unsigned target)
{
    for (size_t i = 0; i < d->n; i++) {
        struct vim_VirtualDisk *disk = VIM_CAST(VirtualDisk, d->v[i]);
        if (disk && disk->has_controllerKey && disk->controllerKey == d->scsi &&
            disk->has_unitNumber && disk->unitNumber == (int32_t)target)
            return disk;
    }
    return NULL;
}

static bool is_removed(const struct vsp_reconfig *r, unsigned target)
{
    for (size_t i = 0; i < r->remove_count; i++)
        if (r->remove_targets[i] == target)
            return true;
    return false;
}

static struct vim_VirtualDisk *new_disk(struct arena *a, const struct vsp_disk_add *d, int32_t scsi,
                                        size_t index)
{
    struct vim_VirtualDiskFlatVer2BackingInfo *b = VIM_NEW(a, VirtualDiskFlatVer2BackingInfo);
    b->fileName = d->path;
    b->diskMode = "independent_persistent";
    b->has_thinProvisioned = b->thinProvisioned = true;
    b->uuid = d->uuid;
    if (d->parent) {
        b->parent = VIM_NEW(a, VirtualDiskFlatVer2BackingInfo);
        b->parent->fileName = d->parent;
        b->parent->diskMode = "";
    }
    struct vim_VirtualDisk *disk = VIM_NEW(a, VirtualDisk);
    disk->key = KEY_DISK - (int32_t)index;
    disk->backing = VIM_BASE(VirtualDeviceBackingInfo, b);
    disk->has_controllerKey = disk->has_unitNumber = true;
    disk->controllerKey = scsi;
    disk->unitNumber = (int32_t)d->target;
    if (d->create && !d->parent) {
        disk->capacityInKB = d->capacity_bytes / 1024;
        disk->has_capacityInBytes = true;
        disk->capacityInBytes = disk->capacityInKB * 1024;
    }
    return disk;
}

static bool add_disks(struct arena *a, const struct devices *have, const struct vsp_reconfig *r,
                      struct vim_VirtualMachineConfigSpec *s, struct vic_err *err)
{
    for (size_t i = 0; i < r->add_count; i++) {
        const struct vsp_disk_add *d = &r->add[i];
        if (d->target > MAX_TARGET || d->target == RESERVED_TARGET)
            return vic_fail(err, VIC_INVALID, 0, "SCSI target %u", d->target);
        if (disk_at(have, d->target) && !is_removed(r, d->target))
            return vic_fail(err, VIC_CONFLICT, 0, "SCSI target %u is taken", d->target);
        struct vim_VirtualDeviceConfigSpec *c = change(a, s, new_disk(a, d, have->scsi, i), true);
        if (d->create)
            c->fileOperation = vim_VirtualDeviceConfigSpecFileOperation_create;
    }
    return true;
}

/* A target that has no disk is off already. */
static void remove_disks(struct arena *a, const struct devices *have, const struct vsp_reconfig *r,
                         struct vim_VirtualMachineConfigSpec *s)
{
    for (size_t i = 0; i < r->remove_count; i++) {
        struct vim_VirtualDisk *disk = disk_at(have, r->remove_targets[i]);
        if (disk)
            change(a, s, disk, false);
    }
}

bool vsp_vm_reconfig(struct vsp *v, const struct vsp_place *p, const char *vm,
                     const struct vsp_reconfig *r, char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_ReconfigVM_Task_request q = {.spec = VIM_NEW(&a, VirtualMachineConfigSpec)};
    struct vim_ReconfigVM_Task_response *rsp;
    struct devices have;
    (void)p; /* disks are named by full datastore paths */
    if (!vsp_ref(&a, vm, &q.self, err))
        return false;
    if (r->add_count || r->remove_count) {
        if (!read_devices(v, q.self, &a, &have, err))
            return vic_wrap(err, "reconfigure %s", vm);
        q.spec->changeVersion = have.version;
        remove_disks(&a, &have, r, q.spec);
        if (!add_disks(&a, &have, r, q.spec, err))
            return vic_wrap(err, "reconfigure %s", vm);
    }
    q.spec->name = r->name;
    add_extra(&a, q.spec, r->extra, r->extra_count);
    bool ok =
        VSP_CALL(v, ReconfigVM_Task, &q, &a, rsp, err) && vsp_ref_text(rsp->returnval, task, err);
    return ok || vic_wrap(err, "reconfigure %s", vm);
}
