/* Opening and closing; what the store knows about itself.
 *
 * A new store is made in one transaction: either all of meta is there or the folder counts as
 * empty. One process writes: it holds a lock on DIR/writer.lock (flock, so a killed engine's is
 * gone with it), which is asked for before LMDB is opened, because LMDB may not be opened twice in
 * a process. Readers of other processes (vic-dump) take no part in it; LMDB's own lock file
 * registers them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "crc32c.h"
#include "store_priv.h"

static const char *const table_names[TABLES] = {
    [TABLE_META] = "meta",       [TABLE_OBJECT] = "object", [TABLE_NAME] = "name",
    [TABLE_CREATED] = "created", [TABLE_REF] = "ref",       [TABLE_LOG] = "log",
    [TABLE_BLOB] = "blob",
};
static const char magic[] = "vic store";

/* --- state ---------------------------------------------------------------------------------------
 */
void state_encode(const struct store_state *state, struct buf *out)
{
    buf_add_le(out, state->revision, 8);
    buf_add_le(out, state->epoch, 8);
    buf_add_le(out, state->log_first, 8);
    buf_add_le(out, state->commits, 8);
    for (int i = 0; i < STORE_KINDS; i++)
        buf_add_le(out, state->counts[i], 8);
    buf_add_le(out, crc32c(0, out->data, out->len), 4);
}

static uint64_t get_le(const unsigned char *p, size_t bytes)
{
    uint64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n |= (uint64_t)p[i] << (8 * i);
    return n;
}

/* An older version's state has fewer counts: the kinds that it did not know have no records. */
static bool state_decode(MDB_val v, struct store_state *out)
{
    enum { FIXED = 4 };
    const unsigned char *p = v.mv_data;
    *out = (struct store_state){0};
    if (v.mv_size < FIXED * 8 + 4 || (v.mv_size - 4) % 8 != 0 ||
        crc32c(0, p, v.mv_size - 4) != get_le(p + v.mv_size - 4, 4))
        return false;
    out->revision = get_le(p, 8);
    out->epoch = get_le(p + 8, 8);
    out->log_first = get_le(p + 16, 8);
    out->commits = get_le(p + 24, 8);
    for (size_t i = 0; i < STORE_KINDS && i < v.mv_size / 8 - FIXED; i++)
        out->counts[i] = get_le(p + (FIXED + i) * 8, 8);
    return true;
}

static bool meta_get(struct store *s, MDB_txn *mdb, const char *name, MDB_val *out, bool *found,
                     struct vic_err *err)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    int rc = mdb_get(mdb, s->dbi[TABLE_META], &key, out);
    *found = rc == 0;
    return rc == 0 || rc == MDB_NOTFOUND || store_fail_mdb(s, rc, "read its own description", err);
}

static bool meta_put(struct store *s, MDB_txn *mdb, const char *name, const void *p, size_t size,
                     struct vic_err *err)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name}, value = {size, (void *)(uintptr_t)p};
    int rc = mdb_put(mdb, s->dbi[TABLE_META], &key, &value, 0);
    return rc == 0 || store_fail_mdb(s, rc, "write its own description", err);
}

bool state_load(struct store *s, MDB_txn *mdb, struct store_state *out, struct vic_err *err)
{
    MDB_val v;
    bool found;
    if (!meta_get(s, mdb, "state", &v, &found, err))
        return false;
    return (found && state_decode(v, out)) ||
           vic_fail(err, VIC_CORRUPT, 0, "the store's own state is damaged");
}

bool state_save(struct store_txn *t, struct vic_err *err)
{
    AUTO_BUF struct buf out = {0};
    state_encode(&t->state, &out);
    return meta_put(t->s, t->mdb, "state", out.data, out.len, err);
}

/* --- opening: files ------------------------------------------------------------------------------
 */
static bool take_lock(struct store *s, const char *dir, struct vic_err *err)
{
    AUTO_FREE char *path = xasprintf("%s/writer.lock", dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return vic_fail_errno(err, "open %s", path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return vic_fail(err, VIC_BUSY, 0, "store %s is open for writing in another process", dir);
    return vic_fail_errno(err, "lock %s", path);
}

/* A reader with root's rights must not leave a lock file that the engine cannot open. */
static void keep_owner(const char *dir)
{
    AUTO_FREE char *data = xasprintf("%s/data.mdb", dir), *lock = xasprintf("%s/lock.mdb", dir);
    struct stat of_data, of_lock;
    if (geteuid() == 0 && stat(data, &of_data) == 0 && stat(lock, &of_lock) == 0 &&
        of_lock.st_uid != of_data.st_uid && chown(lock, of_data.st_uid, of_data.st_gid) != 0)
        return; /* then only root opens this store */
}

static bool open_env(struct store *s, const char *dir, struct vic_err *err)
{
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (s->read_only ? MDB_RDONLY : 0);
    int rc = mdb_env_create(&s->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, STORE_MAP_SIZE);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, TABLES + 4);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(s->env, STORE_MAX_READERS);
    if (rc == 0)
        rc = mdb_env_open(s->env, dir, flags, 0600);
    if (rc != 0)
        return store_fail_mdb(s, rc, dir, err);
    if (s->read_only)
        keep_owner(dir);
    mdb_reader_check(s->env, NULL);
    return true;
}

/* --- opening: contents ---------------------------------------------------------------------------
 */
static bool open_tables(struct store *s, MDB_txn *mdb, struct vic_err *err)
{
    for (int i = 0; i < TABLES; i++) {
        int rc = mdb_dbi_open(mdb, table_names[i], s->read_only ? 0 : MDB_CREATE, &s->dbi[i]);
        if (rc == MDB_NOTFOUND)
            return vic_fail(err, VIC_CORRUPT, 0, "not a store of ours: no table %s",
                            table_names[i]);
        if (rc != 0)
            return store_fail_mdb(s, rc, table_names[i], err);
    }
    return true;
}

static bool put_secret_check(struct store *s, MDB_txn *mdb, struct vic_err *err)
{
    unsigned char check[SECRET_CHECK_SIZE];
    if (!s->sealed)
        return true;
    if (!secret_make_check(s, check))
        return vic_fail(err, VIC_INTERNAL, 0, "seal the store's secret check");
    return meta_put(s, mdb, "secret", check, sizeof check, err);
}

static bool make_store(struct store *s, MDB_txn *mdb, struct vic_err *err)
{
    unsigned char schema[4] = {STORE_SCHEMA};
    struct store_state state = {.epoch = 1, .log_first = 1};
    AUTO_BUF struct buf bytes = {0};
    state_encode(&state, &bytes);
    random_uuid(s->id);
    s->epoch = state.epoch;
    return meta_put(s, mdb, "magic", magic, sizeof magic - 1, err) &&
           meta_put(s, mdb, "schema", schema, sizeof schema, err) &&
           meta_put(s, mdb, "id", s->id, strlen(s->id), err) &&
           meta_put(s, mdb, "state", bytes.data, bytes.len, err) && put_secret_check(s, mdb, err);
}

static bool check_secret(struct store *s, MDB_txn *mdb, struct vic_err *err)
{
    MDB_val v;
    bool found;
    if (!s->sealed)
        return s->read_only || vic_fail(err, VIC_INVALID, 0, "the store needs the VCH's secret");
    if (!meta_get(s, mdb, "secret", &v, &found, err))
        return false;
    return (found && secret_fits(s, v)) ||
           vic_fail(err, VIC_FORBIDDEN, 0, "the VCH's secret does not fit this store");
}

static bool check_store(struct store *s, MDB_txn *mdb, struct vic_err *err)
{
    MDB_val schema, id;
    bool has_schema, has_id;
    if (!meta_get(s, mdb, "schema", &schema, &has_schema, err) ||
        !meta_get(s, mdb, "id", &id, &has_id, err))
        return false;
    if (!has_schema || !has_id || schema.mv_size != 4 || id.mv_size != sizeof s->id - 1)
        return vic_fail(err, VIC_CORRUPT, 0, "the store's own description is damaged");
    uint64_t version = get_le(schema.mv_data, 4);
    if (version > STORE_SCHEMA)
        return vic_fail(err, VIC_UNSUPPORTED, 0,
                        "the store has schema %llu, this program knows up to %d",
                        (unsigned long long)version, STORE_SCHEMA);
    memcpy(s->id, id.mv_data, id.mv_size);
    struct store_state state;
    if (!state_load(s, mdb, &state, err))
        return false;
    s->epoch = state.epoch;
    return check_secret(s, mdb, err);
}

/* Is it ours?  An LMDB file without our magic is somebody else's, unless it is empty. */
static bool open_contents(struct store *s, MDB_txn *mdb, struct vic_err *err)
{
    MDB_val v;
    MDB_stat st;
    bool found;
    if (!open_tables(s, mdb, err) || !meta_get(s, mdb, "magic", &v, &found, err))
        return false;
    if (found && sv_eq(sv_make(v.mv_data, v.mv_size), sv_of(magic)))
        return check_store(s, mdb, err);
    int rc = mdb_stat(mdb, s->dbi[TABLE_META], &st);
    if (rc != 0)
        return store_fail_mdb(s, rc, "count its entries", err);
    if (found || st.ms_entries || s->read_only)
        return vic_fail(err, VIC_CORRUPT, 0, "not a store of ours");
    if (!s->sealed)
        return vic_fail(err, VIC_INVALID, 0, "a new store needs the VCH's secret");
    return make_store(s, mdb, err);
}

static bool open_in_txn(struct store *s, struct vic_err *err)
{
    MDB_txn *mdb;
    int rc = mdb_txn_begin(s->env, NULL, s->read_only ? MDB_RDONLY : 0, &mdb);
    if (rc != 0)
        return store_fail_mdb(s, rc, "begin", err);
    if (!open_contents(s, mdb, err)) {
        mdb_txn_abort(mdb);
        return false;
    }
    rc = mdb_txn_commit(mdb); /* a reader too: the tables' handles stay open only so */
    return rc == 0 || store_fail_mdb(s, rc, "commit", err);
}

/* Finds damaged records once, so that the engine can say at its start what it lost. */
static bool find_damage(struct store *s, struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    MDB_cursor *c;
    if (!t)
        return false;
    int rc = mdb_cursor_open(t->mdb, s->dbi[TABLE_OBJECT], &c);
    if (rc != 0)
        return store_fail_mdb(s, rc, "open a cursor", err);
    MDB_val key, value;
    for (rc = mdb_cursor_get(c, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
        const unsigned char *p = key.mv_data;
        struct sv body;
        if (!value_open(key, value, &body))
            quarantine(s, (enum store_kind)p[0], sv_make(p + 1, key.mv_size - 1));
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND || store_fail_mdb(s, rc, "walk", err);
}

static void init_locks(struct store *s)
{
    mutex_init(&s->lock);
    mutex_init(&s->watch_lock);
    mutex_init(&s->bad_lock);
    cond_init(&s->wake);
    mutex_lock(&s->lock);
    s->tail = &s->head;
    mutex_unlock(&s->lock);
}

static bool open_all(struct store *s, const struct store_options *o, struct vic_err *err)
{
    struct stat st;
    int fd;
    if (!s->read_only && mkdir(o->dir, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "make %s", o->dir);
    if (!s->read_only && !take_lock(s, o->dir, err))
        return false;
    if (!open_env(s, o->dir, err) || !open_in_txn(s, err))
        return false;
    if (s->read_only)
        return true;
    if (mdb_env_get_fd(s->env, &fd) == 0 && fstat(fd, &st) == 0)
        s->grown = (uint64_t)st.st_size;
    file_grow(s);
    return find_damage(s, err) && writer_start(s, err);
}

struct store *store_open(const struct store_options *o, struct vic_err *err)
{
    struct store *s = xcalloc(1, sizeof *s);
    s->lock_fd = -1;
    s->quota_bytes = o->quota_bytes;
    s->read_only = o->read_only;
    s->clock = o->clock ? o->clock : &vic_clock_real;
    s->log = o->log;
    s->gate = o->gate;
    s->gate_arg = o->gate_arg;
    init_locks(s);
    secret_init(s, o->secret);
    if (open_all(s, o, err))
        return s;
    vic_wrap(err, "open store %s", o->dir);
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    writer_stop(s);
    if (s->env)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    mutex_lock(&s->bad_lock);
    for (size_t i = 0; i < s->bad_count; i++)
        free(s->bad[i]);
    free(s->bad);
    mutex_unlock(&s->bad_lock);
    cond_fini(&s->wake);
    mutex_fini(&s->lock);
    mutex_fini(&s->watch_lock);
    mutex_fini(&s->bad_lock);
    explicit_bzero(s, sizeof *s);
    free(s);
}

/* --- about itself --------------------------------------------------------------------------------
 */
const char *store_id(const struct store *s)
{
    return s->id;
}

uint64_t store_epoch(const struct store *s)
{
    return s->epoch;
}

void store_stats(struct store *s, struct store_stats *out)
{
    struct vic_err err = {0};
    MDB_envinfo info;
    MDB_stat st;
    *out = (struct store_stats){0};
    mutex_lock(&s->lock);
    out->commits = s->commits;
    out->writes = s->writes;
    mutex_unlock(&s->lock);
    mutex_lock(&s->bad_lock);
    out->quarantined = s->bad_count;
    mutex_unlock(&s->bad_lock);
    if (mdb_env_info(s->env, &info) == 0 && mdb_env_stat(s->env, &st) == 0)
        out->file_bytes = (info.me_last_pgno + 1) * (uint64_t)st.ms_psize;
    AUTO_TXN struct store_txn *t = store_read(s, &err);
    if (!t)
        return;
    out->revision = t->state.revision;
    out->log_entries = t->state.revision + 1 - t->state.log_first;
    for (int i = 0; i < STORE_KINDS; i++)
        out->counts[i] = (size_t)t->state.counts[i];
}
