/* Role worker: jobs on disks.
 *
 * Each job is a stream (kind "job") and runs in a child of its own with its own view of mounts, so
 * that whatever a hostile layer does to it, PID 1 goes on.  When a job has ended its disk has been
 * synced, unmounted and removed from the SCSI bus: the answer means that it may be detached. */
#ifndef VIC_TETHER_AGENT_JOB_H
#define VIC_TETHER_AGENT_JOB_H

#include "agent.h"

/* A stream_opener; 'arg' is the struct agent. */
bool job_open(void *arg, struct stream *s, struct json_val open, const char **stage, int *exit,
              struct vic_err *err);

#endif
