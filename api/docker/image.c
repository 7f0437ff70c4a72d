/* Images: list, inspect, history, tag, remove.
 *
 * An image is known by its config's digest; its names are records of their own (tags).  What
 * clients see are READY images only.  Removing writes tombstones; control frees layers that nobody
 * needs. */
#include <fnmatch.h>

#include "docker.h"

/* --- names of an image ----------------------------------------------------------------------- */
struct tag_list {
    struct arena *a;
    const char *image;
    struct store_strs full, shown;
};

static bool collect_tag(void *arg, const char *id)
{
    struct tag_list *l = arg;
    struct image_ref ref;
    strs_push(l->a, &l->full, arena_strdup(l->a, id)); /* id lives only for this call */
    if (ref_parse(sv_of(id), l->a, &ref, NULL))
        strs_push(l->a, &l->shown, ref_familiar(&ref, l->a));
    return true;
}

static bool tags_of(struct call *c, struct store_txn *t, struct arena *a, const char *image,
                    struct tag_list *out)
{
    *out = (struct tag_list){.a = a, .image = image};
    return store_referrers(t, STORE_IMAGE, image, STORE_TAG, collect_tag, out, &c->err);
}

/* An image that clients may see. */
static bool ready_image(struct call *c, struct store_txn *t, const char *what,
                        struct store_image *i)
{
    if (!t || !find_image(c, t, what, i))
        return false;
    return i->phase == store_image_phase_READY ||
           vic_fail(&c->err, VIC_NOT_FOUND, 0, "No such image: %s", what);
}

/* The same in a transaction of its own, copied into the call's arena. */
static bool get_ready_image(struct call *c, const char *what, struct store_image *out)
{
    struct store_image borrowed;
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!ready_image(c, t, what, &borrowed))
        return false;
    store_copy(store_rec_image(), &borrowed, out, c->a);
    return true;
}

/* --- list ------------------------------------------------------------------------------------ */
struct image_list {
    struct call *c;
    struct store_txn *t;
    struct filters filters;
    struct json_writer w;
    int64_t before, since, until; /* bounds by 'created' */
    bool failed, dangling;
};

static const char *const list_filters[] = {"before", "since",     "dangling", "label",
                                           "label!", "reference", "until",    NULL};

/* A glob of "--filter reference=": matched against the repository, and against repository:tag. */
static bool name_fits(struct image_list *l, const struct store_strs *wanted, const char *text)
{
    struct sv name = sv_of(text);
    ptrdiff_t colon = sv_rfind(name, ':');
    char *repo = arena_sv(l->c->a, colon > 0 ? sv_sub(name, 0, (size_t)colon) : name);
    for (size_t i = 0; i < wanted->n; i++)
        if (fnmatch(wanted->v[i], text, FNM_PATHNAME) == 0 ||
            fnmatch(wanted->v[i], repo, FNM_PATHNAME) == 0)
            return true;
    return false;
}

/* Of an image with several names those are shown that were asked for. */
static bool reference_fits(struct image_list *l, struct tag_list *tags)
{
    struct store_strs wanted = filter_values(&l->filters, "reference"), fit = {0};
    if (!wanted.n)
        return true;
    for (size_t k = 0; k < tags->shown.n; k++)
        if (name_fits(l, &wanted, tags->shown.v[k]))
            strs_push(l->c->a, &fit, tags->shown.v[k]);
    tags->shown = fit;
    return fit.n > 0;
}

static bool image_fits(struct image_list *l, const struct store_image *i, struct tag_list *tags)
{
    struct store_strs dangling = filter_values(&l->filters, "dangling");
    if (dangling.n) {
        if (l->dangling != (tags->full.n == 0))
            return false;
    }
    if ((l->before && i->built >= l->before) || (l->since && i->built <= l->since) ||
        (l->until && i->built >= l->until))
        return false;
    return filter_labels(&l->filters, &i->config.labels) && reference_fits(l, tags);
}

static void write_names(struct call *c, struct json_writer *w, const struct tag_list *tags,
                        const struct store_image *i)
{
    if (!tags->shown.n && c->version < 1043) {
        struct store_strs none = {0}, digest = {0};
        strs_push(c->a, &none, "<none>:<none>");
        strs_push(c->a, &digest, "<none>@<none>");
        strs_to_json(w, "RepoTags", &none);
        strs_to_json(w, "RepoDigests", &digest);
        return;
    }
    strs_to_json(w, "RepoTags", &tags->shown);
    strs_to_json(w, "RepoDigests", &i->repo_digests);
}

static void write_labels(struct json_writer *w, const struct store_map *m)
{
    json_open(w, "Labels", '{');
    for (size_t i = 0; i < m->n; i++)
        json_add_str(w, m->v[i].k, m->v[i].v);
    json_close(w, '}');
}

static bool list_one(void *arg, const void *record)
{
    struct image_list *l = arg;
    const struct store_image *i = record;
    struct tag_list tags;
    if (i->meta.deleted || i->phase != store_image_phase_READY)
        return true;
    if (!tags_of(l->c, l->t, l->c->a, i->meta.id, &tags)) {
        l->failed = true;
        return false;
    }
    if (!image_fits(l, i, &tags))
        return true;
    struct json_writer *w = &l->w;
    json_open(w, NULL, '{');
    json_add_str(w, "Id", i->meta.id);
    json_add_str(w, "ParentId", i->parent);
    write_names(l->c, w, &tags, i);
    json_add_i64(w, "Created", i->built / 1000000000);
    json_add_i64(w, "Size", i->size_bytes);
    json_add_i64(w, "SharedSize", -1);
    if (l->c->version < 1044)
        json_add_i64(w, "VirtualSize", i->size_bytes);
    write_labels(w, &i->config.labels);
    json_add_i64(w, "Containers", -1);
    json_close(w, '}');
    return true;
}

/* The bound that "before=IMAGE" or "since=IMAGE" means. */
static bool image_bound(struct call *c, const struct filters *f, const char *key, int64_t *out)
{
    struct store_strs v = filter_values(f, key);
    struct store_image i;
    *out = 0;
    if (!v.n)
        return true;
    if (!get_ready_image(c, v.v[0], &i))
        return false;
    *out = i.built;
    return true;
}

static bool flag_value(const char *text, bool *out)
{
    *out = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *out || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

bool image_list(struct call *c)
{
    struct image_list l = {.c = c};
    AUTO_BUF struct buf out = {0};
    if (!filters_read(c, list_filters, &l.filters))
        return false;
    struct store_strs until = filter_values(&l.filters, "until");
    struct store_strs dangling = filter_values(&l.filters, "dangling");
    if (dangling.n && !flag_value(dangling.v[0], &l.dangling))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid filter 'dangling=[%.64s]'",
                        dangling.v[0]);
    if (until.n && !time_parse(until.v[0], call_now(c), &l.until))
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid filter 'until=%s'", until.v[0]);
    if (!image_bound(c, &l.filters, "before", &l.before) ||
        !image_bound(c, &l.filters, "since", &l.since))
        return false;
    l.w = json_writer(&out);
    json_open(&l.w, NULL, '[');
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    l.t = t;
    if (!t || !store_list_newest(t, STORE_IMAGE, INT64_MAX, "", c->a, list_one, &l, &c->err) ||
        l.failed)
        return false;
    json_close(&l.w, ']');
    return call_json(c, 200, &out);
}

/* --- inspect --------------------------------------------------------------------------------- */
bool image_inspect(struct call *c)
{
    struct store_image i;
    struct tag_list tags;
    char created[RFC3339_SIZE], tagged[RFC3339_SIZE];
    AUTO_BUF struct buf out = {0};
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!ready_image(c, t, c->param[0], &i) || !tags_of(c, t, c->a, i.meta.id, &tags))
        return false;
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    json_add_str(&w, "Id", i.meta.id);
    strs_to_json(&w, "RepoTags", &tags.shown);
    strs_to_json(&w, "RepoDigests", &i.repo_digests);
    json_add_str(&w, "Parent", i.parent);
    json_add_str(&w, "Comment", "");
    json_add_str(&w, "Created", rfc3339(i.built, 9, true, created));
    json_add_str(&w, "DockerVersion", "");
    json_add_str(&w, "Author", i.author);
    config_to_json(&i.config, &w, "Config");
    json_add_str(&w, "Architecture", i.architecture);
    json_add_str(&w, "Os", i.os);
    json_add_i64(&w, "Size", i.size_bytes);
    if (c->version < 1044)
        json_add_i64(&w, "VirtualSize", i.size_bytes);
    json_open(&w, "GraphDriver", '{');
    json_add_null(&w, "Data");
    json_add_str(&w, "Name", "vsphere");
    json_close(&w, '}');
    json_open(&w, "RootFS", '{');
    json_add_str(&w, "Type", "layers");
    strs_to_json(&w, "Layers", &i.diff_ids);
    json_close(&w, '}');
    json_open(&w, "Metadata", '{');
    json_add_str(&w, "LastTagTime", rfc3339(i.ended, 9, true, tagged));
    json_close(&w, '}');
    json_close(&w, '}');
    return call_json(c, 200, &out);
}

/* --- history --------------------------------------------------------------------------------- */
static void history_item(struct json_writer *w, struct json_val h, const char *id, int64_t size,
                         const struct store_strs *tags)
{
    int64_t created = 0;
    if (!rfc3339_parse(sv_of(json_str(json_get(h, "created"), "")), &created))
        created = 0;
    json_open(w, NULL, '{');
    json_add_str(w, "Id", id);
    json_add_i64(w, "Created", created / 1000000000);
    json_add_str(w, "CreatedBy", json_str(json_get(h, "created_by"), ""));
    if (tags && tags->n)
        strs_to_json(w, "Tags", tags);
    else
        json_add_null(w, "Tags");
    json_add_i64(w, "Size", size);
    json_add_str(w, "Comment", json_str(json_get(h, "comment"), ""));
    json_close(w, '}');
}

/* Sizes of the layers in the order of the config's history (entries without a layer have 0). */
static int64_t layer_size(struct store_txn *t, struct arena *a, const struct store_image *i,
                          size_t diff, size_t *next)
{
    struct store_layer l;
    struct vic_err err;
    if (*next >= i->layers.n || !store_get(t, STORE_LAYER, i->layers.v[*next], a, &l, &err) ||
        diff >= i->diff_ids.n || strcmp(l.diff_id, i->diff_ids.v[diff]) != 0)
        return 0; /* an empty layer has no disk */
    (*next)++;
    return l.size_bytes;
}

bool image_history(struct call *c)
{
    struct store_image i;
    struct tag_list tags;
    struct sv config;
    struct json_val v;
    AUTO_BUF struct buf out = {0};
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!ready_image(c, t, c->param[0], &i) || !tags_of(c, t, c->a, i.meta.id, &tags) ||
        !store_blob_get(t, i.meta.id, &config, &c->err) ||
        !json_parse(config, 0, c->a, &v, &c->err))
        return false;
    struct json_val history = json_get(v, "history");
    size_t count = json_count(history), n = 0, diff = 0, next = 0;
    struct json_val *items = ARENA_ARRAY(c->a, struct json_val, count);
    int64_t *sizes = ARENA_ARRAY(c->a, int64_t, count);
    for (struct json_iter it = json_iter(history); json_next(&it); n++) {
        items[n] = it.val;
        if (!json_bool(json_get(it.val, "empty_layer"), false))
            sizes[n] = layer_size(t, c->a, &i, diff++, &next);
    }
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '[');
    while (n-- > 0)
        history_item(&w, items[n], n + 1 == count ? i.meta.id : "<missing>", sizes[n],
                     n + 1 == count ? &tags.shown : NULL);
    json_close(&w, ']');
    return call_json(c, 200, &out);
}

/* --- tag ------------------------------------------------------------------------------------- */
struct tag_order {
    struct call *c;
    const char *what, *full, *shown;
};

static bool apply_tag(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct tag_order *o = arg;
    struct store_image i;
    struct store_tag tag;
    struct vic_err why = {0};
    (void)err;
    if (!store_get(t, STORE_IMAGE, o->what, a, &i, err))
        return false;
    if (!store_get(t, STORE_TAG, o->full, a, &tag, &why)) {
        if (why.code != VIC_NOT_FOUND)
            return vic_fail(err, why.code, 0, "%s", why.msg);
        tag = (struct store_tag){.meta.id = o->full, .meta.name = o->full};
    }
    tag.image = i.meta.id;
    return store_put(t, STORE_TAG, &tag, err) && event_image(t, a, &i, o->shown, "tag", err);
}

bool image_tag(struct call *c)
{
    struct store_image i;
    struct image_ref ref;
    const char *repo = call_query(c, "repo"), *tag = call_query(c, "tag");
    const char *name = tag[0] ? arena_printf(c->a, "%s:%s", repo, tag) : repo;
    if (!get_ready_image(c, c->param[0], &i) || !ref_parse(sv_of(name), c->a, &ref, &c->err))
        return false;
    if (ref.digest[0])
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "refusing to create a tag with a digest reference");
    struct tag_order o = {c, i.meta.id, ref_full(&ref, c->a), ref_familiar(&ref, c->a)};
    return store_write(c->api->o.store, &c->note, NULL, apply_tag, &o, &c->err) &&
           call_empty(c, 201);
}

/* --- remove ---------------------------------------------------------------------------------- */
struct removal {
    struct call *c;
    const char *what; /* as the user wrote it */
    bool force;
    struct store_strs untagged, deleted; /* for the answer; in the call's arena */
    bool by_name;
    const char *tag; /* the one to go, when by_name */
    const char *image;
};

struct user_search {
    const char *id;
    bool running, found;
    struct store_txn *t;
    struct arena *a;
};

static bool find_user(void *arg, const char *id)
{
    struct user_search *s = arg;
    struct store_container c;
    struct vic_err err;
    if (!store_get(s->t, STORE_CONTAINER, id, s->a, &c, &err) || c.meta.deleted)
        return true;
    if (!s->found || container_is_running(&c)) {
        s->id = arena_strdup(s->a, id);
        s->running = container_is_running(&c);
    }
    s->found = true;
    return true;
}

static bool refuse(struct vic_err *err, const char *fmt, ...) VIC_PRINTF(2, 3);
static bool refuse(struct vic_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vic_vfail(err, VIC_CONFLICT, 0, fmt, ap);
    va_end(ap);
    return false;
}

/* The last name of an image that a container uses goes by force only. */
static bool check_name(const struct removal *r, const struct tag_list *tags,
                       const struct user_search *users, struct vic_err *err)
{
    if (tags->full.n > 1 || !users->found || r->force)
        return true;
    return refuse(err,
                  "conflict: unable to remove repository reference \"%s\" (must force) - "
                  "container %.12s is using its referenced image %.12s",
                  r->what, users->id, r->image + 7);
}

/* What force cannot do is said first, as dockerd does. */
static bool check_id(const struct removal *r, const struct tag_list *tags,
                     const struct user_search *users, struct vic_err *err)
{
    const char *hex = r->image + 7;
    if (users->running)
        return refuse(
            err,
            "conflict: unable to delete %.12s (cannot be forced) - image is being used by "
            "running container %.12s",
            hex, users->id);
    if (tags->full.n > 1 && !r->force)
        return refuse(err,
                      "conflict: unable to delete %.12s (must be forced) - image is referenced in "
                      "multiple repositories",
                      hex);
    if (users->found && !r->force)
        return refuse(err,
                      "conflict: unable to delete %.12s (must be forced) - image is being used by "
                      "stopped container %.12s",
                      hex, users->id);
    return true;
}

/* May the image lose this name, or go?  Docker's rules and texts. */
static bool check_removal(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct removal *r = arg;
    struct tag_list tags;
    struct user_search users = {.t = t, .a = a};
    if (!tags_of(r->c, t, a, r->image, &tags) ||
        !store_referrers(t, STORE_IMAGE, r->image, STORE_CONTAINER, find_user, &users, err))
        return vic_fail(err, r->c->err.code ? r->c->err.code : VIC_IO, 0, "%s", r->c->err.msg);
    return r->by_name ? check_name(r, &tags, &users, err) : check_id(r, &tags, &users, err);
}

static bool drop_tag(struct removal *r, struct store_txn *t, struct arena *a,
                     const struct store_image *i, const char *full, struct vic_err *err)
{
    struct image_ref ref;
    if (!store_del(t, STORE_TAG, full, err) || !ref_parse(sv_of(full), a, &ref, err))
        return false;
    const char *shown = ref_familiar(&ref, a);
    strs_push(r->c->a, &r->untagged, arena_strdup(r->c->a, shown));
    return event_image(t, a, i, shown, "untag", err);
}

struct sharer_search {
    struct store_txn *t;
    struct arena *a;
    const char *image;
    bool found;
};

static bool find_sharer(void *arg, const char *id)
{
    struct sharer_search *s = arg;
    struct store_image i;
    struct vic_err err;
    s->found = strcmp(id, s->image) != 0 && store_get(s->t, STORE_IMAGE, id, s->a, &i, &err) &&
               !i.meta.deleted;
    return !s->found;
}

/* Names the layers that go with the image, the top one first: those that no other image has. */
static bool tell_layers(struct removal *r, struct store_txn *t, const struct store_image *i,
                        struct vic_err *err)
{
    for (size_t n = i->layers.n; n-- > 0;) {
        struct sharer_search s = {t, r->c->a, i->meta.id, false};
        if (!store_referrers(t, STORE_LAYER, i->layers.v[n], STORE_IMAGE, find_sharer, &s, err))
            return false;
        if (s.found)
            break;
        strs_push(r->c->a, &r->deleted, arena_strdup(r->c->a, i->layers.v[n]));
    }
    return true;
}

static bool apply_removal(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct removal *r = arg;
    struct store_image i;
    struct tag_list tags;
    struct user_search users = {.t = t, .a = a};
    r->untagged = r->deleted = (struct store_strs){0};
    if (!store_get(t, STORE_IMAGE, r->image, a, &i, err) || !tags_of(r->c, t, a, r->image, &tags))
        return false;
    for (size_t n = 0; n < tags.full.n; n++)
        if ((!r->by_name || strcmp(tags.full.v[n], r->tag) == 0) &&
            !drop_tag(r, t, a, &i, tags.full.v[n], err))
            return false;
    if (r->by_name && tags.full.n > 1)
        return true;
    /* A container's disk is a child of the image's layers: they stay until the last user goes. */
    if (!store_referrers(t, STORE_IMAGE, r->image, STORE_CONTAINER, find_user, &users, err))
        return false;
    if (users.found)
        return true;
    i.meta.deleted = call_now(r->c);
    strs_push(r->c->a, &r->deleted, arena_strdup(r->c->a, i.meta.id));
    if (!tell_layers(r, t, &i, err))
        return false;
    return store_put(t, STORE_IMAGE, &i, err) && store_blob_del(t, i.meta.id, err) &&
           event_image(t, a, &i, i.meta.id, "delete", err);
}

/* Did the user name the image by a tag, or by (a part of) its id? */
static void name_or_id(struct call *c, struct removal *r)
{
    struct image_ref ref;
    struct store_tag tag;
    struct vic_err err;
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &err);
    if (!t || !ref_parse(sv_of(r->what), c->a, &ref, &err) || ref.digest[0])
        return;
    const char *full = ref_full(&ref, c->a);
    if (store_get(t, STORE_TAG, full, c->a, &tag, &err) && strcmp(tag.image, r->image) == 0) {
        r->by_name = true;
        r->tag = full;
    }
}

bool image_remove(struct call *c)
{
    struct store_image i;
    AUTO_BUF struct buf out = {0};
    if (!get_image(c, c->param[0], &i))
        return false;
    struct removal r = {
        .c = c, .what = c->param[0], .image = i.meta.id, .force = call_flag(c, "force", false)};
    name_or_id(c, &r);
    if (!store_write(c->api->o.store, &c->note, check_removal, apply_removal, &r, &c->err))
        return false;
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '[');
    for (size_t n = 0; n < r.untagged.n; n++) {
        json_open(&w, NULL, '{');
        json_add_str(&w, "Untagged", r.untagged.v[n]);
        json_close(&w, '}');
    }
    for (size_t n = 0; n < r.deleted.n; n++) {
        json_open(&w, NULL, '{');
        json_add_str(&w, "Deleted", r.deleted.v[n]);
        json_close(&w, '}');
    }
    json_close(&w, ']');
    return call_json(c, 200, &out);
}
