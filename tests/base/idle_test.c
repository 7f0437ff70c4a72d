/* What an idle keep-alive connection costs the server: its resident memory before and after many of
 * them have each made a request, and not from zero: wolfSSL's caches (precomputed curve points,
 * several MB a process) fill with the first half.  The clients live in a child process.  With a
 * number as argument: so many connections, and the figures are printed.
 *
 * A sanitizer has its own ideas of memory: then only the exchange is tested. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/http.h"
#include "base/mem.h"

static int connections = 400;
static bool verbose;
static char dir[] = "/tmp/idle_test.XXXXXX";

enum kind { PLAIN, PSK, CERT, KINDS };
static const char *const kinds[] = {"plain", "psk", "certificates"};
static const size_t limits[] = {4 * 1024, 40 * 1024, 64 * 1024}; /* why the last: base/tls.c */

static char *in_dir(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    (void)arg, (void)identity;
    memset(key, 3, TLS_PSK_SIZE);
    return true;
}

static struct tls_ctx *make_ctx(enum kind kind, bool server)
{
    struct vic_err err = {0};
    unsigned char key[TLS_PSK_SIZE];
    memset(key, 3, sizeof key);
    AUTO_FREE char *ca = in_dir("ca");
    AUTO_FREE char *cert = in_dir(server ? "server" : "client");
    AUTO_FREE char *cert_key = xasprintf("%s-key", cert);
    struct tls_ctx *ctx = NULL;
    if (kind == PSK)
        ctx = server ? tls_server_psk(find_key, NULL, &err) : tls_client_psk("me", key, &err);
    if (kind == CERT)
        ctx = server ? tls_server_cert(cert, cert_key, ca, &err)
                     : tls_client_cert(ca, cert, cert_key, &err);
    if (kind != PLAIN && !ctx) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return ctx;
}

/* ---- the child: one request on each connection, then quiet ---- */

static void send_all(int fd, struct sv s)
{
    while (s.len) {
        ssize_t n = send(fd, s.p, s.len, MSG_NOSIGNAL);
        if (n <= 0)
            _exit(2);
        s = sv_sub(s, (size_t)n, SIZE_MAX);
    }
}

static void ask_plain(int fd, struct sv request)
{
    char answer[4096];
    send_all(fd, request);
    if (recv(fd, answer, sizeof answer, 0) < 20)
        _exit(3);
}

static void ask_tls(int fd, struct sv request, struct tls_ctx *ctx)
{
    struct vic_err err = {0};
    AUTO_BUF struct buf plain = {0};
    AUTO_BUF struct buf wire = {0};
    struct tls_conn *c = tls_conn_new(ctx, NULL, &err);
    tls_start(c, &wire, &err);
    tls_output(c, request, &wire, &err);
    while (!plain.len) {
        char in[8192];
        send_all(fd, buf_sv(&wire));
        buf_reset(&wire);
        ssize_t n = recv(fd, in, sizeof in, 0);
        if (n <= 0 || tls_input(c, sv_make(in, (size_t)n), &plain, &wire, &err) == TLS_FAILED)
            _exit(4);
    }
    tls_conn_free(c); /* the server does not notice: nothing more is said */
}

static void ask(enum kind kind, const char *path, struct tls_ctx *ctx)
{
    struct sv request = SV("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof un) != 0)
        _exit(5);
    if (kind == PLAIN)
        ask_plain(fd, request);
    else
        ask_tls(fd, request, ctx);
}

static void be_clients(enum kind kind, const char *path, int done, int go)
{
    struct tls_ctx *ctx = make_ctx(kind, false);
    char byte = 0;
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < connections / 2; i++)
            ask(kind, path, ctx);
        if (write(done, &byte, 1) != 1 || read(go, &byte, 1) < 0)
            _exit(6);
    }
    _exit(0); /* as a process ends: all sockets at once, without a word */
}

/* ---- the server ---- */

#if defined(__has_feature)
#define FEATURE(x) __has_feature(x)
#else
#define FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || FEATURE(address_sanitizer) || \
    FEATURE(thread_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Anonymous resident pages, in bytes (proc(5), statm: resident less shared). */
static size_t resident(void)
{
    char text[128] = "";
    AUTO_CLOSE int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, sizeof text - 1) > 0);
    struct sv all = sv_of(text);
    uint64_t pages = 0, shared = 0;
    sv_cut(&all, ' ');
    assert_true(sv_to_u64(sv_cut(&all, ' '), &pages));
    assert_true(sv_to_u64(sv_cut(&all, ' '), &shared));
    return (size_t)(pages - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

static void answer(void *arg, struct http_req *r)
{
    (void)arg;
    http_reply(r, 200, "text/plain", SV("OK"));
}

/* Waits until the child has made its connections, and the server is at rest. */
static size_t resident_after(int done)
{
    char byte;
    assert_int_equal(read(done, &byte, 1), 1);
    usleep(100000); /* the last answer's buffers are on their way out */
    malloc_trim(0);
    return resident();
}

static void compare(enum kind kind, int done, int go)
{
    size_t before = resident_after(done);
    assert_int_equal(write(go, "x", 1), 1);
    size_t after = resident_after(done), n = (size_t)connections / 2;
    size_t each = after > before ? (after - before) / n : 0;
    if (verbose)
        printf("%s: %zu bytes a connection\n", kinds[kind], each);
    assert_true(SANITIZED || each <= limits[kind]);
}

static void measure(enum kind kind)
{
    struct vic_err err = {0};
    int done[2], go[2], status;
    AUTO_FREE char *path = in_dir("socket");
    AUTO_FREE char *address = xasprintf("unix:%s", path);
    assert_true(pipe(done) == 0 && pipe(go) == 0);
    struct vic_pool *pool = pool_new("h", 2, 0);
    struct loop *l = loop_new("idle", &err);
    const struct http_options o = {.handler = answer, .pool = pool};
    struct http_server *s = http_server_new(l, &o, &err);
    struct tls_ctx *ctx = make_ctx(kind, true);
    assert_true(http_listen(s, address, ctx, NULL, &err));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(go[1]);
        be_clients(kind, path, done[1], go[0]);
    }
    close(done[1]);
    assert_true(loop_start(l, &err));
    compare(kind, done[0], go[1]);
    close(go[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    http_server_free(s);
    loop_free(l);
    pool_free(pool);
    tls_ctx_free(ctx);
    close(done[0]);
    close(go[0]);
}

static void test_idle(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++)
        measure(k);
}

static int make_certs(void **state)
{
    (void)state;
    struct vic_err err = {0};
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *ca = in_dir("ca");
    AUTO_FREE char *ca_key = in_dir("ca-key");
    AUTO_FREE char *cert = in_dir("server");
    AUTO_FREE char *key = in_dir("server-key");
    AUTO_FREE char *client = in_dir("client");
    AUTO_FREE char *client_key = in_dir("client-key");
    bool ok = cert_make_ca("CA", ca, ca_key, &err) &&
              cert_make("vch", NULL, false, ca, ca_key, cert, key, &err) &&
              cert_make("alice", NULL, true, ca, ca_key, client, client_key, &err);
    return ok ? 0 : -1;
}

static int drop_certs(void **state)
{
    (void)state;
    static const char *const names[] = {"ca",         "ca-key", "server",
                                        "server-key", "client", "client-key"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = in_dir(names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(int argc, char **argv)
{
    uint64_t n;
    if (SANITIZED)
        connections = 20;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_idle)};
    if (argc > 1 && sv_to_u64(sv_of(argv[1]), &n) && n > 0 && n <= 4000) {
        connections = (int)n;
        verbose = true;
    }
    return cmocka_run_group_tests(tests, make_certs, drop_certs);
}
