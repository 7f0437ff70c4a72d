/* Signal names: see sig.h. */
#include "sig.h"

#include <stdio.h>

enum { RTMIN = 34 };

static const char *const names[] = {
    [1] = "HUP",   [2] = "INT",     [3] = "QUIT",  [4] = "ILL",     [5] = "TRAP",  [6] = "ABRT",
    [7] = "BUS",   [8] = "FPE",     [9] = "KILL",  [10] = "USR1",   [11] = "SEGV", [12] = "USR2",
    [13] = "PIPE", [14] = "ALRM",   [15] = "TERM", [16] = "STKFLT", [17] = "CHLD", [18] = "CONT",
    [19] = "STOP", [20] = "TSTP",   [21] = "TTIN", [22] = "TTOU",   [23] = "URG",  [24] = "XCPU",
    [25] = "XFSZ", [26] = "VTALRM", [27] = "PROF", [28] = "WINCH",  [29] = "IO",   [30] = "PWR",
    [31] = "SYS",
};
enum { NAMED = sizeof names / sizeof *names };

int sig_parse(struct sv text)
{
    uint64_t n;
    if (sv_to_u64(text, &n))
        return n >= 1 && n <= SIG_MAX ? (int)n : 0;
    if (text.len > 3 && sv_eq_nocase(sv_sub(text, 0, 3), SV("SIG")))
        text = sv_sub(text, 3, text.len);
    for (int i = 1; i < NAMED; i++)
        if (sv_eq_nocase(text, sv_of(names[i])))
            return i;
    if (sv_eq_nocase(text, SV("POLL")))
        return 29;
    if (sv_eq_nocase(text, SV("RTMIN")))
        return RTMIN;
    if (sv_eq_nocase(text, SV("RTMAX")))
        return SIG_MAX;
    if (text.len > 6 && sv_to_u64(sv_sub(text, 6, text.len), &n) && n <= SIG_MAX - RTMIN) {
        if (sv_eq_nocase(sv_sub(text, 0, 6), SV("RTMIN+")))
            return RTMIN + (int)n;
        if (sv_eq_nocase(sv_sub(text, 0, 6), SV("RTMAX-")))
            return SIG_MAX - (int)n;
    }
    return 0;
}

bool sig_name(int signum, char out[16])
{
    if (signum >= 1 && signum < NAMED)
        return snprintf(out, 16, "SIG%s", names[signum]) > 0;
    if (signum >= RTMIN && signum <= SIG_MAX)
        return snprintf(out, 16, "SIGRTMIN+%d", signum - RTMIN) > 0;
    return false;
}
