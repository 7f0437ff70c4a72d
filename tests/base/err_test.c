/* base/err: messages, context, and the columns of errors.def. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void message_gains_context(void **state)
{
    (void)state;
    struct vic_err err = {0};
    assert_false(vic_fail(&err, VIC_IO, ENOENT, "open %s", "/x"));
    assert_int_equal(err.code, VIC_IO);
    assert_int_equal(err.sys, ENOENT);
    assert_string_equal(err.msg, "open /x: No such file or directory");
    assert_false(vic_wrap(&err, "create container %s", "web"));
    assert_string_equal(err.msg, "create container web: open /x: No such file or directory");
    assert_int_equal(err.code, VIC_IO);
    assert_int_equal(err.sys, ENOENT);
    /* The arguments may be the message itself. */
    vic_fail(&err, VIC_BUSY, 0, "again: %s", err.msg);
    assert_string_equal(err.msg, "again: create container web: open /x: No such file or directory");
    assert_int_equal(err.sys, 0);
    assert_false(vic_fail(NULL, VIC_IO, 0, "nobody asks"));
    assert_false(vic_wrap(NULL, "nobody asks"));
}

static void message_is_cut_not_overrun(void **state)
{
    (void)state;
    struct vic_err err;
    char text[1000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    vic_fail(&err, VIC_IO, EIO, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    vic_wrap(&err, "b%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_int_equal(err.msg[0], 'b');
    vic_fail(&err, VIC_IO, 0, "short");
    vic_wrap(&err, "ctx");
    assert_string_equal(err.msg, "ctx: short");
}

static void errno_finds_its_code(void **state)
{
    (void)state;
    struct vic_err err;
    static const struct {
        int sys;
        enum vic_code code;
    } rows[] = {{ENOENT, VIC_NOT_FOUND}, {EEXIST, VIC_CONFLICT},          {EACCES, VIC_FORBIDDEN},
                {ENOSPC, VIC_NO_SPACE},  {ENOMEM, VIC_NO_MEMORY},         {ETIMEDOUT, VIC_TIMEOUT},
                {EINVAL, VIC_INVALID},   {ECONNREFUSED, VIC_UNAVAILABLE}, {EIO, VIC_IO}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        errno = rows[i].sys;
        assert_false(vic_fail_errno(&err, "try"));
        assert_int_equal(err.code, rows[i].code);
        assert_int_equal(err.sys, rows[i].sys);
    }
}

static void codes_are_a_closed_list(void **state)
{
    (void)state;
    assert_string_equal(vic_code_name(VIC_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(vic_code_http(VIC_NOT_FOUND), 404);
    assert_int_equal(vic_code_exit(VIC_INVALID), 2);
    assert_true(vic_code_retry(VIC_BUSY));
    assert_false(vic_code_retry(VIC_CONFLICT));
    assert_string_equal(vic_code_name((enum vic_code)9999), "INTERNAL");
    assert_int_equal(vic_code_http((enum vic_code)VIC_CODES), 500);
    for (int i = 1; i < VIC_CODES; i++) {
        assert_true(vic_code_http((enum vic_code)i) >= 400);
        assert_true(vic_code_exit((enum vic_code)i) > 0);
        assert_true(strlen(vic_code_meaning((enum vic_code)i)) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_gains_context),
        cmocka_unit_test(message_is_cut_not_overrun),
        cmocka_unit_test(errno_finds_its_code),
        cmocka_unit_test(codes_are_a_closed_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
