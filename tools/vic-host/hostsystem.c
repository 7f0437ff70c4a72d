/* HostSystem and ComputeResource: what this machine is, read from /proc at each question (they are
 * seldom asked and cheap). */
#include <stdio.h>

#include <sys/sysinfo.h>

#include "base/mem.h"

#include "inventory.h"
#include "service.h"

struct machine {
    int cpus, mhz;
    int64_t memory;
    char model[128];
};

static void read_cpuinfo(struct machine *m)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        struct sv value = sv_of(line), name = sv_trim(sv_cut(&value, ':'));
        value = sv_trim(value);
        if (sv_is(name, "model name"))
            snprintf(m->model, sizeof m->model, SV_FMT, SV_ARG(value));
        else if (sv_is(name, "cpu MHz"))
            m->mhz = (int)strtol(value.p, NULL, 10);
    }
    if (f)
        fclose(f);
}

static struct machine this_machine(void)
{
    struct machine m = {.mhz = 1000, .model = "unknown"};
    struct sysinfo s;
    m.cpus = get_nprocs();
    if (sysinfo(&s) == 0)
        m.memory = (int64_t)s.totalram * s.mem_unit;
    read_cpuinfo(&m);
    return m;
}

#define GETTER(name)                                                                               \
    static void name(__attribute__((unused)) struct vh_read *r,                                    \
                     __attribute__((unused)) struct vh_obj *o, struct vim_any *out)

static struct vim_HostHardwareSummary *hardware_summary(struct vh_read *r)
{
    struct machine m = this_machine();
    struct vim_HostHardwareSummary *s = VIM_NEW(r->a, HostHardwareSummary);
    s->vendor = "vic-host";
    s->model = "QEMU host";
    s->uuid = r->h->uuid;
    s->memorySize = m.memory;
    s->cpuModel = arena_strdup(r->a, m.model);
    s->cpuMhz = m.mhz;
    s->numCpuPkgs = 1;
    s->numCpuCores = s->numCpuThreads = (int16_t)m.cpus;
    return s;
}

static struct vim_HostRuntimeInfo *runtime(struct vh_read *r)
{
    struct vim_HostRuntimeInfo *i = VIM_NEW(r->a, HostRuntimeInfo);
    i->connectionState = vim_HostSystemConnectionState_connected;
    i->powerState = vim_HostSystemPowerState_poweredOn;
    i->standbyMode = "none";
    i->has_bootTime = true;
    i->bootTime = r->h->boot_ns;
    i->has_hostMaxVirtualDiskCapacity = true;
    i->hostMaxVirtualDiskCapacity = 62LL << 40;
    return i;
}

GETTER(host_runtime)
{
    *out = VIM_ANY_OBJECT(runtime(r));
}

GETTER(host_hardware)
{
    struct machine m = this_machine();
    struct vim_HostHardwareInfo *i = VIM_NEW(r->a, HostHardwareInfo);
    i->systemInfo = VIM_NEW(r->a, HostSystemInfo);
    i->systemInfo->vendor = "vic-host";
    i->systemInfo->model = "QEMU host";
    i->systemInfo->uuid = r->h->uuid;
    i->cpuInfo = VIM_NEW(r->a, HostCpuInfo);
    i->cpuInfo->numCpuPackages = 1;
    i->cpuInfo->numCpuCores = i->cpuInfo->numCpuThreads = (int16_t)m.cpus;
    i->cpuInfo->hz = (int64_t)m.mhz * 1000000;
    i->memorySize = m.memory;
    *out = VIM_ANY_OBJECT(i);
}

static struct vim_HostListSummaryQuickStats *quick_stats(struct vh_read *r)
{
    struct vim_HostListSummaryQuickStats *q = VIM_NEW(r->a, HostListSummaryQuickStats);
    struct sysinfo s;
    if (sysinfo(&s) == 0) {
        struct machine m = this_machine();
        q->has_overallMemoryUsage = true;
        q->overallMemoryUsage =
            (int32_t)((m.memory - (int64_t)(s.freeram + s.bufferram) * s.mem_unit) >> 20);
        q->has_overallCpuUsage = true;
        q->overallCpuUsage = (int32_t)((double)s.loads[0] / (1 << SI_LOAD_SHIFT) * m.mhz);
    }
    q->has_uptime = true;
    q->uptime = (int32_t)((clock_wall_ns(r->h->opt.clock) - r->h->boot_ns) / 1000000000);
    return q;
}

GETTER(host_summary)
{
    struct vim_HostListSummary *s = VIM_NEW(r->a, HostListSummary);
    s->host = vh_ref(o);
    s->hardware = hardware_summary(r);
    s->runtime = runtime(r);
    s->config = VIM_NEW(r->a, HostConfigSummary);
    s->config->name = o->name;
    s->config->port = 902;
    s->config->product = vh_about(r->a);
    s->quickStats = quick_stats(r);
    s->overallStatus = vim_ManagedEntityStatus_green;
    *out = VIM_ANY_OBJECT(s);
}

static struct vim_HostPortGroup *port_group(struct vh_read *r, const struct vh_obj *net)
{
    struct vim_HostPortGroup *p = VIM_NEW(r->a, HostPortGroup);
    p->key = arena_printf(r->a, "key-vim.host.PortGroup-%s", net->name);
    p->computedPolicy = VIM_NEW(r->a, HostNetworkPolicy);
    p->spec = VIM_NEW(r->a, HostPortGroupSpec);
    p->spec->name = net->name;
    p->spec->vswitchName = arena_printf(r->a, "vSwitch-%s", net->name);
    p->spec->policy = VIM_NEW(r->a, HostNetworkPolicy);
    return p;
}

static struct vim_HostNetworkInfo *network(struct vh_read *r)
{
    struct vim_HostNetworkInfo *n = VIM_NEW(r->a, HostNetworkInfo);
    for (struct vh_obj *o = r->h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_Network)
            VIM_PUSH(r->a, &n->portgroup, port_group(r, o));
    return n;
}

GETTER(host_config)
{
    struct vim_HostConfigInfo *c = VIM_NEW(r->a, HostConfigInfo);
    c->host = vh_ref(o);
    c->product = vh_about(r->a);
    c->network = network(r);
    *out = VIM_ANY_OBJECT(c);
}

GETTER(host_config_manager)
{
    struct vim_HostConfigManager *m = VIM_NEW(r->a, HostConfigManager);
    m->advancedOption = vh_ref(vh_find_id(r->h, "ha-adv-options"));
    m->licenseManager = vh_ref(vh_find_id(r->h, "ha-license-manager"));
    m->userDirectory = vh_ref(vh_find_id(r->h, "ha-user-directory"));
    *out = VIM_ANY_OBJECT(m);
}

static void list_of(struct vh_read *r, const struct vim_managed *type, struct vim_any *out)
{
    vh_refs refs = {0};
    for (struct vh_obj *o = r->h->objects; o; o = o->hh.next)
        if (o->type == type)
            vh_push_ref(r->a, &refs, o);
    *out = vh_any_refs(&refs);
}

GETTER(host_vms)
{
    list_of(r, &vim_managed_VirtualMachine, out);
}

GETTER(host_datastores)
{
    list_of(r, &vim_managed_Datastore, out);
}

GETTER(host_networks)
{
    list_of(r, &vim_managed_Network, out);
}

GETTER(host_browser)
{
    *out = VIM_ANY_REF(vh_ref(vh_find_id(r->h, "ha-datastorebrowser")));
}

GETTER(compute_summary)
{
    struct machine m = this_machine();
    struct vim_ComputeResourceSummary *s = VIM_NEW(r->a, ComputeResourceSummary);
    s->totalCpu = s->effectiveCpu = m.cpus * m.mhz;
    s->totalMemory = m.memory;
    s->effectiveMemory = m.memory >> 20;
    s->numCpuCores = s->numCpuThreads = (int16_t)m.cpus;
    s->numHosts = s->numEffectiveHosts = 1;
    s->overallStatus = vim_ManagedEntityStatus_green;
    *out = VIM_ANY_OBJECT(s);
}

GETTER(compute_config)
{
    struct vim_ComputeResourceConfigInfo *c = VIM_NEW(r->a, ComputeResourceConfigInfo);
    c->vmSwapPlacement = "vmDirectory";
    *out = VIM_ANY_OBJECT(c);
}

const struct vh_prop vh_props_host[] = {
    {&vim_managed_HostSystem, "runtime", host_runtime},
    {&vim_managed_HostSystem, "hardware", host_hardware},
    {&vim_managed_HostSystem, "summary", host_summary},
    {&vim_managed_HostSystem, "config", host_config},
    {&vim_managed_HostSystem, "configManager", host_config_manager},
    {&vim_managed_HostSystem, "vm", host_vms},
    {&vim_managed_HostSystem, "datastore", host_datastores},
    {&vim_managed_HostSystem, "network", host_networks},
    {&vim_managed_HostSystem, "datastoreBrowser", host_browser},
    {&vim_managed_ComputeResource, "summary", compute_summary},
    {&vim_managed_ComputeResource, "configurationEx", compute_config},
    {0},
};
