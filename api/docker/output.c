/* A container's output for clients, from its log.
 *
 * Attach and logs are both readers of the log (store/logs.h): they hold a position, never a
 * backlog.  So nothing is lost between start and attach, or while a client is slow, and a client
 * that stops reading costs one buffer.  Without a TTY each entry becomes a frame (Docker's stdcopy
 * form); with one it is raw.  A time stamp goes before each line, not before each entry. */
#include "output.h"

enum { FRAME_HEADER = 8 };

bool output_open(struct call *c, const char *container, struct output *o)
{
    o->reader = logs_read_open(c->api->o.logs, container, &c->err);
    o->fresh[0] = o->fresh[1] = o->fresh[2] = true;
    return o->reader != NULL;
}

void output_close(struct output *o)
{
    logs_read_free(o->reader);
    o->reader = NULL;
}

void output_frame(struct buf *out, unsigned type, struct sv bytes)
{
    const unsigned char head[FRAME_HEADER] = {
        (unsigned char)type,
        0,
        0,
        0,
        (unsigned char)(bytes.len >> 24),
        (unsigned char)(bytes.len >> 16),
        (unsigned char)(bytes.len >> 8),
        (unsigned char)bytes.len,
    };
    buf_add(out, head, sizeof head);
    buf_add_sv(out, bytes);
}

const char *output_type(const struct call *c, bool tty)
{
    return c->version >= 1042 && !tty ? "application/vnd.docker.multiplexed-stream"
                                      : "application/vnd.docker.raw-stream";
}

static void add_piece(struct output *o, unsigned stream, struct sv bytes, struct buf *out)
{
    if (!bytes.len)
        return;
    if (o->tty)
        buf_add_sv(out, bytes);
    else
        output_frame(out, stream, bytes);
}

/* Line by line, each with its stamp. */
static void add_stamped(struct output *o, const struct logs_entry *e, struct buf *out)
{
    struct sv rest = e->bytes;
    char stamp[RFC3339_SIZE];
    AUTO_BUF struct buf line = {0};
    rfc3339(e->time_ns, 9, false, stamp);
    while (rest.len) {
        ptrdiff_t nl = sv_find(rest, '\n');
        struct sv part = sv_sub(rest, 0, nl < 0 ? rest.len : (size_t)nl + 1);
        rest = sv_sub(rest, part.len, rest.len);
        buf_reset(&line);
        if (o->fresh[e->stream]) {
            if (o->timestamps)
                buf_addf(&line, "%s ", stamp);
            if (o->details)
                buf_add_c(&line, ' ');
        }
        buf_add_sv(&line, part);
        o->fresh[e->stream] = nl >= 0;
        add_piece(o, e->stream, buf_sv(&line), out);
    }
}

static void add_entry(struct output *o, const struct logs_entry *e, struct buf *out)
{
    if (e->stream < 1 || e->stream > 2 || (e->stream == 1 ? !o->out : !o->err))
        return;
    if (o->since && e->time_ns < o->since)
        return;
    if (o->until && e->time_ns > o->until) {
        o->past_until = true;
        return;
    }
    if (o->timestamps || o->details)
        add_stamped(o, e, out);
    else
        add_piece(o, e->stream, e->bytes, out);
}

bool output_fill(struct output *o, struct buf *out, size_t room, bool *end, struct vic_err *err)
{
    struct logs_entry e;
    *end = false;
    err->code = VIC_OK;
    while (out->len < room && !o->past_until) {
        if (!logs_read(o->reader, &e, err)) {
            *end = err->code == VIC_OK;
            return *end;
        }
        add_entry(o, &e, out);
    }
    *end = o->past_until;
    return true;
}

/* --- detach keys
 * ------------------------------------------------------------------------------------ */
static bool one_key(struct sv word, unsigned char *out)
{
    if (word.len == 1 && (unsigned char)word.p[0] >= ' ') {
        *out = (unsigned char)word.p[0];
        return true;
    }
    if (word.len != 6 || !sv_starts(word, SV("ctrl-")))
        return false;
    char c = word.p[5];
    if (c >= 'a' && c <= 'z')
        *out = (unsigned char)(c - 'a' + 1);
    else if (c >= '@' && c <= '_' && !(c >= 'A' && c <= 'Z'))
        *out = (unsigned char)(c - '@');
    else
        return false;
    return true;
}

bool detach_parse(const char *text, struct detach_keys *out)
{
    struct sv rest = sv_of(text && text[0] ? text : "ctrl-p,ctrl-q");
    *out = (struct detach_keys){0};
    while (rest.p) {
        struct sv word = sv_cut(&rest, ',');
        if (out->count == DETACH_MAX || !one_key(word, &out->keys[out->count]))
            return false;
        out->count++;
    }
    return out->count > 0;
}

bool detach_take(struct detach_keys *d, struct sv typed, struct buf *out)
{
    for (size_t i = 0; i < typed.len; i++) {
        unsigned char c = (unsigned char)typed.p[i];
        if (c == d->keys[d->matched]) {
            if (++d->matched == d->count)
                return true;
            continue;
        }
        /* Not the keys after all: what was held back goes on. */
        buf_add(out, d->keys, d->matched);
        d->matched = 0;
        if (c == d->keys[0]) {
            d->matched = 1;
            if (d->count == 1)
                return true;
        } else {
            buf_add_c(out, (char)c);
        }
    }
    return false;
}
