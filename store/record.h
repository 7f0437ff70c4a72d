/* The records as C structs, made from record.def and enums.def.
 *
 * A record that was read borrows everything from the transaction's memory map and the arena given
 * to the read: valid until both end.  STR fields are never NULL after a read; on a write NULL means
 * empty.  'unknown' holds fields of newer versions, and is written back as it was. */
#ifndef VIC_STORE_RECORD_H
#define VIC_STORE_RECORD_H

#include "base/json.h"

enum store_flags { STORE_F_SECRET = 1, STORE_F_API = 2 };

struct store_strs {
    const char **v;
    size_t n;
};
struct store_kv {
    const char *k, *v;
};
struct store_map {
    struct store_kv *v;
    size_t n;
};

/* enum store_run_want { STORE_RUN_WANT_NONE, ... }: names are made by pasting the list's name as it
 * is written: store_run_want_RUNNING. */
#define ENUM(list)                                                                                 \
    enum store_##list                                                                              \
    {
#define V(list, name, text) store_##list##_##name,
#define ENDENUM(list)                                                                              \
    store_##list##_COUNT                                                                           \
    }                                                                                              \
    ;
#include "enums.def"
#undef ENUM
#undef V
#undef ENDENUM

#define STORE_M_STR(arg, f)   const char *f;
#define STORE_M_BOOL(arg, f)  bool f;
#define STORE_M_I32(arg, f)   int32_t f;
#define STORE_M_U32(arg, f)   uint32_t f;
#define STORE_M_I64(arg, f)   int64_t f;
#define STORE_M_U64(arg, f)   uint64_t f;
#define STORE_M_TIME(arg, f)  int64_t f;
#define STORE_M_ENUM(arg, f)  enum store_##arg f;
#define STORE_M_BYTES(arg, f) struct sv f;
#define STORE_M_STRS(arg, f)  struct store_strs f;
#define STORE_M_MAP(arg, f)   struct store_map f;
#define STORE_M_OBJ(arg, f)   struct store_##arg f;
#define STORE_M_LIST(arg, f)                                                                       \
    struct {                                                                                       \
        struct store_##arg *v;                                                                     \
        size_t n;                                                                                  \
    } f;
#define REC(name, meaning)                                       struct store_##name {
#define F(number, kind, arg, field, json, flags, since, meaning) STORE_M_##kind(arg, field)
#define END(name)                                                                                  \
    struct sv unknown;                                                                             \
    }                                                                                              \
    ;
#include "record.def"
#undef REC
#undef F
#undef END

/* Text of an enum value ("running"), and back. */
#define ENUM(list)                                                                                 \
    const char *store_##list##_text(enum store_##list v);                                          \
    bool store_##list##_parse(struct sv text, enum store_##list *out);
#define V(list, name, text)
#define ENDENUM(list)
#include "enums.def"
#undef ENUM
#undef V
#undef ENDENUM

/* --- descriptors, for whoever walks records: api's JSON, vic-dump, diff, docs
 * ---------------------- */
enum store_kind_of_field {
    STORE_STR,
    STORE_BOOL,
    STORE_I32,
    STORE_U32,
    STORE_I64,
    STORE_U64,
    STORE_TIME,
    STORE_ENUM,
    STORE_BYTES,
    STORE_STRS,
    STORE_MAP,
    STORE_OBJ,
    STORE_LIST
};
struct store_rec;
struct store_field {
    unsigned number, since, flags;
    enum store_kind_of_field kind;
    const char *name, *json, *meaning;
    size_t offset;
    const struct store_rec *(*rec)(void); /* OBJ, LIST */
    const char *(*enum_text)(unsigned v); /* ENUM; NULL text when out of range */
    bool (*enum_parse)(struct sv text, unsigned *out);
};
struct store_rec {
    const char *name, *meaning;
    size_t size, unknown_offset, count;
    const struct store_field *fields; /* in the order of record.def */
};
/* store_rec_container() and so on. */
#define REC(name, meaning) const struct store_rec *store_rec_##name(void);
#define F(...)
#define END(name)
#include "record.def"
#undef REC
#undef F
#undef END

/* Binary codec.  Decoding borrows strings from 'bytes' (which must outlive the record) and takes
 * lists from the arena.  Errors: VIC_CORRUPT. */
void store_encode(const struct store_rec *rec, const void *record, struct buf *out);
VIC_CHECK bool store_decode(const struct store_rec *rec, struct sv bytes, struct arena *a,
                            void *record, struct vic_err *err);
/* JSON both ways with the table's names.  Reading: members that are absent or null keep what the
 * record holds; unknown members are ignored; names match as Go's decoder (case-insensitive); a
 * wrong type fails with VIC_INVALID naming the member by path ("HostConfig.Memory: expected a
 * number"). with_api says whether fields marked STORE_F_API take part.  Secret fields are never
 * written. */
VIC_CHECK bool store_from_json(const struct store_rec *rec, struct json_val v, bool with_api,
                               struct arena *a, void *record, struct vic_err *err);
void store_to_json(const struct store_rec *rec, const void *record, bool with_api,
                   struct json_writer *w, const char *key);
/* The members only, into an object that the caller has open. */
void store_members_to_json(const struct store_rec *rec, const void *record, bool with_api,
                           struct json_writer *w);
/* A copy that borrows nothing but the arena. */
void store_copy(const struct store_rec *rec, const void *from, void *to, struct arena *a);
bool store_equal(const struct store_rec *rec, const void *a, const void *b);
/* An empty record: all zero, every STR "". */
void store_init(const struct store_rec *rec, void *record);
/* Calls 'each' for every value that differs, in the table's order, until it returns false: the
 * path by JSON names ("Status.Phase", "Conditions[Ready].Reason"), both values as text for people,
 * borrowed for the call.  Secret values are never told. */
enum { STORE_PATH_SIZE = 128 };
typedef bool (*store_each_diff)(void *arg, const char *path, const char *before, const char *after);
void store_diff(const struct store_rec *rec, const void *a, const void *b, store_each_diff each,
                void *arg);

#endif
