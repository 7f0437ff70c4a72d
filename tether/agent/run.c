/* Role run: see run.h.
 *
 * Phases: STARTING (spec durable, program not yet exec'd), RUNNING, EXITED (the namespace is dead,
 * the output drained, the end in the journal).  run_advance() is called whenever something has
 * changed and takes the next step if its conditions hold; it remembers nothing but the phase.
 *
 * The end is told until it is acknowledged: EXIT follows the log entries on whatever connection
 * there is.  Connected without an answer it gives up after 10 s, disconnected after 5 minutes: the
 * journal on the disk keeps the truth. */
#include "run.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#include "boot.h"
#include "cgroup.h"
#include "container.h"
#include "run_state.h"

enum { ACK_MS = 10000, AWAY_MS = 300000, EXECS_MS = 2000 };

static const char *const phases[] = {"starting", "running", "exited"};

static void on_kill_timer(void *arg)
{
    struct run *r = arg;
    if (r->started && !r->process.exited)
        kill(r->process.child.pid, SIGKILL);
}

static void power_off(struct run *r)
{
    struct vic_err err;
    if (r->a->powering_off)
        return;
    poll_cancel(&r->a->loop, &r->kill_timer);
    if (!logs_all_acked(&r->logs) && !logs_keep(&r->logs, &err))
        boot_say("%s", err.msg);
    agent_power_off(r->a);
    logs_fini(&r->logs);
    run_leave_disk(r);
}

static void on_end_timer(void *arg)
{
    struct run *r = arg;
    if (!r->exit_acked)
        boot_say("nobody acknowledged the end of run %llu", (unsigned long long)r->spec.seq);
    power_off(r);
}

static void send_json(struct run *r, enum wire_type type,
                      void (*fill)(struct run *, struct json_writer *))
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    json_open(&w, NULL, '{');
    fill(r, &w);
    json_close(&w, '}');
    wire_put(link_out(&r->a->link), type, 0, buf_sv(&json));
    link_kick(&r->a->link);
}

static void fill_status(struct run *r, struct json_writer *w)
{
    json_add_u64(w, "seq", ++r->status_seq);
    json_add_str(w, "phase", phases[r->phase]);
    json_add_i64(w, "pid", r->pid);
    json_add_i64(w, "started_ns", r->started_ns);
}

static void fill_exit(struct run *r, struct json_writer *w)
{
    run_exit_json(r, w);
}

/* EXIT goes out when the connection has carried all of the log. */
static void send_exit(struct run *r)
{
    if (r->phase != RUN_EXITED || r->exit_sent || r->exit_acked || !link_is_up(&r->a->link) ||
        !logs_all_sent(&r->logs))
        return;
    r->exit_sent = true;
    send_json(r, WIRE_EXIT, fill_exit);
    poll_after(&r->a->loop, &r->end_timer, ACK_MS);
}

static void tell_exit(struct run *r)
{
    struct vic_err err;
    int code = r->exit.kind == RUN_EXIT_SIGNALED ? 128 + r->exit.value : r->exit.value;
    if (!run_write_journal(r, &err))
        boot_say("%s", err.msg);
    boot_say("run %llu exited %d", (unsigned long long)r->spec.seq, code);
    if (r->exit.error[0])
        boot_say("%s", r->exit.error);
    poll_after(&r->a->loop, &r->end_timer, AWAY_MS);
    send_exit(r);
}

static void become_exited(struct run *r)
{
    const struct process *p = &r->process;
    if (!r->started || p->state == PROCESS_FAILED) {
        r->exit.kind = RUN_EXIT_LAUNCH_FAILED;
        r->exit.value = p->launch_exit ? p->launch_exit : 126;
        snprintf(r->exit.error, sizeof r->exit.error, "%s", p->error.msg);
    } else if (WIFSIGNALED(p->status)) {
        r->exit.kind = RUN_EXIT_SIGNALED;
        r->exit.value = WTERMSIG(p->status);
    } else {
        r->exit.kind = RUN_EXIT_EXITED;
        r->exit.value = WEXITSTATUS(p->status);
    }
    r->exit.oom = r->started && cgroup_oom_kills() > 0;
    r->exit.ended_ns = clock_wall_ns(&vic_clock_real);
    r->exit.log_seq = r->logs.seq;
    r->phase = RUN_EXITED;
    poll_cancel(&r->a->loop, &r->kill_timer);
    run_io_stop(r);
    tell_exit(r);
}

static void become_running(struct run *r)
{
    struct vic_err err;
    r->phase = RUN_RUNNING;
    r->started_ns = clock_wall_ns(&vic_clock_real);
    if (r->process.tty) /* the master has come with the report */
        run_io_start(r);
    if (!run_write_journal(r, &err))
        boot_say("%s", err.msg);
    send_json(r, WIRE_STATUS, fill_status);
    if (r->stopping)
        run_stop(r, r->stop_signal, r->stop_grace_ms);
}

void run_advance(struct run *r)
{
    if (r->phase == RUN_STARTING && r->started && r->process.state == PROCESS_RUNNING)
        become_running(r);
    if (r->phase != RUN_EXITED && r->started && process_done(&r->process) && run_io_drained(r))
        become_exited(r);
    if (r->exit_acked && (LIST_EMPTY(&r->execs) || !link_is_up(&r->a->link)))
        power_off(r);
}

static void on_process(void *arg)
{
    run_advance(arg);
}

static bool prepare_child(void *arg, struct vic_err *err)
{
    struct run *r = arg;
    return container_enter(&r->spec, err);
}

void run_start(struct run *r)
{
    struct vic_err err = {0};
    if (r->phase == RUN_EXITED) { /* it had run before: the journal said so */
        tell_exit(r);
        return;
    }
    struct process_options o = {.spec = &r->spec.process,
                                .clone_flags =
                                    CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC,
                                .cgroup_fd = r->cgroup_fd,
                                .net_fd = r->a->net.first_fd,
                                .join_fd = -1,
                                .prepare = prepare_child,
                                .prepare_arg = r,
                                .init = r->spec.init,
                                .console = r->spec.process.tty};
    r->started = process_start(&r->process, &r->a->children, &o, on_process, r, &err);
    if (!r->started) {
        r->process.error = err;
        become_exited(r);
        return;
    }
    r->pid = r->process.child.pid;
    if (!r->process.tty)
        run_io_start(r);
}

struct run *run_new(struct agent *a, struct sv config, struct json_val spec, const char **stage,
                    struct vic_err *err)
{
    struct run *r = xcalloc(1, sizeof *r);
    *r = (struct run){
        .a = a,
        .vic_dir = -1,
        .cgroup_fd = -1,
    };
    process_init(&r->process, &a->loop);
    r->kill_timer = (struct poll_timer){.fn = on_kill_timer, .arg = r};
    r->end_timer = (struct poll_timer){.fn = on_end_timer, .arg = r};
    run_io_init(r);
    LIST_INIT(&r->stdins);
    LIST_INIT(&r->execs);
    *stage = "spec";
    if (!spec_read_run(spec, &r->arena, &r->spec, err) || !run_prepare(r, config, stage, err)) {
        run_leave_disk(r);
        arena_fini(&r->arena);
        free(r);
        return NULL;
    }
    logs_init(&r->logs, &a->link, r->vic_dir);
    r->logs.up = link_is_up(&a->link);
    link_set_key(&a->link, 2, r->spec.key);
    return r;
}

bool run_is_same(struct run *r, struct json_val spec)
{
    uint64_t seq;
    return strcmp(json_str(json_get(spec, "container"), ""), r->spec.container) == 0 &&
           json_read_u64(json_get(spec, "seq"), &seq) && seq == r->spec.seq;
}

void run_hello(struct run *r, struct json_writer *w)
{
    json_open(w, "run", '{');
    json_add_str(w, "container", r->spec.container);
    json_add_u64(w, "seq", r->spec.seq);
    json_add_u64(w, "rev", r->spec.rev);
    json_add_str(w, "phase", phases[r->phase]);
    json_add_i64(w, "pid", r->pid);
    json_add_i64(w, "started_ns", r->started_ns);
    json_close(w, '}');
    if (r->phase == RUN_EXITED && !r->exit_acked) {
        json_open(w, "exit", '{');
        run_exit_json(r, w);
        json_close(w, '}');
    }
    json_add_u64(w, "log_seq", r->logs.seq);
}

void run_link_up(struct run *r, uint64_t log_seq)
{
    r->exit_sent = false;
    logs_link_up(&r->logs, log_seq);
    run_link_room(r);
}

void run_link_down(struct run *r)
{
    logs_link_down(&r->logs);
    run_io_resume(r);
    if (r->phase == RUN_EXITED && !r->exit_acked)
        poll_after(&r->a->loop, &r->end_timer, AWAY_MS);
    run_advance(r);
}

void run_link_room(struct run *r)
{
    logs_pump(&r->logs);
    run_io_resume(r);
    send_exit(r);
}

void run_log_acked(struct run *r, uint64_t seq)
{
    logs_acked(&r->logs, seq);
    run_link_room(r);
}

void run_exit_acked(struct run *r, uint64_t seq)
{
    if (r->phase != RUN_EXITED || seq != r->spec.seq)
        return;
    r->exit_acked = true;
    poll_after(&r->a->loop, &r->end_timer, EXECS_MS); /* for execs that are still handing over */
    run_advance(r);
}

void run_signal(struct run *r, const char *session, int signum)
{
    if (session[0])
        execs_signal(r, session, signum);
    else if (r->started && !r->process.exited)
        kill(r->process.child.pid, signum);
}

void run_stop(struct run *r, int signum, int64_t grace_ms)
{
    if (r->phase == RUN_EXITED)
        return;
    r->stopping = true;
    r->stop_signal = signum;
    r->stop_grace_ms = grace_ms;
    if (r->phase != RUN_RUNNING) /* not before the program is there to hear it */
        return;
    run_signal(r, "", signum);
    if (grace_ms >= 0)
        poll_after(&r->a->loop, &r->kill_timer, grace_ms);
}
