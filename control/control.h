/* Control: drives vSphere toward the store.
 *
 * A queue of (kind, id) keys; a controller is a function that reads intent and observed state,
 * takes ONE idempotent step, writes status, and says DONE, AGAIN(after) or WAIT.  It keeps nothing
 * between calls: everything that matters is in the store, in vSphere or in the guest, so a crash
 * anywhere and a second run come out the same.  Events (store changes, vSphere updates, guests'
 * words) only say "look again".
 *
 * Clocks, and who owns each:
 *   first signal of a stop, its grace       the tether (SHUTDOWN's grace_ms)
 *   stop that the guest does not finish     control: grace + 10 s, then the VM is powered off
 *   boot of a VM                            control: CTL_BOOT_MS from power-on to HELLO
 *   guest's own power-off after EXIT_ACK    control: CTL_OFF_MS, then it is powered off
 *   back-off of failed steps                the queue, per key: 250 ms doubling to 60 s
 *   an attempt in vSphere                   control: CTL_ATTEMPT_MS, then looked at anew
 *
 * Lock order: queue before observed before jobs; none is held over a call into another room.
 * Threads: every function from any thread; ctl_free not from a callback. */
#ifndef VIC_CONTROL_CONTROL_H
#define VIC_CONTROL_CONTROL_H

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "store/logs.h"
#include "store/spool.h"
#include "store/store.h"
#include "tether/hub.h"
#include "vsphere/vsphere.h"

enum {
    CTL_BOOT_MS = 120000,
    CTL_OFF_MS = 20000,
    CTL_STOP_SLACK_MS = 10000,
    CTL_ATTEMPT_MS = 300000,
};

struct ctl;

struct ctl_options {
    struct store *store;
    struct logs *logs;
    struct spool *spool;
    struct vsp *vsp;
    struct vsp_place_names place; /* where the VCH lives; strings live as long as ctl */
    const char *iso;              /* bootstrap.iso, a local file; uploaded when vSphere lacks it */
    const struct vic_clock *clock;
    unsigned workers; /* threads that run steps; 0 = 8 */
    struct vic_log *log;
};

struct ctl *ctl_new(const struct ctl_options *o, struct vic_err *err);
/* The hub's callbacks; their arg is the ctl.  Then ctl_start begins work. */
extern const struct hub_callbacks ctl_hub_callbacks;
/* The hub's key function; its arg is the ctl.  Only VMs of the store have a key. */
bool ctl_channel_key(void *ctl, const char *vm, unsigned n, unsigned char out[TLS_PSK_SIZE]);
/* The logs' 'stored' callback; its arg is the ctl. */
void ctl_log_stored(void *ctl, const char *container, const char *boot, uint64_t seq);
VIC_CHECK bool ctl_start(struct ctl *c, struct hub *hub, struct vic_err *err);
/* Stops: steps that run finish, nothing new begins. */
void ctl_stop(struct ctl *c);
void ctl_free(struct ctl *c);

/* The VCH's record, made at the first start: settings that are given (not 0 or NULL) replace those
 * stored. */
struct ctl_settings {
    const char *name;
    uint32_t class_mb, cpus, pool_size, max_vms, max_boots;
    uint64_t max_memory_mb;
    int64_t disk_bytes;
    const char *folder; /* our folder on the datastore */
    const char *vch_id; /* 64 hex digits, at the first start only; NULL = random */
};
VIC_CHECK bool ctl_configure(struct store *s, const struct ctl_settings *set, struct vic_err *err);
/* The VCH's id, once ctl_configure has run. */
VIC_CHECK bool ctl_vch_id(struct store *s, char out[65], struct vic_err *err);

/* What metrics and tests ask for. */
struct ctl_stats {
    uint64_t steps, failures, queued, running;
    uint64_t late; /* steps that found work though nobody had woken them: should not grow */
    bool vsphere_connected;
};
void ctl_stats(struct ctl *c, struct ctl_stats *out);

#endif
