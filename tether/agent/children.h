/* Children of PID 1: SIGCHLD through a signalfd, each exit handed to whoever started the child.
 * Orphans that the kernel hands to PID 1 are reaped and forgotten. */
#ifndef VIC_TETHER_AGENT_CHILDREN_H
#define VIC_TETHER_AGENT_CHILDREN_H

#include <sys/types.h>

#include "watch.h"

struct child {
    pid_t pid; /* 0 = none */
    void (*exited)(void *arg, int status);
    void *arg;
    LIST_ENTRY(child) link;
};

struct children {
    struct poll_loop *loop;
    struct poll_watch watch;
    LIST_HEAD(child_list, child) all;
};

/* Blocks SIGCHLD; children unblock all signals before they exec. */
VIC_CHECK bool children_init(struct children *c, struct poll_loop *loop, struct vic_err *err);
void children_fini(struct children *c);
/* An exit before this call is not lost: reaping happens in the loop only. */
void children_add(struct children *c, struct child *child, pid_t pid);
void children_remove(struct child *child);

#endif
