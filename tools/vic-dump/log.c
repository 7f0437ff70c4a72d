/* history and trace: what the change log tells. */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

#include "dump.h"

/* --- reading the log -----------------------------------------------------------------------------
 */
struct reading {
    struct dump_log *log;
    struct arena *a;
};

static bool keep_entry(void *arg, const struct store_entry *e)
{
    struct reading *r = arg;
    struct dump_log *l = r->log;
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        struct store_entry *v = ARENA_ARRAY(r->a, struct store_entry, l->cap);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
    }
    l->v[l->n++] = *e; /* borrows from the map: valid until the transaction ends */
    return true;
}

/* From 'since' on, or from where the log begins. */
bool dump_read_log(struct store_txn *t, uint64_t since, struct arena *a, struct dump_log *out,
                   struct vic_err *err)
{
    struct reading r = {out, a};
    struct vic_err local = {0};
    *out = (struct dump_log){0};
    if (store_entries(t, since, a, keep_entry, &r, &local))
        return true;
    if (local.code != VIC_NOT_FOUND || since) {
        if (err)
            *err = local;
        return false;
    }
    /* It does not reach back to the beginning any more: from its oldest entry on. */
    return store_entries(t, store_log_first(t) - 1, a, keep_entry, &r, err);
}

/* Control characters would break the line. */
static void add_value(struct buf *out, const char *value)
{
    bool plain = *value != '\0';
    for (const char *p = value; *p; p++)
        plain = plain && (unsigned char)*p > ' ' && *p != '"';
    if (plain)
        buf_add_str(out, value);
    else
        json_quote(out, sv_of(value), false);
}

void dump_entry_text(const struct store_entry *e, struct buf *out)
{
    if (e->op == STORE_OP_EVENT)
        buf_addf(out, "event %s", e->action);
    else if (e->op == STORE_OP_DELETE)
        buf_add_str(out, "removed");
    else if (!e->attributes.n)
        buf_add_str(out, "written");
    for (size_t i = 0; i < e->attributes.n; i++) {
        if (out->len)
            buf_add_c(out, ' ');
        buf_addf(out, "%s=", e->attributes.v[i].k);
        add_value(out, e->attributes.v[i].v);
    }
}

/* --- history -------------------------------------------------------------------------------------
 */
static void print_entry(const struct store_entry *e)
{
    AUTO_BUF struct buf text = {0};
    char time[RFC3339_SIZE];
    struct sv id = dump_short(e->id);
    dump_entry_text(e, &text);
    printf("%8" PRIu64 " %s %-10s %-9s " SV_FMT " %s%s%s\n", e->revision,
           rfc3339(e->time_ns, 3, false, time), e->actor, store_kind_name(e->kind), SV_ARG(id),
           buf_str(&text), *e->request ? " request=" : "", e->request);
}

/* An id that is gone from the records may stand in the log yet: then any beginning will do. */
static bool find_id(struct store_txn *t, enum store_kind kind, const char *text,
                    const struct dump_log *log, struct arena *a, const char **id,
                    struct vic_err *err)
{
    if (dump_resolve(t, kind, text, a, id, err))
        return true;
    for (size_t i = log->n; i-- > 0;)
        if (log->v[i].kind == kind && sv_starts(sv_of(log->v[i].id), sv_of(text))) {
            *id = log->v[i].id;
            return true;
        }
    return false;
}

static bool history(struct store_txn *t, const struct dump_opts *o, struct opt_strs args,
                    struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct dump_log log;
    enum store_kind kind = (enum store_kind)0;
    const char *id = NULL;
    if (args.n == 1)
        return vic_fail(err, VIC_INVALID, 0, "history wants KIND and ID, or neither");
    if (!dump_read_log(t, (uint64_t)o->since, &a, &log, err))
        return false;
    if (args.n &&
        (!dump_kind(args.v[0], &kind, err) || !find_id(t, kind, args.v[1], &log, &a, &id, err)))
        return false;
    for (size_t i = 0; i < log.n; i++)
        if (!id || (log.v[i].kind == kind && strcmp(log.v[i].id, id) == 0))
            print_entry(&log.v[i]);
    return true;
}

int dump_history(void *ctx, void *opts, struct opt_strs args)
{
    struct vic_err err = {0};
    struct store *s = dump_open(opts, false, &err);
    struct store_txn *t = s ? store_read(s, &err) : NULL;
    bool ok = t && history(t, opts, args, &err);
    (void)ctx;
    store_read_end(t);
    store_close(s);
    return ok ? 0 : dump_fail(&err);
}

/* --- trace: which entries belong to it -----------------------------------------------------------
 */
/* An object belongs to the work when one of its entries names our object (a vm that was taken for
 * the container), or our object's entries name it (Status.Vm, Disk); and a disk also when it has to
 * do so with such a vm (its Holder): attaching it is most of what a start asks of vSphere. */
struct trace {
    struct dump_log log;
    const char *id;
    enum store_kind kind;
    bool *mine;      /* by entry */
    size_t from, to; /* entries of the time span */
};

static const char *attribute(const struct store_entry *e, const char *key)
{
    for (size_t i = 0; i < e->attributes.n; i++)
        if (strcmp(e->attributes.v[i].k, key) == 0)
            return e->attributes.v[i].v;
    return NULL;
}

static bool names(const struct store_entry *e, const char *id)
{
    for (size_t i = 0; i < e->attributes.n; i++)
        if (strcmp(e->attributes.v[i].v, id) == 0)
            return true;
    return false;
}

static bool is_object(const struct trace *tr, const struct store_entry *e)
{
    return e->kind == tr->kind && strcmp(e->id, tr->id) == 0;
}

static bool is_related(const struct trace *tr, const struct store_entry *e)
{
    for (size_t i = tr->from; i < tr->to; i++) {
        const struct store_entry *x = &tr->log.v[i];
        if (is_object(tr, x) && names(x, e->id))
            return true;
        if (x->kind == e->kind && strcmp(x->id, e->id) == 0 && names(x, tr->id))
            return true;
    }
    return false;
}

/* A container's run: from the start's intent to the next one's.  Everything else: the whole log. */
static bool choose_span(struct trace *tr, const struct dump_opts *o, struct vic_err *err)
{
    bool found = false;
    tr->from = 0;
    tr->to = tr->log.n;
    if (o->all || tr->kind != STORE_CONTAINER)
        return true;
    for (size_t i = 0; i < tr->log.n; i++) {
        const char *seq = is_object(tr, &tr->log.v[i]) ? attribute(&tr->log.v[i], "Run.Seq") : NULL;
        uint64_t n;
        if (!seq || !sv_to_u64(sv_of(seq), &n))
            continue;
        if (found && o->run) {
            tr->to = i;
            break;
        }
        if (!o->run || n == (uint64_t)o->run) {
            tr->from = i;
            found = true;
        }
    }
    if (o->run && !found)
        return vic_fail(err, VIC_NOT_FOUND, 0, "the log has no run %" PRId64 " of %s", o->run,
                        tr->id);
    return true;
}

static bool is_disk_of_vm(const struct trace *tr, const struct store_entry *e)
{
    for (size_t i = tr->from; i < tr->to; i++) {
        const struct store_entry *vm = &tr->log.v[i];
        if (vm->kind != STORE_VM || !tr->mine[i])
            continue;
        if (names(vm, e->id) || names(e, vm->id))
            return true;
    }
    return false;
}

/* One entry that tells of a disk's VM brings the disk's other entries (its attempts) in too. */
static void choose_disks(struct trace *tr, struct arena *a)
{
    bool *disk = ARENA_ARRAY(a, bool, tr->log.n + 1);
    for (size_t i = tr->from; i < tr->to; i++)
        disk[i] =
            tr->log.v[i].kind == STORE_DISK && !tr->mine[i] && is_disk_of_vm(tr, &tr->log.v[i]);
    for (size_t i = tr->from; i < tr->to; i++) {
        for (size_t k = tr->from; k < tr->to && disk[i]; k++)
            if (tr->log.v[k].kind == STORE_DISK && strcmp(tr->log.v[k].id, tr->log.v[i].id) == 0)
                tr->mine[k] = true;
    }
}

static void choose_entries(struct trace *tr, struct arena *a)
{
    tr->mine = ARENA_ARRAY(a, bool, tr->log.n + 1);
    for (size_t i = tr->from; i < tr->to; i++)
        tr->mine[i] = is_object(tr, &tr->log.v[i]) || is_related(tr, &tr->log.v[i]);
    if (tr->kind == STORE_CONTAINER)
        choose_disks(tr, a);
}

/* --- trace: telling it ---------------------------------------------------------------------------
 */
static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static void print_step(const struct store_entry *e, int64_t first, int64_t before)
{
    AUTO_BUF struct buf text = {0}, who = {0};
    dump_entry_text(e, &text);
    buf_addf(&who, "%s " SV_FMT, store_kind_name(e->kind), SV_ARG(dump_short(e->id)));
    printf("%10.1f %+9.1f  %-9s %-22s %s\n", ms(e->time_ns - first), ms(e->time_ns - before),
           e->actor, buf_str(&who), buf_str(&text));
}

/* Prints the steps and then the one that was waited for longest. */
static void tell(const struct trace *tr)
{
    const struct store_entry *first = NULL, *before = NULL, *longest = NULL;
    int64_t most = 0;
    printf("%10s %9s  %-9s %-22s %s\n", "ms", "since", "actor", "object", "change");
    for (size_t i = tr->from; i < tr->to; i++) {
        const struct store_entry *e = &tr->log.v[i];
        if (!tr->mine[i])
            continue;
        first = first ? first : e;
        before = before ? before : e;
        print_step(e, first->time_ns, before->time_ns);
        if (e->time_ns - before->time_ns > most) {
            most = e->time_ns - before->time_ns;
            longest = e;
        }
        before = e;
    }
    if (!longest)
        return;
    AUTO_BUF struct buf text = {0};
    dump_entry_text(longest, &text);
    printf("%.1f ms in all; the longest wait was %.1f ms, for: %s " SV_FMT " %s\n",
           ms(before->time_ns - first->time_ns), ms(most), store_kind_name(longest->kind),
           SV_ARG(dump_short(longest->id)), buf_str(&text));
}

/* The object that the text means, of whatever kind has it; containers first. */
static bool find_object(struct store_txn *t, struct trace *tr, const char *text, struct arena *a,
                        struct vic_err *err)
{
    for (tr->kind = STORE_CONTAINER; tr->kind < STORE_KINDS; tr->kind++) {
        struct vic_err local = {0};
        if (find_id(t, tr->kind, text, &tr->log, a, &tr->id, &local))
            return true;
        if (local.code != VIC_NOT_FOUND) {
            if (err)
                *err = local;
            return false;
        }
    }
    return vic_fail(err, VIC_NOT_FOUND, 0, "neither the records nor the log know %s", text);
}

int dump_trace(void *ctx, void *opts, struct opt_strs args)
{
    AUTO_ARENA struct arena a = {0};
    struct vic_err err = {0};
    struct trace tr = {0};
    struct store *s = dump_open(opts, false, &err);
    struct store_txn *t = s ? store_read(s, &err) : NULL;
    bool ok = t && dump_read_log(t, 0, &a, &tr.log, &err) &&
              find_object(t, &tr, args.v[0], &a, &err) && choose_span(&tr, opts, &err);
    (void)ctx;
    if (ok) {
        choose_entries(&tr, &a);
        tell(&tr);
    }
    store_read_end(t);
    store_close(s);
    return ok ? 0 : dump_fail(&err);
}
