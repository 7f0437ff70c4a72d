/* base/http*.c: a server on its own loop thread with a pool of four, met by raw sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/http.h"
#include "base/mem.h"

enum { MANY = 500, POOL = 4 };

/* ---- the server under test ---- */

/* What handlers and tests share. */
struct world {
    struct loop *loop;
    struct http_server *server;
    struct vic_pool *pool;
    char dir[64], path[100];
    struct vic_mutex lock;
    struct vic_cond changed;
    /* guarded: lock */
    struct http_waker *wakers[MANY + 8];
    unsigned waker_count, polls, drops, frees, fills, eofs, reads, slow;
    bool open_gate, body_failed;
    size_t produced;
    uint64_t body_sum;
    int body_delay_ms;
};

static struct world *w;

static void locked_add(unsigned *n, unsigned by)
{
    mutex_lock(&w->lock);
    *n += by;
    cond_broadcast(&w->changed);
    mutex_unlock(&w->lock);
}

/* Waits for a counter, at most ten seconds. */
static void wait_for(const unsigned *n, unsigned want)
{
    int64_t end = clock_mono_ms(&vic_clock_real) + 10000;
    mutex_lock(&w->lock);
    while (*n < want && clock_mono_ms(&vic_clock_real) < end)
        cond_wait_ms(&w->changed, &w->lock, 100);
    unsigned got = *n;
    mutex_unlock(&w->lock);
    assert_true(got >= want);
}

static unsigned locked_get(const unsigned *n)
{
    mutex_lock(&w->lock);
    unsigned got = *n;
    mutex_unlock(&w->lock);
    return got;
}

static void keep_waker(struct http_req *r)
{
    mutex_lock(&w->lock);
    w->wakers[w->waker_count++] = http_waker(r);
    cond_broadcast(&w->changed);
    mutex_unlock(&w->lock);
}

static void wake_all(void)
{
    mutex_lock(&w->lock);
    for (unsigned i = 0; i < w->waker_count; i++)
        http_wake(w->wakers[i]);
    mutex_unlock(&w->lock);
}

static void open_gate(void)
{
    mutex_lock(&w->lock);
    w->open_gate = true;
    mutex_unlock(&w->lock);
    wake_all();
}

static bool gate_is_open(void)
{
    mutex_lock(&w->lock);
    bool open = w->open_gate;
    mutex_unlock(&w->lock);
    return open;
}

static bool poll_gate(void *arg, struct http_req *r, bool timed_out)
{
    assert_ptr_equal(arg, w);
    locked_add(&w->polls, 1);
    if (timed_out)
        http_reply(r, 504, "text/plain", SV("late"));
    else if (gate_is_open())
        http_reply(r, 200, "text/plain", SV("woken"));
    return timed_out || gate_is_open();
}

static void drop(void *arg)
{
    (void)arg;
    locked_add(&w->drops, 1);
}

struct producer {
    size_t left, piece;
    bool waits; /* for the gate */
};

static enum http_fill produce(void *arg, struct buf *out)
{
    struct producer *p = arg;
    locked_add(&w->fills, 1);
    if (p->waits && !gate_is_open())
        return HTTP_WAIT;
    size_t n = p->left < p->piece ? p->left : p->piece;
    for (size_t i = 0; i < n; i++)
        buf_add_c(out, (char)('a' + (p->left - i) % 26));
    p->left -= n;
    mutex_lock(&w->lock);
    w->produced += n;
    mutex_unlock(&w->lock);
    return p->left ? HTTP_MORE : HTTP_END;
}

static void free_producer(void *arg)
{
    free(arg);
    locked_add(&w->frees, 1);
}

static const struct http_source producer = {produce, free_producer};

static struct producer *producer_new(struct http_req *r)
{
    struct producer *p = xcalloc(1, sizeof *p);
    const char *v;
    uint64_t n;
    if (http_query(r, "n", &v) && sv_to_u64(sv_of(v), &n))
        p->left = (size_t)n;
    p->piece = 64 * 1024;
    if (http_query(r, "piece", &v) && sv_to_u64(sv_of(v), &n))
        p->piece = (size_t)n;
    p->waits = http_query(r, "wait", &v);
    return p;
}

/* Hijacked: what the sink takes, the source gives back, until eof. */
struct parrot {
    struct vic_mutex lock;
    struct buf said; /* guarded: lock */
    bool eof, shy;   /* guarded: lock */
    size_t room;
    struct http_waker *waker;
};

static enum http_fill parrot_fill(void *arg, struct buf *out)
{
    struct parrot *p = arg;
    locked_add(&w->fills, 1);
    mutex_lock(&p->lock);
    bool eof = p->eof, end = eof && !p->said.len;
    buf_add_sv(out, buf_sv(&p->said));
    buf_reset(&p->said);
    mutex_unlock(&p->lock);
    if (end)
        buf_add_str(out, "bye");
    http_wake_input(p->waker);
    return end ? HTTP_END : eof ? HTTP_MORE : HTTP_WAIT;
}

static size_t parrot_data(void *arg, struct sv bytes)
{
    struct parrot *p = arg;
    mutex_lock(&p->lock);
    size_t n = p->room - p->said.len < bytes.len ? p->room - p->said.len : bytes.len;
    buf_add(&p->said, bytes.p, n);
    mutex_unlock(&p->lock);
    http_wake(p->waker);
    return n;
}

static void parrot_eof(void *arg)
{
    struct parrot *p = arg;
    mutex_lock(&p->lock);
    p->eof = true;
    mutex_unlock(&p->lock);
    locked_add(&w->eofs, 1);
    http_wake(p->waker);
}

static void parrot_free(void *arg)
{
    struct parrot *p = arg;
    http_waker_free(p->waker);
    buf_fini(&p->said);
    mutex_fini(&p->lock);
    free(p);
    locked_add(&w->frees, 1);
}

static void do_parrot(struct http_req *r)
{
    static const struct http_source src = {parrot_fill, parrot_free};
    static const struct http_sink sink = {parrot_data, parrot_eof};
    struct parrot *p = xcalloc(1, sizeof *p);
    mutex_init(&p->lock);
    p->room = 1000;
    p->waker = http_waker(r);
    http_hijack(r, "application/vnd.docker.raw-stream", &src, &sink, p);
}

static void do_upload(struct http_req *r)
{
    char piece[20000];
    size_t got;
    uint64_t total = 0, sum = 0;
    struct vic_err err = {0};
    for (;;) {
        if (!http_body_read(r, piece, sizeof piece, &got, &err)) {
            mutex_lock(&w->lock);
            w->body_failed = true;
            mutex_unlock(&w->lock);
            locked_add(&w->reads, 1);
            http_reply(r, vic_code_http(err.code), "text/plain", sv_of(err.msg));
            return;
        }
        if (!got)
            break;
        for (size_t i = 0; i < got; i++)
            sum = sum * 31 + (unsigned char)piece[i];
        total += got;
        if (w->body_delay_ms)
            usleep((useconds_t)w->body_delay_ms * 1000);
    }
    mutex_lock(&w->lock);
    w->body_sum = sum;
    mutex_unlock(&w->lock);
    locked_add(&w->reads, 1);
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)total);
    http_reply(r, 200, "text/plain", sv_of(text));
}

static void do_echo(struct http_req *r)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s " SV_FMT, http_method(r), SV_ARG(http_path(r)));
    const char *v;
    if (http_query(r, "x", &v))
        buf_addf(&b, " x=%s", v);
    struct sv h = http_get_header(r, "x-test");
    if (h.p)
        buf_addf(&b, " h=" SV_FMT, SV_ARG(h));
    if (http_body(r).len)
        buf_addf(&b, " body=" SV_FMT, SV_ARG(http_body(r)));
    http_set_header(r, "X-Answer", "a\r\nEvil: b");
    http_reply(r, 200, "text/plain", buf_sv(&b));
}

static void handler(void *arg, struct http_req *r)
{
    const char *v;
    uint64_t n = 0;
    assert_ptr_equal(arg, w);
    struct sv path = http_path(r);
    if (sv_is(path, "/park")) {
        bool timed = http_query(r, "ms", &v) && sv_to_u64(sv_of(v), &n);
        keep_waker(r);
        http_park(r, timed ? (int64_t)n : -1, poll_gate, drop, w);
    } else if (sv_is(path, "/stream")) {
        struct producer *p = producer_new(r);
        keep_waker(r);
        http_stream(r, 200, "text/plain", 0, &producer, p);
    } else if (sv_is(path, "/ticks")) {
        struct producer *p = producer_new(r);
        p->waits = true;
        http_stream(r, 200, "text/plain", 10, &producer, p);
    } else if (sv_is(path, "/file")) {
        struct producer *p = producer_new(r);
        uint64_t size = p->left;
        if (http_query(r, "lie", &v))
            size += 10;
        http_stream_sized(r, 200, "application/octet-stream", size, &producer, p);
    } else if (sv_is(path, "/hijack")) {
        do_parrot(r);
    } else if (sv_is(path, "/upload")) {
        do_upload(r);
    } else if (sv_is(path, "/status")) {
        bool ok = http_query(r, "s", &v) && sv_to_u64(sv_of(v), &n);
        http_reply(r, ok ? (int)n : 500, "text/plain", SV("some body"));
    } else if (sv_is(path, "/silent")) {
        return;
    } else if (sv_is(path, "/slow")) {
        locked_add(&w->slow, 1);
        while (!gate_is_open())
            usleep(1000);
        http_reply(r, 200, "text/plain", SV("slow"));
    } else {
        do_echo(r);
    }
}

static enum http_body_kind classify(void *arg, const char *method, struct sv path, uint64_t *max)
{
    (void)arg, (void)method;
    *max = sv_is(path, "/small") ? 10 : 64 * 1024 * 1024;
    return sv_is(path, "/upload") ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static void open_world(const struct http_options *base, size_t pool_limit, struct tls_ctx *tls)
{
    static const char *const headers[] = {"Server: test", "Api-Version: 1.47", NULL};
    struct vic_err err = {0};
    struct http_options o = base ? *base : (struct http_options){0};
    w = xcalloc(1, sizeof *w);
    mutex_init(&w->lock);
    cond_init(&w->changed);
    w->pool = pool_new("handlers", POOL, pool_limit);
    w->loop = loop_new("http", &err);
    o.handler = handler;
    o.classify = classify;
    o.arg = w;
    o.pool = w->pool;
    o.headers = headers;
    w->server = http_server_new(w->loop, &o, &err);
    snprintf(w->dir, sizeof w->dir, "/tmp/http_test.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof w->path, "%s/s", w->dir);
    AUTO_FREE char *address = xasprintf("unix:%s", w->path);
    if (!http_listen(w->server, address, tls, NULL, &err) || !loop_start(w->loop, &err))
        fail_msg("%s", err.msg);
}

static void close_world(bool stop_first)
{
    if (stop_first)
        loop_stop(w->loop);
    http_server_free(w->server);
    /* Everything that was given was taken back, and waking the dead does nothing. */
    wake_all();
    for (unsigned i = 0; i < w->waker_count; i++)
        http_waker_free(w->wakers[i]);
    loop_stop(w->loop);
    loop_free(w->loop);
    pool_free(w->pool);
    rmdir(w->dir);
    cond_fini(&w->changed);
    mutex_fini(&w->lock);
    free(w);
    w = NULL;
}

static int setup(void **state)
{
    (void)state;
    open_world(NULL, 0, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_world(false);
    return 0;
}

/* ---- a client ---- */

static int dial(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval t = {.tv_sec = 10};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", w->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    return fd;
}

static void put_sv(int fd, struct sv s)
{
    while (s.len) {
        ssize_t n = send(fd, s.p, s.len, MSG_NOSIGNAL);
        assert_true(n > 0);
        s = sv_sub(s, (size_t)n, SIZE_MAX);
    }
}

static void put(int fd, const char *text)
{
    put_sv(fd, sv_of(text));
}

static void get(int fd, const char *target)
{
    AUTO_FREE char *text = xasprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    put(fd, text);
}

/* Reads until 'want' is in the buffer, or to the end when it is NULL. */
static void read_until(int fd, struct buf *b, const char *want)
{
    while (!want || !strstr(buf_str(b), want)) {
        char piece[4096];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n < 0 && errno == ECONNRESET && !want)
            return;
        if (n < 0)
            fail_msg("%s waiting for %s after: %s", strerror(errno), want ? want : "the end",
                     buf_str(b));
        if (n == 0 && want)
            fail_msg("end while waiting for %s after: %s", want, buf_str(b));
        if (n == 0)
            return;
        buf_add(b, piece, (size_t)n);
    }
}

struct answer {
    int status;
    struct buf head, body, rest; /* rest: what came behind */
};

static void answer_fini(struct answer *a)
{
    buf_fini(&a->head);
    buf_fini(&a->body);
    buf_fini(&a->rest);
}
#define AUTO_ANSWER __attribute__((cleanup(answer_fini)))

static void need(int fd, struct buf *b, size_t len)
{
    while (b->len < len) {
        char piece[65536];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n <= 0)
            fail_msg("connection ended within a body");
        buf_add(b, piece, (size_t)n);
    }
}

static void read_chunks(int fd, struct answer *a)
{
    for (;;) {
        read_until(fd, &a->rest, "\r\n");
        uint64_t size;
        struct sv line =
            sv_sub(buf_sv(&a->rest), 0, (size_t)(strstr(a->rest.data, "\r\n") - a->rest.data));
        assert_true(sv_hex_to_u64(line, &size));
        buf_consume(&a->rest, line.len + 2);
        need(fd, &a->rest, size + 2);
        buf_add(&a->body, a->rest.data, size);
        assert_memory_equal(a->rest.data + size, "\r\n", 2);
        buf_consume(&a->rest, size + 2);
        if (!size)
            return;
    }
}

/* One answer; a->rest carries over. */
static void read_answer(int fd, struct answer *a, bool head_only)
{
    buf_reset(&a->head);
    buf_reset(&a->body);
    read_until(fd, &a->rest, "\r\n\r\n");
    size_t end = (size_t)(strstr(a->rest.data, "\r\n\r\n") - a->rest.data) + 4;
    buf_add(&a->head, a->rest.data, end);
    buf_consume(&a->rest, end);
    assert_true(sv_starts(buf_sv(&a->head), SV("HTTP/1.1 ")));
    a->status = (int)strtol(a->head.data + 9, NULL, 10);
    const char *length = strstr(a->head.data, "Content-Length: ");
    if (head_only || a->status == 101 || a->status == 100)
        return;
    if (length) {
        size_t n = (size_t)strtoul(length + 16, NULL, 10);
        need(fd, &a->rest, n);
        buf_add(&a->body, a->rest.data, n);
        buf_consume(&a->rest, n);
    } else if (strstr(a->head.data, "Transfer-Encoding: chunked")) {
        read_chunks(fd, a);
    }
}

static bool has(const struct answer *a, const char *text)
{
    return strstr(buf_str(&a->head), text) != NULL;
}

static void expect_end(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* The server still answers. */
static void ping(void)
{
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    int64_t start = clock_mono_ms(&vic_clock_real);
    get(fd, "/_ping");
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 200);
    assert_true(clock_mono_ms(&vic_clock_real) - start < 2000);
}

/* ---- plain requests ---- */

static void test_plain(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    put(fd, "GET /a/b%20c?y=1&x=%41+b%zz&x=2 HTTP/1.1\r\nHost: x\r\nX-Test:  v \r\n\r\n");
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 200);
    assert_string_equal(buf_str(&a.body), "GET /a/b%20c x=A b%zz h=v");
    assert_true(has(&a, "\r\nServer: test\r\nApi-Version: 1.47\r\n"));
    assert_true(has(&a, "\r\nDate: "));
    assert_true(has(&a, "\r\nX-Answer: a  Evil: b\r\n"));
    assert_false(has(&a, "Connection: close"));
    /* keep-alive; an empty line before; a body; absolute form */
    put(fd, "\r\nPOST http://host:80/p?x= HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    read_answer(fd, &a, false);
    assert_string_equal(buf_str(&a.body), "POST /p x= body=abc");
    put(fd, "HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n");
    read_answer(fd, &a, true);
    assert_true(has(&a, "Content-Length: 7\r\n"));
    const char *none[] = {"/status?s=204", "/status?s=304"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        get(fd, none[i]);
        read_answer(fd, &a, false);
        assert_int_equal(a.rest.len, 0);
        assert_false(has(&a, "Content-Length"));
    }
    get(fd, "/silent");
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 500);
    put(fd, "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    read_answer(fd, &a, false);
    assert_true(has(&a, "Connection: close\r\n"));
    expect_end(fd);
}

static void test_http10(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    put(fd, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    read_answer(fd, &a, false);
    assert_true(has(&a, "Connection: keep-alive\r\n"));
    put(fd, "GET /stream?n=100000 HTTP/1.0\r\n\r\n");
    read_until(fd, &a.rest, NULL);
    assert_null(strstr(buf_str(&a.rest), "chunked"));
    const char *body = strstr(a.rest.data, "\r\n\r\n") + 4;
    assert_int_equal(a.rest.data + a.rest.len - body, 100000);
}

static void test_pipelined(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    AUTO_BUF struct buf all = {0};
    enum { N = 300 };
    for (int i = 0; i < N; i++) /* streams and bodies among them: each in its turn */
        buf_addf(&all,
                 i % 3 == 0   ? "POST /p%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
                 : i % 3 == 1 ? "GET /stream?n=%d HTTP/1.1\r\nHost: x\r\n\r\n"
                              : "GET /p%d HTTP/1.1\r\nHost: x\r\n\r\n",
                 i);
    put_sv(fd, buf_sv(&all));
    shutdown(fd, SHUT_WR); /* what was asked completely is still answered */
    for (int i = 0; i < N; i++) {
        char want[64];
        read_answer(fd, &a, false);
        snprintf(want, sizeof want, i % 3 == 0 ? "POST /p%d body=hi" : "GET /p%d", i);
        if (i % 3 == 1)
            assert_int_equal(a.body.len, i);
        else
            assert_string_equal(buf_str(&a.body), want);
    }
    expect_end(fd);
    wait_for(&w->frees, N / 3);
}

/* Byte by byte is the same as at once. */
static void test_trickle(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    const char *text = "POST /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "3;ext=1\r\nabc\r\n00A\r\n0123456789\r\n0\r\nTrail: er\r\n\r\n"
                       "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
    for (const char *p = text; *p; p++) {
        put_sv(fd, sv_make(p, 1));
        if (p - text > 40)
            usleep(200);
    }
    read_answer(fd, &a, false);
    assert_string_equal(buf_str(&a.body), "POST /t body=abc0123456789");
    read_answer(fd, &a, false);
    assert_string_equal(buf_str(&a.body), "GET /next");
}

static void test_expect(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    const char *paths[] = {"/whole", "/upload"};
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *head = xasprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                                         "Expect: 100-continue\r\n\r\n",
                                         paths[i]);
        put(fd, head);
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 100);
        put(fd, "body");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 200);
        assert_string_equal(buf_str(&a.body), i ? "4" : "POST /whole body=body");
    }
    put(fd,
        "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    read_answer(fd, &a, false); /* no 100: refused at once */
    assert_int_equal(a.status, 413);
    expect_end(fd);
}

/* ---- what must be refused, with the connection's end ---- */

static void refused(struct sv request, int status)
{
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    put_sv(fd, request);
    read_answer(fd, &a, false);
    if (a.status != status)
        fail_msg("got %d, not %d, for " SV_FMT, a.status, status, SV_ARG(request));
    assert_true(has(&a, "Connection: close\r\n"));
    shutdown(fd, SHUT_WR);
    expect_end(fd);
    assert_int_equal(a.rest.len, 0);
}

static void test_smuggling(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } bad[] = {
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
         400},
        {"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\n Transfer-Encoding: chunked\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: x\n\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
        {"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501},
        {"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\nabc", 200},
        {"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n", 413},
        {"POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
         "chunked\r\n\r\nb\r\n0123456789a\r\n",
         413},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (bad[i].status != 200)
            refused(sv_of(bad[i].text), bad[i].status);
    const char nul[] = "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n";
    refused(sv_make(nul, sizeof nul - 1), 400);
    /* A streamed body that breaks the rules ends its reader and the connection. */
    refused(
        SV("POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX"),
        400);
    ping();
}

static void test_head_limits(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    buf_add_str(&b, "GET /");
    while (b.len < 70000)
        buf_add_c(&b, 'a');
    refused(buf_sv(&b), 414);
    buf_reset(&b);
    buf_add_str(&b, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    while (b.len < 70000)
        buf_add_c(&b, 'a');
    refused(buf_sv(&b), 431);
    buf_reset(&b);
    buf_add_str(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 100; i++)
        buf_add_str(&b, "A: b\r\n");
    buf_add_str(&b, "\r\n");
    refused(buf_sv(&b), 431);
}

static void test_slow_head(void **state)
{
    (void)state;
    const struct http_options o = {.head_ms = 150, .idle_ms = 300};
    open_world(&o, 0, NULL);
    AUTO_CLOSE int fd = dial();
    AUTO_CLOSE int body = dial();
    AUTO_CLOSE int quiet = dial();
    AUTO_CLOSE int idle = dial();
    AUTO_CLOSE int upload = dial();
    AUTO_ANSWER struct answer a = {0};
    AUTO_ANSWER struct answer b = {0};
    AUTO_ANSWER struct answer c = {0};
    AUTO_ANSWER struct answer d = {0};
    get(idle, "/once");
    read_answer(idle, &c, false);
    put(body, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    put(upload, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    int64_t start = clock_mono_ms(&vic_clock_real);
    const char *head = "GET / HTTP/1.1\r\nHost: x\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (int i = 0; i < 12; i++) { /* progress alone does not help */
        if (send(fd, head + 4 * i, 4, MSG_NOSIGNAL) < 0)
            break;
        usleep(20000);
    }
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 408);
    assert_true(clock_mono_ms(&vic_clock_real) - start < 5000);
    read_answer(body, &b, false);
    assert_int_equal(b.status, 408);
    expect_end(quiet); /* closed without a word */
    expect_end(idle);
    read_answer(upload, &d, false);
    assert_int_equal(d.status, 504);
    close_world(false);
}

/* ---- parking ---- */

static void test_park(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    get(fd, "/park?ms=50");
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 504);
    wait_for(&w->drops, 1);
    assert_int_equal(locked_get(&w->polls), 2); /* at once, at the deadline */
    get(fd, "/park");
    wait_for(&w->polls, 3);
    wake_all();
    wait_for(&w->polls, 4);
    open_gate();
    read_answer(fd, &a, false);
    assert_string_equal(buf_str(&a.body), "woken");
    wait_for(&w->drops, 2);
    get(fd, "/again"); /* the connection lives on */
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 200);
}

static void test_park_gone(void **state)
{
    (void)state;
    int closed = dial(), shut = dial();
    get(closed, "/park");
    get(shut, "/park");
    wait_for(&w->polls, 2);
    close(closed);
    wait_for(&w->drops, 1);
    shutdown(shut, SHUT_WR);
    wait_for(&w->drops, 2);
    expect_end(shut);
    close(shut);
    open_gate(); /* wakes the gone */
    ping();
    assert_int_equal(locked_get(&w->polls), 2);
    assert_int_equal(locked_get(&w->drops), 2);
}

static void raise_files(void)
{
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

static void test_many(void **state)
{
    (void)state;
    int fds[MANY];
    AUTO_ANSWER struct answer a = {0};
    raise_files();
    for (int i = 0; i < MANY; i++) {
        fds[i] = dial();
        get(fds[i], i % 2 ? "/park" : "/stream?n=10&wait=1");
    }
    wait_for(&w->waker_count, MANY);
    wait_for(&w->polls, MANY / 2);
    wait_for(&w->fills, MANY / 2);
    ping(); /* a pool of four, five hundred waiting: nobody holds a thread */
    for (int i = 0; i < 20; i++)
        wake_all();
    ping();
    open_gate();
    for (int i = 0; i < MANY; i++) {
        read_answer(fds[i], &a, false);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body.len, i % 2 ? 5 : 10);
        close(fds[i]);
    }
    wait_for(&w->drops, MANY / 2);
    wait_for(&w->frees, MANY / 2);
}

/* ---- streams ---- */

static void test_stream(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    static const char *const targets[] = {
        "/stream?n=1000000", "/file?n=1000000", "/stream?n=1000&piece=1",
        "/file?n=1",         "/stream?n=0",     "/file?n=0"};
    static const size_t sizes[] = {1000000, 1000000, 1000, 1, 0, 0};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        get(fd, targets[i]);
        read_answer(fd, &a, false);
        assert_int_equal(a.body.len, sizes[i]);
        for (size_t k = 0; k < a.body.len; k++)
            assert_int_equal(a.body.data[k], 'a' + (sizes[i] - k) % 26);
    }
    wait_for(&w->frees, ARRAY_LEN(targets));
    put(fd,
        "HEAD /stream?n=5 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /file?n=5 HTTP/1.1\r\nHost: x\r\n\r\n");
    read_answer(fd, &a, true);
    read_answer(fd, &a, true);
    assert_true(has(&a, "Content-Length: 5\r\n"));
    wait_for(&w->frees, ARRAY_LEN(targets) + 2);
    get(fd, "/file?n=1000&lie=1"); /* cut, so that nobody takes it for whole */
    read_until(fd, &a.rest, NULL);
    assert_true(strstr(buf_str(&a.rest), "Content-Length: 1010\r\n") != NULL);
    wait_for(&w->frees, ARRAY_LEN(targets) + 3);
}

static void test_stream_waits(void **state)
{
    (void)state;
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    get(fd, "/stream?n=30&wait=1");
    read_until(fd, &a.rest, "\r\n\r\n"); /* the head comes before the first byte */
    wait_for(&w->fills, 1);
    open_gate();
    read_answer(fd, &a, false);
    assert_int_equal(a.body.len, 30);
    mutex_lock(&w->lock);
    w->open_gate = false;
    w->fills = 0;
    mutex_unlock(&w->lock);
    get(fd, "/ticks?n=10");
    wait_for(&w->fills, 5); /* by its interval, with no waker */
    mutex_lock(&w->lock);
    w->open_gate = true;
    mutex_unlock(&w->lock);
    read_answer(fd, &a, false);
    assert_int_equal(a.body.len, 10);
}

static void test_slow_client(void **state)
{
    (void)state;
    int fd = dial();
    get(fd, "/stream?n=100000000");
    size_t before = 0, now = 1;
    while (now != before) { /* until it stands still */
        before = now;
        usleep(100000);
        mutex_lock(&w->lock);
        now = w->produced;
        mutex_unlock(&w->lock);
    }
    assert_true(now < 1000000); /* the kernel's buffer and ours, not more */
    ping();
    AUTO_ANSWER struct answer a = {0};
    need(fd, &a.rest, 3000000); /* it goes on when it is read */
    close(fd);
    wait_for(&w->frees, 1);
}

static void test_stream_gone(void **state)
{
    (void)state;
    AUTO_ANSWER struct answer a = {0};
    int quiet = dial(), shut = dial();
    get(quiet, "/stream?n=10&wait=1");
    wait_for(&w->fills, 1);
    close(quiet); /* nothing is written to it: noticed all the same */
    wait_for(&w->frees, 1);
    get(shut, "/stream?n=3000000");
    shutdown(shut, SHUT_WR); /* still gets what needs no waiting */
    read_answer(shut, &a, false);
    assert_int_equal(a.body.len, 3000000);
    expect_end(shut);
    close(shut);
    wait_for(&w->frees, 2);
    wake_all();
    ping();
}

/* ---- hijack ---- */

static void hijack_head(int fd, struct answer *a, bool upgrade)
{
    AUTO_FREE char *text =
        xasprintf("POST /hijack HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%s\r\nearly ",
                  upgrade ? "Connection: Upgrade\r\nUpgrade: tcp\r\n" : "");
    put(fd, text);
    read_answer(fd, a, true);
    assert_int_equal(a->status, upgrade ? 101 : 200);
    assert_true(has(a, "Content-Type: application/vnd.docker.raw-stream\r\n"));
    assert_false(has(a, "Content-Length"));
    assert_false(has(a, "chunked"));
    assert_int_equal(has(a, "HTTP/1.1 101 UPGRADED\r\n"), upgrade);
    assert_int_equal(has(a, "Connection: Upgrade\r\nUpgrade: tcp\r\n"), upgrade);
}

static void test_hijack(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        AUTO_CLOSE int fd = dial();
        AUTO_ANSWER struct answer a = {0};
        hijack_head(fd, &a, i);
        read_until(fd, &a.rest, "early ");
        put(fd, "bird");
        read_until(fd, &a.rest, "bird");
        shutdown(fd, SHUT_WR);
        read_until(fd, &a.rest, NULL);
        assert_string_equal(buf_str(&a.rest), "early birdbye");
        wait_for(&w->eofs, i + 1);
        wait_for(&w->frees, i + 1);
    }
}

/* Much, both ways at once, through a sink that takes a thousand bytes at a time. */
static void test_hijack_much(void **state)
{
    (void)state;
    enum { TOTAL = 2000000 };
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    hijack_head(fd, &a, true);
    AUTO_FREE char *data = xmalloc(TOTAL);
    random_bytes(data, TOTAL);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    int64_t end = clock_mono_ms(&vic_clock_real) + 60000;
    for (bool over = false; !over && clock_mono_ms(&vic_clock_real) < end;) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < TOTAL ? POLLOUT : 0))};
        poll(&p, 1, 1000);
        if (sent < TOTAL && p.revents & POLLOUT) {
            ssize_t n = send(fd, data + sent, TOTAL - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
            if (sent == TOTAL)
                shutdown(fd, SHUT_WR);
        }
        char piece[10000];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        over = n == 0;
        if (n > 0)
            buf_add(&a.rest, piece, (size_t)n);
    }
    assert_int_equal(a.rest.len, 6 + TOTAL + 3);
    assert_memory_equal(a.rest.data + 6, data, TOTAL);
    assert_memory_equal(a.rest.data + 6 + TOTAL, "bye", 3);
}

static void test_hijack_gone(void **state)
{
    (void)state;
    AUTO_ANSWER struct answer a = {0};
    int fd = dial();
    hijack_head(fd, &a, true);
    close(fd);
    wait_for(&w->frees, 1);
    ping();
}

/* ---- streamed bodies ---- */

static void test_upload(void **state)
{
    (void)state;
    enum { TOTAL = 6 * 1000 * 1000 };
    AUTO_CLOSE int fd = dial();
    AUTO_ANSWER struct answer a = {0};
    AUTO_FREE char *data = xmalloc(TOTAL);
    random_bytes(data, TOTAL);
    uint64_t sum = 0;
    for (size_t i = 0; i < TOTAL; i++)
        sum = sum * 31 + (unsigned char)data[i];
    for (int chunked = 0; chunked < 2; chunked++) {
        if (chunked) {
            put(fd, "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            for (size_t at = 0, n; at < TOTAL; at += n) {
                char size[20];
                n = TOTAL - at < 77777 ? TOTAL - at : 77777;
                snprintf(size, sizeof size, "%zx\r\n", n);
                put(fd, size);
                put_sv(fd, sv_make(data + at, n));
                put(fd, "\r\n");
            }
            put(fd, "0\r\n\r\n");
        } else {
            put(fd, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000\r\n\r\n");
            put_sv(fd, sv_make(data, TOTAL));
        }
        read_answer(fd, &a, false);
        assert_string_equal(buf_str(&a.body), "6000000");
        mutex_lock(&w->lock);
        assert_true(w->body_sum == sum);
        mutex_unlock(&w->lock);
    }
    put(fd, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    read_answer(fd, &a, false);
    assert_string_equal(buf_str(&a.body), "0");
}

static void test_upload_pressure(void **state)
{
    (void)state;
    w->body_delay_ms = 20;
    int fd = dial();
    put(fd, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    char piece[10000] = {0};
    size_t sent = 0;
    int64_t end = clock_mono_ms(&vic_clock_real) + 500;
    while (clock_mono_ms(&vic_clock_real) < end) {
        ssize_t n = send(fd, piece, sizeof piece, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        if (n < 0)
            usleep(1000);
    }
    assert_true(sent < 5000000); /* the sender is held back */
    close(fd);
    wait_for(&w->reads, 1); /* and its reader hears that it went away */
    assert_true(w->body_failed);
    ping();
}

/* More uploads than body threads: the rest waits, everything else goes on. */
static void test_uploads_wait(void **state)
{
    (void)state;
    enum { N = 10 };
    int fds[N];
    AUTO_ANSWER struct answer a = {0};
    for (int i = 0; i < N; i++) {
        fds[i] = dial();
        put(fds[i], "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    }
    ping();
    ping();
    for (int i = 0; i < N; i++) {
        put(fds[i], "cde");
        read_answer(fds[i], &a, false);
        assert_string_equal(buf_str(&a.body), "5");
        close(fds[i]);
    }
}

/* ---- overload, end ---- */

static void test_overload(void **state)
{
    (void)state;
    open_world(NULL, 1, NULL);
    struct pollfd slow[POOL + 2];
    AUTO_ANSWER struct answer a = {0};
    for (unsigned i = 0; i < POOL + 2; i++) {
        slow[i] = (struct pollfd){.fd = dial(), .events = POLLIN};
        get(slow[i].fd, "/slow");
        if (i < POOL)
            wait_for(&w->slow, i + 1);
    }
    /* Four run, and of the other two one waits: the other hears it at once. */
    assert_int_equal(poll(slow, POOL + 2, 10000), 1);
    unsigned refused_count = 0;
    for (unsigned i = 0; i < POOL + 2; i++) {
        if (!slow[i].revents)
            continue;
        read_answer(slow[i].fd, &a, false);
        refused_count += a.status == 503;
    }
    assert_int_equal(refused_count, 1);
    mutex_lock(&w->lock);
    w->open_gate = true;
    mutex_unlock(&w->lock);
    for (unsigned i = 0; i < POOL + 2; i++) {
        if (!slow[i].revents) {
            read_answer(slow[i].fd, &a, false);
            assert_int_equal(a.status, 200);
        }
        close(slow[i].fd);
    }
    AUTO_CLOSE int fd = dial();
    get(fd, "/stream?n=1000&piece=10"); /* fills come through, sooner or later */
    read_answer(fd, &a, false);
    assert_int_equal(a.body.len, 1000);
    close_world(false);
}

static void test_too_many_connections(void **state)
{
    (void)state;
    const struct http_options o = {.max_connections = 3};
    open_world(&o, 0, NULL);
    AUTO_ANSWER struct answer a = {0};
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = dial();
        get(fds[i], "/x");
        read_answer(fds[i], &a, false);
        assert_int_equal(a.status, 200);
    }
    int fd = dial();
    read_answer(fd, &a, false);
    assert_int_equal(a.status, 503);
    close(fd);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    int64_t end = clock_mono_ms(&vic_clock_real) + 5000;
    do { /* as the three leave, there is room */
        fd = dial();
        get(fd, "/x");
        read_answer(fd, &a, false);
        close(fd);
    } while (a.status != 200 && clock_mono_ms(&vic_clock_real) < end);
    assert_int_equal(a.status, 200);
    close_world(false);
}

static void test_end(void **state)
{
    (void)state;
    for (int stop_first = 0; stop_first < 2; stop_first++) {
        open_world(NULL, 0, NULL);
        int fds[12];
        for (int i = 0; i < 12; i++) {
            static const char *const targets[] = {"/park", "/stream?n=9&wait=1",
                                                  "/stream?n=100000000", "/hijack"};
            fds[i] = dial();
            get(fds[i], targets[i % 4]);
        }
        AUTO_CLOSE int up = dial();
        put(up, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc");
        AUTO_CLOSE int half = dial();
        put(half, "GET / HT");
        wait_for(&w->polls, 3);
        wait_for(&w->waker_count, 9);
        if (stop_first)
            loop_stop(w->loop);
        http_server_free(w->server);
        assert_int_equal(w->drops, 3);
        assert_int_equal(w->frees, 9);
        assert_int_equal(w->reads, 1);
        w->server = NULL;
        close_world(false);
        for (int i = 0; i < 12; i++)
            close(fds[i]);
    }
}

/* ---- over TLS: a client that half-closes by close_notify ---- */

static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    (void)arg, (void)identity;
    memset(key, 3, TLS_PSK_SIZE);
    return true;
}

static void tls_exchange(int fd, struct tls_conn *c, struct buf *plain, struct buf *wire,
                         const char *want)
{
    struct vic_err err = {0};
    enum tls_status st = TLS_OK;
    for (;;) {
        put_sv(fd, buf_sv(wire));
        buf_reset(wire);
        if (st == TLS_CLOSED || (want && strstr(buf_str(plain), want)))
            return;
        char piece[20000];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n <= 0)
            fail_msg("%s after: %s", n ? strerror(errno) : "end", buf_str(plain));
        st = tls_input(c, sv_make(piece, (size_t)n), plain, wire, &err);
        if (st == TLS_FAILED)
            fail_msg("%s", err.msg);
    }
}

static void test_tls_hijack(void **state)
{
    (void)state;
    struct vic_err err = {0};
    unsigned char key[TLS_PSK_SIZE];
    memset(key, 3, sizeof key);
    struct tls_ctx *server = tls_server_psk(find_key, NULL, &err);
    struct tls_ctx *client = tls_client_psk("me", key, &err);
    open_world(NULL, 0, server);
    struct tls_conn *c = tls_conn_new(client, NULL, &err);
    AUTO_BUF struct buf plain = {0};
    AUTO_BUF struct buf wire = {0};
    AUTO_CLOSE int fd = dial();
    tls_start(c, &wire, &err);
    tls_output(c, SV("GET /hijack HTTP/1.1\r\nHost: x\r\n\r\nearly"), &wire, &err);
    tls_exchange(fd, c, &plain, &wire, "early");
    tls_output(c, SV(" bird"), &wire, &err);
    tls_shutdown(c, &wire); /* stdin is at its end; the output is not */
    tls_exchange(fd, c, &plain, &wire, NULL);
    assert_true(sv_ends(buf_sv(&plain), SV("\r\n\r\nearly birdbye")));
    tls_conn_free(c);
    close_world(false);
    tls_ctx_free(server);
    tls_ctx_free(client);
}

static void test_adopt(void **state)
{
    (void)state;
    int fds[2];
    struct vic_err err = {0};
    struct vic_pool *pool = pool_new("h", 1, 0);
    struct loop *l = loop_new("http", &err);
    w = xcalloc(1, sizeof *w);
    const struct http_options o = {.handler = handler, .arg = w, .pool = pool};
    struct http_server *s = http_server_new(l, &o, &err);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_true(http_adopt(s, fds[0], NULL, &err));
    put(fds[1], "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(loop_start(l, &err));
    AUTO_ANSWER struct answer a = {0};
    read_answer(fds[1], &a, false);
    assert_string_equal(buf_str(&a.body), "GET /a");
    close(fds[1]);
    http_server_free(s);
    loop_free(l);
    pool_free(pool);
    free(w);
    w = NULL;
}

#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* one test, or a pattern */
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_plain),
        WITH_SERVER(test_http10),
        WITH_SERVER(test_pipelined),
        WITH_SERVER(test_trickle),
        WITH_SERVER(test_expect),
        WITH_SERVER(test_smuggling),
        WITH_SERVER(test_head_limits),
        cmocka_unit_test(test_slow_head),
        WITH_SERVER(test_park),
        WITH_SERVER(test_park_gone),
        WITH_SERVER(test_many),
        WITH_SERVER(test_stream),
        WITH_SERVER(test_stream_waits),
        WITH_SERVER(test_slow_client),
        WITH_SERVER(test_stream_gone),
        WITH_SERVER(test_hijack),
        WITH_SERVER(test_hijack_much),
        WITH_SERVER(test_hijack_gone),
        WITH_SERVER(test_upload),
        WITH_SERVER(test_upload_pressure),
        WITH_SERVER(test_uploads_wait),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_tls_hijack),
        cmocka_unit_test(test_adopt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
