/* HTTPS by libcurl, one easy handle a call at a time, taken from a small pool so that connections
 * are kept alive.
 *
 * Who the server is gets decided inside the TLS handshake, before a byte of ours (and any password)
 * is sent: OpenSSL's certificate verification is replaced by a callback that compares the leaf's
 * thumbprint when one was given, and else runs the normal chain check and keeps the thumbprint for
 * the error message, since the administrator will want to compare it.
 *
 * Cookies are kept by the session, not by curl: any handle may serve any call. */
#include "client.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/mem.h"

/* What the callbacks of one exchange share. */
struct exchange {
    struct vsp *v;
    struct vsp_http *x;
    uint64_t sent;
    bool too_large, mismatch;
    char seen[VSP_THUMBPRINT_SIZE]; /* of the server's certificate, SHA-256 */
};

CURL *vsp_handle_new(void)
{
    CURL *h = curl_easy_init();
    if (!h)
        abort(); /* out of memory */
    return h;
}

CURL *vsp_handle_take(struct vsp *v)
{
    CURL *h = NULL;
    mutex_lock(&v->lock);
    while (v->busy >= VSP_MAX_CALLS)
        cond_wait(&v->changed, &v->lock);
    v->busy++;
    if (v->idle_count)
        h = v->idle[--v->idle_count];
    mutex_unlock(&v->lock);
    return h ? h : vsp_handle_new();
}

void vsp_handle_give(struct vsp *v, CURL *h)
{
    mutex_lock(&v->lock);
    v->busy--;
    v->idle[v->idle_count++] = h;
    cond_broadcast(&v->changed);
    mutex_unlock(&v->lock);
}

/* Upper-case hex with colons. */
static void thumbprint(X509 *cert, const EVP_MD *md, char out[VSP_THUMBPRINT_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    out[0] = 0;
    if (!X509_digest(cert, md, digest, &len) || len * 3 > VSP_THUMBPRINT_SIZE)
        return;
    for (unsigned i = 0; i < len; i++)
        snprintf(out + 3 * i, 4, "%02X%s", digest[i], i + 1 < len ? ":" : "");
}

/* OpenSSL's app verify callback: 1 = the certificate is good. */
static int verify_certificate(X509_STORE_CTX *ctx, void *arg)
{
    struct exchange *e = arg;
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    const char *want = e->v->thumbprint;
    thumbprint(leaf, EVP_sha256(), e->seen);
    if (!want)
        return X509_verify_cert(ctx);
    char sha1[VSP_THUMBPRINT_SIZE];
    thumbprint(leaf, EVP_sha1(), sha1);
    e->mismatch = strcmp(want, strlen(want) == 59 ? sha1 : e->seen) != 0;
    X509_STORE_CTX_set_error(ctx, e->mismatch ? X509_V_ERR_APPLICATION_VERIFICATION : X509_V_OK);
    return !e->mismatch;
}

static CURLcode on_ssl_ctx(CURL *h, void *ctx, void *arg)
{
    (void)h;
    SSL_CTX_set_cert_verify_callback(ctx, verify_certificate, arg);
    return CURLE_OK;
}

static size_t on_reply(char *p, size_t size, size_t n, void *arg)
{
    struct exchange *e = arg;
    size_t len = size * n;
    if (e->x->reply->len + len > e->x->max_reply) {
        e->too_large = true;
        return 0;
    }
    buf_add(e->x->reply, p, len);
    return e->x->reply->failed ? 0 : len;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct exchange *e = arg;
    struct sv value = sv_make(p, size * n), name = sv_cut(&value, ':');
    if (!sv_eq_nocase(name, SV("set-cookie")))
        return size * n;
    struct sv cookie = sv_trim(sv_cut(&value, ';'));
    if (sv_starts(cookie, SV("vmware_soap_session=")) && cookie.len < VSP_COOKIE_SIZE)
        snprintf(e->x->set_cookie, VSP_COOKIE_SIZE, SV_FMT, SV_ARG(cookie));
    return size * n;
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
    struct exchange *e = arg;
    size_t want = size * n;
    if (want > e->x->size - e->sent)
        want = (size_t)(e->x->size - e->sent);
    ssize_t got = want ? pread(e->x->fd, p, want, (off_t)e->sent) : 0;
    if (got < 0 || (got == 0 && want))
        return CURL_READFUNC_ABORT; /* shorter than announced */
    e->sent += (uint64_t)got;
    return (size_t)got;
}

/* curl rewinds to send again on a fresh connection. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct exchange *e = arg;
    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_FAIL;
    e->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static bool stopped(const struct vsp_http *x)
{
    return x->stop && atomic_load(x->stop);
}

static bool renewed(const struct exchange *e)
{
    return e->x->session && atomic_load(&e->v->logins) != e->x->session;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct exchange *e = arg;
    (void)a, (void)b, (void)c, (void)d;
    return stopped(e->x) || renewed(e);
}

static void set_tls(struct vsp *v, CURL *h, struct exchange *e)
{
    curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, v->thumbprint ? 0L : 2L);
    if (v->thumbprint || v->ca) {
        curl_easy_setopt(h, CURLOPT_CAINFO, v->thumbprint ? NULL : v->ca);
        curl_easy_setopt(h, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(h, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
    curl_easy_setopt(h, CURLOPT_SSL_CTX_DATA, e);
}

static void set_upload(CURL *h, struct exchange *e)
{
    struct vsp_http *x = e->x;
    if (strcmp(x->method, "PUT") == 0 && x->size) {
        curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->size);
        curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(h, CURLOPT_READDATA, e);
        curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(h, CURLOPT_SEEKDATA, e);
    } else if (strcmp(x->method, "GET") != 0) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body.len);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, x->body.p ? x->body.p : "");
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, x->method);
    }
}

static void set_limits(CURL *h, struct exchange *e)
{
    struct vsp_http *x = e->x;
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_PROXY, ""); /* the environment's proxy is for registries */
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)VSP_CONNECT_MS);
    curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    if (x->timeout_ms) {
        curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)x->timeout_ms);
    } else {
        curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)VSP_STALL_S);
    }
    if (x->stop || x->session) {
        curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(h, CURLOPT_XFERINFODATA, e);
    }
}

static struct curl_slist *headers_of(const struct vsp_http *x)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    list = curl_slist_append(list, "User-Agent: vic-engine/" VIC_VERSION);
    for (const char *const *h = x->headers; h && *h; h++)
        list = curl_slist_append(list, *h);
    return list;
}

static bool explain(struct exchange *e, CURLcode code, const char *detail, struct vic_err *err)
{
    const char *host = e->v->host;
    if (e->mismatch)
        return vic_fail(err, VIC_FORBIDDEN, 0,
                        "%s: the server's thumbprint is not the one given (SHA-256 %s)", host,
                        e->seen);
    if (e->too_large)
        return vic_fail(err, VIC_TOO_LARGE, 0, "%s: answer of more than %zu bytes", host,
                        e->x->max_reply);
    const char *why = *detail ? detail : curl_easy_strerror(code);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return vic_fail(err, VIC_FORBIDDEN, 0,
                        "%s: the server's certificate is not trusted: %s (SHA-256 thumbprint %s)",
                        host, why, *e->seen ? e->seen : "unknown");
    if (code == CURLE_ABORTED_BY_CALLBACK && stopped(e->x))
        return vic_fail(err, VIC_CANCELED, 0, "%s: canceled", host);
    if (code == CURLE_ABORTED_BY_CALLBACK && renewed(e))
        return vic_fail(err, VIC_PROTOCOL, 0, "%s: the session was renewed", host);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return vic_fail(err, VIC_IO, 0, "the file to send is shorter than announced");
    return vic_fail(err, code == CURLE_OPERATION_TIMEDOUT ? VIC_TIMEOUT : VIC_UNAVAILABLE, 0,
                    "%s: %s", host, why);
}

bool vsp_http(struct vsp *v, CURL *h, struct vsp_http *x, struct vic_err *err)
{
    struct exchange e = {.v = v, .x = x};
    char detail[CURL_ERROR_SIZE] = "";
    AUTO_FREE char *url = xasprintf("%s%s", v->base, x->path);
    struct curl_slist *headers = headers_of(x);
    buf_reset(x->reply);
    x->set_cookie[0] = 0;
    curl_easy_reset(h); /* keeps connections */
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(h, CURLOPT_COOKIE, x->cookie && *x->cookie ? x->cookie : NULL);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_reply);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &e);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, &e);
    set_limits(h, &e);
    set_tls(v, h, &e);
    set_upload(h, &e);
    CURLcode code = curl_easy_perform(h);
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return explain(&e, code, detail, err);
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &x->status);
    return true;
}
