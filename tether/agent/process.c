/* A process of the workload, seen from the agent: see process.h.  The child's side is become.c. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#include "become.h"

enum { PIPE_BYTES = 1 << 18 };

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void end_of_report(struct process *p)
{
    int fd = p->report.fd;
    poll_unwatch(p->loop, &p->report);
    close_fd(&fd);
}

static void take_tty(struct process *p, int fd)
{
    if (!p->tty || p->out >= 0) {
        close_fd(&fd);
        return;
    }
    set_nonblocking(fd);
    p->out = fd;
    if (p->rows || p->cols)
        process_resize(p, p->rows, p->cols);
    p->in = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* of its own: epoll watches a descriptor once */
}

static void on_report(void *arg, uint32_t events)
{
    struct process *p = arg;
    struct become_report r;
    int fd = -1;
    (void)events;
    ssize_t n = become_receive(p->report.fd, &r, &fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == (ssize_t)sizeof r && r.kind == BECOME_TTY) {
        take_tty(p, fd);
        return;
    }
    close_fd(&fd);
    end_of_report(p);
    if (n == (ssize_t)sizeof r && r.kind == BECOME_FAILED) {
        p->state = PROCESS_FAILED;
        p->launch_exit = r.exit;
        memcpy(p->stage, r.stage, sizeof p->stage);
        vic_fail(&p->error, r.code, 0, "%s", r.text);
        p->error.sys = r.sys;
    } else {
        p->state = PROCESS_RUNNING;
    }
    p->changed(p->arg);
}

static void on_child_exit(void *arg, int status)
{
    struct process *p = arg;
    p->exited = true;
    p->status = status;
    p->changed(p->arg);
}

/* The clone itself.  A child of a joined PID namespace is made by entering it for children only. */
static pid_t clone_into(const struct process_options *o)
{
    struct clone_args args = {.flags = o->clone_flags | CLONE_INTO_CGROUP,
                              .exit_signal = SIGCHLD,
                              .cgroup = (uint64_t)o->cgroup_fd};
    AUTO_CLOSE int own = -1;
    if (o->join_fd >= 0) {
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (own < 0 || setns(o->join_fd, CLONE_NEWPID) != 0)
            return -1;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    int sys = errno;
    if (pid != 0 && own >= 0 && setns(own, CLONE_NEWPID) != 0)
        sys = errno; /* cannot be: our own namespace */
    errno = sys;
    return pid;
}

struct pipes {
    int child[3], agent[3], report[2];
};

static void close_pipes(struct pipes *s)
{
    for (unsigned i = 0; i < 3; i++) {
        close_fd(&s->child[i]);
        close_fd(&s->agent[i]);
    }
    close_fd(&s->report[0]);
    close_fd(&s->report[1]);
}

static bool make_pipe(struct pipes *s, unsigned n)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    s->child[n] = n == 0 ? fds[0] : fds[1];
    s->agent[n] = n == 0 ? fds[1] : fds[0];
    set_nonblocking(s->agent[n]);
    /* Fewer turns between the program and us; a smaller pipe does too. */
    (void)fcntl(fds[0], F_SETPIPE_SZ, PIPE_BYTES);
    return true;
}

static bool open_pipes(struct pipes *s, const struct spec_process *spec, struct vic_err *err)
{
    *s = (struct pipes){{-1, -1, -1}, {-1, -1, -1}, {-1, -1}};
    bool ok = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->report) == 0;
    if (!spec->tty)
        ok = ok && (!spec->open_stdin || make_pipe(s, 0)) && make_pipe(s, 1) && make_pipe(s, 2);
    if (!ok) {
        vic_fail_errno(err, "pipes for a process");
        close_pipes(s);
    }
    return ok;
}

void process_init(struct process *p, struct poll_loop *loop)
{
    *p = (struct process){.loop = loop, .in = -1, .out = -1, .err = -1};
    p->report = (struct poll_watch){.fd = -1, .fn = on_report, .arg = p};
    p->child = (struct child){.exited = on_child_exit, .arg = p};
}

bool process_start(struct process *p, struct children *children, const struct process_options *o,
                   void (*changed)(void *arg), void *arg, struct vic_err *err)
{
    struct pipes s;
    process_init(p, children->loop);
    p->changed = changed;
    p->arg = arg;
    p->tty = o->spec->tty;
    if (!open_pipes(&s, o->spec, err))
        return false;
    pid_t pid = clone_into(o);
    if (pid < 0) {
        vic_fail_errno(err, "start a process");
        close_pipes(&s);
        return false;
    }
    if (pid == 0)
        become(o, s.child, s.report[1]);
    p->in = TAKE_FD(s.agent[0]);
    p->out = TAKE_FD(s.agent[1]);
    p->err = TAKE_FD(s.agent[2]);
    int report = TAKE_FD(s.report[0]);
    close_pipes(&s);
    set_nonblocking(report);
    children_add(children, &p->child, pid);
    poll_watch(p->loop, &p->report, report, EPOLLIN);
    return true;
}

void process_close(struct process *p)
{
    end_of_report(p);
    close_fd(&p->in);
    close_fd(&p->out);
    close_fd(&p->err);
    children_remove(&p->child);
}

void process_resize(struct process *p, unsigned rows, unsigned cols)
{
    p->rows = rows;
    p->cols = cols;
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    if (p->tty && p->out >= 0)
        ioctl(p->out, TIOCSWINSZ, &size);
}

bool process_done(const struct process *p)
{
    return p->exited && p->state != PROCESS_LAUNCHING;
}
