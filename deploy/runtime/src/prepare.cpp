// What a convolution needs once: its phases, and the cheapest scheme that its packed weights prove to be exact, with
// the start values of its sums and its flush points.
//
// Codes enter the kernels as code + entry_offset, so that they are bytes of the kernel's signedness; the padding holds
// the zero-point in the same way, which is the value 0. Every output then sums w * (a + entry_offset) over all taps of
// its phase, border or not, and the start value -entry_offset * sum(w) takes the surplus away exactly. (What a
// zero-point adds is in the epilogue's offset; the bounds hold as it is a code.) Sums may wrap in between:
// they are added modulo 2^32, and the final value is within int32 (checked here).
//
// Winograd: entering codes span s = high - low. A transformed code is a sum of two differences of such, within -2s ...
// 2s, but at position (1, 1), where it is a sum of four, within 4 low ... 4 high. position_offset moves each into a
// byte, which needs 4 s <= 255 (254 where the byte is signed, and symmetric): codes of up to 6 bits. What it adds to
// the sums, position_offset * sum(u), the start values of the position take away; the entry offset is a constant image,
// whose transform is 4 entry_offset at (1, 1) and 0 elsewhere, and position (1, 1) enters all four outputs with +1, so
// that its start value takes away 4 entry_offset * sum(w) as well.
#include <stdio.h>

#include "bits.h"
#include "lookup.h"
#include "prove.h"

namespace uq {
namespace {

constexpr int64_t kInt32Limit = INT32_MAX;
constexpr uint32_t kCentre = 5;  // position (1, 1)

struct Candidate {
    Scheme scheme;
    const ByteConv* kernel;
    double cost;  // of one output pixel, in thousandths of a nanosecond
};

Range codes_of(const Tensor& input) {
    if (input.is_float) return Range{0, 0};
    return input.is_signed ? Range{-(1 << (input.bits - 1)), (1 << (input.bits - 1)) - 1}
                           : Range{0, (1 << input.bits) - 1};
}

int32_t entry_offset(const Tensor& input, const ByteConv* kernel) {
    if (input.is_float) return 0;
    if (!kernel || !kernel->signed_codes) return input.code_offset();
    return !input.is_signed && input.bits == 8 ? -128 : 0;
}

const char* no_winograd(const Op& op, const Tensor& input) {
    if (op.mode == 1) return "transposed";
    if (op.groups > 1) return "grouped";
    bool plane = op.kernel[1] == 3 && op.kernel[2] == 3 && op.kernel[0] * op.dilation[0] < 64;
    for (int a = 0; a < 3; ++a) plane = plane && op.stride[a] == 1 && (a == 0 || op.dilation[a] == 1);
    if (!plane) return "not 3x3 with stride 1";
    return input.bits > 6 ? "codes of more than 6 bits" : nullptr;
}

// Few input channels would leave most of a step empty: all taps of a pixel then become the channels of one.
bool wants_patches(const Op& op, const Conv& conv) {
    const uint64_t taps = static_cast<uint64_t>(op.kernel[0]) * op.kernel[1] * op.kernel[2];
    if (op.mode == 1 || op.groups > 1 || taps == 1 || conv.scheme == Scheme::kFloat) return false;
    if (conv.scheme == Scheme::kWinograd || conv.scheme == Scheme::kLookup) return false;
    if (conv.input_channels > 4 || taps * conv.input_channels > kMaxPatchTaps) return false;
    return round_up(static_cast<uint32_t>(taps) * conv.input_channels, conv.group) <
           taps * round_up(conv.input_channels, conv.group);
}

void choose_shape(const uq_model& model, Op* op, const Candidate& candidate) {
    Conv& conv = op->conv;
    const Tensor& input = model.tensors[op->inputs[0]];
    conv.scheme = candidate.scheme;
    conv.kernel = candidate.kernel;
    conv.depthwise = conv.kernel && conv.kernel == model.kernels.depthwise;
    conv.element_bytes = candidate.kernel ? 1 : candidate.scheme == Scheme::kWords ? 2 : 4;
    conv.group = candidate.kernel ? candidate.kernel->group : 4 / conv.element_bytes;
    if (conv.scheme == Scheme::kLookup) conv.group = kLookupGroup;
    conv.form = kBitXor;
    conv.lookup = choose_lookup_form(*op, input);
    conv.entry_offset = entry_offset(input, candidate.kernel);
    conv.input_channels = 0;
    for (uint32_t i = 0; i < op->input_count; ++i) conv.input_channels += model.tensors[op->inputs[i]].channels;
    conv.group_inputs = conv.input_channels / op->groups;
    conv.group_outputs = op->output_channels / op->groups;
    conv.blocks = (op->output_channels + kBlock - 1) / kBlock;
    if (conv.scheme == Scheme::kBits) return choose_bit_shape(model, op);
    conv.patches = wants_patches(*op, conv);
    conv.window_channels = conv.patches ? conv.input_channels : round_up(conv.input_channels, conv.group);
    conv.padded_channels = conv.window_channels;
    if (conv.patches) {
        const uint32_t taps = static_cast<uint32_t>(conv.phases[0].taps.size());
        conv.padded_channels = round_up(taps * conv.input_channels, conv.group);
        conv.steps_a_tap = conv.padded_channels / conv.group;
        return;
    }
    if (conv.depthwise) {
        conv.steps_a_tap = 1;
        return;
    }
    uint32_t widest = 0;
    for (uint32_t b = 0; b < conv.blocks; ++b) {
        const uint32_t width = conv.block_inputs(b, op->output_channels);
        if (width > widest) widest = width;
    }
    conv.steps_a_tap = (widest + conv.group - 1) / conv.group;
    if (conv.scheme != Scheme::kWinograd) return;
    const Range codes = codes_of(input);
    const int32_t low = codes.low + conv.entry_offset, high = codes.high + conv.entry_offset;
    for (uint32_t p = 0; p < kPositions; ++p) {
        int32_t offset = conv.kernel->signed_codes ? 0 : 2 * (high - low);
        if (p == kCentre) offset = conv.kernel->signed_codes ? -2 * (low + high) : -4 * low;
        conv.position_offset[p] = static_cast<uint8_t>(offset);
    }
}

// Of one output pixel, without flushes.
double nominal_cost(const uq_model& model, const Op& op) {
    const Conv& conv = op.conv;
    if (conv.scheme == Scheme::kBits) return bit_cost(*model.kernels.bit_conv, conv);
    if (conv.scheme == Scheme::kLookup) return lookup_cost(*model.kernels.lookup_conv, conv);
    const double outputs = static_cast<double>(conv.blocks) * kBlock;
    const double inputs = static_cast<double>(conv.steps_a_tap) * conv.group;
    double taps = 0;
    for (size_t p = 0; p < conv.phases.size(); ++p) taps += conv.kernel_taps(conv.phases[p]);
    taps /= static_cast<double>(conv.phases.size());
    const double products = taps * inputs * outputs;
    if (conv.scheme != Scheme::kWinograd) return products * conv.kernel->mac_cost;
    const double transforms = inputs * model.kernels.winograd_input_cost * static_cast<double>(op.kernel[0]) +
                              outputs * model.kernels.winograd_output_cost;
    return kPositions / 4.0 * (products * conv.kernel->mac_cost + transforms);
}

bool append_segments(Phase* phase, uint32_t taps, uint32_t steps_a_tap, const uint8_t* flush_before) {
    for (uint32_t t = 0; t < taps; ++t) {
        uint32_t first = 0;
        for (uint32_t s = 1; s <= steps_a_tap; ++s) {
            const size_t step = static_cast<size_t>(t) * steps_a_tap + s;
            const bool flush = step < static_cast<size_t>(taps) * steps_a_tap && flush_before[step];
            if (s < steps_a_tap && !flush) continue;
            if (!phase->segments.append(Segment{t, first, s - first, flush ? 1u : 0u})) return false;
            first = s;
        }
    }
    return true;
}

// Sums of the weights, and of their magnitudes, of each output channel of a part.
struct WeightSums {
    int64_t sum[kBlock];
    int64_t size[kBlock];
};

template <typename Element>
WeightSums sum_weights(const Element* weights, size_t steps, uint32_t group) {
    WeightSums sums = {};
    for (size_t s = 0; s < steps; ++s)
        for (uint32_t o = 0; o < kBlock; ++o)
            for (uint32_t i = 0; i < group; ++i, ++weights) {
                sums.sum[o] += *weights;
                sums.size[o] += *weights < 0 ? -*weights : *weights;
            }
    return sums;
}

uq_status no_memory(const Op& op) {
    return fail(UQ_NO_MEMORY, "%.80s: no memory to prepare its weights. Free some first.", op.name);
}

// The weights of one block at the taps of one phase, as the scheme wants them.
struct Unpacked {
    Array<int8_t> weights;
    Array<int8_t> scratch;
    Array<uint8_t> flush_before;
};

// Start values and segments of all parts of a block. *holds becomes false where the scheme is not exact.
uq_status prepare_block(const uq_model& model, Op* op, Phase* phase, uint32_t block, Unpacked* unpacked, bool* holds,
                        double* cost) {
    Conv& conv = op->conv;
    const Tensor& input = model.tensors[op->inputs[0]];
    const Range codes = codes_of(input);
    const uint32_t taps = conv.kernel_taps(*phase);
    const size_t steps = static_cast<size_t>(taps) * conv.steps_a_tap;
    const bool winograd = conv.scheme == Scheme::kWinograd;
    if (conv.scheme == Scheme::kBits) {
        if (taps == 0) return UQ_OK;
        auto* weights = reinterpret_cast<uint32_t*>(unpacked->weights.data());
        unpack_bit_block(*op, *phase, block, weights);
        bit_start(*op, *phase, weights, &phase->start[block * kBlock]);
        return UQ_OK;
    }
    if (conv.scheme == Scheme::kLookup) {
        if (steps > 0)
            lookup_start(model.kernels, *op, *phase, block, unpacked->scratch.data(), &phase->start[block * kBlock]);
        const uint32_t capacity = lookup_capacity(conv.lookup, input);
        for (size_t s = 0; s < steps; ++s) unpacked->flush_before[s] = s % capacity == 0;
        phase->first_segment[block] = static_cast<uint32_t>(phase->segments.size());
        if (!append_segments(phase, taps, conv.steps_a_tap, unpacked->flush_before.data())) return no_memory(*op);
        const double flushes = static_cast<double>((steps + capacity - 1) / capacity);
        *cost +=
            flushes * static_cast<double>(model.kernels.lookup_conv->forms[conv.lookup].flush_cost) * 1000 * kBlock;
        return UQ_OK;
    }
    Range entering = {codes.low + conv.entry_offset, codes.high + conv.entry_offset};
    const int32_t span = entering.high - entering.low;
    if (winograd) entering = conv.kernel->signed_codes ? Range{-2 * span, 2 * span} : Range{0, 4 * span};
    if (steps > 0 && conv.scheme != Scheme::kFloat)
        unpack_block(model.kernels, *op, *phase, block, unpacked->weights.data(), unpacked->scratch.data());
    if (winograd && !transformed_weights_fit(unpacked->scratch.data() + conv.steps_a_tap * conv.step_bytes(),
                                             conv.part_bytes(*phase))) {
        *holds = false;
        return UQ_OK;
    }
    for (uint32_t part = 0; part < conv.parts(); ++part) {
        const int8_t* weights = unpacked->weights.data() + part * conv.part_bytes(*phase);
        int32_t* start = &phase->start[(static_cast<size_t>(block) * conv.parts() + part) * kBlock];
        if (steps > 0 && conv.scheme != Scheme::kFloat) {
            const WeightSums sums = conv.scheme == Scheme::kWords
                                        ? sum_weights(reinterpret_cast<const int16_t*>(weights), steps, conv.group)
                                        : sum_weights(weights, steps, conv.group);
            const int32_t offset = !winograd                   ? conv.entry_offset
                                   : conv.kernel->signed_codes ? static_cast<int8_t>(conv.position_offset[part])
                                                               : conv.position_offset[part];
            const int64_t entry = part == kCentre && winograd ? 4 * static_cast<int64_t>(conv.entry_offset) : 0;
            for (uint32_t o = 0; o < kBlock; ++o)
                start[o] = static_cast<int32_t>(static_cast<uint32_t>(-sums.sum[o] * (offset + entry)));
            memset(unpacked->flush_before.data(), 0, steps);
            if (conv.kernel && !prove_flushes(*conv.kernel, weights, steps, entering, unpacked->flush_before.data())) {
                *holds = false;
                return UQ_OK;
            }
        }
        const size_t before = phase->segments.size();
        phase->first_segment[block * conv.parts() + part] = static_cast<uint32_t>(before);
        if (!append_segments(phase, taps, conv.steps_a_tap, unpacked->flush_before.data())) return no_memory(*op);
        if (!conv.kernel || conv.kernel->lane_bits == 32) continue;
        for (size_t i = before; i < phase->segments.size(); ++i)
            if (phase->segments[i].flush || i + 1 == phase->segments.size())
                *cost += conv.kernel->flush_cost * 1000.0 * kBlock / (winograd ? 4.0 : 1.0);
    }
    return UQ_OK;
}

uq_status prepare_blocks(const uq_model& model, Op* op, bool* holds, double* cost) {
    Conv& conv = op->conv;
    double flushes = 0;
    *holds = true;
    for (size_t p = 0; p < conv.phases.size(); ++p) {
        Phase& phase = conv.phases[p];
        const size_t parts = static_cast<size_t>(conv.blocks) * conv.parts();
        const size_t steps = static_cast<size_t>(conv.kernel_taps(phase)) * conv.steps_a_tap;
        Unpacked unpacked;
        phase.segments.clear();
        if (!phase.start.allocate(parts * kBlock) || !phase.first_segment.allocate(parts + 1) ||
            !unpacked.weights.allocate(conv.block_bytes(phase)) ||
            !unpacked.scratch.allocate(weight_scratch_bytes(*op)) || !unpacked.flush_before.allocate(steps + 1))
            return no_memory(*op);
        for (uint32_t b = 0; b < conv.blocks; ++b) {
            uq_status status = prepare_block(model, op, &phase, b, &unpacked, holds, &flushes);
            if (status != UQ_OK || !*holds) return status;
        }
        phase.first_segment[parts] = static_cast<uint32_t>(phase.segments.size());
    }
    *cost += flushes / static_cast<double>(conv.phases.size());
    return UQ_OK;
}

// Final sums are within int32 whatever the input: its largest magnitude times the weights of a channel.
uq_status check_sums(const uq_model& model, const Op& op, bool* four_times) {
    const Conv& conv = op.conv;
    const Tensor& input = model.tensors[op.inputs[0]];
    const int64_t largest = input.is_signed ? input.code_offset() : input.high();
    const uint64_t count = static_cast<uint64_t>(op.kernel[0]) * op.kernel[1] * op.kernel[2] * conv.group_inputs;
    constexpr uint32_t kChunk = 256;
    int8_t weights[kChunk];
    for (uint32_t oc = 0; oc < op.output_channels; ++oc) {
        int64_t size = 0;
        for (uint64_t first = 0; first < count; first += kChunk) {
            const uint32_t n = count - first < kChunk ? static_cast<uint32_t>(count - first) : kChunk;
            model.kernels.unpack_weights(op.weights + static_cast<uint64_t>(oc) * op.row_bytes, first, n,
                                         op.weight_bits, op.levels, weights);
            for (uint32_t i = 0; i < n; ++i) size += weights[i] < 0 ? -weights[i] : weights[i];
        }
        if (size * largest > kInt32Limit)
            return fail(UQ_DAMAGED, "%.80s: accumulators may leave int32. Export the model again with fewer bits.",
                        op.name);
        if (4 * size * largest > kInt32Limit) *four_times = false;
    }
    return UQ_OK;
}

// Keeps the list sorted, the nominally cheapest first.
bool add_candidate(const uq_model& model, Op* op, Candidate candidate, const char* name, Array<Candidate>* list) {
    choose_shape(model, op, candidate);
    candidate.cost = nominal_cost(model, *op);
    if (model.forced_scheme && strcmp(model.forced_scheme, name) != 0) candidate.cost *= 1e6;
    if (!list->append(candidate)) return false;
    for (size_t i = list->size() - 1; i > 0 && (*list)[i].cost < (*list)[i - 1].cost; --i) {
        const Candidate other = (*list)[i];
        (*list)[i] = (*list)[i - 1];
        (*list)[i - 1] = other;
    }
    return true;
}

bool list_candidates(const uq_model& model, Op* op, bool winograd, bool bits, bool lookup, Array<Candidate>* list) {
    for (uint32_t k = 0; k < model.kernels.byte_conv_count; ++k) {
        const ByteConv* kernel = &model.kernels.byte_convs[k];
        if (!add_candidate(model, op, Candidate{Scheme::kBytes, kernel, 0}, "direct", list)) return false;
        if (winograd && !add_candidate(model, op, Candidate{Scheme::kWinograd, kernel, 0}, "winograd", list))
            return false;
    }
    // Its weights lie otherwise, which choose_shape sees by the kernel.
    if (op->conv.group_inputs == 1 && op->conv.group_outputs == 1 && op->groups > 1 &&
        !add_candidate(model, op, Candidate{Scheme::kBytes, model.kernels.depthwise, 0}, "direct", list))
        return false;
    if (lookup && !add_candidate(model, op, Candidate{Scheme::kLookup, nullptr, 0}, "lookup", list)) return false;
    return !bits || add_candidate(model, op, Candidate{Scheme::kBits, nullptr, 0}, "bits", list);
}

const char* reason(const uq_model& model, Scheme scheme, const char* no_winograd) {
    if (scheme == Scheme::kWords) return "one step of 8-bit products can leave every narrow lane";
    if (scheme == Scheme::kWinograd) return "3x3 with stride 1, and its transforms fit bytes";
    if (scheme == Scheme::kBits) return "few bits: cheapest counted one against one";
    if (scheme == Scheme::kLookup) return "few bits: cheapest looked up, four products at a time";
    if (no_winograd) return no_winograd;
    return model.forced_scheme ? "UNETQ_SCHEME asks for it" : "cheaper than transforming this few channels";
}

}  // namespace

uq_status prepare_conv(const uq_model& model, Op* op) {
    if (!make_phases(op)) return fail(UQ_NO_MEMORY, "%.80s: no memory for its taps. Free some first.", op->name);
    const Tensor& input = model.tensors[op->inputs[0]];
    bool holds = false;
    double cost = 0;
    if (op->weight_kind == kFloat32 || input.is_float) {
        choose_shape(model, op, Candidate{Scheme::kFloat, nullptr, 0});
        op->conv.reason = "float32 weights or input";
        return prepare_blocks(model, op, &holds, &cost);
    }
    bool four_times = true;
    choose_shape(model, op, Candidate{Scheme::kBytes, model.kernels.byte_convs, 0});
    uq_status status = check_sums(model, *op, &four_times);
    if (status != UQ_OK) return status;
    const char* obstacle = no_winograd(*op, input);
    if (!obstacle && !four_times) obstacle = "four times its sums leave int32";
    Array<Candidate> candidates;
    if (!list_candidates(model, op, !obstacle, !no_bits(*op, input), !no_lookup(*op, input), &candidates))
        return no_memory(*op);
    Candidate best = {Scheme::kWords, nullptr, 0};
    bool prepared = false;
    for (size_t i = 0; i < candidates.size(); ++i) {
        Candidate candidate = candidates[i];
        const bool found = best.scheme != Scheme::kWords;
        if (found && candidate.cost >= best.cost) break;
        choose_shape(model, op, candidate);
        status = prepare_blocks(model, op, &holds, &candidate.cost);
        if (status != UQ_OK) return status;
        prepared = false;
        if (!holds && candidate.scheme == Scheme::kWinograd && !obstacle)
            obstacle = "its transformed weights leave a lane";
        if (!holds || (found && candidate.cost >= best.cost)) continue;
        best = candidate;
        prepared = true;
    }
    if (!prepared) {
        choose_shape(model, op, best);
        status = prepare_blocks(model, op, &holds, &cost);
    }
    op->conv.reason = reason(model, best.scheme, obstacle);
    return status;
}

}  // namespace uq
