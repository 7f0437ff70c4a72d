/* Byte streams: see net.h.
 *
 * Writing: net_write tries the kernel first (no copy when it takes everything); the rest waits in
 * 'out', and one uv_write at a time carries a batch of it ('flying').  With TLS the records are
 * made into 'out' at once, so that their order is the order of the calls.
 *
 * Reading: all streams of a loop share one read buffer and one for decrypted bytes, so an idle
 * stream owns no buffer at all.
 *
 * Dying: die() closes the libuv handles; callbacks may still be on the stack then, so the memory
 * goes with the last handle's close callback, which is also when on_close is called.  Every place
 * that called the owner looks at alive() before it goes on.
 *
 * The end of the peer's side comes as EOF (plain) or close_notify (TLS); a TLS stream that ends
 * without one was cut, and dies with an error.  After the end libuv stops polling, so a peer that
 * closes completely afterwards would go unnoticed: a timer looks every few seconds whether the
 * socket is dead (TCP keep-alive makes the kernel find out).
 *
 * The one uv_timer of a stream has one meaning at a time, in the order of on_timer. */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "mem.h"
#include "net_priv.h"

enum { HANDSHAKE_MS = 10000, CLOSE_MS = 5000, GONE_CHECK_MS = 5000, KEEPALIVE_S = 60 };

static bool alive(const struct net_stream *s)
{
    return !s->dead && !s->closing;
}

static void set_timer(struct net_stream *s, uv_timer_cb cb, int64_t ms)
{
    if (!s->dead) {
        uv_update_time(s->timer.loop);
        uv_timer_start(&s->timer, cb, (uint64_t)ms, 0);
    }
}

/* ---- dying ---- */

static void on_closed(uv_handle_t *h)
{
    struct net_stream *s = h->data;
    if (--s->open_handles)
        return;
    loop_item_remove(s->loop, &s->item);
    tls_conn_free(s->tls);
    buf_fini(&s->out);
    buf_fini(&s->flying);
    buf_fini(&s->held);
    if (s->cb.on_close)
        s->cb.on_close(s->arg, s->err);
    free(s->peer);
    free(s->err);
    free(s);
}

static void die(struct net_stream *s, const struct vic_err *err)
{
    if (s->dead)
        return;
    s->dead = true;
    if (err) {
        s->err = xmalloc(sizeof *s->err);
        *s->err = *err;
    }
    uv_close(&s->u.handle, on_closed);
    uv_close((uv_handle_t *)&s->timer, on_closed);
}

void net_stream_fail(struct net_stream *s, const struct vic_err *err)
{
    die(s, s->closing ? NULL : err);
}

static void die_uv(struct net_stream *s, int r, const char *what)
{
    struct vic_err err;
    vic_fail(&err, vic_code_of_errno(-r), -r, "%s %s", what, s->peer ? s->peer : "peer");
    net_stream_fail(s, &err);
}

static void end_item(struct loop_item *item)
{
    die(CONTAINER_OF(item, struct net_stream, item), NULL);
}

struct net_stream *net_stream_new(struct loop *l, bool unix_socket, bool server)
{
    struct net_stream *s = xcalloc(1, sizeof *s);
    uv_loop_t *uv = loop_uv(l);
    s->loop = l;
    s->unix_socket = unix_socket;
    s->server = server;
    if (unix_socket)
        uv_pipe_init(uv, &s->u.pipe, 0);
    else
        uv_tcp_init(uv, &s->u.tcp);
    uv_timer_init(uv, &s->timer);
    s->u.handle.data = s->timer.data = s;
    s->open_handles = 2;
    loop_item_add(l, &s->item, LOOP_IO, end_item);
    return s;
}

/* ---- writing ---- */

static void advance(struct net_stream *s);

size_t net_pending(const struct net_stream *s)
{
    return s->out.len + s->u.stream.write_queue_size + (s->tls ? tls_kept(s->tls) : 0);
}

static void on_written(uv_write_t *req, int status)
{
    struct net_stream *s = CONTAINER_OF(req, struct net_stream, req.write);
    s->writing = false;
    buf_fini(&s->flying);
    if (s->dead)
        return;
    if (status < 0) {
        die_uv(s, status, "write to");
        return;
    }
    advance(s);
}

/* Gives 'p' to the kernel as far as it goes; returns the count, or -1 after dying. */
static ssize_t try_write(struct net_stream *s, const char *p, size_t len)
{
    /* libuv's buffers are not const, but it only reads them. */
    uv_buf_t b = {.base = (char *)(uintptr_t)p, .len = len};
    int r = uv_try_write(&s->u.stream, &b, 1);
    if (r >= 0)
        return r;
    if (r == UV_EAGAIN)
        return 0;
    die_uv(s, r, "write to");
    return -1;
}

static void flush(struct net_stream *s)
{
    if (s->dead || s->writing || !s->connected)
        return;
    if (s->out.failed) {
        struct vic_err err;
        vic_fail(&err, VIC_NO_MEMORY, 0, "queue output");
        net_stream_fail(s, &err);
        return;
    }
    if (!s->out.len)
        return;
    ssize_t n = try_write(s, s->out.data, s->out.len);
    if (n < 0)
        return;
    if ((size_t)n == s->out.len) {
        buf_fini(&s->out);
        return;
    }
    s->flying = s->out;
    s->out = (struct buf){0};
    uv_buf_t b = {.base = s->flying.data + n, .len = s->flying.len - (size_t)n};
    int r = uv_write(&s->req.write, &s->u.stream, &b, 1, on_written);
    if (r == 0)
        s->writing = true;
    else
        die_uv(s, r, "write to");
}

void net_write(struct net_stream *s, struct sv data)
{
    struct vic_err err;
    if (!alive(s) || s->shut_wanted || !data.len)
        return;
    if (s->tls) {
        if (tls_output(s->tls, data, &s->out, &err) == TLS_FAILED) {
            net_stream_fail(s, &err);
            return;
        }
    } else {
        if (s->connected && !s->writing && !s->out.len) {
            ssize_t n = try_write(s, data.p, data.len);
            if (n < 0)
                return;
            data = sv_sub(data, (size_t)n, SIZE_MAX);
        }
        buf_add_sv(&s->out, data);
    }
    flush(s);
    s->drain_owed = s->drain_owed || net_pending(s) > 0;
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req, (void)status; /* a peer that is gone: reading or the next write says so */
}

/* All output is with the kernel: sends the end of our side when asked to.  With TLS that is
 * close_notify only: a FIN behind it would make some peers give up the other direction. */
static void send_end(struct net_stream *s)
{
    s->shut_sent = true;
    if (s->tls) {
        tls_shutdown(s->tls, &s->out);
        flush(s);
    } else if (!s->closing) {
        uv_shutdown(&s->shut_req, &s->u.stream, on_shutdown);
    }
}

/* After a step that may have emptied the queue, out of a libuv callback. */
static void advance(struct net_stream *s)
{
    flush(s);
    if (s->dead || net_pending(s))
        return;
    if (s->drain_owed && !s->closing) {
        s->drain_owed = false;
        if (s->cb.on_drain)
            s->cb.on_drain(s->arg);
        if (s->dead || net_pending(s))
            return;
    }
    if (s->shut_wanted && !s->shut_sent && s->ready)
        send_end(s);
    if (s->closing && !s->dead && !net_pending(s))
        die(s, NULL);
}

void net_shutdown(struct net_stream *s)
{
    if (!alive(s) || s->shut_wanted)
        return;
    s->shut_wanted = true;
    if (s->ready && !net_pending(s))
        send_end(s);
}

/* ---- reading ---- */

static void on_timer(uv_timer_t *t);

/* Gives what is held and then the end to the owner, as far as it is not paused. */
static void deliver_held(struct net_stream *s)
{
    if (s->held.len && alive(s) && !s->paused) {
        AUTO_BUF struct buf held = s->held;
        s->held = (struct buf){0};
        if (s->cb.on_data)
            s->cb.on_data(s->arg, buf_sv(&held));
    }
    if (s->eof_held && alive(s) && !s->paused && !s->held.len) {
        s->eof_held = false;
        s->eof_seen = true;
        set_timer(s, on_timer, 0);
        if (s->cb.on_eof)
            s->cb.on_eof(s->arg);
    }
}

static void deliver(struct net_stream *s, struct sv data)
{
    if (!data.len || !alive(s))
        return;
    if (s->paused || s->held.len)
        buf_add_sv(&s->held, data);
    else if (s->cb.on_data)
        s->cb.on_data(s->arg, data);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    const struct net_stream *s = h->data;
    (void)suggested;
    *buf = uv_buf_init(loop_scratch(s->loop)->read, LOOP_READ_SIZE);
}

static void read_on(struct net_stream *s);

static void read_off(struct net_stream *s)
{
    if (s->reading && !s->dead)
        uv_read_stop(&s->u.stream);
    s->reading = false;
}

static void become_ready(struct net_stream *s)
{
    s->ready = true;
    if (!s->closing)
        uv_timer_stop(&s->timer);
    if (s->cb.on_ready && alive(s))
        s->cb.on_ready(s->arg);
    if (!alive(s))
        return;
    if (s->paused)
        read_off(s);
    else
        read_on(s);
}

/* Takes from what a peer may send before it has proved anything. */
static bool handshake_fits(struct net_stream *s, size_t size)
{
    if (s->ready || !s->handshake_left)
        return true;
    if (size >= s->handshake_left)
        return false;
    s->handshake_left -= size;
    return true;
}

static void on_cipher(struct net_stream *s, struct sv data)
{
    struct buf *plain = &loop_scratch(s->loop)->plain;
    struct vic_err err;
    bool was_ready = s->ready;
    if (!handshake_fits(s, data.len)) {
        vic_fail(&err, VIC_TOO_LARGE, 0, "TLS handshake with %s", s->peer ? s->peer : "peer");
        net_stream_fail(s, &err);
        return;
    }
    buf_reset(plain);
    enum tls_status st = tls_input(s->tls, data, plain, &s->out, &err);
    flush(s); /* an alert, too */
    if (s->dead)
        return;
    if (!was_ready && tls_ready(s->tls))
        become_ready(s);
    deliver(s, buf_sv(plain));
    if (s->dead)
        return;
    if (st == TLS_FAILED) {
        net_stream_fail(s, &err);
        return;
    }
    if (st == TLS_CLOSED && !s->eof_seen) {
        s->eof_held = true;
        deliver_held(s);
    }
    if (!s->dead && !was_ready)
        advance(s);
}

static void on_end(struct net_stream *s)
{
    struct vic_err err;
    s->reading = false;
    if (s->eof_seen || s->eof_held)
        return; /* TLS: after close_notify */
    if (s->tls) {
        vic_fail(&err, VIC_PROTOCOL, 0, "%s ended without a TLS close", s->peer ? s->peer : "peer");
        net_stream_fail(s, &err);
        return;
    }
    s->eof_held = true;
    deliver_held(s);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct net_stream *s = stream->data;
    if (n == UV_EOF)
        on_end(s);
    else if (n < 0)
        die_uv(s, (int)n, "read from");
    else if (n > 0 && s->tls)
        on_cipher(s, sv_make(buf->base, (size_t)n));
    else if (n > 0)
        deliver(s, sv_make(buf->base, (size_t)n));
}

static void read_on(struct net_stream *s)
{
    if (s->reading || s->dead || (s->closing && s->ready) || (s->eof_seen && !s->tls))
        return;
    int r = uv_read_start(&s->u.stream, on_alloc, on_read);
    if (r == 0)
        s->reading = true;
    else
        die_uv(s, r, "read from");
}

void net_pause(struct net_stream *s)
{
    s->paused = true;
    if (s->ready)
        read_off(s);
}

void net_resume(struct net_stream *s)
{
    if (!s->paused)
        return;
    s->paused = false;
    if (!alive(s) || !s->ready)
        return;
    if (s->held.len || s->eof_held)
        set_timer(s, on_timer, 0); /* not from inside the owner's call */
    else
        read_on(s);
}

/* ---- the timer ---- */

/* The peer has ended its side: is it gone altogether? */
static void check_gone(struct net_stream *s)
{
    uv_os_fd_t fd;
    if (uv_fileno(&s->u.handle, &fd) != 0)
        return;
    struct pollfd p = {.fd = fd};
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) && !s->shut_sent)
        die(s, NULL);
    else if (s->shut_sent && p.revents & POLLERR)
        die(s, NULL);
    else
        set_timer(s, on_timer, GONE_CHECK_MS);
}

static void on_timer(uv_timer_t *t)
{
    struct net_stream *s = t->data;
    struct vic_err err;
    if (s->closing) {
        die(s, NULL); /* the peer does not read */
    } else if (!s->ready && s->connected && !s->tls) {
        become_ready(s);
    } else if (!s->ready) {
        vic_fail(&err, VIC_TIMEOUT, 0, "%s %s", s->connected ? "TLS handshake with" : "connect to",
                 s->peer ? s->peer : "peer");
        net_stream_fail(s, &err);
    } else if (s->held.len || s->eof_held) {
        deliver_held(s);
        if (alive(s) && !s->paused && !s->eof_seen)
            read_on(s);
    } else if (s->eof_seen) {
        check_gone(s);
    }
}

/* ---- beginning ---- */

static bool begin_tls(struct net_stream *s, const struct net_options *o)
{
    struct vic_err err;
    s->tls = tls_conn_new(o->tls, o->tls_name, &err);
    if (s->tls)
        return true;
    net_stream_fail(s, &err);
    return false;
}

void net_stream_begin(struct net_stream *s, const struct net_options *o, bool defer_ready)
{
    struct vic_err err;
    uv_os_fd_t fd;
    s->connected = true;
    free(s->peer);
    s->peer = uv_fileno(&s->u.handle, &fd) == 0 ? net_address_peer(fd) : NULL;
    if (!s->unix_socket) {
        uv_tcp_nodelay(&s->u.tcp, 1);
        uv_tcp_keepalive(&s->u.tcp, 1, KEEPALIVE_S);
    }
    if (o && o->tls && !s->tls && !begin_tls(s, o))
        return;
    if (!s->tls) {
        if (defer_ready)
            set_timer(s, on_timer, 0);
        else
            become_ready(s);
        return;
    }
    s->handshake_left = o && s->server ? o->handshake_size : 0;
    if (s->server || defer_ready)
        set_timer(s, on_timer, o && o->handshake_ms ? o->handshake_ms : HANDSHAKE_MS);
    if (!s->server && tls_start(s->tls, &s->out, &err) == TLS_FAILED) {
        net_stream_fail(s, &err);
        return;
    }
    flush(s);
    read_on(s);
}

static void on_connect(uv_connect_t *req, int status)
{
    struct net_stream *s = CONTAINER_OF(req, struct net_stream, req.connect);
    if (s->dead)
        return;
    if (status < 0) {
        die_uv(s, status, "connect to");
        return;
    }
    net_stream_begin(s, NULL, false);
    if (!s->dead && s->ready)
        advance(s);
}

struct net_stream *net_connect(struct loop *l, const char *address, const struct net_options *o,
                               const struct net_callbacks *cb, void *arg, struct vic_err *err)
{
    struct net_address a;
    struct tls_conn *tls = NULL;
    if (!net_address_parse(address, &a, err))
        return NULL;
    if (o && o->tls && !(tls = tls_conn_new(o->tls, o->tls_name, err)))
        return NULL;
    struct net_stream *s = net_stream_new(l, a.is_unix, false);
    s->tls = tls;
    s->peer = xstrdup(address);
    int r = 0;
    if (a.is_unix)
        uv_pipe_connect(&s->req.connect, &s->u.pipe, a.sa.un.sun_path, on_connect);
    else
        r = uv_tcp_connect(&s->req.connect, &s->u.tcp, &a.sa.any, on_connect);
    if (r != 0) {
        vic_fail(err, vic_code_of_errno(-r), -r, "connect to %s", address);
        die(s, NULL);
        return NULL;
    }
    net_set(s, cb, arg);
    set_timer(s, on_timer, o && o->handshake_ms ? o->handshake_ms : HANDSHAKE_MS);
    return s;
}

struct net_stream *net_adopt(struct loop *l, int fd, const struct net_options *o, bool server,
                             const struct net_callbacks *cb, void *arg, struct vic_err *err)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) {
        vic_fail_errno(err, "adopt descriptor %d", fd);
        return NULL;
    }
    struct net_stream *s = net_stream_new(l, domain == AF_UNIX, server);
    int r = s->unix_socket ? uv_pipe_open(&s->u.pipe, fd) : uv_tcp_open(&s->u.tcp, fd);
    if (r != 0) {
        vic_fail(err, VIC_IO, -r, "adopt descriptor %d", fd);
        die(s, NULL);
        return NULL;
    }
    net_set(s, cb, arg);
    net_stream_begin(s, o, true);
    return s;
}

void net_set(struct net_stream *s, const struct net_callbacks *cb, void *arg)
{
    s->cb = *cb;
    s->arg = arg;
}

void net_close(struct net_stream *s)
{
    if (!alive(s))
        return;
    read_off(s);
    s->closing = true;
    s->shut_wanted = true;
    buf_fini(&s->held);
    if (s->ready && !net_pending(s) && !s->shut_sent)
        send_end(s);
    if (!s->dead && !net_pending(s)) {
        die(s, NULL);
        return;
    }
    if (s->tls && !s->ready)
        read_on(s);
    set_timer(s, on_timer, CLOSE_MS);
}

void net_abort(struct net_stream *s)
{
    s->closing = true;
    die(s, NULL);
}

const char *net_peer(const struct net_stream *s)
{
    return s->peer ? s->peer : "";
}

const char *net_psk_identity(const struct net_stream *s)
{
    return s->tls ? tls_psk_identity(s->tls) : "";
}

const char *net_peer_name(const struct net_stream *s)
{
    return s->tls ? tls_peer_name(s->tls) : "";
}

bool net_is_tls(const struct net_stream *s)
{
    return s->tls != NULL;
}
