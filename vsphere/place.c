/* Finding where a VCH lives: datacenter, compute resource, pool, datastore, network, by name or
 * inventory path.  Each step lists the candidates; no name picks the only one. */
#include "client.h"

enum { MAX_ANCESTORS = 16 };

/* What may be chosen. */
struct candidates {
    struct vim_ObjectContent **v;
    size_t n;
};

static const char *name_of(const struct vim_ObjectContent *o)
{
    struct vim_any name = vsp_prop(o, "name");
    return name.kind == VIM_STRING && name.s ? name.s : "";
}

/* "name" as vSphere keeps it: '/', '\' and '%' are escaped. */
static bool same_name(const char *kept, const char *wanted)
{
    AUTO_BUF struct buf escaped = {0};
    for (const char *c = wanted; *c; c++)
        if (*c == '/' || *c == '\\' || *c == '%')
            buf_addf(&escaped, "%%%02x", (unsigned)*c);
        else
            buf_add_c(&escaped, *c);
    return strcmp(kept, wanted) == 0 || strcmp(kept, buf_str(&escaped)) == 0;
}

static bool fail_with_list(const char *what, const char *wanted, struct candidates c,
                           struct vic_err *err)
{
    AUTO_BUF struct buf list = {.limit = 256};
    for (size_t i = 0; i < c.n && !list.failed; i++)
        buf_addf(&list, "%s%s", i ? ", " : "", name_of(c.v[i]));
    if (!c.n)
        return vic_fail(err, VIC_NOT_FOUND, 0, "there is no %s", what);
    if (wanted)
        return vic_fail(err, VIC_NOT_FOUND, 0, "no %s is called '%s'; there are: %s", what, wanted,
                        buf_str(&list));
    return vic_fail(err, VIC_INVALID, 0, "name the %s; there are: %s", what, buf_str(&list));
}

/* By name among the candidates, or by inventory path when 'wanted' begins with a slash. */
static bool choose(struct vsp *v, const char *what, const char *wanted, struct candidates c,
                   struct arena *a, struct vim_ObjectContent **out, struct vic_err *err)
{
    struct vim_ref by_path = {0};
    if (wanted && *wanted == '/') {
        const struct vim_ServiceContent *content;
        if (!vsp_content(v, &content, err))
            return false;
        struct vim_FindByInventoryPath_request q = {.self = content->searchIndex,
                                                    .inventoryPath = wanted + 1};
        struct vim_FindByInventoryPath_response *r;
        if (!VSP_CALL(v, FindByInventoryPath, &q, a, r, err))
            return false;
        by_path = r->returnval;
    }
    *out = NULL;
    size_t found = 0;
    for (size_t i = 0; i < c.n; i++) {
        bool match = by_path.value ? vim_ref_eq(c.v[i]->obj, by_path)
                     : wanted      ? same_name(name_of(c.v[i]), wanted)
                                   : true;
        if (match)
            *out = c.v[i];
        found += match;
    }
    return found == 1 || fail_with_list(what, found ? NULL : wanted, c, err);
}

/* All objects of 'type' below a folder, through its sub-folders. */
static bool below_folder(struct vsp *v, struct vim_ref folder, const char *type,
                         const char *const *paths, struct arena *a, struct candidates *out,
                         struct vic_err *err)
{
    struct vim_PropertyFilterSpec *spec = vsp_spec(a);
    struct vim_TraversalSpec *down = vsp_traversal(a, "Folder", "childEntity");
    struct vim_SelectionSpec *again = VIM_NEW(a, SelectionSpec);
    struct vsp_objects got;
    again->name = down->name;
    VIM_PUSH(a, &down->selectSet, again);
    vsp_spec_props(a, spec, type, paths);
    vsp_spec_object(a, spec, folder, down);
    if (!vsp_retrieve(v, spec, a, &got, err))
        return false;
    *out = (struct candidates){got.v, got.n};
    return true;
}

/* The objects that a property (an array of references) names, with their names. */
static bool named(struct vsp *v, const struct vim_any *refs, const char *type, struct arena *a,
                  struct candidates *out, struct vic_err *err)
{
    static const char *const paths[] = {"name", NULL};
    struct vsp_objects got;
    *out = (struct candidates){0};
    if (refs->kind != VIM_REF || !refs->array || !refs->items.n)
        return true;
    struct vim_PropertyFilterSpec *spec = vsp_spec(a);
    vsp_spec_props(a, spec, type, paths);
    for (size_t i = 0; i < refs->items.n; i++)
        vsp_spec_object(a, spec, ((struct vim_ref *)refs->items.v)[i], NULL);
    if (!vsp_retrieve(v, spec, a, &got, err))
        return false;
    *out = (struct candidates){got.v, got.n};
    return true;
}

static bool keep_name(const char *what, const char *name, char out[128], struct vic_err *err)
{
    return snprintf(out, 128, "%s", name) < 128 ||
           vic_fail(err, VIC_TOO_LARGE, 0, "the name of the %s is too long", what);
}

/* The datacenter's path below the root folder ("folder/dc"), as datastore URLs want it. */
static bool inventory_path(struct vsp *v, const struct vim_ObjectContent *dc, struct arena *a,
                           char out[128], struct vic_err *err)
{
    static const char *const paths[] = {"name", "parent", NULL};
    const struct vim_ServiceContent *c;
    const char *path = name_of(dc);
    struct vim_any parent = vsp_prop(dc, "parent");
    if (!vsp_content(v, &c, err))
        return false;
    for (int i = 0; i < MAX_ANCESTORS && parent.kind == VIM_REF && !parent.array &&
                    !vim_ref_eq(parent.ref, c->rootFolder);
         i++) {
        struct vim_ObjectContent *o;
        if (!vsp_read_object(v, parent.ref, paths, a, &o, err))
            return false;
        path = arena_printf(a, "%s/%s", name_of(o), path);
        parent = vsp_prop(o, "parent");
    }
    return keep_name("datacenter", path, out, err);
}

static bool find_datacenter(struct vsp *v, const char *wanted, struct arena *a,
                            struct vsp_place *out, struct vim_ref *host_folder, struct vic_err *err)
{
    static const char *const paths[] = {"name", "parent", "vmFolder", "hostFolder", NULL};
    const struct vim_ServiceContent *c;
    struct candidates all;
    struct vim_ObjectContent *dc;
    if (!vsp_content(v, &c, err) ||
        !below_folder(v, c->rootFolder, "Datacenter", paths, a, &all, err) ||
        !choose(v, "datacenter", wanted, all, a, &dc, err) ||
        !vsp_ref_text(dc->obj, out->datacenter, err) ||
        !vsp_ref_text(vsp_prop(dc, "vmFolder").ref, out->folder, err))
        return false;
    *host_folder = vsp_prop(dc, "hostFolder").ref;
    return inventory_path(v, dc, a, out->datacenter_name, err);
}

/* "a/b" below the root pool. */
static bool find_pool(struct vsp *v, struct vim_ref root, const char *path, struct arena *a,
                      char out[VSP_REF_SIZE], struct vic_err *err)
{
    static const char *const paths[] = {"resourcePool", NULL};
    struct vim_ref at = root;
    struct sv rest = sv_of(path);
    while (rest.len) {
        const char *name = arena_sv(a, sv_cut(&rest, '/'));
        struct vim_ObjectContent *o, *child;
        struct candidates children;
        if (!*name)
            continue;
        if (!vsp_read_object(v, at, paths, a, &o, err))
            return false;
        struct vim_any refs = vsp_prop(o, "resourcePool");
        if (!named(v, &refs, "ResourcePool", a, &children, err) ||
            !choose(v, "resource pool", name, children, a, &child, err))
            return false;
        at = child->obj;
    }
    return vsp_ref_text(at, out, err);
}

static bool find_named(struct vsp *v, const char *what, const char *type, const char *wanted,
                       const struct vim_any *refs, struct arena *a, char ref[VSP_REF_SIZE],
                       char name[128], struct vic_err *err)
{
    struct candidates all;
    struct vim_ObjectContent *o;
    return named(v, refs, type, a, &all, err) && choose(v, what, wanted, all, a, &o, err) &&
           vsp_ref_text(o->obj, ref, err) && keep_name(what, name_of(o), name, err);
}

bool vsp_find_place(struct vsp *v, const struct vsp_place_names *names, struct vsp_place *out,
                    struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    static const char *const paths[] = {"name", "resourcePool", "datastore", "network", NULL};
    struct vim_ref host_folder;
    struct candidates all;
    struct vim_ObjectContent *compute;
    *out = (struct vsp_place){0};
    if (!find_datacenter(v, names->datacenter, &a, out, &host_folder, err) ||
        !below_folder(v, host_folder, "ComputeResource", paths, &a, &all, err) ||
        !choose(v, "compute resource", names->compute, all, &a, &compute, err) ||
        !find_pool(v, vsp_prop(compute, "resourcePool").ref, names->pool, &a, out->pool, err))
        return vic_wrap(err, "find the place");
    struct vim_any datastores = vsp_prop(compute, "datastore");
    struct vim_any networks = vsp_prop(compute, "network");
    if (!find_named(v, "datastore", "Datastore", names->datastore, &datastores, &a, out->datastore,
                    out->datastore_name, err) ||
        !find_named(v, "network", "Network", names->network, &networks, &a, out->network,
                    out->network_name, err))
        return vic_wrap(err, "find the place");
    return true;
}
