/* Decompression: see inflate.h.  Formats: RFC 1952, RFC 8878 (a window of at most 128 MiB). */
#include "inflate.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"

enum { IN_SIZE = 131072, MAX_WINDOW_LOG = 27 };

struct inflate {
    int fd;
    bool (*step)(struct inflate *i, void *out, size_t size, size_t *got, struct vic_err *err);
    unsigned char in[IN_SIZE];
    size_t at, len;
    bool eof;    /* of the descriptor */
    bool inside; /* a member or frame has begun and not ended */
    z_stream z;
    bool z_open;
    ZSTD_DStream *zstd;
};

/* Fills the input when it is empty. */
static bool fill(struct inflate *i, struct vic_err *err)
{
    while (i->at == i->len && !i->eof) {
        ssize_t n = read(i->fd, i->in, sizeof i->in);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vic_fail_errno(err, "read the layer");
        i->at = 0;
        i->len = (size_t)n;
        i->eof = n == 0;
    }
    return true;
}

static bool step_none(struct inflate *i, void *out, size_t size, size_t *got, struct vic_err *err)
{
    if (!fill(i, err))
        return false;
    *got = i->len - i->at < size ? i->len - i->at : size;
    memcpy(out, i->in + i->at, *got);
    i->at += *got;
    return true;
}

static bool cut_off(struct vic_err *err)
{
    return vic_fail(err, VIC_CORRUPT, 0, "the compressed stream is cut off");
}

static bool step_gzip(struct inflate *i, void *out, size_t size, size_t *got, struct vic_err *err)
{
    i->z.next_out = out;
    i->z.avail_out = (unsigned)size;
    while (i->z.avail_out == size) {
        if (!fill(i, err))
            return false;
        if (i->eof)
            return !i->inside || cut_off(err);
        i->inside = true;
        i->z.next_in = i->in + i->at;
        i->z.avail_in = (unsigned)(i->len - i->at);
        int r = inflate(&i->z, Z_NO_FLUSH);
        i->at = i->len - i->z.avail_in;
        if (r == Z_STREAM_END) { /* another member may follow */
            i->inside = false;
            inflateReset(&i->z);
        } else if (r != Z_OK && r != Z_BUF_ERROR) {
            return vic_fail(err, VIC_CORRUPT, 0, "gzip: %s", i->z.msg ? i->z.msg : "damaged");
        }
    }
    *got = size - i->z.avail_out;
    return true;
}

static bool step_zstd(struct inflate *i, void *out, size_t size, size_t *got, struct vic_err *err)
{
    ZSTD_outBuffer o = {out, size, 0};
    while (o.pos == 0) {
        if (!fill(i, err))
            return false;
        if (i->eof && !i->inside)
            return true;
        ZSTD_inBuffer in = {i->in, i->len, i->at};
        bool no_input = i->eof;
        size_t r = ZSTD_decompressStream(i->zstd, &o, &in);
        i->at = in.pos;
        if (ZSTD_isError(r))
            return vic_fail(err, VIC_CORRUPT, 0, "zstd: %s", ZSTD_getErrorName(r));
        i->inside = r != 0;
        if (no_input && o.pos == 0 && i->inside)
            return cut_off(err);
    }
    *got = o.pos;
    return true;
}

struct inflate *inflate_new(int fd, const char *compression, struct vic_err *err)
{
    struct inflate *i = xcalloc(1, sizeof *i);
    i->fd = fd;
    if (strcmp(compression, "none") == 0) {
        i->step = step_none;
    } else if (strcmp(compression, "gzip") == 0) {
        i->step = step_gzip;
        i->z_open = inflateInit2(&i->z, 15 + 16) == Z_OK;
    } else if (strcmp(compression, "zstd") == 0) {
        i->step = step_zstd;
        i->zstd = ZSTD_createDStream();
        if (i->zstd)
            ZSTD_DCtx_setParameter(i->zstd, ZSTD_d_windowLogMax, MAX_WINDOW_LOG);
    }
    if (i->step == step_none || i->z_open || i->zstd)
        return i;
    vic_fail(err, i->step ? VIC_NO_MEMORY : VIC_UNSUPPORTED, 0, "compression %.20s", compression);
    inflate_free(i);
    return NULL;
}

void inflate_free(struct inflate *i)
{
    if (!i)
        return;
    if (i->z_open)
        inflateEnd(&i->z);
    ZSTD_freeDStream(i->zstd);
    free(i);
}

bool inflate_read(struct inflate *i, void *out, size_t size, size_t *got, struct vic_err *err)
{
    *got = 0;
    return i->step(i, out, size, got, err);
}
