/* The binary codec: see codec.h for the format.
 *
 * Decoding copies nothing but the arrays of lists: strings point into the bytes, which lie in the
 * memory map.  Fields come in the order of the table, so looking one up is a step forward in it;
 * any order is accepted.  The bytes count as hostile though a checksum stands before them: every
 * size is compared with what is left, and a count of elements never exceeds the bytes that would
 * hold them. */
#include "codec.h"

#include "base/tls.h"

enum wire { WIRE_VARINT, WIRE_TEXT, WIRE_BLOCK, WIRE_SEALED, WIRE_FIXED };

static const enum wire wires[] = {
    [STORE_STR] = WIRE_TEXT,   [STORE_BOOL] = WIRE_VARINT, [STORE_I32] = WIRE_VARINT,
    [STORE_U32] = WIRE_VARINT, [STORE_I64] = WIRE_VARINT,  [STORE_U64] = WIRE_VARINT,
    [STORE_TIME] = WIRE_FIXED, [STORE_ENUM] = WIRE_VARINT, [STORE_BYTES] = WIRE_TEXT,
    [STORE_STRS] = WIRE_BLOCK, [STORE_MAP] = WIRE_BLOCK,   [STORE_OBJ] = WIRE_BLOCK,
    [STORE_LIST] = WIRE_BLOCK,
};

/* --- encoding ------------------------------------------------------------------------------------
 */
static void put_varint(struct buf *out, uint64_t n)
{
    unsigned char raw[10];
    size_t len = 0;
    while (n >= 0x80) {
        raw[len++] = (unsigned char)(n | 0x80);
        n >>= 7;
    }
    raw[len++] = (unsigned char)n;
    buf_add(out, raw, len);
}

static uint64_t zigzag(int64_t n)
{
    return ((uint64_t)n << 1) ^ (uint64_t)(n >> 63);
}

static void put_tag(struct buf *out, const struct store_field *f, enum wire wire)
{
    put_varint(out, (uint64_t)f->number << 3 | (unsigned)wire);
}

static void put_number(struct buf *out, const struct store_field *f, uint64_t n)
{
    if (!n)
        return;
    put_tag(out, f, WIRE_VARINT);
    put_varint(out, n);
}

static void put_text(struct buf *out, struct sv s)
{
    put_varint(out, s.len);
    buf_add_sv(out, s);
    buf_add_c(out, '\0');
}

/* Leaves room for a block's size; block_end fills it in. */
static size_t block_begin(struct buf *out)
{
    buf_add_le(out, 0, 4);
    return out->len;
}

static void block_end(struct buf *out, size_t start)
{
    size_t size = out->failed ? 0 : out->len - start;
    if (out->failed || size > STORE_MAX_RECORD) {
        out->failed = true;
        return;
    }
    for (unsigned i = 0; i < 4; i++)
        out->data[start - 4 + i] = (char)(size >> (8 * i) & 0xff);
}

static void put_secret(struct buf *out, const struct store_field *f, struct sv plain,
                       const struct codec_seal *seal)
{
    put_tag(out, f, WIRE_SEALED);
    put_varint(out, plain.len + SEAL_OVERHEAD);
    if (!buf_reserve(out, plain.len + SEAL_OVERHEAD))
        return;
    if (!aead_seal(seal->key, seal->aad, plain, (unsigned char *)out->data + out->len)) {
        out->failed = true;
        return;
    }
    out->len += plain.len + SEAL_OVERHEAD;
    out->data[out->len] = '\0';
}

static void put_string(struct buf *out, const struct store_field *f, struct sv s,
                       const struct codec_seal *seal)
{
    if (!s.len)
        return;
    if (seal && f->flags & STORE_F_SECRET) {
        put_secret(out, f, s, seal);
        return;
    }
    put_tag(out, f, WIRE_TEXT);
    put_text(out, s);
}

static void put_strs(struct buf *out, const struct store_field *f, const struct store_strs *s)
{
    if (!s->v)
        return;
    put_tag(out, f, WIRE_BLOCK);
    size_t start = block_begin(out);
    put_varint(out, s->n);
    for (size_t i = 0; i < s->n; i++)
        put_text(out, sv_of(s->v[i]));
    block_end(out, start);
}

static void put_map(struct buf *out, const struct store_field *f, const struct store_map *m)
{
    if (!m->v)
        return;
    put_tag(out, f, WIRE_BLOCK);
    size_t start = block_begin(out);
    put_varint(out, m->n);
    for (size_t i = 0; i < m->n; i++) {
        put_text(out, sv_of(m->v[i].k));
        put_text(out, sv_of(m->v[i].v));
    }
    block_end(out, start);
}

static void put_obj(struct buf *out, const struct store_field *f, const void *record,
                    const struct codec_seal *seal)
{
    size_t before = out->len;
    put_tag(out, f, WIRE_BLOCK);
    size_t start = block_begin(out);
    codec_encode(f->rec(), record, seal, out);
    if (out->failed)
        return;
    if (out->len > start) {
        block_end(out, start);
        return;
    }
    out->len = before; /* nothing in it: leave it out */
    out->data[before] = '\0';
}

static void put_list(struct buf *out, const struct store_field *f, const struct record_list *l,
                     const struct codec_seal *seal)
{
    if (!l->v)
        return;
    const struct store_rec *rec = f->rec();
    put_tag(out, f, WIRE_BLOCK);
    size_t start = block_begin(out);
    put_varint(out, l->n);
    for (size_t i = 0; i < l->n; i++) {
        size_t element = block_begin(out);
        codec_encode(rec, (const char *)l->v + i * rec->size, seal, out);
        block_end(out, element);
    }
    block_end(out, start);
}

static void put_field(struct buf *out, const struct store_field *f, const void *record,
                      const struct codec_seal *seal)
{
    switch (f->kind) {
    case STORE_STR:
        put_string(out, f, sv_of(FIELD_CONST(record, f, const char *)), seal);
        break;
    case STORE_BYTES:
        put_string(out, f, FIELD_CONST(record, f, struct sv), seal);
        break;
    case STORE_BOOL:
        put_number(out, f, FIELD_CONST(record, f, bool));
        break;
    case STORE_I32:
        put_number(out, f, zigzag(FIELD_CONST(record, f, int32_t)));
        break;
    case STORE_U32:
    case STORE_ENUM:
        put_number(out, f, FIELD_CONST(record, f, uint32_t));
        break;
    case STORE_I64:
        put_number(out, f, zigzag(FIELD_CONST(record, f, int64_t)));
        break;
    case STORE_U64:
        put_number(out, f, FIELD_CONST(record, f, uint64_t));
        break;
    case STORE_TIME:
        if (FIELD_CONST(record, f, int64_t)) {
            put_tag(out, f, WIRE_FIXED);
            buf_add_le(out, FIELD_CONST(record, f, uint64_t), 8);
        }
        break;
    case STORE_STRS:
        put_strs(out, f, &FIELD_CONST(record, f, struct store_strs));
        break;
    case STORE_MAP:
        put_map(out, f, &FIELD_CONST(record, f, struct store_map));
        break;
    case STORE_OBJ:
        put_obj(out, f, &FIELD_CONST(record, f, char), seal);
        break;
    case STORE_LIST:
        put_list(out, f, &FIELD_CONST(record, f, struct record_list), seal);
        break;
    }
}

void codec_encode(const struct store_rec *rec, const void *record, const struct codec_seal *seal,
                  struct buf *out)
{
    for (size_t i = 0; i < rec->count; i++)
        put_field(out, &rec->fields[i], record, seal);
    const struct sv *unknown = (const void *)((const char *)record + rec->unknown_offset);
    buf_add_sv(out, *unknown);
}

void store_encode(const struct store_rec *rec, const void *record, struct buf *out)
{
    codec_encode(rec, record, NULL, out);
}

/* --- decoding ------------------------------------------------------------------------------------
 */
struct reader {
    const unsigned char *p, *end;
    const struct codec_seal *seal;
    struct arena *a;
};

static size_t left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}

static bool get_varint(struct reader *r, uint64_t *out)
{
    if (r->p < r->end && *r->p < 0x80) {
        *out = *r->p++;
        return true;
    }
    uint64_t n = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        unsigned char c = *r->p++;
        if (shift == 63 && c > 1)
            return false;
        n |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = n;
            return true;
        }
    }
    return false;
}

static uint64_t get_le(const unsigned char *p, unsigned bytes)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < bytes; i++)
        n |= (uint64_t)p[i] << (8 * i);
    return n;
}

static bool get_fixed(struct reader *r, unsigned bytes, uint64_t *out)
{
    if (left(r) < bytes)
        return false;
    *out = get_le(r->p, bytes);
    r->p += bytes;
    return true;
}

static bool get_text(struct reader *r, struct sv *out)
{
    uint64_t len;
    if (!get_varint(r, &len) || len >= left(r) || r->p[len] != '\0')
        return false;
    *out = sv_make(r->p, (size_t)len);
    r->p += len + 1;
    return true;
}

static bool get_bytes(struct reader *r, struct sv *out)
{
    uint64_t len;
    if (!get_varint(r, &len) || len > left(r))
        return false;
    *out = sv_make(r->p, (size_t)len);
    r->p += len;
    return true;
}

static bool get_block(struct reader *r, struct reader *inner)
{
    uint64_t size;
    if (!get_fixed(r, 4, &size) || size > left(r))
        return false;
    *inner = *r;
    inner->end = r->p + size;
    r->p = inner->end;
    return true;
}

/* A count of elements that take at least 'least' bytes each. */
static bool get_count(struct reader *r, size_t least, size_t *out)
{
    uint64_t n;
    if (!get_varint(r, &n) || n > left(r) / least)
        return false;
    *out = (size_t)n;
    return true;
}

static bool skip(struct reader *r, unsigned wire)
{
    uint64_t n;
    struct sv s;
    struct reader inner;
    switch (wire) {
    case WIRE_VARINT:
        return get_varint(r, &n);
    case WIRE_TEXT:
        return get_text(r, &s);
    case WIRE_BLOCK:
        return get_block(r, &inner);
    case WIRE_SEALED:
        return get_bytes(r, &s);
    case WIRE_FIXED:
        return get_fixed(r, 8, &n);
    default:
        return false;
    }
}

static bool get_strs(struct reader *r, struct store_strs *s)
{
    if (!get_count(r, 2, &s->n))
        return false;
    s->v = ARENA_ARRAY(r->a, const char *, s->n + 1);
    for (size_t i = 0; i < s->n; i++) {
        struct sv text;
        if (!get_text(r, &text))
            return false;
        s->v[i] = text.p;
    }
    return r->p == r->end;
}

static bool get_map(struct reader *r, struct store_map *m)
{
    if (!get_count(r, 4, &m->n))
        return false;
    m->v = ARENA_ARRAY(r->a, struct store_kv, m->n + 1);
    for (size_t i = 0; i < m->n; i++) {
        struct sv k, v;
        if (!get_text(r, &k) || !get_text(r, &v))
            return false;
        m->v[i] = (struct store_kv){k.p, v.p};
    }
    return r->p == r->end;
}

static bool get_fields(struct reader *r, const struct store_rec *rec, void *record,
                       const struct store_field **at);

static bool get_list(struct reader *r, const struct store_field *f, struct record_list *l,
                     const struct store_field **at)
{
    const struct store_rec *rec = f->rec();
    if (!get_count(r, 4, &l->n))
        return false;
    l->v = arena_alloc_array(r->a, l->n + 1, rec->size);
    for (size_t i = 0; i < l->n; i++) {
        struct reader inner;
        void *element = (char *)l->v + i * rec->size;
        store_init(rec, element);
        if (!get_block(r, &inner) || !get_fields(&inner, rec, element, at))
            return false;
    }
    return r->p == r->end;
}

static bool get_string(struct reader *r, const struct store_field *f, unsigned wire, struct sv *out)
{
    if (wire == WIRE_TEXT)
        return get_text(r, out);
    struct sv sealed;
    if (!(f->flags & STORE_F_SECRET) || !get_bytes(r, &sealed) || sealed.len < SEAL_OVERHEAD)
        return false;
    size_t len = sealed.len - SEAL_OVERHEAD;
    unsigned char *plain = arena_alloc(r->a, len + 1);
    *out = sv_make(plain, len);
    return aead_open(r->seal->key, r->seal->aad, sealed, plain);
}

static bool get_number(struct reader *r, const struct store_field *f, void *record)
{
    uint64_t n;
    if (!get_varint(r, &n))
        return false;
    int64_t sign = (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
    switch ((int)f->kind) {
    case STORE_BOOL:
        FIELD(record, f, bool) = n != 0;
        return n <= 1;
    case STORE_I32:
        FIELD(record, f, int32_t) = (int32_t)sign;
        return sign >= INT32_MIN && sign <= INT32_MAX;
    case STORE_I64:
        FIELD(record, f, int64_t) = sign;
        return true;
    case STORE_U64:
        FIELD(record, f, uint64_t) = n;
        return true;
    default: /* U32, ENUM */
        FIELD(record, f, uint32_t) = (uint32_t)n;
        return n <= UINT32_MAX;
    }
}

static bool get_block_field(struct reader *r, const struct store_field *f, void *record,
                            const struct store_field **at)
{
    struct reader inner;
    if (!get_block(r, &inner))
        return false;
    if (f->kind == STORE_STRS)
        return get_strs(&inner, &FIELD(record, f, struct store_strs));
    if (f->kind == STORE_MAP)
        return get_map(&inner, &FIELD(record, f, struct store_map));
    if (f->kind == STORE_LIST)
        return get_list(&inner, f, &FIELD(record, f, struct record_list), at);
    return get_fields(&inner, f->rec(), &FIELD(record, f, char), at);
}

static bool get_value(struct reader *r, const struct store_field *f, unsigned wire, void *record,
                      const struct store_field **at)
{
    struct sv s;
    if (wire != wires[f->kind] && wire != WIRE_SEALED)
        return false;
    switch (wire) {
    case WIRE_VARINT:
        return get_number(r, f, record);
    case WIRE_BLOCK:
        return get_block_field(r, f, record, at);
    case WIRE_FIXED:
        return get_fixed(r, 8, &FIELD(record, f, uint64_t));
    default: /* WIRE_TEXT, WIRE_SEALED */
        if (!get_string(r, f, wire, &s))
            return false;
        if (f->kind == STORE_STR)
            FIELD(record, f, const char *) = s.p;
        else if (f->kind == STORE_BYTES)
            FIELD(record, f, struct sv) = s;
        return true;
    }
}

/* The table's entry of a number; 'hint' is the place behind the last found, where it mostly is. */
static const struct store_field *look_up(const struct store_rec *rec, uint64_t number, size_t *hint)
{
    for (size_t n = 0, i = *hint; n < rec->count; n++, i++) {
        if (i >= rec->count)
            i = 0;
        if (rec->fields[i].number == number) {
            *hint = i + 1;
            return &rec->fields[i];
        }
    }
    return NULL;
}

/* Keeps a field that this version does not know: in place while they are neighbours, else joined in
 * one piece of memory that has room for all that this block can still hold. */
static void keep_unknown(struct reader *r, struct sv *unknown, const unsigned char *start,
                         char **joined)
{
    size_t size = (size_t)(r->p - start);
    if (!unknown->len) {
        *unknown = sv_make(start, size);
        return;
    }
    if (!*joined && unknown->p + unknown->len == (const char *)start) {
        unknown->len += size;
        return;
    }
    if (!*joined) {
        *joined = arena_alloc(r->a, unknown->len + (size_t)(r->end - start));
        memcpy(*joined, unknown->p, unknown->len);
        unknown->p = *joined;
    }
    memcpy(*joined + unknown->len, start, size);
    unknown->len += size;
}

static bool get_fields(struct reader *r, const struct store_rec *rec, void *record,
                       const struct store_field **at)
{
    size_t hint = 0;
    char *joined = NULL;
    struct sv *unknown = (void *)((char *)record + rec->unknown_offset);
    while (r->p < r->end) {
        const unsigned char *start = r->p;
        uint64_t tag;
        if (!get_varint(r, &tag))
            return false;
        unsigned wire = tag & 7;
        const struct store_field *f = look_up(rec, tag >> 3, &hint);
        if (f && !(wire == WIRE_SEALED && !r->seal)) {
            *at = f;
            if (!get_value(r, f, wire, record, at))
                return false;
        } else {
            if (!skip(r, wire))
                return false;
            keep_unknown(r, unknown, start, &joined);
        }
    }
    return true;
}

bool codec_decode(const struct store_rec *rec, struct sv bytes, const struct codec_seal *seal,
                  struct arena *a, void *record, struct vic_err *err)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    struct reader r = {p, p + bytes.len, seal, a};
    const struct store_field *at = NULL;
    store_init(rec, record);
    if (bytes.len > STORE_MAX_RECORD)
        return vic_fail(err, VIC_CORRUPT, 0, "%s record: %zu bytes are too many", rec->name,
                        bytes.len);
    if (bytes.len && !get_fields(&r, rec, record, &at))
        return vic_fail(err, VIC_CORRUPT, 0, "%s record: damaged at or behind field %s", rec->name,
                        at ? at->name : "(none)");
    return true;
}

bool store_decode(const struct store_rec *rec, struct sv bytes, struct arena *a, void *record,
                  struct vic_err *err)
{
    return codec_decode(rec, bytes, NULL, a, record, err);
}
