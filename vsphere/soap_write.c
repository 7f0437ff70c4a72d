/* The serialiser: walks descriptors, base fields first, and writes straight into a buffer.
 *
 * xsi:type is written where the actual type differs from the declared one, where the declared type
 * has subtypes at all (real servers want it then), and always inside anyType.  Absent values are
 * left out, but for required text, which becomes an empty element: real servers refuse a missing
 * one and take an empty one. */
#include "vsphere/soap.h"

#include <math.h>

#include "base/clock.h"

#include "vim_layout.h"

#define XSI_NS  "http://www.w3.org/2001/XMLSchema-instance"
#define XSD_NS  "http://www.w3.org/2001/XMLSchema"
#define SOAP_NS "http://schemas.xmlsoap.org/soap/envelope/"

/* Names of the kinds in xsi:type and in ArrayOf<Name>/<element>. */
static const struct {
    const char *xsd, *array, *item;
} kind_names[] = {
    [VIM_BOOL] = {"xsd:boolean", "ArrayOfBoolean", "boolean"},
    [VIM_BYTE] = {"xsd:byte", "ArrayOfByte", "byte"},
    [VIM_SHORT] = {"xsd:short", "ArrayOfShort", "short"},
    [VIM_INT] = {"xsd:int", "ArrayOfInt", "int"},
    [VIM_LONG] = {"xsd:long", "ArrayOfLong", "long"},
    [VIM_FLOAT] = {"xsd:float", "ArrayOfFloat", "float"},
    [VIM_DOUBLE] = {"xsd:double", "ArrayOfDouble", "double"},
    [VIM_STRING] = {"xsd:string", "ArrayOfString", "string"},
    [VIM_TIME] = {"xsd:dateTime", "ArrayOfDateTime", "dateTime"},
    [VIM_BINARY] = {"xsd:base64Binary", "ArrayOfBase64Binary", "base64Binary"},
    [VIM_REF] = {"ManagedObjectReference", "ArrayOfManagedObjectReference",
                 "ManagedObjectReference"},
    [VIM_ANY] = {"xsd:anyType", "ArrayOfAnyType", "anyType"},
};

/* Bytes of the character at 's' when XML 1.0 can hold it; 0 when it cannot (one byte is bad). */
static size_t xml_char(const unsigned char *s, size_t left)
{
    static const unsigned char first[] = {0, 0, 0x1f, 0x0f, 0x07};
    if (*s < 0x80)
        return *s >= 0x20 || *s == '\t' || *s == '\n' || *s == '\r';
    size_t len = *s >= 0xf0 && *s < 0xf5   ? 4
                 : *s >= 0xe0 && *s < 0xf0 ? 3
                 : *s >= 0xc2 && *s < 0xe0 ? 2
                                           : 0;
    if (!len || len > left)
        return 0;
    unsigned c = *s & first[len];
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    bool overlong = (len == 3 && c < 0x800) || (len == 4 && c < 0x10000);
    bool illegal = (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff || c > 0x10ffff;
    return overlong || illegal ? 0 : len;
}

static void write_text(struct buf *out, const char *text)
{
    size_t left = strlen(text);
    for (const unsigned char *s = (const unsigned char *)text; left;) {
        size_t len = xml_char(s, left);
        if (!len)
            buf_add_str(out, "\xef\xbf\xbd");
        else if (*s == '&')
            buf_add_str(out, "&amp;");
        else if (*s == '<')
            buf_add_str(out, "&lt;");
        else if (*s == '>')
            buf_add_str(out, "&gt;");
        else if (*s == '"')
            buf_add_str(out, "&quot;");
        else if (*s == '\r' || *s == '\n')
            buf_add_str(out, *s == '\r' ? "&#xD;" : "&#xA;");
        else
            buf_add(out, s, len);
        s += len ? len : 1;
        left -= len ? len : 1;
    }
}

static void write_double(struct buf *out, double d, int digits)
{
    if (isnan(d))
        buf_add_str(out, "NaN");
    else if (isinf(d))
        buf_add_str(out, d < 0 ? "-INF" : "INF");
    else
        buf_addf(out, "%.*g", digits, d);
}

static void write_binary(struct buf *out, struct sv bytes)
{
    if (!buf_reserve(out, bytes.len / 3 * 4 + 5))
        return;
    out->len += base64_encode(bytes.p, bytes.len, out->data + out->len);
    out->data[out->len] = 0;
}

static void write_object(struct buf *out, const struct vim_object *o, const struct vim_type *t);

static void write_value(struct buf *out, const struct vim_any *v)
{
    char time[RFC3339_SIZE];
    switch (v->kind) {
    case VIM_NONE:
    case VIM_ANY:
        break;
    case VIM_BOOL:
        buf_add_str(out, v->b ? "true" : "false");
        break;
    case VIM_BYTE:
    case VIM_SHORT:
    case VIM_INT:
    case VIM_LONG:
        buf_add_i64(out, v->i);
        break;
    case VIM_FLOAT:
    case VIM_DOUBLE:
        write_double(out, v->d, v->kind == VIM_FLOAT ? 9 : 17);
        break;
    case VIM_STRING:
        write_text(out, v->s);
        break;
    case VIM_TIME:
        buf_add_str(out, rfc3339(v->i, 6, true, time));
        break;
    case VIM_BINARY:
        write_binary(out, v->binary);
        break;
    case VIM_ENUM:
        write_text(out, vim_enum_name(v->type, v->e));
        break;
    case VIM_REF:
        write_text(out, v->ref.value);
        break;
    case VIM_OBJECT:
        write_object(out, v->object, v->object->vim ? v->object->vim : v->type);
        break;
    }
}

static const char *type_name(const struct vim_any *v)
{
    if (v->kind == VIM_OBJECT) {
        const struct vim_type *t = v->type;
        return v->array || !v->object->vim ? t->name : v->object->vim->name;
    }
    return v->kind == VIM_ENUM ? ((const struct vim_enum *)v->type)->name : kind_names[v->kind].xsd;
}

static void write_items(struct buf *out, const char *name, const struct vim_any *array);

/* One element.  'typed': inside anyType, so the type must be told. */
static void write_element(struct buf *out, const char *name, const struct vim_any *v, bool typed)
{
    if (vim_is_absent(v) && !v->array)
        return;
    if (v->kind == VIM_ENUM && !v->array && !vim_enum_name(v->type, v->e))
        return; /* VIM_ENUM_OTHER: its text is not known */
    const struct vim_type *declared = v->kind == VIM_OBJECT ? v->type : NULL;
    if (declared && !v->array)
        typed |= declared->open || (v->object->vim && v->object->vim != declared);
    buf_addf(out, "<%s", name);
    if (v->kind == VIM_REF && !v->array) {
        buf_add_str(out, " type=\"");
        write_text(out, v->ref.type ? v->ref.type : "");
        buf_add_c(out, '"');
    }
    if (typed && v->array && kind_names[v->kind].array)
        buf_addf(out, " xsi:type=\"%s\"", kind_names[v->kind].array);
    else if (typed)
        buf_addf(out, " xsi:type=\"%s%s\"", v->array ? "ArrayOf" : "", type_name(v));
    buf_add_c(out, '>');
    if (v->array)
        write_items(out, kind_names[v->kind].item ? kind_names[v->kind].item : type_name(v), v);
    else
        write_value(out, v);
    buf_addf(out, "</%s>", name);
}

static void write_items(struct buf *out, const char *name, const struct vim_any *array)
{
    size_t size = vim_item_size(array->kind);
    for (size_t i = 0; i < array->items.n; i++) {
        const char *at = (const char *)array->items.v + i * size;
        struct vim_any item = vim_load(array->kind, array->type, at);
        if (item.kind == VIM_STRING && !item.s)
            item.s = "";
        write_element(out, name, &item, array->kind == VIM_ANY);
    }
}

static void write_field(struct buf *out, const struct vim_object *o, const struct vim_field *f)
{
    struct vim_any v = vim_get(o, f);
    if (v.kind == VIM_NONE && f->kind == VIM_STRING && !(f->flags & (VIM_OPTIONAL | VIM_ARRAY)))
        v = VIM_ANY_STRING("");
    if (f->flags & VIM_ARRAY)
        write_items(out, f->name, &v);
    else
        write_element(out, f->name, &v, f->kind == VIM_ANY);
}

static void write_object(struct buf *out, const struct vim_object *o, const struct vim_type *t)
{
    if (t->base)
        write_object(out, o, t->base);
    for (unsigned i = 0; i < t->field_count; i++)
        write_field(out, o, &t->fields[i]);
}

static void open_envelope(struct buf *out)
{
    buf_add_str(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                     "<soapenv:Envelope xmlns:soapenv=\"" SOAP_NS "\" xmlns:xsd=\"" XSD_NS
                     "\" xmlns:xsi=\"" XSI_NS "\">");
}

static void write_body(struct buf *out, const char *name, const char *ns, const struct vim_type *t,
                       const void *object)
{
    buf_addf(out, "<soapenv:Body><%s xmlns=\"%s\">", name, ns);
    write_object(out, vim_object_of(object), t);
    buf_addf(out, "</%s></soapenv:Body></soapenv:Envelope>", name);
}

void soap_write_request(struct buf *out, const struct vim_method *m, const void *request,
                        const char *operation_id)
{
    open_envelope(out);
    if (operation_id) {
        buf_add_str(out, "<soapenv:Header><operationID>");
        write_text(out, operation_id);
        buf_add_str(out, "</operationID></soapenv:Header>");
    }
    write_body(out, m->name, m->ns, m->request, request);
}

void soap_write_response(struct buf *out, const struct vim_method *m, const void *response)
{
    open_envelope(out);
    write_body(out, m->response->name, m->ns, m->response, response);
}

void soap_write_fault(struct buf *out, const char *text, const void *detail)
{
    const struct vim_object *fault = vim_object_of(detail);
    open_envelope(out);
    buf_add_str(out, "<soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
                     "<faultstring>");
    write_text(out, text);
    buf_add_str(out, "</faultstring>");
    if (fault && fault->vim) {
        const char *name = fault->vim->name;
        buf_addf(out, "<detail><%sFault xmlns=\"urn:vim25\" xsi:type=\"%s\">", name, name);
        write_object(out, fault, fault->vim);
        buf_addf(out, "</%sFault></detail>", name);
    }
    buf_add_str(out, "</soapenv:Fault></soapenv:Body></soapenv:Envelope>");
}

void soap_write_any(struct buf *out, const char *element, const struct vim_any *any)
{
    buf_addf(out, "<a xmlns=\"urn:vim25\" xmlns:xsi=\"" XSI_NS "\" xmlns:xsd=\"" XSD_NS "\">");
    write_element(out, element, any, true);
    buf_add_str(out, "</a>");
}
