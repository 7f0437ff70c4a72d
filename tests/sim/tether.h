/* The guests of a model: each powered-on VM's tether, a thread on the real channel (loopback, TLS
 * 1.3 PSK, the hub under test).
 *
 * It keeps what a tether keeps on the container's disk (the journal), so a VM that boots again goes
 * on with its run, and a run that has exited never runs twice.  What it does beyond that is an act:
 * how long it boots, whether and when its VM dies, how its run ends.  Acts are given per boot, in
 * the order of boots; when none is left, the usual one.
 *
 * Layers are plain bytes here: the diff id is their SHA-256; bytes that begin with "BAD" are a
 * hostile layer. */
#ifndef VIC_TESTS_SIM_TETHER_H
#define VIC_TESTS_SIM_TETHER_H

#include "model.h"

/* Where a VM powers itself off all of a sudden. */
enum sim_death {
    SIM_LIVES,
    SIM_DIES_BOOTING, /* before it connects */
    SIM_DIES_IDLE,    /* after HELLO */
    SIM_DIES_CONFIG,  /* when it gets its CONFIG, before anything is on the disk */
    SIM_DIES_ACKED,   /* after CONFIG_ACK, before the process */
    SIM_DIES_RUNNING, /* after the process was started and told */
    SIM_DIES_EXITED,  /* the end is in the journal and on the console, EXIT was never said */
    SIM_DIES_WORKING, /* amid a layer */
    SIM_REBOOTS_IDLE, /* after HELLO: off and on again */
    SIM_REBOOTS_RUNNING,
};

struct sim_act {
    enum sim_death death;
    unsigned boot_ms;
    bool mute;          /* never connects */
    bool launch_fails;  /* exit 127 */
    bool deaf;          /* does nothing at SHUTDOWN */
    bool lost_exit;     /* the end is on the console only; then off */
    bool refuses;       /* CONFIG_ACK not ok */
    bool drops;         /* its connection breaks once, while it runs */
    bool until_stopped; /* runs until SHUTDOWN or SIGNAL */
    unsigned run_ms;
    int exit;
    unsigned lines; /* of log */
};

struct sim;
struct sim *sim_new(const struct sim_act *usual);
void sim_free(struct sim *s); /* after model_free */
/* "tcp:127.0.0.1:PORT": where the hub is now; guests try until they reach it. */
void sim_address(struct sim *s, const char *address);
void sim_next(struct sim *s, const struct sim_act *act); /* of the next boot that has none yet */
void sim_usual(struct sim *s, const struct sim_act *usual);

/* For struct model_options; arg is the sim. */
struct model_guest *sim_guest_start(void *sim, struct model *m, const struct model_boot *b);
void sim_guest_stop(struct model_guest *g);

#endif
