/* Makes test data that is kept in git.
 *
 *   make_golden store DIR      a golden store: one record of every kind, every field set, a change
 * log, a blob, a tombstone; and DIR/fingerprint, of the record tables make_golden corpus FOLDER
 * seeds for the fuzz targets: FOLDER/record, FOLDER/record_json
 *
 * A record table that changes gets a new golden store beside the old ones (tests/store/golden/v2
 * ...), which stay for ever: golden_test opens each and reads it. */
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "golden.h"

static void write_file(const char *path, struct sv bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes.p, 1, bytes.len, f) != bytes.len || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static bool apply_golden(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct store_map attributes = {&(struct store_kv){"name", "golden"}, 1};
    (void)arg;
    /* What is referred to comes first. */
    static const enum store_kind order[] = {STORE_VM,  STORE_DISK,      STORE_LAYER, STORE_IMAGE,
                                            STORE_TAG, STORE_CONTAINER, STORE_VCH};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        void *record = arena_alloc(a, store_kind_rec(order[i])->size);
        golden_record(order[i], a, record);
        if (!store_put(t, order[i], record, err))
            return false;
    }
    struct store_vm gone;
    golden_record(STORE_VM, a, &gone);
    gone.meta.id = "tombstone";
    gone.meta.deleted = GOLDEN_TIME;
    return store_put(t, STORE_VM, &gone, err) &&
           store_blob_put(t, "sha256:golden", SV("a golden blob"), err) &&
           store_event(t, STORE_CONTAINER, GOLDEN_ID, "start", &attributes, err);
}

static void make_store(const char *dir)
{
    AUTO_BUF struct buf print = {0};
    AUTO_FREE char *path = xasprintf("%s/fingerprint", dir);
    char *work = new_folder();
    struct store *s = open_store(work);
    check_ok(store_write(s, &test_note, NULL, apply_golden, NULL, &err));
    check_ok(store_backup(s, dir, &err));
    store_close(s);
    remove_folder(work);
    golden_fingerprint(&print);
    write_file(path, buf_sv(&print));
}

static void make_seeds(const char *folder)
{
    AUTO_ARENA struct arena a = {0};
    for (enum store_kind kind = 1; kind < STORE_KINDS; kind++) {
        const struct store_rec *rec = store_kind_rec(kind);
        AUTO_BUF struct buf bytes = {0};
        AUTO_FREE char *path = xasprintf("%s/record/%s", folder, rec->name);
        void *record = arena_alloc(&a, rec->size);
        golden_record(kind, &a, record);
        buf_add_c(&bytes, (char)(kind - 1));
        store_encode(rec, record, &bytes);
        write_file(path, buf_sv(&bytes));
    }
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *path = xasprintf("%s/record_json/container", folder);
    struct store_container c;
    struct json_writer w = json_writer(&text);
    typical_container(&c, 1, &a);
    store_to_json(store_rec_container(), &c, true, &w, NULL);
    write_file(path, buf_sv(&text));
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "store") == 0)
        make_store(argv[2]);
    else if (argc == 3 && strcmp(argv[1], "corpus") == 0)
        make_seeds(argv[2]);
    else
        return fprintf(stderr, "usage: make_golden store|corpus DIR\n"), 2;
    return 0;
}
