/* Disk records and holds: see disks.h. */
#include "disks.h"

#include "base/json.h"
#include "base/mem.h"

#include "vm.h"

enum { MAX_DEPTH = 255 }; /* vSphere's limit for a chain */

static char *key_of(struct arena *a, const struct vh_path *p)
{
    return arena_printf(a, "%s/%s", p->ds->uuid, p->rel);
}

static bool path_of(struct vh *h, const char *key, struct vh_path *out)
{
    struct sv rest = sv_of(key), uuid = sv_cut(&rest, '/');
    out->ds = vh_ds_by_name(h, uuid);
    return out->ds && vh_path_clean(rest, out->rel);
}

void vh_disk_new_uuid(char out[37])
{
    random_uuid(out);
    memcpy(out, "6000c29", 7);
}

/* --- records ---------------------------------------------------------------------------------- */

static struct vh_disk *find_key(struct vh *h, const char *key)
{
    struct vh_disk *d = NULL;
    HASH_FIND_STR(h->disks, key, d);
    return d;
}

struct vh_disk *vh_disk_find(struct vh *h, const struct vh_path *p)
{
    AUTO_ARENA struct arena a = {0};
    return find_key(h, key_of(&a, p));
}

static void free_disk(struct vh *h, struct vh_disk *d)
{
    HASH_DEL(h->disks, d);
    free(d->key);
    free(d->parent);
    free(d);
}

static void note(struct vh *h, const char *key, const char *uuid, const char *parent)
{
    struct vh_disk *d = find_key(h, key);
    if (!d) {
        d = xcalloc(1, sizeof *d);
        d->key = xstrdup(key);
        HASH_ADD_KEYPTR(hh, h->disks, d->key, strlen(d->key), d);
    }
    snprintf(d->uuid, sizeof d->uuid, "%s", uuid);
    free(d->parent);
    d->parent = parent ? xstrdup(parent) : NULL;
}

void vh_disk_note(struct vh *h, const struct vh_path *p, const char *uuid,
                  const struct vh_path *parent)
{
    AUTO_ARENA struct arena a = {0};
    note(h, key_of(&a, p), uuid, parent ? key_of(&a, parent) : NULL);
}

/* Is 'key' the file, or in the folder, of 'root'? */
static bool key_below(const char *key, const char *root)
{
    size_t n = strlen(root);
    return !strncmp(key, root, n) && (!key[n] || key[n] == '/');
}

void vh_disk_forget(struct vh *h, const struct vh_path *p)
{
    AUTO_ARENA struct arena a = {0};
    const char *root = key_of(&a, p);
    struct vh_disk *d, *next;
    HASH_ITER(hh, h->disks, d, next)
    {
        if (key_below(d->key, root))
            free_disk(h, d);
    }
}

static void put_key(struct state_batch *b, const char *key, const char *uuid, const char *parent)
{
    AUTO_BUF struct buf text = {0};
    struct json_writer w = json_writer(&text);
    json_open(&w, NULL, '{');
    json_add_str(&w, "uuid", uuid);
    if (parent)
        json_add_str(&w, "parent", parent);
    json_close(&w, '}');
    state_put(b, arena_printf(&b->a, "disk/%s", key), buf_sv(&text));
}

void vh_disk_put(struct state_batch *b, const struct vh_path *p, const char *uuid,
                 const struct vh_path *parent)
{
    put_key(b, key_of(&b->a, p), uuid, parent ? key_of(&b->a, parent) : NULL);
}

void vh_disk_del(struct vh *h, struct state_batch *b, const struct vh_path *p)
{
    const char *root = key_of(&b->a, p);
    for (struct vh_disk *d = h->disks; d; d = d->hh.next)
        if (key_below(d->key, root))
            state_del(b, arena_printf(&b->a, "disk/%s", d->key));
}

static void load_one(void *arg, const char *key, struct sv value)
{
    AUTO_ARENA struct arena a = {0};
    struct json_val v;
    struct vic_err err;
    if (json_parse(value, 0, &a, &v, &err))
        note(arg, key + strlen("disk/"), json_str(json_get(v, "uuid"), ""),
             json_str(json_get(v, "parent"), NULL));
}

bool vh_disks_load(struct vh *h, struct vic_err *err)
{
    return state_each(h->state, "disk/", load_one, h, err);
}

void vh_disks_free(struct vh *h)
{
    struct vh_disk *d, *next;
    HASH_ITER(hh, h->disks, d, next)
    free_disk(h, d);
    struct vh_hold *hold;
    while ((hold = LIST_FIRST(&h->holds))) {
        LIST_REMOVE(hold, link);
        free(hold->key);
        free(hold);
    }
}

bool vh_disk_parent(struct vh *h, const struct vh_path *p, struct vh_path *parent)
{
    struct vh_disk *d = vh_disk_find(h, p);
    return d && d->parent && path_of(h, d->parent, parent);
}

unsigned vh_disk_depth(struct vh *h, const struct vh_path *p)
{
    struct vh_path at = *p, up;
    unsigned n = 1;
    for (; n < MAX_DEPTH && vh_disk_parent(h, &at, &up); n++)
        at = up;
    return n;
}

bool vh_disk_is_parent(struct vh *h, const struct vh_path *p)
{
    AUTO_ARENA struct arena a = {0};
    const char *key = key_of(&a, p);
    for (struct vh_disk *d = h->disks; d; d = d->hh.next)
        if (d->parent && !strcmp(d->parent, key))
            return true;
    return false;
}

/* --- holds ------------------------------------------------------------------------------------ */

static bool conflict(struct vh *h, const char *key, bool shared)
{
    struct vh_hold *hold;
    LIST_FOREACH (hold, &h->holds, link)
        if (!strcmp(hold->key, key) && !(shared && hold->shared))
            return true;
    return false;
}

static void add_hold(struct vh *h, struct vh_vm *vm, const char *key, bool shared)
{
    struct vh_hold *hold = xcalloc(1, sizeof *hold);
    hold->key = xstrdup(key);
    hold->vm = vm;
    hold->shared = shared;
    LIST_INSERT_HEAD(&h->holds, hold, link);
}

bool vh_hold(struct vh *h, struct vh_vm *vm, const struct vh_path *p, struct vh_fault *f)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_path at = *p;
    for (unsigned n = 0; n < MAX_DEPTH; n++) {
        if (conflict(h, key_of(&a, &at), n > 0))
            return vh_fault_file(f, &vim_type_FileLocked, vh_path_text(&a, &at));
        if (!vh_disk_parent(h, &at, &at))
            break;
    }
    at = *p;
    for (unsigned n = 0; n < MAX_DEPTH; n++) {
        add_hold(h, vm, key_of(&a, &at), n > 0);
        if (!vh_disk_parent(h, &at, &at))
            break;
    }
    return true;
}

/* One hold of that VM and key. */
static void drop_hold(struct vh *h, const struct vh_vm *vm, const char *key)
{
    struct vh_hold *hold;
    LIST_FOREACH (hold, &h->holds, link)
        if (hold->vm == vm && !strcmp(hold->key, key)) {
            LIST_REMOVE(hold, link);
            free(hold->key);
            free(hold);
            return;
        }
}

void vh_release(struct vh *h, struct vh_vm *vm, const struct vh_path *p)
{
    AUTO_ARENA struct arena a = {0};
    struct vh_path at = *p;
    for (unsigned n = 0; n < MAX_DEPTH; n++) {
        drop_hold(h, vm, key_of(&a, &at));
        if (!vh_disk_parent(h, &at, &at))
            break;
    }
}

void vh_release_all(struct vh *h, struct vh_vm *vm)
{
    for (struct vh_hold *hold = LIST_FIRST(&h->holds), *next; hold; hold = next) {
        next = LIST_NEXT(hold, link);
        if (hold->vm != vm)
            continue;
        LIST_REMOVE(hold, link);
        free(hold->key);
        free(hold);
    }
}

bool vh_held_below(struct vh *h, const struct vh_path *p)
{
    AUTO_ARENA struct arena a = {0};
    const char *root = key_of(&a, p);
    struct vh_hold *hold;
    LIST_FOREACH (hold, &h->holds, link)
        if (key_below(hold->key, root))
            return true;
    return false;
}
