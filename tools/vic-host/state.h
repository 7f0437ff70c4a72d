/* vic-host's memory: one LMDB file, keys of text, values of bytes.
 *
 *   host                 JSON: uuid, next id
 *   vm/<id>/config       XML: VirtualMachineConfigInfo, as the next power-on will see it
 *   vm/<id>/run          JSON: pool, folder, power, boot time
 *   vm/<id>/live         XML: extraConfig of the run (only while powered on)
 *   pool/<id>            XML: ResourceConfigSpec; pool/<id>/meta JSON
 *   disk/<ds>/<path>     JSON: uuid, parent, capacity, deletable
 *   task/<id>            JSON: a task that has begun and what is to be removed if it is cut
 * A change is a batch: collected in memory, committed whole or not at all.  What commits with
 * 'durable' is on the disk when the call returns; the rest survives kill -9, not a power cut.
 * Threads: any; a commit blocks. */
#ifndef VIC_HOST_STATE_H
#define VIC_HOST_STATE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

struct state;

/* Makes 'path' (mode 0600) when it is not there.  One process at a time: VIC_BUSY. */
struct state *state_open(const char *path, struct vic_err *err);
void state_close(struct state *s);

struct state_batch {
    struct arena a;
    struct state_change *first, **last;
};
void state_put(struct state_batch *b, const char *key, struct sv value); /* copied */
void state_del(struct state_batch *b, const char *key);                  /* absent is fine */
void state_batch_fini(struct state_batch *b);
#define AUTO_BATCH __attribute__((cleanup(state_batch_fini)))

VIC_CHECK bool state_commit(struct state *s, const struct state_batch *b, bool durable,
                            struct vic_err *err);
/* Copies into 'a'; NOT_FOUND. */
VIC_CHECK bool state_get(struct state *s, const char *key, struct arena *a, struct sv *out,
                         struct vic_err *err);
/* All keys with the prefix, in order; what 'each' is given is borrowed for the call. */
VIC_CHECK bool state_each(struct state *s, const char *prefix,
                          void (*each)(void *arg, const char *key, struct sv value), void *arg,
                          struct vic_err *err);

#endif
