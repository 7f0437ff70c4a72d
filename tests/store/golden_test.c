/* Stores of the past: each golden store is copied, opened for writing and read; every record that
 * this version's tables know comes back with the values it was made with.  And the tables of today
 * have a golden store: the newest one's fingerprint is today's. */
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "golden.h"

static char *golden_dir(int version)
{
    return xasprintf("%s/v%d", GOLDEN_DIR, version);
}

static int newest_golden(void)
{
    for (int version = 1;; version++) {
        AUTO_FREE char *dir = golden_dir(version);
        struct stat st;
        if (stat(dir, &st) != 0)
            return version - 1;
    }
}

static void read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    char bytes[4096];
    assert_non_null(f);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;)
        buf_add(out, bytes, n);
    fclose(f);
}

static void test_fingerprint(void **state)
{
    AUTO_BUF struct buf kept = {0}, now = {0};
    AUTO_FREE char *dir = golden_dir(newest_golden());
    AUTO_FREE char *path = xasprintf("%s/fingerprint", dir);
    (void)state;
    read_file(path, &kept);
    golden_fingerprint(&now);
    if (!sv_eq(buf_sv(&kept), buf_sv(&now)))
        fail_msg(
            "the record tables differ from %s: make the next golden store (see make_golden.c):\n"
            "  make_golden store tests/store/golden/v%d\nToday's tables:\n%s",
            path, newest_golden() + 1, buf_str(&now));
}

struct compare {
    const struct store_rec *rec;
    int version;
    const void *found, *empty;
};

struct search {
    const char *path;
    bool hit;
};

static bool is_path(void *arg, const char *path, const char *before, const char *after)
{
    struct search *s = arg;
    (void)before, (void)after;
    s->hit = s->hit || strcmp(path, s->path) == 0;
    return !s->hit;
}

/* A field that is younger than the golden store is empty in it; any other difference is a loss. */
static bool check_diff(void *arg, const char *path, const char *before, const char *after)
{
    const struct compare *c = arg;
    struct search s = {path, false};
    if (strcmp(path, "Meta.Revision") == 0)
        return true; /* stamped */
    store_diff(c->rec, c->found, c->empty, is_path, &s);
    if (c->version == newest_golden() || s.hit)
        fail_msg("v%d %s %s: '%s' became '%s'", c->version, c->rec->name, path, before, after);
    return true;
}

static void check_kind(struct store *s, int version, enum store_kind kind)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(s, NULL);
    const struct store_rec *rec = store_kind_rec(kind);
    void *expected = arena_alloc(&a, rec->size), *found = arena_alloc(&a, rec->size);
    void *empty = arena_alloc(&a, rec->size);
    struct compare c = {rec, version, found, empty};
    store_init(rec, empty);
    golden_record(kind, &a, expected);
    check_ok(store_get(t, kind, GOLDEN_ID, &a, found, &err));
    store_diff(rec, expected, found, check_diff, &c);
}

static bool count_entry(void *arg, const struct store_entry *e)
{
    (void)e;
    ++*(unsigned *)arg;
    return true;
}

static void check_rest(struct store *s)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(s, NULL);
    struct store_vm gone;
    struct sv blob;
    unsigned entries = 0;
    check_ok(store_get(t, STORE_VM, "tombstone", &a, &gone, &err));
    assert_true(gone.meta.deleted == GOLDEN_TIME);
    check_ok(store_blob_get(t, "sha256:golden", &blob, &err));
    assert_true(sv_is(blob, "a golden blob"));
    check_ok(store_entries(t, 0, &a, count_entry, &entries, &err));
    assert_true(entries >= 9);
}

static void check_version(int version)
{
    AUTO_FREE char *dir = golden_dir(version);
    char *copy = new_folder();
    copy_folder(dir, copy);
    struct store *s = open_store(copy);
    verify_store(s);
    check_rest(s);
    for (enum store_kind kind = 1; kind < STORE_KINDS; kind++)
        check_kind(s, version, kind);
    struct store_vm vm; /* and it can be written */
    store_init(store_rec_vm(), &vm);
    vm.meta.id = "new";
    check_ok(put_record(s, STORE_VM, &vm, &err));
    store_close(s);
    remove_folder(copy);
}

static void test_every_version(void **state)
{
    (void)state;
    assert_true(newest_golden() >= 1);
    for (int version = 1; version <= newest_golden(); version++)
        check_version(version);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_every_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
