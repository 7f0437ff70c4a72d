/* Everything derived from the VCH secret: the key that seals fields, the key that signs specs, the
 * channel keys of guests.  Each use has its own key, HKDF-SHA256(secret, name of the use), so that
 * knowing one tells nothing of another; the secret itself is never used as a key. */
#include <stdio.h>

#include "base/tls.h"

#include "store_priv.h"

void secret_init(struct store *s, const unsigned char *secret)
{
    if (!secret)
        return;
    s->sealed = true;
    memcpy(s->secret, secret, sizeof s->secret);
    hkdf_sha256(secret, sizeof s->secret, "vic store seal", s->seal_key, sizeof s->seal_key);
    hkdf_sha256(secret, sizeof s->secret, "vic spec sign", s->sign_key, sizeof s->sign_key);
}

bool secret_make_check(const struct store *s, unsigned char out[SECRET_CHECK_SIZE])
{
    static const char zeros[32];
    return aead_seal(s->seal_key, sv_of(s->id), sv_make(zeros, sizeof zeros), out);
}

bool secret_fits(const struct store *s, MDB_val check)
{
    unsigned char plain[32];
    return check.mv_size == SECRET_CHECK_SIZE &&
           aead_open(s->seal_key, sv_of(s->id), sv_make(check.mv_data, check.mv_size), plain);
}

void store_channel_key(const struct store *s, const char *vm, unsigned n, unsigned char out[32])
{
    char info[256];
    snprintf(info, sizeof info, "vic channel %s %u", vm, n);
    hkdf_sha256(s->secret, sizeof s->secret, info, out, 32);
}

void store_sign(const struct store *s, struct sv bytes, char out[65])
{
    unsigned char sum[32];
    hmac_sha256(s->sign_key, sizeof s->sign_key, bytes.p, bytes.len, sum);
    hex_encode(sum, sizeof sum, out);
}
