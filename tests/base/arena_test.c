/* base/arena: zeroed, aligned, not overlapping, whatever the sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdalign.h>
#include <string.h>

#include "base/arena.h"
#include "base/mem.h"

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    for (size_t size = 0; size < 600; size++) {
        unsigned char *p = arena_alloc(&a, size);
        assert_int_equal((uintptr_t)p % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xAA, size);
    }
    assert_true(a.total >= 600 * 599 / 2);
}

/* Random sizes around the block sizes: each piece keeps its own pattern to the end. */
static void pieces_do_not_overlap(void **state)
{
    (void)state;
    enum { PIECES = 400 };
    static const size_t sizes[] = {1, 16, 4000, 4096, 5000, 131072, 131073, 262144, 300000};
    AUTO_ARENA struct arena a = {0};
    unsigned char *pieces[PIECES];
    uint64_t seed = 1;
    for (size_t i = 0; i < PIECES; i++) {
        size_t size = sizes[i % ARRAY_LEN(sizes)];
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        if (seed % 2)
            size = 1 + seed % size;
        pieces[i] = arena_alloc(&a, sizeof size + size);
        memcpy(pieces[i], &size, sizeof size);
        memset(pieces[i] + sizeof size, (int)(i % 251), size);
    }
    for (size_t i = 0; i < PIECES; i++) {
        size_t size;
        memcpy(&size, pieces[i], sizeof size);
        const unsigned char *p = pieces[i] + sizeof size;
        assert_int_equal(p[0], i % 251);
        assert_true(size == 1 || memcmp(p, p + 1, size - 1) == 0);
    }
}

static void copies_are_terminated(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    assert_null(arena_strdup(&a, NULL));
    assert_string_equal(arena_strdup(&a, "x"), "x");
    assert_string_equal(arena_sv(&a, sv_sub(SV("hello"), 0, 4)), "hell");
    assert_string_equal(arena_sv(&a, (struct sv){NULL, 0}), "");
    assert_string_equal(arena_printf(&a, "%s %d", "n", 5), "n 5");
    int *n = arena_copy(&a, &(int){7}, sizeof(int));
    assert_int_equal(*n, 7);
    assert_int_equal(ARENA_ARRAY(&a, int, 3)[2], 0);
    arena_fini(&a);
    assert_null(a.blocks);
    assert_int_equal(*ARENA_NEW(&a, int), 0); /* usable again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(pieces_do_not_overlap),
        cmocka_unit_test(copies_are_terminated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
