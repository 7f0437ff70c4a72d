/* The tables of records and the texts of enums, made from record.def and enums.def.
 *
 * Each record's table stands inside the function that hands it out: F() knows a field's name but
 * not its record's, so the function gives the struct the local name 'self' for offsetof.  All
 * tables are constant: nothing is built at run time. */
#include "record.h"

#include "base/mem.h"

/* --- enums ---------------------------------------------------------------------------------------
 */
#define ENUM(list)          static const char *const list##_texts[] = {
#define V(list, name, text) text,
#define ENDENUM(list)                                                                              \
    }                                                                                              \
    ;
#include "enums.def"
#undef ENUM
#undef V
#undef ENDENUM

static const char *text_of(const char *const *texts, size_t count, unsigned v)
{
    return v < count ? texts[v] : NULL;
}

static bool parse_text(const char *const *texts, size_t count, struct sv text, unsigned *out)
{
    for (unsigned i = 0; i < count; i++)
        if (sv_is(text, texts[i])) {
            *out = i;
            return true;
        }
    return false;
}

#define ENUM(list)                                                                                 \
    static const char *list##_text_of(unsigned v)                                                  \
    {                                                                                              \
        return text_of(list##_texts, ARRAY_LEN(list##_texts), v);                                  \
    }                                                                                              \
    static bool list##_parse_of(struct sv text, unsigned *out)                                     \
    {                                                                                              \
        return parse_text(list##_texts, ARRAY_LEN(list##_texts), text, out);                       \
    }                                                                                              \
    const char *store_##list##_text(enum store_##list v)                                           \
    {                                                                                              \
        return list##_text_of((unsigned)v);                                                        \
    }                                                                                              \
    bool store_##list##_parse(struct sv text, enum store_##list *out)                              \
    {                                                                                              \
        unsigned v;                                                                                \
        if (!list##_parse_of(text, &v))                                                            \
            return false;                                                                          \
        *out = (enum store_##list)v;                                                               \
        return true;                                                                               \
    }
#define V(list, name, text)
#define ENDENUM(list)
#include "enums.def"
#undef ENUM
#undef V
#undef ENDENUM

/* --- records -------------------------------------------------------------------------------------
 */
/* What only some kinds of field have: the record inside, the texts of an enum. */
#define NONE             NULL, NULL, NULL
#define EXTRA_STR(arg)   NONE
#define EXTRA_BOOL(arg)  NONE
#define EXTRA_I32(arg)   NONE
#define EXTRA_U32(arg)   NONE
#define EXTRA_I64(arg)   NONE
#define EXTRA_U64(arg)   NONE
#define EXTRA_TIME(arg)  NONE
#define EXTRA_BYTES(arg) NONE
#define EXTRA_STRS(arg)  NONE
#define EXTRA_MAP(arg)   NONE
#define EXTRA_ENUM(arg)  NULL, arg##_text_of, arg##_parse_of
#define EXTRA_OBJ(arg)   store_rec_##arg, NULL, NULL
#define EXTRA_LIST(arg)  store_rec_##arg, NULL, NULL

#define REC(rec, text)                                                                             \
    const struct store_rec *store_rec_##rec(void)                                                  \
    {                                                                                              \
        typedef struct store_##rec self;                                                           \
        static const char name[] = #rec, meaning[] = text;                                         \
        static const struct store_field fields[] = {
#define F(number, kind, arg, field, json, flags, since, meaning)                                   \
    {number,           since, flags, STORE_##kind, #field, json, meaning, offsetof(self, field),   \
     EXTRA_##kind(arg)},
#define END(rec)                                                                                   \
    }                                                                                              \
    ;                                                                                              \
    static const struct store_rec table = {                                                        \
        name, meaning, sizeof(self), offsetof(self, unknown), ARRAY_LEN(fields), fields};          \
    return &table;                                                                                 \
    }
#include "record.def"
