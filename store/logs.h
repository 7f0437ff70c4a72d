/* Container logs: segments of entries, beside the store and outside of it.
 *
 * A log is a folder DIR/<container id>/ of segments (000001.log ...), each a run of entries:
 *   u32 length, u32 CRC-32C of what follows, u64 seq, i64 unix ns, u8 stream, u8 flags, u16 boot
 *   index, bytes.
 * A torn tail is cut at open.  One writer thread appends what all guests send, wakes the watchers
 * at once (attach is a reader of the log, so latency counts), syncs in batches (at most 50 ms or 1
 * MiB later) and then tells 'stored': the guest's LOG_ACK.  (boot, seq) that is stored already is
 * dropped, so a guest may send again.
 *
 * Rotation: max_bytes and max_files are Docker's max-size and max-file: at most their product is
 * kept, and at least that less a quarter of max_bytes (the size of a segment).  Readers that fall
 * behind a removed segment go on at the oldest one and are told how many bytes were lost.  A full
 * disk drops entries and puts one marker entry in their place once there is room: never an error to
 * the guest, never the store's space.
 *
 * Threads: any.  A reader has one user at a time. */
#ifndef VIC_STORE_LOGS_H
#define VIC_STORE_LOGS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"

struct logs;

struct logs_options {
    const char *dir;
    struct vic_log *log;
    /* On the writer thread: every entry of this container's boot up to 'seq' is synced. */
    void (*stored)(void *arg, const char *container, const char *boot, uint64_t seq);
    void *arg;
};
struct logs *logs_open(const struct logs_options *o, struct vic_err *err);
void logs_close(struct logs *l); /* syncs; readers and watches must have been freed */

enum { LOGS_PARTIAL = 1, LOGS_DROPPED = 2 };
struct logs_entry {
    const char *boot;
    uint64_t seq;
    int64_t time_ns;
    unsigned stream; /* 1 stdout, 2 stderr */
    unsigned flags;
    struct sv bytes;
};
/* Limits of one container's log; 0 = none.  Applies from the next append. */
void logs_limit(struct logs *l, const char *container, uint64_t max_bytes, unsigned max_files);
/* Queues a copy; the caller bounds what is queued by the guest's window.  An id that is not
 * letters, digits, '-', '_' (64 at most), a boot id over 39 characters or more than 1 MiB is
 * refused and logged. */
void logs_append(struct logs *l, const char *container, const struct logs_entry *e);
/* Newest (contiguous) seq stored for this boot; 0 = none. */
uint64_t logs_stored(struct logs *l, const char *container, const char *boot);
/* Waits until everything queued for the container before this call is readable (not yet synced). */
void logs_flush(struct logs *l, const char *container);
/* Removes a container's log; readers get NOT_FOUND, its watchers are called. */
void logs_remove(struct logs *l, const char *container);

/* --- readers
 * ------------------------------------------------------------------------------------------ */
struct logs_pos {
    uint32_t segment;
    uint64_t offset;
};
struct logs_reader;
/* A container that never wrote has an empty log; readers wait for it all the same. */
struct logs_reader *logs_read_open(struct logs *l, const char *container, struct vic_err *err);
void logs_read_free(struct logs_reader *r);
struct logs_pos logs_end(struct logs *l,
                         const char *container); /* behind the newest readable entry */
void logs_seek(struct logs_reader *r, struct logs_pos pos);
/* Behind which the last 'lines' lines lie (an entry whose bytes do not end in a newline goes on in
 * the next one of the same stream).  An entry may hold several lines: the first one read is cut at
 * its front then (logs_tell names an entry's beginning, so read before asking it). */
VIC_CHECK bool logs_seek_tail(struct logs_reader *r, uint64_t lines, struct vic_err *err);
/* The next entry, borrowed until the next call.  False with err->code OK at the end for now.
 * LOGS_DROPPED marks an entry of ours: its bytes say how much the full disk cost. */
bool logs_read(struct logs_reader *r, struct logs_entry *out, struct vic_err *err);
struct logs_pos logs_tell(const struct logs_reader *r);
uint64_t logs_lost(struct logs_reader *r); /* bytes skipped because of rotation, since asked last */

/* 'appended' is called on the writer thread, must not block.  container NULL = all.  After
 * logs_watch_free it is not called any more: that waits for a call that runs now (hold no lock that
 * 'appended' takes); inside 'appended' it is fine. */
struct logs_watch;
struct logs_watch *logs_watch_new(struct logs *l, const char *container,
                                  void (*appended)(void *arg), void *arg);
void logs_watch_free(struct logs_watch *w);

#endif
