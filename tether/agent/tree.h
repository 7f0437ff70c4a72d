/* Removing trees that someone hostile has built: no recursion and a fixed number of descriptors,
 * however deep they are. */
#ifndef VIC_TETHER_AGENT_TREE_H
#define VIC_TETHER_AGENT_TREE_H

#include "base/err.h"

struct tree_trash {
    int fd; /* an empty folder on the same file system, out of the tree's sight */
    unsigned next;
};

/* Removes 'name' in 'dir', whatever it is; that it is not there is no error. */
VIC_CHECK bool tree_remove(struct tree_trash *t, int dir, const char *name, struct vic_err *err);

#endif
