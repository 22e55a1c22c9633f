// The epilogue, 16 channels a register: multiply, add, slope, multiply, add, each rounded (the Makefile's
// -ffp-contract=off keeps the fused multiply-add of this instruction set out), then saturation and rounding as in
// fixedpoint.py.
#include <immintrin.h>

#include "avx512vnni.h"

namespace uq {
namespace {

// The masked forms, which become the plain ones: those warn of an uninitialised value inside gcc 12's own headers.
constexpr __mmask16 kAll = 0xffff;

inline __m512 to_float(const int32_t* at) {
    return _mm512_maskz_cvtepi32_ps(kAll, _mm512_loadu_si512(at));
}
inline __m512 to_float(const float* at) {
    return _mm512_loadu_ps(at);
}

// What the real numbers of one pixel become.
enum class To { kFloat, kNearest, kShifted, kTowardZero };

struct Grid {
    __m512 inverse, low, high;
    __m128i zero_point;

    explicit Grid(const Target& target)
        : inverse(_mm512_set1_ps(target.inverse_scale)),
          low(_mm512_set1_ps(target.low)),
          high(_mm512_set1_ps(target.high)),
          zero_point(_mm_set1_epi8(static_cast<char>(target.zero_point))) {}

    // max and min give their second operand where the first is NaN, as the definition's comparisons do; so what is
    // converted is within the grid, and its low byte is the code, or the code less the zero-point.
    template <To kTo>
    __m128i bytes(__m512 y) const {
        const __m512 above = _mm512_maskz_max_ps(kAll, _mm512_mul_ps(y, inverse), low);
        const __m512 r = _mm512_maskz_min_ps(kAll, above, high);
        constexpr int kToNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        const __m512i codes = kTo == To::kTowardZero ? _mm512_maskz_cvttps_epi32(kAll, r)
                                                     : _mm512_maskz_cvt_roundps_epi32(kAll, r, kToNearest);
        const __m128i packed = _mm512_maskz_cvtepi32_epi8(kAll, codes);
        return kTo == To::kShifted ? _mm_add_epi8(packed, zero_point) : packed;
    }
};

template <bool kSlope, bool kSecond, To kTo, typename Sum>
void epilogue(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
              const Target& target, void* dst, size_t dst_stride) {
    const Grid grid(target);
    const __m512 zero = _mm512_setzero_ps();
    for (uint32_t c = 0; c < channels; c += 16) {
        const __m512 gain = _mm512_loadu_ps(arrays.gain + c), offset = _mm512_loadu_ps(arrays.offset + c);
        const __m512 slope = kSlope ? _mm512_loadu_ps(arrays.slope + c) : zero;
        const __m512 gain2 = kSecond ? _mm512_loadu_ps(arrays.gain2 + c) : zero;
        const __m512 offset2 = kSecond ? _mm512_loadu_ps(arrays.offset2 + c) : zero;
        for (uint32_t p = 0; p < pixels; ++p) {
            __m512 y = _mm512_add_ps(_mm512_mul_ps(to_float(sums + p * stride + c), gain), offset);
            if (kSlope) y = _mm512_mask_mul_ps(y, _mm512_cmp_ps_mask(y, zero, _CMP_NGT_UQ), y, slope);
            if (kSecond) y = _mm512_add_ps(_mm512_mul_ps(y, gain2), offset2);
            if (kTo == To::kFloat) {
                _mm512_storeu_ps(static_cast<float*>(dst) + p * dst_stride + c, y);
            } else {
                uint8_t* out = static_cast<uint8_t*>(dst) + p * dst_stride + c;
                _mm_storeu_si128(reinterpret_cast<__m128i*>(out), grid.bytes<kTo>(y));
            }
        }
    }
}

template <bool kSlope, bool kSecond, typename Sum>
void choose_target(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
                   const Target& target, void* dst, size_t dst_stride) {
    if (target.is_float)
        epilogue<kSlope, kSecond, To::kFloat>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (target.toward_zero)
        epilogue<kSlope, kSecond, To::kTowardZero>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (target.zero_point)
        epilogue<kSlope, kSecond, To::kShifted>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else
        epilogue<kSlope, kSecond, To::kNearest>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

template <typename Sum>
void choose(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
            const Target& target, void* dst, size_t dst_stride) {
    if (arrays.slope && arrays.gain2)
        choose_target<true, true>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (arrays.slope)
        choose_target<true, false>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (arrays.gain2)
        choose_target<false, true>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else
        choose_target<false, false>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

}  // namespace

void uq_epilogue_i32__avx512vnni(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                                 const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride) {
    choose(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

void uq_epilogue_f32__avx512vnni(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                                 const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride) {
    choose(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

}  // namespace uq
