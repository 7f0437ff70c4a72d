/* The work queue.
 *
 * Keys, not events: ten changes to one container while it is being worked on collapse to one more
 * pass.  A key is in exactly one of {idle, queued, running, running + dirty}; a key that is idle
 * and has no due time is forgotten.  One worker per key at a time.  Back-off doubles from 250 ms to
 * 60 s per key with jitter, and is forgotten on success, so one broken VM never slows the others.
 *
 * Keys that wait for a time are idle with a due time; the workers themselves look for the earliest
 * due key when nothing is queued.  Few keys wait at a time (those under work), so that is a walk
 * over the list of waiting ones. */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#include "base/mem.h"

struct key_name {
    unsigned kind;
    char id[QUEUE_ID_SIZE];
};

struct key {
    struct key_name name;
    bool queued, running, dirty;
    bool waits;     /* due because a WAIT named no time of its own */
    bool polled;    /* queued for that and for nothing else */
    int64_t due_ms; /* 0 = none */
    unsigned failures;
    TAILQ_ENTRY(key) link;    /* in ready */
    TAILQ_ENTRY(key) waiting; /* in delayed, while due_ms is set */
    UT_hash_handle hh;
};
TAILQ_HEAD(key_list, key);

struct queue {
    queue_step step; /* immutable after init */
    void *arg;
    const struct vic_clock *clock;
    unsigned workers;
    pthread_t *threads;
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    struct key *keys VIC_GUARDED;
    struct key_list ready VIC_GUARDED;
    struct key_list delayed VIC_GUARDED;
    bool stopping VIC_GUARDED;
    struct queue_stats stats VIC_GUARDED;
};

struct queue *queue_new(unsigned workers, const struct vic_clock *clock, queue_step step, void *arg)
{
    struct queue *q = xcalloc(1, sizeof *q);
    q->step = step;
    q->arg = arg;
    q->clock = clock;
    q->workers = workers ? workers : 8;
    q->threads = xcalloc(q->workers, sizeof *q->threads);
    mutex_init(&q->lock);
    cond_init(&q->wake);
    mutex_lock(&q->lock);
    TAILQ_INIT(&q->ready);
    TAILQ_INIT(&q->delayed);
    mutex_unlock(&q->lock);
    return q;
}

static void undelay(struct queue *q, struct key *k) VIC_REQUIRES(q->lock)
{
    if (k->due_ms)
        TAILQ_REMOVE(&q->delayed, k, waiting);
    k->due_ms = 0;
}

static void make_ready(struct queue *q, struct key *k) VIC_REQUIRES(q->lock)
{
    undelay(q, k);
    k->queued = true;
    k->polled = false;
    q->stats.queued++;
    TAILQ_INSERT_TAIL(&q->ready, k, link);
}

static void delay(struct queue *q, struct key *k, int64_t ms) VIC_REQUIRES(q->lock)
{
    undelay(q, k);
    k->waits = false;
    k->due_ms = clock_mono_ms(q->clock) + (ms > 0 ? ms : 0) + 1;
    TAILQ_INSERT_TAIL(&q->delayed, k, waiting);
}

static struct key_name make_name(unsigned kind, const char *id)
{
    struct key_name name;
    memset(&name, 0, sizeof name); /* it is hashed as bytes */
    name.kind = kind;
    snprintf(name.id, sizeof name.id, "%s", id);
    return name;
}

bool queue_is_running(struct queue *q, unsigned kind, const char *id)
{
    struct key_name name = make_name(kind, id);
    struct key *k;
    mutex_lock(&q->lock);
    HASH_FIND(hh, q->keys, &name, sizeof name, k);
    bool running = k && k->running;
    mutex_unlock(&q->lock);
    return running;
}

void queue_add(struct queue *q, unsigned kind, const char *id)
{
    struct key_name name = make_name(kind, id);
    mutex_lock(&q->lock);
    struct key *k;
    HASH_FIND(hh, q->keys, &name, sizeof name, k);
    if (!k && !q->stopping) {
        k = xcalloc(1, sizeof *k);
        k->name = name;
        HASH_ADD(hh, q->keys, name, sizeof k->name, k);
    }
    if (k && k->running)
        k->dirty = true;
    else if (k && !k->queued)
        make_ready(q, k);
    cond_signal(&q->wake);
    mutex_unlock(&q->lock);
}

/* Makes what is due ready; returns how long to wait for the next one. */
static int64_t promote(struct queue *q) VIC_REQUIRES(q->lock)
{
    int64_t now = clock_mono_ms(q->clock), next = 60000;
    struct key *k = TAILQ_FIRST(&q->delayed);
    while (k) {
        struct key *after = TAILQ_NEXT(k, waiting);
        if (k->due_ms <= now) {
            make_ready(q, k);
            k->polled = k->waits;
        } else if (k->due_ms - now < next) {
            next = k->due_ms - now;
        }
        k = after;
    }
    return next;
}

static int64_t backoff_ms(unsigned failures)
{
    int64_t ms = QUEUE_BACKOFF_MS;
    for (unsigned i = 1; i < failures && ms < QUEUE_BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > QUEUE_BACKOFF_MAX_MS)
        ms = QUEUE_BACKOFF_MAX_MS;
    return ms / 2 + (int64_t)(random_u64() % (uint64_t)(ms / 2 + 1));
}

static void settle(struct queue *q, struct key *k, enum ctl_verdict verdict, int64_t after_ms)
    VIC_REQUIRES(q->lock)
{
    k->running = false;
    q->stats.running--;
    q->stats.steps++;
    if (k->polled && verdict != CTL_WAIT)
        q->stats.late++;
    if (verdict == CTL_FAIL) {
        q->stats.failures++;
        k->failures++;
    } else {
        k->failures = 0;
    }
    if (k->dirty) {
        k->dirty = false;
        /* A failing step is not hurried by changes that come while it fails. */
        if (verdict != CTL_FAIL) {
            make_ready(q, k);
            return;
        }
    }
    switch (verdict) {
    case CTL_DONE:
        HASH_DEL(q->keys, k);
        free(k);
        break;
    case CTL_AGAIN:
        delay(q, k, after_ms);
        break;
    case CTL_WAIT:
        delay(q, k, after_ms > 0 ? after_ms : QUEUE_WAIT_MS);
        k->waits = after_ms <= 0;
        break;
    case CTL_FAIL:
        delay(q, k, backoff_ms(k->failures));
        break;
    }
}

static void *worker(void *arg)
{
    struct queue *q = arg;
    mutex_lock(&q->lock);
    while (!q->stopping) {
        int64_t next = promote(q);
        struct key *k = TAILQ_FIRST(&q->ready);
        if (!k) {
            cond_wait_ms(&q->wake, &q->lock, next);
            continue;
        }
        TAILQ_REMOVE(&q->ready, k, link);
        q->stats.queued--;
        q->stats.running++;
        k->queued = false;
        k->running = true;
        struct key_name name = k->name;
        if (TAILQ_FIRST(&q->ready))
            cond_signal(&q->wake);
        mutex_unlock(&q->lock);
        int64_t after_ms = 0;
        enum ctl_verdict verdict = q->step(q->arg, name.kind, name.id, &after_ms);
        mutex_lock(&q->lock);
        settle(q, k, verdict, after_ms);
    }
    mutex_unlock(&q->lock);
    return NULL;
}

bool queue_start(struct queue *q)
{
    for (unsigned i = 0; i < q->workers; i++) {
        if (pthread_create(&q->threads[i], NULL, worker, q) != 0) {
            q->workers = i;
            return i > 0;
        }
        pthread_setname_np(q->threads[i], "control");
    }
    return true;
}

void queue_stop(struct queue *q)
{
    mutex_lock(&q->lock);
    bool was = q->stopping;
    q->stopping = true;
    cond_broadcast(&q->wake);
    mutex_unlock(&q->lock);
    for (unsigned i = 0; i < q->workers && !was; i++)
        if (q->threads[i])
            pthread_join(q->threads[i], NULL);
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    queue_stop(q);
    mutex_lock(&q->lock);
    struct key *k, *next;
    HASH_ITER(hh, q->keys, k, next)
    {
        HASH_DEL(q->keys, k);
        free(k);
    }
    mutex_unlock(&q->lock);
    cond_fini(&q->wake);
    mutex_fini(&q->lock);
    free(q->threads);
    free(q);
}

void queue_stats(struct queue *q, struct queue_stats *out)
{
    mutex_lock(&q->lock);
    *out = q->stats;
    mutex_unlock(&q->lock);
}
