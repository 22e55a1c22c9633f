// An epilogue is a chain of operations each of which is monotone in its operand: conversion to float32, products with
// constants, sums with constants, a slope that is not negative below 0, saturation, and all the roundings in between.
// So is the whole, as long as nothing overflows to infinity (whose products with 0 are NaN). A result of b bits is then
// told by 2^b - 1 thresholds, found by bisection of the epilogue itself: the result is the same to the last bit.
#include "thresholds.h"

#include <math.h>

#include "ops/dynamic.h"

namespace uq {
namespace {

constexpr uint32_t kMostBits = 2;

// The chain stays finite at both ends, and so in between.
bool finite_chain(const EpilogueArrays& arrays, const Target& target, uint32_t c) {
    constexpr int32_t kEnds[] = {INT32_MIN, INT32_MAX};
    for (int32_t sum : kEnds) {
        float y = static_cast<float>(sum) * arrays.gain[c];
        if (!isfinite(y)) return false;
        y = y + arrays.offset[c];
        if (!isfinite(y)) return false;
        if (arrays.slope) y = y > 0.0f ? y : y * arrays.slope[c];
        if (!isfinite(y)) return false;
        if (arrays.gain2) {
            y = y * arrays.gain2[c];
            if (!isfinite(y)) return false;
            y = y + arrays.offset2[c];
        }
        if (!isfinite(y) || !isfinite(y * target.inverse_scale)) return false;
    }
    return true;
}

bool monotone(const Op& op, const Target& target) {
    const EpilogueArrays& arrays = op.epilogue.arrays;
    for (uint32_t c = 0; c < op.output_channels; ++c) {
        if (arrays.slope && arrays.slope[c] < 0.0f) return false;
        if (!finite_chain(arrays, target, c)) return false;
    }
    return true;
}

bool integer_sums(const uq_model& model, const Op& op) {
    if (op.epilogue.norm_weight || model.tensors[op.inputs[0]].is_float) return false;
    if (model.tensors[op.output].dynamic || reads_scale(model, op)) return false;  // nothing to bisect before a run
    if (op.kind == kConv) return op.conv.scheme != Scheme::kFloat;
    if (op.kind == kMul) return !model.tensors[op.inputs[1]].is_float;
    return op.kind == kPointwise || (op.kind == kUpsample && op.mode == 1);
}

EpilogueArrays from(const EpilogueArrays& arrays, uint32_t c) {
    auto at = [c](const float* array) { return array ? array + c : nullptr; };
    return {at(arrays.gain), at(arrays.offset), at(arrays.slope), at(arrays.gain2), at(arrays.offset2)};
}

// Codes of 16 channels for a sum each.
struct Codes {
    const uq_model& model;
    const EpilogueArrays arrays;
    const Target target;

    void of(const int32_t sums[kBlock], int32_t codes[kBlock]) const {
        uint8_t bytes[kBlock];
        model.kernels.epilogue_i32(sums, kBlock, 1, kBlock, arrays, target, bytes, kBlock);
        for (uint32_t o = 0; o < kBlock; ++o)
            codes[o] = target.low < 0.0f ? static_cast<int8_t>(bytes[o]) : static_cast<int32_t>(bytes[o]);
    }
};

// Sums reach from -INT32_MAX to INT32_MAX: above INT32_MIN is always, above INT32_MAX never.
void find_thresholds(const Codes& codes, uint32_t count, size_t stride, int32_t* above, uint8_t* first,
                     uint8_t* falling) {
    int32_t sums[kBlock], lowest[kBlock], highest[kBlock], here[kBlock];
    for (int32_t& sum : sums) sum = -INT32_MAX;
    codes.of(sums, lowest);
    for (int32_t& sum : sums) sum = INT32_MAX;
    codes.of(sums, highest);
    for (uint32_t o = 0; o < kBlock; ++o) {
        first[o] = static_cast<uint8_t>(lowest[o]);
        falling[o] = highest[o] < lowest[o] ? 255 : 0;
    }
    for (uint32_t level = 1; level <= count; ++level, above += stride) {
        int64_t low[kBlock], high[kBlock];  // the first sum beyond the threshold is in (low, high]
        for (uint32_t o = 0; o < kBlock; ++o) {
            low[o] = INT32_MIN;
            high[o] = int64_t{INT32_MAX} + 1;
        }
        for (int bit = 0; bit < 33; ++bit) {
            for (uint32_t o = 0; o < kBlock; ++o) {
                const int64_t middle = low[o] + (high[o] - low[o]) / 2;
                sums[o] = static_cast<int32_t>(middle < INT32_MAX ? middle : INT32_MAX);
            }
            codes.of(sums, here);
            for (uint32_t o = 0; o < kBlock; ++o) {
                if (high[o] - low[o] == 1) continue;
                const int32_t steps = falling[o] ? lowest[o] - here[o] : here[o] - lowest[o];
                (steps >= static_cast<int32_t>(level) ? high : low)[o] = sums[o];
            }
        }
        for (uint32_t o = 0; o < kBlock; ++o) above[o] = static_cast<int32_t>(high[o] - 1);
    }
}

}  // namespace

uq_status prepare_thresholds(const uq_model& model, Op* op) {
    const Tensor& output = model.tensors[op->output];
    if (output.is_float || output.bits > kMostBits || !op->has_epilogue || !integer_sums(model, *op)) return UQ_OK;
    Target target = output.target();
    if (op->saturates_at_zero) target.low = 0.0f;
    if (!monotone(*op, target)) return UQ_OK;
    ThresholdTable& table = op->thresholds;
    table.stride = round_up(op->output_channels, kBlock);
    const uint32_t count = (1u << output.bits) - 1;
    if (!table.above.allocate(count * table.stride) || !table.first.allocate(table.stride) ||
        !table.falling.allocate(table.stride))
        return fail(UQ_NO_MEMORY, "%.80s: no memory for its thresholds.", op->name);
    table.count = count;
    for (uint32_t c = 0; c < op->output_channels; c += kBlock)
        find_thresholds({model, from(op->epilogue.arrays, c), target}, count, table.stride, &table.above[c],
                        &table.first[c], &table.falling[c]);
    table.uniform = true;
    for (uint32_t c = 1; c < op->output_channels; ++c) {
        table.uniform = table.uniform && table.first[c] == table.first[0];
        for (uint32_t l = 0; l < count; ++l)
            table.uniform = table.uniform && table.above[l * table.stride + c] == table.above[l * table.stride];
    }
    return UQ_OK;
}

}  // namespace uq
