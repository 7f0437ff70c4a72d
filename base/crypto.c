/* Hashes, key derivation and sealing on wolfCrypt: see tls.h.
 *
 * AES-256-GCM with a random 96-bit nonce: one key seals records and small files, far below the 2^32
 * messages at which random nonces get risky (NIST SP 800-38D section 8.3).  wolfCrypt's Aes carries
 * the expanded key, so it is wiped by wc_AesFree on every way out. */
#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include "clock.h"
#include "tls.h"

_Static_assert(sizeof(wc_Sha256) <= sizeof(struct sha256), "struct sha256 holds a wc_Sha256");
_Static_assert(_Alignof(wc_Sha256) <= _Alignof(struct sha256), "struct sha256 is aligned for it");

enum { NONCE = 12, TAG = 16, MAX_UPDATE = 1 << 30 }; /* word32 lengths: longer input is cut */

static wc_Sha256 *state_of(struct sha256 *s)
{
    return (wc_Sha256 *)(void *)s->state;
}

void sha256_init(struct sha256 *s)
{
    wc_InitSha256(state_of(s));
}

void sha256_update(struct sha256 *s, const void *p, size_t len)
{
    const unsigned char *at = p;
    while (len) {
        size_t n = len < MAX_UPDATE ? len : MAX_UPDATE;
        wc_Sha256Update(state_of(s), at, (word32)n);
        at += n;
        len -= n;
    }
}

void sha256_final(struct sha256 *s, unsigned char out[32])
{
    wc_Sha256Final(state_of(s), out);
    wc_Sha256Free(state_of(s));
}

void sha256_of(const void *p, size_t len, unsigned char out[32])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_update(&s, p, len);
    sha256_final(&s, out);
}

void sha256_hex(const void *p, size_t len, char out[65])
{
    unsigned char raw[32];
    sha256_of(p, len, raw);
    hex_encode(raw, sizeof raw, out);
}

void hmac_sha256(const unsigned char *key, size_t key_len, const void *p, size_t len,
                 unsigned char out[32])
{
    Hmac h;
    const unsigned char *at = p;
    memset(out, 0, 32);
    if (wc_HmacInit(&h, NULL, INVALID_DEVID) != 0)
        return;
    if (wc_HmacSetKey(&h, WC_SHA256, key, (word32)key_len) == 0) {
        for (; len > MAX_UPDATE; at += MAX_UPDATE, len -= MAX_UPDATE)
            wc_HmacUpdate(&h, at, MAX_UPDATE);
        wc_HmacUpdate(&h, at, (word32)len);
        wc_HmacFinal(&h, out);
    }
    wc_HmacFree(&h);
}

bool hkdf_sha256(const unsigned char *secret, size_t secret_len, const char *info,
                 unsigned char *out, size_t out_len)
{
    if (out_len > 255 * 32 || secret_len > MAX_UPDATE)
        return false;
    return wc_HKDF(WC_SHA256, secret, (word32)secret_len, NULL, 0, (const byte *)info,
                   (word32)strlen(info), out, (word32)out_len) == 0;
}

bool aead_seal(const unsigned char key[32], struct sv aad, struct sv plain, unsigned char *out)
{
    Aes aes;
    if (plain.len > MAX_UPDATE || aad.len > MAX_UPDATE ||
        wc_AesInit(&aes, NULL, INVALID_DEVID) != 0)
        return false;
    random_bytes(out, NONCE);
    unsigned char *cipher = out + NONCE;
    bool ok = wc_AesGcmSetKey(&aes, key, 32) == 0 &&
              wc_AesGcmEncrypt(&aes, cipher, (const byte *)plain.p, (word32)plain.len, out, NONCE,
                               cipher + plain.len, TAG, (const byte *)aad.p, (word32)aad.len) == 0;
    wc_AesFree(&aes);
    return ok;
}

bool aead_open(const unsigned char key[32], struct sv aad, struct sv sealed, unsigned char *out)
{
    Aes aes;
    if (sealed.len < SEAL_OVERHEAD || sealed.len > MAX_UPDATE || aad.len > MAX_UPDATE ||
        wc_AesInit(&aes, NULL, INVALID_DEVID) != 0)
        return false;
    const byte *nonce = (const byte *)sealed.p, *cipher = nonce + NONCE;
    size_t len = sealed.len - SEAL_OVERHEAD;
    bool ok = wc_AesGcmSetKey(&aes, key, 32) == 0 &&
              wc_AesGcmDecrypt(&aes, out, cipher, (word32)len, nonce, NONCE, cipher + len, TAG,
                               (const byte *)aad.p, (word32)aad.len) == 0;
    wc_AesFree(&aes);
    return ok;
}

bool equal_const_time(const void *a, const void *b, size_t len)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char diff = 0;
    for (size_t i = 0; i < len; i++)
        diff |= x[i] ^ y[i];
    return diff == 0;
}
