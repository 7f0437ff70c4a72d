/* CRC-32C (Castagnoli; RFC 3720, appendix B.4), with the processor's instruction where it has one.
 * crc 0 starts; a result goes on: crc32c(crc32c(0, a), b) is the sum of a and b together. */
#ifndef VIC_STORE_CRC32C_H
#define VIC_STORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *p, size_t len);

#endif
