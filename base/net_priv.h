/* Between net.c (streams) and net_listen.c (addresses, listeners). */
#ifndef VIC_BASE_NET_PRIV_H
#define VIC_BASE_NET_PRIV_H

#include <sys/socket.h>
#include <sys/un.h>

#include "loop_priv.h"
#include "net.h"

union net_handle {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct net_stream {
    struct loop_item item;
    struct loop *loop;
    union net_handle u;
    uv_timer_t timer; /* handshake, deferred delivery, gone check or close: see on_timer */
    union {
        uv_write_t write;
        uv_connect_t connect;
    } req;
    uv_shutdown_t shut_req;
    struct net_callbacks cb;
    void *arg;
    struct tls_conn *tls;
    struct buf out;    /* to be written next */
    struct buf flying; /* being written by libuv */
    struct buf held;   /* decrypted while paused */
    char *peer;
    struct vic_err *err;   /* why it died */
    size_t handshake_left; /* bytes before the handshake is done; 0 = no limit */
    unsigned open_handles;
    bool unix_socket, server;
    bool connected, ready, paused, reading, writing;
    bool drain_owed;         /* the owner was told that bytes are pending */
    bool eof_held, eof_seen; /* the peer's end: not delivered yet; delivered */
    bool shut_wanted, shut_sent;
    bool closing; /* net_close was called: flush, then die */
    bool dead;    /* libuv is closing the handles */
};

struct net_address {
    bool is_unix;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } sa;
};

bool net_address_parse(const char *text, struct net_address *out, struct vic_err *err);
/* "tcp:1.2.3.4:5" of an address, or "unix:pid=7,uid=0" of the process behind 'fd'; malloc'd. */
char *net_address_peer(int fd);

struct net_stream *net_stream_new(struct loop *l, bool unix_socket, bool server);
/* Starts a connected stream: TLS if 'o' says so. */
void net_stream_begin(struct net_stream *s, const struct net_options *o, bool defer_ready);
void net_stream_fail(struct net_stream *s, const struct vic_err *err);

#endif
