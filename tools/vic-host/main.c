/* vic-host: a single-machine host that speaks vSphere's API.  Command line and signals; the rest is
 * life.c. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "life.h"

struct options {
    const char *state_dir, *listen, *bridge, *netns, *qemu_user, *log_level;
    struct opt_strs datastores;
    bool strict, kvm, stop_vms;
};

#define OPT(name_, kind_, field, ...)                                                              \
    {                                                                                              \
        .name = (name_), .kind = (kind_), .offset = offsetof(struct options, field), __VA_ARGS__   \
    }

static const struct opt_def options[] = {
    OPT("state-dir", OPT_STR, state_dir, .arg = "DIR", .env = "VIC_HOST_STATE_DIR",
        .required = true, .help = "folder of all state; made when absent"),
    OPT("listen", OPT_STR, listen, .arg = "ADDRESS", .fallback = "tcp:127.0.0.1:8989",
        .help = "tcp:HOST:PORT, or netns:HOST:PORT for a socket inside --netns; port 0 is any"),
    OPT("datastore", OPT_STRS, datastores, .arg = "NAME=DIR",
        .help = "a datastore; may be given several times (default datastore1=STATE/datastore1)"),
    OPT("bridge", OPT_STR, bridge, .arg = "NAME", .fallback = "vic-bridge",
        .help = "name of the port group for containers"),
    OPT("netns", OPT_STR, netns, .arg = "NAME",
        .help = "network namespace for bridges and taps, made when absent; without it VMs have no "
                "network"),
    OPT("qemu-user", OPT_STR, qemu_user, .arg = "USER",
        .help = "unprivileged user that QEMU runs as (default: the caller)"),
    OPT("strict", OPT_FLAG, strict, .help = "model vSphere's traps"),
    OPT("kvm", OPT_FLAG, kvm, .help = "use KVM when a probe guest really runs"),
    OPT("stop-vms", OPT_FLAG, stop_vms,
        .help = "power off every VM of the state folder and exit; vic-host must not run"),
    OPT("log-level", OPT_ENUM, log_level, .arg = "LEVEL", .fallback = "info",
        .choices = "error|warn|info|debug", .help = "how much goes to stderr"),
};

static void wait_for_signal(const sigset_t *set)
{
    int got;
    while (sigwait(set, &got) != 0)
        ;
}

static bool serve(struct vh_life *l, const sigset_t *set, struct vic_err *err)
{
    if (!vh_serve(l, err))
        return false;
    printf("vic-host: listening on %s thumbprint %s\n", l->address, l->thumbprint);
    fflush(stdout);
    wait_for_signal(set);
    return true;
}

static int run(void *ctx, void *arg, struct opt_strs args)
{
    const struct options *o = arg;
    struct vh_config c = {o->state_dir,  o->listen, o->bridge, o->netns, o->qemu_user,
                          o->datastores, o->strict, o->kvm,    NULL};
    AUTO_FREE struct vh_life *l = xcalloc(1, sizeof *l);
    enum log_level level = LOG_INFO;
    struct vic_err err = {0};
    sigset_t set;
    (void)ctx;
    (void)args;
    umask(022);
    /* All threads inherit the mask; only this one waits for the signals. */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (!log_level_parse(sv_of(o->log_level), &level))
        level = LOG_INFO;
    c.log = log_new(STDERR_FILENO, level, "vic-host");
    bool good = vh_open(l, &c, &err) && (o->stop_vms ? vh_stop_vms(l, &err) : serve(l, &set, &err));
    vh_close(l);
    log_free(c.log);
    if (!good)
        fprintf(stderr, "vic-host: %s\n", err.msg);
    return good ? 0 : vic_code_exit(err.code);
}

int main(int argc, char **argv)
{
    static const struct opt_command commands[] = {{
        .size = sizeof(struct options),
        .opts = options,
        .opt_count = ARRAY_LEN(options),
        .help = "serve a vSphere-compatible API; virtual machines run on QEMU",
        .details = "On SIGTERM it ends and leaves the virtual machines running; the next start "
                   "finds them again.",
        .run = run,
    }};
    static const struct opt_program program = {
        .name = "vic-host",
        .help = "a single-machine vSphere-compatible host on QEMU",
        .version = VIC_VERSION,
        .commands = commands,
        .count = 1,
    };
    return opt_main(&program, argc, argv, NULL);
}
