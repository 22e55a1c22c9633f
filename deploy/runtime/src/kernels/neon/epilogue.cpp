// The epilogue, 16 channels at a time: multiply, add, slope, multiply, add, each rounded (never vmla: its two roundings
// are not promised everywhere), then saturation and rounding as in fixedpoint.py.
#include <arm_neon.h>
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

inline float32x4_t to_float(const int32_t* at) {
    return vcvtq_f32_s32(vld1q_s32(at));
}
inline float32x4_t to_float(const float* at) {
    return vld1q_f32(at);
}

// a > b. Not vcgtq_f32: gcc compares lane by lane for Armv7, as NEON there knows neither traps nor subnormals.
inline uint32x4_t greater(float32x4_t a, float32x4_t b) {
#if defined(__aarch64__)
    return vcgtq_f32(a, b);
#else
    uint32x4_t mask;
    asm("vcgt.f32 %q0, %q1, %q2" : "=w"(mask) : "w"(a), "w"(b));
    return mask;
#endif
}

enum class Into { kFloat, kNearest, kShifted, kTowardZero };

struct Grid {
    float32x4_t inverse, low, high;
    uint8x16_t zero_point;

    explicit Grid(const Target& target)
        : inverse(vdupq_n_f32(target.inverse_scale)),
          low(vdupq_n_f32(target.low)),
          high(vdupq_n_f32(target.high)),
          zero_point(vdupq_n_u8(target.zero_point)) {}

    // NaN becomes low, as in the definition's comparisons.
    template <bool kTowardZero>
    int32x4_t codes(float32x4_t y) const {
        float32x4_t r = vmulq_f32(y, inverse);
#if defined(__aarch64__)
        r = vminnmq_f32(vmaxnmq_f32(r, low), high);  // the number, where one operand is a (quiet) NaN
        return kTowardZero ? vcvtq_s32_f32(r) : vcvtnq_s32_f32(r);
#else
        r = vminq_f32(vbslq_f32(greater(r, low), r, low), high);
        if (kTowardZero) return vcvtq_s32_f32(r);
        // Half to even: 1.5 * 2^23 leaves no fraction bit, so the addition rounds, and the low bits are the code.
        return vreinterpretq_s32_f32(vaddq_f32(r, vdupq_n_f32(12582912.0f)));
#endif
    }

    // 16 values to the low bytes of their codes, in order.
    template <Into kInto>
    uint8x16_t bytes(const float32x4_t y[4]) const {
        uint8x16_t r[4];
        for (uint32_t v = 0; v < 4; ++v) r[v] = vreinterpretq_u8_s32(codes<kInto == Into::kTowardZero>(y[v]));
        return kInto == Into::kShifted ? vaddq_u8(low_bytes(r), zero_point) : low_bytes(r);
    }

    static uint8x16_t low_bytes(const uint8x16_t r[4]) {
#if defined(__aarch64__)
        const uint16x8_t a = vuzp1q_u16(vreinterpretq_u16_u8(r[0]), vreinterpretq_u16_u8(r[1]));
        const uint16x8_t b = vuzp1q_u16(vreinterpretq_u16_u8(r[2]), vreinterpretq_u16_u8(r[3]));
        return vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
#else
        uint16x4_t h[4];
        for (uint32_t v = 0; v < 4; ++v) h[v] = vmovn_u32(vreinterpretq_u32_u8(r[v]));
        return vcombine_u8(vmovn_u16(vcombine_u16(h[0], h[1])), vmovn_u16(vcombine_u16(h[2], h[3])));
#endif
    }
};

template <bool kSlope, bool kSecond, Into kInto, typename Sum>
void epilogue(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
              const Target& target, void* dst, size_t dst_stride) {
    const Grid grid(target);
    for (uint32_t c = 0; c < channels; c += 16) {
        float32x4_t gain[4], offset[4], slope[4], gain2[4], offset2[4];
        for (uint32_t v = 0; v < 4; ++v) {
            gain[v] = vld1q_f32(arrays.gain + c + 4 * v);
            offset[v] = vld1q_f32(arrays.offset + c + 4 * v);
            if (kSlope) slope[v] = vld1q_f32(arrays.slope + c + 4 * v);
            if (kSecond) gain2[v] = vld1q_f32(arrays.gain2 + c + 4 * v);
            if (kSecond) offset2[v] = vld1q_f32(arrays.offset2 + c + 4 * v);
        }
        for (uint32_t p = 0; p < pixels; ++p) {
            float32x4_t y[4];
            for (uint32_t v = 0; v < 4; ++v) {
                y[v] = vaddq_f32(vmulq_f32(to_float(sums + p * stride + c + 4 * v), gain[v]), offset[v]);
                if (kSlope) y[v] = vbslq_f32(greater(y[v], vdupq_n_f32(0.0f)), y[v], vmulq_f32(y[v], slope[v]));
                if (kSecond) y[v] = vaddq_f32(vmulq_f32(y[v], gain2[v]), offset2[v]);
            }
            if (kInto == Into::kFloat) {
                float* out = static_cast<float*>(dst) + p * dst_stride + c;
                for (uint32_t v = 0; v < 4; ++v) vst1q_f32(out + 4 * v, y[v]);
            } else {
                vst1q_u8(static_cast<uint8_t*>(dst) + p * dst_stride + c, grid.bytes<kInto>(y));
            }
        }
    }
}

template <bool kSlope, bool kSecond, typename Sum>
void into(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
          const Target& target, void* dst, size_t dst_stride) {
    if (target.is_float)
        epilogue<kSlope, kSecond, Into::kFloat>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (target.toward_zero)
        epilogue<kSlope, kSecond, Into::kTowardZero>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (target.zero_point)
        epilogue<kSlope, kSecond, Into::kShifted>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else
        epilogue<kSlope, kSecond, Into::kNearest>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

template <typename Sum>
void choose(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
            const Target& target, void* dst, size_t dst_stride) {
    if (arrays.slope && arrays.gain2)
        into<true, true>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (arrays.slope)
        into<true, false>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (arrays.gain2)
        into<false, true>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else
        into<false, false>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

template <Into kInto>
void quantize(const float* src, size_t count, const Target& target, uint8_t* dst) {
    const Grid grid(target);
    float32x4_t y[4];
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        for (uint32_t v = 0; v < 4; ++v) y[v] = vld1q_f32(src + i + 4 * v);
        vst1q_u8(dst + i, grid.bytes<kInto>(y));
    }
    if (i == count) return;
    float rest[16] = {};
    uint8_t codes[16];
    memcpy(rest, src + i, (count - i) * sizeof(float));
    for (uint32_t v = 0; v < 4; ++v) y[v] = vld1q_f32(rest + 4 * v);
    vst1q_u8(codes, grid.bytes<kInto>(y));
    memcpy(dst + i, codes, count - i);
}

}  // namespace

void uq_epilogue_i32__neon(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride) {
    choose(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

void uq_epilogue_f32__neon(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride) {
    choose(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

void uq_quantize__neon(const float* src, size_t count, const Target& target, uint8_t* dst) {
    if (target.toward_zero)
        quantize<Into::kTowardZero>(src, count, target, dst);
    else
        quantize<Into::kShifted>(src, count, target, dst);
}

}  // namespace uq
