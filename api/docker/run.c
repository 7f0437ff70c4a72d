/* POST /containers/{id}/start and restart.
 *
 * start is an intent: run number seq + 1.  The request is parked until control has said how that
 * run began, so that a command that cannot be executed is told here, in the words that Docker's
 * clients look for.  A start that finds another one under way waits for the same run.
 * restart is a stop, then a start, as one parked request. */
#include <stdio.h>

#include "docker.h"

enum { START_MS = 600000, MAX_START_BODY = 7 };

/* --- the intent ------------------------------------------------------------------------------ */
enum start_state { START_ASKED, START_RUNS, START_LATER };
struct start {
    const char *id;
    uint64_t seq; /* out: the run to wait for */
    enum start_state state;
    bool joined;
};

static enum store_verdict start_decide(struct intent *n, struct store_txn *t, struct arena *a,
                                       struct vic_err *err)
{
    struct start *s = n->arg;
    struct store_container *k = &n->k;
    (void)t;
    (void)a;
    s->state = START_ASKED;
    if (k->status.phase == store_run_phase_DEAD) {
        vic_fail(err, VIC_CONFLICT, 0, "container is marked for removal and cannot be started");
        return STORE_REFUSE;
    }
    if (container_is_running(k)) {
        s->state = START_RUNS;
        return STORE_KEEP;
    }
    if (k->status.phase == store_run_phase_STARTING && k->run.want == store_run_want_STOPPED) {
        s->state = START_LATER; /* that run ends first */
        return STORE_KEEP;
    }
    if (container_is_starting(k)) {
        s->joined = true;
        s->seq = k->status.phase == store_run_phase_STARTING ? k->status.seq : k->run.seq;
        return STORE_KEEP;
    }
    s->seq = (k->run.seq > k->status.seq ? k->run.seq : k->status.seq) + 1;
    k->run = (struct store_run_spec){.seq = s->seq, .want = store_run_want_RUNNING};
    k->meta.generation++;
    return STORE_PUT;
}

static bool start_ask(struct call *c, struct start *s)
{
    struct intent n = {.id = s->id, .decide = start_decide, .arg = s};
    return intent_write(c, &n);
}

/* --- how it began ---------------------------------------------------------------------------- */
static enum poll_verdict launch_failed(struct call *c, const struct store_container *k)
{
    int code = k->status.exit_code;
    bool command = code == 126 || code == 127;
    bool ignored;
    struct vic_err why;
    vic_fail(&why, command ? VIC_INVALID : VIC_INTERNAL, 0, "%s", container_start_error(k, c->a));
    if (k->host_config.auto_remove && !k->meta.deleted)
        (void)!container_bury(c, k->meta.id, true, &ignored);
    c->err = why;
    return POLL_FAIL;
}

static enum poll_verdict called_off(struct call *c)
{
    vic_fail(&c->err, VIC_CONFLICT, 0, "container %.200s was stopped before it started",
             c->param[0]);
    return POLL_FAIL;
}

static enum poll_verdict look_at(struct call *c, const struct store_container *k, uint64_t seq)
{
    const struct store_run_status *r = &k->status;
    if (r->seq > seq || (r->seq == seq && (container_is_running(k) || r->launched)))
        return POLL_DONE;
    if (r->seq == seq && r->phase == store_run_phase_EXITED)
        return r->error[0] ? launch_failed(c, k) : called_off(c);
    if (k->meta.deleted) {
        vic_fail(&c->err, VIC_CONFLICT, 0, "container is marked for removal and cannot be started");
        return POLL_FAIL;
    }
    if (r->seq < seq && (k->run.want != store_run_want_RUNNING || k->run.seq != seq))
        return called_off(c);
    return POLL_WAIT;
}

/* A record that is gone ran, and was removed with --rm. */
static enum poll_verdict start_look(struct call *c, const struct start *s)
{
    struct store_container k, borrowed;
    {
        AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
        if (!t)
            return POLL_FAIL;
        if (!store_get(t, STORE_CONTAINER, s->id, c->a, &borrowed, &c->err))
            return c->err.code == VIC_NOT_FOUND ? POLL_DONE : POLL_FAIL;
        store_copy(store_rec_container(), &borrowed, &k, c->a);
    }
    return look_at(c, &k, s->seq);
}

static enum poll_verdict too_late(struct call *c)
{
    vic_fail(&c->err, VIC_INTERNAL, 0,
             "container %.200s did not start within %d minutes: docker info tells whether vSphere "
             "is reachable",
             c->param[0], START_MS / 60000);
    return POLL_FAIL;
}

/* One look: POLL_DONE when it runs (or has run). */
static enum poll_verdict start_step(struct call *c, struct start *s, bool timed_out)
{
    if (!s->seq || s->state == START_LATER) {
        if (!start_ask(c, s))
            return POLL_FAIL;
        if (s->state == START_RUNS)
            return POLL_DONE;
        if (s->state == START_LATER)
            return timed_out ? too_late(c) : POLL_WAIT;
    }
    enum poll_verdict verdict = start_look(c, s);
    return verdict == POLL_WAIT && timed_out ? too_late(c) : verdict;
}

/* --- start ----------------------------------------------------------------------------------- */
static bool check_body(struct call *c)
{
    bool large = http_content_length(c->req) > MAX_START_BODY ||
                 (http_content_length(c->req) < 0 && http_body(c->req).len > 0);
    if (large)
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "starting container with non-empty request body was deprecated since API "
                        "v1.22 and removed in v1.24");
    if (*call_query(c, "checkpoint"))
        return vic_fail(&c->err, VIC_UNSUPPORTED, 0, "checkpoints are not supported");
    return true;
}

static enum poll_verdict start_poll(struct call *c, void *arg, bool timed_out)
{
    struct start *s = arg;
    enum poll_verdict verdict = start_step(c, s, timed_out);
    if (verdict == POLL_DONE)
        call_empty(c, s->state == START_RUNS || s->joined ? 304 : 204);
    return verdict;
}

bool container_start(struct call *c)
{
    struct store_container k;
    struct start *s = ARENA_NEW(c->a, struct start);
    if (!check_body(c) || !get_container(c, c->param[0], &k))
        return false;
    s->id = k.meta.id;
    return call_wait(c, STORE_CONTAINER, s->id, START_MS, start_poll, s);
}

/* --- restart --------------------------------------------------------------------------------- */
struct restart {
    struct start start;
    struct stop_order stop;
    enum { RESTART_STOP, RESTART_STOPPING, RESTART_START } step;
};

static enum store_verdict restart_event(struct intent *n, struct store_txn *t, struct arena *a,
                                        struct vic_err *err)
{
    (void)t;
    (void)a;
    (void)err;
    n->action = "restart";
    return STORE_KEEP;
}

static enum poll_verdict restart_step(struct call *c, struct restart *r, bool timed_out)
{
    bool done = false;
    if (r->step == RESTART_STOP) {
        if (!stop_begin(c, &r->stop))
            return POLL_FAIL;
        r->step = r->stop.acted ? RESTART_STOPPING : RESTART_START;
    }
    if (r->step == RESTART_STOPPING) {
        if (!stop_done(c, &r->stop, &done))
            return POLL_FAIL;
        if (!done)
            return timed_out ? too_late(c) : POLL_WAIT;
        r->step = RESTART_START;
    }
    return start_step(c, &r->start, timed_out);
}

static enum poll_verdict restart_poll(struct call *c, void *arg, bool timed_out)
{
    struct restart *r = arg;
    struct intent n = {.id = r->start.id, .decide = restart_event};
    enum poll_verdict verdict = restart_step(c, r, timed_out);
    if (verdict == POLL_FAIL) {
        vic_wrap(&c->err, "Cannot restart container %.200s", c->param[0]);
    } else if (verdict == POLL_DONE) {
        (void)!intent_write(c, &n); /* only the event: a container that is gone has none */
        call_empty(c, 204);
    }
    return verdict;
}

bool container_restart(struct call *c)
{
    struct store_container k;
    struct restart *r = ARENA_NEW(c->a, struct restart);
    if (!stop_query(c, &r->stop) || !get_container(c, c->param[0], &k))
        return false;
    r->start.id = r->stop.id = k.meta.id;
    int64_t grace_ms = r->stop.timeout_ms > 0 ? r->stop.timeout_ms : 0;
    return call_wait(c, STORE_CONTAINER, k.meta.id, grace_ms + STOP_SLACK_MS + START_MS,
                     restart_poll, r);
}
