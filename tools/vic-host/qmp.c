/* The QMP client: see qmp.h.
 *
 * Bytes go: socket -> 'in' -> one line -> qmp_parse -> deliver.  'in' and the socket's reading side
 * belong to one thread at a time: the caller's while detached, the loop's once attached; everything
 * a caller and the loop share is under 'lock'.  A reply is kept as text and parsed again in the
 * caller's arena: replies are short, and so no arena is shared between threads. */
#include "qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/sync.h"

enum { MAX_DRAIN = 256 };

struct qmp {
    int fd;
    qmp_event on_event;
    void *arg;
    struct loop_watch *watch; /* loop thread */
    struct buf in;            /* the reading thread's */
    struct vic_mutex lock;
    struct vic_cond changed;
    bool attached VIC_GUARDED;
    bool closed VIC_GUARDED;
    bool greeted VIC_GUARDED;
    uint64_t id VIC_GUARDED;      /* of the call under way or the last one */
    bool replied VIC_GUARDED;     /* 'reply' is its answer */
    struct buf reply VIC_GUARDED; /* text of the line */
    char event[40] VIC_GUARDED;   /* expected */
    char device[80] VIC_GUARDED;  /* with this data.device */
    bool happened VIC_GUARDED;
};

/* ---- parsing ---- */

static bool parse_error(struct json_val v, struct qmp_message *out, struct vic_err *err)
{
    out->kind = QMP_ERROR;
    out->name = json_str(json_get(v, "class"), NULL);
    out->text = json_str(json_get(v, "desc"), NULL);
    if (!out->name || !out->text)
        return vic_fail(err, VIC_PROTOCOL, 0, "QMP error without class or desc");
    return true;
}

bool qmp_parse(struct sv line, struct arena *a, struct qmp_message *out, struct vic_err *err)
{
    struct json_val v, part;
    struct vic_err inner;
    if (!json_parse(line, QMP_MAX_TOKENS, a, &v, &inner))
        return vic_fail(err, VIC_PROTOCOL, 0, "QMP line: %s", inner.msg);
    if (json_type(v) != JSON_OBJECT)
        return vic_fail(err, VIC_PROTOCOL, 0, "QMP line is not an object");
    *out = (struct qmp_message){.kind = QMP_RETURN};
    json_read_u64(json_get(v, "id"), &out->id);
    if ((part = json_get(v, "error")).doc)
        return parse_error(part, out, err);
    if ((out->body = json_get(v, "return")).doc)
        return true;
    out->kind = QMP_EVENT;
    out->body = json_get(v, "data");
    if ((part = json_get(v, "event")).doc) {
        if (!json_read_str(part, &out->name))
            return vic_fail(err, VIC_PROTOCOL, 0, "QMP event without a name");
        return true;
    }
    out->kind = QMP_GREETING;
    if ((out->body = json_get(v, "QMP")).doc)
        return true;
    return vic_fail(err, VIC_PROTOCOL, 0, "QMP line is none of return, error, event, greeting");
}

/* ---- what came ---- */

static void hang_up(struct qmp *q)
{
    mutex_lock(&q->lock);
    q->closed = true;
    cond_broadcast(&q->changed);
    mutex_unlock(&q->lock);
}

static void deliver_event(struct qmp *q, const struct qmp_message *m)
{
    const char *device = json_str(json_get(m->body, "device"), "");
    mutex_lock(&q->lock);
    if (strcmp(q->event, m->name) == 0 && strcmp(q->device, device) == 0) {
        q->happened = true;
        cond_broadcast(&q->changed);
    }
    mutex_unlock(&q->lock);
    q->on_event(q->arg, m->name, m->body);
}

static void deliver_reply(struct qmp *q, const struct qmp_message *m, struct sv line)
{
    mutex_lock(&q->lock);
    if (m->kind == QMP_GREETING)
        q->greeted = true;
    else if (m->id == q->id && !q->replied) { /* else: one that its caller gave up */
        buf_reset(&q->reply);
        buf_add_sv(&q->reply, line);
        q->replied = true;
    }
    cond_broadcast(&q->changed);
    mutex_unlock(&q->lock);
}

static bool deliver(struct qmp *q, struct sv line)
{
    AUTO_ARENA struct arena a = {0};
    struct qmp_message m;
    if (!qmp_parse(line, &a, &m, NULL))
        return false;
    if (m.kind == QMP_EVENT)
        deliver_event(q, &m);
    else
        deliver_reply(q, &m, line);
    return true;
}

/* Reads what is there, once, and delivers whole lines.  False: the connection is of no more use. */
static bool take_input(struct qmp *q)
{
    char chunk[16384];
    ssize_t n = recv(q->fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    buf_add(&q->in, chunk, (size_t)n);
    struct sv rest = buf_sv(&q->in);
    for (ptrdiff_t end; (end = sv_find(rest, '\n')) >= 0;) {
        struct sv line = sv_trim(sv_cut(&rest, '\n'));
        if (line.len && !deliver(q, line))
            return false;
    }
    buf_consume(&q->in, q->in.len - rest.len);
    return !q->in.failed && q->in.len <= QMP_MAX_LINE;
}

static void on_readable(void *arg)
{
    struct qmp *q = arg;
    if (take_input(q))
        return;
    loop_watch_free(TAKE(q->watch));
    hang_up(q);
}

/* ---- waiting ---- */

static int left_ms(int64_t deadline)
{
    int64_t left = deadline - clock_mono_ms(&vic_clock_real);
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* Waits once, until something may have changed.  Called and returns with the lock held. */
static void wait_once(struct qmp *q, int left) VIC_REQUIRES(q->lock)
{
    if (q->attached) {
        cond_wait_ms(&q->changed, &q->lock, left);
        return;
    }
    mutex_unlock(&q->lock);
    struct pollfd p = {.fd = q->fd, .events = POLLIN};
    bool fine = poll(&p, 1, left) <= 0 || take_input(q);
    if (!fine)
        hang_up(q);
    mutex_lock(&q->lock);
}

/* Waits until '*flag' (guarded) is set. */
static bool wait_for(struct qmp *q, const bool *flag, int64_t timeout_ms, const char *what,
                     struct vic_err *err)
{
    int64_t deadline = clock_mono_ms(&vic_clock_real) + timeout_ms;
    int left = 1;
    mutex_lock(&q->lock);
    while (!*flag && !q->closed && (left = left_ms(deadline)) > 0)
        wait_once(q, left);
    bool done = *flag, closed = q->closed;
    mutex_unlock(&q->lock);
    if (done)
        return true;
    if (closed)
        return vic_fail(err, VIC_UNAVAILABLE, 0, "%s: QEMU closed its control socket", what);
    return vic_fail(err, VIC_TIMEOUT, 0, "%s: no answer from QEMU within %lld ms", what,
                    (long long)timeout_ms);
}

/* ---- calls ---- */

/* One sendmsg; the descriptor goes with the first byte. */
static ssize_t send_some(struct qmp *q, struct sv text, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    union {
        const char *in;
        void *out;
    } base = {text.p};
    struct iovec part = {.iov_base = base.out, .iov_len = text.len};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = &control;
        m.msg_controllen = sizeof control.space;
        control.head = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    }
    return sendmsg(q->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool send_all(struct qmp *q, struct sv text, int fd, int64_t deadline, struct vic_err *err)
{
    while (text.len) {
        ssize_t n = send_some(q, text, fd);
        if (n > 0) {
            text = sv_sub(text, (size_t)n, text.len);
            fd = -1;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return vic_fail(err, VIC_UNAVAILABLE, errno, "write to QEMU's control socket");
        struct pollfd p = {.fd = q->fd, .events = POLLOUT};
        if (poll(&p, 1, left_ms(deadline)) == 0)
            return vic_fail(err, VIC_TIMEOUT, 0, "QEMU does not read its control socket");
    }
    return true;
}

static uint64_t begin_call(struct qmp *q)
{
    mutex_lock(&q->lock);
    uint64_t id = ++q->id;
    q->replied = false;
    mutex_unlock(&q->lock);
    return id;
}

/* Parses the reply that came. */
static bool end_call(struct qmp *q, const char *command, struct arena *a, struct json_val *out,
                     struct vic_err *err)
{
    mutex_lock(&q->lock);
    struct sv line = sv_of(arena_sv(a, buf_sv(&q->reply)));
    mutex_unlock(&q->lock);
    struct qmp_message m;
    if (!qmp_parse(line, a, &m, err))
        return vic_wrap(err, "%s", command);
    if (m.kind == QMP_ERROR)
        return vic_fail(err, strcmp(m.name, "DeviceNotFound") == 0 ? VIC_NOT_FOUND : VIC_IO, 0,
                        "%s: %s", command, m.text);
    if (out)
        *out = m.body;
    return true;
}

bool qmp_call(struct qmp *q, const char *command, struct sv arguments, int fd, int64_t timeout_ms,
              struct arena *a, struct json_val *out, struct vic_err *err)
{
    AUTO_BUF struct buf text = {0};
    struct json_writer w = json_writer(&text);
    json_open(&w, NULL, '{');
    json_add_str(&w, "execute", command);
    if (arguments.p)
        json_add_raw(&w, "arguments", arguments);
    json_add_u64(&w, "id", begin_call(q));
    json_close(&w, '}');
    buf_add_c(&text, '\n');
    if (text.failed)
        return vic_fail(err, VIC_TOO_LARGE, 0, "%s: arguments too large", command);
    int64_t deadline = clock_mono_ms(&vic_clock_real) + timeout_ms;
    return send_all(q, buf_sv(&text), fd, deadline, err) &&
           wait_for(q, &q->replied, timeout_ms, command, err) && end_call(q, command, a, out, err);
}

void qmp_expect(struct qmp *q, const char *event, const char *device)
{
    mutex_lock(&q->lock);
    snprintf(q->event, sizeof q->event, "%s", event);
    snprintf(q->device, sizeof q->device, "%s", device);
    q->happened = false;
    mutex_unlock(&q->lock);
}

bool qmp_await(struct qmp *q, int64_t timeout_ms, struct vic_err *err)
{
    return wait_for(q, &q->happened, timeout_ms, q->event, err);
}

bool qmp_await_close(struct qmp *q, int64_t timeout_ms, struct vic_err *err)
{
    return wait_for(q, &q->closed, timeout_ms, "end of QEMU", err);
}

/* ---- life ---- */

struct qmp *qmp_open(int fd, qmp_event on_event, void *arg, int64_t timeout_ms, struct vic_err *err)
{
    struct qmp *q = xcalloc(1, sizeof *q);
    q->fd = fd;
    q->on_event = on_event;
    q->arg = arg;
    mutex_init(&q->lock);
    cond_init(&q->changed);
    AUTO_ARENA struct arena a = {0};
    if (wait_for(q, &q->greeted, timeout_ms, "QMP greeting", err) &&
        qmp_call(q, "qmp_capabilities", (struct sv){0}, -1, timeout_ms, &a, NULL, err))
        return q;
    qmp_free(q);
    return NULL;
}

void qmp_free(struct qmp *q)
{
    if (!q)
        return;
    close(q->fd);
    buf_fini(&q->in);
    buf_fini(&q->reply);
    cond_fini(&q->changed);
    mutex_fini(&q->lock);
    free(q);
}

bool qmp_attach(struct qmp *q, struct loop *l, struct vic_err *err)
{
    q->watch = loop_watch_new(l, q->fd, on_readable, q, err);
    if (!q->watch)
        return false;
    mutex_lock(&q->lock);
    q->attached = true;
    mutex_unlock(&q->lock);
    return true;
}

void qmp_drain(struct qmp *q)
{
    char c;
    for (int rounds = 0; rounds < MAX_DRAIN && recv(q->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
         rounds++)
        if (!take_input(q))
            return;
}

void qmp_detach(struct qmp *q)
{
    if (q->watch)
        loop_watch_free(TAKE(q->watch));
    hang_up(q);
}
