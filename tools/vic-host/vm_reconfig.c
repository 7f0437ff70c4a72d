/* ReconfigVM_Task and Rename_Task.
 *
 * On a running VM disks come and go through QEMU, the rest of the devices does not.  Order: files
 * are made, disks taken off, disks put on, then the outcome is committed; a failure anywhere puts
 * back what was done. */
#include "base/mem.h"

#include "disks.h"
#include "vm.h"

struct reconfig {
    struct vh_vm *vm;
    struct vh_conf *conf; /* the next one */
    struct vh_plan plan;
    struct vh_name *name;
    bool on;
    size_t removed, added;           /* of the plan, in QEMU */
    const vh_options_array *options; /* of the request */
};

/* --- hot plug --------------------------------------------------------------------------------- */

static bool plug_failed(struct vh_job *j, const struct vh_path *p, const struct vic_err *err)
{
    if (err->code == VIC_BUSY || err->code == VIC_NOT_FOUND || err->code == VIC_NO_SPACE)
        return vh_job_fail(j, p, err);
    VH_FAULT(&j->fault, GenericVmConfigFault, "%s", err->msg)->reason =
        arena_strdup(&j->a, err->msg);
    return false;
}

static struct vmm_disk vmm_disk_of(struct vh_job *j, const struct vh_disk_change *p)
{
    return (struct vmm_disk){p->target, vh_path_host(&j->a, &p->path), p->read_only};
}

static bool plug_one(struct vh_job *j, struct reconfig *r, const struct vh_disk_change *p)
{
    struct vmm_disk d = vmm_disk_of(j, p);
    struct vic_err err;
    mutex_lock(&j->h->lock);
    /* The chain must be known for the hold; publish notes it again, a failure forgets it. */
    if (p->create)
        vh_disk_note(j->h, &p->path, p->uuid, p->has_parent ? &p->parent : NULL);
    bool good = vh_hold(j->h, r->vm, &p->path, &j->fault);
    mutex_unlock(&j->h->lock);
    if (!good)
        return false;
    if (vmm_disk_add(j->h->vmm, r->vm->obj.id, &d, &err))
        return true;
    mutex_lock(&j->h->lock);
    vh_release(j->h, r->vm, &p->path);
    mutex_unlock(&j->h->lock);
    return plug_failed(j, &p->path, &err);
}

static bool plug(struct vh_job *j, struct reconfig *r)
{
    struct vic_err err;
    for (; r->removed < r->plan.remove.n; r->removed++) {
        const struct vh_disk_change *p = &r->plan.remove.v[r->removed];
        if (!vmm_disk_remove(j->h->vmm, r->vm->obj.id, p->target, &err))
            return plug_failed(j, &p->path, &err);
    }
    for (; r->added < r->plan.add.n; r->added++)
        if (!plug_one(j, r, &r->plan.add.v[r->added]))
            return false;
    return true;
}

static void unplug(struct vh_job *j, struct reconfig *r)
{
    struct vic_err err;
    while (r->added-- > 0) {
        const struct vh_disk_change *p = &r->plan.add.v[r->added];
        if (!vmm_disk_remove(j->h->vmm, r->vm->obj.id, p->target, &err))
            log_error(j->h->opt.log, "disk.left", KV_S("path", p->path.rel), KV_ERR(&err));
        mutex_lock(&j->h->lock);
        vh_release(j->h, r->vm, &p->path);
        mutex_unlock(&j->h->lock);
    }
    while (r->removed-- > 0) {
        struct vmm_disk d = vmm_disk_of(j, &r->plan.remove.v[r->removed]);
        if (!vmm_disk_add(j->h->vmm, r->vm->obj.id, &d, &err))
            log_error(j->h->opt.log, "disk.lost", KV_S("path", d.file), KV_ERR(&err));
    }
}

/* --- the job ---------------------------------------------------------------------------------- */

static void undo(struct vh_job *j)
{
    struct reconfig *r = j->data;
    if (r->on)
        unplug(j, r);
    mutex_lock(&j->h->lock);
    for (size_t i = 0; i < r->plan.add.n; i++)
        if (r->plan.add.v[i].create)
            vh_disk_forget(j->h, &r->plan.add.v[i].path);
    vh_name_drop(r->name);
    mutex_unlock(&j->h->lock);
    vh_conf_free(r->conf);
}

/* The last writer of a key wins: what the guest set before is covered. */
static void cover_guest(struct vh_vm *vm, const vh_options_array *options)
{
    for (size_t i = 0; options && i < options->n; i++)
        for (struct vh_guest_var *v = LIST_FIRST(&vm->guest), *next; v; v = next) {
            next = LIST_NEXT(v, link);
            if (strcmp(v->key, options->v[i]->key) != 0)
                continue;
            vm->guest_size -= strlen(v->key) + strlen(v->value);
            vh_guest_var_free(v);
        }
}

static void publish(struct vh_job *j)
{
    struct reconfig *r = j->data;
    vh_plan_publish(j, &r->plan);
    if (r->on)
        for (size_t i = 0; i < r->plan.remove.n; i++)
            vh_release(j->h, r->vm, &r->plan.remove.v[i].path);
    vh_vm_set_conf(j->h, r->vm, r->conf);
    cover_guest(r->vm, r->options);
    vh_name_drop(r->name);
    if (r->on && !r->vm->on) /* it ended meanwhile: take the run's layers off again */
        vh_vm_ended(j->h, r->vm);
}

static bool begin_locked(struct vh_job *j, struct reconfig *r, const char *version,
                         const char *name)
{
    struct vh_conf *now = r->vm->conf;
    r->on = r->vm->on;
    if (version && *version && strcmp(version, now->info->changeVersion) != 0) {
        VH_FAULT(&j->fault, ConcurrentAccess, NULL);
        return false;
    }
    if (name && strcmp(name, r->vm->obj.name) != 0) {
        if (!vh_vm_check_name(j->h, name, r->vm, &j->fault))
            return false;
        r->name = vh_name_take(j->h, name);
    }
    r->conf = vh_conf_clone(now);
    if (r->name)
        r->conf->info->name = arena_strdup(&r->conf->a, name);
    return true;
}

static bool begin(struct vh_job *j, struct reconfig *r, const char *version, const char *name)
{
    r->vm = vh_vm_of(j->o);
    j->data = r;
    j->rollback = undo;
    j->publish = publish;
    mutex_lock(&j->h->lock);
    bool good = begin_locked(j, r, version, name);
    mutex_unlock(&j->h->lock);
    return good;
}

static bool check_destroys(struct vh_job *j, struct reconfig *r)
{
    bool good = true;
    mutex_lock(&j->h->lock);
    for (size_t i = 0; good && i < r->plan.remove.n; i++) {
        const struct vh_disk_change *p = &r->plan.remove.v[i];
        if (p->create && vh_disk_is_parent(j->h, &p->path))
            good =
                vh_fault_file(&j->fault, &vim_type_CannotDeleteFile, vh_path_text(&j->a, &p->path));
    }
    mutex_unlock(&j->h->lock);
    return good;
}

static bool run_reconfig(struct vh_job *j)
{
    const struct vim_ReconfigVM_Task_request *q = j->req;
    const struct vim_VirtualMachineConfigSpec *spec = q->spec;
    struct reconfig *r = ARENA_NEW(&j->a, struct reconfig);
    vh_options_array *options = ARENA_NEW(&j->a, vh_options_array);
    struct vh_path dir = {0};
    options->v = spec->extraConfig.v;
    options->n = spec->extraConfig.n;
    r->options = options;
    if (!begin(j, r, spec->changeVersion, spec->name) ||
        !vh_conf_apply(j->h, r->conf, spec, r->on, &j->fault))
        return false;
    if (!vh_vm_dir(j->h, r->conf, &dir))
        dir.ds = vh_ds_at(j->h, 0);
    if (!vh_devices_apply(j, r->conf, spec, r->on, &dir, &r->plan) || !check_destroys(j, r) ||
        !vh_plan_make(j, &r->plan) || (r->on && !plug(j, r)))
        return false;
    vh_conf_stamp(j->h, r->conf);
    vh_vm_put(&j->batch, r->vm->obj.id, r->conf);
    return true;
}

bool vh_vm_reconfig(struct vh_call *c)
{
    return vh_task_start(c, c->o, true, run_reconfig);
}

static bool run_rename(struct vh_job *j)
{
    const struct vim_Rename_Task_request *q = j->req;
    struct reconfig *r = ARENA_NEW(&j->a, struct reconfig);
    if (!begin(j, r, NULL, q->newName))
        return false;
    vh_conf_stamp(j->h, r->conf);
    vh_vm_put(&j->batch, r->vm->obj.id, r->conf);
    return true;
}

bool vh_entity_rename(struct vh_call *c)
{
    if (c->o->type != &vim_managed_VirtualMachine)
        return vh_fault_unsupported(&c->fault);
    return vh_task_start(c, c->o, true, run_rename);
}
