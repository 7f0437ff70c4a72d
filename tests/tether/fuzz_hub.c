/* Bytes of a guest whose key was proved: the hub's frames, from HELLO to streams.
 *
 * The first byte chooses what the engine did before (how many streams it opened, whether a CONFIG
 * was sent, how the bytes are cut); the rest is what the guest sends.  Half-way the engine reads,
 * writes, frees a stream.  No socket: output is thrown away. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS = 3 };

static bool key_of(void *arg, const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE])
{
    (void)arg, (void)vm;
    memset(out, (int)n, TLS_PSK_SIZE);
    return true;
}

static void on_guest(void *arg, const char *vm)
{
    struct hub *const *h = arg;
    struct hub_guest g;
    if (hub_guest(*h, vm, &g) && (strlen(g.container) > 64 || strlen(g.boot) > 39 ||
                                  strpbrk(g.container, "/.\\") || strpbrk(g.boot, "/.\\")))
        abort();
}

static void on_log(void *arg, const char *vm, const char *container, const char *boot, uint64_t seq,
                   int64_t time_ns, unsigned stream, bool partial, struct sv bytes)
{
    struct hub *const *h = arg;
    (void)time_ns, (void)partial;
    if (!*container || bytes.len > WIRE_MAX_LOG || stream < 1 || stream > 2)
        abort();
    if (seq % 2)
        hub_log_ack(*h, vm, boot, seq);
}

static const struct hub_callbacks callbacks = {.on_guest = on_guest, .on_log = on_log};

static void use_streams(struct hub_stream *streams[STREAMS])
{
    for (unsigned i = 0; i < STREAMS; i++) {
        AUTO_BUF struct buf out = {0};
        struct hub_stream_status st;
        if (!streams[i])
            continue;
        hub_stream_status(streams[i], &st);
        if (st.readable[1] > WIRE_CREDIT || st.readable[2] > WIRE_CREDIT || st.readable[0])
            abort();
        hub_stream_read(streams[i], 1, &out, 1 + i * 1000);
        hub_stream_read(streams[i], 2, &out, SIZE_MAX);
        hub_stream_write(streams[i], SV("to the guest"));
    }
    hub_stream_free(TAKE(streams[0]));
}

static bool feed(struct conn *c, const uint8_t *data, size_t size, size_t step)
{
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        if (!conn_input(c, sv_make(data + at, n), NULL))
            return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = "{\"proto\":1,\"vm\":\"vm1\",\"boot\":\"b1\",\"role\":\"none\"}";
    static const char config[] =
        "{\"gen\":2,\"role\":\"run\",\"spec\":{\"container\":\"c1\",\"seq\":3,\"rev\":9}}";
    if (size < 1)
        return 0;
    struct loop *loop = loop_new("fuzz", NULL);
    if (!loop)
        abort();
    unsigned how = data[0];
    struct hub *h = NULL;
    struct hub_options o = {.loop = loop, .cb = &callbacks, .arg = &h, .key = key_of};
    struct hub_stream *streams[STREAMS] = {0};
    h = hub_new(&o, NULL);
    struct conn *c = conn_new(h, NULL);
    memcpy(c->vm, "vm1", 4);
    c->state = CONN_HELLO;
    bool ok = true;
    if (how & 1) {
        AUTO_BUF struct buf b = {0};
        wire_put(&b, WIRE_HELLO, 0, sv_of(hello));
        ok = conn_input(c, buf_sv(&b), NULL);
        if (!ok)
            abort();
        for (unsigned i = 0; i < (how >> 1) % (STREAMS + 1); i++)
            streams[i] = hub_open(h, "vm1", SV("{\"kind\":\"exec\"}"), NULL, NULL, NULL);
        if ((how & 8) && !hub_config(h, "vm1", sv_of(config), NULL))
            abort();
    }
    size_t step = how & 16 ? 7 : how & 32 ? 100 : SIZE_MAX / 2;
    size_t half = how & 64 && size > 2 ? size / 2 : 1;
    ok = feed(c, data + 1, half - 1, step);
    use_streams(streams);
    ok = ok && feed(c, data + half, size - half, step);
    struct vic_err err;
    vic_fail(&err, VIC_PROTOCOL, 0, "the input's end");
    conn_end(c, ok ? NULL : &err);
    hub_work(h);
    for (unsigned i = 0; i < STREAMS; i++)
        hub_stream_free(streams[i]);
    conn_free(c);
    loop_stop(loop);
    loop_run(loop); /* only what was posted */
    hub_free(h);
    loop_free(loop);
    return 0;
}
