/* Streams: many conversations on one connection, none of which can hold up another.
 *
 * Receiving: the guest may send WIRE_CREDIT bytes a channel; they wait in a queue until
 * hub_stream_read takes them, and what was taken is granted anew in steps of GRANT.  So a reader
 * that stops costs WIRE_CREDIT of memory and stops its guest's writer, nobody else.
 *
 * Sending: hub_stream_write takes what the guest's credit allows, and nothing while HUB_MAX_DATA
 * waits for the connection as a whole (a guest that does not read at all).
 *
 * A stream that its owner freed early is canceled with CLOSE; frames for it that were on their way
 * are dropped: numbers are never reused, so an odd number below the next one is such a stream and
 * anything else is a lie.
 *
 * Waking: state changes under the hub's lock and puts the stream on the hub's list; hub_work calls
 * wake on the loop, with no lock held.  hub_stream_free takes the stream off the list and, on
 * another thread, waits for a wake that runs now. */
#include "hub_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { GRANT = WIRE_CREDIT / 4, CHUNK = 32768 };

void stream_wake_locked(struct hub_stream *s)
{
    if (s->waiting)
        return;
    s->waiting = true;
    DL_APPEND(s->hub->wakes, s);
    hub_kick_locked(s->hub);
}

/* Ends a stream on our side: the connection forgets it, what it received stays to be read. */
static void finish_locked(struct hub_stream *s) VIC_REQUIRES(s->hub->lock)
{
    if (s->conn) {
        HASH_DEL(s->conn->streams, s);
        s->conn->stream_count--;
        s->conn = NULL;
    }
    s->state = HUB_CLOSED;
    s->in[1].eof = s->in[2].eof = true;
    stream_wake_locked(s);
}

void streams_lost_locked(struct conn *c, const char *why)
{
    struct hub_stream *s, *tmp;
    HASH_ITER(hh, c->streams, s, tmp)
    {
        hub_holds(s->hub);
        s->refused = true;
        vic_fail(&s->err, VIC_UNAVAILABLE, 0, "vm %s: %s", c->vm, why);
        finish_locked(s);
    }
}

void streams_room_locked(struct conn *c)
{
    struct hub_stream *s, *tmp;
    c->starved = false;
    HASH_ITER(hh, c->streams, s, tmp)
    {
        hub_holds(s->hub);
        stream_wake_locked(s);
    }
}

/* --- frames from the guest -----------------------------------------------------------------------
 */

static bool bad(struct vic_err *err, const struct wire_frame *f, const char *what)
{
    return vic_fail(err, VIC_PROTOCOL, 0, "stream %" PRIu32 ": %s", f->stream, what);
}

static enum vic_code code_named(const char *name)
{
    for (int i = 1; i < VIC_CODES; i++)
        if (strcmp(vic_code_name((enum vic_code)i), name) == 0)
            return (enum vic_code)i;
    return VIC_INTERNAL;
}

/* OPEN_ERR, or ERROR on the stream. */
static bool refuse_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    if (!json_parse(f->payload, HUB_MAX_TOKENS, &a, &v, NULL))
        return bad(err, f, "an error that is not JSON");
    int64_t launch = json_i64(json_get(v, "exit"), 0);
    const char *text = json_str(json_get(v, "error"), json_str(json_get(v, "text"), ""));
    s->refused = true;
    s->launch_exit = launch == 126 || launch == 127 ? (int)launch : 0;
    vic_fail(&s->err, code_named(json_str(json_get(v, "code"), "")), 0, "%s",
             *text ? text : "refused by the guest");
    s->err.sys = (int)(json_i64(json_get(v, "errno"), 0) & 0xffff);
    finish_locked(s);
    return true;
}

static bool opened_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    struct conn *c = s->conn;
    if (s->state != HUB_OPENING)
        return bad(err, f, "opened twice");
    s->state = HUB_OPEN;
    if (s->resize_wanted)
        wire_put_resize(&c->data.b, s->id, s->rows, s->cols);
    if (s->eof_wanted)
        wire_put_eof(&c->data.b, s->id, 0);
    s->eof_sent = s->eof_wanted;
    conn_dirty_locked(c);
    stream_wake_locked(s);
    return true;
}

static bool data_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    uint8_t channel;
    struct sv bytes;
    if (!wire_take_data(f->payload, &channel, &bytes, err))
        return false;
    struct chan *in = &s->in[channel];
    if (s->state != HUB_OPEN || channel == 0 || in->eof)
        return bad(err, f, "bytes on a channel that is not open");
    if (bytes.len > in->window)
        return bad(err, f, "more bytes than were granted");
    in->window -= bytes.len;
    buf_add_sv(&in->f.b, bytes);
    stream_wake_locked(s);
    return true;
}

static bool credit_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    uint8_t channel;
    uint32_t more;
    if (!wire_take_credit(f->payload, &channel, &more, err))
        return false;
    if (channel != 0 || s->state != HUB_OPEN)
        return bad(err, f, "credit for a channel that is not ours to send on");
    s->credit += more;
    if (s->credit > HUB_MAX_CREDIT)
        s->credit = HUB_MAX_CREDIT;
    stream_wake_locked(s);
    return true;
}

static bool eof_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    uint8_t channel;
    struct sv rest;
    if (!wire_take_data(f->payload, &channel, &rest, err))
        return false;
    if (s->state != HUB_OPEN || channel == 0)
        return bad(err, f, "end of a channel that is not open");
    s->in[channel].eof = true;
    stream_wake_locked(s);
    return true;
}

static bool close_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    (void)err;
    s->result_size = f->payload.len;
    s->result = xstrndup(f->payload.len ? f->payload.p : "", f->payload.len);
    finish_locked(s);
    return true;
}

static bool on_frame_locked(struct hub_stream *s, const struct wire_frame *f, struct vic_err *err)
    VIC_REQUIRES(s->hub->lock)
{
    switch ((int)f->type) {
    case WIRE_OPEN_OK:
        return opened_locked(s, f, err);
    case WIRE_OPEN_ERR:
        return s->state == HUB_OPENING ? refuse_locked(s, f, err)
                                       : bad(err, f, "refused after it was opened");
    case WIRE_ERROR:
        return refuse_locked(s, f, err);
    case WIRE_DATA:
        return data_locked(s, f, err);
    case WIRE_CREDIT_MORE:
        return credit_locked(s, f, err);
    case WIRE_EOF:
        return eof_locked(s, f, err);
    case WIRE_CLOSE:
        return close_locked(s, f, err);
    }
    return bad(err, f, "a frame that streams do not have");
}

bool stream_frame(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    struct hub *h = c->hub;
    struct hub_stream *s;
    bool ok = true;
    mutex_lock(&h->lock);
    HASH_FIND(hh, c->streams, &f->stream, sizeof f->stream, s);
    if (s) {
        hub_holds(s->hub);
        ok = on_frame_locked(s, f, err);
    } else if (f->stream % 2 == 0 || f->stream >= c->next_stream) {
        ok = bad(err, f, "was never opened");
    }
    mutex_unlock(&h->lock);
    return ok;
}

/* --- the owner's side ----------------------------------------------------------------------------
 */

static struct conn *conn_for_open_locked(struct hub *h, const char *vm, struct vic_err *err)
    VIC_REQUIRES(h->lock)
{
    struct guest *g = hub_find_locked(h, vm);
    if (!g || !g->conn || g->conn->kill) {
        vic_fail(err, VIC_UNAVAILABLE, 0, "vm %s is not connected", vm);
        return NULL;
    }
    if (g->conn->stream_count < WIRE_MAX_STREAMS && g->conn->next_stream < UINT32_MAX - 2)
        return g->conn;
    vic_fail(err, VIC_BUSY, 0, "vm %s has %u streams open", vm, g->conn->stream_count);
    return NULL;
}

struct hub_stream *hub_open(struct hub *h, const char *vm, struct sv open_json,
                            void (*wake)(void *arg), void *arg, struct vic_err *err)
{
    if (open_json.len > WIRE_MAX_PAYLOAD) {
        vic_fail(err, VIC_TOO_LARGE, 0, "OPEN of %zu bytes", open_json.len);
        return NULL;
    }
    struct hub_stream *s = NULL;
    mutex_lock(&h->lock);
    struct conn *c = conn_for_open_locked(h, vm, err);
    if (c) {
        s = xcalloc(1, sizeof *s);
        *s = (struct hub_stream){.hub = h, .conn = c, .id = c->next_stream};
        s->credit = s->in[1].window = s->in[2].window = WIRE_CREDIT;
        s->wake = wake;
        s->arg = arg;
        c->next_stream += 2;
        c->stream_count++;
        HASH_ADD(hh, c->streams, id, sizeof s->id, s);
        wire_put(&c->data.b, WIRE_OPEN, s->id, open_json);
        conn_dirty_locked(c);
    }
    mutex_unlock(&h->lock);
    return s;
}

/* How many bytes may be queued now. */
static size_t room_locked(struct hub_stream *s) VIC_REQUIRES(s->hub->lock)
{
    if (!s->conn || s->state != HUB_OPEN || s->eof_sent)
        return 0;
    size_t queued = fifo_len(&s->conn->data);
    size_t room = queued < HUB_MAX_DATA ? HUB_MAX_DATA - queued : 0;
    return s->credit < room ? s->credit : room;
}

void hub_stream_status(struct hub_stream *s, struct hub_stream_status *out)
{
    mutex_lock(&s->hub->lock);
    *out = (struct hub_stream_status){
        .state = s->state,
        .refused = s->refused,
        .err = s->err,
        .launch_exit = s->launch_exit,
        .result = sv_make(s->result, s->result_size),
        .writable = room_locked(s),
    };
    for (unsigned i = 0; i < ARRAY_LEN(s->in); i++) {
        out->readable[i] = fifo_len(&s->in[i].f);
        out->eof[i] = s->in[i].eof;
    }
    if (s->conn && !out->writable && s->credit)
        s->conn->starved = true;
    mutex_unlock(&s->hub->lock);
}

static void grant_locked(struct hub_stream *s, unsigned channel, size_t bytes)
    VIC_REQUIRES(s->hub->lock)
{
    struct chan *in = &s->in[channel];
    in->consumed += bytes;
    if (!s->conn || in->eof || in->consumed < GRANT)
        return;
    wire_put_credit(&s->conn->data.b, s->id, (uint8_t)channel, (uint32_t)in->consumed);
    conn_dirty_locked(s->conn);
    in->window += in->consumed;
    in->consumed = 0;
}

size_t hub_stream_read(struct hub_stream *s, unsigned channel, struct buf *out, size_t max)
{
    if (channel >= ARRAY_LEN(s->in))
        return 0;
    mutex_lock(&s->hub->lock);
    struct fifo *f = &s->in[channel].f;
    struct sv bytes = sv_sub(fifo_sv(f), 0, max);
    buf_add_sv(out, bytes);
    size_t n = out->failed ? 0 : bytes.len;
    if (n) {
        fifo_drop(f, n);
        grant_locked(s, channel, n);
    }
    mutex_unlock(&s->hub->lock);
    return n;
}

size_t hub_stream_write(struct hub_stream *s, struct sv bytes)
{
    mutex_lock(&s->hub->lock);
    size_t room = room_locked(s), n = bytes.len < room ? bytes.len : room;
    for (size_t at = 0; at < n; at += CHUNK)
        wire_put_data(&s->conn->data.b, s->id, 0,
                      sv_make(bytes.p + at, n - at < CHUNK ? n - at : CHUNK));
    s->credit -= n;
    if (s->conn && n < bytes.len && s->credit)
        s->conn->starved = true;
    if (n)
        conn_dirty_locked(s->conn);
    mutex_unlock(&s->hub->lock);
    return n;
}

void hub_stream_eof(struct hub_stream *s)
{
    mutex_lock(&s->hub->lock);
    s->eof_wanted = true;
    if (s->conn && s->state == HUB_OPEN && !s->eof_sent) {
        s->eof_sent = true;
        wire_put_eof(&s->conn->data.b, s->id, 0);
        conn_dirty_locked(s->conn);
    }
    mutex_unlock(&s->hub->lock);
}

void hub_stream_resize(struct hub_stream *s, unsigned rows, unsigned cols)
{
    mutex_lock(&s->hub->lock);
    s->rows = (uint16_t)(rows < UINT16_MAX ? rows : UINT16_MAX);
    s->cols = (uint16_t)(cols < UINT16_MAX ? cols : UINT16_MAX);
    s->resize_wanted = true;
    if (s->conn && s->state == HUB_OPEN) {
        wire_put_resize(&s->conn->data.b, s->id, s->rows, s->cols);
        conn_dirty_locked(s->conn);
    }
    mutex_unlock(&s->hub->lock);
}

/* Tells the guest that nobody listens any more. */
static void cancel_locked(struct hub_stream *s) VIC_REQUIRES(s->hub->lock)
{
    struct conn *c = s->conn;
    wire_put(&c->data.b, WIRE_CLOSE, s->id, SV("{\"code\":1}"));
    conn_dirty_locked(c);
    finish_locked(s);
}

void hub_stream_free(struct hub_stream *s)
{
    if (!s)
        return;
    struct hub *h = s->hub;
    bool on_loop = loop_is_thread(h->o.loop);
    mutex_lock(&h->lock);
    if (s->conn) {
        hub_holds(s->hub);
        cancel_locked(s);
    }
    if (s->waiting)
        DL_DELETE(h->wakes, s);
    while (h->waking == s && !on_loop)
        cond_wait(&h->changed, &h->lock);
    mutex_unlock(&h->lock);
    for (unsigned i = 0; i < ARRAY_LEN(s->in); i++)
        fifo_fini(&s->in[i].f);
    free(s->result);
    free(s);
}
