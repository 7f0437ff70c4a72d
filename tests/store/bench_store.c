/* Measures the store: prints nanoseconds of processor time (or operations a second) beside the
 * goal. Not a test: run it from a Release build.  Usage: bench_store [containers] */
#include "util.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

enum { THREADS = 16, CREATES = 250 };

static int64_t now_ns(void)
{
    return vic_clock_real.mono_ns(&vic_clock_real);
}

/* What this thread computes, whoever else is at work on the machine. */
static int64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void report(const char *what, double value, const char *unit, double goal, bool more)
{
    bool pass = more ? value >= goal : value <= goal;
    printf("%-44s %10.0f %-8s goal %8.0f %s\n", what, value, unit, goal, pass ? "PASS" : "MISS");
}

/* --- codec ---------------------------------------------------------------------------------------
 */
static void bench_codec(void)
{
    enum { ROUNDS = 200000 };
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf bytes = {0};
    struct store_container c, back;
    const struct store_rec *rec = store_rec_container();
    typical_container(&c, 7, &a);
    int64_t start = cpu_ns();
    for (int i = 0; i < ROUNDS; i++) {
        buf_reset(&bytes);
        store_encode(rec, &c, &bytes);
    }
    report("encode a container", (double)(cpu_ns() - start) / ROUNDS, "ns", 3000, false);
    printf("  %zu bytes encoded, struct %zu\n", bytes.len, sizeof c);
    start = cpu_ns();
    for (int i = 0; i < ROUNDS; i++) {
        AUTO_ARENA struct arena each = {0};
        check_ok(store_decode(rec, buf_sv(&bytes), &each, &back, &err));
    }
    report("decode a container (with its arena)", (double)(cpu_ns() - start) / ROUNDS, "ns", 1200,
           false);
    AUTO_BUF struct buf json = {0};
    start = cpu_ns();
    for (int i = 0; i < ROUNDS / 10; i++) {
        buf_reset(&json);
        struct json_writer w = json_writer(&json);
        store_to_json(rec, &c, true, &w, NULL);
    }
    report("a container as JSON, every field", (double)(cpu_ns() - start) / (ROUNDS / 10), "ns",
           100000, false);
}

/* --- lists ---------------------------------------------------------------------------------------
 */
struct fill {
    unsigned from, to;
};

static bool apply_fill(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct fill *f = arg;
    for (unsigned i = f->from; i < f->to; i++) {
        struct store_container c;
        typical_container(&c, i, a);
        c.meta.created = (int64_t)i + 1;
        if (!store_put(t, STORE_CONTAINER, &c, err))
            return false;
    }
    return true;
}

static bool count_one(void *arg, const void *record)
{
    const struct store_container *c = record;
    *(size_t *)arg += c->meta.id != NULL;
    return true;
}

static void bench_list(struct store *s, unsigned n, bool newest, struct arena *a, double goal,
                       const char *what)
{
    size_t seen = 0;
    AUTO_TXN struct store_txn *t = store_read(s, NULL);
    int64_t start = cpu_ns();
    if (newest)
        check_ok(store_list_newest(t, STORE_CONTAINER, 0, "", a, count_one, &seen, &err));
    else
        check_ok(store_list(t, STORE_CONTAINER, "", a, count_one, &seen, &err));
    report(what, (double)(cpu_ns() - start) / n, "ns each", goal, false);
    assert_int_equal(seen, n);
}

static void bench_reads(struct store *s, unsigned n)
{
    for (unsigned i = 0; i < n; i += 100) {
        struct fill f = {i, i + 100 < n ? i + 100 : n};
        check_ok(store_write(s, &test_note, NULL, apply_fill, &f, &err));
    }
    AUTO_ARENA struct arena a = {0};
    bench_list(s, n, true, NULL, 1500, "list newest first (cold caches)");
    bench_list(s, n, true, NULL, 1500, "list newest first");
    bench_list(s, n, false, NULL, 1500, "list by id");
    bench_list(s, n, true, &a, 10000, "list newest first, all kept in an arena");
    struct store_container c;
    typical_container(&c, n / 2, &a);
    enum { GETS = 20000 };
    int64_t start = cpu_ns();
    for (int i = 0; i < GETS; i++) {
        AUTO_ARENA struct arena each = {0};
        struct store_container back;
        AUTO_TXN struct store_txn *t = store_read(s, NULL);
        check_ok(store_get(t, STORE_CONTAINER, c.meta.id, &each, &back, &err));
    }
    report("transaction and get of one", (double)(cpu_ns() - start) / GETS, "ns", 10000, false);
}

/* --- writes --------------------------------------------------------------------------------------
 */
struct client {
    struct store *s;
    unsigned base;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    for (unsigned i = 0; i < CREATES; i++) {
        AUTO_ARENA struct arena a = {0};
        struct store_container r;
        typical_container(&r, c->base + i, &a);
        check_ok(put_record(c->s, STORE_CONTAINER, &r, &err));
    }
    return NULL;
}

static void bench_writes(struct store *s, unsigned base)
{
    pthread_t threads[THREADS];
    struct client clients[THREADS];
    struct store_stats before, after;
    store_stats(s, &before);
    int64_t start = now_ns();
    for (unsigned i = 0; i < THREADS; i++) {
        clients[i] = (struct client){s, base + i * CREATES};
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    double seconds = (double)(now_ns() - start) / 1e9;
    store_stats(s, &after);
    report("durable creates, 16 threads", THREADS * CREATES / seconds, "/s", 1000, true);
    printf("  %llu commits for %d creates\n", (unsigned long long)(after.commits - before.commits),
           THREADS * CREATES);
}

int main(int argc, char **argv)
{
    uint64_t n = 10000;
    if (argc > 1 && !sv_to_u64(sv_of(argv[1]), &n))
        return 2;
    char *dir = new_folder();
    struct store *s = open_store(dir);
    bench_codec();
    bench_reads(s, (unsigned)n);
    bench_writes(s, (unsigned)n);
    struct store_stats st;
    store_stats(s, &st);
    printf("  file %llu KiB in use\n", (unsigned long long)(st.file_bytes >> 10));
    store_close(s);
    remove_folder(dir);
    return 0;
}
