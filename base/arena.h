/* An arena: memory with one end.
 *
 * One per request and one per reconcile pass: everything made for it is freed at once.  Allocation
 * never returns NULL (it aborts like xmalloc); what comes off a wire is bounded before it is copied
 * here.  Not thread-safe: an arena has one user at a time. */
#ifndef VIC_BASE_ARENA_H
#define VIC_BASE_ARENA_H

#include "err.h"
#include "sv.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* in the newest block */
    size_t total;               /* bytes handed out, for accounting */
};

void arena_fini(struct arena *a);
#define AUTO_ARENA __attribute__((cleanup(arena_fini)))

void *arena_alloc(struct arena *a, size_t size); /* zeroed, aligned for any type */
void *arena_copy(struct arena *a, const void *p, size_t size);
char *arena_strdup(struct arena *a, const char *s); /* NULL stays NULL */
char *arena_sv(struct arena *a, struct sv s);       /* NUL-terminated copy */
char *arena_printf(struct arena *a, const char *fmt, ...) VIC_PRINTF(2, 3);

#define ARENA_NEW(a, type)      ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_alloc_array((a), (n), sizeof(type)))
void *arena_alloc_array(struct arena *a, size_t count, size_t size);

#endif
