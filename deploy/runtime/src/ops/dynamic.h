// Dynamic grids: the scale of a tensor is found from its own values, for each image.
//
// An operation that makes such a tensor runs twice. The first time it looks at its values only, as they are before
// rounding, and its threads remember the largest; the second time it writes codes. Who reads the tensor multiplies the
// gain that stands for that operand's scale by the scale, rounded once.
#ifndef UNETQ_DYNAMIC_H
#define UNETQ_DYNAMIC_H

#include "ops.h"

namespace uq {

Scales carve_scales(const uq_layout& layout, Carver* carver);
uint64_t scales_bytes(const uq_layout& layout);  // 0 where no grid is dynamic

// The operation makes a dynamic tensor; it does not merely keep the grid of its input.
bool finds_scale(const uq_model& model, const Op& op);
// Its gain has to be multiplied.
bool reads_scale(const uq_model& model, const Op& op);

// The scale of a tensor as far as it is known only now: 1 where the grid is not dynamic.
float run_scale(const Run& run, uint32_t tensor);

// Where the results of an operation go: float32 while it looks.
Target run_target(const Run& run, const Op& op);

// The epilogue with its gains times the scales of the operands that they stand for, those in `gains` (round_up of the
// output channels to 16), where they are needed.
Epilogue scaled_epilogue(const Run& run, const Op& op, float* gains);

// Values [pixel][stride] that an operation would write.
void look(Run* run, Share share, const float* values, size_t stride, uint64_t pixels, uint32_t channels);

void start_looking(Run* run);
// The scale of the operation's output: float32(largest |value|) / float32(largest code); 1 outside 2^-126 ... 2^126,
// so that it and its inverse are ordinary numbers.
void stop_looking(Run* run, const Op& op);

}  // namespace uq

#endif
