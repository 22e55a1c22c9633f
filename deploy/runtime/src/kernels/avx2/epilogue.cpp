// The epilogue, 16 channels at a time: multiply, add, slope, multiply, add, each rounded (no fused multiply-add: the
// folder is compiled without -mfma), then saturation and rounding as in fixedpoint.py.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

inline __m256 to_float(const int32_t* at) {
    return _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}
inline __m256 to_float(const float* at) {
    return _mm256_loadu_ps(at);
}

// What the real numbers of one pixel become.
enum class To { kFloat, kNearest, kShifted, kTowardZero };

inline To choose_target(const Target& target) {
    if (target.is_float) return To::kFloat;
    if (target.toward_zero) return To::kTowardZero;
    return target.zero_point ? To::kShifted : To::kNearest;
}

struct Grid {
    __m256 inverse, low, high;
    __m128i zero_point;

    explicit Grid(const Target& target)
        : inverse(_mm256_set1_ps(target.inverse_scale)),
          low(_mm256_set1_ps(target.low)),
          high(_mm256_set1_ps(target.high)),
          zero_point(_mm_set1_epi8(static_cast<char>(target.zero_point))) {}

    // max and min give their second operand where the first is NaN, as the definition's comparisons do.
    template <To kTo>
    __m256i codes(__m256 y) const {
        __m256 r = _mm256_mul_ps(y, inverse);
        r = _mm256_min_ps(_mm256_max_ps(r, low), high);
        if (kTo != To::kTowardZero) r = _mm256_round_ps(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        return _mm256_cvttps_epi32(r);
    }

    // 16 values to the low bytes of their codes, in order.
    template <To kTo>
    __m128i bytes(__m256 y0, __m256 y1) const {
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(codes<kTo>(y0), codes<kTo>(y1)), 0xD8);
        words = _mm256_and_si256(words, _mm256_set1_epi16(255));
        const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        return kTo == To::kShifted ? _mm_add_epi8(packed, zero_point) : packed;
    }
};

template <bool kSlope, bool kSecond, To kTo, typename Sum>
void epilogue(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
              const Target& target, void* dst, size_t dst_stride) {
    const Grid grid(target);
    const __m256 zero = _mm256_setzero_ps();
    for (uint32_t c = 0; c < channels; c += 16) {
        __m256 gain[2], offset[2], slope[2], gain2[2], offset2[2];
        for (uint32_t v = 0; v < 2; ++v) {
            gain[v] = _mm256_loadu_ps(arrays.gain + c + 8 * v);
            offset[v] = _mm256_loadu_ps(arrays.offset + c + 8 * v);
            if (kSlope) slope[v] = _mm256_loadu_ps(arrays.slope + c + 8 * v);
            if (kSecond) gain2[v] = _mm256_loadu_ps(arrays.gain2 + c + 8 * v);
            if (kSecond) offset2[v] = _mm256_loadu_ps(arrays.offset2 + c + 8 * v);
        }
        for (uint32_t p = 0; p < pixels; ++p) {
            __m256 y[2];
            for (uint32_t v = 0; v < 2; ++v) {
                y[v] = _mm256_mul_ps(to_float(sums + p * stride + c + 8 * v), gain[v]);
                y[v] = _mm256_add_ps(y[v], offset[v]);
                if (kSlope) {
                    const __m256 positive = _mm256_cmp_ps(y[v], zero, _CMP_GT_OQ);
                    y[v] = _mm256_blendv_ps(_mm256_mul_ps(y[v], slope[v]), y[v], positive);
                }
                if (kSecond) y[v] = _mm256_add_ps(_mm256_mul_ps(y[v], gain2[v]), offset2[v]);
            }
            if (kTo == To::kFloat) {
                float* out = static_cast<float*>(dst) + p * dst_stride + c;
                _mm256_storeu_ps(out, y[0]);
                _mm256_storeu_ps(out + 8, y[1]);
            } else {
                uint8_t* out = static_cast<uint8_t*>(dst) + p * dst_stride + c;
                _mm_storeu_si128(reinterpret_cast<__m128i*>(out), grid.bytes<kTo>(y[0], y[1]));
            }
        }
    }
}

template <bool kSlope, bool kSecond, typename Sum>
void to(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
        const Target& target, void* dst, size_t dst_stride) {
    switch (choose_target(target)) {
        case To::kFloat:
            return epilogue<kSlope, kSecond, To::kFloat>(sums, stride, pixels, channels, arrays, target, dst,
                                                         dst_stride);
        case To::kNearest:
            return epilogue<kSlope, kSecond, To::kNearest>(sums, stride, pixels, channels, arrays, target, dst,
                                                           dst_stride);
        case To::kShifted:
            return epilogue<kSlope, kSecond, To::kShifted>(sums, stride, pixels, channels, arrays, target, dst,
                                                           dst_stride);
        case To::kTowardZero:
            return epilogue<kSlope, kSecond, To::kTowardZero>(sums, stride, pixels, channels, arrays, target, dst,
                                                              dst_stride);
    }
}

template <typename Sum>
void choose(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
            const Target& target, void* dst, size_t dst_stride) {
    if (arrays.slope && arrays.gain2)
        to<true, true>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (arrays.slope)
        to<true, false>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else if (arrays.gain2)
        to<false, true>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
    else
        to<false, false>(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

}  // namespace

void uq_epilogue_i32__avx2(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride) {
    choose(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

void uq_epilogue_f32__avx2(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride) {
    choose(sums, stride, pixels, channels, arrays, target, dst, dst_stride);
}

namespace {

template <To kTo>
void quantize(const float* src, size_t count, const Target& target, uint8_t* dst) {
    const Grid grid(target);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m128i codes = grid.bytes<kTo>(_mm256_loadu_ps(src + i), _mm256_loadu_ps(src + i + 8));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), codes);
    }
    if (i == count) return;
    float rest[16] = {};
    uint8_t codes[16];
    memcpy(rest, src + i, (count - i) * sizeof(float));
    const __m128i last = grid.bytes<kTo>(_mm256_loadu_ps(rest), _mm256_loadu_ps(rest + 8));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), last);
    memcpy(dst + i, codes, count - i);
}

}  // namespace

void uq_quantize__avx2(const float* src, size_t count, const Target& target, uint8_t* dst) {
    if (target.toward_zero)
        quantize<To::kTowardZero>(src, count, target, dst);
    else
        quantize<To::kShifted>(src, count, target, dst);
}

}  // namespace uq
