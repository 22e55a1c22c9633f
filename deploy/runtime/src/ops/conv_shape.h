// How a convolution at one image size is cut into strips, and the working memory that takes.
#ifndef UNETQ_CONV_SHAPE_H
#define UNETQ_CONV_SHAPE_H

#include "../shapes.h"

namespace uq {

// One phase at one image size.
struct Geometry {
    uint32_t count[3];   // output positions of the phase
    uint32_t strip[3];   // of them in a strip: (depths, rows, whole rows)
    uint64_t window[3];  // input positions a strip reads
    uint64_t window_bytes;
    uint64_t strip_pixels;
    uint64_t all_pixels;
};

Geometry conv_geometry(const Conv& conv, const Phase& phase, const uint32_t output[3]);

// Multiply-accumulates that a run reports, summed strip by strip: padding counts in full.
uint64_t conv_work_units(const Op& op, const uint32_t output[3]);

// What a step may read beyond the last pixel of the window: channels of a narrower block, with weight 0.
inline uint64_t slack_bytes(const Conv& conv) {
    return static_cast<uint64_t>(conv.steps_a_tap) * conv.group * conv.element_bytes;
}

struct ConvWork {
    uint8_t* window;
    uint8_t* bytes;  // one unpacked row before it is widened
    uint32_t* pixel_offsets;
    int32_t* tap_offsets;
    void* weights;
    int8_t* scratch;
    void* sums;
    void* codes;
    float* gain;
    float* offset;
};

// Carves the working memory; the planner calls it without a base, only to count.
ConvWork carve_conv(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3],
                    Carver* carver);

}  // namespace uq

#endif
