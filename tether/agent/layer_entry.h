/* One entry of a layer: the thing itself and its attributes. */
#ifndef VIC_TETHER_AGENT_LAYER_ENTRY_H
#define VIC_TETHER_AGENT_LAYER_ENTRY_H

#include <stdint.h>

#include "layer_name.h"

struct archive;
struct archive_entry;

struct entry_place {
    int root, parent; /* 'parent' is the folder of 'name' */
    const struct layer_name *name;
    bool exists; /* a folder that is there already */
    uint64_t max_bytes;
};

VIC_CHECK bool entry_put(const struct entry_place *at, struct archive *a, struct archive_entry *e,
                         struct vic_err *err);
/* Owner, mode and attributes of the root folder itself. */
VIC_CHECK bool entry_apply_root(const struct entry_place *at, struct archive_entry *e,
                                struct vic_err *err);

#endif
