/* docker exec: further processes in the container.
 *
 * An exec joins the container's namespaces and cgroup.  Its stream opens when its program has been
 * exec'd and closes with its end, after its output.  When the stream is gone (the client left, the
 * endpoint is away) the process goes on, its output thrown away, as under Docker. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#include "run_state.h"

enum { EXECS_MAX = 1024 };

struct exec {
    struct run *r;
    struct stream *s; /* NULL: nobody listens */
    struct arena arena;
    struct spec_process spec;
    char id[65];
    struct process process;
    bool opened;
    struct source out, err;
    struct sink in;
    LIST_ENTRY(exec) link;
};

static void exec_free(struct exec *e)
{
    struct run *r = e->r;
    if (e->process.tty && !source_ended(&e->out))
        e->process.out = -1;
    source_stop(&e->out);
    source_stop(&e->err);
    sink_fini(&e->in);
    process_close(&e->process);
    LIST_REMOVE(e, link);
    arena_fini(&e->arena);
    free(e);
    run_advance(r);
}

static void close_stream(struct exec *e)
{
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    int status = e->process.status;
    json_open(&w, NULL, '{');
    json_add_str(&w, "kind", WIFSIGNALED(status) ? "signaled" : "exited");
    json_add_i64(&w, "value", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    json_close(&w, '}');
    stream_close(e->s, buf_sv(&json));
    e->s = NULL;
}

/* --- output --- */

static size_t out_room(void *arg, unsigned channel)
{
    struct exec *e = arg;
    return e->s ? stream_room(e->s, channel) : SOURCE_CHUNK;
}

static void out_data(void *arg, unsigned channel, struct sv bytes)
{
    struct exec *e = arg;
    if (e->s)
        stream_send(e->s, channel, bytes);
}

static void advance(struct exec *e)
{
    if (!process_done(&e->process))
        return;
    if (e->process.state == PROCESS_FAILED) {
        if (e->s)
            stream_refuse(e->s, &e->process.error, e->process.stage, e->process.launch_exit);
        e->s = NULL;
        exec_free(e);
        return;
    }
    source_finish(&e->out);
    source_finish(&e->err);
    if (!source_ended(&e->out) || !source_ended(&e->err))
        return;
    if (e->s)
        close_stream(e);
    exec_free(e);
}

static void out_ended(void *arg, unsigned channel)
{
    struct exec *e = arg;
    if (e->process.tty)
        e->process.out = -1; /* closed with the source */
    if (e->s)
        stream_send_eof(e->s, channel);
    advance(e);
}

static void wrote(void *arg, void *owner, size_t n)
{
    struct exec *e = arg;
    (void)owner;
    if (e->s)
        stream_grant(e->s, n);
}

static void start_io(struct exec *e)
{
    struct poll_loop *loop = &e->r->a->loop;
    sink_open(&e->in, TAKE_FD(e->process.in));
    source_start(&e->out, loop, e->process.tty ? e->process.out : TAKE_FD(e->process.out));
    source_start(&e->err, loop, TAKE_FD(e->process.err));
}

static void on_process(void *arg)
{
    struct exec *e = arg;
    if (e->process.state == PROCESS_RUNNING && !e->opened) {
        e->opened = true;
        if (e->s)
            stream_opened(e->s);
        start_io(e);
    }
    advance(e);
}

/* --- the stream --- */

static void on_data(void *owner, struct sv bytes)
{
    struct exec *e = owner;
    sink_put(&e->in, e, bytes);
}

static void on_eof(void *owner)
{
    struct exec *e = owner;
    if (!e->process.tty)
        sink_close(&e->in);
}

static void on_resize(void *owner, unsigned rows, unsigned cols)
{
    struct exec *e = owner;
    process_resize(&e->process, rows, cols);
}

static void on_room(void *owner)
{
    struct exec *e = owner;
    source_resume(&e->out);
    source_resume(&e->err);
}

static void on_gone(void *owner)
{
    struct exec *e = owner;
    e->s = NULL;
    if (!e->process.tty)
        sink_close(&e->in);
    on_room(e);
}

static struct exec *exec_new(struct run *r)
{
    struct exec *e = xcalloc(1, sizeof *e);
    e->r = r;
    e->out = e->err =
        (struct source){.room = out_room, .data = out_data, .ended = out_ended, .arg = e, .fd = -1};
    e->out.channel = 1;
    e->err.channel = 2;
    e->in = (struct sink){.wrote = wrote, .arg = e};
    sink_init(&e->in, &r->a->loop);
    process_init(&e->process, &r->a->loop);
    LIST_INSERT_HEAD(&r->execs, e, link);
    return e;
}

static bool start(struct exec *e, struct vic_err *err)
{
    struct run *r = e->r;
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, r->process.child.pid, 0);
    if (pidfd < 0)
        return vic_fail_errno(err, "find the container's namespaces");
    struct process_options o = {.spec = &e->spec,
                                .cgroup_fd = r->cgroup_fd,
                                .net_fd = r->a->net.first_fd,
                                .join_fd = pidfd};
    return process_start(&e->process, &r->a->children, &o, on_process, e, err);
}

static unsigned count(const struct run *r)
{
    unsigned n = 0;
    struct exec *e;
    LIST_FOREACH (e, &r->execs, link)
        n++;
    return n;
}

bool run_open_exec(void *arg, struct stream *s, struct json_val open, const char **stage, int *exit,
                   struct vic_err *err)
{
    static const struct stream_ops ops = {
        .data = on_data, .eof = on_eof, .resize = on_resize, .room = on_room, .gone = on_gone};
    struct agent *a = arg;
    *stage = "spec";
    *exit = 0;
    if (!a->run || a->run->phase != RUN_RUNNING || a->run->process.exited)
        return vic_fail(err, VIC_CONFLICT, 0, "the container is not running");
    if (count(a->run) >= EXECS_MAX)
        return vic_fail(err, VIC_BUSY, 0, "more than %d execs", EXECS_MAX);
    struct exec *e = exec_new(a->run);
    snprintf(e->id, sizeof e->id, "%.64s", json_str(json_get(open, "id"), ""));
    if (!spec_read_exec(open, &a->run->spec, &e->arena, &e->spec, err) || !start(e, err)) {
        exec_free(e);
        return false;
    }
    e->s = s;
    s->ops = &ops;
    s->owner = e;
    return true;
}

void execs_signal(struct run *r, const char *id, int signum)
{
    struct exec *e;
    LIST_FOREACH (e, &r->execs, link) {
        if (strcmp(e->id, id) == 0 && !e->process.exited)
            kill(e->process.child.pid, signum);
    }
}
