// The unpacked, padded input rows that a strip of a convolution reads.
#ifndef UNETQ_WINDOW_H
#define UNETQ_WINDOW_H

#include "conv_shape.h"
#include "ops.h"

namespace uq {

// A strip: first depth and row of its outputs, and how many of each.
struct Strip {
    uint32_t first[2];
    uint32_t count[3];  // depths, rows, whole rows
    uint64_t pixels() const { return static_cast<uint64_t>(count[0]) * count[1] * count[2]; }
};

class Window {
  public:
    Window(Run* run, const Op& op, const ConvWork& work);

    void start_phase(const Phase& phase, const Geometry& geometry);
    // Unpacks what the strip reads; rows that the strip before it has read too are moved, not read again.
    void load(const Strip& strip);

    const uint8_t* data() const { return work_.window; }
    uint64_t pixel_bytes() const { return pixel_bytes_; }
    // Position number in the window of an input position relative to the strip's first tap position.
    uint64_t at(uint64_t depth, uint64_t row, uint64_t column) const {
        return (depth * geometry_->window[1] + row) * geometry_->window[2] + column;
    }
    void fill(uint8_t* dst, uint64_t pixels) const;

  private:
    void load_row(int64_t depth, int64_t row, uint8_t* dst);
    void gather(uint32_t depth, uint32_t row, uint32_t column, uint32_t count, uint8_t* dst);
    // The same two where a pixel is planes of bits, window_bits.cpp.
    void fill_planes(uint8_t* dst, uint64_t pixels) const;
    void gather_planes(const RowPart& part, uint8_t* dst);
    void fill_tables(uint8_t* dst, uint64_t pixels) const;  // tables of sums
    // The code of the value 0, as it enters the kernels. (A tensor of float32 has the zero-point 0.)
    int32_t zero_code() const { return conv_.entry_offset + first_.zero_point; }

    Run* run_;
    const Op& op_;
    const Conv& conv_;
    const ConvWork& work_;
    const Tensor& first_;
    const uint32_t* input_;
    const Phase* phase_ = nullptr;
    const Geometry* geometry_ = nullptr;
    uint64_t pixel_bytes_;
    bool loaded_ = false;  // the window holds rows of this phase:
    int64_t depth_ = 0;    // first input position
    int64_t row_ = 0;
    uint64_t depths_ = 0;  // how many
    uint64_t rows_ = 0;
};

// Fills work.patches from the window and points work.pixel_offsets at them: count pixels.
void make_patches(const Conv& conv, const Phase& phase, const Window& window, const ConvWork& work, uint64_t count);

}  // namespace uq

#endif
