// A chunk of a strip by exact integer Winograd: transformed once, then multiplied with every block.
#ifndef UNETQ_WINOGRAD_H
#define UNETQ_WINOGRAD_H

#include "window.h"

namespace uq {

// Columns of a strip.
struct Chunk {
    uint32_t depths;
    uint32_t rows;
    uint32_t column;  // even
    uint32_t columns;
    uint32_t tile_rows() const { return (rows + 1) / 2; }
    uint32_t tile_columns() const { return (columns + 1) / 2; }
    uint32_t plane_tiles() const { return tile_rows() * tile_columns(); }
    uint32_t tiles() const { return depths * plane_tiles(); }
};

// Transforms the window's codes into work.transformed and sets the offsets of the chunk's tiles in it.
void transform_chunk(const Kernels& kernels, const Conv& conv, const Window& window, const Geometry& geometry,
                     const Chunk& chunk, const ConvWork& work);

// sums[pixel][16] of the chunk's pixels for a block, weights: [position][depth tap][step][16][group]; and for the block
// behind it, sum_stride values further on, where that is not 0.
void sum_winograd(const Kernels& kernels, const Conv& conv, const Phase& phase, uint32_t block, const uint8_t* weights,
                  const Chunk& chunk, const ConvWork& work, int32_t* sums, size_t sum_stride);

}  // namespace uq

#endif
