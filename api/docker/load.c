/* POST /images/load: an archive of images, as docker save writes it.
 *
 * Two forms, both understood: docker-archive (manifest.json names configs and layers) and OCI
 * layout (index.json, blobs/sha256/...); an archive that has both goes by manifest.json, as dockerd
 * does.
 *
 * The archive is read once, as it comes; every regular file goes to the spool under its digest.
 * Only when the whole of it has arrived and every name, digest and count fits is anything written
 * to the store: one transaction an image with its layers PENDING and its tags waiting
 * (pending_tags).  Then the request is parked until control has made the layers.  So a bad or cut
 * archive leaves nothing.
 *
 * Hostile input: absolute names, "..", links that leave the archive, devices, too many entries,
 * digests that do not fit their names, layers that are not those of the config. */
#include "base/tls.h"
#include "docker.h"
#include "tar.h"

enum {
    LOAD_MAX_ENTRIES = 100000,
    LOAD_MAX_META = 8 << 20, /* manifest.json, index.json, a config */
    LOAD_MAX_LAYERS = 32,
    LOAD_MAX_IMAGES = 64,
    LOAD_PIECE = 65536,
    LOAD_MAX_LINKS = 8,
};

/* The diff id of a layer without entries (1,024 zero bytes): it has no disk. */
static const char EMPTY_DIFF[] =
    "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

struct file {
    const char *name, *link; /* link: of a symlink or hard link, else NULL */
    char digest[SPOOL_DIGEST_SIZE];
    uint64_t size;
    struct file *next;
};

struct layer {
    const char *diff_id, *chain, *parent, *blob, *compression;
    uint64_t blob_bytes;
};

struct image {
    const char *id;
    struct sv config;
    struct json_val json;
    struct store_strs tags; /* full references */
    struct layer *layers;   /* those with a disk, bottom first */
    size_t layer_count;
    struct store_strs diff_ids; /* all of them */
};

struct load {
    struct call *c;
    struct file *files;
    struct image *images;
    size_t image_count, done;
    struct buf out;
    bool stored; /* the spool's files belong to the store's layers now */
};

static bool bad(struct call *c, const char *fmt, ...) VIC_PRINTF(2, 3);
static bool bad(struct call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vic_vfail(&c->err, VIC_INVALID, 0, fmt, ap);
    va_end(ap);
    return false;
}

/* --- receiving
 * -------------------------------------------------------------------------------------- */
static bool read_body(void *arg, void *p, size_t size, size_t *got, struct vic_err *err)
{
    struct call *c = arg;
    size_t n = 0;
    for (*got = 0; *got < size; *got += n) {
        if (!http_body_read(c->req, (char *)p + *got, size - *got, &n, err))
            return false;
        if (!n)
            break;
    }
    return true;
}

static bool spool_entry(struct load *l, struct tar *t, struct file *f)
{
    struct call *c = l->c;
    AUTO_FREE char *piece = xmalloc(LOAD_PIECE);
    struct spool_file *s = spool_new(c->api->o.spool, &c->err);
    if (!s)
        return false;
    for (size_t got;;) {
        if (!tar_data(t, piece, LOAD_PIECE, &got, &c->err) ||
            (got && !spool_write(s, sv_make(piece, got), &c->err))) {
            spool_drop(s);
            return false;
        }
        if (!got)
            break;
    }
    return spool_keep(s, NULL, f->digest, &f->size, &c->err);
}

static bool take_entry(struct load *l, struct tar *t, const struct tar_entry *e)
{
    struct call *c = l->c;
    const char *name;
    if (!tar_clean_name(e->name, c->a, &name, &c->err))
        return false;
    if (e->type == TAR_DIR)
        return true;
    struct file *f = ARENA_NEW(c->a, struct file);
    f->name = name;
    switch (e->type) {
    case TAR_FILE:
        if (!spool_entry(l, t, f))
            return vic_wrap(&c->err, "entry \"%s\"", name);
        break;
    case TAR_SYMLINK:
    case TAR_HARDLINK:
        f->link = e->type == TAR_HARDLINK ? e->link : NULL;
        if (e->type == TAR_SYMLINK) { /* relative to its own folder */
            const char *slash = strrchr(name, '/');
            f->link = e->link[0] == '/' || !slash
                          ? e->link
                          : arena_printf(c->a, "%.*s/%s", (int)(slash - name), name, e->link);
        }
        break;
    case TAR_DIR:
    case TAR_OTHER:
        return bad(c, "entry \"%s\" is neither file, folder nor link: not an image archive", name);
    }
    f->next = l->files;
    l->files = f;
    return true;
}

/* Archives are padded with zero blocks; what is left is read, so that the connection stays whole.
 */
static bool drain(struct call *c)
{
    char piece[4096];
    size_t got, total = 0;
    do {
        if (!http_body_read(c->req, piece, sizeof piece, &got, &c->err))
            return false;
        total += got;
    } while (got && total < LOAD_MAX_META);
    return !got || bad(c, "the archive goes on after its end");
}

static bool receive(struct load *l)
{
    struct call *c = l->c;
    struct tar t = {.read = read_body, .arg = c, .a = c->a};
    struct tar_entry e;
    bool more;
    for (;;) {
        if (!tar_next(&t, &e, &more, &c->err))
            return false;
        if (!more)
            return drain(c);
        if (t.entries > LOAD_MAX_ENTRIES)
            return bad(c, "the archive has more than %d entries", LOAD_MAX_ENTRIES);
        if (!take_entry(l, &t, &e))
            return false;
    }
}

/* --- looking things up
 * --------------------------------------------------------------------------------- */
/* "a/../b" inside the archive, for the links that old versions of docker save write; never above
 * it. */
static bool resolve_dots(struct call *c, const char *path, const char **out)
{
    struct sv rest = sv_of(path);
    AUTO_BUF struct buf b = {.limit = TAR_MAX_NAME};
    if (rest.len && rest.p[0] == '/')
        return false;
    while (rest.p) {
        struct sv part = sv_cut(&rest, '/');
        if (!part.len || sv_is(part, "."))
            continue;
        if (sv_is(part, "..")) {
            ptrdiff_t slash = sv_rfind(buf_sv(&b), '/');
            if (!b.len)
                return false;
            b.len = slash < 0 ? 0 : (size_t)slash;
            continue;
        }
        if (b.len)
            buf_add_c(&b, '/');
        buf_add_sv(&b, part);
    }
    *out = arena_sv(c->a, buf_sv(&b));
    return !b.failed;
}

static const struct file *find_plain(const struct load *l, const char *name)
{
    for (const struct file *f = l->files; f; f = f->next) /* the newest of a repeated name */
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

/* The regular file behind a name of a manifest. */
static const struct file *find_file(struct load *l, const char *wanted)
{
    struct call *c = l->c;
    const char *name;
    if (!tar_clean_name(wanted, c->a, &name, &c->err))
        return NULL;
    const struct file *f = find_plain(l, name);
    for (int i = 0; f && f->link && i < LOAD_MAX_LINKS; i++) {
        if (!resolve_dots(c, f->link, &name)) {
            bad(c, "entry \"%s\" is a link that leaves the archive: \"%s\"", f->name, f->link);
            return NULL;
        }
        f = find_plain(l, name);
    }
    if (!f || f->link) {
        bad(c, "the archive names \"%s\" but does not hold it", wanted);
        return NULL;
    }
    return f;
}

static bool read_small(struct load *l, const struct file *f, struct sv *out)
{
    struct call *c = l->c;
    AUTO_CLOSE int fd = -1;
    if (f->size > LOAD_MAX_META)
        return bad(c, "\"%s\" is over %d bytes", f->name, LOAD_MAX_META);
    if (!spool_read(c->api->o.spool, f->digest, &fd, NULL, &c->err))
        return false;
    char *text = arena_alloc(c->a, (size_t)f->size + 1);
    for (size_t at = 0; at < f->size;) {
        ssize_t n = read(fd, text + at, (size_t)f->size - at);
        if (n <= 0)
            return vic_fail(&c->err, VIC_IO, 0, "read %s from the spool", f->name);
        at += (size_t)n;
    }
    *out = sv_make(text, (size_t)f->size);
    return true;
}

static bool read_json(struct load *l, const struct file *f, struct sv *text, struct json_val *v)
{
    struct call *c = l->c;
    return read_small(l, f, text) &&
           (json_parse(*text, 0, c->a, v, &c->err) || vic_wrap(&c->err, "\"%s\"", f->name));
}

static const char *compression_of(struct load *l, const struct file *f)
{
    unsigned char magic[4] = {0};
    AUTO_CLOSE int fd = -1;
    if (!spool_read(l->c->api->o.spool, f->digest, &fd, NULL, &l->c->err))
        return NULL;
    if (read(fd, magic, sizeof magic) < 0)
        return NULL;
    if (magic[0] == 0x1f && magic[1] == 0x8b)
        return "gzip";
    if (memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0)
        return "zstd";
    return "none";
}

/* --- understanding
 * ---------------------------------------------------------------------------------------- */
static const char *chain_of(struct arena *a, const char *parent, const char *diff_id)
{
    char hex[65];
    if (!parent[0])
        return diff_id;
    const char *text = arena_printf(a, "%s %s", parent, diff_id);
    sha256_hex(text, strlen(text), hex);
    return arena_printf(a, "sha256:%s", hex);
}

static bool digest_ok(const char *d)
{
    unsigned char raw[32];
    struct sv s = sv_of(d);
    return s.len == 71 && sv_starts(s, SV("sha256:")) && hex_decode(sv_sub(s, 7, 64), raw);
}

/* One layer of the config, with its file. */
static bool take_layer(struct load *l, struct image *i, const char *diff_id, const char *chain,
                       const char *parent, const struct file *f)
{
    struct call *c = l->c;
    const char *compression = compression_of(l, f);
    if (!compression)
        return bad(c, "read layer \"%s\" from the spool", f->name);
    if (strcmp(compression, "none") == 0 && strcmp(f->digest, diff_id) != 0)
        return bad(c,
                   "layer \"%s\": digest mismatch: the image's config says %s, its bytes have %s",
                   f->name, diff_id, f->digest);
    i->layers[i->layer_count++] = (struct layer){
        .diff_id = diff_id,
        .chain = chain,
        .parent = parent,
        .blob = f->digest,
        .compression = compression,
        .blob_bytes = f->size,
    };
    return true;
}

static bool take_layers(struct load *l, struct image *i, struct store_strs names)
{
    struct call *c = l->c;
    struct json_val diffs = json_get(json_get(i->json, "rootfs"), "diff_ids");
    size_t count = json_count(diffs), n = 0;
    const char *chain = "", *parent = "";
    if (count != names.n)
        return bad(c, "image %s: its config has %zu layers, the manifest %zu", i->id, count,
                   names.n);
    i->layers = ARENA_ARRAY(c->a, struct layer, count);
    i->diff_ids.v = ARENA_ARRAY(c->a, const char *, count);
    for (struct json_iter it = json_iter(diffs); json_next(&it); n++) {
        const char *diff_id = json_str(it.val, "");
        if (!digest_ok(diff_id))
            return bad(c, "image %s: diff_ids[%zu] is no sha256 digest", i->id, n);
        const struct file *f = find_file(l, names.v[n]);
        if (!f)
            return false;
        chain = chain_of(c->a, chain, diff_id);
        i->diff_ids.v[i->diff_ids.n++] = diff_id;
        if (strcmp(diff_id, EMPTY_DIFF) == 0)
            continue;
        if (!take_layer(l, i, diff_id, chain, parent, f))
            return false;
        parent = chain;
    }
    if (i->layer_count > LOAD_MAX_LAYERS)
        return bad(c, "image %s has %zu layers; at most %d are supported yet: squash it", i->id,
                   i->layer_count, LOAD_MAX_LAYERS);
    return true;
}

static bool add_tag(struct load *l, struct image *i, const char *name)
{
    struct call *c = l->c;
    struct image_ref ref;
    if (!ref_parse(sv_of(name), c->a, &ref, &c->err))
        return vic_wrap(&c->err, "tag \"%.200s\"", name);
    const char **more = ARENA_ARRAY(c->a, const char *, i->tags.n + 1);
    for (size_t n = 0; n < i->tags.n; n++)
        more[n] = i->tags.v[n];
    more[i->tags.n] = ref_full(&ref, c->a);
    i->tags.v = more;
    i->tags.n++;
    return true;
}

/* The config's file: its digest is the image's id. */
static bool take_config(struct load *l, struct image *i, const char *name)
{
    struct call *c = l->c;
    const struct file *f = find_file(l, name);
    if (!f || !read_json(l, f, &i->config, &i->json))
        return false;
    i->id = f->digest;
    const char *os = json_str(json_get(i->json, "os"), "");
    if (os[0] && strcmp(os, "linux") != 0)
        return bad(c, "image %s is for %s; containers here run linux", i->id, os);
    /* "<hex>.json" and "blobs/sha256/<hex>" promise a digest. */
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    unsigned char raw[32];
    if (strlen(base) >= 64 && hex_decode(sv_make(base, 64), raw) &&
        (base[64] == '\0' || strcmp(base + 64, ".json") == 0) && strncmp(base, i->id + 7, 64) != 0)
        return bad(c, "\"%s\": digest mismatch: its bytes have %s", name, i->id);
    return true;
}

static struct image *new_image(struct load *l)
{
    if (l->image_count == LOAD_MAX_IMAGES) {
        bad(l->c, "the archive has more than %d images", LOAD_MAX_IMAGES);
        return NULL;
    }
    return &l->images[l->image_count++];
}

static bool names_of(struct call *c, struct json_val v, const char *member, struct store_strs *out)
{
    out->v = ARENA_ARRAY(c->a, const char *, json_count(v) + 1);
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        const char *name = json_str(member ? json_get(it.val, member) : it.val, NULL);
        if (!name)
            return bad(c, "manifest: a layer without a name");
        out->v[out->n++] = name;
    }
    return true;
}

/* manifest.json: [{"Config", "RepoTags", "Layers"}]. */
static bool take_docker_manifest(struct load *l, const struct file *f)
{
    struct call *c = l->c;
    struct sv text;
    struct json_val v;
    if (!read_json(l, f, &text, &v))
        return false;
    if (json_type(v) != JSON_ARRAY)
        return bad(c, "manifest.json: expected a list of images");
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        struct image *i = new_image(l);
        struct store_strs layers = {0};
        const char *config = json_str(json_get(it.val, "Config"), "");
        if (!i || !config[0])
            return i ? bad(c, "manifest.json: an image without Config") : false;
        if (!take_config(l, i, config) || !names_of(c, json_get(it.val, "Layers"), NULL, &layers) ||
            !take_layers(l, i, layers))
            return false;
        for (struct json_iter t = json_iter(json_get(it.val, "RepoTags")); json_next(&t);)
            if (!add_tag(l, i, json_str(t.val, "")))
                return false;
    }
    return true;
}

/* A blob of an OCI layout, by digest; its bytes must have it. */
static const struct file *oci_blob(struct load *l, const char *digest)
{
    struct call *c = l->c;
    if (!digest_ok(digest)) {
        bad(c, "'%.100s' is no sha256 digest", digest);
        return NULL;
    }
    const struct file *f = find_file(l, arena_printf(c->a, "blobs/sha256/%s", digest + 7));
    if (f && strcmp(f->digest, digest) != 0) {
        bad(c, "\"%s\": digest mismatch: its bytes have %s", f->name, f->digest);
        return NULL;
    }
    return f;
}

static bool take_oci_manifest(struct load *l, const char *digest, const char *tag)
{
    struct call *c = l->c;
    struct sv text;
    struct json_val v;
    struct store_strs layers = {0};
    const struct file *f = oci_blob(l, digest);
    if (!f || !read_json(l, f, &text, &v))
        return false;
    if (!json_present(json_get(v, "config")))
        return bad(c, "manifest %s has no config: nested indexes are not supported", digest);
    const char *config = json_str(json_get(json_get(v, "config"), "digest"), "");
    struct image *i = new_image(l);
    if (!i || !oci_blob(l, config) ||
        !take_config(l, i, arena_printf(c->a, "blobs/sha256/%s", config + 7)) ||
        !names_of(c, json_get(v, "layers"), "digest", &layers))
        return false;
    for (size_t n = 0; n < layers.n; n++) {
        if (!oci_blob(l, layers.v[n]))
            return false;
        layers.v[n] = arena_printf(c->a, "blobs/sha256/%s", layers.v[n] + 7);
    }
    return take_layers(l, i, layers) && (!tag[0] || add_tag(l, i, tag));
}

static bool take_oci_index(struct load *l, const struct file *f)
{
    struct sv text;
    struct json_val v;
    if (!read_json(l, f, &text, &v))
        return false;
    for (struct json_iter it = json_iter(json_get(v, "manifests")); json_next(&it);) {
        struct json_val notes = json_get(it.val, "annotations");
        const char *tag = json_str(json_get(notes, "io.containerd.image.name"), "");
        if (!take_oci_manifest(l, json_str(json_get(it.val, "digest"), ""), tag))
            return false;
    }
    return true;
}

static bool understand(struct load *l)
{
    const struct file *f = find_plain(l, "manifest.json");
    if (f && !f->link)
        return take_docker_manifest(l, f);
    f = find_plain(l, "index.json");
    if (f && !f->link)
        return take_oci_index(l, f);
    return bad(l->c, "invalid archive: it has neither manifest.json nor index.json");
}

/* --- storing
 * -------------------------------------------------------------------------------------------------
 */
static bool put_layer(struct store_txn *t, struct arena *a, const struct layer *from,
                      struct vic_err *err)
{
    struct store_layer l;
    struct vic_err why = {0};
    if (store_get(t, STORE_LAYER, from->chain, a, &l, &why)) {
        if (l.phase != store_layer_phase_FAILED)
            return true;
    } else if (why.code != VIC_NOT_FOUND) {
        return vic_fail(err, why.code, 0, "%s", why.msg);
    } else {
        l = (struct store_layer){.meta.id = from->chain};
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
    return store_put(t, STORE_LAYER, &l, err);
}

static void fill_image(const struct image *from, struct arena *a, struct store_image *i)
{
    struct json_val v = from->json;
    struct vic_err ignored;
    i->meta.id = from->id;
    i->diff_ids = from->diff_ids;
    i->layers.v = ARENA_ARRAY(a, const char *, from->layer_count);
    i->layers.n = from->layer_count;
    for (size_t n = 0; n < from->layer_count; n++)
        i->layers.v[n] = from->layers[n].chain;
    i->architecture = json_str(json_get(v, "architecture"), "amd64");
    i->os = json_str(json_get(v, "os"), "linux");
    i->author = json_str(json_get(v, "author"), "");
    if (!rfc3339_parse(sv_of(json_str(json_get(v, "created"), "")), &i->built))
        i->built = 0;
    if (!config_from_json(json_get(v, "config"), a, &i->config, &ignored))
        i->config = (struct store_config){0};
}

static bool apply_image(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct image *from = arg;
    struct store_image i;
    struct vic_err why = {0};
    bool there = store_get(t, STORE_IMAGE, from->id, a, &i, &why);
    if (!there && why.code != VIC_NOT_FOUND)
        return vic_fail(err, why.code, 0, "%s", why.msg);
    if (!there)
        i = (struct store_image){0};
    for (size_t n = 0; n < from->layer_count; n++)
        if (!put_layer(t, a, &from->layers[n], err))
            return false;
    fill_image(from, a, &i);
    i.meta.deleted = 0;
    i.phase = store_image_phase_LOADING;
    i.error = "";
    i.pending_tags = from->tags;
    return store_blob_put(t, from->id, from->config, err) && store_put(t, STORE_IMAGE, &i, err);
}

struct blob_search {
    const char *digest;
    bool found;
};

static bool has_blob(void *arg, const void *record)
{
    struct blob_search *s = arg;
    const struct store_layer *l = record;
    s->found = strcmp(l->blob, s->digest) == 0 && !l->archived;
    return !s->found;
}

/* Does a layer of the store, perhaps of another image, still need this file in the spool? */
static bool blob_needed(struct call *c, const char *digest)
{
    struct blob_search s = {digest, false};
    struct vic_err err;
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &err);
    return !t || !store_list(t, STORE_LAYER, "", NULL, has_blob, &s, &err) || s.found;
}

/* Spool files that no layer of the store needs. */
static void drop_files(struct load *l)
{
    struct spool *spool = l->c->api->o.spool;
    for (const struct file *f = l->files; f; f = f->next) {
        bool used = false;
        for (size_t n = 0; l->stored && n < l->image_count; n++)
            for (size_t k = 0; k < l->images[n].layer_count; k++)
                used = used || strcmp(l->images[n].layers[k].blob, f->digest) == 0;
        if (!used && !f->link && !blob_needed(l->c, f->digest))
            spool_remove(spool, f->digest);
    }
}

/* --- waiting
 * --------------------------------------------------------------------------------------------------
 */
static void say_loaded(struct load *l, const struct image *i)
{
    struct call *c = l->c;
    for (size_t n = 0; n < (i->tags.n ? i->tags.n : 1); n++) {
        struct json_writer w = json_writer(&l->out);
        struct image_ref ref;
        const char *text = arena_printf(c->a, "Loaded image ID: %s\n", i->id);
        if (i->tags.n && ref_parse(sv_of(i->tags.v[n]), c->a, &ref, &c->err))
            text = arena_printf(c->a, "Loaded image: %s\n", ref_familiar(&ref, c->a));
        json_open(&w, NULL, '{');
        json_add_str(&w, "stream", text);
        json_close(&w, '}');
        buf_add_str(&l->out, "\r\n");
    }
}

static enum poll_verdict poll_loaded(struct call *c, void *arg, bool timed_out)
{
    struct load *l = arg;
    (void)timed_out;
    for (; l->done < l->image_count; l->done++) {
        struct store_image i;
        AUTO_ARENA struct arena a = {0};
        AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
        const char *id = l->images[l->done].id;
        if (!t || !store_get(t, STORE_IMAGE, id, &a, &i, &c->err))
            return POLL_FAIL;
        if (i.phase == store_image_phase_FAILED) {
            vic_fail(&c->err, VIC_INVALID, 0, "image %s: %s", id, i.error);
            buf_fini(&l->out);
            return POLL_FAIL;
        }
        if (i.phase != store_image_phase_READY)
            return POLL_WAIT;
        say_loaded(l, &l->images[l->done]);
    }
    http_reply(c->req, 200, "application/json", buf_sv(&l->out));
    buf_fini(&l->out);
    return POLL_DONE;
}

bool image_load(struct call *c)
{
    struct load *l = ARENA_NEW(c->a, struct load);
    l->c = c;
    l->images = ARENA_ARRAY(c->a, struct image, LOAD_MAX_IMAGES);
    bool ok = receive(l) && understand(l);
    for (size_t n = 0; ok && n < l->image_count; n++) {
        ok = store_write(c->api->o.store, &c->note, NULL, apply_image, &l->images[n], &c->err);
        l->stored = l->stored || ok;
    }
    drop_files(l);
    return ok && call_wait(c, STORE_IMAGE, NULL, -1, poll_loaded, l);
}
