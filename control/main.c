/* vic-engine: the endpoint daemon.
 *
 * Puts the parts together and owns them on main's stack; nothing here decides anything.  Order of
 * life: store, logs, spool; control; hub; api; then the loops start.  At SIGTERM: the API stops
 * taking requests, control's steps finish, the hub lets the guests go (they run on and come back),
 * logs are synced, the store closes.  A kill -9 at any point loses nothing that was acknowledged.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/opt.h"
#include "control.h"
#include "failpoint.h"
#include "tether/wire.h"

struct engine_opts {
    const char *state_dir, *key_file, *log_level, *name, *folder, *vch_id;
    struct opt_strs hosts, channel;
    const char *tls_cert, *tls_key, *tls_ca;
    bool tls_verify;
    const char *url, *user, *password_file, *thumbprint, *thumbprint_file, *ca;
    const char *datacenter, *compute, *pool, *datastore, *network, *iso;
    int64_t class_mb, cpus, max_vms, max_boots, max_memory, disk_size, spool_quota, store_quota;
    int64_t handlers, workers;
};

#define OPT(n, k, f, ...)                                                                          \
    {                                                                                              \
        .name = n, .kind = k, .offset = offsetof(struct engine_opts, f), __VA_ARGS__               \
    }
static const struct opt_def options[] = {
    OPT("state-dir", OPT_STR, state_dir, .arg = "DIR", .fallback = "/var/lib/vic-engine",
        .help = "folder of the store, the logs and the spool"),
    OPT("key-file", OPT_STR, key_file, .arg = "FILE",
        .help = "the VCH secret, 32 bytes in hex; made when absent (default STATE/vch.key)"),
    OPT("host", OPT_STRS, hosts, .letter = 'H', .arg = "ADDRESS",
        .help = "where the Docker API listens: unix:///path or tcp://ip:port; may repeat "
                "(default unix://STATE/docker.sock)"),
    OPT("tlscert", OPT_STR, tls_cert, .arg = "FILE",
        .help = "server certificate for tcp addresses"),
    OPT("tlskey", OPT_STR, tls_key, .arg = "FILE", .help = "its key"),
    OPT("tlscacert", OPT_STR, tls_ca, .arg = "FILE",
        .help = "trust client certificates signed by this CA"),
    OPT("tlsverify", OPT_FLAG, tls_verify,
        .help = "require a client certificate (needs --tlscacert)"),
    OPT("channel", OPT_STRS, channel, .arg = "ADDRESS", .required = true,
        .help = "where guests connect: tcp:[fe80::...%bridge]:2377, or only the interface's name"),
    OPT("target", OPT_STR, url, .letter = 't', .arg = "URL", .env = "VIC_MACHINE_TARGET",
        .required = true, .help = "vSphere: https://host[:port]"),
    OPT("user", OPT_STR, user, .letter = 'u', .arg = "NAME", .env = "VIC_MACHINE_USER",
        .fallback = "root", .help = "vSphere user"),
    OPT("password-file", OPT_STR, password_file, .arg = "FILE", .required = true,
        .help = "file with the user's password on its first line"),
    OPT("thumbprint", OPT_STR, thumbprint, .arg = "HEX", .env = "VIC_MACHINE_THUMBPRINT",
        .help = "SHA-256 or SHA-1 of the server's certificate, upper-case hex with colons"),
    OPT("thumbprint-file", OPT_STR, thumbprint_file, .arg = "FILE", .help = "read it from a file"),
    OPT("target-ca", OPT_STR, ca, .arg = "FILE",
        .help = "CA of the server's certificate, instead of a thumbprint"),
    OPT("datacenter", OPT_STR, datacenter, .arg = "NAME",
        .help = "inventory path; may be left out when there is one"),
    OPT("compute-resource", OPT_STR, compute, .letter = 'r', .arg = "NAME",
        .help = "host, cluster or resource pool"),
    OPT("resource-pool", OPT_STR, pool, .arg = "NAME", .help = "pool below the compute resource"),
    OPT("image-store", OPT_STR, datastore, .letter = 'i', .arg = "NAME",
        .help = "datastore of images and containers"),
    OPT("bridge-network", OPT_STR, network, .letter = 'b', .arg = "NAME",
        .help = "port group of the containers' control channel"),
    OPT("bootstrap-iso", OPT_STR, iso, .arg = "FILE", .required = true,
        .help = "boot image of container VMs"),
    OPT("name", OPT_STR, name, .letter = 'n', .arg = "NAME",
        .help = "name of the virtual container host"),
    OPT("folder", OPT_STR, folder, .arg = "NAME",
        .help = "our folder on the datastore (default the name)"),
    OPT("vch-id", OPT_STR, vch_id, .arg = "HEX",
        .help = "identity of the VCH, 64 hex digits; taken at the first start only"),
    OPT("container-memory", OPT_INT, class_mb, .arg = "MB", .min = 128, .max = 1048576,
        .help = "default memory of a container VM"),
    OPT("container-cpus", OPT_INT, cpus, .arg = "N", .min = 1, .max = 128,
        .help = "virtual CPUs of a container VM"),
    OPT("max-vms", OPT_INT, max_vms, .arg = "N", .min = 0, .max = 100000,
        .help = "VMs that may exist at a time (default no limit)"),
    OPT("max-boots", OPT_INT, max_boots, .arg = "N", .min = 0, .max = 1000,
        .help = "VMs that may boot at a time (default 2)"),
    OPT("memory", OPT_BYTES, max_memory, .arg = "SIZE",
        .help = "memory of all VMs together (default no limit)"),
    OPT("base-image-size", OPT_BYTES, disk_size, .arg = "SIZE", .fallback = "32g",
        .help = "capacity of container disks; fixed once the first image is loaded"),
    OPT("spool-quota", OPT_BYTES, spool_quota, .arg = "SIZE", .fallback = "16g",
        .help = "room for archives on their way to the datastore"),
    OPT("store-quota", OPT_BYTES, store_quota, .arg = "SIZE", .fallback = "16g",
        .help = "room for the store"),
    OPT("handlers", OPT_INT, handlers, .arg = "N", .fallback = "16", .min = 1, .max = 256,
        .hidden = true, .help = "threads that answer API requests"),
    OPT("workers", OPT_INT, workers, .arg = "N", .fallback = "8", .min = 1, .max = 256,
        .hidden = true, .help = "threads that run control's steps"),
    OPT("log-level", OPT_ENUM, log_level, .arg = "LEVEL", .choices = "error|warn|info|debug",
        .fallback = "info", .help = "how much is logged to stderr"),
};

struct engine {
    const struct engine_opts *o;
    struct arena a;
    struct vic_log *log;
    struct store *store;
    struct logs *logs;
    struct spool *spool;
    struct vsp *vsp;
    struct ctl *ctl;
    struct hub *hub;
    struct api *api;
    struct tls_ctx *tls; /* lives as long as the listeners that use it */
    struct loop *hub_loop, *api_loop;
    struct failpoints fail;
};

/* --- files
 * -------------------------------------------------------------------------------------------------
 */
static bool read_line(const char *path, char *out, size_t size, struct vic_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return vic_fail_errno(err, "open %s", path);
    bool ok = fgets(out, (int)size, f) != NULL;
    fclose(f);
    if (!ok)
        return vic_fail(err, VIC_INVALID, 0, "%s is empty", path);
    out[strcspn(out, "\r\n")] = '\0';
    return true;
}

/* Reads the secret, or makes one with its file. */
static bool load_secret(const char *path, unsigned char secret[32], struct vic_err *err)
{
    char hex[80];
    if (access(path, F_OK) == 0) {
        struct stat st;
        if (stat(path, &st) != 0 || !read_line(path, hex, sizeof hex, err))
            return vic_wrap(err, "read the VCH secret");
        if (st.st_mode & 077)
            return vic_fail(err, VIC_FORBIDDEN, 0,
                            "the VCH secret %s may be read by others: chmod 600 it", path);
        if (strlen(hex) != 64 || !hex_decode(sv_of(hex), secret))
            return vic_fail(err, VIC_INVALID, 0, "%s is not 32 bytes in hex", path);
        return true;
    }
    random_bytes(secret, 32);
    hex_encode(secret, 32, hex);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "%s\n", hex) < 0 || fsync(fd) != 0)
        return vic_fail_errno(err, "write the VCH secret %s", path);
    return true;
}

/* --- parts
 * ---------------------------------------------------------------------------------------------------
 */
static bool open_store(struct engine *e, struct vic_err *err)
{
    unsigned char secret[32];
    const char *key =
        e->o->key_file ? e->o->key_file : arena_printf(&e->a, "%s/vch.key", e->o->state_dir);
    if (mkdir(e->o->state_dir, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "make %s", e->o->state_dir);
    if (!load_secret(key, secret, err))
        return false;
    struct store_options so = {
        .dir = arena_printf(&e->a, "%s/store", e->o->state_dir),
        .secret = secret,
        .quota_bytes = (uint64_t)e->o->store_quota,
        .clock = &vic_clock_real,
        .log = e->log,
        .gate = failpoint_store_gate(&e->fail),
        .gate_arg = &e->fail,
    };
    e->store = store_open(&so, err);
    explicit_bzero(secret, sizeof secret);
    if (!e->store)
        return false;
    e->spool = spool_open(arena_printf(&e->a, "%s/spool", e->o->state_dir),
                          (uint64_t)e->o->spool_quota, err);
    return e->spool != NULL;
}

static bool open_vsphere(struct engine *e, struct vic_err *err)
{
    char password[256], thumbprint[128];
    const struct engine_opts *o = e->o;
    if (!read_line(o->password_file, password, sizeof password, err))
        return vic_wrap(err, "read the vSphere password");
    if (o->thumbprint_file && !read_line(o->thumbprint_file, thumbprint, sizeof thumbprint, err))
        return vic_wrap(err, "read the thumbprint");
    struct vsp_options vo = {
        .url = o->url,
        .user = o->user,
        .password = password,
        .thumbprint = o->thumbprint_file ? thumbprint : o->thumbprint,
        .ca = o->ca,
        .log = e->log,
        .gate = failpoint_soap_gate(&e->fail),
        .hook_arg = &e->fail,
    };
    e->vsp = vsp_new(&vo, err);
    explicit_bzero(password, sizeof password);
    return e->vsp != NULL;
}

static bool open_control(struct engine *e, struct vic_err *err)
{
    const struct engine_opts *o = e->o;
    const char *name = o->name ? o->name : "vch";
    struct ctl_settings set = {
        .name = o->name,
        .class_mb = (uint32_t)o->class_mb,
        .cpus = (uint32_t)o->cpus,
        .max_vms = (uint32_t)o->max_vms,
        .max_boots = (uint32_t)o->max_boots,
        .max_memory_mb = (uint64_t)o->max_memory >> 20,
        .disk_bytes = o->disk_size,
        .folder = o->folder ? o->folder : name,
        .vch_id = o->vch_id,
    };
    unsigned char raw[32];
    if (o->vch_id && (strlen(o->vch_id) != 64 || !hex_decode(sv_of(o->vch_id), raw)))
        return vic_fail(err, VIC_INVALID, 0, "--vch-id: expected 64 hex digits");
    struct ctl_options co = {
        .store = e->store,
        .logs = e->logs,
        .spool = e->spool,
        .vsp = e->vsp,
        .place = {.datacenter = o->datacenter,
                  .compute = o->compute,
                  .datastore = o->datastore,
                  .network = o->network,
                  .pool = o->pool},
        .iso = o->iso,
        .clock = &vic_clock_real,
        .workers = (unsigned)o->workers,
        .log = e->log,
    };
    if (!ctl_configure(e->store, &set, err))
        return vic_wrap(err, "store the settings");
    e->ctl = ctl_new(&co, err);
    return e->ctl != NULL;
}

static void log_stored(void *arg, const char *container, const char *boot, uint64_t seq)
{
    struct engine *e = arg;
    ctl_log_stored(e->ctl, container, boot, seq);
}

/* "br0" means our link-local address on that interface; a whole address is taken as it is. */
static const char *channel_address(struct engine *e, const char *text, struct vic_err *err)
{
    char vch[65], address[64];
    if (strncmp(text, "tcp:", 4) == 0)
        return text;
    if (!ctl_vch_id(e->store, vch, err))
        return NULL;
    wire_endpoint_address(vch, address);
    return arena_printf(&e->a, "tcp:[%s%%%s]:%d", address, text, WIRE_PORT);
}

static bool open_hub(struct engine *e, struct vic_err *err)
{
    e->hub_loop = loop_new("hub", err);
    if (!e->hub_loop)
        return false;
    struct hub_options ho = {
        .loop = e->hub_loop,
        .cb = &ctl_hub_callbacks,
        .arg = e->ctl,
        .key = ctl_channel_key,
        .log = e->log,
    };
    e->hub = hub_new(&ho, err);
    if (!e->hub)
        return false;
    for (size_t i = 0; i < e->o->channel.n; i++) {
        const char *address = channel_address(e, e->o->channel.v[i], err);
        if (!address || !hub_listen(e->hub, address, NULL, err))
            return vic_wrap(err, "listen for guests on %s", e->o->channel.v[i]);
    }
    return true;
}

static void health(void *arg, struct api_health *out)
{
    struct engine *e = arg;
    struct ctl_stats s;
    ctl_stats(e->ctl, &s);
    *out = (struct api_health){s.vsphere_connected, s.steps, s.failures, s.queued, s.running};
}

/* docker's "unix:///path" and "tcp://ip:port" are ours without the slashes. */
static bool listen_api(struct engine *e, const char *host, struct vic_err *err)
{
    bool tcp = strncmp(host, "tcp://", 6) == 0;
    const char *address = NULL;
    if (tcp)
        address = arena_printf(&e->a, "tcp:%s", host + 6);
    else if (strncmp(host, "unix://", 7) == 0)
        address = arena_printf(&e->a, "unix:%s", host + 7);
    else
        return vic_fail(err, VIC_INVALID, 0, "--host %s: expected unix:///path or tcp://ip:port",
                        host);
    if (tcp && !e->tls)
        log_warn(e->log, "api.plain", KV_S("host", host),
                 KV_S("why", "anyone who reaches it controls all containers; use --tlscert"));
    return api_listen(e->api, address, tcp ? e->tls : NULL, NULL, err) ||
           vic_wrap(err, "listen on %s", host);
}

static bool open_api(struct engine *e, struct vic_err *err)
{
    const struct engine_opts *o = e->o;
    bool ok = true;
    e->api_loop = loop_new("api", err);
    if (!e->api_loop)
        return false;
    struct api_options ao = {
        .loop = e->api_loop,
        .store = e->store,
        .logs = e->logs,
        .spool = e->spool,
        .hub = e->hub,
        .clock = &vic_clock_real,
        .log = e->log,
        .handlers = (unsigned)o->handlers,
        .host_name = o->name ? o->name : "vch",
        .health = health,
        .health_arg = e,
    };
    e->api = api_new(&ao, err);
    if (!e->api)
        return false;
    if (o->tls_verify && !o->tls_ca)
        return vic_fail(err, VIC_INVALID, 0, "--tlsverify needs --tlscacert");
    if (o->tls_cert) {
        e->tls = tls_server_cert(o->tls_cert, o->tls_key, o->tls_verify ? o->tls_ca : NULL, err);
        if (!e->tls)
            return vic_wrap(err, "load the certificate");
    }
    for (size_t i = 0; i < o->hosts.n && ok; i++)
        ok = listen_api(e, o->hosts.v[i], err);
    if (!o->hosts.n)
        ok = listen_api(e, arena_printf(&e->a, "unix://%s/docker.sock", o->state_dir), err);
    return ok;
}

static void close_all(struct engine *e)
{
    api_free(e->api); /* its connections end on the loop, which still runs */
    if (e->api_loop) {
        loop_stop(e->api_loop);
        loop_free(e->api_loop);
    }
    tls_ctx_free(e->tls);
    if (e->ctl)
        ctl_stop(e->ctl);
    if (e->hub_loop) {
        loop_stop(e->hub_loop);
        loop_adopt(e->hub_loop); /* no guest is heard any more */
    }
    if (e->logs)
        logs_close(e->logs);
    hub_free(e->hub);
    if (e->hub_loop)
        loop_free(e->hub_loop);
    ctl_free(e->ctl);
    vsp_free(e->vsp);
    spool_close(e->spool);
    store_close(e->store);
    failpoint_report(&e->fail);
    log_free(e->log);
    arena_fini(&e->a);
}

static bool open_all(struct engine *e, struct vic_err *err)
{
    if (!open_store(e, err) || !open_vsphere(e, err))
        return false;
    struct logs_options lo = {
        .dir = arena_printf(&e->a, "%s/logs", e->o->state_dir),
        .log = e->log,
        .stored = log_stored,
        .arg = e,
    };
    e->logs = logs_open(&lo, err);
    return e->logs && open_control(e, err) && open_hub(e, err) && open_api(e, err);
}

/* systemd's readiness datagram, when it is asked for (sd_notify(3)). */
static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof a.sun_path)
        return;
    memcpy(a.sun_path, path, strlen(path));
    if (path[0] == '@')
        a.sun_path[0] = '\0';
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)!sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)(void *)&a,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
}

static void wait_for_signal(const sigset_t *set)
{
    int signum;
    while (sigwait(set, &signum) != 0)
        ;
}

static void raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static int run(void *ctx, void *opts, struct opt_strs args)
{
    (void)ctx;
    (void)args;
    struct vic_err err = {0};
    struct engine e = {.o = opts};
    enum log_level level = LOG_INFO;
    sigset_t set;
    if (!log_level_parse(sv_of(e.o->log_level), &level))
        level = LOG_INFO;
    e.log = log_new(STDERR_FILENO, level, "vic-engine");
    failpoint_init(&e.fail);
    raise_file_limit();
    signal(SIGPIPE, SIG_IGN);
    /* All threads inherit the mask; only this one waits for the signals. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    bool ok = open_all(&e, &err) && ctl_start(e.ctl, e.hub, &err) && loop_start(e.hub_loop, &err) &&
              loop_start(e.api_loop, &err);
    if (ok) {
        log_info(e.log, "engine.ready", KV_S("version", VIC_VERSION));
        notify_ready();
        wait_for_signal(&set);
        log_info(e.log, "engine.stopping");
    } else {
        fprintf(stderr, "vic-engine: %s\n", err.msg);
    }
    close_all(&e);
    return ok ? 0 : vic_code_exit(err.code);
}

int main(int argc, char **argv)
{
    static const struct opt_command commands[] = {{
        .size = sizeof(struct engine_opts),
        .opts = options,
        .opt_count = ARRAY_LEN(options),
        .help = "serve the Docker API; every container is a virtual machine on vSphere",
        .run = run,
    }};
    static const struct opt_program program = {
        .name = "vic-engine",
        .help = "the endpoint of a virtual container host",
        .version = VIC_VERSION,
        .commands = commands,
        .count = 1,
    };
    return opt_main(&program, argc, argv, NULL);
}
