/* Disks: found by SCSI target on the pvscsi host, mounted, and taken off the bus again.
 *
 * The bus is never scanned; a disk is asked for by its target ("0 TARGET 0"), and its node waited
 * for by the kernel's uevents.  Layout of a container's disk or layer: rootfs/ is the image's tree,
 * vic/ (0700) is ours; the workload's root is rootfs/, so it cannot see vic/. */
#ifndef VIC_TETHER_AGENT_DISK_H
#define VIC_TETHER_AGENT_DISK_H

#include <stdint.h>

#include "base/err.h"

enum { DISK_WAIT_MS = 20000 };

struct disk {
    unsigned target;
    char address[32]; /* "host:0:target:0" */
    char node[32];    /* "/dev/sdb" */
};

/* Brings in the disk at 'target', or finds it when it is there already.  Blocks until its node can
 * be opened, at most DISK_WAIT_MS. */
VIC_CHECK bool disk_attach(unsigned target, struct disk *out, struct vic_err *err);
/* Takes it off the bus; it must not be mounted.  After that it may be detached from the VM. */
VIC_CHECK bool disk_detach(const struct disk *d, struct vic_err *err);

VIC_CHECK bool disk_mount(const struct disk *d, const char *at, struct vic_err *err);
VIC_CHECK bool disk_unmount(const char *at, struct vic_err *err);
VIC_CHECK bool disk_size(const struct disk *d, uint64_t *bytes, struct vic_err *err);

#endif
