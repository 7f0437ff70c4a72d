/* What vSphere says: see observed.c. */
#ifndef VIC_CONTROL_OBSERVED_H
#define VIC_CONTROL_OBSERVED_H

#include "vsphere/vsphere.h"

struct observed;

/* 'vm_changed' names our vm id (extraConfig vic.vm); 'task_changed' the key that asked for it. */
struct observed_callbacks {
    void (*vm_changed)(void *arg, const char *vm_id);
    void (*task_changed)(void *arg, unsigned kind, const char *id);
    void (*state_changed)(void *arg, bool connected, const struct vic_err *err);
    void (*synced)(void *arg);
};

struct observed *observed_new(const struct observed_callbacks *cb, void *arg);
void observed_free(struct observed *o);
/* Starts the update stream. */
VIC_CHECK bool observed_start(struct observed *o, struct vsp *v, const struct vsp_place *p,
                              struct vic_err *err);
void observed_stop(struct observed *o);

bool observed_synced(struct observed *o); /* connected, and the full state has been reported */
/* The VM of one of our ids, copied into the arena; false when vSphere shows none.  Meaningless
 * while not synced. */
bool observed_vm(struct observed *o, const char *vm_id, struct arena *a, struct vsp_vm *out);
/* State of a task; false = not reported yet (it is asked for, and the key is woken when it is). */
bool observed_task(struct observed *o, const char *task, unsigned kind, const char *id,
                   struct arena *a, struct vsp_task *out);
void observed_task_done(struct observed *o, const char *task); /* its end was committed */

#endif
