/* The workload's cgroup (v2): limits, device policy, the OOM count. */
#ifndef VIC_TETHER_AGENT_CGROUP_H
#define VIC_TETHER_AGENT_CGROUP_H

#include "spec.h"

#define CGROUP_RUN "/cgroup/run"

/* Makes CGROUP_RUN with the spec's limits and device policy; '*fd' is for CLONE_INTO_CGROUP. */
VIC_CHECK bool cgroup_make(const struct spec_run *spec, int *fd, struct vic_err *err);
/* How often the kernel killed a process of it for memory. */
uint64_t cgroup_oom_kills(void);

/* Allows what Docker allows (null, zero, full, random, urandom, tty, ptmx, pts, mknod of anything),
 * or, privileged, everything; in both cases not the machine's consoles, which belong to the agent.
 */
VIC_CHECK bool cgroup_device_policy(int cgroup_fd, bool privileged, struct vic_err *err);

#endif
