/* Virtual disks: what is known of each beside its bytes, and who holds it.
 *
 * A disk's record (uuid, parent) is keyed by its path.  A disk that was uploaded has no record
 * until it is asked for its uuid or attached.
 *
 * Holds.  A running VM holds each of its disks, alone, and each parent of them, shared with others.
 * What is held is locked: it is not attached elsewhere, written, moved or deleted.  Holds live in
 * memory only; at start they are taken again for the VMs that run. */
#ifndef VIC_HOST_DISKS_H
#define VIC_HOST_DISKS_H

#include "datastore.h"
#include "host.h"
#include "tasks.h"

struct vh_vm;

struct vh_disk {
    char *key; /* "<datastore uuid>/<path>" */
    char uuid[37];
    char *parent; /* key, or NULL */
    UT_hash_handle hh;
};
struct vh_hold {
    LIST_ENTRY(vh_hold) link;
    char *key;
    struct vh_vm *vm;
    bool shared;
};

VIC_CHECK bool vh_disks_load(struct vh *h, struct vic_err *err);
void vh_disks_free(struct vh *h);

/* Under vh.lock, as all down to the task methods. */
struct vh_disk *vh_disk_find(struct vh *h, const struct vh_path *p); /* NULL: no record */
/* Adds or replaces the record in memory; 'parent' may be NULL. */
void vh_disk_note(struct vh *h, const struct vh_path *p, const char *uuid,
                  const struct vh_path *parent);
void vh_disk_forget(struct vh *h, const struct vh_path *p); /* and all below a folder */
/* The same for the state file. */
void vh_disk_put(struct state_batch *b, const struct vh_path *p, const char *uuid,
                 const struct vh_path *parent);
void vh_disk_del(struct vh *h, struct state_batch *b, const struct vh_path *p);
/* The parent of a disk; false: it has none. */
bool vh_disk_parent(struct vh *h, const struct vh_path *p, struct vh_path *parent);
unsigned vh_disk_depth(struct vh *h, const struct vh_path *p); /* 1 = no parent */
bool vh_disk_is_parent(struct vh *h, const struct vh_path *p);
/* "6000c29..." as vSphere's disks have. */
void vh_disk_new_uuid(char out[37]);

/* Takes the disk for 'vm': alone, and its parents shared.  Fault: FileLocked. */
VIC_CHECK bool vh_hold(struct vh *h, struct vh_vm *vm, const struct vh_path *p, struct vh_fault *f);
void vh_release(struct vh *h, struct vh_vm *vm, const struct vh_path *p);
void vh_release_all(struct vh *h, struct vh_vm *vm);
/* Is the file, or anything in the folder, held? */
bool vh_held_below(struct vh *h, const struct vh_path *p);

#endif
