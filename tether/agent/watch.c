/* The loop: see watch.h. */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

bool poll_init(struct poll_loop *l, struct vic_err *err)
{
    TAILQ_INIT(&l->timers);
    l->stop = false;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll >= 0 || vic_fail_errno(err, "epoll_create1");
}

void poll_fini(struct poll_loop *l)
{
    if (l->epoll >= 0)
        close(l->epoll);
    l->epoll = -1;
}

int64_t poll_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void poll_watch(struct poll_loop *l, struct poll_watch *w, int fd, uint32_t events)
{
    if (w->added && (w->fd != fd || events == 0))
        poll_unwatch(l, w);
    w->fd = fd;
    if (events == 0 || (w->added && w->events == events)) {
        w->events = events;
        return;
    }
    w->events = events;
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (epoll_ctl(l->epoll, w->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) == 0)
        w->added = true;
}

void poll_unwatch(struct poll_loop *l, struct poll_watch *w)
{
    if (w->added)
        epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    w->added = false;
    w->events = 0;
    w->fd = -1;
}

void poll_after(struct poll_loop *l, struct poll_timer *t, int64_t ms)
{
    poll_cancel(l, t);
    t->at_ms = poll_now_ms() + ms;
    t->armed = true;
    struct poll_timer *next;
    TAILQ_FOREACH (next, &l->timers, link) {
        if (next->at_ms > t->at_ms)
            break;
    }
    if (next)
        TAILQ_INSERT_BEFORE(next, t, link);
    else
        TAILQ_INSERT_TAIL(&l->timers, t, link);
}

void poll_cancel(struct poll_loop *l, struct poll_timer *t)
{
    if (t->armed)
        TAILQ_REMOVE(&l->timers, t, link);
    t->armed = false;
}

static int64_t run_timers(struct poll_loop *l, int64_t max_ms)
{
    for (;;) {
        struct poll_timer *t = TAILQ_FIRST(&l->timers);
        if (!t)
            return max_ms;
        int64_t wait = t->at_ms - poll_now_ms();
        if (wait > 0)
            return max_ms >= 0 && max_ms < wait ? max_ms : wait;
        poll_cancel(l, t);
        t->fn(t->arg);
    }
}

void poll_once(struct poll_loop *l, int64_t max_ms)
{
    int64_t wait = run_timers(l, max_ms);
    if (l->stop)
        return;
    struct epoll_event e;
    int n = epoll_wait(l->epoll, &e, 1, wait > 3600000 ? 3600000 : (int)wait);
    if (n == 1) {
        struct poll_watch *w = e.data.ptr;
        w->fn(w->arg, e.events);
    }
}

void poll_run(struct poll_loop *l)
{
    while (!l->stop)
        poll_once(l, -1);
}
