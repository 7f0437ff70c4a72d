/* Reading: snapshots, values, single records. */
#include "base/mem.h"

#include "crc32c.h"
#include "store_priv.h"

/* --- kinds ---------------------------------------------------------------------------------------
 */
#define KINDS(K)                                                                                   \
    K(STORE_CONTAINER, container)                                                                  \
    K(STORE_IMAGE, image)                                                                          \
    K(STORE_TAG, tag)                                                                              \
    K(STORE_LAYER, layer) K(STORE_DISK, disk) K(STORE_VM, vm) K(STORE_VCH, vch)

#define K(number, rec) [number] = store_rec_##rec,
static const struct store_rec *(*const kind_recs[STORE_KINDS])(void) = {KINDS(K)};
#undef K
#define K(number, rec)                                                                             \
    _Static_assert(offsetof(struct store_##rec, meta) == 0, "meta_of() takes meta to be first");
KINDS(K)
#undef K

const struct store_rec *store_kind_rec(enum store_kind kind)
{
    return kind_recs[kind]();
}

const char *store_kind_name(enum store_kind kind)
{
    return (unsigned)kind < STORE_KINDS && kind_recs[kind] ? kind_recs[kind]()->name : "unknown";
}

bool kind_ok(enum store_kind kind, struct vic_err *err)
{
    if ((unsigned)kind < STORE_KINDS && kind_recs[kind])
        return true;
    return vic_fail(err, VIC_INTERNAL, 0, "no kind of record has the number %d", (int)kind);
}

/* --- values --------------------------------------------------------------------------------------
 */
static uint32_t value_sum(MDB_val key, const unsigned char *value, size_t size)
{
    uint32_t sum = crc32c(0, value, 4);
    sum = crc32c(sum, key.mv_data, key.mv_size);
    return crc32c(sum, value + HEADER_SIZE, size - HEADER_SIZE);
}

void value_seal(MDB_val key, unsigned char *value, size_t size, unsigned flags)
{
    memset(value, 0, HEADER_SIZE);
    value[0] = HEADER_FORMAT;
    value[1] = (unsigned char)flags;
    uint32_t sum = value_sum(key, value, size);
    for (unsigned i = 0; i < 4; i++)
        value[4 + i] = (unsigned char)(sum >> (8 * i));
}

bool value_open(MDB_val key, MDB_val value, struct sv *body)
{
    const unsigned char *p = value.mv_data;
    if (value.mv_size < HEADER_SIZE || p[0] != HEADER_FORMAT)
        return false;
    uint32_t sum =
        (uint32_t)p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 24;
    *body = sv_make(p + HEADER_SIZE, value.mv_size - HEADER_SIZE);
    return sum == value_sum(key, p, value.mv_size);
}

bool value_is_tombstone(MDB_val value)
{
    const unsigned char *p = value.mv_data;
    return value.mv_size >= HEADER_SIZE && p[1] & HEADER_TOMBSTONE;
}

bool store_fail_mdb(struct store *s, int rc, const char *what, struct vic_err *err)
{
    enum vic_code code = VIC_CORRUPT;
    if (rc > 0)
        return vic_fail(err, vic_code_of_errno(rc), rc, "store: %s", what);
    if (rc == MDB_MAP_FULL)
        code = VIC_NO_SPACE;
    else if (rc == MDB_NOTFOUND)
        code = VIC_NOT_FOUND;
    else if (rc == MDB_READERS_FULL)
        code = VIC_BUSY;
    else if (rc == MDB_BAD_VALSIZE || rc == MDB_BAD_TXN || rc == MDB_TXN_FULL)
        code = VIC_INTERNAL;
    (void)s;
    return vic_fail(err, code, 0, "store: %s: %s", what, mdb_strerror(rc));
}

bool table_get(struct store_txn *t, enum store_table table, const struct store_key *k,
               MDB_val *value, bool *found, struct vic_err *err)
{
    *found = false;
    if (k->failed || !k->len)
        return true; /* nothing can be stored under it */
    MDB_val key = key_val(k);
    int rc = mdb_get(t->mdb, t->s->dbi[table], &key, value);
    *found = rc == 0;
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(t->s, rc, "read", err);
}

bool table_put(struct store_txn *t, enum store_table table, const struct store_key *k,
               MDB_val value, unsigned flags, struct vic_err *err)
{
    MDB_val key = key_val(k);
    if (!key_check(k, "a key", err))
        return false;
    int rc = mdb_put(t->mdb, t->s->dbi[table], &key, &value, flags);
    return rc == 0 || store_fail_mdb(t->s, rc, "write", err);
}

bool table_del(struct store_txn *t, enum store_table table, const struct store_key *k,
               struct vic_err *err)
{
    MDB_val key = key_val(k);
    if (k->failed)
        return true;
    int rc = mdb_del(t->mdb, t->s->dbi[table], &key, NULL);
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(t->s, rc, "delete", err);
}

/* --- objects -------------------------------------------------------------------------------------
 */
void quarantine(struct store *s, enum store_kind kind, struct sv id)
{
    AUTO_FREE char *name = xasprintf("%s/" SV_FMT, store_kind_name(kind), SV_ARG(id));
    bool known = false;
    mutex_lock(&s->bad_lock);
    for (size_t i = 0; i < s->bad_count && !known; i++)
        known = strcmp(s->bad[i], name) == 0;
    if (!known) {
        s->bad = xrealloc(s->bad, (s->bad_count + 1) * sizeof *s->bad);
        s->bad[s->bad_count++] = xstrdup(name);
    }
    mutex_unlock(&s->bad_lock);
    if (!known)
        log_error(s->log, "store.quarantine", KV_S("object", name));
}

/* Lists call this ten thousand times: no printf on the way of what is good. */
bool object_decode(struct store_txn *t, enum store_kind kind, struct sv id, MDB_val value,
                   struct arena *a, void *record, struct vic_err *err)
{
    struct store *s = t->s;
    const struct store_rec *rec = store_kind_rec(kind);
    struct sv body, name = sv_of(rec->name);
    unsigned char key[STORE_MAX_KEY];
    char aad[STORE_MAX_KEY + 64]; /* "vm/<id>" */
    id = sv_sub(id, 0, sizeof key - 1);
    key[0] = (unsigned char)kind;
    memcpy(key + 1, id.p, id.len);
    if (!value_open((MDB_val){id.len + 1, key}, value, &body)) {
        quarantine(s, kind, id);
        return vic_fail(err, VIC_CORRUPT, 0, "%s " SV_FMT ": the record fails its checksum",
                        rec->name, SV_ARG(id));
    }
    if (t->write) /* pages move under a writer */
        body = sv_make(arena_copy(a, body.p, body.len), body.len);
    memcpy(aad, name.p, name.len);
    aad[name.len] = '/';
    memcpy(aad + name.len + 1, id.p, id.len);
    struct codec_seal seal = {s->seal_key, sv_make(aad, name.len + 1 + id.len)};
    if (codec_decode(rec, body, s->sealed ? &seal : NULL, a, record, err))
        return true;
    quarantine(s, kind, id);
    return vic_wrap(err, "%s " SV_FMT, rec->name, SV_ARG(id));
}

bool store_get(struct store_txn *t, enum store_kind kind, const char *id, struct arena *a,
               void *record, struct vic_err *err)
{
    struct store_key k;
    MDB_val value;
    bool found;
    if (!kind_ok(kind, err))
        return false;
    key_object(&k, kind, id);
    if (!table_get(t, TABLE_OBJECT, &k, &value, &found, err))
        return false;
    if (!found || !*id)
        return vic_fail(err, VIC_NOT_FOUND, 0, "no such %s: %s", store_kind_name(kind), id);
    return object_decode(t, kind, sv_of(id), value, a, record, err);
}

bool store_find_name(struct store_txn *t, enum store_kind kind, const char *name, struct arena *a,
                     const char **id, struct vic_err *err)
{
    struct store_key k;
    MDB_val value;
    bool found;
    if (!kind_ok(kind, err))
        return false;
    key_name(&k, kind, name);
    if (!table_get(t, TABLE_NAME, &k, &value, &found, err))
        return false;
    if (!found || !*name)
        return vic_fail(err, VIC_NOT_FOUND, 0, "no such %s: %s", store_kind_name(kind), name);
    *id = arena_sv(a, sv_make(value.mv_data, value.mv_size));
    return true;
}

bool store_blob_get(struct store_txn *t, const char *digest, struct sv *out, struct vic_err *err)
{
    struct store_key k;
    MDB_val value;
    bool found;
    key_object(&k, (enum store_kind)0, digest);
    if (!table_get(t, TABLE_BLOB, &k, &value, &found, err))
        return false;
    if (!found)
        return vic_fail(err, VIC_NOT_FOUND, 0, "no such blob: %s", digest);
    if (!value_open(key_val(&k), value, out))
        return vic_fail(err, VIC_CORRUPT, 0, "blob %s fails its checksum", digest);
    if (t->write)
        *out = sv_make(arena_copy(t->a, out->p, out->len), out->len);
    return true;
}

size_t store_count(struct store_txn *t, enum store_kind kind)
{
    return (unsigned)kind < STORE_KINDS ? t->state.counts[kind] : 0;
}

uint64_t store_revision(struct store_txn *t)
{
    return t->state.revision;
}

/* --- transactions --------------------------------------------------------------------------------
 */
struct store_txn *store_read(struct store *s, struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = xcalloc(1, sizeof *t);
    t->s = s;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &t->mdb);
    if (rc != 0) {
        t->mdb = NULL;
        store_fail_mdb(s, rc, "begin to read", err);
        return NULL;
    }
    if (!state_load(s, t->mdb, &t->state, err))
        return NULL;
    return TAKE(t);
}

void store_read_end(struct store_txn *t)
{
    if (!t)
        return;
    if (t->mdb)
        mdb_txn_abort(t->mdb);
    free(t);
}
