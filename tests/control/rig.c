/* See rig.h. */
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/json.h"

static int64_t wall_ns(const struct vic_clock *c)
{
    struct rig *r = (struct rig *)(uintptr_t)c;
    return clock_wall_ns(&vic_clock_real) + atomic_load(&r->turned_ns);
}

static int64_t mono_ns(const struct vic_clock *c)
{
    struct rig *r = (struct rig *)(uintptr_t)c;
    return vic_clock_real.mono_ns(&vic_clock_real) + atomic_load(&r->turned_ns);
}

/* --- failpoints ---------------------------------------------------------------------------------
 */
static bool store_gate(void *arg, uint64_t commit)
{
    struct rig *r = arg;
    (void)commit;
    if (atomic_fetch_add(&r->commits, 1) + 1 == atomic_load(&r->at_commit))
        atomic_store(&r->dead, true);
    return !atomic_load(&r->dead);
}

static bool soap_gate(void *arg, const char *method, bool after)
{
    struct rig *r = arg;
    (void)method;
    if (atomic_load(&r->dead))
        return false;
    if (after ? atomic_fetch_add(&r->replies, 1) + 1 == atomic_load(&r->at_reply)
              : atomic_fetch_add(&r->calls, 1) + 1 == atomic_load(&r->at_call))
        atomic_store(&r->dead, true);
    return !atomic_load(&r->dead);
}

/* --- an engine ----------------------------------------------------------------------------------
 */
static void log_stored(void *arg, const char *container, const char *boot, uint64_t seq)
{
    struct rig *r = arg;
    ctl_log_stored(r->ctl, container, boot, seq);
}

static void must(bool ok, const struct vic_err *err)
{
    if (!ok)
        fail_msg("%s", err->msg);
}

static void open_hub(struct rig *r)
{
    struct vic_err err;
    char address[64];
    r->loop = loop_new("hub", &err);
    must(r->loop != NULL, &err);
    struct hub_options ho = {.loop = r->loop,
                             .cb = &ctl_hub_callbacks,
                             .arg = r->ctl,
                             .key = ctl_channel_key,
                             .log = r->log};
    r->hub = hub_new(&ho, &err);
    must(r->hub != NULL, &err);
    snprintf(address, sizeof address, "tcp:127.0.0.1:%d", r->port);
    must(hub_listen(r->hub, address, &r->port, &err), &err);
    snprintf(address, sizeof address, "tcp:127.0.0.1:%d", r->port);
    sim_address(r->sim, address);
}

static void open_store(struct rig *r)
{
    struct vic_err err;
    AUTO_FREE char *store = xasprintf("%s/store", r->dir), *logs = xasprintf("%s/logs", r->dir);
    AUTO_FREE char *spool = xasprintf("%s/spool", r->dir);
    struct store_options so = {.dir = store,
                               .secret = rig_secret,
                               .clock = &r->clock,
                               .log = r->log,
                               .gate = store_gate,
                               .gate_arg = r};
    struct logs_options lo = {.dir = logs, .log = r->log, .stored = log_stored, .arg = r};
    r->store = store_open(&so, &err);
    must(r->store != NULL, &err);
    r->spool = spool_open(spool, 0, &err);
    must(r->spool != NULL, &err);
    r->logs = logs_open(&lo, &err);
    must(r->logs != NULL, &err);
}

void rig_start(struct rig *r)
{
    struct vic_err err;
    AUTO_FREE char *iso = xasprintf("%s/bootstrap.iso", r->dir);
    const char *level = getenv("VIC_TEST_LOG");
    atomic_store(&r->dead, false);
    atomic_store(&r->commits, 0);
    atomic_store(&r->calls, 0);
    atomic_store(&r->replies, 0);
    r->log = log_new(2, level ? LOG_DEBUG : LOG_ERROR, "rig");
    open_store(r);
    r->vsp = model_session(r->m, soap_gate, r);
    struct ctl_options co = {.store = r->store,
                             .logs = r->logs,
                             .spool = r->spool,
                             .vsp = r->vsp,
                             .iso = arena_strdup(&r->arena, iso),
                             .clock = &r->clock,
                             .workers = 4,
                             .log = r->log};
    must(ctl_configure(r->store, &r->settings, &err) || atomic_load(&r->dead), &err);
    r->ctl = ctl_new(&co, &err);
    open_hub(r);
    must(ctl_start(r->ctl, r->hub, &err), &err);
    must(loop_start(r->loop, &err), &err);
}

/* The order of the engine's main. */
void rig_stop(struct rig *r)
{
    if (!r->ctl)
        return;
    struct ctl_stats st;
    ctl_stop(r->ctl);
    ctl_stats(r->ctl, &st);
    r->late += st.late;
    loop_stop(r->loop);
    loop_adopt(r->loop);
    logs_close(r->logs);
    hub_free(r->hub);
    loop_free(r->loop);
    ctl_free(TAKE(r->ctl));
    vsp_free(r->vsp);
    spool_close(r->spool);
    store_close(TAKE(r->store));
    log_free(r->log);
}

void rig_kill(struct rig *r)
{
    atomic_store(&r->dead, true);
    r->deaths++;
    rig_stop(r);
    atomic_store(&r->at_commit, 0);
    atomic_store(&r->at_call, 0);
    atomic_store(&r->at_reply, 0);
}

/* --- the whole ----------------------------------------------------------------------------------
 */
static void put_iso(struct rig *r)
{
    AUTO_FREE char *path = xasprintf("%s/bootstrap.iso", r->dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs("a boot image", f);
    fclose(f);
}

struct rig *rig_new(const struct rig_options *o)
{
    struct rig *r = xcalloc(1, sizeof *r);
    r->clock = (struct vic_clock){wall_ns, mono_ns};
    const char *tmp = getenv("TMPDIR");
    snprintf(r->dir, sizeof r->dir, "%s/vic-rig-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(r->dir));
    put_iso(r);
    r->settings = (struct ctl_settings){.name = "vch",
                                        .folder = "vch",
                                        .max_vms = o->max_vms,
                                        .max_boots = o->max_boots ? o->max_boots : 8};
    r->sim = sim_new(&o->usual);
    struct model_options mo = {.task_ms = o->task_ms,
                               .lag_ms = o->lag_ms,
                               .seed = o->seed ? o->seed : 1,
                               .guest_start = sim_guest_start,
                               .guest_stop = sim_guest_stop,
                               .arg = r->sim};
    r->m = model_new(&mo);
    if (o->seed_image)
        rig_seed(r);
    r->at_commit = o->at_commit;
    r->at_call = o->at_call;
    r->at_reply = o->at_reply;
    rig_start(r);
    return r;
}

static void remove_dir(const char *dir)
{
    AUTO_FREE char *command = xasprintf("rm -rf '%s'", dir);
    if (system(command) != 0)
        print_error("%s stays\n", dir);
}

void rig_fini(struct rig *r)
{
    AUTO_FREE char *violations = model_violations(r->m);
    rig_stop(r);
    if (r->late)
        print_error("%llu steps came late\n", (unsigned long long)r->late);
    model_free(r->m);
    sim_free(r->sim);
    arena_fini(&r->arena);
    remove_dir(r->dir);
    free(r);
    if (violations)
        fail_msg("violations:\n%s", violations);
}

/* --- waiting ------------------------------------------------------------------------------------
 */
bool rig_wait(struct rig *r, bool (*is)(struct rig *r, void *arg), void *arg)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    int64_t end = clock_mono_ms(&vic_clock_real) + RIG_WAIT_MS;
    while (!is(r, arg)) {
        if (clock_mono_ms(&vic_clock_real) > end)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static bool print_record(void *arg, const void *record)
{
    AUTO_BUF struct buf b = {0};
    struct json_writer w = json_writer(&b);
    store_to_json(arg, record, false, &w, NULL);
    print_error("  %s\n", buf_str(&b));
    return true;
}

static void print_all(struct rig *r)
{
    static const enum store_kind kinds[] = {STORE_CONTAINER, STORE_IMAGE, STORE_LAYER, STORE_DISK,
                                            STORE_VM};
    AUTO_FREE char *inventory = model_inventory(r->m), *violations = model_violations(r->m);
    struct vic_err err;
    print_error("inventory:\n%sviolations:\n%s", inventory, violations ? violations : "");
    for (size_t i = 0; r->store && i < ARRAY_LEN(kinds); i++) {
        AUTO_TXN struct store_txn *t = store_read(r->store, &err);
        AUTO_ARENA struct arena a = {0};
        print_error("%s:\n", store_kind_name(kinds[i]));
        if (!t || !store_list(t, kinds[i], "", &a, print_record,
                              (void *)(uintptr_t)store_kind_rec(kinds[i]), &err))
            print_error("  %s\n", err.msg);
    }
}

_Noreturn void rig_give_up(struct rig *r, const char *what)
{
    struct ctl_stats st = {0};
    if (r->ctl)
        ctl_stats(r->ctl, &st);
    print_error("%s does not come true (dead %d, steps %llu, failures %llu, queued %llu)\n", what,
                (int)atomic_load(&r->dead), (unsigned long long)st.steps,
                (unsigned long long)st.failures, (unsigned long long)st.queued);
    print_all(r);
    fail_msg("%s does not come true", what);
    abort();
}

/* --- clean --------------------------------------------------------------------------------------
 */
static bool is_unsettled(void *arg, const void *record)
{
    const struct store_disk *d = record;
    if (d->holder[0] || d->attempt.what[0] || d->phase == store_disk_phase_DELETING)
        ++*(unsigned *)arg;
    return true;
}

static unsigned unsettled_disks(struct rig *r)
{
    struct vic_err err;
    unsigned n = 0;
    AUTO_TXN struct store_txn *t = store_read(r->store, &err);
    AUTO_ARENA struct arena a = {0};
    return t && store_list(t, STORE_DISK, "", &a, is_unsettled, &n, &err) ? n : 1;
}

bool rig_is_clean(struct rig *r, size_t containers)
{
    AUTO_FREE char *inventory = model_inventory(r->m);
    return model_vms(r->m) == 0 && rig_count(r, STORE_VM) == 0 &&
           model_disks(r->m) == r->seeded_disks + containers && !strstr(inventory, "task ") &&
           !unsettled_disks(r);
}

static bool is_clean(struct rig *r, void *arg)
{
    return rig_is_clean(r, *(const size_t *)arg);
}

static void tell_problem(void *arg, const char *text)
{
    print_error("store: %s\n", text);
    ++*(unsigned *)arg;
}

void rig_clean(struct rig *r, size_t containers)
{
    struct vic_err err;
    unsigned problems = 0;
    UNTIL(r, is_clean, &containers);
    must(store_verify(r->store, false, tell_problem, &problems, &err), &err);
    assert_int_equal(problems, 0);
    AUTO_FREE char *violations = model_violations(r->m);
    if (violations)
        fail_msg("violations:\n%s", violations);
}
