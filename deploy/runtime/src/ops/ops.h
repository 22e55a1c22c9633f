// The running operations. Each gets working memory of the size that its *_work_bytes announced to the planner.
#ifndef UNETQ_OPS_H
#define UNETQ_OPS_H

#include "../shapes.h"

namespace uq {

// One of the equal parts that an operation is cut into, a thread each.
struct Share {
    uint32_t part;
    uint32_t parts;

    uint32_t begin(uint64_t count) const { return static_cast<uint32_t>(count * part / parts); }
    uint32_t end(uint64_t count) const { return static_cast<uint32_t>(count * (part + 1) / parts); }
};

// Of dynamic grids (dynamic.h), as long as a run: a scale for every tensor, and the largest magnitude, as its bits,
// that every thread has seen.
struct Scales {
    float* of;
    uint32_t* largest;
};

struct Run {
    const uq_layout* layout;
    const uq_model* model;
    uint8_t* arena;
    const float* input;
    float* output;
    const uq_run_options* options;  // may be null
    uint64_t done;                  // of all threads, by atomic operations
    bool cancelled;                 // the same
    Scales scales = {};
    bool looking = false;  // the operation finds the scale of its output, and writes nothing yet

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

    // Counts progress and, on the caller's own thread, reports it; false when the caller wants to stop.
    bool advance(uint64_t units, Share share) {
        if (!options || !options->on_progress) return true;
        const uint64_t now = __atomic_add_fetch(&done, units, __ATOMIC_RELAXED);
        if (share.part > 0) return !__atomic_load_n(&cancelled, __ATOMIC_RELAXED);
        if (options->on_progress(options->user, now, layout->info.work_units) == 0) return true;
        __atomic_store_n(&cancelled, true, __ATOMIC_RELAXED);
        return false;
    }
};

// Codes to bytes, each plus offset.
inline void load_bytes(const Kernels& kernels, const Tensor& tensor, const PackedRow& row, int32_t offset, uint8_t* dst,
                       size_t stride) {
    const int32_t flip = tensor.is_signed ? 1 << (tensor.storage_bits - 1) : 0;
    kernels.load_codes(row, static_cast<uint8_t>(flip), static_cast<uint8_t>(offset - flip), dst, stride);
}

// Instance and group norm: the sums of 16 channels' accumulators and of their squares.
struct NormSums {
    int64_t total[kBlock];
    uint64_t high[kBlock];
    uint64_t low[kBlock];
    double real_total[kBlock];  // where the accumulators are float32
    double real_squares[kBlock];

    void clear() { *this = NormSums{}; }
    void add_float(const float* sums, size_t stride, uint64_t pixels);
    double sum(uint32_t o, bool is_float) const;
    double squares(uint32_t o, bool is_float) const;
};

// The gain and offset that normalise `channels` channels from number `first` on, whole groups of them, to as many
// rounded up to 16: in double, each operation rounded. sums: a block of 16 channels each.
void norm_affine(const Epilogue& epilogue, const NormSums* sums, uint32_t first, uint32_t channels, uint64_t pixels,
                 bool is_float, float* gain, float* offset);

// One row of a product's accumulators, [pixel][stride], int32 or float32. bytes and floats: a row of each input.
bool float_product(const uq_model& model, const Op& op);
void multiply_row(Run* run, const Op& op, uint64_t pixel, uint32_t count, uint32_t stride, uint8_t* const* bytes,
                  float* const* floats, void* sums);

// The arrays of an epilogue from a channel on.
EpilogueArrays arrays_from(const EpilogueArrays& arrays, uint32_t channel);

// A convolution takes conv_passes, each for some of its output channels: weights first, then the image. Where threads
// have to wait for each other in between, that is conv_stages: all sums, then all results.
struct Turn {
    uint32_t pass;
    uint32_t stage;
};
uint32_t conv_stages(const Op& op);

// Each returns false when the run was cancelled. shared: memory of all threads; work: this thread's own.
void prepare_conv_weights(Run* run, const Op& op, uint32_t pass, uint8_t* shared, uint8_t* work, Share share);
bool run_conv(Run* run, const Op& op, Turn turn, uint8_t* shared, uint8_t* work, Share share);
bool run_quantize(Run* run, const Op& op, uint8_t* work, Share share);
bool run_max_pool(Run* run, const Op& op, uint8_t* work, Share share);
void pool_row(Run* run, const Op& op, uint8_t* work, uint32_t depth, uint32_t row);
bool run_rowwise(Run* run, const Op& op, uint8_t* work, Share share);  // linear upsampling, add, pointwise, mul
bool run_copy(Run* run, const Op& op, uint8_t* work, Share share);     // concat, pad, nearest upsampling
bool run_table(Run* run, const Op& op, uint8_t* work, Share share);

// Bytes of working memory; kTooLarge where it cannot be addressed.
uint64_t conv_shared_bytes(const uq_layout& layout, const Op& op);
uint64_t conv_work_bytes(const uq_layout& layout, const Op& op);
uint64_t quantize_work_bytes(const Op& op, const uint32_t output[3]);
uint64_t max_pool_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]);
uint64_t rowwise_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]);
uint64_t copy_work_bytes(const uq_model& model, const Op& op, const uint32_t output[3]);
uint64_t table_work_bytes(const uq_model& model, const Op& op, const uint32_t output[3]);

// Bytes that an input must begin behind an operation's output, so that the output may be written over it; kTooLarge
// where it may not.
uint64_t overlap_shift(const uq_layout& layout, const Op& op, uint32_t input);

// A piece of one output row.
struct RowPart {
    uint32_t depth;
    uint32_t row;
    uint32_t column;
    uint32_t count;
};

// True for an upsampling whose rows can be made one at a time, by produce_codes: dst[pixel * stride + channel] = code +
// offset. memory: row_work_bytes.
bool makes_rows(const uq_model& model, const Op& op);
void produce_codes(Run* run, const Op& op, const RowPart& part, int32_t offset, uint8_t* dst, size_t stride,
                   uint8_t* memory);
// The same, packed. bytes: as many as there are codes.
void produce_packed(Run* run, const Op& op, const RowPart& part, const PackedRow& row, uint8_t* bytes, uint8_t* memory);
uint64_t row_work_bytes(const uq_layout& layout, const Op& op);

}  // namespace uq

#endif
