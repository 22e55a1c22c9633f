// Convolution in bits: tiles of 4 pixels x 16 output channels, steps of 32 input channels; a lane of 32 bits is an
// output channel. The ones of each half of a byte are looked up (vpshufb); bytes take 31 steps (31 * 8 <= 255), then
// the four bytes of a channel are added together.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

#include "../arrange.inc"

constexpr uint32_t P = 4;
constexpr uint32_t kByteSteps = 31;

inline __m256i load(const void* at) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(at));
}
inline void store(void* at, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i*>(at), value);
}
inline __m256i broadcast(const uint32_t* at) {
    int32_t value;
    memcpy(&value, at, sizeof value);
    return _mm256_set1_epi32(value);
}

template <BitForm kForm>
void run(const BitTile& tile) {
    constexpr uint32_t kWords = (kForm == kBitSign ? 2 : 1) * kBlock;
    const __m256i low = _mm256_set1_epi8(15), ones8 = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i factor = _mm256_set1_epi32(tile.factor);
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        const uint32_t* codes = tile.codes + first / P * tile.tile_stride;
        __m256i totals[P][2];
        for (auto& pixel : totals) pixel[0] = pixel[1] = _mm256_setzero_si256();
        for (uint32_t j = tile.planes; j-- > 0;) {
            const uint32_t *u = codes + j * tile.plane_stride, *w = tile.weights;
            for (auto& pixel : totals)
                for (__m256i& total : pixel) total = _mm256_add_epi32(total, total);
            for (uint32_t left = tile.steps; left > 0;) {
                uint32_t steps = left < kByteSteps ? left : kByteSteps;
                left -= steps;
                __m256i counts[P][2];
                for (auto& pixel : counts) pixel[0] = pixel[1] = _mm256_setzero_si256();
                for (; steps > 0; --steps, u += P, w += kWords) {
                    __m256i w0 = load(w), w1 = load(w + 8), n0 = w0, n1 = w1;
                    if (kForm == kBitSign) {  // where codes are 1, positive, else negative
                        n0 = load(w + kBlock);
                        n1 = load(w + kBlock + 8);
                        w0 = _mm256_xor_si256(w0, n0);
                        w1 = _mm256_xor_si256(w1, n1);
                    }
                    for (uint32_t p = 0; p < P; ++p) {
                        const __m256i code = broadcast(u + p);
                        __m256i bits[2];
                        if (kForm == kBitXor) {
                            bits[0] = _mm256_xor_si256(code, w0);
                            bits[1] = _mm256_xor_si256(code, w1);
                        } else {
                            bits[0] = _mm256_and_si256(code, w0);
                            bits[1] = _mm256_and_si256(code, w1);
                        }
                        if (kForm == kBitSign) {
                            bits[0] = _mm256_xor_si256(bits[0], n0);
                            bits[1] = _mm256_xor_si256(bits[1], n1);
                        }
                        for (uint32_t v = 0; v < 2; ++v) {
                            const __m256i lower = _mm256_and_si256(bits[v], low);
                            const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(bits[v], 4), low);
                            counts[p][v] = _mm256_add_epi8(counts[p][v], _mm256_shuffle_epi8(table, lower));
                            counts[p][v] = _mm256_add_epi8(counts[p][v], _mm256_shuffle_epi8(table, upper));
                        }
                    }
                }
                for (uint32_t p = 0; p < P; ++p)
                    for (uint32_t v = 0; v < 2; ++v) {
                        const __m256i pairs = _mm256_maddubs_epi16(counts[p][v], ones8);
                        totals[p][v] = _mm256_add_epi32(totals[p][v], _mm256_madd_epi16(pairs, ones16));
                    }
            }
        }
        int32_t* sums = tile.sums + static_cast<size_t>(first) * kBlock;
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 2; ++v) {
                int32_t* at = sums + p * kBlock + v * 8;
                const __m256i before = load(tile.start ? tile.start + v * 8 : at);
                store(at, _mm256_add_epi32(before, _mm256_mullo_epi32(totals[p][v], factor)));
            }
    }
}

const BitConv kBitConv = {P,
                          UINT32_MAX / 32,
                          arrange<P>,
                          {{"uq_conv_xor_w1a1_4x16__avx2", run<kBitXor>, 2.05f},
                           {"uq_conv_and_w1a1_4x16__avx2", run<kBitAnd>, 2.05f},
                           {"uq_conv_sign_w2a1_4x16__avx2", run<kBitSign>, 2.5f}},
                          400,
                          80};

}  // namespace

void uq_fill_bits__avx2(Kernels* kernels) {
    kernels->bit_conv = &kBitConv;
}

}  // namespace uq
