/* What holds for every call, and the system's own routes. */
#include "fixture.h"

#include <stdio.h>

static void exchange(struct fixture *f, const char *method, const char *target, const char *headers,
                     const char *body, struct answer *a)
{
    struct client c;
    assert_true(client_open(&c, f->host.socket));
    assert_true(client_send(&c, method, target, headers, body));
    assert_true(client_read(&c, a, strcmp(method, "HEAD") == 0));
    client_close(&c);
}

static void check_common(const struct answer *a)
{
    AUTO_BUF struct buf v = {0};
    assert_string_equal(answer_header(a, "Api-Version", &v), "1.44");
    assert_string_equal(answer_header(a, "Docker-Experimental", &v), "false");
    assert_string_equal(answer_header(a, "Ostype", &v), "linux");
    assert_memory_equal(answer_header(a, "Server", &v), "Docker/", 7);
}

static void test_ping(void **state)
{
    struct fixture *f = *state;
    static const char *const methods[] = {"GET", "HEAD"};
    AUTO_BUF struct buf v = {0};
    for (size_t i = 0; i < 2; i++) {
        struct answer a;
        exchange(f, methods[i], i ? "/v1.30/_ping" : "/_ping", NULL, NULL, &a);
        assert_int_equal(a.status, 200);
        check_common(&a);
        assert_string_equal(buf_str(&a.body), i ? "" : "OK");
        assert_string_equal(answer_header(&a, "Content-Type", &v), "text/plain; charset=utf-8");
        assert_string_equal(answer_header(&a, "Builder-Version", &v), "1");
        assert_string_equal(answer_header(&a, "Swarm", &v), "inactive");
        assert_string_equal(answer_header(&a, "Pragma", &v), "no-cache");
        answer_fini(&a);
    }
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    struct answer a;
    AUTO_BUF struct buf v = {0};
    exchange(f, "GET", "/v1.44/nowhere", NULL, NULL, &a);
    assert_int_equal(a.status, 404);
    check_common(&a);
    assert_string_equal(answer_header(&a, "Content-Type", &v), "application/json");
    assert_string_equal(buf_str(&a.body), "{\"message\":\"page not found\"}\n");
    answer_fini(&a);
    ask_error(f, "DELETE", "/version", NULL, 405, "method not allowed");
    ask_error(f, "GET", "/v1.12/version", NULL, 400,
              "client version 1.12 is too old. Minimum supported API version is 1.24, please "
              "upgrade your client to a newer version");
    ask_error(f, "GET", "/v1.99/version", NULL, 400,
              "client version 1.99 is too new. Maximum supported API version is 1.44");
    ask(f, "GET", "/v1.24/version", NULL, 200);
    ask_error(f, "GET", "/v1.24/plugins", NULL, 404, "page not found"); /* since 1.25 */
    exchange(f, "POST", "/containers/create", "Content-Type: text/plain\r\n", "x", &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(buf_str(&a.body), "{\"message\":\"unsupported Content-Type header "
                                          "(text/plain): must be 'application/json'\"}\n");
    answer_fini(&a);
    exchange(f, "POST", "/containers/create", "Content-Type: application/json; charset=utf-8\r\n",
             "{\"image\":\"busybox\"}", &a);
    assert_int_equal(a.status, 201); /* Go's decoder does not mind the case of names */
    answer_fini(&a);
}

static void test_version(void **state)
{
    struct fixture *f = *state;
    ask(f, "GET", "/version", NULL, 200);
    assert_string_equal(got_str(f, "ApiVersion"), "1.44");
    assert_string_equal(got_str(f, "MinAPIVersion"), "1.24");
    assert_string_equal(got_str(f, "Components.0.Name"), "Engine");
    assert_string_equal(got_str(f, "Components.0.Details.Os"), "linux");
    assert_true(*got_str(f, "GoVersion") != '\0');
}

static void test_info(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "one", NULL);
    make(f, "two", NULL);
    check_ok(host_began(f->host.store, id, &err));
    ask(f, "GET", "/info", NULL, 200);
    assert_int_equal(got_int(f, "Containers"), 2);
    assert_int_equal(got_int(f, "ContainersRunning"), 1);
    assert_int_equal(got_int(f, "ContainersStopped"), 1);
    assert_int_equal(got_int(f, "Images"), 1);
    assert_string_equal(got_str(f, "OSType"), "linux");
    assert_string_equal(got_str(f, "Driver"), "vsphere");
    assert_string_equal(got_str(f, "Swarm.LocalNodeState"), "inactive");
    assert_string_equal(got_str(f, "Name"), "api-host");
    assert_int_equal(json_count(got(f, "Warnings")), 0);
    f->host.vsphere_connected = false;
    ask(f, "GET", "/info", NULL, 200);
    assert_int_equal(json_count(got(f, "Warnings")), 1);
    ask(f, "GET", "/_ping", NULL, 200);
}

static void test_absent(void **state)
{
    struct fixture *f = *state;
    static const char swarm[] =
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to "
        "connect this node to swarm and try again.";
    static const char *const paths[] = {"/swarm", "/nodes",       "/services/x",
                                        "/tasks", "/secrets/a/b", "/configs"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        ask_error(f, "GET", paths[i], NULL, 503, swarm);
    ask_error(f, "POST", "/services/create", "{}", 503, swarm);
    ask(f, "POST", "/swarm/init", "{}", 501);
    ask_error(f, "GET", "/networks/x", NULL, 404, "network x not found");
    ask_error(f, "GET", "/volumes/x", NULL, 404, "get x: no such volume");
    ask_error(f, "GET", "/plugins/a/b/json", NULL, 404, "plugin \"a/b\" not found");
    ask(f, "GET", "/plugins", NULL, 200);
    assert_string_equal(buf_str(&f->body), "[]\n");
    make(f, "web", NULL);
    ask_error(f, "GET", "/containers/web/top", NULL, 501,
              "listing a container's processes is not supported yet");
}

static void test_keep_alive(void **state)
{
    struct fixture *f = *state;
    struct client c;
    assert_true(client_open(&c, f->host.socket));
    for (int i = 0; i < 50; i++) {
        struct answer a;
        assert_true(client_send(&c, "GET", i % 2 ? "/version" : "/nowhere", NULL, NULL));
        assert_true(client_read(&c, &a, false));
        assert_int_equal(a.status, i % 2 ? 200 : 404);
        answer_fini(&a);
    }
    client_close(&c);
}

static void test_restart_of_the_engine(void **state)
{
    struct fixture *f = *state;
    make(f, "web", "\"Labels\":{\"a\":\"b\"},\"Cmd\":[\"x\",\"y\"]");
    ask(f, "GET", "/containers/web/json", NULL, 200);
    AUTO_FREE char *before = xstrdup(buf_str(&f->body));
    fixture_restart(f);
    ask(f, "GET", "/containers/web/json", NULL, 200);
    assert_string_equal(buf_str(&f->body), before);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_ping),
        T(test_errors),
        T(test_version),
        T(test_info),
        T(test_absent),
        T(test_keep_alive),
        T(test_restart_of_the_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
