/* The first and last acts of PID 1: see boot.h.
 *
 * Drivers: the build of the image puts, beside the modules, a list /lib/modules/list of lines
 * "top dep... top" in the order of loading.  Only what the machine has is loaded, as each module
 * costs 10-50 ms under software emulation; the table below says by which PCI device.  The kernel
 * gives module parameters of its command line only to built-in code, so they stand here:
 *   scsi_mod scan=manual   a bus scan asks every target of pvscsi and waits for each (0.5 s);
 *                          disks are brought in by name, "0 TARGET 0".
 *   vmw_pvscsi use_msg=0   hot-plug messages are wrong in clones on vic-host (its
 *                          device model forgets where the message ring lies). */
#include "boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#include "files.h"

static const struct {
    unsigned vendor, device;
    const char *module; /* loaded with what it depends on */
} drivers[] = {
    {0x15ad, 0x07c0, "vmw_pvscsi"},     {0x15ad, 0x07c0, "sd_mod"},
    {0x15ad, 0x07b0, "vmxnet3"},        {0x1af4, 0x1003, "virtio_pci"},
    {0x1af4, 0x1043, "virtio_pci"},     {0x1af4, 0x1003, "virtio_console"},
    {0x1af4, 0x1043, "virtio_console"}, {0x1af4, 0x1005, "virtio_pci"},
    {0x1af4, 0x1044, "virtio_pci"},     {0x1af4, 0x1005, "virtio_rng"},
    {0x1af4, 0x1044, "virtio_rng"},
};

static const struct {
    const char *module, *parameters;
} parameters[] = {{"scsi_mod", "scan=manual"}, {"vmw_pvscsi", "use_msg=0"}};

static const struct {
    const char *source, *target, *type, *data;
    unsigned long flags;
} mounts[] = {
    {"proc", "/proc", "proc", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sysfs", "/sys", "sysfs", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"devtmpfs", "/dev", "devtmpfs", "mode=755", MS_NOSUID | MS_NOEXEC},
};

static bool mount_at(const char *source, const char *target, const char *type, unsigned long flags,
                     const char *data, struct vic_err *err)
{
    if (mkdir(target, 0755) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "create %s", target);
    return mount(source, target, type, flags, data) == 0 || errno == EBUSY ||
           vic_fail_errno(err, "mount %s", target);
}

bool boot_mounts(struct vic_err *err)
{
    umask(022);
    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        if (!mount_at(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags,
                      mounts[i].data, err))
            return false;
    }
    return true;
}

static bool load_one(const char *module, struct vic_err *err)
{
    char path[128];
    const char *args = "";
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++) {
        if (strcmp(parameters[i].module, module) == 0)
            args = parameters[i].parameters;
    }
    snprintf(path, sizeof path, "/lib/modules/%.64s.ko", module);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vic_fail_errno(err, "open %s", path);
    if (syscall(SYS_finit_module, fd, args, 0) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "load module %s", module);
    return true;
}

/* Loads what the line of 'top' names, in order. */
static bool load_with_dependencies(struct sv list, const char *top, struct vic_err *err)
{
    while (list.p) {
        struct sv line = sv_cut(&list, '\n');
        if (!sv_is(sv_cut(&line, ' '), top))
            continue;
        while (line.p) {
            struct sv name = sv_cut(&line, ' ');
            char text[65];
            snprintf(text, sizeof text, SV_FMT, SV_ARG(sv_sub(name, 0, 64)));
            if (name.len && !load_one(text, err))
                return false;
        }
        return true;
    }
    return vic_fail(err, VIC_NOT_FOUND, 0, "module %s is not in the image", top);
}

static unsigned read_hex(const char *device, const char *what)
{
    char path[300], text[32];
    uint64_t n;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", device, what);
    if (!file_read_line(path, text, sizeof text) || strncmp(text, "0x", 2) != 0 ||
        !sv_hex_to_u64(sv_of(text + 2), &n))
        return 0;
    return (unsigned)n;
}

/* Marks the rows of 'drivers' whose device is there. */
static void find_devices(bool present[])
{
    DIR *d = opendir("/sys/bus/pci/devices");
    for (struct dirent *e; d && (e = readdir(d));) {
        unsigned vendor = read_hex(e->d_name, "vendor"), device = read_hex(e->d_name, "device");
        for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
            if (drivers[i].vendor == vendor && drivers[i].device == device)
                present[i] = true;
        }
    }
    if (d)
        closedir(d);
}

bool boot_modules(struct vic_err *err)
{
    AUTO_BUF struct buf list = {0};
    bool present[ARRAY_LEN(drivers)] = {false};
    if (!file_read("/lib/modules/list", 65536, &list, err))
        return false;
    find_devices(present);
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (present[i] && !load_with_dependencies(buf_sv(&list), drivers[i].module, err))
            return false;
    }
    return true;
}

/* The initramfs holds memory for as long as its files are there. */
static void drop_initramfs(void)
{
    DIR *d = opendir("/lib/modules");
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    unlink("/init");
}

bool boot_new_root(struct vic_err *err)
{
    static const char *const move[] = {"/proc", "/sys", "/dev"};
    drop_initramfs();
    if (!mount_at("tmpfs", "/newroot", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755", err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(move); i++) {
        char target[64];
        snprintf(target, sizeof target, "/newroot%s", move[i]);
        if (mkdir(target, 0755) != 0 || mount(move[i], target, NULL, MS_MOVE, NULL) != 0)
            return vic_fail_errno(err, "move %s", move[i]);
    }
    if (chdir("/newroot") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
        chdir("/") != 0)
        return vic_fail_errno(err, "change root");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return vic_fail_errno(err, "make the root private");
    return true;
}

bool boot_cgroups(struct vic_err *err)
{
    if (!mount_at("cgroup2", "/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", err))
        return false;
    static const char *const controllers[] = {"+memory", "+cpu", "+pids"};
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        if (!file_set("/cgroup/cgroup.subtree_control", controllers[i], err))
            return false;
    }
    return true;
}

bool boot_id(char out[40], struct vic_err *err)
{
    return file_read_line("/proc/sys/kernel/random/boot_id", out, 40) ||
           vic_fail(err, VIC_IO, 0, "no boot id");
}

void boot_say(const char *fmt, ...)
{
    char line[1024] = "vic: ";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + 5, sizeof line - 7, fmt, ap);
    va_end(ap);
    for (char *p = line; *p; p++) { /* texts from the image may not forge lines */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    size_t len = strlen(line);
    line[len++] = '\n';
    (void)!fd_write_all(STDERR_FILENO, line, len, NULL);
}

void boot_power_off(void)
{
    sync();
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
}
