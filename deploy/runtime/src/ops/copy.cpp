// Operations that only move codes: padding, nearest upsampling, and a concat that no convolution absorbed.
#include "ops.h"

namespace uq {
namespace {

uint8_t* carve(const uq_model& model, const Op& op, const uint32_t output[3], Carver* carver) {
    bool codes = op.kind == kConcat && !model.tensors[op.output].is_float;
    return carver->take<uint8_t>(codes ? product(output[2], op.output_channels) : 0);
}

// A byte of codes of the value 0 (of float32: of zeros).
uint8_t zero_byte(const Tensor& tensor) {
    uint32_t byte = 0;
    for (uint32_t at = 0; at < 8; at += tensor.storage_bits) byte |= static_cast<uint32_t>(tensor.zero_point) << at;
    return static_cast<uint8_t>(byte);
}

void pad_row(Run* run, const Op& op, const uint32_t in[3], uint32_t d, uint32_t h, const PackedRow& out) {
    const bool replicate = op.mode == 1;
    const uint8_t zero = zero_byte(run->model->tensors[op.output]);
    const uint32_t at[2] = {d, h};
    uint32_t from[2];
    bool outside = false;
    for (int a = 0; a < 2; ++a) {
        int64_t position = static_cast<int64_t>(at[a]) - op.before[a];
        if (position < 0 || position >= in[a]) outside = true;
        from[a] = static_cast<uint32_t>(position < 0 ? 0 : position >= in[a] ? in[a] - 1 : position);
    }
    const size_t pixel = out.pixel_stride;
    if (outside && !replicate) {
        memset(out.data, zero, pixel * out.pixels);
        return;
    }
    const uint8_t* src = run->row(op.inputs[0], (static_cast<uint64_t>(from[0]) * in[1] + from[1]) * in[2], in[2]).data;
    uint8_t* dst = out.data;
    for (uint32_t x = 0; x < op.before[2]; ++x, dst += pixel)
        replicate ? memcpy(dst, src, pixel) : memset(dst, zero, pixel);
    memcpy(dst, src, pixel * in[2]);
    dst += pixel * in[2];
    const uint8_t* last = src + pixel * (in[2] - 1);
    for (int32_t x = 0; x < op.after[2]; ++x, dst += pixel)
        replicate ? memcpy(dst, last, pixel) : memset(dst, zero, pixel);
}

void nearest_row(Run* run, const Op& op, const uint32_t in[3], uint32_t d, uint32_t h, const PackedRow& out) {
    const uint64_t pixel = (static_cast<uint64_t>(d / op.kernel[0]) * in[1] + h / op.kernel[1]) * in[2];
    const uint8_t* src = run->row(op.inputs[0], pixel, in[2]).data;
    uint8_t* dst = out.data;
    for (uint32_t x = 0; x < in[2]; ++x, src += out.pixel_stride)
        for (uint32_t k = 0; k < op.kernel[2]; ++k, dst += out.pixel_stride) memcpy(dst, src, out.pixel_stride);
}

// Inputs of fewer than 8 bits need not start at a byte, so their codes pass through bytes.
void concat_row(Run* run, const Op& op, uint64_t pixel, uint8_t* bytes, const PackedRow& out) {
    uint32_t channel = 0;
    for (uint32_t i = 0; i < op.input_count; ++i) {
        const Tensor& tensor = run->model->tensors[op.inputs[i]];
        const PackedRow row = run->row(op.inputs[i], pixel, out.pixels);
        if (tensor.is_float)
            for (uint32_t p = 0; p < out.pixels; ++p)
                memcpy(out.data + p * out.pixel_stride + channel * sizeof(float), row.data + p * row.pixel_stride,
                       row.pixel_stride);
        else
            load_bytes(run->model->kernels, tensor, row, 0, bytes + channel, op.output_channels);
        channel += tensor.channels;
    }
    if (!run->model->tensors[op.output].is_float) run->model->kernels.store_codes(bytes, op.output_channels, out);
}

}  // namespace

uint64_t copy_work_bytes(const uq_model& model, const Op& op, const uint32_t output[3]) {
    Carver carver(nullptr);
    carve(model, op, output, &carver);
    return carver.used();
}

bool run_copy(Run* run, const Op& op, uint8_t* memory, Share share) {
    const uint32_t* in = run->layout->places[op.inputs[0]].size;
    const uint32_t* out = run->layout->places[op.output].size;
    Carver carver(memory);
    uint8_t* bytes = carve(*run->model, op, out, &carver);
    const uint64_t rows = static_cast<uint64_t>(out[0]) * out[1];
    for (uint32_t r = share.begin(rows); r < share.end(rows); ++r) {
        const uint32_t d = r / out[1], h = r % out[1];
        const uint64_t pixel = static_cast<uint64_t>(r) * out[2];
        const PackedRow row = run->row(op.output, pixel, out[2]);
        if (op.kind == kPad)
            pad_row(run, op, in, d, h, row);
        else if (op.kind == kUpsample)
            nearest_row(run, op, in, d, h, row);
        else
            concat_row(run, op, pixel, bytes, row);
        if (!run->advance(static_cast<uint64_t>(out[2]) * op.output_channels, share)) return false;
    }
    return true;
}

}  // namespace uq
