/* The image controller: layers become disks.
 *
 * An image that is LOADING has its layers' archives in the spool.  One worker per image makes them,
 * bottom first, one at a time:
 *
 *   PENDING    the layer's disk, a child of its parent's, is attached to the worker (created by the
 *              same ReconfigVM)
 *   APPLYING   the archive is streamed to the worker, which unpacks it; then the disk is detached
 *   READY      frozen: only now may it have children
 *
 * A layer that another image is making already is waited for.  A worker that fails costs the layer
 * its disk: a half-written one is never built upon.  A layer that is itself bad (hostile or
 * damaged) makes the image FAILED with the entry's name; other failures are tried LAYER_TRIES
 * times.
 *
 * After that the archives go to the datastore by digest (push and save need the very bytes), and
 * out of the spool.  A removed image releases its layers; a layer without image, child or disk
 * child goes. */
#include "image.h"

#include <stdio.h>

#include "base/mem.h"

enum { LAYER_TRIES = 3, WORKER_TARGETS = 6, FAILED_IMAGE_MS = 30000 };

/* --- workers
 * ------------------------------------------------------------------------------------------ */
static bool works_for(void *arg, const void *record)
{
    const struct store_vm *vm = record;
    return vm->role == store_vm_role_WORKER && vm->phase != store_vm_phase_DYING &&
           strcmp(vm->image, arg) == 0;
}

static bool find_worker(struct step *s, const char *image, struct store_vm **vm)
{
    void **found;
    size_t count;
    *vm = NULL;
    if (!step_list(s, STORE_VM, works_for, (void *)(uintptr_t)image, &found, &count))
        return false;
    if (count)
        *vm = found[0];
    return true;
}

enum ctl_verdict worker_get(struct step *s, const char *image, struct store_vm *out)
{
    struct store_vm *vm;
    struct store_vch vch;
    struct hub_guest g;
    if (!find_worker(s, image, &vm))
        return CTL_FAIL;
    if (!vm) {
        struct tx t = {0};
        if (!step_get(s, STORE_VCH, "vch", &vch))
            return CTL_FAIL;
        vm = vm_reserve(s, &vch, store_vm_role_WORKER);
        vm->image = image;
        tx_put(&t, STORE_VM, vm);
        return tx_commit(s, &t, CTL_WAIT);
    }
    if (vm->phase != store_vm_phase_TAKEN)
        return CTL_WAIT;
    if (!hub_guest(s->c->hub, vm->meta.id, &g) || !g.connected)
        return CTL_WAIT;
    *out = *vm;
    if (g.role == HUB_ROLE_WORKER)
        return CTL_DONE;
    if (g.role != HUB_ROLE_NONE)
        return worker_dismiss(s, image, "it has another role");
    if (!hub_config(s->c->hub, vm->meta.id, SV("{\"gen\":1,\"role\":\"worker\"}"), s->err))
        return CTL_FAIL;
    return CTL_WAIT;
}

enum ctl_verdict worker_dismiss(struct step *s, const char *image, const char *why)
{
    struct store_vm *vm;
    struct tx t = {0};
    if (!find_worker(s, image, &vm))
        return CTL_FAIL;
    if (!vm)
        return CTL_DONE;
    vm_doom(s, vm, why);
    tx_put(&t, STORE_VM, vm);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* --- one layer
 * ------------------------------------------------------------------------------------------ */
/* The disk that a layer's disk is a child of: its parent layer's, or the blank root. */
static bool parent_disk(struct step *s, const struct store_layer *l, const char **disk)
{
    struct store_layer parent;
    struct store_vch vch;
    *disk = "";
    if (l->parent[0]) {
        if (!step_get(s, STORE_LAYER, l->parent, &parent))
            return false;
        *disk = parent.phase == store_layer_phase_READY ? parent.disk : "";
        return true;
    }
    if (!step_get(s, STORE_VCH, "vch", &vch))
        return false;
    *disk = vch.blank;
    return true;
}

static enum ctl_verdict plan_layer(struct step *s, struct store_layer *l)
{
    const char *parent;
    struct store_disk *d = ARENA_NEW(s->a, struct store_disk), p;
    char *id = arena_alloc(s->a, 65);
    struct tx t = {0};
    if (!parent_disk(s, l, &parent))
        return CTL_FAIL;
    if (!parent[0])
        return CTL_WAIT; /* the blank root is being made; the VCH's change wakes us */
    if (!step_get(s, STORE_DISK, parent, &p))
        return CTL_FAIL;
    random_id(id);
    d->meta.id = id;
    d->meta.created = s->now_ns;
    d->role = store_disk_role_LAYER;
    d->owner = l->meta.id;
    d->parent = parent;
    d->capacity_bytes = p.capacity_bytes;
    d->phase = store_disk_phase_PLANNED;
    l->disk = id;
    tx_put(&t, STORE_DISK, d);
    tx_put(&t, STORE_LAYER, l);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* The layer's disk is worth nothing: a new one next time.  The worker that has it goes too: it may
 * still write to it, and it has seen bytes that failed. */
static enum ctl_verdict discard_disk(struct step *s, struct store_layer *l, const char *why,
                                     bool for_good)
{
    struct store_disk d;
    struct store_vm vm;
    struct tx t = {0};
    jobs_forget(s->c->jobs, l->disk);
    if (l->disk[0] && step_get(s, STORE_DISK, l->disk, &d)) {
        d.phase = store_disk_phase_DELETING;
        tx_put(&t, STORE_DISK, &d);
        if (d.holder[0] && step_get(s, STORE_VM, d.holder, &vm)) {
            vm_doom(s, &vm, "a layer failed on it");
            tx_put(&t, STORE_VM, &vm);
        }
    }
    l->disk = "";
    l->worker = "";
    l->tries++;
    l->phase =
        for_good || l->tries >= LAYER_TRIES ? store_layer_phase_FAILED : store_layer_phase_PENDING;
    l->error = why;
    tx_put(&t, STORE_LAYER, l);
    log_warn(s->c->log, "layer.failed", KV_S("layer", l->meta.id), KV_S("why", why),
             KV_U("tries", l->tries));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static unsigned target_for(const struct store_layer *l)
{
    unsigned h = 0;
    for (const char *p = l->meta.id; *p; p++)
        h = h * 31 + (unsigned char)*p;
    return 1 + h % WORKER_TARGETS;
}

static enum ctl_verdict attach_layer(struct step *s, struct store_layer *l, const char *image)
{
    struct store_vm vm;
    struct store_disk d;
    struct tx t = {0};
    enum ctl_verdict verdict = worker_get(s, image, &vm);
    if (verdict != CTL_DONE)
        return verdict;
    if (!l->disk[0])
        return plan_layer(s, l);
    if (!step_get(s, STORE_DISK, l->disk, &d))
        return CTL_FAIL;
    if (d.holder[0] && strcmp(d.holder, vm.meta.id) != 0)
        return discard_disk(s, l, "its worker was lost", false);
    verdict = disk_attach(s, &d, &vm, target_for(l));
    if (verdict != CTL_DONE)
        return verdict;
    AUTO_BUF struct buf open = {0};
    struct json_writer w = json_writer(&open);
    json_open(&w, NULL, '{');
    json_add_str(&w, "kind", "job");
    json_add_str(&w, "op", "apply");
    json_add_u64(&w, "target", d.target);
    json_add_str(&w, "compression", l->compression);
    json_add_bool(&w, "parent", l->parent[0] != '\0');
    json_close(&w, '}');
    /* First the commit that says that the disk is being written to. */
    l->phase = store_layer_phase_APPLYING;
    l->worker = vm.meta.id;
    tx_put(&t, STORE_LAYER, l);
    if (!tx_commit_go(s, &t, &verdict))
        return verdict;
    if (jobs_begin(s->c->jobs, d.meta.id, vm.meta.id, buf_sv(&open), l->blob, s->err))
        return CTL_WAIT;
    const char *why = arena_strdup(s->a, s->err->msg);
    return step_get(s, STORE_LAYER, l->meta.id, l) ? discard_disk(s, l, why, false) : CTL_FAIL;
}

static enum ctl_verdict finish_layer(struct step *s, struct store_layer *l,
                                     const struct job_result *r)
{
    struct store_vm vm;
    struct store_disk d;
    struct tx t = {0};
    if (strcmp(r->diff_id, l->diff_id) != 0)
        return discard_disk(s, l,
                            arena_printf(s->a,
                                         "digest mismatch: the image's config says %s, the layer's "
                                         "bytes have %s",
                                         l->diff_id, r->diff_id),
                            true);
    if (!step_get(s, STORE_DISK, l->disk, &d))
        return CTL_FAIL;
    if (d.holder[0]) {
        if (!step_get(s, STORE_VM, d.holder, &vm))
            return CTL_FAIL;
        if (vm.phase == store_vm_phase_DYING)
            return CTL_WAIT; /* it lets go of the disk, which is whole and synced */
        enum ctl_verdict verdict = disk_detach(s, &d, &vm);
        if (verdict != CTL_DONE)
            return verdict;
    }
    l->phase = store_layer_phase_READY;
    l->size_bytes = (int64_t)r->size;
    l->worker = "";
    l->error = "";
    tx_put(&t, STORE_LAYER, l);
    log_info(s->c->log, "layer.ready", KV_S("layer", l->meta.id), KV_U("bytes", r->size));
    s->after_ms = 0;
    enum ctl_verdict verdict = tx_commit(s, &t, CTL_AGAIN);
    if (verdict == CTL_AGAIN)
        jobs_forget(s->c->jobs, l->disk);
    return verdict;
}

static enum ctl_verdict applying(struct step *s, struct store_layer *l)
{
    struct job_result r;
    jobs_look(s->c->jobs, l->disk, &r);
    switch (r.state) {
    case JOB_NONE:
        return discard_disk(s, l, "the engine was restarted while it was applied", false);
    case JOB_RUNNING:
        return CTL_WAIT;
    case JOB_FAILED:
        return discard_disk(s, l, arena_strdup(s->a, r.err.msg), r.hostile);
    case JOB_DONE:
        return finish_layer(s, l, &r);
    }
    return CTL_FAIL;
}

/* Works on a layer for 'image'; CTL_DONE = it is ready or failed. */
static enum ctl_verdict make_layer(struct step *s, struct store_layer *l, const char *image)
{
    struct store_vm worker;
    switch (l->phase) {
    case store_layer_phase_READY:
    case store_layer_phase_FAILED:
        return CTL_DONE;
    case store_layer_phase_APPLYING:
        if (step_get(s, STORE_VM, l->worker, &worker) && strcmp(worker.image, image) != 0 &&
            worker.phase != store_vm_phase_DYING)
            return CTL_WAIT; /* another image makes it */
        return applying(s, l);
    case store_layer_phase_PENDING:
        return attach_layer(s, l, image);
    case store_layer_phase_COUNT:
        break;
    }
    return CTL_DONE;
}

/* --- images
 * --------------------------------------------------------------------------------------------- */
/* The tags that the image was loaded for, as far as they fit in one commit; the rest next time. */
static void set_tags(struct step *s, struct tx *t, struct store_image *i)
{
    while (i->pending_tags.n && t->write_count + 1 < ARRAY_LEN(t->writes)) {
        struct store_tag *tag = ARENA_NEW(s->a, struct store_tag);
        const char *name = i->pending_tags.v[--i->pending_tags.n];
        if (!step_get(s, STORE_TAG, name, tag) && s->err->code != VIC_NOT_FOUND)
            return;
        tag->meta.id = tag->meta.name = name;
        tag->image = i->meta.id;
        tx_put(t, STORE_TAG, tag);
        tx_image_event(s, t, i, name, "load");
    }
}

static enum ctl_verdict tag_image(struct step *s, struct store_image *i)
{
    struct tx t = {0};
    set_tags(s, &t, i);
    tx_put(&t, STORE_IMAGE, i);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static enum ctl_verdict end_loading(struct step *s, struct store_image *i, const char *error,
                                    int64_t size)
{
    struct tx t = {0};
    i->ended = s->now_ns;
    if (!error)
        set_tags(s, &t, i);
    i->phase = error ? store_image_phase_FAILED : store_image_phase_READY;
    i->error = error ? error : "";
    if (!error)
        i->size_bytes = size;
    tx_put(&t, STORE_IMAGE, i);
    log_info(s->c->log, "image.loaded", KV_S("image", i->meta.id), KV_S("error", i->error));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static enum ctl_verdict loading(struct step *s, struct store_image *i)
{
    int64_t size = 0;
    for (size_t n = 0; n < i->layers.n; n++) {
        struct store_layer l;
        if (!step_get(s, STORE_LAYER, i->layers.v[n], &l))
            return CTL_FAIL;
        enum ctl_verdict verdict = make_layer(s, &l, i->meta.id);
        if (verdict != CTL_DONE)
            return verdict;
        if (l.phase == store_layer_phase_FAILED)
            return end_loading(s, i, arena_printf(s->a, "layer %zu: %s", n + 1, l.error), 0);
        size += l.size_bytes;
    }
    return end_loading(s, i, NULL, size);
}

static bool same_blob(void *arg, const void *record)
{
    const struct store_layer *l = record, *mine = arg;
    return strcmp(l->blob, mine->blob) == 0 && strcmp(l->meta.id, mine->meta.id) != 0 &&
           !l->meta.deleted;
}

/* Does another layer have the same bytes?  (The same archive may stand in an image twice, or on two
 * parents.) */
static bool blob_shared(struct step *s, struct store_layer *l)
{
    void **others;
    size_t count;
    return !step_list(s, STORE_LAYER, same_blob, l, &others, &count) || count;
}

/* Puts one archive on the datastore; CTL_DONE when none is left. */
static enum ctl_verdict archive(struct step *s, const struct store_image *i)
{
    struct store_vch vch;
    if (!step_get(s, STORE_VCH, "vch", &vch))
        return CTL_FAIL;
    for (size_t n = 0; n < i->layers.n; n++) {
        struct store_layer l;
        struct tx t = {0};
        uint64_t size;
        AUTO_CLOSE int fd = -1;
        if (!step_get(s, STORE_LAYER, i->layers.v[n], &l))
            return CTL_FAIL;
        if (l.archived || !l.blob[0])
            continue;
        const char *path = arena_printf(s->a, "%s/blobs/%s", vch.image_store, l.blob + 7);
        if (!spool_read(s->c->o.spool, l.blob, &fd, &size, s->err) ||
            !vsp_file_put_fd(s->c->o.vsp, &s->c->place, path, fd, size, s->err))
            return CTL_FAIL;
        l.archived = true;
        tx_put(&t, STORE_LAYER, &l);
        s->after_ms = 0;
        enum ctl_verdict verdict = tx_commit(s, &t, CTL_AGAIN);
        if (verdict == CTL_AGAIN)
            tidy_spool(s->c);
        return verdict;
    }
    return CTL_DONE;
}

static enum ctl_verdict bury_image(struct step *s, struct store_image *i)
{
    struct tx t = {0};
    struct store_strs layers = i->layers;
    enum ctl_verdict verdict = worker_dismiss(s, i->meta.id, "its image was removed");
    if (verdict != CTL_DONE)
        return verdict;
    if (step_referred(s, STORE_IMAGE, i->meta.id, STORE_CONTAINER))
        return CTL_DONE; /* the last container's end wakes us */
    tx_del(&t, STORE_IMAGE, i);
    verdict = tx_commit(s, &t, CTL_DONE);
    for (size_t n = layers.n; verdict == CTL_DONE && n-- > 0;)
        ctl_wake(s->c, STORE_LAYER, layers.v[n]);
    return verdict;
}

/* A failed image stays long enough for its client to hear why; then nothing of it is left. */
static enum ctl_verdict clear_failed(struct step *s, struct store_image *i)
{
    struct tx t = {0};
    int64_t age_ms = (s->now_ns - i->ended) / 1000000;
    if (age_ms < FAILED_IMAGE_MS) {
        s->after_ms = FAILED_IMAGE_MS - age_ms + 1;
        return CTL_AGAIN;
    }
    i->meta.deleted = s->now_ns;
    tx_put(&t, STORE_IMAGE, i);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

enum ctl_verdict image_step(struct step *s, const char *id)
{
    struct store_image i;
    if (!step_get(s, STORE_IMAGE, id, &i))
        return s->err->code == VIC_NOT_FOUND ? CTL_DONE : CTL_FAIL;
    if (i.meta.deleted)
        return bury_image(s, &i);
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    if (i.phase == store_image_phase_LOADING)
        return loading(s, &i);
    enum ctl_verdict verdict = worker_dismiss(s, id, "its work is done");
    if (verdict != CTL_DONE)
        return verdict;
    if (i.phase == store_image_phase_FAILED)
        return clear_failed(s, &i);
    return i.pending_tags.n ? tag_image(s, &i) : archive(s, &i);
}

/* --- layers that nobody needs any more
 * ------------------------------------------------------------------- */
static bool note_referrer(void *arg, const char *id)
{
    (void)id;
    *(bool *)arg = true;
    return false;
}

static bool is_unused(void *arg, struct store_txn *t, struct vic_err *err)
{
    static const enum store_kind users[] = {STORE_IMAGE, STORE_LAYER};
    const char *id = arg;
    bool used = false;
    for (size_t i = 0; i < ARRAY_LEN(users); i++)
        if (!store_referrers(t, STORE_LAYER, id, users[i], note_referrer, &used, err))
            return false;
    return !used || vic_fail(err, VIC_CONFLICT, 0, "layer %s is used", id);
}

/* First a tombstone, which nothing can refer to any more: an image that comes now brings the layer
 * anew.  Its disk goes its own way. */
static enum ctl_verdict entomb_layer(struct step *s, struct store_layer *l)
{
    struct store_disk d;
    struct tx t = {.allow = is_unused, .allow_arg = (void *)(uintptr_t)l->meta.id};
    const char *disk = l->disk;
    if (disk[0] && step_get(s, STORE_DISK, disk, &d)) {
        d.phase = store_disk_phase_DELETING;
        tx_put(&t, STORE_DISK, &d);
    }
    l->disk = "";
    l->meta.deleted = s->now_ns;
    tx_put(&t, STORE_LAYER, l);
    s->after_ms = 0;
    enum ctl_verdict verdict = tx_commit(s, &t, CTL_AGAIN);
    if (verdict == CTL_AGAIN)
        jobs_forget(s->c->jobs, disk);
    return verdict == CTL_WAIT ? CTL_DONE : verdict; /* not allowed: somebody has come for it */
}

/* Then its archive, then the record. */
static enum ctl_verdict bury_layer(struct step *s, struct store_layer *l)
{
    struct store_vch vch;
    struct tx t = {0};
    char task[VSP_REF_SIZE];
    if (l->archived && !blob_shared(s, l) && step_get(s, STORE_VCH, "vch", &vch) &&
        !vsp_file_delete(s->c->o.vsp, &s->c->place,
                         arena_printf(s->a, "%s/blobs/%s", vch.image_store, l->blob + 7), task,
                         s->err) &&
        s->err->code != VIC_NOT_FOUND)
        return CTL_FAIL;
    tx_del(&t, STORE_LAYER, l);
    enum ctl_verdict verdict = tx_commit(s, &t, CTL_DONE);
    if (verdict == CTL_DONE && l->parent[0])
        ctl_wake(s->c, STORE_LAYER, l->parent);
    if (verdict == CTL_DONE)
        tidy_spool(s->c);
    return verdict;
}

enum ctl_verdict layer_step(struct step *s, const char *id)
{
    struct store_layer l;
    if (!step_get(s, STORE_LAYER, id, &l))
        return s->err->code == VIC_NOT_FOUND ? CTL_DONE : CTL_FAIL;
    if (step_referred(s, STORE_LAYER, id, STORE_IMAGE) ||
        step_referred(s, STORE_LAYER, id, STORE_LAYER))
        return CTL_DONE;
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    return l.meta.deleted ? bury_layer(s, &l) : entomb_layer(s, &l);
}
