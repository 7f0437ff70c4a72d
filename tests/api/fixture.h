/* The fixture of api's tests: a seeded host in a folder of its own, and short ways to ask it. */
#ifndef VIC_TESTS_API_FIXTURE_H
#define VIC_TESTS_API_FIXTURE_H

/* cmocka wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"

#include "client.h"
#include "host.h"

#define check_ok(expr)                                                                             \
    do {                                                                                           \
        struct vic_err err = {0};                                                                  \
        if (!(expr))                                                                               \
            fail_msg("%s: %s", vic_code_name(err.code), err.msg);                                  \
    } while (0)

struct fixture {
    struct api_host host;
    char dir[64];
    struct arena a;  /* of the answers read */
    struct buf body; /* of the last answer */
};
int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_restart(struct fixture *f); /* the engine, on the same folder */

/* Asks and compares the status; the body is in f->body. */
void ask(struct fixture *f, const char *method, const char *target, const char *body, int status);
/* The same, and the body must be an error with just this message. */
void ask_error(struct fixture *f, const char *method, const char *target, const char *body,
               int status, const char *message);
/* The last answer as JSON; by a path of members and indexes: "State.Status", "0.Id". */
struct json_val got(struct fixture *f, const char *path);
const char *got_str(struct fixture *f, const char *path);
int64_t got_int(struct fixture *f, const char *path);
/* Makes a container of busybox with these members in its body; returns its id. */
const char *make(struct fixture *f, const char *name, const char *members);

#endif
