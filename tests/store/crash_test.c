/* Killed while writing: what was acknowledged is there, and the store is whole.
 *
 * A child writes with four threads: each round makes a vm and a disk held by it in one change, and
 * deletes those of an earlier round; after each acknowledgement it writes the round's number to a
 * pipe.  The parent kills it with SIGKILL: at a random moment, or the child kills itself at the
 * n-th commit, for every n of a run.  (A power cut needs another test: here the page cache
 * survives.) */
#include "util.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { THREADS = 4, KEEP = 10, GATES = 25, MOMENTS = 15, MAX_ROUNDS = 100000 };

struct writer {
    struct store *s;
    unsigned thread;
    int pipe;
};

struct round {
    unsigned thread, n;
};

/* --- the child -----------------------------------------------------------------------------------
 */
static bool apply_round(void *arg, struct store_txn *t, struct arena *a, struct vic_err *err)
{
    const struct round *r = arg;
    struct store_vm vm;
    struct store_disk disk;
    store_init(store_rec_vm(), &vm);
    store_init(store_rec_disk(), &disk);
    vm.meta.id = vm.meta.name = arena_printf(a, "vm-%u-%u", r->thread, r->n);
    disk.meta.id = arena_printf(a, "disk-%u-%u", r->thread, r->n);
    disk.holder = vm.meta.id;
    if (!store_put(t, STORE_VM, &vm, err) || !store_put(t, STORE_DISK, &disk, err))
        return false;
    if (r->n < KEEP)
        return true;
    const char *old_disk = arena_printf(a, "disk-%u-%u", r->thread, r->n - KEEP);
    const char *old_vm = arena_printf(a, "vm-%u-%u", r->thread, r->n - KEEP);
    return store_del(t, STORE_DISK, old_disk, err) && store_del(t, STORE_VM, old_vm, err);
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    for (unsigned n = 0; n < MAX_ROUNDS; n++) {
        struct round r = {w->thread, n};
        struct vic_err err = {0};
        if (!store_write(w->s, &test_note, NULL, apply_round, &r, &err))
            _exit(3);
        if (write(w->pipe, &r, sizeof r) != sizeof r)
            _exit(4);
    }
    return NULL;
}

static bool die_at(void *arg, uint64_t commit)
{
    if (commit == *(uint64_t *)arg)
        kill(getpid(), SIGKILL);
    return true;
}

static void child_main(const char *dir, uint64_t gate, int fd)
{
    struct store_options o = {
        .dir = dir, .secret = test_secret, .gate = gate ? die_at : NULL, .gate_arg = &gate};
    struct store *s = store_open(&o, NULL);
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    if (!s)
        _exit(2);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){s, i, fd};
        if (pthread_create(&threads[i], NULL, writer_main, &writers[i]) != 0)
            _exit(2);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

/* --- the parent ----------------------------------------------------------------------------------
 */
/* Reads what was acknowledged: of each thread the newest round, -1 = none. */
static void read_acks(int fd, int newest[THREADS])
{
    struct round r;
    for (unsigned i = 0; i < THREADS; i++)
        newest[i] = -1;
    while (read(fd, &r, sizeof r) == sizeof r)
        newest[r.thread] = (int)r.n;
}

static void check_thread(struct store *s, unsigned thread, int acked)
{
    AUTO_ARENA struct arena a = {0};
    AUTO_TXN struct store_txn *t = store_read(s, NULL);
    struct store_vm vm;
    struct store_disk disk;
    /* One more may be there: durable, but killed before it was said. */
    struct vic_err err = {0};
    bool next =
        store_get(t, STORE_VM, arena_printf(&a, "vm-%u-%d", thread, acked + 1), &a, &vm, &err);
    int last = acked + next;
    for (int n = last; n >= 0 && n > last - KEEP; n--) {
        const char *id = arena_printf(&a, "disk-%u-%d", thread, n);
        if (!store_get(t, STORE_DISK, id, &a, &disk, &err))
            fail_msg("round %d was acknowledged (up to %d), %s", n, acked, err.msg);
        assert_true(store_get(t, STORE_VM, disk.holder, &a, &vm, NULL));
    }
    if (last >= KEEP)
        assert_false(store_get(t, STORE_VM, arena_printf(&a, "vm-%u-%d", thread, last - KEEP), &a,
                               &vm, NULL));
}

/* Runs a child until it is killed (by us after 'ms', when there is no gate) and checks. */
static int run_once(uint64_t gate, unsigned us)
{
    char *dir = new_folder();
    int fds[2], newest[THREADS], status, total = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        child_main(dir, gate, fds[1]);
    }
    close(fds[1]);
    if (!gate) {
        struct round first; /* it is at work */
        assert_int_equal(read(fds[0], &first, sizeof first), sizeof first);
        usleep(us);
        kill(pid, SIGKILL);
    }
    read_acks(fds[0], newest);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct store *s = open_store(dir);
    verify_store(s);
    for (unsigned i = 0; i < THREADS; i++) {
        check_thread(s, i, newest[i]);
        total += newest[i] + 1;
    }
    store_close(s);
    remove_folder(dir);
    return total;
}

static void test_every_commit(void **state)
{
    (void)state;
    for (uint64_t gate = 1; gate <= GATES; gate++)
        run_once(gate, 0);
}

static void test_any_moment(void **state)
{
    uint64_t seed = random_u64();
    int total = 0;
    (void)state;
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < MOMENTS; i++)
        total += run_once(0, (unsigned)(next_random(&seed) % 60000));
    printf("%d rounds were acknowledged\n", total);
    assert_true(total > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_commit),
        cmocka_unit_test(test_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
