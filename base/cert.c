/* Certificates for development set-ups, vic-host and tests: see tls.h.
 *
 * wolfCrypt's Cert is a 20 KB struct of settings from which wc_MakeCert writes the DER body and
 * wc_SignCert signs it (ECDSA P-256 with SHA-256).  The subject alternative names have no setter:
 * they are the DER GeneralNames of RFC 5280 section 4.2.1.6, encoded here.  wc_MakeSelfCert works
 * for RSA keys only, so that a CA is made by the same two calls with itself as issuer. */
#include <wolfssl/options.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/sha.h>

#include "clock.h"
#include "mem.h"
#include "tls.h"
#include "tls_priv.h"

enum { MAX_DER = 24 * 1024, MAX_PEM = 64 * 1024, KEY_SIZE = 32, CA_DAYS = 3650, LEAF_DAYS = 825 };

struct maker {
    WC_RNG rng;
    ecc_key key, signer;
    Cert cert;
    byte der[MAX_DER];
    int der_len;
    byte ca_der[MAX_DER];
    int ca_len;
};

static bool crypt_fail(struct vic_err *err, int code, const char *what)
{
    return vic_fail(err, VIC_INTERNAL, 0, "%s: %s", what, wc_GetErrorString(code));
}

static bool read_file(const char *path, struct buf *out, struct vic_err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vic_fail_errno(err, "open %s", path);
    out->limit = MAX_PEM;
    for (;;) {
        if (!buf_reserve(out, 4096))
            return vic_fail(err, VIC_TOO_LARGE, 0, "%s is larger than %d bytes", path, MAX_PEM);
        ssize_t n = read(fd, out->data + out->len, 4096);
        if (n < 0 && errno != EINTR)
            return vic_fail_errno(err, "read %s", path);
        if (n == 0)
            return true;
        if (n > 0)
            out->len += (size_t)n;
    }
}

/* Written beside its place and renamed, so that nobody ever reads half a key. */
static bool write_file(const char *path, const byte *p, int len, mode_t mode, struct vic_err *err)
{
    AUTO_FREE char *tmp = xasprintf("%s.new", path);
    if (unlink(tmp) != 0 && errno != ENOENT)
        return vic_fail_errno(err, "remove %s", tmp);
    AUTO_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return vic_fail_errno(err, "create %s", tmp);
    for (int at = 0; at < len;) {
        ssize_t n = write(fd, p + at, (size_t)(len - at));
        if (n < 0 && errno != EINTR)
            return vic_fail_errno(err, "write %s", tmp);
        at += n > 0 ? (int)n : 0;
    }
    if (fchmod(fd, mode) != 0 || fsync(fd) != 0 || rename(tmp, path) != 0)
        return vic_fail_errno(err, "write %s", path);
    return true;
}

static bool write_pem(const char *path, const byte *der, int len, int type, mode_t mode,
                      struct vic_err *err)
{
    AUTO_FREE byte *pem = xmalloc(MAX_PEM);
    int n = wc_DerToPem(der, (word32)len, pem, MAX_PEM, type);
    return n > 0 ? write_file(path, pem, n, mode, err) : crypt_fail(err, n, "encode PEM");
}

/* SEC1 ("EC PRIVATE KEY"): what every TLS stack reads. */
static bool write_key(const char *path, ecc_key *key, struct vic_err *err)
{
    byte der[256];
    int n = wc_EccKeyToDer(key, der, sizeof der);
    bool ok = n > 0 ? write_pem(path, der, n, ECC_PRIVATEKEY_TYPE, 0600, err)
                    : crypt_fail(err, n, "encode key");
    explicit_bzero(der, sizeof der);
    return ok;
}

static struct maker *maker_new(struct vic_err *err)
{
    struct maker *m = xcalloc(1, sizeof *m);
    wc_ecc_init(&m->key);
    wc_ecc_init(&m->signer);
    int r = wc_InitRng(&m->rng);
    if (r == 0)
        r = wc_ecc_make_key(&m->rng, KEY_SIZE, &m->key);
    if (r == 0)
        r = wc_InitCert(&m->cert);
    if (r != 0)
        crypt_fail(err, r, "make a key");
    else
        return m;
    wc_FreeRng(&m->rng);
    free(m);
    return NULL;
}

static void maker_free(struct maker **mp)
{
    struct maker *m = *mp;
    if (!m)
        return;
    wc_ecc_free(&m->key);
    wc_ecc_free(&m->signer);
    wc_FreeRng(&m->rng);
    explicit_bzero(m, sizeof *m);
    free(m);
}
#define AUTO_MAKER __attribute__((cleanup(maker_free)))

static bool set_subject(struct maker *m, const char *common_name, struct vic_err *err)
{
    size_t len = strlen(common_name);
    if (len == 0 || len > 63) /* RFC 5280: ub-common-name is 64 */
        return vic_fail(err, VIC_INVALID, 0, "certificate name \"%s\" must have 1 to 63 characters",
                        common_name);
    memcpy(m->cert.subject.commonName, common_name, len + 1);
    m->cert.sigType = CTC_SHA256wECDSA;
    random_bytes(m->cert.serial, 16);
    m->cert.serial[0] = (m->cert.serial[0] & 0x3f) | 0x40; /* positive, no leading zero */
    m->cert.serialSz = 16;
    return true;
}

static bool sign(struct maker *m, ecc_key *with, struct vic_err *err)
{
    int r = wc_SetSubjectKeyIdFromPublicKey_ex(&m->cert, ECC_TYPE, &m->key);
    if (r == 0)
        r = wc_MakeCert(&m->cert, m->der, MAX_DER, NULL, &m->key, &m->rng);
    if (r >= 0)
        r = wc_SignCert(m->cert.bodySz, CTC_SHA256wECDSA, m->der, MAX_DER, NULL, with, &m->rng);
    m->der_len = r;
    return r > 0 ? true : crypt_fail(err, r, "sign certificate");
}

/* One GeneralName: tag, length (all are shorter than 128), bytes. */
static bool add_name(struct buf *b, const char *name)
{
    unsigned char ip[16];
    size_t len = strlen(name);
    int family = strchr(name, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(family, name, ip) == 1) {
        len = family == AF_INET ? 4 : 16;
        buf_add_c(b, (char)0x87); /* [7] iPAddress */
        buf_add_c(b, (char)len);
        buf_add(b, ip, len);
        return true;
    }
    if (len == 0 || len > 127)
        return false;
    buf_add_c(b, (char)0x82); /* [2] dNSName */
    buf_add_c(b, (char)len);
    buf_add(b, name, len);
    return true;
}

static bool set_names(Cert *cert, const char *const *names, struct vic_err *err)
{
    AUTO_BUF struct buf all = {0};
    for (; names && *names; names++)
        if (!add_name(&all, *names))
            return vic_fail(err, VIC_INVALID, 0, "bad name in certificate: \"%s\"", *names);
    if (!all.len)
        return true;
    if (all.len > CTC_MAX_ALT_SIZE - 4)
        return vic_fail(err, VIC_TOO_LARGE, 0, "too many names for one certificate");
    const byte head[4] = {0x30, 0x82, (byte)(all.len >> 8), (byte)all.len};
    /* The length must be in its shortest form (DER). */
    size_t head_len = all.len < 128 ? 2 : all.len < 256 ? 3 : 4;
    memcpy(cert->altNames, head, sizeof head);
    if (head_len < 4)
        cert->altNames[1] = head_len == 2 ? (byte)all.len : 0x81;
    if (head_len == 3)
        cert->altNames[2] = (byte)all.len;
    memcpy(cert->altNames + head_len, all.data, all.len);
    cert->altNamesSz = (int)(head_len + all.len);
    return true;
}

bool cert_make_ca(const char *common_name, const char *cert_path, const char *key_path,
                  struct vic_err *err)
{
    AUTO_MAKER struct maker *m = maker_new(err);
    if (!m || !set_subject(m, common_name, err))
        return false;
    m->cert.isCA = 1;
    m->cert.selfSigned = 1;
    m->cert.daysValid = CA_DAYS;
    int r = wc_SetKeyUsage(&m->cert, "keyCertSign,cRLSign");
    if (r != 0)
        return crypt_fail(err, r, "set key usage");
    return sign(m, &m->key, err) && write_key(key_path, &m->key, err) &&
           write_pem(cert_path, m->der, m->der_len, CERT_TYPE, 0644, err);
}

/* The issuer: its certificate into ca_der and the new certificate's fields, its key into signer. */
static bool load_ca(struct maker *m, const char *ca_cert, const char *ca_key, struct vic_err *err)
{
    AUTO_BUF struct buf pem = {0};
    AUTO_BUF struct buf key_pem = {0};
    byte key[256];
    word32 at = 0;
    if (!read_file(ca_cert, &pem, err) || !read_file(ca_key, &key_pem, err))
        return false;
    m->ca_len =
        wc_CertPemToDer((const byte *)buf_str(&pem), (int)pem.len, m->ca_der, MAX_DER, CERT_TYPE);
    if (m->ca_len <= 0)
        return vic_fail(err, VIC_INVALID, 0, "%s holds no PEM certificate", ca_cert);
    int n =
        wc_KeyPemToDer((const byte *)buf_str(&key_pem), (int)key_pem.len, key, sizeof key, NULL);
    explicit_bzero(key_pem.data, key_pem.len);
    int r = n > 0 ? wc_EccPrivateKeyDecode(key, &at, &m->signer, (word32)n) : n;
    explicit_bzero(key, sizeof key);
    if (r != 0)
        return vic_fail(err, VIC_INVALID, 0, "%s holds no ECDSA key", ca_key);
    r = wc_SetIssuerBuffer(&m->cert, m->ca_der, m->ca_len);
    if (r == 0)
        r = wc_SetAuthKeyIdFromCert(&m->cert, m->ca_der, m->ca_len);
    return r == 0 ? true : crypt_fail(err, r, "take the issuer from the CA");
}

bool cert_make(const char *common_name, const char *const *names, bool client, const char *ca_cert,
               const char *ca_key, const char *cert_path, const char *key_path, struct vic_err *err)
{
    AUTO_MAKER struct maker *m = maker_new(err);
    if (!m || !set_subject(m, common_name, err) || !set_names(&m->cert, names, err) ||
        !load_ca(m, ca_cert, ca_key, err))
        return false;
    m->cert.daysValid = LEAF_DAYS;
    int r = wc_SetKeyUsage(&m->cert, "digitalSignature");
    if (r == 0)
        r = wc_SetExtKeyUsage(&m->cert, client ? "clientAuth" : "serverAuth");
    if (r != 0)
        return crypt_fail(err, r, "set key usage");
    return sign(m, &m->signer, err) && write_key(key_path, &m->key, err) &&
           write_pem(cert_path, m->der, m->der_len, CERT_TYPE, 0644, err);
}

/* The key's public point, uncompressed, stands as it is in its certificate.  (wolfSSL 5.5.4's own
 * check compares RSA keys only.) */
bool cert_has_key(const char *cert_path, const char *key_path)
{
    AUTO_BUF struct buf pem = {0};
    AUTO_BUF struct buf key_pem = {0};
    AUTO_FREE byte *der = xmalloc(MAX_DER);
    byte key_der[512], point[2 * 66 + 1];
    word32 at = 0, point_len = sizeof point;
    ecc_key key;
    if (!read_file(cert_path, &pem, NULL) || !read_file(key_path, &key_pem, NULL))
        return false;
    int n = wc_CertPemToDer((const byte *)buf_str(&pem), (int)pem.len, der, MAX_DER, CERT_TYPE);
    int k = wc_KeyPemToDer((const byte *)buf_str(&key_pem), (int)key_pem.len, key_der,
                           sizeof key_der, NULL);
    wc_ecc_init(&key);
    bool ec = n > 0 && k > 0 && wc_EccPrivateKeyDecode(key_der, &at, &key, (word32)k) == 0;
    if (ec && key.type == ECC_PRIVATEKEY_ONLY)
        ec = wc_ecc_make_pub(&key, NULL) == 0;
    ec = ec && wc_ecc_export_x963(&key, point, &point_len) == 0;
    wc_ecc_free(&key);
    explicit_bzero(key_der, sizeof key_der);
    explicit_bzero(key_pem.data, key_pem.len);
    return !ec || memmem(der, (size_t)n, point, point_len) != NULL;
}

bool cert_thumbprint(const char *cert_path, bool sha1, char out[96], struct vic_err *err)
{
    AUTO_BUF struct buf pem = {0};
    AUTO_FREE byte *der = xmalloc(MAX_DER);
    byte digest[32];
    if (!read_file(cert_path, &pem, err))
        return false;
    int n = wc_CertPemToDer((const byte *)buf_str(&pem), (int)pem.len, der, MAX_DER, CERT_TYPE);
    if (n <= 0)
        return vic_fail(err, VIC_INVALID, 0, "%s holds no PEM certificate", cert_path);
    if (sha1)
        wc_ShaHash(der, (word32)n, digest);
    else
        sha256_of(der, (size_t)n, digest);
    size_t len = sha1 ? 20 : 32;
    for (size_t i = 0; i < len; i++) {
        static const char hex[] = "0123456789ABCDEF";
        out[3 * i] = hex[digest[i] >> 4];
        out[3 * i + 1] = hex[digest[i] & 15];
        out[3 * i + 2] = i + 1 < len ? ':' : '\0';
    }
    return true;
}
