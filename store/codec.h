/* Inside the store: the codec with its seal, and work on whole records.
 *
 * A record's bytes are a run of fields in the table's order.  A field is a varint tag
 * (number << 3 | wire type) and a value; a field that holds its zero value is left out.
 *
 *   wire 0  varint                        BOOL U32 U64 ENUM; I32 I64 zigzag
 *   wire 1  varint size, bytes, NUL       STR BYTES: decoded strings point into the bytes
 *   wire 2  u32 size, bytes               OBJ; LIST STRS MAP: varint count, then the elements
 *   wire 3  varint size, sealed bytes     a secret STR or BYTES
 *   wire 4  8 bytes, little-endian        TIME
 *
 * Whatever its number, a field can be skipped by its wire type: that is how fields of newer
 * versions survive.  A sealed field that is read without the key survives in the same way. */
#ifndef VIC_STORE_CODEC_H
#define VIC_STORE_CODEC_H

#include "record.h"

enum {
    STORE_MAX_RECORD = 8 * 1024 * 1024, /* encoded bytes */
    STORE_MAX_MAP = 4096,               /* members of a map read from JSON */
};

/* Secret fields are AES-256-GCM under 'key'; 'aad' binds them to their object ("vm/<id>"). */
struct codec_seal {
    const unsigned char *key; /* 32 bytes */
    struct sv aad;
};

/* seal NULL: secret fields are written in the clear, and sealed ones are kept as unknown. */
void codec_encode(const struct store_rec *rec, const void *record, const struct codec_seal *seal,
                  struct buf *out);
VIC_CHECK bool codec_decode(const struct store_rec *rec, struct sv bytes,
                            const struct codec_seal *seal, struct arena *a, void *record,
                            struct vic_err *err);

/* A field's place in its record, by kind. */
#define FIELD(record, f, type) (*(type *)(void *)((char *)(record) + (f)->offset))
#define FIELD_CONST(record, f, type)                                                               \
    (*(type const *)(const void *)((const char *)(record) + (f)->offset))
/* OBJ, LIST share one shape: a LIST's struct is {v, n}. */
struct record_list {
    void *v;
    size_t n;
};

#endif
