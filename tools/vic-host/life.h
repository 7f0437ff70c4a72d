/* The life of a host: everything opened in order, and closed in the other one. */
#ifndef VIC_HOST_LIFE_H
#define VIC_HOST_LIFE_H

#include "base/opt.h"
#include "base/tls.h"

#include "host.h"

struct vh_life {
    struct vh h;
    struct http_server *server;
    struct tls_ctx *tls;
    struct arena a;
    char thumbprint[96];
    const char *listen; /* as asked */
    char address[128];  /* where it listens */
};

struct vh_config {
    const char *state_dir, *listen, *bridge, *netns, *qemu_user;
    struct opt_strs datastores; /* NAME=DIR */
    bool strict, kvm;
    struct vic_log *log;
};

/* Opens everything, starts the loop and takes up the VMs that run.  On failure close what was
 * opened with vh_close. */
VIC_CHECK bool vh_open(struct vh_life *l, const struct vh_config *c, struct vic_err *err);
/* Listens, and serves until vh_close. */
VIC_CHECK bool vh_serve(struct vh_life *l, struct vic_err *err);
/* Leaves the VMs running. */
void vh_close(struct vh_life *l);
/* Powers every VM off (hard). */
VIC_CHECK bool vh_stop_vms(struct vh_life *l, struct vic_err *err);

#endif
