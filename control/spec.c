/* The CONFIG of a run, made from the container's record (tether/wire.h has its form).
 *
 * Everything that the guest needs is in it; nothing of it is in vSphere.  The spec's bytes are
 * signed with the VCH's secret, so that what comes back from a disk can be known as ours. */
#include <signal.h>
#include <stdio.h>

#include "base/sig.h"
#include "ctl.h"
#include "tether/wire.h"

enum { DEFAULT_SHM = 64 << 20, DEFAULT_STOP_MS = 10000 };

/* The container's stop signal; what cannot be read counts as SIGTERM (create has checked it). */
static int stop_signal(const char *name)
{
    int n = sig_parse(sv_of(name));
    return n ? n : SIGTERM;
}

static void add_strs(struct json_writer *w, const char *key, const struct store_strs *l)
{
    json_open(w, key, '[');
    for (size_t i = 0; i < l->n; i++)
        json_add_str(w, NULL, l->v[i]);
    json_close(w, ']');
}

static void add_map(struct json_writer *w, const char *key, const struct store_map *m)
{
    json_open(w, key, '{');
    for (size_t i = 0; i < m->n; i++)
        json_add_str(w, m->v[i].k, m->v[i].v);
    json_close(w, '}');
}

static int64_t cpus_milli(const struct store_host_config *h)
{
    if (h->nano_cpus)
        return h->nano_cpus / 1000000;
    if (h->cpu_quota > 0)
        return h->cpu_quota * 1000 / (h->cpu_period > 0 ? h->cpu_period : 100000);
    return 0;
}

static bool no_new_privileges(const struct store_host_config *h)
{
    for (size_t i = 0; i < h->security_opt.n; i++)
        if (strncmp(h->security_opt.v[i], "no-new-privileges", 17) == 0 &&
            !strstr(h->security_opt.v[i], "false"))
            return true;
    return false;
}

static const char *hostname_of(const struct store_container *c, char out[13])
{
    snprintf(out, 13, "%.12s", c->meta.id);
    return c->config.hostname[0] ? c->config.hostname : out;
}

/* The config's, and HOSTNAME as Docker gives it, unless the user did. */
static void add_env(struct json_writer *w, const struct store_container *c)
{
    bool named = false;
    char name[13], text[300];
    json_open(w, "env", '[');
    for (size_t i = 0; i < c->config.env.n; i++) {
        named = named || strncmp(c->config.env.v[i], "HOSTNAME=", 9) == 0;
        json_add_str(w, NULL, c->config.env.v[i]);
    }
    if (!named) {
        snprintf(text, sizeof text, "HOSTNAME=%s", hostname_of(c, name));
        json_add_str(w, NULL, text);
    }
    json_close(w, ']');
}

static void add_process(struct json_writer *w, const struct store_container *c)
{
    const struct store_config *k = &c->config;
    json_open(w, "args", '[');
    json_add_str(w, NULL, c->path);
    for (size_t i = 0; i < c->args.n; i++)
        json_add_str(w, NULL, c->args.v[i]);
    json_close(w, ']');
    add_env(w, c);
    json_add_str(w, "cwd", k->working_dir[0] ? k->working_dir : "/");
    json_add_str(w, "user", k->user);
    json_add_bool(w, "tty", k->tty);
    json_add_bool(w, "open_stdin", k->open_stdin);
    json_add_bool(w, "stdin_once", k->stdin_once);
    json_add_i64(w, "stop_signal", stop_signal(k->stop_signal));
    json_add_i64(w, "stop_timeout_ms",
                 k->stop_timeout_set ? k->stop_timeout * 1000 : DEFAULT_STOP_MS);
}

static void add_limits(struct json_writer *w, const struct store_container *c,
                       const struct store_vm *vm)
{
    const struct store_host_config *h = &c->host_config;
    json_add_i64(w, "memory", h->memory > 0 ? h->memory : (int64_t)vm->class_mb << 20);
    json_add_i64(w, "cpus_milli", cpus_milli(h));
    json_add_i64(w, "pids", h->pids_limit > 0 ? h->pids_limit : 0);
    json_add_i64(w, "shm_size", h->shm_size > 0 ? h->shm_size : DEFAULT_SHM);
    json_add_i64(w, "oom_score_adj", h->oom_score_adj);
    add_map(w, "tmpfs", &h->tmpfs);
    add_map(w, "sysctls", &h->sysctls);
    json_open(w, "ulimits", '[');
    for (size_t i = 0; i < h->ulimits.n; i++) {
        json_open(w, NULL, '{');
        json_add_str(w, "name", h->ulimits.v[i].name);
        json_add_i64(w, "soft", h->ulimits.v[i].soft);
        json_add_i64(w, "hard", h->ulimits.v[i].hard);
        json_close(w, '}');
    }
    json_close(w, ']');
    json_add_bool(w, "readonly", h->readonly_rootfs);
    json_add_bool(w, "privileged", h->privileged);
    add_strs(w, "cap_add", &h->cap_add);
    add_strs(w, "cap_drop", &h->cap_drop);
    json_add_bool(w, "no_new_privs", no_new_privileges(h));
    json_add_bool(w, "init", h->init);
    add_strs(w, "group_add", &h->group_add);
}

static void add_names(struct json_writer *w, const struct store_container *c)
{
    const struct store_host_config *h = &c->host_config;
    char name[13];
    json_add_str(w, "hostname", hostname_of(c, name));
    json_add_str(w, "domainname", c->config.domainname);
    add_strs(w, "extra_hosts", &h->extra_hosts);
    add_strs(w, "dns", &h->dns);
    add_strs(w, "dns_search", &h->dns_search);
    add_strs(w, "dns_options", &h->dns_options);
}

bool spec_render(struct step *s, const struct store_container *c, const struct store_vm *vm,
                 const struct store_disk *d, uint64_t revision, struct buf *out)
{
    unsigned char key[32];
    char hex[65], mac[65];
    AUTO_BUF struct buf spec = {.limit = WIRE_MAX_CONFIG};
    struct json_writer w = json_writer(&spec);
    json_open(&w, NULL, '{');
    json_add_str(&w, "container", c->meta.id);
    json_add_str(&w, "name", c->meta.name);
    json_add_u64(&w, "seq", c->status.seq);
    json_add_u64(&w, "rev", revision);
    store_channel_key(s->c->store, vm->meta.id, 2, key);
    hex_encode(key, sizeof key, hex);
    json_add_str(&w, "key", hex);
    json_add_u64(&w, "disk", d->target);
    add_process(&w, c);
    add_limits(&w, c, vm);
    add_names(&w, c);
    json_add_u64(&w, "rows", c->host_config.console_rows);
    json_add_u64(&w, "cols", c->host_config.console_cols);
    json_open(&w, "restart", '{');
    json_add_str(&w, "name", c->host_config.restart_policy.name);
    json_add_i64(&w, "max", c->host_config.restart_policy.max);
    json_close(&w, '}');
    json_close(&w, '}');
    store_sign(s->c->store, buf_sv(&spec), mac);
    out->limit = WIRE_MAX_CONFIG;
    struct json_writer o = json_writer(out);
    json_open(&o, NULL, '{');
    json_add_u64(&o, "gen", c->status.seq);
    json_add_str(&o, "role", "run");
    json_add_raw(&o, "spec", buf_sv(&spec));
    json_add_str(&o, "mac", mac);
    json_close(&o, '}');
    explicit_bzero(hex, sizeof hex);
    if (spec.failed || out->failed)
        return vic_fail(
            s->err, VIC_TOO_LARGE, 0,
            "the container's configuration is over %d bytes: shorten its environment or "
            "command",
            WIRE_MAX_CONFIG);
    return true;
}
