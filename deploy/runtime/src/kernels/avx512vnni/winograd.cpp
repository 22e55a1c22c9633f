// The input transform, 64 channels at a time, and the output transform, where 16 channels are one register.
#include <immintrin.h>
#include <string.h>

#include "avx512vnni.h"

namespace uq {
namespace {

constexpr uint32_t kWidest = 64;

#include "../winograd_lanes.inc"

inline __m512i load(const int32_t* at) {
    return _mm512_loadu_si512(at);
}
inline __m512i twice(__m512i value) {
    return _mm512_add_epi32(value, value);
}
inline __m512i quarter(__m512i value) {
    return _mm512_maskz_srai_epi32(0xffff, value, 2);  // gcc 12 warns of its own header at the plain form
}

}  // namespace

void uq_winograd_input__avx512vnni(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels,
                                   const uint8_t* offset, uint8_t* dst, size_t position_stride) {
    transform_input(rows, tiles, channels, offset, dst, position_stride);
}

// Y = A^T m A / 4 (winograd.inc). A whole tile stays in registers.
void uq_winograd_output__avx512vnni(const int32_t* sums, size_t position_stride, uint32_t columns, int32_t* row0,
                                    int32_t* row1) {
    for (uint32_t x = 0; x < columns; x += 2, sums += kBlock) {
        __m512i top[4], low[4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) {
            const int32_t* m = sums + i * position_stride;
            const __m512i m1 = load(m + 4 * position_stride), m2 = load(m + 8 * position_stride);
            top[i] = _mm512_add_epi32(twice(load(m)), _mm512_add_epi32(m1, m2));
            low[i] = _mm512_sub_epi32(_mm512_sub_epi32(m1, m2), twice(load(m + 12 * position_stride)));
        }
        const bool both = x + 1 < columns;
        const size_t at = static_cast<size_t>(x) * kBlock;
        auto along = [&](const __m512i h[4], int32_t* row) {
            _mm512_storeu_si512(row + at, quarter(_mm512_add_epi32(twice(h[0]), _mm512_add_epi32(h[1], h[2]))));
            if (!both) return;
            _mm512_storeu_si512(row + at + kBlock,
                                quarter(_mm512_sub_epi32(_mm512_sub_epi32(h[1], h[2]), twice(h[3]))));
        };
        along(top, row0);
        if (row1) along(low, row1);
    }
}

}  // namespace uq
