/* docker load, good archives and bad ones; the test plays control. */
#include "io_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/proc.h"

#include "api_priv.h"
#include "archive.h"

static const struct store_change_note note = {.actor = "control"};

/* --- asking ---------------------------------------------------------------------------------- */
static void post(struct io *x, struct client *c, struct sv body, size_t announced)
{
    AUTO_BUF struct buf head = {0};
    assert_true(client_open(c, x->f.host.socket));
    buf_addf(&head,
             "POST /v1.44/images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nContent-Type: "
             "application/x-tar\r\nContent-Length: %zu\r\n\r\n",
             announced);
    assert_int_equal(send(c->fd, head.data, head.len, MSG_NOSIGNAL), (ssize_t)head.len);
    while (body.len) { /* a bad archive may be refused before it has gone out */
        ssize_t n = send(c->fd, body.p, body.len, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        body = sv_sub(body, (size_t)n, SIZE_MAX);
    }
}

static void answered(struct io *x, struct client *c, int status)
{
    struct answer a;
    assert_true(client_read(c, &a, false));
    buf_reset(&x->f.body);
    buf_add_sv(&x->f.body, buf_sv(&a.body));
    if (a.status != status)
        fail_msg("%d instead of %d: %s", a.status, status, buf_str(&x->f.body));
    answer_fini(&a);
    client_close(c);
}

/* Loads what cannot be loaded. */
static void refused(struct io *x, struct sv archive, int status, const char *text)
{
    struct client c;
    post(x, &c, archive, archive.len);
    answered(x, &c, status);
    if (!strstr(got_str(&x->f, "message"), text))
        fail_msg("\"%s\" instead of \"%s\"", got_str(&x->f, "message"), text);
}

/* --- what is there --------------------------------------------------------------------------- */
static unsigned spooled(struct io *x)
{
    AUTO_FREE char *dir = xasprintf("%s/spool", x->f.host.dir);
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static size_t count(struct io *x, enum store_kind kind)
{
    struct vic_err err;
    AUTO_TXN struct store_txn *t = store_read(x->f.host.store, &err);
    assert_non_null(t);
    return store_count(t, kind);
}

/* Only what host_seed made. */
static void nothing_left(struct io *x)
{
    assert_int_equal(count(x, STORE_IMAGE), 1);
    assert_int_equal(count(x, STORE_LAYER), 1);
    assert_int_equal(count(x, STORE_TAG), 1);
    assert_int_equal(spooled(x), 0);
}

static bool get(struct io *x, enum store_kind kind, const char *id, void *record)
{
    struct vic_err err;
    AUTO_TXN struct store_txn *t = store_read(x->f.host.store, &err);
    assert_non_null(t);
    AUTO_ARENA struct arena a = {0};
    void *found = arena_alloc(&a, 4096);
    if (!store_get(t, kind, id, &a, found, &err))
        return false;
    store_copy(store_kind_rec(kind), found, record, &x->f.a);
    return true;
}

/* --- control's part -------------------------------------------------------------------------- */
/* Waits until a load has stored its image and waits for it. */
static void until_stored(struct io *x, const char *id, struct store_image *i)
{
    int64_t end = clock_mono_ms(&vic_clock_real) + TG_TIMEOUT_MS;
    while (!get(x, STORE_IMAGE, id, i) || i->meta.deleted ||
           (i->phase != store_image_phase_LOADING && !i->pending_tags.n))
        if (clock_mono_ms(&vic_clock_real) > end)
            fail_msg("image %s was not stored", id);
}

static enum store_verdict layer_ready(void *arg, struct store_txn *t, struct arena *a, void *record,
                                      struct vic_err *err)
{
    struct store_layer *l = record;
    (void)arg, (void)t, (void)a, (void)err;
    l->phase = store_layer_phase_READY;
    l->size_bytes = 7;
    l->archived = true;
    return STORE_PUT;
}

struct ending {
    const char *id, *error;
};

static bool set_tag(struct store_txn *t, struct arena *a, const char *name, const char *image,
                    struct vic_err *err)
{
    struct store_tag tag;
    if (!store_get(t, STORE_TAG, name, a, &tag, NULL))
        store_init(store_rec_tag(), &tag);
    tag.meta.id = tag.meta.name = name;
    tag.image = image;
    return store_put(t, STORE_TAG, &tag, err);
}

static bool end_image(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct ending *e = arg;
    struct store_image i;
    if (!store_get(t, STORE_IMAGE, e->id, a, &i, err))
        return false;
    i.phase = e->error ? store_image_phase_FAILED : store_image_phase_READY;
    i.error = e->error ? e->error : "";
    i.size_bytes = (int64_t)(7 * i.layers.n);
    for (size_t n = 0; !e->error && n < i.pending_tags.n; n++)
        if (!set_tag(t, a, i.pending_tags.v[n], i.meta.id, err))
            return false;
    i.pending_tags = (struct store_strs){0};
    return store_put(t, STORE_IMAGE, &i, err);
}

/* Makes its layers and then the image; 'error' NULL or why it fails. */
static void play(struct io *x, const char *id, const char *error)
{
    struct store_image i;
    struct store *s = x->f.host.store;
    until_stored(x, id, &i);
    for (size_t n = 0; n < i.layers.n && !error; n++) {
        struct store_layer l;
        assert_true(get(x, STORE_LAYER, i.layers.v[n], &l));
        check_ok(store_update(s, &note, STORE_LAYER, l.meta.id, layer_ready, NULL, &err));
        spool_remove(x->f.host.spool, l.blob);
    }
    struct ending e = {id, error};
    check_ok(store_write(s, &note, NULL, end_image, &e, &err));
}

static struct ar_image image(struct io *x, size_t layers)
{
    struct ar_image i = {.a = &x->f.a, .layers = layers};
    for (size_t n = 0; n < layers; n++)
        i.layer[n] = ar_layer(&x->f.a, arena_printf(&x->f.a, "file-%zu", n), "content");
    return i;
}

static const char *id_of(const struct ar_image *i)
{
    return ar_digest(i->a, ar_config(i));
}

/* Loads it to the end; the answer is in x->f.body. */
static void loads(struct io *x, const struct ar_image *i, struct sv archive)
{
    struct client c;
    post(x, &c, archive, archive.len);
    play(x, id_of(i), NULL);
    answered(x, &c, 200);
}

/* --- good archives --------------------------------------------------------------------------- */
static void a_docker_archive(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 3);
    struct store_image stored;
    struct store_layer l;
    struct client c;
    ar_docker(&b, &i, "[\"one:1\",\"host.test:5000/two\"]");
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    assert_int_equal(stored.phase, store_image_phase_LOADING);
    assert_int_equal(stored.layers.n, 3);
    assert_string_equal(stored.layers.v[2], ar_chain(&i, 2));
    assert_string_equal(stored.pending_tags.v[0], "docker.io/library/one:1");
    assert_string_equal(stored.config.cmd.v[0], "sh");
    assert_string_equal(stored.author, "me");
    assert_true(get(x, STORE_LAYER, stored.layers.v[1], &l));
    assert_string_equal(l.parent, stored.layers.v[0]);
    assert_string_equal(l.diff_id, stored.diff_ids.v[1]);
    assert_string_equal(l.compression, "none");
    assert_int_equal(l.blob_bytes, i.layer[1].len);
    ask(&x->f, "GET", "/images/one:1/json", NULL, 404); /* not yet */
    play(x, id_of(&i), NULL);
    answered(x, &c, 200);
    assert_string_equal(buf_str(&x->f.body), "{\"stream\":\"Loaded image: one:1\\n\"}\r\n"
                                             "{\"stream\":\"Loaded image: host.test:5000/two:latest"
                                             "\\n\"}\r\n");
    assert_int_equal(spooled(x), 0);
    ask(&x->f, "GET", "/images/one:1/json", NULL, 200);
    assert_string_equal(got_str(&x->f, "Id"), id_of(&i));
}

static void an_oci_layout(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 2);
    ar_oci(&b, &i, NULL);
    ar_end(&b);
    loads(x, &i, buf_sv(&b));
    assert_string_equal(
        buf_str(&x->f.body),
        arena_printf(&x->f.a, "{\"stream\":\"Loaded image ID: %s\\n\"}\r\n", id_of(&i)));
    assert_int_equal(spooled(x), 0);
}

static void both_in_one(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 2);
    ar_oci(&b, &i, "docker.io/library/oci:1");
    ar_docker(&b, &i, "[\"docker:1\"]"); /* this one counts, as for dockerd */
    ar_end(&b);
    loads(x, &i, buf_sv(&b));
    assert_string_equal(buf_str(&x->f.body), "{\"stream\":\"Loaded image: docker:1\\n\"}\r\n");
}

static void links_inside(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 1);
    struct sv config = ar_config(&i);
    ar_file(&b, "config", config);
    ar_file(&b, "abc/layer", i.layer[0]);
    ar_entry(&b, '2', "def/layer.tar", "../abc/layer", SV(""));
    ar_entry(&b, '1', "hard", "def/layer.tar", SV(""));
    ar_entry(&b, '2', "broken", "nowhere", SV("")); /* unused */
    ar_file(&b, "./manifest.json", SV("[{\"Config\":\"config\",\"Layers\":[\"hard\"]}]"));
    ar_end(&b);
    loads(x, &i, buf_sv(&b));
}

static void the_same_layer_twice(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 2);
    struct store_image stored;
    struct client c;
    i.layer[1] = i.layer[0];
    ar_docker(&b, &i, "[\"twice:1\"]");
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    assert_int_equal(stored.layers.n, 2);
    assert_string_not_equal(stored.layers.v[0], stored.layers.v[1]);
    play(x, id_of(&i), NULL);
    answered(x, &c, 200);
}

static void layers_at_their_bounds(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf none = {0}, most = {0}, over = {0}, empty = {0};
    AUTO_BUF struct buf zeros = {0};
    struct ar_image i = image(x, 0);
    ar_docker(&none, &i, "[\"none:1\"]");
    ar_end(&none);
    loads(x, &i, buf_sv(&none));
    i = image(x, 33);
    ar_docker(&over, &i, NULL);
    ar_end(&over);
    refused(x, buf_sv(&over), 400, "has 33 layers; at most 32 are supported yet");
    assert_int_equal(count(x, STORE_LAYER), 1);
    i.layers = 32;
    ar_docker(&most, &i, NULL);
    ar_end(&most);
    loads(x, &i, buf_sv(&most));
    /* Layers without entries have no disk and do not count. */
    ar_end(&zeros);
    i = image(x, 40);
    for (size_t n = 0; n < 39; n++)
        i.layer[n] = buf_sv(&zeros);
    i.layer[39] = ar_layer(&x->f.a, "only", "one");
    ar_docker(&empty, &i, NULL);
    ar_end(&empty);
    loads(x, &i, buf_sv(&empty));
    struct store_image stored;
    assert_true(get(x, STORE_IMAGE, id_of(&i), &stored));
    assert_int_equal(stored.layers.n, 1);
    assert_int_equal(stored.diff_ids.n, 40);
    assert_string_equal(stored.layers.v[0], ar_chain(&i, 39));
}

static void an_index_of_platforms(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, inner = {0}, outer = {0};
    struct ar_image i = image(x, 1);
    ar_oci(&b, &i, NULL);
    /* The manifest is the last blob before index.json. */
    const char *manifest = NULL;
    for (size_t at = 0; at + 1024 <= b.len; at += 512)
        if (memcmp(b.data + at, "blobs/sha256/", 13) == 0 && b.data[at + 13])
            manifest = arena_printf(&x->f.a, "sha256:%.64s", b.data + at + 13);
    buf_addf(&inner,
             "{\"manifests\":[{\"digest\":\"sha256:%064d\",\"platform\":{\"os\":\"linux\","
             "\"architecture\":\"arm64\"}},{\"digest\":\"sha256:%064d\",\"annotations\":{"
             "\"vnd.docker.reference.type\":\"attestation-manifest\"}},{\"digest\":\"%s\","
             "\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
             1, 2, manifest);
    ar_blob(&b, &x->f.a, buf_sv(&inner));
    buf_addf(&outer,
             "{\"manifests\":[{\"digest\":\"%s\",\"annotations\":{"
             "\"org.opencontainers.image.ref.name\":\"docker.io/library/nested:2\"}}]}",
             ar_digest(&x->f.a, buf_sv(&inner)));
    ar_file(&b, "index.json", buf_sv(&outer)); /* the newer one counts */
    ar_end(&b);
    loads(x, &i, buf_sv(&b));
    assert_string_equal(buf_str(&x->f.body), "{\"stream\":\"Loaded image: nested:2\\n\"}\r\n");
}

/* --- again, and beside others ---------------------------------------------------------------- */
static void loading_again(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, more = {0};
    struct ar_image i = image(x, 2);
    struct store_image stored;
    struct client c;
    ar_docker(&b, &i, "[\"again:1\"]");
    ar_end(&b);
    loads(x, &i, buf_sv(&b));
    ar_docker(&more, &i, "[\"again:2\"]");
    ar_end(&more);
    post(x, &c, buf_sv(&more), more.len);
    do /* it is ready all the time */
        assert_true(get(x, STORE_IMAGE, id_of(&i), &stored) &&
                    stored.phase == store_image_phase_READY);
    while (!stored.pending_tags.n);
    ask(&x->f, "GET", "/images/again:1/json", NULL, 200);
    play(x, id_of(&i), NULL);
    answered(x, &c, 200);
    assert_string_equal(buf_str(&x->f.body), "{\"stream\":\"Loaded image: again:2\\n\"}\r\n");
    ask(&x->f, "GET", "/images/again:2/json", NULL, 200);
    assert_int_equal(count(x, STORE_LAYER), 3);
    assert_int_equal(spooled(x), 0);
}

static void two_loads_of_one_image(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, d = {0};
    struct ar_image i = image(x, 1);
    struct store_image stored;
    struct client one, two;
    ar_docker(&b, &i, "[\"first:1\"]");
    ar_end(&b);
    ar_docker(&d, &i, "[\"second:1\"]");
    ar_end(&d);
    post(x, &one, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    post(x, &two, buf_sv(&d), d.len);
    do
        assert_true(get(x, STORE_IMAGE, id_of(&i), &stored));
    while (stored.pending_tags.n < 2);
    play(x, id_of(&i), NULL);
    answered(x, &one, 200);
    answered(x, &two, 200);
    assert_int_equal(count(x, STORE_TAG), 3);
}

/* A bad load must not take the files that a good one waits for. */
static void a_bad_load_beside_a_good_one(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, bad = {0};
    struct ar_image i = image(x, 1);
    struct store_image stored;
    struct client c;
    ar_docker(&b, &i, "[\"good:1\"]");
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    ar_file(&bad, "0/layer.tar", i.layer[0]);
    ar_end(&bad);
    refused(x, buf_sv(&bad), 400, "neither manifest.json nor index.json");
    AUTO_CLOSE int fd = -1;
    check_ok(spool_read(x->f.host.spool, ar_digest(&x->f.a, i.layer[0]), &fd, NULL, &err));
    play(x, id_of(&i), NULL);
    answered(x, &c, 200);
    assert_int_equal(spooled(x), 0);
}

static void two_images_with_one_config(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 1);
    ar_file(&b, "c", ar_config(&i));
    ar_file(&b, "l", i.layer[0]);
    ar_file(&b, "manifest.json",
            SV("[{\"Config\":\"c\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"l\"]},"
               "{\"Config\":\"c\",\"RepoTags\":[\"b:1\",\"a:1\"],\"Layers\":[\"l\"]}]"));
    ar_end(&b);
    loads(x, &i, buf_sv(&b));
    ask(&x->f, "GET", "/images/a:1/json", NULL, 200);
    ask(&x->f, "GET", "/images/b:1/json", NULL, 200);
}

static void control_says_no(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 1);
    struct client c;
    ar_docker(&b, &i, "[\"bad:1\"]");
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    play(x, id_of(&i), "layer 1: entry \"../x\" leaves the layer");
    answered(x, &c, 400);
    assert_non_null(strstr(got_str(&x->f, "message"), "layer 1: entry \"../x\" leaves the layer"));
    ask(&x->f, "GET", "/images/bad:1/json", NULL, 404);
    loads(x, &i, buf_sv(&b)); /* and may be tried again */
    ask(&x->f, "GET", "/images/bad:1/json", NULL, 200);
}

static void the_client_does_not_wait(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 1);
    struct store_image stored;
    struct client c;
    ar_docker(&b, &i, "[\"left:1\"]");
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    client_close(&c);
    play(x, id_of(&i), NULL);
    ask(&x->f, "GET", "/images/left:1/json", NULL, 200);
}

static void a_crash_leaves_no_files(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 1);
    struct store_image stored;
    struct client c;
    const struct api_options o = {.store = x->f.host.store, .spool = x->f.host.spool};
    char digest[SPOOL_DIGEST_SIZE];
    ar_docker(&b, &i, "[\"kept:1\"]");
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    struct vic_err why;
    struct spool_file *f = spool_new(x->f.host.spool, &why);
    assert_non_null(f);
    check_ok(spool_write(f, SV("of a load that died"), &err));
    check_ok(spool_keep(f, NULL, digest, NULL, &err));
    spool_release(x->f.host.spool, digest);
    load_tidy_spool(&o); /* as at the start */
    AUTO_CLOSE int fd = -1;
    assert_false(spool_read(x->f.host.spool, digest, &fd, NULL, NULL));
    check_ok(spool_read(x->f.host.spool, ar_digest(&x->f.a, i.layer[0]), &fd, NULL, &err));
    play(x, id_of(&i), NULL);
    answered(x, &c, 200);
}

/* --- bad archives ---------------------------------------------------------------------------- */
static void hostile_entries(void **state)
{
    static const struct {
        char type;
        const char *name, *link, *text;
    } cases[] = {
        {'0', "/etc/passwd", NULL, "entry \"/etc/passwd\" has an absolute name"},
        {'0', "../../x", NULL, "entry \"../../x\" leaves the archive by \"..\""},
        {'0', "a/../../x", NULL, "entry \"a/../../x\" leaves the archive"},
        {'5', "../d", NULL, "entry \"../d\" leaves the archive"},
        {'2', "../l", "x", "entry \"../l\" leaves the archive"},
        {'2', "l", "/etc/passwd", "entry \"l\" is a link that leaves the archive: \"/etc/passwd\""},
        {'2', "a/l", "../../x", "entry \"a/l\" is a link that leaves the archive: \"../../x\""},
        {'1', "h", "../x", "entry \"h\" is a link that leaves the archive: \"../x\""},
        {'1', "h", "/etc/shadow", "entry \"h\" is a link that leaves the archive"},
        {'2', "e", "", "entry \"e\" is a link that leaves the archive"},
        {'3', "null", NULL, "entry \"null\" is neither file, folder nor link"},
        {'4', "disk", NULL, "entry \"disk\" is neither file, folder nor link"},
        {'6', "fifo", NULL, "entry \"fifo\" is neither file, folder nor link"},
        {'0', "a\nb", NULL, "entry \"a?b\" has a control character"},
        {'0', "./", NULL, "has no name of its own"},
    };
    struct io *x = *state;
    struct ar_image i = image(x, 1);
    for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
        AUTO_BUF struct buf b = {0};
        ar_docker(&b, &i, "[\"x:1\"]");
        ar_entry(&b, cases[n].type, cases[n].name, cases[n].link, SV(""));
        ar_end(&b);
        refused(x, buf_sv(&b), 400, cases[n].text);
        nothing_left(x);
    }
}

static void bytes_that_are_not_what_they_say(void **state)
{
    struct io *x = *state;
    struct ar_image i = image(x, 1);
    struct sv config = ar_config(&i), other = ar_layer(&x->f.a, "other", "bytes");
    AUTO_BUF struct buf b = {0};
    ar_file(&b, "c.json", config);
    ar_file(&b, "l", other);
    ar_file(&b, "manifest.json", SV("[{\"Config\":\"c.json\",\"Layers\":[\"l\"]}]"));
    ar_end(&b);
    refused(x, buf_sv(&b), 400, "layer \"l\": digest mismatch: the image's config says sha256:");
    nothing_left(x);
    buf_reset(&b);
    const char *name = arena_printf(&x->f.a, "%064d.json", 1);
    ar_file(&b, name, config);
    ar_file(&b, "l", i.layer[0]);
    ar_file(&b, "manifest.json",
            sv_of(arena_printf(&x->f.a, "[{\"Config\":\"%s\",\"Layers\":[\"l\"]}]", name)));
    ar_end(&b);
    refused(x, buf_sv(&b), 400, "digest mismatch: its bytes have sha256:");
    nothing_left(x);
    buf_reset(&b);
    ar_file(&b, arena_printf(&x->f.a, "blobs/sha256/%064d", 1), other);
    ar_end(&b);
    refused(x, buf_sv(&b), 400, "0001\": digest mismatch: its bytes have sha256:");
    nothing_left(x);
}

static void manifests_that_do_not_fit(void **state)
{
#define M(json) "manifest.json", json
#define O(json) "index.json", json
    static const struct {
        const char *file, *json, *text;
    } cases[] = {
        {M(""), "\"manifest.json\": "},
        {M("{"), "\"manifest.json\": "},
        {M("{}"), "manifest.json: expected a list of images"},
        {M("[]"), "its manifest names no image"},
        {M("[{}]"), "an image without Config"},
        {M("[1]"), "an image without Config"},
        {M("[{\"Config\":\"nope\"}]"), "names \"nope\" but does not hold it"},
        {M("[{\"Config\":\"../c\"}]"), "leaves the archive"},
        {M("[{\"Config\":\"c\"}]"), "its config has 1 layers, the manifest 0"},
        {M("[{\"Config\":\"c\",\"Layers\":[\"l\",\"l\"]}]"), "has 1 layers, the manifest 2"},
        {M("[{\"Config\":\"c\",\"Layers\":[\"nope\"]}]"), "names \"nope\" but does not hold it"},
        {M("[{\"Config\":\"c\",\"Layers\":[\"dir\"]}]"), "names \"dir\" but does not hold it"},
        {M("[{\"Config\":\"c\",\"Layers\":[\"loop\"]}]"), "names \"loop\" but does not hold it"},
        {M("[{\"Config\":\"c\",\"Layers\":[1]}]"), "a layer without a name"},
        {M("[{\"Config\":\"l\",\"Layers\":[]}]"), "\"l\": "},
        {M("[{\"Config\":\"windows\",\"Layers\":[\"l\"]}]"), "is for windows; containers here run"},
        {M("[{\"Config\":\"badconfig\",\"Layers\":[\"l\"]}]"), "\"badconfig\": "},
        {M("[{\"Config\":\"baddiff\",\"Layers\":[\"l\"]}]"), "diff_ids[0] is no sha256 digest"},
        {M("[{\"Config\":\"c\",\"RepoTags\":[\"BAD\"],\"Layers\":[\"l\"]}]"), "tag \"BAD\": "},
        {O("{}"), "no image for linux on amd64"},
        {O("{\"manifests\":[{}]}"), "'' is no sha256 digest"},
        {O("{\"manifests\":[{\"digest\":\"sha512:00\"}]}"), "'sha512:00' is no sha256 digest"},
        {O("{\"manifests\":[{\"digest\":\"sha256:../../../../../../etc/passwd\"}]}"), "no sha256"},
        {O("{\"manifests\":[{\"digest\":\"sha256:"
           "0000000000000000000000000000000000000000000000000000000000000000\"}]}"),
         "does not hold it"},
        {"readme", "hello", "neither manifest.json nor index.json"},
    };
    struct io *x = *state;
    struct ar_image i = image(x, 1), windows = i, badconfig = i;
    windows.os = "windows";
    badconfig.config = "{\"Cmd\":7}";
    for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
        AUTO_BUF struct buf b = {0};
        ar_file(&b, "c", ar_config(&i));
        ar_file(&b, "windows", ar_config(&windows));
        ar_file(&b, "badconfig", ar_config(&badconfig));
        ar_file(&b, "baddiff", SV("{\"rootfs\":{\"diff_ids\":[\"x\"]}}"));
        ar_file(&b, "l", i.layer[0]);
        ar_entry(&b, '5', "dir", NULL, SV(""));
        ar_entry(&b, '2', "loop", "loop", SV(""));
        ar_file(&b, cases[n].file, sv_of(cases[n].json));
        ar_end(&b);
        refused(x, buf_sv(&b), 400, cases[n].text);
        nothing_left(x);
    }
}

/* CVE-2021-41190: one document, two meanings. */
static void ambiguous_documents(void **state)
{
    static const char *const docs[] = {"{\"config\":{},\"layers\":[],\"manifests\":[]}",
                                       "{\"manifests\":[],\"layers\":[]}", "{}"};
    static const char *const texts[] = {"is both manifest and index", "is both manifest and index",
                                        "is neither manifest nor index"};
    struct io *x = *state;
    for (size_t n = 0; n < ARRAY_LEN(docs); n++) {
        AUTO_BUF struct buf b = {0};
        ar_blob(&b, &x->f.a, sv_of(docs[n]));
        ar_file(&b, "index.json",
                sv_of(arena_printf(&x->f.a, "{\"manifests\":[{\"digest\":\"%s\"}]}",
                                   ar_digest(&x->f.a, sv_of(docs[n])))));
        ar_end(&b);
        refused(x, buf_sv(&b), 400, texts[n]);
        nothing_left(x);
    }
}

static void cut_at_every_block(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 1);
    ar_docker(&b, &i, "[\"cut:1\"]");
    size_t whole = b.len;
    ar_end(&b);
    for (size_t cut = 0; cut <= whole; cut += 512) {
        refused(x, sv_make(b.data, cut), 400, cut ? "truncated in entry" : "the archive is empty");
        nothing_left(x);
    }
}

static void the_connection_breaks(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0};
    struct ar_image i = image(x, 2);
    struct client c;
    ar_docker(&b, &i, "[\"gone:1\"]");
    ar_end(&b);
    for (size_t cut = 700; cut < b.len; cut += 1500) {
        post(x, &c, sv_make(b.data, cut), b.len);
        client_close(&c);
    }
    /* A whole one after them is served; then nothing is left of the others. */
    loads(x, &i, buf_sv(&b));
    int64_t end = clock_mono_ms(&vic_clock_real) + TG_TIMEOUT_MS;
    while (spooled(x) && clock_mono_ms(&vic_clock_real) < end)
        ask(&x->f, "GET", "/_ping", NULL, 200);
    assert_int_equal(spooled(x), 0);
    assert_int_equal(count(x, STORE_IMAGE), 2);
}

static void too_much(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, many = {0}, trail = {0};
    struct ar_image i = image(x, 1);
    for (int n = 0; n <= 20000; n++)
        ar_entry(&many, '5', "d", NULL, SV(""));
    ar_end(&many);
    refused(x, buf_sv(&many), 400, "the archive has more than 20000 entries");
    AUTO_FREE char *big = xcalloc(1, 128 << 10);
    ar_file(&b, "big", sv_make(big, 128 << 10));
    ar_end(&b);
    refused(x, buf_sv(&b), 500, "entry \"big\": the spool's quota of 65536 bytes is used up");
    ar_docker(&trail, &i, NULL);
    ar_end(&trail);
    AUTO_FREE char *tail = xcalloc(1, 9 << 20);
    buf_add(&trail, tail, 9 << 20);
    refused(x, buf_sv(&trail), 400, "the archive goes on after its end");
    nothing_left(x);
}

/* --- compressed as a whole ------------------------------------------------------------------- */
static void compress(const char *program, struct sv in, struct buf *out)
{
    const char *const argv[] = {program, "-c", NULL};
    check_ok(proc_run(argv, in, out, 20000, &err));
}

static void compressed_archives(void **state)
{
    struct io *x = *state;
    static const char *const programs[] = {"gzip", "zstd"};
    for (size_t n = 0; n < ARRAY_LEN(programs); n++) {
        AUTO_BUF struct buf b = {0}, z = {0}, bad = {0};
        struct ar_image i = image(x, 2 + n);
        ar_docker(&b, &i, "[\"small:1\"]");
        ar_end(&b);
        compress(programs[n], buf_sv(&b), &z);
        for (size_t cut = 7; cut < z.len; cut += z.len / 7)
            refused(x, sv_make(z.data, cut), 400, "truncated");
        buf_add_sv(&bad, buf_sv(&z));
        memset(bad.data + z.len / 2, 0x55, 8);
        struct client c;
        post(x, &c, buf_sv(&bad), bad.len);
        answered(x, &c, 400);
        buf_reset(&bad);
        buf_add_sv(&bad, buf_sv(&z));
        buf_add_str(&bad, "garbage");
        refused(x, buf_sv(&bad), 400, "malformed");
        assert_int_equal(spooled(x), 0);
        loads(x, &i, buf_sv(&z));
        assert_string_equal(buf_str(&x->f.body), "{\"stream\":\"Loaded image: small:1\\n\"}\r\n");
    }
    refused(x,
            sv_make("\xfd"
                    "7zXZ\0........",
                    14),
            400, "the archive is compressed with xz: decompress it first (xz -d)");
    refused(x, SV("BZh91AY&SY......"), 400, "compressed with bzip2");
}

static void a_bomb(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, z = {0};
    AUTO_FREE char *zeros = xcalloc(1, 64 << 20);
    ar_file(&b, "bomb", sv_make(zeros, 64 << 20));
    ar_end(&b);
    compress("zstd", buf_sv(&b), &z);
    assert_true(z.len < 65536);
    refused(x, buf_sv(&z), 500, "entry \"bomb\": the spool's quota of 65536 bytes is used up");
    nothing_left(x);
}

static void compressed_layers(void **state)
{
    struct io *x = *state;
    AUTO_BUF struct buf b = {0}, z = {0}, xz = {0};
    struct ar_image i = image(x, 1);
    struct store_image stored;
    struct store_layer l;
    struct client c;
    compress("gzip", i.layer[0], &z);
    ar_file(&b, "c", ar_config(&i));
    ar_file(&b, "l", buf_sv(&z));
    ar_file(&b, "manifest.json", SV("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"));
    ar_end(&b);
    post(x, &c, buf_sv(&b), b.len);
    until_stored(x, id_of(&i), &stored);
    assert_true(get(x, STORE_LAYER, stored.layers.v[0], &l));
    assert_string_equal(l.compression, "gzip");
    assert_string_equal(l.blob, ar_digest(&x->f.a, buf_sv(&z)));
    play(x, id_of(&i), NULL);
    answered(x, &c, 200);
    ar_file(&xz, "c", ar_config(&i));
    ar_file(&xz, "l",
            sv_make("\xfd"
                    "7zXZ\0",
                    6));
    ar_file(&xz, "manifest.json", SV("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"));
    ar_end(&xz);
    refused(x, buf_sv(&xz), 400, "layer \"l\" is compressed with xz; gzip, zstd or nothing");
}

int main(void)
{
#define TEST(f)  cmocka_unit_test_setup_teardown(f, io_setup, io_teardown)
#define SMALL(f) cmocka_unit_test_setup_teardown(f, io_setup_small, io_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_docker_archive),
        TEST(an_oci_layout),
        TEST(both_in_one),
        TEST(links_inside),
        TEST(the_same_layer_twice),
        TEST(layers_at_their_bounds),
        TEST(an_index_of_platforms),
        TEST(loading_again),
        TEST(two_loads_of_one_image),
        TEST(a_bad_load_beside_a_good_one),
        TEST(two_images_with_one_config),
        TEST(control_says_no),
        TEST(the_client_does_not_wait),
        TEST(a_crash_leaves_no_files),
        TEST(hostile_entries),
        TEST(bytes_that_are_not_what_they_say),
        TEST(manifests_that_do_not_fit),
        TEST(ambiguous_documents),
        TEST(cut_at_every_block),
        TEST(the_connection_breaks),
        SMALL(too_much),
        TEST(compressed_archives),
        SMALL(a_bomb),
        TEST(compressed_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
