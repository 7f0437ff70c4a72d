/* Records as JSON, both ways, by their tables.
 *
 * Reading follows Go's encoding/json as Docker's clients expect it of dockerd: names match without
 * regard to case, what is absent or null keeps its value, unknown members are passed over, a null
 * element is an empty one.  A failure names the member by its path, which is a chain on the stack:
 * nothing is built unless something is wrong. */
#include "base/clock.h"
#include "base/mem.h"

#include "codec.h"

/* --- reading -------------------------------------------------------------------------------------
 */
struct path {
    const struct path *up;
    const char *name; /* or an element's index */
    size_t index;
};

struct from {
    struct arena *a;
    struct vic_err *err;
    bool with_api;
};

static void add_path(struct buf *out, const struct path *p)
{
    if (p->up)
        add_path(out, p->up);
    if (!p->name)
        buf_addf(out, "[%zu]", p->index);
    else
        buf_addf(out, "%s%s", out->len ? "." : "", p->name);
}

static bool expected(struct from *c, const struct path *p, const char *what)
{
    AUTO_BUF struct buf path = {0};
    if (p)
        add_path(&path, p);
    return vic_fail(c->err, VIC_INVALID, 0, "%s%sexpected %s", buf_str(&path), p ? ": " : "", what);
}

static bool in_table(const struct store_field *f, bool with_api)
{
    return !(f->flags & STORE_F_SECRET) && (with_api || !(f->flags & STORE_F_API));
}

static const char *name_of(const struct store_field *f)
{
    return *f->json ? f->json : f->name;
}

static bool from_members(struct from *c, const struct store_rec *rec, struct json_val v,
                         const struct path *up, void *record);

static bool from_string(struct from *c, struct json_val v, const struct path *p, const char **out)
{
    const char *s;
    if (!json_read_str(v, &s))
        return expected(c, p, "a string");
    *out = arena_strdup(c->a, s);
    return true;
}

static bool from_strs(struct from *c, struct json_val v, const struct path *up,
                      struct store_strs *out)
{
    if (json_type(v) != JSON_ARRAY)
        return expected(c, up, "an array of strings");
    struct store_strs s = {ARENA_ARRAY(c->a, const char *, json_count(v) + 1), 0};
    for (struct json_iter i = json_iter(v); json_next(&i); s.n++) {
        struct path p = {up, NULL, s.n};
        s.v[s.n] = "";
        if (json_present(i.val) && !from_string(c, i.val, &p, &s.v[s.n]))
            return false;
    }
    *out = s;
    return true;
}

/* The entry of a key: a repeated one is overwritten, as in Go. */
static struct store_kv *map_entry(struct store_map *m, const char *key)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->v[i].k, key) == 0)
            return &m->v[i];
    return &m->v[m->n++];
}

static bool from_map(struct from *c, struct json_val v, const struct path *up,
                     struct store_map *out)
{
    if (json_type(v) != JSON_OBJECT)
        return expected(c, up, "an object of strings");
    if (json_count(v) > STORE_MAX_MAP)
        return expected(c, up, "at most 4096 members");
    struct store_map m = {ARENA_ARRAY(c->a, struct store_kv, json_count(v) + 1), 0};
    for (struct json_iter i = json_iter(v); json_next(&i);) {
        struct path p = {up, i.key.p, 0};
        const char *key = arena_sv(c->a, i.key), *value = "";
        if (json_present(i.val) && !from_string(c, i.val, &p, &value))
            return false;
        *map_entry(&m, key) = (struct store_kv){key, value};
    }
    *out = m;
    return true;
}

static bool from_list(struct from *c, const struct store_rec *rec, struct json_val v,
                      const struct path *up, struct record_list *out)
{
    if (json_type(v) != JSON_ARRAY)
        return expected(c, up, "an array of objects");
    struct record_list l = {arena_alloc_array(c->a, json_count(v) + 1, rec->size), 0};
    for (struct json_iter i = json_iter(v); json_next(&i); l.n++) {
        struct path p = {up, NULL, l.n};
        void *element = (char *)l.v + l.n * rec->size;
        store_init(rec, element);
        if (json_present(i.val) && !from_members(c, rec, i.val, &p, element))
            return false;
    }
    *out = l;
    return true;
}

static bool from_number(struct from *c, const struct store_field *f, struct json_val v,
                        const struct path *p, void *record)
{
    int64_t n = 0;
    if (f->kind == STORE_U64)
        return json_read_u64(v, &FIELD(record, f, uint64_t)) || expected(c, p, "a number from 0");
    if (!json_read_i64(v, &n))
        return expected(c, p, "a number");
    if (f->kind == STORE_I64) {
        FIELD(record, f, int64_t) = n;
    } else if (f->kind == STORE_U32) {
        if (n < 0 || n > UINT32_MAX)
            return expected(c, p, "a number from 0 to 4294967295");
        FIELD(record, f, uint32_t) = (uint32_t)n;
    } else { /* I32 */
        if (n < INT32_MIN || n > INT32_MAX)
            return expected(c, p, "a number of 32 bits");
        FIELD(record, f, int32_t) = (int32_t)n;
    }
    return true;
}

static bool from_enum(struct from *c, const struct store_field *f, struct json_val v,
                      const struct path *p, void *record)
{
    struct sv text;
    unsigned n;
    if (json_read_sv(v, &text) && f->enum_parse(text, &n)) {
        FIELD(record, f, uint32_t) = n;
        return true;
    }
    AUTO_BUF struct buf names = {0};
    buf_add_str(&names, "one of");
    for (n = 0; f->enum_text(n); n++)
        buf_addf(&names, " %s", f->enum_text(n));
    return expected(c, p, buf_str(&names));
}

static bool from_bytes(struct from *c, struct json_val v, const struct path *p, struct sv *out)
{
    struct sv text;
    if (!json_read_sv(v, &text))
        return expected(c, p, "a string of base64");
    char *bytes = arena_alloc(c->a, text.len * 3 / 4 + 4);
    ptrdiff_t len = base64_decode(text, bytes);
    if (len < 0)
        return expected(c, p, "a string of base64");
    *out = sv_make(bytes, (size_t)len);
    return true;
}

static bool from_field(struct from *c, const struct store_field *f, struct json_val v,
                       const struct path *p, void *record)
{
    struct sv text;
    switch (f->kind) {
    case STORE_STR:
        return from_string(c, v, p, &FIELD(record, f, const char *));
    case STORE_BOOL:
        return json_read_bool(v, &FIELD(record, f, bool)) || expected(c, p, "true or false");
    case STORE_I32:
    case STORE_U32:
    case STORE_I64:
    case STORE_U64:
        return from_number(c, f, v, p, record);
    case STORE_TIME:
        return (json_read_sv(v, &text) && rfc3339_parse(text, &FIELD(record, f, int64_t))) ||
               expected(c, p, "a time as of RFC 3339");
    case STORE_ENUM:
        return from_enum(c, f, v, p, record);
    case STORE_BYTES:
        return from_bytes(c, v, p, &FIELD(record, f, struct sv));
    case STORE_STRS:
        return from_strs(c, v, p, &FIELD(record, f, struct store_strs));
    case STORE_MAP:
        return from_map(c, v, p, &FIELD(record, f, struct store_map));
    case STORE_OBJ:
        return from_members(c, f->rec(), v, p, &FIELD(record, f, char));
    case STORE_LIST:
        return from_list(c, f->rec(), v, p, &FIELD(record, f, struct record_list));
    }
    return false;
}

static bool from_members(struct from *c, const struct store_rec *rec, struct json_val v,
                         const struct path *up, void *record)
{
    if (json_type(v) != JSON_OBJECT)
        return expected(c, up, "an object");
    for (size_t i = 0; i < rec->count; i++) {
        const struct store_field *f = &rec->fields[i];
        if (!in_table(f, c->with_api))
            continue;
        struct path p = {up, name_of(f), 0};
        struct json_val member = json_get_nocase(v, name_of(f));
        if (json_present(member) && !from_field(c, f, member, &p, record))
            return false;
    }
    return true;
}

bool store_from_json(const struct store_rec *rec, struct json_val v, bool with_api, struct arena *a,
                     void *record, struct vic_err *err)
{
    struct from c = {a, err, with_api};
    return from_members(&c, rec, v, NULL, record);
}

/* --- writing -------------------------------------------------------------------------------------
 */
static void to_strs(const struct store_strs *s, struct json_writer *w, const char *key)
{
    if (!s->v) {
        json_add_null(w, key);
        return;
    }
    json_open(w, key, '[');
    for (size_t i = 0; i < s->n; i++)
        json_add_sv(w, NULL, sv_of(s->v[i]));
    json_close(w, ']');
}

static void to_map(const struct store_map *m, struct json_writer *w, const char *key)
{
    if (!m->v) {
        json_add_null(w, key);
        return;
    }
    json_open(w, key, '{');
    for (size_t i = 0; i < m->n; i++)
        json_add_sv(w, m->v[i].k ? m->v[i].k : "", sv_of(m->v[i].v));
    json_close(w, '}');
}

static void to_list(const struct store_rec *rec, const struct record_list *l, bool with_api,
                    struct json_writer *w, const char *key)
{
    if (!l->v) {
        json_add_null(w, key);
        return;
    }
    json_open(w, key, '[');
    for (size_t i = 0; i < l->n; i++)
        store_to_json(rec, (const char *)l->v + i * rec->size, with_api, w, NULL);
    json_close(w, ']');
}

static void to_bytes(struct sv s, struct json_writer *w, const char *key)
{
    AUTO_FREE char *text = xmalloc((s.len + 2) / 3 * 4 + 1);
    base64_encode(s.p, s.len, text);
    json_add_str(w, key, text);
}

static void to_enum(const struct store_field *f, const void *record, struct json_writer *w,
                    const char *key)
{
    unsigned v = FIELD_CONST(record, f, uint32_t);
    if (f->enum_text(v))
        json_add_str(w, key, f->enum_text(v));
    else
        json_add_u64(w, key, v); /* of a newer version */
}

static void to_field(const struct store_field *f, const void *record, bool with_api,
                     struct json_writer *w)
{
    const char *key = name_of(f);
    switch (f->kind) {
    case STORE_STR:
        json_add_sv(w, key, sv_of(FIELD_CONST(record, f, const char *)));
        break;
    case STORE_BOOL:
        json_add_bool(w, key, FIELD_CONST(record, f, bool));
        break;
    case STORE_I32:
        json_add_i64(w, key, FIELD_CONST(record, f, int32_t));
        break;
    case STORE_U32:
        json_add_u64(w, key, FIELD_CONST(record, f, uint32_t));
        break;
    case STORE_I64:
        json_add_i64(w, key, FIELD_CONST(record, f, int64_t));
        break;
    case STORE_U64:
        json_add_u64(w, key, FIELD_CONST(record, f, uint64_t));
        break;
    case STORE_TIME:
        json_add_time(w, key, FIELD_CONST(record, f, int64_t));
        break;
    case STORE_ENUM:
        to_enum(f, record, w, key);
        break;
    case STORE_BYTES:
        to_bytes(FIELD_CONST(record, f, struct sv), w, key);
        break;
    case STORE_STRS:
        to_strs(&FIELD_CONST(record, f, struct store_strs), w, key);
        break;
    case STORE_MAP:
        to_map(&FIELD_CONST(record, f, struct store_map), w, key);
        break;
    case STORE_OBJ:
        store_to_json(f->rec(), &FIELD_CONST(record, f, char), with_api, w, key);
        break;
    case STORE_LIST:
        to_list(f->rec(), &FIELD_CONST(record, f, struct record_list), with_api, w, key);
        break;
    }
}

void store_members_to_json(const struct store_rec *rec, const void *record, bool with_api,
                           struct json_writer *w)
{
    for (size_t i = 0; i < rec->count; i++)
        if (in_table(&rec->fields[i], with_api))
            to_field(&rec->fields[i], record, with_api, w);
}

void store_to_json(const struct store_rec *rec, const void *record, bool with_api,
                   struct json_writer *w, const char *key)
{
    json_open(w, key, '{');
    store_members_to_json(rec, record, with_api, w);
    json_close(w, '}');
}
