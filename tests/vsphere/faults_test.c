/* From vSphere's faults to our codes: every row of faults.def names a class that exists, subclasses
 * take their base's row, and message keys and classes named in texts are found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

#include "client.h"

static enum vic_code code_of(const void *fault)
{
    struct vic_err err;
    assert_false(vsp_fault(&err, "X", NULL, "text", fault));
    assert_non_null(strstr(err.msg, "text"));
    return err.code;
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum vic_code code;
    } rows[] = {
#define F(class, code, text) {#class, VIC_##code},
#define K(key, code, text)
#include "faults.def"
#undef F
#undef K
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_ARENA struct arena a = {0};
        const struct vim_type *t = vim_find_type(sv_of(rows[i].name));
        if (!t)
            fail_msg("faults.def: no class %s", rows[i].name);
        assert_true(vim_type_is(t, &vim_type_MethodFault));
        assert_int_equal(code_of(vim_new(&a, t)), rows[i].code);
    }
}

static void test_bases(void **state)
{
    (void)state;
    assert_int_equal(code_of(&(struct vim_VAppTaskInProgress){.vim = &vim_type_VAppTaskInProgress}),
                     VIC_BUSY);
    assert_int_equal(code_of(&(struct vim_HostNotReachable){.vim = &vim_type_HostNotReachable}),
                     VIC_UNAVAILABLE);
    assert_int_equal(code_of(&(struct vim_RuntimeFault){.vim = &vim_type_RuntimeFault}), VIC_IO);
    assert_int_equal(code_of(NULL), VIC_IO);
}

static void test_keys(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vim_GenericVmConfigFault *f = VIM_NEW(&a, GenericVmConfigFault);
    assert_int_equal(code_of(f), VIC_INVALID);
    static const char *const keys[] = {"msg.disk.noBackEnd", "msg.fileio.lock"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct vim_LocalizableMessage *m = VIM_NEW(&a, LocalizableMessage);
        m->key = keys[i];
        VIM_PUSH(&a, &f->faultMessage, m);
    }
    assert_int_equal(code_of(f), VIC_BUSY);
}

static void test_text_only(void **state)
{
    (void)state;
    struct vic_err err;
    vsp_fault(&err, "X", NULL, "fault: vim.fault.InvalidPowerState.summary", NULL);
    assert_int_equal(err.code, VIC_CONFLICT);
    vsp_fault(&err, "X", "FromTheFuture", NULL, NULL);
    assert_int_equal(err.code, VIC_IO);
    assert_non_null(strstr(err.msg, "FromTheFuture"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_bases),
                                       cmocka_unit_test(test_keys),
                                       cmocka_unit_test(test_text_only)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
