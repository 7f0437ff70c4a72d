/* Tasks: long work, from the call that asks for it to its outcome in the state file.
 *
 * A task method checks its arguments under the lock and calls vh_task_start.  The job runs in a
 * pool thread without any lock:
 *   run       does the work on files and QEMU and prepares what will be true; it puts the new
 *             records into 'batch'.  Before it makes a file it names it with vh_job_makes.
 *   commit    the batch and the end of the task's own record, in one transaction
 *   (what the outcome dooms is removed from the datastore here)
 *   publish   under the lock: memory becomes what was committed
 *   rollback  instead of the last two, when run or commit failed; then the files named are removed
 * Files that must go once the outcome is committed are named with vh_job_dooms.  The record of a
 * running task holds both lists, so that after a crash (vh_tasks_recover) half-made files are
 * removed or doomed ones finished off, and the task is shown as failed or done.
 *
 * An object has one task at a time (vh_obj is busy): the second one is refused with TaskInProgress.
 * Ended tasks stay readable for ten minutes, then they vanish, as a vSphere's do. */
#ifndef VIC_HOST_TASKS_H
#define VIC_HOST_TASKS_H

#include "datastore.h"
#include "host.h"

struct vh_task {
    struct vh_obj obj;
    struct arena a;
    const char *method, *description_id, *entity_name, *user;
    struct vim_ref entity; /* value NULL: none */
    enum vim_TaskInfoState state;
    struct vh_fault fault; /* of vim_TaskInfoState_error */
    struct vim_any result;
    int64_t queued_ns, started_ns, done_ns;
    uint64_t number;
};

struct vh_job {
    struct vh *h;
    struct vh_task *task;
    struct arena a;
    const void *req;     /* the method's request struct, the job's own copy */
    struct vh_obj *o;    /* the receiver; it stays while the job runs */
    struct vh_obj *lock; /* what is busy by it, or NULL */
    struct vh_fault fault;
    struct vim_any result; /* in 'a' */
    struct state_batch batch;
    VIM_ARRAY_OF(struct vh_path) makes, dooms;
    struct vh_path
        tidy; /* a folder that is removed with the doomed if it is empty then; ds NULL = none */
    bool (*run)(struct vh_job *j);
    void (*publish)(struct vh_job *j);  /* may be NULL */
    void (*rollback)(struct vh_job *j); /* may be NULL */
    void *data;                         /* of the three, in 'a' */
};

/* Starts the job of a task method and sets the call's answer.  'entity' is what the task is shown
 * on and, if 'exclusive', what is busy by it.  Under vh.lock. */
VIC_CHECK bool vh_task_start(struct vh_call *c, struct vh_obj *entity, bool exclusive,
                             bool (*run)(struct vh_job *j));
/* The same in two steps, for jobs that are given something: NULL is a fault. */
struct vh_job *vh_task_new(struct vh_call *c, struct vh_obj *entity, bool exclusive,
                           bool (*run)(struct vh_job *j));
void vh_task_go(struct vh_call *c, struct vh_job *j);
/* Is a task running on it?  Then a TaskInProgress in 'f'. */
bool vh_task_busy(const struct vh *h, const struct vh_obj *o, struct vh_fault *f);

/* In run: the path will be made now (removed when the task fails or is cut). */
VIC_CHECK bool vh_job_makes(struct vh_job *j, const struct vh_path *p);
/* In run: the path is removed once the outcome is committed. */
void vh_job_dooms(struct vh_job *j, const struct vh_path *p);
/* vh_fault_err in the job's fault; false. */
bool vh_job_fail(struct vh_job *j, const struct vh_path *p, const struct vic_err *err);

VIC_CHECK bool vh_tasks_recover(struct vh *h, struct vic_err *err);
/* Drops ended tasks that are old. */
void vh_tasks_expire(struct vh *h);

#endif
