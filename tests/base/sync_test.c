/* base/sync: the pool runs what it took, in order, in no more threads than told; conditions end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sync.h"

struct work {
    struct vic_mutex lock;
    struct vic_cond changed;
    bool open;                     /* all below, and this: by lock */
    unsigned running, most, order; /* most = of 'running' */
    unsigned done[64];
};

static void work_init(struct work *w)
{
    *w = (struct work){0};
    mutex_init(&w->lock);
    cond_init(&w->changed);
}

static void work_fini(struct work *w)
{
    cond_fini(&w->changed);
    mutex_fini(&w->lock);
}

static void set_open(struct work *w)
{
    mutex_lock(&w->lock);
    w->open = true;
    cond_broadcast(&w->changed);
    mutex_unlock(&w->lock);
}

/* Waits for the gate. */
static void gated(void *arg)
{
    struct work *w = arg;
    mutex_lock(&w->lock);
    w->running++;
    if (w->running > w->most)
        w->most = w->running;
    cond_broadcast(&w->changed);
    while (!w->open)
        cond_wait(&w->changed, &w->lock);
    w->running--;
    w->order++;
    mutex_unlock(&w->lock);
}

static void await_running(struct work *w, unsigned n)
{
    mutex_lock(&w->lock);
    while (w->running < n)
        assert_true(cond_wait_ms(&w->changed, &w->lock, 20000));
    mutex_unlock(&w->lock);
}

static void pool_uses_its_threads_and_no_more(void **state)
{
    (void)state;
    struct work w;
    work_init(&w);
    struct vic_pool *p = pool_new("a-rather-long-name", 3, 0);
    for (int i = 0; i < 10; i++)
        assert_true(pool_run(p, gated, &w));
    await_running(&w, 3);
    set_open(&w);
    pool_free(p); /* runs what is queued */
    assert_int_equal(w.order, 10);
    assert_int_equal(w.most, 3);
    work_fini(&w);
}

static void pool_has_a_limit(void **state)
{
    (void)state;
    struct work w;
    work_init(&w);
    struct vic_pool *p = pool_new("p", 1, 2);
    assert_true(pool_run(p, gated, &w));
    await_running(&w, 1);
    assert_true(pool_run(p, gated, &w));
    assert_true(pool_run(p, gated, &w));
    assert_false(pool_run(p, gated, &w));
    set_open(&w);
    pool_free(p);
    assert_int_equal(w.order, 3);
    work_fini(&w);
    pool_free(NULL);
    pool_free(pool_new("idle", 0, 0));
}

struct job {
    struct work *w;
    unsigned n;
};

static void note_order(void *arg)
{
    struct job *j = arg;
    mutex_lock(&j->w->lock);
    j->w->done[j->w->order++] = j->n;
    mutex_unlock(&j->w->lock);
}

static void one_thread_keeps_the_order(void **state)
{
    (void)state;
    struct work w;
    struct job jobs[64];
    work_init(&w);
    struct vic_pool *p = pool_new("p", 1, 0);
    for (unsigned i = 0; i < 64; i++) {
        jobs[i] = (struct job){&w, i};
        assert_true(pool_run(p, note_order, &jobs[i]));
    }
    pool_free(p);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(w.done[i], i);
    work_fini(&w);
}

static void waits_end(void **state)
{
    (void)state;
    struct work w;
    work_init(&w);
    int64_t before = clock_mono_ms(&vic_clock_real);
    mutex_lock(&w.lock);
    while (cond_wait_ms(&w.changed, &w.lock, 30))
        ; /* it may wake without a cause */
    assert_false(cond_wait_ms(&w.changed, &w.lock, 0));
    assert_false(cond_wait_ms(&w.changed, &w.lock, -5));
    mutex_unlock(&w.lock);
    assert_true(clock_mono_ms(&vic_clock_real) - before >= 29);
    work_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_uses_its_threads_and_no_more),
        cmocka_unit_test(pool_has_a_limit),
        cmocka_unit_test(one_thread_keeps_the_order),
        cmocka_unit_test(waits_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
