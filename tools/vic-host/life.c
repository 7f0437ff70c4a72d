/* Opening and closing a host: see life.h.
 *
 * Files in the state folder: state.mdb (the records), password, cert.pem with key.pem and the CA
 * that signed it, thumbprint (SHA-256 of cert.pem), bridge (the name of the containers' bridge in
 * the network namespace), ready (made when requests are served), run/ (QEMU's sockets).
 *
 * After a crash: VMs that run are taken up again.  Where a running VM's disks differ from its
 * record (a hot plug was cut off between QEMU and the commit), QEMU is made to follow the record;
 * then the tasks that were cut are cleaned up. */
#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/tls.h"

#include "disks.h"
#include "inventory.h"
#include "pc.h"
#include "pools.h"
#include "server.h"
#include "service.h"
#include "tasks.h"
#include "vm.h"

enum {
    REQUEST_THREADS = 8,
    TASK_THREADS = 16,
    SWEEP_MS = 10000,
    ID_STEP = 100000, /* ids reserved at a time: a new start never gives an id a second time */
    MAX_TARGETS = 16,
};

static char *in_dir(const struct vh_life *l, struct arena *a, const char *name)
{
    return arena_printf(a, "%s/%s", l->h.opt.state_dir, name);
}

static bool write_file(const struct vh_life *l, const char *name, const char *text, mode_t mode,
                       struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const char *path = in_dir(l, &a, name), *temp = arena_printf(&a, "%s.new", path);
    AUTO_CLOSE int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || rename(temp, path) != 0)
        return vic_fail_errno(err, "write %s", path);
    return true;
}

/* --- identity --------------------------------------------------------------------------------- */

static bool reserve_ids(struct vh *h, uint64_t next, struct vic_err *err)
{
    AUTO_BATCH struct state_batch batch = {0};
    AUTO_BUF struct buf text = {0};
    struct json_writer w = json_writer(&text);
    json_open(&w, NULL, '{');
    json_add_str(&w, "uuid", h->uuid);
    json_add_u64(&w, "next", next + ID_STEP);
    json_close(&w, '}');
    state_put(&batch, "host", buf_sv(&text));
    if (!state_commit(h->state, &batch, true, err))
        return false;
    mutex_lock(&h->lock);
    h->id_limit = next + ID_STEP;
    mutex_unlock(&h->lock);
    return true;
}

static bool load_identity(struct vh *h, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct sv text;
    struct vic_err none;
    if (state_get(h->state, "host", &a, &text, &none)) {
        if (!json_parse(text, 0, &a, &v, err))
            return false;
        snprintf(h->uuid, sizeof h->uuid, "%s", json_str(json_get(v, "uuid"), ""));
        h->next_id = (uint64_t)json_i64(json_get(v, "next"), 0);
    } else if (none.code == VIC_NOT_FOUND) {
        random_uuid(h->uuid);
    } else {
        *err = none;
        return false;
    }
    return reserve_ids(h, h->next_id, err);
}

static bool make_certificate(struct vh_life *l, struct vic_err *err)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "::1", NULL};
    AUTO_ARENA struct arena a = {0};
    const char *cert = in_dir(l, &a, "cert.pem"), *key = in_dir(l, &a, "key.pem");
    const char *ca = in_dir(l, &a, "ca.pem"), *ca_key = in_dir(l, &a, "ca-key.pem");
    if (access(cert, F_OK) != 0 &&
        (!cert_make_ca("vic-host", ca, ca_key, err) ||
         !cert_make("vic-host", names, false, ca, ca_key, cert, key, err)))
        return false;
    if (!cert_thumbprint(cert, false, l->thumbprint, err))
        return false;
    return write_file(l, "thumbprint", arena_printf(&a, "%s\n", l->thumbprint), 0644, err);
}

/* --- places ----------------------------------------------------------------------------------- */

static bool add_datastore(struct vh_life *l, const char *text, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct sv dir = sv_of(text), name = sv_cut(&dir, '=');
    if (!name.len || !dir.len || memchr(name.p, ']', name.len))
        return vic_fail(err, VIC_INVALID, 0, "--datastore %s: NAME=DIR is wanted", text);
    if (vh_ds_by_name(&l->h, name))
        return vic_fail(err, VIC_INVALID, 0, "--datastore %s: the name is taken", text);
    return vh_ds_add(&l->h, arena_sv(&a, name), arena_sv(&a, dir), err);
}

static bool add_datastores(struct vh_life *l, const struct vh_config *c, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    for (size_t i = 0; i < c->datastores.n; i++)
        if (!add_datastore(l, c->datastores.v[i], err))
            return false;
    if (c->datastores.n)
        return true;
    return vh_ds_add(&l->h, "datastore1", in_dir(l, &a, "datastore1"), err);
}

/* The folder above all datastores: no disk or parent that QEMU opens may lie outside. */
static char *common_dir(struct vh *h, struct arena *a)
{
    char *dir = arena_strdup(a, vh_ds_at(h, 0)->dir);
    struct vh_ds *ds;
    for (size_t i = 1; (ds = vh_ds_at(h, i)); i++)
        while (strncmp(ds->dir, dir, strlen(dir)) != 0 ||
               (ds->dir[strlen(dir)] && ds->dir[strlen(dir)] != '/')) {
            char *slash = strrchr(dir, '/');
            if (slash == dir)
                return arena_strdup(a, "/");
            *slash = '\0';
        }
    return dir;
}

static bool open_vmm(struct vh_life *l, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    struct vmm_options o = {
        .run_dir = in_dir(l, &a, "run"),
        .netns = l->h.opt.netns,
        .disk_dir = common_dir(&l->h, &a),
        .qemu_user = l->h.opt.qemu_user,
        .kvm = l->h.opt.kvm,
        .loop = l->h.opt.loop,
        .log = l->h.opt.log,
        .on_exit = vh_vm_exited,
        .on_guestinfo = vh_vm_guestinfo,
        .arg = &l->h,
    };
    l->h.vmm = vmm_open(&o, err);
    return l->h.vmm != NULL;
}

static bool add_networks(struct vh_life *l, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const char *names[] = {"VM Network", l->h.opt.bridge};
    char bridge[16] = "";
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        vh_net_add(&l->h, names[i]);
        if (l->h.opt.netns && !vmm_network(l->h.vmm, names[i], NULL, err))
            return false;
    }
    if (!l->h.opt.netns || !vmm_network_bridge(l->h.vmm, l->h.opt.bridge, bridge))
        return true;
    return write_file(l, "bridge", arena_printf(&a, "%s\n", bridge), 0644, err);
}

/* --- after a crash ---------------------------------------------------------------------------- */

static struct vim_VirtualDisk *disk_at_target(const struct vh_conf *c, unsigned target)
{
    struct vim_VirtualDisk *d;
    for (size_t i = 0; (d = vh_disk_at(c, i)); i++)
        if ((unsigned)d->unitNumber == target)
            return d;
    return NULL;
}

/* Adding what is there fails with CONFLICT, removing what is not with NOT_FOUND: both are fine. */
static void follow_record(struct vh *h, const char *id, const struct vh_conf *c, unsigned target)
{
    AUTO_ARENA struct arena a = {0};
    struct vim_VirtualDisk *d = disk_at_target(c, target);
    struct vh_path p;
    struct vic_err err = {0};
    bool good = true;
    if (d && vh_disk_path(h, d, &p)) {
        struct vmm_disk disk = {target, vh_path_host(&a, &p), vh_disk_read_only(d)};
        good = vmm_disk_add(h->vmm, id, &disk, &err) || err.code == VIC_CONFLICT;
    } else if (!d) {
        good = vmm_disk_remove(h->vmm, id, target, &err) || err.code == VIC_NOT_FOUND;
    }
    if (!good)
        log_warn(h->opt.log, "vm.disk_differs", KV_S("vm", id), KV_U("target", target),
                 KV_ERR(&err));
}

static void hold_disks(struct vh *h, struct vh_vm *vm)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_fault f = {.a = &a};
    struct vim_VirtualDisk *d;
    struct vh_path p;
    for (size_t i = 0; (d = vh_disk_at(vm->conf, i)); i++)
        if (vh_disk_path(h, d, &p) && !vh_hold(h, vm, &p, &f))
            log_warn(h->opt.log, "vm.disk_shared", KV_S("vm", vm->obj.id), KV_S("path", p.rel));
}

/* The loop runs already, so the VM may end at any time; nobody else touches it. */
static bool take_up(struct vh *h, const char *id, struct vic_err *err)
{
    struct vh_conf *c = NULL;
    bool runs = vmm_running(h->vmm, id);
    mutex_lock(&h->lock);
    struct vh_vm *vm = vh_vm_find(h, id);
    bool on = vm->on;
    if (on && runs) {
        hold_disks(h, vm);
        c = vh_conf_clone(vm->conf);
    }
    mutex_unlock(&h->lock);
    if (on && !runs)
        vh_vm_exited(h, id, true);
    if (!on && runs) /* started by a task that was cut */
        return vmm_stop(h->vmm, id, err);
    for (unsigned target = 0; c && target < MAX_TARGETS; target++)
        follow_record(h, id, c, target);
    if (c)
        log_info(h->opt.log, "vm.found", KV_S("vm", id), KV_S("name", c->info->name));
    vh_conf_free(c);
    return true;
}

/* Ids of all VMs, ended by NULL. */
static const char **vm_ids(struct vh *h, struct arena *a)
{
    VIM_ARRAY_OF(const char *) ids = {0};
    mutex_lock(&h->lock);
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        if (o->type == &vim_managed_VirtualMachine)
            VIM_PUSH(a, &ids, arena_strdup(a, o->id));
    mutex_unlock(&h->lock);
    VIM_PUSH(a, &ids, NULL);
    return ids.v;
}

static bool recover(struct vh *h, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    for (const char **id = vm_ids(h, &a); *id; id++)
        if (!take_up(h, *id, err))
            return false;
    mutex_lock(&h->lock); /* the tasks' objects are made; nobody asks yet */
    bool good = vh_tasks_recover(h, err);
    mutex_unlock(&h->lock);
    return good;
}

static bool load(struct vh *h, struct vic_err *err)
{
    return vh_disks_load(h, err) && vh_pools_load(h, err) && vh_vms_load(h, err);
}
/* --- listening -------------------------------------------------------------------------------- */

/* Listening is the loop thread's; the caller waits for it. */
struct listening {
    struct vh_life *l;
    const char *address;
    struct tls_ctx *tls;
    int port;
    bool inside;
    struct vic_err err;
    struct vic_mutex lock;
    struct vic_cond done;
    enum { WAITING, FAILED, LISTENS } state;
};

static bool listen_here(struct listening *w, struct vic_err *err)
{
    return http_listen(w->l->server, w->address, w->tls, &w->port, err);
}

/* A socket belongs to the namespace in which it was made. */
static bool listen_in_netns(struct listening *w, struct vic_err *err)
{
    AUTO_FREE char *path = xasprintf("/run/netns/%s", w->l->h.opt.netns);
    AUTO_CLOSE int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
        return vic_fail_errno(err, "enter the network namespace %s", path);
    bool good = listen_here(w, err);
    if (setns(home, CLONE_NEWNET) != 0)
        abort(); /* this thread would go on in the wrong namespace */
    return good;
}

static void listen_on_loop(void *arg)
{
    struct listening *w = arg;
    bool good = w->inside ? listen_in_netns(w, &w->err) : listen_here(w, &w->err);
    mutex_lock(&w->lock);
    w->state = good ? LISTENS : FAILED;
    cond_signal(&w->done);
    mutex_unlock(&w->lock);
}

static bool listen_and_wait(struct listening *w, struct vic_err *err)
{
    mutex_init(&w->lock);
    cond_init(&w->done);
    bool posted = loop_post(w->l->h.opt.loop, listen_on_loop, w);
    mutex_lock(&w->lock);
    while (posted && w->state == WAITING)
        cond_wait(&w->done, &w->lock);
    mutex_unlock(&w->lock);
    cond_fini(&w->done);
    mutex_fini(&w->lock);
    if (w->state == FAILED)
        *err = w->err;
    return posted && w->state == LISTENS;
}

/* "tcp:ADDRESS:PORT", or "netns:ADDRESS:PORT" for a socket inside --netns. */
static bool start_listening(struct vh_life *l, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    const char *address = l->listen;
    struct listening w = {.l = l, .address = address};
    w.inside = sv_starts(sv_of(address), SV("netns:"));
    if (w.inside && !l->h.opt.netns)
        return vic_fail(err, VIC_INVALID, 0, "--listen %s needs --netns", address);
    w.tls = tls_server_cert(in_dir(l, &a, "cert.pem"), in_dir(l, &a, "key.pem"), NULL, err);
    if (!w.tls)
        return false;
    l->tls = w.tls;
    if (w.inside)
        w.address = arena_printf(&a, "tcp:%s", address + strlen("netns:"));
    ptrdiff_t colon = sv_rfind(sv_of(w.address), ':');
    if (!listen_and_wait(&w, err))
        return false;
    snprintf(l->address, sizeof l->address, "%.*s:%d", (int)(colon < 0 ? 0 : colon), w.address,
             w.port);
    return true;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Long before the reserved ids run out; a job, since it writes. */
static void more_ids(void *arg)
{
    struct vh *h = arg;
    struct vic_err err;
    mutex_lock(&h->lock);
    uint64_t next = h->next_id;
    mutex_unlock(&h->lock);
    if (!reserve_ids(h, next, &err))
        log_error(h->opt.log, "state.failed", KV_ERR(&err));
}

static void sweep(void *arg)
{
    struct vh *h = arg;
    mutex_lock(&h->lock);
    if (h->next_id > h->id_limit - ID_STEP / 2)
        vh_later(h, more_ids, h);
    vh_tasks_expire(h);
    vh_session_expire(h);
    mutex_unlock(&h->lock);
    loop_timer_set(h->sweep, SWEEP_MS);
}

static void start_sweep(void *arg)
{
    struct vh *h = arg;
    h->sweep = loop_timer_new(h->opt.loop, sweep, h);
    loop_timer_set(h->sweep, SWEEP_MS);
}

static bool open_state(struct vh_life *l, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    if (mkdir(l->h.opt.state_dir, 0700) != 0 && errno != EEXIST)
        return vic_fail_errno(err, "make state folder %s", l->h.opt.state_dir);
    l->h.state = state_open(in_dir(l, &a, "state.mdb"), err);
    return l->h.state && load_identity(&l->h, err) &&
           vh_password_load(&l->h, in_dir(l, &a, "password"), err) && make_certificate(l, err);
}

static bool make_threads(struct vh_life *l, struct vic_err *err)
{
    l->h.opt.loop = loop_new("vic-host", err);
    l->h.opt.pool = pool_new("request", REQUEST_THREADS, 0);
    l->h.opt.tasks = pool_new("task", TASK_THREADS, 0);
    return l->h.opt.loop != NULL;
}

bool vh_open(struct vh_life *l, const struct vh_config *c, struct vic_err *err)
{
    struct vh *h = &l->h;
    *l = (struct vh_life){.h.opt = {.state_dir = c->state_dir,
                                    .bridge = c->bridge,
                                    .netns = c->netns,
                                    .qemu_user = c->qemu_user,
                                    .strict = c->strict,
                                    .kvm = c->kvm,
                                    .clock = &vic_clock_real,
                                    .log = c->log}};
    mutex_init(&h->lock);
    mutex_init(&h->later_lock);
    h->boot_ns = clock_wall_ns(h->opt.clock);
    if (!open_state(l, err) || !make_threads(l, err))
        return false;
    vh_service_new(h);
    vh_inventory_new(h);
    vh_root_pool_new(h);
    if (!add_datastores(l, c, err) || !open_vmm(l, err) || !add_networks(l, err) || !load(h, err))
        return false;
    l->listen = c->listen;
    l->server = vh_server_new(h, err);
    /* QEMU's answers come through the loop. */
    return l->server && loop_start(h->opt.loop, err) && recover(h, err);
}

bool vh_serve(struct vh_life *l, struct vic_err *err)
{
    return start_listening(l, err) && loop_post(l->h.opt.loop, start_sweep, &l->h) &&
           write_file(l, "ready", arena_printf(&l->a, "%s\n", l->address), 0644, err);
}

/* Children before what they hang on: the other way round than they were born. */
static void free_objects(struct vh *h)
{
    size_t n = HASH_COUNT(h->objects);
    struct vh_obj **all = xcalloc(n + 1, sizeof *all);
    size_t i = 0;
    for (struct vh_obj *o = h->objects; o; o = o->hh.next)
        all[i++] = o;
    while (i-- > 0) {
        all[i]->parent = NULL;
        vh_drop(h, all[i]);
    }
    free(all);
}

static void stop_timers(void *arg)
{
    struct vh *h = arg;
    loop_timer_free(TAKE(h->flush));
    loop_timer_free(TAKE(h->sweep));
    loop_timer_free(TAKE(h->late));
}

void vh_close(struct vh_life *l)
{
    AUTO_ARENA struct arena a = {0};
    struct vh *h = &l->h;
    unlink(in_dir(l, &a, "ready"));
    if (l->server)
        http_server_free(l->server);
    mutex_lock(&h->later_lock);
    struct vic_pool *tasks = TAKE(h->opt.tasks);
    mutex_unlock(&h->later_lock);
    if (tasks)
        pool_free(tasks);
    if (h->opt.pool)
        pool_free(h->opt.pool);
    if (h->vmm)
        vmm_free(h->vmm);
    if (h->opt.loop) {
        loop_post(h->opt.loop, stop_timers, h);
        loop_stop(h->opt.loop);
        loop_free(h->opt.loop);
    }
    tls_ctx_free(l->tls);
    mutex_lock(&h->lock);
    h->flush_pending = true; /* nobody is there to be woken */
    vh_session_free_all(h);
    free_objects(h);
    vh_disks_free(h);
    mutex_unlock(&h->lock);
    state_close(h->state);
    free(h->user);
    free(h->password);
    arena_fini(&l->a);
    mutex_fini(&h->lock);
    mutex_fini(&h->later_lock);
}

bool vh_stop_vms(struct vh_life *l, struct vic_err *err)
{
    AUTO_ARENA struct arena a = {0};
    for (const char **id = vm_ids(&l->h, &a); *id; id++) {
        if (!vmm_running(l->h.vmm, *id))
            continue;
        if (!vmm_stop(l->h.vmm, *id, err))
            return false;
        vh_vm_exited(&l->h, *id, false);
    }
    return true;
}
