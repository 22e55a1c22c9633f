// Grows a random graph operation by operation: builder.cpp has the graph and the operations that move codes,
// builder_sums.cpp those that calculate, builder_conv.cpp the convolutions, builder_values.cpp parameters and images,
// builder_weights.cpp weights.
#ifndef UNETQ_FUZZ_BUILDER_H
#define UNETQ_FUZZ_BUILDER_H

#include "graph.h"

namespace fuzz {

struct Size {
    uint32_t at[3];

    uint64_t pixels() const { return static_cast<uint64_t>(at[0]) * at[1] * at[2]; }
    bool operator==(const Size& other) const { return memcmp(at, other.at, sizeof at) == 0; }
};

class Builder {
  public:
    explicit Builder(Source* source) : s_(*source) {}
    Graph build();

  private:
    // builder.cpp
    Size start_size();
    uint32_t add_tensor(uint32_t channels, const Grid* grid, const Size& size);
    uq::FileOp start_op(uint32_t kind, const std::vector<uint32_t>& inputs);
    void finish_op(uq::FileOp op, uint32_t channels, const Grid* grid, const Size& size, OpNote note);
    void quantize(uint32_t source);
    void simple(uint32_t source);
    void upsample(uint32_t source);
    void max_pool(uint32_t source);
    void pad(uint32_t source);
    void add(uint32_t source);
    void multiply(uint32_t source);
    void table(uint32_t source);
    void concat(uint32_t source);
    void pointwise(uint32_t source, const Grid* grid);
    void finish(uint32_t last);

    // builder_conv.cpp
    void conv(uint32_t source);
    void shape_conv(uq::FileOp* op);
    bool conv_size(const uq::FileOp& op, const Size& in, Size* out) const;
    std::vector<uint32_t> conv_inputs(uint32_t source);

    // builder_values.cpp
    Grid random_grid();
    void triple(uint32_t low, uint32_t high, uint32_t neutral, uint32_t out[3]);
    std::vector<int8_t> codebook(uq::FileOp* op);
    std::vector<uint8_t> shifts(uq::FileOp* op, uint32_t outputs, uint32_t channels);
    void needs(uint32_t version) { writer_.version = writer_.version < version ? version : writer_.version; }
    double weights(uq::FileOp* op, uint32_t outputs, uint32_t codes, double* mean);
    void epilogue(uq::FileOp* op, uint32_t channels, double spread, const Grid* grid, bool may_norm, OpNote* note);
    std::vector<float> image(uint64_t count);
    void preprocessing(uq::FileProgram* program);

    Size size_of(uint32_t tensor) const;
    uint32_t channels_of(uint32_t tensor) const { return tensors_[tensor].channels; }
    const Grid* grid_of(uint32_t tensor) const { return tensors_[tensor].coded ? &tensors_[tensor].grid : nullptr; }
    uint32_t zero_of(uint32_t tensor) const { return grid_of(tensor) ? grid_of(tensor)->zero_point : 0; }
    bool is_dynamic(uint32_t tensor) const { return grid_of(tensor) && grid_of(tensor)->dynamic; }
    bool same_codes(uint32_t a, uint32_t b) const;
    double level_of(uint32_t tensor) const;

    Source& s_;
    ModelWriter writer_;
    std::vector<TensorNote> tensors_;
    std::vector<OpNote> ops_;
    bool flat_ = true;           // a 2-D model
    bool floats_ = false;        // a model with convolutions in float32
    bool house_ = false;         // most layers at one pair of widths, as in real networks
    uint32_t house_weight_ = 4;  // bits
    uint32_t house_code_ = 6;
    uint64_t work_ = 0;      // multiply-accumulates so far
    uint64_t max_work_ = 0;  // of one convolution, and half of the graph's
};

}  // namespace fuzz

#endif
