/* The VMware backdoor as a guestinfo transport.
 *
 * A request goes to the hypervisor by reading I/O port 0x5658 with a magic number in EAX; the
 * registers carry the message commands (open, send size, send 4 bytes, receive size, receive 4
 * bytes, receive status, close).  Protocol facts: VMware's backdoor I/O port and its
 * GuestRPC message layer (channel protocol "RPCI" with cookies).  Whether the port is there is
 * told by CPUID (hypervisor bit and vendor "VMwareVMware"), never tried blindly: on bare hardware
 * the port might belong to something else. */
#include "guestinfo.h"

#include <cpuid.h>
#include <string.h>
#include <sys/io.h>

enum { PORT = 0x5658, COMMAND_MESSAGE = 30 };
enum {
    MESSAGE_OPEN,
    MESSAGE_SEND_SIZE,
    MESSAGE_SEND,
    MESSAGE_RECV_SIZE,
    MESSAGE_RECV,
    MESSAGE_RECV_STATUS,
    MESSAGE_CLOSE
};
enum { STATUS_SUCCESS = 1, STATUS_DORECV = 2 };

static const uint32_t magic = 0x564d5868, rpci = 0x49435052, flag_cookie = 0x80000000;

struct regs {
    uint32_t ax, bx, cx, dx, si, di;
};

struct channel {
    uint32_t id, cookie_high, cookie_low;
};

static void backdoor_in(struct regs *r)
{
    __asm__ volatile("inl %%dx, %%eax"
                     : "+a"(r->ax), "+b"(r->bx), "+c"(r->cx), "+d"(r->dx), "+S"(r->si), "+D"(r->di)
                     :
                     : "memory");
}

static struct regs message(const struct channel *c, unsigned type, uint32_t bx)
{
    struct regs r = {.ax = magic,
                     .bx = bx,
                     .cx = (uint32_t)type << 16 | COMMAND_MESSAGE,
                     .dx = c->id << 16 | PORT,
                     .si = c->cookie_high,
                     .di = c->cookie_low};
    backdoor_in(&r);
    return r;
}

static bool ok(const struct regs *r)
{
    return (r->cx >> 16 & STATUS_SUCCESS) != 0;
}

static bool channel_open(struct channel *c)
{
    *c = (struct channel){0};
    struct regs r = message(c, MESSAGE_OPEN, rpci | flag_cookie);
    if (!ok(&r))
        return false;
    *c = (struct channel){r.dx >> 16, r.si, r.di};
    return true;
}

static bool channel_send(const struct channel *c, struct sv bytes)
{
    struct regs r = message(c, MESSAGE_SEND_SIZE, (uint32_t)bytes.len);
    for (size_t at = 0; ok(&r) && at < bytes.len; at += 4) {
        uint32_t word = 0;
        memcpy(&word, bytes.p + at, bytes.len - at < 4 ? bytes.len - at : 4);
        r = message(c, MESSAGE_SEND, word);
    }
    return ok(&r);
}

static bool channel_receive(const struct channel *c, struct buf *out)
{
    struct regs r = message(c, MESSAGE_RECV_SIZE, 0);
    if (!ok(&r) || !(r.cx >> 16 & STATUS_DORECV) || r.bx > GUESTINFO_MAX_REPLY)
        return false;
    for (uint32_t left = r.bx; left > 0;) {
        r = message(c, MESSAGE_RECV, STATUS_SUCCESS);
        if (!ok(&r))
            return false;
        uint32_t n = left < 4 ? left : 4;
        buf_add(out, &r.bx, n);
        left -= n;
    }
    r = message(c, MESSAGE_RECV_STATUS, STATUS_SUCCESS);
    return ok(&r);
}

static bool call_backdoor(struct guestinfo *g, struct sv request, struct buf *answer,
                          struct vic_err *err)
{
    (void)g;
    struct channel c;
    if (!channel_open(&c))
        return vic_fail(err, VIC_UNAVAILABLE, 0, "the backdoor opens no channel");
    bool done = channel_send(&c, request) && channel_receive(&c, answer);
    message(&c, MESSAGE_CLOSE, 0);
    return done || vic_fail(err, VIC_PROTOCOL, 0, "the backdoor broke off a message");
}

static bool on_vmware(void)
{
    unsigned a, b, c, d;
    char vendor[13] = {0};
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 31))
        return false;
    __cpuid(0x40000000, a, b, c, d);
    memcpy(vendor, &b, 4);
    memcpy(vendor + 4, &c, 4);
    memcpy(vendor + 8, &d, 4);
    return strcmp(vendor, "VMwareVMware") == 0;
}

bool guestinfo_use_backdoor(struct guestinfo *g, struct vic_err *err)
{
    *g = (struct guestinfo){.call = call_backdoor, .fd = -1};
    if (!on_vmware())
        return vic_fail(err, VIC_UNAVAILABLE, 0, "no guestinfo port: neither virtio nor VMware");
    if (ioperm(PORT, 2, 1) != 0)
        return vic_fail_errno(err, "ioperm");
    return true;
}
