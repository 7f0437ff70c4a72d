/* Execs: create, start, resize, inspect.
 *
 * An exec is a record in memory, as dockerd's: a command that was asked for, then a stream of the
 * hub, at last an exit code that stays readable for a while (the CLI asks for it after the stream
 * has ended). At most EXECS_MAX are kept; the oldest that have ended go first.
 *
 * A started exec has one pump: the hijacked connection's source and sink, or for a detached one the
 * stream's own wake, which throws the output away. */
#include <stdio.h>
#include <sys/queue.h>
#include <uthash.h>

#include "output.h"

enum { EXECS_MAX = 4096, PIECE = 32768, FILL_BYTES = 49152, EXIT_UNKNOWN = 137 };
static const int64_t KEEP_NS = 600 * (int64_t)1000000000;

enum exec_state { EXEC_CREATED, EXEC_RUNNING, EXEC_ENDED };

struct exec {
    char id[65], container[65], vm[65];
    char *open_json, *path, *user;
    char **args;
    size_t arg_count;
    bool tty, stdin_on, stdout_on, stderr_on, privileged;
    char detach_keys[64];
    TAILQ_ENTRY(exec) link; /* oldest first */
    UT_hash_handle hh;
    struct execs *owner;
    /* guarded: execs.lock */
    unsigned refs; /* the table's and each connection's */
    enum exec_state state;
    int exit_code;
    int64_t ended_ns;
    struct hub_stream *stream;
};

struct execs {
    struct api *api;
    struct vic_mutex lock;
    /* guarded: lock */
    struct exec *all VIC_GUARDED;
    TAILQ_HEAD(, exec) order VIC_GUARDED;
    size_t count VIC_GUARDED;
};

static void exec_free(struct exec *e)
{
    for (size_t i = 0; i < e->arg_count; i++)
        free(e->args[i]);
    free(e->args);
    free(e->open_json);
    free(e->path);
    free(e->user);
    free(e);
}

static void drop_ref(struct execs *x, struct exec *e)
{
    mutex_lock(&x->lock);
    bool last = --e->refs == 0;
    mutex_unlock(&x->lock);
    if (last)
        exec_free(e);
}

struct execs *execs_new(struct api *api)
{
    struct execs *x = xcalloc(1, sizeof *x);
    x->api = api;
    mutex_init(&x->lock);
    mutex_lock(&x->lock);
    TAILQ_INIT(&x->order);
    mutex_unlock(&x->lock);
    return x;
}

static void take_out(struct execs *x, struct exec *e) VIC_REQUIRES(x->lock)
{
    HASH_DEL(x->all, e);
    TAILQ_REMOVE(&x->order, e, link);
    x->count--;
}

void execs_free(struct execs *x)
{
    if (!x)
        return;
    struct exec *e, *next;
    HASH_ITER(hh, x->all, e, next)
    {
        HASH_DEL(x->all, e);
        hub_stream_free(e->stream);
        exec_free(e);
    }
    mutex_fini(&x->lock);
    free(x);
}

struct store_strs execs_of(struct execs *x, const char *container, struct arena *a)
{
    struct store_strs ids = {0};
    mutex_lock(&x->lock);
    struct exec *e;
    TAILQ_FOREACH (e, &x->order, link) {
        if (e->state != EXEC_ENDED && strcmp(e->container, container) == 0)
            strs_push(a, &ids, arena_strdup(a, e->id));
    }
    mutex_unlock(&x->lock);
    return ids;
}

/* With a reference for the caller. */
static struct exec *find(struct call *c, const char *id)
{
    struct execs *x = c->api->execs;
    struct exec *e;
    mutex_lock(&x->lock);
    HASH_FIND_STR(x->all, id, e);
    if (e)
        e->refs++;
    mutex_unlock(&x->lock);
    if (!e)
        vic_fail(&c->err, VIC_NOT_FOUND, 0, "No such exec instance: %s", id);
    return e;
}

/* Makes room: what has ended and is old, or when full what has ended at all. */
static void tidy(struct execs *x, int64_t now) VIC_REQUIRES(x->lock)
{
    struct exec *e = TAILQ_FIRST(&x->order);
    while (e) {
        struct exec *next = TAILQ_NEXT(e, link);
        bool old = e->state == EXEC_ENDED && e->refs == 1 &&
                   (x->count > EXECS_MAX || now - e->ended_ns > KEEP_NS);
        if (old) {
            take_out(x, e);
            exec_free(e);
        }
        e = next;
    }
}

/* --- create
 * ------------------------------------------------------------------------------------------- */
static bool take_words(struct call *c, struct json_val v, struct store_strs *out, const char *what)
{
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        const char *word;
        if (!json_read_str(it.val, &word))
            return vic_fail(&c->err, VIC_INVALID, 0, "invalid JSON: %s: expected strings", what);
        strs_push(c->a, out, word);
    }
    return true;
}

static void render_open(struct buf *b, const struct exec *e, const struct store_container *k,
                        const struct store_strs *args, const struct store_strs *env,
                        const char *cwd)
{
    struct json_writer w = json_writer(b);
    json_open(&w, NULL, '{');
    json_add_str(&w, "kind", "exec");
    json_add_str(&w, "id", e->id);
    strs_to_json(&w, "args", args);
    json_open(&w, "env", '[');
    for (size_t i = 0; i < k->config.env.n; i++)
        json_add_str(&w, NULL, k->config.env.v[i]);
    if (e->tty)
        json_add_str(&w, NULL, "TERM=xterm");
    for (size_t i = 0; i < env->n; i++)
        json_add_str(&w, NULL, env->v[i]);
    json_close(&w, ']');
    json_add_str(&w, "cwd", cwd[0] ? cwd : k->config.working_dir[0] ? k->config.working_dir : "/");
    json_add_str(&w, "user", e->user[0] ? e->user : k->config.user);
    json_add_bool(&w, "tty", e->tty);
    json_add_bool(&w, "stdin", e->stdin_on);
    json_add_bool(&w, "privileged", e->privileged);
    json_close(&w, '}');
}

static bool fill_exec(struct call *c, struct exec *e, const struct store_container *k,
                      struct json_val v)
{
    struct store_strs args = {0}, env = {0};
    struct detach_keys keys;
    AUTO_BUF struct buf open = {.limit = 60000};
    const char *detach = json_str(json_get_nocase(v, "DetachKeys"), "");
    if (!take_words(c, json_get_nocase(v, "Cmd"), &args, "Cmd") ||
        !take_words(c, json_get_nocase(v, "Env"), &env, "Env"))
        return false;
    if (!args.n)
        return vic_fail(&c->err, VIC_INVALID, 0, "No exec command specified");
    if (strlen(detach) >= sizeof e->detach_keys || !detach_parse(detach, &keys))
        return vic_fail(&c->err, VIC_INVALID, 0, "Invalid escape keys (%.64s) provided", detach);
    random_id(e->id);
    snprintf(e->container, sizeof e->container, "%s", k->meta.id);
    snprintf(e->vm, sizeof e->vm, "%s", k->status.vm);
    snprintf(e->detach_keys, sizeof e->detach_keys, "%s", detach);
    e->path = xstrdup(args.v[0]);
    e->user = xstrdup(json_str(json_get_nocase(v, "User"), ""));
    e->tty = json_bool(json_get_nocase(v, "Tty"), false);
    e->stdin_on = json_bool(json_get_nocase(v, "AttachStdin"), false);
    e->stdout_on = json_bool(json_get_nocase(v, "AttachStdout"), false);
    e->stderr_on = json_bool(json_get_nocase(v, "AttachStderr"), false);
    e->privileged = json_bool(json_get_nocase(v, "Privileged"), false);
    e->args = xcalloc(args.n, sizeof *e->args);
    for (size_t i = 1; i < args.n; i++)
        e->args[e->arg_count++] = xstrdup(args.v[i]);
    render_open(&open, e, k, &args, &env, json_str(json_get_nocase(v, "WorkingDir"), ""));
    if (open.failed)
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "the command and its environment are over %zu bytes", open.limit);
    e->open_json = buf_take(&open);
    return true;
}

struct exec_event {
    const char *container, *action, *exec, *code;
};

static bool apply_exec_event(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct exec_event *e = arg;
    struct store_container k;
    if (!store_get(t, STORE_CONTAINER, e->container, a, &k, err))
        return false;
    return e->code ? event_container(t, a, &k, err, e->action, "execID", e->exec, "exitCode",
                                     e->code, NULL)
                   : event_container(t, a, &k, err, e->action, "execID", e->exec, NULL);
}

static void tell(const struct exec *e, const char *action, const char *code)
{
    static const struct store_change_note note = {.actor = "exec"};
    const struct api_options *o = &e->owner->api->o;
    struct exec_event event = {e->container, action, e->id, code};
    struct vic_err err;
    if (!store_write(o->store, &note, NULL, apply_exec_event, &event, &err))
        log_warn(o->log, "event.lost", KV_S("action", action), KV_ERR(&err));
}

/* "exec_start: sh -c ls" */
static const char *action_text(struct call *c, const struct exec *e, const char *what)
{
    AUTO_BUF struct buf b = {.limit = 4096};
    buf_addf(&b, "%s: %s", what, e->path);
    for (size_t i = 0; i < e->arg_count; i++)
        buf_addf(&b, " %s", e->args[i]);
    return arena_sv(c->a, buf_sv(&b));
}

bool exec_create(struct call *c)
{
    struct store_container k;
    struct json_val v;
    struct execs *x = c->api->execs;
    AUTO_BUF struct buf out = {0};
    if (!get_container(c, c->param[0], &k) || !call_body(c, &v))
        return false;
    if (!container_is_running(&k))
        return vic_fail(&c->err, VIC_CONFLICT, 0, "container %s is not running", k.meta.id);
    struct exec *e = xcalloc(1, sizeof *e);
    e->owner = x;
    e->refs = 1;
    if (!fill_exec(c, e, &k, v)) {
        exec_free(e);
        return false;
    }
    tell(e, action_text(c, e, "exec_create"), NULL);
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    json_add_str(&w, "Id", e->id);
    json_close(&w, '}');
    mutex_lock(&x->lock);
    tidy(x, call_now(c));
    bool full = x->count >= EXECS_MAX;
    if (!full) {
        HASH_ADD_STR(x->all, id, e);
        TAILQ_INSERT_TAIL(&x->order, e, link);
        x->count++;
    }
    mutex_unlock(&x->lock);
    if (full) {
        exec_free(e);
        return vic_fail(&c->err, VIC_BUSY, 0, "%d execs are under way already", EXECS_MAX);
    }
    return call_json(c, 201, &out);
}

/* --- a started exec
 * ------------------------------------------------------------------------------------ */
struct session {
    struct call *c;
    struct exec *e;
    bool tty, use_keys, told_refusal;
    struct detach_keys keys;
    struct http_waker *waker;
    struct vic_mutex lock;
    bool detached VIC_GUARDED, eof VIC_GUARDED; /* guarded: lock */
    struct buf held VIC_GUARDED;
};

/* Takes the end of a stream that has closed. */
static void settle(struct exec *e, const struct hub_stream_status *st)
{
    struct execs *x = e->owner;
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct vic_err ignored;
    int code = EXIT_UNKNOWN;
    if (st->refused)
        code = st->launch_exit ? st->launch_exit : 126;
    else if (json_parse(st->result, 64, &a, &v, &ignored)) {
        int64_t value = json_i64(json_get(v, "value"), EXIT_UNKNOWN);
        bool signaled = strcmp(json_str(json_get(v, "kind"), ""), "signaled") == 0;
        code = (int)(signaled ? 128 + value : value);
    }
    mutex_lock(&x->lock);
    bool first = e->state == EXEC_RUNNING;
    e->state = EXEC_ENDED;
    e->exit_code = code;
    e->ended_ns = clock_wall_ns(x->api->o.clock);
    mutex_unlock(&x->lock);
    if (first)
        tell(e, "exec_die", arena_printf(&a, "%d", code));
}

static void wake_session(void *arg)
{
    struct session *s = arg;
    http_wake_input(s->waker);
    http_wake(s->waker);
}

static void flush_held(struct session *s) VIC_REQUIRES(s->lock)
{
    if (s->held.len)
        buf_consume(&s->held, hub_stream_write(s->e->stream, buf_sv(&s->held)));
    if (s->eof && !s->held.len)
        hub_stream_eof(s->e->stream);
}

static size_t typed(void *arg, struct sv bytes)
{
    struct session *s = arg;
    size_t taken = bytes.len;
    mutex_lock(&s->lock);
    if (s->e->stdin_on && !s->detached) {
        flush_held(s);
        if (s->held.len) {
            taken = 0;
        } else if (s->use_keys) {
            taken = bytes.len < 4096 ? bytes.len : 4096;
            s->detached = detach_take(&s->keys, sv_sub(bytes, 0, taken), &s->held);
            flush_held(s);
        } else {
            taken = hub_stream_write(s->e->stream, bytes);
        }
    }
    bool detached = s->detached;
    mutex_unlock(&s->lock);
    if (detached)
        http_wake(s->waker);
    return taken;
}

static void typed_eof(void *arg)
{
    struct session *s = arg;
    mutex_lock(&s->lock);
    s->eof = s->e->stdin_on;
    if (s->eof)
        flush_held(s);
    mutex_unlock(&s->lock);
}

static void add_output(struct session *s, unsigned channel, struct buf *out)
{
    AUTO_BUF struct buf piece = {0};
    if (!hub_stream_read(s->e->stream, channel, &piece, PIECE))
        return;
    if (channel == 1 ? !s->e->stdout_on : !s->e->stderr_on)
        return;
    if (s->tty)
        buf_add_sv(out, buf_sv(&piece));
    else
        output_frame(out, channel, buf_sv(&piece));
}

static void say_refusal(struct session *s, const struct hub_stream_status *st, struct buf *out)
{
    const char *text =
        st->launch_exit
            ? arena_printf(
                  s->c->a,
                  "OCI runtime exec failed: exec failed: unable to start container process: "
                  "%s: unknown\r\n",
                  st->err.msg)
            : arena_printf(s->c->a, "exec failed: %s\r\n", st->err.msg);
    if (s->tty)
        buf_add_str(out, text);
    else
        output_frame(out, 2, sv_of(text));
}

static enum http_fill fill(void *arg, struct buf *out)
{
    struct session *s = arg;
    struct hub_stream_status st;
    mutex_lock(&s->lock);
    flush_held(s);
    bool detached = s->detached;
    mutex_unlock(&s->lock);
    if (detached) {
        tell(s->e, "exec_detach", NULL);
        return HTTP_END;
    }
    hub_stream_status(s->e->stream, &st);
    while (out->len < FILL_BYTES && (st.readable[1] || st.readable[2])) {
        add_output(s, 1, out);
        add_output(s, 2, out);
        hub_stream_status(s->e->stream, &st);
    }
    if (st.readable[1] || st.readable[2])
        return HTTP_MORE;
    if (st.state != HUB_CLOSED)
        return HTTP_WAIT;
    if (st.refused && !s->told_refusal) {
        say_refusal(s, &st, out);
        s->told_refusal = true;
    }
    settle(s->e, &st);
    return HTTP_END;
}

/* The end of a detached exec, in a pool thread: takes its code, frees its stream.  Holds a
 * reference. */
static void finish_detached(void *arg)
{
    struct exec *e = arg;
    struct hub_stream_status st;
    mutex_lock(&e->owner->lock);
    struct hub_stream *stream = TAKE(e->stream);
    mutex_unlock(&e->owner->lock);
    if (stream) {
        hub_stream_status(stream, &st);
        settle(e, &st);
        hub_stream_free(stream);
    }
    drop_ref(e->owner, e);
}

/* The wake of a detached exec: its output is thrown away. */
static void discard(void *arg)
{
    struct exec *e = arg;
    struct hub_stream_status st;
    AUTO_BUF struct buf piece = {0};
    mutex_lock(&e->owner->lock);
    struct hub_stream *s = e->stream;
    e->refs += s != NULL;
    mutex_unlock(&e->owner->lock);
    if (!s)
        return; /* not stored yet: start_detached looks again; or taken already */
    for (unsigned channel = 1; channel <= 2; channel++)
        while (hub_stream_read(s, channel, &piece, PIECE))
            buf_reset(&piece);
    hub_stream_status(s, &st);
    if (st.state != HUB_CLOSED || !pool_run(e->owner->api->pool, finish_detached, e))
        drop_ref(e->owner, e);
}

static void release(void *arg)
{
    struct session *s = arg;
    struct exec *e = s->e;
    mutex_lock(&e->owner->lock);
    struct hub_stream *stream = e->stream;
    e->stream = NULL;
    bool running = e->state == EXEC_RUNNING;
    if (running) { /* the client left: what becomes of it is not known any more */
        e->state = EXEC_ENDED;
        e->exit_code = EXIT_UNKNOWN;
        e->ended_ns = clock_wall_ns(e->owner->api->o.clock);
    }
    mutex_unlock(&e->owner->lock);
    hub_stream_free(stream);
    http_waker_free(s->waker);
    buf_fini(&s->held);
    mutex_fini(&s->lock);
    drop_ref(e->owner, e);
}

static const struct http_source source = {fill, release};
static const struct http_sink sink = {typed, typed_eof};

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

static bool start_detached(struct call *c, struct exec *e)
{
    struct hub_stream *s = hub_open(c->api->o.hub, e->vm, sv_of(e->open_json), discard, e, &c->err);
    if (!s)
        return false;
    mutex_lock(&e->owner->lock);
    e->stream = s;
    mutex_unlock(&e->owner->lock);
    tell(e, action_text(c, e, "exec_start"), NULL);
    discard(e); /* what came before the stream was stored */
    return true;
}

static bool start_attached(struct call *c, struct exec *e, struct json_val v)
{
    struct session *s = ARENA_NEW(c->a, struct session);
    *s = (struct session){.c = c, .e = e, .tty = json_bool(json_get_nocase(v, "Tty"), e->tty)};
    s->use_keys = e->tty && e->stdin_on;
    if (!detach_parse(e->detach_keys, &s->keys))
        return vic_fail(&c->err, VIC_INTERNAL, 0, "detach keys");
    s->waker = http_waker(c->req);
    struct hub_stream *stream =
        hub_open(c->api->o.hub, e->vm, sv_of(e->open_json), wake_session, s, &c->err);
    if (!stream) {
        http_waker_free(s->waker);
        return false;
    }
    mutex_init(&s->lock);
    mutex_lock(&e->owner->lock);
    e->stream = stream;
    e->refs++;
    mutex_unlock(&e->owner->lock);
    tell(e, action_text(c, e, "exec_start"), NULL);
    http_hijack(c->req, output_type(c, s->tty), &source, &sink, s);
    return true;
}

bool exec_start(struct call *c)
{
    struct json_val v;
    if (!call_body(c, &v))
        return false;
    struct exec *e = find(c, c->param[0]);
    if (!e)
        return false;
    bool ok = claim(c, e);
    if (ok && json_bool(json_get_nocase(v, "Detach"), false)) {
        ok = start_detached(c, e);
        if (!ok)
            unclaim(e);
        drop_ref(e->owner, e);
        return ok && call_empty(c, 200);
    }
    if (ok && !start_attached(c, e, v)) {
        unclaim(e);
        ok = false;
    }
    drop_ref(e->owner, e);
    return ok;
}

bool exec_resize(struct call *c)
{
    int64_t rows, cols;
    if (!call_number(c, "h", 0, &rows) || !call_number(c, "w", 0, &cols))
        return false;
    if (rows < 0 || rows > UINT16_MAX || cols < 0 || cols > UINT16_MAX)
        return vic_fail(&c->err, VIC_INVALID, 0, "h and w: expected 0 to 65535");
    struct exec *e = find(c, c->param[0]);
    if (!e)
        return false;
    mutex_lock(&e->owner->lock);
    bool running = e->state == EXEC_RUNNING && e->stream;
    if (running)
        hub_stream_resize(e->stream, (unsigned)rows, (unsigned)cols);
    mutex_unlock(&e->owner->lock);
    drop_ref(e->owner, e);
    return running ? call_empty(c, 200)
                   : vic_fail(&c->err, VIC_INVALID, 0, "exec process is not started");
}

bool exec_inspect(struct call *c)
{
    AUTO_BUF struct buf out = {0};
    struct exec *e = find(c, c->param[0]);
    if (!e)
        return false;
    struct json_writer w = json_writer(&out);
    mutex_lock(&e->owner->lock);
    enum exec_state state = e->state;
    int code = e->exit_code;
    mutex_unlock(&e->owner->lock);
    json_open(&w, NULL, '{');
    json_add_str(&w, "ID", e->id);
    json_add_bool(&w, "Running", state == EXEC_RUNNING);
    if (state == EXEC_ENDED)
        json_add_i64(&w, "ExitCode", code);
    else
        json_add_null(&w, "ExitCode");
    json_open(&w, "ProcessConfig", '{');
    json_add_bool(&w, "tty", e->tty);
    json_add_str(&w, "entrypoint", e->path);
    json_open(&w, "arguments", '[');
    for (size_t i = 0; i < e->arg_count; i++)
        json_add_str(&w, NULL, e->args[i]);
    json_close(&w, ']');
    json_add_bool(&w, "privileged", e->privileged);
    json_add_str(&w, "user", e->user);
    json_close(&w, '}');
    json_add_bool(&w, "OpenStdin", e->stdin_on);
    json_add_bool(&w, "OpenStderr", e->stderr_on);
    json_add_bool(&w, "OpenStdout", e->stdout_on);
    json_add_bool(&w, "CanRemove", state == EXEC_ENDED);
    json_add_str(&w, "ContainerID", e->container);
    json_add_str(&w, "DetachKeys", e->detach_keys);
    json_add_i64(&w, "Pid", 0);
    json_close(&w, '}');
    drop_ref(e->owner, e);
    return call_json(c, 200, &out);
}
