/* TLS on wolfSSL as a state machine over byte buffers: see tls.h.
 *
 * wolfSSL wants to call recv and send.  Our two callbacks never touch a socket: 'recv' hands out
 * the bytes of the current tls_input call and says WANT_READ when they are used up, 'send' appends
 * to the current 'wire' and never refuses.  So every call runs to its end, a record that is cut in
 * two waits inside wolfSSL, and nothing is ever half written.
 *
 * Half close: wolfSSL_read reports the peer's close_notify once (ZERO_RETURN); writing goes on
 * after it.  wolfSSL_shutdown is called once: a second call would read, and with both
 * notifies exchanged wolfSSL clears the session for reuse, which is why nothing is written after
 * it.
 *
 * Sessions are never resumed and no tickets are sent: a client's certificate is looked at in every
 * handshake, and an idle connection keeps no session.  PSK contexts verify peers by certificate
 * against an empty list, so that a handshake can only succeed by the key.
 *
 * Memory.  Each connection owns a 37 KB WOLFSSL_SESSION, nearly all of it room for a chain of
 * certificates that is never filled; wolfSSL clears it when it is made, so every page of it is
 * resident.  After the handshake its pages that hold nothing but zeros are given back to the kernel
 * (MADV_DONTNEED), which reads as zeros again: nobody sees a difference, and an idle PSK connection
 * shrinks from 59 to 26 KB (tests/base/idle_test.c measures it).  With a client certificate it is
 * 50 KB: wolfSSL keeps 23 KB of parsed certificate until the end and has no call to drop it.
 *
 * wolfssl/openssl headers are never included: they redefine names that OpenSSL exports too, and the
 * engine carries both libraries. */
#include "tls.h"

#include <wolfssl/options.h>

#include <arpa/inet.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <wolfssl/error-ssl.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "mem.h"
#include "tls_priv.h"

static const char PSK_SUITE[] = "TLS13-CHACHA20-POLY1305-SHA256";

enum { READ_STEP = 16 * 1024, WRITE_STEP = 1 << 30 };

/* immutable after init */
struct tls_ctx {
    WOLFSSL_CTX *wolf;
    bool server, psk;
    tls_psk_find find; /* PSK servers */
    void *find_arg;
    char identity[TLS_MAX_IDENTITY]; /* PSK clients */
    unsigned char key[TLS_PSK_SIZE];
};

struct tls_conn {
    WOLFSSL *ssl;
    struct tls_ctx *ctx;
    struct sv in;     /* valid inside tls_input */
    struct buf *wire; /* valid inside a call */
    struct buf early; /* output from before the handshake was done */
    bool ready, peer_closed, shut, failed;
    char *psk_identity;
    char *peer_name;
};

/* ---- contexts ---- */

static bool wolf_fail(struct vic_err *err, enum vic_code code, int error, const char *what)
{
    char text[160]; /* wolfSSL writes up to 80 */
    wolfSSL_ERR_error_string_n((unsigned long)(error < 0 ? error : -error), text, sizeof text);
    return vic_fail(err, code, 0, "%s: %s", what, text);
}

static int on_recv(WOLFSSL *ssl, char *p, int size, void *arg)
{
    struct tls_conn *c = arg;
    (void)ssl;
    size_t n = c->in.len < (size_t)size ? c->in.len : (size_t)size;
    if (!n)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    memcpy(p, c->in.p, n);
    c->in.p += n;
    c->in.len -= n;
    return (int)n;
}

static int on_send(WOLFSSL *ssl, char *p, int size, void *arg)
{
    struct tls_conn *c = arg;
    (void)ssl;
    buf_add(c->wire, p, (size_t)size);
    return c->wire->failed ? WOLFSSL_CBIO_ERR_GENERAL : size;
}

static struct tls_ctx *ctx_new(WOLFSSL_METHOD *method, bool server, struct vic_err *err)
{
    WOLFSSL_CTX *wolf = method ? wolfSSL_CTX_new(method) : NULL;
    if (!wolf) {
        vic_fail(err, VIC_NO_MEMORY, 0, "make a TLS context");
        return NULL;
    }
    struct tls_ctx *ctx = xcalloc(1, sizeof *ctx);
    ctx->wolf = wolf;
    ctx->server = server;
    wolfSSL_CTX_SetIORecv(wolf, on_recv);
    wolfSSL_CTX_SetIOSend(wolf, on_send);
    wolfSSL_CTX_set_session_cache_mode(wolf, WOLFSSL_SESS_CACHE_OFF);
    if (server) {
        wolfSSL_CTX_no_ticket_TLSv13(wolf);
        wolfSSL_CTX_NoTicketTLSv12(wolf);
    }
    return ctx;
}

void tls_ctx_free(struct tls_ctx *ctx)
{
    if (!ctx)
        return;
    wolfSSL_CTX_free(ctx->wolf);
    explicit_bzero(ctx, sizeof *ctx);
    free(ctx);
}

void tls_thread_end(void)
{
    wc_ecc_fp_free();
    wolfSSL_ERR_clear_error();
}

static bool load_own(struct tls_ctx *ctx, const char *cert, const char *key, struct vic_err *err)
{
    int r = wolfSSL_CTX_use_certificate_chain_file(ctx->wolf, cert);
    if (r != WOLFSSL_SUCCESS)
        return wolf_fail(err, VIC_INVALID, r, cert);
    r = wolfSSL_CTX_use_PrivateKey_file(ctx->wolf, key, WOLFSSL_FILETYPE_PEM);
    if (r != WOLFSSL_SUCCESS)
        return wolf_fail(err, VIC_INVALID, r, key);
    if (wolfSSL_CTX_check_private_key(ctx->wolf) != WOLFSSL_SUCCESS || !cert_has_key(cert, key))
        return vic_fail(err, VIC_INVALID, 0, "%s is not the key of %s", key, cert);
    return true;
}

static bool load_trust(struct tls_ctx *ctx, const char *ca, struct vic_err *err)
{
    if (!ca) {
        wolfSSL_CTX_set_verify(ctx->wolf, WOLFSSL_VERIFY_NONE, NULL);
        return true;
    }
    int r = wolfSSL_CTX_load_verify_locations(ctx->wolf, ca, NULL);
    if (r != WOLFSSL_SUCCESS)
        return wolf_fail(err, VIC_INVALID, r, ca);
    wolfSSL_CTX_set_verify(ctx->wolf, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           NULL);
    return true;
}

static struct tls_ctx *cert_ctx(bool server, const char *ca, const char *cert, const char *key,
                                struct vic_err *err)
{
    WOLFSSL_METHOD *method = server ? wolfSSLv23_server_method() : wolfSSLv23_client_method();
    struct tls_ctx *ctx = ctx_new(method, server, err);
    if (!ctx)
        return NULL;
    bool ok = wolfSSL_CTX_SetMinVersion(ctx->wolf, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS ||
              vic_fail(err, VIC_UNSUPPORTED, 0, "set TLS 1.2 as the least version");
    ok = ok && (!cert || load_own(ctx, cert, key, err)) && load_trust(ctx, ca, err);
    if (ok)
        return ctx;
    tls_ctx_free(ctx);
    return NULL;
}

struct tls_ctx *tls_server_cert(const char *cert, const char *key, const char *ca,
                                struct vic_err *err)
{
    return cert_ctx(true, ca, cert, key, err);
}

struct tls_ctx *tls_client_cert(const char *ca, const char *cert, const char *key,
                                struct vic_err *err)
{
    return cert_ctx(false, ca, cert, key, err);
}

/* ---- pre-shared keys ---- */

static unsigned psk_of_client(WOLFSSL *ssl, const char *hint, char *identity, unsigned identity_max,
                              unsigned char *key, unsigned key_max, const char **suite)
{
    const struct tls_conn *c = wolfSSL_GetIOReadCtx(ssl);
    size_t len = strlen(c->ctx->identity);
    (void)hint;
    if (len >= identity_max || key_max < TLS_PSK_SIZE)
        return 0;
    memcpy(identity, c->ctx->identity, len + 1);
    memcpy(key, c->ctx->key, TLS_PSK_SIZE);
    *suite = PSK_SUITE;
    return TLS_PSK_SIZE;
}

static unsigned psk_of_server(WOLFSSL *ssl, const char *identity, unsigned char *key,
                              unsigned key_max, const char **suite)
{
    struct tls_conn *c = wolfSSL_GetIOReadCtx(ssl);
    size_t len = strnlen(identity, TLS_MAX_IDENTITY);
    if (len == 0 || len == TLS_MAX_IDENTITY || key_max < TLS_PSK_SIZE)
        return 0;
    if (!c->ctx->find(c->ctx->find_arg, identity, key))
        return 0;
    free(c->psk_identity);
    c->psk_identity = xstrndup(identity, len);
    *suite = PSK_SUITE;
    return TLS_PSK_SIZE;
}

static struct tls_ctx *psk_ctx(bool server, struct vic_err *err)
{
    WOLFSSL_METHOD *method = server ? wolfTLSv1_3_server_method() : wolfTLSv1_3_client_method();
    struct tls_ctx *ctx = ctx_new(method, server, err);
    if (!ctx)
        return NULL;
    int group = WOLFSSL_ECC_X25519;
    ctx->psk = true;
    wolfSSL_CTX_set_verify(ctx->wolf, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_EXCEPT_PSK, NULL);
    if (server)
        wolfSSL_CTX_set_psk_server_tls13_callback(ctx->wolf, psk_of_server);
    else
        wolfSSL_CTX_set_psk_client_tls13_callback(ctx->wolf, psk_of_client);
    if (wolfSSL_CTX_set_cipher_list(ctx->wolf, PSK_SUITE) == WOLFSSL_SUCCESS &&
        wolfSSL_CTX_set_groups(ctx->wolf, &group, 1) == WOLFSSL_SUCCESS)
        return ctx;
    vic_fail(err, VIC_UNSUPPORTED, 0, "this wolfSSL lacks %s with X25519", PSK_SUITE);
    tls_ctx_free(ctx);
    return NULL;
}

struct tls_ctx *tls_server_psk(tls_psk_find find, void *arg, struct vic_err *err)
{
    struct tls_ctx *ctx = psk_ctx(true, err);
    if (ctx) {
        ctx->find = find;
        ctx->find_arg = arg;
    }
    return ctx;
}

struct tls_ctx *tls_client_psk(const char *identity, const unsigned char key[TLS_PSK_SIZE],
                               struct vic_err *err)
{
    size_t len = strlen(identity);
    if (len == 0 || len >= TLS_MAX_IDENTITY) {
        vic_fail(err, VIC_INVALID, 0, "a PSK identity has 1 to %d bytes", TLS_MAX_IDENTITY - 1);
        return NULL;
    }
    struct tls_ctx *ctx = psk_ctx(false, err);
    if (ctx) {
        memcpy(ctx->identity, identity, len + 1);
        memcpy(ctx->key, key, TLS_PSK_SIZE);
    }
    return ctx;
}

/* ---- connections ---- */

/* wolfSSL compares the text that it makes itself of an address in a certificate: for IPv6, eight
 * groups of four upper-case digits. */
static bool set_host(WOLFSSL *ssl, const char *host, struct vic_err *err)
{
    unsigned char ip[16];
    char groups[40];
    const char *name = host;
    bool numeric = inet_pton(AF_INET, host, ip) == 1;
    if (inet_pton(AF_INET6, host, ip) == 1) {
        for (int i = 0; i < 8; i++)
            snprintf(groups + 5 * i, 6, "%02X%02X%s", ip[2 * i], ip[2 * i + 1], i < 7 ? ":" : "");
        name = groups;
        numeric = true;
    }
    if (wolfSSL_check_domain_name(ssl, name) != WOLFSSL_SUCCESS ||
        (!numeric && wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, host,
                                    (unsigned short)strlen(host)) != WOLFSSL_SUCCESS))
        return vic_fail(err, VIC_INVALID, 0, "bad TLS host name \"%s\"", host);
    return true;
}

struct tls_conn *tls_conn_new(struct tls_ctx *ctx, const char *host, struct vic_err *err)
{
    WOLFSSL *ssl = wolfSSL_new(ctx->wolf);
    if (!ssl) {
        vic_fail(err, VIC_NO_MEMORY, 0, "make a TLS connection");
        return NULL;
    }
    if (!ctx->server && !ctx->psk && host && !set_host(ssl, host, err)) {
        wolfSSL_free(ssl);
        return NULL;
    }
    struct tls_conn *c = xcalloc(1, sizeof *c);
    c->ssl = ssl;
    c->ctx = ctx;
    wolfSSL_SetIOReadCtx(ssl, c);
    wolfSSL_SetIOWriteCtx(ssl, c);
    if (!ctx->server && ctx->psk)
        wolfSSL_UseKeyShare(ssl, WOLFSSL_ECC_X25519);
    return c;
}

void tls_conn_free(struct tls_conn *c)
{
    if (!c)
        return;
    wolfSSL_free(c->ssl);
    buf_fini(&c->early);
    free(c->psk_identity);
    free(c->peer_name);
    free(c);
}

/* An error of wolfSSL ends the connection, except WANT_READ. */
static enum tls_status check(struct tls_conn *c, int result, struct vic_err *err)
{
    int error = wolfSSL_get_error(c->ssl, result);
    if (error == WOLFSSL_ERROR_WANT_READ || error == WOLFSSL_ERROR_WANT_WRITE)
        return TLS_OK;
    if (error == WOLFSSL_ERROR_ZERO_RETURN && c->ready) {
        c->peer_closed = true;
        return TLS_CLOSED;
    }
    c->failed = true;
    wolf_fail(err, c->ready ? VIC_PROTOCOL : VIC_UNAUTHORIZED, error,
              c->ready ? "TLS" : "TLS handshake");
    wolfSSL_ERR_clear_error();
    return TLS_FAILED;
}

static void learn_peer(struct tls_conn *c)
{
    WOLFSSL_X509 *x = c->ctx->psk ? NULL : wolfSSL_get_peer_certificate(c->ssl);
    if (!x)
        return;
    const char *name = wolfSSL_X509_get_subjectCN(x);
    if (name)
        c->peer_name = xstrdup(name);
    wolfSSL_X509_free(x);
}

/* See the top.  A page that the kernel keeps is only a page more. */
static void drop_zero_pages(void *p, size_t size)
{
    static const char zeros[4096];
    const uintptr_t page = sizeof zeros, from = ((uintptr_t)p + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)p + size) & ~(page - 1);
    if (!p || sysconf(_SC_PAGESIZE) != (long)page)
        return;
    for (uintptr_t at = from; at < end; at += page) {
        void *here = (char *)p + (at - (uintptr_t)p);
        if (memcmp(here, zeros, page) == 0)
            madvise(here, page, MADV_DONTNEED);
    }
}

static enum tls_status write_all(struct tls_conn *c, struct sv plain, struct vic_err *err)
{
    while (plain.len) {
        int want = plain.len < WRITE_STEP ? (int)plain.len : WRITE_STEP;
        int n = wolfSSL_write(c->ssl, plain.p, want);
        if (n <= 0) {
            enum tls_status st = check(c, n, err);
            if (st != TLS_OK)
                return st;
            c->failed = true;
            vic_fail(err, VIC_INTERNAL, 0, "TLS write made no progress");
            return TLS_FAILED;
        }
        plain.p += n;
        plain.len -= (size_t)n;
    }
    return TLS_OK;
}

static enum tls_status handshake(struct tls_conn *c, struct vic_err *err)
{
    int r = c->ctx->server ? wolfSSL_accept(c->ssl) : wolfSSL_connect(c->ssl);
    if (r != WOLFSSL_SUCCESS)
        return check(c, r, err);
    if (c->ctx->psk && c->ctx->server && !c->psk_identity) {
        c->failed = true;
        vic_fail(err, VIC_UNAUTHORIZED, 0, "TLS handshake without a pre-shared key");
        return TLS_FAILED;
    }
    c->ready = true;
    learn_peer(c);
    WOLFSSL_SESSION *session = wolfSSL_get_session(c->ssl);
    drop_zero_pages(session, session ? malloc_usable_size(session) : 0);
    enum tls_status st = write_all(c, buf_sv(&c->early), err);
    buf_fini(&c->early);
    return st;
}

static enum tls_status read_all(struct tls_conn *c, struct buf *plain, struct vic_err *err)
{
    for (;;) {
        if (!buf_reserve(plain, READ_STEP)) {
            c->failed = true;
            vic_fail(err, VIC_TOO_LARGE, 0, "no room for decrypted bytes");
            return TLS_FAILED;
        }
        int n = wolfSSL_read(c->ssl, plain->data + plain->len, READ_STEP);
        if (n <= 0)
            return check(c, n, err);
        plain->len += (size_t)n;
        plain->data[plain->len] = '\0';
    }
}

static enum tls_status dead(struct vic_err *err)
{
    vic_fail(err, VIC_PROTOCOL, 0, "the TLS connection has failed");
    return TLS_FAILED;
}

enum tls_status tls_start(struct tls_conn *c, struct buf *wire, struct vic_err *err)
{
    if (c->failed)
        return dead(err);
    c->wire = wire;
    return handshake(c, err);
}

enum tls_status tls_input(struct tls_conn *c, struct sv cipher, struct buf *plain, struct buf *wire,
                          struct vic_err *err)
{
    if (c->failed)
        return dead(err);
    if (c->peer_closed)
        return TLS_CLOSED;
    c->in = cipher;
    c->wire = wire;
    enum tls_status st = c->ready ? TLS_OK : handshake(c, err);
    if (st == TLS_OK && c->ready)
        st = read_all(c, plain, err);
    c->in = (struct sv){0};
    return st;
}

enum tls_status tls_output(struct tls_conn *c, struct sv plain, struct buf *wire,
                           struct vic_err *err)
{
    if (c->failed || c->shut)
        return dead(err);
    if (!c->ready) {
        buf_add_sv(&c->early, plain);
        return TLS_OK;
    }
    c->wire = wire;
    return write_all(c, plain, err);
}

void tls_shutdown(struct tls_conn *c, struct buf *wire)
{
    if (c->failed || c->shut || !c->ready)
        return;
    c->shut = true;
    c->wire = wire;
    wolfSSL_shutdown(c->ssl);
}

size_t tls_kept(const struct tls_conn *c)
{
    return c->early.len;
}

bool tls_ready(const struct tls_conn *c)
{
    return c->ready;
}

const char *tls_psk_identity(const struct tls_conn *c)
{
    return c->psk_identity && c->ready ? c->psk_identity : "";
}

const char *tls_peer_name(const struct tls_conn *c)
{
    return c->peer_name ? c->peer_name : "";
}
