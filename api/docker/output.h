/* A container's output for clients: see output.c. */
#ifndef VIC_API_DOCKER_OUTPUT_H
#define VIC_API_DOCKER_OUTPUT_H

#include "docker.h"

/* What of a log a client wants, and where it is. */
struct output {
    struct logs_reader *reader;
    bool tty;      /* raw; else frames */
    bool out, err; /* which streams */
    bool timestamps, details;
    int64_t since, until; /* Unix ns; 0 = no bound */
    bool fresh[3];        /* the stream's next byte begins a line */
    bool past_until;
};

bool output_open(struct call *c, const char *container, struct output *o);
void output_close(struct output *o);
/* Appends what is readable, up to about 'room' bytes; '*end' when there is nothing more for now. */
bool output_fill(struct output *o, struct buf *out, size_t room, bool *end, struct vic_err *err);
/* The run that goes on now or was asked for; 0 = none. */
uint64_t output_run(const struct store_container *k);
/* Has it ended, or will it never be?  Everything that it wrote can be read then. */
bool output_run_over(const struct store_container *k, uint64_t seq);
/* A frame of Docker's multiplexed stream: type, 0 0 0, big-endian length, bytes. */
void output_frame(struct buf *out, unsigned type, struct sv bytes);
/* The content type of a stream for this client. */
const char *output_type(const struct call *c, bool tty);

/* "ctrl-p,ctrl-q" as bytes; VIC_INVALID when it cannot be read. */
enum { DETACH_MAX = 16 };
struct detach_keys {
    unsigned char keys[DETACH_MAX];
    size_t count, matched;
};
bool detach_parse(const char *text, struct detach_keys *out);
/* Takes typed bytes; what is to be sent on is appended to 'out'.  True: the keys were typed. */
bool detach_take(struct detach_keys *d, struct sv typed, struct buf *out);

/* --- execs (exec.c): records in memory, as dockerd's
 * ------------------------------------------------ */
/* Ids of the container's execs that have not ended. */
struct store_strs execs_of(struct execs *e, const char *container, struct arena *a);

#endif
