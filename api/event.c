/* Events for clients: entries of the store's change log, written in the transaction of the change
 * that they tell of.  Their attributes are kept as of then, so that `docker events --since` tells a
 * removed container's story too. */
#include <stdarg.h>

#include "api_priv.h"

static void add(struct store_map *m, const char *k, const char *v)
{
    m->v[m->n++] = (struct store_kv){k, v};
}

bool event_container(struct store_txn *t, struct arena *a, const struct store_container *c,
                     struct vic_err *err, const char *action, ...)
{
    size_t extra = 0;
    va_list ap;
    va_start(ap, action);
    while (va_arg(ap, const char *))
        extra++;
    va_end(ap);
    const struct store_map *labels = &c->config.labels;
    struct store_map m = {ARENA_ARRAY(a, struct store_kv, labels->n + 2 + extra), 0};
    for (size_t i = 0; i < labels->n; i++)
        add(&m, labels->v[i].k, labels->v[i].v);
    add(&m, "image", c->config.image);
    add(&m, "name", c->meta.name);
    va_start(ap, action);
    for (size_t i = 0; i + 1 < extra; i += 2) {
        const char *k = va_arg(ap, const char *);
        add(&m, k, va_arg(ap, const char *));
    }
    va_end(ap);
    return store_event(t, STORE_CONTAINER, c->meta.id, action, &m, err);
}

bool event_image(struct store_txn *t, struct arena *a, const struct store_image *i,
                 const char *name, const char *action, struct vic_err *err)
{
    const struct store_map *labels = &i->config.labels;
    struct store_map m = {ARENA_ARRAY(a, struct store_kv, labels->n + 1), 0};
    for (size_t k = 0; k < labels->n; k++)
        add(&m, labels->v[k].k, labels->v[k].v);
    add(&m, "name", name);
    return store_event(t, STORE_IMAGE, i->meta.id, action, &m, err);
}
