/* vic-host's object model: what every file of its upper half shares.
 *
 * The host is a set of managed objects (struct vh_obj) found by their id: the fixed inventory of an
 * ESXi (root folder, datacenter, four folders, one compute resource, one host, the root pool,
 * datastores, networks), virtual machines, tasks, and what a session makes for itself (collectors,
 * filters, views).  Objects hold facts; what vSphere shows of them is computed at each read by
 * getters, which stand in tables (struct vh_prop) beside the code that knows the facts.
 *
 * One lock (vh.lock) guards the whole model.  It is held for a read or a change in memory and for
 * the writing of an answer, never over disk or QEMU work.  Long work is a task (tasks.h): a job in
 * a pool thread that holds no lock, commits its outcome to the state file in one transaction and
 * then publishes it under the lock.  Lock order: vh.lock before anything of state.h or vmm.h; those
 * two call back without locks of their own held.
 *
 * Change: whoever alters an object calls vh_touch.  It stamps the object with the next number of
 * vh.rev and wakes, bundled over 20 ms, the parked readers of updates (pc.h).
 *
 * Facts: vim25 6.7; names, ids and orders of an ESXi from its documentation; see docs/vic-host.md.
 */
#ifndef VIC_HOST_HOST_H
#define VIC_HOST_HOST_H

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

/* uthash's own default falls through cases, which clang warns of. */
#define HASH_FUNCTION HASH_FNV
#include <uthash.h>

#include "base/clock.h"
#include "base/http.h"
#include "base/log.h"
#include "base/sync.h"
#include "vsphere/vim.h"

#include "state.h"
#include "vmm.h"

struct vh;
struct vh_session;
struct vh_task;
struct vh_read;

/* A managed object.  Guarded by vh.lock but for what never changes after its birth (type, id). */
struct vh_obj {
    const struct vim_managed *type;
    char *id;
    char *name;                                   /* as given; shown with %2f and the like */
    struct vh_obj *parent;                        /* ManagedEntity.parent, or NULL */
    struct vh_session *owner;                     /* it dies with this session; NULL = for all */
    struct vh_task *busy;                         /* its running task, or NULL */
    uint64_t rev;                                 /* vh.rev of its last change */
    void (*free)(struct vh *h, struct vh_obj *o); /* its own parts; NULL = none */
    UT_hash_handle hh;                            /* by id, in vh.objects */
};

struct vh_options {
    const char *state_dir;
    const char *bridge; /* name of the port group for containers */
    const char *netns;
    const char *qemu_user;
    bool strict; /* behave as vSphere does where that hurts; see docs/vic-host.md */
    bool kvm;
    const struct vic_clock *clock;
    struct vic_log *log;
    struct loop *loop;
    struct vic_pool *pool;  /* requests */
    struct vic_pool *tasks; /* jobs */
};

struct vh_kinds; /* the fixed inventory, by role */

struct vh {
    struct vh_options opt; /* immutable after init, as all down to 'lock' */
    struct state *state;
    struct vmm *vmm;
    char *user, *password;
    struct vic_mutex later_lock; /* of opt.tasks, which goes before vmm does */
    struct loop_timer *flush;    /* loop thread */
    struct loop_timer *sweep;    /* loop thread */
    struct loop_timer *late;     /* loop thread */
    char uuid[37];
    int64_t boot_ns;

    struct vic_mutex lock;
    struct vh_obj *objects;      /* hash by id; iteration is in order of birth */
    struct vh_session *sessions; /* hash by key */
    uint64_t rev;
    uint64_t next_id;  /* of VMs, pools, tasks */
    uint64_t id_limit; /* ids up to here are reserved in the state file */
    bool flush_pending;
    bool late_pending; /* guestinfo that is not shown yet */
    int64_t flushed_ms;
    LIST_HEAD(, vh_parked) parked;
    struct vh_disk *disks; /* hash by key (disks.h) */
    LIST_HEAD(, vh_hold) holds;
    LIST_HEAD(, vh_name) names; /* of VMs that are being made */
    struct vh_obj *root, *datacenter, *vm_folder, *host_folder, *ds_folder, *net_folder;
    struct vh_obj *compute, *host, *root_pool;
};

/* --- objects: objects.c ----------------------------------------------------------------------- */

/* Puts 'o' (zeroed, on the heap, the owner of copies of id and name) into the model. */
void vh_add(struct vh *h, struct vh_obj *o, const struct vim_managed *type, const char *id,
            const char *name, struct vh_obj *parent);
void vh_drop(struct vh *h, struct vh_obj *o); /* takes it out and frees it */
void vh_touch(struct vh *h, struct vh_obj *o);
struct vh_obj *vh_find_id(struct vh *h, const char *id);
/* The object of a reference as the session sees it; its type may be named by a base.  NULL = none.
 */
struct vh_obj *vh_find(struct vh *h, const struct vh_session *s, struct vim_ref ref);
struct vim_ref vh_ref(const struct vh_obj *o);
bool vh_is(const struct vh_obj *o, const struct vim_managed *type);
/* Next id for VMs, pools and tasks. */
uint64_t vh_next(struct vh *h);
/* Runs fn(arg) in a task thread; false (it will not run) when the host is ending. */
bool vh_later(struct vh *h, void (*fn)(void *arg), void *arg);

/* --- faults: faults.c ------------------------------------------------------------------------- */

/* Room for one fault; everything lives in 'a'. */
struct vh_fault {
    struct arena *a;
    struct vim_object *detail; /* a MethodFault; NULL = none yet */
    const char *text;
};
/* Makes a fault of type T; 'fmt' NULL takes the type's own words.  Returns the detail to fill in.
 */
void *vh_fault_new(struct vh_fault *f, const struct vim_type *t, const char *fmt, ...)
    VIC_PRINTF(3, 4);
#define VH_FAULT(f, T, ...) ((struct vim_##T *)vh_fault_new((f), &vim_type_##T, __VA_ARGS__))
/* The usual ones; all return false. */
bool vh_fault_argument(struct vh_fault *f, const char *property);
bool vh_fault_not_found(struct vh_fault *f, struct vim_ref ref); /* ManagedObjectNotFound */
bool vh_fault_file(struct vh_fault *f, const struct vim_type *t, const char *file);
bool vh_fault_err(struct vh_fault *f, const char *file, const struct vic_err *err);
bool vh_fault_unsupported(struct vh_fault *f);
/* As it travels in task errors and missing sets. */
struct vim_LocalizedMethodFault *vh_fault_localized(const struct vh_fault *f, struct arena *a);

/* --- properties: props.c ---------------------------------------------------------------------- */

/* One read: who reads, and where values that must be made go. */
struct vh_read {
    struct vh *h;
    struct vh_session *s; /* NULL: not logged in */
    struct arena *a;
};
/* Leaves 'out' as it is (VIM_NONE) when the property is unset.  Under vh.lock; what 'out' borrows
 * from the object is good until the lock is given back. */
typedef void (*vh_getter)(struct vh_read *r, struct vh_obj *o, struct vim_any *out);
struct vh_prop {
    const struct vim_managed *type;
    const char *name;
    vh_getter get;
};
extern const struct vh_prop vh_props_service[], vh_props_inventory[], vh_props_host[],
    vh_props_vm[], vh_props_session[], vh_props_task[], vh_props_view[], vh_props_pc[],
    vh_props_pool[];
/* Value of a property path.  False: no such property (InvalidProperty). */
bool vh_value(struct vh_read *r, struct vh_obj *o, struct sv path, struct vim_any *out);
/* Calls 'each' for the name of every property of the type. */
void vh_each_property(const struct vim_managed *type, void (*each)(void *arg, const char *name),
                      void *arg);
/* Helpers of getters. */
typedef VIM_ARRAY_OF(struct vim_ref) vh_refs;
void vh_recent_tasks(struct vh_read *r, const struct vh_obj *entity, vh_refs *out); /* tasks.c */
/* Copies in 'a'. */
void *vh_clone_object(struct arena *a, const void *object);
struct vim_any vh_clone_any(struct arena *a, const struct vim_any *any);
void vh_push_ref(struct arena *a, vh_refs *refs, const struct vh_obj *o);
struct vim_any vh_any_refs(const vh_refs *refs);
struct vim_any vh_any_time(int64_t ns);
struct vim_any vh_any_strings(struct arena *a, const char *const *list, size_t n);

/* --- methods: dispatch.c ---------------------------------------------------------------------- */

/* One request while it is answered. */
struct vh_call {
    struct vh *h;
    struct http_req *http;
    struct vh_session *s; /* NULL: not logged in.  Good while vh.lock is held */
    const char *session;  /* its key, or NULL */
    const char *user;     /* of the session, or "" */
    struct arena *a;      /* the request's */
    const struct vim_method *m;
    struct vh_obj *o; /* the receiver */
    void *req, *res;  /* the method's structs */
    struct vh_fault fault;
    /* Set by a handler whose answer comes later: it is parked with these (see http_park). */
    http_poll poll;
    void (*drop)(void *arg);
    void *park_arg;
    int64_t deadline_ms;
};
/* False: c->fault says why.  Under vh.lock unless the row says VH_UNLOCKED: such a method does I/O,
 * takes the lock itself and looks its objects up again. */
typedef bool (*vh_method_fn)(struct vh_call *c);
enum { VH_OPEN = 1 /* without a session */, VH_UNLOCKED = 2 };
struct vh_method {
    const struct vim_method *method;
    vh_method_fn fn;
    unsigned flags;
};
extern const struct vh_method vh_methods_session[], vh_methods_pc[], vh_methods_view[],
    vh_methods_task[], vh_methods_service[], vh_methods_inventory[], vh_methods_vm[],
    vh_methods_file[], vh_methods_disk[];
/* Answers POST /sdk. */
void vh_soap(struct vh *h, struct http_req *http);
/* Renders answer or fault of a call whose handler has run (under vh.lock, as values are borrowed).
 */
void vh_render(struct vh_call *c, bool good, struct buf *out);
/* Sends it (without the lock). */
void vh_send(struct vh_call *c, bool good, const struct buf *answer);

/* --- sessions: session.c ---------------------------------------------------------------------- */

struct vh_collector;
struct vh_session {
    char key[37];
    char *user, *peer, *agent;
    int64_t login_ns, active_ns, active_mono_ms;
    uint64_t calls;
    unsigned waiting;        /* parked requests keep it alive */
    struct vh_collector *pc; /* what it keeps on ha-property-collector */
    UT_hash_handle hh;
};
/* The session of a request's cookie, noted as active; NULL = none. */
struct vh_session *vh_session_of(struct vh *h, struct http_req *http, const char *soap_cookie);
struct vh_session *vh_session_find(struct vh *h, const char *key);
void vh_session_end(struct vh *h, struct vh_session *s);
/* Ends those that were idle for 30 minutes. */
void vh_session_expire(struct vh *h);
void vh_session_free_all(struct vh *h);
/* Reads root's password from its file, which is made (0600) with a random one when absent. */
VIC_CHECK bool vh_password_load(struct vh *h, const char *path, struct vic_err *err);

/* --- requests that wait: parked by PropertyCollector.WaitForUpdatesEx ------------------------- */

struct vh_parked {
    LIST_ENTRY(vh_parked) link;
    struct http_waker *waker;
};

#endif
