/* Command look-up: see lookup.h.  Texts are those of Go's os/exec as runc shows them. */
#include "lookup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/sv.h"

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const struct {
    int sys, exit;
    const char *text;
} reasons[] = {
    {ENOENT, LAUNCH_NOT_FOUND, "no such file or directory"},
    {ENOTDIR, LAUNCH_CANNOT_RUN, "not a directory"},
    {EACCES, LAUNCH_CANNOT_RUN, "permission denied"},
    {EISDIR, LAUNCH_CANNOT_RUN, "is a directory"},
    {ENOEXEC, LAUNCH_CANNOT_RUN, "exec format error"},
    {ELOOP, LAUNCH_CANNOT_RUN, "too many levels of symbolic links"},
    {ENAMETOOLONG, LAUNCH_CANNOT_RUN, "file name too long"},
    {E2BIG, LAUNCH_CANNOT_RUN, "argument list too long"},
    {ETXTBSY, LAUNCH_CANNOT_RUN, "text file busy"},
};

const char *lookup_reason(int sys, int *exit)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].sys == sys) {
            *exit = reasons[i].exit;
            return reasons[i].text;
        }
    }
    *exit = LAUNCH_CANNOT_RUN;
    return strerror(sys);
}

/* 0 when it may be run, else an errno; '*stat_failed' tells the two apart. */
static int check(const char *file, bool *stat_failed)
{
    struct stat st;
    *stat_failed = stat(file, &st) != 0;
    if (*stat_failed)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    return S_ISREG(st.st_mode) && (st.st_mode & 0111) ? 0 : EACCES;
}

static bool fail(const char *command, const char *stat_of, int sys, int *exit, struct vic_err *err)
{
    const char *text = lookup_reason(sys, exit);
    vic_fail(err, vic_code_of_errno(sys), 0, "exec: \"%.200s\": %s%.200s%s%s", command,
             stat_of ? "stat " : "", stat_of ? stat_of : "", stat_of ? ": " : "", text);
    err->sys = sys;
    return false;
}

bool lookup_exec_failed(const char *command, int sys, int *exit, struct vic_err *err)
{
    const char *text = lookup_reason(sys, exit);
    vic_fail(err, vic_code_of_errno(sys), 0, "exec %.300s: %s", command, text);
    err->sys = sys;
    return false;
}

bool lookup_command(const char *command, const char *path, char *out, size_t size, int *exit,
                    struct vic_err *err)
{
    bool stat_failed;
    int sys, worst = 0;
    if (strchr(command, '/')) {
        sys = check(command, &stat_failed);
        if (sys)
            return fail(command, stat_failed ? command : NULL, sys, exit, err);
        snprintf(out, size, "%s", command);
        return strlen(command) < size || fail(command, NULL, ENAMETOOLONG, exit, err);
    }
    struct sv rest = sv_of(path ? path : default_path);
    while (rest.p && command[0]) {
        struct sv dir = sv_cut(&rest, ':');
        int len = snprintf(out, size, SV_FMT "/%s", SV_ARG(dir.len ? dir : SV(".")), command);
        if (len < 0 || (size_t)len >= size)
            continue;
        sys = check(out, &stat_failed);
        if (sys == 0)
            return true;
        worst = sys == EACCES && !stat_failed ? EACCES : worst;
    }
    if (worst)
        return fail(command, NULL, worst, exit, err);
    *exit = LAUNCH_NOT_FOUND;
    vic_fail(err, VIC_NOT_FOUND, 0, "exec: \"%.200s\": executable file not found in $PATH",
             command);
    err->sys = ENOENT;
    return false;
}
