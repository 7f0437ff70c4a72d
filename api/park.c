/* Who waits for which record.
 *
 * The store calls 'changed' on its writer thread after each commit; that only starts a job (one at
 * a time, on a thread of its own so that busy handlers delay no wake).  The job reads the change
 * log from where the last one stopped and wakes just the requests that wait for the records named
 * there: 500 parked clients cost nothing while other records change.  When the log no longer
 * reaches back that far everyone is woken and looks for himself.
 *
 * A watcher is in the table before its owner reads the state that it waits for, and a wake that
 * comes too early is only a look too many; so no change is missed. */
#include <sys/queue.h>

#include "api_priv.h"

enum { BUCKETS = 1024, MAX_ID = 80 };

struct park_watch {
    LIST_ENTRY(park_watch) link;
    struct park *park;
    enum store_kind kind;
    char id[MAX_ID]; /* empty: everything */
    struct http_waker *waker;
};
LIST_HEAD(watch_list, park_watch);

struct park {
    struct store *store;
    struct vic_log *log;
    struct vic_pool *pool; /* one thread */
    struct store_watch *watch;
    struct vic_mutex lock;
    struct watch_list buckets[BUCKETS] VIC_GUARDED; /* by lock */
    struct watch_list all VIC_GUARDED;              /* by lock */
    size_t count VIC_GUARDED;                       /* by lock */
    bool queued VIC_GUARDED;                        /* by lock: a job will look at what is new */
    uint64_t seen;                                  /* owned by the job */
};

static unsigned bucket_of(enum store_kind kind, const char *id)
{
    uint32_t h = 2166136261U ^ (uint32_t)kind;
    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 16777619U;
    return h % BUCKETS;
}

static void wake_list(struct watch_list *l, enum store_kind kind, const char *id)
{
    struct park_watch *w;
    LIST_FOREACH (w, l, link) {
        if (!id || (w->kind == kind && strcmp(w->id, id) == 0))
            http_wake(w->waker);
    }
}

static bool wake_entry(void *arg, const struct store_entry *e)
{
    struct park *p = arg;
    p->seen = e->revision;
    mutex_lock(&p->lock);
    wake_list(&p->buckets[bucket_of(e->kind, e->id)], e->kind, e->id);
    mutex_unlock(&p->lock);
    return true;
}

static void wake_all(struct park *p)
{
    mutex_lock(&p->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        wake_list(&p->buckets[i], 0, NULL);
    mutex_unlock(&p->lock);
}

static void look(void *arg)
{
    struct park *p = arg;
    struct vic_err err = {0};
    AUTO_ARENA struct arena a = {0};
    mutex_lock(&p->lock);
    p->queued = false;
    bool idle = p->count == 0;
    mutex_unlock(&p->lock);
    AUTO_TXN struct store_txn *t = store_read(p->store, &err);
    if (t && (idle || store_entries(t, p->seen, &a, wake_entry, p, &err))) {
        p->seen = store_revision(t);
    } else {
        if (err.code != VIC_NOT_FOUND)
            log_warn(p->log, "park.read", KV_ERR(&err));
        p->seen = t ? store_revision(t) : p->seen;
        wake_all(p);
    }
    mutex_lock(&p->lock);
    wake_list(&p->all, 0, NULL);
    mutex_unlock(&p->lock);
}

static void changed(void *arg, uint64_t revision)
{
    struct park *p = arg;
    (void)revision;
    mutex_lock(&p->lock);
    bool start = !p->queued;
    p->queued = true;
    mutex_unlock(&p->lock);
    if (start)
        pool_run(p->pool, look, p);
}

struct park *park_new(struct store *s, struct vic_log *log)
{
    struct park *p = xcalloc(1, sizeof *p);
    struct store_stats now;
    p->store = s;
    p->log = log;
    mutex_init(&p->lock);
    p->pool = pool_new("api-park", 1, 0);
    store_stats(s, &now);
    p->seen = now.revision;
    p->watch = store_watch_new(s, changed, p);
    return p;
}

void park_free(struct park *p)
{
    if (!p)
        return;
    store_watch_free(p->watch);
    pool_free(p->pool);
    mutex_fini(&p->lock);
    free(p);
}

struct park_watch *park_watch(struct call *c, enum store_kind kind, const char *id)
{
    struct park *p = c->api->park;
    struct park_watch *w = xcalloc(1, sizeof *w);
    w->park = p;
    w->kind = kind;
    w->waker = http_waker(c->req);
    if (id)
        memcpy(w->id, id, strnlen(id, MAX_ID - 1));
    mutex_lock(&p->lock);
    if (id)
        LIST_INSERT_HEAD(&p->buckets[bucket_of(kind, w->id)], w, link);
    else
        LIST_INSERT_HEAD(&p->all, w, link);
    p->count++;
    mutex_unlock(&p->lock);
    return w;
}

void park_unwatch(struct park_watch *w)
{
    if (!w)
        return;
    mutex_lock(&w->park->lock);
    LIST_REMOVE(w, link);
    w->park->count--;
    mutex_unlock(&w->park->lock);
    http_waker_free(w->waker);
    free(w);
}

/* --- parked calls ---------------------------------------------------------------------------- */
struct parked { /* in the request's arena */
    struct call *call;
    struct park_watch *watch;
    call_poll poll;
    void *arg;
};

static bool on_poll(void *arg, struct http_req *r, bool timed_out)
{
    struct parked *p = arg;
    (void)r;
    switch (p->poll(p->call, p->arg, timed_out)) {
    case POLL_DONE:
        return true;
    case POLL_FAIL:
        call_fail(p->call);
        return true;
    case POLL_WAIT:
        break;
    }
    if (!timed_out)
        return false;
    vic_fail(&p->call->err, VIC_TIMEOUT, 0, "not done within its deadline");
    call_fail(p->call);
    return true;
}

static void on_drop(void *arg)
{
    struct parked *p = arg;
    park_unwatch(p->watch);
}

bool call_wait(struct call *c, enum store_kind kind, const char *id, int64_t deadline_ms,
               call_poll poll, void *arg)
{
    struct parked *p = ARENA_NEW(c->a, struct parked);
    *p = (struct parked){c, park_watch(c, kind, id), poll, arg};
    http_park(c->req, deadline_ms, on_poll, on_drop, p);
    return true;
}
