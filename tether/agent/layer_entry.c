/* One entry of a layer: see layer_entry.h.
 *
 * Order of attributes: owner first (changing it clears set-uid bits and security.capability), then
 * extended attributes, mode, times.  Extended attributes: user.*, security.capability and POSIX
 * ACLs are kept; other security.* (labels of the build machine) are dropped, as Docker's are where
 * the kernel refuses them; trusted.* is refused: overlay file systems obey it. */
#include "layer_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/mem.h"

#include "layer.h"
#include "root.h"

enum { PERMISSIONS = 07777 };

static bool owner(struct archive_entry *e, uid_t *uid, gid_t *gid, struct vic_err *err)
{
    int64_t u = archive_entry_uid(e), g = archive_entry_gid(e);
    *uid = (uid_t)u;
    *gid = (gid_t)g;
    return (u >= 0 && g >= 0 && u < UINT32_MAX && g < UINT32_MAX) ||
           vic_fail(err, VIC_INVALID, 0, "owner %" PRId64 ":%" PRId64, u, g);
}

static void times_of(struct archive_entry *e, struct timespec out[2])
{
    out[0] = out[1] = (struct timespec){archive_entry_mtime(e), archive_entry_mtime_nsec(e)};
    if (!archive_entry_mtime_is_set(e))
        out[0] = out[1] = (struct timespec){0, UTIME_NOW};
}

enum xattr_rule { XATTR_KEEP, XATTR_DROP, XATTR_REFUSE };

static enum xattr_rule xattr_rule(const char *name)
{
    static const struct {
        const char *prefix;
        enum xattr_rule rule;
    } rules[] = {{"security.capability", XATTR_KEEP},
                 {"security.", XATTR_DROP},
                 {"trusted.", XATTR_REFUSE},
                 {"user.", XATTR_KEEP},
                 {"system.posix_acl_", XATTR_KEEP}};
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (strncmp(name, rules[i].prefix, strlen(rules[i].prefix)) == 0)
            return rules[i].rule;
    }
    return XATTR_DROP;
}

static bool set_xattrs(int fd, struct archive_entry *e, struct vic_err *err)
{
    const char *name;
    const void *value;
    size_t size;
    archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
        enum xattr_rule rule = name ? xattr_rule(name) : XATTR_DROP;
        if (rule == XATTR_REFUSE)
            return vic_fail(err, VIC_INVALID, 0, "attribute %.100s is not allowed", name);
        if (rule == XATTR_DROP)
            continue;
        if (size > LAYER_MAX_XATTR)
            return vic_fail(err, VIC_TOO_LARGE, 0, "attribute %.100s has %zu bytes", name, size);
        if (fsetxattr(fd, name, value, size, 0) != 0)
            return vic_fail_errno(err, "attribute %.100s", name);
    }
    return true;
}

/* Refuses what set_xattrs would, for entries whose attributes are not set (links, devices). */
static bool check_xattrs(struct archive_entry *e, struct vic_err *err)
{
    const char *name;
    const void *value;
    size_t size;
    archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
        if (name && xattr_rule(name) == XATTR_REFUSE)
            return vic_fail(err, VIC_INVALID, 0, "attribute %.100s is not allowed", name);
    }
    return true;
}

static bool finish_fd(int fd, struct archive_entry *e, struct vic_err *err)
{
    struct timespec times[2];
    uid_t uid;
    gid_t gid;
    times_of(e, times);
    if (!owner(e, &uid, &gid, err))
        return false;
    if (fchown(fd, uid, gid) != 0)
        return vic_fail_errno(err, "owner");
    if (!set_xattrs(fd, e, err))
        return false;
    if (fchmod(fd, archive_entry_perm(e) & PERMISSIONS) != 0 || futimens(fd, times) != 0)
        return vic_fail_errno(err, "mode and time");
    return true;
}

/* For what cannot be opened: links, devices, FIFOs. */
static bool finish_at(const struct entry_place *at, const char *base, struct archive_entry *e,
                      bool link, struct vic_err *err)
{
    struct timespec times[2];
    uid_t uid;
    gid_t gid;
    times_of(e, times);
    if (!owner(e, &uid, &gid, err) || !check_xattrs(e, err))
        return false;
    if (fchownat(at->parent, base, uid, gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        (!link && fchmodat(at->parent, base, archive_entry_perm(e) & PERMISSIONS, 0) != 0) ||
        utimensat(at->parent, base, times, AT_SYMLINK_NOFOLLOW) != 0)
        return vic_fail_errno(err, "owner, mode and time");
    return true;
}

static bool write_at(int fd, const char *p, size_t len, int64_t offset, struct vic_err *err)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vic_fail_errno(err, "write");
        p += n;
        len -= (size_t)n;
        offset += n;
    }
    return true;
}

static bool write_data(int fd, struct archive *a, int64_t size, struct vic_err *err)
{
    for (;;) {
        const void *block;
        size_t len;
        int64_t offset;
        int r = archive_read_data_block(a, &block, &len, &offset);
        if (r == ARCHIVE_EOF)
            return ftruncate(fd, size) == 0 || vic_fail_errno(err, "set its size");
        if (r < ARCHIVE_WARN)
            return vic_fail(err, VIC_CORRUPT, 0, "tar: %s", archive_error_string(a));
        if (offset < 0 || (uint64_t)offset + len > (uint64_t)size)
            return vic_fail(err, VIC_CORRUPT, 0, "data beyond the end of the file");
        if (!write_at(fd, block, len, offset, err))
            return false;
    }
}

static bool put_file(const struct entry_place *at, const char *base, struct archive *a,
                     struct archive_entry *e, struct vic_err *err)
{
    int64_t size = archive_entry_size(e);
    if (size < 0 || (uint64_t)size > at->max_bytes)
        return vic_fail(err, VIC_TOO_LARGE, 0, "%" PRId64 " bytes do not fit on the disk", size);
    AUTO_CLOSE int fd =
        openat(at->parent, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return vic_fail_errno(err, "create");
    return write_data(fd, a, size, err) && finish_fd(fd, e, err);
}

static bool put_folder(const struct entry_place *at, const char *base, struct archive_entry *e,
                       struct vic_err *err)
{
    if (!at->exists && mkdirat(at->parent, base, 0700) != 0)
        return vic_fail_errno(err, "create");
    AUTO_CLOSE int fd = openat(at->parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return vic_fail_errno(err, "open");
    return finish_fd(fd, e, err);
}

static bool put_symlink(const struct entry_place *at, const char *base, struct archive_entry *e,
                        struct vic_err *err)
{
    const char *target = archive_entry_symlink(e);
    if (!target || !target[0])
        return vic_fail(err, VIC_INVALID, 0, "a link to nothing");
    if (!layer_link_stays(at->name, target))
        return vic_fail(err, VIC_INVALID, 0, "the link leads out of the image (\"%.100s\")",
                        target);
    if (symlinkat(target, at->parent, base) != 0)
        return vic_fail_errno(err, "create");
    return finish_at(at, base, e, true, err);
}

static bool put_hardlink(const struct entry_place *at, const char *base, struct archive_entry *e,
                         struct vic_err *err)
{
    struct layer_name target;
    char dir[PATH_MAX];
    if (!layer_name_target(archive_entry_hardlink(e), &target, err))
        return false;
    struct sv d = layer_name_dir(&target);
    memcpy(dir, d.p, d.len);
    dir[d.len] = '\0';
    AUTO_CLOSE int parent = root_open(at->root, d.len ? dir : ".", O_PATH | O_DIRECTORY);
    if (parent < 0 || linkat(parent, layer_name_base(&target).p, at->parent, base, 0) != 0)
        return vic_fail_errno(err, "hard link to \"%.100s\"", target.path);
    return true;
}

static bool put_node(const struct entry_place *at, const char *base, mode_t type,
                     struct archive_entry *e, struct vic_err *err)
{
    if (mknodat(at->parent, base, type | 0600, type == S_IFIFO ? 0 : archive_entry_rdev(e)) != 0)
        return vic_fail_errno(err, "create");
    return finish_at(at, base, e, false, err);
}

bool entry_put(const struct entry_place *at, struct archive *a, struct archive_entry *e,
               struct vic_err *err)
{
    const char *base = layer_name_base(at->name).p;
    if (archive_entry_hardlink(e))
        return put_hardlink(at, base, e, err);
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return put_file(at, base, a, e, err);
    case AE_IFDIR:
        return put_folder(at, base, e, err);
    case AE_IFLNK:
        return put_symlink(at, base, e, err);
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
        return put_node(at, base, archive_entry_filetype(e), e, err);
    }
    return vic_fail(err, VIC_INVALID, 0, "an entry of unknown type");
}

bool entry_apply_root(const struct entry_place *at, struct archive_entry *e, struct vic_err *err)
{
    AUTO_CLOSE int fd = root_open(at->root, ".", O_RDONLY | O_DIRECTORY);
    return fd >= 0 ? finish_fd(fd, e, err) : vic_fail_errno(err, "open the root");
}
