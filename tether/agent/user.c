/* Users: see user.h.  Formats: passwd(5), group(5). */
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#include "files.h"
#include "root.h"

struct passwd_line {
    struct sv name, home;
    uint32_t uid, gid;
};

static bool to_id(struct sv s, uint32_t *out)
{
    uint64_t n;
    if (!sv_to_u64(s, &n) || n > INT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

/* The next well-formed line; malformed ones are skipped, as every reader of these files does. */
static bool next_passwd(struct sv *text, struct passwd_line *out)
{
    while (text->p && text->len) {
        struct sv line = sv_cut(text, '\n');
        out->name = sv_cut(&line, ':');
        sv_cut(&line, ':');
        struct sv uid = sv_cut(&line, ':'), gid = sv_cut(&line, ':');
        sv_cut(&line, ':');
        out->home = sv_cut(&line, ':');
        if (to_id(uid, &out->uid) && to_id(gid, &out->gid))
            return true;
    }
    return false;
}

struct group_line {
    struct sv name, members;
    uint32_t gid;
};

static bool next_group(struct sv *text, struct group_line *out)
{
    while (text->p && text->len) {
        struct sv line = sv_cut(text, '\n');
        out->name = sv_cut(&line, ':');
        sv_cut(&line, ':');
        struct sv gid = sv_cut(&line, ':');
        out->members = line;
        if (to_id(gid, &out->gid))
            return true;
    }
    return false;
}

static bool is_member(struct sv members, struct sv name)
{
    while (members.p) {
        if (sv_eq(sv_trim(sv_cut(&members, ',')), name))
            return true;
    }
    return false;
}

static void add_group(struct user *u, gid_t gid)
{
    for (size_t i = 0; i < u->group_count; i++) {
        if (u->groups[i] == gid)
            return;
    }
    if (u->group_count < USER_MAX_GROUPS)
        u->groups[u->group_count++] = gid;
}

/* Finds the user; '*name' is what passwd calls it, empty when the id is not in passwd. */
static bool find_user(struct sv passwd, struct sv user, struct user *out, struct sv *name,
                      struct vic_err *err)
{
    uint32_t id = 0;
    bool numeric = user.len == 0 || to_id(user, &id);
    struct passwd_line line;
    *name = (struct sv){0};
    while (next_passwd(&passwd, &line)) {
        if (sv_eq(line.name, user) || (numeric && line.uid == id)) {
            out->uid = line.uid;
            out->gid = line.gid;
            *name = line.name;
            if (line.home.len)
                snprintf(out->home, sizeof out->home, SV_FMT, SV_ARG(line.home));
            return true;
        }
    }
    out->uid = id;
    return numeric || vic_fail(err, VIC_NOT_FOUND, 0,
                               "unable to find user " SV_FMT ": no matching entries in passwd file",
                               SV_ARG(sv_sub(user, 0, 100)));
}

static bool find_group(struct sv group, struct sv wanted, gid_t *gid, struct vic_err *err)
{
    struct group_line line;
    uint32_t id = 0;
    bool numeric = to_id(wanted, &id);
    while (next_group(&group, &line)) {
        if (sv_eq(line.name, wanted) || (numeric && line.gid == id)) {
            *gid = line.gid;
            return true;
        }
    }
    *gid = id;
    return numeric || vic_fail(err, VIC_NOT_FOUND, 0,
                               "unable to find group " SV_FMT ": no matching entries in group file",
                               SV_ARG(sv_sub(wanted, 0, 100)));
}

bool user_find(struct sv passwd, struct sv group, const char *user,
               const struct spec_list *group_add, struct user *out, struct vic_err *err)
{
    struct sv rest = sv_of(user), name, all = group;
    *out = (struct user){.home = "/"};
    if (!find_user(passwd, sv_cut(&rest, ':'), out, &name, err))
        return false;
    struct group_line line;
    if (rest.p && rest.len && !find_group(group, rest, &out->gid, err))
        return false;
    add_group(out, out->gid); /* as dockerd: the primary group is among the others too */
    if (!rest.p || !rest.len) {
        while (name.len && next_group(&all, &line)) {
            if (is_member(line.members, name))
                add_group(out, line.gid);
        }
    }
    for (size_t i = 0; group_add && i < group_add->n; i++) {
        gid_t gid;
        if (!find_group(group, sv_of(group_add->v[i]), &gid, err))
            return false;
        add_group(out, gid);
    }
    return true;
}

static bool read_below(int root, const char *path, struct buf *out, struct vic_err *err)
{
    /* Not blocking: the image may have put a FIFO there. */
    AUTO_CLOSE int fd = root_open(root, path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || vic_fail_errno(err, "open %s", path);
    return fd_read_all(fd, USER_MAX_FILE, out, err) || vic_wrap(err, "%s", path);
}

bool user_find_in(int root, const char *user, const struct spec_list *group_add, struct user *out,
                  struct vic_err *err)
{
    AUTO_BUF struct buf passwd = {0}, group = {0};
    return read_below(root, "etc/passwd", &passwd, err) &&
           read_below(root, "etc/group", &group, err) &&
           user_find(buf_sv(&passwd), buf_sv(&group), user, group_add, out, err);
}
