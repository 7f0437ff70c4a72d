/* Fuzz: any bytes through the JSON reader; what it accepts is walked, looked up, read in every way,
 * written again, and must then parse to the same text. */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void copy(struct json_writer *w, const char *key, struct json_val v);

static void copy_members(struct json_writer *w, const char *key, struct json_val v, bool object)
{
    json_open(w, key, object ? '{' : '[');
    size_t n = 0;
    for (struct json_iter i = json_iter(v); json_next(&i); n++) {
        if (object && (!json_get(v, i.key.p).doc || !json_get_nocase(v, i.key.p).doc) &&
            sv_find(i.key, '\0') < 0)
            abort();
        copy(w, object ? i.key.p : NULL, i.val);
    }
    if (n != json_count(v))
        abort();
    json_close(w, object ? '}' : ']');
}

static void copy(struct json_writer *w, const char *key, struct json_val v)
{
    struct sv s;
    bool b;
    int64_t i;
    uint64_t u;
    double d;
    switch (json_type(v)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        copy_members(w, key, v, json_type(v) == JSON_OBJECT);
        return;
    case JSON_STRING:
        if (!json_read_sv(v, &s) || !sv_is_utf8(s))
            abort();
        json_add_sv(w, key, s);
        return;
    case JSON_BOOL:
        if (!json_read_bool(v, &b))
            abort();
        json_add_bool(w, key, b);
        return;
    case JSON_NUMBER:
        if (json_read_u64(v, &u) && json_read_i64(v, &i) && (uint64_t)i != u)
            abort();
        if (json_read_double(v, &d) && !json_read_u64(v, &u) && !json_read_i64(v, &i))
            json_add_double(w, key, d);
        else
            json_add_raw(w, key, json_raw(v));
        return;
    case JSON_NULL:
        json_add_null(w, key);
        return;
    }
}

/* Parses and writes again. */
static bool rewrite(struct sv text, struct buf *out)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct vic_err err;
    if (!json_parse(text, 4096, &a, &v, &err)) {
        if (err.code != VIC_INVALID && err.code != VIC_TOO_LARGE)
            abort();
        return false;
    }
    struct json_writer w = json_writer(out);
    copy(&w, NULL, v);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF struct buf once = {0}, twice = {0};
    if (!rewrite(sv_make(data, size), &once))
        return 0;
    if (once.failed || !rewrite(buf_sv(&once), &twice))
        abort();
    if (!sv_eq(buf_sv(&once), buf_sv(&twice)))
        abort();
    return 0;
}
