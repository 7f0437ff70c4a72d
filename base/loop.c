/* The event loop: see loop.h.
 *
 * libuv allows one call from other threads, uv_async_send; loop_post is a queue behind it.  The
 * queue is taken as a whole and run in order, outside the lock, so a posted function may post.
 *
 * Stopping is a flag in the same queue's lock: what was posted before it runs, what comes after is
 * refused, except loop_post_late (a pool's completions, which own memory).
 *
 * Freeing: whatever thread calls loop_free becomes the loop's thread and turns the loop until every
 * handle has closed, so that owners get their last callbacks in the ordinary way.
 *
 * libuv writes with write(2), which raises SIGPIPE on a dead peer: the signal is blocked on the
 * loop's thread, not ignored in the process, which is not ours to decide.  proc_spawn gives
 * children an empty mask. */
#include "loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop_priv.h"
#include "mem.h"
#include "sync.h"
#include "tls.h"

struct post {
    struct post *next;
    void (*fn)(void *arg);
    void *arg;
};

TAILQ_HEAD(item_list, loop_item);

struct loop {
    uv_loop_t uv;
    uv_async_t wake;
    char name[16];
    /* owned by loop thread */
    struct item_list items[LOOP_PHASES];
    struct loop_scratch *scratch;
    struct vic_mutex lock;
    struct vic_cond ended;
    /* guarded: lock */
    struct post *head VIC_GUARDED, **tail VIC_GUARDED;
    bool stopping VIC_GUARDED, running VIC_GUARDED, started VIC_GUARDED;
    pthread_t thread VIC_GUARDED;
    _Atomic pthread_t owner; /* whose turn it is to call into the loop */
};

static void run_posts(struct loop *l)
{
    mutex_lock(&l->lock);
    struct post *p = l->head;
    l->head = NULL;
    l->tail = &l->head;
    mutex_unlock(&l->lock);
    while (p) {
        struct post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
}

static void on_wake(uv_async_t *async)
{
    struct loop *l = async->data;
    run_posts(l);
    mutex_lock(&l->lock);
    bool stop = l->stopping;
    mutex_unlock(&l->lock);
    if (stop)
        uv_stop(&l->uv);
}

struct loop *loop_new(const char *name, struct vic_err *err)
{
    struct loop *l = xcalloc(1, sizeof *l);
    int r = uv_loop_init(&l->uv);
    if (r == 0 && (r = uv_async_init(&l->uv, &l->wake, on_wake)) != 0)
        uv_loop_close(&l->uv);
    if (r != 0) {
        vic_fail(err, VIC_IO, -r, "make an event loop");
        free(l);
        return NULL;
    }
    l->wake.data = l;
    snprintf(l->name, sizeof l->name, "%s", name);
    for (int i = 0; i < LOOP_PHASES; i++)
        TAILQ_INIT(&l->items[i]);
    mutex_init(&l->lock);
    cond_init(&l->ended);
    mutex_lock(&l->lock);
    l->tail = &l->head;
    l->owner = pthread_self();
    mutex_unlock(&l->lock);
    return l;
}

static void block_sigpipe(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void loop_run(struct loop *l)
{
    block_sigpipe();
    mutex_lock(&l->lock);
    l->owner = pthread_self();
    l->running = true;
    bool stop = l->stopping;
    mutex_unlock(&l->lock);
    while (!stop) {
        uv_run(&l->uv, UV_RUN_DEFAULT);
        mutex_lock(&l->lock);
        stop = l->stopping;
        mutex_unlock(&l->lock);
    }
    run_posts(l);
    mutex_lock(&l->lock);
    l->running = false;
    cond_broadcast(&l->ended);
    mutex_unlock(&l->lock);
}

static void *thread_main(void *arg)
{
    loop_run(arg);
    tls_thread_end();
    return NULL;
}

bool loop_start(struct loop *l, struct vic_err *err)
{
    mutex_lock(&l->lock);
    l->running = true; /* from now on, not only from the thread's first step */
    int r = pthread_create(&l->thread, NULL, thread_main, l);
    if (r == 0) {
        l->started = true;
        l->owner = l->thread;
        pthread_setname_np(l->thread, l->name);
    } else {
        l->running = false;
    }
    mutex_unlock(&l->lock);
    return r == 0 ? true : vic_fail(err, VIC_IO, r, "start the loop's thread");
}

void loop_stop(struct loop *l)
{
    mutex_lock(&l->lock);
    l->stopping = true;
    uv_async_send(&l->wake);
    mutex_unlock(&l->lock);
}

bool loop_is_thread(const struct loop *l)
{
    return pthread_equal(l->owner, pthread_self());
}

static bool post(struct loop *l, void (*fn)(void *arg), void *arg, bool late)
{
    struct post *p = xmalloc(sizeof *p);
    *p = (struct post){NULL, fn, arg};
    mutex_lock(&l->lock);
    bool taken = late || !l->stopping;
    if (taken) {
        *l->tail = p;
        l->tail = &p->next;
        uv_async_send(&l->wake);
    }
    mutex_unlock(&l->lock);
    if (!taken)
        free(p);
    return taken;
}

bool loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    return post(l, fn, arg, false);
}

void loop_post_late(struct loop *l, void (*fn)(void *arg), void *arg)
{
    post(l, fn, arg, true);
}

bool loop_adopt(struct loop *l)
{
    pthread_t thread = 0;
    bool join = false;
    mutex_lock(&l->lock);
    bool free_to_take = !l->running || l->stopping;
    if (free_to_take) {
        while (l->running)
            cond_wait(&l->ended, &l->lock);
        join = l->started;
        thread = l->thread;
        l->started = false;
        l->owner = pthread_self();
    }
    mutex_unlock(&l->lock);
    if (join)
        pthread_join(thread, NULL);
    return free_to_take;
}

void loop_pump(struct loop *l)
{
    block_sigpipe();
    run_posts(l);
    uv_run(&l->uv, UV_RUN_ONCE);
}

/* Ends every item of one phase and turns the loop until they are gone. */
static void end_items(struct loop *l, struct item_list *list)
{
    struct loop_item *item;
    while ((item = TAILQ_FIRST(list))) {
        /* Those that are ending go to the back: one at the front means that all are. */
        if (item->ending) {
            run_posts(l);
            uv_run(&l->uv, UV_RUN_NOWAIT);
            continue;
        }
        item->ending = true;
        TAILQ_REMOVE(list, item, link);
        TAILQ_INSERT_TAIL(list, item, link);
        item->end(item);
    }
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    loop_stop(l);
    loop_adopt(l);
    block_sigpipe();
    run_posts(l);
    for (int i = 0; i < LOOP_PHASES; i++)
        end_items(l, &l->items[i]);
    run_posts(l);
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    if (uv_loop_close(&l->uv) != 0)
        abort(); /* a handle that is no item: a mistake of ours */
    if (l->scratch)
        buf_fini(&l->scratch->plain);
    free(l->scratch);
    mutex_fini(&l->lock);
    cond_fini(&l->ended);
    free(l);
}

void loop_item_add(struct loop *l, struct loop_item *item, enum loop_phase phase,
                   void (*end)(struct loop_item *item))
{
    item->end = end;
    item->phase = phase;
    item->ending = false;
    TAILQ_INSERT_HEAD(&l->items[phase], item, link);
}

void loop_item_remove(struct loop *l, struct loop_item *item)
{
    TAILQ_REMOVE(&l->items[item->phase], item, link);
}

struct loop_scratch *loop_scratch(struct loop *l)
{
    if (!l->scratch) {
        l->scratch = xmalloc(sizeof *l->scratch);
        l->scratch->plain = (struct buf){0};
    }
    return l->scratch;
}

void *loop_uv(struct loop *l)
{
    return &l->uv;
}

/* ---- timers, signals, watches: one libuv handle each, freed when libuv is done with it ---- */

#define DEFINE_HANDLE(name, uv_type, ...)                                                          \
    struct name {                                                                                  \
        struct loop_item item;                                                                     \
        uv_type uv;                                                                                \
        struct loop *loop;                                                                         \
        void *arg;                                                                                 \
        __VA_ARGS__;                                                                               \
    };                                                                                             \
    static void name##_closed(uv_handle_t *h)                                                      \
    {                                                                                              \
        free(h->data);                                                                             \
    }                                                                                              \
    static void name##_close(struct name *t)                                                       \
    {                                                                                              \
        loop_item_remove(t->loop, &t->item);                                                       \
        uv_close((uv_handle_t *)&t->uv, name##_closed);                                            \
    }                                                                                              \
    static void name##_end(struct loop_item *item)                                                 \
    {                                                                                              \
        name##_close(CONTAINER_OF(item, struct name, item));                                       \
    }                                                                                              \
    static struct name *name##_make(struct loop *l, void *arg)                                     \
    {                                                                                              \
        struct name *t = xcalloc(1, sizeof *t);                                                    \
        t->loop = l;                                                                               \
        t->arg = arg;                                                                              \
        t->uv.data = t;                                                                            \
        return t;                                                                                  \
    }

DEFINE_HANDLE(loop_timer, uv_timer_t, void (*fn)(void *arg))
DEFINE_HANDLE(loop_watch, uv_poll_t, void (*fn)(void *arg))
DEFINE_HANDLE(loop_sig, uv_signal_t, void (*fn)(void *arg, int signum))

static void on_timer(uv_timer_t *uv)
{
    struct loop_timer *t = uv->data;
    t->fn(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct loop_timer *t = loop_timer_make(l, arg);
    t->fn = fn;
    uv_timer_init(&l->uv, &t->uv);
    loop_item_add(l, &t->item, LOOP_REST, loop_timer_end);
    return t;
}

void loop_timer_set(struct loop_timer *t, int64_t after_ms)
{
    uv_update_time(&t->loop->uv); /* else a long callback before this one shortens the wait */
    uv_timer_start(&t->uv, on_timer, after_ms > 0 ? (uint64_t)after_ms : 0, 0);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

void loop_timer_free(struct loop_timer *t)
{
    if (t)
        loop_timer_close(t);
}

static void on_signal(uv_signal_t *uv, int signum)
{
    struct loop_sig *s = uv->data;
    s->fn(s->arg, signum);
}

bool loop_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg,
                 struct vic_err *err)
{
    struct loop_sig *s = loop_sig_make(l, arg);
    s->fn = fn;
    uv_signal_init(&l->uv, &s->uv);
    loop_item_add(l, &s->item, LOOP_REST, loop_sig_end);
    int r = uv_signal_start(&s->uv, on_signal, signum);
    if (r == 0)
        return true;
    loop_sig_close(s);
    return vic_fail(err, VIC_INVALID, -r, "handle signal %d", signum);
}

static void on_readable(uv_poll_t *uv, int status, int events)
{
    struct loop_watch *w = uv->data;
    (void)status, (void)events; /* an error is something to read, too: read(2) will name it */
    w->fn(w->arg);
}

struct loop_watch *loop_watch_new(struct loop *l, int fd, void (*fn)(void *arg), void *arg,
                                  struct vic_err *err)
{
    struct loop_watch *w = loop_watch_make(l, arg);
    w->fn = fn;
    int r = uv_poll_init(&l->uv, &w->uv, fd);
    if (r != 0) {
        free(w);
        vic_fail(err, VIC_INVALID, -r, "watch descriptor %d", fd);
        return NULL;
    }
    loop_item_add(l, &w->item, LOOP_REST, loop_watch_end);
    r = uv_poll_start(&w->uv, UV_READABLE | UV_DISCONNECT, on_readable);
    if (r == 0)
        return w;
    loop_watch_close(w);
    vic_fail(err, VIC_INVALID, -r, "watch descriptor %d", fd);
    return NULL;
}

void loop_watch_free(struct loop_watch *w)
{
    if (w)
        loop_watch_close(w);
}
