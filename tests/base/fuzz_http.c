/* Bytes of an HTTP client, to the parser and then to a whole server.
 *
 * The parser: however the bytes are cut, the same head ends at the same place, and a body taken
 * apart byte by byte is the body taken apart at once.  The server: it answers or closes, and
 * holds nothing afterwards (ASan). */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/http.h"
#include "base/mem.h"
#include "http_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert, which release builds leave out. */
#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

/* ---- the parser ---- */

static bool take_body(const struct http_head *h, struct sv in, size_t step, struct buf *out,
                      size_t *used)
{
    struct http_body b;
    size_t at = 0;
    http_body_begin(&b, h);
    while (at < in.len && b.state != BODY_DONE) {
        struct sv piece = sv_sub(in, at, step), data;
        size_t before = piece.len;
        if (!http_body_step(&b, &piece, &data))
            return false;
        MUST(before > piece.len || !before); /* progress, always */
        buf_add_sv(out, data);
        at += before - piece.len;
    }
    *used = at;
    return true;
}

static void check_body(const struct http_head *h, struct sv in)
{
    AUTO_BUF struct buf whole = {0};
    AUTO_BUF struct buf bytes = {0};
    size_t used[2] = {0, 0};
    bool a = take_body(h, in, SIZE_MAX, &whole, &used[0]);
    bool b = take_body(h, in, 1, &bytes, &used[1]);
    MUST(a == b);
    if (a) {
        MUST(used[0] == used[1]);
        MUST(sv_eq(buf_sv(&whole), buf_sv(&bytes)));
    }
}

static void parse(struct sv in)
{
    size_t scan = 0, slow = 0, found = 0;
    size_t end = http_head_end(in, &scan);
    for (size_t n = 0; n <= in.len && !found; n++)
        found = http_head_end(sv_sub(in, 0, n), &slow);
    MUST(found == end);
    if (!end)
        return;
    AUTO_ARENA struct arena a = {0};
    struct http_head h;
    struct vic_err err = {0};
    struct sv raw = sv_make(arena_copy(&a, in.p, end), end);
    int status = http_head_parse(&a, raw, &h, &err);
    MUST((status != 0) == (err.code != VIC_OK));
    if (status) {
        MUST(status >= 400 && status < 600);
        return;
    }
    MUST(h.count <= HTTP_MAX_HEADERS && h.path.len > 0);
    MUST(!(h.chunked && h.content_length));
    check_body(&h, sv_sub(in, end, SIZE_MAX));
}

/* ---- the server ---- */

struct world {
    struct loop *loop;
    struct vic_pool *pool;
    struct http_server *server;
};

static enum http_fill fill(void *arg, struct buf *out)
{
    (void)arg;
    buf_add_str(out, "hello");
    return HTTP_END;
}

static size_t take(void *arg, struct sv bytes)
{
    (void)arg;
    return bytes.len;
}

static bool answer(void *arg, struct http_req *r, bool timed_out)
{
    (void)arg, (void)timed_out;
    http_reply(r, 200, "text/plain", http_body(r));
    return true;
}

/* Every way to end, by the path. */
static void handle(void *arg, struct http_req *r)
{
    static const struct http_source src = {.fill = fill};
    static const struct http_sink sink = {.data = take};
    char piece[100];
    size_t got = 1;
    struct vic_err err;
    const char *value;
    http_query(r, "q", &value);
    http_get_header(r, "x-test");
    switch (http_path(r).len > 1 ? http_path(r).p[1] : 0) {
    case 's':
        http_stream(r, 200, "text/plain", 0, &src, arg);
        break;
    case 'f':
        http_stream_sized(r, 200, "text/plain", 5, &src, arg);
        break;
    case 'h':
        http_hijack(r, "text/plain", &src, &sink, arg);
        break;
    case 'p':
        http_park(r, 0, answer, NULL, arg);
        break;
    case 'u':
        while (got && http_body_read(r, piece, sizeof piece, &got, &err))
            ;
        http_reply(r, 200, NULL, SV("read"));
        break;
    default:
        answer(arg, r, false);
    }
}

static enum http_body_kind classify(void *arg, const char *method, struct sv path, uint64_t *max)
{
    (void)arg, (void)method;
    *max = 10000;
    return path.len > 1 && path.p[1] == 'u' ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static struct world *world_new(void)
{
    static struct world w;
    struct vic_err err;
    w.loop = loop_new("fuzz", &err);
    w.pool = pool_new("fuzz", 1, 0);
    const struct http_options o = {
        .handler = handle, .classify = classify, .arg = &w, .pool = w.pool, .body_threads = 1};
    w.server = http_server_new(w.loop, &o, &err);
    if (!w.server || !loop_adopt(w.loop))
        abort();
    return &w;
}

static void serve(struct world *w, struct sv in)
{
    int fds[2], big = 1 << 20;
    struct vic_err err;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    if (!http_adopt(w->server, fds[0], NULL, &err))
        abort();
    ssize_t n = send(fds[1], in.p, in.len, MSG_NOSIGNAL); /* what fits */
    (void)n;
    shutdown(fds[1], SHUT_WR);
    while (w->server->conn_count) {
        char answers[4096];
        loop_pump(w->loop);
        while (recv(fds[1], answers, sizeof answers, 0) > 0)
            ;
    }
    close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world *w;
    if (!w)
        w = world_new();
    struct sv in = sv_make(data, size);
    if (size < 4096)
        parse(in);
    if (size)
        serve(w, in);
    return 0;
}
