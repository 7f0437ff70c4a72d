/* Paths below a root: see root.h. */
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

int root_open(int root, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* Opens the first 'len' bytes of 'path'; empty is the root itself. */
static int open_prefix(int root, const char *path, size_t len)
{
    char text[PATH_MAX];
    memcpy(text, path, len);
    text[len] = '\0';
    return root_open(root, len ? text : ".", O_PATH | O_DIRECTORY);
}

/* One more level: the folder 'path', which lies directly in 'parent'. */
static int make_level(int root, int parent, struct sv path, struct sv base)
{
    char name[NAME_MAX + 1];
    if (base.len > NAME_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(name, base.p, base.len);
    name[base.len] = '\0';
    if (mkdirat(parent, name, 0755) != 0 && errno != EEXIST)
        return -1;
    /* EEXIST with a link that leads nowhere: the second look fails with ENOENT. */
    return open_prefix(root, path.p, path.len);
}

int root_open_dir(int root, struct sv path)
{
    if (path.len >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open_prefix(root, path.p, path.len);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    AUTO_CLOSE int parent = open_prefix(root, path.p, 0);
    struct sv rest = path;
    while (parent >= 0 && rest.p) {
        struct sv base = sv_cut(&rest, '/');
        if (base.len == 0)
            continue;
        struct sv prefix = sv_make(path.p, (size_t)(base.p - path.p) + base.len);
        fd = open_prefix(root, prefix.p, prefix.len);
        if (fd < 0 && errno == ENOENT)
            fd = make_level(root, parent, prefix, base);
        close(parent);
        parent = fd;
    }
    return TAKE_FD(parent);
}
