/* Capabilities, by capset(2) and prctl(2): Docker's default set, what --cap-add and --cap-drop make
 * of it, and a process's exact sets. */
#ifndef VIC_TETHER_AGENT_CAPS_H
#define VIC_TETHER_AGENT_CAPS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

uint64_t caps_all(void);
/* Names as Docker takes them: any case, with or without "CAP_", "ALL". */
VIC_CHECK bool caps_of(const char *const *add, size_t add_count, const char *const *drop,
                       size_t drop_count, uint64_t *out, struct vic_err *err);
/* The bounding set becomes 'caps'; call as root, before the user changes. */
VIC_CHECK bool caps_bound(uint64_t caps, struct vic_err *err);
/* Permitted and effective become 'caps', inheritable and ambient empty (CVE-2022-24769).  For root;
 * another user has lost them with setresuid and gets none, as under Docker. */
VIC_CHECK bool caps_set(uint64_t caps, struct vic_err *err);

#endif
