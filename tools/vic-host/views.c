/* Views and SearchIndex.
 *
 * A container view is computed at each read: the objects below its container, of its types.  A list
 * view keeps references; those that no longer resolve are left out when it is read. */
#include "base/mem.h"

#include "datastore.h"
#include "host.h"
#include "inventory.h"

enum { MAX_VIEWS = 1000, MAX_VIEW_REFS = 100000 };

struct vh_view {
    struct vh_obj obj;
    char *container; /* id; NULL = a list view */
    const struct vim_managed **types;
    size_t type_count;
    bool recursive;
    char **ids; /* of a list view */
    size_t id_count;
};

static struct vh_view *view_of(struct vh_obj *o)
{
    return CONTAINER_OF(o, struct vh_view, obj);
}

static void clear_ids(struct vh_view *v)
{
    for (size_t i = 0; i < v->id_count; i++)
        free(v->ids[i]);
    free(v->ids);
    v->ids = NULL;
    v->id_count = 0;
}

static void free_view(struct vh *h, struct vh_obj *o)
{
    (void)h;
    struct vh_view *v = view_of(o);
    clear_ids(v);
    free(v->container);
    free(v->types);
}

static struct vh_view *new_view(struct vh_call *c, const struct vim_managed *type)
{
    size_t mine = 0;
    for (struct vh_obj *o = c->h->objects; o; o = o->hh.next)
        mine += o->owner == c->s && vh_is(o, &vim_managed_View);
    if (mine >= MAX_VIEWS) {
        vh_fault_argument(&c->fault, "view");
        return NULL;
    }
    struct vh_view *v = xcalloc(1, sizeof *v);
    char uuid[37];
    random_uuid(uuid);
    v->obj.owner = c->s;
    v->obj.free = free_view;
    vh_add(c->h, &v->obj, type, arena_printf(c->a, "session[%s]%s", c->s->key, uuid), NULL, NULL);
    return v;
}

static bool is_container(const struct vh_obj *o)
{
    static const struct vim_managed *const types[] = {
        &vim_managed_Folder,       &vim_managed_Datacenter, &vim_managed_ComputeResource,
        &vim_managed_ResourcePool, &vim_managed_HostSystem,
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (vh_is(o, types[i]))
            return true;
    return false;
}

static bool create_container_view(struct vh_call *c)
{
    const struct vim_CreateContainerView_request *q = c->req;
    struct vim_CreateContainerView_response *r = c->res;
    struct vh_obj *container = vh_find(c->h, c->s, q->container);
    if (!container)
        return vh_fault_not_found(&c->fault, q->container);
    if (!is_container(container))
        return vh_fault_argument(&c->fault, "container");
    for (size_t i = 0; i < q->type.n; i++)
        if (!vim_find_managed(sv_of(q->type.v[i])))
            return vh_fault_argument(&c->fault, "type");
    struct vh_view *v = new_view(c, &vim_managed_ContainerView);
    if (!v)
        return false;
    v->container = xstrdup(container->id);
    v->recursive = q->recursive;
    v->types = xcalloc(q->type.n + 1, sizeof *v->types);
    for (size_t i = 0; i < q->type.n; i++)
        v->types[v->type_count++] = vim_find_managed(sv_of(q->type.v[i]));
    r->returnval = vh_ref(&v->obj);
    return true;
}

/* --- list views ------------------------------------------------------------------------------- */

static bool holds(const struct vh_view *v, const char *id, size_t *at)
{
    for (*at = 0; *at < v->id_count; ++*at)
        if (!strcmp(v->ids[*at], id))
            return true;
    return false;
}

static void add_ids(struct vh_call *c, struct vh_view *v, const struct vim_ref *refs, size_t n,
                    vh_refs *unresolved)
{
    for (size_t i = 0; i < n; i++) {
        size_t at;
        if (!vh_find(c->h, c->s, refs[i])) {
            if (unresolved)
                VIM_PUSH(c->a, unresolved, refs[i]);
            continue;
        }
        if (holds(v, refs[i].value, &at) || v->id_count >= MAX_VIEW_REFS)
            continue;
        v->ids = xrealloc(v->ids, (v->id_count + 1) * sizeof *v->ids);
        v->ids[v->id_count++] = xstrdup(refs[i].value);
    }
    vh_touch(c->h, &v->obj);
}

static void remove_ids(struct vh_view *v, const struct vim_ref *refs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at;
        if (!refs[i].value || !holds(v, refs[i].value, &at))
            continue;
        free(v->ids[at]);
        memmove(&v->ids[at], &v->ids[at + 1], (--v->id_count - at) * sizeof *v->ids);
    }
}

static bool create_list_view(struct vh_call *c)
{
    const struct vim_CreateListView_request *q = c->req;
    struct vim_CreateListView_response *r = c->res;
    struct vh_view *v = new_view(c, &vim_managed_ListView);
    if (!v)
        return false;
    add_ids(c, v, q->obj.v, q->obj.n, NULL);
    r->returnval = vh_ref(&v->obj);
    return true;
}

static bool modify_list_view(struct vh_call *c)
{
    const struct vim_ModifyListView_request *q = c->req;
    struct vim_ModifyListView_response *r = c->res;
    vh_refs unresolved = {0};
    remove_ids(view_of(c->o), q->remove.v, q->remove.n);
    add_ids(c, view_of(c->o), q->add.v, q->add.n, &unresolved);
    r->returnval.v = unresolved.v;
    r->returnval.n = unresolved.n;
    return true;
}

static bool reset_list_view(struct vh_call *c)
{
    const struct vim_ResetListView_request *q = c->req;
    struct vim_ResetListView_response *r = c->res;
    vh_refs unresolved = {0};
    clear_ids(view_of(c->o));
    add_ids(c, view_of(c->o), q->obj.v, q->obj.n, &unresolved);
    r->returnval.v = unresolved.v;
    r->returnval.n = unresolved.n;
    return true;
}

static bool destroy_view(struct vh_call *c)
{
    vh_drop(c->h, c->o);
    return true;
}

/* --- what a view shows ------------------------------------------------------------------------ */

static bool wanted(const struct vh_view *v, const struct vh_obj *o)
{
    for (size_t i = 0; i < v->type_count; i++)
        if (vh_is(o, v->types[i]))
            return true;
    return v->type_count == 0;
}

static void list_container(struct vh_read *r, struct vh_view *v, vh_refs *refs)
{
    struct vh_obj *container = vh_find_id(r->h, v->container);
    struct vh_list below = {0};
    if (container)
        vh_below(r, container, v->recursive, &below);
    for (size_t i = 0; i < below.n; i++)
        if (wanted(v, below.v[i]))
            vh_push_ref(r->a, refs, below.v[i]);
}

static void view_list(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    struct vh_view *v = view_of(o);
    vh_refs refs = {0};
    if (v->container)
        list_container(r, v, &refs);
    for (size_t i = 0; i < v->id_count; i++)
        vh_push_ref(r->a, &refs, vh_find_id(r->h, v->ids[i]));
    *out = vh_any_refs(&refs);
}

static void view_container(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    struct vh_obj *container = vh_find_id(r->h, view_of(o)->container);
    if (container)
        *out = VIM_ANY_REF(vh_ref(container));
}

static void view_types(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    struct vh_view *v = view_of(o);
    const char **names = ARENA_ARRAY(r->a, const char *, v->type_count + 1);
    for (size_t i = 0; i < v->type_count; i++)
        names[i] = v->types[i]->name;
    *out = vh_any_strings(r->a, names, v->type_count);
}

static void view_recursive(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)r;
    *out = VIM_ANY_BOOL(view_of(o)->recursive);
}

static void manager_views(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    vh_refs refs = {0};
    for (struct vh_obj *v = r->h->objects; v; v = v->hh.next)
        if (r->s && v->owner == r->s && vh_is(v, &vim_managed_View))
            vh_push_ref(r->a, &refs, v);
    *out = vh_any_refs(&refs);
}

const struct vh_prop vh_props_view[] = {
    {&vim_managed_ManagedObjectView, "view", view_list},
    {&vim_managed_ContainerView, "container", view_container},
    {&vim_managed_ContainerView, "type", view_types},
    {&vim_managed_ContainerView, "recursive", view_recursive},
    {&vim_managed_ViewManager, "viewList", manager_views},
    {0},
};

/* --- SearchIndex ------------------------------------------------------------------------------ */

static struct vh_obj *by_uuid(struct vh *h, const char *uuid, bool vm, bool instance)
{
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (vm && o->type == &vim_managed_VirtualMachine && vh_vm_has_uuid(o, uuid, instance))
            return o;
    return !vm && !strcasecmp(uuid, h->uuid) ? h->host : NULL;
}

static bool find_by_uuid(struct vh_call *c)
{
    const struct vim_FindByUuid_request *q = c->req;
    struct vim_FindByUuid_response *r = c->res;
    r->returnval =
        vh_ref(by_uuid(c->h, q->uuid, q->vmSearch, q->has_instanceUuid && q->instanceUuid));
    return true;
}

static bool find_all_by_uuid(struct vh_call *c)
{
    const struct vim_FindAllByUuid_request *q = c->req;
    struct vim_FindAllByUuid_response *r = c->res;
    vh_refs refs = {0};
    vh_push_ref(c->a, &refs,
                by_uuid(c->h, q->uuid, q->vmSearch, q->has_instanceUuid && q->instanceUuid));
    r->returnval.v = refs.v;
    r->returnval.n = refs.n;
    return true;
}

static struct vh_obj *child_named(struct vh_call *c, struct vh_obj *o, struct sv name)
{
    struct vh_read r = {c->h, c->s, c->a};
    struct vh_list below = {0};
    vh_below(&r, o, false, &below);
    for (size_t i = 0; i < below.n; i++)
        if (below.v[i]->name && sv_is(name, vh_escape_name(c->a, below.v[i]->name)))
            return below.v[i];
    return NULL;
}

static bool find_by_inventory_path(struct vh_call *c)
{
    const struct vim_FindByInventoryPath_request *q = c->req;
    struct vim_FindByInventoryPath_response *r = c->res;
    struct sv path = sv_of(q->inventoryPath);
    struct vh_obj *o = c->h->root;
    while (o && path.len) {
        struct sv name = sv_cut(&path, '/');
        if (name.len)
            o = child_named(c, o, name);
    }
    r->returnval = vh_ref(o);
    return true;
}

static bool find_child(struct vh_call *c)
{
    const struct vim_FindChild_request *q = c->req;
    struct vim_FindChild_response *r = c->res;
    struct vh_obj *o = vh_find(c->h, c->s, q->entity);
    if (!o)
        return vh_fault_not_found(&c->fault, q->entity);
    r->returnval = vh_ref(child_named(c, o, sv_of(vh_escape_name(c->a, q->name))));
    return true;
}

static bool find_by_datastore_path(struct vh_call *c)
{
    const struct vim_FindByDatastorePath_request *q = c->req;
    struct vim_FindByDatastorePath_response *r = c->res;
    struct vh_path p;
    if (!vh_path_parse(c->h, q->path, &p, &c->fault))
        return false;
    for (struct vh_obj *o = c->h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine && vh_vm_has_file(c->h, o, &p))
            r->returnval = vh_ref(o);
    return true;
}

/* The guests here tell their addresses to nobody: nothing is ever found by them. */
static bool find_nothing(struct vh_call *c)
{
    (void)c;
    return true;
}

const struct vh_method vh_methods_view[] = {
    {&vim_method_CreateContainerView, create_container_view, 0},
    {&vim_method_CreateListView, create_list_view, 0},
    {&vim_method_ModifyListView, modify_list_view, 0},
    {&vim_method_ResetListView, reset_list_view, 0},
    {&vim_method_DestroyView, destroy_view, 0},
    {&vim_method_FindByUuid, find_by_uuid, 0},
    {&vim_method_FindAllByUuid, find_all_by_uuid, 0},
    {&vim_method_FindByInventoryPath, find_by_inventory_path, 0},
    {&vim_method_FindChild, find_child, 0},
    {&vim_method_FindByDatastorePath, find_by_datastore_path, 0},
    {&vim_method_FindByIp, find_nothing, 0},
    {&vim_method_FindAllByIp, find_nothing, 0},
    {&vim_method_FindByDnsName, find_nothing, 0},
    {&vim_method_FindAllByDnsName, find_nothing, 0},
    {0},
};
