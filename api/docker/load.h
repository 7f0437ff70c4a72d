/* An archive of images on its way into the store: private to the load_*.c files.
 *
 *   load.c          the request: receive, understand, store, wait
 *   load_receive.c  the tar stream into the spool
 *   load_inflate.c  an archive that is compressed as a whole: the decompressing child
 *   load_archive.c  what the files mean: docker-archive, OCI layout
 *   load_store.c    images and layers as records; which spool files are needed
 *
 * All of it lives in the call's arena. */
#ifndef VIC_API_DOCKER_LOAD_H
#define VIC_API_DOCKER_LOAD_H

#include "docker.h"

enum {
    LOAD_MAX_ENTRIES = 20000,
    LOAD_MAX_META = 8 << 20, /* bytes of manifest.json, index.json, a config; and behind the end */
    LOAD_MAX_LAYERS = 32,    /* with a disk */
    LOAD_MAX_DIFFS = 256,    /* with and without one */
    LOAD_MAX_IMAGES = 64,
    LOAD_MAX_TAGS = 256, /* of an image */
};

struct file {
    const char *name, *link; /* link: what a link resolves to inside the archive, else NULL */
    char digest[SPOOL_DIGEST_SIZE];
    uint64_t size;
    struct file *next;
};

struct layer {
    const char *diff_id, *chain, *parent, *blob, *compression;
    uint64_t blob_bytes;
};

struct image {
    const char *id;
    struct sv text; /* the config's bytes */
    struct json_val json;
    struct store_config config;
    struct store_strs tags; /* full references */
    struct layer *layers;   /* those with a disk, bottom first */
    size_t layer_count;
    struct store_strs diff_ids; /* all of them */
};

struct load {
    struct call *c;
    struct file *files; /* newest first; each that is no link is held in the spool */
    struct image *images;
    size_t image_count;
    bool is_nested; /* an index is being read inside an index */
};

/* Fails with VIC_INVALID in the call's err. */
bool load_bad(struct call *c, const char *fmt, ...) VIC_PRINTF(2, 3);
/* The call's body as entries in l->files. */
bool load_receive(struct load *l);
/* What the files mean, in l->images. */
bool load_understand(struct load *l);
/* All images in one transaction. */
bool load_store(struct load *l);
/* Ends the holds, and removes what neither a layer nor another load needs. */
void load_settle(struct load *l);
bool load_digest_ok(const char *digest); /* "sha256:" and 64 lower hex digits */

/* --- load_inflate.c --------------------------------------------------------------------------- */
/* Gives the next compressed bytes, as tar_read; '*got' 0 at the end. */
typedef bool (*inflate_feed)(void *arg, void *p, size_t size, size_t *got, struct vic_err *err);
struct inflate;
struct inflate *inflate_start(const struct api_options *o, const char *format, inflate_feed feed,
                              void *arg, struct vic_err *err);
/* 0 bytes at the end; then the child has said that all was well. */
bool inflate_read(struct inflate *z, void *p, size_t size, size_t *got, struct vic_err *err);
void inflate_free(struct inflate *z); /* NULL is fine */

#endif
