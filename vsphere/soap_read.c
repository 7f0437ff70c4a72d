/* The parser: libxml2's pull reader underneath, descriptors above.
 *
 * Each read_ function starts with the reader on an element and ends with it on that element's end,
 * so loops over children are "while (next_child(...))".  The first failure sets r->failed and the
 * error; every step after it fails too, so that the walks need no checks of their own.
 *
 * Bounds: the input's size, the depth (recursion follows it), and memory: what a message makes in
 * the arena is at most 32 times its size and 1 MiB, since an element of five bytes can stand for a
 * struct of a thousand. */
#include "vsphere/soap.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>

#include <libxml/xmlreader.h>

#include "base/clock.h"

#include "vim_layout.h"

#define XSI_NS  (const xmlChar *)"http://www.w3.org/2001/XMLSchema-instance"
#define SOAP_NS "http://schemas.xmlsoap.org/soap/envelope/"

enum { MAX_FIELDS = 256 }; /* of one type with its bases */

struct reader {
    xmlTextReaderPtr xml;
    struct arena *a;
    size_t memory_end; /* the arena's total may not pass it */
    unsigned flags;
    bool failed;
    struct vic_err *err;
    struct buf text; /* scratch */
};

/* The element that the reader stands on. */
struct scope {
    int depth;
    bool empty;
};

static void fail(struct reader *r, enum vic_code code, const char *fmt, ...) VIC_PRINTF(3, 4);
static void fail(struct reader *r, enum vic_code code, const char *fmt, ...)
{
    if (r->failed)
        return;
    r->failed = true;
    va_list ap;
    va_start(ap, fmt);
    vic_vfail(r->err, code, 0, fmt, ap);
    va_end(ap);
}

static void on_xml_error(void *arg, xmlErrorPtr e)
{
    struct reader *r = arg;
    if (e->level != XML_ERR_FATAL)
        return; /* a prefix that was not declared is no reason to refuse */
    struct sv text = sv_trim(sv_of(e->message ? e->message : "?"));
    fail(r, VIC_PROTOCOL, "malformed XML in line %d: " SV_FMT, e->line, SV_ARG(text));
}

static bool charge(struct reader *r)
{
    if (r->a->total > r->memory_end)
        fail(r, VIC_TOO_LARGE, "message needs too much memory");
    return !r->failed;
}

/* On to the next node; false at the end and after a failure. */
static bool step(struct reader *r)
{
    if (r->failed)
        return false;
    int got = xmlTextReaderRead(r->xml);
    if (got < 0)
        fail(r, VIC_PROTOCOL, "malformed XML");
    if (got != 1 || r->failed)
        return false;
    int type = xmlTextReaderNodeType(r->xml);
    if (type == XML_READER_TYPE_DOCUMENT_TYPE || type == XML_READER_TYPE_ENTITY_REFERENCE)
        fail(r, VIC_PROTOCOL, "DTD or entity in a SOAP message");
    else if (xmlTextReaderDepth(r->xml) > SOAP_MAX_DEPTH)
        fail(r, VIC_TOO_LARGE, "message is nested too deeply");
    return !r->failed;
}

static struct scope enter(struct reader *r)
{
    return (struct scope){xmlTextReaderDepth(r->xml), xmlTextReaderIsEmptyElement(r->xml) == 1};
}

static bool next_child(struct reader *r, struct scope *s)
{
    if (s->empty)
        return false;
    while (step(r)) {
        int type = xmlTextReaderNodeType(r->xml), depth = xmlTextReaderDepth(r->xml);
        if (type == XML_READER_TYPE_END_ELEMENT && depth == s->depth)
            return false;
        if (type == XML_READER_TYPE_ELEMENT && depth == s->depth + 1)
            return true;
    }
    if (!r->failed)
        fail(r, VIC_PROTOCOL, "message ends within an element");
    return false;
}

static struct sv local_name(struct reader *r)
{
    return sv_of((const char *)xmlTextReaderConstLocalName(r->xml));
}

static void skip(struct reader *r)
{
    struct scope s = enter(r);
    while (next_child(r, &s))
        skip(r);
}

/* The element's text, borrowed until the next read; elements inside are passed over. */
static struct sv read_text(struct reader *r)
{
    struct scope s = enter(r);
    buf_reset(&r->text);
    while (!s.empty && step(r)) {
        int type = xmlTextReaderNodeType(r->xml), depth = xmlTextReaderDepth(r->xml);
        if (type == XML_READER_TYPE_END_ELEMENT && depth == s.depth)
            break;
        bool text = type == XML_READER_TYPE_TEXT || type == XML_READER_TYPE_CDATA ||
                    type == XML_READER_TYPE_WHITESPACE ||
                    type == XML_READER_TYPE_SIGNIFICANT_WHITESPACE;
        if (text && depth == s.depth + 1)
            buf_add_str(&r->text, (const char *)xmlTextReaderConstValue(r->xml));
    }
    return buf_sv(&r->text);
}

static const char *keep(struct reader *r, struct sv text)
{
    const char *copy = arena_sv(r->a, text);
    charge(r);
    return copy;
}

/* An attribute's value in the arena, or NULL; ns NULL = without namespace. */
static const char *attribute(struct reader *r, const char *name, const xmlChar *ns)
{
    xmlChar *value = ns ? xmlTextReaderGetAttributeNs(r->xml, (const xmlChar *)name, ns)
                        : xmlTextReaderGetAttribute(r->xml, (const xmlChar *)name);
    const char *copy = value ? keep(r, sv_of((const char *)value)) : NULL;
    xmlFree(value);
    return copy;
}

/* xsi:type without its prefix; p NULL when absent. */
static struct sv actual_type(struct reader *r)
{
    struct sv type = sv_trim(sv_of(attribute(r, "type", XSI_NS)));
    ptrdiff_t colon = sv_rfind(type, ':');
    return colon < 0 ? type : sv_sub(type, (size_t)colon + 1, type.len);
}

static bool is_nil(struct reader *r)
{
    const char *nil = attribute(r, "nil", XSI_NS);
    return nil && (sv_is(sv_of(nil), "true") || sv_is(sv_of(nil), "1"));
}

static bool read_integer(struct sv text, enum vim_kind kind, int64_t *out)
{
    static const struct {
        int64_t min, max;
    } range[] = {[VIM_BYTE] = {-128, 255}, /* govmomi writes bytes without sign */
                 [VIM_SHORT] = {INT16_MIN, INT16_MAX},
                 [VIM_INT] = {INT32_MIN, INT32_MAX},
                 [VIM_LONG] = {INT64_MIN, INT64_MAX}};
    if (text.len && text.p[0] == '+')
        text = sv_sub(text, 1, text.len);
    return sv_to_i64(text, out) && *out >= range[kind].min && *out <= range[kind].max;
}

static bool read_double(struct sv text, double *out)
{
    if (sv_is(text, "NaN") || sv_is(text, "INF") || sv_is(text, "-INF")) {
        *out = text.p[0] == 'N' ? (double)NAN : text.p[0] == 'I' ? HUGE_VAL : -HUGE_VAL;
        return true;
    }
    char *end;
    if (!text.len)
        return false;
    *out = strtod(text.p, &end); /* text ends in NUL: it is the whole scratch buffer, trimmed */
    return end == text.p + text.len;
}

static bool read_binary(struct reader *r, struct sv text, struct sv *out)
{
    char *bytes = arena_alloc(r->a, text.len * 3 / 4 + 3);
    ptrdiff_t n = base64_decode(text, bytes);
    *out = sv_make(bytes, n < 0 ? 0 : (size_t)n);
    return n >= 0 && charge(r);
}

/* The current element as a value of a plain kind. */
static void read_scalar(struct reader *r, enum vim_kind kind, const void *type, struct vim_any *out)
{
    *out = (struct vim_any){.kind = kind, .type = type};
    char name[64];
    snprintf(name, sizeof name, SV_FMT, SV_ARG(local_name(r)));
    struct sv raw = read_text(r), text = sv_trim(raw);
    bool good = true;
    if (kind == VIM_STRING) {
        out->s = keep(r, raw);
    } else if (kind == VIM_BOOL) {
        out->b = sv_is(text, "true") || sv_is(text, "1");
        good = out->b || sv_is(text, "false") || sv_is(text, "0");
    } else if (kind >= VIM_BYTE && kind <= VIM_LONG) {
        good = read_integer(text, kind, &out->i);
    } else if (kind == VIM_FLOAT || kind == VIM_DOUBLE) {
        good = read_double(text, &out->d);
    } else if (kind == VIM_TIME) {
        good = rfc3339_parse(text, &out->i);
    } else if (kind == VIM_BINARY) {
        good = read_binary(r, text, &out->binary);
    } else if (kind == VIM_ENUM) {
        out->e = text.len ? vim_enum_value(type, text) : 0;
    }
    if (!good)
        fail(r, VIC_PROTOCOL, "element %s: bad value '%.40s'", name, buf_str(&r->text));
}

static void read_ref(struct reader *r, struct vim_any *out)
{
    *out = (struct vim_any){.kind = VIM_REF};
    out->ref.type = attribute(r, "type", NULL);
    out->ref.value = keep(r, sv_trim(read_text(r)));
    if (!out->ref.type)
        out->ref.type = "";
}

static void *read_object(struct reader *r, const struct vim_type *t);
static void read_any(struct reader *r, struct vim_any *out);

/* The type of an object where 'declared' is expected. */
static const struct vim_type *object_type(struct reader *r, const struct vim_type *declared)
{
    struct sv name = actual_type(r);
    if (!name.len)
        return declared;
    const struct vim_type *t = vim_find_type(name);
    if (t && vim_type_is(t, declared))
        return t;
    if (t && r->flags & SOAP_STRICT)
        fail(r, VIC_PROTOCOL, "type %s where %s is wanted", t->name, declared->name);
    return declared;
}

static void read_value(struct reader *r, enum vim_kind kind, const void *type, struct vim_any *out)
{
    if (kind == VIM_OBJECT) {
        *out = (struct vim_any){.kind = kind, .type = type};
        out->object = read_object(r, object_type(r, type));
    } else if (kind == VIM_REF) {
        read_ref(r, out);
    } else if (kind == VIM_ANY) {
        read_any(r, out);
    } else {
        read_scalar(r, kind, type, out);
    }
}

/* Puts a value where it lies in a struct or an array. */
static void store(enum vim_kind kind, const struct vim_any *v, void *p)
{
    switch (kind) {
    case VIM_NONE:
        break;
    case VIM_BOOL:
        *(bool *)p = v->b;
        break;
    case VIM_BYTE:
        *(int8_t *)p = (int8_t)v->i;
        break;
    case VIM_SHORT:
        *(int16_t *)p = (int16_t)v->i;
        break;
    case VIM_INT:
        *(int32_t *)p = (int32_t)v->i;
        break;
    case VIM_LONG:
    case VIM_TIME:
        *(int64_t *)p = v->i;
        break;
    case VIM_FLOAT:
        *(float *)p = (float)v->d;
        break;
    case VIM_DOUBLE:
        *(double *)p = v->d;
        break;
    case VIM_STRING:
        *(const char **)p = v->s;
        break;
    case VIM_BINARY:
        *(struct sv *)p = v->binary;
        break;
    case VIM_ENUM:
        *(int *)p = v->e;
        break;
    case VIM_REF:
        *(struct vim_ref *)p = v->ref;
        break;
    case VIM_OBJECT:
        *(const struct vim_object **)p = v->object;
        break;
    case VIM_ANY:
        *(struct vim_any *)p = *v;
        break;
    }
}

static void read_item(struct reader *r, enum vim_kind kind, const void *type, void *array)
{
    struct vim_any v;
    read_value(r, kind, type, &v);
    if (charge(r))
        store(kind, &v, vim_grow(r->a, array, vim_item_size(kind)));
}

static void read_field(struct reader *r, struct vim_object *o, const struct vim_field *f)
{
    char *at = (char *)o + f->offset;
    if (is_nil(r)) {
        skip(r);
    } else if (f->flags & VIM_ARRAY) {
        read_item(r, (enum vim_kind)f->kind, f->type, at);
    } else {
        struct vim_any v;
        read_value(r, (enum vim_kind)f->kind, f->type, &v);
        store((enum vim_kind)f->kind, &v, at);
        if (f->has)
            *((char *)o + f->has) = true;
    }
}

static unsigned total_fields(const struct vim_type *t)
{
    unsigned n = 0;
    for (; t; t = t->base)
        n += t->field_count;
    return n;
}

/* Strict reading: order and required fields. */
struct order {
    unsigned last;
    bool seen[MAX_FIELDS];
};

static void check_order(struct reader *r, const struct vim_type *t, const struct vim_field *f,
                        struct order *order)
{
    while (f < t->fields || f >= t->fields + t->field_count)
        t = t->base;
    unsigned at = total_fields(t->base) + (unsigned)(f - t->fields);
    if (at >= MAX_FIELDS)
        return;
    if (at < order->last)
        fail(r, VIC_PROTOCOL, "element %s is out of order", f->name);
    order->last = at;
    order->seen[at] = true;
}

static void check_required(struct reader *r, const struct vim_type *t, const struct order *order)
{
    for (const struct vim_type *part = t; part; part = part->base)
        for (unsigned i = 0; i < part->field_count; i++) {
            unsigned at = total_fields(part->base) + i;
            if (!(part->fields[i].flags & (VIM_OPTIONAL | VIM_ARRAY | VIM_LATER)) &&
                at < MAX_FIELDS && !order->seen[at])
                fail(r, VIC_PROTOCOL, "required property %s of %s is missing", part->fields[i].name,
                     t->name);
        }
}

static void *read_object(struct reader *r, const struct vim_type *t)
{
    struct vim_object *o = vim_new(r->a, t);
    struct order order = {0};
    struct scope s = enter(r);
    while (charge(r) && next_child(r, &s)) {
        const struct vim_field *f = vim_find_field(t, local_name(r));
        if (!f) {
            skip(r);
            continue;
        }
        if (r->flags & SOAP_STRICT && !is_nil(r)) /* nil is absent: a required one is missing */
            check_order(r, t, f, &order);
        read_field(r, o, f);
    }
    if (r->flags & SOAP_STRICT)
        check_required(r, t, &order);
    return o;
}

/* What a type's name inside anyType means; VIM_NONE = we do not know it. */
static enum vim_kind kind_of(struct sv name, const void **type)
{
    static const struct {
        const char *name;
        enum vim_kind kind;
    } plain[] = {
        {"string", VIM_STRING},
        {"boolean", VIM_BOOL},
        {"int", VIM_INT},
        {"long", VIM_LONG},
        {"short", VIM_SHORT},
        {"byte", VIM_BYTE},
        {"float", VIM_FLOAT},
        {"double", VIM_DOUBLE},
        {"dateTime", VIM_TIME},
        {"anyURI", VIM_STRING},
        {"anyType", VIM_ANY},
        {"base64Binary", VIM_BINARY},
        {"unsignedByte", VIM_SHORT},
        {"unsignedShort", VIM_INT},
        {"unsignedInt", VIM_LONG},
        {"integer", VIM_LONG},
        {"ManagedObjectReference", VIM_REF},
        {"PropertyPath", VIM_STRING},
        {"TypeName", VIM_STRING},
        {"MethodName", VIM_STRING},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (sv_is(name, plain[i].name))
            return plain[i].kind;
    if ((*type = vim_find_type(name)))
        return VIM_OBJECT;
    return (*type = vim_find_enum(name)) ? VIM_ENUM : VIM_NONE;
}

/* "ArrayOfString" names its items "string", "ArrayOfVirtualDevice" "VirtualDevice". */
static enum vim_kind item_kind_of(struct sv name, const void **type)
{
    enum vim_kind kind = kind_of(name, type);
    char plain[64];
    if (kind != VIM_NONE || name.len >= sizeof plain || !name.len)
        return kind;
    memcpy(plain, name.p, name.len);
    plain[0] = (char)(plain[0] >= 'A' && plain[0] <= 'Z' ? plain[0] + 32 : plain[0]);
    return kind_of(sv_make(plain, name.len), type);
}

static void read_any(struct reader *r, struct vim_any *out)
{
    *out = (struct vim_any){0};
    struct sv name = actual_type(r);
    const void *type = NULL;
    enum vim_kind kind = name.len ? kind_of(name, &type) : VIM_STRING;
    if (kind != VIM_NONE && kind != VIM_ANY) {
        read_value(r, kind, type, out);
        return;
    }
    if (sv_starts(name, SV("ArrayOf")))
        kind = item_kind_of(sv_sub(name, 7, name.len), &type);
    if (kind == VIM_NONE || !sv_starts(name, SV("ArrayOf"))) {
        out->unknown = keep(r, name);
        skip(r);
        return;
    }
    *out = (struct vim_any){.kind = kind, .array = true, .type = type};
    struct scope s = enter(r);
    while (next_child(r, &s))
        read_item(r, kind, type, &out->items);
}

/* --- messages -----------------------------------------------------------------------------------
 */

static void xml_init(void)
{
    xmlInitParser();
}

static bool open_reader(struct reader *r, struct sv text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* libxml2's own, before threads use it */
    pthread_once(&once, xml_init);
    if (text.len > SOAP_MAX_SIZE) {
        fail(r, VIC_TOO_LARGE, "message of %zu bytes", text.len);
        return false;
    }
    if (!sv_is_utf8(text)) { /* what vSphere speaks; so no converter of libxml2 is ever used */
        fail(r, VIC_PROTOCOL, "message is not UTF-8");
        return false;
    }
    r->memory_end = r->a->total + text.len * 32 + (1 << 20);
    r->xml = xmlReaderForMemory(text.p ? text.p : "", (int)text.len, NULL, NULL,
                                XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                    XML_PARSE_IGNORE_ENC);
    if (!r->xml) {
        fail(r, VIC_NO_MEMORY, "no XML reader");
        return false;
    }
    xmlTextReaderSetStructuredErrorHandler(r->xml, on_xml_error, r);
    while (step(r))
        if (xmlTextReaderNodeType(r->xml) == XML_READER_TYPE_ELEMENT)
            return true;
    fail(r, VIC_PROTOCOL, "empty message");
    return false;
}

/* Reads what follows the last element wanted, so that a truncated message does not pass. */
static bool close_reader(struct reader *r)
{
    if (r->xml)
        while (step(r))
            ;
    xmlFreeTextReader(r->xml);
    buf_fini(&r->text);
    return !r->failed;
}

static bool is_soap(struct reader *r, const char *name)
{
    const xmlChar *ns = xmlTextReaderConstNamespaceUri(r->xml);
    return sv_is(local_name(r), name) && ns && sv_is(sv_of((const char *)ns), SOAP_NS);
}

static void read_header(struct reader *r, struct soap_request *out)
{
    struct scope s = enter(r);
    while (next_child(r, &s)) {
        struct sv name = local_name(r);
        if (out && sv_is(name, "vcSessionCookie"))
            out->cookie = keep(r, sv_trim(read_text(r)));
        else if (out && sv_is(name, "operationID"))
            out->operation_id = keep(r, sv_trim(read_text(r)));
        else
            skip(r);
    }
}

/* Goes to the body's first element. */
static bool find_body(struct reader *r, struct soap_request *head)
{
    if (!is_soap(r, "Envelope")) {
        fail(r, VIC_PROTOCOL, "no SOAP envelope");
        return false;
    }
    struct scope envelope = enter(r);
    while (next_child(r, &envelope)) {
        if (is_soap(r, "Body")) {
            struct scope body = enter(r);
            if (next_child(r, &body))
                return true;
        } else if (is_soap(r, "Header")) {
            read_header(r, head);
        } else {
            skip(r);
        }
    }
    fail(r, VIC_PROTOCOL, "empty SOAP envelope");
    return false;
}

static void read_unknown_request(struct reader *r, struct soap_request *out)
{
    struct scope s = enter(r);
    while (next_child(r, &s)) {
        struct vim_any ref = {0};
        if (sv_is(local_name(r), "_this"))
            read_ref(r, &ref);
        else
            skip(r);
        if (ref.kind == VIM_REF)
            out->self = ref.ref;
    }
}

bool soap_parse_request(struct sv text, unsigned flags, struct arena *a, struct soap_request *out,
                        struct vic_err *err)
{
    struct reader r = {.a = a, .flags = flags, .err = err};
    *out = (struct soap_request){0};
    if (open_reader(&r, text) && find_body(&r, out)) {
        struct sv name = local_name(&r);
        out->name = keep(&r, name);
        out->method = vim_find_method(name);
        if (out->method) {
            const struct vim_type *t = out->method->request;
            struct vim_object *params = read_object(&r, t);
            out->params = params;
            out->self = vim_get(params, &t->fields[0]).ref;
        } else {
            read_unknown_request(&r, out);
        }
    }
    return close_reader(&r);
}

static void read_detail(struct reader *r, struct soap_fault *out)
{
    const struct vim_type *base = vim_find_type(SV("MethodFault"));
    struct scope s = enter(r);
    while (next_child(r, &s)) {
        if (out->type) {
            skip(r);
            continue;
        }
        struct sv name = actual_type(r);
        if (!name.len) {
            name = local_name(r);
            if (sv_ends(name, SV("Fault")) && !vim_find_type(name))
                name.len -= 5;
        }
        out->type = keep(r, name);
        const struct vim_type *t = vim_find_type(name);
        out->detail = read_object(r, t && vim_type_is(t, base) ? t : base);
    }
}

static void read_fault(struct reader *r, struct soap_fault *out)
{
    struct scope s = enter(r);
    while (next_child(r, &s)) {
        struct sv name = local_name(r);
        if (sv_is(name, "faultcode"))
            out->code = keep(r, sv_trim(read_text(r)));
        else if (sv_is(name, "faultstring"))
            out->text = keep(r, read_text(r));
        else if (sv_is(name, "detail"))
            read_detail(r, out);
        else
            skip(r);
    }
    out->code = out->code ? out->code : "";
    out->text = out->text ? out->text : "";
}

bool soap_parse_reply(struct sv text, const struct vim_method *m, struct arena *a,
                      struct soap_reply *out, struct vic_err *err)
{
    struct reader r = {.a = a, .err = err};
    *out = (struct soap_reply){0};
    if (open_reader(&r, text) && find_body(&r, NULL)) {
        out->is_fault = is_soap(&r, "Fault");
        if (out->is_fault)
            read_fault(&r, &out->fault);
        else if (sv_is(local_name(&r), m->response->name))
            out->response = read_object(&r, m->response);
        else
            fail(&r, VIC_PROTOCOL, "reply to %s is a " SV_FMT, m->name, SV_ARG(local_name(&r)));
    }
    return close_reader(&r);
}

bool soap_parse_any(struct sv text, struct arena *a, struct vim_any *out, struct vic_err *err)
{
    struct reader r = {.a = a, .err = err};
    *out = (struct vim_any){0};
    if (open_reader(&r, text)) {
        struct scope s = enter(&r);
        if (next_child(&r, &s))
            read_any(&r, out);
    }
    return close_reader(&r);
}
