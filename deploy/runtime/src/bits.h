// The bit-serial scheme: which weights it takes, how they are laid out, and what its sums begin with.
#ifndef UNETQ_BITS_H
#define UNETQ_BITS_H

#include "model.h"

namespace uq {

// Null where an operation can be counted in bits, else why not.
const char* no_bits(const Op& op, const Tensor& input);

// Fills what kBits has of its own in op->conv; input_channels, groups and blocks are there.
void choose_bit_shape(const uq_model& model, Op* op);

// Of one output pixel, in the unit of ByteConv's costs.
double bit_cost(const BitConv& kernel, const Conv& conv);

// The weights of a block at the taps of a phase: [run][word][tap][16], or [word][tap][positive, negative][16] where
// they are -1, 0 and +1.
void unpack_bit_block(const Op& op, const Phase& phase, uint32_t block, uint32_t* dst);

// What the sums of the block begin with. weights: as unpack_bit_block makes them.
void bit_start(const Op& op, const Phase& phase, const uint32_t* weights, int32_t start[kBlock]);

// Where the bits of weights are spread: sums[pixel][16] of bits to those of outputs.
void join_spread(const Op& op, uint64_t pixels, int32_t* sums);

// Of run number run, what counts are multiplied by.
int32_t bit_factor(const Conv& conv, uint32_t run);

}  // namespace uq

#endif
