/* Datastore paths and files: see datastore.h.
 *
 * Every call resolves the parent folder first (open_beneath) and then works on the last component
 * relative to that descriptor with the *at functions, none of which follows a link at the end. */
#include "datastore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "base/mem.h"

#define TEMP_PREFIX ".vic-host-"

static int open_beneath(int dir, const char *rel, int flags, mode_t mode)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, *rel ? rel : ".", &how, sizeof how);
}

/* --- datastores ------------------------------------------------------------------------------- */

static void free_ds(struct vh *h, struct vh_obj *o)
{
    (void)h;
    struct vh_ds *ds = CONTAINER_OF(o, struct vh_ds, obj);
    close(ds->fd);
    free(ds->dir);
}

/* The uuid stays the same over restarts and moves: it lies in the folder. */
static bool ds_uuid(struct vh_ds *ds, struct vic_err *err)
{
    struct vh_path p = {.ds = ds, .rel = ".vic-host.uuid"};
    AUTO_CLOSE int fd = open_beneath(ds->fd, p.rel, O_RDONLY, 0);
    if (fd >= 0 && read(fd, ds->uuid, 36) == 36)
        return true;
    random_uuid(ds->uuid);
    return vh_file_write(&p, sv_of(ds->uuid), err);
}

bool vh_ds_add(struct vh *h, const char *name, const char *dir, struct vic_err *err)
{
    if (mkdir(dir, 0755) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "make datastore folder %s", dir);
    AUTO_FREE char *real = realpath(dir, NULL);
    AUTO_CLOSE int fd = real ? open(real, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        return vic_fail_errno(err, "open datastore folder %s", dir);
    struct vh_ds *ds = xcalloc(1, sizeof *ds);
    ds->dir = TAKE(real);
    ds->fd = TAKE_FD(fd);
    ds->obj.free = free_ds;
    if (!ds_uuid(ds, err)) {
        free_ds(h, &ds->obj);
        free(ds);
        return false;
    }
    vh_add(h, &ds->obj, &vim_managed_Datastore, ds->uuid, name, h->ds_folder);
    vh_ds_sweep(ds);
    return true;
}

struct vh_ds *vh_ds_at(struct vh *h, size_t n)
{
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_Datastore && n-- == 0)
            return CONTAINER_OF(o, struct vh_ds, obj);
    return NULL;
}

struct vh_ds *vh_ds_by_name(struct vh *h, struct sv name)
{
    struct vh_ds *ds;
    for (size_t i = 0; (ds = vh_ds_at(h, i)); i++)
        if (sv_is(name, ds->obj.name) || sv_is(name, ds->uuid))
            return ds;
    return NULL;
}

/* --- paths ------------------------------------------------------------------------------------ */

static bool good_component(struct sv c)
{
    return c.len <= VH_MAX_NAME && !sv_is(c, "..") && !memchr(c.p, '\0', c.len);
}

bool vh_path_clean(struct sv text, char out[VH_MAX_PATH])
{
    size_t len = 0;
    out[0] = '\0';
    while (text.len) {
        struct sv c = sv_cut(&text, '/');
        if (!c.len || sv_is(c, "."))
            continue;
        if (!good_component(c) || len + c.len + 2 > VH_MAX_PATH)
            return false;
        if (len)
            out[len++] = '/';
        memcpy(out + len, c.p, c.len);
        len += c.len;
        out[len] = '\0';
    }
    return true;
}

static bool bad_path(struct vh_fault *f, const char *text)
{
    VH_FAULT(f, InvalidDatastorePath, "Invalid datastore path '%s'.", text)->datastorePath =
        arena_strdup(f->a, text);
    return false;
}

bool vh_path_parse(struct vh *h, const char *text, struct vh_path *out, struct vh_fault *f)
{
    struct sv rest = sv_of(text);
    *out = (struct vh_path){0};
    if (!rest.len || rest.p[0] != '[')
        return bad_path(f, text ? text : "");
    rest = sv_sub(rest, 1, rest.len);
    struct sv name = sv_cut(&rest, ']');
    if (!rest.p || !name.len)
        return bad_path(f, text);
    if (rest.len && rest.p[0] == ' ')
        rest = sv_sub(rest, 1, rest.len);
    if (!vh_path_clean(rest, out->rel))
        return bad_path(f, text);
    out->ds = vh_ds_by_name(h, name);
    if (!out->ds) {
        VH_FAULT(f, InvalidDatastore, "Datastore '%.*s' not found.", (int)name.len, name.p)->name =
            arena_sv(f->a, name);
        return false;
    }
    return true;
}

char *vh_path_text(struct arena *a, const struct vh_path *p)
{
    return arena_printf(a, "[%s] %s", p->ds->obj.name, p->rel);
}

char *vh_path_host(struct arena *a, const struct vh_path *p)
{
    return arena_printf(a, *p->rel ? "%s/%s" : "%s%s", p->ds->dir, p->rel);
}

const char *vh_path_leaf(const struct vh_path *p)
{
    const char *slash = strrchr(p->rel, '/');
    return slash ? slash + 1 : p->rel;
}

void vh_path_parent(const struct vh_path *p, struct vh_path *out)
{
    size_t len = (size_t)(vh_path_leaf(p) - p->rel);
    struct vh_path copy = {.ds = p->ds};
    if (len)
        memcpy(copy.rel, p->rel, len - 1);
    *out = copy;
}

bool vh_path_join(const struct vh_path *dir, const char *leaf, struct vh_path *out)
{
    struct vh_path copy = {.ds = dir->ds};
    int n = snprintf(copy.rel, sizeof copy.rel, *dir->rel ? "%s/%s" : "%s%s", dir->rel, leaf);
    *out = copy;
    return n >= 0 && (size_t)n < sizeof copy.rel;
}

bool vh_path_eq(const struct vh_path *a, const struct vh_path *b)
{
    return a->ds == b->ds && !strcmp(a->rel, b->rel);
}

bool vh_path_temp(const struct vh_path *p, struct vh_path *out)
{
    struct vh_path dir;
    char leaf[64];
    vh_path_parent(p, &dir);
    snprintf(leaf, sizeof leaf, TEMP_PREFIX "%016llx", (unsigned long long)random_u64());
    return vh_path_join(&dir, leaf, out);
}

/* --- files ------------------------------------------------------------------------------------ */

/* The descriptor of the folder that holds 'p'; -1 and errno. */
static int open_parent(const struct vh_path *p)
{
    struct vh_path dir;
    vh_path_parent(p, &dir);
    return open_beneath(p->ds->fd, dir.rel, O_PATH | O_DIRECTORY, 0);
}

static bool file_fail(struct vic_err *err, const char *what, const struct vh_path *p)
{
    /* A link inside the datastore is no file of ours. */
    int sys = errno == ELOOP || errno == EXDEV ? ENOENT : errno;
    return vic_fail(err, vic_code_of_errno(sys), sys, "%s [%s] %s", what, p->ds->obj.name, p->rel);
}

bool vh_file_open(const struct vh_path *p, int flags, int *fd, struct vic_err *err)
{
    *fd = open_beneath(p->ds->fd, p->rel, flags, 0644);
    return *fd >= 0 ? true : file_fail(err, "open", p);
}

bool vh_file_stat(const struct vh_path *p, struct stat *st)
{
    AUTO_CLOSE int fd = open_beneath(p->ds->fd, p->rel, O_PATH, 0);
    return fd >= 0 && fstat(fd, st) == 0;
}

bool vh_file_exists(const struct vh_path *p)
{
    struct stat st;
    return vh_file_stat(p, &st);
}

bool vh_dir_exists(const struct vh_path *p)
{
    struct stat st;
    return vh_file_stat(p, &st) && S_ISDIR(st.st_mode);
}

bool vh_dir_make(const struct vh_path *p, bool parents, struct vic_err *err)
{
    struct vh_path up;
    vh_path_parent(p, &up);
    if (!*p->rel)
        return vic_fail(err, VIC_CONFLICT, EEXIST, "make [%s]", p->ds->obj.name);
    if (parents && *up.rel && !vh_dir_exists(&up)) {
        struct vic_err ignored;
        if (!vh_dir_make(&up, true, &ignored) && ignored.code != VIC_CONFLICT) {
            if (err)
                *err = ignored;
            return false;
        }
    }
    AUTO_CLOSE int fd = open_parent(p);
    if (fd < 0 || mkdirat(fd, vh_path_leaf(p), 0755) != 0)
        return file_fail(err, "make folder", p);
    return true;
}

/* Removes all that is in the folder 'fd', which is closed. */
static bool empty_dir(int fd)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return false;
    }
    bool good = true;
    for (struct dirent *e; good && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) == 0)
            continue;
        int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        good = sub >= 0 && empty_dir(sub) && unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) == 0;
    }
    closedir(d);
    return good;
}

bool vh_file_remove(const struct vh_path *p, struct vic_err *err)
{
    AUTO_CLOSE int dir = open_parent(p);
    const char *leaf = vh_path_leaf(p);
    if (dir < 0 || !*leaf)
        return file_fail(err, "delete", p);
    if (unlinkat(dir, leaf, 0) == 0)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return file_fail(err, "delete", p);
    int fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !empty_dir(fd) || unlinkat(dir, leaf, AT_REMOVEDIR) != 0)
        return file_fail(err, "delete", p);
    return true;
}

void vh_dir_remove_empty(const struct vh_path *p)
{
    AUTO_CLOSE int dir = *p->rel ? open_parent(p) : -1;
    if (dir >= 0)
        unlinkat(dir, vh_path_leaf(p), AT_REMOVEDIR);
}

bool vh_file_rename(const struct vh_path *from, const struct vh_path *to, bool replace,
                    struct vic_err *err)
{
    AUTO_CLOSE int source = open_parent(from);
    AUTO_CLOSE int target = source < 0 ? -1 : open_parent(to);
    if (target < 0)
        return file_fail(err, "move to", source < 0 ? from : to);
    unsigned flags = replace ? 0 : RENAME_NOREPLACE;
    if (renameat2(source, vh_path_leaf(from), target, vh_path_leaf(to), flags) == 0)
        return true;
    if (errno != EXDEV)
        return file_fail(err, "move", errno == ENOENT ? from : to);
    return vh_file_copy(from, to, replace, err) && vh_file_remove(from, err);
}

static bool copy_bytes(int in, int out)
{
    for (;;) {
        ssize_t n = copy_file_range(in, NULL, out, NULL, 1 << 24, 0);
        if (n < 0 && (errno == EXDEV || errno == ENOSYS || errno == EINVAL))
            break;
        if (n <= 0)
            return n == 0;
    }
    AUTO_FREE char *block = xmalloc(1 << 17);
    for (ssize_t n; (n = read(in, block, 1 << 17)) != 0;)
        if (n < 0 || write(out, block, (size_t)n) != n)
            return false;
    return true;
}

bool vh_file_copy(const struct vh_path *from, const struct vh_path *to, bool replace,
                  struct vic_err *err)
{
    AUTO_CLOSE int in = -1, out = -1;
    struct vh_path temp;
    if (!vh_file_open(from, O_RDONLY, &in, err))
        return false;
    if (!vh_path_temp(to, &temp) || !vh_file_open(&temp, O_WRONLY | O_CREAT | O_EXCL, &out, err))
        return vic_wrap(err, "copy to %s", to->rel);
    bool good = copy_bytes(in, out) ? true : file_fail(err, "copy", from);
    good = good && vh_file_rename(&temp, to, replace, err);
    if (!good) {
        struct vic_err ignored;
        if (!vh_file_remove(&temp, &ignored))
            good = false;
    }
    return good;
}

bool vh_file_write(const struct vh_path *p, struct sv content, struct vic_err *err)
{
    struct vh_path temp;
    AUTO_CLOSE int fd = -1;
    if (!vh_path_temp(p, &temp))
        return vic_fail(err, VIC_INVALID, 0, "path %s is too long", p->rel);
    if (!vh_file_open(&temp, O_WRONLY | O_CREAT | O_EXCL, &fd, err))
        return false;
    while (content.len) {
        ssize_t n = write(fd, content.p, content.len);
        if (n < 0)
            return file_fail(err, "write", p);
        content = sv_sub(content, (size_t)n, content.len);
    }
    return vh_file_rename(&temp, p, true, err);
}

/* Temporary files lie beside their targets, so the whole tree is searched, once at start. */
static void sweep_dir(int fd)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (!strncmp(e->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)))
            unlinkat(dirfd(d), e->d_name, 0);
        else if (e->d_type == DT_DIR)
            sweep_dir(openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    }
    closedir(d);
}

void vh_ds_sweep(struct vh_ds *ds)
{
    int fd = open_beneath(ds->fd, "", O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0)
        sweep_dir(fd);
}
