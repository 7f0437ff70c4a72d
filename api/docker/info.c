/* GET /info.  Counts come from the store; of vSphere only what control last knew: this answers at
 * once, also when vSphere is away, and says so among the warnings. */
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "docker.h"

struct counts {
    size_t running, stopped, paused;
};

static bool count_one(void *arg, const void *record)
{
    struct counts *n = arg;
    const struct store_container *k = record;
    if (k->meta.deleted)
        return true;
    if (container_is_running(k))
        n->running++;
    else
        n->stopped++;
    return true;
}

struct facts {
    struct counts n;
    size_t images, vms;
    struct store_vch vch;
    struct api_health health;
};

static bool gather(struct call *c, struct facts *f)
{
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    struct store_vch vch;
    if (!t || !store_list(t, STORE_CONTAINER, "", NULL, count_one, &f->n, &c->err))
        return false;
    f->images = store_count(t, STORE_IMAGE);
    f->vms = store_count(t, STORE_VM);
    store_init(store_rec_vch(), &f->vch);
    if (store_get(t, STORE_VCH, "vch", c->a, &vch, &c->err))
        store_copy(store_rec_vch(), &vch, &f->vch, c->a);
    else if (c->err.code != VIC_NOT_FOUND)
        return false;
    if (c->api->o.health)
        c->api->o.health(c->api->o.health_arg, &f->health);
    return true;
}

static void add_pair(struct json_writer *w, const char *key, const char *value)
{
    json_open(w, NULL, '[');
    json_add_str(w, NULL, key);
    json_add_str(w, NULL, value);
    json_close(w, ']');
}

static void add_driver(struct call *c, struct json_writer *w, const struct facts *f)
{
    const struct store_vch *v = &f->vch;
    json_add_str(w, "Driver", "vsphere");
    json_open(w, "DriverStatus", '[');
    add_pair(w, "vSphere", f->health.vsphere_connected ? "connected" : "not connected");
    add_pair(w, "VCH virtual machines", arena_printf(c->a, "%zu", f->vms));
    add_pair(w, "VCH default memory class", arena_printf(c->a, "%u MiB", v->class_mb));
    if (v->max_vms)
        add_pair(w, "VCH virtual machine limit", arena_printf(c->a, "%u", v->max_vms));
    if (v->max_memory_mb)
        add_pair(w, "VCH memory limit",
                 arena_printf(c->a, "%llu MiB", (unsigned long long)v->max_memory_mb));
    add_pair(w, "VCH image store", v->image_store);
    json_close(w, ']');
    json_add_raw(w, "Plugins",
                 SV("{\"Volume\":[],\"Network\":[],\"Authorization\":null,\"Log\":[\"json-file\","
                    "\"local\",\"none\"]}"));
}

static void add_flags(struct json_writer *w)
{
    static const char *const yes[] = {"MemoryLimit", "CpuCfsPeriod",   "CpuCfsQuota",
                                      "PidsLimit",   "OomKillDisable", "IPv4Forwarding"};
    static const char *const no[] = {"SwapLimit",
                                     "CPUShares",
                                     "CPUSet",
                                     "Debug",
                                     "BridgeNfIptables",
                                     "BridgeNfIp6tables",
                                     "ExperimentalBuild",
                                     "LiveRestoreEnabled"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        json_add_bool(w, yes[i], true);
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        json_add_bool(w, no[i], false);
}

static void add_machine(struct call *c, struct json_writer *w, const struct facts *f)
{
    struct utsname u = {0};
    struct sysinfo s = {0};
    uname(&u);
    sysinfo(&s);
    json_add_str(w, "KernelVersion", u.release);
    json_add_str(w, "OperatingSystem", "vSphere Integrated Containers Engine in C");
    json_add_str(w, "OSVersion", VIC_VERSION);
    json_add_str(w, "OSType", "linux");
    json_add_str(w, "Architecture", "x86_64");
    json_add_i64(w, "NCPU", get_nprocs());
    uint64_t limit = f->vch.max_memory_mb << 20;
    json_add_u64(w, "MemTotal", limit ? limit : (uint64_t)s.totalram * s.mem_unit);
    json_add_time(w, "SystemTime", call_now(c));
    json_add_str(w, "Name", c->api->o.host_name ? c->api->o.host_name : "");
    json_open(w, "Labels", '[');
    json_add_str(w, NULL, arena_printf(c->a, "vch.name=%s", f->vch.meta.name));
    json_close(w, ']');
}

static void add_fixed(struct json_writer *w)
{
    static const struct {
        const char *key, *json;
    } fixed[] = {
        {"LoggingDriver", "\"json-file\""},
        {"CgroupDriver", "\"none\""},
        {"CgroupVersion", "\"2\""},
        {"NFd", "0"},
        {"NGoroutines", "0"},
        {"NEventsListener", "0"},
        {"IndexServerAddress", "\"https://index.docker.io/v1/\""},
        {"RegistryConfig", "{\"AllowNondistributableArtifactsCIDRs\":[],"
                           "\"AllowNondistributableArtifactsHostnames\":[],"
                           "\"InsecureRegistryCIDRs\":[],\"IndexConfigs\":{},\"Mirrors\":[]}"},
        {"GenericResources", "null"},
        {"DockerRootDir", "\"\""},
        {"HttpProxy", "\"\""},
        {"HttpsProxy", "\"\""},
        {"NoProxy", "\"\""},
        {"Runtimes", "{\"runc\":{\"path\":\"\"}}"},
        {"DefaultRuntime", "\"runc\""},
        {"Swarm", "{\"NodeID\":\"\",\"NodeAddr\":\"\",\"LocalNodeState\":\"inactive\","
                  "\"ControlAvailable\":false,\"Error\":\"\",\"RemoteManagers\":null}"},
        {"Isolation", "\"\""},
        {"InitBinary", "\"tether\""},
        {"ContainerdCommit", "{\"ID\":\"\",\"Expected\":\"\"}"},
        {"RuncCommit", "{\"ID\":\"\",\"Expected\":\"\"}"},
        {"InitCommit", "{\"ID\":\"\",\"Expected\":\"\"}"},
        {"SecurityOptions", "[]"},
        {"ProductLicense", "\"\""},
        {"DefaultAddressPools", "[]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        json_add_raw(w, fixed[i].key, sv_of(fixed[i].json));
}

static void add_warnings(struct call *c, struct json_writer *w, const struct facts *f)
{
    json_open(w, "Warnings", '[');
    if (!f->health.vsphere_connected)
        json_add_str(w, NULL,
                     "WARNING: vSphere is not reachable: containers cannot be started or stopped "
                     "until it is back");
    for (size_t i = 0; i < f->vch.conditions.n; i++) {
        const struct store_condition *k = &f->vch.conditions.v[i];
        if (!k->status)
            json_add_str(w, NULL, arena_printf(c->a, "WARNING: %s: %s", k->type, k->message));
    }
    json_close(w, ']');
}

bool system_info(struct call *c)
{
    struct facts f = {0};
    AUTO_BUF struct buf out = {0};
    struct json_writer w = json_writer(&out);
    if (!gather(c, &f))
        return false;
    json_open(&w, NULL, '{');
    json_add_str(&w, "ID", store_id(c->api->o.store));
    json_add_u64(&w, "Containers", f.n.running + f.n.stopped);
    json_add_u64(&w, "ContainersRunning", f.n.running);
    json_add_u64(&w, "ContainersPaused", 0);
    json_add_u64(&w, "ContainersStopped", f.n.stopped);
    json_add_u64(&w, "Images", f.images);
    add_driver(c, &w, &f);
    add_flags(&w);
    add_machine(c, &w, &f);
    json_add_str(&w, "ServerVersion", VIC_VERSION);
    add_fixed(&w);
    add_warnings(c, &w, &f);
    json_close(&w, '}');
    return call_json(c, 200, &out);
}
