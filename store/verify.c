/* Checking the whole store: every record by checksum and table, every index both ways (what the
 * records want is there; what is there some record wants), every reference, counts, log, blobs.
 *
 * A damaged record cannot say what its index entries are: those that name it count as right. */
#include <stdio.h>

#include "base/mem.h"

#include "care.h"

void care_say(struct care *c, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->problems++;
    if (c->problem)
        c->problem(c->arg, text);
}

bool care_walk(struct care *c, enum store_table table, care_each each, struct vic_err *err)
{
    MDB_cursor *cursor;
    struct store_txn *t = c->t;
    int rc = mdb_cursor_open(t->mdb, t->s->dbi[table], &cursor);
    if (rc != 0)
        return store_fail_mdb(t->s, rc, "open a cursor", err);
    MDB_val key, value;
    bool ok = true;
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0 && ok;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        ok = each(c, key, value, err);
    mdb_cursor_close(cursor);
    if (!ok)
        return false;
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(t->s, rc, "walk", err);
}

/* --- index entries -------------------------------------------------------------------------------
 */
static void copy_text(char out[STORE_MAX_KEY + 1], const void *p, size_t len)
{
    len = len > STORE_MAX_KEY ? STORE_MAX_KEY : len;
    memcpy(out, p, len);
    out[len] = '\0';
}

static bool entry_of_ref(const unsigned char *p, size_t len, struct care_entry *out)
{
    char target[STORE_MAX_KEY + 1];
    const unsigned char *zero = memchr(p, 0, len);
    if (!zero || zero + 2 > p + len)
        return false;
    copy_text(target, p + 1, (size_t)(zero - p) - 1);
    snprintf(out->label, sizeof out->label, "%.20s %.400s", store_kind_name((enum store_kind)p[0]),
             target);
    out->kind = (enum store_kind)zero[1];
    copy_text(out->id, zero + 2, (size_t)(p + len - zero) - 2);
    return true;
}

bool care_entry_of(enum store_table table, MDB_val key, MDB_val value, struct care_entry *out)
{
    enum { ID_AT = 9 };
    const unsigned char *p = key.mv_data;
    if (key.mv_size < 2)
        return false;
    out->kind = (enum store_kind)p[0];
    out->label[0] = '\0';
    if (table == TABLE_NAME) {
        copy_text(out->label, p + 1, key.mv_size - 1);
        copy_text(out->id, value.mv_data, value.mv_size);
    } else if (table == TABLE_CREATED) {
        if (key.mv_size <= ID_AT)
            return false;
        copy_text(out->id, p + ID_AT, key.mv_size - ID_AT);
    } else if (!entry_of_ref(p, key.mv_size, out)) {
        return false;
    }
    key_object(&out->object, out->kind, out->id);
    return kind_ok(out->kind, NULL);
}

bool care_look(struct care *c, const struct care_entry *e, struct arena *a, enum care_state *state,
               void **record, struct vic_err *err)
{
    MDB_val value;
    bool found;
    struct vic_err local = {0};
    *state = CARE_ABSENT;
    if (!table_get(c->t, TABLE_OBJECT, &e->object, &value, &found, err))
        return false;
    if (!found)
        return true;
    *record = arena_alloc(a, store_kind_rec(e->kind)->size);
    bool good = object_decode(c->t, e->kind, sv_of(e->id), value, a, *record, &local);
    *state = good ? CARE_GOOD : CARE_DAMAGED;
    return true;
}

/* --- what records want ---------------------------------------------------------------------------
 */
struct wanted {
    struct care *c;
    enum store_kind kind;
    const char *id;
    struct vic_err *err;
};

static bool want_key(struct wanted *w, enum store_table table, const struct store_key *k,
                     const char *what)
{
    MDB_val value;
    bool found;
    if (!table_get(w->c->t, table, k, &value, &found, w->err))
        return false;
    if (!found)
        care_say(w->c, "%s %s: %s is missing", store_kind_name(w->kind), w->id, what);
    else if (table == TABLE_NAME && !sv_is(sv_make(value.mv_data, value.mv_size), w->id))
        care_say(w->c, "%s %s: its name belongs to %.*s", store_kind_name(w->kind), w->id,
                 (int)value.mv_size, (const char *)value.mv_data);
    return true;
}

static bool want_ref(void *arg, enum store_kind target, const char *id)
{
    struct wanted *w = arg;
    struct store_key k;
    MDB_val value;
    bool found;
    key_object(&k, target, id);
    if (!table_get(w->c->t, TABLE_OBJECT, &k, &value, &found, w->err))
        return false;
    if (!found)
        care_say(w->c, "%s %s refers to %s %s, which does not exist", store_kind_name(w->kind),
                 w->id, store_kind_name(target), id);
    key_ref(&k, target, id, w->kind, w->id);
    return want_key(w, TABLE_REF, &k, "the index entry of a reference");
}

static bool check_record(struct care *c, enum store_kind kind, const char *id, MDB_val value,
                         const void *record, struct vic_err *err)
{
    const struct store_meta *m = meta_of(record);
    struct wanted w = {c, kind, id, err};
    struct store_key k;
    if (strcmp(m->id, id) != 0)
        care_say(c, "%s %s: the record says that it is %s", store_kind_name(kind), id, m->id);
    if (value_is_tombstone(value) != (m->deleted != 0))
        care_say(c, "%s %s: header and record differ about its being deleted",
                 store_kind_name(kind), id);
    c->counts[kind] += !m->deleted;
    key_created(&k, kind, m->created, id);
    if (!want_key(&w, TABLE_CREATED, &k, "the index entry by creation"))
        return false;
    if (!m->deleted && *m->name) {
        key_name(&k, kind, m->name);
        if (!want_key(&w, TABLE_NAME, &k, "the index entry of its name"))
            return false;
    }
    struct vic_err local = {0};
    w.err = &local;
    if (refs_of(kind, record, want_ref, &w))
        return true;
    if (err)
        *err = local;
    return false;
}

static bool check_object(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const unsigned char *p = key.mv_data;
    enum store_kind kind = (enum store_kind)p[0];
    char id[STORE_MAX_KEY + 1];
    copy_text(id, p + 1, key.mv_size - 1);
    if (!kind_ok(kind, NULL)) {
        care_say(c, "a record of the unknown kind %d: %s", (int)kind, id);
        return true;
    }
    void *record = arena_alloc(&a, store_kind_rec(kind)->size);
    struct vic_err local = {0};
    if (object_decode(c->t, kind, sv_of(id), value, &a, record, &local))
        return check_record(c, kind, id, value, record, err);
    care_say(c, "%s", local.msg);
    c->counts[kind] += !value_is_tombstone(value); /* as far as can be known */
    return true;
}

/* --- what indexes hold ---------------------------------------------------------------------------
 */
struct search {
    const char *label;
    bool found;
};

static bool compare_ref(void *arg, enum store_kind target, const char *id)
{
    struct search *s = arg;
    char label[STORE_MAX_KEY + 1];
    snprintf(label, sizeof label, "%.20s %.400s", store_kind_name(target), id);
    s->found = strcmp(label, s->label) == 0;
    return !s->found;
}

/* Does the record want this entry? */
static bool wants(enum store_table table, const struct care_entry *e, MDB_val key,
                  const void *record)
{
    const struct store_meta *m = meta_of(record);
    struct store_key k;
    if (table == TABLE_NAME)
        return !m->deleted && strcmp(m->name, e->label) == 0;
    if (table == TABLE_CREATED) {
        key_created(&k, e->kind, m->created, m->id);
        return !k.failed && key.mv_size == k.len && key_begins(key, &k);
    }
    struct search s = {e->label, false};
    refs_of(e->kind, record, compare_ref, &s);
    return s.found;
}

static const char *const index_of[TABLES] = {
    [TABLE_NAME] = "name", [TABLE_CREATED] = "creation", [TABLE_REF] = "reference"};

static bool check_entry(struct care *c, enum store_table table, MDB_val key, MDB_val value,
                        struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct care_entry e;
    enum care_state state;
    void *record;
    if (!care_entry_of(table, key, value, &e)) {
        care_say(c, "index by %s: an entry cannot be read", index_of[table]);
        return true;
    }
    if (!care_look(c, &e, &a, &state, &record, err))
        return false;
    if (state == CARE_ABSENT || (state == CARE_GOOD && !wants(table, &e, key, record)))
        care_say(c, "index by %s: an entry for %s %s is left over", index_of[table],
                 store_kind_name(e.kind), e.id);
    return true;
}

static bool check_name(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    return check_entry(c, TABLE_NAME, key, value, err);
}

static bool check_created(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    return check_entry(c, TABLE_CREATED, key, value, err);
}

static bool check_ref(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    return check_entry(c, TABLE_REF, key, value, err);
}

/* --- the rest ------------------------------------------------------------------------------------
 */
static bool check_log(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct store_entry e;
    struct sv body;
    uint64_t revision = 0;
    (void)err;
    for (size_t i = 0; i < key.mv_size; i++)
        revision = revision << 8 | ((const unsigned char *)key.mv_data)[i];
    if (value_open(key, value, &body) && entry_decode(body, revision, &a, &e))
        return true;
    care_say(c, "change log: entry %llu is damaged", (unsigned long long)revision);
    c->last_bad_log = revision;
    return true;
}

static bool check_blob(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    struct sv body;
    (void)err;
    if (!value_open(key, value, &body))
        care_say(c, "blob %.*s fails its checksum", (int)key.mv_size - 1,
                 (const char *)key.mv_data + 1);
    return true;
}

static bool check_counts(struct care *c, struct vic_err *err)
{
    MDB_stat st;
    const struct store_state *state = &c->t->state;
    for (int i = 1; i < STORE_KINDS; i++)
        if (c->counts[i] != state->counts[i])
            care_say(c, "%llu %ss are there, %llu are counted", (unsigned long long)c->counts[i],
                     store_kind_name((enum store_kind)i), (unsigned long long)state->counts[i]);
    int rc = mdb_stat(c->t->mdb, c->t->s->dbi[TABLE_LOG], &st);
    if (rc != 0)
        return store_fail_mdb(c->t->s, rc, "count the log", err);
    if (st.ms_entries != state->revision + 1 - state->log_first)
        care_say(c, "the change log has %zu entries for the revisions %llu to %llu", st.ms_entries,
                 (unsigned long long)state->log_first, (unsigned long long)state->revision);
    return true;
}

static bool verify(struct care *c, struct vic_err *err)
{
    return care_walk(c, TABLE_OBJECT, check_object, err) &&
           care_walk(c, TABLE_NAME, check_name, err) &&
           care_walk(c, TABLE_CREATED, check_created, err) &&
           care_walk(c, TABLE_REF, check_ref, err) && care_walk(c, TABLE_LOG, check_log, err) &&
           care_walk(c, TABLE_BLOB, check_blob, err) && check_counts(c, err);
}

/* Verifies again, as the store may have changed since, and mends in the same transaction. */
static bool apply_repair(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct care *asked = arg;
    struct care c = {.t = t, .arg = asked->arg};
    (void)a;
    if (!verify(&c, err))
        return false;
    c.problem = asked->problem; /* only what repair itself finds is told again */
    return care_repair(&c, err);
}

bool store_verify(struct store *s, bool repair, void (*problem)(void *arg, const char *text),
                  void *arg, struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    struct care c = {.t = t, .problem = problem, .arg = arg};
    struct store_change_note note = {"verify", ""};
    if (!t || !verify(&c, err))
        return false;
    store_read_end(TAKE(t));
    return !repair || !c.problems || store_write(s, &note, NULL, apply_repair, &c, err);
}
