/* Which containers a list shows: see list.h.
 *
 * Everything that can be wrong is found before the first byte of the answer; the test of one
 * container then only compares.  name and id are regular expressions in Docker: we take POSIX
 * extended ones without repetition counts and back references, whose cost could run away. */
#include "list.h"

enum { MAX_PATTERN = 256 };

static const char *const keys[] = {"ancestor",  "before",  "exited", "expose", "health", "id",
                                   "isolation", "is-task", "label",  "label!", "name",   "network",
                                   "publish",   "since",   "status", "volume", NULL};
static const char *const states[] = {"created", "restarting", "running", "removing",
                                     "paused",  "exited",     "dead",    NULL};
static const char *const healths[] = {"starting", "healthy", "unhealthy", "none", NULL};

static bool invalid(struct call *c, const char *key, const char *value)
{
    return vic_fail(&c->err, VIC_INVALID, 0, "invalid filter '%s=%.64s'", key, value);
}

/* --- reading --------------------------------------------------------------------------------- */
static bool one_of(struct call *c, const struct filters *f, const char *key,
                   const char *const *allowed)
{
    struct store_strs v = filter_values(f, key);
    for (size_t i = 0; i < v.n; i++) {
        const char *const *a = allowed;
        while (*a && strcmp(*a, v.v[i]) != 0)
            a++;
        if (!*a)
            return invalid(c, key, v.v[i]);
    }
    return true;
}

static bool compile(struct call *c, const char *key, const struct filters *f, regex_t *out,
                    size_t *count)
{
    struct store_strs v = filter_values(f, key);
    if (v.n > LIST_REGEXES)
        return vic_fail(&c->err, VIC_INVALID, 0, "more than %d values of filter '%s'", LIST_REGEXES,
                        key);
    for (size_t i = 0; i < v.n; i++) {
        if (strlen(v.v[i]) > MAX_PATTERN || strpbrk(v.v[i], "{\\") ||
            regcomp(&out[*count], v.v[i], REG_EXTENDED | REG_NOSUB) != 0)
            return invalid(c, key, v.v[i]);
        (*count)++;
    }
    return true;
}

/* "80", "80/tcp", "80-90/udp" */
static bool check_ports(struct call *c, const struct filters *f, const char *key)
{
    struct store_strs v = filter_values(f, key);
    unsigned first, last;
    const char *proto;
    for (size_t i = 0; i < v.n; i++)
        if (!port_parse(sv_of(v.v[i]), &first, &last, &proto))
            return invalid(c, key, v.v[i]);
    return true;
}

static bool check_exited(struct call *c, const struct filters *f)
{
    struct store_strs v = filter_values(f, "exited");
    int64_t n;
    for (size_t i = 0; i < v.n; i++)
        if (!sv_to_i64(sv_of(v.v[i]), &n))
            return invalid(c, "exited", v.v[i]);
    return true;
}

/* When the container of a before or since filter was created; both also exist as parameters. */
static bool read_border(struct call *c, struct store_txn *t, const struct filters *f,
                        const char *key, int64_t *ns)
{
    struct store_strs v = filter_values(f, key);
    struct store_container k;
    const char *name = v.n ? v.v[0] : call_query(c, key);
    if (!*name)
        return true;
    if (!find_container(c, t, name, &k))
        return false;
    *ns = k.meta.created;
    return true;
}

static bool read_ancestors(struct call *c, struct store_txn *t, struct list_filter *l)
{
    struct store_strs v = filter_values(&l->f, "ancestor");
    struct store_image image;
    l->by_ancestor = v.n > 0;
    for (size_t i = 0; i < v.n; i++) {
        if (find_image(c, t, v.v[i], &image))
            strs_push(c->a, &l->ancestors, arena_strdup(c->a, image.meta.id));
        else if (c->err.code != VIC_NOT_FOUND && c->err.code != VIC_INVALID)
            return false;
    }
    return true;
}

bool list_filter_read(struct call *c, struct list_filter *l)
{
    int64_t limit;
    *l = (struct list_filter){.before_ns = INT64_MAX, .since_ns = INT64_MIN};
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!t || !filters_read(c, keys, &l->f) || !call_number(c, "limit", 0, &limit) ||
        !one_of(c, &l->f, "status", states) || !one_of(c, &l->f, "health", healths) ||
        !check_exited(c, &l->f) || !check_ports(c, &l->f, "expose") ||
        !check_ports(c, &l->f, "publish") || !read_border(c, t, &l->f, "before", &l->before_ns) ||
        !read_border(c, t, &l->f, "since", &l->since_ns) || !read_ancestors(c, t, l) ||
        !compile(c, "name", &l->f, l->names, &l->name_count) ||
        !compile(c, "id", &l->f, l->ids, &l->id_count))
        return false;
    l->all = call_flag(c, "all", false) || limit > 0 || filter_values(&l->f, "status").n ||
             filter_values(&l->f, "exited").n || l->before_ns != INT64_MAX ||
             l->since_ns != INT64_MIN;
    return true;
}

void list_filter_fini(struct list_filter *l)
{
    while (l->name_count)
        regfree(&l->names[--l->name_count]);
    while (l->id_count)
        regfree(&l->ids[--l->id_count]);
}

/* --- testing --------------------------------------------------------------------------------- */
static bool name_matches(const struct list_filter *l, const char *name)
{
    char slashed[258] = "/";
    strncat(slashed, name, sizeof slashed - 2);
    for (size_t i = 0; i < l->name_count; i++)
        if (regexec(&l->names[i], name, 0, NULL, 0) == 0 ||
            regexec(&l->names[i], slashed, 0, NULL, 0) == 0)
            return true;
    return l->name_count == 0;
}

static bool id_matches(const struct list_filter *l, const char *id)
{
    for (size_t i = 0; i < l->id_count; i++)
        if (regexec(&l->ids[i], id, 0, NULL, 0) == 0)
            return true;
    return l->id_count == 0;
}

static bool exited_matches(const struct list_filter *l, const struct store_container *k)
{
    struct store_strs v = filter_values(&l->f, "exited");
    int64_t n;
    for (size_t i = 0; i < v.n; i++)
        if (sv_to_i64(sv_of(v.v[i]), &n) && n == k->status.exit_code &&
            k->status.phase == store_run_phase_EXITED)
            return true;
    return v.n == 0;
}

static bool ports_overlap(const char *want, const char *have)
{
    unsigned a, b, x, y;
    const char *p, *q;
    return port_parse(sv_of(want), &a, &b, &p) && port_parse(sv_of(have), &x, &y, &q) &&
           strcmp(p, q) == 0 && x <= b && a <= y;
}

static bool expose_matches(const struct list_filter *l, const struct store_container *k)
{
    struct store_strs v = filter_values(&l->f, "expose");
    for (size_t i = 0; i < v.n; i++)
        for (size_t n = 0; n < k->config.exposed_ports.n; n++)
            if (ports_overlap(v.v[i], k->config.exposed_ports.v[n]))
                return true;
    return v.n == 0;
}

static bool network_matches(const struct list_filter *l, const struct store_container *k)
{
    const char *mode = k->host_config.network_mode;
    return filter_values(&l->f, "network").n == 0 || filter_has(&l->f, "network", mode) ||
           (strcmp(mode, "default") == 0 && filter_has(&l->f, "network", "bridge"));
}

/* A key whose only value that holds here is 'value'. */
static bool only(const struct list_filter *l, const char *key, const char *value)
{
    return filter_values(&l->f, key).n == 0 || (value && filter_has(&l->f, key, value));
}

static bool rare_match(const struct list_filter *l, const struct store_container *k)
{
    bool tasks = filter_values(&l->f, "is-task").n && !filter_has(&l->f, "is-task", "false") &&
                 !filter_has(&l->f, "is-task", "0");
    return !tasks && only(l, "health", "none") && only(l, "volume", NULL) &&
           only(l, "publish", NULL) &&
           (only(l, "isolation", "default") || filter_has(&l->f, "isolation", "")) &&
           expose_matches(l, k) && network_matches(l, k) && exited_matches(l, k);
}

bool list_filter_takes(const struct list_filter *l, const struct store_container *k)
{
    if (k->meta.deleted || (!l->all && !container_is_running(k)))
        return false;
    if (k->meta.created >= l->before_ns || k->meta.created <= l->since_ns)
        return false;
    if (!l->f.n)
        return true;
    return only(l, "status", container_state(k)) && filter_labels(&l->f, &k->config.labels) &&
           (!l->by_ancestor || strs_have(&l->ancestors, k->image)) &&
           name_matches(l, k->meta.name) && id_matches(l, k->meta.id) && rare_match(l, k);
}
