/* The run controller.
 *
 * A container that is created or stopped costs no VM.  A run is (container, seq): it begins when
 * spec.run.seq goes beyond status.run.seq, and walks
 *
 *   CREATED/EXITED -> STARTING   one commit: the run's number, a VM reserved for it
 *   STARTING                     wait for the VM's HELLO; attach the disk (one ReconfigVM_Task);
 * send the spec; its ack means that spec and key are synced on the disk STARTING -> RUNNING the
 * guest said that the process was executed: the start event
 *   ... -> EXITED                the guest's EXIT: status and die event in one commit, then
 * EXIT_ACK; so an exit is counted exactly once, whatever crashes
 *
 * Before the ack a VM that fails is destroyed and another one taken (START_TRIES times); after it
 * the run is bound to its VM.  A VM that is off without having told its run's end tells it by the
 * last line of its console file; failing that the run counts as killed (137).
 *
 * Stopping is an intent (want = stopped for a seq); the tether sends the signals and keeps the
 * grace; control powers the VM off when it does not end in time.
 *
 * A removed container is a tombstone until its VM has let go of its disk; then the record goes and
 * the disk is deleted on its own. */
#include <signal.h>
#include <stdio.h>

#include "base/mem.h"
#include "ctl.h"

enum {
    START_TRIES = 5,
    RUN_TARGET = 1,
    EXIT_LOST = 137,
    EXIT_NOT_STARTED = 128,
    OUTPUT_MS = 10000
};

static bool read_disk(struct step *s, const struct store_container *c, struct store_disk *d)
{
    return step_get(s, STORE_DISK, c->disk, d);
}

/* --- the end of a run
 * ----------------------------------------------------------------------------- */
struct ending {
    int code;
    bool oom, launched;
    const char *error;
    int64_t started, ended;
};

static int exit_code(const struct hub_exit *e)
{
    switch (e->kind) {
    case HUB_EXIT_EXITED:
        return e->value & 0xFF;
    case HUB_EXIT_SIGNALED:
        return 128 + e->value;
    case HUB_EXIT_LAUNCH_FAILED:
        return e->value;
    }
    return EXIT_LOST;
}

static void add_end_events(struct step *s, struct tx *t, const struct store_container *c,
                           const struct ending *e, bool stopped, bool removed)
{
    char *code = arena_printf(s->a, "%d", e->code);
    char *secs = arena_printf(
        s->a, "%lld",
        (long long)(c->status.started ? (c->status.ended - c->status.started) / 1000000000 : 0));
    if (e->oom)
        tx_container_event(s, t, c, "oom", NULL);
    tx_container_event(s, t, c, "die", "execDuration", secs, "exitCode", code, NULL);
    if (stopped && c->run.stop_signal != SIGKILL) /* a kill is a stop order too, but no "stop" */
        tx_container_event(s, t, c, "stop", NULL);
    if (removed)
        tx_container_event(s, t, c, "destroy", NULL);
}

/* One commit: status, events, the VM's doom; with --rm the container's removal too. */
static enum ctl_verdict finish_run(struct step *s, struct store_container *c, struct store_vm *vm,
                                   const struct ending *e, const char *why)
{
    struct tx t = {0};
    struct store_run_status *r = &c->status;
    bool stopped = c->run.want == store_run_want_STOPPED && c->run.stop_seq == r->seq;
    r->phase = store_run_phase_EXITED;
    r->exit_code = e->code;
    r->oom = e->oom;
    r->error = e->error;
    r->pid = 0;
    r->manual_stop = stopped;
    if (e->started)
        r->started = e->started;
    r->ended = e->ended ? e->ended : s->now_ns;
    bool removed = c->host_config.auto_remove && !c->meta.deleted && e->launched;
    if (removed)
        c->meta.deleted = s->now_ns;
    add_end_events(s, &t, c, e, stopped, removed);
    tx_put(&t, STORE_CONTAINER, c);
    if (vm) {
        vm_doom(s, vm, why);
        tx_put(&t, STORE_VM, vm);
    }
    log_info(s->c->log, "run.ended", KV_S("container", c->meta.id), KV_U("seq", r->seq),
             KV_I("exit", e->code), KV_S("error", e->error));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* A guest that comes back tells its run's end first and its last output then: that is waited for,
 * as long as it may well come. */
static bool output_is_behind(struct step *s, const struct hub_guest *g)
{
    int64_t waited_ms = (s->now_ns - g->hello_ns) / 1000000;
    s->after_ms = OUTPUT_MS - waited_ms + 1;
    return g->connected && g->exit.log_seq > g->log_seq && waited_ms < OUTPUT_MS;
}

static enum ctl_verdict take_exit(struct step *s, struct store_container *c, struct store_vm *vm,
                                  const struct hub_guest *g)
{
    const struct hub_exit *x = &g->exit;
    if (output_is_behind(s, g))
        return CTL_WAIT;
    struct ending e = {
        .code = exit_code(x),
        .oom = x->oom,
        .launched = true,
        .error = arena_strdup(s->a, x->error),
        .started = x->started_ns,
        .ended = x->ended_ns,
    };
    if (x->kind == HUB_EXIT_LAUNCH_FAILED) {
        e.launched = false;
        e.started = 0;
    }
    logs_flush(s->c->o.logs, c->meta.id); /* output is readable before the end is */
    return finish_run(s, c, vm, &e, VM_WHY_EXITED);
}

/* "vic: run SEQ exited CODE" on the console file: the last words of a run whose EXIT was not heard.
 */
static bool console_exit(struct step *s, const struct store_vm *vm, uint64_t seq, int *code)
{
    struct store_vch vch;
    AUTO_BUF struct buf text = {0};
    if (!step_get(s, STORE_VCH, "vch", &vch))
        return false;
    const char *path = arena_printf(s->a, "%s/console/%s.log", vch.image_store, vm->meta.id);
    if (!vsp_file_get(s->c->o.vsp, &s->c->place, path, 1 << 20, &text, s->err))
        return false;
    char *mark = arena_printf(s->a, "vic: run %llu exited ", (unsigned long long)seq);
    const char *last = NULL;
    for (const char *p = buf_str(&text); (p = strstr(p, mark)); p++)
        last = p;
    uint64_t n;
    if (!last)
        return false;
    struct sv rest = sv_of(last + strlen(mark));
    rest = sv_trim(sv_cut(&rest, '\n'));
    if (!sv_to_u64(rest, &n) || n > 255)
        return false;
    *code = (int)n;
    return true;
}

/* The VM is off or gone and said nothing. */
static enum ctl_verdict lost_run(struct step *s, struct store_container *c, struct store_vm *vm)
{
    struct ending e = {.code = EXIT_LOST, .launched = true, .error = ""};
    if (!vm || !console_exit(s, vm, c->status.seq, &e.code)) {
        if (vm && s->err->code != VIC_NOT_FOUND && vic_code_retry(s->err->code))
            return CTL_FAIL;
        log_warn(s->c->log, "run.lost", KV_S("container", c->meta.id), KV_U("seq", c->status.seq));
    }
    return finish_run(s, c, vm, &e, "its run's VM was powered off");
}

/* --- beginning
 * ---------------------------------------------------------------------------------------- */
static bool idle_vm(void *arg, const void *record)
{
    const struct store_vm *vm = record;
    return vm->phase == store_vm_phase_IDLE && vm->class_mb == *(uint32_t *)arg;
}

/* Takes a waiting VM, or reserves a new one; into '*vm', for the caller's commit. */
static bool take_vm(struct step *s, const struct store_vch *vch, const struct store_container *c,
                    struct store_vm **vm)
{
    void **idle;
    size_t count;
    uint32_t class_mb = vch->class_mb;
    if (!step_list(s, STORE_VM, idle_vm, &class_mb, &idle, &count))
        return false;
    *vm = NULL;
    for (size_t i = 0; i < count && !*vm; i++) {
        struct store_vm *candidate = idle[i];
        struct hub_guest g;
        if (hub_guest(s->c->hub, candidate->meta.id, &g) && g.connected &&
            g.role == HUB_ROLE_NONE) {
            candidate->phase = store_vm_phase_TAKEN;
            candidate->role = store_vm_role_RUN;
            candidate->taken = s->now_ns;
            *vm = candidate;
        }
    }
    if (!*vm)
        *vm = vm_reserve(s, vch, store_vm_role_RUN);
    (*vm)->container = c->meta.id;
    (*vm)->seq = c->status.seq;
    return true;
}

static enum ctl_verdict place_run(struct step *s, struct store_container *c)
{
    struct store_vch vch;
    struct store_vm *vm;
    struct tx t = {0};
    if (!step_get(s, STORE_VCH, "vch", &vch) || !take_vm(s, &vch, c, &vm))
        return CTL_FAIL;
    c->status.vm = vm->meta.id;
    c->status.config_gen = 0;
    c->status.config_acked = false;
    tx_put(&t, STORE_CONTAINER, c);
    tx_put(&t, STORE_VM, vm);
    return tx_commit(s, &t, CTL_DONE); /* the VM's progress wakes us */
}

static enum ctl_verdict begin_run(struct step *s, struct store_container *c)
{
    uint32_t restarts = c->status.restart_count;
    c->status = (struct store_run_status){
        .seq = c->run.seq,
        .phase = store_run_phase_STARTING,
        .vm = "",
        .error = "",
        .boot = "",
        .restart_count = restarts,
    };
    return place_run(s, c);
}

/* --- starting
 * ----------------------------------------------------------------------------------------- */
/* Gives up this VM; another one is taken, unless too many have failed. */
static enum ctl_verdict retry_run(struct step *s, struct store_container *c, struct store_vm *vm,
                                  const char *why)
{
    c->status.tries++;
    if (c->status.tries >= START_TRIES || c->run.want == store_run_want_STOPPED) {
        struct ending e = {.code = EXIT_NOT_STARTED,
                           .error = arena_printf(s->a, "the container's VM failed: %s", why)};
        return finish_run(s, c, vm && vm->phase != store_vm_phase_DYING ? vm : NULL, &e, why);
    }
    struct tx t = {0};
    c->status.vm = "";
    c->status.config_gen = 0;
    tx_put(&t, STORE_CONTAINER, c);
    if (vm && vm->phase != store_vm_phase_DYING) {
        vm_doom(s, vm, why);
        tx_put(&t, STORE_VM, vm);
    }
    log_warn(s->c->log, "run.retry", KV_S("container", c->meta.id), KV_S("why", why));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* The VM is off, and the guest has not said that it got its spec.  It may have got it all the same,
 * and its run have ended: then its console tells; else the run goes to another VM. */
static enum ctl_verdict off_early(struct step *s, struct store_container *c, struct store_vm *vm)
{
    struct ending e = {.launched = true, .error = ""};
    if (console_exit(s, vm, c->status.seq, &e.code))
        return finish_run(s, c, vm, &e, "its run's VM was powered off");
    if (s->err->code != VIC_NOT_FOUND && vic_code_retry(s->err->code))
        return CTL_FAIL;
    return retry_run(s, c, vm, "it was powered off");
}

static enum ctl_verdict running_now(struct step *s, struct store_container *c,
                                    const struct hub_guest *g)
{
    struct tx t = {0};
    c->status.phase = store_run_phase_RUNNING;
    c->status.launched = true;
    c->status.pid = g->pid;
    c->status.started = g->started_ns ? g->started_ns : s->now_ns;
    c->status.boot = g->boot;
    tx_put(&t, STORE_CONTAINER, c);
    tx_container_event(s, &t, c, "start", NULL);
    log_info(s->c->log, "run.started", KV_S("container", c->meta.id), KV_U("seq", c->status.seq),
             KV_S("vm", c->status.vm));
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* Is the guest's last CONFIG_ACK, or the role it said HELLO with, about this run? */
static bool guest_has_run(const struct hub_guest *g, const struct store_container *c)
{
    return g->role == HUB_ROLE_RUN && strcmp(g->container, c->meta.id) == 0 &&
           g->seq == c->status.seq;
}

static enum ctl_verdict configure(struct step *s, struct store_container *c, struct store_vm *vm,
                                  struct store_disk *d, const struct hub_guest *g)
{
    if (g->config_gen == c->status.seq) { /* refused: this container cannot start */
        struct ending e = {.code = EXIT_NOT_STARTED, .error = arena_strdup(s->a, g->config_error)};
        return finish_run(s, c, vm, &e, g->config_error);
    }
    if (g->role != HUB_ROLE_NONE)
        return retry_run(s, c, vm, "it already serves another run");
    AUTO_BUF struct buf config = {0};
    if (!spec_render(s, c, vm, d, c->meta.revision, &config)) {
        struct ending e = {.code = EXIT_NOT_STARTED, .error = arena_strdup(s->a, s->err->msg)};
        return finish_run(s, c, vm, &e, "its spec was refused");
    }
    bool sent = hub_config(s->c->hub, vm->meta.id, buf_sv(&config), s->err);
    explicit_bzero(config.data, config.len);
    if (!sent)
        return CTL_FAIL;
    return CTL_WAIT; /* the ack wakes us; sending it again is harmless */
}

/* Spec and key are on the disk: from now on the run is bound to its VM. */
static enum ctl_verdict note_ack(struct step *s, struct store_container *c)
{
    struct tx t = {0};
    c->status.config_acked = true;
    tx_put(&t, STORE_CONTAINER, c);
    s->after_ms = 0;
    return tx_commit(s, &t, CTL_AGAIN);
}

/* The VM is up, and serves or will serve this run. */
static enum ctl_verdict start_on(struct step *s, struct store_container *c, struct store_vm *vm,
                                 const struct hub_guest *g)
{
    struct store_disk d;
    if (c->status.config_acked) {
        if (guest_has_run(g, c) && g->phase == HUB_PHASE_RUNNING)
            return running_now(s, c, g);
        return CTL_WAIT;
    }
    if (strcmp(g->boot, vm->boot) != 0)
        return retry_run(s, c, vm, "it booted again before it had its spec");
    if (!read_disk(s, c, &d))
        return CTL_FAIL;
    enum ctl_verdict verdict = disk_attach(s, &d, vm, RUN_TARGET);
    if (verdict == CTL_FAIL && s->refused && !vic_code_retry(s->err->code)) {
        const char *why = arena_strdup(s->a, s->err->msg);
        return step_get(s, STORE_VM, vm->meta.id, vm) ? retry_run(s, c, vm, why) : CTL_FAIL;
    }
    return verdict == CTL_DONE ? configure(s, c, vm, &d, g) : verdict;
}

static enum ctl_verdict starting(struct step *s, struct store_container *c)
{
    struct store_vm vm;
    struct hub_guest g;
    if (!c->status.vm[0])
        return place_run(s, c);
    bool there = step_get(s, STORE_VM, c->status.vm, &vm);
    if (!there && s->err->code != VIC_NOT_FOUND)
        return CTL_FAIL;
    bool known = hub_guest(s->c->hub, c->status.vm, &g);
    if (there && known && g.exit.set && g.exit.seq == c->status.seq &&
        strcmp(g.exit.container, c->meta.id) == 0)
        return take_exit(s, c, &vm, &g);
    if (known && !c->status.config_acked && guest_has_run(&g, c))
        return note_ack(s, c);
    if (!c->status.config_acked && c->run.want == store_run_want_STOPPED &&
        c->run.stop_seq == c->status.seq) {
        struct ending e = {.code = EXIT_LOST, .error = ""};
        return finish_run(s, c, there ? &vm : NULL, &e, "its run was stopped before it began");
    }
    if (!there)
        return c->status.config_acked ? lost_run(s, c, NULL) : retry_run(s, c, NULL, "it is gone");
    if (vm.phase == store_vm_phase_DYING && !c->status.config_acked)
        return retry_run(s, c, &vm, vm.why);
    if (vm.phase != store_vm_phase_TAKEN && vm.phase != store_vm_phase_DYING)
        return CTL_WAIT;
    int off = vm_off(s, &vm);
    if (off)
        return off < 0                  ? CTL_FAIL
               : c->status.config_acked ? lost_run(s, c, &vm)
                                        : off_early(s, c, &vm);
    if (!known || !g.connected || vm.phase == store_vm_phase_DYING)
        return CTL_WAIT;
    return start_on(s, c, &vm, &g);
}

/* --- running
 * ------------------------------------------------------------------------------------------ */
static enum ctl_verdict stopping(struct step *s, struct store_container *c, struct store_vm *vm)
{
    int64_t grace_ms = c->run.stop_timeout_ms;
    if (!c->status.stop_since) {
        struct tx t = {0};
        c->status.stop_since = s->now_ns;
        tx_put(&t, STORE_CONTAINER, c);
        s->after_ms = 0;
        return tx_commit(s, &t, CTL_AGAIN);
    }
    int64_t waited_ms = (s->now_ns - c->status.stop_since) / 1000000;
    if (grace_ms >= 0 && waited_ms > grace_ms + CTL_STOP_SLACK_MS) {
        struct tx t = {0};
        vm_doom(s, vm, "its run did not stop in time");
        tx_put(&t, STORE_VM, vm);
        return tx_commit(s, &t, CTL_WAIT);
    }
    /* Sent again at each look: the tether counts the grace from the first. */
    if (!hub_shutdown(s->c->hub, vm->meta.id, grace_ms, (int)c->run.stop_signal, s->err) &&
        s->err->code != VIC_UNAVAILABLE)
        return CTL_FAIL;
    s->after_ms = 2000;
    return CTL_WAIT;
}

static enum ctl_verdict running(struct step *s, struct store_container *c)
{
    struct store_vm vm;
    struct hub_guest g;
    bool there = step_get(s, STORE_VM, c->status.vm, &vm);
    if (!there && s->err->code != VIC_NOT_FOUND)
        return CTL_FAIL;
    bool known = hub_guest(s->c->hub, c->status.vm, &g);
    if (known && g.exit.set && g.exit.seq == c->status.seq &&
        strcmp(g.exit.container, c->meta.id) == 0)
        return take_exit(s, c, there ? &vm : NULL, &g);
    int off = there ? vm_off(s, &vm) : 1;
    if (off)
        return off < 0 ? CTL_FAIL : lost_run(s, c, there ? &vm : NULL);
    if (c->run.want == store_run_want_STOPPED && c->run.stop_seq == c->status.seq &&
        vm.phase != store_vm_phase_DYING)
        return stopping(s, c, &vm);
    return CTL_DONE;
}

/* --- after
 * -------------------------------------------------------------------------------------------- */
/* Tells the guest that its run's end is stored.  Repeated harmlessly until it has gone. */
static void ack_exit(struct step *s, const struct store_container *c)
{
    struct hub_guest g;
    struct vic_err ignored;
    if (c->status.vm[0] && hub_guest(s->c->hub, c->status.vm, &g) && g.exit.set && g.connected &&
        strcmp(g.exit.container, c->meta.id) == 0 && g.exit.seq <= c->status.seq &&
        !hub_exit_ack(s->c->hub, c->status.vm, g.exit.seq, &ignored))
        log_debug(s->c->log, "exit.ack.unsent", KV_S("container", c->meta.id));
}

/* A tombstone goes once no VM holds its disk; the disk is then deleted on its own. */
static enum ctl_verdict bury(struct step *s, struct store_container *c)
{
    struct store_vm vm;
    struct store_disk d;
    struct tx t = {0};
    if (c->status.vm[0] && step_get(s, STORE_VM, c->status.vm, &vm) &&
        strcmp(vm.container, c->meta.id) == 0 && vm.phase != store_vm_phase_DYING) {
        vm_doom(s, &vm, "its container was removed");
        tx_put(&t, STORE_VM, &vm);
        s->after_ms = 0;
        return tx_commit(s, &t, CTL_AGAIN);
    }
    bool have = c->disk[0] && read_disk(s, c, &d);
    if (c->disk[0] && !have && s->err->code != VIC_NOT_FOUND)
        return CTL_FAIL;
    if (have && d.holder[0])
        return CTL_WAIT;
    if (have) {
        d.phase = store_disk_phase_DELETING;
        tx_put(&t, STORE_DISK, &d);
    }
    tx_del(&t, STORE_CONTAINER, c);
    enum ctl_verdict verdict = tx_commit(s, &t, CTL_DONE);
    if (verdict == CTL_DONE) {
        logs_remove(s->c->o.logs, c->meta.id);
        if (c->image[0])
            ctl_wake(s->c, STORE_IMAGE, c->image);
    }
    return verdict;
}

static bool wants_run(const struct store_container *c)
{
    return c->run.want == store_run_want_RUNNING && c->status.seq < c->run.seq;
}

enum ctl_verdict container_step(struct step *s, const char *id)
{
    struct store_container c;
    if (!step_get(s, STORE_CONTAINER, id, &c))
        return s->err->code == VIC_NOT_FOUND ? CTL_DONE : CTL_FAIL;
    switch (c.status.phase) {
    case store_run_phase_STARTING:
        return c.meta.deleted && !c.status.config_acked ? bury(s, &c) : starting(s, &c);
    case store_run_phase_RUNNING:
    case store_run_phase_UNKNOWN:
        return running(s, &c);
    case store_run_phase_CREATED:
    case store_run_phase_EXITED:
    case store_run_phase_RESTARTING:
    case store_run_phase_DEAD:
        ack_exit(s, &c);
        if (c.meta.deleted)
            return bury(s, &c);
        if (wants_run(&c))
            return begin_run(s, &c);
        return CTL_DONE;
    case store_run_phase_COUNT:
        break;
    }
    return CTL_DONE;
}
