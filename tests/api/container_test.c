/* Containers as records: create, inspect, list, rename, update, remove, prune. */
#include "fixture.h"

#include <stdio.h>

/* --- create ---------------------------------------------------------------------------------- */
static void test_create_defaults(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", NULL);
    AUTO_FREE char *by_id = xasprintf("/v1.44/containers/%s/json", id);
    assert_int_equal(strlen(id), 64);
    AUTO_FREE char *whole = xasprintf("{\"Id\":\"%s\",\"Warnings\":[]}\n", id);
    assert_string_equal(buf_str(&f->body), whole);
    ask(f, "GET", by_id, NULL, 200);
    assert_string_equal(got_str(f, "Id"), id);
    assert_string_equal(got_str(f, "Name"), "/web");
    assert_string_equal(got_str(f, "Path"), "sh");
    assert_int_equal(json_count(got(f, "Args")), 0);
    assert_string_equal(got_str(f, "Image"), host_image);
    assert_string_equal(got_str(f, "Config.Image"), "busybox");
    assert_string_equal(got_str(f, "Config.Labels.from"), "image");
    assert_string_equal(got_str(f, "Config.Env.0"), "PATH=/bin:/usr/bin");
    assert_string_equal(got_str(f, "Config.Cmd.0"), "sh");
    assert_memory_equal(got_str(f, "Config.Hostname"), id, 12);
    assert_string_equal(got_str(f, "State.Status"), "created");
    assert_string_equal(got_str(f, "State.StartedAt"), "0001-01-01T00:00:00Z");
    assert_string_equal(got_str(f, "State.FinishedAt"), "0001-01-01T00:00:00Z");
    assert_string_equal(got_str(f, "HostConfig.NetworkMode"), "default");
    assert_string_equal(got_str(f, "HostConfig.RestartPolicy.Name"), "no");
    assert_string_equal(got_str(f, "HostConfig.LogConfig.Type"), "json-file");
    assert_int_equal(got_int(f, "HostConfig.ShmSize"), 67108864);
    assert_string_equal(got_str(f, "Driver"), "vsphere");
    assert_int_equal(json_type(got(f, "Mounts")), JSON_ARRAY);
}

static void test_create_plans_a_disk(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", NULL);
    AUTO_ARENA struct arena a = {0};
    struct store_container k;
    struct store_disk d;
    struct store_layer l;
    AUTO_TXN struct store_txn *t = NULL;
    check_ok((t = store_read(f->host.store, &err)));
    check_ok(store_get(t, STORE_CONTAINER, id, &a, &k, &err));
    check_ok(store_get(t, STORE_DISK, k.disk, &a, &d, &err));
    check_ok(store_get(t, STORE_LAYER,
                       "sha256:2222222222222222222222222222222222222222222222222222222222222222",
                       &a, &l, &err));
    assert_int_equal(d.phase, store_disk_phase_PLANNED);
    assert_int_equal(d.role, store_disk_role_CONTAINER);
    assert_string_equal(d.owner, id);
    assert_string_equal(d.parent, l.disk);
    assert_true(d.capacity_bytes == (int64_t)32 << 30);
    assert_int_equal(k.run.seq, 0);
}

static void test_create_merges(void **state)
{
    struct fixture *f = *state;
    make(
        f, "mm",
        "\"Entrypoint\":\"/"
        "e\",\"Env\":[\"A=1\",\"PATH\"],\"Labels\":{\"from\":\"user\",\"x\":\"y\"},"
        "\"Tty\":true,\"ExposedPorts\":{\"80/tcp\":{}},\"StopSignal\":\"SIGINT\",\"StopTimeout\":3,"
        "\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"],\"Interval\":1000000000},"
        "\"HostConfig\":{\"Memory\":67108864,\"Tmpfs\":{\"/run\":\"size=1m\"},"
        "\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"8080\"}]},"
        "\"Mounts\":[{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"SizeBytes\":1024}}],"
        "\"ConsoleSize\":[24,80]}");
    assert_int_equal(json_count(got(f, "Warnings")), 2); /* ports, health */
    ask(f, "GET", "/containers/mm/json", NULL, 200);
    assert_string_equal(got_str(f, "Path"), "/e");
    assert_int_equal(json_count(got(f, "Args")), 0);
    assert_int_equal(json_type(got(f, "Config.Cmd")), JSON_NULL);
    assert_int_equal(json_count(got(f, "Config.Env")), 2);
    assert_string_equal(got_str(f, "Config.Env.0"), "A=1");
    assert_string_equal(got_str(f, "Config.Env.1"), "TERM=xterm");
    assert_string_equal(got_str(f, "Config.Labels.from"), "user");
    assert_int_equal(json_count(got(f, "Config.Labels")), 2);
    assert_int_equal(got_int(f, "Config.StopTimeout"), 3);
    assert_string_equal(got_str(f, "Config.Healthcheck.Test.0"), "CMD");
    assert_int_equal(json_type(got(f, "Config.ExposedPorts.80/tcp")), JSON_OBJECT);
    assert_int_equal(json_count(got(f, "HostConfig.PortBindings")), 1);
    assert_string_equal(got_str(f, "HostConfig.Tmpfs./t"), "size=1024");
    assert_string_equal(got_str(f, "HostConfig.Tmpfs./run"), "size=1m");
    assert_int_equal(got_int(f, "HostConfig.ConsoleSize.1"), 80);
    assert_int_equal(got_int(f, "HostConfig.Memory"), 67108864);
}

static void test_create_command(void **state)
{
    struct fixture *f = *state;
    make(f, "aa", "\"Cmd\":[\"echo\",\"a b\"]");
    ask(f, "GET", "/containers/aa/json", NULL, 200);
    assert_string_equal(got_str(f, "Path"), "echo");
    assert_string_equal(got_str(f, "Args.0"), "a b");
    ask(f, "GET", "/containers/json?all=1", NULL, 200);
    assert_string_equal(got_str(f, "0.Command"), "echo 'a b'");
    ask_error(f, "POST", "/containers/create", "{\"Image\":\"busybox\",\"Entrypoint\":[\"\"]}", 400,
              "no command specified");
}

static void test_create_names(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", NULL);
    AUTO_FREE char *conflict = xasprintf(
        "Conflict. The container name \"/web\" is already in use by container \"%s\". You have to "
        "remove (or rename) that container to be able to reuse that name.",
        id);
    ask_error(f, "POST", "/containers/create?name=/web", "{\"Image\":\"busybox\"}", 409, conflict);
    ask_error(f, "POST", "/containers/create?name=a/b", "{\"Image\":\"busybox\"}", 400,
              "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    make(f, NULL, NULL);
    ask(f, "GET", "/containers/json?all=1&limit=1", NULL, 200);
    const char *made = got_str(f, "0.Names.0");
    assert_int_equal(made[0], '/');
    assert_non_null(strchr(made, '_'));
    /* A name that equals another's short id wins over the prefix. */
    AUTO_FREE char *shorter = xasprintf("%.12s", id);
    const char *other = make(f, shorter, NULL);
    AUTO_FREE char *target = xasprintf("/containers/%s/json", shorter);
    ask(f, "GET", target, NULL, 200);
    assert_string_equal(got_str(f, "Id"), other);
}

struct bad {
    const char *body;
    int status;
    const char *message;
};
static const struct bad bad_bodies[] = {
    {"", 400, "config cannot be empty in order to create a container"},
    {"{}", 400, "config cannot be empty in order to create a container"},
    {"{\"HostConfig\":{}}", 400, "config cannot be empty in order to create a container"},
    {"{\"Image\":\"busybox\"}{}", 400, "unexpected content after JSON"},
    {"{\"Image\":\"busybox\",\"WorkingDir\":\"x\"}", 400,
     "the working directory 'x' is invalid, it needs to be an absolute path"},
    {"{\"Image\":\"nope\"}", 404, "No such image: nope:latest"},
    {"{\"Image\":\"reg.io/a/b:1\"}", 404, "No such image: reg.io/a/b:1"},
    {"{\"Image\":\"BusyBox\"}", 400,
     "invalid reference format: repository name (library/BusyBox) must be lowercase"},
    {"{\"Image\":\"busybox\",\"StopSignal\":\"NOPE\"}", 400, "invalid signal: NOPE"},
    {"{\"Image\":\"busybox\",\"Env\":[\"=x\"]}", 400, "invalid environment variable: =x"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"host\"}}", 400,
     "host network mode is not supported"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"mine\"}}", 400,
     "network mine is not supported yet: use bridge or none"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"/etc:/etc\"]}}", 400,
     "mounting directories as a data volume is not supported: /etc:/etc"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"LogConfig\":{\"Type\":\"asdf\"}}}", 400,
     "logger: no log driver named 'asdf' is registered"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"AutoRemove\":true,\"RestartPolicy\":{\"Name\":"
     "\"always\"}}}",
     400, "can't create 'AutoRemove' container with restart policy"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":1024}}", 400,
     "Minimum memory limit allowed is 6MB"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"Runtime\":\"kata\"}}", 400,
     "unknown or invalid runtime name: kata"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"DeviceRequests\":[{\"Capabilities\":[[\"gpu\"]]}]}}",
     400, "could not select device driver \"\" with capabilities: [[gpu]]"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"Mounts\":[{\"Type\":\"tmpfs\",\"Target\":\"/d\"},"
     "{\"Type\":\"tmpfs\",\"Target\":\"/d\"}]}}",
     400, "Duplicate mount point: /d"},
    {"{\"Image\":\"busybox\",\"HostConfig\":{\"PidMode\":\"host\"}}", 400,
     "PID mode \"host\" is not supported: a container is a virtual machine"},
};

static void test_create_refusals(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(bad_bodies); i++)
        ask_error(f, "POST", "/containers/create", bad_bodies[i].body, bad_bodies[i].status,
                  bad_bodies[i].message);
    ask(f, "POST", "/containers/create", "{\"Image\"", 400);
    assert_memory_equal(got_str(f, "message"), "invalid JSON: ", 14);
    AUTO_BUF struct buf large = {0};
    buf_add_str(&large, "{\"Image\":\"busybox\",\"Env\":[\"A=");
    for (int i = 0; i < 50000; i++)
        buf_add_c(&large, 'x');
    buf_add_str(&large, "\"]}");
    ask_error(f, "POST", "/containers/create", buf_str(&large), 400,
              "the container's command, environment and settings are over 48 KiB");
    ask(f, "GET", "/containers/json?all=1", NULL, 200);
    assert_int_equal(json_count(got(f, "")), 0);
}

static void test_platform(void **state)
{
    struct fixture *f = *state;
    ask(f, "POST", "/containers/create?platform=linux/amd64", "{\"Image\":\"busybox\"}", 201);
    ask_error(f, "POST", "/containers/create?platform=linux/arm64", "{\"Image\":\"busybox\"}", 404,
              "image with reference busybox was found but does not match the specified platform: "
              "wanted linux/arm64, actual: linux/amd64");
}

/* --- resolving ------------------------------------------------------------------------------- */
static void test_resolution(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", NULL);
    char *forms[] = {xasprintf("/containers/%s/json", id), xasprintf("/containers/%.7s/json", id),
                     xasprintf("/containers/web/json"), xasprintf("/containers/%%2Fweb/json")};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        ask(f, "GET", forms[i], NULL, 200);
        assert_string_equal(got_str(f, "Id"), id);
        free(forms[i]);
    }
    ask_error(f, "GET", "/containers/nope/json", NULL, 404, "No such container: nope");
    /* Seventeen ids: two begin alike. */
    for (int i = 0; i < 16; i++)
        make(f, NULL, NULL);
    int ambiguous = 0;
    for (int i = 0; i < 16; i++) {
        char target[64];
        snprintf(target, sizeof target, "/containers/%x/json", i);
        if (request(f->host.socket, "GET", target, NULL, &f->body) == 400) {
            AUTO_FREE char *text = xasprintf("multiple IDs found with provided prefix: %x", i);
            assert_string_equal(got_str(f, "message"), text);
            ambiguous++;
        }
    }
    assert_true(ambiguous > 0);
}

/* --- list ------------------------------------------------------------------------------------ */
static void expect_names(struct fixture *f, const char *query, const char *names)
{
    AUTO_BUF struct buf have = {0};
    AUTO_FREE char *target = xasprintf("/containers/json?%s", query);
    ask(f, "GET", target, NULL, 200);
    struct json_val all = got(f, "");
    for (struct json_iter i = json_iter(all); json_next(&i);) {
        struct json_iter n = json_iter(json_get(i.val, "Names"));
        assert_true(json_next(&n));
        buf_addf(&have, "%s%s", have.len ? " " : "", json_str(n.val, "") + 1);
    }
    if (strcmp(buf_str(&have), names) != 0)
        fail_msg("%s: '%s' instead of '%s'", query, buf_str(&have), names);
}

static void test_list_filters(void **state)
{
    struct fixture *f = *state;
    const char *one = make(f, "one", "\"Labels\":{\"app\":\"a\"},\"ExposedPorts\":{\"80/tcp\":{}}");
    make(f, "two", "\"Labels\":{\"app\":\"b\",\"x\":\"\"}");
    const char *three = make(f, "three", NULL);
    check_ok(host_began(f->host.store, three, &err));
    check_ok(host_began(f->host.store, one, &err));
    check_ok(host_ended(f->host.store, one, 3, &err));
    expect_names(f, "", "three");
    expect_names(f, "all=1", "three two one");
    expect_names(f, "limit=2", "three two");
    expect_names(f, "all=True&filters={\"label\":[\"app\"]}", "two one");
    expect_names(f, "all=1&filters={\"label\":{\"app=a\":true}}", "one");
    expect_names(f, "all=1&filters={\"label\":[\"app\",\"x\"]}", "two");
    expect_names(f, "filters={\"status\":[\"created\"]}", "two");
    expect_names(f, "filters={\"status\":[\"exited\",\"running\"]}", "three one");
    expect_names(f, "filters={\"exited\":[\"3\"]}", "one");
    expect_names(f, "filters={\"exited\":[\"4\"]}", "");
    expect_names(f, "all=1&filters={\"name\":[\"^/t\"]}", "three two");
    expect_names(f, "all=1&filters={\"name\":[\"wo\"]}", "two");
    expect_names(f, "filters={\"before\":[\"three\"]}", "two one");
    expect_names(f, "filters={\"since\":[\"one\"]}", "three two");
    expect_names(f, "all=1&filters={\"ancestor\":[\"busybox\"]}", "three two one");
    expect_names(f, "all=1&filters={\"ancestor\":[\"other\"]}", "");
    expect_names(f, "all=1&filters={\"expose\":[\"80-90\"]}", "one");
    expect_names(f, "all=1&filters={\"network\":[\"bridge\"]}", "three two one");
    expect_names(f, "all=1&filters={\"health\":[\"none\"]}", "three two one");
    AUTO_FREE char *by_id = xasprintf("all=1&filters={\"id\":[\"%.10s\"]}", one);
    expect_names(f, by_id, "one");
    ask_error(f, "GET", "/containers/json?filters={\"x\":[\"y\"]}", NULL, 400,
              "invalid filter 'x'");
    ask_error(f, "GET", "/containers/json?filters=x", NULL, 400, "invalid filter");
    ask(f, "GET", "/containers/json?filters={\"status\":[\"x\"]}", NULL, 400);
    ask(f, "GET", "/containers/json?filters={\"exited\":[\"x\"]}", NULL, 400);
    ask(f, "GET", "/containers/json?filters={\"name\":[\"(a{9999}){9999}\"]}", NULL, 400);
    ask_error(f, "GET", "/containers/json?filters={\"before\":[\"x\"]}", NULL, 404,
              "No such container: x");
}

static void test_list_item(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", "\"Labels\":{\"app\":\"a\"}");
    check_ok(host_began(f->host.store, id, &err));
    ask(f, "GET", "/v1.24/containers/json?size=1", NULL, 200);
    assert_string_equal(got_str(f, "0.Id"), id);
    assert_string_equal(got_str(f, "0.Image"), "busybox");
    assert_string_equal(got_str(f, "0.ImageID"), host_image);
    assert_string_equal(got_str(f, "0.State"), "running");
    assert_string_equal(got_str(f, "0.Status"), "Up Less than a second");
    assert_string_equal(got_str(f, "0.Labels.app"), "a");
    assert_int_equal(got_int(f, "0.SizeRootFs"), 4 << 20);
    assert_int_equal(json_type(got(f, "0.Ports")), JSON_ARRAY);
    assert_string_equal(got_str(f, "0.HostConfig.NetworkMode"), "default");
    check_ok(host_ended(f->host.store, id, 7, &err));
    ask(f, "GET", "/containers/json?all=1", NULL, 200);
    assert_memory_equal(got_str(f, "0.Status"), "Exited (7) ", 11);
}

/* More than one page, and in order. */
static void test_list_pages(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%03d", i);
        make(f, name, NULL);
    }
    ask(f, "GET", "/containers/json?all=1", NULL, 200);
    struct json_val all = got(f, "");
    assert_int_equal(json_count(all), 300);
    int n = 299;
    for (struct json_iter i = json_iter(all); json_next(&i); n--) {
        char name[16];
        snprintf(name, sizeof name, "/c%03d", n);
        struct json_iter names = json_iter(json_get(i.val, "Names"));
        assert_true(json_next(&names));
        assert_string_equal(json_str(names.val, ""), name);
    }
    assert_true(f->body.len > 96 << 10);
}

/* --- rename, update -------------------------------------------------------------------------- */
static void test_rename(void **state)
{
    struct fixture *f = *state;
    make(f, "one", NULL);
    make(f, "two", NULL);
    ask_error(f, "POST", "/containers/one/rename?name=", NULL, 400,
              "Neither old nor new names may be empty");
    ask_error(f, "POST", "/containers/one/rename?name=one", NULL, 400,
              "Renaming a container with the same name as its current name");
    ask_error(f, "POST", "/containers/one/rename?name=a!", NULL, 400,
              "Error when allocating new name: Invalid container name (/a!), only "
              "[a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    ask(f, "POST", "/containers/one/rename?name=two", NULL, 409);
    ask_error(f, "POST", "/containers/x/rename?name=two", NULL, 404, "No such container: x");
    ask(f, "POST", "/containers/one/rename?name=/uno", NULL, 204);
    ask(f, "GET", "/containers/uno/json", NULL, 200);
    assert_string_equal(got_str(f, "Name"), "/uno");
    ask(f, "GET", "/containers/one/json", NULL, 404);
}

static void test_update(void **state)
{
    struct fixture *f = *state;
    make(f, "one", NULL);
    ask(f, "POST", "/containers/one/update",
        "{\"Memory\":314572800,\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":4}"
        "}",
        200);
    assert_int_equal(json_count(got(f, "Warnings")), 1);
    ask(f, "GET", "/containers/one/json", NULL, 200);
    assert_string_equal(got_str(f, "HostConfig.RestartPolicy.Name"), "on-failure");
    assert_int_equal(got_int(f, "HostConfig.RestartPolicy.MaximumRetryCount"), 4);
    assert_int_equal(got_int(f, "HostConfig.Memory"), 0);
    ask(f, "POST", "/containers/one/update", "{\"RestartPolicy\":{\"Name\":\"x\"}}", 400);
}

/* --- remove ---------------------------------------------------------------------------------- */
static void test_remove(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", NULL);
    check_ok(host_began(f->host.store, id, &err));
    ask_error(f, "DELETE", "/containers/web", NULL, 409,
              "cannot remove container \"/web\": container is running: stop the container before "
              "removing or force remove");
    check_ok(host_ended(f->host.store, id, 0, &err));
    ask(f, "DELETE", "/containers/web?v=1", NULL, 204);
    ask_error(f, "DELETE", "/containers/web", NULL, 404, "No such container: web");
    AUTO_FREE char *by_id = xasprintf("/containers/%s/json", id);
    ask(f, "GET", by_id, NULL, 404);
    ask(f, "GET", "/containers/json?all=1", NULL, 200);
    assert_int_equal(json_count(got(f, "")), 0);
    make(f, "web", NULL); /* the name is free at once */
}

static void test_prune(void **state)
{
    struct fixture *f = *state;
    make(f, "keep", "\"Labels\":{\"keep\":\"\"}");
    make(f, "gone", NULL);
    const char *runs = make(f, "runs", NULL);
    check_ok(host_began(f->host.store, runs, &err));
    ask(f, "POST", "/containers/prune?filters={\"until\":[\"1h\"]}", NULL, 200);
    assert_int_equal(json_count(got(f, "ContainersDeleted")), 0);
    ask(f, "POST", "/containers/prune?filters={\"label!\":[\"keep\"]}", NULL, 200);
    assert_int_equal(json_count(got(f, "ContainersDeleted")), 1);
    assert_int_equal(got_int(f, "SpaceReclaimed"), 0);
    expect_names(f, "all=1", "runs keep");
    ask_error(f, "POST", "/containers/prune?filters={\"x\":[\"1\"]}", NULL, 400,
              "invalid filter 'x'");
}

/* Of many creates with one name at the same time one wins. */
static void *race(void *arg)
{
    struct fixture *f = arg;
    return (void *)(intptr_t)request(f->host.socket, "POST", "/containers/create?name=same",
                                     "{\"Image\":\"busybox\"}", NULL);
}

static void test_one_name_wins(void **state)
{
    pthread_t t[8];
    int won = 0;
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, race, *state), 0);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        void *status;
        pthread_join(t[i], &status);
        won += (intptr_t)status == 201;
        assert_true((intptr_t)status == 201 || (intptr_t)status == 409);
    }
    assert_int_equal(won, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_create_defaults), T(test_create_plans_a_disk),
        T(test_create_merges),   T(test_create_command),
        T(test_create_names),    T(test_create_refusals),
        T(test_platform),        T(test_resolution),
        T(test_list_filters),    T(test_list_item),
        T(test_list_pages),      T(test_rename),
        T(test_update),          T(test_remove),
        T(test_prune),           T(test_one_name_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
