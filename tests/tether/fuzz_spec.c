/* A run's spec, an exec's and the files that a user is looked up in. */
#include "spec.h"
#include "user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct user u;
    AUTO_ARENA struct arena a = {0};
    struct sv text = sv_make(data, size);
    struct json_val v;
    struct spec_run run;
    struct spec_process p;
    if (json_parse(text, 4096, &a, &v, NULL) && spec_read_run(v, &a, &run, NULL))
        (void)!spec_read_exec(v, &run, &a, &p, NULL);
    (void)!user_find(text, text, "bob:wheel", NULL, &u, NULL);
    (void)!user_find(text, text, "0", NULL, &u, NULL);
    return 0;
}
