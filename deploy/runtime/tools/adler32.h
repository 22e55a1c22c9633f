// The checksum of zlib streams (RFC 1950).
#ifndef UNETQ_TOOLS_ADLER32_H
#define UNETQ_TOOLS_ADLER32_H

#include <stddef.h>
#include <stdint.h>

namespace tool {

// Continued from seed; 1 starts a new one. 5552 is the most bytes after which no sum exceeds 32 bits.
inline uint32_t adler32(uint32_t seed, const uint8_t* data, size_t bytes) {
    uint32_t low = seed & 0xFFFF, high = seed >> 16;
    while (bytes) {
        const size_t run = bytes < 5552 ? bytes : 5552;
        for (size_t i = 0; i < run; ++i) {
            low += data[i];
            high += low;
        }
        low %= 65521;
        high %= 65521;
        data += run;
        bytes -= run;
    }
    return high << 16 | low;
}

}  // namespace tool

#endif
