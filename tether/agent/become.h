/* The child's side of starting a process: from a copy of the agent to the image's program. */
#ifndef VIC_TETHER_AGENT_BECOME_H
#define VIC_TETHER_AGENT_BECOME_H

#include "process.h"

enum become_kind { BECOME_TTY = 1, BECOME_FAILED };

/* One message on the report socket; BECOME_TTY carries the master's descriptor. */
struct become_report {
    enum become_kind kind;
    enum vic_code code;
    int exit, sys;
    char stage[16];
    char text[512];
};

/* As recvmsg; '*fd' = the descriptor that came along, or -1. */
ssize_t become_receive(int socket, struct become_report *out, int *fd);

/* 'pipes' = the child's ends of stdin, stdout, stderr (-1: none).  Never returns. */
_Noreturn void become(const struct process_options *o, const int pipes[3], int report);

#endif
