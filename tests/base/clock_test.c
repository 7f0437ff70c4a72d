/* base/clock: RFC 3339 both ways, clocks that are turned by hand, randomness with a shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static void times_are_written(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        unsigned digits;
        bool trim;
        const char *text;
    } rows[] = {
        {0, 9, true, "0001-01-01T00:00:00Z"},
        {1, 9, true, "1970-01-01T00:00:00.000000001Z"},
        {1500000000, 9, true, "1970-01-01T00:00:01.5Z"},
        {1000000000, 9, true, "1970-01-01T00:00:01Z"},
        {1000000000, 3, false, "1970-01-01T00:00:01.000Z"},
        {1999999999, 3, false, "1970-01-01T00:00:01.999Z"},
        {1999999999, 0, false, "1970-01-01T00:00:01Z"},
        {-1, 9, true, "1969-12-31T23:59:59.999999999Z"},
        {INT64_MAX, 9, true, "2262-04-11T23:47:16.854775807Z"},
        {INT64_MIN, 99, true, "1677-09-21T00:12:43.145224192Z"},
    };
    char text[RFC3339_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_string_equal(rfc3339(rows[i].ns, rows[i].digits, rows[i].trim, text), rows[i].text);
}

static void times_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"1970-01-01T00:00:01Z", 1000000000},
        {"1970-01-01t00:00:01.5z", 1500000000},
        {"1970-01-01T00:00:00.000000001Z", 1},
        {"1970-01-01T00:00:00.0000000019Z", 1},
        {"1970-01-01T02:00:01+02:00", 1000000000},
        {"1969-12-31T22:30:01-01:30", 1000000000},
        {"2024-02-29T00:00:00Z", 1709164800000000000},
        {"2016-12-31T23:59:60Z", 1483228800000000000},
        {"0001-01-01T00:00:00Z", 0},
    };
    static const char *const bad[] = {
        "",
        "1970-01-01",
        "1970-01-01T00:00:01",
        "1970-13-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00Zx",
        "1970-01-01T00:00:00+2:00",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+00:60",
        "9999-01-01T00:00:00Z",
        "+970-01-01T00:00:00Z",
    };
    int64_t ns;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(rfc3339_parse(sv_of(good[i].text), &ns));
        assert_true(ns == good[i].ns);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(rfc3339_parse(sv_of(bad[i]), &ns));
}

static void times_survive_the_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char text[RFC3339_SIZE];
        int64_t ns = (int64_t)(random_u64() >> 1), back;
        assert_true(rfc3339_parse(sv_of(rfc3339(ns, 9, i % 2, text)), &back));
        if (back != ns)
            fail_msg("%s: %lld is %lld", text, (long long)ns, (long long)back);
    }
}

struct hand_clock {
    struct vic_clock clock; /* first: a pointer to it is one to the whole */
    int64_t now;
};

static int64_t by_hand(const struct vic_clock *c)
{
    return ((const struct hand_clock *)(const void *)c)->now;
}

static void clocks_are_parameters(void **state)
{
    (void)state;
    struct hand_clock h = {{by_hand, by_hand}, 5000000};
    assert_int_equal(clock_mono_ms(&h.clock), 5);
    assert_int_equal(clock_wall_ns(&h.clock), 5000000);
    int64_t before = clock_mono_ms(&vic_clock_real);
    assert_true(clock_mono_ms(&vic_clock_real) >= before);
    assert_true(clock_wall_ns(&vic_clock_real) > 1700000000000000000);
}

static void random_has_its_shape(void **state)
{
    (void)state;
    char id[65], other[65], uuid[37];
    random_id(id);
    random_id(other);
    assert_int_equal(strspn(id, "0123456789abcdef"), 64);
    assert_int_equal(id[64], 0);
    assert_string_not_equal(id, other);
    random_uuid(uuid);
    assert_int_equal(strlen(uuid), 36);
    assert_int_equal(uuid[14], '4');
    assert_non_null(strchr("89ab", uuid[19]));
    assert_int_equal(uuid[8], '-');
    assert_true(random_u64() != random_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_written),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(times_survive_the_round_trip),
        cmocka_unit_test(clocks_are_parameters),
        cmocka_unit_test(random_has_its_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
