/* What the two ends of the plain stream agree on: stream_guest.c, stream_sink.c. */
#ifndef VIC_TESTS_STREAM_H
#define VIC_TESTS_STREAM_H

#include <string.h>

#include "base/tls.h"

enum { STREAM_PORT = 2379, STREAM_BYTES = 64 << 20, STREAM_PIECE = 16384 };

#define STREAM_IDENTITY "plain-stream"

/* Nothing secret goes over it. */
static inline void stream_key(unsigned char key[TLS_PSK_SIZE])
{
    memset(key, 7, TLS_PSK_SIZE);
}

#endif
