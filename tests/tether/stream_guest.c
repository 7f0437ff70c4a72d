/* A guest that has nothing to do but send one plain TLS stream: what tools/bench measures attach
 * against.
 *
 * It takes the tether's place in the boot image and uses its parts, so the VM, the kernel, the
 * drivers, the NIC in its own namespace, TLS and its suite are those of a container's guest; there
 * are no frames, no credits, no log and no process behind it.  It sends STREAM_BYTES zeros to
 * STREAM_PORT of the endpoint's address (stream_sink.c) and powers off. */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#include "boot.h"
#include "guestinfo.h"
#include "net.h"
#include "stream.h"

#include <arpa/inet.h>

/* "[fe80::...]:2377": the address of it, the stream's own port. */
static bool endpoint(const struct envelope *e, unsigned ifindex, struct sockaddr_in6 *to,
                     struct vic_err *err)
{
    struct sv rest = sv_of(e->endpoint);
    char host[64];
    sv_cut(&rest, '[');
    struct sv address = sv_cut(&rest, ']');
    snprintf(host, sizeof host, SV_FMT, SV_ARG(sv_sub(address, 0, 63)));
    *to = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(STREAM_PORT), .sin6_scope_id = ifindex};
    return inet_pton(AF_INET6, host, &to->sin6_addr) == 1 ||
           vic_fail(err, VIC_INVALID, 0, "endpoint %s", e->endpoint);
}

static bool send_all(int fd, struct buf *wire, struct vic_err *err)
{
    for (size_t at = 0; at < wire->len;) {
        ssize_t n = send(fd, wire->data + at, wire->len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return vic_fail_errno(err, "send");
        at += (size_t)n;
    }
    buf_reset(wire);
    return true;
}

static bool handshake(int fd, struct tls_conn *c, struct buf *wire, struct vic_err *err)
{
    AUTO_BUF struct buf plain = {0};
    char in[8192];
    if (tls_start(c, wire, err) == TLS_FAILED || !send_all(fd, wire, err))
        return false;
    while (!tls_ready(c)) {
        ssize_t n = recv(fd, in, sizeof in, 0);
        if (n <= 0)
            return vic_fail_errno(err, "receive");
        if (tls_input(c, sv_make(in, (size_t)n), &plain, wire, err) == TLS_FAILED ||
            !send_all(fd, wire, err))
            return false;
    }
    return true;
}

static bool send_stream(int fd, struct tls_conn *c, struct vic_err *err)
{
    static const char zeros[STREAM_PIECE];
    AUTO_BUF struct buf wire = {0};
    if (!handshake(fd, c, &wire, err))
        return false;
    for (int left = STREAM_BYTES; left > 0; left -= STREAM_PIECE) {
        if (tls_output(c, sv_make(zeros, sizeof zeros), &wire, err) == TLS_FAILED ||
            !send_all(fd, &wire, err))
            return false;
    }
    tls_shutdown(c, &wire);
    return send_all(fd, &wire, err);
}

static bool run(struct vic_err *err)
{
    struct guestinfo g = {.fd = -1};
    struct envelope e;
    struct net n;
    struct sockaddr_in6 to;
    unsigned char key[TLS_PSK_SIZE];
    if (!boot_mounts(err) || !boot_modules(err) || !boot_new_root(err) ||
        !guestinfo_open(&g, err) || !guestinfo_envelope(&g, &e, err) || !net_init(&n, e.mac, err) ||
        !endpoint(&e, n.ifindex, &to, err))
        return false;
    stream_key(key);
    AUTO_CLOSE int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return vic_fail_errno(err, "connect to %s", e.endpoint);
    struct tls_ctx *ctx = tls_client_psk(STREAM_IDENTITY, key, err);
    struct tls_conn *c = ctx ? tls_conn_new(ctx, NULL, err) : NULL;
    bool ok = c && send_stream(fd, c, err);
    tls_conn_free(c);
    tls_ctx_free(ctx);
    return ok;
}

int main(void)
{
    struct vic_err err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (!run(&err))
        boot_say("stream: %s", err.msg);
    boot_power_off();
    return 1;
}
