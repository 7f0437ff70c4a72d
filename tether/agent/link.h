/* The connection to the hub: TCP, TLS with the guest's key, frames, pings; kept up for ever.
 *
 * Whoever has something to say appends frames to link_out() and calls link_kick().  What the kernel
 * does not take waits here; link_room() says whether a source of bulk data may add more, and
 * 'on_room' when it may again.  Control frames are always taken: they are small and few.
 * The peer is checked as any: frame limits and order; a frame that 'on_frame' refuses ends the
 * connection with ERROR, and the link connects anew with back-off (0.1 s doubling to 5 s).
 * 'on_down' never comes from inside link_kick: whoever sends keeps its streams while it does. */
#ifndef VIC_TETHER_AGENT_LINK_H
#define VIC_TETHER_AGENT_LINK_H

#include "base/buf.h"
#include "base/json.h"
#include "base/tls.h"
#include "tether/wire.h"

#include "watch.h"

enum { LINK_ROOM = 262144 };

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_HANDSHAKE, LINK_WAIT_WELCOME, LINK_UP };

struct link_options {
    struct poll_loop *loop;
    const char *vm;
    const char *endpoint; /* "[fe80::...]:2377" */
    unsigned ifindex;
    const unsigned char *key; /* channel key 1 */
    void *arg;
    void (*hello)(void *arg, struct buf *json);
    /* WELCOME came: the link is up.  'log_seq' = newest LOG stored at the hub. */
    void (*on_up)(void *arg, uint64_t log_seq, int64_t time_ns);
    void (*on_down)(void *arg);
    void (*on_room)(void *arg);
    bool (*on_frame)(void *arg, const struct wire_frame *f, struct vic_err *err);
};

struct link {
    struct link_options o;
    enum link_state state;
    unsigned key_number;
    unsigned char key[32];
    struct tls_ctx *ctx;
    struct tls_conn *tls;
    struct poll_watch watch;
    struct poll_timer retry, deadline, ping;
    int64_t backoff_ms, heard_ms;
    struct buf in, out, wire;
    size_t sent;                     /* of 'wire' */
    const char *broken;              /* why it goes down as soon as the caller has returned */
    bool flushing, want_room, stale; /* stale: 'ctx' has another key than 'key' */
};

void link_init(struct link *l, const struct link_options *o);
void link_start(struct link *l);
void link_fini(struct link *l);

bool link_is_up(const struct link *l);
struct buf *link_out(struct link *l); /* frames appended while the link is down are thrown away */
void link_kick(struct link *l);
bool link_room(struct link *l);
/* True when everything handed over has been given to the kernel. */
bool link_flushed(const struct link *l);
/* Uses key 2 from now on (kept by the run's spec). */
void link_set_key(struct link *l, unsigned number, const unsigned char key[32]);

/* Reads "[address]:port"; false when it is none. */
bool link_parse_endpoint(const char *text, unsigned char address[16], unsigned *port);

#endif
