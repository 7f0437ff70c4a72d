/* Makes an ext4 file system with libext2fs. */
#ifndef VIC_TETHER_AGENT_MKFS_H
#define VIC_TETHER_AGENT_MKFS_H

#include <stdint.h>

#include "base/err.h"

/* 64bit, metadata_csum, journal; inode tables are left to the kernel (lazy), so that a thin disk
 * stays thin.  'label' has at most 16 bytes. */
VIC_CHECK bool mkfs_ext4(const char *device, uint64_t bytes, const char *label,
                         struct vic_err *err);

#endif
