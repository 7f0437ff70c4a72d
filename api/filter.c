/* Docker's filters: {"label":["a=b"],"status":["running"]}, or the older form
 * {"label":{"a=b":true}} that Go's client still sends.  Values of one key are alternatives, keys
 * must all hold; of labels all must match. */
#include "api_priv.h"

enum { MAX_KEYS = 32, MAX_VALUES = 1024 };

static bool is_allowed(const char *const *allowed, const char *key)
{
    for (; *allowed; allowed++)
        if (strcmp(*allowed, key) == 0)
            return true;
    return false;
}

static bool not_a_filter(struct vic_err *err)
{
    return vic_fail(err, VIC_INVALID, 0, "invalid filter");
}

static bool read_values(struct json_val v, struct arena *a, struct store_strs *out,
                        struct vic_err *err)
{
    enum json_type type = json_type(v);
    if ((type != JSON_ARRAY && type != JSON_OBJECT) || json_count(v) > MAX_VALUES)
        return not_a_filter(err);
    *out = (struct store_strs){ARENA_ARRAY(a, const char *, json_count(v) + 1), 0};
    for (struct json_iter i = json_iter(v); json_next(&i);) {
        const char *text = NULL;
        if (type == JSON_OBJECT)
            text = arena_sv(a, i.key);
        else if (!json_read_str(i.val, &text))
            return not_a_filter(err);
        out->v[out->n++] = text;
    }
    return true;
}

bool filters_parse(struct sv text, const char *const *allowed, struct arena *a, struct filters *out,
                   struct vic_err *err)
{
    struct json_val v;
    *out = (struct filters){0};
    if (!sv_trim(text).len)
        return true;
    if (!json_parse(text, 0, a, &v, NULL))
        return not_a_filter(err);
    if (!json_present(v))
        return true;
    if (json_type(v) != JSON_OBJECT || json_count(v) > MAX_KEYS)
        return not_a_filter(err);
    out->v = arena_alloc_array(a, json_count(v) + 1, sizeof *out->v);
    for (struct json_iter i = json_iter(v); json_next(&i);) {
        const char *key = arena_sv(a, i.key);
        if (!is_allowed(allowed, key))
            return vic_fail(err, VIC_INVALID, 0, "invalid filter '%.64s'", key);
        if (!read_values(i.val, a, &out->v[out->n].values, err))
            return false;
        out->v[out->n++].key = key;
    }
    return true;
}

bool filters_read(struct call *c, const char *const *allowed, struct filters *out)
{
    return filters_parse(sv_of(call_query(c, "filters")), allowed, c->a, out, &c->err);
}

struct store_strs filter_values(const struct filters *f, const char *key)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->v[i].key, key) == 0)
            return f->v[i].values;
    return (struct store_strs){NULL, 0};
}

bool filter_has(const struct filters *f, const char *key, const char *value)
{
    struct store_strs s = filter_values(f, key);
    for (size_t i = 0; i < s.n; i++)
        if (strcmp(s.v[i], value) == 0)
            return true;
    return false;
}

static bool label_matches(const char *want, const struct store_map *labels)
{
    struct sv value = sv_of(want), key = sv_cut(&value, '=');
    for (size_t i = 0; i < labels->n; i++)
        if (sv_is(key, labels->v[i].k))
            return !value.p || sv_is(value, labels->v[i].v);
    return false;
}

bool filter_labels(const struct filters *f, const struct store_map *labels)
{
    struct store_strs must = filter_values(f, "label"), not = filter_values(f, "label!");
    for (size_t i = 0; i < must.n; i++)
        if (!label_matches(must.v[i], labels))
            return false;
    for (size_t i = 0; i < not .n; i++)
        if (label_matches(not .v[i], labels))
            return false;
    return true;
}
