/* A raw HTTP/1.1 client over a unix socket, for tests: it shows just what is on the wire. */
#ifndef VIC_TESTS_API_CLIENT_H
#define VIC_TESTS_API_CLIENT_H

#include "base/buf.h"

struct client { /* one keep-alive connection; all zero after client_close */
    int fd;
    struct buf in; /* read, not used yet */
};
struct answer {
    int status;
    struct buf head, body;
};

bool client_open(struct client *c, const char *socket);
void client_close(struct client *c);
/* 'headers' is extra lines with CR LF, or NULL.  'body' NULL: none; else it gets a Content-Length
 * and, unless headers has one, Content-Type: application/json. */
bool client_send(struct client *c, const char *method, const char *target, const char *headers,
                 const char *body);
/* Reads one answer's head, then its whole body (client_read), or as much as one chunk brings. */
bool client_head(struct client *c, struct answer *a);
bool client_chunk(struct client *c, struct buf *out, bool *end);
bool client_read(struct client *c, struct answer *a, bool head_only);
void answer_fini(struct answer *a);
/* Value of a header in the answer's head, "" when absent; borrowed from '*store'. */
const char *answer_header(const struct answer *a, const char *name, struct buf *store);

/* Is anything readable within 'ms'? */
bool client_readable(struct client *c, int ms);

/* One request on a connection of its own; status, or -1. */
int request(const char *socket, const char *method, const char *target, const char *body,
            struct buf *out);

#endif
