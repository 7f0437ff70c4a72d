/* What lies in the golden stores. */
#ifndef VIC_TESTS_STORE_GOLDEN_H
#define VIC_TESTS_STORE_GOLDEN_H

#include "store/store.h"

#define GOLDEN_ID   "golden"
#define GOLDEN_TIME 1764000000123456789

/* A record of the kind with every field set to a value that follows from its name and number, its
 * references pointing at the other golden records. */
void golden_record(enum store_kind kind, struct arena *a, void *record);

/* The record tables and enums as text, one line a field: what a file format test compares. */
void golden_fingerprint(struct buf *out);

#endif
