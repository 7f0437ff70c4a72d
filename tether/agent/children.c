/* Children of PID 1: see children.h. */
#include "children.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap(struct children *c, pid_t pid, int status)
{
    struct child *child;
    LIST_FOREACH (child, &c->all, link) {
        if (child->pid == pid) {
            children_remove(child);
            child->exited(child->arg, status);
            return;
        }
    }
}

static void on_signal(void *arg, uint32_t events)
{
    struct children *c = arg;
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    (void)events;
    if (read(c->watch.fd, &info, sizeof info) < 0)
        return;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        reap(c, pid, status);
}

bool children_init(struct children *c, struct poll_loop *loop, struct vic_err *err)
{
    sigset_t set;
    *c = (struct children){.loop = loop, .watch = {.fd = -1, .fn = on_signal, .arg = c}};
    LIST_INIT(&c->all);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return vic_fail_errno(err, "signalfd");
    poll_watch(loop, &c->watch, fd, EPOLLIN);
    return true;
}

void children_fini(struct children *c)
{
    int fd = c->watch.fd;
    poll_unwatch(c->loop, &c->watch);
    if (fd >= 0)
        close(fd);
}

void children_add(struct children *c, struct child *child, pid_t pid)
{
    child->pid = pid;
    LIST_INSERT_HEAD(&c->all, child, link);
}

void children_remove(struct child *child)
{
    if (child->pid > 0)
        LIST_REMOVE(child, link);
    child->pid = 0;
}
