/* Streams, the guest's end: see stream.h. */
#include "stream.h"

#include <stdlib.h>

#include "base/mem.h"

static struct stream *find(struct streams *set, uint32_t id)
{
    struct stream *s;
    LIST_FOREACH (s, &set->all, link) {
        if (s->id == id)
            return s;
    }
    return NULL;
}

static void forget(struct stream *s)
{
    LIST_REMOVE(s, link);
    s->set->count--;
    free(s);
}

/* Tells the owner and frees. */
static void drop(struct stream *s)
{
    const struct stream_ops *ops = s->ops;
    void *owner = s->owner;
    forget(s);
    if (ops)
        ops->gone(owner);
}

void streams_init(struct streams *set, struct link *conn, const struct stream_kind *kinds)
{
    *set = (struct streams){.conn = conn, .kinds = kinds};
    LIST_INIT(&set->all);
}

void streams_lost(struct streams *set)
{
    while (!LIST_EMPTY(&set->all))
        drop(LIST_FIRST(&set->all));
    set->last_id = 0;
}

void streams_room(struct streams *set)
{
    /* 'room' may close its own stream, and no other. */
    struct stream *s = LIST_FIRST(&set->all);
    while (s) {
        struct stream *next = LIST_NEXT(s, link);
        if (s->ops && s->ops->room)
            s->ops->room(s->owner);
        s = next;
    }
}

static struct stream *create(struct streams *set, uint32_t id)
{
    struct stream *s = xcalloc(1, sizeof *s);
    *s = (struct stream){.id = id, .set = set, .credit = {WIRE_CREDIT, WIRE_CREDIT, WIRE_CREDIT}};
    LIST_INSERT_HEAD(&set->all, s, link);
    set->count++;
    set->last_id = id;
    return s;
}

static bool run_opener(struct streams *set, struct stream *s, struct sv payload, const char **stage,
                       int *exit, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    if (!json_parse(payload, 16384, &a, &v, err))
        return false;
    const char *kind = json_str(json_get(v, "kind"), "");
    for (const struct stream_kind *k = set->kinds; k->name; k++) {
        if (strcmp(k->name, kind) == 0)
            return k->open(k->arg, s, v, stage, exit, err);
    }
    return vic_fail(err, VIC_UNSUPPORTED, 0, "no stream kind is called %.40s", kind);
}

static bool on_open(struct streams *set, const struct wire_frame *f, struct vic_err *err)
{
    if (f->stream % 2 == 0 || f->stream <= set->last_id)
        return vic_fail(err, VIC_PROTOCOL, 0, "OPEN of stream %u", f->stream);
    if (set->count >= WIRE_MAX_STREAMS)
        return vic_fail(err, VIC_PROTOCOL, 0, "more than %d streams", WIRE_MAX_STREAMS);
    struct stream *s = create(set, f->stream);
    struct vic_err why = {0};
    const char *stage = "open";
    int exit = 0;
    if (!run_opener(set, s, f->payload, &stage, &exit, &why))
        stream_refuse(s, &why, stage, exit);
    return true;
}

static bool on_data(struct stream *s, const struct wire_frame *f, struct vic_err *err)
{
    uint8_t channel;
    struct sv bytes;
    if (!wire_take_data(f->payload, &channel, &bytes, err))
        return false;
    if (channel != 0 || s->eof || bytes.len > s->credit[0])
        return vic_fail(err, VIC_PROTOCOL, 0, "stream %u: DATA beyond its credit or end", s->id);
    s->credit[0] -= (uint32_t)bytes.len;
    if (s->ops && s->ops->data)
        s->ops->data(s->owner, bytes);
    return true;
}

static bool on_credit(struct stream *s, const struct wire_frame *f, struct vic_err *err)
{
    uint8_t channel;
    uint32_t more;
    if (!wire_take_credit(f->payload, &channel, &more, err))
        return false;
    if (channel == 0 || more > WIRE_CREDIT - s->credit[channel])
        return vic_fail(err, VIC_PROTOCOL, 0, "stream %u: CREDIT over the limit", s->id);
    s->credit[channel] += more;
    if (s->ops && s->ops->room)
        s->ops->room(s->owner);
    return true;
}

static bool on_eof(struct stream *s, const struct wire_frame *f, struct vic_err *err)
{
    uint8_t channel;
    struct sv bytes;
    if (!wire_take_data(f->payload, &channel, &bytes, err))
        return false;
    if (channel == 0 && !s->eof) {
        s->eof = true;
        if (s->ops && s->ops->eof)
            s->ops->eof(s->owner);
    }
    return true;
}

static bool on_resize(struct stream *s, const struct wire_frame *f, struct vic_err *err)
{
    uint16_t rows, cols;
    if (!wire_take_resize(f->payload, &rows, &cols, err))
        return false;
    if (s->ops && s->ops->resize)
        s->ops->resize(s->owner, rows, cols);
    return true;
}

bool streams_frame(struct streams *set, const struct wire_frame *f, struct vic_err *err)
{
    if (f->type == WIRE_OPEN)
        return on_open(set, f, err);
    struct stream *s = find(set, f->stream);
    if (!s) /* closed by us a moment ago: the hub did not know yet */
        return true;
    if (f->type == WIRE_DATA)
        return on_data(s, f, err);
    if (f->type == WIRE_CREDIT_MORE)
        return on_credit(s, f, err);
    if (f->type == WIRE_EOF)
        return on_eof(s, f, err);
    if (f->type == WIRE_RESIZE)
        return on_resize(s, f, err);
    if (f->type == WIRE_CLOSE) {
        drop(s);
        return true;
    }
    return vic_fail(err, VIC_PROTOCOL, 0, "frame of type %d on stream %u", (int)f->type, f->stream);
}

void stream_opened(struct stream *s)
{
    wire_put(link_out(s->set->conn), WIRE_OPEN_OK, s->id, SV("{}"));
    link_kick(s->set->conn);
}

void stream_refuse(struct stream *s, const struct vic_err *err, const char *stage, int exit)
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    json_open(&w, NULL, '{');
    json_add_str(&w, "code", vic_code_name(err->code));
    json_add_str(&w, "error", err->msg);
    json_add_i64(&w, "errno", err->sys);
    json_add_str(&w, "stage", stage);
    if (exit)
        json_add_i64(&w, "exit", exit);
    json_close(&w, '}');
    wire_put(link_out(s->set->conn), WIRE_OPEN_ERR, s->id, buf_sv(&json));
    link_kick(s->set->conn);
    forget(s);
}

size_t stream_room(struct stream *s, unsigned channel)
{
    if (!link_room(s->set->conn))
        return 0;
    size_t most = WIRE_MAX_PAYLOAD - 1;
    return s->credit[channel] < most ? s->credit[channel] : most;
}

void stream_send(struct stream *s, unsigned channel, struct sv bytes)
{
    s->credit[channel] -= (uint32_t)bytes.len;
    wire_put_data(link_out(s->set->conn), s->id, (uint8_t)channel, bytes);
    link_kick(s->set->conn);
}

void stream_send_eof(struct stream *s, unsigned channel)
{
    wire_put_eof(link_out(s->set->conn), s->id, (uint8_t)channel);
    link_kick(s->set->conn);
}

void stream_grant(struct stream *s, size_t bytes)
{
    if (bytes == 0 || s->eof)
        return;
    s->credit[0] += (uint32_t)bytes;
    wire_put_credit(link_out(s->set->conn), s->id, 0, (uint32_t)bytes);
    link_kick(s->set->conn);
}

void stream_close(struct stream *s, struct sv json)
{
    wire_put(link_out(s->set->conn), WIRE_CLOSE, s->id, json);
    link_kick(s->set->conn);
    forget(s);
}
