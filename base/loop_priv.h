/* What loop.c lends to net.c and http*.c. */
#ifndef VIC_BASE_LOOP_PRIV_H
#define VIC_BASE_LOOP_PRIV_H

#include <sys/queue.h>

#include <uv.h>

#include "buf.h"
#include "loop.h"

/* Everything open on a loop is an item of it, so that loop_free can end what its owners left.
 * Streams and listeners end first (their owners' on_close may still free timers), then the rest. */
enum loop_phase { LOOP_IO, LOOP_REST, LOOP_PHASES };

struct loop_item {
    TAILQ_ENTRY(loop_item) link;
    void (*end)(struct loop_item *item); /* begins to close; the item is removed when it is freed */
    enum loop_phase phase;
    bool ending;
};

void loop_item_add(struct loop *l, struct loop_item *item, enum loop_phase phase,
                   void (*end)(struct loop_item *item));
void loop_item_remove(struct loop *l, struct loop_item *item);

/* One read goes on at a time, so that one buffer serves all streams. */
enum { LOOP_READ_SIZE = 64 * 1024 };
struct loop_scratch {
    struct buf plain; /* decrypted */
    char read[LOOP_READ_SIZE];
};
struct loop_scratch *loop_scratch(struct loop *l);

/* loop_post that also works after loop_stop: fn runs in loop_pump or loop_free.  For completions
 * that must not get lost. */
void loop_post_late(struct loop *l, void (*fn)(void *arg), void *arg);

void loop_pump(struct loop *l); /* after loop_adopt: waits for events and runs them, once */

#endif
