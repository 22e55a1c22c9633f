// The look-up scheme: which weights it takes, how they are laid out, and what its sums begin with.
#ifndef UNETQ_LOOKUP_H
#define UNETQ_LOOKUP_H

#include "model.h"

namespace uq {

constexpr uint32_t kLookupGroup = 16;  // input channels of a step

// Null where the sums of an operation can be looked up, else why not.
const char* no_lookup(const Op& op, const Tensor& input);

LookupForm choose_lookup_form(const Op& op, const Tensor& input);

// Of one output pixel, in the unit of ByteConv's costs, without flushes.
double lookup_cost(const LookupConv& kernel, const Conv& conv);

// Steps between two flushes, at most.
uint32_t lookup_capacity(LookupForm form, const Tensor& input);

// Rows of 16 * steps int8 weights, row_stride bytes apart, to what LookupConv reads.
void interleave_lookup(LookupForm form, const int8_t* rows, size_t row_stride, uint32_t steps, uint8_t* dst);

// What the sums of a block begin with. scratch: weight_scratch_bytes.
void lookup_start(const Kernels& kernels, const Op& op, const Phase& phase, uint32_t block, int8_t* scratch,
                  int32_t start[kBlock]);

}  // namespace uq

#endif
