/* Keys, references and indexes.
 *
 * Everything that can be looked up other than by id is a key without a value (or with the id as
 * value, for names) that is put and deleted beside the record, in the same transaction.  A failed
 * key (too long) makes no key at all: key_check turns it into an error before anything is written.
 */
#include "store_priv.h"

/* --- keys ----------------------------------------------------------------------------------------
 */
static void add(struct store_key *k, const void *p, size_t len)
{
    if (len > sizeof k->bytes - k->len) {
        k->failed = true;
        return;
    }
    memcpy(k->bytes + k->len, p, len);
    k->len += len;
}

static void add_byte(struct store_key *k, unsigned c)
{
    unsigned char byte = (unsigned char)c;
    add(k, &byte, 1);
}

static void add_big_endian(struct store_key *k, uint64_t n)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        add_byte(k, (unsigned)(n >> shift) & 0xff);
}

static void add_text(struct store_key *k, const char *s)
{
    add(k, s, strlen(s));
}

static void begin(struct store_key *k)
{
    k->len = 0;
    k->failed = false;
}

void key_object(struct store_key *k, enum store_kind kind, const char *id)
{
    begin(k);
    add_byte(k, (unsigned)kind);
    add_text(k, id);
}

void key_name(struct store_key *k, enum store_kind kind, const char *name)
{
    key_object(k, kind, name);
}

void key_created(struct store_key *k, enum store_kind kind, int64_t created, const char *id)
{
    begin(k);
    add_byte(k, (unsigned)kind);
    add_big_endian(k, (uint64_t)created ^ (uint64_t)1 << 63); /* so that bytes sort as numbers */
    add_text(k, id);
}

void key_ref(struct store_key *k, enum store_kind target_kind, const char *target,
             enum store_kind kind, const char *id)
{
    begin(k);
    add_byte(k, (unsigned)target_kind);
    add_text(k, target);
    add_byte(k, 0);
    if (!kind)
        return;
    add_byte(k, (unsigned)kind);
    add_text(k, id);
}

void key_revision(struct store_key *k, uint64_t revision)
{
    begin(k);
    add_big_endian(k, revision);
}

MDB_val key_val(const struct store_key *k)
{
    /* LMDB takes keys by plain pointer but does not write to them. */
    return (MDB_val){k->len, (void *)(uintptr_t)k->bytes};
}

bool key_begins(MDB_val key, const struct store_key *prefix)
{
    return key.mv_size >= prefix->len && memcmp(key.mv_data, prefix->bytes, prefix->len) == 0;
}

bool key_check(const struct store_key *k, const char *what, struct vic_err *err)
{
    return !k->failed || vic_fail(err, VIC_INVALID, 0, "%s is too long", what);
}

/* --- references ----------------------------------------------------------------------------------
 */
#define STRUCT_CONTAINER struct store_container
#define STRUCT_IMAGE     struct store_image
#define STRUCT_TAG       struct store_tag
#define STRUCT_LAYER     struct store_layer
#define STRUCT_DISK      struct store_disk
#define STRUCT_VM        struct store_vm
#define IS_MANY(type, field)                                                                       \
    _Generic(((type *)0)->field, const char * : false, struct store_strs : true)
#define REFERENCE(kind, field, target)                                                             \
    {STORE_##kind, STORE_##target, offsetof(STRUCT_##kind, field), IS_MANY(STRUCT_##kind, field)},
static const struct store_ref refs[] = {
#include "refs.def"
};

static bool one_ref(enum store_kind target, const char *id, each_ref each, void *arg)
{
    return !id || !*id || each(arg, target, id);
}

bool refs_of(enum store_kind kind, const void *record, each_ref each, void *arg)
{
    for (size_t i = 0; i < sizeof refs / sizeof *refs; i++) {
        const char *field = (const char *)record + refs[i].offset;
        if (refs[i].kind != kind)
            continue;
        if (!refs[i].many) {
            if (!one_ref(refs[i].target, *(const char *const *)(const void *)field, each, arg))
                return false;
            continue;
        }
        const struct store_strs *many = (const void *)field;
        for (size_t j = 0; j < many->n; j++)
            if (!one_ref(refs[i].target, many->v[j], each, arg))
                return false;
    }
    return true;
}

struct ref_job {
    struct store_txn *t;
    enum store_kind kind;
    const char *id;
    struct vic_err *err;
};

/* A new reference wants a target that is there and not on its way out; one that the record had
 * already (its key exists) is not asked again. */
static bool ref_add(void *arg, enum store_kind target, const char *id)
{
    struct ref_job *j = arg;
    struct store_key k, ref;
    MDB_val value;
    bool found;
    key_ref(&ref, target, id, j->kind, j->id);
    if (strlen(id) > STORE_MAX_TARGET || !key_check(&ref, "a reference", j->err))
        return vic_fail(j->err, VIC_INVALID, 0, "%s %s: a reference is too long",
                        store_kind_name(j->kind), j->id);
    if (!table_get(j->t, TABLE_REF, &ref, &value, &found, j->err))
        return false;
    if (found)
        return true;
    key_object(&k, target, id);
    if (!table_get(j->t, TABLE_OBJECT, &k, &value, &found, j->err))
        return false;
    if (!found || value_is_tombstone(value))
        return vic_fail(j->err, VIC_CONFLICT, 0, "%s %s refers to %s %s, which %s",
                        store_kind_name(j->kind), j->id, store_kind_name(target), id,
                        found ? "is being removed" : "does not exist");
    return table_put(j->t, TABLE_REF, &ref, (MDB_val){0, NULL}, 0, j->err);
}

struct ref_search {
    enum store_kind target;
    const char *id;
};

static bool is_other(void *arg, enum store_kind target, const char *id)
{
    const struct ref_search *s = arg;
    return target != s->target || strcmp(id, s->id) != 0;
}

struct ref_drop {
    struct ref_job *job;
    const void *new; /* NULL: drop all */
};

static bool ref_del(void *arg, enum store_kind target, const char *id)
{
    struct ref_drop *d = arg;
    struct ref_search search = {target, id};
    if (d->new && !refs_of(d->job->kind, d->new, is_other, &search))
        return true; /* the new record refers to it too */
    struct store_key ref;
    key_ref(&ref, target, id, d->job->kind, d->job->id);
    return table_del(d->job->t, TABLE_REF, &ref, d->job->err);
}

/* --- indexes -------------------------------------------------------------------------------------
 */
static const char *live_name(const struct store_meta *m)
{
    return m && !m->deleted && m->name ? m->name : "";
}

static bool index_name(struct store_txn *t, enum store_kind kind, const struct store_meta *old,
                       const struct store_meta *new, struct vic_err *err)
{
    struct store_key k;
    const char *before = live_name(old), *after = live_name(new);
    if (strcmp(before, after) == 0)
        return true;
    if (*before) {
        key_name(&k, kind, before);
        if (!table_del(t, TABLE_NAME, &k, err))
            return false;
    }
    if (!*after)
        return true;
    key_name(&k, kind, after);
    if (strlen(after) > STORE_MAX_NAME)
        return vic_fail(err, VIC_INVALID, 0, "the name is longer than %d bytes", STORE_MAX_NAME);
    MDB_val value;
    bool found;
    if (!table_get(t, TABLE_NAME, &k, &value, &found, err))
        return false;
    if (found)
        return vic_fail(err, VIC_CONFLICT, 0, "the name \"%s\" is in use by %s %.*s", after,
                        store_kind_name(kind), (int)value.mv_size, (const char *)value.mv_data);
    MDB_val id = {strlen(new->id), (void *)(uintptr_t) new->id};
    return table_put(t, TABLE_NAME, &k, id, 0, err);
}

static bool index_created(struct store_txn *t, enum store_kind kind, const struct store_meta *old,
                          const struct store_meta *new, struct vic_err *err)
{
    struct store_key k;
    if (old && new && old->created == new->created)
        return true;
    if (old) {
        key_created(&k, kind, old->created, old->id);
        if (!table_del(t, TABLE_CREATED, &k, err))
            return false;
    }
    if (!new)
        return true;
    key_created(&k, kind, new->created, new->id);
    return table_put(t, TABLE_CREATED, &k, (MDB_val){0, NULL}, 0, err);
}

bool index_update(struct store_txn *t, enum store_kind kind, const struct store_meta *old,
                  const struct store_meta *new, struct vic_err *err)
{
    struct ref_job job = {t, kind, old ? old->id : new->id, err};
    struct ref_drop drop = {&job, new};
    return index_name(t, kind, old, new, err) && index_created(t, kind, old, new, err) &&
           (!old || refs_of(kind, old, ref_del, &drop)) &&
           (!new || refs_of(kind, new, ref_add, &job));
}
