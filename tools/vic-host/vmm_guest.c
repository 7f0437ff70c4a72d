/* The guestinfo port: VMware's RPC text over virtio-serial.
 *
 * A command is a line ("info-get guestinfo.x"), its reply is a line ("1 value", "0 No value
 * found"). The guest may be anybody's: a line has at most 1 MiB, one that is longer is skipped to
 * its end and answered with an error; a guest that does not read its replies is not read from
 * either.  What a guest writes while no vic-host is there is lost, so the guest repeats a command
 * that gets no answer.
 *
 * Everything here runs on the loop's thread. */
#include "base/mem.h"

#include "vmm_priv.h"

enum { MAX_LINE = 1024 * 1024, MAX_PENDING = 1024 * 1024 };

static void send_reply(struct vm *vm, struct sv text)
{
    bool fits = sv_find(text, '\n') < 0;
    net_write(vm->guest, fits ? text : SV("0 The value holds a line break"));
    net_write(vm->guest, SV("\n"));
}

static void answer(struct vm *vm, struct sv command)
{
    AUTO_BUF struct buf reply = {0};
    if (vm->m->o.on_guestinfo)
        vm->m->o.on_guestinfo(vm->m->o.arg, vm->id, command, &reply);
    if (!reply.len || reply.failed)
        send_reply(vm, SV("0 Unknown command"));
    else
        send_reply(vm, buf_sv(&reply));
}

/* A whole line, without its end. */
static void take_line(struct vm *vm, struct sv line)
{
    bool too_long = vm->guest_skip || line.len > MAX_LINE;
    vm->guest_skip = false;
    if (line.len && line.p[line.len - 1] == '\r')
        line.len--;
    if (too_long)
        send_reply(vm, SV("0 The command is too long"));
    else if (line.len)
        answer(vm, line);
}

/* Answers the lines that are there, as long as the guest reads. */
static void take_lines(struct vm *vm)
{
    struct sv rest = buf_sv(&vm->guest_in);
    while (vm->guest && !vm->guest_paused && sv_find(rest, '\n') >= 0) {
        take_line(vm, sv_cut(&rest, '\n'));
        if (vm->guest && net_pending(vm->guest) > MAX_PENDING) {
            vm->guest_paused = true;
            net_pause(vm->guest);
        }
    }
    buf_consume(&vm->guest_in, vm->guest_in.len - rest.len);
    if (!vm->guest_paused && vm->guest_in.len > MAX_LINE) {
        buf_reset(&vm->guest_in);
        vm->guest_skip = true;
    }
}

static void on_data(void *arg, struct sv data)
{
    struct vm *vm = arg;
    if (!vm->guest)
        return;
    buf_add_sv(&vm->guest_in, data);
    take_lines(vm);
}

static void on_drain(void *arg)
{
    struct vm *vm = arg;
    if (!vm->guest_paused || !vm->guest)
        return;
    vm->guest_paused = false;
    take_lines(vm);
    if (!vm->guest_paused)
        net_resume(vm->guest);
}

static void on_eof(void *arg)
{
    vm_guest_detach(arg);
}

static void on_close(void *arg, const struct vic_err *err)
{
    struct vm *vm = arg;
    (void)err; /* with the process, and its end is reported by its pidfd */
    vm->guest = NULL;
    vm_unref(vm);
}

static void on_ready(void *arg)
{
    (void)arg;
}

static const struct net_callbacks callbacks = {.on_ready = on_ready,
                                               .on_data = on_data,
                                               .on_eof = on_eof,
                                               .on_drain = on_drain,
                                               .on_close = on_close};

void vm_guest_attach(struct vm *vm)
{
    struct vic_err err;
    if (vm->guest_fd < 0)
        return;
    vm_ref(vm);
    struct net_options options = {0};
    vm->guest =
        net_adopt(vm->m->o.loop, TAKE_FD(vm->guest_fd), &options, false, &callbacks, vm, &err);
    if (vm->guest)
        return;
    log_error(vm->m->o.log, "vmm.guestinfo", KV_S("vm", vm->id), KV_ERR(&err));
    vm_unref(vm);
}

/* For a stream that is no longer the VM's: it only gives up its reference. */
static void on_late_close(void *arg, const struct vic_err *err)
{
    (void)err;
    vm_unref(arg);
}

void vm_guest_detach(struct vm *vm)
{
    static const struct net_callbacks late = {.on_close = on_late_close};
    if (!vm->guest)
        return;
    net_set(vm->guest, &late, vm);
    net_abort(TAKE(vm->guest));
    buf_reset(&vm->guest_in);
    vm->guest_skip = vm->guest_paused = false;
}

void vm_guest_reconnect(struct vm *vm)
{
    struct vic_err err;
    if (!vm->guest)
        return;
    vm_guest_detach(vm);
    vm->guest_fd = vm_socket_connect(vm, VM_GUESTINFO, &err);
    if (vm->guest_fd < 0)
        log_error(vm->m->o.log, "vmm.guestinfo", KV_S("vm", vm->id), KV_ERR(&err));
    vm_guest_attach(vm);
}
