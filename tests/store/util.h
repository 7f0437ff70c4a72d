/* Shared by the store's tests: a store in a folder of its own that goes away, and record makers. */
#ifndef VIC_TESTS_STORE_UTIL_H
#define VIC_TESTS_STORE_UTIL_H

/* cmocka wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

#define check_ok(expr)                                                                             \
    do {                                                                                           \
        struct vic_err err = {0};                                                                  \
        if (!(expr))                                                                               \
            fail_msg("%s: %s", vic_code_name(err.code), err.msg);                                  \
    } while (0)
#define check_fails(expected, expr)                                                                \
    do {                                                                                           \
        struct vic_err err = {0};                                                                  \
        if (expr)                                                                                  \
            fail_msg("%s went well", #expr);                                                       \
        if (err.code != (expected))                                                                \
            fail_msg("%s instead of %s: %s", vic_code_name(err.code), #expected, err.msg);         \
    } while (0)

extern const unsigned char test_secret[32];
extern const struct store_change_note test_note;

/* A new empty folder under TMPDIR; freed and removed, with what is in it, by remove_folder. */
char *new_folder(void);
void remove_folder(char *dir);
void copy_folder(const char *from, const char *to);

struct store *open_store(const char *dir);

/* Writes one record. */
bool put_record(struct store *s, enum store_kind kind, const void *record, struct vic_err *err);
bool del_record(struct store *s, enum store_kind kind, const char *id, struct vic_err *err);

/* Fills the record with random values of its table's kinds; 'seed' moves on. */
void random_record(const struct store_rec *rec, uint64_t *seed, struct arena *a, void *record);
uint64_t next_random(uint64_t *seed);

/* A container as docker makes them: some env, labels, a port, conditions. */
void typical_container(struct store_container *c, unsigned n, struct arena *a);

/* Fails the test on the first problem that store_verify tells. */
void verify_store(struct store *s);

#endif
