/* dump and diff: records as JSON, and two stores side by side. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

#include "dump.h"

/* --- JSON for people -----------------------------------------------------------------------------
 */
static void indent(struct buf *out, unsigned depth)
{
    buf_addf(out, "\n%*s", (int)depth * 2, "");
}

/* Spreads compact JSON over lines; strings are left alone. */
static void pretty(struct sv text, struct buf *out)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i], next = i + 1 < text.len ? text.p[i + 1] : '\0';
        bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
        bool empty = opens && (next == '}' || next == ']');
        if (quoted) {
            buf_add_c(out, c);
            if (c == '\\' && i + 1 < text.len)
                buf_add_c(out, text.p[++i]);
            quoted = c != '"';
            continue;
        }
        quoted = c == '"';
        if (closes && text.p[i - 1] != '{' && text.p[i - 1] != '[')
            indent(out, --depth);
        buf_add_c(out, c);
        if (c == ',' || (opens && !empty))
            indent(out, opens ? ++depth : depth);
        else if (c == ':')
            buf_add_c(out, ' ');
    }
}

static int print_json(const struct dump_opts *o, const struct buf *json)
{
    AUTO_BUF struct buf spread = {0};
    if (!o->compact)
        pretty(buf_sv(json), &spread);
    const struct buf *out = o->compact ? json : &spread;
    bool ok = !out->failed && fwrite(out->data, 1, out->len, stdout) == out->len;
    return ok && putchar('\n') != EOF && fflush(stdout) == 0 ? 0 : 1;
}

struct writing {
    const struct store_rec *rec;
    struct json_writer *w;
};

static bool write_one(void *arg, const void *record)
{
    struct writing *x = arg;
    store_to_json(x->rec, record, true, x->w, NULL);
    return true;
}

static bool write_kind(struct store_txn *t, enum store_kind kind, struct json_writer *w,
                       const char *key, struct vic_err *err)
{
    struct writing x = {store_kind_rec(kind), w};
    json_open(w, key, '[');
    if (!store_list(t, kind, "", NULL, write_one, &x, err))
        return false;
    json_close(w, ']');
    return true;
}

static bool write_all(struct store *s, struct store_txn *t, struct json_writer *w,
                      struct vic_err *err)
{
    struct store_stats st;
    store_stats(s, &st);
    json_open(w, NULL, '{');
    json_open(w, "store", '{');
    json_add_str(w, "Id", store_id(s));
    json_add_u64(w, "Epoch", store_epoch(s));
    json_add_u64(w, "Revision", store_revision(t));
    json_add_u64(w, "LogEntries", st.log_entries);
    json_add_u64(w, "FileBytes", st.file_bytes);
    json_close(w, '}');
    for (enum store_kind k = 1; k < STORE_KINDS; k++)
        if (!write_kind(t, k, w, store_kind_name(k), err))
            return false;
    json_close(w, '}');
    return true;
}

static bool write_wanted(struct store *s, struct store_txn *t, struct opt_strs args,
                         struct json_writer *w, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    enum store_kind kind;
    const char *id;
    if (!args.n)
        return write_all(s, t, w, err);
    if (!dump_kind(args.v[0], &kind, err))
        return false;
    if (args.n == 1)
        return write_kind(t, kind, w, NULL, err);
    void *record = arena_alloc(&a, store_kind_rec(kind)->size);
    if (!dump_resolve(t, kind, args.v[1], &a, &id, err) || !store_get(t, kind, id, &a, record, err))
        return false;
    store_to_json(store_kind_rec(kind), record, true, w, NULL);
    return true;
}

int dump_dump(void *ctx, void *opts, struct opt_strs args)
{
    const struct dump_opts *o = opts;
    struct vic_err err = {0};
    AUTO_BUF struct buf json = {0};
    struct json_writer w = json_writer(&json);
    struct store *s = dump_open(o, false, &err);
    (void)ctx;
    if (!s)
        return dump_fail(&err);
    struct store_txn *t = store_read(s, &err);
    bool ok = t && write_wanted(s, t, args, &w, &err);
    store_read_end(t);
    store_close(s);
    return ok ? print_json(o, &json) : dump_fail(&err);
}

/* --- diff ----------------------------------------------------------------------------------------
 */
/* Each record of A is looked up in B, then each of B in A for those that only B has. */
struct diffing {
    struct store_txn *other;
    enum store_kind kind;
    char sign; /* '-': records of A, compared with B; '+': of B, only what A lacks */
    bool all, differs, failed;
    struct buf values; /* of the record at hand */
    struct vic_err err;
};

static bool collect_value(void *arg, const char *path, const char *before, const char *after)
{
    struct diffing *d = arg;
    if (d->all || strcmp(path, "Meta.Revision") != 0)
        buf_addf(&d->values, "    %s: \"%s\" -> \"%s\"\n", path, before, after);
    return true;
}

static void print_record(struct diffing *d, char sign, const void *record)
{
    const struct store_meta *m = record;
    printf("%c %s %s%s%s%s\n", sign, store_kind_name(d->kind), m->id, *m->name ? " " : "", m->name,
           m->deleted ? " (tombstone)" : "");
    fputs(buf_str(&d->values), stdout);
    d->differs = true;
}

static bool diff_one(void *arg, const void *record)
{
    struct diffing *d = arg;
    AUTO_ARENA struct arena a = {0};
    const struct store_rec *rec = store_kind_rec(d->kind);
    const struct store_meta *m = record;
    void *other = arena_alloc(&a, rec->size);
    struct vic_err err = {0};
    buf_reset(&d->values);
    if (store_get(d->other, d->kind, m->id, &a, other, &err)) {
        if (d->sign == '+')
            return true; /* told when A was read */
        store_diff(rec, record, other, collect_value, d);
        if (d->values.len)
            print_record(d, '~', other);
        return true;
    }
    if (err.code == VIC_NOT_FOUND) {
        print_record(d, d->sign, record);
    } else if (d->sign == '-') {
        printf("! %s %s: %s\n", store_kind_name(d->kind), m->id, err.msg);
        d->differs = true;
    }
    return true;
}

static bool diff_stores(struct store_txn *a, struct store_txn *b, bool all, bool *differs,
                        struct vic_err *err)
{
    struct diffing d = {.all = all};
    bool ok = true;
    for (d.kind = 1; ok && d.kind < STORE_KINDS; d.kind++) {
        d.sign = '-';
        d.other = b;
        ok = store_list(a, d.kind, "", NULL, diff_one, &d, err);
        d.sign = '+';
        d.other = a;
        ok = ok && store_list(b, d.kind, "", NULL, diff_one, &d, err);
    }
    buf_fini(&d.values);
    *differs = d.differs;
    return ok;
}

/* LMDB must not open a store twice in one process. */
static bool check_two(const char *a, const char *b, struct vic_err *err)
{
    struct stat x, y;
    if (stat(a, &x) != 0 || stat(b, &y) != 0 || x.st_dev != y.st_dev || x.st_ino != y.st_ino)
        return true; /* what is not there is told by opening it */
    return vic_fail(err, VIC_INVALID, 0, "%s and %s are the same store", a, b);
}

int dump_diff(void *ctx, void *opts, struct opt_strs args)
{
    const struct dump_opts *o = opts;
    struct vic_err err = {0};
    struct dump_opts of_a = {.store = args.v[0]}, of_b = {.store = args.v[1]};
    if (!check_two(args.v[0], args.v[1], &err))
        return dump_fail(&err);
    struct store *a = dump_open(&of_a, false, &err), *b = a ? dump_open(&of_b, false, &err) : NULL;
    struct store_txn *x = b ? store_read(a, &err) : NULL, *y = x ? store_read(b, &err) : NULL;
    bool differs = false, ok = y && diff_stores(x, y, o->all, &differs, &err);
    (void)ctx;
    store_read_end(x);
    store_read_end(y);
    store_close(a);
    store_close(b);
    return ok ? differs : dump_fail(&err);
}
