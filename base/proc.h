/* Child processes.
 *
 * proc_run is for pools (it blocks); proc_spawn is for long-lived children.  Never a shell: argv
 * only.  Every descriptor but the ones named is closed in the child; the child gets PDEATHSIG only
 * when asked.  Environment: the given list, or a minimal one (PATH, LANG=C) when NULL. */
#ifndef VIC_BASE_PROC_H
#define VIC_BASE_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "err.h"

struct proc_fd {
    int parent; /* descriptor here */
    int child;  /* its number there */
};

struct proc_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
    const char *const *env;  /* NULL-terminated, or NULL */
    const char *cwd;         /* or NULL */
    const struct proc_fd *fds;
    unsigned fd_count;
    int stdin_fd, stdout_fd, stderr_fd; /* -1 = /dev/null */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL; when the spawning THREAD ends */
    bool new_session;     /* setsid */
    uid_t uid;            /* 0 = keep; drops groups and sets no_new_privs */
    gid_t gid;            /* not 0 exactly when uid is not 0 */
    const char *netns;    /* path of a network namespace to enter, or NULL */
};

/* Starts a child; its signals are reset; exec failures come back here (through a close-on-exec
 * pipe), not as status 127. */
VIC_CHECK bool proc_spawn(const struct proc_spec *s, pid_t *pid, struct vic_err *err);

/* Runs to the end: 'in' is stdin (as an unnamed file), stdout and stderr are collected (stdout
 * beyond 1 MiB or the buffer's limit fails with VIC_TOO_LARGE), killed at the deadline
 * (VIC_TIMEOUT; negative = none).  A non-zero status fails with VIC_IO and the last line of stderr.
 * 'out' may be NULL; on failure it holds what came.  What the program leaves running in its session
 * is killed. */
VIC_CHECK bool proc_run(const char *const *argv, struct sv in, struct buf *out, int64_t timeout_ms,
                        struct vic_err *err);

/* waitpid with a deadline (negative = none); false with VIC_TIMEOUT when it still runs.  status as
 * waitpid's. */
VIC_CHECK bool proc_wait(pid_t pid, int64_t timeout_ms, int *status, struct vic_err *err);

/* Start time of a process in clock ticks since boot (/proc/PID/stat field 22): with the pid it
 * names a process for good.  0 when there is none. */
uint64_t proc_start_time(pid_t pid);

#endif
