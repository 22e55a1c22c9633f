// The input transform, 32 channels at a time, and the output transform, 8.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

constexpr uint32_t kWidest = 32;

#include "../winograd_lanes.inc"

inline __m256i load(const int32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline __m256i twice(__m256i value) {
    return _mm256_add_epi32(value, value);
}
inline void store_quarter(int32_t* at, __m256i value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), _mm256_srai_epi32(value, 2));
}

// One row of A^T (...) A / 4: two pixels, or the first alone.
inline void along(const __m256i h[4], bool both, int32_t* row) {
    store_quarter(row, _mm256_add_epi32(twice(h[0]), _mm256_add_epi32(h[1], h[2])));
    if (both) store_quarter(row + kBlock, _mm256_sub_epi32(_mm256_sub_epi32(h[1], h[2]), twice(h[3])));
}

}  // namespace

void uq_winograd_input__avx2(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels, const uint8_t* offset,
                             uint8_t* dst, size_t position_stride) {
    transform_input(rows, tiles, channels, offset, dst, position_stride);
}

// Half a block stays in registers (winograd.inc has the matrices).
void uq_winograd_output__avx2(const int32_t* sums, size_t position_stride, uint32_t columns, int32_t* row0,
                              int32_t* row1) {
    for (uint32_t x = 0; x < columns; x += 2, sums += kBlock) {
        const bool both = x + 1 < columns;
        for (uint32_t half = 0; half < kBlock; half += 8) {
            __m256i top[4], low[4];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; ++i) {
                const int32_t* m = sums + i * position_stride + half;
                const __m256i m1 = load(m + 4 * position_stride), m2 = load(m + 8 * position_stride);
                top[i] = _mm256_add_epi32(twice(load(m)), _mm256_add_epi32(m1, m2));
                low[i] = _mm256_sub_epi32(_mm256_sub_epi32(m1, m2), twice(load(m + 12 * position_stride)));
            }
            const size_t at = static_cast<size_t>(x) * kBlock + half;
            along(top, both, row0 + at);
            if (row1) along(low, both, row1 + at);
        }
    }
}

}  // namespace uq
