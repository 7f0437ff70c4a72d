/* The inside of the store, shared by its files.
 *
 * Tables (LMDB sub-databases) and their keys:
 *   meta     "magic", "schema", "id", "secret", "state"
 *   object   kind, id                                -> value header, encoded record
 *   name     kind, name                              -> id
 *   created  kind, big-endian creation time, id      -> nothing
 *   ref      target kind, target id, 0, kind, id     -> nothing
 *   log      big-endian revision                     -> value header, entry
 *   blob     digest                                  -> value header, bytes
 * kind is one byte, ids and names are without NUL.  A value header is 8 bytes: format, flags, two
 * of zero, CRC-32C of (the header's first four, the key, what follows); the key is in the sum so
 * that a value that turns up under another key is found out.
 *
 * 'state' holds what changes with every commit: the newest revision, where the log begins, counts.
 * The file map: store.c opens and closes, txn.c reads, list.c walks, put.c writes with index.c,
 * write.c is the writer thread, changes.c the log and its watchers, verify.c and repair.c the care,
 * secret.c everything derived from the VCH secret. */
#ifndef VIC_STORE_PRIV_H
#define VIC_STORE_PRIV_H

#include <lmdb.h>

#include "base/sync.h"

#include "codec.h"
#include "store.h"

enum store_table {
    TABLE_META,
    TABLE_OBJECT,
    TABLE_NAME,
    TABLE_CREATED,
    TABLE_REF,
    TABLE_LOG,
    TABLE_BLOB,
    TABLES
};

enum {
    STORE_SCHEMA = 1,
    STORE_MAX_KEY = 511,
    STORE_MAX_ID = 400,     /* tags' ids are references */
    STORE_MAX_TARGET = 100, /* ids of what refs.def points at */
    STORE_MAX_NAME = 400,
    STORE_MAX_BATCH = 256,
    STORE_MAX_READERS = 1024,
    STORE_LOG_ENTRIES = 100000,
    STORE_LOG_DAYS = 7,
    STORE_MAX_BLOB = 64 * 1024 * 1024,
    HEADER_SIZE = 8,
    HEADER_FORMAT = 1,
    HEADER_TOMBSTONE = 1,
};
#define STORE_MAP_SIZE ((size_t)64 << 30)
#define STORE_GROW     ((uint64_t)16 << 20) /* the file grows by at least this much ahead of need */

struct store_state {
    uint64_t revision; /* newest */
    uint64_t epoch;
    uint64_t log_first; /* oldest entry kept; revision + 1 when there is none */
    uint64_t commits;
    uint64_t counts[STORE_KINDS]; /* live records */
};

struct write_job;

struct store {
    /* immutable after open */
    MDB_env *env;
    MDB_dbi dbi[TABLES];
    int lock_fd; /* flock: the one writer among processes; -1 when read only */
    char id[37];
    uint64_t epoch, quota_bytes;
    bool read_only, sealed; /* sealed: there is a key */
    unsigned char secret[32], seal_key[32], sign_key[32];
    const struct vic_clock *clock;
    struct vic_log *log;
    bool (*gate)(void *arg, uint64_t commit);
    void *gate_arg;
    /* owned by the writer thread */
    uint64_t gate_count, grown;
    pthread_t writer;
    bool has_writer; /* immutable after open */
    struct vic_mutex lock;
    struct vic_cond wake; /* there is a job, or stopping */
    /* guarded: lock */
    struct write_job *head VIC_GUARDED, **tail VIC_GUARDED;
    bool stopping VIC_GUARDED, killed VIC_GUARDED;
    uint64_t commits VIC_GUARDED, writes VIC_GUARDED;
    /* guarded: watch_lock, which is held while watchers are called */
    struct vic_mutex watch_lock;
    struct store_watch *watches VIC_GUARDED;
    /* guarded: bad_lock */
    struct vic_mutex bad_lock;
    char **bad VIC_GUARDED; /* "container/<id>" of quarantined objects */
    size_t bad_count VIC_GUARDED;
};

struct store_txn {
    struct store *s;
    MDB_txn *mdb;
    bool write;
    bool applying; /* inside apply: writes are allowed */
    bool dirty;
    struct arena *a; /* write: what is read is copied here, as writes move pages */
    const struct store_change_note *note;
    struct store_state state; /* as of this transaction */
    uint64_t began;           /* write: the revision it began with */
    int64_t now_ns;
};

/* --- keys (index.c)
 * -------------------------------------------------------------------------------- */
struct store_key {
    size_t len;
    bool failed;
    unsigned char bytes[STORE_MAX_KEY];
};
void key_object(struct store_key *k, enum store_kind kind, const char *id);
void key_name(struct store_key *k, enum store_kind kind, const char *name);
void key_created(struct store_key *k, enum store_kind kind, int64_t created, const char *id);
/* kind 0: the prefix of all referrers; id "" with a kind: of that kind's. */
void key_ref(struct store_key *k, enum store_kind target_kind, const char *target,
             enum store_kind kind, const char *id);
void key_revision(struct store_key *k, uint64_t revision);
MDB_val key_val(const struct store_key *k);
bool key_begins(MDB_val key, const struct store_key *prefix);

/* --- references (index.c)
 * -------------------------------------------------------------------------- */
struct store_ref {
    enum store_kind kind, target;
    size_t offset;
    bool many; /* STRS */
};
/* Calls 'each' for every reference of a record that is not empty, until false. */
typedef bool (*each_ref)(void *arg, enum store_kind target, const char *id);
bool refs_of(enum store_kind kind, const void *record, each_ref each, void *arg);
/* Brings the indexes from 'old' to 'new' (either may be NULL). */
VIC_CHECK bool index_update(struct store_txn *t, enum store_kind kind, const struct store_meta *old,
                            const struct store_meta *new, struct vic_err *err);

/* --- values (txn.c)
 * -------------------------------------------------------------------------------- */
static inline const struct store_meta *meta_of(const void *record)
{
    return record; /* asserted for every kind in txn.c */
}
/* Writes the header over the first HEADER_SIZE bytes of value. */
void value_seal(MDB_val key, unsigned char *value, size_t size, unsigned flags);
/* Checks it; '*body' is what follows. */
bool value_open(MDB_val key, MDB_val value, struct sv *body);
bool value_is_tombstone(MDB_val value);
/* Checks and decodes a stored record; a damaged one is quarantined. */
VIC_CHECK bool object_decode(struct store_txn *t, enum store_kind kind, struct sv id, MDB_val value,
                             struct arena *a, void *record, struct vic_err *err);
/* False with err when LMDB fails; '*found' tells whether it is there. */
VIC_CHECK bool table_get(struct store_txn *t, enum store_table table, const struct store_key *k,
                         MDB_val *value, bool *found, struct vic_err *err);
VIC_CHECK bool table_put(struct store_txn *t, enum store_table table, const struct store_key *k,
                         MDB_val value, unsigned flags, struct vic_err *err);
VIC_CHECK bool table_del(struct store_txn *t, enum store_table table, const struct store_key *k,
                         struct vic_err *err); /* fine when absent */
VIC_CHECK bool key_check(const struct store_key *k, const char *what, struct vic_err *err);
bool store_fail_mdb(struct store *s, int rc, const char *what, struct vic_err *err); /* false */
void quarantine(struct store *s, enum store_kind kind, struct sv id);
bool kind_ok(enum store_kind kind, struct vic_err *err);

/* --- transactions
 * ----------------------------------------------------------------------------------- */
VIC_CHECK bool state_load(struct store *s, MDB_txn *mdb, struct store_state *out,
                          struct vic_err *err);
VIC_CHECK bool state_save(struct store_txn *t, struct vic_err *err);
void state_encode(const struct store_state *state, struct buf *out);
VIC_CHECK bool must_apply(struct store_txn *t, struct vic_err *err);
VIC_CHECK bool room_left(struct store_txn *t, bool growth, struct vic_err *err);

/* --- log (changes.c)
 * -------------------------------------------------------------------------------- */
struct log_record {
    int op;
    enum store_kind kind;
    const char *id, *action;
    struct store_map attributes;
};
/* Takes the next revision. */
VIC_CHECK bool log_append(struct store_txn *t, const struct log_record *r, struct vic_err *err);
/* What a put changed, as attributes. */
struct store_map changes_of(enum store_kind kind, const void *old, const void *new,
                            struct arena *a);
VIC_CHECK bool log_trim(struct store_txn *t, struct vic_err *err);
VIC_CHECK bool entry_decode(struct sv body, uint64_t revision, struct arena *a,
                            struct store_entry *out);
void watches_call(struct store *s, uint64_t revision);

/* --- writer (write.c)
 * ------------------------------------------------------------------------------- */
VIC_CHECK bool writer_start(struct store *s, struct vic_err *err);
void writer_stop(struct store *s);
void file_grow(struct store *s);

/* --- secret (secret.c)
 * ------------------------------------------------------------------------------ */
void secret_init(struct store *s, const unsigned char *secret);
/* Sealed zeros, kept in meta: proof that a secret fits. */
enum { SECRET_CHECK_SIZE = 32 + 28 };
bool secret_make_check(const struct store *s, unsigned char out[SECRET_CHECK_SIZE]);
bool secret_fits(const struct store *s, MDB_val check);

#endif
