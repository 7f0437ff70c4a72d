/* The bytes of log segments: see logs.h for an entry's layout, logs_priv.h for our own entries.
 *
 * Opening a log reads the newest segment to its end and cuts it at the first entry that is not
 * whole: a crash can tear only what was behind the last sync.  A power cut may leave zeros there,
 * which no entry looks like (its length is at least LOGS_FIXED).  Then it is synced, because what
 * the page cache held for a process that died is not on the disk yet, and we are about to say that
 * it is stored. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "crc32c.h"
#include "logs_priv.h"

enum { READ_SIZE = 65536 };

void segment_name(const char *id, uint32_t number, char out[96])
{
    snprintf(out, 96, "%s/%06u.log", id, number);
}

void segment_put(struct buf *out, const struct logs_entry *e, uint16_t boot_index, unsigned flags)
{
    size_t start = out->len;
    buf_add_le(out, LOGS_FIXED + e->bytes.len, 4);
    buf_add_le(out, 0, 4);
    buf_add_le(out, e->seq, 8);
    buf_add_le(out, (uint64_t)e->time_ns, 8);
    buf_add_le(out, e->stream, 1);
    buf_add_le(out, flags, 1);
    buf_add_le(out, boot_index, 2);
    buf_add_sv(out, e->bytes);
    if (out->failed)
        return;
    uint32_t crc = crc32c(0, out->data + start + LOGS_HEAD, LOGS_FIXED + e->bytes.len);
    for (unsigned i = 0; i < 4; i++)
        out->data[start + 4 + i] = (char)(crc >> 8 * i & 0xff);
}

static uint64_t get_le(const char *p, unsigned bytes)
{
    uint64_t n = 0;
    for (unsigned i = bytes; i-- > 0;)
        n = n << 8 | (unsigned char)p[i];
    return n;
}

/* Makes at least 'size' bytes readable at s->at; false when the segment has no more. */
static bool have(struct segment_scan *s, size_t size)
{
    while (s->buf.len - s->used < size) {
        uint64_t next = s->at + (s->buf.len - s->used);
        uint64_t left = s->end > next ? s->end - next : 0;
        size_t want = left < READ_SIZE ? (size_t)left : READ_SIZE;
        buf_consume(&s->buf, s->used);
        s->used = 0;
        if (!want || !buf_reserve(&s->buf, want))
            return false;
        ssize_t n = pread(s->fd, s->buf.data + s->buf.len, want, (off_t)next);
        if (n <= 0)
            return false;
        s->buf.len += (size_t)n;
    }
    return true;
}

enum scan_result segment_scan(struct segment_scan *s, struct segment_entry *out)
{
    if (s->at >= s->end)
        return SCAN_END;
    if (!have(s, LOGS_HEAD))
        return SCAN_BAD;
    uint64_t len = get_le(s->buf.data + s->used, 4);
    uint64_t crc = get_le(s->buf.data + s->used + 4, 4);
    if (len < LOGS_FIXED || len > LOGS_FIXED + LOGS_MAX_ENTRY || !have(s, LOGS_HEAD + (size_t)len))
        return SCAN_BAD;
    const char *p = s->buf.data + s->used + LOGS_HEAD;
    if (crc32c(0, p, (size_t)len) != crc)
        return SCAN_BAD;
    *out = (struct segment_entry){
        .e = {.seq = get_le(p, 8),
              .time_ns = (int64_t)get_le(p + 8, 8),
              .stream = (unsigned char)p[16],
              .flags = (unsigned char)p[17],
              .bytes = sv_make(p + LOGS_FIXED, (size_t)len - LOGS_FIXED)},
        .boot_index = (uint16_t)get_le(p + 18, 2),
        .at = s->at,
    };
    s->used += LOGS_HEAD + (size_t)len;
    s->at += LOGS_HEAD + len;
    return SCAN_ENTRY;
}

/* --- what is found at open -----------------------------------------------------------------------
 */

static int by_number(const void *a, const void *b)
{
    const struct logs_segment *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void add_segment(struct logs *l, struct clog *log, const char *file)
{
    struct stat st;
    char name[96];
    uint64_t number;
    struct sv s = sv_of(file);
    if (!sv_ends(s, SV(".log")) || !sv_to_u64(sv_sub(s, 0, s.len - 4), &number) || number == 0 ||
        number > UINT32_MAX)
        return;
    segment_name(log->id, (uint32_t)number, name);
    if (fstatat(l->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return;
    log->segments = xrealloc(log->segments, (log->segment_count + 1) * sizeof *log->segments);
    log->segments[log->segment_count++] =
        (struct logs_segment){.number = (uint32_t)number, .size = (uint64_t)st.st_size};
}

static void list_segments(struct logs *l, struct clog *log)
{
    int fd = openat(l->dir, log->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return; /* never written */
    }
    for (struct dirent *e; (e = readdir(d));)
        add_segment(l, log, e->d_name);
    closedir(d);
    if (log->segment_count > 1)
        qsort(log->segments, log->segment_count, sizeof *log->segments, by_number);
    for (size_t i = 1; i < log->segment_count; i++)
        log->segments[i].base = log->segments[i - 1].base + log->segments[i - 1].size;
}

static void learn_boot(struct clog *log, const struct segment_entry *e)
{
    struct logs_boot b = {.index = e->boot_index, .seen = e->e.seq, .defined = true};
    if (e->e.bytes.len >= sizeof b.id)
        return;
    snprintf(b.id, sizeof b.id, SV_FMT, SV_ARG(e->e.bytes));
    log->next_index = (uint16_t)(e->boot_index + 1);
    for (unsigned i = 0; i < log->boot_count; i++)
        if (strcmp(log->boots[i].id, b.id) == 0) {
            b.seen = b.seen > log->boots[i].seen ? b.seen : log->boots[i].seen;
            log->boots[i] = b;
            return;
        }
    if (log->boot_count == LOGS_KEEP_BOOTS)
        memmove(log->boots, log->boots + 1, --log->boot_count * sizeof b);
    log->boots[log->boot_count++] = b;
}

static void learn_seq(struct clog *log, const struct segment_entry *e)
{
    for (unsigned i = 0; i < log->boot_count; i++)
        if (log->boots[i].index == e->boot_index && log->boots[i].seen < e->e.seq)
            log->boots[i].seen = e->e.seq;
}

void segment_load(struct logs *l, struct clog *log)
{
    list_segments(l, log);
    if (!log->segment_count)
        return;
    struct logs_segment *newest = &log->segments[log->segment_count - 1];
    char name[96];
    segment_name(log->id, newest->number, name);
    AUTO_CLOSE int fd = openat(l->dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct segment_scan s = {.fd = fd, .end = newest->size};
    struct segment_entry e;
    while (fd >= 0 && segment_scan(&s, &e) == SCAN_ENTRY) {
        if (e.e.flags & LOGS_BOOT)
            learn_boot(log, &e);
        else
            learn_seq(log, &e);
    }
    buf_fini(&s.buf);
    if (s.at < newest->size)
        log_warn(l->o.log, "logs.torn", KV_S("container", log->id),
                 KV_U("bytes", newest->size - s.at));
    if (fd < 0 || (s.at < newest->size && ftruncate(fd, (off_t)s.at) != 0) || fdatasync(fd) != 0)
        log_error(l->o.log, "logs.open", KV_S("container", log->id), KV_S("file", name));
    newest->size = s.at;
    for (unsigned i = 0; i < log->boot_count; i++)
        log->boots[i].synced = log->boots[i].seen;
}
