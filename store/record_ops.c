/* Work on whole records by their tables: an empty one, a copy, comparison, the differences. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

#include "codec.h"

static void init_strings(const struct store_rec *rec, void *record)
{
    for (const struct store_field *f = rec->fields, *end = f + rec->count; f < end; f++) {
        if (f->kind == STORE_STR)
            FIELD(record, f, const char *) = "";
        else if (f->kind == STORE_OBJ)
            init_strings(f->rec(), &FIELD(record, f, char));
    }
}

void store_init(const struct store_rec *rec, void *record)
{
    memset(record, 0, rec->size);
    init_strings(rec, record);
}

/* --- copying -------------------------------------------------------------------------------------
 */
static struct sv copy_bytes(struct sv s, struct arena *a)
{
    return s.p ? sv_make(arena_sv(a, s), s.len) : s;
}

static void copy_strs(struct store_strs *s, struct arena *a)
{
    if (!s->v)
        return;
    const char **v = ARENA_ARRAY(a, const char *, s->n + 1);
    for (size_t i = 0; i < s->n; i++)
        v[i] = arena_strdup(a, s->v[i] ? s->v[i] : "");
    s->v = v;
}

static void copy_map(struct store_map *m, struct arena *a)
{
    if (!m->v)
        return;
    struct store_kv *v = ARENA_ARRAY(a, struct store_kv, m->n + 1);
    for (size_t i = 0; i < m->n; i++)
        v[i] = (struct store_kv){arena_strdup(a, m->v[i].k ? m->v[i].k : ""),
                                 arena_strdup(a, m->v[i].v ? m->v[i].v : "")};
    m->v = v;
}

static void copy_list(const struct store_rec *rec, struct record_list *l, struct arena *a)
{
    if (!l->v)
        return;
    char *v = arena_alloc_array(a, l->n + 1, rec->size);
    for (size_t i = 0; i < l->n; i++)
        store_copy(rec, (const char *)l->v + i * rec->size, v + i * rec->size, a);
    l->v = v;
}

/* Makes what the field borrows the arena's. */
static void own_field(const struct store_field *f, void *record, struct arena *a)
{
    switch (f->kind) {
    case STORE_STR: {
        const char *s = FIELD(record, f, const char *);
        FIELD(record, f, const char *) = s && *s ? arena_strdup(a, s) : "";
        break;
    }
    case STORE_BYTES:
        FIELD(record, f, struct sv) = copy_bytes(FIELD(record, f, struct sv), a);
        break;
    case STORE_STRS:
        copy_strs(&FIELD(record, f, struct store_strs), a);
        break;
    case STORE_MAP:
        copy_map(&FIELD(record, f, struct store_map), a);
        break;
    case STORE_OBJ: {
        void *inner = &FIELD(record, f, char);
        store_copy(f->rec(), inner, inner, a);
        break;
    }
    case STORE_LIST:
        copy_list(f->rec(), &FIELD(record, f, struct record_list), a);
        break;
    case STORE_BOOL:
    case STORE_I32:
    case STORE_U32:
    case STORE_I64:
    case STORE_U64:
    case STORE_TIME:
    case STORE_ENUM:
        break;
    }
}

void store_copy(const struct store_rec *rec, const void *from, void *to, struct arena *a)
{
    if (from != to)
        memcpy(to, from, rec->size);
    for (size_t i = 0; i < rec->count; i++)
        own_field(&rec->fields[i], to, a);
    struct sv *unknown = (void *)((char *)to + rec->unknown_offset);
    *unknown = copy_bytes(*unknown, a);
}

/* --- comparing -----------------------------------------------------------------------------------
 */
static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_strs(const struct store_strs *a, const struct store_strs *b)
{
    if (a->n != b->n || !a->v != !b->v)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!same_text(a->v[i], b->v[i]))
            return false;
    return true;
}

static bool same_map(const struct store_map *a, const struct store_map *b)
{
    if (a->n != b->n || !a->v != !b->v)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!same_text(a->v[i].k, b->v[i].k) || !same_text(a->v[i].v, b->v[i].v))
            return false;
    return true;
}

static bool same_list(const struct store_rec *rec, const struct record_list *a,
                      const struct record_list *b)
{
    if (a->n != b->n || !a->v != !b->v)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!store_equal(rec, (const char *)a->v + i * rec->size,
                         (const char *)b->v + i * rec->size))
            return false;
    return true;
}

static bool same_field(const struct store_field *f, const void *a, const void *b)
{
    switch (f->kind) {
    case STORE_STR:
        return same_text(FIELD_CONST(a, f, const char *), FIELD_CONST(b, f, const char *));
    case STORE_BYTES:
        return sv_eq(FIELD_CONST(a, f, struct sv), FIELD_CONST(b, f, struct sv));
    case STORE_BOOL:
        return FIELD_CONST(a, f, bool) == FIELD_CONST(b, f, bool);
    case STORE_I32:
    case STORE_U32:
    case STORE_ENUM:
        return FIELD_CONST(a, f, uint32_t) == FIELD_CONST(b, f, uint32_t);
    case STORE_I64:
    case STORE_U64:
    case STORE_TIME:
        return FIELD_CONST(a, f, uint64_t) == FIELD_CONST(b, f, uint64_t);
    case STORE_STRS:
        return same_strs(&FIELD_CONST(a, f, struct store_strs),
                         &FIELD_CONST(b, f, struct store_strs));
    case STORE_MAP:
        return same_map(&FIELD_CONST(a, f, struct store_map), &FIELD_CONST(b, f, struct store_map));
    case STORE_OBJ:
        return store_equal(f->rec(), &FIELD_CONST(a, f, char), &FIELD_CONST(b, f, char));
    case STORE_LIST:
        return same_list(f->rec(), &FIELD_CONST(a, f, struct record_list),
                         &FIELD_CONST(b, f, struct record_list));
    }
    return false;
}

bool store_equal(const struct store_rec *rec, const void *a, const void *b)
{
    for (size_t i = 0; i < rec->count; i++)
        if (!same_field(&rec->fields[i], a, b))
            return false;
    return sv_eq(*(const struct sv *)(const void *)((const char *)a + rec->unknown_offset),
                 *(const struct sv *)(const void *)((const char *)b + rec->unknown_offset));
}

/* --- differences ---------------------------------------------------------------------------------
 */
struct differ {
    store_each_diff each;
    void *arg;
    char path[STORE_PATH_SIZE];
    struct buf before, after;
    bool more;
};

static void add_strs(struct buf *out, const struct store_strs *s)
{
    for (size_t i = 0; i < s->n; i++)
        buf_addf(out, "%s%s", i ? " " : "", s->v[i] ? s->v[i] : "");
}

static void add_map(struct buf *out, const struct store_map *m)
{
    for (size_t i = 0; i < m->n; i++)
        buf_addf(out, "%s%s=%s", i ? " " : "", m->v[i].k ? m->v[i].k : "",
                 m->v[i].v ? m->v[i].v : "");
}

static void add_number(struct buf *out, const struct store_field *f, const void *record)
{
    char text[RFC3339_SIZE];
    if (f->kind == STORE_BOOL)
        buf_add_str(out, FIELD_CONST(record, f, bool) ? "true" : "false");
    else if (f->kind == STORE_I32)
        buf_add_i64(out, FIELD_CONST(record, f, int32_t));
    else if (f->kind == STORE_U32)
        buf_add_u64(out, FIELD_CONST(record, f, uint32_t));
    else if (f->kind == STORE_U64)
        buf_add_u64(out, FIELD_CONST(record, f, uint64_t));
    else if (f->kind == STORE_I64)
        buf_add_i64(out, FIELD_CONST(record, f, int64_t));
    else if (FIELD_CONST(record, f, int64_t)) /* TIME */
        buf_add_str(out, rfc3339(FIELD_CONST(record, f, int64_t), 9, true, text));
}

/* A field as text for people, in one line; an object and a list are not asked for. */
static void add_text(struct buf *out, const struct store_field *f, const void *record)
{
    if (f->flags & STORE_F_SECRET)
        buf_add_str(out, "(secret)");
    else if (f->kind == STORE_STR)
        buf_add_sv(out, sv_of(FIELD_CONST(record, f, const char *)));
    else if (f->kind == STORE_BYTES)
        buf_addf(out, "%zu bytes", FIELD_CONST(record, f, struct sv).len);
    else if (f->kind == STORE_STRS)
        add_strs(out, &FIELD_CONST(record, f, struct store_strs));
    else if (f->kind == STORE_MAP)
        add_map(out, &FIELD_CONST(record, f, struct store_map));
    else if (f->kind == STORE_ENUM && f->enum_text(FIELD_CONST(record, f, uint32_t)))
        buf_add_str(out, f->enum_text(FIELD_CONST(record, f, uint32_t)));
    else if (f->kind == STORE_ENUM)
        buf_add_u64(out, FIELD_CONST(record, f, uint32_t));
    else
        add_number(out, f, record);
}

static void diff_records(struct differ *d, const struct store_rec *rec, const void *a,
                         const void *b);

/* Elements are named by their type where they have one: Conditions[Ready]. */
static void push_element(struct differ *d, const struct store_rec *rec, const void *element,
                         size_t i)
{
    size_t len = strlen(d->path);
    const struct store_field *f = &rec->fields[0];
    const char *label = f->kind == STORE_STR ? FIELD_CONST(element, f, const char *) : NULL;
    if (label && *label)
        snprintf(d->path + len, sizeof d->path - len, "[%s]", label);
    else
        snprintf(d->path + len, sizeof d->path - len, "[%zu]", i);
}

static void diff_lists(struct differ *d, const struct store_rec *rec, const struct record_list *a,
                       const struct record_list *b)
{
    AUTO_FREE void *empty = xcalloc(1, rec->size);
    size_t n = a->n > b->n ? a->n : b->n, len = strlen(d->path);
    for (size_t i = 0; i < n && d->more; i++) {
        const void *x = i < a->n ? (const char *)a->v + i * rec->size : empty;
        const void *y = i < b->n ? (const char *)b->v + i * rec->size : empty;
        push_element(d, rec, i < b->n ? y : x, i);
        diff_records(d, rec, x, y);
        d->path[len] = '\0';
    }
}

static void diff_field(struct differ *d, const struct store_field *f, const void *a, const void *b)
{
    if (f->kind == STORE_OBJ) {
        diff_records(d, f->rec(), &FIELD_CONST(a, f, char), &FIELD_CONST(b, f, char));
    } else if (f->kind == STORE_LIST) {
        diff_lists(d, f->rec(), &FIELD_CONST(a, f, struct record_list),
                   &FIELD_CONST(b, f, struct record_list));
    } else {
        buf_reset(&d->before);
        buf_reset(&d->after);
        add_text(&d->before, f, a);
        add_text(&d->after, f, b);
        d->more = d->each(d->arg, d->path, buf_str(&d->before), buf_str(&d->after));
    }
}

static void push_name(struct differ *d, size_t len, const char *name)
{
    size_t room = sizeof d->path - 1 - len;
    if (room < 2)
        return; /* a path that is cut off stays so */
    struct sv s = sv_sub(sv_of(name), 0, room - 1);
    if (len)
        d->path[len++] = '.';
    memcpy(d->path + len, s.p, s.len);
    d->path[len + s.len] = '\0';
}

static void diff_records(struct differ *d, const struct store_rec *rec, const void *a,
                         const void *b)
{
    size_t len = strlen(d->path);
    for (size_t i = 0; i < rec->count && d->more; i++) {
        const struct store_field *f = &rec->fields[i];
        if (same_field(f, a, b))
            continue;
        push_name(d, len, *f->json ? f->json : f->name);
        diff_field(d, f, a, b);
        d->path[len] = '\0';
    }
}

void store_diff(const struct store_rec *rec, const void *a, const void *b, store_each_diff each,
                void *arg)
{
    struct differ d = {.each = each, .arg = arg, .more = true};
    diff_records(&d, rec, a, b);
    buf_fini(&d.before);
    buf_fini(&d.after);
}
