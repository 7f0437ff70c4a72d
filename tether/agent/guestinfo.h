/* The guestinfo port: how the hypervisor hands the envelope (tether/wire.h) to the guest.
 *
 * One text protocol, "info-get KEY" -> "1 VALUE", over two transports:
 *   a virtio-serial port named "vic.guestinfo": one line each way;
 *   VMware's backdoor: the RPCI message protocol on I/O port 0x5658 (facts: open-vm-tools'
 *   documentation of the backdoor, low-bandwidth message commands).
 * The virtio port stays open for good: a port has one user, so the workload cannot open it. */
#ifndef VIC_TETHER_AGENT_GUESTINFO_H
#define VIC_TETHER_AGENT_GUESTINFO_H

#include "base/buf.h"
#include "base/err.h"

enum { GUESTINFO_MAX_REPLY = 8192 };

struct guestinfo {
    /* Sends one request and appends the whole answer ("1 VALUE"). */
    bool (*call)(struct guestinfo *g, struct sv request, struct buf *answer, struct vic_err *err);
    int fd; /* virtio-serial; else -1 */
};

/* The virtio port when there is one, else the backdoor; UNAVAILABLE when there is neither. */
VIC_CHECK bool guestinfo_open(struct guestinfo *g, struct vic_err *err);
void guestinfo_close(struct guestinfo *g);

/* The transports, apart for tests. */
void guestinfo_use_fd(struct guestinfo *g, int fd); /* takes 'fd' */
VIC_CHECK bool guestinfo_use_backdoor(struct guestinfo *g, struct vic_err *err);

/* Value of "guestinfo.vic.<name>".  '*found' false (and true returned) when it is not set. */
VIC_CHECK bool guestinfo_get(struct guestinfo *g, const char *name, struct buf *value, bool *found,
                             struct vic_err *err);

/* What was written when the VM was made. */
struct envelope {
    char vm[65], vch[65];
    unsigned char key[32];
    char endpoint[64]; /* "[fe80::...]:2377" */
    char mac[18];      /* of the control NIC, or "" */
};
VIC_CHECK bool guestinfo_envelope(struct guestinfo *g, struct envelope *out, struct vic_err *err);

#endif
