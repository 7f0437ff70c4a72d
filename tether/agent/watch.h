/* The agent's loop: descriptors and timers, one thread.
 *
 * epoll is asked for one event at a time, so a handler may remove any watch, its own included,
 * without a stale event turning up afterwards; epoll rotates its ready list, so no descriptor
 * starves.  A watch and a timer are embedded in whoever owns them; removing twice is harmless. */
#ifndef VIC_TETHER_AGENT_WATCH_H
#define VIC_TETHER_AGENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"

struct poll_watch {
    int fd;          /* owned by the watch's owner; -1 = not watched */
    uint32_t events; /* EPOLLIN, EPOLLOUT; 0 = paused */
    void (*fn)(void *arg, uint32_t events);
    void *arg;
    bool added;
};

struct poll_timer {
    int64_t at_ms; /* monotonic */
    void (*fn)(void *arg);
    void *arg;
    bool armed;
    TAILQ_ENTRY(poll_timer) link;
};

struct poll_loop {
    int epoll;
    bool stop;
    TAILQ_HEAD(poll_timers, poll_timer) timers; /* soonest first */
};

VIC_CHECK bool poll_init(struct poll_loop *l, struct vic_err *err);
void poll_fini(struct poll_loop *l);
int64_t poll_now_ms(void);

/* Watches 'fd', or changes what is watched.  A paused watch hears nothing, hang-ups included: it is
 * taken out of the set, as epoll reports EPOLLHUP whatever was asked for. */
void poll_watch(struct poll_loop *l, struct poll_watch *w, int fd, uint32_t events);
void poll_unwatch(struct poll_loop *l, struct poll_watch *w);

void poll_after(struct poll_loop *l, struct poll_timer *t, int64_t ms);
void poll_cancel(struct poll_loop *l, struct poll_timer *t);

/* Runs until l->stop. */
void poll_run(struct poll_loop *l);
/* Handles what happens within 'ms' (tests, and the last acts of a run). */
void poll_once(struct poll_loop *l, int64_t max_ms);

#endif
