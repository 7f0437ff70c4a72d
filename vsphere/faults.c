/* From a fault to our error: the class by faults.def, its message behind our text.  A fault that
 * comes without detail may still name its class in the text ("vim.fault.InvalidPowerState"). */
#include "client.h"

struct fault_row {
    const char *name;
    enum vic_code code;
    const char *text;
};

static const struct fault_row by_class[] = {
#define F(class, code, text) {#class, VIC_##code, text},
#define K(key, code, text)
#include "faults.def"
#undef F
#undef K
};

static const struct fault_row by_key[] = {
#define F(class, code, text)
#define K(key, code, text) {key, VIC_##code, text},
#include "faults.def"
#undef F
#undef K
};

static const struct fault_row *find(const struct fault_row *rows, size_t count, struct sv name)
{
    for (size_t i = 0; i < count; i++)
        if (sv_is(name, rows[i].name))
            return &rows[i];
    return NULL;
}

#define FIND(rows, name) find(rows, sizeof rows / sizeof rows[0], name)

static const struct fault_row *find_class(const struct vim_type *t)
{
    const struct fault_row *row = NULL;
    for (; t && !row; t = t->base)
        row = FIND(by_class, sv_of(t->name));
    return row ? row : &by_class[sizeof by_class / sizeof by_class[0] - 1];
}

/* The class named in a text, as old servers do. */
static const struct vim_type *type_in_text(const char *text)
{
    const char *at = strstr(text, "vim.fault.");
    if (!at)
        return NULL;
    at += strlen("vim.fault.");
    size_t len = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    return vim_find_type(sv_make(at, len));
}

static const struct fault_row *find_key(const struct vim_MethodFault *fault)
{
    const struct fault_row *row = NULL;
    for (size_t i = 0; fault && i < fault->faultMessage.n && !row; i++)
        row = FIND(by_key, sv_of(fault->faultMessage.v[i]->key));
    return row;
}

bool vsp_fault(struct vic_err *err, const char *what, const char *type, const char *text,
               const struct vim_object *detail)
{
    const struct vim_MethodFault *fault = VIM_CAST(MethodFault, detail);
    const struct vim_type *t = type ? vim_find_type(sv_of(type)) : NULL;
    if (!t)
        t = fault && fault->vim != &vim_type_MethodFault ? fault->vim
                                                         : type_in_text(text ? text : "");
    const struct fault_row *row = find_key(fault);
    if (!row)
        row = find_class(t);
    const char *name = type ? type : t ? t->name : "fault";
    struct sv message = sv_trim(sv_of(text));
    if (message.len)
        return vic_fail(err, row->code, 0, "%s: %s (%s: " SV_FMT ")", what, row->text, name,
                        SV_ARG(message));
    return vic_fail(err, row->code, 0, "%s: %s (%s)", what, row->text, name);
}

bool vsp_is_fault(const struct soap_reply *reply, const struct vim_type *t)
{
    return reply->is_fault &&
           (vim_cast(t, reply->fault.detail) ||
            (!reply->fault.type && reply->fault.text && type_in_text(reply->fault.text) == t));
}
