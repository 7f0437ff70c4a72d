/* The API's server: see api.h and api_priv.h.
 *
 * base/http owns sockets and threads; here a request becomes a call: version, route, handler.  The
 * headers that every answer of Docker carries are put on by base/http, so that its own errors
 * (a head too large, ...) have them as well. */
#include "api_priv.h"

static const char *const common_headers[] = {"Api-Version: " API_VERSION,
                                             "Docker-Experimental: false", "Ostype: linux",
                                             "Server: Docker/" VIC_VERSION " (linux)", NULL};

/* A handler that writes sleeps until its commit is durable, and one commit carries what all of them
 * wrote: so their number, not the processors', is how many changes share a sync. */
enum { DEFAULT_HANDLERS = 16, BODY_MAX = 4 << 20 };

static void name_actor(struct call *c)
{
    const char *name = http_peer_name(c->req);
    struct sv id = http_get_header(c->req, "X-Request-Id");
    c->note.actor = *name ? name : http_peer(c->req);
    c->note.request = id.len && id.len <= 64
                          ? arena_sv(c->a, id)
                          : arena_printf(c->a, "%016llx", (unsigned long long)random_u64());
}

static bool dispatch(struct call *c)
{
    struct sv path = http_path(c->req);
    if (!route_version(&path, &c->version, &c->err))
        return false;
    const struct route *r =
        route_find(sv_of(http_method(c->req)), path, c->version, c->a, c->param, &c->err);
    if (!r) {
        c->status = c->err.code == VIC_UNSUPPORTED ? 405 : 0;
        return false;
    }
    c->route = r;
    if (r->writes)
        name_actor(c);
    return r->handler(c);
}

static void handle(void *arg, struct http_req *req)
{
    struct arena *a = http_arena(req);
    struct call *c = ARENA_NEW(a, struct call);
    *c = (struct call){.api = arg, .req = req, .a = a};
    if (!dispatch(c))
        call_fail(c);
}

static bool path_is(struct sv path, const char *what)
{
    unsigned version;
    return route_version(&path, &version, NULL) && sv_is(path, what);
}

/* Archives are read as they come; all else is small. */
static enum http_body_kind classify(void *arg, const char *method, struct sv path,
                                    uint64_t *max_bytes)
{
    (void)arg;
    if (strcmp(method, "POST") == 0 && path_is(path, "/images/load")) {
        *max_bytes = UINT64_MAX;
        return HTTP_BODY_STREAM;
    }
    *max_bytes = BODY_MAX;
    return HTTP_BODY_WHOLE;
}

static void error_body(void *arg, const struct vic_err *err, int status, struct buf *out,
                       const char **content_type)
{
    (void)arg;
    (void)status;
    call_error_body(err->msg, out);
    *content_type = "application/json";
}

struct api *api_new(const struct api_options *o, struct vic_err *err)
{
    struct api *a = xcalloc(1, sizeof *a);
    a->o = *o;
    if (!a->o.clock)
        a->o.clock = &vic_clock_real;
    a->pool = pool_new("api", o->handlers ? o->handlers : DEFAULT_HANDLERS, 0);
    a->park = park_new(o->store, o->log);
    a->execs = execs_new(a);
    load_tidy_spool(&a->o);
    const struct http_options h = {.handler = handle,
                                   .classify = classify,
                                   .error_body = error_body,
                                   .arg = a,
                                   .pool = a->pool,
                                   .headers = common_headers,
                                   .log = o->log};
    a->http = http_server_new(o->loop, &h, err);
    if (a->http)
        return a;
    api_free(a);
    return NULL;
}

bool api_listen(struct api *a, const char *address, struct tls_ctx *tls, int *port,
                struct vic_err *err)
{
    return http_listen(a->http, address, tls, port, err);
}

void api_free(struct api *a)
{
    if (!a)
        return;
    http_server_free(a->http);
    execs_stop(a->execs);
    park_free(a->park);
    pool_free(a->pool);
    execs_free(a->execs);
    free(a);
}
