/* A vmm with its loop, for tests with real VMs; a guest that runs what it is told (guest-init). */
#ifndef VMM_FIXTURE_H
#define VMM_FIXTURE_H

#include "base/buf.h"
#include "base/sync.h"

#include "vmm.h"

enum { BOOT_MS = 120000, GUEST_MS = 60000 };

struct fixture {
    char dir[64];      /* run/ and disks/ below it */
    const char *netns; /* or NULL */
    struct loop *loop;
    struct vmm *m;
    struct vic_mutex lock;
    struct vic_cond changed;
    char command[512]; /* for the guest; "" = none waits */
    unsigned exits;
    bool exit_by_guest; /* of the last exit */
};

/* 'dir' must exist. */
void fixture_open(struct fixture *f, const char *dir, const char *netns);
void fixture_close(struct fixture *f);                         /* VMs go on */
char *fixture_path(const struct fixture *f, const char *name); /* caller frees */

void fixture_start(struct fixture *f, const struct vmm_spec *s);
/* The spec of the test guest, direct boot, with a console file; strings live as long as f. */
struct vmm_spec fixture_spec(struct fixture *f, const char *id);

/* Waits until the console of VM 'id' holds 'text'. */
void console_wait(struct fixture *f, const char *id, const char *text, int64_t timeout_ms);
/* Runs a shell command in the guest, which asks for it by guestinfo; returns what it printed
 * (caller frees). */
char *guest_run(struct fixture *f, const char *id, const char *command);
/* Waits for the n-th exit. */
void exit_wait(struct fixture *f, unsigned n);

/* How many QEMU processes run with this id. */
unsigned qemu_count(const char *id);
/* How many descriptors of the process lead to a path that holds 'part'. */
unsigned fd_count(pid_t pid, const char *part);
/* A field of /proc/PID/status. */
void proc_status(pid_t pid, const char *field, char *out, size_t size);

#endif
