/* The update stream against govmomi's simulator: everything is reported once, then changes, tasks
 * that end and tasks that are unknown, and all of it again after the session was lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sync.h"
#include "vsphere/vim.h"

#include "client.h"
#include "sim.h"

enum { WAIT_MS = 20000 };

static struct sim sims[SIM_KINDS];

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s", #call, err.msg);                                                    \
    } while (0)

/* What the callbacks have told. */
struct seen {
    struct vic_mutex lock;
    struct vic_cond changed;
    /* guarded: lock */
    unsigned vms, syncs, connects, losses;
    char vm[VSP_REF_SIZE], name[64], gone[VSP_REF_SIZE]; /* of the last */
    size_t disks;
    enum vsp_power power;
    char task[VSP_REF_SIZE], result[VSP_REF_SIZE];
    enum vsp_task_state state;
    enum vic_code code;
};

static void on_vm(void *arg, const struct vsp_vm *vm)
{
    struct seen *s = arg;
    mutex_lock(&s->lock);
    s->vms++;
    snprintf(s->vm, sizeof s->vm, "%s", vm->ref);
    snprintf(s->name, sizeof s->name, "%s", vm->name ? vm->name : "");
    s->disks = vm->disk_count;
    s->power = vm->power;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

static void on_vm_gone(void *arg, const char *ref)
{
    struct seen *s = arg;
    mutex_lock(&s->lock);
    snprintf(s->gone, sizeof s->gone, "%s", ref);
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

static void on_task(void *arg, const struct vsp_task *t)
{
    struct seen *s = arg;
    if (t->state < VSP_TASK_SUCCESS)
        return;
    mutex_lock(&s->lock);
    snprintf(s->task, sizeof s->task, "%s", t->ref);
    snprintf(s->result, sizeof s->result, "%s", t->result ? t->result : "");
    s->state = t->state;
    s->code = t->err.code;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

static void on_state(void *arg, bool connected, const struct vic_err *err)
{
    struct seen *s = arg;
    (void)err;
    mutex_lock(&s->lock);
    s->connects += connected;
    s->losses += !connected;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

static void on_sync(void *arg)
{
    struct seen *s = arg;
    mutex_lock(&s->lock);
    s->syncs++;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

/* Waits until 'cond' (an expression over s) holds. */
#define WAIT_UNTIL(s, cond)                                                                        \
    do {                                                                                           \
        int64_t end_ = clock_mono_ms(&vic_clock_real) + WAIT_MS;                                   \
        mutex_lock(&(s)->lock);                                                                    \
        while (!(cond) && clock_mono_ms(&vic_clock_real) < end_)                                   \
            cond_wait_ms(&(s)->changed, &(s)->lock, 1000);                                         \
        bool holds_ = (cond);                                                                      \
        mutex_unlock(&(s)->lock);                                                                  \
        if (!holds_)                                                                               \
            fail_msg("never: %s", #cond);                                                          \
    } while (0)

struct fixture {
    const struct sim *sim;
    struct vsp *v;
    struct vsp_place place;
    struct seen seen;
    struct vsp_watch *w;
};

static int set_up(void **state)
{
    static struct fixture f;
    static const struct vsp_watch_callbacks cb = {on_vm, on_vm_gone, on_task, on_state, on_sync};
    struct vic_err err = {0};
    const struct sim *sim = *state;
    struct vsp_options o = sim_options(sim);
    struct vsp_place_names names = sim_names(sim);
    f = (struct fixture){.sim = sim, .v = vsp_new(&o, &err)};
    mutex_init(&f.seen.lock);
    cond_init(&f.seen.changed);
    if (!f.v || !vsp_find_place(f.v, &names, &f.place, &err) ||
        !(f.w = vsp_watch_new(f.v, &f.place, &cb, &f.seen, &err))) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vsp_watch_free(f->w);
    vsp_free(f->v);
    cond_fini(&f->seen.changed);
    mutex_fini(&f->seen.lock);
    return 0;
}

static void create(struct fixture *f, const char *name, char task[VSP_REF_SIZE])
{
    struct vic_err err;
    struct vsp_vm_spec s = {.name = name, .cpus = 1, .memory_mb = 64};
    OK(vsp_vm_create(f->v, &f->place, &s, task, &err));
}

static void watch_create(struct fixture *f, const char *name, char vm[VSP_REF_SIZE])
{
    char task[VSP_REF_SIZE];
    create(f, name, task);
    vsp_watch_task(f->w, task);
    WAIT_UNTIL(&f->seen, strcmp(f->seen.task, task) == 0);
    assert_int_equal(f->seen.state, VSP_TASK_SUCCESS);
    snprintf(vm, VSP_REF_SIZE, "%s", f->seen.result);
    WAIT_UNTIL(&f->seen, strcmp(f->seen.vm, vm) == 0 && strcmp(f->seen.name, name) == 0);
}

static void watch_destroy(struct fixture *f, const char *vm)
{
    struct vic_err err;
    char task[VSP_REF_SIZE];
    OK(vsp_vm_destroy(f->v, vm, task, &err));
    vsp_watch_task(f->w, task);
    WAIT_UNTIL(&f->seen, strcmp(f->seen.task, task) == 0);
    WAIT_UNTIL(&f->seen, strcmp(f->seen.gone, vm) == 0);
}

static void test_life(void **state)
{
    struct fixture *f = *state;
    struct vic_err err;
    char vm[VSP_REF_SIZE], task[VSP_REF_SIZE];
    WAIT_UNTIL(&f->seen, f->seen.syncs == 1);
    assert_int_equal(f->seen.connects, 1);
    assert_true(f->sim->kind == SIM_HOST ? f->seen.vms == 0 : f->seen.vms >= 2);
    watch_create(f, "watched", vm);
    assert_int_equal(f->seen.power, VSP_POWERED_OFF);
    if (f->sim->kind != SIM_HOST) { /* there, it would boot */
        OK(vsp_vm_power_on(f->v, vm, task, &err));
        WAIT_UNTIL(&f->seen, f->seen.power == VSP_POWERED_ON && strcmp(f->seen.vm, vm) == 0);
    }
    /* a change of devices; of extraConfig the simulator tells nothing */
    char path[VSP_PATH_SIZE];
    snprintf(path, sizeof path, "[%s] watched/d.vmdk", f->place.datastore_name);
    struct vsp_disk_add disk = {
        .target = 0, .path = path, .create = true, .capacity_bytes = 1 << 20};
    OK(vsp_vm_reconfig(f->v, &f->place, vm, &(struct vsp_reconfig){.add = &disk, .add_count = 1},
                       task, &err));
    WAIT_UNTIL(&f->seen, f->seen.disks == 1 && strcmp(f->seen.vm, vm) == 0);
    if (f->sim->kind != SIM_HOST) {
        OK(vsp_vm_power_off(f->v, vm, task, &err));
        WAIT_UNTIL(&f->seen, f->seen.power == VSP_POWERED_OFF && strcmp(f->seen.vm, vm) == 0);
    }
    watch_destroy(f, vm);
    assert_int_equal(f->seen.losses, 0);
}

static void test_tasks(void **state)
{
    struct fixture *f = *state;
    struct vic_err err;
    char vm[VSP_REF_SIZE], other[VSP_REF_SIZE], task[VSP_REF_SIZE], nowhere[VSP_PATH_SIZE];
    snprintf(nowhere, sizeof nowhere, "[%s] nowhere/x.vmdk", f->place.datastore_name);
    vsp_watch_task(f->w, "Task:never-was"); /* perhaps before it is connected */
    WAIT_UNTIL(&f->seen, strcmp(f->seen.task, "Task:never-was") == 0);
    assert_int_equal(f->seen.state, VSP_TASK_GONE);
    WAIT_UNTIL(&f->seen, f->seen.syncs == 1);
    vsp_watch_task(f->w, "Task:nor-this");
    WAIT_UNTIL(&f->seen, strcmp(f->seen.task, "Task:nor-this") == 0);
    assert_int_equal(f->seen.state, VSP_TASK_GONE);
    watch_create(f, "twice", vm);
    create(f, "thrice", task);
    OK(vsp_task_wait(f->v, task, WAIT_MS, other, &err));
    vsp_watch_task(f->w, task); /* ended long ago */
    WAIT_UNTIL(&f->seen, strcmp(f->seen.task, task) == 0);
    assert_int_equal(f->seen.state, VSP_TASK_SUCCESS);
    OK(vsp_disk_delete(f->v, &f->place, nowhere, task, &err));
    vsp_watch_task(f->w, task);
    WAIT_UNTIL(&f->seen, strcmp(f->seen.task, task) == 0);
    assert_int_equal(f->seen.state, VSP_TASK_ERROR);
    assert_int_equal(f->seen.code, VIC_NOT_FOUND);
    watch_destroy(f, vm);
    watch_destroy(f, other);
}

/* Ends the client's session behind its back. */
static void end_session(struct vsp *v)
{
    AUTO_ARENA struct arena a = {0};
    struct vic_err err;
    const struct vim_ServiceContent *c;
    struct vim_Logout_response *r;
    OK(vsp_content(v, &c, &err));
    struct vim_Logout_request q = {.self = c->sessionManager};
    OK(VSP_CALL(v, Logout, &q, &a, r, &err));
}

static void test_lost_session(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err;
    struct vsp_vm *vms;
    size_t count;
    char vm[VSP_REF_SIZE], path[VSP_PATH_SIZE];
    WAIT_UNTIL(&f->seen, f->seen.syncs == 1);
    end_session(f->v);
    OK(vsp_vm_list(f->v, &f->place, &a, &vms, &count, &err)); /* logs in again */
    end_session(f->v);
    snprintf(path, sizeof path, "[%s] again.txt", f->place.datastore_name);
    OK(vsp_file_put(f->v, &f->place, path, SV("x"), &err)); /* so does HTTP */
    WAIT_UNTIL(&f->seen, f->seen.syncs >= 2 && f->seen.vms >= 2 * count);
    assert_true(f->seen.losses >= 1);
    watch_create(f, "after", vm);
    watch_destroy(f, vm);
}

int main(void)
{
#define ON(sim, name)                                                                              \
    {                                                                                              \
#name " on " #sim, name, set_up, tear_down, &sims[sim]                                     \
    }
#ifdef VIC_HOST_BIN
#define ALL(name) ON(SIM_ESX, name), ON(SIM_VCENTER, name), ON(SIM_HOST, name)
    const int kinds = SIM_KINDS;
#else
#define ALL(name) ON(SIM_ESX, name), ON(SIM_VCENTER, name)
    const int kinds = SIM_HOST;
#endif
    const struct CMUnitTest tests[] = {ALL(test_life), ALL(test_tasks), ALL(test_lost_session)};
    for (int i = 0; i < kinds; i++)
        sim_start(&sims[i], (enum sim_kind)i);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < kinds; i++)
        sim_stop(&sims[i]);
    return failed;
}
