/* A hot copy: LMDB copies a snapshot while the engine goes on writing, without its free pages.  It
 * is made under a temporary name, synced and then renamed, so that a folder with the wanted name is
 * a whole backup.  Secret fields are sealed in it as they are in the store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "store_priv.h"

static bool sync_path(const char *path, int flags, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return vic_fail_errno(err, "sync %s", path);
    return true;
}

static char *parent_of(const char *dir)
{
    const char *slash = strrchr(dir, '/');
    if (!slash)
        return xstrdup(".");
    return slash == dir ? xstrdup("/") : xstrndup(dir, (size_t)(slash - dir));
}

static bool copy_into(struct store *s, const char *dir, const char *file, struct vic_err *err)
{
    int rc = mdb_env_copy2(s->env, dir, MDB_CP_COMPACT);
    if (rc != 0)
        return store_fail_mdb(s, rc, "copy", err);
    if (chmod(file, 0600) != 0)
        return vic_fail_errno(err, "chmod %s", file);
    return sync_path(file, O_RDONLY, err) && sync_path(dir, O_RDONLY | O_DIRECTORY, err);
}

static bool move_in_place(const char *from, const char *to, struct vic_err *err)
{
    AUTO_FREE char *parent = parent_of(to);
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) != 0)
        return vic_fail_errno(err, "rename %s to %s", from, to);
    return sync_path(parent, O_RDONLY | O_DIRECTORY, err);
}

bool store_backup(struct store *s, const char *dir, struct vic_err *err)
{
    AUTO_FREE char *temp = xasprintf("%s.tmp", dir), *file = xasprintf("%s/data.mdb", temp);
    struct stat st;
    if (stat(dir, &st) == 0)
        return vic_fail(err, VIC_CONFLICT, 0, "back up to %s: it exists already", dir);
    unlink(file); /* of a backup that was cut off */
    if (mkdir(temp, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "make %s", temp);
    if (copy_into(s, temp, file, err) && move_in_place(temp, dir, err))
        return true;
    unlink(file);
    rmdir(temp);
    return vic_wrap(err, "back up to %s", dir);
}
