/* See io_fixture.h. */
#include "io_fixture.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Freed memory is used again soon, so that a test can look at the size of the process. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=2";
}

/* libuv closes sockets by the system call, which the sanitizer does not see: the number's next
 * owner looks like a race at its own close. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race_top:close\n";
}

static const unsigned char secret[32] = "a secret of the tests, 32 bytes!";

/* --- the host -------------------------------------------------------------------------------- */
static bool key_of(void *arg, const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE])
{
    (void)arg;
    tg_key(vm, n, out);
    return true;
}

static void on_guest(void *arg, const char *vm)
{
    (void)arg, (void)vm;
}

static void on_log(void *arg, const char *vm, const char *container, const char *boot, uint64_t seq,
                   int64_t time_ns, unsigned stream, bool partial, struct sv bytes)
{
    (void)arg, (void)vm, (void)container, (void)boot, (void)seq, (void)time_ns, (void)stream;
    (void)partial, (void)bytes;
}

static uint64_t log_stored(void *arg, const char *container, const char *boot)
{
    (void)arg, (void)container, (void)boot;
    return 0;
}

static void open_hub(struct io *x)
{
    static const struct hub_callbacks callbacks = {on_guest, on_log, log_stored};
    int port = 0;
    const struct hub_options *o;
    check_ok(x->hub_loop = loop_new("hub", &err));
    o = &(const struct hub_options){
        .loop = x->hub_loop, .cb = &callbacks, .arg = x, .key = key_of, .log = x->f.host.log};
    check_ok(x->hub = hub_new(o, &err));
    check_ok(loop_start(x->hub_loop, &err));
    check_ok(hub_listen(x->hub, "tcp:127.0.0.1:0", &port, &err));
    snprintf(x->address, sizeof x->address, "tcp:127.0.0.1:%d", port);
}

static void open_parts(struct api_host *h, uint64_t spool_quota)
{
    AUTO_FREE char *logs = xasprintf("%s/logs", h->dir), *spool = xasprintf("%s/spool", h->dir);
    AUTO_FREE char *store = xasprintf("%s/store", h->dir);
    const struct store_options so = {.dir = store, .secret = secret, .log = h->log};
    const struct logs_options lo = {.dir = logs, .log = h->log};
    check_ok(h->store = store_open(&so, &err));
    check_ok(h->logs = logs_open(&lo, &err));
    check_ok(h->spool = spool_open(spool, spool_quota, &err));
    check_ok(h->loop = loop_new("api", &err));
}

static void health(void *arg, struct api_health *out)
{
    (void)arg;
    *out = (struct api_health){.vsphere_connected = true};
}

static void serve(struct io *x)
{
    struct api_host *h = &x->f.host;
    AUTO_FREE char *address = xasprintf("unix:%s", h->socket);
    const struct api_options o = {.loop = h->loop,
                                  .store = h->store,
                                  .logs = h->logs,
                                  .spool = h->spool,
                                  .inflate = VIC_INFLATE,
                                  .hub = x->hub,
                                  .log = h->log,
                                  .clock = &vic_clock_real,
                                  .host_name = "api-io",
                                  .health = health};
    check_ok(h->api = api_new(&o, &err));
    check_ok(api_listen(h->api, address, NULL, NULL, &err));
    check_ok(loop_start(h->loop, &err));
}

static int set_up(void **state, uint64_t spool_quota)
{
    struct io *x = xcalloc(1, sizeof *x);
    struct api_host *h = &x->f.host;
    const char *tmp = getenv("TMPDIR");
    snprintf(x->f.dir, sizeof x->f.dir, "%.40s/vic-io-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(x->f.dir));
    *h = (struct api_host){.dir = xstrdup(x->f.dir), .log = log_new(2, LOG_ERROR, "api_io")};
    h->socket = xasprintf("%s/api.sock", h->dir);
    open_parts(h, spool_quota);
    open_hub(x);
    serve(x);
    check_ok(host_seed(h, &err));
    *state = x;
    return 0;
}

int io_setup(void **state)
{
    return set_up(state, 0);
}

int io_setup_small(void **state)
{
    return set_up(state, 64 << 10);
}

int io_teardown(void **state)
{
    struct io *x = *state;
    if (x->has_guest)
        tg_close(&x->guest);
    if (x->f.host.api) { /* the hub outlives the API, which has streams */
        loop_stop(x->f.host.loop);
        api_free(x->f.host.api);
        x->f.host.api = NULL;
    }
    hub_free(x->hub);
    loop_stop(x->hub_loop);
    loop_free(x->hub_loop);
    return fixture_teardown(state);
}

void io_guest(struct io *x)
{
    const struct tg_connect o = {.address = x->address, .vm = IO_VM, .n = 1};
    check_ok(tg_connect(&x->guest, &o, &err));
    check_ok(tg_hello(&x->guest, NULL, &err));
    x->has_guest = true;
}

/* --- the container --------------------------------------------------------------------------- */
const char *io_make(struct io *x, const char *members)
{
    return make(&x->f, NULL, members);
}

/* What start writes; it would wait for control. */
static enum store_verdict want_run(void *arg, struct store_txn *t, struct arena *a, void *record,
                                   struct vic_err *err)
{
    struct store_container *k = record;
    (void)arg, (void)t, (void)a, (void)err;
    k->run.seq++;
    k->run.want = store_run_want_RUNNING;
    return STORE_PUT;
}

void io_start(struct io *x, const char *id)
{
    static const struct store_change_note note = {.actor = "test"};
    struct store *s = x->f.host.store;
    check_ok(store_update(s, &note, STORE_CONTAINER, id, want_run, NULL, &err));
    check_ok(host_began(s, id, &err));
}

const char *io_run(struct io *x, const char *members)
{
    const char *id = io_make(x, members);
    io_start(x, id);
    return id;
}

void io_ended(struct io *x, const char *id, int code)
{
    check_ok(host_ended(x->f.host.store, id, code, &err));
}

void io_say_at(struct io *x, const char *id, unsigned stream, struct sv text, int64_t time_ns)
{
    const struct logs_entry e = {
        .boot = "boot", .seq = ++x->log_seq, .time_ns = time_ns, .stream = stream, .bytes = text};
    logs_append(x->f.host.logs, id, &e);
}

void io_say_soon(struct io *x, const char *id, unsigned stream, struct sv text)
{
    io_say_at(x, id, stream, text, clock_wall_ns(&vic_clock_real));
}

void io_say(struct io *x, const char *id, unsigned stream, struct sv text)
{
    io_say_soon(x, id, stream, text);
    logs_flush(x->f.host.logs, id);
}

/* --- the client ------------------------------------------------------------------------------ */
void io_send(struct io *x, struct client *c, const char *method, const char *target,
             const char *body)
{
    static const char upgrade[] = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    assert_true(client_open(c, x->f.host.socket));
    assert_true(client_send(c, method, target, strcmp(method, "POST") == 0 ? upgrade : NULL, body));
}

void io_open(struct io *x, struct client *c, const char *method, const char *target,
             const char *body, int status)
{
    struct answer a;
    io_send(x, c, method, target, body);
    assert_true(client_head(c, &a));
    if (a.status != status)
        fail_msg("%s: %d instead of %d: %s", target, a.status, status, buf_str(&c->in));
    answer_fini(&a);
}

/* At least one more byte; false at the end. */
static bool more(struct client *c)
{
    char bytes[65536];
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (poll(&p, 1, TG_TIMEOUT_MS) <= 0)
        fail_msg("nothing came; so far: %s", buf_str(&c->in));
    ssize_t n = read(c->fd, bytes, sizeof bytes);
    if (n > 0)
        buf_add(&c->in, bytes, (size_t)n);
    return n > 0;
}

void io_gets(struct client *c, struct sv bytes)
{
    while (c->in.len < bytes.len)
        if (!more(c))
            fail_msg("it ended before \"" SV_FMT "\" with \"%s\"", SV_ARG(bytes), buf_str(&c->in));
    struct sv got = sv_sub(buf_sv(&c->in), 0, bytes.len);
    if (!sv_eq(got, bytes))
        fail_msg("\"" SV_FMT "\" instead of \"" SV_FMT "\"", SV_ARG(got), SV_ARG(bytes));
    buf_consume(&c->in, bytes.len);
}

void io_gets_frame(struct client *c, unsigned type, const char *text)
{
    size_t len = strlen(text);
    const char head[] = {(char)type,       0,        0, 0, (char)(len >> 24), (char)(len >> 16),
                         (char)(len >> 8), (char)len};
    io_gets(c, sv_make(head, sizeof head));
    io_gets(c, sv_make(text, len));
}

void io_ends(struct client *c)
{
    if (c->in.len || more(c))
        fail_msg("more came: \"%s\"", buf_str(&c->in));
    client_close(c);
}

void io_quiet(struct client *c)
{
    assert_false(client_readable(c, 50));
}

void io_types(struct client *c, const char *text)
{
    assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* --- the guest ------------------------------------------------------------------------------- */
uint32_t io_open_of(struct io *x, struct json_val *open)
{
    struct wire_frame f;
    struct json_val v;
    check_ok(tg_expect(&x->guest, WIRE_OPEN, &f, &err));
    const char *text = arena_sv(&x->f.a, f.payload);
    check_ok(json_parse(sv_of(text), 0, &x->f.a, &v, &err));
    if (open)
        *open = v;
    check_ok(tg_json(&x->guest, WIRE_OPEN_OK, f.stream, "{}", &err));
    return f.stream;
}

void io_data(struct io *x, uint32_t stream, unsigned channel, struct sv bytes)
{
    AUTO_BUF struct buf b = {0};
    for (; bytes.len; bytes = sv_sub(bytes, 32768, SIZE_MAX))
        wire_put_data(&b, stream, (uint8_t)channel, sv_sub(bytes, 0, 32768));
    check_ok(tg_send(&x->guest, buf_sv(&b), &err));
}

void io_expect(struct io *x, uint32_t stream, const char *text)
{
    AUTO_BUF struct buf got = {0};
    while (got.len < strlen(text)) {
        struct wire_frame f;
        uint8_t channel;
        struct sv bytes;
        check_ok(tg_expect(&x->guest, WIRE_DATA, &f, &err));
        assert_int_equal(f.stream, stream);
        check_ok(wire_take_data(f.payload, &channel, &bytes, &err));
        assert_int_equal(channel, 0);
        buf_add_sv(&got, bytes);
    }
    assert_string_equal(buf_str(&got), text);
}

void io_frame(struct io *x, enum wire_type type, uint32_t stream, struct wire_frame *f)
{
    check_ok(tg_expect(&x->guest, type, f, &err));
    assert_int_equal(f->stream, stream);
}

void io_exit(struct io *x, uint32_t stream, const char *json)
{
    check_ok(tg_json(&x->guest, WIRE_CLOSE, stream, json, &err));
}

/* --- events ---------------------------------------------------------------------------------- */
struct event_list {
    const char *id;
    struct buf *out;
};

static bool add_event(void *arg, const struct store_entry *e)
{
    struct event_list *l = arg;
    if (e->op != STORE_OP_EVENT || strcmp(e->id, l->id) != 0)
        return true;
    buf_add_str(l->out, e->action);
    for (size_t i = 0; i < e->attributes.n; i++)
        if (strcmp(e->attributes.v[i].k, "exitCode") == 0)
            buf_addf(l->out, ":%s", e->attributes.v[i].v);
    buf_add_c(l->out, '\n');
    return true;
}

const char *io_events(struct io *x, const char *id)
{
    AUTO_BUF struct buf b = {0};
    AUTO_ARENA struct arena a = {0};
    struct event_list l = {id, &b};
    struct vic_err why = {0};
    AUTO_TXN struct store_txn *t = store_read(x->f.host.store, &why);
    assert_non_null(t);
    check_ok(store_entries(t, 0, &a, add_event, &l, &err));
    return arena_sv(&x->f.a, buf_sv(&b));
}
