// The row kernels: codes and weights between their packed fields and bytes, by hand; the rest as it is.
#include <arm_neon.h>
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

#include "../codes.inc"
#include "../depthwise.inc"
#include "../rows.inc"

// Eight fields of `bits` that begin `shift` bits behind a byte are spread over the eight bytes from there (7 + 8 * 7 <=
// 64), in the same places for every further eight: a table look-up fetches the two bytes that a field can lie in.
struct Fields {
    uint8x8_t low, high;  // which bytes
    int16x8_t down;       // and how far to shift the pair of them
    uint8x8_t mask;

    Fields(uint32_t bits, uint32_t shift) {
        uint8_t first[8], second[8];
        int16_t by[8];
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t at = shift + i * bits;
            first[i] = static_cast<uint8_t>(at >> 3);
            second[i] = static_cast<uint8_t>((at >> 3) + 1);  // beyond the table gives 0
            by[i] = static_cast<int16_t>(-static_cast<int32_t>(at & 7));
        }
        low = vld1_u8(first);
        high = vld1_u8(second);
        down = vld1q_s16(by);
        mask = vdup_n_u8(static_cast<uint8_t>((1u << bits) - 1));
    }

    uint8x8_t take(uint8x8_t bytes) const {
        const uint8x8x2_t pairs = vzip_u8(vtbl1_u8(bytes, low), vtbl1_u8(bytes, high));
        const uint16x8_t words = vreinterpretq_u16_u8(vcombine_u8(pairs.val[0], pairs.val[1]));
        return vand_u8(vmovn_u16(vshlq_u16(words, down)), mask);
    }
};

// count fields to (field ^ flip) + shift each; reads no byte that holds none of them.
void expand(const uint8_t* src, uint32_t start, size_t count, uint32_t bits, uint8_t flip, uint8_t shift,
            uint8_t* dst) {
    const Fields fields(bits, start);
    const uint8x8_t flips = vdup_n_u8(flip), shifts = vdup_n_u8(shift);
    const size_t bytes = (start + count * bits + 7) / 8;
    size_t i = 0, at = 0;
    for (; i + 8 <= count && at + 8 <= bytes; i += 8, at += bits)
        vst1_u8(dst + i, vadd_u8(veor_u8(fields.take(vld1_u8(src + at)), flips), shifts));
    for (; i < count; i += 8, at += bits) {
        uint8_t in[8] = {}, out[8];
        memcpy(in, src + at, bytes - at < 8 ? bytes - at : 8);
        vst1_u8(out, vadd_u8(veor_u8(fields.take(vld1_u8(in)), flips), shifts));
        memcpy(dst + i, out, count - i < 8 ? count - i : 8);
    }
}

// Four-bit and two-bit fields: shifted down beside each other, then interleaved.
void load_4bit(const uint8_t* src, size_t channels, uint8_t flip, uint8_t shift, uint8_t* dst) {
    const uint8x16_t mask = vdupq_n_u8(15), flips = vdupq_n_u8(flip), shifts = vdupq_n_u8(shift);
    size_t c = 0;
    for (; c + 32 <= channels; c += 32) {
        const uint8x16_t packed = vld1q_u8(src + c / 2);
        const uint8x16_t even = vaddq_u8(veorq_u8(vandq_u8(packed, mask), flips), shifts);
        const uint8x16_t odd = vaddq_u8(veorq_u8(vshrq_n_u8(packed, 4), flips), shifts);
        const uint8x16x2_t codes = vzipq_u8(even, odd);
        vst1q_u8(dst + c, codes.val[0]);
        vst1q_u8(dst + c + 16, codes.val[1]);
    }
    if (c < channels) expand(src + c / 2, 0, channels - c, 4, flip, shift, dst + c);
}

void load_2bit(const uint8_t* src, size_t channels, uint8_t flip, uint8_t shift, uint8_t* dst) {
    const uint8x16_t mask = vdupq_n_u8(3), flips = vdupq_n_u8(flip), shifts = vdupq_n_u8(shift);
    size_t c = 0;
    for (; c + 64 <= channels; c += 64) {
        const uint8x16_t packed = vld1q_u8(src + c / 4);
        const uint8x16_t fields[4] = {packed, vshrq_n_u8(packed, 2), vshrq_n_u8(packed, 4), vshrq_n_u8(packed, 6)};
        uint8x16_t codes[4];
        for (uint32_t i = 0; i < 4; ++i) codes[i] = vaddq_u8(veorq_u8(vandq_u8(fields[i], mask), flips), shifts);
        const uint8x16x2_t even = vzipq_u8(codes[0], codes[2]), odd = vzipq_u8(codes[1], codes[3]);
        for (uint32_t i = 0; i < 2; ++i) {
            const uint8x16x2_t all = vzipq_u8(even.val[i], odd.val[i]);
            vst1q_u8(dst + c + 32 * i, all.val[0]);
            vst1q_u8(dst + c + 32 * i + 16, all.val[1]);
        }
    }
    if (c < channels) expand(src + c / 4, 0, channels - c, 2, flip, shift, dst + c);
}

// One-bit fields: each byte spread over eight lanes, of which each looks at its bit.
void load_1bit(const uint8_t* src, size_t channels, uint8_t flip, uint8_t shift, uint8_t* dst) {
    static const uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vld1q_u8(kBits);
    const uint8x16_t zero = vdupq_n_u8(static_cast<uint8_t>(flip + shift));
    const uint8x16_t one = vdupq_n_u8(static_cast<uint8_t>((1 ^ flip) + shift));
    size_t c = 0;
    for (; c + 16 <= channels; c += 16, src += 2) {
        const uint8x16_t bytes = vcombine_u8(vld1_dup_u8(src), vld1_dup_u8(src + 1));
        vst1q_u8(dst + c, vbslq_u8(vtstq_u8(bytes, bits), one, zero));
    }
    if (c < channels) expand(src, 0, channels - c, 1, flip, shift, dst + c);
}

void uq_load_codes__neon(const PackedRow& row, uint8_t flip, uint8_t shift, uint8_t* dst, size_t dst_stride) {
    const uint32_t bits = row.storage_bits;
    if (bits == 8) return load_codes(row, flip, shift, dst, dst_stride);
    uint32_t pixels = row.pixels;
    size_t channels = row.channels;
    if (row.pixel_stride * 8 == channels * bits && dst_stride == channels) {  // no gap: one long pixel
        channels *= pixels;
        pixels = 1;
    }
    for (uint32_t p = 0; p < pixels; ++p) {
        const uint8_t* src = row.data + p * row.pixel_stride;
        if (bits == 4)
            load_4bit(src, channels, flip, shift, dst + p * dst_stride);
        else if (bits == 2)
            load_2bit(src, channels, flip, shift, dst + p * dst_stride);
        else
            load_1bit(src, channels, flip, shift, dst + p * dst_stride);
    }
}

// Sixteen codes to the first bytes of the result. vsli keeps the lower field and shifts the upper one in above it.
inline uint8x8_t pack_1bit(uint8x8x2_t codes) {
    const uint8x8_t pairs = vand_u8(vsli_n_u8(codes.val[0], codes.val[1], 1), vdup_n_u8(3));
    const uint8x8x2_t two = vuzp_u8(pairs, pairs);
    const uint8x8_t fours = vsli_n_u8(two.val[0], two.val[1], 2);
    const uint8x8x2_t four = vuzp_u8(fours, fours);
    return vsli_n_u8(four.val[0], four.val[1], 4);
}
inline uint8x8_t pack_2bit(uint8x8x2_t codes) {
    const uint8x8_t pairs = vsli_n_u8(vand_u8(codes.val[0], vdup_n_u8(3)), codes.val[1], 2);
    const uint8x8x2_t two = vuzp_u8(pairs, pairs);
    return vsli_n_u8(two.val[0], two.val[1], 4);
}

// Whole sixteens of channels.
template <uint32_t kBits>
void store16(const uint8_t* src, size_t src_stride, const PackedRow& row, uint32_t whole) {
    for (uint32_t p = 0; p < row.pixels; ++p) {
        const uint8_t* in = src + p * src_stride;
        uint8_t* out = row.data + p * row.pixel_stride;
        for (uint32_t c = 0; c < whole; c += 16, in += 16, out += 2 * kBits) {
            const uint8x8x2_t codes = vld2_u8(in);
            const uint8x8_t packed = kBits == 4   ? vsli_n_u8(codes.val[0], codes.val[1], 4)
                                     : kBits == 2 ? pack_2bit(codes)
                                                  : pack_1bit(codes);
            memcpy(out, &packed, 2 * kBits);
        }
    }
}

void uq_store_codes__neon(const uint8_t* src, size_t src_stride, const PackedRow& row) {
    const uint32_t bits = row.storage_bits, whole = row.channels / 16 * 16;
    if (bits == 8 || whole == 0) return store_codes(src, src_stride, row);
    (bits == 4 ? store16<4> : bits == 2 ? store16<2> : store16<1>)(src, src_stride, row, whole);
    if (whole == row.channels) return;
    const PackedRow rest = {row.data + static_cast<size_t>(whole) * bits / 8, row.pixel_stride, row.pixels,
                            row.channels - whole, bits};
    store_codes(src + whole, src_stride, rest);
}

// values[i] = levels[values[i]]
void look_up(const int8_t* levels, uint32_t count, int8_t* values) {
    const int8x16_t table = vld1q_s8(levels);
#if !defined(__aarch64__)
    const int8x8x2_t halves = {{vget_low_s8(table), vget_high_s8(table)}};
#endif
    uint32_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const int8x16_t codes = vld1q_s8(values + i);
#if defined(__aarch64__)
        vst1q_s8(values + i, vqtbl1q_s8(table, vreinterpretq_u8_s8(codes)));
#else
        vst1q_s8(values + i, vcombine_s8(vtbl2_s8(halves, vget_low_s8(codes)), vtbl2_s8(halves, vget_high_s8(codes))));
#endif
    }
    for (; i < count; ++i) values[i] = levels[values[i]];
}

void uq_unpack_weights__neon(const uint8_t* row, uint64_t first, uint32_t count, uint32_t bits, const int8_t* levels,
                             int8_t* dst) {
    const uint64_t start = first * bits;
    if (bits == 8) return unpack_weights(row, first, count, bits, levels, dst);
    const auto sign = static_cast<uint8_t>(levels ? 0 : 1u << (bits - 1)), less = static_cast<uint8_t>(-sign);
    const uint8_t* src = row + (start >> 3);
    auto* out = reinterpret_cast<uint8_t*>(dst);
    const auto shift = static_cast<uint32_t>(start & 7);
    if (bits == 4 && shift == 0)
        load_4bit(src, count, sign, less, out);
    else if (bits == 2 && shift == 0)
        load_2bit(src, count, sign, less, out);
    else
        expand(src, shift, count, bits, sign, less, out);
    if (levels) look_up(levels, count, dst);
}

const ByteConv kDepthwise = {"uq_conv_depthwise__neon", conv_depthwise, interleave_depthwise, 1, false, 32, {}, 600, 0};

}  // namespace

// What is not written by hand here is what the compiler does well.
void uq_fill_rows__neon(Kernels* kernels) {
    kernels->load_codes = uq_load_codes__neon;
    kernels->store_codes = uq_store_codes__neon;
    kernels->unpack_weights = uq_unpack_weights__neon;
    kernels->maximum = maximum;
    kernels->maximum_pairs = maximum_pairs;
    kernels->depthwise = &kDepthwise;
    kernels->blend_rows = blend_rows;
    kernels->double_row = double_row;
    kernels->norm_sums = norm_sums;
}

}  // namespace uq
