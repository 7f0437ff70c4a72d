/* The run's output on its way: see logs.h.  The spool holds LOG frames as they would be sent. */
#include "logs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#include "files.h"

static const char spool_name[] = "logs.spool";

void logs_init(struct logs *l, struct link *conn, int dir)
{
    *l = (struct logs){.conn = conn, .dir = dir, .spool = -1, .spool_limit = LOGS_SPOOL};
    TAILQ_INIT(&l->queue);
}

static void forget_first(struct logs *l)
{
    struct logs_entry *e = TAILQ_FIRST(&l->queue);
    if (l->next == e)
        l->next = TAILQ_NEXT(e, link);
    TAILQ_REMOVE(&l->queue, e, link);
    l->queued -= e->len;
    free(e);
}

static void close_spool(struct logs *l)
{
    if (l->spool >= 0) {
        close(l->spool);
        unlinkat(l->dir, spool_name, 0);
    }
    l->spool = -1;
    l->spool_read = l->spool_end = 0;
}

void logs_fini(struct logs *l)
{
    while (!TAILQ_EMPTY(&l->queue))
        forget_first(l);
    close_spool(l);
}

static void enqueue(struct logs *l, const struct wire_log *log)
{
    struct logs_entry *e = xmalloc(sizeof *e + log->bytes.len);
    *e = (struct logs_entry){.seq = log->seq,
                             .time_ns = log->time_ns,
                             .stream = log->stream,
                             .flags = log->flags,
                             .len = log->bytes.len};
    memcpy(e->bytes, log->bytes.p, log->bytes.len);
    TAILQ_INSERT_TAIL(&l->queue, e, link);
    l->queued += e->len;
    if (!l->next)
        l->next = e;
}

static struct wire_log to_wire(const struct logs_entry *e)
{
    return (struct wire_log){e->seq, e->time_ns, e->stream, e->flags, sv_make(e->bytes, e->len)};
}

/* False when the spool is full, or the disk is. */
static bool to_spool(struct logs *l, const struct wire_log *log)
{
    AUTO_BUF struct buf frame = {0};
    wire_put_log(&frame, log);
    if (l->spool_end + frame.len > l->spool_limit)
        return false;
    if (l->spool < 0)
        l->spool =
            openat(l->dir, spool_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (l->spool < 0 ||
        pwrite(l->spool, frame.data, frame.len, (off_t)l->spool_end) != (ssize_t)frame.len)
        return false;
    l->spool_end += frame.len;
    return true;
}

/* Moves entries from the spool into the queue while the window has room. */
static void refill(struct logs *l)
{
    static const size_t whole = WIRE_HEADER + WIRE_MAX_PAYLOAD;
    while (l->spool >= 0 && l->queued + WIRE_MAX_LOG <= WIRE_LOG_WINDOW) {
        AUTO_FREE char *bytes = xmalloc(whole);
        size_t left = l->spool_end - l->spool_read, used = 0;
        ssize_t n = pread(l->spool, bytes, left < whole ? left : whole, (off_t)l->spool_read);
        struct wire_frame f;
        struct wire_log log;
        if (n <= 0 || !wire_take(sv_make(bytes, (size_t)n), &f, &used, NULL) || used == 0 ||
            !wire_take_log(f.payload, &log, NULL)) {
            close_spool(l); /* unreadable: the disk is broken */
            return;
        }
        l->spool_read += used;
        enqueue(l, &log);
        if (l->spool_read == l->spool_end)
            close_spool(l);
    }
}

static bool place(struct logs *l, const struct wire_log *log)
{
    size_t limit = l->up ? WIRE_LOG_WINDOW : LOGS_MEMORY;
    if (l->spool < 0 && l->queued + log->bytes.len <= limit) {
        enqueue(l, log);
        return true;
    }
    return to_spool(l, log);
}

/* Says what was lost, as soon as there is a place to say it. */
static bool place_marker(struct logs *l)
{
    int64_t time_ns = clock_wall_ns(&vic_clock_real);
    char text[128];
    int len = snprintf(text, sizeof text,
                       "[vic: %" PRIu64 " bytes of output were dropped: the log spool was full]\n",
                       l->dropped);
    struct wire_log log = {l->seq + 1, time_ns, 2, 0, sv_make(text, (size_t)len)};
    if (!place(l, &log))
        return false;
    l->seq++;
    l->dropped = 0;
    return true;
}

void logs_add(struct logs *l, unsigned stream, struct sv bytes, bool partial, int64_t time_ns)
{
    struct wire_log log = {l->seq + 1, time_ns, (uint8_t)stream, partial ? WIRE_LOG_PARTIAL : 0,
                           bytes};
    if (l->dropped && !place_marker(l)) {
        l->dropped += bytes.len;
        return;
    }
    log.seq = l->seq + 1;
    if (place(l, &log))
        l->seq++;
    else
        l->dropped += bytes.len;
    logs_pump(l);
}

size_t logs_room(struct logs *l)
{
    if (!l->up)
        return WIRE_MAX_LOG;
    return l->spool < 0 && l->queued + WIRE_MAX_LOG <= WIRE_LOG_WINDOW ? WIRE_MAX_LOG : 0;
}

void logs_pump(struct logs *l)
{
    while (l->up && l->next && link_room(l->conn)) {
        struct wire_log log = to_wire(l->next);
        wire_put_log(link_out(l->conn), &log);
        l->next = TAILQ_NEXT(l->next, link);
        link_kick(l->conn);
    }
}

static void forget_up_to(struct logs *l, uint64_t seq)
{
    while (!TAILQ_EMPTY(&l->queue) && TAILQ_FIRST(&l->queue)->seq <= seq)
        forget_first(l);
    refill(l);
}

void logs_link_up(struct logs *l, uint64_t stored)
{
    l->up = true;
    l->next = TAILQ_FIRST(&l->queue);
    logs_acked(l, stored);
}

void logs_link_down(struct logs *l)
{
    l->up = false;
}

void logs_acked(struct logs *l, uint64_t seq)
{
    forget_up_to(l, seq);
    if (l->dropped)
        (void)place_marker(l);
    logs_pump(l);
}

bool logs_all_sent(const struct logs *l)
{
    return l->up && !l->next && l->spool < 0;
}

bool logs_all_acked(const struct logs *l)
{
    return TAILQ_EMPTY(&l->queue) && l->spool < 0;
}

/* Appends the spool's unread rest to 'fd'. */
static bool copy_spool(struct logs *l, int fd, struct vic_err *err)
{
    char bytes[65536];
    while (l->spool_read < l->spool_end) {
        size_t left = l->spool_end - l->spool_read;
        ssize_t n =
            pread(l->spool, bytes, left < sizeof bytes ? left : sizeof bytes, (off_t)l->spool_read);
        if (n <= 0)
            return vic_fail_errno(err, "read the log spool");
        if (!fd_write_all(fd, bytes, (size_t)n, err))
            return false;
        l->spool_read += (size_t)n;
    }
    return true;
}

bool logs_keep(struct logs *l, struct vic_err *err)
{
    struct logs_entry *e;
    AUTO_CLOSE int fd =
        openat(l->dir, "logs.left", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return vic_fail_errno(err, "create logs.left");
    TAILQ_FOREACH (e, &l->queue, link) {
        AUTO_BUF struct buf frame = {0};
        struct wire_log log = to_wire(e);
        wire_put_log(&frame, &log);
        if (!fd_write_all(fd, frame.data, frame.len, err))
            return vic_wrap(err, "keep the log");
    }
    return copy_spool(l, fd, err) && (fsync(fd) == 0 || vic_fail_errno(err, "keep the log"));
}
