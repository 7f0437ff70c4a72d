/* Child processes: see proc.h.
 *
 * Everything that may allocate (the look-up in PATH) happens before fork(); the child of a threaded
 * parent then calls only async-signal-safe functions.  It walks one list of steps and, when one
 * fails, writes {step, errno} into a close-on-exec pipe: the parent reads either that or the end of
 * file that exec makes, so proc_spawn knows for certain whether the program runs.
 *
 * Descriptors: all from 3 up are marked close-on-exec at once; the wanted ones are first copied
 * above every target number, so that no copy overwrites a source, and then to their targets, which
 * clears the mark. */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "mem.h"

enum { MAX_FDS = 64, MAX_OUTPUT = 1024 * 1024, KILL_WAIT_MS = 5000 };

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
static const char *const default_env[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", NULL};

/* ---- the child, between fork and exec ---- */

struct child {
    const struct proc_spec *spec;
    const char *path;
    pid_t parent;
    int report; /* the pipe; moves up with the other descriptors */
};

struct report {
    int step, sys;
};

/* A daemon ignores and blocks signals that its children must get. */
static bool reset_signals(struct child *c)
{
    (void)c;
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL); /* refused for KILL, STOP and libc's own: as it should be */
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

static bool leave_session(struct child *c)
{
    return !c->spec->new_session || setsid() >= 0;
}

static bool enter_netns(struct child *c)
{
    if (!c->spec->netns)
        return true;
    int fd = open(c->spec->netns, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && setns(fd, CLONE_NEWNET) == 0 && close(fd) == 0;
}

static bool change_folder(struct child *c)
{
    return !c->spec->cwd || chdir(c->spec->cwd) == 0;
}

static bool place_fds(struct child *c)
{
    const struct proc_spec *s = c->spec;
    int from[MAX_FDS + 3] = {s->stdin_fd, s->stdout_fd, s->stderr_fd}, to[MAX_FDS + 3] = {0, 1, 2};
    int count = 3, above = 3;
    for (unsigned i = 0; i < s->fd_count; i++, count++) {
        from[count] = s->fds[i].parent;
        to[count] = s->fds[i].child;
        above = to[count] >= above ? to[count] + 1 : above;
    }
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0 ||
        (c->report = fcntl(c->report, F_DUPFD_CLOEXEC, above)) < 0)
        return false;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < count; i++)
        if ((from[i] = fcntl(from[i] < 0 ? null : from[i], F_DUPFD_CLOEXEC, above)) < 0)
            return false;
    for (int i = 0; i < count; i++)
        if (dup2(from[i], to[i]) < 0)
            return false;
    return true;
}

static bool become_user(struct child *c)
{
    const struct proc_spec *s = c->spec;
    return !s->uid ||
           (setgroups(0, NULL) == 0 && setresgid(s->gid, s->gid, s->gid) == 0 &&
            setresuid(s->uid, s->uid, s->uid) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
}

/* After become_user: a change of user clears the signal. */
static bool bind_to_parent(struct child *c)
{
    if (!c->spec->die_with_parent)
        return true;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return false;
    if (getppid() != c->parent)
        _exit(1); /* it died before the call above: nobody listens */
    return true;
}

static bool run_program(struct child *c)
{
    union {
        const char *const *in;
        char *const *out;
    } argv = {c->spec->argv}, env = {c->spec->env ? c->spec->env : default_env};
    execve(c->path, argv.out, env.out);
    return false;
}

static const struct {
    bool (*run)(struct child *c);
    const char *name;
} steps[] = {
    {reset_signals, "reset signals"},         {leave_session, "setsid"},
    {enter_netns, "enter network namespace"}, {change_folder, "chdir"},
    {place_fds, "pass descriptors"},          {become_user, "change user"},
    {bind_to_parent, "bind to parent"},       {run_program, "exec"},
};

static _Noreturn void run_child(struct child *c)
{
    struct report r = {0};
    while (r.step < (int)ARRAY_LEN(steps) && steps[r.step].run(c))
        r.step++;
    r.sys = errno;
    ssize_t n = write(c->report, &r, sizeof r);
    (void)n;
    _exit(127);
}

/* ---- spawn ---- */

/* '*out' is the program's path; caller frees. */
static bool look_up(const char *name, char **out, struct vic_err *err)
{
    if (strchr(name, '/')) {
        *out = xstrdup(name);
        return true;
    }
    const char *path = getenv("PATH");
    struct sv rest = sv_of(path ? path : default_path);
    while (rest.len) {
        struct sv dir = sv_cut(&rest, ':');
        AUTO_FREE char *full = dir.len ? xasprintf(SV_FMT "/%s", SV_ARG(dir), name) : NULL;
        if (full && access(full, X_OK) == 0) {
            *out = TAKE(full);
            return true;
        }
    }
    return vic_fail(err, VIC_NOT_FOUND, 0, "start %s: no such program in PATH", name);
}

static bool check_spec(const struct proc_spec *s, struct vic_err *err)
{
    if (!s->argv || !s->argv[0] || !*s->argv[0])
        return vic_fail(err, VIC_INVALID, 0, "start a program without a name");
    if (s->fd_count > MAX_FDS)
        return vic_fail(err, VIC_INVALID, 0, "start %s: %u descriptors", s->argv[0], s->fd_count);
    for (unsigned i = 0; i < s->fd_count; i++)
        if (s->fds[i].parent < 0 || s->fds[i].child < 3)
            return vic_fail(err, VIC_INVALID, 0, "start %s: descriptor %d as %d", s->argv[0],
                            s->fds[i].parent, s->fds[i].child);
    if ((s->uid != 0) != (s->gid != 0))
        return vic_fail(err, VIC_INVALID, 0, "start %s: a user needs a group and a group a user",
                        s->argv[0]);
    return true;
}

/* Reads what the child says: nothing when exec closed the pipe. */
static bool read_report(int fd, struct report *r)
{
    ssize_t n;
    do
        n = read(fd, r, sizeof *r);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *r;
}

/* No handler of ours may run in the child before its signals are reset: all are blocked. */
static pid_t fork_child(struct child *c)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = fork();
    if (pid == 0)
        run_child(c);
    int sys = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = sys;
    return pid;
}

bool proc_spawn(const struct proc_spec *s, pid_t *pid, struct vic_err *err)
{
    AUTO_FREE char *path = NULL;
    int ends[2];
    if (!check_spec(s, err) || !look_up(s->argv[0], &path, err))
        return false;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return vic_fail_errno(err, "start %s: pipe", s->argv[0]);
    AUTO_CLOSE int read_end = ends[0], write_end = ends[1];
    struct child c = {.spec = s, .path = path, .parent = getpid(), .report = write_end};
    pid_t child = fork_child(&c);
    if (child < 0)
        return vic_fail_errno(err, "start %s: fork", s->argv[0]);
    close(TAKE_FD(write_end));
    struct report r;
    if (read_report(read_end, &r)) {
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        return vic_fail(err, vic_code_of_errno(r.sys), r.sys, "start %s: %s", s->argv[0],
                        steps[r.step].name);
    }
    *pid = child;
    return true;
}

/* ---- waiting ---- */

static int left_ms(int64_t deadline)
{
    if (deadline < 0)
        return -1;
    int64_t left = deadline - clock_mono_ms(&vic_clock_real);
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

static int64_t deadline_in(int64_t timeout_ms)
{
    return timeout_ms < 0 ? -1 : clock_mono_ms(&vic_clock_real) + timeout_ms;
}

bool proc_wait(pid_t pid, int64_t timeout_ms, int *status, struct vic_err *err)
{
    int64_t deadline = deadline_in(timeout_ms);
    AUTO_CLOSE int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return vic_fail_errno(err, "wait for process %d", (int)pid);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        pid_t got = waitpid(pid, status, WNOHANG);
        if (got == pid)
            return true;
        if (got < 0 && errno != EINTR)
            return vic_fail_errno(err, "wait for process %d", (int)pid);
        int left = left_ms(deadline);
        if (left == 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "process %d still runs after %lld ms", (int)pid,
                            (long long)timeout_ms);
        if (poll(&p, 1, left) < 0 && errno != EINTR)
            return vic_fail_errno(err, "wait for process %d", (int)pid);
    }
}

/* ---- run to the end ---- */

struct run {
    pid_t pid;
    int pidfd, out_fd, err_fd; /* ours; -1 when closed */
    size_t out_size;
    struct buf *out;
    struct buf errors; /* the last part of stderr */
};

static void run_fini(struct run *r)
{
    vic_auto_close(&r->pidfd);
    vic_auto_close(&r->out_fd);
    vic_auto_close(&r->err_fd);
    buf_fini(&r->errors);
}

static bool keep(struct run *r, bool is_out, const char *p, size_t n)
{
    if (!is_out) {
        if (r->errors.len + n > MAX_OUTPUT)
            buf_consume(&r->errors, MAX_OUTPUT / 2);
        buf_add(&r->errors, p, n);
        return true;
    }
    r->out_size += n;
    buf_add(r->out, p, n);
    return r->out_size <= MAX_OUTPUT && !r->out->failed;
}

/* Takes what is there, more than a pipe holds but not without end (the deadline must be looked at);
 * closes '*fd' at its end.  False when there is too much. */
static bool drain(struct run *r, int *fd)
{
    char chunk[16384];
    for (int rounds = 0; *fd >= 0 && rounds < 64; rounds++) {
        ssize_t n = read(*fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            close(TAKE_FD(*fd));
        else if (!keep(r, fd == &r->out_fd, chunk, (size_t)n))
            return false;
    }
    return true;
}

/* Collects until the child ends.  Its end counts, not that of the pipes: a grandchild may hold
 * them for ever. */
static bool collect(struct run *r, const char *name, int64_t timeout_ms, struct vic_err *err)
{
    int64_t deadline = deadline_in(timeout_ms);
    for (bool ended = false; !ended;) {
        struct pollfd p[] = {{.fd = r->pidfd, .events = POLLIN},
                             {.fd = r->out_fd, .events = POLLIN},
                             {.fd = r->err_fd, .events = POLLIN}};
        int left = left_ms(deadline);
        if (left == 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "run %s: not done within %lld ms", name,
                            (long long)timeout_ms);
        if (poll(p, ARRAY_LEN(p), left) < 0 && errno != EINTR)
            return vic_fail_errno(err, "run %s: poll", name);
        ended = p[0].revents != 0;
        if (!drain(r, &r->out_fd) || !drain(r, &r->err_fd))
            return vic_fail(err, VIC_TOO_LARGE, 0, "run %s: more than %d bytes of output", name,
                            MAX_OUTPUT);
    }
    return true;
}

static bool judge(const struct run *r, const char *name, int status, struct vic_err *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    struct sv last = sv_trim(buf_sv(&r->errors));
    last = sv_sub(last, (size_t)(sv_rfind(last, '\n') + 1), last.len);
    const char *how = WIFEXITED(status) ? "exit status" : "killed by signal";
    int n = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    return vic_fail(err, VIC_IO, 0, "run %s: %s %d%s" SV_FMT, name, how, n, last.len ? ": " : "",
                    SV_ARG(last));
}

/* The input as a file without a name: no feeding, no SIGPIPE, no deadlock with the output. */
static bool input_file(struct sv in, int *fd, struct vic_err *err)
{
    if (!in.len)
        return true;
    AUTO_CLOSE int file = memfd_create("stdin", MFD_CLOEXEC);
    if (file < 0)
        return vic_fail_errno(err, "make a file for the input");
    while (in.len) {
        ssize_t n = write(file, in.p, in.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return vic_fail_errno(err, "write the input");
        in = sv_sub(in, (size_t)n, in.len);
    }
    if (lseek(file, 0, SEEK_SET) != 0)
        return vic_fail_errno(err, "rewind the input");
    *fd = TAKE_FD(file);
    return true;
}

/* A pipe whose reading end does not block. */
static bool output_pipe(int *read_end, int *write_end, struct vic_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return vic_fail_errno(err, "make a pipe");
    *read_end = ends[0];
    *write_end = ends[1];
    if (fcntl(*read_end, F_SETFL, O_NONBLOCK) != 0)
        return vic_fail_errno(err, "make a pipe");
    return true;
}

static bool start(struct run *r, const char *const *argv, struct sv in, struct vic_err *err)
{
    AUTO_CLOSE int stdin_fd = -1, out_write = -1, err_write = -1;
    if (!input_file(in, &stdin_fd, err) || !output_pipe(&r->err_fd, &err_write, err) ||
        (r->out && !output_pipe(&r->out_fd, &out_write, err)))
        return vic_wrap(err, "run %s", argv[0]);
    struct proc_spec spec = {.argv = argv,
                             .stdin_fd = stdin_fd,
                             .stdout_fd = out_write,
                             .stderr_fd = err_write,
                             .die_with_parent = true,
                             .new_session = true};
    if (!proc_spawn(&spec, &r->pid, err))
        return false;
    r->pidfd = pidfd_open(r->pid, 0);
    return r->pidfd >= 0 || vic_fail_errno(err, "run %s: pidfd_open", argv[0]);
}

bool proc_run(const char *const *argv, struct sv in, struct buf *out, int64_t timeout_ms,
              struct vic_err *err)
{
    __attribute__((cleanup(run_fini))) struct run r = {
        .pidfd = -1, .out_fd = -1, .err_fd = -1, .out = out};
    int status = 0;
    bool collected = start(&r, argv, in, err) && collect(&r, argv[0], timeout_ms, err);
    if (r.pid <= 0)
        return false;
    /* Its own session: the children that it leaves behind end with it. */
    kill(-r.pid, SIGKILL);
    bool ended = proc_wait(r.pid, KILL_WAIT_MS, &status, collected ? err : NULL);
    return collected && ended && judge(&r, argv[0], status, err);
}

uint64_t proc_start_time(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n <= 0)
        return 0;
    struct sv rest = sv_make(text, (size_t)n), field;
    /* The name, field 2, may hold blanks and brackets. */
    rest = sv_sub(rest, (size_t)(sv_rfind(rest, ')') + 2), rest.len);
    for (int i = 3; i <= 22; i++)
        field = sv_cut(&rest, ' ');
    uint64_t ticks = 0;
    sv_to_u64(field, &ticks);
    return ticks;
}
