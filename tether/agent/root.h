/* Paths below a folder that someone hostile has filled: openat2(2) with RESOLVE_IN_ROOT, so that
 * "..", absolute names and links, whatever they say, stay inside. */
#ifndef VIC_TETHER_AGENT_ROOT_H
#define VIC_TETHER_AGENT_ROOT_H

#include <sys/types.h>

#include "base/err.h"
#include "base/sv.h"

/* -1 and errno.  O_CLOEXEC is added; magic links (/proc/PID/fd) are refused. */
int root_open(int root, const char *path, int flags);
/* The folder 'path' (not terminated), made with its ancestors (mode 0755) when missing; an O_PATH
 * descriptor, or -1 and errno. */
int root_open_dir(int root, struct sv path);

#endif
