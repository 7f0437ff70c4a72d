/* A container's output for clients, from its log.
 *
 * Attach and logs are both readers of the log (store/logs.h): they hold a position, never a
 * backlog.  So nothing is lost between start and attach, or while a client is slow, and a client
 * that stops reading costs one buffer.  Without a TTY each entry becomes a frame (Docker's stdcopy
 * form); with one it is raw.  A time stamp goes before each line, not before each entry. */
#include "output.h"

enum { FRAME_HEADER = 8, ENTRIES_MAX = 4096 };

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
    /* Also a long way to 'since' is gone in steps: others wait for this thread. */
    for (unsigned n = 0; out->len < room && !o->past_until; n++) {
        if (n == ENTRIES_MAX)
            return true;
        if (!logs_read(o->reader, &e, err)) {
            *end = err->code == VIC_OK;
            return *end;
        }
        add_entry(o, &e, out);
    }
    *end = o->past_until;
    return true;
}

/* --- whose output ---------------------------------------------------------------------------- */
uint64_t output_run(const struct store_container *k)
{
    if (container_is_starting(k) && k->run.seq > k->status.seq)
        return k->run.seq;
    return container_is_running(k) || container_is_starting(k) ? k->status.seq : 0;
}

bool output_run_over(const struct store_container *k, uint64_t seq)
{
    if (k->status.seq != seq)
        return k->status.seq > seq || k->meta.deleted || k->run.want != store_run_want_RUNNING;
    return !container_is_running(k) && !container_is_starting(k);
}

/* --- detach keys ----------------------------------------------------------------------------- */
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

/* How many of the matched keys still are the beginning of the keys, once the first ones are given
 * up: "a,a,b" typed as "aaab" must match. */
static size_t still_matched(const struct detach_keys *d)
{
    size_t n = d->matched - 1;
    while (n && memcmp(d->keys, d->keys + d->matched - n, n) != 0)
        n--;
    return n;
}

bool detach_take(struct detach_keys *d, struct sv typed, struct buf *out)
{
    for (size_t i = 0; i < typed.len; i++) {
        unsigned char c = (unsigned char)typed.p[i];
        while (d->matched && c != d->keys[d->matched]) {
            /* Not the keys after all: what was held back goes on. */
            size_t n = still_matched(d);
            buf_add(out, d->keys, d->matched - n);
            d->matched = n;
        }
        if (c != d->keys[d->matched])
            buf_add_c(out, (char)c);
        else if (++d->matched == d->count)
            return true;
    }
    return false;
}
