/* From a copy of the agent to the image's program: see become.h.
 *
 * The order matters: namespaces and mounts as root; the tty while /dev/pts can be opened by root;
 * limits; then the user, whose sight decides whether the command can be found.  The copy cannot be
 * looked into by the workload (not dumpable), and every descriptor but stdin, stdout and stderr
 * closes on exec. */
#include "become.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#include "caps.h"
#include "files.h"
#include "lookup.h"
#include "user.h"

ssize_t become_receive(int socket, struct become_report *out, int *fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {out, sizeof *out};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof control.space};
    *fd = -1;
    ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return n;
}

static bool send_report(int socket, const struct become_report *r, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec iov = {(void *)(uintptr_t)r, sizeof *r};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = control.space;
        m.msg_controllen = sizeof control.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(socket, &m, MSG_NOSIGNAL) == (ssize_t)sizeof *r;
}

_Noreturn static void give_up(int report, const char *stage, int exit_code,
                              const struct vic_err *err)
{
    struct become_report r = {
        .kind = BECOME_FAILED, .code = err->code, .exit = exit_code, .sys = err->sys};
    snprintf(r.stage, sizeof r.stage, "%s", stage);
    snprintf(r.text, sizeof r.text, "%s", err->msg);
    (void)!send_report(report, &r, -1);
    _exit(exit_code);
}

static void reset_signals(void)
{
    sigset_t none;
    for (int n = 1; n < NSIG; n++)
        signal(n, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool enter_namespaces(const struct process_options *o, struct vic_err *err)
{
    if (o->net_fd >= 0 && setns(o->net_fd, CLONE_NEWNET) != 0)
        return vic_fail_errno(err, "enter the network namespace");
    if (o->join_fd >= 0 &&
        setns(o->join_fd, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP) != 0)
        return vic_fail_errno(err, "enter the container's namespaces");
    return true;
}

/* The first process of a namespace with --init: passes signals on, reaps, ends with its child. */
_Noreturn static void be_init(pid_t child)
{
    sigset_t all;
    siginfo_t info;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    close_range(0, ~0U, 0);
    for (;;) {
        int status, n = sigwaitinfo(&all, &info);
        if (n > 0 && n != SIGCHLD)
            kill(child, n);
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
            if (pid == child)
                _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        }
    }
}

static bool open_tty(const struct process_options *o, int report, struct vic_err *err)
{
    struct become_report r = {.kind = BECOME_TTY};
    struct winsize size = {.ws_row = (unsigned short)o->spec->rows,
                           .ws_col = (unsigned short)o->spec->cols};
    int unlock = 0, flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    unsigned number;
    char path[64];
    AUTO_CLOSE int master = open("/dev/pts/ptmx", flags);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) != 0 ||
        ioctl(master, TIOCGPTN, &number) != 0)
        return vic_fail_errno(err, "open a tty");
    snprintf(path, sizeof path, "/dev/pts/%u", number);
    AUTO_CLOSE int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || ioctl(master, TIOCSWINSZ, &size) != 0 || ioctl(slave, TIOCSCTTY, 0) != 0)
        return vic_fail_errno(err, "set up the tty");
    for (int n = 0; n < 3; n++) {
        if (dup2(slave, n) < 0)
            return vic_fail_errno(err, "set up the tty");
    }
    if (o->console) {
        AUTO_CLOSE int fd = open("/dev/console", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || mount(path, "/dev/console", NULL, MS_BIND, NULL) != 0)
            return vic_fail_errno(err, "mount /dev/console");
    }
    return send_report(report, &r, master) || vic_fail_errno(err, "hand over the tty");
}

static bool use_pipes(const int pipes[3], struct vic_err *err)
{
    AUTO_CLOSE int null = pipes[0] < 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    for (int n = 0; n < 3; n++) {
        int from = n == 0 && pipes[0] < 0 ? null : pipes[n];
        if (dup2(from, n) < 0)
            return vic_fail_errno(err, "set up stdin, stdout, stderr");
    }
    return true;
}

static bool set_limits(const struct spec_process *p, struct vic_err *err)
{
    char text[16];
    struct rlimit files = {1048576, 1048576}, none = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || setrlimit(RLIMIT_NPROC, &none) != 0 ||
        setrlimit(RLIMIT_CORE, &none) != 0)
        return vic_fail_errno(err, "set limits");
    for (size_t i = 0; i < p->ulimit_count; i++) {
        struct rlimit r = {p->ulimits[i].soft, p->ulimits[i].hard};
        if (setrlimit((__rlimit_resource_t)p->ulimits[i].resource, &r) != 0)
            return vic_fail_errno(err, "set a ulimit");
    }
    snprintf(text, sizeof text, "%d", p->oom_score_adj);
    return file_set("/proc/self/oom_score_adj", text, err);
}

/* The process's stdio must be openable by it again (/dev/stdout). */
static void own_stdio(uid_t uid)
{
    struct stat null, st;
    bool have_null = stat("/dev/null", &null) == 0;
    for (int n = 0; n < 3; n++) {
        if (fstat(n, &st) == 0 && !(have_null && st.st_rdev == null.st_rdev))
            (void)!fchown(n, uid, (gid_t)-1);
    }
}

static bool change_user(const struct spec_process *p, const struct user *u, struct vic_err *err)
{
    own_stdio(u->uid);
    if (!caps_bound(p->caps, err))
        return false;
    if (setgroups(u->group_count, u->groups) != 0 || setresgid(u->gid, u->gid, u->gid) != 0 ||
        setresuid(u->uid, u->uid, u->uid) != 0)
        return vic_fail_errno(err, "change to user %u", u->uid);
    if (u->uid == 0 && !caps_set(p->caps, err))
        return false;
    if (p->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return vic_fail_errno(err, "set no_new_privs");
    return true;
}

/* The environment with HOME, when the spec has none. */
static const char **with_home(const struct spec_list *env, const struct user *u)
{
    const char **out = xcalloc(env->n + 2, sizeof *out);
    for (size_t i = 0; i < env->n; i++)
        out[i] = env->v[i];
    if (!spec_env(env, "HOME"))
        out[env->n] = xasprintf("HOME=%s", u->home);
    return out;
}

_Noreturn static void exec_command(const struct process_options *o, const struct user *u,
                                   int report)
{
    const struct spec_process *p = o->spec;
    struct vic_err err = {0};
    char file[PATH_MAX];
    int code = LAUNCH_NOT_FOUND;
    if (!lookup_command(p->args.v[0], spec_env(&p->env, "PATH"), file, sizeof file, &code, &err))
        give_up(report, "exec", code, &err);
    const char **env = with_home(&p->env, u);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(file, (char *const *)(uintptr_t)p->args.v, (char *const *)(uintptr_t)env);
    lookup_exec_failed(file, errno, &code, &err);
    give_up(report, "exec", code, &err);
}

static bool go_to_cwd(const struct spec_process *p, struct vic_err *err)
{
    const char *cwd = p->cwd[0] ? p->cwd : "/";
    int ignored;
    if (cwd[0] != '/')
        return vic_fail(err, VIC_INVALID, 0, "Cwd must be an absolute path");
    if (chdir(cwd) == 0)
        return true;
    int sys = errno;
    return vic_fail(err, vic_code_of_errno(sys), 0,
                    "chdir to cwd (\"%s\") set in config.json failed: %s", cwd,
                    lookup_reason(sys, &ignored));
}

_Noreturn void become(const struct process_options *o, const int pipes[3], int report)
{
    static struct user user; /* large, and this process is single */
    struct vic_err err = {0};
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    reset_signals();
    if (!enter_namespaces(o, &err) || (o->prepare && !o->prepare(o->prepare_arg, &err)))
        give_up(report, "container", LAUNCH_CANNOT_RUN, &err);
    if (o->init) {
        pid_t child = fork();
        if (child > 0)
            be_init(child);
    }
    setsid();
    AUTO_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!(o->spec->tty ? open_tty(o, report, &err) : use_pipes(pipes, &err)))
        give_up(report, "stdio", LAUNCH_CANNOT_RUN, &err);
    if (!user_find_in(root, o->spec->user, &o->spec->group_add, &user, &err))
        give_up(report, "user", LAUNCH_CANNOT_RUN, &err);
    if (!set_limits(o->spec, &err) || !go_to_cwd(o->spec, &err) ||
        !change_user(o->spec, &user, &err))
        give_up(report, "container", LAUNCH_CANNOT_RUN, &err);
    exec_command(o, &user, report);
}
