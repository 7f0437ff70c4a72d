/* Locks and the pool: see sync.h. */
#include "sync.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mem.h"

void mutex_init(struct vic_mutex *m)
{
    pthread_mutex_init(&m->m, NULL);
}

void mutex_fini(struct vic_mutex *m)
{
    pthread_mutex_destroy(&m->m);
}

void mutex_lock(struct vic_mutex *m) VIC_ATTR(no_thread_safety_analysis)
{
    if (pthread_mutex_lock(&m->m) != 0)
        abort();
}

void mutex_unlock(struct vic_mutex *m) VIC_ATTR(no_thread_safety_analysis)
{
    if (pthread_mutex_unlock(&m->m) != 0)
        abort();
}

void cond_init(struct vic_cond *c)
{
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&c->c, &a);
    pthread_condattr_destroy(&a);
}

void cond_fini(struct vic_cond *c)
{
    pthread_cond_destroy(&c->c);
}

void cond_wait(struct vic_cond *c, struct vic_mutex *m)
{
    pthread_cond_wait(&c->c, &m->m);
}

bool cond_wait_ms(struct vic_cond *c, struct vic_mutex *m, int64_t ms)
{
    struct timespec ts;
    if (ms < 0)
        ms = 0;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += (time_t)(ms / 1000);
    ts.tv_nsec += (long)(ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000)
        ts.tv_sec++, ts.tv_nsec -= 1000000000;
    return pthread_cond_timedwait(&c->c, &m->m, &ts) != ETIMEDOUT;
}

void cond_signal(struct vic_cond *c)
{
    pthread_cond_signal(&c->c);
}

void cond_broadcast(struct vic_cond *c)
{
    pthread_cond_broadcast(&c->c);
}

struct pool_job {
    struct pool_job *next;
    void (*job)(void *arg);
    void *arg;
};

struct vic_pool {
    char name[16];
    unsigned max;
    size_t limit;
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    struct pool_job *head VIC_GUARDED, **tail VIC_GUARDED;
    size_t queued VIC_GUARDED;
    unsigned count VIC_GUARDED, idle VIC_GUARDED;
    bool stopping VIC_GUARDED;
    pthread_t *threads VIC_GUARDED;
};

static void *pool_main(void *arg)
{
    struct vic_pool *p = arg;
    mutex_lock(&p->lock);
    for (;;) {
        while (!p->head && !p->stopping) {
            p->idle++;
            cond_wait(&p->wake, &p->lock);
            p->idle--;
        }
        if (!p->head)
            break;
        struct pool_job *j = p->head;
        p->head = j->next;
        if (!p->head)
            p->tail = &p->head;
        p->queued--;
        mutex_unlock(&p->lock);
        j->job(j->arg);
        free(j);
        mutex_lock(&p->lock);
    }
    mutex_unlock(&p->lock);
    return NULL;
}

struct vic_pool *pool_new(const char *name, unsigned threads, size_t limit)
{
    struct vic_pool *p = xcalloc(1, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    mutex_init(&p->lock);
    cond_init(&p->wake);
    mutex_lock(&p->lock);
    p->max = threads ? threads : 1;
    p->limit = limit;
    p->tail = &p->head;
    p->threads = xcalloc(p->max, sizeof *p->threads);
    mutex_unlock(&p->lock);
    return p;
}

bool pool_run(struct vic_pool *p, void (*job)(void *arg), void *arg)
{
    bool taken = false;
    struct pool_job *j = xmalloc(sizeof *j);
    *j = (struct pool_job){NULL, job, arg};
    mutex_lock(&p->lock);
    if (!p->stopping && (!p->limit || p->queued < p->limit)) {
        taken = true;
        *p->tail = j;
        p->tail = &j->next;
        p->queued++;
        if (p->queued > p->idle && p->count < p->max &&
            pthread_create(&p->threads[p->count], NULL, pool_main, p) == 0)
            pthread_setname_np(p->threads[p->count++], p->name);
        if (!p->count)
            abort(); /* not one thread could be made: nothing would ever run */
        cond_signal(&p->wake);
    }
    mutex_unlock(&p->lock);
    if (!taken)
        free(j);
    return taken;
}

void pool_free(struct vic_pool *p)
{
    if (!p)
        return;
    mutex_lock(&p->lock);
    p->stopping = true;
    cond_broadcast(&p->wake);
    unsigned count = p->count;
    pthread_t *threads = p->threads;
    mutex_unlock(&p->lock);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    cond_fini(&p->wake);
    mutex_fini(&p->lock);
    free(p);
}
