/* See fixture.h. */
#include "fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        AUTO_FREE char *sub = xasprintf("%s/%s", path, e->d_name);
        if (unlink(sub) != 0)
            remove_tree(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

int fixture_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/vic-api-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    check_ok(host_start(&f->host, f->dir, &err));
    check_ok(host_seed(&f->host, &err));
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    host_stop(&f->host);
    remove_tree(f->dir);
    arena_fini(&f->a);
    buf_fini(&f->body);
    free(f);
    return 0;
}

void fixture_restart(struct fixture *f)
{
    host_stop(&f->host);
    check_ok(host_start(&f->host, f->dir, &err));
}

void ask(struct fixture *f, const char *method, const char *target, const char *body, int status)
{
    int got_status = request(f->host.socket, method, target, body, &f->body);
    if (got_status != status)
        fail_msg("%s %s: %d instead of %d: %s", method, target, got_status, status,
                 buf_str(&f->body));
}

void ask_error(struct fixture *f, const char *method, const char *target, const char *body,
               int status, const char *message)
{
    ask(f, method, target, body, status);
    assert_string_equal(got_str(f, "message"), message);
    assert_int_equal(f->body.data[f->body.len - 1], '\n');
}

struct json_val got(struct fixture *f, const char *path)
{
    struct json_val v;
    const char *text = arena_sv(&f->a, buf_sv(&f->body));
    check_ok(json_parse(sv_of(text), 0, &f->a, &v, &err));
    struct sv rest = sv_of(path);
    while (rest.p && rest.len) {
        struct sv piece = sv_cut(&rest, '.');
        uint64_t n;
        if (json_type(v) == JSON_ARRAY && sv_to_u64(piece, &n)) {
            struct json_iter i = json_iter(v);
            bool there = true;
            for (uint64_t k = 0; k <= n && there; k++)
                there = json_next(&i);
            v = there ? i.val : (struct json_val){0};
        } else {
            v = json_get(v, arena_sv(&f->a, piece));
        }
    }
    return v;
}

const char *got_str(struct fixture *f, const char *path)
{
    return json_str(got(f, path), "(absent)");
}

int64_t got_int(struct fixture *f, const char *path)
{
    return json_i64(got(f, path), INT64_MIN);
}

const char *make(struct fixture *f, const char *name, const char *members)
{
    AUTO_FREE char *target = xasprintf("/containers/create?name=%s", name ? name : "");
    AUTO_FREE char *body =
        xasprintf("{\"Image\":\"busybox\"%s%s}", members ? "," : "", members ? members : "");
    ask(f, "POST", target, body, 201);
    return got_str(f, "Id");
}
