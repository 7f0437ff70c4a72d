/* Writing JSON: see json.h.  Bytes come out as Go's encoding/json makes them (its string escapes
 * and number format), because clients and tests compare our answers with Docker's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "json.h"

struct json_writer json_writer(struct buf *out)
{
    return (struct json_writer){.out = out};
}

/* The comma before, and the key of, the next value. */
static void begin(struct json_writer *w, const char *key)
{
    if (w->depth) {
        if (w->comma[w->depth - 1])
            buf_add_c(w->out, ',');
        w->comma[w->depth - 1] = true;
    }
    if (key) {
        json_quote(w->out, sv_of(key), w->html);
        buf_add_c(w->out, ':');
    }
}

void json_open(struct json_writer *w, const char *key, char bracket)
{
    begin(w, key);
    if (w->depth == JSON_MAX_DEPTH) {
        w->out->failed = true;
        return;
    }
    buf_add_c(w->out, bracket);
    w->comma[w->depth++] = false;
}

void json_close(struct json_writer *w, char bracket)
{
    if (!w->depth) {
        w->out->failed = true;
        return;
    }
    w->depth--;
    buf_add_c(w->out, bracket);
}

/* The length of the character at the head of 's'; '*special' when it cannot stand for itself. */
static size_t look(struct sv s, bool html, bool *special)
{
    unsigned char c = (unsigned char)s.p[0];
    size_t len = sv_utf8_len(s);
    *special = c < 0x20 || c == '"' || c == '\\' || (html && (c == '<' || c == '>' || c == '&')) ||
               !len || sv_starts(s, SV("\xE2\x80\xA8")) || sv_starts(s, SV("\xE2\x80\xA9"));
    return len ? len : 1;
}

/* U+2028 and U+2029 end lines in JavaScript, so Go escapes them always. */
static void quote_special(struct buf *out, struct sv s)
{
    static const char names[] = "\"\\\n\r\t", values[] = "\"\\nrt";
    unsigned char c = (unsigned char)s.p[0];
    const char *hit = c ? strchr(names, c) : NULL;
    if (hit)
        buf_addf(out, "\\%c", values[hit - names]);
    else if (c < 0x80)
        buf_addf(out, "\\u%04x", c);
    else if (sv_utf8_len(s))
        buf_addf(out, "\\u%04x", 0x2028 + ((unsigned char)s.p[2] & 1));
    else
        buf_add_str(out, "\\ufffd");
}

/* How many bytes at the head are ASCII that stands for itself: nearly all there ever is. */
static size_t plain_ascii(struct sv s, bool html)
{
    size_t n = 0;
    for (; n < s.len; n++) {
        unsigned char c = (unsigned char)s.p[n];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\' ||
            (html && (c == '<' || c == '>' || c == '&')))
            break;
    }
    return n;
}

void json_quote(struct buf *out, struct sv s, bool html)
{
    buf_add_c(out, '"');
    while (s.len) {
        size_t plain = plain_ascii(s, html), len = 0;
        bool special = false;
        while (plain < s.len && !special) {
            len = look(sv_sub(s, plain, 4), html, &special);
            plain += special ? 0 : len;
        }
        buf_add_sv(out, sv_sub(s, 0, plain));
        s = sv_sub(s, plain, s.len);
        if (special) {
            quote_special(out, sv_sub(s, 0, len));
            s = sv_sub(s, len, s.len);
        }
    }
    buf_add_c(out, '"');
}

void json_add_null(struct json_writer *w, const char *key)
{
    json_add_raw(w, key, SV("null"));
}

void json_add_sv(struct json_writer *w, const char *key, struct sv s)
{
    begin(w, key);
    json_quote(w->out, s, w->html);
}

void json_add_str(struct json_writer *w, const char *key, const char *s)
{
    if (s)
        json_add_sv(w, key, sv_of(s));
    else
        json_add_null(w, key);
}

void json_add_i64(struct json_writer *w, const char *key, int64_t n)
{
    begin(w, key);
    buf_add_i64(w->out, n);
}

void json_add_u64(struct json_writer *w, const char *key, uint64_t n)
{
    begin(w, key);
    buf_add_u64(w->out, n);
}

/* The fewest digits that read back as the same number; plain from 1e-6 to 1e21, else with an
 * exponent of no leading zero: Go's encoding/json, floatEncoder. */
static void add_number(struct buf *out, double n)
{
    char text[40];
    int digits = 0;
    do
        snprintf(text, sizeof text, "%.*e", digits, n);
    while (strtod(text, NULL) != n && ++digits < 17);
    const char *e = strchr(text, 'e');
    long exp = e ? strtol(e + 1, NULL, 10) : 0;
    if (n != 0 && (exp < -6 || exp >= 21)) {
        buf_add(out, text, (size_t)(e - text));
        buf_addf(out, "e%c%ld", exp < 0 ? '-' : '+', labs(exp));
        return;
    }
    buf_addf(out, "%.*f", digits > exp ? (int)(digits - exp) : 0, n);
}

void json_add_double(struct json_writer *w, const char *key, double n)
{
    begin(w, key);
    if (isfinite(n))
        add_number(w->out, n);
    else
        buf_add_str(w->out, "null");
}

void json_add_bool(struct json_writer *w, const char *key, bool b)
{
    json_add_raw(w, key, b ? SV("true") : SV("false"));
}

void json_add_raw(struct json_writer *w, const char *key, struct sv text)
{
    begin(w, key);
    buf_add_sv(w->out, text);
}

void json_add_time(struct json_writer *w, const char *key, int64_t ns)
{
    char text[RFC3339_SIZE];
    json_add_str(w, key, rfc3339(ns, 9, true, text));
}
