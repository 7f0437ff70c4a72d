/* From a path to a handler.
 *
 * A path is matched by its segments, still encoded, against the table in routes.def; {id} takes one
 * segment, {name*} one or more (image names contain slashes).  What a piece took is percent-decoded
 * afterwards, so that an encoded slash never moves a segment's border.  The first route that fits
 * wins; a route newer than the request's version does not exist for it. */
#include <stdio.h>

#include "api_priv.h"

enum { MAX_SEGMENTS = 64 };

#define READS  false
#define WRITES true
const struct route api_routes[] = {
#define R(method, pattern, handler, since, access, help)                                           \
    {#method, pattern, handler, 1000 + (since), access, help},
#include "routes.def"
#undef R
};
const size_t api_route_count = ARRAY_LEN(api_routes);

/* --- versions -------------------------------------------------------------------------------- */
static bool is_version(struct sv s)
{
    if (s.len < 2 || s.p[0] != 'v' || s.p[1] < '0' || s.p[1] > '9')
        return false;
    for (size_t i = 1; i < s.len; i++)
        if (s.p[i] != '.' && (s.p[i] < '0' || s.p[i] > '9'))
            return false;
    return true;
}

bool route_version(struct sv *path, unsigned *version, struct vic_err *err)
{
    struct sv rest = sv_sub(*path, 1, SIZE_MAX), seg = sv_cut(&rest, '/');
    *version = API_V;
    if (!is_version(seg))
        return true;
    struct sv text = sv_sub(seg, 1, SIZE_MAX), minor = text, major = sv_cut(&minor, '.');
    struct sv shown = sv_sub(text, 0, 32);
    uint64_t a = 0, b = 0;
    struct sv m = sv_cut(&minor, '.');
    if (!sv_to_u64(major, &a) || (m.len && !sv_to_u64(m, &b)) || a > 1000 || b > 999)
        return vic_fail(err, VIC_INVALID, 0, "malformed API version " SV_FMT, SV_ARG(shown));
    *version = (unsigned)(a * 1000 + b);
    if (*version < API_MIN_V)
        return vic_fail(err, VIC_INVALID, 0,
                        "client version " SV_FMT " is too old. Minimum supported API version is "
                        "%s, please upgrade your client to a newer version",
                        SV_ARG(shown), API_MIN_VERSION);
    if (*version > API_V)
        return vic_fail(err, VIC_INVALID, 0,
                        "client version " SV_FMT " is too new. Maximum supported API version is %s",
                        SV_ARG(shown), API_VERSION);
    *path = rest.p ? sv_make(rest.p - 1, rest.len + 1) : SV("");
    return true;
}

/* --- matching -------------------------------------------------------------------------------- */
struct segments {
    struct sv v[MAX_SEGMENTS];
    size_t n;
};

static bool split(struct sv path, struct segments *out)
{
    out->n = 0;
    if (!path.len || path.p[0] != '/')
        return false;
    struct sv rest = sv_sub(path, 1, SIZE_MAX);
    while (rest.p) {
        if (out->n == MAX_SEGMENTS)
            return false;
        out->v[out->n++] = sv_cut(&rest, '/');
    }
    return true;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded; a NUL byte ends nothing: it stays encoded. */
static const char *decode(struct sv s, struct arena *a)
{
    char *out = arena_alloc(a, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        int hi = i + 2 < s.len && s.p[i] == '%' ? hex_of(s.p[i + 1]) : -1;
        int lo = hi >= 0 ? hex_of(s.p[i + 2]) : -1;
        if (lo >= 0 && (hi || lo)) {
            out[n++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            out[n++] = s.p[i];
        }
    }
    out[n] = '\0';
    return out;
}

static bool is_piece(struct sv seg, bool *many)
{
    *many = seg.len > 2 && seg.p[seg.len - 2] == '*';
    return seg.len > 1 && seg.p[0] == '{';
}

/* Segments [from, from + n) of the path, with their slashes. */
static struct sv span(const struct segments *path, size_t from, size_t n)
{
    const struct sv *last = &path->v[from + n - 1];
    return sv_make(path->v[from].p, (size_t)(last->p + last->len - path->v[from].p));
}

/* The pieces that the path gives to the pattern, raw; false when they do not fit. */
static bool match(const struct segments *pattern, const struct segments *path, struct sv piece[2])
{
    size_t at = 0, pieces = 0;
    if (path->n < pattern->n)
        return false;
    for (size_t i = 0; i < pattern->n; i++) {
        bool many;
        size_t take = 1;
        if (is_piece(pattern->v[i], &many)) {
            if (many)
                take += path->n - pattern->n;
            piece[pieces] = span(path, at, take);
            if (!piece[pieces++].len)
                return false;
        } else if (!sv_eq(pattern->v[i], path->v[at])) {
            return false;
        }
        at += take;
    }
    return at == path->n;
}

const struct route *route_find(struct sv method, struct sv path, unsigned version, struct arena *a,
                               const char *param[2], struct vic_err *err)
{
    struct segments have, pattern;
    bool known = false;
    if (split(path, &have)) {
        for (size_t i = 0; i < api_route_count; i++) {
            const struct route *r = &api_routes[i];
            struct sv piece[2] = {{0}};
            if (version < r->since || !split(sv_of(r->pattern), &pattern) ||
                !match(&pattern, &have, piece))
                continue;
            known = true;
            if (!sv_is(method, r->method))
                continue;
            for (size_t k = 0; k < 2; k++)
                param[k] = piece[k].p ? decode(piece[k], a) : "";
            return r;
        }
    }
    if (known)
        vic_fail(err, VIC_UNSUPPORTED, 0, "method not allowed");
    else
        vic_fail(err, VIC_NOT_FOUND, 0, "page not found");
    return NULL;
}
