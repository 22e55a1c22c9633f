// Packed fields of 1 and 2 bits, 32 at a time.
#ifndef UNETQ_FIELDS_H
#define UNETQ_FIELDS_H

#include "common.h"

namespace uq {

// The bits at even places of a word, side by side.
inline uint32_t even_bits(uint64_t x) {
    x &= 0x5555555555555555u;
    x = (x | x >> 1) & 0x3333333333333333u;
    x = (x | x >> 2) & 0x0f0f0f0f0f0f0f0fu;
    x = (x | x >> 4) & 0x00ff00ff00ff00ffu;
    x = (x | x >> 8) & 0x0000ffff0000ffffu;
    return static_cast<uint32_t>(x | x >> 16);
}

// Bits at ... at + count (at most 64) of a row, whose bytes may not be overrun.
inline uint64_t read_bits(const uint8_t* row, uint64_t row_bytes, uint64_t at, uint32_t count) {
    const uint64_t byte = at >> 3, left = row_bytes - byte;
    const uint32_t shift = at & 7;
    uint64_t value = 0;
    if (left >= 8)
        memcpy(&value, row + byte, 8);
    else
        memcpy(&value, row + byte, left);
    value >>= shift;
    if (shift + count > 64) value |= static_cast<uint64_t>(row[byte + 8]) << (64 - shift);
    return count < 64 ? value & ((uint64_t{1} << count) - 1) : value;
}

// Both bits of up to 32 fields; the upper ones are 0 where fields have one bit.
struct Fields {
    uint32_t low;
    uint32_t high;
};

inline Fields read_fields(const uint8_t* row, uint64_t row_bytes, uint64_t first, uint32_t count, uint32_t bits) {
    const uint64_t value = read_bits(row, row_bytes, first * bits, count * bits);
    if (bits == 1) return Fields{static_cast<uint32_t>(value), 0};
    return Fields{even_bits(value), even_bits(value >> 1)};
}

}  // namespace uq

#endif
