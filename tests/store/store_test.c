/* The store from outside: what its door promises. */
#include "util.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct place {
    char *dir;
    struct store *s;
};

static int set_up(void **state)
{
    struct place *p = xcalloc(1, sizeof *p);
    p->dir = new_folder();
    p->s = open_store(p->dir);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    if (p->s)
        verify_store(p->s);
    store_close(p->s);
    remove_folder(p->dir);
    free(p);
    return 0;
}

static void reopen(struct place *p)
{
    store_close(p->s);
    p->s = open_store(p->dir);
}

static struct store_vm vm_of(const char *id, const char *name)
{
    struct store_vm vm;
    store_init(store_rec_vm(), &vm);
    vm.meta.id = id;
    vm.meta.name = name;
    return vm;
}

static struct store_disk disk_of(const char *id, const char *holder)
{
    struct store_disk d;
    store_init(store_rec_disk(), &d);
    d.meta.id = id;
    d.holder = holder;
    return d;
}

static bool get(struct store *s, enum store_kind kind, const char *id, struct arena *a, void *out,
                struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    void *borrowed = arena_alloc(a, store_kind_rec(kind)->size);
    if (!t || !store_get(t, kind, id, a, borrowed, err))
        return false;
    store_copy(store_kind_rec(kind), borrowed, out, a);
    return true;
}

static bool find(struct store *s, enum store_kind kind, const char *name, struct arena *a,
                 const char **id, struct vic_err *err)
{
    AUTO_TXN struct store_txn *t = store_read(s, err);
    return t && store_find_name(t, kind, name, a, id, err);
}

/* --- records -------------------------------------------------------------------------------------
 */
static void test_put_get_reopen(void **state)
{
    struct place *p = *state;
    AUTO_ARENA struct arena a = {0};
    struct store_container c, back;
    typical_container(&c, 1, &a);
    check_ok(put_record(p->s, STORE_CONTAINER, &c, &err));
    reopen(p);
    check_ok(get(p->s, STORE_CONTAINER, c.meta.id, &a, &back, &err));
    assert_int_equal(back.meta.revision, 1);
    assert_true(back.meta.created > 0);
    c.meta.revision = back.meta.revision;
    c.meta.created = back.meta.created;
    assert_true(store_equal(store_rec_container(), &c, &back));
    check_fails(VIC_NOT_FOUND, get(p->s, STORE_CONTAINER, "nobody", &a, &back, &err));
    check_fails(VIC_NOT_FOUND, get(p->s, STORE_CONTAINER, "", &a, &back, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_get_reopen, set_up, tear_down),
    };
    (void)vm_of, (void)disk_of, (void)find;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
