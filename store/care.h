/* Shared by verify.c (finds) and repair.c (mends): walking a table, reading an index's key. */
#ifndef VIC_STORE_CARE_H
#define VIC_STORE_CARE_H

#include "store_priv.h"

struct care {
    struct store_txn *t;
    void (*problem)(void *arg, const char *text);
    void *arg;
    size_t problems;
    uint64_t counts[STORE_KINDS];
    uint64_t last_bad_log; /* newest damaged entry; 0 = none */
};

/* Tells one problem. */
void care_say(struct care *c, const char *fmt, ...) VIC_PRINTF(2, 3);

/* Calls 'each' for every entry of a table until it returns false (with err when it failed). */
typedef bool (*care_each)(struct care *c, MDB_val key, MDB_val value, struct vic_err *err);
VIC_CHECK bool care_walk(struct care *c, enum store_table table, care_each each,
                         struct vic_err *err);

/* The object that an index entry stands for. */
struct care_entry {
    enum store_kind kind;
    struct store_key object;
    char id[STORE_MAX_KEY + 1];
    char label[STORE_MAX_KEY + 1]; /* the name, or "layer <id>" of the target */
};
bool care_entry_of(enum store_table table, MDB_val key, MDB_val value, struct care_entry *out);

/* How an object stands: absent, damaged, or decoded into the arena. */
enum care_state { CARE_ABSENT, CARE_DAMAGED, CARE_GOOD };
VIC_CHECK bool care_look(struct care *c, const struct care_entry *e, struct arena *a,
                         enum care_state *state, void **record, struct vic_err *err);

/* Mends indexes, counts and the log, inside apply. */
VIC_CHECK bool care_repair(struct care *c, struct vic_err *err);

#endif
