/* Looking things up in the generated tables: types, methods, enums by name (binary search over the
 * sorted indexes), fields and properties through the bases, values by field or by property path. */
#include "vsphere/soap.h"

#include <stdlib.h>

#include "vim_layout.h"

void *vim_new(struct arena *a, const struct vim_type *t)
{
    struct vim_object *o = arena_alloc(a, t->size);
    o->vim = t;
    return o;
}

bool vim_type_is(const struct vim_type *t, const struct vim_type *base)
{
    while (t && t != base)
        t = t->base;
    return t != NULL;
}

bool vim_managed_is(const struct vim_managed *m, const struct vim_managed *base)
{
    while (m && m != base)
        m = m->base;
    return m != NULL;
}

void *vim_cast(const struct vim_type *t, const void *o)
{
    const struct vim_object *object = o;
    if (!object || !vim_type_is(object->vim, t))
        return NULL;
    return (void *)(uintptr_t)o; /* constness is the caller's */
}

/* Capacity is the next power of two from 4 on, so it need not be stored. */
void *vim_grow(struct arena *a, void *array, size_t item_size)
{
    struct vim_array *arr = array;
    if (arr->n == 0 || (arr->n >= 4 && (arr->n & (arr->n - 1)) == 0)) {
        void *more = arena_alloc_array(a, arr->n ? arr->n * 2 : 4, item_size);
        if (arr->n)
            memcpy(more, arr->v, arr->n * item_size);
        arr->v = more;
    }
    return (char *)arr->v + arr->n++ * item_size;
}

/* Every descriptor begins with its name. */
static int compare_name(const void *key, const void *entry)
{
    const struct sv *name = key;
    return sv_cmp(*name, sv_of(**(const char *const *const *)entry));
}

#define FIND(kind, index)                                                                          \
    const struct vim_##kind *const *found =                                                        \
        bsearch(&name, vim_##index, vim_##index##_count, sizeof *vim_##index, compare_name);       \
    return found ? *found : NULL

const struct vim_type *vim_find_type(struct sv name)
{
    FIND(type, types);
}

const struct vim_enum *vim_find_enum(struct sv name)
{
    FIND(enum, enums);
}

const struct vim_method *vim_find_method(struct sv name)
{
    FIND(method, methods);
}

const struct vim_managed *vim_find_managed(struct sv name)
{
    FIND(managed, managed);
}

const struct vim_property *vim_find_property(const struct vim_managed *m, struct sv name)
{
    for (; m; m = m->base)
        for (unsigned i = 0; i < m->property_count; i++)
            if (sv_is(name, m->properties[i].name))
                return &m->properties[i];
    return NULL;
}

const struct vim_field *vim_find_field(const struct vim_type *t, struct sv name)
{
    for (; t; t = t->base)
        for (unsigned i = 0; i < t->field_count; i++)
            if (sv_is(name, t->fields[i].name))
                return &t->fields[i];
    return NULL;
}

const char *vim_enum_name(const struct vim_enum *e, int value)
{
    return value > 0 && (unsigned)value <= e->count ? e->values[value - 1] : NULL;
}

int vim_enum_value(const struct vim_enum *e, struct sv name)
{
    for (unsigned i = 0; i < e->count; i++)
        if (sv_is(name, e->values[i]))
            return (int)i + 1;
    return VIM_ENUM_OTHER;
}

bool vim_ref_eq(struct vim_ref a, struct vim_ref b)
{
    return sv_eq(sv_of(a.type), sv_of(b.type)) && sv_eq(sv_of(a.value), sv_of(b.value));
}

struct vim_ref vim_ref_parse(struct arena *a, const char *text)
{
    struct sv value = sv_of(text), type = sv_cut(&value, ':');
    if (!type.len || !value.len)
        return (struct vim_ref){0};
    return (struct vim_ref){arena_sv(a, type), arena_sv(a, value)};
}

size_t vim_item_size(enum vim_kind kind)
{
    static const uint8_t sizes[] = {
        [VIM_BOOL] = sizeof(bool),     [VIM_BYTE] = sizeof(int8_t),
        [VIM_SHORT] = sizeof(int16_t), [VIM_INT] = sizeof(int32_t),
        [VIM_LONG] = sizeof(int64_t),  [VIM_FLOAT] = sizeof(float),
        [VIM_DOUBLE] = sizeof(double), [VIM_STRING] = sizeof(char *),
        [VIM_TIME] = sizeof(int64_t),  [VIM_BINARY] = sizeof(struct sv),
        [VIM_ENUM] = sizeof(int),      [VIM_REF] = sizeof(struct vim_ref),
        [VIM_OBJECT] = sizeof(void *), [VIM_ANY] = sizeof(struct vim_any),
    };
    return sizes[kind];
}

/* What lies at 'p' as a value.  The declared type of an object is only its default. */
struct vim_any vim_load(enum vim_kind kind, const void *type, const void *p)
{
    struct vim_any any = {.kind = kind, .type = type};
    switch (kind) {
    case VIM_NONE:
        break;
    case VIM_BOOL:
        any.b = *(const bool *)p;
        break;
    case VIM_BYTE:
        any.i = *(const int8_t *)p;
        break;
    case VIM_SHORT:
        any.i = *(const int16_t *)p;
        break;
    case VIM_INT:
        any.i = *(const int32_t *)p;
        break;
    case VIM_LONG:
    case VIM_TIME:
        any.i = *(const int64_t *)p;
        break;
    case VIM_FLOAT:
        any.d = (double)*(const float *)p;
        break;
    case VIM_DOUBLE:
        any.d = *(const double *)p;
        break;
    case VIM_STRING:
        any.s = *(const char *const *)p;
        break;
    case VIM_BINARY:
        any.binary = *(const struct sv *)p;
        break;
    case VIM_ENUM:
        any.e = *(const int *)p;
        break;
    case VIM_REF:
        any.ref = *(const struct vim_ref *)p;
        break;
    case VIM_OBJECT:
        any.object = *(const struct vim_object *const *)p;
        break;
    case VIM_ANY:
        any = *(const struct vim_any *)p;
        break;
    }
    return any;
}

bool vim_is_absent(const struct vim_any *any)
{
    if (any->array)
        return any->items.n == 0;
    return any->kind == VIM_NONE || (any->kind == VIM_STRING && !any->s) ||
           (any->kind == VIM_BINARY && !any->binary.p) || (any->kind == VIM_ENUM && any->e == 0) ||
           (any->kind == VIM_REF && !any->ref.value) || (any->kind == VIM_OBJECT && !any->object);
}

struct vim_any vim_get(const struct vim_object *o, const struct vim_field *f)
{
    const char *at = (const char *)o + f->offset;
    struct vim_any any = {0};
    if (f->has && !*((const char *)o + f->has))
        return any;
    if (f->flags & VIM_ARRAY) {
        any = (struct vim_any){.kind = (enum vim_kind)f->kind, .array = true, .type = f->type};
        any.items = *(const struct vim_array *)(const void *)at;
    } else {
        any = vim_load((enum vim_kind)f->kind, f->type, at);
        if (f->kind == VIM_ANY)
            return any; /* an empty array is a value here */
    }
    return vim_is_absent(&any) ? (struct vim_any){0} : any;
}

/* Whether the item's field 'key' is 'key': text for text, decimal for numbers. */
static bool has_key(const struct vim_object *item, const struct vim_type *declared, struct sv key)
{
    const struct vim_field *f = vim_find_field(item->vim ? item->vim : declared, SV("key"));
    if (!f)
        return false;
    struct vim_any any = vim_get(item, f);
    int64_t n;
    if (any.kind == VIM_STRING)
        return sv_is(key, any.s);
    return (any.kind == VIM_INT || any.kind == VIM_LONG) && sv_to_i64(key, &n) && n == any.i;
}

/* "[4000]" or "[\"a.b\"]" at the head of 'path'. */
static bool take_index(struct sv *path, struct sv *key)
{
    bool quoted = path->len > 1 && path->p[1] == '"';
    size_t from = quoted ? 2 : 1, at = from;
    while (at < path->len && path->p[at] != (quoted ? '"' : ']'))
        at++;
    *key = sv_sub(*path, from, at - from);
    at += quoted;
    if (at >= path->len || path->p[at] != ']')
        return false;
    *path = sv_sub(*path, at + 1, path->len);
    return true;
}

static struct vim_any find_item(const struct vim_any *array, struct sv key)
{
    if (array->kind == VIM_OBJECT)
        for (size_t i = 0; i < array->items.n; i++) {
            const struct vim_object *item = ((struct vim_object **)array->items.v)[i];
            if (item && has_key(item, array->type, key))
                return (struct vim_any){.kind = VIM_OBJECT, .type = array->type, .object = item};
        }
    return (struct vim_any){0};
}

bool vim_path(struct vim_any root, struct sv path, struct vim_any *out)
{
    *out = root;
    while (path.len) {
        struct sv key;
        if (path.p[0] == '[') {
            if (!take_index(&path, &key) || (out->kind != VIM_NONE && !out->array))
                return false;
            *out = find_item(out, key);
            continue;
        }
        if (path.p[0] == '.')
            path = sv_sub(path, 1, path.len);
        size_t len = 0;
        while (len < path.len && path.p[len] != '.' && path.p[len] != '[')
            len++;
        if (out->kind == VIM_NONE)
            return true; /* absent above: absent below */
        const struct vim_type *t = out->kind == VIM_OBJECT && !out->array && out->object
                                       ? (out->object->vim ? out->object->vim : out->type)
                                       : NULL;
        const struct vim_field *f = t ? vim_find_field(t, sv_sub(path, 0, len)) : NULL;
        if (!f)
            return false;
        *out = vim_get(out->object, f);
        path = sv_sub(path, len, path.len);
    }
    return true;
}
