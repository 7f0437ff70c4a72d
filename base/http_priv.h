/* The HTTP server's own parts: see http.h for the contract.
 *
 *   http_parse.c  bytes -> heads and bodies; no sockets, no threads
 *   http.c        the server: options, listeners, its end
 *   http_conn.c   a connection: reading, answering, closing; loop thread
 *   http_job.c    a request's life after its head: handler, park, stream, hijack
 *   http_req.c    what handlers ask of a request; wakers; streamed bodies
 *
 * Ownership and threads.  A connection belongs to the loop.  A request belongs to the loop, except
 * while one of its jobs is in a pool ('running'): then its job fields belong to that thread.  The
 * hand-over is pool_run one way and loop_post_late the other, so that no field needs a lock.  There
 * is never more than one job of a request at a time. */
#ifndef VIC_BASE_HTTP_PRIV_H
#define VIC_BASE_HTTP_PRIV_H

#include <sys/queue.h>

#include "http.h"
#include "loop_priv.h"

enum {
    HTTP_MAX_HEADERS = 100,
    HTTP_MAX_LISTENERS = 16,
    HTTP_HIGH = 64 * 1024, /* more output than this pending: no fill, no next request */
    HTTP_IN_MAX = 64 * 1024,
    HTTP_PIPE_HIGH = 256 * 1024,
    HTTP_PIPE_LOW = 64 * 1024,
};

/* ---- http_parse.c ---- */

struct http_head {
    const char *method;
    struct sv path, query;
    struct http_header *headers;
    size_t count;
    uint64_t content_length;
    bool chunked, keep_alive, http10;
    bool upgrade; /* Connection: upgrade, with an Upgrade header */
    struct sv upgrade_to;
    bool expect_continue, expect_other;
};

/* Where the head ends (behind the empty line), or 0: more bytes are needed.  '*scan' remembers how
 * far it has looked; 0 at first. */
size_t http_head_end(struct sv in, size_t *scan);
/* 'raw' ends with the empty line and outlives 'out'.  Returns 0, or the status to refuse it with.
 */
int http_head_parse(struct arena *a, struct sv raw, struct http_head *out, struct vic_err *err);

/* Takes a body apart, whatever its framing. */
struct http_body {
    enum {
        BODY_PLAIN,
        BODY_SIZE,
        BODY_EXT,
        BODY_SIZE_LF,
        BODY_DATA,
        BODY_DATA_CR,
        BODY_DATA_LF,
        BODY_TRAILER,
        BODY_TRAILER_LINE,
        BODY_TRAILER_LF,
        BODY_END_LF,
        BODY_DONE
    } state;
    uint64_t left; /* of the body, or of the chunk */
    unsigned digits, overhead;
};
void http_body_begin(struct http_body *b, const struct http_head *h);
/* Takes from the front of 'in'; '*data' is the piece of body among it, perhaps empty.  Call until
 * it takes nothing or is done.  False: malformed. */
bool http_body_step(struct http_body *b, struct sv *in, struct sv *data);

/* ---- requests ---- */

enum http_job { JOB_HANDLE, JOB_POLL, JOB_FILL, JOB_FREE };
enum http_state { REQ_READING, REQ_HANDLER, REQ_PARKED, REQ_STREAM, REQ_RAW, REQ_ENDED };
enum http_framing { FRAME_LENGTH, FRAME_CHUNKED, FRAME_CLOSE, FRAME_NONE };

struct http_action {
    enum { ACT_NONE, ACT_REPLY, ACT_PARK, ACT_STREAM, ACT_HIJACK } kind;
    int status;
    const char *content_type; /* in the arena */
    struct buf body;
    int64_t wait_ms; /* park: deadline; stream: interval */
    bool sized;
    uint64_t size;
};

struct http_park {
    http_poll poll;
    void (*drop)(void *arg);
    void *arg;
};

/* A streamed body between the loop (which fills it) and one pool thread (which reads it). */
struct http_pipe {
    struct vic_mutex lock;
    struct vic_cond more;
    /* guarded: lock */
    struct buf data VIC_GUARDED;
    size_t at VIC_GUARDED;
    bool end VIC_GUARDED, full VIC_GUARDED, asked VIC_GUARDED; /* asked: the first read came */
    struct vic_err failed VIC_GUARDED;                         /* code OK: not failed */
};

struct http_req {
    struct http_server *server;
    struct arena arena;
    struct http_head head;
    const char *peer, *peer_name;
    struct sv body;
    struct buf body_buf;
    struct http_pipe *pipe;
    struct buf extra; /* header lines for the answer */
    struct http_waker *waker;
    /* owned by loop thread */
    struct http_conn *conn; /* NULL: the client is gone, or was answered */
    enum http_state state;
    enum http_framing framing;
    bool keep;
    bool again; /* a wake, a deadline or MORE: to be polled or filled once more */
    bool deadline_hit, eof_told;
    bool input_blocked; /* the pipe is full, or the sink took not all */
    int64_t interval_ms;
    uint64_t left; /* FRAME_LENGTH: bytes still owed */
    struct loop_timer *timer;
    TAILQ_ENTRY(http_req) refused;
    bool running;
    /* job: owned by the pool's thread while running */
    enum http_job job;
    bool timed_out, answered;
    struct http_action act;
    struct http_park park;
    struct http_source src;
    struct http_sink sink;
    void *src_arg;
    struct buf out;
    enum http_fill filled;
};

struct http_answer {
    int status;
    const char *content_type;
    enum http_framing framing;
    uint64_t length;
    struct sv body; /* written behind the head */
    bool keep;
};

/* ---- connections; owned by loop thread ---- */

struct http_conn {
    struct http_server *server;
    struct net_stream *stream;
    TAILQ_ENTRY(http_conn) link;
    struct buf in; /* received, not yet taken; no memory while idle */
    size_t at;     /* its first byte */
    size_t scan;
    struct http_body body;
    uint64_t body_bytes, body_max;
    struct http_req *req;
    struct loop_timer *timer;
    enum { CONN_HEAD, CONN_BODY, CONN_BUSY, CONN_RAW, CONN_LINGER, CONN_REJECT } state;
    bool eof, served, head_begun, processing, paused;
};

struct http_server {
    struct loop *loop;
    struct http_options o;
    struct buf fixed; /* o.headers as lines */
    struct vic_pool *body_pool;
    /* owned by loop thread */
    TAILQ_HEAD(, http_conn) conns;
    TAILQ_HEAD(http_reqs, http_req) refused; /* jobs that the pool had no room for */
    struct loop_timer *retry;
    unsigned conn_count;
    struct net_listener *listeners[HTTP_MAX_LISTENERS];
    unsigned listener_count;
    bool closing;
    int64_t date_s;
    char date[40];
    struct vic_mutex lock;
    struct vic_cond gone;
    /* guarded: lock */
    size_t live VIC_GUARDED; /* connections and requests */
};

/* http.c */
void http_live(struct http_server *s, int change);

/* http_conn.c */
void http_conn_accept(void *server, struct net_stream *stream);
void http_conn_process(struct http_conn *c);
/* The request is answered and detached: on to the next one, or to the end. */
void http_conn_next(struct http_conn *c, bool keep);
void http_conn_head(struct http_conn *c, struct http_req *r, const struct http_answer *a);
/* The body of an answer of the server itself. */
void http_error_body_of(const struct http_options *o, int status, const char *text, struct buf *out,
                        const char **type);
void http_conn_linger(struct http_conn *c);
void http_conn_end(struct http_conn *c); /* the server ends */

/* http_job.c */
void http_job_dispatch(struct http_req *r);
void http_job_wake(struct http_req *r);
void http_job_pump(struct http_req *r); /* room for output, or a wake */
void http_job_gone(struct http_req *r); /* the client went away: detaches */
void http_job_eof(struct http_req *r);  /* it closed its writing side */
void http_job_retry(void *server);

/* http_req.c */
struct http_req *http_req_new(struct http_conn *c);
void http_req_free(struct http_req *r);
struct http_pipe *http_pipe_new(void);
void http_pipe_free(struct http_pipe *p);
bool http_pipe_put(struct http_pipe *p, struct sv data); /* false: full now */
void http_pipe_end(struct http_pipe *p);
void http_pipe_fail(struct http_pipe *p, const struct vic_err *err);

#endif
