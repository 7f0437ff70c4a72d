/* The model's guests: see tether.h. */
#include "tether.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sync.h"
#include "base/tls.h"

#include "guest.h"

enum { MAX_ACTS = 32, MAX_JOBS = 8, RETRY_MS = 10, ACK_MS = 10000 };

struct sim {
    struct vic_mutex lock;
    /* guarded: lock */
    char address[64];
    struct sim_act usual, next[MAX_ACTS];
    size_t next_count;
};

struct job {
    uint32_t stream; /* 0 = free */
    unsigned target;
    bool apply, bad;
    uint64_t bytes;
    struct sha256 hash;
    unsigned char head[3];
};

struct model_guest {
    struct sim *sim;
    struct model *m;
    struct sim_act act;
    char ref[VSP_REF_SIZE], vm[65], boot[40];
    unsigned char key[TLS_PSK_SIZE];
    pthread_t thread;
    struct vic_mutex lock;
    struct vic_cond wake;
    bool stop; /* guarded: lock */
    int fd;    /* guarded: lock */
    /* owned by the thread */
    struct tg g;
    bool over; /* the VM is off */
    bool online;
    bool worker, has_run, told_running, acked, dropped;
    unsigned target;
    struct model_journal run;
    int64_t end_ms; /* when the process ends; 0 = does not run */
    int64_t off_ms; /* when it powers off though nobody has acknowledged; 0 = not exited */
    uint64_t log_seq, log_stored, status_seq;
    struct job jobs[MAX_JOBS];
};

/* --- acts ---------------------------------------------------------------------------------------
 */
struct sim *sim_new(const struct sim_act *usual)
{
    struct sim *s = xcalloc(1, sizeof *s);
    s->usual = *usual;
    mutex_init(&s->lock);
    return s;
}

void sim_free(struct sim *s)
{
    mutex_fini(&s->lock);
    free(s);
}

void sim_address(struct sim *s, const char *address)
{
    mutex_lock(&s->lock);
    snprintf(s->address, sizeof s->address, "%s", address);
    mutex_unlock(&s->lock);
}

void sim_next(struct sim *s, const struct sim_act *act)
{
    mutex_lock(&s->lock);
    if (s->next_count < MAX_ACTS)
        s->next[s->next_count++] = *act;
    mutex_unlock(&s->lock);
}

void sim_usual(struct sim *s, const struct sim_act *usual)
{
    mutex_lock(&s->lock);
    s->usual = *usual;
    mutex_unlock(&s->lock);
}

static struct sim_act take_act(struct sim *s)
{
    mutex_lock(&s->lock);
    struct sim_act act = s->usual;
    if (s->next_count) {
        act = s->next[0];
        s->next_count--;
        memmove(s->next, s->next + 1, s->next_count * sizeof *s->next);
    }
    mutex_unlock(&s->lock);
    return act;
}

/* --- the machine --------------------------------------------------------------------------------
 */
static int64_t now_ms(void)
{
    return clock_mono_ms(&vic_clock_real);
}

static bool stopping(struct model_guest *g)
{
    mutex_lock(&g->lock);
    bool stop = g->stop;
    mutex_unlock(&g->lock);
    return stop;
}

static void nap(struct model_guest *g, int64_t ms)
{
    int64_t end = now_ms() + ms;
    mutex_lock(&g->lock);
    while (!g->stop && now_ms() < end)
        cond_wait_ms(&g->wake, &g->lock, end - now_ms());
    mutex_unlock(&g->lock);
}

static void power_off(struct model_guest *g)
{
    g->over = true;
    model_guest_off(g->m, g->ref);
}

/* Dies if this is the moment that its act names; false then, as a broken connection. */
static bool survive(struct model_guest *g, enum sim_death moment)
{
    if (g->act.death != moment)
        return true;
    if (moment == SIM_REBOOTS_IDLE || moment == SIM_REBOOTS_RUNNING) {
        g->over = true;
        model_reset(g->m, g->vm);
    } else {
        power_off(g);
    }
    return false;
}

static void keep(struct model_guest *g)
{
    if (!model_disk_journal(g->m, g->ref, g->target, NULL, &g->run))
        g->has_run = false;
}

/* --- words --------------------------------------------------------------------------------------
 */
static void add_exit(struct model_guest *g, struct buf *b)
{
    buf_addf(b,
             "{\"container\":\"%s\",\"seq\":%llu,\"kind\":\"%s\",\"value\":%d,\"oom\":false,"
             "\"error\":\"%s\",\"started_ns\":1000,\"ended_ns\":2000,\"log_seq\":%llu}",
             g->run.container, (unsigned long long)g->run.seq, g->run.kind, g->run.value,
             strcmp(g->run.kind, "launch-failed") == 0 ? "no such file" : "",
             (unsigned long long)g->log_seq);
}

static bool say_exit(struct model_guest *g, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    add_exit(g, &b);
    return tg_json(&g->g, WIRE_EXIT, 0, buf_str(&b), err);
}

/* The process has ended: journal, console, EXIT. */
static bool end_run(struct model_guest *g, const char *kind, int value, struct vic_err *err)
{
    char line[96];
    if (g->run.phase == MODEL_RUN_EXITED)
        return true;
    g->end_ms = 0;
    g->run.phase = MODEL_RUN_EXITED;
    g->run.kind = kind;
    g->run.value = value;
    keep(g);
    snprintf(line, sizeof line, "vic: run %llu exited %d", (unsigned long long)g->run.seq,
             strcmp(kind, "signaled") == 0 ? 128 + value : value);
    model_console(g->m, g->ref, line);
    if (g->act.lost_exit) {
        power_off(g);
        return false;
    }
    if (!survive(g, SIM_DIES_EXITED))
        return false;
    g->off_ms = now_ms() + ACK_MS;
    return !g->online || say_exit(g, err); /* else HELLO tells it */
}

static bool say_logs(struct model_guest *g, struct vic_err *err)
{
    for (uint64_t seq = g->log_stored + 1; seq <= g->log_seq; seq++) {
        AUTO_BUF struct buf b = {0};
        buf_addf(&b, "line %llu\n", (unsigned long long)seq);
        if (!tg_log(&g->g, seq, 1, buf_sv(&b), err))
            return false;
    }
    return true;
}

static bool say_running(struct model_guest *g, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "{\"seq\":%llu,\"phase\":\"running\",\"pid\":7,\"started_ns\":1000}",
             (unsigned long long)++g->status_seq);
    return tg_json(&g->g, WIRE_STATUS, 0, buf_str(&b), err) && say_logs(g, err);
}

/* --- a run --------------------------------------------------------------------------------------
 */
static bool start_run(struct model_guest *g, struct vic_err *err)
{
    g->log_seq = g->act.lines;
    if (g->act.launch_fails)
        return end_run(g, "launch-failed", 127, err);
    model_count_run(g->m, g->run.container, g->run.seq);
    g->run.phase = MODEL_RUN_STARTED;
    keep(g);
    g->end_ms = g->act.until_stopped ? INT64_MAX : now_ms() + g->act.run_ms;
    return say_running(g, err) && survive(g, SIM_DIES_RUNNING) && survive(g, SIM_REBOOTS_RUNNING);
}

static bool ack_config(struct model_guest *g, struct json_val v, const char *error,
                       struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "{\"gen\":%lld,\"ok\":%s,\"error\":\"%s\",\"errno\":0,\"stage\":\"disk\"}",
             (long long)json_i64(json_get(v, "gen"), 0), error[0] ? "false" : "true", error);
    return tg_json(&g->g, WIRE_CONFIG_ACK, 0, buf_str(&b), err);
}

static bool on_run_config(struct model_guest *g, struct json_val v, struct vic_err *err)
{
    struct model_journal on_disk;
    struct json_val spec = json_get(v, "spec");
    g->target = (unsigned)json_i64(json_get(spec, "disk"), 0);
    if (!survive(g, SIM_DIES_CONFIG))
        return false;
    if (g->has_run)
        return ack_config(g, v, "", err);
    if (g->act.refuses || !model_disk_journal(g->m, g->ref, g->target, &on_disk, NULL))
        return ack_config(g, v, "the disk cannot be mounted", err);
    snprintf(g->run.container, sizeof g->run.container, "%s",
             json_str(json_get(spec, "container"), ""));
    g->run.seq = (uint64_t)json_i64(json_get(spec, "seq"), 0);
    g->run.phase = MODEL_RUN_SPEC;
    g->run.kind = "";
    g->has_run = true;
    bool exited = on_disk.phase == MODEL_RUN_EXITED && on_disk.seq == g->run.seq;
    if (exited)
        g->run = on_disk;
    keep(g);
    if (!ack_config(g, v, "", err) || !survive(g, SIM_DIES_ACKED))
        return false;
    g->off_ms = exited ? now_ms() + ACK_MS : 0;
    return exited ? say_exit(g, err) : start_run(g, err);
}

static bool on_config(struct model_guest *g, struct json_val v, struct vic_err *err)
{
    if (strcmp(json_str(json_get(v, "role"), ""), "run") == 0)
        return on_run_config(g, v, err);
    g->worker = true;
    return ack_config(g, v, "", err);
}

/* --- a worker's jobs ----------------------------------------------------------------------------
 */
static struct job *job_of(struct model_guest *g, uint32_t stream)
{
    for (size_t i = 0; i < MAX_JOBS; i++)
        if (g->jobs[i].stream == stream)
            return &g->jobs[i];
    return NULL;
}

static bool end_job(struct model_guest *g, struct job *j, const char *json, struct vic_err *err)
{
    uint32_t stream = j->stream;
    *j = (struct job){0};
    return tg_json(&g->g, WIRE_CLOSE, stream, json, err);
}

static bool on_open(struct model_guest *g, const struct wire_frame *f, struct json_val v,
                    struct vic_err *err)
{
    struct job *j = job_of(g, 0);
    bool apply = strcmp(json_str(json_get(v, "op"), ""), "apply") == 0;
    unsigned target = (unsigned)json_i64(json_get(v, "target"), 0);
    if (!j || !g->worker)
        return tg_json(&g->g, WIRE_OPEN_ERR, f->stream,
                       "{\"code\":\"BUSY\",\"error\":\"no worker\",\"errno\":0,\"stage\":\"\"}",
                       err);
    *j = (struct job){.stream = f->stream, .target = target, .apply = apply};
    sha256_init(&j->hash);
    if (!tg_json(&g->g, WIRE_OPEN_OK, f->stream, "{}", err))
        return false;
    if (!model_disk_work(g->m, g->ref, target, apply ? MODEL_APPLY_BEGIN : MODEL_FORMAT))
        return end_job(g, j, "{\"ok\":false,\"code\":\"IO\",\"error\":\"no disk\"}", err);
    if (!survive(g, SIM_DIES_WORKING))
        return false;
    return apply || end_job(g, j, "{\"ok\":true,\"size\":0}", err);
}

static bool finish_apply(struct model_guest *g, struct job *j, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    unsigned char sum[32];
    char hex[65];
    if (j->bad)
        return end_job(g, j,
                       "{\"ok\":false,\"code\":\"INVALID\",\"error\":\"leaves the root\","
                       "\"entry\":\"../../etc/passwd\"}",
                       err);
    sha256_final(&j->hash, sum);
    hex_encode(sum, sizeof sum, hex);
    model_disk_work(g->m, g->ref, j->target, MODEL_APPLY_END);
    buf_addf(&b, "{\"ok\":true,\"size\":%llu,\"diff_id\":\"sha256:%s\"}",
             (unsigned long long)j->bytes, hex);
    return end_job(g, j, buf_str(&b), err);
}

static bool on_stream(struct model_guest *g, const struct wire_frame *f, struct vic_err *err)
{
    uint8_t channel;
    struct sv bytes;
    struct job *j = job_of(g, f->stream);
    if (!j)
        return true;
    if (f->type == WIRE_CLOSE) {
        *j = (struct job){0};
        return true;
    }
    if (f->type == WIRE_EOF)
        return finish_apply(g, j, err);
    if (f->type != WIRE_DATA || !wire_take_data(f->payload, &channel, &bytes, err))
        return true;
    if (!j->bytes && bytes.len >= 3 && memcmp(bytes.p, "BAD", 3) == 0)
        j->bad = true;
    j->bytes += bytes.len;
    sha256_update(&j->hash, bytes.p, bytes.len);
    AUTO_BUF struct buf b = {0};
    wire_put_credit(&b, f->stream, 0, (uint32_t)bytes.len);
    return tg_send(&g->g, buf_sv(&b), err);
}

/* --- frames -------------------------------------------------------------------------------------
 */
static bool on_ping(struct model_guest *g, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    uint64_t nonce;
    int64_t theirs;
    if (!wire_take_ping(f->payload, &nonce, &theirs, err))
        return false;
    wire_put_ping(&b, WIRE_PONG, nonce, clock_wall_ns(&vic_clock_real));
    return tg_send(&g->g, buf_sv(&b), err);
}

static bool on_shutdown(struct model_guest *g, struct json_val v, struct vic_err *err)
{
    if (g->act.deaf)
        return true;
    if (!g->has_run) {
        power_off(g);
        return false;
    }
    int signal = (int)json_i64(json_get(v, "signal"), 15);
    return end_run(g, "signaled", signal ? signal : 15, err);
}

static bool on_frame(struct model_guest *g, const struct wire_frame *f, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v = {0};
    switch ((int)f->type) {
    case WIRE_PING:
        return on_ping(g, f, err);
    case WIRE_CONFIG:
        return json_parse(f->payload, 0, &a, &v, err) && on_config(g, v, err);
    case WIRE_EXIT_ACK:
        g->acked = true;
        power_off(g);
        return false;
    case WIRE_LOG_ACK:
        return wire_take_u64(f->payload, &g->log_stored, err);
    case WIRE_SIGNAL:
    case WIRE_SHUTDOWN:
        return json_parse(f->payload, 0, &a, &v, err) && on_shutdown(g, v, err);
    case WIRE_OPEN:
        return json_parse(f->payload, 0, &a, &v, err) && on_open(g, f, v, err);
    case WIRE_DATA:
    case WIRE_EOF:
    case WIRE_CLOSE:
        return on_stream(g, f, err);
    }
    return true;
}

static bool hello(struct model_guest *g, struct vic_err *err)
{
    AUTO_BUF struct buf b = {0};
    AUTO_ARENA struct arena a = {0};
    struct wire_frame f;
    struct json_val v;
    buf_addf(&b,
             "{\"proto\":1,\"build\":\"sim\",\"vm\":\"%s\",\"boot\":\"%s\",\"role\":\"%s\","
             "\"uptime_ms\":1,\"log_seq\":%llu",
             g->vm, g->boot,
             g->has_run  ? "run"
             : g->worker ? "worker"
                         : "none",
             (unsigned long long)g->log_seq);
    if (g->has_run)
        buf_addf(&b,
                 ",\"run\":{\"container\":\"%s\",\"seq\":%llu,\"rev\":1,\"phase\":\"%s\","
                 "\"pid\":7,\"started_ns\":1000}",
                 g->run.container, (unsigned long long)g->run.seq,
                 g->run.phase == MODEL_RUN_EXITED    ? "exited"
                 : g->run.phase == MODEL_RUN_STARTED ? "running"
                                                     : "starting");
    if (g->has_run && g->run.phase == MODEL_RUN_EXITED) {
        buf_add_str(&b, ",\"exit\":");
        add_exit(g, &b);
    }
    buf_add_c(&b, '}');
    if (!tg_json(&g->g, WIRE_HELLO, 0, buf_str(&b), err) ||
        !tg_expect(&g->g, WIRE_WELCOME, &f, err) || !json_parse(f.payload, 0, &a, &v, err))
        return false;
    g->log_stored = (uint64_t)json_i64(json_get(v, "log_seq"), 0);
    return !g->has_run || say_logs(g, err);
}

/* --- the thread ---------------------------------------------------------------------------------
 */
static bool on_time(struct model_guest *g, struct vic_err *err)
{
    int64_t now = now_ms();
    if (g->online && g->act.drops && !g->dropped && g->run.phase == MODEL_RUN_STARTED) {
        g->dropped = true;
        return false;
    }
    if (g->end_ms && now >= g->end_ms)
        return end_run(g, "exited", g->act.exit, err);
    if (g->off_ms && now >= g->off_ms) {
        power_off(g);
        return false;
    }
    return true;
}

static int64_t next_ms(const struct model_guest *g)
{
    int64_t now = now_ms(), at = g->end_ms ? g->end_ms : g->off_ms ? g->off_ms : INT64_MAX;
    if (g->act.drops && !g->dropped && g->run.phase == MODEL_RUN_STARTED)
        return 0;
    return at == INT64_MAX ? 600000 : at > now ? at - now : 0;
}

static bool one_frame(struct model_guest *g)
{
    struct vic_err err = {0};
    struct wire_frame f;
    int64_t wait = next_ms(g);
    if (wait > 0 || !g->end_ms) {
        if (tg_recv(&g->g, &f, wait, &err))
            return on_frame(g, &f, &err);
        if (err.code != VIC_TIMEOUT)
            return false;
    }
    return on_time(g, &err);
}

static void connected(struct model_guest *g)
{
    struct vic_err err;
    if (!hello(g, &err) || !survive(g, SIM_DIES_IDLE) || !survive(g, SIM_REBOOTS_IDLE))
        return;
    while (!g->over && !stopping(g) && one_frame(g))
        ;
}

static void play(struct model_guest *g)
{
    struct vic_err err;
    char address[64];
    mutex_lock(&g->sim->lock);
    memcpy(address, g->sim->address, sizeof address);
    mutex_unlock(&g->sim->lock);
    struct tg_connect o = {.address = address, .vm = g->vm, .n = 1, .key = g->key};
    if (!address[0] || !tg_connect(&g->g, &o, &err))
        return;
    snprintf(g->g.boot, sizeof g->g.boot, "%s", g->boot);
    mutex_lock(&g->lock);
    g->fd = g->stop ? -1 : g->g.fd;
    mutex_unlock(&g->lock);
    g->online = true;
    if (!stopping(g))
        connected(g);
    g->online = false;
    mutex_lock(&g->lock);
    g->fd = -1;
    mutex_unlock(&g->lock);
    memset(g->jobs, 0, sizeof g->jobs);
    tg_close(&g->g);
}

/* A VM that boots with a run on its disk goes on with it. */
static void read_disk(struct model_guest *g)
{
    if (!model_boot_run(g->m, g->ref, &g->target, &g->run))
        return;
    g->has_run = true;
    g->log_seq = g->act.lines;
    if (g->run.phase == MODEL_RUN_EXITED)
        g->off_ms = now_ms() + ACK_MS;
    else
        g->end_ms = g->act.until_stopped ? INT64_MAX : now_ms() + g->act.run_ms;
    if (g->run.phase == MODEL_RUN_SPEC) {
        model_count_run(g->m, g->run.container, g->run.seq);
        g->run.phase = MODEL_RUN_STARTED;
        keep(g);
    }
}

/* Between two connections time goes on. */
static void away(struct model_guest *g)
{
    struct vic_err err;
    nap(g, RETRY_MS);
    if (!stopping(g))
        on_time(g, &err);
}

static void *guest_main(void *arg)
{
    struct model_guest *g = arg;
    nap(g, g->act.boot_ms);
    if (!stopping(g))
        survive(g, SIM_DIES_BOOTING);
    read_disk(g);
    while (!g->over && !stopping(g)) {
        if (!g->act.mute)
            play(g);
        if (!g->over)
            away(g);
    }
    return NULL;
}

struct model_guest *sim_guest_start(void *sim, struct model *m, const struct model_boot *b)
{
    struct model_guest *g = xcalloc(1, sizeof *g);
    g->sim = sim;
    g->m = m;
    g->act = take_act(sim);
    g->fd = g->g.fd = -1;
    snprintf(g->ref, sizeof g->ref, "%s", b->ref);
    snprintf(g->vm, sizeof g->vm, "%s", b->vm);
    snprintf(g->boot, sizeof g->boot, "0b007000-0000-4000-8000-%012u", b->boots);
    if (!hex_decode(sv_of(b->key), g->key))
        abort();
    mutex_init(&g->lock);
    cond_init(&g->wake);
    if (pthread_create(&g->thread, NULL, guest_main, g) != 0)
        abort();
    return g;
}

void sim_guest_stop(struct model_guest *g)
{
    mutex_lock(&g->lock);
    g->stop = true;
    if (g->fd >= 0)
        shutdown(g->fd, SHUT_RDWR);
    cond_signal(&g->wake);
    mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    cond_fini(&g->wake);
    mutex_fini(&g->lock);
    free(g);
}
