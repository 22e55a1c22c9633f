// Bit-serial tiles against counting one bit after the other.
#include "check.h"

using namespace uq;

namespace {

enum class Fill { kRandom, kZeros, kOnes, kMany };

uint32_t word(Random& random, Fill fill) {
    switch (fill) {
        case Fill::kRandom:
            return static_cast<uint32_t>(random.next());
        case Fill::kZeros:
            return 0;
        case Fill::kOnes:
            return UINT32_MAX;
        case Fill::kMany:
            return random.one_in(8) ? static_cast<uint32_t>(random.next()) : UINT32_MAX;
    }
    return 0;
}

void bit_case(const BitConv& conv, uint32_t form, uint64_t seed, Report* report) {
    static const uint32_t kSteps[] = {1, 2, 3, 4, 5, 6, 8, 9, 18, 30, 31, 32, 33, 36, 61, 62, 63, 64, 93, 94, 250};
    static const uint32_t kPixels[] = {1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 24, 25, 31};
    static const int32_t kFactors[] = {1, -1, -2};
    static const Fill kFills[] = {Fill::kRandom, Fill::kRandom, Fill::kZeros, Fill::kOnes, Fill::kMany};
    Random random(seed);
    const uint32_t side = conv.tile_pixels, words = form == kBitSign ? 2 : 1;
    uint32_t planes = static_cast<uint32_t>(random.between(1, 4)), steps = random.pick(kSteps);
    uint32_t pixels = random.pick(kPixels);
    if (conv.capacity < 10000 && random.one_in(40)) {  // as much as a run may count
        planes = 1;
        steps = conv.capacity;
        pixels = 2;
    }
    if (steps > conv.capacity / ((1u << planes) - 1)) steps = conv.capacity / ((1u << planes) - 1);
    const uint32_t tiles = (pixels + side - 1) / side;
    const size_t plane_stride = static_cast<size_t>(side) * (steps + static_cast<uint32_t>(random.between(0, 3)));
    const size_t tile_stride = plane_stride * planes + static_cast<size_t>(side) * random.next() % 3;
    const bool add = random.one_in(2);
    const int32_t factor = random.pick(kFactors);
    report->next_case(seed, text("%u pixels, %u planes of %u steps, factor %d%s", pixels, planes, steps, factor,
                                 add ? ", added" : ""));
    // The last plane of the last tile ends with its last step.
    Guarded<uint32_t> codes((tiles - 1) * tile_stride + (planes - 1) * plane_stride +
                            static_cast<size_t>(side) * steps);
    Guarded<uint32_t> weights(static_cast<size_t>(steps) * words * kBlock);
    const Fill code_fill = random.pick(kFills), weight_fill = random.pick(kFills);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = word(random, code_fill);
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = word(random, weight_fill);
    if (form == kBitSign)  // no weight is +1 and -1
        for (size_t i = 0; i < weights.size(); ++i)
            if (i / kBlock % 2) weights[i] &= ~weights[i - kBlock];
    Guarded<int32_t> start(kBlock), sums(static_cast<size_t>(tiles) * side * kBlock);
    for (uint32_t o = 0; o < kBlock; ++o) start[o] = static_cast<int32_t>(random.between(-100000, 100000));
    std::vector<int32_t> expected(static_cast<size_t>(pixels) * kBlock);
    for (uint32_t p = 0; p < pixels; ++p) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            int64_t total = 0;
            for (uint32_t j = 0; j < planes; ++j) {
                for (uint32_t s = 0; s < steps; ++s) {
                    const uint32_t u = codes[p / side * tile_stride + j * plane_stride + s * side + p % side];
                    const uint32_t* w = weights.data() + static_cast<size_t>(s) * words * kBlock + o;
                    for (uint32_t bit = 0; bit < 32; ++bit) {
                        const bool a = u >> bit & 1, b = w[0] >> bit & 1;
                        const bool counts = form == kBitXor   ? a != b
                                            : form == kBitAnd ? a && b
                                                              : (a ? b : (w[kBlock] >> bit & 1));
                        total += static_cast<int64_t>(counts) << j;
                    }
                }
            }
            const size_t at = static_cast<size_t>(p) * kBlock + o;
            if (add) sums[at] = static_cast<int32_t>(random.between(-100000, 100000));
            expected[at] = static_cast<int32_t>((add ? sums[at] : start[o]) + factor * total);
        }
    }
    conv.forms[form].run({codes.data(), tile_stride, plane_stride, planes, pixels, steps, weights.data(),
                          add ? nullptr : start.data(), sums.data(), factor});
    report->same(expected.data(), sums.data(), expected.size(), "sums");
    report->whole(sums);
}

}  // namespace

void test_bit_convs(const Kernels& kernels, uint64_t seed, uint32_t rounds) {
    for (uint32_t form = 0; form < kBitForms; ++form) {
        Report report(kernels.name, kernels.bit_conv->forms[form].name);
        for (uint32_t r = 0; r < 4 * rounds; ++r) bit_case(*kernels.bit_conv, form, seed * 1000003 + r, &report);
    }
}
