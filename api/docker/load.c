/* POST /images/load: an archive of images, as docker save writes it (load.h names the parts).
 *
 * Only when the whole of it has arrived and every name, digest and count fits is anything written
 * to the store.  Then the request is parked until control has made the layers.  So a bad or cut
 * archive leaves nothing: no record, and no file in the spool. */
#include "load.h"

static void say_loaded(struct load *l, const struct image *i, struct buf *out)
{
    struct call *c = l->c;
    for (size_t n = 0; n < (i->tags.n ? i->tags.n : 1); n++) {
        struct json_writer w = json_writer(out);
        struct image_ref ref;
        const char *text = arena_printf(c->a, "Loaded image ID: %s\n", i->id);
        if (i->tags.n && ref_parse(sv_of(i->tags.v[n]), c->a, &ref, &c->err))
            text = arena_printf(c->a, "Loaded image: %s\n", ref_familiar(&ref, c->a));
        json_open(&w, NULL, '{');
        json_add_str(&w, "stream", text);
        json_close(&w, '}');
        buf_add_str(out, "\r\n");
    }
}

static enum poll_verdict poll_image(struct call *c, const struct image *want)
{
    struct store_image i;
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(c->api->o.store, &c->err);
    if (!t || !store_get(t, STORE_IMAGE, want->id, &a, &i, &c->err))
        return POLL_FAIL;
    if (i.meta.deleted) {
        vic_fail(&c->err, VIC_NOT_FOUND, 0, "image %s was removed while it was loaded", want->id);
        return POLL_FAIL;
    }
    if (i.phase == store_image_phase_FAILED) {
        load_bad(c, "image %s: %s", want->id, i.error);
        return POLL_FAIL;
    }
    bool named = i.phase == store_image_phase_READY;
    for (size_t n = 0; n < want->tags.n && named; n++)
        named = !strs_have(&i.pending_tags, want->tags.v[n]);
    return named ? POLL_DONE : POLL_WAIT;
}

static enum poll_verdict poll_loaded(struct call *c, void *arg, bool timed_out)
{
    struct load *l = arg;
    AUTO_BUF struct buf out = {0};
    (void)timed_out;
    for (size_t n = 0; n < l->image_count; n++) {
        enum poll_verdict verdict = poll_image(c, &l->images[n]);
        if (verdict != POLL_DONE)
            return verdict;
        say_loaded(l, &l->images[n], &out);
    }
    http_reply(c->req, 200, "application/json", buf_sv(&out));
    return POLL_DONE;
}

bool image_load(struct call *c)
{
    struct load *l = ARENA_NEW(c->a, struct load);
    l->c = c;
    l->images = ARENA_ARRAY(c->a, struct image, LOAD_MAX_IMAGES);
    bool ok = load_receive(l) && load_understand(l) && load_store(l);
    load_settle(l);
    return ok && call_wait(c, STORE_IMAGE, NULL, -1, poll_loaded, l);
}
