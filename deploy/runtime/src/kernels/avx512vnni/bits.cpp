// Convolution in bits where the processor counts those of 32-bit lanes (vpopcntd): tiles of 12 pixels x 16 output
// channels, steps of 32 input channels; the weights of a step are one register, a lane an output channel.
//
// Not every processor with AVX-512 VNNI has vpopcntd: the functions here carry its flag themselves, and
// uq_fill_bits__avx512vnni asks the processor.
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "avx512vnni.h"

#define UQ_POPCNT __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq")))

namespace uq {
namespace {

#include "../arrange.inc"

constexpr uint32_t P = 12;

UQ_POPCNT inline __m512i broadcast(const uint32_t* at) {
    int32_t value;
    memcpy(&value, at, sizeof value);
    return _mm512_set1_epi32(value);
}

template <BitForm kForm>
UQ_POPCNT void run(const BitTile& tile) {
    constexpr uint32_t kWords = (kForm == kBitSign ? 2 : 1) * kBlock;
    constexpr int kChoose = 0xE4;  // the third bit chooses the first (1) or the second (0)
    const __m512i factor = _mm512_set1_epi32(tile.factor);
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        const uint32_t* codes = tile.codes + first / P * tile.tile_stride;
        __m512i totals[P];
        for (__m512i& total : totals) total = _mm512_setzero_si512();
        for (uint32_t j = tile.planes; j-- > 0;) {
            const uint32_t *u = codes + j * tile.plane_stride, *w = tile.weights;
            for (__m512i& total : totals) total = _mm512_add_epi32(total, total);
            for (uint32_t s = 0; s < tile.steps; ++s, u += P, w += kWords) {
                const __m512i weights = _mm512_loadu_si512(w);
                const __m512i negative = _mm512_loadu_si512(kForm == kBitSign ? w + kBlock : w);
                for (uint32_t p = 0; p < P; ++p) {
                    const __m512i code = broadcast(u + p);
                    const __m512i bits = kForm == kBitXor ? _mm512_xor_si512(weights, code)
                                         : kForm == kBitAnd
                                             ? _mm512_and_si512(weights, code)
                                             : _mm512_ternarylogic_epi32(weights, negative, code, kChoose);
                    totals[p] = _mm512_add_epi32(totals[p], _mm512_popcnt_epi32(bits));
                }
            }
        }
        int32_t* sums = tile.sums + static_cast<size_t>(first) * kBlock;
        for (uint32_t p = 0; p < P; ++p, sums += kBlock) {
            const __m512i before = _mm512_loadu_si512(tile.start ? tile.start : sums);
            _mm512_storeu_si512(sums, _mm512_add_epi32(before, _mm512_mullo_epi32(totals[p], factor)));
        }
    }
}

const BitConv kBitConv = {P,
                          UINT32_MAX / 32,
                          arrange<P>,
                          {{"uq_conv_xor_w1a1_12x16__avx512vnni", run<kBitXor>, 0.41f},
                           {"uq_conv_and_w1a1_12x16__avx512vnni", run<kBitAnd>, 0.41f},
                           {"uq_conv_sign_w2a1_12x16__avx512vnni", run<kBitSign>, 0.49f}},
                          400,
                          40};

}  // namespace

void uq_fill_bits__avx512vnni(Kernels* kernels) {
    unsigned a = 0, b = 0, c = 0, d = 0;  // by CPUID: zig's run-time library has no __builtin_cpu_supports
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 14 & 1)) kernels->bit_conv = &kBitConv;
}

}  // namespace uq
