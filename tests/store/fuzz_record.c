/* Any bytes as a record of each kind: refused, or understood so that it can be written again. */
#include <stdint.h>
#include <stdlib.h>

#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 65536)
        return 0;
    /* The first byte chooses the kind. */
    const struct store_rec *rec =
        store_kind_rec((enum store_kind)(1 + data[0] % (STORE_KINDS - 1)));
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf again = {0}, more = {0}, text = {0};
    void *record = arena_alloc(&a, rec->size), *back = arena_alloc(&a, rec->size);
    void *copy = arena_alloc(&a, rec->size);
    if (!store_decode(rec, sv_make(data + 1, size - 1), &a, record, NULL))
        return 0;
    store_encode(rec, record, &again);
    if (again.failed || !store_decode(rec, buf_sv(&again), &a, back, NULL))
        abort();
    store_copy(rec, back, copy, &a);
    if (!store_equal(rec, record, back) || !store_equal(rec, record, copy))
        abort();
    store_encode(rec, copy, &more);
    if (!sv_eq(buf_sv(&again), buf_sv(&more)))
        abort();
    struct json_writer w = json_writer(&text);
    store_to_json(rec, record, true, &w, NULL);
    if (text.failed)
        abort();
    return 0;
}
