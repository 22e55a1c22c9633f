// Convolution tiles of 6 pixels x 16 output channels, in 256-bit registers: 12 accumulators, 2 registers of weights, 1
// broadcast.
//
// vpdpbusd: int32 lane += sum of 4 products of an unsigned and a signed byte, added without saturation. The int32 sums
// cannot overflow: prepare.cpp proved their bound from the weights. So nothing has to be widened, and Segment::flush
// means nothing here.
#include <immintrin.h>
#include <string.h>

#include "avxvnni.h"

namespace uq {
namespace {

constexpr uint32_t P = 6;
constexpr size_t kStepBytes = 64;  // 16 output channels x 4 bytes

// 4 codes of input in every lane.
inline __m256i broadcast(const uint8_t* bytes) {
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return _mm256_set1_epi32(value);
}

inline __m256i load(const void* at) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(at));
}
inline void store(void* at, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i*>(at), value);
}

// Where a pixel's codes are. The compiler would compute several addresses in one vector register, where they queue
// behind the products of the tile before; so it is kept from seeing through.
inline const uint8_t* pixel_at(const ConvTile& tile, uint32_t pixel) {
    size_t offset = tile.pixel_offsets[pixel];
    asm("" : "+r"(offset));
    const uint8_t* at = tile.rows + offset;
    asm("" : "+r"(at));
    return at;
}

template <uint32_t N>
inline void tile_of(const ConvTile& tile, uint32_t first_pixel) {
    const uint8_t* pixel[N];
    for (uint32_t p = 0; p < N; ++p) pixel[p] = pixel_at(tile, first_pixel + p);
    auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first_pixel) * kBlock;
    auto* w = static_cast<const uint8_t*>(tile.weights);
    __m256i lanes[N][2];
#pragma GCC unroll 6
    for (uint32_t p = 0; p < N; ++p) {
        const int32_t* begin = tile.start ? tile.start : sums + p * kBlock;
        lanes[p][0] = load(begin);
        lanes[p][1] = load(begin + 8);
    }
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        const ptrdiff_t end = at + static_cast<ptrdiff_t>(segment.step_count) * 4;
        for (; at < end; at += 4, w += kStepBytes) {
            const __m256i w0 = load(w), w1 = load(w + 32);
#pragma GCC unroll 6
            for (uint32_t p = 0; p < N; ++p) {
                const __m256i codes = broadcast(pixel[p] + at);
                lanes[p][0] = _mm256_dpbusd_avx_epi32(lanes[p][0], codes, w0);
                lanes[p][1] = _mm256_dpbusd_avx_epi32(lanes[p][1], codes, w1);
            }
        }
    }
#pragma GCC unroll 6
    for (uint32_t p = 0; p < N; ++p) {
        store(sums + p * kBlock, lanes[p][0]);
        store(sums + p * kBlock + 8, lanes[p][1]);
    }
}

}  // namespace

void uq_conv_w8a8_6x16__avxvnni(const ConvTile& tile) {
    for (uint32_t pixel = 0; pixel < tile.pixel_count;) {
        const uint32_t left = tile.pixel_count - pixel;
        if (left >= P && left != 7 && left != 8) {  // those are two tiles of 4
            tile_of<P>(tile, pixel);
            pixel += P;
        } else if (left > 2) {
            tile_of<4>(tile, pixel);
            pixel += 4;
        } else {
            tile_of<2>(tile, pixel);
            pixel += 2;
        }
    }
}

}  // namespace uq
