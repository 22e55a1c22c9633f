// Sums to codes of one or two bits. Comparisons make -1 of every threshold that a sum is above; what is counted of 16
// channels is narrowed to bytes and their fields are pushed together.
#include <arm_neon.h>
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

// One lane to any address: of a typed pointer, clang for Armv7 takes the alignment at its word, and the store faults.
template <int kLane>
inline void put16(uint8_t* at, uint16x4_t lanes) {
    const uint16_t value = vget_lane_u16(lanes, kLane);
    memcpy(at, &value, sizeof value);
}
template <int kLane>
inline void put32(uint8_t* at, uint32x2_t lanes) {
    const uint32_t value = vget_lane_u32(lanes, kLane);
    memcpy(at, &value, sizeof value);
}

#include "../codes.inc"
#include "../thresholds.inc"

// The even ones of 16-bit lanes, and of bytes.
inline uint8x16_t narrow(const uint32x4_t v[4]) {
#if defined(__aarch64__)
    const uint16x8_t a = vuzp1q_u16(vreinterpretq_u16_u32(v[0]), vreinterpretq_u16_u32(v[1]));
    const uint16x8_t b = vuzp1q_u16(vreinterpretq_u16_u32(v[2]), vreinterpretq_u16_u32(v[3]));
    return vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
#else
    const uint16x8_t a = vcombine_u16(vmovn_u32(v[0]), vmovn_u32(v[1]));
    const uint16x8_t b = vcombine_u16(vmovn_u32(v[2]), vmovn_u32(v[3]));
    return vcombine_u8(vmovn_u16(a), vmovn_u16(b));
#endif
}

inline uint8x8_t add_pairs(uint8x16_t a) {
    return vpadd_u8(vget_low_u8(a), vget_high_u8(a));
}

// Bytes of 0 or 255 to a bit each: byte i of 8 keeps bit i, and neighbours are added up.
void one_bit(const int32_t* sums, size_t stride, const Thresholds& t, const PackedRow& row, uint32_t c) {
    static const uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vld1q_u8(kBits);
    // A channel that falls, or whose first code is 1 and not to be passed, has its bit the other way round.
    const uint8x16_t first = vtstq_u8(vld1q_u8(t.first + c), vdupq_n_u8(1));
    int32x4_t above[4];
    for (uint32_t v = 0; v < 4; ++v) above[v] = vld1q_s32(t.above + c + 4 * v);
    const int32_t* in = sums + c;
    uint8_t* out = row.data + c / 8;
    auto pixel = [&](const int32_t* at) {
        uint32x4_t passed[4];
        for (uint32_t v = 0; v < 4; ++v) passed[v] = vcgtq_s32(vld1q_s32(at + 4 * v), above[v]);
        return vandq_u8(veorq_u8(narrow(passed), first), bits);
    };
    uint32_t p = 0;
    for (; p + 4 <= row.pixels; p += 4, in += 4 * stride, out += 4 * row.pixel_stride) {
#if defined(__aarch64__)
        const uint8x16_t a = vpaddq_u8(pixel(in), pixel(in + stride));
        const uint8x16_t b = vpaddq_u8(pixel(in + 2 * stride), pixel(in + 3 * stride));
        const uint8x16_t fours = vpaddq_u8(a, b);
        const uint8x8_t bytes = vget_low_u8(vpaddq_u8(fours, fours));
#else
        const uint8x8_t a = vpadd_u8(add_pairs(pixel(in)), add_pairs(pixel(in + stride)));
        const uint8x8_t b = vpadd_u8(add_pairs(pixel(in + 2 * stride)), add_pairs(pixel(in + 3 * stride)));
        const uint8x8_t bytes = vpadd_u8(a, b);
#endif
        const uint16x4_t words = vreinterpret_u16_u8(bytes);
        put16<0>(out, words);
        put16<1>(out + row.pixel_stride, words);
        put16<2>(out + 2 * row.pixel_stride, words);
        put16<3>(out + 3 * row.pixel_stride, words);
    }
    for (; p < row.pixels; ++p, in += stride, out += row.pixel_stride) {
        uint8x8_t bytes = add_pairs(pixel(in));
        bytes = vpadd_u8(bytes, bytes);
        bytes = vpadd_u8(bytes, bytes);
        put16<0>(out, vreinterpret_u16_u8(bytes));
    }
}

// Codes of 16 channels, as bytes. What is counted is negative: minus it where codes rise, plus it where they fall.
template <uint32_t kLevels>
struct Counter {
    int32x4_t above[kLevels][4];
    uint8x16_t first, rising;

    Counter(const Thresholds& t, uint32_t c) : first(vld1q_u8(t.first + c)), rising(vmvnq_u8(vld1q_u8(t.falling + c))) {
        for (uint32_t l = 0; l < kLevels; ++l)
            for (uint32_t v = 0; v < 4; ++v) above[l][v] = vld1q_s32(t.above + l * t.stride + c + 4 * v);
    }

    uint8x16_t codes(const int32_t* sums) const {
        uint32x4_t passed[4];
        for (uint32_t v = 0; v < 4; ++v) {
            const int32x4_t sum = vld1q_s32(sums + 4 * v);
            passed[v] = vcgtq_s32(sum, above[0][v]);
            for (uint32_t l = 1; l < kLevels; ++l) passed[v] = vaddq_u32(passed[v], vcgtq_s32(sum, above[l][v]));
        }
        return vaddq_u8(first, vsubq_u8(veorq_u8(narrow(passed), rising), rising));
    }
};

void two_bits(const int32_t* sums, size_t stride, const Thresholds& t, const PackedRow& row, uint32_t c) {
    static const int8_t kShifts[16] = {0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6};
    const int8x16_t shifts = vld1q_s8(kShifts);
    const Counter<3> counter(t, c);
    auto fields = [&](const int32_t* at) { return vshlq_u8(vandq_u8(counter.codes(at), vdupq_n_u8(3)), shifts); };
    const int32_t* in = sums + c;
    uint8_t* out = row.data + c / 4;
    uint32_t p = 0;
    for (; p + 2 <= row.pixels; p += 2, in += 2 * stride, out += 2 * row.pixel_stride) {
        const uint8x8_t bytes = vpadd_u8(add_pairs(fields(in)), add_pairs(fields(in + stride)));
        const uint32x2_t words = vreinterpret_u32_u8(bytes);
        put32<0>(out, words);
        put32<1>(out + row.pixel_stride, words);
    }
    if (p < row.pixels) {
        uint8x8_t bytes = add_pairs(fields(in));
        bytes = vpadd_u8(bytes, bytes);
        put32<0>(out, vreinterpret_u32_u8(bytes));
    }
}

// Codes that are not packed.
template <uint32_t kLevels>
void whole_bytes(const int32_t* sums, size_t stride, const Thresholds& t, const PackedRow& row, uint32_t c) {
    const Counter<kLevels> counter(t, c);
    const int32_t* in = sums + c;
    uint8_t* out = row.data + c;
    for (uint32_t p = 0; p < row.pixels; ++p, in += stride, out += row.pixel_stride) vst1q_u8(out, counter.codes(in));
}

void uq_threshold__neon(const int32_t* sums, size_t stride, const Thresholds& thresholds, const PackedRow& row) {
    const auto run = row.storage_bits == 1    ? one_bit
                     : row.storage_bits == 2  ? two_bits
                     : thresholds.levels == 1 ? whole_bytes<1>
                                              : whole_bytes<3>;
    const uint32_t whole = row.channels / kBlock * kBlock;
    for (uint32_t c = 0; c < whole; c += kBlock) run(sums, stride, thresholds, row, c);
    if (whole == row.channels) return;
    const Thresholds end = {thresholds.above + whole, thresholds.stride, thresholds.levels, thresholds.first + whole,
                            thresholds.falling + whole};
    const PackedRow rest = {row.data + static_cast<size_t>(whole) * row.storage_bits / 8, row.pixel_stride, row.pixels,
                            row.channels - whole, row.storage_bits};
    threshold(sums + whole, stride, end, rest);
}

}  // namespace

void uq_fill_thresholds__neon(Kernels* kernels) {
    kernels->threshold = uq_threshold__neon;
}

}  // namespace uq
