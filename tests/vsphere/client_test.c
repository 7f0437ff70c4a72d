/* The client against govmomi's simulator, as a standalone ESX host and as a vCenter: sessions,
 * places, the life of a VM with its disks, files, tasks. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

#include "sim.h"

enum { WAIT_MS = 20000 };

static struct sim sims[SIM_KINDS];

struct fixture {
    const struct sim *sim;
    struct vsp *v;
    struct vsp_place place;
};

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s", #call, err.msg);                                                    \
    } while (0)

static int set_up(void **state)
{
    static struct fixture f;
    struct vic_err err = {0};
    const struct sim *sim = *state;
    struct vsp_options o = sim_options(sim);
    struct vsp_place_names names = sim_names(sim);
    f = (struct fixture){.sim = sim, .v = vsp_new(&o, &err)};
    if (!f.v || !vsp_find_place(f.v, &names, &f.place, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vsp_free(f->v);
    return 0;
}

static void wait_task(struct fixture *f, const char *task, char result[VSP_REF_SIZE])
{
    struct vic_err err;
    OK(vsp_task_wait(f->v, task, WAIT_MS, result, &err));
}

static void make_vm(struct fixture *f, const char *name, char vm[VSP_REF_SIZE])
{
    struct vic_err err;
    char task[VSP_REF_SIZE];
    static const struct vsp_kv extra[] = {{"vic.id", "c1"}, {"guestinfo.vic.key", "k&<>"}};
    char iso[VSP_PATH_SIZE], uuid[37];
    random_uuid(uuid);
    snprintf(iso, sizeof iso, "[%s] boot.iso", f->place.datastore_name);
    OK(vsp_file_put(f->v, &f->place, iso, SV("iso"), &err));
    struct vsp_vm_spec s = {.name = name,
                            .instance_uuid = uuid,
                            .cpus = 1,
                            .memory_mb = 512,
                            .iso = iso,
                            .mac = "00:50:56:00:00:11",
                            .annotation = "test",
                            .extra = extra,
                            .extra_count = 2};
    OK(vsp_vm_create(f->v, &f->place, &s, task, &err));
    wait_task(f, task, vm);
    assert_int_equal(strncmp(vm, "VirtualMachine:", 15), 0);
}

static void destroy_vm(struct fixture *f, const char *vm)
{
    struct vic_err err;
    char task[VSP_REF_SIZE];
    OK(vsp_vm_destroy(f->v, vm, task, &err));
    wait_task(f, task, NULL);
}

static void test_about(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    struct vsp_about about;
    struct vic_err err;
    OK(vsp_about(f->v, &a, &about, &err));
    assert_int_equal(about.is_vcenter, f->sim->kind == SIM_VCENTER);
    assert_non_null(strstr(about.name, "VMware"));
}

static void test_place(void **state)
{
    struct fixture *f = *state;
    struct vic_err err = {0};
    struct vsp_place p;
    struct vsp_place_names names = sim_names(f->sim);
    const char *datastore = f->sim->kind == SIM_HOST ? "datastore1" : "LocalDS_0";
    assert_string_equal(f->place.datastore_name, datastore);
    assert_string_equal(f->place.network_name, "VM Network");
    assert_string_equal(f->place.datacenter_name,
                        f->sim->kind == SIM_VCENTER ? "DC0" : "ha-datacenter");
    names.datastore = "elsewhere";
    assert_false(vsp_find_place(f->v, &names, &p, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    assert_non_null(strstr(err.msg, datastore));
    names = sim_names(f->sim);
    names.pool = "nowhere";
    assert_false(vsp_find_place(f->v, &names, &p, &err));
    if (f->sim->kind != SIM_VCENTER)
        return;
    names = (struct vsp_place_names){.network = "VM Network"};
    assert_false(vsp_find_place(f->v, &names, &p, &err)); /* cluster or host? */
    assert_int_equal(err.code, VIC_INVALID);
    names.compute = "/DC0/host/DC0_C0";
    names.network = "DC0_DVPG0";
    OK(vsp_find_place(f->v, &names, &p, &err));
    assert_int_equal(strncmp(p.network, "DistributedVirtualPortgroup:", 28), 0);
}

static void test_vm_life(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err;
    struct vsp_vm vm;
    char ref[VSP_REF_SIZE], task[VSP_REF_SIZE];
    make_vm(f, "life", ref);
    OK(vsp_vm_read(f->v, ref, &a, &vm, &err));
    assert_string_equal(vm.name, "life");
    assert_string_equal(vm.ref, ref);
    assert_int_equal(strlen(vm.instance_uuid), 36);
    assert_int_equal(vm.power, VSP_POWERED_OFF);
    assert_true(vm.connected);
    assert_string_equal(vsp_vm_extra(&vm, "vic.id"), "c1");
    assert_string_equal(vsp_vm_extra(&vm, "guestinfo.vic.key"), "k&<>");
    assert_null(vsp_vm_extra(&vm, "disk.EnableUUID"));
    assert_string_equal(vm.mac, "00:50:56:00:00:11");
    assert_int_equal(vm.disk_count, 0);
    OK(vsp_vm_power_on(f->v, ref, task, &err));
    wait_task(f, task, NULL);
    OK(vsp_vm_read(f->v, ref, &a, &vm, &err));
    assert_int_equal(vm.power, VSP_POWERED_ON);
    OK(vsp_vm_power_on(f->v, ref, task, &err));
    assert_false(vsp_task_wait(f->v, task, WAIT_MS, NULL, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    OK(vsp_vm_power_off(f->v, ref, task, &err));
    wait_task(f, task, NULL);
    destroy_vm(f, ref);
    assert_false(vsp_vm_read(f->v, ref, &a, &vm, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    assert_false(vsp_vm_power_on(f->v, ref, task, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
}

static const struct vsp_disk *disk_at(const struct vsp_vm *vm, unsigned target)
{
    for (size_t i = 0; i < vm->disk_count; i++)
        if (vm->disks[i].target == target)
            return &vm->disks[i];
    return NULL;
}

static void reconfigure(struct fixture *f, const char *vm, const struct vsp_reconfig *r,
                        struct arena *a, struct vsp_vm *now)
{
    struct vic_err err;
    char task[VSP_REF_SIZE];
    OK(vsp_vm_reconfig(f->v, &f->place, vm, r, task, &err));
    wait_task(f, task, NULL);
    OK(vsp_vm_read(f->v, vm, a, now, &err));
}

static void test_disks(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err;
    struct vsp_vm vm;
    char ref[VSP_REF_SIZE], task[VSP_REF_SIZE];
    const char *folder = arena_printf(&a, "[%s] vch/disks", f->place.datastore_name);
    OK(vsp_mkdir(f->v, &f->place, folder, &err));
    OK(vsp_mkdir(f->v, &f->place, folder, &err)); /* is there already */
    const char *base = arena_printf(&a, "%s/base.vmdk", folder);
    const char *child = arena_printf(&a, "%s/child.vmdk", folder);
    make_vm(f, "disks", ref);
    struct vsp_disk_add add[2] = {
        {.target = 1, .path = base, .create = true, .capacity_bytes = 32 << 20},
        {.target = 2, .path = child, .parent = base, .create = true}};
    reconfigure(f, ref, &(struct vsp_reconfig){.add = add, .add_count = 1}, &a, &vm);
    assert_int_equal(vm.disk_count, 1);
    assert_string_equal(disk_at(&vm, 1)->path, base);
    assert_false(vsp_vm_reconfig(f->v, &f->place, ref,
                                 &(struct vsp_reconfig){.add = add, .add_count = 1}, task, &err));
    assert_int_equal(err.code, VIC_CONFLICT); /* the target is taken */
    struct vsp_kv extra = {"vic.run", "7"};
    reconfigure(
        f, ref,
        &(struct vsp_reconfig){
            .add = add + 1, .add_count = 1, .extra = &extra, .extra_count = 1, .name = "renamed"},
        &a, &vm);
    assert_int_equal(vm.disk_count, 2);
    assert_string_equal(disk_at(&vm, 2)->parent, base);
    assert_string_equal(vm.name, "renamed");
    assert_string_equal(vsp_vm_extra(&vm, "vic.run"), "7");
    const unsigned both[] = {1, 2, 3};
    reconfigure(f, ref, &(struct vsp_reconfig){.remove_targets = both, .remove_count = 3}, &a, &vm);
    assert_int_equal(vm.disk_count, 0);
    destroy_vm(f, ref);
    const char **names;
    size_t count;
    OK(vsp_file_list(f->v, &f->place, folder, &a, &names, &count, &err));
    assert_true(count >= 2); /* the files stay */
    OK(vsp_disk_delete(f->v, &f->place, child, task, &err));
    wait_task(f, task, NULL);
    OK(vsp_disk_delete(f->v, &f->place, child, task, &err));
    assert_false(vsp_task_wait(f->v, task, WAIT_MS, NULL, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
}

static void test_files(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf got = {0};
    struct vic_err err;
    char task[VSP_REF_SIZE];
    const char *ds = f->place.datastore_name;
    const char *folder = arena_printf(&a, "[%s] files", ds);
    const char *one = arena_printf(&a, "%s/one two&.json", folder);
    const char *two = arena_printf(&a, "%s/two.json", folder);
    OK(vsp_mkdir(f->v, &f->place, folder, &err));
    OK(vsp_file_put(f->v, &f->place, one, SV("{\"a\":1}"), &err));
    OK(vsp_file_get(f->v, &f->place, one, 100, &got, &err));
    assert_string_equal(buf_str(&got), "{\"a\":1}");
    assert_false(vsp_file_get(f->v, &f->place, one, 3, &got, &err));
    assert_int_equal(err.code, VIC_TOO_LARGE);
    assert_false(vsp_file_get(f->v, &f->place, two, 100, &got, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    assert_false(vsp_file_get(f->v, &f->place, "nonsense", 100, &got, &err));
    assert_int_equal(err.code, VIC_INVALID);
    OK(vsp_file_move(f->v, &f->place, one, two, task, &err));
    wait_task(f, task, NULL);
    char name[] = "/tmp/vic-upload-XXXXXX";
    AUTO_CLOSE int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    assert_int_equal(ftruncate(fd, 3 << 20), 0);
    assert_int_equal(pwrite(fd, "end", 3, (3 << 20) - 3), 3);
    OK(vsp_file_put_fd(f->v, &f->place, one, fd, 3 << 20, &err));
    OK(vsp_file_get(f->v, &f->place, one, 4 << 20, &got, &err));
    assert_int_equal(got.len, 3 << 20);
    assert_memory_equal(got.data + got.len - 3, "end", 3);
    assert_false(vsp_file_put_fd(f->v, &f->place, one, fd, 4 << 20, &err)); /* announced too much */
    const char **names;
    size_t count, seen = 0;
    OK(vsp_file_list(f->v, &f->place, folder, &a, &names, &count, &err));
    for (size_t i = 0; i < count; i++)
        seen += !strcmp(names[i], "two.json") || !strcmp(names[i], "one two&.json");
    assert_int_equal(seen, 2);
    OK(vsp_file_delete(f->v, &f->place, two, task, &err));
    wait_task(f, task, NULL);
    assert_false(vsp_file_list(f->v, &f->place, arena_printf(&a, "[%s] nothing", ds), &a, &names,
                               &count, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
}

static void test_list(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err;
    struct vsp_vm *vms;
    size_t before, after, running;
    char ref[VSP_REF_SIZE];
    OK(vsp_vm_list(f->v, &f->place, &a, &vms, &before, &err));
    make_vm(f, "listed", ref);
    OK(vsp_vm_list(f->v, &f->place, &a, &vms, &after, &err));
    assert_int_equal(after, before + 1);
    size_t found = 0;
    for (size_t i = 0; i < after; i++)
        found += strcmp(vms[i].ref, ref) == 0 && strcmp(vms[i].name, "listed") == 0;
    assert_int_equal(found, 1);
    OK(vsp_tasks_running(f->v, NULL, &running, &err));
    assert_int_equal(running, 0);
    destroy_vm(f, ref);
}

static void test_task(void **state)
{
    struct fixture *f = *state;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err;
    struct vsp_task t;
    OK(vsp_task_read(f->v, "Task:no-such-task", &a, &t, &err));
    assert_int_equal(t.state, VSP_TASK_GONE);
    assert_false(vsp_task_read(f->v, "nonsense", &a, &t, &err));
    assert_int_equal(err.code, VIC_INVALID);
}

static void test_credentials(void **state)
{
    struct fixture *f = *state;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    struct vsp_about about;
    struct vsp_options o = sim_options(f->sim);
    o.password = "wrong";
    struct vsp *v = vsp_new(&o, &err);
    assert_false(vsp_connect(v, &err));
    assert_int_equal(err.code, VIC_UNAUTHORIZED);
    assert_false(vsp_about(v, &a, &about, &err)); /* not tried again by itself */
    assert_int_equal(err.code, VIC_UNAUTHORIZED);
    vsp_free(v);
}

static void count_requests(void *arg, const char *method, struct sv request, struct sv reply)
{
    (void)method, (void)request, (void)reply;
    ++*(int *)arg;
}

/* Nobody hears a password who is not the server that was named. */
static void test_thumbprint(void **state)
{
    struct fixture *f = *state;
    struct vic_err err;
    int sent = 0;
    struct vsp_options o = sim_options(f->sim);
    o.record = count_requests;
    o.hook_arg = &sent;
    o.thumbprint =
        "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:"
        "BB:CC:DD:EE:FF";
    struct vsp *v = vsp_new(&o, &err);
    assert_false(vsp_connect(v, &err));
    assert_int_equal(err.code, VIC_FORBIDDEN);
    assert_non_null(strstr(err.msg, f->sim->thumbprint));
    vsp_free(v);
    o.thumbprint = NULL; /* its certificate is signed by nobody */
    v = vsp_new(&o, &err);
    assert_false(vsp_connect(v, &err));
    assert_int_equal(err.code, VIC_FORBIDDEN);
    assert_non_null(strstr(err.msg, f->sim->thumbprint));
    vsp_free(v);
    assert_int_equal(sent, 0);
    o.thumbprint = "beef";
    assert_null(vsp_new(&o, &err));
    o.thumbprint = NULL;
    o.url = "http://127.0.0.1";
    assert_null(vsp_new(&o, &err));
    assert_int_equal(err.code, VIC_INVALID);
    o.url = "https://127.0.0.1:1";
    v = vsp_new(&o, &err);
    assert_false(vsp_connect(v, &err));
    assert_int_equal(err.code, VIC_UNAVAILABLE);
    vsp_free(v);
}

static bool break_reply(void *arg, const char *method, bool after)
{
    return !(after && arg && strcmp(method, arg) == 0);
}

static void test_lost_reply(void **state)
{
    struct fixture *f = *state;
    struct vic_err err;
    char method[] = "MakeDirectory";
    struct vsp_options o = sim_options(f->sim);
    o.gate = break_reply;
    o.hook_arg = method;
    struct vsp *v = vsp_new(&o, &err);
    char path[VSP_PATH_SIZE], below[VSP_PATH_SIZE];
    snprintf(path, sizeof path, "[%s] lost", f->place.datastore_name);
    snprintf(below, sizeof below, "[%s] lost/x", f->place.datastore_name);
    assert_false(vsp_mkdir(v, &f->place, path, &err));
    assert_int_equal(err.code, VIC_UNAVAILABLE);
    method[0] = 'm';
    OK(vsp_file_put(v, &f->place, below, SV(""), &err)); /* it was executed */
    vsp_free(v);
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
    const struct CMUnitTest tests[] = {
        ALL(test_about),
        ALL(test_place),
        ON(SIM_ESX, test_vm_life),
        ON(SIM_VCENTER, test_vm_life),
        ALL(test_disks),
        ALL(test_files),
        ALL(test_list),
        ALL(test_task),
        ALL(test_credentials),
        ALL(test_thumbprint),
        ALL(test_lost_reply),
    };
    for (int i = 0; i < kinds; i++)
        sim_start(&sims[i], (enum sim_kind)i);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < kinds; i++)
        sim_stop(&sims[i]);
    return failed;
}
