/* Streams: bytes both ways within credit, refusals, wakes from any thread, and that a reader that
 * stops holds up its own stream only. */
#include "hub_fixture.h"

#include <stdio.h>
#include <string.h>

#define EXEC "{\"kind\":\"exec\",\"id\":\"e1\",\"args\":[\"cat\"]}"

static void fill(struct buf *b, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245 + 12345;
        buf_add_c(b, (char)(seed >> 16));
    }
}

static struct tg_player *player(struct fx *x, const char *vm)
{
    struct tg_player_options o = {.address = x->address, .vm = vm, .exit_value = -1};
    struct tg_player *p = tg_player_start(&o);
    fx_until(x, vm, fx_connected);
    return p;
}

static void an_echo_returns_every_byte(void **state)
{
    (void)state;
    struct fx x;
    struct fx_stream s;
    struct hub_stream_status st;
    AUTO_BUF struct buf bytes = {0};
    fill(&bytes, 3000000, 7); /* many times the credit */
    fx_init(&x);
    fx_start(&x);
    struct tg_player *p = player(&x, "vm1");
    fx_open(&x, &s, "vm1", EXEC);
    fx_exchange(&s, buf_sv(&bytes));
    assert_true(sv_eq(buf_sv(&bytes), buf_sv(&s.out[1])));
    assert_int_equal(s.out[2].len, 0);
    hub_stream_status(s.s, &st);
    assert_false(st.refused);
    assert_true(st.eof[1] && sv_is(st.result, "{\"kind\":\"exited\",\"value\":0}"));
    fx_stream_end(&s);
    tg_player_stop(p);
    fx_stop(&x);
}

static void nothing_is_written_before_open_ok(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct fx_stream s;
    struct vic_err err;
    struct wire_frame f;
    uint16_t rows, cols;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_open(&x, &s, "vm1", EXEC);
    assert_int_equal(hub_stream_write(s.s, SV("early")), 0);
    hub_stream_resize(s.s, 25, 80);
    hub_stream_eof(s.s);
    OK(tg_expect(&g, WIRE_OPEN, &f, &err), &err);
    assert_true(sv_is(f.payload, EXEC));
    assert_int_equal(f.stream, 1);
    OK(tg_json(&g, WIRE_OPEN_OK, 1, "{}", &err), &err);
    OK(tg_expect(&g, WIRE_RESIZE, &f, &err), &err);
    OK(wire_take_resize(f.payload, &rows, &cols, &err), &err);
    assert_true(rows == 25 && cols == 80);
    OK(tg_expect(&g, WIRE_EOF, &f, &err), &err);
    fx_stream_until(&s, fx_is_open);
    assert_int_equal(hub_stream_write(s.s, SV("late")), 0);
    hub_stream_free(s.s);
    OK(tg_expect(&g, WIRE_CLOSE, &f, &err), &err);
    /* What was on its way when it was canceled does no harm. */
    OK(tg_json(&g, WIRE_DATA, 1, "\x01hello", &err), &err);
    OK(tg_json(&g, WIRE_CLOSE, 1, "{}", &err), &err);
    OK(tg_json(&g, WIRE_PING, 0, "0123456789abcdef", &err), &err);
    OK(tg_expect(&g, WIRE_PONG, &f, &err), &err);
    tg_close(&g);
    fx_stop(&x);
}

static void a_refusal_says_why(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct fx_stream s;
    struct hub_stream_status st;
    struct vic_err err;
    fx_init(&x);
    fx_start(&x);
    assert_null(hub_open(x.hub, "vm1", SV(EXEC), NULL, NULL, &err));
    assert_int_equal(err.code, VIC_UNAVAILABLE);
    fx_guest(&x, &g, "vm1", NULL);
    fx_open(&x, &s, "vm1", EXEC);
    OK(tg_json(&g, WIRE_OPEN_ERR, 1,
               "{\"code\":\"NOT_FOUND\",\"error\":\"exec: cat: not found\",\"errno\":2,"
               "\"stage\":\"exec\",\"exit\":127}",
               &err),
       &err);
    fx_stream_until(&s, fx_is_closed);
    hub_stream_status(s.s, &st);
    assert_true(st.refused && st.launch_exit == 127 && st.err.sys == 2);
    assert_int_equal(st.err.code, VIC_NOT_FOUND);
    assert_string_equal(st.err.msg, "exec: cat: not found");
    fx_stream_end(&s);
    tg_close(&g);
    fx_stop(&x);
}

static bool is_full(const struct hub_stream_status *st)
{
    return st->readable[1] == WIRE_CREDIT;
}

/* One stream whose reader does nothing is filled to its credit; the other goes on. */
static void a_slow_reader_stops_only_its_own_stream(void **state)
{
    (void)state;
    struct fx x;
    struct fx_stream slow, fast;
    AUTO_BUF struct buf bytes = {0};
    fill(&bytes, 1000000, 3);
    fx_init(&x);
    fx_start(&x);
    struct tg_player *p = player(&x, "vm1");
    fx_open(&x, &slow, "vm1", EXEC);
    fx_stream_until(&slow, fx_is_open);
    size_t sent = 0;
    for (int round = 0; round < 3; round++)
        sent += hub_stream_write(slow.s, sv_sub(buf_sv(&bytes), sent, bytes.len));
    assert_int_equal(sent, WIRE_CREDIT);
    fx_stream_until(&slow, is_full);
    fx_open(&x, &fast, "vm1", EXEC);
    fx_exchange(&fast, buf_sv(&bytes));
    assert_true(sv_eq(buf_sv(&bytes), buf_sv(&fast.out[1])));
    fx_stream_until(&slow, is_full);
    fx_exchange(&slow, sv_sub(buf_sv(&bytes), sent, bytes.len));
    assert_true(sv_eq(buf_sv(&bytes), buf_sv(&slow.out[1])));
    fx_stream_end(&slow);
    fx_stream_end(&fast);
    tg_player_stop(p);
    fx_stop(&x);
}

static bool has_both(const struct hub_stream_status *st)
{
    return st->readable[1] == 3 && st->readable[2] == 3;
}

static void the_rest_can_be_read_after_the_end(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct fx_stream s;
    struct vic_err err;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_open(&x, &s, "vm1", EXEC);
    OK(tg_json(&g, WIRE_OPEN_OK, 1, "{}", &err), &err);
    OK(tg_json(&g, WIRE_DATA, 1, "\x01out", &err), &err);
    OK(tg_json(&g, WIRE_DATA, 1,
               "\x02"
               "err",
               &err),
       &err);
    fx_stream_until(&s, has_both);
    tg_close(&g); /* the guest is lost */
    fx_stream_until(&s, fx_is_closed);
    assert_int_equal(hub_stream_read(s.s, 1, &s.out[1], 2), 2);
    assert_int_equal(hub_stream_read(s.s, 1, &s.out[1], 100), 1);
    assert_int_equal(hub_stream_read(s.s, 2, &s.out[2], 100), 3);
    assert_string_equal(buf_str(&s.out[1]), "out");
    assert_string_equal(buf_str(&s.out[2]), "err");
    assert_int_equal(hub_stream_write(s.s, SV("x")), 0);
    fx_stream_end(&s);
    fx_stop(&x);
}

/* A guest that reads nothing: stdin stops at the hub's limit, and goes on when it reads again. */
static void a_guest_that_does_not_read_bounds_the_queue(void **state)
{
    (void)state;
    enum { STREAMS = 64 };
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    static struct fx_stream s[STREAMS];
    AUTO_BUF struct buf bytes = {0};
    size_t taken = 0, seen = 0;
    fill(&bytes, WIRE_CREDIT, 1);
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    for (unsigned i = 0; i < STREAMS; i++) {
        fx_open(&x, &s[i], "vm1", EXEC);
        OK(tg_json(&g, WIRE_OPEN_OK, 2 * i + 1, "{}", &err), &err);
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        fx_stream_until(&s[i], fx_is_open);
        taken += hub_stream_write(s[i].s, buf_sv(&bytes));
    }
    /* 4 MiB in the hub, the rest in the kernel's buffers. */
    assert_true(taken >= 4194304 && taken < (size_t)STREAMS * WIRE_CREDIT);
    while (seen < taken) {
        OK(tg_expect(&g, WIRE_DATA, &f, &err), &err);
        seen += f.payload.len - 1;
    }
    size_t writable = 0;
    for (unsigned i = 0; i < STREAMS; i++) {
        struct hub_stream_status st;
        hub_stream_status(s[i].s, &st);
        writable += st.writable;
        fx_stream_end(&s[i]);
    }
    assert_int_equal(writable, (size_t)STREAMS * WIRE_CREDIT - taken); /* all credit that is left */
    tg_close(&g);
    fx_stop(&x);
}

static void too_many_streams_are_refused(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    static struct hub_stream *s[WIRE_MAX_STREAMS];
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    for (unsigned i = 0; i < WIRE_MAX_STREAMS; i++) {
        s[i] = hub_open(x.hub, "vm1", SV(EXEC), NULL, NULL, &err);
        assert_non_null(s[i]);
    }
    assert_null(hub_open(x.hub, "vm1", SV(EXEC), NULL, NULL, &err));
    assert_int_equal(err.code, VIC_BUSY);
    for (unsigned i = 0; i < WIRE_MAX_STREAMS; i++)
        hub_stream_free(s[i]);
    struct hub_stream *again = hub_open(x.hub, "vm1", SV(EXEC), NULL, NULL, &err);
    assert_non_null(again);
    hub_stream_free(again);
    tg_close(&g);
    fx_stop(&x);
}

/* --- threads -------------------------------------------------------------------------------------
 */

enum { THREADS = 8, ROUNDS = 40 };

struct worker {
    struct fx *x;
    char vm[8];
    unsigned seed;
    pthread_t thread;
};

/* Opens, exchanges a little, frees at a random moment: before the answer, in the middle, at the
 * end. */
static void *work(void *arg)
{
    struct worker *w = arg;
    AUTO_BUF struct buf bytes = {0};
    fill(&bytes, 5000, w->seed);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct fx_stream s;
        fx_open(w->x, &s, w->vm, EXEC);
        if (i % 3)
            fx_stream_until(&s, fx_is_open);
        if (i % 3 == 1)
            hub_stream_write(s.s, buf_sv(&bytes));
        if (i % 3 == 2) {
            fx_exchange(&s, buf_sv(&bytes));
            assert_true(sv_eq(buf_sv(&bytes), buf_sv(&s.out[1])));
        }
        fx_stream_end(&s); /* 's' dies with this round: a wake after it would be seen by ASan */
    }
    return NULL;
}

static void streams_from_many_threads(void **state)
{
    (void)state;
    struct fx x;
    struct worker w[THREADS];
    fx_init(&x);
    fx_start(&x);
    struct tg_player *p[2] = {player(&x, "vm0"), player(&x, "vm1")};
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.x = &x, .seed = i};
        snprintf(w[i].vm, sizeof w[i].vm, "vm%u", i % 2);
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
    tg_player_stop(p[0]);
    tg_player_stop(p[1]);
    fx_stop(&x);
}

struct self_free {
    struct fx *x;
    struct hub_stream *s;
    bool done;
};

/* Frees its own stream from inside its wake. */
static void free_in_wake(void *arg)
{
    struct self_free *f = arg;
    mutex_lock(&f->x->lock);
    struct hub_stream *s = TAKE(f->s);
    mutex_unlock(&f->x->lock);
    if (!s)
        return;
    hub_stream_free(s);
    mutex_lock(&f->x->lock);
    f->done = true;
    cond_broadcast(&f->x->wake);
    mutex_unlock(&f->x->lock);
}

static void a_stream_may_be_freed_inside_its_wake(void **state)
{
    (void)state;
    struct fx x;
    struct vic_err err;
    fx_init(&x);
    fx_start(&x);
    struct tg_player *p = player(&x, "vm1");
    struct self_free f = {.x = &x};
    mutex_lock(&x.lock);
    f.s = hub_open(x.hub, "vm1", SV(EXEC), free_in_wake, &f, &err);
    assert_non_null(f.s);
    while (!f.done)
        cond_wait(&x.wake, &x.lock);
    mutex_unlock(&x.lock);
    tg_player_stop(p);
    fx_stop(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_echo_returns_every_byte),
        cmocka_unit_test(nothing_is_written_before_open_ok),
        cmocka_unit_test(a_refusal_says_why),
        cmocka_unit_test(a_slow_reader_stops_only_its_own_stream),
        cmocka_unit_test(the_rest_can_be_read_after_the_end),
        cmocka_unit_test(a_guest_that_does_not_read_bounds_the_queue),
        cmocka_unit_test(too_many_streams_are_refused),
        cmocka_unit_test(streams_from_many_threads),
        cmocka_unit_test(a_stream_may_be_freed_inside_its_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
