/* Datastore files over HTTP: /folder/<path>?dcPath=ha-datacenter&dsName=<name>.
 *
 *   GET, HEAD  with Range (one range); 206 and Content-Range, 416 with the size when there is
 *              nothing behind the start yet: so a growing log is followed
 *   PUT        replaces; POST only makes.  The bytes go to a temporary name beside the target and
 *              are moved there when they are all in, so nobody sees half a file
 *   DELETE     a file
 * The cookie of a session is wanted.  ".." and NUL in a path, encoded or not, are a 400.  A disk
 * that a running VM holds can be neither replaced nor deleted (423 is not in the dialect: 409). */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "datastore.h"
#include "disks.h"

enum { BLOCK = 64 * 1024 };

static void plain(struct http_req *r, int status, const char *text)
{
    http_reply(r, status, "text/plain", sv_of(text));
}

static int status_of(const struct vic_err *err)
{
    return vic_code_http(err->code);
}

/* --- the path --------------------------------------------------------------------------------- */

static bool percent_decode(struct sv in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        uint64_t byte = (unsigned char)in.p[i];
        if (byte == '%') {
            if (i + 2 >= in.len || !sv_hex_to_u64(sv_sub(in, i + 1, 2), &byte) || !byte)
                return false;
            i += 2;
        }
        buf_add_c(out, (char)byte);
    }
    return !out->failed;
}

/* Answers itself when the request is no good. */
static bool target_of(struct vh *h, struct http_req *r, struct vh_path *p)
{
    AUTO_BUF struct buf text = {0};
    const char *name = NULL, *dc = NULL;
    struct sv path = http_path(r);
    mutex_lock(&h->lock);
    bool known = vh_session_of(h, r, NULL) != NULL;
    mutex_unlock(&h->lock);
    if (!known) {
        plain(r, 401, "no session\n");
        return false;
    }
    path = sv_sub(path, strlen("/folder"), path.len);
    if (!percent_decode(path, &text) || !vh_path_clean(buf_sv(&text), p->rel)) {
        plain(r, 400, "bad path\n");
        return false;
    }
    if (http_query(r, "dcPath", &dc) && strcmp(dc + (*dc == '/'), "ha-datacenter") != 0) {
        plain(r, 404, "no such datacenter\n");
        return false;
    }
    p->ds = http_query(r, "dsName", &name) ? vh_ds_by_name(h, sv_of(name)) : NULL;
    if (!p->ds || !*p->rel || !strncmp(vh_path_leaf(p), ".vic-host", 9)) {
        plain(r, 404, "no such file\n");
        return false;
    }
    return true;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct range {
    uint64_t from, size; /* of the part */
    bool part;
};

/* RFC 9110 section 14.2: what is no single byte range is ignored.  False: 416. */
static bool parse_range(struct sv header, uint64_t file_size, struct range *out)
{
    *out = (struct range){.size = file_size};
    struct sv rest = header, unit = sv_cut(&rest, '=');
    if (!rest.p || !sv_is(unit, "bytes") || memchr(rest.p, ',', rest.len))
        return true;
    struct sv last_text = rest, first_text = sv_cut(&last_text, '-');
    uint64_t first = 0, last = 0;
    bool has_first = sv_to_u64(first_text, &first), has_last = sv_to_u64(last_text, &last);
    if (!last_text.p || (!has_first && !has_last) || (has_first && has_last && last < first))
        return true;
    if (!has_first) { /* the last bytes */
        first = last < file_size ? file_size - last : 0;
        has_last = false;
    }
    if (first >= file_size)
        return false;
    out->part = true;
    out->from = first;
    out->size = has_last && last < file_size ? last + 1 - first : file_size - first;
    return true;
}

struct reading {
    int fd;
    uint64_t at, left;
};

static enum http_fill fill(void *arg, struct buf *out)
{
    struct reading *r = arg;
    size_t want = r->left < BLOCK ? (size_t)r->left : BLOCK;
    if (!want || !buf_reserve(out, want))
        return HTTP_END;
    ssize_t n = pread(r->fd, out->data + out->len, want, (off_t)r->at);
    if (n <= 0)
        return HTTP_END;
    out->len += (size_t)n;
    out->data[out->len] = '\0';
    r->at += (uint64_t)n;
    r->left -= (uint64_t)n;
    return r->left ? HTTP_MORE : HTTP_END;
}

static void free_reading(void *arg)
{
    struct reading *r = arg;
    close(r->fd);
    free(r);
}

static void get_file(struct http_req *r, const struct vh_path *p)
{
    static const struct http_source source = {fill, free_reading};
    struct vic_err err;
    struct stat st;
    struct range range;
    AUTO_CLOSE int fd = -1;
    if (!vh_file_open(p, O_RDONLY, &fd, &err)) {
        plain(r, status_of(&err), "no such file\n");
        return;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        plain(r, 404, "no such file\n");
        return;
    }
    uint64_t size = (uint64_t)st.st_size;
    http_set_header(r, "Accept-Ranges", "bytes");
    if (!parse_range(http_get_header(r, "Range"), size, &range)) {
        http_set_header(r, "Content-Range",
                        arena_printf(http_arena(r), "bytes */%llu", (unsigned long long)size));
        plain(r, 416, "nothing there\n");
        return;
    }
    if (range.part)
        http_set_header(r, "Content-Range",
                        arena_printf(http_arena(r), "bytes %llu-%llu/%llu",
                                     (unsigned long long)range.from,
                                     (unsigned long long)(range.from + range.size - 1),
                                     (unsigned long long)size));
    struct reading *state = xcalloc(1, sizeof *state);
    *state = (struct reading){TAKE_FD(fd), range.from, range.size};
    http_stream_sized(r, range.part ? 206 : 200, "application/octet-stream", range.size, &source,
                      state);
}

/* --- writing ---------------------------------------------------------------------------------- */

static bool receive(struct http_req *r, int fd, struct vic_err *err)
{
    AUTO_FREE char *block = xmalloc(BLOCK);
    for (;;) {
        size_t got, done = 0;
        if (!http_body_read(r, block, BLOCK, &got, err))
            return false;
        if (!got)
            return fdatasync(fd) == 0 ? true : vic_fail_errno(err, "sync");
        while (done < got) {
            ssize_t n = write(fd, block + done, got - done);
            if (n < 0)
                return vic_fail_errno(err, "write");
            done += (size_t)n;
        }
    }
}

/* The folder must be there; without --strict it is made, as other servers do. */
static bool want_folder(struct vh *h, const struct vh_path *p, struct vic_err *err)
{
    struct vh_path dir;
    vh_path_parent(p, &dir);
    if (h->opt.strict || !*dir.rel || vh_dir_exists(&dir))
        return true;
    return vh_dir_make(&dir, true, err) || err->code == VIC_CONFLICT;
}

static bool is_held(struct vh *h, const struct vh_path *p)
{
    mutex_lock(&h->lock);
    bool held = vh_held_below(h, p);
    mutex_unlock(&h->lock);
    return held;
}

static void put_file(struct vh *h, struct http_req *r, const struct vh_path *p, bool replace)
{
    struct vic_err err = {0}, ignored;
    struct vh_path temp;
    AUTO_CLOSE int fd = -1;
    bool existed = vh_file_exists(p);
    if ((existed && !replace) || vh_dir_exists(p) || is_held(h, p)) {
        plain(r, 409, "the file exists or is in use\n");
        return;
    }
    if (!vh_path_temp(p, &temp) || !want_folder(h, p, &err) ||
        !vh_file_open(&temp, O_WRONLY | O_CREAT | O_EXCL, &fd, &err)) {
        plain(r, err.code ? status_of(&err) : 400, "cannot make the file\n");
        return;
    }
    if (!receive(r, fd, &err) || !vh_file_rename(&temp, p, replace, &err)) {
        log_warn(h->opt.log, "upload.failed", KV_S("path", p->rel), KV_ERR(&err));
        if (!vh_file_remove(&temp, &ignored))
            log_warn(h->opt.log, "file.left", KV_S("path", temp.rel));
        plain(r, status_of(&err), "the upload failed\n");
        return;
    }
    plain(r, existed ? 200 : 201, "");
}

static void delete_file(struct vh *h, struct http_req *r, const struct vh_path *p)
{
    struct vic_err err;
    if (vh_dir_exists(p) || is_held(h, p))
        plain(r, 409, "a folder, or in use\n");
    else if (!vh_file_remove(p, &err))
        plain(r, status_of(&err), "cannot delete\n");
    else
        http_reply(r, 204, NULL, SV(""));
}

void vh_folder(struct vh *h, struct http_req *r)
{
    struct vh_path p = {0};
    const char *method = http_method(r);
    if (!target_of(h, r, &p))
        return;
    if (!strcmp(method, "GET") || !strcmp(method, "HEAD"))
        get_file(r, &p);
    else if (!strcmp(method, "PUT") || !strcmp(method, "POST"))
        put_file(h, r, &p, method[1] == 'U');
    else if (!strcmp(method, "DELETE"))
        delete_file(h, r, &p);
    else
        plain(r, 405, "no such method here\n");
}
