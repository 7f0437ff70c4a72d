/* base/json: what is refused, what a cursor sees, and that writing gives Go's bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"

static struct json_val parse(struct arena *a, const char *text)
{
    struct json_val v = {0};
    struct vic_err err = {0};
    if (!json_parse(sv_of(text), 0, a, &v, &err))
        fail_msg("%s: %s", text, err.msg);
    return v;
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "JSON at byte 0: expected a value"},
        {"  ", "JSON at byte 2: expected a value"},
        {"[1,,2]", "JSON at byte 3: expected a value"},
        {"[1,]", "JSON at byte 3: expected a value"},
        {"[1 2]", "JSON at byte 3: expected ',' or ']'"},
        {"{\"a\" 1}", "JSON at byte 5: expected ':'"},
        {"{\"a\":1,}", "JSON at byte 7: expected a string"},
        {"{a:1}", "JSON at byte 1: expected a string"},
        {"{1:1}", "JSON at byte 1: expected a string"},
        {"{\"a\":1]", "JSON at byte 6: expected ',' or '}'"},
        {"01", "JSON at byte 1: expected nothing after the value"},
        {"1 1", "JSON at byte 2: expected nothing after the value"},
        {"-", "JSON at byte 1: expected a digit"},
        {"1.", "JSON at byte 2: expected a digit"},
        {"1e+", "JSON at byte 3: expected a digit"},
        {".5", "JSON at byte 0: expected a value"},
        {"nul", "JSON at byte 0: expected a value"},
        {"NaN", "JSON at byte 0: expected a value"},
        {"\"a", "JSON at byte 2: expected the end of a string"},
        {"\"\\x\"", "JSON at byte 2: expected an escape, one of \" \\ / b f n r t u"},
        {"\"\\u12g4\"", "JSON at byte 3: expected four hex digits"},
        {"\"\\u12", "JSON at byte 3: expected four hex digits"},
        {"\"\n\"", "JSON at byte 1: expected no bare control character in a string"},
        {"\"\xC0\x80\"", "JSON at byte 1: expected UTF-8"},
        {"\"\xED\xA0\x80\"", "JSON at byte 1: expected UTF-8"},
        {"\"\xF0\x9F\x98", "JSON at byte 1: expected UTF-8"},
        {"\xEF\xBB\xBF{}", "JSON at byte 0: expected a value"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_ARENA struct arena a = {0};
        struct json_val v;
        struct vic_err err;
        assert_false(json_parse(sv_of(rows[i].text), 0, &a, &v, &err));
        assert_int_equal(err.code, VIC_INVALID);
        assert_string_equal(err.msg, rows[i].message);
    }
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    assert_false(json_parse(SV("[1\0]"), 0, &a, &v, NULL));
    assert_false(json_parse((struct sv){NULL, 0}, 0, &a, &v, NULL));
}

static void refuses_too_much(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf deep = {0};
    struct json_val v;
    struct vic_err err;
    for (int i = 0; i < JSON_MAX_DEPTH; i++)
        buf_add_c(&deep, '[');
    for (int i = 0; i < JSON_MAX_DEPTH; i++)
        buf_add_c(&deep, ']');
    assert_true(json_parse(buf_sv(&deep), 0, &a, &v, &err));
    buf_reset(&deep);
    for (int i = 0; i < 100000; i++)
        buf_add_c(&deep, '[');
    assert_false(json_parse(buf_sv(&deep), 0, &a, &v, &err));
    assert_int_equal(err.code, VIC_TOO_LARGE);
    assert_true(json_parse(SV("[1,2,3]"), 4, &a, &v, &err));
    assert_false(json_parse(SV("[1,2,3]"), 3, &a, &v, &err));
    assert_int_equal(err.code, VIC_TOO_LARGE);
}

static void walks_and_looks_up(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct json_val v = parse(&a, " {\"a\":[1,{\"b\":[]},\"x\"],\"\\u0061b\":{\"c\":null},"
                                  "\"Image\":\"one\",\"image\":\"two\",\"t\":true} ");
    assert_int_equal(json_type(v), JSON_OBJECT);
    assert_int_equal(json_count(v), 5);
    struct json_val list = json_get(v, "a");
    assert_int_equal(json_count(list), 3);
    static const enum json_type types[] = {JSON_NUMBER, JSON_OBJECT, JSON_STRING};
    size_t n = 0;
    for (struct json_iter i = json_iter(list); n < ARRAY_LEN(types) && json_next(&i); n++)
        assert_int_equal(json_type(i.val), types[n]);
    assert_int_equal(n, 3);
    assert_string_equal(json_str(json_get(v, "Image"), ""), "one");
    assert_string_equal(json_str(json_get_nocase(v, "IMAGE"), ""), "two"); /* the last, as Go */
    assert_true(json_bool(json_get(v, "t"), false));
    struct json_val escaped = json_get(v, "ab");
    assert_int_equal(json_type(escaped), JSON_OBJECT);
    assert_true(json_get_nocase(v, "AB").doc != NULL);
    assert_true(json_get(escaped, "c").doc != NULL);
    assert_false(json_present(json_get(escaped, "c")));
    assert_true(json_get(json_get(v, "no"), "such").doc == NULL);
    assert_string_equal(json_str(json_get(json_get(v, "a"), "b"), "dflt"), "dflt");
    assert_true(sv_is(json_raw(list), "[1,{\"b\":[]},\"x\"]"));
    assert_true(sv_is(json_raw(json_get(v, "Image")), "\"one\""));
    struct json_iter i = json_iter(v);
    assert_true(json_next(&i) && json_next(&i));
    assert_true(sv_is(i.key, "ab"));
    i = json_iter((struct json_val){0});
    assert_false(json_next(&i));
    i = json_iter(parse(&a, "7"));
    assert_false(json_next(&i));
}

static void keys_do_not_match_by_prefix(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct json_val v = parse(&a, "{\"\\u0061\":1,\"\\u0061bc\":2,\"x\":3}");
    assert_true(json_get(v, "ab").doc == NULL);
    assert_int_equal(json_i64(json_get(v, "a"), 0), 1);
    assert_int_equal(json_i64(json_get(v, "abc"), 0), 2);
    assert_true(json_get(v, "").doc == NULL);
}

static void decodes_strings(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"\"\"", ""},
        {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\b\f\n\r\tz"},
        {"\"\\u00e9\\u20ac\\ud83d\\ude00\"", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\"\\ud83dx\"", "\xEF\xBF\xBDx"},
        {"\"\\ude00\"", "\xEF\xBF\xBD"},
        {"\"\\ud83d\\u0041\"", "\xEF\xBF\xBD"
                               "A"},
        {"\"\xF0\x9F\x98\x80\"", "\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_ARENA struct arena a = {0};
        const char *text;
        assert_true(json_read_str(parse(&a, rows[i].json), &text));
        assert_string_equal(text, rows[i].text);
    }
    AUTO_ARENA struct arena a = {0};
    const char *text = "untouched";
    struct sv s;
    struct json_val nul = parse(&a, "\"a\\u0000b\"");
    assert_false(json_read_str(nul, &text));
    assert_string_equal(text, "untouched");
    assert_true(json_read_sv(nul, &s));
    assert_int_equal(s.len, 3);
}

static void reads_numbers_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool is_i64, is_u64;
        int64_t i;
        uint64_t u;
    } rows[] = {
        {"0", true, true, 0, 0},
        {"-0", true, true, 0, 0},
        {"5.0", true, true, 5, 5},
        {"1e3", true, true, 1000, 1000},
        {"1.25E+2", true, true, 125, 125},
        {"1200e-2", true, true, 12, 12},
        {"0e999999999999999999999", true, true, 0, 0},
        {"0.000", true, true, 0, 0},
        {"1.5", false, false, 0, 0},
        {"1e-1", false, false, 0, 0},
        {"1e400", false, false, 0, 0},
        {"-7", true, false, -7, 0},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX},
        {"9223372036854775808", false, true, 0, 9223372036854775808u},
        {"-9223372036854775808", true, false, INT64_MIN, 0},
        {"-9223372036854775809", false, false, 0, 0},
        {"18446744073709551615", false, true, 0, UINT64_MAX},
        {"18446744073709551616", false, false, 0, 0},
        {"\"5\"", false, false, 0, 0},
        {"null", false, false, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_ARENA struct arena a = {0};
        int64_t n = 0;
        uint64_t u = 0;
        struct json_val v = parse(&a, rows[i].json);
        assert_int_equal(json_read_i64(v, &n), rows[i].is_i64);
        assert_int_equal(json_read_u64(v, &u), rows[i].is_u64);
        assert_true(n == rows[i].i && u == rows[i].u);
    }
    AUTO_ARENA struct arena a = {0};
    double d = 0;
    assert_true(json_read_double(parse(&a, "-1.5e3"), &d) && d < -1499.9 && d > -1500.1);
    assert_false(json_read_double(parse(&a, "1e999"), &d));
}

static void reads_a_stream_of_values(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct sv rest = SV("{\"a\":1}\n[2] 3\"x\"");
    static const enum json_type types[] = {JSON_OBJECT, JSON_ARRAY, JSON_NUMBER, JSON_STRING};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct json_val v;
        assert_true(json_parse_first(rest, 0, &a, &v, &rest, NULL));
        assert_int_equal(json_type(v), types[i]);
    }
    assert_int_equal(rest.len, 0);
}

static void writes_as_go_does(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    struct json_writer w = json_writer(&b);
    json_open(&w, NULL, '{');
    json_add_str(&w, "s", "a\"\\\n\r\t\b\x1f\x7f<&>\xE2\x80\xA8\xE2\x80\xA9\xFF\xE2\x82z");
    json_add_str(&w, "none", NULL);
    json_open(&w, "list", '[');
    json_add_i64(&w, NULL, INT64_MIN);
    json_add_u64(&w, NULL, UINT64_MAX);
    json_add_bool(&w, NULL, true);
    json_open(&w, NULL, '{');
    json_close(&w, '}');
    json_add_raw(&w, NULL, SV("[1]"));
    json_close(&w, ']');
    json_add_time(&w, "t", 1500000000);
    json_add_time(&w, "zero", 0);
    json_add_sv(&w, "n", SV("a\0b"));
    json_close(&w, '}');
    assert_false(b.failed);
    assert_string_equal(buf_str(&b),
                        "{\"s\":\"a\\\"\\\\\\n\\r\\t\\u0008\\u001f\x7f<&>\\u2028\\u2029"
                        "\\ufffd\\ufffd\\ufffdz\",\"none\":null,\"list\":[-9223372036854775808,"
                        "18446744073709551615,true,{},[1]],\"t\":\"1970-01-01T00:00:01.5Z\","
                        "\"zero\":\"0001-01-01T00:00:00Z\",\"n\":\"a\\u0000b\"}");
    buf_reset(&b);
    w.html = true;
    json_add_str(&w, NULL, "<&>");
    assert_string_equal(buf_str(&b), "\"\\u003c\\u0026\\u003e\"");
}

static void writes_numbers_as_go_does(void **state)
{
    (void)state;
    static const struct {
        double n;
        const char *text;
    } rows[] = {
        {0, "0"},
        {1, "1"},
        {-2.5, "-2.5"},
        {0.1, "0.1"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {1e-6, "0.000001"},
        {1e-7, "1e-7"},
        {1.5e-10, "1.5e-10"},
        {3.14159, "3.14159"},
        {100, "100"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {0.30000000000000004, "0.30000000000000004"},
        {NAN, "null"},
        {-INFINITY, "null"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_BUF struct buf b = {0};
        struct json_writer w = json_writer(&b);
        json_add_double(&w, NULL, rows[i].n);
        assert_string_equal(buf_str(&b), rows[i].text);
    }
}

static void writer_knows_its_limits(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    struct json_writer w = json_writer(&b);
    for (int i = 0; i < JSON_MAX_DEPTH; i++)
        json_open(&w, NULL, '[');
    assert_false(b.failed);
    json_open(&w, NULL, '[');
    assert_true(b.failed);
    buf_reset(&b);
    w = json_writer(&b);
    json_close(&w, ']');
    assert_true(b.failed);
}

/* Any bytes that are UTF-8 come back as they went. */
static void strings_survive_the_round_trip(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252u;
    for (int round = 0; round < 2000; round++) {
        AUTO_ARENA struct arena a = {0};
        AUTO_BUF struct buf b = {0};
        char text[24];
        size_t len = (size_t)round % sizeof text;
        for (size_t i = 0; i < len; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            text[i] = (char)(seed % 128);
        }
        struct json_val v;
        struct sv back;
        json_quote(&b, sv_make(text, len), round % 2);
        assert_true(json_parse(buf_sv(&b), 0, &a, &v, NULL));
        assert_true(json_read_sv(v, &back));
        assert_true(sv_eq(back, sv_make(text, len)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(refuses_too_much),
        cmocka_unit_test(walks_and_looks_up),
        cmocka_unit_test(keys_do_not_match_by_prefix),
        cmocka_unit_test(decodes_strings),
        cmocka_unit_test(reads_numbers_exactly),
        cmocka_unit_test(reads_a_stream_of_values),
        cmocka_unit_test(writes_as_go_does),
        cmocka_unit_test(writes_numbers_as_go_does),
        cmocka_unit_test(writer_knows_its_limits),
        cmocka_unit_test(strings_survive_the_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
