// Row kernels and the Winograd transforms against the scalar ones.
#include <algorithm>

#include "check.h"

using namespace uq;

namespace {

template <typename T>
void fill(Random& random, Guarded<T>& values, int64_t low, int64_t high) {
    const bool extremes = random.one_in(3);
    for (size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<T>(extremes ? (random.one_in(2) ? low : high) : random.between(low, high));
}

uint32_t some(Random& random, uint32_t most) {
    static const uint32_t kOften[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65};
    const uint32_t n = random.one_in(2) ? random.pick(kOften) : static_cast<uint32_t>(random.between(1, most));
    return std::min(n, most);
}

void packed_codes(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* load, Report* store) {
    static const uint32_t kStorage[] = {1, 2, 4, 8};
    Random random(seed);
    const uint32_t pixels = some(random, 40), channels = some(random, 80), bits = random.pick(kStorage);
    const size_t pixel_bytes = (static_cast<size_t>(channels) * bits + 7) / 8;
    const size_t pixel_stride = pixel_bytes + (random.one_in(3) ? some(random, 9) : 0);
    const size_t stride = channels + (random.one_in(2) ? 0 : some(random, 20));
    const std::string shape = text("%u pixels of %u channels at %u bits, %zu apart, codes %zu apart", pixels, channels,
                                   bits, pixel_stride, stride);
    const uint8_t sign = static_cast<uint8_t>(1u << (bits - 1));
    const uint8_t flip = random.one_in(2) ? sign : 0;
    const uint8_t shift = static_cast<uint8_t>(flip ? (random.one_in(2) ? -sign : random.between(0, 255)) : 0);
    const size_t packed_size = (pixels - 1) * pixel_stride + pixel_bytes, size = (pixels - 1) * stride + channels;
    Guarded<uint8_t> packed(packed_size), expected(size), found(size);
    fill(random, packed, 0, 255);
    const PackedRow row = {packed.data(), pixel_stride, pixels, channels, bits};
    load->next_case(seed, shape);
    scalar.load_codes(row, flip, shift, expected.data(), stride);
    k.load_codes(row, flip, shift, found.data(), stride);
    load->same(expected.data(), found.data(), size);  // what lies between the pixels too
    load->whole(found);
    Guarded<uint8_t> again(packed_size), wanted(packed_size);
    store->next_case(seed, shape);
    scalar.store_codes(expected.data(), stride, {wanted.data(), pixel_stride, pixels, channels, bits});
    k.store_codes(expected.data(), stride, {again.data(), pixel_stride, pixels, channels, bits});
    store->same(wanted.data(), again.data(), packed_size);
    store->whole(again);
}

void weights(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const auto bits = static_cast<uint32_t>(random.between(1, 8));
    const bool book = bits <= 4 && random.one_in(2);
    const uint64_t first = random.one_in(2) ? 0 : static_cast<uint64_t>(random.between(0, 70));
    const uint32_t count = some(random, 300);
    report->next_case(seed, text("%u weights of %u bits from number %llu%s", count, bits,
                                 static_cast<unsigned long long>(first), book ? ", of a codebook" : ""));
    Guarded<uint8_t> row((static_cast<size_t>(first + count) * bits + 7) / 8);
    Guarded<int8_t> expected(count), found(count);
    fill(random, row, 0, 255);
    Guarded<int8_t> levels(16);
    fill(random, levels, INT8_MIN, INT8_MAX);
    scalar.unpack_weights(row.data(), first, count, bits, book ? levels.data() : nullptr, expected.data());
    k.unpack_weights(row.data(), first, count, bits, book ? levels.data() : nullptr, found.data());
    report->same(expected.data(), found.data(), count);
    report->whole(found);
}

void largest(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const size_t count = some(random, 500);
    report->next_case(seed, text("%zu bytes", count));
    Guarded<uint8_t> src(count), expected(count), found(count);
    fill(random, src, 0, 255);
    fill(random, expected, 0, 255);
    memcpy(found.data(), expected.data(), count);
    scalar.maximum(src.data(), count, expected.data());
    k.maximum(src.data(), count, found.data());
    report->same(expected.data(), found.data(), count);
}

void blend(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    static const uint16_t kWeights[4][4] = {{1}, {1, 3}, {1, 3, 3, 9}, {9, 3, 3, 1}};
    static const uint32_t kRows[4] = {1, 2, 4, 4};
    Random random(seed);
    const size_t which = random.next() % 4, count = some(random, 500);
    report->next_case(seed, text("%u rows of %zu", kRows[which], count));
    Guarded<uint8_t> src(4 * count);
    fill(random, src, 0, 255);
    const uint8_t* rows[4];
    for (size_t r = 0; r < 4; ++r) rows[r] = src.data() + (random.one_in(4) ? 0 : r) * count;
    Guarded<uint16_t> expected(count), found(count);
    scalar.blend_rows(rows, kWeights[which], kRows[which], count, expected.data());
    k.blend_rows(rows, kWeights[which], kRows[which], count, found.data());
    report->same(expected.data(), found.data(), count);
    report->whole(found);
}

void doubled(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const uint32_t pixels = some(random, 20), channels = some(random, 70);
    const auto bias = static_cast<int32_t>(random.between(0, 64 * 128));
    report->next_case(seed, text("%u pixels of %u channels, bias %d", pixels, channels, bias));
    const size_t values = static_cast<size_t>(pixels) * channels;
    Guarded<uint16_t> src(values);
    fill(random, src, 0, 16 * 255);
    Guarded<int32_t> expected(2 * values), found(2 * values);
    scalar.double_row(src.data(), pixels, channels, bias, expected.data());
    k.double_row(src.data(), pixels, channels, bias, found.data());
    report->same(expected.data(), found.data(), 2 * values);
    report->whole(found);
}

void norm(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const size_t pixels = some(random, 100), stride = kBlock + (random.one_in(2) ? 0 : some(random, 20));
    report->next_case(seed, text("%zu pixels %zu apart", pixels, stride));
    Guarded<int32_t> sums((pixels - 1) * stride + kBlock);
    fill(random, sums, INT32_MIN, INT32_MAX);
    int64_t total[2][kBlock];
    uint64_t high[2][kBlock], low[2][kBlock];
    for (uint32_t o = 0; o < kBlock; ++o) {
        total[0][o] = total[1][o] = random.between(-1000000, 1000000) * 1000000;
        high[0][o] = high[1][o] = low[0][o] = low[1][o] = random.next() >> 20;
    }
    scalar.norm_sums(sums.data(), stride, pixels, total[0], high[0], low[0]);
    k.norm_sums(sums.data(), stride, pixels, total[1], high[1], low[1]);
    report->same(total[0], total[1], kBlock, "total");
    report->same(high[0], high[1], kBlock, "high");
    report->same(low[0], low[1], kBlock, "low");
}

void winograd_input(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const uint32_t tiles = some(random, 12), channels = some(random, 70);
    const size_t width = (2 * static_cast<size_t>(tiles) + 2) * channels;
    const size_t stride = static_cast<size_t>(tiles) * channels + (random.one_in(2) ? 0 : some(random, 40));
    report->next_case(seed, text("%u tiles of %u channels, positions %zu apart", tiles, channels, stride));
    Guarded<uint8_t> src(4 * width);
    fill(random, src, 0, random.one_in(2) ? 255 : 63);
    const uint8_t* rows[4];
    for (size_t r = 0; r < 4; ++r) rows[r] = src.data() + r * width;
    uint8_t offset[16];
    for (uint8_t& o : offset) o = static_cast<uint8_t>(random.next());
    const size_t size = 15 * stride + static_cast<size_t>(tiles) * channels;
    Guarded<uint8_t> expected(size), found(size);
    scalar.winograd_input(rows, tiles, channels, offset, expected.data(), stride);
    k.winograd_input(rows, tiles, channels, offset, found.data(), stride);
    report->same(expected.data(), found.data(), size);
    report->whole(found);
}

void winograd_weights(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const size_t count = kBlock * static_cast<size_t>(some(random, 200));
    report->next_case(seed, text("%zu weights a tap", count));
    Guarded<int8_t> taps(9 * count), expected(16 * count), found(16 * count);
    fill(random, taps, -14, 14);
    scalar.winograd_weights(taps.data(), count, expected.data());
    k.winograd_weights(taps.data(), count, found.data());
    report->same(expected.data(), found.data(), 16 * count);
    report->whole(found);
}

void winograd_output(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const uint32_t columns = some(random, 30), tiles = (columns + 1) / 2;
    const bool one_row = random.one_in(4);
    const size_t stride = static_cast<size_t>(tiles) * kBlock + (random.one_in(2) ? 0 : kBlock * some(random, 5));
    report->next_case(seed,
                      text("%u columns, %s, positions %zu apart", columns, one_row ? "one row" : "two rows", stride));
    Guarded<int32_t> sums(15 * stride + static_cast<size_t>(tiles) * kBlock);
    fill(random, sums, random.one_in(2) ? INT32_MIN : -100000, random.one_in(2) ? INT32_MAX : 100000);
    const size_t size = static_cast<size_t>(columns) * kBlock;
    Guarded<int32_t> expected0(size), expected1(size), found0(size), found1(size);
    scalar.winograd_output(sums.data(), stride, columns, expected0.data(), one_row ? nullptr : expected1.data());
    k.winograd_output(sums.data(), stride, columns, found0.data(), one_row ? nullptr : found1.data());
    report->same(expected0.data(), found0.data(), size, "upper row");
    report->same(expected1.data(), found1.data(), size, "lower row");
    report->whole(found0);
    report->whole(found1);
}

}  // namespace

void test_winograd(const Kernels& kernels, const Kernels& scalar, uint64_t seed, uint32_t rounds) {
    Report input(kernels.name, "winograd_input"), weight(kernels.name, "winograd_weights");
    Report output(kernels.name, "winograd_output");
    for (uint32_t r = 0; r < rounds; ++r) {
        winograd_input(kernels, scalar, seed * 1000003 + r, &input);
        winograd_weights(kernels, scalar, seed * 1000003 + r, &weight);
        winograd_output(kernels, scalar, seed * 1000003 + r, &output);
    }
}

void test_rows(const Kernels& kernels, const Kernels& scalar, uint64_t seed, uint32_t rounds) {
    Report load(kernels.name, "load_codes"), store(kernels.name, "store_codes");
    Report unpack(kernels.name, "unpack_weights"), maximum(kernels.name, "maximum");
    Report blended(kernels.name, "blend_rows"), twice(kernels.name, "double_row"), sums(kernels.name, "norm_sums");
    for (uint32_t r = 0; r < rounds; ++r) {
        const uint64_t s = seed * 1000003 + r;
        for (uint32_t i = 0; i < 4; ++i) packed_codes(kernels, scalar, s + 7919 * i, &load, &store);
        for (uint32_t i = 0; i < 4; ++i) weights(kernels, scalar, s + 7919 * i, &unpack);
        largest(kernels, scalar, s, &maximum);
        blend(kernels, scalar, s, &blended);
        doubled(kernels, scalar, s, &twice);
        norm(kernels, scalar, s, &sums);
    }
}
