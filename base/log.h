/* The log: one line an event, key=value, to stderr.
 *
 *   ts=2026-11-24T13:15:07.123Z lvl=info ev=vm.poweron container=3f2a vm=vm-42 dur_ms=812
 *
 * The event's name first, ids always with the same key, quoting in one place.  error = someone must
 * act; warn = we coped; info = state changed; debug = the rest.  Every event name counts up a
 * counter of the same name (log_counters), so that logs and metrics agree.  A 'struct vic_secret'
 * has no KV maker: a secret cannot be logged by accident.
 * Threads: any; a line is one write(2). */
#ifndef VIC_BASE_LOG_H
#define VIC_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sv.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct vic_log; /* NULL is allowed everywhere and logs nothing */

struct vic_log *log_new(int fd, enum log_level level, const char *program);
void log_free(struct vic_log *log);
bool log_level_parse(struct sv text, enum log_level *out); /* "error" ... "debug" */

struct log_kv {
    const char *key;
    enum { KV_STR, KV_INT, KV_UINT } kind;
    struct sv s;
    int64_t i;
    uint64_t u;
};

#define KV_S(k, v)  ((struct log_kv){.key = (k), .kind = KV_STR, .s = sv_of(v)})
#define KV_SV(k, v) ((struct log_kv){.key = (k), .kind = KV_STR, .s = (v)})
#define KV_I(k, v)  ((struct log_kv){.key = (k), .kind = KV_INT, .i = (int64_t)(v)})
#define KV_U(k, v)  ((struct log_kv){.key = (k), .kind = KV_UINT, .u = (uint64_t)(v)})
/* code= and err= of a struct vic_err *. */
#define KV_ERR(e) KV_S("code", vic_code_name((e)->code)), KV_S("err", (e)->msg)

void log_event(struct vic_log *log, enum log_level level, const char *ev, const struct log_kv *kv,
               size_t count);

#define LOG_EVENT_(log, level, ev, ...)                                                            \
    log_event((log), (level), (ev), (const struct log_kv[]){{0}, ##__VA_ARGS__} + 1,               \
              sizeof((const struct log_kv[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_kv) - 1)
#define log_error(log, ev, ...) LOG_EVENT_(log, LOG_ERROR, ev, ##__VA_ARGS__)
#define log_warn(log, ev, ...)  LOG_EVENT_(log, LOG_WARN, ev, ##__VA_ARGS__)
#define log_info(log, ev, ...)  LOG_EVENT_(log, LOG_INFO, ev, ##__VA_ARGS__)
#define log_debug(log, ev, ...) LOG_EVENT_(log, LOG_DEBUG, ev, ##__VA_ARGS__)

/* Calls 'each' for every event seen so far with its count. */
void log_counters(struct vic_log *log, void (*each)(void *arg, const char *ev, uint64_t count),
                  void *arg);

#endif
