/* Time and randomness: see clock.h. */
#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t real_wall(const struct vic_clock *c)
{
    (void)c;
    return read_clock(CLOCK_REALTIME);
}

static int64_t real_mono(const struct vic_clock *c)
{
    (void)c;
    return read_clock(CLOCK_MONOTONIC);
}

const struct vic_clock vic_clock_real = {real_wall, real_mono};

char *rfc3339(int64_t ns, unsigned digits, bool trim, char out[RFC3339_SIZE])
{
    if (ns == 0) {
        snprintf(out, RFC3339_SIZE, "0001-01-01T00:00:00Z");
        return out;
    }
    int64_t sec = ns / 1000000000, frac = ns % 1000000000;
    if (frac < 0)
        sec--, frac += 1000000000;
    time_t t = (time_t)sec;
    struct tm tm;
    if (!gmtime_r(&t, &tm))
        memset(&tm, 0, sizeof tm);
    size_t n = strftime(out, RFC3339_SIZE - 12, "%Y-%m-%dT%H:%M:%S", &tm);
    if (digits > 9)
        digits = 9;
    if (digits) {
        char f[24];
        snprintf(f, sizeof f, "%09lld", (long long)frac);
        while (trim && digits && f[digits - 1] == '0')
            digits--;
        if (digits)
            n += (size_t)snprintf(out + n, RFC3339_SIZE - n, ".%.*s", (int)digits, f);
    }
    snprintf(out + n, RFC3339_SIZE - n, "Z");
    return out;
}

/* Reads exactly 'digits' digits at the head of 's'. */
static bool take_digits(struct sv *s, size_t digits, int *out)
{
    uint64_t n;
    if (s->len < digits || !sv_to_u64(sv_sub(*s, 0, digits), &n))
        return false;
    *s = sv_sub(*s, digits, s->len);
    *out = (int)n;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool take_char(struct sv *s, const char *any)
{
    if (!s->len || !s->p[0] || !strchr(any, s->p[0]))
        return false;
    *s = sv_sub(*s, 1, s->len);
    return true;
}

bool rfc3339_parse(struct sv s, int64_t *ns)
{
    struct tm tm = {0};
    int year, month;
    if (!take_digits(&s, 4, &year) || !take_char(&s, "-") || !take_digits(&s, 2, &month) ||
        !take_char(&s, "-") || !take_digits(&s, 2, &tm.tm_mday) || !take_char(&s, "Tt ") ||
        !take_digits(&s, 2, &tm.tm_hour) || !take_char(&s, ":") ||
        !take_digits(&s, 2, &tm.tm_min) || !take_char(&s, ":") || !take_digits(&s, 2, &tm.tm_sec))
        return false;
    if (month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > days_in_month(year, month) ||
        tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    int64_t frac = 0, scale = 100000000;
    if (take_char(&s, ".")) {
        int d;
        if (!s.len || s.p[0] < '0' || s.p[0] > '9')
            return false;
        while (s.len && s.p[0] >= '0' && s.p[0] <= '9' && take_digits(&s, 1, &d)) {
            frac += d * scale;
            scale /= 10;
        }
    }
    int hours = 0, minutes = 0, sign = 1;
    if (!take_char(&s, "Zz")) {
        sign = s.len && s.p[0] == '-' ? -1 : 1;
        if (!take_char(&s, "+-") || !take_digits(&s, 2, &hours) || !take_char(&s, ":") ||
            !take_digits(&s, 2, &minutes) || hours > 23 || minutes > 59)
            return false;
    }
    if (s.len)
        return false;
    int64_t sec = (int64_t)timegm(&tm) - (int64_t)sign * (hours * 3600 + minutes * 60);
    if (sec > INT64_MAX / 1000000000 - 1 || sec < INT64_MIN / 1000000000 + 1) {
        *ns = 0;
        return year == 1; /* Docker's zero time */
    }
    *ns = sec * 1000000000 + frac;
    return true;
}

void random_bytes(void *out, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t got = getrandom((char *)out + n, len - n, 0);
        if (got < 0 && errno != EINTR)
            abort(); /* no kernel that we run on lacks it */
        if (got > 0)
            n += (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t n;
    random_bytes(&n, sizeof n);
    return n;
}

void random_id(char out[65])
{
    unsigned char raw[32];
    random_bytes(raw, sizeof raw);
    hex_encode(raw, sizeof raw, out);
}

void random_uuid(char out[37])
{
    unsigned char r[16];
    random_bytes(r, sizeof r);
    r[6] = (unsigned char)((r[6] & 0x0F) | 0x40);
    r[8] = (unsigned char)((r[8] & 0x3F) | 0x80);
    char hex[33];
    hex_encode(r, sizeof r, hex);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}
