/* Command lines as tables.
 *
 * A program is a table of commands, a command is a table of options; parser, --help, man page
 * (scdoc) and shell completion are all made from it.  Usage errors fail with VIC_INVALID (exit 2)
 * and name the option and what it takes.  Long options take "--name value" and "--name=value",
 * unambiguous prefixes are not accepted; short ones "-n value", "-nvalue" and bundles of flags;
 * "--" ends options; options may stand behind arguments; of an option given twice the last counts.
 * An environment variable named by an option is its default (of an OPT_STRS: values with commas
 * between, as in 'fallback'; the first one on the command line replaces them).
 * --help and --version exist everywhere; --print-man and --print-completion, for the build. */
#ifndef VIC_BASE_OPT_H
#define VIC_BASE_OPT_H

#include "arena.h"
#include "buf.h"

enum opt_kind {
    OPT_FLAG,   /* bool; also --name=false */
    OPT_STR,    /* const char * */
    OPT_STRS,   /* struct opt_strs; may repeat */
    OPT_INT,    /* int64_t, range min..max when max > min */
    OPT_BYTES,  /* int64_t, "512m", "1.5g", "2gb" as docker: b, k, m, g, t, p; plain = bytes */
    OPT_MILLIS, /* int64_t milliseconds, "10s", "3m0s", "1.5h", "50ms", plain = seconds */
    OPT_ENUM,   /* const char *, one of 'choices' */
};

struct opt_strs {
    const char **v;
    size_t n;
};

struct opt_def {
    const char *name; /* long name without dashes */
    char letter;      /* short form or 0 */
    enum opt_kind kind;
    size_t offset;        /* of the field in the command's struct */
    const char *arg;      /* name of the value in help: "DIR" */
    const char *env;      /* environment variable, or NULL */
    const char *fallback; /* default as text, parsed like an argument; or NULL */
    const char *choices;  /* OPT_ENUM: "a|b|c" */
    int64_t min, max;     /* of the numbers, in the field's unit; no limit unless max > min */
    bool required, hidden, secret; /* secret: the value is never printed */
    const char *help;              /* one line, lower case, no full stop */
};

struct opt_command {
    const char *name;            /* "create"; NULL for a program without sub-commands */
    const char *args;            /* positional arguments in help: "NAME..." or "" */
    unsigned min_args, max_args; /* max 0 with min 0: none; UINT_MAX: any */
    size_t size;                 /* of the command's struct */
    const struct opt_def *opts;
    size_t opt_count;
    const char *help;    /* one line */
    const char *details; /* paragraphs for the man page, as scdoc source, or NULL */
    int (*run)(void *ctx, void *opts, struct opt_strs args); /* returns the exit status */
};

struct opt_program {
    const char *name, *help, *version;
    const struct opt_command *commands;
    size_t count;
    const struct opt_def *globals; /* options before or after the command; or NULL */
    size_t global_count;
    size_t global_offset; /* where the globals' struct lies in each command's struct */
};

/* Parses and runs.  Prints help to stdout, usage errors to stderr.  Returns the exit status. */
int opt_main(const struct opt_program *p, int argc, char **argv, void *ctx);

/* Parses one command's line (argv without the command's name) into '*opts' (c->size bytes, zeroed
 * first).  Texts and lists live in the arena or in argv. */
VIC_CHECK bool opt_parse(const struct opt_program *p, const struct opt_command *c, int argc,
                         char **argv, struct arena *a, void *opts, struct opt_strs *args,
                         struct vic_err *err);

/* c NULL: of the program, with its list of commands. */
void opt_help(const struct opt_program *p, const struct opt_command *c, struct buf *out);
void opt_man(const struct opt_program *p, struct buf *out);        /* scdoc source */
void opt_completion(const struct opt_program *p, struct buf *out); /* bash */

/* Whether the program has sub-commands. */
bool opt_has_commands(const struct opt_program *p);

/* The value parsers, for others that read the same syntax.  Not negative, no overflow. */
bool opt_parse_bytes(struct sv text, int64_t *out);
bool opt_parse_millis(struct sv text, int64_t *out);

#endif
