/* POST /containers/{id}/stop and kill.
 *
 * Stopping is an intent: want = stopped for the run that is there, with a signal and a grace.  The
 * guest sends the signals, control powers the VM off when it does not end; the request is parked
 * until the exit is committed.  SIGKILL is such a stop without grace; any other signal of kill goes
 * straight to the guest and is no intent.
 * A start that control has not taken up yet is called off by a stop. */
#include <signal.h>
#include <stdio.h>

#include "base/sig.h"

#include "docker.h"

enum { DEFAULT_STOP_MS = 10000 };

/* --- the intent ------------------------------------------------------------------------------ */
static bool has_run(const struct store_container *k)
{
    return container_is_running(k) || k->status.phase == store_run_phase_STARTING ||
           k->status.phase == store_run_phase_RESTARTING;
}

static const char *number_text(struct arena *a, int n)
{
    return arena_printf(a, "%d", n);
}

static void fill_order(struct stop_order *o, const struct store_container *k)
{
    if (!o->signum)
        o->signum = sig_parse(sv_of(k->config.stop_signal));
    if (!o->signum)
        o->signum = SIGTERM;
    if (o->timeout_ms == STOP_DEFAULT)
        o->timeout_ms =
            k->config.stop_timeout_set ? k->config.stop_timeout * 1000 : DEFAULT_STOP_MS;
    if (o->timeout_ms < 0)
        o->timeout_ms = -1;
}

static enum store_verdict stop_decide(struct intent *n, struct store_txn *t, struct arena *a,
                                      struct vic_err *err)
{
    struct stop_order *o = n->arg;
    struct store_container *k = &n->k;
    (void)t;
    (void)err;
    o->acted = true;
    o->seq = k->status.seq;
    fill_order(o, k);
    if (has_run(k)) {
        bool again = k->run.want == store_run_want_STOPPED && k->run.stop_seq == o->seq &&
                     k->run.stop_signal == (uint32_t)o->signum;
        k->run.stop_seq = o->seq;
        if (!again && container_is_running(k)) {
            n->action = "kill";
            n->key = "signal";
            n->value = number_text(a, o->signum);
        }
    } else if (k->run.want == store_run_want_RUNNING && k->run.seq > k->status.seq) {
        k->run.stop_seq = k->run.seq;
    } else {
        o->acted = false;
        return STORE_KEEP;
    }
    k->run.want = store_run_want_STOPPED;
    k->run.stop_signal = (uint32_t)o->signum;
    k->run.stop_timeout_ms = o->timeout_ms;
    k->meta.generation++;
    return STORE_PUT;
}

bool stop_begin(struct call *c, struct stop_order *o)
{
    struct intent n = {.id = o->id, .decide = stop_decide, .arg = o};
    return intent_write(c, &n);
}

bool stop_done(struct call *c, const struct stop_order *o, bool *done)
{
    struct store_container k;
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!t)
        return false;
    *done = !store_get(t, STORE_CONTAINER, o->id, c->a, &k, &c->err);
    if (*done)
        return c->err.code == VIC_NOT_FOUND;
    *done = k.meta.deleted || k.status.seq > o->seq || !has_run(&k);
    return true;
}

/* --- stop ------------------------------------------------------------------------------------ */
bool stop_query(struct call *c, struct stop_order *o)
{
    int64_t seconds;
    const char *text = call_query(c, "signal");
    if (!call_number(c, "t", INT64_MIN, &seconds))
        return false;
    o->timeout_ms = STOP_DEFAULT;
    if (seconds != INT64_MIN)
        o->timeout_ms = seconds < 0 ? -1 : (seconds > INT32_MAX ? INT32_MAX : seconds) * 1000;
    o->signum = 0;
    if (*text && c->version >= 1042 && !(o->signum = sig_parse(sv_of(text))))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid signal: %.64s", text);
    return true;
}

static int64_t deadline_ms(const struct stop_order *o)
{
    return o->timeout_ms < 0 ? -1 : o->timeout_ms + STOP_SLACK_MS;
}

static enum poll_verdict stop_poll(struct call *c, void *arg, bool timed_out)
{
    struct stop_order *o = arg;
    bool done;
    if (!stop_done(c, o, &done))
        return POLL_FAIL;
    if (done) {
        call_empty(c, 204);
        return POLL_DONE;
    }
    if (!timed_out)
        return POLL_WAIT;
    vic_fail(&c->err, VIC_INTERNAL, 0, "cannot stop container: %s: it did not exit in time",
             c->param[0]);
    return POLL_FAIL;
}

bool container_stop(struct call *c)
{
    struct store_container k;
    struct stop_order *o = ARENA_NEW(c->a, struct stop_order);
    if (!stop_query(c, o) || !get_container(c, c->param[0], &k))
        return false;
    o->id = k.meta.id;
    if (!stop_begin(c, o))
        return false;
    if (!o->acted)
        return call_empty(c, 304);
    return call_wait(c, STORE_CONTAINER, o->id, deadline_ms(o), stop_poll, o);
}

/* --- kill ------------------------------------------------------------------------------------ */
static bool cannot_kill(struct call *c)
{
    return vic_wrap(&c->err, "cannot kill container: %.200s", c->param[0]);
}

static enum store_verdict only_event(struct intent *n, struct store_txn *t, struct arena *a,
                                     struct vic_err *err)
{
    (void)t;
    (void)err;
    n->action = "kill";
    n->key = "signal";
    n->value = number_text(a, *(const int *)n->arg);
    return STORE_KEEP;
}

static bool send_signal(struct call *c, const struct store_container *k, int signum)
{
    struct intent n = {.id = k->meta.id, .decide = only_event, .arg = &signum};
    if (!container_is_running(k))
        return vic_fail(&c->err, VIC_CONFLICT, 0, "container %s is not running", k->meta.id);
    if (!c->api->o.hub)
        return vic_fail(&c->err, VIC_UNAVAILABLE, 0, "guests cannot be reached");
    return hub_signal(c->api->o.hub, k->status.vm, "", signum, &c->err) && intent_write(c, &n) &&
           call_empty(c, 204);
}

static bool kill_hard(struct call *c, const struct store_container *k)
{
    struct stop_order *o = ARENA_NEW(c->a, struct stop_order);
    *o = (struct stop_order){.id = k->meta.id, .signum = SIGKILL};
    if (!stop_begin(c, o))
        return false;
    if (!o->acted)
        return vic_fail(&c->err, VIC_CONFLICT, 0, "container %s is not running", k->meta.id);
    return call_wait(c, STORE_CONTAINER, o->id, deadline_ms(o), stop_poll, o);
}

bool container_kill(struct call *c)
{
    struct store_container k;
    const char *text = call_query(c, "signal");
    int signum = *text ? sig_parse(sv_of(text)) : SIGKILL;
    if (!signum)
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid signal: %.64s", text);
    if (!get_container(c, c->param[0], &k))
        return cannot_kill(c);
    bool ok = signum == SIGKILL ? kill_hard(c, &k) : send_signal(c, &k, signum);
    return ok || cannot_kill(c);
}
