/* Paths to routes, versions, references, filters, times: no server. */
#include "fixture.h"

#include <stdio.h>

#include "api_priv.h"
#include "docker/docker.h"

/* --- versions -------------------------------------------------------------------------------- */
static void test_versions(void **state)
{
    static const struct {
        const char *path, *rest;
        unsigned version;
    } good[] = {{"/_ping", "/_ping", 1044},
                {"/v1.24/_ping", "/_ping", 1024},
                {"/v1.44/images/v1.2/json", "/images/v1.2/json", 1044},
                {"/vx/y", "/vx/y", 1044},
                {"/version", "/version", 1044},
                {"/v1.44", "", 1044},
                {"/v1.30/", "/", 1030}};
    static const char *const bad[] = {"/v1.23/x",
                                      "/v1.45/x",
                                      "/v1/x",
                                      "/v2.0/x",
                                      "/v0.1/x",
                                      "/v1..2/x",
                                      "/v99999999999999999999.1/x"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct sv path = sv_of(good[i].path);
        unsigned version;
        check_ok(route_version(&path, &version, &err));
        assert_true(sv_is(path, good[i].rest));
        assert_int_equal(version, good[i].version);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct sv path = sv_of(bad[i]);
        unsigned version;
        struct vic_err err = {0};
        assert_false(route_version(&path, &version, &err));
        assert_int_equal(err.code, VIC_INVALID);
    }
}

/* --- routes ---------------------------------------------------------------------------------- */
static void test_matching(void **state)
{
    static const struct {
        const char *method, *path, *pattern, *param;
    } cases[] = {
        {"GET", "/containers/json", "/containers/json", ""},
        {"GET", "/containers/json/json", "/containers/{id}/json", "json"},
        {"GET", "/containers/a%2Fb/json", "/containers/{id}/json", "a/b"},
        {"GET", "/containers/%00x/json", "/containers/{id}/json", "%00x"},
        {"DELETE", "/containers/x", "/containers/{id}", "x"},
        {"GET", "/images/json", "/images/json", ""},
        {"GET", "/images/host:5000/a/b:1/json", "/images/{name*}/json", "host:5000/a/b:1"},
        {"DELETE", "/images/a/b", "/images/{name*}", "a/b"},
        {"GET", "/containers//json", NULL, NULL},
        {"GET", "/containers/x/json/", NULL, NULL},
        {"GET", "/containers/a/b/json", NULL, NULL},
        {"PATCH", "/version", NULL, NULL},
        {"GET", "", NULL, NULL},
        {"GET", "//", NULL, NULL},
        {"GET", "*", NULL, NULL},
    };
    AUTO_ARENA struct arena a = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *param[2];
        struct vic_err err = {0};
        const struct route *r =
            route_find(sv_of(cases[i].method), sv_of(cases[i].path), 1044, &a, param, &err);
        if (!cases[i].pattern) {
            assert_null(r);
            continue;
        }
        if (!r)
            fail_msg("%s: %s", cases[i].path, err.msg);
        assert_string_equal(r->pattern, cases[i].pattern);
        assert_string_equal(param[0], cases[i].param);
    }
}

/* Every route is reached by a path made from its pattern, and none is hidden by an earlier one. */
static void test_every_route_is_reached(void **state)
{
    AUTO_ARENA struct arena a = {0};
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct route *r = &api_routes[i];
        AUTO_BUF struct buf path = {0};
        const char *param[2];
        struct vic_err err = {0};
        for (const char *p = r->pattern; *p; p++) {
            if (*p != '{') {
                buf_add_c(&path, *p);
                continue;
            }
            buf_add_str(&path, "zz");
            p = strchr(p, '}');
        }
        const struct route *found =
            route_find(sv_of(r->method), buf_sv(&path), 1044, &a, param, &err);
        if (found != r)
            fail_msg("%s %s is hidden", r->method, r->pattern);
        assert_true(r->help && *r->help && r->since >= API_MIN_V && r->since <= API_V);
    }
}

/* --- references ------------------------------------------------------------------------------ */
static void test_references(void **state)
{
    static const char digest[] =
        "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const struct {
        const char *text, *full, *familiar;
    } good[] = {
        {"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
        {"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
        {"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
        {"index.docker.io/u/a", "docker.io/u/a:latest", "u/a:latest"},
        {"u/a.b_c__d--e:T-1", "docker.io/u/a.b_c__d--e:T-1", "u/a.b_c__d--e:T-1"},
        {"localhost/x", "localhost/x:latest", "localhost/x:latest"},
        {"host:5000/a/b:1", "host:5000/a/b:1", "host:5000/a/b:1"},
        {"gcr.io/p/x", "gcr.io/p/x:latest", "gcr.io/p/x:latest"},
    };
    static const char *const bad[] = {
        "",
        "A",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-x",
        "a b",
        "a@sha256:x",
        "a..b",
        "a___b",
        "-a",
        "a@",
        "http://x/y",
        "h:x/y",
        "\xff",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    AUTO_ARENA struct arena a = {0};
    struct image_ref r;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        check_ok(ref_parse(sv_of(good[i].text), &a, &r, &err));
        assert_string_equal(ref_full(&r, &a), good[i].full);
        assert_string_equal(ref_familiar(&r, &a), good[i].familiar);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (ref_parse(sv_of(bad[i]), &a, &r, NULL))
            fail_msg("'%s' was taken", bad[i]);
    const char *text = arena_printf(&a, "busybox@%s", digest);
    check_ok(ref_parse(sv_of(text), &a, &r, &err));
    assert_string_equal(r.digest, digest);
    assert_string_equal(ref_familiar(&r, &a), text);
}

/* --- filters --------------------------------------------------------------------------------- */
static void test_filters(void **state)
{
    static const char *const keys[] = {"label", "status", NULL};
    static const char *const bad[] = {"x",
                                      "[]",
                                      "1",
                                      "{\"label\":\"x\"}",
                                      "{\"label\":[1]}",
                                      "{\"nope\":[]}",
                                      "{\"label\":1}",
                                      "{\"label\":[\"a\"]"};
    AUTO_ARENA struct arena a = {0};
    struct filters f;
    (void)state;
    check_ok(filters_parse(SV(""), keys, &a, &f, &err));
    check_ok(filters_parse(SV("null"), keys, &a, &f, &err));
    check_ok(filters_parse(SV("{}"), keys, &a, &f, &err));
    check_ok(filters_parse(SV("{\"label\":{\"a=b\":true},\"status\":[\"x\",\"y\"]}"), keys, &a, &f,
                           &err));
    assert_true(filter_has(&f, "label", "a=b"));
    assert_int_equal(filter_values(&f, "status").n, 2);
    assert_int_equal(filter_values(&f, "other").n, 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (filters_parse(sv_of(bad[i]), keys, &a, &f, NULL))
            fail_msg("'%s' was taken", bad[i]);
}

/* --- times ----------------------------------------------------------------------------------- */
static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"100", 100000000000},       {"100.5", 100500000000},
                {"1.000000001", 1000000001}, {"1970-01-01T00:01:00Z", 60000000000},
                {"10s", 90000000000},        {"1m", 40000000000},
                {"1m30s", 10000000000},      {"0s", 100000000000},
                {"1.5s", 98500000000}};
    static const char *const bad[] = {"", "x", "1.", "1.1234567890", "10q", "s", "-5"};
    int64_t ns;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(time_parse(good[i].text, 100000000000, &ns));
        assert_true(ns == good[i].ns);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(time_parse(bad[i], 100000000000, &ns));
}

static void test_durations(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {{0, "Less than a second"},  {1, "1 second"},
                 {59, "59 seconds"},         {60, "About a minute"},
                 {119, "About a minute"},    {120, "2 minutes"},
                 {3599, "59 minutes"},       {3600, "About an hour"},
                 {5399, "About an hour"},    {5400, "2 hours"},
                 {47 * 3600, "47 hours"},    {48 * 3600, "2 days"},
                 {13 * 86400, "13 days"},    {14 * 86400, "2 weeks"},
                 {59 * 86400, "8 weeks"},    {60 * 86400, "2 months"},
                 {729 * 86400, "24 months"}, {730 * 86400, "2 years"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF struct buf out = {0};
        duration_text(cases[i].seconds * 1000000000, &out);
        assert_string_equal(buf_str(&out), cases[i].text);
    }
}

static void test_names_and_ports(void **state)
{
    static const char *const good[] = {"ab", "/ab", "a_b.c-d", "00"};
    static const char *const bad[] = {"", "/", "a", "/a", "_a", "a/b", "a b", "//ab", "\xc3\xa4x"};
    unsigned first, last;
    const char *proto;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(container_name_ok(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(container_name_ok(bad[i]));
    assert_true(port_parse(SV("80"), &first, &last, &proto) && first == 80 && last == 80);
    assert_true(port_parse(SV("80-90/UDP"), &first, &last, &proto) && last == 90);
    assert_string_equal(proto, "udp");
    assert_false(port_parse(SV("0"), &first, &last, &proto));
    assert_false(port_parse(SV("90-80"), &first, &last, &proto));
    assert_false(port_parse(SV("80/x"), &first, &last, &proto));
    assert_false(port_parse(SV("65536"), &first, &last, &proto));
    assert_false(port_parse(SV("80-"), &first, &last, &proto));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_matching),
        cmocka_unit_test(test_every_route_is_reached),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_names_and_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
