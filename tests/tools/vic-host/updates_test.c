/* Filters and updates: a client that loses replies, takes them cut short and asks again must end up
 * with the truth. */
#include "model_fixture.h"

enum { VMS = 12, MIRROR = 64 };

static struct vim_PropertyFilterSpec *spec_of(struct model *m, struct arena *a)
{
    struct vim_PropertyFilterSpec *s = VIM_NEW(a, PropertyFilterSpec);
    struct vim_PropertySpec *p = VIM_NEW(a, PropertySpec);
    struct vim_ObjectSpec *o = VIM_NEW(a, ObjectSpec);
    struct vim_TraversalSpec *t = VIM_NEW(a, TraversalSpec);
    p->type = "VirtualMachine";
    VIM_PUSH(a, &p->pathSet, "name");
    VIM_PUSH(a, &p->pathSet, "config.annotation");
    VIM_PUSH(a, &p->pathSet, "config.hardware.memoryMB");
    t->type = "ResourcePool";
    t->path = "vm";
    o->obj = vh_ref(m->h.root_pool);
    o->has_skip = o->skip = true;
    VIM_PUSH(a, &o->selectSet, VIM_BASE(SelectionSpec, t));
    VIM_PUSH(a, &s->propSet, p);
    VIM_PUSH(a, &s->objectSet, o);
    return s;
}

static struct vh_filter *filter_new(struct model *m, struct vh_collector *pc, const char *id,
                                    bool partial)
{
    struct vh_filter *f = xcalloc(1, sizeof *f);
    f->collector = pc;
    f->partial = partial;
    f->spec = spec_of(m, &f->a);
    f->obj.owner = &m->session;
    vh_add(&m->h, &f->obj, &vim_managed_PropertyFilter, id, NULL, NULL);
    LIST_INSERT_HEAD(&pc->filters, f, link);
    return f;
}

static void filter_drop(struct model *m, struct vh_filter *f)
{
    vh_filter_forget(f);
    LIST_REMOVE(f, link);
    arena_fini(&f->a);
    vh_drop(&m->h, &f->obj);
}

static struct vim_UpdateSet *poll(struct model *m, struct vh_collector *pc, struct vh_filter *f,
                                  uint64_t version, size_t max, struct arena *a)
{
    struct vh_read r = {&m->h, &m->session, a};
    pc->shown = version;
    vh_filter_scan(&m->h, f);
    return vh_collector_news(&r, pc, version, max);
}

static void change(struct model *m, struct vh_vm *vm, const char *annotation)
{
    vm->conf->info->annotation = arena_strdup(&vm->conf->a, annotation);
    vh_touch(&m->h, &vm->obj);
}

static uint64_t version_of(const struct vim_UpdateSet *u)
{
    uint64_t v;
    assert_true(sv_to_u64(sv_of(u->version), &v));
    return v;
}

static void kinds(void **state)
{
    struct model *m = model_new();
    struct vh_collector pc = {.session = &m->session};
    struct vh_filter *f = filter_new(m, &pc, "f", false);
    AUTO_ARENA struct arena a = {0};
    (void)state;
    assert_null(poll(m, &pc, f, 0, 10, &a));
    struct vh_vm *vm = model_vm(m, "1", "one");
    struct vim_UpdateSet *u = poll(m, &pc, f, 0, 10, &a);
    struct vim_ObjectUpdate *o = u->filterSet.v[0]->objectSet.v[0];
    assert_int_equal(o->kind, vim_ObjectUpdateKind_enter);
    assert_int_equal(o->changeSet.n, 2); /* no annotation yet */
    uint64_t v = version_of(u);
    assert_null(poll(m, &pc, f, v, 10, &a));
    change(m, vm, "x");
    u = poll(m, &pc, f, v, 10, &a);
    o = u->filterSet.v[0]->objectSet.v[0];
    assert_int_equal(o->kind, vim_ObjectUpdateKind_modify);
    assert_int_equal(o->changeSet.n, 1);
    assert_string_equal(o->changeSet.v[0]->name, "config.annotation");
    v = version_of(u);
    vm->conf->info->annotation = NULL; /* unset: an assign without a value */
    vh_touch(&m->h, &vm->obj);
    u = poll(m, &pc, f, v, 10, &a);
    o = u->filterSet.v[0]->objectSet.v[0];
    assert_int_equal(o->changeSet.v[0]->op, vim_PropertyChangeOp_assign);
    assert_int_equal(o->changeSet.v[0]->val.kind, VIM_NONE);
    v = version_of(u);
    vh_touch(&m->h, &vm->obj); /* touched, not changed */
    assert_null(poll(m, &pc, f, v, 10, &a));
    vh_vm_remove(&m->h, vm);
    u = poll(m, &pc, f, v, 10, &a);
    assert_int_equal(u->filterSet.v[0]->objectSet.v[0]->kind, vim_ObjectUpdateKind_leave);
    assert_null(poll(m, &pc, f, version_of(u), 10, &a));
    filter_drop(m, f);
    model_free(m);
}

/* What a client believes: VM id -> annotation. */
struct mirror {
    bool there;
    char annotation[16];
};

static void apply(struct mirror *mirror, const struct vim_UpdateSet *u)
{
    for (size_t i = 0; i < u->filterSet.n; i++)
        for (size_t k = 0; k < u->filterSet.v[i]->objectSet.n; k++) {
            const struct vim_ObjectUpdate *o = u->filterSet.v[i]->objectSet.v[k];
            struct mirror *e = &mirror[strtol(o->obj.value, NULL, 10)];
            if (o->kind == vim_ObjectUpdateKind_modify)
                assert_true(e->there); /* never a change of what did not enter */
            if (o->kind != vim_ObjectUpdateKind_modify)
                *e = (struct mirror){.there = o->kind == vim_ObjectUpdateKind_enter};
            for (size_t n = 0; n < o->changeSet.n; n++)
                if (!strcmp(o->changeSet.v[n]->name, "config.annotation"))
                    snprintf(e->annotation, sizeof e->annotation, "%s",
                             o->changeSet.v[n]->val.kind ? o->changeSet.v[n]->val.s : "");
        }
}

static void check(struct model *m, const struct mirror *mirror)
{
    for (int i = 0; i < MIRROR; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        struct vh_vm *vm = vh_vm_find(&m->h, id);
        assert_int_equal(mirror[i].there, vm != NULL);
        if (vm)
            assert_string_equal(mirror[i].annotation,
                                vm->conf->info->annotation ? vm->conf->info->annotation : "");
    }
}

static void mutate(struct model *m, unsigned *seed)
{
    char id[16], text[32];
    snprintf(id, sizeof id, "%d", rand_r(seed) % VMS);
    struct vh_vm *vm = vh_vm_find(&m->h, id);
    if (!vm) {
        snprintf(text, sizeof text, "vm%s", id);
        model_vm(m, id, text);
    } else if (rand_r(seed) % 6 == 0) {
        vh_vm_remove(&m->h, vm);
    } else {
        snprintf(text, sizeof text, "%d", rand_r(seed));
        change(m, vm, text);
    }
}

static void one_history(unsigned seed, bool partial)
{
    struct model *m = model_new();
    struct vh_collector pc = {.session = &m->session};
    struct vh_filter *f = filter_new(m, &pc, "f", partial);
    struct mirror mirror[MIRROR] = {0};
    uint64_t version = 0;
    for (int step = 0; step < 300; step++) {
        AUTO_ARENA struct arena a = {0};
        for (unsigned n = (unsigned)rand_r(&seed) % 4; n > 0; n--)
            mutate(m, &seed);
        struct vim_UpdateSet *u = poll(m, &pc, f, version, 1 + (size_t)rand_r(&seed) % 3, &a);
        if (!u || rand_r(&seed) % 3 == 0) /* the reply is lost */
            continue;
        apply(mirror, u);
        version = version_of(u);
        bool more = poll(m, &pc, f, version, 1, &a) != NULL;
        assert_int_equal(u->has_truncated && u->truncated, more);
    }
    for (;;) {
        AUTO_ARENA struct arena a = {0};
        struct vim_UpdateSet *u = poll(m, &pc, f, version, 2, &a);
        if (!u)
            break;
        apply(mirror, u);
        version = version_of(u);
    }
    check(m, mirror);
    filter_drop(m, f);
    model_free(m);
}

static void lossy_client(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        print_message("seed %u\n", seed);
        one_history(seed, seed % 2);
    }
}

struct found {
    char text[512];
};

static void note(void *arg, const char *path, enum vim_PropertyChangeOp op)
{
    struct found *f = arg;
    size_t n = strlen(f->text);
    snprintf(f->text + n, sizeof f->text - n, "%s%s ",
             op == vim_PropertyChangeOp_add      ? "+"
             : op == vim_PropertyChangeOp_remove ? "-"
                                                 : "=",
             path);
}

static void differences(void **state)
{
    struct model *m = model_new();
    struct vh_vm *vm = model_vm(m, "1", "one");
    AUTO_ARENA struct arena a = {0};
    struct vh_conf *copy = vh_conf_clone(vm->conf);
    struct vim_any x = VIM_ANY_OBJECT(vm->conf->info), y = VIM_ANY_OBJECT(copy->info);
    struct found f = {""};
    (void)state;
    vh_diff(&a, "config", &x, &y, note, &f);
    assert_string_equal(f.text, "");
    copy->info->hardware->memoryMB = 512;
    copy->info->hardware->device.n--; /* the video card */
    VIM_CAST(VirtualController, copy->info->hardware->device.v[0])->busNumber = 9;
    vh_diff(&a, "config", &x, &y, note, &f);
    assert_non_null(strstr(f.text, "=config.hardware.memoryMB "));
    assert_non_null(strstr(f.text, "-config.hardware.device[500] "));
    assert_non_null(strstr(f.text, "=config.hardware.device[200] "));
    f.text[0] = '\0';
    vh_diff(&a, "config", &y, &x, note, &f);
    assert_non_null(strstr(f.text, "+config.hardware.device[500] "));
    vh_conf_free(copy);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(lossy_client),
        cmocka_unit_test(differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
