/* A reader of tar streams (POSIX 1003.1 pax interchange format, ustar; GNU 'L' and 'K' entries).
 *
 * The archive comes from a client and is hostile: sizes are bounded before memory is taken, numbers
 * are octal or GNU base-256 within 63 bits, checksums are compared, names are given out as they are
 * and must pass tar_clean_name before they mean anything. */
#include "tar.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[8], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a tar header is one block");

struct extended {
    const char *path, *link;
    uint64_t size;
    bool has_size;
};

static bool truncated(const struct tar *t, struct vic_err *err)
{
    return vic_fail(err, VIC_INVALID, 0, "the archive is truncated in entry %llu",
                    (unsigned long long)t->entries);
}

static bool read_all(struct tar *t, void *p, size_t size, struct vic_err *err)
{
    size_t got;
    return t->read(t->arg, p, size, &got, err) && (got == size || truncated(t, err));
}

bool tar_data(struct tar *t, void *p, size_t size, size_t *got, struct vic_err *err)
{
    char pad[TAR_BLOCK];
    *got = 0;
    if (!t->left)
        return true;
    if (size > t->left)
        size = (size_t)t->left;
    if (!t->read(t->arg, p, size, got, err))
        return false;
    if (!*got)
        return truncated(t, err);
    t->left -= *got;
    if (t->left)
        return true;
    return read_all(t, pad, t->padding, err);
}

static bool skip(struct tar *t, struct vic_err *err)
{
    char piece[8192];
    size_t got;
    while (t->left)
        if (!tar_data(t, piece, sizeof piece, &got, err))
            return false;
    return true;
}

/* Octal, blanks or NUL around it; or GNU's base 256. */
static bool number(const char *field, size_t size, uint64_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    if ((unsigned char)field[0] & 0x80) {
        n = (unsigned char)field[0] & 0x3F;
        if ((unsigned char)field[0] & 0x40)
            return false; /* negative */
        for (i = 1; i < size; i++) {
            if (n >> 55)
                return false;
            n = n << 8 | (unsigned char)field[i];
        }
        *out = n;
        return true;
    }
    while (i < size && field[i] == ' ')
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
        if (n >> 60)
            return false;
        n = n << 3 | (uint64_t)(field[i] - '0');
    }
    if (i < size && field[i] != '\0' && field[i] != ' ')
        return false;
    *out = n;
    return true;
}

static bool checksum_fits(const struct header *h)
{
    const unsigned char *b = (const void *)h;
    uint64_t sum = 0, expected;
    for (size_t i = 0; i < sizeof *h; i++)
        sum += i >= offsetof(struct header, checksum) && i < offsetof(struct header, type) ? ' '
                                                                                           : b[i];
    return number(h->checksum, sizeof h->checksum, &expected) && sum == expected;
}

static bool all_zero(const struct header *h)
{
    const char *b = (const void *)h;
    for (size_t i = 0; i < sizeof *h; i++)
        if (b[i])
            return false;
    return true;
}

/* The data of a special entry, NUL-terminated. */
static bool take_text(struct tar *t, uint64_t max, char **out, size_t *len, struct vic_err *err)
{
    if (t->left > max)
        return vic_fail(err, VIC_INVALID, 0, "entry %llu: extended header of %llu bytes",
                        (unsigned long long)t->entries, (unsigned long long)t->left);
    *len = (size_t)t->left;
    char *text = arena_alloc(t->a, *len + 1);
    for (size_t at = 0, got; at < *len; at += got)
        if (!tar_data(t, text + at, *len - at, &got, err))
            return false;
    *out = text;
    return true;
}

/* "25 path=some/name\n" records. */
static bool parse_pax(struct tar *t, struct sv text, struct extended *x, struct vic_err *err)
{
    while (text.len) {
        uint64_t len;
        struct sv rest = text;
        struct sv digits = sv_cut(&rest, ' ');
        if (!sv_to_u64(digits, &len) || len > text.len || len < digits.len + 3 ||
            text.p[len - 1] != '\n')
            return vic_fail(err, VIC_INVALID, 0, "entry %llu: malformed extended header",
                            (unsigned long long)t->entries);
        struct sv value = sv_sub(text, digits.len + 1, (size_t)len - digits.len - 2);
        struct sv key = sv_cut(&value, '=');
        if (sv_is(key, "path"))
            x->path = arena_sv(t->a, value);
        else if (sv_is(key, "linkpath"))
            x->link = arena_sv(t->a, value);
        else if (sv_is(key, "size")) {
            x->has_size = sv_to_u64(value, &x->size);
            if (!x->has_size)
                return vic_fail(err, VIC_INVALID, 0, "entry %llu: bad size in extended header",
                                (unsigned long long)t->entries);
        }
        text = sv_sub(text, (size_t)len, text.len);
    }
    return true;
}

static bool begin_data(struct tar *t, uint64_t size, struct vic_err *err)
{
    if (size > (uint64_t)INT64_MAX)
        return vic_fail(err, VIC_INVALID, 0, "entry %llu: size out of range",
                        (unsigned long long)t->entries);
    t->left = size;
    t->padding = (unsigned)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
    return true;
}

static enum tar_type type_of(char c)
{
    switch (c) {
    case '0':
    case '\0':
    case '7':
        return TAR_FILE;
    case '1':
        return TAR_HARDLINK;
    case '2':
        return TAR_SYMLINK;
    case '5':
        return TAR_DIR;
    default:
        return TAR_OTHER;
    }
}

static const char *ustar_name(struct tar *t, const struct header *h)
{
    struct sv name = sv_make(h->name, strnlen(h->name, sizeof h->name));
    size_t prefix = strnlen(h->prefix, sizeof h->prefix);
    if (memcmp(h->magic, "ustar\0", 6) == 0 && prefix)
        return arena_printf(t->a, "%.*s/" SV_FMT, (int)prefix, h->prefix, SV_ARG(name));
    return arena_sv(t->a, name);
}

/* Reads a header; '*end' at the archive's end (a zero block, or no more bytes). */
static bool read_header(struct tar *t, struct header *h, bool *end, struct vic_err *err)
{
    size_t got;
    if (!t->read(t->arg, h, sizeof *h, &got, err))
        return false;
    *end = got == 0;
    if (*end)
        return t->entries ? true
                          : vic_fail(err, VIC_INVALID, 0, "the archive is empty: no tar header");
    if (got != sizeof *h)
        return truncated(t, err);
    if (all_zero(h)) {
        *end = true;
        return true;
    }
    t->entries++;
    return checksum_fits(h) ||
           vic_fail(err, VIC_INVALID, 0, "entry %llu: not a tar header (checksum does not fit)",
                    (unsigned long long)t->entries);
}

/* Takes an extended header ('x', 'L', 'K', 'g'); '*special' says whether it was one. */
static bool take_special(struct tar *t, const struct header *h, struct extended *x, bool *special,
                         struct vic_err *err)
{
    char *text = NULL;
    size_t len = 0;
    *special = h->type == 'x' || h->type == 'g' || h->type == 'L' || h->type == 'K';
    if (!*special)
        return true;
    if (!take_text(t, h->type == 'x' || h->type == 'g' ? TAR_MAX_PAX : TAR_MAX_NAME, &text, &len,
                   err))
        return false;
    if (h->type == 'x')
        return parse_pax(t, sv_make(text, len), x, err);
    if (h->type == 'L')
        x->path = text;
    if (h->type == 'K')
        x->link = text;
    return true; /* 'g' says nothing that we need */
}

bool tar_next(struct tar *t, struct tar_entry *out, bool *more, struct vic_err *err)
{
    struct extended x = {0};
    struct header h;
    bool end, special = true;
    *more = false;
    if (t->ended)
        return true;
    while (special) {
        uint64_t size;
        if (!skip(t, err) || !read_header(t, &h, &end, err))
            return false;
        if (end) {
            t->ended = true;
            return true;
        }
        if (!number(h.size, sizeof h.size, &size))
            return vic_fail(err, VIC_INVALID, 0, "entry %llu: malformed size",
                            (unsigned long long)t->entries);
        if (!begin_data(t, size, err) || !take_special(t, &h, &x, &special, err))
            return false;
    }
    *out = (struct tar_entry){.type = type_of(h.type)};
    out->name = x.path ? x.path : ustar_name(t, &h);
    out->link = x.link ? x.link : arena_sv(t->a, sv_make(h.link, strnlen(h.link, sizeof h.link)));
    if (x.has_size && !begin_data(t, x.size, err))
        return false;
    if (out->type != TAR_FILE && out->type != TAR_OTHER && !begin_data(t, 0, err))
        return false;
    out->size = t->left;
    *more = true;
    return true;
}

bool tar_clean_name(const char *name, struct arena *a, const char **out, struct vic_err *err)
{
    struct sv rest = sv_of(name);
    AUTO_BUF struct buf clean = {.limit = TAR_MAX_NAME};
    char shown[128];
    snprintf(shown, sizeof shown, "%s", name);
    if (rest.len && rest.p[0] == '/')
        return vic_fail(err, VIC_INVALID, 0, "entry \"%s\" has an absolute name", shown);
    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.p[i] < ' ')
            return vic_fail(err, VIC_INVALID, 0, "an entry has a control character in its name");
    while (rest.p) {
        struct sv part = sv_cut(&rest, '/');
        if (!part.len || sv_is(part, "."))
            continue;
        if (sv_is(part, ".."))
            return vic_fail(err, VIC_INVALID, 0, "entry \"%s\" leaves the archive by \"..\"",
                            shown);
        if (clean.len)
            buf_add_c(&clean, '/');
        buf_add_sv(&clean, part);
    }
    if (clean.failed)
        return vic_fail(err, VIC_INVALID, 0, "entry \"%.60s...\" has too long a name", shown);
    *out = arena_sv(a, buf_sv(&clean));
    return true;
}
