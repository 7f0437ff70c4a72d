/* Borrowed views: see sv.h. */
#include "sv.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Not strncasecmp: it ends at NUL and asks the locale. */
bool sv_eq_nocase(struct sv a, struct sv b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool sv_starts(struct sv s, struct sv prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}

bool sv_ends(struct sv s, struct sv suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.p + s.len - suffix.len, suffix.p, suffix.len) == 0);
}

int sv_cmp(struct sv a, struct sv b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c)
        return c;
    return a.len < b.len ? -1 : a.len > b.len;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct sv sv_trim(struct sv s)
{
    while (s.len && blank(s.p[0]))
        s.p++, s.len--;
    while (s.len && blank(s.p[s.len - 1]))
        s.len--;
    return s;
}

struct sv sv_sub(struct sv s, size_t from, size_t len)
{
    if (!s.p)
        return (struct sv){NULL, 0};
    if (from > s.len)
        from = s.len;
    if (len > s.len - from)
        len = s.len - from;
    return sv_make(s.p + from, len);
}

ptrdiff_t sv_find(struct sv s, char c)
{
    const char *hit = s.len ? memchr(s.p, c, s.len) : NULL;
    return hit ? hit - s.p : -1;
}

ptrdiff_t sv_rfind(struct sv s, char c)
{
    const char *hit = s.len ? memrchr(s.p, c, s.len) : NULL;
    return hit ? hit - s.p : -1;
}

struct sv sv_cut(struct sv *s, char c)
{
    ptrdiff_t at = sv_find(*s, c);
    struct sv head = *s;
    if (at < 0) {
        *s = (struct sv){NULL, 0};
        return head;
    }
    head.len = (size_t)at;
    s->p += at + 1;
    s->len -= (size_t)at + 1;
    return head;
}

bool sv_to_u64(struct sv s, uint64_t *out)
{
    uint64_t n = 0;
    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(s.p[i] - '0'), &n))
            return false;
    }
    *out = n;
    return true;
}

bool sv_to_i64(struct sv s, int64_t *out)
{
    bool minus = s.len && s.p[0] == '-';
    uint64_t n;
    if (!sv_to_u64(minus ? sv_sub(s, 1, s.len) : s, &n))
        return false;
    if (n > (uint64_t)INT64_MAX + minus)
        return false;
    *out = minus ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool sv_hex_to_u64(struct sv s, uint64_t *out)
{
    uint64_t n = 0;
    if (!s.len || s.len > 16)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        int d = hex_digit(s.p[i]);
        if (d < 0)
            return false;
        n = n << 4 | (unsigned)d;
    }
    *out = n;
    return true;
}

/* Unicode 15, table 3-7. */
size_t sv_utf8_len(struct sv text)
{
    const unsigned char *s = (const unsigned char *)text.p;
    if (!text.len)
        return 0;
    unsigned char c = s[0];
    if (c < 0x80)
        return 1;
    size_t len = c >= 0xC2 && c <= 0xDF   ? 2
                 : (c & 0xF0) == 0xE0     ? 3
                 : c >= 0xF0 && c <= 0xF4 ? 4
                                          : 0;
    if (!len || len > text.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) || (c == 0xF0 && s[1] < 0x90) ||
        (c == 0xF4 && s[1] > 0x8F))
        return 0;
    return len;
}

bool sv_is_utf8(struct sv s)
{
    while (s.len) {
        size_t n = sv_utf8_len(s);
        if (!n)
            return false;
        s = sv_sub(s, n, s.len);
    }
    return true;
}

void hex_encode(const void *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *b = bytes;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[b[i] >> 4];
        out[2 * i + 1] = digits[b[i] & 15];
    }
    out[2 * len] = '\0';
}

bool hex_decode(struct sv hex, void *out)
{
    unsigned char *b = out;
    if (hex.len % 2)
        return false;
    for (size_t i = 0; i < hex.len; i += 2) {
        int hi = hex_digit(hex.p[i]), lo = hex_digit(hex.p[i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        b[i / 2] = (unsigned char)(hi << 4 | lo);
    }
    return true;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(const void *bytes, size_t len, char *out)
{
    const unsigned char *b = bytes;
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)b[i] << 16 | (left > 1 ? (uint32_t)b[i + 1] << 8 : 0) |
                     (left > 2 ? b[i + 2] : 0);
        out[n++] = alphabet[v >> 18];
        out[n++] = alphabet[v >> 12 & 63];
        out[n++] = left > 1 ? alphabet[v >> 6 & 63] : '=';
        out[n++] = left > 2 ? alphabet[v & 63] : '=';
    }
    out[n] = '\0';
    return n;
}

static int base64_digit(char c)
{
    if (c == '-')
        c = '+';
    if (c == '_')
        c = '/';
    const char *hit = c ? strchr(alphabet, c) : NULL;
    return hit ? (int)(hit - alphabet) : -1;
}

ptrdiff_t base64_decode(struct sv text, void *out)
{
    unsigned char *b = out;
    ptrdiff_t n = 0;
    uint32_t v = 0;
    unsigned bits = 0;
    for (int pad = 0; pad < 2 && text.len && text.p[text.len - 1] == '='; pad++)
        text.len--;
    if (text.len % 4 == 1)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        int d = base64_digit(text.p[i]);
        if (d < 0)
            return -1;
        v = v << 6 | (unsigned)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            b[n++] = (unsigned char)(v >> bits);
        }
    }
    return n;
}
