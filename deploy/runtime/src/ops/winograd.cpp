// The 16 positions of the tiles are 16 independent products of matrices, [tile][channel] x [channel][16], which are
// convolutions of one tap (one a depth in 3-D) for the byte kernels. prepare.cpp says why the result is exact.
#include "winograd.h"

namespace uq {
namespace {

// Tiles whose products over all positions stay in the first-level cache; with a pair of blocks half as many.
constexpr uint32_t kGroupTiles = kTilePixels;

}  // namespace

void transform_chunk(const Kernels& kernels, const Conv& conv, const Window& window, const Geometry& geometry,
                     const Chunk& chunk, const ConvWork& work) {
    const size_t pixel_bytes = conv.padded_channels;
    const uint64_t planes = geometry.window[0] - (geometry.strip[0] - chunk.depths);
    const size_t position_stride = position_bytes(planes * chunk.plane_tiles(), pixel_bytes);
    for (uint64_t z = 0; z < planes; ++z) {
        for (uint32_t r = 0; r < chunk.tile_rows(); ++r) {
            const uint8_t* rows[4];
            for (uint32_t i = 0; i < 4; ++i)
                rows[i] = window.data() + window.at(z, 2 * r + i, chunk.column) * pixel_bytes;
            const size_t first_tile = z * chunk.plane_tiles() + static_cast<size_t>(r) * chunk.tile_columns();
            kernels.winograd_input(rows, chunk.tile_columns(), conv.padded_channels, conv.position_offset,
                                   work.transformed + first_tile * pixel_bytes, position_stride);
        }
    }
    const uint32_t tiles = chunk.tiles();
    for (uint32_t t = 0; t < padded_pixels(tiles); ++t)
        work.pixel_offsets[t] = t < tiles ? static_cast<uint32_t>(t * pixel_bytes) : 0;
    // Depth taps lie as many planes apart as in the window.
    const Phase& phase = conv.phases[0];
    for (uint32_t k = 0; k < conv.kernel_taps(phase); ++k) {
        const size_t plane = static_cast<size_t>(phase.taps[k * 9].offset[0] - phase.least[0]);
        work.tap_offsets[k] = static_cast<int32_t>(plane * chunk.plane_tiles() * pixel_bytes);
    }
}

void sum_winograd(const Kernels& kernels, const Conv& conv, const Phase& phase, uint32_t block, const uint8_t* weights,
                  const Chunk& chunk, const ConvWork& work, int32_t* sums, size_t sum_stride) {
    const uint32_t blocks = sum_stride ? 2 : 1, group = kGroupTiles / blocks;
    const size_t product_stride = static_cast<size_t>(group) * kBlock;
    const uint32_t tiles = chunk.tiles(), across = chunk.tile_columns();
    const size_t planes = work.tap_offsets[conv.kernel_taps(phase) - 1] /
                              (static_cast<size_t>(chunk.plane_tiles()) * conv.padded_channels) +
                          chunk.depths;
    const size_t position_stride = position_bytes(planes * chunk.plane_tiles(), conv.padded_channels);
    ConvTile tile = {};
    tile.tap_offsets = work.tap_offsets;
    tile.pair = blocks == 2;
    tile.weight_stride = conv.block_bytes(phase);
    tile.start_stride = static_cast<size_t>(kPositions) * kBlock;
    tile.sum_stride = kPositions * product_stride;
    tile.pixel_stride = conv.padded_channels;
    const size_t part_bytes = conv.part_bytes(phase);
    const Segment* all_segments = phase.segments.data();
    const auto run = conv.kernel->run;
    for (uint32_t first = 0; first < tiles; first += group) {
        const uint32_t count = tiles - first < group ? tiles - first : group;
        tile.pixel_offsets = work.pixel_offsets + first;
        tile.pixel_count = count;
        // A call is short where channels are few, so what it needs is stepped along, not computed anew.
        const uint32_t* segments = &phase.first_segment[block * kPositions];
        tile.rows = work.transformed;
        tile.weights = weights;
        tile.start = &phase.start[static_cast<size_t>(block) * kPositions * kBlock];
        tile.sums = work.products;
        for (uint32_t p = 0; p < kPositions; ++p, ++segments) {
            tile.segments = all_segments + segments[0];
            tile.segment_count = segments[1] - segments[0];
            run(tile);
            tile.rows += position_stride;
            tile.weights = static_cast<const uint8_t*>(tile.weights) + part_bytes;
            tile.start += kBlock;
            tile.sums = static_cast<int32_t*>(tile.sums) + product_stride;
        }
        // Back to pixels, a run of tiles of one tile row at a time.
        for (uint32_t t = first; t < first + count;) {
            const uint32_t depth = t / chunk.plane_tiles(), row = t % chunk.plane_tiles() / across, column = t % across;
            const uint32_t end = first + count - t < across - column ? first + count - t : across - column;
            const uint32_t last = 2 * (column + end) < chunk.columns ? 2 * (column + end) : chunk.columns;
            const size_t pixel = (static_cast<size_t>(depth) * chunk.rows + 2 * row) * chunk.columns + 2 * column;
            const int32_t* products = work.products + static_cast<size_t>(t - first) * kBlock;
            int32_t* row0 = sums + pixel * kBlock;
            for (uint32_t b = 0; b < blocks; ++b, row0 += sum_stride, products += tile.sum_stride) {
                int32_t* row1 = 2 * row + 1 < chunk.rows ? row0 + static_cast<size_t>(chunk.columns) * kBlock : nullptr;
                kernels.winograd_output(products, product_stride, last - 2 * column, row0, row1);
            }
            t += end;
        }
    }
}

}  // namespace uq
