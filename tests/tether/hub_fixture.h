/* A hub on its own loop for tests: listens on 127.0.0.1 and ::1, knows every vm whose id begins
 * with "vm", records what the callbacks brought. */
#ifndef VIC_TESTS_HUB_FIXTURE_H
#define VIC_TESTS_HUB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/sync.h"
#include "tether/hub.h"

#include "guest.h"

struct fx {
    struct loop *loop;
    struct hub *hub;
    char address[64];
    struct hub_options o; /* may be changed before fx_start */
    struct vic_mutex lock;
    struct vic_cond wake;
    /* guarded: lock */
    unsigned guest_calls, wakes;
    uint64_t log_count, log_bytes, log_seq, log_stored;
    char log_last[64], log_container[65], log_boot[40];
    bool ack_logs;
    bool stop_first; /* fx_stop: the loop before the hub */
};

void fx_init(struct fx *x);
void fx_start(struct fx *x);
void fx_stop(struct fx *x);
/* A guest that is connected and said its HELLO (NULL = idle). */
void fx_guest(struct fx *x, struct tg *g, const char *vm, const char *hello);
/* Gives it a run: CONFIG and the guest's CONFIG_ACK, STATUS running. */
void fx_run(struct fx *x, struct tg *g, const char *container, uint64_t gen);
/* Waits until 'is' holds for what the hub knows of 'vm'; fails the test after 20 s. */
void fx_until(struct fx *x, const char *vm, bool (*is)(const struct hub_guest *g));
void fx_until_logs(struct fx *x, uint64_t count);
struct hub_guest fx_said(struct fx *x, const char *vm);

bool fx_connected(const struct hub_guest *g);
bool fx_gone(const struct hub_guest *g);
bool fx_running(const struct hub_guest *g);
bool fx_exited(const struct hub_guest *g);

/* A stream with a wake that broadcasts; waits for conditions on its status. */
struct fx_stream {
    struct fx *x;
    struct hub_stream *s;
    struct buf out[3];
};
void fx_open(struct fx *x, struct fx_stream *s, const char *vm, const char *json);
void fx_stream_until(struct fx_stream *s, bool (*is)(const struct hub_stream_status *st));
bool fx_is_open(const struct hub_stream_status *st);
bool fx_is_closed(const struct hub_stream_status *st);
/* Sends all of 'bytes' and the end, reading the while; returns when the guest has closed. */
void fx_exchange(struct fx_stream *s, struct sv bytes);
void fx_stream_end(struct fx_stream *s);

#define OK(call, err)                                                                              \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s", #call, (err)->msg);                                                 \
    } while (0)

#endif
