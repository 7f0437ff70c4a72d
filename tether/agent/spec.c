/* Specs: see spec.h. */
#include "spec.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/mem.h"

#include "caps.h"

static bool read_text(struct json_val v, const char *key, const char *otherwise, struct arena *a,
                      const char **out, struct vic_err *err)
{
    struct json_val m = json_get(v, key);
    const char *s;
    *out = otherwise;
    if (!json_present(m))
        return true;
    if (!json_read_str(m, &s))
        return vic_fail(err, VIC_INVALID, 0, "spec: %s is not a text", key);
    *out = arena_strdup(a, s);
    return true;
}

static bool read_flag(struct json_val v, const char *key, bool *out, struct vic_err *err)
{
    struct json_val m = json_get(v, key);
    *out = false;
    return !json_present(m) || json_read_bool(m, out) ||
           vic_fail(err, VIC_INVALID, 0, "spec: %s is not true or false", key);
}

static bool read_number(struct json_val v, const char *key, int64_t min, int64_t max,
                        int64_t otherwise, int64_t *out, struct vic_err *err)
{
    struct json_val m = json_get(v, key);
    *out = otherwise;
    if (!json_present(m))
        return true;
    if (!json_read_i64(m, out) || *out < min || *out > max)
        return vic_fail(err, VIC_INVALID, 0, "spec: %s is out of range", key);
    return true;
}

static bool read_u64(struct json_val v, const char *key, uint64_t *out, struct vic_err *err)
{
    int64_t n;
    if (!read_number(v, key, 0, INT64_MAX, 0, &n, err))
        return false;
    *out = (uint64_t)n;
    return true;
}

static bool read_list(struct json_val v, const char *key, struct arena *a, struct spec_list *out,
                      struct vic_err *err)
{
    struct json_val m = json_get(v, key);
    *out = (struct spec_list){0};
    size_t count = json_present(m) ? json_count(m) : 0;
    if (json_present(m) && (json_type(m) != JSON_ARRAY || count > SPEC_MAX_LIST))
        return vic_fail(err, VIC_INVALID, 0, "spec: %s is no list, or too long", key);
    out->v = ARENA_ARRAY(a, const char *, count + 1);
    if (count == 0)
        return true;
    for (struct json_iter i = json_iter(m); json_next(&i);) {
        const char *s;
        if (!json_read_str(i.val, &s))
            return vic_fail(err, VIC_INVALID, 0, "spec: %s holds something else than texts", key);
        out->v[out->n++] = arena_strdup(a, s);
    }
    return true;
}

static bool read_pairs(struct json_val v, const char *key, struct arena *a, struct spec_pairs *out,
                       struct vic_err *err)
{
    struct json_val m = json_get(v, key);
    *out = (struct spec_pairs){0};
    if (!json_present(m))
        return true;
    size_t count = json_count(m);
    if (json_type(m) != JSON_OBJECT || count > SPEC_MAX_LIST)
        return vic_fail(err, VIC_INVALID, 0, "spec: %s is no object, or too long", key);
    out->v = ARENA_ARRAY(a, struct spec_pair, count + 1);
    for (struct json_iter i = json_iter(m); json_next(&i) && out->n < count;) {
        const char *s;
        if (!json_read_str(i.val, &s) || memchr(i.key.p, '\0', i.key.len))
            return vic_fail(err, VIC_INVALID, 0, "spec: %s holds something else than texts", key);
        out->v[out->n++] = (struct spec_pair){arena_sv(a, i.key), arena_strdup(a, s)};
    }
    return true;
}

static const struct {
    const char *name;
    int resource;
} limits[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

static bool read_ulimit(struct json_val v, struct spec_ulimit *out, struct vic_err *err)
{
    const char *name = json_str(json_get(v, "name"), "");
    /* -1 is unlimited, as in Docker. */
    out->soft = (uint64_t)json_i64(json_get(v, "soft"), -1);
    out->hard = (uint64_t)json_i64(json_get(v, "hard"), -1);
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        if (strcmp(limits[i].name, name) == 0) {
            out->resource = limits[i].resource;
            return true;
        }
    }
    return vic_fail(err, VIC_INVALID, 0, "invalid ulimit type: %.40s", name);
}

static bool read_ulimits(struct json_val v, struct arena *a, struct spec_process *p,
                         struct vic_err *err)
{
    struct json_val m = json_get(v, "ulimits");
    size_t count = json_present(m) ? json_count(m) : 0;
    if (count > 64)
        return vic_fail(err, VIC_INVALID, 0, "spec: too many ulimits");
    struct spec_ulimit *u = ARENA_ARRAY(a, struct spec_ulimit, count + 1);
    if (count) {
        for (struct json_iter i = json_iter(m); json_next(&i);) {
            if (!read_ulimit(i.val, &u[p->ulimit_count], err))
                return false;
            p->ulimit_count++;
        }
    }
    p->ulimits = u;
    return true;
}

static bool read_caps(struct json_val v, struct arena *a, struct spec_process *p,
                      struct vic_err *err)
{
    struct spec_list add, drop;
    if (!read_list(v, "cap_add", a, &add, err) || !read_list(v, "cap_drop", a, &drop, err))
        return false;
    if (p->privileged) {
        p->caps = caps_all();
        return true;
    }
    return caps_of(add.v, add.n, drop.v, drop.n, &p->caps, err);
}

/* What a run and an exec have in common. */
static bool read_process(struct json_val v, struct arena *a, struct spec_process *p,
                         struct vic_err *err)
{
    int64_t rows, cols;
    if (!read_list(v, "args", a, &p->args, err) || !read_list(v, "env", a, &p->env, err) ||
        !read_text(v, "cwd", "", a, &p->cwd, err) || !read_text(v, "user", "", a, &p->user, err) ||
        !read_flag(v, "tty", &p->tty, err) || !read_flag(v, "privileged", &p->privileged, err) ||
        !read_number(v, "rows", 0, 65535, 0, &rows, err) ||
        !read_number(v, "cols", 0, 65535, 0, &cols, err))
        return false;
    p->rows = (unsigned)rows;
    p->cols = (unsigned)cols;
    return p->args.n > 0 || vic_fail(err, VIC_INVALID, 0, "spec: no command");
}

static bool read_key(struct json_val v, struct spec_run *r, struct vic_err *err)
{
    struct sv hex = sv_of(json_str(json_get(v, "key"), ""));
    return (hex.len == 64 && hex_decode(hex, r->key)) ||
           vic_fail(err, VIC_INVALID, 0, "spec: key is not 64 hex digits");
}

static bool read_run_process(struct json_val v, struct arena *a, struct spec_process *p,
                             struct vic_err *err)
{
    int64_t adj;
    if (!read_process(v, a, p, err) || !read_list(v, "group_add", a, &p->group_add, err) ||
        !read_flag(v, "open_stdin", &p->open_stdin, err) ||
        !read_flag(v, "no_new_privs", &p->no_new_privs, err) ||
        !read_number(v, "oom_score_adj", -1000, 1000, 0, &adj, err) ||
        !read_ulimits(v, a, p, err) || !read_caps(v, a, p, err))
        return false;
    p->oom_score_adj = (int)adj;
    return true;
}

static bool read_texts(struct json_val v, struct arena *a, struct spec_run *r, struct vic_err *err)
{
    return read_text(v, "container", "", a, &r->container, err) &&
           read_text(v, "name", "", a, &r->name, err) &&
           read_text(v, "hostname", "", a, &r->hostname, err) &&
           read_text(v, "domainname", "", a, &r->domainname, err) &&
           read_pairs(v, "tmpfs", a, &r->tmpfs, err) &&
           read_pairs(v, "sysctls", a, &r->sysctls, err) &&
           read_list(v, "extra_hosts", a, &r->extra_hosts, err) &&
           read_list(v, "dns", a, &r->dns, err) &&
           read_list(v, "dns_search", a, &r->dns_search, err) &&
           read_list(v, "dns_options", a, &r->dns_options, err);
}

static bool read_numbers(struct json_val v, struct spec_run *r, struct vic_err *err)
{
    int64_t disk, signal;
    if (!read_number(v, "disk", 0, SPEC_MAX_TARGET, 0, &disk, err) ||
        !read_number(v, "stop_signal", 0, 64, 15, &signal, err) ||
        !read_u64(v, "seq", &r->seq, err) || !read_u64(v, "rev", &r->rev, err) ||
        !read_u64(v, "memory", &r->memory, err) || !read_u64(v, "shm_size", &r->shm_size, err) ||
        !read_u64(v, "cpus_milli", &r->cpus_milli, err) || !read_u64(v, "pids", &r->pids, err))
        return false;
    r->disk = (unsigned)disk;
    r->stop_signal = signal ? (int)signal : 15;
    return true;
}

bool spec_read_run(struct json_val v, struct arena *a, struct spec_run *out, struct vic_err *err)
{
    *out = (struct spec_run){0};
    if (json_type(v) != JSON_OBJECT)
        return vic_fail(err, VIC_INVALID, 0, "spec: not an object");
    if (!read_texts(v, a, out, err) || !read_numbers(v, out, err) || !read_key(v, out, err) ||
        !read_run_process(v, a, &out->process, err) ||
        !read_flag(v, "stdin_once", &out->stdin_once, err) ||
        !read_flag(v, "readonly", &out->readonly, err) || !read_flag(v, "init", &out->init, err))
        return false;
    size_t len = strlen(out->container);
    return (len > 0 && len <= 64) || vic_fail(err, VIC_INVALID, 0, "spec: no container id");
}

const char *spec_env(const struct spec_list *env, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = env->n; i-- > 0;) {
        if (strncmp(env->v[i], name, len) == 0 && env->v[i][len] == '=')
            return env->v[i] + len + 1;
    }
    return NULL;
}

static struct spec_list merge_env(const struct spec_list *base, const struct spec_list *own,
                                  struct arena *a)
{
    struct spec_list out = {.v = ARENA_ARRAY(a, const char *, base->n + own->n + 1)};
    for (size_t i = 0; i < base->n; i++) {
        const char *equals = strchr(base->v[i], '=');
        size_t len = equals ? (size_t)(equals - base->v[i]) : strlen(base->v[i]);
        if (!spec_env(own, arena_sv(a, sv_make(base->v[i], len))))
            out.v[out.n++] = base->v[i];
    }
    for (size_t i = 0; i < own->n; i++)
        out.v[out.n++] = own->v[i];
    return out;
}

bool spec_read_exec(struct json_val v, const struct spec_run *run, struct arena *a,
                    struct spec_process *out, struct vic_err *err)
{
    *out = (struct spec_process){0};
    if (!read_process(v, a, out, err) || !read_flag(v, "stdin", &out->open_stdin, err))
        return false;
    const struct spec_process *p = &run->process;
    out->env = merge_env(&p->env, &out->env, a);
    out->cwd = out->cwd[0] ? out->cwd : p->cwd;
    if (!out->user[0]) {
        out->user = p->user;
        out->group_add = p->group_add;
    }
    out->caps = out->privileged ? caps_all() : p->caps;
    out->no_new_privs = p->no_new_privs;
    out->oom_score_adj = p->oom_score_adj;
    out->ulimits = p->ulimits;
    out->ulimit_count = p->ulimit_count;
    return true;
}
