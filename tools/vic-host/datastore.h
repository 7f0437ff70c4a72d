/* Datastores: folders of the host, and paths in them that cannot leave.
 *
 * A datastore path is "[name] a/b.vmdk".  It is parsed (vh_path_parse), which refuses what vSphere
 * refuses (no brackets, "..", NUL, components over 255 bytes), and every file behind it is reached
 * by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS from the datastore's own descriptor,
 * so that neither a name nor a link put into the folder leads out of it.
 *
 * Threads: any; file functions block and need no lock. */
#ifndef VIC_HOST_DATASTORE_H
#define VIC_HOST_DATASTORE_H

#include <sys/stat.h>

#include "host.h"

enum { VH_MAX_PATH = 1024, VH_MAX_NAME = 255 };

struct vh_ds {
    struct vh_obj obj;
    char *dir; /* absolute */
    int fd;
    char uuid[37];
};

struct vh_path {
    struct vh_ds *ds;
    char rel[VH_MAX_PATH]; /* "" = the datastore itself; no slash at either end */
};

/* Adds the datastore; makes its folder. */
VIC_CHECK bool vh_ds_add(struct vh *h, const char *name, const char *dir, struct vic_err *err);
struct vh_ds *vh_ds_by_name(struct vh *h, struct sv name);
/* The n-th one; NULL behind the last. */
struct vh_ds *vh_ds_at(struct vh *h, size_t n);

/* Faults: InvalidDatastorePath, InvalidDatastore.  Datastores never go, so no lock is needed. */
VIC_CHECK bool vh_path_parse(struct vh *h, const char *text, struct vh_path *out,
                             struct vh_fault *f);
/* The part behind "[ds] " in its clean form: single slashes, no "." components; false when it is no
 * legal path. */
bool vh_path_clean(struct sv text, char out[VH_MAX_PATH]);
char *vh_path_text(struct arena *a, const struct vh_path *p); /* "[ds] a/b" */
char *vh_path_host(struct arena *a, const struct vh_path *p); /* "/dir/a/b" */
void vh_path_parent(const struct vh_path *p, struct vh_path *out);
const char *vh_path_leaf(const struct vh_path *p);
/* 'dir' + "/" + 'leaf'; false when too long. */
bool vh_path_join(const struct vh_path *dir, const char *leaf, struct vh_path *out);
bool vh_path_eq(const struct vh_path *a, const struct vh_path *b);

/* Files.  Errors: NOT_FOUND, CONFLICT (exists, not empty), the errno's code. */
VIC_CHECK bool vh_file_open(const struct vh_path *p, int flags, int *fd, struct vic_err *err);
bool vh_file_stat(const struct vh_path *p, struct stat *st); /* false: not there */
bool vh_file_exists(const struct vh_path *p);
bool vh_dir_exists(const struct vh_path *p);
VIC_CHECK bool vh_dir_make(const struct vh_path *p, bool parents, struct vic_err *err);
void vh_dir_remove_empty(const struct vh_path *p); /* stays when something is in it */
/* Files and folders, with all that is in them; NOT_FOUND. */
VIC_CHECK bool vh_file_remove(const struct vh_path *p, struct vic_err *err);
/* Replaces a file when 'replace'; else CONFLICT when the target exists. */
VIC_CHECK bool vh_file_rename(const struct vh_path *from, const struct vh_path *to, bool replace,
                              struct vic_err *err);
VIC_CHECK bool vh_file_copy(const struct vh_path *from, const struct vh_path *to, bool replace,
                            struct vic_err *err);
/* Writes a whole file by a temporary name. */
VIC_CHECK bool vh_file_write(const struct vh_path *p, struct sv content, struct vic_err *err);

/* A name for an upload's bytes beside the target; removed at start-up when left over. */
bool vh_path_temp(const struct vh_path *p, struct vh_path *out);
/* Removes the temporary files that a crash left. */
void vh_ds_sweep(struct vh_ds *ds);

/* GET, HEAD, PUT, DELETE /folder/... : folder_http.c */
void vh_folder(struct vh *h, struct http_req *http);

#endif
