/* See hub_fixture.h. */
#include "hub_fixture.h"

#include <stdio.h>
#include <string.h>

enum { DEADLINE_MS = 20000 };

static bool key_of(void *arg, const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE])
{
    (void)arg;
    if (strncmp(vm, "vm", 2) != 0)
        return false;
    tg_key(vm, n, out);
    return true;
}

static void on_guest(void *arg, const char *vm)
{
    struct fx *x = arg;
    (void)vm;
    mutex_lock(&x->lock);
    x->guest_calls++;
    cond_broadcast(&x->wake);
    mutex_unlock(&x->lock);
}

static void on_log(void *arg, const char *vm, const char *container, const char *boot, uint64_t seq,
                   int64_t time_ns, unsigned stream, bool partial, struct sv bytes)
{
    struct fx *x = arg;
    (void)time_ns, (void)stream, (void)partial;
    mutex_lock(&x->lock);
    x->log_count++;
    x->log_bytes += bytes.len;
    x->log_seq = seq;
    snprintf(x->log_last, sizeof x->log_last, SV_FMT, SV_ARG(sv_sub(bytes, 0, 60)));
    snprintf(x->log_container, sizeof x->log_container, "%s", container);
    snprintf(x->log_boot, sizeof x->log_boot, "%s", boot);
    bool ack = x->ack_logs;
    cond_broadcast(&x->wake);
    mutex_unlock(&x->lock);
    if (ack)
        hub_log_ack(x->hub, vm, boot, seq);
}

static uint64_t log_stored(void *arg, const char *container, const char *boot)
{
    struct fx *x = arg;
    (void)container, (void)boot;
    mutex_lock(&x->lock);
    uint64_t n = x->log_stored;
    mutex_unlock(&x->lock);
    return n;
}

static const struct hub_callbacks callbacks = {on_guest, on_log, log_stored};

void fx_init(struct fx *x)
{
    *x = (struct fx){.ack_logs = true};
    mutex_init(&x->lock);
    cond_init(&x->wake);
    x->o.cb = &callbacks;
    x->o.arg = x;
    x->o.key = key_of;
}

void fx_start(struct fx *x)
{
    struct vic_err err;
    int port = 0;
    x->loop = loop_new("hub", &err);
    assert_non_null(x->loop);
    x->o.loop = x->loop;
    x->hub = hub_new(&x->o, &err);
    assert_non_null(x->hub);
    OK(loop_start(x->loop, &err), &err);
    OK(hub_listen(x->hub, "tcp:127.0.0.1:0", &port, &err), &err);
    snprintf(x->address, sizeof x->address, "tcp:127.0.0.1:%d", port);
}

void fx_stop(struct fx *x)
{
    if (x->stop_first)
        loop_stop(x->loop);
    hub_free(x->hub);
    loop_stop(x->loop);
    loop_free(x->loop);
    cond_fini(&x->wake);
    mutex_fini(&x->lock);
}

void fx_guest(struct fx *x, struct tg *g, const char *vm, const char *hello)
{
    struct vic_err err;
    struct tg_connect o = {.address = x->address, .vm = vm};
    OK(tg_connect(g, &o, &err), &err);
    OK(tg_hello(g, hello, &err), &err);
}

void fx_run(struct fx *x, struct tg *g, const char *container, uint64_t gen)
{
    struct vic_err err;
    struct wire_frame f;
    AUTO_BUF struct buf b = {0};
    buf_addf(&b,
             "{\"gen\":%llu,\"role\":\"run\",\"spec\":{\"container\":\"%s\",\"seq\":3,\"rev\":9}}",
             (unsigned long long)gen, container);
    OK(hub_config(x->hub, g->vm, buf_sv(&b), &err), &err);
    OK(tg_expect(g, WIRE_CONFIG, &f, &err), &err);
    assert_true(sv_eq(f.payload, buf_sv(&b)));
    buf_reset(&b);
    buf_addf(&b, "{\"gen\":%llu,\"ok\":true}", (unsigned long long)gen);
    OK(tg_json(g, WIRE_CONFIG_ACK, 0, buf_str(&b), &err), &err);
    OK(tg_json(g, WIRE_STATUS, 0, "{\"seq\":1,\"phase\":\"running\",\"pid\":7,\"started_ns\":5}",
               &err),
       &err);
    OK(tg_expect(g, WIRE_STATUS_ACK, &f, &err), &err);
}

/* --- waiting -------------------------------------------------------------------------------------
 */

static int64_t now_ms(void)
{
    return clock_mono_ms(&vic_clock_real);
}

/* Waits for the next callback, or 'ms'. */
static void nap(struct fx *x, unsigned seen_calls, unsigned seen_wakes)
{
    mutex_lock(&x->lock);
    if (x->guest_calls == seen_calls && x->wakes == seen_wakes)
        cond_wait_ms(&x->wake, &x->lock, 1000);
    mutex_unlock(&x->lock);
}

static void counters(struct fx *x, unsigned *calls, unsigned *wakes)
{
    mutex_lock(&x->lock);
    *calls = x->guest_calls;
    *wakes = x->wakes;
    mutex_unlock(&x->lock);
}

void fx_until(struct fx *x, const char *vm, bool (*is)(const struct hub_guest *g))
{
    for (int64_t end = now_ms() + DEADLINE_MS; now_ms() < end;) {
        unsigned calls, wakes;
        struct hub_guest g;
        counters(x, &calls, &wakes);
        if (hub_guest(x->hub, vm, &g) && is(&g))
            return;
        nap(x, calls, wakes);
    }
    fail_msg("waited in vain for %s", vm);
}

void fx_until_logs(struct fx *x, uint64_t count)
{
    int64_t end = now_ms() + DEADLINE_MS;
    mutex_lock(&x->lock);
    while (x->log_count < count && now_ms() < end)
        cond_wait_ms(&x->wake, &x->lock, 1000);
    uint64_t got = x->log_count;
    mutex_unlock(&x->lock);
    assert_int_equal(got, count);
}

struct hub_guest fx_said(struct fx *x, const char *vm)
{
    struct hub_guest g;
    assert_true(hub_guest(x->hub, vm, &g));
    return g;
}

bool fx_connected(const struct hub_guest *g)
{
    return g->connected;
}

bool fx_gone(const struct hub_guest *g)
{
    return !g->connected;
}

bool fx_running(const struct hub_guest *g)
{
    return g->phase == HUB_PHASE_RUNNING;
}

bool fx_exited(const struct hub_guest *g)
{
    return g->exit.set;
}

/* --- streams -------------------------------------------------------------------------------------
 */

static void on_wake(void *arg)
{
    struct fx_stream *s = arg;
    mutex_lock(&s->x->lock);
    s->x->wakes++;
    cond_broadcast(&s->x->wake);
    mutex_unlock(&s->x->lock);
}

void fx_open(struct fx *x, struct fx_stream *s, const char *vm, const char *json)
{
    struct vic_err err;
    *s = (struct fx_stream){.x = x};
    s->s = hub_open(x->hub, vm, sv_of(json), on_wake, s, &err);
    if (!s->s)
        fail_msg("open: %s", err.msg);
}

bool fx_is_open(const struct hub_stream_status *st)
{
    return st->state == HUB_OPEN;
}

bool fx_is_closed(const struct hub_stream_status *st)
{
    return st->state == HUB_CLOSED;
}

void fx_stream_until(struct fx_stream *s, bool (*is)(const struct hub_stream_status *st))
{
    for (int64_t end = now_ms() + DEADLINE_MS; now_ms() < end;) {
        unsigned calls, wakes;
        struct hub_stream_status st;
        counters(s->x, &calls, &wakes);
        hub_stream_status(s->s, &st);
        if (is(&st))
            return;
        nap(s->x, calls, wakes);
    }
    fail_msg("waited in vain for a stream");
}

void fx_exchange(struct fx_stream *s, struct sv bytes)
{
    bool ended = false;
    for (int64_t end = now_ms() + 3 * DEADLINE_MS; now_ms() < end;) {
        unsigned calls, wakes;
        struct hub_stream_status st;
        counters(s->x, &calls, &wakes);
        size_t moved = hub_stream_write(s->s, bytes);
        bytes = sv_sub(bytes, moved, bytes.len);
        if (!bytes.len && !ended) {
            hub_stream_eof(s->s);
            ended = true;
        }
        for (unsigned ch = 1; ch <= 2; ch++)
            moved += hub_stream_read(s->s, ch, &s->out[ch], 100000);
        hub_stream_status(s->s, &st);
        if (st.state == HUB_CLOSED && !st.readable[1] && !st.readable[2])
            return;
        if (!moved)
            nap(s->x, calls, wakes);
    }
    fail_msg("an exchange did not end");
}

void fx_stream_end(struct fx_stream *s)
{
    hub_stream_free(s->s);
    for (unsigned i = 0; i < ARRAY_LEN(s->out); i++)
        buf_fini(&s->out[i]);
}
