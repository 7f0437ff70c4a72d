/* The test guest's connection: see guest.h. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

void tg_key(const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE])
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "test guest %s %u", vm, n);
    sha256_of(b.data, b.len, out);
}

static bool parse_address(const char *address, struct sockaddr_storage *sa, socklen_t *size)
{
    struct sv rest = sv_of(address);
    struct sv scheme = sv_cut(&rest, ':');
    memset(sa, 0, sizeof *sa);
    if (sv_is(scheme, "unix")) {
        struct sockaddr_un *un = (struct sockaddr_un *)sa;
        un->sun_family = AF_UNIX;
        snprintf(un->sun_path, sizeof un->sun_path, SV_FMT, SV_ARG(rest));
        *size = sizeof *un;
        return true;
    }
    ptrdiff_t colon = sv_rfind(rest, ':');
    uint64_t port;
    char host[64];
    if (colon < 0 || !sv_to_u64(sv_sub(rest, (size_t)colon + 1, 9), &port))
        return false;
    snprintf(host, sizeof host, SV_FMT, SV_ARG(sv_sub(rest, 0, (size_t)colon)));
    struct sockaddr_in *in = (struct sockaddr_in *)sa;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)sa;
    if (host[0] == '[') {
        host[strlen(host) - 1] = '\0';
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *size = sizeof *in6;
        return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1;
    }
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    *size = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

int tg_dial(const char *address, const char *source)
{
    struct sockaddr_storage sa;
    socklen_t size;
    if (!parse_address(address, &sa, &size))
        return -1;
    AUTO_CLOSE int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from = {.sin_family = AF_INET};
    if (source && (inet_pton(AF_INET, source, &from.sin_addr) != 1 ||
                   bind(fd, (struct sockaddr *)&from, sizeof from) != 0))
        return -1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, size) != 0)
        return -1;
    return TAKE_FD(fd);
}

static bool write_all(struct tg *g, struct vic_err *err)
{
    size_t at = 0;
    while (at < g->cipher.len) {
        ssize_t n = send(g->fd, g->cipher.data + at, g->cipher.len - at, MSG_NOSIGNAL);
        if (n < 0)
            return vic_fail(err, VIC_UNAVAILABLE, errno, "send to the hub");
        at += (size_t)n;
    }
    buf_reset(&g->cipher);
    return true;
}

/* Reads once from the socket, waiting up to 'timeout_ms'. */
static bool read_more(struct tg *g, int64_t timeout_ms, struct vic_err *err)
{
    char bytes[65536];
    struct pollfd p = {.fd = g->fd, .events = POLLIN};
    if (g->closed)
        return vic_fail(err, VIC_UNAVAILABLE, 0, "the hub closed");
    int r = poll(&p, 1, (int)timeout_ms);
    if (r == 0)
        return vic_fail(err, VIC_TIMEOUT, 0, "no frame from the hub");
    ssize_t n = r > 0 ? read(g->fd, bytes, sizeof bytes) : -1;
    if (n <= 0)
        return vic_fail(err, VIC_UNAVAILABLE, n ? errno : 0, "the hub closed");
    enum tls_status st = tls_input(g->tls, sv_make(bytes, (size_t)n), &g->plain, &g->cipher, err);
    if (!write_all(g, err) || st == TLS_FAILED)
        return false;
    g->closed = st == TLS_CLOSED; /* frames may have come with it */
    return true;
}

bool tg_connect(struct tg *g, const struct tg_connect *o, struct vic_err *err)
{
    char identity[96];
    unsigned char key[TLS_PSK_SIZE];
    *g = (struct tg){.fd = -1};
    snprintf(g->vm, sizeof g->vm, "%s", o->vm);
    snprintf(g->boot, sizeof g->boot, "0b007000-0000-4000-8000-000000000001");
    wire_identity(o->vm, o->n ? o->n : 1, identity);
    tg_key(o->vm, o->n ? o->n : 1, key);
    g->ctx = tls_client_psk(o->identity ? o->identity : identity, o->key ? o->key : key, err);
    g->tls = g->ctx ? tls_conn_new(g->ctx, NULL, err) : NULL;
    g->fd = g->tls ? tg_dial(o->address, o->source) : -1;
    bool ok = g->fd >= 0 || vic_fail(err, VIC_UNAVAILABLE, errno, "connect to %s", o->address);
    ok = ok && tls_start(g->tls, &g->cipher, err) != TLS_FAILED && write_all(g, err);
    while (ok && !tls_ready(g->tls))
        ok = read_more(g, TG_TIMEOUT_MS, err);
    if (!ok)
        tg_close(g);
    return ok;
}

void tg_close(struct tg *g)
{
    if (g->fd >= 0)
        close(TAKE_FD(g->fd));
    tls_conn_free(TAKE(g->tls));
    tls_ctx_free(TAKE(g->ctx));
    buf_fini(&g->plain);
    buf_fini(&g->cipher);
    g->taken = 0;
}

bool tg_send(struct tg *g, struct sv frames, struct vic_err *err)
{
    return tls_output(g->tls, frames, &g->cipher, err) != TLS_FAILED && write_all(g, err);
}

bool tg_json(struct tg *g, enum wire_type type, uint32_t stream, const char *json,
             struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    wire_put(&b, type, stream, sv_of(json));
    return tg_send(g, buf_sv(&b), err);
}

bool tg_recv(struct tg *g, struct wire_frame *f, int64_t timeout_ms, struct vic_err *err)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + timeout_ms;
    buf_consume(&g->plain, g->taken);
    g->taken = 0;
    for (;;) {
        if (!wire_take(buf_sv(&g->plain), f, &g->taken, err))
            return false;
        if (g->taken)
            return true;
        int64_t left = deadline - clock_mono_ms(&vic_clock_real);
        if (!read_more(g, left > 0 ? left : 0, err))
            return false;
    }
}

static bool pong(struct tg *g, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    uint64_t nonce;
    int64_t theirs;
    if (!wire_take_ping(f->payload, &nonce, &theirs, err))
        return false;
    wire_put_ping(&b, WIRE_PONG, nonce, clock_wall_ns(&vic_clock_real));
    return tg_send(g, buf_sv(&b), err);
}

bool tg_expect(struct tg *g, enum wire_type type, struct wire_frame *f, struct vic_err *err)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + TG_TIMEOUT_MS;
    for (;;) {
        if (!tg_recv(g, f, deadline - clock_mono_ms(&vic_clock_real), err))
            return vic_wrap(err, "waiting for a frame of type %d", (int)type);
        if (f->type == type)
            return true;
        if (f->type == WIRE_PING && !pong(g, f, err))
            return false;
    }
}

bool tg_hello(struct tg *g, const char *json, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    struct wire_frame f;
    buf_addf(&b,
             "{\"proto\":1,\"build\":\"test\",\"vm\":\"%s\",\"boot\":\"%s\",\"role\":\"none\","
             "\"uptime_ms\":1,\"log_seq\":0}",
             g->vm, g->boot);
    return tg_json(g, WIRE_HELLO, 0, json ? json : buf_str(&b), err) &&
           tg_expect(g, WIRE_WELCOME, &f, err);
}

bool tg_log(struct tg *g, uint64_t seq, unsigned stream, struct sv bytes, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    struct wire_log log = {.seq = seq,
                           .time_ns = clock_wall_ns(&vic_clock_real),
                           .stream = (uint8_t)stream,
                           .bytes = bytes};
    wire_put_log(&b, &log);
    return tg_send(g, buf_sv(&b), err);
}

bool tg_ended(struct tg *g, const char *code)
{
    struct wire_frame f;
    struct vic_err err;
    bool said = !*code;
    while (tg_recv(g, &f, TG_TIMEOUT_MS, &err)) {
        AUTO_ARENA struct arena a = {0};
        struct json_val v;
        if (f.type == WIRE_ERROR && json_parse(f.payload, 0, &a, &v, NULL) &&
            strcmp(json_str(json_get(v, "code"), ""), code) == 0)
            said = true;
    }
    return said && err.code != VIC_TIMEOUT;
}
