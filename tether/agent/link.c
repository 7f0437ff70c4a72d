/* The connection to the hub: see link.h.
 *
 * States: DOWN -(timer)-> CONNECTING -(writable)-> HANDSHAKE -(TLS done, HELLO sent)->
 * WAIT_WELCOME -(WELCOME)-> UP; any failure goes to DOWN.  'deadline' guards every state but UP,
 * where pings do. */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#include "boot.h"

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000, OPEN_MS = 10000, READ_SIZE = 65536 };

static void on_event(void *arg, uint32_t events);

bool link_parse_endpoint(const char *text, unsigned char address[16], unsigned *port)
{
    struct sv rest = sv_of(text);
    char host[64];
    uint64_t n;
    if (!sv_starts(rest, SV("[")))
        return false;
    rest = sv_sub(rest, 1, rest.len);
    struct sv inside = sv_cut(&rest, ']');
    if (inside.len >= sizeof host || !sv_starts(rest, SV(":")) ||
        !sv_to_u64(sv_sub(rest, 1, rest.len), &n) || n == 0 || n > 65535)
        return false;
    memcpy(host, inside.p, inside.len);
    host[inside.len] = '\0';
    *port = (unsigned)n;
    return inet_pton(AF_INET6, host, address) == 1;
}

static void close_all(struct link *l)
{
    int fd = l->watch.fd;
    poll_unwatch(l->o.loop, &l->watch);
    if (fd >= 0)
        close(fd);
    tls_conn_free(l->tls);
    l->tls = NULL;
    poll_cancel(l->o.loop, &l->deadline);
    poll_cancel(l->o.loop, &l->ping);
    buf_reset(&l->in);
    buf_reset(&l->out);
    buf_reset(&l->wire);
    l->sent = 0;
    l->broken = NULL;
}

static void go_down(struct link *l, const char *why)
{
    bool was_up = l->state == LINK_UP;
    close_all(l);
    l->state = LINK_DOWN;
    if (was_up) {
        boot_say("channel lost: %s", why);
        l->backoff_ms = BACKOFF_MIN_MS;
        l->o.on_down(l->o.arg);
    }
    /* Half fixed, half random: guests that lost one endpoint do not return in step. */
    int64_t wait = l->backoff_ms / 2 + (int64_t)(random_u64() % (uint64_t)(l->backoff_ms / 2 + 1));
    l->backoff_ms = l->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : l->backoff_ms * 2;
    poll_after(l->o.loop, &l->retry, wait);
}

static bool write_wire(struct link *l)
{
    while (l->sent < l->wire.len) {
        ssize_t n = send(l->watch.fd, l->wire.data + l->sent, l->wire.len - l->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return false;
        l->sent += (size_t)n;
    }
    if (l->sent == l->wire.len) {
        buf_reset(&l->wire);
        l->sent = 0;
    }
    uint32_t events = EPOLLIN | (l->wire.len || l->want_room ? EPOLLOUT : 0);
    poll_watch(l->o.loop, &l->watch, l->watch.fd, events);
    return true;
}

static bool send_hello(struct link *l, struct vic_err *err)
{
    AUTO_BUF struct buf json = {0}, frame = {0};
    l->o.hello(l->o.arg, &json);
    wire_put(&frame, WIRE_HELLO, 0, buf_sv(&json));
    l->state = LINK_WAIT_WELCOME;
    return !frame.failed && tls_output(l->tls, buf_sv(&frame), &l->wire, err) == TLS_OK;
}

/* Encrypts and sends what waits in 'out'; on failure the link goes down from a timer. */
void link_kick(struct link *l)
{
    if (l->flushing) /* called from inside a frame's handling: it is sent right after */
        return;
    if (l->state != LINK_UP || l->broken) {
        buf_reset(&l->out);
        return;
    }
    if (l->out.failed)
        l->broken = "a frame over its limit";
    else if (l->out.len && tls_output(l->tls, buf_sv(&l->out), &l->wire, NULL) != TLS_OK)
        l->broken = "TLS failed";
    else if (!write_wire(l))
        l->broken = "write failed";
    buf_reset(&l->out);
    if (l->broken)
        poll_after(l->o.loop, &l->deadline, 0);
}

static void protocol_error(struct link *l, const struct vic_err *err)
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    json_open(&w, NULL, '{');
    json_add_str(&w, "code", vic_code_name(err->code));
    json_add_str(&w, "text", err->msg);
    json_close(&w, '}');
    wire_put(&l->out, WIRE_ERROR, 0, buf_sv(&json));
    if (l->tls && !l->out.failed && tls_output(l->tls, buf_sv(&l->out), &l->wire, NULL) == TLS_OK)
        (void)!write_wire(l);
    go_down(l, err->msg);
}

static bool on_welcome(struct link *l, struct sv payload, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    uint64_t log_seq = 0;
    unsigned char key[32];
    if (l->state != LINK_WAIT_WELCOME)
        return vic_fail(err, VIC_PROTOCOL, 0, "WELCOME out of order");
    if (!json_parse(payload, 256, &a, &v, err))
        return vic_wrap(err, "WELCOME");
    struct sv hex = sv_of(json_str(json_get(v, "key"), ""));
    if (hex.len == 64 && hex_decode(hex, key))
        link_set_key(l, 2, key);
    explicit_bzero(key, sizeof key);
    (void)json_read_u64(json_get(v, "log_seq"), &log_seq);
    l->state = LINK_UP;
    l->backoff_ms = BACKOFF_MIN_MS;
    poll_cancel(l->o.loop, &l->deadline);
    poll_after(l->o.loop, &l->ping, WIRE_PING_MS);
    l->o.on_up(l->o.arg, log_seq, json_i64(json_get(v, "time_ns"), 0));
    return true;
}

static bool on_ping(struct link *l, struct sv payload, struct vic_err *err)
{
    uint64_t nonce;
    int64_t wall;
    if (!wire_take_ping(payload, &nonce, &wall, err))
        return false;
    wire_put_ping(&l->out, WIRE_PONG, nonce, clock_wall_ns(&vic_clock_real));
    return true;
}

static bool dispatch(struct link *l, const struct wire_frame *f, struct vic_err *err)
{
    if (f->type == WIRE_WELCOME)
        return on_welcome(l, f->payload, err);
    if (f->type == WIRE_ERROR)
        return vic_fail(err, VIC_PROTOCOL, 0, "the hub says: " SV_FMT,
                        SV_ARG(sv_sub(f->payload, 0, 300)));
    if (l->state != LINK_UP)
        return vic_fail(err, VIC_PROTOCOL, 0, "frame of type %d before WELCOME", (int)f->type);
    if (f->type == WIRE_PING)
        return on_ping(l, f->payload, err);
    if (f->type == WIRE_PONG)
        return true;
    return l->o.on_frame(l->o.arg, f, err);
}

static bool take_frames(struct link *l, struct vic_err *err)
{
    size_t at = 0;
    bool ok = true;
    l->flushing = true;
    while (ok) {
        struct wire_frame f;
        size_t used;
        ok = wire_take(sv_sub(buf_sv(&l->in), at, l->in.len), &f, &used, err);
        if (!ok || used == 0)
            break;
        at += used;
        ok = dispatch(l, &f, err);
    }
    l->flushing = false;
    buf_consume(&l->in, at);
    return ok;
}

static void on_readable(struct link *l)
{
    char bytes[READ_SIZE];
    struct vic_err err = {.msg = "closed by the hub"};
    ssize_t n = recv(l->watch.fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        go_down(l, n == 0 ? err.msg : strerror(errno));
        return;
    }
    l->heard_ms = poll_now_ms();
    enum tls_status s = tls_input(l->tls, sv_make(bytes, (size_t)n), &l->in, &l->wire, &err);
    if (s == TLS_FAILED) {
        go_down(l, err.msg);
        return;
    }
    if ((l->state == LINK_HANDSHAKE && tls_ready(l->tls) && !send_hello(l, &err)) ||
        !take_frames(l, &err)) {
        protocol_error(l, &err);
        return;
    }
    if (s == TLS_CLOSED)
        go_down(l, err.msg);
    else if (l->state == LINK_UP)
        link_kick(l);
    else if (!write_wire(l))
        go_down(l, "write failed");
}

static void on_connected(struct link *l)
{
    int error = 0;
    socklen_t size = sizeof error;
    struct vic_err err = {0};
    if (getsockopt(l->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        go_down(l, "connect");
        return;
    }
    l->state = LINK_HANDSHAKE;
    l->tls = tls_conn_new(l->ctx, NULL, &err);
    if (!l->tls || tls_start(l->tls, &l->wire, &err) != TLS_OK || !write_wire(l))
        go_down(l, err.msg);
}

static void on_event(void *arg, uint32_t events)
{
    struct link *l = arg;
    if (l->state == LINK_CONNECTING) {
        on_connected(l);
        return;
    }
    if (events & EPOLLOUT) {
        if (!write_wire(l)) {
            go_down(l, "write failed");
            return;
        }
        if (l->want_room && link_room(l)) {
            l->want_room = false;
            l->o.on_room(l->o.arg);
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        on_readable(l);
}

static bool make_context(struct link *l, struct vic_err *err)
{
    char identity[96];
    if (l->stale) {
        tls_ctx_free(l->ctx); /* no connection uses it: this is called between two */
        l->ctx = NULL;
        l->stale = false;
    }
    if (l->ctx)
        return true;
    wire_identity(l->o.vm, l->key_number, identity);
    l->ctx = tls_client_psk(identity, l->key, err);
    return l->ctx != NULL;
}

static int open_socket(struct link *l)
{
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_scope_id = l->o.ifindex};
    unsigned port;
    int one = 1;
    if (!link_parse_endpoint(l->o.endpoint, to.sin6_addr.s6_addr, &port))
        return -1;
    to.sin6_port = htons((uint16_t)port);
    if (!IN6_IS_ADDR_LINKLOCAL(&to.sin6_addr))
        to.sin6_scope_id = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void on_retry(void *arg)
{
    struct link *l = arg;
    struct vic_err err = {0};
    int fd = make_context(l, &err) ? open_socket(l) : -1;
    if (fd < 0) {
        go_down(l, "connect");
        return;
    }
    l->state = LINK_CONNECTING;
    l->heard_ms = poll_now_ms();
    poll_watch(l->o.loop, &l->watch, fd, EPOLLOUT);
    poll_after(l->o.loop, &l->deadline, OPEN_MS);
}

static void on_deadline(void *arg)
{
    struct link *l = arg;
    go_down(l, l->broken ? l->broken : "not open within its deadline");
}

static void on_ping_timer(void *arg)
{
    struct link *l = arg;
    int64_t silent = poll_now_ms() - l->heard_ms;
    if (silent >= WIRE_DEAD_MS) {
        go_down(l, "no sign of life");
        return;
    }
    poll_after(l->o.loop, &l->ping, WIRE_PING_MS);
    if (silent >= WIRE_PING_MS - 100) {
        wire_put_ping(&l->out, WIRE_PING, random_u64(), clock_wall_ns(&vic_clock_real));
        link_kick(l);
    }
}

void link_init(struct link *l, const struct link_options *o)
{
    *l = (struct link){.o = *o, .key_number = 1, .backoff_ms = BACKOFF_MIN_MS};
    memcpy(l->key, o->key, sizeof l->key);
    l->watch = (struct poll_watch){.fd = -1, .fn = on_event, .arg = l};
    l->retry = (struct poll_timer){.fn = on_retry, .arg = l};
    l->deadline = (struct poll_timer){.fn = on_deadline, .arg = l};
    l->ping = (struct poll_timer){.fn = on_ping_timer, .arg = l};
}

void link_start(struct link *l)
{
    on_retry(l);
}

void link_fini(struct link *l)
{
    close_all(l);
    poll_cancel(l->o.loop, &l->retry);
    tls_ctx_free(l->ctx);
    l->ctx = NULL;
    buf_fini(&l->in);
    buf_fini(&l->out);
    buf_fini(&l->wire);
    explicit_bzero(l->key, sizeof l->key);
    l->state = LINK_DOWN;
}

bool link_is_up(const struct link *l)
{
    return l->state == LINK_UP;
}

struct buf *link_out(struct link *l)
{
    return &l->out;
}

bool link_room(struct link *l)
{
    if (l->state == LINK_UP && l->wire.len - l->sent + l->out.len < LINK_ROOM)
        return true;
    l->want_room = true;
    return false;
}

bool link_flushed(const struct link *l)
{
    return l->out.len == 0 && l->wire.len == 0;
}

void link_set_key(struct link *l, unsigned number, const unsigned char key[32])
{
    if (l->key_number == number && equal_const_time(l->key, key, 32))
        return;
    l->key_number = number;
    memcpy(l->key, key, 32);
    l->stale = true; /* the connection that is up lives on; the next one proves the new key */
}
