/* The spool: archive bytes on their way from a client to the datastore, as files by digest.
 *
 * A writer fills a temporary file, hashing as it goes; spool_keep renames it to its digest, so a
 * name is there only when its bytes are whole and right.  Temporary files of a process that died
 * are removed at open.  Beside the store, outside of it; bounded by a quota. Threads: any; a writer
 * has one user at a time. */
#ifndef VIC_STORE_SPOOL_H
#define VIC_STORE_SPOOL_H

#include "base/err.h"
#include "base/sv.h"

enum { SPOOL_DIGEST_SIZE = 72 }; /* "sha256:" + 64 hex + NUL */

struct spool;
struct spool_file;

struct spool *spool_open(const char *dir, uint64_t quota_bytes, struct vic_err *err);
void spool_close(struct spool *s);

struct spool_file *spool_new(struct spool *s, struct vic_err *err);
/* Errors: VIC_NO_SPACE (disk or quota), VIC_IO. */
VIC_CHECK bool spool_write(struct spool_file *f, struct sv bytes, struct vic_err *err);
/* Syncs and names it; '*digest' gets "sha256:hex".  Frees 'f' in any case.  'expected' not NULL: a
 * different digest fails with VIC_INVALID and nothing stays. */
VIC_CHECK bool spool_keep(struct spool_file *f, const char *expected,
                          char digest[SPOOL_DIGEST_SIZE], uint64_t *size, struct vic_err *err);
void spool_drop(struct spool_file *f); /* NULL is fine */

/* Opens a kept file for reading; VIC_NOT_FOUND.  The caller closes the descriptor. */
VIC_CHECK bool spool_read(struct spool *s, const char *digest, int *fd, uint64_t *size,
                          struct vic_err *err);
void spool_remove(struct spool *s, const char *digest);

#endif
