// Codes enter as u = code + offset in 0 ... 2^b - 1. Every four channels of a pixel of the window become a table of 16
// bytes, the sums of their subsets; that is done once, for all taps and all output channels that read the pixel. Four
// weights of an output channel are then an index for each of their bits:
//
//     w in {-2 ... 1}, w = v0 - 2 v1:   sum w u = T[v0] - 2 T[v1],   T[i] = sum of u_c where bit c of i is set
//     w in {-1, +1}:                    sum w u = S[w > 0],          S[i] = the same less the sum of the others
//
// T is at most 4 (2^b - 1), a byte for b <= 6; S is within +-4 (2^b - 1), an int8 for b <= 5. A step adds four entries
// to every lane of 16 bits. Channels that fill up a step are 0 in v0 and v1; for signs their codes have to be 0.
#include "lookup.h"

namespace uq {
namespace {

constexpr uint32_t kMostBits = 6;

// Whether every level of the weights lies in low ... high and is not `except`.
bool levels_within(const Op& op, int32_t low, int32_t high, int32_t except) {
    if (op.weight_bits > 2) return false;
    for (uint32_t i = 0; i < 1u << op.weight_bits; ++i) {
        int32_t level = static_cast<int32_t>(i);
        if (op.levels)
            level = op.levels[i];
        else if (i >> (op.weight_bits - 1))
            level -= 1 << op.weight_bits;
        if (level < low || level > high || level == except) return false;
    }
    return true;
}

// Bit 0 of four bytes, the first one's lowest.
uint32_t four_bits(uint32_t bytes) {
    return (bytes & 0x01010101u) * 0x01020408u >> 24 & 15;
}

}  // namespace

const char* no_lookup(const Op& op, const Tensor& input) {
    if (op.weight_kind == kFloat32 || !levels_within(op, -2, 1, 2)) return "weights of more than 2 bits";
    if (input.is_float || input.bits > kMostBits) return "codes of more than 6 bits";
    return op.groups > 1 && op.conv.group_inputs % 4 ? "groups that are no multiple of 4 channels" : nullptr;
}

LookupForm choose_lookup_form(const Op& op, const Tensor& input) {
    // Channels that a block reads for other outputs have weight 0.
    return input.bits < kMostBits && op.groups == 1 && levels_within(op, -1, 1, 0) ? kLookupSign : kLookupSubset;
}

double lookup_cost(const LookupConv& kernel, const Conv& conv) {
    double taps = 0;
    for (size_t p = 0; p < conv.phases.size(); ++p) taps += static_cast<double>(conv.phases[p].taps.size());
    taps /= static_cast<double>(conv.phases.size());
    const double inputs = static_cast<double>(conv.steps_a_tap) * kLookupGroup;
    const double products = taps * inputs * conv.blocks * kBlock;
    double pixels = 1;  // of the window, for one of the output
    for (int a = 0; a < 3; ++a) pixels *= conv.input_step[a];
    return products * static_cast<double>(kernel.forms[conv.lookup].mac_cost) +
           pixels * conv.padded_channels * static_cast<double>(kernel.table_cost);
}

uint32_t lookup_capacity(LookupForm form, const Tensor& input) {
    const uint32_t lane = form == kLookupSign ? INT16_MAX : UINT16_MAX;
    return lane / (4 * 4 * ((1u << input.bits) - 1));
}

void interleave_lookup(LookupForm form, const int8_t* rows, size_t row_stride, uint32_t steps, uint8_t* dst) {
    const uint32_t planes = form == kLookupSign ? 1 : 2;
    for (uint32_t s = 0; s < steps; ++s, dst += 64 * planes) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            for (uint32_t g = 0; g < 4; ++g) {
                uint32_t weights;
                memcpy(&weights, rows + o * row_stride + s * kLookupGroup + 4 * g, sizeof weights);
                uint8_t* out = dst + g / 2 * 32 + o / 8 * 16 + o % 8 * 2 + g % 2;
                const uint32_t odd = g % 2 * 16;
                out[0] = static_cast<uint8_t>(odd | four_bits(form == kLookupSign ? ~weights >> 7 : weights));
                if (planes == 2) out[64] = static_cast<uint8_t>(odd | four_bits(weights >> 1));
            }
        }
    }
}

void lookup_start(const Kernels& kernels, const Op& op, const Phase& phase, uint32_t block, int8_t* scratch,
                  int32_t start[kBlock]) {
    const Conv& conv = op.conv;
    for (uint32_t o = 0; o < kBlock; ++o) {
        const uint32_t oc = block * kBlock + o;
        int64_t sum = 0;
        for (size_t t = 0; t < phase.taps.size() && oc < op.output_channels; ++t) {
            kernels.unpack_weights(op.weights + static_cast<uint64_t>(oc) * op.row_bytes,
                                   static_cast<uint64_t>(phase.taps[t].index) * conv.group_inputs, conv.group_inputs,
                                   op.weight_bits, op.levels, scratch);
            for (uint32_t i = 0; i < conv.group_inputs; ++i) sum += scratch[i];
        }
        start[o] = static_cast<int32_t>(static_cast<uint32_t>(-sum * conv.entry_offset));
    }
}

}  // namespace uq
