/* A byte queue: what is added behind is taken in front.
 *
 * struct buf moves its bytes down at each buf_consume; a queue that is emptied in small steps would
 * move them again and again.  Here the front is an offset, and bytes move only when half of the
 * memory lies before it. */
#ifndef VIC_HUB_FIFO_H
#define VIC_HUB_FIFO_H

#include "base/buf.h"

enum { FIFO_KEEP = 65536 }; /* an empty queue keeps at most so much memory */

struct fifo {
    struct buf b;
    size_t off;
};

static inline struct sv fifo_sv(const struct fifo *f)
{
    struct sv all = buf_sv(&f->b);
    return f->off ? sv_make(all.p + f->off, all.len - f->off) : all;
}

static inline size_t fifo_len(const struct fifo *f)
{
    return f->b.len - f->off;
}

static inline void fifo_drop(struct fifo *f, size_t n)
{
    f->off += n;
    if (f->off == f->b.len) {
        f->off = 0;
        if (f->b.cap > FIFO_KEEP)
            buf_fini(&f->b);
        else
            buf_reset(&f->b);
    } else if (f->off > f->b.len / 2) {
        buf_consume(&f->b, f->off);
        f->off = 0;
    }
}

static inline void fifo_fini(struct fifo *f)
{
    buf_fini(&f->b);
    f->off = 0;
}

#endif
