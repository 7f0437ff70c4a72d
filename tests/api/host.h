/* An API over a real store, with neither control nor vSphere behind it: what control would write
 * (a run begins, ends) the user of this writes.  For tests, the bench and the program api_host. */
#ifndef VIC_TESTS_API_HOST_H
#define VIC_TESTS_API_HOST_H

#include "api/api.h"

struct api_host {
    char *dir, *socket; /* freed by host_stop */
    struct store *store;
    struct loop *loop;
    struct api *api;
    struct vic_log *log;
    struct logs *logs;
    struct spool *spool;
    bool vsphere_connected;
};

/* Opens (or makes) a store, logs and a spool below 'dir', which is copied, and serves on
 * unix:DIR/api.sock. */
VIC_CHECK bool host_start(struct api_host *h, const char *dir, struct vic_err *err);
/* The same, also with TLS on a port of 127.0.0.1. */
VIC_CHECK bool host_start_tls(struct api_host *h, const char *dir, struct tls_ctx *tls, int *port,
                              struct vic_err *err);
void host_stop(struct api_host *h); /* keeps the folder */

/* A VCH with its blank root, and an image of one layer called busybox:latest that runs sh. */
VIC_CHECK bool host_seed(struct api_host *h, struct vic_err *err);
extern const char host_image[]; /* its id */
/* One record, as it is. */
VIC_CHECK bool host_put(struct store *s, enum store_kind kind, const void *record,
                        struct vic_err *err);

/* What control does: the run that is asked for begins, or fails to (error), or the one that runs
 * ends.  The record is read and written in one transaction, with the events of control. */
VIC_CHECK bool host_began(struct store *s, const char *id, struct vic_err *err);
VIC_CHECK bool host_failed(struct store *s, const char *id, int code, const char *error,
                           struct vic_err *err);
VIC_CHECK bool host_ended(struct store *s, const char *id, int code, struct vic_err *err);
/* Plays control: begins and ends runs as they are asked for, 'lag_ms' after it sees them. */
struct host_player;
struct host_player *host_play(struct api_host *h, int64_t lag_ms);
void host_play_stop(struct host_player *p);

#endif
