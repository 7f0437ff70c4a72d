/* Limits for those who have not proved a key: see peers.h. */
#include "peers.h"

#include <stdio.h>
#include <string.h>

#include "base/sv.h"

static void cut_port(const char *address, char out[64])
{
    ptrdiff_t colon = sv_rfind(sv_of(address), ':');
    int len = colon >= 0 ? (int)colon : (int)strlen(address);
    snprintf(out, 64, "%.*s", len, address);
}

static void refill(struct peer *p, int64_t now_ms)
{
    int64_t more = (now_ms - p->filled_ms) / PEER_REFILL_MS;
    if (more <= 0)
        return;
    p->filled_ms += more * PEER_REFILL_MS;
    p->tokens = more >= PEER_TOKENS - p->tokens ? PEER_TOKENS : p->tokens + (int)more;
}

/* The peer's place, made when it is new; NULL when every place has a handshake. */
static struct peer *find(struct peers *all, const char *address, int64_t now_ms)
{
    char key[64];
    cut_port(address, key);
    struct peer *oldest = NULL;
    for (unsigned i = 0; i < PEER_COUNT; i++) {
        struct peer *p = &all->v[i];
        if (strcmp(p->address, key) == 0) {
            refill(p, now_ms);
            return p;
        }
        if (p->handshakes == 0 && (!oldest || p->used_ms < oldest->used_ms))
            oldest = p;
    }
    if (oldest) {
        *oldest = (struct peer){.tokens = PEER_TOKENS, .filled_ms = now_ms};
        snprintf(oldest->address, sizeof oldest->address, "%s", key);
    }
    return oldest;
}

struct peer *peers_begin(struct peers *all, const char *address, int64_t now_ms)
{
    if (all->handshakes >= HUB_HANDSHAKES)
        return NULL;
    struct peer *p = find(all, address, now_ms);
    if (!p || p->handshakes >= PEER_HANDSHAKES || p->tokens <= 0)
        return NULL;
    p->used_ms = now_ms;
    p->tokens--;
    p->handshakes++;
    all->handshakes++;
    return p;
}

void peers_end(struct peers *all, struct peer *p, bool proved)
{
    p->handshakes--;
    all->handshakes--;
    if (proved && p->tokens < PEER_TOKENS)
        p->tokens++;
}

void peers_punish(struct peers *all, const char *address, int64_t now_ms)
{
    struct peer *p = find(all, address, now_ms);
    if (!p)
        return;
    p->used_ms = now_ms;
    p->tokens = p->tokens > PEER_PENALTY ? p->tokens - PEER_PENALTY : 0;
}
