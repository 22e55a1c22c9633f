#include "bits.h"

#include "../bits.h"

namespace uq {

// A tile more, for the steps that a narrower block reads behind its own: they meet weights of 0.
uint64_t bit_patch_words(const Conv& conv, const Phase& phase, uint64_t count) {
    const uint64_t pixel = product(phase.taps.size(), conv.planes * conv.words);
    return product(padded_pixels(count) + kTilePixels, pixel);
}

// Words outside, taps inside: the channels of a group are then a run of steps, all taps of them.
void make_bit_patches(const BitConv& kernel, const Conv& conv, const Phase& phase, const Window& window,
                      const ConvWork& work, uint64_t count) {
    const auto taps = static_cast<uint32_t>(phase.taps.size()), words = conv.planes * conv.words;
    auto* out = reinterpret_cast<uint32_t*>(work.patches);
    for (uint64_t first = 0; first < count; first += kernel.tile_pixels) {
        kernel.arrange(window.data(), work.pixel_offsets + first, work.tap_offsets, taps, words, out);
        out += static_cast<size_t>(taps) * words * kernel.tile_pixels;
    }
}

void sum_bits(const BitConv& kernel, const Op& op, const Phase& phase, uint32_t block, const uint8_t* weights,
              const ConvWork& work, uint64_t count, int32_t* sums) {
    const Conv& conv = op.conv;
    const uint32_t side = kernel.tile_pixels;
    const size_t taps = phase.taps.size();
    const size_t steps = taps * conv.steps_a_tap / conv.step_words() / conv.runs;
    const size_t most = kernel.capacity / ((1u << conv.planes) - 1);
    BitTile tile = {};
    tile.plane_stride = taps * conv.words * side;
    tile.tile_stride = tile.plane_stride * conv.planes;
    tile.planes = conv.planes;
    tile.pixel_count = static_cast<uint32_t>(count);
    tile.weights = reinterpret_cast<const uint32_t*>(weights);
    tile.start = &phase.start[block * kBlock];
    tile.sums = sums;
    for (uint32_t run = 0; run < conv.runs; ++run) {
        tile.codes = reinterpret_cast<const uint32_t*>(work.patches) + conv.first_channel(block) / 32 * taps * side;
        tile.factor = bit_factor(conv, run);
        for (size_t done = 0; done < steps; done += tile.steps) {
            tile.steps = static_cast<uint32_t>(steps - done < most ? steps - done : most);
            kernel.forms[conv.form].run(tile);
            tile.codes += static_cast<size_t>(tile.steps) * side;
            tile.weights += static_cast<size_t>(tile.steps) * conv.step_words() * kBlock;
            tile.start = nullptr;
        }
    }
    if (conv.spread) join_spread(op, count, sums);
}

}  // namespace uq
