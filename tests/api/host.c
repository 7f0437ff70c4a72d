/* See host.h. */
#include "host.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

/* Tests have few threads, so that one that is held shows; the bench has the default. */
enum { FEW_HANDLERS = 4 };

static const unsigned char secret[32] = "a secret of the tests, 32 bytes!";
static const struct store_change_note note = {.actor = "control"};
const char host_image[] = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
static const char layer_id[] =
    "sha256:2222222222222222222222222222222222222222222222222222222222222222";
static const char blank_id[] = "3333333333333333333333333333333333333333333333333333333333333333";
static const char layer_disk[] = "4444444444444444444444444444444444444444444444444444444444444444";

/* --- the server ------------------------------------------------------------------------------ */
static void health(void *arg, struct api_health *out)
{
    const struct api_host *h = arg;
    *out = (struct api_health){.vsphere_connected = h->vsphere_connected};
}

static bool open_parts(struct api_host *h, struct vic_err *err)
{
    AUTO_FREE char *logs = xasprintf("%s/logs", h->dir), *spool = xasprintf("%s/spool", h->dir);
    AUTO_FREE char *store = xasprintf("%s/store", h->dir);
    const struct store_options o = {.dir = store, .secret = secret, .log = h->log};
    const struct logs_options l = {.dir = logs, .log = h->log};
    mkdir(h->dir, 0700);
    h->store = store_open(&o, err);
    h->logs = h->store ? logs_open(&l, err) : NULL;
    h->spool = h->logs ? spool_open(spool, 0, err) : NULL;
    return h->spool != NULL;
}

bool host_start(struct api_host *h, const char *dir, struct vic_err *err)
{
    return host_start_tls(h, dir, NULL, NULL, err);
}

bool host_start_tls(struct api_host *h, const char *dir, struct tls_ctx *tls, int *port,
                    struct vic_err *err)
{
    *h = (struct api_host){.dir = xstrdup(dir), .vsphere_connected = true};
    h->log = log_new(2, LOG_WARN, "api_host");
    h->socket = xasprintf("%s/api.sock", dir);
    if (!open_parts(h, err) || !(h->loop = loop_new("api", err)))
        return false;
    AUTO_FREE char *address = xasprintf("unix:%s", h->socket);
    const struct api_options o = {.loop = h->loop,
                                  .store = h->store,
                                  .logs = h->logs,
                                  .spool = h->spool,
                                  .log = h->log,
                                  .handlers = tls ? 0 : FEW_HANDLERS,
                                  .clock = &vic_clock_real,
                                  .host_name = "api-host",
                                  .health = health,
                                  .health_arg = h};
    h->api = api_new(&o, err);
    return h->api && api_listen(h->api, address, NULL, NULL, err) &&
           (!tls || api_listen(h->api, "tcp:127.0.0.1:0", tls, port, err)) &&
           loop_start(h->loop, err);
}

void host_stop(struct api_host *h)
{
    if (h->loop)
        loop_stop(h->loop);
    api_free(h->api);
    if (h->loop)
        loop_free(h->loop);
    if (h->spool)
        spool_close(h->spool);
    if (h->logs)
        logs_close(h->logs);
    if (h->store)
        store_close(h->store);
    log_free(h->log);
    free(h->dir);
    free(h->socket);
}

/* --- records --------------------------------------------------------------------------------- */
struct one {
    enum store_kind kind;
    const void *record;
};

static bool apply_put(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct one *o = arg;
    (void)a;
    return store_put(t, o->kind, o->record, err);
}

bool host_put(struct store *s, enum store_kind kind, const void *record, struct vic_err *err)
{
    struct one o = {kind, record};
    return store_write(s, &note, NULL, apply_put, &o, err);
}

static bool seed_disks(struct store *s, struct vic_err *err)
{
    struct store_disk d;
    struct store_vch v;
    store_init(store_rec_disk(), &d);
    d.meta.id = blank_id;
    d.role = store_disk_role_BLANK;
    d.phase = store_disk_phase_READY;
    d.capacity_bytes = (int64_t)32 << 30;
    if (!host_put(s, STORE_DISK, &d, err))
        return false;
    d.meta.id = layer_disk;
    d.role = store_disk_role_LAYER;
    d.owner = layer_id;
    d.parent = blank_id;
    store_init(store_rec_vch(), &v);
    v.meta.id = "vch";
    v.meta.name = "test";
    v.class_mb = 512;
    v.blank = blank_id;
    return host_put(s, STORE_DISK, &d, err) && host_put(s, STORE_VCH, &v, err);
}

static bool seed_image(struct store *s, struct vic_err *err)
{
    static const char *layers[] = {layer_id}, *cmd[] = {"sh"}, *env[] = {"PATH=/bin:/usr/bin"};
    static struct store_kv labels[] = {{"from", "image"}};
    struct store_layer l;
    struct store_image i;
    struct store_tag t;
    store_init(store_rec_layer(), &l);
    l.meta.id = layer_id;
    l.disk = layer_disk;
    l.phase = store_layer_phase_READY;
    store_init(store_rec_image(), &i);
    i.meta.id = host_image;
    i.layers = (struct store_strs){layers, 1};
    i.diff_ids = (struct store_strs){layers, 1};
    i.size_bytes = 4 << 20;
    i.architecture = "amd64";
    i.os = "linux";
    i.phase = store_image_phase_READY;
    i.config.cmd = (struct store_strs){cmd, 1};
    i.config.env = (struct store_strs){env, 1};
    i.config.labels = (struct store_map){labels, 1};
    store_init(store_rec_tag(), &t);
    t.meta.id = t.meta.name = "docker.io/library/busybox:latest";
    t.image = host_image;
    return host_put(s, STORE_LAYER, &l, err) && host_put(s, STORE_IMAGE, &i, err) &&
           host_put(s, STORE_TAG, &t, err);
}

bool host_seed(struct api_host *h, struct vic_err *err)
{
    return seed_disks(h->store, err) && seed_image(h->store, err);
}

/* --- control's part -------------------------------------------------------------------------- */
enum act { ACT_BEGIN, ACT_FAIL, ACT_END };
struct play {
    const char *id;
    enum act act;
    int code;
    const char *error;
    struct store_container k;
};

static bool play_check(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct play *p = arg;
    return store_get(t, STORE_CONTAINER, p->id, a, &p->k, err);
}

static bool event(struct store_txn *t, const struct store_container *k, const char *action,
                  const char *key, const char *value, struct vic_err *err)
{
    struct store_kv kv[] = {{"image", k->config.image}, {"name", k->meta.name}, {key, value}};
    struct store_map m = {kv, key ? 3 : 2};
    return store_event(t, STORE_CONTAINER, k->meta.id, action, &m, err);
}

static bool play_end(struct play *p, struct store_txn *t, struct vic_err *err)
{
    struct store_container *k = &p->k;
    char code[16];
    bool stopped = k->run.want == store_run_want_STOPPED && k->run.stop_seq == k->status.seq;
    snprintf(code, sizeof code, "%d", p->code);
    k->status.phase = store_run_phase_EXITED;
    k->status.exit_code = p->code;
    k->status.error = p->error;
    k->status.ended = clock_wall_ns(&vic_clock_real);
    bool removed = k->host_config.auto_remove && p->act == ACT_END && !k->meta.deleted;
    if (removed)
        k->meta.deleted = k->status.ended;
    return store_put(t, STORE_CONTAINER, k, err) && event(t, k, "die", "exitCode", code, err) &&
           (!stopped || event(t, k, "stop", NULL, NULL, err)) &&
           (!removed || event(t, k, "destroy", NULL, NULL, err));
}

static bool play_apply(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct play *p = arg;
    struct store_container *k = &p->k;
    (void)a;
    if (p->act == ACT_END)
        return play_end(p, t, err);
    if (k->run.seq <= k->status.seq) /* not asked for: as if it had been */
        k->run = (struct store_run_spec){.seq = k->status.seq + 1, .want = store_run_want_RUNNING};
    k->status = (struct store_run_status){
        .seq = k->run.seq, .phase = store_run_phase_RUNNING, .vm = "v", .error = "", .boot = ""};
    if (p->act == ACT_FAIL)
        return play_end(p, t, err);
    k->status.launched = true;
    k->status.pid = 7;
    k->status.started = clock_wall_ns(&vic_clock_real);
    return store_put(t, STORE_CONTAINER, k, err) && event(t, k, "start", NULL, NULL, err);
}

static bool play(struct store *s, struct play *p, struct vic_err *err)
{
    return store_write(s, &note, play_check, play_apply, p, err);
}

bool host_began(struct store *s, const char *id, struct vic_err *err)
{
    struct play p = {.id = id, .act = ACT_BEGIN};
    return play(s, &p, err);
}

bool host_failed(struct store *s, const char *id, int code, const char *error, struct vic_err *err)
{
    struct play p = {.id = id, .act = ACT_FAIL, .code = code, .error = error};
    return play(s, &p, err);
}

bool host_ended(struct store *s, const char *id, int code, struct vic_err *err)
{
    struct play p = {.id = id, .act = ACT_END, .code = code, .error = ""};
    return play(s, &p, err);
}

/* --- the player ------------------------------------------------------------------------------ */
struct host_player {
    struct store *store;
    struct store_watch *watch;
    struct vic_mutex lock;
    struct vic_cond more;
    bool stop, dirty;
    int64_t lag_ms;
    pthread_t thread;
};

struct todo {
    struct arena *a;
    const char *begin, *end, *bury;
};

static bool find_todo(void *arg, const void *record)
{
    struct todo *d = arg;
    const struct store_container *k = record;
    bool runs = k->status.phase == store_run_phase_RUNNING;
    if (k->meta.deleted)
        d->bury = arena_strdup(d->a, k->meta.id);
    else if (!runs && k->run.want == store_run_want_RUNNING && k->run.seq > k->status.seq)
        d->begin = arena_strdup(d->a, k->meta.id);
    else if (runs && k->run.want == store_run_want_STOPPED && k->run.stop_seq == k->status.seq)
        d->end = arena_strdup(d->a, k->meta.id);
    return !d->begin && !d->end && !d->bury;
}

static bool apply_del(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    (void)a;
    return store_del(t, STORE_CONTAINER, arg, err);
}

/* One thing that is to be done; false when there is none. */
static bool play_one(struct host_player *p)
{
    struct vic_err err = {0};
    AUTO_ARENA struct arena a = {0};
    struct todo d = {.a = &a};
    struct store_txn *t = store_read(p->store, &err);
    bool read = t && store_list(t, STORE_CONTAINER, "", NULL, find_todo, &d, &err);
    store_read_end(t);
    bool ok = true;
    if (d.begin)
        ok = host_began(p->store, d.begin, &err);
    else if (d.end)
        ok = host_ended(p->store, d.end, 137, &err);
    else if (d.bury)
        ok = store_write(p->store, &note, NULL, apply_del, (void *)(uintptr_t)d.bury, &err);
    return read && ok && (d.begin || d.end || d.bury);
}

static void *player_main(void *arg)
{
    struct host_player *p = arg;
    mutex_lock(&p->lock);
    while (!p->stop) {
        if (!p->dirty) {
            cond_wait(&p->more, &p->lock);
            continue;
        }
        p->dirty = false;
        if (p->lag_ms)
            cond_wait_ms(&p->more, &p->lock, p->lag_ms);
        mutex_unlock(&p->lock);
        while (play_one(p))
            ;
        mutex_lock(&p->lock);
    }
    mutex_unlock(&p->lock);
    return NULL;
}

static void player_wake(void *arg, uint64_t revision)
{
    struct host_player *p = arg;
    (void)revision;
    mutex_lock(&p->lock);
    p->dirty = true;
    cond_signal(&p->more);
    mutex_unlock(&p->lock);
}

struct host_player *host_play(struct api_host *h, int64_t lag_ms)
{
    struct host_player *p = xcalloc(1, sizeof *p);
    p->store = h->store;
    p->lag_ms = lag_ms;
    p->dirty = true;
    mutex_init(&p->lock);
    cond_init(&p->more);
    p->watch = store_watch_new(h->store, player_wake, p);
    if (pthread_create(&p->thread, NULL, player_main, p) != 0)
        abort();
    return p;
}

void host_play_stop(struct host_player *p)
{
    store_watch_free(p->watch);
    mutex_lock(&p->lock);
    p->stop = true;
    cond_signal(&p->more);
    mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    mutex_fini(&p->lock);
    cond_fini(&p->more);
    free(p);
}
