/* Fuzzes the reader of isolinux.cfg: an ISO may be a stranger's upload. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a = {0};
    struct vmm_boot_entry e;
    struct vic_err err = {0};
    if (!vmm_boot_parse(sv_make(data, size), SV("isolinux"), &a, &e, &err)) {
        if (!err.code)
            abort();
        return 0;
    }
    /* What ends on QEMU's command line. */
    if (!*e.kernel || !e.initrd || strlen(e.append) > 2047 ||
        strstr(e.append, "initrd=") == e.append)
        abort();
    return 0;
}
