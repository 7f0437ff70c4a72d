/* The workload's cgroup: see cgroup.h.
 *
 * The device policy is a BPF_PROG_TYPE_CGROUP_DEVICE program, written as a list of rules and put
 * into instructions here: for each rule, skip to the next unless type, access, major and minor
 * match; else answer the rule's verdict.  Context: struct bpf_cgroup_dev_ctx (linux/bpf.h):
 * access_type = access << 16 | type, major, minor. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#include "files.h"

enum { ANY = -1, TTY_MAJOR = 4, FIRST_SERIAL = 64, MAX_RULES = 32, MAX_INSNS = MAX_RULES * 12 + 8 };
enum { ACC_MKNOD = BPF_DEVCG_ACC_MKNOD, ACC_ALL = 7 };

struct rule {
    int type;   /* BPF_DEVCG_DEV_CHAR or _BLOCK */
    int access; /* the rule matches when nothing else is asked for */
    int major, minor;
    bool allow;
};

/* What belongs to the agent: /dev/console, the serial ports (4:64 and up), hypervisor consoles. */
static const struct rule never[] = {
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 5, 1, false},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, TTY_MAJOR, FIRST_SERIAL, false},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, TTY_MAJOR, FIRST_SERIAL + 1, false},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, TTY_MAJOR, FIRST_SERIAL + 2, false},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, TTY_MAJOR, FIRST_SERIAL + 3, false},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 229, ANY, false},
};
static const struct rule docker[] = {
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 1, 3, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 1, 5, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 1, 7, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 1, 8, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 1, 9, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 5, 0, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 5, 2, true},
    {BPF_DEVCG_DEV_CHAR, ACC_ALL, 136, ANY, true},
    {BPF_DEVCG_DEV_CHAR, ACC_MKNOD, ANY, ANY, true},
    {BPF_DEVCG_DEV_BLOCK, ACC_MKNOD, ANY, ANY, true},
};

struct program {
    struct bpf_insn insns[MAX_INSNS];
    unsigned count;
};

enum {
    R_TYPE = BPF_REG_2,
    R_ACCESS = BPF_REG_3,
    R_MAJOR = BPF_REG_4,
    R_MINOR = BPF_REG_5,
    R_SCRATCH = BPF_REG_6
};

static void emit(struct program *p, int code, int dst, int src, int off, int imm)
{
    p->insns[p->count++] = (struct bpf_insn){.code = (uint8_t)code,
                                             .dst_reg = (uint8_t)(dst & 15),
                                             .src_reg = (uint8_t)(src & 15),
                                             .off = (int16_t)off,
                                             .imm = imm};
}

static void emit_head(struct program *p)
{
    enum { LOAD = BPF_LDX | BPF_W | BPF_MEM };
    emit(p, LOAD, R_TYPE, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
    emit(p, BPF_ALU64 | BPF_MOV | BPF_X, R_ACCESS, R_TYPE, 0, 0);
    emit(p, BPF_ALU64 | BPF_AND | BPF_K, R_TYPE, 0, 0, 0xffff);
    emit(p, BPF_ALU64 | BPF_RSH | BPF_K, R_ACCESS, 0, 0, 16);
    emit(p, LOAD, R_MAJOR, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
    emit(p, LOAD, R_MINOR, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
}

static void emit_answer(struct program *p, bool allow)
{
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow ? 1 : 0);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void emit_rule(struct program *p, const struct rule *r)
{
    unsigned jumps[4], n = 0;
    const struct {
        int reg, value;
    } tests[] = {{R_TYPE, r->type}, {R_MAJOR, r->major}, {R_MINOR, r->minor}};
    for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
        if (tests[i].value == ANY)
            continue;
        jumps[n++] = p->count;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, tests[i].reg, 0, 0, tests[i].value);
    }
    if (r->access != ACC_ALL) { /* something is asked for that the rule does not give */
        emit(p, BPF_ALU64 | BPF_MOV | BPF_X, R_SCRATCH, R_ACCESS, 0, 0);
        emit(p, BPF_ALU64 | BPF_AND | BPF_K, R_SCRATCH, 0, 0, ~r->access & ACC_ALL);
        jumps[n++] = p->count;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, R_SCRATCH, 0, 0, 0);
    }
    emit_answer(p, r->allow);
    for (unsigned i = 0; i < n; i++)
        p->insns[jumps[i]].off = (int16_t)(p->count - jumps[i] - 1);
}

/* What no rule decides is denied, or, privileged, allowed. */
static void build(struct program *p, bool privileged)
{
    emit_head(p);
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        emit_rule(p, &never[i]);
    for (size_t i = 0; i < ARRAY_LEN(docker) && !privileged; i++)
        emit_rule(p, &docker[i]);
    emit_answer(p, privileged);
}

bool cgroup_device_policy(int cgroup_fd, bool privileged, struct vic_err *err)
{
    struct program p = {.count = 0};
    union bpf_attr load, attach;
    build(&p, privileged);
    memset(&load, 0, sizeof load);
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uint64_t)(uintptr_t)p.insns;
    load.insn_cnt = p.count;
    load.license = (uint64_t)(uintptr_t) "GPL";
    AUTO_CLOSE int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    if (program < 0)
        return vic_fail_errno(err, "load the device policy");
    memset(&attach, 0, sizeof attach);
    attach.target_fd = (uint32_t)cgroup_fd;
    attach.attach_bpf_fd = (uint32_t)program;
    attach.attach_type = BPF_CGROUP_DEVICE;
    return syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) == 0 ||
           vic_fail_errno(err, "attach the device policy");
}

static bool set_limit(const char *name, uint64_t value, struct vic_err *err)
{
    char path[128], text[32];
    if (value == 0)
        return true;
    snprintf(path, sizeof path, CGROUP_RUN "/%s", name);
    snprintf(text, sizeof text, "%" PRIu64, value);
    return file_set(path, text, err);
}

static bool set_cpu(uint64_t milli, struct vic_err *err)
{
    char text[64];
    if (milli == 0)
        return true;
    snprintf(text, sizeof text, "%" PRIu64 " 100000", milli * 100);
    return file_set(CGROUP_RUN "/cpu.max", text, err);
}

bool cgroup_make(const struct spec_run *spec, int *fd, struct vic_err *err)
{
    if (mkdir(CGROUP_RUN, 0755) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "create the cgroup");
    if (!set_limit("memory.max", spec->memory, err) || !set_limit("pids.max", spec->pids, err) ||
        !set_cpu(spec->cpus_milli, err))
        return false;
    AUTO_CLOSE int dir = open(CGROUP_RUN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return vic_fail_errno(err, "open the cgroup");
    if (!cgroup_device_policy(dir, spec->process.privileged, err))
        return false;
    *fd = TAKE_FD(dir);
    return true;
}

uint64_t cgroup_oom_kills(void)
{
    AUTO_BUF struct buf text = {0};
    uint64_t n = 0;
    if (!file_read(CGROUP_RUN "/memory.events", 4096, &text, NULL))
        return 0;
    struct sv rest = buf_sv(&text);
    while (rest.p) {
        struct sv line = sv_cut(&rest, '\n');
        if (sv_is(sv_cut(&line, ' '), "oom_kill"))
            (void)!sv_to_u64(line, &n);
    }
    return n;
}
