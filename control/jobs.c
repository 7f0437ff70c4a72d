/* Jobs on workers: mkfs, apply a layer.
 *
 * A job is the one thing here that lives in memory only: a stream to a worker that bytes are pumped
 * into until the worker answers with CLOSE.  If the engine dies, the job is gone and so is the
 * worker's disk: the controller finds APPLYING without a job and begins anew with a new disk.
 *
 * One thread pumps all jobs: on a wake it feeds each stream as many bytes as it has credit for, and
 * takes its end.  A job holds one buffer of 64 KiB. */
#include "jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/sync.h"

enum { PUMP_BYTES = 65536 };

struct job {
    char disk[80];
    char vm[65];
    struct jobs *owner;
    int fd; /* the blob, or -1; owned by the pump thread */
    bool eof_sent;
    struct hub_stream *stream; /* owned by the pump thread once it runs */
    char *pending;             /* bytes read from the blob but not taken by the stream yet */
    size_t pending_at, pending_len;
    struct job_result result; /* guarded: lock */
    bool cancel;              /* guarded: lock */
    UT_hash_handle hh;
};

struct jobs {
    struct hub *hub; /* immutable after init */
    struct spool *spool;
    struct vic_log *log;
    void (*finished)(void *arg, const char *disk);
    void *arg;
    pthread_t thread;
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    struct job *all VIC_GUARDED;
    bool woken VIC_GUARDED, stopping VIC_GUARDED;
};

static void wake(void *arg)
{
    struct jobs *j = arg;
    mutex_lock(&j->lock);
    j->woken = true;
    cond_signal(&j->wake);
    mutex_unlock(&j->lock);
}

static void end_stream(struct job *job)
{
    hub_stream_free(job->stream);
    job->stream = NULL;
    if (job->fd >= 0)
        close(job->fd);
    job->fd = -1;
    free(TAKE(job->pending));
}

static void settle(struct job *job, const struct job_result *r)
{
    struct jobs *j = job->owner;
    char disk[sizeof job->disk];
    memcpy(disk, job->disk, sizeof disk);
    end_stream(job);
    mutex_lock(&j->lock);
    job->result = *r;
    mutex_unlock(&j->lock);
    j->finished(j->arg, disk);
}

static void fail(struct job *job, const struct vic_err *err, bool hostile)
{
    struct job_result r = {.state = JOB_FAILED, .err = *err, .hostile = hostile};
    settle(job, &r);
}

/* CLOSE's JSON (tether/wire.h, kind "job"). */
static void take_result(struct job *job, struct sv json)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct vic_err err = {0};
    struct job_result r = {.state = JOB_DONE};
    if (!json_parse(json, 256, &a, &v, &err)) {
        vic_wrap(&err, "the worker's answer");
        fail(job, &err, false);
        return;
    }
    if (!json_bool(json_get(v, "ok"), false)) {
        const char *code = json_str(json_get(v, "code"), "");
        const char *entry = json_str(json_get(v, "entry"), "");
        const char *text = json_str(json_get(v, "error"), "the job failed");
        bool hostile = strcmp(code, "INVALID") == 0 || strcmp(code, "TOO_LARGE") == 0 ||
                       strcmp(code, "CORRUPT") == 0;
        vic_fail(&err, hostile ? VIC_INVALID : VIC_IO, 0, "%s%s%s", text,
                 entry[0] ? ": entry " : "", entry);
        fail(job, &err, hostile);
        return;
    }
    int64_t size = json_i64(json_get(v, "size"), 0);
    r.size = size > 0 ? (uint64_t)size : 0;
    snprintf(r.diff_id, sizeof r.diff_id, "%s", json_str(json_get(v, "diff_id"), ""));
    settle(job, &r);
}

/* Reads the next piece of the blob; false at its end. */
static bool refill(struct job *job, struct vic_err *err)
{
    if (job->pending_at < job->pending_len)
        return true;
    job->pending_at = job->pending_len = 0;
    if (!job->pending)
        job->pending = xmalloc(PUMP_BYTES);
    ssize_t n = job->fd < 0 ? 0 : read(job->fd, job->pending, PUMP_BYTES);
    if (n < 0)
        return vic_fail_errno(err, "read the spool");
    job->pending_len = (size_t)n;
    return n > 0;
}

/* Returns true when it could go on at once. */
static bool feed(struct job *job)
{
    struct vic_err err = {0};
    struct hub_stream_status st;
    hub_stream_status(job->stream, &st);
    if (st.state != HUB_OPEN || job->eof_sent || !st.writable)
        return false;
    if (!refill(job, &err)) {
        if (err.code != VIC_OK) {
            fail(job, &err, false);
            return false;
        }
        hub_stream_eof(job->stream);
        job->eof_sent = true;
        return false;
    }
    job->pending_at += hub_stream_write(
        job->stream, sv_make(job->pending + job->pending_at, job->pending_len - job->pending_at));
    return true;
}

static void pump(struct job *job)
{
    struct hub_stream_status st;
    while (job->stream && feed(job))
        ;
    if (!job->stream)
        return;
    hub_stream_status(job->stream, &st);
    if (st.state != HUB_CLOSED)
        return;
    if (st.refused)
        fail(job, &st.err, false);
    else
        take_result(job, st.result);
}

static bool running(const struct job *job)
{
    return job->stream != NULL;
}

static void *pump_main(void *arg)
{
    struct jobs *j = arg;
    mutex_lock(&j->lock);
    while (!j->stopping) {
        if (!j->woken)
            cond_wait_ms(&j->wake, &j->lock, 1000);
        j->woken = false;
        struct job *job, *next;
        HASH_ITER(hh, j->all, job, next)
        {
            bool cancel = job->cancel;
            mutex_unlock(&j->lock);
            if (cancel)
                end_stream(job);
            else if (running(job))
                pump(job);
            mutex_lock(&j->lock);
            next = job->hh.next; /* only this thread removes */
            if (cancel) {
                HASH_DEL(j->all, job);
                free(job);
            }
        }
    }
    mutex_unlock(&j->lock);
    return NULL;
}

struct jobs *jobs_new(struct hub *hub, struct spool *spool, struct vic_log *log,
                      void (*finished)(void *arg, const char *disk), void *arg)
{
    struct jobs *j = xcalloc(1, sizeof *j);
    *j = (struct jobs){.hub = hub, .spool = spool, .log = log, .finished = finished, .arg = arg};
    mutex_init(&j->lock);
    cond_init(&j->wake);
    if (pthread_create(&j->thread, NULL, pump_main, j) != 0)
        abort();
    pthread_setname_np(j->thread, "jobs");
    return j;
}

void jobs_free(struct jobs *j)
{
    if (!j)
        return;
    mutex_lock(&j->lock);
    j->stopping = true;
    cond_signal(&j->wake);
    mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    struct job *job, *next;
    HASH_ITER(hh, j->all, job, next)
    {
        HASH_DEL(j->all, job);
        end_stream(job);
        free(job);
    }
    cond_fini(&j->wake);
    mutex_fini(&j->lock);
    free(j);
}

static struct job *find(struct jobs *j, const char *disk) VIC_REQUIRES(j->lock)
{
    struct job *job;
    HASH_FIND_STR(j->all, disk, job);
    return job && !job->cancel ? job : NULL;
}

bool jobs_begin(struct jobs *j, const char *disk, const char *vm, struct sv open_json,
                const char *blob, struct vic_err *err)
{
    struct job_result now;
    jobs_look(j, disk, &now);
    if (now.state != JOB_NONE)
        return true;
    struct job *job = xcalloc(1, sizeof *job);
    snprintf(job->disk, sizeof job->disk, "%s", disk);
    snprintf(job->vm, sizeof job->vm, "%s", vm);
    job->owner = j;
    job->fd = -1;
    job->result.state = JOB_RUNNING;
    if (blob && !spool_read(j->spool, blob, &job->fd, NULL, err)) {
        free(job);
        return false;
    }
    job->stream = hub_open(j->hub, vm, open_json, wake, j, err);
    if (!job->stream) {
        end_stream(job);
        free(job);
        return false;
    }
    if (!blob)
        job->eof_sent = true;
    mutex_lock(&j->lock);
    HASH_ADD_STR(j->all, disk, job);
    j->woken = true;
    cond_signal(&j->wake);
    mutex_unlock(&j->lock);
    return true;
}

void jobs_look(struct jobs *j, const char *disk, struct job_result *out)
{
    mutex_lock(&j->lock);
    const struct job *job = find(j, disk);
    *out = job ? job->result : (struct job_result){.state = JOB_NONE};
    mutex_unlock(&j->lock);
}

void jobs_forget(struct jobs *j, const char *disk)
{
    mutex_lock(&j->lock);
    struct job *job = find(j, disk);
    if (job)
        job->cancel = true;
    j->woken = true;
    cond_signal(&j->wake);
    mutex_unlock(&j->lock);
}
