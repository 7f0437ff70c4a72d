/* A reader of tar streams, for the archives of docker load: headers only, data by the caller. */
#ifndef VIC_API_TAR_H
#define VIC_API_TAR_H

#include "base/arena.h"
#include "base/err.h"

enum {
    TAR_BLOCK = 512,
    TAR_MAX_NAME = 4096,     /* bytes of a name or link */
    TAR_MAX_PAX = 1 << 20,   /* of one extended header */
    TAR_MAX_TEXT = 32 << 20, /* of all names and links of an archive */
};

enum tar_type { TAR_FILE, TAR_DIR, TAR_SYMLINK, TAR_HARDLINK, TAR_OTHER };

struct tar_entry {
    enum tar_type type;
    const char *name, *link; /* in the reader's arena; as written, not yet checked */
    uint64_t size;           /* of a file's data */
};

/* Gives exactly 'size' bytes or fails; '*got' short only at the very end of the stream. */
typedef bool (*tar_read)(void *arg, void *p, size_t size, size_t *got, struct vic_err *err);

struct tar {
    tar_read read;
    void *arg;
    struct arena *a;
    uint64_t left;    /* bytes of the current entry's data not read yet */
    unsigned padding; /* zero bytes behind them */
    bool ended;
    uint64_t entries; /* headers read, extended ones too */
    size_t text;      /* bytes of names taken from the arena */
};

/* The next entry; what is left of the one before is skipped.  '*more' false at the archive's end,
 * which is a block of zeros: a stream that ends without one was cut.  Formats: ustar, GNU long
 * names, PAX path, linkpath and size.  Errors: VIC_INVALID with the entry's number ("entry 3: ...",
 * "truncated in entry 3"); VIC_TOO_LARGE over the limits above. */
VIC_CHECK bool tar_next(struct tar *t, struct tar_entry *out, bool *more, struct vic_err *err);
/* Up to 'size' bytes of the entry's data; 0 = its end. */
VIC_CHECK bool tar_data(struct tar *t, void *p, size_t size, size_t *got, struct vic_err *err);

/* A clean relative name: "./a//b" gives "a/b", the archive's root ("./") gives "".  VIC_INVALID for
 * absolute names, "..", control characters, or nothing. */
VIC_CHECK bool tar_clean_name(const char *name, struct arena *a, const char **out,
                              struct vic_err *err);

#endif
