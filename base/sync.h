/* Locks that the compiler can check, and the pool of threads for blocking work.
 *
 * clang's -Wthread-safety knows 'struct vic_mutex' as a capability.  A member is marked
 * VIC_GUARDED ("by lock" in a comment says which); a function that wants the lock held is marked
 * VIC_REQUIRES.  No lock is held over I/O. */
#ifndef VIC_BASE_SYNC_H
#define VIC_BASE_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define VIC_ATTR(x) __attribute__((x))
#else
#define VIC_ATTR(x)
#endif
#define VIC_GUARDED     VIC_ATTR(guarded_var)
#define VIC_REQUIRES(m) VIC_ATTR(requires_capability(m))
#define VIC_EXCLUDES(m) VIC_ATTR(locks_excluded(m))

struct VIC_ATTR(capability("mutex")) vic_mutex {
    pthread_mutex_t m;
};

struct vic_cond {
    pthread_cond_t c; /* on CLOCK_MONOTONIC */
};

void mutex_init(struct vic_mutex *m);
void mutex_fini(struct vic_mutex *m);
void mutex_lock(struct vic_mutex *m) VIC_ATTR(acquire_capability(*m));
void mutex_unlock(struct vic_mutex *m) VIC_ATTR(release_capability(*m));

void cond_init(struct vic_cond *c);
void cond_fini(struct vic_cond *c);
void cond_wait(struct vic_cond *c, struct vic_mutex *m) VIC_REQUIRES(*m);
/* False when 'ms' went by without a signal.  May wake without a cause, as any condition. */
bool cond_wait_ms(struct vic_cond *c, struct vic_mutex *m, int64_t ms) VIC_REQUIRES(*m);
void cond_signal(struct vic_cond *c);
void cond_broadcast(struct vic_cond *c);

/* A pool runs jobs in up to 'threads' threads, in the order given.  pool_free runs what is queued
 * and joins.  Threads: pool_run from any; false when 'limit' jobs wait already (0 = no limit). */
struct vic_pool;
struct vic_pool *pool_new(const char *name, unsigned threads, size_t limit);
bool pool_run(struct vic_pool *p, void (*job)(void *arg), void *arg);
void pool_free(struct vic_pool *p);

#endif
