// What a convolution needs once: its phases, the start values of its sums, and flush points proven from its weights.
//
// Signed codes enter the kernels with code_offset added, so that they are bytes 0 … 2^bits - 1; the padding holds
// code_offset itself, which is the value 0. Every output then sums w * (a + offset) over all taps of its phase, border
// or not, and the start value -offset * sum(w) takes the surplus away exactly. Sums may wrap in between: they are
// added modulo 2^32, and the final value is within int32 (checked here).
//
// conv_w8a8 multiplies and adds pairs of channels into int16 lanes. A lane never leaves int16 in a run of steps as long
// as both the positive and the negative weights of each of its pairs, summed over the run and times the largest byte,
// stay inside; partial sums of the run are bounded by the same two numbers. Where even a single step can leave int16
// (8-bit weights with 8-bit codes) the convolution runs on int16 words instead.
#include "model.h"

namespace uq {
namespace {

constexpr int64_t kInt32Limit = INT32_MAX;

uint32_t used_outputs(const Op& op, uint32_t block) {
    uint32_t left = op.output_channels - block * kBlock;
    return left < kBlock ? left : kBlock;
}

// Phase origins are counted with the width innermost.
bool make_phases(Op* op) {
    Conv& conv = op->conv;
    bool transposed = op->mode == 1;
    uint32_t count = 1;
    for (int a = 0; a < 3; ++a) {
        conv.output_step[a] = transposed ? op->stride[a] : 1;
        conv.input_step[a] = transposed ? 1 : op->stride[a];
        count *= conv.output_step[a];
    }
    if (!conv.phases.allocate(count)) return false;
    for (uint32_t p = 0; p < count; ++p) {
        Phase& phase = conv.phases[p];
        uint32_t rest = p;
        for (int a = 2; a >= 0; --a) {
            phase.origin[a] = rest % conv.output_step[a];
            rest /= conv.output_step[a];
        }
        uint32_t index = 0;
        for (uint32_t d = 0; d < op->kernel[0]; ++d) {
            for (uint32_t h = 0; h < op->kernel[1]; ++h) {
                for (uint32_t w = 0; w < op->kernel[2]; ++w, ++index) {
                    const uint32_t k[3] = {d, h, w};
                    Tap tap = {{0, 0, 0}, index};
                    bool mine = true;
                    for (int a = 0; a < 3; ++a) {
                        int64_t reach = static_cast<int64_t>(k[a]) * op->dilation[a] - op->before[a];
                        // Transposed: output o takes input i where i * stride + reach = o.
                        int64_t offset = transposed ? static_cast<int64_t>(phase.origin[a]) - reach : reach;
                        if (transposed) {
                            mine = mine && remainder(offset, op->stride[a]) == 0;
                            offset = floor_div(offset, op->stride[a]);
                        }
                        tap.offset[a] = static_cast<int32_t>(offset);
                    }
                    if (!mine) continue;
                    bool first = phase.taps.size() == 0;
                    if (!phase.taps.append(tap)) return false;
                    for (int a = 0; a < 3; ++a) {
                        if (first || tap.offset[a] < phase.least[a]) phase.least[a] = tap.offset[a];
                        if (first || tap.offset[a] > phase.most[a]) phase.most[a] = tap.offset[a];
                    }
                }
            }
        }
    }
    return true;
}

void choose_shape(const uq_model& model, Op* op, Scheme scheme) {
    Conv& conv = op->conv;
    conv.scheme = scheme;
    conv.element_bytes = scheme == Scheme::kBytes ? 1 : scheme == Scheme::kWords ? 2 : 4;
    conv.group = 4 / conv.element_bytes;
    conv.input_channels = 0;
    for (uint32_t i = 0; i < op->input_count; ++i) conv.input_channels += model.tensors[op->inputs[i]].channels;
    conv.group_inputs = conv.input_channels / op->groups;
    conv.group_outputs = op->output_channels / op->groups;
    conv.blocks = (op->output_channels + kBlock - 1) / kBlock;
    conv.padded_channels = round_up(conv.input_channels, conv.group);
    uint32_t widest = 0;
    for (uint32_t b = 0; b < conv.blocks; ++b) {
        uint32_t last = (b * kBlock + used_outputs(*op, b) - 1) / conv.group_outputs;
        uint32_t width = (last + 1) * conv.group_inputs - conv.first_channel(b);
        if (width > widest) widest = width;
    }
    conv.steps_a_tap = (widest + conv.group - 1) / conv.group;
}

bool append_segments(Phase* phase, const Conv& conv, const Array<uint8_t>& flush_before) {
    for (uint32_t t = 0; t < phase->taps.size(); ++t) {
        uint32_t first = 0;
        for (uint32_t s = 1; s <= conv.steps_a_tap; ++s) {
            size_t step = static_cast<size_t>(t) * conv.steps_a_tap + s;
            bool flush = step < flush_before.size() && flush_before[step];
            if (s < conv.steps_a_tap && !flush) continue;
            if (!phase->segments.append(Segment{t, first, s - first, flush ? 1u : 0u})) return false;
            first = s;
        }
    }
    return true;
}

// Marks the steps before which the int16 lanes must be widened; false when one step alone can leave int16.
bool prove_flushes(const int8_t* weights, size_t steps, int32_t largest_code, Array<uint8_t>* flush_before) {
    constexpr uint32_t kLanes = 2 * kBlock;
    int32_t positive[kLanes] = {}, negative[kLanes] = {};
    for (size_t s = 0; s < steps; ++s) {
        int32_t p[kLanes], n[kLanes];
        bool fits = true;
        for (uint32_t l = 0; l < kLanes; ++l) {
            int32_t a = weights[s * 2 * kLanes + 2 * l], b = weights[s * 2 * kLanes + 2 * l + 1];
            p[l] = ((a > 0 ? a : 0) + (b > 0 ? b : 0)) * largest_code;
            n[l] = ((a < 0 ? -a : 0) + (b < 0 ? -b : 0)) * largest_code;
            if (p[l] > INT16_MAX || n[l] > INT16_MAX) return false;
            fits = fits && positive[l] + p[l] <= INT16_MAX && negative[l] + n[l] <= INT16_MAX;
        }
        if (!fits) (*flush_before)[s] = 1;
        for (uint32_t l = 0; l < kLanes; ++l) {
            positive[l] = fits ? positive[l] + p[l] : p[l];
            negative[l] = fits ? negative[l] + n[l] : n[l];
        }
    }
    return true;
}

uint64_t block_bytes(const Conv& conv, const Phase& phase) {
    return static_cast<uint64_t>(phase.taps.size()) * conv.steps_a_tap * conv.group * kBlock * conv.element_bytes;
}

// Start values, the int32 bound, and the segments of every block; *narrow becomes false when words are needed.
uq_status prepare_blocks(const uq_model& model, Op* op, bool* narrow) {
    Conv& conv = op->conv;
    const Tensor& input = model.tensors[op->inputs[0]];
    const int64_t largest = input.is_float ? 0 : input.is_signed ? input.code_offset() : input.high();
    Array<int64_t> magnitude;
    Array<int8_t> scratch;
    if (!magnitude.allocate(static_cast<size_t>(conv.blocks) * kBlock) || !scratch.allocate(weight_scratch_bytes(*op)))
        return fail(UQ_NO_MEMORY, "%.80s: no memory to prepare its weights.", op->name);
    for (size_t p = 0; p < conv.phases.size(); ++p) {
        Phase& phase = conv.phases[p];
        const size_t steps = phase.taps.size() * conv.steps_a_tap;
        Array<int8_t> weights;
        phase.segments.clear();
        if (!phase.start.allocate(static_cast<size_t>(conv.blocks) * kBlock) ||
            !phase.first_segment.allocate(conv.blocks + 1) || !weights.allocate(block_bytes(conv, phase)))
            return fail(UQ_NO_MEMORY, "%.80s: no memory to prepare its weights.", op->name);
        for (uint32_t b = 0; b < conv.blocks; ++b) {
            Array<uint8_t> flush_before;
            if (!flush_before.allocate(steps))
                return fail(UQ_NO_MEMORY, "%.80s: no memory to prepare its weights.", op->name);
            if (conv.scheme != Scheme::kFloat && steps > 0) {
                unpack_block(model.kernels, *op, phase, b, weights.data(), scratch.data());
                const auto* words = reinterpret_cast<const int16_t*>(weights.data());
                for (uint32_t o = 0; o < kBlock; ++o) {
                    int64_t sum = 0, size = 0;
                    for (size_t s = 0; s < steps; ++s) {
                        for (uint32_t i = 0; i < conv.group; ++i) {
                            size_t at = (s * kBlock + o) * conv.group + i;
                            int64_t w = conv.scheme == Scheme::kBytes ? weights[at] : words[at];
                            sum += w;
                            size += w < 0 ? -w : w;
                        }
                    }
                    magnitude[b * kBlock + o] += size;
                    if (magnitude[b * kBlock + o] * largest > kInt32Limit)
                        return fail(UQ_DAMAGED,
                                    "%.80s: accumulators may leave int32. Export the model again with fewer bits.",
                                    op->name);
                    phase.start[b * kBlock + o] = static_cast<int32_t>(-sum * input.code_offset());
                }
                if (conv.scheme == Scheme::kBytes && model.kernels.narrow &&
                    !prove_flushes(weights.data(), steps, (1 << input.bits) - 1, &flush_before)) {
                    *narrow = false;
                    return UQ_OK;
                }
            }
            phase.first_segment[b] = static_cast<uint32_t>(phase.segments.size());
            if (!append_segments(&phase, conv, flush_before))
                return fail(UQ_NO_MEMORY, "%.80s: no memory to prepare its weights.", op->name);
        }
        phase.first_segment[conv.blocks] = static_cast<uint32_t>(phase.segments.size());
    }
    return UQ_OK;
}

}  // namespace

uq_status prepare_conv(const uq_model& model, Op* op) {
    if (!make_phases(op)) return fail(UQ_NO_MEMORY, "%.80s: no memory for its taps.", op->name);
    bool is_float = op->weight_kind == kFloat32 || model.tensors[op->inputs[0]].is_float;
    choose_shape(model, op, is_float ? Scheme::kFloat : Scheme::kBytes);
    bool narrow = true;
    uq_status status = prepare_blocks(model, op, &narrow);
    if (status != UQ_OK || narrow) return status;
    choose_shape(model, op, Scheme::kWords);
    return prepare_blocks(model, op, &narrow);
}

uint64_t weight_scratch_bytes(const Op& op) {
    return static_cast<uint64_t>(kBlock) * op.conv.steps_a_tap * op.conv.group;
}

void unpack_block(const Kernels& kernels, const Op& op, const Phase& phase, uint32_t block, void* dst,
                  int8_t* scratch) {
    const Conv& conv = op.conv;
    const uint32_t stride = conv.steps_a_tap * conv.group;
    const uint32_t outputs = used_outputs(op, block);
    const size_t tap_values = static_cast<size_t>(kBlock) * stride;
    const bool float_weights = op.weight_kind == kFloat32;
    if (outputs < kBlock || op.groups > 1) memset(scratch, 0, tap_values);
    if (!float_weights && conv.group_inputs < stride)
        for (uint32_t o = 0; o < kBlock; ++o)
            memset(scratch + o * stride + conv.group_inputs, 0, stride - conv.group_inputs);
    for (size_t t = 0; t < phase.taps.size(); ++t) {
        const uint64_t first = static_cast<uint64_t>(phase.taps[t].index) * conv.group_inputs;
        if (float_weights) {
            auto* out = static_cast<float*>(dst) + t * tap_values;
            memset(out, 0, tap_values * sizeof(float));
            for (uint32_t o = 0; o < outputs; ++o) {
                uint32_t oc = block * kBlock + o;
                uint32_t at = oc / conv.group_outputs * conv.group_inputs - conv.first_channel(block);
                const auto* row =
                    reinterpret_cast<const float*>(op.weights + static_cast<uint64_t>(oc) * op.row_bytes) + first;
                for (uint32_t i = 0; i < conv.group_inputs; ++i) out[(at + i) * kBlock + o] = row[i];
            }
            continue;
        }
        for (uint32_t o = 0; o < outputs; ++o) {
            uint32_t oc = block * kBlock + o;
            uint32_t at = oc / conv.group_outputs * conv.group_inputs - conv.first_channel(block);
            const uint8_t* row = op.weights + static_cast<uint64_t>(oc) * op.row_bytes;
            kernels.unpack_weights(row, first, conv.group_inputs, op.weight_bits, op.weight_kind == kBinary,
                                   scratch + static_cast<size_t>(o) * stride + at);
        }
        if (conv.scheme == Scheme::kBytes) {
            kernels.interleave_w8(scratch, stride, conv.steps_a_tap, static_cast<int8_t*>(dst) + t * tap_values);
        } else if (conv.scheme == Scheme::kWords) {
            auto* out = static_cast<int16_t*>(dst) + t * tap_values;
            for (uint32_t s = 0; s < conv.steps_a_tap; ++s)
                for (uint32_t o = 0; o < kBlock; ++o)
                    for (uint32_t i = 0; i < 2; ++i) *out++ = scratch[static_cast<size_t>(o) * stride + 2 * s + i];
        } else {
            auto* out = static_cast<float*>(dst) + t * tap_values;
            for (uint32_t s = 0; s < conv.steps_a_tap; ++s)
                for (uint32_t o = 0; o < kBlock; ++o) *out++ = scratch[static_cast<size_t>(o) * stride + s];
        }
    }
}

}  // namespace uq
