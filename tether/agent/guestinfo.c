/* The guestinfo port over virtio-serial, and the envelope: see guestinfo.h. */
#include "guestinfo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#include "files.h"

enum { REPLY_MS = 5000 };

/* Bytes that a former, unfinished exchange left in the port would shift every answer by one. */
static void drain(int fd)
{
    char junk[256];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, 0) == 1 && (p.revents & POLLIN) && read(fd, junk, sizeof junk) > 0)
        continue;
}

static bool read_line(int fd, struct buf *line, struct vic_err *err)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + REPLY_MS;
    for (;;) {
        int64_t left = deadline - clock_mono_ms(&vic_clock_real);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)left) == 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "no answer on the guestinfo port");
        char c;
        ssize_t n = read(fd, &c, 1);
        if (n == 1 && c == '\n')
            return true;
        if (n == 1)
            buf_add_c(line, c);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return vic_fail(err, VIC_UNAVAILABLE, n ? errno : 0, "the guestinfo port is closed");
        if (line->len > GUESTINFO_MAX_REPLY)
            return vic_fail(err, VIC_PROTOCOL, 0, "endless answer on the guestinfo port");
    }
}

static bool call_port(struct guestinfo *g, struct sv request, struct buf *answer,
                      struct vic_err *err)
{
    AUTO_BUF struct buf line = {0};
    buf_add_sv(&line, request);
    buf_add_c(&line, '\n');
    drain(g->fd);
    if (write(g->fd, line.data, line.len) != (ssize_t)line.len)
        return vic_fail_errno(err, "write to the guestinfo port");
    return read_line(g->fd, answer, err);
}

void guestinfo_use_fd(struct guestinfo *g, int fd)
{
    *g = (struct guestinfo){.call = call_port, .fd = fd};
}

/* Finds the port by the name that its creator gave it; -1 when there is none. */
static int open_port(void)
{
    DIR *d = opendir("/sys/class/virtio-ports");
    int fd = -1;
    for (struct dirent *e; d && fd < 0 && (e = readdir(d));) {
        char path[300], name[64];
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", e->d_name);
        if (!file_read_line(path, name, sizeof name) || strcmp(name, "vic.guestinfo") != 0)
            continue;
        snprintf(path, sizeof path, "/dev/%s", e->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    if (d)
        closedir(d);
    return fd;
}

bool guestinfo_open(struct guestinfo *g, struct vic_err *err)
{
    int fd = open_port();
    if (fd < 0)
        return guestinfo_use_backdoor(g, err);
    guestinfo_use_fd(g, fd);
    return true;
}

void guestinfo_close(struct guestinfo *g)
{
    if (g->fd >= 0)
        close(g->fd);
    g->fd = -1;
}

bool guestinfo_get(struct guestinfo *g, const char *name, struct buf *value, bool *found,
                   struct vic_err *err)
{
    AUTO_BUF struct buf request = {0}, answer = {0};
    buf_addf(&request, "info-get guestinfo.vic.%s", name);
    *found = false;
    if (!g->call(g, buf_sv(&request), &answer, err))
        return vic_wrap(err, "guestinfo.vic.%s", name);
    struct sv a = buf_sv(&answer);
    if (sv_starts(a, SV("0 ")) || sv_is(a, "0"))
        return true;
    if (!sv_starts(a, SV("1 ")))
        return vic_fail(err, VIC_PROTOCOL, 0, "guestinfo.vic.%s: unexpected answer", name);
    buf_add_sv(value, sv_trim(sv_sub(a, 2, a.len)));
    *found = true;
    return true;
}

static bool get_text(struct guestinfo *g, const char *name, bool required, char *out, size_t size,
                     struct vic_err *err)
{
    AUTO_BUF struct buf value = {0};
    bool found;
    if (!guestinfo_get(g, name, &value, &found, err))
        return false;
    if (!found && required)
        return vic_fail(err, VIC_NOT_FOUND, 0, "guestinfo.vic.%s is not set", name);
    if (value.len >= size)
        return vic_fail(err, VIC_TOO_LARGE, 0, "guestinfo.vic.%s has %zu bytes", name, value.len);
    memcpy(out, buf_str(&value), value.len + 1);
    return true;
}

bool guestinfo_envelope(struct guestinfo *g, struct envelope *out, struct vic_err *err)
{
    char key[65];
    *out = (struct envelope){0};
    if (!get_text(g, "vm", true, out->vm, sizeof out->vm, err) ||
        !get_text(g, "vch", true, out->vch, sizeof out->vch, err) ||
        !get_text(g, "endpoint", true, out->endpoint, sizeof out->endpoint, err) ||
        !get_text(g, "mac", false, out->mac, sizeof out->mac, err) ||
        !get_text(g, "key", true, key, sizeof key, err))
        return false;
    bool ok = strlen(key) == 64 && hex_decode(sv_of(key), out->key);
    explicit_bzero(key, sizeof key);
    return ok || vic_fail(err, VIC_INVALID, 0, "guestinfo.vic.key is not 64 hex digits");
}
