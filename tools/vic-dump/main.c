/* The table of vic-dump's commands, and what they share. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"

#include "dump.h"

#define OPT(text, k, f, ...)                                                                       \
    {                                                                                              \
        .name = text, .kind = k, .offset = offsetof(struct dump_opts, f), __VA_ARGS__              \
    }
#define OPT_STORE                                                                                  \
    OPT("store", OPT_STR, store, .arg = "DIR", .letter = 's', .env = "VIC_STORE",                  \
        .required = true, .help = "folder of the store, or of a backup")
#define OPT_KEY                                                                                    \
    OPT("key-file", OPT_STR, key_file, .arg = "FILE",                                              \
        .help = "the VCH's secret, 64 hex digits; checks that it fits the store")

static const struct opt_def dump_options[] = {
    OPT_STORE,
    OPT_KEY,
    OPT("compact", OPT_FLAG, compact, .help = "one line instead of indented JSON"),
};
static const struct opt_def diff_options[] = {
    OPT("all", OPT_FLAG, all, .help = "tell revisions that differ without another change too"),
};
static const struct opt_def history_options[] = {
    OPT_STORE,
    OPT_KEY,
    OPT("since", OPT_INT, since, .arg = "REVISION", .min = 0, .max = INT64_MAX,
        .help = "only what came after this revision"),
};
static const struct opt_def trace_options[] = {
    OPT_STORE,
    OPT_KEY,
    OPT("run", OPT_INT, run, .arg = "N", .min = 1, .max = INT64_MAX,
        .help = "the run to tell of; without it the newest"),
    OPT("all", OPT_FLAG, all, .help = "everything that the log has, not one run"),
};
static const struct opt_def verify_options[] = {
    OPT_STORE,
    OPT_KEY,
    OPT("repair", OPT_FLAG, repair,
        .help = "rebuild the indexes; needs --key-file and a stopped engine"),
};

#define COMMAND(text, arguments, least, most, options, function, line, more)                       \
    {                                                                                              \
        .name = text, .args = arguments, .min_args = least, .max_args = most,                      \
        .size = sizeof(struct dump_opts), .opts = options,                                         \
        .opt_count = sizeof(options) / sizeof(struct opt_def), .help = line, .details = more,      \
        .run = function                                                                            \
    }
static const struct opt_command commands[] = {
    COMMAND("dump", "[KIND [ID]]", 0, 2, dump_options, dump_dump, "print records as JSON",
            "KIND is container, image, tag, layer, disk, vm or vch; ID is an id, the beginning of "
            "one, or a name. Secret fields are left out."),
    COMMAND("diff", "A B", 2, 2, diff_options, dump_diff, "compare two stores or backups",
            "Prints a line for each record that is only in A (-), only in B (+) or in both and "
            "different (~), and for these each value that differs. Exits with 1 when the stores "
            "differ."),
    COMMAND("history", "[KIND ID]", 0, 2, history_options, dump_history,
            "print the change log: who changed what, when, to what",
            "The log reaches back 100,000 changes or 7 days."),
    COMMAND("trace", "ID", 1, 1, trace_options, dump_trace,
            "show where the time of a start, a stop or another piece of work went",
            "ID is a container's, an image's, a layer's, a disk's or a vm's. Each line is one "
            "change of the object, or of another that belongs to the work, with the milliseconds "
            "since the first and since the line before."),
    COMMAND("verify", "", 0, 0, verify_options, dump_verify,
            "check every record, index and reference",
            "Exits with 1 when there is a problem. Repair changes no record: a damaged one stays "
            "out of use, its name reserved."),
    {.name = "docs",
     .args = "",
     .size = sizeof(struct dump_opts),
     .help = "print the reference of all records, as Markdown",
     .run = dump_docs},
};

static const struct opt_program program = {
    .name = "vic-dump",
    .help = "Read the store of a vSphere Integrated Containers Engine, live or backed up",
    .version = VIC_VERSION,
    .commands = commands,
    .count = ARRAY_LEN(commands),
};

int main(int argc, char **argv)
{
    return opt_main(&program, argc, argv, NULL);
}

/* --- shared --------------------------------------------------------------------------------------
 */
int dump_fail(const struct vic_err *err)
{
    fflush(stdout);
    fprintf(stderr, "vic-dump: %s\n", err->msg);
    return vic_code_exit(err->code);
}

static bool read_secret(const char *path, unsigned char secret[32], struct vic_err *err)
{
    char text[80];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n < 0)
        return vic_fail_errno(err, "read the key file %s", path);
    struct sv hex = sv_trim(sv_make(text, (size_t)n));
    bool ok = hex.len == 64 && hex_decode(hex, secret);
    explicit_bzero(text, sizeof text);
    return ok || vic_fail(err, VIC_INVALID, 0, "%s is not 64 hex digits", path);
}

struct store *dump_open(const struct dump_opts *o, bool write, struct vic_err *err)
{
    unsigned char secret[32];
    struct store_options so = {.dir = o->store, .read_only = !write};
    if (write && !o->key_file) {
        vic_fail(err, VIC_INVALID, 0, "--repair needs --key-file");
        return NULL;
    }
    if (o->key_file) {
        if (!read_secret(o->key_file, secret, err))
            return NULL;
        so.secret = secret;
    }
    struct store *s = store_open(&so, err);
    explicit_bzero(secret, sizeof secret);
    return s;
}

bool dump_kind(const char *name, enum store_kind *out, struct vic_err *err)
{
    for (enum store_kind k = 1; k < STORE_KINDS; k++)
        if (strcmp(store_kind_name(k), name) == 0) {
            *out = k;
            return true;
        }
    return vic_fail(err, VIC_INVALID, 0,
                    "no kind of record is called %s: container, image, tag, layer, disk, vm, vch",
                    name);
}

bool dump_resolve(struct store_txn *t, enum store_kind kind, const char *text, struct arena *a,
                  const char **id, struct vic_err *err)
{
    void *record = arena_alloc(a, store_kind_rec(kind)->size);
    struct vic_err local = {0};
    *id = text;
    if (store_get(t, kind, text, a, record, &local) || local.code == VIC_CORRUPT)
        return true; /* an id, of a tombstone too */
    return store_find_name(t, kind, text, a, id, &local) ||
           store_find_prefix(t, kind, text, a, id, err);
}

struct sv dump_short(const char *id)
{
    struct sv s = sv_of(id), hex = SV("sha256:");
    if (sv_starts(s, hex))
        return sv_sub(s, hex.len, 12);
    return s.len >= 32 ? sv_sub(s, 0, 12) : s;
}
