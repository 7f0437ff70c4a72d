/* What the spool need not keep any more: archives that every layer has on the datastore, and those
 * of layers that are gone.  A file whose holder is just writing its layer's record stays (spool.h):
 * so the store is read after spool_moment. */
#include "base/mem.h"
#include "ctl.h"

struct needed {
    struct arena a;
    const char **v;
    size_t n, cap;
};

static bool note_layer(void *arg, const void *record)
{
    struct needed *s = arg;
    const struct store_layer *l = record;
    if (l->archived || !l->blob[0] || l->meta.deleted)
        return true;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        const char **v = ARENA_ARRAY(&s->a, const char *, s->cap);
        if (s->n)
            memcpy(v, s->v, s->n * sizeof *v);
        s->v = v;
    }
    s->v[s->n++] = arena_strdup(&s->a, l->blob);
    return true;
}

static bool is_needed(void *arg, const char *digest)
{
    const struct needed *s = arg;
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], digest) == 0)
            return true;
    return false;
}

void tidy_spool(struct ctl *c)
{
    struct needed s = {0};
    struct vic_err err = {0};
    uint64_t moment = spool_moment(c->o.spool);
    struct store_txn *t = store_read(c->store, &err);
    if (t && store_list(t, STORE_LAYER, "", NULL, note_layer, &s, &err))
        spool_sweep(c->o.spool, moment, is_needed, &s);
    else
        log_warn(c->log, "spool.sweep", KV_ERR(&err));
    store_read_end(t);
    arena_fini(&s.a);
}
