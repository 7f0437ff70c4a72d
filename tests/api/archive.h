/* Archives built in memory, for tests: tar entries right and wrong, and image archives. */
#ifndef VIC_TESTS_API_ARCHIVE_H
#define VIC_TESTS_API_ARCHIVE_H

#include "base/arena.h"
#include "base/buf.h"

/* One header block; 'type' as in tar.  The checksum is right. */
void ar_header(struct buf *b, char type, const char *name, const char *link, uint64_t size);
void ar_pad(struct buf *b); /* with zeros, to a whole block */
/* Header, data, padding. */
void ar_entry(struct buf *b, char type, const char *name, const char *link, struct sv data);
void ar_file(struct buf *b, const char *name, struct sv data);
/* A pax extended header with one record. */
void ar_pax(struct buf *b, const char *key, struct sv value);
void ar_end(struct buf *b); /* two blocks of zeros */
/* Makes the checksum of the header at 'at' right again after a change. */
void ar_checksum(struct buf *b, size_t at);

/* --- images -----------------------------------------------------------------------------------
 * An image in the making: layers are tar streams. */
enum { AR_LAYERS = 160 };
struct ar_image {
    struct arena *a;
    struct sv layer[AR_LAYERS];
    size_t layers;
    const char *os, *config; /* NULL = linux; the config's "config" value or NULL */
};
/* A layer with one file in it; its content makes it differ. */
struct sv ar_layer(struct arena *a, const char *file, const char *content);
const char *ar_digest(struct arena *a, struct sv bytes); /* "sha256:..." */
struct sv ar_config(const struct ar_image *i);           /* the config's JSON */
const char *ar_chain(const struct ar_image *i, size_t layer);

/* Entries of a docker-archive for the image: config, layers and manifest.json.  'tags' is JSON:
 * "[\"a:1\"]". */
void ar_docker(struct buf *b, const struct ar_image *i, const char *tags);
/* Entries of an OCI layout: blobs, index.json, oci-layout; the layers are what 'blob' says. */
void ar_oci(struct buf *b, const struct ar_image *i, const char *name);
void ar_blob(struct buf *b, struct arena *a, struct sv bytes); /* blobs/sha256/<digest> */

#endif
