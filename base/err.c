/* The error type: see err.h. */
#include "err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NO, YES };

static const struct {
    const char *name, *meaning;
    int http, exit, retry;
} codes[VIC_CODES] = {
#define E(code, http, exit, retry, meaning) [VIC_##code] = {#code, meaning, http, exit, retry},
#include "errors.def"
#undef E
};

bool vic_vfail(struct vic_err *err, enum vic_code code, int sys, const char *fmt, va_list ap)
{
    if (!err)
        return false;
    /* The arguments may point into err->msg. */
    char text[sizeof err->msg];
    vsnprintf(text, sizeof text, fmt, ap);
    if (sys) {
        char reason[128];
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, ": %s", strerror_r(sys, reason, sizeof reason));
    }
    err->code = code;
    err->sys = sys;
    memcpy(err->msg, text, sizeof text);
    return false;
}

bool vic_fail(struct vic_err *err, enum vic_code code, int sys, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vic_vfail(err, code, sys, fmt, ap);
    va_end(ap);
    return false;
}

enum vic_code vic_code_of_errno(int sys)
{
    switch (sys) {
    case ENOENT:
    case ENOTDIR:
        return VIC_NOT_FOUND;
    case EEXIST:
        return VIC_CONFLICT;
    case EACCES:
    case EPERM:
        return VIC_FORBIDDEN;
    case ENOSPC:
    case EDQUOT:
        return VIC_NO_SPACE;
    case ENOMEM:
        return VIC_NO_MEMORY;
    case ETIMEDOUT:
        return VIC_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE:
        return VIC_UNAVAILABLE;
    case EINVAL:
        return VIC_INVALID;
    default:
        return VIC_IO;
    }
}

bool vic_fail_errno(struct vic_err *err, const char *fmt, ...)
{
    int sys = errno;
    va_list ap;
    va_start(ap, fmt);
    vic_vfail(err, vic_code_of_errno(sys), sys, fmt, ap);
    va_end(ap);
    return false;
}

bool vic_wrap(struct vic_err *err, const char *fmt, ...)
{
    if (!err)
        return false;
    char text[2 * sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof err->msg, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n >= sizeof err->msg ? sizeof err->msg - 1 : (size_t)n;
    snprintf(text + len, sizeof text - len, ": %s", err->msg);
    text[sizeof err->msg - 1] = '\0';
    memcpy(err->msg, text, sizeof err->msg);
    return false;
}

static enum vic_code known(enum vic_code code)
{
    return (unsigned)code < VIC_CODES ? code : VIC_INTERNAL;
}

const char *vic_code_name(enum vic_code code)
{
    return codes[known(code)].name;
}

const char *vic_code_meaning(enum vic_code code)
{
    return codes[known(code)].meaning;
}

int vic_code_http(enum vic_code code)
{
    return codes[known(code)].http;
}

int vic_code_exit(enum vic_code code)
{
    return codes[known(code)].exit;
}

bool vic_code_retry(enum vic_code code)
{
    return codes[known(code)].retry;
}
