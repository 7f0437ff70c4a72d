/* Applying an image layer's archive to a tree.
 *
 * The archive is hostile.  Every path is resolved below the root by the kernel (root.h); names that
 * leave it are refused; folders above an entry may be links, as in real images, and stay inside.
 * Whiteouts remove what lower layers had.  Facts: OCI image spec, "Filesystem layer"; what Docker
 * does where the spec is silent (an entry replaces whatever was there, but a folder stays). */
#ifndef VIC_TETHER_AGENT_LAYER_H
#define VIC_TETHER_AGENT_LAYER_H

#include <stdint.h>

#include "tree.h"

struct inflate;

enum { LAYER_MAX_ENTRIES = 1000000, LAYER_MAX_XATTR = 65536 };

struct layer_options {
    int root; /* the image's tree */
    struct tree_trash *trash;
    uint64_t max_bytes; /* of the archive and of each file: what the disk can hold */
    struct inflate *in;
};

struct layer_result {
    uint64_t size;    /* of the uncompressed archive */
    char diff_id[72]; /* "sha256:..." of it */
    char entry[512];  /* the entry at fault, or "" */
};

/* Errors: INVALID (a name or entry is refused), CORRUPT (no archive, or cut off), TOO_LARGE,
 * NO_SPACE, and what the file system says. */
VIC_CHECK bool layer_apply(const struct layer_options *o, struct layer_result *out,
                           struct vic_err *err);

#endif
