/* SOAP dispatch: one POST, from its text to its answer.
 *
 * Order of the checks, as vSphere has it: the message parses; a session is there, or the method may
 * be called without; the method exists; the receiver exists and has the method.  A method of the
 * schema that this host lacks is NotSupported, one that nobody knows MethodNotFound. */
#include "host.h"

enum { MAX_LOGGED_NAME = 64, MAX_STRANGER = 256 * 1024 };

static const struct vh_method *const tables[] = {
    vh_methods_session,   vh_methods_pc, vh_methods_view, vh_methods_task, vh_methods_service,
    vh_methods_inventory, vh_methods_vm, vh_methods_file, vh_methods_disk,
};

static const struct vh_method *find_method(const struct vim_method *m)
{
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct vh_method *row = tables[t]; row->method; row++)
            if (row->method == m)
                return row;
    return NULL;
}

static bool not_authenticated(struct vh_call *c, struct vim_ref self)
{
    struct vim_NotAuthenticated *d = VH_FAULT(&c->fault, NotAuthenticated, NULL);
    d->object = self;
    d->privilegeId = "System.View";
    return false;
}

static bool method_not_found(struct vh_call *c, const struct soap_request *q)
{
    struct vim_MethodNotFound *d =
        VH_FAULT(&c->fault, MethodNotFound, "Method %s is not found on the receiver %s:%s.",
                 q->name ? q->name : "", q->self.type ? q->self.type : "",
                 q->self.value ? q->self.value : "");
    d->receiver = q->self;
    d->method = q->name;
    return false;
}

/* Finds handler and receiver. */
static bool resolve(struct vh_call *c, const struct soap_request *q, const struct vh_method **row)
{
    *row = q->method ? find_method(q->method) : NULL;
    if (!c->s && !(*row && (*row)->flags & VH_OPEN))
        return not_authenticated(c, q->self);
    if (!q->method)
        return method_not_found(c, q);
    c->o = vh_find(c->h, c->s, q->self);
    if (!c->o)
        return vh_fault_not_found(&c->fault, q->self);
    if (!vh_is(c->o, q->method->owner))
        return method_not_found(c, q);
    return *row ? true : vh_fault_unsupported(&c->fault);
}

void vh_render(struct vh_call *c, bool good, struct buf *out)
{
    if (good)
        soap_write_response(out, c->m, c->res);
    else
        soap_write_fault(out, c->fault.text, c->fault.detail);
}

void vh_send(struct vh_call *c, bool good, const struct buf *answer)
{
    if (answer->failed)
        http_reply(c->http, 500, "text/plain", SV("answer too large"));
    else
        http_reply(c->http, good ? 200 : 500, "text/xml; charset=utf-8", buf_sv(answer));
}

static bool bad_message(struct vh_call *c, const struct vic_err *err)
{
    VH_FAULT(&c->fault, InvalidRequest, "%s", err->msg);
    return false;
}

/* Runs the handler and renders what it said; what is parked renders later. */
static bool run(struct vh_call *c, const struct soap_request *q, struct buf *answer)
{
    const struct vh_method *row;
    mutex_lock(&c->h->lock);
    c->s = vh_session_of(c->h, c->http, q->cookie);
    c->session = c->s ? arena_strdup(c->a, c->s->key) : NULL;
    c->user = c->s ? arena_strdup(c->a, c->s->user) : "";
    bool good = resolve(c, q, &row);
    if (good) {
        c->m = q->method;
        c->req = q->params;
        c->res = vim_new(c->a, q->method->response);
    }
    if (good && row->flags & VH_UNLOCKED) {
        c->s = NULL;
        mutex_unlock(&c->h->lock);
        good = row->fn(c);
        mutex_lock(&c->h->lock);
    } else if (good) {
        good = row->fn(c);
    }
    if (!c->poll)
        vh_render(c, good, answer);
    mutex_unlock(&c->h->lock);
    return good;
}

/* A message can take many times its size in memory: who has no session gets a small one read. */
static bool too_large(struct vh *h, struct http_req *http)
{
    if (http_body(http).len <= MAX_STRANGER)
        return false;
    mutex_lock(&h->lock);
    bool known = vh_session_of(h, http, NULL) != NULL;
    mutex_unlock(&h->lock);
    return !known;
}

void vh_soap(struct vh *h, struct http_req *http)
{
    if (too_large(h, http)) {
        http_reply(http, 413, "text/plain", SV("too large for a stranger\n"));
        return;
    }
    AUTO_BUF struct buf answer = {0};
    struct arena *a = http_arena(http);
    struct vh_call *c = ARENA_NEW(a, struct vh_call);
    *c = (struct vh_call){.h = h, .http = http, .a = a, .fault.a = a, .user = ""};
    struct soap_request q = {0};
    struct vic_err err = {0};
    int64_t start = clock_mono_ms(h->opt.clock);
    bool good = soap_parse_request(http_body(http), SOAP_STRICT, a, &q, &err);
    if (good) {
        good = run(c, &q, &answer);
    } else {
        bad_message(c, &err);
        vh_render(c, false, &answer);
    }
    struct sv name = sv_of(q.name ? q.name : "?");
    log_debug(h->opt.log, "soap.call", KV_SV("method", sv_sub(name, 0, MAX_LOGGED_NAME)),
              KV_S("on", q.self.value ? q.self.value : ""),
              KV_S("fault", good              ? ""
                            : c->fault.detail ? c->fault.detail->vim->name
                                              : "?"),
              KV_I("dur_ms", clock_mono_ms(h->opt.clock) - start));
    if (c->poll)
        http_park(http, c->deadline_ms, c->poll, c->drop, c->park_arg);
    else
        vh_send(c, good, &answer);
}
