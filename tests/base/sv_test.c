/* base/sv: views, whole-or-nothing numbers, UTF-8, hex, base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/sv.h"

static void views_compare(void **state)
{
    (void)state;
    assert_true(sv_eq((struct sv){NULL, 0}, SV("")));
    assert_true(sv_is(SV("ab"), "ab"));
    assert_false(sv_is(SV("ab\0"), "ab"));
    assert_true(sv_eq_nocase(SV("Content-LENGTH"), SV("content-length")));
    assert_false(sv_eq_nocase(SV("a\0b"), SV("a\0c")));
    assert_false(sv_eq_nocase(SV("[@"), SV("{`"))); /* 0x20 apart, but no letters */
    assert_true(sv_starts(SV("abc"), SV("ab")) && !sv_starts(SV("a"), SV("ab")));
    assert_true(sv_ends(SV("abc"), SV("bc")) && !sv_ends(SV("c"), SV("bc")));
    assert_true(sv_cmp(SV("a"), SV("b")) < 0 && sv_cmp(SV("ab"), SV("a")) > 0);
    assert_int_equal(sv_cmp(SV("a"), SV("a")), 0);
    assert_true(sv_cmp(SV("\xff"), SV("a")) > 0);
}

static void views_are_cut(void **state)
{
    (void)state;
    struct sv s = SV("a,b,,c,");
    static const char *const want[] = {"a", "b", "", "c", ""};
    size_t n = 0;
    while (s.p)
        assert_true(sv_is(sv_cut(&s, ','), want[n++]));
    assert_int_equal(n, 5);
    assert_true(sv_is(sv_trim(SV(" \t a b\r\n")), "a b"));
    assert_int_equal(sv_trim(SV(" \r\n")).len, 0);
    assert_true(sv_is(sv_sub(SV("hello"), 1, 3), "ell"));
    assert_true(sv_is(sv_sub(SV("hello"), 3, SIZE_MAX), "lo"));
    assert_int_equal(sv_sub(SV("hello"), 9, 1).len, 0);
    assert_null(sv_sub((struct sv){NULL, 0}, 1, 1).p);
    assert_int_equal(sv_find(SV("abcb"), 'b'), 1);
    assert_int_equal(sv_rfind(SV("abcb"), 'b'), 3);
    assert_int_equal(sv_find((struct sv){NULL, 0}, 'b'), -1);
}

static void numbers_are_whole_or_nothing(void **state)
{
    (void)state;
    uint64_t u = 7;
    int64_t i = 7;
    static const char *const bad[] = {"",   "-",  "+1",  " 1",
                                      "1 ", "1x", "0x1", "18446744073709551616"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
        assert_false(sv_to_u64(sv_of(bad[k]), &u));
        assert_false(sv_to_i64(sv_of(bad[k]), &i));
    }
    assert_int_equal(u, 7);
    assert_int_equal(i, 7);
    assert_true(sv_to_u64(SV("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_true(sv_to_i64(SV("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(sv_to_i64(SV("9223372036854775807"), &i) && i == INT64_MAX);
    assert_false(sv_to_i64(SV("9223372036854775808"), &i));
    assert_false(sv_to_i64(SV("-9223372036854775809"), &i));
    assert_false(sv_to_i64(SV("--1"), &i));
    assert_false(sv_to_u64(SV("-1"), &u));
    assert_true(sv_hex_to_u64(SV("fFfFfFfFfFfFfFfF"), &u) && u == UINT64_MAX);
    assert_false(sv_hex_to_u64(SV("00000000000000000"), &u));
    assert_false(sv_hex_to_u64(SV("g"), &u));
}

static void utf8_is_strict(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xC3\xA9",
                                       "\xE2\x82\xAC",
                                       "\xED\x9F\xBF",
                                       "\xF0\x9F\x98\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC3",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xE2\x82",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80",
                                      "a\xFF"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(sv_is_utf8(sv_of(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(sv_is_utf8(sv_of(bad[i])));
    assert_int_equal(sv_utf8_len(SV("\xE2\x82\xAC!")), 3);
    assert_int_equal(sv_utf8_len((struct sv){NULL, 0}), 0);
}

static void hex_goes_both_ways(void **state)
{
    (void)state;
    unsigned char bytes[3];
    char text[7];
    hex_encode("\x00\x7f\xff", 3, text);
    assert_string_equal(text, "007fff");
    assert_true(hex_decode(SV("007FfF"), bytes));
    assert_memory_equal(bytes, "\x00\x7f\xff", 3);
    assert_false(hex_decode(SV("0"), bytes));
    assert_false(hex_decode(SV("0g"), bytes));
}

static void base64_goes_both_ways(void **state)
{
    (void)state;
    static const struct {
        struct sv plain;
        const char *text;
    } rows[] = {{{"", 0}, ""},        {{"f", 1}, "Zg=="},          {{"fo", 2}, "Zm8="},
                {{"foo", 3}, "Zm9v"}, {{"foobar", 6}, "Zm9vYmFy"}, {{"\xfb\xff", 2}, "+/8="}};
    char text[16];
    unsigned char bytes[16];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        base64_encode(rows[i].plain.p, rows[i].plain.len, text);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(base64_decode(sv_of(text), bytes), rows[i].plain.len);
        assert_memory_equal(bytes, rows[i].plain.p, rows[i].plain.len);
    }
    assert_int_equal(base64_decode(SV("-_8"), bytes), 2);
    assert_memory_equal(bytes, "\xfb\xff", 2);
    static const char *const bad[] = {"A", "A===", "Zg=a", "Zm9v!", "Z g=", "====="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(base64_decode(sv_of(bad[i]), bytes), -1);
    assert_int_equal(base64_decode(SV("Zm\0v"), bytes), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_compare),
        cmocka_unit_test(views_are_cut),
        cmocka_unit_test(numbers_are_whole_or_nothing),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(base64_goes_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
