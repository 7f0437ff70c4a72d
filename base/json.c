/* Reading JSON: see json.h.
 *
 * Two passes.  jsmn finds tokens but knows little grammar (it takes "[1,,2]", raw control
 * characters, "1.2.3"), so our scanner goes first: recursive descent over RFC 8259, bounded in
 * depth, that finds where the first value ends and counts its tokens.  Then jsmn runs over exactly
 * that text with exactly that many tokens and cannot fail.  'past[i]' is the token behind the
 * subtree of token i, so that a cursor steps over a value in one move.
 *
 * Token layout (jsmn): a container is followed by its members; an object's key is a string of size
 * 1 whose only child is the value. */
#include "json.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

struct json_doc {
    struct sv text; /* the first value, nothing around it */
    struct arena *arena;
    jsmntok_t *tok;
    unsigned *past;
    unsigned count;
};

/* ---- the grammar ---- */

struct scan {
    struct sv s;
    size_t at;
    unsigned tokens, max_tokens, depth;
    struct vic_err *err;
};

static bool scan_value(struct scan *sc);

static bool expected(struct scan *sc, const char *what)
{
    return vic_fail(sc->err, VIC_INVALID, 0, "JSON at byte %zu: expected %s", sc->at, what);
}

/* The byte here, or -1 at the end. */
static int peek(const struct scan *sc)
{
    return sc->at < sc->s.len ? (unsigned char)sc->s.p[sc->at] : -1;
}

static bool accept(struct scan *sc, char c)
{
    if (peek(sc) != (unsigned char)c)
        return false;
    sc->at++;
    return true;
}

static void skip_blanks(struct scan *sc)
{
    for (int c = peek(sc); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(sc))
        sc->at++;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool scan_digits(struct scan *sc)
{
    if (!is_digit(peek(sc)))
        return expected(sc, "a digit");
    while (is_digit(peek(sc)))
        sc->at++;
    return true;
}

static bool scan_number(struct scan *sc)
{
    accept(sc, '-');
    if (!accept(sc, '0') && !scan_digits(sc))
        return false;
    if (accept(sc, '.') && !scan_digits(sc))
        return false;
    if (!accept(sc, 'e') && !accept(sc, 'E'))
        return true;
    if (!accept(sc, '+'))
        accept(sc, '-');
    return scan_digits(sc);
}

static bool scan_escape(struct scan *sc)
{
    int c = peek(sc);
    if (c <= 0 || !strchr("\"\\/bfnrtu", c))
        return expected(sc, "an escape, one of \" \\ / b f n r t u");
    sc->at++;
    if (c != 'u')
        return true;
    uint64_t unit;
    struct sv hex = sv_sub(sc->s, sc->at, 4);
    if (hex.len < 4 || !sv_hex_to_u64(hex, &unit))
        return expected(sc, "four hex digits");
    sc->at += 4;
    return true;
}

static bool scan_string(struct scan *sc)
{
    if (!accept(sc, '"'))
        return expected(sc, "a string");
    while (!accept(sc, '"')) {
        int c = peek(sc);
        if (c < 0)
            return expected(sc, "the end of a string");
        if (c < 0x20)
            return expected(sc, "no bare control character in a string");
        if (c == '\\') {
            sc->at++;
            if (!scan_escape(sc))
                return false;
            continue;
        }
        size_t len = c < 0x80 ? 1 : sv_utf8_len(sv_sub(sc->s, sc->at, 4));
        if (!len)
            return expected(sc, "UTF-8");
        sc->at += len;
    }
    return true;
}

static bool scan_word(struct scan *sc, struct sv word)
{
    if (!sv_eq(sv_sub(sc->s, sc->at, word.len), word))
        return expected(sc, "a value");
    sc->at += word.len;
    return true;
}

static bool count_token(struct scan *sc)
{
    if (++sc->tokens > sc->max_tokens)
        return vic_fail(sc->err, VIC_TOO_LARGE, 0, "JSON at byte %zu: more than %u values", sc->at,
                        sc->max_tokens);
    return true;
}

static bool scan_member(struct scan *sc)
{
    if (!count_token(sc) || !scan_string(sc))
        return false;
    skip_blanks(sc);
    if (!accept(sc, ':'))
        return expected(sc, "':'");
    skip_blanks(sc);
    return scan_value(sc);
}

static bool scan_container(struct scan *sc, char close, bool (*item)(struct scan *))
{
    if (++sc->depth > JSON_MAX_DEPTH)
        return vic_fail(sc->err, VIC_TOO_LARGE, 0, "JSON at byte %zu: nested more than %d deep",
                        sc->at, JSON_MAX_DEPTH);
    sc->at++;
    skip_blanks(sc);
    bool more = !accept(sc, close);
    while (more) {
        if (!item(sc))
            return false;
        skip_blanks(sc);
        more = accept(sc, ',');
        skip_blanks(sc);
        if (!more && !accept(sc, close))
            return expected(sc, close == '}' ? "',' or '}'" : "',' or ']'");
    }
    sc->depth--;
    return true;
}

static bool scan_value(struct scan *sc)
{
    if (!count_token(sc))
        return false;
    switch (peek(sc)) {
    case '{':
        return scan_container(sc, '}', scan_member);
    case '[':
        return scan_container(sc, ']', scan_value);
    case '"':
        return scan_string(sc);
    case 't':
        return scan_word(sc, SV("true"));
    case 'f':
        return scan_word(sc, SV("false"));
    case 'n':
        return scan_word(sc, SV("null"));
    default:
        if (peek(sc) == '-' || is_digit(peek(sc)))
            return scan_number(sc);
        return expected(sc, "a value");
    }
}

/* ---- the document ---- */

/* jsmn over text that the scanner has accepted. */
static bool make_tokens(struct json_doc *d)
{
    if (d->text.p[0] != '{' && d->text.p[0] != '[' && d->text.p[0] != '"') {
        /* jsmn wants something behind a bare word or number. */
        d->tok[0] = (jsmntok_t){JSMN_PRIMITIVE, 0, (int)d->text.len, 0, -1};
        return d->count == 1;
    }
    jsmn_parser p;
    jsmn_init(&p);
    return jsmn_parse(&p, d->text.p, d->text.len, d->tok, d->count) == (int)d->count;
}

/* Children stand behind their parents, so one pass from the end knows every subtree's end. */
static void link_past(struct json_doc *d)
{
    for (unsigned i = d->count; i-- > 0;) {
        if (!d->past[i])
            d->past[i] = i + 1;
        int parent = d->tok[i].parent;
        if (parent >= 0 && d->past[parent] < d->past[i])
            d->past[parent] = d->past[i];
    }
}

bool json_parse_first(struct sv text, unsigned max_tokens, struct arena *a, struct json_val *out,
                      struct sv *rest, struct vic_err *err)
{
    struct scan sc = {
        .s = text, .max_tokens = max_tokens ? max_tokens : JSON_MAX_TOKENS, .err = err};
    if (text.len >= INT_MAX)
        return vic_fail(err, VIC_TOO_LARGE, 0, "JSON of %zu bytes", text.len);
    skip_blanks(&sc);
    size_t start = sc.at;
    if (!scan_value(&sc))
        return false;
    struct json_doc *d = ARENA_NEW(a, struct json_doc);
    d->text = sv_sub(text, start, sc.at - start);
    d->arena = a;
    d->count = sc.tokens;
    d->tok = ARENA_ARRAY(a, jsmntok_t, d->count);
    d->past = ARENA_ARRAY(a, unsigned, d->count);
    if (!make_tokens(d))
        return vic_fail(err, VIC_INTERNAL, 0, "JSON: the tokeniser and the scanner disagree");
    link_past(d);
    *out = (struct json_val){d, 0};
    *rest = sv_sub(text, sc.at, text.len);
    return true;
}

bool json_parse(struct sv text, unsigned max_tokens, struct arena *a, struct json_val *out,
                struct vic_err *err)
{
    struct sv rest = {NULL, 0};
    struct json_val v;
    if (!json_parse_first(text, max_tokens, a, &v, &rest, err))
        return false;
    struct scan sc = {.s = text, .at = text.len - rest.len, .err = err};
    skip_blanks(&sc);
    if (sc.at < text.len)
        return expected(&sc, "nothing after the value");
    *out = v;
    return true;
}

/* ---- cursors ---- */

static const jsmntok_t *token(struct json_val v)
{
    return v.doc ? &v.doc->tok[v.at] : NULL;
}

/* What jsmn marks: strings without their quotes. */
static struct sv inner(struct json_val v)
{
    const jsmntok_t *t = token(v);
    return t ? sv_sub(v.doc->text, (size_t)t->start, (size_t)(t->end - t->start))
             : (struct sv){NULL, 0};
}

enum json_type json_type(struct json_val v)
{
    const jsmntok_t *t = token(v);
    if (!t)
        return JSON_NULL;
    if (t->type == JSMN_OBJECT)
        return JSON_OBJECT;
    if (t->type == JSMN_ARRAY)
        return JSON_ARRAY;
    if (t->type == JSMN_STRING)
        return JSON_STRING;
    char c = v.doc->text.p[t->start];
    return c == 'n' ? JSON_NULL : c == 't' || c == 'f' ? JSON_BOOL : JSON_NUMBER;
}

bool json_present(struct json_val v)
{
    return json_type(v) != JSON_NULL;
}

size_t json_count(struct json_val v)
{
    enum json_type type = json_type(v);
    return type == JSON_ARRAY || type == JSON_OBJECT ? (size_t)token(v)->size : 0;
}

struct sv json_raw(struct json_val v)
{
    struct sv s = inner(v);
    return json_type(v) == JSON_STRING ? sv_make(s.p - 1, s.len + 2) : s;
}

struct json_iter json_iter(struct json_val v)
{
    return (struct json_iter){.of = v, .next = v.at + 1, .left = (unsigned)json_count(v)};
}

/* As json_next, without the key's text: '*key' is its cursor. */
static bool step(struct json_iter *i, struct json_val *key)
{
    if (!i->left)
        return false;
    i->left--;
    *key = (struct json_val){i->of.doc, i->next};
    i->val = *key;
    if (json_type(i->of) == JSON_OBJECT)
        i->val.at++;
    i->next = i->of.doc->past[i->next];
    return true;
}

bool json_next(struct json_iter *i)
{
    struct json_val key;
    if (!step(i, &key))
        return false;
    i->key = (struct sv){NULL, 0};
    return json_type(i->of) != JSON_OBJECT || json_read_sv(key, &i->key);
}

/* ---- strings ---- */

static uint32_t take_unit(struct sv *s)
{
    uint64_t unit = 0;
    sv_hex_to_u64(sv_sub(*s, 2, 4), &unit);
    *s = sv_sub(*s, 6, s->len);
    return (uint32_t)unit;
}

/* One \uXXXX, or two that make a surrogate pair; a lone half is U+FFFD, as in Go. */
static uint32_t take_code_point(struct sv *s)
{
    uint32_t hi = take_unit(s);
    if (hi < 0xD800 || hi > 0xDFFF)
        return hi;
    struct sv peeked = *s;
    if (hi > 0xDBFF || !sv_starts(peeked, SV("\\u")))
        return 0xFFFD;
    uint32_t lo = take_unit(&peeked);
    if (lo < 0xDC00 || lo > 0xDFFF)
        return 0xFFFD;
    *s = peeked;
    return 0x10000 + ((hi - 0xD800) << 10) + (lo - 0xDC00);
}

static size_t put_utf8(uint32_t c, char out[4])
{
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(len == 1 ? c : lead[len] | c);
    return len;
}

/* Takes one character off the head of a checked string's inside; at most 4 bytes come of it. */
static size_t take_char(struct sv *s, char out[4])
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (s->p[0] != '\\') {
        out[0] = s->p[0];
        *s = sv_sub(*s, 1, s->len);
        return 1;
    }
    if (s->p[1] == 'u')
        return put_utf8(take_code_point(s), out);
    out[0] = values[strchr(names, s->p[1]) - names];
    *s = sv_sub(*s, 2, s->len);
    return 1;
}

static bool same_byte(char a, char b, bool nocase)
{
    return nocase ? sv_eq_nocase(sv_make(&a, 1), sv_make(&b, 1)) : a == b;
}

/* Compares without decoding into memory: a look-up must not cost an allocation per member. */
static bool key_is(struct sv raw, struct sv want, bool nocase)
{
    if (sv_find(raw, '\\') < 0)
        return nocase ? sv_eq_nocase(raw, want) : sv_eq(raw, want);
    while (raw.len) {
        char c[4];
        size_t n = take_char(&raw, c);
        for (size_t i = 0; i < n; i++, want = sv_sub(want, 1, want.len))
            if (!want.len || !same_byte(c[i], want.p[0], nocase))
                return false;
    }
    return !want.len;
}

static struct json_val find(struct json_val object, const char *key, bool nocase)
{
    struct json_val found = {0}, at;
    if (json_type(object) != JSON_OBJECT)
        return found;
    struct sv want = sv_of(key);
    for (struct json_iter i = json_iter(object); step(&i, &at);)
        if (key_is(inner(at), want, nocase))
            found = i.val;
    return found;
}

struct json_val json_get(struct json_val object, const char *key)
{
    return find(object, key, false);
}

struct json_val json_get_nocase(struct json_val object, const char *key)
{
    return find(object, key, true);
}

bool json_read_sv(struct json_val v, struct sv *out)
{
    if (json_type(v) != JSON_STRING)
        return false;
    struct sv raw = inner(v);
    char *text = arena_alloc(v.doc->arena, raw.len + 1); /* an escape is never shorter */
    size_t len = 0;
    while (raw.len) {
        char c[4];
        size_t n = take_char(&raw, c);
        memcpy(text + len, c, n);
        len += n;
    }
    *out = sv_make(text, len);
    return true;
}

bool json_read_str(struct json_val v, const char **out)
{
    struct sv s;
    if (!json_read_sv(v, &s) || sv_find(s, '\0') >= 0)
        return false;
    *out = s.p;
    return true;
}

const char *json_str(struct json_val v, const char *otherwise)
{
    const char *s;
    return json_read_str(v, &s) ? s : otherwise;
}

/* ---- numbers and words ---- */

bool json_read_bool(struct json_val v, bool *out)
{
    if (json_type(v) != JSON_BOOL)
        return false;
    *out = inner(v).p[0] == 't';
    return true;
}

bool json_bool(struct json_val v, bool otherwise)
{
    bool b;
    return json_read_bool(v, &b) ? b : otherwise;
}

/* A number's parts; the value is  digits x 10^exp, digits read with 'whole' and 'part' joined. */
struct decimal {
    bool minus;
    struct sv whole, part; /* before and behind the point */
    long exp;              /* clamped: beyond it nothing fits 64 bits anyway */
};

/* False when 'v' is no number. */
static bool split_number(struct json_val v, struct decimal *out)
{
    struct sv s = inner(v);
    if (json_type(v) != JSON_NUMBER || !s.p)
        return false;
    enum { FAR = 10000000 };
    struct decimal d = {.minus = s.p[0] == '-'};
    struct sv rest = d.minus ? sv_sub(s, 1, s.len) : s;
    ptrdiff_t e = sv_find(rest, 'e') >= 0 ? sv_find(rest, 'e') : sv_find(rest, 'E');
    if (e >= 0) {
        struct sv exp = sv_sub(rest, (size_t)e + 1, rest.len);
        rest = sv_sub(rest, 0, (size_t)e);
        bool down = exp.p[0] == '-';
        if (down || exp.p[0] == '+')
            exp = sv_sub(exp, 1, exp.len);
        uint64_t n = 0;
        if (!sv_to_u64(exp, &n) || n > FAR)
            n = FAR;
        d.exp = down ? -(long)n : (long)n;
    }
    d.whole = sv_cut(&rest, '.');
    d.part = rest;
    *out = d;
    return true;
}

/* The magnitude, exactly, when it is a whole number below 2^64. */
static bool whole_number(const struct decimal *d, uint64_t *out)
{
    size_t count = d->whole.len + d->part.len;
    long point = (long)d->whole.len + d->exp; /* digits from here on must be zeros */
    uint64_t n = 0;
    for (size_t i = 0; i < count || (n && (long)i < point); i++) {
        char c = i < d->whole.len ? d->whole.p[i] : i < count ? d->part.p[i - d->whole.len] : '0';
        if ((long)i >= point) {
            if (c != '0')
                return false;
        } else if (__builtin_mul_overflow(n, 10, &n) ||
                   __builtin_add_overflow(n, (uint64_t)(c - '0'), &n)) {
            return false;
        }
    }
    *out = n;
    return true;
}

bool json_read_u64(struct json_val v, uint64_t *out)
{
    uint64_t n;
    struct decimal d;
    if (!split_number(v, &d) || !whole_number(&d, &n) || (d.minus && n))
        return false;
    *out = n;
    return true;
}

bool json_read_i64(struct json_val v, int64_t *out)
{
    uint64_t n;
    struct decimal d;
    if (!split_number(v, &d) || !whole_number(&d, &n) || n > (uint64_t)INT64_MAX + d.minus)
        return false;
    *out = d.minus ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

int64_t json_i64(struct json_val v, int64_t otherwise)
{
    int64_t n;
    return json_read_i64(v, &n) ? n : otherwise;
}

bool json_read_double(struct json_val v, double *out)
{
    if (json_type(v) != JSON_NUMBER)
        return false;
    double n = strtod(arena_sv(v.doc->arena, inner(v)), NULL);
    if (!isfinite(n))
        return false;
    *out = n;
    return true;
}
