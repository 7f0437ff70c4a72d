/* A log segment's bytes, as a torn or damaged disk may leave them. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "logs_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_CLOSE int fd = memfd_create("segment", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    struct segment_scan s = {.fd = fd, .end = size};
    struct segment_entry e;
    uint64_t before = 0;
    while (segment_scan(&s, &e) == SCAN_ENTRY) {
        AUTO_BUF struct buf again = {0};
        if (e.at != before || s.at <= before || s.at > size)
            abort();
        segment_put(&again, &e.e, e.boot_index, e.e.flags);
        if (again.len != s.at - before || memcmp(again.data, data + before, again.len) != 0)
            abort();
        before = s.at;
    }
    buf_fini(&s.buf);
    return 0;
}
