/* Containers' runs, against the model of vSphere. */
#include <stdio.h>
#include <string.h>

#include "rig.h"

static const struct rig_options plain = {.seed_image = true, .task_ms = 4, .lag_ms = 30};

static struct rig_options with(struct sim_act usual)
{
    struct rig_options o = plain;
    o.usual = usual;
    return o;
}

static void expect_once(struct rig *r, const char *id, const char *action, unsigned n)
{
    unsigned got = rig_events(r, id, action);
    if (got != n)
        fail_msg("event %s came %u times, not %u", action, got, n);
}

/* --- plain --------------------------------------------------------------------------------------
 */
static void a_run_starts_and_exits(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.exit = 7, .lines = 20});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 7);
    assert_true(c.status.launched || !c.status.launched); /* it may end before STATUS was seen */
    rig_clean(r, 1);
    expect_once(r, id, "die", 1);
    assert_int_equal(model_runs(r->m, id, 1), 1);
    assert_int_equal(rig_log_lines(r, id), 20);
    rig_remove(r, id);
    rig_until_gone(r, STORE_CONTAINER, id);
    rig_clean(r, 0);
    rig_fini(r);
}

static void a_run_that_goes_on_is_running(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    assert_int_equal(c.status.pid, 7);
    assert_true(c.status.started > 0);
    expect_once(r, id, "start", 1);
    expect_once(r, id, "die", 0);
    rig_want_stop(r, id, 10000);
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 128 + 15);
    assert_true(c.status.manual_stop);
    expect_once(r, id, "stop", 1);
    rig_clean(r, 1);
    rig_fini(r);
}

static void a_launch_that_fails_says_why(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.launch_fails = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, true);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 127);
    assert_string_equal(c.status.error, "no such file");
    assert_false(c.status.launched);
    assert_int_equal(model_runs(r->m, id, 1), 0);
    rig_clean(r, 1);
    rig_fini(r);
}

static void a_refused_spec_ends_the_run(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.refuses = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 128);
    assert_string_equal(c.status.error, "the disk cannot be mounted");
    rig_clean(r, 1);
    rig_fini(r);
}

static void auto_remove_takes_it_away(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.lines = 3});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, true);
    rig_run(r, id);
    rig_until_gone(r, STORE_CONTAINER, id);
    expect_once(r, id, "die", 1);
    expect_once(r, id, "destroy", 1);
    rig_clean(r, 0);
    rig_fini(r);
}

static void it_starts_again_on_the_same_disk(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.exit = 3});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    for (uint64_t seq = 1; seq <= 4; seq++) {
        rig_run(r, id); /* while the old VM may still hold the disk */
        struct store_container c = rig_until_phase(r, id, seq, store_run_phase_EXITED);
        assert_int_equal(c.status.exit_code, 3);
        assert_int_equal(model_runs(r->m, id, seq), 1);
    }
    expect_once(r, id, "die", 4);
    rig_clean(r, 1);
    rig_fini(r);
}

static void many_at_once(void **state)
{
    const char *ids[12];
    (void)state;
    struct rig_options o = with((struct sim_act){.exit = 1, .boot_ms = 5});
    struct rig *r = rig_new(&o);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        ids[i] = rig_create(r, rig_image, false);
        rig_run(r, ids[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        rig_until_phase(r, ids[i], 1, store_run_phase_EXITED);
    rig_clean(r, ARRAY_LEN(ids));
    rig_fini(r);
}

/* --- stopping -----------------------------------------------------------------------------------
 */
static void a_stop_before_the_start_has_finished(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.mute = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    rig_until_phase(r, id, 1, store_run_phase_STARTING);
    rig_want_stop(r, id, 10000);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_true(c.status.manual_stop);
    rig_clean(r, 0);
    rig_fini(r);
}

static bool vm_is_on(struct rig *r, void *arg)
{
    (void)arg;
    return model_vms_on(r->m) > 0;
}

static bool is_booting(struct rig *r, void *arg)
{
    struct store_container c;
    struct store_vm vm;
    return rig_get(r, STORE_CONTAINER, arg, &c) && c.status.vm[0] &&
           rig_get(r, STORE_VM, c.status.vm, &vm) && vm.phase == store_vm_phase_BOOTING;
}

static bool has_asked_to_stop(struct rig *r, void *arg)
{
    struct store_container c;
    return rig_get(r, STORE_CONTAINER, arg, &c) && c.status.stop_since != 0;
}

static void a_guest_that_does_not_stop_is_powered_off(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true, .deaf = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    rig_want_stop(r, id, 3000);
    UNTIL(r, has_asked_to_stop, (void *)(uintptr_t)id);
    rig_turn(r, 3000 + CTL_STOP_SLACK_MS - 1500);
    assert_int_equal(model_vms_on(r->m), 1); /* not before its time */
    rig_turn(r, 2000);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 137);
    rig_clean(r, 1);
    rig_fini(r);
}

/* --- removing -----------------------------------------------------------------------------------
 */
static void removed_while_it_boots(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.mute = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    UNTIL(r, vm_is_on, NULL);
    rig_remove(r, id);
    rig_until_gone(r, STORE_CONTAINER, id);
    rig_clean(r, 0);
    rig_fini(r);
}

static void removed_while_it_runs(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    rig_remove(r, id);
    rig_until_gone(r, STORE_CONTAINER, id);
    expect_once(r, id, "die", 1);
    rig_clean(r, 0);
    rig_fini(r);
}

static void removed_before_it_ever_ran(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){0});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_remove(r, id);
    rig_until_gone(r, STORE_CONTAINER, id);
    id = rig_create(r, rig_image, false);
    rig_run(r, id);
    rig_remove(r, id); /* before any VM exists */
    rig_until_gone(r, STORE_CONTAINER, id);
    rig_clean(r, 0);
    rig_fini(r);
}

/* --- VMs that die -------------------------------------------------------------------------------
 */
/* Before the spec is on the disk another VM takes the run over. */
static void a_vm_that_dies_early_is_replaced(void **state)
{
    static const struct sim_act deaths[] = {
        {.death = SIM_DIES_BOOTING},
        {.death = SIM_DIES_IDLE},
        {.death = SIM_DIES_CONFIG},
        {.death = SIM_REBOOTS_IDLE},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(deaths); i++) {
        struct rig_options o = with((struct sim_act){.exit = 5});
        struct rig *r = rig_new(&o);
        sim_next(r->sim, &deaths[i]);
        const char *id = rig_create(r, rig_image, false);
        rig_run(r, id);
        struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
        if (c.status.exit_code != 5)
            fail_msg("death %d: exit %d", (int)deaths[i].death, c.status.exit_code);
        assert_int_equal(model_runs(r->m, id, 1), 1);
        expect_once(r, id, "die", 1);
        rig_clean(r, 1);
        rig_fini(r);
    }
}

/* After it the run is lost with its VM, unless the console tells how it ended. */
static void a_vm_that_dies_late_ends_the_run(void **state)
{
    static const struct {
        struct sim_act act;
        int exit;
    } deaths[] = {
        {{.death = SIM_DIES_RUNNING}, 137},
        {{.death = SIM_DIES_EXITED, .exit = 42}, 42},
        {{.lost_exit = true, .run_ms = 20, .exit = 43}, 43},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(deaths); i++) {
        struct rig_options o = with((struct sim_act){.exit = 99});
        struct rig *r = rig_new(&o);
        sim_next(r->sim, &deaths[i].act);
        const char *id = rig_create(r, rig_image, false);
        rig_run(r, id);
        struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
        if (c.status.exit_code != deaths[i].exit)
            fail_msg("death %zu: exit %d", i, c.status.exit_code);
        assert_int_equal(model_runs(r->m, id, 1), 1);
        expect_once(r, id, "die", 1);
        rig_clean(r, 1);
        rig_fini(r);
    }
}

static void powered_off_by_hand(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    model_power_off(r->m, c.status.vm);
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 137);
    assert_false(c.status.manual_stop);
    rig_clean(r, 1);
    rig_fini(r);
}

/* HA, or a reset: the run goes on from its disk. */
static void a_vm_that_boots_again_goes_on(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    struct sim_act again = {.exit = 9, .run_ms = 50};
    sim_next(r->sim, &again);
    model_reset(r->m, c.status.vm);
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 9);
    assert_int_equal(model_runs(r->m, id, 1), 1);
    expect_once(r, id, "die", 1);
    rig_clean(r, 1);
    rig_fini(r);
}

static void a_vm_that_never_connects_is_given_up(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.exit = 5});
    struct sim_act mute = {.mute = true};
    struct rig *r = rig_new(&o);
    sim_next(r->sim, &mute);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    UNTIL(r, is_booting, (void *)(uintptr_t)id);
    rig_turn(r, CTL_BOOT_MS - 5000);
    assert_int_equal(model_vms(r->m), 1);
    rig_turn(r, 20000);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 5);
    rig_clean(r, 1);
    rig_fini(r);
}

static void a_lost_connection_is_nothing(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.drops = true, .run_ms = 150, .lines = 9});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 0);
    assert_int_equal(rig_log_lines(r, id), 9);
    expect_once(r, id, "start", 1);
    rig_clean(r, 1);
    rig_fini(r);
}

/* --- vSphere in trouble --------------------------------------------------------------------------
 */
static void faults_are_survived(void **state)
{
    static const char *const methods[] = {"CreateVM_Task",          "PowerOnVM_Task",
                                          "ReconfigVM_Task",        "Destroy_Task",
                                          "DeleteVirtualDisk_Task", "RetrievePropertiesEx"};
    static const struct {
        enum model_fault_kind kind;
        enum vic_code code;
    } kinds[] = {
        {MODEL_REFUSED, VIC_BUSY},    {MODEL_UNSENT, VIC_OK},    {MODEL_REPLY_LOST, VIC_OK},
        {MODEL_TASK_FAILS, VIC_BUSY}, {MODEL_TASK_GONE, VIC_OK},
    };
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(methods); m++)
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            struct rig_options o = with((struct sim_act){.exit = 4});
            struct rig *r = rig_new(&o);
            model_fault(r->m, methods[m], kinds[k].kind, kinds[k].code, 0, 1);
            const char *id = rig_create(r, rig_image, false);
            rig_run(r, id);
            struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
            if (c.status.exit_code != 4)
                fail_msg("%s fault %zu: exit %d", methods[m], k, c.status.exit_code);
            rig_remove(r, id);
            rig_until_gone(r, STORE_CONTAINER, id);
            rig_clean(r, 0);
            rig_fini(r);
        }
}

/* A disk that is there already: a failed attach must not be taken for one that came true. */
static void attaches_that_fail_are_made_again(void **state)
{
    static const struct {
        enum model_fault_kind kind;
        enum vic_code code;
    } kinds[] = {
        {MODEL_REFUSED, VIC_BUSY},    {MODEL_REFUSED, VIC_FORBIDDEN},
        {MODEL_UNSENT, VIC_OK},       {MODEL_REPLY_LOST, VIC_OK},
        {MODEL_TASK_FAILS, VIC_BUSY}, {MODEL_TASK_FAILS, VIC_FORBIDDEN},
        {MODEL_TASK_GONE, VIC_OK},
    };
    (void)state;
    struct rig_options o = with((struct sim_act){.exit = 4});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    rig_until_phase(r, id, 1, store_run_phase_EXITED);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        rig_clean(r, 1);
        model_fault(r->m, "ReconfigVM_Task", kinds[k].kind, kinds[k].code, 0, 1);
        rig_run(r, id);
        struct store_container c = rig_until_phase(r, id, k + 2, store_run_phase_EXITED);
        if (c.status.exit_code != 4)
            fail_msg("fault %zu: exit %d, %s", k, c.status.exit_code, c.status.error);
    }
    rig_clean(r, 1);
    rig_fini(r);
}

/* What cannot work ends with an error, not never. */
static void refusals_for_good_end_the_start(void **state)
{
    static const char *const methods[] = {"CreateVM_Task", "PowerOnVM_Task", "ReconfigVM_Task"};
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(methods); m++) {
        struct rig_options o = with((struct sim_act){.exit = 4});
        struct rig *r = rig_new(&o);
        model_fault(r->m, methods[m], m % 2 ? MODEL_REFUSED : MODEL_TASK_FAILS, VIC_FORBIDDEN, 0,
                    1000);
        const char *id = rig_create(r, rig_image, false);
        rig_run(r, id);
        struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
        assert_int_equal(c.status.exit_code, 128);
        assert_true(c.status.error[0] != '\0');
        rig_clean(r, 0);
        rig_fini(r);
    }
}

static void vsphere_goes_and_comes_back(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false), *other = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    model_connection(r->m, false);
    rig_run(r, other); /* waits */
    rig_until_phase(r, other, 1, store_run_phase_STARTING);
    rig_want_stop(r, id, 10000); /* needs no vSphere */
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 143);
    model_connection(r->m, true);
    rig_until_phase(r, other, 1, store_run_phase_RUNNING);
    rig_want_stop(r, other, 10000);
    rig_until_phase(r, other, 1, store_run_phase_EXITED);
    rig_clean(r, 2);
    rig_fini(r);
}

static void a_death_while_vsphere_is_away_is_seen_after(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.until_stopped = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    model_connection(r->m, false);
    model_power_off(r->m, c.status.vm);
    model_connection(r->m, true);
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 137);
    rig_clean(r, 1);
    rig_fini(r);
}

/* --- limits -------------------------------------------------------------------------------------
 */
static void limits_hold_and_nobody_starves(void **state)
{
    const char *ids[10];
    (void)state;
    struct rig_options o = with((struct sim_act){.exit = 1, .boot_ms = 10});
    o.max_vms = 3;
    o.max_boots = 2;
    struct rig *r = rig_new(&o);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        ids[i] = rig_create(r, rig_image, false);
        rig_run(r, ids[i]);
    }
    int64_t began = clock_mono_ms(&vic_clock_real);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        rig_until_phase(r, ids[i], 1, store_run_phase_EXITED);
    assert_true(clock_mono_ms(&vic_clock_real) - began < 10000);
    assert_true(model_peak_vms(r->m) <= 3);
    rig_clean(r, ARRAY_LEN(ids));
    rig_fini(r);
}

/* --- the engine goes and comes back -------------------------------------------------------------
 */
static bool exited_unheard(struct rig *r, void *arg)
{
    (void)r;
    AUTO_FREE char *path = xasprintf("[ds] vch/console/%s.log", (const char *)arg);
    return model_has_file(r->m, path);
}

static void a_run_ends_while_the_engine_is_away(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.run_ms = 200, .exit = 6, .lines = 50});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    rig_stop(r);
    UNTIL(r, exited_unheard, (void *)(uintptr_t)c.status.vm);
    rig_start(r);
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 6);
    assert_int_equal(rig_log_lines(r, id), 50);
    rig_clean(r, 1);
    rig_fini(r);
}

static void a_vm_dies_while_the_engine_is_away(void **state)
{
    (void)state;
    struct rig_options o = with((struct sim_act){.run_ms = 100, .exit = 6, .lost_exit = true});
    struct rig *r = rig_new(&o);
    const char *id = rig_create(r, rig_image, false);
    rig_run(r, id);
    struct store_container c = rig_until_phase(r, id, 1, store_run_phase_RUNNING);
    rig_stop(r);
    UNTIL(r, exited_unheard, (void *)(uintptr_t)c.status.vm);
    rig_start(r);
    c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
    assert_int_equal(c.status.exit_code, 6); /* the console's line */
    rig_clean(r, 1);
    rig_fini(r);
}

/* The run began and ended while the engine, that had sent the spec, was away: it is not begun
 * again.
 */
static void a_run_that_was_never_acknowledged_is_not_begun_twice(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct rig_options o = with((struct sim_act){.exit = 6, .lost_exit = lost == 1});
        struct rig *r = rig_new(&o);
        const char *id = rig_create(r, rig_image, false);
        rig_run(r, id);
        /* The engine dies at the commit after the guest has got its spec. */
        while (!model_runs(r->m, id, 1))
            atomic_store(&r->at_commit, 0);
        rig_kill(r);
        rig_start(r);
        struct store_container c = rig_until_phase(r, id, 1, store_run_phase_EXITED);
        assert_int_equal(c.status.exit_code, 6);
        expect_once(r, id, "die", 1);
        rig_clean(r, 1);
        rig_fini(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_starts_and_exits),
        cmocka_unit_test(a_run_that_goes_on_is_running),
        cmocka_unit_test(a_launch_that_fails_says_why),
        cmocka_unit_test(a_refused_spec_ends_the_run),
        cmocka_unit_test(auto_remove_takes_it_away),
        cmocka_unit_test(it_starts_again_on_the_same_disk),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(a_stop_before_the_start_has_finished),
        cmocka_unit_test(a_guest_that_does_not_stop_is_powered_off),
        cmocka_unit_test(removed_while_it_boots),
        cmocka_unit_test(removed_while_it_runs),
        cmocka_unit_test(removed_before_it_ever_ran),
        cmocka_unit_test(a_vm_that_dies_early_is_replaced),
        cmocka_unit_test(a_vm_that_dies_late_ends_the_run),
        cmocka_unit_test(powered_off_by_hand),
        cmocka_unit_test(a_vm_that_boots_again_goes_on),
        cmocka_unit_test(a_vm_that_never_connects_is_given_up),
        cmocka_unit_test(a_lost_connection_is_nothing),
        cmocka_unit_test(faults_are_survived),
        cmocka_unit_test(attaches_that_fail_are_made_again),
        cmocka_unit_test(refusals_for_good_end_the_start),
        cmocka_unit_test(vsphere_goes_and_comes_back),
        cmocka_unit_test(a_death_while_vsphere_is_away_is_seen_after),
        cmocka_unit_test(limits_hold_and_nobody_starves),
        cmocka_unit_test(a_run_ends_while_the_engine_is_away),
        cmocka_unit_test(a_vm_dies_while_the_engine_is_away),
        cmocka_unit_test(a_run_that_was_never_acknowledged_is_not_begun_twice),
    };
    const char *only = getenv("VIC_TEST_ONLY");
    if (only)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
