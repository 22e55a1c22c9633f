// The running operations. Each gets working memory of the size that its *_work_bytes announced to the planner.
#ifndef UNETQ_OPS_H
#define UNETQ_OPS_H

#include "../shapes.h"

namespace uq {

struct Run {
    const uq_layout* layout;
    const uq_model* model;
    uint8_t* arena;
    const float* input;
    float* output;
    const uq_run_options* options;  // may be null
    uint64_t done;

    // A tensor's first pixel, channels innermost.
    uint8_t* data(uint32_t tensor) const {
        const Place& place = layout->places[tensor];
        if (place.in_arena) return arena + place.offset;
        if (tensor == model->program->input) return reinterpret_cast<uint8_t*>(const_cast<float*>(input));
        return reinterpret_cast<uint8_t*>(output);
    }

    // count pixels of a tensor from pixel number first on.
    PackedRow row(uint32_t tensor, uint64_t first, uint32_t count) const {
        const Tensor& t = model->tensors[tensor];
        uint64_t bytes = t.pixel_bytes();
        return PackedRow{data(tensor) + first * bytes, static_cast<size_t>(bytes), count, t.channels, t.storage_bits};
    }

    // Reports progress; false when the caller wants to stop.
    bool advance(uint64_t units) {
        done += units;
        if (!options || !options->on_progress) return true;
        return options->on_progress(options->user, done, layout->info.work_units) == 0;
    }
};

// Codes to bytes, shifted to be non-negative (offset true) or as two's complement.
inline void load_bytes(const Kernels& kernels, const Tensor& tensor, const PackedRow& row, bool offset, uint8_t* dst,
                       size_t stride) {
    int32_t flip = tensor.is_signed ? 1 << (tensor.storage_bits - 1) : 0;
    int32_t shift = (offset ? tensor.code_offset() : 0) - flip;
    kernels.load_codes(row, static_cast<uint8_t>(flip), static_cast<uint8_t>(shift), dst, stride);
}

// Instance norm: gain and offset of 16 channels from the sums of their accumulators (double, each operation rounded).
struct NormSums {
    int64_t total[kBlock];
    uint64_t high[kBlock];
    uint64_t low[kBlock];
    double real_total[kBlock];  // where the accumulators are float32
    double real_squares[kBlock];

    void clear() { *this = NormSums{}; }
    void add_float(const float* sums, size_t stride, uint64_t pixels);
    void affine(const Epilogue& epilogue, uint32_t first_channel, uint32_t channels, uint64_t pixels, bool is_float,
                float* gain, float* offset) const;
};

// The arrays of an epilogue from a channel on.
EpilogueArrays arrays_from(const EpilogueArrays& arrays, uint32_t channel);

// Each returns false when the run was cancelled.
bool run_conv(Run* run, const Op& op, uint8_t* work);
bool run_quantize(Run* run, const Op& op, uint8_t* work);
bool run_max_pool(Run* run, const Op& op, uint8_t* work);
bool run_rowwise(Run* run, const Op& op, uint8_t* work);  // linear upsampling, add, pointwise
bool run_copy(Run* run, const Op& op, uint8_t* work);     // concat, pad, nearest upsampling

// Bytes of working memory; kTooLarge where it cannot be addressed.
uint64_t conv_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]);
uint64_t quantize_work_bytes(const Op& op, const uint32_t output[3]);
uint64_t max_pool_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]);
uint64_t rowwise_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]);
uint64_t copy_work_bytes(const uq_model& model, const Op& op, const uint32_t output[3]);

}  // namespace uq

#endif
