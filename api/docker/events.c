/* GET /events: the store's change log as a stream.
 *
 * Events are entries of the change log, written in the transaction of what they tell of, so a
 * stream can begin in the past (since, also over restarts of the engine) and misses nothing.  The
 * stream is a cursor (a revision): a slow client costs one buffer.  A log that no longer reaches
 * back as far as asked begins at its oldest entry, as dockerd's short memory does. */
#include "docker.h"

enum { PAGE = 32 << 10, PAGE_ENTRIES = 512, UNTIL_POLL_MS = 250 };

struct stream {
    struct call *call;
    struct park_watch *watch;
    struct filters filters;
    uint64_t at; /* revision of the last entry looked at */
    int64_t since_ns, until_ns;
    /* of one fill */
    struct buf *out;
    size_t entries;
    bool full, over;
};

/* --- filters --------------------------------------------------------------------------------- */
static const char *attribute(const struct store_entry *e, const char *key)
{
    for (size_t i = 0; i < e->attributes.n; i++)
        if (strcmp(e->attributes.v[i].k, key) == 0)
            return e->attributes.v[i].v;
    return "";
}

/* Docker's fuzzy match: a value that the id or name begins with. */
static bool fuzzy(const struct filters *f, const char *key, const char *id, const char *name)
{
    struct store_strs v = filter_values(f, key);
    for (size_t i = 0; i < v.n; i++)
        if (sv_starts(sv_of(id), sv_of(v.v[i])) || sv_starts(sv_of(name), sv_of(v.v[i])))
            return true;
    return v.n == 0;
}

static bool image_matches(const struct filters *f, const struct store_entry *e)
{
    struct store_strs v = filter_values(f, "image");
    const char *name = attribute(e, e->kind == STORE_IMAGE ? "name" : "image");
    ptrdiff_t colon = sv_rfind(sv_of(name), ':');
    struct sv bare = colon > 0 ? sv_sub(sv_of(name), 0, (size_t)colon) : sv_of(name);
    for (size_t i = 0; i < v.n; i++)
        if (strcmp(v.v[i], name) == 0 || sv_is(bare, v.v[i]) || strcmp(v.v[i], e->id) == 0)
            return true;
    return v.n == 0;
}

/* "exec_create" also takes "exec_create: ls". */
static bool action_matches(const struct filters *f, const char *action)
{
    struct store_strs v = filter_values(f, "event");
    for (size_t i = 0; i < v.n; i++) {
        size_t len = strlen(v.v[i]);
        if (strncmp(action, v.v[i], len) == 0 && (!action[len] || action[len] == ':'))
            return true;
    }
    return v.n == 0;
}

static bool matches(const struct filters *f, const struct store_entry *e)
{
    static const char *const foreign[] = {"network", "volume", "plugin", "daemon"};
    if (!f->n)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        if (filter_values(f, foreign[i]).n)
            return false; /* no such events yet */
    bool by_container = filter_values(f, "container").n > 0;
    return (!by_container ||
            (e->kind == STORE_CONTAINER && fuzzy(f, "container", e->id, attribute(e, "name")))) &&
           image_matches(f, e) && action_matches(f, e->action) &&
           (!filter_values(f, "type").n || filter_has(f, "type", store_kind_name(e->kind))) &&
           (!filter_values(f, "scope").n || filter_has(f, "scope", "local")) &&
           filter_labels(f, &e->attributes);
}

/* --- one event ------------------------------------------------------------------------------- */
static void write_event(const struct store_entry *e, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_open(&w, NULL, '{');
    json_add_str(&w, "status", e->action);
    json_add_str(&w, "id", e->id);
    if (e->kind == STORE_CONTAINER)
        json_add_str(&w, "from", attribute(e, "image"));
    json_add_str(&w, "Type", store_kind_name(e->kind));
    json_add_str(&w, "Action", e->action);
    json_open(&w, "Actor", '{');
    json_add_str(&w, "ID", e->id);
    json_open(&w, "Attributes", '{');
    for (size_t i = 0; i < e->attributes.n; i++)
        json_add_str(&w, e->attributes.v[i].k, e->attributes.v[i].v);
    json_close(&w, '}');
    json_close(&w, '}');
    json_add_str(&w, "scope", "local");
    json_add_i64(&w, "time", e->time_ns / 1000000000);
    json_add_i64(&w, "timeNano", e->time_ns);
    json_close(&w, '}');
    buf_add_c(out, '\n');
}

static bool each_entry(void *arg, const struct store_entry *e)
{
    struct stream *s = arg;
    if (e->time_ns > s->until_ns) {
        s->over = true;
        return false;
    }
    s->at = e->revision;
    if (e->op == STORE_OP_EVENT && (e->kind == STORE_CONTAINER || e->kind == STORE_IMAGE) &&
        e->time_ns >= s->since_ns && matches(&s->filters, e))
        write_event(e, s->out);
    s->full = s->out->len >= PAGE || ++s->entries >= PAGE_ENTRIES;
    return !s->full;
}

/* --- where to begin -------------------------------------------------------------------------- */
struct probe {
    int64_t time_ns;
    bool found;
};

static bool first_entry(void *arg, const struct store_entry *e)
{
    struct probe *p = arg;
    p->found = true;
    p->time_ns = e->time_ns;
    return false;
}

/* The greatest revision with nothing wanted up to it: what the log has lost, or what is older than
 * 'since'.  By halves, as times grow with revisions. */
static uint64_t seek(struct store_txn *t, uint64_t from, int64_t since_ns)
{
    uint64_t low = from, high = store_revision(t);
    while (low < high) {
        AUTO_ARENA struct arena a = {0};
        uint64_t mid = low + (high - low) / 2;
        struct probe p = {0};
        bool there = store_entries(t, mid, &a, first_entry, &p, NULL);
        if (there && (!p.found || p.time_ns >= since_ns))
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* --- the stream ------------------------------------------------------------------------------ */
static enum http_fill fill(void *arg, struct buf *out)
{
    struct stream *s = arg;
    struct vic_err err = {0};
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(s->call->api->o.store, &err);
    s->out = out;
    s->entries = 0;
    s->full = s->over = false;
    if (!t)
        return HTTP_END;
    if (!store_entries(t, s->at, &a, each_entry, s, &err)) {
        if (err.code != VIC_NOT_FOUND)
            return HTTP_END;
        s->at = seek(t, s->at, INT64_MIN); /* we were too slow: on from the oldest there is */
        return HTTP_MORE;
    }
    if (s->full)
        return HTTP_MORE;
    return s->over || call_now(s->call) >= s->until_ns ? HTTP_END : HTTP_WAIT;
}

static void stream_free(void *arg)
{
    struct stream *s = arg;
    park_unwatch(s->watch);
}

static bool read_times(struct call *c, struct stream *s)
{
    const char *since = call_query(c, "since"), *until = call_query(c, "until");
    s->since_ns = INT64_MIN;
    s->until_ns = INT64_MAX;
    if (*since && !time_parse(since, call_now(c), &s->since_ns))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid value for \"since\": %.64s", since);
    if (*until && !time_parse(until, call_now(c), &s->until_ns))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid value for \"until\": %.64s", until);
    if (s->until_ns < s->since_ns)
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "`since` time (%.64s) cannot be after `until` time (%.64s)", since, until);
    return true;
}

static bool begin(struct call *c, struct stream *s)
{
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!t)
        return false;
    bool past = s->since_ns != INT64_MIN || s->until_ns <= call_now(c);
    s->at = past ? seek(t, 0, s->since_ns) : store_revision(t);
    return true;
}

bool system_events(struct call *c)
{
    static const char *const keys[] = {"container", "image",  "network", "volume", "daemon",
                                       "plugin",    "event",  "label",   "type",   "scope",
                                       "node",      "secret", "service", "config", NULL};
    static const struct http_source source = {fill, stream_free};
    struct stream *s = ARENA_NEW(c->a, struct stream);
    s->call = c;
    if (!filters_read(c, keys, &s->filters) || !read_times(c, s) || !begin(c, s))
        return false;
    s->watch = park_watch(c, STORE_CONTAINER, NULL);
    http_stream(c->req, 200, "application/json", s->until_ns == INT64_MAX ? 0 : UNTIL_POLL_MS,
                &source, s);
    return true;
}
