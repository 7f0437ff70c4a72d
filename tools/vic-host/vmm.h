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
 * (10 ms to some seconds).  on_exit and on_guestinfo come on vmm's loop thread and must not block. */
#ifndef VIC_HOST_VMM_H
#define VIC_HOST_VMM_H

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"

struct vmm;

struct vmm_options {
    const char *run_dir;  /* sockets, pid files; 0700 */
    const char *netns;    /* name of the network namespace it makes ("vic-<id>") */
    const char *qemu_user; /* the user that QEMU runs as; NULL = vic-host's own (tests without root) */
    bool kvm;             /* try KVM: used only when a probe guest really runs within 5 s */
    struct loop *loop;
    struct vic_log *log;
    /* The VM's process ended: powered off by the guest, by us, or died. */
    void (*on_exit)(void *arg, const char *vm, bool guest_initiated);
    /* One line of the guestinfo RPC ("info-get guestinfo.x"); append the reply to 'out'
     * ("1 value", "0 No value found"). */
    void (*on_guestinfo)(void *arg, const char *vm, struct sv command, struct buf *out);
    void *arg;
};

struct vmm *vmm_open(const struct vmm_options *o, struct vic_err *err);
/* Leaves the VMs running. */
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
    const char *iso;      /* host path or NULL */
    bool direct_boot;     /* kernel, initramfs and command line read out of the ISO's isolinux.cfg
                             (libarchive); the CD is left out then */
    const char *console;  /* host path of the file behind ttyS0, appended to; or NULL */
    const struct vmm_disk *disks;
    size_t disk_count;
    const struct vmm_nic *nics;
    size_t nic_count;
};
VIC_CHECK bool vmm_start(struct vmm *m, const struct vmm_spec *s, struct vic_err *err);
/* Ends the process; fine when there is none. */
VIC_CHECK bool vmm_stop(struct vmm *m, const char *id, struct vic_err *err);
VIC_CHECK bool vmm_reset(struct vmm *m, const char *id, struct vic_err *err);
VIC_CHECK bool vmm_powerdown(struct vmm *m, const char *id, struct vic_err *err); /* ACPI */
bool vmm_running(struct vmm *m, const char *id);
pid_t vmm_pid(struct vmm *m, const char *id); /* 0 when it does not run */

/* Hot plug on the running VM's pvscsi controller.  The guest scans by itself. */
VIC_CHECK bool vmm_disk_add(struct vmm *m, const char *id, const struct vmm_disk *d,
                            struct vic_err *err);
VIC_CHECK bool vmm_disk_remove(struct vmm *m, const char *id, unsigned target, struct vic_err *err);

/* Disk files: qcow2, thin, lazily allocated, mode 0640 for the QEMU user. */
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
