/* Names and ids to records.
 *
 * Containers, in this order: the exact id, the exact name (with or without its slash), a prefix of
 * ids that only one has.  So a name that equals another container's short id wins.
 * Images: an id (with or without "sha256:"), a reference, a unique prefix of an id. */
#include "api_priv.h"

bool container_name_ok(const char *name)
{
    if (*name == '/')
        name++;
    size_t n = 0;
    for (; name[n]; n++) {
        char ch = name[n];
        bool alnum =
            (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        if (!alnum && (n == 0 || !strchr("_.-", ch)))
            return false;
    }
    return n >= 2 && n <= 255;
}

/* --- containers ------------------------------------------------------------------------------ */
static bool no_container(struct call *c, const char *name)
{
    return vic_fail(&c->err, VIC_NOT_FOUND, 0, "No such container: %.300s", name);
}

static bool try_container(struct call *c, struct store_txn *t, const char *id,
                          struct store_container *out)
{
    if (!store_get(t, STORE_CONTAINER, id, c->a, out, &c->err))
        return false;
    return !out->meta.deleted || vic_fail(&c->err, VIC_NOT_FOUND, 0, "removed");
}

bool find_container(struct call *c, struct store_txn *t, const char *name,
                    struct store_container *out)
{
    const char *id, *plain = name + (*name == '/');
    if (!*plain || strlen(plain) > 255)
        return no_container(c, name);
    if (strlen(plain) == 64) {
        if (try_container(c, t, plain, out))
            return true;
        if (c->err.code != VIC_NOT_FOUND)
            return false;
    }
    if (store_find_name(t, STORE_CONTAINER, plain, c->a, &id, &c->err))
        return try_container(c, t, id, out);
    if (c->err.code != VIC_NOT_FOUND)
        return false;
    if (!store_find_prefix(t, STORE_CONTAINER, plain, c->a, &id, &c->err)) {
        if (c->err.code == VIC_INVALID)
            return vic_fail(&c->err, VIC_INVALID, 0, "multiple IDs found with provided prefix: %s",
                            plain);
        return c->err.code == VIC_NOT_FOUND ? no_container(c, name) : false;
    }
    return try_container(c, t, id, out) ||
           (c->err.code == VIC_NOT_FOUND ? no_container(c, name) : false);
}

bool get_container(struct call *c, const char *name, struct store_container *out)
{
    struct store_container borrowed;
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!t || !find_container(c, t, name, &borrowed))
        return false;
    store_copy(store_rec_container(), &borrowed, out, c->a);
    return true;
}

/* --- images ---------------------------------------------------------------------------------- */
static bool is_hex(const char *s)
{
    size_t n = strspn(s, "0123456789abcdef");
    return n > 0 && n <= 64 && !s[n];
}

struct by_digest {
    const char *want; /* familiar or full "repo@sha256:..." */
    const char *found;
    struct arena *a;
};

static bool each_image(void *arg, const void *record)
{
    struct by_digest *d = arg;
    const struct store_image *i = record;
    for (size_t k = 0; k < i->repo_digests.n && !i->meta.deleted; k++)
        if (strcmp(i->repo_digests.v[k], d->want) == 0)
            d->found = arena_strdup(d->a, i->meta.id);
    return !d->found;
}

/* The id of the image that a reference names. */
static bool id_of_ref(struct call *c, struct store_txn *t, const struct image_ref *r,
                      const char **id)
{
    struct store_tag tag;
    if (!*r->digest) {
        if (!store_get(t, STORE_TAG, ref_full(r, c->a), c->a, &tag, &c->err))
            return false;
        *id = tag.image;
        return !tag.meta.deleted || vic_fail(&c->err, VIC_NOT_FOUND, 0, "removed");
    }
    struct by_digest d = {arena_printf(c->a, "%s@%s", ref_familiar_repo(r, c->a), r->digest), NULL,
                          c->a};
    if (!store_list(t, STORE_IMAGE, "", NULL, each_image, &d, &c->err))
        return false;
    if (!d.found) {
        d.want = arena_printf(c->a, "%s@%s", ref_repo(r, c->a), r->digest);
        if (!store_list(t, STORE_IMAGE, "", NULL, each_image, &d, &c->err))
            return false;
    }
    *id = d.found;
    return d.found || vic_fail(&c->err, VIC_NOT_FOUND, 0, "no image has this digest");
}

static bool no_image(struct call *c, const char *what)
{
    return vic_fail(&c->err, VIC_NOT_FOUND, 0, "No such image: %.400s", what);
}

/* What failed otherwise than by absence. */
static bool real_trouble(const struct call *c)
{
    return c->err.code != VIC_NOT_FOUND && c->err.code != VIC_INVALID;
}

static bool image_id(struct call *c, struct store_txn *t, const char *what, const char **id)
{
    struct image_ref r;
    struct vic_err format = {0};
    bool prefixed = strncmp(what, "sha256:", 7) == 0;
    const char *hex = prefixed ? what + 7 : what;
    bool named = !prefixed && ref_parse(sv_of(what), c->a, &r, &format);
    if (!prefixed && !named && !is_hex(hex)) {
        c->err = format;
        return false;
    }
    if (named) {
        if (id_of_ref(c, t, &r, id))
            return true;
        if (real_trouble(c))
            return false;
    }
    if (is_hex(hex)) {
        const char *prefix = arena_printf(c->a, "sha256:%s", hex);
        if (store_find_prefix(t, STORE_IMAGE, prefix, c->a, id, &c->err))
            return true;
        if (c->err.code == VIC_INVALID && !named)
            return vic_fail(&c->err, VIC_INVALID, 0, "multiple IDs found with provided prefix: %s",
                            what);
        if (real_trouble(c))
            return false;
    }
    return no_image(c, named ? ref_familiar(&r, c->a) : what);
}

bool find_image(struct call *c, struct store_txn *t, const char *what, struct store_image *out)
{
    const char *id;
    return image_id(c, t, what, &id) && store_get(t, STORE_IMAGE, id, c->a, out, &c->err) &&
           (!out->meta.deleted || no_image(c, what));
}

bool get_image(struct call *c, const char *what, struct store_image *out)
{
    struct store_image borrowed;
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!t || !find_image(c, t, what, &borrowed))
        return false;
    store_copy(store_rec_image(), &borrowed, out, c->a);
    return true;
}
