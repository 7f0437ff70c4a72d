/* Docker's Config: its JSON both ways, the merge over an image's, its checks.
 *
 * Most members are read by the record's table; those that the table marks STORE_F_API have a form
 * of their own in Docker (a map of ports to {}, a string where a list is meant) and are worded
 * here. Facts: Docker Engine API 1.44, ContainerConfig; moby's runconfig merge as observed. */
#include <stdio.h>

#include "base/sig.h"

#include "docker.h"

enum { MAX_LIST = 4096, MAX_HOSTNAME = 63 };

/* --- small parts ----------------------------------------------------------------------------- */
void strs_push(struct arena *a, struct store_strs *s, const char *v)
{
    const char **more = ARENA_ARRAY(a, const char *, s->n + 1);
    if (s->n)
        memcpy(more, s->v, s->n * sizeof *more);
    more[s->n] = v;
    s->v = more;
    s->n++;
}

bool strs_have(const struct store_strs *s, const char *v)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], v) == 0)
            return true;
    return false;
}

void strs_to_json(struct json_writer *w, const char *key, const struct store_strs *s)
{
    json_open(w, key, '[');
    for (size_t i = 0; i < s->n; i++)
        json_add_str(w, NULL, s->v[i]);
    json_close(w, ']');
}

static bool wrong(struct vic_err *err, const char *member, const char *what)
{
    return vic_fail(err, VIC_INVALID, 0, "%s: expected %s", member, what);
}

/* --- reading --------------------------------------------------------------------------------- */
/* The keys of {"80/tcp":{}}. */
static bool read_keys(struct json_val v, const char *member, struct arena *a,
                      struct store_strs *out, struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, member);
    if (!json_present(m))
        return true;
    if (json_type(m) != JSON_OBJECT || json_count(m) > MAX_LIST)
        return wrong(err, member, "an object");
    *out = (struct store_strs){ARENA_ARRAY(a, const char *, json_count(m) + 1), 0};
    for (struct json_iter i = json_iter(m); json_next(&i);)
        out->v[out->n++] = arena_sv(a, i.key);
    return true;
}

/* A list of strings, or one string as a list of one. */
static bool read_words(struct json_val v, const char *member, struct arena *a,
                       struct store_strs *out, struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, member);
    const char *text;
    if (!json_present(m))
        return true;
    if (json_type(m) != JSON_ARRAY && !json_read_str(m, &text))
        return wrong(err, member, "a list of strings");
    size_t n = json_type(m) == JSON_ARRAY ? json_count(m) : 1;
    *out = (struct store_strs){ARENA_ARRAY(a, const char *, n + 1), 0};
    if (json_type(m) != JSON_ARRAY)
        out->v[out->n++] = text;
    else
        for (struct json_iter i = json_iter(m); json_next(&i);)
            if (!json_read_str(i.val, &out->v[out->n++]))
                return wrong(err, member, "a list of strings");
    return true;
}

static bool read_text(struct json_val v, const char *member, const char **out, struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, member);
    return !json_present(m) || json_read_str(m, out) || wrong(err, member, "a string");
}

static bool read_stop_timeout(struct json_val v, struct store_config *out, struct vic_err *err)
{
    struct json_val m = json_get_nocase(v, "StopTimeout");
    if (!json_present(m))
        return true;
    if (!json_read_i64(m, &out->stop_timeout) || out->stop_timeout > INT32_MAX)
        return wrong(err, "StopTimeout", "a number of seconds");
    out->stop_timeout_set = true;
    return true;
}

bool config_from_json(struct json_val v, struct arena *a, struct store_config *out,
                      struct vic_err *err)
{
    struct json_val health = json_get_nocase(v, "Healthcheck");
    struct json_val disabled = json_get_nocase(v, "NetworkDisabled");
    if (!store_from_json(store_rec_config(), v, false, a, out, err) ||
        !read_words(v, "Cmd", a, &out->cmd, err) ||
        !read_words(v, "Entrypoint", a, &out->entrypoint, err) ||
        !read_words(v, "Shell", a, &out->shell, err) ||
        !read_keys(v, "ExposedPorts", a, &out->exposed_ports, err) ||
        !read_keys(v, "Volumes", a, &out->volumes, err) ||
        !read_text(v, "StopSignal", &out->stop_signal, err) ||
        !read_text(v, "MacAddress", &out->mac_address, err) || !read_stop_timeout(v, out, err))
        return false;
    if (json_present(disabled) && !json_read_bool(disabled, &out->network_disabled))
        return wrong(err, "NetworkDisabled", "true or false");
    return !json_present(health) ||
           store_from_json(store_rec_healthcheck(), health, false, a, &out->healthcheck, err);
}

/* --- writing --------------------------------------------------------------------------------- */
static void add_keys(struct json_writer *w, const char *key, const struct store_strs *s)
{
    json_open(w, key, '{');
    for (size_t i = 0; i < s->n; i++) {
        json_open(w, s->v[i], '{');
        json_close(w, '}');
    }
    json_close(w, '}');
}

static void add_words(struct json_writer *w, const char *key, const struct store_strs *s)
{
    if (s->v)
        strs_to_json(w, key, s);
    else
        json_add_null(w, key);
}

static void add_map(struct json_writer *w, const char *key, const struct store_map *m)
{
    json_open(w, key, '{');
    for (size_t i = 0; i < m->n; i++)
        json_add_str(w, m->v[i].k, m->v[i].v);
    json_close(w, '}');
}

static void add_process(struct json_writer *w, const struct store_config *k)
{
    json_add_str(w, "Hostname", k->hostname);
    json_add_str(w, "Domainname", k->domainname);
    json_add_str(w, "User", k->user);
    json_add_bool(w, "AttachStdin", k->attach_stdin);
    json_add_bool(w, "AttachStdout", k->attach_stdout);
    json_add_bool(w, "AttachStderr", k->attach_stderr);
    if (k->exposed_ports.n)
        add_keys(w, "ExposedPorts", &k->exposed_ports);
    json_add_bool(w, "Tty", k->tty);
    json_add_bool(w, "OpenStdin", k->open_stdin);
    json_add_bool(w, "StdinOnce", k->stdin_once);
    add_words(w, "Env", &k->env);
    add_words(w, "Cmd", &k->cmd);
    if (k->healthcheck.test.n)
        store_to_json(store_rec_healthcheck(), &k->healthcheck, false, w, "Healthcheck");
}

void config_to_json(const struct store_config *k, struct json_writer *w, const char *key)
{
    json_open(w, key, '{');
    add_process(w, k);
    json_add_str(w, "Image", k->image);
    if (k->volumes.v)
        add_keys(w, "Volumes", &k->volumes);
    else
        json_add_null(w, "Volumes");
    json_add_str(w, "WorkingDir", k->working_dir);
    add_words(w, "Entrypoint", &k->entrypoint);
    if (k->network_disabled)
        json_add_bool(w, "NetworkDisabled", true);
    if (*k->mac_address)
        json_add_str(w, "MacAddress", k->mac_address);
    add_words(w, "OnBuild", &k->on_build);
    add_map(w, "Labels", &k->labels);
    if (*k->stop_signal)
        json_add_str(w, "StopSignal", k->stop_signal);
    if (k->stop_timeout_set)
        json_add_i64(w, "StopTimeout", k->stop_timeout);
    if (k->shell.v)
        strs_to_json(w, "Shell", &k->shell);
    json_close(w, '}');
}

/* --- the merge ------------------------------------------------------------------------------- */
static struct sv env_key(const char *entry)
{
    struct sv rest = sv_of(entry);
    return sv_cut(&rest, '=');
}

static bool env_has(const struct store_strs *env, struct sv key)
{
    for (size_t i = 0; i < env->n; i++)
        if (sv_eq(env_key(env->v[i]), key))
            return true;
    return false;
}

/* The user's entries, then the image's that he did not name; an entry without '=' removes. */
static void merge_env(struct store_config *user, const struct store_config *image, struct arena *a)
{
    static const char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    struct store_strs out = {ARENA_ARRAY(a, const char *, user->env.n + image->env.n + 2), 0};
    for (size_t i = 0; i < user->env.n; i++)
        if (strchr(user->env.v[i], '='))
            out.v[out.n++] = user->env.v[i];
    for (size_t i = 0; i < image->env.n; i++)
        if (!env_has(&user->env, env_key(image->env.v[i])))
            out.v[out.n++] = image->env.v[i];
    if (!env_has(&user->env, SV("PATH")) && !env_has(&out, SV("PATH")))
        out.v[out.n++] = path;
    if (user->tty && !env_has(&user->env, SV("TERM")) && !env_has(&out, SV("TERM")))
        out.v[out.n++] = "TERM=xterm";
    user->env = out;
}

static void merge_labels(struct store_config *user, const struct store_config *image,
                         struct arena *a)
{
    struct store_map out = {ARENA_ARRAY(a, struct store_kv, user->labels.n + image->labels.n + 1),
                            0};
    for (size_t i = 0; i < user->labels.n; i++)
        out.v[out.n++] = user->labels.v[i];
    for (size_t i = 0; i < image->labels.n; i++) {
        bool named = false;
        for (size_t k = 0; k < user->labels.n && !named; k++)
            named = strcmp(user->labels.v[k].k, image->labels.v[i].k) == 0;
        if (!named)
            out.v[out.n++] = image->labels.v[i];
    }
    user->labels = out;
}

static void merge_set(struct store_strs *user, const struct store_strs *image, struct arena *a)
{
    for (size_t i = 0; i < image->n; i++)
        if (!strs_have(user, image->v[i]))
            strs_push(a, user, image->v[i]);
}

static void merge_command(struct store_config *user, const struct store_config *image)
{
    if (!user->entrypoint.n) {
        if (!user->cmd.n)
            user->cmd = image->cmd;
        if (!user->entrypoint.v)
            user->entrypoint = image->entrypoint;
    }
    if (user->entrypoint.n == 1 && !*user->entrypoint.v[0])
        user->entrypoint = (struct store_strs){NULL, 0}; /* [""] takes the image's away */
}

static void merge_health(struct store_healthcheck *user, const struct store_healthcheck *image)
{
    if (!user->test.n)
        user->test = image->test;
    if (!user->interval)
        user->interval = image->interval;
    if (!user->timeout)
        user->timeout = image->timeout;
    if (!user->start_period)
        user->start_period = image->start_period;
    if (!user->start_interval)
        user->start_interval = image->start_interval;
    if (!user->retries)
        user->retries = image->retries;
}

void config_merge(struct store_config *user, const struct store_config *image, struct arena *a)
{
    if (!*user->user)
        user->user = image->user;
    if (!*user->working_dir)
        user->working_dir = image->working_dir;
    if (!*user->stop_signal)
        user->stop_signal = image->stop_signal;
    merge_set(&user->exposed_ports, &image->exposed_ports, a);
    if (!user->volumes.n)
        user->volumes = image->volumes; /* none at all is null, as dockerd's */
    merge_set(&user->volumes, &image->volumes, a);
    merge_env(user, image, a);
    merge_labels(user, image, a);
    merge_command(user, image);
    merge_health(&user->healthcheck, &image->healthcheck);
}

/* --- checks ---------------------------------------------------------------------------------- */
bool port_parse(struct sv text, unsigned *first, unsigned *last, const char **proto)
{
    static const char *const protos[] = {"tcp", "udp", "sctp"};
    struct sv kind = text, range = sv_cut(&kind, '/'), high = range, low = sv_cut(&high, '-');
    uint64_t a, b;
    *proto = NULL;
    for (size_t i = 0; i < ARRAY_LEN(protos); i++)
        if (!kind.p ? i == 0 : sv_eq_nocase(kind, sv_of(protos[i])))
            *proto = protos[i];
    if (!*proto || !sv_to_u64(low, &a) || !a || a > 65535)
        return false;
    if (!high.p)
        b = a;
    else if (!sv_to_u64(high, &b) || b < a || b > 65535)
        return false;
    *first = (unsigned)a;
    *last = (unsigned)b;
    return true;
}

static bool check_health(const struct store_healthcheck *h, struct vic_err *err)
{
    const struct {
        int64_t ns;
        const char *name;
    } times[] = {{h->interval, "Interval"},
                 {h->timeout, "Timeout"},
                 {h->start_period, "StartPeriod"},
                 {h->start_interval, "StartInterval"}};
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (times[i].ns && times[i].ns < 1000000)
            return vic_fail(err, VIC_INVALID, 0, "%s in Healthcheck cannot be less than 1ms",
                            times[i].name);
    if (h->retries < 0)
        return vic_fail(err, VIC_INVALID, 0, "Retries in Healthcheck cannot be negative");
    return true;
}

static bool check_names(const struct store_config *k, struct vic_err *err)
{
    if (*k->working_dir && *k->working_dir != '/')
        return vic_fail(err, VIC_INVALID, 0,
                        "the working directory '%.256s' is invalid, it needs to be an absolute "
                        "path",
                        k->working_dir);
    if (strlen(k->hostname) > MAX_HOSTNAME || strlen(k->domainname) > MAX_HOSTNAME ||
        strpbrk(k->hostname, " \t\n/"))
        return vic_fail(err, VIC_INVALID, 0, "invalid hostname format: %.64s", k->hostname);
    if (*k->stop_signal && !sig_parse(sv_of(k->stop_signal)))
        return vic_fail(err, VIC_INVALID, 0, "invalid signal: %.64s", k->stop_signal);
    return true;
}

bool config_check(const struct store_config *k, struct vic_err *err)
{
    unsigned first, last;
    const char *proto;
    for (size_t i = 0; i < k->env.n; i++)
        if (!*k->env.v[i] || *k->env.v[i] == '=')
            return vic_fail(err, VIC_INVALID, 0, "invalid environment variable: %.200s",
                            k->env.v[i]);
    for (size_t i = 0; i < k->exposed_ports.n; i++)
        if (!port_parse(sv_of(k->exposed_ports.v[i]), &first, &last, &proto))
            return vic_fail(err, VIC_INVALID, 0, "invalid port specification: \"%.64s\"",
                            k->exposed_ports.v[i]);
    for (size_t i = 0; i < k->volumes.n; i++)
        if (*k->volumes.v[i] != '/' || !k->volumes.v[i][1])
            return vic_fail(err, VIC_INVALID, 0,
                            "invalid mount path: '%.200s' mount path must be absolute",
                            k->volumes.v[i]);
    return check_names(k, err) && check_health(&k->healthcheck, err);
}
