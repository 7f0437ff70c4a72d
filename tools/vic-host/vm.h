/* Virtual machines: their configuration, power and records.
 *
 * A VM's configuration is a VirtualMachineConfigInfo in an arena of its own (struct vh_conf), never
 * changed in place once it is published: a change clones it, alters the clone, commits it and swaps
 * the pointer under the lock.
 *
 * extraConfig has three layers.  'saved' is what the next power-on will see.  'info->extraConfig'
 * is what the run sees: it is 'saved' as of the power-on, plus what was set since (with --strict
 * such changes end with the run; else they go into 'saved' as well).  'guest' is what the guest
 * itself set through guestinfo; it ends with the run always.  What is shown is the second, overlaid
 * with the third.
 *
 * Power.  'on' is what vSphere is told; it becomes true when QEMU runs and false when its process
 * has ended, whoever ended it (vh_vm_exited). */
#ifndef VIC_HOST_VM_H
#define VIC_HOST_VM_H

#include "datastore.h"
#include "host.h"
#include "tasks.h"

enum {
    VH_MAX_VM_NAME = 80,
    VH_MAX_VALUE = 64 * 1024, /* of one guestinfo value */
    VH_MAX_GUEST = 1 << 20,   /* of all guestinfo that a guest sets */
    VH_MAX_KEY = 1024,
};

typedef VIM_ARRAY_OF(struct vim_OptionValue *) vh_options_array;

struct vh_conf {
    struct arena a;
    struct vim_VirtualMachineConfigInfo *info;
    vh_options_array saved;
};
struct vh_guest_var {
    LIST_ENTRY(vh_guest_var) link;
    char *key, *value;
    char *shown; /* what the API shows of it; NULL = nothing yet (--strict: it arrives late) */
};
struct vh_vm {
    struct vh_obj obj;
    struct vh_conf *conf;
    struct vh_obj *pool;
    bool on, tools; /* tools: the guest spoke since power-on */
    int64_t boot_ns;
    LIST_HEAD(, vh_guest_var) guest;
    size_t guest_size;
    bool guest_dirty; /* a save of 'guest' is queued */
};
struct vh_name { /* a name that is taken by a VM in the making */
    LIST_ENTRY(vh_name) link;
    char *name;
};

struct vh_vm *vh_vm_of(struct vh_obj *o);
/* The VM of an id, or NULL. */
struct vh_vm *vh_vm_find(struct vh *h, const char *id);

/* --- configurations: vm_conf.c ---------------------------------------------------------------- */

struct vh_conf *vh_conf_new(struct vh *h, const char *name);
struct vh_conf *vh_conf_clone(const struct vh_conf *c);
void vh_conf_free(struct vh_conf *c);
/* Everything of a ConfigSpec but devices and name.  'on': what may not change then is refused. */
VIC_CHECK bool vh_conf_apply(struct vh *h, struct vh_conf *c,
                             const struct vim_VirtualMachineConfigSpec *spec, bool on,
                             struct vh_fault *f);
void vh_conf_stamp(struct vh *h, struct vh_conf *c);                  /* a new changeVersion */
const char *vh_option(const vh_options_array *list, const char *key); /* text value, or NULL */
void vh_option_set(struct arena *a, vh_options_array *list, const char *key, struct vim_any value);
/* InvalidName, DuplicateName; 'self' may be NULL. */
VIC_CHECK bool vh_vm_check_name(struct vh *h, const char *name, const struct vh_vm *self,
                                struct vh_fault *f);
/* Keeps a checked name for who is about to have it; under the lock, as the check. */
struct vh_name *vh_name_take(struct vh *h, const char *name);
void vh_name_drop(struct vh_name *n); /* NULL is fine */

/* --- devices: vm_device.c --------------------------------------------------------------------- */

/* What a list of device changes means outside the configuration. */
struct vh_disk_change {
    struct vh_path path, parent;
    bool has_parent, create, read_only;
    int64_t capacity; /* of a disk to create */
    unsigned target;
    char uuid[37];
};
struct vh_plan {
    VIM_ARRAY_OF(struct vh_disk_change) add;
    VIM_ARRAY_OF(struct vh_disk_change) remove; /* 'create' here means: destroy the file */
};
/* Alters the devices of 'c' and fills 'plan'.  'dir' is the VM's folder. */
VIC_CHECK bool vh_devices_apply(struct vh_job *j, struct vh_conf *c,
                                const struct vim_VirtualMachineConfigSpec *spec, bool on,
                                const struct vh_path *dir, struct vh_plan *plan);
void vh_devices_default(struct vh_conf *c); /* what every VM has */
/* Makes the disks that the plan creates and puts their records into the batch. */
VIC_CHECK bool vh_plan_make(struct vh_job *j, struct vh_plan *plan);
void vh_plan_publish(struct vh_job *j, const struct vh_plan *plan); /* under the lock */
/* The disks of a configuration as vmm wants them. */
struct vim_VirtualDisk *vh_disk_at(const struct vh_conf *c, size_t n); /* NULL behind the last */
bool vh_disk_path(struct vh *h, const struct vim_VirtualDisk *d, struct vh_path *out);
bool vh_disk_read_only(const struct vim_VirtualDisk *d);

/* --- records and life: vm_state.c ------------------------------------------------------------- */

void vh_vm_put(struct state_batch *b, const char *id, const struct vh_conf *c);
void vh_vm_put_run(struct state_batch *b, const char *id, const char *pool, bool on,
                   int64_t boot_ns);
void vh_vm_put_guest(struct state_batch *b, const struct vh_vm *vm); /* under the lock */
void vh_vm_del(struct state_batch *b, const char *id);
/* Reads all VMs; those that ran are taken up again or noted as ended. */
VIC_CHECK bool vh_vms_load(struct vh *h, struct vic_err *err);
/* Publishing, under the lock. */
struct vh_vm *vh_vm_add(struct vh *h, const char *id, struct vh_conf *c, struct vh_obj *pool);
void vh_vm_set_conf(struct vh *h, struct vh_vm *vm, struct vh_conf *c);
void vh_vm_remove(struct vh *h, struct vh_vm *vm);
void vh_vm_touch(struct vh *h, struct vh_vm *vm); /* and what lists it */
/* The run is over: live layers go, holds are given back. */
void vh_vm_ended(struct vh *h, struct vh_vm *vm);
void vh_vm_guest_clear(struct vh_vm *vm);
void vh_guest_var_free(struct vh_guest_var *v); /* takes it off its list */
/* The folder of its .vmx. */
bool vh_vm_dir(struct vh *h, const struct vh_conf *c, struct vh_path *out);

/* --- power: vm_power.c ------------------------------------------------------------------------ */

bool vh_vm_power_on(struct vh_call *c);
bool vh_vm_power_off(struct vh_call *c);
bool vh_vm_reset(struct vh_call *c);
bool vh_vm_shutdown_guest(struct vh_call *c);
/* vmm's callbacks. */
void vh_vm_exited(void *arg, const char *id, bool guest_initiated);
void vh_vm_guestinfo(void *arg, const char *id, struct sv command, struct buf *out);

/* --- making, changing, ending: vm_create.c, vm_reconfig.c ------------------------------------- */

bool vh_vm_create(struct vh_call *c);
bool vh_vm_reconfig(struct vh_call *c);
bool vh_entity_rename(struct vh_call *c);
bool vh_entity_destroy(struct vh_call *c);
bool vh_vm_unregister(struct vh_call *c);

#endif
