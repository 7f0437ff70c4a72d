/* Real VMs through vmm's door: lives, hot plug, confinement, a vic-host that is killed.
 *
 * "Killed" is meant: this program starts itself again as the owner of a VM (owner DIR NETNS ID) and
 * kills that one with SIGKILL.  Each test checks at its end that nothing is left: no process, no
 * tap, no file in run/.  Needs root, as vic-host does; one core of software emulation. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"

#include "vmm_fixture.h"

struct place {
    char dir[64], netns[32];
    struct fixture f; /* of the test that runs */
};

static void run(const char *const *argv, struct buf *out)
{
    struct vic_err err = {0};
    if (!proc_run(argv, (struct sv){0}, out, 20000, &err))
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    struct place *p = xcalloc(1, sizeof *p);
    snprintf(p->dir, sizeof p->dir, "/tmp/vmm-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->netns, sizeof p->netns, "vic-test-%d", (int)getpid());
    *state = p;
    return 0;
}

/* The pid in a VM's state file; 0 = none. */
static pid_t noted_pid(const struct place *p, const char *file)
{
    char text[64] = "";
    AUTO_FREE char *path = xasprintf("%s/run/%s", p->dir, file);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, text, sizeof text - 1) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

/* After a test that failed half-way: ends its VMs. */
static int clean_up(void **state)
{
    struct place *p = *state;
    if (p->f.m)
        fixture_close(&p->f);
    AUTO_FREE char *run_dir = xasprintf("%s/run", p->dir);
    DIR *dir = opendir(run_dir);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (sv_ends(sv_of(e->d_name), SV(".state")) && noted_pid(p, e->d_name) > 1)
            kill(noted_pid(p, e->d_name), SIGKILL);
    if (dir)
        closedir(dir);
    run((const char *const[]){"rm", "-rf", run_dir, NULL}, NULL);
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    run((const char *const[]){"ip", "netns", "del", p->netns, NULL}, NULL);
    run((const char *const[]){"rm", "-rf", p->dir, NULL}, NULL);
    free(p);
    return 0;
}

/* Nothing of the VM is left. */
static void check_no_leak(const struct place *p, const char *id)
{
    AUTO_BUF struct buf taps = {0};
    AUTO_FREE char *run_dir = xasprintf("%s/run", p->dir);
    assert_int_equal(qemu_count(id), 0);
    run((const char *const[]){"ip", "-n", p->netns, "-o", "link", "show", "type", "tun", NULL},
        &taps);
    assert_string_equal(buf_str(&taps), "");
    DIR *dir = opendir(run_dir);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "boot") != 0)
            fail_msg("left behind: %s", e->d_name);
    closedir(dir);
}

static void make_disk(struct fixture *f, const char *name, const char *parent, int64_t size)
{
    struct vic_err err = {0};
    AUTO_FREE char *file = xasprintf("%s/disks/%s", f->dir, name);
    AUTO_FREE char *from = parent ? xasprintf("%s/disks/%s", f->dir, parent) : NULL;
    if (!vmm_disk_create(f->m, file, from, size, &err))
        fail_msg("%s", err.msg);
}

static bool plug(struct fixture *f, const char *id, unsigned target, const char *name,
                 bool read_only, struct vic_err *err)
{
    AUTO_FREE char *file = xasprintf("%s/disks/%s", f->dir, name);
    struct vmm_disk d = {.target = target, .file = file, .read_only = read_only};
    return vmm_disk_add(f->m, id, &d, err);
}

/* The guest's way to a disk: an explicit scan, then the block device of that target. */
static char *guest_disk(struct fixture *f, const char *id, unsigned target, const char *then)
{
    char command[400];
    snprintf(
        command, sizeof command,
        "for h in /sys/class/scsi_host/*; do echo \"0 %u 0\" >$h/scan; done; "
        "n=0; until d=$(ls /sys/bus/scsi/devices/*:0:%u:0/block 2>/dev/null) && [ -b /dev/$d ] "
        "|| [ $n = 100 ]; do n=$((n+1)); usleep 20000; done; %s",
        target, target, then);
    return guest_run(f, id, command);
}

static void expect_disk(struct fixture *f, const char *id, unsigned target, const char *then,
                        const char *want)
{
    AUTO_FREE char *got = guest_disk(f, id, target, then);
    if (!strstr(got, want))
        fail_msg("disk %u: want \"%s\", got \"%s\"", target, want, got);
}

static void remove_disk(struct fixture *f, const char *id, unsigned target)
{
    struct vic_err err = {0};
    char command[128];
    snprintf(command, sizeof command, "echo 1 >/sys/bus/scsi/devices/0:0:%u:0/delete", target);
    AUTO_FREE char *out = guest_run(f, id, command);
    if (!vmm_disk_remove(f->m, id, target, &err))
        fail_msg("%s", err.msg);
}

/* ---- one life, from start to the power button ---- */

static void check_confined(pid_t pid)
{
    char value[128], want[128];
    struct passwd *nobody = getpwnam("nobody");
    proc_status(pid, "CapEff", value, sizeof value);
    assert_string_equal(value, "0000000000000000");
    proc_status(pid, "Seccomp", value, sizeof value);
    assert_string_equal(value, "2");
    proc_status(pid, "NoNewPrivs", value, sizeof value);
    assert_string_equal(value, "1");
    proc_status(pid, "Uid", value, sizeof value);
    snprintf(want, sizeof want, "%u\t%u\t%u\t%u", nobody->pw_uid, nobody->pw_uid, nobody->pw_uid,
             nobody->pw_uid);
    assert_string_equal(value, want);
}

static void hot_plug(struct fixture *f, const char *id, pid_t pid)
{
    struct vic_err err = {0};
    int64_t begin = clock_mono_ms(&vic_clock_real);
    unsigned before = fd_count(pid, "/disks/");
    assert_true(plug(f, id, 2, "leaf", false, &err));
    print_message("hot add of 3 levels: %lld ms\n",
                  (long long)(clock_mono_ms(&vic_clock_real) - begin));
    assert_true(fd_count(pid, "/disks/") > before);
    expect_disk(f, id, 2, "cat /sys/block/$d/size", "131072");
    expect_disk(f, id, 2, "echo mark | dd of=/dev/$d conv=fsync 2>/dev/null; head -c 4 /dev/$d",
                "mark");
    assert_false(plug(f, id, 2, "leaf", false, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    assert_false(plug(f, id, 5, "leaf", false, &err)); /* QEMU's lock: one writer */
    assert_true(plug(f, id, 3, "mid", true, &err));
    expect_disk(f, id, 3, "cat /sys/block/$d/ro", "1");
    remove_disk(f, id, 3);
    begin = clock_mono_ms(&vic_clock_real);
    remove_disk(f, id, 2);
    print_message("hot removal: %lld ms\n", (long long)(clock_mono_ms(&vic_clock_real) - begin));
    assert_int_equal(fd_count(pid, "/disks/"), before);
    assert_false(vmm_disk_remove(f->m, id, 2, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    assert_true(plug(f, id, 2, "leaf", false, &err)); /* the same one again, with its mark */
    expect_disk(f, id, 2, "head -c 4 /dev/$d", "mark");
}

static void check_network(struct fixture *f, const char *id)
{
    AUTO_FREE char *mac = guest_run(f, id, "cat /sys/class/net/eth0/address");
    assert_non_null(strstr(mac, "02:00:00:00:00:07"));
    AUTO_FREE char *ping = guest_run(
        f, id, "ip addr add 10.9.8.2/24 dev eth0; ip link set eth0 up; ping -c 1 -w 5 10.9.8.1");
    if (!strstr(ping, " 0% packet loss"))
        fail_msg("no network: %s", ping);
}

static void test_life(void **state)
{
    struct place *p = *state;
    struct fixture *f = &p->f;
    struct vic_err err = {0};
    fixture_open(f, p->dir, p->netns);
    assert_true(vmm_network(f->m, "net", "10.9.8.1/24", &err));
    make_disk(f, "base", NULL, 64 << 20);
    make_disk(f, "mid", "base", 0);
    make_disk(f, "leaf", "mid", 0);
    make_disk(f, "boot-time", NULL, 16 << 20);
    AUTO_FREE char *file = fixture_path(f, "disks/boot-time");
    struct vmm_disk disk = {.target = 1, .file = file};
    struct vmm_nic nic = {.network = "net", .mac = {2, 0, 0, 0, 0, 7}};
    struct vmm_spec spec = fixture_spec(f, "life");
    spec.disks = &disk;
    spec.disk_count = 1;
    spec.nics = &nic;
    spec.nic_count = 1;
    int64_t begin = clock_mono_ms(&vic_clock_real);
    fixture_start(f, &spec);
    print_message("vmm_start: %lld ms\n", (long long)(clock_mono_ms(&vic_clock_real) - begin));
    assert_false(vmm_start(f->m, &spec, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    console_wait(f, "life", "guest: hello on Linux", BOOT_MS);
    print_message("hello after %lld ms\n", (long long)(clock_mono_ms(&vic_clock_real) - begin));
    pid_t pid = vmm_pid(f->m, "life");
    check_confined(pid);
    expect_disk(f, "life", 1, "cat /sys/block/$d/size", "32768");
    hot_plug(f, "life", pid);
    check_network(f, "life");
    assert_true(vmm_powerdown(f->m, "life", &err));
    exit_wait(f, 1);
    assert_true(f->exit_by_guest);
    assert_false(vmm_running(f->m, "life"));
    assert_true(vmm_stop(f->m, "life", &err)); /* nothing to do */
    fixture_close(f);
    check_no_leak(p, "life");
}

/* ---- a guest that means harm, a reset, a crash ---- */

static void test_hostile_guest(void **state)
{
    struct place *p = *state;
    struct fixture *f = &p->f;
    struct vic_err err = {0};
    fixture_open(f, p->dir, p->netns);
    struct vmm_spec spec = fixture_spec(f, "hostile");
    fixture_start(f, &spec);
    console_wait(f, "hostile", "guest: hello", BOOT_MS);
    AUTO_FREE char *long_line =
        guest_run(f, "hostile",
                  "{ head -c 1100000 /dev/zero | tr '\\000' a; echo; } >&3; "
                  "read -r x <&3; echo \"$x\"");
    assert_non_null(strstr(long_line, "0 The command is too long"));
    AUTO_FREE char *unknown =
        guest_run(f, "hostile", "printf 'x\\001\\377 y\\n' >&3; read -r x <&3; echo \"$x\"");
    assert_non_null(strstr(unknown, "0 Unknown command"));
    /* Many questions, and no reading of the answers until the host has stopped listening. */
    AUTO_FREE char *flood = guest_run(f, "hostile",
                                      "yes x | head -n 200000 >&3 & usleep 3000000; "
                                      "head -c 3600000 <&3 | grep -c '^0 Unknown command'");
    assert_non_null(strstr(flood, "200000"));
    AUTO_FREE char *question = /* more unread answers than it has buffers */
        guest_run(f, "hostile", "yes x | head -n 200000 >&3 & usleep 3000000");
    assert_int_equal(truncate(spec.console, 0), 0); /* QEMU appends */
    assert_true(vmm_reset(f->m, "hostile", &err));
    console_wait(f, "hostile", "guest: hello", BOOT_MS);
    AUTO_FREE char *after =
        guest_run(f, "hostile", "echo 'info-get guestinfo.cmd' >&3; read -r x <&3; echo \"$x\"");
    assert_non_null(strstr(after, "0 No value found")); /* its own answer, not the old one */
    kill(vmm_pid(f->m, "hostile"), SIGKILL);
    exit_wait(f, 1);
    assert_false(f->exit_by_guest);
    fixture_close(f);
    check_no_leak(p, "hostile");
}

/* ---- the ISO by BIOS; a start that fails ---- */

static void test_bios_boot(void **state)
{
    struct place *p = *state;
    struct fixture *f = &p->f;
    struct vic_err err = {0};
    fixture_open(f, p->dir, p->netns);
    struct vmm_spec spec = fixture_spec(f, "bios");
    spec.direct_boot = false;
    fixture_start(f, &spec);
    console_wait(f, "bios", "guest: hello", BOOT_MS);
    assert_true(vmm_stop(f->m, "bios", &err));
    assert_false(vmm_running(f->m, "bios"));
    exit_wait(f, 1);
    assert_false(f->exit_by_guest);
    fixture_close(f);
    check_no_leak(p, "bios");
}

static void refuse(struct fixture *f, const struct vmm_spec *s, enum vic_code want)
{
    struct vic_err err = {0};
    assert_false(vmm_start(f->m, s, &err));
    if (err.code != want)
        fail_msg("want %s, got %s: %s", vic_code_name(want), vic_code_name(err.code), err.msg);
    assert_false(vmm_running(f->m, s->id));
}

static void test_refused_starts(void **state)
{
    struct place *p = *state;
    struct fixture *f = &p->f;
    fixture_open(f, p->dir, p->netns);
    struct vmm_disk disk = {.target = 1, .file = "/etc/passwd"};
    struct vmm_nic nic = {.network = "no such network"};
    struct vmm_spec good = fixture_spec(f, "refused"), s = good;
    s.id = "../x";
    refuse(f, &s, VIC_INVALID);
    s = good;
    s.uuid = "x,y";
    refuse(f, &s, VIC_INVALID);
    s = good;
    s.cpus = 0;
    refuse(f, &s, VIC_INVALID);
    s = good;
    s.iso = "/nonexistent.iso";
    refuse(f, &s, VIC_NOT_FOUND);
    s.iso = "/etc/passwd";
    refuse(f, &s, VIC_INVALID);
    s = good;
    s.nics = &nic;
    s.nic_count = 1;
    refuse(f, &s, VIC_NOT_FOUND);
    s = good; /* fails when QEMU runs already */
    s.disks = &disk;
    s.disk_count = 1;
    refuse(f, &s, VIC_FORBIDDEN);
    s = good;
    s.memory_mb = 0;
    refuse(f, &s, VIC_INVALID);
    s = good;
    s.uuid = "------------------------------------"; /* QEMU itself refuses, and its words arrive */
    struct vic_err err = {0};
    assert_false(vmm_start(f->m, &s, &err));
    assert_non_null(strstr(err.msg, "QEMU: "));
    assert_non_null(strstr(err.msg, "UUID"));
    fixture_close(f);
    check_no_leak(p, "refused");
}

/* ---- an owner that is killed ---- */

/* The other process: starts the VM, says so, waits to be killed. */
static _Noreturn void owner(const char *dir, const char *netns, const char *id)
{
    struct fixture f;
    struct vic_err err = {0};
    fixture_open(&f, dir, netns);
    struct vmm_spec spec = fixture_spec(&f, id);
    bool started = vmm_start(f.m, &spec, &err);
    if (started && strcmp(id, "orphan") == 0) {
        make_disk(&f, "orphans", NULL, 32 << 20);
        started = plug(&f, id, 4, "orphans", false, &err);
    }
    printf("%s\n", started ? "ready" : err.msg);
    fflush(stdout);
    for (;;)
        pause();
}

static pid_t start_owner(const struct place *p, const char *id, int *said)
{
    int ends[2];
    pid_t pid;
    struct vic_err err = {0};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const char *const argv[] = {"/proc/self/exe", "owner", p->dir, p->netns, id, NULL};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    const char *const real[] = {self, argv[1], argv[2], argv[3], argv[4], NULL};
    struct proc_spec s = {.argv = real,
                          .stdin_fd = -1,
                          .stdout_fd = ends[1],
                          .stderr_fd = 2,
                          .die_with_parent = true};
    if (!proc_spawn(&s, &pid, &err))
        fail_msg("%s", err.msg);
    close(ends[1]);
    *said = ends[0];
    return pid;
}

static void kill_owner(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(proc_wait(pid, 10000, &status, NULL));
}

/* Starts a VM in another process, waits for it, kills that process. */
static void orphan(const struct place *p, const char *id)
{
    char line[600] = "";
    AUTO_CLOSE int said = -1;
    pid_t pid = start_owner(p, id, &said);
    struct pollfd wait = {.fd = said, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, BOOT_MS), 1);
    assert_true(read(said, line, sizeof line - 1) > 0);
    assert_string_equal(line, "ready\n");
    kill_owner(pid);
    assert_int_equal(qemu_count(id), 1);
}

static void test_found_again(void **state)
{
    struct place *p = *state;
    struct fixture *f = &p->f;
    struct vic_err err = {0};
    orphan(p, "orphan");
    fixture_open(f, p->dir, p->netns);
    assert_true(vmm_running(f->m, "orphan"));
    console_wait(f, "orphan", "guest: hello", BOOT_MS);
    AUTO_FREE char *out = guest_run(f, "orphan", "echo still here");
    assert_non_null(strstr(out, "still here"));
    expect_disk(f, "orphan", 4, "cat /sys/block/$d/size", "65536");
    assert_false(plug(f, "orphan", 4, "orphans", false, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    remove_disk(f, "orphan", 4);
    assert_int_equal(fd_count(vmm_pid(f->m, "orphan"), "/disks/"), 0);
    fixture_close(f); /* in order this time: it goes on all the same */
    assert_int_equal(qemu_count("orphan"), 1);
    fixture_open(f, p->dir, p->netns);
    AUTO_FREE char *again = guest_run(f, "orphan", "echo and again");
    assert_non_null(strstr(again, "and again"));
    AUTO_FREE char *bye = guest_run(f, "orphan", "echo 30 >/proc/sys/kernel/printk; echo bye");
    assert_true(vmm_powerdown(f->m, "orphan", &err));
    exit_wait(f, 1);
    assert_true(f->exit_by_guest);
    fixture_close(f);
    check_no_leak(p, "orphan");
}

static void test_ended_meanwhile(void **state)
{
    struct place *p = *state;
    struct fixture *f = &p->f;
    orphan(p, "meanwhile");
    pid_t pid = noted_pid(p, "meanwhile.state");
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGTERM), 0);
    for (int i = 0; i < 500 && qemu_count("meanwhile"); i++)
        usleep(10000);
    fixture_open(f, p->dir, p->netns);
    exit_wait(f, 1);
    assert_false(vmm_running(f->m, "meanwhile"));
    fixture_close(f);
    check_no_leak(p, "meanwhile");
}

/* Whatever the moment of the kill: the VM runs and is found, or nothing of it is left. */
static void test_killed_at_any_point(void **state)
{
    struct place *p = *state;
    unsigned found = 0, undone = 0;
    /* Until some came after the start's end, however slow the machine is. */
    for (unsigned ms = 0; found < 4 && ms < 6000; ms += ms < 300 ? 15 : ms / 6) {
        struct fixture *f = &p->f;
        struct vic_err err = {0};
        int said;
        pid_t pid = start_owner(p, "cut", &said);
        usleep(ms * 1000);
        kill_owner(pid);
        close(said);
        fixture_open(f, p->dir, p->netns);
        bool running = vmm_running(f->m, "cut");
        found += running;
        undone += !running;
        assert_true(vmm_stop(f->m, "cut", &err));
        fixture_close(f);
        check_no_leak(p, "cut");
    }
    print_message("killed %u times: found %u, undone %u\n", found + undone, found, undone);
    assert_true(found > 0 && undone > 0);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "owner") == 0)
        owner(argv[2], argv[3], argv[4]);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans' ends are seen here */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_life, clean_up),
        cmocka_unit_test_teardown(test_hostile_guest, clean_up),
        cmocka_unit_test_teardown(test_bios_boot, clean_up),
        cmocka_unit_test_teardown(test_refused_starts, clean_up),
        cmocka_unit_test_teardown(test_found_again, clean_up),
        cmocka_unit_test_teardown(test_ended_meanwhile, clean_up),
        cmocka_unit_test_teardown(test_killed_at_any_point, clean_up),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
