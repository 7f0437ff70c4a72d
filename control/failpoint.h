/* Failpoints: the engine dies at the n-th store commit, or before or after the n-th vSphere call.
 *
 * Only in test builds (VIC_FAILPOINTS); else the gates are NULL.  VIC_FAIL_COMMIT=n,
 * VIC_FAIL_CALL=n and VIC_FAIL_REPLY=n in the environment choose the point; death is _exit(86), as
 * abrupt as kill -9 for everything that matters (no buffers are flushed, no destructor runs).
 * VIC_FAIL_COUNT=FILE writes how many of each there were, when the engine ends in order. */
#ifndef VIC_CONTROL_FAILPOINT_H
#define VIC_CONTROL_FAILPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct failpoints {
    uint64_t at_commit, at_call, at_reply;
    _Atomic uint64_t commits, calls, replies;
};

enum { FAILPOINT_EXIT = 86 };

void failpoint_init(struct failpoints *f);
void failpoint_report(const struct failpoints *f);
bool (*failpoint_store_gate(struct failpoints *f))(void *arg, uint64_t commit);
bool (*failpoint_soap_gate(struct failpoints *f))(void *arg, const char *method, bool after);

#endif
