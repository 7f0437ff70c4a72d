/* The container's surroundings: see container.h.
 *
 * The child binds <disk>/rootfs, prepares detached copies of what comes from outside of it (the
 * /etc files) and makes it its root with pivot_root before it touches a path in it: from then on
 * the image's links and ".." cannot lead out, as there is no outside. */
#include "container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/mem.h"

#include "files.h"
#include "root.h"

enum { DEFAULT_SHM = 67108864, NO_DEV = MS_NOSUID | MS_NOEXEC | MS_NODEV };

static const char *const etc_files[] = {"hostname", "hosts", "resolv.conf"};

/* --- in the agent --- */

static void write_hosts(const struct spec_run *spec, struct buf *out)
{
    buf_add_str(out, "127.0.0.1\tlocalhost\n"
                     "::1\tlocalhost ip6-localhost ip6-loopback\n"
                     "fe00::0\tip6-localnet\n"
                     "ff00::0\tip6-mcastprefix\n"
                     "ff02::1\tip6-allnodes\n"
                     "ff02::2\tip6-allrouters\n");
    for (size_t i = 0; i < spec->extra_hosts.n; i++) {
        struct sv ip = sv_of(spec->extra_hosts.v[i]);
        struct sv name = sv_cut(&ip, ':');
        buf_addf(out, SV_FMT "\t" SV_FMT "\n", SV_ARG(ip), SV_ARG(name));
    }
}

static void write_words(struct buf *out, const char *first, const struct spec_list *words)
{
    if (words->n == 0)
        return;
    buf_add_str(out, first);
    for (size_t i = 0; i < words->n; i++)
        buf_addf(out, " %s", words->v[i]);
    buf_add_c(out, '\n');
}

static void write_resolv(const struct spec_run *spec, struct buf *out)
{
    for (size_t i = 0; i < spec->dns.n; i++)
        buf_addf(out, "nameserver %s\n", spec->dns.v[i]);
    write_words(out, "search", &spec->dns_search);
    write_words(out, "options", &spec->dns_options);
}

bool container_write_etc(const struct spec_run *spec, int vic_dir, struct vic_err *err)
{
    if (mkdirat(vic_dir, "etc", 0755) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "create vic/etc");
    AUTO_CLOSE int etc = openat(vic_dir, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (etc < 0)
        return vic_fail_errno(err, "open vic/etc");
    struct buf text[ARRAY_LEN(etc_files)] = {{0}};
    buf_addf(&text[0], "%s\n", spec->hostname);
    write_hosts(spec, &text[1]);
    write_resolv(spec, &text[2]);
    bool ok = true;
    for (size_t i = 0; i < ARRAY_LEN(etc_files); i++) {
        ok = ok && file_replace(etc, etc_files[i], buf_sv(&text[i]), 0644, err);
        buf_fini(&text[i]);
    }
    return ok;
}

/* --- in the child --- */

static bool fail_at(struct vic_err *err, const char *what, const char *path)
{
    return vic_fail_errno(err, "%s %s", what, path);
}

static bool make_dir(const char *path, struct vic_err *err)
{
    AUTO_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int fd = root_open_dir(root, sv_of(path));
    return fd >= 0 || fail_at(err, "create", path);
}

static bool pivot(struct vic_err *err)
{
    static const char root[] = CONTAINER_DISK "/rootfs";
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(root, root, NULL, MS_BIND | MS_REC, NULL) != 0 || chdir(root) != 0)
        return fail_at(err, "enter", root);
    /* Old and new root in one place, then the old one is taken off from above it. */
    if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        return fail_at(err, "pivot to", root);
    return true;
}

static bool mount_one(const char *type, const char *at, unsigned long flags, const char *data,
                      struct vic_err *err)
{
    return make_dir(at, err) &&
           (mount(type, at, type, flags, data) == 0 || fail_at(err, "mount", at));
}

static bool mount_all(const struct spec_run *spec, struct vic_err *err)
{
    unsigned long sys = NO_DEV | (spec->process.privileged ? 0 : MS_RDONLY);
    char shm[64];
    snprintf(shm, sizeof shm, "mode=1777,size=%llu",
             (unsigned long long)(spec->shm_size ? spec->shm_size : DEFAULT_SHM));
    return mount_one("proc", "/proc", NO_DEV, "", err) &&
           mount_one("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k", err) &&
           mount_one("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                     "newinstance,ptmxmode=0666,mode=0620,gid=5", err) &&
           mount_one("sysfs", "/sys", sys, "", err) &&
           mount_one("cgroup2", "/sys/fs/cgroup", sys, "nsdelegate", err) &&
           mount_one("mqueue", "/dev/mqueue", NO_DEV, "", err) &&
           mount_one("tmpfs", "/dev/shm", NO_DEV, shm, err);
}

static bool make_devices(struct vic_err *err)
{
    static const struct {
        const char *path;
        unsigned major, minor;
    } nodes[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                 {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
    static const struct {
        const char *path, *to;
    } links[] = {{"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"},
                 {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
                 {"/dev/ptmx", "pts/ptmx"},          {"/dev/core", "/proc/kcore"}};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) != 0 ||
            chmod(nodes[i].path, 0666) != 0)
            return fail_at(err, "create", nodes[i].path);
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        if (symlink(links[i].to, links[i].path) != 0)
            return fail_at(err, "create", links[i].path);
    }
    return true;
}

/* A privileged container sees the machine's disks, as under Docker; opening what belongs to the
 * agent is forbidden by the device policy, whatever nodes there are. */
static bool make_block_devices(struct vic_err *err)
{
    DIR *d = opendir("/sys/class/block");
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[300], text[32];
        uint64_t major, minor;
        snprintf(path, sizeof path, "/sys/class/block/%s/dev", e->d_name);
        if (e->d_name[0] == '.' || !file_read_line(path, text, sizeof text))
            continue;
        struct sv rest = sv_of(text), first = sv_cut(&rest, ':');
        snprintf(path, sizeof path, "/dev/%s", e->d_name);
        if (sv_to_u64(first, &major) && sv_to_u64(rest, &minor) &&
            mknod(path, S_IFBLK | 0660, makedev((unsigned)major, (unsigned)minor)) != 0) {
            closedir(d);
            return fail_at(err, "create", path);
        }
    }
    if (d)
        closedir(d);
    return true;
}

bool container_mount_options(const char *options, unsigned long *flags, struct buf *data,
                             struct vic_err *err)
{
    static const struct {
        const char *name;
        unsigned long set, clear;
    } words[] = {
        {"rw", 0, MS_RDONLY},
        {"ro", MS_RDONLY, 0},
        {"nosuid", MS_NOSUID, 0},
        {"suid", 0, MS_NOSUID},
        {"nodev", MS_NODEV, 0},
        {"dev", 0, MS_NODEV},
        {"noexec", MS_NOEXEC, 0},
        {"exec", 0, MS_NOEXEC},
        {"sync", MS_SYNCHRONOUS, 0},
        {"async", 0, MS_SYNCHRONOUS},
        {"noatime", MS_NOATIME, 0},
        {"atime", 0, MS_NOATIME},
        {"nodiratime", MS_NODIRATIME, 0},
        {"relatime", MS_RELATIME, 0},
        {"defaults", 0, 0},
        {"strictatime", MS_STRICTATIME, 0},
    };
    struct sv rest = sv_of(options);
    while (rest.p) {
        struct sv word = sv_cut(&rest, ',');
        bool known = word.len == 0;
        for (size_t i = 0; i < ARRAY_LEN(words) && !known; i++) {
            known = sv_is(word, words[i].name);
            if (known)
                *flags = (*flags & ~words[i].clear) | words[i].set;
        }
        if (!known && sv_find(word, '=') < 0)
            return vic_fail(err, VIC_INVALID, 0, "invalid tmpfs option \"" SV_FMT "\"",
                            SV_ARG(sv_sub(word, 0, 60)));
        if (!known)
            buf_addf(data, "%s" SV_FMT, data->len ? "," : "", SV_ARG(word));
    }
    return true;
}

static bool mount_tmpfs(const struct spec_pairs *tmpfs, struct vic_err *err)
{
    for (size_t i = 0; i < tmpfs->n; i++) {
        AUTO_BUF struct buf data = {0};
        unsigned long flags = NO_DEV;
        if (!container_mount_options(tmpfs->v[i].value, &flags, &data, err) ||
            !mount_one("tmpfs", tmpfs->v[i].key, flags, buf_str(&data), err))
            return false;
    }
    return true;
}

/* Detached copies of the /etc files' mounts, taken while the disk is still in sight. */
static bool take_etc(int trees[], struct vic_err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(etc_files); i++) {
        char path[64];
        snprintf(path, sizeof path, CONTAINER_DISK "/vic/etc/%s", etc_files[i]);
        trees[i] = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (trees[i] < 0)
            return fail_at(err, "open", path);
    }
    return true;
}

static bool bind_etc(const int trees[], struct vic_err *err)
{
    if (!make_dir("/etc", err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(etc_files); i++) {
        char path[64];
        snprintf(path, sizeof path, "/etc/%s", etc_files[i]);
        /* A mount needs something to lie on; a link is followed, inside this root. */
        AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0644);
        if (fd < 0 && errno != EISDIR && errno != ENXIO)
            return fail_at(err, "create", path);
        if (move_mount(trees[i], "", AT_FDCWD, path,
                       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0)
            return fail_at(err, "mount", path);
        close(trees[i]);
    }
    return true;
}

static bool set_sysctls(const struct spec_pairs *sysctls, struct vic_err *err)
{
    for (size_t i = 0; i < sysctls->n; i++) {
        char path[256];
        if (strstr(sysctls->v[i].key, "..") || strlen(sysctls->v[i].key) > 200)
            return vic_fail(err, VIC_INVALID, 0, "sysctl %.60s", sysctls->v[i].key);
        snprintf(path, sizeof path, "/proc/sys/%s", sysctls->v[i].key);
        for (char *p = path + 10; *p; p++) {
            if (*p == '.')
                *p = '/';
        }
        if (!file_set(path, sysctls->v[i].value, err))
            return vic_wrap(err, "sysctl %s", sysctls->v[i].key);
    }
    return true;
}

/* What Docker hides or makes read-only; absent paths are skipped. */
static bool restrict_paths(struct vic_err *err)
{
    static const char *const masked[] = {"/proc/asound",
                                         "/proc/acpi",
                                         "/proc/kcore",
                                         "/proc/keys",
                                         "/proc/latency_stats",
                                         "/proc/timer_list",
                                         "/proc/timer_stats",
                                         "/proc/sched_debug",
                                         "/proc/scsi",
                                         "/sys/firmware",
                                         "/sys/devices/virtual/powercap"};
    static const char *const fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};
    for (size_t i = 0; i < ARRAY_LEN(masked); i++) {
        if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
            continue;
        if (errno != ENOTDIR || mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k") != 0)
            return fail_at(err, "mask", masked[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (mount(fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL) != 0) {
            if (errno == ENOENT)
                continue;
            return fail_at(err, "bind", fixed[i]);
        }
        if (mount(NULL, fixed[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | NO_DEV, NULL) != 0)
            return fail_at(err, "make read-only", fixed[i]);
    }
    return true;
}

static bool set_names(const struct spec_run *spec, struct vic_err *err)
{
    if (sethostname(spec->hostname, strlen(spec->hostname)) != 0)
        return fail_at(err, "set host name", spec->hostname);
    if (spec->domainname[0] && setdomainname(spec->domainname, strlen(spec->domainname)) != 0)
        return fail_at(err, "set domain name", spec->domainname);
    return true;
}

bool container_enter(const struct spec_run *spec, struct vic_err *err)
{
    int trees[ARRAY_LEN(etc_files)];
    if (unshare(CLONE_NEWCGROUP) != 0)
        return vic_fail_errno(err, "new cgroup namespace");
    if (!take_etc(trees, err) || !pivot(err) || !mount_all(spec, err) || !make_devices(err) ||
        (spec->process.privileged && !make_block_devices(err)) || !bind_etc(trees, err) ||
        !mount_tmpfs(&spec->tmpfs, err) || !set_sysctls(&spec->sysctls, err) ||
        !set_names(spec, err) || (spec->process.cwd[0] && !make_dir(spec->process.cwd, err)) ||
        (!spec->process.privileged && !restrict_paths(err)))
        return false;
    return !spec->readonly || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0 ||
           fail_at(err, "make read-only", "/");
}
