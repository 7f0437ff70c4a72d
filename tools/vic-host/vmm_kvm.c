/* Does KVM really run a guest here?
 *
 * /dev/kvm may open and QEMU start, and the guest still never runs (nested virtualisation that is
 * half there).  So a guest is tried: SeaBIOS, which goes through real and protected mode, loads a
 * boot sector of a few instructions that writes a word to the serial port.  Only what comes out of
 * that port counts. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"

#include "vmm_priv.h"

enum { DISK_SIZE = 1024 * 1024 }; /* SeaBIOS does not boot from a disk of one sector */

static const char word[] = "VIC-PROBE";

/* 16-bit code at 0000:7c00. */
static const unsigned char code[] = {
    0x31, 0xc0,       /*       xor ax, ax        */
    0x8e, 0xd8,       /*       mov ds, ax        */
    0xbe, 0x11, 0x7c, /*       mov si, text      */
    0xba, 0xf8, 0x03, /*       mov dx, 0x3f8     */
    0xac,             /* next: lodsb             */
    0xee,             /*       out dx, al        */
    0x84, 0xc0,       /*       test al, al       */
    0x75, 0xfa,       /*       jnz next          */
    0xf4,             /*       hlt               */
};

static int boot_sector(void)
{
    unsigned char sector[512] = {0};
    memcpy(sector, code, sizeof code);
    memcpy(sector + sizeof code, word, sizeof word);
    sector[510] = 0x55;
    sector[511] = 0xaa;
    AUTO_CLOSE int fd = memfd_create("probe", MFD_CLOEXEC);
    if (fd < 0 || write(fd, sector, sizeof sector) != (ssize_t)sizeof sector ||
        ftruncate(fd, DISK_SIZE) != 0)
        return -1;
    return TAKE_FD(fd);
}

static bool spawn_probe(const char *accel, int disk, int serial, pid_t *pid)
{
    const char *const argv[] = {
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-m",
        "16",
        "-net",
        "none",
        "-machine",
        "q35,graphics=off",
        "-accel",
        accel,
        "-add-fd",
        "fd=10,set=1",
        "-blockdev",
        "driver=raw,node-name=d,file.driver=file,file.filename=/dev/fdset/1",
        "-device",
        "ide-hd,drive=d,bootindex=0",
        "-serial",
        "stdio",
        NULL};
    struct proc_fd fds[] = {{disk, 10}};
    struct proc_spec spec = {.argv = argv,
                             .fds = fds,
                             .fd_count = 1,
                             .stdin_fd = -1,
                             .stdout_fd = serial,
                             .stderr_fd = -1,
                             .die_with_parent = true};
    return proc_spawn(&spec, pid, NULL);
}

/* Reads until the word came, the end, or the deadline. */
static bool hear(int fd, int64_t timeout_ms)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + timeout_ms, left = timeout_ms;
    char text[8192];
    size_t len = 0;
    while (left > 0 && len < sizeof text) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)left) > 0) {
            ssize_t n = read(fd, text + len, sizeof text - len);
            if (n <= 0)
                return false;
            len += (size_t)n;
            if (memmem(text, len, word, sizeof word - 1))
                return true;
        }
        left = deadline - clock_mono_ms(&vic_clock_real);
    }
    return false;
}

bool vmm_probe(const char *accel, int64_t timeout_ms)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    AUTO_CLOSE int ours = ends[0], theirs = ends[1];
    AUTO_CLOSE int disk = boot_sector();
    pid_t pid;
    if (disk < 0 || !spawn_probe(accel, disk, theirs, &pid))
        return false;
    close(TAKE_FD(theirs));
    bool heard = hear(ours, timeout_ms);
    int status;
    kill(pid, SIGKILL);
    return proc_wait(pid, timeout_ms, &status, NULL) && heard;
}
