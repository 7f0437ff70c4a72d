/* What is made from a table of options besides the parser: --help, the man page (scdoc, format of
 * scdoc(5)) and bash completion.  Hidden options are in none of them. */
#include <ctype.h>

#include "mem.h"
#include "opt.h"

enum { WIDTH = 80, MAX_LABEL = 30 };

/* Calls 'each' for every visible option: the command's (c may be NULL), then the globals. */
static void each_option(const struct opt_program *p, const struct opt_command *c,
                        void (*each)(void *arg, const struct opt_def *def), void *arg)
{
    for (size_t i = 0; c && i < c->opt_count; i++)
        if (!c->opts[i].hidden)
            each(arg, &c->opts[i]);
    for (size_t i = 0; i < p->global_count; i++)
        if (!p->globals[i].hidden)
            each(arg, &p->globals[i]);
}

static const char *value_name(const struct opt_def *def)
{
    static const char *const names[] = {
        [OPT_FLAG] = NULL,    [OPT_STR] = "TEXT",    [OPT_STRS] = "TEXT", [OPT_INT] = "N",
        [OPT_BYTES] = "SIZE", [OPT_MILLIS] = "TIME", [OPT_ENUM] = NULL,
    };
    if (def->kind == OPT_ENUM)
        return def->arg ? def->arg : def->choices;
    return def->arg && def->kind != OPT_FLAG ? def->arg : names[def->kind];
}

/* " (required, may repeat, default 5, environment X)" or nothing. */
static void add_notes(struct buf *out, const struct opt_def *def)
{
    AUTO_BUF struct buf notes = {0};
    if (def->required)
        buf_add_str(&notes, ", required");
    if (def->kind == OPT_STRS)
        buf_add_str(&notes, ", may repeat");
    if (def->kind == OPT_ENUM && def->arg)
        buf_addf(&notes, ", one of %s", def->choices);
    if (def->fallback && *def->fallback && !def->secret && def->kind != OPT_FLAG)
        buf_addf(&notes, ", default %s", def->fallback);
    if (def->env)
        buf_addf(&notes, ", environment %s", def->env);
    if (notes.len)
        buf_addf(out, " (%s)", notes.data + 2);
}

/* ---- help ---- */

/* A label and its text, the text folded into its column. */
static void add_row(struct buf *out, struct sv label, size_t column, struct sv text)
{
    buf_addf(out, "  " SV_FMT, SV_ARG(label));
    size_t at = label.len + 2;
    if (at + 2 > column) {
        buf_addf(out, "\n%*s", (int)column, "");
        at = column;
    }
    buf_addf(out, "%*s", (int)(column - at), "");
    at = column;
    while (text.len) {
        struct sv word = sv_cut(&text, ' ');
        if (at > column && at + 1 + word.len > WIDTH) {
            buf_addf(out, "\n%*s", (int)column, "");
            at = column;
        }
        buf_addf(out, "%s" SV_FMT, at > column ? " " : "", SV_ARG(word));
        at += word.len + (at > column);
    }
    buf_add_c(out, '\n');
}

static void add_label(struct buf *out, const struct opt_def *def)
{
    if (def->letter)
        buf_addf(out, "-%c, ", def->letter);
    else
        buf_add_str(out, "    ");
    buf_addf(out, "--%s", def->name);
    if (value_name(def))
        buf_addf(out, " %s", value_name(def));
}

static void widen(void *arg, const struct opt_def *def)
{
    size_t *column = arg;
    AUTO_BUF struct buf label = {0};
    add_label(&label, def);
    if (label.len <= MAX_LABEL && label.len + 4 > *column)
        *column = label.len + 4;
}

struct help {
    struct buf *out;
    size_t column;
};

static void help_option(void *arg, const struct opt_def *def)
{
    struct help *h = arg;
    AUTO_BUF struct buf label = {0}, text = {0};
    add_label(&label, def);
    buf_add_str(&text, def->help ? def->help : "");
    add_notes(&text, def);
    add_row(h->out, buf_sv(&label), h->column, buf_sv(&text));
}

static void help_commands(const struct opt_program *p, struct buf *out)
{
    size_t column = 0;
    for (size_t i = 0; i < p->count; i++)
        if (strlen(p->commands[i].name) + 4 > column)
            column = strlen(p->commands[i].name) + 4;
    buf_add_str(out, "\nCommands:\n");
    for (size_t i = 0; i < p->count; i++)
        add_row(out, sv_of(p->commands[i].name), column, sv_of(p->commands[i].help));
}

void opt_help(const struct opt_program *p, const struct opt_command *c, struct buf *out)
{
    bool all = !c && opt_has_commands(p);
    if (!c && !all)
        c = &p->commands[0];
    buf_addf(out, "Usage: %s", p->name);
    if (all)
        buf_add_str(out, " COMMAND");
    else if (c->name)
        buf_addf(out, " %s", c->name);
    buf_add_str(out, " [OPTIONS]");
    if (!all && c->args && *c->args)
        buf_addf(out, " %s", c->args);
    const char *what = !all && c->help ? c->help : p->help;
    buf_addf(out, "\n\n%s\n", what ? what : "");
    if (all)
        help_commands(p, out);
    struct help h = {out, strlen("    --version") + 4};
    each_option(p, c, widen, &h.column);
    buf_add_str(out, "\nOptions:\n");
    each_option(p, c, help_option, &h);
    add_row(out, SV("    --help"), h.column, SV("print this and exit"));
    add_row(out, SV("    --version"), h.column, SV("print the version and exit"));
    if (all)
        buf_addf(out, "\n'%s COMMAND --help' says more about a command.\n", p->name);
}

/* ---- man page ---- */

/* Text of ours, with scdoc's own characters made plain. */
static void add_scdoc(struct buf *out, const char *text)
{
    for (const char *p = text; p && *p; p++) {
        if (strchr("\\*_+[]<>#|~`", *p) || (*p == '.' && p == text))
            buf_add_c(out, '\\');
        buf_add_c(out, *p);
    }
}

static void man_option(void *arg, const struct opt_def *def)
{
    struct buf *out = arg;
    AUTO_BUF struct buf text = {0};
    if (def->letter)
        buf_addf(out, "*-%c*, ", def->letter);
    buf_add_str(out, "*--");
    add_scdoc(out, def->name);
    buf_add_c(out, '*');
    if (value_name(def)) {
        buf_add_str(out, " _");
        add_scdoc(out, value_name(def));
        buf_add_c(out, '_');
    }
    buf_add_str(&text, def->help ? def->help : "");
    add_notes(&text, def);
    buf_add_str(out, "\n\t");
    add_scdoc(out, buf_str(&text));
    buf_add_str(out, ".\n\n");
}

static void man_command(const struct opt_program *p, const struct opt_command *c, struct buf *out)
{
    static const struct opt_program no_globals = {0};
    if (c->name) {
        buf_add_str(out, "## ");
        add_scdoc(out, c->name);
        buf_addf(out, "\n\n*%s %s* [OPTIONS] ", p->name, c->name);
        add_scdoc(out, c->args);
        buf_add_str(out, "\n\n");
        add_scdoc(out, c->help);
        buf_add_str(out, ".\n\n");
    }
    if (c->details)
        buf_addf(out, "%s\n\n", c->details);
    each_option(&no_globals, c, man_option, out);
}

static void man_environment(void *arg, const struct opt_def *def)
{
    struct buf *out = arg;
    if (!def->env)
        return;
    buf_add_c(out, '*');
    add_scdoc(out, def->env);
    buf_add_str(out, "*\n\tDefault of *--");
    add_scdoc(out, def->name);
    buf_add_str(out, "*.\n\n");
}

void opt_man(const struct opt_program *p, struct buf *out)
{
    bool many = opt_has_commands(p);
    buf_addf(out, "%s(1)\n\n# NAME\n\n%s - ", p->name, p->name);
    add_scdoc(out, p->help);
    buf_addf(out, "\n\n# SYNOPSIS\n\n*%s* %s[OPTIONS] ", p->name, many ? "_COMMAND_ " : "");
    add_scdoc(out, many ? "[ARGUMENTS]" : p->commands[0].args);
    buf_addf(out, "\n\n# %s\n\n", many ? "COMMANDS" : "OPTIONS");
    for (size_t i = 0; i < p->count; i++)
        man_command(p, &p->commands[i], out);
    if (many)
        buf_add_str(out, "# OPTIONS OF ALL COMMANDS\n\n");
    each_option(p, NULL, man_option, out);
    buf_add_str(out, "*--help*\n\tPrint help and exit.\n\n*--version*\n\tPrint the version and "
                     "exit.\n\n");
    AUTO_BUF struct buf env = {0};
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = 0; k < p->commands[i].opt_count; k++)
            man_environment(&env, &p->commands[i].opts[k]);
    each_option(p, NULL, man_environment, &env);
    if (env.len)
        buf_addf(out, "# ENVIRONMENT\n\n%s", env.data);
    buf_add_str(out, "# EXIT STATUS\n\n");
    for (int code = 0; code < VIC_CODES; code++) {
        buf_addf(out, "%d\t", vic_code_exit((enum vic_code)code));
        add_scdoc(out, vic_code_meaning((enum vic_code)code));
        buf_add_str(out, "++\n");
    }
}

/* ---- completion ---- */

static void add_long(void *arg, const struct opt_def *def)
{
    buf_addf(arg, " --%s", def->name);
}

static void add_choices(void *arg, const struct opt_def *def)
{
    if (def->kind != OPT_ENUM)
        return;
    buf_addf(arg, "    --%s) words=\"", def->name);
    for (const char *p = def->choices; *p; p++)
        buf_add_c(arg, *p == '|' ? ' ' : *p);
    buf_add_str(arg, "\" ;;\n");
}

/* One row of the case over commands: its words, and the choices of its options. */
static void complete_command(const struct opt_program *p, const struct opt_command *c,
                             struct buf *out)
{
    AUTO_BUF struct buf choices = {0};
    each_option(p, c, add_choices, &choices);
    buf_addf(out, "  %s) words=\"", c && c->name ? c->name : "*");
    if (!c)
        for (size_t i = 0; i < p->count; i++)
            buf_addf(out, "%s ", p->commands[i].name);
    buf_add_str(out, "--help --version");
    each_option(p, c, add_long, out);
    buf_addf(out, "\"\n    case $prev in\n%s    esac ;;\n", buf_str(&choices));
}

void opt_completion(const struct opt_program *p, struct buf *out)
{
    AUTO_BUF struct buf name = {0};
    for (const char *c = p->name; *c; c++)
        buf_add_c(&name, isalnum((unsigned char)*c) ? *c : '_');
    buf_addf(out, "# bash completion for %s\n_%s()\n{\n", p->name, buf_str(&name));
    buf_add_str(out, "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                     "  local words= command= i\n"
                     "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
                     "    case ${COMP_WORDS[i]} in\n    ");
    for (size_t i = 0; opt_has_commands(p) && i < p->count; i++)
        buf_addf(out, "%s|", p->commands[i].name);
    buf_add_str(out, "'') command=${COMP_WORDS[i]}; break ;;\n    esac\n  done\n"
                     "  case $command in\n");
    for (size_t i = 0; opt_has_commands(p) && i < p->count; i++)
        complete_command(p, &p->commands[i], out);
    complete_command(p, opt_has_commands(p) ? NULL : &p->commands[0], out);
    buf_addf(out,
             "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
             "complete -o default -F _%s %s\n",
             buf_str(&name), p->name);
}
