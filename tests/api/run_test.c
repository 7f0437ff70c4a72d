/* Runs: start, stop, restart, kill, wait, forced removal, with control played by the test. */
#include "fixture.h"

#include <stdio.h>

/* A request whose answer comes later. */
struct later {
    struct client c;
    struct answer a;
};

static void later_send(struct fixture *f, struct later *l, const char *method, const char *target)
{
    *l = (struct later){0};
    assert_true(client_open(&l->c, f->host.socket));
    assert_true(client_send(&l->c, method, target, "Content-Length: 0\r\n", NULL));
}

static void later_get(struct fixture *f, struct later *l, int status)
{
    assert_true(client_read(&l->c, &l->a, false));
    if (l->a.status != status)
        fail_msg("%d instead of %d: %s", l->a.status, status, buf_str(&l->a.body));
    buf_reset(&f->body);
    buf_add_sv(&f->body, buf_sv(&l->a.body));
    answer_fini(&l->a);
    client_close(&l->c);
}

/* The container's record, once 'want' holds for it. */
static void until(struct fixture *f, const char *id, bool (*want)(const struct store_container *k))
{
    for (;;) {
        AUTO_ARENA struct arena a = {0};
        struct store_container k;
        struct store_txn *t;
        check_ok((t = store_read(f->host.store, &err)));
        check_ok(store_get(t, STORE_CONTAINER, id, &a, &k, &err));
        bool is_so = want(&k);
        store_read_end(t);
        if (is_so)
            return;
        usleep(1000);
    }
}

static bool wants_start(const struct store_container *k)
{
    return k->run.want == store_run_want_RUNNING && k->run.seq > k->status.seq;
}

static bool wants_stop(const struct store_container *k)
{
    return k->run.want == store_run_want_STOPPED && k->run.stop_seq == k->status.seq;
}

/* --- start ----------------------------------------------------------------------------------- */
static void test_start(void **state)
{
    struct fixture *f = *state;
    struct later one, two;
    const char *id = make(f, "web", NULL);
    later_send(f, &one, "POST", "/containers/web/start");
    until(f, id, wants_start);
    later_send(f, &two, "POST", "/containers/web/start"); /* joins */
    assert_false(client_readable(&one.c, 50));
    assert_false(client_readable(&two.c, 0));
    check_ok(host_began(f->host.store, id, &err));
    later_get(f, &one, 204);
    later_get(f, &two, 304);
    ask(f, "POST", "/containers/web/start", NULL, 304);
    assert_int_equal(f->body.len, 0);
    ask(f, "GET", "/containers/web/json", NULL, 200);
    assert_string_equal(got_str(f, "State.Status"), "running");
    assert_int_equal(got_int(f, "State.Pid"), 7);
}

static void test_start_bodies(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = make(f, "web", NULL);
    ask_error(f, "POST", "/containers/web/start", "{\"Memory\":1}", 400,
              "starting container with non-empty request body was deprecated since API v1.22 and "
              "removed in v1.24");
    ask_error(f, "POST", "/containers/nope/start", NULL, 404, "No such container: nope");
    ask_error(f, "POST", "/containers/web/start?checkpoint=x", NULL, 501,
              "checkpoints are not supported");
    later_send(f, &l, "POST", "/containers/web/start?detachKeys=");
    until(f, id, wants_start);
    check_ok(host_began(f->host.store, id, &err));
    later_get(f, &l, 204);
    assert_int_equal(request(f->host.socket, "POST", "/containers/web/start", "{}", NULL), 304);
}

static void test_start_fails(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = make(f, "web", NULL);
    later_send(f, &l, "POST", "/containers/web/start");
    until(f, id, wants_start);
    check_ok(host_failed(f->host.store, id, 127,
                         "exec: \"fakeCommand\": executable file not found in $PATH", &err));
    later_get(f, &l, 400);
    assert_string_equal(got_str(f, "message"),
                        "failed to create task for container: exec: \"fakeCommand\": executable "
                        "file not found in $PATH: unknown");
    ask(f, "GET", "/containers/web/json", NULL, 200);
    assert_string_equal(got_str(f, "State.Status"), "created");
    assert_int_equal(got_int(f, "State.ExitCode"), 127);
    ask(f, "GET", "/containers/json?all=1", NULL, 200);
    assert_string_equal(got_str(f, "0.Status"), "Created");
    /* A VM that cannot be had is no fault of the client. */
    later_send(f, &l, "POST", "/containers/web/start");
    until(f, id, wants_start);
    check_ok(host_failed(f->host.store, id, 128, "the container's VM failed: x", &err));
    later_get(f, &l, 500);
}

static void test_failed_start_with_rm(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = make(f, "web", "\"HostConfig\":{\"AutoRemove\":true}");
    later_send(f, &l, "POST", "/containers/web/start");
    until(f, id, wants_start);
    check_ok(host_failed(f->host.store, id, 126, "exec: \"/x\": permission denied", &err));
    later_get(f, &l, 400);
    ask(f, "GET", "/containers/web/json", NULL, 404);
}

/* --- stop, kill ------------------------------------------------------------------------------ */
static const char *run(struct fixture *f, const char *name, const char *members)
{
    const char *id = make(f, name, members);
    check_ok(host_began(f->host.store, id, &err));
    return id;
}

static void stop_of(struct fixture *f, const char *id, struct store_run_spec *out)
{
    AUTO_ARENA struct arena a = {0};
    struct store_container k;
    AUTO_TXN struct store_txn *t = NULL;
    check_ok((t = store_read(f->host.store, &err)));
    check_ok(store_get(t, STORE_CONTAINER, id, &a, &k, &err));
    *out = k.run;
}

static void stop_and_see(struct fixture *f, const char *id, const char *query, int64_t timeout_ms,
                         unsigned signum)
{
    struct later l;
    struct store_run_spec r;
    AUTO_FREE char *target = xasprintf("/containers/%s/%s", id, query);
    later_send(f, &l, "POST", target);
    until(f, id, wants_stop);
    stop_of(f, id, &r);
    assert_int_equal(r.stop_timeout_ms, timeout_ms);
    assert_int_equal(r.stop_signal, signum);
    assert_false(client_readable(&l.c, 20));
    check_ok(host_ended(f->host.store, id, 128 + (int)signum, &err));
    later_get(f, &l, 204);
}

static void test_stop(void **state)
{
    struct fixture *f = *state;
    stop_and_see(f, run(f, NULL, NULL), "stop", 10000, 15);
    stop_and_see(f, run(f, NULL, NULL), "stop?t=2", 2000, 15);
    stop_and_see(f, run(f, NULL, NULL), "stop?t=-1", -1, 15);
    stop_and_see(f, run(f, NULL, NULL), "stop?signal=SIGHUP", 10000, 1);
    stop_and_see(f, run(f, NULL, "\"StopSignal\":\"INT\",\"StopTimeout\":3"), "stop", 3000, 2);
    make(f, "web", NULL);
    ask(f, "POST", "/containers/web/stop", NULL, 304);
    ask_error(f, "POST", "/containers/web/stop?signal=NOPE", NULL, 400, "invalid signal: NOPE");
    ask(f, "POST", "/containers/web/stop?t=x", NULL, 400);
    ask_error(f, "POST", "/containers/nope/stop", NULL, 404, "No such container: nope");
}

static void test_stop_calls_off_a_start(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = make(f, "web", NULL);
    later_send(f, &l, "POST", "/containers/web/start");
    until(f, id, wants_start);
    ask(f, "POST", "/containers/web/stop", NULL, 204);
    later_get(f, &l, 409);
    later_send(f, &l, "POST", "/containers/web/start");
    until(f, id, wants_start);
    check_ok(host_began(f->host.store, id, &err));
    later_get(f, &l, 204);
}

static void test_kill(void **state)
{
    struct fixture *f = *state;
    stop_and_see(f, run(f, "a1", NULL), "kill", 0, 9);
    stop_and_see(f, run(f, "a2", NULL), "kill?signal=SIGKILL", 0, 9);
    const char *id = make(f, "web", NULL);
    AUTO_FREE char *text = xasprintf("cannot kill container: web: container %s is not running", id);
    ask_error(f, "POST", "/containers/web/kill", NULL, 409, text);
    ask_error(f, "POST", "/containers/web/kill?signal=HUP", NULL, 409, text);
    ask_error(f, "POST", "/containers/web/kill?signal=NOPE", NULL, 400, "invalid signal: NOPE");
    ask_error(f, "POST", "/containers/nope/kill", NULL, 404,
              "cannot kill container: nope: No such container: nope");
    check_ok(host_began(f->host.store, id, &err));
    ask(f, "POST", "/containers/web/kill?signal=HUP", NULL, 503); /* no guest is near */
}

static void test_restart(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = run(f, "web", NULL);
    later_send(f, &l, "POST", "/containers/web/restart?t=1");
    until(f, id, wants_stop);
    assert_false(client_readable(&l.c, 20));
    check_ok(host_ended(f->host.store, id, 143, &err));
    until(f, id, wants_start);
    assert_false(client_readable(&l.c, 20));
    check_ok(host_began(f->host.store, id, &err));
    later_get(f, &l, 204);
    check_ok(host_ended(f->host.store, id, 0, &err));
    later_send(f, &l, "POST", "/containers/web/restart"); /* stopped: only starts */
    until(f, id, wants_start);
    check_ok(host_failed(f->host.store, id, 127, "exec: \"x\": gone", &err));
    later_get(f, &l, 400);
    assert_memory_equal(got_str(f, "message"), "Cannot restart container web: ", 30);
}

/* --- forced removal -------------------------------------------------------------------------- */
static void test_force_remove(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = run(f, "web", NULL);
    later_send(f, &l, "DELETE", "/containers/web?force=1");
    until(f, id, wants_stop);
    assert_false(client_readable(&l.c, 20));
    check_ok(host_ended(f->host.store, id, 137, &err));
    later_get(f, &l, 204);
    ask(f, "GET", "/containers/web/json", NULL, 404);
}

static void test_force_remove_with_rm(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = run(f, "web", "\"HostConfig\":{\"AutoRemove\":true}");
    later_send(f, &l, "DELETE", "/containers/web?force=1");
    until(f, id, wants_stop);
    check_ok(host_ended(f->host.store, id, 137, &err)); /* removes it */
    later_get(f, &l, 204);
}

static void test_remove_ends_a_start(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = make(f, "web", NULL);
    later_send(f, &l, "POST", "/containers/web/start");
    until(f, id, wants_start);
    ask(f, "DELETE", "/containers/web?force=1", NULL, 204);
    later_get(f, &l, 409);
    assert_string_equal(got_str(f, "message"),
                        "container is marked for removal and cannot be started");
}

/* --- wait ------------------------------------------------------------------------------------ */
static void wait_body(struct later *l, const char *text)
{
    AUTO_BUF struct buf body = {0};
    bool end = false;
    while (!end)
        assert_true(client_chunk(&l->c, &body, &end));
    assert_string_equal(buf_str(&body), text);
    client_close(&l->c);
}

/* The head is there before the body. */
static void wait_begin(struct fixture *f, struct later *l, const char *query)
{
    AUTO_FREE char *target = xasprintf("/containers/web/wait%s", query);
    later_send(f, l, "POST", target);
    assert_true(client_head(&l->c, &l->a));
    assert_int_equal(l->a.status, 200);
    answer_fini(&l->a);
    assert_false(client_readable(&l->c, 20));
}

static void test_wait_next_exit(void **state)
{
    struct fixture *f = *state;
    struct later one, two;
    const char *id = make(f, "web", NULL);
    wait_begin(f, &one, "?condition=next-exit"); /* before the start, as docker run does */
    check_ok(host_began(f->host.store, id, &err));
    wait_begin(f, &two, "");
    assert_false(client_readable(&one.c, 20));
    check_ok(host_ended(f->host.store, id, 3, &err));
    wait_body(&one, "{\"StatusCode\":3}\n");
    wait_body(&two, "{\"StatusCode\":3}\n");
    ask(f, "POST", "/containers/web/wait", NULL, 200);
    assert_int_equal(got_int(f, "StatusCode"), 3);
    wait_begin(f, &one, "?condition=next-exit"); /* the next, not the last */
    check_ok(host_began(f->host.store, id, &err));
    check_ok(host_ended(f->host.store, id, 4, &err));
    wait_body(&one, "{\"StatusCode\":4}\n");
}

static void test_wait_removed(void **state)
{
    struct fixture *f = *state;
    struct later one, two;
    const char *id = make(f, "web", "\"HostConfig\":{\"AutoRemove\":true}");
    wait_begin(f, &one, "?condition=removed");
    wait_begin(f, &two, "?condition=removed");
    struct host_player *p = host_play(&f->host, 0); /* buries at once */
    ask(f, "POST", "/containers/web/start", NULL, 204);
    check_ok(host_ended(f->host.store, id, 42, &err));
    wait_body(&one, "{\"StatusCode\":42}\n");
    wait_body(&two, "{\"StatusCode\":42}\n");
    host_play_stop(p);
}

static void test_wait_old(void **state)
{
    struct fixture *f = *state;
    struct later l;
    const char *id = run(f, "web", NULL);
    later_send(f, &l, "POST", "/v1.29/containers/web/wait?condition=x");
    assert_false(client_readable(&l.c, 50)); /* head and body come together */
    check_ok(host_ended(f->host.store, id, 5, &err));
    later_get(f, &l, 200);
    assert_int_equal(got_int(f, "StatusCode"), 5);
    ask_error(f, "POST", "/containers/web/wait?condition=x", NULL, 400, "invalid condition: \"x\"");
    ask(f, "POST", "/containers/nope/wait", NULL, 404);
    make(f, "fresh", NULL);
    ask(f, "POST", "/containers/fresh/wait", NULL, 200); /* never ran: at once */
    assert_int_equal(got_int(f, "StatusCode"), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_start),
        T(test_start_bodies),
        T(test_start_fails),
        T(test_failed_start_with_rm),
        T(test_stop),
        T(test_stop_calls_off_a_start),
        T(test_kill),
        T(test_restart),
        T(test_force_remove),
        T(test_force_remove_with_rm),
        T(test_remove_ends_a_start),
        T(test_wait_next_exit),
        T(test_wait_removed),
        T(test_wait_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
