/* The fixed inventory and what lies below what. */
#ifndef VIC_HOST_INVENTORY_H
#define VIC_HOST_INVENTORY_H

#include "datastore.h"
#include "host.h"

struct vh_list {
    struct vh_obj **v;
    size_t n;
};

/* Makes folders, datacenter, host, root pool and the managers of ServiceContent. */
void vh_inventory_new(struct vh *h);
/* A network of the host; 'bridge' is its name below (vmm.h). */
struct vh_net {
    struct vh_obj obj;
};
void vh_net_add(struct vh *h, const char *name);
struct vh_obj *vh_net_by_name(struct vh *h, const char *name);

struct vh_pool {
    struct vh_obj obj;
    struct arena a;
    struct vim_ResourceConfigSpec *config;
};
VIC_CHECK bool vh_pools_load(struct vh *h, struct vic_err *err);
struct vh_pool *vh_pool_of(struct vh_obj *o);

/* The objects directly in a container (folder, datacenter, compute resource, pool; of a host its
 * VMs), or all the way down; each once. */
void vh_below(struct vh_read *r, struct vh_obj *container, bool recursive, struct vh_list *out);
bool vh_is_below(const struct vh_obj *o, const struct vh_obj *above); /* by parent */

/* '/', '\' and '%' as %2f, %5c, %25: how vSphere shows names. */
const char *vh_escape_name(struct arena *a, const char *name);

/* Of virtual machines, for search. */
bool vh_vm_has_uuid(const struct vh_obj *vm, const char *uuid, bool instance);
bool vh_vm_has_file(struct vh *h, const struct vh_obj *vm, const struct vh_path *p); /* its .vmx */
struct vh_obj *vh_vm_pool(const struct vh_obj *vm);
bool vh_vm_uses(const struct vh_obj *vm, const struct vh_obj *ds_or_net);

#endif
