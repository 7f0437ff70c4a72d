/* api_host DIR [--seed] [--play LAG_MS]: the Docker API over a store in DIR, at unix:DIR/api.sock,
 * without vSphere.  --seed puts an image busybox:latest; --play plays control: runs begin and end
 * as asked for.  Prints "ready" and ends at SIGTERM or SIGINT. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#include "host.h"

static bool seeded(struct api_host *h)
{
    struct vic_err err = {0};
    AUTO_ARENA struct arena a = {0};
    struct store_image i;
    AUTO_TXN struct store_txn *t = store_read(h->store, &err);
    return t && store_get(t, STORE_IMAGE, host_image, &a, &i, &err);
}

static void wait_for_the_end(void)
{
    sigset_t set;
    int got;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigwait(&set, &got);
}

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
    struct vic_err err = {0};
    struct api_host h;
    struct host_player *player = NULL;
    uint64_t lag_ms = 0;
    bool seed = false, play = false;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = true;
        else if (strcmp(argv[i], "--play") == 0 && i + 1 < argc)
            play = sv_to_u64(sv_of(argv[++i]), &lag_ms);
    }
    if (argc < 2) {
        fprintf(stderr, "usage: api_host DIR [--seed] [--play LAG_MS]\n");
        return 2;
    }
    block_signals();
    if (!host_start(&h, argv[1], &err) || (seed && !seeded(&h) && !host_seed(&h, &err))) {
        fprintf(stderr, "api_host: %s\n", err.msg);
        return vic_code_exit(err.code);
    }
    if (play)
        player = host_play(&h, (int64_t)lag_ms);
    puts("ready");
    fflush(stdout);
    wait_for_the_end();
    if (player)
        host_play_stop(player);
    host_stop(&h);
    return 0;
}
