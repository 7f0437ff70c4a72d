/* POST /exec/{id}/start: a command runs, with or without a client.
 *
 *   attached   a hijacked connection: 'typed' and 'fill' move bytes between it and the stream
 *   detached   the request is parked until the guest has started the command or refused it
 *   alone      nobody listens: output is dropped as it comes, so that the command never waits
 *
 * A client that goes away (or types the detach keys) leaves its command alone: it runs on, as under
 * dockerd.  Alone it is the stream's own wake, on the hub's thread, that drops output and queues
 * the end; who is woken is decided under exec.lock, so no wake is lost between the two. */
#include "exec.h"

#include <stdio.h>

enum { PIECE = 32768, FILL_BYTES = 49152, TYPED_MAX = 4096, START_MS = 60000 };
enum { EXIT_NOT_STARTED = 126, EXIT_UNKNOWN = 137 };

struct session { /* in the request's arena */
    struct call *c;
    struct exec *e;
    bool tty, use_keys, told;
    struct detach_keys keys;
    /* guarded: exec.lock */
    bool detached, eof;
    struct buf held; /* typed and not the detach keys, not yet taken by the stream */
};

/* --- its end --------------------------------------------------------------------------------- */
static int exit_code_of(const struct hub_stream_status *st)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    if (st->refused) /* or its guest was lost */
        return st->launch_exit                   ? st->launch_exit
               : st->err.code == VIC_UNAVAILABLE ? EXIT_UNKNOWN
                                                 : EXIT_NOT_STARTED;
    if (!json_parse(st->result, 64, &a, &v, NULL))
        return EXIT_UNKNOWN;
    int64_t value = json_i64(json_get(v, "value"), EXIT_UNKNOWN);
    bool signaled = strcmp(json_str(json_get(v, "kind"), ""), "signaled") == 0;
    return (int)((signaled ? 128 + value : value) & 0xff);
}

/* Takes the code of a stream that has closed; once.  Who sees the code sees the event too. */
static void settle(struct exec *e, const struct hub_stream_status *st)
{
    struct execs *x = e->owner;
    int code = exit_code_of(st);
    char text[16];
    mutex_lock(&x->lock);
    bool first = e->state == EXEC_RUNNING && !e->settled;
    e->settled = true;
    mutex_unlock(&x->lock);
    if (!first)
        return;
    snprintf(text, sizeof text, "%d", code);
    if (!st->refused) /* what never ran does not die */
        exec_tell(e, "exec_die", text);
    mutex_lock(&x->lock);
    e->state = EXEC_ENDED;
    e->exit_code = code;
    e->since_ns = clock_wall_ns(x->api->o.clock);
    mutex_unlock(&x->lock);
}

/* In a pool thread: a stream that has closed and has no client any more. */
static void end_alone(void *arg)
{
    struct exec *e = arg;
    struct hub_stream_status st;
    mutex_lock(&e->lock);
    struct hub_stream *stream = TAKE(e->stream);
    mutex_unlock(&e->lock);
    if (stream) {
        hub_stream_status(stream, &st);
        settle(e, &st);
        hub_stream_free(stream);
        exec_unref(e); /* the stream's */
    }
    exec_unref(e);
}

/* Nobody listens: drops what has come, and sees to the end. */
static void go_on_alone(struct exec *e) VIC_REQUIRES(e->lock)
{
    struct hub_stream_status st;
    AUTO_BUF struct buf piece = {0};
    if (!e->stream || e->ending)
        return;
    for (unsigned channel = 1; channel <= 2; channel++)
        while (hub_stream_read(e->stream, channel, &piece, PIECE))
            buf_reset(&piece);
    hub_stream_status(e->stream, &st);
    e->ending = st.state == HUB_CLOSED;
    if (e->ending)
        pool_run(e->owner->api->pool, end_alone, exec_ref(e)); /* has no limit */
}

/* The stream's wake; the hub's thread. */
static void wake(void *arg)
{
    struct exec *e = arg;
    mutex_lock(&e->lock);
    if (e->waker) {
        http_wake_input(e->waker);
        http_wake(e->waker);
    } else {
        go_on_alone(e);
    }
    mutex_unlock(&e->lock);
}

/* The session is over; what runs still runs on.  The last act in its request. */
static void leave(struct session *s)
{
    struct exec *e = s->e;
    mutex_lock(&e->lock);
    struct http_waker *waker = TAKE(e->waker);
    if (e->stream && e->stdin_on && !e->tty && !s->detached)
        hub_stream_eof(e->stream);
    go_on_alone(e);
    mutex_unlock(&e->lock);
    http_waker_free(waker);
    buf_fini(&s->held);
    exec_unref(e);
}

/* --- attached: input ------------------------------------------------------------------------- */
static void flush_held(struct session *s) VIC_REQUIRES(s->e->lock)
{
    if (!s->e->stream)
        return;
    if (s->held.len)
        buf_consume(&s->held, hub_stream_write(s->e->stream, buf_sv(&s->held)));
    if (s->eof && !s->held.len)
        hub_stream_eof(s->e->stream);
}

static size_t take_typed(struct session *s, struct sv bytes) VIC_REQUIRES(s->e->lock)
{
    if (!s->e->stdin_on || s->detached || !s->e->stream)
        return bytes.len; /* nobody reads it */
    flush_held(s);
    if (s->held.len)
        return 0;
    if (!s->use_keys)
        return hub_stream_write(s->e->stream, bytes);
    bytes = sv_sub(bytes, 0, TYPED_MAX);
    s->detached = detach_take(&s->keys, bytes, &s->held);
    flush_held(s);
    return bytes.len;
}

/* Loop thread. */
static size_t typed(void *arg, struct sv bytes)
{
    struct session *s = arg;
    mutex_lock(&s->e->lock);
    size_t taken = take_typed(s, bytes);
    if (s->detached && s->e->waker)
        http_wake(s->e->waker);
    mutex_unlock(&s->e->lock);
    return taken;
}

static void typed_eof(void *arg)
{
    struct session *s = arg;
    mutex_lock(&s->e->lock);
    s->eof = s->e->stdin_on;
    flush_held(s);
    mutex_unlock(&s->e->lock);
}

/* --- attached: output ------------------------------------------------------------------------ */
static void add_output(struct session *s, unsigned channel, struct buf *out)
    VIC_REQUIRES(s->e->lock)
{
    AUTO_BUF struct buf piece = {0};
    struct exec *e = s->e;
    if (!hub_stream_read(e->stream, channel, &piece, PIECE) ||
        !(channel == 1 ? e->stdout_on : e->stderr_on))
        return;
    if (s->tty)
        buf_add_sv(out, buf_sv(&piece));
    else
        output_frame(out, channel, buf_sv(&piece));
}

static const char *refusal_text(struct arena *a, const struct hub_stream_status *st)
{
    if (launch_fault_is_plain(st->err.msg))
        return arena_strdup(a, st->err.msg);
    if (!st->launch_exit)
        return arena_printf(a, "exec failed: %s", st->err.msg);
    return arena_printf(a,
                        "OCI runtime exec failed: exec failed: unable to start container process: "
                        "%s: unknown",
                        st->err.msg);
}

/* dockerd writes it on stdout, with CR LF. */
static void say_refusal(struct session *s, const struct hub_stream_status *st, struct buf *out)
{
    const char *text = arena_printf(s->c->a, "%s\r\n", refusal_text(s->c->a, st));
    if (s->tty)
        buf_add_str(out, text);
    else
        output_frame(out, 1, sv_of(text));
    s->told = true;
}

/* What has come, up to about FILL_BYTES.  '*st' says what is left; its state is that from before:
 * what changed meanwhile wakes us again. */
static void take_output(struct session *s, struct buf *out, struct hub_stream_status *st)
    VIC_REQUIRES(s->e->lock)
{
    struct hub_stream *stream = s->e->stream;
    hub_stream_status(stream, st);
    enum hub_stream_state state = st->state;
    flush_held(s);
    while (out->len < FILL_BYTES && (st->readable[1] || st->readable[2]) && !s->detached) {
        add_output(s, 1, out);
        add_output(s, 2, out);
        hub_stream_status(stream, st);
    }
    st->state = state;
}

static enum http_fill fill(void *arg, struct buf *out)
{
    struct session *s = arg;
    struct hub_stream_status st;
    mutex_lock(&s->e->lock);
    if (!s->e->stream) { /* the engine ends */
        mutex_unlock(&s->e->lock);
        return HTTP_END;
    }
    take_output(s, out, &st);
    /* What was typed before the keys waits for a stream that is being opened, not for a command
     * that does not read. */
    bool detached = s->detached && !(s->held.len && st.state == HUB_OPENING);
    mutex_unlock(&s->e->lock);
    if (detached) {
        exec_tell(s->e, "exec_detach", NULL);
        return HTTP_END;
    }
    if (st.readable[1] || st.readable[2])
        return HTTP_MORE;
    if (st.state != HUB_CLOSED)
        return HTTP_WAIT;
    if (st.refused && st.err.code != VIC_UNAVAILABLE && !s->told)
        say_refusal(s, &st, out);
    settle(s->e, &st);
    return HTTP_END;
}

static void release(void *arg)
{
    leave(arg);
}

static const struct http_source source = {fill, release};
static const struct http_sink sink = {typed, typed_eof};

/* --- detached -------------------------------------------------------------------------------- */
static bool poll_started(void *arg, struct http_req *r, bool timed_out)
{
    struct session *s = arg;
    struct call *c = s->c;
    struct hub_stream_status st = {.state = HUB_CLOSED, .refused = true};
    (void)r;
    mutex_lock(&s->e->lock);
    if (s->e->stream)
        hub_stream_status(s->e->stream, &st);
    mutex_unlock(&s->e->lock);
    if (st.state == HUB_OPENING && !timed_out)
        return false;
    if (st.state == HUB_OPENING) {
        vic_fail(&c->err, VIC_TIMEOUT, 0, "the guest has not started the command in time");
        call_fail(c);
    } else if (st.refused) {
        settle(s->e, &st);
        vic_fail(&c->err,
                 st.launch_exit ? VIC_INVALID
                 : st.err.code  ? st.err.code
                                : VIC_CANCELED,
                 0, "%s", refusal_text(c->a, &st));
        call_fail(c);
    } else {
        call_empty(c, 200);
    }
    return true;
}

/* --- start ----------------------------------------------------------------------------------- */
/* Marks it started; only one caller may. */
static bool claim(struct call *c, struct exec *e)
{
    mutex_lock(&e->owner->lock);
    enum exec_state was = e->state;
    if (was == EXEC_CREATED)
        e->state = EXEC_RUNNING;
    mutex_unlock(&e->owner->lock);
    if (was == EXEC_CREATED)
        return true;
    return vic_fail(&c->err, VIC_CONFLICT, 0, "exec command %s %s", e->id,
                    was == EXEC_RUNNING ? "is already running" : "has already run");
}

static void unclaim(struct exec *e)
{
    mutex_lock(&e->owner->lock);
    e->state = EXEC_CREATED;
    mutex_unlock(&e->owner->lock);
}

/* Opens its stream in the VM that serves the container now. */
static bool open_stream(struct session *s, const char *vm, struct json_val v)
{
    struct call *c = s->c;
    struct exec *e = s->e;
    unsigned rows, cols;
    exec_console_size(v, &rows, &cols);
    mutex_lock(&e->lock);
    e->stream = hub_open(c->api->o.hub, vm, sv_of(e->open_json), wake, e, &c->err);
    bool ok = e->stream != NULL;
    if (ok) {
        exec_ref(e); /* the stream's */
        e->waker = http_waker(c->req);
        if (rows && cols)
            hub_stream_resize(e->stream, rows, cols);
    }
    mutex_unlock(&e->lock);
    return ok;
}

static bool begin(struct call *c, struct exec *e, const char *vm, struct json_val v)
{
    struct session *s = ARENA_NEW(c->a, struct session);
    bool detach = json_bool(json_get_nocase(v, "Detach"), false);
    *s = (struct session){.c = c, .e = e, .tty = json_bool(json_get_nocase(v, "Tty"), e->tty)};
    s->use_keys = e->tty && e->stdin_on;
    if (!detach_parse(e->detach_keys, &s->keys))
        return vic_fail(&c->err, VIC_INTERNAL, 0, "detach keys");
    if (!open_stream(s, vm, v))
        return false;
    exec_ref(e); /* the session's */
    exec_tell(e, exec_action(e, c->a, "exec_start"), NULL);
    if (detach)
        http_park(c->req, START_MS, poll_started, release, s);
    else
        http_hijack(c->req, output_type(c, s->tty), &source, &sink, s);
    return true;
}

static bool start(struct call *c, struct exec *e, struct json_val v)
{
    struct store_container k;
    if (!get_container(c, e->container, &k))
        return false;
    if (!container_is_running(&k))
        return vic_fail(&c->err, VIC_CONFLICT, 0, "container %s is not running", k.meta.id);
    if (!claim(c, e))
        return false;
    if (begin(c, e, k.status.vm, v))
        return true;
    unclaim(e);
    return false;
}

bool exec_start(struct call *c)
{
    struct json_val v;
    if (!call_body(c, &v))
        return false;
    struct exec *e = exec_find(c, c->param[0]);
    bool ok = e && start(c, e, v);
    if (e)
        exec_unref(e);
    return ok;
}
