/* GET /containers/{id}/logs.
 *
 * Without follow: what is stored now.  With it: until the run that goes on now has ended and its
 * output was delivered; the container's exit is committed only after its output is readable, so the
 * order is always output, then end. */
#include "output.h"

enum { FILL_BYTES = 49152, UNTIL_MS = 500 };

struct log_stream {
    struct call *c;
    struct output o;
    const char *id;
    uint64_t seq; /* the run that is followed; 0 = none */
    struct park_watch *park;
    struct logs_watch *watch;
    struct http_waker *waker;
};

static void appended(void *arg)
{
    http_wake(((struct log_stream *)arg)->waker);
}

/* Has the run ended, or the container gone? */
static bool ended(const struct log_stream *l)
{
    struct store_container k;
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(l->c->api->o.store, &err);
    return !t || !store_get(t, STORE_CONTAINER, l->id, &a, &k, &err) || output_run_over(&k, l->seq);
}

static void say_error(const struct log_stream *l, const struct vic_err *err, struct buf *out)
{
    const char *text = arena_printf(l->c->a, "Error grabbing logs: %s\n", err->msg);
    if (l->o.tty)
        buf_add_str(out, text);
    else
        output_frame(out, 3, sv_of(text));
}

static enum http_fill fill(void *arg, struct buf *out)
{
    struct log_stream *l = arg;
    struct vic_err err = {0};
    bool end;
    /* First the state, then the log: output that came before the end is readable by now. */
    bool over = !l->seq || (l->o.until && call_now(l->c) > l->o.until) || ended(l);
    if (!output_fill(&l->o, out, FILL_BYTES, &end, &err)) {
        if (!l->seq || err.code != VIC_NOT_FOUND) /* followed and removed: its end */
            say_error(l, &err, out);
        return HTTP_END;
    }
    if (!end)
        return HTTP_MORE;
    return over || l->o.past_until ? HTTP_END : HTTP_WAIT;
}

static void release(void *arg)
{
    struct log_stream *l = arg;
    logs_watch_free(l->watch);
    park_unwatch(l->park);
    http_waker_free(l->waker);
    output_close(&l->o);
}

static const struct http_source source = {fill, release};

static bool read_times(struct call *c, struct output *o)
{
    const char *since = call_query(c, "since"), *until = call_query(c, "until");
    if (since[0] && strcmp(since, "0") != 0 && !time_parse(since, call_now(c), &o->since))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid value for \"since\": %s", since);
    if (until[0] && strcmp(until, "0") != 0 && !time_parse(until, call_now(c), &o->until))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid value for \"until\": %s", until);
    return true;
}

static bool seek_tail(struct call *c, struct output *o)
{
    uint64_t lines;
    if (!sv_to_u64(sv_of(call_query(c, "tail")), &lines))
        return true; /* "all", empty or what Docker takes for it */
    return logs_seek_tail(o->reader, lines, &c->err);
}

bool container_logs(struct call *c)
{
    struct store_container k;
    struct log_stream *l = ARENA_NEW(c->a, struct log_stream);
    *l = (struct log_stream){.c = c};
    l->o.out = call_flag(c, "stdout", false);
    l->o.err = call_flag(c, "stderr", false);
    l->o.timestamps = call_flag(c, "timestamps", false);
    l->o.details = call_flag(c, "details", false);
    if (!l->o.out && !l->o.err)
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "Bad parameters: you must choose at least one stream");
    if (!get_container(c, c->param[0], &k) || !read_times(c, &l->o))
        return false;
    if (strcmp(k.host_config.log_config.type, "none") == 0)
        return vic_fail(&c->err, VIC_UNSUPPORTED, 0,
                        "configured logging driver does not support reading");
    l->o.tty = k.config.tty;
    l->id = k.meta.id;
    l->seq = call_flag(c, "follow", false) ? output_run(&k) : 0;
    if (!output_open(c, k.meta.id, &l->o))
        return false;
    if (!seek_tail(c, &l->o)) {
        output_close(&l->o);
        return false;
    }
    l->waker = http_waker(c->req);
    if (l->seq) {
        l->park = park_watch(c, STORE_CONTAINER, k.meta.id);
        l->watch = logs_watch_new(c->api->o.logs, k.meta.id, appended, l);
    }
    int64_t interval_ms = l->seq && l->o.until ? UNTIL_MS : 0;
    http_stream(c->req, 200, output_type(c, k.config.tty), interval_ms, &source, l);
    return true;
}
