/* Making things in vSphere, idempotently.
 *
 *   1. commit an attempt {n, what, deadline}       nothing has happened yet
 *   2. call                                        vSphere may or may not have begun
 *   3. commit the task's reference                 the task's end will come on the update stream
 *
 * A crash after 1 leaves an attempt without a task: UNKNOWN.  So does a reply that got lost, and a
 * task that vSphere has forgotten.  Then the caller looks at the world (is the VM there, is it on,
 * is the disk attached?) and either takes the result or begins attempt n + 1.  Names in vSphere
 * hold the object's id and n, so a late arrival of n is recognised. */
#include <stdio.h>

#include "ctl.h"

bool attempt_is(const struct store_attempt *a, const char *what)
{
    return a->what && strcmp(a->what, what) == 0;
}

enum attempt_state attempt_look(struct step *s, enum store_kind kind, const char *id,
                                const struct store_attempt *a, struct vsp_task *task)
{
    if (!a->what || !a->what[0])
        return ATTEMPT_NONE;
    if (!a->task || !a->task[0])
        return ATTEMPT_UNKNOWN;
    if (!observed_task(s->c->observed, a->task, kind, id, s->a, task))
        return s->now_ns > a->deadline ? ATTEMPT_UNKNOWN : ATTEMPT_RUNNING;
    switch (task->state) {
    case VSP_TASK_QUEUED:
    case VSP_TASK_RUNNING:
        return ATTEMPT_RUNNING;
    case VSP_TASK_SUCCESS:
        return ATTEMPT_DONE;
    case VSP_TASK_ERROR:
        return ATTEMPT_FAILED;
    case VSP_TASK_GONE:
        return ATTEMPT_UNKNOWN;
    }
    return ATTEMPT_UNKNOWN;
}

void attempt_end(struct step *s, struct store_attempt *a)
{
    if (a->task && a->task[0])
        observed_task_done(s->c->observed, a->task);
    a->what = "";
    a->task = "";
    a->deadline = 0;
}

/* Was the call certainly not executed?  Then the attempt is void; else it stays, to be looked into.
 */
static bool refused(const struct vic_err *err)
{
    return err->code != VIC_UNAVAILABLE && err->code != VIC_TIMEOUT && err->code != VIC_PROTOCOL &&
           err->code != VIC_CANCELED;
}

enum ctl_verdict attempt_begin(struct step *s, struct tx *t, enum store_kind kind, void *record,
                               struct store_attempt *a, const char *what, attempt_call call,
                               void *arg)
{
    return attempt_begin_undo(s, t, kind, record, a, what, call, arg, NULL);
}

enum ctl_verdict attempt_begin_undo(struct step *s, struct tx *t, enum store_kind kind,
                                    void *record, struct store_attempt *a, const char *what,
                                    attempt_call call, void *arg, attempt_undo undo)
{
    enum ctl_verdict verdict;
    const char *id = ((const struct store_meta *)record)->id;
    size_t at = (size_t)((char *)a - (char *)record);
    a->n++;
    a->what = what;
    a->task = "";
    a->deadline = s->now_ns + (int64_t)CTL_ATTEMPT_MS * 1000000;
    tx_put(t, kind, record);
    if (!tx_commit_go(s, t, &verdict))
        return verdict;
    char task[VSP_REF_SIZE];
    bool called = call(arg, s, a->n, task);
    struct vic_err why = *s->err;
    if (!called && !refused(&why))
        return CTL_FAIL;
    /* The record as it is after the first commit. */
    void *now = arena_alloc(s->a, store_kind_rec(kind)->size);
    if (!step_get(s, kind, id, now))
        return CTL_FAIL;
    struct store_attempt *mine = (struct store_attempt *)(void *)((char *)now + at);
    if (called)
        mine->task = arena_strdup(s->a, task);
    else
        attempt_end(s, mine);
    if (!called && undo)
        undo(now);
    struct tx second = {0};
    tx_put(&second, kind, now);
    if (!tx_commit_go(s, &second, &verdict))
        return verdict;
    if (!called) {
        *s->err = why;
        s->refused = true;
        return CTL_FAIL;
    }
    s->after_ms = 0;
    return CTL_AGAIN; /* asks for the task's state, which registers the interest in its end */
}
