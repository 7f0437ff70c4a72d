/* What each frame of a guest means.
 *
 * The guest proved one thing: its vm id.  All else is its word, so every id in a frame must be the
 * one that belongs to this connection, every number has a range, every text is cut and cleaned
 * before it is kept.  A frame that does not fit ends the connection; one that merely comes twice
 * (STATUS after a reconnect) is acknowledged and changes nothing. */
#include "hub_int.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

static void tell(struct conn *c)
{
    if (c->hub->o.cb->on_guest)
        c->hub->o.cb->on_guest(c->hub->o.arg, c->vm);
}

/* --- reading what a guest says -------------------------------------------------------------------
 */

static bool bad(struct vic_err *err, const char *what)
{
    return vic_fail(err, VIC_PROTOCOL, 0, "%s", what);
}

static bool parse(const struct wire_frame *f, struct arena *a, struct json_val *out,
                  struct vic_err *err)
{
    if (json_parse(f->payload, HUB_MAX_TOKENS, a, out, err) && json_type(*out) == JSON_OBJECT)
        return true;
    return bad(err, "a payload is not a JSON object within its limits");
}

/* Ids become names of folders and keys: letters, digits, '-' and '_' only. */
static bool read_id(struct json_val v, const char *key, char *out, size_t size)
{
    const char *s;
    if (!json_read_str(json_get(v, key), &s) || !*s || strlen(s) >= size)
        return false;
    for (const char *p = s; *p; p++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_", *p))
            return false;
    snprintf(out, size, "%s", s);
    return true;
}

/* A text for people: cut at a whole character, no control characters. */
static void read_text(struct json_val v, const char *key, char *out, size_t size)
{
    struct sv s = sv_of(json_str(json_get(v, key), ""));
    size_t n = 0;
    while (s.len) {
        size_t one = sv_utf8_len(s);
        if (!one || n + one >= size)
            break;
        memcpy(out + n, s.p, one);
        if (one == 1 && ((unsigned char)*s.p < 32 || *s.p == 127))
            out[n] = ' ';
        n += one;
        s = sv_sub(s, one, s.len);
    }
    out[n] = '\0';
}

static bool read_word(struct json_val v, const char *key, const char *const *words, unsigned count,
                      int *out)
{
    const char *s = json_str(json_get(v, key), "");
    for (unsigned i = 0; i < count; i++)
        if (words[i] && strcmp(words[i], s) == 0) {
            *out = (int)i;
            return true;
        }
    return false;
}

static const char *const roles[] = {"none", "run", "worker"};
static const char *const phases[] = {NULL, "starting", "running", "exited"};
static const char *const kinds[] = {"exited", "signaled", "launch-failed"};

static bool read_phase(struct json_val v, enum hub_phase *out, int64_t *pid, int64_t *started_ns)
{
    int n;
    if (!read_word(v, "phase", phases, ARRAY_LEN(phases), &n))
        return false;
    *out = (enum hub_phase)n;
    *pid = json_i64(json_get(v, "pid"), 0);
    *started_ns = json_i64(json_get(v, "started_ns"), 0);
    return true;
}

static bool read_exit(struct json_val v, struct hub_exit *out, struct vic_err *err)
{
    static const struct {
        int min, max;
    } ranges[] = {{0, 255}, {1, 64}, {125, 127}};
    int kind;
    *out = (struct hub_exit){.set = true};
    int64_t value = json_i64(json_get(v, "value"), -1);
    if (!read_id(v, "container", out->container, sizeof out->container) ||
        !json_read_u64(json_get(v, "seq"), &out->seq) ||
        !read_word(v, "kind", kinds, ARRAY_LEN(kinds), &kind) || value < ranges[kind].min ||
        value > ranges[kind].max)
        return bad(err, "EXIT without container, seq, kind or value in its range");
    out->kind = (enum hub_exit_kind)kind;
    out->value = (int)value;
    out->oom = json_bool(json_get(v, "oom"), false);
    read_text(v, "error", out->error, sizeof out->error);
    out->started_ns = json_i64(json_get(v, "started_ns"), 0);
    out->ended_ns = json_i64(json_get(v, "ended_ns"), 0);
    json_read_u64(json_get(v, "log_seq"), &out->log_seq);
    return true;
}

/* --- HELLO ---------------------------------------------------------------------------------------
 */

static bool read_hello_run(struct json_val v, struct hub_guest *out, struct vic_err *err)
{
    struct json_val run = json_get(v, "run"), ended = json_get(v, "exit");
    if (!read_id(run, "container", out->container, sizeof out->container) ||
        !json_read_u64(json_get(run, "seq"), &out->seq) ||
        !read_phase(run, &out->phase, &out->pid, &out->started_ns))
        return bad(err, "HELLO of a run without container, seq or phase");
    json_read_u64(json_get(run, "rev"), &out->spec_rev);
    if (!json_present(ended))
        return true;
    if (!read_exit(ended, &out->exit, err))
        return false;
    if (strcmp(out->exit.container, out->container) != 0 || out->exit.seq != out->seq)
        return bad(err, "HELLO with the exit of another run");
    out->phase = HUB_PHASE_EXITED;
    return true;
}

static bool read_hello(struct conn *c, struct json_val v, struct hub_guest *out,
                       struct vic_err *err)
{
    int role;
    *out = (struct hub_guest){.connected = true};
    if (!read_id(v, "vm", out->vm, sizeof out->vm) || strcmp(out->vm, c->vm) != 0)
        return bad(err, "HELLO of another vm than the key's");
    if (json_i64(json_get(v, "proto"), 0) != WIRE_PROTO)
        return bad(err, "HELLO of a protocol version that is not spoken here");
    if (!read_id(v, "boot", out->boot, sizeof out->boot) ||
        !read_word(v, "role", roles, ARRAY_LEN(roles), &role))
        return bad(err, "HELLO without boot id or role");
    out->role = (enum hub_role)role;
    return out->role != HUB_ROLE_RUN || read_hello_run(v, out, err);
}

static void put_welcome_locked(struct conn *c, const unsigned char key[TLS_PSK_SIZE],
                               uint64_t log_seq) VIC_REQUIRES(c->hub->lock)
{
    AUTO_BUF struct buf b = {0};
    char hex[2 * TLS_PSK_SIZE + 1];
    hex_encode(key, TLS_PSK_SIZE, hex);
    struct json_writer w = json_writer(&b);
    json_open(&w, NULL, '{');
    json_add_i64(&w, "proto", WIRE_PROTO);
    json_add_i64(&w, "time_ns", clock_wall_ns(c->hub->clock));
    json_add_str(&w, "key", hex);
    json_add_u64(&w, "log_seq", log_seq);
    json_close(&w, '}');
    wire_put(&c->control.b, WIRE_WELCOME, 0, buf_sv(&b));
    conn_dirty_locked(c);
}

/* The guest's entry takes over what HELLO said; an older connection of it is ended.  An exit that
 * waits for its acknowledgement stays, whatever HELLO says. */
static bool attach_locked(struct conn *c, struct hub_guest *said, struct vic_err *err)
    VIC_REQUIRES(c->hub->lock)
{
    struct guest *g = hub_find_locked(c->hub, c->vm);
    if (g && g->assigned[0] && said->role == HUB_ROLE_RUN &&
        strcmp(g->assigned, said->container) != 0)
        return bad(err, "HELLO of another container than the one it was given");
    if (!g) {
        g = xcalloc(1, sizeof *g);
        memcpy(g->said.vm, said->vm, sizeof said->vm);
        HASH_ADD_STR(c->hub->guests, said.vm, g);
    }
    struct conn *old = g->conn;
    if (old) {
        hub_holds(old->hub);
        conn_detach_locked(old, "replaced by a newer connection of the same vm");
        old->kill = "replaced by a newer connection of the same vm";
        conn_dirty_locked(old);
    }
    if (!said->exit.set && g->said.exit.set)
        said->exit = g->said.exit;
    said->boots = g->said.boots + (strcmp(g->said.boot, said->boot) != 0);
    g->said = *said;
    g->conn = c;
    c->guest = g;
    return true;
}

static bool on_hello(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct hub_guest said;
    struct hub *h = c->hub;
    unsigned char key[TLS_PSK_SIZE];
    uint64_t stored = 0;
    if (!parse(f, &a, &v, err) || !read_hello(c, v, &said, err))
        return false;
    if (!h->o.key(h->o.arg, c->vm, 2, key))
        return vic_fail(err, VIC_NOT_FOUND, 0, "vm %s is gone", c->vm);
    if (said.role == HUB_ROLE_RUN && h->o.cb->log_stored)
        stored = h->o.cb->log_stored(h->o.arg, said.container, said.boot);
    said.log_seq = stored;
    said.hello_ns = clock_wall_ns(h->clock);
    memcpy(c->boot, said.boot, sizeof c->boot);
    memcpy(c->container, said.container, sizeof c->container);
    mutex_lock(&c->hub->lock);
    bool ok = attach_locked(c, &said, err);
    if (ok)
        put_welcome_locked(c, key, stored);
    mutex_unlock(&c->hub->lock);
    if (!ok)
        return false;
    c->state = CONN_UP;
    if (c->peer)
        peers_end(&h->peers, TAKE(c->peer), true);
    loop_timer_set(c->timer, h->ping_ms);
    conn_ping(c); /* for the clock's offset */
    log_info(h->o.log, "hub.hello", KV_S("vm", c->vm), KV_S("boot", c->boot),
             KV_S("role", roles[said.role]), KV_S("container", c->container));
    tell(c);
    return true;
}

/* --- control frames ------------------------------------------------------------------------------
 */

static bool on_ping(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    uint64_t nonce;
    int64_t theirs;
    if (!wire_take_ping(f->payload, &nonce, &theirs, err))
        return false;
    mutex_lock(&c->hub->lock);
    wire_put_ping(&c->control.b, WIRE_PONG, nonce, clock_wall_ns(c->hub->clock));
    conn_dirty_locked(c);
    mutex_unlock(&c->hub->lock);
    return true;
}

/* The guest's clock minus ours, taking it that the answer was half-way back. */
static bool on_pong(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    uint64_t nonce;
    int64_t theirs, offset;
    if (!wire_take_ping(f->payload, &nonce, &theirs, err))
        return false;
    int64_t now = clock_wall_ns(c->hub->clock);
    int64_t middle = c->ping_sent_ns + (now - c->ping_sent_ns) / 2;
    if (nonce != c->ping_nonce || !c->ping_sent_ns ||
        __builtin_sub_overflow(theirs, middle, &offset))
        return true;
    c->ping_sent_ns = 0;
    mutex_lock(&c->hub->lock);
    if (c->guest)
        c->guest->said.clock_offset_ns = offset;
    mutex_unlock(&c->hub->lock);
    return true;
}

/* The guest took its role: what was sent becomes what it is. */
static void take_role_locked(struct conn *c, struct hub_guest *said) VIC_REQUIRES(c->hub->lock)
{
    const struct sent_config *config = &c->config;
    bool same = said->role == config->role && said->seq == config->seq &&
                strcmp(said->container, config->container) == 0;
    said->role = config->role;
    said->spec_rev = config->rev;
    if (same)
        return;
    memcpy(said->container, config->container, sizeof said->container);
    said->seq = config->seq;
    said->phase = config->role == HUB_ROLE_RUN ? HUB_PHASE_STARTING : HUB_PHASE_NONE;
    said->pid = said->started_ns = 0;
    memcpy(c->container, config->container, sizeof c->container);
}

static bool on_config_ack(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    uint64_t gen;
    if (!parse(f, &a, &v, err))
        return false;
    if (!json_read_u64(json_get(v, "gen"), &gen))
        return bad(err, "CONFIG_ACK without generation");
    mutex_lock(&c->hub->lock);
    bool known = c->config.role != HUB_ROLE_NONE && gen <= c->config.gen;
    bool newest = known && gen == c->config.gen && c->guest;
    if (newest) {
        struct hub_guest *said = &c->guest->said;
        said->config_gen = gen;
        said->config_ok = json_bool(json_get(v, "ok"), false);
        said->config_errno = (int)(json_i64(json_get(v, "errno"), 0) & 0xffff);
        read_text(v, "error", said->config_error, sizeof said->config_error);
        read_text(v, "stage", said->config_stage, sizeof said->config_stage);
        if (said->config_ok)
            take_role_locked(c, said);
    }
    mutex_unlock(&c->hub->lock);
    if (!known)
        return bad(err, "CONFIG_ACK of a configuration that was not sent");
    if (newest)
        tell(c);
    return true;
}

static bool on_status(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    uint64_t seq;
    enum hub_phase phase;
    int64_t pid, started_ns;
    if (!parse(f, &a, &v, err))
        return false;
    if (!json_read_u64(json_get(v, "seq"), &seq) || !read_phase(v, &phase, &pid, &started_ns))
        return bad(err, "STATUS without seq or phase");
    bool newer = seq > c->status_seq, run = true;
    AUTO_BUF struct buf ack = {0};
    buf_add_str(&ack, "{\"seq\":");
    buf_add_u64(&ack, seq);
    buf_add_c(&ack, '}');
    mutex_lock(&c->hub->lock);
    if (c->guest) {
        struct hub_guest *said = &c->guest->said;
        run = said->role == HUB_ROLE_RUN;
        if (run && newer)
            said->phase = phase, said->pid = pid, said->started_ns = started_ns;
        wire_put(&c->control.b, WIRE_STATUS_ACK, 0, buf_sv(&ack));
        conn_dirty_locked(c);
    }
    mutex_unlock(&c->hub->lock);
    if (!run)
        return bad(err, "STATUS of a guest that has no run");
    if (newer) {
        c->status_seq = seq;
        tell(c);
    }
    return true;
}

static bool on_exit_frame(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct hub_exit ended;
    if (!parse(f, &a, &v, err) || !read_exit(v, &ended, err))
        return false;
    bool own = true;
    mutex_lock(&c->hub->lock);
    if (c->guest) {
        struct hub_guest *said = &c->guest->said;
        own = said->role == HUB_ROLE_RUN && ended.seq == said->seq &&
              strcmp(ended.container, said->container) == 0;
        if (own) {
            said->exit = ended;
            said->phase = HUB_PHASE_EXITED;
        }
    }
    mutex_unlock(&c->hub->lock);
    if (!own)
        return bad(err, "EXIT of another run than the guest's");
    tell(c);
    return true;
}

static bool on_error(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    char text[256];
    if (!parse(f, &a, &v, err))
        return false;
    read_text(v, "text", text, sizeof text);
    log_warn(c->hub->o.log, "hub.guest_error", KV_S("vm", c->vm), KV_S("err", text));
    conn_end(c, NULL);
    return true;
}

/* --- LOG -----------------------------------------------------------------------------------------
 */

static struct log_mark *mark_at(struct log_window *w, unsigned i)
{
    return &w->marks[(w->head + i) % HUB_LOG_MARKS];
}

static bool window_add(struct log_window *w, uint64_t seq, size_t bytes)
{
    w->made = (struct log_mark){seq, w->made.bytes + bytes, w->made.entries + 1};
    if (w->made.bytes - w->acked.bytes > WIRE_LOG_WINDOW + HUB_LOG_SLACK)
        return false;
    const struct log_mark *last = w->count ? mark_at(w, w->count - 1) : NULL;
    const struct log_mark *before = w->count > 1 ? mark_at(w, w->count - 2) : &w->acked;
    if (!last || last->bytes - before->bytes >= HUB_LOG_STEP ||
        last->entries - before->entries >= HUB_LOG_STEP / 32) {
        if (w->count == HUB_LOG_MARKS)
            return false;
        w->count++;
    }
    *mark_at(w, w->count - 1) = w->made;
    return true;
}

void window_ack(struct log_window *w, uint64_t seq)
{
    while (w->count && mark_at(w, 0)->seq <= seq) {
        w->acked = *mark_at(w, 0);
        w->head = (w->head + 1) % HUB_LOG_MARKS;
        w->count--;
    }
}

uint64_t window_entries(const struct log_window *w)
{
    return w->made.entries - w->acked.entries;
}

/* Notes what was taken; true when it is the last of a run whose end was told before it. */
static bool note_log(struct conn *c, uint64_t seq)
{
    mutex_lock(&c->hub->lock);
    struct hub_guest *said = c->guest ? &c->guest->said : NULL;
    if (said && said->log_seq < seq)
        said->log_seq = seq;
    bool last = said && said->exit.set && said->exit.log_seq == seq;
    mutex_unlock(&c->hub->lock);
    return last;
}

static bool on_log(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    struct wire_log log;
    if (!wire_take_log(f->payload, &log, err))
        return false;
    if (!c->container[0])
        return bad(err, "LOG of a guest that has no run");
    if (log.seq <= c->log_seq)
        return bad(err, "LOG out of order");
    c->log_seq = log.seq;
    mutex_lock(&c->hub->lock);
    bool fits = window_add(&c->window, log.seq, log.bytes.len);
    bool full = window_entries(&c->window) > HUB_LOG_ENTRIES;
    mutex_unlock(&c->hub->lock);
    if (!fits)
        return bad(err, "LOG over the window");
    if (c->hub->o.cb->on_log)
        c->hub->o.cb->on_log(c->hub->o.arg, c->vm, c->container, c->boot, log.seq, log.time_ns,
                             log.stream, log.flags & WIRE_LOG_PARTIAL, log.bytes);
    if (note_log(c, log.seq))
        tell(c);
    if (full && !c->paused && c->net) {
        c->paused = true;
        net_pause(c->net);
        conn_flush(c); /* acknowledgements may have come in between */
    }
    return true;
}

/* --- the table -----------------------------------------------------------------------------------
 */

/* STATS has a number but no payload yet: it is taken and ignored. */
static bool on_stats(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    (void)c, (void)f, (void)err;
    return true;
}

enum where { ON_CONN = 1, ON_STREAM = 2 };

/* What a guest may send; a type without a row is the hub's own. */
static const struct {
    bool (*handle)(struct conn *c, const struct wire_frame *f, struct vic_err *err);
    unsigned where;
} rows[WIRE_TYPES] = {
    [WIRE_HELLO] = {on_hello, ON_CONN},
    [WIRE_PING] = {on_ping, ON_CONN},
    [WIRE_PONG] = {on_pong, ON_CONN},
    [WIRE_CONFIG_ACK] = {on_config_ack, ON_CONN},
    [WIRE_STATUS] = {on_status, ON_CONN},
    [WIRE_EXIT] = {on_exit_frame, ON_CONN},
    [WIRE_LOG] = {on_log, ON_CONN},
    [WIRE_STATS] = {on_stats, ON_CONN | ON_STREAM},
    [WIRE_ERROR] = {on_error, ON_CONN},
    [WIRE_OPEN_OK] = {stream_frame, ON_STREAM},
    [WIRE_OPEN_ERR] = {stream_frame, ON_STREAM},
    [WIRE_DATA] = {stream_frame, ON_STREAM},
    [WIRE_CREDIT_MORE] = {stream_frame, ON_STREAM},
    [WIRE_EOF] = {stream_frame, ON_STREAM},
    [WIRE_CLOSE] = {stream_frame, ON_STREAM},
};

bool frame_handle(struct conn *c, const struct wire_frame *f, struct vic_err *err)
{
    unsigned type = (unsigned)f->type;
    if (type == 0 || type >= WIRE_TYPES)
        return true; /* wire_take has refused those that must be understood */
    if ((c->state == CONN_HELLO) != (type == WIRE_HELLO))
        return bad(err, "HELLO is the first frame, and only that");
    if (type == WIRE_ERROR && f->stream)
        return stream_frame(c, f, err);
    if (!rows[type].handle || !(rows[type].where & (f->stream ? ON_STREAM : ON_CONN)))
        return vic_fail(err, VIC_PROTOCOL, 0, "frame of type %u on stream %u from a guest", type,
                        f->stream);
    return rows[type].handle(c, f, err);
}
