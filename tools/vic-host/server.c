/* The HTTP face: who gets which request.  Everything else of HTTP is base/http. */
#include "server.h"

#include "datastore.h"

enum { MAX_SOAP = 8 << 20 };
#define MAX_UPLOAD ((uint64_t)1 << 40)

static const char versions[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<namespaces version=\"1.0\"><namespace><name>urn:vim25</name><version>6.7</version>"
    "<priorVersions><version>6.5</version><version>6.0</version><version>5.5</version>"
    "</priorVersions></namespace></namespaces>\n";

static bool below(struct sv path, const char *root)
{
    struct sv r = sv_of(root);
    return sv_starts(path, r) && (path.len == r.len || path.p[r.len] == '/');
}

static void soap(struct vh *h, struct http_req *r)
{
    if (strcmp(http_method(r), "POST") != 0) {
        http_set_header(r, "Allow", "POST");
        http_reply(r, 405, "text/plain", SV("SOAP wants POST\n"));
        return;
    }
    vh_soap(h, r);
}

static void get_versions(struct vh *h, struct http_req *r)
{
    (void)h;
    http_reply(r, 200, "text/xml", sv_of(versions));
}

static const struct {
    const char *path;
    bool whole; /* the path itself only, not what lies below it */
    void (*serve)(struct vh *h, struct http_req *r);
} routes[] = {
    {"/sdk", true, soap},
    {"/sdk/", true, soap},
    {"/sdk/vimServiceVersions.xml", true, get_versions},
    {"/folder", false, vh_folder},
};

static void handle(void *arg, struct http_req *r)
{
    struct sv path = http_path(r);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (routes[i].whole ? sv_is(path, routes[i].path) : below(path, routes[i].path)) {
            routes[i].serve(arg, r);
            return;
        }
    http_reply(r, 404, "text/plain", SV("not found\n"));
}

static enum http_body_kind classify(void *arg, const char *method, struct sv path,
                                    uint64_t *max_bytes)
{
    (void)arg;
    bool upload = !strcmp(method, "PUT") || !strcmp(method, "POST");
    *max_bytes = MAX_SOAP;
    if (!upload || !below(path, "/folder"))
        return HTTP_BODY_WHOLE;
    *max_bytes = MAX_UPLOAD;
    return HTTP_BODY_STREAM;
}

struct http_server *vh_server_new(struct vh *h, struct vic_err *err)
{
    struct http_options o = {
        .handler = handle,
        .classify = classify,
        .arg = h,
        .pool = h->opt.pool,
        .body_threads = 8,
        .log = h->opt.log,
    };
    return http_server_new(h->opt.loop, &o, err);
}
