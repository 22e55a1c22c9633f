#include "conv_shape.h"

#include "bits.h"
#include "dynamic.h"
#include "ops.h"

namespace uq {
namespace {

constexpr uint64_t kStripPixels = 256;     // pixels a strip has at least
constexpr uint64_t kChunkTiles = 48;       // their transforms stay in the second-level cache
constexpr uint64_t kPassBytes = 3u << 18;  // of unpacked weights, beside tensors that are small where weights are many
constexpr uint64_t kMaxWindow = 1u << 30;  // offsets in the window are 32 bits

uint64_t at_most(uint64_t value, uint64_t limit) {
    return value < limit ? value : limit;
}

uint64_t up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

}  // namespace

namespace {

uint64_t block_bytes(const Conv& conv) {
    uint64_t bytes = 0;
    for (size_t p = 0; p < conv.phases.size(); ++p) bytes += conv.block_bytes(conv.phases[p]);
    return bytes;
}

}  // namespace

uint32_t conv_passes(const Conv& conv) {
    if (conv.together) return (conv.blocks + conv.together - 1) / conv.together;
    const uint64_t bytes = block_bytes(conv), fit = bytes < kPassBytes ? kPassBytes / (bytes ? bytes : 1) : 1;
    return static_cast<uint32_t>((conv.blocks + fit - 1) / fit);
}

Pass conv_pass(const Conv& conv, uint32_t index) {
    const uint64_t passes = conv_passes(conv);
    const uint64_t blocks = conv.together ? conv.together : (conv.blocks + passes - 1) / passes;
    return Pass{static_cast<uint32_t>(at_most(index * blocks, conv.blocks)),
                static_cast<uint32_t>(at_most((index + 1) * blocks, conv.blocks))};
}

uint64_t block_offset(const Conv& conv, const Pass& pass, size_t phase, uint32_t block) {
    uint64_t bytes = 0;
    for (size_t p = 0; p < phase; ++p) bytes += conv.block_bytes(conv.phases[p]) * (pass.end_block - pass.first_block);
    return bytes + (block - pass.first_block) * conv.block_bytes(conv.phases[phase]);
}

namespace {

struct TileShape {
    uint64_t rows;
    uint64_t columns;
};

// Rows and columns of the tiles of a chunk: as many as fit together, and as few as possible of those that kernels
// compute in vain where a chunk's tiles are no multiple of theirs.
TileShape best_tiles(const uint32_t count[3]) {
    constexpr uint64_t kKernelTiles = 12, kMaxRows = 6;
    const uint64_t height = (static_cast<uint64_t>(count[1]) + 1) / 2;
    const uint64_t width = (static_cast<uint64_t>(count[2]) + 1) / 2;
    TileShape best = {1, width};
    uint64_t least = kTooLarge;
    for (uint64_t rows = 1; rows <= kMaxRows && rows <= height; ++rows) {
        const uint64_t columns = at_most(kChunkTiles / rows, width);
        auto strip = [&](uint64_t r) {
            return width / columns * up(r * columns, kKernelTiles) + up(r * (width % columns), kKernelTiles);
        };
        const uint64_t tiles = height / rows * strip(rows) + strip(height % rows);
        if (tiles >= least) continue;
        least = tiles;
        best = TileShape{rows, columns};
    }
    return best;
}

}  // namespace

Geometry conv_geometry(const Conv& conv, const Phase& phase, const uint32_t output[3]) {
    Geometry g = {};
    for (int a = 0; a < 3; ++a) {
        uint32_t step = conv.output_step[a], origin = phase.origin[a];
        g.count[a] = output[a] > origin ? (output[a] - origin + step - 1) / step : 0;
    }
    g.all_pixels = pixels(g.count);
    if (g.all_pixels == 0) return g;
    const bool winograd = conv.scheme == Scheme::kWinograd;
    const uint64_t wanted = winograd ? 4 * kChunkTiles : kStripPixels;
    const uint64_t plane = static_cast<uint64_t>(g.count[1]) * g.count[2];
    const TileShape shape = winograd ? best_tiles(g.count) : TileShape{};
    g.strip[2] = g.chunk = g.count[2];
    g.strip[1] = static_cast<uint32_t>(at_most((wanted + g.count[2] - 1) / g.count[2], g.count[1]));
    if (winograd && plane > wanted) {
        g.strip[1] = static_cast<uint32_t>(at_most(2 * shape.rows, g.count[1]));
        g.chunk = static_cast<uint32_t>(at_most(2 * shape.columns, g.count[2]));
    } else if (winograd) {
        g.strip[1] = g.count[1];
    }
    const uint64_t depths = g.strip[1] < g.count[1] ? 1 : (wanted + plane - 1) / plane;
    g.strip[0] = static_cast<uint32_t>(at_most(depths, g.count[0]));
    for (int a = 0; a < 2; ++a) g.strips[a] = (g.count[a] + g.strip[a] - 1) / g.strip[a];
    g.strip_pixels = pixels(g.strip);
    g.chunk_pixels = static_cast<uint64_t>(g.strip[0]) * g.strip[1] * g.chunk;
    if (phase.taps.size() == 0) return g;
    g.window_bytes = static_cast<uint64_t>(conv.window_channels) * conv.element_bytes;
    for (int a = 0; a < 3; ++a) {
        const uint64_t reach = static_cast<uint64_t>(static_cast<int64_t>(phase.most[a]) - phase.least[a]);
        const uint64_t outputs = winograd && a > 0 ? up(g.strip[a], 2) : g.strip[a];
        g.window[a] = (outputs - 1) * conv.input_step[a] + reach + 1;
        g.window_bytes = product(g.window_bytes, g.window[a]);
    }
    const uint64_t flat = static_cast<uint64_t>((g.strip[1] + 1) / 2) * ((g.chunk + 1) / 2);
    g.tiles = flat * g.strip[0];
    g.deep_tiles = flat * g.window[0];
    return g;
}

uint64_t conv_work_units(const Op& op, const uint32_t output[3]) {
    uint64_t positions = 0;
    for (size_t p = 0; p < op.conv.phases.size(); ++p) {
        const Phase& phase = op.conv.phases[p];
        positions += product(conv_geometry(op.conv, phase, output).all_pixels, phase.taps.size());
    }
    return product(positions, product(op.output_channels, op.conv.group_inputs));
}

uint8_t* carve_weights(const Conv& conv, Carver* carver) {
    const Pass first = conv_pass(conv, 0);
    return carver->take<uint8_t>(product(block_bytes(conv), first.end_block - first.first_block));
}

uint64_t kept_pixels(const Geometry& g) {
    if (g.all_pixels == 0) return 0;
    const uint64_t strips = static_cast<uint64_t>(g.strips[0]) * g.strips[1];
    return product(strips * ((static_cast<uint64_t>(g.count[2]) + g.chunk - 1) / g.chunk),
                   padded_pixels(g.chunk_pixels));
}

SharedSums carve_sums(const uq_layout& layout, const Op& op, Carver* carver) {
    const bool kept = layout.keeps_sums(op);
    const uint64_t blocks = kept ? op.conv.blocks : op.conv.together, values = product(blocks, kBlock);
    SharedSums shared = {};
    for (size_t p = 0; blocks && p < op.conv.phases.size(); ++p) {
        const Geometry g = conv_geometry(op.conv, op.conv.phases[p], layout.places[op.output].size);
        shared.pixels += kept ? kept_pixels(g) : g.all_pixels;
    }
    if (op.conv.together) shared.pixels += kTilePixels;  // a tile's surplus
    shared.sums = carver->take<int32_t>(product(shared.pixels, values));
    shared.norm = carver->take<NormSums>(op.conv.together);
    return shared;
}

bool takes_pairs(const Op& op) {
    return op.conv.kernel && op.conv.kernel->pairs && op.groups == 1 && op.conv.blocks > 1 && !op.epilogue.norm_weight;
}

ConvWork carve_conv(const uq_layout& layout, const Op& op, Carver* carver) {
    const Conv& conv = op.conv;
    const uq_model& model = *layout.model;
    const uint32_t* input = layout.places[op.inputs[0]].size;
    const uint32_t* output = layout.places[op.output].size;
    const bool winograd = conv.scheme == Scheme::kWinograd, bits = conv.scheme == Scheme::kBits;
    uint64_t window = 0, strip = 0, chunk = 0, all = 0, taps = 0, tiles = 0, deep_tiles = 0, words = 0;
    auto raise = [](uint64_t value, uint64_t* most) { *most = value > *most ? value : *most; };
    for (size_t p = 0; p < conv.phases.size(); ++p) {
        Geometry g = conv_geometry(conv, conv.phases[p], output);
        raise(g.window_bytes, &window);
        raise(g.strip_pixels, &strip);
        raise(g.chunk_pixels, &chunk);
        raise(conv.phases[p].taps.size(), &taps);
        raise(g.tiles, &tiles);
        raise(g.deep_tiles, &deep_tiles);
        if (bits) raise(bit_patch_words(conv, conv.phases[p], g.strip_pixels), &words);
        all += g.all_pixels;
    }
    const bool wide = conv.element_bytes > 1;
    const Tensor& result = model.tensors[op.output];
    const uint64_t code_bytes = result.is_float || result.dynamic ? 4 : 1;
    const uint64_t pixel_bytes = static_cast<uint64_t>(conv.padded_channels) * conv.element_bytes;
    ConvWork work = {};
    work.window = carver->take<uint8_t>(window > kMaxWindow ? kTooLarge : window + slack_bytes(conv));
    work.bytes = carver->take<uint8_t>(wide ? product(input[2], bits ? conv.input_channels : conv.window_channels) : 0);
    work.packed = carver->take<uint8_t>(bits ? product(input[2], (2 * conv.input_channels + 7) / 8) : 0);
    work.patches = carver->take<uint8_t>(bits           ? product(words, sizeof(uint32_t))
                                         : conv.patches ? product(strip, pixel_bytes) + sizeof(uint64_t)
                                                        : 0);
    work.pixel_offsets = carver->take<uint32_t>(winograd ? padded_pixels(tiles) : padded_pixels(strip));
    work.tap_offsets = carver->take<int32_t>(taps);
    work.scratch = carver->take<int8_t>(weight_scratch_bytes(op));
    work.transformed = carver->take<uint8_t>(
        winograd ? product(kPositions, position_bytes(deep_tiles, pixel_bytes)) + slack_bytes(conv) : 0);
    work.products = carver->take<int32_t>(winograd ? kTilePixels * kPositions * kBlock : 0);
    // With instance norm the chunks' sums follow each other, and a tile's surplus goes beyond the end of the last one.
    const uint64_t sums = op.epilogue.norm_weight ? all + kTilePixels : padded_pixels(chunk);
    const bool shared = conv.together || layout.keeps_sums(op);
    const uint64_t values = shared ? 0 : takes_pairs(op) && !op.epilogue.norm_weight ? 2 * kBlock : kBlock;
    work.sums = carver->take<int32_t>(product(sums, values));
    work.codes = carver->take<uint8_t>(product(chunk, kBlock * code_bytes));
    const uint64_t channels = static_cast<uint64_t>(kBlock) * (conv.together ? conv.together : 1);
    work.gain = carver->take<float>(channels);
    work.offset = carver->take<float>(channels);
    work.scaled_gain = carver->take<float>(reads_scale(model, op) ? round_up(op.output_channels, kBlock) : 0);
    uint64_t producers = 0;
    for (uint32_t i = 0; i < op.input_count; ++i)
        if (const Op* maker = layout.fused_maker(op.inputs[i])) raise(row_work_bytes(layout, *maker), &producers);
    work.producers = carver->take<uint8_t>(producers);
    return work;
}

}  // namespace uq
