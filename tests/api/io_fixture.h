/* The fixture of the tests of what streams: a host with a hub, a guest that the test plays, and a
 * container whose output the test writes. */
#ifndef VIC_TESTS_API_IO_FIXTURE_H
#define VIC_TESTS_API_IO_FIXTURE_H

#include "fixture.h"
#include "guest.h"

#define IO_VM "v" /* the vm of host_began */

struct io {
    struct fixture f; /* first: what takes a fixture takes this */
    struct loop *hub_loop;
    struct hub *hub;
    char address[64]; /* of the hub, for guests */
    struct tg guest;
    bool has_guest;
    uint64_t log_seq;
};
int io_setup(void **state);
int io_setup_small(void **state); /* with a spool of 64 KiB */
int io_teardown(void **state);

/* The guest IO_VM connects. */
void io_guest(struct io *x);
/* A container with these members; the run that control makes of it; both. */
const char *io_make(struct io *x, const char *members);
void io_start(struct io *x, const char *id);
const char *io_run(struct io *x, const char *members);
void io_ended(struct io *x, const char *id, int code);
/* Output of the container; readable on return. */
void io_say(struct io *x, const char *id, unsigned stream, struct sv text);
void io_say_at(struct io *x, const char *id, unsigned stream, struct sv text, int64_t time_ns);
/* The last two do not wait until it is readable. */
void io_say_soon(struct io *x, const char *id, unsigned stream, struct sv text);

/* Sends a request (a POST asks for an upgrade) and reads the head of its answer, which must have
 * this status. */
void io_open(struct io *x, struct client *c, const char *method, const char *target,
             const char *body, int status);
/* Only sends it: for what answers once the guest has done its part. */
void io_send(struct io *x, struct client *c, const char *method, const char *target,
             const char *body);
/* Raw bytes of a hijacked connection: exactly these come next; it ends; nothing comes. */
void io_gets(struct client *c, struct sv bytes);
void io_gets_frame(struct client *c, unsigned type, const char *text);
void io_ends(struct client *c);
void io_quiet(struct client *c);
void io_types(struct client *c, const char *text);

/* The guest's side of a stream. */
uint32_t io_open_of(struct io *x, struct json_val *open); /* takes an OPEN; answers OPEN_OK */
void io_data(struct io *x, uint32_t stream, unsigned channel, struct sv bytes);
/* The next bytes on channel 0 are these (they may come in pieces). */
void io_expect(struct io *x, uint32_t stream, const char *text);
void io_frame(struct io *x, enum wire_type type, uint32_t stream, struct wire_frame *f);
void io_exit(struct io *x, uint32_t stream, const char *json);

/* Actions of the container's events so far, one a line, "exec_die:3" with its exit code. */
const char *io_events(struct io *x, const char *id);

#endif
