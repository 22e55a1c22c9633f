// Convolution tiles of 24 pixels x 32 output channels on AMX: written from the manual and tested by emulating its
// registers (tiles.h); no processor that has it has run this.
//
// Weights lie [step][16 output channels][4 inputs], which is exactly what TDPBUSD wants of its second operand when a
// row is a step: k steps are k rows of 64 bytes. Its first operand is 12 pixels x 4 k codes, and 12 pixels x 16 sums
// are the result: two of them make a run of kTilePixels. So a tile of sums takes 12 x 16 x 64 products an instruction
// where the channels of a tap are a multiple of 64, and k is as large as their number can be cut into evenly.
//
// Pixels of a tile are read with one stride. Those that do not lie evenly apart are gathered first, and so are the
// steps of a segment beyond a multiple of k: both into zeroed bytes.
//
// The sums are added modulo 2^32; Segment::flush means nothing here. Tiles are configured at the beginning of a call
// and released at its end, as several threads run it and the state would be theirs to save.
#include "amx.h"
#include "tiles.h"

namespace uq {
namespace {

constexpr size_t kStepBytes = 64;
constexpr uint32_t kRows = 12;      // pixels of a tile
constexpr uint32_t kMaxSteps = 16;  // of a tile

// Tiles 0 to 3: sums of pixels h and block b in 2 h + b. Tiles 4 and 5: codes. Tiles 6 and 7: weights.
constexpr TileShapes shapes_for(uint32_t steps) {
    TileShapes shapes = {};
    shapes.palette = 1;
    for (uint32_t t = 0; t < 8; ++t) {
        shapes.rows[t] = static_cast<uint8_t>(t < 6 ? kRows : steps);
        shapes.row_bytes[t] = static_cast<uint16_t>(t == 4 || t == 5 ? 4 * steps : kStepBytes);
    }
    return shapes;
}

constexpr TileShapes kShapes[kMaxSteps] = {
    shapes_for(1),  shapes_for(2),  shapes_for(3),  shapes_for(4),  shapes_for(5),  shapes_for(6),
    shapes_for(7),  shapes_for(8),  shapes_for(9),  shapes_for(10), shapes_for(11), shapes_for(12),
    shapes_for(13), shapes_for(14), shapes_for(15), shapes_for(16),
};

// Steps of a tile: as few tiles as cover the segment, as evenly as they can.
uint32_t steps_a_tile(uint32_t segment_steps) {
    const uint32_t tiles = (segment_steps + kMaxSteps - 1) / kMaxSteps;
    return (segment_steps + tiles - 1) / tiles;
}

// 12 pixels.
struct Pixels {
    const uint8_t* rows;
    const uint32_t* offsets;
    size_t stride;
    bool even;

    Pixels(const ConvTile& tile, uint32_t first)
        : rows(tile.rows), offsets(tile.pixel_offsets + first), stride(offsets[1] - offsets[0]) {
        // Modulo 2^32; the bound on the stride and the order of the ends say that nothing wrapped.
        uint32_t odd = 0;
        for (uint32_t p = 1; p < kRows; ++p) odd |= offsets[p] - offsets[0] - p * static_cast<uint32_t>(stride);
        even = odd == 0 && stride < (1u << 28) && offsets[kRows - 1] >= offsets[0];
    }

    // `steps` steps of each pixel from `at` on.
    template <int kTile>
    void load(ptrdiff_t at, uint32_t steps, bool whole) const {
        if (even && whole) return load_tile<kTile>(rows + offsets[0] + at, stride);
        alignas(64) uint8_t gathered[kRows][4 * kMaxSteps] = {};
        for (uint32_t p = 0; p < kRows; ++p) {
            const uint8_t* from = rows + offsets[p] + at;
            for (uint32_t s = 0; s < steps; ++s) memcpy(gathered[p] + 4 * s, from + 4 * s, 4);
        }
        load_tile<kTile>(gathered, sizeof gathered[0]);
    }
};

template <int kTile>
void load_weights(const uint8_t* weights, uint32_t steps, bool whole) {
    if (whole) return load_tile<kTile>(weights, kStepBytes);
    alignas(64) uint8_t rest[kMaxSteps * kStepBytes] = {};
    memcpy(rest, weights, steps * kStepBytes);
    load_tile<kTile>(rest, kStepBytes);
}

template <int kTile>
void load_sums(const ConvTile& tile, uint32_t block, int32_t* sums) {
    if (tile.start)  // the same row for every pixel
        load_tile<kTile>(tile.start + block * tile.start_stride, 0);
    else
        load_tile<kTile>(sums + block * tile.sum_stride, kBlock * sizeof(int32_t));
}

// 12 kHalves pixels from `first` on, against a block or two.
template <bool kBothHalves, bool kPair>
void multiply(const ConvTile& tile, uint32_t first, uint32_t most_steps) {
    const Pixels near(tile, first), far(tile, first + (kBothHalves ? kRows : 0));
    auto* sums = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(first) * kBlock;
    int32_t* far_sums = sums + kRows * kBlock;
    load_sums<0>(tile, 0, sums);
    if (kPair) load_sums<1>(tile, 1, sums);
    if (kBothHalves) load_sums<2>(tile, 0, far_sums);
    if (kBothHalves && kPair) load_sums<3>(tile, 1, far_sums);
    auto* weights = static_cast<const uint8_t*>(tile.weights);
    for (uint32_t s = 0; s < tile.segment_count; ++s) {
        const Segment& segment = tile.segments[s];
        ptrdiff_t at = tile.tap_offsets[segment.tap] + static_cast<ptrdiff_t>(segment.first_step) * 4;
        for (uint32_t left = segment.step_count; left > 0;) {
            const uint32_t steps = left < most_steps ? left : most_steps;
            const bool whole = steps == most_steps;
            near.load<4>(at, steps, whole);
            load_weights<6>(weights, steps, whole);
            multiply_tiles<0, 4, 6>();
            if (kPair) {
                load_weights<7>(weights + tile.weight_stride, steps, whole);
                multiply_tiles<1, 4, 7>();
            }
            if (kBothHalves) {
                far.load<5>(at, steps, whole);
                multiply_tiles<2, 5, 6>();
                if (kPair) multiply_tiles<3, 5, 7>();
            }
            at += static_cast<ptrdiff_t>(steps) * 4;
            weights += steps * kStepBytes;
            left -= steps;
        }
    }
    constexpr size_t kStride = kBlock * sizeof(int32_t);
    store_tile<0>(sums, kStride);
    if (kPair) store_tile<1>(sums + tile.sum_stride, kStride);
    if (kBothHalves) store_tile<2>(far_sums, kStride);
    if (kBothHalves && kPair) store_tile<3>(far_sums + tile.sum_stride, kStride);
}

template <bool kPair>
void run(const ConvTile& tile) {
    const uint32_t steps = steps_a_tile(tile.segments[0].step_count);
    open_tiles(kShapes[steps - 1]);
    uint32_t first = 0;
    for (; first + kRows < tile.pixel_count; first += 2 * kRows) multiply<true, kPair>(tile, first, steps);
    if (first < tile.pixel_count) multiply<false, kPair>(tile, first, steps);
    close_tiles();
}

}  // namespace

void uq_conv_w8a8_24x32__amx(const ConvTile& tile) {
    if (tile.pair)
        run<true>(tile);
    else
        run<false>(tile);
}

}  // namespace uq
