// Sums to codes of one or two bits. Comparisons make -1 of every threshold that a sum is above; what is counted of 16
// channels is narrowed to bytes and their fields are pushed together.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

#include "../codes.inc"
#include "../thresholds.inc"

inline __m256i load(const int32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline __m128i load16(const uint8_t* at) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

// The low bytes of 16 small numbers, in order.
inline __m128i narrow(__m256i a, __m256i b) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

void one_bit(const int32_t* sums, size_t stride, const Thresholds& t, const PackedRow& row, uint32_t c) {
    const __m256i above0 = load(t.above + c), above1 = load(t.above + c + 8);
    const auto first = static_cast<uint32_t>(_mm_movemask_epi8(_mm_slli_epi16(load16(t.first + c), 7)));
    const int32_t* in = sums + c;
    uint8_t* out = row.data + c / 8;
    for (uint32_t p = 0; p < row.pixels; ++p, in += stride, out += row.pixel_stride) {
        const __m128i passed = narrow(_mm256_cmpgt_epi32(load(in), above0), _mm256_cmpgt_epi32(load(in + 8), above1));
        // A channel that falls, or begins with 1, has its bit the other way round.
        const auto bits = static_cast<uint16_t>(static_cast<uint32_t>(_mm_movemask_epi8(passed)) ^ first);
        memcpy(out, &bits, sizeof bits);
    }
}

// Codes of 16 channels, as bytes. What is counted is negative: minus it where codes rise, plus it where they fall.
template <uint32_t kLevels>
struct Counter {
    __m256i above[kLevels][2];
    __m128i first, rising;

    Counter(const Thresholds& t, uint32_t c)
        : first(load16(t.first + c)), rising(_mm_xor_si128(load16(t.falling + c), _mm_set1_epi8(-1))) {
        for (uint32_t l = 0; l < kLevels; ++l)
            for (uint32_t v = 0; v < 2; ++v) above[l][v] = load(t.above + l * t.stride + c + 8 * v);
    }

    __m128i codes(const int32_t* sums) const {
        __m256i passed[2];
        for (uint32_t v = 0; v < 2; ++v) {
            const __m256i sum = load(sums + 8 * v);
            passed[v] = _mm256_cmpgt_epi32(sum, above[0][v]);
            for (uint32_t l = 1; l < kLevels; ++l)
                passed[v] = _mm256_add_epi32(passed[v], _mm256_cmpgt_epi32(sum, above[l][v]));
        }
        return _mm_add_epi8(first, _mm_sub_epi8(_mm_xor_si128(narrow(passed[0], passed[1]), rising), rising));
    }
};

void two_bits(const int32_t* sums, size_t stride, const Thresholds& t, const PackedRow& row, uint32_t c) {
    const Counter<3> counter(t, c);
    const __m128i fours = _mm_set1_epi16(0x0401), sixteens = _mm_set1_epi32(0x00100001);
    const __m128i gather = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const int32_t* in = sums + c;
    uint8_t* out = row.data + c / 4;
    for (uint32_t p = 0; p < row.pixels; ++p, in += stride, out += row.pixel_stride) {
        const __m128i codes = _mm_and_si128(counter.codes(in), _mm_set1_epi8(3));
        const __m128i fields = _mm_madd_epi16(_mm_maddubs_epi16(codes, fours), sixteens);
        const int32_t packed = _mm_cvtsi128_si32(_mm_shuffle_epi8(fields, gather));
        memcpy(out, &packed, sizeof packed);
    }
}

// Codes that are not packed.
template <uint32_t kLevels>
void whole_bytes(const int32_t* sums, size_t stride, const Thresholds& t, const PackedRow& row, uint32_t c) {
    const Counter<kLevels> counter(t, c);
    const int32_t* in = sums + c;
    uint8_t* out = row.data + c;
    for (uint32_t p = 0; p < row.pixels; ++p, in += stride, out += row.pixel_stride)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), counter.codes(in));
}

void uq_threshold__avx2(const int32_t* sums, size_t stride, const Thresholds& thresholds, const PackedRow& row) {
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

void uq_fill_thresholds__avx2(Kernels* kernels) {
    kernels->threshold = uq_threshold__avx2;
}

}  // namespace uq
