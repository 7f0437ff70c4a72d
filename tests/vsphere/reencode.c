/* reencode FILE...: reads each file with our parser and writes it again beside it, as FILE.vic, for
 * wire_test.py to compare.  A name that ends in .req.xml is a request (read strictly); one that
 * ends in .res.xml is the reply to the request of the same name. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "vsphere/vim.h"

static bool read_file(const char *path, struct buf *out, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || !buf_reserve(out, (size_t)st.st_size))
        return vic_fail_errno(err, "open %s", path);
    for (ssize_t got; (got = read(fd, out->data + out->len, (size_t)st.st_size - out->len)) > 0;)
        out->len += (size_t)got;
    return true;
}

static bool write_file(const char *path, const struct buf *b, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, b->data, b->len) != (ssize_t)b->len)
        return vic_fail_errno(err, "write %s", path);
    return true;
}

static bool read_request(const char *path, struct arena *a, struct soap_request *q,
                         struct vic_err *err)
{
    AUTO_BUF struct buf text = {0};
    if (!read_file(path, &text, err) || !soap_parse_request(buf_sv(&text), SOAP_STRICT, a, q, err))
        return false;
    return q->method || vic_fail(err, VIC_UNSUPPORTED, 0, "method %s", q->name);
}

static bool reencode(const char *path, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf text = {0}, out = {0};
    struct soap_request q;
    struct soap_reply r;
    struct sv name = sv_of(path);
    if (sv_ends(name, SV(".res.xml"))) {
        name.len -= strlen(".res.xml");
        if (!read_request(arena_printf(&a, SV_FMT ".req.xml", SV_ARG(name)), &a, &q, err) ||
            !read_file(path, &text, err) || !soap_parse_reply(buf_sv(&text), q.method, &a, &r, err))
            return false;
        if (r.is_fault)
            soap_write_fault(&out, r.fault.text, r.fault.detail);
        else
            soap_write_response(&out, q.method, r.response);
    } else {
        if (!read_request(path, &a, &q, err))
            return false;
        soap_write_request(&out, q.method, q.params, q.operation_id);
    }
    return write_file(arena_printf(&a, "%s.vic", path), &out, err);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct vic_err err;
        if (!reencode(argv[i], &err)) {
            fprintf(stderr, "%s: %s\n", argv[i], err.msg);
            return 1;
        }
    }
    return 0;
}
