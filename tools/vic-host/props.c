/* Properties: from a path to a value.  The head of a path is a property of the managed type, found
 * in the getters' tables; the rest is walked by vim_path through the generated types. */
#include "host.h"

static const struct vh_prop *const tables[] = {
    vh_props_service, vh_props_inventory, vh_props_host, vh_props_vm,   vh_props_session,
    vh_props_task,    vh_props_view,      vh_props_pc,   vh_props_pool,
};

/* A table of a subtype may override one of its base. */
static vh_getter find_getter(const struct vim_managed *type, struct sv name)
{
    for (; type; type = type->base)
        for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
            for (const struct vh_prop *p = tables[t]; p->type; p++)
                if (p->type == type && sv_is(name, p->name))
                    return p->get;
    return NULL;
}

static struct sv head_of(struct sv path)
{
    size_t n = 0;
    while (n < path.len && path.p[n] != '.' && path.p[n] != '[')
        n++;
    return sv_sub(path, 0, n);
}

bool vh_value(struct vh_read *r, struct vh_obj *o, struct sv path, struct vim_any *out)
{
    struct sv head = head_of(path), rest = sv_sub(path, head.len, path.len);
    struct vim_any root = {0};
    *out = root;
    if (!vim_find_property(o->type, head))
        return false;
    vh_getter get = find_getter(o->type, head);
    if (get)
        get(r, o, &root);
    if (root.kind == VIM_NONE)
        return true;
    if (rest.len && rest.p[0] == '.')
        rest = sv_sub(rest, 1, rest.len);
    return vim_path(root, rest, out);
}

void vh_each_property(const struct vim_managed *type, void (*each)(void *arg, const char *name),
                      void *arg)
{
    for (; type; type = type->base)
        for (unsigned i = 0; i < type->property_count; i++)
            each(arg, type->properties[i].name);
}

void vh_push_ref(struct arena *a, vh_refs *refs, const struct vh_obj *o)
{
    if (o)
        VIM_PUSH(a, refs, vh_ref(o));
}

struct vim_any vh_any_refs(const vh_refs *refs)
{
    return (struct vim_any){.kind = VIM_REF, .array = true, .items = {refs->v, refs->n}};
}

struct vim_any vh_any_time(int64_t ns)
{
    return (struct vim_any){.kind = VIM_TIME, .i = ns};
}

struct vim_any vh_any_strings(struct arena *a, const char *const *list, size_t n)
{
    return (struct vim_any){
        .kind = VIM_STRING, .array = true, .items = {arena_copy(a, list, n * sizeof *list), n}};
}

struct vim_any vh_clone_any(struct arena *a, const struct vim_any *any)
{
    AUTO_BUF struct buf text = {0};
    struct vim_any copy = {0};
    struct vic_err err;
    soap_write_any(&text, "v", any);
    if (text.failed || !soap_parse_any(buf_sv(&text), a, &copy, &err))
        abort(); /* what we wrote ourselves reads back */
    return copy;
}

void *vh_clone_object(struct arena *a, const void *object)
{
    const struct vim_object *o = object;
    struct vim_any any = {.kind = VIM_OBJECT, .type = o->vim, .object = o};
    return (void *)(uintptr_t)vh_clone_any(a, &any).object;
}
