/* What a handler asks of a request, streamed bodies and wakers: see http.h.
 *
 * A waker is a small reference-counted object between threads that wake and a request that may be
 * gone.  Its 'dead' flag is set on the loop when the request ends, under the lock under which wakes
 * are posted: after that no wake touches the loop any more, which may then be freed.  Wakes that
 * come faster than the loop runs collapse into one. */
#include <stdatomic.h>
#include <stdlib.h>

#include "http_priv.h"
#include "mem.h"

/* ---- the request ---- */

struct http_req *http_req_new(struct http_conn *c)
{
    struct http_req *r = xcalloc(1, sizeof *r);
    r->server = c->server;
    r->conn = c;
    r->peer = arena_strdup(&r->arena, net_peer(c->stream));
    r->peer_name = arena_strdup(&r->arena, net_peer_name(c->stream));
    http_live(c->server, 1);
    return r;
}

static void waker_detach(struct http_waker *w);

void http_req_free(struct http_req *r)
{
    struct http_server *s = r->server;
    waker_detach(r->waker);
    http_pipe_free(r->pipe);
    loop_timer_free(r->timer);
    buf_fini(&r->body_buf);
    buf_fini(&r->extra);
    buf_fini(&r->act.body);
    buf_fini(&r->out);
    arena_fini(&r->arena);
    free(r);
    http_live(s, -1);
}

const char *http_method(const struct http_req *r)
{
    return r->head.method;
}

struct sv http_path(const struct http_req *r)
{
    return r->head.path;
}

struct sv http_query_raw(const struct http_req *r)
{
    return r->head.query;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* '+' and %XX; a '%' without two digits stands for itself. */
static const char *decode(struct http_req *r, struct sv text)
{
    char *out = arena_alloc(&r->arena, text.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        int hi = -1, lo = -1;
        if (text.p[i] == '%' && i + 2 < text.len) {
            hi = hex_of(text.p[i + 1]);
            lo = hex_of(text.p[i + 2]);
        }
        if (hi >= 0 && lo >= 0) {
            out[n++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            out[n++] = text.p[i] == '+' ? ' ' : text.p[i];
        }
    }
    out[n] = '\0';
    return out;
}

/* The next pair whose key is 'key': false at the end. */
static bool next_value(struct http_req *r, struct sv *query, const char *key, const char **value)
{
    while (query->len) {
        struct sv rest = sv_cut(query, '&');
        struct sv name = sv_cut(&rest, '=');
        if (!name.len)
            continue;
        bool plain = !memchr(name.p, '%', name.len) && !memchr(name.p, '+', name.len);
        if (plain ? sv_is(name, key) : strcmp(decode(r, name), key) == 0) {
            *value = decode(r, rest);
            return true;
        }
    }
    return false;
}

bool http_query(struct http_req *r, const char *key, const char **value)
{
    struct sv query = r->head.query;
    return next_value(r, &query, key, value);
}

void http_query_each(struct http_req *r, const char *key,
                     void (*each)(void *arg, const char *value), void *arg)
{
    struct sv query = r->head.query;
    const char *value;
    while (next_value(r, &query, key, &value))
        each(arg, value);
}

struct sv http_get_header(const struct http_req *r, const char *name)
{
    struct sv want = sv_of(name);
    for (size_t i = 0; i < r->head.count; i++)
        if (sv_eq_nocase(r->head.headers[i].name, want)) {
            struct sv value = r->head.headers[i].value;
            return value.p ? value : SV("");
        }
    return (struct sv){0};
}

struct sv http_body(const struct http_req *r)
{
    return r->body;
}

int64_t http_content_length(const struct http_req *r)
{
    return r->head.chunked ? -1 : (int64_t)r->head.content_length;
}

const char *http_peer(const struct http_req *r)
{
    return r->peer;
}

const char *http_peer_name(const struct http_req *r)
{
    return r->peer_name;
}

struct arena *http_arena(struct http_req *r)
{
    return &r->arena;
}

bool http_wants_upgrade(const struct http_req *r)
{
    return r->head.upgrade;
}

/* A line break in a value would begin a header of its own. */
static void add_clean(struct buf *b, const char *text)
{
    for (; *text; text++)
        buf_add_c(b, (unsigned char)*text < 0x20 && *text != '\t' ? ' ' : *text);
}

void http_set_header(struct http_req *r, const char *name, const char *value)
{
    add_clean(&r->extra, name);
    buf_add_str(&r->extra, ": ");
    add_clean(&r->extra, value);
    buf_add_str(&r->extra, "\r\n");
}

/* ---- answers: noted here by the job's thread, carried out on the loop (http_job.c) ---- */

static struct http_action *answer(struct http_req *r, int kind, int status, const char *type)
{
    buf_fini(&r->act.body);
    r->act = (struct http_action){.kind = kind, .status = status};
    r->act.content_type = arena_strdup(&r->arena, type);
    return &r->act;
}

void http_reply(struct http_req *r, int status, const char *content_type, struct sv body)
{
    buf_add_sv(&answer(r, ACT_REPLY, status, content_type)->body, body);
}

void http_park(struct http_req *r, int64_t deadline_ms, http_poll poll, void (*drop)(void *arg),
               void *arg)
{
    answer(r, ACT_PARK, 0, NULL)->wait_ms = deadline_ms;
    r->park = (struct http_park){poll, drop, arg};
}

void http_stream(struct http_req *r, int status, const char *content_type, int64_t interval_ms,
                 const struct http_source *src, void *arg)
{
    answer(r, ACT_STREAM, status, content_type)->wait_ms = interval_ms;
    r->src = *src;
    r->src_arg = arg;
}

void http_stream_sized(struct http_req *r, int status, const char *content_type, uint64_t size,
                       const struct http_source *src, void *arg)
{
    http_stream(r, status, content_type, 0, src, arg);
    r->act.sized = true;
    r->act.size = size;
}

void http_hijack(struct http_req *r, const char *content_type, const struct http_source *src,
                 const struct http_sink *sink, void *arg)
{
    answer(r, ACT_HIJACK, r->head.upgrade ? 101 : 200, content_type);
    r->src = *src;
    r->src_arg = arg;
    r->sink = sink ? *sink : (struct http_sink){0};
}

/* ---- streamed bodies ---- */

struct http_pipe *http_pipe_new(void)
{
    struct http_pipe *p = xcalloc(1, sizeof *p);
    mutex_init(&p->lock);
    cond_init(&p->more);
    return p;
}

void http_pipe_free(struct http_pipe *p)
{
    if (!p)
        return;
    mutex_lock(&p->lock);
    buf_fini(&p->data);
    mutex_unlock(&p->lock);
    cond_fini(&p->more);
    mutex_fini(&p->lock);
    free(p);
}

bool http_pipe_put(struct http_pipe *p, struct sv data)
{
    mutex_lock(&p->lock);
    buf_consume(&p->data, p->at);
    p->at = 0;
    buf_add_sv(&p->data, data);
    if (p->data.failed)
        vic_fail(&p->failed, VIC_NO_MEMORY, 0, "no memory for the request body");
    p->full = p->data.len >= HTTP_PIPE_HIGH;
    bool room = !p->full;
    cond_signal(&p->more);
    mutex_unlock(&p->lock);
    return room;
}

void http_pipe_end(struct http_pipe *p)
{
    mutex_lock(&p->lock);
    p->end = true;
    cond_signal(&p->more);
    mutex_unlock(&p->lock);
}

void http_pipe_fail(struct http_pipe *p, const struct vic_err *err)
{
    mutex_lock(&p->lock);
    if (!p->end && p->failed.code == VIC_OK)
        p->failed = *err;
    cond_signal(&p->more);
    mutex_unlock(&p->lock);
}

/* The reader has made room. */
static void on_room(void *arg)
{
    struct http_req *r = arg;
    r->input_blocked = false;
    if (r->conn)
        http_conn_process(r->conn);
}

static void on_first_read(void *arg)
{
    struct http_req *r = arg;
    if (r->conn && r->conn->body.state != BODY_DONE)
        net_write(r->conn->stream, SV("HTTP/1.1 100 Continue\r\n\r\n"));
}

bool http_body_read(struct http_req *r, void *out, size_t size, size_t *got, struct vic_err *err)
{
    struct http_pipe *p = r->pipe;
    *got = 0;
    if (!p)
        return vic_fail(err, VIC_INTERNAL, 0, "this request's body is not a stream");
    mutex_lock(&p->lock);
    if (!p->asked && r->head.expect_continue)
        loop_post_late(r->server->loop, on_first_read, r);
    p->asked = true;
    while (p->at == p->data.len && !p->end && p->failed.code == VIC_OK)
        cond_wait(&p->more, &p->lock);
    size_t have = p->data.len - p->at;
    bool ok = have > 0 || p->end;
    if (!ok && err)
        *err = p->failed;
    *got = have < size ? have : size;
    if (*got)
        memcpy(out, p->data.data + p->at, *got);
    p->at += *got;
    if (p->full && p->data.len - p->at <= HTTP_PIPE_LOW) {
        p->full = false;
        loop_post_late(r->server->loop, on_room, r);
    }
    mutex_unlock(&p->lock);
    return ok;
}

/* ---- wakers ---- */

enum { WAKE_OUTPUT = 1, WAKE_INPUT = 2 };

struct http_waker {
    atomic_uint refs;
    struct loop *loop;
    struct http_req *req; /* owned by loop thread */
    struct vic_mutex lock;
    /* guarded: lock */
    bool dead VIC_GUARDED;
    unsigned posted VIC_GUARDED;
};

static void unref(struct http_waker *w)
{
    if (atomic_fetch_sub(&w->refs, 1) != 1)
        return;
    mutex_fini(&w->lock);
    free(w);
}

struct http_waker *http_waker(struct http_req *r)
{
    if (!r->waker) {
        struct http_waker *w = xcalloc(1, sizeof *w);
        w->loop = r->server->loop;
        w->req = r;
        mutex_init(&w->lock);
        atomic_store(&w->refs, 1); /* the request's */
        r->waker = w;
    }
    atomic_fetch_add(&r->waker->refs, 1);
    return r->waker;
}

static void waker_detach(struct http_waker *w)
{
    if (!w)
        return;
    mutex_lock(&w->lock);
    w->dead = true;
    mutex_unlock(&w->lock);
    w->req = NULL;
    unref(w);
}

static void on_wake(void *arg)
{
    struct http_waker *w = arg;
    mutex_lock(&w->lock);
    unsigned what = w->posted;
    w->posted = 0;
    mutex_unlock(&w->lock);
    struct http_req *r = w->req;
    if (r && what & WAKE_INPUT && r->conn && r->state == REQ_RAW) {
        r->input_blocked = false;
        http_conn_process(r->conn);
    }
    if (w->req && what & WAKE_OUTPUT)
        http_job_wake(w->req);
    unref(w);
}

static void wake(struct http_waker *w, unsigned what)
{
    mutex_lock(&w->lock);
    if (!w->dead) {
        bool first = !w->posted;
        w->posted |= what;
        if (first) {
            atomic_fetch_add(&w->refs, 1);
            loop_post_late(w->loop, on_wake, w);
        }
    }
    mutex_unlock(&w->lock);
}

void http_wake(struct http_waker *w)
{
    wake(w, WAKE_OUTPUT);
}

void http_wake_input(struct http_waker *w)
{
    wake(w, WAKE_INPUT);
}

void http_waker_free(struct http_waker *w)
{
    if (w)
        unref(w);
}
