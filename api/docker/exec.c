/* Execs: create, inspect, resize, and the table of them.
 *
 * An exec is a record in memory, as dockerd's: a command that was asked for, then a stream of the
 * hub (exec_start.c), at last an exit code that stays readable for a while (the CLI asks for it
 * after the stream has ended).  At most EXECS_MAX are kept; of those that do not run the oldest go
 * when room is needed, and each ten minutes after its last change. */
#include "exec.h"

#include <stdio.h>

enum { EXECS_MAX = 4096, OPEN_MAX = 60000 };
static const int64_t KEEP_NS = 600 * (int64_t)1000000000;

static void exec_free(struct exec *e)
{
    for (size_t i = 0; i < e->arg_count; i++)
        free(e->args[i]);
    free(e->args);
    free(e->open_json);
    free(e->path);
    free(e->user);
    mutex_fini(&e->lock);
    free(e);
}

struct exec *exec_ref(struct exec *e)
{
    atomic_fetch_add(&e->refs, 1);
    return e;
}

void exec_unref(struct exec *e)
{
    if (atomic_fetch_sub(&e->refs, 1) == 1)
        exec_free(e);
}

/* --- the table ------------------------------------------------------------------------------- */
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

/* One that runs, taken as ended; with a reference.  NULL: none does. */
static struct exec *take_running(struct execs *x)
{
    struct exec *e;
    mutex_lock(&x->lock);
    TAILQ_FOREACH (e, &x->order, link) {
        if (e->state == EXEC_RUNNING)
            break;
    }
    if (e) {
        e->state = EXEC_ENDED;
        exec_ref(e);
    }
    mutex_unlock(&x->lock);
    return e;
}

void execs_stop(struct execs *x)
{
    for (struct exec *e; x && (e = take_running(x));) {
        mutex_lock(&e->lock);
        struct hub_stream *s = TAKE(e->stream);
        mutex_unlock(&e->lock);
        hub_stream_free(s);
        if (s)
            exec_unref(e); /* the stream's */
        exec_unref(e);
    }
}

void execs_free(struct execs *x)
{
    if (!x)
        return;
    mutex_lock(&x->lock);
    for (struct exec *e; (e = TAILQ_FIRST(&x->order));) {
        take_out(x, e);
        exec_unref(e);
    }
    mutex_unlock(&x->lock);
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

struct exec *exec_find(struct call *c, const char *id)
{
    struct execs *x = c->api->execs;
    struct exec *e;
    mutex_lock(&x->lock);
    HASH_FIND_STR(x->all, id, e);
    if (e)
        exec_ref(e);
    mutex_unlock(&x->lock);
    if (!e)
        vic_fail(&c->err, VIC_NOT_FOUND, 0, "No such exec instance: %s", id);
    return e;
}

/* Makes room: what does not run and is old, or when full what does not run at all. */
static void tidy(struct execs *x, int64_t now) VIC_REQUIRES(x->lock)
{
    struct exec *e = TAILQ_FIRST(&x->order);
    while (e) {
        struct exec *next = TAILQ_NEXT(e, link);
        if (e->state != EXEC_RUNNING && atomic_load(&e->refs) == 1 &&
            (x->count >= EXECS_MAX || now - e->since_ns > KEEP_NS)) {
            take_out(x, e);
            exec_unref(e);
        }
        e = next;
    }
}

static bool add(struct call *c, struct exec *e)
{
    struct execs *x = c->api->execs;
    mutex_lock(&x->lock);
    tidy(x, call_now(c));
    bool full = x->count >= EXECS_MAX;
    if (!full) {
        exec_ref(e);
        HASH_ADD_STR(x->all, id, e);
        TAILQ_INSERT_TAIL(&x->order, e, link);
        x->count++;
    }
    mutex_unlock(&x->lock);
    return !full || vic_fail(&c->err, VIC_BUSY, 0, "%d execs are under way already", EXECS_MAX);
}

/* --- create ---------------------------------------------------------------------------------- */
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
                        const char *cwd, unsigned rows, unsigned cols)
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
    json_add_u64(&w, "rows", rows);
    json_add_u64(&w, "cols", cols);
    json_close(&w, '}');
}

void exec_console_size(struct json_val v, unsigned *rows, unsigned *cols)
{
    unsigned *const out[] = {rows, cols};
    struct json_iter it = json_iter(json_get_nocase(v, "ConsoleSize"));
    for (size_t i = 0; i < ARRAY_LEN(out); i++) {
        int64_t n = json_next(&it) ? json_i64(it.val, 0) : 0;
        *out[i] = n > 0 && n <= UINT16_MAX ? (unsigned)n : 0;
    }
}

static bool fill_exec(struct call *c, struct exec *e, const struct store_container *k,
                      struct json_val v)
{
    struct store_strs args = {0}, env = {0};
    struct detach_keys keys;
    unsigned rows, cols;
    AUTO_BUF struct buf open = {.limit = OPEN_MAX};
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
    exec_console_size(v, &rows, &cols);
    render_open(&open, e, k, &args, &env, json_str(json_get_nocase(v, "WorkingDir"), ""), rows,
                cols);
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

void exec_tell(const struct exec *e, const char *action, const char *code)
{
    static const struct store_change_note note = {.actor = "exec"};
    const struct api_options *o = &e->owner->api->o;
    struct exec_event event = {e->container, action, e->id, code};
    struct vic_err err;
    if (!store_write(o->store, &note, NULL, apply_exec_event, &event, &err))
        log_warn(o->log, "event.lost", KV_S("action", action), KV_ERR(&err));
}

const char *exec_action(const struct exec *e, struct arena *a, const char *what)
{
    AUTO_BUF struct buf b = {.limit = 4096};
    buf_addf(&b, "%s: %s ", what, e->path);
    for (size_t i = 0; i < e->arg_count; i++)
        buf_addf(&b, i ? " %s" : "%s", e->args[i]);
    return arena_sv(a, buf_sv(&b));
}

bool exec_create(struct call *c)
{
    struct store_container k;
    struct json_val v;
    AUTO_BUF struct buf out = {0};
    if (!get_container(c, c->param[0], &k) || !call_body(c, &v))
        return false;
    if (!container_is_running(&k))
        return vic_fail(&c->err, VIC_CONFLICT, 0, "container %s is not running", k.meta.id);
    struct exec *e = xcalloc(1, sizeof *e);
    e->owner = c->api->execs;
    e->since_ns = call_now(c);
    mutex_init(&e->lock);
    atomic_store(&e->refs, 1);
    bool ok = fill_exec(c, e, &k, v) && add(c, e);
    if (ok) {
        struct json_writer w = json_writer(&out);
        json_open(&w, NULL, '{');
        json_add_str(&w, "Id", e->id);
        json_close(&w, '}');
        exec_tell(e, exec_action(e, c->a, "exec_create"), NULL);
    }
    exec_unref(e);
    return ok && call_json(c, 201, &out);
}

/* --- resize and inspect ---------------------------------------------------------------------- */
bool exec_resize(struct call *c)
{
    int64_t rows, cols;
    if (!call_number(c, "h", 0, &rows) || !call_number(c, "w", 0, &cols))
        return false;
    if (rows < 0 || rows > UINT16_MAX || cols < 0 || cols > UINT16_MAX)
        return vic_fail(&c->err, VIC_INVALID, 0, "h and w: expected 0 to 65535");
    struct exec *e = exec_find(c, c->param[0]);
    if (!e)
        return false;
    mutex_lock(&e->lock);
    bool running = e->stream != NULL;
    if (running)
        hub_stream_resize(e->stream, (unsigned)rows, (unsigned)cols);
    mutex_unlock(&e->lock);
    exec_unref(e);
    return running ? call_empty(c, 200)
                   : vic_fail(&c->err, VIC_INVALID, 0, "exec process is not started");
}

static void write_process(struct json_writer *w, const struct exec *e)
{
    json_open(w, "ProcessConfig", '{');
    json_add_bool(w, "tty", e->tty);
    json_add_str(w, "entrypoint", e->path);
    json_open(w, "arguments", '[');
    for (size_t i = 0; i < e->arg_count; i++)
        json_add_str(w, NULL, e->args[i]);
    json_close(w, ']');
    json_add_bool(w, "privileged", e->privileged);
    json_add_str(w, "user", e->user);
    json_close(w, '}');
}

bool exec_inspect(struct call *c)
{
    AUTO_BUF struct buf out = {0};
    struct exec *e = exec_find(c, c->param[0]);
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
    write_process(&w, e);
    json_add_bool(&w, "OpenStdin", e->stdin_on);
    json_add_bool(&w, "OpenStderr", e->stderr_on);
    json_add_bool(&w, "OpenStdout", e->stdout_on);
    json_add_bool(&w, "CanRemove", state == EXEC_ENDED);
    json_add_str(&w, "ContainerID", e->container);
    json_add_str(&w, "DetachKeys", e->detach_keys);
    json_add_i64(&w, "Pid", 0);
    json_close(&w, '}');
    exec_unref(e);
    return call_json(c, 200, &out);
}
