/* The model's insides, shared by model.c (inventory, tasks), model_calls.c (vsphere.h) and
 * model_watch.c (the update stream). */
#ifndef VIC_TESTS_SIM_MODEL_PRIV_H
#define VIC_TESTS_SIM_MODEL_PRIV_H

#include <sys/queue.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sync.h"

#include "model.h"

enum { TARGETS = 16, MAX_EXTRA = 16, MAX_FAULTS = 16 };

struct mdisk {
    char path[VSP_PATH_SIZE], parent[VSP_PATH_SIZE], uuid[40];
    int64_t capacity;
    struct mvm *vm; /* that has it attached */
    bool formatted, half_written;
    struct model_journal journal;
    LIST_ENTRY(mdisk) link;
};

struct mvm {
    char ref[VSP_REF_SIZE], name[128], uuid[40], console[VSP_PATH_SIZE];
    char key[MAX_EXTRA][64], value[MAX_EXTRA][128];
    size_t extra_count;
    enum vsp_power power;
    unsigned boots;
    struct mdisk *disks[TARGETS];
    struct model_guest *guest; /* joined at the next power-on, and before the VM goes */
    LIST_ENTRY(mvm) link;
};

enum mtask_kind { T_CREATE, T_ON, T_OFF, T_RESET, T_DESTROY, T_RECONFIG, T_DISK_DELETE, T_FILE };

struct mtask {
    char ref[VSP_REF_SIZE], vm[VSP_REF_SIZE]; /* vm "" = about no VM */
    enum mtask_kind kind;
    enum vsp_task_state state;
    int64_t due_ms;
    bool vanishes;
    enum vic_code fails;
    char result[VSP_REF_SIZE];
    struct vic_err err;
    /* arguments */
    struct mvm *made; /* T_CREATE: the VM, not in the inventory yet */
    char path[VSP_PATH_SIZE], to[VSP_PATH_SIZE], parent[VSP_PATH_SIZE], uuid[40];
    bool add, create;
    unsigned target, remove[TARGETS];
    size_t remove_count;
    int64_t capacity;
    LIST_ENTRY(mtask) link;
};

struct mfile {
    char path[VSP_PATH_SIZE];
    struct buf bytes;
    LIST_ENTRY(mfile) link;
};

struct mrun {
    char container[65];
    uint64_t seq;
    unsigned starts;
    LIST_ENTRY(mrun) link;
};

struct mfault {
    const char *method;
    enum model_fault_kind kind;
    enum vic_code code;
    unsigned skip, count;
};

struct mcount {
    char method[48];
    unsigned n;
};

struct model {
    struct model_options o;
    pthread_t thread; /* executes tasks */
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    bool stop, up;
    uint64_t random;
    unsigned next_ref;
    size_t peak_vms;
    LIST_HEAD(, mvm) vms;
    LIST_HEAD(, mdisk) disks;
    LIST_HEAD(, mtask) tasks;
    LIST_HEAD(, mfile) files;
    LIST_HEAD(, mrun) runs;
    LIST_HEAD(, vsp_watch) watches;
    struct mfault faults[MAX_FAULTS];
    struct mcount counts[32];
    struct buf violations;
};

struct vsp {
    struct model *m;
    bool (*gate)(void *arg, const char *method, bool after);
    void *arg;
};

/* All with the lock held. */
struct mvm *model_find_vm(struct model *m, const char *ref);
struct mvm *model_find_id(struct model *m, const char *vm_id);
struct mdisk *model_find_disk(struct model *m, const char *path);
struct mtask *model_find_task(struct model *m, const char *ref);
struct mfile *model_find_file(struct model *m, const char *path);
void model_note(struct model *m, const char *fmt, ...) VIC_PRINTF(2, 3);
struct mtask *model_task(struct model *m, enum mtask_kind kind, const char *vm);
int64_t model_pick(struct model *m, int64_t below); /* 0..below */
void model_copy_vm(const struct mvm *vm, struct arena *a, struct vsp_vm *out);
const char *model_extra(const struct mvm *vm, const char *key);
void model_file_free(struct mfile *f);
/* model_watch.c: something changed (lock held). */
void watch_vm(struct model *m, const char *ref);
void watch_task(struct model *m, const char *ref);
void watch_connection(struct model *m, bool up);

#endif
