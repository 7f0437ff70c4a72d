/* Execs: private to exec.c (records) and exec_start.c (a started one).
 *
 * References: the table has one, each call that found it, the stream, the session of an attached
 * client, a job that ends it.  Lock order: execs.lock and exec.lock are never held together; both
 * come before the hub's. */
#ifndef VIC_API_DOCKER_EXEC_H
#define VIC_API_DOCKER_EXEC_H

#include <sys/queue.h>
#define HASH_FUNCTION HASH_OAT /* the default falls through cases, which clang warns of */
#include <uthash.h>

#include "output.h"

enum exec_state { EXEC_CREATED, EXEC_RUNNING, EXEC_ENDED };

struct exec {
    /* immutable once it is in the table */
    char id[65], container[65];
    char *open_json, *path, *user;
    char **args;
    size_t arg_count;
    bool tty, stdin_on, stdout_on, stderr_on, privileged;
    char detach_keys[64];
    struct execs *owner;
    atomic_uint refs;
    /* guarded: execs.lock */
    TAILQ_ENTRY(exec) link; /* oldest first */
    UT_hash_handle hh;
    enum exec_state state;
    bool settled; /* its end is being written */
    int exit_code;
    int64_t since_ns; /* when it came into its state */
    struct vic_mutex lock;
    struct hub_stream *stream VIC_GUARDED; /* by lock: while it runs */
    struct http_waker *waker VIC_GUARDED;  /* by lock: who listens; NULL: its output is dropped */
    bool ending VIC_GUARDED;               /* by lock: a job to end it is queued */
};

struct execs {
    struct api *api;
    struct vic_mutex lock;
    struct exec *all VIC_GUARDED;         /* by lock */
    TAILQ_HEAD(, exec) order VIC_GUARDED; /* by lock */
    size_t count VIC_GUARDED;             /* by lock */
};

struct exec *exec_find(struct call *c, const char *id); /* with a reference; NULL: no such exec */
struct exec *exec_ref(struct exec *e);
void exec_unref(struct exec *e);
/* Writes an event of it; 'code' NULL or the exit code. */
void exec_tell(const struct exec *e, const char *action, const char *code);
/* "exec_start: sh -c ls"; "exec_start: ls " has the blank that dockerd's has. */
const char *exec_action(const struct exec *e, struct arena *a, const char *what);
/* {"ConsoleSize":[rows, cols]}; zeros when absent. */
void exec_console_size(struct json_val v, unsigned *rows, unsigned *cols);

#endif
