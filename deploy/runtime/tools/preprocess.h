// From stored intensities to the network's input, and from logits to classes: bit for bit what the Python side does.
#ifndef UNETQ_TOOLS_PREPROCESS_H
#define UNETQ_TOOLS_PREPROCESS_H

#include <stdint.h>

#include "../include/unetq.h"

namespace tool {

// Mean and (population) standard deviation, summed in NumPy's order.
void statistics(const float* values, uint64_t count, double* mean, double* std);

// Normalises one channel of one image in place; false where a result is NaN or infinite.
bool normalize(float* values, uint64_t count, uint32_t rule, double low, double high);

// Spreads an image of size from (depth, height, width) to size to, each axis at least as long, in place: it lies at
// from's rows before and at to's rows afterwards. What is added mirrors the image without its border pixel, or repeats
// that pixel where the axis is too short to mirror.
void pad(float* values, const uint32_t from[3], const uint32_t to[3]);

// The class of one pixel from channels logits, stride apart: with one, 1 where it is above 0; with more, the first of
// the largest (or the first NaN).
uint32_t decide(const float* logits, uint32_t channels, uint64_t stride);

}  // namespace tool

#endif
