/* The guest's networks: one namespace for the control NIC, the kernel's first one for the workload.
 *
 * The agent lives in the control namespace once it is made; what it starts for the workload goes
 * back with setns(first_fd).  rtnetlink by hand (rtnetlink(7)): set a link up, move it, add an
 * address. */
#ifndef VIC_TETHER_AGENT_NET_H
#define VIC_TETHER_AGENT_NET_H

#include "base/err.h"

struct net {
    int first_fd, control_fd; /* namespaces */
    unsigned ifindex;         /* of the control NIC, in its namespace */
    char name[16];
};

/* Moves the Ethernet NIC with this MAC ("" = the only one, or the first) into a namespace of its
 * own, gives it fe80::EUI64/64 without duplicate address detection and router solicitation, brings
 * up loopback in the first namespace, and stays in the control namespace. */
VIC_CHECK bool net_init(struct net *n, const char *mac, struct vic_err *err);

/* "52:54:00:12:34:56" -> fe80::5054:ff:fe12:3456 (RFC 4291 appendix A). */
bool net_eui64(const char *mac, unsigned char out[16]);

#endif
