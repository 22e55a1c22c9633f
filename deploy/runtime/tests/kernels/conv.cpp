// Convolution tiles. The reference is plain arithmetic in int64; where lanes must be flushed is proven here a second
// time, by itself, from the descriptor alone.
#include <algorithm>

#include "check.h"

using namespace uq;

namespace {

struct Range {
    int32_t low, high;
};

// A convolution block as the driver would prepare it, with random pixels.
struct Block {
    uint32_t taps, steps, group;  // steps a tap
    uint32_t pixels;
    uint32_t stride;                // of a pixel in rows
    std::vector<Segment> segments;  // in the order of the weights
    std::vector<int32_t> tap_offsets;
    std::vector<uint32_t> pixel_offsets;
    size_t row_bytes;
};

uint32_t padded(uint32_t pixels) {
    return (pixels + kTilePixels - 1) / kTilePixels * kTilePixels;
}

Block random_block(Random& random, uint32_t group, uint32_t element_bytes) {
    static const uint32_t kTaps[] = {1, 1, 2, 4, 9}, kSteps[] = {1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33};
    static const uint32_t kPixels[] = {1, 2, 3, 5, 6, 7, 23, 24, 25, 48, 61, 97, 120};
    Block block = {};
    block.taps = random.pick(kTaps);
    block.steps = random.pick(kSteps);
    block.group = group;
    block.pixels = random.pick(kPixels);
    const uint32_t bytes = block.steps * group * element_bytes;
    block.stride = bytes + static_cast<uint32_t>(random.one_in(2) ? 0 : element_bytes * random.between(1, 40));
    const bool evenly = !random.one_in(4);
    for (uint32_t t = 0; t < block.taps; ++t)
        block.tap_offsets.push_back(static_cast<int32_t>(block.stride * random.between(0, 6)));
    for (uint32_t p = 0; p < padded(block.pixels); ++p) {
        const auto position = static_cast<uint32_t>(evenly ? p : random.between(0, block.pixels));
        block.pixel_offsets.push_back(p < block.pixels ? position * block.stride : 0);  // the surplus repeats a pixel
    }
    const uint32_t last = *std::max_element(block.pixel_offsets.begin(), block.pixel_offsets.end());
    const int32_t furthest = *std::max_element(block.tap_offsets.begin(), block.tap_offsets.end());
    block.row_bytes = last + static_cast<uint32_t>(furthest) + bytes;
    return block;
}

// Segments at every end of a tap and wherever flush_before or chance says. Step number s is tap s / steps.
void cut(Random& random, Block* block, const std::vector<uint8_t>& flush_before) {
    const uint32_t total = block->taps * block->steps, often = random.one_in(2) ? 3 : 1000;
    uint32_t begin = 0;
    for (uint32_t s = 1; s <= total; ++s) {
        const bool flush = s < total && flush_before[s] != 0;
        if (s % block->steps != 0 && !flush && !random.one_in(often)) continue;
        block->segments.push_back({begin / block->steps, begin % block->steps, s - begin, flush ? 1u : 0u});
        begin = s;
    }
}

// w[step][16][group]. Empty when one step alone can leave its lanes.
std::vector<uint8_t> prove(const ByteConv& conv, const std::vector<int8_t>& w, Range range) {
    const size_t values = static_cast<size_t>(kBlock) * conv.group, steps = w.size() / values;
    std::vector<uint8_t> flush(steps, 0);
    if (conv.lane_bits == 32) return flush;
    const int64_t most = (int64_t{1} << (conv.lane_bits - 1)) - 1;
    std::vector<int64_t> high(kBlock * kMaxGroup), low(kBlock * kMaxGroup);
    for (size_t s = 0; s < steps; ++s) {
        for (int attempt = 0;; ++attempt) {
            std::vector<int64_t> h = high, l = low;
            for (size_t i = 0; i < values; ++i) {
                const int64_t a = w[s * values + i] * range.low, b = w[s * values + i] * range.high;
                const size_t lane = i / conv.group * kMaxGroup + conv.lane[i % conv.group];
                h[lane] += std::max<int64_t>(0, std::max(a, b));
                l[lane] += std::min<int64_t>(0, std::min(a, b));
            }
            const bool fits =
                *std::max_element(h.begin(), h.end()) <= most && *std::min_element(l.begin(), l.end()) >= -most - 1;
            if (fits) {
                high = h, low = l;
                break;
            }
            if (attempt) return {};
            flush[s] = 1;
            std::fill(high.begin(), high.end(), 0);
            std::fill(low.begin(), low.end(), 0);
        }
    }
    return flush;
}

// Weights that bring every lane to the last value it holds with codes of `code`: even channels to the top, odd ones to
// the bottom, over as many steps as that takes, and again.
std::vector<int8_t> brimming(const ByteConv& conv, size_t steps, int32_t code) {
    const uint32_t bits = conv.lane_bits == 32 ? 16 : conv.lane_bits;
    const int32_t most = (1 << (bits - 1)) - 1;
    std::vector<int8_t> w(steps * kBlock * conv.group);
    for (uint32_t o = 0; o < kBlock; ++o) {
        const int32_t goal = o % 2 ? (-most - 1) / code : most / code;
        for (uint32_t lane = 0; lane < kMaxGroup; ++lane) {
            int32_t left = goal;
            for (size_t s = 0; s < steps; ++s) {
                for (uint32_t i = 0; i < conv.group; ++i) {
                    if (conv.lane[i] != lane) continue;
                    const int32_t value = std::max(-128, std::min(127, left));
                    w[(s * kBlock + o) * conv.group + i] = static_cast<int8_t>(value);
                    left -= value;
                }
                if (left == 0) left = goal;
            }
        }
    }
    return w;
}

struct Case {
    std::vector<int8_t> w;
    Range range;
    int32_t code;  // that all pixels hold, where brim
    bool brim;
};

Case random_weights(Random& random, const ByteConv& conv, size_t steps) {
    static const int32_t kBrim[] = {7, 31, 1, 8, 64};
    static const int32_t kSigned[] = {-128, -8, -1, 127};
    static const Range kUnsignedRanges[] = {{0, 255}, {0, 127}, {0, 63}, {0, 15}, {0, 3}, {0, 1}, {63, 63}};
    static const Range kSignedRanges[] = {{-128, 127}, {-126, 126}, {-127, 127}, {-32, 31}, {0, 63}, {-2, 1}, {0, 1}};
    static const int32_t kReach[] = {127, 127, 63, 8, 7, 2, 1};
    Case made = {};
    made.brim = random.one_in(3);
    if (made.brim) {
        made.code = conv.signed_codes && random.one_in(2) ? random.pick(kSigned) : random.pick(kBrim);
        made.range = {std::min(made.code, 0), std::max(made.code, 0)};
        made.w = brimming(conv, steps, made.code);
        return made;
    }
    made.range = conv.signed_codes ? random.pick(kSignedRanges) : random.pick(kUnsignedRanges);
    const int32_t reach = random.pick(kReach), low = -reach - (random.one_in(2) ? 1 : 0);
    const bool extremes = random.one_in(2), one_sign = random.one_in(3);
    made.w.resize(steps * kBlock * conv.group);
    for (size_t i = 0; i < made.w.size(); ++i) {
        const int64_t extreme = one_sign ? (i / conv.group % 2 ? low : reach) : (random.one_in(2) ? low : reach);
        made.w[i] = static_cast<int8_t>(extremes ? extreme : random.between(low, reach));
    }
    return made;
}

// Rows of a tap back from [step][16][group], for the interleave under test.
void check_interleave(const ByteConv& conv, const Case& made, uint32_t steps, size_t first, int8_t* dst,
                      Report* report) {
    const size_t width = static_cast<size_t>(steps) * conv.group, stride = width + 3;
    Guarded<int8_t> rows(stride * (kBlock - 1) + width);
    const int8_t* w = made.w.data() + first;
    for (uint32_t s = 0; s < steps; ++s)
        for (uint32_t o = 0; o < kBlock; ++o)
            memcpy(&rows[o * stride + s * conv.group], w + (static_cast<size_t>(s) * kBlock + o) * conv.group,
                   conv.group);
    conv.interleave(rows.data(), stride, steps, dst);
    report->same(w, dst, width * kBlock, "interleaved");
}

// A pair of blocks gives what either gives alone.
void check_pair(const ByteConv& conv, ConvTile tile, size_t weights, Random& random, Report* report) {
    const size_t gap = 64 * static_cast<size_t>(random.between(0, 2));
    const size_t values = static_cast<size_t>(padded(tile.pixel_count)) * kBlock;
    Guarded<int8_t> w(2 * weights + gap);
    for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(random.between(-128, 127));
    Guarded<int32_t> start(2 * kBlock + gap), found(2 * values + gap), expected(2 * values + gap);
    for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<int32_t>(random.between(-1000000, 1000000));
    for (size_t i = 0; i < found.size(); ++i)
        found[i] = expected[i] = static_cast<int32_t>(random.between(-1000000, 1000000));
    const bool add = !tile.start;
    for (size_t b = 0; b < 2; ++b) {
        tile.weights = w.data() + b * (weights + gap);
        tile.start = add ? nullptr : start.data() + b * (kBlock + gap);
        tile.sums = expected.data() + b * (values + gap);
        conv.run(tile);
    }
    tile.weights = w.data();
    tile.start = add ? nullptr : start.data();
    tile.sums = found.data();
    tile.pair = true;
    tile.weight_stride = weights + gap;
    tile.start_stride = kBlock + gap;
    tile.sum_stride = values + gap;
    conv.run(tile);
    for (size_t b = 0; b < 2; ++b)
        report->same(expected.data() + b * (values + gap), found.data() + b * (values + gap),
                     static_cast<size_t>(tile.pixel_count) * kBlock, b ? "second sums" : "first sums");
    report->whole(found);
}

void byte_case(const ByteConv& conv, uint64_t seed, Report* report) {
    Random random(seed);
    Block block = random_block(random, conv.group, 1);
    const size_t steps = static_cast<size_t>(block.taps) * block.steps, tap_values = block.steps * kBlock * conv.group;
    Case made;
    std::vector<uint8_t> flush;
    while (flush.empty()) {
        made = random_weights(random, conv, steps);
        flush = prove(conv, made.w, made.range);
    }
    cut(random, &block, flush);
    const bool add = random.one_in(3), extremes = random.one_in(3);
    report->next_case(seed, text("%u pixels, %u taps of %u steps, %zu segments, codes %d to %d%s%s", block.pixels,
                                 block.taps, block.steps, block.segments.size(), made.range.low, made.range.high,
                                 made.brim ? ", to the brim" : "", add ? ", added" : ""));
    Guarded<uint8_t> rows(block.row_bytes);
    for (size_t i = 0; i < rows.size(); ++i) {
        int64_t code = random.between(made.range.low, made.range.high);
        if (extremes) code = random.one_in(2) ? made.range.low : made.range.high;
        rows[i] = static_cast<uint8_t>(made.brim ? made.code : code);
    }
    Guarded<int8_t> weights(made.w.size());
    for (uint32_t t = 0; t < block.taps; ++t)
        check_interleave(conv, made, block.steps, t * tap_values, weights.data() + t * tap_values, report);
    Guarded<int32_t> start(kBlock), sums(static_cast<size_t>(padded(block.pixels)) * kBlock);
    for (uint32_t o = 0; o < kBlock; ++o) start[o] = static_cast<int32_t>(random.between(-1000000, 1000000));
    std::vector<int32_t> expected(static_cast<size_t>(block.pixels) * kBlock);
    for (uint32_t p = 0; p < block.pixels; ++p) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            int64_t sum = start[o];
            if (add) sum = sums[p * kBlock + o] = static_cast<int32_t>(random.between(-1000000, 1000000));
            const int8_t* w = made.w.data();
            for (uint32_t t = 0; t < block.taps; ++t) {
                const uint8_t* a = rows.data() + block.pixel_offsets[p] + block.tap_offsets[t];
                for (uint32_t s = 0; s < block.steps; ++s, w += kBlock * conv.group)
                    for (uint32_t i = 0; i < conv.group; ++i, ++a)
                        sum += w[o * conv.group + i] * (conv.signed_codes ? static_cast<int8_t>(*a) : *a);
            }
            expected[p * kBlock + o] = static_cast<int32_t>(sum);
        }
    }
    const ConvTile tile = {rows.data(),
                           block.pixel_offsets.data(),
                           block.pixels,
                           block.tap_offsets.data(),
                           block.segments.data(),
                           static_cast<uint32_t>(block.segments.size()),
                           weights.data(),
                           add ? nullptr : start.data(),
                           sums.data()};
    conv.run(tile);
    report->same(expected.data(), sums.data(), expected.size(), "sums");
    report->whole(sums);
    if (conv.pairs) check_pair(conv, tile, weights.size(), random, report);
}

template <typename Input, typename Sum>
void wide_case(void (*run)(const ConvTile&), void (*reference)(const ConvTile&), uint32_t group, uint64_t seed,
               Report* report) {
    Random random(seed);
    Block block = random_block(random, group, sizeof(Input));
    cut(random, &block, std::vector<uint8_t>(static_cast<size_t>(block.taps) * block.steps));
    const bool add = random.one_in(3), codes = random.one_in(2);
    report->next_case(
        seed, text("%u pixels, %u taps of %u steps%s", block.pixels, block.taps, block.steps, add ? ", added" : ""));
    // Words: what the driver makes of codes and weights, or as much as int32 holds.
    const size_t products = static_cast<size_t>(block.taps) * block.steps * group;
    Guarded<Input> rows(block.row_bytes / sizeof(Input)), weights(products * kBlock);
    for (size_t i = 0; i < rows.size(); ++i)
        rows[i] = sizeof(Input) == 4 ? static_cast<Input>(random.real() * 8)
                                     : static_cast<Input>(codes ? random.between(0, 255) : random.between(-1500, 1500));
    for (size_t i = 0; i < weights.size(); ++i)
        weights[i] = sizeof(Input) == 4 ? static_cast<Input>(random.real())
                                        : static_cast<Input>(random.one_in(2) ? -128 : random.between(-2000, 2000));
    const size_t values = static_cast<size_t>(padded(block.pixels)) * kBlock;
    Guarded<Sum> found(values), expected(values);
    Guarded<int32_t> start(kBlock);
    for (uint32_t o = 0; o < kBlock; ++o) start[o] = static_cast<int32_t>(random.between(-1000, 1000));
    if (add)
        for (size_t i = 0; i < values; ++i) found[i] = expected[i] = static_cast<Sum>(random.between(-1000, 1000));
    ConvTile tile = {reinterpret_cast<const uint8_t*>(rows.data()),
                     block.pixel_offsets.data(),
                     block.pixels,
                     block.tap_offsets.data(),
                     block.segments.data(),
                     static_cast<uint32_t>(block.segments.size()),
                     weights.data(),
                     add ? nullptr : start.data(),
                     expected.data()};
    reference(tile);
    tile.sums = found.data();
    run(tile);
    report->same(expected.data(), found.data(), static_cast<size_t>(block.pixels) * kBlock, "sums");
    report->whole(found);
}

}  // namespace

void test_byte_convs(const Kernels& kernels, uint64_t seed, uint32_t rounds) {
    for (uint32_t c = 0; c < kernels.byte_conv_count; ++c) {
        Report report(kernels.name, kernels.byte_convs[c].name);
        for (uint32_t r = 0; r < 4 * rounds; ++r) byte_case(kernels.byte_convs[c], seed * 1000003 + r, &report);
    }
}

void test_wide_convs(const Kernels& kernels, const Kernels& scalar, uint64_t seed, uint32_t rounds) {
    Report words(kernels.name, "conv_w16a16"), floats(kernels.name, "conv_w32a32");
    for (uint32_t r = 0; r < rounds; ++r) {
        wide_case<int16_t, int32_t>(kernels.conv_w16a16, scalar.conv_w16a16, 2, seed * 1000003 + r, &words);
        wide_case<float, float>(kernels.conv_w32a32, scalar.conv_w32a32, 1, seed * 1000003 + r, &floats);
    }
}
