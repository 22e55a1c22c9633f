// How a convolution at one image size is cut into strips and chunks, and the working memory that takes.
#ifndef UNETQ_CONV_SHAPE_H
#define UNETQ_CONV_SHAPE_H

#include "ops.h"

namespace uq {

// One phase at one image size.
struct Geometry {
    uint32_t count[3];   // output positions of the phase
    uint32_t strip[3];   // of them in a strip: (depths, rows, whole rows)
    uint32_t strips[2];  // strips along depths and rows
    uint32_t chunk;      // columns of a strip that are computed together
    uint64_t window[3];  // input positions a strip reads
    uint64_t window_bytes;
    uint64_t strip_pixels;
    uint64_t chunk_pixels;
    uint64_t all_pixels;
    uint64_t tiles;  // Winograd tiles of a chunk, and of all window depths of it
    uint64_t deep_tiles;
};

Geometry conv_geometry(const Conv& conv, const Phase& phase, const uint32_t output[3]);

// Multiply-accumulates that a run reports, summed strip by strip: padding counts in full.
uint64_t conv_work_units(const Op& op, const uint32_t output[3]);

// What a step may read beyond the last pixel of the window: channels of a narrower block, with weight 0.
inline uint64_t slack_bytes(const Conv& conv) {
    if (conv.depthwise) return kBlock;
    return static_cast<uint64_t>(conv.steps_a_tap) * conv.group * conv.element_bytes;
}

inline uint64_t padded_pixels(uint64_t count) {
    return (count + kTilePixels - 1) / kTilePixels * kTilePixels;
}

// Weights are unpacked once a run, for as many blocks at a time as their budget holds: a pass over the image each.
struct Pass {
    uint32_t first_block;
    uint32_t end_block;
};

uint32_t conv_passes(const Conv& conv);
Pass conv_pass(const Conv& conv, uint32_t index);

// Where the unpacked weights of a block lie in those of its pass.
uint64_t block_offset(const Conv& conv, const Pass& pass, size_t phase, uint32_t block);

// From a Winograd position to the next: an odd number of cache lines, as 16 streams a page apart would fall on one set.
inline uint64_t position_bytes(uint64_t tiles, uint64_t pixel_bytes) {
    const uint64_t bytes = product(tiles, pixel_bytes);
    return bytes > kTooLarge / 2 ? kTooLarge : ((bytes + 63) / 64 | 1) * 64;
}

// Two blocks of output channels are computed together.
bool takes_pairs(const Op& op);

// Of one thread.
struct ConvWork {
    uint8_t* window;
    uint8_t* bytes;   // one unpacked row before it is widened
    uint8_t* packed;  // kBits: one row of codes that no tensor holds
    uint8_t* patches;
    uint32_t* pixel_offsets;
    int32_t* tap_offsets;
    int8_t* scratch;
    uint8_t* transformed;  // Winograd: [position][depth][tile][channel]
    int32_t* products;     // Winograd: [position][tile][16] of kTilePixels tiles
    void* sums;            // null where they are shared
    void* codes;
    float* gain;
    float* offset;
    float* scaled_gain;  // where the input's grid is dynamic
    uint8_t* producers;  // working memory of the upsampling that an input is made by
};

// Where the groups of a group norm reach over blocks: the sums of a pass's blocks, of all threads, one block behind the
// other, and what they add up to. Where sums are kept for a second run: those of all blocks, every chunk in a place of
// its own.
struct SharedSums {
    int32_t* sums;    // [block][pixels][16]
    uint64_t pixels;  // of a block
    NormSums* norm;   // a block each
};

// Room for the sums of all chunks of a phase, for a block.
uint64_t kept_pixels(const Geometry& geometry);

SharedSums carve_sums(const uq_layout& layout, const Op& op, Carver* carver);

// Carves the working memory; the planner calls it without a base, only to count.
uint8_t* carve_weights(const Conv& conv, Carver* carver);
ConvWork carve_conv(const uq_layout& layout, const Op& op, Carver* carver);

}  // namespace uq

#endif
