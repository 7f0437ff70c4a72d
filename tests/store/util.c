/* Shared by the store's tests: see util.h. */
#include "util.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

const unsigned char test_secret[32] = "a secret of the tests, 32 bytes!";
const struct store_change_note test_note = {"test", "request-1"};

char *new_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = xasprintf("%s/vic-store-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        AUTO_FREE char *sub = xasprintf("%s/%s", path, e->d_name);
        if (unlink(sub) != 0)
            remove_tree(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

void remove_folder(char *dir)
{
    remove_tree(dir);
    free(dir);
}

static void copy_file(const char *from, const char *to)
{
    char bytes[65536];
    AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, bytes, sizeof bytes)) > 0;)
        assert_int_equal(write(out, bytes, (size_t)n), n);
}

void copy_folder(const char *from, const char *to)
{
    AUTO_FREE char *a = xasprintf("%s/data.mdb", from), *b = xasprintf("%s/data.mdb", to);
    mkdir(to, 0700);
    copy_file(a, b);
}

struct store *open_store(const char *dir)
{
    struct vic_err err = {0};
    struct store_options o = {.dir = dir, .secret = test_secret};
    struct store *s = store_open(&o, &err);
    if (!s)
        fail_msg("%s", err.msg);
    return s;
}

struct one {
    enum store_kind kind;
    const void *record;
    const char *id;
};

static bool apply_put(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct one *o = arg;
    (void)a;
    return store_put(t, o->kind, o->record, err);
}

static bool apply_del(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    struct one *o = arg;
    (void)a;
    return store_del(t, o->kind, o->id, err);
}

bool put_record(struct store *s, enum store_kind kind, const void *record, struct vic_err *err)
{
    struct one o = {kind, record, NULL};
    return store_write(s, &test_note, NULL, apply_put, &o, err);
}

bool del_record(struct store *s, enum store_kind kind, const char *id, struct vic_err *err)
{
    struct one o = {kind, NULL, id};
    return store_write(s, &test_note, NULL, apply_del, &o, err);
}

/* --- random records ------------------------------------------------------------------------------
 */
/* splitmix64 */
uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Often a border, else of any magnitude. */
static uint64_t random_number(uint64_t *seed)
{
    static const uint64_t borders[] = {0,          1,         127,        128,       INT32_MAX,
                                       UINT32_MAX, INT64_MAX, UINT64_MAX, 1ULL << 63};
    uint64_t n = next_random(seed);
    if (n % 4 == 0)
        return borders[n / 4 % ARRAY_LEN(borders)];
    return next_random(seed) >> (n / 4 % 64);
}

static const char *random_text(uint64_t *seed, struct arena *a)
{
    static const char *const pieces[] = {
        "",        "a",  "key=value",        "\"quoted\"", "\xc3\xa4\xe2\x82\xac",
        "/bin/sh", "\n", "0123456789abcdef", "<&>"};
    uint64_t n = next_random(seed) % 6;
    char *text = arena_strdup(a, "");
    for (uint64_t i = 0; i < n; i++)
        text = arena_printf(a, "%s%s", text, pieces[next_random(seed) % ARRAY_LEN(pieces)]);
    return text;
}

static void random_lists(const struct store_field *f, uint64_t *seed, struct arena *a, void *at)
{
    size_t n = next_random(seed) % 4;
    if (next_random(seed) % 3 == 0)
        return; /* absent */
    if (f->kind == STORE_STRS) {
        struct store_strs *s = at;
        *s = (struct store_strs){ARENA_ARRAY(a, const char *, n + 1), n};
        for (size_t i = 0; i < n; i++)
            s->v[i] = random_text(seed, a);
    } else if (f->kind == STORE_MAP) {
        struct store_map *m = at;
        *m = (struct store_map){ARENA_ARRAY(a, struct store_kv, n + 1), n};
        for (size_t i = 0; i < n; i++)
            m->v[i] = (struct store_kv){arena_printf(a, "k%zu%s", i, random_text(seed, a)),
                                        random_text(seed, a)};
    } else {
        const struct store_rec *rec = f->rec();
        struct {
            void *v;
            size_t n;
        } *l = at;
        l->v = arena_alloc_array(a, n + 1, rec->size);
        l->n = n;
        for (size_t i = 0; i < n; i++)
            random_record(rec, seed, a, (char *)l->v + i * rec->size);
    }
}

static void random_field(const struct store_field *f, uint64_t *seed, struct arena *a, void *at)
{
    switch (f->kind) {
    case STORE_STR:
        *(const char **)at = random_text(seed, a);
        break;
    case STORE_BOOL:
        *(bool *)at = next_random(seed) & 1;
        break;
    case STORE_I32:
    case STORE_U32:
        *(uint32_t *)at = (uint32_t)random_number(seed);
        break;
    case STORE_I64:
    case STORE_U64:
        *(uint64_t *)at = random_number(seed);
        break;
    case STORE_TIME: /* years 1970 to 2116 */
        *(int64_t *)at = (int64_t)(random_number(seed) & INT64_MAX / 2);
        break;
    case STORE_ENUM:
        *(unsigned *)at = f->enum_text(1) ? (unsigned)(next_random(seed) % 2) : 0;
        break;
    case STORE_BYTES:
        *(struct sv *)at = sv_of(random_text(seed, a));
        break;
    case STORE_OBJ:
        random_record(f->rec(), seed, a, at);
        break;
    case STORE_STRS:
    case STORE_MAP:
    case STORE_LIST:
        random_lists(f, seed, a, at);
        break;
    }
}

void random_record(const struct store_rec *rec, uint64_t *seed, struct arena *a, void *record)
{
    store_init(rec, record);
    for (size_t i = 0; i < rec->count; i++)
        if (next_random(seed) % 4)
            random_field(&rec->fields[i], seed, a, (char *)record + rec->fields[i].offset);
}

/* --- a container ---------------------------------------------------------------------------------
 */
static struct store_strs strs(struct arena *a, size_t n, const char *const *v)
{
    return (struct store_strs){arena_copy(a, v, n * sizeof *v), n};
}
#define STRS(a, ...)                                                                               \
    strs((a), sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),                         \
         (const char *const[]){__VA_ARGS__})

void typical_container(struct store_container *c, unsigned n, struct arena *a)
{
    static const struct store_kv labels[] = {{"com.example.app", "web"}, {"com.example.tier", "1"}};
    store_init(store_rec_container(), c);
    c->meta.id = arena_printf(a, "%08x%056x", n * 2654435761u, n);
    c->meta.name = arena_printf(a, "web-%u", n);
    c->platform = "linux";
    c->config.hostname = arena_sv(a, sv_sub(sv_of(c->meta.id), 0, 12));
    c->config.image = "nginx:1.25";
    c->config.env = STRS(a, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         "NGINX_VERSION=1.25.3", "NJS_VERSION=0.8.2", "PKG_RELEASE=1~bookworm");
    c->config.cmd = STRS(a, "nginx", "-g", "daemon off;");
    c->config.entrypoint = STRS(a, "/docker-entrypoint.sh");
    c->config.labels.v = arena_copy(a, labels, sizeof labels);
    c->config.labels.n = ARRAY_LEN(labels);
    c->config.exposed_ports = STRS(a, "80/tcp");
    c->host_config.network_mode = "default";
    c->host_config.restart_policy.name = "no";
    c->host_config.log_config.type = "json-file";
    c->host_config.shm_size = 67108864;
    c->path = "/docker-entrypoint.sh";
    c->args = STRS(a, "nginx", "-g", "daemon off;");
    c->run.seq = 1;
    c->run.want = store_run_want_RUNNING;
    c->status.seq = 1;
    c->status.phase = store_run_phase_RUNNING;
    c->status.vm = "0123456789abcdef0123456789abcdef";
    c->status.pid = 4711;
    c->status.started = 1700000000000000000;
    c->status.boot = "f0f0f0f0-0000-4000-8000-000000000000";
    c->conditions.v = ARENA_NEW(a, struct store_condition);
    c->conditions.n = 1;
    store_init(store_rec_condition(), c->conditions.v);
    c->conditions.v[0].type = "Ready";
    c->conditions.v[0].status = true;
    c->conditions.v[0].reason = "Running";
    c->conditions.v[0].since = 1700000000000000000;
}

static void told(void *arg, const char *text)
{
    (void)arg;
    fail_msg("verify: %s", text);
}

void verify_store(struct store *s)
{
    check_ok(store_verify(s, false, told, NULL, &err));
}
