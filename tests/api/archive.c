/* See archive.h. */
#include "archive.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/tls.h"

enum { BLOCK = 512, CHECKSUM = 148, TYPE = 156, MAGIC = 257 };

static void put(struct buf *b, size_t at, const char *text, size_t max)
{
    size_t len = strlen(text);
    memcpy(b->data + at, text, len < max ? len : max);
}

void ar_checksum(struct buf *b, size_t at)
{
    unsigned sum = 0;
    char text[8];
    memset(b->data + at + CHECKSUM, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)b->data[at + i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(b->data + at + CHECKSUM, text, 7);
}

void ar_header(struct buf *b, char type, const char *name, const char *link, uint64_t size)
{
    static const char zeros[BLOCK];
    char text[16];
    size_t at = b->len;
    buf_add(b, zeros, BLOCK);
    put(b, at, name, 100);
    put(b, at + 100, "0000644", 8);
    put(b, at + 108, "0000000", 8);
    put(b, at + 116, "0000000", 8);
    snprintf(text, sizeof text, "%011llo", (unsigned long long)size & 077777777777ULL);
    put(b, at + 124, text, 12);
    put(b, at + 136, "00000000000", 12);
    b->data[at + TYPE] = type;
    put(b, at + 157, link ? link : "", 100);
    memcpy(b->data + at + MAGIC,
           "ustar\0"
           "00",
           8);
    ar_checksum(b, at);
}

void ar_pad(struct buf *b)
{
    while (b->len % BLOCK)
        buf_add_c(b, '\0');
}

void ar_entry(struct buf *b, char type, const char *name, const char *link, struct sv data)
{
    ar_header(b, type, name, link, data.len);
    buf_add_sv(b, data);
    ar_pad(b);
}

void ar_file(struct buf *b, const char *name, struct sv data)
{
    ar_entry(b, '0', name, NULL, data);
}

void ar_pax(struct buf *b, const char *key, struct sv value)
{
    AUTO_BUF struct buf record = {0};
    size_t len = strlen(key) + value.len + 3, digits = 1;
    for (size_t n = 10; n <= len + digits; n *= 10)
        digits++;
    buf_addf(&record, "%zu %s=", len + digits, key);
    buf_add_sv(&record, value);
    buf_add_c(&record, '\n');
    ar_entry(b, 'x', "pax", NULL, buf_sv(&record));
}

void ar_end(struct buf *b)
{
    for (int i = 0; i < 2 * BLOCK; i++)
        buf_add_c(b, '\0');
}

/* --- images ---------------------------------------------------------------------------------- */
static struct sv keep(struct arena *a, struct buf *b)
{
    return sv_make(arena_sv(a, buf_sv(b)), b->len);
}

struct sv ar_layer(struct arena *a, const char *file, const char *content)
{
    AUTO_BUF struct buf b = {0};
    ar_file(&b, file, sv_of(content));
    ar_end(&b);
    return keep(a, &b);
}

const char *ar_digest(struct arena *a, struct sv bytes)
{
    char hex[65];
    sha256_hex(bytes.p, bytes.len, hex);
    return arena_printf(a, "sha256:%s", hex);
}

struct sv ar_config(const struct ar_image *i)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b,
             "{\"architecture\":\"amd64\",\"os\":\"%s\",\"created\":\"2026-01-02T03:04:05Z\","
             "\"author\":\"me\",\"config\":%s,\"history\":[{\"created\":\"2026-01-02T03:04:05Z\","
             "\"created_by\":\"ADD\"},{\"created_by\":\"CMD\",\"empty_layer\":true}],\"rootfs\":{"
             "\"type\":\"layers\",\"diff_ids\":[",
             i->os ? i->os : "linux", i->config ? i->config : "{\"Cmd\":[\"sh\"]}");
    for (size_t n = 0; n < i->layers; n++)
        buf_addf(&b, "%s\"%s\"", n ? "," : "", ar_digest(i->a, i->layer[n]));
    buf_add_str(&b, "]}}");
    return keep(i->a, &b);
}

const char *ar_chain(const struct ar_image *i, size_t layer)
{
    const char *chain = ar_digest(i->a, i->layer[0]);
    for (size_t n = 1; n <= layer; n++)
        chain = ar_digest(i->a,
                          sv_of(arena_printf(i->a, "%s %s", chain, ar_digest(i->a, i->layer[n]))));
    return chain;
}

void ar_docker(struct buf *b, const struct ar_image *i, const char *tags)
{
    AUTO_BUF struct buf m = {0};
    struct sv config = ar_config(i);
    const char *name = arena_printf(i->a, "%s.json", ar_digest(i->a, config) + 7);
    ar_file(b, name, config);
    buf_addf(&m, "[{\"Config\":\"%s\",\"RepoTags\":%s,\"Layers\":[", name, tags ? tags : "null");
    for (size_t n = 0; n < i->layers; n++) {
        char file[32];
        snprintf(file, sizeof file, "%zu/layer.tar", n);
        ar_file(b, file, i->layer[n]);
        buf_addf(&m, "%s\"%s\"", n ? "," : "", file);
    }
    buf_add_str(&m, "]}]");
    ar_file(b, "manifest.json", buf_sv(&m));
}

void ar_blob(struct buf *b, struct arena *a, struct sv bytes)
{
    ar_file(b, arena_printf(a, "blobs/sha256/%s", ar_digest(a, bytes) + 7), bytes);
}

void ar_oci(struct buf *b, const struct ar_image *i, const char *name)
{
    AUTO_BUF struct buf m = {0};
    AUTO_BUF struct buf index = {0};
    struct sv config = ar_config(i);
    ar_entry(b, '5', "blobs/", NULL, SV(""));
    ar_entry(b, '5', "blobs/sha256/", NULL, SV(""));
    ar_blob(b, i->a, config);
    buf_addf(&m,
             "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
             "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":"
             "\"%s\",\"size\":%zu},\"layers\":[",
             ar_digest(i->a, config), config.len);
    for (size_t n = 0; n < i->layers; n++) {
        ar_blob(b, i->a, i->layer[n]);
        buf_addf(&m,
                 "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\","
                 "\"size\":%zu}",
                 n ? "," : "", ar_digest(i->a, i->layer[n]), i->layer[n].len);
    }
    buf_add_str(&m, "]}");
    ar_blob(b, i->a, buf_sv(&m));
    buf_addf(&index,
             "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
             "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu",
             ar_digest(i->a, buf_sv(&m)), m.len);
    if (name)
        buf_addf(&index, ",\"annotations\":{\"io.containerd.image.name\":\"%s\"}", name);
    buf_add_str(&index, "}]}");
    ar_file(b, "index.json", buf_sv(&index));
    ar_file(b, "oci-layout", SV("{\"imageLayoutVersion\":\"1.0.0\"}"));
}
