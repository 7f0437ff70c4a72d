/* The agent: what PID 1 holds.  One on main's stack; the parts get what they need of it. */
#ifndef VIC_TETHER_AGENT_AGENT_H
#define VIC_TETHER_AGENT_AGENT_H

#include "children.h"
#include "guestinfo.h"
#include "link.h"
#include "net.h"
#include "stream.h"
#include "watch.h"

struct run;

enum agent_role { ROLE_NONE, ROLE_RUN, ROLE_WORKER };

struct agent {
    struct poll_loop loop;
    struct children children;
    struct guestinfo guestinfo;
    struct envelope envelope;
    struct net net;
    struct link link;
    struct streams streams;
    char boot[40];
    enum agent_role role;
    struct run *run; /* role run */
    bool powering_off;
};

/* Ends the machine once what waits for the hub has been sent (bounded). */
void agent_power_off(struct agent *a);

#endif
