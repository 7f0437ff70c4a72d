/* Failpoints: see failpoint.h. */
#include "failpoint.h"

#include <stddef.h>

#ifdef VIC_FAILPOINTS
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sv.h"

static uint64_t number(const char *name)
{
    uint64_t n = 0;
    const char *text = getenv(name);
    return text && sv_to_u64(sv_of(text), &n) ? n : 0;
}

void failpoint_init(struct failpoints *f)
{
    f->at_commit = number("VIC_FAIL_COMMIT");
    f->at_call = number("VIC_FAIL_CALL");
    f->at_reply = number("VIC_FAIL_REPLY");
}

void failpoint_report(const struct failpoints *f)
{
    const char *path = getenv("VIC_FAIL_COUNT");
    FILE *out = path ? fopen(path, "we") : NULL;
    if (!out)
        return;
    fprintf(out, "commits=%" PRIu64 " calls=%" PRIu64 " replies=%" PRIu64 "\n", f->commits,
            f->calls, f->replies);
    fclose(out);
}

static bool store_gate(void *arg, uint64_t commit)
{
    struct failpoints *f = arg;
    (void)commit;
    if (atomic_fetch_add(&f->commits, 1) + 1 == f->at_commit)
        _exit(FAILPOINT_EXIT);
    return true;
}

static bool soap_gate(void *arg, const char *method, bool after)
{
    struct failpoints *f = arg;
    /* The long poll goes on for ever and changes nothing. */
    if (strncmp(method, "WaitForUpdates", 14) == 0)
        return true;
    if (after ? atomic_fetch_add(&f->replies, 1) + 1 == f->at_reply
              : atomic_fetch_add(&f->calls, 1) + 1 == f->at_call)
        _exit(FAILPOINT_EXIT);
    return true;
}

bool (*failpoint_store_gate(struct failpoints *f))(void *arg, uint64_t commit)
{
    (void)f;
    return store_gate;
}

bool (*failpoint_soap_gate(struct failpoints *f))(void *arg, const char *method, bool after)
{
    (void)f;
    return soap_gate;
}

#else

void failpoint_init(struct failpoints *f)
{
    (void)f;
}

void failpoint_report(const struct failpoints *f)
{
    (void)f;
}

bool (*failpoint_store_gate(struct failpoints *f))(void *arg, uint64_t commit)
{
    (void)f;
    return NULL;
}

bool (*failpoint_soap_gate(struct failpoints *f))(void *arg, const char *method, bool after)
{
    (void)f;
    return NULL;
}

#endif
