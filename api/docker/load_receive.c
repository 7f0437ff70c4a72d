/* The archive of a load, read once, as it comes: every regular file goes to the spool.
 *
 * Hostile input: absolute names, "..", links that leave the archive, devices, too many entries,
 * blobs whose bytes are not what their name says.  Names are keys in a list, never paths of a file
 * system, so a link in the middle of a name leads nowhere. */
#include "load.h"
#include "tar.h"

enum { PIECE = 65536, MAGIC = 6 };

struct input {
    struct call *c;
    struct inflate *z;
    char head[MAGIC]; /* the first bytes, looked at and not yet given on */
    size_t head_size, head_at;
};

bool load_bad(struct call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vic_vfail(&c->err, VIC_INVALID, 0, fmt, ap);
    va_end(ap);
    return false;
}

bool load_digest_ok(const char *d)
{
    struct sv s = sv_of(d);
    return s.len == 71 && sv_starts(s, SV("sha256:")) && strspn(d + 7, "0123456789abcdef") == 64;
}

/* --- bytes ----------------------------------------------------------------------------------- */
/* As they come over HTTP, those looked at first. */
static bool read_raw(void *arg, void *p, size_t size, size_t *got, struct vic_err *err)
{
    struct input *in = arg;
    size_t left = in->head_size - in->head_at;
    if (!left)
        return http_body_read(in->c->req, p, size, got, err);
    *got = size < left ? size : left;
    memcpy(p, in->head + in->head_at, *got);
    in->head_at += *got;
    return true;
}

static bool read_some(struct input *in, void *p, size_t size, size_t *got, struct vic_err *err)
{
    return in->z ? inflate_read(in->z, p, size, got, err) : read_raw(in, p, size, got, err);
}

/* tar_read: exactly 'size' bytes, fewer only at the end. */
static bool read_exactly(void *arg, void *p, size_t size, size_t *got, struct vic_err *err)
{
    size_t n = 0;
    for (*got = 0; *got < size; *got += n) {
        if (!read_some(arg, (char *)p + *got, size - *got, &n, err))
            return false;
        if (!n)
            break;
    }
    return true;
}

static const char *compression_of(struct sv head)
{
    static const struct {
        struct sv magic;
        const char *name;
    } known[] = {
        {{"\x1f\x8b", 2}, "gzip"},
        {{"\x28\xb5\x2f\xfd", 4}, "zstd"},
        {{"\xfd"
          "7zXZ",
          5},
         "xz"},
        {{"BZh", 3}, "bzip2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (sv_starts(head, known[i].magic))
            return known[i].name;
    return NULL;
}

/* Looks at the first bytes; a compressed archive gets its child. */
static bool open_input(struct input *in)
{
    struct call *c = in->c;
    size_t n;
    if (!read_exactly(in, in->head, MAGIC, &n, &c->err))
        return false;
    in->head_size = n;
    const char *format = compression_of(sv_make(in->head, n));
    if (!format)
        return true;
    in->z = inflate_start(&c->api->o, format, read_raw, in, &c->err);
    return in->z != NULL;
}

/* --- entries --------------------------------------------------------------------------------- */
static bool spool_entry(struct load *l, struct tar *t, struct file *f)
{
    struct call *c = l->c;
    AUTO_FREE char *piece = xmalloc(PIECE);
    struct spool_file *s = spool_new(c->api->o.spool, &c->err);
    if (!s)
        return false;
    for (size_t got;;) {
        if (!tar_data(t, piece, PIECE, &got, &c->err) ||
            (got && !spool_write(s, sv_make(piece, got), &c->err))) {
            spool_drop(s);
            return false;
        }
        if (!got)
            break;
    }
    return spool_keep(s, NULL, f->digest, &f->size, &c->err);
}

/* "blobs/sha256/<hex>" promises its bytes. */
static bool name_keeps_promise(struct call *c, const struct file *f)
{
    struct sv name = sv_of(f->name), dir = SV("blobs/sha256/");
    if (!sv_starts(name, dir) || name.len != dir.len + 64 ||
        strcmp(f->name + dir.len, f->digest + 7) == 0)
        return true;
    return load_bad(c, "entry \"%s\": digest mismatch: its bytes have %s", f->name, f->digest);
}

/* "a/../b" as one name inside the archive; false when it is absolute or leads above its root. */
static bool resolve_dots(struct arena *a, const char *path, const char **out)
{
    struct sv rest = sv_of(path);
    AUTO_BUF struct buf b = {.limit = 2 * TAR_MAX_NAME};
    if (!rest.len || rest.p[0] == '/')
        return false;
    while (rest.p) {
        struct sv part = sv_cut(&rest, '/');
        if (!part.len || sv_is(part, "."))
            continue;
        if (!sv_is(part, "..")) {
            if (b.len)
                buf_add_c(&b, '/');
            buf_add_sv(&b, part);
            continue;
        }
        if (!b.len)
            return false;
        ptrdiff_t slash = sv_rfind(buf_sv(&b), '/');
        b.len = slash < 0 ? 0 : (size_t)slash;
        b.data[b.len] = '\0';
    }
    *out = arena_sv(a, buf_sv(&b));
    return !b.failed;
}

/* A hard link's target is a name of the archive; a symbolic link's is relative to its folder. */
static bool take_link(struct call *c, const struct tar_entry *e, struct file *f)
{
    const char *slash = strrchr(f->name, '/'), *target = e->link;
    if (e->type == TAR_SYMLINK && slash && e->link[0] && e->link[0] != '/')
        target = arena_printf(c->a, "%.*s/%s", (int)(slash - f->name), f->name, e->link);
    return resolve_dots(c->a, target, &f->link) ||
           load_bad(c, "entry \"%.200s\" is a link that leaves the archive: \"%.200s\"", f->name,
                    e->link);
}

static bool take_entry(struct load *l, struct tar *t, const struct tar_entry *e)
{
    struct call *c = l->c;
    struct file *f = ARENA_NEW(c->a, struct file);
    if (!tar_clean_name(e->name, c->a, &f->name, &c->err))
        return false;
    if (e->type == TAR_DIR)
        return true;
    if (!f->name[0])
        return load_bad(c, "entry \"%.100s\" has no name of its own", e->name);
    if (e->type == TAR_OTHER)
        return load_bad(c, "entry \"%.200s\" is neither file, folder nor link", f->name);
    if (e->type == TAR_FILE ? !spool_entry(l, t, f) : !take_link(c, e, f))
        return e->type == TAR_FILE ? vic_wrap(&c->err, "entry \"%.200s\"", f->name) : false;
    f->next = l->files;
    l->files = f;
    return f->link || name_keeps_promise(c, f);
}

/* Archives are padded with zero blocks; what is left is read, so that the connection stays whole
 * and a checksum at the end of the compressed stream is looked at. */
static bool drain(struct input *in)
{
    struct call *c = in->c;
    char piece[4096];
    size_t got, total = 0;
    do {
        if (!read_some(in, piece, sizeof piece, &got, &c->err))
            return false;
        total += got;
    } while (got && total < LOAD_MAX_META);
    return !got || load_bad(c, "the archive goes on after its end");
}

static bool take_entries(struct load *l, struct input *in)
{
    struct call *c = l->c;
    struct tar t = {.read = read_exactly, .arg = in, .a = c->a};
    struct tar_entry e;
    bool more;
    for (;;) {
        if (!tar_next(&t, &e, &more, &c->err))
            return false;
        if (!more)
            return drain(in);
        if (t.entries > LOAD_MAX_ENTRIES)
            return load_bad(c, "the archive has more than %d entries", LOAD_MAX_ENTRIES);
        if (!take_entry(l, &t, &e))
            return false;
    }
}

bool load_receive(struct load *l)
{
    struct input in = {.c = l->c};
    bool ok = open_input(&in) && take_entries(l, &in);
    inflate_free(in.z);
    return ok;
}
