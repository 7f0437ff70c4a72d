/* The client's inside: transport (libcurl), session, calls, property reads.  Private to the room.
 */
#ifndef VIC_VSPHERE_CLIENT_H
#define VIC_VSPHERE_CLIENT_H

#include <curl/curl.h>
#include <stdatomic.h>

#include "base/sync.h"
#include "vsphere/vim.h"
#include "vsphere/vsphere.h"

enum {
    VSP_MAX_CALLS = 16,            /* at a time; long polls have handles of their own */
    VSP_MAX_REPLY = SOAP_MAX_SIZE, /* bytes */
    VSP_CONNECT_MS = 30000,        /* TCP and TLS */
    VSP_STALL_S = 60,              /* a file transfer that moves nothing for so long is dead */
    VSP_COOKIE_SIZE = 512,
    VSP_THUMBPRINT_SIZE = 96,
};

struct vsp {
    /* immutable after vsp_new */
    char *base; /* "https://host:port" */
    char *host;
    char *user, *password, *thumbprint, *ca;
    int64_t timeout_ms;
    struct vic_log *log;
    void (*record)(void *arg, const char *method, struct sv request, struct sv reply);
    bool (*gate)(void *arg, const char *method, bool after);
    void *hook_arg;

    struct vic_mutex lock;
    struct vic_cond changed; /* a handle came back, or a login ended */
    /* guarded: lock */
    CURL *idle[VSP_MAX_CALLS];
    unsigned idle_count, busy;
    bool logging_in, refused;     /* refused: wrong password; not tried again by itself */
    uint64_t session;             /* counts logins; 0 = none yet */
    char cookie[VSP_COOKIE_SIZE]; /* "" = logged out */
    const struct vim_ServiceContent *content; /* of the first login; constant once set */
    atomic_uint_least64_t logins; /* 'session' again, for polls that must not take the lock */
    struct arena content_arena;
};

/* --- transport.c
 * ---------------------------------------------------------------------------------- */

/* One HTTP exchange. */
struct vsp_http {
    const char *method;         /* "GET", "POST", "PUT" */
    const char *path;           /* behind the base URL */
    const char *const *headers; /* "Name: value"; NULL-terminated; or NULL */
    const char *cookie;         /* or NULL */
    struct sv body;             /* POST, PUT */
    int fd;                     /* PUT: reads 'size' bytes from here instead, when size > 0 */
    uint64_t size;
    struct buf *reply;
    size_t max_reply;
    int64_t timeout_ms;      /* of all of it; 0 = only a stall ends it */
    const atomic_bool *stop; /* may be NULL: becomes true = give up (noticed within a second) */
    uint64_t session; /* not 0: also give up when this is no longer the session (VIC_PROTOCOL) */

    long status;                      /* out */
    char set_cookie[VSP_COOKIE_SIZE]; /* out: "vmware_soap_session=..." or "" */
};
VIC_CHECK bool vsp_http(struct vsp *v, CURL *h, struct vsp_http *x, struct vic_err *err);

CURL *vsp_handle_new(void);
CURL *vsp_handle_take(struct vsp *v); /* waits for one of VSP_MAX_CALLS */
void vsp_handle_give(struct vsp *v, CURL *h);

/* --- session.c
 * ------------------------------------------------------------------------------------ */

/* A call's limits and its place; all zero = a handle of the pool and the client's timeout. */
struct vsp_call_options {
    CURL *handle;
    int64_t timeout_ms;
    const atomic_bool *stop;
    bool long_poll;   /* ends with its session, whoever finds out that it is gone */
    uint64_t session; /* set by vsp_exec */
};
/* Logs in when needed, and once again on NotAuthenticated.  True when a reply came, which may be a
 * fault. */
VIC_CHECK bool vsp_exec(struct vsp *v, const struct vim_method *m, const void *request,
                        const struct vsp_call_options *o, struct arena *a, struct soap_reply *reply,
                        struct vic_err *err);
/* The same, a fault is an error. */
VIC_CHECK bool vsp_call(struct vsp *v, const struct vim_method *m, const void *request,
                        struct arena *a, void *response_out, struct vic_err *err);
/* rsp: a pointer variable of type struct vim_<M>_response * */
#define VSP_CALL(v, M, req, a, rsp, err) vsp_call((v), &vim_method_##M, (req), (a), &(rsp), (err))

VIC_CHECK bool vsp_content(struct vsp *v, const struct vim_ServiceContent **out,
                           struct vic_err *err);
/* The session's cookie for file transfers; 'not_this' as read before makes it log in anew when it
 * is still the current one (0 = any will do). */
VIC_CHECK bool vsp_session(struct vsp *v, uint64_t not_this, uint64_t *session,
                           char cookie[VSP_COOKIE_SIZE], struct vic_err *err);

/* --- faults.c
 * ------------------------------------------------------------------------------------- */

/* Sets err from a fault; returns false. */
bool vsp_fault(struct vic_err *err, const char *what, const char *type, const char *text,
               const struct vim_object *detail);
bool vsp_is_fault(const struct soap_reply *reply, const struct vim_type *t);

/* --- read.c
 * --------------------------------------------------------------------------------------- */

/* "Type:value" of the door; VIC_INVALID when malformed. */
VIC_CHECK bool vsp_ref(struct arena *a, const char *text, struct vim_ref *out, struct vic_err *err);
/* The other way; VIC_PROTOCOL when it does not fit. */
VIC_CHECK bool vsp_ref_text(struct vim_ref ref, char out[VSP_REF_SIZE], struct vic_err *err);
char *vsp_ref_dup(struct arena *a, struct vim_ref ref);

struct vim_PropertyFilterSpec *vsp_spec(struct arena *a);
/* paths: NULL-terminated */
void vsp_spec_props(struct arena *a, struct vim_PropertyFilterSpec *s, const char *type,
                    const char *const *paths);
/* 'through' NULL: the object itself; else only what the traversals lead to */
void vsp_spec_object(struct arena *a, struct vim_PropertyFilterSpec *s, struct vim_ref obj,
                     struct vim_TraversalSpec *through);
struct vim_TraversalSpec *vsp_traversal(struct arena *a, const char *type, const char *path);

struct vsp_objects {
    struct vim_ObjectContent **v;
    size_t n;
};
/* One read, with all its pages. */
VIC_CHECK bool vsp_retrieve(struct vsp *v, struct vim_PropertyFilterSpec *spec, struct arena *a,
                            struct vsp_objects *out, struct vic_err *err);
/* The properties of one object; NOT_FOUND when it is gone. */
VIC_CHECK bool vsp_read_object(struct vsp *v, struct vim_ref obj, const char *const *paths,
                               struct arena *a, struct vim_ObjectContent **out,
                               struct vic_err *err);
/* A property's value; kind VIM_NONE when it is not set. */
struct vim_any vsp_prop(const struct vim_ObjectContent *o, const char *path);

/* How a VM's properties become a struct vsp_vm: one row a path. */
struct vsp_vm_row {
    const char *path;
    void (*take)(struct arena *a, const struct vim_any *value, struct vsp_vm *vm);
};
enum { VSP_VM_ROWS = 7 };
extern const struct vsp_vm_row vsp_vm_rows[VSP_VM_ROWS];
const char *const *vsp_vm_paths(void); /* the rows' paths, NULL-terminated */
void vsp_task_of(struct arena *a, struct vim_ref ref, const struct vim_TaskInfo *info,
                 struct vsp_task *out);

/* Selects the VMs of a pool and of the pools below it, with vsp_vm_paths(). */
void vsp_spec_pool(struct arena *a, struct vim_PropertyFilterSpec *s, struct vim_ref pool);
/* Waits for a task's end; VIC_TIMEOUT. */
VIC_CHECK bool vsp_wait_info(struct vsp *v, struct vim_ref task, int64_t timeout_ms,
                             struct arena *a, const struct vim_TaskInfo **out, struct vic_err *err);

#endif
