/* The hub's inside, shared by its files:
 *
 *   hub.c     making and freeing, the table of guests, calls that send one control frame
 *   conn.c    a connection's life: accept, deadlines, input to frames, queues to the socket
 *   frames.c  what each control frame means
 *   stream.c  streams: credit both ways, wake
 *   peers.c   limits before the key is proved
 *
 * A guest (what it last said) lives from its first HELLO to hub_forget; a connection from accept to
 * on_close; a stream from hub_open to hub_stream_free.  They point at each other only while all
 * are alive, and those pointers change under the hub's lock:
 *
 *   guest <-> conn      while the connection is the guest's newest
 *   conn  <-> stream    until CLOSE, OPEN_ERR, or the connection ends
 *
 * Sockets and timers belong to the loop thread.  Another thread puts frames on a connection's
 * queues and marks it dirty; hub_work, on the loop, moves them to the socket and calls the wakes.
 * No callback is called and no socket is written with the lock held.
 *
 * Order on the wire: control frames and stream frames have a queue each, so that a PONG or a
 * SIGNAL overtakes stdin.  Each queue keeps its order and is moved in whole frames. */
#ifndef VIC_HUB_INT_H
#define VIC_HUB_INT_H

/* uthash's default falls through its switch in a way that clang warns of; keys here are ids of
 * ours. */
#define HASH_FUNCTION HASH_OAT
#include <uthash.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/net.h"
#include "base/sync.h"
#include "tether/hub.h"
#include "tether/wire.h"

#include "fifo.h"
#include "peers.h"

enum {
    HUB_HANDSHAKE_MS = 5000,
    HUB_HANDSHAKE_SIZE = 16384, /* bytes taken from a peer before its key is proved */
    HUB_MAX_CONTROL = 1048576,  /* control frames waiting for a guest */
    HUB_MAX_DATA = 4194304,     /* stream frames waiting: beyond, streams take no bytes */
    HUB_SOCKET_SIZE = 131072,   /* what is handed to the socket at a time */
    HUB_MAX_CREDIT = 16777216,  /* credit that a guest may pile up */
    HUB_LOG_SLACK = 131072,     /* precision of the LOG window, see log_window */
    HUB_LOG_STEP = 8192,
    HUB_LOG_ENTRIES = 16384,
    HUB_LOG_MARKS = 512,
    HUB_MAX_LISTENERS = 8,
    HUB_MAX_TOKENS = 512, /* of a guest's JSON */
};

/* LOG bytes and entries that were not acknowledged: a ring of marks (seq, and what came up to it),
 * one each 8 KiB or 256 entries, so that the count lags by at most that when an ack names an entry
 * between two marks.  Bytes over the window are a breach; many small entries are honest, so beyond
 * HUB_LOG_ENTRIES the connection is not read until acknowledgements come. */
struct log_mark {
    uint64_t seq, bytes, entries;
};
struct log_window {
    struct log_mark marks[HUB_LOG_MARKS];
    unsigned head, count;
    struct log_mark made, acked;
};

struct guest {
    struct hub_guest said;
    struct conn *conn;
    char assigned[65]; /* the container that the engine last sent it */
    UT_hash_handle hh;
};

enum conn_state { CONN_HANDSHAKE, CONN_HELLO, CONN_UP, CONN_DEAD };

struct sent_config {
    uint64_t gen, seq, rev;
    enum hub_role role;
    char container[65];
};

struct conn {
    struct hub *hub;
    struct conn *prev, *next; /* loop thread: all connections */

    /* owned by the loop thread */
    struct net_stream *net; /* NULL in fuzzing */
    struct loop_timer *timer;
    enum conn_state state;
    struct peer *peer; /* until HELLO */
    struct buf in;     /* the head of a frame that is not whole yet */
    char vm[65];       /* proved */
    char boot[40], container[65];
    int64_t heard_ms;
    uint64_t ping_nonce;
    int64_t ping_sent_ns;
    uint64_t log_seq, status_seq;
    bool paused; /* too many LOG entries wait for their acknowledgement */

    /* guarded: hub->lock */
    struct guest *guest;
    struct fifo control, data;
    struct hub_stream *streams; /* by id */
    unsigned stream_count;
    uint32_t next_stream;
    struct log_window window;
    struct sent_config config; /* the newest CONFIG sent on this connection */
    const char *kill;          /* end it, and why: overflow, replaced, forgotten */
    bool dirty;
    bool starved; /* a stream found HUB_MAX_DATA reached: wake all when there is room */
    struct conn *dirty_next;
};

struct chan {
    struct fifo f;
    size_t window;   /* bytes the guest may still send */
    size_t consumed; /* read, not granted again yet */
    bool eof;
};

struct hub_stream {
    struct hub *hub;
    struct conn *conn; /* NULL once it is over */
    uint32_t id;
    UT_hash_handle hh;
    enum hub_stream_state state;
    bool refused;
    struct vic_err err;
    int launch_exit;
    char *result;
    size_t result_size;
    struct chan in[3]; /* 1 and 2 are used */
    size_t credit;     /* what we may send on channel 0 */
    bool eof_wanted, eof_sent, resize_wanted;
    uint16_t rows, cols;
    void (*wake)(void *arg);
    void *arg;
    bool waiting; /* is in hub->wakes */
    struct hub_stream *prev, *next;
};

struct hub {
    struct hub_options o;
    const struct vic_clock *clock;
    int64_t handshake_ms, ping_ms, dead_ms;
    struct tls_ctx *tls;

    /* owned by the loop thread */
    struct net_listener *listeners[HUB_MAX_LISTENERS];
    unsigned listener_count;
    struct conn *conns;
    struct peers peers;
    struct buf scratch;

    struct vic_mutex lock;
    struct vic_cond changed;
    /* guarded: lock */
    struct guest *guests; /* by vm */
    struct conn *dirty;
    struct hub_stream *wakes;  /* streams to wake, utlist */
    struct hub_stream *waking; /* its wake is running now */
    bool posted;               /* hub_work is on its way */
    bool closing, closed;
};

/* For the compiler, where a conn or stream of this hub is reached by another name: its lock is
 * held. */
static inline void hub_holds(const struct hub *h) VIC_ATTR(assert_capability(h->lock))
{
    (void)h;
}

/* --- hub.c */
struct guest *hub_find_locked(struct hub *h, const char *vm) VIC_REQUIRES(h->lock);
/* Makes hub_work run soon. */
void hub_kick_locked(struct hub *h) VIC_REQUIRES(h->lock);
/* Loop thread: moves queues to sockets, ends killed connections, calls wakes. */
void hub_work(struct hub *h);

/* --- conn.c */
void conn_accept(void *hub, struct net_stream *s);
/* Loop thread.  'net' NULL: without a socket, for the fuzzer. */
struct conn *conn_new(struct hub *h, struct net_stream *net);
/* Handles the whole frames in 'bytes', keeps the rest. */
VIC_CHECK bool conn_input(struct conn *c, struct sv bytes, struct vic_err *err);
void conn_flush(struct conn *c);
/* Says ERROR (err not NULL) and closes. */
void conn_end(struct conn *c, const struct vic_err *err);
/* Takes the connection from its guest and its streams from it. */
void conn_detach_locked(struct conn *c, const char *why) VIC_REQUIRES(c->hub->lock);
void conn_free(struct conn *c);
/* Frees it for a hub that ends; what is left goes with the socket. */
void conn_orphan(struct conn *c);
void conn_ping(struct conn *c);
/* Marks for hub_work; kills the connection whose control queue ran over. */
void conn_dirty_locked(struct conn *c); /* with the lock held, by whatever name */

/* --- frames.c: one frame of a proved guest, on the loop thread */
VIC_CHECK bool frame_handle(struct conn *c, const struct wire_frame *f, struct vic_err *err);
void window_ack(struct log_window *w, uint64_t seq);
uint64_t window_entries(const struct log_window *w);

/* --- stream.c */
VIC_CHECK bool stream_frame(struct conn *c, const struct wire_frame *f, struct vic_err *err);
void streams_lost_locked(struct conn *c, const char *why) VIC_REQUIRES(c->hub->lock);
void streams_room_locked(struct conn *c) VIC_REQUIRES(c->hub->lock);
void stream_wake_locked(struct hub_stream *s) VIC_REQUIRES(s->hub->lock);

#endif
