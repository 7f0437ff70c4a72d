/* Removing trees: see tree.h.  A folder that is not empty is moved into the trash; there its files
 * are unlinked and its sub-folders moved up beside it, until the trash is empty. */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static bool to_trash(struct tree_trash *t, int dir, const char *name, struct vic_err *err)
{
    char slot[16];
    snprintf(slot, sizeof slot, "%u", t->next++);
    return renameat(dir, name, t->fd, slot) == 0 || vic_fail_errno(err, "remove %.200s", name);
}

/* Unlinks, or moves to the trash. */
static bool drop(struct tree_trash *t, int dir, const char *name, struct vic_err *err)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return vic_fail_errno(err, "remove %.200s", name);
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return true;
    return to_trash(t, dir, name, err);
}

static bool empty_one(struct tree_trash *t, const char *slot, struct vic_err *err)
{
    int fd = openat(t->fd, slot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    bool ok = d || vic_fail_errno(err, "open a folder to remove");
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ok = drop(t, fd, e->d_name, err);
    }
    if (d)
        closedir(d);
    return ok &&
           (unlinkat(t->fd, slot, AT_REMOVEDIR) == 0 || vic_fail_errno(err, "remove a folder"));
}

bool tree_remove(struct tree_trash *t, int dir, const char *name, struct vic_err *err)
{
    unsigned first = t->next;
    if (!drop(t, dir, name, err))
        return false;
    for (unsigned i = first; i < t->next; i++) {
        char slot[16];
        snprintf(slot, sizeof slot, "%u", i);
        if (!empty_one(t, slot, err))
            return false;
    }
    t->next = first;
    return true;
}
