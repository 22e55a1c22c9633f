// Stored numbers to float32, rounded once, as the Python side has them.
#ifndef UNETQ_TOOLS_NUMBERS_H
#define UNETQ_TOOLS_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

namespace tool {

struct Numbers {
    char kind;      // 'u', 'i' or 'f'
    uint8_t bytes;  // 1, 2, 4, 8; floating point from 2
    bool big_endian;
    bool scaled;  // value = stored * slope + intercept, in double
    double slope, intercept;
};

// Whether all values that went through are one and the same.
struct Seen {
    bool any, varies;
    double first;

    void add(double value) {
        if (!any) {
            any = true;
            first = value;
        }
        varies = varies || value != first;
    }
};

// Converts count numbers; value i goes to dst[i * step]. Gives count, or the index of the first value that is NaN,
// infinite or beyond float32.
size_t to_floats(const Numbers& numbers, const uint8_t* src, size_t count, float* dst, size_t step, Seen* seen);

inline uint16_t load_16(const uint8_t* p, bool big) {
    return static_cast<uint16_t>(big ? p[0] << 8 | p[1] : p[1] << 8 | p[0]);
}
inline uint32_t load_32(const uint8_t* p, bool big) {
    const uint32_t a = load_16(p, big), b = load_16(p + 2, big);
    return big ? a << 16 | b : b << 16 | a;
}
inline uint64_t load_64(const uint8_t* p, bool big) {
    const uint64_t a = load_32(p, big), b = load_32(p + 4, big);
    return big ? a << 32 | b : b << 32 | a;
}

inline void store_16(uint8_t* p, uint16_t value, bool big) {
    p[big ? 1 : 0] = static_cast<uint8_t>(value);
    p[big ? 0 : 1] = static_cast<uint8_t>(value >> 8);
}
inline void store_32(uint8_t* p, uint32_t value, bool big) {
    store_16(p + (big ? 2 : 0), static_cast<uint16_t>(value), big);
    store_16(p + (big ? 0 : 2), static_cast<uint16_t>(value >> 16), big);
}
inline void store_64(uint8_t* p, uint64_t value, bool big) {
    store_32(p + (big ? 4 : 0), static_cast<uint32_t>(value), big);
    store_32(p + (big ? 0 : 4), static_cast<uint32_t>(value >> 32), big);
}

float float_of(uint32_t bits);
double double_of(uint64_t bits);

}  // namespace tool

#endif
