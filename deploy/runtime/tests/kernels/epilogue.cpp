// The epilogues and the quantiser against the scalar ones.
#include <math.h>

#include "check.h"

using namespace uq;

namespace {

Target random_target(Random& random) {
    Target target = {};
    target.is_float = random.one_in(4);
    if (target.is_float) return target;
    const auto bits = static_cast<int32_t>(random.between(1, 8));
    const bool is_signed = random.one_in(2);
    target.toward_zero = random.one_in(4);
    target.low = static_cast<float>(is_signed ? -(1 << (bits - 1)) + (target.toward_zero ? 1 : 0) : 0);
    target.high = static_cast<float>(is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1);
    if (!is_signed && !target.toward_zero && random.one_in(2)) {
        target.zero_point = static_cast<uint8_t>(random.between(0, (1 << bits) - 1));
        target.low -= static_cast<float>(target.zero_point);
        target.high -= static_cast<float>(target.zero_point);
    }
    static const float kScales[] = {1.0f, 0.5f, 4.0f, 1.0f / 3.0f, 1e-20f, 1e20f};
    target.inverse_scale = random.pick(kScales);
    return target;
}

std::string told(const Target& t) {
    return t.is_float ? "to float"
                      : text("to %g ... %g times %g plus %u%s", static_cast<double>(t.low), static_cast<double>(t.high),
                             static_cast<double>(t.inverse_scale), t.zero_point, t.toward_zero ? " toward zero" : "");
}

// Ordinary values, ties, and now and then what overflows; never subnormal (Armv7 has none in NEON).
float value(Random& random, bool wild) {
    if (random.one_in(8)) return static_cast<float>(random.between(-300, 300)) * 0.5f;
    if (wild && random.one_in(8)) {
        static const float kWild[] = {3e38f, -3e38f, 0.0f, -0.0f, 1e10f, -1e10f};
        return random.pick(kWild);
    }
    return random.real() * 300;
}

template <typename Sum>
void epilogue_case(void (*run)(const Sum*, size_t, uint32_t, uint32_t, const EpilogueArrays&, const Target&, void*,
                               size_t),
                   void (*reference)(const Sum*, size_t, uint32_t, uint32_t, const EpilogueArrays&, const Target&,
                                     void*, size_t),
                   uint64_t seed, Report* report) {
    Random random(seed);
    const auto channels = static_cast<uint32_t>(16 * random.between(1, 4));
    const auto pixels = static_cast<uint32_t>(random.between(1, 9));
    const size_t stride = channels + static_cast<size_t>(random.one_in(2) ? 0 : random.between(1, 40));
    const size_t dst_stride = channels + static_cast<size_t>(random.one_in(2) ? 0 : random.between(1, 40));
    const bool slope = random.one_in(2), second = random.one_in(2), wild = random.one_in(4);
    const Target target = random_target(random);
    report->next_case(seed, text("%u pixels, %u channels, strides %zu and %zu%s%s%s, ", pixels, channels, stride,
                                 dst_stride, slope ? ", slope" : "", second ? ", second" : "", wild ? ", wild" : "") +
                                told(target));
    Guarded<float> arrays(5 * static_cast<size_t>(channels));
    static const float kGains[] = {1.0f, 0.5f, 0.001f, 3e30f};
    const float gain = wild ? random.pick(kGains) : 1.0f;
    for (size_t i = 0; i < arrays.size(); ++i) arrays[i] = random.real();
    for (size_t i = 0; i < channels; ++i) {
        arrays[i] *= gain;
        arrays[channels + i] = value(random, wild);
        if (random.one_in(2)) arrays[2 * channels + i] = 0.0f;
    }
    const float* at = arrays.data();
    const EpilogueArrays given = {at, at + channels, slope ? at + 2 * channels : nullptr,
                                  second ? at + 3 * channels : nullptr, second ? at + 4 * channels : nullptr};
    Guarded<Sum> sums((pixels - 1) * stride + channels);
    for (size_t i = 0; i < sums.size(); ++i) {
        sums[i] = static_cast<Sum>(random.between(-1000, 1000));
        if (wild && random.one_in(3)) sums[i] = static_cast<Sum>(random.between(INT32_MIN, INT32_MAX));
    }
    const size_t size = ((pixels - 1) * dst_stride + channels) * (target.is_float ? 4 : 1);
    Guarded<uint8_t> expected(size), found(size);
    reference(sums.data(), stride, pixels, channels, given, target, expected.data(), dst_stride);
    run(sums.data(), stride, pixels, channels, given, target, found.data(), dst_stride);
    if (!target.is_float) {
        report->same(expected.data(), found.data(), size);
    } else {
        for (size_t i = 0; i < size; i += 4) {
            float a, b;
            memcpy(&a, expected.data() + i, 4);
            memcpy(&b, found.data() + i, 4);
            if (memcmp(&a, &b, 4) != 0 && !(isnan(a) && isnan(b)))  // the sign of a NaN is nobody's promise
                report->mismatch(i / 4, static_cast<double>(a), static_cast<double>(b));
        }
    }
    report->whole(found);
}

void quantize_case(const Kernels& k, const Kernels& scalar, uint64_t seed, Report* report) {
    Random random(seed);
    const auto count = static_cast<size_t>(random.between(0, 100));
    Target target = random_target(random);
    if (target.is_float) target = {false, false, 0.5f, -8, 7, 0};
    report->next_case(seed, text("%zu values, ", count) + told(target));
    Guarded<float> src(count);
    static const float kSpecial[] = {NAN,   -NAN,   INFINITY, -INFINITY, 0.0f,  -0.0f,
                                     3e38f, -3e38f, 0.5f,     1.5f,      -0.5f, -2.5f};
    for (size_t i = 0; i < count; ++i) src[i] = random.one_in(5) ? random.pick(kSpecial) : value(random, true);
    Guarded<uint8_t> expected(count), found(count);
    scalar.quantize(src.data(), count, target, expected.data());
    k.quantize(src.data(), count, target, found.data());
    report->same(expected.data(), found.data(), count);
    report->whole(found);
}

}  // namespace

void test_epilogues(const Kernels& kernels, const Kernels& scalar, uint64_t seed, uint32_t rounds) {
    Report integers(kernels.name, "epilogue_i32"), floats(kernels.name, "epilogue_f32"),
        codes(kernels.name, "quantize");
    for (uint32_t r = 0; r < 4 * rounds; ++r) {
        const uint64_t s = seed * 1000003 + r;
        epilogue_case<int32_t>(kernels.epilogue_i32, scalar.epilogue_i32, s, &integers);
        epilogue_case<float>(kernels.epilogue_f32, scalar.epilogue_f32, s, &floats);
        quantize_case(kernels, scalar, s, &codes);
    }
}
