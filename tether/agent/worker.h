/* A worker's job, from beginning to end, in a process of its own. */
#ifndef VIC_TETHER_AGENT_WORKER_H
#define VIC_TETHER_AGENT_WORKER_H

#include "base/json.h"

/* Does the job of an OPEN of kind "job" (tether/wire.h); the layer's bytes come from 'in'; CLOSE's
 * JSON is appended to 'out'.  Needs a mount namespace of its own. */
void worker_do(struct json_val job, int in, struct buf *out);

#endif
