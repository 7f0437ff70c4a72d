/* base/buf and base/mem: always terminated, one check at the end, ownership. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static void appends_stay_terminated(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    assert_string_equal(buf_str(&b), "");
    buf_add(&b, "a\0b", 3);
    buf_add_c(&b, 'c');
    buf_add_str(&b, "dé");
    buf_add_sv(&b, SV("!"));
    buf_addf(&b, "%05d|%s", 42, "x");
    assert_true(sv_eq(buf_sv(&b), SV("a\0bcdé!00042|x")));
    assert_int_equal(b.data[b.len], 0);
    buf_reset(&b);
    buf_add_i64(&b, INT64_MIN);
    buf_add_c(&b, ' ');
    buf_add_u64(&b, UINT64_MAX);
    buf_add_c(&b, ' ');
    buf_add_u64(&b, 0);
    assert_string_equal(buf_str(&b), "-9223372036854775808 18446744073709551615 0");
    buf_reset(&b);
    buf_add_le(&b, 0x0102030405060708u, 8);
    buf_add_le(&b, 0x1234, 2);
    assert_memory_equal(b.data, "\x08\x07\x06\x05\x04\x03\x02\x01\x34\x12", 10);
}

static void grows_far(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    for (int i = 0; i < 100000; i++)
        buf_addf(&b, "%06d", i);
    assert_int_equal(b.len, 600000);
    assert_memory_equal(b.data + 599994, "099999", 7);
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
}

static void failure_sticks(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {.limit = 5};
    buf_add_str(&b, "12345");
    assert_false(b.failed);
    buf_addf(&b, "%s", "");
    assert_false(b.failed);
    buf_add_c(&b, '6');
    assert_true(b.failed);
    buf_consume(&b, 5);
    buf_add_str(&b, "7");
    assert_string_equal(buf_str(&b), "");
    assert_null(buf_take(&b));
    buf_reset(&b);
    buf_add_str(&b, "ok");
    assert_string_equal(buf_str(&b), "ok");
    assert_int_equal(b.limit, 5);
}

static void consume_and_take(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_consume(&b, 3);
    buf_add_str(&b, "abcdef");
    buf_consume(&b, 2);
    assert_string_equal(buf_str(&b), "cdef");
    buf_consume(&b, 99);
    assert_string_equal(buf_str(&b), "");
    buf_add_str(&b, "mine");
    AUTO_FREE char *mine = buf_take(&b);
    assert_string_equal(mine, "mine");
    assert_null(b.data);
    AUTO_FREE char *empty = buf_take(&b);
    assert_string_equal(empty, "");
    buf_fini(&b);
}

static void owners_change_by_take(void **state)
{
    (void)state;
    AUTO_FREE char *a = xasprintf("%s-%d", "x", 1);
    AUTO_FREE char *b = TAKE(a);
    assert_null(a);
    assert_string_equal(b, "x-1");
    AUTO_FREE char *part = xstrndup("hello", 4);
    assert_string_equal(part, "hell");
    AUTO_FREE void *none = xmalloc(0), *zero = xcalloc(0, 8);
    assert_non_null(none);
    assert_non_null(zero);
    AUTO_FREE void *shrunk = xrealloc(xmalloc(8), 0);
    assert_non_null(shrunk);
    int fd = 5, other = TAKE_FD(fd);
    assert_int_equal(fd, -1);
    assert_int_equal(other, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_stay_terminated), cmocka_unit_test(grows_far),
        cmocka_unit_test(failure_sticks),          cmocka_unit_test(consume_and_take),
        cmocka_unit_test(owners_change_by_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
