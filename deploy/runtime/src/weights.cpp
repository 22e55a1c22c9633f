// Packed weights to what the kernels read.
#include "bits.h"
#include "lookup.h"

namespace uq {
namespace {

uint32_t used_outputs(const Op& op, uint32_t block) {
    uint32_t left = op.output_channels - block * kBlock;
    return left < kBlock ? left : kBlock;
}

// Where output channel oc of a block finds its first input channel among those that the block reads.
uint32_t channel_shift(const Conv& conv, uint32_t block, uint32_t oc) {
    if (conv.depthwise) return 0;
    return oc / conv.group_outputs * conv.group_inputs - conv.first_channel(block);
}

// count weights from number first on of every output channel of a block: 16 rows, padded with 0.
void unpack_rows(const Kernels& kernels, const Op& op, uint32_t block, uint64_t first, uint32_t count, int8_t* rows) {
    const Conv& conv = op.conv;
    const size_t stride = static_cast<size_t>(conv.steps_a_tap) * conv.group;
    const uint32_t outputs = used_outputs(op, block);
    if (outputs < kBlock || op.groups > 1 || count < stride) memset(rows, 0, kBlock * stride);
    for (uint32_t o = 0; o < outputs; ++o) {
        const uint32_t oc = block * kBlock + o;
        kernels.unpack_weights(op.weights + static_cast<uint64_t>(oc) * op.row_bytes, first, count, op.weight_bits,
                               op.levels, rows + o * stride + channel_shift(conv, block, oc));
    }
}

void float_weights(const Op& op, uint32_t block, uint64_t first, float* dst) {
    const Conv& conv = op.conv;
    memset(dst, 0, conv.steps_a_tap * conv.step_bytes());
    for (uint32_t o = 0; o < used_outputs(op, block); ++o) {
        const uint32_t oc = block * kBlock + o, at = channel_shift(conv, block, oc);
        const auto* row = reinterpret_cast<const float*>(op.weights + static_cast<uint64_t>(oc) * op.row_bytes) + first;
        for (uint32_t i = 0; i < conv.group_inputs; ++i) dst[(at + i) * kBlock + o] = row[i];
    }
}

// [16][group * steps] bytes to [step][16][group] in the element type.
template <typename Element>
void interleave(const Conv& conv, const int8_t* rows, Element* dst) {
    const size_t stride = static_cast<size_t>(conv.steps_a_tap) * conv.group;
    for (uint32_t s = 0; s < conv.steps_a_tap; ++s)
        for (uint32_t o = 0; o < kBlock; ++o)
            for (uint32_t i = 0; i < conv.group; ++i) *dst++ = rows[o * stride + s * conv.group + i];
}

}  // namespace

// Rows of one tap, and all taps of a block before they are transformed.
uint64_t weight_scratch_bytes(const Op& op) {
    const Conv& conv = op.conv;
    if (conv.scheme == Scheme::kBits) return 0;
    const uint64_t rows = static_cast<uint64_t>(kBlock) * conv.steps_a_tap * conv.group;
    return conv.scheme == Scheme::kWinograd ? rows * (1 + conv.phases[0].taps.size()) : rows;
}

void unpack_block(const Kernels& kernels, const Op& op, const Phase& phase, uint32_t block, void* dst,
                  int8_t* scratch) {
    const Conv& conv = op.conv;
    if (conv.scheme == Scheme::kBits) return unpack_bit_block(op, phase, block, static_cast<uint32_t*>(dst));
    const uint64_t tap_bytes = conv.steps_a_tap * conv.step_bytes();
    const uint32_t stride = conv.steps_a_tap * conv.group;
    const uint32_t taps = static_cast<uint32_t>(phase.taps.size());
    const uint32_t count = conv.patches ? taps * conv.group_inputs : conv.group_inputs;
    int8_t* transformed = static_cast<int8_t*>(dst);
    auto* out = reinterpret_cast<uint8_t*>(conv.scheme == Scheme::kWinograd ? scratch + tap_bytes : dst);
    for (uint32_t t = 0; t < (conv.patches ? 1 : taps); ++t, out += tap_bytes) {
        // Winograd wants the depths of a (kh, kw) tap together.
        uint32_t index = phase.taps[t].index;
        if (conv.scheme == Scheme::kWinograd) index = t % (taps / 9) * 9 + t / (taps / 9);
        const uint64_t first = static_cast<uint64_t>(index) * conv.group_inputs;
        if (op.weight_kind == kFloat32) {
            float_weights(op, block, first, reinterpret_cast<float*>(out));
            continue;
        }
        unpack_rows(kernels, op, block, first, count, scratch);
        if (conv.scheme == Scheme::kLookup)
            interleave_lookup(conv.lookup, scratch, stride, conv.steps_a_tap, out);
        else if (conv.kernel)
            conv.kernel->interleave(scratch, stride, conv.steps_a_tap, reinterpret_cast<int8_t*>(out));
        else if (conv.scheme == Scheme::kWords)
            interleave(conv, scratch, reinterpret_cast<int16_t*>(out));
        else
            interleave(conv, scratch, reinterpret_cast<float*>(out));
    }
    if (conv.scheme == Scheme::kWinograd)
        kernels.winograd_weights(scratch + tap_bytes, static_cast<size_t>(tap_bytes) * (taps / 9), transformed);
}

}  // namespace uq
