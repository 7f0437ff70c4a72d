/* See vm.h. */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"
#include "tether/wire.h"

#include "guest.h"

enum { QMP_MS = 30000, MAX_ARGS = 64 };

static const char mac[] = "52:54:00:12:34:56";

bool vm_network(char address[128], struct vic_err *err)
{
    char endpoint[64], prefix[80];
    if (unshare(CLONE_NEWNET) != 0)
        return vic_fail_errno(err, "network namespace (tests of real guests need root)");
    wire_endpoint_address(VM_VCH, endpoint);
    snprintf(prefix, sizeof prefix, "%s/64", endpoint);
    const char *const add[] = {"ip", "tuntap", "add", "dev", "tap0", "mode", "tap", NULL};
    const char *const up[] = {"ip", "link", "set", "tap0", "up", NULL};
    const char *const ip[] = {"ip", "addr", "add", prefix, "dev", "tap0", "nodad", NULL};
    snprintf(address, 128, "tcp:[%s%%tap0]:%d", endpoint, WIRE_PORT);
    return proc_run(add, SV(""), NULL, 10000, err) && proc_run(up, SV(""), NULL, 10000, err) &&
           proc_run(ip, SV(""), NULL, 10000, err);
}

/* --- guestinfo --- */

static void answer(const struct vm *v, struct sv key, struct buf *out)
{
    char text[80];
    unsigned char psk[TLS_PSK_SIZE];
    buf_add_str(out, "1 ");
    if (sv_is(key, "guestinfo.vic.vm")) {
        buf_add_str(out, v->id);
    } else if (sv_is(key, "guestinfo.vic.vch")) {
        buf_add_str(out, VM_VCH);
    } else if (sv_is(key, "guestinfo.vic.mac")) {
        buf_add_str(out, mac);
    } else if (sv_is(key, "guestinfo.vic.key")) {
        tg_key(v->id, 1, psk);
        hex_encode(psk, sizeof psk, text);
        buf_add_str(out, text);
    } else if (sv_is(key, "guestinfo.vic.endpoint")) {
        wire_endpoint_address(VM_VCH, text);
        buf_addf(out, "[%s]:%d", text, WIRE_PORT);
    } else {
        buf_reset(out);
        buf_add_str(out, "0 No value found");
    }
    buf_add_c(out, '\n');
}

static void *answer_guestinfo(void *arg)
{
    struct vm *v = arg;
    AUTO_BUF struct buf in = {0};
    char bytes[256];
    for (ssize_t n; (n = read(v->guestinfo, bytes, sizeof bytes)) > 0;) {
        buf_add(&in, bytes, (size_t)n);
        ptrdiff_t end;
        while ((end = sv_find(buf_sv(&in), '\n')) >= 0) {
            AUTO_BUF struct buf out = {0};
            struct sv line = sv_sub(buf_sv(&in), 0, (size_t)end);
            sv_cut(&line, ' ');
            answer(v, line, &out);
            if (write(v->guestinfo, out.data, out.len) < 0)
                return NULL;
            buf_consume(&in, (size_t)end + 1);
        }
    }
    return NULL;
}

/* --- QMP --- */

static bool read_line(struct vm *v, struct buf *out, struct vic_err *err)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + QMP_MS;
    for (;;) {
        ptrdiff_t end = sv_find(buf_sv(&v->line), '\n');
        if (end >= 0) {
            buf_reset(out);
            buf_add(out, v->line.data, (size_t)end);
            buf_consume(&v->line, (size_t)end + 1);
            return true;
        }
        char bytes[4096];
        struct pollfd p = {.fd = v->qmp, .events = POLLIN};
        int64_t left = deadline - clock_mono_ms(&vic_clock_real);
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "QMP");
        ssize_t n = read(v->qmp, bytes, sizeof bytes);
        if (n <= 0)
            return vic_fail(err, VIC_UNAVAILABLE, 0, "QEMU is gone");
        buf_add(&v->line, bytes, (size_t)n);
    }
}

/* Reads until a line holds 'what' ("\"return\"", the name of an event). */
static bool qmp_until(struct vm *v, const char *what, struct vic_err *err)
{
    AUTO_BUF struct buf line = {0};
    do {
        if (!read_line(v, &line, err))
            return vic_wrap(err, "waiting for %s", what);
        if (strstr(buf_str(&line), "\"error\""))
            return vic_fail(err, VIC_IO, 0, "QMP: %s", buf_str(&line));
    } while (!strstr(buf_str(&line), what));
    return true;
}

static bool qmp(struct vm *v, struct vic_err *err, const char *command, const char *arguments)
{
    AUTO_BUF struct buf out = {0};
    buf_addf(&out, "{\"execute\":\"%s\",\"arguments\":{%s}}\n", command, arguments);
    if (write(v->qmp, out.data, out.len) != (ssize_t)out.len)
        return vic_fail_errno(err, "QMP");
    return qmp_until(v, "\"return\"", err) || vic_wrap(err, "%s", command);
}

bool vm_plug(struct vm *v, const char *file, unsigned target, struct vic_err *err)
{
    char text[512];
    snprintf(text, sizeof text,
             "\"node-name\":\"d%u\",\"driver\":\"qcow2\",\"discard\":\"unmap\",\"file\":"
             "{\"driver\":\"file\",\"filename\":\"%s\"}",
             target, file);
    if (!qmp(v, err, "blockdev-add", text))
        return false;
    snprintf(text, sizeof text,
             "\"driver\":\"scsi-hd\",\"bus\":\"s0.0\",\"scsi-id\":%u,\"drive\":\"d%u\",\"id\":"
             "\"disk%u\"",
             target, target, target);
    return qmp(v, err, "device_add", text);
}

bool vm_unplug(struct vm *v, unsigned target, struct vic_err *err)
{
    char text[64];
    snprintf(text, sizeof text, "\"id\":\"disk%u\"", target);
    if (!qmp(v, err, "device_del", text) || !qmp_until(v, "DEVICE_DELETED", err))
        return false;
    snprintf(text, sizeof text, "\"node-name\":\"d%u\"", target);
    return qmp(v, err, "blockdev-del", text);
}

/* --- life --- */

struct args {
    const char *v[MAX_ARGS];
    unsigned n;
};

static void add_all(struct args *a, const char *const *words)
{
    while (*words && a->n + 1 < MAX_ARGS)
        a->v[a->n++] = *words++;
    a->v[a->n] = NULL;
}

static bool read_cmdline(const char *boot_dir, struct buf *out, struct vic_err *err)
{
    char path[512], text[1024];
    snprintf(path, sizeof path, "%s/cmdline", boot_dir);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n <= 0)
        return vic_fail_errno(err, "read %s", path);
    buf_add_sv(out, sv_trim(sv_make(text, (size_t)n)));
    return true;
}

static bool spawn(struct vm *v, const char *boot_dir, bool bios, int guestinfo, int monitor,
                  struct vic_err *err)
{
    AUTO_BUF struct buf cmdline = {0};
    char serial[300], nic[100], iso[512], kernel[512], initrd[512];
    struct args a = {.n = 0};
    snprintf(serial, sizeof serial, "file:%s", v->console);
    snprintf(nic, sizeof nic, "vmxnet3,netdev=n0,romfile=,mac=%s", mac);
    snprintf(iso, sizeof iso, "%s/bootstrap.iso", boot_dir);
    snprintf(kernel, sizeof kernel, "%s/vmlinuz", boot_dir);
    snprintf(initrd, sizeof initrd, "%s/core.img", boot_dir);
    if (!read_cmdline(boot_dir, &cmdline, err))
        return false;
    const char *const common[] = {"qemu-system-x86_64",
                                  "-nodefaults",
                                  "-no-user-config",
                                  "-display",
                                  "none",
                                  "-vga",
                                  "none",
                                  "-accel",
                                  "tcg,thread=multi",
                                  "-cpu",
                                  "max",
                                  "-smp",
                                  "1",
                                  "-m",
                                  "512",
                                  "-no-reboot",
                                  "-serial",
                                  serial,
                                  "-device",
                                  "pvscsi,id=s0",
                                  "-netdev",
                                  "tap,id=n0,ifname=tap0,script=no,downscript=no",
                                  "-device",
                                  nic,
                                  "-device",
                                  "virtio-serial-pci,max_ports=2",
                                  "-chardev",
                                  "socket,id=c0,fd=10",
                                  "-device",
                                  "virtserialport,chardev=c0,nr=1,name=vic.guestinfo",
                                  "-chardev",
                                  "socket,id=m0,fd=11",
                                  "-mon",
                                  "chardev=m0,mode=control",
                                  NULL};
    const char *const from_iso[] = {"-machine", "pc", "-cdrom", iso, "-boot", "d", NULL};
    const char *const direct[] = {
        "-machine", "q35,i8042=off,hpet=off,vmport=off,smbus=off,sata=off",
        "-kernel",  kernel,
        "-initrd",  initrd,
        "-append",  buf_str(&cmdline),
        NULL};
    add_all(&a, common);
    add_all(&a, bios ? from_iso : direct);
    struct proc_fd fds[] = {{guestinfo, 10}, {monitor, 11}};
    struct proc_spec spec = {.argv = a.v,
                             .fds = fds,
                             .fd_count = 2,
                             .stdin_fd = -1,
                             .stdout_fd = -1,
                             .stderr_fd = STDERR_FILENO,
                             .die_with_parent = true};
    return proc_spawn(&spec, &v->pid, err);
}

bool vm_start(struct vm *v, const char *id, const char *boot_dir, const char *work_dir, bool bios,
              struct vic_err *err)
{
    int info[2], monitor[2];
    *v = (struct vm){.id = id, .qmp = -1, .guestinfo = -1};
    snprintf(v->console, sizeof v->console, "%s/%s.console", work_dir, id);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, info) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, monitor) != 0)
        return vic_fail_errno(err, "socketpair");
    v->guestinfo = info[0];
    v->qmp = monitor[0];
    bool ok = spawn(v, boot_dir, bios, info[1], monitor[1], err);
    close(info[1]);
    close(monitor[1]);
    if (!ok)
        return false;
    if (pthread_create(&v->answers, NULL, answer_guestinfo, v) != 0)
        return vic_fail(err, VIC_IO, 0, "thread");
    return qmp_until(v, "\"QMP\"", err) && qmp(v, err, "qmp_capabilities", "");
}

bool vm_wait(struct vm *v, int64_t timeout_ms, struct vic_err *err)
{
    int status;
    if (!proc_wait(v->pid, timeout_ms, &status, err))
        return false;
    v->pid = 0;
    return true;
}

void vm_stop(struct vm *v)
{
    int status;
    if (!v->id)
        return;
    if (v->pid > 0) {
        kill(v->pid, SIGKILL);
        (void)!proc_wait(v->pid, 10000, &status, NULL);
    }
    /* QEMU's end is closed with it: the thread reads the end of the stream. */
    shutdown(v->guestinfo, SHUT_RDWR);
    if (v->answers)
        pthread_join(v->answers, NULL);
    close(v->guestinfo);
    close(v->qmp);
    buf_fini(&v->line);
    *v = (struct vm){0};
}

void vm_console(const struct vm *v, struct buf *out)
{
    char bytes[4096];
    AUTO_CLOSE int fd = open(v->console, O_RDONLY | O_CLOEXEC);
    for (ssize_t n; fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0;)
        buf_add(out, bytes, (size_t)n);
}
