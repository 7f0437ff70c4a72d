/* One durable change of a container's intent: see docker.h.  check decides on the record as it is
 * in the transaction, apply writes record and event together. */
#include "docker.h"

static bool intent_check(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct intent *n = arg;
    n->action = NULL;
    n->verdict = STORE_KEEP;
    bool there = store_get(t, STORE_CONTAINER, n->id, a, &n->k, err);
    if (!there && err->code != VIC_NOT_FOUND)
        return false;
    if (!there || n->k.meta.deleted)
        return vic_fail(err, VIC_NOT_FOUND, 0, "No such container: %s", n->id);
    n->verdict = n->decide(n, t, a, err);
    return n->verdict != STORE_REFUSE;
}

static bool intent_apply(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct intent *n = arg;
    if (n->verdict == STORE_PUT && !store_put(t, STORE_CONTAINER, &n->k, err))
        return false;
    return !n->action || event_container(t, a, &n->k, err, n->action, n->key, n->value, NULL);
}

bool intent_write(struct call *c, struct intent *n)
{
    n->now_ns = call_now(c);
    return store_write(c->api->o.store, &c->note, intent_check, intent_apply, n, &c->err);
}
