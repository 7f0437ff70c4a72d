/* The set of managed objects and its change counter: see host.h.  Waking parked readers is bundled:
 * the first change after a quiet time goes out at once, what follows within 20 ms together. */
#include "base/mem.h"

#include "host.h"

enum { FLUSH_MS = 20 };

static void flush(void *arg)
{
    struct vh *h = arg;
    mutex_lock(&h->lock);
    h->flush_pending = false;
    h->flushed_ms = clock_mono_ms(h->opt.clock);
    struct vh_parked *p;
    LIST_FOREACH (p, &h->parked, link)
        http_wake(p->waker);
    mutex_unlock(&h->lock);
}

static void start_flush(void *arg)
{
    struct vh *h = arg;
    mutex_lock(&h->lock);
    int64_t wait = h->flushed_ms + FLUSH_MS - clock_mono_ms(h->opt.clock);
    mutex_unlock(&h->lock);
    if (wait <= 0) {
        flush(h);
        return;
    }
    if (!h->flush)
        h->flush = loop_timer_new(h->opt.loop, flush, h);
    loop_timer_set(h->flush, wait);
}

void vh_touch(struct vh *h, struct vh_obj *o)
{
    h->rev++;
    if (o)
        o->rev = h->rev;
    if (!h->flush_pending && !LIST_EMPTY(&h->parked))
        h->flush_pending = loop_post(h->opt.loop, start_flush, h);
}

void vh_add(struct vh *h, struct vh_obj *o, const struct vim_managed *type, const char *id,
            const char *name, struct vh_obj *parent)
{
    o->type = type;
    o->id = xstrdup(id);
    o->name = name ? xstrdup(name) : NULL;
    o->parent = parent;
    HASH_ADD_KEYPTR(hh, h->objects, o->id, strlen(o->id), o);
    vh_touch(h, o);
    if (parent)
        vh_touch(h, parent);
}

void vh_drop(struct vh *h, struct vh_obj *o)
{
    HASH_DEL(h->objects, o);
    vh_touch(h, o->parent);
    if (o->free)
        o->free(h, o);
    free(o->id);
    free(o->name);
    free(o);
}

struct vh_obj *vh_find_id(struct vh *h, const char *id)
{
    struct vh_obj *o = NULL;
    if (id)
        HASH_FIND(hh, h->objects, id, strlen(id), o);
    return o;
}

struct vh_obj *vh_find(struct vh *h, const struct vh_session *s, struct vim_ref ref)
{
    struct vh_obj *o = vh_find_id(h, ref.value);
    if (!o || (o->owner && o->owner != s))
        return NULL;
    const struct vim_managed *as = ref.type ? vim_find_managed(sv_of(ref.type)) : NULL;
    return !as || vh_is(o, as) ? o : NULL;
}

struct vim_ref vh_ref(const struct vh_obj *o)
{
    return o ? (struct vim_ref){o->type->name, o->id} : (struct vim_ref){0};
}

bool vh_is(const struct vh_obj *o, const struct vim_managed *type)
{
    return vim_managed_is(o->type, type);
}

uint64_t vh_next(struct vh *h)
{
    return ++h->next_id;
}

bool vh_later(struct vh *h, void (*fn)(void *arg), void *arg)
{
    mutex_lock(&h->later_lock);
    bool good = h->opt.tasks && pool_run(h->opt.tasks, fn, arg);
    mutex_unlock(&h->later_lock);
    return good;
}
