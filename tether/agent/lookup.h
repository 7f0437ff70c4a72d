/* Which file a command names, in the container's PATH, with Docker's errors. */
#ifndef VIC_TETHER_AGENT_LOOKUP_H
#define VIC_TETHER_AGENT_LOOKUP_H

#include <stddef.h>

#include "base/err.h"

enum { LAUNCH_CANNOT_RUN = 126, LAUNCH_NOT_FOUND = 127 };

/* Looks from the current folder and root.  'path' is the container's PATH or NULL for Docker's
 * default.  On failure '*exit' is 126 or 127 and the message is runc's (docker clients look for
 * "executable file not found", "no such file or directory", "permission denied" in it). */
VIC_CHECK bool lookup_command(const char *command, const char *path, char *out, size_t size,
                              int *exit, struct vic_err *err);
/* The text for an errno as runc has it, and the exit code that goes with it. */
const char *lookup_reason(int sys, int *exit);
/* The error of an execve that failed with 'sys'. */
bool lookup_exec_failed(const char *command, int sys, int *exit, struct vic_err *err);

#endif
