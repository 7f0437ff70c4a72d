/* Between descriptors and whoever has room: bytes out of a pipe or tty (source), bytes into one
 * (sink).  Neither holds more than its neighbours allow: a source reads only as much as there is
 * room for, a sink keeps what was sent on credit and says when it was written. */
#ifndef VIC_TETHER_AGENT_PUMP_H
#define VIC_TETHER_AGENT_PUMP_H

#include "base/sv.h"

#include "watch.h"

enum { SOURCE_CHUNK = 32768 };

struct source {
    struct poll_loop *loop;
    struct poll_watch watch;
    struct poll_timer finish;
    int fd; /* owned; -1 once ended */
    unsigned channel;
    bool last; /* the writer is gone: "nothing there now" is the end */
    size_t (*room)(void *arg, unsigned channel);
    void (*data)(void *arg, unsigned channel, struct sv bytes);
    void (*ended)(void *arg, unsigned channel);
    void *arg;
};

/* Takes 'fd' (non-blocking); with -1 it has ended at once, without a call. */
void source_start(struct source *s, struct poll_loop *loop, int fd);
void source_resume(struct source *s); /* there may be room again */
/* The writer is gone, though others may hold the pipe open: ends once it is empty. */
void source_finish(struct source *s);
void source_stop(struct source *s);
bool source_ended(const struct source *s);

struct sink_chunk {
    TAILQ_ENTRY(sink_chunk) link;
    void *owner; /* who sent it; NULL when gone */
    size_t len, at;
    char bytes[];
};

struct sink {
    struct poll_loop *loop;
    struct poll_watch watch;
    int fd;       /* owned; -1 when closed: bytes are swallowed */
    bool waiting; /* not open yet: what is put waits */
    bool closing; /* close once empty */
    TAILQ_HEAD(sink_chunks, sink_chunk) chunks;
    /* 'n' bytes of 'owner' are done with.  It may forget that owner. */
    void (*wrote)(void *arg, void *owner, size_t n);
    void *arg;
};

void sink_init(struct sink *s, struct poll_loop *loop); /* waits for sink_open */
void sink_open(struct sink *s, int fd);                 /* takes 'fd' (non-blocking), or -1 */
void sink_put(struct sink *s, void *owner, struct sv bytes);
bool sink_has(const struct sink *s, const void *owner);
void sink_forget(struct sink *s, const void *owner); /* its bytes are still written */
void sink_close(struct sink *s);                     /* after what waits */
void sink_fini(struct sink *s);                      /* at once */

#endif
