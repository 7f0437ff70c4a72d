/* Many parked clients: they hold no thread, slow nobody, and are woken one by one. */
#include "fixture.h"

#include <stdio.h>

enum { PARKED = 500, LISTS = 50, SLOW_MS = 2000 };

static int64_t list_ms(struct fixture *f)
{
    int64_t before = clock_mono_ms(&vic_clock_real);
    for (int i = 0; i < LISTS; i++)
        ask(f, "GET", "/containers/json?all=1&limit=5", NULL, 200);
    return clock_mono_ms(&vic_clock_real) - before;
}

static void test_parked_cost_nothing(void **state)
{
    struct fixture *f = *state;
    struct client *c = xcalloc(PARKED, sizeof *c);
    const char *id = make(f, "web", NULL), *other = make(f, "other", NULL);
    check_ok(host_began(f->host.store, id, &err));
    list_ms(f);
    int64_t alone = list_ms(f);
    for (int i = 0; i < PARKED; i++) { /* a third each: streams, parked, events */
        static const char *const targets[] = {"/containers/web/wait", "/v1.29/containers/web/wait",
                                              "/events"};
        assert_true(client_open(&c[i], f->host.socket));
        assert_true(client_send(&c[i], i % 3 == 2 ? "GET" : "POST", targets[i % 3],
                                "Content-Length: 0\r\n", NULL));
    }
    int64_t crowded = list_ms(f);
    printf("%d lists: %lld ms alone, %lld ms beside %d parked clients\n", LISTS, (long long)alone,
           (long long)crowded, PARKED);
    assert_true(crowded < alone * 5 + SLOW_MS); /* not a timing: threads held would take for ever */
    check_ok(host_began(f->host.store, other, &err));
    check_ok(host_ended(f->host.store, id, 9, &err));
    for (int i = 0; i < PARKED; i++) {
        struct answer a;
        if (i % 3 == 2) {
            client_close(&c[i]);
            continue;
        }
        assert_true(client_read(&c[i], &a, false));
        assert_string_equal(buf_str(&a.body), "{\"StatusCode\":9}\n");
        answer_fini(&a);
        client_close(&c[i]);
    }
    free(c);
}

/* Clients that go away while parked leave nothing behind (the sanitizer would tell). */
static void test_clients_leave(void **state)
{
    struct fixture *f = *state;
    const char *id = make(f, "web", NULL);
    check_ok(host_began(f->host.store, id, &err));
    for (int i = 0; i < 50; i++) {
        struct client c;
        assert_true(client_open(&c, f->host.socket));
        assert_true(client_send(&c, "POST",
                                i % 2 ? "/containers/web/wait" : "/v1.29/containers/web/wait",
                                "Content-Length: 0\r\n", NULL));
        client_close(&c);
    }
    check_ok(host_ended(f->host.store, id, 0, &err));
    ask(f, "GET", "/_ping", NULL, 200);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {T(test_parked_cost_nothing), T(test_clients_leave)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
