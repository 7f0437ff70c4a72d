/* The event loop (libuv inside).
 *
 * A loop is one thread that owns sockets, timers and child processes and never blocks.  Everything
 * named 'loop thread only' is called from callbacks on that thread; loop_post is the one way in
 * from others. */
#ifndef VIC_BASE_LOOP_H
#define VIC_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct loop;

struct loop *loop_new(const char *name, struct vic_err *err);
/* Starts the loop's own thread.  Or run it on the calling one with loop_run. */
VIC_CHECK bool loop_start(struct loop *l, struct vic_err *err);
void loop_run(struct loop *l);  /* until loop_stop */
void loop_stop(struct loop *l); /* any thread; posted functions queued before it still run */
/* After loop_stop: joins the thread, closes what is still open, frees. */
void loop_free(struct loop *l);
/* Makes the caller the loop's thread if the loop is not running, or has been stopped (then its
 * thread is waited for).  False: it runs. */
bool loop_adopt(struct loop *l);
bool loop_is_thread(const struct loop *l); /* is the caller on the loop's thread? */

/* Runs fn(arg) on the loop's thread, in the order posted.  Any thread.  False once the loop has
 * stopped (fn will not run). */
bool loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* Timers: loop thread only.  A timer fires once; set it again to repeat.  fn may free it. */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg);
void loop_timer_set(struct loop_timer *t, int64_t after_ms); /* replaces an earlier setting */
void loop_timer_stop(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL is fine */

/* Signals: loop thread only.  Blocks nothing; the handler runs on the loop. */
VIC_CHECK bool loop_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg,
                           struct vic_err *err);

/* Watches a descriptor for readability: loop thread only.  The caller keeps owning 'fd' and must
 * free the watch before it closes it. */
struct loop_watch;
struct loop_watch *loop_watch_new(struct loop *l, int fd, void (*fn)(void *arg), void *arg,
                                  struct vic_err *err);
void loop_watch_free(struct loop_watch *w);

void *loop_uv(struct loop *l); /* base/ only: the uv_loop_t */

#endif
