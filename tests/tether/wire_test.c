/* Frames: what is put is taken, and whatever is not a frame is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tether/wire.h"

static struct wire_frame take(struct buf *b)
{
    struct wire_frame f = {0};
    size_t used;
    struct vic_err err = {0};
    assert_true(wire_take(buf_sv(b), &f, &used, &err));
    assert_int_equal(used, b->len);
    return f;
}

static void round_trip_of_every_payload(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    struct vic_err err;
    wire_put(&b, WIRE_HELLO, 0, SV("{}"));
    struct wire_frame f = take(&b);
    assert_int_equal(f.type, WIRE_HELLO);
    assert_true(sv_is(f.payload, "{}"));

    buf_reset(&b);
    struct wire_log in = {UINT64_MAX, -5, 2, WIRE_LOG_PARTIAL, SV("line")}, out;
    wire_put_log(&b, &in);
    assert_true(wire_take_log(take(&b).payload, &out, &err));
    assert_true(out.seq == in.seq && out.time_ns == -5 && out.stream == 2 && out.flags == 1);
    assert_true(sv_is(out.bytes, "line"));

    buf_reset(&b);
    uint64_t n, nonce;
    wire_put_u64(&b, WIRE_LOG_ACK, 0x0102030405060708);
    assert_true(wire_take_u64(take(&b).payload, &n, &err));
    assert_true(n == 0x0102030405060708);

    buf_reset(&b);
    int64_t wall;
    wire_put_ping(&b, WIRE_PING, 7, -1);
    assert_true(wire_take_ping(take(&b).payload, &nonce, &wall, &err));
    assert_true(nonce == 7 && wall == -1);

    buf_reset(&b);
    uint8_t channel;
    struct sv bytes;
    wire_put_data(&b, 9, 1, SV("abc"));
    f = take(&b);
    assert_int_equal(f.stream, 9);
    assert_true(wire_take_data(f.payload, &channel, &bytes, &err));
    assert_true(channel == 1 && sv_is(bytes, "abc"));

    buf_reset(&b);
    uint32_t more;
    wire_put_credit(&b, 3, 2, 70000);
    assert_true(wire_take_credit(take(&b).payload, &channel, &more, &err));
    assert_true(channel == 2 && more == 70000);

    buf_reset(&b);
    uint16_t rows, cols;
    wire_put_resize(&b, 3, 24, 65535);
    assert_true(wire_take_resize(take(&b).payload, &rows, &cols, &err));
    assert_true(rows == 24 && cols == 65535);

    buf_reset(&b);
    wire_put_eof(&b, 3, 0);
    assert_true(wire_take_data(take(&b).payload, &channel, &bytes, &err));
    assert_true(channel == 0 && bytes.len == 0);
}

static void partial_input_waits(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    wire_put(&b, WIRE_STATUS, 0, SV("0123456789"));
    for (size_t len = 0; len < b.len; len++) {
        struct wire_frame f;
        size_t used = 99;
        assert_true(wire_take(sv_make(b.data, len), &f, &used, NULL));
        assert_int_equal(used, 0);
    }
}

static void bad_frames_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        bool ok;
    } rows[] = {
        {"\x01\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", true},
        {"\x01\x80\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", false}, /* reserved */
        {"\x01\x80\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00", false}, /* 65537 */
        {"\x01\x80\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", false},
        {"\xee\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", false}, /* unknown, must */
        {"\xee\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", true},  /* unknown, may */
        {"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wire_frame f;
        size_t used;
        struct vic_err err = {0};
        assert_int_equal(wire_take(sv_make(rows[i].head, 12), &f, &used, &err), rows[i].ok);
        if (!rows[i].ok)
            assert_int_equal(err.code, VIC_PROTOCOL);
    }
}

static void limits_hold_when_writing(void **state)
{
    (void)state;
    static char big[WIRE_MAX_PAYLOAD + 1];
    AUTO_BUF struct buf b = {0};
    wire_put(&b, WIRE_CONFIG, 0, sv_make(big, sizeof big - 1));
    assert_false(b.failed);
    wire_put(&b, WIRE_CONFIG, 0, sv_make(big, sizeof big));
    assert_true(b.failed);
    buf_reset(&b);
    wire_put_data(&b, 1, 0, sv_make(big, WIRE_MAX_PAYLOAD)); /* one too many with its channel */
    assert_true(b.failed);
    buf_reset(&b);
    wire_put_log(&b, &(struct wire_log){1, 1, 1, 0, sv_make(big, WIRE_MAX_LOG + 1)});
    assert_true(b.failed);
}

static void short_payloads_are_refused(void **state)
{
    (void)state;
    struct wire_log log;
    uint64_t n;
    int64_t t;
    uint8_t c;
    uint16_t r;
    uint32_t m;
    struct sv s;
    struct vic_err err;
    assert_false(wire_take_log(SV("0123456789012345\x01"), &log, &err));
    assert_false(wire_take_log(SV("0123456789012345\x03\x00"), &log, &err));
    assert_false(wire_take_u64(SV("1234567"), &n, &err));
    assert_false(wire_take_ping(SV("123456789012345"), &n, &t, &err));
    assert_false(wire_take_data(SV(""), &c, &s, &err));
    assert_false(wire_take_data(SV("\x03x"), &c, &s, &err));
    assert_false(wire_take_credit(SV("\x00"
                                     "123"),
                                  &c, &m, &err));
    assert_false(wire_take_resize(SV("123"), &r, &r, &err));
}

static void identities_and_addresses(void **state)
{
    (void)state;
    char id[96], vm[65], address[64];
    unsigned n;
    wire_identity("0123456789abcdef0123456789abcdef", 2, id);
    assert_string_equal(id, "0123456789abcdef0123456789abcdef/2");
    assert_true(wire_parse_identity(id, vm, &n));
    assert_string_equal(vm, "0123456789abcdef0123456789abcdef");
    assert_int_equal(n, 2);
    static const char *const bad[] = {"",
                                      "/1",
                                      "a",
                                      "a/",
                                      "a/x",
                                      "a/-1",
                                      "a/99999999999",
                                      "12345678901234567890123456789012345678901234567890123456789"
                                      "012345/1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(wire_parse_identity(bad[i], vm, &n));
    wire_endpoint_address("abc", address); /* SHA-256("abc") = ba7816bf 8f01cfea ... */
    assert_string_equal(address, "fe80::ba78:16bf:8f01:cfea");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_of_every_payload), cmocka_unit_test(partial_input_waits),
        cmocka_unit_test(bad_frames_are_refused),      cmocka_unit_test(limits_hold_when_writing),
        cmocka_unit_test(short_payloads_are_refused),  cmocka_unit_test(identities_and_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
