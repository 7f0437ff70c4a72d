/* vSphere, as control needs it: sessions, places, VMs, tasks, disks, files, one update stream.
 *
 * The calls here are the verbs of our design, not of vim25: specs are small C structs, and the SOAP
 * types behind them (vim.h, generated) stay inside the room.  Every call that changes something is
 * asynchronous in vSphere: it returns the task's reference at once, and the task's end comes on the
 * update stream (vsp_watch).  A call may fail twice: at once (the error here) or in the task; both
 * carry a code from errors.def found by one table (vsphere/faults.def: fault -> code).
 *
 * References are "Type:value" texts ("VirtualMachine:vm-12"), as the store keeps them.  Paths are
 * datastore paths ("[datastore1] vch/disks/x.vmdk").
 *
 * Sessions log in again by themselves, once, when a call answers NotAuthenticated; the server's
 * thumbprint is checked in the TLS handshake, before any credential is sent.  Request bodies and
 * credentials never reach the log; every call is one debug line (method, task, milliseconds).
 * Threads: every function from any thread, except that a watch's callbacks come on its own thread.
 * All calls block (SOAP over libcurl, at most 16 at a time) and honour timeout_ms of the options.
 * Facts: vim25 6.7 (pyVmomi's metadata); the traps in docs/vsphere-traps.md. */
#ifndef VIC_VSPHERE_VSPHERE_H
#define VIC_VSPHERE_VSPHERE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

enum { VSP_REF_SIZE = 128, VSP_PATH_SIZE = 512 };

struct vsp;

struct vsp_options {
    const char *url; /* "https://host[:port]" or ".../sdk" */
    const char *user;
    const char *password;   /* copied, wiped on free */
    const char *thumbprint; /* SHA-256 or SHA-1, upper hex with colons; NULL: verify by 'ca' */
    const char *ca;         /* PEM file; NULL: the system's roots */
    int64_t timeout_ms;     /* of one call; 0 = 60 s */
    struct vic_log *log;
    /* Records every exchange (request and reply text) when not NULL; for tests. */
    void (*record)(void *arg, const char *method, struct sv request, struct sv reply);
    /* Called before and after each call; false makes the call fail as if the connection broke
     * (before: not executed; after: executed, reply lost).  For failpoints; NULL in releases. */
    bool (*gate)(void *arg, const char *method, bool after);
    void *hook_arg;
};

/* Does not connect yet. */
struct vsp *vsp_new(const struct vsp_options *o, struct vic_err *err);
void vsp_free(struct vsp *v); /* logs out */
/* Connects and logs in now (every other call does so when needed). */
VIC_CHECK bool vsp_connect(struct vsp *v, struct vic_err *err);

struct vsp_about {
    const char *name, *version, *build, *api_type, *api_version, *instance_uuid;
    bool is_vcenter;
    bool has_instant_clone;
};
VIC_CHECK bool vsp_about(struct vsp *v, struct arena *a, struct vsp_about *out,
                         struct vic_err *err);

/* Where a VCH lives.  Names, or inventory paths that begin with '/', in; NULL picks the only one
 * there is and fails with the list when there are several. */
struct vsp_place_names {
    const char *datacenter, *compute, *datastore, *network;
    const char *pool; /* below the compute's root pool; NULL = the root pool itself */
};
struct vsp_place {
    char datacenter[VSP_REF_SIZE], pool[VSP_REF_SIZE], folder[VSP_REF_SIZE];
    char datastore[VSP_REF_SIZE], network[VSP_REF_SIZE];
    char datacenter_name[128]; /* its path below the root folder, as datastore URLs want it */
    char datastore_name[128], network_name[128];
};
VIC_CHECK bool vsp_find_place(struct vsp *v, const struct vsp_place_names *names,
                              struct vsp_place *out, struct vic_err *err);

struct vsp_kv {
    const char *key, *value;
};

/* --- VMs ----------------------------------------------------------------------------------------
 */

struct vsp_vm_spec {
    const char *name;          /* unique in the folder */
    const char *instance_uuid; /* ours: a VM is found by it */
    const char *annotation;
    unsigned cpus;
    uint64_t memory_mb;
    const char *iso;     /* datastore path of the boot CD */
    const char *console; /* datastore path of the file behind the serial port; NULL = none */
    const char *mac;     /* of the control NIC on place->network; NULL = the target chooses */
    const struct vsp_kv *extra; /* extraConfig: envelope (guestinfo.*) and hidden keys (vic.*) */
    size_t extra_count;
};
/* The VM gets one PVSCSI controller (bus 0), the CD on IDE, one vmxnet3 NIC. */
VIC_CHECK bool vsp_vm_create(struct vsp *v, const struct vsp_place *p, const struct vsp_vm_spec *s,
                             char task[VSP_REF_SIZE], struct vic_err *err);
VIC_CHECK bool vsp_vm_power_on(struct vsp *v, const char *vm, char task[VSP_REF_SIZE],
                               struct vic_err *err);
VIC_CHECK bool vsp_vm_power_off(struct vsp *v, const char *vm, char task[VSP_REF_SIZE],
                                struct vic_err *err);
/* Destroy_Task: deletes every disk that is still attached (vSphere's trap): control takes the disks
 * off first and reads the device list anew. */
VIC_CHECK bool vsp_vm_destroy(struct vsp *v, const char *vm, char task[VSP_REF_SIZE],
                              struct vic_err *err);

struct vsp_disk_add {
    unsigned target;        /* SCSI target 0..15 but 7; the guest finds the disk by it */
    const char *path;       /* of the disk */
    const char *parent;     /* backing parent, or NULL */
    bool create;            /* fileOperation create (else the file exists) */
    int64_t capacity_bytes; /* of a disk without parent */
    const char *uuid;       /* set at creation where the host honours it */
};
struct vsp_reconfig {
    const struct vsp_disk_add *add;
    size_t add_count;
    const unsigned *remove_targets; /* taken off; the file stays (no fileOperation) */
    size_t remove_count;
    const struct vsp_kv *extra;
    size_t extra_count;
    const char *name; /* rename, or NULL */
};
/* One ReconfigVM_Task.  Disks are thin, independent_persistent. */
VIC_CHECK bool vsp_vm_reconfig(struct vsp *v, const struct vsp_place *p, const char *vm,
                               const struct vsp_reconfig *r, char task[VSP_REF_SIZE],
                               struct vic_err *err);

/* --- observed ------------------------------------------------------------------------------------
 */

enum vsp_power { VSP_POWER_UNKNOWN, VSP_POWERED_OFF, VSP_POWERED_ON, VSP_SUSPENDED };

struct vsp_disk {
    unsigned target; /* UINT_MAX: not on SCSI bus 0, so none of ours */
    int32_t key;
    const char *path, *uuid, *parent;
};
struct vsp_vm {
    const char *ref, *name, *instance_uuid, *host;
    enum vsp_power power;
    bool connected; /* connectionState: powerState means nothing without it */
    const struct vsp_disk *disks;
    size_t disk_count;
    const struct vsp_kv *extra; /* the keys that begin with vic. or guestinfo.vic. */
    size_t extra_count;
    const char *mac; /* of the first NIC */
};
const char *vsp_vm_extra(const struct vsp_vm *vm, const char *key); /* NULL when absent */

/* One VM, read anew. */
VIC_CHECK bool vsp_vm_read(struct vsp *v, const char *vm, struct arena *a, struct vsp_vm *out,
                           struct vic_err *err);
/* All VMs below the pool, in one read. */
VIC_CHECK bool vsp_vm_list(struct vsp *v, const struct vsp_place *p, struct arena *a,
                           struct vsp_vm **vms, size_t *count, struct vic_err *err);

enum vsp_task_state {
    VSP_TASK_QUEUED,
    VSP_TASK_RUNNING,
    VSP_TASK_SUCCESS,
    VSP_TASK_ERROR,
    VSP_TASK_GONE
};
struct vsp_task {
    const char *ref;
    enum vsp_task_state state;
    const char *result; /* reference of what was made, or NULL */
    struct vic_err err; /* of VSP_TASK_ERROR */
};
VIC_CHECK bool vsp_task_read(struct vsp *v, const char *task, struct arena *a, struct vsp_task *out,
                             struct vic_err *err);
/* Recent tasks that may be ours and have not ended (for crash recovery: wait until none runs):
 * those on 'entity' (a reference) and those that name none, or with NULL all. */
VIC_CHECK bool vsp_tasks_running(struct vsp *v, const char *entity, size_t *count,
                                 struct vic_err *err);
/* For tools and tests only: blocks. */
VIC_CHECK bool vsp_task_wait(struct vsp *v, const char *task, int64_t timeout_ms, char *result_ref,
                             struct vic_err *err);

/* The update stream: one WaitForUpdatesEx over the VMs of the pool (and of pools below it) and a
 * list view of the tasks added.  Callbacks come on the watch's thread and must not block; what they
 * are given is borrowed for the call.  After a reconnect everything is reported anew, between
 * on_state(true) and the on_sync that follows; a VM that was not reported in between is gone. */
struct vsp_watch;
struct vsp_watch_callbacks {
    void (*on_vm)(void *arg, const struct vsp_vm *vm);
    void (*on_vm_gone)(void *arg, const char *ref);
    void (*on_task)(void *arg, const struct vsp_task *task);
    void (*on_state)(void *arg, bool connected, const struct vic_err *err);
    void (*on_sync)(void *arg); /* the full state has been reported */
};
struct vsp_watch *vsp_watch_new(struct vsp *v, const struct vsp_place *p,
                                const struct vsp_watch_callbacks *cb, void *arg,
                                struct vic_err *err);
/* Also reports tasks that have ended already; a task that vSphere no longer knows is
 * VSP_TASK_GONE. Blocks for a call or two; not from a
 * callback. */
void vsp_watch_task(struct vsp_watch *w, const char *task);
void vsp_watch_free(struct vsp_watch *w); /* returns when no callback runs any more */

/* --- files and disks without a VM ----------------------------------------------------------------
 */

VIC_CHECK bool vsp_mkdir(struct vsp *v, const struct vsp_place *p, const char *path,
                         struct vic_err *err); /* with parents; fine when it exists */
VIC_CHECK bool vsp_disk_delete(struct vsp *v, const struct vsp_place *p, const char *path,
                               char task[VSP_REF_SIZE], struct vic_err *err);
VIC_CHECK bool vsp_file_delete(struct vsp *v, const struct vsp_place *p, const char *path,
                               char task[VSP_REF_SIZE], struct vic_err *err);
VIC_CHECK bool vsp_file_move(struct vsp *v, const struct vsp_place *p, const char *from,
                             const char *to, char task[VSP_REF_SIZE], struct vic_err *err);
VIC_CHECK bool vsp_file_put(struct vsp *v, const struct vsp_place *p, const char *path,
                            struct sv content, struct vic_err *err);
VIC_CHECK bool vsp_file_put_fd(struct vsp *v, const struct vsp_place *p, const char *path, int fd,
                               uint64_t size, struct vic_err *err);
/* NOT_FOUND when absent; over 'max' bytes is TOO_LARGE. */
VIC_CHECK bool vsp_file_get(struct vsp *v, const struct vsp_place *p, const char *path, size_t max,
                            struct buf *out, struct vic_err *err);
/* Names of the files in a datastore folder (not recursive). */
VIC_CHECK bool vsp_file_list(struct vsp *v, const struct vsp_place *p, const char *folder,
                             struct arena *a, const char ***names, size_t *count,
                             struct vic_err *err);

#endif
