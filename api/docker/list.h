/* The filters of GET /containers/json. */
#ifndef VIC_API_DOCKER_LIST_H
#define VIC_API_DOCKER_LIST_H

#include <regex.h>

#include "docker.h"

enum { LIST_REGEXES = 8 };

struct list_filter {
    struct filters f;
    bool all; /* not only those that run */
    int64_t before_ns, since_ns;
    struct store_strs ancestors; /* image ids */
    bool by_ancestor;
    regex_t names[LIST_REGEXES], ids[LIST_REGEXES];
    size_t name_count, id_count;
};
/* Reads and checks the query; false with c->err.  list_filter_fini in any case. */
bool list_filter_read(struct call *c, struct list_filter *l);
void list_filter_fini(struct list_filter *l);
bool list_filter_takes(const struct list_filter *l, const struct store_container *k);

#endif
