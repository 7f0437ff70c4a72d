/* guestinfo: what a guest asks and says on its port, as lines of text (map vsphere 5.3).
 *
 *   info-get guestinfo.KEY        -> "1 VALUE" | "0 No value found"
 *   info-set guestinfo.KEY VALUE  -> "1 " | "0 REASON"
 * A guest reads only keys that begin with "guestinfo." and writes only those; of them it may not
 * write the ones that were given read-only (a '/' in the key).  What it sets lives until its power
 * goes off.  With --strict the API shows it LATE_MS later, as a vSphere does.  Lines come on vmm's
 * loop thread: nothing here blocks, the record is saved by a job. */
#include "base/mem.h"

#include "vm.h"

#define PREFIX "guestinfo."

enum { LATE_MS = 300 };

static struct vh_guest_var *find_var(struct vh_vm *vm, const char *key)
{
    struct vh_guest_var *v;
    LIST_FOREACH (v, &vm->guest, link)
        if (!strcmp(v->key, key))
            return v;
    return NULL;
}

static void no(struct buf *out, const char *why)
{
    buf_addf(out, "0 %s", why);
}

static void get(struct vh_vm *vm, const char *key, struct buf *out)
{
    struct vh_guest_var *v = find_var(vm, key);
    vh_options_array live = {vm->conf->info->extraConfig.v, vm->conf->info->extraConfig.n};
    const char *value = v ? v->value : vh_option(&live, key);
    if (value && *value)
        buf_addf(out, "1 %s", value);
    else
        no(out, "No value found");
}

static void save(void *arg)
{
    struct vh *h = ((void **)arg)[0];
    char *id = ((void **)arg)[1];
    AUTO_BATCH struct state_batch batch = {0};
    struct vic_err err;
    mutex_lock(&h->lock);
    struct vh_vm *vm = vh_vm_find(h, id);
    if (vm && vm->on) {
        vm->guest_dirty = false;
        vh_vm_put_guest(&batch, vm);
    }
    mutex_unlock(&h->lock);
    if (!state_commit(h->state, &batch, false, &err))
        log_error(h->opt.log, "state.failed", KV_ERR(&err));
    free(id);
    free(arg);
}

static void save_later(struct vh *h, struct vh_vm *vm)
{
    if (vm->guest_dirty)
        return;
    void **arg = xcalloc(2, sizeof *arg);
    arg[0] = h;
    arg[1] = xstrdup(vm->obj.id);
    vm->guest_dirty = vh_later(h, save, arg);
    if (!vm->guest_dirty) {
        free(arg[1]);
        free(arg);
    }
}

/* What was said becomes visible. */
static void show(struct vh *h, struct vh_vm *vm)
{
    struct vh_guest_var *v;
    LIST_FOREACH (v, &vm->guest, link) {
        free(v->shown);
        v->shown = xstrdup(v->value);
    }
    vh_touch(h, &vm->obj);
}

static void show_late(void *arg)
{
    struct vh *h = arg;
    mutex_lock(&h->lock);
    h->late_pending = false;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine && !LIST_EMPTY(&vh_vm_of(o)->guest))
            show(h, vh_vm_of(o));
    mutex_unlock(&h->lock);
}

static void show_soon(struct vh *h, struct vh_vm *vm)
{
    if (!h->opt.strict) {
        show(h, vm);
        return;
    }
    if (h->late_pending)
        return;
    h->late_pending = true;
    if (!h->late)
        h->late = loop_timer_new(h->opt.loop, show_late, h);
    loop_timer_set(h->late, LATE_MS);
}

static void set(struct vh *h, struct vh_vm *vm, const char *key, struct sv value, struct buf *out)
{
    struct vh_guest_var *v = find_var(vm, key);
    size_t old = v ? strlen(v->value) : 0, add = value.len + (v ? 0 : strlen(key));
    if (value.len > VH_MAX_VALUE || strlen(key) > VH_MAX_KEY) {
        no(out, "Value too long");
        return;
    }
    if (strchr(key, '/')) {
        no(out, "Permission denied");
        return;
    }
    if (vm->guest_size - old + add > VH_MAX_GUEST) {
        no(out, "Out of space for guestinfo");
        return;
    }
    if (!v) {
        v = xcalloc(1, sizeof *v);
        v->key = xstrdup(key);
        LIST_INSERT_HEAD(&vm->guest, v, link);
    }
    free(v->value);
    v->value = xstrndup(value.p ? value.p : "", value.len);
    vm->guest_size += add - old;
    show_soon(h, vm);
    save_later(h, vm);
    buf_add_str(out, "1 ");
}

void vh_vm_guestinfo(void *arg, const char *id, struct sv command, struct buf *out)
{
    struct vh *h = arg;
    AUTO_ARENA struct arena a = {0};
    struct sv rest = command, verb = sv_cut(&rest, ' '), key_text = sv_cut(&rest, ' ');
    const char *key = arena_sv(&a, key_text);
    mutex_lock(&h->lock);
    struct vh_vm *vm = vh_vm_find(h, id);
    if (vm && !vm->tools) {
        vm->tools = true;
        vh_touch(h, &vm->obj);
    }
    if (!vm)
        no(out, "No such virtual machine");
    else if (!sv_starts(key_text, SV(PREFIX)) || strlen(key) != key_text.len)
        no(out, "Permission denied");
    else if (sv_is(verb, "info-get"))
        get(vm, key, out);
    else if (sv_is(verb, "info-set"))
        set(h, vm, key, rest, out);
    else
        no(out, "Unknown command");
    mutex_unlock(&h->lock);
}
