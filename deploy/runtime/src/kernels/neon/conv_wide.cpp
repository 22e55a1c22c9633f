// Convolutions in int16 and float32, tiles of 2 pixels x 16 output channels, and the order of byte weights.
#include <arm_neon.h>
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

constexpr uint32_t P = 2;

// Calls step(tile, bytes of P pixels, weights) for every step; a step of either scheme is 4 bytes of input.
template <typename Step>
inline void for_steps(const ConvTile& tile, uint32_t first, size_t step_bytes, Step step) {
    auto* w = static_cast<const uint8_t*>(tile.weights);
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        const ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        const uint8_t* pixel[P];
        for (uint32_t p = 0; p < P; ++p) pixel[p] = tile.rows + tile.pixel_offsets[first + p] + at;
        for (uint32_t i = 0; i < segment.step_count; ++i, w += step_bytes) {
            step(pixel, w);
            for (uint32_t p = 0; p < P; ++p) pixel[p] += 4;
        }
    }
}

}  // namespace

// One tap, and steps without a gap.
bool uq_is_straight__neon(const ConvTile& tile) {
    for (uint32_t s = 1; s < tile.segment_count; ++s) {
        const Segment &before = tile.segments[s - 1], &segment = tile.segments[s];
        if (segment.tap != before.tap || segment.first_step != before.first_step + before.step_count) return false;
    }
    return true;
}

// vmlal.s16: int32 lane += a * w. vld2 parts the two channels of 8 output channels.
void uq_conv_w16a16_2x16__neon(const ConvTile& tile) {
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first) * kBlock;
        int32x4_t lanes[P][4];
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 4; ++v)
                lanes[p][v] = vld1q_s32((tile.start ? tile.start : sums + p * kBlock) + 4 * v);
        for_steps(tile, first, 64, [&](const uint8_t* const* pixel, const uint8_t* w) {
            int16x8x2_t weights[2];
            for (uint32_t v = 0; v < 2; ++v) weights[v] = vld2q_s16(reinterpret_cast<const int16_t*>(w) + 16 * v);
            for (uint32_t p = 0; p < P; ++p) {
                int32_t pair;
                memcpy(&pair, pixel[p], sizeof pair);
                const int16x4_t a = vreinterpret_s16_s32(vdup_n_s32(pair));
                for (uint32_t v = 0; v < 2; ++v) {
                    int32x4_t &low = lanes[p][2 * v], &high = lanes[p][2 * v + 1];
                    low = vmlal_lane_s16(low, vget_low_s16(weights[v].val[0]), a, 0);
                    high = vmlal_lane_s16(high, vget_high_s16(weights[v].val[0]), a, 0);
                    low = vmlal_lane_s16(low, vget_low_s16(weights[v].val[1]), a, 1);
                    high = vmlal_lane_s16(high, vget_high_s16(weights[v].val[1]), a, 1);
                }
            }
        });
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 4; ++v) vst1q_s32(sums + p * kBlock + 4 * v, lanes[p][v]);
    }
}

// One product added after the other, each rounded: never a fused multiply-add.
void uq_conv_w32a32_2x16__neon(const ConvTile& tile) {
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        auto* sums = static_cast<float*>(tile.sums) + static_cast<size_t>(first) * kBlock;
        float32x4_t lanes[P][4];
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 4; ++v)
                lanes[p][v] = tile.start ? vdupq_n_f32(0.0f) : vld1q_f32(sums + p * kBlock + 4 * v);
        for_steps(tile, first, 64, [&](const uint8_t* const* pixel, const uint8_t* w) {
            float32x4_t weights[4];
            for (uint32_t v = 0; v < 4; ++v) weights[v] = vld1q_f32(reinterpret_cast<const float*>(w) + 4 * v);
            for (uint32_t p = 0; p < P; ++p) {
                float a;
                memcpy(&a, pixel[p], sizeof a);
                for (uint32_t v = 0; v < 4; ++v) lanes[p][v] = vaddq_f32(lanes[p][v], vmulq_n_f32(weights[v], a));
            }
        });
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 4; ++v) vst1q_f32(sums + p * kBlock + 4 * v, lanes[p][v]);
    }
}

namespace {

template <size_t kGroup>
void interleave(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    for (uint32_t s = 0; s < steps; ++s, rows += kGroup)
        for (uint32_t o = 0; o < kBlock; ++o, dst += kGroup) memcpy(dst, rows + o * row_stride, kGroup);
}

}  // namespace

void uq_interleave_g8__neon(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    interleave<8>(rows, row_stride, steps, dst);
}

void uq_interleave_g16__neon(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    interleave<16>(rows, row_stride, steps, dst);
}

}  // namespace uq
