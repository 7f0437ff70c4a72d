/* What vmm does without a VM: disk files and their headers, isolinux.cfg, networks, the probe.
 * Needs root for the network part, as vic-host does. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"

#include "vmm_priv.h"

struct parts {
    char dir[64];
    char netns[32];
    struct loop *loop;
    struct vmm *m;
};

static void run(const char *const *argv)
{
    struct vic_err err = {0};
    if (!proc_run(argv, (struct sv){0}, NULL, 20000, &err))
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    struct parts *p = xcalloc(1, sizeof *p);
    struct vic_err err;
    snprintf(p->dir, sizeof p->dir, "/tmp/vmm-parts-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->netns, sizeof p->netns, "vic-parts-%d", (int)getpid());
    AUTO_FREE char *run_dir = xasprintf("%s/run", p->dir);
    AUTO_FREE char *disks = xasprintf("%s/disks", p->dir);
    assert_int_equal(mkdir(disks, 0700), 0);
    p->loop = loop_new("parts", &err);
    struct vmm_options o = {
        .run_dir = run_dir, .netns = p->netns, .disk_dir = disks, .loop = p->loop};
    p->m = vmm_open(&o, &err);
    if (!p->m)
        fail_msg("%s", err.msg);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct parts *p = *state;
    vmm_free(p->m);
    loop_free(p->loop);
    run((const char *const[]){"ip", "netns", "del", p->netns, NULL});
    run((const char *const[]){"rm", "-rf", p->dir, NULL});
    free(p);
    return 0;
}

static char *disk_path(const struct parts *p, const char *name)
{
    return xasprintf("%s/disks/%s", p->dir, name);
}

static void create(struct parts *p, const char *name, const char *parent, int64_t size,
                   enum vic_code want)
{
    struct vic_err err = {0};
    AUTO_FREE char *file = disk_path(p, name);
    AUTO_FREE char *from = parent ? disk_path(p, parent) : NULL;
    bool done = vmm_disk_create(p->m, file, from, size, &err);
    if (done != (want == VIC_OK) || (!done && err.code != want))
        fail_msg("%s: %s, %s", name, vic_code_name(err.code), err.msg);
}

static void check_image(struct parts *p, const char *name)
{
    AUTO_FREE char *file = disk_path(p, name);
    run((const char *const[]){"qemu-img", "check", "-q", "-f", "qcow2", file, NULL});
}

/* ---- disks ---- */

static void test_disk_create(void **state)
{
    struct parts *p = *state;
    int64_t capacity, used;
    create(p, "base.vmdk", NULL, INT64_C(32) << 30, VIC_OK);
    create(p, "child.vmdk", "base.vmdk", 0, VIC_OK);
    create(p, "tiny", NULL, 512, VIC_OK);
    create(p, "huge", NULL, INT64_C(64) << 40, VIC_OK);
    const char *const names[] = {"base.vmdk", "child.vmdk", "tiny", "huge"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        check_image(p, names[i]);
    AUTO_FREE char *child = disk_path(p, "child.vmdk");
    assert_true(vmm_disk_info(p->m, child, &capacity, &used, NULL));
    assert_int_equal(capacity, INT64_C(32) << 30);
    assert_in_range(used, 1, 64 * 1024);
    AUTO_BUF struct buf info = {0};
    const char *const argv[] = {"qemu-img", "info", "--output=json", "-f", "qcow2", child, NULL};
    assert_true(proc_run(argv, (struct sv){0}, &info, 10000, NULL));
    assert_non_null(strstr(buf_str(&info), "\"backing-filename-format\": \"qcow2\""));
    assert_non_null(strstr(buf_str(&info), "/disks/base.vmdk\""));
    struct stat st;
    assert_int_equal(stat(child, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_disk_refusals(void **state)
{
    struct parts *p = *state;
    create(p, "r", NULL, 1 << 20, VIC_OK);
    create(p, "r", NULL, 1 << 20, VIC_CONFLICT);
    create(p, "smaller", "r", 1 << 19, VIC_INVALID);
    create(p, "odd", NULL, 1000, VIC_INVALID);
    create(p, "nothing", NULL, 0, VIC_INVALID);
    create(p, "negative", NULL, -512, VIC_INVALID);
    create(p, "orphan", "absent", 0, VIC_NOT_FOUND);
    create(p, "outside", "../../../etc/passwd", 0, VIC_FORBIDDEN);
    create(p, "no-folder/x", NULL, 512, VIC_NOT_FOUND);
}

/* Writes bytes into a fresh disk's header and expects vmm_disk_info to refuse. */
static void damaged(struct parts *p, off_t at, const char *bytes, size_t size)
{
    struct vic_err err = {0};
    int64_t capacity, used;
    AUTO_FREE char *file = disk_path(p, "damaged");
    unlink(file);
    create(p, "damaged", "sound", 0, VIC_OK);
    AUTO_CLOSE int fd = open(file, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes, size, at), size);
    assert_false(vmm_disk_info(p->m, file, &capacity, &used, &err));
    assert_true(err.code == VIC_CORRUPT || err.code == VIC_FORBIDDEN);
}

static void test_disk_hostile(void **state)
{
    struct parts *p = *state;
    create(p, "sound", NULL, 1 << 20, VIC_OK);
    damaged(p, 0, "RAW!", 4);
    damaged(p, 7, "\x04", 1);              /* version */
    damaged(p, 79, "\x04", 1);             /* external data file */
    damaged(p, 35, "\x01", 1);             /* encryption */
    damaged(p, 24, "\xff", 1);             /* capacity */
    damaged(p, 16, "\x00\x00\xff\xff", 4); /* length of the parent's name */
    damaged(p, 8, "\x7f", 1);              /* its place */
    damaged(p, 128, "json:{}", 7);         /* the name itself */
    damaged(p, 130, "\0", 1);
}

static void test_disk_create_is_quick(void **state)
{
    struct parts *p = *state;
    create(p, "quick", NULL, 1 << 30, VIC_OK);
    int64_t begin = clock_mono_ms(&vic_clock_real);
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "quick-%d", i);
        create(p, name, "quick", 0, VIC_OK);
    }
    print_message("100 children in %lld ms\n", (long long)(clock_mono_ms(&vic_clock_real) - begin));
}

/* ---- isolinux.cfg ---- */

static bool parse(const char *text, struct arena *a, struct vmm_boot_entry *out,
                  struct vic_err *err)
{
    return vmm_boot_parse(sv_of(text), SV("isolinux"), a, out, err);
}

static void test_isolinux(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vmm_boot_entry e;
    struct vic_err err;
    assert_true(parse("default b\r\nLABEL a\r\n kernel x\r\n append no\r\nLABEL b\r\n"
                      "\tLINUX /boot/vmlinuz\r\n\tAPPEND  quiet initrd=core.gz  console=ttyS0\r\n",
                      &a, &e, &err));
    assert_string_equal(e.kernel, "boot/vmlinuz");
    assert_string_equal(e.initrd, "isolinux/core.gz");
    assert_string_equal(e.append, "quiet console=ttyS0");
    assert_true(parse("LABEL z\nKERNEL k\nINITRD /i\nDEFAULT z", &a, &e, &err));
    assert_string_equal(e.kernel, "isolinux/k");
    assert_string_equal(e.initrd, "i");
    assert_string_equal(e.append, "");
    assert_true(parse("DEFAULT z\nLABEL z\nKERNEL k", &a, &e, &err));
    assert_string_equal(e.initrd, "");
}

static void test_isolinux_refusals(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "DEFAULT x", "DEFAULT x\nLABEL y\nKERNEL k",
                                      "DEFAULT x\nLABEL x\nAPPEND a",
                                      "DEFAULT x\nLABEL x\nKERNEL k\nINITRD a,b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_ARENA struct arena a = {0};
        struct vmm_boot_entry e;
        struct vic_err err = {0};
        assert_false(parse(bad[i], &a, &e, &err));
        assert_true(err.code == VIC_INVALID || err.code == VIC_UNSUPPORTED);
    }
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf text = {0};
    struct vmm_boot_entry e;
    buf_add_str(&text, "DEFAULT x\nLABEL x\nKERNEL k\nAPPEND ");
    for (int i = 0; i < 3000; i++)
        buf_add_c(&text, 'a');
    assert_false(parse(buf_str(&text), &a, &e, NULL));
}

/* ---- networks ---- */

static void show(struct parts *p, struct buf *out, const char *what, const char *name)
{
    const char *const argv[] = {"ip", "-d", "-n", p->netns, what, "show", "dev", name, NULL};
    buf_reset(out);
    assert_true(proc_run(argv, (struct sv){0}, out, 10000, NULL));
}

static void test_network(void **state)
{
    struct parts *p = *state;
    struct vic_err err = {0};
    AUTO_BUF struct buf out = {0};
    char bridge[16];
    for (int twice = 0; twice < 2; twice++)
        if (!vmm_network(p->m, "VM Network", "10.9.0.1/24", &err))
            fail_msg("%s", err.msg);
    assert_true(vmm_network_bridge(p->m, "VM Network", bridge));
    show(p, &out, "link", bridge);
    assert_non_null(strstr(buf_str(&out), "forward_delay 0 "));
    assert_non_null(strstr(buf_str(&out), "stp_state 0 "));
    assert_non_null(strstr(buf_str(&out), "mcast_snooping 0 "));
    assert_non_null(strstr(buf_str(&out), ",UP"));
    show(p, &out, "addr", bridge);
    assert_non_null(strstr(buf_str(&out), "inet 10.9.0.1/24"));
    assert_false(vmm_network(p->m, "x", "10.0.0.1/24 dev lo", &err));
    assert_int_equal(err.code, VIC_INVALID);
}

static void test_tap(void **state)
{
    struct parts *p = *state;
    struct vic_err err = {0};
    AUTO_BUF struct buf out = {0};
    char bridge[16];
    assert_true(vmm_network(p->m, "taps", NULL, &err));
    vmm_network_bridge(p->m, "taps", bridge);
    int tap = vmm_tap_open(p->m, "taps", &err);
    if (tap < 0)
        fail_msg("%s", err.msg);
    const char *const argv[] = {"ip", "-n", p->netns, "link", "show", "master", bridge, NULL};
    assert_true(proc_run(argv, (struct sv){0}, &out, 10000, NULL));
    assert_non_null(strstr(buf_str(&out), "vt0"));
    close(tap);
    buf_reset(&out);
    assert_true(proc_run(argv, (struct sv){0}, &out, 10000, NULL));
    assert_string_equal(buf_str(&out), "");
    assert_true(vmm_tap_open(p->m, "no such network", &err) < 0);
    assert_int_equal(err.code, VIC_NOT_FOUND);
}

/* ---- the probe, on what every machine has ---- */

static void test_probe(void **state)
{
    (void)state;
    assert_true(vmm_probe("tcg", 30000));
    assert_false(vmm_probe("no-such-accelerator", 5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_create),  cmocka_unit_test(test_disk_refusals),
        cmocka_unit_test(test_disk_hostile), cmocka_unit_test(test_disk_create_is_quick),
        cmocka_unit_test(test_isolinux),     cmocka_unit_test(test_isolinux_refusals),
        cmocka_unit_test(test_network),      cmocka_unit_test(test_tap),
        cmocka_unit_test(test_probe),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
