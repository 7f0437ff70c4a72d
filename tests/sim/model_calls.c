/* The verbs of vsphere/vsphere.h on the model.
 *
 * Each call passes the gate and the faults on its way in and on its way out, as a SOAP exchange
 * would; between them it runs under the model's lock. */
#include <stdio.h>
#include <string.h>

#include "model_priv.h"

/* --- one call -----------------------------------------------------------------------------------
 */
struct call {
    struct vsp *v;
    const char *method;
    struct mfault fault; /* count 0 = none */
};

static void count_call(struct model *m, const char *method)
{
    for (size_t i = 0; i < ARRAY_LEN(m->counts); i++) {
        struct mcount *c = &m->counts[i];
        if (!c->method[0])
            snprintf(c->method, sizeof c->method, "%s", method);
        if (strcmp(c->method, method) == 0) {
            c->n++;
            return;
        }
    }
}

static void take_fault(struct model *m, struct call *c)
{
    for (size_t i = 0; i < MAX_FAULTS; i++) {
        struct mfault *f = &m->faults[i];
        if (!f->count || (f->method && strcmp(f->method, c->method) != 0))
            continue;
        if (f->skip) {
            f->skip--;
            continue;
        }
        c->fault = *f;
        f->count--;
        return;
    }
}

/* On success the model's lock is held, until leave(). */
static bool enter(struct vsp *v, const char *method, struct call *c, struct vic_err *err)
{
    struct model *m = v->m;
    *c = (struct call){.v = v, .method = method};
    if (v->gate && !v->gate(v->arg, method, false))
        return vic_fail(err, VIC_UNAVAILABLE, 0, "%s: the connection broke", method);
    mutex_lock(&m->lock);
    count_call(m, method);
    take_fault(m, c);
    bool up = m->up, faulty = c->fault.count > 0;
    enum model_fault_kind kind = c->fault.kind;
    if (up && !(faulty && (kind == MODEL_REFUSED || kind == MODEL_UNSENT)))
        return true;
    mutex_unlock(&m->lock);
    if (up && kind == MODEL_REFUSED)
        return vic_fail(err, c->fault.code, 0, "%s: refused by the test", method);
    return vic_fail(err, VIC_UNAVAILABLE, 0, "%s: vSphere cannot be reached", method);
}

static bool leave(struct call *c, bool ok, struct vic_err *err)
{
    mutex_unlock(&c->v->m->lock);
    bool lost = c->fault.count > 0 && c->fault.kind == MODEL_REPLY_LOST;
    if (c->v->gate && !c->v->gate(c->v->arg, c->method, true))
        lost = true;
    if (lost)
        return vic_fail(err, VIC_UNAVAILABLE, 0, "%s: the reply was lost", c->method);
    return ok;
}

static void apply_fault(const struct call *c, struct mtask *t)
{
    if (!c->fault.count)
        return;
    t->vanishes = c->fault.kind == MODEL_TASK_GONE;
    if (c->fault.kind == MODEL_TASK_FAILS)
        t->fails = c->fault.code;
}

static bool busy(struct model *m, const char *ref)
{
    const struct mtask *t;
    LIST_FOREACH (t, &m->tasks, link) {
        if (t->state == VSP_TASK_RUNNING && strcmp(t->vm, ref) == 0)
            return true;
    }
    return false;
}

/* A task on a VM that is there and has none. */
static bool begin(struct call *c, enum mtask_kind kind, const char *ref, struct mtask **out,
                  char task[VSP_REF_SIZE], struct vic_err *err)
{
    struct model *m = c->v->m;
    if (!model_find_vm(m, ref))
        return vic_fail(err, VIC_NOT_FOUND, 0, "%s: %s is gone", c->method, ref);
    if (busy(m, ref))
        return vic_fail(err, VIC_BUSY, 0, "%s: another task runs on %s", c->method, ref);
    *out = model_task(m, kind, ref);
    apply_fault(c, *out);
    snprintf(task, VSP_REF_SIZE, "%s", (*out)->ref);
    return true;
}

/* --- session, place -----------------------------------------------------------------------------
 */
struct vsp *model_session(struct model *m, bool (*gate)(void *arg, const char *method, bool after),
                          void *arg)
{
    struct vsp *v = xcalloc(1, sizeof *v);
    *v = (struct vsp){m, gate, arg};
    return v;
}

void vsp_free(struct vsp *v)
{
    free(v);
}

bool vsp_find_place(struct vsp *v, const struct vsp_place_names *names, struct vsp_place *out,
                    struct vic_err *err)
{
    static const struct vsp_place here = {
        .datacenter = "Datacenter:dc",
        .pool = "ResourcePool:pool",
        .folder = "Folder:vm",
        .datastore = "Datastore:ds",
        .network = "Network:net",
        .datacenter_name = "dc",
        .datastore_name = "ds",
        .network_name = "net",
    };
    struct call c;
    (void)names;
    if (!enter(v, "RetrievePropertiesEx", &c, err))
        return false;
    *out = here;
    return leave(&c, true, err);
}

/* --- VMs ----------------------------------------------------------------------------------------
 */
bool vsp_vm_create(struct vsp *v, const struct vsp_place *p, const struct vsp_vm_spec *s,
                   char task[VSP_REF_SIZE], struct vic_err *err)
{
    struct call c;
    struct model *m = v->m;
    (void)p;
    if (!enter(v, "CreateVM_Task", &c, err))
        return false;
    struct mvm *vm = xcalloc(1, sizeof *vm);
    snprintf(vm->ref, sizeof vm->ref, "VirtualMachine:vm-%u", ++m->next_ref);
    snprintf(vm->name, sizeof vm->name, "%s", s->name);
    snprintf(vm->uuid, sizeof vm->uuid, "%s", s->instance_uuid);
    snprintf(vm->console, sizeof vm->console, "%s", s->console ? s->console : "");
    vm->power = VSP_POWERED_OFF;
    for (size_t i = 0; i < s->extra_count && i < MAX_EXTRA; i++, vm->extra_count++) {
        snprintf(vm->key[i], sizeof vm->key[i], "%s", s->extra[i].key);
        snprintf(vm->value[i], sizeof vm->value[i], "%s", s->extra[i].value);
    }
    struct mtask *t = model_task(m, T_CREATE, "");
    t->made = vm;
    apply_fault(&c, t);
    snprintf(task, VSP_REF_SIZE, "%s", t->ref);
    return leave(&c, true, err);
}

static bool simple_task(struct vsp *v, const char *method, enum mtask_kind kind, const char *vm,
                        char task[VSP_REF_SIZE], struct vic_err *err)
{
    struct call c;
    struct mtask *t;
    return enter(v, method, &c, err) && leave(&c, begin(&c, kind, vm, &t, task, err), err);
}

bool vsp_vm_power_on(struct vsp *v, const char *vm, char task[VSP_REF_SIZE], struct vic_err *err)
{
    return simple_task(v, "PowerOnVM_Task", T_ON, vm, task, err);
}

bool vsp_vm_power_off(struct vsp *v, const char *vm, char task[VSP_REF_SIZE], struct vic_err *err)
{
    return simple_task(v, "PowerOffVM_Task", T_OFF, vm, task, err);
}

bool vsp_vm_destroy(struct vsp *v, const char *vm, char task[VSP_REF_SIZE], struct vic_err *err)
{
    return simple_task(v, "Destroy_Task", T_DESTROY, vm, task, err);
}

bool vsp_vm_reconfig(struct vsp *v, const struct vsp_place *p, const char *vm,
                     const struct vsp_reconfig *r, char task[VSP_REF_SIZE], struct vic_err *err)
{
    struct call c;
    struct mtask *t = NULL;
    (void)p;
    if (!enter(v, "ReconfigVM_Task", &c, err))
        return false;
    bool ok = begin(&c, T_RECONFIG, vm, &t, task, err);
    if (ok && r->add_count) {
        t->add = true;
        t->create = r->add->create;
        t->target = r->add->target;
        t->capacity = r->add->capacity_bytes;
        snprintf(t->path, sizeof t->path, "%s", r->add->path);
        snprintf(t->parent, sizeof t->parent, "%s", r->add->parent ? r->add->parent : "");
        snprintf(t->uuid, sizeof t->uuid, "%s", r->add->uuid ? r->add->uuid : "");
    }
    for (size_t i = 0; ok && i < r->remove_count && i < TARGETS; i++)
        t->remove[t->remove_count++] = r->remove_targets[i];
    return leave(&c, ok, err);
}

/* --- observed -----------------------------------------------------------------------------------
 */
const char *vsp_vm_extra(const struct vsp_vm *vm, const char *key)
{
    for (size_t i = 0; i < vm->extra_count; i++)
        if (strcmp(vm->extra[i].key, key) == 0)
            return vm->extra[i].value;
    return NULL;
}

void model_copy_vm(const struct mvm *vm, struct arena *a, struct vsp_vm *out)
{
    struct vsp_disk *disks = ARENA_ARRAY(a, struct vsp_disk, TARGETS);
    struct vsp_kv *extra = ARENA_ARRAY(a, struct vsp_kv, MAX_EXTRA);
    *out = (struct vsp_vm){
        .ref = arena_strdup(a, vm->ref),
        .name = arena_strdup(a, vm->name),
        .instance_uuid = arena_strdup(a, vm->uuid),
        .host = "HostSystem:host",
        .power = vm->power,
        .connected = true,
        .disks = disks,
        .extra = extra,
        .extra_count = vm->extra_count,
        .mac = "",
    };
    for (unsigned i = 0; i < TARGETS; i++) {
        const struct mdisk *d = vm->disks[i];
        if (d)
            disks[out->disk_count++] = (struct vsp_disk){
                .target = i,
                .key = (int32_t)(2000 + i),
                .path = arena_strdup(a, d->path),
                .uuid = arena_strdup(a, d->uuid),
                .parent = arena_strdup(a, d->parent),
            };
    }
    for (size_t i = 0; i < vm->extra_count; i++)
        extra[i] = (struct vsp_kv){arena_strdup(a, vm->key[i]), arena_strdup(a, vm->value[i])};
}

bool vsp_vm_read(struct vsp *v, const char *vm, struct arena *a, struct vsp_vm *out,
                 struct vic_err *err)
{
    struct call c;
    if (!enter(v, "RetrievePropertiesEx", &c, err))
        return false;
    const struct mvm *found = model_find_vm(v->m, vm);
    if (found)
        model_copy_vm(found, a, out);
    return leave(&c, found || vic_fail(err, VIC_NOT_FOUND, 0, "%s is gone", vm), err);
}

bool vsp_vm_list(struct vsp *v, const struct vsp_place *p, struct arena *a, struct vsp_vm **vms,
                 size_t *count, struct vic_err *err)
{
    struct call c;
    const struct mvm *vm;
    size_t n = 0, max = 0;
    (void)p;
    if (!enter(v, "RetrievePropertiesEx", &c, err))
        return false;
    LIST_FOREACH (vm, &v->m->vms, link) {
        max++;
    }
    struct vsp_vm *all = ARENA_ARRAY(a, struct vsp_vm, max + 1);
    LIST_FOREACH (vm, &v->m->vms, link) {
        model_copy_vm(vm, a, &all[n++]);
    }
    *vms = all;
    *count = n;
    return leave(&c, true, err);
}

bool vsp_tasks_running(struct vsp *v, const char *entity, size_t *count, struct vic_err *err)
{
    struct call c;
    const struct mtask *t;
    if (!enter(v, "RetrievePropertiesEx", &c, err))
        return false;
    *count = 0;
    LIST_FOREACH (t, &v->m->tasks, link) {
        *count += t->state == VSP_TASK_RUNNING && (!entity || strcmp(t->vm, entity) == 0);
    }
    return leave(&c, true, err);
}

/* --- files --------------------------------------------------------------------------------------
 */
bool vsp_mkdir(struct vsp *v, const struct vsp_place *p, const char *path, struct vic_err *err)
{
    struct call c;
    (void)p;
    (void)path;
    return enter(v, "MakeDirectory", &c, err) && leave(&c, true, err);
}

static bool file_task(struct vsp *v, const char *method, enum mtask_kind kind, const char *path,
                      char task[VSP_REF_SIZE], struct vic_err *err)
{
    struct call c;
    if (!enter(v, method, &c, err))
        return false;
    struct mtask *t = model_task(v->m, kind, "");
    apply_fault(&c, t);
    snprintf(t->path, sizeof t->path, "%s", path);
    snprintf(task, VSP_REF_SIZE, "%s", t->ref);
    return leave(&c, true, err);
}

bool vsp_disk_delete(struct vsp *v, const struct vsp_place *p, const char *path,
                     char task[VSP_REF_SIZE], struct vic_err *err)
{
    (void)p;
    return file_task(v, "DeleteVirtualDisk_Task", T_DISK_DELETE, path, task, err);
}

bool vsp_file_delete(struct vsp *v, const struct vsp_place *p, const char *path,
                     char task[VSP_REF_SIZE], struct vic_err *err)
{
    (void)p;
    return file_task(v, "DeleteDatastoreFile_Task", T_FILE, path, task, err);
}

bool vsp_file_put_fd(struct vsp *v, const struct vsp_place *p, const char *path, int fd,
                     uint64_t size, struct vic_err *err)
{
    struct call c;
    AUTO_BUF struct buf bytes = {0};
    (void)p;
    if (!buf_reserve(&bytes, size))
        return vic_fail(err, VIC_NO_MEMORY, 0, "put %s", path);
    for (ssize_t n; bytes.len < size; bytes.len += (size_t)n) {
        n = pread(fd, bytes.data + bytes.len, size - bytes.len, (off_t)bytes.len);
        if (n <= 0)
            return vic_fail(err, VIC_IO, 0, "put %s: it is shorter than %zu", path, (size_t)size);
    }
    if (!enter(v, "PUT", &c, err))
        return false;
    struct mfile *f = model_find_file(v->m, path);
    if (!f) {
        f = xcalloc(1, sizeof *f);
        snprintf(f->path, sizeof f->path, "%s", path);
        LIST_INSERT_HEAD(&v->m->files, f, link);
    }
    buf_reset(&f->bytes);
    buf_add_sv(&f->bytes, buf_sv(&bytes));
    return leave(&c, true, err);
}

bool vsp_file_get(struct vsp *v, const struct vsp_place *p, const char *path, size_t max,
                  struct buf *out, struct vic_err *err)
{
    struct call c;
    (void)p;
    if (!enter(v, "GET", &c, err))
        return false;
    const struct mfile *f = model_find_file(v->m, path);
    bool ok = f != NULL || vic_fail(err, VIC_NOT_FOUND, 0, "no file %s", path);
    if (ok && f->bytes.len > max)
        ok = vic_fail(err, VIC_TOO_LARGE, 0, "%s is too large", path);
    if (ok)
        buf_add_sv(out, buf_sv(&f->bytes));
    return leave(&c, ok, err);
}
