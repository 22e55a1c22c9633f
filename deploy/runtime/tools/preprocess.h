// From stored intensities to the network's input, and from logits to classes: bit for bit what the Python side does.
#ifndef UNETQ_TOOLS_PREPROCESS_H
#define UNETQ_TOOLS_PREPROCESS_H

#include <stdint.h>

#include "../include/unetq.h"

namespace tool {

struct Moments {
    double mean, deviation;  // of the population
};

// Summed in NumPy's order.
Moments moments_of(const float* values, uint64_t count);

// Normalises one channel of one image in place as rule says, by moments (null: its own); false where a result is NaN or
// infinite.
bool normalize(float* values, uint64_t count, const uq_model_info& rule, const Moments* moments);

// The class of one pixel from channels logits, stride apart: with one, 1 where it is above 0; with more, the first of
// the largest (or the first NaN).
uint32_t decide(const float* logits, uint32_t channels, uint64_t stride);

}  // namespace tool

#endif
