// Convolution tiles of 6 pixels x 16 output channels: 12 accumulators, 2 registers of weights, 1 broadcast, 1 product.
#include <immintrin.h>
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

constexpr uint32_t P = 6;
constexpr size_t kStepBytes = 64;  // 16 output channels x 4 bytes of operands, in every scheme

// 4 bytes of input in every lane: 4 channels' codes, 2 words, or 1 float.
inline __m256i broadcast(const uint8_t* bytes) {
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return _mm256_set1_epi32(value);
}

inline __m256i load(const void* at) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(at));
}
inline void store(void* at, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i*>(at), value);
}

// vpmaddubsw: int16 lane = a[2i] * w[2i] + a[2i+1] * w[2i+1], a unsigned and w signed bytes. Lanes are added in int16
// up to the flush points that prepare.cpp proved from the weights, then pairs of lanes are widened into the int32 sums.
//
// 2 N accumulators, 2 registers of weights and 2 of products: with N = 6 these are all 16, and a compiler left alone
// spills some of them. So the products of one pixel are written out: 4 codes in every lane, times 16 output channels,
// `first` into the lanes, `next` added to them.
using FourCodes = const uint8_t (*)[4];

inline void first(__m256i lanes[2], const uint8_t* codes, __m256i w0, __m256i w1) {
    asm("vpbroadcastd %[codes], %[l1]\n\t"
        "vpmaddubsw %[w0], %[l1], %[l0]\n\t"
        "vpmaddubsw %[w1], %[l1], %[l1]"
        : [l0] "=&x"(lanes[0]), [l1] "=&x"(lanes[1])
        : [codes] "m"(*reinterpret_cast<FourCodes>(codes)), [w0] "x"(w0), [w1] "x"(w1));
}

inline void next(__m256i lanes[2], const uint8_t* codes, __m256i w0, __m256i w1) {
    __m256i p0, p1;
    asm("vpbroadcastd %[codes], %[p1]\n\t"
        "vpmaddubsw %[w0], %[p1], %[p0]\n\t"
        "vpmaddubsw %[w1], %[p1], %[p1]\n\t"
        "vpaddw %[p0], %[l0], %[l0]\n\t"
        "vpaddw %[p1], %[l1], %[l1]"
        : [l0] "+x"(lanes[0]), [l1] "+x"(lanes[1]), [p0] "=&x"(p0), [p1] "=&x"(p1)
        : [codes] "m"(*reinterpret_cast<FourCodes>(codes)), [w0] "x"(w0), [w1] "x"(w1));
}

// Where a pixel's codes are. The compiler would compute several addresses in one vector register, where they queue
// behind the products of the tile before; so it is kept from seeing through.
inline const uint8_t* pixel_at(const ConvTile& tile, uint32_t pixel) {
    size_t offset = tile.pixel_offsets[pixel];
    asm("" : "+r"(offset));
    const uint8_t* at = tile.rows + offset;
    asm("" : "+r"(at));
    return at;
}

// Not inlined: the caller would keep lanes that hold nothing over its calls, and save them each time.
template <uint32_t N>
[[gnu::noinline]] void narrow_tile(const ConvTile& tile, uint32_t first_pixel) {
    const uint8_t* pixel[N];
    for (uint32_t p = 0; p < N; ++p) pixel[p] = pixel_at(tile, first_pixel + p);
    auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first_pixel) * kBlock;
    auto* w = static_cast<const uint8_t*>(tile.weights);
    const int32_t* added_to = tile.start ? tile.start : sums;
    size_t pixel_step = tile.start ? 0 : kBlock;
    bool fresh = true;  // the lanes hold nothing yet
    __m256i lanes[N][2];
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        const ptrdiff_t end = at + static_cast<ptrdiff_t>(segment.step_count) * 4;
        if (fresh) {
            const __m256i w0 = load(w), w1 = load(w + 32);
            for (uint32_t p = 0; p < N; ++p) first(lanes[p], pixel[p] + at, w0, w1);
            at += 4, w += kStepBytes;
        }
        for (; at < end; at += 4, w += kStepBytes) {
            const __m256i w0 = load(w), w1 = load(w + 32);
            for (uint32_t p = 0; p < N; ++p) next(lanes[p], pixel[p] + at, w0, w1);
        }
        fresh = segment.flush || s + 1 == tile.segment_count;
        if (!fresh) continue;
        const __m256i ones = _mm256_set1_epi16(1);
        for (uint32_t p = 0; p < N; ++p)
            for (uint32_t v = 0; v < 2; ++v)
                store(sums + p * kBlock + v * 8,
                      _mm256_add_epi32(load(added_to + p * pixel_step + v * 8), _mm256_madd_epi16(lanes[p][v], ones)));
        added_to = sums;
        pixel_step = kBlock;
    }
}

}  // namespace

void uq_conv_w8a8n_6x16__avx2(const ConvTile& tile) {
    for (uint32_t pixel = 0; pixel < tile.pixel_count;) {
        const uint32_t left = tile.pixel_count - pixel;
        if (left >= P && left != 7 && left != 8) {  // those are two tiles of 4
            narrow_tile<P>(tile, pixel);
            pixel += P;
        } else if (left > 2) {
            narrow_tile<4>(tile, pixel);
            pixel += 4;
        } else {
            narrow_tile<2>(tile, pixel);
            pixel += 2;
        }
    }
}

// vpmaddwd: int32 lane = a[2i] * w[2i] + a[2i+1] * w[2i+1] in words, where bytes could saturate int16.
void uq_conv_w16a16_6x16__avx2(const ConvTile& tile) {
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        const uint8_t* pixel[P];
        for (uint32_t p = 0; p < P; ++p) pixel[p] = tile.rows + tile.pixel_offsets[first + p];
        auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first) * kBlock;
        auto* w = static_cast<const uint8_t*>(tile.weights);
        __m256i lanes[P][2];
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 2; ++v) lanes[p][v] = load((tile.start ? tile.start : sums + p * kBlock) + v * 8);
        for (uint32_t s = 0; s < tile.segment_count; ++s) {
            const Segment& segment = tile.segments[s];
            ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
            const ptrdiff_t end = at + static_cast<ptrdiff_t>(segment.step_count) * 4;
            for (; at < end; at += 4, w += kStepBytes) {
                const __m256i w0 = load(w), w1 = load(w + 32);
                for (uint32_t p = 0; p < P; ++p) {
                    const __m256i a = broadcast(pixel[p] + at);
                    lanes[p][0] = _mm256_add_epi32(lanes[p][0], _mm256_madd_epi16(a, w0));
                    lanes[p][1] = _mm256_add_epi32(lanes[p][1], _mm256_madd_epi16(a, w1));
                }
            }
        }
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 2; ++v) store(sums + p * kBlock + v * 8, lanes[p][v]);
    }
}

void uq_conv_w32a32_6x16__avx2(const ConvTile& tile) {
    for (uint32_t first = 0; first < tile.pixel_count; first += P) {
        const uint8_t* pixel[P];
        for (uint32_t p = 0; p < P; ++p) pixel[p] = tile.rows + tile.pixel_offsets[first + p];
        auto* sums = static_cast<float*>(tile.sums) + static_cast<size_t>(first) * kBlock;
        auto* w = static_cast<const uint8_t*>(tile.weights);
        __m256 lanes[P][2];
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 2; ++v)
                lanes[p][v] = tile.start ? _mm256_setzero_ps() : _mm256_loadu_ps(sums + p * kBlock + v * 8);
        for (uint32_t s = 0; s < tile.segment_count; ++s) {
            const Segment& segment = tile.segments[s];
            ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
            const ptrdiff_t end = at + static_cast<ptrdiff_t>(segment.step_count) * 4;
            for (; at < end; at += 4, w += kStepBytes) {
                const __m256 w0 = _mm256_castsi256_ps(load(w)), w1 = _mm256_castsi256_ps(load(w + 32));
                for (uint32_t p = 0; p < P; ++p) {
                    const __m256 a = _mm256_castsi256_ps(broadcast(pixel[p] + at));
                    lanes[p][0] = _mm256_add_ps(lanes[p][0], _mm256_mul_ps(a, w0));
                    lanes[p][1] = _mm256_add_ps(lanes[p][1], _mm256_mul_ps(a, w1));
                }
            }
        }
        for (uint32_t p = 0; p < P; ++p)
            for (uint32_t v = 0; v < 2; ++v) _mm256_storeu_ps(sums + p * kBlock + v * 8, lanes[p][v]);
    }
}

// Steps of 8 rows are columns of 4 bytes: an 8x8 transposition of 32-bit words for 8 steps at a time.
void uq_interleave_w8__avx2(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    uint32_t s = 0;
    for (; s + 8 <= steps; s += 8) {
        for (uint32_t half = 0; half < 2; ++half) {
            __m256i r[8], t[8];
            for (uint32_t i = 0; i < 8; ++i)
                r[i] = load(rows + (half * 8 + i) * row_stride + static_cast<size_t>(s) * 4);
            for (uint32_t i = 0; i < 4; ++i) {
                t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
            }
            for (uint32_t i = 0; i < 2; ++i) {
                r[4 * i + 0] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
                r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
                r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
                r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
            }
            int8_t* out = dst + static_cast<size_t>(s) * kStepBytes + half * 32;
            for (uint32_t i = 0; i < 4; ++i) {
                store(out + i * kStepBytes, _mm256_permute2x128_si256(r[i], r[i + 4], 0x20));
                store(out + (i + 4) * kStepBytes, _mm256_permute2x128_si256(r[i], r[i + 4], 0x31));
            }
        }
    }
    for (; s < steps; ++s)
        for (uint32_t o = 0; o < kBlock; ++o)
            memcpy(dst + static_cast<size_t>(s) * kStepBytes + o * 4,
                   rows + o * row_stride + static_cast<size_t>(s) * 4, 4);
}

}  // namespace uq
