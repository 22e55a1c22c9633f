// Look-up tiles against the products of the weights and codes behind them, and tables against their sums.
#include "check.h"

using namespace uq;

namespace {

constexpr uint32_t kGroup = 16;

uint32_t code(Random& random, uint32_t fill, uint32_t high) {
    if (fill == 0) return high;
    if (fill == 1 && !random.one_in(8)) return high;
    return static_cast<uint32_t>(random.between(0, high));
}

int32_t weight(Random& random, uint32_t fill, bool sign) {
    static const int32_t kExtremes[] = {-2, 1, -1};
    const int32_t w = fill < 3 ? kExtremes[fill] : static_cast<int32_t>(random.between(-2, 1));
    return sign ? (w < 0 ? -1 : 1) : w;
}

void lookup_case(const LookupConv& conv, uint32_t form, uint64_t seed, Report* report) {
    static const uint32_t kSteps[] = {1, 1, 2, 3, 4, 8, 9, 16};
    static const uint32_t kPixels[] = {1, 2, 3, 4, 5, 7, 8, 11, 24, 25, 31};
    Random random(seed);
    const bool sign = form == kLookupSign, add = random.one_in(2);
    const uint32_t planes = sign ? 1 : 2, high = (1u << random.between(1, sign ? 5 : 6)) - 1;
    const uint32_t pixels = random.pick(kPixels), padded = (pixels + kTilePixels - 1) / kTilePixels * kTilePixels;
    const uint32_t taps = static_cast<uint32_t>(random.between(1, 9)), steps_a_tap = random.pick(kSteps);
    const uint32_t positions = pixels + taps, capacity = (sign ? INT16_MAX : UINT16_MAX) / (16 * high);
    const uint32_t code_fill = static_cast<uint32_t>(random.between(0, 3)), channels = steps_a_tap * kGroup;
    report->next_case(seed, text("%u pixels, %u taps of %u steps, codes to %u%s", pixels, taps, steps_a_tap, high,
                                 add ? ", added" : ""));
    Guarded<uint8_t> codes(static_cast<size_t>(positions) * channels), rows(codes.size() * 4);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(code(random, code_fill, high));
    conv.forms[form].expand(codes.data(), codes.size() / kGroup, rows.data());
    report->whole(rows);
    std::vector<uint8_t> tables(rows.size());
    for (size_t i = 0; i < tables.size(); ++i) {
        int32_t sum = 0;
        for (uint32_t c = 0; c < 4; ++c) {
            const int32_t u = codes[i / 16 * 4 + c];
            sum += i >> c & 1 ? u : sign ? -u : 0;
        }
        tables[i] = static_cast<uint8_t>(sum);
    }
    report->same(tables.data(), rows.data(), tables.size(), "tables");

    std::vector<uint32_t> offsets(padded, 0);
    for (uint32_t p = 0; p < pixels; ++p) offsets[p] = static_cast<uint32_t>(random.next() % pixels) * channels * 4;
    std::vector<int32_t> tap_offsets;
    std::vector<Segment> segments;
    const uint32_t flush_all = random.one_in(3);
    uint32_t since = 0;
    for (uint32_t t = 0; t < taps; ++t) {
        tap_offsets.push_back(static_cast<int32_t>((random.next() % (taps + 1)) * channels * 4));
        for (uint32_t first = 0, s = 1; s <= steps_a_tap; ++s) {
            const bool flush = ++since == capacity || (flush_all && random.one_in(4));
            if (flush) since = 0;
            if (s < steps_a_tap && !flush) continue;
            segments.push_back(Segment{t, first, s - first, flush});
            first = s;
        }
    }
    const size_t steps = static_cast<size_t>(taps) * steps_a_tap;
    Guarded<uint8_t> indices(steps * planes * 64);
    memset(indices.data(), 0, indices.size());
    std::vector<int32_t> weights(steps * kBlock * kGroup);
    uint32_t fills[kBlock];
    for (uint32_t& fill : fills) fill = static_cast<uint32_t>(random.between(0, 5));
    for (size_t s = 0; s < steps; ++s) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            for (uint32_t c = 0; c < kGroup; ++c) {
                const int32_t w = weights[(s * kBlock + o) * kGroup + c] = weight(random, fills[o], sign);
                const size_t at = s * planes * 64 + c / 8 * 32 + o / 8 * 16 + o % 8 * 2 + c / 4 % 2;
                const uint32_t bits = sign ? w > 0 : static_cast<uint32_t>(w) & 3;
                for (uint32_t j = 0; j < planes; ++j)
                    indices[at + j * 64] |= static_cast<uint8_t>(c / 4 % 2 * 16 | (bits >> j & 1) << c % 4);
            }
        }
    }
    Guarded<int32_t> start(kBlock), sums(static_cast<size_t>(padded) * kBlock);
    for (uint32_t o = 0; o < kBlock; ++o) start[o] = static_cast<int32_t>(random.between(-100000, 100000));
    for (size_t i = 0; i < sums.size() && add; ++i) sums[i] = static_cast<int32_t>(random.between(-100000, 100000));
    std::vector<int32_t> expected(static_cast<size_t>(pixels) * kBlock);
    for (uint32_t p = 0; p < pixels; ++p) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            int32_t sum = add ? sums[p * kBlock + o] : start[o];
            for (uint32_t t = 0; t < taps; ++t) {
                const uint8_t* u = codes.data() + (offsets[p] + static_cast<uint32_t>(tap_offsets[t])) / 4;
                for (uint32_t i = 0; i < channels; ++i)
                    sum += weights[((t * steps_a_tap + i / kGroup) * kBlock + o) * kGroup + i % kGroup] * u[i];
            }
            expected[p * kBlock + o] = sum;
        }
    }
    ConvTile tile = {};
    tile.rows = rows.data();
    tile.pixel_offsets = offsets.data();
    tile.pixel_count = pixels;
    tile.tap_offsets = tap_offsets.data();
    tile.segments = segments.data();
    tile.segment_count = static_cast<uint32_t>(segments.size());
    tile.weights = indices.data();
    tile.start = add ? nullptr : start.data();
    tile.sums = sums.data();
    conv.forms[form].run(tile);
    report->same(expected.data(), sums.data(), expected.size(), "sums");
    report->whole(sums);
}

}  // namespace

void test_lookup_convs(const Kernels& kernels, uint64_t seed, uint32_t rounds) {
    for (uint32_t form = 0; form < kLookupForms; ++form) {
        Report report(kernels.name, kernels.lookup_conv->forms[form].name);
        for (uint32_t r = 0; r < 4 * rounds; ++r) lookup_case(*kernels.lookup_conv, form, seed * 1000003 + r, &report);
    }
}
