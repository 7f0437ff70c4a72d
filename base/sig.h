/* Signal names of Linux on x86-64, both ways, as docker takes them: "TERM", "SIGTERM", "15", any
 * case, "RTMIN+3".  Our own table: the guest's numbers count, not the host's libc. */
#ifndef VIC_BASE_SIG_H
#define VIC_BASE_SIG_H

#include "sv.h"

enum { SIG_MAX = 64 };

int sig_parse(struct sv text);           /* 1..64; 0 when it is none */
bool sig_name(int signum, char out[16]); /* "SIGTERM", "SIGRTMIN+3" */

#endif
