#include "preprocess.h"

#include <math.h>
#include <string.h>

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

// Where pixel length + k comes from when extra pixels are added.
uint64_t source(uint64_t length, uint64_t extra, uint64_t k) {
    return length > extra ? length - 2 - k : length - 1;
}

}  // namespace

void statistics(const float* values, uint64_t count, double* mean, double* std) {
    const auto n = static_cast<double>(count);
    const double middle = sum([&](uint64_t i) { return static_cast<double>(values[i]); }, 0, count) / n;
    auto square = [&](uint64_t i) {
        const double distance = static_cast<double>(values[i]) - middle;
        return distance * distance;
    };
    *mean = middle;
    *std = sqrt(sum(square, 0, count) / n);
}

bool normalize(float* values, uint64_t count, uint32_t rule, double low, double high) {
    bool finite = true;
    auto store = [&](uint64_t i, double value) {
        values[i] = static_cast<float>(value);
        finite = finite && isfinite(values[i]);
    };
    if (rule == UQ_NORMALIZE_ZSCORE) {
        double mean = 0, std = 0;
        statistics(values, count, &mean, &std);
        const double divisor = std < kSmallestStd ? kSmallestStd : std;
        for (uint64_t i = 0; i < count; ++i) store(i, (static_cast<double>(values[i]) - mean) / divisor);
    } else if (rule == UQ_NORMALIZE_WINDOW) {
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

void pad(float* values, const uint32_t from[3], const uint32_t to[3]) {
    const uint64_t depth = from[0], height = from[1], width = from[2], rows = to[1], columns = to[2];
    const uint64_t plane = rows * columns;
    // The last row first: no row lands on one that is still to be moved.
    for (uint64_t z = depth; z-- > 0;)
        for (uint64_t y = height; y-- > 0;) {
            float* row = values + z * plane + y * columns;
            memmove(row, values + (z * height + y) * width, width * sizeof(float));
            for (uint64_t k = 0; k < columns - width; ++k) row[width + k] = row[source(width, columns - width, k)];
        }
    for (uint64_t z = 0; z < depth; ++z)
        for (uint64_t k = 0; k < rows - height; ++k)
            memcpy(values + z * plane + (height + k) * columns,
                   values + z * plane + source(height, rows - height, k) * columns, columns * sizeof(float));
    for (uint64_t k = 0; k < to[0] - depth; ++k)
        memcpy(values + (depth + k) * plane, values + source(depth, to[0] - depth, k) * plane, plane * sizeof(float));
}

uint32_t decide(const float* logits, uint32_t channels, uint64_t stride) {
    if (channels == 1) return *logits > 0 ? 1 : 0;
    uint32_t best = 0;
    for (uint32_t c = 1; c < channels && !isnan(logits[best * stride]); ++c)
        if (logits[c * stride] > logits[best * stride] || isnan(logits[c * stride])) best = c;
    return best;
}

}  // namespace tool
