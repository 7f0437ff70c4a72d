/* Measures the API: usage: bench_api [--json] [containers].  From a Release build.
 *
 * The engine's part (store, loop, handlers) runs in a child process of its own, so that its memory
 * is its own; this process is the clients.  Each figure is a line: name, value, unit, goal, PASS or
 * MISS; with --json one object a line.  Memory counts without the store's mapping of its file. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/net.h"
#include "base/tls.h"

#include "client.h"
#include "host.h"

enum { CONTAINERS = 10000, CLIENTS = 16, ROUNDS = 21, INSPECTS = 2000, IDLE = 2000 };

struct bench {
    bool json;
    int containers;
    char dir[64];
    char socket[96];
    char id[65]; /* of one container */
    pid_t child;
    int port;
    int missed;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_api: %s\n", what);
    exit(1);
}

static double now_ms(void)
{
    return (double)vic_clock_real.mono_ns(&vic_clock_real) / 1e6;
}

static void report(struct bench *b, const char *name, double value, const char *unit, double goal,
                   bool more)
{
    bool pass = more ? value >= goal : value <= goal;
    b->missed += !pass;
    if (b->json)
        printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\",\"goal\":%g,\"pass\":%s}\n", name,
               value, unit, goal, pass ? "true" : "false");
    else
        printf("%-28s %10.2f %-6s goal %s %6g  %s\n", name, value, unit, more ? ">=" : "<=", goal,
               pass ? "PASS" : "MISS");
    fflush(stdout);
}

/* --- the engine's part ------------------------------------------------------------------------
 */
static int serve(const char *dir, int out)
{
    struct vic_err err = {0};
    struct api_host h;
    sigset_t set;
    int got, port = 0;
    AUTO_FREE char *cert = xasprintf("%s/cert.pem", dir), *key = xasprintf("%s/key.pem", dir);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct tls_ctx *tls =
        cert_make_ca("bench", cert, key, &err) ? tls_server_cert(cert, key, NULL, &err) : NULL;
    if (!tls || !host_start_tls(&h, dir, tls, &port, &err) || !host_seed(&h, &err)) {
        fprintf(stderr, "bench_api: %s\n", err.msg);
        return 1;
    }
    if (write(out, &port, sizeof port) != sizeof port)
        return 1;
    sigwait(&set, &got);
    host_stop(&h);
    tls_ctx_free(tls);
    return 0;
}

static void start_child(struct bench *b)
{
    int fd[2];
    if (pipe(fd) != 0)
        die("no pipe");
    b->child = fork();
    if (b->child == 0) {
        close(fd[0]);
        _exit(serve(b->dir, fd[1]));
    }
    close(fd[1]);
    if (b->child < 0 || read(fd[0], &b->port, sizeof b->port) != sizeof b->port)
        die("the engine's part did not start");
    close(fd[0]);
}

/* Kilobytes resident, less the mapping of data.mdb. */
static double resident_kb(const struct bench *b)
{
    char path[64], line[512];
    double sum = 0;
    bool counts = true;
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)b->child);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long from, to, kb;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            counts = !strstr(line, "data.mdb");
        else if (counts && sscanf(line, "Rss: %lu kB", &kb) == 1)
            sum += (double)kb;
    }
    if (f)
        fclose(f);
    return sum;
}

/* --- clients ----------------------------------------------------------------------------------
 */
static int ask(struct client *c, const char *method, const char *target, const char *body,
               struct buf *out)
{
    struct answer a;
    if (!client_send(c, method, target, NULL, body) || !client_read(c, &a, false))
        die("a request failed");
    if (out) {
        buf_reset(out);
        buf_add_sv(out, buf_sv(&a.body));
    }
    int status = a.status;
    answer_fini(&a);
    return status;
}

struct worker {
    struct bench *b;
    pthread_t thread;
    int count;
};

static void *create_some(void *arg)
{
    struct worker *w = arg;
    struct client c;
    AUTO_BUF struct buf out = {0};
    if (!client_open(&c, w->b->socket))
        die("cannot connect");
    for (int i = 0; i < w->count; i++)
        if (ask(&c, "POST", "/containers/create",
                "{\"Image\":\"busybox\",\"Cmd\":[\"sleep\",\"1000\"],\"Env\":[\"A=1\",\"B=2\"],"
                "\"Labels\":{\"com.example.app\":\"web\",\"com.example.tier\":\"1\"},"
                "\"HostConfig\":{\"NetworkMode\":\"default\"}}",
                &out) != 201)
            die(buf_str(&out));
    client_close(&c);
    return NULL;
}

static void *list_some(void *arg)
{
    struct worker *w = arg;
    struct client c;
    if (!client_open(&c, w->b->socket))
        die("cannot connect");
    for (int i = 0; i < w->count; i++)
        ask(&c, "GET", "/containers/json?all=1", NULL, NULL);
    client_close(&c);
    return NULL;
}

static void in_parallel(struct bench *b, void *(*work)(void *arg), int each)
{
    struct worker w[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        w[i] = (struct worker){.b = b, .count = each};
        if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0)
            die("no thread");
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(w[i].thread, NULL);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_ms(struct bench *b, const char *target, int rounds)
{
    struct client c;
    double *ms = xcalloc((size_t)rounds, sizeof *ms);
    if (!client_open(&c, b->socket))
        die("cannot connect");
    for (int i = 0; i < rounds; i++) {
        double before = now_ms();
        if (ask(&c, "GET", target, NULL, NULL) != 200)
            die(target);
        ms[i] = now_ms() - before;
    }
    client_close(&c);
    qsort(ms, (size_t)rounds, sizeof *ms, by_value);
    double median = ms[rounds / 2];
    free(ms);
    return median;
}

/* --- figures ----------------------------------------------------------------------------------
 */
static void bench_creates(struct bench *b)
{
    double before = now_ms();
    in_parallel(b, create_some, b->containers / CLIENTS);
    double seconds = (now_ms() - before) / 1000;
    report(b, "api.creates_16_clients", b->containers / CLIENTS * CLIENTS / seconds, "1/s", 1000,
           true);
}

static void one_id(struct bench *b)
{
    struct client c;
    AUTO_BUF struct buf out = {0};
    if (!client_open(&c, b->socket) ||
        ask(&c, "GET", "/containers/json?limit=1", NULL, &out) != 200 || out.len < 80)
        die("no container to inspect");
    memcpy(b->id, out.data + strlen("[{\"Id\":\""), 64);
    client_close(&c);
}

static void bench_reads(struct bench *b)
{
    one_id(b);
    AUTO_FREE char *inspect = xasprintf("/containers/%s/json", b->id);
    report(b, "api.list_10000", median_ms(b, "/containers/json?all=1", ROUNDS), "ms", 30, false);
    report(b, "api.inspect", median_ms(b, inspect, INSPECTS), "ms", 0.5, false);
}

static void *sample(void *arg)
{
    struct worker *w = arg;
    double most = 0;
    while (__atomic_load_n(&w->count, __ATOMIC_RELAXED)) {
        double kb = resident_kb(w->b);
        most = kb > most ? kb : most;
        usleep(20000);
    }
    return memcpy(xmalloc(sizeof most), &most, sizeof most);
}

static void bench_memory(struct bench *b)
{
    struct worker w = {.b = b, .count = 1};
    void *most;
    if (pthread_create(&w.thread, NULL, sample, &w) != 0)
        die("no thread");
    in_parallel(b, list_some, 10);
    __atomic_store_n(&w.count, 0, __ATOMIC_RELAXED);
    pthread_join(w.thread, &most);
    report(b, "api.rss_16_listers", *(double *)most / 1024, "MB", 32, false);
    free(most);
}

/* --- idle TLS connections ---------------------------------------------------------------------
 */
struct idle {
    struct bench *b;
    struct loop *loop;
    struct tls_ctx *tls;
    struct net_stream *streams[IDLE];
    int opened, ready, failed;
};

static void open_more(struct idle *i);

static void on_ready(void *arg)
{
    struct idle *i = arg;
    __atomic_add_fetch(&i->ready, 1, __ATOMIC_SEQ_CST);
    open_more(i);
}

static void on_data(void *arg, struct sv data)
{
    (void)arg;
    (void)data;
}

static void on_other(void *arg)
{
    (void)arg;
}

static void on_close(void *arg, const struct vic_err *err)
{
    struct idle *i = arg;
    if (err && i->failed++ == 0)
        fprintf(stderr, "bench_api: %s\n", err->msg);
}

static const struct net_callbacks callbacks = {on_ready, on_data, on_other, on_other, on_close};

static void open_more(struct idle *i)
{
    const struct net_options o = {.tls = i->tls, .handshake_ms = 60000};
    struct vic_err err = {0};
    char address[64];
    snprintf(address, sizeof address, "tcp:127.0.0.1:%d", i->b->port);
    if (i->opened == IDLE)
        return;
    i->streams[i->opened] = net_connect(i->loop, address, &o, &callbacks, i, &err);
    if (!i->streams[i->opened++])
        die(err.msg);
}

static void open_first(void *arg)
{
    for (int k = 0; k < 32; k++)
        open_more(arg);
}

static void bench_idle(struct bench *b)
{
    struct vic_err err = {0};
    static struct idle i;
    i = (struct idle){.b = b, .loop = loop_new("idle", &err)};
    i.tls = tls_client_cert(NULL, NULL, NULL, &err);
    if (!i.loop || !i.tls || !loop_start(i.loop, &err))
        die(err.msg);
    double before = resident_kb(b);
    loop_post(i.loop, open_first, &i);
    for (int k = 0; k < 6000 && __atomic_load_n(&i.ready, __ATOMIC_SEQ_CST) < IDLE; k++)
        usleep(10000);
    usleep(500000); /* the last ones settle: this is a measurement, not an order */
    int ready = __atomic_load_n(&i.ready, __ATOMIC_SEQ_CST);
    if (ready < IDLE)
        fprintf(stderr, "bench_api: only %d of %d connections\n", ready, IDLE);
    report(b, "api.tls_idle", (resident_kb(b) - before) / (ready ? ready : 1), "KB", 40, false);
    loop_stop(i.loop);
    loop_free(i.loop);
    tls_ctx_free(i.tls);
}

/* ---------------------------------------------------------------------------------------------- */
static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        AUTO_FREE char *sub = xasprintf("%s/%s", path, e->d_name);
        if (unlink(sub) != 0)
            remove_tree(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

int main(int argc, char **argv)
{
    struct bench b = {.containers = CONTAINERS};
    struct rlimit files;
    const char *tmp = getenv("TMPDIR");
    for (int i = 1; i < argc; i++) {
        uint64_t n;
        if (strcmp(argv[i], "--json") == 0)
            b.json = true;
        else if (sv_to_u64(sv_of(argv[i]), &n) && n >= CLIENTS && n <= 1000000)
            b.containers = (int)n;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    snprintf(b.dir, sizeof b.dir, "%.40s/vic-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(b.dir))
        die("no folder");
    snprintf(b.socket, sizeof b.socket, "%s/api.sock", b.dir);
    start_child(&b);
    bench_creates(&b);
    bench_reads(&b);
    bench_memory(&b);
    bench_idle(&b);
    kill(b.child, SIGTERM);
    waitpid(b.child, NULL, 0);
    remove_tree(b.dir);
    return 0;
}
