/* Addresses and listeners of net.h.
 *
 * A unix socket's file gets its mode from the socket's inode, not from the umask of the moment
 * (which belongs to the process, not to us): fchmod before bind makes it 0600 from its first
 * instant.  A file left behind by a process that died refuses connections and is replaced; one
 * that answers is in use. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "net_priv.h"

enum { BACKLOG = 512 };

struct net_listener {
    struct loop_item item;
    struct loop *loop;
    union net_handle u;
    bool unix_socket;
    char *path; /* to be removed at the end */
    int port;
    struct net_options o;
    net_accept accept;
    void *arg;
};

/* ---- addresses ---- */

static bool parse_host(struct sv host, uint16_t port, struct net_address *out)
{
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 2];
    bool six = host.len > 1 && host.p[0] == '[' && host.p[host.len - 1] == ']';
    if (six)
        host = sv_sub(host, 1, host.len - 2);
    if (host.len >= sizeof text || memchr(host.p, '\0', host.len))
        return false;
    memcpy(text, host.p, host.len);
    text[host.len] = '\0';
    return six ? uv_ip6_addr(text, port, &out->sa.in6) == 0
               : uv_ip4_addr(text, port, &out->sa.in) == 0;
}

bool net_address_parse(const char *text, struct net_address *out, struct vic_err *err)
{
    struct sv rest = sv_of(text);
    struct sv scheme = sv_cut(&rest, ':');
    uint64_t port;
    memset(out, 0, sizeof *out);
    if (sv_is(scheme, "unix") && rest.len) {
        if (rest.len >= sizeof out->sa.un.sun_path)
            return vic_fail(err, VIC_INVALID, 0, "socket path %s has more than %zu bytes", rest.p,
                            sizeof out->sa.un.sun_path - 1);
        out->is_unix = true;
        out->sa.un.sun_family = AF_UNIX;
        memcpy(out->sa.un.sun_path, rest.p, rest.len);
        return true;
    }
    ptrdiff_t colon = sv_rfind(rest, ':');
    if (sv_is(scheme, "tcp") && colon > 0 &&
        sv_to_u64(sv_sub(rest, (size_t)colon + 1, SIZE_MAX), &port) && port <= UINT16_MAX &&
        parse_host(sv_sub(rest, 0, (size_t)colon), (uint16_t)port, out))
        return true;
    return vic_fail(err, VIC_INVALID, 0, "bad address \"%s\": want unix:/path or tcp:ADDRESS:PORT",
                    text);
}

char *net_address_peer(int fd)
{
    struct net_address a = {0};
    socklen_t size = sizeof a.sa;
    char host[INET6_ADDRSTRLEN] = "";
    if (getpeername(fd, &a.sa.any, &size) != 0)
        return NULL;
    if (a.sa.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a.sa.in.sin_addr, host, sizeof host);
        return xasprintf("tcp:%s:%u", host, ntohs(a.sa.in.sin_port));
    }
    if (a.sa.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a.sa.in6.sin6_addr, host, sizeof host);
        return xasprintf("tcp:[%s]:%u", host, ntohs(a.sa.in6.sin6_port));
    }
    struct ucred who = {.pid = 0, .uid = (uid_t)-1};
    size = sizeof who;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size);
    return xasprintf("unix:pid=%ld,uid=%lu", (long)who.pid, (unsigned long)who.uid);
}

/* ---- listeners ---- */

static void on_closed(uv_handle_t *h)
{
    struct net_listener *n = h->data;
    free(n->path);
    free(n);
}

static void end_item(struct loop_item *item)
{
    struct net_listener *n = CONTAINER_OF(item, struct net_listener, item);
    loop_item_remove(n->loop, &n->item);
    if (n->path)
        unlink(n->path);
    uv_close(&n->u.handle, on_closed);
}

void net_listener_free(struct net_listener *n)
{
    if (n)
        end_item(&n->item);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct net_listener *n = server->data;
    if (status < 0)
        return; /* out of descriptors: libuv has turned the client away */
    struct net_stream *s = net_stream_new(n->loop, n->unix_socket, true);
    if (uv_accept(server, &s->u.stream) != 0) {
        net_abort(s);
        return;
    }
    uv_os_fd_t fd;
    s->peer = uv_fileno(&s->u.handle, &fd) == 0 ? net_address_peer(fd) : NULL;
    n->accept(n->arg, s);
    if (!s->dead && !s->closing)
        net_stream_begin(s, &n->o, false);
}

/* Is the file a socket that nobody serves any more? */
static bool stale(const struct sockaddr_un *un)
{
    struct stat st;
    if (lstat(un->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)un, sizeof *un) != 0 &&
           errno == ECONNREFUSED;
}

static bool bind_unix(struct net_listener *n, const struct sockaddr_un *un, struct vic_err *err)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || fchmod(fd, 0600) != 0)
        return vic_fail_errno(err, "make a unix socket");
    int r = bind(fd, (const struct sockaddr *)un, sizeof *un);
    if (r != 0 && errno == EADDRINUSE && stale(un) && unlink(un->sun_path) == 0)
        r = bind(fd, (const struct sockaddr *)un, sizeof *un);
    if (r != 0)
        return vic_fail_errno(err, "listen on %s", un->sun_path);
    n->path = xstrdup(un->sun_path);
    r = uv_pipe_open(&n->u.pipe, fd);
    if (r != 0)
        return vic_fail(err, VIC_IO, -r, "listen on %s", un->sun_path);
    TAKE_FD(fd);
    return true;
}

static bool bind_tcp(struct net_listener *n, const struct net_address *a, struct vic_err *err)
{
    struct net_address got = {0};
    int size = sizeof got.sa;
    int r = uv_tcp_bind(&n->u.tcp, &a->sa.any, 0);
    if (r == 0)
        r = uv_tcp_getsockname(&n->u.tcp, &got.sa.any, &size);
    if (r != 0)
        return vic_fail(err, vic_code_of_errno(-r), -r, "bind");
    n->port = ntohs(got.sa.any.sa_family == AF_INET6 ? got.sa.in6.sin6_port : got.sa.in.sin_port);
    return true;
}

static struct net_listener *listener_new(struct loop *l, bool unix_socket)
{
    struct net_listener *n = xcalloc(1, sizeof *n);
    n->loop = l;
    n->unix_socket = unix_socket;
    if (unix_socket)
        uv_pipe_init(loop_uv(l), &n->u.pipe, 0);
    else
        uv_tcp_init(loop_uv(l), &n->u.tcp);
    n->u.handle.data = n;
    loop_item_add(l, &n->item, LOOP_IO, end_item);
    return n;
}

struct net_listener *net_listen(struct loop *l, const char *address, const struct net_options *o,
                                net_accept accept, void *arg, struct vic_err *err)
{
    struct net_address a;
    if (!net_address_parse(address, &a, err))
        return NULL;
    struct net_listener *n = listener_new(l, a.is_unix);
    if (o)
        n->o = *o;
    n->accept = accept;
    n->arg = arg;
    bool ok = a.is_unix ? bind_unix(n, &a.sa.un, err) : bind_tcp(n, &a, err);
    if (ok) {
        int r =
            uv_listen(&n->u.stream, (int)(n->o.backlog ? n->o.backlog : BACKLOG), on_connection);
        ok = r == 0 || vic_fail(err, vic_code_of_errno(-r), -r, "listen");
    }
    if (ok)
        return n;
    if (!a.is_unix)
        vic_wrap(err, "%s", address);
    net_listener_free(n);
    return NULL;
}

int net_listener_port(const struct net_listener *n)
{
    return n->port;
}
