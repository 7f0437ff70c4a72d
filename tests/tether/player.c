/* A whole guest in a thread: see guest.h.
 *
 * It is as level-headed as a tether: what it has not been acknowledged it says again after a
 * reconnect.  Execs (and stdin streams) are echoes: what comes on channel 0 goes back on channel 1,
 * within both sides' credit, and EOF ends the stream with status 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sync.h"
#include "guest.h"

enum { PLAYER_STREAMS = 128, RETRY_MS = 20 };

struct echo {
    uint32_t id;
    struct buf held;
    size_t credit;
    bool eof;
};

struct tg_player {
    struct tg_player_options o;
    pthread_t thread;
    struct vic_mutex lock;
    struct vic_cond wake;
    bool stop; /* guarded: lock */
    int fd;    /* guarded: lock; to be shut down by stop */
    /* owned by the thread */
    struct tg g;
    char container[65];
    uint64_t seq, rev, status_seq, log_seq;
    bool running, exited, acked, over;
    int value;
    bool signaled;
    struct echo streams[PLAYER_STREAMS];
};

static bool stopping(struct tg_player *p)
{
    mutex_lock(&p->lock);
    bool stop = p->stop;
    mutex_unlock(&p->lock);
    return stop;
}

static void put_exit(struct tg_player *p, struct buf *b)
{
    buf_addf(b,
             "{\"container\":\"%s\",\"seq\":%llu,\"kind\":\"%s\",\"value\":%d,\"oom\":false,"
             "\"error\":\"\",\"started_ns\":1,\"ended_ns\":2,\"log_seq\":%llu}",
             p->container, (unsigned long long)p->seq, p->signaled ? "signaled" : "exited",
             p->value, (unsigned long long)p->log_seq);
}

static bool hello(struct tg_player *p, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    if (!p->running)
        return tg_hello(&p->g, NULL, err);
    buf_addf(&b,
             "{\"proto\":1,\"vm\":\"%s\",\"boot\":\"%s\",\"role\":\"run\",\"log_seq\":%llu,"
             "\"run\":{\"container\":\"%s\",\"seq\":%llu,\"rev\":%llu,\"phase\":\"%s\","
             "\"pid\":7,\"started_ns\":1}",
             p->g.vm, p->g.boot, (unsigned long long)p->log_seq, p->container,
             (unsigned long long)p->seq, (unsigned long long)p->rev,
             p->exited ? "exited" : "running");
    if (p->exited && !p->acked) {
        buf_add_str(&b, ",\"exit\":");
        put_exit(p, &b);
    }
    buf_add_c(&b, '}');
    return tg_hello(&p->g, buf_str(&b), err);
}

static bool say_status(struct tg_player *p, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "{\"seq\":%llu,\"phase\":\"running\",\"pid\":7,\"started_ns\":1}",
             (unsigned long long)++p->status_seq);
    return tg_json(&p->g, WIRE_STATUS, 0, buf_str(&b), err);
}

static bool say_exit(struct tg_player *p, int value, bool signaled, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    if (!p->running || p->exited)
        return true;
    p->exited = true;
    p->value = value;
    p->signaled = signaled;
    put_exit(p, &b);
    return tg_json(&p->g, WIRE_EXIT, 0, buf_str(&b), err);
}

static bool start_run(struct tg_player *p, struct vic_err *err)
{
    p->running = true;
    if (!say_status(p, err))
        return false;
    for (unsigned i = 0; i < p->o.log_lines; i++) {
        AUTO_BUF struct buf b = {0};
        buf_addf(&b, "line %u\n", i);
        if (!tg_log(&p->g, ++p->log_seq, 1 + i % 2, buf_sv(&b), err))
            return false;
    }
    return p->o.exit_value < 0 || say_exit(p, p->o.exit_value, false, err);
}

static bool on_config(struct tg_player *p, struct json_val v, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    bool run = strcmp(json_str(json_get(v, "role"), ""), "run") == 0;
    struct json_val spec = json_get(v, "spec");
    buf_addf(&b, "{\"gen\":%lld,\"ok\":true,\"error\":\"\",\"errno\":0,\"stage\":\"\"}",
             (long long)json_i64(json_get(v, "gen"), 0));
    if (!tg_json(&p->g, WIRE_CONFIG_ACK, 0, buf_str(&b), err))
        return false;
    if (!run || p->running)
        return true;
    snprintf(p->container, sizeof p->container, "%s", json_str(json_get(spec, "container"), ""));
    p->seq = (uint64_t)json_i64(json_get(spec, "seq"), 0);
    p->rev = (uint64_t)json_i64(json_get(spec, "rev"), 0);
    return start_run(p, err);
}

/* --- streams -------------------------------------------------------------------------------------
 */

static struct echo *echo_of(struct tg_player *p, uint32_t id)
{
    for (unsigned i = 0; i < PLAYER_STREAMS; i++)
        if (p->streams[i].id == id)
            return &p->streams[i];
    return NULL;
}

static void echo_end(struct echo *e)
{
    buf_fini(&e->held);
    *e = (struct echo){0};
}

static bool echo_on(struct tg_player *p, struct echo *e, struct vic_err *err)
{
    AUTO_BUF struct buf out = {0};
    size_t n = e->held.len < e->credit ? e->held.len : e->credit;
    for (size_t at = 0; at < n; at += 32768)
        wire_put_data(&out, e->id, 1, sv_make(e->held.data + at, n - at < 32768 ? n - at : 32768));
    if (n) {
        buf_consume(&e->held, n);
        e->credit -= n;
        wire_put_credit(&out, e->id, 0, (uint32_t)n);
    }
    if (e->eof && !e->held.len) {
        wire_put_eof(&out, e->id, 1);
        wire_put(&out, WIRE_CLOSE, e->id, SV("{\"kind\":\"exited\",\"value\":0}"));
        echo_end(e);
    }
    return !out.len || tg_send(&p->g, buf_sv(&out), err);
}

static bool on_open(struct tg_player *p, const struct wire_frame *f, struct vic_err *err)
{
    struct echo *e = echo_of(p, 0);
    if (!e)
        return tg_json(&p->g, WIRE_OPEN_ERR, f->stream,
                       "{\"code\":\"BUSY\",\"error\":\"too many\",\"errno\":11,\"stage\":\"\"}",
                       err);
    *e = (struct echo){.id = f->stream, .credit = WIRE_CREDIT};
    return tg_json(&p->g, WIRE_OPEN_OK, f->stream, "{}", err);
}

static bool on_stream(struct tg_player *p, const struct wire_frame *f, struct vic_err *err)
{
    uint8_t channel;
    uint32_t more;
    struct sv bytes;
    struct echo *e = echo_of(p, f->stream);
    if (!e)
        return true;
    if (f->type == WIRE_DATA && wire_take_data(f->payload, &channel, &bytes, err)) {
        buf_add_sv(&e->held, bytes);
    } else if (f->type == WIRE_CREDIT_MORE && wire_take_credit(f->payload, &channel, &more, err)) {
        if (channel == 1)
            e->credit += more;
    } else if (f->type == WIRE_EOF) {
        e->eof = true;
    } else if (f->type == WIRE_CLOSE) {
        echo_end(e);
        return true;
    }
    return echo_on(p, e, err);
}

/* --- frames --------------------------------------------------------------------------------------
 */

static bool on_ping(struct tg_player *p, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    uint64_t nonce;
    int64_t theirs;
    if (!wire_take_ping(f->payload, &nonce, &theirs, err))
        return false;
    wire_put_ping(&b, WIRE_PONG, nonce, clock_wall_ns(&vic_clock_real));
    return tg_send(&p->g, buf_sv(&b), err);
}

static bool on_frame(struct tg_player *p, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v = {0};
    if (p->o.chatty && p->running && !say_status(p, err))
        return false;
    switch ((int)f->type) {
    case WIRE_PING:
        return on_ping(p, f, err);
    case WIRE_CONFIG:
        return json_parse(f->payload, 0, &a, &v, err) && on_config(p, v, err);
    case WIRE_EXIT_ACK:
        p->acked = true;
        return true;
    case WIRE_SIGNAL:
        return json_parse(f->payload, 0, &a, &v, err) &&
               say_exit(p, (int)json_i64(json_get(v, "signal"), 15), true, err);
    case WIRE_SHUTDOWN:
        p->over = !p->running;
        return say_exit(p, 15, true, err);
    case WIRE_OPEN:
        return on_open(p, f, err);
    case WIRE_DATA:
    case WIRE_CREDIT_MORE:
    case WIRE_EOF:
    case WIRE_CLOSE:
        return on_stream(p, f, err);
    }
    return true;
}

static void play_once(struct tg_player *p)
{
    struct vic_err err;
    struct wire_frame f;
    struct tg_connect o = {.address = p->o.address, .vm = p->o.vm, .source = p->o.source, .n = 1};
    if (!tg_connect(&p->g, &o, &err))
        return;
    mutex_lock(&p->lock);
    p->fd = p->stop ? -1 : p->g.fd;
    mutex_unlock(&p->lock);
    bool ok = !stopping(p) && hello(p, &err);
    while (ok && !p->over)
        ok = tg_recv(&p->g, &f, 600000, &err) && on_frame(p, &f, &err);
    mutex_lock(&p->lock);
    p->fd = -1;
    mutex_unlock(&p->lock);
    for (unsigned i = 0; i < PLAYER_STREAMS; i++)
        echo_end(&p->streams[i]);
    tg_close(&p->g);
}

static void *player_main(void *arg)
{
    struct tg_player *p = arg;
    while (!stopping(p) && !p->over) {
        play_once(p);
        mutex_lock(&p->lock);
        if (!p->stop && !p->over)
            cond_wait_ms(&p->wake, &p->lock, RETRY_MS);
        mutex_unlock(&p->lock);
    }
    return NULL;
}

struct tg_player *tg_player_start(const struct tg_player_options *o)
{
    struct tg_player *p = xcalloc(1, sizeof *p);
    p->o = *o;
    p->fd = -1;
    mutex_init(&p->lock);
    cond_init(&p->wake);
    if (pthread_create(&p->thread, NULL, player_main, p) != 0)
        abort();
    return p;
}

void tg_player_stop(struct tg_player *p)
{
    mutex_lock(&p->lock);
    p->stop = true;
    if (p->fd >= 0)
        shutdown(p->fd, SHUT_RDWR);
    cond_signal(&p->wake);
    mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    cond_fini(&p->wake);
    mutex_fini(&p->lock);
    free(p);
}
