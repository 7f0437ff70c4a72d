/* The first and last acts of PID 1. */
#ifndef VIC_TETHER_AGENT_BOOT_H
#define VIC_TETHER_AGENT_BOOT_H

#include "base/err.h"

/* Kernel file systems, then a tmpfs as root in place of the initramfs (a later pivot_root needs a
 * root that is a mount), cgroup v2 at /cgroup with the controllers on, a tmpfs at /run. */
VIC_CHECK bool boot_mounts(struct vic_err *err);
/* Loads the drivers of the devices that are there, from the initramfs; call before boot_new_root.
 */
VIC_CHECK bool boot_modules(struct vic_err *err);
VIC_CHECK bool boot_new_root(struct vic_err *err);
VIC_CHECK bool boot_cgroups(struct vic_err *err);

/* The kernel's id of this boot (a uuid). */
VIC_CHECK bool boot_id(char out[40], struct vic_err *err);

/* One line on the console: "vic: ...". */
void boot_say(const char *fmt, ...) VIC_PRINTF(1, 2);

/* Syncs and powers the machine off; does not return when it is PID 1. */
void boot_power_off(void);

#endif
