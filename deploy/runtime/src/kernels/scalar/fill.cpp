// The scalar set: complete, always compiled, the definition that every other set is tested against.
#include <string.h>

#include "../kernels.h"

namespace uq {
namespace {

#include "../codes.inc"
#include "../depthwise.inc"
#include "../rows.inc"
#include "../thresholds.inc"
#include "../winograd.inc"

// sums[o] += sum over the group of w[o][i] * a[i], modulo 2^32 for integers (the final value is proven to fit).
template <typename Input, typename Weight, typename Sum, uint32_t kGroup>
void conv(const ConvTile& tile) {
    for (uint32_t p = 0; p < tile.pixel_count; ++p) {
        Sum* out = static_cast<Sum*>(tile.sums) + static_cast<size_t>(p) * kBlock;
        Sum sums[kBlock];
        if (!tile.start)
            memcpy(sums, out, sizeof sums);
        else if (kGroup == 1)
            memset(sums, 0, sizeof sums);
        else
            memcpy(sums, tile.start, sizeof sums);
        const Weight* w = static_cast<const Weight*>(tile.weights);
        for (uint32_t s = 0; s < tile.segment_count; ++s) {
            const Segment& segment = tile.segments[s];
            const uint8_t* base = tile.rows + tile.pixel_offsets[p] + tile.tap_offsets[segment.tap];
            const uint8_t* bytes = base + static_cast<size_t>(segment.first_step) * kGroup * sizeof(Input);
            for (uint32_t i = 0; i < segment.step_count; ++i, w += kBlock * kGroup, bytes += kGroup * sizeof(Input)) {
                Input a[kGroup];
                memcpy(a, bytes, sizeof a);
                for (uint32_t o = 0; o < kBlock; ++o)
                    for (uint32_t k = 0; k < kGroup; ++k)
                        sums[o] += static_cast<Sum>(w[o * kGroup + k]) * static_cast<Sum>(a[k]);
            }
        }
        memcpy(out, sums, sizeof sums);
    }
}

void uq_conv_w8a8_1x16__scalar(const ConvTile& tile) {
    conv<uint8_t, int8_t, uint32_t, 4>(tile);
}
void uq_conv_w16a16_1x16__scalar(const ConvTile& tile) {
    conv<int16_t, int16_t, uint32_t, 2>(tile);
}
void uq_conv_w32a32_1x16__scalar(const ConvTile& tile) {
    conv<float, float, float, 1>(tile);
}

void uq_interleave_w8__scalar(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    for (uint32_t s = 0; s < steps; ++s)
        for (uint32_t o = 0; o < kBlock; ++o, dst += 4) memcpy(dst, rows + o * row_stride + 4 * s, 4);
}

const ByteConv kByteConvs[] = {
    {"uq_conv_w8a8_1x16__scalar", uq_conv_w8a8_1x16__scalar, uq_interleave_w8__scalar, 4, false, 32, {}, 230, 0},
};

#include "../arrange.inc"

constexpr uint32_t kBitTile = 1;

template <BitForm kForm>
void bit_conv(const BitTile& tile) {
    for (uint32_t p = 0; p < tile.pixel_count; ++p) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            uint32_t total = 0;
            for (uint32_t j = tile.planes; j-- > 0;) {
                const uint32_t* u = tile.codes + p * tile.tile_stride + j * tile.plane_stride;
                const uint32_t* w = tile.weights + o;
                total *= 2;
                for (uint32_t s = 0; s < tile.steps; ++s, ++u, w += (kForm == kBitSign ? 2 : 1) * kBlock) {
                    const uint32_t ones = kForm == kBitXor   ? w[0] ^ *u
                                          : kForm == kBitAnd ? w[0] & *u
                                                             : (w[0] & *u) | (w[kBlock] & ~*u);
                    total += static_cast<uint32_t>(__builtin_popcount(ones));
                }
            }
            const auto before = static_cast<uint32_t>(tile.start ? tile.start[o] : tile.sums[p * kBlock + o]);
            tile.sums[static_cast<size_t>(p) * kBlock + o] =
                static_cast<int32_t>(before + static_cast<uint32_t>(tile.factor) * total);
        }
    }
}

const BitConv kBitConv = {kBitTile,
                          UINT32_MAX,
                          arrange<kBitTile>,
                          {{"uq_conv_xor_w1a1_1x16__scalar", bit_conv<kBitXor>, 55},
                           {"uq_conv_and_w1a1_1x16__scalar", bit_conv<kBitAnd>, 50},
                           {"uq_conv_sign_w2a1_1x16__scalar", bit_conv<kBitSign>, 52}},
                          2000,
                          2000};

template <LookupForm kForm>
void expand_tables(const uint8_t* codes, size_t steps, uint8_t* tables) {
    for (size_t g = 0; g < 4 * steps; ++g, codes += 4)
        for (uint32_t i = 0; i < 16; ++i) {
            uint32_t sum = 0;
            for (uint32_t c = 0; c < 4; ++c) sum += i >> c & 1 ? codes[c] : kForm == kLookupSign ? 0u - codes[c] : 0u;
            *tables++ = static_cast<uint8_t>(sum);
        }
}

template <LookupForm kForm>
void lookup_conv(const ConvTile& tile) {
    constexpr uint32_t kStepTables = 64, kPlane = 64;
    for (uint32_t p = 0; p < tile.pixel_count; ++p) {
        int32_t* out = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(p) * kBlock;
        int32_t sums[kBlock];
        memcpy(sums, tile.start ? tile.start : out, sizeof sums);
        const auto* w = static_cast<const uint8_t*>(tile.weights);
        for (uint32_t s = 0; s < tile.segment_count; ++s) {
            const Segment& segment = tile.segments[s];
            const uint8_t* table = tile.rows + tile.pixel_offsets[p] + tile.tap_offsets[segment.tap] +
                                   static_cast<size_t>(segment.first_step) * kStepTables;
            for (uint32_t i = 0; i < segment.step_count; ++i, table += kStepTables) {
                for (uint32_t plane = 0; plane < (kForm == kLookupSign ? 1 : 2); ++plane, w += kPlane) {
                    for (uint32_t at = 0; at < kPlane; ++at) {
                        const uint8_t found = table[at / 32 * 32 + w[at]];
                        const int32_t sum = kForm == kLookupSign ? static_cast<int8_t>(found) : found;
                        sums[at / 2 % 16] += plane == 0 ? sum : -2 * sum;
                    }
                }
            }
        }
        memcpy(out, sums, sizeof sums);
    }
}

const LookupConv kLookupConv = {
    {{"uq_conv_lookup_w1a5_1x16__scalar", lookup_conv<kLookupSign>, expand_tables<kLookupSign>, 140, 0},
     {"uq_conv_lookup_w2a6_1x16__scalar", lookup_conv<kLookupSubset>, expand_tables<kLookupSubset>, 230, 0}},
    8000};

// Half to even for |r| < 2^22: 1.5 * 2^23 leaves no fraction bit, so the addition itself rounds.
float round_half_even(float r) {
    volatile float shifted = r + 12582912.0f;
    return shifted - 12582912.0f;
}

// Saturating first equals saturating last, as both bounds are integers. NaN becomes low.
uint8_t to_code(float y, const Target& target) {
    float r = y * target.inverse_scale;
    r = r > target.low ? r : target.low;
    r = r < target.high ? r : target.high;
    r = target.toward_zero ? static_cast<float>(static_cast<int32_t>(r)) : round_half_even(r);
    return static_cast<uint8_t>(static_cast<int32_t>(r) + target.zero_point);
}

// Every operation is one rounded float32 operation (-ffp-contract=off): multiply, add, slope, multiply, add.
template <typename Sum>
void epilogue(const Sum* sums, size_t stride, uint32_t pixels, uint32_t channels, const EpilogueArrays& arrays,
              const Target& target, void* dst, size_t dst_stride) {
    for (uint32_t p = 0; p < pixels; ++p) {
        const Sum* in = sums + p * stride;
        for (uint32_t c = 0; c < channels; ++c) {
            float y = static_cast<float>(in[c]) * arrays.gain[c];
            y = y + arrays.offset[c];
            if (arrays.slope) y = y > 0.0f ? y : y * arrays.slope[c];
            if (arrays.gain2) {
                y = y * arrays.gain2[c];
                y = y + arrays.offset2[c];
            }
            if (target.is_float)
                static_cast<float*>(dst)[p * dst_stride + c] = y;
            else
                static_cast<uint8_t*>(dst)[p * dst_stride + c] = to_code(y, target);
        }
    }
}

void uq_quantize__scalar(const float* src, size_t count, const Target& target, uint8_t* dst) {
    for (size_t i = 0; i < count; ++i) dst[i] = to_code(src[i], target);
}

const ByteConv kDepthwise = {
    "uq_conv_depthwise__scalar", conv_depthwise, interleave_depthwise, 1, false, 32, {}, 500, 0};

}  // namespace

void uq_fill__scalar(Kernels* kernels) {
    kernels->name = "scalar";
    kernels->load_codes = load_codes;
    kernels->store_codes = store_codes;
    kernels->unpack_weights = unpack_weights;
    kernels->byte_convs = kByteConvs;
    kernels->byte_conv_count = sizeof kByteConvs / sizeof *kByteConvs;
    kernels->depthwise = &kDepthwise;
    kernels->bit_conv = &kBitConv;
    kernels->lookup_conv = &kLookupConv;
    kernels->conv_w16a16 = uq_conv_w16a16_1x16__scalar;
    kernels->conv_w32a32 = uq_conv_w32a32_1x16__scalar;
    kernels->winograd_input = winograd_input;
    kernels->winograd_weights = winograd_weights;
    kernels->winograd_output = winograd_output;
    kernels->winograd_input_cost = 200;
    kernels->winograd_output_cost = 400;
    kernels->epilogue_i32 = epilogue<int32_t>;
    kernels->epilogue_f32 = epilogue<float>;
    kernels->threshold = threshold;
    kernels->quantize = uq_quantize__scalar;
    kernels->maximum = maximum;
    kernels->maximum_pairs = maximum_pairs;
    kernels->blend_rows = blend_rows;
    kernels->double_row = double_row;
    kernels->norm_sums = norm_sums;
}

}  // namespace uq
