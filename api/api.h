/* The Docker API: HTTP routes over the store, the logs and the hub.
 *
 * It writes intents and reads status; it never calls vSphere or control.  A handler answers at
 * once, parks until a watch condition, or streams from a cursor (base/http.h).  What it needs to
 * know of the rest of the engine comes through 'health'.
 *
 * Versions: 1.24 to API_VERSION; routes in api/routes.def, Docker's own texts for errors.  Facts:
 * Docker Engine API description 1.44.
 * Threads: api_new, api_listen before loop_start; api_free from any thread but the loop's, while
 * the loop runs or before it was started. */
#ifndef VIC_API_API_H
#define VIC_API_API_H

#include "base/clock.h"
#include "base/http.h"
#include "base/log.h"
#include "store/logs.h"
#include "store/spool.h"
#include "store/store.h"
#include "tether/hub.h"

#define API_VERSION     "1.44"
#define API_MIN_VERSION "1.24"

struct api;

struct api_health {
    bool vsphere_connected;
    uint64_t steps, failures, queued, running; /* of control's queue */
};

struct api_options {
    struct loop *loop;
    struct store *store;
    struct logs *logs;
    struct spool *spool;
    const char *inflate; /* path of vic-inflate; NULL = beside the running program */
    struct hub *hub;
    const struct vic_clock *clock;
    struct vic_log *log;
    unsigned handlers;                                 /* threads of the handler pool; 0 = 16 */
    const char *host_name;                             /* docker info's Name */
    void (*health)(void *arg, struct api_health *out); /* must not block */
    void *health_arg;
};

struct api *api_new(const struct api_options *o, struct vic_err *err);
/* Addresses as base/net.h; '*port' may be NULL. */
VIC_CHECK bool api_listen(struct api *a, const char *address, struct tls_ctx *tls, int *port,
                          struct vic_err *err);
void api_free(struct api *a);

#endif
