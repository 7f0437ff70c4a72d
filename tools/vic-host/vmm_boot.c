/* Direct boot: kernel, initramfs and command line out of an ISO's isolinux.cfg.
 *
 * The ISO boots by BIOS as well; reading it here saves the BIOS's and the boot loader's time and
 * the wait for a CD in the guest's kernel (about 0.8 s together under software emulation).
 *
 * Entries come in disk order, so the cfg may follow the kernel: two passes.  What was read is kept
 * in run_dir/boot/DEV-INO-MTIME-SIZE/, made beside and renamed, so it is there whole or not at all;
 * an ISO that changes gets another name.  QEMU opens the files through /proc/self/fd, which needs
 * read permission on the file itself but none on the folders above: mode 0444 inside 0700.
 *
 * An ISO may be a stranger's upload: sizes and counts are bounded, nothing is ever written under a
 * name that comes from inside. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#include "vmm_priv.h"

enum {
    MAX_CFG = 64 * 1024,
    MAX_APPEND = 2047, /* Linux x86 COMMAND_LINE_SIZE less its end */
    MAX_KERNEL = 128 * 1024 * 1024,
    MAX_INITRD = 1024 * 1024 * 1024,
    MAX_ENTRIES = 100000,
};

static const char *const cfg_paths[] = {"isolinux/isolinux.cfg", "boot/isolinux/isolinux.cfg",
                                        "isolinux.cfg"};
static const char *const file_names[] = {"kernel", "initrd", "append"};

/* ---- isolinux.cfg ---- */

/* Cuts the first word off. */
static struct sv word(struct sv *line)
{
    size_t n = 0;
    while (n < line->len && line->p[n] != ' ' && line->p[n] != '\t')
        n++;
    struct sv w = sv_sub(*line, 0, n);
    *line = sv_trim(sv_sub(*line, n, line->len));
    return w;
}

struct cfg {
    struct sv wanted;                 /* DEFAULT's label */
    struct sv label;                  /* the one being read */
    struct sv kernel, initrd, append; /* of the chosen label */
    bool chosen;                      /* one was found */
};

static void cfg_line(struct cfg *c, struct sv line)
{
    struct sv key = word(&line);
    if (sv_eq_nocase(key, SV("DEFAULT")))
        c->wanted = line;
    if (sv_eq_nocase(key, SV("LABEL"))) {
        c->label = line;
        c->chosen = c->chosen || sv_eq(line, c->wanted);
    }
    if (!c->label.len || !sv_eq(c->label, c->wanted))
        return;
    if (sv_eq_nocase(key, SV("KERNEL")) || sv_eq_nocase(key, SV("LINUX")))
        c->kernel = line;
    if (sv_eq_nocase(key, SV("INITRD")))
        c->initrd = line;
    if (sv_eq_nocase(key, SV("APPEND")))
        c->append = line;
}

/* A path of the cfg as libarchive names it: relative ones lie beside the cfg. */
static const char *inner_path(struct sv path, struct sv folder, struct arena *a)
{
    if (!path.len)
        return "";
    if (path.p[0] == '/' || !folder.len)
        return arena_sv(a, path.p[0] == '/' ? sv_sub(path, 1, path.len) : path);
    return arena_printf(a, SV_FMT "/" SV_FMT, SV_ARG(folder), SV_ARG(path));
}

/* Takes "initrd=PATH" out of the command line, as isolinux does. */
static const char *without_initrd(struct sv append, struct sv *initrd, struct arena *a)
{
    AUTO_BUF struct buf out = {0};
    while (append.len) {
        struct sv w = word(&append);
        if (sv_starts(w, SV("initrd="))) {
            *initrd = sv_sub(w, 7, w.len);
            continue;
        }
        if (out.len)
            buf_add_c(&out, ' ');
        buf_add_sv(&out, w);
    }
    return arena_strdup(a, buf_str(&out));
}

bool vmm_boot_parse(struct sv cfg, struct sv folder, struct arena *a, struct vmm_boot_entry *out,
                    struct vic_err *err)
{
    struct cfg c = {0};
    if (memchr(cfg.p ? cfg.p : "", 0, cfg.len))
        return vic_fail(err, VIC_INVALID, 0, "isolinux.cfg is not text");
    /* DEFAULT may stand anywhere: first it alone, then the labels. */
    for (int pass = 0; pass < 2; pass++) {
        c = (struct cfg){.wanted = c.wanted};
        for (struct sv rest = cfg; rest.len;)
            cfg_line(&c, sv_trim(sv_cut(&rest, '\n')));
    }
    if (!c.chosen || !c.kernel.len)
        return vic_fail(err, VIC_INVALID, 0, "isolinux.cfg has no default label with a kernel");
    out->append = without_initrd(c.append, &c.initrd, a);
    if (sv_find(c.initrd, ',') >= 0)
        return vic_fail(err, VIC_UNSUPPORTED, 0, "isolinux.cfg names more than one initramfs");
    if (strlen(out->append) > MAX_APPEND)
        return vic_fail(err, VIC_TOO_LARGE, 0, "isolinux.cfg: the command line is too long");
    out->kernel = inner_path(c.kernel, folder, a);
    out->initrd = inner_path(c.initrd, folder, a);
    return *out->kernel || vic_fail(err, VIC_INVALID, 0, "isolinux.cfg names no kernel");
}

/* ---- passes over the ISO ---- */

static void archive_done(struct archive **ar)
{
    archive_read_free(*ar);
}

/* Calls each(arg, path, archive) for every regular file until it says stop or fails. */
typedef bool (*visit_fn)(void *arg, const char *path, struct archive *ar, bool *stop,
                         struct vic_err *err);

static bool each_file(int iso, visit_fn each, void *arg, struct vic_err *err)
{
    __attribute__((cleanup(archive_done))) struct archive *ar = archive_read_new();
    struct archive_entry *e;
    if (lseek(iso, 0, SEEK_SET) != 0 || archive_read_support_format_iso9660(ar) != ARCHIVE_OK ||
        archive_read_open_fd(ar, iso, 65536) != ARCHIVE_OK)
        return vic_fail(err, VIC_INVALID, 0, "not an ISO: %s", archive_error_string(ar));
    bool stop = false;
    for (int n = 0; !stop; n++) {
        int r = archive_read_next_header(ar, &e);
        if (r == ARCHIVE_EOF)
            return true;
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return vic_fail(err, VIC_INVALID, 0, "read the ISO: %s", archive_error_string(ar));
        if (n >= MAX_ENTRIES)
            return vic_fail(err, VIC_TOO_LARGE, 0, "the ISO has more than %d files", MAX_ENTRIES);
        const char *path = archive_entry_pathname(e);
        if (path && archive_entry_filetype(e) == AE_IFREG && !each(arg, path, ar, &stop, err))
            return false;
    }
    return true;
}

/* Copies the entry's bytes to 'out' or 'fd'. */
static bool copy_entry(struct archive *ar, const char *path, size_t limit, struct buf *out, int fd,
                       struct vic_err *err)
{
    char chunk[65536];
    size_t total = 0;
    for (ssize_t n; (n = archive_read_data(ar, chunk, sizeof chunk)) != 0;) {
        if (n < 0)
            return vic_fail(err, VIC_INVALID, 0, "read %s in the ISO: %s", path,
                            archive_error_string(ar));
        if ((total += (size_t)n) > limit)
            return vic_fail(err, VIC_TOO_LARGE, 0, "%s in the ISO is over %zu bytes", path, limit);
        if (out)
            buf_add(out, chunk, (size_t)n);
        else if (write(fd, chunk, (size_t)n) != n)
            return vic_fail_errno(err, "write what %s holds", path);
    }
    return true;
}

struct find_cfg {
    struct buf text;
    const char *path; /* which of cfg_paths */
};

static bool visit_cfg(void *arg, const char *path, struct archive *ar, bool *stop,
                      struct vic_err *err)
{
    struct find_cfg *f = arg;
    for (size_t i = 0; i < ARRAY_LEN(cfg_paths); i++) {
        if (strcasecmp(path, cfg_paths[i]) != 0)
            continue;
        f->path = cfg_paths[i];
        *stop = true;
        return copy_entry(ar, path, MAX_CFG, &f->text, -1, err);
    }
    return true;
}

struct find_files {
    struct vmm_boot_entry entry;
    int dir; /* where the copies go */
    bool kernel, initrd;
};

static bool copy_to(int dir, const char *name, struct archive *ar, const char *path, size_t limit,
                    struct vic_err *err)
{
    AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0 || fchmod(fd, 0444) != 0)
        return vic_fail_errno(err, "make boot file %s", name);
    return copy_entry(ar, path, limit, NULL, fd, err);
}

static bool visit_files(void *arg, const char *path, struct archive *ar, bool *stop,
                        struct vic_err *err)
{
    struct find_files *f = arg;
    bool fine = true;
    if (!f->kernel && strcasecmp(path, f->entry.kernel) == 0) {
        f->kernel = true;
        fine = copy_to(f->dir, "kernel", ar, path, MAX_KERNEL, err);
    } else if (!f->initrd && strcasecmp(path, f->entry.initrd) == 0) {
        f->initrd = true;
        fine = copy_to(f->dir, "initrd", ar, path, MAX_INITRD, err);
    }
    *stop = f->kernel && (f->initrd || !*f->entry.initrd);
    return fine;
}

static bool read_cfg(int iso, struct arena *a, struct vmm_boot_entry *out, struct vic_err *err)
{
    struct find_cfg f = {.text = {.limit = MAX_CFG}};
    bool fine = each_file(iso, visit_cfg, &f, err);
    if (fine && !f.path)
        fine = vic_fail(err, VIC_INVALID, 0, "the ISO has no isolinux.cfg");
    if (fine) {
        struct sv folder = sv_of(f.path);
        ptrdiff_t slash = sv_rfind(folder, '/');
        folder.len = slash < 0 ? 0 : (size_t)slash;
        char *text = arena_sv(a, buf_sv(&f.text));
        fine = vmm_boot_parse(sv_make(text, f.text.len), folder, a, out, err);
    }
    buf_fini(&f.text);
    return fine;
}

/* ---- the kept copies ---- */

static bool write_append(int dir, const char *text, struct vic_err *err)
{
    AUTO_CLOSE int fd = openat(dir, "append", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        return vic_fail_errno(err, "write the command line");
    return true;
}

static void remove_copy(int boot, const char *name)
{
    AUTO_CLOSE int dir = openat(boot, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; dir >= 0 && i < ARRAY_LEN(file_names); i++)
        unlinkat(dir, file_names[i], 0);
    unlinkat(boot, name, AT_REMOVEDIR);
}

static bool extract(int iso, int dir, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct find_files f = {.dir = dir};
    if (!read_cfg(iso, &a, &f.entry, err) || !each_file(iso, visit_files, &f, err))
        return false;
    if (!f.kernel || (*f.entry.initrd && !f.initrd))
        return vic_fail(err, VIC_INVALID, 0, "the ISO lacks %s, which its isolinux.cfg names",
                        f.kernel ? f.entry.initrd : f.entry.kernel);
    return write_append(dir, f.entry.append, err);
}

/* Makes run_dir/boot/NAME. */
static bool make_copy(int iso, int boot, const char *name, struct vic_err *err)
{
    char fresh[40];
    snprintf(fresh, sizeof fresh, "new-%016llx", (unsigned long long)random_u64());
    if (mkdirat(boot, fresh, 0700) != 0)
        return vic_fail_errno(err, "make a folder for boot files");
    AUTO_CLOSE int dir = openat(boot, fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool fine = dir >= 0 ? extract(iso, dir, err) : vic_fail_errno(err, "open boot/%s", fresh);
    /* Somebody else may have been faster: then theirs is used. */
    if (fine && renameat(boot, fresh, boot, name) == 0)
        return true;
    if (fine && errno != EEXIST && errno != ENOTEMPTY)
        fine = vic_fail_errno(err, "rename boot/%s", fresh);
    remove_copy(boot, fresh);
    return fine;
}

static int open_boot_dir(struct vmm *m)
{
    mkdirat(m->run_fd, "boot", 0700);
    return openat(m->run_fd, "boot", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool open_copy(int boot, const char *name, struct arena *a, struct vmm_boot *out,
                      struct vic_err *err)
{
    char text[MAX_APPEND + 1] = "";
    AUTO_CLOSE int dir = openat(boot, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int append = dir < 0 ? -1 : openat(dir, "append", O_RDONLY | O_CLOEXEC);
    if (append < 0)
        return vic_fail_errno(err, "open boot files");
    ssize_t n = read(append, text, MAX_APPEND);
    if (n < 0)
        return vic_fail_errno(err, "read the command line");
    out->append = arena_sv(a, sv_make(text, (size_t)n));
    out->kernel = openat(dir, "kernel", O_RDONLY | O_CLOEXEC);
    out->initrd = openat(dir, "initrd", O_RDONLY | O_CLOEXEC); /* may be absent */
    return out->kernel >= 0 || vic_fail_errno(err, "open the kernel");
}

bool vmm_boot_open(struct vmm *m, const char *path, struct arena *a, struct vmm_boot *out,
                   struct vic_err *err)
{
    struct stat st;
    *out = (struct vmm_boot){.kernel = -1, .initrd = -1};
    AUTO_CLOSE int iso = open(path, O_RDONLY | O_CLOEXEC);
    if (iso < 0 || fstat(iso, &st) != 0)
        return vic_fail_errno(err, "open %s", path);
    AUTO_CLOSE int boot = open_boot_dir(m);
    if (boot < 0)
        return vic_fail_errno(err, "open the folder of boot files");
    char name[100];
    snprintf(name, sizeof name, "%llx-%llx-%llx.%09ld-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino, (unsigned long long)st.st_mtim.tv_sec,
             st.st_mtim.tv_nsec, (unsigned long long)st.st_size);
    if (faccessat(boot, name, F_OK, 0) != 0 && !make_copy(iso, boot, name, err))
        return vic_wrap(err, "%s", path);
    return open_copy(boot, name, a, out, err);
}

void vmm_boot_clear(struct vmm *m)
{
    AUTO_CLOSE int boot = open_boot_dir(m);
    int copy = boot < 0 ? -1 : fcntl(boot, F_DUPFD_CLOEXEC, 3);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        vic_auto_close(&copy);
        return;
    }
    for (struct dirent *e; (e = readdir(list));)
        if (e->d_name[0] != '.')
            remove_copy(boot, e->d_name);
    closedir(list);
}
