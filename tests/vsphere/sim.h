/* The third-party simulator (tests/sim/vcsim) as a child: started on a free loopback port, ended
 * when its standard input closes. */
#ifndef VIC_TESTS_VSPHERE_SIM_H
#define VIC_TESTS_VSPHERE_SIM_H

#include <sys/types.h>

#include "vsphere/vsphere.h"

enum sim_kind { SIM_ESX, SIM_VCENTER, SIM_HOST, SIM_KINDS };

struct sim {
    enum sim_kind kind;
    pid_t pid;
    int stdin_fd;
    char url[128], thumbprint[96], password[64];
    char state[64]; /* vic-host's folder */
};

/* Aborts the test when it cannot be started. */
void sim_start(struct sim *s, enum sim_kind kind);
void sim_stop(struct sim *s);

/* Options for the simulator's root user. */
struct vsp_options sim_options(const struct sim *s);
/* The place that the simulator has by default. */
struct vsp_place_names sim_names(const struct sim *s);

#endif
