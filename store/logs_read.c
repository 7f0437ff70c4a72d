/* Readers of container logs.
 *
 * A reader is a position and, for reading, a scan of one segment.  Before each entry it asks, under
 * the lock, how far the segment is readable and which comes next; the file is read without it.  A
 * segment that rotation removed in the meantime is still open here, or the reader goes on at the
 * oldest one that is left and counts what it missed.
 *
 * A segment's bytes are ours and carry a checksum; when one fails all the same, the rest of that
 * segment is skipped and counted as lost: a log with a hole is better than none. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "logs_priv.h"

struct boot_name {
    uint16_t index;
    char id[LOGS_BOOT_SIZE];
};

struct logs_reader {
    struct logs *logs;
    struct clog *log;
    struct logs_pos pos; /* of the next entry */
    uint64_t reached;    /* the same, in bytes since the log was loaded; UINT64_MAX: not known */
    uint64_t lost;
    size_t skip;   /* bytes of the next entry that lie before where we were told to begin */
    uint32_t open; /* number of the segment in 'scan', or 0 */
    struct segment_scan scan;
    struct boot_name *boots; /* of that segment, as far as it was read */
    size_t boot_count;
};

struct logs_reader *logs_read_open(struct logs *l, const char *container, struct vic_err *err)
{
    mutex_lock(&l->lock);
    struct clog *log = clog_get_locked(l, container);
    if (log)
        clog_load_locked(l, log);
    mutex_unlock(&l->lock);
    if (!log) {
        vic_fail(err, VIC_INVALID, 0, "read the log of \"%s\": not an id", container);
        return NULL;
    }
    struct logs_reader *r = xcalloc(1, sizeof *r);
    r->logs = l;
    r->log = log;
    r->scan.fd = -1;
    r->reached = UINT64_MAX;
    return r;
}

static void close_segment(struct logs_reader *r)
{
    if (r->scan.fd >= 0)
        close(r->scan.fd);
    buf_fini(&r->scan.buf);
    r->scan = (struct segment_scan){.fd = -1};
    r->open = 0;
    r->boot_count = 0;
}

void logs_read_free(struct logs_reader *r)
{
    if (!r)
        return;
    close_segment(r);
    free(r->boots);
    mutex_lock(&r->logs->lock);
    clog_put_locked(r->logs, r->log);
    mutex_unlock(&r->logs->lock);
    free(r);
}

void logs_seek(struct logs_reader *r, struct logs_pos pos)
{
    close_segment(r);
    r->pos = pos;
    r->skip = 0;
    r->reached = UINT64_MAX;
}

struct logs_pos logs_tell(const struct logs_reader *r)
{
    return r->pos;
}

uint64_t logs_lost(struct logs_reader *r)
{
    uint64_t lost = r->lost;
    r->lost = 0;
    return lost;
}

/* --- where the reader stands
 * ---------------------------------------------------------------------- */

enum place { PLACE_READABLE, PLACE_END, PLACE_REMOVED };

/* Finds the reader's segment and how far it is readable, going on to the next one at its end. */
static enum place locate_locked(struct logs_reader *r, uint64_t *end) VIC_REQUIRES(r->logs->lock)
{
    const struct clog *log = r->log;
    if (log->removed)
        return PLACE_REMOVED;
    for (size_t i = 0; i < log->segment_count; i++) {
        const struct logs_segment *s = &log->segments[i];
        if (s->number < r->pos.segment)
            continue;
        if (s->number > r->pos.segment) { /* the one before is read, or was removed */
            if (r->reached < s->base)
                r->lost += s->base - r->reached;
            r->pos = (struct logs_pos){s->number, 0};
            r->skip = 0;
        }
        r->reached = s->base + r->pos.offset;
        if (r->pos.offset < s->size) {
            *end = s->size;
            return PLACE_READABLE;
        }
    }
    return PLACE_END;
}

static bool open_segment(struct logs_reader *r, uint64_t end)
{
    char name[96];
    if (r->open != r->pos.segment) {
        close_segment(r);
        segment_name(r->log->id, r->pos.segment, name);
        r->scan.fd = openat(r->logs->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (r->scan.fd < 0)
            return false;
        r->open = r->pos.segment;
        r->scan.at = r->pos.offset;
    }
    r->scan.end = end;
    return true;
}

/* --- boot names
 * ----------------------------------------------------------------------------------- */

static void learn_boot(struct logs_reader *r, const struct segment_entry *e)
{
    struct boot_name b = {.index = e->boot_index};
    if (e->e.bytes.len >= sizeof b.id)
        return;
    memcpy(b.id, e->e.bytes.p, e->e.bytes.len);
    for (size_t i = 0; i < r->boot_count; i++)
        if (r->boots[i].index == b.index) {
            r->boots[i] = b;
            return;
        }
    r->boots = xrealloc(r->boots, (r->boot_count + 1) * sizeof b);
    r->boots[r->boot_count++] = b;
}

static const char *boot_known(const struct logs_reader *r, uint16_t index)
{
    for (size_t i = 0; i < r->boot_count; i++)
        if (r->boots[i].index == index)
            return r->boots[i].id;
    return NULL;
}

/* The name of an entry's boot.  After a seek into a segment its beginning is read for it. */
static const char *boot_of(struct logs_reader *r, const struct segment_entry *at)
{
    const char *known = boot_known(r, at->boot_index);
    if (known)
        return known;
    struct segment_scan s = {.fd = r->scan.fd, .end = at->at};
    struct segment_entry e;
    while (segment_scan(&s, &e) == SCAN_ENTRY)
        if (e.e.flags & LOGS_BOOT)
            learn_boot(r, &e);
    buf_fini(&s.buf);
    known = boot_known(r, at->boot_index);
    return known ? known : "";
}

/* --- reading
 * -------------------------------------------------------------------------------------- */

static void skip_rest(struct logs_reader *r, uint64_t end)
{
    log_warn(r->logs->o.log, "logs.damaged", KV_S("container", r->log->id),
             KV_U("segment", r->pos.segment), KV_U("offset", r->pos.offset));
    r->lost += end - r->pos.offset;
    r->reached += end - r->pos.offset;
    r->pos.offset = end;
    close_segment(r);
}

/* Puts the entry into 'out' unless it is ours, or lies before the place to begin. */
static bool hand_out(struct logs_reader *r, struct segment_entry *e, struct logs_entry *out)
{
    size_t skip = r->skip;
    if (e->e.flags & LOGS_BOOT) {
        learn_boot(r, e);
        return false;
    }
    r->skip = 0;
    if (skip && skip >= e->e.bytes.len)
        return false;
    *out = e->e;
    out->boot = boot_of(r, e);
    out->bytes = sv_sub(out->bytes, skip, out->bytes.len);
    return true;
}

bool logs_read(struct logs_reader *r, struct logs_entry *out, struct vic_err *err)
{
    for (bool again = false;;) {
        uint64_t end = 0;
        struct segment_entry e;
        mutex_lock(&r->logs->lock);
        enum place place = locate_locked(r, &end);
        mutex_unlock(&r->logs->lock);
        if (place == PLACE_END) {
            if (err)
                *err = (struct vic_err){.code = VIC_OK};
            return false;
        }
        if (place == PLACE_REMOVED)
            return vic_fail(err, VIC_NOT_FOUND, 0, "the log of %s was removed", r->log->id);
        bool open = open_segment(r, end);
        if (!open && errno == ENOENT && !again) {
            again = true; /* rotation was faster: look once more */
            continue;
        }
        if (!open && errno != ENOENT)
            return vic_fail_errno(err, "open segment %u of the log of %s", r->pos.segment,
                                  r->log->id);
        if (!open || segment_scan(&r->scan, &e) != SCAN_ENTRY) {
            skip_rest(r, end);
            again = false;
            continue;
        }
        r->pos.offset = r->scan.at;
        r->reached += r->scan.at - e.at;
        if (hand_out(r, &e, out))
            return true;
    }
}

/* --- tail
 * ----------------------------------------------------------------------------------------- */

/* Where the 'nth' newline of a segment (from 1) ends. */
struct newline {
    uint64_t count; /* of all */
    struct logs_pos entry;
    uint64_t entry_end;
    size_t behind; /* bytes of that entry up to and with the newline */
    size_t entry_size;
    bool unfinished[4]; /* by stream: its last bytes do not end a line */
};

static void count_lines(struct newline *n, const struct segment_entry *e, uint64_t end,
                        uint64_t nth)
{
    struct sv rest = e->e.bytes;
    for (const char *p; (p = rest.len ? memchr(rest.p, '\n', rest.len) : NULL);) {
        rest = sv_sub(rest, (size_t)(p - rest.p) + 1, rest.len);
        if (++n->count != nth)
            continue;
        n->entry.offset = e->at;
        n->entry_end = end;
        n->behind = e->e.bytes.len - rest.len;
        n->entry_size = e->e.bytes.len;
    }
    if (e->e.bytes.len)
        n->unfinished[e->e.stream & 3] = rest.len > 0;
}

static bool scan_lines(struct logs_reader *r, const struct logs_segment *seg, uint64_t nth,
                       struct newline *out)
{
    char name[96];
    segment_name(r->log->id, seg->number, name);
    *out = (struct newline){.entry.segment = seg->number};
    AUTO_CLOSE int fd = openat(r->logs->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct segment_scan s = {.fd = fd, .end = seg->size};
    struct segment_entry e;
    while (fd >= 0 && segment_scan(&s, &e) == SCAN_ENTRY)
        if (!(e.e.flags & LOGS_BOOT))
            count_lines(out, &e, s.at, nth);
    buf_fini(&s.buf);
    return fd >= 0;
}

/* Behind the newline. */
static void seek_behind(struct logs_reader *r, const struct newline *n)
{
    bool whole = n->behind == n->entry_size;
    logs_seek(r, (struct logs_pos){n->entry.segment, whole ? n->entry_end : n->entry.offset});
    r->skip = whole ? 0 : n->behind;
}

bool logs_seek_tail(struct logs_reader *r, uint64_t lines, struct vic_err *err)
{
    mutex_lock(&r->logs->lock);
    size_t count = r->log->segment_count;
    AUTO_FREE struct logs_segment *segments = xcalloc(count ? count : 1, sizeof *segments);
    if (count)
        memcpy(segments, r->log->segments, count * sizeof *segments);
    mutex_unlock(&r->logs->lock);
    logs_seek(r, (struct logs_pos){0});
    if (lines == 0 && count)
        logs_seek(r, (struct logs_pos){segments[count - 1].number, segments[count - 1].size});
    if (lines == 0 || lines == UINT64_MAX)
        return true;
    uint64_t need = lines + 1; /* behind the need-th newline from the end */
    for (size_t i = count; i-- > 0;) {
        struct newline n;
        if (!scan_lines(r, &segments[i], 0, &n)) {
            if (errno == ENOENT)
                return true; /* rotation was faster: all that is left */
            return vic_fail_errno(err, "read the log of %s", r->log->id);
        }
        if (i + 1 == count) /* lines that have no end yet count, too */
            for (unsigned k = 0; k < ARRAY_LEN(n.unfinished) && need > 1; k++)
                need -= n.unfinished[k];
        if (n.count >= need) {
            uint64_t nth = n.count - need + 1;
            if (scan_lines(r, &segments[i], nth, &n))
                seek_behind(r, &n);
            return true;
        }
        need -= n.count;
    }
    return true;
}
