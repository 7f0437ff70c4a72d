/* VirtualDiskManager.  Disks are qcow2 inside, under any name. */
#include "disks.h"
#include "files.h"

#include "base/mem.h"

struct disk_op {
    struct vh_path path, to;
    char uuid[37];
    bool has_record;
};

/* Shared by methods: the datacenter, when given, is ours. */
bool vh_check_datacenter(struct vh_call *c, struct vim_ref dc)
{
    if (!dc.value)
        return true;
    struct vh_obj *o = vh_find(c->h, c->s, dc);
    return o == c->h->datacenter ? true : vh_fault_not_found(&c->fault, dc);
}

static bool check_path(struct vh_call *c, const char *name, struct vim_ref dc)
{
    struct vh_path p;
    return vh_check_datacenter(c, dc) && vh_path_parse(c->h, name, &p, &c->fault);
}

static bool locked(struct vh_job *j, const struct vh_path *p)
{
    mutex_lock(&j->h->lock);
    bool held = vh_held_below(j->h, p);
    mutex_unlock(&j->h->lock);
    if (held)
        vh_fault_file(&j->fault, &vim_type_FileLocked, vh_path_text(&j->a, p));
    return held;
}

/* --- create ----------------------------------------------------------------------------------- */

bool vh_disk_make(struct vh_job *j, const struct vh_path *p, const struct vh_path *parent,
                  int64_t capacity)
{
    struct vic_err err;
    struct vh_path dir;
    vh_path_parent(p, &dir);
    if (*dir.rel && !vh_dir_exists(&dir))
        return vh_fault_file(&j->fault, &vim_type_FileNotFound, vh_path_text(&j->a, &dir));
    if (vh_file_exists(p))
        return vh_fault_file(&j->fault, &vim_type_FileAlreadyExists, vh_path_text(&j->a, p));
    if (!vh_job_makes(j, p))
        return false;
    const char *above = parent ? vh_path_host(&j->a, parent) : NULL;
    return vmm_disk_create(j->h->vmm, vh_path_host(&j->a, p), above, capacity, &err)
               ? true
               : vh_job_fail(j, p, &err);
}

static void publish_create(struct vh_job *j)
{
    struct disk_op *op = j->data;
    vh_disk_note(j->h, &op->path, op->uuid, NULL);
}

static bool run_create(struct vh_job *j)
{
    const struct vim_CreateVirtualDisk_Task_request *q = j->req;
    const struct vim_FileBackedVirtualDiskSpec *spec = VIM_CAST(FileBackedVirtualDiskSpec, q->spec);
    struct disk_op *op = ARENA_NEW(&j->a, struct disk_op);
    j->data = op;
    j->publish = publish_create;
    if (!vh_path_parse(j->h, q->name, &op->path, &j->fault) ||
        !vh_disk_make(j, &op->path, NULL, spec->capacityKb * 1024))
        return false;
    vh_disk_new_uuid(op->uuid);
    vh_disk_put(&j->batch, &op->path, op->uuid, NULL);
    j->result = VIM_ANY_STRING(vh_path_text(&j->a, &op->path));
    return true;
}

static bool create_disk(struct vh_call *c)
{
    const struct vim_CreateVirtualDisk_Task_request *q = c->req;
    const struct vim_FileBackedVirtualDiskSpec *spec = VIM_CAST(FileBackedVirtualDiskSpec, q->spec);
    if (!spec || spec->capacityKb <= 0 || spec->capacityKb > INT64_MAX / 1024)
        return vh_fault_argument(&c->fault, "spec");
    return check_path(c, q->name, q->datacenter) && vh_task_start(c, NULL, false, run_create);
}

/* --- delete, move, copy ----------------------------------------------------------------------- */

static void publish_delete(struct vh_job *j)
{
    struct disk_op *op = j->data;
    vh_disk_forget(j->h, &op->path);
}

static bool run_delete(struct vh_job *j)
{
    const struct vim_DeleteVirtualDisk_Task_request *q = j->req;
    struct disk_op *op = ARENA_NEW(&j->a, struct disk_op);
    j->data = op;
    j->publish = publish_delete;
    if (!vh_path_parse(j->h, q->name, &op->path, &j->fault) || locked(j, &op->path))
        return false;
    if (!vh_file_exists(&op->path) || vh_dir_exists(&op->path))
        return vh_fault_file(&j->fault, &vim_type_FileNotFound, q->name);
    mutex_lock(&j->h->lock);
    bool parent = vh_disk_is_parent(j->h, &op->path);
    vh_disk_del(j->h, &j->batch, &op->path);
    mutex_unlock(&j->h->lock);
    /* A parent is not deletable ("ddb.deletable" on a real host). */
    if (parent)
        return vh_fault_file(&j->fault, &vim_type_CannotDeleteFile, q->name);
    vh_job_dooms(j, &op->path);
    return true;
}

static bool delete_disk(struct vh_call *c)
{
    const struct vim_DeleteVirtualDisk_Task_request *q = c->req;
    return check_path(c, q->name, q->datacenter) && vh_task_start(c, NULL, false, run_delete);
}

static void publish_move(struct vh_job *j)
{
    struct disk_op *op = j->data;
    vh_disk_forget(j->h, &op->path);
    if (op->has_record)
        vh_disk_note(j->h, &op->to, op->uuid, NULL);
}

/* Only disks without parent and children move: a chain holds the paths of its members. */
static bool plan_move(struct vh_job *j, struct disk_op *op)
{
    struct vh_path up;
    mutex_lock(&j->h->lock);
    struct vh_disk *d = vh_disk_find(j->h, &op->path);
    bool chained = vh_disk_is_parent(j->h, &op->path) || vh_disk_parent(j->h, &op->path, &up);
    op->has_record = d != NULL;
    if (d)
        memcpy(op->uuid, d->uuid, sizeof op->uuid);
    vh_disk_del(j->h, &j->batch, &op->path);
    mutex_unlock(&j->h->lock);
    if (chained)
        return vh_fault_unsupported(&j->fault);
    if (op->has_record)
        vh_disk_put(&j->batch, &op->to, op->uuid, NULL);
    return true;
}

static void undo_move(struct vh_job *j)
{
    struct disk_op *op = j->data;
    struct vic_err err;
    if (!vh_file_rename(&op->to, &op->path, false, &err))
        log_error(j->h->opt.log, "file.left", KV_S("path", op->to.rel), KV_ERR(&err));
}

static bool run_move(struct vh_job *j)
{
    const struct vim_MoveVirtualDisk_Task_request *q = j->req;
    struct disk_op *op = ARENA_NEW(&j->a, struct disk_op);
    struct vic_err err;
    j->data = op;
    j->publish = publish_move;
    if (!vh_path_parse(j->h, q->sourceName, &op->path, &j->fault) ||
        !vh_path_parse(j->h, q->destName, &op->to, &j->fault) || locked(j, &op->path) ||
        locked(j, &op->to) || !plan_move(j, op))
        return false;
    if (!vh_file_rename(&op->path, &op->to, q->has_force && q->force, &err))
        return vh_job_fail(j, err.code == VIC_CONFLICT ? &op->to : &op->path, &err);
    j->rollback = undo_move;
    return true;
}

static bool move_disk(struct vh_call *c)
{
    const struct vim_MoveVirtualDisk_Task_request *q = c->req;
    return check_path(c, q->sourceName, q->sourceDatacenter) &&
           check_path(c, q->destName, q->destDatacenter) && vh_task_start(c, NULL, false, run_move);
}

static void publish_copy(struct vh_job *j)
{
    struct disk_op *op = j->data;
    vh_disk_note(j->h, &op->to, op->uuid, NULL);
}

static bool run_copy(struct vh_job *j)
{
    const struct vim_CopyVirtualDisk_Task_request *q = j->req;
    struct disk_op *op = ARENA_NEW(&j->a, struct disk_op);
    struct vh_path up;
    struct vic_err err;
    j->data = op;
    j->publish = publish_copy;
    if (!vh_path_parse(j->h, q->sourceName, &op->path, &j->fault) ||
        !vh_path_parse(j->h, q->destName, &op->to, &j->fault) || locked(j, &op->path) ||
        locked(j, &op->to))
        return false;
    mutex_lock(&j->h->lock);
    bool chained = vh_disk_parent(j->h, &op->path, &up);
    mutex_unlock(&j->h->lock);
    if (chained) /* a copy would have to be flattened */
        return vh_fault_unsupported(&j->fault);
    if (vh_file_exists(&op->to) && !(q->has_force && q->force))
        return vh_fault_file(&j->fault, &vim_type_FileAlreadyExists, q->destName);
    if (!vh_file_exists(&op->to) && !vh_job_makes(j, &op->to))
        return false;
    if (!vh_file_copy(&op->path, &op->to, q->has_force && q->force, &err))
        return vh_job_fail(j, &op->path, &err);
    vh_disk_new_uuid(op->uuid);
    vh_disk_put(&j->batch, &op->to, op->uuid, NULL);
    return true;
}

static bool copy_disk(struct vh_call *c)
{
    const struct vim_CopyVirtualDisk_Task_request *q = c->req;
    return check_path(c, q->sourceName, q->sourceDatacenter) &&
           check_path(c, q->destName, q->destDatacenter) && vh_task_start(c, NULL, false, run_copy);
}

/* --- uuid ------------------------------------------------------------------------------------- */

/* vSphere's text form: "60 00 C2 9x ... - ...". */
static const char *uuid_text(struct arena *a, const char *uuid)
{
    AUTO_BUF struct buf out = {0};
    unsigned digits = 0;
    for (; *uuid; uuid++) {
        if (*uuid == '-')
            continue;
        if (digits == 16)
            buf_add_c(&out, '-');
        else if (digits && digits % 2 == 0)
            buf_add_c(&out, ' ');
        buf_add_c(&out, *uuid);
        digits++;
    }
    return arena_strdup(a, buf_str(&out));
}

/* Any spelling of 32 hex digits, as "6000c290-1234-...". */
bool vh_uuid_normal(const char *text, char out[37])
{
    size_t n = 0;
    for (; *text; text++) {
        uint64_t digit;
        if (*text == ' ' || *text == '-')
            continue;
        if (n == 36 || !sv_hex_to_u64(sv_make(text, 1), &digit))
            return false;
        if (n == 8 || n == 13 || n == 18 || n == 23)
            out[n++] = '-';
        out[n++] = "0123456789abcdef"[digit];
    }
    out[n] = '\0';
    return n == 36;
}

static bool store_uuid(struct vh *h, const struct vh_path *p, const char *uuid, struct vh_fault *f)
{
    AUTO_BATCH struct state_batch batch = {0};
    struct vh_path parent;
    struct vic_err err;
    mutex_lock(&h->lock);
    bool child = vh_disk_parent(h, p, &parent);
    mutex_unlock(&h->lock);
    vh_disk_put(&batch, p, uuid, child ? &parent : NULL);
    if (!state_commit(h->state, &batch, true, &err))
        return vh_fault_err(f, NULL, &err);
    mutex_lock(&h->lock);
    vh_disk_note(h, p, uuid, child ? &parent : NULL);
    mutex_unlock(&h->lock);
    return true;
}

static bool existing(struct vh_call *c, const char *name, struct vh_path *p)
{
    if (!vh_path_parse(c->h, name, p, &c->fault))
        return false;
    if (!vh_file_exists(p) || vh_dir_exists(p))
        return vh_fault_file(&c->fault, &vim_type_FileNotFound, name);
    return true;
}

static bool query_uuid(struct vh_call *c)
{
    const struct vim_QueryVirtualDiskUuid_request *q = c->req;
    struct vim_QueryVirtualDiskUuid_response *r = c->res;
    struct vh_path p;
    char uuid[37] = "";
    if (!existing(c, q->name, &p))
        return false;
    mutex_lock(&c->h->lock);
    struct vh_disk *d = vh_disk_find(c->h, &p);
    if (d)
        memcpy(uuid, d->uuid, sizeof uuid);
    mutex_unlock(&c->h->lock);
    if (!*uuid) {
        vh_disk_new_uuid(uuid);
        if (!store_uuid(c->h, &p, uuid, &c->fault))
            return false;
    }
    r->returnval = uuid_text(c->a, uuid);
    return true;
}

static bool set_uuid(struct vh_call *c)
{
    const struct vim_SetVirtualDiskUuid_request *q = c->req;
    struct vh_path p;
    char uuid[37];
    if (!existing(c, q->name, &p))
        return false;
    if (!vh_uuid_normal(q->uuid, uuid))
        return vh_fault_argument(&c->fault, "uuid");
    mutex_lock(&c->h->lock);
    bool held = vh_held_below(c->h, &p);
    mutex_unlock(&c->h->lock);
    if (held)
        return vh_fault_file(&c->fault, &vim_type_FileLocked, q->name);
    return store_uuid(c->h, &p, uuid, &c->fault);
}

/* --- FileManager's folder, without a task ----------------------------------------------------- */

static bool make_directory(struct vh_call *c)
{
    const struct vim_MakeDirectory_request *q = c->req;
    struct vh_path p;
    struct vic_err err;
    bool parents = q->has_createParentDirectories && q->createParentDirectories;
    if (!vh_path_parse(c->h, q->name, &p, &c->fault))
        return false;
    return vh_dir_make(&p, parents, &err) ? true : vh_fault_err(&c->fault, q->name, &err);
}

const struct vh_method vh_methods_disk[] = {
    {&vim_method_CreateVirtualDisk_Task, create_disk, 0},
    {&vim_method_DeleteVirtualDisk_Task, delete_disk, 0},
    {&vim_method_MoveVirtualDisk_Task, move_disk, 0},
    {&vim_method_CopyVirtualDisk_Task, copy_disk, 0},
    {&vim_method_QueryVirtualDiskUuid, query_uuid, VH_UNLOCKED},
    {&vim_method_SetVirtualDiskUuid, set_uuid, VH_UNLOCKED},
    {&vim_method_MakeDirectory, make_directory, VH_UNLOCKED},
    {0},
};
