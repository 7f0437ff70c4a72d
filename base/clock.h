/* Time and randomness, as parameters.
 *
 * Whoever needs the time is handed a 'struct vic_clock', so tests turn it by hand.  wall is Unix
 * time and may jump; mono only grows and is for deadlines. */
#ifndef VIC_BASE_CLOCK_H
#define VIC_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "sv.h"

struct vic_clock {
    int64_t (*wall_ns)(const struct vic_clock *c);
    int64_t (*mono_ns)(const struct vic_clock *c);
};

extern const struct vic_clock vic_clock_real;

static inline int64_t clock_wall_ns(const struct vic_clock *c)
{
    return c->wall_ns(c);
}

static inline int64_t clock_mono_ms(const struct vic_clock *c)
{
    return c->mono_ns(c) / 1000000;
}

enum { RFC3339_SIZE = 40 };

/* "2026-11-24T13:15:07.123456789Z", UTC; digits 0..9 after the point; 0 is Docker's zero time
 * "0001-01-01T00:00:00Z".  trim drops zeros at the end of the fraction, as Go's RFC3339Nano. */
char *rfc3339(int64_t ns, unsigned digits, bool trim, char out[RFC3339_SIZE]);

/* RFC 3339 with 'Z' or an offset, up to 9 digits. */
bool rfc3339_parse(struct sv text, int64_t *ns);

/* From getrandom(2); never fails (it waits for the pool at boot). */
void random_bytes(void *out, size_t len);
uint64_t random_u64(void);
void random_id(char out[65]);   /* 64 lower hex digits */
void random_uuid(char out[37]); /* version 4 */

#endif
