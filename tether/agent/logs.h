/* The run's output on its way to the engine's log.
 *
 * Each chunk read becomes an entry with a sequence number (of this boot).  Entries wait in memory,
 * in order, until they are acknowledged; when the endpoint is away and memory is full, later ones
 * go to a spool file on the container's disk, and when that is full too they are dropped and a
 * marker says how much.  While the endpoint is there nothing is dropped: logs_room() becomes 0 and
 * whoever reads the pipes stops.
 *
 *   seq   1 ......... n | n+1 ......... m | m+1 ..... last
 *         acknowledged  | queue (memory)  | spool (disk)
 *                          ^ next to send */
#ifndef VIC_TETHER_AGENT_LOGS_H
#define VIC_TETHER_AGENT_LOGS_H

#include "link.h"

enum { LOGS_MEMORY = 1 << 20, LOGS_SPOOL = 16 << 20 };

struct logs_entry {
    TAILQ_ENTRY(logs_entry) link;
    uint64_t seq;
    int64_t time_ns;
    uint8_t stream, flags;
    size_t len;
    char bytes[];
};

struct logs {
    struct link *conn;
    int dir; /* folder of the spool; borrowed */
    size_t spool_limit;
    uint64_t seq; /* newest made */
    bool up;
    TAILQ_HEAD(logs_queue, logs_entry) queue;
    size_t queued;           /* bytes in the queue */
    struct logs_entry *next; /* to be sent; NULL: all sent */
    int spool;               /* file, or -1 */
    size_t spool_read, spool_end;
    uint64_t dropped;
};

void logs_init(struct logs *l, struct link *conn, int dir);
void logs_fini(struct logs *l);

/* How many bytes may be added now; never 0 while the link is down. */
size_t logs_room(struct logs *l);
void logs_add(struct logs *l, unsigned stream, struct sv bytes, bool partial, int64_t time_ns);
/* Sends what the link has room for. */
void logs_pump(struct logs *l);
void logs_link_up(struct logs *l, uint64_t stored);
void logs_link_down(struct logs *l);
void logs_acked(struct logs *l, uint64_t seq);
bool logs_all_sent(const struct logs *l);
bool logs_all_acked(const struct logs *l);
/* What was not acknowledged, as LOG frames in the file "logs.left" (a worker hands it in later). */
VIC_CHECK bool logs_keep(struct logs *l, struct vic_err *err);

#endif
