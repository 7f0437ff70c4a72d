/* Between descriptors and whoever has room: see pump.h. */
#include "pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"

static void source_end(struct source *s)
{
    source_stop(s);
    s->ended(s->arg, s->channel);
}

static void on_source(void *arg, uint32_t events)
{
    struct source *s = arg;
    char bytes[SOURCE_CHUNK];
    (void)events;
    size_t room = s->room(s->arg, s->channel);
    if (room == 0) {
        poll_watch(s->loop, &s->watch, s->fd, 0);
        poll_cancel(s->loop, &s->finish);
        return;
    }
    ssize_t n = read(s->fd, bytes, room < sizeof bytes ? room : sizeof bytes);
    if (n > 0)
        s->data(s->arg, s->channel, sv_make(bytes, (size_t)n));
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) /* a tty without users says EIO */
        source_end(s);
    else if (errno == EAGAIN && s->last)
        source_end(s);
}

/* Reads on without being told to, until there is nothing or no room. */
static void on_finish(void *arg)
{
    struct source *s = arg;
    poll_after(s->loop, &s->finish, 0); /* before the read, which may end (and free) the source */
    on_source(arg, 0);
}

void source_start(struct source *s, struct poll_loop *loop, int fd)
{
    s->loop = loop;
    s->fd = fd;
    s->last = false;
    s->watch = (struct poll_watch){.fd = -1, .fn = on_source, .arg = s};
    s->finish = (struct poll_timer){.fn = on_finish, .arg = s};
    source_resume(s);
}

void source_resume(struct source *s)
{
    if (s->fd < 0)
        return;
    poll_watch(s->loop, &s->watch, s->fd, EPOLLIN);
    if (s->last)
        poll_after(s->loop, &s->finish, 0);
}

void source_finish(struct source *s)
{
    if (s->fd < 0 || s->last)
        return;
    s->last = true;
    /* epoll says nothing of an empty pipe that others hold open, so it is read unasked. */
    poll_after(s->loop, &s->finish, 0);
}

void source_stop(struct source *s)
{
    if (s->fd < 0)
        return;
    poll_unwatch(s->loop, &s->watch);
    poll_cancel(s->loop, &s->finish);
    close(s->fd);
    s->fd = -1;
}

bool source_ended(const struct source *s)
{
    return s->fd < 0;
}

static void sink_drop(struct sink *s, struct sink_chunk *c)
{
    TAILQ_REMOVE(&s->chunks, c, link);
    free(c);
}

static void sink_told(struct sink *s, struct sink_chunk *c, size_t n)
{
    c->at += n;
    if (c->owner)
        s->wrote(s->arg, c->owner, n);
}

static void sink_swallow(struct sink *s)
{
    while (!TAILQ_EMPTY(&s->chunks)) {
        struct sink_chunk *c = TAILQ_FIRST(&s->chunks);
        TAILQ_REMOVE(&s->chunks, c, link);
        sink_told(s, c, c->len - c->at);
        free(c);
    }
}

static void sink_shut(struct sink *s)
{
    poll_unwatch(s->loop, &s->watch);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void sink_write(struct sink *s)
{
    if (s->waiting)
        return;
    while (s->fd >= 0 && !TAILQ_EMPTY(&s->chunks)) {
        struct sink_chunk *c = TAILQ_FIRST(&s->chunks);
        ssize_t n = write(s->fd, c->bytes + c->at, c->len - c->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            sink_shut(s);
            break;
        }
        bool whole = c->at + (size_t)n == c->len;
        if (whole)
            TAILQ_REMOVE(&s->chunks, c, link);
        sink_told(s, c, (size_t)n);
        if (whole)
            free(c);
    }
    if (s->fd < 0)
        sink_swallow(s);
    else if (TAILQ_EMPTY(&s->chunks) && s->closing)
        sink_shut(s);
    else
        poll_watch(s->loop, &s->watch, s->fd, TAILQ_EMPTY(&s->chunks) ? 0 : EPOLLOUT);
}

static void on_sink(void *arg, uint32_t events)
{
    (void)events;
    sink_write(arg);
}

void sink_open(struct sink *s, int fd)
{
    s->fd = fd;
    s->waiting = false;
    sink_write(s);
}

void sink_init(struct sink *s, struct poll_loop *loop)
{
    s->loop = loop;
    s->fd = -1;
    s->waiting = true;
    s->closing = false;
    s->watch = (struct poll_watch){.fd = -1, .fn = on_sink, .arg = s};
    TAILQ_INIT(&s->chunks);
}

void sink_put(struct sink *s, void *owner, struct sv bytes)
{
    if (bytes.len == 0)
        return;
    struct sink_chunk *c = xmalloc(sizeof *c + bytes.len);
    c->owner = owner;
    c->len = bytes.len;
    c->at = 0;
    memcpy(c->bytes, bytes.p, bytes.len);
    TAILQ_INSERT_TAIL(&s->chunks, c, link);
    sink_write(s);
}

bool sink_has(const struct sink *s, const void *owner)
{
    struct sink_chunk *c;
    TAILQ_FOREACH (c, &s->chunks, link) {
        if (c->owner == owner)
            return true;
    }
    return false;
}

void sink_forget(struct sink *s, const void *owner)
{
    struct sink_chunk *c;
    TAILQ_FOREACH (c, &s->chunks, link) {
        if (c->owner == owner)
            c->owner = NULL;
    }
}

void sink_close(struct sink *s)
{
    s->closing = true;
    sink_write(s);
}

void sink_fini(struct sink *s)
{
    sink_shut(s);
    while (!TAILQ_EMPTY(&s->chunks))
        sink_drop(s, TAILQ_FIRST(&s->chunks));
}
