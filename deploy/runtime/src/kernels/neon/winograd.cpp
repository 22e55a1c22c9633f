// The Winograd transforms (winograd.inc has the matrices): 16 channels at a time along a row of tiles, so that the two
// columns which neighbouring tiles share are loaded and transformed once.
#include <arm_neon.h>
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

#include "../winograd.inc"

// A column of four pixels, times B^T.
inline void down(const uint8_t* const rows[4], size_t at, uint8x16_t out[4]) {
    const uint8x16_t d0 = vld1q_u8(rows[0] + at), d1 = vld1q_u8(rows[1] + at), d2 = vld1q_u8(rows[2] + at);
    out[0] = vsubq_u8(d0, d2);
    out[1] = vaddq_u8(d1, d2);
    out[2] = vsubq_u8(d2, d1);
    out[3] = vsubq_u8(d1, vld1q_u8(rows[3] + at));
}

// 16 channels from c of all tiles. kOne: only position 5, the one of sums of sums, has an offset.
template <bool kOne>
void channels16(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels, const uint8_t* offset, uint8_t* dst,
                size_t position_stride, size_t c) {
    uint8x16_t x[4][4];  // the four columns of a tile
    down(rows, c, x[0]);
    down(rows, channels + c, x[1]);
    size_t at = 2 * static_cast<size_t>(channels) + c;
    const uint8x16_t five = vdupq_n_u8(offset[5]);
    for (uint32_t t = 0; t < tiles; ++t, at += 2 * static_cast<size_t>(channels)) {
        down(rows, at, x[2]);
        down(rows, at + channels, x[3]);
        uint8_t* out = dst + static_cast<size_t>(t) * channels + c;
        for (uint32_t i = 0; i < 4; ++i) {
            uint8x16_t y[4] = {vsubq_u8(x[0][i], x[2][i]), vaddq_u8(x[1][i], x[2][i]), vsubq_u8(x[2][i], x[1][i]),
                               vsubq_u8(x[1][i], x[3][i])};
            if (kOne && i == 1) y[1] = vaddq_u8(y[1], five);
            for (uint32_t j = 0; j < 4; ++j, out += position_stride) {
                if (!kOne) y[j] = vaddq_u8(y[j], vdupq_n_u8(offset[4 * i + j]));
                vst1q_u8(out, y[j]);
            }
        }
        for (uint32_t i = 0; i < 4; ++i) {
            x[0][i] = x[2][i];
            x[1][i] = x[3][i];
        }
    }
}

void uq_winograd_input__neon(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels, const uint8_t* offset,
                             uint8_t* dst, size_t position_stride) {
    if (channels < 16) return winograd_input(rows, tiles, channels, offset, dst, position_stride);
    bool one = true;
    for (uint32_t p = 0; p < 16; ++p) one = one && (p == 5 || offset[p] == 0);
    for (size_t c = 0; c < channels; c += 16) {
        if (c + 16 > channels) c = channels - 16;  // the last 16 once more rather than fewer
        if (one)
            channels16<true>(rows, tiles, channels, offset, dst, position_stride, c);
        else
            channels16<false>(rows, tiles, channels, offset, dst, position_stride, c);
    }
}

void uq_winograd_output__neon(const int32_t* sums, size_t position_stride, uint32_t columns, int32_t* row0,
                              int32_t* row1) {
    int32x4_t two = vdupq_n_s32(2);
    asm("" : "+w"(two));  // else compilers take a multiplication and an addition for a shift and an addition
    for (uint32_t t = 0; 2 * t < columns; ++t) {
        const bool both = 2 * t + 1 < columns;
        for (uint32_t o = 0; o < kBlock; o += 4) {
            const int32_t* m = sums + static_cast<size_t>(t) * kBlock + o;
            int32x4_t top[4], low[4];
            for (uint32_t x = 0; x < 4; ++x, m += position_stride) {
                const int32x4_t m0 = vld1q_s32(m), m1 = vld1q_s32(m + 4 * position_stride);
                const int32x4_t m2 = vld1q_s32(m + 8 * position_stride), m3 = vld1q_s32(m + 12 * position_stride);
                top[x] = vmlaq_s32(vaddq_s32(m1, m2), m0, two);
                low[x] = vmlsq_s32(vsubq_s32(m1, m2), m3, two);
            }
            const size_t at = static_cast<size_t>(t) * 2 * kBlock + o;
            vst1q_s32(row0 + at, vshrq_n_s32(vmlaq_s32(vaddq_s32(top[1], top[2]), top[0], two), 2));
            if (both) vst1q_s32(row0 + at + kBlock, vshrq_n_s32(vmlsq_s32(vsubq_s32(top[1], top[2]), top[3], two), 2));
            if (!row1) continue;
            vst1q_s32(row1 + at, vshrq_n_s32(vmlaq_s32(vaddq_s32(low[1], low[2]), low[0], two), 2));
            if (both) vst1q_s32(row1 + at + kBlock, vshrq_n_s32(vmlsq_s32(vsubq_s32(low[1], low[2]), low[3], two), 2));
        }
    }
}

}  // namespace

void uq_fill_winograd__neon(Kernels* kernels) {
    (void)winograd_output;
    kernels->winograd_input = uq_winograd_input__neon;
    kernels->winograd_weights = winograd_weights;
    kernels->winograd_output = uq_winograd_output__neon;
}

}  // namespace uq
