/* A process of the workload: started in a child, watched from the loop.
 *
 * The child prepares itself (namespaces, user, capabilities, command look-up) and reports through
 * a socket that closes on exec: a failure with Docker's text and exit code, or, for a tty, the
 * master of a pty that it opened in the container's own devpts.  So 'launched' means that the
 * image's program has really been exec'd. */
#ifndef VIC_TETHER_AGENT_PROCESS_H
#define VIC_TETHER_AGENT_PROCESS_H

#include "children.h"
#include "spec.h"

enum process_state { PROCESS_LAUNCHING, PROCESS_RUNNING, PROCESS_FAILED };

struct process_options {
    const struct spec_process *spec;
    uint64_t clone_flags; /* new namespaces */
    int cgroup_fd;
    int net_fd;  /* network namespace to enter */
    int join_fd; /* pidfd whose namespaces are entered, or -1 */
    /* Runs in the child, as root, before the user is changed. */
    bool (*prepare)(void *arg, struct vic_err *err);
    void *prepare_arg;
    bool init;    /* our reaper as the namespace's first process */
    bool console; /* the tty is /dev/console too */
};

struct process {
    struct poll_loop *loop;
    struct child child;
    struct poll_watch report;
    enum process_state state;
    bool exited;
    int status; /* as waitpid's, when exited */
    /* The agent's ends, non-blocking, or -1; whoever uses the process takes them (TAKE_FD).  A tty
     * has its master in 'in' and 'out'. */
    int in, out, err;
    bool tty;
    unsigned rows, cols; /* the last resize */
    int launch_exit;     /* 126, 127 when FAILED */
    char stage[16];
    struct vic_err error;
    /* State or exit changed.  'exited' may come before the launch report is read, never after a
     * FAILED without its child having gone too. */
    void (*changed)(void *arg);
    void *arg;
};

/* Empty: process_close may be called on it. */
void process_init(struct process *p, struct poll_loop *loop);
/* Fails only for want of resources (nothing was started then). */
VIC_CHECK bool process_start(struct process *p, struct children *children,
                             const struct process_options *o, void (*changed)(void *arg), void *arg,
                             struct vic_err *err);
void process_close(struct process *p); /* descriptors and watches; the child goes on */
/* Before the tty is there: the size that it will get. */
void process_resize(struct process *p, unsigned rows, unsigned cols);
bool process_done(const struct process *p); /* exited and its report read */

#endif
