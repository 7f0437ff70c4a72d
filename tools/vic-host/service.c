/* ServiceInstance and the small managers: content, clock, options, licences, rights.  The ids are
 * an ESXi's (map vsphere 1.4); a manager that this host does not have is left out of the content.
 */
#include <stddef.h>

#include "base/mem.h"

#include "service.h"

#define VERSION "6.7.0"

/* Row: id, type, and the field of ServiceContent that names it (0 = none). */
#define IN(field) offsetof(struct vim_ServiceContent, field)
static const struct {
    const char *id;
    const struct vim_managed *type;
    size_t field;
} managers[] = {
    {"ServiceInstance", &vim_managed_ServiceInstance, 0},
    {"ha-property-collector", &vim_managed_PropertyCollector, IN(propertyCollector)},
    {"ViewManager", &vim_managed_ViewManager, IN(viewManager)},
    {"HostAgentSettings", &vim_managed_OptionManager, IN(setting)},
    {"ha-user-directory", &vim_managed_UserDirectory, IN(userDirectory)},
    {"ha-sessionmgr", &vim_managed_SessionManager, IN(sessionManager)},
    {"ha-authmgr", &vim_managed_AuthorizationManager, IN(authorizationManager)},
    {"ha-perfmgr", &vim_managed_PerformanceManager, IN(perfManager)},
    {"ha-eventmgr", &vim_managed_EventManager, IN(eventManager)},
    {"ha-taskmgr", &vim_managed_TaskManager, IN(taskManager)},
    {"ha-license-manager", &vim_managed_LicenseManager, IN(licenseManager)},
    {"ha-searchindex", &vim_managed_SearchIndex, IN(searchIndex)},
    {"ha-nfc-file-manager", &vim_managed_FileManager, IN(fileManager)},
    {"ha-vdiskmanager", &vim_managed_VirtualDiskManager, IN(virtualDiskManager)},
    {"ha-adv-options", &vim_managed_OptionManager, 0},
};

void vh_service_new(struct vh *h)
{
    for (size_t i = 0; i < ARRAY_LEN(managers); i++)
        vh_add(h, xcalloc(1, sizeof(struct vh_obj)), managers[i].type, managers[i].id, NULL, NULL);
}

struct vim_AboutInfo *vh_about(struct arena *a)
{
    struct vim_AboutInfo *i = VIM_NEW(a, AboutInfo);
    i->name = "VMware ESXi"; /* clients know a stand-alone host by this and apiType */
    i->fullName = "VMware ESXi " VERSION " compatible vic-host";
    i->vendor = "VMware, Inc.";
    i->version = VERSION;
    i->build = "1";
    i->localeVersion = "INTL";
    i->localeBuild = "000";
    i->osType = "vmnix-x86";
    i->productLineId = "embeddedEsx";
    i->apiType = "HostAgent";
    i->apiVersion = "6.7";
    i->licenseProductName = "VMware ESX Server";
    i->licenseProductVersion = "6.0";
    return i;
}

static struct vim_ServiceContent *content(struct vh *h, struct arena *a)
{
    struct vim_ServiceContent *c = VIM_NEW(a, ServiceContent);
    c->rootFolder = vh_ref(h->root);
    c->about = vh_about(a);
    for (size_t i = 0; i < ARRAY_LEN(managers); i++)
        if (managers[i].field)
            *(struct vim_ref *)(void *)((char *)c + managers[i].field) =
                (struct vim_ref){managers[i].type->name, managers[i].id};
    return c;
}

/* --- methods ---------------------------------------------------------------------------------- */

static bool retrieve_service_content(struct vh_call *c)
{
    ((struct vim_RetrieveServiceContent_response *)c->res)->returnval = content(c->h, c->a);
    return true;
}

static bool current_time(struct vh_call *c)
{
    struct vim_CurrentTime_response *r = c->res;
    r->returnval = clock_wall_ns(c->h->opt.clock);
    return true;
}

static const struct {
    const char *key, *value;
} options[] = {
    {"Config.HostAgent.log.level", "info"},
    {"UserVars.SuppressShellWarning", "1"},
    {"Misc.HostName", "localhost.localdomain"},
};

static struct vim_OptionValue *option(struct arena *a, size_t i)
{
    struct vim_OptionValue *o = VIM_NEW(a, OptionValue);
    o->key = options[i].key;
    o->value = VIM_ANY_STRING(options[i].value);
    return o;
}

/* A name that ends in '.' names all below it. */
static bool option_matches(const char *key, const char *name)
{
    if (!name || !*name)
        return true;
    struct sv k = sv_of(key), n = sv_of(name);
    return sv_eq_nocase(k, n) || (n.p[n.len - 1] == '.' && sv_starts(k, n));
}

static bool query_options(struct vh_call *c)
{
    const struct vim_QueryOptions_request *q = c->req;
    struct vim_QueryOptions_response *r = c->res;
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (option_matches(options[i].key, q->name))
            VIM_PUSH(c->a, &r->returnval, option(c->a, i));
    if (r->returnval.n)
        return true;
    VH_FAULT(&c->fault, InvalidName, "Unknown option %s", q->name ? q->name : "")->name = q->name;
    return false;
}

static bool no_events(struct vh_call *c)
{
    (void)c; /* nothing is recorded: an empty list */
    return true;
}

const struct vh_method vh_methods_service[] = {
    {&vim_method_RetrieveServiceContent, retrieve_service_content, VH_OPEN},
    {&vim_method_CurrentTime, current_time, 0},
    {&vim_method_QueryOptions, query_options, 0},
    {&vim_method_QueryEvents, no_events, 0},
    {0},
};

/* --- properties ------------------------------------------------------------------------------- */

static void get_content(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    *out = VIM_ANY_OBJECT(content(r->h, r->a));
}

static void get_clock(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    *out = vh_any_time(clock_wall_ns(r->h->opt.clock));
}

static void get_capability(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    *out = VIM_ANY_OBJECT(VIM_NEW(r->a, Capability));
}

static void get_options(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    VIM_ARRAY_OF(struct vim_OptionValue *) list = {0};
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        VIM_PUSH(r->a, &list, option(r->a, i));
    *out = VIM_ANY_OBJECTS(OptionValue, &list);
}

static void get_licenses(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    VIM_ARRAY_OF(struct vim_LicenseManagerLicenseInfo *) list = {0};
    struct vim_LicenseManagerLicenseInfo *l = VIM_NEW(r->a, LicenseManagerLicenseInfo);
    l->licenseKey = "00000-00000-00000-00000-00000";
    l->editionKey = "esx.enterprisePlus.cpuPackage";
    l->name = "vic-host (free software, no licence is needed)";
    l->costUnit = "cpuPackage";
    VIM_PUSH(r->a, &list, l);
    *out = VIM_ANY_OBJECTS(LicenseManagerLicenseInfo, &list);
}

static void get_roles(struct vh_read *r, struct vh_obj *o, struct vim_any *out)
{
    (void)o;
    static const struct {
        int id;
        const char *name, *label;
    } roles[] = {{-1, "Admin", "Administrator"},
                 {-2, "ReadOnly", "Read-only"},
                 {-5, "NoAccess", "No access"}};
    VIM_ARRAY_OF(struct vim_AuthorizationRole *) list = {0};
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        struct vim_AuthorizationRole *role = VIM_NEW(r->a, AuthorizationRole);
        role->roleId = roles[i].id;
        role->system = true;
        role->name = roles[i].name;
        role->info = VIM_NEW(r->a, Description);
        role->info->label = roles[i].label;
        role->info->summary = roles[i].label;
        VIM_PUSH(r->a, &list, role);
    }
    *out = VIM_ANY_OBJECTS(AuthorizationRole, &list);
}

const struct vh_prop vh_props_service[] = {
    {&vim_managed_ServiceInstance, "content", get_content},
    {&vim_managed_ServiceInstance, "serverClock", get_clock},
    {&vim_managed_ServiceInstance, "capability", get_capability},
    {&vim_managed_OptionManager, "setting", get_options},
    {&vim_managed_LicenseManager, "licenses", get_licenses},
    {&vim_managed_AuthorizationManager, "roleList", get_roles},
    {0},
};
