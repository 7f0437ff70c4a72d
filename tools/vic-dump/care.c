/* verify and docs. */
#include <stdio.h>

#include "base/mem.h"

#include "dump.h"

static void print_problem(void *arg, const char *text)
{
    ++*(size_t *)arg;
    printf("%s\n", text);
}

int dump_verify(void *ctx, void *opts, struct opt_strs args)
{
    const struct dump_opts *o = opts;
    struct vic_err err = {0};
    struct store_stats st;
    size_t problems = 0;
    struct store *s = dump_open(o, o->repair, &err);
    (void)ctx;
    (void)args;
    if (!s)
        return dump_fail(&err);
    store_stats(s, &st);
    bool ok = store_verify(s, o->repair, print_problem, &problems, &err);
    store_close(s);
    if (!ok)
        return dump_fail(&err);
    if (problems && o->repair)
        printf("%zu problems; the indexes were rebuilt\n", problems);
    else if (problems)
        printf("%zu problems\n", problems);
    else
        printf("no problem at revision %llu\n", (unsigned long long)st.revision);
    return problems && !o->repair;
}

/* --- docs ----------------------------------------------------------------------------------------
 */
static const char *const kinds[] = {
    [STORE_STR] = "string",    [STORE_BOOL] = "bool", [STORE_I32] = "i32",
    [STORE_U32] = "u32",       [STORE_I64] = "i64",   [STORE_U64] = "u64",
    [STORE_TIME] = "time",     [STORE_ENUM] = "enum", [STORE_BYTES] = "bytes",
    [STORE_STRS] = "strings",  [STORE_MAP] = "map",   [STORE_OBJ] = "",
    [STORE_LIST] = "list of ",
};

static void add_cell(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|' || *text == '<')
            buf_add_c(out, '\\');
        buf_add_c(out, *text);
    }
}

static void add_field(struct buf *out, const struct store_field *f)
{
    buf_addf(out, "| %u | %s | %s | %s", f->number, f->name, f->json, kinds[f->kind]);
    if (f->rec)
        buf_addf(out, "[%s](#%s)", f->rec()->name, f->rec()->name);
    for (unsigned v = 0; f->enum_text && f->enum_text(v); v++)
        buf_addf(out, "%s %s", v ? "," : ":", f->enum_text(v));
    buf_addf(out, " | %u | %s", f->since, f->flags & STORE_F_SECRET ? "sealed. " : "");
    add_cell(out, f->meaning);
    buf_add_str(out, " |\n");
}

static void add_record(struct buf *out, const struct store_rec *rec)
{
    buf_addf(out,
             "\n## %s\n%s.\n\n| no | field | JSON | type | since | meaning |\n"
             "|---|---|---|---|---|---|\n",
             rec->name, rec->meaning);
    for (size_t i = 0; i < rec->count; i++)
        add_field(out, &rec->fields[i]);
}

int dump_docs(void *ctx, void *opts, struct opt_strs args)
{
    AUTO_BUF struct buf out = {0};
    (void)ctx, (void)opts, (void)args;
    buf_add_str(&out, "# Records\n"
                      "What the store keeps, made from `store/record.def` by `vic-dump docs`.\n"
                      "Objects of their own are:");
    for (enum store_kind k = 1; k < STORE_KINDS; k++)
        buf_addf(&out, " [%s](#%s)", store_kind_name(k), store_kind_name(k));
    buf_add_str(&out, "; the others are parts of them.\n"
                      "A field's number is its name in the binary format and is never reused.\n");
#define REC(name, meaning) add_record(&out, store_rec_##name());
#define F(...)
#define END(name)
#include "store/record.def"
#undef REC
#undef F
#undef END
    return fwrite(out.data, 1, out.len, stdout) == out.len && fflush(stdout) == 0 ? 0 : 1;
}
