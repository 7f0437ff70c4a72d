/* The HTTP server: options, listeners, its end: see http.h and http_priv.h.
 *
 * Ending.  Connections are closed on the loop; requests end when their last job has.  'live' counts
 * both, and http_server_free waits for zero.  If the loop does not run any more (a daemon that
 * stopped its main loop and now takes things apart), the caller takes the loop's place and turns
 * it until then. */
#include "http.h"

#include <stdlib.h>

#include "http_priv.h"
#include "mem.h"

enum { WAIT_MS = 50 };

void http_live(struct http_server *s, int change)
{
    mutex_lock(&s->lock);
    s->live += (size_t)(ptrdiff_t)change;
    if (!s->live)
        cond_broadcast(&s->gone);
    mutex_unlock(&s->lock);
}

static void set_defaults(struct http_options *o)
{
    if (!o->body_threads)
        o->body_threads = 4;
    if (!o->max_head)
        o->max_head = 64 * 1024;
    if (!o->head_ms)
        o->head_ms = 30 * 1000;
    if (!o->idle_ms)
        o->idle_ms = 10 * 60 * 1000;
    if (!o->max_connections)
        o->max_connections = 4096;
}

struct http_server *http_server_new(struct loop *l, const struct http_options *o,
                                    struct vic_err *err)
{
    if (!o->handler || !o->pool) {
        vic_fail(err, VIC_INTERNAL, 0, "an HTTP server needs a handler and a pool");
        return NULL;
    }
    struct http_server *s = xcalloc(1, sizeof *s);
    s->loop = l;
    s->o = *o;
    set_defaults(&s->o);
    for (const char *const *h = o->headers; h && *h; h++) {
        buf_add_str(&s->fixed, *h);
        buf_add_str(&s->fixed, "\r\n");
    }
    TAILQ_INIT(&s->conns);
    TAILQ_INIT(&s->refused);
    mutex_init(&s->lock);
    cond_init(&s->gone);
    s->body_pool = pool_new("http-body", s->o.body_threads, 0);
    s->retry = loop_timer_new(l, http_job_retry, s);
    return s;
}

bool http_listen(struct http_server *s, const char *address, struct tls_ctx *tls, int *port,
                 struct vic_err *err)
{
    const struct net_options o = {.tls = tls};
    if (s->listener_count == HTTP_MAX_LISTENERS)
        return vic_fail(err, VIC_INVALID, 0, "more than %d addresses", HTTP_MAX_LISTENERS);
    struct net_listener *n = net_listen(s->loop, address, &o, http_conn_accept, s, err);
    if (!n)
        return false;
    s->listeners[s->listener_count++] = n;
    if (port)
        *port = net_listener_port(n);
    return true;
}

bool http_adopt(struct http_server *s, int fd, struct tls_ctx *tls, struct vic_err *err)
{
    const struct net_options o = {.tls = tls};
    static const struct net_callbacks none;
    struct net_stream *stream = net_adopt(s->loop, fd, &o, true, &none, NULL, err);
    if (stream)
        http_conn_accept(s, stream);
    return stream != NULL;
}

static void end_all(void *arg)
{
    struct http_server *s = arg;
    struct http_conn *c;
    s->closing = true;
    for (unsigned i = 0; i < s->listener_count; i++)
        net_listener_free(s->listeners[i]);
    s->listener_count = 0;
    TAILQ_FOREACH (c, &s->conns, link) {
        http_conn_end(c);
    }
    http_live(s, -1); /* until_gone's */
}

static bool is_gone(struct http_server *s, int64_t wait_ms)
{
    mutex_lock(&s->lock);
    if (s->live && wait_ms)
        cond_wait_ms(&s->gone, &s->lock, wait_ms);
    bool gone = !s->live;
    mutex_unlock(&s->lock);
    return gone;
}

static void end_timer(void *arg)
{
    struct http_server *s = arg;
    loop_timer_free(s->retry);
    http_live(s, -1);
}

/* Runs fn(s) on the loop and waits until nothing lives. */
static void until_gone(struct http_server *s, void (*fn)(void *arg))
{
    http_live(s, 1);
    loop_post_late(s->loop, fn, s);
    while (!is_gone(s, 0)) {
        if (!loop_adopt(s->loop))
            is_gone(s, WAIT_MS);
        else if (!is_gone(s, 0)) /* the loop's thread may have done it as its last act */
            loop_pump(s->loop);
    }
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    until_gone(s, end_all);
    until_gone(s,
               end_timer); /* a turn of its own: no frame of the first one is on the loop's stack */
    pool_free(s->body_pool);
    buf_fini(&s->fixed);
    mutex_lock(&s->lock); /* who counted down to zero has left */
    mutex_unlock(&s->lock);
    mutex_fini(&s->lock);
    cond_fini(&s->gone);
    free(s);
}
