/* DELETE /containers/{id} and POST /containers/prune.
 *
 * Removing is one commit: the record becomes a tombstone, so the name is free and the id is not
 * found any more; control destroys the VM and the disk afterwards, and the client does not wait for
 * that.  A run must have ended before (its exit is committed): force ends it first.  A run whose VM
 * is not configured yet has nothing to lose and is called off with it. */
#include <signal.h>
#include <stdatomic.h>

#include "docker.h"

/* --- the intent ------------------------------------------------------------------------------ */
struct burial {
    bool force, must_kill;
};

static bool can_go(const struct store_container *k)
{
    switch (k->status.phase) {
    case store_run_phase_CREATED:
    case store_run_phase_EXITED:
    case store_run_phase_DEAD:
    case store_run_phase_COUNT:
        return true;
    case store_run_phase_STARTING:
    case store_run_phase_RUNNING:
    case store_run_phase_RESTARTING:
    case store_run_phase_UNKNOWN:
        break;
    }
    return false;
}

static enum store_verdict bury_decide(struct intent *n, struct store_txn *t, struct arena *a,
                                      struct vic_err *err)
{
    struct burial *b = n->arg;
    struct store_container *k = &n->k;
    (void)t;
    (void)a;
    b->must_kill = false;
    bool unborn = k->status.phase == store_run_phase_STARTING && !k->status.config_acked;
    if (!can_go(k) && !b->force) {
        vic_fail(err, VIC_CONFLICT, 0,
                 "cannot remove container \"/%s\": container is %s: stop the container before "
                 "removing or force remove",
                 k->meta.name,
                 k->status.phase == store_run_phase_STARTING ? "starting" : container_state(k));
        return STORE_REFUSE;
    }
    if (!can_go(k) && !unborn) {
        b->must_kill = true;
        return STORE_KEEP;
    }
    k->meta.deleted = n->now_ns;
    k->meta.generation++;
    k->run.want = store_run_want_STOPPED;
    k->run.stop_seq = k->run.seq;
    n->action = "destroy";
    return STORE_PUT;
}

bool container_bury(struct call *c, const char *id, bool force, bool *must_kill)
{
    struct burial b = {.force = force};
    struct intent n = {.id = id, .decide = bury_decide, .arg = &b};
    if (!intent_write(c, &n))
        return false;
    *must_kill = b.must_kill;
    return true;
}

/* --- delete ---------------------------------------------------------------------------------- */
static enum poll_verdict removed(struct call *c)
{
    call_empty(c, 204);
    return POLL_DONE;
}

static enum poll_verdict remove_poll(struct call *c, void *arg, bool timed_out)
{
    struct stop_order *o = arg;
    bool done, must_kill = false;
    if (!stop_done(c, o, &done))
        return POLL_FAIL;
    if (!done) {
        if (!timed_out)
            return POLL_WAIT;
        vic_fail(&c->err, VIC_INTERNAL, 0,
                 "cannot remove container \"%.200s\": could not kill container", c->param[0]);
        return POLL_FAIL;
    }
    if (!container_bury(c, o->id, true, &must_kill))
        return c->err.code == VIC_NOT_FOUND ? removed(c) : POLL_FAIL; /* --rm was quicker */
    if (!must_kill)
        return removed(c);
    return stop_begin(c, o) ? POLL_WAIT : POLL_FAIL; /* started again meanwhile */
}

bool container_delete(struct call *c)
{
    struct store_container k;
    bool must_kill;
    if (call_flag(c, "link", false))
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "Conflict, cannot remove the default link name of the container");
    if (!get_container(c, c->param[0], &k) ||
        !container_bury(c, k.meta.id, call_flag(c, "force", false), &must_kill))
        return false;
    if (!must_kill)
        return call_empty(c, 204);
    struct stop_order *o = ARENA_NEW(c->a, struct stop_order);
    *o = (struct stop_order){.id = k.meta.id, .signum = SIGKILL};
    if (!stop_begin(c, o))
        return false;
    return call_wait(c, STORE_CONTAINER, o->id, STOP_SLACK_MS, remove_poll, o);
}

/* --- prune ----------------------------------------------------------------------------------- */
struct prune {
    struct arena *a;
    struct filters filters;
    int64_t before_ns;
    struct store_strs ids;
    size_t cap;
};

static bool prune_pick(void *arg, const void *record)
{
    struct prune *p = arg;
    const struct store_container *k = record;
    if (k->meta.deleted || !can_go(k) || container_is_starting(k) ||
        k->meta.created >= p->before_ns || !filter_labels(&p->filters, &k->config.labels))
        return true;
    if (p->ids.n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        const char **more = ARENA_ARRAY(p->a, const char *, p->cap);
        if (p->ids.n)
            memcpy(more, p->ids.v, p->ids.n * sizeof *more);
        p->ids.v = more;
    }
    p->ids.v[p->ids.n++] = arena_strdup(p->a, k->meta.id);
    return true;
}

static bool prune_query(struct call *c, struct prune *p)
{
    static const char *const keys[] = {"until", "label", "label!", NULL};
    p->a = c->a;
    p->before_ns = INT64_MAX;
    if (!filters_read(c, keys, &p->filters))
        return false;
    struct store_strs until = filter_values(&p->filters, "until");
    if (until.n > 1)
        return vic_fail(&c->err, VIC_INVALID, 0, "more than one until filter specified");
    if (until.n && !time_parse(until.v[0], call_now(c), &p->before_ns))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid filter 'until=%.64s'", until.v[0]);
    return true;
}

static bool prune_all(struct call *c, struct prune *p, struct store_strs *gone)
{
    bool must_kill = false;
    {
        AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
        if (!t || !store_list(t, STORE_CONTAINER, "", NULL, prune_pick, p, &c->err))
            return false;
    }
    gone->v = ARENA_ARRAY(c->a, const char *, p->ids.n + 1);
    for (size_t i = 0; i < p->ids.n; i++) {
        if (container_bury(c, p->ids.v[i], false, &must_kill))
            gone->v[gone->n++] = p->ids.v[i];
        else if (c->err.code != VIC_NOT_FOUND && c->err.code != VIC_CONFLICT)
            return false;
    }
    return true;
}

bool container_prune(struct call *c)
{
    struct prune p = {0};
    struct store_strs gone = {NULL, 0};
    if (!prune_query(c, &p))
        return false;
    if (atomic_exchange(&c->api->pruning, true))
        return vic_fail(&c->err, VIC_CONFLICT, 0, "a prune operation is already running");
    bool ok = prune_all(c, &p, &gone);
    atomic_store(&c->api->pruning, false);
    if (!ok)
        return false;
    AUTO_BUF struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    strs_to_json(&w, "ContainersDeleted", &gone);
    json_add_i64(&w, "SpaceReclaimed", 0);
    json_close(&w, '}');
    return call_json(c, 200, &out);
}
