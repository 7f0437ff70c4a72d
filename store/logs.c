/* Container logs: the table of logs, the queue to the writer thread, watchers.  See logs_priv.h. */
#include "store/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "logs_priv.h"

struct logs *logs_open(const struct logs_options *o, struct vic_err *err)
{
    if (mkdir(o->dir, 0700) != 0 && errno != EEXIST) {
        vic_fail_errno(err, "make the log folder %s", o->dir);
        return NULL;
    }
    int dir = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        vic_fail_errno(err, "open the log folder %s", o->dir);
        return NULL;
    }
    struct logs *l = xcalloc(1, sizeof *l);
    l->o = *o;
    l->dir = dir;
    l->tail = &l->head;
    mutex_init(&l->lock);
    cond_init(&l->work);
    cond_init(&l->changed);
    int r = pthread_create(&l->writer, NULL, logs_writer, l);
    if (r == 0) {
        pthread_setname_np(l->writer, "logs");
        return l;
    }
    vic_fail(err, VIC_IO, r, "start the log writer");
    close(dir);
    free(l);
    return NULL;
}

static void clog_free(struct clog *log)
{
    if (log->fd >= 0)
        close(log->fd);
    free(log->segments);
    buf_fini(&log->batch);
    free(log);
}

void logs_close(struct logs *l)
{
    struct clog *log, *tmp;
    if (!l)
        return;
    mutex_lock(&l->lock);
    l->stop = true;
    cond_signal(&l->work);
    mutex_unlock(&l->lock);
    pthread_join(l->writer, NULL);
    HASH_ITER(hh, l->logs, log, tmp)
    {
        HASH_DEL(l->logs, log);
        clog_free(log);
    }
    close(l->dir);
    cond_fini(&l->work);
    cond_fini(&l->changed);
    mutex_fini(&l->lock);
    free(l);
}

/* --- the table -----------------------------------------------------------------------------------
 */

/* An id is a folder's name: nothing that leads elsewhere. */
static bool is_id(const char *id)
{
    size_t len = strlen(id);
    return len > 0 && len < LOGS_ID_SIZE &&
           strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") == len;
}

struct clog *clog_get_locked(struct logs *l, const char *id)
{
    struct clog *log;
    HASH_FIND_STR(l->logs, id, log);
    if (!log) {
        if (!is_id(id))
            return NULL;
        log = xcalloc(1, sizeof *log);
        log->logs = l;
        log->fd = -1;
        log->refs = 1; /* the table's */
        memcpy(log->id, id, strlen(id));
        HASH_ADD_STR(l->logs, id, log);
    }
    log->refs++;
    return log;
}

void clog_put_locked(struct logs *l, struct clog *log)
{
    (void)l;
    if (--log->refs == 0)
        clog_free(log);
}

void clog_load_locked(struct logs *l, struct clog *log)
{
    while (log->state == CLOG_LOADING)
        cond_wait(&l->changed, &l->lock);
    if (log->state == CLOG_READY)
        return;
    log->state = CLOG_LOADING;
    mutex_unlock(&l->lock);
    segment_load(l, log); /* nobody else looks at a log that is loading */
    mutex_lock(&l->lock);
    log->state = CLOG_READY;
    cond_broadcast(&l->changed);
}

void logs_limit(struct logs *l, const char *container, uint64_t max_bytes, unsigned max_files)
{
    mutex_lock(&l->lock);
    struct clog *log = clog_get_locked(l, container);
    if (log) {
        log->max_bytes = max_bytes;
        log->max_files = max_files;
        clog_put_locked(l, log);
    }
    mutex_unlock(&l->lock);
}

static struct logs_boot *boot_locked(struct logs *l, struct clog *log, const char *boot)
    VIC_REQUIRES(l->lock)
{
    (void)l;
    for (unsigned i = 0; i < log->boot_count; i++)
        if (strcmp(log->boots[i].id, boot) == 0)
            return &log->boots[i];
    return NULL;
}

uint64_t logs_stored(struct logs *l, const char *container, const char *boot)
{
    struct clog *log;
    uint64_t seq = 0;
    /* The name may be a guest's invention: it gets no place in the table. */
    if (!is_id(container))
        return 0;
    mutex_lock(&l->lock);
    HASH_FIND_STR(l->logs, container, log);
    if (log)
        log->refs++;
    else if (faccessat(l->dir, container, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        log = clog_get_locked(l, container);
    if (log) {
        clog_load_locked(l, log);
        const struct logs_boot *b = boot_locked(l, log, boot);
        seq = b ? b->synced : 0;
        clog_put_locked(l, log);
    }
    mutex_unlock(&l->lock);
    return seq;
}

struct logs_pos logs_end(struct logs *l, const char *container)
{
    struct logs_pos pos = {0};
    mutex_lock(&l->lock);
    struct clog *log = clog_get_locked(l, container);
    if (log) {
        clog_load_locked(l, log);
        if (log->segment_count) {
            const struct logs_segment *last = &log->segments[log->segment_count - 1];
            pos = (struct logs_pos){last->number, last->size};
        }
        clog_put_locked(l, log);
    }
    mutex_unlock(&l->lock);
    return pos;
}

/* --- the queue -----------------------------------------------------------------------------------
 */

/* Takes over a reference to 'log'. */
static void enqueue_locked(struct logs *l, struct logs_item *item) VIC_REQUIRES(l->lock)
{
    *l->tail = item;
    l->tail = &item->next;
    l->tickets++;
    cond_signal(&l->work);
}

void logs_append(struct logs *l, const char *container, const struct logs_entry *e)
{
    size_t boot_size = strlen(e->boot) + 1;
    if (boot_size > LOGS_BOOT_SIZE || e->bytes.len > LOGS_MAX_ENTRY) {
        log_error(l->o.log, "logs.refused", KV_S("container", container));
        return;
    }
    struct logs_item *item = xcalloc(1, sizeof *item + boot_size + e->bytes.len);
    char *boot = (char *)(item + 1), *bytes = boot + boot_size;
    memcpy(boot, e->boot, boot_size);
    if (e->bytes.len)
        memcpy(bytes, e->bytes.p, e->bytes.len);
    item->entry = *e;
    item->entry.boot = boot;
    item->entry.bytes.p = bytes;
    mutex_lock(&l->lock);
    struct clog *log = item->log = clog_get_locked(l, container);
    if (log)
        enqueue_locked(l, item); /* it is the writer's from now on */
    mutex_unlock(&l->lock);
    if (!log) {
        log_error(l->o.log, "logs.refused", KV_S("container", container));
        free(item);
    }
}

void logs_flush(struct logs *l, const char *container)
{
    (void)container; /* one queue for all: its order is enough */
    mutex_lock(&l->lock);
    uint64_t ticket = l->tickets;
    while (l->done < ticket)
        cond_wait(&l->changed, &l->lock);
    mutex_unlock(&l->lock);
}

void logs_remove(struct logs *l, const char *container)
{
    mutex_lock(&l->lock);
    struct clog *log = clog_get_locked(l, container);
    if (log) {
        struct logs_item *item = xcalloc(1, sizeof *item);
        item->what = ITEM_REMOVE;
        item->log = log;
        HASH_DEL(l->logs, log);
        log->refs--; /* the table's; the item has the other */
        log->removed = true;
        logs_due_locked(l, log);
        enqueue_locked(l, item);
    }
    mutex_unlock(&l->lock);
}

/* --- watchers ------------------------------------------------------------------------------------
 */

struct logs_watch *logs_watch_new(struct logs *l, const char *container,
                                  void (*appended)(void *arg), void *arg)
{
    struct logs_watch *w = xcalloc(1, sizeof *w);
    w->logs = l;
    w->appended = appended;
    w->arg = arg;
    mutex_lock(&l->lock);
    if (container)
        w->log = clog_get_locked(l, container);
    if (w->log)
        DL_APPEND(w->log->watches, w);
    else if (!container)
        DL_APPEND(l->watches, w);
    mutex_unlock(&l->lock);
    return w; /* of a name that is no id: it is never called */
}

void logs_watch_free(struct logs_watch *w)
{
    if (!w)
        return;
    struct logs *l = w->logs;
    mutex_lock(&l->lock);
    if (w->due)
        DL_DELETE2(l->due, w, due_prev, due_next);
    if (w->log)
        DL_DELETE(w->log->watches, w);
    else if (w->prev)
        DL_DELETE(l->watches, w);
    while (l->calling == w && !pthread_equal(pthread_self(), l->writer))
        cond_wait(&l->changed, &l->lock);
    if (w->log)
        clog_put_locked(l, w->log);
    mutex_unlock(&l->lock);
    free(w);
}

static void due_locked(struct logs *l, struct logs_watch *list) VIC_REQUIRES(l->lock)
{
    struct logs_watch *w;
    DL_FOREACH(list, w)
    if (!w->due) {
        w->due = true;
        DL_APPEND2(l->due, w, due_prev, due_next);
    }
}

void logs_due_locked(struct logs *l, struct clog *log)
{
    due_locked(l, log->watches);
    due_locked(l, l->watches);
}

void logs_call_watches(struct logs *l)
{
    mutex_lock(&l->lock);
    for (struct logs_watch *w; (w = l->due);) {
        DL_DELETE2(l->due, w, due_prev, due_next);
        w->due = false;
        l->calling = w;
        void (*appended)(void *) = w->appended;
        void *arg = w->arg;
        mutex_unlock(&l->lock);
        appended(arg); /* may free w */
        mutex_lock(&l->lock);
        l->calling = NULL;
        cond_broadcast(&l->changed);
    }
    mutex_unlock(&l->lock);
}
