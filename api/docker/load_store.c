/* Images of an archive as records, and the spool files that they need.
 *
 * One transaction for all images of an archive: layers PENDING, images LOADING, the names waiting
 * in pending_tags until control has made the layers.  What is there already stays as it is: a layer
 * that is ready or under way, an image that is ready (it only gets more names), names that another
 * load of the same image waits for.
 *
 * Spool files are held from their arrival to load_settle, which asks the store which of them some
 * layer still has to be made or archived from: that, not what this load believes, decides. */
#define HASH_FUNCTION HASH_OAT /* the default falls through cases, which clang warns of */
#include <uthash.h>

#include "load.h"

static bool found(bool got, const struct vic_err *why, struct vic_err *err, bool *there)
{
    *there = got;
    return got || why->code == VIC_NOT_FOUND || vic_fail(err, why->code, 0, "%s", why->msg);
}

static bool put_layer(struct store_txn *t, struct arena *a, const struct layer *from,
                      struct vic_err *err)
{
    struct store_layer l;
    struct vic_err why = {0};
    bool there;
    if (!found(store_get(t, STORE_LAYER, from->chain, a, &l, &why), &why, err, &there))
        return false;
    if (there && l.phase != store_layer_phase_FAILED && !l.meta.deleted)
        return true;
    if (!there) {
        store_init(store_rec_layer(), &l);
        l.meta.id = from->chain;
    }
    l.parent = from->parent;
    l.diff_id = from->diff_id;
    l.blob = from->blob;
    l.blob_bytes = (int64_t)from->blob_bytes;
    l.compression = from->compression;
    l.phase = store_layer_phase_PENDING;
    l.error = "";
    l.tries = 0;
    l.archived = false;
    l.meta.deleted = 0; /* it was on its way out: its disk and archive go, these are new ones */
    return store_put(t, STORE_LAYER, &l, err);
}

static void fill_image(const struct image *from, struct arena *a, struct store_image *i)
{
    struct json_val v = from->json;
    i->diff_ids = from->diff_ids;
    i->layers.v = ARENA_ARRAY(a, const char *, from->layer_count);
    i->layers.n = from->layer_count;
    for (size_t n = 0; n < from->layer_count; n++)
        i->layers.v[n] = from->layers[n].chain;
    i->config = from->config;
    i->architecture = json_str(json_get(v, "architecture"), "amd64");
    i->os = json_str(json_get(v, "os"), "linux");
    i->author = json_str(json_get(v, "author"), "");
    if (!rfc3339_parse(sv_of(json_str(json_get(v, "created"), "")), &i->built))
        i->built = 0;
    i->phase = store_image_phase_LOADING;
    i->error = "";
    i->meta.deleted = 0;
}

static void add_tags(struct arena *a, struct store_image *i, const struct store_strs *more)
{
    struct store_strs all = {0};
    for (size_t n = 0; n < i->pending_tags.n; n++)
        strs_push(a, &all, i->pending_tags.v[n]);
    for (size_t n = 0; n < more->n; n++)
        if (!strs_have(&all, more->v[n]))
            strs_push(a, &all, more->v[n]);
    i->pending_tags = all;
}

static bool put_image(struct store_txn *t, struct arena *a, const struct image *from,
                      struct vic_err *err)
{
    struct store_image i;
    struct vic_err why = {0};
    bool there;
    if (!found(store_get(t, STORE_IMAGE, from->id, a, &i, &why), &why, err, &there))
        return false;
    if (!there) {
        store_init(store_rec_image(), &i);
        i.meta.id = from->id;
    }
    bool live = there && !i.meta.deleted;
    if (!live || i.phase == store_image_phase_FAILED)
        i.pending_tags = (struct store_strs){0};
    add_tags(a, &i, &from->tags);
    if (live && i.phase == store_image_phase_READY)
        return store_put(t, STORE_IMAGE, &i, err);
    for (size_t n = 0; n < from->layer_count; n++)
        if (!put_layer(t, a, &from->layers[n], err))
            return false;
    fill_image(from, a, &i);
    return store_blob_put(t, from->id, from->text, err) && store_put(t, STORE_IMAGE, &i, err);
}

static bool apply_images(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct load *l = arg;
    for (size_t n = 0; n < l->image_count; n++)
        if (!put_image(t, a, &l->images[n], err))
            return false;
    return true;
}

bool load_store(struct load *l)
{
    struct call *c = l->c;
    return store_write(c->api->o.store, &c->note, NULL, apply_images, l, &c->err);
}

/* --- what the spool has to keep -------------------------------------------------------------- */
struct blob {
    const char *digest;
    UT_hash_handle hh;
};
struct blobs {
    struct arena a;
    struct blob *all;
};

static bool note_blob(void *arg, const void *record)
{
    struct blobs *s = arg;
    const struct store_layer *l = record;
    struct blob *b;
    HASH_FIND_STR(s->all, l->blob, b);
    if (b || l->archived || !l->blob[0])
        return true;
    b = ARENA_NEW(&s->a, struct blob);
    b->digest = arena_strdup(&s->a, l->blob);
    HASH_ADD_KEYPTR(hh, s->all, b->digest, strlen(b->digest), b);
    return true;
}

static bool is_needed(void *arg, const char *digest)
{
    const struct blobs *s = arg;
    struct blob *b;
    HASH_FIND_STR(s->all, digest, b);
    return b != NULL;
}

void load_tidy_spool(const struct api_options *o)
{
    struct blobs s = {0};
    struct vic_err err = {0};
    uint64_t moment = spool_moment(o->spool);
    struct store_txn *t = store_read(o->store, &err);
    if (t && store_list(t, STORE_LAYER, "", NULL, note_blob, &s, &err))
        spool_sweep(o->spool, moment, is_needed, &s);
    else
        log_warn(o->log, "spool.sweep", KV_ERR(&err));
    store_read_end(t);
    HASH_CLEAR(hh, s.all);
    arena_fini(&s.a);
}

void load_settle(struct load *l)
{
    const struct api_options *o = &l->c->api->o;
    for (const struct file *f = l->files; f; f = f->next)
        if (!f->link)
            spool_release(o->spool, f->digest);
    load_tidy_spool(o);
}
