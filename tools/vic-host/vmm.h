/* vic-host's inner door: virtual machines, disks and networks, without SOAP.
 *
 * Above it (server.c, inventory, methods) vSphere's object model and its rules; below it QEMU
 * processes driven by QMP, qcow2 files, a network namespace with bridges and taps.  A VM's process
 * outlives vic-host: vmm_open finds the running ones again (pid + start time + QMP socket), and
 * kill -9 of vic-host at any point loses none.
 *
 * Files are paths on the host below the datastore's folder; the layer above turns datastore paths
 * into them and has checked that they do not leave it.  QEMU runs as an unprivileged user without
 * capabilities, with the strict seccomp sandbox; taps and disks are passed by descriptor where
 * QEMU 7.2 can (what it cannot is said in vmm_qemu.c).  Disks are qcow2 inside under any file name,
 * always opened with an explicit format.
 *
 * Threads: any; operations on one VM are serialised inside.  Calls block for as long as QEMU takes
 * (10 ms to some seconds).  on_exit and on_guestinfo come on vmm's loop thread and must not block.
 */
#ifndef VIC_HOST_VMM_H
#define VIC_HOST_VMM_H

#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"

struct vmm;

struct vmm_options {
    const char *run_dir;  /* sockets, pid files; made 0700 when absent */
    const char *netns;    /* name of the network namespace it makes ("vic-<id>"); it stays behind.
                             NULL: no networks (tests without root) */
    const char *disk_dir; /* every disk and each of its parents must lie below it, links resolved
                             (a disk's header names its parent, and headers are uploaded by
                             strangers); NULL = unchecked */
    const char
        *qemu_user; /* the user that QEMU runs as; NULL = vic-host's own (tests without root) */
    bool kvm;       /* try KVM: used only when a probe guest really runs within 5 s */
    struct loop *loop;
    struct vic_log *log;
    /* The VM's process ended: powered off by the guest, by us, or died. */
    void (*on_exit)(void *arg, const char *vm, bool guest_initiated);
    /* One line of the guestinfo RPC ("info-get guestinfo.x"); append the reply to 'out'
     * ("1 value", "0 No value found"). */
    void (*on_guestinfo)(void *arg, const char *vm, struct sv command, struct buf *out);
    void *arg;
};

/* VMs that run are found again and watched; for one that ended meanwhile on_exit comes (as ended by
 * its guest: nobody saw why) as soon as the loop runs.  A start that was cut off is undone (its
 * guest had not run) and reported in the same way.  The loop may be started before or after. */
struct vmm *vmm_open(const struct vmm_options *o, struct vic_err *err);
/* Leaves the VMs running; no callback comes after it.  While the loop runs in its thread, or on the
 * loop's own thread (also when loop_run has returned), before loop_free; no operation under way. */
void vmm_free(struct vmm *m);

struct vmm_disk {
    unsigned target;  /* SCSI target; the guest finds the disk by it */
    const char *file; /* host path */
    bool read_only;
};
struct vmm_nic {
    const char *network; /* name of a vmm network */
    unsigned char mac[6];
};
struct vmm_spec {
    const char *id;   /* names sockets and files; [a-z0-9-], at most 64 */
    const char *uuid; /* BIOS UUID */
    unsigned cpus;
    uint64_t memory_mb;
    const char *iso;     /* host path or NULL */
    bool direct_boot;    /* kernel, initramfs and command line read out of the ISO's isolinux.cfg
                            (libarchive); the CD is left out then */
    const char *console; /* host path of the file behind ttyS0, appended to; or NULL */
    const struct vmm_disk *disks;
    size_t disk_count;
    const struct vmm_nic *nics;
    size_t nic_count;
};
VIC_CHECK bool vmm_start(struct vmm *m, const struct vmm_spec *s, struct vic_err *err);
/* Ends the process (what the guest had flushed is on disk); fine when there is none.  When it
 * returns, vmm_running says false; on_exit for it may come a moment later. */
VIC_CHECK bool vmm_stop(struct vmm *m, const char *id, struct vic_err *err);
VIC_CHECK bool vmm_reset(struct vmm *m, const char *id, struct vic_err *err);
VIC_CHECK bool vmm_powerdown(struct vmm *m, const char *id, struct vic_err *err); /* ACPI */
bool vmm_running(struct vmm *m, const char *id);
pid_t vmm_pid(struct vmm *m, const char *id); /* 0 when it does not run */

/* Hot plug on the running VM's pvscsi controller.  The guest scans by itself, and must have let go
 * of a disk before it is removed.  Errors: VIC_CONFLICT target in use; VIC_NOT_FOUND no such VM,
 * file or target; VIC_CORRUPT, VIC_FORBIDDEN the file or a parent is no qcow2 of ours. */
VIC_CHECK bool vmm_disk_add(struct vmm *m, const char *id, const struct vmm_disk *d,
                            struct vic_err *err);
VIC_CHECK bool vmm_disk_remove(struct vmm *m, const char *id, unsigned target, struct vic_err *err);

/* Disk files: qcow2, thin, lazily allocated, mode 0600: QEMU gets them by descriptor.  The parent
 * is recorded by its absolute path.  capacity 0 = the parent's; never smaller than it. Errors:
 * VIC_CONFLICT the file is there. */
VIC_CHECK bool vmm_disk_create(struct vmm *m, const char *file, const char *parent,
                               int64_t capacity_bytes, struct vic_err *err);
VIC_CHECK bool vmm_disk_info(struct vmm *m, const char *file, int64_t *capacity_bytes,
                             int64_t *used_bytes, struct vic_err *err);

/* A bridge in the namespace.  It has no IPv4 address unless 'address' ("10.0.0.1/24") is given;
 * idempotent.  Containers' control channel needs only IPv6 link-local. */
VIC_CHECK bool vmm_network(struct vmm *m, const char *name, const char *address,
                           struct vic_err *err);
/* Name of the bridge interface of a network inside the namespace. */
bool vmm_network_bridge(struct vmm *m, const char *name, char out[16]);

#endif
