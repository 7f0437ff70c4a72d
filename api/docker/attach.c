/* POST /containers/{id}/attach: a hijacked connection; and resize.
 *
 * Output is a reader of the container's log from the moment of the attach on (or from its beginning
 * with logs=1), so an attach before the start misses nothing.  It ends when the run that goes on
 * now, or else the next one, has ended.  Input goes to a stream of the hub, opened when the run's
 * process is there; until then what the client typed stays in its socket.
 *
 *   sink (loop thread)        fill (pool thread)
 *   typed bytes -> detach     state -> opens the stdin stream once the run runs
 *   keys -> stream credit     log -> client; end of the run -> END */
#include "output.h"

enum { FILL_BYTES = 49152 };

struct attach {
    struct call *c;
    struct output o;
    const char *id;
    uint64_t seq; /* the run it is about; 0 = the next one after 'seen' */
    uint64_t seen;
    bool stdin_wanted, stdin_once, output_wanted, stream, use_keys;
    struct detach_keys keys;
    struct park_watch *park;
    struct logs_watch *watch;
    struct http_waker *waker;
    struct vic_mutex lock;
    /* guarded: lock */
    struct hub_stream *in VIC_GUARDED;
    struct buf held
        VIC_GUARDED; /* bytes released by the detach keys, not yet taken by the stream */
    bool eof VIC_GUARDED, detached VIC_GUARDED, in_failed VIC_GUARDED;
};

static void wake_output(void *arg)
{
    http_wake(((struct attach *)arg)->waker);
}

static void wake_input(void *arg)
{
    struct attach *t = arg;
    http_wake_input(t->waker);
    http_wake(t->waker);
}

/* --- events ---------------------------------------------------------------------------------- */
struct attach_event {
    const char *id, *action;
};

static bool apply_event(void *arg, struct store_txn *txn, struct arena *a, struct vic_err *err)
{
    const struct attach_event *e = arg;
    struct store_container k;
    return store_get(txn, STORE_CONTAINER, e->id, a, &k, err) &&
           event_container(txn, a, &k, err, e->action, NULL);
}

static void tell(struct call *c, const char *id, const char *action)
{
    struct attach_event e = {id, action};
    struct vic_err err;
    if (!store_write(c->api->o.store, &c->note, NULL, apply_event, &e, &err))
        log_warn(c->api->o.log, "event.lost", KV_S("action", action), KV_ERR(&err));
}

/* --- input ----------------------------------------------------------------------------------- */
static void flush_held(struct attach *t) VIC_REQUIRES(t->lock)
{
    if (t->held.len)
        buf_consume(&t->held, hub_stream_write(t->in, buf_sv(&t->held)));
}

/* Loop thread. */
static size_t typed(void *arg, struct sv bytes)
{
    struct attach *t = arg;
    size_t taken = 0;
    mutex_lock(&t->lock);
    if (!t->stdin_wanted || t->in_failed || t->detached) {
        taken = bytes.len; /* nobody reads it */
    } else if (t->in) {
        flush_held(t);
        if (t->held.len) {
            taken = 0;
        } else if (t->use_keys) {
            taken = bytes.len < 4096 ? bytes.len : 4096;
            t->detached = detach_take(&t->keys, sv_sub(bytes, 0, taken), &t->held);
            flush_held(t);
        } else {
            taken = hub_stream_write(t->in, bytes);
        }
    }
    bool detached = t->detached;
    mutex_unlock(&t->lock);
    if (detached)
        http_wake(t->waker);
    return taken;
}

static void end_input(struct attach *t) VIC_REQUIRES(t->lock)
{
    if (t->in && t->eof && t->stdin_once && !t->held.len)
        hub_stream_eof(t->in);
}

static void typed_eof(void *arg)
{
    struct attach *t = arg;
    mutex_lock(&t->lock);
    t->eof = true;
    end_input(t);
    mutex_unlock(&t->lock);
}

static const struct http_sink sink = {typed, typed_eof};

/* The run's process is there: open its stdin, once. */
static void open_input(struct attach *t, const struct store_container *k)
{
    struct vic_err err;
    mutex_lock(&t->lock);
    bool open = t->stdin_wanted && !t->in && !t->in_failed;
    mutex_unlock(&t->lock);
    if (!open || !container_is_running(k))
        return;
    struct hub_stream *in =
        hub_open(t->c->api->o.hub, k->status.vm, SV("{\"kind\":\"stdin\"}"), wake_input, t, &err);
    if (!in)
        return; /* the guest is away: the record's next change brings us here again */
    mutex_lock(&t->lock);
    t->in = in;
    end_input(t);
    mutex_unlock(&t->lock);
    http_wake_input(t->waker);
}

/* Held bytes and the end wait for credit; a stream that was refused takes nothing more.  True: the
 * client has detached, and what it typed before has gone out as far as it can: a stream that is
 * being opened is waited for, a process that does not read is not. */
static bool push_input(struct attach *t)
{
    struct hub_stream_status st = {.state = HUB_CLOSED};
    mutex_lock(&t->lock);
    if (t->in) {
        hub_stream_status(t->in, &st);
        if (st.state == HUB_CLOSED)
            t->in_failed = true;
        else
            flush_held(t);
        end_input(t);
    }
    bool detached = t->detached && !(t->held.len && st.state == HUB_OPENING);
    mutex_unlock(&t->lock);
    return detached;
}

/* --- output ---------------------------------------------------------------------------------- */
/* Reads the record; true when the run that this attach is about has ended. */
static bool look(struct attach *t)
{
    struct store_container k;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *txn = store_read(t->c->api->o.store, &err);
    if (!txn || !store_get(txn, STORE_CONTAINER, t->id, &a, &k, &err))
        return true;
    if (!t->seq && k.status.seq > t->seen)
        t->seq = k.status.seq;
    if (!t->seq)
        return k.meta.deleted;
    if (output_run_over(&k, t->seq))
        return true;
    if (k.status.seq == t->seq)
        open_input(t, &k);
    return false;
}

static enum http_fill fill(void *arg, struct buf *out)
{
    struct attach *t = arg;
    struct vic_err err = {0};
    bool end = true;
    /* First the state, then the log: output that came before the end is readable by now. */
    bool over = look(t) || !t->stream;
    if (push_input(t)) {
        tell(t->c, t->id, "detach");
        return HTTP_END;
    }
    if (t->output_wanted && !output_fill(&t->o, out, FILL_BYTES, &end, &err))
        return HTTP_END;
    if (!end)
        return HTTP_MORE;
    return over ? HTTP_END : HTTP_WAIT;
}

static void release(void *arg)
{
    struct attach *t = arg;
    mutex_lock(&t->lock);
    struct hub_stream *in = t->in;
    t->in = NULL;
    mutex_unlock(&t->lock);
    hub_stream_free(in);
    logs_watch_free(t->watch);
    park_unwatch(t->park);
    http_waker_free(t->waker);
    output_close(&t->o);
    buf_fini(&t->held);
    mutex_fini(&t->lock);
}

static const struct http_source source = {fill, release};

/* --- the calls ------------------------------------------------------------------------------- */
static bool prepare(struct call *c, struct attach *t, const struct store_container *k)
{
    bool stream = t->stream = call_flag(c, "stream", false);
    t->o.out = call_flag(c, "stdout", false);
    t->o.err = call_flag(c, "stderr", false);
    t->o.tty = k->config.tty;
    t->output_wanted = (t->o.out || t->o.err) && (stream || call_flag(c, "logs", false));
    t->stdin_wanted = call_flag(c, "stdin", false) && k->config.open_stdin && stream;
    t->stdin_once = k->config.stdin_once;
    t->use_keys = k->config.tty && t->stdin_wanted;
    t->id = k->meta.id;
    t->seen = k->status.seq;
    t->seq = output_run(k);
    if (!detach_parse(call_query(c, "detachKeys"), &t->keys))
        return vic_fail(&c->err, VIC_INVALID, 0, "Invalid detach keys (%s) provided",
                        call_query(c, "detachKeys"));
    if (!output_open(c, k->meta.id, &t->o))
        return false;
    if (!call_flag(c, "logs", false))
        logs_seek(t->o.reader, logs_end(c->api->o.logs, k->meta.id));
    return true;
}

bool container_attach(struct call *c)
{
    struct store_container k;
    struct attach *t = ARENA_NEW(c->a, struct attach);
    *t = (struct attach){.c = c};
    if (!get_container(c, c->param[0], &k) || !prepare(c, t, &k))
        return false;
    mutex_init(&t->lock);
    t->waker = http_waker(c->req);
    t->park = park_watch(c, STORE_CONTAINER, k.meta.id);
    t->watch = logs_watch_new(c->api->o.logs, k.meta.id, wake_output, t);
    tell(c, k.meta.id, "attach");
    http_hijack(c->req, output_type(c, k.config.tty), &source, &sink, t);
    return true;
}

static void ignore_wake(void *arg)
{
    (void)arg;
}

bool container_resize(struct call *c)
{
    struct store_container k;
    int64_t rows, cols;
    if (!call_number(c, "h", 0, &rows) || !call_number(c, "w", 0, &cols) ||
        !get_container(c, c->param[0], &k))
        return false;
    if (rows < 0 || rows > UINT16_MAX || cols < 0 || cols > UINT16_MAX)
        return vic_fail(&c->err, VIC_INVALID, 0, "h and w: expected 0 to 65535");
    if (!container_is_running(&k))
        return vic_fail(&c->err, VIC_CONFLICT, 0, "container %s is not running", k.meta.id);
    /* A stream that only brings the size: OPEN has it, so it may be closed at once. */
    const char *open = arena_printf(c->a, "{\"kind\":\"stdin\",\"rows\":%lld,\"cols\":%lld}",
                                    (long long)rows, (long long)cols);
    struct hub_stream *s =
        hub_open(c->api->o.hub, k.status.vm, sv_of(open), ignore_wake, NULL, &c->err);
    if (!s)
        return false;
    hub_stream_free(s);
    return call_empty(c, 200);
}
