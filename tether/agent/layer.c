/* Applying a layer: see layer.h.
 *
 * libarchive reads the tar format only (no filters: inflate.h decompresses).  Names are bytes: the
 * program runs in the C locale, where libarchive cannot convert what is not ASCII, warns, and gives
 * the raw name; so warnings are no errors.  The archive's bytes are hashed on their way in; what
 * follows its end is read to the end, as the diff id covers it.
 *
 * An opaque whiteout removes what was in the folder before this layer, so the paths that the layer
 * has made are remembered, as 128 bits of their SHA-256.  Folders get their times last, as their
 * children's creation changes them. */
#include "layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/tls.h"

#include "inflate.h"
#include "layer_entry.h"
#include "layer_name.h"
#include "root.h"

enum { CHUNK = 65536, MAX_DIR_BYTES = 64 << 20, FIRST_SEEN = 4096 };

struct seen_key {
    uint64_t a, b;
};

struct dir_time {
    size_t path; /* offset in dir_paths */
    struct timespec mtime;
};

struct layer {
    const struct layer_options *o;
    struct layer_result *result;
    struct vic_err *err;
    bool failed; /* err is set */
    struct archive *archive;
    struct sha256 hash;
    unsigned char chunk[CHUNK];
    struct seen_key *seen;
    size_t seen_size, seen_count, entries;
    struct dir_time *dirs;
    size_t dir_count, dir_cap;
    struct buf dir_paths;
    /* The folder of the last entry; most entries share it. */
    int parent;
    char parent_path[PATH_MAX];
};

/* --- the stream --- */

static bool next_chunk(struct layer *l, size_t *got)
{
    if (l->failed || !inflate_read(l->o->in, l->chunk, sizeof l->chunk, got, l->err)) {
        l->failed = true;
        return false;
    }
    sha256_update(&l->hash, l->chunk, *got);
    l->result->size += *got;
    if (l->result->size > l->o->max_bytes) {
        vic_fail(l->err, VIC_TOO_LARGE, 0, "the layer is larger than its disk");
        l->failed = true;
    }
    return !l->failed;
}

static la_ssize_t on_read(struct archive *a, void *arg, const void **bytes)
{
    struct layer *l = arg;
    size_t got;
    *bytes = l->chunk;
    if (next_chunk(l, &got))
        return (la_ssize_t)got;
    archive_set_error(a, EIO, "input");
    return -1;
}

static bool archive_failed(struct layer *l)
{
    if (l->failed) /* the input was at fault, and said so */
        return false;
    l->failed = true;
    const char *text = archive_error_string(l->archive);
    return vic_fail(l->err, VIC_CORRUPT, 0, "tar: %s", text ? text : "damaged");
}

/* --- what this layer has made --- */

static struct seen_key key_of(struct sv path)
{
    unsigned char h[32];
    struct seen_key k;
    sha256_of(path.p, path.len, h);
    memcpy(&k, h, sizeof k);
    k.a |= 1; /* never all zero: that is an empty slot */
    return k;
}

static struct seen_key *seen_slot(struct seen_key *table, size_t size, struct seen_key k)
{
    size_t i = (size_t)k.b & (size - 1);
    while (table[i].a && (table[i].a != k.a || table[i].b != k.b))
        i = (i + 1) & (size - 1);
    return &table[i];
}

static void seen_grow(struct layer *l)
{
    size_t size = l->seen_size ? l->seen_size * 2 : FIRST_SEEN;
    struct seen_key *table = xcalloc(size, sizeof *table);
    for (size_t i = 0; i < l->seen_size; i++) {
        if (l->seen[i].a)
            *seen_slot(table, size, l->seen[i]) = l->seen[i];
    }
    free(l->seen);
    l->seen = table;
    l->seen_size = size;
}

static void seen_add(struct layer *l, struct sv path)
{
    struct seen_key k = key_of(path);
    if (l->seen_count * 2 >= l->seen_size)
        seen_grow(l);
    struct seen_key *slot = seen_slot(l->seen, l->seen_size, k);
    l->seen_count += slot->a == 0;
    *slot = k;
}

static bool seen_has(const struct layer *l, struct sv path)
{
    return l->seen_size && seen_slot(l->seen, l->seen_size, key_of(path))->a != 0;
}

/* --- folders --- */

static void forget_parent(struct layer *l)
{
    if (l->parent >= 0)
        close(l->parent);
    l->parent = -1;
}

static bool open_parent(struct layer *l, struct sv dir)
{
    if (l->parent >= 0 && sv_is(dir, l->parent_path))
        return true;
    forget_parent(l);
    l->parent = root_open_dir(l->o->root, dir);
    if (l->parent < 0)
        return vic_fail_errno(l->err, "its folder");
    memcpy(l->parent_path, dir.p, dir.len);
    l->parent_path[dir.len] = '\0';
    return true;
}

static bool remember_dir(struct layer *l, const struct layer_name *n, struct archive_entry *e)
{
    if (!archive_entry_mtime_is_set(e))
        return true;
    if (l->dir_paths.len + n->len + 1 > MAX_DIR_BYTES)
        return vic_fail(l->err, VIC_TOO_LARGE, 0, "too many folders");
    if (l->dir_count == l->dir_cap) {
        l->dir_cap = l->dir_cap ? l->dir_cap * 2 : 256;
        l->dirs = xrealloc(l->dirs, l->dir_cap * sizeof *l->dirs);
    }
    l->dirs[l->dir_count++] =
        (struct dir_time){l->dir_paths.len, {archive_entry_mtime(e), archive_entry_mtime_nsec(e)}};
    buf_add(&l->dir_paths, n->path, n->len + 1);
    return true;
}

/* A folder that a later entry replaced is skipped. */
static void set_dir_times(struct layer *l)
{
    for (size_t i = 0; i < l->dir_count; i++) {
        const char *path = l->dir_paths.data + l->dirs[i].path;
        struct timespec times[2] = {l->dirs[i].mtime, l->dirs[i].mtime};
        AUTO_CLOSE int fd =
            root_open(l->o->root, path[0] ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd >= 0)
            (void)futimens(fd, times);
    }
}

/* --- whiteouts --- */

static bool push_path(struct buf *queue, const char *dir, const char *name)
{
    if (queue->len > MAX_DIR_BYTES)
        return false;
    buf_addf(queue, "%s%s%s", dir, dir[0] ? "/" : "", name);
    buf_add_c(queue, '\0');
    return true;
}

/* Removes from one folder what this layer has not made; sub-folders that it has made are queued. */
static bool clear_folder(struct layer *l, const char *path, struct buf *queue)
{
    int fd = root_open(l->o->root, path[0] ? path : ".", O_RDONLY | O_DIRECTORY);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    bool ok = d || errno == ENOENT || errno == ENOTDIR || vic_fail_errno(l->err, "opaque folder");
    for (struct dirent *e; d && ok && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        AUTO_BUF struct buf child = {0};
        (void)push_path(&child, path, e->d_name);
        if (!seen_has(l, sv_make(child.data, child.len - 1)))
            ok = tree_remove(l->o->trash, fd, e->d_name, l->err);
        else if (e->d_type == DT_DIR)
            ok = push_path(queue, path, e->d_name) ||
                 vic_fail(l->err, VIC_TOO_LARGE, 0, "too many folders");
    }
    if (d)
        closedir(d);
    return ok;
}

static bool make_opaque(struct layer *l, struct sv dir)
{
    AUTO_BUF struct buf queue = {0};
    buf_add_sv(&queue, dir);
    buf_add_c(&queue, '\0');
    forget_parent(l);
    for (size_t at = 0; at < queue.len;) {
        AUTO_FREE char *path = xstrdup(queue.data + at); /* the queue may move */
        at += strlen(path) + 1;
        if (!clear_folder(l, path, &queue))
            return false;
    }
    return true;
}

static bool white_out(struct layer *l, const struct layer_name *n)
{
    const char *hidden = layer_name_base(n).p + 4;
    if (hidden[0] == '\0' || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return vic_fail(l->err, VIC_INVALID, 0, "a whiteout of no name");
    if (!open_parent(l, layer_name_dir(n)) || !tree_remove(l->o->trash, l->parent, hidden, l->err))
        return false;
    /* A link above a later entry may just have gone. */
    forget_parent(l);
    return true;
}

/* --- entries --- */

/* Whatever is there goes, but for a folder that stays a folder. */
static bool make_way(struct layer *l, const char *base, bool dir, bool *exists)
{
    struct stat st;
    *exists = false;
    if (fstatat(l->parent, base, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || vic_fail_errno(l->err, "look up");
    if (dir && S_ISDIR(st.st_mode)) {
        *exists = true;
        return true;
    }
    return tree_remove(l->o->trash, l->parent, base, l->err);
}

static bool put_entry(struct layer *l, const struct layer_name *n, struct archive_entry *e)
{
    struct entry_place at = {.root = l->o->root, .name = n, .max_bytes = l->o->max_bytes};
    bool dir = archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e);
    if (n->len == 0)
        return dir ? entry_apply_root(&at, e, l->err) && remember_dir(l, n, e)
                   : vic_fail(l->err, VIC_INVALID, 0, "the root must be a folder");
    if (!open_parent(l, layer_name_dir(n)) || !make_way(l, layer_name_base(n).p, dir, &at.exists))
        return false;
    at.parent = l->parent;
    if (!entry_put(&at, l->archive, e, l->err))
        return false;
    seen_add(l, sv_make(n->path, n->len));
    if (dir)
        return remember_dir(l, n, e);
    if (archive_entry_filetype(e) != AE_IFREG)
        forget_parent(l);
    return true;
}

static bool one_entry(struct layer *l, struct archive_entry *e)
{
    struct layer_name n;
    const char *name = archive_entry_pathname(e);
    snprintf(l->result->entry, sizeof l->result->entry, "%s", name ? name : "");
    if (++l->entries > LAYER_MAX_ENTRIES)
        return vic_fail(l->err, VIC_TOO_LARGE, 0, "more than %d entries", LAYER_MAX_ENTRIES);
    if (!layer_name_clean(name ? name : "", &n, l->err))
        return false;
    switch (layer_whiteout(layer_name_base(&n))) {
    case LAYER_OPAQUE:
        return make_opaque(l, layer_name_dir(&n));
    case LAYER_WHITEOUT:
        return white_out(l, &n);
    case LAYER_METADATA:
        return true;
    case LAYER_ENTRY:
        break;
    }
    return put_entry(l, &n, e);
}

static bool all_entries(struct layer *l)
{
    struct archive_entry *e;
    for (;;) {
        int r = archive_read_next_header(l->archive, &e);
        if (r == ARCHIVE_EOF)
            return true;
        if (r < ARCHIVE_WARN)
            return archive_failed(l);
        if (!one_entry(l, e)) {
            if (l->failed) /* the input broke off inside a file */
                return false;
            return vic_wrap(l->err, "layer entry \"%.200s\"", l->result->entry);
        }
    }
}

static bool drain(struct layer *l)
{
    size_t got;
    do {
        if (!next_chunk(l, &got))
            return false;
    } while (got > 0);
    return true;
}

static bool open_archive(struct layer *l)
{
    l->archive = archive_read_new();
    if (!l->archive)
        return vic_fail(l->err, VIC_NO_MEMORY, 0, "archive reader");
    if (archive_read_support_filter_none(l->archive) != ARCHIVE_OK ||
        archive_read_support_format_tar(l->archive) != ARCHIVE_OK ||
        archive_read_support_format_empty(l->archive) != ARCHIVE_OK ||
        archive_read_open(l->archive, l, NULL, on_read, NULL) != ARCHIVE_OK)
        return archive_failed(l);
    return true;
}

static void layer_fini(struct layer *l)
{
    archive_read_free(l->archive);
    forget_parent(l);
    free(l->seen);
    free(l->dirs);
    buf_fini(&l->dir_paths);
}

bool layer_apply(const struct layer_options *o, struct layer_result *out, struct vic_err *err)
{
    struct layer *l = xcalloc(1, sizeof *l);
    unsigned char digest[32];
    *l = (struct layer){.o = o, .result = out, .err = err, .parent = -1};
    *out = (struct layer_result){0};
    sha256_init(&l->hash);
    bool ok = open_archive(l) && all_entries(l);
    if (ok) {
        out->entry[0] = '\0';
        ok = drain(l);
    }
    if (ok) {
        set_dir_times(l);
        sha256_final(&l->hash, digest);
        memcpy(out->diff_id, "sha256:", 7);
        hex_encode(digest, sizeof digest, out->diff_id + 7);
    }
    layer_fini(l);
    free(l);
    return ok;
}
