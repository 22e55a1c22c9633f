// Convolution tiles of 16 output channels, or of 32: a step's weights, 16 channels x 4 inputs, are one 512-bit
// register.
//
// vpdpbusd: int32 lane += sum of 4 products of an unsigned and a signed byte, each at most 255 * 128, added without
// saturation. The int32 sums cannot overflow: prepare.cpp proved their bound from the weights. So nothing has to be
// widened, and Segment::flush means nothing here.
//
// 24 accumulators hide the instruction's latency: 12 pixels x 2 blocks, where a broadcast of codes serves two
// multiplications and loads are few, or 24 pixels x 1 block.
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

// What a tile of kBlocks blocks adds its products to.
template <uint32_t kBlocks>
struct Output {
    const ConvTile& tile;

    int32_t* sums(uint32_t block, size_t pixel) const {
        return static_cast<int32_t*>(tile.sums) + block * tile.sum_stride + pixel * kBlock;
    }
    __m512i begin(uint32_t block, size_t pixel) const {
        return _mm512_loadu_si512(tile.start ? tile.start + block * tile.start_stride : sums(block, pixel));
    }
};

// Groups of 4 pixels that lie `stride` bytes apart: one pointer a group, so that all stay in registers. Groups beyond
// `count` pixels are the last 4 of them once more; kWhole says that there are none, which leaves little to compute
// before the first product.
template <uint32_t kGroups, uint32_t kBlocks, bool kWhole>
void even_tile(const ConvTile& tile, size_t first, size_t count, ptrdiff_t stride) {
    __m512i lanes[kGroups][4][kBlocks];
    auto pixel = [=](size_t g) { return kWhole || 4 * g + 4 <= count ? 4 * g : count - 4; };
    int32_t* sums = static_cast<int32_t*>(tile.sums) + first * kBlock;
#pragma GCC unroll 2
    for (uint32_t b = 0; b < kBlocks; ++b) {
        const int32_t* begin = tile.start ? tile.start + b * tile.start_stride : sums + b * tile.sum_stride;
        if (tile.start) {
            const __m512i all = _mm512_loadu_si512(begin);
#pragma GCC unroll 24
            for (uint32_t i = 0; i < 4 * kGroups; ++i) lanes[i / 4][i % 4][b] = all;
        } else {
#pragma GCC unroll 24
            for (uint32_t i = 0; i < 4 * kGroups; ++i)
                lanes[i / 4][i % 4][b] = _mm512_loadu_si512(begin + (pixel(i / 4) + i % 4) * kBlock);
        }
    }
    auto* w = static_cast<const uint8_t*>(tile.weights);
    const ConvTile* from = &tile;
    for (uint32_t s = 0; s < from->segment_count; ++s) {
        // All is read anew: values kept over the loop push each other out into vector registers, from which they come
        // back only behind the products of the tile before.
        asm("" : "+r"(from));
        const Segment& segment = from->segments[s];
        const uint8_t* tap = from->rows + from->tap_offsets[segment.tap];
        tap += static_cast<ptrdiff_t>(segment.first_step) * 4;
        const uint8_t* at[kGroups];
        for (uint32_t g = 0; g < kGroups; ++g) at[g] = tap + from->pixel_offsets[first + pixel(g)];
        for (uint32_t step = segment.step_count; step > 0; --step, w += kStepBytes) {
            __m512i weights[kBlocks];
            for (uint32_t b = 0; b < kBlocks; ++b) weights[b] = _mm512_loadu_si512(w + b * tile.weight_stride);
#pragma GCC unroll 6
            for (uint32_t g = 0; g < kGroups; ++g) {
#pragma GCC unroll 4
                for (uint32_t p = 0; p < 4; ++p) {
                    const __m512i codes = broadcast(at[g] + static_cast<ptrdiff_t>(p) * stride);
                    for (uint32_t b = 0; b < kBlocks; ++b)
                        lanes[g][p][b] = _mm512_dpbusd_epi32(lanes[g][p][b], codes, weights[b]);
                }
                at[g] += 4;
            }
        }
    }
#pragma GCC unroll 2
    for (uint32_t b = 0; b < kBlocks; ++b, sums += tile.sum_stride) {
#pragma GCC unroll 24
        for (uint32_t i = 0; i < 4 * kGroups; ++i)
            _mm512_storeu_si512(sums + (pixel(i / 4) + i % 4) * kBlock, lanes[i / 4][i % 4][b]);
    }
}

// Pixels anywhere: the end of a row and the beginning of the next, or the surplus behind the last one.
template <uint32_t kPixels, uint32_t kBlocks>
void any_tile(const ConvTile& tile, uint32_t first) {
    const Output<kBlocks> output{tile};
    const uint8_t* pixel[kPixels];
    __m512i lanes[kPixels][kBlocks];
#pragma GCC unroll 12
    for (uint32_t p = 0; p < kPixels; ++p) {
        pixel[p] = tile.rows + tile.pixel_offsets[first + p];
        for (uint32_t b = 0; b < kBlocks; ++b) lanes[p][b] = output.begin(b, first + p);
    }
    auto* w = static_cast<const uint8_t*>(tile.weights);
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        const ptrdiff_t end = at + static_cast<ptrdiff_t>(segment.step_count) * 4;
        for (; at < end; at += 4, w += kStepBytes) {
            __m512i weights[kBlocks];
            for (uint32_t b = 0; b < kBlocks; ++b) weights[b] = _mm512_loadu_si512(w + b * tile.weight_stride);
#pragma GCC unroll 12
            for (uint32_t p = 0; p < kPixels; ++p) {
                const __m512i codes = broadcast(pixel[p] + at);
                for (uint32_t b = 0; b < kBlocks; ++b)
                    lanes[p][b] = _mm512_dpbusd_epi32(lanes[p][b], codes, weights[b]);
            }
        }
    }
#pragma GCC unroll 12
    for (uint32_t p = 0; p < kPixels; ++p)
        for (uint32_t b = 0; b < kBlocks; ++b) _mm512_storeu_si512(output.sums(b, first + p), lanes[p][b]);
}

// True where `count` pixels lie `stride` bytes apart from `first` on.
bool evenly_apart(const ConvTile& tile, uint32_t first, uint32_t count, uint32_t stride) {
    if (stride > INT32_MAX) return false;  // backwards
    const uint32_t* offsets = tile.pixel_offsets + first;
    const __m512i step = _mm512_set1_epi32(static_cast<int32_t>(stride));
    for (uint32_t gaps = count - 1; gaps > 0; offsets += 16) {
        const uint32_t some = gaps < 16 ? gaps : 16;
        const __mmask16 mask = static_cast<__mmask16>((1u << some) - 1);
        const __m512i here = _mm512_maskz_loadu_epi32(mask, offsets),
                      next = _mm512_maskz_loadu_epi32(mask, offsets + 1);
        if (_mm512_mask_cmpneq_epi32_mask(mask, _mm512_sub_epi32(next, here), step)) return false;
        gaps -= some;
    }
    return true;
}

template <uint32_t kBlocks>
void run(const ConvTile& tile) {
    constexpr uint32_t kMany = 24 / kBlocks;
    for (uint32_t first = 0; first < tile.pixel_count;) {
        const uint32_t left = tile.pixel_count - first, count = left < kMany ? left : kMany;
        const uint32_t stride =
            tile.pixel_stride ? tile.pixel_stride : tile.pixel_offsets[first + 1] - tile.pixel_offsets[first];
        if (count < 4) {
            any_tile<4, kBlocks>(tile, first);
        } else if (!tile.pixel_stride && !evenly_apart(tile, first, count, stride)) {
            any_tile<12, kBlocks>(tile, first);
            first += 12;
            continue;
        } else if (count == kMany) {
            even_tile<kMany / 4, kBlocks, true>(tile, first, count, stride);
        } else if (kBlocks == 1 && count > 12) {
            even_tile<6, kBlocks, false>(tile, first, count, stride);
        } else if (count > 8) {
            even_tile<3, kBlocks, false>(tile, first, count, stride);
        } else if (count == 8) {
            even_tile<2, kBlocks, true>(tile, first, count, stride);
        } else {
            even_tile<2, kBlocks, false>(tile, first, count, stride);
        }
        first += count;
    }
}

}  // namespace

void uq_conv_w8a8_12x32__avx512vnni(const ConvTile& tile) {
    if (tile.pair)
        run<2>(tile);
    else
        run<1>(tile);
}

}  // namespace uq
