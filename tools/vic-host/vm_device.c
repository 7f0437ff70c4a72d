/* Device changes: vSphere's rules for keys, controllers and unit numbers (map vsphere 3.2).
 *
 * A request's keys are temporary: other devices of the same request refer to them, so each added
 * controller leaves a pair (asked, given).  A controller that every VM has (IDE, PCI, SIO, PS2) is
 * "already there" when it is added.  Unit numbers: SCSI 0..15 without 7, IDE 0 and 1; -1 or absent
 * takes the lowest free one.  Here a VM has one SCSI controller (bus 0) and its disks hang on it,
 * since that is what QEMU is given. */
#include "base/mem.h"

#include "disks.h"
#include "files.h"
#include "inventory.h"
#include "vm.h"

enum {
    KEY_PCI = 100,
    KEY_IDE = 200,
    KEY_PS2 = 300,
    KEY_SIO = 400,
    KEY_VIDEO = 500,
    KEY_KEYBOARD = 600,
    KEY_POINTER = 700,
    KEY_SCSI = 1000,
    KEY_DISK = 2000,
    KEY_CDROM = 3000,
    KEY_NIC = 4000,
    KEY_SERIAL = 9000,
    SCSI_UNITS = 16,
    SCSI_SELF = 7,
    IDE_UNITS = 2,
    MAX_NICS = 10,
    MAX_SERIAL = 4,
    MAX_CHAIN = 32, /* levels; QEMU's layer takes some more */
    MIN_DISK_KB = 1024,
};

struct change {
    struct vh_job *j;
    struct vh_conf *c;
    struct vh_plan *plan;
    const struct vh_path *dir;
    const struct vim_VirtualDeviceConfigSpec *spec;
    int index;
    bool on;
    VIM_ARRAY_OF(struct key_pair) keys;
};
struct key_pair {
    int32_t asked, given;
};

/* --- faults ----------------------------------------------------------------------------------- */

static bool bad_device(struct change *ch, const struct vim_type *t, const char *property)
{
    struct vh_fault *f = &ch->j->fault;
    struct vim_InvalidDeviceSpec *d =
        vh_fault_new(f, t, "Invalid configuration for device '%d'.", ch->index);
    d->property = arena_printf(f->a, "virtualDeviceSpec[%d].%s", ch->index, property);
    d->deviceIndex = ch->index;
    return false;
}

#define BAD(T, property) bad_device(ch, &vim_type_##T, property)

static bool powered_on(struct change *ch)
{
    struct vim_InvalidPowerState *d = VH_FAULT(&ch->j->fault, InvalidPowerState, NULL);
    d->requestedState = vim_VirtualMachinePowerState_poweredOff;
    d->existingState = vim_VirtualMachinePowerState_poweredOn;
    return false;
}

/* --- devices in a configuration --------------------------------------------------------------- */

#define DEVICE(o) VIM_BASE(VirtualDevice, o)

static struct vim_VirtualDevice *find_key(const struct vh_conf *c, int32_t key)
{
    for (size_t i = 0; i < c->info->hardware->device.n; i++)
        if (c->info->hardware->device.v[i]->key == key)
            return c->info->hardware->device.v[i];
    return NULL;
}

static size_t count_type(const struct vh_conf *c, const struct vim_type *t)
{
    size_t n = 0;
    for (size_t i = 0; i < c->info->hardware->device.n; i++)
        n += vim_cast(t, c->info->hardware->device.v[i]) != NULL;
    return n;
}

static bool unit_taken(const struct vh_conf *c, int32_t controller, int32_t unit)
{
    for (size_t i = 0; i < c->info->hardware->device.n; i++) {
        const struct vim_VirtualDevice *d = c->info->hardware->device.v[i];
        if (d->has_controllerKey && d->controllerKey == controller && d->has_unitNumber &&
            d->unitNumber == unit)
            return true;
    }
    return false;
}

static void set_label(struct vh_conf *c, struct vim_VirtualDevice *d, const char *label,
                      const char *summary)
{
    d->deviceInfo = VIM_NEW(&c->a, Description);
    d->deviceInfo->label = arena_strdup(&c->a, label);
    d->deviceInfo->summary = arena_strdup(&c->a, summary);
}

static void attach(struct vh_conf *c, struct vim_VirtualDevice *d, int32_t controller, int32_t unit)
{
    struct vim_VirtualController *up = VIM_CAST(VirtualController, find_key(c, controller));
    d->has_controllerKey = d->has_unitNumber = true;
    d->controllerKey = controller;
    d->unitNumber = unit;
    if (up)
        VIM_PUSH(&c->a, &up->device, d->key);
}

static void insert(struct vh_conf *c, struct vim_VirtualDevice *d)
{
    VIM_PUSH(&c->a, &c->info->hardware->device, d);
}

static void take_out(struct vh_conf *c, struct vim_VirtualDevice *d)
{
    struct vim_VirtualController *up =
        d->has_controllerKey ? VIM_CAST(VirtualController, find_key(c, d->controllerKey)) : NULL;
    for (size_t i = 0; up && i < up->device.n; i++)
        if (up->device.v[i] == d->key) {
            memmove(&up->device.v[i], &up->device.v[i + 1],
                    (up->device.n - i - 1) * sizeof *up->device.v);
            up->device.n--;
        }
    for (size_t i = 0; i < c->info->hardware->device.n; i++)
        if (c->info->hardware->device.v[i] == d) {
            memmove(&c->info->hardware->device.v[i], &c->info->hardware->device.v[i + 1],
                    (c->info->hardware->device.n - i - 1) * sizeof(void *));
            c->info->hardware->device.n--;
            return;
        }
}

void vh_devices_default(struct vh_conf *c)
{
    static const struct {
        const struct vim_type *type;
        int32_t key, bus, controller, unit;
        const char *label;
    } rows[] = {
        {&vim_type_VirtualIDEController, KEY_IDE, 0, 0, 0, "IDE 0"},
        {&vim_type_VirtualIDEController, KEY_IDE + 1, 1, 0, 0, "IDE 1"},
        {&vim_type_VirtualPS2Controller, KEY_PS2, 0, 0, 0, "PS2 controller 0"},
        {&vim_type_VirtualPCIController, KEY_PCI, 0, 0, 0, "PCI controller 0"},
        {&vim_type_VirtualSIOController, KEY_SIO, 0, 0, 0, "SIO controller 0"},
        {&vim_type_VirtualKeyboard, KEY_KEYBOARD, 0, KEY_PS2, 0, "Keyboard"},
        {&vim_type_VirtualPointingDevice, KEY_POINTER, 0, KEY_PS2, 1, "Pointing device"},
        {&vim_type_VirtualMachineVideoCard, KEY_VIDEO, 0, KEY_PCI, 0, "Video card"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct vim_VirtualDevice *d = vim_new(&c->a, rows[i].type);
        struct vim_VirtualController *controller = VIM_CAST(VirtualController, d);
        d->key = rows[i].key;
        set_label(c, d, rows[i].label, rows[i].label);
        if (controller)
            controller->busNumber = rows[i].bus;
        else
            attach(c, d, rows[i].controller, rows[i].unit);
        if (d->key == KEY_POINTER) {
            struct vim_VirtualPointingDeviceDeviceBackingInfo *b =
                VIM_NEW(&c->a, VirtualPointingDeviceDeviceBackingInfo);
            b->deviceName = "";
            b->hostPointingDevice = "autodetect";
            d->backing = VIM_BASE(VirtualDeviceBackingInfo, b);
        }
        insert(c, d);
    }
}

/* --- adding: controllers ---------------------------------------------------------------------- */

static void pair(struct change *ch, int32_t given)
{
    VIM_PUSH(&ch->j->a, &ch->keys, ((struct key_pair){ch->spec->device->key, given}));
}

static int32_t real_key(const struct change *ch, int32_t asked)
{
    for (size_t i = ch->keys.n; i-- > 0;)
        if (ch->keys.v[i].asked == asked)
            return ch->keys.v[i].given;
    return asked;
}

static bool add_scsi(struct change *ch, struct vim_VirtualDevice *d)
{
    struct vim_VirtualSCSIController *s = VIM_CAST(VirtualSCSIController, d);
    if (find_key(ch->c, KEY_SCSI)) {
        VH_FAULT(&ch->j->fault, TooManyDevices, NULL)->property = "SCSI controller";
        return false;
    }
    if (ch->on)
        return powered_on(ch);
    if (s->busNumber != 0)
        return BAD(InvalidDeviceSpec, "device.busNumber");
    pair(ch, KEY_SCSI);
    d->key = KEY_SCSI;
    s->device.n = 0;
    s->has_scsiCtlrUnitNumber = true;
    s->scsiCtlrUnitNumber = SCSI_SELF;
    s->has_hotAddRemove = s->hotAddRemove = true;
    set_label(ch->c, d, "SCSI controller 0",
              VIM_IS(ParaVirtualSCSIController, d) ? "VMware paravirtual SCSI" : "SCSI");
    attach(ch->c, d, KEY_PCI, 3);
    insert(ch->c, d);
    return true;
}

/* A controller that is always there: the request's key means it from now on. */
static bool add_fixed(struct change *ch, struct vim_VirtualDevice *d)
{
    static const struct {
        const struct vim_type *type;
        int32_t key, count;
    } fixed[] = {
        {&vim_type_VirtualIDEController, KEY_IDE, 2},
        {&vim_type_VirtualPCIController, KEY_PCI, 1},
        {&vim_type_VirtualPS2Controller, KEY_PS2, 1},
        {&vim_type_VirtualSIOController, KEY_SIO, 1},
    };
    const struct vim_VirtualController *ctl = VIM_CAST(VirtualController, d);
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (vim_cast(fixed[i].type, d)) {
            int32_t bus =
                ctl->busNumber >= 0 && ctl->busNumber < fixed[i].count ? ctl->busNumber : 0;
            pair(ch, fixed[i].key + bus);
            return true;
        }
    return BAD(DeviceUnsupportedForVmPlatform, "device");
}

/* The unit asked for, or the lowest free one; -1: none. */
static int32_t choose_unit(const struct change *ch, const struct vim_VirtualDevice *d,
                           int32_t controller, int32_t count, int32_t skip)
{
    if (d->has_unitNumber && d->unitNumber >= 0)
        return d->unitNumber < count && d->unitNumber != skip &&
                       !unit_taken(ch->c, controller, d->unitNumber)
                   ? d->unitNumber
                   : -1;
    for (int32_t unit = 0; unit < count; unit++)
        if (unit != skip && !unit_taken(ch->c, controller, unit))
            return unit;
    return -1;
}

/* --- adding: disks ---------------------------------------------------------------------------- */

/* A disk without a name gets the VM's, in the VM's folder. */
static bool name_disk(struct change *ch, const struct vim_VirtualDiskFlatVer2BackingInfo *b,
                      struct vh_path *out)
{
    struct vh_fault *f = &ch->j->fault;
    if (*b->fileName && !vh_path_parse(ch->j->h, b->fileName, out, f))
        return false;
    if (*b->fileName && *out->rel)
        return true;
    for (unsigned n = 0; n < 1000; n++) {
        const char *leaf = n ? arena_printf(&ch->j->a, "%s_%u.vmdk", ch->c->info->name, n)
                             : arena_printf(&ch->j->a, "%s.vmdk", ch->c->info->name);
        if (strchr(leaf, '/') || !vh_path_join(ch->dir, leaf, out))
            break;
        if (!vh_file_exists(out))
            return true;
    }
    return BAD(InvalidDeviceBacking, "device.backing.fileName");
}

static bool capacity_of(struct change *ch, const struct vh_path *p, int64_t *capacity)
{
    int64_t used;
    struct vic_err err;
    return vmm_disk_info(ch->j->h->vmm, vh_path_host(&ch->j->a, p), capacity, &used, &err)
               ? true
               : vh_job_fail(ch->j, p, &err);
}

/* What the request says of a new disk's size; bytes win over KB. */
static int64_t asked_capacity(const struct vim_VirtualDisk *d)
{
    if (d->has_capacityInBytes && d->capacityInBytes > 0)
        return d->capacityInBytes;
    return d->capacityInKB > 0 && d->capacityInKB < INT64_MAX / 1024 ? d->capacityInKB * 1024 : 0;
}

static bool plan_child(struct change *ch, const struct vim_VirtualDisk *d,
                       const struct vim_VirtualDiskFlatVer2BackingInfo *parent,
                       struct vh_disk_change *out)
{
    struct vh_job *j = ch->j;
    if (!vh_path_parse(j->h, parent->fileName, &out->parent, &j->fault))
        return false;
    if (!vh_file_exists(&out->parent) || vh_dir_exists(&out->parent))
        return vh_fault_file(&j->fault, &vim_type_FileNotFound, parent->fileName);
    mutex_lock(&j->h->lock);
    unsigned depth = vh_disk_depth(j->h, &out->parent);
    mutex_unlock(&j->h->lock);
    if (depth >= MAX_CHAIN)
        return BAD(InvalidDeviceBacking, "device.backing.parent");
    if (!capacity_of(ch, &out->parent, &out->capacity))
        return false;
    out->has_parent = true;
    if (!j->h->opt.strict && asked_capacity(d) > out->capacity)
        out->capacity = asked_capacity(d);
    return true;
}

static bool plan_create(struct change *ch, const struct vim_VirtualDisk *d,
                        const struct vim_VirtualDiskFlatVer2BackingInfo *b,
                        struct vh_disk_change *out)
{
    struct vh_path dir;
    vh_path_parent(&out->path, &dir);
    out->create = true;
    if (vh_file_exists(&out->path))
        return vh_fault_file(&ch->j->fault, &vim_type_FileAlreadyExists,
                             vh_path_text(&ch->j->a, &out->path));
    if (*dir.rel && !vh_dir_exists(&dir))
        return vh_fault_file(&ch->j->fault, &vim_type_FileNotFound, vh_path_text(&ch->j->a, &dir));
    if (b->uuid && !vh_uuid_normal(b->uuid, out->uuid))
        return BAD(InvalidDeviceSpec, "device.backing.uuid");
    if (!b->uuid)
        vh_disk_new_uuid(out->uuid);
    if (b->parent)
        return plan_child(ch, d, b->parent, out);
    out->capacity = asked_capacity(d);
    return out->capacity >= MIN_DISK_KB * 1024 ? true
                                               : BAD(InvalidDeviceSpec, "device.capacityInKB");
}

/* A file that is there: its record says uuid and parent, whatever the request says. */
static bool plan_existing(struct change *ch, struct vh_disk_change *out)
{
    if (!vh_file_exists(&out->path) || vh_dir_exists(&out->path))
        return vh_fault_file(&ch->j->fault, &vim_type_FileNotFound,
                             vh_path_text(&ch->j->a, &out->path));
    mutex_lock(&ch->j->h->lock);
    struct vh_disk *known = vh_disk_find(ch->j->h, &out->path);
    if (known)
        memcpy(out->uuid, known->uuid, sizeof out->uuid);
    out->has_parent = vh_disk_parent(ch->j->h, &out->path, &out->parent);
    mutex_unlock(&ch->j->h->lock);
    if (!*out->uuid)
        vh_disk_new_uuid(out->uuid);
    return capacity_of(ch, &out->path, &out->capacity);
}

/* As a real host shows it: the whole chain, by parents. */
static struct vim_VirtualDiskFlatVer2BackingInfo *describe_parent(struct change *ch,
                                                                  const struct vh_path *p)
{
    struct arena *a = &ch->c->a;
    struct vim_VirtualDiskFlatVer2BackingInfo *b = VIM_NEW(a, VirtualDiskFlatVer2BackingInfo);
    struct vh_path up;
    mutex_lock(&ch->j->h->lock);
    struct vh_disk *known = vh_disk_find(ch->j->h, p);
    b->uuid = known ? arena_strdup(a, known->uuid) : NULL;
    bool more = vh_disk_parent(ch->j->h, p, &up);
    mutex_unlock(&ch->j->h->lock);
    b->fileName = vh_path_text(a, p);
    b->datastore = vh_ref(&p->ds->obj);
    b->diskMode = "persistent";
    b->has_thinProvisioned = b->thinProvisioned = true;
    if (more)
        b->parent = describe_parent(ch, &up); /* chains are bounded where they are made */
    return b;
}

static void describe_disk(struct change *ch, struct vim_VirtualDisk *d,
                          const struct vh_disk_change *p, const char *mode)
{
    struct arena *a = &ch->c->a;
    struct vim_VirtualDiskFlatVer2BackingInfo *b = VIM_NEW(a, VirtualDiskFlatVer2BackingInfo);
    b->fileName = vh_path_text(a, &p->path);
    b->datastore = vh_ref(&p->path.ds->obj);
    b->diskMode = arena_strdup(a, mode && *mode ? mode : "persistent");
    b->has_thinProvisioned = b->thinProvisioned = true;
    b->uuid = arena_strdup(a, p->uuid);
    b->contentId = "ffffffffffffffffffffffffffffffff";
    if (p->has_parent) {
        b->parent = describe_parent(ch, &p->parent);
        b->deltaDiskFormat = "redoLogFormat";
    }
    d->backing = VIM_BASE(VirtualDeviceBackingInfo, b);
    d->has_capacityInBytes = true;
    d->capacityInBytes = p->capacity;
    d->capacityInKB = p->capacity / 1024;
    d->connectable = NULL;
}

static bool disk_attached(const struct change *ch, const struct vh_path *p)
{
    struct vim_VirtualDisk *d;
    for (size_t i = 0; (d = vh_disk_at(ch->c, i)); i++) {
        struct vh_path other;
        if (vh_disk_path(ch->j->h, d, &other) && vh_path_eq(&other, p))
            return true;
    }
    return false;
}

static bool add_disk(struct change *ch, struct vim_VirtualDevice *dev)
{
    struct vim_VirtualDisk *d = VIM_CAST(VirtualDisk, dev);
    const struct vim_VirtualDiskFlatVer2BackingInfo *b =
        VIM_CAST(VirtualDiskFlatVer2BackingInfo, dev->backing);
    struct vh_disk_change p = {0};
    int32_t controller = dev->has_controllerKey ? real_key(ch, dev->controllerKey) : KEY_SCSI;
    if (!b)
        return BAD(InvalidDeviceBacking, "device.backing");
    if (!find_key(ch->c, controller))
        return BAD(MissingController, "device.controllerKey");
    if (controller != KEY_SCSI)
        return BAD(InvalidController, "device.controllerKey");
    int32_t unit = choose_unit(ch, dev, controller, SCSI_UNITS, SCSI_SELF);
    if (unit < 0)
        return BAD(InvalidDeviceSpec, "device.unitNumber");
    bool create = ch->spec->fileOperation == vim_VirtualDeviceConfigSpecFileOperation_create;
    if (!name_disk(ch, b, &p.path))
        return false;
    if (!create && disk_attached(ch, &p.path))
        return BAD(InvalidDeviceBacking, "device.backing.fileName");
    if (!(create ? plan_create(ch, d, b, &p) : plan_existing(ch, &p)))
        return false;
    describe_disk(ch, d, &p, b->diskMode);
    p.target = (unsigned)unit;
    p.read_only = vh_disk_read_only(d);
    dev->key = KEY_DISK + unit;
    set_label(
        ch->c, dev,
        arena_printf(&ch->j->a, "Hard disk %zu", count_type(ch->c, &vim_type_VirtualDisk) + 1),
        arena_printf(&ch->j->a, "%lld KB", (long long)d->capacityInKB));
    attach(ch->c, dev, controller, unit);
    insert(ch->c, dev);
    VIM_PUSH(&ch->j->a, &ch->plan->add, p);
    return true;
}

/* --- adding: the rest ------------------------------------------------------------------------- */

static void want_connectable(struct vh_conf *c, struct vim_VirtualDevice *d, bool on)
{
    if (!d->connectable) {
        d->connectable = VIM_NEW(&c->a, VirtualDeviceConnectInfo);
        d->connectable->startConnected = d->connectable->allowGuestControl = true;
    }
    d->connectable->connected = on && d->connectable->startConnected;
    d->connectable->status = "untried";
}

static bool check_file_backing(struct change *ch, struct vim_VirtualDevice *d)
{
    struct vim_VirtualDeviceFileBackingInfo *b = VIM_CAST(VirtualDeviceFileBackingInfo, d->backing);
    struct vh_path p;
    if (!b)
        return true;
    if (!vh_path_parse(ch->j->h, b->fileName, &p, &ch->j->fault))
        return false;
    b->fileName = vh_path_text(&ch->c->a, &p);
    b->datastore = vh_ref(&p.ds->obj);
    return true;
}

static bool add_cdrom(struct change *ch, struct vim_VirtualDevice *d)
{
    int32_t controller = d->has_controllerKey ? real_key(ch, d->controllerKey) : KEY_IDE;
    if (ch->on)
        return powered_on(ch);
    if (controller != KEY_IDE && controller != KEY_IDE + 1)
        return BAD(InvalidController, "device.controllerKey");
    int32_t unit = choose_unit(ch, d, controller, IDE_UNITS, -1);
    if (unit < 0)
        return BAD(InvalidDeviceSpec, "device.unitNumber");
    if (!check_file_backing(ch, d))
        return false;
    d->key = KEY_CDROM + 2 * (controller - KEY_IDE) + unit;
    want_connectable(ch->c, d, ch->on);
    set_label(
        ch->c, d,
        arena_printf(&ch->j->a, "CD/DVD drive %zu", count_type(ch->c, &vim_type_VirtualCdrom) + 1),
        "ISO");
    attach(ch->c, d, controller, unit);
    insert(ch->c, d);
    return true;
}

static bool parse_mac(const char *text)
{
    size_t i = 0;
    for (; text[i]; i++) {
        uint64_t digit;
        bool colon = i % 3 == 2;
        if (i >= 17 || (colon ? text[i] != ':' : !sv_hex_to_u64(sv_make(text + i, 1), &digit)))
            return false;
    }
    return i == 17;
}

static bool set_network(struct change *ch, struct vim_VirtualDevice *d)
{
    struct vim_VirtualEthernetCardNetworkBackingInfo *b =
        VIM_CAST(VirtualEthernetCardNetworkBackingInfo, d->backing);
    if (!b)
        return BAD(InvalidDeviceBacking, "device.backing");
    mutex_lock(&ch->j->h->lock);
    struct vh_obj *net = vh_net_by_name(ch->j->h, b->deviceName);
    if (net)
        b->network = (struct vim_ref){"Network", arena_strdup(&ch->c->a, net->id)};
    mutex_unlock(&ch->j->h->lock);
    return net ? true : BAD(InvalidDeviceBacking, "device.backing.deviceName");
}

static bool set_mac(struct change *ch, struct vim_VirtualEthernetCard *nic)
{
    if (nic->macAddress && *nic->macAddress)
        return parse_mac(nic->macAddress) ? true : BAD(InvalidDeviceSpec, "device.macAddress");
    unsigned char r[3];
    random_bytes(r, sizeof r);
    nic->macAddress = arena_printf(&ch->c->a, "00:0c:29:%02x:%02x:%02x", r[0], r[1], r[2]);
    nic->addressType = "generated";
    return true;
}

static bool add_nic(struct change *ch, struct vim_VirtualDevice *d)
{
    struct vim_VirtualEthernetCard *nic = VIM_CAST(VirtualEthernetCard, d);
    int32_t n = 0;
    if (ch->on) /* QEMU's taps are given at start */
        return powered_on(ch);
    while (find_key(ch->c, KEY_NIC + n))
        n++;
    if (n >= MAX_NICS) {
        VH_FAULT(&ch->j->fault, TooManyDevices, NULL)->property = "Ethernet card";
        return false;
    }
    if (!set_network(ch, d) || !set_mac(ch, nic))
        return false;
    if (!nic->addressType || !*nic->addressType)
        nic->addressType = "manual";
    nic->has_wakeOnLanEnabled = nic->wakeOnLanEnabled = true;
    d->key = KEY_NIC + n;
    want_connectable(ch->c, d, ch->on);
    const struct vim_VirtualEthernetCardNetworkBackingInfo *b = (void *)d->backing;
    set_label(ch->c, d, arena_printf(&ch->j->a, "Network adapter %d", n + 1), b->deviceName);
    attach(ch->c, d, KEY_PCI, 7 + n);
    insert(ch->c, d);
    return true;
}

static bool add_serial(struct change *ch, struct vim_VirtualDevice *d)
{
    int32_t n = 0;
    if (ch->on)
        return powered_on(ch);
    while (find_key(ch->c, KEY_SERIAL + n))
        n++;
    if (n >= MAX_SERIAL) {
        VH_FAULT(&ch->j->fault, TooManyDevices, NULL)->property = "Serial port";
        return false;
    }
    if (!check_file_backing(ch, d))
        return false;
    d->key = KEY_SERIAL + n;
    want_connectable(ch->c, d, ch->on);
    set_label(ch->c, d, arena_printf(&ch->j->a, "Serial port %d", n + 1), "Serial port");
    attach(ch->c, d, KEY_SIO, n);
    insert(ch->c, d);
    return true;
}

static const struct adder {
    const struct vim_type *type;
    bool (*add)(struct change *ch, struct vim_VirtualDevice *d);
} adders[] = {
    {&vim_type_VirtualDisk, add_disk},        {&vim_type_VirtualSCSIController, add_scsi},
    {&vim_type_VirtualController, add_fixed}, {&vim_type_VirtualCdrom, add_cdrom},
    {&vim_type_VirtualEthernetCard, add_nic}, {&vim_type_VirtualSerialPort, add_serial},
};

static bool add(struct change *ch)
{
    struct vim_VirtualDevice *d = vh_clone_object(&ch->c->a, ch->spec->device);
    for (size_t i = 0; i < ARRAY_LEN(adders); i++)
        if (vim_cast(adders[i].type, d))
            return adders[i].add(ch, d);
    return BAD(DeviceUnsupportedForVmPlatform, "device");
}

/* --- removing, editing ------------------------------------------------------------------------ */

static bool bad_operation(struct change *ch)
{
    BAD(InvalidDeviceOperation, "operation");
    struct vim_InvalidDeviceOperation *d = (void *)ch->j->fault.detail;
    d->badOp = ch->spec->operation;
    return false;
}

static bool remove_disk(struct change *ch, struct vim_VirtualDisk *d)
{
    struct vh_disk_change p = {0};
    if (!vh_disk_path(ch->j->h, d, &p.path))
        return BAD(InvalidDeviceBacking, "device.backing");
    p.target = (unsigned)d->unitNumber;
    p.create = ch->spec->fileOperation == vim_VirtualDeviceConfigSpecFileOperation_destroy;
    VIM_PUSH(&ch->j->a, &ch->plan->remove, p);
    take_out(ch->c, DEVICE(d));
    return true;
}

static bool remove_device(struct change *ch, struct vim_VirtualDevice *d)
{
    struct vim_VirtualController *controller = VIM_CAST(VirtualController, d);
    if (VIM_IS(VirtualDisk, d))
        return remove_disk(ch, VIM_CAST(VirtualDisk, d));
    if (ch->on)
        return powered_on(ch);
    if (d->key < KEY_SCSI || (controller && controller->device.n))
        return bad_operation(ch); /* what every VM has; what others hang on */
    take_out(ch->c, d);
    return true;
}

static bool edit_disk(struct change *ch, struct vim_VirtualDisk *d, const struct vim_VirtualDisk *n)
{
    const struct vim_VirtualDiskFlatVer2BackingInfo *b =
        VIM_CAST(VirtualDiskFlatVer2BackingInfo, n->backing);
    struct vim_VirtualDiskFlatVer2BackingInfo *own = (void *)d->backing;
    if (asked_capacity(n) && asked_capacity(n) != d->capacityInBytes)
        return bad_operation(ch);
    if (b && strcmp(b->fileName, own->fileName) != 0)
        return bad_operation(ch);
    if (b && b->diskMode && *b->diskMode && strcmp(b->diskMode, own->diskMode) != 0) {
        if (ch->on)
            return powered_on(ch);
        own->diskMode = arena_strdup(&ch->c->a, b->diskMode);
    }
    return true;
}

static bool edit_device(struct change *ch, struct vim_VirtualDevice *d)
{
    struct vim_VirtualDevice *n = vh_clone_object(&ch->c->a, ch->spec->device);
    if (n->vim != d->vim)
        return BAD(InvalidDeviceSpec, "device");
    if (VIM_IS(VirtualDisk, d))
        return edit_disk(ch, VIM_CAST(VirtualDisk, d), VIM_CAST(VirtualDisk, n));
    if (VIM_IS(VirtualController, d))
        return true;
    bool moved = n->backing && ch->on && !VIM_IS(VirtualCdrom, d) && !VIM_IS(VirtualSerialPort, d);
    if (moved)
        return powered_on(ch);
    if (n->backing && VIM_IS(VirtualEthernetCard, n) && !set_network(ch, n))
        return false;
    if (!check_file_backing(ch, n))
        return false;
    if (n->backing)
        d->backing = n->backing;
    if (n->connectable)
        d->connectable = n->connectable;
    struct vim_VirtualEthernetCard *to = VIM_CAST(VirtualEthernetCard, d);
    const struct vim_VirtualEthernetCard *from = VIM_CAST(VirtualEthernetCard, n);
    if (to && from->macAddress && *from->macAddress) {
        if (!parse_mac(from->macAddress))
            return BAD(InvalidDeviceSpec, "device.macAddress");
        to->macAddress = from->macAddress;
        to->addressType = from->addressType ? from->addressType : "manual";
    }
    return true;
}

static bool apply_one(struct change *ch)
{
    if (!ch->spec->device)
        return BAD(InvalidDeviceSpec, "device");
    if (ch->spec->operation == vim_VirtualDeviceConfigSpecOperation_add)
        return add(ch);
    struct vim_VirtualDevice *d = find_key(ch->c, ch->spec->device->key);
    if (!d)
        return BAD(DeviceNotFound, "device.key");
    if (ch->spec->operation == vim_VirtualDeviceConfigSpecOperation_remove)
        return remove_device(ch, d);
    if (ch->spec->operation == vim_VirtualDeviceConfigSpecOperation_edit)
        return edit_device(ch, d);
    return BAD(InvalidDeviceOperation, "operation");
}

bool vh_devices_apply(struct vh_job *j, struct vh_conf *c,
                      const struct vim_VirtualMachineConfigSpec *spec, bool on,
                      const struct vh_path *dir, struct vh_plan *plan)
{
    struct change ch = {.j = j, .c = c, .plan = plan, .dir = dir, .on = on};
    for (size_t i = 0; i < spec->deviceChange.n; i++) {
        ch.spec = spec->deviceChange.v[i];
        ch.index = (int)i;
        if (!apply_one(&ch))
            return false;
    }
    return true;
}
