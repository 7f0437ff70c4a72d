/* What the engine says of itself: /_ping, /version. */
#include <sys/utsname.h>

#include "api_priv.h"

bool system_ping(struct call *c)
{
    http_set_header(c->req, "Builder-Version", "1");
    http_set_header(c->req, "Swarm", "inactive");
    http_set_header(c->req, "Cache-Control", "no-cache, no-store, must-revalidate");
    http_set_header(c->req, "Pragma", "no-cache");
    http_reply(c->req, 200, "text/plain; charset=utf-8", SV("OK"));
    return true;
}

static const char *kernel_version(struct call *c)
{
    struct utsname u;
    return uname(&u) == 0 ? arena_strdup(c->a, u.release) : "";
}

static void add_components(struct json_writer *w, const char *kernel)
{
    json_open(w, "Components", '[');
    json_open(w, NULL, '{');
    json_add_str(w, "Name", "Engine");
    json_add_str(w, "Version", VIC_VERSION);
    json_open(w, "Details", '{');
    json_add_str(w, "ApiVersion", API_VERSION);
    json_add_str(w, "Arch", "amd64");
    json_add_str(w, "BuildTime", "");
    json_add_str(w, "Experimental", "false");
    json_add_str(w, "GitCommit", "");
    json_add_str(w, "GoVersion", "none: written in C");
    json_add_str(w, "KernelVersion", kernel);
    json_add_str(w, "MinAPIVersion", API_MIN_VERSION);
    json_add_str(w, "Os", "linux");
    json_close(w, '}');
    json_close(w, '}');
    json_close(w, ']');
}

bool system_version(struct call *c)
{
    AUTO_BUF struct buf out = {0};
    struct json_writer w = json_writer(&out);
    const char *kernel = kernel_version(c);
    json_open(&w, NULL, '{');
    json_open(&w, "Platform", '{');
    json_add_str(&w, "Name", "vSphere Integrated Containers Engine in C");
    json_close(&w, '}');
    add_components(&w, kernel);
    json_add_str(&w, "Version", VIC_VERSION);
    json_add_str(&w, "ApiVersion", API_VERSION);
    json_add_str(&w, "MinAPIVersion", API_MIN_VERSION);
    json_add_str(&w, "GitCommit", "");
    json_add_str(&w, "GoVersion", "none: written in C");
    json_add_str(&w, "Os", "linux");
    json_add_str(&w, "Arch", "amd64");
    json_add_str(&w, "KernelVersion", kernel);
    json_add_str(&w, "BuildTime", "");
    json_close(&w, '}');
    return call_json(c, 200, &out);
}
