/* The spool: see spool.h.  DIR/<hex> are kept files, DIR/tmp-* are being written.
 *
 * Holds are counted in memory by digest.  A removal looks at the count and unlinks under the same
 * lock under which a hold begins: a holder that finds its file there keeps it. */
#include "spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#define HASH_FUNCTION HASH_OAT /* the default falls through cases, which clang warns of */
#include <uthash.h>

#include "base/mem.h"
#include "base/sync.h"
#include "base/tls.h"

enum { NAME_SIZE = 80 };

struct hold {
    char name[NAME_SIZE];
    unsigned count;
    UT_hash_handle hh;
};

struct spool {
    int dir;        /* immutable after init */
    uint64_t quota; /* immutable after init */
    _Atomic uint64_t used;
    _Atomic unsigned next;
    struct vic_mutex lock;
    struct hold *holds VIC_GUARDED; /* by lock */
    uint64_t moment VIC_GUARDED;    /* by lock: counts holds begun */
};

struct spool_file {
    struct spool *spool;
    int fd;
    char name[NAME_SIZE];
    uint64_t size;
    struct sha256 hash;
};

static DIR *list(struct spool *s)
{
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0)
        close(fd);
    return d;
}

/* Counts what is kept; removes what was cut off. */
static bool take_stock(struct spool *s, struct vic_err *err)
{
    DIR *d = list(s);
    if (!d)
        return vic_fail_errno(err, "list the spool");
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (strncmp(e->d_name, "tmp-", 4) == 0)
            unlinkat(s->dir, e->d_name, 0);
        else if (fstatat(s->dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            s->used += (uint64_t)st.st_size;
    }
    closedir(d);
    return true;
}

struct spool *spool_open(const char *dir, uint64_t quota_bytes, struct vic_err *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        vic_fail_errno(err, "make the spool %s", dir);
        return NULL;
    }
    struct spool *s = xcalloc(1, sizeof *s);
    mutex_init(&s->lock);
    s->quota = quota_bytes;
    s->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0) {
        vic_fail_errno(err, "open the spool %s", dir);
        spool_close(s);
        return NULL;
    }
    if (!take_stock(s, err)) {
        spool_close(s);
        return NULL;
    }
    return s;
}

void spool_close(struct spool *s)
{
    if (!s)
        return;
    struct hold *h, *next;
    mutex_lock(&s->lock);
    HASH_ITER(hh, s->holds, h, next)
    {
        HASH_DEL(s->holds, h);
        free(h);
    }
    mutex_unlock(&s->lock);
    mutex_fini(&s->lock);
    if (s->dir >= 0)
        close(s->dir);
    free(s);
}

struct spool_file *spool_new(struct spool *s, struct vic_err *err)
{
    struct spool_file *f = xcalloc(1, sizeof *f);
    f->spool = s;
    snprintf(f->name, sizeof f->name, "tmp-%d-%u", (int)getpid(), s->next++);
    f->fd = openat(s->dir, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        vic_fail_errno(err, "make a spool file");
        free(f);
        return NULL;
    }
    sha256_init(&f->hash);
    return f;
}

bool spool_write(struct spool_file *f, struct sv bytes, struct vic_err *err)
{
    uint64_t used = atomic_fetch_add(&f->spool->used, bytes.len) + bytes.len;
    f->size += bytes.len;
    if (f->spool->quota && used > f->spool->quota)
        return vic_fail(err, VIC_NO_SPACE, 0,
                        "the spool's quota of %llu bytes is used up: remove images or raise it",
                        (unsigned long long)f->spool->quota);
    sha256_update(&f->hash, bytes.p, bytes.len);
    while (bytes.len) {
        ssize_t n = write(f->fd, bytes.p, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vic_fail_errno(err, "write to the spool");
        bytes = sv_sub(bytes, (size_t)n, bytes.len);
    }
    return true;
}

void spool_drop(struct spool_file *f)
{
    if (!f)
        return;
    close(f->fd);
    unlinkat(f->spool->dir, f->name, 0);
    atomic_fetch_sub(&f->spool->used, f->size);
    free(f);
}

/* The kept file's name for a digest; false when it is not one. */
static bool file_name(const char *digest, char out[NAME_SIZE])
{
    struct sv d = sv_of(digest);
    unsigned char raw[32];
    if (d.len != 71 || !sv_starts(d, SV("sha256:")) || !hex_decode(sv_sub(d, 7, 64), raw))
        return false;
    snprintf(out, NAME_SIZE, "%s", digest + 7);
    return true;
}

/* --- holds ----------------------------------------------------------------------------------- */
static void begin_hold(struct spool *s, const char *name)
{
    struct hold *h;
    mutex_lock(&s->lock);
    HASH_FIND_STR(s->holds, name, h);
    if (!h) {
        h = xcalloc(1, sizeof *h);
        snprintf(h->name, sizeof h->name, "%s", name);
        HASH_ADD_STR(s->holds, name, h);
    }
    h->count++;
    s->moment++;
    mutex_unlock(&s->lock);
}

static void end_hold(struct spool *s, const char *name)
{
    struct hold *h;
    mutex_lock(&s->lock);
    HASH_FIND_STR(s->holds, name, h);
    if (h && --h->count == 0) {
        HASH_DEL(s->holds, h);
        free(h);
    }
    mutex_unlock(&s->lock);
}

void spool_release(struct spool *s, const char *digest)
{
    char name[NAME_SIZE];
    if (file_name(digest, name))
        end_hold(s, name);
}

static void remove_locked(struct spool *s, const char *name) VIC_REQUIRES(s->lock)
{
    struct hold *h;
    struct stat st;
    HASH_FIND_STR(s->holds, name, h);
    if (!h && fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        unlinkat(s->dir, name, 0) == 0)
        atomic_fetch_sub(&s->used, (uint64_t)st.st_size);
}

void spool_remove(struct spool *s, const char *digest)
{
    char name[NAME_SIZE];
    if (!file_name(digest, name))
        return;
    mutex_lock(&s->lock);
    remove_locked(s, name);
    mutex_unlock(&s->lock);
}

uint64_t spool_moment(struct spool *s)
{
    mutex_lock(&s->lock);
    uint64_t n = s->moment;
    mutex_unlock(&s->lock);
    return n;
}

void spool_sweep(struct spool *s, uint64_t moment, bool (*needed)(void *arg, const char *digest),
                 void *arg)
{
    DIR *d = list(s);
    bool alone = d != NULL;
    for (struct dirent *e; alone && (e = readdir(d));) {
        char digest[SPOOL_DIGEST_SIZE], name[NAME_SIZE];
        if (snprintf(digest, sizeof digest, "sha256:%s", e->d_name) >= (int)sizeof digest ||
            !file_name(digest, name))
            continue;
        mutex_lock(&s->lock);
        alone = s->moment == moment;
        if (alone && !needed(arg, digest))
            remove_locked(s, name);
        mutex_unlock(&s->lock);
    }
    if (d)
        closedir(d);
}

/* --- kept files ------------------------------------------------------------------------------ */
/* Gives the file its name; '*there' when the same bytes have it already. */
static bool name_file(struct spool_file *f, const char *name, bool *there, struct vic_err *err)
{
    struct spool *s = f->spool;
    struct stat st;
    *there = fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (*there)
        return true;
    if (fsync(f->fd) != 0)
        return vic_fail_errno(err, "sync a spool file");
    if (linkat(s->dir, f->name, s->dir, name, 0) != 0) {
        *there = errno == EEXIST; /* another writer was faster */
        return *there || vic_fail_errno(err, "name a spool file");
    }
    unlinkat(s->dir, f->name, 0);
    if (fsync(s->dir) == 0)
        return true;
    vic_fail_errno(err, "sync the spool");
    unlinkat(s->dir, name, 0);
    return false;
}

bool spool_keep(struct spool_file *f, const char *expected, char digest[SPOOL_DIGEST_SIZE],
                uint64_t *size, struct vic_err *err)
{
    struct spool *s = f->spool;
    unsigned char sum[32];
    sha256_final(&f->hash, sum);
    memcpy(digest, "sha256:", 7);
    hex_encode(sum, sizeof sum, digest + 7);
    if (size)
        *size = f->size;
    if (expected && strcmp(expected, digest) != 0) {
        spool_drop(f);
        return vic_fail(err, VIC_INVALID, 0, "digest mismatch: expected %s, the bytes have %s",
                        expected, digest);
    }
    bool there;
    begin_hold(s, digest + 7);
    bool ok = name_file(f, digest + 7, &there, err);
    if (!ok)
        end_hold(s, digest + 7);
    if (!ok || there) {
        spool_drop(f);
        return ok;
    }
    close(f->fd);
    free(f);
    return true;
}

bool spool_read(struct spool *s, const char *digest, int *fd, uint64_t *size, struct vic_err *err)
{
    char name[NAME_SIZE];
    struct stat st;
    if (!file_name(digest, name))
        return vic_fail(err, VIC_INVALID, 0, "'%s' is no sha256 digest", digest);
    AUTO_CLOSE int got = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (got < 0 || fstat(got, &st) != 0)
        return vic_fail_errno(err, "read %s from the spool", digest);
    if (size)
        *size = (uint64_t)st.st_size;
    *fd = TAKE_FD(got);
    return true;
}
