/* The spool: archive bytes on their way from a client to the datastore, as files by digest.
 *
 * A writer fills a temporary file, hashing as it goes; spool_keep renames it to its digest, so a
 * name is there only when its bytes are whole and right.  Temporary files of a process that died
 * are removed at open.  Beside the store, outside of it; bounded by a quota.
 *
 * Who needs a file: whoever kept it, until spool_release; and whoever wrote its digest into the
 * store before that.  spool_remove leaves a held file alone, and spool_sweep removes what nobody
 * holds and the store does not need: so a file that two loads share is not taken from under one
 * by the other's end, and what a crash left between file and record goes at the next start.
 *
 * Threads: any; a writer has one user at a time. */
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
 * different digest fails with VIC_INVALID and nothing stays.  The file is held for the caller: one
 * spool_release for each success. */
VIC_CHECK bool spool_keep(struct spool_file *f, const char *expected,
                          char digest[SPOOL_DIGEST_SIZE], uint64_t *size, struct vic_err *err);
void spool_drop(struct spool_file *f); /* NULL is fine */

/* Opens a kept file for reading; VIC_NOT_FOUND.  The caller closes the descriptor. */
VIC_CHECK bool spool_read(struct spool *s, const char *digest, int *fd, uint64_t *size,
                          struct vic_err *err);
/* Removes a kept file that nobody holds. */
void spool_remove(struct spool *s, const char *digest);

/* Ends a hold; the file stays. */
void spool_release(struct spool *s, const char *digest);
/* Removes kept files that nobody holds and that 'needed' does not want.  What 'needed' answers
 * from must have been read after spool_moment: a file that was held since then is left to the
 * sweep of its holder.  'needed' is called with the spool's lock held: a look into memory. */
uint64_t spool_moment(struct spool *s);
void spool_sweep(struct spool *s, uint64_t moment, bool (*needed)(void *arg, const char *digest),
                 void *arg);

#endif
