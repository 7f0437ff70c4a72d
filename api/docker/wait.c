/* POST /containers/{id}/wait.
 *
 * From API 1.30 the head is sent at once and the body follows when the condition holds: the CLI
 * opens its wait before it starts the container, and goes on only when it has the head. Before 1.30
 * there are no conditions and the head comes with the body.
 *
 * The exit code outlives the container: a tombstone keeps it, and when even that is gone the last
 * one seen counts. */
#include "docker.h"

enum wait_for { NOT_RUNNING, NEXT_EXIT, REMOVED };

struct waiter {
    struct call *call;
    struct park_watch *watch;
    const char *id;
    enum wait_for what;
    uint64_t seq; /* next-exit: the first run that counts */
    int code;     /* last seen */
};

static bool has_run(const struct store_container *k)
{
    return container_is_running(k) || k->status.phase == store_run_phase_STARTING ||
           k->status.phase == store_run_phase_RESTARTING;
}

static bool condition_holds(struct waiter *w, const struct store_container *k)
{
    const struct store_run_status *r = &k->status;
    bool running = container_is_running(k) || r->phase == store_run_phase_RESTARTING;
    if (r->phase == store_run_phase_EXITED || r->phase == store_run_phase_DEAD)
        w->code = r->exit_code;
    if (k->meta.deleted)
        return !running;
    switch (w->what) {
    case NOT_RUNNING:
        return !running;
    case NEXT_EXIT:
        return r->seq > w->seq ||
               (r->seq == w->seq && r->phase == store_run_phase_EXITED && r->launched);
    case REMOVED:
        break;
    }
    return false;
}

/* Trouble reading ends the wait as well: '*trouble' then holds the text. */
static bool is_over(struct waiter *w, struct vic_err *trouble)
{
    struct store_container k;
    AUTO_ARENA struct arena a = {0};
    struct vic_err err = {0};
    *trouble = (struct vic_err){0};
    AUTO_TXN struct store_txn *t = store_read(w->call->api->o.store, &err);
    if (t && store_get(t, STORE_CONTAINER, w->id, &a, &k, &err))
        return condition_holds(w, &k);
    if (!t || err.code != VIC_NOT_FOUND)
        *trouble = err;
    return true;
}

static void write_result(const struct waiter *w, const struct vic_err *trouble, struct buf *out)
{
    struct json_writer j = json_writer(out);
    json_open(&j, NULL, '{');
    json_add_i64(&j, "StatusCode", w->code);
    if (trouble->code) {
        json_open(&j, "Error", '{');
        json_add_str(&j, "Message", trouble->msg);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    buf_add_c(out, '\n');
}

static enum http_fill wait_fill(void *arg, struct buf *out)
{
    struct waiter *w = arg;
    struct vic_err trouble;
    if (!is_over(w, &trouble))
        return HTTP_WAIT;
    write_result(w, &trouble, out);
    return HTTP_END;
}

static void wait_free(void *arg)
{
    struct waiter *w = arg;
    park_unwatch(w->watch);
}

static enum poll_verdict wait_poll(struct call *c, void *arg, bool timed_out)
{
    struct vic_err trouble;
    AUTO_BUF struct buf out = {0};
    (void)timed_out;
    if (!is_over(arg, &trouble))
        return POLL_WAIT;
    write_result(arg, &trouble, &out);
    http_reply(c->req, 200, "application/json", buf_sv(&out));
    return POLL_DONE;
}

static bool read_condition(struct call *c, enum wait_for *what)
{
    static const char *const names[] = {"not-running", "next-exit", "removed"};
    const char *text = c->version >= 1030 ? call_query(c, "condition") : "";
    *what = NOT_RUNNING;
    for (size_t i = 0; i < ARRAY_LEN(names) && *text; i++) {
        if (strcmp(text, names[i]) == 0) {
            *what = (enum wait_for)i;
            return true;
        }
    }
    return !*text || vic_fail(&c->err, VIC_INVALID, 0, "invalid condition: \"%.64s\"", text);
}

bool container_wait(struct call *c)
{
    static const struct http_source source = {wait_fill, wait_free};
    struct store_container k;
    struct waiter *w = ARENA_NEW(c->a, struct waiter);
    if (!read_condition(c, &w->what) || !get_container(c, c->param[0], &k))
        return false;
    w->call = c;
    w->id = k.meta.id;
    w->code = k.status.exit_code;
    w->seq = has_run(&k) ? k.status.seq : k.status.seq + 1;
    if (c->version < 1030)
        return call_wait(c, STORE_CONTAINER, w->id, -1, wait_poll, w);
    w->watch = park_watch(c, STORE_CONTAINER, w->id);
    http_stream(c->req, 200, "application/json", 0, &source, w);
    return true;
}
