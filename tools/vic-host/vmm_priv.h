/* What the vmm*.c files share.
 *
 *   vmm.c        the table of VMs, operations one at a time, a process's end
 *   vmm_launch.c QEMU's command line and its start
 *   vmm_state.c  the files in run_dir and finding running VMs again
 *   vmm_disk.c   qcow2 headers, chains, hot plug
 *   vmm_net.c    namespace, bridges, taps
 *   vmm_boot.c   kernel, initramfs and command line out of an ISO
 *   vmm_guest.c  the guestinfo port
 *   vmm_kvm.c    does KVM really run a guest here?
 *
 * Locks: one, vmm.lock.  It is never held over I/O: an operation marks its VM busy under it, works
 * without it, and unmarks. */
#ifndef VIC_HOST_VMM_PRIV_H
#define VIC_HOST_VMM_PRIV_H

#include <sys/queue.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/net.h"
#include "base/sync.h"

#include "qmp.h"
#include "vmm.h"

enum {
    VMM_MAX_ID = 64,
    VMM_MAX_TARGET = 63, /* QEMU 7.2 hw/scsi/vmw_pvscsi.h: PVSCSI_MAX_DEVS 64 */
    VMM_MAX_NICS = 10,   /* as vSphere */
    VMM_MAX_CPUS = 64,
    VMM_MAX_MEMORY_MB = 1024 * 1024,
    VMM_MAX_CHAIN = 48, /* levels of one disk */
    VMM_CALL_MS = 10000,
    VMM_START_MS = 30000,
};

/* One VM.  References: the table's, the loop's (watches and streams), an operation's. */
struct vm {
    LIST_ENTRY(vm) link; /* by vmm.lock */
    struct vmm *m;
    char id[VMM_MAX_ID + 1];
    pid_t pid; /* fixed once started */
    uint64_t start_time;
    int pidfd;
    struct qmp *qmp;               /* NULL: the process was found again but does not answer */
    uint64_t targets;              /* SCSI targets in use; the operation's */
    unsigned refs;                 /* by vmm.lock */
    bool listed;                   /* by vmm.lock: in the table; false once the process has ended */
    bool busy;                     /* by vmm.lock: an operation is under way */
    bool started;                  /* by vmm.lock: vmm_start is through */
    bool guest_stopped;            /* by vmm.lock: QEMU said that the guest powered off */
    struct loop_watch *exit_watch; /* loop thread from here on */
    struct net_stream *guest;      /* the guestinfo port */
    int guest_fd;                  /* connected, until the loop adopts it */
    struct buf guest_in;           /* not yet a line */
    bool guest_skip;               /* inside a line that was too long */
    bool guest_paused;             /* the guest does not read its replies */
};

LIST_HEAD(vm_list, vm);

struct vmm {
    struct vmm_options o; /* strings are copies */
    int run_fd;           /* run_dir */
    char *netns_path;     /* or NULL */
    char *disk_dir;       /* resolved, or NULL */
    uid_t uid;            /* QEMU's user; 0 = ours */
    gid_t gid;
    bool kvm; /* it really runs here */
    struct vic_mutex lock;
    struct vic_cond changed;
    struct vm_list vms VIC_GUARDED;
    unsigned refs VIC_GUARDED; /* vmm_open's and one a VM: streams close after vmm_free */
    bool closed VIC_GUARDED;   /* vmm_free was called: no callbacks */
};

/* vmm.c */
struct vm *vm_new(struct vmm *m, const char *id); /* unlisted, one reference */
void vm_list_add(struct vm *vm);                  /* takes one more */
void vm_ref(struct vm *vm);
void vm_unref(struct vm *vm);
void vm_release(struct vm *vm); /* ends an operation: no longer busy, one reference less */
/* Runs fn(arg) on the loop's thread and waits for it. */
VIC_CHECK bool vmm_on_loop(struct vmm *m, void (*fn)(void *arg), void *arg, struct vic_err *err);
bool vmm_closed(struct vmm *m);
/* Loop thread: watches the process, QMP and the guestinfo port of a listed VM. */
void vm_attach(void *vm);
/* Loop thread: reports one that ended while nobody watched; takes over the reference. */
void vm_report_gone(void *vm);
/* The callback for qmp_open. */
void vm_on_event(void *vm, const char *name, struct json_val data);
/* Runs the QMP command and drops what it returns.  'arguments' as qmp_call. */
VIC_CHECK bool vm_qmp(struct vm *vm, const char *command, struct sv arguments, int fd,
                      struct vic_err *err);
/* Kills the process and waits for its end; for one that the loop does not watch yet. */
void vm_kill(struct vm *vm);

/* vmm_launch.c: from nothing to a running guest; on failure nothing is left. */
VIC_CHECK bool vm_launch(struct vm *vm, const struct vmm_spec *s, struct vic_err *err);

/* vmm_state.c.  Files of a VM are run_dir/ID.SUFFIX. */
enum vm_file { VM_STATE, VM_QMP, VM_GUESTINFO, VM_LOG };
char *vm_file_name(const struct vm *vm, enum vm_file f); /* without run_dir; caller frees */
VIC_CHECK bool vm_state_write(const struct vm *vm, struct vic_err *err);
void vm_files_remove(const struct vm *vm);
/* The last line that QEMU wrote to its log; "" when there is none. */
void vm_log_tail(const struct vm *vm, char *out, size_t size);
/* A listening unix socket of this VM, and a connection to it. */
int vm_socket_listen(const struct vm *vm, enum vm_file f, struct vic_err *err);
int vm_socket_connect(const struct vm *vm, enum vm_file f, struct vic_err *err);
/* Finds what an earlier vic-host left: lists what runs, clears and reports what does not. */
VIC_CHECK bool vmm_recover(struct vmm *m, struct vic_err *err);

/* vmm_disk.c */
VIC_CHECK bool vm_disk_plug(struct vm *vm, const struct vmm_disk *d, struct vic_err *err);
VIC_CHECK bool vm_disk_unplug(struct vm *vm, unsigned target, struct vic_err *err);
/* Reads which targets are in use from a QEMU found again. */
VIC_CHECK bool vm_disk_survey(struct vm *vm, struct vic_err *err);

/* vmm_net.c */
VIC_CHECK bool vmm_netns_make(struct vmm *m, struct vic_err *err);
/* A new tap on the network's bridge; it lives as long as the descriptor. -1 = failed. */
int vmm_tap_open(struct vmm *m, const char *network, struct vic_err *err);

/* vmm_boot.c: open files (the caller closes them) and the command line (in 'a'). */
struct vmm_boot {
    int kernel, initrd;
    const char *append;
};
VIC_CHECK bool vmm_boot_open(struct vmm *m, const char *iso, struct arena *a, struct vmm_boot *out,
                             struct vic_err *err);
/* Forgets what was read from ISOs earlier. */
void vmm_boot_clear(struct vmm *m);
/* Reads isolinux.cfg: the default label's files (paths inside the ISO, without a leading slash,
 * "" = no initrd) and its command line. */
struct vmm_boot_entry {
    const char *kernel, *initrd, *append;
};
VIC_CHECK bool vmm_boot_parse(struct sv cfg, struct sv folder, struct arena *a,
                              struct vmm_boot_entry *out, struct vic_err *err);

/* vmm_guest.c; loop thread. */
void vm_guest_attach(struct vm *vm);
void vm_guest_detach(struct vm *vm);
void vm_guest_reconnect(struct vm *vm); /* forgets what is under way in both directions */

/* vmm_kvm.c: boots a guest of one sector with 'accel' ("kvm", "tcg"); true when it prints within
 * the deadline.  Blocks. */
bool vmm_probe(const char *accel, int64_t timeout_ms);

#endif
