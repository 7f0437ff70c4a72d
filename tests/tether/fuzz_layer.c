/* Names of a layer's entries, and compressed bytes.  A name that passes must not be able to leave
 * the root: no "..", no empty part, no slash at an end. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

#include "inflate.h"
#include "layer_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct layer_name *n)
{
    struct sv rest = sv_make(n->path, n->len);
    while (n->len && rest.p) {
        struct sv part = sv_cut(&rest, '/');
        if (part.len == 0 || part.len > NAME_MAX || sv_is(part, "..") || sv_is(part, "."))
            abort();
    }
    if (layer_name_dir(n).len + layer_name_base(n).len > n->len)
        abort();
    (void)layer_whiteout(layer_name_base(n));
}

static void names(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct layer_name n;
    if (layer_name_target(text, &n, NULL))
        check(&n);
    if (layer_name_clean(text, &n, NULL)) {
        check(&n);
        (void)layer_link_stays(&n, text);
    }
}

static void bytes(const uint8_t *data, size_t size, const char *compression)
{
    static char out[65536];
    size_t got, total = 0;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    struct inflate *i = inflate_new(fd, compression, NULL);
    while (i && inflate_read(i, out, sizeof out, &got, NULL) && got && total < 4 << 20)
        total += got;
    inflate_free(i);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    names(data, size);
    bytes(data, size, "gzip");
    bytes(data, size, "zstd");
    return 0;
}
