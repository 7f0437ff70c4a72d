/* The hub: the engine's end of every guest's channel.
 *
 * Guests connect, prove their key (TLS 1.3 PSK) and are known by vm id; one live connection per id
 * (a newer one replaces the older).  The hub keeps, for each guest, what it last said (struct
 * hub_guest): a controller reads that as observed state and acts level-triggered; the callbacks
 * only say "look again".  It decides nothing and stores nothing.
 *
 * Limits: before the key is proved a peer costs at most 16 KB, has 5 s, and at most 64 such
 * handshakes run at a time (beyond: refused at accept); a frame over its limit, an unknown frame
 * that must be understood, more than WIRE_MAX_STREAMS streams or a window overrun ends the
 * connection with ERROR.  What waits for a guest is bounded: streams by credit, control frames by
 * 1 MiB (beyond: the connection ends).
 *
 * Threads: callbacks come on the hub's loop thread and must not block; every function may be called
 * from any thread. */
#ifndef VIC_TETHER_HUB_H
#define VIC_TETHER_HUB_H

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/tls.h"

struct hub;
struct hub_stream;

enum hub_role { HUB_ROLE_NONE, HUB_ROLE_RUN, HUB_ROLE_WORKER };
enum hub_phase { HUB_PHASE_NONE, HUB_PHASE_STARTING, HUB_PHASE_RUNNING, HUB_PHASE_EXITED };
enum hub_exit_kind { HUB_EXIT_EXITED, HUB_EXIT_SIGNALED, HUB_EXIT_LAUNCH_FAILED };

struct hub_exit {
    bool set; /* the guest has reported the end of its run and waits for EXIT_ACK */
    char container[65];
    uint64_t seq;
    enum hub_exit_kind kind;
    int value; /* status, signal number, or the exit code of a failed launch (126, 127) */
    bool oom;
    char error[256];
    int64_t started_ns, ended_ns;
    uint64_t log_seq;
};

/* What a guest last said. */
struct hub_guest {
    bool connected;
    char vm[65];
    char boot[40];      /* boot id; changes when the VM boots again */
    unsigned boots;     /* how many different boot ids were seen since the engine's start */
    enum hub_role role;
    char container[65]; /* role run */
    uint64_t seq, spec_rev;
    enum hub_phase phase;
    int64_t pid, started_ns;
    /* The last CONFIG_ACK on this connection. */
    uint64_t config_gen;
    bool config_ok;
    char config_error[256], config_stage[32];
    int config_errno;
    struct hub_exit exit;
    int64_t hello_ns;        /* wall clock, of this connection's HELLO */
    uint64_t log_seq;        /* newest LOG of this boot that was taken, or stored before */
    int64_t clock_offset_ns; /* guest minus endpoint, from the last PONG */
};

struct hub_callbacks {
    /* Something in hub_guest changed (connected, gone, acked, status, exit): look again. */
    void (*on_guest)(void *arg, const char *vm);
    /* One LOG frame; 'boot' tells which boot numbered it.  Store it, then hub_log_ack.  'container'
     * is an id of letters, digits, '-', '_'; it is the guest's word until the engine has sent it a
     * CONFIG: compare it with what the vm was given. */
    void (*on_log)(void *arg, const char *vm, const char *container, const char *boot, uint64_t seq,
                   int64_t time_ns, unsigned stream, bool partial, struct sv bytes);
    /* Newest LOG sequence number stored for this boot of this container; for WELCOME. */
    uint64_t (*log_stored)(void *arg, const char *container, const char *boot);
};

struct hub_options {
    struct loop *loop;
    const struct hub_callbacks *cb;
    void *arg;
    /* Derives channel key n of a vm; false when the vm is not known. */
    bool (*key)(void *arg, const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE]);
    struct vic_log *log;
    const struct vic_clock *clock; /* NULL = the real one */
    /* 0 = 5 s, WIRE_PING_MS, WIRE_DEAD_MS; tests make them short. */
    int64_t handshake_ms, ping_ms, dead_ms;
};

struct hub *hub_new(const struct hub_options *o, struct vic_err *err);
/* Adds an address (base/net.h), e.g. "tcp:[fe80::1%br0]:2377"; '*port' may be NULL. */
VIC_CHECK bool hub_listen(struct hub *h, const char *address, int *port, struct vic_err *err);
/* Closes everything, then returns: no callback comes any more.  Streams must have been freed before,
 * and what callbacks use must live until then.  While the loop runs, after loop_stop (it waits for the
 * loop's thread), or after loop_run; not from a callback.  Before loop_free. */
void hub_free(struct hub *h);

/* False when the guest has not been seen since the engine's start. */
bool hub_guest(struct hub *h, const char *vm, struct hub_guest *out);
/* Forgets what a guest said, and closes its connection (the VM is gone). */
void hub_forget(struct hub *h, const char *vm);

/* Sends to a connected guest; UNAVAILABLE when it is not.  hub_config also fails with INVALID or
 * TOO_LARGE.  hub_exit_ack clears hub_guest.exit of that seq even when the guest is away: it tells
 * its exit again when it is back. */
VIC_CHECK bool hub_config(struct hub *h, const char *vm, struct sv config_json, struct vic_err *err);
VIC_CHECK bool hub_exit_ack(struct hub *h, const char *vm, uint64_t seq, struct vic_err *err);
VIC_CHECK bool hub_signal(struct hub *h, const char *vm, const char *session, int signum,
                          struct vic_err *err);
VIC_CHECK bool hub_shutdown(struct hub *h, const char *vm, int64_t grace_ms, int signum,
                            struct vic_err *err);
void hub_log_ack(struct hub *h, const char *vm, const char *boot, uint64_t seq);

/* --- streams --------------------------------------------------------------------------------------
 * A stream belongs to whoever opened it until hub_stream_free.  Output waits inside (at most
 * WIRE_CREDIT a channel) until it is taken with hub_stream_read, which grants the guest new credit:
 * so a reader that stops holds up its own stream only.  'wake' says that state changed: data, room,
 * opened, closed. */
enum hub_stream_state { HUB_OPENING, HUB_OPEN, HUB_CLOSED };
struct hub_stream_status {
    enum hub_stream_state state;
    bool refused;         /* OPEN_ERR, or the connection was lost: see err */
    struct vic_err err;
    int launch_exit;      /* 126 or 127 when a launch failed, else 0 */
    struct sv result;     /* CLOSE's JSON; borrowed until free */
    size_t readable[3];   /* bytes waiting, by channel */
    bool eof[3];
    size_t writable;      /* credit left on channel 0, less what is queued */
};
struct hub_stream *hub_open(struct hub *h, const char *vm, struct sv open_json,
                            void (*wake)(void *arg), void *arg, struct vic_err *err);
void hub_stream_status(struct hub_stream *s, struct hub_stream_status *out);
/* Takes up to 'max' waiting bytes of a channel, appended to 'out'; returns how many. */
size_t hub_stream_read(struct hub_stream *s, unsigned channel, struct buf *out, size_t max);
/* Sends bytes on channel 0; returns how many were taken (credit). */
size_t hub_stream_write(struct hub_stream *s, struct sv bytes);
void hub_stream_eof(struct hub_stream *s);
void hub_stream_resize(struct hub_stream *s, unsigned rows, unsigned cols);
/* Closes (cancels) when still open, and frees.  'wake' is not called any more once it returned: on
 * another thread than the loop's it waits for one that runs now, so hold no lock that 'wake' takes.
 * Inside 'wake' it is fine. */
void hub_stream_free(struct hub_stream *s);

#endif
