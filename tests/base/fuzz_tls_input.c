/* Bytes off the wire to a TLS connection.  The first byte chooses: a server or a client; at the
 * start, or with the handshake done.  The rest comes in pieces of a length also chosen there. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert, which release builds leave out. */
#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

enum { SERVER = 1, DONE = 2 }; /* bits of the first byte; the others are the piece's length */

static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    (void)arg, (void)identity;
    memset(key, 3, TLS_PSK_SIZE);
    return true;
}

struct pair {
    struct tls_conn *client, *server;
    struct buf to_server, to_client, plain;
};

static void finish_handshake(struct pair *p)
{
    struct vic_err err;
    while (p->to_server.len || p->to_client.len) {
        if (tls_input(p->server, buf_sv(&p->to_server), &p->plain, &p->to_client, &err) ==
            TLS_FAILED)
            abort();
        buf_reset(&p->to_server);
        if (tls_input(p->client, buf_sv(&p->to_client), &p->plain, &p->to_server, &err) ==
            TLS_FAILED)
            abort();
        buf_reset(&p->to_client);
    }
    MUST(tls_ready(p->client) && tls_ready(p->server));
}

static void feed(struct tls_conn *c, struct sv in, size_t step, struct pair *p)
{
    struct vic_err err = {0};
    enum tls_status st = TLS_OK;
    while (in.len && st == TLS_OK) {
        struct sv piece = sv_sub(in, 0, step);
        st = tls_input(c, piece, &p->plain, &p->to_client, &err);
        in = sv_sub(in, piece.len, SIZE_MAX);
    }
    MUST(st != TLS_FAILED || err.code != VIC_OK);
    MUST(p->plain.len == 0); /* nobody without the key gets a byte through */
    if (st != TLS_FAILED) {
        tls_output(c, SV("hello"), &p->to_client, &err);
        tls_shutdown(c, &p->to_client);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_ctx *server, *client;
    struct vic_err err;
    unsigned char key[TLS_PSK_SIZE];
    memset(key, 3, sizeof key);
    if (!server) {
        server = tls_server_psk(find_key, NULL, &err);
        client = tls_client_psk("me", key, &err);
    }
    if (!size)
        return 0;
    struct pair p = {
        tls_conn_new(client, NULL, &err), tls_conn_new(server, NULL, &err), {0}, {0}, {0}};
    size_t step = (size_t)(data[0] >> 2) + 1;
    tls_start(p.client, &p.to_server, &err);
    if (data[0] & DONE)
        finish_handshake(&p);
    feed(data[0] & SERVER ? p.server : p.client, sv_make(data + 1, size - 1), step, &p);
    tls_conn_free(p.client);
    tls_conn_free(p.server);
    buf_fini(&p.to_server);
    buf_fini(&p.to_client);
    buf_fini(&p.plain);
    return 0;
}
