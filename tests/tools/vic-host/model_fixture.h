/* A host's model without HTTP, QEMU and state file: for tests of its parts. */
#ifndef VIC_HOST_MODEL_FIXTURE_H
#define VIC_HOST_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

#include "datastore.h"
#include "disks.h"
#include "inventory.h"
#include "pc.h"
#include "pools.h"
#include "service.h"
#include "vm.h"

struct model {
    struct vh h;
    struct vh_session session;
    char dir[64]; /* datastore1 */
};

static inline struct model *model_new(void)
{
    struct model *m = xcalloc(1, sizeof *m);
    struct vic_err err;
    snprintf(m->dir, sizeof m->dir, "/tmp/vic-host-model-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    m->h.opt.clock = &vic_clock_real;
    mutex_init(&m->h.lock);
    mutex_init(&m->h.later_lock);
    vh_service_new(&m->h);
    vh_inventory_new(&m->h);
    vh_root_pool_new(&m->h);
    assert_true(vh_ds_add(&m->h, "datastore1", m->dir, &err));
    vh_net_add(&m->h, "VM Network");
    return m;
}

static inline void model_free(struct model *m)
{
    AUTO_FREE char *remove = xasprintf("rm -r %s", m->dir);
    vh_collector_free(&m->h, m->session.pc);
    while (m->h.objects) {
        struct vh_obj *last = ELMT_FROM_HH(m->h.objects->hh.tbl, m->h.objects->hh.tbl->tail);
        last->parent = NULL;
        vh_drop(&m->h, last);
    }
    vh_disks_free(&m->h);
    assert_int_equal(system(remove), 0);
    mutex_fini(&m->h.lock);
    mutex_fini(&m->h.later_lock);
    free(m);
}

static inline struct vh_vm *model_vm(struct model *m, const char *id, const char *name)
{
    struct vh_conf *c = vh_conf_new(&m->h, name);
    c->info->files->vmPathName = arena_printf(&c->a, "[datastore1] %s/%s.vmx", name, name);
    return vh_vm_add(&m->h, id, c, m->h.root_pool);
}

#endif
