/* Names in a layer's archive: what is allowed, what is a whiteout. */
#ifndef VIC_TETHER_AGENT_LAYER_NAME_H
#define VIC_TETHER_AGENT_LAYER_NAME_H

#include <limits.h>

#include "base/err.h"
#include "base/sv.h"

/* A cleaned name: "a/b/c", without ".", empty parts or slashes at the ends; "" is the root. */
struct layer_name {
    char path[PATH_MAX];
    size_t len;
};

/* Refuses absolute names and "..". */
VIC_CHECK bool layer_name_clean(const char *name, struct layer_name *out, struct vic_err *err);
/* The same for a hard link's target, which may begin with a slash (it means the root). */
VIC_CHECK bool layer_name_target(const char *name, struct layer_name *out, struct vic_err *err);

struct sv layer_name_dir(const struct layer_name *n);  /* "" at the top */
struct sv layer_name_base(const struct layer_name *n); /* borrowed, NUL-terminated */

/* False when a relative link at 'at' would climb above the root. */
bool layer_link_stays(const struct layer_name *at, const char *target);

enum layer_whiteout { LAYER_ENTRY, LAYER_WHITEOUT, LAYER_OPAQUE, LAYER_METADATA };
/* What a base name means (OCI image spec, "Whiteouts"; the rest of ".wh..wh." is AUFS's own). */
enum layer_whiteout layer_whiteout(struct sv base);

#endif
