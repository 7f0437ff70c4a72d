/* The agent's parts that need no guest: specs, users, commands, capabilities, names, addresses,
 * guestinfo, the log queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#include "caps.h"
#include "container.h"
#include "guestinfo.h"
#include "link.h"
#include "logs.h"
#include "lookup.h"
#include "net.h"
#include "spec.h"
#include "user.h"

/* --- specs --- */

#define KEY        "1111111111111111111111111111111111111111111111111111111111111111"
#define SPEC(more) "{\"container\":\"c1\",\"key\":\"" KEY "\",\"args\":[\"sh\"]" more "}"

static bool read_spec(const char *json, struct arena *a, struct spec_run *out, struct vic_err *err)
{
    struct json_val v;
    assert_true(json_parse(sv_of(json), 0, a, &v, err));
    return spec_read_run(v, a, out, err);
}

static void spec_reads_what_control_writes(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct spec_run s;
    struct vic_err err = {0};
    if (!read_spec(SPEC(",\"env\":[\"A=1\",\"B=2\"],\"disk\":3,\"memory\":536870912,\"tty\":true,"
                        "\"ulimits\":[{\"name\":\"nofile\",\"soft\":10,\"hard\":-1}],"
                        "\"tmpfs\":{\"/t\":\"size=1m\"},\"cap_drop\":[\"ALL\"],"
                        "\"cap_add\":[\"net_raw\"],\"restart\":{\"name\":\"no\"}"),
                   &a, &s, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(s.process.env.n, 2);
    assert_null(s.process.env.v[2]);
    assert_string_equal(spec_env(&s.process.env, "B"), "2");
    assert_null(spec_env(&s.process.env, "C"));
    assert_int_equal(s.disk, 3);
    assert_true(s.process.tty);
    assert_int_equal(s.process.ulimits[0].soft, 10);
    assert_true(s.process.ulimits[0].hard == UINT64_MAX);
    assert_string_equal(s.tmpfs.v[0].value, "size=1m");
    assert_true(s.process.caps == UINT64_C(1) << 13);
    assert_int_equal(s.stop_signal, 15);
    assert_int_equal(s.key[31], 0x11);
}

static void spec_refuses_what_is_wrong(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]",
        "{\"container\":\"c\",\"key\":\"" KEY "\"}",
        "{\"container\":\"c\",\"key\":\"11\",\"args\":[\"x\"]}",
        "{\"key\":\"" KEY "\",\"args\":[\"x\"]}",
        SPEC(",\"env\":\"A=1\""),
        SPEC(",\"env\":[1]"),
        SPEC(",\"env\":[\"a\\u0000b\"]"),
        SPEC(",\"disk\":64"),
        SPEC(",\"disk\":-1"),
        SPEC(",\"tty\":1"),
        SPEC(",\"memory\":-5"),
        SPEC(",\"stop_signal\":65"),
        SPEC(",\"cap_add\":[\"NOPE\"]"),
        SPEC(",\"ulimits\":[{\"name\":\"nope\"}]"),
        SPEC(",\"tmpfs\":[]"),
        SPEC(",\"oom_score_adj\":1001"),
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_ARENA struct arena a = {0};
        struct spec_run s;
        struct vic_err err = {0};
        if (read_spec(bad[i], &a, &s, &err))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, VIC_INVALID);
    }
}

static void an_exec_inherits_from_its_container(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct spec_run run;
    struct spec_process p;
    struct json_val v;
    struct vic_err err;
    assert_true(read_spec(SPEC(",\"env\":[\"A=1\",\"B=2\"],\"cwd\":\"/w\",\"user\":\"bob\","
                               "\"no_new_privs\":true"),
                          &a, &run, &err));
    assert_true(json_parse(SV("{\"args\":[\"ls\"],\"env\":[\"B=3\",\"C=4\"]}"), 0, &a, &v, &err));
    assert_true(spec_read_exec(v, &run, &a, &p, &err));
    assert_int_equal(p.env.n, 3);
    assert_string_equal(spec_env(&p.env, "A"), "1");
    assert_string_equal(spec_env(&p.env, "B"), "3");
    assert_string_equal(p.cwd, "/w");
    assert_string_equal(p.user, "bob");
    assert_true(p.no_new_privs && p.caps == run.process.caps);
    assert_true(
        json_parse(SV("{\"args\":[\"ls\"],\"privileged\":true,\"user\":\"0\"}"), 0, &a, &v, &err));
    assert_true(spec_read_exec(v, &run, &a, &p, &err));
    assert_true(p.caps == caps_all());
    assert_string_equal(p.user, "0");
}

/* --- users --- */

#define PASSWD                                                                                     \
    "root:x:0:0:root:/root:/bin/sh\nbroken\nbob:x:1000:1000::/home/bob:/bin/sh\n"                  \
    "nohome:x:7:7:::\nbad:x:-1:0::/:\n"
#define GROUP "root:x:0:\nbob:x:1000:\nwheel:x:10:root,bob\nstaff:x:50:bob\n::\n"

static void users_are_found_as_docker_finds_them(void **state)
{
    (void)state;
    static const struct {
        const char *user;
        bool ok;
        unsigned uid, gid, groups;
        const char *home, *error;
    } rows[] = {
        {"", true, 0, 0, 2, "/root", ""},
        {"bob", true, 1000, 1000, 3, "/home/bob", ""},
        {"1000", true, 1000, 1000, 3, "/home/bob", ""},
        {"bob:wheel", true, 1000, 10, 1, "/home/bob", ""},
        {"0:10", true, 0, 10, 1, "/root", ""},
        {"4321", true, 4321, 0, 1, "/", ""},
        {"4321:77", true, 4321, 77, 1, "/", ""},
        {"nohome", true, 7, 7, 1, "/", ""},
        {"alice", false, 0, 0, 0, "",
         "unable to find user alice: no matching entries in passwd file"},
        {"bob:nope", false, 0, 0, 0, "",
         "unable to find group nope: no matching entries in group file"},
        {"bad", false, 0, 0, 0, "", "unable to find user bad: no matching entries in passwd file"},
        {"99999999999", false, 0, 0, 0, "",
         "unable to find user 99999999999: no matching entries in passwd file"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static struct user u;
        struct vic_err err = {0};
        bool ok = user_find(SV(PASSWD), SV(GROUP), rows[i].user, NULL, &u, &err);
        if (ok != rows[i].ok)
            fail_msg("user \"%s\": %s", rows[i].user, err.msg);
        if (!ok) {
            assert_string_equal(err.msg, rows[i].error);
            continue;
        }
        assert_int_equal(u.uid, rows[i].uid);
        assert_int_equal(u.gid, rows[i].gid);
        assert_int_equal(u.group_count, rows[i].groups);
        assert_string_equal(u.home, rows[i].home);
    }
}

static void groups_are_added(void **state)
{
    (void)state;
    static struct user u;
    struct vic_err err;
    const char *names[] = {"staff", "123", NULL};
    struct spec_list add = {names, 2};
    assert_true(user_find(SV(PASSWD), SV(GROUP), "root", &add, &u, &err));
    assert_int_equal(u.group_count, 4); /* root, wheel, staff, 123 */
    names[1] = "nope";
    assert_false(user_find(SV(PASSWD), SV(GROUP), "root", &add, &u, &err));
}

/* --- commands --- */

static void make_file(const char *dir, const char *name, mode_t mode)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
}

static void commands_are_looked_up_with_dockers_errors(void **state)
{
    (void)state;
    char dir[] = "/tmp/vic-lookup.XXXXXX", path[128], exe[128], plain[128], out[256], text[600];
    assert_non_null(mkdtemp(dir));
    make_file(dir, "exe", 0755);
    make_file(dir, "plain", 0644);
    snprintf(path, sizeof path, "/nowhere:%s", dir);
    snprintf(exe, sizeof exe, "%s/exe", dir);
    snprintf(plain, sizeof plain, "%s/plain", dir);
    const struct {
        const char *command;
        int exit;
        const char *text; /* error, or what was found; %s = the command */
    } rows[] = {
        {"exe", 0, exe},
        {exe, 0, exe},
        {"nope", 127, "exec: \"%s\": executable file not found in $PATH"},
        {"", 127, "exec: \"%s\": executable file not found in $PATH"},
        {"plain", 126, "exec: \"%s\": permission denied"},
        {plain, 126, "exec: \"%s\": permission denied"},
        {dir, 126, "exec: \"%s\": is a directory"},
        {"/no/such", 127, "exec: \"%s\": stat /no/such: no such file or directory"},
        {"/etc/passwd/x", 126, "exec: \"%s\": stat /etc/passwd/x: not a directory"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct vic_err err = {0};
        int code = 0;
        bool ok = lookup_command(rows[i].command, path, out, sizeof out, &code, &err);
        const char *part = strstr(rows[i].text, "%s");
        snprintf(text, sizeof text, "%.*s%s%s", part ? (int)(part - rows[i].text) : 0, rows[i].text,
                 part ? rows[i].command : rows[i].text, part ? part + 2 : "");
        assert_int_equal(ok, rows[i].exit == 0);
        assert_int_equal(code, rows[i].exit);
        assert_string_equal(ok ? out : err.msg, text);
    }
    unlink(exe);
    unlink(plain);
    rmdir(dir);
}

/* --- small ones --- */

static void capabilities_add_and_drop(void **state)
{
    (void)state;
    static const char *const all[] = {"all"}, *const chown_[] = {"CAP_CHOWN"}, *const bad[] = {"X"};
    uint64_t c, d;
    struct vic_err err;
    assert_true(caps_of(NULL, 0, NULL, 0, &d, &err));
    assert_true(d == 0xa80425fb);
    assert_true(caps_of(all, 1, NULL, 0, &c, &err) && c == caps_all());
    assert_true(caps_of(NULL, 0, all, 1, &c, &err) && c == 0);
    assert_true(caps_of(chown_, 1, all, 1, &c, &err) && c == 1);
    assert_true(caps_of(NULL, 0, chown_, 1, &c, &err) && c == (d & ~UINT64_C(1)));
    assert_true(caps_of(all, 1, chown_, 1, &c, &err) && c == (caps_all() & ~UINT64_C(1)));
    assert_false(caps_of(bad, 1, NULL, 0, &c, &err));
}

static void addresses_are_read(void **state)
{
    (void)state;
    unsigned char a[16];
    unsigned port;
    static const unsigned char eui[16] = {0xfe, 0x80, 0,    0,    0,    0,    0,    0,
                                          0x50, 0x54, 0x00, 0xff, 0xfe, 0x12, 0x34, 0x56};
    assert_true(net_eui64("52:54:00:12:34:56", a));
    assert_memory_equal(a, eui, 16);
    assert_false(net_eui64("52:54:00:12:34", a));
    assert_false(net_eui64("52:54:00:12:34:5g", a));
    assert_false(net_eui64("52:54:00:12:34:56:78", a));
    assert_true(link_parse_endpoint("[fe80::1]:2377", a, &port));
    assert_int_equal(port, 2377);
    static const char *const bad[] = {"",      "fe80::1:2377",    "[fe80::1]", "[fe80::1]:0",
                                      "[x]:1", "[fe80::1]:70000", "[fe80::1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(link_parse_endpoint(bad[i], a, &port));
}

static void mount_options_are_split(void **state)
{
    (void)state;
    AUTO_BUF struct buf data = {0};
    unsigned long flags = 2; /* MS_NOSUID */
    struct vic_err err;
    assert_true(container_mount_options("rw,size=64m,noexec,suid,,mode=1777", &flags, &data, &err));
    assert_int_equal(flags, 8); /* MS_NOEXEC */
    assert_string_equal(buf_str(&data), "size=64m,mode=1777");
    assert_false(container_mount_options("nonsense", &flags, &data, &err));
}

static void ask(const char *answer, bool ok, bool found, const char *value)
{
    int fds[2];
    struct guestinfo g;
    struct vic_err err;
    AUTO_BUF struct buf out = {0};
    bool there = false;
    char request[64] = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    guestinfo_use_fd(&g, fds[0]);
    /* The port is drained before each request, so the answer must come after it: a thread would
     * do; a datagram's worth of patience is enough here as the reader waits. */
    pid_t child = fork();
    if (child == 0) {
        ssize_t n = read(fds[1], request, sizeof request - 1);
        bool asked = n > 0 && strcmp(request, "info-get guestinfo.vic.vm\n") == 0;
        _exit(asked && write(fds[1], answer, strlen(answer)) > 0 ? 0 : 1);
    }
    close(fds[1]);
    assert_int_equal(guestinfo_get(&g, "vm", &out, &there, &err), ok);
    assert_int_equal(there, found);
    assert_string_equal(buf_str(&out), value);
    guestinfo_close(&g);
}

static void guestinfo_answers_are_read(void **state)
{
    (void)state;
    ask("1 abc\n", true, true, "abc");
    ask("0 No value found\n", true, false, "");
    ask("1 \n", true, true, "");
    ask("what\n", false, false, "");
    ask("1 cut off", false, false, "");
}

/* --- the log queue --- */

struct log_world {
    struct link link;
    struct logs logs;
    int dir;
    char path[64];
};

static void world_open(struct log_world *w)
{
    memset(w, 0, sizeof *w);
    snprintf(w->path, sizeof w->path, "/tmp/vic-logs.XXXXXX");
    assert_non_null(mkdtemp(w->path));
    w->dir = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A link that is up and keeps what it is given. */
    w->link.state = LINK_UP;
    w->link.flushing = true;
    logs_init(&w->logs, &w->link, w->dir);
}

static void world_close(struct log_world *w)
{
    logs_fini(&w->logs);
    buf_fini(&w->link.out);
    unlinkat(w->dir, "logs.left", 0);
    close(w->dir);
    assert_int_equal(rmdir(w->path), 0);
}

/* Takes what was sent: entries must follow each other from '*next' on. */
static unsigned sent(struct log_world *w, uint64_t *next, char last[128])
{
    unsigned n = 0;
    struct wire_frame f;
    struct wire_log log;
    size_t used, at = 0;
    while (wire_take(sv_sub(buf_sv(&w->link.out), at, w->link.out.len), &f, &used, NULL) && used) {
        assert_true(wire_take_log(f.payload, &log, NULL));
        assert_int_equal(log.seq, *next);
        snprintf(last, 128, SV_FMT, SV_ARG(sv_sub(log.bytes, 0, 120)));
        (*next)++;
        n++;
        at += used;
    }
    buf_reset(&w->link.out);
    return n;
}

static void logs_are_sent_again_after_a_reconnect(void **state)
{
    (void)state;
    struct log_world w;
    uint64_t next = 1;
    char last[128];
    world_open(&w);
    logs_link_up(&w.logs, 0);
    logs_add(&w.logs, 1, SV("one\n"), false, 5);
    logs_add(&w.logs, 2, SV("two\n"), false, 6);
    assert_int_equal(sent(&w, &next, last), 2);
    assert_true(logs_all_sent(&w.logs));
    logs_acked(&w.logs, 1);
    logs_link_down(&w.logs);
    logs_add(&w.logs, 1, SV("three"), true, 7);
    assert_false(logs_all_sent(&w.logs));
    logs_link_up(&w.logs, 1); /* the hub stored one */
    next = 2;
    assert_int_equal(sent(&w, &next, last), 2);
    assert_string_equal(last, "three");
    logs_acked(&w.logs, 3);
    assert_true(logs_all_acked(&w.logs));
    world_close(&w);
}

static void logs_go_to_the_spool_and_come_back_in_order(void **state)
{
    (void)state;
    static char chunk[WIRE_MAX_LOG];
    struct log_world w;
    uint64_t next = 1;
    char last[128];
    unsigned added = 100, got = 0; /* 3.2 MB: memory, then spool */
    memset(chunk, 'x', sizeof chunk);
    world_open(&w);
    for (unsigned i = 0; i < added; i++) {
        assert_int_equal(logs_room(&w.logs), WIRE_MAX_LOG);
        logs_add(&w.logs, 1, sv_make(chunk, sizeof chunk), true, 1);
    }
    assert_true(w.logs.spool >= 0);
    assert_true(w.logs.queued <= LOGS_MEMORY);
    logs_link_up(&w.logs, 0);
    assert_int_equal(logs_room(&w.logs), 0); /* connected: nothing new before the spool is empty */
    for (unsigned round = 0; round < 1000 && !logs_all_sent(&w.logs); round++) {
        got += sent(&w, &next, last);
        logs_acked(&w.logs, next - 1);
    }
    got += sent(&w, &next, last);
    assert_int_equal(got, added);
    assert_int_equal(w.logs.spool, -1);
    world_close(&w);
}

static void a_full_spool_drops_with_a_marker(void **state)
{
    (void)state;
    static char chunk[WIRE_MAX_LOG];
    struct log_world w;
    uint64_t next = 1;
    char last[128] = "";
    world_open(&w);
    w.logs.spool_limit = 200000;
    for (unsigned i = 0; i < 60; i++)
        logs_add(&w.logs, 1, sv_make(chunk, sizeof chunk), false, 1);
    assert_true(w.logs.dropped > 0);
    uint64_t kept = w.logs.seq;
    logs_link_up(&w.logs, 0);
    for (unsigned round = 0; round < 1000 && !logs_all_acked(&w.logs); round++) {
        sent(&w, &next, last);
        logs_acked(&w.logs, next - 1);
    }
    assert_int_equal(next, kept + 2);
    assert_non_null(strstr(last, "bytes of output were dropped"));
    world_close(&w);
}

static void unacknowledged_logs_are_kept_on_the_disk(void **state)
{
    (void)state;
    struct log_world w;
    struct stat st;
    struct vic_err err;
    world_open(&w);
    logs_add(&w.logs, 1, SV("kept\n"), false, 1);
    assert_true(logs_keep(&w.logs, &err));
    assert_int_equal(fstatat(w.dir, "logs.left", &st, 0), 0);
    assert_int_equal(st.st_size, WIRE_HEADER + 18 + 5);
    assert_int_equal(st.st_mode & 0777, 0600);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spec_reads_what_control_writes),
        cmocka_unit_test(spec_refuses_what_is_wrong),
        cmocka_unit_test(an_exec_inherits_from_its_container),
        cmocka_unit_test(users_are_found_as_docker_finds_them),
        cmocka_unit_test(groups_are_added),
        cmocka_unit_test(commands_are_looked_up_with_dockers_errors),
        cmocka_unit_test(capabilities_add_and_drop),
        cmocka_unit_test(addresses_are_read),
        cmocka_unit_test(mount_options_are_split),
        cmocka_unit_test(guestinfo_answers_are_read),
        cmocka_unit_test(logs_are_sent_again_after_a_reconnect),
        cmocka_unit_test(logs_go_to_the_spool_and_come_back_in_order),
        cmocka_unit_test(a_full_spool_drops_with_a_marker),
        cmocka_unit_test(unacknowledged_logs_are_kept_on_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
