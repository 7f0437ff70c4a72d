/* api/tar.c: what is read, and what hostile archives get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

#include "archive.h"
#include "tar.h"

struct source {
    struct sv bytes;
    size_t piece; /* 0: as much as asked for */
};

static bool read_source(void *arg, void *p, size_t size, size_t *got, struct vic_err *err)
{
    struct source *s = arg;
    (void)err;
    *got = size < s->bytes.len ? size : s->bytes.len;
    if (*got)
        memcpy(p, s->bytes.p, *got);
    s->bytes = sv_sub(s->bytes, *got, SIZE_MAX);
    return true;
}

struct fx {
    struct arena a;
    struct buf b;
    struct source source;
    struct tar t;
    struct tar_entry e;
    struct vic_err err;
};

static int setup(void **state)
{
    *state = xcalloc(1, sizeof(struct fx));
    return 0;
}

static int teardown(void **state)
{
    struct fx *x = *state;
    arena_fini(&x->a);
    buf_fini(&x->b);
    free(x);
    return 0;
}

static void begin(struct fx *x)
{
    x->source = (struct source){.bytes = buf_sv(&x->b)};
    x->t = (struct tar){.read = read_source, .arg = &x->source, .a = &x->a};
}

static void next(struct fx *x, enum tar_type type, const char *name, const char *data)
{
    char bytes[256];
    bool more;
    size_t got, at = 0;
    if (!tar_next(&x->t, &x->e, &more, &x->err))
        fail_msg("%s", x->err.msg);
    assert_true(more);
    assert_int_equal(x->e.type, type);
    assert_string_equal(x->e.name, name);
    if (!data)
        return;
    assert_int_equal(x->e.size, strlen(data));
    do {
        assert_true(tar_data(&x->t, bytes + at, 7, &got, &x->err));
        at += got;
    } while (got);
    assert_true(sv_is(sv_make(bytes, at), data));
}

static void ends(struct fx *x)
{
    bool more = true;
    for (int i = 0; i < 2; i++) {
        if (!tar_next(&x->t, &x->e, &more, &x->err))
            fail_msg("%s", x->err.msg);
        assert_false(more);
    }
}

/* Reads all of it; false when that fails. */
static bool reads(struct fx *x)
{
    bool more = true;
    begin(x);
    while (more)
        if (!tar_next(&x->t, &x->e, &more, &x->err))
            return false;
    return true;
}

static void refused(struct fx *x, const char *text)
{
    if (reads(x))
        fail_msg("it was taken, instead of: %s", text);
    if (!strstr(x->err.msg, text))
        fail_msg("\"%s\" instead of \"%s\"", x->err.msg, text);
    buf_reset(&x->b);
}

/* --- what is read ---------------------------------------------------------------------------- */
static void ustar_entries(void **state)
{
    struct fx *x = *state;
    ar_entry(&x->b, '5', "d/", NULL, SV(""));
    ar_file(&x->b, "d/one", SV("hello"));
    ar_file(&x->b, "empty", SV(""));
    ar_file(&x->b, "whole", SV("0123456789abcdef"));
    ar_entry(&x->b, '2', "sym", "d/one", SV(""));
    ar_entry(&x->b, '1', "hard", "d/one", SV(""));
    ar_entry(&x->b, '\0', "old", NULL, SV("v7"));
    ar_entry(&x->b, '7', "contiguous", NULL, SV("7"));
    ar_entry(&x->b, '3', "device", NULL, SV(""));
    ar_end(&x->b);
    begin(x);
    next(x, TAR_DIR, "d/", NULL);
    next(x, TAR_FILE, "d/one", "hello");
    next(x, TAR_FILE, "empty", "");
    next(x, TAR_FILE, "whole", NULL); /* skipped */
    next(x, TAR_SYMLINK, "sym", NULL);
    assert_string_equal(x->e.link, "d/one");
    next(x, TAR_HARDLINK, "hard", NULL);
    next(x, TAR_FILE, "old", "v7");
    next(x, TAR_FILE, "contiguous", "7");
    next(x, TAR_OTHER, "device", NULL);
    ends(x);
    assert_int_equal(x->t.entries, 9);
}

static void names_of_ustar(void **state)
{
    struct fx *x = *state;
    AUTO_FREE char *full = xasprintf("%0100d", 7);
    ar_file(&x->b, full, SV("all 100 bytes, no NUL"));
    ar_file(&x->b, "name", SV("prefixed"));
    size_t at = x->b.len - 1024;
    memset(x->b.data + at + 345, 'p', 155);
    ar_checksum(&x->b, at);
    ar_file(&x->b, "name", SV("not with GNU's magic"));
    at = x->b.len - 1024;
    memset(x->b.data + at + 345, 'p', 155);
    memcpy(x->b.data + at + 257, "ustar  ", 8);
    ar_checksum(&x->b, at);
    ar_end(&x->b);
    begin(x);
    next(x, TAR_FILE, full, NULL);
    assert_true(tar_next(&x->t, &x->e, &(bool){0}, &x->err));
    assert_int_equal(strlen(x->e.name), 160);
    assert_string_equal(x->e.name + 155, "/name");
    next(x, TAR_FILE, "name", NULL);
    ends(x);
}

static void pax_headers(void **state)
{
    struct fx *x = *state;
    AUTO_FREE char *longer = xasprintf("a/%0300d", 1);
    ar_pax(&x->b, "path", sv_of(longer));
    ar_file(&x->b, "short", SV("x"));
    ar_pax(&x->b, "linkpath", SV("target with = and \xc3\xa9"));
    ar_entry(&x->b, '2', "link", "no", SV(""));
    ar_pax(&x->b, "mtime", SV("1.5"));
    ar_file(&x->b, "plain", SV("y"));
    ar_pax(&x->b, "size", SV("3")); /* the header's own field says 1 */
    ar_header(&x->b, '0', "sized", NULL, 1);
    buf_add_str(&x->b, "abc");
    ar_pad(&x->b);
    ar_pax(&x->b, "path", SV("")); /* takes nothing back: the header's name holds */
    ar_file(&x->b, "own", SV("z"));
    ar_entry(&x->b, 'g', "global", NULL, SV("18 comment=hello.\n"));
    ar_file(&x->b, "after", SV(""));
    ar_end(&x->b);
    begin(x);
    next(x, TAR_FILE, longer, "x");
    next(x, TAR_SYMLINK, "link", NULL);
    assert_string_equal(x->e.link, "target with = and \xc3\xa9");
    next(x, TAR_FILE, "plain", "y");
    next(x, TAR_FILE, "sized", "abc");
    next(x, TAR_FILE, "own", "z");
    next(x, TAR_FILE, "after", "");
    ends(x);
}

static void gnu_long_names(void **state)
{
    struct fx *x = *state;
    AUTO_FREE char *name = xasprintf("n/%0250d", 1), *link = xasprintf("l/%0260d", 2);
    ar_entry(&x->b, 'L', "././@LongLink", NULL, sv_make(name, strlen(name) + 1));
    ar_entry(&x->b, 'K', "././@LongLink", NULL, sv_make(link, strlen(link) + 1));
    ar_entry(&x->b, '2', "cut", "cut", SV(""));
    ar_entry(&x->b, 'L', "././@LongLink", NULL, SV("without NUL"));
    ar_file(&x->b, "cut", SV("data"));
    ar_end(&x->b);
    begin(x);
    next(x, TAR_SYMLINK, name, NULL);
    assert_string_equal(x->e.link, link);
    next(x, TAR_FILE, "without NUL", "data");
    ends(x);
}

static void set_size(struct fx *x, size_t at, const unsigned char size[12])
{
    memcpy(x->b.data + at + 124, size, 12);
    ar_checksum(&x->b, at);
}

static void base_256_sizes(void **state)
{
    struct fx *x = *state;
    ar_file(&x->b, "five", SV("12345"));
    set_size(x, 0, (const unsigned char[12]){0x80, [11] = 5});
    ar_end(&x->b);
    begin(x);
    next(x, TAR_FILE, "five", "12345");
    ends(x);
    buf_reset(&x->b);
    ar_header(&x->b, '0', "big", NULL, 0);
    set_size(x, 0, (const unsigned char[12]){0x80, [4] = 0x7f, 255, 255, 255, 255, 255, 255, 255});
    refused(x, "truncated in entry 1");
    ar_header(&x->b, '0', "negative", NULL, 0);
    set_size(
        x, 0,
        (const unsigned char[12]){0xff, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255});
    refused(x, "entry 1: malformed size");
    ar_header(&x->b, '0', "over 63 bits", NULL, 0);
    set_size(x, 0, (const unsigned char[12]){0x80, [4] = 0x80});
    refused(x, "entry 1: malformed size");
}

/* --- what is refused ------------------------------------------------------------------------- */
static void sizes_that_lie(void **state)
{
    struct fx *x = *state;
    ar_header(&x->b, '0', "octal", NULL, 077777777777);
    refused(x, "truncated in entry 1");
    ar_header(&x->b, '0', "letters", NULL, 0);
    set_size(x, 0, (const unsigned char *)"0000000x000");
    refused(x, "entry 1: malformed size");
    ar_pax(&x->b, "size", SV("18446744073709551615"));
    ar_file(&x->b, "huge", SV(""));
    refused(x, "entry 2: size out of range");
    ar_pax(&x->b, "size", SV("18446744073709551616"));
    refused(x, "malformed extended header");
    ar_pax(&x->b, "size", SV("-1"));
    refused(x, "malformed extended header");
    ar_header(&x->b, 'x', "pax", NULL, (1 << 20) + 1);
    refused(x, "entry 1: extended header of 1048577 bytes");
    ar_header(&x->b, 'L', "gnu", NULL, 5000);
    refused(x, "entry 1: extended header of 5000 bytes");
}

static void broken_extended_headers(void **state)
{
    static const char *const broken[] = {
        "path=a\n", "5 path=a\n", "99 path=a\n", "10 path=ab", "9 patha\n\n", "0 \n",
        "3 \n",     "4 =\n",      "x path=a\n",  " path=a\n",  "-9 path=a\n", "9 path=a\n\n",
    };
    struct fx *x = *state;
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        ar_entry(&x->b, 'x', "pax", NULL, sv_of(broken[i]));
        ar_file(&x->b, "f", SV(""));
        ar_end(&x->b);
        refused(x, "entry 1: malformed extended header");
    }
    ar_pax(&x->b, "path", sv_make("a\0b", 3));
    refused(x, "entry 1: a NUL byte in a name");
    AUTO_FREE char *longer = xasprintf("%05000d", 1);
    ar_pax(&x->b, "path", sv_of(longer));
    refused(x, "entry 1: a name of 5000 bytes");
    ar_pax(&x->b, "path", SV("a"));
    ar_pax(&x->b, "path", SV("b"));
    refused(x, "entry 2: a second extended header");
    ar_pax(&x->b, "path", SV("about nothing"));
    ar_end(&x->b);
    refused(x, "truncated in entry 1");
}

static void too_many_names(void **state)
{
    struct fx *x = *state;
    AUTO_FREE char *longer = xasprintf("%04000d", 1);
    for (int i = 0; i < 8500; i++) {
        ar_pax(&x->b, "path", sv_of(longer));
        ar_header(&x->b, '0', "f", NULL, 0);
    }
    ar_end(&x->b);
    refused(x, "the archive's names are over 33554432 bytes");
    assert_true(x->a.total < 40 << 20);
}

static void bad_checksums(void **state)
{
    struct fx *x = *state;
    ar_file(&x->b, "good", SV("x"));
    ar_file(&x->b, "bad", SV("x"));
    x->b.data[1024] ^= 1;
    refused(x, "entry 2: not a tar header");
    buf_add_str(&x->b, "{\"not\":\"a tar\"}");
    refused(x, "truncated in entry 0");
    for (int i = 0; i < 600; i++)
        buf_add_c(&x->b, 'a');
    refused(x, "entry 1: not a tar header");
    refused(x, "the archive is empty");
}

static void every_cut_is_seen(void **state)
{
    struct fx *x = *state;
    AUTO_BUF struct buf whole = {0};
    ar_pax(&whole, "path", SV("longer"));
    ar_file(&whole, "f", SV("data"));
    ar_entry(&whole, 'L', "g", NULL, SV("gnu"));
    ar_file(&whole, "f", SV(""));
    ar_entry(&whole, '2', "s", "f", SV(""));
    size_t entries = whole.len;
    ar_end(&whole);
    buf_add_sv(&x->b, buf_sv(&whole));
    assert_true(reads(x));
    for (size_t cut = 1; cut < entries + 512; cut += cut % 512 == 0 ? 1 : 511 - (cut - 1) % 512) {
        buf_reset(&x->b);
        buf_add(&x->b, whole.data, cut);
        if (reads(x))
            fail_msg("cut at %zu and not seen", cut);
        assert_non_null(strstr(x->err.msg, "truncated in entry"));
    }
}

static void names_are_cleaned(void **state)
{
    static const struct {
        const char *name, *clean; /* NULL: refused */
        const char *why;
    } cases[] = {
        {"a/b", "a/b", NULL},
        {"./a//b/.", "a/b", NULL},
        {"./", "", NULL},
        {"...", "...", NULL},
        {"..a/b..", "..a/b..", NULL},
        {"a/\xff\xfe", "a/\xff\xfe", NULL},
        {"", NULL, "no name"},
        {"/etc/passwd", NULL, "entry \"/etc/passwd\" has an absolute name"},
        {"//x", NULL, "absolute"},
        {"..", NULL, "leaves the archive"},
        {"../x", NULL, "entry \"../x\" leaves the archive by \"..\""},
        {"a/../b", NULL, "leaves the archive"},
        {"a/..", NULL, "leaves the archive"},
        {"a\nb", NULL, "entry \"a?b\" has a control character"},
        {"a\x7f", NULL, "control character"},
    };
    struct fx *x = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *clean = "";
        bool ok = tar_clean_name(cases[i].name, &x->a, &clean, &x->err);
        assert_int_equal(ok, cases[i].clean != NULL);
        if (ok)
            assert_string_equal(clean, cases[i].clean);
        else if (!strstr(x->err.msg, cases[i].why))
            fail_msg("%s", x->err.msg);
    }
    AUTO_FREE char *longer = xasprintf("%05000d", 1);
    const char *clean;
    assert_false(tar_clean_name(longer, &x->a, &clean, &x->err));
    assert_non_null(strstr(x->err.msg, "too long a name"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(ustar_entries),     TEST(names_of_ustar),          TEST(pax_headers),
        TEST(gnu_long_names),    TEST(base_256_sizes),          TEST(sizes_that_lie),
        TEST(bad_checksums),     TEST(broken_extended_headers), TEST(too_many_names),
        TEST(every_cut_is_seen), TEST(names_are_cleaned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
