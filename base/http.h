/* HTTP/1.1 server on libhttp-parser, one for api/ and vic-host.
 *
 * The loop owns the sockets.  A request's head (and its body, when the route takes it whole) is
 * read there; then the handler runs in a pool thread.  A handler never waits.  It ends in one of
 * four ways:
 *   reply   http_reply: the whole answer, now.
 *   park    http_park: 'poll' is called (in the pool) at once, at each http_wake and at the
 * deadline until it has replied. stream  http_stream: a source is asked for bytes, in the pool,
 * whenever the client has room; it answers MORE, WAIT (until http_wake) or END.  A source is a
 * cursor: it holds a position, never a backlog, so a client that stops reading costs one buffer.
 *   hijack  http_hijack: as stream, without HTTP framing, plus a sink for what the client sends.
 * Parked, streaming and idle connections hold no thread.
 *
 * A body that is a stream itself (docker load, a datastore upload) is read with http_body_read,
 * which does block: such routes are dispatched to a second pool (body_threads), and more of them
 * than that wait for their turn while everything else goes on.
 *
 * Limits (each answered as HTTP says, with 'error'): head 64 KiB, 100 headers -> 431; request line
 * -> 414; whole body -> 413; head not complete within 30 s, or a whole body that stands still as
 * long, -> 408 and close; a streamed body that stands still for idle_ms fails its reader; Expect:
 * 100-continue is answered; chunked bodies are read; both Content-Length and Transfer-Encoding, or
 * a bad one, -> 400 and close (RFC 9112 section 6.3); pipelined requests are answered in turn.
 *
 * Gone: a client that closes its connection, or its sending side, while its request is parked or
 * its source waits, counts as gone; what can be sent without waiting is still sent.  Hijacked, it
 * only ended its input.
 *
 * Lifetime: a 'struct http_req' lives until it is answered and its source freed; http_wake takes a
 * weak handle, so waking a request that is gone does nothing.
 * Threads: each function says where it may be called. */
#ifndef VIC_BASE_HTTP_H
#define VIC_BASE_HTTP_H

#include "arena.h"
#include "buf.h"
#include "log.h"
#include "loop.h"
#include "net.h"
#include "sync.h"

struct http_server;
struct http_req;

struct http_header {
    struct sv name, value;
};

enum http_body_kind { HTTP_BODY_WHOLE, HTTP_BODY_STREAM };

/* Decides, from method and path, how the body is read and how large it may be; loop thread, must
 * not block.  NULL = whole, 4 MiB. */
typedef enum http_body_kind (*http_classify)(void *arg, const char *method, struct sv path,
                                             uint64_t *max_bytes);
/* Runs in a pool thread. */
typedef void (*http_handler)(void *arg, struct http_req *r);
/* Renders an error answer of the server itself (404 has none here: routing is the handler's). */
typedef void (*http_error_body)(void *arg, const struct vic_err *err, int status, struct buf *out,
                                const char **content_type);

struct http_options {
    http_handler handler;
    http_classify classify;
    http_error_body error_body; /* NULL: text/plain */
    void *arg;
    struct vic_pool *pool;      /* handlers, polls and sources */
    unsigned body_threads;      /* for HTTP_BODY_STREAM; 0 = 4 */
    const char *const *headers; /* "Name: value" lines put on every answer; NULL-terminated */
    struct vic_log *log;
    size_t max_head;          /* 0 = 64 KiB */
    int64_t head_ms;          /* 0 = 30 s */
    int64_t idle_ms;          /* keep-alive without a request; 0 = 10 min */
    unsigned max_connections; /* 0 = 4096; beyond: 503 and close */
};

struct http_server *http_server_new(struct loop *l, const struct http_options *o,
                                    struct vic_err *err);
/* Adds an address (see net.h); may be called more than once.  Any thread before loop_start, else
 * loop thread only.  '*port' gets the TCP port (may be NULL). */
VIC_CHECK bool http_listen(struct http_server *s, const char *address, struct tls_ctx *tls,
                           int *port, struct vic_err *err);
/* Serves a connected socket, which it takes over; as http_listen else.  For tests, and sockets
 * handed in by another process. */
VIC_CHECK bool http_adopt(struct http_server *s, int fd, struct tls_ctx *tls, struct vic_err *err);
/* Ends all connections.  Handlers that run finish first.  Any thread but the loop's;
 * before loop_free, and the pool must still run. */
void http_server_free(struct http_server *s);

/* The request.  Any thread that handles it; borrowed until it is answered. */
const char *http_method(const struct http_req *r); /* upper case */
struct sv http_path(const struct http_req *r);     /* percent-decoded? no: raw, without query */
struct sv http_query_raw(const struct http_req *r);
/* First value of a query key, decoded into the request's arena; false when absent. */
bool http_query(struct http_req *r, const char *key, const char **value);
/* Calls 'each' for every value of 'key' in order. */
void http_query_each(struct http_req *r, const char *key,
                     void (*each)(void *arg, const char *value), void *arg);
struct sv http_get_header(const struct http_req *r, const char *name); /* p NULL when absent */
struct sv http_body(const struct http_req *r);                         /* whole bodies */
/* Length announced by the client; -1 = chunked. */
int64_t http_content_length(const struct http_req *r);
const char *http_peer(const struct http_req *r);      /* as net_peer */
const char *http_peer_name(const struct http_req *r); /* client certificate's name or "" */
struct arena *http_arena(struct http_req *r);         /* lives as long as the request */
bool http_wants_upgrade(const struct http_req *r);    /* Connection: Upgrade */

/* Streamed bodies: reads up to 'size' bytes, blocking; 0 = end.  False: the client went away, the
 * body is malformed or over its limit. */
VIC_CHECK bool http_body_read(struct http_req *r, void *p, size_t size, size_t *got,
                              struct vic_err *err);

/* Adds a header to the answer to come. */
void http_set_header(struct http_req *r, const char *name, const char *value);

/* Answers.  Exactly one per request; the request may not be used after it, but for the arg of a
 * park, stream or hijack.  Body bytes are copied.  HEAD sends no body.  204/304 send none. */
void http_reply(struct http_req *r, int status, const char *content_type, struct sv body);

/* 'poll' returns true when it has answered (with http_reply, http_stream or http_hijack).
 * 'timed_out' is set at the deadline (deadline_ms from now; < 0 = none): it must answer then.
 * 'drop' is called once when the client went away instead, or after the answer; it frees 'arg'. May
 * be NULL. */
typedef bool (*http_poll)(void *arg, struct http_req *r, bool timed_out);
void http_park(struct http_req *r, int64_t deadline_ms, http_poll poll, void (*drop)(void *arg),
               void *arg);

enum http_fill { HTTP_MORE, HTTP_WAIT, HTTP_END };
struct http_source {
    /* Appends at most about 64 KiB to 'out'.  Pool thread; never twice at a time for one request.
     */
    enum http_fill (*fill)(void *arg, struct buf *out);
    /* Once, last, in a pool thread: the stream ended or the client is gone. */
    void (*free)(void *arg);
};
/* Chunked; the head is sent at once, before the first fill.  If 'interval_ms' > 0, fill is also
 * called that often while waiting. */
void http_stream(struct http_req *r, int status, const char *content_type, int64_t interval_ms,
                 const struct http_source *src, void *arg);
/* The same with a known length (Content-Length), for files. */
void http_stream_sized(struct http_req *r, int status, const char *content_type, uint64_t size,
                       const struct http_source *src, void *arg);

/* Both run on the loop's thread, perhaps while fill runs in the pool: what they share with it needs
 * a lock.  Neither is called any more once the source said END. */
struct http_sink {
    /* Bytes from the client, loop thread, must not block.  Returns how many it took; when fewer
     * than given, reading pauses until http_wake_input. */
    size_t (*data)(void *arg, struct sv bytes);
    void (*eof)(void *arg); /* the client closed its writing side */
};
/* Answers 101 (client asked for an upgrade) or 200, then raw bytes both ways until the source says
 * END: then what is queued is sent, our side is half-closed, and the rest drained briefly. */
void http_hijack(struct http_req *r, const char *content_type, const struct http_source *src,
                 const struct http_sink *sink, void *arg);

/* A weak handle on a parked, streaming or hijacked request.  Take it inside the handler, before
 * answering.  Any thread; waking one that is gone does nothing. */
struct http_waker;
struct http_waker *http_waker(struct http_req *r);
void http_wake(struct http_waker *w);       /* poll or fill again */
void http_wake_input(struct http_waker *w); /* the sink has room again */
void http_waker_free(struct http_waker *w);

#endif
