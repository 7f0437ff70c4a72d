/* What is to be run, read from the JSON of CONFIG and OPEN (tether/wire.h).
 *
 * Everything is checked here once: lengths, counts, no NUL, numbers in range.  Texts live in the
 * arena that was given. */
#ifndef VIC_TETHER_AGENT_SPEC_H
#define VIC_TETHER_AGENT_SPEC_H

#include <sys/types.h>

#include "base/json.h"

enum { SPEC_MAX_LIST = 4096, SPEC_MAX_TARGET = 63 };

struct spec_list {
    const char **v; /* ends with NULL */
    size_t n;
};

struct spec_pair {
    const char *key, *value;
};
struct spec_pairs {
    struct spec_pair *v;
    size_t n;
};

struct spec_ulimit {
    int resource;
    uint64_t soft, hard;
};

/* A process: the container's first one, or an exec. */
struct spec_process {
    struct spec_list args, env, group_add;
    const char *cwd, *user;
    bool tty, open_stdin, privileged, no_new_privs;
    unsigned rows, cols;
    uint64_t caps; /* bit n = capability n */
    int oom_score_adj;
    const struct spec_ulimit *ulimits;
    size_t ulimit_count;
};

struct spec_run {
    struct spec_process process;
    const char *container, *name, *hostname, *domainname;
    uint64_t seq, rev;
    unsigned char key[32];
    unsigned disk;
    bool stdin_once, readonly, init;
    int stop_signal;
    uint64_t memory, shm_size;
    uint64_t cpus_milli, pids;
    struct spec_pairs tmpfs, sysctls;
    struct spec_list extra_hosts, dns, dns_search, dns_options;
};

VIC_CHECK bool spec_read_run(struct json_val v, struct arena *a, struct spec_run *out,
                             struct vic_err *err);
/* An exec in 'run': what it does not say is the container's.  Its environment is the container's
 * with its own on top. */
VIC_CHECK bool spec_read_exec(struct json_val v, const struct spec_run *run, struct arena *a,
                              struct spec_process *out, struct vic_err *err);

/* Value of NAME in a list of NAME=VALUE; NULL when absent. */
const char *spec_env(const struct spec_list *env, const char *name);

#endif
