/* Between tls.c and cert.c. */
#ifndef VIC_BASE_TLS_PRIV_H
#define VIC_BASE_TLS_PRIV_H

#include <stdbool.h>

/* Is the key in 'key_path' that of the certificate in 'cert_path'?  Answers for elliptic curve keys
 * (true for others). */
bool cert_has_key(const char *cert_path, const char *key_path);

#endif
