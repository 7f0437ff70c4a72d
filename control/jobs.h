/* Jobs on workers: see jobs.c. */
#ifndef VIC_CONTROL_JOBS_H
#define VIC_CONTROL_JOBS_H

#include "base/log.h"
#include "store/spool.h"
#include "tether/hub.h"

struct jobs;

enum job_state { JOB_NONE, JOB_RUNNING, JOB_DONE, JOB_FAILED };
struct job_result {
    enum job_state state;
    struct vic_err err; /* JOB_FAILED: names the tar entry at fault */
    bool hostile;       /* JOB_FAILED: the layer is bad; trying again is of no use */
    uint64_t size;      /* JOB_DONE: uncompressed bytes */
    char diff_id[72];
};

/* 'finished' is called when a job ends (any thread, must not block); the arg is the disk's id. */
struct jobs *jobs_new(struct hub *hub, struct spool *spool, struct vic_log *log,
                      void (*finished)(void *arg, const char *disk), void *arg);
void jobs_free(struct jobs *j); /* cancels what runs */

/* Begins a job on the worker 'vm' for the disk; 'blob' (digest in the spool) is fed to it, or NULL.
 * Fine when it runs already. */
VIC_CHECK bool jobs_begin(struct jobs *j, const char *disk, const char *vm, struct sv open_json,
                          const char *blob, struct vic_err *err);
void jobs_look(struct jobs *j, const char *disk, struct job_result *out);
void jobs_forget(struct jobs *j, const char *disk); /* cancels it when it runs */

#endif
