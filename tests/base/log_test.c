/* base/log: the line's form, that no value can forge a line, and the counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

/* A log into a pipe; what was logged is read back without its time. */
struct fixture {
    int ends[2];
    struct vic_log *log;
    char text[70000];
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    assert_int_equal(pipe2(f->ends, O_NONBLOCK), 0);
    f->log = log_new(f->ends[1], LOG_INFO, "test");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    log_free(f->log);
    close(f->ends[0]);
    close(f->ends[1]);
    free(f);
    return 0;
}

static const char *logged(struct fixture *f)
{
    ssize_t n = read(f->ends[0], f->text, sizeof f->text - 1);
    f->text[n > 0 ? n : 0] = '\0';
    if (n <= 0)
        return "";
    assert_memory_equal(f->text, "ts=20", 5);
    assert_memory_equal(f->text + 26, "Z lvl=", 6);
    return f->text + 28;
}

static void a_line_is_pairs(void **state)
{
    struct fixture *f = *state;
    log_info(f->log, "vm.poweron", KV_S("container", "3f2a"), KV_U("dur_ms", UINT64_MAX),
             KV_I("left", -5));
    assert_string_equal(logged(f), "lvl=info ev=vm.poweron container=3f2a dur_ms="
                                   "18446744073709551615 left=-5\n");
    log_warn(f->log, "plain");
    assert_string_equal(logged(f), "lvl=warn ev=plain\n");
    struct vic_err err = {0};
    vic_fail(&err, VIC_BUSY, 0, "task \"x\" runs");
    log_error(f->log, "step", KV_ERR(&err));
    assert_string_equal(logged(f), "lvl=error ev=step code=BUSY err=\"task \\\"x\\\" runs\"\n");
}

static void no_value_forges_a_line(void **state)
{
    struct fixture *f = *state;
    log_info(f->log, "e", KV_S("a", "x\nts=1 ev=forged"), KV_S("b", ""), KV_S("c", NULL),
             KV_SV("d", SV("\x1b[31m\0\x7f\xff\xC3\xA9\\")), KV_S("g", "a=b"));
    assert_string_equal(logged(f), "lvl=info ev=e a=\"x\\nts=1 ev=forged\" b=\"\" c=\"\" "
                                   "d=\"\\x1b[31m\\x00\\x7f\\xff\xC3\xA9\\\\\" g=\"a=b\"\n");
}

static void a_line_is_bounded(void **state)
{
    struct fixture *f = *state;
    char huge[5000];
    memset(huge, ' ', sizeof huge);
    struct sv v = sv_make(huge, sizeof huge);
    log_info(f->log, "e", KV_SV("a", v), KV_SV("b", v), KV_SV("c", v), KV_SV("d", v),
             KV_S("e", "x"));
    const char *line = logged(f);
    size_t len = strlen(line);
    assert_true(len < 8300);
    assert_string_equal(line + len - 14, "\" truncated=1\n");
    log_info(f->log, "next");
    assert_string_equal(logged(f), "lvl=info ev=next\n");
}

static void levels_silence_but_count(void **state)
{
    struct fixture *f = *state;
    enum log_level level;
    log_debug(f->log, "quiet");
    assert_string_equal(logged(f), "");
    log_info(NULL, "nothing happens");
    assert_true(log_level_parse(SV("warn"), &level) && level == LOG_WARN);
    assert_false(log_level_parse(SV("WARN"), &level));
}

static void add_counter(void *arg, const char *ev, uint64_t count)
{
    buf_addf(arg, "%s=%d ", ev, (int)count);
}

static void *log_many(void *arg)
{
    for (int i = 0; i < 1000; i++)
        log_debug(arg, i % 2 ? "odd" : "even");
    return NULL;
}

static void counters_agree_with_lines(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf b = {0};
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, f->log), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    log_counters(f->log, add_counter, &b);
    assert_non_null(strstr(buf_str(&b), "odd=2000 "));
    assert_non_null(strstr(buf_str(&b), "even=2000 "));
    log_counters(NULL, add_counter, &b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_line_is_pairs),          T(no_value_forges_a_line),    T(a_line_is_bounded),
        T(levels_silence_but_count), T(counters_agree_with_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
