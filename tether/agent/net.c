/* The guest's networks: see net.h.
 *
 * The control NIC is never set down and up again with another MAC: the device model of
 * vic-host then filters by the old one.  Without DAD and router solicitations the address is usable
 * at once. */
#include "net.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#include "files.h"

enum { REQUEST_SIZE = 256 };

static const char ETHERNET[] = "1"; /* ARPHRD_ETHER, as sysfs writes it */

struct request {
    struct nlmsghdr head;
    char body[REQUEST_SIZE];
};

static void *request_init(struct request *r, uint16_t type, uint16_t flags, size_t size)
{
    memset(r, 0, sizeof *r);
    r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
    r->head.nlmsg_type = type;
    r->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    return r->body;
}

static void request_attr(struct request *r, uint16_t type, const void *p, size_t size)
{
    struct rtattr a = {.rta_len = (uint16_t)RTA_LENGTH(size), .rta_type = type};
    char *at = (char *)r + NLMSG_ALIGN(r->head.nlmsg_len);
    memcpy(at, &a, sizeof a);
    memcpy(at + RTA_LENGTH(0), p, size);
    r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a.rta_len));
}

/* Sends one request to the kernel and reads its acknowledgement. */
static bool request_do(struct request *r, const char *what, struct vic_err *err)
{
    AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[REQUEST_SIZE];
    } answer;
    if (fd < 0 || send(fd, r, r->head.nlmsg_len, 0) < 0)
        return vic_fail_errno(err, "%s", what);
    ssize_t n = recv(fd, &answer, sizeof answer, 0);
    if (n < (ssize_t)(NLMSG_LENGTH(sizeof answer.error)) || answer.head.nlmsg_type != NLMSG_ERROR)
        return vic_fail(err, VIC_IO, n < 0 ? errno : EPROTO, "%s: answer", what);
    return answer.error.error == 0 || vic_fail(err, VIC_IO, -answer.error.error, "%s", what);
}

static bool link_up(unsigned ifindex, struct vic_err *err)
{
    struct request r;
    struct ifinfomsg *m = request_init(&r, RTM_NEWLINK, 0, sizeof *m);
    m->ifi_index = (int)ifindex;
    m->ifi_flags = m->ifi_change = IFF_UP;
    return request_do(&r, "set link up", err);
}

static bool link_move(unsigned ifindex, int ns, struct vic_err *err)
{
    struct request r;
    uint32_t fd = (uint32_t)ns;
    struct ifinfomsg *m = request_init(&r, RTM_NEWLINK, 0, sizeof *m);
    m->ifi_index = (int)ifindex;
    request_attr(&r, IFLA_NET_NS_FD, &fd, sizeof fd);
    return request_do(&r, "move the control NIC", err);
}

static bool address_add(unsigned ifindex, const unsigned char address[16], struct vic_err *err)
{
    struct request r;
    struct ifaddrmsg *m = request_init(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof *m);
    m->ifa_family = AF_INET6;
    m->ifa_prefixlen = 64;
    m->ifa_flags = IFA_F_NODAD;
    m->ifa_scope = RT_SCOPE_LINK;
    m->ifa_index = ifindex;
    request_attr(&r, IFA_LOCAL, address, 16);
    request_attr(&r, IFA_ADDRESS, address, 16);
    return request_do(&r, "add the link-local address", err);
}

bool net_eui64(const char *mac, unsigned char out[16])
{
    unsigned char m[6];
    struct sv rest = sv_of(mac);
    for (unsigned i = 0; i < 6; i++) {
        struct sv part = sv_cut(&rest, ':');
        uint64_t n;
        if (part.len != 2 || !sv_hex_to_u64(part, &n))
            return false;
        m[i] = (unsigned char)n;
    }
    if (rest.p)
        return false;
    memset(out, 0, 16);
    out[0] = 0xfe;
    out[1] = 0x80;
    memcpy(out + 8, m, 3);
    out[8] ^= 2;
    out[11] = 0xff;
    out[12] = 0xfe;
    memcpy(out + 13, m + 3, 3);
    return true;
}

static bool nic_attr(const char *nic, const char *attr, char *out, size_t size)
{
    char path[300];
    snprintf(path, sizeof path, "/sys/class/net/%s/%s", nic, attr);
    return file_read_line(path, out, size);
}

/* Finds the control NIC; '*mac' becomes its address. */
static bool find_nic(const char *wanted, char name[16], char mac[18], struct vic_err *err)
{
    DIR *d = opendir("/sys/class/net");
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        char type[16], address[64];
        if (strlen(e->d_name) < 16 && nic_attr(e->d_name, "type", type, sizeof type) &&
            strcmp(type, ETHERNET) == 0 &&
            nic_attr(e->d_name, "address", address, sizeof address) && strlen(address) == 17 &&
            (!wanted[0] || strcasecmp(wanted, address) == 0)) {
            snprintf(name, 16, "%.15s", e->d_name);
            snprintf(mac, 18, "%.17s", address);
            found = true;
        }
    }
    if (d)
        closedir(d);
    return found || vic_fail(err, VIC_NOT_FOUND, 0, "no control NIC%s%s",
                             wanted[0] ? " with MAC " : "", wanted);
}

static bool open_namespaces(struct net *n, struct vic_err *err)
{
    n->first_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (n->first_fd < 0 || unshare(CLONE_NEWNET) != 0)
        return vic_fail_errno(err, "make the control network namespace");
    n->control_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (n->control_fd < 0 || setns(n->first_fd, CLONE_NEWNET) != 0)
        return vic_fail_errno(err, "enter a network namespace");
    return true;
}

/* /proc/sys/net is the caller's namespace's. */
static bool quiet_ipv6(const char *nic, struct vic_err *err)
{
    static const struct {
        const char *name, *value;
    } knobs[] = {{"accept_dad", "0"},
                 {"router_solicitations", "0"},
                 {"accept_ra", "0"},
                 {"addr_gen_mode", "1"}};
    for (size_t i = 0; i < ARRAY_LEN(knobs); i++) {
        char path[128];
        snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", nic, knobs[i].name);
        if (!file_set(path, knobs[i].value, err))
            return false;
    }
    return true;
}

/* As Docker sets them in a container: any user may ping and listen below port 1024. */
static bool open_ipv4(struct vic_err *err)
{
    return file_set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", err) &&
           file_set("/proc/sys/net/ipv4/ping_group_range", "0 2147483647", err);
}

bool net_init(struct net *n, const char *mac, struct vic_err *err)
{
    char found[18];
    unsigned char address[16];
    *n = (struct net){.first_fd = -1, .control_fd = -1};
    if (!find_nic(mac, n->name, found, err) || !open_namespaces(n, err) || !open_ipv4(err) ||
        !link_up(1, err) || !link_move(if_nametoindex(n->name), n->control_fd, err))
        return false;
    if (setns(n->control_fd, CLONE_NEWNET) != 0)
        return vic_fail_errno(err, "enter the control network namespace");
    n->ifindex = if_nametoindex(n->name);
    if (!net_eui64(found, address))
        return vic_fail(err, VIC_INVALID, 0, "MAC %s of %s", found, n->name);
    return quiet_ipv6(n->name, err) && link_up(n->ifindex, err) &&
           address_add(n->ifindex, address, err);
}
