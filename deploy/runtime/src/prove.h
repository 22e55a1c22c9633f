// What unpacked weights prove about the sums of a convolution.
#ifndef UNETQ_PROVE_H
#define UNETQ_PROVE_H

#include "model.h"

namespace uq {

// Phases and their taps; false when there is no memory.
bool make_phases(Op* op);

// Closed range of what enters a kernel.
struct Range {
    int32_t low;
    int32_t high;
};

// Marks (flush_before[s] = 1) the steps before which narrow lanes must be widened; false when one step alone can leave
// its lanes. weights: [steps][16][group].
bool prove_flushes(const ByteConv& kernel, const int8_t* weights, size_t steps, Range range, uint8_t* flush_before);

// True when the transformed filters of a block fit int8. taps: [9][count] weights.
bool transformed_weights_fit(const int8_t* taps, size_t count);

}  // namespace uq

#endif
