/* Damage in the file: one object is lost and said to be, its name stays taken, the rest is served;
 * verify tells, repair mends the indexes and changes no record. */
#include "util.h"

#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#include "store_priv.h"

/* Flips a bit of every place where the text stands in the file. */
static int damage(const char *dir, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/data.mdb", dir);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    int hits = 0;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    size_t size = (size_t)st.st_size;
    AUTO_FREE char *bytes = xmalloc(size);
    assert_int_equal(pread(fd, bytes, size, 0), size);
    for (char *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), text, strlen(text)));
         at += strlen(text)) {
        char flipped = (char)(*at ^ 1);
        assert_int_equal(pwrite(fd, &flipped, 1, at - bytes), 1);
        hits++;
    }
    return hits;
}

static void put_layer(struct store *s, const char *id, const char *parent, const char *mark)
{
    struct store_layer l;
    store_init(store_rec_layer(), &l);
    l.meta.id = id;
    AUTO_FREE char *name = xasprintf("name-%s", id);
    l.meta.name = name;
    l.parent = parent;
    l.error = mark;
    check_ok(put_record(s, STORE_LAYER, &l, &err));
}

static bool count_layer(void *arg, const void *record)
{
    (void)record;
    ++*(size_t *)arg;
    return true;
}

static size_t list_layers(struct store *s)
{
    size_t n = 0, newest = 0;
    AUTO_TXN struct store_txn *t = store_read(s, NULL);
    check_ok(store_list(t, STORE_LAYER, "", NULL, count_layer, &n, &err));
    check_ok(store_list_newest(t, STORE_LAYER, 0, "", NULL, count_layer, &newest, &err));
    assert_int_equal(n, newest);
    return n;
}

static bool get_layer(struct store *s, const char *id, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(s, err);
    struct store_layer l;
    return store_get(t, STORE_LAYER, id, &a, &l, err);
}

static void note_problem(void *arg, const char *text)
{
    buf_addf(arg, "%s\n", text);
}

static void check_problems(struct store *s, bool repair, const char *expected)
{
    AUTO_BUF struct buf told = {0};
    check_ok(store_verify(s, repair, note_problem, &told, &err));
    assert_string_equal(buf_str(&told), expected);
}

static void test_one_lost(void **state)
{
    char *dir = new_folder();
    struct store *s = open_store(dir);
    struct store_stats st;
    (void)state;
    put_layer(s, "below", "", "");
    put_layer(s, "lost", "below", "");
    put_layer(s, "good", "", "");
    /* Pages that are free by now may hold the mark too: all of them are damaged. */
    put_layer(s, "lost", "below", "a mark to be found in the file");
    store_close(s);
    assert_true(damage(dir, "a mark to be found in the file") >= 1);

    s = open_store(dir);
    store_stats(s, &st);
    assert_int_equal(st.quarantined, 1);
    check_fails(VIC_CORRUPT, get_layer(s, "lost", &err));
    check_ok(get_layer(s, "good", &err));
    assert_int_equal(list_layers(s), 2);

    /* Reserved: its name, its id, what it refers to. */
    struct store_layer l;
    store_init(store_rec_layer(), &l);
    l.meta.id = "other";
    l.meta.name = "name-lost";
    check_fails(VIC_CONFLICT, put_record(s, STORE_LAYER, &l, &err));
    l.meta.id = "lost";
    check_fails(VIC_CORRUPT, put_record(s, STORE_LAYER, &l, &err));
    check_fails(VIC_CORRUPT, del_record(s, STORE_LAYER, "lost", &err));
    check_fails(VIC_CONFLICT, del_record(s, STORE_LAYER, "below", &err));
    put_layer(s, "good", "", "changed");

    /* Repair keeps that; and is not in the way of another change. */
    check_problems(s, true,
                   "layer lost: the record fails its checksum\n"
                   "change log: entry 4 is damaged\n"); /* it told the mark as a change */
    check_problems(s, false, "layer lost: the record fails its checksum\n");
    check_fails(VIC_CONFLICT, del_record(s, STORE_LAYER, "below", &err));
    l.meta.id = "other";
    check_fails(VIC_CONFLICT, put_record(s, STORE_LAYER, &l, &err));
    check_ok(get_layer(s, "good", &err));
    store_stats(s, &st);
    assert_int_equal(st.quarantined, 1);
    assert_int_equal(st.counts[STORE_LAYER], 3);
    store_close(s);
    remove_folder(dir);
}

/* Loses and adds index entries behind the store's back. */
static void spoil_indexes(struct store *s)
{
    MDB_txn *txn;
    char junk[] = "junk";
    struct store_key k;
    assert_int_equal(mdb_txn_begin(s->env, NULL, 0, &txn), 0);
    struct store_txn t = {.s = s, .mdb = txn, .write = true};
    key_name(&k, STORE_LAYER, "name-a");
    check_ok(table_del(&t, TABLE_NAME, &k, &err));
    key_created(&k, STORE_LAYER, 77, "nobody");
    check_ok(table_put(&t, TABLE_CREATED, &k, (MDB_val){0, NULL}, 0, &err));
    key_ref(&k, STORE_LAYER, "a", STORE_LAYER, "b");
    check_ok(table_del(&t, TABLE_REF, &k, &err));
    key_ref(&k, STORE_LAYER, "b", STORE_LAYER, "a");
    check_ok(table_put(&t, TABLE_REF, &k, (MDB_val){0, NULL}, 0, &err));
    key_revision(&k, 1);
    check_ok(table_put(&t, TABLE_LOG, &k, (MDB_val){sizeof junk, junk}, 0, &err));
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static bool any_entry(void *arg, const struct store_entry *e)
{
    (void)arg, (void)e;
    return true;
}

static void test_repair(void **state)
{
    char *dir = new_folder();
    struct store *s = open_store(dir);
    (void)state;
    put_layer(s, "a", "", "");
    put_layer(s, "b", "a", "");
    spoil_indexes(s);
    {
        AUTO_ARENA struct arena a = {0};
        AUTO_TXN struct store_txn *t = store_read(s, NULL);
        check_fails(VIC_NOT_FOUND, store_entries(t, 0, &a, any_entry, NULL, &err));
    }
    check_problems(s, true,
                   "layer a: the index entry of its name is missing\n"
                   "layer b: the index entry of a reference is missing\n"
                   "index by creation: an entry for layer nobody is left over\n"
                   "index by reference: an entry for layer a is left over\n"
                   "change log: entry 1 is damaged\n");
    check_problems(s, false, "");
    check_fails(VIC_CONFLICT, del_record(s, STORE_LAYER, "a", &err));
    assert_int_equal(list_layers(s), 2);
    struct store_stats st;
    store_stats(s, &st);
    assert_int_equal(st.log_entries, 1);
    store_close(s);
    remove_folder(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_lost),
        cmocka_unit_test(test_repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
