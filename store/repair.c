/* Mending: the indexes are emptied and built anew from the records, in one transaction.
 *
 * Entries of damaged records are kept as they are, because nothing else knows any more that this
 * name is taken and that image is in use.  Records are never changed and never removed.  Of the
 * log, what lies before the newest damaged entry is dropped: whoever watches from there lists anew.
 */
#include "care.h"

struct kept {
    struct kept *next;
    enum store_table table;
    MDB_val key, value;
};

struct mend {
    struct care *c;
    struct kept *kept;
    struct arena a;
    enum store_table table;
};

static bool keep_entry(struct mend *m, MDB_val key, MDB_val value, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct care_entry e;
    enum care_state state;
    void *record;
    if (!care_entry_of(m->table, key, value, &e))
        return true;
    if (!care_look(m->c, &e, &a, &state, &record, err))
        return false;
    if (state != CARE_DAMAGED)
        return true;
    struct kept *k = ARENA_NEW(&m->a, struct kept);
    *k = (struct kept){m->kept,
                       m->table,
                       {key.mv_size, arena_copy(&m->a, key.mv_data, key.mv_size)},
                       {value.mv_size, arena_copy(&m->a, value.mv_data, value.mv_size)}};
    m->kept = k;
    return true;
}

/* Keeps what must stay of a table and empties it. */
static bool empty_table(struct mend *m, enum store_table table, struct vic_err *err)
{
    struct store_txn *t = m->c->t;
    MDB_cursor *cursor;
    MDB_val key, value;
    m->table = table;
    int rc = mdb_cursor_open(t->mdb, t->s->dbi[table], &cursor);
    if (rc != 0)
        return store_fail_mdb(t->s, rc, "open a cursor", err);
    bool ok = true;
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0 && ok;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        ok = keep_entry(m, key, value, err);
    mdb_cursor_close(cursor);
    if (!ok)
        return false;
    rc = mdb_drop(t->mdb, t->s->dbi[table], 0);
    return rc == 0 || store_fail_mdb(t->s, rc, "empty an index", err);
}

static bool put_kept(struct mend *m, struct vic_err *err)
{
    struct store_txn *t = m->c->t;
    for (struct kept *k = m->kept; k; k = k->next) {
        int rc = mdb_put(t->mdb, t->s->dbi[k->table], &k->key, &k->value, 0);
        if (rc != 0)
            return store_fail_mdb(t->s, rc, "write an index", err);
    }
    return true;
}

struct ref_mend {
    struct care *c;
    enum store_kind kind;
    const char *id;
    struct vic_err *err;
};

static bool put_ref(void *arg, enum store_kind target, const char *id)
{
    struct ref_mend *r = arg;
    struct store_key k;
    key_ref(&k, target, id, r->kind, r->id);
    return table_put(r->c->t, TABLE_REF, &k, (MDB_val){0, NULL}, 0, r->err);
}

static bool put_name(struct care *c, enum store_kind kind, const struct store_meta *m,
                     struct vic_err *err)
{
    struct store_key k;
    MDB_val taken, id = {strlen(m->id), (void *)(uintptr_t)m->id};
    bool found;
    if (m->deleted || !*m->name)
        return true;
    key_name(&k, kind, m->name);
    if (!table_get(c->t, TABLE_NAME, &k, &taken, &found, err))
        return false;
    if (!found)
        return table_put(c->t, TABLE_NAME, &k, id, 0, err);
    care_say(c, "%s %s: its name \"%s\" stays with %.*s", store_kind_name(kind), m->id, m->name,
             (int)taken.mv_size, (const char *)taken.mv_data);
    return true;
}

static bool put_indexes(struct care *c, MDB_val key, MDB_val value, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const unsigned char *p = key.mv_data;
    enum store_kind kind = (enum store_kind)p[0];
    struct vic_err local = {0};
    if (!kind_ok(kind, NULL))
        return true;
    void *record = arena_alloc(&a, store_kind_rec(kind)->size);
    if (!object_decode(c->t, kind, sv_make(p + 1, key.mv_size - 1), value, &a, record, &local))
        return true;
    const struct store_meta *m = meta_of(record);
    struct ref_mend r = {c, kind, m->id, err};
    struct store_key k;
    key_created(&k, kind, m->created, m->id);
    return put_name(c, kind, m, err) && refs_of(kind, record, put_ref, &r) &&
           table_put(c->t, TABLE_CREATED, &k, (MDB_val){0, NULL}, 0, err);
}

static bool cut_log(struct care *c, struct vic_err *err)
{
    struct store_state *state = &c->t->state;
    struct store_key k;
    MDB_stat st;
    int rc = mdb_stat(c->t->mdb, c->t->s->dbi[TABLE_LOG], &st);
    if (rc != 0)
        return store_fail_mdb(c->t->s, rc, "count the log", err);
    if (st.ms_entries != state->revision + 1 - state->log_first)
        c->last_bad_log = state->revision; /* gaps: all of it goes */
    for (; state->log_first <= c->last_bad_log; state->log_first++) {
        key_revision(&k, state->log_first);
        if (!table_del(c->t, TABLE_LOG, &k, err))
            return false;
    }
    return true;
}

bool care_repair(struct care *c, struct vic_err *err)
{
    struct mend m = {.c = c};
    bool ok = empty_table(&m, TABLE_NAME, err) && empty_table(&m, TABLE_CREATED, err) &&
              empty_table(&m, TABLE_REF, err) && put_kept(&m, err) &&
              care_walk(c, TABLE_OBJECT, put_indexes, err) && cut_log(c, err);
    arena_fini(&m.a);
    memcpy(c->t->state.counts, c->counts, sizeof c->counts);
    c->t->dirty = true;
    return ok;
}
