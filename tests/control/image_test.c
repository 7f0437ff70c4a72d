/* Layers become disks, against the model of vSphere. */
#include <stdio.h>
#include <string.h>

#include "rig.h"

enum { BLANK = 1 }; /* the blank root's disk stays */

static const struct rig_options bare = {.task_ms = 4, .lag_ms = 30};

static struct rig *start(void)
{
    return rig_new(&bare);
}

static const char *load(struct rig *r, const char *name, const char *a, const char *b)
{
    const char *layers[2];
    layers[0] = rig_layer(r, "", a, NULL);
    if (b)
        layers[1] = rig_layer(r, layers[0], b, NULL);
    return rig_load(r, name, layers, b ? 2 : 1);
}

static void ready(struct rig *r, const char *image)
{
    struct store_image i = rig_until_loaded(r, image);
    if (i.phase != store_image_phase_READY)
        fail_msg("the image failed: %s", i.error);
}

static bool has_blob(struct rig *r, void *arg)
{
    struct store_layer l;
    assert_true(rig_get(r, STORE_LAYER, arg, &l));
    AUTO_FREE char *path = xasprintf("[ds] vch/blobs/%s", l.blob + 7);
    return l.archived && model_has_file(r->m, path);
}

static void an_image_is_loaded_and_used(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *image = load(r, "one", "the base", "and more");
    ready(r, image);
    struct store_image i = rig_until_loaded(r, image);
    assert_int_equal(i.size_bytes, strlen("the base") + strlen("and more"));
    for (size_t n = 0; n < i.layers.n; n++)
        UNTIL(r, has_blob, (void *)(uintptr_t)i.layers.v[n]);
    rig_clean(r, BLANK + 2);
    const char *id = rig_create(r, image, false);
    rig_run(r, id);
    rig_until_phase(r, id, 1, store_run_phase_EXITED);
    rig_clean(r, BLANK + 3);
    rig_rmi(r, image); /* waits for its container */
    rig_remove(r, id);
    rig_until_gone(r, STORE_CONTAINER, id);
    rig_until_gone(r, STORE_IMAGE, image);
    rig_until_gone(r, STORE_LAYER, i.layers.v[1]);
    rig_until_gone(r, STORE_LAYER, i.layers.v[0]);
    rig_clean(r, BLANK);
    rig_fini(r);
}

static void images_share_layers(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *one = load(r, "one", "the base", "one's"),
               *two = load(r, "two", "the base", "two's");
    ready(r, one);
    ready(r, two);
    rig_clean(r, BLANK + 3);
    assert_int_equal(rig_count(r, STORE_LAYER), 3);
    rig_rmi(r, one);
    rig_until_gone(r, STORE_IMAGE, one);
    rig_clean(r, BLANK + 2);
    rig_fini(r);
}

static void the_same_bytes_twice(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *image = load(r, "one", "again", "again");
    ready(r, image);
    rig_clean(r, BLANK + 2);
    rig_rmi(r, image);
    rig_until_gone(r, STORE_IMAGE, image);
    rig_clean(r, BLANK);
    rig_fini(r);
}

/* The old layers are on their way out while the new image comes. */
static void removed_and_loaded_again_at_once(void **state)
{
    (void)state;
    struct rig *r = start();
    for (int i = 0; i < 8; i++) {
        const char *image = load(r, "one", "the base", "and more");
        ready(r, image);
        struct store_image loaded = rig_until_loaded(r, image);
        for (size_t n = 0; n < 2; n++)
            UNTIL(r, has_blob, (void *)(uintptr_t)loaded.layers.v[n]);
        rig_rmi(r, image);
        rig_until_gone(r, STORE_IMAGE, image);
    }
    rig_clean(r, BLANK);
    rig_fini(r);
}

static void failed(struct rig *r, const char *image, const char *why)
{
    struct store_image i = rig_until_loaded(r, image);
    assert_int_equal(i.phase, store_image_phase_FAILED);
    if (!strstr(i.error, why))
        fail_msg("\"%s\" does not say \"%s\"", i.error, why);
    rig_turn(r, 20000);
    assert_true(rig_get(r, STORE_IMAGE, image, &i)); /* its client can still hear why */
    rig_turn(r, 20000);
    rig_until_gone(r, STORE_IMAGE, image);
    rig_clean(r, BLANK);
    assert_int_equal(rig_count(r, STORE_LAYER), 0);
}

static void a_hostile_layer_fails_the_image(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *image = load(r, "bad", "the base", "BAD bytes");
    failed(r, image, "layer 2: leaves the root: entry ../../etc/passwd");
    rig_fini(r);
}

static void bytes_that_are_not_what_the_config_says(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *layer = rig_layer(
        r, "", "bytes", "sha256:0000000000000000000000000000000000000000000000000000000000000000");
    failed(r, rig_load(r, "bad", &layer, 1), "digest mismatch");
    rig_fini(r);
}

static void a_worker_that_dies_is_replaced(void **state)
{
    static const struct sim_act deaths[] = {
        {.death = SIM_DIES_BOOTING},
        {.death = SIM_DIES_IDLE},
        {.death = SIM_DIES_WORKING},
        {.death = SIM_REBOOTS_IDLE},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(deaths); i++)
        for (unsigned boots = 1; boots <= 2; boots++) { /* the blank root's, and the image's */
            static const struct sim_act fine = {0};
            struct rig *r = start();
            if (boots == 2)
                sim_next(r->sim, &fine);
            sim_next(r->sim, &deaths[i]);
            const char *image = load(r, "one", "the base", "and more");
            ready(r, image);
            rig_clean(r, BLANK + 2);
            rig_fini(r);
        }
}

static bool is_applying(struct rig *r, void *arg)
{
    struct store_image i;
    struct store_layer l;
    return rig_get(r, STORE_IMAGE, arg, &i) && rig_get(r, STORE_LAYER, i.layers.v[0], &l) &&
           l.phase != store_layer_phase_PENDING;
}

static void removed_while_it_is_loaded(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *one = load(r, "one", "the base", "one's"),
               *two = load(r, "two", "the base", "two's");
    UNTIL(r, is_applying, (void *)(uintptr_t)one);
    rig_rmi(r, one);
    rig_until_gone(r, STORE_IMAGE, one);
    ready(r, two);
    rig_clean(r, BLANK + 2);
    rig_rmi(r, two);
    rig_until_gone(r, STORE_IMAGE, two);
    rig_clean(r, BLANK);
    rig_fini(r);
}

static void the_engine_is_killed_amid_a_layer(void **state)
{
    (void)state;
    struct rig *r = start();
    const char *image = load(r, "one", "the base", "and more");
    UNTIL(r, is_applying, (void *)(uintptr_t)image);
    rig_kill(r);
    rig_start(r);
    ready(r, image);
    rig_clean(r, BLANK + 2);
    rig_fini(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_loaded_and_used),
        cmocka_unit_test(images_share_layers),
        cmocka_unit_test(the_same_bytes_twice),
        cmocka_unit_test(removed_and_loaded_again_at_once),
        cmocka_unit_test(a_hostile_layer_fails_the_image),
        cmocka_unit_test(bytes_that_are_not_what_the_config_says),
        cmocka_unit_test(a_worker_that_dies_is_replaced),
        cmocka_unit_test(removed_while_it_is_loaded),
        cmocka_unit_test(the_engine_is_killed_amid_a_layer),
    };
    const char *only = getenv("VIC_TEST_ONLY");
    if (only)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
