/* The hub: making and freeing, the table of guests, what is sent to one guest.  See hub_int.h for
 * how the parts work together. */
#include "hub_int.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/json.h"

/* Inside a handshake, on the loop thread. */
static bool find_key(void *arg, const char *identity, unsigned char key[TLS_PSK_SIZE])
{
    struct hub *h = arg;
    char vm[65];
    unsigned n;
    return wire_parse_identity(identity, vm, &n) && (n == 1 || n == 2) &&
           h->o.key(h->o.arg, vm, n, key);
}

static int64_t or_else(int64_t ms, int64_t otherwise)
{
    return ms > 0 ? ms : otherwise;
}

struct hub *hub_new(const struct hub_options *o, struct vic_err *err)
{
    struct hub *h = xcalloc(1, sizeof *h);
    h->o = *o;
    h->clock = o->clock ? o->clock : &vic_clock_real;
    h->handshake_ms = or_else(o->handshake_ms, HUB_HANDSHAKE_MS);
    h->ping_ms = or_else(o->ping_ms, WIRE_PING_MS);
    h->dead_ms = or_else(o->dead_ms, WIRE_DEAD_MS);
    mutex_init(&h->lock);
    cond_init(&h->changed);
    h->tls = tls_server_psk(find_key, h, err);
    if (!h->tls) {
        hub_free(h);
        return NULL;
    }
    return h;
}

/* --- work that belongs on the loop's thread ------------------------------------------------------
 */

struct call {
    struct hub *hub;
    const char *address;
    int *port;
    struct vic_err *err;
    bool ok, done;
};

static void call_done(struct call *c, bool ok)
{
    mutex_lock(&c->hub->lock);
    c->ok = ok;
    c->done = true;
    cond_broadcast(&c->hub->changed);
    mutex_unlock(&c->hub->lock);
}

/* Runs fn on the loop's thread and waits for its call_done; directly when we are that thread, or
 * the loop does not run or was stopped (then we become its thread). */
static void call_on_loop(struct hub *h, void (*fn)(void *arg), struct call *c)
{
    if (loop_is_thread(h->o.loop) || loop_adopt(h->o.loop) || !loop_post(h->o.loop, fn, c)) {
        fn(c);
        return;
    }
    mutex_lock(&h->lock);
    while (!c->done)
        cond_wait(&h->changed, &h->lock);
    mutex_unlock(&h->lock);
}

static void listen_now(void *arg)
{
    struct call *c = arg;
    struct hub *h = c->hub;
    struct net_options o = {
        .tls = h->tls, .handshake_ms = h->handshake_ms, .handshake_size = HUB_HANDSHAKE_SIZE};
    if (h->listener_count == HUB_MAX_LISTENERS) {
        vic_fail(c->err, VIC_INVALID, 0, "more than %d addresses", HUB_MAX_LISTENERS);
        call_done(c, false);
        return;
    }
    struct net_listener *n = net_listen(h->o.loop, c->address, &o, conn_accept, h, c->err);
    if (n) {
        h->listeners[h->listener_count++] = n;
        if (c->port)
            *c->port = net_listener_port(n);
    }
    call_done(c, n != NULL);
}

bool hub_listen(struct hub *h, const char *address, int *port, struct vic_err *err)
{
    struct call c = {.hub = h, .address = address, .port = port, .err = err};
    call_on_loop(h, listen_now, &c);
    return c.ok || vic_wrap(err, "hub");
}

static void close_now(void *arg)
{
    struct call *c = arg;
    struct hub *h = c->hub;
    mutex_lock(&h->lock);
    h->closing = true;
    mutex_unlock(&h->lock);
    for (unsigned i = 0; i < h->listener_count; i++)
        net_listener_free(h->listeners[i]);
    for (struct conn *one; (one = h->conns);) {
        mutex_lock(&one->hub->lock);
        conn_detach_locked(one, "the endpoint is shutting down");
        mutex_unlock(&one->hub->lock);
        conn_orphan(one);
    }
    hub_work(h);
    call_done(c, true);
}

void hub_free(struct hub *h)
{
    if (!h)
        return;
    struct call c = {.hub = h};
    call_on_loop(h, close_now, &c);
    struct guest *g, *tmp;
    HASH_ITER(hh, h->guests, g, tmp)
    {
        HASH_DEL(h->guests, g);
        free(g);
    }
    buf_fini(&h->scratch);
    tls_ctx_free(h->tls);
    cond_fini(&h->changed);
    mutex_fini(&h->lock);
    free(h);
}

static void work_posted(void *hub)
{
    hub_work(hub);
}

void hub_kick_locked(struct hub *h)
{
    if (!h->posted && !h->closing)
        h->posted = loop_post(h->o.loop, work_posted, h);
}

static struct conn *next_dirty(struct hub *h) VIC_REQUIRES(h->lock)
{
    struct conn *c = h->dirty;
    if (c) {
        h->dirty = c->dirty_next;
        c->dirty = false;
    }
    return c;
}

/* Calls the wake of the first stream that waits for it; false when none does. */
static bool wake_one(struct hub *h)
{
    mutex_lock(&h->lock);
    struct hub_stream *s = h->wakes;
    if (!s) {
        mutex_unlock(&h->lock);
        return false;
    }
    DL_DELETE(h->wakes, s);
    s->waiting = false;
    h->waking = s;
    void (*wake)(void *) = s->wake;
    void *arg = s->arg;
    mutex_unlock(&h->lock);
    if (wake)
        wake(arg); /* may free s */
    mutex_lock(&h->lock);
    h->waking = NULL;
    cond_broadcast(&h->changed);
    mutex_unlock(&h->lock);
    return true;
}

void hub_work(struct hub *h)
{
    do {
        mutex_lock(&h->lock);
        h->posted = false;
        struct conn *c = next_dirty(h);
        mutex_unlock(&h->lock);
        for (; c; mutex_unlock(&h->lock)) {
            conn_flush(c);
            mutex_lock(&h->lock);
            c = next_dirty(h);
        }
    } while (wake_one(h));
}

/* --- guests --------------------------------------------------------------------------------------
 */

struct guest *hub_find_locked(struct hub *h, const char *vm)
{
    struct guest *g;
    HASH_FIND_STR(h->guests, vm, g);
    return g;
}

bool hub_guest(struct hub *h, const char *vm, struct hub_guest *out)
{
    mutex_lock(&h->lock);
    struct guest *g = hub_find_locked(h, vm);
    if (g)
        *out = g->said;
    mutex_unlock(&h->lock);
    return g != NULL;
}

void hub_forget(struct hub *h, const char *vm)
{
    mutex_lock(&h->lock);
    struct guest *g = hub_find_locked(h, vm);
    if (g) {
        struct conn *c = g->conn;
        if (c) {
            hub_holds(c->hub);
            conn_detach_locked(c, "the VM is gone");
            c->kill = "the VM is gone";
            conn_dirty_locked(c);
        }
        HASH_DEL(h->guests, g);
        free(g);
    }
    mutex_unlock(&h->lock);
}

/* The live connection of a vm, or NULL and 'err'. */
static struct conn *live_locked(struct hub *h, const char *vm, struct vic_err *err)
    VIC_REQUIRES(h->lock)
{
    struct guest *g = hub_find_locked(h, vm);
    if (g && g->conn && !g->conn->kill)
        return g->conn;
    vic_fail(err, VIC_UNAVAILABLE, 0, "vm %s is not connected", vm);
    return NULL;
}

static bool send_control(struct hub *h, const char *vm, enum wire_type type, struct sv payload,
                         struct vic_err *err)
{
    mutex_lock(&h->lock);
    struct conn *c = live_locked(h, vm, err);
    if (c) {
        wire_put(&c->control.b, type, 0, payload);
        conn_dirty_locked(c);
    }
    mutex_unlock(&h->lock);
    return c != NULL;
}

static bool read_config(struct sv text, struct sent_config *out, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    if (text.len > WIRE_MAX_CONFIG)
        return vic_fail(err, VIC_TOO_LARGE, 0, "CONFIG of %zu bytes", text.len);
    if (!json_parse(text, 0, &a, &v, err))
        return vic_wrap(err, "CONFIG");
    struct json_val spec = json_get(v, "spec");
    const char *role = json_str(json_get(v, "role"), "");
    const char *container = json_str(json_get(spec, "container"), "");
    *out = (struct sent_config){0};
    out->role = strcmp(role, "run") == 0      ? HUB_ROLE_RUN
                : strcmp(role, "worker") == 0 ? HUB_ROLE_WORKER
                                              : HUB_ROLE_NONE;
    if (!json_read_u64(json_get(v, "gen"), &out->gen) || out->role == HUB_ROLE_NONE ||
        strlen(container) >= sizeof out->container || (out->role == HUB_ROLE_RUN && !*container))
        return vic_fail(err, VIC_INVALID, 0, "CONFIG without generation, role or container");
    strncpy(out->container, container, sizeof out->container - 1);
    json_read_u64(json_get(spec, "seq"), &out->seq);
    json_read_u64(json_get(spec, "rev"), &out->rev);
    return true;
}

bool hub_config(struct hub *h, const char *vm, struct sv config_json, struct vic_err *err)
{
    struct sent_config config;
    if (!read_config(config_json, &config, err))
        return false;
    mutex_lock(&h->lock);
    struct conn *c = live_locked(h, vm, err);
    if (c) {
        c->config = config;
        memcpy(c->guest->assigned, config.container, sizeof config.container);
        wire_put(&c->control.b, WIRE_CONFIG, 0, config_json);
        conn_dirty_locked(c);
    }
    mutex_unlock(&h->lock);
    return c != NULL;
}

bool hub_exit_ack(struct hub *h, const char *vm, uint64_t seq, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    buf_add_str(&b, "{\"seq\":");
    buf_add_u64(&b, seq);
    buf_add_c(&b, '}');
    mutex_lock(&h->lock);
    struct guest *g = hub_find_locked(h, vm);
    if (g && g->said.exit.set && g->said.exit.seq == seq)
        g->said.exit.set = false;
    mutex_unlock(&h->lock);
    return send_control(h, vm, WIRE_EXIT_ACK, buf_sv(&b), err);
}

bool hub_signal(struct hub *h, const char *vm, const char *session, int signum, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    struct json_writer w = json_writer(&b);
    json_open(&w, NULL, '{');
    json_add_str(&w, "session", session ? session : "");
    json_add_i64(&w, "signal", signum);
    json_close(&w, '}');
    return send_control(h, vm, WIRE_SIGNAL, buf_sv(&b), err);
}

bool hub_shutdown(struct hub *h, const char *vm, int64_t grace_ms, int signum, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    struct json_writer w = json_writer(&b);
    json_open(&w, NULL, '{');
    json_add_i64(&w, "grace_ms", grace_ms);
    json_add_i64(&w, "signal", signum);
    json_close(&w, '}');
    return send_control(h, vm, WIRE_SHUTDOWN, buf_sv(&b), err);
}

void hub_log_ack(struct hub *h, const char *vm, const char *boot, uint64_t seq)
{
    mutex_lock(&h->lock);
    struct conn *c = live_locked(h, vm, NULL);
    if (c && strcmp(c->guest->said.boot, boot) == 0) {
        window_ack(&c->window, seq);
        wire_put_u64(&c->control.b, WIRE_LOG_ACK, seq);
        conn_dirty_locked(c);
    }
    mutex_unlock(&h->lock);
}
