/* Container logs: what is stored comes back, once, in order; crashes, rotation, a full disk, tail,
 * followers. */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sync.h"
#include "logs_priv.h"

struct fx {
    char *dir;
    struct logs *l;
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    uint64_t stored, stored_calls, appended, followed;
    char stored_boot[40];
};

static void on_stored(void *arg, const char *container, const char *boot, uint64_t seq)
{
    struct fx *x = arg;
    (void)container;
    mutex_lock(&x->lock);
    x->stored = seq;
    x->stored_calls++;
    snprintf(x->stored_boot, sizeof x->stored_boot, "%s", boot);
    cond_broadcast(&x->wake);
    mutex_unlock(&x->lock);
}

static void open_logs(struct fx *x)
{
    struct logs_options o = {.dir = x->dir, .stored = on_stored, .arg = x};
    struct vic_err err;
    x->l = logs_open(&o, &err);
    if (!x->l)
        fail_msg("%s", err.msg);
}

static void begin(struct fx *x)
{
    *x = (struct fx){.dir = new_folder()};
    mutex_init(&x->lock);
    cond_init(&x->wake);
    open_logs(x);
}

static void end(struct fx *x)
{
    logs_close(x->l);
    cond_fini(&x->wake);
    mutex_fini(&x->lock);
    remove_folder(x->dir);
}

static void reopen(struct fx *x)
{
    logs_close(x->l);
    open_logs(x);
}

static void put_as(struct fx *x, const char *container, const char *boot, uint64_t seq,
                   unsigned stream, struct sv bytes)
{
    struct logs_entry e = {
        .boot = boot, .seq = seq, .time_ns = (int64_t)seq * 1000, .stream = stream, .bytes = bytes};
    logs_append(x->l, container, &e);
}

static void put(struct fx *x, uint64_t seq, const char *text)
{
    put_as(x, "c1", "boot-1", seq, 1, sv_of(text));
}

static void until_stored(struct fx *x, uint64_t seq)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + 20000;
    mutex_lock(&x->lock);
    while (x->stored != seq && clock_mono_ms(&vic_clock_real) < deadline)
        cond_wait_ms(&x->wake, &x->lock, 1000);
    uint64_t got = x->stored;
    mutex_unlock(&x->lock);
    assert_int_equal(got, seq);
}

static struct logs_reader *reader(struct fx *x, const char *container)
{
    struct vic_err err;
    struct logs_reader *r = logs_read_open(x->l, container, &err);
    if (!r)
        fail_msg("%s", err.msg);
    return r;
}

/* All that a reader finds, joined. */
static void read_all(struct logs_reader *r, struct buf *out)
{
    struct logs_entry e;
    struct vic_err err;
    while (logs_read(r, &e, &err))
        buf_add_sv(out, e.bytes);
    if (err.code != VIC_OK)
        fail_msg("%s", err.msg);
}

static void expect_log(struct fx *x, const char *container, const char *text)
{
    AUTO_BUF struct buf out = {0};
    struct logs_reader *r = reader(x, container);
    read_all(r, &out);
    logs_read_free(r);
    assert_string_equal(buf_str(&out), text);
}

static void entries_come_back(void **state)
{
    (void)state;
    struct fx x;
    struct logs_entry e;
    struct vic_err err;
    begin(&x);
    struct logs_entry in = {"boot-1", 7, 1234567890123456789, 2, LOGS_PARTIAL, SV("a\0b\xff")};
    logs_append(x.l, "c1", &in);
    put_as(&x, "c1", "boot-2", 1, 1, SV(""));
    put_as(&x, "c2", "boot-1", 9, 1, SV("other\n"));
    for (int round = 0; round < 2; round++) {
        logs_flush(x.l, "c1");
        struct logs_reader *r = reader(&x, "c1");
        assert_true(logs_read(r, &e, &err));
        assert_string_equal(e.boot, "boot-1");
        assert_true(e.seq == 7 && e.time_ns == 1234567890123456789 && e.stream == 2);
        assert_true(e.flags == LOGS_PARTIAL && sv_eq(e.bytes, SV("a\0b\xff")));
        struct logs_pos second = logs_tell(r);
        for (int again = 0; again < 2; again++) {
            assert_true(logs_read(r, &e, &err));
            assert_string_equal(e.boot, "boot-2");
            assert_true(e.seq == 1 && e.bytes.len == 0);
            assert_false(logs_read(r, &e, &err));
            assert_int_equal(err.code, VIC_OK);
            struct logs_pos at = logs_tell(r), last = logs_end(x.l, "c1");
            assert_true(at.segment == last.segment && at.offset == last.offset);
            logs_seek(r, second); /* the boot's name is found although it lies before */
        }
        logs_read_free(r);
        reopen(&x);
    }
    expect_log(&x, "c2", "other\n");
    expect_log(&x, "never-written", "");
    end(&x);
}

static void stored_is_told_and_repeats_are_dropped(void **state)
{
    (void)state;
    struct fx x;
    begin(&x);
    assert_int_equal(logs_stored(x.l, "c1", "boot-1"), 0);
    put(&x, 1, "one\n");
    put(&x, 2, "two\n");
    until_stored(&x, 2);
    assert_string_equal(x.stored_boot, "boot-1");
    assert_int_equal(logs_stored(x.l, "c1", "boot-1"), 2);
    assert_int_equal(logs_stored(x.l, "c1", "boot-9"), 0);
    uint64_t calls = x.stored_calls;
    put(&x, 1, "one\n");
    put(&x, 2, "two\n");
    logs_flush(x.l, "c1");
    reopen(&x); /* closing syncs and tells */
    assert_true(x.stored_calls > calls && x.stored == 2);
    assert_int_equal(logs_stored(x.l, "c1", "boot-1"), 2);
    put(&x, 2, "two\n");
    put(&x, 3, "three\n");
    put_as(&x, "c1", "boot-2", 1, 1, SV("another boot\n"));
    logs_flush(x.l, "c1");
    expect_log(&x, "c1", "one\ntwo\nthree\nanother boot\n");
    end(&x);
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "..",
                                        "a/b",
                                        "../c1",
                                        ".hidden",
                                        "a b",
                                        "0123456789012345678901234567890123456789012345678901234567"
                                        "890123456789"};
    struct fx x;
    struct vic_err err;
    begin(&x);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        put_as(&x, names[i], "b", 1, 1, SV("x"));
        logs_flush(x.l, names[i]);
        assert_int_equal(logs_stored(x.l, names[i], "b"), 0);
        assert_null(logs_read_open(x.l, names[i], &err));
        assert_int_equal(err.code, VIC_INVALID);
        logs_remove(x.l, names[i]);
        logs_watch_free(logs_watch_new(x.l, names[i], NULL, NULL));
    }
    put_as(&x, "c1", "a boot id that is longer than thirty-nine characters", 1, 1, SV("x"));
    logs_flush(x.l, "c1");
    expect_log(&x, "c1", "");
    end(&x);
}

/* --- crashes
 * -------------------------------------------------------------------------------------- */

/* What a crash may leave behind the last whole entry. */
static void a_torn_tail_is_cut(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        int cut; /* bytes off the end first */
        const char *left;
        uint64_t stored;
    } rows[] = {
        {"", 0, 0, "one\ntwo\n", 2},
        {"", 0, 1, "one\n", 1},
        {"", 0, 12, "one\n", 1},
        {"", 0, 31, "one\n", 1},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 37, 0,
         "one\ntwo\n", 2},
        {"\x18\0\0\0garbage garbage garbage garbage", 36, 0, "one\ntwo\n", 2},
        {"\xff\xff\xff\x7fgarbage", 11, 0, "one\ntwo\n", 2},
        {"\x18", 1, 0, "one\ntwo\n", 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fx x;
        struct stat st;
        begin(&x);
        put(&x, 1, "one\n");
        put(&x, 2, "two\n");
        logs_close(x.l);
        AUTO_FREE char *path = xasprintf("%s/c1/000001.log", x.dir);
        int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        assert_int_equal(ftruncate(fd, st.st_size - rows[i].cut), 0);
        assert_int_equal(write(fd, rows[i].bytes, rows[i].size), rows[i].size);
        close(fd);
        open_logs(&x);
        expect_log(&x, "c1", rows[i].left);
        assert_int_equal(logs_stored(x.l, "c1", "boot-1"), rows[i].stored);
        put(&x, 3, "three\n");
        reopen(&x);
        AUTO_FREE char *all = xasprintf("%sthree\n", rows[i].left);
        expect_log(&x, "c1", all);
        end(&x);
    }
}

/* A bit that fell over in a stored entry costs the rest of its segment, and that is said. */
static void damage_is_skipped_and_counted(void **state)
{
    (void)state;
    struct fx x;
    begin(&x);
    put(&x, 1, "one\n");
    put(&x, 2, "two\n");
    until_stored(&x, 2);
    AUTO_FREE char *path = xasprintf("%s/c1/000001.log", x.dir);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    struct logs_pos last = logs_end(x.l, "c1");
    assert_int_equal(pwrite(fd, "T", 1, (off_t)last.offset - 4), 1);
    AUTO_BUF struct buf out = {0};
    struct logs_reader *r = reader(&x, "c1");
    read_all(r, &out);
    assert_string_equal(buf_str(&out), "one\n");
    assert_int_equal(logs_lost(r), 32);
    put(&x, 3, "three\n");
    logs_flush(x.l, "c1");
    read_all(r, &out);
    assert_string_equal(buf_str(&out), "one\nthree\n");
    logs_read_free(r);
    end(&x);
}

static void tell_parent(void *arg, const char *container, const char *boot, uint64_t seq)
{
    int fd = *(int *)arg;
    (void)container, (void)boot;
    if (write(fd, &seq, sizeof seq) != sizeof seq)
        _exit(1);
}

static void write_for_ever(const char *dir, int fd, uint64_t from)
{
    struct logs_options o = {.dir = dir, .stored = tell_parent, .arg = &fd};
    struct logs *l = logs_open(&o, NULL);
    if (!l)
        _exit(1);
    logs_limit(l, "c1", 4000000, 100);
    for (uint64_t seq = from;; seq++) {
        char text[64];
        int len = snprintf(text, sizeof text, "line %llu\n", (unsigned long long)seq);
        struct logs_entry e = {"boot-1", seq, 0, 1, 0, sv_make(text, (size_t)len)};
        logs_append(l, "c1", &e);
        if (seq % 100 == 0)
            logs_flush(l, "c1");
    }
}

/* kill -9 at any moment: whatever was told as stored is there, nothing twice, no gap. */
static void killed_writers_lose_nothing_that_was_stored(void **state)
{
    (void)state;
    AUTO_FREE char *dir = NULL;
    char *folder = new_folder();
    uint64_t last = 0;
    dir = xasprintf("%s/logs", folder);
    for (int round = 0; round < 12; round++) {
        int p[2];
        uint64_t told = last;
        assert_int_equal(pipe(p), 0);
        pid_t pid = fork();
        if (pid == 0)
            write_for_ever(dir, p[1], last + 1);
        close(p[1]);
        usleep(60000 + (useconds_t)round * 7000); /* a random moment, not a wait for something */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        for (uint64_t seq; read(p[0], &seq, sizeof seq) == sizeof seq;)
            told = seq;
        close(p[0]);
        struct fx x = {.dir = dir};
        mutex_init(&x.lock);
        cond_init(&x.wake);
        open_logs(&x);
        struct logs_reader *r = reader(&x, "c1");
        struct logs_entry e;
        struct vic_err err;
        uint64_t seen = 0;
        while (logs_read(r, &e, &err)) {
            assert_true(seen == 0 || e.seq == seen + 1);
            seen = e.seq;
        }
        logs_read_free(r);
        assert_true(seen >= told);
        assert_int_equal(logs_stored(x.l, "c1", "boot-1"), seen);
        last = seen;
        logs_close(x.l);
        cond_fini(&x.wake);
        mutex_fini(&x.lock);
    }
    assert_true(last > 0);
    remove_folder(folder);
}

/* --- rotation
 * ------------------------------------------------------------------------------------- */

static uint64_t kept_bytes(const struct fx *x)
{
    uint64_t sum = 0;
    for (unsigned i = 1; i < 400; i++) {
        struct stat st;
        AUTO_FREE char *path = xasprintf("%s/c1/%06u.log", x->dir, i);
        if (stat(path, &st) == 0)
            sum += (uint64_t)st.st_size;
    }
    return sum;
}

static void old_segments_go_and_readers_are_told(void **state)
{
    (void)state;
    struct fx x;
    struct logs_entry e;
    struct vic_err err;
    char line[101];
    begin(&x);
    logs_limit(x.l, "c1", 40000, 2);
    memset(line, 'x', sizeof line - 1);
    line[99] = '\n';
    line[100] = '\0';
    put(&x, 1, line);
    logs_flush(x.l, "c1");
    struct logs_reader *r = reader(&x, "c1");
    assert_true(logs_read(r, &e, &err)); /* and then it falls behind */
    for (uint64_t seq = 2; seq <= 5000; seq++) {
        put(&x, seq, line);
        if (seq % 50 == 0)
            logs_flush(x.l, "c1");
    }
    logs_flush(x.l, "c1");
    uint64_t kept = kept_bytes(&x), count = 0, lost = 0, before = 0;
    assert_true(kept <= 80000 && kept >= 69000);
    while (logs_read(r, &e, &err)) {
        assert_true(!before || e.seq == before + 1);
        lost += before ? 0 : logs_lost(r);
        before = e.seq;
        count++;
    }
    assert_int_equal(before, 5000);
    assert_int_equal(logs_lost(r), 0);
    /* Entries are 128 bytes; the rest is our own entries at each segment's beginning. */
    assert_true(lost >= (4999 - count) * 128 && lost < (5000 - count) * 130);
    logs_read_free(r);
    /* What was rotated away is still known as stored. */
    reopen(&x);
    assert_int_equal(logs_stored(x.l, "c1", "boot-1"), 5000);
    put(&x, 17, line);
    logs_flush(x.l, "c1");
    assert_int_equal(kept_bytes(&x), kept);
    end(&x);
}

static void a_boot_is_remembered_over_segments(void **state)
{
    (void)state;
    struct fx x;
    AUTO_BUF struct buf big = {0};
    begin(&x);
    for (int i = 0; i < 5000; i++)
        buf_add_c(&big, 'y');
    logs_limit(x.l, "c1", 20000, 1);
    put_as(&x, "c1", "old", 42, 1, SV("old\n"));
    for (uint64_t seq = 1; seq <= 20; seq++)
        put_as(&x, "c1", "new", seq, 1, buf_sv(&big));
    reopen(&x);
    assert_int_equal(logs_stored(x.l, "c1", "old"), 42);
    assert_int_equal(logs_stored(x.l, "c1", "new"), 20);
    /* With many boots the newest few are known, and each entry still has its own's name. */
    logs_limit(x.l, "c1", 0, 0);
    struct logs_pos at = logs_end(x.l, "c1");
    for (unsigned i = 0; i < 20; i++) {
        char boot[16];
        snprintf(boot, sizeof boot, "boot-%u", i);
        put_as(&x, "c1", boot, 5, 1, SV("z"));
    }
    logs_flush(x.l, "c1");
    struct logs_reader *r = reader(&x, "c1");
    struct logs_entry e;
    struct vic_err err;
    logs_seek(r, at);
    for (unsigned i = 0; i < 20; i++) {
        char boot[16];
        snprintf(boot, sizeof boot, "boot-%u", i);
        assert_true(logs_read(r, &e, &err));
        assert_string_equal(e.boot, boot);
    }
    logs_read_free(r);
    reopen(&x);
    assert_int_equal(logs_stored(x.l, "c1", "boot-19"), 5);
    assert_int_equal(logs_stored(x.l, "c1", "boot-2"), 0);
    end(&x);
}

/* --- tail
 * ----------------------------------------------------------------------------------------- */

static void tail_counts_lines(void **state)
{
    (void)state;
    static const struct {
        const char *entries[6];
        uint64_t lines;
        const char *text;
    } rows[] = {
        {{"1\n", "2\n", "3\n"}, 0, ""},
        {{"1\n", "2\n", "3\n"}, 1, "3\n"},
        {{"1\n", "2\n", "3\n"}, 2, "2\n3\n"},
        {{"1\n", "2\n", "3\n"}, 3, "1\n2\n3\n"},
        {{"1\n", "2\n", "3\n"}, 99, "1\n2\n3\n"},
        {{"1\n", "2\n", "3"}, 1, "3"},
        {{"1\n", "2\n", "3"}, 2, "2\n3"},
        {{"1\n2\n3\n4\n"}, 2, "3\n4\n"},
        {{"1\n2\n3\n4"}, 2, "3\n4"},
        {{"1\n2", "2\n3", "3\n"}, 1, "33\n"},
        {{"1\n2", "2\n3", "3\n"}, 2, "22\n33\n"},
        {{"1\n2", "", "2\n3\n"}, 2, "22\n3\n"},
        {{"no newline"}, 1, "no newline"},
        {{"\n\n\n"}, 2, "\n\n"},
        {{""}, 1, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fx x;
        struct vic_err err;
        AUTO_BUF struct buf out = {0};
        begin(&x);
        for (size_t k = 0; k < 6 && rows[i].entries[k]; k++)
            put(&x, k + 1, rows[i].entries[k]);
        logs_flush(x.l, "c1");
        struct logs_reader *r = reader(&x, "c1");
        assert_true(logs_seek_tail(r, rows[i].lines, &err));
        read_all(r, &out);
        if (strcmp(buf_str(&out), rows[i].text) != 0)
            fail_msg("row %zu: \"%s\"", i, buf_str(&out));
        logs_read_free(r);
        end(&x);
    }
}

static void tail_goes_over_segments(void **state)
{
    (void)state;
    struct fx x;
    struct vic_err err;
    begin(&x);
    logs_limit(x.l, "c1", 20000, 1000);
    for (uint64_t seq = 1; seq <= 3000; seq++) {
        char text[32];
        snprintf(text, sizeof text, "line %llu\n", (unsigned long long)seq);
        put(&x, seq, text);
    }
    logs_flush(x.l, "c1");
    struct logs_reader *r = reader(&x, "c1");
    for (uint64_t lines = 1; lines <= 3100; lines += 61) {
        struct logs_entry e;
        uint64_t count = 0, first = 0;
        assert_true(logs_seek_tail(r, lines, &err));
        while (logs_read(r, &e, &err)) {
            first = count++ ? first : e.seq;
        }
        assert_int_equal(count, lines < 3000 ? lines : 3000);
        assert_int_equal(first, 3001 - count);
    }
    logs_read_free(r);
    end(&x);
}

/* --- a full disk
 * ---------------------------------------------------------------------------------- */

/* A small file system where that is allowed, else a limit on file sizes: both refuse writes. */
static bool mount_small(const char *dir)
{
    return geteuid() == 0 && mount("tmpfs", dir, "tmpfs", 0, "size=64k") == 0;
}

static void set_limit(rlim_t bytes)
{
    struct rlimit r;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void check_marker(struct fx *x, uint64_t last)
{
    struct logs_reader *r = reader(x, "c1");
    struct logs_entry e;
    struct vic_err err;
    uint64_t seen = 0, lost = 0, markers = 0;
    while (logs_read(r, &e, &err)) {
        if (e.flags & LOGS_DROPPED) {
            markers++;
            lost = e.seq - seen;
            AUTO_FREE char *text = xasprintf("[vic: %llu bytes of output were dropped: the log "
                                             "disk is full]\n",
                                             (unsigned long long)lost * 1000);
            assert_true(sv_is(e.bytes, text));
            assert_int_equal(e.stream, 2);
        } else {
            assert_int_equal(e.seq, seen + 1);
        }
        seen = e.seq;
    }
    logs_read_free(r);
    assert_int_equal(markers, 1);
    assert_true(lost > 0);
    assert_int_equal(seen, last);
}

static void a_full_disk_drops_with_a_marker(struct fx *x, void (*make_room)(struct fx *x))
{
    AUTO_BUF struct buf line = {0};
    for (int i = 0; i < 999; i++)
        buf_add_c(&line, 'z');
    buf_add_c(&line, '\n');
    for (uint64_t seq = 1; seq <= 200; seq++) {
        put(x, seq, buf_str(&line));
        if (seq % 10 == 0)
            logs_flush(x->l, "c1");
    }
    until_stored(x, 200); /* never an error to the guest */
    make_room(x);
    put(x, 201, buf_str(&line));
    until_stored(x, 201);
    check_marker(x, 201);
    reopen(x);
    assert_int_equal(logs_stored(x->l, "c1", "boot-1"), 201);
    check_marker(x, 201);
}

static void lift_limit(struct fx *x)
{
    (void)x;
    set_limit(RLIM_INFINITY);
}

static void a_file_limit_drops_with_a_marker(void **state)
{
    (void)state;
    struct fx x;
    begin(&x);
    set_limit(65536);
    a_full_disk_drops_with_a_marker(&x, lift_limit);
    end(&x);
}

static void grow(struct fx *x)
{
    assert_int_equal(mount("tmpfs", x->dir, "tmpfs", MS_REMOUNT, "size=4m"), 0);
}

static void a_small_disk_drops_with_a_marker(void **state)
{
    (void)state;
    struct fx x = {.dir = new_folder()};
    if (!mount_small(x.dir)) {
        remove_folder(x.dir);
        a_file_limit_drops_with_a_marker(state); /* no right to mount: the same by the other way */
        return;
    }
    mutex_init(&x.lock);
    cond_init(&x.wake);
    open_logs(&x);
    a_full_disk_drops_with_a_marker(&x, grow);
    logs_close(x.l);
    assert_int_equal(umount(x.dir), 0);
    cond_fini(&x.wake);
    mutex_fini(&x.lock);
    remove_folder(x.dir);
}

static void a_marker_is_written_when_room_comes_without_output(void **state)
{
    (void)state;
    struct fx x;
    AUTO_BUF struct buf big = {0};
    for (int i = 0; i < 1000; i++)
        buf_add_c(&big, 'q');
    begin(&x);
    put(&x, 1, "first\n");
    until_stored(&x, 1);
    set_limit(100);
    put(&x, 2, buf_str(&big));
    until_stored(&x, 2);
    expect_log(&x, "c1", "first\n");
    set_limit(RLIM_INFINITY);
    reopen(&x); /* the last try is at close */
    expect_log(&x, "c1", "first\n[vic: 1000 bytes of output were dropped: the log disk is full]\n");
    assert_int_equal(logs_stored(x.l, "c1", "boot-1"), 2);
    end(&x);
}

/* --- followers
 * ------------------------------------------------------------------------------------ */

static void on_appended(void *arg)
{
    struct fx *x = arg;
    mutex_lock(&x->lock);
    x->appended++;
    cond_broadcast(&x->wake);
    mutex_unlock(&x->lock);
}

/* Reads with a watch until 'bytes' came or the log was removed; true = removed. */
static bool follow(struct fx *x, const char *container, uint64_t bytes)
{
    struct logs_watch *w = logs_watch_new(x->l, container, on_appended, x);
    struct logs_reader *r = reader(x, container);
    int64_t deadline = clock_mono_ms(&vic_clock_real) + 30000;
    uint64_t got = 0, last = 0;
    bool removed = false;
    while (got < bytes && !removed && clock_mono_ms(&vic_clock_real) < deadline) {
        struct logs_entry e;
        struct vic_err err;
        mutex_lock(&x->lock);
        uint64_t seen = x->appended;
        mutex_unlock(&x->lock);
        while (logs_read(r, &e, &err)) {
            assert_true(e.seq > last);
            last = e.seq;
            got += e.bytes.len;
        }
        removed = err.code == VIC_NOT_FOUND;
        mutex_lock(&x->lock);
        x->followed = got;
        cond_broadcast(&x->wake);
        if (got < bytes && !removed && x->appended == seen)
            cond_wait_ms(&x->wake, &x->lock, 10000);
        mutex_unlock(&x->lock);
    }
    logs_watch_free(w);
    logs_read_free(r);
    assert_true(removed || got == bytes);
    return removed;
}

struct follower {
    struct fx *x;
    char container[8];
    uint64_t bytes;
    bool removed;
    pthread_t thread;
};

static void *follower_main(void *arg)
{
    struct follower *f = arg;
    f->removed = follow(f->x, f->container, f->bytes);
    return NULL;
}

static void *feeder_main(void *arg)
{
    struct follower *f = arg;
    for (uint64_t seq = 1; seq <= f->bytes / 10; seq++)
        put_as(f->x, f->container, "boot-1", seq, 1, SV("0123456789"));
    return NULL;
}

/* Followers of logs that do not exist yet; many containers and threads at once. */
static void followers_see_every_byte(void **state)
{
    (void)state;
    enum { COUNT = 8, BYTES = 20000 };
    struct fx x;
    struct follower f[COUNT], feed[COUNT];
    begin(&x);
    for (unsigned i = 0; i < COUNT; i++) {
        f[i] = (struct follower){.x = &x, .bytes = BYTES};
        snprintf(f[i].container, sizeof f[i].container, "c%u", i / 2); /* two readers each */
        pthread_create(&f[i].thread, NULL, follower_main, &f[i]);
    }
    for (unsigned i = 0; i < COUNT / 2; i++) {
        feed[i] = (struct follower){.x = &x, .bytes = BYTES};
        snprintf(feed[i].container, sizeof feed[i].container, "c%u", i);
        pthread_create(&feed[i].thread, NULL, feeder_main, &feed[i]);
    }
    for (unsigned i = 0; i < COUNT / 2; i++)
        pthread_join(feed[i].thread, NULL);
    for (unsigned i = 0; i < COUNT; i++)
        pthread_join(f[i].thread, NULL);
    end(&x);
}

static void removal_ends_followers_and_files(void **state)
{
    (void)state;
    struct fx x;
    struct stat st;
    begin(&x);
    put(&x, 1, "hello\n");
    struct follower f = {.x = &x, .container = "c1", .bytes = 1000};
    pthread_create(&f.thread, NULL, follower_main, &f);
    mutex_lock(&x.lock);
    while (x.followed < 6)
        cond_wait(&x.wake, &x.lock);
    mutex_unlock(&x.lock);
    logs_remove(x.l, "c1");
    pthread_join(f.thread, NULL);
    assert_true(f.removed);
    logs_flush(x.l, "c1");
    AUTO_FREE char *path = xasprintf("%s/c1", x.dir);
    assert_true(stat(path, &st) != 0 && errno == ENOENT);
    put(&x, 1, "a new life\n"); /* the name is as good as new */
    logs_flush(x.l, "c1");
    expect_log(&x, "c1", "a new life\n");
    end(&x);
}

static void free_watch(void *arg)
{
    struct logs_watch **w = arg;
    logs_watch_free(TAKE(*w));
}

static void a_watch_may_be_freed_inside_its_call(void **state)
{
    (void)state;
    struct fx x;
    struct logs_watch *w = NULL;
    begin(&x);
    w = logs_watch_new(x.l, NULL, free_watch, &w);
    put(&x, 1, "x");
    put(&x, 2, "y");
    logs_flush(x.l, "c1");
    reopen(&x);
    assert_null(w);
    end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back),
        cmocka_unit_test(stored_is_told_and_repeats_are_dropped),
        cmocka_unit_test(names_that_lead_elsewhere_are_refused),
        cmocka_unit_test(a_torn_tail_is_cut),
        cmocka_unit_test(damage_is_skipped_and_counted),
        cmocka_unit_test(killed_writers_lose_nothing_that_was_stored),
        cmocka_unit_test(old_segments_go_and_readers_are_told),
        cmocka_unit_test(a_boot_is_remembered_over_segments),
        cmocka_unit_test(tail_counts_lines),
        cmocka_unit_test(tail_goes_over_segments),
        cmocka_unit_test(a_file_limit_drops_with_a_marker),
        cmocka_unit_test(a_small_disk_drops_with_a_marker),
        cmocka_unit_test(a_marker_is_written_when_room_comes_without_output),
        cmocka_unit_test(followers_see_every_byte),
        cmocka_unit_test(removal_ends_followers_and_files),
        cmocka_unit_test(a_watch_may_be_freed_inside_its_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
