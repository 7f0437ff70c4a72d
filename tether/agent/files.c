/* Small whole files: see files.h. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

bool file_read_line(const char *path, char *out, size_t size)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (n < 0)
        return false;
    out[n] = '\0';
    char *end = strchr(out, '\n');
    if (end)
        *end = '\0';
    return end || (size_t)n < size - 1;
}

bool fd_read_all(int fd, size_t max, struct buf *out, struct vic_err *err)
{
    char chunk[4096];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vic_fail_errno(err, "read");
        if (n == 0)
            return true;
        if (out->len + (size_t)n > max)
            return vic_fail(err, VIC_TOO_LARGE, 0, "more than %zu bytes", max);
        buf_add(out, chunk, (size_t)n);
    }
}

bool file_read(const char *path, size_t max, struct buf *out, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vic_fail_errno(err, "open %s", path);
    return fd_read_all(fd, max, out, err) || vic_wrap(err, "%s", path);
}

bool file_set(const char *path, const char *value, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return vic_fail_errno(err, "open %s", path);
    ssize_t len = (ssize_t)strlen(value);
    return write(fd, value, (size_t)len) == len || vic_fail_errno(err, "write %s", path);
}

bool fd_write_all(int fd, const void *p, size_t len, struct vic_err *err)
{
    const char *at = p;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vic_fail_errno(err, "write");
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool file_replace(int dirfd, const char *name, struct sv bytes, mode_t mode, struct vic_err *err)
{
    char temporary[256];
    snprintf(temporary, sizeof temporary, "%.200s.new", name);
    AUTO_CLOSE int fd =
        openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return vic_fail_errno(err, "create %s", temporary);
    if (!fd_write_all(fd, bytes.p, bytes.len, err))
        return vic_wrap(err, "%s", temporary);
    if (fchmod(fd, mode) != 0 || fsync(fd) != 0 || renameat(dirfd, temporary, dirfd, name) != 0 ||
        fsync(dirfd) != 0)
        return vic_fail_errno(err, "replace %s", name);
    return true;
}
