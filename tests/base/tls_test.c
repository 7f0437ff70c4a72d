/* base/tls.c, crypto.c, cert.c: two connections, back to back over buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/tls.h"

struct end {
    struct tls_conn *c;
    struct buf plain, wire; /* received; to send */
    enum tls_status status;
    struct vic_err err;
};

struct pair {
    struct end client, server;
};

static struct pair pair_new(struct tls_ctx *client, struct tls_ctx *server, const char *host)
{
    struct pair p = {0};
    struct vic_err err = {0};
    p.client.c = tls_conn_new(client, host, &err);
    p.server.c = tls_conn_new(server, NULL, &err);
    assert_non_null(p.client.c);
    assert_non_null(p.server.c);
    return p;
}

static void end_fini(struct end *e)
{
    tls_conn_free(e->c);
    buf_fini(&e->plain);
    buf_fini(&e->wire);
}

static void pair_fini(struct pair *p)
{
    end_fini(&p->client);
    end_fini(&p->server);
}

/* Moves what 'from' has to send, in pieces of at most 'step' bytes. */
static bool move(struct end *from, struct end *to, size_t step)
{
    bool moved = from->wire.len > 0;
    size_t at = 0;
    while (at < from->wire.len && to->status != TLS_FAILED) {
        size_t n = from->wire.len - at < step ? from->wire.len - at : step;
        to->status =
            tls_input(to->c, sv_make(from->wire.data + at, n), &to->plain, &to->wire, &to->err);
        at += n;
    }
    buf_reset(&from->wire);
    return moved;
}

static void shuttle(struct pair *p, size_t step)
{
    while (move(&p->client, &p->server, step) | move(&p->server, &p->client, step))
        ;
}

static void start(struct pair *p)
{
    p->client.status = tls_start(p->client.c, &p->client.wire, &p->client.err);
    assert_int_equal(p->client.status, TLS_OK);
    shuttle(p, 100000);
}

static void say(struct end *from, const char *text)
{
    assert_int_equal(tls_output(from->c, sv_of(text), &from->wire, &from->err), TLS_OK);
}

/* ---- certificates: one CA, a server, a client, made once ---- */

struct certs {
    char dir[64];
    char *ca, *ca_key, *server, *server_key, *client, *client_key, *other_ca, *other_key;
};

static char *in_dir(const struct certs *c, const char *name)
{
    return xasprintf("%s/%s", c->dir, name);
}

static int make_certs(void **state)
{
    struct certs *c = xcalloc(1, sizeof *c);
    struct vic_err err = {0};
    snprintf(c->dir, sizeof c->dir, "/tmp/tls_test.XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->ca = in_dir(c, "ca.pem"), c->ca_key = in_dir(c, "ca-key.pem");
    c->server = in_dir(c, "server.pem"), c->server_key = in_dir(c, "server-key.pem");
    c->client = in_dir(c, "client.pem"), c->client_key = in_dir(c, "client-key.pem");
    c->other_ca = in_dir(c, "other.pem"), c->other_key = in_dir(c, "other-key.pem");
    const char *names[] = {"vch.example.org", "127.0.0.1", "::1", NULL};
    assert_true(cert_make_ca("Test CA", c->ca, c->ca_key, &err));
    assert_true(cert_make_ca("Other CA", c->other_ca, c->other_key, &err));
    assert_true(cert_make("vch", names, false, c->ca, c->ca_key, c->server, c->server_key, &err));
    assert_true(cert_make("alice", NULL, true, c->ca, c->ca_key, c->client, c->client_key, &err));
    *state = c;
    return 0;
}

static int drop_certs(void **state)
{
    struct certs *c = *state;
    char *all[] = {c->ca,     c->ca_key,     c->server,   c->server_key,
                   c->client, c->client_key, c->other_ca, c->other_key};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        unlink(all[i]);
        free(all[i]);
    }
    rmdir(c->dir);
    free(c);
    return 0;
}

static void test_cert_files(void **state)
{
    struct certs *c = *state;
    struct stat st;
    struct vic_err err = {0};
    char print[96];
    assert_int_equal(stat(c->server_key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(c->server, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_true(cert_thumbprint(c->server, false, print, &err));
    assert_int_equal(strlen(print), 32 * 3 - 1);
    assert_true(cert_thumbprint(c->server, true, print, &err));
    assert_int_equal(strlen(print), 20 * 3 - 1);
    assert_false(cert_thumbprint("/nonexistent", true, print, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    /* The independent witness. */
    AUTO_FREE char *verify = xasprintf("openssl verify -purpose sslserver "
                                       "-verify_ip 127.0.0.1 -CAfile %s %s >/dev/null",
                                       c->ca, c->server);
    assert_int_equal(system(verify), 0);
    AUTO_FREE char *name = xasprintf("openssl verify -verify_hostname vch.example.org "
                                     "-CAfile %s %s >/dev/null",
                                     c->ca, c->server);
    assert_int_equal(system(name), 0);
    AUTO_FREE char *client = xasprintf("openssl verify -purpose sslclient -CAfile %s "
                                       "%s >/dev/null",
                                       c->ca, c->client);
    assert_int_equal(system(client), 0);
}

static void test_mutual(void **state)
{
    struct certs *k = *state;
    struct vic_err err = {0};
    struct tls_ctx *s = tls_server_cert(k->server, k->server_key, k->ca, &err);
    struct tls_ctx *c = tls_client_cert(k->ca, k->client, k->client_key, &err);
    assert_non_null(s);
    assert_non_null(c);
    struct pair p = pair_new(c, s, "vch.example.org");
    say(&p.client, "early "); /* before the handshake: kept */
    assert_int_equal(tls_kept(p.client.c), 6);
    start(&p);
    assert_true(tls_ready(p.client.c) && tls_ready(p.server.c));
    assert_int_equal(tls_kept(p.client.c), 0);
    assert_string_equal(tls_peer_name(p.server.c), "alice");
    assert_string_equal(tls_peer_name(p.client.c), "vch");
    say(&p.client, "hello");
    say(&p.server, "welcome");
    shuttle(&p, 7);
    assert_string_equal(buf_str(&p.server.plain), "early hello");
    assert_string_equal(buf_str(&p.client.plain), "welcome");
    pair_fini(&p);
    tls_ctx_free(s);
    tls_ctx_free(c);
}

/* One handshake that must fail on at least one side, without data getting through. */
static void refused(struct tls_ctx *c, struct tls_ctx *s, const char *host)
{
    assert_non_null(c);
    assert_non_null(s);
    struct pair p = pair_new(c, s, host);
    say(&p.client, "secret");
    p.client.status = tls_start(p.client.c, &p.client.wire, &p.client.err);
    shuttle(&p, 100000);
    assert_true(p.client.status == TLS_FAILED || p.server.status == TLS_FAILED);
    assert_int_equal(p.server.plain.len, 0);
    struct vic_err *e = p.client.status == TLS_FAILED ? &p.client.err : &p.server.err;
    assert_true(e->code != VIC_OK && strlen(e->msg) > 0);
    pair_fini(&p);
    tls_ctx_free(s);
    tls_ctx_free(c);
}

static void test_refused(void **state)
{
    struct certs *k = *state;
    struct vic_err e = {0};
    const char *sc = k->server, *sk = k->server_key;
    /* no client certificate */
    refused(tls_client_cert(k->ca, NULL, NULL, &e), tls_server_cert(sc, sk, k->ca, &e), NULL);
    /* a client certificate of another CA */
    refused(tls_client_cert(k->ca, k->client, k->client_key, &e),
            tls_server_cert(sc, sk, k->other_ca, &e), NULL);
    /* a server of another CA, or of another name */
    refused(tls_client_cert(k->other_ca, NULL, NULL, &e), tls_server_cert(sc, sk, NULL, &e), NULL);
    refused(tls_client_cert(k->ca, NULL, NULL, &e), tls_server_cert(sc, sk, NULL, &e), "evil.org");
    refused(tls_client_cert(k->ca, NULL, NULL, &e), tls_server_cert(sc, sk, NULL, &e), "127.0.0.2");
    assert_null(tls_server_cert(sc, k->client_key, NULL, &e));
    assert_int_equal(e.code, VIC_INVALID);
    assert_null(tls_server_cert("/nonexistent", sk, NULL, &e));
}

static void test_ip_name(void **state)
{
    struct certs *k = *state;
    struct vic_err e = {0};
    const char *hosts[] = {"127.0.0.1", "::1", "vch.example.org", NULL};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct tls_ctx *s = tls_server_cert(k->server, k->server_key, NULL, &e);
        struct tls_ctx *c = tls_client_cert(k->ca, NULL, NULL, &e);
        struct pair p = pair_new(c, s, hosts[i]);
        start(&p);
        if (!tls_ready(p.client.c))
            fail_msg("%s: %s", hosts[i], p.client.err.msg);
        assert_string_equal(tls_peer_name(p.server.c), "");
        pair_fini(&p);
        tls_ctx_free(s);
        tls_ctx_free(c);
    }
}

/* ---- pre-shared keys ---- */

static const unsigned char good_key[TLS_PSK_SIZE] = "0123456789abcdef0123456789abcde";

static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    *(unsigned *)arg += 1;
    if (strcmp(identity, "vm-42") != 0)
        return false;
    memcpy(key, good_key, TLS_PSK_SIZE);
    return true;
}

static void test_psk(void **state)
{
    (void)state;
    struct vic_err e = {0};
    unsigned asked = 0;
    struct tls_ctx *s = tls_server_psk(find_key, &asked, &e);
    struct tls_ctx *c = tls_client_psk("vm-42", good_key, &e);
    assert_non_null(s);
    assert_non_null(c);
    struct pair p = pair_new(c, s, NULL);
    start(&p);
    assert_true(tls_ready(p.client.c) && tls_ready(p.server.c));
    assert_string_equal(tls_psk_identity(p.server.c), "vm-42");
    assert_true(asked > 0);
    say(&p.client, "up");
    say(&p.server, "down");
    shuttle(&p, 1);
    assert_string_equal(buf_str(&p.server.plain), "up");
    assert_string_equal(buf_str(&p.client.plain), "down");
    pair_fini(&p);
    tls_ctx_free(s);
    tls_ctx_free(c);
}

static void test_psk_refused(void **state)
{
    struct certs *k = *state;
    struct vic_err e = {0};
    unsigned asked = 0;
    unsigned char bad[TLS_PSK_SIZE] = {1};
    refused(tls_client_psk("vm-42", bad, &e), tls_server_psk(find_key, &asked, &e), NULL);
    refused(tls_client_psk("vm-43", good_key, &e), tls_server_psk(find_key, &asked, &e), NULL);
    /* A peer with a certificate is no peer with the key, on either side. */
    refused(tls_client_psk("vm-42", good_key, &e),
            tls_server_cert(k->server, k->server_key, NULL, &e), NULL);
    refused(tls_client_cert(NULL, k->client, k->client_key, &e),
            tls_server_psk(find_key, &asked, &e), NULL);
    char longest[TLS_MAX_IDENTITY + 1];
    memset(longest, 'x', TLS_MAX_IDENTITY);
    longest[TLS_MAX_IDENTITY] = '\0';
    assert_null(tls_client_psk(longest, good_key, &e));
    assert_null(tls_client_psk("", good_key, &e));
}

/* Both ends' contexts for the transfer tests: PSK, or certificates. */
static struct pair connect_pair(struct certs *k, bool psk, struct tls_ctx **c, struct tls_ctx **s)
{
    static unsigned asked;
    struct vic_err e = {0};
    *s = psk ? tls_server_psk(find_key, &asked, &e)
             : tls_server_cert(k->server, k->server_key, k->ca, &e);
    *c = psk ? tls_client_psk("vm-42", good_key, &e)
             : tls_client_cert(k->ca, k->client, k->client_key, &e);
    struct pair p = pair_new(*c, *s, NULL);
    start(&p);
    assert_true(tls_ready(p.server.c));
    return p;
}

static void test_half_close(void **state)
{
    for (int psk = 0; psk < 2; psk++) {
        struct tls_ctx *c, *s;
        struct pair p = connect_pair(*state, psk, &c, &s);
        say(&p.client, "last words");
        tls_shutdown(p.client.c, &p.client.wire);
        tls_shutdown(p.client.c, &p.client.wire); /* twice is once */
        shuttle(&p, 5);
        assert_int_equal(p.server.status, TLS_CLOSED);
        assert_string_equal(buf_str(&p.server.plain), "last words");
        /* The other direction goes on, both ways of it: writing there, reading here. */
        for (int i = 0; i < 3; i++) {
            say(&p.server, "still here. ");
            shuttle(&p, 100000);
        }
        assert_string_equal(buf_str(&p.client.plain), "still here. still here. still here. ");
        assert_int_equal(p.client.status, TLS_OK);
        tls_shutdown(p.server.c, &p.server.wire);
        shuttle(&p, 100000);
        assert_int_equal(p.client.status, TLS_CLOSED);
        assert_int_equal(tls_output(p.client.c, SV("x"), &p.client.wire, NULL), TLS_FAILED);
        pair_fini(&p);
        tls_ctx_free(s);
        tls_ctx_free(c);
    }
}

static void test_big(void **state)
{
    enum { BIG = 3 * 1000 * 1000 };
    for (int psk = 0; psk < 2; psk++) {
        struct tls_ctx *c, *s;
        struct pair p = connect_pair(*state, psk, &c, &s);
        AUTO_FREE char *data = xmalloc(BIG);
        random_bytes(data, BIG);
        assert_int_equal(tls_output(p.server.c, sv_make(data, BIG), &p.server.wire, &p.server.err),
                         TLS_OK);
        shuttle(&p, 4099);
        assert_int_equal(p.client.plain.len, BIG);
        assert_memory_equal(p.client.plain.data, data, BIG);
        pair_fini(&p);
        tls_ctx_free(s);
        tls_ctx_free(c);
    }
}

static void test_damage(void **state)
{
    struct tls_ctx *c, *s;
    struct pair p = connect_pair(*state, true, &c, &s);
    say(&p.client, "hello");
    p.client.wire.data[p.client.wire.len - 1] ^= 1;
    shuttle(&p, 100000);
    assert_int_equal(p.server.status, TLS_FAILED);
    assert_int_equal(p.server.err.code, VIC_PROTOCOL);
    assert_int_equal(p.server.plain.len, 0);
    assert_int_equal(tls_output(p.server.c, SV("x"), &p.server.wire, NULL), TLS_FAILED);
    pair_fini(&p);
    tls_ctx_free(s);
    tls_ctx_free(c);
}

static void test_not_tls(void **state)
{
    struct certs *k = *state;
    struct vic_err e = {0};
    struct tls_ctx *s = tls_server_cert(k->server, k->server_key, NULL, &e);
    struct tls_conn *c = tls_conn_new(s, NULL, &e);
    struct buf plain = {0}, wire = {0};
    assert_int_equal(tls_input(c, SV("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), &plain, &wire, &e),
                     TLS_FAILED);
    assert_int_equal(plain.len, 0);
    tls_conn_free(c);
    buf_fini(&plain);
    buf_fini(&wire);
    tls_ctx_free(s);
}

/* ---- crypto.c ---- */

static void test_hashes(void **state)
{
    (void)state;
    char hex[65];
    sha256_hex("abc", 3, hex); /* FIPS 180-4, appendix B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct sha256 s;
    unsigned char out[42], want[42];
    sha256_init(&s);
    sha256_update(&s, "a", 1);
    sha256_update(&s, "", 0);
    sha256_update(&s, "bc", 2);
    sha256_final(&s, out);
    sha256_of("abc", 3, want);
    assert_memory_equal(out, want, 32);
    /* RFC 4231, test case 2. */
    hmac_sha256((const unsigned char *)"Jefe", 4, "what do ya want for nothing?", 28, out);
    hex_encode(out, 32, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    /* RFC 5869, test case 3: no salt, no info. */
    unsigned char ikm[22];
    memset(ikm, 0x0b, sizeof ikm);
    assert_true(hkdf_sha256(ikm, sizeof ikm, "", out, 42));
    char okm[85];
    hex_encode(out, 42, okm);
    assert_string_equal(okm, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                             "9d201395faa4b61a96c8");
}

static void test_seal(void **state)
{
    (void)state;
    unsigned char key[32] = {7}, sealed[5 + SEAL_OVERHEAD], again[5 + SEAL_OVERHEAD], out[5];
    assert_true(aead_seal(key, SV("id"), SV("hello"), sealed));
    assert_true(aead_seal(key, SV("id"), SV("hello"), again));
    assert_memory_not_equal(sealed, again, sizeof sealed);
    assert_true(aead_open(key, SV("id"), sv_make(sealed, sizeof sealed), out));
    assert_memory_equal(out, "hello", 5);
    assert_false(aead_open(key, SV("ie"), sv_make(sealed, sizeof sealed), out));
    assert_false(aead_open(key, SV("id"), sv_make(sealed, SEAL_OVERHEAD - 1), out));
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 0x40;
        assert_false(aead_open(key, SV("id"), sv_make(sealed, sizeof sealed), out));
        sealed[i] ^= 0x40;
    }
    assert_true(aead_seal(key, SV(""), SV(""), sealed));
    assert_true(aead_open(key, SV(""), sv_make(sealed, SEAL_OVERHEAD), out));
    assert_true(equal_const_time("ab", "ab", 2));
    assert_false(equal_const_time("ab", "ac", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cert_files), cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_ip_name),
        cmocka_unit_test(test_psk),        cmocka_unit_test(test_psk_refused),
        cmocka_unit_test(test_half_close), cmocka_unit_test(test_big),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_hashes),     cmocka_unit_test(test_seal),
    };
    return cmocka_run_group_tests(tests, make_certs, drop_certs);
}
