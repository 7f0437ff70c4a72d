/* The world: VMs, disks, files, and the thread that executes tasks.  See model.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model_priv.h"

int64_t model_pick(struct model *m, int64_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return below > 0 ? (int64_t)((m->random >> 33) % (uint64_t)(below + 1)) : 0;
}

void model_note(struct model *m, const char *fmt, ...)
{
    va_list ap;
    char text[512];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_addf(&m->violations, "%s\n", text);
}

void model_violation(struct model *m, const char *fmt, ...)
{
    va_list ap;
    char text[512];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    mutex_lock(&m->lock);
    model_note(m, "%s", text);
    mutex_unlock(&m->lock);
}

/* --- finding ------------------------------------------------------------------------------------
 */
struct mvm *model_find_vm(struct model *m, const char *ref)
{
    struct mvm *vm;
    LIST_FOREACH (vm, &m->vms, link) {
        if (strcmp(vm->ref, ref) == 0)
            return vm;
    }
    return NULL;
}

const char *model_extra(const struct mvm *vm, const char *key)
{
    for (size_t i = 0; i < vm->extra_count; i++)
        if (strcmp(vm->key[i], key) == 0)
            return vm->value[i];
    return "";
}

struct mvm *model_find_id(struct model *m, const char *vm_id)
{
    struct mvm *vm;
    LIST_FOREACH (vm, &m->vms, link) {
        if (strcmp(model_extra(vm, "vic.vm"), vm_id) == 0)
            return vm;
    }
    return NULL;
}

struct mdisk *model_find_disk(struct model *m, const char *path)
{
    struct mdisk *d;
    LIST_FOREACH (d, &m->disks, link) {
        if (strcmp(d->path, path) == 0)
            return d;
    }
    return NULL;
}

struct mtask *model_find_task(struct model *m, const char *ref)
{
    struct mtask *t;
    LIST_FOREACH (t, &m->tasks, link) {
        if (strcmp(t->ref, ref) == 0)
            return t;
    }
    return NULL;
}

struct mfile *model_find_file(struct model *m, const char *path)
{
    struct mfile *f;
    LIST_FOREACH (f, &m->files, link) {
        if (strcmp(f->path, path) == 0)
            return f;
    }
    return NULL;
}

void model_file_free(struct mfile *f)
{
    LIST_REMOVE(f, link);
    buf_fini(&f->bytes);
    free(f);
}

static struct mdisk *add_disk(struct model *m, const char *path, const char *parent,
                              int64_t capacity)
{
    struct mdisk *d = xcalloc(1, sizeof *d);
    snprintf(d->path, sizeof d->path, "%s", path);
    snprintf(d->parent, sizeof d->parent, "%s", parent);
    d->capacity = capacity;
    LIST_INSERT_HEAD(&m->disks, d, link);
    return d;
}

static void drop_disk(struct mdisk *d)
{
    LIST_REMOVE(d, link);
    free(d);
}

static const struct mdisk *child_of(struct model *m, const char *path)
{
    const struct mdisk *d;
    LIST_FOREACH (d, &m->disks, link) {
        if (strcmp(d->parent, path) == 0)
            return d;
    }
    return NULL;
}

/* --- tasks --------------------------------------------------------------------------------------
 */
struct mtask *model_task(struct model *m, enum mtask_kind kind, const char *vm)
{
    struct mtask *t = xcalloc(1, sizeof *t);
    snprintf(t->ref, sizeof t->ref, "Task:task-%u", ++m->next_ref);
    snprintf(t->vm, sizeof t->vm, "%s", vm);
    t->kind = kind;
    t->state = VSP_TASK_RUNNING;
    t->due_ms = clock_mono_ms(&vic_clock_real) + model_pick(m, m->o.task_ms);
    LIST_INSERT_HEAD(&m->tasks, t, link);
    cond_broadcast(&m->wake);
    return t;
}

static bool do_create(struct model *m, struct mtask *t)
{
    struct mvm *other;
    LIST_FOREACH (other, &m->vms, link) {
        if (strcmp(other->name, t->made->name) == 0)
            return vic_fail(&t->err, VIC_CONFLICT, 0, "the name %s is taken", other->name);
    }
    LIST_INSERT_HEAD(&m->vms, t->made, link);
    snprintf(t->result, sizeof t->result, "%s", t->made->ref);
    watch_vm(m, t->made->ref);
    t->made = NULL;
    size_t count = 0;
    LIST_FOREACH (other, &m->vms, link) {
        count++;
    }
    m->peak_vms = count > m->peak_vms ? count : m->peak_vms;
    return true;
}

/* A guest's thread may need the lock to end. */
static void end_guest(struct model *m, struct mvm *vm)
{
    struct model_guest *g = TAKE(vm->guest);
    mutex_unlock(&m->lock);
    if (g)
        m->o.guest_stop(g);
    mutex_lock(&m->lock);
}

static bool do_on(struct model *m, struct mtask *t, struct mvm *vm)
{
    if (vm->power == VSP_POWERED_ON)
        return vic_fail(&t->err, VIC_CONFLICT, 0, "it is powered on");
    end_guest(m, vm);
    vm->power = VSP_POWERED_ON;
    vm->boots++;
    struct model_boot b = {vm->ref, model_extra(vm, "vic.vm"), model_extra(vm, "guestinfo.vic.key"),
                           vm->boots};
    if (m->o.guest_start)
        vm->guest = m->o.guest_start(m->o.arg, m, &b);
    watch_vm(m, vm->ref);
    return true;
}

static bool do_off(struct model *m, struct mtask *t, struct mvm *vm)
{
    if (vm->power != VSP_POWERED_ON)
        return vic_fail(&t->err, VIC_CONFLICT, 0, "it is powered off");
    vm->power = VSP_POWERED_OFF;
    end_guest(m, vm);
    watch_vm(m, vm->ref);
    return true;
}

static bool do_destroy(struct model *m, struct mtask *t, struct mvm *vm)
{
    if (vm->power == VSP_POWERED_ON)
        return vic_fail(&t->err, VIC_CONFLICT, 0, "it is powered on");
    for (size_t i = 0; i < TARGETS; i++) {
        if (!vm->disks[i])
            continue;
        model_note(m, "Destroy of %s deleted the disk %s", vm->name, vm->disks[i]->path);
        drop_disk(vm->disks[i]);
        vm->disks[i] = NULL;
    }
    end_guest(m, vm);
    LIST_REMOVE(vm, link);
    watch_vm(m, vm->ref);
    free(vm);
    return true;
}

static bool make_child(struct model *m, struct mtask *t, struct mdisk **out)
{
    const struct mdisk *parent = t->parent[0] ? model_find_disk(m, t->parent) : NULL;
    if (model_find_disk(m, t->path))
        return vic_fail(&t->err, VIC_CONFLICT, 0, "the file %s exists", t->path);
    if (t->parent[0] && !parent)
        return vic_fail(&t->err, VIC_NOT_FOUND, 0, "no parent %s", t->parent);
    if (parent && (parent->half_written || !parent->formatted))
        model_note(m, "%s is built upon %s, which is not whole", t->path, t->parent);
    if (parent && parent->vm)
        model_note(m, "%s is built upon %s, which is attached", t->path, t->parent);
    *out = add_disk(m, t->path, t->parent, parent ? parent->capacity : t->capacity);
    (*out)->formatted = parent != NULL;
    snprintf((*out)->uuid, sizeof(*out)->uuid, "%s", t->uuid);
    return true;
}

static bool do_reconfig(struct model *m, struct mtask *t, struct mvm *vm)
{
    for (size_t i = 0; i < t->remove_count; i++) {
        unsigned target = t->remove[i];
        if (target >= TARGETS || !vm->disks[target])
            return vic_fail(&t->err, VIC_NOT_FOUND, 0, "no device at target %u", target);
        vm->disks[target]->vm = NULL;
        vm->disks[target] = NULL;
    }
    if (t->add) {
        struct mdisk *d = model_find_disk(m, t->path);
        if (t->target >= TARGETS || t->target == 7 || vm->disks[t->target]) {
            model_note(m, "target %u of %s was to be used twice", t->target, vm->name);
            return vic_fail(&t->err, VIC_INVALID, 0, "target %u", t->target);
        }
        if (t->create && !make_child(m, t, &d))
            return false;
        if (!d)
            return vic_fail(&t->err, VIC_NOT_FOUND, 0, "no file %s", t->path);
        if (d->vm) {
            model_note(m, "%s was to be on %s and on %s", d->path, d->vm->name, vm->name);
            return vic_fail(&t->err, VIC_BUSY, 0, "%s is locked", d->path);
        }
        d->vm = vm;
        vm->disks[t->target] = d;
    }
    watch_vm(m, vm->ref);
    return true;
}

static bool do_disk_delete(struct model *m, struct mtask *t)
{
    struct mdisk *d = model_find_disk(m, t->path);
    if (!d)
        return vic_fail(&t->err, VIC_NOT_FOUND, 0, "no file %s", t->path);
    if (d->vm) {
        model_note(m, "%s was to be deleted while it is attached", d->path);
        return vic_fail(&t->err, VIC_BUSY, 0, "%s is locked", d->path);
    }
    const struct mdisk *child = child_of(m, d->path);
    if (child)
        model_note(m, "%s was deleted under its child %s", d->path, child->path);
    drop_disk(d);
    return true;
}

static bool do_file(struct model *m, struct mtask *t)
{
    struct mfile *f = model_find_file(m, t->path);
    if (!f)
        return vic_fail(&t->err, VIC_NOT_FOUND, 0, "no file %s", t->path);
    if (t->to[0])
        snprintf(f->path, sizeof f->path, "%s", t->to);
    else
        model_file_free(f);
    return true;
}

static bool execute(struct model *m, struct mtask *t)
{
    struct mvm *vm = t->vm[0] ? model_find_vm(m, t->vm) : NULL;
    if (t->fails)
        return vic_fail(&t->err, t->fails, 0, "a fault of the test's");
    if (t->vm[0] && !vm)
        return vic_fail(&t->err, VIC_NOT_FOUND, 0, "the VM is gone");
    switch (t->kind) {
    case T_CREATE:
        return do_create(m, t);
    case T_ON:
        return do_on(m, t, vm);
    case T_OFF:
        return do_off(m, t, vm);
    case T_RESET:
        return do_off(m, t, vm) && do_on(m, t, vm);
    case T_DESTROY:
        return do_destroy(m, t, vm);
    case T_RECONFIG:
        return do_reconfig(m, t, vm);
    case T_DISK_DELETE:
        return do_disk_delete(m, t);
    case T_FILE:
        return do_file(m, t);
    }
    return false;
}

static struct mtask *due_task(struct model *m, int64_t *wait_ms)
{
    struct mtask *t, *first = NULL;
    LIST_FOREACH (t, &m->tasks, link) {
        if (t->state == VSP_TASK_RUNNING && (!first || t->due_ms < first->due_ms))
            first = t;
    }
    *wait_ms = first ? first->due_ms - clock_mono_ms(&vic_clock_real) : 1000;
    return first && *wait_ms <= 0 ? first : NULL;
}

static void *model_main(void *arg)
{
    struct model *m = arg;
    mutex_lock(&m->lock);
    while (!m->stop) {
        int64_t wait_ms;
        struct mtask *t = due_task(m, &wait_ms);
        if (!t) {
            cond_wait_ms(&m->wake, &m->lock, wait_ms);
            continue;
        }
        bool ok = execute(m, t); /* tasks are only removed by model_free */
        t->state = t->vanishes ? VSP_TASK_GONE : ok ? VSP_TASK_SUCCESS : VSP_TASK_ERROR;
        watch_task(m, t->ref);
    }
    mutex_unlock(&m->lock);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------------
 */
struct model *model_new(const struct model_options *o)
{
    struct model *m = xcalloc(1, sizeof *m);
    m->o = *o;
    m->up = true;
    m->random = o->seed;
    LIST_INIT(&m->vms);
    LIST_INIT(&m->disks);
    LIST_INIT(&m->tasks);
    LIST_INIT(&m->files);
    LIST_INIT(&m->runs);
    LIST_INIT(&m->watches);
    mutex_init(&m->lock);
    cond_init(&m->wake);
    if (pthread_create(&m->thread, NULL, model_main, m) != 0)
        abort();
    return m;
}

static void free_lists(struct model *m)
{
    while (!LIST_EMPTY(&m->disks))
        drop_disk(LIST_FIRST(&m->disks));
    while (!LIST_EMPTY(&m->files))
        model_file_free(LIST_FIRST(&m->files));
    for (struct mtask *t; (t = LIST_FIRST(&m->tasks));) {
        LIST_REMOVE(t, link);
        free(t->made);
        free(t);
    }
    for (struct mrun *r; (r = LIST_FIRST(&m->runs));) {
        LIST_REMOVE(r, link);
        free(r);
    }
}

void model_free(struct model *m)
{
    mutex_lock(&m->lock);
    m->stop = true;
    cond_broadcast(&m->wake);
    mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    mutex_lock(&m->lock);
    for (struct mvm *vm; (vm = LIST_FIRST(&m->vms));) {
        end_guest(m, vm);
        LIST_REMOVE(vm, link);
        free(vm);
    }
    free_lists(m);
    mutex_unlock(&m->lock);
    buf_fini(&m->violations);
    cond_fini(&m->wake);
    mutex_fini(&m->lock);
    free(m);
}

/* --- trouble ------------------------------------------------------------------------------------
 */
void model_fault(struct model *m, const char *method, enum model_fault_kind kind,
                 enum vic_code code, unsigned skip, unsigned count)
{
    mutex_lock(&m->lock);
    for (size_t i = 0; i < MAX_FAULTS; i++) {
        if (m->faults[i].count)
            continue;
        m->faults[i] = (struct mfault){method, kind, code, skip, count};
        break;
    }
    mutex_unlock(&m->lock);
}

void model_calm(struct model *m)
{
    mutex_lock(&m->lock);
    memset(m->faults, 0, sizeof m->faults);
    mutex_unlock(&m->lock);
}

void model_connection(struct model *m, bool up)
{
    mutex_lock(&m->lock);
    if (m->up != up)
        watch_connection(m, up);
    m->up = up;
    mutex_unlock(&m->lock);
}

static void order(struct model *m, const char *vm_id, enum mtask_kind kind)
{
    mutex_lock(&m->lock);
    const struct mvm *vm = model_find_id(m, vm_id);
    if (vm)
        model_task(m, kind, vm->ref);
    mutex_unlock(&m->lock);
}

void model_power_off(struct model *m, const char *vm_id)
{
    order(m, vm_id, T_OFF);
}

void model_reset(struct model *m, const char *vm_id)
{
    order(m, vm_id, T_RESET);
}

/* --- looking ------------------------------------------------------------------------------------
 */
char *model_violations(struct model *m)
{
    mutex_lock(&m->lock);
    char *text = m->violations.len ? xstrdup(buf_str(&m->violations)) : NULL;
    mutex_unlock(&m->lock);
    return text;
}

char *model_inventory(struct model *m)
{
    AUTO_BUF struct buf b = {0};
    const struct mvm *vm;
    const struct mdisk *d;
    const struct mtask *t;
    mutex_lock(&m->lock);
    LIST_FOREACH (vm, &m->vms, link) {
        buf_addf(&b, "vm %s (%s) power %d\n", vm->name, vm->ref, (int)vm->power);
    }
    LIST_FOREACH (d, &m->disks, link) {
        buf_addf(&b, "disk %s below %s on %s\n", d->path, d->parent, d->vm ? d->vm->name : "-");
    }
    LIST_FOREACH (t, &m->tasks, link) {
        if (t->state == VSP_TASK_RUNNING)
            buf_addf(&b, "task %s kind %d\n", t->ref, (int)t->kind);
    }
    mutex_unlock(&m->lock);
    return xstrdup(buf_str(&b));
}

size_t model_vms(struct model *m)
{
    size_t n = 0;
    const struct mvm *vm;
    mutex_lock(&m->lock);
    LIST_FOREACH (vm, &m->vms, link) {
        n++;
    }
    mutex_unlock(&m->lock);
    return n;
}

size_t model_vms_on(struct model *m)
{
    size_t n = 0;
    const struct mvm *vm;
    mutex_lock(&m->lock);
    LIST_FOREACH (vm, &m->vms, link) {
        n += vm->power == VSP_POWERED_ON;
    }
    mutex_unlock(&m->lock);
    return n;
}

size_t model_disks(struct model *m)
{
    size_t n = 0;
    const struct mdisk *d;
    mutex_lock(&m->lock);
    LIST_FOREACH (d, &m->disks, link) {
        n++;
    }
    mutex_unlock(&m->lock);
    return n;
}

size_t model_peak_vms(struct model *m)
{
    mutex_lock(&m->lock);
    size_t n = m->peak_vms;
    mutex_unlock(&m->lock);
    return n;
}

unsigned model_calls(struct model *m, const char *method)
{
    unsigned n = 0;
    mutex_lock(&m->lock);
    for (size_t i = 0; i < ARRAY_LEN(m->counts); i++)
        if (!method || strcmp(m->counts[i].method, method) == 0)
            n += m->counts[i].n;
    mutex_unlock(&m->lock);
    return n;
}

bool model_has_file(struct model *m, const char *path)
{
    mutex_lock(&m->lock);
    bool has = model_find_file(m, path) != NULL;
    mutex_unlock(&m->lock);
    return has;
}

void model_seed_disk(struct model *m, const char *path, const char *parent, int64_t capacity)
{
    mutex_lock(&m->lock);
    add_disk(m, path, parent, capacity)->formatted = true;
    mutex_unlock(&m->lock);
}

/* --- for guests ---------------------------------------------------------------------------------
 */
static struct mdisk *disk_at(struct model *m, const char *ref, unsigned target)
{
    const struct mvm *vm = model_find_vm(m, ref);
    return vm && target < TARGETS ? vm->disks[target] : NULL;
}

bool model_disk_journal(struct model *m, const char *ref, unsigned target,
                        struct model_journal *read, const struct model_journal *write)
{
    mutex_lock(&m->lock);
    struct mdisk *d = disk_at(m, ref, target);
    if (d && !d->formatted)
        model_note(m, "a guest mounts %s, which holds no file system", d->path);
    if (d && write)
        d->journal = *write;
    if (d && read)
        *read = d->journal;
    mutex_unlock(&m->lock);
    return d != NULL;
}

bool model_boot_run(struct model *m, const char *ref, unsigned *target, struct model_journal *read)
{
    bool found = false;
    mutex_lock(&m->lock);
    for (unsigned i = 0; i < TARGETS && !found; i++) {
        const struct mdisk *d = disk_at(m, ref, i);
        if (d && d->journal.phase != MODEL_RUN_NONE) {
            *target = i;
            *read = d->journal;
            found = true;
        }
    }
    mutex_unlock(&m->lock);
    return found;
}

static struct mrun *find_run(struct model *m, const char *container, uint64_t seq)
{
    struct mrun *r;
    LIST_FOREACH (r, &m->runs, link) {
        if (r->seq == seq && strcmp(r->container, container) == 0)
            return r;
    }
    return NULL;
}

void model_count_run(struct model *m, const char *container, uint64_t seq)
{
    mutex_lock(&m->lock);
    struct mrun *r = find_run(m, container, seq);
    if (!r) {
        r = xcalloc(1, sizeof *r);
        snprintf(r->container, sizeof r->container, "%s", container);
        r->seq = seq;
        LIST_INSERT_HEAD(&m->runs, r, link);
    }
    if (++r->starts > 1)
        model_note(m, "run %llu of %.12s was started %u times", (unsigned long long)seq, container,
                   r->starts);
    mutex_unlock(&m->lock);
}

unsigned model_runs(struct model *m, const char *container, uint64_t seq)
{
    mutex_lock(&m->lock);
    const struct mrun *r = find_run(m, container, seq);
    unsigned n = r ? r->starts : 0;
    mutex_unlock(&m->lock);
    return n;
}

bool model_disk_work(struct model *m, const char *ref, unsigned target, enum model_work work)
{
    mutex_lock(&m->lock);
    struct mdisk *d = disk_at(m, ref, target);
    const struct mdisk *child = d ? child_of(m, d->path) : NULL;
    if (child)
        model_note(m, "a worker writes to %s, which has the child %s", d->path, child->path);
    if (d && work == MODEL_FORMAT)
        d->formatted = true;
    else if (d)
        d->half_written = work == MODEL_APPLY_BEGIN;
    mutex_unlock(&m->lock);
    return d != NULL;
}

void model_console(struct model *m, const char *ref, const char *line)
{
    mutex_lock(&m->lock);
    const struct mvm *vm = model_find_vm(m, ref);
    struct mfile *f = vm && vm->console[0] ? model_find_file(m, vm->console) : NULL;
    if (vm && vm->console[0] && !f) {
        f = xcalloc(1, sizeof *f);
        snprintf(f->path, sizeof f->path, "%s", vm->console);
        LIST_INSERT_HEAD(&m->files, f, link);
    }
    if (f)
        buf_addf(&f->bytes, "%s\r\n", line);
    mutex_unlock(&m->lock);
}

void model_guest_off(struct model *m, const char *ref)
{
    mutex_lock(&m->lock);
    struct mvm *vm = model_find_vm(m, ref);
    if (vm && vm->power == VSP_POWERED_ON) {
        vm->power = VSP_POWERED_OFF;
        watch_vm(m, vm->ref);
    }
    mutex_unlock(&m->lock);
}
