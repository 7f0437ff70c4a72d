/* Byte streams on a loop: TCP and unix sockets, plain or TLS.  All loop thread only.
 *
 * A stream's owner gives a table of callbacks.  Writing never blocks: bytes are queued and
 * net_pending tells how many are not with the kernel yet; on_drain comes when that falls to zero (a
 * net_write that the kernel takes at once leaves nothing pending and makes no on_drain).
 * Reading is paused with net_pause: the kernel's window then holds the sender back.  A stream is
 * closed by net_close; on_close comes exactly once, last, and only after it may the owner free its
 * own data.  net_close inside any callback is fine.
 *
 * Addresses: "unix:/path" (mode 0600 at birth), "tcp:HOST:PORT", "tcp:[fe80::1%br0]:2377"; port 0
 * lets the kernel choose (net_listener_port).  Names are not resolved. */
#ifndef VIC_BASE_NET_H
#define VIC_BASE_NET_H

#include "loop.h"
#include "sv.h"
#include "tls.h"

struct net_stream;
struct net_listener;

struct net_callbacks {
    /* Connected (clients) and TLS done: the stream may be used.  Servers get it too. */
    void (*on_ready)(void *arg);
    void (*on_data)(void *arg, struct sv data);
    void (*on_eof)(void *arg); /* the peer closed its writing side; ours stays open */
    void (*on_drain)(void *arg);
    /* err NULL: closed by us or in order. */
    void (*on_close)(void *arg, const struct vic_err *err);
};

/* Called for each accepted stream (before TLS): set its callbacks with net_set, or net_close it. */
typedef void (*net_accept)(void *arg, struct net_stream *s);

/* 'tls' NULL = plain.  'handshake_ms': a connection (net_connect) and TLS handshake not done by
 * then end the stream.  'tls' outlives the streams. */
struct net_options {
    struct tls_ctx *tls;
    const char *tls_name;  /* client: the host name to verify */
    int64_t handshake_ms;  /* 0 = 10 s */
    size_t handshake_size; /* a server's peer that sends more before its handshake is done is cut
                              off; 0 = no limit but TLS's own */
    unsigned backlog;      /* 0 = 512 */
};

struct net_listener *net_listen(struct loop *l, const char *address, const struct net_options *o,
                                net_accept accept, void *arg, struct vic_err *err);
int net_listener_port(const struct net_listener *n); /* TCP; 0 for unix */
void net_listener_free(struct net_listener *n);

struct net_stream *net_connect(struct loop *l, const char *address, const struct net_options *o,
                               const struct net_callbacks *cb, void *arg, struct vic_err *err);
/* Takes over a connected descriptor (socketpair, accepted elsewhere). */
struct net_stream *net_adopt(struct loop *l, int fd, const struct net_options *o, bool server,
                             const struct net_callbacks *cb, void *arg, struct vic_err *err);
void net_set(struct net_stream *s, const struct net_callbacks *cb, void *arg);

void net_write(struct net_stream *s, struct sv data); /* copied; ignored once closing */
size_t net_pending(const struct net_stream *s);       /* bytes queued, TLS included */
void net_pause(struct net_stream *s);
void net_resume(struct net_stream *s);
void net_shutdown(struct net_stream *s); /* half close after what is queued (close_notify) */
void net_close(struct net_stream *s);    /* after what is queued, at most 5 s */
void net_abort(struct net_stream *s);    /* at once */

const char *net_peer(const struct net_stream *s); /* "tcp:1.2.3.4:5", "unix:pid=7,uid=0" */
const char *net_psk_identity(const struct net_stream *s);
const char *net_peer_name(const struct net_stream *s); /* of its certificate, or "" */
bool net_is_tls(const struct net_stream *s);

#endif
