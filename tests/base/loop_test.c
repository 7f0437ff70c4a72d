/* base/loop.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"

enum { POSTERS = 4, POSTS = 2000 };

struct ctx {
    struct loop *l;
    struct loop_timer *timer;
    struct loop_watch *watch;
    int fd;
    unsigned fired, last[POSTERS];
    bool in_order;
    int64_t at_ms;
};

static struct ctx ctx_new(void)
{
    struct vic_err err;
    struct ctx c = {.l = loop_new("test", &err), .in_order = true};
    assert_non_null(c.l);
    return c;
}

struct note {
    struct ctx *c;
    unsigned poster, n;
};

static void on_note(void *arg)
{
    struct note *note = arg;
    struct ctx *c = note->c;
    c->in_order = c->in_order && loop_is_thread(c->l) && note->n == c->last[note->poster] + 1;
    c->last[note->poster] = note->n;
    c->fired++;
    free(note);
}

static void *post_many(void *arg)
{
    struct note *from = arg;
    for (unsigned i = 1; i <= POSTS; i++) {
        struct note *n = xmalloc(sizeof *n);
        *n = (struct note){from->c, from->poster, i};
        if (!loop_post(from->c->l, on_note, n))
            abort();
    }
    return NULL;
}

static void test_post(void **state)
{
    (void)state;
    struct ctx c = ctx_new();
    struct vic_err err;
    struct note from[POSTERS];
    pthread_t t[POSTERS];
    assert_true(loop_start(c.l, &err));
    assert_false(loop_is_thread(c.l));
    for (unsigned i = 0; i < POSTERS; i++) {
        from[i] = (struct note){&c, i, 0};
        pthread_create(&t[i], NULL, post_many, &from[i]);
    }
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(t[i], NULL);
    loop_stop(c.l);
    assert_false(loop_post(c.l, on_note, NULL)); /* refused from here on */
    loop_free(c.l);
    assert_true(c.in_order);
    assert_int_equal(c.fired, POSTERS * POSTS); /* all that came before the stop */
}

static void on_timer(void *arg)
{
    struct ctx *c = arg;
    if (++c->fired < 3) {
        loop_timer_set(c->timer, 5);
        return;
    }
    c->at_ms = clock_mono_ms(&vic_clock_real);
    loop_timer_free(c->timer); /* inside its own function */
    loop_stop(c->l);
}

static void never(void *arg)
{
    (void)arg;
    abort();
}

static void test_timer(void **state)
{
    (void)state;
    struct ctx c = ctx_new();
    int64_t start = clock_mono_ms(&vic_clock_real);
    c.timer = loop_timer_new(c.l, on_timer, &c);
    loop_timer_set(c.timer, 100000);
    loop_timer_set(c.timer, 10);
    struct loop_timer *stopped = loop_timer_new(c.l, never, NULL);
    loop_timer_set(stopped, 1);
    loop_timer_stop(stopped);
    struct loop_timer *left = loop_timer_new(c.l, never, NULL); /* loop_free takes it */
    loop_timer_set(left, 100000);
    loop_run(c.l);
    assert_int_equal(c.fired, 3);
    assert_true(c.at_ms - start >= 20);
    loop_timer_free(NULL);
    loop_free(c.l);
}

static void on_signal(void *arg, int signum)
{
    struct ctx *c = arg;
    c->fired = (unsigned)signum;
    loop_stop(c->l);
}

static void test_signal(void **state)
{
    (void)state;
    struct ctx c = ctx_new();
    struct vic_err err;
    assert_true(loop_signal(c.l, SIGUSR1, on_signal, &c, &err));
    assert_false(loop_signal(c.l, SIGKILL, on_signal, &c, &err));
    kill(getpid(), SIGUSR1);
    loop_run(c.l);
    assert_int_equal(c.fired, SIGUSR1);
    loop_free(c.l);
}

static void on_readable(void *arg)
{
    struct ctx *c = arg;
    char byte;
    ssize_t n = read(c->fd, &byte, 1);
    if (n == 1 && ++c->fired < 3)
        return;
    loop_watch_free(c->watch);
    loop_stop(c->l);
}

static void test_watch(void **state)
{
    (void)state;
    struct ctx c = ctx_new();
    struct vic_err err;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    c.fd = fds[0];
    c.watch = loop_watch_new(c.l, fds[0], on_readable, &c, &err);
    assert_non_null(c.watch);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    close(fds[1]); /* the end is readable too */
    loop_run(c.l);
    assert_int_equal(c.fired, 2);
    loop_free(c.l);
    close(fds[0]);
    c = ctx_new();
    assert_null(loop_watch_new(c.l, -1, on_readable, &c, &err));
    loop_free(c.l);
}

static void test_never_run(void **state)
{
    (void)state;
    struct ctx c = ctx_new();
    struct note *n = xmalloc(sizeof *n);
    *n = (struct note){&c, 0, 1};
    assert_true(loop_post(c.l, on_note, n));
    loop_free(c.l); /* still runs what was posted */
    assert_int_equal(c.fired, 1);
    loop_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post),      cmocka_unit_test(test_timer),
        cmocka_unit_test(test_signal),    cmocka_unit_test(test_watch),
        cmocka_unit_test(test_never_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
