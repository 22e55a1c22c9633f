// The row kernels again, vectorised by the compiler under this folder's flags; unpacking weights by hand.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

#include "../depthwise.inc"
#include "../rows.inc"
#include "../winograd.inc"

// Eight fields of `bits` that begin `shift` bits behind a byte are spread over the eight bytes from there (7 + 8 * 7 <=
// 64), in the same places for every further eight: a shuffle fetches the two bytes that a field can lie in, and a
// multiplication by 2^(8 - s) brings a field that lies s bits up in them to the upper byte.
struct Fields {
    __m256i pairs, scale, mask;

    Fields(uint32_t bits, uint32_t shift) {
        alignas(16) uint8_t pair[16];
        alignas(16) uint16_t power[8];
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t at = shift + i * bits;
            pair[2 * i] = static_cast<uint8_t>(at >> 3);
            pair[2 * i + 1] = static_cast<uint8_t>((at >> 3) + 1);  // beyond the eight bytes lies 0
            power[i] = static_cast<uint16_t>(256u >> (at & 7));
        }
        pairs = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(pair)));
        scale = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(power)));
        mask = _mm256_set1_epi16(static_cast<int16_t>((1u << bits) - 1));
    }

    // Sixteen: eight of the bytes from src on, eight of those from src + bits on.
    __m128i take(const uint8_t* src, uint32_t bits) const {
        const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(src));
        const __m128i second = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(src + bits));
        const __m256i words = _mm256_shuffle_epi8(_mm256_set_m128i(second, first), pairs);
        const __m256i fields = _mm256_and_si256(_mm256_srli_epi16(_mm256_mullo_epi16(words, scale), 8), mask);
        return _mm_packus_epi16(_mm256_castsi256_si128(fields), _mm256_extracti128_si256(fields, 1));
    }
};

void uq_unpack_weights__avx2(const uint8_t* row, uint64_t first, uint32_t count, uint32_t bits, const int8_t* levels,
                             int8_t* dst) {
    const uint64_t start = first * bits;
    const auto shift = static_cast<uint32_t>(start & 7);
    if (bits == 8 || count < 8 || (bits == 4 && !levels && shift == 0))
        return unpack_weights(row, first, count, bits, levels, dst);
    const Fields fields(bits, shift);
    const __m128i sign = _mm_set1_epi8(static_cast<int8_t>(1u << (bits - 1)));
    const __m128i table = levels ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)) : sign;
    const uint8_t* src = row + (start >> 3);
    const size_t bytes = (shift + static_cast<size_t>(count) * bits + 7) / 8;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i += 16, at += 2 * bits) {
        uint8_t end[16] = {};
        const bool whole = at + bits + 8 <= bytes;
        if (!whole) memcpy(end, src + at, bytes - at < 16 ? bytes - at : 16);
        const __m128i codes = fields.take(whole ? src + at : end, bits);
        const __m128i values = levels ? _mm_shuffle_epi8(table, codes) : _mm_sub_epi8(_mm_xor_si128(codes, sign), sign);
        if (count - i >= 16) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), values);
        } else {
            int8_t last[16];
            _mm_storeu_si128(reinterpret_cast<__m128i*>(last), values);
            memcpy(dst + i, last, count - i);
        }
    }
}

const ByteConv kDepthwise = {"uq_conv_depthwise__avx2", conv_depthwise, interleave_depthwise, 1, false, 32, {}, 50, 0};

}  // namespace

void uq_fill_rows__avx2(Kernels* kernels) {
    kernels->load_codes = uq_load_codes__avx2;
    kernels->store_codes = uq_store_codes__avx2;
    kernels->unpack_weights = uq_unpack_weights__avx2;
    kernels->maximum = maximum;
    kernels->maximum_pairs = maximum_pairs;
    kernels->depthwise = &kDepthwise;
    kernels->blend_rows = blend_rows;
    kernels->double_row = double_row;
    kernels->norm_sums = norm_sums;
    kernels->winograd_input = winograd_input;
    kernels->winograd_weights = winograd_weights;
    kernels->winograd_output = winograd_output;
}

}  // namespace uq
