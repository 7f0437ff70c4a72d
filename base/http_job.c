/* A request's life behind its head: see http.h and the ownership rule in http_priv.h.
 *
 * The loop starts a job (handler, poll, fill, free) in a pool and hears of its end through
 * job_done.  A handler's answer is only noted in r->act by its thread; it is carried out here, on
 * the loop.  So all decisions about a request are made by one thread, and 'running' is the only
 * thing that keeps it from touching the job's fields.
 *
 *   HANDLER --reply--> gone      PARKED --poll answered--> any of these
 *   HANDLER --park-->  PARKED    STREAM, RAW --END--> gone
 *   HANDLER --stream--> STREAM   any --client gone--> free job --> gone
 *
 * 'again' collects reasons to call poll or fill once more while one runs, or while the client does
 * not read: at most 64 KiB wait for the kernel before the next fill, and a fill makes about that
 * much, so a deaf client costs one buffer and no thread.
 *
 * A client that ends its side (EOF) while parked or while its source waits is taken as gone: HTTP
 * clients do not half-close, and a closed TCP connection looks just so.  An answer that is being
 * written when EOF comes is still written. */
#include <stdio.h>

#include "http_priv.h"
#include "mem.h"

enum { RETRY_MS = 10, CHUNK_PREFIX = 10 /* eight digits, CR LF */ };

static void job_done(void *arg);

/* ---- in the pool ---- */

static void run_poll(struct http_req *r)
{
    struct http_park park = r->park;
    r->park = (struct http_park){0};
    r->answered = park.poll(park.arg, r, r->timed_out) || r->act.kind != ACT_NONE;
    if (!r->answered)
        r->park = park;
    else if (park.drop)
        park.drop(park.arg);
}

static void run_free(struct http_req *r)
{
    if (r->park.drop)
        r->park.drop(r->park.arg);
    if (r->src.free)
        r->src.free(r->src_arg);
}

static void job_main(void *arg)
{
    struct http_req *r = arg;
    struct loop *l = r->server->loop;
    switch (r->job) {
    case JOB_HANDLE:
        r->server->o.handler(r->server->o.arg, r);
        break;
    case JOB_POLL:
        run_poll(r);
        break;
    case JOB_FILL:
        r->filled = r->src.fill(r->src_arg, &r->out);
        break;
    case JOB_FREE:
        run_free(r);
        break;
    }
    loop_post_late(l, job_done, r);
}

/* ---- on the loop ---- */

static bool hand_over(struct http_req *r)
{
    struct http_server *s = r->server;
    struct vic_pool *pool = r->job == JOB_HANDLE && r->pipe ? s->body_pool : s->o.pool;
    return pool_run(pool, job_main, r);
}

static void job_start(struct http_req *r, enum http_job job)
{
    struct http_server *s = r->server;
    r->running = true;
    r->again = false;
    r->job = job;
    r->timed_out = r->deadline_hit;
    r->act.kind = ACT_NONE;
    if (hand_over(r))
        return;
    /* A full pool: these jobs own things and must run once; they are few, and come again soon. */
    if (TAILQ_EMPTY(&s->refused))
        loop_timer_set(s->retry, RETRY_MS);
    TAILQ_INSERT_TAIL(&s->refused, r, refused);
}

void http_job_retry(void *server)
{
    struct http_server *s = server;
    struct http_req *r;
    while ((r = TAILQ_FIRST(&s->refused))) {
        TAILQ_REMOVE(&s->refused, r, refused);
        if (hand_over(r))
            continue;
        TAILQ_INSERT_HEAD(&s->refused, r, refused);
        loop_timer_set(s->retry, RETRY_MS);
        return;
    }
}

static struct http_conn *detach(struct http_req *r)
{
    struct http_conn *c = r->conn;
    c->req = NULL;
    r->conn = NULL;
    r->state = REQ_ENDED;
    if (r->timer)
        loop_timer_stop(r->timer);
    return c;
}

/* Detached and not running: what it owns goes, then the request. */
static void finish(struct http_req *r)
{
    if (r->park.drop || r->src.free)
        job_start(r, JOB_FREE);
    else
        http_req_free(r);
}

void http_job_gone(struct http_req *r)
{
    struct vic_err err;
    detach(r);
    if (r->pipe) {
        vic_fail(&err, VIC_CANCELED, 0, "the client went away");
        http_pipe_fail(r->pipe, &err);
    }
    if (!r->running)
        finish(r);
}

static void gone_by_eof(struct http_req *r)
{
    struct http_conn *c = r->conn;
    http_job_gone(r);
    net_close(c->stream);
}

void http_job_eof(struct http_req *r)
{
    bool waiting = r->state == REQ_PARKED || (r->state == REQ_STREAM && !r->running && !r->again);
    if (waiting)
        gone_by_eof(r);
}

void http_job_pump(struct http_req *r)
{
    if (r->running || !r->again || !r->conn)
        return;
    if (r->state == REQ_PARKED) {
        job_start(r, JOB_POLL);
    } else if (r->state == REQ_STREAM || r->state == REQ_RAW) {
        if (net_pending(r->conn->stream) >= HTTP_HIGH)
            return; /* on_drain comes back */
        buf_reset(&r->out);
        if (r->framing == FRAME_CHUNKED)
            buf_add(&r->out, "00000000\r\n", CHUNK_PREFIX);
        job_start(r, JOB_FILL);
    }
}

void http_job_wake(struct http_req *r)
{
    r->again = true;
    http_job_pump(r);
}

static void on_timer(void *arg)
{
    struct http_req *r = arg;
    r->deadline_hit = r->state == REQ_PARKED;
    http_job_wake(r);
}

static void set_timer(struct http_req *r, int64_t ms)
{
    if (!r->timer)
        r->timer = loop_timer_new(r->server->loop, on_timer, r);
    loop_timer_set(r->timer, ms);
}

/* ---- carrying out an answer ---- */

static bool can_keep(const struct http_req *r)
{
    return r->head.keep_alive && r->conn->body.state == BODY_DONE && !r->server->closing;
}

static bool bodyless(const struct http_req *r, int status)
{
    return strcmp(r->head.method, "HEAD") == 0 || status == 204 || status == 304;
}

static void do_reply(struct http_req *r)
{
    struct http_answer a = {.status = r->act.status,
                            .content_type = r->act.content_type,
                            .framing = FRAME_LENGTH,
                            .length = r->act.body.len,
                            .body = buf_sv(&r->act.body),
                            .keep = can_keep(r)};
    if (bodyless(r, a.status)) {
        a.body = (struct sv){0};
        if (a.status == 204 || a.status == 304)
            a.framing = FRAME_NONE;
    }
    http_conn_head(r->conn, r, &a);
    struct http_conn *c = detach(r);
    finish(r);
    http_conn_next(c, a.keep);
}

static void do_park(struct http_req *r)
{
    r->state = REQ_PARKED;
    r->deadline_hit = false;
    if (r->conn->eof) {
        gone_by_eof(r);
        return;
    }
    if (r->act.wait_ms >= 0)
        set_timer(r, r->act.wait_ms);
    job_start(r, JOB_POLL);
}

static void end_answer(struct http_req *r, bool keep)
{
    struct http_conn *c = detach(r);
    finish(r);
    http_conn_next(c, keep);
}

static void do_stream(struct http_req *r)
{
    r->framing = r->act.sized ? FRAME_LENGTH : r->head.http10 ? FRAME_CLOSE : FRAME_CHUNKED;
    r->keep = can_keep(r) && r->framing != FRAME_CLOSE;
    r->left = r->act.size;
    r->interval_ms = r->act.wait_ms;
    struct http_answer a = {.status = r->act.status,
                            .content_type = r->act.content_type,
                            .framing = r->framing,
                            .length = r->act.size,
                            .keep = r->keep};
    bool none = bodyless(r, a.status);
    if (none && !r->act.sized)
        a.framing = FRAME_NONE;
    http_conn_head(r->conn, r, &a);
    if (r->timer)
        loop_timer_stop(r->timer);
    if (none) {
        end_answer(r, r->keep);
        return;
    }
    r->state = REQ_STREAM;
    http_job_wake(r);
}

static void reply_error(struct http_req *r, int status, const char *text)
{
    AUTO_BUF struct buf body = {0};
    const char *type;
    http_error_body_of(&r->server->o, status, text, &body, &type);
    http_reply(r, status, type, buf_sv(&body));
    do_reply(r);
}

static void do_hijack(struct http_req *r)
{
    struct http_conn *c = r->conn;
    if (c->body.state != BODY_DONE) {
        log_error(r->server->o.log, "http.hijack_within_body", KV_SV("path", r->head.path));
        reply_error(r, 500, "connection taken over within its request's body");
        return;
    }
    struct http_answer a = {.status = r->act.status,
                            .content_type = r->act.content_type,
                            .framing = FRAME_NONE,
                            .keep = true};
    http_conn_head(c, r, &a);
    if (r->timer)
        loop_timer_stop(r->timer);
    r->framing = FRAME_CLOSE;
    r->interval_ms = 0;
    r->state = REQ_RAW;
    c->state = CONN_RAW;
    http_job_wake(r);
    http_conn_process(c); /* what came right behind the head is the sink's */
}

static void after_call(struct http_req *r)
{
    switch (r->act.kind) {
    case ACT_NONE:
        if (r->job == JOB_POLL && !r->timed_out && !r->answered) {
            if (r->conn->eof)
                gone_by_eof(r);
            else
                http_job_pump(r);
            break;
        }
        log_error(r->server->o.log, "http.no_answer", KV_SV("path", r->head.path));
        reply_error(r, 500, "the request was not answered");
        break;
    case ACT_REPLY:
        do_reply(r);
        break;
    case ACT_PARK:
        do_park(r);
        break;
    case ACT_STREAM:
        do_stream(r);
        break;
    case ACT_HIJACK:
        do_hijack(r);
        break;
    }
}

/* ---- a source's bytes ---- */

/* Frames and writes what fill made.  False: it broke its own promise of a length. */
static bool write_filled(struct http_req *r)
{
    struct buf *out = &r->out;
    bool end = r->filled == HTTP_END, ok = !out->failed;
    if (r->framing == FRAME_CHUNKED && ok) {
        size_t size = out->len - CHUNK_PREFIX, from = size ? 0 : CHUNK_PREFIX;
        char digits[CHUNK_PREFIX + 1];
        ok = size <= UINT32_MAX;
        snprintf(digits, sizeof digits, "%08x\r\n", (unsigned)size);
        memcpy(out->data, digits, CHUNK_PREFIX);
        while (from < 7 && out->data[from] == '0')
            from++;
        if (size)
            buf_add_str(out, "\r\n");
        if (end)
            buf_add_str(out, "0\r\n\r\n");
        ok = ok && !out->failed;
        if (ok)
            net_write(r->conn->stream, sv_sub(buf_sv(out), from, SIZE_MAX));
        return ok;
    }
    if (r->framing == FRAME_LENGTH) {
        ok = ok && out->len <= r->left && (!end || out->len == r->left);
        r->left -= out->len <= r->left ? out->len : r->left;
    }
    if (ok)
        net_write(r->conn->stream, buf_sv(out));
    return ok;
}

static void end_source(struct http_req *r)
{
    if (r->state != REQ_RAW) {
        end_answer(r, r->keep);
        return;
    }
    struct http_conn *c = detach(r);
    finish(r);
    http_conn_linger(c);
}

static void after_fill(struct http_req *r)
{
    if (!write_filled(r)) {
        log_error(r->server->o.log, "http.bad_source", KV_SV("path", r->head.path));
        net_abort(r->conn->stream); /* the client must not take this for a whole answer */
        return;
    }
    switch (r->filled) {
    case HTTP_END:
        end_source(r);
        return;
    case HTTP_MORE:
        r->again = true;
        break;
    case HTTP_WAIT:
        if (!r->again && r->conn->eof && r->state == REQ_STREAM) {
            gone_by_eof(r);
            return;
        }
        if (r->interval_ms > 0)
            set_timer(r, r->interval_ms);
        break;
    }
    http_job_pump(r);
    if (!r->running)
        buf_fini(&r->out); /* waiting costs no memory */
}

static void job_done(void *arg)
{
    struct http_req *r = arg;
    r->running = false;
    if (r->job == JOB_FREE)
        http_req_free(r);
    else if (!r->conn)
        finish(r);
    else if (r->job == JOB_FILL)
        after_fill(r);
    else
        after_call(r);
}

void http_job_dispatch(struct http_req *r)
{
    r->state = REQ_HANDLER;
    job_start(r, JOB_HANDLE);
    if (TAILQ_LAST(&r->server->refused, http_reqs) != r)
        return;
    /* No room for a new request: the client hears it now. */
    TAILQ_REMOVE(&r->server->refused, r, refused);
    r->running = false;
    log_warn(r->server->o.log, "http.overload", KV_SV("path", r->head.path));
    reply_error(r, 503, "too many requests are waiting");
}
