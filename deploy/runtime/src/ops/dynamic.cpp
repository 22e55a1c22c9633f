#include "dynamic.h"

namespace uq {
namespace {

constexpr uint32_t kInfinity = 0x7f800000, kMagnitude = 0x7fffffff;

bool keeps_grid(const Op& op) {
    return op.kind == kMaxPool || op.kind == kPad || op.kind == kConcat || (op.kind == kUpsample && op.mode == 0);
}

// Magnitudes are ordered as the integers that they are made of are; NaN is none.
uint32_t largest_of(const float* values, size_t count, uint32_t largest) {
    int32_t most = static_cast<int32_t>(largest);
    for (size_t i = 0; i < count; ++i) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        int32_t magnitude = static_cast<int32_t>(bits & kMagnitude);
        magnitude = magnitude > static_cast<int32_t>(kInfinity) ? 0 : magnitude;
        most = magnitude > most ? magnitude : most;
    }
    return static_cast<uint32_t>(most);
}

}  // namespace

Scales carve_scales(const uq_layout& layout, Carver* carver) {
    bool any = false;
    for (size_t t = 0; t < layout.places.size(); ++t) any = any || layout.model->tensors[t].dynamic;
    Scales scales;
    scales.of = carver->take<float>(any ? layout.places.size() : 0);
    scales.largest = carver->take<uint32_t>(any ? layout.threads : 0);
    return scales;
}

uint64_t scales_bytes(const uq_layout& layout) {
    Carver carver(nullptr);
    carve_scales(layout, &carver);
    return carver.used();
}

bool finds_scale(const uq_model& model, const Op& op) {
    return model.tensors[op.output].dynamic && !keeps_grid(op);
}

bool reads_scale(const uq_model& model, const Op& op) {
    if (!op.has_epilogue || op.kind == kAdd) return false;  // a sum has gains of its inputs
    for (uint32_t i = 0; i < op.input_count; ++i)
        if (model.tensors[op.inputs[i]].dynamic) return true;
    return false;
}

float run_scale(const Run& run, uint32_t tensor) {
    const uq_model& model = *run.model;
    if (!model.tensors[tensor].dynamic) return 1.0f;
    const auto& maker = run.layout->maker;
    while (keeps_grid(model.ops[maker[tensor]])) tensor = model.ops[maker[tensor]].inputs[0];
    return run.scales.of[tensor];
}

Target run_target(const Run& run, const Op& op) {
    const Tensor& tensor = run.model->tensors[op.output];
    Target target = tensor.target();
    if (!tensor.dynamic) return target;
    if (run.looking)
        target.is_float = true;
    else
        target.inverse_scale = 1.0f / run_scale(run, op.output);
    return target;
}

Epilogue scaled_epilogue(const Run& run, const Op& op, float* gains) {
    Epilogue epilogue = op.epilogue;
    if (!reads_scale(*run.model, op)) return epilogue;
    for (uint32_t c = 0; c < round_up(op.output_channels, kBlock); ++c)
        gains[c] = c < op.output_channels ? epilogue.arrays.gain[c] : 0.0f;
    for (uint32_t i = 0; i < op.input_count; ++i) {
        if (!run.model->tensors[op.inputs[i]].dynamic) continue;
        const float scale = run_scale(run, op.inputs[i]);
        for (uint32_t c = 0; c < op.output_channels; ++c) gains[c] = gains[c] * scale;
    }
    epilogue.arrays.gain = gains;
    return epilogue;
}

void look(Run* run, Share share, const float* values, size_t stride, uint64_t pixels, uint32_t channels) {
    uint32_t largest = run->scales.largest[share.part];
    if (stride == channels)
        largest = largest_of(values, pixels * channels, largest);
    else
        for (uint64_t p = 0; p < pixels; ++p) largest = largest_of(values + p * stride, channels, largest);
    run->scales.largest[share.part] = largest;
}

void start_looking(Run* run) {
    run->looking = true;
    memset(run->scales.largest, 0, run->layout->threads * sizeof(uint32_t));
}

void stop_looking(Run* run, const Op& op) {
    run->looking = false;
    uint32_t largest = 0;
    for (uint32_t t = 0; t < run->layout->threads; ++t)
        if (run->scales.largest[t] > largest) largest = run->scales.largest[t];
    float value;
    memcpy(&value, &largest, sizeof value);
    const float scale = value / static_cast<float>(run->model->tensors[op.output].high());
    run->scales.of[op.output] = scale >= 0x1p-126f && scale <= 0x1p126f ? scale : 1.0f;
}

}  // namespace uq
