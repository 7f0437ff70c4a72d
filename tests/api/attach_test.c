/* Attach and logs, over real logs and a real hub. */
#include "io_fixture.h"

#include <stdio.h>
#include <sys/socket.h>

#include "docker/output.h"

#define TTY   "\"Tty\":true,\"OpenStdin\":true"
#define STDIN "\"OpenStdin\":true"
#define ONCE  "\"OpenStdin\":true,\"StdinOnce\":true"
#define ALL   "stream=1&stdin=1&stdout=1&stderr=1"

static void attach(struct io *x, struct client *c, const char *id, const char *query)
{
    AUTO_FREE char *target = xasprintf("/v1.44/containers/%s/attach?%s", id, query);
    io_open(x, c, "POST", target, NULL, 101);
}

/* --- attach: output -------------------------------------------------------------------------- */
static void an_attach_before_the_start_misses_nothing(void **state)
{
    struct io *x = *state;
    struct client c;
    const char *id = io_make(x, NULL);
    attach(x, &c, id, "stream=1&stdout=1&stderr=1");
    io_quiet(&c);
    io_start(x, id);
    io_say(x, id, 1, SV("one\n"));
    io_say(x, id, 2, SV("two\n"));
    io_say_soon(x, id, 1, SV("the last bytes"));
    logs_flush(x->f.host.logs, id);
    io_ended(x, id, 0);
    io_gets_frame(&c, 1, "one\n");
    io_gets_frame(&c, 2, "two\n");
    io_gets_frame(&c, 1, "the last bytes");
    io_ends(&c);
    assert_non_null(strstr(io_events(x, id), "attach\n"));
}

static void one_hundred_short_runs_lose_no_tail(void **state)
{
    struct io *x = *state;
    for (int i = 0; i < 100; i++) {
        struct client c;
        const char *id = io_run(x, i % 2 ? "\"Tty\":true" : NULL);
        attach(x, &c, id, "stream=1&stdout=1&stderr=1");
        io_say(x, id, 1, SV("one\n"));
        io_ended(x, id, 0);
        if (i % 2)
            io_gets(&c, SV("one\n"));
        else
            io_gets_frame(&c, 1, "one\n");
        io_ends(&c);
    }
}

static void an_attach_chooses(void **state)
{
    struct io *x = *state;
    struct client c, d, e, f;
    const char *id = io_run(x, NULL);
    io_say(x, id, 1, SV("old\n"));
    attach(x, &c, id, "stream=1&stderr=1");
    attach(x, &d, id, "stream=1&stdout=1&logs=1");
    attach(x, &e, id, "logs=1&stdout=1&stderr=1");
    attach(x, &f, id, "stdout=1");
    io_gets_frame(&e, 1, "old\n");
    io_ends(&e); /* no stream: what is stored, and the end */
    io_ends(&f);
    io_say(x, id, 1, SV("out\n"));
    io_say(x, id, 2, SV("err\n"));
    io_gets_frame(&c, 2, "err\n");
    io_gets_frame(&d, 1, "old\n");
    io_gets_frame(&d, 1, "out\n");
    io_ended(x, id, 3);
    io_ends(&c);
    io_ends(&d);
}

static void content_types(void **state)
{
    static const struct {
        const char *members, *version, *type;
    } cases[] = {
        {NULL, "/v1.44", "application/vnd.docker.multiplexed-stream"},
        {NULL, "/v1.41", "application/vnd.docker.raw-stream"},
        {"\"Tty\":true", "/v1.44", "application/vnd.docker.raw-stream"},
    };
    struct io *x = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF struct buf value = {0};
        struct client c;
        struct answer a;
        const char *id = io_run(x, cases[i].members);
        AUTO_FREE char *target =
            xasprintf("%s/containers/%s/attach?stream=1&stdout=1", cases[i].version, id);
        io_send(x, &c, "POST", target, NULL);
        assert_true(client_head(&c, &a));
        assert_int_equal(a.status, 101);
        assert_string_equal(answer_header(&a, "Content-Type", &value), cases[i].type);
        answer_fini(&a);
        client_close(&c);
    }
}

static void removal_ends_it(void **state)
{
    struct io *x = *state;
    struct client c;
    const char *id = io_make(x, NULL);
    attach(x, &c, id, "stream=1&stdout=1");
    ask(&x->f, "DELETE", arena_printf(&x->f.a, "/containers/%s", id), NULL, 204);
    io_ends(&c);
}

static void refusals(void **state)
{
    struct io *x = *state;
    const char *id = io_run(x, TTY);
    ask_error(&x->f, "POST", "/containers/nope/attach?stream=1", NULL, 404,
              "No such container: nope");
    ask_error(&x->f, "POST",
              arena_printf(&x->f.a, "/containers/%s/attach?stream=1&detachKeys=ctrl-1", id), NULL,
              400, "Invalid detach keys (ctrl-1) provided");
    ask_error(&x->f, "GET", arena_printf(&x->f.a, "/containers/%s/logs", id), NULL, 400,
              "Bad parameters: you must choose at least one stream");
    ask_error(&x->f, "POST", arena_printf(&x->f.a, "/containers/%s/resize?h=a&w=1", id), NULL, 400,
              "strconv.Atoi: parsing \"a\": invalid syntax");
}

/* --- attach: input --------------------------------------------------------------------------- */
static void input_waits_for_the_run(void **state)
{
    struct io *x = *state;
    struct client c;
    struct wire_frame f;
    struct json_val open;
    const char *id = io_make(x, ONCE);
    attach(x, &c, id, ALL);
    io_types(&c, "typed early\n");
    io_guest(x);
    io_start(x, id);
    uint32_t s = io_open_of(x, &open);
    assert_string_equal(json_str(json_get(open, "kind"), ""), "stdin");
    io_expect(x, s, "typed early\n");
    io_types(&c, "more");
    io_expect(x, s, "more");
    shutdown(c.fd, SHUT_WR); /* StdinOnce: the process sees the end; output goes on */
    io_frame(x, WIRE_EOF, s, &f);
    io_say(x, id, 1, SV("after\n"));
    io_gets_frame(&c, 1, "after\n");
    io_ended(x, id, 0);
    io_ends(&c);
}

static void without_stdin_once_the_end_is_kept(void **state)
{
    struct io *x = *state;
    struct client c, d;
    struct wire_frame f;
    io_guest(x);
    const char *id = io_run(x, STDIN);
    attach(x, &c, id, ALL);
    uint32_t s = io_open_of(x, NULL);
    io_types(&c, "a");
    io_expect(x, s, "a");
    shutdown(c.fd, SHUT_WR);
    attach(x, &d, id, ALL); /* another client's input is merged */
    uint32_t t = io_open_of(x, NULL);
    io_types(&d, "b");
    io_expect(x, t, "b"); /* and no EOF came before it */
    client_close(&d);
    io_ended(x, id, 0);
    io_ends(&c);
    check_ok(tg_expect(&x->guest, WIRE_CLOSE, &f, &err)); /* of both, in any order */
    check_ok(tg_expect(&x->guest, WIRE_CLOSE, &f, &err));
}

static void no_stdin_no_stream(void **state)
{
    struct io *x = *state;
    struct client c, d;
    io_guest(x);
    const char *id = io_run(x, NULL); /* OpenStdin is off */
    attach(x, &c, id, ALL);
    io_types(&c, "nobody reads this");
    const char *two = io_run(x, STDIN);
    attach(x, &d, two, ALL);
    io_types(&d, "this");
    io_expect(x, io_open_of(x, NULL), "this"); /* the first OPEN there is */
    client_close(&c);
    client_close(&d);
}

static void credit_holds_up_the_typist(void **state)
{
    struct io *x = *state;
    struct client c;
    io_guest(x);
    const char *id = io_run(x, ONCE);
    attach(x, &c, id, ALL);
    uint32_t s = io_open_of(x, NULL);
    enum { TOTAL = 3 * WIRE_CREDIT };
    AUTO_FREE char *text = xcalloc(1, TOTAL + 1);
    for (size_t i = 0; i < TOTAL; i++)
        text[i] = (char)('a' + i % 23);
    size_t sent = 0, got = 0;
    struct wire_frame f;
    while (got < TOTAL) {
        ssize_t n = send(c.fd, text + sent, TOTAL - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        uint8_t channel;
        struct sv bytes;
        AUTO_BUF struct buf b = {0};
        check_ok(tg_expect(&x->guest, WIRE_DATA, &f, &err));
        check_ok(wire_take_data(f.payload, &channel, &bytes, &err));
        assert_memory_equal(bytes.p, text + got, bytes.len);
        got += bytes.len;
        wire_put_credit(&b, s, 0, (uint32_t)bytes.len);
        check_ok(tg_send(&x->guest, buf_sv(&b), &err));
    }
    client_close(&c);
}

/* --- detach keys ----------------------------------------------------------------------------- */
static void detach_keys_across_pieces(void **state)
{
    struct io *x = *state;
    struct client c;
    struct wire_frame f;
    io_guest(x);
    const char *id = io_run(x, TTY);
    attach(x, &c, id, ALL);
    uint32_t s = io_open_of(x, NULL);
    io_types(&c, "ls\x10");
    io_expect(x, s, "ls"); /* ctrl-p is held */
    io_types(&c, "x\x10");
    io_expect(x, s, "\x10x");
    io_types(&c, "\x11ignored");
    io_ends(&c);
    io_frame(x, WIRE_CLOSE, s, &f);
    assert_non_null(strstr(io_events(x, id), "detach\n"));
    attach(x, &c, id, ALL "&detachKeys=a,a,b"); /* the run goes on */
    s = io_open_of(x, NULL);
    io_types(&c, "aaab");
    io_expect(x, s, "a");
    io_ends(&c);
}

static void keys_are_for_terminals(void **state)
{
    struct io *x = *state;
    struct client c;
    io_guest(x);
    const char *id = io_run(x, STDIN);
    attach(x, &c, id, ALL);
    uint32_t s = io_open_of(x, NULL);
    io_types(&c, "\x10\x11");
    io_expect(x, s, "\x10\x11");
    client_close(&c);
}

static void keys_are_matched_as_a_search(void **state)
{
    static const struct {
        const char *keys, *typed, *sent; /* sent NULL: not detached, all goes on but what is held */
        bool detached;
    } cases[] = {
        {"", "a\x10\x11", "a", true},
        {"ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true},
        {"a,b,a,c", "abababac", "abab", true},
        {"a,a,a", "aabaa", "aab", false},
        {"ctrl-@", "x", "x", false},
        {"z", "abz", "ab", true},
        {"ctrl-a,ctrl-[", "\x01\x1b", "", true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t cut = 0; cut <= strlen(cases[i].typed); cut++) {
            AUTO_BUF struct buf out = {0};
            struct detach_keys keys;
            struct sv typed = sv_of(cases[i].typed);
            assert_true(detach_parse(cases[i].keys, &keys));
            bool hit = detach_take(&keys, sv_sub(typed, 0, cut), &out) ||
                       detach_take(&keys, sv_sub(typed, cut, SIZE_MAX), &out);
            assert_int_equal(hit, cases[i].detached);
            assert_string_equal(buf_str(&out), cases[i].sent);
        }
    }
    struct detach_keys keys;
    static const char *const bad[] = {"ctrl-", "ctrl-A", "ctrl-1", "ab", "a,,b", "a,b,", "ctrl-pp"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(detach_parse(bad[i], &keys));
}

static void resize_reaches_the_guest(void **state)
{
    struct io *x = *state;
    struct json_val open;
    struct wire_frame f;
    const char *made = io_make(x, TTY);
    ask_error(&x->f, "POST", arena_printf(&x->f.a, "/containers/%s/resize?h=24&w=80", made), NULL,
              409, arena_printf(&x->f.a, "container %s is not running", made));
    io_guest(x);
    const char *id = io_run(x, TTY);
    ask(&x->f, "POST", arena_printf(&x->f.a, "/containers/%s/resize?h=24&w=80", id), NULL, 200);
    uint32_t s = io_open_of(x, &open);
    assert_int_equal(json_i64(json_get(open, "rows"), 0), 24);
    assert_int_equal(json_i64(json_get(open, "cols"), 0), 80);
    io_frame(x, WIRE_CLOSE, s, &f);
}

/* --- logs ------------------------------------------------------------------------------------ */
static void logs(struct io *x, struct client *c, const char *id, const char *query)
{
    AUTO_FREE char *target = xasprintf("/v1.44/containers/%s/logs?stdout=1&stderr=1&%s", id, query);
    io_open(x, c, "GET", target, NULL, 200);
}

/* The whole of a chunked answer. */
static struct sv all_of(struct io *x, struct client *c)
{
    AUTO_BUF struct buf b = {0};
    bool end = false;
    while (!end)
        assert_true(client_chunk(c, &b, &end));
    client_close(c);
    return sv_make(arena_sv(&x->f.a, buf_sv(&b)), b.len);
}

static void shows(struct io *x, const char *id, const char *query, const char *text)
{
    struct client c;
    logs(x, &c, id, query);
    struct sv got = all_of(x, &c);
    AUTO_BUF struct buf plain = {0};
    while (got.len >= 8) { /* frames as "1:text" */
        size_t len = (size_t)(unsigned char)got.p[6] << 8 | (unsigned char)got.p[7];
        buf_addf(&plain, "%d:", got.p[0]);
        buf_add_sv(&plain, sv_sub(got, 8, len));
        got = sv_sub(got, 8 + len, SIZE_MAX);
    }
    if (strcmp(buf_str(&plain), text) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", query, buf_str(&plain), text);
}

static void logs_by_options(void **state)
{
    struct io *x = *state;
    const int64_t second = 1000000000, t = 1700000000 * second;
    const char *id = io_run(x, NULL);
    io_say_at(x, id, 1, SV("one\n"), t);
    io_say_at(x, id, 2, SV("two\nthree\n"), t + second);
    io_say_at(x, id, 1, SV("par"), t + 2 * second);
    io_say_at(x, id, 1, SV("tial\n"), t + 3 * second + 5);
    io_say_at(x, id, 1, SV("no newline"), t + 4 * second);
    logs_flush(x->f.host.logs, id);
    shows(x, id, "", "1:one\n2:two\nthree\n1:par1:tial\n1:no newline");
    shows(x, id, "stderr=1&stdout=0", "1:one\n2:two\nthree\n1:par1:tial\n1:no newline");
    shows(x, id, "tail=all", "1:one\n2:two\nthree\n1:par1:tial\n1:no newline");
    shows(x, id, "tail=0", "");
    shows(x, id, "tail=1", "1:no newline");
    shows(x, id, "tail=2", "1:par1:tial\n1:no newline");
    shows(x, id, "tail=3", "2:three\n1:par1:tial\n1:no newline");
    shows(x, id, "tail=99", "1:one\n2:two\nthree\n1:par1:tial\n1:no newline");
    shows(x, id, "since=1700000003", "1:tial\n1:no newline");
    shows(x, id, "since=1700000003.000000005", "1:tial\n1:no newline");
    shows(x, id, "since=1700000003.000000006", "1:no newline");
    shows(x, id, "until=1700000001", "1:one\n2:two\nthree\n");
    shows(x, id, "since=1700000001&until=1700000002", "2:two\nthree\n1:par");
    shows(x, id, "since=0&until=0&tail=1", "1:no newline");
    shows(x, id, "timestamps=1&tail=3",
          "2:2023-11-14T22:13:21.000000000Z three\n1:2023-11-14T22:13:22.000000000Z par1:tial\n"
          "1:2023-11-14T22:13:24.000000000Z no newline");
    shows(x, id, "details=1&tail=1", "1: no newline");
    shows(x, id, "details=1&timestamps=1&tail=1", "1:2023-11-14T22:13:24.000000000Z  no newline");
    ask_error(&x->f, "GET", arena_printf(&x->f.a, "/containers/%s/logs?stdout=1&since=x", id), NULL,
              400, "invalid value for \"since\": x");
}

static void logs_of_a_terminal_are_raw(void **state)
{
    struct io *x = *state;
    struct client c;
    const char *id = io_run(x, TTY);
    io_say_at(x, id, 1, SV("a\r\nb"), 1700000000000000000);
    io_say_at(x, id, 1, sv_make("\0\xff", 2), 1700000000000000000);
    logs_flush(x->f.host.logs, id);
    logs(x, &c, id, "");
    assert_true(sv_eq(all_of(x, &c), sv_make("a\r\nb\0\xff", 6)));
    logs(x, &c, id, "timestamps=1&tail=1");
    assert_true(sv_eq(all_of(x, &c), sv_make("2023-11-14T22:13:20.000000000Z b\0\xff", 34)));
}

static void a_silent_log_answers_at_once(void **state)
{
    struct io *x = *state;
    struct client c;
    const char *id = io_run(x, NULL);
    logs(x, &c, id, "follow=1"); /* the head is here */
    io_quiet(&c);
    io_ended(x, id, 0);
    assert_int_equal(all_of(x, &c).len, 0);
}

static void follow_ends_with_the_run_and_has_all(void **state)
{
    struct io *x = *state;
    enum { LINES = 5000, CLIENTS = 4 };
    struct client c[CLIENTS];
    const char *id = io_run(x, "\"Tty\":true");
    AUTO_BUF struct buf all = {0};
    for (int i = 0; i < LINES; i++) {
        AUTO_FREE char *line = xasprintf("line %d of the output\n", i);
        buf_add_str(&all, line);
        io_say_soon(x, id, 1, sv_of(line));
        if (i % (LINES / CLIENTS) == 0)
            logs(x, &c[i / (LINES / CLIENTS)], id, "follow=1");
    }
    logs_flush(x->f.host.logs, id);
    io_ended(x, id, 0);
    for (int i = 0; i < CLIENTS; i++)
        assert_true(sv_eq(all_of(x, &c[i]), buf_sv(&all)));
}

static void follow_of_what_does_not_run_ends(void **state)
{
    struct io *x = *state;
    struct client c;
    const char *id = io_make(x, NULL);
    logs(x, &c, id, "follow=1");
    assert_int_equal(all_of(x, &c).len, 0);
    id = io_run(x, "\"Tty\":true");
    io_say(x, id, 1, SV("x\n"));
    io_ended(x, id, 0);
    logs(x, &c, id, "follow=1");
    assert_true(sv_is(all_of(x, &c), "x\n"));
}

static void follow_with_until_ends_then(void **state)
{
    struct io *x = *state;
    struct client c;
    const char *id = io_run(x, "\"Tty\":true");
    io_say(x, id, 1, SV("x\n"));
    int64_t soon = clock_wall_ns(&vic_clock_real) / 1000000000 + 1;
    logs(x, &c, id, arena_printf(&x->f.a, "follow=1&until=%lld", (long long)soon));
    assert_true(sv_is(all_of(x, &c), "x\n"));
}

/* --- slow clients ---------------------------------------------------------------------------- */
static size_t resident(void)
{
    unsigned long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &total, &pages), 2);
    fclose(f);
    return pages * 4096;
}

static void a_deaf_client_costs_one_buffer(void **state)
{
    struct io *x = *state;
    enum { PIECE = 32768, PIECES = 2048 }; /* 64 MiB */
    struct client c, d;
    AUTO_FREE char *piece = xcalloc(1, PIECE);
    memset(piece, 'x', PIECE - 1);
    piece[PIECE - 1] = '\n';
    const char *id = io_run(x, "\"Tty\":true");
    attach(x, &c, id, "stream=1&stdout=1");
    logs(x, &d, id, "follow=1");
    for (int i = 0; i < 64; i++)
        io_say(x, id, 1, sv_make(piece, PIECE));
    size_t before = resident();
    for (int i = 64; i < PIECES; i++)
        io_say(x, id, 1, sv_make(piece, PIECE));
    ask(&x->f, "GET", "/containers/json", NULL, 200);
    assert_true(resident() < before + (16 << 20));
    io_ended(x, id, 0);
    for (int i = 0; i < PIECES; i++) /* and it gets everything once it reads */
        io_gets(&c, sv_make(piece, PIECE));
    io_ends(&c);
    client_close(&d);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, io_setup, io_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_attach_before_the_start_misses_nothing),
        TEST(one_hundred_short_runs_lose_no_tail),
        TEST(an_attach_chooses),
        TEST(content_types),
        TEST(removal_ends_it),
        TEST(refusals),
        TEST(input_waits_for_the_run),
        TEST(without_stdin_once_the_end_is_kept),
        TEST(no_stdin_no_stream),
        TEST(credit_holds_up_the_typist),
        TEST(detach_keys_across_pieces),
        TEST(keys_are_for_terminals),
        cmocka_unit_test(keys_are_matched_as_a_search),
        TEST(resize_reaches_the_guest),
        TEST(logs_by_options),
        TEST(logs_of_a_terminal_are_raw),
        TEST(a_silent_log_answers_at_once),
        TEST(follow_ends_with_the_run_and_has_all),
        TEST(follow_of_what_does_not_run_ends),
        TEST(follow_with_until_ends_then),
        TEST(a_deaf_client_costs_one_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
