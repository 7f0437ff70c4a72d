/* The writer thread of the container logs.
 *
 * It takes the queue as a whole, sorts it into one batch a log, writes each batch with one pwrite,
 * tells the watchers, and goes back for more.  What was written is synced LOGS_SYNC_MS later or
 * after LOGS_SYNC_SIZE, whichever comes first, all dirty logs together; then 'stored' is called.
 *
 * A batch that cannot be written (no space, quota, file size limit) is dropped whole and counted;
 * the file is cut back to the last whole entry.  The next batch of that log begins with a marker
 * that says how much is missing; while there is none, it is tried again once a second.  Its seq is
 * the newest one dropped, so the guest's word that is lost counts as handled and is not sent again.
 *
 * Segments of a limited log are a quarter of max_bytes, and the oldest go when all together pass
 * max_bytes * max_files: between three quarters and the whole of what was allowed is kept, as
 * Docker's max-size and max-file keep it, without throwing away everything when a single file is
 * allowed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "logs_priv.h"

static int64_t now_ms(void)
{
    return clock_mono_ms(&vic_clock_real);
}

static struct logs_segment *newest(struct clog *log)
{
    return log->segment_count ? &log->segments[log->segment_count - 1] : NULL;
}

/* --- sync ----------------------------------------------------------------------------------------
 */

static void mark_dirty(struct logs *l, struct clog *log)
{
    if (log->dirty)
        return;
    log->dirty = true;
    log->dirty_next = l->dirty;
    if (!l->dirty)
        l->sync_at_ms = now_ms() + LOGS_SYNC_MS;
    l->dirty = log;
    mutex_lock(&l->lock);
    log->refs++;
    mutex_unlock(&l->lock);
}

static bool sync_dir(struct logs *l, struct clog *log)
{
    AUTO_CLOSE int fd = openat(l->dir, log->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 && fsync(l->dir) == 0;
}

/* Brings a log's files to the disk. */
static bool sync_files(struct logs *l, struct clog *log)
{
    bool ok = log->fd < 0 || fdatasync(log->fd) == 0;
    if (ok && log->dir_dirty)
        ok = sync_dir(l, log);
    if (!ok) {
        log_error(l->o.log, "logs.sync", KV_S("container", log->id), KV_I("errno", errno));
        return false;
    }
    log->dir_dirty = false;
    if (log->fd >= 0)
        close(TAKE_FD(log->fd));
    return true;
}

/* What has become stored since it was told last. */
static unsigned take_news(struct logs *l, struct clog *log, struct logs_boot news[LOGS_KEEP_BOOTS])
{
    unsigned count = 0;
    mutex_lock(&l->lock);
    for (unsigned i = 0; i < log->boot_count && !log->removed; i++) {
        struct logs_boot *b = &log->boots[i];
        if (b->synced == b->seen && !b->tell)
            continue;
        b->synced = b->seen;
        b->tell = false;
        news[count++] = *b;
    }
    mutex_unlock(&l->lock);
    return count;
}

static bool sync_log(struct logs *l, struct clog *log)
{
    struct logs_boot news[LOGS_KEEP_BOOTS];
    if (!log->gone && !sync_files(l, log))
        return false;
    unsigned count = take_news(l, log, news);
    for (unsigned i = 0; i < count && l->o.stored; i++)
        l->o.stored(l->o.arg, log->id, news[i].id, news[i].synced);
    return true;
}

static void sync_all(struct logs *l)
{
    struct clog *list = TAKE(l->dirty);
    l->unsynced = 0;
    while (list) {
        struct clog *log = list;
        list = log->dirty_next;
        log->dirty = false;
        if (!sync_log(l, log)) { /* it stays dirty and is tried again */
            mark_dirty(l, log);
            l->sync_at_ms = now_ms() + LOGS_RETRY_MS;
        }
        mutex_lock(&l->lock);
        clog_put_locked(l, log);
        mutex_unlock(&l->lock);
    }
}

/* --- segments ------------------------------------------------------------------------------------
 */

/* Takes over what logs_limit said. */
static void read_limits_locked(struct logs *l, struct clog *log) VIC_REQUIRES(l->lock)
{
    uint64_t size = log->max_bytes / 4, files = log->max_files ? log->max_files : 1;
    (void)l;
    if (!log->max_bytes || size > LOGS_SEGMENT_SIZE)
        size = LOGS_SEGMENT_SIZE;
    log->segment_max = size < LOGS_MIN_SEGMENT ? LOGS_MIN_SEGMENT : size;
    if (__builtin_mul_overflow(log->max_bytes, files, &log->kept_max))
        log->kept_max = 0;
}

static void drop_oldest(struct logs *l, struct clog *log)
{
    char name[96];
    mutex_lock(&l->lock);
    segment_name(log->id, log->segments[0].number, name);
    log->segment_count--;
    memmove(log->segments, log->segments + 1, log->segment_count * sizeof *log->segments);
    mutex_unlock(&l->lock);
    unlinkat(l->dir, name, 0);
    log->dir_dirty = true;
}

static void enforce_limit(struct logs *l, struct clog *log)
{
    while (log->kept_max && log->segment_count > 1) {
        const struct logs_segment *last = &log->segments[log->segment_count - 1];
        if (last->base + last->size - log->segments[0].base <= log->kept_max)
            return;
        drop_oldest(l, log);
    }
}

/* Opens the newest segment for writing; makes the first or the next one when 'next'. */
static bool open_segment(struct logs *l, struct clog *log, bool next)
{
    char name[96];
    const struct logs_segment *last = newest(log);
    if (!next && log->fd >= 0)
        return true;
    if (!next && last) {
        segment_name(log->id, last->number, name);
        log->fd = openat(l->dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        return log->fd >= 0 || (errno == ENOENT && open_segment(l, log, true));
    }
    if (log->fd >= 0 && !sync_files(l, log))
        return false;
    struct logs_segment s = {.number = last ? last->number + 1 : 1,
                             .base = last ? last->base + last->size : 0};
    segment_name(log->id, s.number, name);
    if (mkdirat(l->dir, log->id, 0700) != 0 && errno != EEXIST)
        return false;
    log->fd = openat(l->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (log->fd < 0)
        return false;
    log->dir_dirty = true;
    mutex_lock(&l->lock);
    log->segments = xrealloc(log->segments, (log->segment_count + 1) * sizeof s);
    log->segments[log->segment_count++] = s;
    for (unsigned i = 0; i < log->boot_count; i++)
        log->boots[i].defined = false;
    mutex_unlock(&l->lock);
    return true;
}

/* Appends to the newest segment: all or nothing. */
static bool append_bytes(struct logs *l, struct clog *log, struct sv bytes)
{
    struct logs_segment *last = &log->segments[log->segment_count - 1]; /* open_segment made it */
    size_t at = 0;
    while (at < bytes.len) {
        ssize_t n = pwrite(log->fd, bytes.p + at, bytes.len - at, (off_t)(last->size + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    if (at < bytes.len) {
        int saved = errno;
        if (ftruncate(log->fd, (off_t)last->size) != 0)
            log_error(l->o.log, "logs.cut", KV_S("container", log->id));
        errno = saved;
        return false;
    }
    l->unsynced += bytes.len;
    mutex_lock(&l->lock);
    last->size += bytes.len;
    mutex_unlock(&l->lock);
    return true;
}

/* --- batches -------------------------------------------------------------------------------------
 */

static void put_boot(struct buf *out, struct logs_boot *b)
{
    struct logs_entry e = {.seq = b->seen, .bytes = sv_of(b->id)};
    segment_put(out, &e, b->index, LOGS_BOOT);
    b->defined = true;
}

static struct logs_boot *find_boot(struct clog *log, const char *id)
{
    for (unsigned i = 0; i < log->boot_count; i++)
        if (strcmp(log->boots[i].id, id) == 0)
            return &log->boots[i];
    return NULL;
}

static void set_hurt(struct logs *l, struct clog *log, bool hurt)
{
    if (log->hurt == hurt)
        return;
    log->hurt = hurt;
    mutex_lock(&l->lock);
    if (hurt)
        l->hurt++, log->refs++;
    else
        l->hurt--, clog_put_locked(l, log);
    mutex_unlock(&l->lock);
}

/* Puts the marker for what was dropped, if anything was. */
static void put_marker(struct clog *log, struct buf *out)
{
    char text[96];
    struct logs_boot *b = find_boot(log, log->dropped_boot);
    if (!log->dropped || !b)
        return;
    int len = snprintf(text, sizeof text,
                       "[vic: %" PRIu64 " bytes of output were dropped: the log disk is full]\n",
                       log->dropped);
    struct logs_entry e = {.seq = log->dropped_seq,
                           .time_ns = clock_wall_ns(&vic_clock_real),
                           .stream = 2,
                           .bytes = sv_make(text, (size_t)len)};
    put_boot(out, b);
    segment_put(out, &e, b->index, LOGS_DROPPED);
}

static void clear_dropped(struct logs *l, struct clog *log)
{
    log->dropped = 0;
    set_hurt(l, log, false);
}

static void drop_batch(struct logs *l, struct clog *log, int sys)
{
    if (!log->dropped)
        log_warn(l->o.log, "logs.dropped", KV_S("container", log->id), KV_I("errno", sys));
    log->dropped += log->batch_bytes;
    log->dropped_seq = log->batch_seq;
    memcpy(log->dropped_boot, log->batch_boot, sizeof log->batch_boot);
    l->retry_at_ms = now_ms() + LOGS_RETRY_MS;
    for (unsigned i = 0; i < log->boot_count; i++)
        log->boots[i].defined = false;
    set_hurt(l, log, true);
}

/* Is there room for LOGS_ROOM bytes behind the newest segment?  Zeros are no entry: if we die here
 * they are cut off at the next open. */
static bool has_room(struct clog *log)
{
    static const char zeros[LOGS_ROOM];
    off_t size = (off_t)log->segments[log->segment_count - 1].size;
    bool ok = pwrite(log->fd, zeros, sizeof zeros, size) == (ssize_t)sizeof zeros;
    return ftruncate(log->fd, size) == 0 && ok;
}

static bool write_batch(struct logs *l, struct clog *log)
{
    AUTO_BUF struct buf both = {0};
    if (!open_segment(l, log, false))
        return false;
    if (!log->dropped)
        return append_bytes(l, log, buf_sv(&log->batch));
    put_marker(log, &both);
    buf_add_sv(&both, buf_sv(&log->batch));
    if (!has_room(log) || !append_bytes(l, log, buf_sv(&both)))
        return false;
    clear_dropped(l, log);
    return true;
}

static void flush_batch(struct logs *l, struct clog *log)
{
    if (!log->batch.len)
        return;
    if (!write_batch(l, log))
        drop_batch(l, log, errno);
    buf_reset(&log->batch);
    log->batch_bytes = 0;
    mark_dirty(l, log);
    enforce_limit(l, log);
    mutex_lock(&l->lock);
    logs_due_locked(l, log);
    mutex_unlock(&l->lock);
}

/* The marker alone, when no more output comes. */
static void retry_marker(struct logs *l, struct clog *log)
{
    AUTO_BUF struct buf out = {0};
    put_marker(log, &out);
    if (!open_segment(l, log, false) || !has_room(log) || !append_bytes(l, log, buf_sv(&out)))
        return;
    clear_dropped(l, log);
    mark_dirty(l, log);
    mutex_lock(&l->lock);
    logs_due_locked(l, log);
    mutex_unlock(&l->lock);
}

/* A new segment, beginning with what is known of the boots. */
static void roll(struct logs *l, struct clog *log)
{
    flush_batch(l, log);
    if (!open_segment(l, log, true))
        return; /* the disk is full: the batch's write will say so */
    for (unsigned i = 0; i < log->boot_count; i++)
        put_boot(&log->batch, &log->boots[i]);
}

static struct logs_boot *new_boot(struct logs *l, struct clog *log, const char *id)
{
    if (log->boot_count == LOGS_KEEP_BOOTS) { /* the oldest is forgotten: nothing of it is owed */
        flush_batch(l, log);
        sync_log(l, log);
    }
    mutex_lock(&l->lock);
    if (log->boot_count == LOGS_KEEP_BOOTS)
        memmove(log->boots, log->boots + 1, --log->boot_count * sizeof log->boots[0]);
    struct logs_boot *b = &log->boots[log->boot_count++];
    *b = (struct logs_boot){.index = log->next_index++};
    snprintf(b->id, sizeof b->id, "%s", id);
    mutex_unlock(&l->lock);
    return b;
}

/* Does the newest segment have no room for 'more' bytes behind what the batch holds? */
static bool is_full(const struct clog *log, size_t more)
{
    uint64_t size = log->segment_count ? log->segments[log->segment_count - 1].size : 0;
    return size + log->batch.len > 0 && size + log->batch.len + more > log->segment_max;
}

static void append(struct logs *l, struct clog *log, const struct logs_entry *e)
{
    struct logs_boot *b = find_boot(log, e->boot);
    if (!b)
        b = new_boot(l, log, e->boot);
    if (e->seq <= b->seen) { /* sent again */
        mutex_lock(&l->lock);
        b->tell = true;
        mutex_unlock(&l->lock);
        mark_dirty(l, log);
        return;
    }
    if (is_full(log, LOGS_HEAD + LOGS_FIXED + e->bytes.len))
        roll(l, log);
    if (!b->defined)
        put_boot(&log->batch, b);
    segment_put(&log->batch, e, b->index, e->flags & ~(unsigned)LOGS_BOOT);
    log->batch_bytes += e->bytes.len;
    memcpy(log->batch_boot, b->id, sizeof b->id);
    log->batch_seq = e->seq;
    mutex_lock(&l->lock);
    b->seen = e->seq;
    mutex_unlock(&l->lock);
    if (log->batch.len >= LOGS_BATCH_SIZE)
        flush_batch(l, log);
}

static void remove_files(struct logs *l, struct clog *log)
{
    mutex_lock(&l->lock);
    clog_load_locked(l, log);
    mutex_unlock(&l->lock);
    if (log->fd >= 0)
        close(TAKE_FD(log->fd));
    buf_reset(&log->batch);
    set_hurt(l, log, false);
    log->gone = true;
    for (size_t i = 0; i < log->segment_count; i++) {
        char name[96];
        segment_name(log->id, log->segments[i].number, name);
        unlinkat(l->dir, name, 0);
    }
    if (unlinkat(l->dir, log->id, AT_REMOVEDIR) != 0 && errno != ENOENT)
        log_warn(l->o.log, "logs.remove", KV_S("container", log->id), KV_I("errno", errno));
}

/* --- the thread ----------------------------------------------------------------------------------
 */

static void do_item(struct logs *l, struct logs_item *item)
{
    struct clog *log = item->log;
    if (item->what == ITEM_REMOVE) {
        remove_files(l, log);
        return;
    }
    if (log->gone)
        return;
    mutex_lock(&l->lock);
    clog_load_locked(l, log);
    read_limits_locked(l, log);
    mutex_unlock(&l->lock);
    append(l, log, &item->entry);
}

/* Does a run of items; then writes what it has put into batches. */
static void do_items(struct logs *l, struct logs_item *items)
{
    uint64_t count = 0;
    for (struct logs_item *i = items; i; i = i->next, count++)
        do_item(l, i);
    for (struct logs_item *i = items; i; i = i->next)
        if (i->what == ITEM_APPEND && !i->log->gone)
            flush_batch(l, i->log);
    mutex_lock(&l->lock);
    l->done += count;
    cond_broadcast(&l->changed);
    for (struct logs_item *next; items; items = next) {
        next = items->next;
        clog_put_locked(l, items->log);
        free(items);
    }
    mutex_unlock(&l->lock);
    logs_call_watches(l);
}

/* Logs that owe a marker try again. */
static void retry_hurt(struct logs *l)
{
    struct clog *log, *tmp;
    l->retry_at_ms = now_ms() + LOGS_RETRY_MS;
    mutex_lock(&l->lock);
    unsigned count = 0;
    struct clog **hurt = xcalloc(l->hurt, sizeof *hurt);
    HASH_ITER(hh, l->logs, log, tmp)
    if (log->hurt && count < l->hurt)
        hurt[count++] = log; /* hurt holds a reference */
    mutex_unlock(&l->lock);
    for (unsigned i = 0; i < count; i++)
        retry_marker(l, hurt[i]);
    free(hurt);
    logs_call_watches(l);
}

/* Until when the writer may sleep; -1: until there is work. */
static int64_t sleep_ms(const struct logs *l)
{
    int64_t at = l->dirty ? l->sync_at_ms : INT64_MAX;
    if (l->hurt && l->retry_at_ms < at)
        at = l->retry_at_ms;
    int64_t left = at - now_ms();
    return at == INT64_MAX ? -1 : left > 0 ? left : 0;
}

static struct logs_item *take_items(struct logs *l, bool *stop)
{
    int64_t ms = sleep_ms(l);
    mutex_lock(&l->lock);
    while (!l->head && !l->stop && ms != 0) {
        if (ms < 0)
            cond_wait(&l->work, &l->lock);
        else
            cond_wait_ms(&l->work, &l->lock, ms);
        ms = sleep_ms(l);
    }
    struct logs_item *items = TAKE(l->head);
    l->tail = &l->head;
    *stop = l->stop;
    mutex_unlock(&l->lock);
    return items;
}

void *logs_writer(void *arg)
{
    struct logs *l = arg;
    bool stop = false;
    while (!stop) {
        struct logs_item *items = take_items(l, &stop);
        if (items)
            do_items(l, items);
        else
            logs_call_watches(l);
        if (l->hurt && (stop || now_ms() >= l->retry_at_ms))
            retry_hurt(l);
        if (l->dirty && (stop || l->unsynced >= LOGS_SYNC_SIZE || now_ms() >= l->sync_at_ms))
            sync_all(l);
    }
    return NULL;
}
