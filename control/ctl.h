/* What the controllers share: see ctl.c. */
#ifndef VIC_CONTROL_CTL_H
#define VIC_CONTROL_CTL_H

#include <stdatomic.h>

#include "control.h"
#include "observed.h"
#include "queue.h"

struct jobs;

struct ctl {
    struct ctl_options o; /* immutable after init */
    struct store *store;
    struct hub *hub;        /* set by ctl_start */
    struct vsp_place place; /* owned by the thread of place_main until 'placed' */
    struct queue *queue;
    struct observed *observed;
    struct jobs *jobs;
    struct store_watch *watch;
    struct vic_log *log;
    pthread_t place_thread;
    bool place_started;
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    bool placed VIC_GUARDED, stopping VIC_GUARDED, connected VIC_GUARDED, changes_due VIC_GUARDED;
    _Atomic bool room_wanted;  /* limits.c */
    uint64_t seen VIC_GUARDED; /* revision up to which changes were turned into keys */
    struct vic_pool *pool;     /* turns store changes and guests' words into keys */
};

/* One call of a controller. */
struct step {
    struct ctl *c;
    struct arena *a;
    int64_t now_ns;   /* wall */
    int64_t after_ms; /* for CTL_AGAIN and CTL_WAIT */
    bool refused;     /* with CTL_FAIL: vSphere said no (err), so nothing was done */
    struct vic_err *err;
};

enum ctl_verdict container_step(struct step *s, const char *id);
enum ctl_verdict image_step(struct step *s, const char *id);
enum ctl_verdict layer_step(struct step *s, const char *id);
enum ctl_verdict disk_step(struct step *s, const char *id);
enum ctl_verdict vm_step(struct step *s, const char *id);
enum ctl_verdict vch_step(struct step *s, const char *id);

bool ctl_placed(struct ctl *c);

/* Takes archives out of the spool that no layer needs there (tidy.c). */
void tidy_spool(struct ctl *c);

/* Wakes keys. */
void ctl_wake(struct ctl *c, enum store_kind kind, const char *id);

/* --- reading -------------------------------------------------------------------------------------
 */
/* Reads one record into the step's arena (a copy: nothing borrows from the store).  False with
 * err->code VIC_NOT_FOUND when it is absent. */
bool step_get(struct step *s, enum store_kind kind, const char *id, void *record);
/* Copies of all records of a kind that 'want' picks. */
bool step_list(struct step *s, enum store_kind kind, bool (*want)(void *arg, const void *record),
               void *arg, void ***records, size_t *count);
/* Is (kind, id) referred to by a record of 'from'? */
bool step_referred(struct step *s, enum store_kind kind, const char *id, enum store_kind from);

/* --- writing
 * -------------------------------------------------------------------------------------- A step
 * changes copies of records and commits them together.  Each must still be as it was read (its
 * revision), or nothing is written and the step is run again (CTL_AGAIN at once). */
struct tx_write {
    enum store_kind kind;
    const void *record; /* begins with its struct store_meta */
    bool del;
};
struct tx_event {
    enum store_kind kind;
    const char *id, *action;
    struct store_map attributes;
};
struct tx {
    struct tx_write writes[8];
    size_t write_count;
    struct tx_event events[8];
    size_t event_count;
    /* Asked last, inside the transaction; where it says no nothing is written, and the verdict is
     * CTL_WAIT.  May be NULL. */
    bool (*allow)(void *arg, struct store_txn *txn, struct vic_err *err);
    void *allow_arg;
    bool disallowed;
};
void tx_put(struct tx *t, enum store_kind kind, const void *record);
void tx_del(struct tx *t, enum store_kind kind, const void *record);
/* Container events carry image, name, labels and what is given (alternating key, value, NULL). */
void tx_container_event(struct step *s, struct tx *t, const struct store_container *c,
                        const char *action, ...) __attribute__((sentinel));
/* Image events carry the name (as docker shows it) and the labels. */
void tx_image_event(struct step *s, struct tx *t, const struct store_image *i, const char *name,
                    const char *action);
/* 'then' when it was committed; else CTL_AGAIN at once (somebody was faster) or CTL_FAIL. */
enum ctl_verdict tx_commit(struct step *s, struct tx *t, enum ctl_verdict then);
/* The same as a bool, for steps that go on: false with *verdict set. */
bool tx_commit_go(struct step *s, struct tx *t, enum ctl_verdict *verdict);

/* --- attempts
 * ------------------------------------------------------------------------------------- */
enum attempt_state {
    ATTEMPT_NONE,    /* nothing was begun */
    ATTEMPT_RUNNING, /* wait */
    ATTEMPT_DONE,    /* the task succeeded: task->result */
    ATTEMPT_FAILED,  /* the task failed: task->err */
    ATTEMPT_UNKNOWN, /* the reply or the task is lost: look at the world */
};
enum attempt_state attempt_look(struct step *s, enum store_kind kind, const char *id,
                                const struct store_attempt *a, struct vsp_task *task);
/* Begins an attempt on 'record' (whose attempt is '*a'), which the caller has otherwise prepared:
 * commits it, calls, commits the task's reference.  'call' gets the attempt's number. */
typedef bool (*attempt_call)(void *arg, struct step *s, unsigned n, char task[VSP_REF_SIZE]);
enum ctl_verdict attempt_begin(struct step *s, struct tx *t, enum store_kind kind, void *record,
                               struct store_attempt *a, const char *what, attempt_call call,
                               void *arg);
/* The same; where vSphere refuses, 'undo' takes back what the caller has prepared. */
typedef void (*attempt_undo)(void *record);
enum ctl_verdict attempt_begin_undo(struct step *s, struct tx *t, enum store_kind kind,
                                    void *record, struct store_attempt *a, const char *what,
                                    attempt_call call, void *arg, attempt_undo undo);
/* Forgets the task and clears the attempt in the record (the caller commits). */
void attempt_end(struct step *s, struct store_attempt *a);
bool attempt_is(const struct store_attempt *a, const char *what);

/* --- disks on VMs (disk.c)
 * --------------------------------------------------------------------------- CTL_DONE: attached
 * (or detached).  Both begin and end with a commit on the disk's record. */
enum ctl_verdict disk_attach(struct step *s, struct store_disk *d, struct store_vm *vm,
                             unsigned target);
enum ctl_verdict disk_detach(struct step *s, struct store_disk *d, struct store_vm *vm);
/* Path of a disk of ours on the datastore. */
const char *disk_path(struct step *s, const struct store_vch *vch, const struct store_disk *d);
bool disk_attached(const struct store_disk *d, const char *vm);
void disk_uuid(const char *id, char out[37]);

/* --- VMs (vm.c)
 * ------------------------------------------------------------------------------------- */
/* A new vm record, reserved for a run or a job, to be put by the caller. */
struct store_vm *vm_reserve(struct step *s, const struct store_vch *vch, enum store_vm_role role);
/* Marks a copy as dying, with the reason; the caller puts it.  A VM that VM_WHY_EXITED ends powers
 * itself off. */
extern const char VM_WHY_EXITED[];
void vm_doom(struct step *s, struct store_vm *vm, const char *why);
/* Is the VM certainly off or gone?  1 yes, 0 no, -1 it could not be read (err).  The update stream
 * may be late (a guest talks while its VM still seems off): its "off" is believed after a fresh
 * read. */
int vm_off(struct step *s, const struct store_vm *vm);
/* CTL_DONE when no task runs on the VM: then what a lost reply began has ended, and a read tells.
 */
enum ctl_verdict vm_quiet(struct step *s, const struct store_vm *vm);

/* --- limits (limits.c)
 * --------------------------------------------------------------------------------- */
enum { VM_OVERHEAD_MB = 64 }; /* beside a VM's class: its kernel and the tether */
/* For tx.allow: may this VM be made, or (boot) be powered on, now? */
struct limit {
    const struct store_vch *vch;
    const struct store_vm *vm;
    bool boot;
};
bool limit_allow(void *limit, struct store_txn *t, struct vic_err *err);
/* A VM has changed: wakes those that wait for room. */
void limit_room(struct ctl *c, struct store_txn *t);

void condition_set(struct step *s, struct store_condition **v, size_t *n, const char *type,
                   bool status, const char *reason, const char *message);
/* strs helpers, in the step's arena. */
bool strs_has(const struct store_strs *l, const char *v);
void strs_add(struct step *s, struct store_strs *l, const char *v);
void strs_drop(struct store_strs *l, const char *v);

/* spec.c: the CONFIG of a run. */
bool spec_render(struct step *s, const struct store_container *c, const struct store_vm *vm,
                 const struct store_disk *d, uint64_t revision, struct buf *out);

#endif
