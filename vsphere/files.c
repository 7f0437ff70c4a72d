/* Files and disks without a VM: the datastore's HTTP folder for bytes, FileManager and
 * VirtualDiskManager for the rest, the datastore browser for lists.
 *
 * A disk is removed by the disk manager, never as a file: its extents would stay. */
#include "client.h"

enum { SEARCH_TIMEOUT_MS = 120000 };

/* "[datastore] dir/file" into its parts. */
static bool split_path(const char *path, struct sv *datastore, struct sv *file, struct vic_err *err)
{
    struct sv rest = sv_of(path), head = sv_cut(&rest, ']');
    if (!sv_starts(head, SV("[")) || head.len < 2 || !rest.p)
        return vic_fail(err, VIC_INVALID, 0, "'%s' is not a datastore path", path);
    *datastore = sv_sub(head, 1, head.len);
    *file = sv_trim(rest);
    return true;
}

static void escape(struct buf *out, struct sv s, bool keep_slash)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (size_t i = 0; i < s.len; i++)
        if ((keep_slash && s.p[i] == '/') || (s.p[i] && strchr(plain, s.p[i])))
            buf_add_c(out, s.p[i]);
        else
            buf_addf(out, "%%%02X", (unsigned)(unsigned char)s.p[i]);
}

static bool folder_url(const struct vsp_place *p, const char *path, struct buf *out,
                       struct vic_err *err)
{
    struct sv datastore, file;
    if (!split_path(path, &datastore, &file, err))
        return false;
    buf_add_str(out, "/folder/");
    escape(out, file, true);
    buf_add_str(out, "?dcPath=");
    escape(out, sv_of(p->datacenter_name), false);
    buf_add_str(out, "&dsName=");
    escape(out, datastore, false);
    return true;
}

static bool status_error(long status, struct vic_err *err)
{
    static const struct {
        long status;
        enum vic_code code;
    } rows[] = {{400, VIC_INVALID},     {401, VIC_UNAUTHORIZED}, {403, VIC_FORBIDDEN},
                {404, VIC_NOT_FOUND},   {409, VIC_CONFLICT},     {413, VIC_TOO_LARGE},
                {423, VIC_BUSY},        {502, VIC_UNAVAILABLE},  {503, VIC_UNAVAILABLE},
                {504, VIC_UNAVAILABLE}, {507, VIC_NO_SPACE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].status == status)
            return vic_fail(err, rows[i].code, 0, "HTTP status %ld", status);
    return vic_fail(err, VIC_IO, 0, "HTTP status %ld", status);
}

/* One exchange with the session's cookie; once more with a new session on 401. */
static bool transfer(struct vsp *v, struct vsp_http *x, struct vic_err *err)
{
    uint64_t session = 0;
    char cookie[VSP_COOKIE_SIZE];
    for (int attempt = 0;; attempt++) {
        if (!vsp_session(v, session, &session, cookie, err))
            return false;
        if (v->gate && !v->gate(v->hook_arg, x->method, false))
            return vic_fail(err, VIC_UNAVAILABLE, 0, "connection broke");
        CURL *h = vsp_handle_take(v);
        x->cookie = cookie;
        bool ok = vsp_http(v, h, x, err);
        vsp_handle_give(v, h);
        if (!ok)
            return false;
        if (v->gate && !v->gate(v->hook_arg, x->method, true))
            return vic_fail(err, VIC_UNAVAILABLE, 0, "connection broke");
        if (x->status >= 200 && x->status < 300)
            return true;
        if (attempt || x->status != 401)
            return status_error(x->status, err);
    }
}

static bool put(struct vsp *v, const struct vsp_place *p, const char *path, struct vsp_http *x,
                struct vic_err *err)
{
    AUTO_BUF struct buf url = {0}, reply = {0};
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    x->method = "PUT";
    x->headers = headers;
    x->reply = &reply;
    x->max_reply = 64 * 1024;
    if (!folder_url(p, path, &url, err))
        return false;
    x->path = buf_str(&url);
    return transfer(v, x, err) || vic_wrap(err, "write %s", path);
}

bool vsp_file_put(struct vsp *v, const struct vsp_place *p, const char *path, struct sv content,
                  struct vic_err *err)
{
    struct vsp_http x = {.body = content};
    return put(v, p, path, &x, err);
}

bool vsp_file_put_fd(struct vsp *v, const struct vsp_place *p, const char *path, int fd,
                     uint64_t size, struct vic_err *err)
{
    struct vsp_http x = {.fd = fd, .size = size};
    return put(v, p, path, &x, err);
}

bool vsp_file_get(struct vsp *v, const struct vsp_place *p, const char *path, size_t max,
                  struct buf *out, struct vic_err *err)
{
    AUTO_BUF struct buf url = {0};
    if (!folder_url(p, path, &url, err))
        return false;
    struct vsp_http x = {.method = "GET", .path = buf_str(&url), .reply = out, .max_reply = max};
    return transfer(v, &x, err) || vic_wrap(err, "read %s", path);
}

bool vsp_mkdir(struct vsp *v, const struct vsp_place *p, const char *path, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *c;
    const struct vim_method *m = &vim_method_MakeDirectory;
    struct vim_MakeDirectory_request q = {
        .name = path, .has_createParentDirectories = true, .createParentDirectories = true};
    struct soap_reply r;
    if (!vsp_content(v, &c, err) || !vsp_ref(&a, p->datacenter, &q.datacenter, err))
        return false;
    q.self = c->fileManager;
    if (!vsp_exec(v, m, &q, NULL, &a, &r, err))
        return vic_wrap(err, "make folder %s", path);
    if (!r.is_fault || vsp_is_fault(&r, &vim_type_FileAlreadyExists))
        return true;
    vsp_fault(err, m->name, r.fault.type, r.fault.text, r.fault.detail);
    return vic_wrap(err, "make folder %s", path);
}

bool vsp_disk_delete(struct vsp *v, const struct vsp_place *p, const char *path,
                     char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *c;
    struct vim_DeleteVirtualDisk_Task_request q = {.name = path};
    struct vim_DeleteVirtualDisk_Task_response *r;
    if (!vsp_content(v, &c, err) || !vsp_ref(&a, p->datacenter, &q.datacenter, err))
        return false;
    q.self = c->virtualDiskManager;
    bool ok = VSP_CALL(v, DeleteVirtualDisk_Task, &q, &a, r, err) &&
              vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "delete disk %s", path);
}

bool vsp_file_delete(struct vsp *v, const struct vsp_place *p, const char *path,
                     char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *c;
    struct vim_DeleteDatastoreFile_Task_request q = {.name = path};
    struct vim_DeleteDatastoreFile_Task_response *r;
    if (!vsp_content(v, &c, err) || !vsp_ref(&a, p->datacenter, &q.datacenter, err))
        return false;
    q.self = c->fileManager;
    bool ok = VSP_CALL(v, DeleteDatastoreFile_Task, &q, &a, r, err) &&
              vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "delete %s", path);
}

bool vsp_file_move(struct vsp *v, const struct vsp_place *p, const char *from, const char *to,
                   char task[VSP_REF_SIZE], struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const struct vim_ServiceContent *c;
    struct vim_MoveDatastoreFile_Task_request q = {
        .sourceName = from, .destinationName = to, .has_force = true, .force = true};
    struct vim_MoveDatastoreFile_Task_response *r;
    if (!vsp_content(v, &c, err) || !vsp_ref(&a, p->datacenter, &q.sourceDatacenter, err))
        return false;
    q.self = c->fileManager;
    q.destinationDatacenter = q.sourceDatacenter;
    bool ok = VSP_CALL(v, MoveDatastoreFile_Task, &q, &a, r, err) &&
              vsp_ref_text(r->returnval, task, err);
    return ok || vic_wrap(err, "move %s to %s", from, to);
}

static bool search(struct vsp *v, const struct vsp_place *p, const char *folder, struct arena *a,
                   const struct vim_TaskInfo **info, struct vic_err *err)
{
    static const char *const paths[] = {"browser", NULL};
    static const char *const everything = "*";
    struct vim_ref datastore;
    struct vim_ObjectContent *o;
    if (!vsp_ref(a, p->datastore, &datastore, err) ||
        !vsp_read_object(v, datastore, paths, a, &o, err))
        return false;
    struct vim_SearchDatastore_Task_request q = {.self = vsp_prop(o, "browser").ref,
                                                 .datastorePath = folder,
                                                 .searchSpec =
                                                     VIM_NEW(a, HostDatastoreBrowserSearchSpec)};
    VIM_PUSH(a, &q.searchSpec->matchPattern, everything);
    struct vim_SearchDatastore_Task_response *r;
    return VSP_CALL(v, SearchDatastore_Task, &q, a, r, err) &&
           vsp_wait_info(v, r->returnval, SEARCH_TIMEOUT_MS, a, info, err);
}

bool vsp_file_list(struct vsp *v, const struct vsp_place *p, const char *folder, struct arena *a,
                   const char ***names, size_t *count, struct vic_err *err)
{
    const struct vim_TaskInfo *info;
    struct vsp_task task;
    if (!search(v, p, folder, a, &info, err))
        return vic_wrap(err, "list %s", folder);
    vsp_task_of(a, info->task, info, &task);
    if (task.state == VSP_TASK_ERROR) {
        if (err)
            *err = task.err;
        return vic_wrap(err, "list %s", folder);
    }
    const struct vim_HostDatastoreBrowserSearchResults *found = NULL;
    if (info->result.kind == VIM_OBJECT && !info->result.array)
        found = VIM_CAST(HostDatastoreBrowserSearchResults, info->result.object);
    *count = 0;
    *names = ARENA_ARRAY(a, const char *, found ? found->file.n : 0);
    for (size_t i = 0; found && i < found->file.n; i++)
        if (found->file.v[i]->path)
            (*names)[(*count)++] = found->file.v[i]->path;
    return true;
}
