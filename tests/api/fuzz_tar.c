/* Fuzzes api/tar.c: any bytes as an archive, read through to their end. */
#include <stdint.h>
#include <stdlib.h>

#include "tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_bytes(void *arg, void *p, size_t size, size_t *got, struct vic_err *err)
{
    struct sv *s = arg;
    (void)err;
    *got = size < s->len ? size : s->len;
    if (*got)
        memcpy(p, s->p, *got);
    *s = sv_sub(*s, *got, SIZE_MAX);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv in = sv_make(data, size);
    AUTO_ARENA struct arena a = {0};
    struct tar t = {.read = read_bytes, .arg = &in, .a = &a};
    struct tar_entry e;
    struct vic_err err;
    bool more;
    while (tar_next(&t, &e, &more, &err) && more) {
        const char *clean;
        char piece[300];
        size_t got = 0;
        if (tar_clean_name(e.name, &a, &clean, &err) && (clean[0] == '/' || strlen(clean) > size))
            abort();
        if (e.size % 2 && !tar_data(&t, piece, sizeof piece, &got, &err))
            break;
        if (t.left > e.size)
            abort();
    }
    return 0;
}
