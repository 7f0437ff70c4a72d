/* The log: see log.h.  Counters live in a small open-addressed table keyed by the event's name;
 * names are literals, so the pointer is kept. */
#include "log.h"

#include <stdlib.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "mem.h"
#include "sync.h"

enum { COUNTERS = 512, MAX_LINE = 8192, MAX_VALUE = 2048 };

struct vic_log {
    int fd;               /* immutable after init */
    enum log_level level; /* immutable after init */
    struct vic_mutex lock;
    struct {
        const char *ev;
        uint64_t count;
    } counters[COUNTERS] VIC_GUARDED; /* guarded: lock */
};

static const char *const levels[] = {"error", "warn", "info", "debug"};

struct vic_log *log_new(int fd, enum log_level level, const char *program)
{
    (void)program;
    struct vic_log *log = xcalloc(1, sizeof *log);
    log->fd = fd;
    log->level = level;
    mutex_init(&log->lock);
    return log;
}

void log_free(struct vic_log *log)
{
    if (!log)
        return;
    mutex_fini(&log->lock);
    free(log);
}

bool log_level_parse(struct sv text, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (sv_is(text, levels[i])) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

static bool plain(struct sv s)
{
    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '\\' || s.p[i] == '=' || s.p[i] == 127)
            return false;
    return true;
}

static void add_value(struct buf *b, struct sv s)
{
    if (s.len > MAX_VALUE)
        s.len = MAX_VALUE;
    if (plain(s)) {
        buf_add_sv(b, s);
        return;
    }
    buf_add_c(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        size_t len = sv_utf8_len(sv_sub(s, i, 4));
        if (len > 1) {
            buf_add(b, s.p + i, len);
            i += len - 1;
        } else if (c == '"' || c == '\\') {
            buf_addf(b, "\\%c", c);
        } else if (c == '\n') {
            buf_add_str(b, "\\n");
        } else if (c < ' ' || c >= 127) {
            buf_addf(b, "\\x%02x", c);
        } else {
            buf_add_c(b, (char)c);
        }
    }
    buf_add_c(b, '"');
}

static void count(struct vic_log *log, const char *ev)
{
    uint64_t h = 1469598103934665603u;
    for (const char *p = ev; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    mutex_lock(&log->lock);
    for (size_t i = 0; i < COUNTERS; i++) {
        size_t at = (h + i) % COUNTERS;
        if (!log->counters[at].ev)
            log->counters[at].ev = ev;
        if (strcmp(log->counters[at].ev, ev) == 0) {
            log->counters[at].count++;
            break;
        }
    }
    mutex_unlock(&log->lock);
}

void log_event(struct vic_log *log, enum log_level level, const char *ev, const struct log_kv *kv,
               size_t n)
{
    if (!log)
        return;
    count(log, ev);
    if (level > log->level)
        return;
    AUTO_BUF struct buf b = {.limit = MAX_LINE};
    char ts[RFC3339_SIZE];
    rfc3339(clock_wall_ns(&vic_clock_real), 3, false, ts);
    buf_addf(&b, "ts=%s lvl=%s ev=%s", ts, levels[level], ev);
    size_t whole = b.len; /* a line that grows too long loses whole pairs, never half a quote */
    for (size_t i = 0; i < n && !b.failed; i++) {
        whole = b.len;
        buf_addf(&b, " %s=", kv[i].key);
        switch (kv[i].kind) {
        case KV_STR:
            add_value(&b, kv[i].s);
            break;
        case KV_INT:
            buf_add_i64(&b, kv[i].i);
            break;
        case KV_UINT:
            buf_add_u64(&b, kv[i].u);
            break;
        }
    }
    b.limit = 0;
    if (b.failed) {
        b.len = whole;
        b.failed = false;
        buf_add_str(&b, " truncated=1");
    }
    buf_add_c(&b, '\n');
    /* A log that cannot be written must not stop the program. */
    ssize_t done = write(log->fd, b.data, b.len);
    (void)done;
}

void log_counters(struct vic_log *log, void (*each)(void *arg, const char *ev, uint64_t count),
                  void *arg)
{
    if (!log)
        return;
    for (size_t i = 0; i < COUNTERS; i++) {
        mutex_lock(&log->lock);
        const char *ev = log->counters[i].ev;
        uint64_t n = log->counters[i].count;
        mutex_unlock(&log->lock);
        if (ev)
            each(arg, ev, n);
    }
}
