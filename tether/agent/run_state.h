/* What run.c, run_disk.c, run_io.c and exec.c share of a run. */
#ifndef VIC_TETHER_AGENT_RUN_STATE_H
#define VIC_TETHER_AGENT_RUN_STATE_H

#include "disk.h"
#include "logs.h"
#include "process.h"
#include "pump.h"
#include "run.h"

enum run_phase { RUN_STARTING, RUN_RUNNING, RUN_EXITED };
enum run_exit_kind { RUN_EXIT_EXITED, RUN_EXIT_SIGNALED, RUN_EXIT_LAUNCH_FAILED };

struct run_exit {
    enum run_exit_kind kind;
    int value;
    bool oom;
    char error[512];
    int64_t ended_ns;
    uint64_t log_seq;
};

struct run {
    struct agent *a;
    struct arena arena; /* the spec's texts */
    struct spec_run spec;
    struct disk disk;
    int vic_dir, cgroup_fd;
    enum run_phase phase;
    struct process process;
    bool started; /* process_start succeeded */
    struct logs logs;
    struct source out, err;
    struct sink in;
    LIST_HEAD(run_stdin_list, run_stdin) stdins;
    LIST_HEAD(exec_list, exec) execs;
    pid_t pid;
    int64_t started_ns;
    struct run_exit exit; /* valid when phase is EXITED */
    bool exit_sent, exit_acked, stopping;
    uint64_t status_seq;
    int stop_signal;
    int64_t stop_grace_ms;
    struct poll_timer kill_timer, end_timer;
};

/* run_disk.c: brings in the disk, makes spec and key durable.  '*stage' names what failed. */
VIC_CHECK bool run_prepare(struct run *r, struct sv config, const char **stage,
                           struct vic_err *err);
void run_leave_disk(struct run *r);
/* The journal's entry for this moment; fsync'ed. */
VIC_CHECK bool run_write_journal(struct run *r, struct vic_err *err);
/* Members of EXIT, which the journal and HELLO hold too. */
void run_exit_json(const struct run *r, struct json_writer *w);

/* run_io.c: the pipes or the tty, and the streams of kind "stdin". */
void run_io_init(struct run *r); /* stdin waits for the program */
void run_io_start(struct run *r);
bool run_io_drained(const struct run *r);
void run_io_resume(struct run *r);
void run_io_stop(struct run *r);

/* run.c: something of the run changed; goes on when it can. */
void run_advance(struct run *r);

/* exec.c */
void execs_signal(struct run *r, const char *id, int signum);

#endif
