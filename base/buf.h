/* A growing byte buffer.
 *
 * Everything built is a 'struct buf'.  Invariants: data is NULL or NUL-terminated at data[len];
 * once an append failed or went over the limit, 'failed' stays set and later appends do nothing,
 * so a builder checks once at the end.  An all-zero struct is an empty buffer without limit. */
#ifndef VIC_BASE_BUF_H
#define VIC_BASE_BUF_H

#include "err.h"
#include "sv.h"

struct buf {
    char *data;
    size_t len, cap;
    size_t limit; /* 0 = none; an append that would pass it fails */
    bool failed;
};

void buf_fini(struct buf *b); /* frees; the buffer is empty again */
#define AUTO_BUF __attribute__((cleanup(buf_fini)))

void buf_reset(struct buf *b);                /* empties, keeps the memory, clears 'failed' */
bool buf_reserve(struct buf *b, size_t more); /* room for 'more' bytes behind len */
void buf_add(struct buf *b, const void *p, size_t len);
void buf_add_sv(struct buf *b, struct sv s);
void buf_add_str(struct buf *b, const char *s);
void buf_add_c(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) VIC_PRINTF(2, 3);
void buf_add_u64(struct buf *b, uint64_t n); /* decimal, faster than buf_addf */
void buf_add_i64(struct buf *b, int64_t n);
void buf_consume(struct buf *b, size_t n); /* drops the first n bytes */

/* Little-endian numbers of up to 8 bytes, for our own formats. */
void buf_add_le(struct buf *b, uint64_t n, unsigned bytes);

struct sv buf_sv(const struct buf *b);
const char *buf_str(const struct buf *b); /* "" when empty; borrowed */
char *buf_take(struct buf *b);            /* caller frees; never NULL unless failed */

#endif
