/* base/opt: one table, four products.  The man page goes through scdoc and the completion through
 * bash, so that both are known to be read by what reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "base/proc.h"

struct globals {
    bool debug;
    const char *target;
};

struct create {
    struct globals g;
    bool force, quiet;
    const char *name, *trust, *password;
    struct opt_strs dns;
    int64_t cpus, memory, timeout;
};

static int run_create(void *ctx, void *opts, struct opt_strs args)
{
    const struct create *o = opts;
    struct buf *out = ctx;
    buf_addf(out, "create %s debug=%d args=%zu", o->name, o->g.debug, args.n);
    return 7;
}

static int run_ls(void *ctx, void *opts, struct opt_strs args)
{
    (void)opts;
    (void)args;
    buf_add_str(ctx, "ls");
    return 0;
}

#define O(field) offsetof(struct create, field)
static const struct opt_def create_opts[] = {
    {.name = "name",
     .letter = 'n',
     .kind = OPT_STR,
     .offset = O(name),
     .arg = "NAME",
     .env = "VIC_TEST_NAME",
     .required = true,
     .help = "name of the VCH"},
    {.name = "force", .letter = 'f', .kind = OPT_FLAG, .offset = O(force), .help = "ask nothing"},
    {.name = "quiet", .letter = 'q', .kind = OPT_FLAG, .offset = O(quiet), .help = "say nothing"},
    {.name = "trust",
     .kind = OPT_ENUM,
     .offset = O(trust),
     .choices = "open|published|closed",
     .arg = "LEVEL",
     .fallback = "published",
     .help = "what may be reached"},
    {.name = "password",
     .kind = OPT_STR,
     .offset = O(password),
     .secret = true,
     .fallback = "s3cret",
     .help = "password of the user_name"},
    {.name = "pin",
     .kind = OPT_INT,
     .offset = O(cpus),
     .secret = true,
     .hidden = true,
     .help = "never shown"},
    {.name = "dns-server",
     .kind = OPT_STRS,
     .offset = O(dns),
     .arg = "IP",
     .env = "VIC_TEST_DNS",
     .help = "name server that the containers are told to ask when they look up a name"},
    {.name = "cpus",
     .letter = 'c',
     .kind = OPT_INT,
     .offset = O(cpus),
     .min = 1,
     .max = 64,
     .fallback = "1",
     .help = "virtual CPUs"},
    {.name = "memory",
     .letter = 'm',
     .kind = OPT_BYTES,
     .offset = O(memory),
     .fallback = "512m",
     .help = "memory"},
    {.name = "timeout",
     .kind = OPT_MILLIS,
     .offset = O(timeout),
     .fallback = "3m",
     .help = "limit"},
};
static const struct opt_def global_opts[] = {
    {.name = "debug",
     .letter = 'D',
     .kind = OPT_FLAG,
     .offset = offsetof(struct globals, debug),
     .help = "log everything"},
    {.name = "target",
     .letter = 't',
     .kind = OPT_STR,
     .offset = offsetof(struct globals, target),
     .arg = "URL",
     .help = "address of vSphere"},
};
static const struct opt_command commands[] = {
    {.name = "create",
     .args = "[LABEL...]",
     .max_args = 2,
     .size = sizeof(struct create),
     .opts = create_opts,
     .opt_count = ARRAY_LEN(create_opts),
     .help = "make a VCH",
     .details = "Validates everything first.",
     .run = run_create},
    {.name = "ls",
     .args = "",
     .size = sizeof(struct globals),
     .help = "list the VCHs",
     .run = run_ls},
};
static const struct opt_program program = {
    .name = "vic-test",
    .help = "make and keep VCHs",
    .version = "1.2",
    .commands = commands,
    .count = ARRAY_LEN(commands),
    .globals = global_opts,
    .global_count = ARRAY_LEN(global_opts),
    .global_offset = 0,
};

struct parsed {
    struct arena a;
    struct create o;
    struct opt_strs args;
    struct vic_err err;
};

/* Words are parted by one blank; an empty word is "''". */
static bool parse(struct parsed *p, const char *line)
{
    char *argv[32];
    int argc = 0;
    struct sv rest = sv_of(line);
    while (rest.len) {
        struct sv word = sv_cut(&rest, ' ');
        argv[argc++] = sv_is(word, "''") ? arena_strdup(&p->a, "") : arena_sv(&p->a, word);
    }
    return opt_parse(&program, &commands[0], argc, argv, &p->a, &p->o, &p->args, &p->err);
}

static void reads_every_kind(void **state)
{
    (void)state;
    struct parsed p = {0};
    assert_true(parse(&p, "--name=a=b -fq one -c8 -m 2g --timeout 1h30m --trust closed -D "
                          "--dns-server 1.1.1.1 two --dns-server=2.2.2.2 --dns-server ''"));
    assert_string_equal(p.o.name, "a=b");
    assert_true(p.o.force && p.o.quiet && p.o.g.debug);
    assert_int_equal(p.o.cpus, 8);
    assert_int_equal(p.o.memory, 2147483648);
    assert_int_equal(p.o.timeout, 5400000);
    assert_string_equal(p.o.trust, "closed");
    assert_int_equal(p.o.dns.n, 3);
    assert_string_equal(p.o.dns.v[1], "2.2.2.2");
    assert_string_equal(p.o.dns.v[2], "");
    assert_int_equal(p.args.n, 2);
    assert_string_equal(p.args.v[1], "two");
    arena_fini(&p.a);
}

static void defaults_give_way(void **state)
{
    (void)state;
    struct parsed p = {0};
    setenv("VIC_TEST_NAME", "from-env", 1);
    setenv("VIC_TEST_DNS", "8.8.8.8,9.9.9.9", 1);
    assert_true(parse(&p, ""));
    assert_string_equal(p.o.name, "from-env");
    assert_int_equal(p.o.dns.n, 2);
    assert_string_equal(p.o.dns.v[1], "9.9.9.9");
    assert_int_equal(p.o.memory, 512 << 20);
    assert_int_equal(p.o.timeout, 180000);
    assert_string_equal(p.o.trust, "published");
    assert_true(parse(&p, "--name x --name y --dns-server 1.1.1.1 --force --force=false"));
    assert_string_equal(p.o.name, "y");
    assert_int_equal(p.o.dns.n, 1);
    assert_false(p.o.force);
    unsetenv("VIC_TEST_NAME");
    unsetenv("VIC_TEST_DNS");
    assert_true(parse(&p, "-n x -- -f --name"));
    assert_int_equal(p.args.n, 2);
    assert_string_equal(p.args.v[0], "-f");
    assert_true(parse(&p, "-n -- -"));
    assert_string_equal(p.o.name, "--");
    assert_int_equal(p.args.n, 1);
    arena_fini(&p.a);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } rows[] = {
        {"", "--name is required for create"},
        {"-n x --nam y", "unknown option --nam for create"},
        {"-n x -fz", "unknown option -z for create"},
        {"--name", "--name takes NAME, and nothing follows it"},
        {"-n", "-n takes NAME, and nothing follows it"},
        {"-n x a b c", "unexpected argument \"c\" for create"},
        {"-n x --force=maybe", "--force takes true or false, not \"maybe\""},
        {"-n x -c 65", "-c takes a whole number, from 1 to 64, not \"65\""},
        {"-n x -c 1x", "-c takes a whole number, from 1 to 64, not \"1x\""},
        {"-n x --memory -5", "--memory takes a size such as 512m or 2g, not \"-5\""},
        {"-n x --timeout 5d", "--timeout takes a duration such as 10s or 3m, not \"5d\""},
        {"-n x --trust ''", "--trust takes one of open|published|closed, not \"\""},
        {"-n x --pin 12ab", "--pin takes a whole number"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct parsed p = {0};
        assert_false(parse(&p, rows[i].line));
        assert_int_equal(p.err.code, VIC_INVALID);
        assert_string_equal(p.err.msg, rows[i].message);
        arena_fini(&p.a);
    }
    struct parsed p = {0};
    setenv("VIC_TEST_NAME", "x", 1);
    assert_false(parse(&p, "a b c"));
    unsetenv("VIC_TEST_NAME");
    arena_fini(&p.a);
}

static void sizes_and_times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes, ms; /* -1: refused */
    } rows[] = {
        {"0", 0, 0},
        {"90", 90, 90000},
        {"1.5", 1, 1500},
        {"512m", 512 << 20, 30720000},
        {"1.5g", 1610612736, -1},
        {"2GiB", 2147483648, -1},
        {"4kb", 4096, -1},
        {"7b", 7, -1},
        {"10s", -1, 10000},
        {"3m0s", -1, 180000},
        {"1h0.5s", -1, 3600500},
        {"250ms", -1, 250},
        {"", -1, -1},
        {"m", -1, -1},
        {"-1", -1, -1},
        {"1.", -1, -1},
        {"1 m", -1, -1},
        {"1mm", -1, -1},
        {"1x", -1, -1},
        {"1h5", -1, -1},
        {"7p", 7881299347898368, -1},
        {"8192p", -1, -1},
        {"9223372036854775807", INT64_MAX, -1},
        {"9223372036854775808", -1, -1},
        {"99999999999999999999", -1, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t bytes = -1, ms = -1;
        assert_int_equal(opt_parse_bytes(sv_of(rows[i].text), &bytes), rows[i].bytes >= 0);
        assert_int_equal(bytes, rows[i].bytes);
        assert_int_equal(opt_parse_millis(sv_of(rows[i].text), &ms), rows[i].ms >= 0);
        assert_int_equal(ms, rows[i].ms);
    }
}

static int run_main(const char *line, struct buf *out)
{
    AUTO_ARENA struct arena a = {0};
    char *argv[32] = {arena_strdup(&a, "vic-test")};
    int argc = 1;
    struct sv rest = sv_of(line);
    while (rest.len)
        argv[argc++] = arena_sv(&a, sv_cut(&rest, ' '));
    buf_reset(out);
    return opt_main(&program, argc, argv, out);
}

static void main_finds_the_command(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run_main("create -n x", &out), 7);
    assert_string_equal(buf_str(&out), "create x debug=0 args=0");
    assert_int_equal(run_main("-D --target https://h create --name x lbl", &out), 7);
    assert_string_equal(buf_str(&out), "create x debug=1 args=1");
    assert_int_equal(run_main("-thttps://h --target=u ls", &out), 0);
    assert_string_equal(buf_str(&out), "ls");
    assert_int_equal(run_main("create", &out), 2);
    assert_int_equal(run_main("destroy", &out), 2);
    assert_int_equal(run_main("", &out), 2);
    assert_int_equal(run_main("--force create", &out), 2);
    assert_int_equal(run_main("ls surplus", &out), 2);
    assert_int_equal(run_main("--help", &out), 0);
    assert_int_equal(run_main("create --help --bogus", &out), 0);
    assert_int_equal(run_main("help create", &out), 0);
    assert_int_equal(run_main("ls --version", &out), 0);
    assert_int_equal(out.len, 0);
}

static void help_is_complete(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    opt_help(&program, &commands[0], &b);
    assert_string_equal(
        buf_str(&b),
        "Usage: vic-test create [OPTIONS] [LABEL...]\n\nmake a VCH\n\nOptions:\n"
        "  -n, --name NAME      name of the VCH (required, environment VIC_TEST_NAME)\n"
        "  -f, --force          ask nothing\n"
        "  -q, --quiet          say nothing\n"
        "      --trust LEVEL    what may be reached (one of open|published|closed,\n"
        "                       default published)\n"
        "      --password TEXT  password of the user_name\n"
        "      --dns-server IP  name server that the containers are told to ask when they\n"
        "                       look up a name (may repeat, environment VIC_TEST_DNS)\n"
        "  -c, --cpus N         virtual CPUs (default 1)\n"
        "  -m, --memory SIZE    memory (default 512m)\n"
        "      --timeout TIME   limit (default 3m)\n"
        "  -D, --debug          log everything\n"
        "  -t, --target URL     address of vSphere\n"
        "      --help           print this and exit\n"
        "      --version        print the version and exit\n");
    buf_reset(&b);
    opt_help(&program, NULL, &b);
    assert_true(strstr(buf_str(&b), "Usage: vic-test COMMAND [OPTIONS]\n\nmake and keep VCHs\n\n"
                                    "Commands:\n  create  make a VCH\n  ls      list the VCHs\n"));
}

static void man_page_is_scdoc(void **state)
{
    (void)state;
    AUTO_BUF struct buf source = {0}, page = {0};
    struct vic_err err = {0};
    opt_man(&program, &source);
    assert_true(strstr(buf_str(&source), "*-n*, *--name* _NAME_\n\tname of the VCH (required,"));
    assert_null(strstr(buf_str(&source), "s3cret"));
    assert_null(strstr(buf_str(&source), "--pin"));
    if (!proc_run((const char *const[]){"scdoc", NULL}, buf_sv(&source), &page, 20000, &err))
        fail_msg("%s\n%s", err.msg, buf_str(&source));
    assert_true(strstr(buf_str(&page), ".SH NAME"));
    assert_true(strstr(buf_str(&page), "password of the user_name"));
}

static void complete(const char *script, const char *words, const char *want)
{
    AUTO_BUF struct buf line = {0}, out = {0};
    struct vic_err err = {0};
    buf_addf(&line,
             "%s\nCOMP_WORDS=(%s)\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_vic_test\n"
             "echo \"${COMPREPLY[@]}\"",
             script, words);
    const char *const argv[] = {"bash", "--norc", "-euc", buf_str(&line), NULL};
    if (!proc_run(argv, SV(""), &out, 20000, &err))
        fail_msg("%s\n%s", err.msg, script);
    buf_add_c(&out, '\0');
    assert_string_equal(buf_str(&out), want);
}

static void completion_is_bash(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = {0};
    opt_completion(&program, &b);
    complete(buf_str(&b), "vic-test ''", "create ls --help --version --debug --target\n");
    complete(buf_str(&b), "vic-test c", "create\n");
    complete(buf_str(&b), "vic-test -D create --t", "--trust --timeout --target\n");
    complete(buf_str(&b), "vic-test create --trust ''", "open published closed\n");
    complete(buf_str(&b), "vic-test create --trust p", "published\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),       cmocka_unit_test(defaults_give_way),
        cmocka_unit_test(mistakes_are_named),     cmocka_unit_test(sizes_and_times),
        cmocka_unit_test(main_finds_the_command), cmocka_unit_test(help_is_complete),
        cmocka_unit_test(man_page_is_scdoc),      cmocka_unit_test(completion_is_bash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
