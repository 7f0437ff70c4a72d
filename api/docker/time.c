/* Times as Docker's clients give them. */
#include "docker.h"

/* "1700000000" or "1700000000.123456789". */
static bool parse_unix(struct sv text, int64_t *ns)
{
    struct sv frac = text, secs = sv_cut(&frac, '.');
    uint64_t s, f = 0;
    if (!sv_to_u64(secs, &s) || s > INT64_MAX / 1000000000 - 1)
        return false;
    if (frac.p && (frac.len > 9 || !frac.len || !sv_to_u64(frac, &f)))
        return false;
    for (size_t i = frac.len; frac.p && i < 9; i++)
        f *= 10;
    *ns = (int64_t)(s * 1000000000 + f);
    return true;
}

static bool unit_of(struct sv *s, double *ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t len = strlen(units[i].name);
        if (sv_starts(*s, sv_of(units[i].name)) &&
            (s->len == len || (s->p[len] >= '0' && s->p[len] <= '9'))) {
            *ns = units[i].ns;
            *s = sv_sub(*s, len, SIZE_MAX);
            return true;
        }
    }
    return false;
}

/* Go's form: numbers with units, one behind the other. */
bool duration_parse(struct sv text, int64_t *ns)
{
    double sum = 0, unit;
    if (!text.len)
        return false;
    while (text.len) {
        double n = 0, scale = 1;
        size_t digits = 0;
        bool point = false;
        for (; text.len && ((text.p[0] >= '0' && text.p[0] <= '9') || (text.p[0] == '.' && !point));
             text = sv_sub(text, 1, SIZE_MAX)) {
            if (text.p[0] == '.') {
                point = true;
                continue;
            }
            digits++;
            n = n * 10 + (text.p[0] - '0');
            scale *= point ? 10 : 1;
        }
        if (!digits || digits > 18 || !unit_of(&text, &unit))
            return false;
        sum += n / scale * unit;
    }
    if (sum > 9e18)
        return false;
    *ns = (int64_t)sum;
    return true;
}

bool time_parse(const char *text, int64_t now_ns, int64_t *ns)
{
    int64_t ago;
    struct sv s = sv_of(text);
    if (parse_unix(s, ns) || rfc3339_parse(s, ns))
        return true;
    if (!duration_parse(s, &ago))
        return false;
    *ns = now_ns - ago;
    return true;
}
