/* What the handlers of several resources share. */
#ifndef VIC_API_DOCKER_DOCKER_H
#define VIC_API_DOCKER_DOCKER_H

#include "api_priv.h"

/* --- warnings of a create or update ---------------------------------------------------------- */
struct warnings {
    struct arena *a;
    struct store_strs list;
};
void warn_add(struct warnings *w, const char *fmt, ...) VIC_PRINTF(2, 3);
void strs_to_json(struct json_writer *w, const char *key,
                  const struct store_strs *s); /* never null */
void strs_push(struct arena *a, struct store_strs *s, const char *v);
bool strs_have(const struct store_strs *s, const char *v);

/* --- config.c: Docker's Config, of containers and images ----------------------------------------
 */
/* Reads Docker's form into '*out' (initialised; what is absent or null keeps its value). */
bool config_from_json(struct json_val v, struct arena *a, struct store_config *out,
                      struct vic_err *err);
void config_to_json(const struct store_config *k, struct json_writer *w, const char *key);
/* Lays the user's config over the image's, as docker create does. */
void config_merge(struct store_config *user, const struct store_config *image, struct arena *a);
/* Docker's checks of a merged config. */
bool config_check(const struct store_config *k, struct vic_err *err);
/* "80", "80/tcp", "80-90/udp": protocol defaults to tcp. */
bool port_parse(struct sv text, unsigned *first, unsigned *last, const char **proto);

/* --- host_config.c
 * ---------------------------------------------------------------------------------- */
/* Reads HostConfig, refuses what a VM cannot be, warns of what has no meaning, fills in defaults.
 */
bool host_config_from_json(struct json_val v, struct arena *a, struct store_host_config *out,
                           struct warnings *warn, struct vic_err *err);
void host_config_to_json(const struct store_host_config *h, struct json_writer *w, const char *key);
bool restart_policy_check(const struct store_restart_policy *p, bool auto_remove,
                          struct vic_err *err);

/* --- create.c
 * ----------------------------------------------------------------------------------------- */
/* The body of a create, before an image is known. */
bool create_body(struct json_val v, struct arena *a, struct store_container *out,
                 struct warnings *warn, struct vic_err *err);
bool name_taken(const char *name, const char *holder, struct vic_err *err); /* Docker's 409 */
/* A name nobody has: adjective_surname. */
bool name_generate(struct store_txn *t, struct arena *a, const char *id, const char **out,
                   struct vic_err *err);

/* --- container.c: what the API says of a container's state
 * -------------------------------------------- */
const char *container_state(const struct store_container *c); /* "running" */
bool container_is_running(const struct store_container *c);
/* A run was asked for or is being prepared, and its process does not run yet. */
bool container_is_starting(const struct store_container *c);
/* Why a run of 'k' could not start, in Docker's words; empty when it started. */
const char *container_start_error(const struct store_container *k, struct arena *a);
/* Did Docker itself, not its runtime, find this fault of a launch?  Then its text stands alone. */
bool launch_fault_is_plain(const char *error);
/* "Up 5 minutes", "Exited (0) 2 hours ago". */
void container_status(const struct store_container *c, int64_t now_ns, struct buf *out);
void duration_text(int64_t ns, struct buf *out);
/* "sleep 5": path and args in one line; args with blanks are quoted. */
void container_command(const struct store_container *c, struct buf *out);

/* --- intent.c: one durable change of a container's intent
 * -------------------------------------------- */
struct intent {
    const char *id;
    /* Sees the live record 'k' inside the transaction and changes it: STORE_PUT, STORE_KEEP, or
     * STORE_REFUSE with err set.  May name an event to write with it. */
    enum store_verdict (*decide)(struct intent *n, struct store_txn *t, struct arena *a,
                                 struct vic_err *err);
    void *arg;
    int64_t now_ns;
    struct store_container k; /* its texts are valid inside decide only */
    const char *action, *key, *value;
    enum store_verdict verdict;
};
/* VIC_NOT_FOUND when the container is gone. */
bool intent_write(struct call *c, struct intent *n);

/* --- stop.c
 * ------------------------------------------------------------------------------------------- */
struct stop_order {
    const char *id;
    int signum;         /* 0: the container's */
    int64_t timeout_ms; /* -1: for ever; STOP_DEFAULT: the container's; then what was asked for */
    bool acted;         /* out: there was something to stop */
    uint64_t seq;       /* out: the run that ends */
};
enum { STOP_DEFAULT = -2, STOP_SLACK_MS = 120000 };
bool stop_query(struct call *c, struct stop_order *o); /* reads t and signal */
bool stop_begin(struct call *c, struct stop_order *o);
/* Has the run ended, or its container gone? */
bool stop_done(struct call *c, const struct stop_order *o, bool *done);

/* --- remove.c
 * ------------------------------------------------------------------------------------------- */
/* Removes in one commit: the record becomes a tombstone, its name is free.  A container with a run
 * is refused (VIC_CONFLICT); with 'force', '*must_kill' is set instead and nothing done. */
bool container_bury(struct call *c, const char *id, bool force, bool *must_kill);

/* --- time
 * ---------------------------------------------------------------------------------------------- */
/* "1700000000[.123]", RFC 3339, or a duration ("10m") before now. */
bool time_parse(const char *text, int64_t now_ns, int64_t *ns);
bool duration_parse(struct sv text, int64_t *ns); /* "1h30m", "300ms" */

#endif
