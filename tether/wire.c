/* The codec of the channel's frames: see wire.h for the protocol.
 *
 * Writing goes straight into a struct buf: a frame's header is 12 bytes, so it is written before
 * the payload and nothing is patched afterwards.  Reading never copies: a frame borrows from the
 * receiver's input buffer, and every length is checked before a byte behind it is looked at. */
#include "tether/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/tls.h"

enum { DATA_HEADER = 1, LOG_HEADER = 18, CREDIT_SIZE = 5, PING_SIZE = 16, RESIZE_SIZE = 4 };

static uint64_t get_le(const char *p, unsigned bytes)
{
    uint64_t n = 0;
    for (unsigned i = bytes; i-- > 0;)
        n = n << 8 | (unsigned char)p[i];
    return n;
}

static bool put_header(struct buf *out, enum wire_type type, uint32_t stream, size_t len)
{
    if (len > WIRE_MAX_PAYLOAD) {
        out->failed = true;
        return false;
    }
    /* A peer that does not know one of our types may not go on as if it had understood it. */
    buf_add_le(out, (uint64_t)type, 1);
    buf_add_le(out, WIRE_F_MUST, 1);
    buf_add_le(out, 0, 2);
    buf_add_le(out, stream, 4);
    buf_add_le(out, len, 4);
    return !out->failed;
}

void wire_put(struct buf *out, enum wire_type type, uint32_t stream, struct sv payload)
{
    if (put_header(out, type, stream, payload.len))
        buf_add_sv(out, payload);
}

bool wire_take(struct sv in, struct wire_frame *out, size_t *used, struct vic_err *err)
{
    *used = 0;
    if (in.len < WIRE_HEADER)
        return true;
    unsigned type = (unsigned char)in.p[0];
    uint8_t flags = (uint8_t)in.p[1];
    uint64_t len = get_le(in.p + 8, 4);
    if (get_le(in.p + 2, 2) != 0)
        return vic_fail(err, VIC_PROTOCOL, 0, "frame of type %u: reserved bytes are not zero",
                        type);
    if (len > WIRE_MAX_PAYLOAD)
        return vic_fail(err, VIC_PROTOCOL, 0,
                        "frame of type %u: %" PRIu64 " bytes is over the limit", type, len);
    if ((type == 0 || type >= WIRE_TYPES) && (flags & WIRE_F_MUST))
        return vic_fail(err, VIC_PROTOCOL, 0, "frame of unknown type %u", type);
    if (in.len - WIRE_HEADER < len)
        return true;
    out->type = (enum wire_type)type;
    out->flags = flags;
    out->stream = (uint32_t)get_le(in.p + 4, 4);
    out->payload = sv_make(in.p + WIRE_HEADER, (size_t)len);
    *used = WIRE_HEADER + (size_t)len;
    return true;
}

static bool need(struct sv payload, size_t min, size_t max, const char *what, struct vic_err *err)
{
    if (payload.len >= min && payload.len <= max)
        return true;
    return vic_fail(err, VIC_PROTOCOL, 0, "%s frame with %zu bytes", what, payload.len);
}

void wire_put_log(struct buf *out, const struct wire_log *log)
{
    if (log->bytes.len > WIRE_MAX_LOG)
        out->failed = true;
    else if (put_header(out, WIRE_LOG, 0, LOG_HEADER + log->bytes.len)) {
        buf_add_le(out, log->seq, 8);
        buf_add_le(out, (uint64_t)log->time_ns, 8);
        buf_add_le(out, log->stream, 1);
        buf_add_le(out, log->flags, 1);
        buf_add_sv(out, log->bytes);
    }
}

bool wire_take_log(struct sv payload, struct wire_log *out, struct vic_err *err)
{
    if (!need(payload, LOG_HEADER, LOG_HEADER + WIRE_MAX_LOG, "LOG", err))
        return false;
    out->seq = get_le(payload.p, 8);
    out->time_ns = (int64_t)get_le(payload.p + 8, 8);
    out->stream = (uint8_t)payload.p[16];
    out->flags = (uint8_t)payload.p[17];
    out->bytes = sv_sub(payload, LOG_HEADER, payload.len);
    if (out->stream < 1 || out->stream > 2)
        return vic_fail(err, VIC_PROTOCOL, 0, "LOG frame of stream %u", out->stream);
    return true;
}

void wire_put_u64(struct buf *out, enum wire_type type, uint64_t n)
{
    if (put_header(out, type, 0, 8))
        buf_add_le(out, n, 8);
}

bool wire_take_u64(struct sv payload, uint64_t *n, struct vic_err *err)
{
    if (!need(payload, 8, 8, "LOG_ACK", err))
        return false;
    *n = get_le(payload.p, 8);
    return true;
}

void wire_put_ping(struct buf *out, enum wire_type type, uint64_t nonce, int64_t wall_ns)
{
    if (put_header(out, type, 0, PING_SIZE)) {
        buf_add_le(out, nonce, 8);
        buf_add_le(out, (uint64_t)wall_ns, 8);
    }
}

bool wire_take_ping(struct sv payload, uint64_t *nonce, int64_t *wall_ns, struct vic_err *err)
{
    if (!need(payload, PING_SIZE, PING_SIZE, "PING", err))
        return false;
    *nonce = get_le(payload.p, 8);
    *wall_ns = (int64_t)get_le(payload.p + 8, 8);
    return true;
}

void wire_put_data(struct buf *out, uint32_t stream, uint8_t channel, struct sv bytes)
{
    if (put_header(out, WIRE_DATA, stream, DATA_HEADER + bytes.len)) {
        buf_add_le(out, channel, 1);
        buf_add_sv(out, bytes);
    }
}

bool wire_take_data(struct sv payload, uint8_t *channel, struct sv *bytes, struct vic_err *err)
{
    if (!need(payload, DATA_HEADER, WIRE_MAX_PAYLOAD, "DATA", err))
        return false;
    *channel = (uint8_t)payload.p[0];
    *bytes = sv_sub(payload, DATA_HEADER, payload.len);
    if (*channel > 2)
        return vic_fail(err, VIC_PROTOCOL, 0, "DATA or EOF frame of channel %u", *channel);
    return true;
}

void wire_put_credit(struct buf *out, uint32_t stream, uint8_t channel, uint32_t bytes)
{
    if (put_header(out, WIRE_CREDIT_MORE, stream, CREDIT_SIZE)) {
        buf_add_le(out, channel, 1);
        buf_add_le(out, bytes, 4);
    }
}

bool wire_take_credit(struct sv payload, uint8_t *channel, uint32_t *bytes, struct vic_err *err)
{
    if (!need(payload, CREDIT_SIZE, CREDIT_SIZE, "CREDIT", err))
        return false;
    *channel = (uint8_t)payload.p[0];
    *bytes = (uint32_t)get_le(payload.p + 1, 4);
    if (*channel > 2)
        return vic_fail(err, VIC_PROTOCOL, 0, "CREDIT frame of channel %u", *channel);
    return true;
}

void wire_put_eof(struct buf *out, uint32_t stream, uint8_t channel)
{
    if (put_header(out, WIRE_EOF, stream, 1))
        buf_add_le(out, channel, 1);
}

void wire_put_resize(struct buf *out, uint32_t stream, uint16_t rows, uint16_t cols)
{
    if (put_header(out, WIRE_RESIZE, stream, RESIZE_SIZE)) {
        buf_add_le(out, rows, 2);
        buf_add_le(out, cols, 2);
    }
}

bool wire_take_resize(struct sv payload, uint16_t *rows, uint16_t *cols, struct vic_err *err)
{
    if (!need(payload, RESIZE_SIZE, RESIZE_SIZE, "RESIZE", err))
        return false;
    *rows = (uint16_t)get_le(payload.p, 2);
    *cols = (uint16_t)get_le(payload.p + 2, 2);
    return true;
}

void wire_endpoint_address(const char *vch_id, char out[64])
{
    unsigned char h[32];
    sha256_of(vch_id, strlen(vch_id), h);
    /* As inet_ntop would write it, less its "::" for runs of zero groups, which every reader of
     * the address takes as well. */
    snprintf(out, 64, "fe80::%x:%x:%x:%x", h[0] << 8 | h[1], h[2] << 8 | h[3], h[4] << 8 | h[5],
             h[6] << 8 | h[7]);
}

void wire_identity(const char *vm, unsigned n, char out[96])
{
    snprintf(out, 96, "%.64s/%u", vm, n);
}

bool wire_parse_identity(const char *identity, char vm[65], unsigned *n)
{
    struct sv rest = sv_of(identity);
    struct sv id = sv_cut(&rest, '/');
    uint64_t number;
    if (id.len == 0 || id.len > 64 || !sv_to_u64(rest, &number) || number > UINT32_MAX)
        return false;
    memcpy(vm, id.p, id.len);
    vm[id.len] = '\0';
    *n = (unsigned)number;
    return true;
}
