// Products of two tensors, the second of which may have one channel for all, or one pixel: attention gates, squeeze and
// excitation. Codes make int32 sums, exactly; where either is float32, both are.
#include "ops.h"

namespace uq {
namespace {

// Where the value that meets channel c of pixel p lies: values[p * pixel_step + c], or for all c values[p *
// pixel_step].
struct Second {
    uint32_t channels;
    uint64_t first;  // its first pixel that is read,
    uint32_t count;  // and how many
    size_t stride;   // of its pixels in the row
    size_t pixel_step;
};

Second second(const Run& run, const Op& op, uint64_t pixel, uint32_t count, uint32_t stride) {
    const uint32_t* size = run.layout->places[op.inputs[1]].size;
    const uint32_t* all = run.layout->places[op.inputs[0]].size;
    const uint32_t channels = run.model->tensors[op.inputs[1]].channels;
    const size_t step = channels == op.output_channels ? stride : 1;
    if (pixels(size) < pixels(all)) return Second{channels, 0, 1, step, 0};
    return Second{channels, pixel, count, step, step};
}

// Codes without what makes them non-negative, or float32.
template <typename Value>
struct Row {
    const Value* values;
    int32_t bias;

    template <typename Sum>
    Sum at(size_t i) const {
        if constexpr (sizeof(Value) == sizeof(uint8_t))
            return static_cast<Sum>(static_cast<int32_t>(values[i]) - bias);
        else
            return values[i];
    }
};

template <typename Sum, typename A, typename B>
void multiply(const Row<A>& a, const Row<B>& b, const Second& other, uint32_t count, uint32_t stride, Sum* sums) {
    const bool each = other.stride == stride;  // else one value for all channels
    for (size_t p = 0; p < count; ++p, sums += stride) {
        const size_t at = p * stride, beside = p * other.pixel_step;
        if (each) {
            for (size_t c = 0; c < stride; ++c) sums[c] = a.template at<Sum>(at + c) * b.template at<Sum>(beside + c);
        } else {
            const Sum factor = b.template at<Sum>(beside);
            for (size_t c = 0; c < stride; ++c) sums[c] = a.template at<Sum>(at + c) * factor;
        }
    }
}

void load(Run* run, uint32_t tensor, uint64_t pixel, uint32_t count, size_t stride, uint8_t* bytes, float* floats) {
    const Tensor& t = run->model->tensors[tensor];
    const PackedRow row = run->row(tensor, pixel, count);
    if (!t.is_float) return load_bytes(run->model->kernels, t, row, t.code_offset(), bytes, stride);
    for (uint32_t p = 0; p < count; ++p)
        memcpy(floats + p * stride, row.data + p * row.pixel_stride, row.channels * sizeof(float));
}

}  // namespace

bool float_product(const uq_model& model, const Op& op) {
    return model.tensors[op.inputs[0]].is_float || model.tensors[op.inputs[1]].is_float;
}

void multiply_row(Run* run, const Op& op, uint64_t pixel, uint32_t count, uint32_t stride, uint8_t* const* bytes,
                  float* const* floats, void* sums) {
    const Tensor& x = run->model->tensors[op.inputs[0]];
    const Tensor& y = run->model->tensors[op.inputs[1]];
    const Second other = second(*run, op, pixel, count, stride);
    load(run, op.inputs[0], pixel, count, stride, bytes[0], floats[0]);
    load(run, op.inputs[1], other.first, other.count, other.stride, bytes[1], floats[1]);
    const Row<uint8_t> a = {bytes[0], x.code_offset()}, b = {bytes[1], y.code_offset()};
    const Row<float> float_a = {floats[0], 0}, float_b = {floats[1], 0};
    auto* reals = static_cast<float*>(sums);
    if (x.is_float && y.is_float)
        multiply(float_a, float_b, other, count, stride, reals);
    else if (x.is_float)
        multiply(float_a, b, other, count, stride, reals);
    else if (y.is_float)
        multiply(a, float_b, other, count, stride, reals);
    else
        multiply(a, b, other, count, stride, static_cast<int32_t*>(sums));
}

}  // namespace uq
