/* Stamps and news: the heart of filters, explained in pc.h. */
#include "base/mem.h"

#include "pc.h"

struct vh_sub_change {
    struct vh_sub_change *next;
    enum vim_PropertyChangeOp op;
    uint64_t stamp;
    char path[];
};

static uint64_t hash_of(struct sv text)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.p[i]) * 0x100000001b3;
    return h;
}

/* --- items ------------------------------------------------------------------------------------ */

static void free_subs(struct vh_item_prop *p)
{
    while (p->subs) {
        struct vh_sub_change *next = p->subs->next;
        free(p->subs);
        p->subs = next;
    }
}

static void free_props(struct vh_item *it)
{
    for (size_t i = 0; i < it->prop_count; i++) {
        free_subs(&it->props[i]);
        free(it->props[i].path);
        free(it->props[i].text);
    }
    free(it->props);
    it->props = NULL;
    it->prop_count = 0;
}

static void free_item(struct vh_filter *f, struct vh_item *it)
{
    HASH_DEL(f->items, it);
    free_props(it);
    free(it->type);
    free(it->id);
    free(it);
}

void vh_filter_forget(struct vh_filter *f)
{
    struct vh_item *it, *next;
    HASH_ITER(hh, f->items, it, next)
    free_item(f, it);
}

/* --- scanning --------------------------------------------------------------------------------- */

struct scan {
    struct vh_read *r;
    struct vh_filter *f;
    struct vh_item *it;
    struct vh_item_prop *p;
};

static void note_sub(void *arg, const char *path, enum vim_PropertyChangeOp op)
{
    struct scan *s = arg;
    struct vh_sub_change *c = xcalloc(1, sizeof *c + strlen(path) + 1);
    memcpy(c->path, path, strlen(path));
    c->op = op;
    c->stamp = s->it->stamp;
    c->next = s->p->subs;
    s->p->subs = c;
}

static void diff_text(struct scan *s, const char *old, const struct vim_any *now)
{
    struct vim_any before = {0};
    struct vic_err err;
    if (!soap_parse_any(sv_of(old), s->r->a, &before, &err))
        return;
    vh_diff(s->r->a, s->p->path, &before, now, note_sub, s);
}

/* The property's value now; true when it is not what it was. */
static bool compare(struct scan *s, struct vh_obj *o, bool fresh)
{
    AUTO_BUF struct buf text = {0};
    struct vim_any now;
    bool known = vh_value(s->r, o, sv_of(s->p->path), &now), set = known && now.kind != VIM_NONE;
    if (set)
        soap_write_any(&text, "v", &now);
    uint64_t hash = hash_of(buf_sv(&text));
    if (!fresh && set == s->p->set && hash == s->p->hash)
        return false;
    s->p->hash = hash;
    return true;
}

/* Runs after the item got its new stamp. */
static void record(struct scan *s, struct vh_obj *o, bool fresh)
{
    AUTO_BUF struct buf text = {0};
    struct vim_any now;
    bool set = vh_value(s->r, o, sv_of(s->p->path), &now) && now.kind != VIM_NONE;
    if (set)
        soap_write_any(&text, "v", &now);
    s->p->stamp = s->it->stamp;
    if (s->f->partial) {
        if (!fresh && set && s->p->set && s->p->text)
            diff_text(s, s->p->text, &now);
        free(s->p->text);
        s->p->text = set ? buf_take(&text) : NULL;
    }
    s->p->set = set;
}

/* A new stamp; what the client has not shown to have seen moves along. */
static void restamp(struct vh_collector *pc, struct vh_item *it)
{
    uint64_t stamp = ++pc->clock;
    if (it->enter > pc->shown)
        it->enter = stamp;
    for (size_t i = 0; i < it->prop_count; i++) {
        struct vh_item_prop *p = &it->props[i];
        if (p->stamp > pc->shown)
            p->stamp = stamp;
        for (struct vh_sub_change *c = p->subs; c; c = c->next)
            if (c->stamp > pc->shown)
                c->stamp = stamp;
    }
    it->stamp = stamp;
}

static struct vh_item *new_item(struct scan *s, struct vh_obj *o)
{
    vh_paths paths = {0};
    struct vh_item *it = xcalloc(1, sizeof *it);
    if (!vh_paths_of(s->r, s->f->spec, o, &paths)) {
        free(it);
        return NULL;
    }
    it->type = xstrdup(o->type->name);
    it->id = xstrdup(o->id);
    it->props = xcalloc(paths.n ? paths.n : 1, sizeof *it->props);
    it->prop_count = paths.n;
    for (size_t i = 0; i < paths.n; i++)
        it->props[i].path = xstrdup(paths.v[i]);
    it->enter = it->stamp = ++s->f->collector->clock;
    HASH_ADD_KEYPTR(hh, s->f->items, it->id, strlen(it->id), it);
    return it;
}

static void enter(struct scan *s, struct vh_obj *o)
{
    s->it = new_item(s, o);
    if (!s->it)
        return;
    for (size_t i = 0; i < s->it->prop_count; i++) {
        s->p = &s->it->props[i];
        compare(s, o, true);
        record(s, o, true);
    }
    s->it->rev = o->rev;
    s->it->seen = true;
}

static void revisit(struct scan *s, struct vh_obj *o)
{
    s->it->seen = true;
    if (s->it->rev == o->rev)
        return;
    s->it->rev = o->rev;
    bool stamped = false;
    for (size_t i = 0; i < s->it->prop_count; i++) {
        s->p = &s->it->props[i];
        if (!compare(s, o, false))
            continue;
        if (!stamped)
            restamp(s->f->collector, s->it);
        stamped = true;
        record(s, o, false);
    }
}

static void scan_object(struct scan *s, struct vh_obj *o)
{
    struct vh_item *it = NULL;
    bool known = false;
    HASH_FIND(hh, s->f->items, o->id, strlen(o->id), it);
    if (it && (it->gone || strcmp(it->type, o->type->name) != 0)) {
        known = it->known || it->enter <= s->f->collector->shown;
        free_item(s->f, it);
        it = NULL;
    }
    s->it = it;
    if (it)
        revisit(s, o);
    else
        enter(s, o);
    if (known && s->it)
        s->it->known = true;
}

static void sweep(struct vh_filter *f)
{
    struct vh_item *it, *next;
    HASH_ITER(hh, f->items, it, next)
    {
        if (it->gone && it->stamp <= f->collector->shown) {
            free_item(f, it);
        } else if (!it->gone && !it->seen) {
            bool unseen = !it->known && it->enter > f->collector->shown;
            it->gone = true;
            it->stamp = ++f->collector->clock;
            if (unseen) /* the client never heard of it */
                free_item(f, it);
        }
    }
}

void vh_filter_scan(struct vh *h, struct vh_filter *f)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_read r = {h, f->collector->session, &a};
    struct vh_fault fault = {.a = &a};
    struct vh_selected list = {0};
    struct scan s = {.r = &r, .f = f};
    for (struct vh_item *it = f->items; it; it = it->hh.next)
        it->seen = false;
    /* An object named in the spec that is gone now is a leave, not a fault. */
    f->spec->has_reportMissingObjectsInResults = true;
    f->spec->reportMissingObjectsInResults = true;
    if (!vh_select(&r, f->spec, &list, &fault))
        list.list.n = 0;
    for (size_t i = 0; i < list.list.n; i++)
        scan_object(&s, list.list.v[i]);
    sweep(f);
}

/* --- news ------------------------------------------------------------------------------------- */

struct candidate {
    struct vh_filter *f;
    struct vh_item *it;
};

static int by_stamp(const void *x, const void *y)
{
    uint64_t a = ((const struct candidate *)x)->it->stamp;
    uint64_t b = ((const struct candidate *)y)->it->stamp;
    return a < b ? -1 : a > b;
}

static void add_change(struct vh_read *r, struct vim_ObjectUpdate *u, struct vh_obj *o,
                       const char *path, enum vim_PropertyChangeOp op)
{
    struct vim_PropertyChange *c = VIM_NEW(r->a, PropertyChange);
    c->name = arena_strdup(r->a, path);
    c->op = op;
    if (op != vim_PropertyChangeOp_remove && !vh_value(r, o, sv_of(path), &c->val))
        c->val = (struct vim_any){0};
    VIM_PUSH(r->a, &u->changeSet, c);
}

static void add_subs(struct vh_read *r, struct vim_ObjectUpdate *u, struct vh_obj *o,
                     const struct vh_item_prop *p, uint64_t version)
{
    for (const struct vh_sub_change *c = p->subs; c; c = c->next)
        if (c->stamp > version)
            add_change(r, u, o, c->path, c->op);
}

static bool has_subs(const struct vh_item_prop *p, uint64_t version)
{
    for (const struct vh_sub_change *c = p->subs; c; c = c->next)
        if (c->stamp > version)
            return true;
    return false;
}

static void add_props(struct vh_read *r, struct vim_ObjectUpdate *u, struct vh_obj *o,
                      const struct vh_item *it, uint64_t version, bool entered)
{
    for (size_t i = 0; i < it->prop_count; i++) {
        const struct vh_item_prop *p = &it->props[i];
        if (entered ? !p->set : p->stamp <= version)
            continue;
        if (!entered && has_subs(p, version))
            add_subs(r, u, o, p, version);
        else
            add_change(r, u, o, p->path, vim_PropertyChangeOp_assign);
    }
}

static struct vim_ObjectUpdate *update_of(struct vh_read *r, const struct vh_item *it,
                                          uint64_t version)
{
    struct vim_ObjectUpdate *u = VIM_NEW(r->a, ObjectUpdate);
    struct vim_ref ref = {arena_strdup(r->a, it->type), arena_strdup(r->a, it->id)};
    u->obj = ref;
    struct vh_obj *o = it->gone ? NULL : vh_find_id(r->h, it->id);
    bool entered = it->enter > version;
    u->kind = !o        ? vim_ObjectUpdateKind_leave
              : entered ? vim_ObjectUpdateKind_enter
                        : vim_ObjectUpdateKind_modify;
    if (o)
        add_props(r, u, o, it, version, entered);
    return u;
}

static struct vim_PropertyFilterUpdate *update_for(struct vh_read *r, struct vim_UpdateSet *set,
                                                   struct vh_filter *f)
{
    for (size_t i = 0; i < set->filterSet.n; i++)
        if (!strcmp(set->filterSet.v[i]->filter.value, f->obj.id))
            return set->filterSet.v[i];
    struct vim_PropertyFilterUpdate *u = VIM_NEW(r->a, PropertyFilterUpdate);
    u->filter = vh_ref(&f->obj);
    VIM_PUSH(r->a, &set->filterSet, u);
    return u;
}

struct vim_UpdateSet *vh_collector_news(struct vh_read *r, struct vh_collector *pc,
                                        uint64_t version, size_t max)
{
    VIM_ARRAY_OF(struct candidate) all = {0};
    struct vh_filter *f;
    LIST_FOREACH (f, &pc->filters, link)
        for (struct vh_item *it = f->items; it; it = it->hh.next)
            if (it->stamp > version)
                VIM_PUSH(r->a, &all, ((struct candidate){f, it}));
    if (!all.n)
        return NULL;
    qsort(all.v, all.n, sizeof *all.v, by_stamp);
    size_t n = all.n < max ? all.n : max;
    struct vim_UpdateSet *set = VIM_NEW(r->a, UpdateSet);
    for (size_t i = 0; i < n; i++) {
        struct vim_PropertyFilterUpdate *u = update_for(r, set, all.v[i].f);
        VIM_PUSH(r->a, &u->objectSet, update_of(r, all.v[i].it, version));
    }
    set->version = arena_printf(r->a, "%llu", (unsigned long long)all.v[n - 1].it->stamp);
    if (n < all.n)
        set->has_truncated = set->truncated = true;
    return set;
}
