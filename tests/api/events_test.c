/* Events: live, from the past, over a restart, filtered. */
#include "fixture.h"

#include <stdio.h>

/* All actions of a past stream, by one blank. */
static void expect(struct fixture *f, const char *query, const char *actions)
{
    AUTO_BUF struct buf have = {0};
    AUTO_FREE char *target = xasprintf("/events?since=1&until=0s%s", query);
    ask(f, "GET", target, NULL, 200);
    struct sv rest = buf_sv(&f->body);
    while (rest.len) {
        struct json_val v;
        struct sv line = sv_cut(&rest, '\n');
        check_ok(json_parse(line, 0, &f->a, &v, &err));
        buf_addf(&have, "%s%s", have.len ? " " : "", json_str(json_get(v, "Action"), ""));
    }
    if (strcmp(buf_str(&have), actions) != 0)
        fail_msg("%s: '%s' instead of '%s'", query, buf_str(&have), actions);
}

static void story(struct fixture *f)
{
    const char *id = make(f, "web", "\"Labels\":{\"app\":\"a\"}");
    struct host_player *p = host_play(&f->host, 0);
    ask(f, "POST", "/containers/web/start", NULL, 204);
    ask(f, "POST", "/containers/web/rename?name=new", NULL, 204);
    ask(f, "POST", "/containers/new/stop", NULL, 204);
    ask(f, "DELETE", "/containers/new", NULL, 204);
    host_play_stop(p);
    make(f, "other", NULL);
    (void)id;
}

static void test_past(void **state)
{
    struct fixture *f = *state;
    story(f);
    expect(f, "", "create start rename kill die stop destroy create");
    fixture_restart(f);
    expect(f, "", "create start rename kill die stop destroy create");
    expect(f, "&filters={\"event\":[\"die\",\"kill\"]}", "kill die");
    expect(f, "&filters={\"container\":[\"other\"]}", "create");
    expect(f, "&filters={\"container\":[\"web\"],\"event\":[\"create\"]}", "create");
    expect(f, "&filters={\"label\":[\"app=a\"],\"event\":[\"create\"]}", "create");
    expect(f, "&filters={\"type\":[\"image\"]}", "");
    expect(f, "&filters={\"image\":[\"busybox\"],\"event\":[\"rename\"]}", "rename");
    expect(f, "&filters={\"type\":[\"network\"]}", "");
    ask(f, "GET", "/events?since=1&until=0s&filters={\"event\":[\"rename\"]}", NULL, 200);
    assert_string_equal(got_str(f, "Type"), "container");
    assert_string_equal(got_str(f, "status"), "rename");
    assert_string_equal(got_str(f, "from"), "busybox");
    assert_string_equal(got_str(f, "Actor.Attributes.name"), "new");
    assert_string_equal(got_str(f, "Actor.Attributes.oldName"), "/web");
    assert_string_equal(got_str(f, "Actor.Attributes.app"), "a");
    assert_string_equal(got_str(f, "scope"), "local");
    assert_true(got_int(f, "timeNano") / 1000000000 == got_int(f, "time"));
}

static void test_since_the_middle(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 40; i++)
        make(f, NULL, NULL);
    ask(f, "GET", "/events?since=1&until=0s", NULL, 200);
    struct sv rest = buf_sv(&f->body);
    int64_t at = 0;
    for (int i = 0; i <= 25; i++) {
        struct json_val v;
        struct sv line = sv_cut(&rest, '\n');
        check_ok(json_parse(line, 0, &f->a, &v, &err));
        at = json_i64(json_get(v, "timeNano"), 0);
    }
    AUTO_FREE char *target = xasprintf("/events?since=%lld.%09lld&until=0s",
                                       (long long)at / 1000000000, (long long)at % 1000000000);
    ask(f, "GET", target, NULL, 200);
    size_t lines = 0;
    for (rest = buf_sv(&f->body); rest.len; lines++)
        sv_cut(&rest, '\n');
    assert_int_equal(lines, 40 - 25);
}

static void test_live(void **state)
{
    struct fixture *f = *state;
    struct client c;
    struct answer a;
    AUTO_BUF struct buf line = {0};
    bool end;
    make(f, "before", NULL);
    assert_true(client_open(&c, f->host.socket));
    assert_true(client_send(&c, "GET", "/events", NULL, NULL));
    assert_true(client_head(&c, &a)); /* at once */
    assert_int_equal(a.status, 200);
    answer_fini(&a);
    assert_false(client_readable(&c, 20));
    make(f, "live", NULL);
    assert_true(client_chunk(&c, &line, &end));
    assert_non_null(strstr(buf_str(&line), "\"name\":\"live\""));
    assert_int_equal(line.data[line.len - 1], '\n');
    client_close(&c);
}

static void test_until_ends(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *target = xasprintf("/events?until=%lld", (long long)time(NULL) + 1);
    ask(f, "GET", target, NULL, 200);
    assert_int_equal(f->body.len, 0);
    ask_error(f, "GET", "/events?since=20&until=10", NULL, 400,
              "`since` time (20) cannot be after `until` time (10)");
    ask(f, "GET", "/events?since=x", NULL, 400);
    ask_error(f, "GET", "/events?filters={\"y\":[]}", NULL, 400, "invalid filter 'y'");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_past),
        T(test_since_the_middle),
        T(test_live),
        T(test_until_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
