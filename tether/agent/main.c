/* tether: PID 1 of every guest.
 *
 * The guest boots without knowing what it is for: it brings up the kernel's file systems and the
 * drivers of what it has, reads the envelope, moves the control NIC out of the workload's reach,
 * connects to the hub and says HELLO.  The hub then gives it a role with CONFIG (tether/wire.h):
 *   run     one container, once (run.c);
 *   worker  jobs on disks, each an own stream (job.c).
 * One thread, one loop (watch.h).  Whatever touches the image's files does so in a child. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#include "agent.h"
#include "boot.h"
#include "job.h"
#include "run.h"

enum { FLUSH_MS = 2000, CLOCK_SLACK_NS = 1000000000 };

static const char *const role_names[] = {"none", "run", "worker"};

static int64_t uptime_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void hello(void *arg, struct buf *json)
{
    struct agent *a = arg;
    struct json_writer w = json_writer(json);
    json_open(&w, NULL, '{');
    json_add_i64(&w, "proto", WIRE_PROTO);
    json_add_str(&w, "build", VIC_VERSION);
    json_add_str(&w, "vm", a->envelope.vm);
    json_add_str(&w, "boot", a->boot);
    json_add_str(&w, "role", role_names[a->role]);
    json_add_i64(&w, "uptime_ms", uptime_ms());
    if (a->run)
        run_hello(a->run, &w);
    json_close(&w, '}');
}

/* Sets the clock by the endpoint's, but never under a running workload. */
static void set_clock(struct agent *a, int64_t time_ns)
{
    int64_t off = time_ns - clock_wall_ns(&vic_clock_real);
    if (time_ns <= 0 || a->run || (off < CLOCK_SLACK_NS && off > -CLOCK_SLACK_NS))
        return;
    struct timespec t = {.tv_sec = time_ns / 1000000000, .tv_nsec = time_ns % 1000000000};
    clock_settime(CLOCK_REALTIME, &t);
}

static void on_up(void *arg, uint64_t log_seq, int64_t time_ns)
{
    struct agent *a = arg;
    boot_say("connected to %s after %lld ms", a->envelope.endpoint, (long long)uptime_ms());
    set_clock(a, time_ns);
    if (a->run)
        run_link_up(a->run, log_seq);
}

static void on_down(void *arg)
{
    struct agent *a = arg;
    streams_lost(&a->streams);
    if (a->run)
        run_link_down(a->run);
}

static void on_room(void *arg)
{
    struct agent *a = arg;
    if (a->run)
        run_link_room(a->run);
    streams_room(&a->streams);
}

static void config_ack(struct agent *a, uint64_t gen, const struct vic_err *err, const char *stage)
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    json_open(&w, NULL, '{');
    json_add_u64(&w, "gen", gen);
    json_add_bool(&w, "ok", !err);
    if (err) {
        json_add_str(&w, "error", err->msg);
        json_add_i64(&w, "errno", err->sys);
        json_add_str(&w, "stage", stage);
    }
    json_close(&w, '}');
    wire_put(link_out(&a->link), WIRE_CONFIG_ACK, 0, buf_sv(&json));
    link_kick(&a->link);
}

static bool config_role(struct agent *a, struct sv payload, struct json_val v, const char **stage,
                        struct vic_err *err)
{
    const char *role = json_str(json_get(v, "role"), "");
    *stage = "role";
    if (strcmp(role, "worker") == 0 && a->role != ROLE_RUN) {
        a->role = ROLE_WORKER;
        return true;
    }
    if (strcmp(role, "run") != 0)
        return vic_fail(err, VIC_INVALID, 0, "role %.20s cannot follow role %s", role,
                        role_names[a->role]);
    if (a->role == ROLE_WORKER)
        return vic_fail(err, VIC_CONFLICT, 0, "a worker runs no container");
    if (a->run)
        return run_is_same(a->run, json_get(v, "spec")) ||
               vic_fail(err, VIC_CONFLICT, 0, "this guest has a run already");
    a->run = run_new(a, payload, json_get(v, "spec"), stage, err);
    if (a->run)
        a->role = ROLE_RUN;
    return a->run != NULL;
}

static bool on_config(struct agent *a, struct sv payload, struct vic_err *err)
{
    AUTO_ARENA struct arena arena = {0};
    struct json_val v;
    struct vic_err why = {0};
    const char *stage = "";
    uint64_t gen = 0;
    if (!json_parse(payload, 32768, &arena, &v, err))
        return vic_wrap(err, "CONFIG");
    if (!json_read_u64(json_get(v, "gen"), &gen))
        return vic_fail(err, VIC_PROTOCOL, 0, "CONFIG without gen");
    bool fresh = !a->run;
    bool ok = config_role(a, payload, v, &stage, &why);
    config_ack(a, gen, ok ? NULL : &why, stage);
    if (!ok)
        boot_say("configuration refused: %s", why.msg);
    else if (a->run && fresh)
        run_start(a->run);
    return true;
}

static bool on_signal(struct agent *a, struct sv payload, struct vic_err *err)
{
    AUTO_ARENA struct arena arena = {0};
    struct json_val v;
    if (!json_parse(payload, 256, &arena, &v, err))
        return vic_wrap(err, "SIGNAL");
    int64_t signum = json_i64(json_get(v, "signal"), 0);
    if (signum < 1 || signum > 64)
        return vic_fail(err, VIC_PROTOCOL, 0, "SIGNAL %lld", (long long)signum);
    if (a->run)
        run_signal(a->run, json_str(json_get(v, "session"), ""), (int)signum);
    return true;
}

static bool on_shutdown(struct agent *a, struct sv payload, struct vic_err *err)
{
    AUTO_ARENA struct arena arena = {0};
    struct json_val v;
    if (!json_parse(payload, 256, &arena, &v, err))
        return vic_wrap(err, "SHUTDOWN");
    int64_t signum = json_i64(json_get(v, "signal"), SIGTERM);
    if (signum < 1 || signum > 64)
        return vic_fail(err, VIC_PROTOCOL, 0, "SHUTDOWN with signal %lld", (long long)signum);
    if (a->run)
        run_stop(a->run, (int)signum, json_i64(json_get(v, "grace_ms"), 10000));
    else
        agent_power_off(a);
    return true;
}

static bool on_exit_ack(struct agent *a, struct sv payload, struct vic_err *err)
{
    AUTO_ARENA struct arena arena = {0};
    struct json_val v;
    uint64_t seq;
    if (!json_parse(payload, 256, &arena, &v, err))
        return vic_wrap(err, "EXIT_ACK");
    if (a->run && json_read_u64(json_get(v, "seq"), &seq))
        run_exit_acked(a->run, seq);
    return true;
}

static bool on_log_ack(struct agent *a, struct sv payload, struct vic_err *err)
{
    uint64_t seq;
    if (!wire_take_u64(payload, &seq, err))
        return false;
    if (a->run)
        run_log_acked(a->run, seq);
    return true;
}

static bool on_frame(void *arg, const struct wire_frame *f, struct vic_err *err)
{
    static bool (*const control[WIRE_TYPES])(struct agent *, struct sv, struct vic_err *) = {
        [WIRE_CONFIG] = on_config,     [WIRE_SIGNAL] = on_signal,   [WIRE_SHUTDOWN] = on_shutdown,
        [WIRE_EXIT_ACK] = on_exit_ack, [WIRE_LOG_ACK] = on_log_ack,
    };
    struct agent *a = arg;
    if (f->stream != 0)
        return streams_frame(&a->streams, f, err);
    if (f->type < WIRE_TYPES && control[f->type])
        return control[f->type](a, f->payload, err);
    if (f->type == WIRE_STATUS_ACK || f->type >= WIRE_TYPES)
        return true;
    return vic_fail(err, VIC_PROTOCOL, 0, "frame of type %d from the hub", (int)f->type);
}

void agent_power_off(struct agent *a)
{
    int64_t deadline = poll_now_ms() + FLUSH_MS;
    a->powering_off = true;
    link_kick(&a->link);
    while (link_is_up(&a->link) && !link_flushed(&a->link) && poll_now_ms() < deadline)
        poll_once(&a->loop, 10);
    boot_say("powering off");
    a->loop.stop = true;
}

static bool open_link(struct agent *a, struct vic_err *err)
{
    unsigned char address[16];
    unsigned port;
    if (!link_parse_endpoint(a->envelope.endpoint, address, &port))
        return vic_fail(err, VIC_INVALID, 0, "endpoint %s", a->envelope.endpoint);
    link_init(&a->link, &(struct link_options){.loop = &a->loop,
                                               .vm = a->envelope.vm,
                                               .endpoint = a->envelope.endpoint,
                                               .ifindex = a->net.ifindex,
                                               .key = a->envelope.key,
                                               .arg = a,
                                               .hello = hello,
                                               .on_up = on_up,
                                               .on_down = on_down,
                                               .on_room = on_room,
                                               .on_frame = on_frame});
    link_start(&a->link);
    return true;
}

static bool boot(struct agent *a, struct vic_err *err)
{
    if (!boot_mounts(err) || !boot_modules(err) || !boot_new_root(err) || !boot_cgroups(err) ||
        !boot_id(a->boot, err) || !poll_init(&a->loop, err) ||
        !children_init(&a->children, &a->loop, err))
        return false;
    boot_say("tether %s booted after %lld ms", VIC_VERSION, (long long)uptime_ms());
    return guestinfo_open(&a->guestinfo, err) &&
           guestinfo_envelope(&a->guestinfo, &a->envelope, err) &&
           net_init(&a->net, a->envelope.mac, err) && open_link(a, err);
}

/* PID 1 has no terminal and may not be ended by a signal or a broken pipe. */
static void first_steps(void)
{
    signal(SIGPIPE, SIG_IGN);
    setsid();
    int null = open("/dev/null", O_RDONLY);
    if (null > 0)
        close(null);
}

int main(void)
{
    struct agent a = {.guestinfo = {.fd = -1}};
    struct vic_err err = {0};
    const struct stream_kind kinds[] = {
        {"stdin", run_open_stdin, &a}, {"exec", run_open_exec, &a}, {"job", job_open, &a}, {0}};
    streams_init(&a.streams, &a.link, kinds);
    first_steps();
    if (boot(&a, &err)) {
        boot_say("vm %s is ready for a role", a.envelope.vm);
        poll_run(&a.loop);
    } else {
        boot_say("cannot start: %s", err.msg);
    }
    boot_power_off();
    return 1;
}
