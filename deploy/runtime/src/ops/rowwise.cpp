// Operations that make accumulators row by row and end in an epilogue: linear upsampling, residual sum, product,
// pointwise.
// With instance norm the rows are made twice, once for the sums and once for the output.
#include "double_bits.h"
#include "dynamic.h"

namespace uq {
namespace {

struct Work {
    void* sums;         // one output row, [pixel][channel], channels padded to 16
    void* codes;        // one finished row: bytes or float32
    uint8_t* bytes[4];  // unpacked input rows
    float* floats[4];   // the same where the input is float32
    void* blended;      // uint16 or float32
    NormSums* norm;     // a block each
    float* gain;
    float* offset;
    float* scaled_gain;  // where an input's grid is dynamic
};

bool float_sums(const uq_model& model, const Op& op) {
    return op.kind == kAdd || model.tensors[op.inputs[0]].is_float || (op.kind == kMul && float_product(model, op));
}

Work carve(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3], Carver* carver) {
    const uint64_t channels = round_up(op.output_channels, kBlock);
    const uint64_t in = product(input[2], channels), out = product(output[2], channels);
    const bool norm = op.epilogue.norm_weight != nullptr;
    const int rows = op.kind == kUpsample ? 4 : op.kind == kAdd || op.kind == kMul ? 2 : 1;
    bool any_float = false, any_codes = false;
    for (uint32_t i = 0; i < op.input_count; ++i) (model.tensors[op.inputs[i]].is_float ? any_float : any_codes) = true;
    Work work = {};
    work.sums = carver->take<int32_t>(out);
    const Tensor& result = model.tensors[op.output];
    work.codes = carver->take<uint8_t>(product(out, result.is_float || result.dynamic ? 4 : 1));
    for (int i = 0; i < rows; ++i) {
        work.bytes[i] = carver->take<uint8_t>(any_codes ? in : 0);
        work.floats[i] = carver->take<float>(any_float ? in : 0);
    }
    work.blended = carver->take<uint8_t>(op.kind == kUpsample ? product(in, any_float ? 4 : 2) : 0);
    work.norm = carver->take<NormSums>(norm ? channels / kBlock : 0);
    work.gain = carver->take<float>(norm ? channels : 0);
    work.offset = carver->take<float>(norm ? channels : 0);
    work.scaled_gain = carver->take<float>(reads_scale(model, op) ? channels : 0);
    return work;
}

// One input row of codes, made non-negative.
void load_codes(Run* run, uint32_t tensor, uint64_t pixel, uint32_t count, uint32_t stride, uint8_t* dst) {
    const Tensor& t = run->model->tensors[tensor];
    load_bytes(run->model->kernels, t, run->row(tensor, pixel, count), t.code_offset(), dst, stride);
}

void load_floats(Run* run, uint32_t tensor, uint64_t pixel, uint32_t count, uint32_t stride, float* dst) {
    const PackedRow row = run->row(tensor, pixel, count);
    for (uint32_t p = 0; p < count; ++p)
        memcpy(dst + static_cast<size_t>(p) * stride, row.data + p * row.pixel_stride, row.channels * sizeof(float));
}

// Two terms of one axis: position and weight. Factor 2 makes 3 * x[i] + x[i -/+ 1]; factor 1 is x[i].
struct Terms {
    uint32_t count;
    uint32_t position[2];
    uint16_t weight[2];
};

Terms terms(uint32_t out, uint32_t factor, uint32_t size) {
    if (factor == 1) return Terms{1, {out, out}, {1, 0}};
    uint32_t i = out / 2;
    uint32_t other = out % 2 ? (i + 1 < size ? i + 1 : i) : (i > 0 ? i - 1 : 0);
    return Terms{2, {i, other}, {3, 1}};
}

// Integers: weights of an axis add up to 4, so an input offset comes out multiplied by 4 for every doubled axis.
void upsample_codes(Run* run, const Op& op, const Work& work, const Terms& d, const Terms& h, const uint32_t in[3],
                    uint32_t stride) {
    const Kernels& kernels = run->model->kernels;
    const uint8_t* rows[4];
    uint16_t weights[4];
    uint32_t count = 0;
    for (uint32_t a = 0; a < d.count; ++a) {
        for (uint32_t b = 0; b < h.count; ++b, ++count) {
            load_codes(run, op.inputs[0], (static_cast<uint64_t>(d.position[a]) * in[1] + h.position[b]) * in[2], in[2],
                       stride, work.bytes[count]);
            rows[count] = work.bytes[count];
            weights[count] = static_cast<uint16_t>(d.weight[a] * h.weight[b]);
        }
    }
    const size_t values = static_cast<size_t>(in[2]) * stride;
    auto* blended = static_cast<uint16_t*>(work.blended);
    kernels.blend_rows(rows, weights, count, values, blended);
    int32_t bias = run->model->tensors[op.inputs[0]].code_offset();
    for (int a = 0; a < 3; ++a) bias *= op.kernel[a] == 2 ? 4 : 1;
    auto* sums = static_cast<int32_t*>(work.sums);
    if (op.kernel[2] == 2)
        kernels.double_row(blended, in[2], stride, bias, sums);
    else
        for (size_t i = 0; i < values; ++i) sums[i] = blended[i] - bias;
}

// Floats, axis by axis: depth, height, width.
void upsample_floats(Run* run, const Op& op, const Work& work, const Terms& d, const Terms& h, const uint32_t in[3],
                     uint32_t stride) {
    const size_t values = static_cast<size_t>(in[2]) * stride;
    for (uint32_t b = 0; b < h.count; ++b) {
        for (uint32_t a = 0; a < d.count; ++a)
            load_floats(run, op.inputs[0], (static_cast<uint64_t>(d.position[a]) * in[1] + h.position[b]) * in[2],
                        in[2], stride, work.floats[2 * b + a]);
        float* row = work.floats[2 * b];
        if (d.count == 2)
            for (size_t i = 0; i < values; ++i) row[i] = 3.0f * row[i] + work.floats[2 * b + 1][i];
    }
    auto* blended = static_cast<float*>(work.blended);
    for (size_t i = 0; i < values; ++i) {
        float here = work.floats[0][i];
        blended[i] = h.count == 2 ? 3.0f * here + work.floats[2][i] : here;
    }
    auto* sums = static_cast<float*>(work.sums);
    if (op.kernel[2] == 1) {
        memcpy(sums, blended, values * sizeof(float));
        return;
    }
    for (uint32_t p = 0; p < in[2]; ++p) {
        const float* here = blended + static_cast<size_t>(p) * stride;
        const float* before = p > 0 ? here - stride : here;
        const float* after = p + 1 < in[2] ? here + stride : here;
        float* out = sums + static_cast<size_t>(p) * 2 * stride;
        for (uint32_t c = 0; c < stride; ++c) {
            out[c] = 3.0f * here[c] + before[c];
            out[stride + c] = 3.0f * here[c] + after[c];
        }
    }
}

// float32(a) * gain[0] + float32(b) * gain[1]: two products and a sum, each rounded.
void add_rows(Run* run, const Op& op, const Work& work, uint64_t pixel, uint32_t count, uint32_t stride) {
    auto* sums = static_cast<float*>(work.sums);
    const size_t values = static_cast<size_t>(count) * stride;
    for (uint32_t k = 0; k < 2; ++k) {
        const Tensor& tensor = run->model->tensors[op.inputs[k]];
        const float gain = op.input_gain[k] * run_scale(*run, op.inputs[k]);
        const int32_t bias = tensor.code_offset();
        if (tensor.is_float)
            load_floats(run, op.inputs[k], pixel, count, stride, work.floats[k]);
        else
            load_codes(run, op.inputs[k], pixel, count, stride, work.bytes[k]);
        for (size_t i = 0; i < values; ++i) {
            float value = tensor.is_float ? work.floats[k][i] : static_cast<float>(work.bytes[k][i] - bias);
            float scaled = value * gain;
            sums[i] = k == 0 ? scaled : sums[i] + scaled;
        }
    }
}

void pointwise_row(Run* run, const Op& op, const Work& work, uint64_t pixel, uint32_t count, uint32_t stride) {
    const Tensor& tensor = run->model->tensors[op.inputs[0]];
    if (tensor.is_float) {
        load_floats(run, op.inputs[0], pixel, count, stride, static_cast<float*>(work.sums));
        return;
    }
    load_codes(run, op.inputs[0], pixel, count, stride, work.bytes[0]);
    auto* sums = static_cast<int32_t*>(work.sums);
    const int32_t bias = tensor.code_offset();
    for (size_t i = 0; i < static_cast<size_t>(count) * stride; ++i) sums[i] = work.bytes[0][i] - bias;
}

void make_sums(Run* run, const Op& op, const Work& work, uint32_t d, uint32_t h, uint32_t stride) {
    const uint32_t* in = run->layout->places[op.inputs[0]].size;
    const uint64_t pixel = (static_cast<uint64_t>(d) * in[1] + h) * in[2];
    if (op.kind == kAdd) return add_rows(run, op, work, pixel, in[2], stride);
    if (op.kind == kMul) return multiply_row(run, op, pixel, in[2], stride, work.bytes, work.floats, work.sums);
    if (op.kind == kPointwise) return pointwise_row(run, op, work, pixel, in[2], stride);
    const Terms depth = terms(d, op.kernel[0], in[0]), height = terms(h, op.kernel[1], in[1]);
    if (run->model->tensors[op.inputs[0]].is_float)
        upsample_floats(run, op, work, depth, height, in, stride);
    else
        upsample_codes(run, op, work, depth, height, in, stride);
}

// The sums of count pixels, channels padded to stride, to codes or float32.
void finish_sums(Run* run, const Op& op, const void* sums, const EpilogueArrays& arrays, uint32_t count,
                 uint32_t stride, void* dst, size_t dst_stride) {
    const Kernels& kernels = run->model->kernels;
    const Target target = run_target(*run, op);
    if (float_sums(*run->model, op))
        kernels.epilogue_f32(static_cast<const float*>(sums), stride, count, stride, arrays, target, dst, dst_stride);
    else
        kernels.epilogue_i32(static_cast<const int32_t*>(sums), stride, count, stride, arrays, target, dst, dst_stride);
}

void finish_row(Run* run, const Op& op, const Work& work, const EpilogueArrays& arrays, uint64_t pixel, uint32_t count,
                uint32_t stride) {
    const Kernels& kernels = run->model->kernels;
    const PackedRow row = run->row(op.output, pixel, count);
    if (op.thresholds.count > 0) {
        kernels.threshold(static_cast<const int32_t*>(work.sums), stride, op.thresholds.from(0), row);
        return;
    }
    finish_sums(run, op, work.sums, arrays, count, stride, work.codes, stride);
    if (!run->model->tensors[op.output].is_float) {
        kernels.store_codes(static_cast<const uint8_t*>(work.codes), stride, row);
        return;
    }
    const auto* values = static_cast<const float*>(work.codes);
    for (uint32_t p = 0; p < count; ++p)
        memcpy(row.data + p * row.pixel_stride, values + static_cast<size_t>(p) * stride, row.channels * sizeof(float));
}

void look_at_row(Run* run, const Op& op, const Work& work, const EpilogueArrays& arrays, uint32_t count,
                 uint32_t stride, Share share) {
    finish_sums(run, op, work.sums, arrays, count, stride, work.codes, stride);
    look(run, share, static_cast<const float*>(work.codes), stride, count, op.output_channels);
}

void normalise(Run* run, const Op& op, const Epilogue& epilogue, const Work& work, const uint32_t out[3],
               uint32_t stride) {
    const bool is_float = float_sums(*run->model, op);
    for (uint32_t b = 0; b < stride / kBlock; ++b) work.norm[b].clear();
    for (uint32_t d = 0; d < out[0]; ++d) {
        for (uint32_t h = 0; h < out[1]; ++h) {
            make_sums(run, op, work, d, h, stride);
            for (uint32_t b = 0; b < stride / kBlock; ++b) {
                NormSums& n = work.norm[b];
                if (is_float)
                    n.add_float(static_cast<const float*>(work.sums) + b * kBlock, stride, out[2]);
                else
                    run->model->kernels.norm_sums(static_cast<const int32_t*>(work.sums) + b * kBlock, stride, out[2],
                                                  n.total, n.high, n.low);
            }
        }
    }
    norm_affine(epilogue, work.norm, 0, op.output_channels, pixels(out), is_float, work.gain, work.offset);
}

}  // namespace

uint64_t rowwise_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]) {
    Carver carver(nullptr);
    carve(model, op, input, output, &carver);
    return carver.used();
}

bool run_rowwise(Run* run, const Op& op, uint8_t* memory, Share share) {
    const uint32_t* out = run->layout->places[op.output].size;
    Carver carver(memory);
    const Work work = carve(*run->model, op, run->layout->places[op.inputs[0]].size, out, &carver);
    const uint32_t stride = round_up(op.output_channels, kBlock);
    const Epilogue epilogue = scaled_epilogue(*run, op, work.scaled_gain);
    EpilogueArrays arrays = epilogue.arrays;
    if (epilogue.norm_weight) {  // every row enters every output: not for several threads
        if (share.part > 0) return true;
        share = Share{0, 1};
        normalise(run, op, epilogue, work, out, stride);
        arrays.gain = work.gain;
        arrays.offset = work.offset;
    }
    const uint64_t rows = static_cast<uint64_t>(out[0]) * out[1];
    for (uint32_t r = share.begin(rows); r < share.end(rows); ++r) {
        const uint64_t pixel = static_cast<uint64_t>(r) * out[2];
        if (doubles_bits(*run->model, op)) {
            const RowPart part = {r / out[1], r % out[1], 0, out[2]};
            double_bits(*run, op, part, run->row(op.output, pixel, out[2]));
        } else {
            make_sums(run, op, work, r / out[1], r % out[1], stride);
            if (run->looking)
                look_at_row(run, op, work, arrays, out[2], stride, share);
            else
                finish_row(run, op, work, arrays, pixel, out[2], stride);
        }
        if (!run->advance(static_cast<uint64_t>(out[2]) * op.output_channels, share)) return false;
    }
    return true;
}

bool makes_rows(const uq_model& model, const Op& op) {
    return op.kind == kUpsample && !model.tensors[op.output].is_float && !op.epilogue.norm_weight &&
           !finds_scale(model, op);
}

uint64_t row_work_bytes(const uq_layout& layout, const Op& op) {
    const uint32_t* in = layout.places[op.inputs[0]].size;
    const uint32_t* out = layout.places[op.output].size;
    if (op.mode == 1) return rowwise_work_bytes(*layout.model, op, in, out);
    Carver carver(nullptr);
    carver.take<uint8_t>(product(in[2], op.output_channels));
    return carver.used();
}

void produce_packed(Run* run, const Op& op, const RowPart& part, const PackedRow& row, uint8_t* bytes,
                    uint8_t* memory) {
    if (doubles_bits(*run->model, op)) return double_bits(*run, op, part, row);
    if (op.thresholds.count == 0) {
        produce_codes(run, op, part, 0, bytes, op.output_channels, memory);
        run->model->kernels.store_codes(bytes, op.output_channels, row);
        return;
    }
    Carver carver(memory);
    const uint32_t channels = round_up(op.output_channels, kBlock);
    const Work work =
        carve(*run->model, op, run->layout->places[op.inputs[0]].size, run->layout->places[op.output].size, &carver);
    make_sums(run, op, work, part.depth, part.row, channels);
    const auto* sums = static_cast<const int32_t*>(work.sums) + static_cast<size_t>(part.column) * channels;
    run->model->kernels.threshold(sums, channels, op.thresholds.from(0), row);
}

void produce_codes(Run* run, const Op& op, const RowPart& part, int32_t offset, uint8_t* dst, size_t stride,
                   uint8_t* memory) {
    const uint32_t* in = run->layout->places[op.inputs[0]].size;
    const uint32_t* out = run->layout->places[op.output].size;
    const uint32_t channels = op.output_channels;
    Carver carver(memory);
    if (op.mode == 0) {  // nearest: a row of codes, each repeated
        auto* row = carver.take<uint8_t>(static_cast<uint64_t>(in[2]) * channels);
        const uint64_t pixel = static_cast<uint64_t>(part.depth / op.kernel[0]) * in[1] + part.row / op.kernel[1];
        load_bytes(run->model->kernels, run->model->tensors[op.inputs[0]], run->row(op.inputs[0], pixel * in[2], in[2]),
                   offset, row, channels);
        for (uint32_t p = 0; p < part.count; ++p)
            memcpy(dst + p * stride, row + static_cast<size_t>((part.column + p) / op.kernel[2]) * channels, channels);
        return;
    }
    const Work work = carve(*run->model, op, in, out, &carver);
    const uint32_t padded_channels = round_up(channels, kBlock);
    make_sums(run, op, work, part.depth, part.row, padded_channels);
    const bool straight = channels == padded_channels;  // else the epilogue would write beyond a pixel's channels
    auto* codes = straight ? dst : static_cast<uint8_t*>(work.codes);
    const size_t codes_stride = straight ? stride : padded_channels;
    const auto* sums = static_cast<const uint32_t*>(work.sums) + static_cast<size_t>(part.column) * padded_channels;
    if (op.thresholds.count > 0) {
        const PackedRow bytes = {codes, codes_stride, part.count, channels, 8};
        run->model->kernels.threshold(reinterpret_cast<const int32_t*>(sums), padded_channels, op.thresholds.from(0),
                                      bytes);
    } else {
        const Epilogue epilogue = scaled_epilogue(*run, op, work.scaled_gain);
        finish_sums(run, op, sums, epilogue.arrays, part.count, padded_channels, codes, codes_stride);
    }
    if (straight && offset == 0) return;
    for (uint32_t p = 0; p < part.count; ++p)
        for (uint32_t c = 0; c < channels; ++c)
            dst[p * stride + c] = static_cast<uint8_t>(codes[p * codes_stride + c] + offset);
}

}  // namespace uq
