/* Images: list, inspect, history, tag, remove: Docker's rules and texts. */
#include "io_fixture.h"

#define HEX(c) c c c c c c c c c c c c c c c c
#define ONE    "sha256:" HEX("a1a1")
#define TWO    "sha256:" HEX("a2b2")
#define LOW    "sha256:" HEX("c1c1")
#define HIGH   "sha256:" HEX("c2c2")

static const int64_t second = 1000000000;

static bool put_blob(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    static const char config[] =
        "{\"history\":[{\"created\":\"2026-01-02T03:04:05Z\",\"created_by\":\"ADD low\"},"
        "{\"created_by\":\"ENV x\",\"empty_layer\":true,\"comment\":\"why\"},"
        "{\"created\":\"2026-01-02T03:04:06Z\",\"created_by\":\"ADD high\"}]}";
    (void)a;
    return store_blob_put(t, arg, SV(config), err);
}

static void put_layer(struct io *x, const char *id, int64_t size)
{
    struct store_layer l;
    store_init(store_rec_layer(), &l);
    l.meta.id = l.diff_id = id;
    l.size_bytes = size;
    l.phase = store_layer_phase_READY;
    check_ok(host_put(x->f.host.store, STORE_LAYER, &l, &err));
}

static void put_tag(struct io *x, const char *full, const char *image)
{
    struct store_tag t;
    store_init(store_rec_tag(), &t);
    t.meta.id = t.meta.name = full;
    t.image = image;
    check_ok(host_put(x->f.host.store, STORE_TAG, &t, &err));
}

/* An image on LOW, and with 'high' on HIGH too. */
static void put_image(struct io *x, const char *id, bool high, int64_t built, int phase)
{
    static const struct store_change_note note = {.actor = "test"};
    static const char *layers[] = {LOW, HIGH};
    static struct store_kv labels[] = {{"tier", "db"}};
    struct store *s = x->f.host.store;
    struct store_image i;
    put_layer(x, LOW, 100);
    put_layer(x, HIGH, 20);
    store_init(store_rec_image(), &i);
    i.meta.id = id;
    i.layers = i.diff_ids = (struct store_strs){layers, high ? 2 : 1};
    i.size_bytes = high ? 120 : 100;
    i.built = built;
    i.author = "me";
    i.architecture = "amd64";
    i.os = "linux";
    i.phase = phase;
    i.config.labels = (struct store_map){labels, high};
    check_ok(host_put(s, STORE_IMAGE, &i, &err));
    check_ok(store_write(s, &note, NULL, put_blob, (void *)(uintptr_t)id, &err));
}

static void seed(struct io *x)
{
    put_image(x, ONE, true, 1700000000 * second, store_image_phase_READY);
    put_tag(x, "docker.io/library/one:latest", ONE);
    put_tag(x, "host.test:5000/team/one:2", ONE);
}

static void lists(struct io *x, const char *filters, const char *ids)
{
    AUTO_BUF struct buf seen = {0};
    AUTO_FREE char *target =
        xasprintf("/v1.44/images/json%s%s", filters ? "?filters=" : "", filters ? filters : "");
    ask(&x->f, "GET", target, NULL, 200);
    for (struct json_iter i = json_iter(got(&x->f, "")); json_next(&i);)
        buf_addf(&seen, "%.2s ", json_str(json_get(i.val, "Id"), "") + 7);
    assert_string_equal(buf_str(&seen), ids);
}

/* --- seeing ---------------------------------------------------------------------------------- */
static void a_list(void **state)
{
    struct io *x = *state;
    seed(x);
    put_image(x, TWO, false, 1800000000 * second, store_image_phase_READY);
    put_image(x, "sha256:" HEX("f0f0"), false, 1, store_image_phase_LOADING);
    put_image(x, "sha256:" HEX("f1f1"), false, 1, store_image_phase_FAILED);
    lists(x, NULL, "a2 a1 11 ");
    assert_int_equal(json_count(got(&x->f, "0.RepoTags")), 0); /* untagged */
    assert_string_equal(got_str(&x->f, "1.RepoTags.0"), "one:latest");
    assert_string_equal(got_str(&x->f, "1.RepoTags.1"), "host.test:5000/team/one:2");
    assert_int_equal(got_int(&x->f, "1.Created"), 1700000000);
    assert_int_equal(got_int(&x->f, "1.Size"), 120);
    assert_int_equal(got_int(&x->f, "1.SharedSize"), -1);
    assert_int_equal(got_int(&x->f, "1.Containers"), -1);
    assert_string_equal(got_str(&x->f, "1.Labels.tier"), "db");
    assert_false(json_present(got(&x->f, "1.VirtualSize")));
    ask(&x->f, "GET", "/v1.42/images/json", NULL, 200);
    assert_string_equal(got_str(&x->f, "0.RepoTags.0"), "<none>:<none>");
    assert_int_equal(got_int(&x->f, "1.VirtualSize"), 120);
}

static void a_list_by_filters(void **state)
{
    struct io *x = *state;
    seed(x);
    put_image(x, TWO, false, 1800000000 * second, store_image_phase_READY);
    lists(x, "{\"dangling\":[\"true\"]}", "a2 ");
    lists(x, "{\"dangling\":[\"false\"]}", "a1 11 ");
    lists(x, "{\"label\":[\"tier=db\"]}", "a1 ");
    lists(x, "{\"label!\":[\"tier\"]}", "a2 11 ");
    lists(x, "{\"reference\":[\"one\"]}", "a1 ");
    lists(x, "{\"reference\":[\"*one:2\",\"busy*\"]}", "11 ");
    lists(x, "{\"reference\":[\"host.test:5000/*/one\"]}", "a1 ");
    lists(x, "{\"reference\":[\"none\"]}", "");
    lists(x, "{\"since\":[\"one\"]}", "a2 ");
    lists(x, "{\"before\":[\"one\"]}", "11 ");
    lists(x, "{\"until\":[\"1750000000\"]}", "a1 11 ");
    ask_error(&x->f, "GET", "/images/json?filters={\"nope\":[\"x\"]}", NULL, 400,
              "invalid filter 'nope'");
    ask_error(&x->f, "GET", "/images/json?filters={\"dangling\":[\"maybe\"]}", NULL, 400,
              "invalid filter 'dangling=[maybe]'");
    ask_error(&x->f, "GET", "/images/json?filters={\"since\":[\"nope\"]}", NULL, 404,
              "No such image: nope:latest");
}

static void inspecting(void **state)
{
    static const char *const names[] = {
        "one",       "one:latest", "docker.io/library/one", ONE,
        HEX("a1a1"), "a1a1",       "sha256:a1a1a1",         "host.test:5000/team/one:2"};
    struct io *x = *state;
    seed(x);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        ask(&x->f, "GET", arena_printf(&x->f.a, "/images/%s/json", names[i]), NULL, 200);
        assert_string_equal(got_str(&x->f, "Id"), ONE);
    }
    assert_string_equal(got_str(&x->f, "RepoTags.0"), "one:latest");
    assert_string_equal(got_str(&x->f, "Created"), "2023-11-14T22:13:20Z");
    assert_string_equal(got_str(&x->f, "Author"), "me");
    assert_string_equal(got_str(&x->f, "Architecture"), "amd64");
    assert_string_equal(got_str(&x->f, "RootFS.Type"), "layers");
    assert_string_equal(got_str(&x->f, "RootFS.Layers.0"), LOW);
    assert_string_equal(got_str(&x->f, "RootFS.Layers.1"), HIGH);
    assert_string_equal(got_str(&x->f, "Config.Labels.tier"), "db");
    ask_error(&x->f, "GET", "/images/nope/json", NULL, 404, "No such image: nope:latest");
    ask_error(&x->f, "GET", "/images/one:9/json", NULL, 404, "No such image: one:9");
    ask(&x->f, "GET", "/images/UPPER/json", NULL, 400);
    put_image(x, TWO, false, 1, store_image_phase_LOADING);
    ask_error(&x->f, "GET", "/images/" TWO "/json", NULL, 404, "No such image: " TWO);
}

static void the_history(void **state)
{
    struct io *x = *state;
    seed(x);
    ask(&x->f, "GET", "/images/one/history", NULL, 200);
    assert_int_equal(json_count(got(&x->f, "")), 3);
    assert_string_equal(got_str(&x->f, "0.Id"), ONE); /* the newest first */
    assert_string_equal(got_str(&x->f, "0.CreatedBy"), "ADD high");
    assert_int_equal(got_int(&x->f, "0.Size"), 20);
    assert_string_equal(got_str(&x->f, "0.Tags.0"), "one:latest");
    assert_string_equal(got_str(&x->f, "1.Id"), "<missing>");
    assert_int_equal(got_int(&x->f, "1.Size"), 0);
    assert_string_equal(got_str(&x->f, "1.Comment"), "why");
    assert_false(json_present(got(&x->f, "1.Tags")));
    assert_int_equal(got_int(&x->f, "2.Size"), 100);
    assert_int_equal(got_int(&x->f, "2.Created"), 1767323045);
    ask_error(&x->f, "GET", "/images/nope/history", NULL, 404, "No such image: nope:latest");
}

/* --- names ----------------------------------------------------------------------------------- */
static void tagging(void **state)
{
    struct io *x = *state;
    seed(x);
    ask(&x->f, "POST", "/images/one/tag?repo=other&tag=3", NULL, 201);
    ask(&x->f, "GET", "/images/other:3/json", NULL, 200);
    assert_string_equal(got_str(&x->f, "Id"), ONE);
    ask(&x->f, "POST", "/images/a1a1/tag?repo=host.test:5000/x", NULL, 201); /* latest */
    ask(&x->f, "GET", "/images/host.test:5000/x/json", NULL, 200);
    ask(&x->f, "POST", "/images/busybox/tag?repo=other&tag=3", NULL, 201); /* moves */
    ask(&x->f, "GET", "/images/other:3/json", NULL, 200);
    assert_string_equal(got_str(&x->f, "Id"), host_image);
    assert_string_equal(io_events(x, ONE), "tag\ntag\n");
    ask_error(&x->f, "POST", "/images/nope/tag?repo=x", NULL, 404, "No such image: nope:latest");
    ask(&x->f, "POST", "/images/one/tag?repo=", NULL, 400);
    ask(&x->f, "POST", "/images/one/tag?repo=x&tag=-bad", NULL, 400);
    ask_error(&x->f, "POST", "/images/one/tag?repo=x@sha256:" HEX("0000"), NULL, 400,
              "refusing to create a tag with a digest reference");
    put_image(x, TWO, false, 1, store_image_phase_FAILED);
    ask_error(&x->f, "POST", "/images/" TWO "/tag?repo=x", NULL, 404, "No such image: " TWO);
}

static void removes(struct io *x, const char *target, const char *answer)
{
    AUTO_FREE char *path = xasprintf("/images/%s", target);
    ask(&x->f, "DELETE", path, NULL, 200);
    AUTO_BUF struct buf seen = {0};
    for (struct json_iter i = json_iter(got(&x->f, "")); json_next(&i);) {
        const char *gone = json_str(json_get(i.val, "Deleted"), NULL);
        buf_addf(&seen, gone ? "-%.9s " : "%s ",
                 gone ? gone : json_str(json_get(i.val, "Untagged"), "?"));
    }
    assert_string_equal(buf_str(&seen), answer);
}

static void removing_names(void **state)
{
    struct io *x = *state;
    seed(x);
    ask_error(&x->f, "DELETE", "/images/nope", NULL, 404, "No such image: nope:latest");
    ask_error(&x->f, "DELETE", "/images/a1a1", NULL, 409,
              "conflict: unable to delete a1a1a1a1a1a1 (must be forced) - image is referenced in "
              "multiple repositories");
    removes(x, "one", "one:latest ");
    ask(&x->f, "GET", "/images/host.test:5000/team/one:2/json", NULL, 200);
    removes(x, "host.test:5000/team/one:2",
            "host.test:5000/team/one:2 -sha256:a1 -sha256:c2 -sha256:c1 ");
    ask(&x->f, "GET", "/images/" ONE "/json", NULL, 404);
    assert_string_equal(io_events(x, ONE), "untag\nuntag\ndelete\n");
}

static void removing_by_id(void **state)
{
    struct io *x = *state;
    seed(x);
    put_image(x, TWO, false, 1, store_image_phase_READY); /* shares LOW */
    removes(x, "a1a1?force=1", "one:latest host.test:5000/team/one:2 -sha256:a1 -sha256:c2 ");
    removes(x, TWO, "-sha256:a2 -sha256:c1 ");
    lists(x, NULL, "11 ");
}

static void removing_what_is_used(void **state)
{
    struct io *x = *state;
    const char *id = io_make(x, NULL);
    AUTO_FREE char *hex = xasprintf("%.12s", host_image + 7);
    ask_error(&x->f, "DELETE", "/images/busybox", NULL, 409,
              arena_printf(&x->f.a,
                           "conflict: unable to remove repository reference \"busybox\" (must "
                           "force) - container %.12s is using its referenced image %s",
                           id, hex));
    AUTO_FREE char *by_id = xasprintf("/images/%s", host_image);
    AUTO_FREE char *forced = xasprintf("/images/%s?force=1", host_image);
    ask_error(
        &x->f, "DELETE", by_id, NULL, 409,
        arena_printf(&x->f.a,
                     "conflict: unable to delete %s (must be forced) - image is being used by "
                     "stopped container %.12s",
                     hex, id));
    ask(&x->f, "POST", "/images/busybox/tag?repo=second", NULL, 201);
    removes(x, "second", "second:latest "); /* another name is free to go */
    io_start(x, id);
    ask_error(&x->f, "DELETE", forced, NULL, 409,
              arena_printf(&x->f.a,
                           "conflict: unable to delete %s (cannot be forced) - image is being used "
                           "by running container %.12s",
                           hex, id));
    removes(x, "busybox?force=1", "busybox:latest "); /* the image stays, for its container */
    ask(&x->f, "GET", arena_printf(&x->f.a, "%s/json", by_id), NULL, 200);
    lists(x, "{\"dangling\":[\"true\"]}", "11 ");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, io_setup, io_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_list),  TEST(a_list_by_filters), TEST(inspecting),     TEST(the_history),
        TEST(tagging), TEST(removing_names),    TEST(removing_by_id), TEST(removing_what_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
