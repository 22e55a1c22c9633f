#include "preprocess.h"

#include <math.h>

namespace tool {
namespace {

constexpr double kSmallestStd = 1e-6;

// NumPy's order of summation, so that mean and deviation are the same to the last bit: halves (the first a multiple of
// 8) down to 128 numbers, those in eight interleaved sums, what is left over one by one.
template <typename Term>
double sum(const Term& term, uint64_t first, uint64_t count) {
    if (count < 8) {
        double total = 0;
        for (uint64_t i = 0; i < count; ++i) total += term(first + i);
        return total;
    }
    if (count <= 128) {
        double part[8];
        uint64_t i = 8;
        for (unsigned k = 0; k < 8; ++k) part[k] = term(first + k);
        for (; i + 8 <= count; i += 8)
            for (unsigned k = 0; k < 8; ++k) part[k] += term(first + i + k);
        double total = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
        for (; i < count; ++i) total += term(first + i);
        return total;
    }
    const uint64_t half = count / 2 - count / 2 % 8;
    return sum(term, first, half) + sum(term, first + half, count - half);
}

}  // namespace

Moments moments_of(const float* values, uint64_t count) {
    const auto n = static_cast<double>(count);
    const double middle = sum([&](uint64_t i) { return static_cast<double>(values[i]); }, 0, count) / n;
    auto square = [&](uint64_t i) {
        const double distance = static_cast<double>(values[i]) - middle;
        return distance * distance;
    };
    return Moments{middle, sqrt(sum(square, 0, count) / n)};
}

bool normalize(float* values, uint64_t count, const uq_model_info& rule, const Moments* moments) {
    bool finite = true;
    auto store = [&](uint64_t i, double value) {
        values[i] = static_cast<float>(value);
        finite = finite && isfinite(values[i]);
    };
    if (rule.normalize == UQ_NORMALIZE_ZSCORE) {
        const Moments found = moments ? *moments : moments_of(values, count);
        const double divisor = found.deviation < kSmallestStd ? kSmallestStd : found.deviation;
        for (uint64_t i = 0; i < count; ++i) store(i, (static_cast<double>(values[i]) - found.mean) / divisor);
    } else if (rule.normalize == UQ_NORMALIZE_WINDOW) {
        const double low = rule.window_low, high = rule.window_high;
        for (uint64_t i = 0; i < count; ++i) {
            const auto value = static_cast<double>(values[i]);
            const double inside = value < low ? low : value > high ? high : value;
            store(i, (inside - low) / (high - low));
        }
    } else {
        for (uint64_t i = 0; i < count; ++i) finite = finite && isfinite(values[i]);
    }
    return finite;
}

uint32_t decide(const float* logits, uint32_t channels, uint64_t stride) {
    if (channels == 1) return *logits > 0 ? 1 : 0;
    uint32_t best = 0;
    for (uint32_t c = 1; c < channels && !isnan(logits[best * stride]); ++c)
        if (logits[c * stride] > logits[best * stride] || isnan(logits[c * stride])) best = c;
    return best;
}

}  // namespace tool
