/* Who a process runs as, by the image's own /etc/passwd and /etc/group.
 *
 * Read by hand from a bounded buffer: never getpwnam, which in a static program would load the
 * image's libraries.  Syntax and error texts are Docker's: "user", "uid", "user:group", mixed. */
#ifndef VIC_TETHER_AGENT_USER_H
#define VIC_TETHER_AGENT_USER_H

#include <sys/types.h>

#include "base/buf.h"
#include "spec.h"

enum { USER_MAX_GROUPS = 1024, USER_MAX_FILE = 4 << 20 };

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_MAX_GROUPS];
    size_t group_count;
    char home[1024];
};

/* 'passwd' and 'group' are the files' texts (empty when there are none). */
VIC_CHECK bool user_find(struct sv passwd, struct sv group, const char *user,
                         const struct spec_list *group_add, struct user *out, struct vic_err *err);
/* The same with the files below the folder 'root' (links in them stay inside). */
VIC_CHECK bool user_find_in(int root, const char *user, const struct spec_list *group_add,
                            struct user *out, struct vic_err *err);

#endif
