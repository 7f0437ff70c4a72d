/* What handlers share: see api_priv.h.  Docker's rules for booleans, bodies and errors are in the
 * Engine API's description and in section 0 of its observed behaviour. */
#include <stdio.h>

#include "api_priv.h"

/* --- errors ---------------------------------------------------------------------------------- */
int call_status(enum vic_code code)
{
    int status = vic_code_http(code);
    switch (status) { /* codes that Docker does not use */
    case 499:
    case 502:
    case 504:
    case 507:
        return 500;
    default:
        return status;
    }
}

void call_error_body(const char *message, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_open(&w, NULL, '{');
    json_add_str(&w, "message", message);
    json_close(&w, '}');
    buf_add_c(out, '\n');
}

void call_fail(struct call *c)
{
    AUTO_BUF struct buf body = {0};
    int status = c->status ? c->status : call_status(c->err.code);
    call_error_body(c->err.msg, &body);
    if (status == 500)
        log_warn(c->api->o.log, "api.failed", KV_S("method", http_method(c->req)),
                 KV_SV("path", http_path(c->req)), KV_ERR(&c->err));
    http_reply(c->req, status, "application/json", buf_sv(&body));
}

/* --- answers --------------------------------------------------------------------------------- */
bool call_json(struct call *c, int status, struct buf *json)
{
    buf_add_c(json, '\n');
    if (json->failed)
        return vic_fail(&c->err, VIC_INTERNAL, 0, "the answer could not be written");
    http_reply(c->req, status, "application/json", buf_sv(json));
    return true;
}

bool call_empty(struct call *c, int status)
{
    http_reply(c->req, status, NULL, SV(""));
    return true;
}

/* --- queries --------------------------------------------------------------------------------- */
const char *call_query(struct call *c, const char *key)
{
    const char *value;
    return http_query(c->req, key, &value) ? value : "";
}

bool call_flag(struct call *c, const char *key, bool otherwise)
{
    static const char *const no[] = {"", "0", "no", "false", "none"};
    const char *value;
    if (!http_query(c->req, key, &value))
        return otherwise;
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (sv_eq_nocase(sv_trim(sv_of(value)), sv_of(no[i])))
            return false;
    return true;
}

bool call_number(struct call *c, const char *key, int64_t otherwise, int64_t *out)
{
    const char *value = call_query(c, key);
    *out = otherwise;
    if (!*value || sv_to_i64(sv_of(value), out))
        return true;
    return vic_fail(&c->err, VIC_INVALID, 0, "strconv.Atoi: parsing \"%.64s\": invalid syntax",
                    value);
}

/* --- bodies ---------------------------------------------------------------------------------- */
static bool is_json_type(struct sv type)
{
    struct sv name = sv_trim(sv_cut(&type, ';'));
    return sv_eq_nocase(name, SV("application/json"));
}

bool call_body(struct call *c, struct json_val *out)
{
    struct sv text = http_body(c->req), type = http_get_header(c->req, "Content-Type"), rest;
    *out = (struct json_val){0};
    if (!text.len && !type.len)
        return true;
    if (!is_json_type(type))
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "unsupported Content-Type header (%.64s): must be 'application/json'",
                        arena_sv(c->a, type));
    if (!sv_trim(text).len)
        return true;
    if (!json_parse_first(text, 0, c->a, out, &rest, &c->err)) {
        enum vic_code code = c->err.code;
        vic_wrap(&c->err, "invalid JSON");
        c->err.code = code == VIC_TOO_LARGE ? code : VIC_INVALID;
        return false;
    }
    if (sv_trim(rest).len)
        return vic_fail(&c->err, VIC_INVALID, 0, "unexpected content after JSON");
    return true;
}
