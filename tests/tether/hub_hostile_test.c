/* The hub with guests and strangers that mean harm. */
#include "hub_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void unknown_and_wrong_keys_are_refused(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    unsigned char wrong[TLS_PSK_SIZE] = {1};
    struct hub_guest said;
    fx_init(&x);
    fx_start(&x);
    const struct tg_connect tries[] = {
        {.address = x.address, .vm = "stranger"},
        {.address = x.address, .vm = "vm1", .key = wrong},
        {.address = x.address, .vm = "vm1", .n = 3},
        {.address = x.address, .vm = "vm1", .identity = "vm1"},
        {.address = x.address, .vm = "vm1", .identity = "/1"},
        {.address = x.address, .vm = "vm1", .identity = "vm1/99999999999999999999"},
        {.address = x.address, .vm = "vm1", .identity = "vm1/1/1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(tries); i++)
        assert_false(tg_connect(&g, &tries[i], &err) && tg_hello(&g, NULL, &err));
    assert_false(hub_guest(x.hub, "vm1", &said));
    fx_guest(&x, &g, "vm1", NULL); /* the right one still comes in */
    tg_close(&g);
    fx_stop(&x);
}

struct attack {
    enum wire_type type;
    uint32_t stream;
    const char *payload;
    bool run; /* the guest has a run before */
};

/* Each of them ends the connection with ERROR PROTOCOL, and nothing else. */
static const struct attack attacks[] = {
    {WIRE_HELLO, 0, "{}", false},
    {WIRE_WELCOME, 0, "{}", false},
    {WIRE_CONFIG, 0, "{}", false},
    {WIRE_SHUTDOWN, 0, "{}", false},
    {WIRE_LOG_ACK, 0, "12345678", false},
    {WIRE_CONFIG_ACK, 0, "{\"gen\":1,\"ok\":true}", false},
    {WIRE_CONFIG_ACK, 0, "{\"gen\":9,\"ok\":true}", true},
    {WIRE_CONFIG_ACK, 0, "{\"ok\":true}", true},
    {WIRE_STATUS, 0, "{\"seq\":9,\"phase\":\"running\"}", false},
    {WIRE_STATUS, 0, "{\"seq\":9,\"phase\":\"flying\"}", true},
    {WIRE_STATUS, 0, "not json", true},
    {WIRE_STATUS, 0, "[1]", true},
    {WIRE_STATUS, 0, "", true},
    {WIRE_STATUS, 5, "{\"seq\":9,\"phase\":\"running\"}", true},
    {WIRE_EXIT, 0, "{\"container\":\"c1\",\"seq\":3,\"kind\":\"exited\",\"value\":0}", false},
    {WIRE_EXIT, 0, "{\"container\":\"c2\",\"seq\":3,\"kind\":\"exited\",\"value\":0}", true},
    {WIRE_EXIT, 0, "{\"container\":\"c1\",\"seq\":4,\"kind\":\"exited\",\"value\":0}", true},
    {WIRE_EXIT, 0, "{\"container\":\"c1\",\"seq\":3,\"kind\":\"exited\",\"value\":256}", true},
    {WIRE_EXIT, 0, "{\"container\":\"c1\",\"seq\":3,\"kind\":\"signaled\",\"value\":0}", true},
    {WIRE_EXIT, 0, "{\"container\":\"../c\",\"seq\":3,\"kind\":\"exited\",\"value\":0}", true},
    {WIRE_LOG, 0,
     "\1\0\0\0\0\0\0\0"
     "12345678"
     "\1\0"
     "x",
     false},
    {WIRE_LOG, 0,
     "\1\1\1\1\1\1\1\1"
     "12345678"
     "\3\1"
     "x",
     true}, /* no such output */
    {WIRE_LOG, 0, "short", true},
    {WIRE_PING, 0, "short", false},
    {WIRE_PONG, 0, "much too long for a pong", false},
    {WIRE_OPEN, 1, "{}", false},
    {WIRE_SIGNAL, 0, "{}", false},
    {WIRE_OPEN_OK, 0, "{}", false},
    {WIRE_OPEN_OK, 1, "{}", false}, /* never opened */
    {WIRE_OPEN_OK, 2, "{}", false},
    {WIRE_DATA, 4294967295u, "\1x", false},
    {WIRE_DATA, 0, "\1x", false},
    {WIRE_CLOSE, 1, "{}", false},
};

static void frames_that_do_not_fit_end_the_connection(void **state)
{
    (void)state;
    struct fx x;
    fx_init(&x);
    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        struct tg g;
        struct vic_err err;
        const struct attack *t = &attacks[i];
        AUTO_BUF struct buf b = {0};
        if (i % 8 == 0) { /* a hub that has not been angered yet by this address */
            fx_init(&x);
            fx_start(&x);
        }
        fx_guest(&x, &g, "vm1", NULL);
        if (t->run)
            fx_run(&x, &g, "c1", 1);
        size_t size = t->type == WIRE_LOG && strlen(t->payload) != 5 ? 19 : strlen(t->payload);
        wire_put(&b, t->type, t->stream, sv_make(t->payload, size));
        OK(tg_send(&g, buf_sv(&b), &err), &err);
        if (!tg_ended(&g, "PROTOCOL"))
            fail_msg("attack %zu was not answered with ERROR", i);
        fx_until(&x, "vm1", fx_gone);
        assert_false(fx_said(&x, "vm1").exit.set);
        tg_close(&g);
        if (i % 8 == 7 || i + 1 == ARRAY_LEN(attacks))
            fx_stop(&x);
    }
}

static void raw_bytes_that_are_no_frames(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *code;
    } rows[] = {
        {"\x03\x80\0\0\0\0\0\0\x01\0\x01\0", "PROTOCOL"}, /* 65537 bytes */
        {"\x03\x80\0\0\0\0\0\0\xff\xff\xff\xff", "PROTOCOL"},
        {"\x03\x80\x01\0\0\0\0\0\0\0\0\0", "PROTOCOL"}, /* reserved bytes */
        {"\x63\x80\0\0\0\0\0\0\0\0\0\0", "PROTOCOL"},   /* unknown, must be understood */
    };
    struct fx x;
    struct vic_err err;
    struct wire_frame f;
    struct tg g;
    fx_init(&x);
    fx_start(&x);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fx_guest(&x, &g, "vm1", NULL);
        OK(tg_send(&g, sv_make(rows[i].bytes, WIRE_HEADER), &err), &err);
        assert_true(tg_ended(&g, rows[i].code));
        tg_close(&g);
    }
    /* Unknown, may be ignored; one byte at a time. */
    fx_guest(&x, &g, "vm1", NULL);
    static const char ignored[] = "\x63\0\0\0\0\0\0\0\x02\0\0\0hi";
    for (size_t i = 0; i < sizeof ignored - 1; i++)
        OK(tg_send(&g, sv_make(ignored + i, 1), &err), &err);
    OK(tg_json(&g, WIRE_PING, 0, "0123456789abcdef", &err), &err);
    OK(tg_expect(&g, WIRE_PONG, &f, &err), &err);
    tg_close(&g);
    fx_stop(&x);
}

static void a_hello_that_lies(void **state)
{
    (void)state;
    static const char *const hellos[] = {
        "{\"proto\":1,\"vm\":\"vm2\",\"boot\":\"b\",\"role\":\"none\"}",
        "{\"proto\":2,\"vm\":\"vm1\",\"boot\":\"b\",\"role\":\"none\"}",
        "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"../../b\",\"role\":\"none\"}",
        "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"b\",\"role\":\"king\"}",
        "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"b\",\"role\":\"run\"}",
        "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"b\",\"role\":\"run\",\"run\":{\"container\":"
        "\"a/b\",\"seq\":1,\"phase\":\"running\"}}",
        "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"b\",\"role\":\"run\",\"run\":{\"container\":"
        "\"c1\",\"seq\":1,\"phase\":\"exited\"},\"exit\":{\"container\":\"c1\",\"seq\":2,"
        "\"kind\":\"exited\",\"value\":0}}",
        "null",
        "",
    };
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct hub_guest said;
    fx_init(&x);
    fx_start(&x);
    for (size_t i = 0; i < ARRAY_LEN(hellos); i++) {
        struct tg_connect o = {.address = x.address, .vm = "vm1"};
        OK(tg_connect(&g, &o, &err), &err);
        assert_false(tg_hello(&g, hellos[i], &err));
        tg_close(&g);
    }
    assert_false(hub_guest(x.hub, "vm1", &said));
    assert_false(hub_guest(x.hub, "vm2", &said));
    fx_stop(&x);
}

/* A guest that was given one container may not come back with another's. */
static void a_guest_keeps_its_container(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 1);
    tg_close(&g);
    fx_until(&x, "vm1", fx_gone);
    struct tg_connect o = {.address = x.address, .vm = "vm1"};
    OK(tg_connect(&g, &o, &err), &err);
    assert_false(tg_hello(&g,
                          "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"b\",\"role\":\"run\",\"run\":{"
                          "\"container\":\"c2\",\"seq\":3,\"phase\":\"running\"}}",
                          &err));
    tg_close(&g);
    fx_stop(&x);
}

static void log_seq_only_grows_and_the_window_holds(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    static char bytes[WIRE_MAX_LOG];
    fx_init(&x);
    x.ack_logs = false;
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 1);
    OK(tg_log(&g, 5, 1, SV("a"), &err), &err);
    OK(tg_log(&g, 5, 1, SV("b"), &err), &err);
    assert_true(tg_ended(&g, "PROTOCOL"));
    assert_int_equal(x.log_count, 1);
    tg_close(&g);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 1);
    for (uint64_t i = 1; i < 200 && tg_log(&g, i, 1, sv_make(bytes, sizeof bytes), &err); i++)
        ;
    assert_true(tg_ended(&g, ""));
    fx_until(&x, "vm1", fx_gone);
    mutex_lock(&x.lock);
    assert_true(x.log_bytes <= WIRE_LOG_WINDOW + 262144);
    mutex_unlock(&x.lock);
    tg_close(&g);
    fx_stop(&x);
}

/* Streams: more than was granted, after the end, on the wrong channel, out of order. */
static void streams_hold_to_their_credit(void **state)
{
    (void)state;
    static char bytes[WIRE_MAX_PAYLOAD - 1];
    struct fx x;
    struct vic_err err;
    fx_init(&x);
    fx_start(&x);
    for (int i = 0; i < 8; i++) {
        struct tg g;
        struct fx_stream s;
        AUTO_BUF struct buf b = {0};
        fx_guest(&x, &g, "vm1", NULL);
        fx_open(&x, &s, "vm1", "{\"kind\":\"exec\"}");
        if (i != 1)
            wire_put(&b, WIRE_OPEN_OK, 1, SV("{}"));
        if (i == 0) /* 5 x 65535 is more than 262144 */
            for (int n = 0; n < 5; n++)
                wire_put_data(&b, 1, 1, sv_make(bytes, sizeof bytes));
        if (i == 1) /* not open yet */
            wire_put_data(&b, 1, 1, SV("x"));
        if (i == 2)
            wire_put_data(&b, 1, 0, SV("x"));
        if (i == 3)
            wire_put_data(&b, 1, 3, SV("x"));
        if (i == 4) {
            wire_put_eof(&b, 1, 1);
            wire_put_data(&b, 1, 1, SV("x"));
        }
        if (i == 5)
            wire_put_credit(&b, 1, 1, 5);
        if (i == 6)
            wire_put(&b, WIRE_OPEN_OK, 1, SV("{}"));
        if (i == 7)
            wire_put(&b, WIRE_OPEN_ERR, 1, SV("{}"));
        OK(tg_send(&g, buf_sv(&b), &err), &err);
        if (!tg_ended(&g, "PROTOCOL"))
            fail_msg("case %d was not answered with ERROR", i);
        fx_stream_until(&s, fx_is_closed);
        struct hub_stream_status st;
        hub_stream_status(s.s, &st);
        assert_true(st.refused && st.err.code == VIC_UNAVAILABLE);
        assert_true(st.readable[1] <= WIRE_CREDIT);
        fx_stream_end(&s);
        tg_close(&g);
    }
    fx_stop(&x);
}

/* Pings whose answers are never read: the queue for them is bounded, then the guest is ended. */
static void a_guest_that_only_talks(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    AUTO_BUF struct buf b = {0};
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    int size = 4096;
    setsockopt(g.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    for (int i = 0; i < 1000; i++)
        wire_put_ping(&b, WIRE_PING, 1, 1);
    int rounds = 0;
    while (rounds < 1000 && tg_send(&g, buf_sv(&b), &err))
        rounds++;
    assert_true(rounds < 1000);
    fx_until(&x, "vm1", fx_gone);
    tg_close(&g);
    fx_stop(&x);
}

/* Sockets that never say a word take their share of handshakes, no more, and only for a while;
 * guests at other addresses come in all the same. */
static void half_open_handshakes(void **state)
{
    (void)state;
    enum { MUTE = 40 };
    struct fx x;
    struct tg g;
    struct vic_err err;
    int fds[MUTE];
    unsigned open = 0;
    fx_init(&x);
    x.o.handshake_ms = 1500;
    fx_start(&x);
    for (int i = 0; i < MUTE; i++) {
        fds[i] = tg_dial(x.address, "127.0.0.9");
        assert_true(fds[i] >= 0);
    }
    struct tg_connect o = {.address = x.address, .vm = "vm1", .source = "127.0.0.10"};
    OK(tg_connect(&g, &o, &err), &err);
    OK(tg_hello(&g, NULL, &err), &err);
    for (int i = 0; i < MUTE; i++) {
        char c;
        open += recv(fds[i], &c, 1, MSG_DONTWAIT) < 0;
    }
    assert_true(open <= 16); /* PEER_HANDSHAKES */
    o.source = "127.0.0.9";
    struct tg late;
    assert_false(tg_connect(&late, &o, &err));
    for (int i = 0; i < MUTE; i++) { /* each of them is ended by the hub */
        char c;
        struct timeval tv = {.tv_sec = 10};
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        assert_true(recv(fds[i], &c, 1, 0) <= 0);
        close(fds[i]);
    }
    o.vm = "vm2";
    OK(tg_connect(&late, &o, &err), &err);
    OK(tg_hello(&late, NULL, &err), &err);
    assert_true(fx_said(&x, "vm1").connected && fx_said(&x, "vm2").connected);
    tg_close(&late);
    tg_close(&g);
    fx_stop(&x);
}

static void bytes_before_the_proof_are_few(void **state)
{
    (void)state;
    struct fx x;
    fx_init(&x);
    fx_start(&x);
    int fd = tg_dial(x.address, NULL);
    assert_true(fd >= 0);
    /* One handshake record after another, each announcing a message of 16 MB. */
    static char record[5 + 16000] = "\x16\x03\x01\x3e\x80\x01\xff\xff\xff\x03\x03";
    size_t sent = 0;
    ssize_t n = 0;
    while (n >= 0 && sent < 100000000) {
        n = send(fd, record, sizeof record, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
    }
    assert_true(sent < 100000000);
    close(fd);
    fx_stop(&x);
}

/* An address that fails again and again is slowed down; the good ones at it keep their place. */
static void failures_run_out_of_tokens(void **state)
{
    (void)state;
    struct fx x;
    struct tg g, bad;
    struct vic_err err;
    unsigned char wrong[TLS_PSK_SIZE] = {1};
    int refused = 0;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    for (int i = 0; i < 90; i++) {
        struct tg_connect o = {.address = x.address, .vm = "vm1", .key = wrong};
        assert_false(tg_connect(&bad, &o, &err) && tg_hello(&bad, NULL, &err));
        tg_close(&bad);
    }
    for (int i = 0; i < 8; i++) {
        struct tg_connect o = {.address = x.address, .vm = "vm2"};
        refused += !tg_connect(&bad, &o, &err);
        tg_close(&bad);
    }
    assert_true(refused > 0);
    assert_true(fx_said(&x, "vm1").connected);
    struct tg_connect o = {.address = x.address, .vm = "vm2", .source = "127.0.0.11"};
    OK(tg_connect(&bad, &o, &err), &err);
    tg_close(&bad);
    tg_close(&g);
    fx_stop(&x);
}

static void silence_after_the_handshake_ends(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    fx_init(&x);
    x.o.handshake_ms = 300;
    fx_start(&x);
    struct tg_connect o = {.address = x.address, .vm = "vm1"};
    OK(tg_connect(&g, &o, &err), &err);
    assert_true(tg_ended(&g, ""));
    tg_close(&g);
    fx_stop(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_and_wrong_keys_are_refused),
        cmocka_unit_test(frames_that_do_not_fit_end_the_connection),
        cmocka_unit_test(raw_bytes_that_are_no_frames),
        cmocka_unit_test(a_hello_that_lies),
        cmocka_unit_test(a_guest_keeps_its_container),
        cmocka_unit_test(log_seq_only_grows_and_the_window_holds),
        cmocka_unit_test(streams_hold_to_their_credit),
        cmocka_unit_test(a_guest_that_only_talks),
        cmocka_unit_test(half_open_handshakes),
        cmocka_unit_test(bytes_before_the_proof_are_few),
        cmocka_unit_test(failures_run_out_of_tokens),
        cmocka_unit_test(silence_after_the_handshake_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
