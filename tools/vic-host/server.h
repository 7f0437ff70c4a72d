/* The HTTP face of vic-host. */
#ifndef VIC_HOST_SERVER_H
#define VIC_HOST_SERVER_H

#include "host.h"

/* Listens nowhere yet. */
struct http_server *vh_server_new(struct vh *h, struct vic_err *err);

#endif
