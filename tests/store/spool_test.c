/* The spool: quota, digests, holds and sweeps, and what a crash leaves. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/tls.h"
#include "store/spool.h"

#include "util.h"

static const char ABC[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static struct spool *open_spool(const char *dir, uint64_t quota)
{
    struct vic_err err;
    struct spool *s = spool_open(dir, quota, &err);
    assert_non_null(s);
    return s;
}

static struct spool_file *new_file(struct spool *s)
{
    struct vic_err err;
    struct spool_file *f = spool_new(s, &err);
    assert_non_null(f);
    return f;
}

static struct spool_file *begin(struct spool *s, const char *text)
{
    struct spool_file *f = new_file(s);
    check_ok(spool_write(f, sv_of(text), &err));
    return f;
}

static void keep(struct spool *s, const char *text, char digest[SPOOL_DIGEST_SIZE])
{
    struct spool_file *f = begin(s, text);
    check_ok(spool_keep(f, NULL, digest, NULL, &err));
}

static unsigned files(const char *dir)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static bool has(struct spool *s, const char *digest)
{
    struct vic_err err = {0};
    AUTO_CLOSE int fd = -1;
    bool there = spool_read(s, digest, &fd, NULL, &err);
    assert_true(there || err.code == VIC_NOT_FOUND);
    return there;
}

static bool never(void *arg, const char *digest)
{
    (void)arg, (void)digest;
    return false;
}

static bool is_it(void *arg, const char *digest)
{
    return strcmp(arg, digest) == 0;
}

static void a_file_is_known_by_its_digest(void **state)
{
    char digest[SPOOL_DIGEST_SIZE], bytes[8] = "";
    uint64_t size = 0;
    AUTO_CLOSE int fd = -1;
    char *dir = new_folder();
    struct spool *s = open_spool(dir, 0);
    (void)state;
    struct spool_file *f = begin(s, "a");
    check_ok(spool_write(f, SV("bc"), &err));
    check_ok(spool_keep(f, ABC, digest, &size, &err));
    assert_string_equal(digest, ABC);
    assert_int_equal(size, 3);
    check_ok(spool_read(s, ABC, &fd, &size, &err));
    assert_int_equal(read(fd, bytes, sizeof bytes), 3);
    assert_string_equal(bytes, "abc");
    assert_int_equal(files(dir), 1);
    spool_release(s, ABC);
    spool_remove(s, ABC);
    assert_int_equal(files(dir), 0);
    spool_close(s);
    remove_folder(dir);
}

static void a_wrong_digest_leaves_nothing(void **state)
{
    char digest[SPOOL_DIGEST_SIZE];
    AUTO_CLOSE int fd = -1;
    char *dir = new_folder();
    struct spool *s = open_spool(dir, 3);
    (void)state;
    struct spool_file *f = begin(s, "abd");
    check_fails(VIC_INVALID, spool_keep(f, ABC, digest, NULL, &err));
    assert_int_equal(files(dir), 0);
    keep(s, "abc", digest); /* the quota was given back */
    check_fails(VIC_INVALID, spool_read(s, "sha256:../../etc/passwd", &fd, NULL, &err));
    check_fails(VIC_INVALID, spool_read(s, "", &fd, NULL, &err));
    spool_remove(s, "../tmp"); /* no digest: nothing */
    spool_close(s);
    remove_folder(dir);
}

static void the_quota_holds(void **state)
{
    char digest[SPOOL_DIGEST_SIZE], again[SPOOL_DIGEST_SIZE];
    char *dir = new_folder();
    struct spool *s = open_spool(dir, 10);
    struct vic_err said = {0};
    (void)state;
    keep(s, "123456", digest);
    struct spool_file *f = begin(s, "7890");
    check_fails(VIC_NO_SPACE, spool_write(f, SV("1"), &err));
    assert_false(spool_write(f, SV("1"), &said));
    assert_non_null(strstr(said.msg, "quota of 10 bytes"));
    spool_drop(f);
    spool_drop(begin(s, "7890")); /* given back whole */
    keep(s, "7890", again);
    spool_release(s, digest);
    spool_remove(s, digest);
    keep(s, "abcdef", digest);
    spool_close(s);
    /* What is kept counts after a restart too. */
    s = open_spool(dir, 10);
    f = new_file(s);
    check_fails(VIC_NO_SPACE, spool_write(f, SV("x"), &err));
    spool_drop(f);
    spool_close(s);
    remove_folder(dir);
}

static void the_same_bytes_are_kept_once(void **state)
{
    char one[SPOOL_DIGEST_SIZE], two[SPOOL_DIGEST_SIZE];
    char *dir = new_folder();
    struct spool *s = open_spool(dir, 6);
    (void)state;
    keep(s, "abc", one);
    keep(s, "abc", two);
    assert_string_equal(one, two);
    assert_int_equal(files(dir), 1);
    spool_drop(begin(s, "def")); /* counted once */
    spool_release(s, one);
    spool_remove(s, one); /* the other still holds it */
    assert_true(has(s, one));
    spool_release(s, two);
    spool_remove(s, one);
    assert_false(has(s, one));
    spool_close(s);
    remove_folder(dir);
}

static void a_sweep_takes_what_nobody_needs(void **state)
{
    char held[SPOOL_DIGEST_SIZE], wanted[SPOOL_DIGEST_SIZE], garbage[SPOOL_DIGEST_SIZE];
    char *dir = new_folder();
    struct spool *s = open_spool(dir, 0);
    (void)state;
    keep(s, "held", held);
    keep(s, "wanted", wanted);
    keep(s, "garbage", garbage);
    spool_release(s, wanted);
    spool_release(s, garbage);
    uint64_t moment = spool_moment(s);
    spool_sweep(s, moment, is_it, wanted);
    assert_true(has(s, held) && has(s, wanted) && !has(s, garbage));
    /* A hold begun (and ended) after the moment: what the caller knows is too old. */
    keep(s, "late", garbage);
    spool_release(s, garbage);
    spool_sweep(s, moment, never, NULL);
    assert_true(has(s, wanted) && has(s, garbage));
    spool_sweep(s, spool_moment(s), never, NULL);
    assert_true(has(s, held) && !has(s, wanted) && !has(s, garbage));
    spool_close(s);
    remove_folder(dir);
}

static void a_crash_leaves_no_pieces(void **state)
{
    char digest[SPOOL_DIGEST_SIZE];
    char *dir = new_folder();
    AUTO_FREE char *piece = xasprintf("%s/tmp-1-0", dir);
    struct spool *s = open_spool(dir, 0);
    (void)state;
    keep(s, "whole", digest);
    spool_close(s); /* with the hold: it does not outlive the process */
    AUTO_CLOSE int fd = open(piece, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "half", 4), 4);
    assert_int_equal(files(dir), 2);
    s = open_spool(dir, 5);
    assert_int_equal(files(dir), 1);
    assert_true(has(s, digest));
    spool_sweep(s, spool_moment(s), never, NULL);
    assert_int_equal(files(dir), 0);
    keep(s, "fives", digest);
    spool_close(s);
    remove_folder(dir);
}

/* --- many at once ---------------------------------------------------------------------------- */
enum { THREADS = 4, ROUNDS = 200 };

/* Each holds the same two files now and then; while it holds one it must be there. */
static void *worker(void *arg)
{
    struct spool *s = arg;
    for (int i = 0; i < ROUNDS; i++) {
        char digest[SPOOL_DIGEST_SIZE];
        keep(s, i % 2 ? "one" : "two", digest);
        if (!has(s, digest))
            abort();
        spool_release(s, digest);
        if (i % 3 == 0)
            spool_remove(s, digest);
        else if (i % 3 == 1)
            spool_sweep(s, spool_moment(s), never, NULL);
    }
    return NULL;
}

static void holders_do_not_disturb_each_other(void **state)
{
    pthread_t t[THREADS];
    char *dir = new_folder();
    struct spool *s = open_spool(dir, 4096);
    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, worker, s), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    spool_sweep(s, spool_moment(s), never, NULL);
    assert_int_equal(files(dir), 0);
    /* The account is even: the whole quota can be used. */
    struct spool_file *f = new_file(s);
    AUTO_FREE char *all = xcalloc(1, 4096);
    check_ok(spool_write(f, sv_make(all, 4096), &err));
    spool_drop(f);
    spool_close(s);
    remove_folder(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_known_by_its_digest),
        cmocka_unit_test(a_wrong_digest_leaves_nothing),
        cmocka_unit_test(the_quota_holds),
        cmocka_unit_test(the_same_bytes_are_kept_once),
        cmocka_unit_test(a_sweep_takes_what_nobody_needs),
        cmocka_unit_test(a_crash_leaves_no_pieces),
        cmocka_unit_test(holders_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
