#ifndef UNETQ_CRC32_H
#define UNETQ_CRC32_H

#include <stddef.h>
#include <stdint.h>

namespace uq {

// CRC-32 of zip and PNG (reflected polynomial 0xEDB88320), continued from seed; 0 starts a new one.
uint32_t crc32(uint32_t seed, const uint8_t* data, size_t bytes);

}  // namespace uq

#endif
