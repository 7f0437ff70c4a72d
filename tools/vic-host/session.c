/* Sessions: login as root with the password of the state folder's file, a cookie, an end after 30
 * idle minutes. What a session made (collectors, filters, views) ends with it.
 *
 * Rules (map vsphere 1.2, 1.3): a login with a cookie that is in a session already, and one with an
 * empty user or password, is an InvalidLogin; the cookie's value is sent in double quotes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/tls.h"

#include "host.h"
#include "pc.h"

#define COOKIE "vmware_soap_session"

enum { IDLE_MS = 30 * 60 * 1000, MAX_SESSIONS = 1000, PASSWORD_BYTES = 15 };

/* --- credentials ------------------------------------------------------------------------------ */

static bool make_password(const char *path, struct vic_err *err)
{
    unsigned char raw[PASSWORD_BYTES];
    char text[PASSWORD_BYTES * 2 + 2];
    random_bytes(raw, sizeof raw);
    hex_encode(raw, sizeof raw, text);
    text[PASSWORD_BYTES * 2] = '\n';
    AUTO_FREE char *temp = xasprintf("%s.new", path);
    AUTO_CLOSE int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t size = PASSWORD_BYTES * 2 + 1;
    if (fd < 0 || write(fd, text, (size_t)size) != size || fsync(fd) != 0 ||
        rename(temp, path) != 0)
        return vic_fail_errno(err, "write %s", path);
    return true;
}

bool vh_password_load(struct vh *h, const char *path, struct vic_err *err)
{
    if (access(path, F_OK) != 0 && !make_password(path, err))
        return false;
    char text[512];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n < 0)
        return vic_fail_errno(err, "read %s", path);
    struct sv password = sv_trim(sv_make(text, (size_t)n));
    if (!password.len || memchr(password.p, '\n', password.len))
        return vic_fail(err, VIC_INVALID, 0, "%s: one line with the password is wanted", path);
    h->user = xstrdup("root");
    h->password = xstrndup(password.p, password.len);
    return true;
}

/* --- the table of sessions -------------------------------------------------------------------- */

struct vh_session *vh_session_find(struct vh *h, const char *key)
{
    struct vh_session *s = NULL;
    if (key)
        HASH_FIND_STR(h->sessions, key, s);
    return s;
}

/* The cookie's value without quotes; empty when there is none. */
static struct sv cookie_value(struct sv header)
{
    while (header.len) {
        struct sv item = sv_trim(sv_cut(&header, ';')), name = sv_cut(&item, '=');
        if (!sv_is(name, COOKIE))
            continue;
        if (item.len >= 2 && item.p[0] == '"' && item.p[item.len - 1] == '"')
            item = sv_sub(item, 1, item.len - 2);
        return item;
    }
    return (struct sv){0};
}

static struct vh_session *by_text(struct vh *h, struct sv value)
{
    char key[37];
    if (value.len >= 2 && value.p[0] == '"')
        value = sv_sub(value, 1, value.len - 2);
    if (value.len != 36)
        return NULL;
    memcpy(key, value.p, 36);
    key[36] = '\0';
    return vh_session_find(h, key);
}

struct vh_session *vh_session_of(struct vh *h, struct http_req *http, const char *soap_cookie)
{
    struct vh_session *s = by_text(h, cookie_value(http_get_header(http, "Cookie")));
    if (!s && soap_cookie)
        s = by_text(h, sv_of(soap_cookie));
    if (s) {
        s->active_ns = clock_wall_ns(h->opt.clock);
        s->active_mono_ms = clock_mono_ms(h->opt.clock);
        s->calls++;
    }
    return s;
}

void vh_session_end(struct vh *h, struct vh_session *s)
{
    vh_collector_free(h, TAKE(s->pc));
    /* A collector takes its filters with it, so the walk begins anew after each. */
    for (struct vh_obj *o = h->objects; o;) {
        if (o->owner == s) {
            vh_drop(h, o);
            o = h->objects;
        } else {
            o = o->hh.next;
        }
    }
    HASH_DEL(h->sessions, s);
    free(s->user);
    free(s->peer);
    free(s->agent);
    free(s);
    vh_touch(h, NULL); /* its waiting requests wake and find it gone */
}

void vh_session_expire(struct vh *h)
{
    int64_t limit = clock_mono_ms(h->opt.clock) - IDLE_MS;
    struct vh_session *s, *next;
    HASH_ITER(hh, h->sessions, s, next)
    {
        if (!s->waiting && s->active_mono_ms < limit) {
            log_info(h->opt.log, "session.expired", KV_S("user", s->user), KV_S("peer", s->peer));
            vh_session_end(h, s);
        }
    }
}

void vh_session_free_all(struct vh *h)
{
    struct vh_session *s, *next;
    HASH_ITER(hh, h->sessions, s, next)
    vh_session_end(h, s);
}

static struct vim_UserSession *describe(struct arena *a, const struct vh_session *s)
{
    struct vim_UserSession *u = VIM_NEW(a, UserSession);
    u->key = s->key;
    u->userName = s->user;
    u->fullName = s->user;
    u->loginTime = s->login_ns;
    u->lastActiveTime = s->active_ns;
    u->locale = "en";
    u->messageLocale = "en";
    u->extensionSession = false;
    u->ipAddress = s->peer;
    u->userAgent = s->agent;
    u->callCount = (int64_t)s->calls;
    return u;
}

/* --- methods ---------------------------------------------------------------------------------- */

static char *peer_address(struct http_req *http)
{
    struct sv peer = sv_of(http_peer(http));
    if (sv_starts(peer, SV("tcp:"))) {
        peer = sv_sub(peer, 4, peer.len);
        ptrdiff_t colon = sv_rfind(peer, ':');
        peer = colon < 0 ? peer : sv_sub(peer, 0, (size_t)colon);
    }
    return xstrndup(peer.p ? peer.p : "", peer.len);
}

static struct vh_session *begin(struct vh_call *c)
{
    struct vh_session *s = xcalloc(1, sizeof *s);
    struct sv agent = http_get_header(c->http, "User-Agent");
    random_uuid(s->key);
    s->user = xstrdup(c->h->user);
    s->peer = peer_address(c->http);
    s->agent = xstrndup(agent.p ? agent.p : "", agent.len < 256 ? agent.len : 256);
    s->login_ns = s->active_ns = clock_wall_ns(c->h->opt.clock);
    s->active_mono_ms = clock_mono_ms(c->h->opt.clock);
    HASH_ADD_STR(c->h->sessions, key, s);
    http_set_header(c->http, "Set-Cookie",
                    arena_printf(c->a, COOKIE "=\"%s\"; Path=/; HttpOnly; Secure;", s->key));
    return s;
}

static bool same(const char *given, const char *wanted)
{
    unsigned char a[32], b[32];
    sha256_of(given, strlen(given), a);
    sha256_of(wanted, strlen(wanted), b);
    return equal_const_time(a, b, sizeof a);
}

static bool login(struct vh_call *c)
{
    const struct vim_Login_request *q = c->req;
    struct vim_Login_response *r = c->res;
    /* Both are compared always, so that time tells nothing of either. */
    bool user = same(q->userName, c->h->user), password = same(q->password, c->h->password);
    bool good = user && password && *q->userName && *q->password;
    if (!good || c->s || HASH_COUNT(c->h->sessions) >= MAX_SESSIONS) {
        log_warn(c->h->opt.log, "session.refused", KV_S("peer", http_peer(c->http)));
        VH_FAULT(&c->fault, InvalidLogin, NULL);
        return false;
    }
    struct vh_session *s = begin(c);
    r->returnval = describe(c->a, s);
    log_info(c->h->opt.log, "session.login", KV_S("user", s->user), KV_S("peer", s->peer),
             KV_S("agent", s->agent));
    return true;
}

static bool logout(struct vh_call *c)
{
    vh_session_end(c->h, TAKE(c->s));
    return true;
}

static bool session_is_active(struct vh_call *c)
{
    VH_FAULT(&c->fault, NotImplemented, NULL); /* as an ESXi answers */
    return false;
}

static bool terminate_session(struct vh_call *c)
{
    const struct vim_TerminateSession_request *q = c->req;
    for (size_t i = 0; i < q->sessionId.n; i++) {
        struct vh_session *s = vh_session_find(c->h, q->sessionId.v[i]);
        if (!s) {
            VH_FAULT(&c->fault, NotFound, NULL);
            return false;
        }
        if (s == c->s)
            return vh_fault_argument(&c->fault, "sessionId");
        vh_session_end(c->h, s);
    }
    return true;
}

const struct vh_method vh_methods_session[] = {
    {&vim_method_Login, login, VH_OPEN},
    {&vim_method_Logout, logout, 0},
    {&vim_method_SessionIsActive, session_is_active, 0},
    {&vim_method_TerminateSession, terminate_session, 0},
    {0},
};

/* --- properties ------------------------------------------------------------------------------- */

static void current_session(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    if (r->s)
        *out = VIM_ANY_OBJECT(describe(r->a, r->s));
}

static void session_list(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    VIM_ARRAY_OF(struct vim_UserSession *) list = {0};
    if (!r->s)
        return;
    for (struct vh_session *s = r->h->sessions; s; s = s->hh.next)
        VIM_PUSH(r->a, &list, describe(r->a, s));
    *out = VIM_ANY_OBJECTS(UserSession, &list);
}

static void locale(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)r;
    (void)o;
    *out = VIM_ANY_STRING("en");
}

const struct vh_prop vh_props_session[] = {
    {&vim_managed_SessionManager, "currentSession", current_session},
    {&vim_managed_SessionManager, "sessionList", session_list},
    {&vim_managed_SessionManager, "defaultLocale", locale},
    {0},
};
