/* Selecting objects and reading them: see pc.h. */
#include "pc.h"

/* One thing to do: from 'obj' go on by 'ways'. */
struct visit {
    struct vh_obj *obj;
    const struct vim_SelectionSpec *way; /* NULL: only take the object */
};
struct walk {
    struct vh_read *r;
    const struct vim_PropertyFilterSpec *spec;
    const struct vim_ObjectSpec *root;
    struct vh_selected *out;
    struct vh_fault *f;
    VIM_ARRAY_OF(struct visit) todo;
    struct mark *marks; /* hash of visits made and objects taken */
};
struct mark {
    struct visit key;
    UT_hash_handle hh;
};

/* True the first time. */
static bool first_time(struct walk *w, struct vh_obj *o, const void *way)
{
    struct visit key;
    memset(&key, 0, sizeof key);
    key.obj = o;
    key.way = way;
    struct mark *m = NULL;
    HASH_FIND(hh, w->marks, &key, sizeof key, m);
    if (m)
        return false;
    m = ARENA_NEW(w->r->a, struct mark);
    m->key = key;
    HASH_ADD(hh, w->marks, key, sizeof key, m);
    return true;
}

static const struct vim_TraversalSpec *find_way(const struct vim_SelectionSpec *const *set,
                                                size_t n, const char *name, unsigned depth)
{
    for (size_t i = 0; i < n && depth < SOAP_MAX_DEPTH; i++) {
        const struct vim_TraversalSpec *t = VIM_CAST(TraversalSpec, set[i]);
        if (!t)
            continue;
        if (t->name && !strcmp(t->name, name))
            return t;
        const struct vim_TraversalSpec *deeper =
            find_way((const struct vim_SelectionSpec *const *)t->selectSet.v, t->selectSet.n, name,
                     depth + 1);
        if (deeper)
            return deeper;
    }
    return NULL;
}

static const struct vim_TraversalSpec *resolve(struct walk *w, const struct vim_SelectionSpec *way)
{
    const struct vim_TraversalSpec *t = VIM_CAST(TraversalSpec, way);
    for (size_t i = 0; !t && way->name && i < w->spec->objectSet.n; i++) {
        const struct vim_ObjectSpec *o = w->spec->objectSet.v[i];
        t = find_way((const struct vim_SelectionSpec *const *)o->selectSet.v, o->selectSet.n,
                     way->name, 0);
    }
    if (!t)
        vh_fault_argument(w->f, "specSet.objectSet.selectSet.name");
    return t;
}

static void take(struct walk *w, struct vh_obj *o)
{
    if (first_time(w, o, NULL))
        VIM_PUSH(w->r->a, &w->out->list, o);
}

static void plan(struct walk *w, struct vh_obj *o, struct vim_SelectionSpec *const *ways, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (first_time(w, o, ways[i]))
            VIM_PUSH(w->r->a, &w->todo, ((struct visit){o, ways[i]}));
}

static void arrive(struct walk *w, const struct vim_TraversalSpec *t, struct vim_ref ref)
{
    struct vh_obj *o = vh_find(w->r->h, w->r->s, ref);
    if (!o)
        return;
    if (!(t->has_skip && t->skip))
        take(w, o);
    plan(w, o, t->selectSet.v, t->selectSet.n);
}

static bool follow(struct walk *w, const struct visit *v)
{
    const struct vim_TraversalSpec *t = resolve(w, v->way);
    if (!t)
        return false;
    const struct vim_managed *type = vim_find_managed(sv_of(t->type));
    struct vim_any value;
    if (!type || !vh_is(v->obj, type) || !vh_value(w->r, v->obj, sv_of(t->path), &value) ||
        value.kind != VIM_REF)
        return true;
    if (!value.array) {
        arrive(w, t, value.ref);
        return true;
    }
    for (size_t i = 0; i < value.items.n; i++)
        arrive(w, t, ((struct vim_ref *)value.items.v)[i]);
    return true;
}

static bool select_root(struct walk *w, const struct vim_ObjectSpec *spec)
{
    struct vh_obj *o = vh_find(w->r->h, w->r->s, spec->obj);
    if (!o && w->spec->has_reportMissingObjectsInResults && w->spec->reportMissingObjectsInResults)
        return true;
    if (!o)
        return vh_fault_not_found(w->f, spec->obj);
    if (!(spec->has_skip && spec->skip))
        take(w, o);
    if (w->r->s) /* who is not logged in learns of no other object */
        plan(w, o, spec->selectSet.v, spec->selectSet.n);
    return true;
}

bool vh_select(struct vh_read *r, const struct vim_PropertyFilterSpec *spec,
               struct vh_selected *out, struct vh_fault *f)
{
    struct walk w = {.r = r, .spec = spec, .out = out, .f = f};
    bool good = true;
    for (size_t i = 0; good && i < spec->objectSet.n; i++)
        good = select_root(&w, spec->objectSet.v[i]);
    for (size_t i = 0; good && i < w.todo.n; i++) {
        struct visit v = w.todo.v[i]; /* the array may move */
        good = follow(&w, &v);
    }
    HASH_CLEAR(hh, w.marks); /* the table; its elements are the arena's */
    return good;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct collect {
    struct arena *a;
    vh_paths *out;
};

static void add_path(void *arg, const char *name)
{
    struct collect *c = arg;
    for (size_t i = 0; i < c->out->n; i++)
        if (!strcmp(c->out->v[i], name))
            return;
    VIM_PUSH(c->a, c->out, name);
}

bool vh_paths_of(struct vh_read *r, const struct vim_PropertyFilterSpec *spec,
                 const struct vh_obj *o, vh_paths *out)
{
    struct collect c = {r->a, out};
    bool matched = false;
    for (size_t i = 0; i < spec->propSet.n; i++) {
        const struct vim_PropertySpec *p = spec->propSet.v[i];
        const struct vim_managed *type = vim_find_managed(sv_of(p->type));
        if (!type || !vh_is(o, type))
            continue;
        matched = true;
        if (p->has_all && p->all)
            vh_each_property(o->type, add_path, &c);
        else
            for (size_t k = 0; k < p->pathSet.n; k++)
                add_path(&c, p->pathSet.v[k]);
    }
    return matched;
}

/* Who is not logged in reads nothing but the session manager, which is then empty. */
static void withhold(struct vh_read *r, struct vim_ObjectContent *content, const char *path)
{
    struct vh_fault f = {.a = r->a};
    struct vim_NotAuthenticated *d = VH_FAULT(&f, NotAuthenticated, NULL);
    d->object = content->obj;
    d->privilegeId = "System.View";
    struct vim_MissingProperty *m = VIM_NEW(r->a, MissingProperty);
    m->path = path;
    m->fault = vh_fault_localized(&f, r->a);
    VIM_PUSH(r->a, &content->missingSet, m);
}

static bool read_property(struct vh_read *r, struct vh_obj *o, const char *path,
                          struct vim_ObjectContent *content, struct vh_fault *f)
{
    struct vim_any value;
    if (!vh_value(r, o, sv_of(path), &value)) {
        VH_FAULT(f, InvalidProperty, "The property %s is not known to %s.", path, o->type->name)
            ->name = path;
        return false;
    }
    if (value.kind == VIM_NONE)
        return true;
    struct vim_DynamicProperty *p = VIM_NEW(r->a, DynamicProperty);
    p->name = path;
    p->val = value;
    VIM_PUSH(r->a, &content->propSet, p);
    return true;
}

bool vh_content(struct vh_read *r, const struct vim_PropertyFilterSpec *spec, struct vh_obj *o,
                struct vim_ObjectContent **out, struct vh_fault *f)
{
    vh_paths paths = {0};
    *out = NULL;
    if (!vh_paths_of(r, spec, o, &paths))
        return true;
    struct vim_ObjectContent *content = VIM_NEW(r->a, ObjectContent);
    content->obj = vh_ref(o);
    for (size_t i = 0; i < paths.n; i++) {
        if (!r->s && o->type != &vim_managed_SessionManager)
            withhold(r, content, paths.v[i]);
        else if (!read_property(r, o, paths.v[i], content, f))
            return false;
    }
    *out = content;
    return true;
}
