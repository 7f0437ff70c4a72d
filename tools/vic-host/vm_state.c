/* Records of VMs and their publication: see vm.h and state.h. */
#include "base/json.h"
#include "base/mem.h"

#include "disks.h"
#include "inventory.h"
#include "pools.h"
#include "vm.h"

/* --- records ---------------------------------------------------------------------------------- */

static void put_xml(struct state_batch *b, const char *key, const void *object)
{
    AUTO_BUF struct buf text = {0};
    const struct vim_object *o = object;
    struct vim_any any = {.kind = VIM_OBJECT, .type = o->vim, .object = o};
    soap_write_any(&text, "v", &any);
    state_put(b, key, buf_sv(&text));
}

/* Two records: the configuration with what the next run sees, and what this run sees beside it. */
void vh_vm_put(struct state_batch *b, const char *id, const struct vh_conf *c)
{
    struct vim_VirtualMachineConfigInfo saved = *c->info;
    struct vim_VirtualMachineConfigSpec *live = VIM_NEW(&b->a, VirtualMachineConfigSpec);
    saved.extraConfig.v = c->saved.v;
    saved.extraConfig.n = c->saved.n;
    live->extraConfig.v = c->info->extraConfig.v;
    live->extraConfig.n = c->info->extraConfig.n;
    put_xml(b, arena_printf(&b->a, "vm/%s/config", id), &saved);
    put_xml(b, arena_printf(&b->a, "vm/%s/live", id), live);
}

void vh_vm_put_run(struct state_batch *b, const char *id, const char *pool, bool on,
                   int64_t boot_ns)
{
    AUTO_BUF struct buf text = {0};
    struct json_writer w = json_writer(&text);
    json_open(&w, NULL, '{');
    json_add_str(&w, "pool", pool);
    json_add_bool(&w, "on", on);
    json_add_i64(&w, "boot", boot_ns);
    json_close(&w, '}');
    state_put(b, arena_printf(&b->a, "vm/%s/run", id), buf_sv(&text));
}

void vh_vm_put_guest(struct state_batch *b, const struct vh_vm *vm)
{
    AUTO_BUF struct buf text = {0};
    struct json_writer w = json_writer(&text);
    struct vh_guest_var *v;
    json_open(&w, NULL, '{');
    LIST_FOREACH (v, &vm->guest, link)
        json_add_str(&w, v->key, v->value);
    json_close(&w, '}');
    state_put(b, arena_printf(&b->a, "vm/%s/guest", vm->obj.id), buf_sv(&text));
}

void vh_vm_del(struct state_batch *b, const char *id)
{
    static const char *const parts[] = {"config", "live", "run", "guest"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        state_del(b, arena_printf(&b->a, "vm/%s/%s", id, parts[i]));
}

/* --- publishing ------------------------------------------------------------------------------- */

void vh_guest_var_free(struct vh_guest_var *v)
{
    LIST_REMOVE(v, link);
    free(v->key);
    free(v->value);
    free(v->shown);
    free(v);
}

void vh_vm_guest_clear(struct vh_vm *vm)
{
    while (!LIST_EMPTY(&vm->guest))
        vh_guest_var_free(LIST_FIRST(&vm->guest));
    vm->guest_size = 0;
}

static void free_vm(struct vh *h, struct vh_obj *o)
{
    struct vh_vm *vm = vh_vm_of(o);
    vh_release_all(h, vm);
    vh_vm_guest_clear(vm);
    vh_conf_free(vm->conf);
}

/* All that lists VMs or counts them. */
void vh_vm_touch(struct vh *h, struct vh_vm *vm)
{
    vh_touch(h, &vm->obj);
    if (vm->pool)
        vh_touch(h, vm->pool);
    vh_touch(h, h->host);
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_Datastore || o->type == &vim_managed_Network)
            vh_touch(h, o);
}

struct vh_vm *vh_vm_add(struct vh *h, const char *id, struct vh_conf *c, struct vh_obj *pool)
{
    struct vh_vm *vm = xcalloc(1, sizeof *vm);
    vm->conf = c;
    vm->pool = pool;
    vm->obj.free = free_vm;
    vh_add(h, &vm->obj, &vim_managed_VirtualMachine, id, c->info->name, h->vm_folder);
    vh_vm_touch(h, vm);
    return vm;
}

void vh_vm_set_conf(struct vh *h, struct vh_vm *vm, struct vh_conf *c)
{
    if (strcmp(vm->obj.name, c->info->name) != 0) {
        free(vm->obj.name);
        vm->obj.name = xstrdup(c->info->name);
    }
    vh_conf_free(vm->conf);
    vm->conf = c;
    vh_vm_touch(h, vm);
}

void vh_vm_remove(struct vh *h, struct vh_vm *vm)
{
    struct vh_obj *pool = vm->pool;
    vh_vm_touch(h, vm);
    vh_drop(h, &vm->obj);
    vh_touch(h, pool);
}

static void disconnect_all(struct vh_conf *c)
{
    for (size_t i = 0; i < c->info->hardware->device.n; i++) {
        struct vim_VirtualDevice *d = c->info->hardware->device.v[i];
        if (d->connectable)
            d->connectable->connected = false;
    }
}

/* The published configuration is borrowed by nobody while the lock is held, so the run's own layer
 * may be taken off it in place. */
void vh_vm_ended(struct vh *h, struct vh_vm *vm)
{
    vm->on = vm->tools = false;
    vm->boot_ns = 0;
    vh_vm_guest_clear(vm);
    vm->conf->info->extraConfig.v =
        arena_copy(&vm->conf->a, vm->conf->saved.v, vm->conf->saved.n * sizeof *vm->conf->saved.v);
    vm->conf->info->extraConfig.n = vm->conf->saved.n;
    disconnect_all(vm->conf);
    vh_release_all(h, vm);
    vh_vm_touch(h, vm);
}

bool vh_vm_dir(struct vh *h, const struct vh_conf *c, struct vh_path *out)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_fault f = {.a = &a};
    struct vh_path vmx;
    if (!c->info->files->vmPathName || !vh_path_parse(h, c->info->files->vmPathName, &vmx, &f))
        return false;
    vh_path_parent(&vmx, out);
    return true;
}

/* --- loading ---------------------------------------------------------------------------------- */

struct loading {
    struct vh *h;
    struct vic_err *err;
    bool failed;
};

static struct vim_any parse(struct state *s, const char *id, const char *part, struct arena *a)
{
    AUTO_ARENA struct arena scratch = {0};
    struct vim_any any = {0};
    struct vic_err err;
    struct sv text;
    if (state_get(s, arena_printf(&scratch, "vm/%s/%s", id, part), &scratch, &text, &err) &&
        !soap_parse_any(text, a, &any, &err))
        any = (struct vim_any){0};
    return any;
}

static struct vh_conf *load_conf(struct vh *h, const char *id)
{
    struct vh_conf *c = xcalloc(1, sizeof *c);
    struct vim_any config = parse(h->state, id, "config", &c->a);
    struct vim_any live = parse(h->state, id, "live", &c->a);
    c->info = config.kind == VIM_OBJECT ? VIM_CAST(VirtualMachineConfigInfo, config.object) : NULL;
    if (!c->info) {
        vh_conf_free(c);
        return NULL;
    }
    c->saved.v = c->info->extraConfig.v;
    c->saved.n = c->info->extraConfig.n;
    struct vim_VirtualMachineConfigSpec *spec =
        live.kind == VIM_OBJECT ? VIM_CAST(VirtualMachineConfigSpec, live.object) : NULL;
    c->info->extraConfig.v = spec ? spec->extraConfig.v : NULL;
    c->info->extraConfig.n = spec ? spec->extraConfig.n : 0;
    return c;
}

static void load_guest(struct vh *h, struct vh_vm *vm)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct vic_err err;
    struct sv text;
    if (!state_get(h->state, arena_printf(&a, "vm/%s/guest", vm->obj.id), &a, &text, &err) ||
        !json_parse(text, 0, &a, &v, &err))
        return;
    for (struct json_iter i = json_iter(v); json_next(&i);) {
        struct vh_guest_var *g = xcalloc(1, sizeof *g);
        g->key = xstrndup(i.key.p, i.key.len);
        g->value = xstrdup(json_str(i.val, ""));
        g->shown = xstrdup(g->value);
        vm->guest_size += i.key.len + strlen(g->value);
        LIST_INSERT_HEAD(&vm->guest, g, link);
    }
}

static void load_one(void *arg, const char *key, struct sv value)
{
    struct loading *l = arg;
    AUTO_ARENA struct arena a = {0};
    struct sv rest = sv_sub(sv_of(key), strlen("vm/"), strlen(key)), id = sv_cut(&rest, '/');
    struct json_val v;
    struct vic_err err;
    if (!sv_is(rest, "run") || l->failed)
        return;
    const char *name = arena_sv(&a, id);
    struct vh_conf *c = load_conf(l->h, name);
    if (!c || !json_parse(value, 0, &a, &v, &err)) {
        vh_conf_free(c);
        l->failed = !vic_fail(l->err, VIC_CORRUPT, 0, "state file: virtual machine %s", name);
        return;
    }
    struct vh_obj *pool = vh_find_id(l->h, json_str(json_get(v, "pool"), ""));
    struct vh_vm *vm = vh_vm_add(l->h, name, c, pool ? pool : l->h->root_pool);
    vm->on = json_bool(json_get(v, "on"), false);
    vm->boot_ns = json_i64(json_get(v, "boot"), 0);
    if (vm->on)
        load_guest(l->h, vm);
}

bool vh_vms_load(struct vh *h, struct vic_err *err)
{
    struct loading l = {.h = h, .err = err};
    return state_each(h->state, "vm/", load_one, &l, err) && !l.failed;
}

/* --- pools ------------------------------------------------------------------------------------ */

bool vh_vms_move_pool(struct vh *h, struct vh_obj *from, struct vh_obj *to, struct vh_fault *f)
{
    AUTO_BATCH struct state_batch batch = {0};
    struct vic_err err;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine && vh_vm_of(o)->pool == from)
            vh_vm_put_run(&batch, o->id, to->id, vh_vm_of(o)->on, vh_vm_of(o)->boot_ns);
    if (!state_commit(h->state, &batch, true, &err))
        return vh_fault_err(f, NULL, &err);
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine && vh_vm_of(o)->pool == from) {
            vh_vm_of(o)->pool = to;
            vh_vm_touch(h, vh_vm_of(o));
        }
    return true;
}

int64_t vh_pool_memory_used(struct vh *h, const struct vh_obj *pool)
{
    int64_t sum = 0;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine && vh_vm_of(o)->on &&
            vh_is_below(vh_vm_of(o)->pool, pool))
            sum += (int64_t)vh_vm_of(o)->conf->info->hardware->memoryMB << 20;
    return sum;
}
