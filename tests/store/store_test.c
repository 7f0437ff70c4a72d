/* The store from outside: what its door promises. */
#include "util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct place {
    char *dir;
    struct store *s;
};

static int set_up(void **state)
{
    struct place *p = xcalloc(1, sizeof *p);
    p->dir = new_folder();
    p->s = open_store(p->dir);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    if (p->s)
        verify_store(p->s);
    store_close(p->s);
    remove_folder(p->dir);
    free(p);
    return 0;
}

static void reopen(struct place *p)
{
    store_close(p->s);
    p->s = open_store(p->dir);
}

static struct store_vm vm_of(const char *id, const char *name)
{
    struct store_vm vm;
    store_init(store_rec_vm(), &vm);
    vm.meta.id = id;
    vm.meta.name = name;
    return vm;
}

static struct store_disk disk_of(const char *id, const char *holder)
{
    struct store_disk d;
    store_init(store_rec_disk(), &d);
    d.meta.id = id;
    d.holder = holder;
    return d;
}

static bool get(struct store *s, enum store_kind kind, const char *id, struct arena *a, void *out,
                struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    void *borrowed = arena_alloc(a, store_kind_rec(kind)->size);
    if (!t || !store_get(t, kind, id, a, borrowed, err))
        return false;
    store_copy(store_kind_rec(kind), borrowed, out, a);
    return true;
}

static bool find(struct store *s, enum store_kind kind, const char *name, struct arena *a,
                 const char **id, struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    return t && store_find_name(t, kind, name, a, id, err);
}

/* --- records -------------------------------------------------------------------------------------
 */
static void test_put_get_reopen(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct store_container c, back;
    typical_container(&c, 1, &a);
    check_ok(put_record(p->s, STORE_CONTAINER, &c, &err));
    reopen(p);
    check_ok(get(p->s, STORE_CONTAINER, c.meta.id, &a, &back, &err));
    assert_int_equal(back.meta.revision, 1);
    assert_true(back.meta.created > 0);
    c.meta.revision = back.meta.revision;
    c.meta.created = back.meta.created;
    assert_true(store_equal(store_rec_container(), &c, &back));
    check_fails(VIC_NOT_FOUND, get(p->s, STORE_CONTAINER, "nobody", &a, &back, &err));
    check_fails(VIC_NOT_FOUND, get(p->s, STORE_CONTAINER, "", &a, &back, &err));
}

/* Only what was given is changed: a second put by a record read earlier is refused. */
static void test_optimistic_lock(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct store_vm vm = vm_of("v1", ""), first, second;
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
    check_ok(get(p->s, STORE_VM, "v1", &a, &first, &err));
    second = first;
    first.class_mb = 512;
    check_ok(put_record(p->s, STORE_VM, &first, &err));
    check_fails(VIC_CONFLICT, put_record(p->s, STORE_VM, &second, &err));
    check_ok(del_record(p->s, STORE_VM, "v1", &err));
    check_fails(VIC_CONFLICT, put_record(p->s, STORE_VM, &first, &err));
    vm.meta.revision = 0;
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
}

static void test_names(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct store_vm one = vm_of("v1", "red"), two = vm_of("v2", "red"), back;
    const char *id;
    check_ok(put_record(p->s, STORE_VM, &one, &err));
    check_fails(VIC_CONFLICT, put_record(p->s, STORE_VM, &two, &err));
    check_ok(find(p->s, STORE_VM, "red", &a, &id, &err));
    assert_string_equal(id, "v1");
    check_fails(VIC_NOT_FOUND, find(p->s, STORE_DISK, "red", &a, &id, &err));
    check_fails(VIC_NOT_FOUND, find(p->s, STORE_VM, "", &a, &id, &err));

    one.meta.name = "blue"; /* a new name frees the old one */
    check_ok(put_record(p->s, STORE_VM, &one, &err));
    check_ok(put_record(p->s, STORE_VM, &two, &err));
    check_ok(find(p->s, STORE_VM, "red", &a, &id, &err));
    assert_string_equal(id, "v2");

    two.meta.deleted = 5; /* and so does a tombstone, which is still there */
    check_ok(put_record(p->s, STORE_VM, &two, &err));
    check_fails(VIC_NOT_FOUND, find(p->s, STORE_VM, "red", &a, &id, &err));
    check_ok(get(p->s, STORE_VM, "v2", &a, &back, &err));
    assert_int_equal(back.meta.deleted, 5);
    one.meta.name = "red";
    check_ok(put_record(p->s, STORE_VM, &one, &err));
}

static void test_long_keys(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    char *long_text = arena_alloc(&a, 1000);
    memset(long_text, 'x', 999);
    struct store_vm vm = vm_of(long_text, ""), back;
    const char *id;
    check_fails(VIC_INVALID, put_record(p->s, STORE_VM, &vm, &err));
    check_fails(VIC_NOT_FOUND, get(p->s, STORE_VM, long_text, &a, &back, &err));
    check_fails(VIC_NOT_FOUND, find(p->s, STORE_VM, long_text, &a, &id, &err));
    vm = vm_of("v1", long_text);
    check_fails(VIC_INVALID, put_record(p->s, STORE_VM, &vm, &err));
    long_text[400] = '\0'; /* the longest reference of a tag */
    struct store_tag tag;
    store_init(store_rec_tag(), &tag);
    tag.meta.id = tag.meta.name = long_text;
    check_ok(put_record(p->s, STORE_TAG, &tag, &err));
    vm = vm_of("", "");
    check_fails(VIC_INTERNAL, put_record(p->s, STORE_VM, &vm, &err));
}

static bool prefix(struct store *s, const char *text, struct arena *a, const char **id,
                   struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    return t && store_find_prefix(t, STORE_VM, text, a, id, err);
}

static void test_prefix(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    static const char *const ids[] = {"abc1", "abc2", "abd", "b"};
    const char *id;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct store_vm vm = vm_of(ids[i], "");
        vm.meta.deleted = i == 1;
        check_ok(put_record(p->s, STORE_VM, &vm, &err));
    }
    check_ok(prefix(p->s, "abc", &a, &id, &err)); /* abc2 is a tombstone */
    assert_string_equal(id, "abc1");
    check_fails(VIC_INVALID, prefix(p->s, "ab", &a, &id, &err));
    check_fails(VIC_INVALID, prefix(p->s, "", &a, &id, &err));
    check_fails(VIC_NOT_FOUND, prefix(p->s, "abcd", &a, &id, &err));
    check_fails(VIC_NOT_FOUND, prefix(p->s, "c", &a, &id, &err));
}

/* --- references ----------------------------------------------------------------------------------
 */
static bool join_ids(void *arg, const char *id)
{
    buf_addf(arg, "%s ", id);
    return true;
}

static void check_holders(struct store *s, const char *vm, const char *expected)
{
    AUTO_BUF struct buf out = {0};
    AUTO_TXN struct store_txn *t = store_read(s, NULL);
    check_ok(store_referrers(t, STORE_VM, vm, STORE_DISK, join_ids, &out, &err));
    assert_string_equal(buf_str(&out), expected);
}

static void test_references(void **state)
{
    struct place *p = *state;
    struct store_vm v1 = vm_of("v1", ""), v2 = vm_of("v2", "");
    struct store_disk a = disk_of("a", "v1"), b = disk_of("b", "v1");
    check_fails(VIC_CONFLICT, put_record(p->s, STORE_DISK, &a, &err));
    check_ok(put_record(p->s, STORE_VM, &v1, &err));
    check_ok(put_record(p->s, STORE_DISK, &a, &err));
    check_ok(put_record(p->s, STORE_DISK, &b, &err));
    check_holders(p->s, "v1", "a b ");
    check_holders(p->s, "v", "");
    check_fails(VIC_CONFLICT, del_record(p->s, STORE_VM, "v1", &err));

    check_ok(put_record(p->s, STORE_VM, &v2, &err));
    a.holder = "v2";
    check_ok(put_record(p->s, STORE_DISK, &a, &err));
    b.holder = "";
    check_ok(put_record(p->s, STORE_DISK, &b, &err));
    check_holders(p->s, "v1", "");
    check_holders(p->s, "v2", "a ");
    check_ok(del_record(p->s, STORE_VM, "v1", &err));
    check_ok(del_record(p->s, STORE_VM, "v1", &err)); /* fine when absent */

    v2.meta.deleted = 1; /* a tombstone keeps its referrers, and gets no new ones */
    check_ok(put_record(p->s, STORE_VM, &v2, &err));
    check_ok(put_record(p->s, STORE_DISK, &a, &err));
    b.holder = "v2";
    check_fails(VIC_CONFLICT, put_record(p->s, STORE_DISK, &b, &err));
    check_ok(del_record(p->s, STORE_DISK, "a", &err));
    check_ok(del_record(p->s, STORE_VM, "v2", &err));
}

/* A list that names a target twice, then once, then not. */
static void test_reference_lists(void **state)
{
    struct place *p = *state;
    const char *both[] = {"l1", "l2", "l1"};
    struct store_layer l;
    struct store_image i;
    store_init(store_rec_layer(), &l);
    store_init(store_rec_image(), &i);
    i.meta.id = "sha256:i";
    i.layers = (struct store_strs){both, 3};
    for (int n = 0; n < 2; n++) {
        l.meta.id = both[n];
        check_ok(put_record(p->s, STORE_LAYER, &l, &err));
    }
    check_ok(put_record(p->s, STORE_IMAGE, &i, &err));
    i.layers.n = 1;
    check_ok(put_record(p->s, STORE_IMAGE, &i, &err));
    check_ok(del_record(p->s, STORE_LAYER, "l2", &err));
    check_fails(VIC_CONFLICT, del_record(p->s, STORE_LAYER, "l1", &err));
    check_ok(del_record(p->s, STORE_IMAGE, "sha256:i", &err));
    check_ok(del_record(p->s, STORE_LAYER, "l1", &err));
}

/* --- lists ---------------------------------------------------------------------------------------
 */
struct listing {
    struct buf out;
    size_t limit;
    const char *last;
    int64_t last_created;
};

static bool list_one(void *arg, const void *record)
{
    const struct store_vm *vm = record;
    struct listing *l = arg;
    buf_addf(&l->out, "%s ", vm->meta.id);
    l->last = vm->meta.id;
    l->last_created = vm->meta.created;
    return --l->limit > 0;
}

/* In pages of two, each in a transaction of its own, with and without an arena. */
static void check_pages(struct store *s, bool newest, bool with_arena, const char *expected)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf all = {0};
    const char *after = "";
    int64_t before = 0;
    for (bool more = true; more;) {
        struct listing l = {.limit = 2};
        AUTO_TXN struct store_txn *t = store_read(s, NULL);
        struct arena *mine = with_arena ? &a : NULL;
        if (newest)
            check_ok(store_list_newest(t, STORE_VM, before, after, mine, list_one, &l, &err));
        else
            check_ok(store_list(t, STORE_VM, after, mine, list_one, &l, &err));
        more = l.limit == 0;
        buf_add_str(&all, buf_str(&l.out));
        after = l.last ? arena_strdup(&a, l.last) : "";
        before = l.last_created;
        buf_fini(&l.out);
    }
    assert_string_equal(buf_str(&all), expected);
}

static void test_lists(void **state)
{
    struct place *p = *state;
    static const int64_t created[] = {30, -10, 20, 20, 40};
    for (size_t i = 0; i < ARRAY_LEN(created); i++) {
        char id[] = {'a', (char)('0' + i), '\0'};
        struct store_vm vm = vm_of(id, "");
        vm.meta.created = created[i];
        vm.meta.deleted = i == 4;
        check_ok(put_record(p->s, STORE_VM, &vm, &err));
    }
    struct store_disk neighbour = disk_of("zz", "");
    check_ok(put_record(p->s, STORE_DISK, &neighbour, &err));
    for (int arena = 0; arena < 2; arena++) {
        check_pages(p->s, false, arena, "a0 a1 a2 a3 a4 ");
        check_pages(p->s, true, arena, "a4 a0 a3 a2 a1 ");
    }
    AUTO_TXN struct store_txn *t = store_read(p->s, NULL);
    assert_int_equal(store_count(t, STORE_VM), 4);
    assert_int_equal(store_count(t, STORE_DISK), 1);
    assert_int_equal(store_revision(t), 6);
}

/* --- transactions --------------------------------------------------------------------------------
 */
struct step {
    struct place *p;
    const char *id;
    enum vic_code refuse, fail;
    bool see_earlier;
    int checks, applies;
};

static bool step_check(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct step *s = arg;
    struct store_vm vm = vm_of(s->id, "");
    s->checks++;
    assert_false(store_put(t, STORE_VM, &vm, NULL)); /* not in check */
    (void)a;
    return !s->refuse || vic_fail(err, s->refuse, 0, "refused");
}

static bool step_apply(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct step *s = arg;
    struct store_vm vm = vm_of(s->id, s->id), back;
    s->applies++;
    if (!store_put(t, STORE_VM, &vm, err) || !store_get(t, STORE_VM, s->id, a, &back, err))
        return false; /* its own write is seen */
    assert_string_equal(back.meta.name, s->id);
    return !s->fail || vic_fail(err, s->fail, 0, "failed");
}

static void check_absent(struct store *s, const char *id)
{
    AUTO_ARENA struct arena a = {0};
    struct store_vm vm;
    check_fails(VIC_NOT_FOUND, get(s, STORE_VM, id, &a, &vm, &err));
}

static void test_refused_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct step refused = {.id = "r", .refuse = VIC_FORBIDDEN},
                failed = {.id = "f", .fail = VIC_IO};
    struct store_stats before, after;
    store_stats(p->s, &before);
    check_fails(VIC_FORBIDDEN,
                store_write(p->s, &test_note, step_check, step_apply, &refused, &err));
    check_fails(VIC_IO, store_write(p->s, &test_note, step_check, step_apply, &failed, &err));
    check_absent(p->s, "r");
    check_absent(p->s, "f");
    assert_int_equal(refused.applies, 0);
    store_stats(p->s, &after);
    assert_int_equal(before.revision, after.revision);
    assert_int_equal(before.commits, after.commits);
}

struct change {
    enum store_verdict verdict;
    bool found;
};

static enum store_verdict change_vm(void *arg, struct store_txn *t, struct arena *a, void *record,
                                    struct vic_err *err)
{
    struct change *c = arg;
    struct store_vm *vm = record;
    (void)t;
    (void)a;
    c->found = *vm->meta.id != '\0';
    vm->meta.id = "v1";
    vm->class_mb++;
    if (c->verdict == STORE_REFUSE)
        vic_fail(err, VIC_BUSY, 0, "not now");
    return c->verdict;
}

static void test_update(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct store_vm vm;
    struct change c = {STORE_PUT, true};
    check_ok(store_update(p->s, &test_note, STORE_VM, "v1", change_vm, &c, &err));
    assert_false(c.found);
    check_ok(store_update(p->s, &test_note, STORE_VM, "v1", change_vm, &c, &err));
    assert_true(c.found);
    c.verdict = STORE_KEEP;
    check_ok(store_update(p->s, &test_note, STORE_VM, "v1", change_vm, &c, &err));
    c.verdict = STORE_REFUSE;
    check_fails(VIC_BUSY, store_update(p->s, &test_note, STORE_VM, "v1", change_vm, &c, &err));
    check_ok(get(p->s, STORE_VM, "v1", &a, &vm, &err));
    assert_int_equal(vm.class_mb, 2);
    assert_int_equal(vm.meta.revision, 2);
    c.verdict = STORE_DELETE;
    check_ok(store_update(p->s, &test_note, STORE_VM, "v1", change_vm, &c, &err));
    check_absent(p->s, "v1");
}

/* Sixteen threads put and count up; every fifth change fails in apply, so that batches are run
 * again; each acknowledged one is there once, no refused one is. */
enum { THREADS = 16, ROUNDS = 40 };
struct worker {
    struct place *p;
    unsigned n;
    unsigned increments;
};

static enum store_verdict count_up(void *arg, struct store_txn *t, struct arena *a, void *record,
                                   struct vic_err *err)
{
    struct store_vm *vm = record;
    (void)arg, (void)t, (void)a, (void)err;
    vm->meta.id = "counter";
    vm->class_mb++;
    return STORE_PUT;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        AUTO_FREE char *id = xasprintf("w%u-%u", w->n, i);
        struct step s = {.id = id, .fail = i % 5 == 4 ? VIC_IO : VIC_OK};
        assert_int_equal(store_write(w->p->s, &test_note, step_check, step_apply, &s, NULL),
                         !s.fail);
        if (i % 2 == 0) {
            check_ok(store_update(w->p->s, &test_note, STORE_VM, "counter", count_up, NULL, &err));
            w->increments++;
        }
    }
    return NULL;
}

static void test_group_commit(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){p, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
    }
    unsigned increments = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        increments += workers[i].increments;
    }
    struct store_stats st;
    store_stats(p->s, &st);
    assert_int_equal(st.counts[STORE_VM], THREADS * ROUNDS * 4 / 5 + 1);
    assert_true(st.commits < st.writes); /* they did share commits */
    struct store_vm vm;
    check_ok(get(p->s, STORE_VM, "counter", &a, &vm, &err));
    assert_int_equal(vm.class_mb, increments);
    reopen(p);
    store_stats(p->s, &st);
    assert_int_equal(st.counts[STORE_VM], THREADS * ROUNDS * 4 / 5 + 1);
}

/* --- the change log ------------------------------------------------------------------------------
 */
struct tail {
    struct buf out;
    struct arena *a;
};

static bool tell_entry(void *arg, const struct store_entry *e)
{
    static const char *const ops[] = {"put", "delete", "event"};
    struct tail *t = arg;
    buf_addf(&t->out, "%llu %s %s %s %s %s", (unsigned long long)e->revision, ops[e->op],
             store_kind_name(e->kind), e->id, e->actor, e->action);
    for (size_t i = 0; i < e->attributes.n; i++)
        buf_addf(&t->out, " %s=%s", e->attributes.v[i].k, e->attributes.v[i].v);
    buf_add_c(&t->out, '\n');
    return true;
}

static bool apply_event(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct store_kv kv[] = {{"exitCode", "0"}, {"name", "web"}};
    struct store_map attributes = {kv, 2};
    (void)arg, (void)a;
    return store_event(t, STORE_CONTAINER, "c1", "die", &attributes, err);
}

static void watch_called(void *arg, uint64_t revision)
{
    atomic_store((_Atomic uint64_t *)arg, revision);
}

/* Watchers are called behind the answer: closing waits for the writer, then the watch may go. */
static void reopen_after_watch(struct place *p, struct store_watch *w)
{
    struct store_vm none = vm_of("none", "");
    check_ok(del_record(p->s, STORE_VM, none.meta.id, &err)); /* the writer has come round */
    store_watch_free(w);
    reopen(p);
}

static void test_change_log(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    _Atomic uint64_t newest = 0;
    struct store_watch *w = store_watch_new(p->s, watch_called, &newest);
    struct store_vm vm = vm_of("v1", "red");
    vm.phase = store_vm_phase_BOOTING;
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
    vm.phase = store_vm_phase_IDLE;
    vm.attempt.what = "attach";
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
    check_ok(store_write(p->s, &test_note, NULL, apply_event, NULL, &err));
    check_ok(del_record(p->s, STORE_VM, "v1", &err));
    reopen_after_watch(p, w);
    assert_int_equal(atomic_load(&newest), 4);

    struct tail tail = {.a = &a};
    AUTO_TXN struct store_txn *t = store_read(p->s, NULL);
    check_ok(store_entries(t, 0, &a, tell_entry, &tail, &err));
    assert_string_equal(buf_str(&tail.out), "1 put vm v1 test  Meta.Name=red Phase=booting\n"
                                            "2 put vm v1 test  Phase=idle Attempt.What=attach\n"
                                            "3 event container c1 test die exitCode=0 name=web\n"
                                            "4 delete vm v1 test \n");
    buf_reset(&tail.out);
    check_ok(store_entries(t, 3, &a, tell_entry, &tail, &err));
    assert_string_equal(buf_str(&tail.out), "4 delete vm v1 test \n");
    check_ok(store_entries(t, 4, &a, tell_entry, &tail, &err));
    check_fails(VIC_NOT_FOUND, store_entries(t, 5, &a, tell_entry, &tail, &err));
    buf_fini(&tail.out);
}

/* A clock that is set by hand: after eight days the first entries are gone. */
struct hand_clock {
    struct vic_clock clock;
    int64_t ns;
};

static int64_t hand_now(const struct vic_clock *c)
{
    return ((const struct hand_clock *)(const void *)c)->ns;
}

static void test_log_retention(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct hand_clock c = {{hand_now, hand_now}, 1700000000000000000};
    struct store_options o = {.dir = p->dir, .secret = test_secret, .clock = &c.clock};
    store_close(p->s);
    p->s = store_open(&o, NULL);
    assert_non_null(p->s);
    struct store_vm vm = vm_of("v1", "");
    for (int i = 0; i < 3; i++)
        check_ok(put_record(p->s, STORE_VM, &vm, &err));
    c.ns += (int64_t)8 * 24 * 3600 * 1000000000;
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
    struct store_stats st;
    store_stats(p->s, &st);
    assert_int_equal(st.log_entries, 1);
    struct tail tail = {.a = &a};
    AUTO_TXN struct store_txn *t = store_read(p->s, NULL);
    check_fails(VIC_NOT_FOUND, store_entries(t, 0, &a, tell_entry, &tail, &err));
    check_fails(VIC_NOT_FOUND, store_entries(t, 2, &a, tell_entry, &tail, &err));
    check_ok(store_entries(t, 3, &a, tell_entry, &tail, &err));
    assert_string_equal(buf_str(&tail.out), "4 put vm v1 test \n");
    buf_fini(&tail.out);
}

/* --- blobs, secrets ------------------------------------------------------------------------------
 */
static bool apply_blob(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct sv out;
    (void)a;
    return store_blob_put(t, "sha256:b", *(struct sv *)arg, err) &&
           store_blob_get(t, "sha256:b", &out, err);
}

static bool apply_blob_del(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    (void)arg, (void)a;
    return store_blob_del(t, "sha256:b", err);
}

static bool blob_is(struct store *s, struct sv expected, struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    struct sv out;
    return store_blob_get(t, "sha256:b", &out, err) && sv_eq(out, expected);
}

static void test_blobs(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct sv empty = {NULL, 0}, big = {arena_alloc(&a, 100000), 100000};
    check_fails(VIC_NOT_FOUND, blob_is(p->s, empty, &err));
    check_ok(store_write(p->s, &test_note, NULL, apply_blob, &empty, &err));
    check_ok(blob_is(p->s, empty, &err));
    check_ok(store_write(p->s, &test_note, NULL, apply_blob, &big, &err));
    reopen(p);
    check_ok(blob_is(p->s, big, &err));
    check_ok(store_write(p->s, &test_note, NULL, apply_blob_del, NULL, &err));
    check_fails(VIC_NOT_FOUND, blob_is(p->s, empty, &err));
}

static bool file_holds(const char *dir, const char *needle)
{
    AUTO_FREE char *path = xasprintf("%s/data.mdb", dir);
    FILE *f = fopen(path, "rb");
    struct stat st;
    assert_true(f && fstat(fileno(f), &st) == 0);
    AUTO_FREE char *bytes = xmalloc((size_t)st.st_size);
    assert_int_equal(fread(bytes, 1, (size_t)st.st_size, f), st.st_size);
    fclose(f);
    return memmem(bytes, (size_t)st.st_size, needle, strlen(needle)) != NULL;
}

static void test_secret_fields(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct store_vch vch, back;
    store_init(store_rec_vch(), &vch);
    vch.meta.id = "vch";
    vch.image_store = "an open text of the record";
    vch.secret_check = SV("the very secret text");
    check_ok(put_record(p->s, STORE_VCH, &vch, &err));
    check_ok(get(p->s, STORE_VCH, "vch", &a, &back, &err));
    assert_true(sv_eq(back.secret_check, vch.secret_check));
    assert_true(file_holds(p->dir, "an open text of the record"));
    assert_false(file_holds(p->dir, "the very secret text"));

    /* Without the secret it is read as empty; the change log never tells it. */
    store_close(p->s);
    struct store_options o = {.dir = p->dir, .read_only = true};
    p->s = store_open(&o, NULL);
    assert_non_null(p->s);
    check_ok(get(p->s, STORE_VCH, "vch", &a, &back, &err));
    assert_int_equal(back.secret_check.len, 0);
    assert_true(back.unknown.len > 0);
    check_fails(VIC_FORBIDDEN, put_record(p->s, STORE_VCH, &back, &err));
}

static void test_secret_mismatch(void **state)
{
    struct place *p = *state;
    unsigned char other[32] = "another secret";
    struct store_options o = {.dir = p->dir, .secret = other};
    store_close(p->s);
    p->s = NULL;
    check_fails(VIC_FORBIDDEN, store_open(&o, &err));
    o.read_only = true;
    check_fails(VIC_FORBIDDEN, store_open(&o, &err));
    o = (struct store_options){.dir = p->dir};
    check_fails(VIC_INVALID, store_open(&o, &err)); /* writing needs it */
    p->s = open_store(p->dir);
}

static void test_derived_keys(void **state)
{
    struct place *p = *state;
    unsigned char a[32], b[32], again[32];
    char x[65], y[65];
    store_channel_key(p->s, "vm", 1, a);
    store_channel_key(p->s, "vm", 2, b);
    store_channel_key(p->s, "vm", 1, again);
    assert_memory_equal(a, again, 32);
    assert_memory_not_equal(a, b, 32);
    store_channel_key(p->s, "vm2", 1, b);
    assert_memory_not_equal(a, b, 32);
    store_sign(p->s, SV("spec"), x);
    store_sign(p->s, SV("spec "), y);
    assert_int_equal(strlen(x), 64);
    assert_string_not_equal(x, y);
}

/* --- opening -------------------------------------------------------------------------------------
 */
static void test_second_opener(void **state)
{
    struct place *p = *state;
    struct store_options o = {.dir = p->dir, .secret = test_secret};
    check_fails(VIC_BUSY, store_open(&o, &err));
    AUTO_FREE char *id = xstrdup(store_id(p->s));
    assert_int_equal(strlen(id), 36);
    assert_int_equal(store_epoch(p->s), 1);
    reopen(p);
    assert_string_equal(id, store_id(p->s));
}

static void test_not_ours(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *none = xasprintf("%s/none", p->dir), *junk = xasprintf("%s/junk", p->dir);
    AUTO_FREE char *file = xasprintf("%s/junk/data.mdb", p->dir);
    struct store_options o = {.dir = none, .secret = test_secret, .read_only = true};
    check_fails(VIC_NOT_FOUND, store_open(&o, &err));
    assert_int_equal(mkdir(junk, 0700), 0);
    FILE *f = fopen(file, "w");
    for (int i = 0; i < 10000; i++)
        fputs("junk", f);
    fclose(f);
    o = (struct store_options){.dir = junk, .secret = test_secret};
    check_fails(VIC_CORRUPT, store_open(&o, &err));
}

static void test_quota(void **state)
{
    struct place *p = *state;
    struct store_options o = {.dir = p->dir, .secret = test_secret, .quota_bytes = 512 << 10};
    store_close(p->s);
    p->s = store_open(&o, NULL);
    assert_non_null(p->s);
    AUTO_ARENA struct arena a = {0};
    struct vic_err last = {0};
    unsigned n = 0;
    for (bool ok = true; ok && n < 10000; n += ok) {
        struct store_container c;
        typical_container(&c, n, &a);
        ok = put_record(p->s, STORE_CONTAINER, &c, &last);
    }
    assert_int_equal(last.code, VIC_NO_SPACE);
    assert_in_range(n, 50, 1000);
    /* What is there can still change, go, and so make room. */
    for (unsigned i = 0; i < n; i++) {
        struct store_container c;
        typical_container(&c, i, &a);
        c.meta.deleted = 1;
        if (i < 5)
            check_ok(put_record(p->s, STORE_CONTAINER, &c, &err));
        check_ok(del_record(p->s, STORE_CONTAINER, c.meta.id, &err));
    }
    struct store_vm vm = vm_of("v1", "");
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
}

static void test_backup(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    AUTO_FREE char *copy = xasprintf("%s/copy", p->dir), *id = xstrdup(store_id(p->s));
    struct store_vm vm = vm_of("v1", "red"), back;
    struct stat st;
    check_ok(put_record(p->s, STORE_VM, &vm, &err));
    check_ok(store_backup(p->s, copy, &err));
    check_fails(VIC_CONFLICT, store_backup(p->s, copy, &err));
    store_close(p->s);
    p->s = open_store(copy);
    assert_string_equal(id, store_id(p->s));
    check_ok(get(p->s, STORE_VM, "v1", &a, &back, &err));
    AUTO_FREE char *file = xasprintf("%s/data.mdb", copy);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* The failpoint: the third commit does not happen, and nothing after it. */
static bool gate_two(void *arg, uint64_t commit)
{
    (void)arg;
    return commit < 3;
}

static void test_gate(void **state)
{
    struct place *p = *state;
    struct store_options o = {.dir = p->dir, .secret = test_secret, .gate = gate_two};
    store_close(p->s);
    p->s = store_open(&o, NULL);
    struct store_vm v1 = vm_of("v1", ""), v2 = vm_of("v2", ""), v3 = vm_of("v3", "");
    check_ok(put_record(p->s, STORE_VM, &v1, &err));
    check_ok(put_record(p->s, STORE_VM, &v2, &err));
    check_fails(VIC_CANCELED, put_record(p->s, STORE_VM, &v3, &err));
    check_fails(VIC_CANCELED, put_record(p->s, STORE_VM, &v3, &err));
    reopen(p);
    check_absent(p->s, "v3");
    struct store_stats st;
    store_stats(p->s, &st);
    assert_int_equal(st.counts[STORE_VM], 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put_get_reopen),
        TEST(test_optimistic_lock),
        TEST(test_names),
        TEST(test_long_keys),
        TEST(test_prefix),
        TEST(test_references),
        TEST(test_reference_lists),
        TEST(test_lists),
        TEST(test_refused_leaves_nothing),
        TEST(test_update),
        TEST(test_group_commit),
        TEST(test_change_log),
        TEST(test_log_retention),
        TEST(test_blobs),
        TEST(test_secret_fields),
        TEST(test_secret_mismatch),
        TEST(test_derived_keys),
        TEST(test_second_opener),
        TEST(test_not_ours),
        TEST(test_quota),
        TEST(test_backup),
        TEST(test_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
