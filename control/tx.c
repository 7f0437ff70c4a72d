/* Reading and writing the store from a step: see ctl.h. */
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "ctl.h"

static const struct store_meta *meta_of(const void *record)
{
    return record; /* every kind's record begins with its meta (record.def) */
}

bool step_get(struct step *s, enum store_kind kind, const char *id, void *record)
{
    AUTO_TXN struct store_txn *t = store_read(s->c->store, s->err);
    if (!t)
        return false;
    const struct store_rec *rec = store_kind_rec(kind);
    void *borrowed = arena_alloc(s->a, rec->size);
    if (!store_get(t, kind, id, s->a, borrowed, s->err))
        return false;
    store_copy(rec, borrowed, record, s->a);
    return true;
}

struct collect {
    struct step *s;
    const struct store_rec *rec;
    bool (*want)(void *arg, const void *record);
    void *arg;
    void **v;
    size_t n, cap;
};

static bool collect_one(void *arg, const void *record)
{
    struct collect *c = arg;
    if (!c->want(c->arg, record))
        return true;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        void **v = ARENA_ARRAY(c->s->a, void *, cap);
        if (c->n)
            memcpy(v, c->v, c->n * sizeof *v);
        c->v = v;
        c->cap = cap;
    }
    void *copy = arena_alloc(c->s->a, c->rec->size);
    store_copy(c->rec, record, copy, c->s->a);
    c->v[c->n++] = copy;
    return true;
}

bool step_list(struct step *s, enum store_kind kind, bool (*want)(void *arg, const void *record),
               void *arg, void ***records, size_t *count)
{
    struct collect c = {.s = s, .rec = store_kind_rec(kind), .want = want, .arg = arg};
    AUTO_TXN struct store_txn *t = store_read(s->c->store, s->err);
    AUTO_ARENA struct arena scratch = {0};
    if (!t || !store_list(t, kind, "", &scratch, collect_one, &c, s->err))
        return false;
    *records = c.v;
    *count = c.n;
    return true;
}

static bool stop_at_first(void *arg, const char *id)
{
    (void)id;
    *(bool *)arg = true;
    return false;
}

bool step_referred(struct step *s, enum store_kind kind, const char *id, enum store_kind from)
{
    bool found = false;
    AUTO_TXN struct store_txn *t = store_read(s->c->store, s->err);
    /* What cannot be read counts as referred to: nothing is destroyed on a guess. */
    if (!t || !store_referrers(t, kind, id, from, stop_at_first, &found, s->err))
        return true;
    return found;
}

void tx_put(struct tx *t, enum store_kind kind, const void *record)
{
    for (size_t i = 0; i < t->write_count; i++)
        if (t->writes[i].record == record)
            return;
    if (t->write_count < ARRAY_LEN(t->writes))
        t->writes[t->write_count] = (struct tx_write){kind, record, false};
    t->write_count++; /* over the end: commit refuses */
}

void tx_del(struct tx *t, enum store_kind kind, const void *record)
{
    tx_put(t, kind, record);
    for (size_t i = 0; i < t->write_count && i < ARRAY_LEN(t->writes); i++)
        if (t->writes[i].record == record)
            t->writes[i].del = true;
}

static void add_attribute(struct store_map *m, const char *k, const char *v)
{
    m->v[m->n++] = (struct store_kv){k, v};
}

void tx_container_event(struct step *s, struct tx *t, const struct store_container *c,
                        const char *action, ...)
{
    if (t->event_count >= ARRAY_LEN(t->events))
        return;
    size_t extra = 0;
    va_list ap;
    va_start(ap, action);
    while (va_arg(ap, const char *))
        extra++;
    va_end(ap);
    struct store_map m = {.v = ARENA_ARRAY(s->a, struct store_kv, c->config.labels.n + 2 + extra)};
    for (size_t i = 0; i < c->config.labels.n; i++)
        add_attribute(&m, c->config.labels.v[i].k, c->config.labels.v[i].v);
    add_attribute(&m, "image", c->config.image);
    add_attribute(&m, "name", c->meta.name);
    va_start(ap, action);
    for (size_t i = 0; i + 1 < extra; i += 2) {
        const char *k = va_arg(ap, const char *);
        add_attribute(&m, k, va_arg(ap, const char *));
    }
    va_end(ap);
    t->events[t->event_count++] = (struct tx_event){STORE_CONTAINER, c->meta.id, action, m};
}

void tx_image_event(struct step *s, struct tx *t, const struct store_image *i, const char *name,
                    const char *action)
{
    if (t->event_count >= ARRAY_LEN(t->events))
        return;
    const struct store_map *labels = &i->config.labels;
    struct store_map m = {.v = ARENA_ARRAY(s->a, struct store_kv, labels->n + 1)};
    for (size_t n = 0; n < labels->n; n++)
        add_attribute(&m, labels->v[n].k, labels->v[n].v);
    add_attribute(&m, "name", name);
    t->events[t->event_count++] = (struct tx_event){STORE_IMAGE, i->meta.id, action, m};
}

static bool tx_check(void *arg, struct store_txn *txn, struct arena *a, struct vic_err *err)
{
    struct tx *t = arg;
    t->disallowed = false;
    for (size_t i = 0; i < t->write_count; i++) {
        const struct tx_write *w = &t->writes[i];
        const struct store_meta *mine = meta_of(w->record);
        void *now = arena_alloc(a, store_kind_rec(w->kind)->size);
        struct vic_err why = {0};
        bool there = store_get(txn, w->kind, mine->id, a, now, &why);
        if (!there && why.code != VIC_NOT_FOUND)
            return vic_fail(err, why.code, 0, "%s", why.msg);
        uint64_t revision = there ? meta_of(now)->revision : 0;
        if (revision != mine->revision)
            return vic_fail(err, VIC_BUSY, 0, "%s %s changed meanwhile", store_kind_name(w->kind),
                            mine->id);
    }
    t->disallowed = t->allow && !t->allow(t->allow_arg, txn, err);
    return !t->disallowed;
}

static bool tx_apply(void *arg, struct store_txn *txn, struct arena *a, struct vic_err *err)
{
    const struct tx *t = arg;
    (void)a;
    /* Puts first: a record may stop referring to what is deleted in the same commit. */
    for (size_t i = 0; i < t->write_count; i++)
        if (!t->writes[i].del && !store_put(txn, t->writes[i].kind, t->writes[i].record, err))
            return false;
    for (size_t i = 0; i < t->write_count; i++)
        if (t->writes[i].del &&
            !store_del(txn, t->writes[i].kind, meta_of(t->writes[i].record)->id, err))
            return false;
    for (size_t i = 0; i < t->event_count; i++)
        if (!store_event(txn, t->events[i].kind, t->events[i].id, t->events[i].action,
                         &t->events[i].attributes, err))
            return false;
    return true;
}

bool tx_commit_go(struct step *s, struct tx *t, enum ctl_verdict *verdict)
{
    static const struct store_change_note note = {.actor = "control"};
    if (t->write_count > ARRAY_LEN(t->writes)) {
        vic_fail(s->err, VIC_INTERNAL, 0, "too many records in one step");
        *verdict = CTL_FAIL;
        return false;
    }
    if (store_write(s->c->store, &note, tx_check, tx_apply, t, s->err))
        return true;
    s->after_ms = 0;
    if (t->disallowed)
        *verdict = CTL_WAIT;
    else
        *verdict = s->err->code == VIC_BUSY ? CTL_AGAIN : CTL_FAIL;
    return false;
}

enum ctl_verdict tx_commit(struct step *s, struct tx *t, enum ctl_verdict then)
{
    enum ctl_verdict verdict;
    return tx_commit_go(s, t, &verdict) ? then : verdict;
}

void condition_set(struct step *s, struct store_condition **v, size_t *n, const char *type,
                   bool status, const char *reason, const char *message)
{
    struct store_condition *c = NULL;
    for (size_t i = 0; i < *n; i++)
        if (strcmp((*v)[i].type, type) == 0)
            c = &(*v)[i];
    if (!c) {
        struct store_condition *more = ARENA_ARRAY(s->a, struct store_condition, *n + 1);
        if (*n)
            memcpy(more, *v, *n * sizeof *more);
        c = &more[*n];
        c->type = type;
        c->since = s->now_ns;
        *v = more;
        (*n)++;
    }
    if (c->status != status)
        c->since = s->now_ns;
    c->status = status;
    c->reason = reason;
    c->message = arena_strdup(s->a, message);
}

bool strs_has(const struct store_strs *l, const char *v)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], v) == 0)
            return true;
    return false;
}

void strs_add(struct step *s, struct store_strs *l, const char *v)
{
    if (strs_has(l, v))
        return;
    const char **more = ARENA_ARRAY(s->a, const char *, l->n + 1);
    for (size_t i = 0; i < l->n; i++)
        more[i] = l->v[i];
    more[l->n] = arena_strdup(s->a, v);
    l->v = more;
    l->n++;
}

void strs_drop(struct store_strs *l, const char *v)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], v) != 0)
            l->v[n++] = l->v[i];
    l->n = n;
}
