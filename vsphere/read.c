/* Reading properties: specs, the one-shot read with its pages, and how what was read becomes the
 * door's small structs.
 *
 * A VM's structs come from a table: one row a property path, with the function that takes its
 * value. The one-shot reads walk all rows; the watch takes only the rows that changed. */
#include "client.h"

#include <limits.h>

#include "base/mem.h"

bool vsp_ref(struct arena *a, const char *text, struct vim_ref *out, struct vic_err *err)
{
    *out = vim_ref_parse(a, text);
    return out->value ||
           vic_fail(err, VIC_INVALID, 0, "'%s' is not a vSphere reference", text ? text : "");
}

bool vsp_ref_text(struct vim_ref ref, char out[VSP_REF_SIZE], struct vic_err *err)
{
    if (!ref.value || !*ref.value || !*ref.type)
        return vic_fail(err, VIC_PROTOCOL, 0, "vSphere gave no reference");
    int n = snprintf(out, VSP_REF_SIZE, "%s:%s", ref.type, ref.value);
    return n < VSP_REF_SIZE || vic_fail(err, VIC_PROTOCOL, 0, "reference of %d bytes", n);
}

char *vsp_ref_dup(struct arena *a, struct vim_ref ref)
{
    return ref.value ? arena_printf(a, "%s:%s", ref.type, ref.value) : NULL;
}

struct vim_PropertyFilterSpec *vsp_spec(struct arena *a)
{
    return VIM_NEW(a, PropertyFilterSpec);
}

void vsp_spec_props(struct arena *a, struct vim_PropertyFilterSpec *s, const char *type,
                    const char *const *paths)
{
    struct vim_PropertySpec *p = VIM_NEW(a, PropertySpec);
    p->type = type;
    for (; *paths; paths++)
        VIM_PUSH(a, &p->pathSet, *paths);
    VIM_PUSH(a, &s->propSet, p);
}

void vsp_spec_object(struct arena *a, struct vim_PropertyFilterSpec *s, struct vim_ref obj,
                     struct vim_TraversalSpec *through)
{
    struct vim_ObjectSpec *o = VIM_NEW(a, ObjectSpec);
    o->obj = obj;
    o->has_skip = true;
    o->skip = through != NULL;
    if (through)
        VIM_PUSH(a, &o->selectSet, VIM_BASE(SelectionSpec, through));
    VIM_PUSH(a, &s->objectSet, o);
}

struct vim_TraversalSpec *vsp_traversal(struct arena *a, const char *type, const char *path)
{
    struct vim_TraversalSpec *t = VIM_NEW(a, TraversalSpec);
    t->name = arena_printf(a, "%s.%s", type, path);
    t->type = type;
    t->path = path;
    return t;
}

static void add_page(struct arena *a, const struct vim_RetrieveResult *page,
                     struct vsp_objects *out)
{
    for (size_t i = 0; page && i < page->objects.n; i++)
        VIM_PUSH(a, out, page->objects.v[i]);
}

bool vsp_retrieve(struct vsp *v, struct vim_PropertyFilterSpec *spec, struct arena *a,
                  struct vsp_objects *out, struct vic_err *err)
{
    const struct vim_ServiceContent *c;
    *out = (struct vsp_objects){0};
    if (!vsp_content(v, &c, err))
        return false;
    struct vim_RetrievePropertiesEx_request q = {.self = c->propertyCollector,
                                                 .specSet = {&spec, 1},
                                                 .options = VIM_NEW(a, RetrieveOptions)};
    struct vim_RetrievePropertiesEx_response *r;
    if (!VSP_CALL(v, RetrievePropertiesEx, &q, a, r, err))
        return false;
    const struct vim_RetrieveResult *page = r->returnval;
    add_page(a, page, out);
    while (page && page->token && *page->token) {
        struct vim_ContinueRetrievePropertiesEx_request next = {.self = c->propertyCollector,
                                                                .token = page->token};
        struct vim_ContinueRetrievePropertiesEx_response *more;
        if (!VSP_CALL(v, ContinueRetrievePropertiesEx, &next, a, more, err))
            return false;
        page = more->returnval;
        add_page(a, page, out);
    }
    return true;
}

bool vsp_read_object(struct vsp *v, struct vim_ref obj, const char *const *paths, struct arena *a,
                     struct vim_ObjectContent **out, struct vic_err *err)
{
    struct vim_PropertyFilterSpec *spec = vsp_spec(a);
    struct vsp_objects got;
    vsp_spec_props(a, spec, obj.type, paths);
    vsp_spec_object(a, spec, obj, NULL);
    if (!vsp_retrieve(v, spec, a, &got, err))
        return vic_wrap(err, "read %s:%s", obj.type, obj.value);
    if (!got.n)
        return vic_fail(err, VIC_NOT_FOUND, 0, "read %s:%s: the object is gone", obj.type,
                        obj.value);
    *out = got.v[0];
    return true;
}

struct vim_any vsp_prop(const struct vim_ObjectContent *o, const char *path)
{
    for (size_t i = 0; i < o->propSet.n; i++)
        if (o->propSet.v[i]->name && strcmp(o->propSet.v[i]->name, path) == 0)
            return o->propSet.v[i]->val;
    return (struct vim_any){0};
}

/* --- a VM
 * ----------------------------------------------------------------------------------------- */

static const char *text_of(struct arena *a, const struct vim_any *v)
{
    return v->kind == VIM_STRING && !v->array ? arena_strdup(a, v->s) : NULL;
}

static void take_name(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    vm->name = text_of(a, v);
}

static void take_uuid(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    vm->instance_uuid = text_of(a, v);
}

static void take_host(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    vm->host = v->kind == VIM_REF && !v->array ? vsp_ref_dup(a, v->ref) : NULL;
}

static void take_power(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    static const enum vsp_power power[] = {
        [vim_VirtualMachinePowerState_poweredOff] = VSP_POWERED_OFF,
        [vim_VirtualMachinePowerState_poweredOn] = VSP_POWERED_ON,
        [vim_VirtualMachinePowerState_suspended] = VSP_SUSPENDED,
    };
    (void)a;
    bool known = v->kind == VIM_ENUM && v->type == &vim_enum_VirtualMachinePowerState && v->e > 0 &&
                 (size_t)v->e < ARRAY_LEN(power);
    vm->power = known ? power[v->e] : VSP_POWER_UNKNOWN;
}

static void take_connection(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    (void)a;
    vm->connected = v->kind == VIM_ENUM && v->type == &vim_enum_VirtualMachineConnectionState &&
                    v->e == vim_VirtualMachineConnectionState_connected;
}

static bool is_ours(const char *key)
{
    return key &&
           (sv_starts(sv_of(key), SV("vic.")) || sv_starts(sv_of(key), SV("guestinfo.vic.")));
}

static void take_extra(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    VIM_ARRAY_OF(struct vsp_kv) list = {0};
    if (v->kind == VIM_OBJECT && v->array)
        for (size_t i = 0; i < v->items.n; i++) {
            const struct vim_OptionValue *o = VIM_CAST(OptionValue, ((void **)v->items.v)[i]);
            if (o && is_ours(o->key) && o->value.kind == VIM_STRING && !o->value.array)
                VIM_PUSH(a, &list,
                         ((struct vsp_kv){arena_strdup(a, o->key), arena_strdup(a, o->value.s)}));
        }
    vm->extra = list.v;
    vm->extra_count = list.n;
}

static struct vim_any field_of(const void *object, const char *name)
{
    const struct vim_object *o = vim_object_of(object);
    const struct vim_field *f = o ? vim_find_field(o->vim, sv_of(name)) : NULL;
    return f ? vim_get(o, f) : (struct vim_any){0};
}

/* The target of a disk on SCSI bus 0; other disks are shown too, since a VM that has any may not be
 * destroyed. */
static unsigned target_of(const struct vim_any *devices, const struct vim_VirtualDisk *disk)
{
    if (disk->has_controllerKey && disk->has_unitNumber && disk->unitNumber >= 0)
        for (size_t i = 0; i < devices->items.n; i++) {
            const struct vim_VirtualSCSIController *c =
                VIM_CAST(VirtualSCSIController, ((void **)devices->items.v)[i]);
            if (c && c->key == disk->controllerKey && c->busNumber == 0)
                return (unsigned)disk->unitNumber;
        }
    return UINT_MAX;
}

static void take_devices(struct arena *a, const struct vim_any *v, struct vsp_vm *vm)
{
    VIM_ARRAY_OF(struct vsp_disk) list = {0};
    vm->mac = NULL;
    for (size_t i = 0; v->kind == VIM_OBJECT && v->array && i < v->items.n; i++) {
        const void *device = ((void **)v->items.v)[i];
        const struct vim_VirtualEthernetCard *nic = VIM_CAST(VirtualEthernetCard, device);
        const struct vim_VirtualDisk *disk = VIM_CAST(VirtualDisk, device);
        if (nic && !vm->mac)
            vm->mac = arena_strdup(a, nic->macAddress);
        if (!disk)
            continue;
        struct vim_any path = field_of(disk->backing, "fileName"),
                       uuid = field_of(disk->backing, "uuid"),
                       parent = field_of(disk->backing, "parent");
        struct vim_any below = {0};
        if (parent.kind == VIM_OBJECT)
            below = field_of(parent.object, "fileName");
        VIM_PUSH(a, &list,
                 ((struct vsp_disk){.target = target_of(v, disk),
                                    .key = disk->key,
                                    .path = text_of(a, &path),
                                    .uuid = text_of(a, &uuid),
                                    .parent = text_of(a, &below)}));
    }
    vm->disks = list.v;
    vm->disk_count = list.n;
}

const struct vsp_vm_row vsp_vm_rows[VSP_VM_ROWS] = {
    {"name", take_name},
    {"config.instanceUuid", take_uuid},
    {"config.extraConfig", take_extra},
    {"config.hardware.device", take_devices},
    {"runtime.powerState", take_power},
    {"runtime.connectionState", take_connection},
    {"runtime.host", take_host},
};

const char *const *vsp_vm_paths(void)
{
    static const char *const paths[] = {"name",
                                        "config.instanceUuid",
                                        "config.extraConfig",
                                        "config.hardware.device",
                                        "runtime.powerState",
                                        "runtime.connectionState",
                                        "runtime.host",
                                        NULL};
    _Static_assert(ARRAY_LEN(paths) == VSP_VM_ROWS + 1, "the rows' paths");
    return paths;
}

static void vm_of(struct arena *a, const struct vim_ObjectContent *o, struct vsp_vm *vm)
{
    *vm = (struct vsp_vm){.ref = vsp_ref_dup(a, o->obj)};
    for (size_t i = 0; i < VSP_VM_ROWS; i++) {
        struct vim_any value = vsp_prop(o, vsp_vm_rows[i].path);
        vsp_vm_rows[i].take(a, &value, vm);
    }
}

const char *vsp_vm_extra(const struct vsp_vm *vm, const char *key)
{
    for (size_t i = 0; i < vm->extra_count; i++)
        if (strcmp(vm->extra[i].key, key) == 0)
            return vm->extra[i].value;
    return NULL;
}

bool vsp_vm_read(struct vsp *v, const char *vm, struct arena *a, struct vsp_vm *out,
                 struct vic_err *err)
{
    struct vim_ref ref;
    struct vim_ObjectContent *o;
    if (!vsp_ref(a, vm, &ref, err) || !vsp_read_object(v, ref, vsp_vm_paths(), a, &o, err))
        return false;
    vm_of(a, o, out);
    return true;
}

void vsp_spec_pool(struct arena *a, struct vim_PropertyFilterSpec *s, struct vim_ref pool)
{
    struct vim_TraversalSpec *vms = vsp_traversal(a, "ResourcePool", "vm");
    struct vim_TraversalSpec *pools = vsp_traversal(a, "ResourcePool", "resourcePool");
    const char *const again[] = {vms->name, pools->name};
    for (size_t i = 0; i < ARRAY_LEN(again); i++) {
        struct vim_SelectionSpec *by_name = VIM_NEW(a, SelectionSpec);
        by_name->name = again[i];
        VIM_PUSH(a, &pools->selectSet, by_name);
    }
    vsp_spec_props(a, s, "VirtualMachine", vsp_vm_paths());
    vsp_spec_object(a, s, pool, vms);
    VIM_PUSH(a, &s->objectSet.v[s->objectSet.n - 1]->selectSet, VIM_BASE(SelectionSpec, pools));
}

bool vsp_vm_list(struct vsp *v, const struct vsp_place *p, struct arena *a, struct vsp_vm **vms,
                 size_t *count, struct vic_err *err)
{
    struct vim_ref pool;
    struct vsp_objects got;
    struct vim_PropertyFilterSpec *spec = vsp_spec(a);
    if (!vsp_ref(a, p->pool, &pool, err))
        return false;
    vsp_spec_pool(a, spec, pool);
    if (!vsp_retrieve(v, spec, a, &got, err))
        return vic_wrap(err, "list the VMs of %s", p->pool);
    *vms = ARENA_ARRAY(a, struct vsp_vm, got.n);
    *count = got.n;
    for (size_t i = 0; i < got.n; i++)
        vm_of(a, got.v[i], &(*vms)[i]);
    return true;
}
