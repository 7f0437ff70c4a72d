/* The table of VMs and their lives: see vmm.h and vmm_priv.h.
 *
 * A VM is in the table from the first step of vmm_start until its process has ended.  The end is
 * always seen in one place, on the loop's thread, by the process's pidfd: whoever caused it (the
 * guest, vmm_stop, a crash), vm_ended reaps, closes, removes the files, unlists, reports.  vmm_stop
 * merely causes it and waits for the unlisting.
 *
 * QEMU says why it ends in the event SHUTDOWN before it exits; 'guest_stopped' keeps it. */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/mem.h"

#include "vmm_priv.h"

enum { QUIT_MS = 3000, KILL_MS = 10000, KVM_PROBE_MS = 5000 };

/* ---- references ---- */

static void vmm_unref_locked(struct vmm *m, bool *last) VIC_REQUIRES(m->lock)
{
    *last = --m->refs == 0;
}

static void vmm_destroy(struct vmm *m)
{
    union {
        const char *in;
        char *out;
    } strings[] = {{m->o.run_dir}, {m->o.netns}, {m->o.disk_dir}, {m->o.qemu_user}};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i].out);
    free(m->netns_path);
    free(m->disk_dir);
    vic_auto_close(&m->run_fd);
    cond_fini(&m->changed);
    mutex_fini(&m->lock);
    free(m);
}

struct vm *vm_new(struct vmm *m, const char *id)
{
    struct vm *vm = xcalloc(1, sizeof *vm);
    vm->m = m;
    snprintf(vm->id, sizeof vm->id, "%s", id);
    vm->pidfd = vm->guest_fd = -1;
    vm->refs = 1;
    mutex_lock(&m->lock);
    m->refs++;
    mutex_unlock(&m->lock);
    return vm;
}

void vm_ref(struct vm *vm)
{
    mutex_lock(&vm->m->lock);
    vm->refs++;
    mutex_unlock(&vm->m->lock);
}

void vm_unref(struct vm *vm)
{
    struct vmm *m = vm->m;
    bool last_vm_ref, last = false;
    mutex_lock(&m->lock);
    if ((last_vm_ref = --vm->refs == 0))
        vmm_unref_locked(m, &last);
    mutex_unlock(&m->lock);
    if (!last_vm_ref)
        return;
    qmp_free(vm->qmp);
    vic_auto_close(&vm->pidfd);
    vic_auto_close(&vm->guest_fd);
    buf_fini(&vm->guest_in);
    free(vm);
    if (last)
        vmm_destroy(m);
}

/* ---- the table ---- */

static struct vm *find_locked(struct vmm *m, const char *id) VIC_REQUIRES(m->lock)
{
    struct vm *vm;
    LIST_FOREACH (vm, &m->vms, link)
        if (strcmp(vm->id, id) == 0)
            return vm;
    return NULL;
}

void vm_list_add(struct vm *vm)
{
    struct vmm *m = vm->m;
    mutex_lock(&m->lock);
    LIST_INSERT_HEAD(&m->vms, vm, link);
    vm->listed = true;
    vm->refs++;
    mutex_unlock(&m->lock);
}

/* Takes it out of the table, once, and gives up the table's reference. */
static void unlist(struct vm *vm)
{
    struct vmm *m = vm->m;
    mutex_lock(&m->lock);
    bool was = vm->listed;
    if (was)
        LIST_REMOVE(vm, link);
    vm->listed = false;
    cond_broadcast(&m->changed);
    mutex_unlock(&m->lock);
    if (was)
        vm_unref(vm);
}

/* The VM, busy with the caller's operation; NULL when it does not run. */
static struct vm *acquire(struct vmm *m, const char *id)
{
    struct vm *vm;
    mutex_lock(&m->lock);
    while ((vm = find_locked(m, id)) && vm->busy)
        cond_wait(&m->changed, &m->lock);
    if (vm) {
        vm->busy = true;
        vm->refs++;
    }
    mutex_unlock(&m->lock);
    return vm;
}

void vm_release(struct vm *vm)
{
    struct vmm *m = vm->m;
    mutex_lock(&m->lock);
    vm->busy = false;
    cond_broadcast(&m->changed);
    mutex_unlock(&m->lock);
    vm_unref(vm);
}

static struct vm *acquire_or_fail(struct vmm *m, const char *id, struct vic_err *err)
{
    struct vm *vm = acquire(m, id);
    if (!vm)
        vic_fail(err, VIC_NOT_FOUND, 0, "VM %s does not run", id);
    return vm;
}

bool vmm_closed(struct vmm *m)
{
    mutex_lock(&m->lock);
    bool closed = m->closed;
    mutex_unlock(&m->lock);
    return closed;
}

/* ---- on the loop's thread ---- */

struct errand {
    struct vmm *m;
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

static void run_errand(void *arg)
{
    struct errand *e = arg;
    struct vmm *m = e->m;
    e->fn(e->arg);
    mutex_lock(&m->lock);
    e->done = true;
    cond_broadcast(&m->changed);
    mutex_unlock(&m->lock);
}

bool vmm_on_loop(struct vmm *m, void (*fn)(void *arg), void *arg, struct vic_err *err)
{
    if (loop_is_thread(m->o.loop)) {
        fn(arg);
        return true;
    }
    struct errand e = {.m = m, .fn = fn, .arg = arg};
    if (!loop_post(m->o.loop, run_errand, &e))
        return vic_fail(err, VIC_CANCELED, 0, "the loop has stopped");
    mutex_lock(&m->lock);
    while (!e.done)
        cond_wait(&m->changed, &m->lock);
    mutex_unlock(&m->lock);
    return true;
}

/* Lets go of everything on the loop; the process goes on. */
static void detach(struct vm *vm)
{
    if (vm->exit_watch)
        loop_watch_free(TAKE(vm->exit_watch));
    if (vm->qmp)
        qmp_detach(vm->qmp);
    vm_guest_detach(vm);
}

static void report(struct vm *vm, bool by_guest, const char *last_words)
{
    log_info(vm->m->o.log, "vmm.exit", KV_S("vm", vm->id), KV_I("pid", vm->pid),
             KV_S("by", by_guest ? "guest" : "host"), KV_S("qemu", last_words));
    unlist(vm);
    if (!vmm_closed(vm->m) && vm->m->o.on_exit)
        vm->m->o.on_exit(vm->m->o.arg, vm->id, by_guest);
}

/* The process has ended. */
static void vm_ended(void *arg)
{
    struct vm *vm = arg;
    vm_ref(vm);
    waitpid(vm->pid, NULL, WNOHANG); /* ECHILD for one that an earlier vic-host started */
    if (vm->qmp)
        qmp_drain(vm->qmp); /* its last words say why */
    detach(vm);
    mutex_lock(&vm->m->lock);
    bool by_guest = vm->guest_stopped;
    mutex_unlock(&vm->m->lock);
    char last_words[160];
    vm_log_tail(vm, last_words, sizeof last_words);
    vm_files_remove(vm);
    report(vm, by_guest, last_words);
    vm_unref(vm);
}

void vm_report_gone(void *arg)
{
    struct vm *vm = arg;
    report(vm, true, "");
    vm_unref(vm);
}

void vm_attach(void *arg)
{
    struct vm *vm = arg;
    struct vic_err err;
    struct loop *l = vm->m->o.loop;
    vm->exit_watch = loop_watch_new(l, vm->pidfd, vm_ended, vm, &err);
    if (!vm->exit_watch || (vm->qmp && !qmp_attach(vm->qmp, l, &err)))
        log_error(vm->m->o.log, "vmm.watch", KV_S("vm", vm->id), KV_ERR(&err));
    vm_guest_attach(vm);
}

/* ---- QMP ---- */

void vm_on_event(void *arg, const char *name, struct json_val data)
{
    struct vm *vm = arg;
    struct vic_log *log = vm->m->o.log;
    if (strcmp(name, "SHUTDOWN") == 0) {
        const char *reason = json_str(json_get(data, "reason"), "");
        mutex_lock(&vm->m->lock);
        vm->guest_stopped = json_bool(json_get(data, "guest"), false);
        mutex_unlock(&vm->m->lock);
        log_info(log, "vmm.shutdown", KV_S("vm", vm->id), KV_S("reason", reason));
    } else if (strcmp(name, "RESET") == 0) {
        log_info(log, "vmm.reset", KV_S("vm", vm->id));
        if (loop_is_thread(vm->m->o.loop)) /* else nothing is attached yet */
            vm_guest_reconnect(vm);
    } else if (strcmp(name, "BLOCK_IO_ERROR") == 0) {
        log_error(log, "vmm.io_error", KV_S("vm", vm->id),
                  KV_S("disk", json_str(json_get(data, "qom-path"), "")),
                  KV_S("reason", json_str(json_get(data, "reason"), "")));
    } else {
        log_debug(log, "vmm.event", KV_S("vm", vm->id), KV_S("event", name));
    }
}

bool vm_qmp(struct vm *vm, const char *command, struct sv arguments, int fd, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    if (!vm->qmp)
        return vic_fail(err, VIC_UNAVAILABLE, 0, "%s: QEMU of VM %s does not answer", command,
                        vm->id);
    return qmp_call(vm->qmp, command, arguments, fd, VMM_CALL_MS, &a, NULL, err);
}

void vm_kill(struct vm *vm)
{
    if (vm->pidfd < 0)
        return;
    if (pidfd_send_signal(vm->pidfd, SIGKILL, NULL, 0) != 0 && errno != ESRCH)
        log_error(vm->m->o.log, "vmm.kill", KV_S("vm", vm->id), KV_I("pid", vm->pid));
    struct pollfd p = {.fd = vm->pidfd, .events = POLLIN};
    while (poll(&p, 1, KILL_MS) < 0 && errno == EINTR)
        ;
    waitpid(vm->pid, NULL, WNOHANG);
}

/* ---- operations ---- */

static bool valid_id(const char *id)
{
    size_t len = id ? strlen(id) : 0;
    return len > 0 && len <= VMM_MAX_ID && id[0] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool check_spec(const struct vmm *m, const struct vmm_spec *s, struct vic_err *err)
{
    if (!valid_id(s->id))
        return vic_fail(err, VIC_INVALID, 0, "VM id is not 1 to %d of [a-z0-9-]", VMM_MAX_ID);
    if (!s->uuid || strlen(s->uuid) != 36 || strspn(s->uuid, "0123456789abcdefABCDEF-") != 36)
        return vic_fail(err, VIC_INVALID, 0, "VM %s: malformed UUID", s->id);
    if (s->cpus < 1 || s->cpus > VMM_MAX_CPUS)
        return vic_fail(err, VIC_INVALID, 0, "VM %s: %u CPUs, not 1 to %d", s->id, s->cpus,
                        VMM_MAX_CPUS);
    if (s->memory_mb < 4 || s->memory_mb > VMM_MAX_MEMORY_MB)
        return vic_fail(err, VIC_INVALID, 0, "VM %s: %llu MB of memory", s->id,
                        (unsigned long long)s->memory_mb);
    if (s->nic_count > VMM_MAX_NICS || s->disk_count > VMM_MAX_TARGET + 1)
        return vic_fail(err, VIC_INVALID, 0, "VM %s: too many NICs or disks", s->id);
    if (s->nic_count && !m->netns_path)
        return vic_fail(err, VIC_UNSUPPORTED, 0, "VM %s: NICs need a network namespace", s->id);
    return true;
}

/* Puts a new VM in the table, busy. */
static struct vm *enlist(struct vmm *m, const char *id, struct vic_err *err)
{
    struct vm *vm = vm_new(m, id);
    mutex_lock(&m->lock);
    bool taken = find_locked(m, id) != NULL;
    if (!taken) {
        LIST_INSERT_HEAD(&m->vms, vm, link);
        vm->listed = vm->busy = true;
        vm->refs++;
    }
    mutex_unlock(&m->lock);
    if (!taken)
        return vm;
    vic_fail(err, VIC_CONFLICT, 0, "VM %s runs already", id);
    vm_unref(vm);
    return NULL;
}

bool vmm_start(struct vmm *m, const struct vmm_spec *s, struct vic_err *err)
{
    if (!check_spec(m, s, err))
        return false;
    struct vm *vm = enlist(m, s->id, err);
    if (!vm)
        return false;
    int64_t begin = clock_mono_ms(&vic_clock_real);
    if (!vm_launch(vm, s, err) || !vmm_on_loop(m, vm_attach, vm, err)) {
        vm_kill(vm);
        vm_files_remove(vm);
        unlist(vm);
        vm_release(vm);
        return vic_wrap(err, "start VM %s", s->id);
    }
    mutex_lock(&m->lock);
    vm->started = true;
    mutex_unlock(&m->lock);
    log_info(m->o.log, "vmm.start", KV_S("vm", vm->id), KV_I("pid", vm->pid),
             KV_I("dur_ms", clock_mono_ms(&vic_clock_real) - begin));
    vm_release(vm);
    return true;
}

/* Waits until the loop has seen the process's end. */
static bool wait_unlisted(struct vm *vm, int64_t timeout_ms)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + timeout_ms, left = timeout_ms;
    mutex_lock(&vm->m->lock);
    while (vm->listed && left > 0) {
        cond_wait_ms(&vm->m->changed, &vm->m->lock, left);
        left = deadline - clock_mono_ms(&vic_clock_real);
    }
    bool gone = !vm->listed;
    mutex_unlock(&vm->m->lock);
    return gone;
}

bool vmm_stop(struct vmm *m, const char *id, struct vic_err *err)
{
    struct vm *vm = acquire(m, id);
    if (!vm)
        return true;
    /* "quit" writes out qcow2's caches; the reply may lose the race with the exit. */
    bool asked = vm_qmp(vm, "quit", (struct sv){0}, -1, NULL);
    bool gone = wait_unlisted(vm, asked || vm->qmp ? QUIT_MS : 0);
    if (!gone) {
        log_warn(m->o.log, "vmm.kill", KV_S("vm", id), KV_I("pid", vm->pid));
        pidfd_send_signal(vm->pidfd, SIGKILL, NULL, 0);
        gone = wait_unlisted(vm, KILL_MS);
    }
    vm_release(vm);
    return gone || vic_fail(err, VIC_TIMEOUT, 0, "stop VM %s: its process does not end", id);
}

/* An operation that is one QMP command. */
static bool simple(struct vmm *m, const char *id, const char *command, struct vic_err *err)
{
    struct vm *vm = acquire_or_fail(m, id, err);
    if (!vm)
        return false;
    bool done = vm_qmp(vm, command, (struct sv){0}, -1, err);
    vm_release(vm);
    return done || vic_wrap(err, "VM %s", id);
}

bool vmm_reset(struct vmm *m, const char *id, struct vic_err *err)
{
    return simple(m, id, "system_reset", err);
}

bool vmm_powerdown(struct vmm *m, const char *id, struct vic_err *err)
{
    return simple(m, id, "system_powerdown", err);
}

bool vmm_disk_add(struct vmm *m, const char *id, const struct vmm_disk *d, struct vic_err *err)
{
    struct vm *vm = acquire_or_fail(m, id, err);
    if (!vm)
        return false;
    bool done = vm_disk_plug(vm, d, err);
    vm_release(vm);
    return done || vic_wrap(err, "VM %s: add disk %u", id, d->target);
}

bool vmm_disk_remove(struct vmm *m, const char *id, unsigned target, struct vic_err *err)
{
    struct vm *vm = acquire_or_fail(m, id, err);
    if (!vm)
        return false;
    bool done = vm_disk_unplug(vm, target, err);
    vm_release(vm);
    return done || vic_wrap(err, "VM %s: remove disk %u", id, target);
}

pid_t vmm_pid(struct vmm *m, const char *id)
{
    mutex_lock(&m->lock);
    struct vm *vm = find_locked(m, id);
    pid_t pid = vm && vm->started ? vm->pid : 0;
    mutex_unlock(&m->lock);
    return pid;
}

bool vmm_running(struct vmm *m, const char *id)
{
    return vmm_pid(m, id) != 0;
}

/* ---- open, free ---- */

static bool find_user(struct vmm *m, struct vic_err *err)
{
    char space[4096];
    struct passwd entry, *found = NULL;
    if (!m->o.qemu_user)
        return true;
    int r = getpwnam_r(m->o.qemu_user, &entry, space, sizeof space, &found);
    if (!found)
        return vic_fail(err, VIC_NOT_FOUND, r, "no user %s to run QEMU as", m->o.qemu_user);
    m->uid = entry.pw_uid;
    m->gid = entry.pw_gid;
    return true;
}

/* KVM by the group of /dev/kvm: QEMU has one group, and needs no other. */
static void try_kvm(struct vmm *m)
{
    struct stat st;
    if (!m->o.kvm || stat("/dev/kvm", &st) != 0)
        return;
    m->kvm = vmm_probe("kvm", KVM_PROBE_MS);
    if (m->kvm && m->uid && (st.st_mode & 0060) == 0060 && st.st_gid)
        m->gid = st.st_gid;
    log_info(m->o.log, "vmm.kvm", KV_S("works", m->kvm ? "yes" : "no"));
}

static bool open_run_dir(struct vmm *m, struct vic_err *err)
{
    if (mkdir(m->o.run_dir, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "make %s", m->o.run_dir);
    m->run_fd = open(m->o.run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return m->run_fd >= 0 || vic_fail_errno(err, "open %s", m->o.run_dir);
}

static bool resolve_disk_dir(struct vmm *m, struct vic_err *err)
{
    if (!m->o.disk_dir)
        return true;
    m->disk_dir = realpath(m->o.disk_dir, NULL);
    return m->disk_dir || vic_fail_errno(err, "resolve %s", m->o.disk_dir);
}

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

struct vmm *vmm_open(const struct vmm_options *o, struct vic_err *err)
{
    struct vmm *m = xcalloc(1, sizeof *m);
    m->o = *o;
    m->o.run_dir = copy(o->run_dir);
    m->o.netns = copy(o->netns);
    m->o.disk_dir = copy(o->disk_dir);
    m->o.qemu_user = copy(o->qemu_user);
    m->run_fd = -1;
    mutex_init(&m->lock);
    cond_init(&m->changed);
    mutex_lock(&m->lock);
    LIST_INIT(&m->vms);
    m->refs = 1;
    mutex_unlock(&m->lock);
    if (!find_user(m, err) || !open_run_dir(m, err) || !resolve_disk_dir(m, err) ||
        !vmm_netns_make(m, err)) {
        vmm_destroy(m);
        return NULL;
    }
    try_kvm(m);
    vmm_boot_clear(m);
    if (vmm_recover(m, err))
        return m;
    vmm_free(m);
    return NULL;
}

static struct vm *first(struct vmm *m)
{
    mutex_lock(&m->lock);
    struct vm *vm = LIST_FIRST(&m->vms);
    mutex_unlock(&m->lock);
    return vm;
}

static void detach_all(void *arg)
{
    struct vmm *m = arg;
    for (struct vm *vm; (vm = first(m));) {
        detach(vm);
        unlist(vm);
    }
}

void vmm_free(struct vmm *m)
{
    if (!m)
        return;
    bool last;
    mutex_lock(&m->lock);
    m->closed = true;
    mutex_unlock(&m->lock);
    if (!vmm_on_loop(m, detach_all, m, NULL))
        detach_all(m);
    mutex_lock(&m->lock);
    vmm_unref_locked(m, &last);
    mutex_unlock(&m->lock);
    if (last)
        vmm_destroy(m);
}
