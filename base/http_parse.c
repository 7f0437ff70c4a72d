/* HTTP/1.1 heads and bodies out of bytes (RFC 9112).
 *
 * Heads go through libhttp-parser, which knows methods, versions, Connection and Upgrade.  Debian
 * builds it in its lenient mode: "Foo : bar", bare line feeds, folded lines and bytes above 127
 * pass, and between chunks it skips whatever stands in the place of CR LF.  Each of these is a way
 * to make us and a proxy disagree about where a request ends.  So a head is first checked here,
 * line by line, and what frames a body (Content-Length, Transfer-Encoding, chunks) is read by the
 * strict code below.
 *
 * A head is parsed only when it is complete and in one piece, so that the parser's callbacks give
 * whole views into it. */
#include <stdlib.h>

#include <http_parser.h>

#include "http_priv.h"

enum { MAX_OVERHEAD = 8 * 1024 }; /* chunk extensions and trailers */

/* ---- heads ---- */

size_t http_head_end(struct sv in, size_t *scan)
{
    size_t at = *scan;
    const char *nl;
    while (at < in.len && (nl = memchr(in.p + at, '\n', in.len - at))) {
        size_t next = (size_t)(nl - in.p) + 1;
        /* A bare line feed ends a line here, so that the check below sees and refuses it. */
        if (next < in.len && in.p[next] == '\n')
            return next + 1;
        if (next + 1 < in.len && in.p[next] == '\r' && in.p[next + 1] == '\n')
            return next + 2;
        if (next + 1 >= in.len) {
            *scan = next - 1; /* undecided: look at this line's end again */
            return 0;
        }
        at = next;
    }
    *scan = in.len;
    return 0;
}

static bool is_token(char c)
{
    /* RFC 9110 section 5.6.2 */
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool field_line_ok(struct sv line)
{
    ptrdiff_t colon = sv_find(line, ':');
    if (colon <= 0)
        return false;
    for (ptrdiff_t i = 0; i < colon; i++)
        if (!is_token(line.p[i]))
            return false; /* a blank at the start would be a folded line */
    for (size_t i = (size_t)colon; i < line.len; i++) {
        unsigned char c = (unsigned char)line.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool request_line_ok(struct sv line)
{
    size_t blanks = 0;
    for (size_t i = 0; i < line.len; i++) {
        unsigned char c = (unsigned char)line.p[i];
        if (c < 0x20 || c > 0x7e || c == '#')
            return false;
        blanks += c == ' ';
    }
    return blanks == 2;
}

static bool lines_ok(struct sv raw)
{
    bool first = true;
    while (raw.len) {
        struct sv line = sv_cut(&raw, '\n');
        if (!line.len || line.p[line.len - 1] != '\r')
            return false;
        line.len--;
        if (!line.len)
            return raw.len == 0 && !first; /* the empty line at the end */
        if (first ? !request_line_ok(line) : !field_line_ok(line))
            return false;
        first = false;
    }
    return false;
}

struct collect {
    struct http_head *h;
    struct sv target;
    bool too_many;
};

static int on_url(http_parser *p, const char *at, size_t len)
{
    struct collect *c = p->data;
    c->target = sv_make(at, len);
    return 0;
}

static int on_field(http_parser *p, const char *at, size_t len)
{
    struct collect *c = p->data;
    c->too_many = c->h->count == HTTP_MAX_HEADERS;
    if (c->too_many)
        return 1;
    c->h->headers[c->h->count++].name = sv_make(at, len);
    return 0;
}

static int on_value(http_parser *p, const char *at, size_t len)
{
    struct collect *c = p->data;
    if (!c->h->count)
        return 1;
    c->h->headers[c->h->count - 1].value = sv_trim(sv_make(at, len));
    return 0;
}

static int refuse(struct vic_err *err, int status, const char *text)
{
    vic_fail(err, VIC_INVALID, 0, "%s", text);
    return status;
}

/* origin-form, absolute-form, or the asterisk of OPTIONS (RFC 9112 section 3.2). */
static bool split_target(struct http_head *h, struct sv target)
{
    if (sv_is(target, "*") && strcmp(h->method, "OPTIONS") == 0) {
        h->path = target;
        return true;
    }
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        if (sv_starts(target, sv_of(schemes[i]))) {
            target = sv_sub(target, strlen(schemes[i]), SIZE_MAX);
            ptrdiff_t slash = sv_find(target, '/');
            target = slash < 0 ? SV("/") : sv_sub(target, (size_t)slash, SIZE_MAX);
            break;
        }
    }
    if (!target.len || target.p[0] != '/' || memmem(target.p, target.len, "%00", 3))
        return false;
    h->path = sv_cut(&target, '?');
    h->query = target;
    return true;
}

struct framing {
    unsigned hosts, lengths, encodings;
    struct sv length, encoding, expect;
};

static void look_at_fields(struct http_head *h, struct framing *f)
{
    for (size_t i = 0; i < h->count; i++) {
        struct sv name = h->headers[i].name, value = h->headers[i].value;
        if (sv_eq_nocase(name, SV("host"))) {
            f->hosts++;
        } else if (sv_eq_nocase(name, SV("content-length"))) {
            f->lengths++;
            f->length = value;
        } else if (sv_eq_nocase(name, SV("transfer-encoding"))) {
            f->encodings++;
            f->encoding = value;
        } else if (sv_eq_nocase(name, SV("expect"))) {
            f->expect = value;
        } else if (sv_eq_nocase(name, SV("upgrade"))) {
            h->upgrade_to = sv_trim(sv_cut(&value, ','));
        }
    }
}

static int check_framing(struct http_head *h, struct vic_err *err)
{
    struct framing f = {0};
    look_at_fields(h, &f);
    if (f.hosts > 1 || (f.hosts == 0 && !h->http10))
        return refuse(err, 400, "missing or repeated Host header");
    if (f.lengths + f.encodings > 1)
        return refuse(err, 400, "more than one of Content-Length and Transfer-Encoding");
    if (f.lengths && !sv_to_u64(f.length, &h->content_length))
        return refuse(err, 400, "bad Content-Length");
    if (h->content_length > INT64_MAX)
        return refuse(err, 413, "request body is too large");
    if (f.encodings && !sv_eq_nocase(f.encoding, SV("chunked")))
        return refuse(err, 501, "unsupported Transfer-Encoding");
    if (f.encodings && h->http10)
        return refuse(err, 400, "Transfer-Encoding in HTTP/1.0");
    h->chunked = f.encodings != 0;
    h->expect_continue = sv_eq_nocase(f.expect, SV("100-continue")) && !h->http10;
    h->expect_other = f.expect.len && !sv_eq_nocase(f.expect, SV("100-continue"));
    return 0;
}

static int run_parser(struct http_head *h, struct sv raw, struct collect *c, struct vic_err *err)
{
    http_parser p;
    http_parser_settings on;
    http_parser_settings_init(&on);
    on.on_url = on_url;
    on.on_header_field = on_field;
    on.on_header_value = on_value;
    http_parser_init(&p, HTTP_REQUEST);
    p.data = c;
    size_t n = http_parser_execute(&p, &on, raw.p, raw.len);
    enum http_errno e = HTTP_PARSER_ERRNO(&p);
    if (c->too_many)
        return refuse(err, 431, "too many headers");
    if (e == HPE_INVALID_METHOD)
        return refuse(err, 501, "unknown method");
    if (e != HPE_OK || n != raw.len)
        return refuse(err, 400, "malformed request head");
    if (p.http_major != 1 || p.http_minor > 1)
        return refuse(err, 505, "HTTP version not supported");
    if (p.method == HTTP_CONNECT)
        return refuse(err, 501, "CONNECT is not supported");
    h->method = http_method_str((enum http_method)p.method);
    h->http10 = p.http_minor == 0;
    h->keep_alive = http_should_keep_alive(&p) != 0;
    h->upgrade = p.upgrade != 0;
    return 0;
}

int http_head_parse(struct arena *a, struct sv raw, struct http_head *out, struct vic_err *err)
{
    struct http_header found[HTTP_MAX_HEADERS] = {0};
    struct collect c = {.h = out};
    *out = (struct http_head){.headers = found};
    if (!lines_ok(raw))
        return refuse(err, 400, "malformed request head");
    int status = run_parser(out, raw, &c, err);
    if (!status && !split_target(out, c.target))
        status = refuse(err, 400, "bad request target");
    if (!status)
        status = check_framing(out, err);
    out->headers = status ? NULL : arena_copy(a, found, out->count * sizeof found[0]);
    return status;
}

/* ---- bodies ---- */

void http_body_begin(struct http_body *b, const struct http_head *h)
{
    *b = (struct http_body){.state = BODY_DONE};
    if (h->chunked) {
        b->state = BODY_SIZE;
    } else if (h->content_length) {
        b->state = BODY_PLAIN;
        b->left = h->content_length;
    }
}

static void take_data(struct http_body *b, struct sv *in, struct sv *data)
{
    size_t n = in->len < b->left ? in->len : (size_t)b->left;
    *data = sv_make(in->p, n);
    *in = sv_make(in->p + n, in->len - n);
    b->left -= n;
    if (!b->left)
        b->state = b->state == BODY_PLAIN ? BODY_DONE : BODY_DATA_CR;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool size_byte(struct http_body *b, char c)
{
    int v = hex_value(c);
    if (v >= 0 && b->digits < 15) {
        b->left = b->left << 4 | (unsigned)v;
        b->digits++;
        return true;
    }
    b->state = c == ';' ? BODY_EXT : BODY_SIZE_LF;
    return b->digits > 0 && (c == ';' || c == '\r');
}

static bool expect_byte(struct http_body *b, char c, char want, int next)
{
    b->state = next;
    return c == want;
}

/* One byte outside of data. */
static bool frame_byte(struct http_body *b, char c)
{
    bool text = (unsigned char)c >= 0x20 || c == '\t';
    switch (b->state) {
    case BODY_SIZE:
        return size_byte(b, c);
    case BODY_EXT:
        if (c == '\r')
            b->state = BODY_SIZE_LF;
        return (text || c == '\r') && b->overhead++ < MAX_OVERHEAD;
    case BODY_SIZE_LF:
        b->digits = 0;
        return expect_byte(b, c, '\n', b->left ? BODY_DATA : BODY_TRAILER);
    case BODY_DATA_CR:
        return expect_byte(b, c, '\r', BODY_DATA_LF);
    case BODY_DATA_LF:
        return expect_byte(b, c, '\n', BODY_SIZE);
    case BODY_TRAILER:
        if (c == '\r')
            return expect_byte(b, c, '\r', BODY_END_LF);
        b->state = BODY_TRAILER_LINE;
        return is_token(c) && b->overhead++ < MAX_OVERHEAD;
    case BODY_TRAILER_LINE:
        if (c == '\r')
            b->state = BODY_TRAILER_LF;
        return (text || c == '\r') && b->overhead++ < MAX_OVERHEAD;
    case BODY_TRAILER_LF:
        return expect_byte(b, c, '\n', BODY_TRAILER);
    case BODY_END_LF:
        return expect_byte(b, c, '\n', BODY_DONE);
    case BODY_PLAIN:
    case BODY_DATA:
    case BODY_DONE:
        break;
    }
    return false;
}

bool http_body_step(struct http_body *b, struct sv *in, struct sv *data)
{
    *data = (struct sv){0};
    while (in->len && b->state != BODY_DONE && !data->len) {
        if (b->state == BODY_PLAIN || b->state == BODY_DATA) {
            take_data(b, in, data);
        } else {
            char c = in->p[0];
            *in = sv_make(in->p + 1, in->len - 1);
            if (!frame_byte(b, c))
                return false;
        }
    }
    return true;
}
