/* What the API writes into the store, and what it reads there: see rig.h. */
#include <stdio.h>
#include <string.h>

#include "base/tls.h"

#include "rig.h"

static const struct store_change_note note = {.actor = "test"};
const unsigned char rig_secret[33] = "a secret of the tests, 32 bytes!";
const char rig_image[] = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
static const int64_t capacity = (int64_t)1 << 30;

static void must(bool ok, const struct vic_err *err)
{
    if (!ok)
        fail_msg("%s", err->msg);
}

/* --- writing ------------------------------------------------------------------------------------
 */
struct puts {
    struct rig *rig;
    enum store_kind kind[4];
    const void *record[4];
    size_t n;
};

static bool apply_puts(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct puts *p = arg;
    (void)a;
    for (size_t i = 0; i < p->n; i++)
        if (!store_put(t, p->kind[i], p->record[i], err))
            return false;
    return true;
}

static void add(struct puts *p, enum store_kind kind, const void *record)
{
    p->kind[p->n] = kind;
    p->record[p->n++] = record;
}

/* An engine that is dead writes nothing: then the caller's wish is lost, as a client's would be. */
static void write_all(struct rig *r, struct puts *p)
{
    struct vic_err err;
    must(store_write(r->store, &note, NULL, apply_puts, p, &err) || atomic_load(&r->dead), &err);
}

static const char *new_id(struct rig *r)
{
    char *id = arena_alloc(&r->arena, 65);
    random_id(id);
    return id;
}

static void init_disk(struct store_disk *d, const char *id, enum store_disk_role role,
                      const char *owner, const char *parent)
{
    store_init(store_rec_disk(), d);
    d->meta.id = id;
    d->role = role;
    d->owner = owner;
    d->parent = parent;
    d->capacity_bytes = capacity;
}

/* --- the seeded image ---------------------------------------------------------------------------
 */
static const char *seed_disk(struct rig *r, enum store_disk_role role, const char *owner,
                             const char *parent)
{
    struct store_disk d, p;
    struct puts puts = {0};
    init_disk(&d, new_id(r), role, owner, parent);
    d.phase = store_disk_phase_READY;
    d.path = arena_printf(&r->arena, "[ds] vch/layers/%s.vmdk", d.meta.id);
    add(&puts, STORE_DISK, &d);
    write_all(r, &puts);
    model_seed_disk(r->m, d.path, parent[0] && rig_get(r, STORE_DISK, parent, &p) ? p.path : "",
                    capacity);
    r->seeded_disks++;
    return d.meta.id;
}

static enum store_verdict set_blank(void *arg, struct store_txn *t, struct arena *a, void *record,
                                    struct vic_err *err)
{
    struct store_vch *v = record;
    (void)t;
    (void)a;
    (void)err;
    v->blank = arg;
    return STORE_PUT;
}

static void seed_image(struct rig *r, const char *blank)
{
    static const char *layers[] = {
        "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"};
    const char *below = blank;
    for (size_t n = 0; n < 2; n++) {
        struct store_layer l;
        struct puts puts = {0};
        store_init(store_rec_layer(), &l);
        l.meta.id = l.diff_id = layers[n];
        l.parent = n ? layers[n - 1] : "";
        l.phase = store_layer_phase_READY;
        l.archived = true;
        below = l.disk = seed_disk(r, store_disk_role_LAYER, layers[n], below);
        add(&puts, STORE_LAYER, &l);
        write_all(r, &puts);
    }
    struct store_image i;
    struct puts puts = {0};
    store_init(store_rec_image(), &i);
    i.meta.id = rig_image;
    i.layers = i.diff_ids = (struct store_strs){layers, 2};
    i.phase = store_image_phase_READY;
    add(&puts, STORE_IMAGE, &i);
    write_all(r, &puts);
}

void rig_seed(struct rig *r)
{
    struct vic_err err;
    AUTO_FREE char *dir = xasprintf("%s/store", r->dir);
    struct store_options so = {.dir = dir, .secret = rig_secret, .clock = &r->clock};
    r->store = store_open(&so, &err);
    must(r->store != NULL, &err);
    must(ctl_configure(r->store, &r->settings, &err), &err);
    const char *blank = seed_disk(r, store_disk_role_BLANK, "vch", "");
    must(store_update(r->store, &note, STORE_VCH, "vch", set_blank, (void *)(uintptr_t)blank, &err),
         &err);
    seed_image(r, blank);
    store_close(TAKE(r->store));
}

/* --- containers ---------------------------------------------------------------------------------
 */
const char *rig_create(struct rig *r, const char *image, bool auto_remove)
{
    struct store_image i;
    struct store_layer top;
    struct store_container c;
    struct store_disk d;
    struct puts puts = {0};
    static const char *args[] = {"hello"};
    assert_true(rig_get(r, STORE_IMAGE, image, &i));
    assert_true(rig_get(r, STORE_LAYER, i.layers.v[i.layers.n - 1], &top));
    store_init(store_rec_container(), &c);
    c.meta.id = new_id(r);
    c.meta.name = arena_printf(&r->arena, "c-%.8s", c.meta.id);
    c.image = image;
    c.path = "/bin/echo";
    c.args = (struct store_strs){args, 1};
    c.host_config.auto_remove = auto_remove;
    init_disk(&d, new_id(r), store_disk_role_CONTAINER, c.meta.id, top.disk);
    d.phase = store_disk_phase_PLANNED;
    c.disk = d.meta.id;
    add(&puts, STORE_DISK, &d);
    add(&puts, STORE_CONTAINER, &c);
    write_all(r, &puts);
    return c.meta.id;
}

struct intent {
    struct rig *r;
    bool start, remove;
    int64_t timeout_ms;
};

/* As api/docker: run.c, stop.c, remove.c. */
static enum store_verdict decide(void *arg, struct store_txn *t, struct arena *a, void *record,
                                 struct vic_err *err)
{
    const struct intent *n = arg;
    struct store_container *k = record;
    (void)t;
    (void)a;
    if (!k->meta.id || !k->meta.id[0]) {
        vic_fail(err, VIC_NOT_FOUND, 0, "no such container");
        return STORE_REFUSE;
    }
    if (n->start) {
        uint64_t seq = (k->run.seq > k->status.seq ? k->run.seq : k->status.seq) + 1;
        k->run = (struct store_run_spec){.seq = seq, .want = store_run_want_RUNNING};
        return STORE_PUT;
    }
    k->run.want = store_run_want_STOPPED;
    k->run.stop_seq = k->run.seq;
    k->run.stop_timeout_ms = n->timeout_ms;
    k->run.stop_signal = n->timeout_ms ? 15 : 9;
    if (n->remove)
        k->meta.deleted = clock_wall_ns(&n->r->clock);
    return STORE_PUT;
}

static void intend(struct rig *r, const char *id, struct intent n)
{
    struct vic_err err;
    n.r = r;
    must(store_update(r->store, &note, STORE_CONTAINER, id, decide, &n, &err) ||
             atomic_load(&r->dead),
         &err);
}

void rig_run(struct rig *r, const char *id)
{
    intend(r, id, (struct intent){.start = true});
}

void rig_want_stop(struct rig *r, const char *id, int64_t timeout_ms)
{
    intend(r, id, (struct intent){.timeout_ms = timeout_ms});
}

void rig_remove(struct rig *r, const char *id)
{
    intend(r, id, (struct intent){.remove = true});
}

static enum store_verdict touch(void *arg, struct store_txn *t, struct arena *a, void *record,
                                struct vic_err *err)
{
    (void)arg;
    (void)t;
    (void)a;
    (void)err;
    ((struct store_meta *)record)->generation++;
    return STORE_PUT;
}

/* The VCH's change has everything looked at. */
void rig_turn(struct rig *r, int64_t ms)
{
    struct vic_err err;
    atomic_fetch_add(&r->turned_ns, ms * 1000000);
    must(store_update(r->store, &note, STORE_VCH, "vch", touch, NULL, &err), &err);
}

/* --- images -------------------------------------------------------------------------------------
 */
static const char *digest_of(struct rig *r, const char *text)
{
    unsigned char sum[32];
    char hex[65];
    sha256_of(text, strlen(text), sum);
    hex_encode(sum, sizeof sum, hex);
    return arena_printf(&r->arena, "sha256:%s", hex);
}

/* Held until the image's commit. */
static void spool_put(struct rig *r, const char *bytes)
{
    struct vic_err err;
    char digest[SPOOL_DIGEST_SIZE];
    uint64_t size;
    struct spool_file *f = spool_new(r->spool, &err);
    must(f != NULL, &err);
    must(spool_write(f, sv_of(bytes), &err), &err);
    must(spool_keep(f, NULL, digest, &size, &err), &err);
}

const char *rig_layer(struct rig *r, const char *parent, const char *bytes, const char *diff_id)
{
    struct store_layer *l = &r->layers[r->layer_count++];
    const char *digest = digest_of(r, bytes);
    spool_put(r, bytes);
    store_init(store_rec_layer(), l);
    l->meta.id = digest_of(r, arena_printf(&r->arena, "%s %s", parent, digest));
    l->parent = parent;
    l->diff_id = diff_id ? diff_id : digest;
    l->blob = digest;
    l->blob_bytes = (int64_t)strlen(bytes);
    l->compression = "none";
    l->phase = store_layer_phase_PENDING;
    return l->meta.id;
}

/* As api/docker/load.c: a layer that is there is taken as it is. */
static bool apply_load(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct rig *r = ((struct puts *)arg)->rig;
    for (size_t i = 0; i < r->layer_count; i++) {
        struct store_layer there;
        struct vic_err why;
        if (store_get(t, STORE_LAYER, r->layers[i].meta.id, a, &there, &why)) {
            if (there.phase != store_layer_phase_FAILED && !there.meta.deleted)
                continue;
            r->layers[i].meta.revision = there.meta.revision;
        }
        if (!store_put(t, STORE_LAYER, &r->layers[i], err))
            return false;
    }
    return apply_puts(arg, t, a, err);
}

const char *rig_load(struct rig *r, const char *name, const char *const *layers, size_t count)
{
    struct store_image i;
    struct puts puts = {.rig = r};
    struct vic_err err;
    store_init(store_rec_image(), &i);
    i.meta.id = digest_of(r, name);
    i.layers.v = arena_copy(&r->arena, layers, count * sizeof *layers);
    i.layers.n = count;
    i.diff_ids = i.layers;
    i.phase = store_image_phase_LOADING;
    add(&puts, STORE_IMAGE, &i);
    must(store_write(r->store, &note, NULL, apply_load, &puts, &err) || atomic_load(&r->dead),
         &err);
    for (size_t n = 0; n < r->layer_count; n++)
        spool_release(r->spool, r->layers[n].blob);
    r->layer_count = 0;
    return i.meta.id;
}

static enum store_verdict bury(void *arg, struct store_txn *t, struct arena *a, void *record,
                               struct vic_err *err)
{
    struct rig *r = arg;
    (void)t;
    (void)a;
    (void)err;
    ((struct store_meta *)record)->deleted = clock_wall_ns(&r->clock);
    return STORE_PUT;
}

void rig_rmi(struct rig *r, const char *image)
{
    struct vic_err err;
    must(store_update(r->store, &note, STORE_IMAGE, image, bury, r, &err) || atomic_load(&r->dead),
         &err);
}

/* --- reading ------------------------------------------------------------------------------------
 */
bool rig_get(struct rig *r, enum store_kind kind, const char *id, void *record)
{
    struct vic_err err;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(r->store, &err);
    const struct store_rec *rec = store_kind_rec(kind);
    void *borrowed = arena_alloc(&a, rec->size);
    if (!t || !store_get(t, kind, id, &a, borrowed, &err)) {
        if (err.code != VIC_NOT_FOUND)
            fail_msg("%s", err.msg);
        return false;
    }
    store_copy(rec, borrowed, record, &r->arena);
    return true;
}

size_t rig_count(struct rig *r, enum store_kind kind)
{
    struct vic_err err;
    AUTO_TXN struct store_txn *t = store_read(r->store, &err);
    return t ? store_count(t, kind) : 0;
}

struct awaited {
    const char *id;
    uint64_t seq;
    enum store_kind kind;
    enum store_run_phase phase;
    struct store_container c;
    struct store_image i;
};

static bool in_phase(struct rig *r, void *arg)
{
    struct awaited *w = arg;
    return rig_get(r, STORE_CONTAINER, w->id, &w->c) && w->c.status.phase == w->phase &&
           w->c.status.seq == w->seq;
}

struct store_container rig_until_phase(struct rig *r, const char *id, uint64_t seq,
                                       enum store_run_phase phase)
{
    struct awaited w = {.id = id, .seq = seq, .phase = phase};
    UNTIL(r, in_phase, &w);
    return w.c;
}

static bool is_gone(struct rig *r, void *arg)
{
    const struct awaited *w = arg;
    void *record = arena_alloc(&r->arena, store_kind_rec(w->kind)->size);
    return !rig_get(r, w->kind, w->id, record);
}

void rig_until_gone(struct rig *r, enum store_kind kind, const char *id)
{
    struct awaited w = {.id = id, .kind = kind};
    UNTIL(r, is_gone, &w);
}

static bool is_loaded(struct rig *r, void *arg)
{
    struct awaited *w = arg;
    return rig_get(r, STORE_IMAGE, w->id, &w->i) && w->i.phase != store_image_phase_LOADING;
}

struct store_image rig_until_loaded(struct rig *r, const char *image)
{
    struct awaited w = {.id = image};
    UNTIL(r, is_loaded, &w);
    return w.i;
}

struct counted {
    const char *id, *action;
    unsigned n;
};

static bool count_event(void *arg, const struct store_entry *e)
{
    struct counted *c = arg;
    c->n +=
        e->op == STORE_OP_EVENT && strcmp(e->id, c->id) == 0 && strcmp(e->action, c->action) == 0;
    return true;
}

unsigned rig_events(struct rig *r, const char *id, const char *action)
{
    struct vic_err err;
    struct counted c = {.id = id, .action = action};
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(r->store, &err);
    must(t && store_entries(t, 0, &a, count_event, &c, &err), &err);
    return c.n;
}

unsigned rig_log_lines(struct rig *r, const char *id)
{
    struct vic_err err = {0};
    struct logs_entry e;
    unsigned n = 0;
    logs_flush(r->logs, id);
    struct logs_reader *reader = logs_read_open(r->logs, id, &err);
    must(reader != NULL, &err);
    while (logs_read(reader, &e, &err))
        n++;
    logs_read_free(reader);
    return n;
}
