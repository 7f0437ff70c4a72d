/* The model's update stream.
 *
 * A watch is a thread with a list of what it has to tell.  A VM is told as it is when it is told,
 * but late; ends of tasks are told at once: so a guest may be on the channel, and a power-on ended,
 * while the VM still seems off.  After a broken connection everything is told anew. */
#include <stdio.h>
#include <string.h>

#include "model_priv.h"

enum news_kind { N_VM, N_TASK, N_STATE, N_SYNC };

struct news {
    enum news_kind kind;
    char ref[VSP_REF_SIZE];
    bool up;
    int64_t due_ms;
    TAILQ_ENTRY(news) link;
};

struct watched {
    char ref[VSP_REF_SIZE];
    LIST_ENTRY(watched) link;
};

struct vsp_watch {
    struct model *m;
    const struct vsp_watch_callbacks *cb;
    void *arg;
    pthread_t thread;
    struct vic_cond wake;
    bool stop; /* guarded: the model's lock, as all below */
    TAILQ_HEAD(, news) news;
    LIST_HEAD(, watched) tasks;
    LIST_ENTRY(vsp_watch) link;
};

static void tell(struct vsp_watch *w, enum news_kind kind, const char *ref, bool up, int64_t lag)
{
    struct news *n = xcalloc(1, sizeof *n);
    n->kind = kind;
    snprintf(n->ref, sizeof n->ref, "%s", ref);
    n->up = up;
    n->due_ms = clock_mono_ms(&vic_clock_real) + lag;
    TAILQ_INSERT_TAIL(&w->news, n, link);
    cond_signal(&w->wake);
}

void watch_vm(struct model *m, const char *ref)
{
    struct vsp_watch *w;
    LIST_FOREACH (w, &m->watches, link) {
        if (m->up)
            tell(w, N_VM, ref, true, model_pick(m, m->o.lag_ms));
    }
}

static bool is_watched(const struct vsp_watch *w, const char *ref)
{
    const struct watched *t;
    LIST_FOREACH (t, &w->tasks, link) {
        if (strcmp(t->ref, ref) == 0)
            return true;
    }
    return false;
}

void watch_task(struct model *m, const char *ref)
{
    struct vsp_watch *w;
    LIST_FOREACH (w, &m->watches, link) {
        if (m->up && is_watched(w, ref))
            tell(w, N_TASK, ref, true, 0);
    }
}

static void tell_all(struct vsp_watch *w)
{
    const struct mvm *vm;
    const struct watched *t;
    tell(w, N_STATE, "", true, 0);
    LIST_FOREACH (vm, &w->m->vms, link) {
        tell(w, N_VM, vm->ref, true, 0);
    }
    LIST_FOREACH (t, &w->tasks, link) {
        tell(w, N_TASK, t->ref, true, 0);
    }
    tell(w, N_SYNC, "", true, 0);
}

static void forget_news(struct vsp_watch *w)
{
    for (struct news *n; (n = TAILQ_FIRST(&w->news));) {
        TAILQ_REMOVE(&w->news, n, link);
        free(n);
    }
}

void watch_connection(struct model *m, bool up)
{
    struct vsp_watch *w;
    LIST_FOREACH (w, &m->watches, link) {
        forget_news(w);
        if (up)
            tell_all(w);
        else
            tell(w, N_STATE, "", false, 0);
    }
}

/* --- telling ------------------------------------------------------------------------------------
 */
static void on_vm(struct vsp_watch *w, const char *ref) VIC_REQUIRES(w->m->lock)
{
    AUTO_ARENA struct arena a = {0};
    struct vsp_vm seen;
    const struct mvm *vm = model_find_vm(w->m, ref);
    if (vm)
        model_copy_vm(vm, &a, &seen);
    mutex_unlock(&w->m->lock);
    if (vm)
        w->cb->on_vm(w->arg, &seen);
    else
        w->cb->on_vm_gone(w->arg, ref);
    mutex_lock(&w->m->lock);
}

static void on_task(struct vsp_watch *w, const char *ref) VIC_REQUIRES(w->m->lock)
{
    struct vsp_task seen = {.ref = ref, .state = VSP_TASK_GONE};
    char result[VSP_REF_SIZE];
    const struct mtask *t = model_find_task(w->m, ref);
    if (t) {
        snprintf(result, sizeof result, "%s", t->result);
        seen.state = t->state;
        seen.result = result[0] ? result : NULL;
        seen.err = t->err;
    }
    mutex_unlock(&w->m->lock);
    w->cb->on_task(w->arg, &seen);
    mutex_lock(&w->m->lock);
}

static void deliver(struct vsp_watch *w, const struct news *n) VIC_REQUIRES(w->m->lock)
{
    struct vic_err err = {.code = VIC_UNAVAILABLE, .msg = "vSphere is away"};
    switch (n->kind) {
    case N_VM:
        on_vm(w, n->ref);
        return;
    case N_TASK:
        on_task(w, n->ref);
        return;
    case N_STATE:
    case N_SYNC:
        mutex_unlock(&w->m->lock);
        if (n->kind == N_STATE)
            w->cb->on_state(w->arg, n->up, n->up ? NULL : &err);
        else
            w->cb->on_sync(w->arg);
        mutex_lock(&w->m->lock);
        return;
    }
}

static struct news *due(struct vsp_watch *w, int64_t *wait_ms)
{
    struct news *n;
    int64_t now = clock_mono_ms(&vic_clock_real);
    *wait_ms = 1000;
    TAILQ_FOREACH (n, &w->news, link) {
        if (n->due_ms <= now)
            return n;
        *wait_ms = n->due_ms - now < *wait_ms ? n->due_ms - now : *wait_ms;
    }
    return NULL;
}

static void *watch_main(void *arg)
{
    struct vsp_watch *w = arg;
    mutex_lock(&w->m->lock);
    while (!w->stop) {
        int64_t wait_ms;
        struct news *n = due(w, &wait_ms);
        if (!n) {
            cond_wait_ms(&w->wake, &w->m->lock, wait_ms);
            continue;
        }
        TAILQ_REMOVE(&w->news, n, link);
        deliver(w, n);
        free(n);
    }
    mutex_unlock(&w->m->lock);
    return NULL;
}

/* --- the door -----------------------------------------------------------------------------------
 */
struct vsp_watch *vsp_watch_new(struct vsp *v, const struct vsp_place *p,
                                const struct vsp_watch_callbacks *cb, void *arg,
                                struct vic_err *err)
{
    struct vsp_watch *w = xcalloc(1, sizeof *w);
    (void)p;
    (void)err;
    *w = (struct vsp_watch){.m = v->m, .cb = cb, .arg = arg};
    TAILQ_INIT(&w->news);
    LIST_INIT(&w->tasks);
    cond_init(&w->wake);
    mutex_lock(&v->m->lock);
    LIST_INSERT_HEAD(&v->m->watches, w, link);
    if (v->m->up)
        tell_all(w);
    mutex_unlock(&v->m->lock);
    if (pthread_create(&w->thread, NULL, watch_main, w) != 0)
        abort();
    return w;
}

void vsp_watch_task(struct vsp_watch *w, const char *task)
{
    struct watched *t = xcalloc(1, sizeof *t);
    snprintf(t->ref, sizeof t->ref, "%s", task);
    mutex_lock(&w->m->lock);
    LIST_INSERT_HEAD(&w->tasks, t, link);
    if (w->m->up)
        tell(w, N_TASK, task, true, 0);
    mutex_unlock(&w->m->lock);
}

void vsp_watch_free(struct vsp_watch *w)
{
    if (!w)
        return;
    mutex_lock(&w->m->lock);
    w->stop = true;
    LIST_REMOVE(w, link);
    cond_signal(&w->wake);
    mutex_unlock(&w->m->lock);
    pthread_join(w->thread, NULL);
    forget_news(w);
    for (struct watched *t; (t = LIST_FIRST(&w->tasks));) {
        LIST_REMOVE(t, link);
        free(t);
    }
    cond_fini(&w->wake);
    free(w);
}
