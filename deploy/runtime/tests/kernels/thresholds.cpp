// Sums to codes by their thresholds, against comparing one after the other.
#include <algorithm>

#include "check.h"

using namespace uq;

namespace {

void threshold_case(const Kernels& kernels, uint64_t seed, Report* report) {
    static const uint32_t kChannels[] = {1, 3, 8, 15, 16, 17, 31, 32, 48, 50, 64},
                          kPixels[] = {1, 2, 3, 4, 5, 7, 8, 13};
    Random random(seed);
    const bool two = random.one_in(2), bytes = random.one_in(4);
    const uint32_t bits = two ? 2 : 1, levels = (1u << bits) - 1, storage = bytes ? 8 : bits;
    const uint32_t channels = random.pick(kChannels), pixels = random.pick(kPixels);
    const uint32_t padded = (channels + kBlock - 1) / kBlock * kBlock;
    const size_t stride = padded + (random.one_in(2) ? 0 : kBlock), table = padded + (random.one_in(2) ? 0 : kBlock);
    const size_t packed = (channels * storage + 7) / 8, pixel_stride = packed + (random.one_in(2) ? 0 : 3);
    report->next_case(seed, text("%u pixels, %u channels, %u bits in %u", pixels, channels, bits, storage));
    Guarded<int32_t> sums((pixels - 1) * stride + padded), above((levels - 1) * table + padded);
    Guarded<uint8_t> first(padded), falling(padded), found((pixels - 1) * pixel_stride + packed);
    for (uint32_t c = 0; c < padded; ++c) {
        int32_t cuts[3];
        for (int32_t& cut : cuts) {
            cut = static_cast<int32_t>(random.between(-20, 20));
            if (random.one_in(10)) cut = random.one_in(2) ? INT32_MIN : INT32_MAX;
        }
        std::sort(cuts, cuts + levels);
        for (uint32_t l = 0; l < levels; ++l) above[l * table + c] = cuts[l];
        falling[c] = random.one_in(3) ? 255 : 0;
        first[c] = static_cast<uint8_t>(falling[c] ? levels : 0);
        if (random.one_in(5)) {  // a channel that begins elsewhere passes fewer thresholds, and one of a signed grid
            first[c] = static_cast<uint8_t>(random.between(0, levels));
            for (uint32_t l = 0; l < levels; ++l) above[l * table + c] = INT32_MAX;
        } else if (random.one_in(3)) {
            first[c] = static_cast<uint8_t>(first[c] - (1 << (bits - 1)));
        }
    }
    for (size_t i = 0; i < sums.size(); ++i)
        sums[i] = random.one_in(20) ? (random.one_in(2) ? -INT32_MAX : INT32_MAX)
                                    : static_cast<int32_t>(random.between(-25, 25));
    kernels.threshold(sums.data(), stride, {above.data(), table, levels, first.data(), falling.data()},
                      {found.data(), pixel_stride, pixels, channels, storage});
    std::vector<uint8_t> expected(found.data(), found.data() + found.size());
    for (uint32_t p = 0; p < pixels; ++p) {
        uint8_t* row = expected.data() + p * pixel_stride;
        std::fill(row, row + packed, 0);
        for (uint32_t c = 0; c < channels; ++c) {
            uint32_t count = 0;
            for (uint32_t l = 0; l < levels; ++l) count += sums[p * stride + c] > above[l * table + c];
            const auto code = static_cast<uint8_t>(falling[c] ? first[c] - count : first[c] + count);
            row[c * storage / 8] |= static_cast<uint8_t>((bytes ? code : code & levels) << c * storage % 8);
        }
    }
    for (uint32_t p = 0; p + 1 < pixels; ++p)
        for (size_t i = packed; i < pixel_stride; ++i) expected[p * pixel_stride + i] = 0xA5;
    report->same(expected.data(), found.data(), found.size(), "codes");
    report->whole(found);
}

}  // namespace

void test_thresholds(const Kernels& kernels, uint64_t seed, uint32_t rounds) {
    Report report(kernels.name, "threshold");
    for (uint32_t r = 0; r < 4 * rounds; ++r) threshold_case(kernels, seed * 1000003 + r, &report);
}
