/* A QMP client: QEMU's control socket, one JSON value a line.
 *
 * A connection starts detached: the calling thread itself reads the socket while it waits for a
 * reply, so the handshake and a VM's first commands need no running loop.  qmp_attach hands reading
 * to the loop: from then on events come there as they happen and a caller waits for its reply on a
 * condition.  Either way a call has a deadline.
 *
 * QEMU may be in the hands of its guest: lines are bounded, and a line that is not QMP ends the
 * connection.  Facts: QEMU 7.2 docs/interop/qmp-spec.txt, qapi/ (add-fd, blockdev-add, device_del).
 * Threads: one qmp_call or qmp_await at a time (vmm serialises a VM's operations). */
#ifndef VIC_HOST_QMP_H
#define VIC_HOST_QMP_H

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/loop.h"

enum { QMP_MAX_LINE = 1024 * 1024, QMP_MAX_TOKENS = 65536 };

enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

struct qmp_message {
    enum qmp_kind kind;
    uint64_t id;          /* of a return or error; 0 = none */
    const char *name;     /* an event's name, an error's class */
    const char *text;     /* an error's description */
    struct json_val body; /* what was returned; an event's data */
};

/* Parses one line.  The result borrows from 'line' and 'a'.  Errors: VIC_PROTOCOL. */
VIC_CHECK bool qmp_parse(struct sv line, struct arena *a, struct qmp_message *out,
                         struct vic_err *err);

struct qmp;

/* On the loop's thread once attached, before that inside a call.  Must not block. */
typedef void (*qmp_event)(void *arg, const char *name, struct json_val data);

/* Takes over the connected socket 'fd' (also when it fails) and shakes hands. */
struct qmp *qmp_open(int fd, qmp_event on_event, void *arg, int64_t timeout_ms,
                     struct vic_err *err);
/* Any thread, once detached and with no call under way. */
void qmp_free(struct qmp *q);

/* Loop thread only. */
VIC_CHECK bool qmp_attach(struct qmp *q, struct loop *l, struct vic_err *err);
/* Loop thread only: delivers what a QEMU that has ended left in the socket. */
void qmp_drain(struct qmp *q);
/* Loop thread only: ends the connection; a call that waits fails with VIC_UNAVAILABLE. */
void qmp_detach(struct qmp *q);

/* Runs 'command' with 'arguments' (JSON text; p NULL = none); 'fd' >= 0 goes along as SCM_RIGHTS.
 * '*out' (may be NULL) is what was returned; it lives in 'a'.
 * Errors: VIC_NOT_FOUND for the class DeviceNotFound, VIC_IO for QEMU's others with its text,
 * VIC_TIMEOUT, VIC_UNAVAILABLE when the connection is gone, VIC_PROTOCOL. */
VIC_CHECK bool qmp_call(struct qmp *q, const char *command, struct sv arguments, int fd,
                        int64_t timeout_ms, struct arena *a, struct json_val *out,
                        struct vic_err *err);

/* Expecting an event: qmp_expect before the command that causes it, qmp_await after.  'device' is
 * compared with data.device. */
void qmp_expect(struct qmp *q, const char *event, const char *device);
VIC_CHECK bool qmp_await(struct qmp *q, int64_t timeout_ms, struct vic_err *err);

/* Waits until QEMU has closed the connection, as it does when it ends. */
VIC_CHECK bool qmp_await_close(struct qmp *q, int64_t timeout_ms, struct vic_err *err);

#endif
