/* QEMU's command line and its start.
 *
 * The machine: q35 without the parts that no guest of ours needs; every device at a fixed slot, so
 * that a guest's names do not move and a clone can agree with its template:
 *   3 pvscsi   5 virtio-serial (guestinfo)   8-11 root ports for NICs plugged later
 *   16-25 NICs, in the order given
 * vmport is off: the guestinfo RPC goes over virtio-serial.  The SATA controller is there only with
 * a CD, since it alone costs a guest's kernel some 0.6 s.
 *
 * Confinement: proc_spawn gives up root before exec, so QEMU starts without any capability and
 * needs none; with "elevateprivileges=deny" its own -runas could not even be used.  All it touches
 * comes by descriptor: sockets (listening, made here), taps, kernel and initramfs (/proc/self/fd),
 * console, CD and disks (/dev/fdset).  It holds no path of ours.
 *
 * The start: QEMU comes up stopped (-S), disks are plugged by the same code as later, "cont" is the
 * last step.  Until then a failure kills it and nothing has happened.
 *
 * Facts: QEMU 7.2 qemu-options, docs/devel/secure-coding-practices.rst. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"

#include "vmm_priv.h"

enum {
    MAX_ARGS = 160,
    MAX_PASSED = 32,
    FIRST_FD = 10,
    ROOT_PORTS = 4,
    CONSOLE_SET = 1,
    CD_SET = 2
};

struct launch {
    struct vm *vm;
    const struct vmm_spec *spec;
    struct arena a;
    const char *argv[MAX_ARGS];
    unsigned argc;
    struct proc_fd fds[MAX_PASSED];
    unsigned fd_count;
    struct vmm_boot boot;
};

static void launch_fini(struct launch *l)
{
    for (unsigned i = 0; i < l->fd_count; i++)
        close(l->fds[i].parent);
    arena_fini(&l->a);
}

/* Adds arguments; NULL-terminated. */
static void args(struct launch *l, const char *first, ...)
{
    va_list ap;
    va_start(ap, first);
    for (const char *s = first; s && l->argc < MAX_ARGS - 1; s = va_arg(ap, const char *))
        l->argv[l->argc++] = s;
    va_end(ap);
}

/* Adds "OPTION" and a formatted value. */
__attribute__((format(printf, 3, 4))) static void arg(struct launch *l, const char *option,
                                                      const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    args(l, option, arena_strdup(&l->a, text), NULL);
}

/* Takes over 'fd' and returns its number in the child. */
static int pass(struct launch *l, int fd)
{
    int child = FIRST_FD + (int)l->fd_count;
    l->fds[l->fd_count++] = (struct proc_fd){.parent = fd, .child = child};
    return child;
}

/* ---- parts of the machine ---- */

static void add_machine(struct launch *l)
{
    const struct vmm_spec *s = l->spec;
    bool cd = s->iso && !s->direct_boot;
    args(l, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-vga",
         "none", "-S", NULL);
    arg(l, "-name", "guest=%s", s->id);
    arg(l, "-machine", "q35,i8042=off,hpet=off,vmport=off,smbus=off,dump-guest-core=off,sata=%s",
        cd ? "on" : "off");
    if (l->vm->m->kvm)
        args(l, "-accel", "kvm", "-cpu", "host", NULL);
    else
        args(l, "-accel", "tcg,thread=multi", "-cpu", "max", NULL);
    arg(l, "-smp", "cpus=%u", s->cpus);
    arg(l, "-m", "%llu", (unsigned long long)s->memory_mb);
    arg(l, "-uuid", "%s", s->uuid);
    args(l, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
         "-device", "pvscsi,id=s0,addr=3", "-device", "virtio-serial-pci,max_ports=2,addr=5", NULL);
    for (unsigned i = 0; i < ROOT_PORTS; i++)
        arg(l, "-device", "pcie-root-port,id=rp%u,chassis=%u,addr=%x", i, i + 1, 8 + i);
}

static bool add_sockets(struct launch *l, struct vic_err *err)
{
    int qmp = vm_socket_listen(l->vm, VM_QMP, err);
    if (qmp < 0)
        return false;
    arg(l, "-chardev", "socket,id=qmp,fd=%d,server=on,wait=off", pass(l, qmp));
    args(l, "-mon", "chardev=qmp,mode=control", NULL);
    int guestinfo = vm_socket_listen(l->vm, VM_GUESTINFO, err);
    if (guestinfo < 0)
        return false;
    arg(l, "-chardev", "socket,id=guestinfo,fd=%d,server=on,wait=off", pass(l, guestinfo));
    args(l, "-device", "virtserialport,chardev=guestinfo,nr=1,name=vic.guestinfo", NULL);
    return true;
}

static bool add_console(struct launch *l, struct vic_err *err)
{
    const char *file = l->spec->console;
    if (!file)
        return true;
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    if (fd < 0)
        return vic_fail_errno(err, "open console %s", file);
    arg(l, "-add-fd", "fd=%d,set=%d", pass(l, fd), CONSOLE_SET);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return vic_fail(err, VIC_INVALID, 0, "console %s is not a file", file);
    arg(l, "-chardev", "file,id=console,path=/dev/fdset/%d,append=on", CONSOLE_SET);
    args(l, "-serial", "chardev:console", NULL);
    return true;
}

static bool add_cd(struct launch *l, struct vic_err *err)
{
    int fd = open(l->spec->iso, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vic_fail_errno(err, "open %s", l->spec->iso);
    arg(l, "-add-fd", "fd=%d,set=%d", pass(l, fd), CD_SET);
    arg(l, "-blockdev",
        "driver=raw,node-name=cd,read-only=on,file.driver=file,file.filename=/dev/fdset/%d",
        CD_SET);
    args(l, "-device", "ide-cd,bus=ide.0,drive=cd,bootindex=0", NULL);
    return true;
}

static bool add_kernel(struct launch *l, struct vic_err *err)
{
    if (!vmm_boot_open(l->vm->m, l->spec->iso, &l->a, &l->boot, err)) {
        vic_auto_close(&l->boot.kernel);
        vic_auto_close(&l->boot.initrd);
        return false;
    }
    arg(l, "-kernel", "/proc/self/fd/%d", pass(l, l->boot.kernel));
    if (l->boot.initrd >= 0)
        arg(l, "-initrd", "/proc/self/fd/%d", pass(l, l->boot.initrd));
    args(l, "-append", l->boot.append, NULL);
    return true;
}

static bool add_boot(struct launch *l, struct vic_err *err)
{
    if (!l->spec->iso)
        return true;
    return l->spec->direct_boot ? add_kernel(l, err) : add_cd(l, err);
}

static bool add_nics(struct launch *l, struct vic_err *err)
{
    for (unsigned i = 0; i < l->spec->nic_count; i++) {
        const struct vmm_nic *nic = &l->spec->nics[i];
        int tap = vmm_tap_open(l->vm->m, nic->network, err);
        if (tap < 0)
            return false;
        arg(l, "-netdev", "tap,id=n%u,fd=%d", i, pass(l, tap));
        arg(l, "-device",
            "vmxnet3,id=nic%u,netdev=n%u,addr=%x,romfile=,mac=%02x:%02x:%02x:%02x:%02x:%02x", i, i,
            16 + i, nic->mac[0], nic->mac[1], nic->mac[2], nic->mac[3], nic->mac[4], nic->mac[5]);
    }
    return true;
}

/* ---- start ---- */

static bool spawn(struct launch *l, struct vic_err *err)
{
    struct vm *vm = l->vm;
    AUTO_FREE char *name = vm_file_name(vm, VM_LOG);
    AUTO_CLOSE int log =
        openat(vm->m->run_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0)
        return vic_fail_errno(err, "open %s", name);
    struct proc_spec spec = {.argv = l->argv,
                             .cwd = "/",
                             .fds = l->fds,
                             .fd_count = l->fd_count,
                             .stdin_fd = -1,
                             .stdout_fd = log,
                             .stderr_fd = log,
                             .new_session = true,
                             .uid = vm->m->uid,
                             .gid = vm->m->gid};
    if (!proc_spawn(&spec, &vm->pid, err))
        return false;
    vm->start_time = proc_start_time(vm->pid);
    vm->pidfd = pidfd_open(vm->pid, 0);
    if (vm->pidfd < 0) {
        vic_fail_errno(err, "watch QEMU");
        kill(vm->pid, SIGKILL); /* our child and not reaped: nobody else has its pid */
        return false;
    }
    return vm_state_write(vm, err);
}

/* A QEMU that refuses its command line says why on stderr and is gone. */
static bool connect_qmp(struct vm *vm, struct vic_err *err)
{
    int fd = vm_socket_connect(vm, VM_QMP, err);
    vm->qmp = fd < 0 ? NULL : qmp_open(fd, vm_on_event, vm, VMM_START_MS, err);
    if (vm->qmp)
        return true;
    char why[200];
    vm_log_tail(vm, why, sizeof why);
    return *why ? vic_fail(err, VIC_IO, 0, "QEMU: %s", why) : false;
}

static bool run_guest(struct vm *vm, const struct vmm_spec *s, struct vic_err *err)
{
    for (size_t i = 0; i < s->disk_count; i++)
        if (!vm_disk_plug(vm, &s->disks[i], err))
            return vic_wrap(err, "disk %u", s->disks[i].target);
    vm->guest_fd = vm_socket_connect(vm, VM_GUESTINFO, err);
    return vm->guest_fd >= 0 && vm_qmp(vm, "cont", (struct sv){0}, -1, err);
}

/* Everything until QEMU runs; the descriptors passed are closed here at the end. */
static bool launch(struct vm *vm, const struct vmm_spec *s, struct vic_err *err)
{
    __attribute__((cleanup(launch_fini))) struct launch l = {.vm = vm, .spec = s};
    if (!vm_state_write(vm, err))
        return false;
    add_machine(&l);
    return add_sockets(&l, err) && add_console(&l, err) && add_boot(&l, err) && add_nics(&l, err) &&
           spawn(&l, err);
}

bool vm_launch(struct vm *vm, const struct vmm_spec *s, struct vic_err *err)
{
    return launch(vm, s, err) && connect_qmp(vm, err) && run_guest(vm, s, err);
}
