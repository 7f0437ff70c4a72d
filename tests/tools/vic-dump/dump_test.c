/* vic-dump from outside: the program is run on a store that stays open for writing here, as beside
 * a running engine. */
#include "util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"

enum { DEADLINE_MS = 30000 };
#define CONTAINER "c0ffee0000000000000000000000000000000000000000000000000000000000"
#define OTHER     "cabba60000000000000000000000000000000000000000000000000000000000"
#define VM        "aaaa1111bbbb2222cccc3333dddd4444"

/* --- a story -------------------------------------------------------------------------------------
 */
struct hand_clock {
    struct vic_clock clock;
    _Atomic int64_t ns;
};

static int64_t hand_now(const struct vic_clock *c)
{
    return ((const struct hand_clock *)(const void *)c)->ns;
}

struct place {
    char *dir;
    struct store *s;
    struct hand_clock clock;
};

static void write_as(struct place *p, const char *actor, int64_t after_ms, enum store_kind kind,
                     const char *id, store_change change, void *arg)
{
    struct store_change_note note = {actor, ""};
    p->clock.ns += after_ms * 1000000;
    check_ok(store_update(p->s, &note, kind, id, change, arg, &err));
}

#define CHANGE(name)                                                                               \
    static enum store_verdict name(void *arg, struct store_txn *t, struct arena *a, void *record,  \
                                   struct vic_err *err)

CHANGE(make_vm)
{
    struct store_vm *vm = record;
    (void)t, (void)a, (void)err;
    vm->meta.id = arg;
    vm->phase = store_vm_phase_IDLE;
    return STORE_PUT;
}

CHANGE(make_container)
{
    struct store_container *c = record;
    (void)t, (void)a, (void)err;
    c->meta.id = arg;
    c->meta.name = strcmp(arg, CONTAINER) == 0 ? "web" : "other";
    c->config.image = "nginx";
    return STORE_PUT;
}

CHANGE(start_container)
{
    struct store_container *c = record;
    (void)arg, (void)t, (void)a, (void)err;
    c->run.seq++;
    c->run.want = store_run_want_RUNNING;
    return STORE_PUT;
}

CHANGE(take_vm)
{
    struct store_vm *vm = record;
    (void)t, (void)a, (void)err;
    vm->phase = store_vm_phase_TAKEN;
    vm->container = arg;
    return STORE_PUT;
}

CHANGE(run_container)
{
    struct store_container *c = record;
    (void)arg, (void)t, (void)a, (void)err;
    c->status.seq = c->run.seq;
    c->status.phase = store_run_phase_RUNNING;
    c->status.vm = VM;
    return STORE_PUT;
}

/* A container that ran once, started again; another one's changes in between. */
static void tell_story(struct place *p)
{
    static char vm[] = VM, container[] = CONTAINER, other[] = OTHER;
    write_as(p, "control", 0, STORE_VM, vm, make_vm, vm);
    write_as(p, "alice", 10, STORE_CONTAINER, CONTAINER, make_container, container);
    write_as(p, "alice", 10, STORE_CONTAINER, OTHER, make_container, other);
    write_as(p, "alice", 10, STORE_CONTAINER, CONTAINER, start_container, NULL);
    write_as(p, "alice", 1000, STORE_CONTAINER, CONTAINER, start_container, NULL);
    write_as(p, "alice", 5, STORE_CONTAINER, OTHER, start_container, NULL);
    write_as(p, "control", 15, STORE_VM, VM, take_vm, container);
    write_as(p, "control", 250, STORE_CONTAINER, CONTAINER, run_container, NULL);
}

static int set_up(void **state)
{
    struct place *p = xcalloc(1, sizeof *p);
    p->dir = new_folder();
    p->clock.clock = (struct vic_clock){hand_now, hand_now};
    p->clock.ns = 1764000000000000000;
    struct store_options o = {.dir = p->dir, .secret = test_secret, .clock = &p->clock.clock};
    p->s = store_open(&o, NULL);
    assert_non_null(p->s);
    tell_story(p);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    store_close(p->s);
    remove_folder(p->dir);
    free(p);
    return 0;
}

/* --- running -------------------------------------------------------------------------------------
 */
static bool run(struct buf *out, struct vic_err *err, const char *const *args)
{
    const char *argv[16] = {VIC_DUMP};
    size_t n = 1;
    for (; args[n - 1] && n < ARRAY_LEN(argv) - 1; n++)
        argv[n] = args[n - 1];
    buf_reset(out);
    return proc_run(argv, (struct sv){NULL, 0}, out, DEADLINE_MS, err);
}
#define RUN(out, ...) run((out), &err, (const char *const[]){__VA_ARGS__, NULL})

static void has(const struct buf *out, const char *text)
{
    if (!strstr(buf_str(out), text))
        fail_msg("no \"%s\" in:\n%s", text, buf_str(out));
}

static void lacks(const struct buf *out, const char *text)
{
    if (strstr(buf_str(out), text))
        fail_msg("\"%s\" in:\n%s", text, buf_str(out));
}

static void test_dump(void **state)
{
    struct place *p = *state;
    AUTO_BUF struct buf out = {0};
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    check_ok(RUN(&out, "dump", "--store", p->dir));
    check_ok(json_parse(buf_sv(&out), 0, &a, &v, &err));
    assert_int_equal(json_count(json_get(v, "container")), 2);
    assert_string_equal(json_str(json_get(json_get(v, "store"), "Id"), ""), store_id(p->s));
    check_ok(RUN(&out, "dump", "vm", "--store", p->dir, "--compact"));
    check_ok(json_parse(buf_sv(&out), 0, &a, &v, &err));
    assert_int_equal(json_count(v), 1);
    const char *const ways[] = {CONTAINER, "web", "c0ff"};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        check_ok(RUN(&out, "dump", "container", ways[i], "--store", p->dir));
        check_ok(json_parse(buf_sv(&out), 0, &a, &v, &err));
        assert_string_equal(json_str(json_get(json_get(v, "Meta"), "Id"), ""), CONTAINER);
        assert_string_equal(json_str(json_get(json_get(v, "Status"), "Phase"), ""), "running");
    }
    check_fails(VIC_IO, RUN(&out, "dump", "container", "nobody", "--store", p->dir));
    check_fails(VIC_IO, RUN(&out, "dump", "cat", "--store", p->dir));
    check_fails(VIC_IO, RUN(&out, "dump", "--store", "/nonexistent"));
}

static void test_history(void **state)
{
    struct place *p = *state;
    AUTO_BUF struct buf out = {0};
    check_ok(RUN(&out, "history", "container", "web", "--store", p->dir));
    has(&out, "       2 2025-11-24T16:00:00.010Z alice      container c0ffee000000 Meta.Name=web");
    has(&out, "control    container c0ffee000000 Status.Seq=2 Status.Phase=running");
    lacks(&out, "cabba6");
    check_ok(RUN(&out, "history", "--since", "6", "--store", p->dir));
    has(&out, "Phase=taken");
    lacks(&out, "Run.Seq");
}

static void test_trace(void **state)
{
    struct place *p = *state;
    AUTO_BUF struct buf out = {0};
    check_ok(RUN(&out, "trace", "web", "--store", p->dir));
    assert_string_equal(
        buf_str(&out),
        "        ms     since  actor     object                 change\n"
        "       0.0      +0.0  alice     container c0ffee000000 Run.Seq=2\n"
        "      20.0     +20.0  control   vm aaaa1111bbbb        Phase=taken Container=" CONTAINER
        "\n"
        "     270.0    +250.0  control   container c0ffee000000 Status.Seq=2 Status.Phase=running "
        "Status.Vm=" VM "\n"
        "270.0 ms in all; the longest wait was 250.0 ms, for: container c0ffee000000 Status.Seq=2 "
        "Status.Phase=running Status.Vm=" VM "\n");
    check_ok(RUN(&out, "trace", "web", "--run", "1", "--store", p->dir));
    has(&out, "Run.Seq=1");
    lacks(&out, "taken");
    check_ok(RUN(&out, "trace", "web", "--all", "--store", p->dir));
    has(&out, "Meta.Name=web");
    check_fails(VIC_IO, RUN(&out, "trace", "web", "--run", "9", "--store", p->dir));
    check_fails(VIC_IO, RUN(&out, "trace", "nobody", "--store", p->dir));
}

static void test_diff(void **state)
{
    struct place *p = *state;
    AUTO_BUF struct buf out = {0};
    AUTO_FREE char *a = xasprintf("%s/a", p->dir), *b = xasprintf("%s/b", p->dir);
    static char vm2[] = "eeee";
    check_ok(store_backup(p->s, a, &err));
    write_as(p, "alice", 1, STORE_CONTAINER, OTHER, start_container, NULL);
    write_as(p, "control", 1, STORE_VM, vm2, make_vm, vm2);
    check_ok(store_backup(p->s, b, &err));
    check_fails(VIC_IO, RUN(&out, "diff", a, b));
    assert_string_equal(buf_str(&out), "~ container " OTHER " other\n"
                                       "    Run.Seq: \"1\" -> \"2\"\n"
                                       "+ vm eeee\n");
    check_fails(VIC_IO, RUN(&out, "diff", b, a));
    has(&out, "- vm eeee\n");
    check_ok(RUN(&out, "diff", b, p->dir)); /* a backup and the live store */
    assert_string_equal(buf_str(&out), "");
    check_fails(VIC_IO, RUN(&out, "diff", a, a));
}

static void test_verify(void **state)
{
    struct place *p = *state;
    AUTO_BUF struct buf out = {0}, key = {0};
    AUTO_FREE char *file = xasprintf("%s/key", p->dir);
    char hex[65];
    check_ok(RUN(&out, "verify", "--store", p->dir));
    assert_string_equal(buf_str(&out), "no problem at revision 8\n");
    hex_encode(test_secret, 32, hex);
    FILE *f = fopen(file, "w");
    fprintf(f, "%s\n", hex);
    fclose(f);
    check_ok(RUN(&out, "verify", "--store", p->dir, "--key-file", file));
    check_fails(VIC_IO, RUN(&out, "verify", "--repair", "--store", p->dir, "--key-file", file));
    check_fails(VIC_IO, RUN(&out, "verify", "--repair", "--store", p->dir));
    store_close(p->s); /* the engine stops: now it may */
    p->s = NULL;
    check_ok(RUN(&out, "verify", "--repair", "--store", p->dir, "--key-file", file));
    f = fopen(file, "w");
    hex[0] ^= 1;
    fprintf(f, "%s\n", hex);
    fclose(f);
    check_fails(VIC_IO, RUN(&out, "verify", "--store", p->dir, "--key-file", file));
    buf_fini(&key);
}

/* A reader in another process sees a snapshot while this one writes on. */
static void test_beside_a_writer(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 5; i++) {
        AUTO_BUF struct buf out = {0};
        write_as(p, "alice", 1, STORE_CONTAINER, CONTAINER, start_container, NULL);
        check_ok(RUN(&out, "dump", "--store", p->dir));
        write_as(p, "alice", 1, STORE_CONTAINER, OTHER, start_container, NULL);
    }
    verify_store(p->s);
}

static void test_docs_are_new(void **state)
{
    AUTO_BUF struct buf out = {0}, kept = {0};
    (void)state;
    check_ok(RUN(&out, "docs"));
    FILE *f = fopen(DOCS, "rb");
    char bytes[4096];
    for (size_t n; f && (n = fread(bytes, 1, sizeof bytes, f)) > 0;)
        buf_add(&kept, bytes, n);
    if (f)
        fclose(f);
    if (!sv_eq(buf_sv(&out), buf_sv(&kept)))
        fail_msg("docs/records.md is out of date: vic-dump docs > docs/records.md");
}

static void test_help(void **state)
{
    AUTO_BUF struct buf out = {0};
    (void)state;
    check_ok(RUN(&out, "--help"));
    has(&out, "trace");
    check_ok(RUN(&out, "trace", "--help"));
    has(&out, "--run");
    check_ok(RUN(&out, "--print-man"));
    has(&out, "vic-dump(1)");
    check_fails(VIC_IO, RUN(&out, "dump")); /* no store */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dump),
        TEST(test_history),
        TEST(test_trace),
        TEST(test_diff),
        TEST(test_verify),
        TEST(test_beside_a_writer),
        cmocka_unit_test(test_docs_are_new),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
