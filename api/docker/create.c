/* POST /containers/create.
 *
 * The body becomes a record: Config and HostConfig read and checked, the image's config under the
 * user's, command resolved.  One transaction puts the container, its disk (planned: a child of the
 * image's top layer, or of the blank root for an image without layers) and the create event; the
 * name and the image are checked inside it, so of two creates with one name exactly one wins. */
#include <stdio.h>

#include "docker.h"

enum {
    SPEC_MAX = 48 << 10, /* of what goes to the guest as one frame of 64 KiB */
    SHORT_ID = 12,
};

/* --- the body -------------------------------------------------------------------------------- */
static bool has_config(struct json_val v)
{
    const struct store_rec *rec = store_rec_config();
    for (size_t i = 0; i < rec->count; i++)
        if (*rec->fields[i].json && json_present(json_get_nocase(v, rec->fields[i].json)))
            return true;
    return false;
}

/* Endpoints that say something beyond "the default network" cannot be honoured. */
static bool read_networking(struct json_val v, struct warnings *warn, struct vic_err *err)
{
    struct json_val all =
        json_get_nocase(json_get_nocase(v, "NetworkingConfig"), "EndpointsConfig");
    for (struct json_iter i = json_iter(all); json_next(&i);) {
        if (!sv_is(i.key, "default") && !sv_is(i.key, "bridge") && !sv_is(i.key, "none"))
            return vic_fail(err, VIC_INVALID, 0,
                            "network %.64s is not supported yet: use bridge or none", i.key.p);
        static const char *const members[] = {"IPAMConfig", "Links", "Aliases", "MacAddress"};
        for (size_t k = 0; k < ARRAY_LEN(members); k++) {
            struct json_val m = json_get_nocase(i.val, members[k]);
            if (json_count(m) || (json_type(m) == JSON_STRING && json_raw(m).len > 2))
                warn_add(warn,
                         "%s of network %.64s is discarded: the container has only its loopback "
                         "interface",
                         members[k], i.key.p);
        }
    }
    return true;
}

bool create_body(struct json_val v, struct arena *a, struct store_container *out,
                 struct warnings *warn, struct vic_err *err)
{
    store_init(store_rec_container(), out);
    if (json_present(v) && json_type(v) != JSON_OBJECT)
        return vic_fail(err, VIC_INVALID, 0, "invalid JSON: expected an object");
    if (!json_present(v) || !has_config(v))
        return vic_fail(err, VIC_INVALID, 0,
                        "config cannot be empty in order to create a container");
    if (!config_from_json(v, a, &out->config, err) || !config_check(&out->config, err) ||
        !host_config_from_json(json_get_nocase(v, "HostConfig"), a, &out->host_config, warn, err) ||
        !read_networking(v, warn, err))
        return false;
    if (*out->config.mac_address)
        warn_add(warn, "MacAddress is discarded: the container has only its loopback interface");
    return true;
}

/* --- with the image -------------------------------------------------------------------------- */
static bool take_command(struct store_container *k, struct arena *a, struct vic_err *err)
{
    const struct store_strs *first = &k->config.entrypoint, *then = &k->config.cmd;
    size_t n = first->n + then->n, at = 0;
    if (!n || !*(first->n ? first->v[0] : then->v[0]))
        return vic_fail(err, VIC_INVALID, 0, "no command specified");
    const char **words = ARENA_ARRAY(a, const char *, n);
    for (size_t i = 0; i < first->n; i++)
        words[at++] = first->v[i];
    for (size_t i = 0; i < then->n; i++)
        words[at++] = then->v[i];
    k->path = words[0];
    k->args = (struct store_strs){words + 1, n - 1};
    return true;
}

/* What the guest is sent must fit into one frame of the channel. */
static bool check_size(const struct store_container *k, struct vic_err *err)
{
    AUTO_BUF struct buf out = {.limit = SPEC_MAX};
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    json_add_str(&w, "path", k->path);
    strs_to_json(&w, "args", &k->args);
    strs_to_json(&w, "env", &k->config.env);
    json_add_str(&w, "cwd", k->config.working_dir);
    json_add_str(&w, "user", k->config.user);
    host_config_to_json(&k->host_config, &w, "host");
    json_close(&w, '}');
    return !out.failed ||
           vic_fail(err, VIC_INVALID, 0,
                    "the container's command, environment and settings are over %d KiB",
                    SPEC_MAX >> 10);
}

static void warn_unserved(const struct store_config *k, struct warnings *warn)
{
    if (k->volumes.n)
        warn_add(warn, "Volumes are not supported yet: data below their mount points stays on the "
                       "container's own disk");
    if (k->healthcheck.test.n && strcmp(k->healthcheck.test.v[0], "NONE") != 0)
        warn_add(warn, "Health checks are not supported yet: the container has no health state");
}

static bool check_platform(struct call *c, const struct store_image *image, const char *what)
{
    const char *want = call_query(c, "platform");
    struct sv arch = sv_of(want), os = sv_cut(&arch, '/');
    arch = sv_cut(&arch, '/');
    bool ok = !*want ||
              ((!os.len || sv_is(os, *image->os ? image->os : "linux")) &&
               (!arch.len || sv_is(arch, *image->architecture ? image->architecture : "amd64")));
    return ok || vic_fail(&c->err, VIC_NOT_FOUND, 0,
                          "image with reference %.200s was found but does not match the specified "
                          "platform: wanted %.64s, actual: %s/%s",
                          what, want, image->os, image->architecture);
}

/* --- the transaction ------------------------------------------------------------------------- */
struct creation {
    struct call *c;
    struct store_container *k;
    struct store_disk disk;
    bool name_given;
};

bool name_taken(const char *name, const char *holder, struct vic_err *err)
{
    return vic_fail(err, VIC_CONFLICT, 0,
                    "Conflict. The container name \"/%.128s\" is already in use by container "
                    "\"%s\". You have to remove (or rename) that container to be able to reuse "
                    "that name.",
                    name, holder);
}

static bool check_name(struct creation *n, struct store_txn *t, struct arena *a,
                       struct vic_err *err)
{
    const char *holder;
    if (!n->name_given)
        return name_generate(t, a, n->k->meta.id, &n->k->meta.name, err);
    if (store_find_name(t, STORE_CONTAINER, n->k->meta.name, a, &holder, err))
        return name_taken(n->k->meta.name, holder, err);
    return err->code == VIC_NOT_FOUND;
}

/* The disk that the container's disk is a child of. */
static bool find_parent(struct creation *n, struct store_txn *t, struct arena *a,
                        const struct store_image *image, struct vic_err *err)
{
    struct store_layer layer;
    struct store_vch vch;
    struct store_disk parent;
    n->disk.parent = "";
    if (image->layers.n) {
        if (!store_get(t, STORE_LAYER, image->layers.v[image->layers.n - 1], a, &layer, err))
            return vic_wrap(err, "the image's top layer");
        n->disk.parent = layer.disk;
    } else if (store_get(t, STORE_VCH, "vch", a, &vch, err)) {
        n->disk.parent = vch.blank;
    }
    if (!*n->disk.parent)
        return vic_fail(err, VIC_UNAVAILABLE, 0,
                        "the disk below this container is still being made: try again");
    if (!store_get(t, STORE_DISK, n->disk.parent, a, &parent, err))
        return vic_wrap(err, "the disk below this container");
    n->disk.capacity_bytes = parent.capacity_bytes;
    return true;
}

static bool create_check(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct creation *n = arg;
    struct store_image image;
    if (!store_get(t, STORE_IMAGE, n->k->image, a, &image, err) || image.meta.deleted)
        return vic_fail(err, VIC_NOT_FOUND, 0, "No such image: %.300s", n->k->config.image);
    return check_name(n, t, a, err) && find_parent(n, t, a, &image, err);
}

static bool create_apply(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct creation *n = arg;
    return store_put(t, STORE_DISK, &n->disk, err) && store_put(t, STORE_CONTAINER, n->k, err) &&
           event_container(t, a, n->k, err, "create", NULL);
}

static void plan_disk(struct creation *n, struct arena *a)
{
    char *id = arena_alloc(a, 65);
    random_id(id);
    store_init(store_rec_disk(), &n->disk);
    n->disk.meta.id = id;
    n->disk.role = store_disk_role_CONTAINER;
    n->disk.owner = n->k->meta.id;
    n->disk.phase = store_disk_phase_PLANNED;
    n->k->disk = id;
}

static bool complete(struct call *c, struct store_container *k, struct warnings *warn)
{
    struct store_image image;
    char *id = arena_alloc(c->a, 65);
    if (!*k->config.image)
        return vic_fail(&c->err, VIC_INVALID, 0, "invalid reference format");
    if (!get_image(c, k->config.image, &image))
        return false;
    if (image.phase != store_image_phase_READY)
        return vic_fail(&c->err, VIC_NOT_FOUND, 0, "No such image: %.300s", k->config.image);
    if (!check_platform(c, &image, k->config.image))
        return false;
    random_id(id);
    config_merge(&k->config, &image.config, c->a);
    k->meta.id = id;
    k->meta.created = call_now(c);
    k->meta.labels = k->config.labels;
    k->image = image.meta.id;
    k->platform = "linux";
    if (!*k->config.hostname)
        k->config.hostname = arena_printf(c->a, "%.*s", SHORT_ID, id);
    if (!take_command(k, c->a, &c->err) || !check_size(k, &c->err))
        return false;
    warn_unserved(&k->config, warn);
    k->create_warnings = warn->list;
    k->status.phase = store_run_phase_CREATED;
    k->meta.generation = 1;
    return true;
}

static bool take_name(struct call *c, struct creation *n)
{
    const char *name = call_query(c, "name");
    n->name_given = *name != '\0';
    if (n->name_given && !container_name_ok(name))
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "Invalid container name (%.128s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are "
                        "allowed",
                        name);
    n->k->meta.name = name + (*name == '/');
    return true;
}

bool container_create(struct call *c)
{
    struct json_val body;
    struct warnings warn = {.a = c->a};
    struct store_container *k = ARENA_NEW(c->a, struct store_container);
    struct creation n = {.c = c, .k = k};
    if (!call_body(c, &body) || !create_body(body, c->a, k, &warn, &c->err) || !take_name(c, &n) ||
        !complete(c, k, &warn))
        return false;
    plan_disk(&n, c->a);
    if (!store_write(c->api->o.store, &c->note, create_check, create_apply, &n, &c->err))
        return false;
    AUTO_BUF struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    json_add_str(&w, "Id", k->meta.id);
    strs_to_json(&w, "Warnings", &warn.list);
    json_close(&w, '}');
    return call_json(c, 201, &out);
}
