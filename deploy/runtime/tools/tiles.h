// Windows over what is larger than a network shall see at once, extended at its end where it is smaller: bit for bit
// what unetq/tiling.py and pad_to_size of unetq/preprocess.py do. Sizes are (depth, height, width).
#ifndef UNETQ_TOOLS_TILES_H
#define UNETQ_TOOLS_TILES_H

#include <stdint.h>

namespace tool {

struct Tiles {
    uint32_t size[3];  // of the image
    uint32_t call[3];  // of a window
    uint32_t count[3];
    uint32_t step[3];
    uint32_t whole[3];  // the larger of both

    uint64_t windows() const { return uint64_t{count[0]} * count[1] * count[2]; }
};

Tiles plan_tiles(const uint32_t size[3], const uint32_t call[3], double overlap);

// The first pixel of a window, which are counted in row-major order.
void corner_of(const Tiles& tiles, uint64_t window, uint32_t corner[3]);

// A window of one channel. Beyond the image's end it is mirrored without its border pixel, or that pixel is repeated
// where the axis is too short to mirror.
void take_window(const Tiles& tiles, const float* image, const uint32_t corner[3], float* window);

// Adds a window's logits to the sums of one channel, and the weights to share; both are whole in size. Divides at last.
void add_window(const Tiles& tiles, const float* logits, const uint32_t corner[3], float* sum);
void add_weights(const Tiles& tiles, const uint32_t corner[3], float* share);
void divide(float* sum, const float* share, uint64_t count);

}  // namespace tool

#endif
