/* Bytes -> method, path -> version and route. */
#include "api_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a = {0};
    struct sv path = sv_make(data, size), method = sv_cut(&path, ' ');
    const char *param[2];
    unsigned version;
    struct vic_err err = {0};
    if (!path.p || !path.len || path.p[0] != '/')
        return 0;
    if (!route_version(&path, &version, &err)) {
        if (err.code != VIC_INVALID)
            abort();
        return 0;
    }
    const struct route *r = route_find(method, path, version, &a, param, &err);
    if (!r && err.code != VIC_NOT_FOUND && err.code != VIC_UNSUPPORTED)
        abort();
    if (r && (!param[0] || r->since > version))
        abort();
    return 0;
}
