// Codes at rest, 1, 2 or 4 bits each, to bytes and back: 16 at a time, the ends of rows and all else by codes.inc.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

#include "../codes.inc"

inline void store(void* at, __m128i value) {
    _mm_storeu_si128(static_cast<__m128i*>(at), value);
}

// The fields of `storage` bits that follow in 2 * storage bytes, in order.
template <uint32_t kStorage>
inline __m128i fields(const uint8_t* src);

template <>
inline __m128i fields<4>(const uint8_t* src) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(src)), low = _mm_set1_epi8(15);
    return _mm_unpacklo_epi8(_mm_and_si128(bytes, low), _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
}

template <>
inline __m128i fields<2>(const uint8_t* src) {
    int32_t word;
    memcpy(&word, src, sizeof word);
    const __m128i bytes = _mm_cvtsi32_si128(word), low = _mm_set1_epi8(3);
    const __m128i c0 = _mm_and_si128(bytes, low), c1 = _mm_and_si128(_mm_srli_epi16(bytes, 2), low);
    const __m128i c2 = _mm_and_si128(_mm_srli_epi16(bytes, 4), low);
    const __m128i c3 = _mm_and_si128(_mm_srli_epi16(bytes, 6), low);
    return _mm_unpacklo_epi16(_mm_unpacklo_epi8(c0, c1), _mm_unpacklo_epi8(c2, c3));
}

template <>
inline __m128i fields<1>(const uint8_t* src) {
    uint16_t word;
    memcpy(&word, src, sizeof word);
    const __m128i spread = _mm_set_epi64x(0x0101010101010101, 0),
                  bit = _mm_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    const __m128i bytes = _mm_shuffle_epi8(_mm_set1_epi16(static_cast<int16_t>(word)), spread);
    return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(bytes, bit), bit), _mm_set1_epi8(1));
}

// 16 codes to 2 * storage bytes.
template <uint32_t kStorage>
inline void pack(__m128i codes, uint8_t* dst);

template <>
inline void pack<4>(__m128i codes, uint8_t* dst) {
    const __m128i pairs = _mm_maddubs_epi16(_mm_and_si128(codes, _mm_set1_epi8(15)), _mm_set1_epi16(0x1001));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(dst), _mm_packus_epi16(pairs, pairs));
}

template <>
inline void pack<2>(__m128i codes, uint8_t* dst) {
    const __m128i pairs = _mm_maddubs_epi16(_mm_and_si128(codes, _mm_set1_epi8(3)), _mm_set1_epi16(0x0401));
    const __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x00100001));
    const __m128i bytes = _mm_shuffle_epi8(fours, _mm_setr_epi8(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    const int32_t word = _mm_cvtsi128_si32(bytes);
    memcpy(dst, &word, sizeof word);
}

template <>
inline void pack<1>(__m128i codes, uint8_t* dst) {
    const auto word = static_cast<uint16_t>(_mm_movemask_epi8(_mm_slli_epi16(codes, 7)));
    memcpy(dst, &word, sizeof word);
}

template <uint32_t kStorage>
void load(const PackedRow& row, uint8_t flip, uint8_t shift, uint8_t* dst, size_t dst_stride) {
    const __m128i flips = _mm_set1_epi8(static_cast<char>(flip)), shifts = _mm_set1_epi8(static_cast<char>(shift));
    const uint32_t whole = row.channels / 16 * 16;
    for (uint32_t p = 0; p < row.pixels; ++p) {
        const uint8_t* src = row.data + p * row.pixel_stride;
        uint8_t* out = dst + p * dst_stride;
        for (uint32_t c = 0; c < whole; c += 16, src += 2 * kStorage)
            store(out + c, _mm_add_epi8(_mm_xor_si128(fields<kStorage>(src), flips), shifts));
    }
    if (whole == row.channels) return;
    const PackedRow rest = {row.data + whole * kStorage / 8, row.pixel_stride, row.pixels, row.channels - whole,
                            kStorage};
    load_codes(rest, flip, shift, dst + whole, dst_stride);
}

template <uint32_t kStorage>
void save(const uint8_t* src, size_t src_stride, const PackedRow& row) {
    const uint32_t whole = row.channels / 16 * 16;
    for (uint32_t p = 0; p < row.pixels; ++p) {
        const uint8_t* in = src + p * src_stride;
        uint8_t* out = row.data + p * row.pixel_stride;
        for (uint32_t c = 0; c < whole; c += 16, out += 2 * kStorage)
            pack<kStorage>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + c)), out);
    }
    if (whole == row.channels) return;
    const PackedRow rest = {row.data + whole * kStorage / 8, row.pixel_stride, row.pixels, row.channels - whole,
                            kStorage};
    store_codes(src + whole, src_stride, rest);
}

}  // namespace

void uq_load_codes__avx2(const PackedRow& row, uint8_t flip, uint8_t shift, uint8_t* dst, size_t dst_stride) {
    switch (row.storage_bits) {
        case 1:
            return load<1>(row, flip, shift, dst, dst_stride);
        case 2:
            return load<2>(row, flip, shift, dst, dst_stride);
        case 4:
            return load<4>(row, flip, shift, dst, dst_stride);
        default:
            return load_codes(row, flip, shift, dst, dst_stride);
    }
}

void uq_store_codes__avx2(const uint8_t* src, size_t src_stride, const PackedRow& row) {
    switch (row.storage_bits) {
        case 1:
            return save<1>(src, src_stride, row);
        case 2:
            return save<2>(src, src_stride, row);
        case 4:
            return save<4>(src, src_stride, row);
        default:
            return store_codes(src, src_stride, row);
    }
}

}  // namespace uq
