/* vim25 on the wire: one serialiser and one parser that walk the tables of vim.h, for clients and
 * servers alike.
 *
 * The schema in C.  gen.py makes a struct and a descriptor for each type, method and managed type
 * in use.  A data object's struct begins with a pointer to its descriptor, then come all fields of
 * its bases, then its own: so a pointer to a VirtualDisk may be used as a pointer to a
 * VirtualDevice, and 'vim' says what it is. text                const char *, NULL = absent object
 * pointer, NULL = absent; may point to any subtype of the declared type array               {v, n};
 * n == 0 = absent; arrays of objects hold pointers reference           struct vim_ref, value NULL =
 * absent enum                C enum, 0 = unset; a value that a newer server made up is
 * VIM_ENUM_OTHER number, boolean,    always sent when the schema calls it required; else
 * 'has_<field>' says date (Unix ns) anyType             struct vim_any Make an object with
 * VIM_NEW(arena, VirtualDisk); a literal may leave 'vim' NULL where the declared type is meant.
 *
 * Reading is lenient, as newer servers send more than we know: unknown elements are skipped, an
 * unknown subtype is read as its declared base, prefixes of type names are dropped (govmomi never
 * declares xsd), the xsi:type attribute is found by namespace.  Strict reading (SOAP_STRICT, for a
 * server that behaves as the real ones do) refuses elements out of order, required ones that are
 * missing and subtypes that do not fit.
 *
 * Everything read is hostile: no DTD, no entities, no network, depth and memory are bounded.
 * All that is read lives in the arena given; text is never borrowed from the input.
 * Threads: any; the tables are constant.
 * Facts: SOAP 1.1; vim25 as in VMware's schema; the dialects of govmomi and pyVmomi. */
#ifndef VIC_VSPHERE_SOAP_H
#define VIC_VSPHERE_SOAP_H

#include "base/arena.h"
#include "base/buf.h"

enum vim_kind {
    VIM_NONE,
    VIM_BOOL,
    VIM_BYTE,
    VIM_SHORT,
    VIM_INT,
    VIM_LONG,
    VIM_FLOAT,
    VIM_DOUBLE,
    VIM_STRING,
    VIM_TIME,   /* int64_t, Unix time in nanoseconds; 0 is year 1, as Go writes it */
    VIM_BINARY, /* struct sv; base64 on the wire */
    VIM_ENUM,
    VIM_REF,
    VIM_OBJECT,
    VIM_ANY,
};

enum {
    VIM_ARRAY = 1, /* flags */
    VIM_OPTIONAL = 2,
    VIM_LATER = 4, /* required, but younger than its type: older peers do not send it */
};
enum { VIM_ENUM_OTHER = 0x7fff };

struct vim_enum {
    const char *name;
    const char *const *values; /* values[i] is the C enum's i + 1 */
    unsigned count;
};

struct vim_field {
    const char *name; /* of the element */
    uint8_t kind, flags;
    uint16_t offset;
    uint16_t has;     /* offset of has_<field>, 0 = none */
    uint16_t since;   /* API version * 10 that brought it (60, 65, 67); 0 = always there */
    const void *type; /* VIM_OBJECT: struct vim_type; VIM_ENUM: struct vim_enum */
};

struct vim_type {
    const char *name;
    const struct vim_type *base;
    size_t size;
    const struct vim_field *fields; /* its own; its base's come first on the wire */
    unsigned field_count;
    bool open; /* has subtypes: xsi:type is always written */
};

struct vim_property {
    const char *name;
    uint8_t kind, flags; /* VIM_NONE: the property exists, but we have no type for it */
    const void *type;
    const char *privilege; /* needed to read it; NULL = none */
};

struct vim_managed {
    const char *name;
    const struct vim_managed *base;
    const struct vim_property *properties; /* its own, sorted by name */
    unsigned property_count;
};

struct vim_method {
    const char *name;
    const char *ns;
    const struct vim_managed *owner;
    const struct vim_type *request;  /* struct vim_<name>_request; 'self' first */
    const struct vim_type *response; /* struct vim_<name>_response; 'returnval', or empty */
    const char *privilege;           /* NULL = none */
    bool task;                       /* returns a Task */
};

struct vim_object {
    const struct vim_type *vim;
};

struct vim_ref {
    const char *type, *value;
};

#define VIM_ARRAY_OF(T)                                                                            \
    struct {                                                                                       \
        T *v;                                                                                      \
        size_t n;                                                                                  \
    }
/* Any of them, for code that knows the item's size. */
struct vim_array {
    void *v;
    size_t n;
};

/* A value with its type.  kind VIM_NONE = absent.  A value of a type that we lack has kind VIM_NONE
 * and its type's name in 'unknown'. */
struct vim_any {
    enum vim_kind kind;
    bool array;
    const void *type; /* VIM_OBJECT (of arrays: the item's declared type), VIM_ENUM */
    const char *unknown;
    union {
        bool b;
        int64_t i; /* BYTE..LONG, TIME */
        double d;  /* FLOAT, DOUBLE */
        const char *s;
        int e;
        struct sv binary;
        struct vim_ref ref;
        const struct vim_object *object;
        struct vim_array items;
    };
};

#define VIM_ANY_STRING(text) ((struct vim_any){.kind = VIM_STRING, .s = (text)})
#define VIM_ANY_BOOL(value)  ((struct vim_any){.kind = VIM_BOOL, .b = (value)})
#define VIM_ANY_INT(value)   ((struct vim_any){.kind = VIM_INT, .i = (value)})
#define VIM_ANY_LONG(value)  ((struct vim_any){.kind = VIM_LONG, .i = (value)})
#define VIM_ANY_REF(r)       ((struct vim_any){.kind = VIM_REF, .ref = (r)})
#define VIM_ANY_ENUM(T, value)                                                                     \
    ((struct vim_any){.kind = VIM_ENUM, .type = &vim_enum_##T, .e = (int)(value)})
#define VIM_ANY_OBJECT(o)                                                                          \
    ((struct vim_any){.kind = VIM_OBJECT, .type = (o)->vim, .object = vim_object_of(o)})
/* arr: pointer to a VIM_ARRAY_OF of objects declared as T */
#define VIM_ANY_OBJECTS(T, arr)                                                                    \
    ((struct vim_any){                                                                             \
        .kind = VIM_OBJECT, .array = true, .type = &vim_type_##T, .items = {(arr)->v, (arr)->n}})

static inline const struct vim_object *vim_object_of(const void *o)
{
    return o;
}

#define VIM_NEW(arena, T) ((struct vim_##T *)vim_new((arena), &vim_type_##T))
#define VIM_CAST(T, o)    ((struct vim_##T *)vim_cast(&vim_type_##T, (o)))
#define VIM_IS(T, o)      (vim_cast(&vim_type_##T, (o)) != NULL)
#define VIM_BASE(T, o)    ((struct vim_##T *)(void *)(o)) /* up: the compiler cannot check it */
/* Appends 'item' to the array that 'arr' points to. */
#define VIM_PUSH(arena, arr, item)                                                                 \
    (*(__typeof__((arr)->v))vim_grow((arena), (arr), sizeof *(arr)->v) = (item))

void *vim_new(struct arena *a, const struct vim_type *t);
/* 'o' when it is a 't' or a subtype of it, else NULL.  'o' may be NULL. */
void *vim_cast(const struct vim_type *t, const void *o);
bool vim_type_is(const struct vim_type *t, const struct vim_type *base);
bool vim_managed_is(const struct vim_managed *m, const struct vim_managed *base);
/* Room for one more item; returns where it lies.  The array's memory must be the arena's. */
void *vim_grow(struct arena *a, void *array, size_t item_size);

/* By name; NULL when there is none. */
const struct vim_type *vim_find_type(struct sv name);
const struct vim_enum *vim_find_enum(struct sv name);
const struct vim_method *vim_find_method(struct sv name);
const struct vim_managed *vim_find_managed(struct sv name);
/* Also looks in the bases. */
const struct vim_property *vim_find_property(const struct vim_managed *m, struct sv name);
const struct vim_field *vim_find_field(const struct vim_type *t, struct sv name);

/* All generated descriptors, sorted by name. */
extern const struct vim_type *const vim_types[];
extern const struct vim_enum *const vim_enums[];
extern const struct vim_method *const vim_methods[];
extern const struct vim_managed *const vim_managed[];
extern const size_t vim_types_count, vim_enums_count, vim_methods_count, vim_managed_count;

const char *vim_enum_name(const struct vim_enum *e, int value); /* NULL: unset or other */
int vim_enum_value(const struct vim_enum *e, struct sv name);   /* VIM_ENUM_OTHER: unknown */

bool vim_ref_eq(struct vim_ref a, struct vim_ref b);
/* "Type:value" both ways. */
struct vim_ref vim_ref_parse(struct arena *a, const char *text); /* value NULL: malformed */

/* The value of a field of 'o'.  Absent fields give kind VIM_NONE. */
struct vim_any vim_get(const struct vim_object *o, const struct vim_field *f);

/* A property path below 'root': "hardware.device[4000].backing", "extraConfig[\"a.b\"].value". Keys
 * match the items' field 'key'.  A name through an array gathers nothing: it is not found.
 * False: there is no such field in the types; a field that exists and is absent gives VIM_NONE. */
bool vim_path(struct vim_any root, struct sv path, struct vim_any *out);

/* --- messages -----------------------------------------------------------------------------------
 */

enum {
    SOAP_MAX_DEPTH = 128,
    SOAP_MAX_SIZE = 64 << 20, /* of one message */
    SOAP_STRICT = 1,          /* flag */
};

struct soap_request {
    const char *name;                /* of the method, also when we do not know it */
    const struct vim_method *method; /* NULL: unknown (answer MethodNotFound) */
    struct vim_ref self;
    void *params;             /* struct vim_<name>_request; NULL when method is */
    const char *cookie;       /* header vcSessionCookie, or NULL */
    const char *operation_id; /* header operationID, or NULL */
};

struct soap_fault {
    const char *code; /* "ServerFaultCode" */
    const char *text;
    const char *type; /* the fault's class as sent, also when we do not know it; or NULL */
    const struct vim_object *detail; /* a MethodFault; NULL when there is none */
};

struct soap_reply {
    bool is_fault;
    void *response; /* struct vim_<name>_response; NULL of faults */
    struct soap_fault fault;
};

/* Errors of both: VIC_PROTOCOL with a message that names the element; VIC_TOO_LARGE. */
VIC_CHECK bool soap_parse_request(struct sv text, unsigned flags, struct arena *a,
                                  struct soap_request *out, struct vic_err *err);
VIC_CHECK bool soap_parse_reply(struct sv text, const struct vim_method *m, struct arena *a,
                                struct soap_reply *out, struct vic_err *err);

/* Appends to 'out'; check out->failed at the end.  operation_id may be NULL.  Text that XML cannot
 * hold becomes U+FFFD. */
void soap_write_request(struct buf *out, const struct vim_method *m, const void *request,
                        const char *operation_id);
void soap_write_response(struct buf *out, const struct vim_method *m, const void *response);
/* 'detail' may be NULL. */
void soap_write_fault(struct buf *out, const char *text, const void *detail);

/* One value as an element of its own, for stores, comparisons and tests: write, then parse gives an
 * equal value.  Namespaces are those of a message's body. */
void soap_write_any(struct buf *out, const char *element, const struct vim_any *any);
VIC_CHECK bool soap_parse_any(struct sv text, struct arena *a, struct vim_any *out,
                              struct vic_err *err);

#endif
