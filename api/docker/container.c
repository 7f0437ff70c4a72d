/* What the API says of a container's state: Docker's words, made from spec and status.
 *
 * Docker knows no state between created and running: while a VM is being prepared the container
 * still is what it was.  A container whose first start failed stays "created", with its exit code
 * and error. */
#include "docker.h"

bool container_is_running(const struct store_container *c)
{
    return c->status.phase == store_run_phase_RUNNING || c->status.phase == store_run_phase_UNKNOWN;
}

bool container_is_starting(const struct store_container *c)
{
    return c->status.phase == store_run_phase_STARTING ||
           (c->run.want == store_run_want_RUNNING && c->run.seq > c->status.seq &&
            !container_is_running(c));
}

const char *container_state(const struct store_container *c)
{
    switch (c->status.phase) {
    case store_run_phase_RUNNING:
    case store_run_phase_UNKNOWN:
        return "running";
    case store_run_phase_RESTARTING:
        return "restarting";
    case store_run_phase_DEAD:
        return "dead";
    case store_run_phase_CREATED:
    case store_run_phase_STARTING:
    case store_run_phase_EXITED:
    case store_run_phase_COUNT:
        break;
    }
    return c->status.started || c->status.seq > 1 ? "exited" : "created";
}

/* Docker's units.HumanDuration. */
void duration_text(int64_t ns, struct buf *out)
{
    int64_t seconds = ns / 1000000000, minutes = seconds / 60;
    int64_t hours = (seconds + 1800) / 3600, whole = seconds / 3600;
    if (seconds < 1)
        buf_add_str(out, "Less than a second");
    else if (seconds == 1)
        buf_add_str(out, "1 second");
    else if (seconds < 60)
        buf_addf(out, "%lld seconds", (long long)seconds);
    else if (minutes == 1)
        buf_add_str(out, "About a minute");
    else if (minutes < 60)
        buf_addf(out, "%lld minutes", (long long)minutes);
    else if (hours == 1)
        buf_add_str(out, "About an hour");
    else if (hours < 48)
        buf_addf(out, "%lld hours", (long long)hours);
    else if (hours < 24 * 7 * 2)
        buf_addf(out, "%lld days", (long long)hours / 24);
    else if (hours < 24 * 30 * 2)
        buf_addf(out, "%lld weeks", (long long)hours / 24 / 7);
    else if (hours < 24 * 365 * 2)
        buf_addf(out, "%lld months", (long long)hours / 24 / 30);
    else
        buf_addf(out, "%lld years", (long long)whole / 24 / 365);
}

void container_status(const struct store_container *c, int64_t now_ns, struct buf *out)
{
    const struct store_run_status *r = &c->status;
    const char *state = container_state(c);
    if (strcmp(state, "running") == 0) {
        buf_add_str(out, "Up ");
        duration_text(now_ns - r->started, out);
    } else if (strcmp(state, "created") == 0) {
        buf_add_str(out, "Created");
    } else if (strcmp(state, "dead") == 0) {
        buf_add_str(out, "Dead");
    } else if (!r->ended) {
        buf_add_str(out, "");
    } else {
        buf_addf(out, "%s (%d) ", *state == 'r' ? "Restarting" : "Exited", r->exit_code);
        duration_text(now_ns - r->ended, out);
        buf_add_str(out, " ago");
    }
}

void container_command(const struct store_container *c, struct buf *out)
{
    buf_add_str(out, c->path);
    for (size_t i = 0; i < c->args.n; i++) {
        bool quote = strchr(c->args.v[i], ' ') != NULL;
        buf_add_str(out, quote ? " '" : " ");
        buf_add_str(out, c->args.v[i]);
        if (quote)
            buf_add_c(out, '\'');
    }
}

/* --- why it did not start -------------------------------------------------------------------- */
bool launch_fault_is_plain(const char *error)
{
    return sv_starts(sv_of(error), SV("unable to find user ")) ||
           sv_starts(sv_of(error), SV("unable to find group "));
}

const char *container_start_error(const struct store_container *k, struct arena *a)
{
    const struct store_run_status *r = &k->status;
    if (!r->error[0] || r->launched || launch_fault_is_plain(r->error))
        return r->error;
    bool command = r->exit_code == 126 || r->exit_code == 127;
    return arena_printf(a, "failed to create task for container: %s%s", r->error,
                        command ? ": unknown" : "");
}
