/* Layers: what a good one makes, and that a hostile one gets an error naming its entry and leaves
 * nothing outside of the tree.  Each archive is made here, entry by entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/tls.h"

#include "inflate.h"
#include "layer.h"
#include "layer_name.h"
#include "root.h"
#include "tree.h"

enum { MAX_LAYER = 8 << 20, MAX_BYTES = 64 << 20 };

struct item {
    char kind; /* f file, d folder, l link, h hard link, p FIFO, c device, x file with attribute */
    const char *name, *data;
};

struct world {
    char dir[64];
    int root;
    struct tree_trash trash;
};

static int open_dir(const char *base, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", base, name);
    assert_int_equal(mkdir(path, 0755), 0);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof *w);
    snprintf(w->dir, sizeof w->dir, "/tmp/vic-layer.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->root = open_dir(w->dir, "root");
    w->trash.fd = open_dir(w->dir, "trash");
    *state = w;
    return 0;
}

/* Also proves that nothing was left beside the two folders. */
static int tear_down(void **state)
{
    struct world *w = *state;
    struct vic_err err;
    int dir = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!tree_remove(&w->trash, dir, "root", &err))
        fail_msg("%s", err.msg);
    close(dir);
    close(w->root);
    close(w->trash.fd);
    char path[128];
    snprintf(path, sizeof path, "%s/trash", w->dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(w->dir), 0);
    free(w);
    return 0;
}

static void set_kind(struct archive_entry *e, const struct item *i)
{
    size_t len = i->data ? strlen(i->data) : 0;
    archive_entry_set_filetype(e, AE_IFREG);
    switch (i->kind) {
    case 'd':
        archive_entry_set_filetype(e, AE_IFDIR);
        break;
    case 'l':
        archive_entry_set_filetype(e, AE_IFLNK);
        archive_entry_set_symlink(e, i->data);
        break;
    case 'h':
        archive_entry_set_hardlink(e, i->data);
        break;
    case 'p':
        archive_entry_set_filetype(e, AE_IFIFO);
        break;
    case 'c':
        archive_entry_set_filetype(e, AE_IFCHR);
        archive_entry_set_rdev(e, 0x103);
        break;
    case 'x':
        archive_entry_xattr_add_entry(e, i->data, "v", 1);
        break;
    default:
        archive_entry_set_size(e, (la_int64_t)len);
    }
}

static void make_tar(const struct item *items, size_t count, struct buf *out)
{
    size_t used;
    struct archive *a = archive_write_new();
    archive_write_set_format_pax(a);
    archive_write_set_bytes_per_block(a, 0);
    assert_true(buf_reserve(out, MAX_LAYER));
    assert_int_equal(archive_write_open_memory(a, out->data, MAX_LAYER, &used), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, items[i].name);
        archive_entry_set_perm(e, items[i].kind == 'd' ? 0750 : 0640);
        archive_entry_set_mtime(e, 1000000000, 123000000);
        set_kind(e, &items[i]);
        assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
        if (items[i].kind == 'f')
            archive_write_data(a, items[i].data, strlen(items[i].data));
        archive_entry_free(e);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    out->len = used;
}

static bool apply_bytes(struct world *w, struct sv bytes, const char *compression,
                        struct layer_result *out, struct vic_err *err)
{
    int fd = memfd_create("layer", MFD_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes.p, bytes.len, 0), bytes.len);
    struct inflate *in = inflate_new(fd, compression, err);
    assert_non_null(in);
    bool ok = layer_apply(&(struct layer_options){w->root, &w->trash, MAX_BYTES, in}, out, err);
    inflate_free(in);
    close(fd);
    return ok;
}

static void good(struct world *w, const struct item *items, size_t count)
{
    AUTO_BUF struct buf tar = {0};
    struct layer_result r;
    struct vic_err err = {0};
    char digest[80] = "sha256:";
    make_tar(items, count, &tar);
    if (!apply_bytes(w, buf_sv(&tar), "none", &r, &err))
        fail_msg("%s", err.msg);
    sha256_hex(tar.data, tar.len, digest + 7);
    assert_string_equal(r.diff_id, digest);
    assert_int_equal(r.size, tar.len);
}
#define GOOD(w, ...)                                                                               \
    good(w, (const struct item[]){__VA_ARGS__}, ARRAY_LEN(((const struct item[]){__VA_ARGS__})))

static bool has(struct world *w, const char *path, char kind)
{
    struct stat st;
    if (fstatat(w->root, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return kind == 0;
    mode_t want = kind == 'd'   ? S_IFDIR
                  : kind == 'l' ? S_IFLNK
                  : kind == 'p' ? S_IFIFO
                  : kind == 'c' ? S_IFCHR
                                : S_IFREG;
    return kind != 0 && (st.st_mode & S_IFMT) == want;
}

static void a_layer_makes_what_it_says(void **state)
{
    struct world *w = *state;
    struct stat a, b, d;
    GOOD(w, {'d', "./", NULL}, {'d', "dir/", NULL}, {'f', "dir/file", "text"},
         {'h', "hard", "dir/file"}, {'h', "hard2", "/dir/file"}, {'l', "link", "/dir"},
         {'f', "link/through", "x"}, {'p', "fifo", NULL}, {'c', "null", NULL},
         {'f', "not/yet/there", "y"}, {'f', "caf\xc3\xa9", "z"}, {'f', "new\nline", "z"},
         {'f', "bad\xff", "z"});
    assert_true(has(w, "dir", 'd') && has(w, "dir/through", 'f') && has(w, "link", 'l'));
    assert_true(has(w, "fifo", 'p') && has(w, "null", 'c') && has(w, "not/yet/there", 'f'));
    assert_true(has(w, "caf\xc3\xa9", 'f') && has(w, "new\nline", 'f') && has(w, "bad\xff", 'f'));
    assert_int_equal(fstatat(w->root, "dir/file", &a, 0), 0);
    assert_int_equal(fstatat(w->root, "hard2", &b, 0), 0);
    assert_int_equal(fstatat(w->root, "dir", &d, 0), 0);
    assert_true(a.st_ino == b.st_ino && a.st_nlink == 3 && a.st_size == 4);
    assert_int_equal(a.st_mode & 07777, 0640);
    assert_int_equal(d.st_mode & 07777, 0750);
    assert_true(a.st_mtim.tv_sec == 1000000000 && a.st_mtim.tv_nsec == 123000000);
    assert_true(d.st_mtim.tv_sec == 1000000000); /* though "through" was made in it later */
}

static void a_layer_replaces_and_whites_out(void **state)
{
    struct world *w = *state;
    GOOD(w, {'f', "a/1", "x"}, {'f', "a/2", "x"}, {'f', "b/deep/er/1", "x"}, {'f', "c", "x"},
         {'f', "o/old", "x"}, {'f', "o/sub/old", "x"}, {'d', "was-dir/", NULL});
    GOOD(w, {'f', "a/.wh.1", ""}, {'f', ".wh.b", ""}, {'d', "c/", NULL}, {'f', "c/in", "x"},
         {'d', "o/", NULL}, {'f', "o/new", "x"}, {'d', "o/sub/", NULL}, {'f', "o/sub/new", "x"},
         {'f', "o/.wh..wh..opq", ""}, {'l', "was-dir", "a"}, {'f', ".wh..wh.plnk", ""},
         {'f', ".wh.not-there", ""});
    assert_true(has(w, "a/1", 0) && has(w, "a/2", 'f') && has(w, "b", 0));
    assert_true(has(w, "c", 'd') && has(w, "c/in", 'f'));
    assert_true(has(w, "o/old", 0) && has(w, "o/new", 'f'));
    assert_true(has(w, "o/sub/old", 0) && has(w, "o/sub/new", 'f'));
    assert_true(has(w, "was-dir", 'l') && has(w, ".wh..wh.plnk", 0));
}

static void hostile_entries_are_refused_by_name(void **state)
{
    struct world *w = *state;
    static const struct {
        struct item items[3];
        const char *entry;
    } rows[] = {
        {{{'f', "/abs", "x"}}, "/abs"},
        {{{'f', "../up", "x"}}, "../up"},
        {{{'f', "a/../../up", "x"}}, "a/../../up"},
        {{{'f', "..", "x"}}, ".."},
        {{{'l', "s", "../out"}}, "s"},
        {{{'l', "a/b/s", "../../../out"}}, "a/b/s"},
        {{{'h', "h", "../out"}}, "h"},
        {{{'h', "h", "/etc/shadow"}}, "h"}, /* inside: not there */
        {{{'l', "etc", "/etc"}, {'h', "h", "etc/passwd"}}, "h"},
        {{{'f', "f", "x"}, {'f', "f/below", "x"}}, "f/below"},
        {{{'l', "loop", "loop"}, {'f', "loop/x", "x"}}, "loop/x"},
        {{{'l', "gone", "nowhere"}, {'f', "gone/x", "x"}}, "gone/x"},
        {{{'x', "t", "trusted.overlay.opaque"}}, "t"},
        {{{'f', ".wh..", ""}}, ".wh.."},
        {{{'f', "d/.wh.", ""}}, "d/.wh."},
        {{{'f', "d/.wh...", ""}}, "d/.wh..."},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_BUF struct buf tar = {0};
        struct layer_result r;
        struct vic_err err = {0};
        size_t n = 0;
        while (n < 3 && rows[i].items[n].name)
            n++;
        make_tar(rows[i].items, n, &tar);
        if (apply_bytes(w, buf_sv(&tar), "none", &r, &err))
            fail_msg("row %zu was accepted", i);
        assert_string_equal(r.entry, rows[i].entry);
        assert_non_null(strstr(err.msg, rows[i].entry));
    }
    assert_int_equal(access("/abs", F_OK), -1);
}

/* Links above an entry are followed inside the tree, whatever they say. */
static void links_stay_inside(void **state)
{
    struct world *w = *state;
    GOOD(w, {'d', "in/", NULL}, {'l', "abs", "/in"}, {'f', "abs/f", "x"}, {'l', "abs2", "/"},
         {'f', "abs2/g", "x"}, {'l', "usr", "in"}, {'f', "usr/.wh.f", ""},
         {'f', "usr/opaque/.wh..wh..opq", ""});
    assert_true(has(w, "in/f", 0) && has(w, "g", 'f'));
    /* What a running container may leave for the next layer: a link that climbs. */
    assert_int_equal(symlinkat("../../../../../../tmp", w->root, "climb"), 0);
    GOOD(w, {'d', "tmp/", NULL}, {'f', "climb/vic-escaped", "x"}, {'f', "climb/.wh.x", ""});
    assert_int_equal(access("/tmp/vic-escaped", F_OK), -1);
    assert_true(has(w, "tmp/vic-escaped", 'f'));
}

static void expect_code(struct world *w, struct sv bytes, const char *compression,
                        enum vic_code code)
{
    struct layer_result r;
    struct vic_err err = {0};
    assert_false(apply_bytes(w, bytes, compression, &r, &err));
    if (err.code != code)
        fail_msg("%s: %s", vic_code_name(err.code), err.msg);
}

static void damaged_archives_are_refused(void **state)
{
    struct world *w = *state;
    static char big[100001], junk[4096];
    AUTO_BUF struct buf tar = {0};
    memset(big, 'b', sizeof big - 1);
    memset(junk, 'j', sizeof junk);
    make_tar(&(struct item){'f', "big", big}, 1, &tar);
    expect_code(w, sv_sub(buf_sv(&tar), 0, 50000), "none", VIC_CORRUPT);
    expect_code(w, sv_sub(buf_sv(&tar), 0, 300), "none", VIC_CORRUPT);
    expect_code(w, sv_make(junk, sizeof junk), "none", VIC_CORRUPT);
    expect_code(w, sv_make(junk, sizeof junk), "gzip", VIC_CORRUPT);
    expect_code(w, sv_make(junk, sizeof junk), "zstd", VIC_CORRUPT);
}

static void compressed(void **state)
{
    struct world *w = *state;
    AUTO_BUF struct buf tar = {0};
    struct layer_result r, plain;
    struct vic_err err = {0};
    make_tar((const struct item[]){{'f', "f", "text"}, {'d', "d/", NULL}}, 2, &tar);
    assert_true(apply_bytes(w, buf_sv(&tar), "none", &plain, &err));
    size_t room = ZSTD_compressBound(tar.len) + 1000, len;
    AUTO_FREE char *z = xmalloc(room);
    len = ZSTD_compress(z, room, tar.data, tar.len, 3);
    assert_true(apply_bytes(w, sv_make(z, len), "zstd", &r, &err));
    assert_string_equal(r.diff_id, plain.diff_id);
    expect_code(w, sv_make(z, len - 3), "zstd", VIC_CORRUPT);
    z_stream s = {.next_in = (unsigned char *)tar.data,
                  .avail_in = (unsigned)tar.len,
                  .next_out = (unsigned char *)z,
                  .avail_out = (unsigned)room};
    assert_int_equal(deflateInit2(&s, 6, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
    assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
    len = s.total_out;
    deflateEnd(&s);
    assert_true(apply_bytes(w, sv_make(z, len), "gzip", &r, &err));
    assert_string_equal(r.diff_id, plain.diff_id);
    expect_code(w, sv_make(z, len - 1), "gzip", VIC_CORRUPT);
    z[len] = 'x'; /* something behind the end */
    expect_code(w, sv_make(z, len + 1), "gzip", VIC_CORRUPT);
    assert_null(inflate_new(0, "bzip2", &err));
}

static void empty_layers_are_fine(void **state)
{
    struct world *w = *state;
    static char zeros[1024];
    struct layer_result r;
    struct vic_err err = {0};
    assert_true(apply_bytes(w, sv_make(zeros, sizeof zeros), "none", &r, &err));
    assert_string_equal(r.diff_id,
                        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ac"
                        "e3c6ef");
    assert_true(apply_bytes(w, SV(""), "none", &r, &err));
    assert_int_equal(r.size, 0);
}

static void put_octal(char *at, unsigned width, uint64_t n)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%020llo", (unsigned long long)n);
    memcpy(at, text + len - (int)(width - 1), width - 1);
}

/* Claims 8 EiB less a little, in base 256, with nothing behind it. */
static void absurd_sizes_are_refused(void **state)
{
    struct world *w = *state;
    static char head[1024];
    unsigned sum = 0;
    memset(head, 0, sizeof head);
    memcpy(head, "huge", 4);
    put_octal(head + 100, 8, 0644);
    put_octal(head + 108, 8, 0);
    put_octal(head + 116, 8, 0);
    memcpy(head + 124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\0", 12);
    put_octal(head + 136, 12, 0);
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    for (unsigned i = 0; i < 512; i++)
        sum += (unsigned char)head[i];
    put_octal(head + 148, 7, sum);
    struct layer_result r;
    struct vic_err err = {0};
    assert_false(apply_bytes(w, sv_make(head, sizeof head), "none", &r, &err));
    assert_true(err.code == VIC_TOO_LARGE || err.code == VIC_CORRUPT);
}

/* Ten thousand folders in each other: longer than a path can be, removed all the same. */
static void deep_trees_are_removed(void **state)
{
    struct world *w = *state;
    struct vic_err err;
    int at = dup(w->root);
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(mkdirat(at, "deep", 0755), 0);
        int next = openat(at, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    if (!tree_remove(&w->trash, w->root, "deep", &err))
        fail_msg("%s", err.msg);
    assert_true(has(w, "deep", 0));
    assert_true(tree_remove(&w->trash, w->root, "deep", &err));
}

static void names_are_cleaned(void **state)
{
    (void)state;
    static char longest[5000];
    static const struct {
        const char *name, *clean;
    } rows[] = {
        {"a", "a"},    {"./", ""}, {".", ""},    {"./a//b/./c/", "a/b/c"}, {"..a/b..", "..a/b.."},
        {"/a", NULL},  {"", NULL}, {"..", NULL}, {"a/..", NULL},           {"a/../b", NULL},
        {"...", "..."}};
    struct layer_name n;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool ok = layer_name_clean(rows[i].name, &n, NULL);
        assert_int_equal(ok, rows[i].clean != NULL);
        if (ok)
            assert_string_equal(n.path, rows[i].clean);
    }
    memset(longest, 'n', 256);
    assert_false(layer_name_clean(longest, &n, NULL));
    for (size_t i = 0; i + 2 < sizeof longest; i += 2)
        memcpy(longest + i, "n/", 2);
    assert_false(layer_name_clean(longest, &n, NULL));
    assert_true(layer_name_target("/a/b", &n, NULL));
    assert_string_equal(n.path, "a/b");
    assert_false(layer_name_target("/", &n, NULL));
    assert_true(layer_name_clean("a/b/c", &n, NULL));
    assert_true(layer_link_stays(&n, "../../x") && layer_link_stays(&n, "/../../x"));
    assert_true(layer_link_stays(&n, "x/../y") && !layer_link_stays(&n, "../../../x"));
    assert_false(layer_link_stays(&n, "x/../../../../y"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_layer_makes_what_it_says),
        TEST(a_layer_replaces_and_whites_out),
        TEST(hostile_entries_are_refused_by_name),
        TEST(links_stay_inside),
        TEST(damaged_archives_are_refused),
        TEST(compressed),
        TEST(empty_layers_are_fine),
        TEST(absurd_sizes_are_refused),
        TEST(deep_trees_are_removed),
        cmocka_unit_test(names_are_cleaned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
