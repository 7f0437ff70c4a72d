/* Streams of bytes from a descriptor, decompressed in this process (never by a program of the
 * image): gzip (all members), zstd (all frames) or as they are. */
#ifndef VIC_TETHER_AGENT_INFLATE_H
#define VIC_TETHER_AGENT_INFLATE_H

#include <stddef.h>

#include "base/err.h"

struct inflate;

/* 'compression': "none", "gzip" or "zstd".  'fd' is borrowed, blocking. */
struct inflate *inflate_new(int fd, const char *compression, struct vic_err *err);
void inflate_free(struct inflate *i);
/* '*got' 0 = the end; a stream that is cut off, damaged or followed by something else fails with
 * CORRUPT. */
VIC_CHECK bool inflate_read(struct inflate *i, void *out, size_t size, size_t *got,
                            struct vic_err *err);

#endif
