/* What a peer that has proved nothing may cost.
 *
 * Each address has a bucket of tokens: a connection takes one and gets it back when its key was
 * proved, so that guests which come and go are never held up, and one that fails is slowed down to
 * the refill.  An address may hold PEER_HANDSHAKES handshakes at a time, all together
 * HUB_HANDSHAKES.  The table is small and searched from front to end; the address unused for the
 * longest time makes room (a peer that changes its address gets a new bucket, but no more
 * handshakes than the sum allows). */
#ifndef VIC_HUB_PEERS_H
#define VIC_HUB_PEERS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    HUB_HANDSHAKES = 64,
    PEER_HANDSHAKES = 16,
    PEER_TOKENS = 64,     /* failures in a row */
    PEER_REFILL_MS = 500, /* then one each */
    PEER_PENALTY = 4,     /* tokens for a proved peer that breaks the protocol */
    PEER_COUNT = 256,
};

struct peer {
    char address[64];
    unsigned handshakes;
    int tokens;
    int64_t filled_ms, used_ms;
};

/* Owned by the loop thread. */
struct peers {
    struct peer v[PEER_COUNT];
    unsigned handshakes;
};

/* A new connection from 'address' (its port is cut off).  NULL: refuse it. */
struct peer *peers_begin(struct peers *all, const char *address, int64_t now_ms);
/* Its handshake ended, as it may. */
void peers_end(struct peers *all, struct peer *p, bool proved);
/* A proved peer broke the protocol. */
void peers_punish(struct peers *all, const char *address, int64_t now_ms);

#endif
