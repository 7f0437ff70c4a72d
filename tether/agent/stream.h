/* Streams of the channel, the guest's end (tether/wire.h, "Streams").
 *
 * The hub opens a stream; a kind's opener takes it on or refuses it.  Credit is kept here: what we
 * may send on channels 1 and 2, and what the hub may still send on channel 0 (an overrun ends the
 * connection).  When the connection is lost, or the hub closes the stream, its owner is told once
 * ('gone') and the stream is freed: an owner never holds a stream after that. */
#ifndef VIC_TETHER_AGENT_STREAM_H
#define VIC_TETHER_AGENT_STREAM_H

#include <sys/queue.h>

#include "link.h"

struct stream;

struct stream_ops {
    void (*data)(void *owner, struct sv bytes); /* channel 0; NULL: the kind takes none */
    void (*eof)(void *owner);
    void (*resize)(void *owner, unsigned rows, unsigned cols);
    void (*room)(void *owner); /* more credit, or the link drains again */
    void (*gone)(void *owner); /* last call */
};

struct stream {
    uint32_t id;
    const struct stream_ops *ops; /* NULL until taken on */
    void *owner;
    struct streams *set;
    uint32_t credit[3]; /* what we may send; [0] = what the hub may */
    bool eof;           /* channel 0 has ended */
    LIST_ENTRY(stream) link;
};

/* Takes the stream on (sets ops and owner) or fails: '*stage' and '*exit' then go into OPEN_ERR. */
typedef bool (*stream_opener)(void *arg, struct stream *s, struct json_val open, const char **stage,
                              int *exit, struct vic_err *err);
struct stream_kind {
    const char *name;
    stream_opener open;
    void *arg;
};

struct streams {
    struct link *conn;
    const struct stream_kind *kinds; /* ends with a NULL name */
    uint32_t last_id;
    unsigned count;
    LIST_HEAD(stream_list, stream) all;
};

void streams_init(struct streams *set, struct link *conn, const struct stream_kind *kinds);
/* OPEN, DATA, CREDIT, EOF, CLOSE, RESIZE. */
VIC_CHECK bool streams_frame(struct streams *set, const struct wire_frame *f, struct vic_err *err);
void streams_lost(struct streams *set); /* the connection is down */
void streams_room(struct streams *set); /* the link drains again */

void stream_opened(struct stream *s);
/* OPEN_ERR; frees the stream, without 'gone'. */
void stream_refuse(struct stream *s, const struct vic_err *err, const char *stage, int exit);
/* How many bytes may be sent on a channel now; 0 also when the link is full. */
size_t stream_room(struct stream *s, unsigned channel);
void stream_send(struct stream *s, unsigned channel, struct sv bytes); /* at most stream_room */
void stream_send_eof(struct stream *s, unsigned channel);
void stream_grant(struct stream *s, size_t bytes);
/* CLOSE with a JSON object; frees the stream, without 'gone'. */
void stream_close(struct stream *s, struct sv json);

#endif
