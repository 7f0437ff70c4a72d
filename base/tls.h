/* TLS on wolfSSL: server and client, certificates or an external pre-shared key.
 *
 * A 'struct tls_ctx' is immutable after set-up and shared; a 'struct tls_conn' is a state machine
 * over byte buffers (no sockets): feed it what came off the wire, send what it wants sent.  So the
 * same code serves libuv streams, the agent's poll loop, tests and fuzzers.
 *
 * Names: TLS 1.2 minimum for certificates; PSK is TLS 1.3 only, suite
 * TLS13-CHACHA20-POLY1305-SHA256 with X25519 (Debian's wolfSSL has no AES-NI: ChaCha20 is twice as
 * fast).  Facts: RFC 8446; wolfSSL 5.5.4 manual (psk_{client,server}_tls13_callback).
 * Threads: a ctx from any; a conn from one at a time. */
#ifndef VIC_BASE_TLS_H
#define VIC_BASE_TLS_H

#include "buf.h"
#include "err.h"

enum { TLS_PSK_SIZE = 32, TLS_MAX_IDENTITY = 128 };

struct tls_ctx;
struct tls_conn;

/* Finds the key of 'identity' (NUL-terminated); false = unknown.  Called inside the handshake. */
typedef bool (*tls_psk_find)(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE]);

/* PEM files.  'ca' NULL: clients need no certificate; else one signed by it is required. */
struct tls_ctx *tls_server_cert(const char *cert, const char *key, const char *ca,
                                struct vic_err *err);
/* 'ca' NULL and pin NULL: nothing is verified (tests).  cert/key: the client's own, or NULL. */
struct tls_ctx *tls_client_cert(const char *ca, const char *cert, const char *key,
                                struct vic_err *err);
struct tls_ctx *tls_server_psk(tls_psk_find find, void *arg, struct vic_err *err);
struct tls_ctx *tls_client_psk(const char *identity, const unsigned char key[TLS_PSK_SIZE],
                               struct vic_err *err);
void tls_ctx_free(struct tls_ctx *ctx);
/* A thread that used connections calls this last: wolfSSL keeps precomputed curve points for each
 * thread, up to 12 MB.  (A loop's own thread does.) */
void tls_thread_end(void);

/* Makes a connection; 'host' is the name a client verifies (or NULL). */
struct tls_conn *tls_conn_new(struct tls_ctx *ctx, const char *host, struct vic_err *err);
void tls_conn_free(struct tls_conn *c);

enum tls_status {
    TLS_OK,     /* progress was made, or there is nothing to do */
    TLS_CLOSED, /* the peer sent close_notify: no more input; output may go on */
    TLS_FAILED, /* dead; see err */
};

/* Takes bytes off the wire; decrypted bytes are appended to 'plain'; what must be sent to the peer
 * is appended to 'wire'.  Input beyond a record's end is kept inside. */
enum tls_status tls_input(struct tls_conn *c, struct sv cipher, struct buf *plain, struct buf *wire,
                          struct vic_err *err);
/* Starts the handshake (clients send first): appends to 'wire'. */
enum tls_status tls_start(struct tls_conn *c, struct buf *wire, struct vic_err *err);
/* Encrypts; before the handshake is done the bytes are kept and sent after it. */
enum tls_status tls_output(struct tls_conn *c, struct sv plain, struct buf *wire,
                           struct vic_err *err);
/* Appends close_notify; reading may go on (half close). */
void tls_shutdown(struct tls_conn *c, struct buf *wire);

bool tls_ready(const struct tls_conn *c);               /* handshake done */
size_t tls_kept(const struct tls_conn *c);              /* bytes of tls_output waiting for that */
const char *tls_psk_identity(const struct tls_conn *c); /* server: who proved it; else "" */
const char *tls_peer_name(const struct tls_conn *c);    /* common name of the peer's certificate */

/* SHA-256, HMAC, HKDF (RFC 5869) and AES-256-GCM of wolfCrypt, for everyone. */
struct sha256 {
    _Alignas(16) unsigned char state[256];
};
void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *p, size_t len);
void sha256_final(struct sha256 *s, unsigned char out[32]);
void sha256_of(const void *p, size_t len, unsigned char out[32]);
void sha256_hex(const void *p, size_t len, char out[65]);
void hmac_sha256(const unsigned char *key, size_t key_len, const void *p, size_t len,
                 unsigned char out[32]);
bool hkdf_sha256(const unsigned char *secret, size_t secret_len, const char *info,
                 unsigned char *out, size_t out_len);
/* Seals: out = nonce (12) + ciphertext (len) + tag (16).  aad is bound, not stored. */
enum { SEAL_OVERHEAD = 28 };
bool aead_seal(const unsigned char key[32], struct sv aad, struct sv plain, unsigned char *out);
bool aead_open(const unsigned char key[32], struct sv aad, struct sv sealed, unsigned char *out);
bool equal_const_time(const void *a, const void *b, size_t len);

/* Certificates (ECDSA P-256), PEM: a CA and what it signs.  For development set-ups, vic-host and
 * tests; names are DNS names or IP addresses.  Files are written 0600 for keys, 0644 else. */
VIC_CHECK bool cert_make_ca(const char *common_name, const char *cert_path, const char *key_path,
                            struct vic_err *err);
VIC_CHECK bool cert_make(const char *common_name, const char *const *names, bool client,
                         const char *ca_cert, const char *ca_key, const char *cert_path,
                         const char *key_path, struct vic_err *err);
/* Upper-case hex with colons of the SHA-256 (32 bytes) or SHA-1 (20) of a PEM file's certificate.
 */
VIC_CHECK bool cert_thumbprint(const char *cert_path, bool sha1, char out[96], struct vic_err *err);

#endif
