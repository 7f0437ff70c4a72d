/* Writing, inside apply: a record with its indexes, its references and its entry of the change log;
 * blobs.  Every call may leave half of its work behind when it fails: the writer thread then throws
 * the whole transaction away. */
#include "base/mem.h"

#include "store_priv.h"

bool must_apply(struct store_txn *t, struct vic_err *err)
{
    if (t->applying)
        return true;
    return vic_fail(err, VIC_INTERNAL, 0, "the store is written inside apply only");
}

/* Pages in use by the tables of this transaction: what is free inside the file does not count. */
static bool used_bytes(struct store_txn *t, uint64_t *out, struct vic_err *err)
{
    uint64_t bytes = 0;
    for (int i = 0; i < TABLES; i++) {
        MDB_stat st;
        int rc = mdb_stat(t->mdb, t->s->dbi[i], &st);
        if (rc != 0)
            return store_fail_mdb(t->s, rc, "count pages", err);
        bytes +=
            (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) * (uint64_t)st.ms_psize;
    }
    *out = bytes;
    return true;
}

/* The quota refuses what is new; what is there may change, and so be removed, in an eighth more. */
bool room_left(struct store_txn *t, bool growth, struct vic_err *err)
{
    uint64_t used = 0, quota = t->s->quota_bytes;
    if (!quota)
        return true;
    if (!used_bytes(t, &used, err))
        return false;
    if (used < (growth ? quota : quota + quota / 8))
        return true;
    return vic_fail(err, VIC_NO_SPACE, 0, "the store's quota of %llu MiB is used up",
                    (unsigned long long)(quota >> 20));
}

static void count(struct store_txn *t, enum store_kind kind, const struct store_meta *old,
                  const struct store_meta *new)
{
    t->state.counts[kind] += (new && !new->deleted);
    t->state.counts[kind] -= (old && !old->deleted);
}

/* The record as it stands, or NULL. */
static bool read_old(struct store_txn *t, enum store_kind kind, const char *id, void **old,
                     struct vic_err *err)
{
    struct vic_err local = {0};
    *old = arena_alloc(t->a, store_kind_rec(kind)->size);
    if (store_get(t, kind, id, t->a, *old, &local))
        return true;
    *old = NULL;
    if (local.code == VIC_NOT_FOUND)
        return true;
    if (err)
        *err = local;
    return false;
}

static bool check_put(enum store_kind kind, const struct store_meta *old,
                      const struct store_meta *new, struct vic_err *err)
{
    const char *what = store_kind_name(kind);
    if (!new->id || !*new->id)
        return vic_fail(err, VIC_INTERNAL, 0, "a %s without an id", what);
    if (strlen(new->id) > STORE_MAX_ID)
        return vic_fail(err, VIC_INVALID, 0, "the %s's id is longer than %d bytes", what,
                        STORE_MAX_ID);
    if (new->revision && (!old || old->revision != new->revision))
        return vic_fail(err, VIC_CONFLICT, 0, "%s %s was %s meanwhile", what, new->id,
                        old ? "changed" : "removed");
    return true;
}

static bool write_record(struct store_txn *t, enum store_kind kind, const void *record,
                         struct vic_err *err)
{
    AUTO_BUF struct buf out = {.limit = STORE_MAX_RECORD};
    const struct store_meta *m = meta_of(record);
    AUTO_FREE char *aad = xasprintf("%s/%s", store_kind_name(kind), m->id);
    struct codec_seal seal = {t->s->seal_key, sv_of(aad)};
    struct store_key k;
    buf_add_le(&out, 0, HEADER_SIZE);
    codec_encode(store_kind_rec(kind), record, t->s->sealed ? &seal : NULL, &out);
    if (out.failed)
        return vic_fail(err, VIC_TOO_LARGE, 0, "%s %s is too large for a record",
                        store_kind_name(kind), m->id);
    key_object(&k, kind, m->id);
    value_seal(key_val(&k), (unsigned char *)out.data, out.len, m->deleted ? HEADER_TOMBSTONE : 0);
    return table_put(t, TABLE_OBJECT, &k, (MDB_val){out.len, out.data}, 0, err);
}

bool store_put(struct store_txn *t, enum store_kind kind, const void *record, struct vic_err *err)
{
    void *old = NULL;
    if (!must_apply(t, err) || !kind_ok(kind, err))
        return false;
    const char *id = meta_of(record)->id;
    if (!read_old(t, kind, id ? id : "", &old, err) ||
        !check_put(kind, old, meta_of(record), err) || !room_left(t, !old, err))
        return false;
    void *new = arena_copy(t->a, record, store_kind_rec(kind)->size);
    struct store_meta *m = new;
    m->revision = t->state.revision + 1;
    if (!m->created)
        m->created = old ? meta_of(old)->created : t->now_ns;
    struct log_record entry = {STORE_OP_PUT, kind, m->id, "", changes_of(kind, old, new, t->a)};
    count(t, kind, old, m);
    return index_update(t, kind, old, m, err) && write_record(t, kind, new, err) &&
           log_append(t, &entry, err);
}

struct holder {
    struct arena *a;
    const char *id;
};

static bool take_holder(void *arg, const char *id)
{
    struct holder *h = arg;
    h->id = arena_strdup(h->a, id);
    return false;
}

/* Who refers to it; one is enough for a refusal. */
static bool check_unused(struct store_txn *t, enum store_kind kind, const char *id,
                         struct vic_err *err)
{
    for (enum store_kind by = 1; by < STORE_KINDS; by++) {
        struct holder h = {t->a, NULL};
        if (!store_referrers(t, kind, id, by, take_holder, &h, err))
            return false;
        if (h.id)
            return vic_fail(err, VIC_CONFLICT, 0, "%s %s is in use by %s %s", store_kind_name(kind),
                            id, store_kind_name(by), h.id);
    }
    return true;
}

bool store_del(struct store_txn *t, enum store_kind kind, const char *id, struct vic_err *err)
{
    void *old = NULL;
    struct store_key k;
    if (!must_apply(t, err) || !kind_ok(kind, err) || !read_old(t, kind, id, &old, err))
        return false;
    if (!old)
        return true;
    struct log_record entry = {STORE_OP_DELETE, kind, id, "", {NULL, 0}};
    count(t, kind, old, NULL);
    key_object(&k, kind, id);
    return check_unused(t, kind, id, err) && index_update(t, kind, old, NULL, err) &&
           table_del(t, TABLE_OBJECT, &k, err) && log_append(t, &entry, err);
}

/* --- blobs ---------------------------------------------------------------------------------------
 */
bool store_blob_put(struct store_txn *t, const char *digest, struct sv bytes, struct vic_err *err)
{
    struct store_key k;
    key_object(&k, (enum store_kind)0, digest);
    if (!must_apply(t, err) || !key_check(&k, "a blob's digest", err) || !room_left(t, true, err))
        return false;
    if (bytes.len > STORE_MAX_BLOB)
        return vic_fail(err, VIC_TOO_LARGE, 0, "blob %s has %zu bytes", digest, bytes.len);
    AUTO_FREE unsigned char *value = xmalloc(HEADER_SIZE + bytes.len);
    if (bytes.len)
        memcpy(value + HEADER_SIZE, bytes.p, bytes.len);
    value_seal(key_val(&k), value, HEADER_SIZE + bytes.len, 0);
    t->dirty = true;
    return table_put(t, TABLE_BLOB, &k, (MDB_val){HEADER_SIZE + bytes.len, value}, 0, err);
}

bool store_blob_del(struct store_txn *t, const char *digest, struct vic_err *err)
{
    struct store_key k;
    key_object(&k, (enum store_kind)0, digest);
    if (!must_apply(t, err))
        return false;
    t->dirty = true;
    return table_del(t, TABLE_BLOB, &k, err);
}
