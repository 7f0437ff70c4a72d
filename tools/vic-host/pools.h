/* Resource pools: see pools.c. */
#ifndef VIC_HOST_POOLS_H
#define VIC_HOST_POOLS_H

#include "host.h"

void vh_root_pool_new(struct vh *h);
bool vh_pool_destroy(struct vh_call *c); /* Destroy_Task */

/* Of virtual machines: vm_state.c. */
VIC_CHECK bool vh_vms_move_pool(struct vh *h, struct vh_obj *from, struct vh_obj *to,
                                struct vh_fault *f);
int64_t vh_pool_memory_used(struct vh *h, const struct vh_obj *pool); /* bytes, powered-on VMs */

#endif
