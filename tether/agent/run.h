/* Role run: one container, once.
 *
 * run_new takes the spec, brings in the disk and makes spec and key durable on it; only then is
 * CONFIG acknowledged, and run_start launches.  The run ends when the container's PID namespace is
 * dead and its output has been handed over; then come, in this order, the journal, the line on the
 * console, EXIT, EXIT_ACK (bounded), unmount, power off. */
#ifndef VIC_TETHER_AGENT_RUN_H
#define VIC_TETHER_AGENT_RUN_H

#include "agent.h"

struct run *run_new(struct agent *a, struct sv config, struct json_val spec, const char **stage,
                    struct vic_err *err);
void run_start(struct run *r);
/* The same spec again (the hub did not hear the first CONFIG_ACK)? */
bool run_is_same(struct run *r, struct json_val spec);

/* Members "run", "exit" and "log_seq" of HELLO. */
void run_hello(struct run *r, struct json_writer *w);
void run_link_up(struct run *r, uint64_t log_seq);
void run_link_down(struct run *r);
void run_link_room(struct run *r);
void run_log_acked(struct run *r, uint64_t seq);
void run_exit_acked(struct run *r, uint64_t seq);

/* 'session' "" is the container's first process, else an exec's id. */
void run_signal(struct run *r, const char *session, int signum);
/* The stop signal now, SIGKILL after the grace. */
void run_stop(struct run *r, int signum, int64_t grace_ms);

/* Stream kinds (stream_opener); 'arg' is the struct agent. */
bool run_open_stdin(void *arg, struct stream *s, struct json_val open, const char **stage,
                    int *exit, struct vic_err *err);
bool run_open_exec(void *arg, struct stream *s, struct json_val open, const char **stage, int *exit,
                   struct vic_err *err);

#endif
