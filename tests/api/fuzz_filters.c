/* Bytes -> filters, and what is looked up in them; times and references share the input. */
#include "api_priv.h"
#include "docker/docker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"label", "label!", "status", "name", NULL};
    static struct store_kv kv[] = {{"a", "b"}, {"c", ""}};
    const struct store_map labels = {kv, 2};
    AUTO_ARENA struct arena a = {0};
    struct sv text = sv_make(data, size);
    struct filters f;
    struct image_ref r;
    int64_t ns;
    if (filters_parse(text, keys, &a, &f, NULL)) {
        filter_labels(&f, &labels);
        filter_has(&f, "status", "running");
    }
    time_parse(arena_sv(&a, text), 0, &ns);
    if (ref_parse(text, &a, &r, NULL)) {
        struct image_ref again;
        const char *full = ref_full(&r, &a);
        if (!ref_parse(sv_of(full), &a, &again, NULL) || strcmp(ref_full(&again, &a), full) != 0)
            abort();
    }
    return 0;
}
