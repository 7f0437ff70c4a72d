/* PropertyCollector, PropertyFilter: the methods.  What they do is explained in pc.h. */
#include "base/mem.h"

#include "pc.h"

enum {
    MAX_FILTERS = 1000, /* of one collector */
    MAX_PAGES = 16,
    MAX_COLLECTORS = 1000, /* of one session */
    DEFAULT_UPDATES = 100, /* objects in one update set, as vCenter pages */
};

struct vh_wait {
    struct vh_parked parked;
    struct vh_call *call; /* good until it is answered */
    struct vh *h;
    char session[37];
    char *collector; /* id, or NULL for the session's share of the default one */
    uint64_t version;
    size_t max;
    bool canceled;
};

/* --- collectors and filters ------------------------------------------------------------------- */

static void release(struct vh *h, struct vh_collector *pc)
{
    struct vh_filter *f;
    while ((f = LIST_FIRST(&pc->filters)))
        vh_drop(h, &f->obj);
    struct vh_page *p;
    while ((p = LIST_FIRST(&pc->pages))) {
        LIST_REMOVE(p, link);
        arena_fini(&p->a);
        free(p);
    }
    if (pc->wait)
        pc->wait->canceled = true;
}

void vh_collector_free(struct vh *h, struct vh_collector *pc)
{
    if (!pc)
        return;
    release(h, pc);
    free(pc);
}

static void free_private(struct vh *h, struct vh_obj *o)
{
    release(h, CONTAINER_OF(o, struct vh_collector, obj));
}

static void free_filter(struct vh *h, struct vh_obj *o)
{
    (void)h;
    struct vh_filter *f = CONTAINER_OF(o, struct vh_filter, obj);
    LIST_REMOVE(f, link);
    vh_filter_forget(f);
    arena_fini(&f->a);
}

static struct vh_collector *find_collector(struct vh_session *s, struct vh_obj *o)
{
    if (o && o->owner)
        return CONTAINER_OF(o, struct vh_collector, obj);
    if (!s->pc) {
        s->pc = xcalloc(1, sizeof *s->pc);
        s->pc->session = s;
    }
    return s->pc;
}

struct vh_collector *vh_collector_of(struct vh_call *c)
{
    return find_collector(c->s, c->o);
}

static bool create_collector(struct vh_call *c)
{
    struct vim_CreatePropertyCollector_response *r = c->res;
    size_t mine = 0;
    for (struct vh_obj *o = c->h->objects; o; o = o->hh.next)
        mine += o->owner == c->s && o->type == &vim_managed_PropertyCollector;
    if (mine >= MAX_COLLECTORS)
        return vh_fault_argument(&c->fault, "collector");
    struct vh_collector *pc = xcalloc(1, sizeof *pc);
    char uuid[37];
    random_uuid(uuid);
    pc->session = c->s;
    pc->obj.owner = c->s;
    pc->obj.free = free_private;
    vh_add(c->h, &pc->obj, &vim_managed_PropertyCollector,
           arena_printf(c->a, "session[%s]%s", c->s->key, uuid), NULL, NULL);
    r->returnval = vh_ref(&pc->obj);
    return true;
}

static bool destroy_collector(struct vh_call *c)
{
    if (!c->o->owner)
        return vh_fault_unsupported(&c->fault); /* the default one stays */
    vh_drop(c->h, c->o);
    return true;
}

/* Reads everything once, so that what is wrong with the spec is said now. */
static bool check_spec(struct vh_call *c, const struct vim_PropertyFilterSpec *spec)
{
    struct vh_read r = {c->h, c->s, c->a};
    struct vh_selected list = {0};
    struct vim_ObjectContent *content;
    if (!vh_select(&r, spec, &list, &c->fault))
        return false;
    for (size_t i = 0; i < list.list.n; i++)
        if (!vh_content(&r, spec, list.list.v[i], &content, &c->fault))
            return false;
    return true;
}

static bool create_filter(struct vh_call *c)
{
    const struct vim_CreateFilter_request *q = c->req;
    struct vim_CreateFilter_response *r = c->res;
    struct vh_collector *pc = vh_collector_of(c);
    size_t count = 0;
    struct vh_filter *f;
    LIST_FOREACH (f, &pc->filters, link)
        count++;
    if (count >= MAX_FILTERS)
        return vh_fault_argument(&c->fault, "spec");
    if (!check_spec(c, q->spec))
        return false;
    char uuid[37];
    random_uuid(uuid);
    f = xcalloc(1, sizeof *f);
    f->collector = pc;
    f->spec = vh_clone_object(&f->a, q->spec);
    f->partial = q->partialUpdates;
    f->obj.owner = c->s;
    f->obj.free = free_filter;
    LIST_INSERT_HEAD(&pc->filters, f, link);
    vh_add(c->h, &f->obj, &vim_managed_PropertyFilter,
           arena_printf(c->a, "session[%s]%s", c->s->key, uuid), NULL, NULL);
    r->returnval = vh_ref(&f->obj);
    return true;
}

static bool destroy_filter(struct vh_call *c)
{
    vh_drop(c->h, c->o);
    return true;
}

/* --- reads ------------------------------------------------------------------------------------ */

typedef VIM_ARRAY_OF(struct vim_ObjectContent *) contents;

static struct vh_page *keep_rest(struct vh_call *c, struct vim_PropertyFilterSpec *const *specs,
                                 size_t spec_count, size_t max)
{
    struct vh_collector *pc = vh_collector_of(c);
    struct vh_page *p = xcalloc(1, sizeof *p), *oldest = NULL, *each;
    size_t count = 0;
    random_uuid(p->token);
    p->max = max;
    for (size_t i = 0; i < spec_count; i++)
        VIM_PUSH(&p->a, &p->specs, vh_clone_object(&p->a, specs[i]));
    LIST_FOREACH (each, &pc->pages, link) {
        oldest = each;
        count++;
    }
    if (count >= MAX_PAGES) {
        LIST_REMOVE(oldest, link);
        arena_fini(&oldest->a);
        free(oldest);
    }
    LIST_INSERT_HEAD(&pc->pages, p, link);
    return p;
}

struct found {
    struct vh_obj *o;
    size_t spec;
};
typedef VIM_ARRAY_OF(struct found) founds;

static bool find_all(struct vh_call *c, struct vim_PropertyFilterSpec *const *specs, size_t n,
                     founds *out)
{
    struct vh_read r = {c->h, c->s, c->a};
    for (size_t i = 0; i < n; i++) {
        struct vh_selected list = {0};
        if (!vh_select(&r, specs[i], &list, &c->fault))
            return false;
        for (size_t k = 0; k < list.list.n; k++)
            VIM_PUSH(c->a, out, ((struct found){list.list.v[k], i}));
    }
    return true;
}

/* All of it, or the first 'max' objects and a token for the rest. */
static bool retrieve(struct vh_call *c, struct vim_PropertyFilterSpec *const *specs, size_t n,
                     size_t max, contents *out, const char **token)
{
    struct vh_read r = {c->h, c->s, c->a};
    founds all = {0};
    size_t i = 0;
    if (!find_all(c, specs, n, &all))
        return false;
    for (; i < all.n && out->n < max; i++) {
        struct vim_ObjectContent *content;
        if (!vh_content(&r, specs[all.v[i].spec], all.v[i].o, &content, &c->fault))
            return false;
        if (content)
            VIM_PUSH(c->a, out, content);
    }
    if (i == all.n || !c->s)
        return true;
    struct vh_page *p = keep_rest(c, specs, n, max);
    p->left.n = all.n - i;
    p->left.id = ARENA_ARRAY(&p->a, const char *, p->left.n);
    p->left.spec = ARENA_ARRAY(&p->a, size_t, p->left.n);
    for (size_t k = 0; k < p->left.n; k++) {
        p->left.id[k] = arena_strdup(&p->a, all.v[i + k].o->id);
        p->left.spec[k] = all.v[i + k].spec;
    }
    *token = arena_strdup(c->a, p->token);
    return true;
}

static bool retrieve_properties(struct vh_call *c)
{
    const struct vim_RetrieveProperties_request *q = c->req;
    struct vim_RetrieveProperties_response *r = c->res;
    const char *token = NULL;
    contents out = {0};
    bool good = retrieve(c, q->specSet.v, q->specSet.n, SIZE_MAX, &out, &token);
    r->returnval.v = out.v;
    r->returnval.n = out.n;
    return good;
}

static struct vim_RetrieveResult *result_of(struct vh_call *c, const contents *out,
                                            const char *token)
{
    if (!out->n && !token)
        return NULL;
    struct vim_RetrieveResult *result = VIM_NEW(c->a, RetrieveResult);
    result->token = token;
    result->objects.v = out->v;
    result->objects.n = out->n;
    return result;
}

static bool retrieve_properties_ex(struct vh_call *c)
{
    const struct vim_RetrievePropertiesEx_request *q = c->req;
    struct vim_RetrievePropertiesEx_response *r = c->res;
    const char *token = NULL;
    contents out = {0};
    size_t max = SIZE_MAX;
    if (q->options && q->options->has_maxObjects) {
        if (q->options->maxObjects <= 0)
            return vh_fault_argument(&c->fault, "options.maxObjects");
        max = (size_t)q->options->maxObjects;
    }
    if (!retrieve(c, q->specSet.v, q->specSet.n, max, &out, &token))
        return false;
    r->returnval = result_of(c, &out, token);
    return true;
}

static struct vh_page *find_page(struct vh_call *c, const char *token)
{
    struct vh_page *p;
    LIST_FOREACH (p, &vh_collector_of(c)->pages, link)
        if (!strcmp(p->token, token))
            return p;
    VH_FAULT(&c->fault, InvalidProperty, "The token %s is not known.", token)->name = token;
    return NULL;
}

static void end_page(struct vh_page *p)
{
    LIST_REMOVE(p, link);
    arena_fini(&p->a);
    free(p);
}

static bool continue_retrieve(struct vh_call *c)
{
    const struct vim_ContinueRetrievePropertiesEx_request *q = c->req;
    struct vim_ContinueRetrievePropertiesEx_response *r = c->res;
    struct vh_read read = {c->h, c->s, c->a};
    struct vh_page *p = find_page(c, q->token);
    contents out = {0};
    if (!p)
        return false;
    for (; p->left.next < p->left.n && out.n < p->max; p->left.next++) {
        struct vh_obj *o = vh_find_id(c->h, p->left.id[p->left.next]);
        struct vim_ObjectContent *content = NULL;
        if (o && !vh_content(&read, vh_clone_object(c->a, p->specs.v[p->left.spec[p->left.next]]),
                             o, &content, &c->fault))
            return false;
        if (content)
            VIM_PUSH(c->a, &out, content);
    }
    const char *token = arena_strdup(c->a, p->token);
    if (p->left.next == p->left.n) {
        end_page(p);
        token = NULL;
    }
    r->returnval = result_of(c, &out, token);
    return true;
}

static bool cancel_retrieve(struct vh_call *c)
{
    const struct vim_CancelRetrievePropertiesEx_request *q = c->req;
    struct vh_page *p = find_page(c, q->token);
    if (p)
        end_page(p);
    return p != NULL;
}

/* --- updates ---------------------------------------------------------------------------------- */

static void scan(struct vh *h, struct vh_collector *pc)
{
    struct vh_filter *f;
    if (pc->scanned_rev == h->rev)
        return;
    pc->scanned_rev = h->rev;
    LIST_FOREACH (f, &pc->filters, link)
        vh_filter_scan(h, f);
}

static bool take_version(struct vh_call *c, struct vh_collector *pc, const char *text,
                         uint64_t *version)
{
    struct vh_filter *f;
    if (!text || !*text) { /* the full state, anew */
        LIST_FOREACH (f, &pc->filters, link)
            vh_filter_forget(f);
        pc->shown = *version = pc->clock;
        pc->scanned_rev = UINT64_MAX;
        return true;
    }
    if (!sv_to_u64(sv_of(text), version) || *version < pc->shown || *version > pc->clock) {
        VH_FAULT(&c->fault, InvalidCollectorVersion, NULL);
        return false;
    }
    pc->shown = *version;
    return true;
}

/* The response structs of the three methods are alike: one optional UpdateSet. */
static void put_news(struct vh_call *c, struct vim_UpdateSet *set)
{
    ((struct vim_WaitForUpdatesEx_response *)c->res)->returnval = set;
}

static struct vim_UpdateSet *news(struct vh_call *c, struct vh_collector *pc, uint64_t version,
                                  size_t max)
{
    struct vh_read r = {c->h, pc->session, c->a};
    scan(c->h, pc);
    return vh_collector_news(&r, pc, version, max);
}

/* What a wake-up finds: true when the call is to be answered. */
static bool look(struct vh_wait *w, bool timed_out, bool *good)
{
    struct vh_call *c = w->call;
    struct vh_session *s = vh_session_find(w->h, w->session);
    struct vh_obj *o = vh_find_id(w->h, w->collector);
    *good = true;
    if (w->canceled || !s || (w->collector && !o)) {
        VH_FAULT(&c->fault, RequestCanceled, NULL);
        *good = false;
        return true;
    }
    s->active_mono_ms = clock_mono_ms(w->h->opt.clock);
    struct vim_UpdateSet *set = news(c, find_collector(s, o), w->version, w->max);
    put_news(c, set);
    return set || timed_out;
}

static bool poll(void *arg, struct http_req *http, bool timed_out)
{
    struct vh_wait *w = arg;
    struct vh_call *c = w->call;
    AUTO_BUF struct buf answer = {0};
    bool good;
    (void)http;
    mutex_lock(&w->h->lock);
    bool done = look(w, timed_out, &good);
    if (done)
        vh_render(c, good, &answer);
    mutex_unlock(&w->h->lock);
    if (done)
        vh_send(c, good, &answer);
    return done;
}

static void drop(void *arg)
{
    struct vh_wait *w = arg;
    struct vh *h = w->h;
    mutex_lock(&h->lock);
    LIST_REMOVE(&w->parked, link);
    struct vh_session *s = vh_session_find(h, w->session);
    struct vh_obj *o = vh_find_id(h, w->collector);
    if (s) {
        s->waiting--;
        struct vh_collector *pc = w->collector && !o ? NULL : find_collector(s, o);
        if (pc && pc->wait == w)
            pc->wait = NULL;
    }
    mutex_unlock(&h->lock);
    http_waker_free(w->parked.waker);
    free(w->collector);
    free(w);
}

static void park(struct vh_call *c, struct vh_collector *pc, uint64_t version, size_t max,
                 int64_t deadline_ms)
{
    struct vh_wait *w = xcalloc(1, sizeof *w);
    w->call = c;
    w->h = c->h;
    memcpy(w->session, c->s->key, sizeof w->session);
    w->collector = pc->obj.id ? xstrdup(pc->obj.id) : NULL;
    w->version = version;
    w->max = max;
    w->parked.waker = http_waker(c->http);
    LIST_INSERT_HEAD(&c->h->parked, &w->parked, link);
    c->s->waiting++;
    pc->wait = w;
    c->poll = poll;
    c->drop = drop;
    c->park_arg = w;
    c->deadline_ms = deadline_ms;
}

static void cancel_wait(struct vh_collector *pc)
{
    if (!pc->wait)
        return;
    pc->wait->canceled = true;
    http_wake(pc->wait->parked.waker);
    pc->wait = NULL;
}

/* deadline_ms: 0 = do not wait, < 0 = for ever. */
static bool wait_for(struct vh_call *c, const char *text, size_t max, int64_t deadline_ms)
{
    struct vh_collector *pc = vh_collector_of(c);
    uint64_t version;
    cancel_wait(pc);
    if (!take_version(c, pc, text, &version))
        return false;
    struct vim_UpdateSet *set = news(c, pc, version, max);
    put_news(c, set);
    if (!set && deadline_ms != 0)
        park(c, pc, version, max, deadline_ms);
    return true;
}

static bool wait_for_updates_ex(struct vh_call *c)
{
    const struct vim_WaitForUpdatesEx_request *q = c->req;
    size_t max = DEFAULT_UPDATES;
    int64_t deadline_ms = -1;
    if (q->options && q->options->has_maxObjectUpdates) {
        if (q->options->maxObjectUpdates <= 0)
            return vh_fault_argument(&c->fault, "options.maxObjectUpdates");
        max = (size_t)q->options->maxObjectUpdates;
    }
    if (q->options && q->options->has_maxWaitSeconds) {
        if (q->options->maxWaitSeconds < 0)
            return vh_fault_argument(&c->fault, "options.maxWaitSeconds");
        deadline_ms = (int64_t)q->options->maxWaitSeconds * 1000;
    }
    return wait_for(c, q->version, max, deadline_ms);
}

static bool wait_for_updates(struct vh_call *c)
{
    const struct vim_WaitForUpdates_request *q = c->req;
    return wait_for(c, q->version, SIZE_MAX, -1);
}

static bool check_for_updates(struct vh_call *c)
{
    const struct vim_CheckForUpdates_request *q = c->req;
    return wait_for(c, q->version, SIZE_MAX, 0);
}

static bool cancel_wait_for_updates(struct vh_call *c)
{
    cancel_wait(vh_collector_of(c));
    return true;
}

const struct vh_method vh_methods_pc[] = {
    {&vim_method_RetrieveProperties, retrieve_properties, VH_OPEN},
    {&vim_method_RetrievePropertiesEx, retrieve_properties_ex, VH_OPEN},
    {&vim_method_ContinueRetrievePropertiesEx, continue_retrieve, 0},
    {&vim_method_CancelRetrievePropertiesEx, cancel_retrieve, 0},
    {&vim_method_CreatePropertyCollector, create_collector, 0},
    {&vim_method_DestroyPropertyCollector, destroy_collector, 0},
    {&vim_method_CreateFilter, create_filter, 0},
    {&vim_method_DestroyPropertyFilter, destroy_filter, 0},
    {&vim_method_WaitForUpdatesEx, wait_for_updates_ex, 0},
    {&vim_method_WaitForUpdates, wait_for_updates, 0},
    {&vim_method_CheckForUpdates, check_for_updates, 0},
    {&vim_method_CancelWaitForUpdates, cancel_wait_for_updates, 0},
    {0},
};

/* --- properties ------------------------------------------------------------------------------- */

static void filters(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    if (!r->s)
        return;
    struct vh_collector *pc = find_collector(r->s, o);
    vh_refs refs = {0};
    struct vh_filter *f;
    LIST_FOREACH (f, &pc->filters, link)
        vh_push_ref(r->a, &refs, &f->obj);
    *out = vh_any_refs(&refs);
}

static void filter_spec(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)r;
    *out = VIM_ANY_OBJECT(CONTAINER_OF(o, struct vh_filter, obj)->spec);
}

static void filter_partial(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)r;
    *out = VIM_ANY_BOOL(CONTAINER_OF(o, struct vh_filter, obj)->partial);
}

const struct vh_prop vh_props_pc[] = {
    {&vim_managed_PropertyCollector, "filter", filters},
    {&vim_managed_PropertyFilter, "spec", filter_spec},
    {&vim_managed_PropertyFilter, "partialUpdates", filter_partial},
    {0},
};
