/* What the methods on files and disks share. */
#ifndef VIC_HOST_FILES_H
#define VIC_HOST_FILES_H

#include "tasks.h"

/* The datacenter of a call is absent or ours; else ManagedObjectNotFound. */
bool vh_check_datacenter(struct vh_call *c, struct vim_ref dc);
/* Makes a disk file in a job, named to it first.  Faults: FileNotFound (the folder),
 * FileAlreadyExists, the rest of vh_fault_err. */
VIC_CHECK bool vh_disk_make(struct vh_job *j, const struct vh_path *p, const struct vh_path *parent,
                            int64_t capacity);
/* Any spelling of a uuid to "6000c290-1234-..."; false: it is none. */
bool vh_uuid_normal(const char *text, char out[37]);

#endif
