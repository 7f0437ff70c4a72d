/* Allocation that does not fail: see mem.h. */
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void *check(void *p, size_t size)
{
    if (!p) {
        fprintf(stderr, "out of memory: %zu bytes or items refused\n", size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return check(malloc(size ? size : 1), size);
}

void *xcalloc(size_t count, size_t size)
{
    return check(count && size ? calloc(count, size) : calloc(1, 1), count);
}

void *xrealloc(void *p, size_t size)
{
    return check(realloc(p, size ? size : 1), size);
}

char *xstrdup(const char *s)
{
    return check(strdup(s), 1);
}

char *xstrndup(const char *s, size_t len)
{
    return check(strndup(s, len), 1);
}

char *xasprintf(const char *fmt, ...)
{
    char *out = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&out, fmt, ap);
    va_end(ap);
    return check(n < 0 ? NULL : out, 1);
}
