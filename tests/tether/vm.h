/* A real guest for tests: QEMU with the boot image, in this process's network namespace.
 *
 * vm_network gives the process a namespace of its own with a tap that holds the endpoint's address;
 * so tests need root, and nothing of the machine's networks is touched.  The guestinfo port is
 * answered by a thread with the envelope of a vm whose keys are tg_key's. */
#ifndef VIC_TESTS_VM_H
#define VIC_TESTS_VM_H

#include <pthread.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define VM_VCH "test-vch"

struct vm {
    const char *id;
    pid_t pid;
    int qmp, guestinfo;
    pthread_t answers;
    char console[256];
    struct buf line; /* of QMP, not yet complete */
};

/* '*address' = "tcp:[fe80::..%tap0]:2377", for hub_listen. */
VIC_CHECK bool vm_network(char address[128], struct vic_err *err);

/* 'boot_dir' holds bootstrap.iso, vmlinuz, core.img, cmdline.  'bios': from the ISO, else direct.
 */
VIC_CHECK bool vm_start(struct vm *v, const char *id, const char *boot_dir, const char *work_dir,
                        bool bios, struct vic_err *err);
/* Waits for QEMU to end by itself; false with TIMEOUT. */
VIC_CHECK bool vm_wait(struct vm *v, int64_t timeout_ms, struct vic_err *err);
void vm_stop(struct vm *v); /* kills what still runs, frees; a zeroed struct is fine */

/* Hot-plugs a qcow2 file at a SCSI target, and takes it away. */
VIC_CHECK bool vm_plug(struct vm *v, const char *file, unsigned target, struct vic_err *err);
VIC_CHECK bool vm_unplug(struct vm *v, unsigned target, struct vic_err *err);

void vm_console(const struct vm *v, struct buf *out);

#endif
