/* The container's surroundings: its root, /proc, /sys, /dev, /etc files, as Docker makes them. */
#ifndef VIC_TETHER_AGENT_CONTAINER_H
#define VIC_TETHER_AGENT_CONTAINER_H

#include "spec.h"

/* Folder of the container's disk while it runs. */
#define CONTAINER_DISK "/disk"

/* Writes vic/etc/{hostname,hosts,resolv.conf} on the disk; in the agent. */
VIC_CHECK bool container_write_etc(const struct spec_run *spec, int vic_dir, struct vic_err *err);

/* Enters the container's root; in the child, which is in new mount, PID, UTS and IPC namespaces
 * and in its cgroup.  Leaves /, the working folder made, everything mounted. */
VIC_CHECK bool container_enter(const struct spec_run *spec, struct vic_err *err);

/* Splits mount options ("size=64m,noexec") into flags and the file system's own; for --tmpfs. */
VIC_CHECK bool container_mount_options(const char *options, unsigned long *flags, struct buf *data,
                                       struct vic_err *err);

#endif
