/* base/net.c: a server and a client end on one loop, over each kind of stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/net.h"

enum kind { UNIX, TCP, TCP6, TLS_TCP, PAIR, KINDS };

struct world;

struct end {
    struct world *w;
    struct net_stream *s;
    struct buf got;
    size_t total;
    unsigned readies, eofs, drains, closes, after_close;
    enum vic_code code;
    void (*on_data)(struct end *e, struct sv data); /* beside counting */
    void (*on_ready)(struct end *e);
    void (*on_eof)(struct end *e);
    void (*on_drain)(struct end *e);
};

struct world {
    struct loop *l;
    struct net_listener *listener;
    struct end client, server;
    struct tls_ctx *server_tls, *client_tls;
    struct loop_timer *watchdog, *timer;
    char dir[64];
    bool timed_out;
    const char *more; /* scratch of the tests */
    size_t left;
};

static void stop_when_closed(struct world *w)
{
    if (w->client.closes && w->server.closes)
        loop_stop(w->l);
}

static void on_ready(void *arg)
{
    struct end *e = arg;
    e->readies++;
    e->after_close += e->closes;
    if (e->on_ready)
        e->on_ready(e);
}

static void on_data(void *arg, struct sv data)
{
    struct end *e = arg;
    e->total += data.len;
    e->after_close += e->closes;
    if (e->got.len < 1000)
        buf_add_sv(&e->got, data);
    if (e->on_data)
        e->on_data(e, data);
}

static void on_eof(void *arg)
{
    struct end *e = arg;
    e->eofs++;
    e->after_close += e->closes;
    if (e->on_eof)
        e->on_eof(e);
}

static void on_drain(void *arg)
{
    struct end *e = arg;
    e->drains++;
    assert_int_equal(net_pending(e->s), 0);
    if (e->on_drain)
        e->on_drain(e);
}

static void on_close(void *arg, const struct vic_err *err)
{
    struct end *e = arg;
    e->closes++;
    e->code = err ? err->code : VIC_OK;
    e->s = NULL;
    stop_when_closed(e->w);
}

static const struct net_callbacks callbacks = {on_ready, on_data, on_eof, on_drain, on_close};

static void on_accept(void *arg, struct net_stream *s)
{
    struct world *w = arg;
    w->server.s = s;
    net_set(s, &callbacks, &w->server);
}

static void on_watchdog(void *arg)
{
    struct world *w = arg;
    w->timed_out = true;
    loop_stop(w->l);
}

static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    (void)arg, (void)identity;
    memset(key, 7, TLS_PSK_SIZE);
    return true;
}

static void open_pair(struct world *w)
{
    struct vic_err err;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    w->server.s = net_adopt(w->l, fds[0], NULL, true, &callbacks, &w->server, &err);
    w->client.s = net_adopt(w->l, fds[1], NULL, false, &callbacks, &w->client, &err);
    assert_int_equal(w->server.readies + w->client.readies, 0); /* never inside net_adopt */
}

/* Makes both ends; nothing runs yet. */
static void world_open(struct world *w, enum kind kind)
{
    static const unsigned char key[TLS_PSK_SIZE] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                                    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
    struct vic_err err = {0};
    struct net_options so = {0}, co = {0};
    *w = (struct world){.l = loop_new("net", &err)};
    w->client.w = w->server.w = w;
    w->watchdog = loop_timer_new(w->l, on_watchdog, w);
    loop_timer_set(w->watchdog, 20000);
    snprintf(w->dir, sizeof w->dir, "/tmp/net_test.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    if (kind == PAIR) {
        open_pair(w);
        return;
    }
    AUTO_FREE char *unix_path = xasprintf("unix:%s/s", w->dir);
    if (kind == TLS_TCP) {
        so.tls = w->server_tls = tls_server_psk(find_key, NULL, &err);
        co.tls = w->client_tls = tls_client_psk("me", key, &err);
    }
    const char *where = kind == UNIX ? unix_path : kind == TCP6 ? "tcp:[::1]:0" : "tcp:127.0.0.1:0";
    w->listener = net_listen(w->l, where, &so, on_accept, w, &err);
    if (!w->listener)
        fail_msg("%s", err.msg);
    AUTO_FREE char *to = kind == UNIX ? xstrdup(unix_path)
                                      : xasprintf("tcp:%s:%d", kind == TCP6 ? "[::1]" : "127.0.0.1",
                                                  net_listener_port(w->listener));
    w->client.s = net_connect(w->l, to, &co, &callbacks, &w->client, &err);
    assert_non_null(w->client.s);
}

static void world_run(struct world *w)
{
    loop_run(w->l);
    assert_false(w->timed_out);
    assert_int_equal(w->client.closes, 1);
    assert_int_equal(w->server.closes, 1);
    assert_int_equal(w->client.after_close + w->server.after_close, 0);
}

static void world_close(struct world *w)
{
    loop_free(w->l);
    AUTO_FREE char *path = xasprintf("%s/s", w->dir);
    assert_int_not_equal(access(path, F_OK), 0); /* the listener removed its socket */
    rmdir(w->dir);
    buf_fini(&w->client.got);
    buf_fini(&w->server.got);
    tls_ctx_free(w->server_tls);
    tls_ctx_free(w->client_tls);
}

/* ---- echo, and half close with more to come ---- */

static void echo(struct end *e, struct sv data)
{
    net_write(e->s, data);
}

static void say_and_shut(struct end *e)
{
    assert_true(strlen(net_peer(e->s)) > 0 || e->w->listener == NULL);
    net_write(e->s, SV("hello "));
    net_write(e->s, SV("world"));
    net_shutdown(e->s);
    net_write(e->s, SV("never")); /* ignored behind the end */
}

static void last_word(struct end *e)
{
    net_write(e->s, SV(" and more"));
    net_close(e->s);
    net_write(e->s, SV("never"));
}

static void close_it(struct end *e)
{
    net_close(e->s);
}

static void test_half_close(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct world w;
        world_open(&w, k);
        w.client.on_ready = say_and_shut;
        w.client.on_eof = close_it;
        w.server.on_data = echo;
        w.server.on_eof = last_word;
        world_run(&w);
        assert_string_equal(buf_str(&w.server.got), "hello world");
        assert_string_equal(buf_str(&w.client.got), "hello world and more");
        assert_int_equal(w.client.readies + w.server.readies, 2);
        assert_int_equal(w.server.eofs, 1);
        assert_int_equal(w.client.eofs, 1);
        assert_int_equal(w.client.code, VIC_OK);
        assert_int_equal(w.server.code, VIC_OK);
        world_close(&w);
    }
}

/* ---- a big transfer to a reader that pauses; the writer goes by on_drain ---- */

enum { CHUNK = 100 * 1000, CHUNKS = 60 };
static char chunk[CHUNK];

static void write_more(struct end *e)
{
    struct world *w = e->w;
    while (w->left && !net_pending(e->s)) {
        w->left--;
        net_write(e->s, sv_make(chunk, CHUNK));
    }
    if (!w->left && !net_pending(e->s))
        net_close(e->s);
}

static void resume(void *arg)
{
    struct end *e = arg;
    struct world *w = e->w;
    loop_timer_free(w->timer);
    w->timer = NULL;
    if (e->s)
        net_resume(e->s);
}

static void pause_a_while(struct end *e, struct sv data)
{
    (void)data;
    net_pause(e->s);
    assert_null(e->w->timer); /* no data while paused */
    e->w->timer = loop_timer_new(e->w->l, resume, e);
    loop_timer_set(e->w->timer, 1);
}

static void test_backpressure(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct world w;
        world_open(&w, k);
        w.left = CHUNKS;
        w.server.on_ready = write_more;
        w.server.on_drain = write_more;
        w.client.on_data = pause_a_while;
        w.client.on_eof = close_it;
        world_run(&w);
        assert_int_equal(w.client.total, (size_t)CHUNK * CHUNKS);
        assert_int_equal(w.client.eofs, 1);
        assert_true(w.server.drains > 0);
        world_close(&w);
    }
}

/* A reader that never reads: net_close of the writer ends at its deadline, and not before. */
static void pause_only(struct end *e)
{
    net_pause(e->s);
}

static void write_too_much(struct end *e)
{
    for (int i = 0; i < CHUNKS; i++)
        net_write(e->s, sv_make(chunk, CHUNK));
    assert_true(net_pending(e->s) > CHUNK);
    net_close(e->s);
}

static void abort_client(void *arg)
{
    struct world *w = arg;
    assert_int_equal(w->client.total, 0);
    net_abort(w->client.s);
}

static void test_deaf_reader(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, TCP);
    w.client.on_ready = pause_only;
    w.server.on_ready = write_too_much;
    w.timer = loop_timer_new(w.l, abort_client, &w);
    loop_timer_set(w.timer, 7000);
    world_run(&w);
    assert_int_equal(w.client.total, 0);
    world_close(&w);
}

/* ---- abort, refusal, bad addresses ---- */

static void abort_it(struct end *e)
{
    net_abort(e->s);
    net_write(e->s, SV("never"));
    net_close(e->s);
}

static void test_abort(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct world w;
        world_open(&w, k);
        w.client.on_ready = abort_it;
        w.server.on_eof = close_it;
        world_run(&w);
        assert_int_equal(w.client.code, VIC_OK);
        if (k == TLS_TCP) /* cut, not closed */
            assert_int_not_equal(w.server.code, VIC_OK);
        world_close(&w);
    }
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

static void on_refused(void *arg, const struct vic_err *err)
{
    struct end *e = arg;
    e->closes++;
    e->code = err ? err->code : VIC_OK;
    loop_post(e->w->l, stop_loop, e->w->l);
}

static void test_refused(void **state)
{
    (void)state;
    struct vic_err err = {0};
    const struct net_callbacks cb = {.on_close = on_refused};
    struct world w = {.l = loop_new("net", &err)};
    w.client.w = &w;
    struct net_stream *s = net_connect(w.l, "unix:/nonexistent/socket", NULL, &cb, &w.client, &err);
    assert_non_null(s);
    loop_run(w.l);
    assert_int_equal(w.client.closes, 1);
    assert_int_equal(w.client.code, VIC_NOT_FOUND);
    loop_free(w.l);
}

static void test_addresses(void **state)
{
    (void)state;
    static const char *bad[] = {
        "",           "tcp:",       "tcp:1.2.3.4",   "tcp:host:80", "tcp:1.2.3.4:65536",
        "tcp:[::1]",  "tcp:::1:80", "udp:1.2.3.4:5", "unix:",       "tcp:1.2.3.4:-1",
        "1.2.3.4:80", "tcp:[]:80"};
    struct vic_err err;
    struct loop *l = loop_new("net", &err);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err = (struct vic_err){0};
        assert_null(net_listen(l, bad[i], NULL, on_accept, NULL, &err));
        assert_int_equal(err.code, VIC_INVALID);
        assert_null(net_connect(l, bad[i], NULL, &callbacks, NULL, &err));
    }
    loop_free(l);
}

static void test_unix_file(void **state)
{
    (void)state;
    struct vic_err err;
    struct stat st;
    struct loop *l = loop_new("net", &err);
    char dir[] = "/tmp/net_test.XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *path = xasprintf("%s/s", dir);
    AUTO_FREE char *address = xasprintf("unix:%s", path);
    struct net_listener *n = net_listen(l, address, NULL, on_accept, NULL, &err);
    assert_non_null(n);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_null(net_listen(l, address, NULL, on_accept, NULL, &err)); /* in use */
    assert_int_equal(stat(path, &st), 0);
    net_listener_free(n);
    assert_int_not_equal(stat(path, &st), 0);
    /* Left behind by a process that died: replaced.  Any other file: kept. */
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    close(fd);
    assert_int_equal(stat(path, &st), 0);
    n = net_listen(l, address, NULL, on_accept, NULL, &err);
    assert_non_null(n);
    net_listener_free(n);
    FILE *f = fopen(path, "w");
    fclose(f);
    assert_null(net_listen(l, address, NULL, on_accept, NULL, &err));
    assert_int_equal(stat(path, &st), 0);
    unlink(path);
    rmdir(dir);
    loop_free(l);
}

/* ---- early writes, and loop_free with everything open ---- */

static void test_early_write(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct world w;
        world_open(&w, k);
        net_write(w.client.s, SV("before ready"));
        net_close(w.client.s);
        w.server.on_eof = close_it;
        world_run(&w);
        assert_string_equal(buf_str(&w.server.got), "before ready");
        world_close(&w);
    }
}

static void test_free_open(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct world w;
        world_open(&w, k);
        w.server.on_ready = write_too_much;
        w.client.on_ready = pause_only;
        w.timer = loop_timer_new(w.l, stop_loop, w.l);
        loop_timer_set(w.timer, 20);
        loop_run(w.l);
        loop_stop(w.l);
        world_close(&w);
        assert_int_equal(w.client.closes, 1);
        assert_true(w.server.closes == 1 || k == TLS_TCP);
    }
}

/* A TLS server meets a client that speaks something else, or nothing. */
static void test_handshake_deadline(void **state)
{
    (void)state;
    struct vic_err err = {0};
    struct net_options so = {.handshake_ms = 50};
    struct world w = {.l = loop_new("net", &err)};
    w.client.w = w.server.w = &w;
    w.watchdog = loop_timer_new(w.l, on_watchdog, &w);
    loop_timer_set(w.watchdog, 5000);
    so.tls = tls_server_psk(find_key, NULL, &err);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    w.server.s = net_adopt(w.l, fds[0], &so, true, &callbacks, &w.server, &err);
    w.client.s = net_adopt(w.l, fds[1], NULL, false, &callbacks, &w.client, &err);
    w.client.on_eof = close_it;
    loop_run(w.l);
    assert_false(w.timed_out);
    assert_int_equal(w.server.code, VIC_TIMEOUT);
    assert_int_equal(w.server.readies, 0);
    loop_free(w.l);
    tls_ctx_free(so.tls);
}

int main(void)
{
    random_bytes(chunk, sizeof chunk);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_close),  cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_deaf_reader), cmocka_unit_test(test_abort),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_unix_file),   cmocka_unit_test(test_early_write),
        cmocka_unit_test(test_free_open),   cmocka_unit_test(test_handshake_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
