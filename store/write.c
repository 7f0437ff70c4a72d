/* The writer thread: group commit.
 *
 * A job waits on its caller's stack.  The writer takes all jobs there are (at most STORE_MAX_BATCH)
 * and runs them one behind the other in one transaction: check, and unless that refuses, apply.
 * While it waits for the disk in the commit, the next batch gathers; so with many callers one sync
 * carries many changes, and with one caller nothing waits for company.
 *
 * A refused check has written nothing and spoils nothing.  A failed apply (or commit) may have
 * written half of its work: the transaction is thrown away and every job of the batch runs again,
 * alone, so that only the one at fault fails.  Hence check and apply may run more than once, and
 * each run starts from the store as it is then.
 *
 * Order: a job is answered after its commit is durable and before the watchers are called. */
#include <errno.h>
#include <fcntl.h>

#include "base/mem.h"

#include "store_priv.h"

struct write_job {
    struct write_job *next;
    const struct store_change_note *note;
    store_check check;
    store_apply apply;
    void *arg;
    struct vic_err err; /* of the last run */
    bool ok;
    bool done VIC_GUARDED; /* by the store's lock */
    struct vic_cond finished;
};

enum outcome { REFUSED, FAILED, APPLIED };

/* --- one transaction -----------------------------------------------------------------------------
 */
static bool begin_write(struct store *s, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    *t = (struct store_txn){.s = s, .write = true, .a = a, .now_ns = clock_wall_ns(s->clock)};
    int rc = mdb_txn_begin(s->env, NULL, 0, &t->mdb);
    if (rc != 0) {
        t->mdb = NULL;
        return store_fail_mdb(s, rc, "begin to write", err);
    }
    if (!state_load(s, t->mdb, &t->state, err))
        return false;
    t->began = t->state.revision;
    return true;
}

static void abort_write(struct store_txn *t)
{
    if (t->mdb)
        mdb_txn_abort(t->mdb);
    t->mdb = NULL;
}

static enum outcome run_job(struct store_txn *t, struct write_job *j)
{
    j->err = (struct vic_err){0};
    t->note = j->note;
    j->ok = !j->check || j->check(j->arg, t, t->a, &j->err);
    if (!j->ok)
        return REFUSED;
    t->applying = true;
    j->ok = j->apply(j->arg, t, t->a, &j->err);
    t->applying = false;
    return j->ok ? APPLIED : FAILED;
}

static bool is_killed(struct store *s)
{
    mutex_lock(&s->lock);
    bool killed = s->killed;
    mutex_unlock(&s->lock);
    return killed;
}

static bool fail_killed(struct vic_err *err)
{
    return vic_fail(err, VIC_CANCELED, 0, "the store does not write any more");
}

/* Asks the failpoint; after a no the store is as dead as a killed engine's. */
static bool pass_gate(struct store *s, struct vic_err *err)
{
    if (!s->gate || s->gate(s->gate_arg, ++s->gate_count))
        return true;
    mutex_lock(&s->lock);
    s->killed = true;
    mutex_unlock(&s->lock);
    return fail_killed(err);
}

/* Makes it durable.  Nothing written: nothing to do. */
static bool commit(struct store_txn *t, uint64_t writes, struct vic_err *err)
{
    struct store *s = t->s;
    if (!t->dirty) {
        abort_write(t);
        return true;
    }
    t->state.commits++;
    bool ok = log_trim(t, err) && state_save(t, err) && pass_gate(s, err);
    if (!ok) {
        abort_write(t);
        return false;
    }
    int rc = mdb_txn_commit(TAKE(t->mdb));
    if (rc != 0)
        return store_fail_mdb(s, rc, "commit", err);
    mutex_lock(&s->lock);
    s->commits++;
    s->writes += writes;
    mutex_unlock(&s->lock);
    return true;
}

/* --- batches -------------------------------------------------------------------------------------
 */
/* Runs jobs in one transaction; false: none of it happened. */
static bool run_together(struct store *s, struct write_job *jobs, uint64_t *revision,
                         struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct store_txn t;
    uint64_t writes = 0;
    bool ok = begin_write(s, &t, &a, err);
    for (struct write_job *j = jobs; j && ok; j = j->next) {
        enum outcome o = run_job(&t, j);
        writes += o == APPLIED;
        if (o == FAILED) {
            ok = false;
            if (err)
                *err = j->err;
        }
    }
    if (!ok) {
        abort_write(&t);
        return false;
    }
    uint64_t newest = t.state.revision;
    bool dirty = t.dirty;
    if (!commit(&t, writes, err))
        return false;
    *revision = dirty ? newest : 0;
    return true;
}

static void run_alone(struct store *s, struct write_job *j, uint64_t *revision)
{
    struct write_job *next = TAKE(j->next);
    struct vic_err err = {0};
    uint64_t newest = 0;
    if (is_killed(s)) {
        j->ok = fail_killed(&j->err);
    } else if (!run_together(s, j, &newest, &err)) {
        j->ok = false;
        j->err = err;
    }
    if (newest)
        *revision = newest;
    j->next = next;
}

/* Returns the newest revision when something was committed, else 0. */
static uint64_t run_batch(struct store *s, struct write_job *jobs)
{
    uint64_t revision = 0;
    struct vic_err err = {0};
    if (!is_killed(s) && run_together(s, jobs, &revision, &err))
        return revision;
    if (jobs->next && !is_killed(s))
        log_warn(s->log, "store.batch_retry", KV_ERR(&err));
    for (struct write_job *j = jobs; j; j = j->next)
        run_alone(s, j, &revision);
    return revision;
}

static void answer(struct store *s, struct write_job *jobs)
{
    mutex_lock(&s->lock);
    while (jobs) {
        struct write_job *next = jobs->next;
        jobs->done = true;
        cond_signal(&jobs->finished); /* from here on the job is its caller's again */
        jobs = next;
    }
    mutex_unlock(&s->lock);
}

/* Waits for work; NULL when the store stops and all is done. */
static struct write_job *next_batch(struct store *s)
{
    mutex_lock(&s->lock);
    while (!s->head && !s->stopping)
        cond_wait(&s->wake, &s->lock);
    struct write_job *first = s->head, **at = &first;
    for (int n = 0; *at && n < STORE_MAX_BATCH; n++)
        at = &(*at)->next;
    s->head = *at;
    *at = NULL;
    if (!s->head)
        s->tail = &s->head;
    mutex_unlock(&s->lock);
    return first;
}

/* Space is taken ahead of need and in steps: a full disk shows before a commit needs the space, and
 * a commit's sync seldom has to write the file's new size. */
void file_grow(struct store *s)
{
    MDB_envinfo info;
    MDB_stat st;
    int fd;
    if (mdb_env_info(s->env, &info) != 0 || mdb_env_stat(s->env, &st) != 0 ||
        mdb_env_get_fd(s->env, &fd) != 0)
        return;
    uint64_t need = (info.me_last_pgno + 1) * (uint64_t)st.ms_psize;
    if (need + STORE_GROW / 4 < s->grown)
        return;
    uint64_t want = (need / STORE_GROW + 1) * STORE_GROW;
    if (want - need < STORE_GROW / 4)
        want += STORE_GROW;
    s->grown = want;
    if (fallocate(fd, 0, 0, (off_t)want) != 0)
        log_warn(s->log, "store.preallocate", KV_U("bytes", want), KV_I("errno", errno));
}

static void *writer_main(void *arg)
{
    struct store *s = arg;
    enum { READER_CHECK = 1000 }; /* batches between looks for readers that died */
    for (uint64_t n = 1;; n++) {
        struct write_job *jobs = next_batch(s);
        if (!jobs)
            return NULL;
        uint64_t revision = run_batch(s, jobs);
        answer(s, jobs);
        if (revision)
            watches_call(s, revision);
        file_grow(s);
        if (n % READER_CHECK == 0)
            mdb_reader_check(s->env, NULL);
    }
}

bool writer_start(struct store *s, struct vic_err *err)
{
    int rc = pthread_create(&s->writer, NULL, writer_main, s);
    if (rc != 0)
        return vic_fail(err, VIC_IO, rc, "start the store's writer");
    pthread_setname_np(s->writer, "store-writer");
    s->has_writer = true;
    return true;
}

void writer_stop(struct store *s)
{
    if (!s->has_writer)
        return;
    mutex_lock(&s->lock);
    s->stopping = true;
    cond_signal(&s->wake);
    mutex_unlock(&s->lock);
    pthread_join(s->writer, NULL);
}

/* --- the door ------------------------------------------------------------------------------------
 */
bool store_write(struct store *s, const struct store_change_note *note, store_check check,
                 store_apply apply, void *arg, struct vic_err *err)
{
    if (!s->has_writer)
        return vic_fail(err, VIC_FORBIDDEN, 0, "the store is open for reading only");
    if (pthread_equal(pthread_self(), s->writer))
        return vic_fail(err, VIC_INTERNAL, 0, "the store's writer cannot wait for itself");
    struct write_job j = {.note = note, .check = check, .apply = apply, .arg = arg};
    cond_init(&j.finished);
    mutex_lock(&s->lock);
    *s->tail = &j;
    s->tail = &j.next;
    cond_signal(&s->wake);
    while (!j.done)
        cond_wait(&j.finished, &s->lock);
    mutex_unlock(&s->lock);
    cond_fini(&j.finished);
    if (!j.ok && err)
        *err = j.err;
    return j.ok;
}

struct update_job {
    enum store_kind kind;
    const char *id;
    store_change change;
    void *arg;
    enum store_verdict verdict;
    void *record;
};

static bool update_check(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct update_job *u = arg;
    struct vic_err local = {0};
    if (!kind_ok(u->kind, err))
        return false;
    const struct store_rec *rec = store_kind_rec(u->kind);
    u->record = arena_alloc(a, rec->size);
    if (!store_get(t, u->kind, u->id, a, u->record, &local)) {
        if (local.code != VIC_NOT_FOUND) {
            if (err)
                *err = local;
            return false;
        }
        store_init(rec, u->record);
    }
    u->verdict = u->change(u->arg, t, a, u->record, err);
    if (u->verdict != STORE_REFUSE)
        return true;
    return err->code != VIC_OK ? false
                               : vic_fail(err, VIC_INTERNAL, 0, "a change of %s %s was refused",
                                          store_kind_name(u->kind), u->id);
}

static bool update_apply(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct update_job *u = arg;
    (void)a;
    if (u->verdict == STORE_PUT)
        return store_put(t, u->kind, u->record, err);
    return u->verdict != STORE_DELETE || store_del(t, u->kind, u->id, err);
}

bool store_update(struct store *s, const struct store_change_note *note, enum store_kind kind,
                  const char *id, store_change change, void *arg, struct vic_err *err)
{
    struct update_job u = {.kind = kind, .id = id, .change = change, .arg = arg};
    return store_write(s, note, update_check, update_apply, &u, err);
}
