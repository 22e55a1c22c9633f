// Convolution in bits on Armv7: tiles of 2 pixels x 16 output channels, steps of 32 input channels.
//
// vcnt counts the ones of every byte; up to 31 steps are added in bytes (31 * 8 <= 255), then the four bytes of an
// output channel together.
#if defined(__arm__)

#include <arm_neon.h>
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

#include "../arrange.inc"

constexpr uint32_t P = 2;
constexpr uint32_t kByteSteps = 31;

// A word of each pixel in all lanes.
inline void broadcast(const uint32_t* at, uint32x4_t u[P]) {
    const uint32x2_t pair = vld1_u32(at);
    u[0] = vdupq_lane_u32(pair, 0);
    u[1] = vdupq_lane_u32(pair, 1);
}

inline void load16(const uint32_t* at, uint32x4_t w[4]) {
    for (uint32_t v = 0; v < 4; ++v) w[v] = vld1q_u32(at + 4 * v);
}

template <BitForm kForm>
inline uint8x16_t ones(uint32x4_t u, uint32x4_t w, uint32x4_t negative) {
    const uint32x4_t bits = kForm == kBitXor   ? veorq_u32(u, w)
                            : kForm == kBitAnd ? vandq_u32(u, w)
                                               : vbslq_u32(u, w, negative);
    return vcntq_u8(vreinterpretq_u8_u32(bits));
}

// sums += or = start + factor * count
inline void add(const uint8x16_t lanes[P][4], const int32_t* start, int32_t factor, int32_t* sums) {
    for (uint32_t p = 0; p < P; ++p) {
        for (uint32_t v = 0; v < 4; ++v) {
            int32_t* at = sums + p * kBlock + 4 * v;
            const uint32x4_t count = vpaddlq_u16(vpaddlq_u8(lanes[p][v]));
            vst1q_s32(at, vmlaq_n_s32(vld1q_s32(start ? start + 4 * v : at), vreinterpretq_s32_u32(count), factor));
        }
    }
}

template <BitForm kForm>
void run(const BitTile& tile) {
    constexpr uint32_t kWords = kForm == kBitSign ? 2 : 1;
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        const uint32_t* codes = tile.codes + first / P * tile.tile_stride;
        int32_t* sums = tile.sums + static_cast<size_t>(first) * kBlock;
        const int32_t* start = tile.start;
        for (uint32_t j = 0; j < tile.planes; ++j, codes += tile.plane_stride) {
            const uint32_t *u = codes, *w = tile.weights;
            uint32_t left = tile.steps;
            while (left > 0) {
                uint32_t steps = left < kByteSteps ? left : kByteSteps;
                left -= steps;
                uint8x16_t lanes[P][4];
                for (uint32_t p = 0; p < P; ++p)
                    for (uint32_t v = 0; v < 4; ++v) lanes[p][v] = vdupq_n_u8(0);
                for (; steps > 0; --steps, u += P, w += kWords * kBlock) {
                    uint32x4_t code[P], weight[4], negative[4] = {};
                    broadcast(u, code);
                    load16(w, weight);
                    if (kForm == kBitSign) load16(w + kBlock, negative);
                    for (uint32_t p = 0; p < P; ++p)
                        for (uint32_t v = 0; v < 4; ++v)
                            lanes[p][v] = vaddq_u8(lanes[p][v], ones<kForm>(code[p], weight[v], negative[v]));
                }
                add(lanes, start, tile.factor * (1 << j), sums);
                start = nullptr;
            }
        }
    }
}

// Counted instructions, as in fill.cpp.
const BitConv kBitConv = {P,
                          UINT32_MAX,
                          arrange<P>,
                          {{"uq_conv_xor_w1a1_2x16__neon", run<kBitXor>, 38},
                           {"uq_conv_and_w1a1_2x16__neon", run<kBitAnd>, 38},
                           {"uq_conv_sign_w2a1_2x16__neon", run<kBitSign>, 45}},
                          4000,
                          2000};

}  // namespace

void uq_fill_bits__neon(Kernels* kernels) {
    kernels->bit_conv = &kBitConv;
}

}  // namespace uq

#endif
