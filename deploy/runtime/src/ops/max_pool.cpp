// Maximum over windows that are cut at the border, so that padding never wins.
#include "ops.h"

namespace uq {
namespace {

struct Work {
    void* row;    // one input row, [pixel][channel]: bytes made non-negative, or float32
    void* tall;   // maximum over the window's rows
    void* codes;  // one output row
};

Work carve(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3], Carver* carver) {
    const uint64_t value = model.tensors[op.output].is_float ? 4 : 1;
    Work work;
    work.row = carver->take<uint8_t>(product(product(input[2], op.output_channels), value));
    work.tall = carver->take<uint8_t>(product(product(input[2], op.output_channels), value));
    work.codes = carver->take<uint8_t>(product(product(output[2], op.output_channels), value));
    return work;
}

struct Range {
    uint32_t begin;
    uint32_t end;
};

Range window(const Op& op, int axis, uint32_t out, uint32_t size) {
    int64_t begin = static_cast<int64_t>(out) * op.stride[axis] - op.before[axis];
    int64_t end = begin + op.kernel[axis];
    return Range{static_cast<uint32_t>(begin < 0 ? 0 : begin), static_cast<uint32_t>(end > size ? size : end)};
}

void maximum_floats(const float* src, size_t count, float* dst) {
    for (size_t i = 0; i < count; ++i) dst[i] = src[i] > dst[i] || src[i] != src[i] ? src[i] : dst[i];
}

// The maximum of every field of two bits; flip turns the upper bits of signed codes round. The lower bit is that of the
// operand with the larger upper bit, or either's where those are equal.
void maximum_fields(const uint8_t* src, size_t count, uint8_t flip, uint8_t* dst) {
    for (size_t i = 0; i < count; ++i) {
        const auto a = static_cast<uint8_t>(src[i] ^ flip), b = static_cast<uint8_t>(dst[i] ^ flip);
        const auto a_above = static_cast<uint8_t>(a >> 1), b_above = static_cast<uint8_t>(b >> 1);
        const auto lower = static_cast<uint8_t>((a & (a_above | ~b_above)) | (b & (b_above | ~a_above)));
        dst[i] = static_cast<uint8_t>((((a | b) & 0xAA) | (lower & 0x55)) ^ flip);
    }
}

class PoolRun {
  public:
    PoolRun(Run* run, const Op& op, uint8_t* memory)
        : run_(run),
          op_(op),
          tensor_(run->model->tensors[op.inputs[0]]),
          in_(run->layout->places[op.inputs[0]].size),
          out_(run->layout->places[op.output].size) {
        Carver carver(memory);
        work_ = carve(*run->model, op, in_, out_, &carver);
    }

    void row(uint32_t d, uint32_t h) {
        if (tensor_.bits <= 2) return packed_row(d, h);
        const size_t value = tensor_.is_float ? 4 : 1, channels = op_.output_channels;
        const Range depths = window(op_, 0, d, in_[0]), rows = window(op_, 1, h, in_[1]);
        bool first = true;
        for (uint32_t z = depths.begin; z < depths.end; ++z)
            for (uint32_t y = rows.begin; y < rows.end; ++y, first = false) {
                load((static_cast<uint64_t>(z) * in_[1] + y) * in_[2], first ? work_.tall : work_.row);
                if (!first) take_maximum(work_.row, in_[2] * channels, work_.tall);
            }
        uint32_t x = 0;
        if (!tensor_.is_float && op_.kernel[2] == 2 && op_.stride[2] == 2 && op_.before[2] == 0) {
            x = in_[2] / 2 < out_[2] ? in_[2] / 2 : out_[2];
            run_->model->kernels.maximum_pairs(static_cast<const uint8_t*>(work_.tall), x, op_.output_channels,
                                               static_cast<uint8_t*>(work_.codes));
        }
        for (; x < out_[2]; ++x) {
            const Range columns = window(op_, 2, x, in_[2]);
            auto* dst = static_cast<uint8_t*>(work_.codes) + x * channels * value;
            const auto* src = static_cast<const uint8_t*>(work_.tall);
            memcpy(dst, src + columns.begin * channels * value, channels * value);
            for (uint32_t k = columns.begin + 1; k < columns.end; ++k)
                take_maximum(src + k * channels * value, channels, dst);
        }
        store((static_cast<uint64_t>(d) * out_[1] + h) * out_[2]);
    }

  private:
    // Codes of one and two bits as they lie. (What fills up a pixel's last byte means nothing.)
    void packed_row(uint32_t d, uint32_t h) {
        const Range depths = window(op_, 0, d, in_[0]), rows = window(op_, 1, h, in_[1]);
        auto* tall = static_cast<uint8_t*>(work_.tall);
        bool first = true;
        size_t bytes = 0;
        for (uint32_t z = depths.begin; z < depths.end; ++z)
            for (uint32_t y = rows.begin; y < rows.end; ++y, first = false) {
                const PackedRow row =
                    run_->row(op_.inputs[0], (static_cast<uint64_t>(z) * in_[1] + y) * in_[2], in_[2]);
                bytes = row.pixel_stride;
                if (first)
                    memcpy(tall, row.data, bytes * in_[2]);
                else
                    take_packed(row.data, bytes * in_[2], tall);
            }
        const PackedRow row = run_->row(op_.output, (static_cast<uint64_t>(d) * out_[1] + h) * out_[2], out_[2]);
        for (uint32_t x = 0; x < out_[2]; ++x) {
            const Range columns = window(op_, 2, x, in_[2]);
            uint8_t* dst = row.data + x * bytes;
            memcpy(dst, tall + columns.begin * bytes, bytes);
            for (uint32_t k = columns.begin + 1; k < columns.end; ++k) take_packed(tall + k * bytes, bytes, dst);
        }
    }

    void take_packed(const uint8_t* src, size_t count, uint8_t* dst) const {
        if (tensor_.bits == 2)
            maximum_fields(src, count, tensor_.is_signed ? 0xAA : 0, dst);
        else if (tensor_.is_signed)  // 1 is the code -1
            for (size_t i = 0; i < count; ++i) dst[i] = static_cast<uint8_t>(dst[i] & src[i]);
        else
            for (size_t i = 0; i < count; ++i) dst[i] = static_cast<uint8_t>(dst[i] | src[i]);
    }

    void load(uint64_t pixel, void* dst) {
        const PackedRow row = run_->row(op_.inputs[0], pixel, in_[2]);
        if (tensor_.is_float)
            memcpy(dst, row.data, row.pixel_stride * row.pixels);
        else
            load_bytes(run_->model->kernels, tensor_, row, tensor_.code_offset(), static_cast<uint8_t*>(dst),
                       row.channels);
    }

    void take_maximum(const void* src, size_t count, void* dst) {
        if (tensor_.is_float)
            maximum_floats(static_cast<const float*>(src), count, static_cast<float*>(dst));
        else
            run_->model->kernels.maximum(static_cast<const uint8_t*>(src), count, static_cast<uint8_t*>(dst));
    }

    void store(uint64_t pixel) {
        const PackedRow row = run_->row(op_.output, pixel, out_[2]);
        if (tensor_.is_float) {
            memcpy(row.data, work_.codes, row.pixel_stride * row.pixels);
            return;
        }
        auto* codes = static_cast<uint8_t*>(work_.codes);
        if (tensor_.is_signed) {
            // Out of the loop: a store of a byte could change anything, for all that the compiler knows.
            const auto offset = static_cast<uint8_t>(tensor_.code_offset());
            const size_t count = static_cast<size_t>(row.pixels) * row.channels;
            for (size_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(codes[i] - offset);
        }
        run_->model->kernels.store_codes(codes, row.channels, row);
    }

    Run* run_;
    const Op& op_;
    const Tensor& tensor_;
    const uint32_t* in_;
    const uint32_t* out_;
    Work work_;
};

}  // namespace

uint64_t max_pool_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]) {
    Carver carver(nullptr);
    carve(model, op, input, output, &carver);
    return carver.used();
}

void pool_row(Run* run, const Op& op, uint8_t* memory, uint32_t depth, uint32_t row) {
    PoolRun(run, op, memory).row(depth, row);
}

bool run_max_pool(Run* run, const Op& op, uint8_t* memory, Share share) {
    PoolRun pool(run, op, memory);
    const uint32_t* out = run->layout->places[op.output].size;
    const uint64_t rows = static_cast<uint64_t>(out[0]) * out[1];
    for (uint32_t r = share.begin(rows); r < share.end(rows); ++r) {
        pool.row(r / out[1], r % out[1]);
        if (!run->advance(static_cast<uint64_t>(out[2]) * op.output_channels, share)) return false;
    }
    return true;
}

}  // namespace uq
