/* Any text as a container's JSON: refused with a message, or read so that what is written from it
 * reads back as the same. */
#include <stdint.h>
#include <stdlib.h>

#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_text(struct sv text, struct arena *a, struct store_container *c)
{
    struct json_val v;
    store_init(store_rec_container(), c);
    return json_parse(text, 0, a, &v, NULL) &&
           store_from_json(store_rec_container(), v, true, a, c, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf text = {0}, bytes = {0};
    struct store_container c, back;
    if (size > 65536 || !read_text(sv_make(data, size), &a, &c))
        return 0;
    struct json_writer w = json_writer(&text);
    store_to_json(store_rec_container(), &c, true, &w, NULL);
    if (text.failed || !read_text(buf_sv(&text), &a, &back) ||
        !store_equal(store_rec_container(), &c, &back))
        abort();
    store_encode(store_rec_container(), &c, &bytes);
    if (bytes.failed || !store_decode(store_rec_container(), buf_sv(&bytes), &a, &back, NULL) ||
        !store_equal(store_rec_container(), &c, &back))
        abort();
    return 0;
}
