/* Execs, over a real hub whose guest the test plays. */
#include "io_fixture.h"

#include <sys/socket.h>

#define STARTED "{\"Detach\":false,\"Tty\":false}"

static const char *exec_make(struct io *x, const char *id, const char *members)
{
    AUTO_FREE char *target = xasprintf("/containers/%s/exec", id);
    AUTO_FREE char *body =
        xasprintf("{\"Cmd\":[\"sh\",\"-c\",\"ls\"],%s}",
                  members ? members : "\"AttachStdout\":true,\"AttachStderr\":true");
    ask(&x->f, "POST", target, body, 201);
    return arena_strdup(&x->f.a, got_str(&x->f, "Id"));
}

static void start(struct io *x, struct client *c, const char *exec, const char *body)
{
    AUTO_FREE char *target = xasprintf("/v1.44/exec/%s/start", exec);
    io_open(x, c, "POST", target, body ? body : STARTED, 101);
}

static void inspect(struct io *x, const char *exec)
{
    ask(&x->f, "GET", arena_printf(&x->f.a, "/exec/%s/json", exec), NULL, 200);
}

/* Waits until it has ended (a wait for a commit and a pool thread, not for a time). */
static void ended_with(struct io *x, const char *exec, int code)
{
    int64_t end = clock_mono_ms(&vic_clock_real) + TG_TIMEOUT_MS;
    do
        inspect(x, exec);
    while (json_bool(got(&x->f, "Running"), true) && clock_mono_ms(&vic_clock_real) < end);
    assert_int_equal(got_int(&x->f, "ExitCode"), code);
}

#define EXITED(code) "{\"kind\":\"exited\",\"value\":" #code "}"

/* --- attached -------------------------------------------------------------------------------- */
static void attached_from_start_to_end(void **state)
{
    struct io *x = *state;
    struct client c;
    struct json_val open;
    io_guest(x);
    const char *id = io_run(x, "\"Env\":[\"A=1\"],\"WorkingDir\":\"/w\",\"User\":\"me\"");
    const char *e = exec_make(x, id, NULL);
    inspect(x, e);
    assert_false(json_bool(got(&x->f, "Running"), true));
    assert_false(json_present(got(&x->f, "ExitCode")));
    start(x, &c, e, NULL);
    uint32_t s = io_open_of(x, &open);
    assert_string_equal(json_str(json_get(open, "kind"), ""), "exec");
    assert_string_equal(json_str(json_get(open, "cwd"), ""), "/w");
    assert_string_equal(json_str(json_get(open, "user"), ""), "me");
    assert_int_equal(json_count(json_get(open, "args")), 3);
    inspect(x, e);
    assert_true(json_bool(got(&x->f, "Running"), false));
    assert_string_equal(got_str(&x->f, "ProcessConfig.entrypoint"), "sh");
    assert_string_equal(got_str(&x->f, "ProcessConfig.arguments.1"), "ls");
    assert_string_equal(got_str(&x->f, "ContainerID"), id);
    io_data(x, s, 1, SV("out\n"));
    io_gets_frame(&c, 1, "out\n");
    io_data(x, s, 2, SV("err\n"));
    io_gets_frame(&c, 2, "err\n");
    io_data(x, s, 1, SV("the last bytes"));
    io_exit(x, s, EXITED(3));
    io_gets_frame(&c, 1, "the last bytes");
    io_ends(&c);
    inspect(x, e); /* known by now: the CLI asks once the stream has ended */
    assert_int_equal(got_int(&x->f, "ExitCode"), 3);
    assert_string_equal(io_events(x, id), "create\nstart\nexec_create: sh -c ls\n"
                                          "exec_start: sh -c ls\nexec_die:3\n");
    AUTO_FREE char *target = xasprintf("/exec/%s/start", e);
    ask_error(&x->f, "POST", target, STARTED, 409,
              arena_printf(&x->f.a, "exec command %s has already run", e));
}

static void a_terminal_is_raw(void **state)
{
    struct io *x = *state;
    struct client c;
    struct json_val open;
    struct wire_frame f;
    uint16_t rows, cols;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id,
                              "\"Tty\":true,\"AttachStdin\":true,\"AttachStdout\":true,"
                              "\"ConsoleSize\":[24,80]");
    start(x, &c, e, "{\"Tty\":true,\"ConsoleSize\":[25,90]}");
    uint32_t s = io_open_of(x, &open);
    assert_true(json_bool(json_get(open, "tty"), false));
    assert_int_equal(json_i64(json_get(open, "rows"), 0), 24);
    io_frame(x, WIRE_RESIZE, s, &f);
    check_ok(wire_take_resize(f.payload, &rows, &cols, &err));
    assert_true(rows == 25 && cols == 90);
    io_types(&c, "ls\r");
    io_expect(x, s, "ls\r");
    io_data(x, s, 1, SV("a\r\n"));
    io_gets(&c, SV("a\r\n"));
    ask(&x->f, "POST", arena_printf(&x->f.a, "/exec/%s/resize?h=50&w=132", e), NULL, 200);
    io_frame(x, WIRE_RESIZE, s, &f);
    check_ok(wire_take_resize(f.payload, &rows, &cols, &err));
    assert_true(rows == 50 && cols == 132);
    io_exit(x, s, "{\"kind\":\"signaled\",\"value\":9}");
    io_ends(&c);
    ended_with(x, e, 137);
    ask_error(&x->f, "POST", arena_printf(&x->f.a, "/exec/%s/resize?h=1&w=1", e), NULL, 400,
              "exec process is not started");
}

static void stdin_and_half_close(void **state)
{
    struct io *x = *state;
    struct client c;
    struct wire_frame f;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id, "\"AttachStdin\":true,\"AttachStdout\":true");
    start(x, &c, e, NULL);
    io_types(&c, "typed before it was opened");
    uint32_t s = io_open_of(x, NULL);
    io_expect(x, s, "typed before it was opened");
    shutdown(c.fd, SHUT_WR);
    io_frame(x, WIRE_EOF, s, &f);
    io_data(x, s, 1, SV("after the end of input"));
    io_data(x, s, 2, SV("not attached"));
    io_exit(x, s, EXITED(0));
    io_gets_frame(&c, 1, "after the end of input");
    io_ends(&c);
    ended_with(x, e, 0);
}

/* --- refused --------------------------------------------------------------------------------- */
static void refuse(struct io *x, const char *json)
{
    struct wire_frame f;
    check_ok(tg_expect(&x->guest, WIRE_OPEN, &f, &err));
    check_ok(tg_json(&x->guest, WIRE_OPEN_ERR, f.stream, json, &err));
}

static void launches_that_fail(void **state)
{
#define NOT_FOUND                                                                                  \
    "{\"code\":\"NOT_FOUND\",\"error\":\"exec: \\\"no\\\": executable file not found in $PATH\","  \
    "\"errno\":2,\"stage\":\"exec\",\"exit\":127}"
#define NOT_ALLOWED                                                                                \
    "{\"code\":\"FORBIDDEN\",\"error\":\"exec: \\\"/etc\\\": permission denied\",\"errno\":13,"    \
    "\"stage\":\"exec\",\"exit\":126}"
    static const char found[] =
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"no\": "
        "executable file not found in $PATH: unknown";
    struct io *x = *state;
    struct client c;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id, NULL);
    start(x, &c, e, NULL);
    refuse(x, NOT_FOUND);
    io_gets_frame(&c, 1, arena_printf(&x->f.a, "%s\r\n", found));
    io_ends(&c);
    ended_with(x, e, 127);
    e = exec_make(x, id, "\"Tty\":true");
    start(x, &c, e, "{\"Tty\":true}");
    refuse(x, NOT_ALLOWED);
    io_gets(&c, SV("OCI runtime exec failed: exec failed: unable to start container process: exec: "
                   "\"/etc\": permission denied: unknown\r\n"));
    io_ends(&c);
    ended_with(x, e, 126);
    /* Detached, the client hears it as an error. */
    e = exec_make(x, id, NULL);
    struct answer a;
    io_send(x, &c, "POST", arena_printf(&x->f.a, "/exec/%s/start", e), "{\"Detach\":true}");
    refuse(x, NOT_FOUND);
    assert_true(client_read(&c, &a, false));
    assert_int_equal(a.status, 400);
    assert_non_null(strstr(buf_str(&a.body), "executable file not found"));
    answer_fini(&a);
    client_close(&c);
    ended_with(x, e, 127);
    assert_null(strstr(io_events(x, id), "exec_die")); /* what never ran does not die */
}

static void refusals(void **state)
{
    struct io *x = *state;
    const char *made = io_make(x, NULL);
    AUTO_FREE char *to_made = xasprintf("/containers/%s/exec", made);
    ask_error(&x->f, "POST", to_made, "{\"Cmd\":[\"ls\"]}", 409,
              arena_printf(&x->f.a, "container %s is not running", made));
    const char *id = io_run(x, NULL);
    AUTO_FREE char *target = xasprintf("/containers/%s/exec", id);
    ask_error(&x->f, "POST", target, "{}", 400, "No exec command specified");
    ask_error(&x->f, "POST", target, "{\"Cmd\":[]}", 400, "No exec command specified");
    ask_error(&x->f, "POST", target, "{\"Cmd\":[\"a\"],\"DetachKeys\":\"ctrl-1\"}", 400,
              "Invalid escape keys (ctrl-1) provided");
    ask(&x->f, "POST", target, "{\"Cmd\":[1]}", 400);
    AUTO_FREE char *huge = xasprintf("{\"Cmd\":[\"%070000d\"]}", 1);
    ask(&x->f, "POST", target, huge, 400);
    ask_error(&x->f, "POST", "/containers/nope/exec", "{}", 404, "No such container: nope");
    ask_error(&x->f, "GET", "/exec/nope/json", NULL, 404, "No such exec instance: nope");
    ask_error(&x->f, "POST", "/exec/nope/start", STARTED, 404, "No such exec instance: nope");
    ask_error(&x->f, "POST", "/exec/nope/resize?h=1&w=1", NULL, 404, "No such exec instance: nope");
    const char *e = exec_make(x, id, NULL);
    ask(&x->f, "POST", arena_printf(&x->f.a, "/exec/%s/start", e), STARTED, 503); /* no guest */
    inspect(x, e);
    assert_false(json_present(got(&x->f, "ExitCode"))); /* it may be tried again */
    io_ended(x, id, 0);
    ask_error(&x->f, "POST", arena_printf(&x->f.a, "/exec/%s/start", e), STARTED, 409,
              arena_printf(&x->f.a, "container %s is not running", id));
}

/* --- alone ----------------------------------------------------------------------------------- */
static void detached(void **state)
{
    struct io *x = *state;
    struct client c;
    struct answer a;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id, NULL);
    io_send(x, &c, "POST", arena_printf(&x->f.a, "/exec/%s/start", e), "{\"Detach\":true}");
    uint32_t s = io_open_of(x, NULL);
    assert_true(client_read(&c, &a, false));
    assert_int_equal(a.status, 200);
    answer_fini(&a);
    client_close(&c);
    /* Far more output than one credit: it is dropped, and never waits. */
    AUTO_FREE char *piece = xcalloc(1, WIRE_CREDIT / 4);
    size_t window = WIRE_CREDIT;
    for (int i = 0; i < 16; i++) {
        while (window < WIRE_CREDIT / 4) {
            struct wire_frame f;
            uint8_t channel;
            uint32_t more;
            io_frame(x, WIRE_CREDIT_MORE, s, &f);
            check_ok(wire_take_credit(f.payload, &channel, &more, &err));
            window += more;
        }
        io_data(x, s, 1, sv_make(piece, WIRE_CREDIT / 4));
        window -= WIRE_CREDIT / 4;
    }
    io_exit(x, s, EXITED(4));
    ended_with(x, e, 4);
    assert_non_null(strstr(io_events(x, id), "exec_die:4"));
}

/* dockerd lets it run on. */
static void its_client_goes_away(void **state)
{
    struct io *x = *state;
    struct client c;
    struct wire_frame f;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id, "\"AttachStdin\":true,\"AttachStdout\":true");
    start(x, &c, e, NULL);
    uint32_t s = io_open_of(x, NULL);
    io_data(x, s, 1, SV("hello"));
    io_gets_frame(&c, 1, "hello");
    client_close(&c);
    io_frame(x, WIRE_EOF, s, &f); /* its input has ended */
    AUTO_FREE char *piece = xcalloc(1, WIRE_CREDIT / 4);
    for (int i = 0; i < 4; i++)
        io_data(x, s, 1, sv_make(piece, WIRE_CREDIT / 4));
    io_frame(x, WIRE_CREDIT_MORE, s, &f); /* read on, not closed */
    inspect(x, e);
    assert_true(json_bool(got(&x->f, "Running"), false));
    io_exit(x, s, EXITED(7));
    ended_with(x, e, 7);
    assert_non_null(strstr(io_events(x, id), "exec_die:7"));
}

static void detach_keys(void **state)
{
    struct io *x = *state;
    struct client c;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id,
                              "\"Tty\":true,\"AttachStdin\":true,\"AttachStdout\":true,"
                              "\"DetachKeys\":\"ctrl-a,q\"");
    start(x, &c, e, "{\"Tty\":true}");
    uint32_t s = io_open_of(x, NULL);
    io_types(&c, "x\x01");
    io_expect(x, s, "x");
    io_types(&c, "q");
    io_ends(&c);
    io_data(x, s, 1, SV("nobody listens"));
    inspect(x, e);
    assert_true(json_bool(got(&x->f, "Running"), false));
    io_exit(x, s, EXITED(0));
    ended_with(x, e, 0);
    assert_non_null(strstr(io_events(x, id), "exec_detach\n"));
}

static void its_guest_is_lost(void **state)
{
    struct io *x = *state;
    struct client c;
    io_guest(x);
    const char *id = io_run(x, NULL);
    const char *e = exec_make(x, id, NULL);
    start(x, &c, e, NULL);
    uint32_t s = io_open_of(x, NULL);
    io_data(x, s, 1, SV("x"));
    io_gets_frame(&c, 1, "x");
    tg_close(&x->guest);
    x->has_guest = false;
    io_ends(&c);
    ended_with(x, e, 137);
}

static void the_engine_ends_first(void **state)
{
    struct io *x = *state;
    struct client c, d;
    io_guest(x);
    const char *id = io_run(x, NULL);
    start(x, &c, exec_make(x, id, NULL), NULL);
    io_data(x, io_open_of(x, NULL), 1, SV("x"));
    const char *e = exec_make(x, id, NULL);
    io_send(x, &d, "POST", arena_printf(&x->f.a, "/exec/%s/start", e), "{\"Detach\":true}");
    io_open_of(x, NULL);
    client_close(&c);
    client_close(&d);
    /* io_teardown frees the API while both run. */
}

/* --- slow, and many -------------------------------------------------------------------------- */
static void a_deaf_client_holds_up_its_own_exec(void **state)
{
    struct io *x = *state;
    struct client deaf, c;
    struct wire_frame f;
    struct vic_err why = {0};
    io_guest(x);
    const char *id = io_run(x, NULL);
    start(x, &deaf, exec_make(x, id, NULL), NULL);
    uint32_t s = io_open_of(x, NULL);
    /* The guest sends what it may until no credit comes any more. */
    AUTO_FREE char *piece = xcalloc(1, WIRE_CREDIT);
    size_t window = WIRE_CREDIT, sent = 0;
    for (;;) {
        uint8_t channel;
        uint32_t more;
        io_data(x, s, 1, sv_make(piece, window));
        sent += window;
        window = 0;
        if (!tg_recv(&x->guest, &f, 300, &why))
            break;
        assert_int_equal(f.type, WIRE_CREDIT_MORE);
        check_ok(wire_take_credit(f.payload, &channel, &more, &err));
        window = more;
    }
    assert_int_equal(why.code, VIC_TIMEOUT);
    assert_true(sent < 4 << 20);                /* a credit, two sockets' buffers and ours */
    start(x, &c, exec_make(x, id, NULL), NULL); /* others go on */
    uint32_t t = io_open_of(x, NULL);
    io_data(x, t, 1, SV("quick"));
    io_gets_frame(&c, 1, "quick");
    io_exit(x, t, EXITED(0));
    io_ends(&c);
    io_exit(x, s, EXITED(0));
    size_t got_bytes = 0;
    while (got_bytes < sent) { /* frames of what was sent, whole */
        char head[8], bytes[32768];
        assert_int_equal(recv(deaf.fd, head, 8, MSG_WAITALL), 8);
        size_t len = (size_t)(unsigned char)head[5] << 16 | (size_t)(unsigned char)head[6] << 8 |
                     (unsigned char)head[7];
        assert_true(head[0] == 1 && len > 0 && len <= sizeof bytes);
        assert_int_equal(recv(deaf.fd, bytes, len, MSG_WAITALL), (ssize_t)len);
        got_bytes += len;
    }
    assert_int_equal(got_bytes, sent);
    io_ends(&deaf);
}

static void one_hundred_at_once(void **state)
{
    struct io *x = *state;
    enum { MANY = 100 };
    struct client c[MANY];
    const char *e[MANY];
    const struct tg_player_options o = {.address = x->address, .vm = IO_VM, .exit_value = -1};
    const char *id = io_run(x, NULL);
    struct tg_player *p = tg_player_start(&o);
    struct hub_guest g;
    while (!hub_guest(x->hub, IO_VM, &g) || !g.connected)
        ask(&x->f, "GET", "/_ping", NULL, 200);
    for (int i = 0; i < MANY; i++) {
        e[i] = exec_make(x, id, "\"AttachStdin\":true,\"AttachStdout\":true");
        start(x, &c[i], e[i], NULL);
    }
    for (int i = 0; i < MANY; i++) {
        AUTO_FREE char *text = xasprintf("exec %d says this", i);
        io_types(&c[i], text);
        shutdown(c[i].fd, SHUT_WR);
    }
    for (int i = MANY - 1; i >= 0; i--) {
        AUTO_FREE char *text = xasprintf("exec %d says this", i);
        AUTO_BUF struct buf all = {0};
        while (all.len < strlen(text)) { /* its echo may come in several frames */
            char head[8], bytes[64];
            assert_int_equal(recv(c[i].fd, head, 8, MSG_WAITALL), 8);
            assert_true(head[7] > 0 && head[7] < 64);
            assert_int_equal(recv(c[i].fd, bytes, (size_t)head[7], MSG_WAITALL), head[7]);
            buf_add(&all, bytes, (size_t)head[7]);
        }
        assert_string_equal(buf_str(&all), text);
        io_ends(&c[i]);
        ended_with(x, e[i], 0);
    }
    tg_player_stop(p);
}

static void finished_ones_make_room(void **state)
{
    struct io *x = *state;
    const char *id = io_run(x, NULL);
    const char *first = exec_make(x, id, NULL);
    struct client c;
    struct answer a;
    AUTO_FREE char *target = xasprintf("/containers/%s/exec", id);
    assert_true(client_open(&c, x->f.host.socket));
    for (int i = 0; i < 4096; i++) { /* never started */
        assert_true(client_send(&c, "POST", target, NULL, "{\"Cmd\":[\"a\"]}"));
        assert_true(client_read(&c, &a, false));
        assert_int_equal(a.status, 201);
        answer_fini(&a);
    }
    client_close(&c);
    ask(&x->f, "GET", arena_printf(&x->f.a, "/exec/%s/json", first), NULL, 404);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, io_setup, io_teardown)
    const struct CMUnitTest tests[] = {
        TEST(attached_from_start_to_end),
        TEST(a_terminal_is_raw),
        TEST(stdin_and_half_close),
        TEST(launches_that_fail),
        TEST(refusals),
        TEST(detached),
        TEST(its_client_goes_away),
        TEST(detach_keys),
        TEST(its_guest_is_lost),
        TEST(the_engine_ends_first),
        TEST(a_deaf_client_holds_up_its_own_exec),
        TEST(one_hundred_at_once),
        TEST(finished_ones_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
