/* vic-inflate gzip|zstd: decompresses standard input to standard output.
 *
 * The bytes come from a stranger, and decompressors have had holes; so they run here, where a hole
 * leads nowhere: the process has its two descriptors, and its system calls are read, write and
 * exit.  Memory is taken from the kernel before the filter is set (MEMORY bytes, untouched until
 * used), so that malloc needs none later; beyond it malloc fails and so does the archive.
 *
 * How much may come out is the reader's affair: the engine bounds it by its spool's quota.
 * It ends with the status that says how it went (api/docker/load_inflate.c words it).
 * Formats: RFC 1952 (several members follow each other), RFC 8878. */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <seccomp.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    PIECE = 128 << 10,
    WINDOW_LOG = 27, /* zstd's own default limit: 128 MiB */
    MEMORY = 160 << 20,
};

enum outcome {
    OUT_OK = 0,
    OUT_USAGE = 1,
    OUT_MALFORMED = 2,
    OUT_CUT = 3,
    OUT_MEMORY = 4,
    OUT_IO = 5,
};

struct bytes {
    unsigned char in[PIECE], out[PIECE];
};

/* --- descriptors ----------------------------------------------------------------------------- */
/* False: the input cannot be read; '*got' 0 at its end. */
static bool read_piece(struct bytes *b, size_t *got)
{
    ssize_t n;
    do
        n = read(STDIN_FILENO, b->in, sizeof b->in);
    while (n < 0 && errno == EINTR);
    *got = n > 0 ? (size_t)n : 0;
    return n >= 0;
}

static bool write_piece(const struct bytes *b, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(STDOUT_FILENO, b->out + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* --- the formats ----------------------------------------------------------------------------- */
/* Everything that comes of the input at hand; '*whole' says whether a member has just ended. */
static enum outcome gunzip_piece(struct bytes *b, z_stream *z, bool *whole)
{
    do {
        if (*whole && z->avail_in && inflateReset(z) != Z_OK)
            return OUT_MEMORY;
        *whole = false;
        z->next_out = b->out;
        z->avail_out = sizeof b->out;
        int rc = inflate(z, Z_NO_FLUSH);
        if (rc == Z_MEM_ERROR)
            return OUT_MEMORY;
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return OUT_MALFORMED;
        if (!write_piece(b, sizeof b->out - z->avail_out))
            return OUT_IO;
        *whole = rc == Z_STREAM_END;
    } while (z->avail_in || !z->avail_out);
    return OUT_OK;
}

static enum outcome gunzip(struct bytes *b)
{
    z_stream z = {0};
    size_t got;
    bool whole = false;
    enum outcome how = OUT_OK;
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return OUT_MEMORY;
    while (how == OUT_OK) {
        if (!read_piece(b, &got))
            return OUT_IO;
        if (!got)
            return whole ? OUT_OK : OUT_CUT;
        z.next_in = b->in;
        z.avail_in = (unsigned)got;
        how = gunzip_piece(b, &z, &whole);
    }
    return how;
}

static enum outcome unzstd_piece(struct bytes *b, ZSTD_DCtx *z, size_t size, bool *whole)
{
    ZSTD_inBuffer in = {b->in, size, 0};
    bool full = false;
    while (in.pos < in.size || full) {
        ZSTD_outBuffer out = {b->out, sizeof b->out, 0};
        size_t rc = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(rc))
            return ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ||
                           ZSTD_getErrorCode(rc) == ZSTD_error_frameParameter_windowTooLarge
                       ? OUT_MEMORY
                       : OUT_MALFORMED;
        if (!write_piece(b, out.pos))
            return OUT_IO;
        *whole = rc == 0;
        full = out.pos == out.size && rc != 0;
    }
    return OUT_OK;
}

static enum outcome unzstd(struct bytes *b)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    size_t got;
    bool whole = false;
    enum outcome how = OUT_OK;
    if (!z || ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG)))
        return OUT_MEMORY;
    while (how == OUT_OK) {
        if (!read_piece(b, &got))
            return OUT_IO;
        if (!got)
            return whole ? OUT_OK : OUT_CUT;
        how = unzstd_piece(b, z, got, &whole);
    }
    return how;
}

/* --- the sandbox ----------------------------------------------------------------------------- */
/* All memory at once: the heap grows by MEMORY and never shrinks, and nothing is mapped. */
static bool take_memory(void)
{
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, MEMORY);
    void *first = malloc(1);
    bool ok = first != NULL;
    free(first);
    mallopt(M_TOP_PAD, 0);
    return ok;
}

static bool limit(void)
{
    const struct rlimit none = {0, 0};
    return prctl(PR_SET_DUMPABLE, 0) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 &&
           setrlimit(RLIMIT_NOFILE, &none) == 0 && setrlimit(RLIMIT_FSIZE, &none) == 0;
}

static bool close_the_door(void)
{
    static const int allowed[] = {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(exit_group)};
    static const int no_memory[] = {SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap),
                                    SCMP_SYS(mremap)};
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    bool ok = f != NULL;
    for (size_t i = 0; ok && i < sizeof allowed / sizeof *allowed; i++)
        ok = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0) == 0;
    for (size_t i = 0; ok && i < sizeof no_memory / sizeof *no_memory; i++)
        ok = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOMEM), no_memory[i], 0) == 0;
    ok = ok && seccomp_load(f) == 0;
    if (f)
        seccomp_release(f);
    return ok;
}

int main(int argc, char **argv)
{
    static struct bytes b;
    bool gzip = argc == 2 && strcmp(argv[1], "gzip") == 0;
    if (!gzip && !(argc == 2 && strcmp(argv[1], "zstd") == 0))
        return OUT_USAGE;
    if (!take_memory() || !limit() || !close_the_door())
        return OUT_USAGE;
    _exit(gzip ? gunzip(&b) : unzstd(&b));
}
