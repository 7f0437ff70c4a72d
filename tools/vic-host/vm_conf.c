/* Configurations of VMs: new, cloned, changed by a ConfigSpec.  See vm.h. */
#include "base/mem.h"

#include "vm.h"

enum { MAX_CPUS = 64, MAX_MEMORY_MB = 1 << 20, MAX_OPTIONS = 4096, MAX_OPTION_VALUE = 1 << 20 };

struct vh_vm *vh_vm_of(struct vh_obj *o)
{
    return CONTAINER_OF(o, struct vh_vm, obj);
}

struct vh_vm *vh_vm_find(struct vh *h, const char *id)
{
    struct vh_obj *o = vh_find_id(h, id);
    return o && o->type == &vim_managed_VirtualMachine ? vh_vm_of(o) : NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

void vh_conf_stamp(struct vh *h, struct vh_conf *c)
{
    char text[RFC3339_SIZE];
    c->info->modified = clock_wall_ns(h->opt.clock);
    c->info->changeVersion = arena_strdup(&c->a, rfc3339(c->info->modified, 9, false, text));
}

struct vh_conf *vh_conf_new(struct vh *h, const char *name)
{
    struct vh_conf *c = xcalloc(1, sizeof *c);
    char uuid[37];
    struct vim_VirtualMachineConfigInfo *i = c->info = VIM_NEW(&c->a, VirtualMachineConfigInfo);
    i->name = arena_strdup(&c->a, name);
    i->guestId = "otherGuest64";
    i->guestFullName = "Other (64-bit)";
    i->alternateGuestName = "";
    i->version = "vmx-14";
    random_uuid(uuid);
    i->uuid = arena_strdup(&c->a, uuid);
    random_uuid(uuid);
    i->instanceUuid = arena_strdup(&c->a, uuid);
    i->has_createDate = true;
    i->createDate = clock_wall_ns(h->opt.clock);
    i->files = VIM_NEW(&c->a, VirtualMachineFileInfo);
    i->flags = VIM_NEW(&c->a, VirtualMachineFlagInfo);
    i->consolePreferences = VIM_NEW(&c->a, VirtualMachineConsolePreferences);
    i->defaultPowerOps = VIM_NEW(&c->a, VirtualMachineDefaultPowerOpInfo);
    i->hardware = VIM_NEW(&c->a, VirtualHardware);
    i->hardware->numCPU = 1;
    i->hardware->has_numCoresPerSocket = true;
    i->hardware->numCoresPerSocket = 1;
    i->hardware->memoryMB = 128;
    i->firmware = "bios";
    vh_devices_default(c);
    vh_conf_stamp(h, c);
    return c;
}

struct vh_conf *vh_conf_clone(const struct vh_conf *c)
{
    struct vh_conf *n = xcalloc(1, sizeof *n);
    n->info = vh_clone_object(&n->a, c->info);
    for (size_t i = 0; i < c->saved.n; i++)
        VIM_PUSH(&n->a, &n->saved, vh_clone_object(&n->a, c->saved.v[i]));
    return n;
}

void vh_conf_free(struct vh_conf *c)
{
    if (!c)
        return;
    arena_fini(&c->a);
    free(c);
}

/* --- extraConfig ------------------------------------------------------------------------------ */

const char *vh_option(const vh_options_array *list, const char *key)
{
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->v[i]->key, key))
            return list->v[i]->value.kind == VIM_STRING ? list->v[i]->value.s : NULL;
    return NULL;
}

static bool empties(const struct vim_any *value)
{
    return value->kind == VIM_NONE || (value->kind == VIM_STRING && !*value->s);
}

/* An empty value takes the key away, as in vSphere. */
void vh_option_set(struct arena *a, vh_options_array *list, const char *key, struct vim_any value)
{
    size_t at = 0;
    while (at < list->n && strcmp(list->v[at]->key, key) != 0)
        at++;
    if (empties(&value)) {
        if (at < list->n) {
            memmove(&list->v[at], &list->v[at + 1], (list->n - at - 1) * sizeof *list->v);
            list->n--;
        }
        return;
    }
    struct vim_OptionValue *o = VIM_NEW(a, OptionValue);
    o->key = arena_strdup(a, key);
    o->value = value;
    if (at < list->n)
        list->v[at] = o;
    else
        VIM_PUSH(a, list, o);
}

static bool apply_options(struct vh *h, struct vh_conf *c, const vh_options_array *spec, bool on,
                          struct vh_fault *f)
{
    vh_options_array live = {c->info->extraConfig.v, c->info->extraConfig.n};
    for (size_t i = 0; i < spec->n; i++) {
        const struct vim_OptionValue *o = spec->v[i];
        struct vim_any value = vh_clone_any(&c->a, &o->value);
        if (!*o->key || strlen(o->key) > VH_MAX_KEY ||
            (value.kind == VIM_STRING && strlen(value.s) > MAX_OPTION_VALUE) ||
            live.n >= MAX_OPTIONS)
            return vh_fault_argument(f, "spec.extraConfig");
        vh_option_set(&c->a, &live, o->key, value);
        if (!on || !h->opt.strict)
            vh_option_set(&c->a, &c->saved, o->key, value);
    }
    c->info->extraConfig.v = live.v;
    c->info->extraConfig.n = live.n;
    return true;
}

/* --- the rest of the spec --------------------------------------------------------------------- */

static bool on_forbids(struct vh_fault *f)
{
    struct vim_InvalidPowerState *d = VH_FAULT(f, InvalidPowerState, NULL);
    d->requestedState = vim_VirtualMachinePowerState_poweredOff;
    d->existingState = vim_VirtualMachinePowerState_poweredOn;
    return false;
}

static bool apply_hardware(struct vh_conf *c, const struct vim_VirtualMachineConfigSpec *s, bool on,
                           struct vh_fault *f)
{
    struct vim_VirtualHardware *hw = c->info->hardware;
    bool cpus = s->has_numCPUs && s->numCPUs != hw->numCPU;
    bool memory = s->has_memoryMB && s->memoryMB != hw->memoryMB;
    if (cpus && (s->numCPUs < 1 || s->numCPUs > MAX_CPUS))
        return vh_fault_argument(f, "configSpec.numCPUs");
    if (memory && (s->memoryMB < 4 || s->memoryMB > MAX_MEMORY_MB || s->memoryMB % 4))
        return vh_fault_argument(f, "configSpec.memoryMB");
    if (on && (cpus || memory))
        return on_forbids(f);
    if (cpus)
        hw->numCPU = s->numCPUs;
    if (memory)
        hw->memoryMB = (int32_t)s->memoryMB;
    if (s->has_numCoresPerSocket)
        hw->numCoresPerSocket = s->numCoresPerSocket;
    return true;
}

static const char *copy_or(struct arena *a, const char *given, const char *otherwise)
{
    return given ? arena_strdup(a, given) : otherwise;
}

static bool good_uuid(const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        uint64_t digit;
        if (*text == '-' || *text == ' ')
            continue;
        if (!sv_hex_to_u64(sv_make(text, 1), &digit))
            return false;
        n++;
    }
    return n == 32;
}

static bool apply_identity(struct vh_conf *c, const struct vim_VirtualMachineConfigSpec *s, bool on,
                           struct vh_fault *f)
{
    struct vim_VirtualMachineConfigInfo *i = c->info;
    if (s->uuid && !good_uuid(s->uuid))
        return vh_fault_argument(f, "configSpec.uuid");
    if (s->instanceUuid && !good_uuid(s->instanceUuid))
        return vh_fault_argument(f, "configSpec.instanceUuid");
    if (on && s->uuid && strcasecmp(s->uuid, i->uuid) != 0)
        return on_forbids(f);
    i->uuid = copy_or(&c->a, s->uuid, i->uuid);
    i->instanceUuid = copy_or(&c->a, s->instanceUuid, i->instanceUuid);
    i->annotation = copy_or(&c->a, s->annotation, i->annotation);
    i->version = copy_or(&c->a, s->version, i->version);
    i->guestId = copy_or(&c->a, s->guestId, i->guestId);
    i->alternateGuestName = copy_or(&c->a, s->alternateGuestName, i->alternateGuestName);
    if (s->alternateGuestName && *s->alternateGuestName)
        i->guestFullName = i->alternateGuestName;
    return true;
}

#define COPY_OBJECT(to, from)                                                                      \
    do {                                                                                           \
        if (s->from)                                                                               \
            c->info->to = vh_clone_object(&c->a, s->from);                                         \
    } while (0)

bool vh_conf_apply(struct vh *h, struct vh_conf *c, const struct vim_VirtualMachineConfigSpec *s,
                   bool on, struct vh_fault *f)
{
    vh_options_array options = {s->extraConfig.v, s->extraConfig.n};
    if (!apply_hardware(c, s, on, f) || !apply_identity(c, s, on, f) ||
        !apply_options(h, c, &options, on, f))
        return false;
    COPY_OBJECT(cpuAllocation, cpuAllocation);
    COPY_OBJECT(memoryAllocation, memoryAllocation);
    COPY_OBJECT(latencySensitivity, latencySensitivity);
    COPY_OBJECT(bootOptions, bootOptions);
    COPY_OBJECT(tools, tools);
    COPY_OBJECT(flags, flags);
    COPY_OBJECT(managedBy, managedBy);
    if (s->has_memoryHotAddEnabled)
        c->info->has_memoryHotAddEnabled = true,
        c->info->memoryHotAddEnabled = s->memoryHotAddEnabled;
    if (s->has_cpuHotAddEnabled)
        c->info->has_cpuHotAddEnabled = true, c->info->cpuHotAddEnabled = s->cpuHotAddEnabled;
    return true;
}

/* --- names ------------------------------------------------------------------------------------ */

static bool duplicate(struct vh_fault *f, const char *name, struct vim_ref who)
{
    struct vim_DuplicateName *d = VH_FAULT(f, DuplicateName, "The name '%s' already exists.", name);
    d->name = arena_strdup(f->a, name);
    d->object = (struct vim_ref){who.type, arena_strdup(f->a, who.value)};
    return false;
}

/* There is one folder for VMs here, so a name is unique on the host. */
bool vh_vm_check_name(struct vh *h, const char *name, const struct vh_vm *self, struct vh_fault *f)
{
    if (!name || !*name || strlen(name) > VH_MAX_VM_NAME) {
        VH_FAULT(f, InvalidName, "The name '%s' is invalid.", name ? name : "")->name =
            arena_strdup(f->a, name ? name : "");
        return false;
    }
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine && vh_vm_of(o) != self && !strcmp(o->name, name))
            return duplicate(f, name, vh_ref(o));
    struct vh_name *n;
    LIST_FOREACH (n, &h->names, link)
        if (!strcmp(n->name, name))
            return duplicate(f, name, vh_ref(h->vm_folder));
    return true;
}

struct vh_name *vh_name_take(struct vh *h, const char *name)
{
    struct vh_name *n = xcalloc(1, sizeof *n);
    n->name = xstrdup(name);
    LIST_INSERT_HEAD(&h->names, n, link);
    return n;
}

void vh_name_drop(struct vh_name *n)
{
    if (!n)
        return;
    LIST_REMOVE(n, link);
    free(n->name);
    free(n);
}
