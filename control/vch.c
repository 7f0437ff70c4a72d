/* The VCH's own things on the datastore: its folders, bootstrap.iso, the blank root of all chains.
 *
 * The blank root is an empty ext4 of the VCH's disk capacity, made once by a worker (mkfs, lazy).
 * It fixes the capacity of every layer and container disk, for a child has its parent's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/tls.h"
#include "image.h"
#include "tether/wire.h"

enum { BLANK_TARGET = 1 };
static const char BLANK[] = "blank"; /* stands for an image in the worker's record */

/* --- settings
 * -------------------------------------------------------------------------------------------- */
static enum store_verdict configure(void *arg, struct store_txn *t, struct arena *a, void *record,
                                    struct vic_err *err)
{
    const struct ctl_settings *set = arg;
    struct store_vch *v = record;
    (void)t;
    (void)err;
    bool fresh = !v->meta.id || !v->meta.id[0];
    struct store_vch before = *v;
    if (fresh) {
        char *id = arena_alloc(a, 65), address[64];
        random_id(id);
        if (set->vch_id)
            snprintf(id, 65, "%s", set->vch_id);
        wire_endpoint_address(id, address);
        v->meta.id = "vch";
        v->meta.name = "vch";
        v->vch_id = id;
        v->endpoint = arena_printf(a, "[%s]:%d", address, WIRE_PORT);
        v->class_mb = 512;
        v->cpus = 1;
        v->disk_bytes = (int64_t)32 << 30;
    }
    if (set->name)
        v->meta.name = set->name;
    if (set->class_mb)
        v->class_mb = set->class_mb;
    if (set->cpus)
        v->cpus = set->cpus;
    if (set->pool_size)
        v->pool_size = set->pool_size;
    if (set->max_vms)
        v->max_vms = set->max_vms;
    if (set->max_boots)
        v->max_boots = set->max_boots;
    if (set->max_memory_mb)
        v->max_memory_mb = set->max_memory_mb;
    if (set->disk_bytes && !(v->blank && v->blank[0]))
        v->disk_bytes = set->disk_bytes;
    if (set->folder && (fresh || !v->image_store || !v->image_store[0]))
        v->image_store = set->folder;
    return !fresh && store_equal(store_rec_vch(), &before, v) ? STORE_KEEP : STORE_PUT;
}

bool ctl_configure(struct store *s, const struct ctl_settings *set, struct vic_err *err)
{
    static const struct store_change_note note = {.actor = "settings"};
    return store_update(s, &note, STORE_VCH, "vch", configure, (void *)(uintptr_t)set, err);
}

bool ctl_vch_id(struct store *s, char out[65], struct vic_err *err)
{
    struct store_vch v;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(s, err);
    if (!t || !store_get(t, STORE_VCH, "vch", &a, &v, err))
        return false;
    snprintf(out, 65, "%s", v.vch_id);
    return true;
}

/* --- folders and the ISO
 * ------------------------------------------------------------------------------- */
/* "[datastore] folder", once the place is known. */
static const char *full_folder(struct step *s, const struct store_vch *v)
{
    if (v->image_store[0] == '[')
        return v->image_store;
    return arena_printf(s->a, "[%s] %s", s->c->place.datastore_name, v->image_store);
}

static bool make_folders(struct step *s, const char *root)
{
    static const char *const folders[] = {"disks", "layers", "blobs", "console"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (!vsp_mkdir(s->c->o.vsp, &s->c->place, arena_printf(s->a, "%s/%s", root, folders[i]),
                       s->err))
            return false;
    return true;
}

/* The ISO's name on the datastore holds its digest: a newer engine brings a newer file. */
static bool iso_digest(const char *file, int fd, char hex[65], uint64_t *size, struct vic_err *err)
{
    struct sha256 hash;
    unsigned char sum[32];
    AUTO_FREE char *piece = xmalloc(1 << 16);
    *size = 0;
    sha256_init(&hash);
    for (ssize_t n; (n = read(fd, piece, 1 << 16)) != 0;) {
        if (n < 0)
            return vic_fail_errno(err, "read %s", file);
        sha256_update(&hash, piece, (size_t)n);
        *size += (uint64_t)n;
    }
    sha256_final(&hash, sum);
    hex_encode(sum, sizeof sum, hex);
    return lseek(fd, 0, SEEK_SET) == 0 || vic_fail_errno(err, "read %s", file);
}

static enum ctl_verdict ensure_iso(struct step *s, struct store_vch *v)
{
    char hex[65];
    uint64_t size;
    struct tx t = {0};
    const char *root = full_folder(s, v);
    AUTO_CLOSE int fd = open(s->c->o.iso, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        vic_fail_errno(s->err, "open the boot image %s", s->c->o.iso);
        return CTL_FAIL;
    }
    if (!iso_digest(s->c->o.iso, fd, hex, &size, s->err))
        return CTL_FAIL;
    const char *path = arena_printf(s->a, "%s/bootstrap-%.16s.iso", root, hex);
    if (strcmp(v->iso, path) == 0 && strcmp(v->image_store, root) == 0)
        return CTL_DONE;
    if (!make_folders(s, root) ||
        !vsp_file_put_fd(s->c->o.vsp, &s->c->place, path, fd, size, s->err))
        return CTL_FAIL;
    v->image_store = root;
    v->iso = path;
    tx_put(&t, STORE_VCH, v);
    log_info(s->c->log, "iso.uploaded", KV_S("path", path), KV_U("bytes", size));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* --- the blank root
 * --------------------------------------------------------------------------------------- */
static bool is_blank(void *arg, const void *record)
{
    (void)arg;
    const struct store_disk *d = record;
    return d->role == store_disk_role_BLANK && d->phase != store_disk_phase_DELETING;
}

static enum ctl_verdict plan_blank(struct step *s, const struct store_vch *v)
{
    struct store_disk *d = ARENA_NEW(s->a, struct store_disk);
    char *id = arena_alloc(s->a, 65);
    struct tx t = {0};
    random_id(id);
    d->meta.id = id;
    d->meta.created = s->now_ns;
    d->role = store_disk_role_BLANK;
    d->owner = "vch";
    d->capacity_bytes = v->disk_bytes;
    d->phase = store_disk_phase_PLANNED;
    tx_put(&t, STORE_DISK, d);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

static enum ctl_verdict discard_blank(struct step *s, struct store_disk *d, const char *why)
{
    struct tx t = {0};
    struct store_vm vm;
    jobs_forget(s->c->jobs, d->meta.id);
    d->phase = store_disk_phase_DELETING;
    tx_put(&t, STORE_DISK, d);
    if (d->holder[0] && step_get(s, STORE_VM, d->holder, &vm)) {
        vm_doom(s, &vm, "the blank root failed on it"); /* it may still write to it */
        tx_put(&t, STORE_VM, &vm);
    }
    log_warn(s->c->log, "blank.failed", KV_S("why", why));
    enum ctl_verdict verdict = tx_commit(s, &t, CTL_FAIL);
    vic_fail(s->err, VIC_IO, 0, "make the blank root: %s", why);
    return verdict;
}

static enum ctl_verdict finish_blank(struct step *s, struct store_vch *v, struct store_disk *d,
                                     struct store_vm *vm)
{
    struct tx t = {0};
    if (d->holder[0] && strcmp(d->holder, vm->meta.id) != 0)
        return CTL_WAIT; /* the worker that made it lets go of it */
    enum ctl_verdict verdict = disk_detach(s, d, vm);
    if (verdict != CTL_DONE)
        return verdict;
    v->blank = d->meta.id;
    tx_put(&t, STORE_VCH, v);
    log_info(s->c->log, "blank.ready", KV_S("disk", d->meta.id));
    s->after_ms = 0;
    verdict = tx_commit(s, &t, CTL_AGAIN);
    if (verdict == CTL_AGAIN)
        jobs_forget(s->c->jobs, d->meta.id);
    return verdict;
}

static enum ctl_verdict ensure_blank(struct step *s, struct store_vch *v)
{
    void **found;
    size_t count;
    struct store_vm vm;
    struct job_result r;
    if (v->blank[0])
        return worker_dismiss(s, BLANK, "the blank root is made");
    enum ctl_verdict verdict = worker_get(s, BLANK, &vm);
    if (verdict != CTL_DONE)
        return verdict;
    if (!step_list(s, STORE_DISK, is_blank, NULL, &found, &count))
        return CTL_FAIL;
    if (!count)
        return plan_blank(s, v);
    struct store_disk *d = found[0];
    jobs_look(s->c->jobs, d->meta.id, &r);
    if (r.state == JOB_DONE)
        return finish_blank(s, v, d, &vm);
    if (d->holder[0] && strcmp(d->holder, vm.meta.id) != 0)
        return discard_blank(s, d, "its worker was lost");
    /* READY and on no VM: from an earlier engine that did not finish. */
    if (!d->holder[0] && d->phase == store_disk_phase_READY)
        return discard_blank(s, d, "it was not finished");
    verdict = disk_attach(s, d, &vm, BLANK_TARGET);
    if (verdict != CTL_DONE)
        return verdict;
    switch (r.state) {
    case JOB_NONE: {
        const char *open = arena_printf(
            s->a, "{\"kind\":\"job\",\"op\":\"mkfs\",\"target\":%u,\"label\":\"vic\"}", d->target);
        return jobs_begin(s->c->jobs, d->meta.id, vm.meta.id, sv_of(open), NULL, s->err) ? CTL_WAIT
                                                                                         : CTL_FAIL;
    }
    case JOB_RUNNING:
        return CTL_WAIT;
    case JOB_FAILED:
        return discard_blank(s, d, r.err.msg);
    case JOB_DONE:
        break;
    }
    return CTL_FAIL;
}

enum ctl_verdict vch_step(struct step *s, const char *id)
{
    struct store_vch v;
    if (!step_get(s, STORE_VCH, id, &v))
        return s->err->code == VIC_NOT_FOUND ? CTL_DONE : CTL_FAIL;
    if (!ctl_placed(s->c))
        return CTL_WAIT;
    enum ctl_verdict verdict = ensure_iso(s, &v);
    return verdict == CTL_DONE ? ensure_blank(s, &v) : verdict;
}
