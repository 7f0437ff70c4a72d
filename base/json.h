/* JSON, both ways.
 *
 * Reading: jsmn (JSMN_STRICT, JSMN_PARENT_LINKS) makes tokens over the caller's text; a
 * 'struct json_val' is a cursor on one value.  No DOM.  json_parse checks what jsmn does not:
 * numbers, escapes, UTF-8, one value only, depth and token limits; so a cursor's readers see only
 * well-formed text.  Writing: a writer over struct buf that puts the commas and escapes.
 *
 * Malformed text fails with VIC_INVALID and a message that names the byte offset and what was
 * expected there; text over a limit fails with VIC_TOO_LARGE.  Facts: RFC 8259.
 * Threads: a document has one user at a time, as its arena (readers decode into it). */
#ifndef VIC_BASE_JSON_H
#define VIC_BASE_JSON_H

#include "arena.h"
#include "buf.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum {
    JSON_MAX_TOKENS = 262144, /* of one document, unless json_parse is told less */
    JSON_MAX_DEPTH = 64,
};

struct json_doc; /* tokens and text; lives in an arena */

/* A cursor; copied by value.  doc == NULL is "absent": every reader below then fails or gives its
 * default, so that look-ups chain: json_str(json_get(json_get(v, "a"), "b"), "") */
struct json_val {
    const struct json_doc *doc;
    unsigned at;
};

/* Parses 'text', which must outlive the document.  max_tokens 0 = JSON_MAX_TOKENS. */
VIC_CHECK bool json_parse(struct sv text, unsigned max_tokens, struct arena *a,
                          struct json_val *out, struct vic_err *err);
/* As json_parse for the first value in 'text'; '*rest' is what follows it (for streams of values).
 */
VIC_CHECK bool json_parse_first(struct sv text, unsigned max_tokens, struct arena *a,
                                struct json_val *out, struct sv *rest, struct vic_err *err);

bool json_present(struct json_val v);        /* there, and not null */
enum json_type json_type(struct json_val v); /* absent gives JSON_NULL */
size_t json_count(struct json_val v);        /* elements of an array, members of an object */
struct sv json_raw(struct json_val v);       /* the value's text, strings with their quotes */

/* Members: the last of a repeated key wins, as in Go.  json_get_nocase matches as Go's decoder
 * does for a struct's field: ASCII case-insensitive (Docker clients rely on it). */
struct json_val json_get(struct json_val object, const char *key);
struct json_val json_get_nocase(struct json_val object, const char *key);

/* Iteration: for (struct json_iter i = json_iter(v); json_next(&i);) use i.key (objects; decoded
 * into the arena given to json_parse, NUL-terminated) and i.val. */
struct json_iter {
    struct json_val of;
    struct sv key;
    struct json_val val;
    unsigned next, left;
};
struct json_iter json_iter(struct json_val v);
bool json_next(struct json_iter *i);

/* Readers.  json_read_* return false, and leave '*out' alone, when the value is absent, null, of
 * another type or out of range; json_str, json_i64, json_bool then give their default.  A decoded
 * string lives in the document's arena and is NUL-terminated; a string that holds NUL (\u0000)
 * fails in json_read_str. */
bool json_read_str(struct json_val v, const char **out);
bool json_read_sv(struct json_val v, struct sv *out); /* may hold NUL */
bool json_read_bool(struct json_val v, bool *out);
bool json_read_i64(struct json_val v, int64_t *out); /* also 1e3 and 5.0 when integral */
bool json_read_u64(struct json_val v, uint64_t *out);
bool json_read_double(struct json_val v, double *out);
const char *json_str(struct json_val v, const char *otherwise);
int64_t json_i64(struct json_val v, int64_t otherwise);
bool json_bool(struct json_val v, bool otherwise);

/* Writing.  'key' NULL inside arrays and at the top.  Strings are any bytes: invalid UTF-8 becomes
 * \ufffd; numbers that are not finite become null; nesting beyond JSON_MAX_DEPTH or a close too
 * many sets the buffer's 'failed'; < > & are written as they are (Go escapes them as \u003c,
 * \u003e, \u0026 by default: set html for byte-equality with Docker's answers). */
struct json_writer {
    struct buf *out;
    bool html;
    unsigned depth;
    bool comma[JSON_MAX_DEPTH];
};
struct json_writer json_writer(struct buf *out);
void json_open(struct json_writer *w, const char *key, char bracket);     /* '{' or '[' */
void json_close(struct json_writer *w, char bracket);                     /* '}' or ']' */
void json_add_str(struct json_writer *w, const char *key, const char *s); /* NULL writes null */
void json_add_sv(struct json_writer *w, const char *key, struct sv s);
void json_add_i64(struct json_writer *w, const char *key, int64_t n);
void json_add_u64(struct json_writer *w, const char *key, uint64_t n);
void json_add_double(struct json_writer *w, const char *key, double n);
void json_add_bool(struct json_writer *w, const char *key, bool b);
void json_add_null(struct json_writer *w, const char *key);
void json_add_raw(struct json_writer *w, const char *key, struct sv text); /* trusted JSON */
void json_add_time(struct json_writer *w, const char *key, int64_t ns);    /* RFC3339Nano, UTC */

/* Only the string, with quotes. */
void json_quote(struct buf *out, struct sv s, bool html);

#endif
