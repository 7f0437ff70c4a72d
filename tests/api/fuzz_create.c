/* Bytes -> the body of a create -> a record, merged with an image's config and shown again as
 * inspect does.  What was taken must survive the record's own codec. */
#include <stdlib.h>

#include "api_priv.h"
#include "docker/docker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_codec(const struct store_container *k, struct arena *a)
{
    AUTO_BUF struct buf bytes = {0};
    struct store_container back;
    store_encode(store_rec_container(), k, &bytes);
    if (bytes.failed || !store_decode(store_rec_container(), buf_sv(&bytes), a, &back, NULL) ||
        !store_equal(store_rec_container(), k, &back))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *words[] = {"PATH=/bin", "A=1"};
    AUTO_ARENA struct arena a = {0};
    struct warnings warn = {.a = &a};
    struct store_container k;
    struct store_config image;
    struct json_val v;
    if (size > 65536 || !json_parse(sv_make(data, size), 0, &a, &v, NULL) ||
        !create_body(v, &a, &k, &warn, NULL))
        return 0;
    store_init(store_rec_config(), &image);
    image.env = (struct store_strs){words, 2};
    image.cmd = (struct store_strs){words, 1};
    config_merge(&k.config, &image, &a);
    AUTO_BUF struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_open(&w, NULL, '{');
    config_to_json(&k.config, &w, "Config");
    host_config_to_json(&k.host_config, &w, "HostConfig");
    json_close(&w, '}');
    if (out.failed || !json_parse(buf_sv(&out), 0, &a, &v, NULL))
        abort();
    check_codec(&k, &a);
    return 0;
}
