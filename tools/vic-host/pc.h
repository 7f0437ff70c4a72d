/* The property collector: selection, reads, filters and updates.
 *
 * Selecting (pc_select.c).  A PropertyFilterSpec names objects and ways on from them; the answer is
 * a list of objects without doubles.  Ways may call each other by name, also in circles: each (way,
 * object) is gone once.
 *
 * Updates (pc_update.c).  A collector has a counter, its clock.  A filter remembers of each object
 * that it selects a hash of every property, and a stamp of the clock for the object's entry and for
 * each property's last change.  A version handed to a client is a value of the clock: what is
 * stamped later is news to who shows that version.  So a reply that was lost is simply asked for
 * again, and a reply that was cut short (truncated) goes on from the last stamp it held.
 *   - An object's stamp is that of its latest change.  When an object changes again before the
 *     client has shown a version past the earlier change, all its unseen changes move to the new
 *     stamp, so that none is skipped.
 *   - An object that left stays as a mark until a version past its leaving has been shown.
 *   - A version before the last one shown, or one of the future, is an InvalidCollectorVersion.
 * A scan compares only objects whose vh_obj.rev moved; membership is computed each time.
 *
 * Waiting.  A wait with no news is parked in the HTTP server, holding no thread; each bundle of
 * changes wakes it to scan again.  A second wait on one collector cancels the first. */
#ifndef VIC_HOST_PC_H
#define VIC_HOST_PC_H

#include "host.h"

/* --- selecting -------------------------------------------------------------------------------- */

struct vh_selected {
    VIM_ARRAY_OF(struct vh_obj *) list;
};
/* Under vh.lock.  Faults: ManagedObjectNotFound, InvalidArgument (a way without a name). */
VIC_CHECK bool vh_select(struct vh_read *r, const struct vim_PropertyFilterSpec *spec,
                         struct vh_selected *out, struct vh_fault *f);
/* The paths that the spec asks of this object, without doubles; false: it asks nothing of this
 * type.
 */
typedef VIM_ARRAY_OF(const char *) vh_paths;
bool vh_paths_of(struct vh_read *r, const struct vim_PropertyFilterSpec *spec,
                 const struct vh_obj *o, vh_paths *out);
/* Reads one object; NULL in '*out' when the spec asks nothing of it. */
VIC_CHECK bool vh_content(struct vh_read *r, const struct vim_PropertyFilterSpec *spec,
                          struct vh_obj *o, struct vim_ObjectContent **out, struct vh_fault *f);

/* --- collectors and filters ------------------------------------------------------------------- */

struct vh_item_prop {
    char *path;
    uint64_t stamp, hash;
    bool set;
    char *text;                 /* the value as XML, of filters with partialUpdates */
    struct vh_sub_change *subs; /* what changed inside it, of the same */
};
struct vh_item { /* an object that a filter selects or selected */
    char *type, *id;
    uint64_t enter, stamp, rev;
    bool seen, gone;
    bool known; /* the client may know an earlier object of this id: a leave is owed */
    struct vh_item_prop *props;
    size_t prop_count;
    UT_hash_handle hh; /* by id */
};
struct vh_filter {
    struct vh_obj obj;
    struct vh_collector *collector;
    LIST_ENTRY(vh_filter) link;
    struct arena a; /* of spec */
    struct vim_PropertyFilterSpec *spec;
    bool partial;
    struct vh_item *items;
};
struct vh_page { /* the rest of a read, by token */
    LIST_ENTRY(vh_page) link;
    char token[37];
    struct arena a;
    VIM_ARRAY_OF(struct vim_PropertyFilterSpec *) specs;
    struct { /* n objects, each with the index of its spec */
        const char **id;
        size_t *spec;
        size_t n, next;
    } left;
    size_t max;
};
struct vh_collector {
    struct vh_obj obj; /* id NULL: a session's share of ha-property-collector */
    struct vh_session *session;
    LIST_HEAD(, vh_filter) filters;
    LIST_HEAD(, vh_page) pages;
    uint64_t clock, shown, scanned_rev;
    struct vh_wait *wait;
};
/* The collector that a call is for. */
struct vh_collector *vh_collector_of(struct vh_call *c);
void vh_collector_free(struct vh *h, struct vh_collector *pc); /* a session's share; NULL is fine */

/* --- updates ---------------------------------------------------------------------------------- */

/* Looks for changes in one filter; stamps them. */
void vh_filter_scan(struct vh *h, struct vh_filter *f);
void vh_filter_forget(struct vh_filter *f); /* all items: the next scan sees everything as new */
/* What is newer than 'version', at most 'max' objects; NULL when nothing is. */
struct vim_UpdateSet *vh_collector_news(struct vh_read *r, struct vh_collector *pc,
                                        uint64_t version, size_t max);
/* Calls 'emit' for what differs between two values of one type below 'path'. */
typedef void (*vh_diff_emit)(void *arg, const char *path, enum vim_PropertyChangeOp op);
void vh_diff(struct arena *a, const char *path, const struct vim_any *old,
             const struct vim_any *now, vh_diff_emit emit, void *arg);

#endif
