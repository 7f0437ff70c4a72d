/* The inventory: the fixed objects of an ESXi, and what folders, datacenter, compute resource,
 * datastores and networks show.  See inventory.h. */
#include "inventory.h"

#include <sys/statvfs.h>

#include "base/mem.h"

static struct vh_obj *make(struct vh *h, const struct vim_managed *type, const char *id,
                           const char *name, struct vh_obj *parent)
{
    struct vh_obj *o = xcalloc(1, sizeof *o);
    vh_add(h, o, type, id, name, parent);
    return o;
}

void vh_inventory_new(struct vh *h)
{
    const struct vim_managed *folder = &vim_managed_Folder;
    h->root = make(h, folder, "ha-folder-root", "ha-folder-root", NULL);
    h->datacenter = make(h, &vim_managed_Datacenter, "ha-datacenter", "ha-datacenter", h->root);
    h->vm_folder = make(h, folder, "ha-folder-vm", "vm", h->datacenter);
    h->host_folder = make(h, folder, "ha-folder-host", "host", h->datacenter);
    h->ds_folder = make(h, folder, "ha-folder-datastore", "datastore", h->datacenter);
    h->net_folder = make(h, folder, "ha-folder-network", "network", h->datacenter);
    h->compute = make(h, &vim_managed_ComputeResource, "ha-compute-res", "localhost.localdomain",
                      h->host_folder);
    h->host = make(h, &vim_managed_HostSystem, "ha-host", "localhost.localdomain", h->compute);
    make(h, &vim_managed_HostDatastoreBrowser, "ha-datastorebrowser", NULL, NULL);
}

void vh_net_add(struct vh *h, const char *name)
{
    AUTO_FREE char *id = xasprintf("HaNetwork-%s", name);
    struct vh_net *n = xcalloc(1, sizeof *n);
    vh_add(h, &n->obj, &vim_managed_Network, id, name, h->net_folder);
}

struct vh_obj *vh_net_by_name(struct vh *h, const char *name)
{
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_Network && !strcmp(o->name, name))
            return o;
    return NULL;
}

/* --- what lies below what --------------------------------------------------------------------- */

bool vh_is_below(const struct vh_obj *o, const struct vh_obj *above)
{
    while (o && o != above)
        o = o->parent;
    return o != NULL;
}

static bool directly_in(const struct vh *h, const struct vh_obj *o, const struct vh_obj *container)
{
    if (o->type == &vim_managed_VirtualMachine && container->type != &vim_managed_Folder)
        return container == h->host || vh_vm_pool(o) == container;
    return o->parent == container;
}

/* Breadth first; VMs are reached through folder and pool, so what is listed already is passed over.
 * The walk below a host stays with it: its VMs are only taken when it is where the walk began. */
void vh_below(struct vh_read *r, struct vh_obj *container, bool recursive, struct vh_list *out)
{
    struct vh_obj *at = container;
    for (size_t next = 0; at; at = recursive && next < out->n ? out->v[next++] : NULL) {
        if (at == r->h->host && at != container)
            continue;
        for (struct vh_obj *o = r->h->objects; o; o = o->hh.next) {
            bool known = false;
            if (!vh_is(o, &vim_managed_ManagedEntity) || !directly_in(r->h, o, at))
                continue;
            for (size_t i = 0; !known && i < out->n && o->type == &vim_managed_VirtualMachine; i++)
                known = out->v[i] == o;
            if (!known)
                VIM_PUSH(r->a, out, o);
        }
    }
}

const char *vh_escape_name(struct arena *a, const char *name)
{
    AUTO_BUF struct buf out = {0};
    if (!name || !strpbrk(name, "/\\%"))
        return name;
    for (; *name; name++) {
        if (strchr("/\\%", *name))
            buf_addf(&out, "%%%02x", (unsigned)*name);
        else
            buf_add_c(&out, *name);
    }
    return arena_strdup(a, buf_str(&out));
}

/* --- getters: any entity ---------------------------------------------------------------------- */

#define GETTER(name)                                                                               \
    static void name(__attribute__((unused)) struct vh_read *r,                                    \
                     __attribute__((unused)) struct vh_obj *o, struct vim_any *out)

GETTER(entity_name)
{
    *out = VIM_ANY_STRING(vh_escape_name(r->a, o->name));
}

GETTER(entity_parent)
{
    if (o->parent)
        *out = VIM_ANY_REF(vh_ref(o->parent));
}

GETTER(status_green)
{
    *out = VIM_ANY_ENUM(ManagedEntityStatus, vim_ManagedEntityStatus_green);
}

GETTER(effective_role)
{
    static const int32_t admin = -1;
    *out = (struct vim_any){
        .kind = VIM_INT, .array = true, .items = {arena_copy(r->a, &admin, sizeof admin), 1}};
}

GETTER(no_strings)
{
    *out = vh_any_strings(r->a, NULL, 0);
}

GETTER(recent_task)
{
    vh_refs refs = {0};
    vh_recent_tasks(r, o, &refs);
    *out = vh_any_refs(&refs);
}

/* --- folders, datacenter, compute resource ---------------------------------------------------- */

static void list_of(struct vh_read *r, const struct vh_obj *parent, const struct vim_managed *type,
                    struct vim_any *out)
{
    vh_refs refs = {0};
    for (struct vh_obj *o = r->h->objects; o; o = o->hh.next)
        if (vh_is(o, type) && (!parent || o->parent == parent))
            vh_push_ref(r->a, &refs, o);
    *out = vh_any_refs(&refs);
}

GETTER(folder_children)
{
    list_of(r, o, &vim_managed_ManagedEntity, out);
}

GETTER(folder_types)
{
    static const struct {
        const char *id, *types[3];
        size_t n;
    } table[] = {
        {"ha-folder-root", {"Datacenter"}, 1},      {"ha-folder-vm", {"VirtualMachine"}, 1},
        {"ha-folder-host", {"ComputeResource"}, 1}, {"ha-folder-datastore", {"Datastore"}, 1},
        {"ha-folder-network", {"Network"}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!strcmp(o->id, table[i].id))
            *out = vh_any_strings(r->a, table[i].types, table[i].n);
}

GETTER(all_datastores)
{
    list_of(r, NULL, &vim_managed_Datastore, out);
}

GETTER(all_networks)
{
    list_of(r, NULL, &vim_managed_Network, out);
}

GETTER(all_hosts)
{
    list_of(r, NULL, &vim_managed_HostSystem, out);
}

GETTER(dc_vm_folder)
{
    *out = VIM_ANY_REF(vh_ref(r->h->vm_folder));
}

GETTER(dc_host_folder)
{
    *out = VIM_ANY_REF(vh_ref(r->h->host_folder));
}

GETTER(dc_ds_folder)
{
    *out = VIM_ANY_REF(vh_ref(r->h->ds_folder));
}

GETTER(dc_net_folder)
{
    *out = VIM_ANY_REF(vh_ref(r->h->net_folder));
}

GETTER(compute_pool)
{
    *out = VIM_ANY_REF(vh_ref(r->h->root_pool));
}

/* --- datastores ------------------------------------------------------------------------------- */

static const char *ds_url(struct arena *a, const struct vh_ds *ds)
{
    return arena_printf(a, "/vmfs/volumes/%s", ds->uuid);
}

static void ds_space(const struct vh_ds *ds, int64_t *capacity, int64_t *free_bytes)
{
    struct statvfs v;
    *capacity = *free_bytes = 0;
    if (statvfs(ds->dir, &v) == 0) {
        *capacity = (int64_t)(v.f_blocks * v.f_frsize);
        *free_bytes = (int64_t)(v.f_bavail * v.f_frsize);
    }
}

GETTER(ds_summary)
{
    struct vh_ds *ds = CONTAINER_OF(o, struct vh_ds, obj);
    struct vim_DatastoreSummary *s = VIM_NEW(r->a, DatastoreSummary);
    s->datastore = vh_ref(o);
    s->name = o->name;
    s->url = ds_url(r->a, ds);
    ds_space(ds, &s->capacity, &s->freeSpace);
    s->has_uncommitted = true;
    s->accessible = true;
    s->has_multipleHostAccess = true;
    s->type = "VMFS";
    s->maintenanceMode = "normal";
    *out = VIM_ANY_OBJECT(s);
}

GETTER(ds_info)
{
    struct vh_ds *ds = CONTAINER_OF(o, struct vh_ds, obj);
    int64_t capacity;
    struct vim_LocalDatastoreInfo *i = VIM_NEW(r->a, LocalDatastoreInfo);
    i->name = o->name;
    i->url = ds_url(r->a, ds);
    ds_space(ds, &capacity, &i->freeSpace);
    i->maxFileSize = i->maxMemoryFileSize = 64LL << 40;
    i->has_maxVirtualDiskCapacity = true;
    i->maxVirtualDiskCapacity = 62LL << 40;
    i->has_timestamp = true;
    i->timestamp = clock_wall_ns(r->h->opt.clock);
    i->path = i->url;
    *out = VIM_ANY_OBJECT(i);
}

GETTER(ds_capability)
{
    struct vim_DatastoreCapability *c = VIM_NEW(r->a, DatastoreCapability);
    c->directoryHierarchySupported = c->perFileThinProvisioningSupported = true;
    c->has_topLevelDirectoryCreateSupported = c->topLevelDirectoryCreateSupported = true;
    c->has_vmfsSparseSupported = c->vmfsSparseSupported = true;
    *out = VIM_ANY_OBJECT(c);
}

GETTER(ds_host)
{
    VIM_ARRAY_OF(struct vim_DatastoreHostMount *) list = {0};
    struct vim_DatastoreHostMount *m = VIM_NEW(r->a, DatastoreHostMount);
    m->key = vh_ref(r->h->host);
    m->mountInfo = VIM_NEW(r->a, HostMountInfo);
    m->mountInfo->path = ds_url(r->a, CONTAINER_OF(o, struct vh_ds, obj));
    m->mountInfo->accessMode = "readWrite";
    m->mountInfo->has_mounted = m->mountInfo->mounted = true;
    m->mountInfo->has_accessible = m->mountInfo->accessible = true;
    VIM_PUSH(r->a, &list, m);
    *out = VIM_ANY_OBJECTS(DatastoreHostMount, &list);
}

GETTER(ds_browser)
{
    *out = VIM_ANY_REF(vh_ref(vh_find_id(r->h, "ha-datastorebrowser")));
}

GETTER(browser_datastores)
{
    list_of(r, NULL, &vim_managed_Datastore, out);
}

/* Of datastores and networks: the VMs that use them. */
GETTER(users)
{
    vh_refs refs = {0};
    for (struct vh_obj *vm = r->h->objects; vm; vm = vm->hh.next)
        if (vm->type == &vim_managed_VirtualMachine && vh_vm_uses(vm, o))
            vh_push_ref(r->a, &refs, vm);
    *out = vh_any_refs(&refs);
}

/* --- networks --------------------------------------------------------------------------------- */

GETTER(net_summary)
{
    struct vim_NetworkSummary *s = VIM_NEW(r->a, NetworkSummary);
    s->network = vh_ref(o);
    s->name = o->name;
    s->accessible = true;
    s->ipPoolName = "";
    *out = VIM_ANY_OBJECT(s);
}

const struct vh_prop vh_props_inventory[] = {
    {&vim_managed_ManagedEntity, "name", entity_name},
    {&vim_managed_ManagedEntity, "parent", entity_parent},
    {&vim_managed_ManagedEntity, "overallStatus", status_green},
    {&vim_managed_ManagedEntity, "configStatus", status_green},
    {&vim_managed_ManagedEntity, "effectiveRole", effective_role},
    {&vim_managed_ManagedEntity, "disabledMethod", no_strings},
    {&vim_managed_ManagedEntity, "recentTask", recent_task},
    {&vim_managed_Folder, "childEntity", folder_children},
    {&vim_managed_Folder, "childType", folder_types},
    {&vim_managed_Datacenter, "vmFolder", dc_vm_folder},
    {&vim_managed_Datacenter, "hostFolder", dc_host_folder},
    {&vim_managed_Datacenter, "datastoreFolder", dc_ds_folder},
    {&vim_managed_Datacenter, "networkFolder", dc_net_folder},
    {&vim_managed_Datacenter, "datastore", all_datastores},
    {&vim_managed_Datacenter, "network", all_networks},
    {&vim_managed_ComputeResource, "resourcePool", compute_pool},
    {&vim_managed_ComputeResource, "host", all_hosts},
    {&vim_managed_ComputeResource, "datastore", all_datastores},
    {&vim_managed_ComputeResource, "network", all_networks},
    {&vim_managed_Datastore, "summary", ds_summary},
    {&vim_managed_Datastore, "info", ds_info},
    {&vim_managed_Datastore, "capability", ds_capability},
    {&vim_managed_Datastore, "host", ds_host},
    {&vim_managed_Datastore, "browser", ds_browser},
    {&vim_managed_Datastore, "vm", users},
    {&vim_managed_HostDatastoreBrowser, "datastore", browser_datastores},
    {&vim_managed_Network, "summary", net_summary},
    {&vim_managed_Network, "host", all_hosts},
    {&vim_managed_Network, "vm", users},
    {0},
};
