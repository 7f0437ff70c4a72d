/* Names in a layer's archive: see layer_name.h. */
#include "layer_name.h"

static bool clean(struct sv rest, struct layer_name *out, struct vic_err *err)
{
    out->len = 0;
    while (rest.p) {
        struct sv part = sv_cut(&rest, '/');
        if (part.len == 0 || sv_is(part, "."))
            continue;
        if (sv_is(part, ".."))
            return vic_fail(err, VIC_INVALID, 0, "the name leaves the image (\"..\")");
        if (part.len > NAME_MAX || out->len + part.len + 2 > sizeof out->path)
            return vic_fail(err, VIC_TOO_LARGE, 0, "the name is too long");
        if (out->len)
            out->path[out->len++] = '/';
        memcpy(out->path + out->len, part.p, part.len);
        out->len += part.len;
    }
    out->path[out->len] = '\0';
    return true;
}

bool layer_name_clean(const char *name, struct layer_name *out, struct vic_err *err)
{
    if (name[0] == '\0')
        return vic_fail(err, VIC_INVALID, 0, "the name is empty");
    if (name[0] == '/')
        return vic_fail(err, VIC_INVALID, 0, "the name is absolute");
    return clean(sv_of(name), out, err);
}

bool layer_name_target(const char *name, struct layer_name *out, struct vic_err *err)
{
    if (!clean(sv_of(name), out, err))
        return vic_wrap(err, "link target");
    return out->len > 0 || vic_fail(err, VIC_INVALID, 0, "link target: the name is empty");
}

struct sv layer_name_dir(const struct layer_name *n)
{
    struct sv whole = sv_make(n->path, n->len);
    ptrdiff_t slash = sv_rfind(whole, '/');
    return sv_sub(whole, 0, slash < 0 ? 0 : (size_t)slash);
}

struct sv layer_name_base(const struct layer_name *n)
{
    size_t dir = layer_name_dir(n).len;
    return sv_sub(sv_make(n->path, n->len), dir ? dir + 1 : 0, n->len);
}

bool layer_link_stays(const struct layer_name *at, const char *target)
{
    size_t depth = 0;
    if (target[0] == '/')
        return true;
    for (size_t i = 0; i < at->len; i++)
        depth += at->path[i] == '/';
    struct sv rest = sv_of(target);
    while (rest.p) {
        struct sv part = sv_cut(&rest, '/');
        if (part.len == 0 || sv_is(part, "."))
            continue;
        if (!sv_is(part, ".."))
            depth++;
        else if (depth-- == 0)
            return false;
    }
    return true;
}

enum layer_whiteout layer_whiteout(struct sv base)
{
    if (!sv_starts(base, SV(".wh.")))
        return LAYER_ENTRY;
    if (sv_is(base, ".wh..wh..opq"))
        return LAYER_OPAQUE;
    return sv_starts(base, SV(".wh..wh.")) ? LAYER_METADATA : LAYER_WHITEOUT;
}
