/* The work queue: see queue.c. */
#ifndef VIC_CONTROL_QUEUE_H
#define VIC_CONTROL_QUEUE_H

#include "base/clock.h"
#include "base/sync.h"

enum ctl_verdict {
    CTL_DONE,  /* nothing more to do until something changes */
    CTL_AGAIN, /* step again after step.after_ms */
    CTL_WAIT,  /* waits for a task, a guest, another object; looked at again after a while anyway */
    CTL_FAIL,  /* err says why: back off */
};

enum {
    QUEUE_ID_SIZE = 448,
    QUEUE_BACKOFF_MS = 250,
    QUEUE_BACKOFF_MAX_MS = 60000,
    QUEUE_WAIT_MS = 5000
};

struct queue;
/* Runs one step for a key; sets '*after_ms' with CTL_AGAIN. */
typedef enum ctl_verdict (*queue_step)(void *arg, unsigned kind, const char *id, int64_t *after_ms);

struct queue *queue_new(unsigned workers, const struct vic_clock *clock, queue_step step,
                        void *arg);
bool queue_start(struct queue *q);
void queue_add(struct queue *q, unsigned kind, const char *id); /* any thread */
/* Does a worker run a step of this key now?  (What that step has begun, it may not have noted.) */
bool queue_is_running(struct queue *q, unsigned kind, const char *id);
void queue_stop(struct queue *q); /* joins the workers */
void queue_free(struct queue *q);
struct queue_stats {
    uint64_t steps, failures, queued, running;
    /* Steps that nothing but the clock of a WAIT brought about, and that found something to do: a
     * wake that somebody owes. */
    uint64_t late;
};
void queue_stats(struct queue *q, struct queue_stats *out);

#endif
