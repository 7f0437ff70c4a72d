/* Image references, normalised as Docker does (distribution's reference grammar).
 *
 *   busybox                      docker.io/library/busybox:latest
 *   user/app:1                   docker.io/user/app:1
 *   host:5000/a/b@sha256:...     as it is
 *
 * The first component is a registry when it has a dot or a colon, is "localhost" or has an
 * upper-case letter; everything else is on Docker Hub. */
#include <stdio.h>

#include "api_priv.h"

enum { MAX_NAME = 255, MAX_TAG = 128 };

static bool bad_format(struct vic_err *err)
{
    return vic_fail(err, VIC_INVALID, 0, "invalid reference format");
}

static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool has_upper(struct sv s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return true;
    return false;
}

/* Letters and digits, between them ".", "_", "__" or any number of "-". */
static bool component_ok(struct sv s)
{
    size_t i = 0;
    while (i < s.len) {
        size_t start = i;
        while (i < s.len && is_lower_alnum(s.p[i]))
            i++;
        if (i == start)
            return false;
        if (i == s.len)
            return true;
        char sep = s.p[i];
        start = i;
        while (i < s.len && s.p[i] == sep)
            i++;
        if (i == s.len ||
            !(sep == '-' || (sep == '_' && i - start <= 2) || (sep == '.' && i - start == 1)))
            return false;
    }
    return false;
}

static bool path_ok(struct sv path)
{
    while (path.p) {
        if (!component_ok(sv_cut(&path, '/')))
            return false;
    }
    return true;
}

static bool domain_ok(struct sv s)
{
    struct sv port = s, host = sv_cut(&port, ':');
    uint64_t n;
    if (!host.len || (port.p && !sv_to_u64(port, &n)))
        return false;
    for (size_t i = 0; i < host.len; i++)
        if (!is_word(host.p[i]) && host.p[i] != '.' && host.p[i] != '-')
            return false;
    return true;
}

static bool tag_ok(struct sv s)
{
    if (!s.len || s.len > MAX_TAG || !is_word(s.p[0]))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_word(s.p[i]) && s.p[i] != '.' && s.p[i] != '-')
            return false;
    return true;
}

static bool is_hex(struct sv s, size_t len)
{
    for (size_t i = 0; i < s.len; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return s.len == len;
}

static bool digest_ok(struct sv s)
{
    struct sv hex = s, algorithm = sv_cut(&hex, ':');
    return (sv_is(algorithm, "sha256") && is_hex(hex, 64)) ||
           (sv_is(algorithm, "sha512") && is_hex(hex, 128));
}

static bool is_domain(struct sv first)
{
    return sv_find(first, '.') >= 0 || sv_find(first, ':') >= 0 || sv_is(first, "localhost") ||
           has_upper(first);
}

static bool split_name(struct sv name, struct arena *a, struct image_ref *out, struct vic_err *err)
{
    struct sv path = name, first = sv_cut(&path, '/'), domain = SV("docker.io");
    if (path.p && is_domain(first))
        domain = sv_is(first, "index.docker.io") ? domain : first;
    else
        path = name;
    bool official = sv_is(domain, "docker.io") && sv_find(path, '/') < 0;
    out->domain = arena_sv(a, domain);
    out->path = arena_printf(a, "%s" SV_FMT, official ? "library/" : "", SV_ARG(path));
    if (has_upper(path))
        return vic_fail(err, VIC_INVALID, 0,
                        "invalid reference format: repository name (%.255s) must be lowercase",
                        out->path);
    if (!domain_ok(domain) || !path.len || !path_ok(path))
        return bad_format(err);
    return strlen(out->domain) + 1 + strlen(out->path) <= MAX_NAME ||
           vic_fail(err, VIC_INVALID, 0, "repository name must not be more than %d characters",
                    MAX_NAME);
}

bool ref_parse(struct sv text, struct arena *a, struct image_ref *out, struct vic_err *err)
{
    *out = (struct image_ref){"", "", "", ""};
    if (text.len > MAX_NAME + MAX_TAG + 160 || memchr(text.p ? text.p : "", 0, text.len))
        return bad_format(err);
    if (is_hex(text, 64))
        return vic_fail(err, VIC_INVALID, 0,
                        "invalid repository name (" SV_FMT
                        "), cannot specify 64-byte hexadecimal strings",
                        SV_ARG(text));
    struct sv digest = text, name = sv_cut(&digest, '@');
    if (digest.p && !digest_ok(digest))
        return bad_format(err);
    ptrdiff_t colon = sv_rfind(name, ':'), slash = sv_rfind(name, '/');
    if (colon >= 0 && colon > slash) {
        struct sv tag = sv_sub(name, (size_t)colon + 1, SIZE_MAX);
        name = sv_sub(name, 0, (size_t)colon);
        if (!tag_ok(tag))
            return bad_format(err);
        out->tag = arena_sv(a, tag);
    }
    out->digest = arena_sv(a, digest);
    return split_name(name, a, out, err);
}

const char *ref_repo(const struct image_ref *r, struct arena *a)
{
    return arena_printf(a, "%s/%s", r->domain, r->path);
}

const char *ref_full(const struct image_ref *r, struct arena *a)
{
    return arena_printf(a, "%s/%s:%s", r->domain, r->path, *r->tag ? r->tag : "latest");
}

const char *ref_familiar_repo(const struct image_ref *r, struct arena *a)
{
    if (strcmp(r->domain, "docker.io") != 0)
        return ref_repo(r, a);
    if (strncmp(r->path, "library/", 8) == 0 && !strchr(r->path + 8, '/'))
        return r->path + 8;
    return r->path;
}

const char *ref_familiar(const struct image_ref *r, struct arena *a)
{
    const char *repo = ref_familiar_repo(r, a);
    if (*r->digest)
        return arena_printf(a, "%s%s%s@%s", repo, *r->tag ? ":" : "", r->tag, r->digest);
    return arena_printf(a, "%s:%s", repo, *r->tag ? r->tag : "latest");
}
