/* A guest for tests and benches: what a tether says on the channel, without a VM.
 *
 * struct tg is one blocking connection (TLS 1.3 PSK, frames), driven step by step: the honest parts
 * by the helpers, the hostile ones by tg_send with bytes of the test's choice.  tg_play is a whole
 * guest in a thread: it takes its role, runs, logs, echoes exec streams, exits, reconnects.
 *
 * Keys are tg_key(vm, n); a hub under test derives its keys with the same function.
 * Threads: one at a time for a struct tg. */
#ifndef VIC_TESTS_GUEST_H
#define VIC_TESTS_GUEST_H

#include "base/tls.h"
#include "tether/wire.h"

struct tg {
    int fd;
    struct tls_ctx *ctx;
    struct tls_conn *tls;
    struct buf plain, cipher;
    bool closed;  /* the hub said close_notify */
    size_t taken; /* size of the frame that tg_recv handed out last */
    char vm[65], boot[40];
};

enum { TG_TIMEOUT_MS = 20000 };

void tg_key(const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE]);

/* Connects to "tcp:HOST:PORT" on IPv4 or [IPv6], or "unix:PATH", and does the handshake.  'source'
 * NULL or a local IPv4 address.  'key' NULL = tg_key.  'identity' NULL = that of vm and n. */
struct tg_connect {
    const char *address, *vm, *identity, *source;
    unsigned n;
    const unsigned char *key;
};
VIC_CHECK bool tg_connect(struct tg *g, const struct tg_connect *o, struct vic_err *err);
void tg_close(struct tg *g); /* at once; no close_notify */
/* Only the TCP (or unix) connection; -1 when it was refused. */
int tg_dial(const char *address, const char *source);

VIC_CHECK bool tg_send(struct tg *g, struct sv frames, struct vic_err *err);
VIC_CHECK bool tg_json(struct tg *g, enum wire_type type, uint32_t stream, const char *json,
                       struct vic_err *err);
/* The next frame, borrowed until the next call.  CLOSED: VIC_UNAVAILABLE; VIC_TIMEOUT. */
VIC_CHECK bool tg_recv(struct tg *g, struct wire_frame *f, int64_t timeout_ms, struct vic_err *err);
/* The next frame of that type; PINGs are answered, others are skipped. */
VIC_CHECK bool tg_expect(struct tg *g, enum wire_type type, struct wire_frame *f,
                         struct vic_err *err);
/* HELLO (the idle one of g->vm and g->boot when 'json' is NULL), then waits for WELCOME. */
VIC_CHECK bool tg_hello(struct tg *g, const char *json, struct vic_err *err);
VIC_CHECK bool tg_log(struct tg *g, uint64_t seq, unsigned stream, struct sv bytes,
                      struct vic_err *err);
/* Reads until the hub closes; true when it said ERROR with this code name before ("" = any end). */
bool tg_ended(struct tg *g, const char *code);

/* --- a whole guest in a thread ------------------------------------------------------------------
 */
/* Strings are borrowed until tg_player_stop. */
struct tg_player_options {
    const char *address, *vm, *source;
    unsigned log_lines; /* written once the run has started */
    int exit_value;     /* -1: runs until SIGNAL (then signaled) or SHUTDOWN */
    bool chatty;        /* sends STATUS again and again between frames */
};
struct tg_player;
/* Connects (again and again while the hub refuses), HELLO, and plays until tg_player_stop or
 * SHUTDOWN. */
struct tg_player *tg_player_start(const struct tg_player_options *o);
void tg_player_stop(struct tg_player *p); /* closes and joins; frees */

#endif
