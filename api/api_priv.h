/* The API's own parts.
 *
 *   api.c       the server: options, threads, dispatch, error answers
 *   route.c     version prefix, the table of routes (routes.def), matching
 *   call.c      what handlers share: queries, JSON bodies, answers
 *   filter.c    Docker's 'filters' parameter
 *   ref.c       image references
 *   resolve.c   names and ids to records
 *   park.c      who waits for which record, and their waking
 *   event.c     entries of the event log
 *   docker/     the handlers, one file per resource
 *
 * A handler runs in a pool thread and gets a 'struct call', which lives in the request's arena: as
 * long as the request, so also while it is parked or streams.  It returns true when it has
 * answered, parked or begun a stream, and false with call->err set; then the error is answered as
 * Docker words errors.  A store transaction never spans a wait. */
#ifndef VIC_API_API_PRIV_H
#define VIC_API_API_PRIV_H

#include <stdatomic.h>

#include "base/json.h"
#include "base/mem.h"

#include "api.h"

enum { API_V = 1044, API_MIN_V = 1024 }; /* 1000 * major + minor */

struct park;
struct execs;
struct route;

struct api { /* immutable after api_new, but for pruning */
    struct api_options o;
    struct vic_pool *pool;
    struct http_server *http;
    struct park *park;
    struct execs *execs;
    atomic_bool pruning; /* a prune is under way */
};

struct call {
    struct api *api;
    struct http_req *req;
    struct arena *a;
    unsigned version;     /* 1044 = 1.44 */
    const char *param[2]; /* the {pieces} of the route's pattern, decoded */
    const struct route *route;
    int status; /* of the error answer; 0 = by err.code */
    struct store_change_note note;
    struct vic_err err;
};

static inline int64_t call_now(const struct call *c)
{
    return clock_wall_ns(c->api->o.clock);
}

/* --- route.c --------------------------------------------------------------------------------- */
struct route {
    const char *method, *pattern;
    bool (*handler)(struct call *c);
    unsigned since; /* as call.version */
    bool writes;
    const char *help;
};
extern const struct route api_routes[];
extern const size_t api_route_count;

/* Cuts "/vX.Y" off '*path' into '*version' (without: API_V).  VIC_INVALID outside of the range. */
bool route_version(struct sv *path, unsigned *version, struct vic_err *err);
/* The route of method and path; its pieces into 'param'.  NULL with VIC_NOT_FOUND, or with
 * VIC_UNSUPPORTED when only the method is wrong. */
const struct route *route_find(struct sv method, struct sv path, unsigned version, struct arena *a,
                               const char *param[2], struct vic_err *err);

/* --- call.c ---------------------------------------------------------------------------------- */
/* Docker's status of an error; its body {"message": ...}. */
int call_status(enum vic_code code);
void call_error_body(const char *message, struct buf *out);
void call_fail(struct call *c); /* answers c->err */

/* Answers.  'json' gets a newline behind it, as Go's encoder does. */
bool call_json(struct call *c, int status, struct buf *json);
bool call_empty(struct call *c, int status);

const char *call_query(struct call *c, const char *key); /* "" when absent */
bool call_flag(struct call *c, const char *key, bool otherwise);
/* A number in the query; VIC_INVALID when it is none.  Absent or empty: 'otherwise'. */
bool call_number(struct call *c, const char *key, int64_t otherwise, int64_t *out);
/* The body as one JSON value.  An empty body gives an absent value ('*out' has no doc). */
bool call_body(struct call *c, struct json_val *out);

/* --- filter.c -------------------------------------------------------------------------------- */
struct filters {
    struct {
        const char *key;
        struct store_strs values;
    } * v;
    size_t n;
};
/* Reads the query's 'filters' (both forms of Docker); 'allowed' ends with NULL. */
bool filters_read(struct call *c, const char *const *allowed, struct filters *out);
bool filters_parse(struct sv text, const char *const *allowed, struct arena *a, struct filters *out,
                   struct vic_err *err);
/* The values of a key; n == 0 when the filter is not given. */
struct store_strs filter_values(const struct filters *f, const char *key);
bool filter_has(const struct filters *f, const char *key, const char *value);
/* label: all must match; label!: none may. */
bool filter_labels(const struct filters *f, const struct store_map *labels);

/* --- ref.c ----------------------------------------------------------------------------------- */
/* A reference to an image: docker.io/library/busybox:1.36@sha256:... */
struct image_ref {
    const char *domain, *path; /* "docker.io", "library/busybox" */
    const char *tag, *digest;  /* "" when absent */
};
/* Normalises as Docker does; VIC_INVALID with Docker's text. */
bool ref_parse(struct sv text, struct arena *a, struct image_ref *out, struct vic_err *err);
/* "docker.io/library/busybox:latest": a tag record's id.  A missing tag counts as latest. */
const char *ref_full(const struct image_ref *r, struct arena *a);
const char *ref_repo(const struct image_ref *r, struct arena *a); /* docker.io/library/busybox */
/* What Docker shows: "busybox", and with the tag (or digest) behind it. */
const char *ref_familiar_repo(const struct image_ref *r, struct arena *a);
const char *ref_familiar(const struct image_ref *r, struct arena *a);

/* --- resolve.c ------------------------------------------------------------------------------- */
/* A container by id, name or unique prefix; tombstones are not found.  Borrows as store_get. */
bool find_container(struct call *c, struct store_txn *t, const char *name,
                    struct store_container *out);
/* The same in a transaction of its own, copied into the call's arena. */
bool get_container(struct call *c, const char *name, struct store_container *out);
/* An image by reference, id or unique prefix.  'what' as the user wrote it. */
bool find_image(struct call *c, struct store_txn *t, const char *what, struct store_image *out);
bool get_image(struct call *c, const char *what, struct store_image *out);
/* Is the name "^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$"? */
bool container_name_ok(const char *name);

/* --- park.c ---------------------------------------------------------------------------------- */
struct park *park_new(struct store *s, struct vic_log *log);
void park_free(struct park *p);

/* Wakes the request whenever the record (or, with id NULL, any record) changes or has an event.
 * Take it before the state that is waited for is read, inside the handler and before answering. */
struct park_watch;
struct park_watch *park_watch(struct call *c, enum store_kind kind, const char *id);
void park_unwatch(struct park_watch *w); /* NULL is fine */

/* Waits for a record: 'poll' runs at once and after each change of (kind, id), until it says
 * POLL_DONE (it has answered) or POLL_FAIL (call->err is answered), or deadline_ms (< 0 = none)
 * are over: then it is told so and must end.  Returns true always. */
enum poll_verdict { POLL_WAIT, POLL_DONE, POLL_FAIL };
typedef enum poll_verdict (*call_poll)(struct call *c, void *arg, bool timed_out);
bool call_wait(struct call *c, enum store_kind kind, const char *id, int64_t deadline_ms,
               call_poll poll, void *arg);

/* --- event.c --------------------------------------------------------------------------------- */
/* Writes an event of a container inside apply: name, image, labels, then extra pairs up to NULL. */
bool event_container(struct store_txn *t, struct arena *a, const struct store_container *c,
                     struct vic_err *err, const char *action, ...) __attribute__((sentinel));
/* The same for an image; 'name' is its familiar reference or id. */
bool event_image(struct store_txn *t, struct arena *a, const struct store_image *i,
                 const char *name, const char *action, struct vic_err *err);

/* --- docker/exec.c --------------------------------------------------------------------------- */
struct execs *execs_new(struct api *api);
void execs_stop(struct execs *e); /* frees their streams: no wake of the hub comes any more */
void execs_free(struct execs *e);

/* --- docker/load_store.c --------------------------------------------------------------------- */
/* Removes what a load that died left in the spool. */
void load_tidy_spool(const struct api_options *o);

/* --- the handlers, from routes.def -------------------------------------------------------------
 */
#define R(method, pattern, handler, since, access, help) bool handler(struct call *c);
#include "routes.def"
#undef R

#endif
