/* A vSphere in memory, for tests of control: it implements vsphere/vsphere.h at link time.
 *
 * One struct model is the world: VMs, power, disks with parents, files, tasks that end later.  It
 * outlives engines: each engine has a session (struct vsp, from model_session), and whatever an
 * engine's death leaves behind is there for the next.  A VM that is powered on gets a guest (a
 * thread that plays the tether, see tether.h).
 *
 * It is strict.  What vSphere would do silently and we must never cause is noted as a violation,
 * and model_violations() makes the test fail: Destroy with disks attached, a disk on two VMs, a
 * parent that is deleted under its children or built upon half-written, a target used twice, a
 * disk deleted while attached, one run started twice.
 *
 * Its updates are late on purpose: changes of VMs come 'lag_ms' after they are true, ends of tasks
 * at once.  Faults are ordered with model_fault.
 *
 * Threads: any function from any thread.  Lock order: the model's lock is the innermost. */
#ifndef VIC_TESTS_SIM_MODEL_H
#define VIC_TESTS_SIM_MODEL_H

#include "vsphere/vsphere.h"

struct model;
struct model_guest;

/* What a guest is told at power-on: strings live as long as the VM. */
struct model_boot {
    const char *ref, *vm, *key; /* key 1, hex */
    unsigned boots;             /* of this VM, from 1 */
};

struct model_options {
    int64_t task_ms; /* a task takes 0..task_ms */
    int64_t lag_ms;  /* a VM's update comes 0..lag_ms late */
    uint64_t seed;
    /* A guest begins; stop is a power cut: it returns when the guest's thread has ended. */
    struct model_guest *(*guest_start)(void *arg, struct model *m, const struct model_boot *b);
    void (*guest_stop)(struct model_guest *g);
    void *arg;
};

struct model *model_new(const struct model_options *o);
void model_free(struct model *m); /* sessions must have been freed */

/* An engine's session.  'gate' as in vsp_options; the long poll does not pass it. */
struct vsp *model_session(struct model *m, bool (*gate)(void *arg, const char *method, bool after),
                          void *arg);

/* --- trouble ------------------------------------------------------------------------------------
 */
enum model_fault_kind {
    MODEL_REFUSED,    /* answered with 'code', not executed */
    MODEL_UNSENT,     /* the connection broke: not executed */
    MODEL_REPLY_LOST, /* executed, the reply is lost */
    MODEL_TASK_FAILS, /* the task ends with 'code' */
    MODEL_TASK_GONE,  /* the task is executed, but nobody hears of its end */
};
/* For the next 'count' calls of a method ("CreateVM_Task", ...; NULL = any) after 'skip' of them.
 */
void model_fault(struct model *m, const char *method, enum model_fault_kind kind,
                 enum vic_code code, unsigned skip, unsigned count);
void model_calm(struct model *m); /* no more faults than have struck */
/* vSphere goes away (every call fails, the streams break) and comes back. */
void model_connection(struct model *m, bool up);
/* What an administrator does behind our back. */
void model_power_off(struct model *m, const char *vm_id);
void model_reset(struct model *m, const char *vm_id); /* off and on again: another boot */

/* --- looking ------------------------------------------------------------------------------------
 */
/* All violations so far, one a line; NULL when there were none.  The caller frees. */
char *model_violations(struct model *m);
void model_violation(struct model *m, const char *fmt, ...) VIC_PRINTF(2, 3);
/* What is there, one a line: VMs, disks, running tasks.  The caller frees. */
char *model_inventory(struct model *m);
size_t model_vms(struct model *m);
size_t model_vms_on(struct model *m);
size_t model_disks(struct model *m);
unsigned model_calls(struct model *m, const char *method); /* NULL = all */
size_t model_peak_vms(struct model *m);
/* Times that the run was started in a guest. */
unsigned model_runs(struct model *m, const char *container, uint64_t seq);
bool model_has_file(struct model *m, const char *path);
/* A disk that is there from the beginning, formatted. */
void model_seed_disk(struct model *m, const char *path, const char *parent, int64_t capacity);

/* --- for guests ---------------------------------------------------------------------------------
 */
enum model_run { MODEL_RUN_NONE, MODEL_RUN_SPEC, MODEL_RUN_STARTED, MODEL_RUN_EXITED };
/* The journal on a container's disk. */
struct model_journal {
    char container[65];
    uint64_t seq;
    enum model_run phase;
    const char *kind; /* a constant */
    int value;
};
/* The disk at a target of the VM; false = none.  'write' NULL = read only. */
bool model_disk_journal(struct model *m, const char *ref, unsigned target,
                        struct model_journal *read, const struct model_journal *write);
/* The disk that a VM boots with, if it holds a run. */
bool model_boot_run(struct model *m, const char *ref, unsigned *target, struct model_journal *read);
/* The process starts: counts it, and notes a violation when it is not the first time. */
void model_count_run(struct model *m, const char *container, uint64_t seq);
enum model_work { MODEL_FORMAT, MODEL_APPLY_BEGIN, MODEL_APPLY_END };
bool model_disk_work(struct model *m, const char *ref, unsigned target, enum model_work work);
void model_console(struct model *m, const char *ref, const char *line);
void model_guest_off(struct model *m, const char *ref); /* powers itself off */

#endif
