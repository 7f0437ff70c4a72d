/* Any bytes as a channel's input: frames are cut off and their payloads read until the codec says
 * that it is no frame; nothing else may happen. */
#include "tether/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_payload(const struct wire_frame *f)
{
    struct wire_log log;
    uint64_t n;
    int64_t t;
    uint8_t channel;
    uint16_t rows, cols;
    uint32_t more;
    struct sv bytes;
    bool ok = wire_take_log(f->payload, &log, NULL);
    ok |= wire_take_u64(f->payload, &n, NULL);
    ok |= wire_take_ping(f->payload, &n, &t, NULL);
    ok |= wire_take_data(f->payload, &channel, &bytes, NULL);
    ok |= wire_take_credit(f->payload, &channel, &more, NULL);
    ok |= wire_take_resize(f->payload, &rows, &cols, NULL);
    (void)ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv in = sv_make(data, size);
    struct wire_frame f;
    size_t used;
    while (wire_take(in, &f, &used, NULL) && used) {
        read_payload(&f);
        in = sv_sub(in, used, in.len);
    }
    char text[128], vm[65];
    unsigned n;
    size_t len = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, len);
    text[len] = '\0';
    (void)wire_parse_identity(text, vm, &n);
    return 0;
}
