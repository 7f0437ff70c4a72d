/* What differs between two values: for filters with partialUpdates.  Objects of one type are
 * compared field by field; arrays whose items have a key, item by item, as add, remove and assign
 * of "path[key]"; all else is one assign. */
#include "pc.h"

static bool same_text(const struct vim_any *x, const struct vim_any *y)
{
    AUTO_BUF struct buf a = {0};
    AUTO_BUF struct buf b = {0};
    soap_write_any(&a, "v", x);
    soap_write_any(&b, "v", y);
    return sv_eq(buf_sv(&a), buf_sv(&b));
}

static const struct vim_object *object_of(const struct vim_any *v)
{
    return v->kind == VIM_OBJECT && !v->array ? v->object : NULL;
}

/* Descends into two objects of one type; false when they are not that. */
static bool diff_object(struct arena *a, const char *path, const struct vim_any *old,
                        const struct vim_any *now, vh_diff_emit emit, void *arg)
{
    const struct vim_object *x = object_of(old), *y = object_of(now);
    if (!x || !y)
        return false;
    const struct vim_type *tx = x->vim ? x->vim : old->type, *ty = y->vim ? y->vim : now->type;
    if (tx != ty)
        return false;
    for (const struct vim_type *t = ty; t; t = t->base)
        for (unsigned i = 0; i < t->field_count; i++) {
            struct vim_any fx = vim_get(x, &t->fields[i]), fy = vim_get(y, &t->fields[i]);
            vh_diff(a, arena_printf(a, "%s.%s", path, t->fields[i].name), &fx, &fy, emit, arg);
        }
    return true;
}

/* "path[key]" of an item; NULL when items have no key. */
static const char *item_path(struct arena *a, const char *path, const struct vim_any *array,
                             size_t i)
{
    const struct vim_object *item = ((struct vim_object *const *)array->items.v)[i];
    const struct vim_type *t = item->vim ? item->vim : array->type;
    const struct vim_field *f = vim_find_field(t, SV("key"));
    struct vim_any key = f ? vim_get(item, f) : (struct vim_any){0};
    if (key.kind == VIM_STRING)
        return arena_printf(a, "%s[\"%s\"]", path, key.s);
    if (key.kind == VIM_INT || key.kind == VIM_LONG)
        return arena_printf(a, "%s[%lld]", path, (long long)key.i);
    return NULL;
}

static struct vim_any item_at(const struct vim_any *array, size_t i)
{
    return (struct vim_any){.kind = VIM_OBJECT,
                            .type = array->type,
                            .object = ((struct vim_object *const *)array->items.v)[i]};
}

static bool find_path(struct arena *a, const char *path, const struct vim_any *array,
                      const char *wanted, size_t *at)
{
    for (*at = 0; *at < array->items.n; ++*at) {
        const char *p = item_path(a, path, array, *at);
        if (p && !strcmp(p, wanted))
            return true;
    }
    return false;
}

static bool diff_keyed(struct arena *a, const char *path, const struct vim_any *old,
                       const struct vim_any *now, vh_diff_emit emit, void *arg)
{
    if (!old->array || !now->array || old->kind != VIM_OBJECT || now->kind != VIM_OBJECT ||
        !old->items.n || !now->items.n || !item_path(a, path, old, 0) ||
        !item_path(a, path, now, 0))
        return false;
    size_t at;
    for (size_t i = 0; i < old->items.n; i++) {
        const char *p = item_path(a, path, old, i);
        if (p && !find_path(a, path, now, p, &at))
            emit(arg, p, vim_PropertyChangeOp_remove);
    }
    for (size_t i = 0; i < now->items.n; i++) {
        const char *p = item_path(a, path, now, i);
        struct vim_any y = item_at(now, i);
        if (p && !find_path(a, path, old, p, &at)) {
            emit(arg, p, vim_PropertyChangeOp_add);
        } else if (p) {
            struct vim_any x = item_at(old, at);
            if (!same_text(&x, &y))
                emit(arg, p, vim_PropertyChangeOp_assign);
        }
    }
    return true;
}

void vh_diff(struct arena *a, const char *path, const struct vim_any *old,
             const struct vim_any *now, vh_diff_emit emit, void *arg)
{
    if (same_text(old, now))
        return;
    if (!diff_object(a, path, old, now, emit, arg) && !diff_keyed(a, path, old, now, emit, arg))
        emit(arg, path, vim_PropertyChangeOp_assign);
}
