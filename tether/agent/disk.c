/* Disks: see disk.h. */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#include "files.h"

static bool find_host(unsigned *number, struct vic_err *err)
{
    DIR *d = opendir("/sys/class/scsi_host");
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        char path[300], name[64];
        uint64_t n;
        snprintf(path, sizeof path, "/sys/class/scsi_host/%s/proc_name", e->d_name);
        found = strncmp(e->d_name, "host", 4) == 0 && sv_to_u64(sv_of(e->d_name + 4), &n) &&
                file_read_line(path, name, sizeof name) && strcmp(name, "vmw_pvscsi") == 0;
        if (found)
            *number = (unsigned)n;
    }
    if (d)
        closedir(d);
    return found || vic_fail(err, VIC_NOT_FOUND, 0, "no pvscsi controller");
}

/* The block device that the kernel made for the SCSI device; false when there is none (yet). */
static bool find_node(struct disk *out)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/class/scsi_device/%s/device/block", out->address);
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        found = e->d_name[0] != '.' && strlen(e->d_name) < 20;
        if (found)
            snprintf(out->node, sizeof out->node, "/dev/%.20s", e->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

/* The name is there before the disk is: until then opening says ENXIO or ENOENT. */
static bool is_ready(struct disk *d)
{
    if (!find_node(d))
        return false;
    AUTO_CLOSE int fd = open(d->node, O_RDONLY | O_CLOEXEC);
    return fd >= 0;
}

static int open_uevents(void)
{
    struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool wait_ready(int uevents, struct disk *d, struct vic_err *err)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + DISK_WAIT_MS;
    while (!is_ready(d)) {
        char event[8192];
        struct pollfd p = {.fd = uevents, .events = POLLIN};
        int64_t left = deadline - clock_mono_ms(&vic_clock_real);
        if (left <= 0 || poll(&p, 1, (int)left) == 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "no disk at SCSI target %u", d->target);
        while (recv(uevents, event, sizeof event, 0) > 0)
            continue;
    }
    return true;
}

bool disk_attach(unsigned target, struct disk *out, struct vic_err *err)
{
    unsigned host = 0;
    char scan[64], what[32];
    if (!find_host(&host, err))
        return false;
    *out = (struct disk){.target = target};
    snprintf(out->address, sizeof out->address, "%u:0:%u:0", host, target);
    if (is_ready(out))
        return true;
    AUTO_CLOSE int uevents = open_uevents();
    if (uevents < 0)
        return vic_fail_errno(err, "uevent socket");
    snprintf(scan, sizeof scan, "/sys/class/scsi_host/host%u/scan", host);
    snprintf(what, sizeof what, "0 %u 0", target);
    return file_set(scan, what, err) && wait_ready(uevents, out, err);
}

bool disk_detach(const struct disk *d, struct vic_err *err)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/class/scsi_device/%s/device/delete", d->address);
    return file_set(path, "1", err) || vic_wrap(err, "take disk %u off the bus", d->target);
}

bool disk_mount(const struct disk *d, const char *at, struct vic_err *err)
{
    if (mkdir(at, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "create %s", at);
    return mount(d->node, at, "ext4", MS_NOATIME, "") == 0 ||
           vic_fail_errno(err, "mount disk %u", d->target);
}

bool disk_unmount(const char *at, struct vic_err *err)
{
    return umount2(at, UMOUNT_NOFOLLOW) == 0 || vic_fail_errno(err, "unmount %s", at);
}

bool disk_size(const struct disk *d, uint64_t *bytes, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(d->node, O_RDONLY | O_CLOEXEC);
    /* BLKGETSIZE64 of linux/fs.h, which cannot stand beside sys/mount.h. */
    return (fd >= 0 && ioctl(fd, _IOR(0x12, 114, size_t), bytes) == 0) ||
           vic_fail_errno(err, "size of disk %u", d->target);
}
