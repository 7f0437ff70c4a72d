/* A connection of the HTTP server; loop thread only.
 *
 *   HEAD   --head complete-->  BODY (taken whole)  --complete-->  BUSY
 *   HEAD   --head complete-->  BUSY (no body, or one that is a stream)
 *   BUSY   --answered-->       HEAD, or LINGER when the connection ends with the answer
 *   BUSY   --hijacked-->       RAW  --source ended-->  LINGER
 *
 * What was received waits in 'in' until a step takes it: step() is called until it makes no more
 * progress, so requests that came in one packet are answered one after the other without recursion
 * (an answer given inside a step comes back here as a flag).  'in' is bounded: reading pauses when
 * a request is being answered and 64 KiB wait behind it, or when a body's reader is full.
 *
 * LINGER: after the last answer our side is shut and the client's bytes are thrown away for a
 * moment.  Closing with unread bytes would make the kernel send a reset, which can overtake the
 * answer. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "http_priv.h"
#include "mem.h"

enum { LINGER_MS = 2000, SMALL_BODY = 16 * 1024, MAX_BODY = 4 * 1024 * 1024, REJECT_EXTRA = 64 };

static struct sv view(const struct http_conn *c)
{
    return c->in.data ? sv_make(c->in.data + c->at, c->in.len - c->at) : (struct sv){"", 0};
}

/* Sets the front to 'rest', which is a tail of view(c). */
static void take(struct http_conn *c, struct sv rest)
{
    c->at = c->in.len - rest.len;
    if (!rest.len) {
        buf_fini(&c->in);
        c->at = 0;
    }
}

static void drop_input(struct http_conn *c)
{
    buf_fini(&c->in);
    c->at = c->scan = 0;
}

/* ---- answers ---- */

static const struct {
    int status;
    const char *reason;
} reasons[] = {{101, "UPGRADED"},
               {200, "OK"},
               {201, "Created"},
               {202, "Accepted"},
               {204, "No Content"},
               {206, "Partial Content"},
               {301, "Moved Permanently"},
               {302, "Found"},
               {304, "Not Modified"},
               {400, "Bad Request"},
               {401, "Unauthorized"},
               {403, "Forbidden"},
               {404, "Not Found"},
               {405, "Method Not Allowed"},
               {408, "Request Timeout"},
               {409, "Conflict"},
               {413, "Content Too Large"},
               {414, "URI Too Long"},
               {416, "Range Not Satisfiable"},
               {417, "Expectation Failed"},
               {429, "Too Many Requests"},
               {431, "Request Header Fields Too Large"},
               {500, "Internal Server Error"},
               {501, "Not Implemented"},
               {502, "Bad Gateway"},
               {503, "Service Unavailable"},
               {504, "Gateway Timeout"},
               {505, "HTTP Version Not Supported"},
               {507, "Insufficient Storage"}};

static const char *reason_of(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Status";
}

/* RFC 9110 section 5.6.7; made once a second. */
static const char *date_of(struct http_server *s)
{
    int64_t now = clock_wall_ns(&vic_clock_real) / 1000000000;
    if (now != s->date_s) {
        time_t t = (time_t)now;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        s->date_s = now;
    }
    return s->date;
}

static void add_framing(struct buf *b, enum http_framing framing, uint64_t length)
{
    if (framing == FRAME_CHUNKED)
        buf_add_str(b, "Transfer-Encoding: chunked\r\n");
    if (framing == FRAME_LENGTH) {
        buf_add_str(b, "Content-Length: ");
        buf_add_u64(b, length);
        buf_add_str(b, "\r\n");
    }
}

static void add_connection(struct buf *b, const struct http_req *r, int status, bool keep)
{
    if (status == 101) {
        buf_add_str(b, "Connection: Upgrade\r\nUpgrade: ");
        buf_add_sv(b, r->head.upgrade_to);
        buf_add_str(b, "\r\n");
    } else if (!keep) {
        buf_add_str(b, "Connection: close\r\n");
    } else if (r && r->head.http10) {
        buf_add_str(b, "Connection: keep-alive\r\n");
    }
}

void http_conn_head(struct http_conn *c, struct http_req *r, const struct http_answer *a)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "HTTP/1.1 %d %s\r\n", a->status, reason_of(a->status));
    buf_addf(&b, "Date: %s\r\n", date_of(c->server));
    buf_add_sv(&b, buf_sv(&c->server->fixed));
    if (r)
        buf_add_sv(&b, buf_sv(&r->extra));
    if (a->content_type)
        buf_addf(&b, "Content-Type: %s\r\n", a->content_type);
    add_framing(&b, a->framing, a->length);
    add_connection(&b, r, a->status, a->keep);
    buf_add_str(&b, "\r\n");
    if (a->body.len <= SMALL_BODY)
        buf_add_sv(&b, a->body);
    net_write(c->stream, buf_sv(&b));
    if (a->body.len > SMALL_BODY)
        net_write(c->stream, a->body);
}

static enum vic_code code_of(int status)
{
    switch (status) {
    case 408:
        return VIC_TIMEOUT;
    case 413:
    case 414:
    case 431:
        return VIC_TOO_LARGE;
    case 501:
    case 505:
        return VIC_UNSUPPORTED;
    case 503:
        return VIC_BUSY;
    default:
        return VIC_INVALID;
    }
}

void http_error_body_of(const struct http_options *o, int status, const char *text, struct buf *out,
                        const char **type)
{
    struct vic_err err;
    *type = "text/plain; charset=utf-8";
    vic_fail(&err, code_of(status), 0, "%s", text);
    if (o->error_body) {
        o->error_body(o->arg, &err, status, out, type);
    } else {
        buf_add_str(out, text);
        buf_add_c(out, '\n');
    }
}

/* An answer of the server itself, then the end.  A request that was being read is dropped. */
static void refuse(struct http_conn *c, int status, const char *text)
{
    AUTO_BUF struct buf body = {0};
    struct http_answer a = {.status = status, .framing = FRAME_LENGTH};
    log_debug(c->server->o.log, "http.refused", KV_S("peer", net_peer(c->stream)),
              KV_I("status", status), KV_S("err", text));
    http_error_body_of(&c->server->o, status, text, &body, &a.content_type);
    bool head_only = c->req && c->req->head.method && strcmp(c->req->head.method, "HEAD") == 0;
    a.length = body.len;
    a.body = head_only ? (struct sv){0} : buf_sv(&body);
    http_conn_head(c, NULL, &a);
    if (c->req) {
        http_req_free(c->req);
        c->req = NULL;
    }
    http_conn_linger(c);
}

void http_conn_linger(struct http_conn *c)
{
    c->state = CONN_LINGER;
    drop_input(c);
    if (c->eof) {
        net_close(c->stream);
        return;
    }
    net_shutdown(c->stream);
    if (c->paused)
        net_resume(c->stream);
    c->paused = false;
    /* A slow reader gets the time of an idle client, and then the moment more. */
    loop_timer_set(c->timer, net_pending(c->stream) ? c->server->o.idle_ms : LINGER_MS);
}

void http_conn_next(struct http_conn *c, bool keep)
{
    c->served = true;
    if (!keep) {
        http_conn_linger(c);
        return;
    }
    c->state = CONN_HEAD;
    c->head_begun = false;
    c->scan = 0;
    loop_timer_set(c->timer, c->server->o.idle_ms);
    http_conn_process(c);
}

/* ---- steps: each takes something from the front of 'in'; false: no progress ---- */

static void dispatch(struct http_conn *c)
{
    c->state = CONN_BUSY;
    c->head_begun = false;
    if (c->body.state == BODY_DONE)
        loop_timer_stop(c->timer);
    else
        loop_timer_set(c->timer, c->server->o.idle_ms);
    http_job_dispatch(c->req);
}

static void begin_body(struct http_conn *c)
{
    const struct http_options *o = &c->server->o;
    struct http_req *r = c->req;
    enum http_body_kind kind = HTTP_BODY_WHOLE;
    c->body_max = MAX_BODY;
    c->body_bytes = 0;
    http_body_begin(&c->body, &r->head);
    if (o->classify)
        kind = o->classify(o->arg, r->head.method, r->head.path, &c->body_max);
    if (r->head.content_length > c->body_max) {
        refuse(c, 413, "request body is too large");
    } else if (r->head.expect_other) {
        refuse(c, 417, "unsupported expectation");
    } else if (kind == HTTP_BODY_STREAM) {
        r->pipe = http_pipe_new();
        if (c->body.state == BODY_DONE)
            http_pipe_end(r->pipe);
        dispatch(c);
    } else if (c->body.state == BODY_DONE) {
        dispatch(c);
    } else {
        c->state = CONN_BODY;
        loop_timer_set(c->timer, o->head_ms);
        if (r->head.expect_continue && !view(c).len)
            net_write(c->stream, SV("HTTP/1.1 100 Continue\r\n\r\n"));
    }
}

/* No end of a head yet: is it too long already?  Its time runs from its first byte. */
static bool wait_for_head(struct http_conn *c, struct sv in)
{
    if (in.len > c->server->o.max_head) {
        if (memchr(in.p, '\n', c->server->o.max_head))
            refuse(c, 431, "request head is too large");
        else
            refuse(c, 414, "request line is too long");
        return true;
    }
    if (!c->head_begun) {
        c->head_begun = true;
        loop_timer_set(c->timer, c->server->o.head_ms);
    }
    return false;
}

static bool step_head(struct http_conn *c)
{
    struct sv in = view(c);
    while (in.len >= 2 && in.p[0] == '\r' && in.p[1] == '\n' && !c->head_begun)
        in = sv_sub(in, 2, SIZE_MAX); /* RFC 9112 section 2.2 */
    if (in.len != view(c).len)
        take(c, in);
    if (!in.len || net_pending(c->stream) >= HTTP_HIGH)
        return false;
    size_t end = http_head_end(in, &c->scan);
    if (!end || end > c->server->o.max_head)
        return wait_for_head(c, in);
    struct vic_err err;
    struct http_req *r = c->req = http_req_new(c);
    struct sv raw = sv_make(arena_copy(&r->arena, in.p, end), end);
    int status = http_head_parse(&r->arena, raw, &r->head, &err);
    c->scan = 0;
    take(c, sv_sub(in, end, SIZE_MAX));
    if (status)
        refuse(c, status, err.msg);
    else
        begin_body(c);
    return true;
}

/* The body's next piece.  False and a status when it breaks a rule. */
static bool next_piece(struct http_conn *c, struct sv *in, struct sv *piece, int *status)
{
    if (!http_body_step(&c->body, in, piece))
        *status = 400;
    c->body_bytes += piece->len;
    if (c->body_bytes > c->body_max)
        *status = 413;
    return *status == 0;
}

static const char *body_error(int status)
{
    return status == 413 ? "request body is too large" : "malformed chunked request body";
}

static bool step_body(struct http_conn *c)
{
    struct sv in = view(c), piece;
    int status = 0;
    if (!in.len)
        return false;
    while (in.len && c->body.state != BODY_DONE) {
        if (!next_piece(c, &in, &piece, &status)) {
            refuse(c, status, body_error(status));
            return true;
        }
        buf_add_sv(&c->req->body_buf, piece);
    }
    take(c, in);
    if (c->req->body_buf.failed) {
        refuse(c, 413, body_error(413));
    } else if (c->body.state == BODY_DONE) {
        c->req->body = buf_sv(&c->req->body_buf);
        dispatch(c);
    } else {
        loop_timer_set(c->timer, c->server->o.head_ms);
    }
    return true;
}

static void break_pipe(struct http_conn *c, int status)
{
    struct vic_err err;
    vic_fail(&err, code_of(status), 0, "%s", body_error(status));
    c->req->input_blocked = true; /* what follows means nothing; the answer ends the connection */
    http_pipe_fail(c->req->pipe, &err);
}

static bool step_pipe(struct http_conn *c)
{
    struct http_req *r = c->req;
    struct sv in = view(c), piece;
    int status = 0;
    if (!in.len || !r || !r->pipe || r->input_blocked || c->body.state == BODY_DONE)
        return false;
    while (in.len && c->body.state != BODY_DONE && !r->input_blocked) {
        if (!next_piece(c, &in, &piece, &status)) {
            break_pipe(c, status);
            break;
        }
        if (piece.len)
            r->input_blocked = !http_pipe_put(r->pipe, piece);
    }
    take(c, in);
    if (c->body.state == BODY_DONE && !status) {
        http_pipe_end(r->pipe);
        loop_timer_stop(c->timer);
    } else {
        loop_timer_set(c->timer, c->server->o.idle_ms);
    }
    return true;
}

static bool step_raw(struct http_conn *c)
{
    struct http_req *r = c->req;
    struct sv in = view(c);
    if (!r || r->input_blocked)
        return false;
    if (in.len) {
        size_t n = r->sink.data ? r->sink.data(r->src_arg, in) : in.len;
        r->input_blocked = n < in.len;
        take(c, sv_sub(in, n, SIZE_MAX));
    }
    if (c->eof && !r->eof_told && !view(c).len) {
        r->eof_told = true;
        if (r->sink.eof)
            r->sink.eof(r->src_arg);
    }
    return false;
}

static bool step(struct http_conn *c)
{
    switch (c->state) {
    case CONN_HEAD:
        return step_head(c);
    case CONN_BODY:
        return step_body(c);
    case CONN_BUSY:
        return step_pipe(c);
    case CONN_RAW:
        return step_raw(c);
    case CONN_LINGER:
    case CONN_REJECT:
        drop_input(c);
    }
    return false;
}

static bool too_much(const struct http_conn *c)
{
    size_t waiting = view(c).len;
    if (c->req && c->req->input_blocked && waiting)
        return true;
    bool blocked =
        c->state == CONN_BUSY || (c->state == CONN_HEAD && net_pending(c->stream) >= HTTP_HIGH);
    return blocked && waiting >= HTTP_IN_MAX;
}

void http_conn_process(struct http_conn *c)
{
    if (c->processing)
        return; /* the loop below goes on */
    c->processing = true;
    while (step(c))
        ;
    c->processing = false;
    bool pause = too_much(c);
    if (pause != c->paused) {
        c->paused = pause;
        if (pause)
            net_pause(c->stream);
        else
            net_resume(c->stream);
    }
    if (c->eof && c->state == CONN_HEAD && net_pending(c->stream) < HTTP_HIGH)
        net_close(c->stream);
}

/* ---- the stream's callbacks ---- */

static void on_ready(void *arg)
{
    struct http_conn *c = arg;
    /* Refused in a later turn: libuv accepts as long as clients come, and one that hears its answer
     * within the accept comes again at once, for ever, while nobody else is served. */
    loop_timer_set(c->timer, c->state == CONN_REJECT ? 0 : c->server->o.head_ms);
}

static void on_data(void *arg, struct sv data)
{
    struct http_conn *c = arg;
    if (c->state == CONN_LINGER || c->state == CONN_REJECT)
        return;
    buf_consume(&c->in, c->at);
    c->at = 0;
    buf_add_sv(&c->in, data);
    if (c->in.failed)
        net_abort(c->stream);
    else
        http_conn_process(c);
}

static void on_eof(void *arg)
{
    struct http_conn *c = arg;
    struct vic_err err;
    c->eof = true;
    switch (c->state) {
    case CONN_HEAD:
    case CONN_RAW:
        http_conn_process(c);
        break;
    case CONN_BUSY:
        if (c->req && c->req->pipe && c->body.state != BODY_DONE) {
            vic_fail(&err, VIC_CANCELED, 0, "the client ended within its request");
            http_pipe_fail(c->req->pipe, &err);
        }
        if (c->req)
            http_job_eof(c->req);
        break;
    case CONN_BODY:
    case CONN_LINGER:
    case CONN_REJECT:
        net_close(c->stream);
    }
}

static void on_drain(void *arg)
{
    struct http_conn *c = arg;
    if (c->state == CONN_LINGER)
        loop_timer_set(c->timer, LINGER_MS);
    else if (c->req && (c->state == CONN_BUSY || c->state == CONN_RAW))
        http_job_pump(c->req);
    else
        http_conn_process(c);
}

static void on_close(void *arg, const struct vic_err *err)
{
    struct http_conn *c = arg;
    struct http_server *s = c->server;
    struct http_req *r = c->req;
    if (err)
        log_debug(s->o.log, "http.lost", KV_ERR(err));
    if (r && r->state == REQ_READING)
        http_req_free(r);
    else if (r)
        http_job_gone(r);
    TAILQ_REMOVE(&s->conns, c, link);
    s->conn_count--;
    loop_timer_free(c->timer);
    buf_fini(&c->in);
    free(c);
    http_live(s, -1);
}

static const struct net_callbacks callbacks = {on_ready, on_data, on_eof, on_drain, on_close};

static void on_timer(void *arg)
{
    struct http_conn *c = arg;
    struct vic_err err;
    switch (c->state) {
    case CONN_HEAD:
        if (c->head_begun)
            refuse(c, 408, "request head was not complete in time");
        else
            net_close(c->stream);
        break;
    case CONN_BODY:
        refuse(c, 408, "request body was not complete in time");
        break;
    case CONN_BUSY:
        if (c->req && c->req->pipe && !c->req->input_blocked) {
            vic_fail(&err, VIC_TIMEOUT, 0, "the client stopped sending its request");
            http_pipe_fail(c->req->pipe, &err);
        }
        break;
    case CONN_REJECT:
        refuse(c, 503, "too many connections");
        break;
    case CONN_LINGER:
        net_abort(c->stream);
        break;
    case CONN_RAW:
        break;
    }
}

void http_conn_accept(void *server, struct net_stream *stream)
{
    struct http_server *s = server;
    if (s->closing || s->conn_count >= s->o.max_connections + REJECT_EXTRA) {
        net_abort(stream);
        return;
    }
    struct http_conn *c = xcalloc(1, sizeof *c);
    c->server = s;
    c->stream = stream;
    c->state = s->conn_count >= s->o.max_connections ? CONN_REJECT : CONN_HEAD;
    c->timer = loop_timer_new(s->loop, on_timer, c);
    TAILQ_INSERT_TAIL(&s->conns, c, link);
    s->conn_count++;
    http_live(s, 1);
    net_set(stream, &callbacks, c);
}

void http_conn_end(struct http_conn *c)
{
    if (net_pending(c->stream))
        net_abort(c->stream);
    else
        net_close(c->stream); /* says goodbye in TLS */
}
