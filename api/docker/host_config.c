/* Docker's HostConfig: its JSON both ways, and what of it a virtual machine can be.
 *
 * Nothing that changes meaning is dropped silently: what has none for a VM gives a warning, what
 * cannot be is refused (host_rules.def, and the checks below).  Defaults are filled in as dockerd
 * shows them, so that inspect tells what holds.
 * Networks are the loopback interface only: modes default, bridge and none are taken. */
#include <stdarg.h>
#include <stdio.h>

#include "docker.h"

enum { MAX_LIST = 4096, MIN_MEMORY = 6 << 20, DEFAULT_SHM = 64 << 20 };

void warn_add(struct warnings *w, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!strs_have(&w->list, text))
        strs_push(w->a, &w->list, arena_strdup(w->a, text));
}

static bool refuse(struct vic_err *err, const char *text)
{
    return vic_fail(err, VIC_INVALID, 0, "%s", text);
}

static bool wrong(struct vic_err *err, const char *member, const char *what)
{
    return vic_fail(err, VIC_INVALID, 0, "HostConfig.%s: expected %s", member, what);
}

/* --- rules ----------------------------------------------------------------------------------- */
enum rule_verdict { REFUSE, WARN };
static const struct rule {
    const char *member;
    enum rule_verdict verdict;
    const char *text;
} rules[] = {
#define H(member, verdict, text) {#member, verdict, text},
#include "host_rules.def"
#undef H
};

static bool is_set(struct json_val v)
{
    struct sv raw = json_raw(v);
    switch (json_type(v)) {
    case JSON_NULL:
        return false;
    case JSON_BOOL:
        return json_bool(v, false);
    case JSON_NUMBER:
        return !sv_is(raw, "0") && !sv_is(raw, "-1");
    case JSON_STRING:
        return raw.len > 2;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_count(v) > 0;
    }
    return true;
}

static bool apply_rules(struct json_val v, struct warnings *warn, struct vic_err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        struct json_val m = json_get_nocase(v, rules[i].member);
        if (!m.doc || !is_set(m))
            continue;
        if (rules[i].verdict == REFUSE)
            return refuse(err, rules[i].text);
        warn_add(warn, "%s", rules[i].text);
    }
    return true;
}

/* --- members with a form of their own -------------------------------------------------------- */
static bool read_map(struct json_val v, const char *member, struct arena *a, struct store_map *out,
                     struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, member);
    if (!json_present(m))
        return true;
    if (json_type(m) != JSON_OBJECT || json_count(m) > MAX_LIST)
        return wrong(err, member, "an object of strings");
    *out = (struct store_map){ARENA_ARRAY(a, struct store_kv, json_count(m) + 1), 0};
    for (struct json_iter i = json_iter(m); json_next(&i);) {
        struct store_kv *kv = &out->v[out->n++];
        kv->k = arena_sv(a, i.key);
        if (!json_read_str(i.val, &kv->v))
            return wrong(err, member, "an object of strings");
    }
    return true;
}

static bool host_port_ok(const char *text)
{
    unsigned first, last;
    const char *proto;
    return !*text || strcmp(text, "0") == 0 ||
           (!strchr(text, '/') && port_parse(sv_of(text), &first, &last, &proto));
}

/* One port's list of bindings; a null or empty list is one binding to any port. */
static bool read_binding(struct json_iter *port, struct arena *a, struct store_host_config *out,
                         size_t *cap, struct vic_err *err)
{
    const char *name = arena_sv(a, port->key), *proto;
    unsigned first, last;
    if (!port_parse(sv_of(name), &first, &last, &proto))
        return vic_fail(err, VIC_INVALID, 0, "invalid port specification: \"%.64s\"", name);
    if (json_present(port->val) && json_type(port->val) != JSON_ARRAY)
        return wrong(err, "PortBindings", "lists of bindings");
    size_t n = json_count(port->val) ? json_count(port->val) : 1;
    if (out->port_bindings.n + n > *cap) {
        *cap = (out->port_bindings.n + n) * 2;
        void *more = arena_alloc_array(a, *cap, sizeof *out->port_bindings.v);
        if (out->port_bindings.n)
            memcpy(more, out->port_bindings.v, out->port_bindings.n * sizeof *out->port_bindings.v);
        out->port_bindings.v = more;
    }
    struct json_iter i = json_iter(port->val);
    for (size_t k = 0; k < n; k++) {
        struct json_val b = json_next(&i) ? i.val : (struct json_val){0};
        struct store_port_binding *p = &out->port_bindings.v[out->port_bindings.n++];
        store_init(store_rec_port_binding(), p);
        p->port = name;
        p->host_ip = json_str(json_get_nocase(b, "HostIp"), "");
        p->host_port = json_str(json_get_nocase(b, "HostPort"), "");
        if (!host_port_ok(p->host_port))
            return vic_fail(err, VIC_INVALID, 0, "invalid port specification: \"%.64s\"",
                            p->host_port);
    }
    return true;
}

static bool read_bindings(struct json_val v, struct arena *a, struct store_host_config *out,
                          struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, "PortBindings");
    size_t cap = 0;
    if (!json_present(m))
        return true;
    if (json_type(m) != JSON_OBJECT || json_count(m) > MAX_LIST)
        return wrong(err, "PortBindings", "an object");
    for (struct json_iter i = json_iter(m); json_next(&i);)
        if (!read_binding(&i, a, out, &cap, err))
            return false;
    return true;
}

static bool read_console(struct json_val v, struct store_host_config *out, struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, "ConsoleSize");
    uint64_t size[2] = {0, 0};
    if (!json_present(m))
        return true;
    struct json_iter i = json_iter(m);
    for (size_t k = 0; k < 2; k++)
        if (json_type(m) != JSON_ARRAY || !json_next(&i) || !json_read_u64(i.val, &size[k]) ||
            size[k] > UINT16_MAX)
            return wrong(err, "ConsoleSize", "[height, width]");
    out->console_rows = (uint32_t)size[0];
    out->console_cols = (uint32_t)size[1];
    return true;
}

static bool read_numbers(struct json_val v, struct store_host_config *out, struct vic_err *err)
{
    struct json_val swap = json_get_nocase(v, "MemorySwappiness");
    struct json_val pids = json_get_nocase(v, "PidsLimit");
    out->memory_swappiness = -1;
    if (json_present(swap) && !json_read_i64(swap, &out->memory_swappiness))
        return wrong(err, "MemorySwappiness", "a number");
    if (json_present(pids) && !json_read_i64(pids, &out->pids_limit))
        return wrong(err, "PidsLimit", "a number");
    out->oom_kill_disable = json_bool(json_get_nocase(v, "OomKillDisable"), false);
    out->init = json_bool(json_get_nocase(v, "Init"), false);
    return true;
}

/* --- mounts ---------------------------------------------------------------------------------- */
static bool refuse_bind(const char *bind, struct vic_err *err)
{
    if (*bind == '/')
        return vic_fail(err, VIC_INVALID, 0,
                        "mounting directories as a data volume is not supported: %.200s", bind);
    return vic_fail(err, VIC_INVALID, 0, "volumes are not supported yet: %.200s", bind);
}

/* A tmpfs mount becomes an entry of Tmpfs; no other type can be had. */
static bool read_mount(struct json_val m, struct arena *a, struct store_map *tmpfs,
                       struct vic_err *err)
{
    const char *type = json_str(json_get_nocase(m, "Type"), "");
    const char *target = json_str(json_get_nocase(m, "Target"), "");
    if (strcmp(type, "bind") == 0 || strcmp(type, "volume") == 0)
        return refuse_bind(json_str(json_get_nocase(m, "Source"), target), err);
    if (strcmp(type, "tmpfs") != 0)
        return vic_fail(err, VIC_INVALID, 0, "mount type unknown: \"%.64s\"", type);
    if (*target != '/')
        return vic_fail(err, VIC_INVALID, 0,
                        "invalid mount config for type \"tmpfs\": invalid mount path: '%.200s' "
                        "mount path must be absolute",
                        target);
    struct json_val o = json_get_nocase(m, "TmpfsOptions");
    int64_t size = json_i64(json_get_nocase(o, "SizeBytes"), 0);
    int64_t mode = json_i64(json_get_nocase(o, "Mode"), 0);
    char *text = arena_strdup(a, "");
    if (size > 0)
        text = arena_printf(a, "size=%lld", (long long)size);
    if (mode > 0)
        text = arena_printf(a, "%s%smode=%llo", text, *text ? "," : "", (unsigned long long)mode);
    tmpfs->v[tmpfs->n++] = (struct store_kv){target, text};
    return true;
}

static bool read_mounts(struct json_val v, struct arena *a, struct store_host_config *out,
                        struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, "Mounts");
    if (out->binds.n)
        return refuse_bind(out->binds.v[0], err);
    if (!read_map(v, "Tmpfs", a, &out->tmpfs, err))
        return false;
    if (!json_present(m))
        return true;
    if (json_type(m) != JSON_ARRAY || json_count(m) > MAX_LIST)
        return wrong(err, "Mounts", "a list of mounts");
    struct store_map all = {ARENA_ARRAY(a, struct store_kv, out->tmpfs.n + json_count(m) + 1), 0};
    for (size_t i = 0; i < out->tmpfs.n; i++)
        all.v[all.n++] = out->tmpfs.v[i];
    for (struct json_iter i = json_iter(m); json_next(&i);)
        if (!read_mount(i.val, a, &all, err))
            return false;
    out->tmpfs = all;
    for (size_t i = 0; i < all.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(all.v[i].k, all.v[k].k) == 0)
                return vic_fail(err, VIC_INVALID, 0, "Duplicate mount point: %.200s", all.v[i].k);
    return true;
}

/* --- checks and defaults --------------------------------------------------------------------- */
bool restart_policy_check(const struct store_restart_policy *p, bool auto_remove,
                          struct vic_err *err)
{
    static const char *const names[] = {"", "no", "always", "unless-stopped", "on-failure"};
    size_t i = 0;
    while (i < ARRAY_LEN(names) && strcmp(p->name, names[i]) != 0)
        i++;
    if (i == ARRAY_LEN(names))
        return vic_fail(err, VIC_INVALID, 0,
                        "invalid restart policy: unknown policy '%.64s'; use one of 'no', "
                        "'always', 'on-failure', or 'unless-stopped'",
                        p->name);
    if (p->max && strcmp(p->name, "on-failure") != 0)
        return vic_fail(err, VIC_INVALID, 0,
                        "invalid restart policy: maximum retry count can only be used with "
                        "'on-failure'");
    if (p->max < 0)
        return vic_fail(err, VIC_INVALID, 0,
                        "invalid restart policy: maximum retry count cannot be negative");
    if (auto_remove && i > 1)
        return vic_fail(err, VIC_INVALID, 0,
                        "can't create 'AutoRemove' container with restart policy");
    return true;
}

static bool check_network(const struct store_host_config *h, struct vic_err *err)
{
    static const char *const ok[] = {"", "default", "bridge", "none"};
    for (size_t i = 0; i < ARRAY_LEN(ok); i++)
        if (strcmp(h->network_mode, ok[i]) == 0)
            return true;
    if (strcmp(h->network_mode, "host") == 0)
        return refuse(err, "host network mode is not supported");
    if (strncmp(h->network_mode, "container:", 10) == 0)
        return refuse(err, "container network mode is not supported: a virtual machine cannot "
                           "share another's network");
    return vic_fail(err, VIC_INVALID, 0, "network %.64s is not supported yet: use bridge or none",
                    h->network_mode);
}

static bool shares_namespace(const char *mode)
{
    return strcmp(mode, "host") == 0 || strncmp(mode, "container:", 10) == 0;
}

static bool check_modes(const struct store_host_config *h, struct vic_err *err)
{
    const struct {
        const char *name, *mode;
    } modes[] = {{"PID", h->pid_mode}, {"IPC", h->ipc_mode}, {"UTS", h->uts_mode}};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (shares_namespace(modes[i].mode))
            return vic_fail(err, VIC_INVALID, 0,
                            "%s mode \"%.64s\" is not supported: a container is a virtual machine",
                            modes[i].name, modes[i].mode);
    if (*h->runtime && strcmp(h->runtime, "runc") != 0)
        return vic_fail(err, VIC_INVALID, 0, "unknown or invalid runtime name: %.64s", h->runtime);
    if (*h->isolation && strcmp(h->isolation, "default") != 0)
        return vic_fail(err, VIC_INVALID, 0, "isolation \"%.64s\" is not supported", h->isolation);
    return true;
}

static bool check_log(const struct store_host_config *h, struct vic_err *err)
{
    static const char *const drivers[] = {"", "json-file", "local", "none"};
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (strcmp(h->log_config.type, drivers[i]) == 0)
            return true;
    return vic_fail(err, VIC_INVALID, 0, "logger: no log driver named '%.64s' is registered",
                    h->log_config.type);
}

static bool check_limits(const struct store_host_config *h, struct vic_err *err)
{
    if (h->memory && h->memory < MIN_MEMORY)
        return refuse(err, "Minimum memory limit allowed is 6MB");
    if (h->nano_cpus < 0 || h->nano_cpus > (int64_t)256 * 1000000000)
        return refuse(err, "range of CPUs is from 0.01 to 256.00");
    if (h->nano_cpus && h->cpu_period)
        return refuse(err, "Conflicting options: Nano CPUs and CPU Period cannot both be set.");
    if (h->nano_cpus && h->cpu_quota)
        return refuse(err, "Conflicting options: Nano CPUs and CPU Quota cannot both be set.");
    if (h->cpu_period && (h->cpu_period < 1000 || h->cpu_period > 1000000))
        return refuse(err, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s "
                           "(i.e. 1000000)");
    if (h->cpu_quota > 0 && h->cpu_quota < 1000)
        return refuse(err, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    if (h->shm_size < 0)
        return refuse(err, "SHM size can not be less than 0");
    if (h->oom_score_adj < -1000 || h->oom_score_adj > 1000)
        return vic_fail(err, VIC_INVALID, 0,
                        "Invalid value %lld, range for oom score adj is [-1000, 1000]",
                        (long long)h->oom_score_adj);
    return true;
}

static bool check_hosts(const struct store_host_config *h, struct vic_err *err)
{
    for (size_t i = 0; i < h->extra_hosts.n; i++) {
        struct sv ip = sv_of(h->extra_hosts.v[i]), name = sv_cut(&ip, ':');
        if (!name.len || !ip.len)
            return vic_fail(err, VIC_INVALID, 0, "bad format for add-host: \"%.200s\"",
                            h->extra_hosts.v[i]);
    }
    return true;
}

static bool check_gpu(struct json_val v, struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, "DeviceRequests");
    if (!json_present(m) || !json_count(m))
        return true;
    struct json_iter i = json_iter(m);
    struct json_val caps = json_next(&i) ? json_get_nocase(i.val, "Capabilities") : m;
    const char *kind = "";
    for (struct json_iter k = json_iter(caps); json_next(&k);)
        for (struct json_iter l = json_iter(k.val); json_next(&l);)
            kind = json_str(l.val, kind);
    return vic_fail(err, VIC_INVALID, 0,
                    "could not select device driver \"\" with capabilities: [[%.64s]]", kind);
}

static void fill(const char **field, const char *value)
{
    if (!**field)
        *field = value;
}

static void fill_defaults(struct store_host_config *h)
{
    fill(&h->network_mode, "default");
    fill(&h->restart_policy.name, "no");
    fill(&h->log_config.type, "json-file");
    fill(&h->ipc_mode, "private");
    fill(&h->cgroupns_mode, "private");
    fill(&h->runtime, "runc");
    if (!h->shm_size)
        h->shm_size = DEFAULT_SHM;
}

bool host_config_from_json(struct json_val v, struct arena *a, struct store_host_config *out,
                           struct warnings *warn, struct vic_err *err)
{
    out->memory_swappiness = -1;
    if (json_present(v)) {
        if (!store_from_json(store_rec_host_config(), v, false, a, out, err))
            return vic_wrap(err, "HostConfig");
        if (!read_bindings(v, a, out, err) || !read_console(v, out, err) ||
            !read_numbers(v, out, err) || !read_map(v, "Sysctls", a, &out->sysctls, err) ||
            !read_map(v, "Annotations", a, &out->annotations, err) ||
            !read_mounts(v, a, out, err) || !apply_rules(v, warn, err) || !check_gpu(v, err))
            return false;
    }
    if (!restart_policy_check(&out->restart_policy, out->auto_remove, err) ||
        !check_network(out, err) || !check_modes(out, err) || !check_log(out, err) ||
        !check_limits(out, err) || !check_hosts(out, err))
        return false;
    if (*out->restart_policy.name && strcmp(out->restart_policy.name, "no") != 0)
        warn_add(warn, "RestartPolicy is kept but not applied yet: the container will not be "
                       "restarted");
    fill_defaults(out);
    return true;
}

/* --- writing --------------------------------------------------------------------------------- */
static void add_bindings(struct json_writer *w, const struct store_host_config *h)
{
    const char *open = NULL;
    json_open(w, "PortBindings", '{');
    for (size_t i = 0; i < h->port_bindings.n; i++) {
        const struct store_port_binding *p = &h->port_bindings.v[i];
        if (!open || strcmp(open, p->port) != 0) {
            if (open)
                json_close(w, ']');
            open = p->port;
            json_open(w, open, '[');
        }
        json_open(w, NULL, '{');
        json_add_str(w, "HostIp", p->host_ip);
        json_add_str(w, "HostPort", p->host_port);
        json_close(w, '}');
    }
    if (open)
        json_close(w, ']');
    json_close(w, '}');
}

static void add_map(struct json_writer *w, const char *key, const struct store_map *m)
{
    if (!m->n)
        return;
    json_open(w, key, '{');
    for (size_t i = 0; i < m->n; i++)
        json_add_str(w, m->v[i].k, m->v[i].v);
    json_close(w, '}');
}

/* What the record does not keep, as dockerd shows it when it is not set. */
static void add_unkept(struct json_writer *w)
{
    static const char *const lists[] = {"BlkioWeightDevice",    "BlkioDeviceReadBps",
                                        "BlkioDeviceWriteBps",  "BlkioDeviceReadIOps",
                                        "BlkioDeviceWriteIOps", "Devices"};
    static const char *const nulls[] = {"DeviceCgroupRules", "DeviceRequests", "MaskedPaths",
                                        "ReadonlyPaths"};
    static const char *const zeros[] = {
        "BlkioWeight", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuCount",
        "CpuPercent",  "IOMaximumIOps",     "IOMaximumBandwidth"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        json_open(w, lists[i], '[');
        json_close(w, ']');
    }
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        json_add_null(w, nulls[i]);
    for (size_t i = 0; i < ARRAY_LEN(zeros); i++)
        json_add_i64(w, zeros[i], 0);
    json_add_str(w, "Cgroup", "");
}

void host_config_to_json(const struct store_host_config *h, struct json_writer *w, const char *key)
{
    json_open(w, key, '{');
    store_members_to_json(store_rec_host_config(), h, false, w);
    add_bindings(w, h);
    if (h->memory_swappiness < 0)
        json_add_null(w, "MemorySwappiness");
    else
        json_add_i64(w, "MemorySwappiness", h->memory_swappiness);
    if (h->oom_kill_disable)
        json_add_bool(w, "OomKillDisable", true);
    else
        json_add_null(w, "OomKillDisable");
    if (h->pids_limit)
        json_add_i64(w, "PidsLimit", h->pids_limit);
    else
        json_add_null(w, "PidsLimit");
    if (h->init)
        json_add_bool(w, "Init", true);
    add_map(w, "Sysctls", &h->sysctls);
    add_map(w, "Tmpfs", &h->tmpfs);
    add_map(w, "Annotations", &h->annotations);
    json_open(w, "ConsoleSize", '[');
    json_add_u64(w, NULL, h->console_rows);
    json_add_u64(w, NULL, h->console_cols);
    json_close(w, ']');
    add_unkept(w);
    json_close(w, '}');
}
