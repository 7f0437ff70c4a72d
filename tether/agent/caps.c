/* Capabilities: see caps.h.  Numbers: linux/capability.h. */
#include "caps.h"

#include <linux/capability.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define BIT(n) (UINT64_C(1) << (n))

static const char *const names[] = {
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
};

static const uint64_t docker_default =
    BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD) |
    BIT(CAP_NET_RAW) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) | BIT(CAP_SETPCAP) |
    BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE);

uint64_t caps_all(void)
{
    return BIT(ARRAY_LEN(names)) - 1;
}

static bool find(const char *name, uint64_t *bits, struct vic_err *err)
{
    const char *bare = strncasecmp(name, "CAP_", 4) == 0 ? name + 4 : name;
    *bits = strcasecmp(bare, "ALL") == 0 ? caps_all() : 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && !*bits; i++) {
        if (strcasecmp(bare, names[i]) == 0)
            *bits = BIT(i);
    }
    return *bits != 0 || vic_fail(err, VIC_INVALID, 0, "unknown capability: \"%.40s\"", name);
}

/* As dockerd: with "ALL" among the added, everything but the dropped; with "ALL" among the dropped,
 * only the added; else the default with both applied. */
bool caps_of(const char *const *add, size_t add_count, const char *const *drop, size_t drop_count,
             uint64_t *out, struct vic_err *err)
{
    uint64_t added = 0, dropped = 0, bits;
    for (size_t i = 0; i < add_count; i++) {
        if (!find(add[i], &bits, err))
            return false;
        added |= bits;
    }
    for (size_t i = 0; i < drop_count; i++) {
        if (!find(drop[i], &bits, err))
            return false;
        dropped |= bits;
    }
    if (added == caps_all())
        *out = dropped == caps_all() ? 0 : added & ~dropped;
    else if (dropped == caps_all())
        *out = added;
    else
        *out = (docker_default & ~dropped) | added;
    return true;
}

bool caps_bound(uint64_t caps, struct vic_err *err)
{
    for (unsigned n = 0; n < 64; n++) {
        /* A kernel older than our table does not know the last ones. */
        if (!(caps & BIT(n)) && prctl(PR_CAPBSET_READ, n, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, n, 0, 0, 0) != 0)
            return vic_fail_errno(err, "drop capability %u", n);
    }
    return true;
}

bool caps_set(uint64_t caps, struct vic_err *err)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return vic_fail_errno(err, "clear ambient capabilities");
    for (unsigned n = 0; n < 64; n++) {
        if ((caps & BIT(n)) && prctl(PR_CAPBSET_READ, n, 0, 0, 0) == 1)
            data[n / 32].permitted |= 1U << n % 32;
    }
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return syscall(SYS_capset, &head, data) == 0 || vic_fail_errno(err, "set capabilities");
}
