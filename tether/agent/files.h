/* Small whole files: /proc and /sys knobs, and the agent's own files on the container's disk. */
#ifndef VIC_TETHER_AGENT_FILES_H
#define VIC_TETHER_AGENT_FILES_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* The first line, without its end; false when the file cannot be read or the line is longer. */
bool file_read_line(const char *path, char *out, size_t size);
/* The whole file, at most 'max' bytes (else TOO_LARGE). */
VIC_CHECK bool file_read(const char *path, size_t max, struct buf *out, struct vic_err *err);
VIC_CHECK bool fd_read_all(int fd, size_t max, struct buf *out, struct vic_err *err);
/* One write(2) into an existing file: for /proc and /sys. */
VIC_CHECK bool file_set(const char *path, const char *value, struct vic_err *err);
/* Replaces a file so that after a power cut it is either the old one or the new: temporary name,
 * fsync, rename, fsync of the folder. */
VIC_CHECK bool file_replace(int dirfd, const char *name, struct sv bytes, mode_t mode,
                            struct vic_err *err);
/* A whole buffer into a descriptor, whatever write(2) takes at a time. */
VIC_CHECK bool fd_write_all(int fd, const void *p, size_t len, struct vic_err *err);

#endif
