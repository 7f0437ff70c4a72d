/* The session and the calls.
 *
 * One login serves all threads.  Whoever finds the session missing or refused (NotAuthenticated)
 * asks for a newer one than it used; the first to ask logs in, the others wait for it, so a session
 * that died is replaced once.  A wrong password is not tried again by itself: five tries lock the
 * account; vsp_connect starts afresh.
 *
 * A login begins without a cookie (a server refuses a Login on a live session) with
 * RetrieveServiceContent, whose references are kept from the first time: they are constants of the
 * server. */
#include "client.h"

#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/mem.h"

enum { DEFAULT_TIMEOUT_MS = 60000, LOGOUT_TIMEOUT_MS = 5000 };

/* "https://host[:port][/sdk]" into base and host. */
static bool parse_url(struct vsp *v, const char *text, struct vic_err *err)
{
    struct sv url = sv_of(text);
    if (url.len && url.p[url.len - 1] == '/')
        url.len--;
    if (sv_ends(url, SV("/sdk")))
        url.len -= 4;
    struct sv host = sv_sub(url, strlen("https://"), url.len);
    if (!sv_starts(url, SV("https://")) || !host.len || sv_find(host, '/') >= 0 ||
        sv_find(host, '@') >= 0)
        return vic_fail(err, VIC_INVALID, 0, "vSphere URL '%s': want https://host[:port]",
                        text ? text : "");
    v->base = xstrndup(url.p, url.len);
    v->host = xstrndup(host.p, host.len);
    return true;
}

static bool check_thumbprint(const char *t, struct vic_err *err)
{
    size_t len = t ? strlen(t) : 0;
    bool good = !t || len == 59 || len == 95;
    for (size_t i = 0; good && i < len; i++)
        good = i % 3 == 2 ? t[i] == ':' : strchr("0123456789ABCDEF", t[i]) != NULL;
    return good || vic_fail(err, VIC_INVALID, 0,
                            "thumbprint: want 20 or 32 bytes in upper hex with colons");
}

struct vsp *vsp_new(const struct vsp_options *o, struct vic_err *err)
{
    if (!check_thumbprint(o->thumbprint, err))
        return NULL;
    struct vsp *v = xcalloc(1, sizeof *v);
    mutex_init(&v->lock);
    cond_init(&v->changed);
    if (!parse_url(v, o->url, err)) {
        vsp_free(v);
        return NULL;
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    v->user = xstrdup(o->user ? o->user : "");
    v->password = xstrdup(o->password ? o->password : "");
    v->thumbprint = o->thumbprint ? xstrdup(o->thumbprint) : NULL;
    v->ca = o->ca ? xstrdup(o->ca) : NULL;
    v->timeout_ms = o->timeout_ms ? o->timeout_ms : DEFAULT_TIMEOUT_MS;
    v->log = o->log;
    v->record = o->record;
    v->gate = o->gate;
    v->hook_arg = o->hook_arg;
    return v;
}

/* Sends 'out', reads 'in'.  'cookie' is sent and, when the server sets another, replaced. */
static bool post(struct vsp *v, const char *method, struct sv out, struct buf *in, char *cookie,
                 const struct vsp_call_options *o, struct vic_err *err)
{
    static const char *const headers[] = {"Content-Type: text/xml; charset=\"utf-8\"",
                                          "SOAPAction: \"urn:vim25/6.7\"", NULL};
    struct vsp_http x = {.method = "POST",
                         .path = "/sdk",
                         .headers = headers,
                         .cookie = cookie,
                         .body = out,
                         .reply = in,
                         .max_reply = VSP_MAX_REPLY,
                         .timeout_ms = o->timeout_ms ? o->timeout_ms : v->timeout_ms,
                         .stop = o->stop,
                         .session = o->long_poll ? o->session : 0};
    if (v->gate && !v->gate(v->hook_arg, method, false))
        return vic_fail(err, VIC_UNAVAILABLE, 0, "connection broke");
    if (!vsp_http(v, o->handle, &x, err))
        return false;
    if (v->record)
        v->record(v->hook_arg, method, out, buf_sv(in));
    if (v->gate && !v->gate(v->hook_arg, method, true))
        return vic_fail(err, VIC_UNAVAILABLE, 0, "connection broke");
    if (*x.set_cookie)
        snprintf(cookie, VSP_COOKIE_SIZE, "%s", x.set_cookie);
    bool away = x.status >= 502 && x.status <= 504;
    return x.status == 200 || x.status == 500 ||
           vic_fail(err, away ? VIC_UNAVAILABLE : VIC_PROTOCOL, 0, "HTTP status %ld", x.status);
}

static void log_call(struct vsp *v, const struct vim_method *m, const struct soap_reply *reply,
                     int64_t start)
{
    struct vim_any task = {0};
    if (m->task && !reply->is_fault)
        task = vim_get(reply->response, &m->response->fields[0]);
    log_debug(v->log, "vsphere.call", KV_S("method", m->name),
              KV_S("task", task.kind == VIM_REF ? task.ref.value : ""),
              KV_S("fault", reply->is_fault && reply->fault.type ? reply->fault.type : ""),
              KV_I("dur_ms", clock_mono_ms(&vic_clock_real) - start));
}

/* One exchange of SOAP. */
static bool exchange(struct vsp *v, const struct vim_method *m, const void *request, char *cookie,
                     const struct vsp_call_options *o, struct arena *a, struct soap_reply *reply,
                     struct vic_err *err)
{
    AUTO_BUF struct buf out = {0}, in = {0};
    int64_t start = clock_mono_ms(&vic_clock_real);
    soap_write_request(&out, m, request, NULL);
    if (out.failed)
        return vic_fail(err, VIC_NO_MEMORY, 0, "%s", m->name);
    bool ok = post(v, m->name, buf_sv(&out), &in, cookie, o, err);
    if (m == &vim_method_Login)
        OPENSSL_cleanse(out.data, out.len);
    if (!ok || !soap_parse_reply(buf_sv(&in), m, a, reply, err))
        return vic_wrap(err, "%s", m->name);
    log_call(v, m, reply, start);
    return true;
}

static bool fault_error(const struct vim_method *m, const struct soap_reply *r, struct vic_err *err)
{
    return !r->is_fault || vsp_fault(err, m->name, r->fault.type, r->fault.text, r->fault.detail);
}

/* Logs in on 'h'.  '*content' lives in 'a'. */
static bool login(struct vsp *v, CURL *h, struct arena *a, char cookie[VSP_COOKIE_SIZE],
                  const struct vim_ServiceContent **content, struct vic_err *err)
{
    struct vsp_call_options o = {.handle = h};
    struct soap_reply reply;
    struct vim_RetrieveServiceContent_request ask = {
        .self = {"ServiceInstance", "ServiceInstance"}};
    const struct vim_method *m = &vim_method_RetrieveServiceContent;
    cookie[0] = 0;
    if (!exchange(v, m, &ask, cookie, &o, a, &reply, err) || !fault_error(m, &reply, err))
        return false;
    const struct vim_RetrieveServiceContent_response *got = reply.response;
    *content = got->returnval;
    if (!*content || !(*content)->sessionManager.value || !(*content)->propertyCollector.value ||
        !(*content)->about)
        return vic_fail(err, VIC_PROTOCOL, 0, "%s is not a vSphere server", v->host);
    struct vim_Login_request q = {.self = (*content)->sessionManager,
                                  .userName = v->user,
                                  .password = v->password,
                                  .locale = "en_US"};
    if (!exchange(v, &vim_method_Login, &q, cookie, &o, a, &reply, err) ||
        !fault_error(&vim_method_Login, &reply, err))
        return false;
    if (!*cookie)
        return vic_fail(err, VIC_PROTOCOL, 0, "%s: login gave no session cookie", v->host);
    return true;
}

/* Runs without the lock; the caller has set logging_in. */
static bool renew(struct vsp *v, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *content = NULL;
    char cookie[VSP_COOKIE_SIZE];
    struct vic_err why = {0};
    CURL *h = vsp_handle_new(); /* not of the pool: all of its users may wait for this login */
    bool ok = login(v, h, &a, cookie, &content, &why);
    curl_easy_cleanup(h);
    mutex_lock(&v->lock);
    v->logging_in = false;
    v->refused = !ok && why.code == VIC_UNAUTHORIZED;
    v->cookie[0] = 0;
    if (ok) {
        snprintf(v->cookie, sizeof v->cookie, "%s", cookie);
        atomic_store(&v->logins, ++v->session);
        if (!v->content) {
            v->content = content;
            v->content_arena = a;
            a = (struct arena){0};
        }
    }
    cond_broadcast(&v->changed);
    mutex_unlock(&v->lock);
    if (ok)
        log_info(v->log, "vsphere.login", KV_S("host", v->host), KV_S("user", v->user));
    else if (err)
        *err = why;
    return ok;
}

bool vsp_session(struct vsp *v, uint64_t not_this, uint64_t *session, char cookie[VSP_COOKIE_SIZE],
                 struct vic_err *err)
{
    for (;;) {
        mutex_lock(&v->lock);
        while (v->logging_in)
            cond_wait(&v->changed, &v->lock);
        bool have = *v->cookie && v->session != not_this, refused = v->refused;
        if (have) {
            *session = v->session;
            snprintf(cookie, VSP_COOKIE_SIZE, "%s", v->cookie);
        } else if (!refused) {
            v->logging_in = true;
        }
        mutex_unlock(&v->lock);
        if (have)
            return true;
        if (refused)
            return vic_fail(err, VIC_UNAUTHORIZED, 0, "%s refused user name or password", v->host);
        if (!renew(v, err))
            return vic_wrap(err, "log in to %s", v->host);
    }
}

/* A read without a session is no fault: the values are missing for want of it. */
static bool lacks_session(const struct soap_reply *reply)
{
    if (vsp_is_fault(reply, &vim_type_NotAuthenticated))
        return true;
    const struct vim_RetrievePropertiesEx_response *r =
        VIM_CAST(RetrievePropertiesEx_response, reply->response);
    if (!r || !r->returnval)
        return false;
    for (size_t i = 0; i < r->returnval->objects.n; i++) {
        const struct vim_ObjectContent *o = r->returnval->objects.v[i];
        for (size_t k = 0; k < o->missingSet.n; k++)
            if (o->missingSet.v[k]->fault &&
                VIM_IS(NotAuthenticated, o->missingSet.v[k]->fault->fault))
                return true;
    }
    return false;
}

static bool exec(struct vsp *v, const struct vim_method *m, const void *request,
                 const struct vsp_call_options *o, struct arena *a, struct soap_reply *reply,
                 struct vic_err *err)
{
    struct vsp_call_options now = *o;
    char cookie[VSP_COOKIE_SIZE];
    for (int attempt = 0;; attempt++) {
        if (!vsp_session(v, now.session, &now.session, cookie, err) ||
            !exchange(v, m, request, cookie, &now, a, reply, err))
            return false;
        if (attempt || !lacks_session(reply))
            return true;
    }
}

bool vsp_exec(struct vsp *v, const struct vim_method *m, const void *request,
              const struct vsp_call_options *o, struct arena *a, struct soap_reply *reply,
              struct vic_err *err)
{
    if (o && o->handle)
        return exec(v, m, request, o, a, reply, err);
    struct vsp_call_options own = o ? *o : (struct vsp_call_options){0};
    own.handle = vsp_handle_take(v);
    bool ok = exec(v, m, request, &own, a, reply, err);
    vsp_handle_give(v, own.handle);
    return ok;
}

bool vsp_call(struct vsp *v, const struct vim_method *m, const void *request, struct arena *a,
              void *response_out, struct vic_err *err)
{
    struct soap_reply reply;
    if (!vsp_exec(v, m, request, NULL, a, &reply, err) || !fault_error(m, &reply, err))
        return false;
    *(void **)response_out = reply.response;
    return true;
}

bool vsp_content(struct vsp *v, const struct vim_ServiceContent **out, struct vic_err *err)
{
    uint64_t session;
    char cookie[VSP_COOKIE_SIZE];
    mutex_lock(&v->lock);
    *out = v->content;
    mutex_unlock(&v->lock);
    if (*out)
        return true;
    if (!vsp_session(v, 0, &session, cookie, err))
        return false;
    return vsp_content(v, out, err);
}

bool vsp_connect(struct vsp *v, struct vic_err *err)
{
    uint64_t session;
    char cookie[VSP_COOKIE_SIZE];
    mutex_lock(&v->lock);
    v->refused = false;
    mutex_unlock(&v->lock);
    return vsp_session(v, 0, &session, cookie, err);
}

bool vsp_about(struct vsp *v, struct arena *a, struct vsp_about *out, struct vic_err *err)
{
    const struct vim_ServiceContent *c;
    if (!vsp_content(v, &c, err))
        return false;
    const struct vim_AboutInfo *about = c->about;
    *out = (struct vsp_about){.name = arena_strdup(a, about->name),
                              .version = arena_strdup(a, about->version),
                              .build = arena_strdup(a, about->build),
                              .api_type = arena_strdup(a, about->apiType),
                              .api_version = arena_strdup(a, about->apiVersion),
                              .instance_uuid = arena_strdup(a, about->instanceUuid)};
    out->is_vcenter = sv_is(sv_of(about->apiType), "VirtualCenter");
    struct sv version = sv_of(about->apiVersion), major = sv_cut(&version, '.');
    uint64_t hi = 0, lo = 0;
    (void)(sv_to_u64(major, &hi) && sv_to_u64(sv_cut(&version, '.'), &lo));
    bool ours = about->fullName && strstr(about->fullName, "vic-host");
    out->has_instant_clone = (out->is_vcenter || ours) && (hi > 6 || (hi == 6 && lo >= 7));
    return true;
}

static void logout(struct vsp *v)
{
    AUTO_ARENA struct arena a = {0};
    struct soap_reply reply;
    struct vim_Logout_request q = {.self = v->content->sessionManager};
    struct vsp_call_options o = {.handle = vsp_handle_new(), .timeout_ms = LOGOUT_TIMEOUT_MS};
    (void)!exchange(v, &vim_method_Logout, &q, v->cookie, &o, &a, &reply, NULL);
    curl_easy_cleanup(o.handle);
}

void vsp_free(struct vsp *v)
{
    if (!v)
        return;
    if (*v->cookie && v->content)
        logout(v);
    for (unsigned i = 0; i < v->idle_count; i++)
        curl_easy_cleanup(v->idle[i]);
    if (v->password)
        OPENSSL_cleanse(v->password, strlen(v->password));
    OPENSSL_cleanse(v->cookie, sizeof v->cookie);
    free(v->base);
    free(v->host);
    free(v->user);
    free(v->password);
    free(v->thumbprint);
    free(v->ca);
    arena_fini(&v->content_arena);
    cond_fini(&v->changed);
    mutex_fini(&v->lock);
    free(v);
}
