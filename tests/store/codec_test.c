/* The records' codecs: random records of every kind go through binary and JSON and come back; cut
 * and damaged bytes are refused or understood, never more; unknown fields survive. */
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#include "codec.h"
#include "crc32c.h"

enum { ROUNDS = 300 };

typedef const struct store_rec *(*rec_of)(void);
#define REC(name, meaning) store_rec_##name,
#define F(...)
#define END(name)
static const rec_of recs[] = {
#include "store/record.def"
};
#undef REC
#undef F
#undef END

/* TEST_SEED repeats a run. */
static uint64_t first_seed(void)
{
    const char *text = getenv("TEST_SEED");
    uint64_t seed = random_u64();
    if (text && !sv_to_u64(sv_of(text), &seed))
        fail_msg("TEST_SEED is not a number");
    printf("TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Bytes in memory of their own, so that reading one too many is seen. */
static struct sv own(struct sv s, char **hold)
{
    *hold = xmalloc(s.len ? s.len : 1);
    if (s.len)
        memcpy(*hold, s.p, s.len);
    return sv_make(*hold, s.len);
}

static void round_trip(const struct store_rec *rec, uint64_t *seed)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf bytes = {0}, again = {0};
    AUTO_FREE char *hold = NULL;
    void *record = arena_alloc(&a, rec->size), *back = arena_alloc(&a, rec->size);
    void *copy = arena_alloc(&a, rec->size);
    random_record(rec, seed, &a, record);
    store_encode(rec, record, &bytes);
    struct sv s = own(buf_sv(&bytes), &hold);
    check_ok(store_decode(rec, s, &a, back, &err));
    if (!store_equal(rec, record, back))
        fail_msg("%s came back changed", rec->name);
    store_encode(rec, back, &again);
    assert_true(sv_eq(buf_sv(&bytes), buf_sv(&again)));
    store_copy(rec, back, copy, &a);
    memset(hold, 0x55, s.len); /* a copy borrows nothing of it */
    assert_true(store_equal(rec, record, copy));
}

static void test_round_trip(void **state)
{
    uint64_t seed = first_seed();
    (void)state;
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < ARRAY_LEN(recs); i++)
            round_trip(recs[i](), &seed);
}

/* --- JSON ----------------------------------------------------------------------------------------
 */
static void json_trip(const struct store_rec *rec, uint64_t *seed)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf text = {0}, again = {0};
    void *record = arena_alloc(&a, rec->size), *back = arena_alloc(&a, rec->size);
    struct json_writer w = json_writer(&text), x = json_writer(&again);
    struct json_val v;
    random_record(rec, seed, &a, record);
    store_init(rec, back);
    store_to_json(rec, record, true, &w, NULL);
    check_ok(json_parse(buf_sv(&text), 0, &a, &v, &err));
    check_ok(store_from_json(rec, v, true, &a, back, &err));
    store_to_json(rec, back, true, &x, NULL);
    if (strcmp(buf_str(&text), buf_str(&again)) != 0)
        fail_msg("%s\nbecame\n%s", buf_str(&text), buf_str(&again));
}

static void test_json_round_trip(void **state)
{
    uint64_t seed = first_seed();
    (void)state;
    for (int round = 0; round < ROUNDS / 3; round++)
        for (size_t i = 0; i < ARRAY_LEN(recs); i++)
            json_trip(recs[i](), &seed);
}

static bool from_text(const struct store_rec *rec, const char *text, struct arena *a, void *record,
                      struct vic_err *err)
{
    struct json_val v;
    return json_parse(sv_of(text), 0, a, &v, err) && store_from_json(rec, v, true, a, record, err);
}

static void test_json_reading(void **state)
{
    AUTO_ARENA struct arena a = {0};
    struct store_container c;
    const struct store_rec *rec = store_rec_container();
    (void)state;
    store_init(rec, &c);
    c.config.hostname = "kept";
    c.config.tty = true;
    check_ok(
        from_text(rec,
                  "{\"config\":{\"Env\":[\"A=1\",null],\"HOSTNAME\":null,\"Foreign\":{\"x\":1},"
                  "\"Labels\":{\"k\":\"1\",\"k\":\"2\",\"n\":null}},"
                  "\"HostConfig\":{\"Memory\":1e6,\"Ulimits\":[{\"Name\":\"nofile\"},null],"
                  "\"CapAdd\":[]},\"Status\":{\"Phase\":\"running\","
                  "\"StartedAt\":\"2026-01-02T03:04:05.5Z\"}}",
                  &a, &c, &err));
    assert_string_equal(c.config.hostname, "kept");
    assert_true(c.config.tty);
    assert_int_equal(c.config.env.n, 2);
    assert_string_equal(c.config.env.v[1], "");
    assert_int_equal(c.config.labels.n, 2);
    assert_string_equal(c.config.labels.v[0].v, "2");
    assert_int_equal(c.host_config.memory, 1000000);
    assert_int_equal(c.host_config.ulimits.n, 2);
    assert_string_equal(c.host_config.ulimits.v[0].name, "nofile");
    assert_true(c.host_config.cap_add.v && !c.host_config.cap_add.n);
    assert_null(c.host_config.cap_drop.v);
    assert_int_equal(c.status.phase, store_run_phase_RUNNING);
    assert_int_equal(c.status.started % 1000000000, 500000000);
}

static void test_json_wrong(void **state)
{
    static const char *const cases[][2] = {
        {"[]", "expected an object"},
        {"{\"HostConfig\":{\"memory\":\"1\"}}", "HostConfig.Memory: expected a number"},
        {"{\"HostConfig\":7}", "HostConfig: expected an object"},
        {"{\"Config\":{\"Env\":[\"a\",1]}}", "Config.Env[1]: expected a string"},
        {"{\"Config\":{\"Env\":\"a\"}}", "Config.Env: expected an array of strings"},
        {"{\"Config\":{\"Labels\":{\"a\":1}}}", "Config.Labels.a: expected a string"},
        {"{\"Config\":{\"Tty\":1}}", "Config.Tty: expected true or false"},
        {"{\"Config\":{\"User\":\"a\\u0000b\"}}", "Config.User: expected a string"},
        {"{\"HostConfig\":{\"Ulimits\":[{\"Hard\":true}]}}",
         "HostConfig.Ulimits[0].Hard: expected a number"},
        {"{\"Status\":{\"ExitCode\":2147483648}}", "Status.ExitCode: expected a number of 32 bits"},
        {"{\"Status\":{\"Phase\":\"gone\"}}",
         "Status.Phase: expected one of created starting running restarting exited dead unknown"},
        {"{\"Status\":{\"StartedAt\":\"now\"}}",
         "Status.StartedAt: expected a time as of RFC 3339"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_ARENA struct arena a = {0};
        struct store_container c;
        struct vic_err e = {0};
        store_init(store_rec_container(), &c);
        assert_false(from_text(store_rec_container(), cases[i][0], &a, &c, &e));
        assert_int_equal(e.code, VIC_INVALID);
        assert_string_equal(e.msg, cases[i][1]);
    }
}

/* A map with very many members is refused before it costs quadratic time. */
static void test_json_many_labels(void **state)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf text = {0};
    struct store_config c;
    (void)state;
    store_init(store_rec_config(), &c);
    buf_add_str(&text, "{\"Labels\":{\"k\":\"v\"");
    for (int i = 0; i < STORE_MAX_MAP; i++)
        buf_addf(&text, ",\"k%d\":\"v\"", i);
    buf_add_str(&text, "}}");
    check_fails(VIC_INVALID, from_text(store_rec_config(), buf_str(&text), &a, &c, &err));
}

/* --- damage --------------------------------------------------------------------------------------
 */
/* Whatever was understood can be written and read again. */
static void digest(const struct store_rec *rec, struct sv bytes, bool *ok)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf again = {0}, more = {0};
    AUTO_FREE char *hold = NULL;
    void *record = arena_alloc(&a, rec->size), *back = arena_alloc(&a, rec->size);
    struct vic_err e = {0};
    *ok = store_decode(rec, own(bytes, &hold), &a, record, &e);
    if (!*ok) {
        assert_int_equal(e.code, VIC_CORRUPT);
        return;
    }
    store_encode(rec, record, &again);
    check_ok(store_decode(rec, buf_sv(&again), &a, back, &err));
    assert_true(store_equal(rec, record, back));
    store_encode(rec, back, &more);
    assert_true(sv_eq(buf_sv(&again), buf_sv(&more)));
}

static void test_cut_everywhere(void **state)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf bytes = {0};
    struct store_container c;
    (void)state;
    typical_container(&c, 1, &a);
    store_encode(store_rec_container(), &c, &bytes);
    size_t whole = 0;
    for (size_t n = 0; n < bytes.len; n++) {
        bool ok;
        digest(store_rec_container(), sv_sub(buf_sv(&bytes), 0, n), &ok);
        whole += ok;
    }
    /* Only a cut between two fields of the record itself is not seen (the checksum sees it). */
    assert_in_range(whole, 1, store_rec_container()->count);
}

static void test_damage(void **state)
{
    uint64_t seed = first_seed();
    (void)state;
    for (int round = 0; round < ROUNDS * 10; round++) {
        AUTO_ARENA struct arena a = {0};
        AUTO_BUF struct buf bytes = {0};
        const struct store_rec *rec = recs[next_random(&seed) % ARRAY_LEN(recs)]();
        void *record = arena_alloc(&a, rec->size);
        bool ok;
        random_record(rec, &seed, &a, record);
        store_encode(rec, record, &bytes);
        for (uint64_t flips = next_random(&seed) % 4; bytes.len && flips; flips--)
            bytes.data[next_random(&seed) % bytes.len] = (char)next_random(&seed);
        digest(rec, buf_sv(&bytes), &ok);
    }
}

/* --- versions ------------------------------------------------------------------------------------
 */
/* Fields 200 to 204, one of each wire type, as a newer version may write them: before, between and
 * behind what is known, in the record and in a part of it. */
static const char newer[] = "\xc0\x0c\x05"               /* 200 varint */
                            "\xc9\x0c\x02hi\0"           /* 201 text */
                            "\xd2\x0c\x03\0\0\0xyz"      /* 202 block */
                            "\xdb\x0c\x02\1\2"           /* 203 sealed */
                            "\xe4\x0c\1\2\3\4\5\6\7\10"; /* 204 fixed */

static void test_unknown_fields(void **state)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf bytes = {0}, again = {0};
    struct store_attempt one, back;
    (void)state;
    store_init(store_rec_attempt(), &one);
    one.n = 3;
    buf_add(&bytes, newer, sizeof newer - 1);
    store_encode(store_rec_attempt(), &one, &bytes);
    buf_add(&bytes, newer, sizeof newer - 1);
    check_ok(store_decode(store_rec_attempt(), buf_sv(&bytes), &a, &back, &err));
    assert_int_equal(back.n, 3);
    assert_int_equal(back.unknown.len, 2 * (sizeof newer - 1));
    back.n = 4;
    store_encode(store_rec_attempt(), &back, &again);
    assert_int_equal(again.len, bytes.len);

    struct store_disk d, e; /* as a part of another record */
    buf_reset(&bytes);
    store_init(store_rec_disk(), &d);
    d.attempt = back;
    store_encode(store_rec_disk(), &d, &bytes);
    check_ok(store_decode(store_rec_disk(), buf_sv(&bytes), &a, &e, &err));
    assert_int_equal(e.attempt.n, 4);
    assert_true(sv_eq(e.attempt.unknown, back.unknown));
}

/* A value of an enum that a newer version made survives, and is shown as its number. */
static void test_unknown_enum(void **state)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf bytes = {0}, text = {0};
    struct store_run_spec run, back;
    struct json_writer w = json_writer(&text);
    (void)state;
    store_init(store_rec_run_spec(), &run);
    *(unsigned *)(void *)&run.want = 77;
    store_encode(store_rec_run_spec(), &run, &bytes);
    check_ok(store_decode(store_rec_run_spec(), buf_sv(&bytes), &a, &back, &err));
    assert_int_equal((unsigned)back.want, 77);
    assert_null(store_run_want_text(back.want));
    store_to_json(store_rec_run_spec(), &back, true, &w, NULL);
    assert_non_null(strstr(buf_str(&text), "\"Want\":77"));
}

/* --- seal ----------------------------------------------------------------------------------------
 */
static void test_seal(void **state)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf bytes = {0}, again = {0};
    struct store_vch vch, back;
    struct codec_seal seal = {test_secret, SV("vch/vch")}, other = {test_secret, SV("vch/other")};
    (void)state;
    store_init(store_rec_vch(), &vch);
    vch.secret_check = SV("secret");
    codec_encode(store_rec_vch(), &vch, &seal, &bytes);
    check_ok(codec_decode(store_rec_vch(), buf_sv(&bytes), &seal, &a, &back, &err));
    assert_true(sv_is(back.secret_check, "secret"));
    /* Bound to its object; kept by who has no key. */
    check_fails(VIC_CORRUPT,
                codec_decode(store_rec_vch(), buf_sv(&bytes), &other, &a, &back, &err));
    check_ok(store_decode(store_rec_vch(), buf_sv(&bytes), &a, &back, &err));
    assert_int_equal(back.secret_check.len, 0);
    store_encode(store_rec_vch(), &back, &again);
    check_ok(codec_decode(store_rec_vch(), buf_sv(&again), &seal, &a, &back, &err));
    assert_true(sv_is(back.secret_check, "secret"));
}

/* --- differences ---------------------------------------------------------------------------------
 */
static bool join_diff(void *arg, const char *path, const char *before, const char *after)
{
    buf_addf(arg, "%s: '%s' -> '%s'\n", path, before, after);
    return true;
}

static void test_diff(void **state)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf out = {0};
    struct store_container c, d;
    (void)state;
    typical_container(&c, 1, &a);
    typical_container(&d, 1, &a);
    store_diff(store_rec_container(), &c, &d, join_diff, &out);
    assert_string_equal(buf_str(&out), "");
    d.status.phase = store_run_phase_EXITED;
    d.status.ended = 1700000001500000000;
    d.status.oom = true;
    d.config.cmd = (struct store_strs){NULL, 0};
    d.conditions.v[0].reason = "Exited";
    store_diff(store_rec_container(), &c, &d, join_diff, &out);
    assert_string_equal(buf_str(&out), "Config.Cmd: 'nginx -g daemon off;' -> ''\n"
                                       "Status.Phase: 'running' -> 'exited'\n"
                                       "Status.OOMKilled: 'false' -> 'true'\n"
                                       "Status.FinishedAt: '' -> '2023-11-14T22:13:21.5Z'\n"
                                       "Conditions[Ready].Reason: 'Running' -> 'Exited'\n");
}

/* RFC 3720, appendix B.4. */
static void test_crc32c(void **state)
{
    unsigned char bytes[48] = {0};
    (void)state;
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, 32 - cut), 0x46dd794e);
}

/* The tables' own rules: numbers and names are there once, a secret is a STR or BYTES. */
static void test_tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(recs); i++) {
        const struct store_rec *rec = recs[i]();
        for (size_t j = 0; j < rec->count; j++) {
            const struct store_field *f = &rec->fields[j];
            for (size_t k = 0; k < j; k++)
                if (rec->fields[k].number == f->number || strcmp(rec->fields[k].name, f->name) == 0)
                    fail_msg("%s.%s: a number or name is there twice", rec->name, f->name);
            if (f->flags & STORE_F_SECRET)
                assert_true(f->kind == STORE_STR || f->kind == STORE_BYTES);
            assert_true(f->since >= 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_reading),
        cmocka_unit_test(test_json_wrong),
        cmocka_unit_test(test_json_many_labels),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_unknown_enum),
        cmocka_unit_test(test_seal),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
