/* Jobs: see worker.h.
 *
 *   mkfs   an empty file system with the two folders (disk.h)
 *   apply  a layer onto what the disk holds already (its parent's tree)
 *
 * Whatever happens, at the end the disk is unmounted and off the bus; a job that failed says which
 * entry was at fault. */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

#include "disk.h"
#include "inflate.h"
#include "layer.h"
#include "mkfs.h"
#include "spec.h"

#define WORK_DISK "/work"

struct job {
    struct json_val spec;
    int in;
    struct disk disk;
    struct layer_result layer;
};

static bool make_folder(const char *path, mode_t mode, struct vic_err *err)
{
    return mkdir(path, mode) == 0 || errno == EEXIST || vic_fail_errno(err, "create %s", path);
}

/* Everything written is on the disk before it may be detached. */
static bool leave(struct vic_err *err)
{
    AUTO_CLOSE int fd = open(WORK_DISK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0)
        return vic_fail_errno(err, "sync the disk");
    close(TAKE_FD(fd));
    return disk_unmount(WORK_DISK, err);
}

static bool do_mkfs(struct job *j, struct vic_err *err)
{
    uint64_t bytes;
    const char *label = json_str(json_get(j->spec, "label"), "");
    if (!disk_size(&j->disk, &bytes, err) || !mkfs_ext4(j->disk.node, bytes, label, err) ||
        !disk_mount(&j->disk, WORK_DISK, err))
        return false;
    bool made =
        make_folder(WORK_DISK "/rootfs", 0755, err) && make_folder(WORK_DISK "/vic", 0700, err);
    return leave(made ? err : NULL) && made;
}

static bool apply(const char *root_path, const char *trash_path, uint64_t max_bytes, int in,
                  const char *compression, struct layer_result *out, struct vic_err *err)
{
    if (!make_folder(root_path, 0755, err) || !make_folder(trash_path, 0700, err))
        return false;
    AUTO_CLOSE int root = open(root_path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_CLOSE int trash = open(trash_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0 || trash < 0)
        return vic_fail_errno(err, "open the tree");
    struct tree_trash bin = {.fd = trash};
    struct inflate *bytes = inflate_new(in, compression, err);
    if (!bytes)
        return false;
    bool ok = layer_apply(&(struct layer_options){root, &bin, max_bytes, bytes}, out, err);
    inflate_free(bytes);
    return ok && (rmdir(trash_path) == 0 || vic_fail_errno(err, "remove %s", trash_path));
}

static bool do_apply(struct job *j, struct vic_err *err)
{
    struct statvfs st;
    if (!disk_mount(&j->disk, WORK_DISK, err))
        return false;
    bool ok = statvfs(WORK_DISK, &st) == 0 || vic_fail_errno(err, "size of the disk");
    ok = ok && make_folder(WORK_DISK "/vic", 0700, err) &&
         apply(WORK_DISK "/rootfs", WORK_DISK "/vic/trash", (uint64_t)st.f_blocks * st.f_frsize,
               j->in, json_str(json_get(j->spec, "compression"), "none"), &j->layer, err);
    return leave(ok ? err : NULL) && ok;
}

static bool run(struct job *j, struct vic_err *err)
{
    static const struct {
        const char *op;
        bool (*run)(struct job *j, struct vic_err *err);
    } ops[] = {{"mkfs", do_mkfs}, {"apply", do_apply}};
    const char *op = json_str(json_get(j->spec, "op"), "");
    int64_t target = json_i64(json_get(j->spec, "target"), -1);
    if (target < 0 || target > SPEC_MAX_TARGET)
        return vic_fail(err, VIC_INVALID, 0, "job: target is out of range");
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (strcmp(ops[i].op, op) != 0)
            continue;
        if (!disk_attach((unsigned)target, &j->disk, err))
            return false;
        bool ok = ops[i].run(j, err);
        return disk_detach(&j->disk, ok ? err : NULL) && ok;
    }
    return vic_fail(err, VIC_UNSUPPORTED, 0, "no job is called %.40s", op);
}

void worker_do(struct json_val spec, int in, struct buf *out)
{
    struct job *j = xcalloc(1, sizeof *j);
    struct vic_err err = {0};
    struct json_writer w = json_writer(out);
    j->spec = spec;
    j->in = in;
    bool ok = run(j, &err);
    json_open(&w, NULL, '{');
    json_add_bool(&w, "ok", ok);
    if (ok && j->layer.diff_id[0]) {
        json_add_u64(&w, "size", j->layer.size);
        json_add_str(&w, "diff_id", j->layer.diff_id);
    }
    if (!ok) {
        json_add_str(&w, "error", err.msg);
        json_add_str(&w, "code", vic_code_name(err.code));
        json_add_i64(&w, "errno", err.sys);
        json_add_str(&w, "entry", j->layer.entry);
    }
    json_close(&w, '}');
    free(j);
}
