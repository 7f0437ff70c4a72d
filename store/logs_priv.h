/* Container logs, inside:
 *
 *   logs.c          the table of logs, the queue, watchers, the door's small calls
 *   logs_write.c    the writer thread: batches, rotation, sync, a full disk
 *   logs_read.c     readers
 *   logs_segment.c  an entry's bytes, scanning a segment, what is found at open
 *
 * A segment is a run of entries (logs.h has the layout).  Some entries are ours (flag LOGS_BOOT):
 * they give a boot id its index, and their seq is the newest of that boot that came before them.
 * Each segment begins with those of the newest LOGS_KEEP_BOOTS boots: so what a boot has stored is
 * known from the newest segment alone, and only that one is read when a log is opened.
 *
 * Who changes what: after a log was loaded only the writer thread changes it, under the lock; so
 * the writer reads without it, everyone else with it.  Files are written and read without the
 * lock: a reader reads below 'size', the writer writes behind it. */
#ifndef VIC_STORE_LOGS_PRIV_H
#define VIC_STORE_LOGS_PRIV_H

/* uthash's default falls through its switch in a way that clang warns of. */
#define HASH_FUNCTION HASH_OAT
#include <uthash.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/sync.h"
#include "store/logs.h"

enum {
    LOGS_BOOT = 0x80, /* flag of our own entries */
    LOGS_HEAD = 8,
    LOGS_FIXED = 20,
    LOGS_MAX_ENTRY = 1048576, /* bytes of one entry */
    LOGS_SEGMENT_SIZE = 8388608,
    LOGS_MIN_SEGMENT = 4096,
    LOGS_KEEP_BOOTS = 4,
    LOGS_ROOM = 65536, /* free on the disk before writing begins again */
    LOGS_BATCH_SIZE = 262144,
    LOGS_SYNC_MS = 50,
    LOGS_SYNC_SIZE = 1048576,
    LOGS_RETRY_MS = 1000, /* after a full disk or a failed sync */
    LOGS_BOOT_SIZE = 40,
    LOGS_ID_SIZE = 65,
};

struct logs_segment {
    uint32_t number;
    uint64_t size; /* readable */
    uint64_t base; /* bytes of the segments before it, counted since the log was loaded */
};

struct logs_boot {
    char id[LOGS_BOOT_SIZE];
    uint16_t index;
    uint64_t seen;   /* newest seq appended or dropped */
    uint64_t synced; /* newest seq told as stored */
    bool tell;       /* 'stored' is owed even if nothing is new: an entry came again */
    bool defined;    /* in the newest segment */
};

struct clog {
    struct logs *logs;
    char id[LOGS_ID_SIZE];
    UT_hash_handle hh;

    /* guarded: logs->lock */
    unsigned refs;
    enum { CLOG_NEW, CLOG_LOADING, CLOG_READY } state;
    bool removed;
    struct logs_segment *segments; /* oldest first */
    size_t segment_count;
    struct logs_boot boots[LOGS_KEEP_BOOTS]; /* oldest first */
    unsigned boot_count;
    uint16_t next_index;
    uint64_t max_bytes;
    unsigned max_files;
    struct logs_watch *watches;

    /* owned by the writer thread */
    int fd;                         /* the newest segment, while it is dirty; or -1 */
    bool gone;                      /* its removal was done */
    uint64_t segment_max, kept_max; /* from max_bytes and max_files; kept 0: all */
    struct buf batch;
    uint64_t batch_bytes; /* of the container's output in it */
    uint64_t batch_seq;   /* of its last entry */
    char batch_boot[LOGS_BOOT_SIZE];
    bool dirty, dir_dirty;
    struct clog *dirty_next;
    uint64_t dropped;     /* bytes that the disk had no room for */
    uint64_t dropped_seq; /* the newest of them */
    char dropped_boot[LOGS_BOOT_SIZE];
    bool hurt; /* is counted in logs->hurt */
};

struct logs_item {
    struct logs_item *next;
    struct clog *log;
    enum { ITEM_APPEND, ITEM_REMOVE } what;
    struct logs_entry entry; /* boot and bytes point behind this struct */
};

struct logs_watch {
    struct logs *logs;
    struct clog *log; /* NULL: all */
    void (*appended)(void *arg);
    void *arg;
    bool due;
    struct logs_watch *prev, *next;         /* in clog->watches or logs->watches */
    struct logs_watch *due_prev, *due_next; /* in logs->due */
};

struct logs {
    struct logs_options o;
    int dir;
    pthread_t writer;
    struct vic_mutex lock;
    struct vic_cond work, changed;

    /* guarded: lock */
    struct clog *logs;
    struct logs_item *head, **tail;
    uint64_t tickets, done; /* items queued; items whose effect is readable */
    bool stop;
    struct logs_watch *watches, *due, *calling;

    /* owned by the writer thread */
    struct clog *dirty;
    uint64_t unsynced;
    int64_t sync_at_ms;
    unsigned hurt; /* logs that owe a marker */
    int64_t retry_at_ms;
};

/* --- logs.c */
struct clog *clog_get_locked(struct logs *l, const char *id) VIC_REQUIRES(l->lock); /* referenced */
void clog_put_locked(struct logs *l, struct clog *log) VIC_REQUIRES(l->lock);
/* Waits until the log is loaded (by this thread or another). */
void clog_load_locked(struct logs *l, struct clog *log) VIC_REQUIRES(l->lock);
void logs_due_locked(struct logs *l, struct clog *log) VIC_REQUIRES(l->lock);
/* Writer thread: calls the watchers that are due. */
void logs_call_watches(struct logs *l);

/* --- logs_write.c */
void *logs_writer(void *logs);

/* --- logs_segment.c */
void segment_name(const char *id, uint32_t number, char out[96]);
void segment_put(struct buf *out, const struct logs_entry *e, uint16_t boot_index, unsigned flags);
/* One entry as it stands in a segment. */
struct segment_entry {
    struct logs_entry e; /* boot is not set */
    uint16_t boot_index;
    uint64_t at; /* where it begins */
};
/* Walks a segment from 'at' to 'end'; zeroed but for fd, at, end. */
struct segment_scan {
    int fd;
    uint64_t at, end;
    struct buf buf;
    size_t used; /* of buf */
};
enum scan_result { SCAN_ENTRY, SCAN_END, SCAN_BAD };
enum scan_result segment_scan(struct segment_scan *s, struct segment_entry *out);
/* Reads what the folder holds; cuts a torn tail off the newest segment. */
void segment_load(struct logs *l, struct clog *log);

#endif
