/* Datastore paths, property paths, faults, configurations: vic-host's model without a host. */
#include "model_fixture.h"

#include <fcntl.h>

/* --- datastore paths
 * --------------------------------------------------------------------------------- */

static void clean_paths(void **state)
{
    static const struct {
        const char *text, *clean; /* NULL: refused */
    } rows[] = {
        {"", ""},
        {"a", "a"},
        {"/a//b/./c/", "a/b/c"},
        {"..", NULL},
        {"a/../b", NULL},
        {"a/..", NULL},
        {"...", "..."},
        {"..a/b..", "..a/b.."},
        {"\xc3\xa4 b", "\xc3\xa4 b"},
    };
    char out[VH_MAX_PATH];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(vh_path_clean(sv_of(rows[i].text), out), rows[i].clean != NULL);
        if (rows[i].clean)
            assert_string_equal(out, rows[i].clean);
    }
    assert_false(vh_path_clean(sv_make("a\0b", 3), out));
    char name[VH_MAX_NAME + 2];
    memset(name, 'x', sizeof name);
    assert_false(vh_path_clean(sv_make(name, VH_MAX_NAME + 1), out));
    assert_true(vh_path_clean(sv_make(name, VH_MAX_NAME), out));
    char deep[VH_MAX_PATH * 2];
    for (size_t i = 0; i < sizeof deep; i++)
        deep[i] = i % 2 ? '/' : 'x';
    assert_false(vh_path_clean(sv_make(deep, sizeof deep), out));
}

static void parse_paths(void **state)
{
    static const struct {
        const char *text;
        const struct vim_type *fault; /* NULL: good */
        const char *rel;
    } rows[] = {
        {"[datastore1]", NULL, ""},
        {"[datastore1] a/b", NULL, "a/b"},
        {"[datastore1]a", NULL, "a"},
        {"[datastore1] /a", NULL, "a"},
        {"", &vim_type_InvalidDatastorePath, NULL},
        {"a", &vim_type_InvalidDatastorePath, NULL},
        {"[datastore1", &vim_type_InvalidDatastorePath, NULL},
        {"[] a", &vim_type_InvalidDatastorePath, NULL},
        {"[datastore1] ../x", &vim_type_InvalidDatastorePath, NULL},
        {"[other] x", &vim_type_InvalidDatastore, NULL},
    };
    struct model *m = model_new();
    AUTO_ARENA struct arena a = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct vh_fault f = {.a = &a};
        struct vh_path p;
        bool good = vh_path_parse(&m->h, rows[i].text, &p, &f);
        assert_int_equal(good, rows[i].fault == NULL);
        if (good)
            assert_string_equal(p.rel, rows[i].rel);
        else
            assert_ptr_equal(f.detail->vim, rows[i].fault);
    }
    model_free(m);
}

static struct vh_path path(struct model *m, const char *rel)
{
    struct vh_path p = {.ds = vh_ds_at(&m->h, 0)};
    snprintf(p.rel, sizeof p.rel, "%s", rel);
    return p;
}

/* Links in the datastore lead nowhere, to a file or through a folder, for reading and writing. */
static void links_lead_nowhere(void **state)
{
    struct model *m = model_new();
    AUTO_FREE char *dir = xasprintf("%s/dir", m->dir);
    AUTO_FREE char *file = xasprintf("%s/file", m->dir);
    (void)state;
    assert_int_equal(symlink("/etc", dir), 0);
    assert_int_equal(symlink("/etc/hostname", file), 0);
    static const char *const names[] = {"file", "dir/hostname", "dir/new"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct vh_path p = path(m, names[i]), q = path(m, "copy");
        struct vic_err err;
        int fd;
        assert_false(vh_file_exists(&p));
        assert_false(vh_file_open(&p, O_RDONLY, &fd, &err));
        assert_int_equal(err.code, VIC_NOT_FOUND);
        assert_false(vh_file_open(&p, O_WRONLY | O_CREAT, &fd, &err));
        assert_false(vh_file_copy(&p, &q, false, &err));
        if (i > 0)
            assert_false(vh_file_write(&p, SV("x"), &err));
    }
    /* Removing a folder removes a link in it, never what it points to. */
    struct vh_path sub = path(m, "sub");
    struct vic_err err;
    assert_true(vh_dir_make(&sub, false, &err));
    AUTO_FREE char *inside = xasprintf("%s/sub/link", m->dir);
    AUTO_FREE char *kept = xasprintf("%s/kept", m->dir);
    assert_int_equal(mkdir(kept, 0755), 0);
    AUTO_FREE char *kept_file = xasprintf("%s/kept/file", m->dir);
    AUTO_CLOSE int fd = open(kept_file, O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0);
    assert_int_equal(symlink(kept, inside), 0);
    assert_true(vh_file_remove(&sub, &err));
    assert_int_equal(access(kept_file, F_OK), 0);
    model_free(m);
}

static void files(void **state)
{
    struct model *m = model_new();
    struct vh_path a = path(m, "x/y/a"), b = path(m, "x/b"), dir = path(m, "x/y"),
                   top = path(m, "x");
    struct vic_err err;
    (void)state;
    assert_false(vh_dir_make(&dir, false, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    assert_true(vh_dir_make(&dir, true, &err));
    assert_false(vh_dir_make(&dir, true, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    assert_true(vh_file_write(&a, SV("one"), &err));
    assert_true(vh_file_copy(&a, &b, false, &err));
    assert_false(vh_file_copy(&a, &b, false, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    assert_false(vh_file_rename(&a, &b, false, &err));
    assert_int_equal(err.code, VIC_CONFLICT);
    assert_true(vh_file_rename(&a, &b, true, &err));
    vh_dir_remove_empty(&top); /* is not empty */
    assert_true(vh_dir_exists(&top));
    assert_true(vh_file_remove(&top, &err));
    assert_false(vh_file_remove(&top, &err));
    assert_int_equal(err.code, VIC_NOT_FOUND);
    model_free(m);
}

/* --- property paths
 * ---------------------------------------------------------------------------------------- */

static void property_paths(void **state)
{
    static const struct {
        const char *path;
        bool known;
        enum vim_kind kind;
    } rows[] = {
        {"name", true, VIM_STRING},
        {"config.hardware.device", true, VIM_OBJECT},
        {"config.hardware.device[200]", true, VIM_OBJECT},
        {"config.hardware.device[200].busNumber", true, VIM_INT},
        {"config.hardware.device[9]", true, VIM_NONE},
        {"config.hardware.device[9].busNumber", true, VIM_NONE},
        {"config.extraConfig[\"a.b[c]\"].value", true, VIM_STRING},
        {"config.extraConfig[\"none\"]", true, VIM_NONE},
        {"config.annotation", true, VIM_NONE},
        {"runtime.powerState", true, VIM_ENUM},
        {"summary.runtime.host", true, VIM_REF},
        {"snapshot", true, VIM_NONE},
        {"guest.net", true, VIM_NONE},
        {"bogus", false, VIM_NONE},
        {"config.bogus", false, VIM_NONE},
        {"config.hardware.device.key", false, VIM_NONE},
        {"config.hardware.device[200", false, VIM_NONE},
        {"name.x", false, VIM_NONE},
        {"", false, VIM_NONE},
    };
    struct model *m = model_new();
    struct vh_vm *vm = model_vm(m, "1", "web/1");
    AUTO_ARENA struct arena a = {0};
    struct vh_read r = {&m->h, &m->session, &a};
    vh_options_array list = {0};
    (void)state;
    vh_option_set(&vm->conf->a, &list, "a.b[c]", VIM_ANY_STRING("x"));
    vm->conf->info->extraConfig.v = list.v;
    vm->conf->info->extraConfig.n = list.n;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct vim_any v;
        assert_int_equal(vh_value(&r, &vm->obj, sv_of(rows[i].path), &v), rows[i].known);
        if (rows[i].known)
            assert_int_equal(v.kind, rows[i].kind);
    }
    struct vim_any name;
    assert_true(vh_value(&r, &vm->obj, SV("name"), &name));
    assert_string_equal(name.s, "web%2f1");
    model_free(m);
}

static void each_one(void *arg, const char *name)
{
    struct vh_read *r = ((void **)arg)[0];
    struct vh_obj *o = ((void **)arg)[1];
    AUTO_BUF struct buf text = {0};
    struct vim_any v, back;
    struct vic_err err;
    assert_true(vh_value(r, o, sv_of(name), &v));
    if (v.kind == VIM_NONE)
        return;
    const struct vim_property *p = vim_find_property(o->type, sv_of(name));
    assert_int_equal(v.kind, p->kind);
    assert_int_equal(v.array, (p->flags & VIM_ARRAY) != 0);
    soap_write_any(&text, "v", &v);
    assert_true(soap_parse_any(buf_sv(&text), r->a, &back, &err));
}

/* Every property of every object has the type that the schema gives it, and can be written. */
static void all_properties(void **state)
{
    struct model *m = model_new();
    AUTO_ARENA struct arena a = {0};
    struct vh_read r = {&m->h, &m->session, &a};
    (void)state;
    model_vm(m, "1", "one");
    for (struct vh_obj *o = m->h.objects; o; o = o->hh.next) {
        void *arg[] = {&r, o};
        vh_each_property(o->type, each_one, arg);
    }
    model_free(m);
}

/* --- configurations
 * ------------------------------------------------------------------------------------------ */

static struct vim_VirtualMachineConfigSpec *spec_with(struct arena *a, const char *key,
                                                      const char *value)
{
    struct vim_VirtualMachineConfigSpec *s = VIM_NEW(a, VirtualMachineConfigSpec);
    struct vim_OptionValue *o = VIM_NEW(a, OptionValue);
    o->key = key;
    o->value = VIM_ANY_STRING(value);
    VIM_PUSH(a, &s->extraConfig, o);
    return s;
}

static const char *seen(struct vh_conf *c, const char *key)
{
    vh_options_array live = {c->info->extraConfig.v, c->info->extraConfig.n};
    return vh_option(&live, key);
}

static void extra_config_layers(void **state)
{
    struct model *m = model_new();
    AUTO_ARENA struct arena a = {0};
    struct vh_fault f = {.a = &a};
    struct vh_vm *vm = model_vm(m, "1", "one");
    (void)state;
    m->h.opt.strict = true;
    assert_true(vh_conf_apply(&m->h, vm->conf, spec_with(&a, "k", "off"), false, &f));
    vm->on = true;
    assert_true(vh_conf_apply(&m->h, vm->conf, spec_with(&a, "k", "on"), true, &f));
    assert_string_equal(seen(vm->conf, "k"), "on");
    struct vh_conf *copy = vh_conf_clone(vm->conf);
    assert_string_equal(seen(copy, "k"), "on");
    vh_vm_set_conf(&m->h, vm, copy);
    vh_vm_ended(&m->h, vm);
    assert_string_equal(seen(vm->conf, "k"), "off");
    m->h.opt.strict = false;
    vm->on = true;
    assert_true(vh_conf_apply(&m->h, vm->conf, spec_with(&a, "k", ""), true, &f));
    assert_null(seen(vm->conf, "k"));
    vh_vm_ended(&m->h, vm);
    assert_null(seen(vm->conf, "k"));
    model_free(m);
}

static void guest(struct model *m, const char *command, const char *reply)
{
    AUTO_BUF struct buf out = {0};
    vh_vm_guestinfo(&m->h, "1", sv_of(command), &out);
    assert_string_equal(buf_str(&out), reply);
}

static void guestinfo_rules(void **state)
{
    struct model *m = model_new();
    struct vh_vm *vm = model_vm(m, "1", "one");
    (void)state;
    guest(m, "info-get guestinfo.a", "0 No value found");
    guest(m, "info-set guestinfo.a b c", "1 ");
    guest(m, "info-get guestinfo.a", "1 b c");
    guest(m, "info-set guestinfo.a ", "1 ");
    guest(m, "info-get guestinfo.a", "0 No value found");
    guest(m, "info-get hidden", "0 Permission denied");
    guest(m, "info-set hidden x", "0 Permission denied");
    guest(m, "info-set guestinfo.ro/a x", "0 Permission denied");
    guest(m, "bogus guestinfo.a", "0 Unknown command");
    guest(m, "", "0 Permission denied");
    AUTO_BUF struct buf big = {0};
    buf_add_str(&big, "info-set guestinfo.big ");
    while (big.len < VH_MAX_VALUE + 100)
        buf_add_str(&big, "0123456789");
    guest(m, buf_str(&big), "0 Value too long");
    /* All values together are bounded, and what is replaced does not count twice. */
    size_t set = 0;
    for (int i = 0; i < 40; i++) {
        AUTO_BUF struct buf line = {0}, out = {0};
        buf_addf(&line, "info-set guestinfo.k%d ", i % 30);
        while (line.len < 60000)
            buf_add_c(&line, 'x');
        vh_vm_guestinfo(&m->h, "1", buf_sv(&line), &out);
        set += out.data[0] == '1';
    }
    assert_true(set >= 17 && set < 30);
    assert_true(vm->guest_size <= VH_MAX_GUEST);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_paths),         cmocka_unit_test(parse_paths),
        cmocka_unit_test(links_lead_nowhere),  cmocka_unit_test(files),
        cmocka_unit_test(property_paths),      cmocka_unit_test(all_properties),
        cmocka_unit_test(extra_config_layers), cmocka_unit_test(guestinfo_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
