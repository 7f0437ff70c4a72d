/* The run's input and output.
 *
 * Output: the pipes (or the tty) are read as long as the log has room, and each chunk becomes a log
 * entry.  Input: any number of streams of kind "stdin" feed one sink; a stream gets its credit back
 * when its bytes have reached the process, so one that writes faster than the process reads holds
 * up itself only.  With stdin_once the first end of a stream is the end of stdin. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

#include "run_state.h"

struct run_stdin {
    struct run *r;
    struct stream *s;
    bool eof;
    LIST_ENTRY(run_stdin) link;
};

/* --- output --- */

static size_t out_room(void *arg, unsigned channel)
{
    struct run *r = arg;
    (void)channel;
    return logs_room(&r->logs);
}

static void out_data(void *arg, unsigned channel, struct sv bytes)
{
    struct run *r = arg;
    bool partial = bytes.p[bytes.len - 1] != '\n';
    logs_add(&r->logs, channel, bytes, partial, clock_wall_ns(&vic_clock_real));
}

static void out_ended(void *arg, unsigned channel)
{
    struct run *r = arg;
    (void)channel;
    if (r->process.tty)
        r->process.out = -1; /* closed with the source */
    run_advance(r);
}

/* --- streams of kind "stdin" --- */

static void free_stdin(struct run_stdin *in)
{
    sink_forget(&in->r->in, in);
    LIST_REMOVE(in, link);
    free(in);
}

/* CLOSE once all of the stream's bytes are written. */
static void close_if_done(struct run_stdin *in)
{
    if (!in->eof || sink_has(&in->r->in, in))
        return;
    stream_close(in->s, SV("{\"code\":0}"));
    free_stdin(in);
}

static void wrote(void *arg, void *owner, size_t n)
{
    (void)arg;
    struct run_stdin *in = owner;
    stream_grant(in->s, n);
    close_if_done(in);
}

void run_io_init(struct run *r)
{
    r->in = (struct sink){.wrote = wrote, .arg = r};
    sink_init(&r->in, &r->a->loop);
    r->out = r->err =
        (struct source){.room = out_room, .data = out_data, .ended = out_ended, .arg = r, .fd = -1};
    r->out.channel = 1;
    r->err.channel = 2;
}

void run_io_start(struct run *r)
{
    struct process *p = &r->process;
    sink_open(&r->in, TAKE_FD(p->in)); /* -1 without open_stdin: what comes is swallowed */
    source_start(&r->out, &r->a->loop, p->tty ? p->out : TAKE_FD(p->out));
    source_start(&r->err, &r->a->loop, TAKE_FD(p->err));
}

bool run_io_drained(const struct run *r)
{
    return source_ended(&r->out) && source_ended(&r->err);
}

void run_io_resume(struct run *r)
{
    if (logs_room(&r->logs) == 0)
        return;
    source_resume(&r->out);
    source_resume(&r->err);
}

static void on_data(void *owner, struct sv bytes)
{
    struct run_stdin *in = owner;
    sink_put(&in->r->in, in, bytes);
}

static void on_eof(void *owner)
{
    struct run_stdin *in = owner;
    in->eof = true;
    /* A tty stays open: its user ends it with a character, as under Docker. */
    if (in->r->spec.stdin_once && !in->r->spec.process.tty)
        sink_close(&in->r->in);
    close_if_done(in);
}

static void on_resize(void *owner, unsigned rows, unsigned cols)
{
    struct run_stdin *in = owner;
    process_resize(&in->r->process, rows, cols);
}

static void on_gone(void *owner)
{
    free_stdin(owner);
}

bool run_open_stdin(void *arg, struct stream *s, struct json_val open, const char **stage,
                    int *exit, struct vic_err *err)
{
    static const struct stream_ops ops = {
        .data = on_data, .eof = on_eof, .resize = on_resize, .gone = on_gone};
    struct agent *a = arg;
    int64_t rows = json_i64(json_get(open, "rows"), 0), cols = json_i64(json_get(open, "cols"), 0);
    (void)stage;
    (void)exit;
    if (!a->run || a->run->phase == RUN_EXITED)
        return vic_fail(err, VIC_CONFLICT, 0, "the container is not running");
    if (rows > 0 && rows <= UINT16_MAX && cols > 0 && cols <= UINT16_MAX)
        process_resize(&a->run->process, (unsigned)rows, (unsigned)cols);
    struct run_stdin *in = xcalloc(1, sizeof *in);
    *in = (struct run_stdin){.r = a->run, .s = s};
    LIST_INSERT_HEAD(&a->run->stdins, in, link);
    s->ops = &ops;
    s->owner = in;
    stream_opened(s);
    return true;
}

void run_io_stop(struct run *r)
{
    while (!LIST_EMPTY(&r->stdins)) {
        struct run_stdin *in = LIST_FIRST(&r->stdins);
        stream_close(in->s, SV("{\"code\":0}"));
        free_stdin(in);
    }
    sink_fini(&r->in);
    source_stop(&r->out);
    source_stop(&r->err);
}
