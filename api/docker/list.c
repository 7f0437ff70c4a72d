/* GET /containers/json: newest first.
 *
 * A list is a cursor: each fill opens a short read transaction, walks on from the last (created,
 * id), writes about 60 KiB of JSON straight from the records in the map, and lets go.  So 16 lists
 * of 10,000 containers cost a buffer each, and a client that reads slowly holds no transaction. */
#include "list.h"

enum { PAGE = 60 << 10 };

/* A list of 10,000 is judged in milliseconds: what is the same in every item is one piece. */
#define LIT(out, text) buf_add((out), (text), sizeof(text) - 1)

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
    struct buf *out;       /* of this fill */
    struct buf text;
    size_t items;
};

/* --- one item -------------------------------------------------------------------------------- */
static void look_up_image(struct lister *l, const struct store_container *k)
{
    if (strcmp(l->image_name, k->config.image) == 0 && strcmp(l->image_id, k->image) == 0)
        return;
    AUTO_ARENA struct arena a = {0};
    struct call scratch = *l->call;
    struct store_image image;
    scratch.a = &a;
    l->image_moved = !find_image(&scratch, l->txn, k->config.image, &image) ||
                     strcmp(image.meta.id, k->image) != 0;
    l->image_size = 0;
    if (l->sizes && store_get(l->txn, STORE_IMAGE, k->image, &a, &image, &scratch.err))
        l->image_size = image.size_bytes;
    l->image_name[0] = l->image_id[0] = '\0';
    strncat(l->image_name, k->config.image, sizeof l->image_name - 1);
    strncat(l->image_id, k->image, sizeof l->image_id - 1);
}

static void quoted(struct buf *out, const char *text)
{
    json_quote(out, sv_of(text), false);
}

static void add_labels(struct buf *out, const struct store_map *labels)
{
    for (size_t i = 0; i < labels->n; i++) {
        if (i)
            buf_add_c(out, ',');
        quoted(out, labels->v[i].k);
        buf_add_c(out, ':');
        quoted(out, labels->v[i].v);
    }
}

static void add_sizes(struct lister *l, struct buf *out)
{
    LIT(out, ",\"SizeRw\":0,\"SizeRootFs\":");
    buf_add_i64(out, l->image_size);
}

static void add_command(struct lister *l, const struct store_container *k, struct buf *out)
{
    buf_reset(&l->text);
    container_command(k, &l->text);
    json_quote(out, buf_sv(&l->text), false);
}

/* Ids are hex digits and names are checked at their birth: neither needs an escape. */
static void add_item(struct lister *l, const struct store_container *k, struct buf *out)
{
    look_up_image(l, k);
    buf_add_str(out, l->items++ ? ",{\"Id\":\"" : "{\"Id\":\"");
    buf_add_str(out, k->meta.id);
    LIT(out, "\",\"Names\":[\"/");
    buf_add_str(out, k->meta.name);
    LIT(out, "\"],\"Image\":");
    quoted(out, l->image_moved ? k->image : k->config.image);
    LIT(out, ",\"ImageID\":\"");
    buf_add_str(out, k->image);
    LIT(out, "\",\"Command\":");
    add_command(l, k, out);
    LIT(out, ",\"Created\":");
    buf_add_i64(out, k->meta.created / 1000000000);
    LIT(out, ",\"Ports\":[]");
    if (l->sizes)
        add_sizes(l, out);
    LIT(out, ",\"Labels\":{");
    add_labels(out, &k->config.labels);
    LIT(out, "},\"State\":\"");
    buf_add_str(out, container_state(k));
    LIT(out, "\",\"Status\":\"");
    container_status(k, l->now_ns, out);
    LIT(out, "\",\"HostConfig\":{\"NetworkMode\":");
    quoted(out, k->host_config.network_mode);
    LIT(out, "},\"NetworkSettings\":{\"Networks\":{}},\"Mounts\":[]}");
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
        add_item(l, k, l->out);
        if (l->left > 0)
            l->left--;
    }
    l->page_full = l->out->len >= PAGE;
    return !l->page_full && l->left != 0;
}

static enum http_fill fill(void *arg, struct buf *out)
{
    struct lister *l = arg;
    struct vic_err err = {0};
    AUTO_TXN struct store_txn *t = store_read(l->call->api->o.store, &err);
    l->txn = t;
    l->out = out;
    l->page_full = false;
    if (!l->open)
        buf_add_c(out, '[');
    l->open = true;
    if (!t || !store_list_newest(t, STORE_CONTAINER, l->at_ns, l->at_id, NULL, each, l, &err)) {
        log_warn(l->call->api->o.log, "api.list", KV_ERR(&err));
        out->failed = true; /* the client must not take it for the whole list */
        return HTTP_END;
    }
    if (l->page_full && l->left != 0)
        return HTTP_MORE;
    LIT(out, "]\n");
    return HTTP_END;
}

static void list_free(void *arg)
{
    struct lister *l = arg;
    list_filter_fini(&l->filter);
    buf_fini(&l->text);
}

bool container_list(struct call *c)
{
    static const struct http_source source = {fill, list_free};
    struct lister *l = ARENA_NEW(c->a, struct lister);
    l->call = c;
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
