/* The run's disk: image tree, spec, key and journal.
 *
 * <disk>/rootfs/ is the image's tree.  <disk>/vic/ (0700): spec.json, the CONFIG frame as it came
 * (the spec with key 2, and control's HMAC over it, which only control checks); journal.json, what
 * became of the run; etc/, the files that are mounted over the image's; logs.spool, logs.left.
 * Every file is replaced whole and synced, so that a power cut leaves the old or the new one.
 *
 * A journal that says "exited" for this very seq wins over a new order to run it: a job that has
 * finished never runs twice.
 * TODO(issue 4): a disk that is attached at boot (HA restart) is read for its run here. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#include "boot.h"
#include "cgroup.h"
#include "container.h"
#include "files.h"
#include "run_state.h"

static const char *const kinds[] = {"exited", "signaled", "launch-failed"};

void run_exit_json(const struct run *r, struct json_writer *w)
{
    json_add_str(w, "container", r->spec.container);
    json_add_u64(w, "seq", r->spec.seq);
    json_add_str(w, "kind", kinds[r->exit.kind]);
    json_add_i64(w, "value", r->exit.value);
    json_add_bool(w, "oom", r->exit.oom);
    json_add_str(w, "error", r->exit.error);
    json_add_i64(w, "started_ns", r->started_ns);
    json_add_i64(w, "ended_ns", r->exit.ended_ns);
    json_add_u64(w, "log_seq", r->exit.log_seq);
}

bool run_write_journal(struct run *r, struct vic_err *err)
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    json_open(&w, NULL, '{');
    json_add_str(&w, "boot", r->a->boot);
    json_add_u64(&w, "seq", r->spec.seq);
    json_add_str(&w, "phase", r->phase == RUN_EXITED ? "exited" : "started");
    if (r->phase == RUN_EXITED) {
        json_open(&w, "exit", '{');
        run_exit_json(r, &w);
        json_close(&w, '}');
    }
    json_close(&w, '}');
    return file_replace(r->vic_dir, "journal.json", buf_sv(&json), 0600, err) ||
           vic_wrap(err, "journal");
}

static bool read_exit(struct json_val v, struct run *r)
{
    const char *kind = json_str(json_get(v, "kind"), "");
    int64_t value;
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i]) != 0 || !json_read_i64(json_get(v, "value"), &value))
            continue;
        r->exit.kind = (enum run_exit_kind)i;
        r->exit.value = (int)value;
        r->exit.oom = json_bool(json_get(v, "oom"), false);
        r->exit.ended_ns = json_i64(json_get(v, "ended_ns"), 0);
        r->started_ns = json_i64(json_get(v, "started_ns"), 0);
        snprintf(r->exit.error, sizeof r->exit.error, "%s", json_str(json_get(v, "error"), ""));
        return true;
    }
    return false;
}

/* Takes over the end that the journal tells of this seq.  A journal that cannot be read is one of
 * an older run, or none: the run then starts. */
static void read_journal(struct run *r)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf text = {0};
    struct json_val v;
    uint64_t seq;
    AUTO_CLOSE int fd = openat(r->vic_dir, "journal.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !fd_read_all(fd, 65536, &text, NULL) ||
        !json_parse(buf_sv(&text), 256, &a, &v, NULL))
        return;
    if (json_read_u64(json_get(v, "seq"), &seq) && seq == r->spec.seq &&
        strcmp(json_str(json_get(v, "phase"), ""), "exited") == 0 &&
        read_exit(json_get(v, "exit"), r))
        r->phase = RUN_EXITED;
}

static bool open_vic(struct run *r, struct vic_err *err)
{
    static const char path[] = CONTAINER_DISK "/vic";
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "create vic");
    r->vic_dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->vic_dir < 0)
        return vic_fail_errno(err, "open vic");
    if (access(CONTAINER_DISK "/rootfs", F_OK) != 0)
        return vic_fail_errno(err, "the disk holds no image");
    return true;
}

bool run_prepare(struct run *r, struct sv config, const char **stage, struct vic_err *err)
{
    *stage = "disk";
    if (!disk_attach(r->spec.disk, &r->disk, err) || !disk_mount(&r->disk, CONTAINER_DISK, err))
        return false;
    if (!open_vic(r, err))
        return false;
    read_journal(r);
    if (!file_replace(r->vic_dir, "spec.json", config, 0600, err))
        return vic_wrap(err, "keep the spec");
    if (r->phase == RUN_EXITED)
        return true;
    if (!container_write_etc(&r->spec, r->vic_dir, err))
        return false;
    *stage = "cgroup";
    return cgroup_make(&r->spec, &r->cgroup_fd, err);
}

void run_leave_disk(struct run *r)
{
    struct vic_err err;
    if (r->vic_dir >= 0)
        close(r->vic_dir);
    r->vic_dir = -1;
    if (r->disk.node[0] && !disk_unmount(CONTAINER_DISK, &err))
        boot_say("%s", err.msg);
}
