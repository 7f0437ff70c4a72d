/* The host's end of the plain stream (stream_guest.c): stream_sink ADDRESS
 *
 * Takes one TLS-PSK connection on "tcp:[fe80::...%bridge]:2379" with the hub's own means
 * (base/net), throws the bytes away and prints how many came in how many seconds, from the first to
 * the last. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/net.h"

#include "stream.h"

struct sink {
    struct loop *loop;
    struct net_stream *stream;
    int64_t first_ns, last_ns;
    uint64_t bytes;
};

static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    (void)arg;
    stream_key(key);
    return strcmp(identity, STREAM_IDENTITY) == 0;
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static void on_data(void *arg, struct sv data)
{
    struct sink *s = arg;
    s->last_ns = vic_clock_real.mono_ns(&vic_clock_real);
    if (!s->bytes)
        s->first_ns = s->last_ns;
    s->bytes += data.len;
}

static void on_eof(void *arg)
{
    struct sink *s = arg;
    printf("%llu %.6f\n", (unsigned long long)s->bytes, (double)(s->last_ns - s->first_ns) / 1e9);
    fflush(stdout);
    exit(s->bytes == STREAM_BYTES ? 0 : 1);
}

static void on_close(void *arg, const struct vic_err *err)
{
    (void)arg;
    fprintf(stderr, "stream_sink: %s\n", err ? err->msg : "closed");
    exit(1);
}

static const struct net_callbacks callbacks = {on_nothing, on_data, on_eof, on_nothing, on_close};

static void accepted(void *arg, struct net_stream *stream)
{
    struct sink *s = arg;
    if (s->stream) {
        net_close(stream);
        return;
    }
    s->stream = stream;
    net_set(stream, &callbacks, s);
}

int main(int argc, char **argv)
{
    struct vic_err err = {0};
    struct sink s = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: stream_sink ADDRESS\n");
        return 2;
    }
    const struct net_options o = {.tls = tls_server_psk(find_key, NULL, &err),
                                  .handshake_ms = 60000};
    s.loop = o.tls ? loop_new("sink", &err) : NULL;
    if (!s.loop || !net_listen(s.loop, argv[1], &o, accepted, &s, &err)) {
        fprintf(stderr, "stream_sink: %s\n", err.msg);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    loop_run(s.loop);
    return 1;
}
