// Convolution in bits: the planes of a strip's pixels, put in order for the kernel, and its runs.
#ifndef UNETQ_OPS_BITS_H
#define UNETQ_OPS_BITS_H

#include "window.h"

namespace uq {

// work.patches from the window: every tap of count pixels, and of those that fill up their last tile.
void make_bit_patches(const BitConv& kernel, const Conv& conv, const Phase& phase, const Window& window,
                      const ConvWork& work, uint64_t count);

// sums[pixel][16] of count pixels for one block.
void sum_bits(const BitConv& kernel, const Op& op, const Phase& phase, uint32_t block, const uint8_t* weights,
              const ConvWork& work, uint64_t count, int32_t* sums);

// Words that work.patches takes for count pixels.
uint64_t bit_patch_words(const Conv& conv, const Phase& phase, uint64_t count);

}  // namespace uq

#endif
