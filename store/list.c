/* Walking many records: by id, newest first, by prefix, by reference.
 *
 * A damaged record is passed over and counted (quarantine).  Records are decoded into the caller's
 * arena; without one into a scratch arena that is emptied after each, which is what a long list
 * wants: its records are valid inside 'each' only, their strings until the transaction ends. */
#include "base/mem.h"

#include "store_priv.h"

static void close_cursor(MDB_cursor **c)
{
    if (*c)
        mdb_cursor_close(*c);
}
#define AUTO_CURSOR __attribute__((cleanup(close_cursor)))

struct walk {
    struct store_txn *t;
    enum store_kind kind;
    const struct store_rec *rec;
    struct arena *a; /* the caller's, or NULL */
    struct arena scratch;
    struct arena_block *first; /* scratch's block while it has only one */
    void *record;              /* of the scratch */
    store_each each;
    void *arg;
};

static void scratch_reset(struct walk *w)
{
    if (w->scratch.blocks && w->scratch.blocks == w->first) {
        w->scratch.used = 0;
        return;
    }
    arena_fini(&w->scratch);
    arena_alloc(&w->scratch, 1);
    w->first = w->scratch.blocks;
    w->scratch.used = 0;
}

/* Decodes and hands on one record; false ends the walk ('*ok' tells whether by an error). */
static bool walk_one(struct walk *w, struct sv id, MDB_val value, bool *ok, struct vic_err *err)
{
    struct arena *a = w->a;
    void *record = w->record;
    if (!a) {
        scratch_reset(w);
        a = &w->scratch;
    } else {
        record = arena_alloc(a, w->rec->size);
    }
    struct vic_err local = {0};
    if (object_decode(w->t, w->kind, id, value, a, record, &local))
        return w->each(w->arg, record);
    if (local.code == VIC_CORRUPT)
        return true;
    *ok = false;
    if (err)
        *err = local;
    return false;
}

static bool walk_begin(struct walk *w, MDB_cursor **c, enum store_table table, struct vic_err *err)
{
    if (!kind_ok(w->kind, err))
        return false;
    w->rec = store_kind_rec(w->kind);
    w->record = w->a ? NULL : xcalloc(1, w->rec->size);
    int rc = mdb_cursor_open(w->t->mdb, w->t->s->dbi[table], c);
    return rc == 0 || store_fail_mdb(w->t->s, rc, "open a cursor", err);
}

static void walk_end(struct walk *w)
{
    free(w->record);
    arena_fini(&w->scratch);
}

static bool end_of_walk(struct store_txn *t, int rc, struct vic_err *err)
{
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(t->s, rc, "walk", err);
}

bool store_list(struct store_txn *t, enum store_kind kind, const char *after, struct arena *a,
                store_each each, void *arg, struct vic_err *err)
{
    __attribute__((cleanup(walk_end))) struct walk w = {
        .t = t, .kind = kind, .a = a, .each = each, .arg = arg};
    AUTO_CURSOR MDB_cursor *c = NULL;
    struct store_key start;
    key_object(&start, kind, after ? after : "");
    if (!walk_begin(&w, &c, TABLE_OBJECT, err) || !key_check(&start, "the key to list from", err))
        return false;
    MDB_val key = key_val(&start), value;
    bool ok = true;
    int rc = mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
        const unsigned char *p = key.mv_data;
        if (p[0] != (unsigned)kind)
            break;
        if (key.mv_size == start.len && key_begins(key, &start))
            continue; /* 'after' itself */
        if (!walk_one(&w, sv_make(p + 1, key.mv_size - 1), value, &ok, err))
            return ok;
    }
    return end_of_walk(t, rc, err);
}

/* To the greatest key below 'bound'. */
static int seek_below(MDB_cursor *c, const struct store_key *bound, MDB_val *key)
{
    MDB_val ignored;
    *key = key_val(bound);
    int rc = mdb_cursor_get(c, key, &ignored, MDB_SET_RANGE);
    return mdb_cursor_get(c, key, &ignored, rc == 0 ? MDB_PREV : MDB_LAST);
}

bool store_list_newest(struct store_txn *t, enum store_kind kind, int64_t before,
                       const char *before_id, struct arena *a, store_each each, void *arg,
                       struct vic_err *err)
{
    enum { ID_AT = 9 }; /* behind kind and time */
    __attribute__((cleanup(walk_end))) struct walk w = {
        .t = t, .kind = kind, .a = a, .each = each, .arg = arg};
    AUTO_CURSOR MDB_cursor *c = NULL;
    struct store_key bound;
    if (before_id && *before_id)
        key_created(&bound, kind, before, before_id);
    else
        key_object(&bound, kind + 1, ""); /* behind the newest */
    if (!walk_begin(&w, &c, TABLE_CREATED, err) || !key_check(&bound, "the key to list from", err))
        return false;
    MDB_val key, ignored;
    int rc = seek_below(c, &bound, &key);
    for (; rc == 0; rc = mdb_cursor_get(c, &key, &ignored, MDB_PREV)) {
        const unsigned char *p = key.mv_data;
        if (p[0] != (unsigned)kind || key.mv_size <= ID_AT)
            break;
        struct sv id = sv_make(p + ID_AT, key.mv_size - ID_AT);
        unsigned char object[STORE_MAX_KEY];
        object[0] = p[0];
        memcpy(object + 1, id.p, id.len);
        MDB_val object_key = {id.len + 1, object}, value;
        int found = mdb_get(t->mdb, t->s->dbi[TABLE_OBJECT], &object_key, &value);
        bool ok = true;
        if (found == 0 && !walk_one(&w, id, value, &ok, err))
            return ok;
        if (!end_of_walk(t, found, err))
            return false;
    }
    return end_of_walk(t, rc, err);
}

bool store_find_prefix(struct store_txn *t, enum store_kind kind, const char *prefix,
                       struct arena *a, const char **id, struct vic_err *err)
{
    AUTO_CURSOR MDB_cursor *c = NULL;
    struct store_key start;
    if (!kind_ok(kind, err))
        return false;
    key_object(&start, kind, prefix);
    int rc = mdb_cursor_open(t->mdb, t->s->dbi[TABLE_OBJECT], &c);
    if (rc != 0)
        return store_fail_mdb(t->s, rc, "open a cursor", err);
    MDB_val key = key_val(&start), value;
    const char *found = NULL;
    rc = start.failed ? MDB_NOTFOUND : mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
    for (; rc == 0 && key_begins(key, &start); rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
        if (value_is_tombstone(value))
            continue;
        if (found)
            return vic_fail(err, VIC_INVALID, 0, "several %ss begin with %s", store_kind_name(kind),
                            prefix);
        found = arena_sv(a, sv_make((const char *)key.mv_data + 1, key.mv_size - 1));
    }
    if (!end_of_walk(t, rc, err))
        return false;
    if (!found)
        return vic_fail(err, VIC_NOT_FOUND, 0, "no such %s: %s", store_kind_name(kind), prefix);
    *id = found;
    return true;
}

bool store_referrers(struct store_txn *t, enum store_kind target_kind, const char *target_id,
                     enum store_kind kind, store_each_id each, void *arg, struct vic_err *err)
{
    AUTO_CURSOR MDB_cursor *c = NULL;
    struct store_key start;
    key_ref(&start, target_kind, target_id, kind, "");
    int rc = mdb_cursor_open(t->mdb, t->s->dbi[TABLE_REF], &c);
    if (rc != 0)
        return store_fail_mdb(t->s, rc, "open a cursor", err);
    MDB_val key = key_val(&start), value;
    rc = start.failed ? MDB_NOTFOUND : mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
    for (; rc == 0 && key_begins(key, &start); rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
        char id[STORE_MAX_KEY + 1];
        size_t len = key.mv_size - start.len;
        memcpy(id, (const char *)key.mv_data + start.len, len);
        id[len] = '\0';
        if (!each(arg, id))
            return true;
    }
    return end_of_walk(t, rc, err);
}
