/* See vmm_fixture.h.  Waiting for a guest is polling its console file with a deadline: the file is
 * what QEMU appends to, and nothing tells of it. */
#include "vmm_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

static void on_exit_event(void *arg, const char *vm, bool guest_initiated)
{
    struct fixture *f = arg;
    (void)vm;
    mutex_lock(&f->lock);
    f->exits++;
    f->exit_by_guest = guest_initiated;
    cond_broadcast(&f->changed);
    mutex_unlock(&f->lock);
}

static void on_guestinfo(void *arg, const char *vm, struct sv command, struct buf *out)
{
    struct fixture *f = arg;
    (void)vm;
    if (!sv_is(command, "info-get guestinfo.cmd")) {
        buf_add_str(out, "0 Unknown command");
        return;
    }
    mutex_lock(&f->lock);
    if (f->command[0])
        buf_addf(out, "1 %s", f->command);
    else
        buf_add_str(out, "0 No value found");
    f->command[0] = '\0';
    mutex_unlock(&f->lock);
}

char *fixture_path(const struct fixture *f, const char *name)
{
    return xasprintf("%s/%s", f->dir, name);
}

void fixture_open(struct fixture *f, const char *dir, const char *netns)
{
    struct vic_err err = {0};
    *f = (struct fixture){.netns = netns};
    snprintf(f->dir, sizeof f->dir, "%s", dir);
    mutex_init(&f->lock);
    cond_init(&f->changed);
    AUTO_FREE char *run_dir = fixture_path(f, "run");
    AUTO_FREE char *disks = fixture_path(f, "disks");
    mkdir(disks, 0700);
    f->loop = loop_new("vmm", &err);
    struct vmm_options o = {.run_dir = run_dir,
                            .netns = netns,
                            .disk_dir = disks,
                            .qemu_user = "nobody",
                            .loop = f->loop,
                            .on_exit = on_exit_event,
                            .on_guestinfo = on_guestinfo,
                            .arg = f};
    f->m = vmm_open(&o, &err);
    if (!f->m || !loop_start(f->loop, &err))
        fail_msg("%s", err.msg);
}

void fixture_close(struct fixture *f)
{
    vmm_free(TAKE(f->m));
    loop_free(f->loop);
    cond_fini(&f->changed);
    mutex_fini(&f->lock);
}

struct vmm_spec fixture_spec(struct fixture *f, const char *id)
{
    static char console[128];
    snprintf(console, sizeof console, "%s/%s.console", f->dir, id);
    return (struct vmm_spec){.id = id,
                             .uuid = "564d1234-0000-4000-8000-0123456789ab",
                             .cpus = 1,
                             .memory_mb = 128,
                             .iso = GUEST_ISO,
                             .direct_boot = true,
                             .console = console};
}

void fixture_start(struct fixture *f, const struct vmm_spec *s)
{
    struct vic_err err = {0};
    if (!vmm_start(f->m, s, &err))
        fail_msg("%s", err.msg);
}

/* ---- the guest ---- */

static void read_console(struct fixture *f, const char *id, struct buf *out)
{
    char path[128], chunk[65536];
    snprintf(path, sizeof path, "%s/%s.console", f->dir, id);
    buf_reset(out);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t n; fd >= 0 && (n = read(fd, chunk, sizeof chunk)) > 0;)
        buf_add(out, chunk, (size_t)n);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void console_find(struct fixture *f, const char *id, const char *text, int64_t timeout_ms,
                         struct buf *console)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + timeout_ms;
    for (;;) {
        read_console(f, id, console);
        if (strstr(buf_str(console), text))
            return;
        if (clock_mono_ms(&vic_clock_real) > deadline)
            fail_msg("the console lacks \"%s\"; it ends: %s", text,
                     buf_str(console) + (console->len > 800 ? console->len - 800 : 0));
        pause_ms(10);
    }
}

void console_wait(struct fixture *f, const char *id, const char *text, int64_t timeout_ms)
{
    AUTO_BUF struct buf console = {0};
    console_find(f, id, text, timeout_ms, &console);
}

char *guest_run(struct fixture *f, const char *id, const char *command)
{
    char begin[32], end[32];
    AUTO_BUF struct buf console = {0};
    static unsigned no; /* over all fixtures: the console of a VM outlives them */
    mutex_lock(&f->lock);
    no++;
    snprintf(f->command, sizeof f->command, "echo \"<$((%u*2))\"; %s; echo \"$((%u*2))>\"", no,
             command, no);
    mutex_unlock(&f->lock);
    snprintf(begin, sizeof begin, "<%u\r\n", no * 2);
    snprintf(end, sizeof end, "%u>\r\n", no * 2);
    console_find(f, id, end, GUEST_MS, &console);
    const char *from = strstr(buf_str(&console), begin), *to = strstr(buf_str(&console), end);
    assert_non_null(from);
    from += strlen(begin);
    return xstrndup(from, (size_t)(to - from));
}

void exit_wait(struct fixture *f, unsigned n)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + GUEST_MS;
    mutex_lock(&f->lock);
    while (f->exits < n && clock_mono_ms(&vic_clock_real) < deadline)
        cond_wait_ms(&f->changed, &f->lock, 100);
    unsigned seen = f->exits;
    mutex_unlock(&f->lock);
    assert_int_equal(seen, n);
}

/* ---- processes ---- */

unsigned qemu_count(const char *id)
{
    unsigned count = 0;
    char want[100];
    snprintf(want, sizeof want, "guest=%s", id);
    DIR *dir = opendir("/proc");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[300], line[8192];
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line);
        count += n > 0 && memmem(line, (size_t)n, want, strlen(want) + 1) != NULL;
    }
    closedir(dir);
    return count;
}

unsigned fd_count(pid_t pid, const char *part)
{
    unsigned count = 0;
    char path[300], to[4096];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, to, sizeof to);
        count += n > 0 && memmem(to, (size_t)n, part, strlen(part)) != NULL;
    }
    closedir(dir);
    return count;
}

void proc_status(pid_t pid, const char *field, char *out, size_t size)
{
    char path[64], text[8192] = "", key[32];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    snprintf(key, sizeof key, "\n%s:\t", field);
    const char *at = strstr(text, key);
    assert_non_null(at);
    at += strlen(key);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}
