/* An engine without its API, on a temporary folder and the model of vSphere (tests/sim): the real
 * store, logs, spool, hub and controllers.
 *
 * The engine can end in order (rig_stop) or as killed (rig_kill, or a failpoint: then nothing more
 * is written to the store and no call reaches vSphere); rig_start begins a new one on the same
 * folder and the same world.  Its clock is the real one plus what rig_turn adds. */
#ifndef VIC_TESTS_RIG_H
#define VIC_TESTS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdatomic.h>

#include "base/mem.h"
#include "base/sync.h"
#include "control/control.h"

#include "model.h"
#include "tether.h"

enum { RIG_WAIT_MS = 30000 };

struct rig {
    struct vic_clock clock; /* first: it is told by its address */
    _Atomic int64_t turned_ns;
    char dir[64];
    struct model *m;
    struct sim *sim;
    int port;
    struct ctl_settings settings;
    /* one engine's */
    struct vic_log *log;
    struct store *store;
    struct logs *logs;
    struct spool *spool;
    struct vsp *vsp;
    struct ctl *ctl;
    struct loop *loop;
    struct hub *hub;
    /* failpoints of the engine that runs: 0 = none */
    _Atomic uint64_t at_commit, at_call, at_reply, commits, calls, replies;
    _Atomic bool dead;
    unsigned deaths;              /* engines that were killed */
    uint64_t late;                /* control's stats of the engines that have ended */
    struct store_layer layers[8]; /* that the next image brings */
    size_t layer_count;
    size_t seeded_disks; /* in the model, of the seeded image */
    struct arena arena;  /* of records read and made; freed with the rig */
};

struct rig_options {
    struct sim_act usual;
    int64_t task_ms, lag_ms;
    uint64_t seed;
    uint32_t max_vms, max_boots;
    uint64_t at_commit, at_call, at_reply; /* where the first engine dies; 0 = nowhere */
    bool seed_image; /* a ready image of two layers, and the blank root, are there already */
};
/* On the heap, and left alone by a test that fails: its threads may still run. */
struct rig *rig_new(const struct rig_options *o);
/* Ends the engine if it runs, checks for violations, removes the folder, frees. */
void rig_fini(struct rig *r);
void rig_start(struct rig *r);
void rig_stop(struct rig *r);
void rig_kill(struct rig *r);
/* Turns the engine's clock and has everything looked at. */
void rig_turn(struct rig *r, int64_t ms);

/* Waits until 'is' holds, or RIG_WAIT_MS: then false. */
bool rig_wait(struct rig *r, bool (*is)(struct rig *r, void *arg), void *arg);
#define UNTIL(r, is, arg)                                                                          \
    do {                                                                                           \
        if (!rig_wait((r), (is), (arg)))                                                           \
            rig_give_up((r), #is);                                                                 \
    } while (0)
/* Fails the test with all that is known. */
_Noreturn void rig_give_up(struct rig *r, const char *what);
/* Everything has been cleaned up: no VM, no disk but those of images and of 'containers' containers
 * that have been started; no task; the store verifies; no violation. */
void rig_clean(struct rig *r, size_t containers);
bool rig_is_clean(struct rig *r, size_t containers); /* now; without the store's check */

/* --- intents: what the API writes (intents.c)
 * -----------------------------------------------------
 */
extern const unsigned char rig_secret[33];
extern const char rig_image[]; /* the seeded one */
void rig_seed(struct rig *r);  /* puts it there, before the first engine */
const char *rig_create(struct rig *r, const char *image, bool auto_remove);
void rig_run(struct rig *r, const char *id);
void rig_want_stop(struct rig *r, const char *id, int64_t timeout_ms);
void rig_remove(struct rig *r, const char *id); /* rm -f's commit */
/* A layer of plain bytes on a parent ("" = the root), its archive in the spool; returns its id.
 * 'diff_id' NULL = the right one.  It becomes a record with the image, in one commit. */
const char *rig_layer(struct rig *r, const char *parent, const char *bytes, const char *diff_id);
const char *rig_load(struct rig *r, const char *name, const char *const *layers, size_t count);
void rig_rmi(struct rig *r, const char *image);

bool rig_get(struct rig *r, enum store_kind kind, const char *id, void *record);
/* Waits for the phase of run 'seq'; the record is rig-lived. */
struct store_container rig_until_phase(struct rig *r, const char *id, uint64_t seq,
                                       enum store_run_phase phase);
void rig_until_gone(struct rig *r, enum store_kind kind, const char *id);
struct store_image rig_until_loaded(struct rig *r, const char *image);
unsigned rig_events(struct rig *r, const char *id, const char *action);
unsigned rig_log_lines(struct rig *r, const char *id);
size_t rig_count(struct rig *r, enum store_kind kind); /* tombstones too */

#endif
