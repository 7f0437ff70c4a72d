/* GET /containers/{id}/json: everything that Docker tells of one container.  Its network is the
 * loopback interface only, so the networks part is empty but whole. */
#include "docker.h"

static void add_state(struct call *c, struct json_writer *w, const struct store_container *k)
{
    const struct store_run_status *r = &k->status;
    const char *state = container_state(k);
    json_open(w, "State", '{');
    json_add_str(w, "Status", state);
    json_add_bool(w, "Running", container_is_running(k));
    json_add_bool(w, "Paused", false);
    json_add_bool(w, "Restarting", r->phase == store_run_phase_RESTARTING);
    json_add_bool(w, "OOMKilled", r->oom);
    json_add_bool(w, "Dead", r->phase == store_run_phase_DEAD);
    json_add_i64(w, "Pid", container_is_running(k) ? r->pid : 0);
    json_add_i64(w, "ExitCode", r->exit_code);
    json_add_str(w, "Error", container_start_error(k, c->a));
    json_add_time(w, "StartedAt", r->started);
    json_add_time(w, "FinishedAt", r->started ? r->ended : 0);
    json_close(w, '}');
}

static void add_networks(struct json_writer *w)
{
    static const char *const texts[] = {
        "Bridge",  "SandboxID",         "SandboxKey", "LinkLocalIPv6Address", "EndpointID",
        "Gateway", "GlobalIPv6Address", "IPAddress",  "IPv6Gateway",          "MacAddress"};
    static const char *const numbers[] = {"LinkLocalIPv6PrefixLen", "GlobalIPv6PrefixLen",
                                          "IPPrefixLen"};
    static const char *const nulls[] = {"SecondaryIPAddresses", "SecondaryIPv6Addresses"};
    static const char *const empty[] = {"Ports", "Networks"};
    json_open(w, "NetworkSettings", '{');
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        json_add_str(w, texts[i], "");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        json_add_i64(w, numbers[i], 0);
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        json_add_null(w, nulls[i]);
    json_add_bool(w, "HairpinMode", false);
    for (size_t i = 0; i < ARRAY_LEN(empty); i++) {
        json_open(w, empty[i], '{');
        json_close(w, '}');
    }
    json_close(w, '}');
}

static void add_identity(struct call *c, struct json_writer *w, const struct store_container *k)
{
    json_add_str(w, "Id", k->meta.id);
    json_add_time(w, "Created", k->meta.created);
    json_add_str(w, "Path", k->path);
    strs_to_json(w, "Args", &k->args);
    add_state(c, w, k);
    json_add_str(w, "Image", k->image);
    json_add_str(w, "Name", arena_printf(c->a, "/%s", k->meta.name));
    json_add_u64(w, "RestartCount", k->status.restart_count);
    json_add_str(w, "Driver", "vsphere");
    json_add_str(w, "Platform", k->platform);
}

/* Files and labels of a Linux host, which a VM does not have. */
static void add_hostly(struct json_writer *w)
{
    static const char *const texts[] = {"ResolvConfPath", "HostnamePath", "HostsPath",
                                        "LogPath",        "MountLabel",   "ProcessLabel",
                                        "AppArmorProfile"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        json_add_str(w, texts[i], "");
    json_add_null(w, "ExecIDs");
}

static void add_driver(struct json_writer *w, const struct store_container *k,
                       const struct store_disk *d)
{
    json_open(w, "GraphDriver", '{');
    json_add_str(w, "Name", "vsphere");
    json_open(w, "Data", '{');
    json_add_str(w, "VM", k->status.vm);
    json_add_str(w, "Disk", d->path);
    json_close(w, '}');
    json_close(w, '}');
}

static void add_sizes(struct json_writer *w, const struct store_image *image)
{
    json_add_i64(w, "SizeRw", 0);
    json_add_i64(w, "SizeRootFs", image->size_bytes);
}

static bool write_container(struct call *c, struct store_txn *t, const struct store_container *k,
                            struct buf *out)
{
    struct json_writer w = json_writer(out);
    struct store_disk d;
    struct store_image image;
    store_init(store_rec_disk(), &d);
    store_init(store_rec_image(), &image);
    if (*k->disk && !store_get(t, STORE_DISK, k->disk, c->a, &d, &c->err) &&
        c->err.code != VIC_NOT_FOUND)
        return false;
    json_open(&w, NULL, '{');
    add_identity(c, &w, k);
    add_hostly(&w);
    host_config_to_json(&k->host_config, &w, "HostConfig");
    add_driver(&w, k, &d);
    if (call_flag(c, "size", false)) {
        if (!store_get(t, STORE_IMAGE, k->image, c->a, &image, &c->err))
            return false;
        add_sizes(&w, &image);
    }
    json_open(&w, "Mounts", '[');
    json_close(&w, ']');
    config_to_json(&k->config, &w, "Config");
    add_networks(&w);
    json_close(&w, '}');
    return true;
}

bool container_inspect(struct call *c)
{
    struct store_container k;
    AUTO_BUF struct buf out = {0};
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    return t && find_container(c, t, c->param[0], &k) && write_container(c, t, &k, &out) &&
           call_json(c, 200, &out);
}
