/* A connection's life: accept within the limits, TLS with the guest's key, HELLO before the
 * deadline, then frames and pings until either side ends it.
 *
 * Output: frames wait in two queues (control, data) that any thread may append to.  conn_flush
 * hands whole frames to the socket, control first, while less than HUB_SOCKET_SIZE waits there; the
 * socket's on_drain asks for more.  So what a SIGNAL has to wait for is at most what the socket
 * holds, however much stdin is queued. */
#include "hub_int.h"

#include <stdlib.h>
#include <utlist.h>

static void tell(struct conn *c)
{
    if (c->hub->o.cb->on_guest && c->vm[0])
        c->hub->o.cb->on_guest(c->hub->o.arg, c->vm);
}

void conn_detach_locked(struct conn *c, const char *why)
{
    if (c->guest) {
        c->guest->said.connected = false;
        c->guest->conn = NULL;
        c->guest = NULL;
    }
    streams_lost_locked(c, why);
}

/* --- output --------------------------------------------------------------------------------------
 */

static void mark_dirty_locked(struct conn *c) VIC_REQUIRES(c->hub->lock)
{
    if (!c->dirty) {
        c->dirty = true;
        c->dirty_next = c->hub->dirty;
        c->hub->dirty = c;
    }
    hub_kick_locked(c->hub);
}

void conn_dirty_locked(struct conn *c)
{
    hub_holds(c->hub);
    if (!c->kill && (fifo_len(&c->control) > HUB_MAX_CONTROL ||
                     fifo_len(&c->data) > HUB_MAX_DATA + HUB_MAX_CONTROL))
        c->kill = "the guest does not read what is sent to it";
    mark_dirty_locked(c);
}

/* Moves whole frames, about 'max' bytes of them. */
static void move_frames(struct fifo *from, struct buf *to, size_t max)
{
    struct sv all = fifo_sv(from), left = all;
    struct wire_frame f;
    size_t used;
    while (all.len - left.len < max && wire_take(left, &f, &used, NULL) && used)
        left = sv_sub(left, used, left.len);
    size_t n = all.len - left.len;
    buf_add(to, all.p, n);
    if (n)
        fifo_drop(from, n);
}

/* Fills the hub's scratch with what goes out next. */
static void next_output(struct conn *c)
{
    struct buf *out = &c->hub->scratch;
    buf_reset(out);
    mutex_lock(&c->hub->lock);
    move_frames(&c->control, out, HUB_SOCKET_SIZE);
    if (out->len < HUB_SOCKET_SIZE)
        move_frames(&c->data, out, HUB_SOCKET_SIZE - out->len);
    if (c->starved && fifo_len(&c->data) < HUB_MAX_DATA / 2)
        streams_room_locked(c);
    mutex_unlock(&c->hub->lock);
}

static const char *killed(struct conn *c)
{
    mutex_lock(&c->hub->lock);
    const char *why = c->kill;
    mutex_unlock(&c->hub->lock);
    return why;
}

static void resume(struct conn *c)
{
    mutex_lock(&c->hub->lock);
    bool room = window_entries(&c->window) <= HUB_LOG_ENTRIES / 2;
    mutex_unlock(&c->hub->lock);
    if (!room)
        return;
    c->paused = false;
    c->heard_ms = clock_mono_ms(c->hub->clock);
    net_resume(c->net);
}

void conn_flush(struct conn *c)
{
    struct vic_err err;
    if (c->state == CONN_DEAD)
        return;
    const char *why = killed(c);
    if (why) {
        vic_fail(&err, VIC_UNAVAILABLE, 0, "%s", why);
        conn_end(c, &err);
        return;
    }
    if (c->paused)
        resume(c);
    while (!c->net || net_pending(c->net) < HUB_SOCKET_SIZE) {
        next_output(c);
        if (!c->hub->scratch.len)
            return;
        if (c->net)
            net_write(c->net, buf_sv(&c->hub->scratch));
    }
}

void conn_end(struct conn *c, const struct vic_err *err)
{
    if (c->state == CONN_DEAD)
        return;
    if (err) {
        log_warn(c->hub->o.log, "hub.end", KV_S("vm", c->vm), KV_ERR(err));
        AUTO_BUF struct buf text = {0}, frame = {0};
        buf_add_str(&text, "{\"code\":");
        json_quote(&text, sv_of(vic_code_name(err->code)), false);
        buf_add_str(&text, ",\"text\":");
        json_quote(&text, sv_of(err->msg), false);
        buf_add_c(&text, '}');
        wire_put(&frame, WIRE_ERROR, 0, buf_sv(&text));
        if (c->net)
            net_write(c->net, buf_sv(&frame));
    }
    if (err && err->code == VIC_PROTOCOL && c->net)
        peers_punish(&c->hub->peers, net_peer(c->net), clock_mono_ms(c->hub->clock));
    c->state = CONN_DEAD;
    loop_timer_stop(c->timer);
    mutex_lock(&c->hub->lock);
    bool was = c->guest != NULL;
    conn_detach_locked(c, err ? err->msg : "the guest closed the connection");
    mutex_unlock(&c->hub->lock);
    if (was)
        tell(c);
    if (c->net)
        net_close(c->net);
}

/* --- input ---------------------------------------------------------------------------------------
 */

bool conn_input(struct conn *c, struct sv bytes, struct vic_err *err)
{
    bool kept = c->in.len > 0;
    if (kept)
        buf_add_sv(&c->in, bytes);
    struct sv left = kept ? buf_sv(&c->in) : bytes;
    size_t before = left.len;
    while (c->state != CONN_DEAD) {
        struct wire_frame f;
        size_t used;
        if (!wire_take(left, &f, &used, err))
            return false;
        if (!used)
            break;
        if (!frame_handle(c, &f, err))
            return false;
        left = sv_sub(left, used, left.len);
    }
    if (kept)
        buf_consume(&c->in, before - left.len);
    else
        buf_add_sv(&c->in, left);
    return true;
}

static void on_data(void *arg, struct sv data)
{
    struct conn *c = arg;
    struct vic_err err;
    if (!c->hub || c->state == CONN_DEAD)
        return;
    c->heard_ms = clock_mono_ms(c->hub->clock);
    if (!conn_input(c, data, &err))
        conn_end(c, &err);
    hub_work(c->hub);
}

/* --- time ----------------------------------------------------------------------------------------
 */

void conn_ping(struct conn *c)
{
    c->ping_nonce = random_u64();
    c->ping_sent_ns = clock_wall_ns(c->hub->clock);
    mutex_lock(&c->hub->lock);
    wire_put_ping(&c->control.b, WIRE_PING, c->ping_nonce, c->ping_sent_ns);
    conn_dirty_locked(c);
    mutex_unlock(&c->hub->lock);
}

static void on_timer(void *arg)
{
    struct conn *c = arg;
    struct hub *h = c->hub;
    struct vic_err err;
    int64_t silent = c->paused ? 0 : clock_mono_ms(h->clock) - c->heard_ms;
    if (c->state != CONN_UP) {
        conn_end(c, NULL);
        net_abort(c->net);
        return;
    }
    if (silent >= h->dead_ms) {
        vic_fail(&err, VIC_TIMEOUT, 0, "nothing heard for %d ms", (int)silent);
        conn_end(c, &err);
        net_abort(c->net);
    } else if (silent >= h->ping_ms) {
        conn_ping(c);
        loop_timer_set(c->timer, h->ping_ms);
    } else {
        loop_timer_set(c->timer, h->ping_ms - silent);
    }
    hub_work(h);
}

/* --- the socket's callbacks ----------------------------------------------------------------------
 */

static void on_ready(void *arg)
{
    struct conn *c = arg;
    unsigned n;
    if (!c->hub || c->state != CONN_HANDSHAKE)
        return;
    if (wire_parse_identity(net_psk_identity(c->net), c->vm, &n)) {
        c->state = CONN_HELLO;
        return;
    }
    c->vm[0] = '\0';
    conn_end(c, NULL);
}

static void on_eof(void *arg)
{
    struct conn *c = arg;
    if (!c->hub)
        return;
    conn_end(c, NULL);
    hub_work(c->hub);
}

static void on_drain(void *arg)
{
    struct conn *c = arg;
    if (!c->hub)
        return;
    conn_flush(c);
    hub_work(c->hub);
}

static void on_close(void *arg, const struct vic_err *err)
{
    struct conn *c = arg;
    struct hub *h = c->hub;
    if (!h) {
        free(c);
        return;
    }
    if (c->state == CONN_HANDSHAKE && err)
        log_warn(h->o.log, "hub.handshake_failed", KV_S("peer", net_peer(c->net)), KV_ERR(err));
    c->net = NULL;
    conn_end(c, NULL);
    conn_free(c);
    hub_work(h);
}

static const struct net_callbacks callbacks = {
    .on_ready = on_ready,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drain = on_drain,
    .on_close = on_close,
};

struct conn *conn_new(struct hub *h, struct net_stream *net)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->hub = h;
    c->net = net;
    c->next_stream = 1;
    c->heard_ms = clock_mono_ms(h->clock);
    c->timer = loop_timer_new(h->o.loop, on_timer, c);
    DL_APPEND(h->conns, c);
    return c;
}

void conn_accept(void *arg, struct net_stream *s)
{
    struct hub *h = arg;
    struct peer *p = peers_begin(&h->peers, net_peer(s), clock_mono_ms(h->clock));
    if (!p) {
        log_debug(h->o.log, "hub.refused", KV_S("peer", net_peer(s)));
        net_abort(s);
        return;
    }
    struct conn *c = conn_new(h, s);
    c->peer = p;
    loop_timer_set(c->timer, h->handshake_ms);
    net_set(s, &callbacks, c);
}

/* Gives up everything but what on_close still needs. */
static void strip(struct conn *c)
{
    struct hub *h = c->hub;
    DL_DELETE(h->conns, c);
    if (c->peer)
        peers_end(&h->peers, c->peer, false);
    loop_timer_free(c->timer);
    mutex_lock(&h->lock);
    for (struct conn **p = &h->dirty; *p; p = &(*p)->dirty_next)
        if (*p == c) {
            *p = c->dirty_next;
            break;
        }
    mutex_unlock(&h->lock);
    buf_fini(&c->in);
    fifo_fini(&c->control);
    fifo_fini(&c->data);
    c->hub = NULL;
}

void conn_free(struct conn *c)
{
    strip(c);
    free(c);
}

void conn_orphan(struct conn *c)
{
    struct net_stream *net = c->net;
    strip(c);
    if (net)
        net_abort(net); /* its on_close frees c */
    else
        free(c);
}
