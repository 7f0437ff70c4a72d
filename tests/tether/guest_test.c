/* Real guests: QEMU, the boot image, the hub.
 *
 * In order, as each builds on the one before: the ISO boots by BIOS and the guest says HELLO; a
 * worker makes a file system, applies a layer, refuses a hostile one; a container runs on a child
 * of that disk, with output, input, execs and its exit; the same run is never run twice. */
#include "hub_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/clock.h"
#include "base/proc.h"

#include "vm.h"

enum { BOOT_MS = 90000, END_MS = 30000, LAYER_MAX = 4 << 20 };

static const char container[] = "cafecafecafecafecafecafecafecafecafecafecafecafecafecafecafecafe";

struct state {
    struct fx x;
    struct vm vm;
    const char *boot_dir;
    char dir[64], base[128], child[128];
};

static void qemu_img(const char *file, const char *parent)
{
    struct vic_err err;
    const char *const blank[] = {"qemu-img", "create", "-q", "-f", "qcow2", file, "1G", NULL};
    const char *const child[] = {"qemu-img", "create", "-q",   "-f", "qcow2", "-F",
                                 "qcow2",    "-b",     parent, file, NULL};
    OK(proc_run(parent ? child : blank, SV(""), NULL, 20000, &err), &err);
}

static int set_up(void **state)
{
    static struct state s;
    struct vic_err err;
    char address[128];
    s.boot_dir = getenv("VIC_BOOT_DIR");
    assert_non_null(s.boot_dir);
    snprintf(s.dir, sizeof s.dir, "/tmp/vic-guest-test.XXXXXX");
    assert_non_null(mkdtemp(s.dir));
    snprintf(s.base, sizeof s.base, "%s/base.qcow2", s.dir);
    snprintf(s.child, sizeof s.child, "%s/child.qcow2", s.dir);
    OK(vm_network(address, &err), &err);
    fx_init(&s.x);
    fx_start(&s.x);
    OK(hub_listen(s.x.hub, address, NULL, &err), &err);
    *state = &s;
    return 0;
}

static int tear_down(void **state)
{
    struct state *s = *state;
    const char *const rm[] = {"rm", "-rf", s->dir, NULL};
    vm_stop(&s->vm);
    fx_stop(&s->x);
    (void)!proc_run(rm, SV(""), NULL, 20000, NULL);
    return 0;
}

static int stop_vm(void **state)
{
    struct state *s = *state;
    vm_stop(&s->vm);
    return 0;
}

/* As fx_until, with a boot's patience; shows the console when it was in vain. */
static void until(struct state *s, bool (*is)(const struct hub_guest *g), int64_t ms)
{
    int64_t end = clock_mono_ms(&vic_clock_real) + ms;
    struct hub_guest g;
    while (clock_mono_ms(&vic_clock_real) < end) {
        mutex_lock(&s->x.lock);
        unsigned seen = s->x.guest_calls;
        mutex_unlock(&s->x.lock);
        if (hub_guest(s->x.hub, s->vm.id, &g) && is(&g))
            return;
        mutex_lock(&s->x.lock);
        if (s->x.guest_calls == seen)
            cond_wait_ms(&s->x.wake, &s->x.lock, 1000);
        mutex_unlock(&s->x.lock);
    }
    AUTO_BUF struct buf console = {0};
    vm_console(&s->vm, &console);
    fail_msg("waited in vain; the console says:\n%s", buf_str(&console));
}

static void start(struct state *s, const char *id, bool bios)
{
    struct vic_err err;
    OK(vm_start(&s->vm, id, s->boot_dir, s->dir, bios, &err), &err);
    until(s, fx_connected, BOOT_MS);
}

static void expect_off(struct state *s, const char *line)
{
    struct vic_err err;
    AUTO_BUF struct buf console = {0};
    OK(vm_wait(&s->vm, END_MS, &err), &err);
    vm_console(&s->vm, &console);
    if (!strstr(buf_str(&console), line))
        fail_msg("no \"%s\" on the console:\n%s", line, buf_str(&console));
}

static bool configured(const struct hub_guest *g)
{
    return g->config_gen == 1;
}

static void configure(struct state *s, const char *json)
{
    struct vic_err err;
    OK(hub_config(s->x.hub, s->vm.id, sv_of(json), &err), &err);
    until(s, configured, END_MS);
    struct hub_guest g = fx_said(&s->x, s->vm.id);
    if (!g.config_ok)
        fail_msg("refused at %s: %s", g.config_stage, g.config_error);
}

/* --- tests --- */

static void iso_boots_by_bios(void **state)
{
    struct state *s = *state;
    struct vic_err err;
    start(s, "vm-bios", true);
    struct hub_guest g = fx_said(&s->x, "vm-bios");
    assert_int_equal(g.role, HUB_ROLE_NONE);
    assert_int_equal(strlen(g.boot), 36);
    OK(hub_shutdown(s->x.hub, "vm-bios", 1000, 15, &err), &err);
    expect_off(s, "vic: tether " VIC_VERSION " booted");
}

static void add_entry(struct archive *a, const char *name, int type, const char *link,
                      struct sv body)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, (unsigned)type);
    archive_entry_set_perm(e, 0755);
    archive_entry_set_mtime(e, 1500000000, 500000000);
    archive_entry_set_size(e, (la_int64_t)body.len);
    if (link)
        archive_entry_set_symlink(e, link);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    if (body.len)
        assert_int_equal(archive_write_data(a, body.p, body.len), body.len);
    archive_entry_free(e);
}

static void read_busybox(struct buf *out)
{
    char bytes[65536];
    FILE *f = fopen("/bin/busybox", "rbe");
    assert_non_null(f); /* Debian's busybox-static */
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;)
        buf_add(out, bytes, n);
    fclose(f);
}

/* A layer with a busybox; 'extra' is one more file's name, or NULL. */
static void make_layer(struct buf *out, const char *extra)
{
    AUTO_BUF struct buf busybox = {0};
    size_t used;
    static const char *const applets[] = {"bin/sh", "bin/cat", "bin/sleep", "bin/id", "bin/ls"};
    struct archive *a = archive_write_new();
    archive_write_set_format_pax_restricted(a);
    archive_write_set_bytes_per_block(a, 0);
    assert_true(buf_reserve(out, LAYER_MAX));
    assert_int_equal(archive_write_open_memory(a, out->data, LAYER_MAX, &used), ARCHIVE_OK);
    read_busybox(&busybox);
    add_entry(a, "bin/", AE_IFDIR, NULL, SV(""));
    add_entry(a, "bin/busybox", AE_IFREG, NULL, buf_sv(&busybox));
    for (size_t i = 0; i < ARRAY_LEN(applets); i++)
        add_entry(a, applets[i], AE_IFLNK, "busybox", SV(""));
    add_entry(a, "etc/passwd", AE_IFREG, NULL, SV("root:x:0:0::/root:/bin/sh\n"));
    if (extra)
        add_entry(a, extra, AE_IFREG, NULL, SV("x"));
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    out->len = used;
}

/* Runs a job to its end; '*answer' gets CLOSE's JSON. */
static void do_job(struct state *s, const char *json, struct sv bytes, struct buf *answer)
{
    struct fx_stream f;
    struct hub_stream_status st;
    fx_open(&s->x, &f, s->vm.id, json);
    fx_stream_until(&f, fx_is_open);
    fx_exchange(&f, bytes);
    hub_stream_status(f.s, &st);
    buf_reset(answer);
    buf_add_sv(answer, st.result);
    fx_stream_end(&f);
}

static void expect(const struct buf *answer, const char *part)
{
    if (!strstr(buf_str(answer), part))
        fail_msg("no %s in %s", part, buf_str(answer));
}

static void worker_makes_the_disk(void **state)
{
    struct state *s = *state;
    struct vic_err err;
    AUTO_BUF struct buf answer = {0}, layer = {0}, hostile = {0};
    char diff_id[80] = "sha256:";
    make_layer(&layer, NULL);
    make_layer(&hostile, "../../escape");
    sha256_hex(layer.data, layer.len, diff_id + 7);
    qemu_img(s->base, NULL);
    start(s, "vm-worker", false);
    configure(s, "{\"gen\":1,\"role\":\"worker\"}");
    OK(vm_plug(&s->vm, s->base, 1, &err), &err);
    do_job(s, "{\"kind\":\"job\",\"op\":\"mkfs\",\"target\":1,\"label\":\"blank\"}", SV(""),
           &answer);
    expect(&answer, "\"ok\":true");
    OK(vm_unplug(&s->vm, 1, &err), &err);
    OK(vm_plug(&s->vm, s->base, 2, &err), &err);
    do_job(s, "{\"kind\":\"job\",\"op\":\"apply\",\"target\":2,\"compression\":\"none\"}",
           buf_sv(&layer), &answer);
    expect(&answer, "\"ok\":true");
    expect(&answer, diff_id);
    do_job(s, "{\"kind\":\"job\",\"op\":\"apply\",\"target\":2,\"compression\":\"none\"}",
           buf_sv(&hostile), &answer);
    expect(&answer, "\"ok\":false");
    expect(&answer, "\"entry\":\"../../escape\"");
    do_job(s, "{\"kind\":\"job\",\"op\":\"apply\",\"target\":2,\"compression\":\"gzip\"}",
           sv_sub(buf_sv(&layer), 0, 1000), &answer);
    expect(&answer, "\"code\":\"CORRUPT\"");
    OK(hub_shutdown(s->x.hub, s->vm.id, 0, 15, &err), &err);
    expect_off(s, "powering off");
}

static const char run_script[] = "echo ran; read x; echo got $x >&2; exit 7";

/* A run's CONFIG; 'more' = further members of the spec. */
static void config_json(struct state *s, struct buf *out, unsigned seq, const char *script,
                        const char *more)
{
    unsigned char key[TLS_PSK_SIZE];
    char hex[65];
    tg_key(s->vm.id, 2, key);
    hex_encode(key, sizeof key, hex);
    buf_addf(out,
             "{\"gen\":1,\"role\":\"run\",\"mac\":\"00\",\"spec\":{\"container\":\"%s\","
             "\"name\":\"t\",\"seq\":%u,\"rev\":9,\"key\":\"%s\",\"disk\":1,"
             "\"args\":[\"sh\",\"-c\",\"%s\"],\"env\":[\"PATH=/bin\"],"
             "\"cwd\":\"/made/for/it\",\"hostname\":\"box\",\"memory\":100000000,"
             "\"pids\":100%s}}",
             container, seq, hex, script, more);
}

/* An exec's stdout. */
static void do_exec(struct state *s, const char *command, const char *input, struct buf *out)
{
    AUTO_BUF struct buf json = {0};
    struct fx_stream f;
    buf_addf(&json,
             "{\"kind\":\"exec\",\"id\":\"e\",\"args\":[\"sh\",\"-c\",\"%s\"],\"stdin\":true}",
             command);
    fx_open(&s->x, &f, s->vm.id, buf_str(&json));
    fx_exchange(&f, sv_of(input));
    buf_reset(out);
    buf_add_sv(out, buf_sv(&f.out[1]));
    fx_stream_end(&f);
}

static void give_input(struct state *s, const char *text)
{
    struct fx_stream f;
    fx_open(&s->x, &f, s->vm.id, "{\"kind\":\"stdin\"}");
    fx_exchange(&f, sv_of(text));
    fx_stream_end(&f);
}

static void check_exit(struct state *s)
{
    struct hub_guest g = fx_said(&s->x, s->vm.id);
    assert_string_equal(g.exit.container, container);
    assert_int_equal(g.exit.seq, 4);
    assert_int_equal(g.exit.kind, HUB_EXIT_EXITED);
    assert_int_equal(g.exit.value, 7);
    assert_false(g.exit.oom);
}

static void container_runs_once(void **state)
{
    struct state *s = *state;
    struct vic_err err;
    AUTO_BUF struct buf config = {0}, out = {0};
    qemu_img(s->child, s->base);
    start(s, "vm-run", false);
    OK(vm_plug(&s->vm, s->child, 1, &err), &err);
    config_json(s, &config, 4, run_script, ",\"open_stdin\":true,\"stdin_once\":true");
    configure(s, buf_str(&config));
    until(s, fx_running, END_MS);
    fx_until_logs(&s->x, 1);
    assert_string_equal(s->x.log_last, "ran\n");
    do_exec(s, "cat; id -u; pwd; ls -d /vic", "to exec\n", &out);
    assert_string_equal(buf_str(&out), "to exec\n0\n/made/for/it\n");
    give_input(s, "hello\n");
    until(s, fx_exited, END_MS);
    fx_until_logs(&s->x, 2);
    assert_string_equal(s->x.log_last, "got hello\n");
    check_exit(s);
    OK(hub_exit_ack(s->x.hub, s->vm.id, 4, &err), &err);
    expect_off(s, "vic: run 4 exited 7");
}

static void a_finished_run_is_not_run_again(void **state)
{
    struct state *s = *state;
    struct vic_err err;
    AUTO_BUF struct buf config = {0};
    start(s, "vm-again", false);
    OK(vm_plug(&s->vm, s->child, 1, &err), &err);
    config_json(s, &config, 4, run_script, "");
    configure(s, buf_str(&config));
    until(s, fx_exited, END_MS);
    check_exit(s);
    assert_int_equal(s->x.log_count, 2);
    OK(hub_exit_ack(s->x.hub, s->vm.id, 4, &err), &err);
    expect_off(s, "vic: run 4 exited 7");
}

/* The console and the serial port belong to the agent, whatever a container may do else. */
static void a_privileged_container_has_no_console(void **state)
{
    struct state *s = *state;
    struct vic_err err;
    AUTO_BUF struct buf config = {0};
    start(s, "vm-privileged", false);
    OK(vm_plug(&s->vm, s->child, 1, &err), &err);
    config_json(
        s, &config, 5,
        "for d in '5 1' '4 64'; do busybox mknod /dev/x c $d && echo bad; done 2>/dev/null; "
        "busybox head -c 1 /dev/sda | busybox wc -c",
        ",\"privileged\":true");
    uint64_t before = s->x.log_count;
    configure(s, buf_str(&config));
    until(s, fx_exited, END_MS);
    fx_until_logs(&s->x, before + 1);
    assert_string_equal(s->x.log_last, "1\n");
    OK(hub_exit_ack(s->x.hub, s->vm.id, 5, &err), &err);
    expect_off(s, "vic: run 5 exited 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(iso_boots_by_bios, stop_vm),
        cmocka_unit_test_teardown(worker_makes_the_disk, stop_vm),
        cmocka_unit_test_teardown(container_runs_once, stop_vm),
        cmocka_unit_test_teardown(a_finished_run_is_not_run_again, stop_vm),
        cmocka_unit_test_teardown(a_privileged_container_has_no_console, stop_vm),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
