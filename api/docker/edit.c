/* POST /containers/{id}/rename and update. */
#include "docker.h"

/* --- rename ---------------------------------------------------------------------------------- */
static const char allocating[] = "Error when allocating new name";

static enum store_verdict rename_decide(struct intent *n, struct store_txn *t, struct arena *a,
                                        struct vic_err *err)
{
    const char *name = n->arg, *holder;
    if (strcmp(name, n->k.meta.name) == 0) {
        vic_fail(err, VIC_INVALID, 0,
                 "Renaming a container with the same name as its current name");
        return STORE_REFUSE;
    }
    if (store_find_name(t, STORE_CONTAINER, name, a, &holder, err)) {
        name_taken(name, holder, err);
        (void)!vic_wrap(err, "%s", allocating);
        return STORE_REFUSE;
    }
    if (err->code != VIC_NOT_FOUND)
        return STORE_REFUSE;
    n->action = "rename";
    n->key = "oldName";
    n->value = arena_printf(a, "/%s", n->k.meta.name);
    n->k.meta.name = name;
    n->k.meta.generation++;
    return STORE_PUT;
}

bool container_rename(struct call *c)
{
    struct store_container k;
    const char *name = call_query(c, "name");
    if (!*name)
        return vic_fail(&c->err, VIC_INVALID, 0, "Neither old nor new names may be empty");
    if (!get_container(c, c->param[0], &k))
        return false;
    if (!container_name_ok(name))
        return vic_fail(&c->err, VIC_INVALID, 0,
                        "%s: Invalid container name (%s%.128s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are "
                        "allowed",
                        allocating, *name == '/' ? "" : "/", name);
    char *plain = arena_strdup(c->a, name + (*name == '/'));
    struct intent n = {.id = k.meta.id, .decide = rename_decide, .arg = plain};
    return intent_write(c, &n) && call_empty(c, 204);
}

/* --- update ---------------------------------------------------------------------------------- */
static const char *const limits[] = {"CpuShares",
                                     "Memory",
                                     "CgroupParent",
                                     "BlkioWeight",
                                     "CpuPeriod",
                                     "CpuQuota",
                                     "CpusetCpus",
                                     "CpusetMems",
                                     "CpuRealtimePeriod",
                                     "CpuRealtimeRuntime",
                                     "NanoCpus",
                                     "MemorySwap",
                                     "MemoryReservation",
                                     "KernelMemory",
                                     "PidsLimit",
                                     "BlkioDeviceReadBps",
                                     "BlkioDeviceWriteBps",
                                     "BlkioDeviceReadIOps",
                                     "BlkioDeviceWriteIOps"};

static bool is_given(struct json_val v)
{
    struct sv raw = json_raw(v);
    return json_present(v) && !sv_is(raw, "0") && !sv_is(raw, "\"\"") && !sv_is(raw, "[]");
}

static enum store_verdict update_decide(struct intent *n, struct store_txn *t, struct arena *a,
                                        struct vic_err *err)
{
    const struct store_restart_policy *p = n->arg;
    (void)t;
    (void)a;
    if (!restart_policy_check(p, false, err))
        return STORE_REFUSE;
    if (n->k.host_config.auto_remove && strcmp(p->name, "no") != 0) {
        vic_fail(err, VIC_INVALID, 0,
                 "Restart policy cannot be updated because AutoRemove is enabled for the "
                 "container");
        return STORE_REFUSE;
    }
    n->k.host_config.restart_policy = *p;
    n->k.meta.generation++;
    n->action = "update";
    return STORE_PUT;
}

bool container_update(struct call *c)
{
    struct store_container k;
    struct json_val body;
    struct store_restart_policy p;
    struct warnings warn = {.a = c->a};
    store_init(store_rec_restart_policy(), &p);
    if (!get_container(c, c->param[0], &k) || !call_body(c, &body))
        return false;
    struct json_val policy = json_get_nocase(body, "RestartPolicy");
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        if (is_given(json_get_nocase(body, limits[i])))
            warn_add(&warn, "%s was not changed: limits cannot be updated yet", limits[i]);
    if (json_present(policy) &&
        !store_from_json(store_rec_restart_policy(), policy, false, c->a, &p, &c->err))
        return false;
    struct intent n = {.id = k.meta.id, .decide = update_decide, .arg = &p};
    if (*p.name && !intent_write(c, &n))
        return false;
    AUTO_BUF struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    strs_to_json(&w, "Warnings", &warn.list);
    json_close(&w, '}');
    return call_json(c, 200, &out);
}
