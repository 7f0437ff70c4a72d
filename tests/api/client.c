/* See client.h. */
#include "client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

enum { PATIENCE_MS = 60000 };

bool client_open(struct client *c, const char *socket_path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    *c = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (c->fd < 0 || strlen(socket_path) >= sizeof a.sun_path)
        return false;
    memcpy(a.sun_path, socket_path, strlen(socket_path) + 1);
    return connect(c->fd, (const struct sockaddr *)&a, sizeof a) == 0;
}

void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->in);
    c->fd = -1;
}

static bool write_all(int fd, struct sv s)
{
    while (s.len) {
        ssize_t n = send(fd, s.p, s.len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        s = sv_sub(s, (size_t)n, SIZE_MAX);
    }
    return true;
}

bool client_send(struct client *c, const char *method, const char *target, const char *headers,
                 const char *body)
{
    AUTO_BUF struct buf out = {0};
    buf_addf(&out, "%s %s HTTP/1.1\r\nHost: docker\r\n", method, target);
    buf_add_str(&out, headers ? headers : "");
    if (body) {
        buf_addf(&out, "Content-Length: %zu\r\n", strlen(body));
        if (!headers || !strcasestr(headers, "content-type:"))
            buf_add_str(&out, "Content-Type: application/json\r\n");
    }
    buf_add_str(&out, "\r\n");
    buf_add_str(&out, body ? body : "");
    return write_all(c->fd, buf_sv(&out));
}

bool client_readable(struct client *c, int ms)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    return c->in.len > 0 || poll(&p, 1, ms) > 0;
}

static bool more(struct client *c)
{
    char bytes[65536];
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (poll(&p, 1, PATIENCE_MS) <= 0)
        return false;
    ssize_t n = read(c->fd, bytes, sizeof bytes);
    if (n > 0)
        buf_add(&c->in, bytes, (size_t)n);
    return n > 0;
}

static bool take_until(struct client *c, const char *mark, struct buf *out)
{
    const char *end;
    while (!(end = c->in.len ? memmem(c->in.data, c->in.len, mark, strlen(mark)) : NULL))
        if (!more(c))
            return false;
    size_t len = (size_t)(end - c->in.data) + strlen(mark);
    buf_add(out, c->in.data, len);
    buf_consume(&c->in, len);
    return true;
}

static bool take(struct client *c, size_t len, struct buf *out)
{
    while (c->in.len < len)
        if (!more(c))
            return false;
    buf_add(out, c->in.data, len);
    buf_consume(&c->in, len);
    return true;
}

bool client_head(struct client *c, struct answer *a)
{
    *a = (struct answer){0};
    if (!take_until(c, "\r\n\r\n", &a->head))
        return false;
    uint64_t status = 0;
    sv_to_u64(sv_sub(buf_sv(&a->head), 9, 3), &status);
    a->status = (int)status;
    return true;
}

bool client_chunk(struct client *c, struct buf *out, bool *end)
{
    AUTO_BUF struct buf line = {0};
    AUTO_BUF struct buf crlf = {0};
    uint64_t size;
    if (!take_until(c, "\r\n", &line) ||
        !sv_hex_to_u64(sv_trim(sv_sub(buf_sv(&line), 0, line.len - 2)), &size))
        return false;
    *end = size == 0;
    return take(c, (size_t)size, out) && take(c, 2, &crlf);
}

const char *answer_header(const struct answer *a, const char *name, struct buf *store)
{
    struct sv rest = buf_sv(&a->head);
    buf_reset(store);
    while (rest.p && rest.len) {
        struct sv value = sv_cut(&rest, '\n'), key = sv_cut(&value, ':');
        if (value.p && sv_eq_nocase(key, sv_of(name))) {
            buf_add_sv(store, sv_trim(value));
            return buf_str(store);
        }
    }
    return "";
}

bool client_read(struct client *c, struct answer *a, bool head_only)
{
    AUTO_BUF struct buf value = {0};
    bool end = false;
    if (!client_head(c, a))
        return false;
    if (head_only || a->status == 204 || a->status == 304)
        return true;
    if (strcmp(answer_header(a, "Transfer-Encoding", &value), "chunked") == 0) {
        while (!end)
            if (!client_chunk(c, &a->body, &end))
                return false;
        return true;
    }
    uint64_t len = 0;
    sv_to_u64(sv_of(answer_header(a, "Content-Length", &value)), &len);
    return take(c, (size_t)len, &a->body);
}

void answer_fini(struct answer *a)
{
    buf_fini(&a->head);
    buf_fini(&a->body);
}

int request(const char *socket_path, const char *method, const char *target, const char *body,
            struct buf *out)
{
    struct client c;
    struct answer a = {0};
    int status = -1;
    if (client_open(&c, socket_path) && client_send(&c, method, target, NULL, body) &&
        client_read(&c, &a, strcmp(method, "HEAD") == 0))
        status = a.status;
    if (out) {
        buf_reset(out);
        buf_add_sv(out, buf_sv(&a.body));
    }
    answer_fini(&a);
    client_close(&c);
    return status;
}
