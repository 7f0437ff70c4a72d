/* An archive that is compressed as a whole: docker save ... | gzip | docker load.
 *
 * A child (api/inflate/: vic-inflate) decompresses; it may read, write and exit, nothing else.  One
 * socket is both its standard input and output.  The load's thread does both ends: it gives input
 * when the child has room and takes output when there is some, so neither waits for the other in a
 * ring.  When the child has ended it must have ended well, or the archive is refused. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/proc.h"

#include "load.h"

enum { PIECE = 65536, END_MS = 10000 };

struct inflate {
    int fd;
    pid_t pid; /* 0: it has been waited for */
    const char *format;
    inflate_feed feed;
    void *arg;
    char in[PIECE]; /* given by 'feed', not yet taken by the child */
    size_t from, to;
    bool fed, ended; /* no more input; the child has ended well */
};

/* "gzip" is answered by vic-inflate's exit status (enum outcome). */
static bool judge(struct inflate *z, int status, struct vic_err *err)
{
    static const char *const why[] = {
        [0] = NULL,
        [1] = "the decompressor could not start",
        [2] = "the compressed bytes are malformed",
        [3] = "the archive is truncated: the compressed stream has no end",
        [4] =
            "it needs more memory than decompression may have (zstd: a window of 128 MiB at most)",
        [5] = "the decompressor could not read or write",
    };
    unsigned code = WIFEXITED(status) ? (unsigned)WEXITSTATUS(status) : 1;
    z->ended = WIFEXITED(status) && code == 0;
    if (z->ended)
        return true;
    if (!WIFEXITED(status))
        return vic_fail(err, VIC_INVALID, 0, "%s archive: the decompressor was killed by signal %d",
                        z->format, WTERMSIG(status));
    return vic_fail(err, code >= 2 && code <= 4 ? VIC_INVALID : VIC_IO, 0, "%s archive: %s",
                    z->format, why[code < ARRAY_LEN(why) ? code : 1]);
}

static bool finish(struct inflate *z, struct vic_err *err)
{
    int status;
    if (!z->pid)
        return z->ended;
    if (!proc_wait(z->pid, END_MS, &status, err))
        return vic_wrap(err, "wait for the decompressor");
    z->pid = 0;
    return judge(z, status, err);
}

/* --- starting -------------------------------------------------------------------------------- */
static bool find_program(const struct api_options *o, char path[4096], struct vic_err *err)
{
    if (o->inflate) {
        snprintf(path, 4096, "%s", o->inflate);
        return true;
    }
    ssize_t n = readlink("/proc/self/exe", path, 4000);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (!slash)
        return vic_fail_errno(err, "find the running program");
    snprintf(slash + 1, 64, "vic-inflate");
    return true;
}

static bool spawn(struct inflate *z, const char *program, struct vic_err *err)
{
    int pair[2];
    const char *const argv[] = {program, z->format, NULL};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return vic_fail_errno(err, "make a socket");
    AUTO_CLOSE int theirs = pair[1];
    z->fd = pair[0];
    const struct proc_spec spec = {.argv = argv,
                                   .cwd = "/",
                                   .stdin_fd = theirs,
                                   .stdout_fd = theirs,
                                   .stderr_fd = -1,
                                   .die_with_parent = true};
    return fcntl(z->fd, F_SETFL, O_NONBLOCK) == 0 ? proc_spawn(&spec, &z->pid, err)
                                                  : vic_fail_errno(err, "make a socket");
}

struct inflate *inflate_start(const struct api_options *o, const char *format, inflate_feed feed,
                              void *arg, struct vic_err *err)
{
    char program[4096];
    struct vic_err why = {0};
    if (strcmp(format, "gzip") != 0 && strcmp(format, "zstd") != 0) {
        vic_fail(err, VIC_INVALID, 0,
                 "the archive is compressed with %s: decompress it first (%s -d)", format, format);
        return NULL;
    }
    if (!find_program(o, program, err))
        return NULL;
    struct inflate *z = xcalloc(1, sizeof *z);
    *z = (struct inflate){.fd = -1, .format = format, .feed = feed, .arg = arg};
    if (spawn(z, program, &why))
        return z;
    inflate_free(z);
    vic_fail(err, VIC_UNSUPPORTED, 0,
             "the archive is compressed with %s and its decompressor cannot be started (%.200s): "
             "decompress it first (%s -d)",
             format, why.msg, format);
    return NULL;
}

void inflate_free(struct inflate *z)
{
    int status;
    if (!z)
        return;
    if (z->fd >= 0)
        close(z->fd);
    if (z->pid) {
        kill(z->pid, SIGKILL);
        if (!proc_wait(z->pid, END_MS, &status, NULL))
            z->pid = 0;
    }
    free(z);
}

/* --- bytes ----------------------------------------------------------------------------------- */
/* The child has room: gives it what is there, or fetches more.  A child that ended early is found
 * out by reading. */
static bool give(struct inflate *z, struct vic_err *err)
{
    if (z->from == z->to) {
        z->from = 0;
        if (!z->feed(z->arg, z->in, sizeof z->in, &z->to, err))
            return false;
        z->fed = z->to == 0;
    }
    if (z->fed)
        return shutdown(z->fd, SHUT_WR) == 0 || errno == ENOTCONN ||
               vic_fail_errno(err, "end the decompressor's input");
    ssize_t n = send(z->fd, z->in + z->from, z->to - z->from, MSG_NOSIGNAL);
    if (n > 0)
        z->from += (size_t)n;
    else if (errno == EPIPE || errno == ECONNRESET)
        z->fed = true;
    else if (errno != EAGAIN && errno != EINTR)
        return vic_fail_errno(err, "write to the decompressor");
    return true;
}

bool inflate_read(struct inflate *z, void *p, size_t size, size_t *got, struct vic_err *err)
{
    *got = 0;
    while (!z->ended) {
        ssize_t n = recv(z->fd, p, size, 0);
        if (n > 0) {
            *got = (size_t)n;
            return true;
        }
        if (n == 0 || errno == ECONNRESET)
            return finish(z, err);
        if (errno != EAGAIN && errno != EINTR)
            return vic_fail_errno(err, "read from the decompressor");
        struct pollfd w = {.fd = z->fd, .events = (short)(z->fed ? POLLIN : POLLIN | POLLOUT)};
        if (poll(&w, 1, -1) < 0 && errno != EINTR)
            return vic_fail_errno(err, "wait for the decompressor");
        if (w.revents & POLLOUT && !(w.revents & POLLIN) && !give(z, err))
            return false;
    }
    return true;
}
