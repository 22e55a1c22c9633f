// Convolution tiles of 16 output channels: a step's weights, 16 channels x 4 inputs, are one 512-bit register.
#include <immintrin.h>
#include <string.h>

#include "avx512vnni.h"

namespace uq {
namespace {

constexpr size_t kStepBytes = 64;

// 4 codes of input in every lane.
inline __m512i broadcast(const uint8_t* bytes) {
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return _mm512_set1_epi32(value);
}

// vpdpbusd: int32 lane += sum of 4 products of an unsigned and a signed byte, each at most 255 * 128, added without
// saturation. The int32 sums cannot overflow: prepare.cpp proved their bound from the weights. So nothing has to be
// widened, and Segment::flush means nothing here.
//
// G groups of 3 pixels that lie `stride` bytes apart: one pointer a group, so that all stay in registers.
template <uint32_t G>
inline void regular_tile(const ConvTile& tile, uint32_t first, ptrdiff_t stride) {
    __m512i lanes[3 * G];
    auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first) * kBlock;
    auto* w = static_cast<const uint8_t*>(tile.weights);
    const uint8_t* origin = tile.rows + tile.pixel_offsets[first];
    for (uint32_t p = 0; p < 3 * G; ++p) lanes[p] = _mm512_loadu_si512(tile.start ? tile.start : sums + p * kBlock);
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        const uint8_t* at[G];
        at[0] = origin + tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        for (uint32_t g = 1; g < G; ++g) at[g] = at[g - 1] + 3 * stride;
        for (uint32_t step = segment.step_count; step > 0; --step, w += kStepBytes) {
            const __m512i weights = _mm512_loadu_si512(w);
            for (uint32_t g = 0; g < G; ++g) {
                lanes[3 * g] = _mm512_dpbusd_epi32(lanes[3 * g], broadcast(at[g]), weights);
                lanes[3 * g + 1] = _mm512_dpbusd_epi32(lanes[3 * g + 1], broadcast(at[g] + stride), weights);
                lanes[3 * g + 2] = _mm512_dpbusd_epi32(lanes[3 * g + 2], broadcast(at[g] + 2 * stride), weights);
                at[g] += 4;
            }
        }
    }
    for (uint32_t p = 0; p < 3 * G; ++p) _mm512_storeu_si512(sums + p * kBlock, lanes[p]);
}

// Pixels anywhere: the end of a row and the beginning of the next, or the surplus of the last tile.
void any_tile(const ConvTile& tile, uint32_t first) {
    constexpr uint32_t P = 6;
    const uint8_t* pixel[P];
    __m512i lanes[P];
    auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first) * kBlock;
    auto* w = static_cast<const uint8_t*>(tile.weights);
    for (uint32_t p = 0; p < P; ++p) {
        pixel[p] = tile.rows + tile.pixel_offsets[first + p];
        lanes[p] = _mm512_loadu_si512(tile.start ? tile.start : sums + p * kBlock);
    }
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        const ptrdiff_t end = at + static_cast<ptrdiff_t>(segment.step_count) * 4;
        for (; at < end; at += 4, w += kStepBytes) {
            const __m512i weights = _mm512_loadu_si512(w);
            for (uint32_t p = 0; p < P; ++p)
                lanes[p] = _mm512_dpbusd_epi32(lanes[p], broadcast(pixel[p] + at), weights);
        }
    }
    for (uint32_t p = 0; p < P; ++p) _mm512_storeu_si512(sums + p * kBlock, lanes[p]);
}

// True where `count` pixels from `first` lie evenly apart.
bool evenly_apart(const ConvTile& tile, uint32_t first, uint32_t count, uint32_t stride) {
    for (uint32_t p = 1; p < count; ++p)
        if (tile.pixel_offsets[first + p] - tile.pixel_offsets[first + p - 1] != stride) return false;
    return true;
}

}  // namespace

// Many pixels at once hide the latency of vpdpbusd.
void uq_conv_w8a8_24x16__avx512vnni(const ConvTile& tile) {
    constexpr uint32_t kMany = 24;
    uint32_t first = 0;
    while (first < tile.pixel_count) {
        const uint32_t stride = tile.pixel_offsets[first + 1] - tile.pixel_offsets[first];
        if (first + kMany <= tile.pixel_count && evenly_apart(tile, first, kMany, stride)) {
            regular_tile<kMany / 3>(tile, first, stride);
            first += kMany;
        } else {
            any_tile(tile, first);
            first += 6;
        }
    }
}

}  // namespace uq
