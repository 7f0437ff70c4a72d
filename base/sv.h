/* Borrowed views of bytes.
 *
 * Everything parsed is a 'struct sv': a pointer and a length into memory that someone else owns; it
 * need not end in NUL.  Numbers are read by sv_to_*, which accept the whole view or nothing. */
#ifndef VIC_BASE_SV_H
#define VIC_BASE_SV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sv {
    const char *p;
    size_t len;
};

#define SV(literal) ((struct sv){(literal), sizeof(literal) - 1})
#define SV_FMT      "%.*s"
#define SV_ARG(s)   (int)(s).len, (s).p ? (s).p : ""

static inline struct sv sv_of(const char *s)
{
    return (struct sv){s, s ? strlen(s) : 0};
}

static inline struct sv sv_make(const void *p, size_t len)
{
    return (struct sv){(const char *)p, len};
}

static inline bool sv_eq(struct sv a, struct sv b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool sv_is(struct sv a, const char *s)
{
    return sv_eq(a, sv_of(s));
}

bool sv_eq_nocase(struct sv a, struct sv b); /* ASCII */
bool sv_starts(struct sv s, struct sv prefix);
bool sv_ends(struct sv s, struct sv suffix);
int sv_cmp(struct sv a, struct sv b);                   /* bytes, shorter first */
struct sv sv_trim(struct sv s);                         /* blanks, tabs, CR, LF at both ends */
struct sv sv_sub(struct sv s, size_t from, size_t len); /* clamped */
ptrdiff_t sv_find(struct sv s, char c);                 /* -1 when absent */
ptrdiff_t sv_rfind(struct sv s, char c);

/* Cuts 's' at the first 'c': the part before is returned, 's' becomes the part after.  Without a
 * 'c' the whole is returned and 's' becomes empty with p == NULL. */
struct sv sv_cut(struct sv *s, char c);

/* The whole view as a number, in base 10 unless said.  No sign for u64, no blanks, no overflow. */
bool sv_to_u64(struct sv s, uint64_t *out);
bool sv_to_i64(struct sv s, int64_t *out);
bool sv_hex_to_u64(struct sv s, uint64_t *out);

bool sv_is_utf8(struct sv s); /* strict: no overlong forms, no surrogates */
/* Bytes of the well-formed UTF-8 sequence at the head; 0 when there is none. */
size_t sv_utf8_len(struct sv s);

/* Hex both ways.  'out' has 2 * len + 1, or len / 2 bytes. */
void hex_encode(const void *bytes, size_t len, char *out);
bool hex_decode(struct sv hex, void *out);

/* Base64, standard alphabet with padding; decode takes both alphabets, padding optional.
 * base64_decode returns the count written, or -1; 'out' has at least len * 3 / 4 + 3. */
size_t base64_encode(const void *bytes, size_t len, char *out); /* out: (len + 2) / 3 * 4 + 1 */
ptrdiff_t base64_decode(struct sv text, void *out);

#endif
