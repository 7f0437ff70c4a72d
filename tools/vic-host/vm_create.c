/* Folder.CreateVM_Task, Destroy_Task, UnregisterVM. */
#include "base/mem.h"

#include "disks.h"
#include "inventory.h"
#include "pools.h"
#include "vm.h"

enum { MAX_DIR_TRIES = 100 };

/* --- create ----------------------------------------------------------------------------------- */

struct create {
    struct vh_conf *conf;
    struct vh_plan plan;
    struct vh_path dir, vmx;
    char id[32];
    const char *pool;
    struct vh_name *name; /* taken until the job ends */
};

static void undo_create(struct vh_job *j)
{
    struct create *t = j->data;
    mutex_lock(&j->h->lock);
    vh_name_drop(t->name);
    mutex_unlock(&j->h->lock);
    vh_conf_free(t->conf);
}

static void publish_create(struct vh_job *j)
{
    struct create *t = j->data;
    struct vh_obj *pool = vh_find_id(j->h, t->pool);
    vh_name_drop(t->name);
    vh_plan_publish(j, &t->plan);
    struct vh_vm *vm = vh_vm_add(j->h, t->id, t->conf, pool ? pool : j->h->root_pool);
    j->result = VIM_ANY_REF(vh_ref(&vm->obj));
}

/* A folder's name out of the VM's. */
static const char *dir_name(struct vh_job *j, const char *name, unsigned n)
{
    char *text = n ? arena_printf(&j->a, "%s_%u", name, n) : arena_strdup(&j->a, name);
    for (char *c = text; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
    return text[0] == '.' ? arena_printf(&j->a, "_%s", text) : text;
}

/* "[ds]": a folder by the VM's name, another one (_1, _2) when it is taken. */
static bool make_own_dir(struct vh_job *j, struct create *t, const struct vh_path *ds)
{
    struct vic_err err;
    for (unsigned n = 0; n < MAX_DIR_TRIES; n++) {
        const char *name = dir_name(j, t->conf->info->name, n);
        if (!vh_path_join(ds, name, &t->dir))
            return vh_fault_argument(&j->fault, "config.name");
        if (vh_file_exists(&t->dir))
            continue;
        if (!vh_job_makes(j, &t->dir))
            return false;
        if (!vh_dir_make(&t->dir, false, &err))
            return vh_job_fail(j, &t->dir, &err);
        return true;
    }
    return vh_fault_file(&j->fault, &vim_type_FileAlreadyExists, vh_path_text(&j->a, &t->dir));
}

/* "[ds] dir/x.vmx", "[ds] dir" or "[ds] dir/". */
static bool use_given_dir(struct vh_job *j, struct create *t, const struct vh_path *given)
{
    struct vic_err err;
    bool vmx = sv_ends(sv_of(given->rel), SV(".vmx"));
    if (vmx)
        vh_path_parent(given, &t->dir);
    else
        t->dir = *given;
    if (vmx)
        t->vmx = *given;
    if (*t->dir.rel && !vh_dir_exists(&t->dir)) {
        if (!vh_job_makes(j, &t->dir))
            return false;
        if (!vh_dir_make(&t->dir, false, &err))
            return vh_job_fail(j, &t->dir, &err);
    }
    return true;
}

static bool make_vmx(struct vh_job *j, struct create *t)
{
    AUTO_BUF struct buf text = {0};
    const struct vim_VirtualMachineConfigInfo *i = t->conf->info;
    struct vic_err err;
    if (!*t->vmx.rel &&
        !vh_path_join(&t->dir, arena_printf(&j->a, "%s.vmx", dir_name(j, i->name, 0)), &t->vmx))
        return vh_fault_argument(&j->fault, "config.name");
    if (vh_file_exists(&t->vmx))
        return vh_fault_file(&j->fault, &vim_type_FileAlreadyExists, vh_path_text(&j->a, &t->vmx));
    buf_addf(&text, ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nguestOS = \"%s\"\n",
             i->guestId);
    buf_addf(&text, "uuid.bios = \"%s\"\nvc.uuid = \"%s\"\n", i->uuid, i->instanceUuid);
    i->files->vmPathName = vh_path_text(&t->conf->a, &t->vmx);
    i->files->snapshotDirectory = i->files->suspendDirectory = i->files->logDirectory =
        arena_printf(&t->conf->a, "%s/", vh_path_text(&j->a, &t->dir));
    if (!vh_job_makes(j, &t->vmx))
        return false;
    return vh_file_write(&t->vmx, buf_sv(&text), &err) ? true : vh_job_fail(j, &t->vmx, &err);
}

static bool make_place(struct vh_job *j, struct create *t,
                       const struct vim_VirtualMachineConfigSpec *spec)
{
    struct vh_path given;
    const char *text = spec->files && spec->files->vmPathName ? spec->files->vmPathName : "";
    if (!vh_path_parse(j->h, text, &given, &j->fault))
        return false;
    return (*given.rel ? use_given_dir(j, t, &given) : make_own_dir(j, t, &given)) &&
           make_vmx(j, t);
}

static bool run_create(struct vh_job *j)
{
    const struct vim_CreateVM_Task_request *q = j->req;
    struct create *t = j->data;
    const struct vim_VirtualMachineConfigSpec *spec = q->config;
    t->conf = vh_conf_new(j->h, spec->name);
    if (!vh_conf_apply(j->h, t->conf, spec, false, &j->fault) || !make_place(j, t, spec) ||
        !vh_devices_apply(j, t->conf, spec, false, &t->dir, &t->plan) || !vh_plan_make(j, &t->plan))
        return false;
    vh_conf_stamp(j->h, t->conf);
    vh_vm_put(&j->batch, t->id, t->conf);
    vh_vm_put_run(&j->batch, t->id, t->pool, false, 0);
    return true;
}

bool vh_vm_create(struct vh_call *c)
{
    const struct vim_CreateVM_Task_request *q = c->req;
    struct vh_obj *pool = vh_find(c->h, c->s, q->pool);
    if (c->o != c->h->vm_folder)
        return vh_fault_unsupported(&c->fault);
    if (!pool || pool->type != &vim_managed_ResourcePool)
        return vh_fault_not_found(&c->fault, q->pool);
    if (q->host.value && vh_find(c->h, c->s, q->host) != c->h->host)
        return vh_fault_not_found(&c->fault, q->host);
    if (!vh_vm_check_name(c->h, q->config->name, NULL, &c->fault))
        return false;
    struct vh_job *j = vh_task_new(c, c->o, false, run_create);
    struct create *t = ARENA_NEW(&j->a, struct create);
    /* Taken under the same lock as the check: two creations of one name cannot both pass. */
    t->name = vh_name_take(c->h, q->config->name);
    snprintf(t->id, sizeof t->id, "%llu", (unsigned long long)vh_next(c->h));
    t->pool = arena_strdup(&j->a, pool->id);
    j->data = t;
    j->publish = publish_create;
    j->rollback = undo_create;
    vh_task_go(c, j);
    return true;
}

/* --- destroy ---------------------------------------------------------------------------------- */

static bool still_on(struct vh_fault *f)
{
    struct vim_InvalidPowerState *d = VH_FAULT(f, InvalidPowerState, NULL);
    d->requestedState = vim_VirtualMachinePowerState_poweredOff;
    d->existingState = vim_VirtualMachinePowerState_poweredOn;
    return false;
}

/* vSphere's trap: every disk that is attached goes with the VM, wherever it lies.  A disk that is
 * the parent of others stays. */
static bool doom_disks(struct vh_job *j, const struct vh_conf *c)
{
    struct vim_VirtualDisk *d;
    for (size_t i = 0; (d = vh_disk_at(c, i)); i++) {
        struct vh_path p;
        if (!vh_disk_path(j->h, d, &p) || !vh_file_exists(&p) || vh_disk_is_parent(j->h, &p))
            continue;
        if (vh_held_below(j->h, &p))
            return vh_fault_file(&j->fault, &vim_type_FileLocked, vh_path_text(&j->a, &p));
        vh_disk_del(j->h, &j->batch, &p);
        vh_job_dooms(j, &p);
    }
    return true;
}

/* Its own files: the .vmx, and what its serial ports wrote into its folder. */
static void doom_files(struct vh_job *j, const struct vh_conf *c)
{
    const struct vim_VirtualHardware *hw = c->info->hardware;
    struct vh_path p, parent;
    if (!vh_vm_dir(j->h, c, &j->tidy))
        return;
    if (vh_path_parse(j->h, c->info->files->vmPathName, &p, &j->fault))
        vh_job_dooms(j, &p);
    for (size_t i = 0; i < hw->device.n; i++) {
        const struct vim_VirtualDeviceFileBackingInfo *b =
            VIM_CAST(VirtualSerialPortFileBackingInfo, hw->device.v[i]->backing)
                ? VIM_CAST(VirtualDeviceFileBackingInfo, hw->device.v[i]->backing)
                : NULL;
        if (!b || !vh_path_parse(j->h, b->fileName, &p, &j->fault))
            continue;
        vh_path_parent(&p, &parent);
        if (vh_path_eq(&parent, &j->tidy))
            vh_job_dooms(j, &p);
    }
    if (!*j->tidy.rel)
        j->tidy.ds = NULL;
}

static void publish_destroy(struct vh_job *j)
{
    for (size_t i = 0; i < j->dooms.n; i++)
        vh_disk_forget(j->h, &j->dooms.v[i]);
    j->lock = NULL;
    vh_vm_remove(j->h, vh_vm_of(j->o));
}

static bool run_destroy(struct vh_job *j)
{
    struct vh_vm *vm = vh_vm_of(j->o);
    mutex_lock(&j->h->lock);
    bool on = vm->on, good = !on && doom_disks(j, vm->conf);
    if (good)
        doom_files(j, vm->conf);
    vh_vm_del(&j->batch, vm->obj.id);
    mutex_unlock(&j->h->lock);
    j->publish = publish_destroy;
    return on ? still_on(&j->fault) : good;
}

bool vh_entity_destroy(struct vh_call *c)
{
    if (c->o->type == &vim_managed_VirtualMachine)
        return vh_task_start(c, c->o, true, run_destroy);
    if (c->o->type == &vim_managed_ResourcePool)
        return vh_pool_destroy(c);
    return vh_fault_unsupported(&c->fault);
}

/* Without a task, so its record is committed under the lock, as a pool's. */
bool vh_vm_unregister(struct vh_call *c)
{
    AUTO_BATCH struct state_batch batch = {0};
    struct vh_vm *vm = vh_vm_of(c->o);
    struct vic_err err;
    if (vh_task_busy(c->h, c->o, &c->fault))
        return false;
    if (vm->on)
        return still_on(&c->fault);
    vh_vm_del(&batch, vm->obj.id);
    if (!state_commit(c->h->state, &batch, true, &err))
        return vh_fault_err(&c->fault, NULL, &err);
    vh_vm_remove(c->h, vm);
    return true;
}
