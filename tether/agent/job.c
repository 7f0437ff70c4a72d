/* Jobs, the agent's side: see job.h.  The stream's bytes go through a pipe into the child, its
 * answer comes back through another and is the stream's CLOSE.  A child that dies without an answer
 * (a fault in its parsing) is an error of this job alone. */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#include "files.h"
#include "pump.h"
#include "worker.h"

enum { MAX_ANSWER = 16384, PIPE_BYTES = 1 << 20 };

struct job {
    struct agent *a;
    struct stream *s; /* NULL: the hub has left; the job ends by itself */
    struct child child;
    bool exited;
    int status;
    struct sink in;
    struct source answer;
    struct buf json;
};

static void close_stream(struct job *j)
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    if (j->json.len > 0 && !j->json.failed) {
        stream_close(j->s, buf_sv(&j->json));
        return;
    }
    json_open(&w, NULL, '{');
    json_add_bool(&w, "ok", false);
    json_add_str(&w, "code", vic_code_name(VIC_INTERNAL));
    json_add_str(&w, "error",
                 WIFSIGNALED(j->status) ? "the job crashed" : "the job gave no answer");
    json_close(&w, '}');
    stream_close(j->s, buf_sv(&json));
}

static void advance(struct job *j)
{
    if (!j->exited || !source_ended(&j->answer))
        return;
    if (j->s)
        close_stream(j);
    sink_fini(&j->in);
    buf_fini(&j->json);
    free(j);
}

static void on_child(void *arg, int status)
{
    struct job *j = arg;
    j->exited = true;
    j->status = status;
    advance(j);
}

static size_t answer_room(void *arg, unsigned channel)
{
    (void)arg;
    (void)channel;
    return SOURCE_CHUNK;
}

static void answer_data(void *arg, unsigned channel, struct sv bytes)
{
    struct job *j = arg;
    (void)channel;
    buf_add_sv(&j->json, bytes);
}

static void answer_ended(void *arg, unsigned channel)
{
    (void)channel;
    advance(arg);
}

static void wrote(void *arg, void *owner, size_t n)
{
    struct job *j = arg;
    (void)owner;
    if (j->s)
        stream_grant(j->s, n);
}

static void on_data(void *owner, struct sv bytes)
{
    struct job *j = owner;
    sink_put(&j->in, j, bytes);
}

static void on_eof(void *owner)
{
    struct job *j = owner;
    sink_close(&j->in);
}

/* Cancelled, or the connection is lost: the child must not take half a layer for a whole one. */
static void on_gone(void *owner)
{
    struct job *j = owner;
    j->s = NULL;
    if (!j->exited)
        kill(j->child.pid, SIGKILL);
    sink_close(&j->in);
}

/* A copy of another job's pipe would keep that job's input from ending. */
static void close_others(int a, int b)
{
    unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);
    if (low > 3)
        close_range(3, low - 1, 0);
    if (high > low + 1)
        close_range(low + 1, high - 1, 0);
    close_range(high + 1, ~0U, 0);
}

_Noreturn static void child_main(struct json_val spec, int in, int out)
{
    AUTO_BUF struct buf json = {0};
    sigset_t none;
    close_others(in, out);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        _exit(1);
    worker_do(spec, in, &json);
    _exit(fd_write_all(out, json.data, json.len, NULL) ? 0 : 1);
}

static bool make_pipes(int in[2], int out[2], struct vic_err *err)
{
    in[0] = in[1] = out[0] = out[1] = -1;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return vic_fail_errno(err, "pipes for a job");
    (void)fcntl(in[1], F_SETPIPE_SZ, PIPE_BYTES);
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    return true;
}

static void start_io(struct job *j, int in, int out)
{
    struct poll_loop *loop = &j->a->loop;
    j->json.limit = MAX_ANSWER;
    j->in = (struct sink){.wrote = wrote, .arg = j};
    sink_init(&j->in, loop);
    sink_open(&j->in, in);
    j->answer =
        (struct source){.room = answer_room, .data = answer_data, .ended = answer_ended, .arg = j};
    source_start(&j->answer, loop, out);
}

bool job_open(void *arg, struct stream *s, struct json_val open, const char **stage, int *exit,
              struct vic_err *err)
{
    static const struct stream_ops ops = {.data = on_data, .eof = on_eof, .gone = on_gone};
    struct agent *a = arg;
    (void)exit;
    *stage = "job";
    if (a->role != ROLE_WORKER)
        return vic_fail(err, VIC_CONFLICT, 0, "this guest is no worker");
    AUTO_CLOSE int in_child = -1;
    AUTO_CLOSE int out_child = -1;
    int in[2], out[2];
    bool ok = make_pipes(in, out, err);
    in_child = in[0];
    out_child = out[1];
    pid_t pid = ok ? fork() : -1;
    if (pid == 0)
        child_main(open, in[0], out[1]);
    if (pid < 0) {
        close(in[1]);
        close(out[0]);
        return ok ? vic_fail_errno(err, "start a job") : false;
    }
    struct job *j = xcalloc(1, sizeof *j);
    *j = (struct job){.a = a, .s = s, .child = {.exited = on_child, .arg = j}};
    children_add(&a->children, &j->child, pid);
    start_io(j, in[1], out[0]);
    s->ops = &ops;
    s->owner = j;
    stream_opened(s);
    return true;
}
