/* Command lines: see opt.h.
 *
 * One pass over the words fills the command's struct through the table's offsets.  Each option has
 * a state, so that a default (the table's, then the environment's) gives way to what the line says
 * and a required option without any of them is named.  opt_main finds the command first and hands
 * the words around it to the same pass, so a global option may stand on either side. */
#include "opt.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "mem.h"

enum state { UNSET, DEFAULTED, GIVEN };

/* What a line asks for instead of running the command. */
enum asks { ASKS_NOTHING, ASKS_HELP, ASKS_VERSION, ASKS_MAN, ASKS_COMPLETION };

struct parser {
    const struct opt_program *p;
    const struct opt_command *c;
    struct arena *a;
    char *opts;
    unsigned char *states; /* enum state of each option: the command's, then the globals */
    struct opt_strs *args;
    struct vic_err *err;
    enum asks asks;
};

/* One option of the table in use. */
struct slot {
    const struct opt_def *def;
    void *field;
    unsigned char *state;
};

bool opt_has_commands(const struct opt_program *p)
{
    return p->count && p->commands[0].name;
}

static size_t slot_count(const struct parser *ps)
{
    return ps->c->opt_count + ps->p->global_count;
}

static struct slot slot_at(const struct parser *ps, size_t i)
{
    bool global = i >= ps->c->opt_count;
    const struct opt_def *def = global ? &ps->p->globals[i - ps->c->opt_count] : &ps->c->opts[i];
    size_t offset = def->offset + (global ? ps->p->global_offset : 0);
    return (struct slot){def, ps->opts + offset, &ps->states[i]};
}

/* ---- values ---- */

/* A decimal with at most nine digits behind the point, in billionths. */
static bool take_decimal(struct sv *s, unsigned __int128 *billionths)
{
    size_t digits = 0;
    while (digits < s->len && s->p[digits] >= '0' && s->p[digits] <= '9')
        digits++;
    uint64_t whole, part = 0, scale = 1000000000;
    if (!sv_to_u64(sv_sub(*s, 0, digits), &whole))
        return false;
    *s = sv_sub(*s, digits, s->len);
    if (s->len && s->p[0] == '.') {
        *s = sv_sub(*s, 1, s->len);
        if (!s->len || s->p[0] < '0' || s->p[0] > '9')
            return false;
        for (; s->len && s->p[0] >= '0' && s->p[0] <= '9'; *s = sv_sub(*s, 1, s->len)) {
            scale /= 10;
            part += (uint64_t)(s->p[0] - '0') * scale;
        }
    }
    *billionths = (unsigned __int128)whole * 1000000000 + part;
    return true;
}

/* value += billionths * unit, when that fits. */
static bool add_scaled(unsigned __int128 billionths, int64_t unit, int64_t *value)
{
    if (billionths / 1000000000 > (uint64_t)(INT64_MAX / unit))
        return false;
    unsigned __int128 n = billionths * (uint64_t)unit / 1000000000 + (uint64_t)*value;
    if (n > (uint64_t)INT64_MAX)
        return false;
    *value = (int64_t)n;
    return true;
}

bool opt_parse_bytes(struct sv text, int64_t *out)
{
    static const char units[] = "kmgtp";
    unsigned __int128 n;
    int64_t unit = 1, value = 0;
    if (!take_decimal(&text, &n))
        return false;
    const char *hit = text.len && text.p[0] ? strchr(units, text.p[0] | 0x20) : NULL;
    if (hit) {
        unit = (int64_t)1 << (10 * (hit - units + 1));
        text = sv_sub(text, 1, text.len);
        if (sv_eq_nocase(text, SV("ib")))
            text = sv_sub(text, 1, text.len);
    }
    if ((text.len && !sv_eq_nocase(text, SV("b"))) || !add_scaled(n, unit, &value))
        return false;
    *out = value;
    return true;
}

bool opt_parse_millis(struct sv text, int64_t *out)
{
    static const struct {
        struct sv name;
        int64_t ms;
    } units[] = {{{"ms", 2}, 1}, {{"s", 1}, 1000}, {{"m", 1}, 60000}, {{"h", 1}, 3600000}};
    int64_t value = 0;
    bool first = true;
    do {
        unsigned __int128 n;
        size_t u = 0;
        if (!take_decimal(&text, &n))
            return false;
        if (!text.len && first)
            text = SV("s");
        while (u < ARRAY_LEN(units) && !sv_starts(text, units[u].name))
            u++;
        if (u == ARRAY_LEN(units) || !add_scaled(n, units[u].ms, &value))
            return false;
        text = sv_sub(text, units[u].name.len, text.len);
        first = false;
    } while (text.len);
    *out = value;
    return true;
}

static bool parse_flag(struct sv text, bool *out)
{
    bool yes = sv_is(text, "true") || sv_is(text, "1");
    if (!yes && !sv_is(text, "false") && !sv_is(text, "0"))
        return false;
    *out = yes;
    return true;
}

static bool is_choice(const struct opt_def *def, struct sv text)
{
    struct sv rest = sv_of(def->choices);
    while (rest.len)
        if (sv_eq(sv_cut(&rest, '|'), text))
            return true;
    return false;
}

static bool parse_number(const struct opt_def *def, struct sv text, int64_t *out)
{
    int64_t n = 0;
    bool ok = def->kind == OPT_BYTES    ? opt_parse_bytes(text, &n)
              : def->kind == OPT_MILLIS ? opt_parse_millis(text, &n)
                                        : sv_to_i64(text, &n);
    if (!ok || (def->max > def->min && (n < def->min || n > def->max)))
        return false;
    *out = n;
    return true;
}

/* Appends; the list's room is the next power of two. */
static void add_text(struct arena *a, struct opt_strs *list, const char *text)
{
    if ((list->n & (list->n - 1)) == 0) {
        const char **v = ARENA_ARRAY(a, const char *, list->n ? list->n * 2 : 1);
        if (list->n)
            memcpy(v, list->v, list->n * sizeof *v);
        list->v = v;
    }
    list->v[list->n++] = text;
}

/* "a number from 1 to 5": what the option wants to see. */
static const char *takes(struct arena *a, const struct opt_def *def)
{
    static const char *const kinds[] = {
        [OPT_FLAG] = "true or false",
        [OPT_STR] = NULL,
        [OPT_STRS] = NULL,
        [OPT_INT] = "a whole number",
        [OPT_BYTES] = "a size such as 512m or 2g",
        [OPT_MILLIS] = "a duration such as 10s or 3m",
        [OPT_ENUM] = NULL,
    };
    if (def->kind == OPT_ENUM)
        return arena_printf(a, "one of %s", def->choices);
    if (!kinds[def->kind])
        return def->arg ? def->arg : "a value";
    if (def->max <= def->min)
        return kinds[def->kind];
    const char *unit = def->kind == OPT_BYTES ? " bytes" : def->kind == OPT_MILLIS ? " ms" : "";
    return arena_printf(a, "%s, from %lld to %lld%s", kinds[def->kind], (long long)def->min,
                        (long long)def->max, unit);
}

/* 'from' names where the text stood, for the message: "--memory". */
static bool set(struct parser *ps, struct slot s, const char *text, const char *from)
{
    struct sv view = sv_of(text);
    bool ok = true;
    switch (s.def->kind) {
    case OPT_FLAG:
        ok = parse_flag(view, s.field);
        break;
    case OPT_STR:
        *(const char **)s.field = text;
        break;
    case OPT_STRS:
        add_text(ps->a, s.field, text);
        break;
    case OPT_INT:
    case OPT_BYTES:
    case OPT_MILLIS:
        ok = parse_number(s.def, view, s.field);
        break;
    case OPT_ENUM:
        ok = is_choice(s.def, view);
        *(const char **)s.field = text;
        break;
    }
    if (ok)
        return true;
    return s.def->secret
               ? vic_fail(ps->err, VIC_INVALID, 0, "%s takes %s", from, takes(ps->a, s.def))
               : vic_fail(ps->err, VIC_INVALID, 0, "%s takes %s, not \"%s\"", from,
                          takes(ps->a, s.def), text);
}

/* ---- words ---- */

static bool give(struct parser *ps, struct slot s, const char *text, const char *from)
{
    if (s.def->kind == OPT_STRS && *s.state == DEFAULTED)
        *(struct opt_strs *)s.field = (struct opt_strs){0};
    *s.state = GIVEN;
    return set(ps, s, text, from);
}

static bool find_long(const struct parser *ps, struct sv name, struct slot *out)
{
    for (size_t i = 0; i < slot_count(ps); i++) {
        *out = slot_at(ps, i);
        if (sv_is(name, out->def->name))
            return true;
    }
    return false;
}

static bool find_short(const struct parser *ps, char letter, struct slot *out)
{
    for (size_t i = 0; i < slot_count(ps); i++) {
        *out = slot_at(ps, i);
        if (out->def->letter && out->def->letter == letter)
            return true;
    }
    return false;
}

/* "for create", or nothing. */
static const char *for_command(const struct parser *ps)
{
    return ps->c->name ? arena_printf(ps->a, " for %s", ps->c->name) : "";
}

static bool missing_value(struct parser *ps, const struct opt_def *def, const char *from)
{
    return vic_fail(ps->err, VIC_INVALID, 0, "%s takes %s, and nothing follows it", from,
                    takes(ps->a, def));
}

static bool parse_long(struct parser *ps, int argc, char **argv, int *i)
{
    struct sv value = sv_of(argv[*i] + 2), name = sv_cut(&value, '=');
    const char *from = arena_printf(ps->a, "--" SV_FMT, SV_ARG(name));
    struct slot s;
    if (!find_long(ps, name, &s))
        return vic_fail(ps->err, VIC_INVALID, 0, "unknown option %s%s", from, for_command(ps));
    if (value.p)
        return give(ps, s, value.p, from);
    if (s.def->kind == OPT_FLAG)
        return give(ps, s, "true", from);
    if (*i + 1 >= argc)
        return missing_value(ps, s.def, from);
    return give(ps, s, argv[++*i], from);
}

/* "-abc", "-ovalue", "-o value" */
static bool parse_shorts(struct parser *ps, int argc, char **argv, int *i)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        struct slot s;
        const char *from = arena_printf(ps->a, "-%c", *p);
        if (!find_short(ps, *p, &s))
            return vic_fail(ps->err, VIC_INVALID, 0, "unknown option %s%s", from, for_command(ps));
        if (s.def->kind != OPT_FLAG) {
            if (p[1])
                return give(ps, s, p + 1, from);
            if (*i + 1 >= argc)
                return missing_value(ps, s.def, from);
            return give(ps, s, argv[++*i], from);
        }
        if (!give(ps, s, "true", from))
            return false;
    }
    return true;
}

static enum asks asks_for(const char *word)
{
    static const struct {
        const char *word;
        enum asks asks;
    } rows[] = {{"--help", ASKS_HELP},
                {"-h", ASKS_HELP},
                {"--version", ASKS_VERSION},
                {"--print-man", ASKS_MAN},
                {"--print-completion", ASKS_COMPLETION}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(word, rows[i].word) == 0)
            return rows[i].asks;
    return ASKS_NOTHING;
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1];
}

static bool parse_words(struct parser *ps, int argc, char **argv)
{
    bool ended = false;
    for (int i = 0; i < argc && !ps->asks; i++) {
        struct slot own;
        if (ended || !is_option(argv[i])) {
            ps->args->v[ps->args->n++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (asks_for(argv[i]) && !(argv[i][1] == 'h' && find_short(ps, 'h', &own))) {
            ps->asks = asks_for(argv[i]);
        } else if (!(argv[i][1] == '-' ? parse_long : parse_shorts)(ps, argc, argv, &i)) {
            return false;
        }
    }
    return true;
}

/* ---- defaults and demands ---- */

static bool set_default(struct parser *ps, struct slot s, const char *text, const char *from)
{
    *s.state = DEFAULTED;
    if (s.def->kind != OPT_STRS)
        return set(ps, s, arena_strdup(ps->a, text), from);
    struct sv rest = sv_of(text);
    while (rest.len)
        if (!set(ps, s, arena_sv(ps->a, sv_cut(&rest, ',')), from))
            return false;
    return true;
}

static bool set_defaults(struct parser *ps)
{
    for (size_t i = 0; i < slot_count(ps); i++) {
        struct slot s = slot_at(ps, i);
        const char *env = s.def->env ? getenv(s.def->env) : NULL;
        bool ok = true;
        if (env && *env)
            ok = set_default(ps, s, env, arena_printf(ps->a, "%s in the environment", s.def->env));
        else if (s.def->fallback)
            ok = set_default(ps, s, s.def->fallback,
                             arena_printf(ps->a, "the default of --%s", s.def->name));
        if (!ok)
            return false;
    }
    return true;
}

static bool check_demands(struct parser *ps)
{
    const struct opt_command *c = ps->c;
    for (size_t i = 0; i < slot_count(ps); i++) {
        struct slot s = slot_at(ps, i);
        if (s.def->required && *s.state == UNSET)
            return vic_fail(ps->err, VIC_INVALID, 0, "--%s is required%s", s.def->name,
                            for_command(ps));
    }
    if (ps->args->n < c->min_args)
        return vic_fail(ps->err, VIC_INVALID, 0, "%s is missing%s",
                        c->args && *c->args ? c->args : "an argument", for_command(ps));
    if (ps->args->n > c->max_args)
        return vic_fail(ps->err, VIC_INVALID, 0, "unexpected argument \"%s\"%s",
                        ps->args->v[c->max_args], for_command(ps));
    return true;
}

/* Fills the struct, or finds that the line asks for something else. */
static bool parse_line(struct parser *ps, int argc, char **argv)
{
    if (ps->c->size)
        memset(ps->opts, 0, ps->c->size);
    ps->states = arena_alloc(ps->a, slot_count(ps));
    *ps->args = (struct opt_strs){ARENA_ARRAY(ps->a, const char *, (size_t)argc + 1), 0};
    if (!set_defaults(ps) || !parse_words(ps, argc, argv))
        return false;
    return ps->asks || check_demands(ps);
}

bool opt_parse(const struct opt_program *p, const struct opt_command *c, int argc, char **argv,
               struct arena *a, void *opts, struct opt_strs *args, struct vic_err *err)
{
    struct parser ps = {.p = p, .c = c, .a = a, .opts = opts, .args = args, .err = err};
    if (!parse_line(&ps, argc, argv))
        return false;
    return !ps.asks || vic_fail(err, VIC_INVALID, 0, "help was asked for");
}

/* ---- the program ---- */

/* The line, taken apart. */
struct line {
    const struct opt_command *c; /* NULL: none was named */
    enum asks asks;
    char **argv; /* without the program's and the command's name */
    int argc;
};

static const struct opt_command *find_command(const struct opt_program *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->commands[i].name, name) == 0)
            return &p->commands[i];
    return NULL;
}

/* How many words the global option at the head of 'argv' takes; 0 when it is none. */
static int global_words(const struct opt_program *p, const char *word)
{
    bool is_long = word[1] == '-';
    struct sv value = sv_of(word + 2), name = sv_cut(&value, '=');
    for (size_t i = 0; i < p->global_count; i++) {
        const struct opt_def *def = &p->globals[i];
        if (is_long ? sv_is(name, def->name) : def->letter && def->letter == word[1]) {
            bool whole = def->kind == OPT_FLAG || (is_long ? value.p != NULL : word[2] != '\0');
            return whole ? 1 : 2;
        }
    }
    return 0;
}

static bool take_apart(const struct opt_program *p, int argc, char **argv, struct arena *a,
                       struct line *line, struct vic_err *err)
{
    int i = 1;
    while (i < argc && is_option(argv[i])) {
        if ((line->asks = asks_for(argv[i])))
            return true;
        int words = global_words(p, argv[i]);
        if (!words)
            return vic_fail(err, VIC_INVALID, 0, "unknown option %s before the command", argv[i]);
        i += words;
    }
    if (i >= argc)
        return vic_fail(err, VIC_INVALID, 0, "no command is given");
    if (strcmp(argv[i], "help") == 0 && !find_command(p, "help")) {
        line->asks = ASKS_HELP;
        line->c = i + 1 < argc ? find_command(p, argv[i + 1]) : NULL;
        return true;
    }
    line->c = find_command(p, argv[i]);
    if (!line->c)
        return vic_fail(err, VIC_INVALID, 0, "unknown command \"%s\"", argv[i]);
    line->argv = ARENA_ARRAY(a, char *, (size_t)argc);
    for (int k = 1; k < argc; k++)
        if (k != i)
            line->argv[line->argc++] = argv[k];
    return true;
}

static int answer(const struct opt_program *p, const struct line *line)
{
    AUTO_BUF struct buf out = {0};
    switch (line->asks) {
    case ASKS_NOTHING:
        break;
    case ASKS_HELP:
        opt_help(p, line->c, &out);
        break;
    case ASKS_VERSION:
        buf_addf(&out, "%s %s\n", p->name, p->version ? p->version : "");
        break;
    case ASKS_MAN:
        opt_man(p, &out);
        break;
    case ASKS_COMPLETION:
        opt_completion(p, &out);
        break;
    }
    bool ok = fwrite(buf_str(&out), 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    return ok ? 0 : vic_code_exit(VIC_IO);
}

static int usage_error(const struct opt_program *p, const struct opt_command *c,
                       const struct vic_err *err)
{
    const char *blank = c && c->name ? " " : "", *name = c && c->name ? c->name : "";
    fprintf(stderr, "%s%s%s: %s\nTry '%s%s%s --help'.\n", p->name, blank, name, err->msg, p->name,
            blank, name);
    return vic_code_exit(err->code);
}

int opt_main(const struct opt_program *p, int argc, char **argv, void *ctx)
{
    AUTO_ARENA struct arena a = {0};
    struct vic_err err = {0};
    struct opt_strs args;
    struct line line = {0};
    if (argc < 1)
        return vic_code_exit(VIC_INVALID);
    if (opt_has_commands(p)) {
        if (!take_apart(p, argc, argv, &a, &line, &err))
            return usage_error(p, NULL, &err);
    } else {
        line = (struct line){&p->commands[0], ASKS_NOTHING, argv + 1, argc - 1};
    }
    if (line.asks || !line.c)
        return answer(p, &line);
    struct parser ps = {.p = p,
                        .c = line.c,
                        .a = &a,
                        .opts = arena_alloc(&a, line.c->size),
                        .args = &args,
                        .err = &err};
    if (!parse_line(&ps, line.argc, line.argv))
        return usage_error(p, line.c, &err);
    line.asks = ps.asks;
    return line.asks ? answer(p, &line) : line.c->run(ctx, ps.opts, args);
}
