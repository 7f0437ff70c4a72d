/* The hub with honest guests: who is there, roles, exits, logs, pings. */
#include "hub_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

#define RUN_HELLO                                                                                  \
    "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"boot-2\",\"role\":\"run\",\"log_seq\":5,"              \
    "\"run\":{\"container\":\"c1\",\"seq\":3,\"rev\":9,\"phase\":\"exited\",\"pid\":0,"            \
    "\"started_ns\":4},\"exit\":{\"container\":\"c1\",\"seq\":3,\"kind\":\"signaled\","            \
    "\"value\":9,\"oom\":true,\"error\":\"out of\\u0007memory\",\"started_ns\":4,\"ended_ns\":8,"  \
    "\"log_seq\":5}}"

static void hello_makes_a_guest_known(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct hub_guest said;
    fx_init(&x);
    fx_start(&x);
    assert_false(hub_guest(x.hub, "vm1", &said));
    fx_guest(&x, &g, "vm1", NULL);
    fx_until(&x, "vm1", fx_connected);
    said = fx_said(&x, "vm1");
    assert_string_equal(said.vm, "vm1");
    assert_string_equal(said.boot, g.boot);
    assert_int_equal(said.boots, 1);
    assert_int_equal(said.role, HUB_ROLE_NONE);
    tg_close(&g);
    fx_until(&x, "vm1", fx_gone);
    /* It comes back, rebooted, with its run and an exit that nobody has acknowledged. */
    x.log_stored = 3;
    fx_guest(&x, &g, "vm1", RUN_HELLO);
    fx_until(&x, "vm1", fx_exited);
    said = fx_said(&x, "vm1");
    assert_int_equal(said.boots, 2);
    assert_int_equal(said.role, HUB_ROLE_RUN);
    assert_int_equal(said.spec_rev, 9);
    assert_int_equal(said.phase, HUB_PHASE_EXITED);
    assert_string_equal(said.exit.error, "out of memory");
    assert_true(said.exit.oom && said.exit.kind == HUB_EXIT_SIGNALED && said.exit.value == 9);
    hub_forget(x.hub, "vm1");
    assert_false(hub_guest(x.hub, "vm1", &said));
    assert_true(tg_ended(&g, "UNAVAILABLE"));
    tg_close(&g);
    fx_stop(&x);
}

static void welcome_brings_key_two_and_log_seq(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    unsigned char key[TLS_PSK_SIZE], want[TLS_PSK_SIZE];
    fx_init(&x);
    x.log_stored = 77;
    fx_start(&x);
    struct tg_connect o = {.address = x.address, .vm = "vm1"};
    OK(tg_connect(&g, &o, &err), &err);
    OK(tg_json(&g, WIRE_HELLO, 0, RUN_HELLO, &err), &err);
    OK(tg_expect(&g, WIRE_WELCOME, &f, &err), &err);
    OK(json_parse(f.payload, 0, &a, &v, &err), &err);
    assert_int_equal(json_i64(json_get(v, "proto"), 0), 1);
    assert_int_equal(json_i64(json_get(v, "log_seq"), 0), 77);
    assert_true(hex_decode(sv_of(json_str(json_get(v, "key"), "")), key));
    tg_key("vm1", 2, want);
    assert_memory_equal(key, want, sizeof key);
    tg_close(&g);
    o.n = 2;
    o.key = key;
    OK(tg_connect(&g, &o, &err), &err);
    OK(tg_hello(&g, RUN_HELLO, &err), &err);
    tg_close(&g);
    fx_stop(&x);
}

static void a_newer_connection_replaces_the_older(void **state)
{
    (void)state;
    struct fx x;
    struct tg old, new;
    struct fx_stream s;
    struct hub_stream_status st;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &old, "vm1", NULL);
    fx_open(&x, &s, "vm1", "{\"kind\":\"exec\"}");
    fx_guest(&x, &new, "vm1", NULL);
    assert_true(tg_ended(&old, "UNAVAILABLE"));
    fx_stream_until(&s, fx_is_closed);
    hub_stream_status(s.s, &st);
    assert_true(st.refused);
    assert_int_equal(st.err.code, VIC_UNAVAILABLE);
    assert_true(fx_said(&x, "vm1").connected);
    fx_run(&x, &new, "c1", 1);
    fx_stream_end(&s);
    tg_close(&old);
    tg_close(&new);
    fx_stop(&x);
}

static void a_run_from_config_to_exit(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    fx_init(&x);
    fx_start(&x);
    assert_false(hub_config(x.hub, "vm1", SV("{\"gen\":1,\"role\":\"worker\"}"), &err));
    assert_int_equal(err.code, VIC_UNAVAILABLE);
    assert_false(hub_config(x.hub, "vm1", SV("{\"gen\":1}"), &err));
    assert_int_equal(err.code, VIC_INVALID);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 4);
    struct hub_guest said = fx_said(&x, "vm1");
    assert_true(said.config_ok && said.config_gen == 4 && said.role == HUB_ROLE_RUN);
    assert_string_equal(said.container, "c1");
    assert_true(said.seq == 3 && said.spec_rev == 9 && said.phase == HUB_PHASE_RUNNING);
    assert_true(said.pid == 7 && said.started_ns == 5);
    OK(hub_signal(x.hub, "vm1", "", 15, &err), &err);
    OK(tg_expect(&g, WIRE_SIGNAL, &f, &err), &err);
    assert_true(sv_is(f.payload, "{\"session\":\"\",\"signal\":15}"));
    OK(hub_shutdown(x.hub, "vm1", 10000, 15, &err), &err);
    OK(tg_expect(&g, WIRE_SHUTDOWN, &f, &err), &err);
    assert_true(sv_is(f.payload, "{\"grace_ms\":10000,\"signal\":15}"));
    OK(tg_json(&g, WIRE_EXIT, 0,
               "{\"container\":\"c1\",\"seq\":3,\"kind\":\"exited\",\"value\":3,\"ended_ns\":9}",
               &err),
       &err);
    fx_until(&x, "vm1", fx_exited);
    tg_close(&g);
    fx_until(&x, "vm1", fx_gone);
    /* The exit is kept while the guest is away, and given up once it is acknowledged. */
    said = fx_said(&x, "vm1");
    assert_true(said.exit.set && said.exit.value == 3 && said.exit.ended_ns == 9);
    assert_false(hub_exit_ack(x.hub, "vm1", 3, &err));
    assert_int_equal(err.code, VIC_UNAVAILABLE);
    assert_false(fx_said(&x, "vm1").exit.set);
    fx_stop(&x);
}

static void exit_is_acknowledged(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", RUN_HELLO);
    fx_until(&x, "vm1", fx_exited);
    OK(hub_exit_ack(x.hub, "vm1", 3, &err), &err);
    OK(tg_expect(&g, WIRE_EXIT_ACK, &f, &err), &err);
    assert_true(sv_is(f.payload, "{\"seq\":3}"));
    assert_false(fx_said(&x, "vm1").exit.set);
    tg_close(&g);
    fx_stop(&x);
}

static void a_refused_config_says_why(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    OK(hub_config(x.hub, "vm1", SV("{\"gen\":1,\"role\":\"run\",\"spec\":{\"container\":\"c1\"}}"),
                  &err),
       &err);
    OK(tg_expect(&g, WIRE_CONFIG, &f, &err), &err);
    OK(tg_json(&g, WIRE_CONFIG_ACK, 0,
               "{\"gen\":1,\"ok\":false,\"error\":\"no disk\",\"errno\":6,\"stage\":\"disk\"}",
               &err),
       &err);
    OK(tg_json(&g, WIRE_PING, 0, "0123456789abcdef", &err), &err);
    OK(tg_expect(&g, WIRE_PONG, &f, &err), &err); /* the ack has been handled */
    struct hub_guest said = fx_said(&x, "vm1");
    assert_true(said.config_gen == 1 && !said.config_ok && said.config_errno == 6);
    assert_string_equal(said.config_error, "no disk");
    assert_string_equal(said.config_stage, "disk");
    assert_int_equal(said.role, HUB_ROLE_NONE);
    tg_close(&g);
    fx_stop(&x);
}

static void logs_arrive_in_order_and_are_acknowledged(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    uint64_t acked = 0;
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 1);
    for (uint64_t i = 1; i <= 500; i++)
        OK(tg_log(&g, i, 1, SV("hello\n"), &err), &err);
    while (acked < 500) {
        OK(tg_expect(&g, WIRE_LOG_ACK, &f, &err), &err);
        OK(wire_take_u64(f.payload, &acked, &err), &err);
    }
    fx_until_logs(&x, 500);
    assert_string_equal(x.log_last, "hello\n");
    assert_string_equal(x.log_container, "c1");
    assert_string_equal(x.log_boot, g.boot);
    hub_log_ack(x.hub, "vm1", "another-boot", 500); /* is not for this boot: nothing is sent */
    tg_close(&g);
    fx_stop(&x);
}

/* More than the window, as long as acknowledgements come. */
static void a_log_flood_is_taken(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    static char bytes[WIRE_MAX_LOG];
    uint64_t acked = 0, sent = 0;
    memset(bytes, 'x', sizeof bytes);
    fx_init(&x);
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 1);
    while (acked < 400) {
        for (; sent < 400 && (sent - acked) < 60; sent++)
            OK(tg_log(&g, sent + 1, 2, sv_make(bytes, sizeof bytes), &err), &err);
        OK(tg_expect(&g, WIRE_LOG_ACK, &f, &err), &err);
        OK(wire_take_u64(f.payload, &acked, &err), &err);
    }
    fx_until_logs(&x, 400);
    assert_int_equal(x.log_bytes, 400ull * WIRE_MAX_LOG);
    tg_close(&g);
    fx_stop(&x);
}

/* Tiny entries whose acknowledgements come late: the hub stops reading, then goes on. */
static void many_small_entries_wait_their_turn(void **state)
{
    (void)state;
    enum { ENTRIES = 40000 };
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    AUTO_BUF struct buf b = {0};
    uint64_t acked = 0;
    fx_init(&x);
    x.ack_logs = false;
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    fx_run(&x, &g, "c1", 1);
    for (uint64_t i = 1; i <= ENTRIES; i++)
        wire_put_log(&b, &(struct wire_log){.seq = i, .stream = 1, .bytes = SV("x")});
    struct sv left = buf_sv(&b);
    for (; left.len; left = sv_sub(left, 10000, left.len)) { /* 1.2 MB: the kernel holds the rest */
        OK(tg_send(&g, sv_sub(left, 0, 10000), &err), &err);
        if (left.len > b.len / 3 * 2)
            continue;
        mutex_lock(&x.lock);
        x.ack_logs = true;
        uint64_t seq = x.log_seq;
        mutex_unlock(&x.lock);
        hub_log_ack(x.hub, "vm1", g.boot, seq);
    }
    while (acked < ENTRIES) {
        OK(tg_expect(&g, WIRE_LOG_ACK, &f, &err), &err);
        OK(wire_take_u64(f.payload, &acked, &err), &err);
    }
    fx_until_logs(&x, ENTRIES);
    tg_close(&g);
    fx_stop(&x);
}

static bool has_offset(const struct hub_guest *g)
{
    return g->clock_offset_ns > 3500000000000 && g->clock_offset_ns < 3700000000000;
}

static void pings_measure_the_clock_and_find_the_dead(void **state)
{
    (void)state;
    struct fx x;
    struct tg g;
    struct vic_err err;
    struct wire_frame f;
    uint64_t nonce;
    int64_t theirs;
    AUTO_BUF struct buf b = {0};
    fx_init(&x);
    x.o.ping_ms = 50;
    x.o.dead_ms = 400;
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    OK(tg_recv(&g, &f, TG_TIMEOUT_MS, &err), &err);
    assert_int_equal(f.type, WIRE_PING);
    OK(wire_take_ping(f.payload, &nonce, &theirs, &err), &err);
    wire_put_ping(&b, WIRE_PONG, nonce, clock_wall_ns(&vic_clock_real) + 3600000000000);
    OK(tg_send(&g, buf_sv(&b), &err), &err);
    OK(tg_json(&g, WIRE_PING, 0, "0123456789abcdef", &err), &err);
    OK(tg_expect(&g, WIRE_PONG, &f, &err), &err);
    fx_until(&x, "vm1", has_offset);
    /* While it answers (tg_expect does) it lives far beyond dead_ms; silent, it is given up. */
    for (int i = 0; i < 20; i++) {
        OK(tg_recv(&g, &f, TG_TIMEOUT_MS, &err), &err);
        assert_int_equal(f.type, WIRE_PING);
        buf_reset(&b);
        wire_put_ping(&b, WIRE_PONG, 1, 1);
        OK(tg_send(&g, buf_sv(&b), &err), &err);
    }
    assert_true(fx_said(&x, "vm1").connected);
    fx_until(&x, "vm1", fx_gone);
    assert_true(tg_ended(&g, ""));
    tg_close(&g);
    fx_stop(&x);
}

enum { MANY = 200 };

static void many_guests_at_once(void **state)
{
    (void)state;
    struct fx x;
    struct vic_err err;
    static char vms[MANY][8], sources[MANY][16];
    static struct tg_player *players[MANY];
    fx_init(&x);
    fx_start(&x);
    for (int i = 0; i < MANY; i++) {
        snprintf(vms[i], sizeof vms[i], "vm%d", i);
        snprintf(sources[i], sizeof sources[i], "127.0.1.%d", i % 250 + 1);
        struct tg_player_options o = {.address = x.address,
                                      .vm = vms[i],
                                      .source = sources[i],
                                      .log_lines = 10,
                                      .exit_value = i % 100};
        players[i] = tg_player_start(&o);
    }
    for (int i = 0; i < MANY; i++) {
        AUTO_BUF struct buf b = {0};
        fx_until(&x, vms[i], fx_connected);
        buf_addf(&b,
                 "{\"gen\":1,\"role\":\"run\",\"spec\":{\"container\":\"c%d\",\"seq\":%d,"
                 "\"rev\":1}}",
                 i, i + 1);
        OK(hub_config(x.hub, vms[i], buf_sv(&b), &err), &err);
    }
    for (int i = 0; i < MANY; i++) {
        fx_until(&x, vms[i], fx_exited);
        struct hub_guest said = fx_said(&x, vms[i]);
        assert_true(said.exit.value == i % 100 && said.exit.seq == (uint64_t)i + 1);
        OK(hub_exit_ack(x.hub, vms[i], said.exit.seq, &err), &err);
    }
    fx_until_logs(&x, MANY * 10);
    for (int i = 0; i < MANY; i++)
        tg_player_stop(players[i]);
    fx_stop(&x);
}

static void end_in_order(bool stop_first)
{
    struct fx x;
    struct tg g, half;
    struct vic_err err;
    fx_init(&x);
    x.stop_first = stop_first;
    fx_start(&x);
    fx_guest(&x, &g, "vm1", NULL);
    struct tg_connect o = {.address = x.address, .vm = "vm2"};
    OK(tg_connect(&half, &o, &err), &err);
    int raw = tg_dial(x.address, NULL);
    assert_true(raw >= 0);
    for (int i = 0; i < 100; i++)
        OK(hub_signal(x.hub, "vm1", "", 1, &err), &err); /* work that is on its way to the loop */
    fx_stop(&x);
    close(raw);
    tg_close(&g);
    tg_close(&half);
}

static void ends_with_guests_connected(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        end_in_order(i % 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_makes_a_guest_known),
        cmocka_unit_test(welcome_brings_key_two_and_log_seq),
        cmocka_unit_test(a_newer_connection_replaces_the_older),
        cmocka_unit_test(a_run_from_config_to_exit),
        cmocka_unit_test(exit_is_acknowledged),
        cmocka_unit_test(a_refused_config_says_why),
        cmocka_unit_test(logs_arrive_in_order_and_are_acknowledged),
        cmocka_unit_test(a_log_flood_is_taken),
        cmocka_unit_test(many_small_entries_wait_their_turn),
        cmocka_unit_test(pings_measure_the_clock_and_find_the_dead),
        cmocka_unit_test(many_guests_at_once),
        cmocka_unit_test(ends_with_guests_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
