/* Names for containers that were given none: adjective_surname from words.def; after the first few
 * clashes with a digit behind it, and at last the short id, which nobody else has. */
#include "base/clock.h"

#include "docker.h"

enum { PLAIN_TRIES = 2, TRIES = 6 };

static const char *const adjectives[] = {
#define A(word) #word,
#define S(word)
#include "words.def"
#undef A
#undef S
};
static const char *const surnames[] = {
#define A(word)
#define S(word) #word,
#include "words.def"
#undef A
#undef S
};

bool name_generate(struct store_txn *t, struct arena *a, const char *id, const char **out,
                   struct vic_err *err)
{
    const char *holder;
    for (int i = 0; i < TRIES; i++) {
        uint64_t n = random_u64();
        char digit[2] = {i < PLAIN_TRIES ? '\0' : (char)('0' + n % 10), '\0'};
        *out = arena_printf(a, "%s_%s%s", adjectives[(n >> 8) % ARRAY_LEN(adjectives)],
                            surnames[(n >> 32) % ARRAY_LEN(surnames)], digit);
        if (store_find_name(t, STORE_CONTAINER, *out, a, &holder, err))
            continue;
        return err->code == VIC_NOT_FOUND;
    }
    *out = arena_printf(a, "%.12s", id);
    return true;
}
