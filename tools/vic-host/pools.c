/* Resource pools.  Their allocations are kept and shown; QEMU processes are not held to them (the
 * engine admits by its own limits).  Pools change seldom, so their records are committed under the
 * lock: the one place where it is held over a write to disk. */
#include "base/json.h"
#include "base/mem.h"

#include "inventory.h"
#include "pools.h"
#include "tasks.h"

enum { MAX_POOL_NAME = 80 };

struct vh_pool *vh_pool_of(struct vh_obj *o)
{
    return CONTAINER_OF(o, struct vh_pool, obj);
}

static void free_pool(struct vh *h, struct vh_obj *o)
{
    (void)h;
    arena_fini(&vh_pool_of(o)->a);
}

static struct vh_pool *new_pool(struct vh *h, const char *id, const char *name,
                                struct vh_obj *parent)
{
    struct vh_pool *p = xcalloc(1, sizeof *p);
    p->obj.free = free_pool;
    vh_add(h, &p->obj, &vim_managed_ResourcePool, id, name, parent);
    return p;
}

static struct vim_ResourceAllocationInfo *whole(struct arena *a, int shares)
{
    struct vim_ResourceAllocationInfo *i = VIM_NEW(a, ResourceAllocationInfo);
    i->has_reservation = i->has_expandableReservation = i->expandableReservation = true;
    i->has_limit = true;
    i->limit = -1;
    i->shares = VIM_NEW(a, SharesInfo);
    i->shares->shares = shares;
    i->shares->level = vim_SharesLevel_normal;
    return i;
}

void vh_root_pool_new(struct vh *h)
{
    struct vh_pool *p = new_pool(h, "ha-root-pool", "Resources", h->compute);
    p->config = VIM_NEW(&p->a, ResourceConfigSpec);
    p->config->entity = vh_ref(&p->obj);
    p->config->cpuAllocation = whole(&p->a, 4000);
    p->config->memoryAllocation = whole(&p->a, 163840);
    h->root_pool = &p->obj;
}

/* --- records ---------------------------------------------------------------------------------- */

static bool save(struct vh *h, struct vh_pool *p, struct vh_fault *f)
{
    AUTO_BATCH struct state_batch batch = {0};
    AUTO_BUF struct buf meta = {0};
    AUTO_BUF struct buf config = {0};
    struct json_writer w = json_writer(&meta);
    struct vim_any any = VIM_ANY_OBJECT(p->config);
    struct vic_err err;
    json_open(&w, NULL, '{');
    json_add_str(&w, "name", p->obj.name);
    json_add_str(&w, "parent", p->obj.parent->id);
    json_close(&w, '}');
    soap_write_any(&config, "config", &any);
    state_put(&batch, arena_printf(&batch.a, "pool/%s/meta", p->obj.id), buf_sv(&meta));
    state_put(&batch, arena_printf(&batch.a, "pool/%s/config", p->obj.id), buf_sv(&config));
    return state_commit(h->state, &batch, true, &err) ? true : vh_fault_err(f, NULL, &err);
}

struct loading {
    struct vh *h;
    bool parents; /* second pass */
};

static void load_one(void *arg, const char *key, struct sv value)
{
    struct loading *l = arg;
    struct sv rest = sv_sub(sv_of(key), strlen("pool/"), strlen(key)), id = sv_cut(&rest, '/');
    AUTO_ARENA struct arena a = {0};
    const char *name = arena_sv(&a, id);
    struct vh_obj *o = vh_find_id(l->h, name);
    struct json_val v;
    struct vim_any any;
    struct vic_err err = {0};
    if (!o)
        o = &new_pool(l->h, name, "?", l->h->root_pool)->obj;
    if (sv_is(rest, "config") && !l->parents) {
        struct vh_pool *p = vh_pool_of(o);
        if (soap_parse_any(value, &p->a, &any, &err))
            p->config = VIM_CAST(ResourceConfigSpec, any.object);
    } else if (sv_is(rest, "meta") && json_parse(value, 0, &a, &v, &err)) {
        struct vh_obj *parent = vh_find_id(l->h, json_str(json_get(v, "parent"), ""));
        free(o->name);
        o->name = xstrdup(json_str(json_get(v, "name"), "?"));
        if (parent && l->parents)
            o->parent = parent;
    }
}

bool vh_pools_load(struct vh *h, struct vic_err *err)
{
    struct loading l = {.h = h};
    if (!state_each(h->state, "pool/", load_one, &l, err))
        return false;
    l.parents = true; /* now all are there */
    if (!state_each(h->state, "pool/", load_one, &l, err))
        return false;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_ResourcePool && !vh_pool_of(o)->config)
            return vic_fail(err, VIC_CORRUPT, 0, "state file: resource pool %s", o->id);
    return true;
}

/* --- methods ---------------------------------------------------------------------------------- */

static bool name_taken(struct vh_call *c, struct vh_obj *parent, const char *name)
{
    for (struct vh_obj *o = c->h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_ResourcePool && o->parent == parent && !strcmp(o->name, name)) {
            struct vim_DuplicateName *d =
                VH_FAULT(&c->fault, DuplicateName, "The name '%s' already exists.", name);
            d->name = name;
            d->object = vh_ref(o);
            return true;
        }
    return false;
}

/* Absent parts of 'from' leave 'to' as it is. */
static void merge(struct arena *a, struct vim_ResourceAllocationInfo *to,
                  const struct vim_ResourceAllocationInfo *from)
{
    if (!from)
        return;
    if (from->has_reservation)
        to->reservation = from->reservation;
    if (from->has_expandableReservation)
        to->expandableReservation = from->expandableReservation;
    if (from->has_limit)
        to->limit = from->limit;
    if (from->shares)
        to->shares = vh_clone_object(a, from->shares);
}

static bool whole_allocation(const struct vim_ResourceAllocationInfo *i)
{
    return i && i->has_reservation && i->has_expandableReservation && i->has_limit && i->shares;
}

static bool create_pool(struct vh_call *c)
{
    const struct vim_CreateResourcePool_request *q = c->req;
    struct vim_CreateResourcePool_response *r = c->res;
    if (!q->name || !*q->name || strlen(q->name) > MAX_POOL_NAME)
        return vh_fault_argument(&c->fault, "name");
    if (!whole_allocation(q->spec->cpuAllocation))
        return vh_fault_argument(&c->fault, "spec.cpuAllocation");
    if (!whole_allocation(q->spec->memoryAllocation))
        return vh_fault_argument(&c->fault, "spec.memoryAllocation");
    if (name_taken(c, c->o, q->name))
        return false;
    struct vh_pool *p = new_pool(
        c->h, arena_printf(c->a, "pool%llu", (unsigned long long)vh_next(c->h)), q->name, c->o);
    p->config = vh_clone_object(&p->a, q->spec);
    p->config->entity = vh_ref(&p->obj);
    if (!save(c->h, p, &c->fault)) {
        vh_drop(c->h, &p->obj);
        return false;
    }
    r->returnval = (struct vim_ref){"ResourcePool", arena_strdup(c->a, p->obj.id)};
    return true;
}

static bool update_config(struct vh_call *c)
{
    const struct vim_UpdateConfig_request *q = c->req;
    struct vh_pool *p = vh_pool_of(c->o);
    if (c->o == c->h->root_pool)
        return vh_fault_unsupported(&c->fault);
    if (q->name && strcmp(q->name, p->obj.name) != 0) {
        if (!*q->name || strlen(q->name) > MAX_POOL_NAME)
            return vh_fault_argument(&c->fault, "name");
        if (name_taken(c, p->obj.parent, q->name))
            return false;
        free(p->obj.name);
        p->obj.name = xstrdup(q->name);
    }
    if (q->config) {
        merge(&p->a, p->config->cpuAllocation, q->config->cpuAllocation);
        merge(&p->a, p->config->memoryAllocation, q->config->memoryAllocation);
    }
    vh_touch(c->h, &p->obj);
    return save(c->h, p, &c->fault);
}

/* Its VMs and pools move up. */
static bool destroy_pool(struct vh *h, struct vh_obj *pool, struct vh_fault *f)
{
    AUTO_BATCH struct state_batch batch = {0};
    struct vic_err err;
    struct vh_obj *up = pool->parent;
    if (!vh_vms_move_pool(h, pool, up, f))
        return false;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_ResourcePool && o->parent == pool) {
            o->parent = up;
            vh_touch(h, o);
            if (!save(h, vh_pool_of(o), f))
                return false;
        }
    state_del(&batch, arena_printf(&batch.a, "pool/%s/meta", pool->id));
    state_del(&batch, arena_printf(&batch.a, "pool/%s/config", pool->id));
    if (!state_commit(h->state, &batch, true, &err))
        return vh_fault_err(f, NULL, &err);
    vh_drop(h, pool);
    return true;
}

static bool destroy_children(struct vh_call *c)
{
    for (struct vh_obj *o = c->h->objects, *next; o; o = next) {
        next = o->hh.next;
        if (o->type != &vim_managed_ResourcePool || o->parent != c->o)
            continue;
        if (!destroy_pool(c->h, o, &c->fault))
            return false;
        next = c->h->objects; /* its own children have moved here */
    }
    return true;
}

static bool run_destroy(struct vh_job *j)
{
    mutex_lock(&j->h->lock);
    j->lock = NULL; /* it dies */
    bool good = destroy_pool(j->h, j->o, &j->fault);
    if (!good)
        j->o->busy = NULL;
    mutex_unlock(&j->h->lock);
    return good;
}

bool vh_pool_destroy(struct vh_call *c)
{
    if (c->o == c->h->root_pool)
        return vh_fault_unsupported(&c->fault);
    return vh_task_start(c, c->o, true, run_destroy);
}

const struct vh_method vh_methods_inventory[] = {
    {&vim_method_CreateResourcePool, create_pool, 0},
    {&vim_method_UpdateConfig, update_config, 0},
    {&vim_method_DestroyChildren, destroy_children, 0},
    {0},
};

/* --- properties ------------------------------------------------------------------------------- */

#define GETTER(name)                                                                               \
    static void name(__attribute__((unused)) struct vh_read *r,                                    \
                     __attribute__((unused)) struct vh_obj *o, struct vim_any *out)

GETTER(pool_config)
{
    *out = VIM_ANY_OBJECT(vh_pool_of(o)->config);
}

GETTER(pool_owner)
{
    *out = VIM_ANY_REF(vh_ref(r->h->compute));
}

GETTER(pool_children)
{
    vh_refs refs = {0};
    for (struct vh_obj *p = r->h->objects; p; p = p->hh.next)
        if (p->type == &vim_managed_ResourcePool && p->parent == o)
            vh_push_ref(r->a, &refs, p);
    *out = vh_any_refs(&refs);
}

GETTER(pool_vms)
{
    vh_refs refs = {0};
    for (struct vh_obj *vm = r->h->objects; vm; vm = vm->hh.next)
        if (vm->type == &vim_managed_VirtualMachine && vh_vm_pool(vm) == o)
            vh_push_ref(r->a, &refs, vm);
    *out = vh_any_refs(&refs);
}

static struct vim_ResourcePoolResourceUsage *usage(struct arena *a, int64_t used, int64_t limit)
{
    struct vim_ResourcePoolResourceUsage *u = VIM_NEW(a, ResourcePoolResourceUsage);
    u->overallUsage = used;
    u->maxUsage = limit;
    u->unreservedForPool = u->unreservedForVm = limit;
    return u;
}

static struct vim_ResourcePoolRuntimeInfo *runtime(struct vh_read *r, struct vh_obj *o)
{
    struct vim_ResourcePoolRuntimeInfo *i = VIM_NEW(r->a, ResourcePoolRuntimeInfo);
    const struct vim_ResourceConfigSpec *c = vh_pool_of(o)->config;
    struct vim_any total;
    int64_t cpu = 0, memory = 0;
    if (vh_value(r, r->h->compute, SV("summary"), &total)) {
        const struct vim_ComputeResourceSummary *s = VIM_CAST(ComputeResourceSummary, total.object);
        cpu = s->totalCpu;
        memory = s->totalMemory;
    }
    if (c->cpuAllocation->limit >= 0)
        cpu = c->cpuAllocation->limit;
    if (c->memoryAllocation->limit >= 0)
        memory = c->memoryAllocation->limit << 20;
    i->memory = usage(r->a, vh_pool_memory_used(r->h, o), memory);
    i->cpu = usage(r->a, 0, cpu);
    i->overallStatus = vim_ManagedEntityStatus_green;
    return i;
}

GETTER(pool_runtime)
{
    *out = VIM_ANY_OBJECT(runtime(r, o));
}

GETTER(pool_summary)
{
    struct vim_ResourcePoolSummary *s = VIM_NEW(r->a, ResourcePoolSummary);
    s->name = o->name;
    s->config = vh_pool_of(o)->config;
    s->runtime = runtime(r, o);
    *out = VIM_ANY_OBJECT(s);
}

const struct vh_prop vh_props_pool[] = {
    {&vim_managed_ResourcePool, "config", pool_config},
    {&vim_managed_ResourcePool, "owner", pool_owner},
    {&vim_managed_ResourcePool, "resourcePool", pool_children},
    {&vim_managed_ResourcePool, "vm", pool_vms},
    {&vim_managed_ResourcePool, "runtime", pool_runtime},
    {&vim_managed_ResourcePool, "summary", pool_summary},
    {0},
};
