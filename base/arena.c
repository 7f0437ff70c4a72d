/* An arena: see arena.h.  Blocks double from 4 KiB to 256 KiB; a bigger wish gets its own block,
 * put behind the newest so that the room left there is not lost. */
#include "arena.h"

#include <stdalign.h>
#include <stdio.h>

#include "mem.h"

enum { FIRST_BLOCK = 4096, BIG_BLOCK = 256 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t size;
    alignas(max_align_t) char data[];
};

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->blocks; b;) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    *a = (struct arena){0};
}

static struct arena_block *new_block(size_t size)
{
    struct arena_block *b = xmalloc(sizeof *b + size);
    b->size = size;
    b->next = NULL;
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    const size_t align = alignof(max_align_t);
    if (size > SIZE_MAX - BIG_BLOCK - align)
        abort();
    size = (size + align - 1) & ~(align - 1);
    a->total += size;
    void *p;
    if (a->blocks && size <= a->blocks->size - a->used) {
        p = a->blocks->data + a->used;
        a->used += size;
    } else if (a->blocks && size > BIG_BLOCK / 2) {
        struct arena_block *own = new_block(size);
        own->next = a->blocks->next;
        a->blocks->next = own;
        p = own->data;
    } else {
        size_t want = a->blocks ? a->blocks->size * 2 : FIRST_BLOCK;
        if (want > BIG_BLOCK)
            want = BIG_BLOCK;
        struct arena_block *b = new_block(want < size ? size : want);
        b->next = a->blocks;
        a->blocks = b;
        a->used = size;
        p = b->data;
    }
    return memset(p, 0, size);
}

void *arena_alloc_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        abort();
    return arena_alloc(a, bytes);
}

void *arena_copy(struct arena *a, const void *p, size_t size)
{
    void *out = arena_alloc(a, size);
    if (size)
        memcpy(out, p, size);
    return out;
}

char *arena_sv(struct arena *a, struct sv s)
{
    char *out = arena_alloc(a, s.len + 1);
    if (s.len)
        memcpy(out, s.p, s.len);
    return out;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s ? arena_sv(a, sv_of(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *out = arena_alloc(a, n < 0 ? 1 : (size_t)n + 1);
    va_start(ap, fmt);
    if (n >= 0)
        vsnprintf(out, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return out;
}
