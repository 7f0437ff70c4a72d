/* Disks of configurations and of plans: see vm.h. */
#include "disks.h"
#include "files.h"
#include "vm.h"

struct vim_VirtualDisk *vh_disk_at(const struct vh_conf *c, size_t n)
{
    for (size_t i = 0; i < c->info->hardware->device.n; i++) {
        struct vim_VirtualDisk *d = VIM_CAST(VirtualDisk, c->info->hardware->device.v[i]);
        if (d && n-- == 0)
            return d;
    }
    return NULL;
}

bool vh_disk_path(struct vh *h, const struct vim_VirtualDisk *d, struct vh_path *out)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_fault f = {.a = &a};
    const struct vim_VirtualDeviceFileBackingInfo *b =
        VIM_CAST(VirtualDeviceFileBackingInfo, d->backing);
    return b && vh_path_parse(h, b->fileName, out, &f);
}

bool vh_disk_read_only(const struct vim_VirtualDisk *d)
{
    const struct vim_VirtualDiskFlatVer2BackingInfo *b =
        VIM_CAST(VirtualDiskFlatVer2BackingInfo, d->backing);
    return b && b->diskMode && !strcmp(b->diskMode, "independent_nonpersistent");
}

bool vh_plan_make(struct vh_job *j, struct vh_plan *plan)
{
    for (size_t i = 0; i < plan->add.n; i++) {
        struct vh_disk_change *p = &plan->add.v[i];
        const struct vh_path *parent = p->has_parent ? &p->parent : NULL;
        if (p->create && !vh_disk_make(j, &p->path, parent, p->capacity))
            return false;
        vh_disk_put(&j->batch, &p->path, p->uuid, parent);
    }
    for (size_t i = 0; i < plan->remove.n; i++) {
        if (!plan->remove.v[i].create)
            continue;
        mutex_lock(&j->h->lock);
        vh_disk_del(j->h, &j->batch, &plan->remove.v[i].path);
        mutex_unlock(&j->h->lock);
        vh_job_dooms(j, &plan->remove.v[i].path);
    }
    return true;
}

void vh_plan_publish(struct vh_job *j, const struct vh_plan *plan)
{
    for (size_t i = 0; i < plan->remove.n; i++)
        if (plan->remove.v[i].create)
            vh_disk_forget(j->h, &plan->remove.v[i].path);
    for (size_t i = 0; i < plan->add.n; i++) {
        const struct vh_disk_change *p = &plan->add.v[i];
        vh_disk_note(j->h, &p->path, p->uuid, p->has_parent ? &p->parent : NULL);
    }
}
