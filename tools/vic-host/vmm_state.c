/* The files in run_dir, and how running VMs are found again.
 *
 * ID.state     "PID START": the process and its start time, which together name it for good; "0 0"
 *              while it is being started.  Written first, removed last, so whatever else there is
 *              of a VM, its state file is there.
 * ID.qmp       QEMU's control socket, ID.guestinfo the guest's port.  vic-host makes them listening
 *              and hands them to QEMU, which accepts one client at a time and goes back to
 * listening when that one is gone: so a new vic-host just connects. ID.log       what QEMU says on
 * stderr.
 *
 * A vic-host may die at any point of a start.  The guest runs only after "cont", the start's last
 * step; so a process found in the state "prelaunch" never ran its guest and is ended.  One that
 * died between fork and the note of its pid is found by its control socket and told to quit.
 *
 * Paths of unix sockets are limited to 107 bytes: they go through /proc/self/fd/RUN_FD. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"

#include "vmm_priv.h"

enum { RECOVER_MS = 5000 };

static const char *const suffixes[] = {
    [VM_STATE] = "state", [VM_QMP] = "qmp", [VM_GUESTINFO] = "guestinfo", [VM_LOG] = "log"};

char *vm_file_name(const struct vm *vm, enum vm_file f)
{
    return xasprintf("%s.%s", vm->id, suffixes[f]);
}

/* ---- files ---- */

bool vm_state_write(const struct vm *vm, struct vic_err *err)
{
    AUTO_FREE char *name = vm_file_name(vm, VM_STATE);
    AUTO_FREE char *fresh = xasprintf("%s.new", name);
    AUTO_CLOSE int fd =
        openat(vm->m->run_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "%d %llu\n", (int)vm->pid, (unsigned long long)vm->start_time) < 0 ||
        renameat(vm->m->run_fd, fresh, vm->m->run_fd, name) != 0)
        return vic_fail_errno(err, "write %s", name);
    return true;
}

static bool state_read(struct vm *vm)
{
    AUTO_FREE char *name = vm_file_name(vm, VM_STATE);
    AUTO_CLOSE int fd = openat(vm->m->run_fd, name, O_RDONLY | O_CLOEXEC);
    char text[64];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n <= 0)
        return false;
    struct sv rest = sv_trim(sv_make(text, (size_t)n)), pid = sv_cut(&rest, ' ');
    uint64_t number;
    if (!sv_to_u64(pid, &number) || number > INT32_MAX || !sv_to_u64(rest, &vm->start_time))
        return false;
    vm->pid = (pid_t)number;
    return true;
}

void vm_files_remove(const struct vm *vm)
{
    static const enum vm_file order[] = {VM_QMP, VM_GUESTINFO, VM_LOG, VM_STATE};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        AUTO_FREE char *name = vm_file_name(vm, order[i]);
        unlinkat(vm->m->run_fd, name, 0);
    }
}

void vm_log_tail(const struct vm *vm, char *out, size_t size)
{
    AUTO_FREE char *name = vm_file_name(vm, VM_LOG);
    AUTO_CLOSE int fd = openat(vm->m->run_fd, name, O_RDONLY | O_CLOEXEC);
    char text[1024];
    struct stat st;
    *out = '\0';
    if (fd < 0 || fstat(fd, &st) != 0)
        return;
    off_t from = st.st_size > (off_t)sizeof text ? st.st_size - (off_t)sizeof text : 0;
    ssize_t n = pread(fd, text, sizeof text, from);
    if (n <= 0)
        return;
    struct sv line = sv_trim(sv_make(text, (size_t)n));
    line = sv_sub(line, (size_t)(sv_rfind(line, '\n') + 1), line.len);
    snprintf(out, size, SV_FMT, SV_ARG(line));
}

/* ---- sockets ---- */

static bool address_of(const struct vm *vm, enum vm_file f, struct sockaddr_un *out,
                       struct vic_err *err)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s.%s", vm->m->run_fd,
                     vm->id, suffixes[f]);
    return n < (int)sizeof out->sun_path ||
           vic_fail(err, VIC_INVALID, 0, "the socket's path is too long");
}

int vm_socket_listen(const struct vm *vm, enum vm_file f, struct vic_err *err)
{
    struct sockaddr_un address;
    if (!address_of(vm, f, &address, err))
        return -1;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(address.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 1) != 0) {
        vic_fail_errno(err, "listen on %s.%s", vm->id, suffixes[f]);
        return -1;
    }
    return TAKE_FD(fd);
}

int vm_socket_connect(const struct vm *vm, enum vm_file f, struct vic_err *err)
{
    struct sockaddr_un address;
    if (!address_of(vm, f, &address, err))
        return -1;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        vic_fail_errno(err, "connect to %s.%s", vm->id, suffixes[f]);
        return -1;
    }
    return TAKE_FD(fd);
}

/* ---- recovery ---- */

/* Is the noted process still there?  Opens its pidfd before it compares: a pid cannot be given away
 * in between without the pidfd's process having ended. */
static bool process_lives(struct vm *vm)
{
    if (vm->pid <= 0)
        return false;
    vm->pidfd = pidfd_open(vm->pid, 0);
    if (vm->pidfd >= 0 && vm->start_time && proc_start_time(vm->pid) == vm->start_time)
        return true;
    vic_auto_close(&vm->pidfd);
    vm->pidfd = -1;
    return false;
}

static bool qmp_connect(struct vm *vm, struct vic_err *err)
{
    int fd = vm_socket_connect(vm, VM_QMP, err);
    if (fd < 0)
        return false;
    vm->qmp = qmp_open(fd, vm_on_event, vm, RECOVER_MS, err);
    return vm->qmp != NULL;
}

/* Has its guest run?  True also when QEMU does not say. */
static bool guest_ran(struct vm *vm)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    if (!vm->qmp ||
        !qmp_call(vm->qmp, "query-status", (struct sv){0}, -1, RECOVER_MS, &a, &v, NULL))
        return true;
    return strcmp(json_str(json_get(v, "status"), ""), "prelaunch") != 0;
}

static void attach_found(void *arg)
{
    struct vm *vm = arg;
    vm_attach(vm);
    vm_release(vm);
}

/* Takes a running VM into the table again; busy until the loop watches it. */
static bool adopt(struct vm *vm, struct vic_err *err)
{
    struct vmm *m = vm->m;
    struct vic_err quiet;
    if (vm->qmp && !vm_disk_survey(vm, err)) {
        vm_unref(vm);
        return false;
    }
    vm->guest_fd = vm_socket_connect(vm, VM_GUESTINFO, &quiet);
    vm->started = vm->busy = true;
    vm_list_add(vm); /* 'vm' is the operation's reference from here on */
    log_info(m->o.log, "vmm.found", KV_S("vm", vm->id), KV_I("pid", vm->pid));
    if (loop_is_thread(m->o.loop))
        attach_found(vm);
    else if (!loop_post(m->o.loop, attach_found, vm))
        return vic_fail(err, VIC_CANCELED, 0, "the loop has stopped");
    return true;
}

/* Clears what is left of a VM and has its end reported on the loop. */
static bool bury(struct vm *vm, struct vic_err *err)
{
    if (vm->qmp && vm->pidfd < 0) { /* its pid was never noted */
        (void)!vm_qmp(vm, "quit", (struct sv){0}, -1, NULL);
        (void)!qmp_await_close(vm->qmp, RECOVER_MS, NULL);
    }
    vm_kill(vm);
    vm_files_remove(vm);
    if (loop_post(vm->m->o.loop, vm_report_gone, vm))
        return true;
    vm_unref(vm);
    return vic_fail(err, VIC_CANCELED, 0, "the loop has stopped");
}

static bool recover(struct vmm *m, const char *id, struct vic_err *err)
{
    struct vm *vm = vm_new(m, id);
    struct vic_err why = {0};
    bool lives = state_read(vm) && process_lives(vm);
    bool answers = qmp_connect(vm, &why);
    if (lives && guest_ran(vm)) {
        if (!answers)
            log_error(m->o.log, "vmm.mute", KV_S("vm", id), KV_I("pid", vm->pid), KV_ERR(&why));
        return adopt(vm, err);
    }
    return bury(vm, err);
}

bool vmm_recover(struct vmm *m, struct vic_err *err)
{
    int fd = openat(m->run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        vic_auto_close(&fd);
        return vic_fail_errno(err, "read %s", m->o.run_dir);
    }
    bool fine = true;
    for (struct dirent *e; fine && (e = readdir(dir));) {
        struct sv name = sv_of(e->d_name);
        char id[VMM_MAX_ID + 1];
        if (sv_ends(name, SV(".state.new"))) /* cut before it got its name */
            unlinkat(m->run_fd, e->d_name, 0);
        if (!sv_ends(name, SV(".state")) || name.len - 6 > VMM_MAX_ID)
            continue;
        snprintf(id, sizeof id, SV_FMT, (int)(name.len - 6), name.p);
        fine = recover(m, id, err);
    }
    closedir(dir);
    return fine;
}
