/* Fuzzes the parser of QMP lines: QEMU may be in the hands of its guest. */
#include <stdint.h>
#include <stdlib.h>

#include "qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a = {0};
    struct qmp_message m;
    struct vic_err err = {0};
    if (!qmp_parse(sv_make(data, size), &a, &m, &err)) {
        if (err.code != VIC_PROTOCOL)
            abort();
        return 0;
    }
    /* What the client relies on. */
    if ((m.kind == QMP_EVENT || m.kind == QMP_ERROR) && !m.name)
        abort();
    if (m.kind == QMP_ERROR && !m.text)
        abort();
    json_str(json_get(m.body, "device"), "");
    return 0;
}
