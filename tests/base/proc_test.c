/* base/proc: real children, and what they see of us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"

#define SH(script) ((const char *const[]){"/bin/sh", "-c", (script), NULL})

static void run_gives_input_and_takes_output(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0}, in = {0};
    struct vic_err err = {0};
    assert_true(proc_run(SH("cat; echo end"), SV("hello\n"), &out, 20000, &err));
    assert_string_equal(buf_str(&out), "hello\nend\n");
    for (int i = 0; i < 50000; i++)
        buf_add_str(&in, "0123456789");
    buf_reset(&out);
    assert_true(proc_run((const char *const[]){"cat", NULL}, buf_sv(&in), &out, 20000, &err));
    assert_true(sv_eq(buf_sv(&in), buf_sv(&out)));
    /* A program that does not read its input is no error. */
    assert_true(proc_run(SH("exit 0"), buf_sv(&in), NULL, 20000, &err));
}

static void run_tells_why_it_failed(void **state)
{
    (void)state;
    struct vic_err err;
    assert_false(proc_run(SH("echo first >&2; echo 'no such table' >&2; exit 3"), SV(""), NULL,
                          20000, &err));
    assert_int_equal(err.code, VIC_IO);
    assert_string_equal(err.msg, "run /bin/sh: exit status 3: no such table");
    assert_false(proc_run(SH("kill -9 $$"), SV(""), NULL, 20000, &err));
    assert_string_equal(err.msg, "run /bin/sh: killed by signal 9");
    assert_false(
        proc_run((const char *const[]){"no-such-program", NULL}, SV(""), NULL, 20000, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    assert_string_equal(err.msg, "start no-such-program: no such program in PATH");
    assert_false(proc_run((const char *const[]){"/etc/passwd", NULL}, SV(""), NULL, 20000, &err));
    assert_int_equal(err.code, VIC_FORBIDDEN);
    assert_string_equal(err.msg, "start /etc/passwd: exec: Permission denied");
}

static void run_is_bounded(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0}, small = {.limit = 10};
    struct vic_err err;
    int64_t before = clock_mono_ms(&vic_clock_real);
    assert_false(proc_run(SH("sleep 100 & sleep 100"), SV(""), &out, 200, &err));
    assert_int_equal(err.code, VIC_TIMEOUT);
    assert_false(proc_run(SH("yes >&2"), SV(""), NULL, 300, &err));
    assert_int_equal(err.code, VIC_TIMEOUT);
    assert_false(proc_run(SH("yes"), SV(""), &out, 30000, &err));
    assert_int_equal(err.code, VIC_TOO_LARGE);
    assert_false(proc_run(SH("echo 01234567890"), SV(""), &small, 30000, &err));
    assert_int_equal(err.code, VIC_TOO_LARGE);
    assert_true(clock_mono_ms(&vic_clock_real) - before < 30000);
}

/* The pipe's end is held by a grandchild; the child's end counts. */
static void run_does_not_wait_for_a_grandchild(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    struct vic_err err;
    int64_t before = clock_mono_ms(&vic_clock_real);
    assert_true(proc_run(SH("sleep 100 & echo $!"), SV(""), &out, 30000, &err));
    assert_true(clock_mono_ms(&vic_clock_real) - before < 30000);
    uint64_t grandchild;
    assert_true(sv_to_u64(sv_trim(buf_sv(&out)), &grandchild));
    /* It was killed: gone, or a zombie until init reaps it. */
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/cmdline", (unsigned)grandchild);
    for (int i = 0; i < 500; i++) {
        char c;
        AUTO_CLOSE int fd = open(path, O_RDONLY);
        if (fd < 0 || read(fd, &c, 1) <= 0)
            return;
        usleep(10000);
    }
    fail_msg("the grandchild still runs");
}

static void child_sees_only_its_descriptors(void **state)
{
    (void)state;
    int leak = open("/dev/null", O_RDONLY); /* not close-on-exec, as a library would open it */
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    /* Targets that overlap the sources: 3 and 4 are ours already. */
    struct proc_fd fds[] = {{ends[1], ends[0]}, {leak, ends[1]}};
    struct proc_spec s = {
        .argv = SH("ls /proc/self/fd | tr '\\n' ' '; readlink /proc/$$/fd/0"),
        .fds = fds,
        .fd_count = 2,
        .stdin_fd = -1,
        .stdout_fd = ends[1],
        .stderr_fd = -1,
    };
    pid_t pid;
    int status;
    struct vic_err err;
    assert_true(proc_spawn(&s, &pid, &err));
    close(ends[1]);
    char text[256] = "", want[64];
    size_t len = 0;
    for (ssize_t n;
         len < sizeof text - 1 && (n = read(ends[0], text + len, sizeof text - 1 - len)) > 0;)
        len += (size_t)n;
    assert_true(proc_wait(pid, 20000, &status, &err));
    assert_int_equal(status, 0);
    /* ls itself opens the folder on the lowest free number. */
    int opened = 3;
    while (opened == ends[0] || opened == ends[1])
        opened++;
    int lo = ends[0] < ends[1] ? ends[0] : ends[1], hi = ends[0] + ends[1] - lo;
    AUTO_BUF struct buf b = {0};
    for (int fd = 0; fd < 64; fd++)
        if (fd < 3 || fd == lo || fd == hi || fd == opened)
            buf_addf(&b, "%d ", fd);
    snprintf(want, sizeof want, "%s/dev/null\n", buf_str(&b));
    assert_string_equal(text, want);
    close(ends[0]);
    close(leak);
}

static void environment_and_folder_are_given(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    struct vic_err err;
    setenv("VIC_TEST_LEAK", "1", 1);
    assert_true(proc_run((const char *const[]){"env", NULL}, SV(""), &out, 20000, &err));
    assert_true(strstr(buf_str(&out), "LANG=C\n") != NULL);
    assert_true(strstr(buf_str(&out), "VIC_TEST_LEAK") == NULL);
    struct proc_spec s = {.argv = SH("test \"$PWD $X\" = '/proc 7'"),
                          .env = (const char *const[]){"X=7", NULL},
                          .cwd = "/proc",
                          .stdin_fd = -1,
                          .stdout_fd = -1,
                          .stderr_fd = -1};
    pid_t pid;
    int status;
    assert_true(proc_spawn(&s, &pid, &err));
    assert_true(proc_wait(pid, 20000, &status, &err));
    assert_int_equal(status, 0);
    s.cwd = "/no/such/folder";
    assert_false(proc_spawn(&s, &pid, &err));
    assert_string_equal(err.msg, "start /bin/sh: chdir: No such file or directory");
}

static void signals_are_reset(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    struct vic_err err;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &old);
    signal(SIGPIPE, SIG_IGN);
    assert_true(
        proc_run(SH("grep -E '^Sig(Blk|Ign)' /proc/self/status"), SV(""), &out, 20000, &err));
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    assert_string_equal(buf_str(&out), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void user_is_dropped_for_good(void **state)
{
    (void)state;
    struct vic_err err;
    pid_t pid;
    int status;
    struct proc_spec s = {
        .argv = SH("test \"$(id -u) $(id -g) $(id -G)\" = '65534 65534 65534' && "
                   "grep -q 'NoNewPrivs:.1' /proc/self/status"),
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1,
        .uid = 65534,
        .gid = 65534,
    };
    if (geteuid() != 0) {
        assert_false(proc_spawn(&s, &pid, &err));
        assert_int_equal(err.code, VIC_FORBIDDEN);
        return;
    }
    assert_true(proc_spawn(&s, &pid, &err));
    assert_true(proc_wait(pid, 20000, &status, &err));
    assert_int_equal(status, 0);
    s.gid = 0;
    assert_false(proc_spawn(&s, &pid, &err));
    assert_int_equal(err.code, VIC_INVALID);
}

/* A child of a child: kill the one in the middle, and the last must go. */
static void child_dies_with_its_parent(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t middle = fork();
    if (middle == 0) {
        struct proc_spec s = {.argv = (const char *const[]){"sleep", "100", NULL},
                              .stdin_fd = -1,
                              .stdout_fd = ends[1],
                              .stderr_fd = -1,
                              .die_with_parent = true};
        pid_t pid;
        _exit(proc_spawn(&s, &pid, NULL) && write(ends[1], "s", 1) == 1 ? 0 : 1);
    }
    close(ends[1]);
    char c;
    int status;
    assert_int_equal(read(ends[0], &c, 1), 1);
    assert_true(proc_wait(middle, 20000, &status, NULL));
    assert_int_equal(status, 0);
    /* The end of the file comes when sleep, which holds the pipe, is gone. */
    alarm(20);
    assert_int_equal(read(ends[0], &c, 1), 0);
    alarm(0);
    close(ends[0]);
}

static void wait_has_a_deadline(void **state)
{
    (void)state;
    struct proc_spec s = {.argv = (const char *const[]){"sleep", "100", NULL},
                          .stdin_fd = -1,
                          .stdout_fd = -1,
                          .stderr_fd = -1};
    pid_t pid;
    int status;
    struct vic_err err;
    assert_true(proc_spawn(&s, &pid, &err));
    assert_false(proc_wait(pid, 50, &status, &err));
    assert_int_equal(err.code, VIC_TIMEOUT);
    kill(pid, SIGKILL);
    assert_true(proc_wait(pid, -1, &status, &err));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_false(proc_wait(pid, 50, &status, &err));
}

static void start_time_names_a_process(void **state)
{
    (void)state;
    char name[16];
    prctl(PR_GET_NAME, name);
    prctl(PR_SET_NAME, "a) R 1 (b"); /* hostile to a careless parser */
    uint64_t mine = proc_start_time(getpid());
    prctl(PR_SET_NAME, name);
    assert_true(mine > 0);
    assert_int_equal(mine, proc_start_time(getpid()));
    assert_true(proc_start_time(1) <= mine);
    assert_int_equal(proc_start_time(0x7fffffff), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_gives_input_and_takes_output),
        cmocka_unit_test(run_tells_why_it_failed),
        cmocka_unit_test(run_is_bounded),
        cmocka_unit_test(run_does_not_wait_for_a_grandchild),
        cmocka_unit_test(child_sees_only_its_descriptors),
        cmocka_unit_test(environment_and_folder_are_given),
        cmocka_unit_test(signals_are_reset),
        cmocka_unit_test(user_is_dropped_for_good),
        cmocka_unit_test(child_dies_with_its_parent),
        cmocka_unit_test(wait_has_a_deadline),
        cmocka_unit_test(start_time_names_a_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
