/* The work queue, with a clock that is turned by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "queue.h"

enum { KEYS = 8, DEADLINE_MS = 20000 };

/* Key "0".."7": what its step answers, and what became of it. */
struct key_plan {
    enum ctl_verdict verdict;
    int64_t after_ms;
    bool hold; /* its steps wait until released */
    unsigned begun, ended, inside, most_inside;
};

struct fx {
    struct vic_clock clock; /* first: it is told by its address */
    struct queue *q;
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    int64_t mono_ms;
    struct key_plan keys[KEYS];
};

static int64_t wall_ns(const struct vic_clock *c)
{
    (void)c;
    return 0;
}

static int64_t mono_ns(const struct vic_clock *c)
{
    struct fx *x = (struct fx *)(uintptr_t)c;
    mutex_lock(&x->lock);
    int64_t ms = x->mono_ms;
    mutex_unlock(&x->lock);
    return ms * 1000000;
}

static enum ctl_verdict step(void *arg, unsigned kind, const char *id, int64_t *after_ms)
{
    struct fx *x = arg;
    (void)kind;
    mutex_lock(&x->lock);
    struct key_plan *k = &x->keys[id[0] - '0'];
    k->begun++;
    if (++k->inside > k->most_inside)
        k->most_inside = k->inside;
    cond_broadcast(&x->wake);
    while (k->hold)
        cond_wait(&x->wake, &x->lock);
    k->inside--;
    k->ended++;
    *after_ms = k->after_ms;
    enum ctl_verdict verdict = k->verdict;
    cond_broadcast(&x->wake);
    mutex_unlock(&x->lock);
    return verdict;
}

static void open_queue(struct fx *x, unsigned workers)
{
    *x = (struct fx){.clock = {wall_ns, mono_ns}, .mono_ms = 1000};
    mutex_init(&x->lock);
    cond_init(&x->wake);
    x->q = queue_new(workers, &x->clock, step, x);
}

static void close_queue(struct fx *x)
{
    queue_free(x->q);
    cond_fini(&x->wake);
    mutex_fini(&x->lock);
}

static void set_hold(struct fx *x, unsigned key, bool hold)
{
    mutex_lock(&x->lock);
    x->keys[key].hold = hold;
    cond_broadcast(&x->wake);
    mutex_unlock(&x->lock);
}

static void until(struct fx *x, const unsigned *counter, unsigned n)
{
    int64_t end = clock_mono_ms(&vic_clock_real) + DEADLINE_MS;
    mutex_lock(&x->lock);
    while (*counter < n && clock_mono_ms(&vic_clock_real) < end)
        cond_wait_ms(&x->wake, &x->lock, 100);
    unsigned got = *counter;
    mutex_unlock(&x->lock);
    assert_true(got >= n);
}

static unsigned ended(struct fx *x, unsigned key)
{
    mutex_lock(&x->lock);
    unsigned n = x->keys[key].ended;
    mutex_unlock(&x->lock);
    return n;
}

/* Turns the clock; when it returns, what became due has been run (with one worker). */
static void turn(struct fx *x, int64_t ms)
{
    mutex_lock(&x->lock);
    x->mono_ms += ms;
    unsigned n = x->keys[7].ended;
    mutex_unlock(&x->lock);
    for (unsigned i = 1; i <= 2; i++) {
        queue_add(x->q, 1, "7"); /* due keys are promoted before it is run the first time */
        until(x, &x->keys[7].ended, n + i);
    }
}

static void adds_collapse(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 1);
    for (int i = 0; i < 10; i++)
        queue_add(x.q, 1, "0");
    queue_add(x.q, 1, "1");
    assert_true(queue_start(x.q));
    until(&x, &x.keys[1].ended, 1);
    assert_int_equal(ended(&x, 0), 1);
    close_queue(&x);
}

static void one_worker_per_key_and_dirty_runs_again(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 4);
    set_hold(&x, 0, true);
    assert_true(queue_start(x.q));
    queue_add(x.q, 1, "0");
    until(&x, &x.keys[0].begun, 1);
    for (int i = 0; i < 5; i++)
        queue_add(x.q, 1, "0");
    queue_add(x.q, 1, "1"); /* others go on meanwhile */
    until(&x, &x.keys[1].ended, 1);
    set_hold(&x, 0, false);
    until(&x, &x.keys[0].ended, 2);
    turn(&x, 0);
    assert_int_equal(ended(&x, 0), 2);
    assert_int_equal(x.keys[0].most_inside, 1);
    close_queue(&x);
}

static void keys_run_side_by_side(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 2);
    assert_true(queue_start(x.q));
    set_hold(&x, 0, true);
    set_hold(&x, 1, true);
    queue_add(x.q, 1, "0");
    queue_add(x.q, 1, "1");
    until(&x, &x.keys[0].begun, 1);
    until(&x, &x.keys[1].begun, 1);
    set_hold(&x, 0, false);
    set_hold(&x, 1, false);
    close_queue(&x);
}

static void failures_back_off_and_are_forgotten(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 1);
    assert_true(queue_start(x.q));
    x.keys[0].verdict = CTL_FAIL;
    queue_add(x.q, 1, "0");
    until(&x, &x.keys[0].ended, 1);
    turn(&x, 0); /* its next time is set when another key's step has run */
    int64_t ms = QUEUE_BACKOFF_MS;
    for (unsigned n = 1; n < 14;
         n++, ms = ms * 2 < QUEUE_BACKOFF_MAX_MS ? ms * 2 : QUEUE_BACKOFF_MAX_MS) {
        turn(&x, ms / 2 - 1);
        assert_int_equal(ended(&x, 0), n);
        turn(&x, ms - ms / 2 + 3);
        assert_int_equal(ended(&x, 0), n + 1);
    }
    mutex_lock(&x.lock);
    x.keys[0].verdict = CTL_AGAIN; /* succeeds once, then fails again: from the beginning */
    x.keys[0].after_ms = 10;
    mutex_unlock(&x.lock);
    turn(&x, QUEUE_BACKOFF_MAX_MS + 2);
    assert_int_equal(ended(&x, 0), 15);
    mutex_lock(&x.lock);
    x.keys[0].verdict = CTL_FAIL;
    mutex_unlock(&x.lock);
    turn(&x, 12);
    assert_int_equal(ended(&x, 0), 16);
    turn(&x, QUEUE_BACKOFF_MS + 2);
    assert_int_equal(ended(&x, 0), 17);
    close_queue(&x);
}

static void a_change_ends_a_back_off_but_not_a_failing_step(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 1);
    assert_true(queue_start(x.q));
    x.keys[0].verdict = CTL_FAIL;
    set_hold(&x, 0, true);
    queue_add(x.q, 1, "0");
    until(&x, &x.keys[0].begun, 1);
    queue_add(x.q, 1, "0"); /* while it fails: no hurry */
    set_hold(&x, 0, false);
    until(&x, &x.keys[0].ended, 1);
    turn(&x, 0);
    assert_int_equal(ended(&x, 0), 1);
    queue_add(x.q, 1, "0"); /* while it waits */
    until(&x, &x.keys[0].ended, 2);
    close_queue(&x);
}

static void again_and_wait_have_their_times(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 1);
    assert_true(queue_start(x.q));
    x.keys[0].verdict = CTL_AGAIN;
    x.keys[0].after_ms = 100;
    x.keys[1].verdict = CTL_WAIT;
    queue_add(x.q, 1, "0");
    queue_add(x.q, 1, "1");
    until(&x, &x.keys[1].ended, 1);
    turn(&x, 0);
    turn(&x, 99);
    assert_int_equal(ended(&x, 0), 1);
    turn(&x, 3);
    assert_int_equal(ended(&x, 0), 2);
    assert_int_equal(ended(&x, 1), 1);
    turn(&x, 4900);
    assert_int_equal(ended(&x, 1), 2);
    close_queue(&x);
}

static void a_running_key_is_known(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    (void)state;
    open_queue(&x, 1);
    assert_true(queue_start(x.q));
    assert_false(queue_is_running(x.q, 1, "0"));
    set_hold(&x, 0, true);
    queue_add(x.q, 1, "0");
    until(&x, &x.keys[0].begun, 1);
    assert_true(queue_is_running(x.q, 1, "0"));
    assert_false(queue_is_running(x.q, 2, "0"));
    set_hold(&x, 0, false);
    turn(&x, 0);
    assert_false(queue_is_running(x.q, 1, "0"));
    close_queue(&x);
}

static void nothing_begins_after_stop(void **state)
{
    static struct fx x; /* a failed test leaves its threads */
    struct queue_stats st;
    (void)state;
    open_queue(&x, 1);
    assert_true(queue_start(x.q));
    queue_add(x.q, 1, "0");
    until(&x, &x.keys[0].ended, 1);
    queue_stop(x.q);
    queue_add(x.q, 1, "1");
    queue_stop(x.q); /* twice is fine */
    queue_stats(x.q, &st);
    assert_int_equal(st.steps, 1);
    assert_int_equal(st.failures, 0);
    assert_int_equal(st.queued, 0);
    assert_int_equal(st.running, 0);
    assert_int_equal(x.keys[1].begun, 0);
    close_queue(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_collapse),
        cmocka_unit_test(one_worker_per_key_and_dirty_runs_again),
        cmocka_unit_test(keys_run_side_by_side),
        cmocka_unit_test(failures_back_off_and_are_forgotten),
        cmocka_unit_test(a_change_ends_a_back_off_but_not_a_failing_step),
        cmocka_unit_test(again_and_wait_have_their_times),
        cmocka_unit_test(a_running_key_is_known),
        cmocka_unit_test(nothing_begins_after_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
