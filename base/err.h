/* Errors.
 *
 * One type for every room: a code from the closed list in errors.def, the errno where the
 * operating system said something, and a message for people that gains context on the way up
 * ("create container web: open /x: No such file or directory").  Fixed size, so that it never
 * allocates: it works when memory is gone and inside PID 1.
 *
 * A function that can fail returns bool (or a pointer), takes 'struct vic_err *err' last and may
 * not be ignored (VIC_CHECK).  'err' may be NULL where the caller wants only the yes or no.
 * A message says what was attempted and with which object, begins in lower case, has no full stop.
 */
#ifndef VIC_BASE_ERR_H
#define VIC_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

#define VIC_CHECK        __attribute__((warn_unused_result))
#define VIC_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum vic_code {
#define E(code, http, exit, retry, meaning) VIC_##code,
#include "errors.def"
#undef E
    VIC_CODES
};

struct vic_err {
    enum vic_code code;
    int sys; /* errno, or 0 */
    char msg[512];
};

/* Sets 'err' and returns false.  'sys' other than 0 adds ": <strerror>". */
bool vic_fail(struct vic_err *err, enum vic_code code, int sys, const char *fmt, ...)
    VIC_PRINTF(4, 5);
bool vic_vfail(struct vic_err *err, enum vic_code code, int sys, const char *fmt, va_list ap)
    VIC_PRINTF(4, 0);

/* The code that fits an errno: ENOENT is NOT_FOUND, ENOSPC is NO_SPACE ... else IO. */
enum vic_code vic_code_of_errno(int sys);

/* vic_fail with the code that fits errno; reads errno first. */
bool vic_fail_errno(struct vic_err *err, const char *fmt, ...) VIC_PRINTF(2, 3);

/* Puts "fmt: " before the message; keeps code and errno; returns false. */
bool vic_wrap(struct vic_err *err, const char *fmt, ...) VIC_PRINTF(2, 3);

/* Columns of errors.def. */
const char *vic_code_name(enum vic_code code); /* "NOT_FOUND" */
const char *vic_code_meaning(enum vic_code code);
int vic_code_http(enum vic_code code);
int vic_code_exit(enum vic_code code);
bool vic_code_retry(enum vic_code code);

#endif
