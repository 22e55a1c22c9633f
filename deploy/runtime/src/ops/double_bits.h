// Linear doubling of tensors of one bit.
#ifndef UNETQ_DOUBLE_BITS_H
#define UNETQ_DOUBLE_BITS_H

#include "ops.h"

namespace uq {

// True where double_bits makes the rows of an upsampling.
bool doubles_bits(const uq_model& model, const Op& op);
void double_bits(const Run& run, const Op& op, const RowPart& part, const PackedRow& row);

}  // namespace uq

#endif
