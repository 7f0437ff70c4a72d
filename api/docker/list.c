/* GET /containers/json: newest first.
 *
 * A list is a cursor: each fill opens a short read transaction, walks on from the last (created,
 * id), writes about 48 KiB of JSON straight from the records in the map, and lets go.  So 16 lists
 * of 10,000 containers cost a buffer each, and a client that reads slowly holds no transaction. */
#include "list.h"

enum { PAGE = 48 << 10 };

struct lister {
    struct call *call;
    struct list_filter filter;
    int64_t left; /* how many more; < 0: all */
    bool sizes, open, done, page_full;
    int64_t at_ns; /* where to go on */
    char at_id[72];
    int64_t now_ns;
    /* The last image looked up: most containers of a page share it. */
    char image_name[256], image_id[80];
    int64_t image_size;
    bool image_moved;
    struct store_txn *txn; /* of this fill */
    struct json_writer w;
};

/* --- one item -------------------------------------------------------------------------------- */
static void look_up_image(struct lister *l, const struct store_container *k)
{
    AUTO_ARENA struct arena a = {0};
    struct call scratch = *l->call;
    struct store_image image;
    scratch.a = &a;
    if (strcmp(l->image_name, k->config.image) == 0 && strcmp(l->image_id, k->image) == 0)
        return;
    l->image_moved = !find_image(&scratch, l->txn, k->config.image, &image) ||
                     strcmp(image.meta.id, k->image) != 0;
    l->image_size = 0;
    if (l->sizes && store_get(l->txn, STORE_IMAGE, k->image, &a, &image, &scratch.err))
        l->image_size = image.size_bytes;
    l->image_name[0] = l->image_id[0] = '\0';
    strncat(l->image_name, k->config.image, sizeof l->image_name - 1);
    strncat(l->image_id, k->image, sizeof l->image_id - 1);
}

static void add_texts(struct lister *l, const struct store_container *k)
{
    struct buf text = {0};
    container_command(k, &text);
    json_add_sv(&l->w, "Command", buf_sv(&text));
    json_add_i64(&l->w, "Created", k->meta.created / 1000000000);
    json_add_raw(&l->w, "Ports", SV("[]"));
    if (l->sizes) {
        json_add_i64(&l->w, "SizeRw", 0);
        json_add_i64(&l->w, "SizeRootFs", l->image_size);
    }
    json_open(&l->w, "Labels", '{');
    for (size_t i = 0; i < k->config.labels.n; i++)
        json_add_str(&l->w, k->config.labels.v[i].k, k->config.labels.v[i].v);
    json_close(&l->w, '}');
    json_add_str(&l->w, "State", container_state(k));
    buf_reset(&text);
    container_status(k, l->now_ns, &text);
    json_add_sv(&l->w, "Status", buf_sv(&text));
    buf_fini(&text);
}

static void add_item(struct lister *l, const struct store_container *k)
{
    char name[260] = "/";
    strncat(name, k->meta.name, sizeof name - 2);
    look_up_image(l, k);
    json_open(&l->w, NULL, '{');
    json_add_str(&l->w, "Id", k->meta.id);
    json_open(&l->w, "Names", '[');
    json_add_str(&l->w, NULL, name);
    json_close(&l->w, ']');
    json_add_str(&l->w, "Image", l->image_moved ? k->image : k->config.image);
    json_add_str(&l->w, "ImageID", k->image);
    add_texts(l, k);
    json_open(&l->w, "HostConfig", '{');
    json_add_str(&l->w, "NetworkMode", k->host_config.network_mode);
    json_close(&l->w, '}');
    json_add_raw(&l->w, "NetworkSettings", SV("{\"Networks\":{}}"));
    json_add_raw(&l->w, "Mounts", SV("[]"));
    json_close(&l->w, '}');
}

/* --- the cursor ------------------------------------------------------------------------------ */
static bool each(void *arg, const void *record)
{
    struct lister *l = arg;
    const struct store_container *k = record;
    l->at_ns = k->meta.created;
    l->at_id[0] = '\0';
    strncat(l->at_id, k->meta.id, sizeof l->at_id - 1);
    if (list_filter_takes(&l->filter, k)) {
        add_item(l, k);
        if (l->left > 0)
            l->left--;
    }
    l->page_full = l->w.out->len >= PAGE;
    return !l->page_full && l->left != 0;
}

static enum http_fill fill(void *arg, struct buf *out)
{
    struct lister *l = arg;
    struct vic_err err = {0};
    AUTO_TXN struct store_txn *t = store_read(l->call->api->o.store, &err);
    l->txn = t;
    l->w.out = out;
    l->page_full = false;
    if (!l->open)
        json_open(&l->w, NULL, '[');
    l->open = true;
    if (!t || !store_list_newest(t, STORE_CONTAINER, l->at_ns, l->at_id, NULL, each, l, &err)) {
        log_warn(l->call->api->o.log, "api.list", KV_ERR(&err));
        out->failed = true; /* the client must not take it for the whole list */
        return HTTP_END;
    }
    if (l->page_full && l->left != 0)
        return HTTP_MORE;
    json_close(&l->w, ']');
    buf_add_c(out, '\n');
    return HTTP_END;
}

static void list_free(void *arg)
{
    struct lister *l = arg;
    list_filter_fini(&l->filter);
}

bool container_list(struct call *c)
{
    static const struct http_source source = {fill, list_free};
    struct lister *l = ARENA_NEW(c->a, struct lister);
    l->call = c;
    l->w = json_writer(NULL);
    l->now_ns = call_now(c);
    l->sizes = call_flag(c, "size", false);
    if (!list_filter_read(c, &l->filter) || !call_number(c, "limit", 0, &l->left)) {
        list_filter_fini(&l->filter);
        return false;
    }
    if (l->left <= 0)
        l->left = -1;
    http_stream(c->req, 200, "application/json", 0, &source, l);
    return true;
}
