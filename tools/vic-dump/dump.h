/* vic-dump: reads a store - the live one of a running engine, or a backup - without the engine.
 *
 * A store is opened for reading only: LMDB's lock file registers the reader, so a running engine
 * goes on writing beside it, and each command reads one snapshot.  Only 'verify --repair' writes;
 * it wants the store for itself and the VCH's secret.  Secret fields are never shown. */
#ifndef VIC_DUMP_H
#define VIC_DUMP_H

#include "base/opt.h"
#include "store/store.h"

struct dump_opts {
    const char *store, *key_file;
    bool repair, all, compact;
    int64_t since, run;
};

/* One function a command: see main.c's table.  Returns the exit status. */
int dump_dump(void *ctx, void *opts, struct opt_strs args);
int dump_diff(void *ctx, void *opts, struct opt_strs args);
int dump_history(void *ctx, void *opts, struct opt_strs args);
int dump_trace(void *ctx, void *opts, struct opt_strs args);
int dump_verify(void *ctx, void *opts, struct opt_strs args);
int dump_docs(void *ctx, void *opts, struct opt_strs args);

/* Prints "vic-dump: message" and returns the code's exit status. */
int dump_fail(const struct vic_err *err);

/* Opens the store that the options name; 'write' is for repair. */
struct store *dump_open(const struct dump_opts *o, bool write, struct vic_err *err);
VIC_CHECK bool dump_kind(const char *name, enum store_kind *out, struct vic_err *err);
/* The id that 'text' means: an id, a name, or what one id begins with. */
VIC_CHECK bool dump_resolve(struct store_txn *t, enum store_kind kind, const char *text,
                            struct arena *a, const char **id, struct vic_err *err);

/* The entries of the change log, copied, oldest first. */
struct dump_log {
    struct store_entry *v;
    size_t n, cap;
};
VIC_CHECK bool dump_read_log(struct store_txn *t, uint64_t since, struct arena *a,
                             struct dump_log *out, struct vic_err *err);
/* "Status.Phase=running Status.Pid=7", or the event and its attributes; one line. */
void dump_entry_text(const struct store_entry *e, struct buf *out);

/* Ids are shown by their first 12 digits. */
struct sv dump_short(const char *id);

#endif
