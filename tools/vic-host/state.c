/* The state file: see state.h.  LMDB without a folder of its own, one unnamed table.  Commits are
 * made one at a time under 'lock', which also lets a commit that need not be durable switch fsync
 * off for itself.  A lock on the file (flock on <path>.owner) keeps a second vic-host away, since
 * two would drive the same VMs. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <lmdb.h>

#include "base/mem.h"
#include "base/sync.h"

enum { MAP_SIZE = 1 << 30, MAX_KEY = 511 };

struct state {
    MDB_env *env;
    MDB_dbi dbi;
    int owner_fd;
    struct vic_mutex lock;
};

struct state_change {
    struct state_change *next;
    const char *key;
    struct sv value;
    bool del;
};

static bool lmdb_fail(struct vic_err *err, int rc, const char *what, const char *key)
{
    enum vic_code code = rc == MDB_NOTFOUND                               ? VIC_NOT_FOUND
                         : rc == MDB_MAP_FULL || rc == ENOSPC             ? VIC_NO_SPACE
                         : rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND ? VIC_CORRUPT
                                                                          : VIC_IO;
    return vic_fail(err, code, 0, "state file: %s %s: %s", what, key, mdb_strerror(rc));
}

static bool own(struct state *s, const char *path, struct vic_err *err)
{
    AUTO_FREE char *owner = xasprintf("%s.owner", path);
    s->owner_fd = open(owner, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->owner_fd < 0)
        return vic_fail_errno(err, "open %s", owner);
    if (flock(s->owner_fd, LOCK_EX | LOCK_NB) != 0)
        return vic_fail(err, VIC_BUSY, 0, "state file %s is in use by another vic-host", path);
    return true;
}

static bool open_table(struct state *s, struct vic_err *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return lmdb_fail(err, rc, "begin", "");
    rc = mdb_dbi_open(txn, NULL, 0, &s->dbi);
    if (rc) {
        mdb_txn_abort(txn);
        return lmdb_fail(err, rc, "open table", "");
    }
    rc = mdb_txn_commit(txn);
    return rc ? lmdb_fail(err, rc, "commit", "") : true;
}

static bool open_env(struct state *s, const char *path, struct vic_err *err)
{
    int rc = mdb_env_create(&s->env);
    if (rc)
        return lmdb_fail(err, rc, "create", path);
    rc = mdb_env_set_mapsize(s->env, MAP_SIZE);
    if (!rc)
        rc = mdb_env_open(s->env, path, MDB_NOSUBDIR | MDB_NOTLS, 0600);
    return rc ? lmdb_fail(err, rc, "open", path) : open_table(s, err);
}

struct state *state_open(const char *path, struct vic_err *err)
{
    struct state *s = xcalloc(1, sizeof *s);
    s->owner_fd = -1;
    mutex_init(&s->lock);
    if (own(s, path, err) && open_env(s, path, err))
        return s;
    state_close(s);
    return NULL;
}

void state_close(struct state *s)
{
    if (!s)
        return;
    if (s->env)
        mdb_env_close(s->env);
    if (s->owner_fd >= 0)
        close(s->owner_fd);
    mutex_fini(&s->lock);
    free(s);
}

static void change(struct state_batch *b, const char *key, struct sv value, bool del)
{
    struct state_change *c = ARENA_NEW(&b->a, struct state_change);
    c->key = arena_strdup(&b->a, key);
    c->value = sv_make(del ? "" : arena_sv(&b->a, value), value.len);
    c->del = del;
    if (!b->first)
        b->first = c;
    else
        *b->last = c;
    b->last = &c->next;
}

void state_put(struct state_batch *b, const char *key, struct sv value)
{
    change(b, key, value, false);
}

void state_del(struct state_batch *b, const char *key)
{
    change(b, key, (struct sv){0}, true);
}

void state_batch_fini(struct state_batch *b)
{
    arena_fini(&b->a);
    b->first = NULL;
}

static int apply(struct state *s, MDB_txn *txn, const struct state_change *c)
{
    if (strlen(c->key) > MAX_KEY)
        return MDB_BAD_VALSIZE;
    MDB_val key = {strlen(c->key), (void *)(uintptr_t)c->key};
    MDB_val value = {c->value.len, (void *)(uintptr_t)c->value.p};
    int rc = c->del ? mdb_del(txn, s->dbi, &key, NULL) : mdb_put(txn, s->dbi, &key, &value, 0);
    return c->del && rc == MDB_NOTFOUND ? 0 : rc;
}

static bool commit_locked(struct state *s, const struct state_batch *b, struct vic_err *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return lmdb_fail(err, rc, "begin", "");
    for (const struct state_change *c = b->first; c; c = c->next) {
        rc = apply(s, txn, c);
        if (rc) {
            mdb_txn_abort(txn);
            return lmdb_fail(err, rc, "write", c->key);
        }
    }
    rc = mdb_txn_commit(txn);
    return rc ? lmdb_fail(err, rc, "commit", "") : true;
}

bool state_commit(struct state *s, const struct state_batch *b, bool durable, struct vic_err *err)
{
    if (!b->first)
        return true;
    mutex_lock(&s->lock);
    mdb_env_set_flags(s->env, MDB_NOSYNC, !durable);
    bool good = commit_locked(s, b, err);
    mutex_unlock(&s->lock);
    return good;
}

bool state_get(struct state *s, const char *key, struct arena *a, struct sv *out,
               struct vic_err *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return lmdb_fail(err, rc, "begin", "");
    MDB_val k = {strlen(key), (void *)(uintptr_t)key}, v;
    rc = mdb_get(txn, s->dbi, &k, &v);
    if (!rc)
        *out = sv_make(arena_sv(a, sv_make(v.mv_data, v.mv_size)), v.mv_size);
    mdb_txn_abort(txn);
    return rc ? lmdb_fail(err, rc, "read", key) : true;
}

static int walk(MDB_cursor *cur, const char *prefix,
                void (*each)(void *arg, const char *key, struct sv value), void *arg)
{
    MDB_val k = {strlen(prefix), (void *)(uintptr_t)prefix}, v;
    int rc = mdb_cursor_get(cur, &k, &v, MDB_SET_RANGE);
    while (!rc && sv_starts(sv_make(k.mv_data, k.mv_size), sv_of(prefix))) {
        AUTO_FREE char *key = xstrndup(k.mv_data, k.mv_size);
        each(arg, key, sv_make(v.mv_data, v.mv_size));
        rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

bool state_each(struct state *s, const char *prefix,
                void (*each)(void *arg, const char *key, struct sv value), void *arg,
                struct vic_err *err)
{
    MDB_txn *txn;
    MDB_cursor *cur = NULL;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return lmdb_fail(err, rc, "begin", "");
    rc = mdb_cursor_open(txn, s->dbi, &cur);
    if (!rc)
        rc = walk(cur, prefix, each, arg);
    if (cur)
        mdb_cursor_close(cur);
    mdb_txn_abort(txn);
    return rc ? lmdb_fail(err, rc, "read", prefix) : true;
}
