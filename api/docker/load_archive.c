/* What the files of an archive mean.
 *
 * Two forms, both understood: docker-archive (manifest.json names configs and layers) and OCI
 * layout (index.json, blobs/sha256/...); an archive that has both goes by manifest.json, as dockerd
 * does.  Facts: Docker image specification 1.2 (saved images); OCI image-spec 1.0, image layout,
 * index and manifest.
 *
 * Every digest that names something is compared with the bytes, layers with the config; a document
 * that could be read as two things is refused.  The bytes of a compressed layer are compared with
 * its diff id where they are unpacked. */
#include "base/tls.h"

#include "load.h"
#include "tar.h"

enum { MAX_LINKS = 8 };

/* The diff id of a layer without entries (1,024 zero bytes): it has no disk. */
static const char EMPTY_DIFF[] =
    "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/* --- looking things up ----------------------------------------------------------------------- */
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
    for (int i = 0; f && f->link && i < MAX_LINKS; i++)
        f = find_plain(l, f->link);
    if (f && !f->link)
        return f;
    load_bad(c, "the archive names \"%.300s\" but does not hold it", wanted);
    return NULL;
}

static bool read_small(struct load *l, const struct file *f, struct sv *out)
{
    struct call *c = l->c;
    AUTO_CLOSE int fd = -1;
    if (f->size > LOAD_MAX_META)
        return load_bad(c, "\"%.200s\" is over %d bytes", f->name, LOAD_MAX_META);
    if (!spool_read(c->api->o.spool, f->digest, &fd, NULL, &c->err))
        return false;
    char *text = arena_alloc(c->a, (size_t)f->size + 1);
    for (size_t at = 0; at < f->size;) {
        ssize_t n = read(fd, text + at, (size_t)f->size - at);
        if (n <= 0)
            return vic_fail(&c->err, VIC_IO, 0, "read \"%.200s\" from the spool", f->name);
        at += (size_t)n;
    }
    *out = sv_make(text, (size_t)f->size);
    return true;
}

static bool read_json(struct load *l, const struct file *f, struct sv *text, struct json_val *v)
{
    struct call *c = l->c;
    if (!read_small(l, f, text))
        return false;
    if (json_parse(*text, 0, c->a, v, &c->err))
        return true;
    return load_bad(c, "\"%.200s\": %s", f->name, arena_strdup(c->a, c->err.msg));
}

static bool compression_of(struct load *l, const struct file *f, const char **out)
{
    struct call *c = l->c;
    unsigned char magic[6] = {0};
    AUTO_CLOSE int fd = -1;
    if (!spool_read(c->api->o.spool, f->digest, &fd, NULL, &c->err))
        return false;
    if (read(fd, magic, sizeof magic) < 0)
        return vic_fail_errno(&c->err, "read \"%.200s\" from the spool", f->name);
    *out = "none";
    if (magic[0] == 0x1f && magic[1] == 0x8b)
        *out = "gzip";
    if (memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0)
        *out = "zstd";
    if (memcmp(magic, "BZh", 3) != 0 && memcmp(magic,
                                               "\xfd"
                                               "7zXZ",
                                               5) != 0)
        return true;
    return load_bad(c,
                    "layer \"%.200s\" is compressed with %s; gzip, zstd or nothing is understood",
                    f->name, magic[0] == 'B' ? "bzip2" : "xz");
}

/* --- layers ---------------------------------------------------------------------------------- */
static const char *chain_of(struct arena *a, const char *parent, const char *diff_id)
{
    char hex[65];
    if (!parent[0])
        return diff_id;
    const char *text = arena_printf(a, "%s %s", parent, diff_id);
    sha256_hex(text, strlen(text), hex);
    return arena_printf(a, "sha256:%s", hex);
}

/* One layer of the config, with its file. */
static bool take_layer(struct load *l, struct image *i, struct layer *out, const struct file *f)
{
    struct call *c = l->c;
    if (!compression_of(l, f, &out->compression))
        return false;
    if (strcmp(out->compression, "none") == 0 && strcmp(f->digest, out->diff_id) != 0)
        return load_bad(c,
                        "layer \"%.150s\": digest mismatch: the image's config says %s, its bytes "
                        "have %s",
                        f->name, out->diff_id, f->digest);
    out->blob = f->digest;
    out->blob_bytes = f->size;
    i->layer_count++;
    return true;
}

static bool too_many_layers(struct call *c, const struct image *i, size_t n)
{
    return load_bad(c, "image %s has %zu layers; at most %d are supported yet: squash it", i->id, n,
                    LOAD_MAX_LAYERS);
}

static bool take_layers(struct load *l, struct image *i, struct store_strs names)
{
    struct call *c = l->c;
    struct json_val diffs = json_get(json_get(i->json, "rootfs"), "diff_ids");
    size_t count = json_count(diffs), n = 0;
    const char *chain = "", *parent = "";
    if (count != names.n)
        return load_bad(c, "image %s: its config has %zu layers, the manifest %zu", i->id, count,
                        names.n);
    if (count > LOAD_MAX_DIFFS)
        return too_many_layers(c, i, count);
    i->layers = ARENA_ARRAY(c->a, struct layer, count + 1);
    i->diff_ids.v = ARENA_ARRAY(c->a, const char *, count + 1);
    for (struct json_iter it = json_iter(diffs); json_next(&it); n++) {
        const char *diff_id = json_str(it.val, "");
        if (!load_digest_ok(diff_id))
            return load_bad(c, "image %s: diff_ids[%zu] is no sha256 digest", i->id, n);
        const struct file *f = find_file(l, names.v[n]);
        if (!f)
            return false;
        chain = chain_of(c->a, chain, diff_id);
        i->diff_ids.v[i->diff_ids.n++] = diff_id;
        if (strcmp(diff_id, EMPTY_DIFF) == 0)
            continue;
        i->layers[i->layer_count] =
            (struct layer){.diff_id = diff_id, .chain = chain, .parent = parent};
        if (!take_layer(l, i, &i->layers[i->layer_count], f))
            return false;
        parent = chain;
    }
    return i->layer_count <= LOAD_MAX_LAYERS || too_many_layers(c, i, i->layer_count);
}

/* --- images ---------------------------------------------------------------------------------- */
static bool add_tag(struct load *l, struct image *i, const char *name)
{
    struct call *c = l->c;
    struct image_ref ref;
    if (i->tags.n == LOAD_MAX_TAGS)
        return load_bad(c, "image %s has more than %d tags", i->id, LOAD_MAX_TAGS);
    if (!ref_parse(sv_of(name), c->a, &ref, &c->err))
        return vic_wrap(&c->err, "tag \"%.200s\"", name);
    if (ref.digest[0])
        return load_bad(c, "tag \"%.200s\": a digest is no tag", name);
    const char *full = ref_full(&ref, c->a);
    if (!strs_have(&i->tags, full))
        strs_push(c->a, &i->tags, full);
    return true;
}

/* "<hex>.json" promises a digest. */
static bool config_keeps_promise(struct call *c, const struct image *i, const char *name)
{
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    bool promises = strspn(base, "0123456789abcdef") == 64 && strcmp(base + 64, ".json") == 0;
    if (!promises || strncmp(base, i->id + 7, 64) == 0)
        return true;
    return load_bad(c, "\"%.200s\": digest mismatch: its bytes have %s", name, i->id);
}

/* The config's file: its digest is the image's id. */
static bool take_config(struct load *l, struct image *i, const struct file *f, const char *name)
{
    struct call *c = l->c;
    if (!read_json(l, f, &i->text, &i->json))
        return false;
    i->id = f->digest;
    store_init(store_rec_config(), &i->config);
    struct json_val config = json_get(i->json, "config");
    const char *os = json_str(json_get(i->json, "os"), "linux");
    if (json_type(i->json) != JSON_OBJECT)
        return load_bad(c, "\"%.200s\": an image's config is an object", name);
    if (strcmp(os, "linux") != 0)
        return load_bad(c, "image %s is for %.64s; containers here run linux", i->id, os);
    if (json_present(config) && !config_from_json(config, c->a, &i->config, &c->err))
        return load_bad(c, "\"%.200s\": %s", name, arena_strdup(c->a, c->err.msg));
    return config_keeps_promise(c, i, name);
}

static struct image *new_image(struct load *l)
{
    if (l->image_count == LOAD_MAX_IMAGES) {
        load_bad(l->c, "the archive has more than %d images", LOAD_MAX_IMAGES);
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
            return load_bad(c, "manifest: a layer without a name");
        out->v[out->n++] = name;
    }
    return true;
}

/* --- docker-archive -------------------------------------------------------------------------- */
static bool take_docker_image(struct load *l, struct json_val v)
{
    struct call *c = l->c;
    struct store_strs layers = {0};
    const char *config = json_str(json_get(v, "Config"), "");
    struct image *i = new_image(l);
    if (!i)
        return false;
    if (!config[0])
        return load_bad(c, "manifest.json: an image without Config");
    const struct file *f = find_file(l, config);
    if (!f || !take_config(l, i, f, config) || !names_of(c, json_get(v, "Layers"), NULL, &layers) ||
        !take_layers(l, i, layers))
        return false;
    for (struct json_iter t = json_iter(json_get(v, "RepoTags")); json_next(&t);)
        if (!add_tag(l, i, json_str(t.val, "")))
            return false;
    return true;
}

/* manifest.json: [{"Config", "RepoTags", "Layers"}]. */
static bool take_docker_manifest(struct load *l, const struct file *f)
{
    struct sv text;
    struct json_val v;
    if (!read_json(l, f, &text, &v))
        return false;
    if (json_type(v) != JSON_ARRAY)
        return load_bad(l->c, "manifest.json: expected a list of images");
    for (struct json_iter it = json_iter(v); json_next(&it);)
        if (!take_docker_image(l, it.val))
            return false;
    return true;
}

/* --- OCI layout ------------------------------------------------------------------------------ */
/* A blob by digest: its bytes have it, as load_receive has seen to for this name. */
static const struct file *oci_blob(struct load *l, const char *digest)
{
    struct call *c = l->c;
    if (!load_digest_ok(digest)) {
        load_bad(c, "'%.100s' is no sha256 digest", digest);
        return NULL;
    }
    const struct file *f = find_file(l, arena_printf(c->a, "blobs/sha256/%s", digest + 7));
    if (f && strcmp(f->digest, digest) != 0) { /* a link */
        load_bad(c, "\"%.200s\": digest mismatch: its bytes have %s", f->name, f->digest);
        return NULL;
    }
    return f;
}

static bool take_oci_image(struct load *l, struct json_val v, const char *tag)
{
    struct call *c = l->c;
    struct store_strs layers = {0};
    struct image *i = new_image(l);
    const char *config = json_str(json_get(json_get(v, "config"), "digest"), "");
    const struct file *f = i ? oci_blob(l, config) : NULL;
    if (!f || !take_config(l, i, f, f->name) ||
        !names_of(c, json_get(v, "layers"), "digest", &layers))
        return false;
    if (layers.n > LOAD_MAX_DIFFS)
        return too_many_layers(c, i, layers.n);
    for (size_t n = 0; n < layers.n; n++) {
        if (!oci_blob(l, layers.v[n]))
            return false;
        layers.v[n] = arena_printf(c->a, "blobs/sha256/%s", layers.v[n] + 7);
    }
    return take_layers(l, i, layers) && (!tag[0] || add_tag(l, i, tag));
}

static bool take_oci_index(struct load *l, struct json_val v, const char *tag);

/* What a descriptor of an index names: a manifest, or (once) an index of platforms. */
static bool take_oci_blob(struct load *l, const char *digest, const char *tag)
{
    struct call *c = l->c;
    struct sv text;
    struct json_val v;
    const struct file *f = oci_blob(l, digest);
    if (!f || !read_json(l, f, &text, &v))
        return false;
    bool index = json_present(json_get(v, "manifests"));
    bool manifest = json_present(json_get(v, "config")) || json_present(json_get(v, "layers"));
    if (index == manifest)
        return load_bad(c, "%s is %s manifest %s index", digest, index ? "both" : "neither",
                        index ? "and" : "nor");
    if (manifest)
        return take_oci_image(l, v, tag);
    if (l->is_nested)
        return load_bad(c, "%s: indexes within indexes within indexes are not understood", digest);
    l->is_nested = true;
    bool ok = take_oci_index(l, v, tag);
    l->is_nested = false;
    return ok;
}

/* Is it for us?  Build attestations are no images; of an index of platforms ours is taken. */
static bool fits_us(const struct load *l, struct json_val descriptor)
{
    struct json_val platform = json_get(descriptor, "platform");
    struct json_val notes = json_get(descriptor, "annotations");
    if (json_present(json_get(notes, "vnd.docker.reference.type")))
        return false;
    return !l->is_nested || !json_present(platform) ||
           (strcmp(json_str(json_get(platform, "os"), ""), "linux") == 0 &&
            strcmp(json_str(json_get(platform, "architecture"), ""), "amd64") == 0);
}

/* The name that a descriptor gives its image.  The OCI annotation often is a bare tag ("latest"),
 * which names nothing. */
static const char *name_of(struct json_val descriptor)
{
    struct json_val notes = json_get(descriptor, "annotations");
    const char *ref = json_str(json_get(notes, "org.opencontainers.image.ref.name"), "");
    const char *name = json_str(json_get(notes, "io.containerd.image.name"), "");
    return name[0] ? name : strpbrk(ref, ":/") ? ref : "";
}

static bool take_oci_index(struct load *l, struct json_val v, const char *tag)
{
    size_t before = l->image_count;
    for (struct json_iter it = json_iter(json_get(v, "manifests")); json_next(&it);) {
        const char *name = l->is_nested ? tag : name_of(it.val);
        if (!fits_us(l, it.val))
            continue;
        if (!take_oci_blob(l, json_str(json_get(it.val, "digest"), ""), name))
            return false;
        if (l->is_nested)
            return true;
    }
    return l->image_count > before || load_bad(l->c, "the archive has no image for linux on amd64");
}

bool load_understand(struct load *l)
{
    struct sv text;
    struct json_val v;
    const struct file *docker = find_plain(l, "manifest.json"), *oci = find_plain(l, "index.json");
    if (docker && !docker->link) {
        if (!take_docker_manifest(l, docker))
            return false;
    } else if (oci && !oci->link) {
        if (!read_json(l, oci, &text, &v) || !take_oci_index(l, v, ""))
            return false;
    } else {
        return load_bad(l->c, "invalid archive: it has neither manifest.json nor index.json");
    }
    return l->image_count || load_bad(l->c, "invalid archive: its manifest names no image");
}
