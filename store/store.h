/* The store: every desired and observed state, in one LMDB environment.
 *
 * Caveats, first:
 *  - One writer thread, group commit.  A caller hands in check(txn), which reads and may refuse,
 * and apply(txn), which writes and can fail only for a full map, no space or corruption.  Many
 *    callers' changes share one durable commit; a caller hears 'done' only after it.  If apply of a
 *    batch fails, each of the batch runs alone.
 *  - A read transaction is a snapshot and must be short: never across a network wait.  Long lists
 *    are read in pages and resumed by key.
 *  - What a read returns borrows from the map: valid until the transaction ends.  Copy what stays.
 *  - One environment per process; MDB_NOTLS read transactions, so any thread may use one, one
 * thread at a time.  No DUPSORT, no nested transactions, no MDB_WRITEMAP.
 *  - 64 GiB of address space mapped once; the file grows in steps; quota in software.
 *
 * Tables: meta (schema version, store id, epoch, next revision), object (kind + id), name index,
 * secondary indexes (references both ways: who uses this image, which disks does this vm hold),
 * change log, blobs by digest.  Names are unique per kind among records that are not tombstones.
 * References named in store/refs.def are checked inside the transaction: a put whose target does
 * not exist, and a delete of a target that is referred to, fail with VIC_CONFLICT.
 *
 * A record that fails its checksum quarantines that one object: reading it gives VIC_CORRUPT, its
 * name stays reserved, lists pass over it and count it (store_stats). */
#ifndef VIC_STORE_STORE_H
#define VIC_STORE_STORE_H

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/record.h"

enum store_kind {
    STORE_CONTAINER = 1,
    STORE_IMAGE,
    STORE_TAG,
    STORE_LAYER,
    STORE_DISK,
    STORE_VM,
    STORE_VCH,
    STORE_KINDS
};
const struct store_rec *store_kind_rec(enum store_kind kind);
const char *store_kind_name(enum store_kind kind); /* "container" */

struct store;
struct store_txn;

struct store_options {
    const char *dir;             /* made 0700; data.mdb 0600 */
    const unsigned char *secret; /* 32 bytes, the VCH secret; copied; NULL only with read_only:
                                    secret fields are then empty */
    uint64_t quota_bytes;        /* 0 = none */
    const struct vic_clock *clock;
    struct vic_log *log;
    bool read_only; /* for vic-dump: no writer, no watchers */
    /* Failpoint: called before each durable commit with its number from 1; false = behave as killed
     * there (the commit does not happen, every later write fails with VIC_CANCELED). */
    bool (*gate)(void *arg, uint64_t commit);
    void *gate_arg;
};

/* Errors: VIC_NOT_FOUND (read_only, nothing there), VIC_CORRUPT (not ours, or damaged),
 * VIC_UNSUPPORTED (newer schema), VIC_FORBIDDEN (the secret does not fit this store), VIC_BUSY
 * (another process has it open for writing), VIC_IO. */
struct store *store_open(const struct store_options *o, struct vic_err *err);
void store_close(struct store *s);
const char *store_id(const struct store *s); /* uuid, made with the store */
uint64_t store_epoch(const struct store *s); /* counts restores, from 1 */

/* --- reading
 * --------------------------------------------------------------------------------------- */
struct store_txn *store_read(struct store *s, struct vic_err *err);
void store_read_end(struct store_txn *t); /* NULL is fine */
static inline void store_auto_read_end(struct store_txn **t)
{
    store_read_end(*t);
}
#define AUTO_TXN __attribute__((cleanup(store_auto_read_end)))

/* '*record' is the kind's struct (struct store_container ...).  Tombstones are found by id.
 * Errors: VIC_NOT_FOUND, VIC_CORRUPT. */
VIC_CHECK bool store_get(struct store_txn *t, enum store_kind kind, const char *id, struct arena *a,
                         void *record, struct vic_err *err);
/* Id of the live record with this name (copied into the arena); VIC_NOT_FOUND. */
VIC_CHECK bool store_find_name(struct store_txn *t, enum store_kind kind, const char *name,
                               struct arena *a, const char **id, struct vic_err *err);
/* The one id that begins with 'prefix' (tombstones left out): VIC_NOT_FOUND, or VIC_INVALID when
 * several do. */
VIC_CHECK bool store_find_prefix(struct store_txn *t, enum store_kind kind, const char *prefix,
                                 struct arena *a, const char **id, struct vic_err *err);
/* Calls 'each' for the records of a kind after key 'after' ("" = from the first), in id order,
 * until it returns false.  Tombstones come too (meta.deleted tells).  With a == NULL (the cheap way
 * for long lists) a record is valid inside 'each' only; its strings live until the transaction
 * ends, as ever. */
typedef bool (*store_each)(void *arg, const void *record);
VIC_CHECK bool store_list(struct store_txn *t, enum store_kind kind, const char *after,
                          struct arena *a, store_each each, void *arg, struct vic_err *err);
/* The same, newest first by creation; resumes behind (created, id); before_id "" = from the newest.
 */
VIC_CHECK bool store_list_newest(struct store_txn *t, enum store_kind kind, int64_t before,
                                 const char *before_id, struct arena *a, store_each each, void *arg,
                                 struct vic_err *err);
/* Ids of the records of 'kind' whose reference to (target_kind, target_id) stands in refs.def. */
typedef bool (*store_each_id)(void *arg, const char *id);
VIC_CHECK bool store_referrers(struct store_txn *t, enum store_kind target_kind,
                               const char *target_id, enum store_kind kind, store_each_id each,
                               void *arg, struct vic_err *err);
size_t store_count(struct store_txn *t, enum store_kind kind); /* without tombstones */
/* Bytes borrow from the map. */
VIC_CHECK bool store_blob_get(struct store_txn *t, const char *digest, struct sv *out,
                              struct vic_err *err);
uint64_t store_revision(struct store_txn *t); /* of the snapshot */

/* --- writing
 * --------------------------------------------------------------------------------------- */
/* Inside check and apply the transaction reads as above, its own writes included; 'a' is freed when
 * the batch is done.  Both may run more than once (a batch that failed is run again, one by one),
 * so each begins by setting what it keeps in 'arg'. */
typedef bool (*store_check)(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err);
typedef bool (*store_apply)(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err);

struct store_change_note {
    const char *actor;   /* certificate name, admin session, "control" */
    const char *request; /* request id, or "" */
};
/* Blocks until the change is durable or refused.  Any thread but the writer's.  check may be NULL.
 */
VIC_CHECK bool store_write(struct store *s, const struct store_change_note *note, store_check check,
                           store_apply apply, void *arg, struct vic_err *err);

/* Within apply (and check may call none of these).  Put stamps meta.revision; a new record gets
 * meta.created when 0.  meta.revision as given is the revision that the caller read, 0 = any;
 * another one in the store, or none, is VIC_CONFLICT - test it in check with store_get instead
 * where refusal is normal; to put a record twice, get it again in between.  A new reference to what
 * does not exist or is a tombstone, and a name that is taken: VIC_CONFLICT. */
VIC_CHECK bool store_put(struct store_txn *t, enum store_kind kind, const void *record,
                         struct vic_err *err);
VIC_CHECK bool store_del(struct store_txn *t, enum store_kind kind, const char *id,
                         struct vic_err *err); /* really gone; fine when absent */
VIC_CHECK bool store_blob_put(struct store_txn *t, const char *digest, struct sv bytes,
                              struct vic_err *err);
VIC_CHECK bool store_blob_del(struct store_txn *t, const char *digest, struct vic_err *err);
/* Adds an entry to the change log that is an event for clients ("start", "die" ...): kind and id of
 * the object, the action, and attributes as alternating key, value. */
VIC_CHECK bool store_event(struct store_txn *t, enum store_kind kind, const char *id,
                           const char *action, const struct store_map *attributes,
                           struct vic_err *err);

/* Read, change, write one record: 'change' gets the current record (zeroed when absent: meta.id is
 * empty) and says whether to put it.  Refusals by filling err and returning false with code set. */
enum store_verdict { STORE_PUT, STORE_KEEP, STORE_DELETE, STORE_REFUSE };
typedef enum store_verdict (*store_change)(void *arg, struct store_txn *t, struct arena *a,
                                           void *record, struct vic_err *err);
VIC_CHECK bool store_update(struct store *s, const struct store_change_note *note,
                            enum store_kind kind, const char *id, store_change change, void *arg,
                            struct vic_err *err);

/* --- the change log
 * --------------------------------------------------------------------------------- */
struct store_entry {
    uint64_t revision;
    int64_t time_ns;
    enum store_kind kind;
    const char *id;
    enum { STORE_OP_PUT, STORE_OP_DELETE, STORE_OP_EVENT } op;
    const char *actor, *request;
    const char *action; /* events */
    struct store_map
        attributes; /* events: theirs; puts: what changed, path and new value (bounded) */
};
/* Entries after revision 'since', oldest first, until 'each' returns false.  VIC_NOT_FOUND when the
 * log no longer reaches back that far: list anew. */
typedef bool (*store_each_entry)(void *arg, const struct store_entry *e);
VIC_CHECK bool store_entries(struct store_txn *t, uint64_t since, struct arena *a,
                             store_each_entry each, void *arg, struct vic_err *err);

uint64_t store_log_first(struct store_txn *t); /* oldest revision that the log still has */

/* Called on the writer thread after each commit, with the newest revision; must not block, must not
 * write.  For each change in it 'each' can be read by store_entries from a pool thread. */
struct store_watch;
struct store_watch *store_watch_new(struct store *s, void (*changed)(void *arg, uint64_t revision),
                                    void *arg);
void store_watch_free(struct store_watch *w); /* 'changed' does not run any more afterwards */

/* --- secrets
 * ----------------------------------------------------------------------------------------- */
/* HKDF-SHA256(secret, vm id, n): the channel key n of a vm. */
void store_channel_key(const struct store *s, const char *vm, unsigned n, unsigned char out[32]);
/* HMAC-SHA256 of a spec's bytes, hex. */
void store_sign(const struct store *s, struct sv bytes, char out[65]);

/* --- care
 * ------------------------------------------------------------------------------------------- */
struct store_stats {
    uint64_t revision, quarantined, file_bytes, log_entries;
    uint64_t commits, writes;   /* since it was opened */
    size_t counts[STORE_KINDS]; /* without tombstones */
};
void store_stats(struct store *s, struct store_stats *out);
/* Checks every record, index and reference; with 'repair' rebuilds the indexes.  Problems are told
 * to 'problem' one by one; false only when it could not run. */
VIC_CHECK bool store_verify(struct store *s, bool repair,
                            void (*problem)(void *arg, const char *text), void *arg,
                            struct vic_err *err);
/* Hot copy into a new folder (mdb_env_copy, compacted). */
VIC_CHECK bool store_backup(struct store *s, const char *dir, struct vic_err *err);

#endif
