// Linear resampling of one axis after another: bit for bit what unetq/resample.py does.
#ifndef UNETQ_TOOLS_RESAMPLE_H
#define UNETQ_TOOLS_RESAMPLE_H

#include <stdint.h>

namespace tool {

// Samples of an axis of length samples once their distance is want instead of have mm, at most 2^53. A want of 0 keeps
// it; 0 is the result where have is not above 0 in tenths of a micrometre.
uint64_t resampled_length(uint32_t length, double have, double want);

// The steps that bring volumes of one size, one after another, to another size: at most one for each axis. size[0] is
// what they begin with.
struct Resampling {
    uint32_t volumes;
    uint32_t steps;
    uint32_t axis[3];
    uint32_t size[4][3];
};

Resampling plan_resampling(uint32_t volumes, const uint32_t from[3], const uint32_t to[3]);

// Values that the two buffers of resample() hold at most; saturates.
uint64_t even_room(const Resampling& plan);
uint64_t odd_room(const Resampling& plan);

// Resamples what lies in even; steps go from one buffer into the other and back. Gives the one with the result.
float* resample(const Resampling& plan, float* even, float* odd);

// The number of elements; saturates.
uint64_t elements(const uint32_t size[3]);

}  // namespace tool

#endif
