/* Ownership by attribute.
 *
 * AUTO_FREE and AUTO_CLOSE release at the end of the scope; TAKE() hands over and leaves NULL, so
 * 'grep TAKE' lists every change of owner.  The x-functions never return NULL: they abort with a
 * line on stderr, which is right for the daemons' small allocations (sizes that come off a wire are
 * checked against a named limit first); the tether's agent uses them too, before it has a workload.
 */
#ifndef VIC_BASE_MEM_H
#define VIC_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static inline void vic_auto_free(void *p)
{
    free(*(void **)p);
}

static inline void vic_auto_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define AUTO_FREE  __attribute__((cleanup(vic_auto_free)))
#define AUTO_CLOSE __attribute__((cleanup(vic_auto_close)))
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
