/* Networks: a network namespace, a bridge a network, a tap a NIC.
 *
 * The namespace is made once with "ip netns add" and stays, as the VMs do.  In it every new
 * interface starts deaf to what guests might say to the host: no router advertisements, no
 * autoconfiguration; and without duplicate address detection, whose second of silence would delay
 * the first connection.
 *
 * Bridges: no spanning tree and no forward delay (a port forwards at once), no multicast snooping
 * (neighbour discovery is multicast, and nobody here sends queries), a fixed MAC (else it changes
 * with the lowest port's).  They are made by one "ip -batch", which gets only names that this file
 * made up and addresses that inet_pton has read.
 *
 * Taps are not persistent: the kernel removes one with its last descriptor, QEMU's.  So there is
 * nothing to clean when a VM or vic-host dies.  A tap has no IPv6 of its own: the host talks on the
 * bridge.
 *
 * To act inside the namespace a short-lived thread enters it: setns(2) is per thread, and so are
 * /proc/self/net (as /proc/thread-self) and /proc/sys/net. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"

#include "vmm_priv.h"

enum { IP_MS = 10000 };

/* ---- inside the namespace ---- */

struct visit {
    const char *path;
    bool (*fn)(void *arg, struct vic_err *err);
    void *arg;
    struct vic_err *err;
    bool fine;
};

static void *visit_thread(void *arg)
{
    struct visit *v = arg;
    AUTO_CLOSE int fd = open(v->path, O_RDONLY | O_CLOEXEC);
    v->fine = fd >= 0 && setns(fd, CLONE_NEWNET) == 0
                  ? v->fn(v->arg, v->err)
                  : vic_fail_errno(v->err, "enter network namespace %s", v->path);
    return NULL;
}

/* Runs fn(arg) in a thread that has entered the namespace. */
static bool in_netns(struct vmm *m, bool (*fn)(void *arg, struct vic_err *err), void *arg,
                     struct vic_err *err)
{
    struct visit v = {.path = m->netns_path, .fn = fn, .arg = arg, .err = err};
    pthread_t thread;
    int r = pthread_create(&thread, NULL, visit_thread, &v);
    if (r != 0)
        return vic_fail(err, VIC_IO, r, "start a thread");
    pthread_join(thread, NULL);
    return v.fine;
}

static bool set_ipv6(const char *interface, const char *key, const char *value, struct vic_err *err)
{
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", interface, key);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true; /* a kernel without IPv6 */
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return vic_fail_errno(err, "write %s", path);
    return true;
}

static bool set_defaults(void *arg, struct vic_err *err)
{
    (void)arg;
    return set_ipv6("default", "accept_dad", "0", err) &&
           set_ipv6("default", "accept_ra", "0", err) && set_ipv6("default", "autoconf", "0", err);
}

bool vmm_netns_make(struct vmm *m, struct vic_err *err)
{
    const char *name = m->o.netns;
    if (!name)
        return true;
    if (!*name || strlen(name) > 64 || *name == '-' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") !=
            strlen(name))
        return vic_fail(err, VIC_INVALID, 0, "network namespace: bad name");
    m->netns_path = xasprintf("/run/netns/%s", name);
    if (access(m->netns_path, F_OK) != 0) {
        const char *const add[] = {"ip", "netns", "add", name, NULL};
        const char *const up[] = {"ip", "-n", name, "link", "set", "lo", "up", NULL};
        if (!proc_run(add, (struct sv){0}, NULL, IP_MS, err) ||
            !proc_run(up, (struct sv){0}, NULL, IP_MS, err))
            return vic_wrap(err, "make network namespace %s", name);
    }
    return in_netns(m, set_defaults, NULL, err);
}

/* ---- bridges ---- */

/* FNV-1a, 64 bits: a network has any name, an interface at most 15 bytes of a few kinds. */
static uint64_t hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3;
    return h;
}

bool vmm_network_bridge(struct vmm *m, const char *name, char out[16])
{
    (void)m;
    snprintf(out, 16, "vb-%012llx", (unsigned long long)(hash(name) & 0xffffffffffff));
    return true;
}

struct look {
    char name[16];
    bool there;
};

static bool look_for(void *arg, struct vic_err *err)
{
    struct look *l = arg;
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {0};
    memcpy(r.ifr_name, l->name, sizeof r.ifr_name);
    if (fd < 0)
        return vic_fail_errno(err, "make a socket");
    l->there = ioctl(fd, SIOCGIFINDEX, &r) == 0;
    return true;
}

/* "ADDRESS/BITS", IPv4 or IPv6, and nothing else. */
static bool valid_address(const char *address)
{
    char text[INET6_ADDRSTRLEN + 4];
    unsigned char bytes[16];
    uint64_t bits;
    struct sv rest = sv_of(address), host = sv_cut(&rest, '/');
    if (host.len >= sizeof text || !sv_to_u64(rest, &bits))
        return false;
    memcpy(text, host.p, host.len);
    text[host.len] = '\0';
    return (inet_pton(AF_INET, text, bytes) == 1 && bits <= 32) ||
           (inet_pton(AF_INET6, text, bytes) == 1 && bits <= 128);
}

static void write_batch(struct buf *out, const struct look *bridge, uint64_t id,
                        const char *address)
{
    if (!bridge->there)
        buf_addf(out,
                 "link add name %s address 02:%02x:%02x:%02x:%02x:%02x type bridge stp_state 0 "
                 "forward_delay 0 mcast_snooping 0\n",
                 bridge->name, (unsigned)(id >> 32 & 0xff), (unsigned)(id >> 24 & 0xff),
                 (unsigned)(id >> 16 & 0xff), (unsigned)(id >> 8 & 0xff), (unsigned)(id & 0xff));
    if (address)
        buf_addf(out, "addr replace %s dev %s\n", address, bridge->name);
    buf_addf(out, "link set dev %s up\n", bridge->name);
}

bool vmm_network(struct vmm *m, const char *name, const char *address, struct vic_err *err)
{
    struct look bridge = {0};
    if (!m->netns_path)
        return vic_fail(err, VIC_UNSUPPORTED, 0, "network %s: there is no network namespace", name);
    if (address && !valid_address(address))
        return vic_fail(err, VIC_INVALID, 0, "network %s: %s is no ADDRESS/BITS", name, address);
    vmm_network_bridge(m, name, bridge.name);
    if (!in_netns(m, look_for, &bridge, err))
        return vic_wrap(err, "network %s", name);
    AUTO_BUF struct buf batch = {0};
    write_batch(&batch, &bridge, hash(name), address);
    const char *const argv[] = {"ip", "-n", m->o.netns, "-batch", "-", NULL};
    if (!proc_run(argv, buf_sv(&batch), NULL, IP_MS, err))
        return vic_wrap(err, "network %s", name);
    if (!bridge.there)
        log_info(m->o.log, "vmm.network", KV_S("name", name), KV_S("bridge", bridge.name));
    return true;
}

/* ---- taps ---- */

struct tap {
    char bridge[16];
    int fd; /* out */
};

/* Joins the interface to the bridge and sets it up. */
static bool join(const struct tap *t, const char *name, struct vic_err *err)
{
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq tap = {0}, bridge = {0};
    memcpy(tap.ifr_name, name, sizeof tap.ifr_name);
    memcpy(bridge.ifr_name, t->bridge, sizeof bridge.ifr_name);
    if (fd < 0 || ioctl(fd, SIOCGIFINDEX, &tap) != 0)
        return vic_fail_errno(err, "find tap %s", name);
    bridge.ifr_ifindex = tap.ifr_ifindex;
    if (ioctl(fd, SIOCBRADDIF, &bridge) != 0)
        return vic_fail(err, errno == ENODEV ? VIC_NOT_FOUND : VIC_IO, errno,
                        "join a tap to bridge %s", t->bridge);
    if (ioctl(fd, SIOCGIFFLAGS, &tap) != 0)
        return vic_fail_errno(err, "read flags of tap %s", name);
    tap.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &tap) != 0)
        return vic_fail_errno(err, "set tap %s up", name);
    return true;
}

static bool make_tap(void *arg, struct vic_err *err)
{
    struct tap *t = arg;
    struct ifreq r = {.ifr_name = "vt%d", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0)
        return vic_fail_errno(err, "make a tap");
    if (!set_ipv6(r.ifr_name, "disable_ipv6", "1", err) || !join(t, r.ifr_name, err))
        return false;
    t->fd = TAKE_FD(fd);
    return true;
}

int vmm_tap_open(struct vmm *m, const char *network, struct vic_err *err)
{
    struct tap t = {.fd = -1};
    vmm_network_bridge(m, network, t.bridge);
    if (!in_netns(m, make_tap, &t, err))
        vic_wrap(err, "NIC on network %s", network);
    return t.fd;
}
