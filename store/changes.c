/* The change log and those who watch it.
 *
 * One entry a revision, written in the change's own transaction, so the log can neither miss a
 * change nor tell one that did not happen.  A put's entry tells what it changed (its attributes are
 * paths and new values), bounded, so that 'vic-dump history' and 'trace' can tell a story without
 * the records of the past.  The log keeps 100,000 entries or 7 days, whichever ends first; it is
 * trimmed at each commit by at most twice what it added, so no commit pays for many.
 *
 * An entry: u8 op, u8 kind, i64 time, then texts (u32 size, bytes, NUL): id, actor, request,
 * action; u32 count of attributes, then their keys and values. */
#include "base/mem.h"

#include "store_priv.h"

enum {
    MAX_CHANGES = 16,         /* told of one put */
    MAX_CHANGE_TEXT = 160,    /* bytes of a value told */
    MAX_ATTRIBUTES = 1 << 20, /* bytes of one event's attributes */
};

/* --- what a put changed --------------------------------------------------------------------------
 */
struct collect {
    struct store_map map;
    struct arena *a;
    bool fresh;
};

static bool collect_change(void *arg, const char *path, const char *before, const char *after)
{
    struct collect *c = arg;
    (void)before;
    /* A new record tells its name and its own values, not those of its parts. */
    bool part = strchr(path, '.') && strcmp(path, "Meta.Name") != 0;
    if (strcmp(path, "Meta.Revision") == 0 || (c->fresh && part))
        return true;
    struct sv value = sv_sub(sv_of(after), 0, MAX_CHANGE_TEXT);
    c->map.v[c->map.n++] = (struct store_kv){arena_strdup(c->a, path), arena_sv(c->a, value)};
    return c->map.n < MAX_CHANGES;
}

struct store_map changes_of(enum store_kind kind, const void *old, const void *new, struct arena *a)
{
    const struct store_rec *rec = store_kind_rec(kind);
    struct collect c = {{ARENA_ARRAY(a, struct store_kv, MAX_CHANGES), 0}, a, !old};
    if (!old) {
        void *empty = arena_alloc(a, rec->size);
        store_init(rec, empty);
        old = empty;
    }
    store_diff(rec, old, new, collect_change, &c);
    return c.map;
}

/* --- entries -------------------------------------------------------------------------------------
 */
static void add_text(struct buf *out, const char *s)
{
    size_t len = s ? strlen(s) : 0;
    buf_add_le(out, len, 4);
    buf_add(out, s, len);
    buf_add_c(out, '\0');
}

static void add_attributes(struct buf *out, const struct store_map *m)
{
    size_t at = out->len, n = 0;
    buf_add_le(out, 0, 4);
    for (; n < m->n && out->len < MAX_ATTRIBUTES; n++) {
        add_text(out, m->v[n].k);
        add_text(out, m->v[n].v);
    }
    for (unsigned i = 0; i < 4 && !out->failed; i++)
        out->data[at + i] = (char)(n >> (8 * i) & 0xff);
}

static void entry_encode(const struct store_txn *t, const struct log_record *r, struct buf *out)
{
    buf_add_le(out, 0, HEADER_SIZE);
    buf_add_le(out, (uint64_t)r->op, 1);
    buf_add_le(out, (uint64_t)r->kind, 1);
    buf_add_le(out, (uint64_t)t->now_ns, 8);
    add_text(out, r->id);
    add_text(out, t->note ? t->note->actor : "");
    add_text(out, t->note ? t->note->request : "");
    add_text(out, r->action);
    add_attributes(out, &r->attributes);
}

bool log_append(struct store_txn *t, const struct log_record *r, struct vic_err *err)
{
    AUTO_BUF struct buf out = {0};
    struct store_key k;
    entry_encode(t, r, &out);
    if (out.failed)
        return vic_fail(err, VIC_NO_MEMORY, 0, "no memory for an entry of the change log");
    key_revision(&k, t->state.revision + 1);
    value_seal(key_val(&k), (unsigned char *)out.data, out.len, 0);
    if (!table_put(t, TABLE_LOG, &k, (MDB_val){out.len, out.data}, MDB_APPEND, err))
        return false;
    t->state.revision++;
    t->dirty = true;
    return true;
}

static uint64_t get_le(struct sv *s, size_t bytes, bool *ok)
{
    uint64_t n = 0;
    if (s->len < bytes) {
        *ok = false;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        n |= (uint64_t)(unsigned char)s->p[i] << (8 * i);
    *s = sv_sub(*s, bytes, s->len);
    return n;
}

static const char *get_text(struct sv *s, bool *ok)
{
    uint64_t len = get_le(s, 4, ok);
    if (!*ok || len >= s->len || s->p[len] != '\0') {
        *ok = false;
        return "";
    }
    const char *text = s->p;
    *s = sv_sub(*s, (size_t)len + 1, s->len);
    return text;
}

bool entry_decode(struct sv body, uint64_t revision, struct arena *a, struct store_entry *out)
{
    bool ok = true;
    *out = (struct store_entry){.revision = revision};
    uint64_t op = get_le(&body, 1, &ok);
    out->kind = (enum store_kind)get_le(&body, 1, &ok);
    out->time_ns = (int64_t)get_le(&body, 8, &ok);
    out->id = get_text(&body, &ok);
    out->actor = get_text(&body, &ok);
    out->request = get_text(&body, &ok);
    out->action = get_text(&body, &ok);
    uint64_t n = get_le(&body, 4, &ok);
    if (!ok || op > STORE_OP_EVENT || n > body.len / 10)
        return false;
    out->op = op == STORE_OP_PUT      ? STORE_OP_PUT
              : op == STORE_OP_DELETE ? STORE_OP_DELETE
                                      : STORE_OP_EVENT;
    out->attributes = (struct store_map){ARENA_ARRAY(a, struct store_kv, n + 1), (size_t)n};
    for (size_t i = 0; i < n; i++) {
        out->attributes.v[i].k = get_text(&body, &ok);
        out->attributes.v[i].v = get_text(&body, &ok);
    }
    return ok;
}

bool store_event(struct store_txn *t, enum store_kind kind, const char *id, const char *action,
                 const struct store_map *attributes, struct vic_err *err)
{
    struct store_map none = {NULL, 0};
    struct log_record r = {STORE_OP_EVENT, kind, id, action, attributes ? *attributes : none};
    return must_apply(t, err) && kind_ok(kind, err) && room_left(t, false, err) &&
           log_append(t, &r, err);
}

/* --- reading -------------------------------------------------------------------------------------
 */
static uint64_t revision_of(MDB_val key)
{
    uint64_t n = 0;
    for (size_t i = 0; i < key.mv_size; i++)
        n = n << 8 | ((const unsigned char *)key.mv_data)[i];
    return n;
}

static bool too_old(uint64_t since, struct vic_err *err)
{
    return vic_fail(err, VIC_NOT_FOUND, 0,
                    "the change log does not reach back to revision %llu: list anew",
                    (unsigned long long)since);
}

bool store_entries(struct store_txn *t, uint64_t since, struct arena *a, store_each_entry each,
                   void *arg, struct vic_err *err)
{
    if (since + 1 < t->state.log_first || since > t->state.revision)
        return too_old(since, err);
    MDB_cursor *c;
    int rc = mdb_cursor_open(t->mdb, t->s->dbi[TABLE_LOG], &c);
    if (rc != 0)
        return store_fail_mdb(t->s, rc, "open a cursor", err);
    struct store_key start;
    key_revision(&start, since + 1);
    MDB_val key = key_val(&start), value;
    bool ok = true, more = true;
    rc = mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
    for (; rc == 0 && ok && more; rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
        struct store_entry e;
        struct sv body;
        ok = value_open(key, value, &body) && entry_decode(body, revision_of(key), a, &e);
        more = ok && each(arg, &e);
    }
    mdb_cursor_close(c);
    if (!ok)
        return too_old(since, err); /* a damaged entry: what it told is known from a list only */
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(t->s, rc, "walk the log", err);
}

uint64_t store_log_first(struct store_txn *t)
{
    return t->state.log_first;
}

/* --- retention -----------------------------------------------------------------------------------
 */
static bool is_stale(struct store_txn *t, MDB_val key, MDB_val value)
{
    const unsigned char *p = value.mv_data;
    const int64_t keep_ns = (int64_t)STORE_LOG_DAYS * 24 * 3600 * 1000000000;
    if (t->state.revision - revision_of(key) >= STORE_LOG_ENTRIES)
        return true;
    if (value.mv_size < HEADER_SIZE + 10)
        return true;
    uint64_t time = 0;
    for (unsigned i = 0; i < 8; i++)
        time |= (uint64_t)p[HEADER_SIZE + 2 + i] << (8 * i);
    return (int64_t)time < t->now_ns - keep_ns;
}

bool log_trim(struct store_txn *t, struct vic_err *err)
{
    MDB_cursor *c;
    int rc = mdb_cursor_open(t->mdb, t->s->dbi[TABLE_LOG], &c);
    if (rc != 0)
        return store_fail_mdb(t->s, rc, "open a cursor", err);
    MDB_val key, value;
    uint64_t most = 2 * (t->state.revision - t->began) + 8;
    for (uint64_t i = 0; i < most; i++) {
        rc = mdb_cursor_get(c, &key, &value, MDB_FIRST);
        if (rc != 0 || !is_stale(t, key, value))
            break;
        t->state.log_first = revision_of(key) + 1;
        rc = mdb_cursor_del(c, 0);
        if (rc != 0)
            break;
    }
    mdb_cursor_close(c);
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(t->s, rc, "trim the log", err);
}

/* --- watchers ------------------------------------------------------------------------------------
 */
struct store_watch {
    struct store *s;
    struct store_watch *next;
    void (*changed)(void *arg, uint64_t revision);
    void *arg;
};

struct store_watch *store_watch_new(struct store *s, void (*changed)(void *arg, uint64_t revision),
                                    void *arg)
{
    struct store_watch *w = xcalloc(1, sizeof *w);
    *w = (struct store_watch){s, NULL, changed, arg};
    mutex_lock(&s->watch_lock);
    w->next = s->watches;
    s->watches = w;
    mutex_unlock(&s->watch_lock);
    return w;
}

void store_watch_free(struct store_watch *w)
{
    if (!w)
        return;
    mutex_lock(&w->s->watch_lock);
    struct store_watch **at = &w->s->watches;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    mutex_unlock(&w->s->watch_lock);
    free(w);
}

void watches_call(struct store *s, uint64_t revision)
{
    mutex_lock(&s->watch_lock);
    for (struct store_watch *w = s->watches; w; w = w->next)
        w->changed(w->arg, revision);
    mutex_unlock(&s->watch_lock);
}
