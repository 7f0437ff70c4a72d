/* The engine dies at the n-th commit, before the n-th vSphere call, after the n-th call was
 * executed and its reply lost; for every n of a scenario.  A new one on the same folder and the
 * same world brings it to the same end: the right exit, told once, no run twice, nothing left over.
 *
 * The scenarios are driven as a client would drive them: look, ask for what is missing, ask again
 * what a dead engine did not take.  VIC_TEST_FULL does every n of the long ones too, and the random
 * schedules many times (VIC_TEST_SEED begins elsewhere). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "rig.h"

enum { EXIT = 5, LINES = 3 };

static bool is_full(void)
{
    return getenv("VIC_TEST_FULL") != NULL;
}

/* --- a client -----------------------------------------------------------------------------------
 */
struct client {
    const char *image, *container; /* NULL = not made yet */
    const char *layers[2];
    bool removed, image_removed, done;
};

/* A container from its making to its end; true when nothing of it is left. */
static bool drive_container(struct rig *r, struct client *k, const char *image)
{
    struct store_container c;
    if (!k->container) {
        k->container = rig_create(r, image, false);
        return false;
    }
    if (!rig_get(r, STORE_CONTAINER, k->container, &c)) {
        if (k->removed)
            return true;
        k->container = NULL; /* the engine died before it took it */
        return false;
    }
    if (c.meta.deleted)
        k->removed = true;
    else if (!c.run.seq)
        rig_run(r, k->container);
    else if (c.status.phase == store_run_phase_EXITED) {
        assert_int_equal(c.status.seq, 1);
        assert_int_equal(c.status.exit_code, EXIT);
        assert_int_equal(model_runs(r->m, k->container, 1), 1);
        assert_int_equal(rig_events(r, k->container, "die"), 1);
        assert_true(rig_events(r, k->container, "start") <= 1);
        assert_int_equal(rig_log_lines(r, k->container), LINES);
        rig_remove(r, k->container);
    }
    return false;
}

static bool container_tick(struct rig *r, struct client *k)
{
    return drive_container(r, k, rig_image);
}

static void load_image(struct rig *r, struct client *k)
{
    k->layers[0] = rig_layer(r, "", "the base", NULL);
    k->layers[1] = rig_layer(r, k->layers[0], "and more", NULL);
    k->image = rig_load(r, "image", k->layers, 2);
}

/* An image is loaded and removed again. */
static bool image_tick(struct rig *r, struct client *k)
{
    struct store_image i;
    struct store_layer l;
    if (!k->image) {
        load_image(r, k);
        return false;
    }
    if (!rig_get(r, STORE_IMAGE, k->image, &i)) {
        if (!k->image_removed)
            k->image = NULL;
        return k->image_removed && !rig_get(r, STORE_LAYER, k->layers[0], &l);
    }
    if (i.meta.deleted)
        k->image_removed = true;
    else if (i.phase == store_image_phase_FAILED)
        fail_msg("the image failed: %s", i.error);
    else if (i.phase == store_image_phase_READY && rig_get(r, STORE_LAYER, k->layers[1], &l) &&
             l.archived) {
        rig_rmi(r, k->image);
        k->image_removed = !atomic_load(&r->dead);
    }
    return false;
}

/* Until the client has what it wants and the engine has cleaned up behind it. */
static void drive(struct rig *r, size_t disks, bool (*tick)(struct rig *r, struct client *k))
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct client k = {0};
    int64_t end = clock_mono_ms(&vic_clock_real) + RIG_WAIT_MS;
    while (!tick(r, &k) || !rig_is_clean(r, disks)) {
        if (atomic_load(&r->dead)) {
            rig_kill(r);
            rig_start(r);
        }
        if (clock_mono_ms(&vic_clock_real) > end)
            rig_give_up(r, "the scenario's end");
        nanosleep(&pause, NULL);
    }
}

/* --- every n ------------------------------------------------------------------------------------
 */
enum point { AT_COMMIT, AT_CALL, AT_REPLY, POINTS };
static const char *const point_names[] = {"commit", "call", "reply"};

/* True when the engine died, and so there may be a later point. */
static bool one_death(enum point p, uint64_t n, const struct rig_options *o, size_t disks,
                      bool (*tick)(struct rig *r, struct client *k))
{
    struct rig_options failing = *o;
    failing.at_commit = p == AT_COMMIT ? n : 0;
    failing.at_call = p == AT_CALL ? n : 0;
    failing.at_reply = p == AT_REPLY ? n : 0;
    struct rig *r = rig_new(&failing);
    drive(r, disks, tick);
    bool died = r->deaths > 0;
    if (getenv("VIC_TEST_VERBOSE"))
        print_message("%s %llu died %d\n", point_names[p], (unsigned long long)n, (int)died);
    rig_clean(r, disks);
    rig_fini(r);
    return died;
}

static void every_death(const struct rig_options *o, size_t disks, unsigned stride,
                        bool (*tick)(struct rig *r, struct client *k))
{
    for (enum point p = AT_COMMIT; p < POINTS; p++) {
        uint64_t n = 1;
        while (one_death(p, n, o, disks, tick))
            n += stride;
        print_message("%s: up to %llu\n", point_names[p], (unsigned long long)n);
    }
}

static void a_container_survives_every_death(void **state)
{
    static const struct rig_options o = {
        .usual = {.exit = EXIT, .lines = LINES}, .task_ms = 2, .lag_ms = 10, .seed_image = true};
    (void)state;
    every_death(&o, 0, 1, container_tick);
}

static void an_image_survives_every_death(void **state)
{
    static const struct rig_options o = {.task_ms = 2, .lag_ms = 10};
    (void)state;
    every_death(&o, 1, is_full() ? 1 : 7, image_tick);
}

/* --- random schedules ---------------------------------------------------------------------------
 */
enum { CLIENTS = 5, RUNS = 3, ROUND_MS = 2500 };

struct gambler {
    const char *container;
    uint64_t runs; /* asked for */
    bool removed, done;
};

struct dice {
    uint64_t state;
};

static bool chance(struct dice *d, unsigned one_in)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (d->state >> 33) % one_in == 0;
}

static size_t pick(struct dice *d, size_t n)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(d->state >> 33) % n;
}

/* Deaths that leave no doubt about what became of the run. */
static void choose_act(struct rig *r, struct dice *d)
{
    static const struct sim_act acts[] = {
        {.death = SIM_DIES_BOOTING},
        {.death = SIM_DIES_IDLE},
        {.death = SIM_DIES_CONFIG},
        {.death = SIM_REBOOTS_IDLE},
        {.death = SIM_DIES_EXITED, .exit = 1},
        {.lost_exit = true, .exit = 2, .run_ms = 5},
        {.launch_fails = true},
        {.until_stopped = true},
        {.drops = true, .run_ms = 30, .lines = 5},
        {.exit = 3, .run_ms = 15, .boot_ms = 20},
    };
    sim_next(r->sim, &acts[pick(d, ARRAY_LEN(acts))]);
}

static void gamble_once(struct rig *r, struct dice *d, struct gambler *g)
{
    struct store_container c;
    if (g->done)
        return;
    if (!g->container) {
        g->container = rig_create(r, rig_image, chance(d, 4));
        g->runs = 0;
        return;
    }
    if (!rig_get(r, STORE_CONTAINER, g->container, &c)) {
        g->done = g->removed || g->runs > 0; /* --rm takes it away too */
        g->container = NULL;
        return;
    }
    bool rests =
        c.status.phase == store_run_phase_CREATED || c.status.phase == store_run_phase_EXITED;
    if (c.meta.deleted) {
        g->removed = true;
    } else if (rests && c.run.seq == c.status.seq && c.run.seq < RUNS) {
        choose_act(r, d);
        rig_run(r, g->container);
        g->runs = c.run.seq + 1;
    } else if (rests && c.run.seq == c.status.seq) {
        assert_int_equal(rig_events(r, g->container, "die"), RUNS);
        rig_remove(r, g->container);
    } else if (c.status.phase == store_run_phase_RUNNING && chance(d, 20)) {
        rig_want_stop(r, g->container, 10000);
    } else if (chance(d, 400)) {
        rig_remove(r, g->container);
    }
}

static void trouble(struct rig *r, struct dice *d, bool often)
{
    static const enum vic_code codes[] = {VIC_BUSY, VIC_FORBIDDEN, VIC_TIMEOUT};
    if (chance(d, often ? 50 : 150))
        atomic_store(&r->dead, true);
    if (chance(d, often ? 100 : 300))
        model_connection(r->m, false);
    if (chance(d, 30))
        model_connection(r->m, true);
    if (chance(d, often ? 30 : 100))
        model_fault(r->m, NULL, (enum model_fault_kind)pick(d, MODEL_TASK_GONE + 1),
                    codes[pick(d, ARRAY_LEN(codes))], (unsigned)pick(d, 5), 1);
}

/* For a while all goes wrong; then nothing does, and everything must come to its end. */
static void one_schedule(uint64_t seed)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    const struct rig_options o = {.usual = {.exit = 0, .lines = 2},
                                  .task_ms = 5,
                                  .lag_ms = 25,
                                  .seed = seed,
                                  .max_vms = 4,
                                  .seed_image = true};
    struct gambler clients[CLIENTS] = {0};
    struct dice d = {seed};
    bool calm = false;
    struct rig *r = rig_new(&o);
    int64_t began = clock_mono_ms(&vic_clock_real);
    for (size_t open = CLIENTS; open || !rig_is_clean(r, 0);) {
        int64_t age_ms = clock_mono_ms(&vic_clock_real) - began;
        open = 0;
        if (age_ms < ROUND_MS)
            trouble(r, &d, seed % 2);
        else if (!calm) {
            model_connection(r->m, true);
            model_calm(r->m);
            calm = true;
        }
        for (size_t i = 0; i < CLIENTS; i++) {
            gamble_once(r, &d, &clients[i]);
            open += !clients[i].done;
        }
        if (atomic_load(&r->dead)) {
            rig_kill(r);
            rig_start(r);
        }
        if (age_ms > ROUND_MS + RIG_WAIT_MS) {
            print_error("seed %llu\n", (unsigned long long)seed);
            rig_give_up(r, "the schedule's end");
        }
        nanosleep(&pause, NULL);
    }
    rig_clean(r, 0);
    rig_fini(r);
}

static void random_schedules(void **state)
{
    const char *text = getenv("VIC_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    (void)state;
    for (unsigned i = 0; i < (is_full() ? 60 : 3); i++)
        one_schedule(seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_survives_every_death),
        cmocka_unit_test(an_image_survives_every_death),
        cmocka_unit_test(random_schedules),
    };
    const char *only = getenv("VIC_TEST_ONLY");
    if (only)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
