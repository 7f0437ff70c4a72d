/* A reader of tar streams (POSIX 1003.1 pax interchange format, ustar; GNU 'L' and 'K' entries).
 *
 * The archive comes from a client and is hostile: sizes are bounded before memory is taken (also
 * the sum of all names: the arena lives as long as the request), numbers are octal or GNU base-256
 * within 63 bits, checksums are compared, an entry has at most one extended header of each type,
 * names are given out as they are and must pass tar_clean_name before they mean anything. */
#include "tar.h"

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
    unsigned seen; /* a bit for each type */
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

/* A copy of a name or link that lives as long as the reader. */
static bool keep_text(struct tar *t, struct sv text, const char **out, struct vic_err *err)
{
    if (text.len > TAR_MAX_NAME)
        return vic_fail(err, VIC_TOO_LARGE, 0, "entry %llu: a name of %zu bytes",
                        (unsigned long long)t->entries, text.len);
    if (memchr(text.p ? text.p : "", '\0', text.len))
        return vic_fail(err, VIC_INVALID, 0, "entry %llu: a NUL byte in a name",
                        (unsigned long long)t->entries);
    t->text += text.len + 1;
    if (t->text > TAR_MAX_TEXT)
        return vic_fail(err, VIC_TOO_LARGE, 0, "the archive's names are over %d bytes",
                        TAR_MAX_TEXT);
    *out = arena_sv(t->a, text);
    return true;
}

/* The data of an extended header. */
static bool take_text(struct tar *t, uint64_t max, struct buf *out, struct vic_err *err)
{
    char piece[4096];
    if (t->left > max)
        return vic_fail(err, VIC_TOO_LARGE, 0, "entry %llu: extended header of %llu bytes",
                        (unsigned long long)t->entries, (unsigned long long)t->left);
    for (size_t got; t->left;) {
        if (!tar_data(t, piece, sizeof piece, &got, err))
            return false;
        buf_add(out, piece, got);
    }
    return !out->failed || vic_fail(err, VIC_NO_MEMORY, 0, "read an extended header");
}

static bool bad_extended(const struct tar *t, struct vic_err *err)
{
    return vic_fail(err, VIC_INVALID, 0, "entry %llu: malformed extended header",
                    (unsigned long long)t->entries);
}

/* One key and value; an empty value takes back what an earlier one said (pax, "extended header").
 */
static bool take_pair(struct tar *t, struct sv key, struct sv value, struct extended *x,
                      struct vic_err *err)
{
    const char **text = sv_is(key, "path") ? &x->path : sv_is(key, "linkpath") ? &x->link : NULL;
    if (text && !value.len)
        *text = NULL;
    else if (text)
        return keep_text(t, value, text, err);
    if (!sv_is(key, "size"))
        return true;
    x->has_size = value.len > 0;
    return !value.len || sv_to_u64(value, &x->size) || bad_extended(t, err);
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
            return bad_extended(t, err);
        struct sv value = sv_sub(text, digits.len + 1, (size_t)len - digits.len - 2);
        struct sv key = sv_cut(&value, '=');
        if (!value.p || !key.len)
            return bad_extended(t, err);
        if (!take_pair(t, key, value, x, err))
            return false;
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

static bool ustar_name(struct tar *t, const struct header *h, const char **out, struct vic_err *err)
{
    char name[sizeof h->prefix + 1 + sizeof h->name];
    size_t prefix = strnlen(h->prefix, sizeof h->prefix), len = 0;
    if (memcmp(h->magic, "ustar\0", 6) == 0 && prefix) {
        memcpy(name, h->prefix, prefix);
        name[prefix] = '/';
        len = prefix + 1;
    }
    size_t tail = strnlen(h->name, sizeof h->name);
    memcpy(name + len, h->name, tail);
    return keep_text(t, sv_make(name, len + tail), out, err);
}

/* Reads a header; '*end' at the archive's end. */
static bool read_header(struct tar *t, struct header *h, bool *end, struct vic_err *err)
{
    size_t got;
    if (!t->read(t->arg, h, sizeof *h, &got, err))
        return false;
    if (got == 0 && !t->entries)
        return vic_fail(err, VIC_INVALID, 0, "the archive is empty: no tar header");
    if (got != sizeof *h)
        return truncated(t, err);
    *end = all_zero(h);
    if (*end)
        return true;
    t->entries++;
    return checksum_fits(h) ||
           vic_fail(err, VIC_INVALID, 0, "entry %llu: not a tar header (checksum does not fit)",
                    (unsigned long long)t->entries);
}

/* GNU 'L' and 'K': the name, ended by a NUL. */
static bool take_long_name(struct tar *t, struct sv text, const char **out, struct vic_err *err)
{
    return keep_text(t, sv_sub(text, 0, strnlen(text.p ? text.p : "", text.len)), out, err);
}

/* Takes an extended header: 'x' (pax), 'g' (pax for all that follow: says nothing that we need),
 * 'L' and 'K' (GNU). */
static bool take_special(struct tar *t, char type, struct extended *x, struct vic_err *err)
{
    AUTO_BUF struct buf text = {0};
    unsigned bit = type == 'x' ? 1 : type == 'L' ? 2 : type == 'K' ? 4 : 8;
    bool pax = type == 'x' || type == 'g';
    if (x->seen & bit)
        return vic_fail(err, VIC_INVALID, 0, "entry %llu: a second extended header",
                        (unsigned long long)t->entries);
    x->seen |= bit;
    if (!take_text(t, pax ? TAR_MAX_PAX : TAR_MAX_NAME + 1, &text, err))
        return false;
    if (type == 'x')
        return parse_pax(t, buf_sv(&text), x, err);
    return type == 'g' || take_long_name(t, buf_sv(&text), type == 'L' ? &x->path : &x->link, err);
}

static bool is_special(char type)
{
    return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

/* The next header that is an entry's own; what goes before it is in 'x'. */
static bool next_header(struct tar *t, struct header *h, struct extended *x, bool *end,
                        struct vic_err *err)
{
    for (;;) {
        uint64_t size;
        if (!skip(t, err) || !read_header(t, h, end, err))
            return false;
        if (*end)
            return !(x->seen & 7) || truncated(t, err); /* 'g' may be about nothing */
        if (!number(h->size, sizeof h->size, &size))
            return vic_fail(err, VIC_INVALID, 0, "entry %llu: malformed size",
                            (unsigned long long)t->entries);
        if (!begin_data(t, size, err))
            return false;
        if (!is_special(h->type))
            return true;
        if (!take_special(t, h->type, x, err))
            return false;
    }
}

/* Types whose header may have a size that means something else, but never data. */
static bool has_no_data(char type)
{
    return type >= '1' && type <= '6';
}

bool tar_next(struct tar *t, struct tar_entry *out, bool *more, struct vic_err *err)
{
    struct extended x = {0};
    struct header h;
    bool end = false;
    *more = false;
    if (t->ended)
        return true;
    if (!next_header(t, &h, &x, &end, err))
        return false;
    if (end) {
        t->ended = true;
        return true;
    }
    *out = (struct tar_entry){.type = type_of(h.type), .name = x.path, .link = x.link};
    if ((!out->name && !ustar_name(t, &h, &out->name, err)) ||
        (!out->link &&
         !keep_text(t, sv_make(h.link, strnlen(h.link, sizeof h.link)), &out->link, err)))
        return false;
    if (x.has_size && !begin_data(t, x.size, err))
        return false;
    if (has_no_data(h.type) && !begin_data(t, 0, err))
        return false;
    out->size = t->left;
    *more = true;
    return true;
}

/* What of a name may stand in an error. */
static void show(const char *name, char out[128])
{
    size_t len = 0;
    for (; name[len] && len < 127; len++)
        out[len] = (unsigned char)name[len] < ' ' || name[len] == 0x7f ? '?' : name[len];
    out[len] = '\0';
}

bool tar_clean_name(const char *name, struct arena *a, const char **out, struct vic_err *err)
{
    struct sv rest = sv_of(name);
    AUTO_BUF struct buf clean = {.limit = TAR_MAX_NAME};
    char shown[128];
    show(name, shown);
    if (!rest.len)
        return vic_fail(err, VIC_INVALID, 0, "an entry has no name");
    if (rest.p[0] == '/')
        return vic_fail(err, VIC_INVALID, 0, "entry \"%s\" has an absolute name", shown);
    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.p[i] < ' ' || rest.p[i] == 0x7f)
            return vic_fail(err, VIC_INVALID, 0, "entry \"%s\" has a control character in its name",
                            shown);
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
