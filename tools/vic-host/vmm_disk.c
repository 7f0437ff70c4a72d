/* Disks: qcow2 files, chains of them, hot plug.
 *
 * QEMU never opens a file by name and never follows a header: this file walks the chain from child
 * to root itself, checks each header, and hands every level's descriptor over (add-fd); the block
 * graph then names /dev/fdset/N for each level, with an explicit format and an explicit "backing".
 * So QEMU's user needs no rights on files, and a header that names /etc/shadow, a URL or a "json:"
 * is our refusal instead of QEMU's obedience.  Each VM opens a shared parent itself: QEMU's locks
 * (OFD locks) belong to an open file description, so two VMs may read one parent and none can have
 * a disk that another writes.
 *
 * New files are written here, not by qemu-img: an empty qcow2 is one header, one refcount table,
 * one refcount block and a level-1 table of zeros (0.2 ms against some 30 ms for a process).  The
 * header goes last, so a file that was cut off is no disk.
 *
 * Facts: QEMU 7.2 docs/interop/qcow2.txt; qapi/block-core.json; a QMP connection that ends closes
 * descriptors of sets that are not in use, so none is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#include "vmm_priv.h"

enum {
    CLUSTER_BITS = 16,
    CLUSTER = 1 << CLUSTER_BITS,
    HEADER = 104,       /* version 3 without extensions */
    MAX_BACKING = 1023, /* qcow2.txt: backing_file_size */
    L2_SPAN_BITS =
        CLUSTER_BITS + CLUSTER_BITS - 3, /* bytes that one level-1 entry covers: 512 MiB */
    FIRST_SET = 1000, /* fdset ids of a target: FIRST_SET + 100 * target + level */
    UNPLUG_MS = 15000,
};
static const int64_t max_capacity = INT64_C(1) << 46; /* 64 TiB: the level-1 table has 1 MiB then */

struct header {
    int64_t capacity;
    char backing[MAX_BACKING + 1]; /* as written; "" = none */
};

/* ---- bytes ---- */

static uint64_t get_be(const unsigned char *p, unsigned bytes)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < bytes; i++)
        n = n << 8 | p[i];
    return n;
}

static void put_be(unsigned char *p, uint64_t n, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0; n >>= 8)
        p[i] = (unsigned char)n;
}

/* ---- reading ---- */

/* The header's fixed part: offsets as in qcow2.txt, "Header". */
static bool parse_header(const unsigned char h[HEADER], struct header *out, uint64_t *backing_at,
                         uint64_t *backing_size)
{
    uint64_t version = get_be(h + 4, 4), capacity = get_be(h + 24, 8);
    uint64_t incompatible = version >= 3 ? get_be(h + 72, 8) : 0;
    *backing_at = get_be(h + 8, 8);
    *backing_size = *backing_at ? get_be(h + 16, 4) : 0;
    if (get_be(h, 4) != 0x514649fb || version < 2 || version > 3)
        return false;
    out->capacity = (int64_t)capacity;
    bool external_data = incompatible & 4, encrypted = get_be(h + 32, 4) != 0;
    return !external_data && !encrypted && capacity <= (uint64_t)max_capacity &&
           *backing_size <= MAX_BACKING && *backing_at <= INT32_MAX;
}

static bool read_header(int fd, const char *file, struct header *out, struct vic_err *err)
{
    unsigned char h[HEADER] = {0};
    uint64_t at, size;
    ssize_t n = pread(fd, h, sizeof h, 0);
    if (n < 0)
        return vic_fail_errno(err, "read %s", file);
    if (n < 72 || !parse_header(h, out, &at, &size) ||
        pread(fd, out->backing, size, (off_t)at) != (ssize_t)size)
        return vic_fail(err, VIC_CORRUPT, 0, "%s is not a qcow2 disk of ours", file);
    out->backing[size] = '\0';
    if (strlen(out->backing) != size || (size && out->backing[0] != '/'))
        return vic_fail(err, VIC_FORBIDDEN, 0, "%s: its parent is not named by a path", file);
    return true;
}

/* Opens a disk file that lies, with links resolved, where disks may lie. */
static int open_file(struct vmm *m, const char *file, int flags, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(file, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        vic_fail_errno(err, "open %s", file);
        return -1;
    }
    char link[64], real[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof real - 1);
    struct sv path = sv_make(real, n < 0 ? 0 : (size_t)n), dir = sv_of(m->disk_dir);
    bool inside =
        !dir.len || (sv_starts(path, dir) && path.len > dir.len && path.p[dir.len] == '/');
    if (S_ISREG(st.st_mode) && inside)
        return TAKE_FD(fd);
    vic_fail(err, VIC_FORBIDDEN, 0, "%s is no file among the disks", file);
    return -1;
}

/* ---- chains ---- */

struct chain {
    unsigned count;
    int fds[VMM_MAX_CHAIN]; /* child first */
};

static void chain_fini(struct chain *c)
{
    while (c->count)
        close(c->fds[--c->count]);
}

static bool chain_open(struct vmm *m, const char *file, bool read_only, struct chain *c,
                       struct vic_err *err)
{
    struct header h;
    snprintf(h.backing, sizeof h.backing, "%s", file);
    if (strlen(file) > MAX_BACKING)
        return vic_fail(err, VIC_INVALID, 0, "the path of a disk is over %d bytes", MAX_BACKING);
    while (h.backing[0]) {
        char path[MAX_BACKING + 1];
        memcpy(path, h.backing, sizeof path);
        if (c->count == VMM_MAX_CHAIN)
            return vic_fail(err, VIC_TOO_LARGE, 0, "%s has more than %d levels", file,
                            VMM_MAX_CHAIN);
        int fd = open_file(m, path, c->count || read_only ? O_RDONLY : O_RDWR, err);
        if (fd < 0)
            return false;
        c->fds[c->count++] = fd;
        if (!read_header(fd, path, &h, err))
            return false;
    }
    return true;
}

/* ---- hot plug ---- */

static unsigned set_id(unsigned target, unsigned level)
{
    return FIRST_SET + 100 * target + level;
}

/* Opens the object of one level; its "backing" comes inside. */
static void add_level(struct json_writer *w, unsigned target, unsigned level, bool read_only)
{
    char name[40];
    json_add_str(w, "driver", "qcow2");
    json_add_bool(w, "read-only", read_only);
    snprintf(name, sizeof name, "/dev/fdset/%u", set_id(target, level));
    json_open(w, "file", '{');
    json_add_str(w, "driver", "file");
    json_add_str(w, "filename", name);
    json_add_str(w, "discard", "unmap");
    json_close(w, '}');
    if (read_only)
        return;
    json_add_str(w, "discard", "unmap");
    json_add_str(w, "detect-zeroes", "unmap");
}

static void node_json(struct buf *out, const struct vmm_disk *d, unsigned levels)
{
    char name[16];
    struct json_writer w = json_writer(out);
    snprintf(name, sizeof name, "d%u", d->target);
    json_open(&w, NULL, '{');
    json_add_str(&w, "node-name", name);
    for (unsigned level = 0; level < levels; level++) {
        if (level)
            json_open(&w, "backing", '{');
        add_level(&w, d->target, level, level > 0 || d->read_only);
    }
    json_add_null(&w, "backing");
    for (unsigned level = 0; level < levels; level++)
        json_close(&w, '}');
}

static bool give_chain(struct vm *vm, unsigned target, const struct chain *c, struct vic_err *err)
{
    char text[40];
    for (unsigned level = 0; level < c->count; level++) {
        snprintf(text, sizeof text, "{\"fdset-id\":%u}", set_id(target, level));
        if (!vm_qmp(vm, "add-fd", sv_of(text), c->fds[level], err))
            return false;
    }
    return true;
}

/* QEMU keeps its own duplicates of what it uses; the rest goes. */
static void drop_sets(struct vm *vm, unsigned target, unsigned levels)
{
    char text[40];
    for (unsigned level = 0; level < levels; level++) {
        snprintf(text, sizeof text, "{\"fdset-id\":%u}", set_id(target, level));
        (void)!vm_qmp(vm, "remove-fd", sv_of(text), -1, NULL);
    }
}

static bool add_node(struct vm *vm, const struct vmm_disk *d, struct vic_err *err)
{
    __attribute__((cleanup(chain_fini))) struct chain c = {0};
    AUTO_BUF struct buf node = {0};
    if (!chain_open(vm->m, d->file, d->read_only, &c, err))
        return false;
    node_json(&node, d, c.count);
    bool fine =
        give_chain(vm, d->target, &c, err) && vm_qmp(vm, "blockdev-add", buf_sv(&node), -1, err);
    drop_sets(vm, d->target, c.count);
    return fine;
}

static bool delete_node(struct vm *vm, unsigned target, struct vic_err *err)
{
    char text[40];
    snprintf(text, sizeof text, "{\"node-name\":\"d%u\"}", target);
    return vm_qmp(vm, "blockdev-del", sv_of(text), -1, err);
}

bool vm_disk_plug(struct vm *vm, const struct vmm_disk *d, struct vic_err *err)
{
    char text[200];
    if (d->target > VMM_MAX_TARGET || !d->file)
        return vic_fail(err, VIC_INVALID, 0, "SCSI target %u is not 0 to %d", d->target,
                        VMM_MAX_TARGET);
    if (vm->targets >> d->target & 1)
        return vic_fail(err, VIC_CONFLICT, 0, "SCSI target %u is in use", d->target);
    if (!add_node(vm, d, err))
        return false;
    /* Errors go to the guest: a VM that QEMU pauses has nobody to resume it. */
    snprintf(text, sizeof text,
             "{\"driver\":\"scsi-hd\",\"id\":\"disk%u\",\"bus\":\"s0.0\",\"scsi-id\":%u,"
             "\"drive\":\"d%u\",\"werror\":\"report\",\"rerror\":\"report\"}",
             d->target, d->target, d->target);
    if (!vm_qmp(vm, "device_add", sv_of(text), -1, err)) {
        (void)!delete_node(vm, d->target, NULL);
        return false;
    }
    vm->targets |= UINT64_C(1) << d->target;
    return true;
}

bool vm_disk_unplug(struct vm *vm, unsigned target, struct vic_err *err)
{
    char text[40], device[16];
    if (target > VMM_MAX_TARGET || !(vm->targets >> target & 1))
        return vic_fail(err, VIC_NOT_FOUND, 0, "no disk at SCSI target %u", target);
    if (!vm->qmp)
        return vic_fail(err, VIC_UNAVAILABLE, 0, "QEMU of VM %s does not answer", vm->id);
    snprintf(device, sizeof device, "disk%u", target);
    snprintf(text, sizeof text, "{\"id\":\"%s\"}", device);
    qmp_expect(vm->qmp, "DEVICE_DELETED", device);
    struct vic_err why;
    bool asked = vm_qmp(vm, "device_del", sv_of(text), -1, &why);
    if (!asked && why.code != VIC_NOT_FOUND) { /* gone already: an earlier try did it half */
        *err = why;
        return false;
    }
    if ((asked && !qmp_await(vm->qmp, UNPLUG_MS, err)) || !delete_node(vm, target, err))
        return false;
    vm->targets &= ~(UINT64_C(1) << target);
    return true;
}

/* "d5" is target 5. */
static bool node_target(const char *name, uint64_t *target)
{
    return name[0] == 'd' && sv_to_u64(sv_of(name + 1), target) && *target <= VMM_MAX_TARGET;
}

/* The nodes that a device uses. */
static bool used_nodes(struct vm *vm, uint64_t *used, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val blocks;
    if (!qmp_call(vm->qmp, "query-block", SV("{}"), -1, VMM_CALL_MS, &a, &blocks, err))
        return false;
    for (struct json_iter i = json_iter(blocks); json_next(&i);) {
        uint64_t target;
        struct json_val node = json_get(json_get(i.val, "inserted"), "node-name");
        if (node_target(json_str(node, ""), &target))
            *used |= UINT64_C(1) << target;
    }
    return true;
}

/* A node that no device uses is what a plug or unplug left that was cut: it goes. */
bool vm_disk_survey(struct vm *vm, struct vic_err *err)
{
    uint64_t used = 0;
    if (!used_nodes(vm, &used, err))
        return false;
    AUTO_ARENA struct arena a = {0};
    struct json_val nodes;
    if (!qmp_call(vm->qmp, "query-named-block-nodes", SV("{\"flat\":true}"), -1, VMM_CALL_MS, &a,
                  &nodes, err))
        return false;
    for (struct json_iter i = json_iter(nodes); json_next(&i);) {
        uint64_t target;
        if (!node_target(json_str(json_get(i.val, "node-name"), ""), &target))
            continue;
        if (!(used >> target & 1) && delete_node(vm, (unsigned)target, NULL))
            continue;
        vm->targets |= UINT64_C(1) << target;
    }
    return true;
}

/* ---- new files ---- */

static bool put(int fd, const void *p, size_t size, off_t at)
{
    return pwrite(fd, p, size, at) == (ssize_t)size;
}

static void fill_header(unsigned char h[HEADER], int64_t capacity, uint64_t l1_entries,
                        size_t backing_size)
{
    put_be(h, 0x514649fb, 4);
    put_be(h + 4, 3, 4); /* version */
    put_be(h + 20, CLUSTER_BITS, 4);
    put_be(h + 24, (uint64_t)capacity, 8);
    put_be(h + 36, l1_entries, 4);
    put_be(h + 40, 3 * (uint64_t)CLUSTER, 8); /* level-1 table */
    put_be(h + 48, CLUSTER, 8);               /* refcount table */
    put_be(h + 56, 1, 4);                     /* clusters of it */
    put_be(h + 96, 4, 4);                     /* refcounts of 16 bits */
    put_be(h + 100, HEADER, 4);
    if (!backing_size)
        return;
    put_be(h + 8, HEADER + 24, 8); /* behind the two extensions */
    put_be(h + 16, backing_size, 4);
}

/* Clusters: 0 header, 1 refcount table, 2 refcount block, from 3 the level-1 table. */
static bool write_disk(int fd, int64_t capacity, const char *parent)
{
    unsigned char first[HEADER + 24 + MAX_BACKING] = {0}, counts[2 * (3 + 32)] = {0}, entry[8];
    uint64_t l1_entries = ((uint64_t)capacity + (UINT64_C(1) << L2_SPAN_BITS) - 1) >> L2_SPAN_BITS;
    l1_entries = l1_entries ? l1_entries : 1;
    uint64_t clusters = 3 + (l1_entries * 8 + CLUSTER - 1) / CLUSTER;
    size_t backing_size = parent ? strlen(parent) : 0;
    fill_header(first, capacity, l1_entries, backing_size);
    if (backing_size) {
        put_be(first + HEADER, 0xe2792aca, 4); /* extension: format of the backing file */
        put_be(first + HEADER + 4, 5, 4);
        memcpy(first + HEADER + 8, "qcow2", 5); /* padded to 8; then the end, type 0, size 0 */
        memcpy(first + HEADER + 24, parent, backing_size);
    }
    for (uint64_t i = 0; i < clusters; i++)
        put_be(counts + 2 * i, 1, 2);
    put_be(entry, 2 * (uint64_t)CLUSTER, 8);
    return ftruncate(fd, (off_t)(clusters * CLUSTER)) == 0 &&
           put(fd, entry, sizeof entry, CLUSTER) &&
           put(fd, counts, 2 * clusters, 2 * (off_t)CLUSTER) && put(fd, first, sizeof first, 0);
}

/* Resolves the parent and lets the capacity follow it. */
static bool take_parent(struct vmm *m, const char *parent, int64_t *capacity, char real[4096],
                        struct vic_err *err)
{
    struct header h;
    AUTO_CLOSE int fd = open_file(m, parent, O_RDONLY, err);
    if (fd < 0 || !read_header(fd, parent, &h, err))
        return false;
    if (!realpath(parent, real))
        return vic_fail_errno(err, "resolve %s", parent);
    if (strlen(real) > MAX_BACKING)
        return vic_fail(err, VIC_INVALID, 0, "the path of %s is over %d bytes", parent,
                        MAX_BACKING);
    *capacity = *capacity ? *capacity : h.capacity;
    return *capacity >= h.capacity ||
           vic_fail(err, VIC_INVALID, 0, "a disk of %lld bytes is smaller than its parent",
                    (long long)*capacity);
}

bool vmm_disk_create(struct vmm *m, const char *file, const char *parent, int64_t capacity_bytes,
                     struct vic_err *err)
{
    char real[4096];
    int64_t capacity = capacity_bytes;
    if (parent && !take_parent(m, parent, &capacity, real, err))
        return vic_wrap(err, "create %s", file);
    if (capacity <= 0 || capacity > max_capacity || capacity % 512)
        return vic_fail(err, VIC_INVALID, 0, "create %s: a disk of %lld bytes", file,
                        (long long)capacity);
    AUTO_CLOSE int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return vic_fail(err, errno == EEXIST ? VIC_CONFLICT : vic_code_of_errno(errno), errno,
                        "create %s", file);
    if (write_disk(fd, capacity, parent ? real : NULL))
        return true;
    vic_fail_errno(err, "write %s", file);
    unlink(file);
    return false;
}

bool vmm_disk_info(struct vmm *m, const char *file, int64_t *capacity_bytes, int64_t *used_bytes,
                   struct vic_err *err)
{
    struct header h;
    struct stat st;
    AUTO_CLOSE int fd = open_file(m, file, O_RDONLY, err);
    if (fd < 0 || !read_header(fd, file, &h, err))
        return false;
    if (fstat(fd, &st) != 0)
        return vic_fail_errno(err, "look at %s", file);
    *capacity_bytes = h.capacity;
    *used_bytes = (int64_t)st.st_blocks * 512;
    return true;
}
