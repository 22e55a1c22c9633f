#include <math.h>

#include "ops.h"

namespace uq {

void NormSums::add_float(const float* sums, size_t stride, uint64_t pixels) {
    for (uint64_t p = 0; p < pixels; ++p) {
        for (uint32_t o = 0; o < kBlock; ++o) {
            double value = sums[p * stride + o];
            real_total[o] += value;
            real_squares[o] += value * value;
        }
    }
}

double NormSums::sum(uint32_t o, bool is_float) const {
    return is_float ? real_total[o] : static_cast<double>(total[o]);
}

// high * 2^32 + low.
double NormSums::squares(uint32_t o, bool is_float) const {
    if (is_float) return real_squares[o];
    const double upper = static_cast<double>(high[o]) * 4294967296.0;
    return upper + static_cast<double>(low[o]);
}

namespace {

struct Affine {
    float gain;
    float offset;
};

// mean = S / N; variance = max(Q / N - mean^2, 0);
// gain' = (g / sqrt(variance * g * g + eps)) * weight; offset' = bias - mean * gain'. Both are rounded to float32 once.
Affine of_channel(const Epilogue& epilogue, double g, double sum, double squares, double count, uint32_t c) {
    const double mean = sum / count;
    const double mean_square = squares / count;
    const double squared_mean = mean * mean;
    double variance = mean_square - squared_mean;
    variance = variance > 0.0 ? variance : 0.0;
    double t = variance * g;
    t = t * g;
    t = t + epilogue.eps;
    const double root = 1.0 / sqrt(t);
    double a = g * root;
    a = a * static_cast<double>(epilogue.norm_weight[c]);
    double b = mean * a;
    b = static_cast<double>(epilogue.norm_bias[c]) - b;
    return {static_cast<float>(a), static_cast<float>(b)};
}

// Of the real values y = g * sum + h of several channels: sum y = g S + n h, sum y^2 = g^2 Q + 2 g h S + n h^2.
struct GroupSums {
    double total;
    double squares;

    void add(double g, double h, double sum, double square_sum, double count) {
        const double shifts = count * h;
        const double scaled = g * sum;
        total = total + (scaled + shifts);
        const double first = (g * g) * square_sum;
        const double second = ((2.0 * g) * h) * sum;
        const double third = shifts * h;
        squares = squares + ((first + second) + third);
    }
};

// y = (g * sum + h - mean) * root * weight + bias.
Affine of_group(const Epilogue& epilogue, double g, double h, double mean, double root, uint32_t c) {
    double a = g * root;
    a = a * static_cast<double>(epilogue.norm_weight[c]);
    double b = h - mean;
    b = b * root;
    b = b * static_cast<double>(epilogue.norm_weight[c]);
    b = b + static_cast<double>(epilogue.norm_bias[c]);
    return {static_cast<float>(a), static_cast<float>(b)};
}

}  // namespace

void norm_affine(const Epilogue& epilogue, const NormSums* sums, uint32_t first, uint32_t channels, uint64_t pixels,
                 bool is_float, float* gain, float* offset) {
    const float *gains = epilogue.arrays.gain + first, *offsets = epilogue.arrays.offset + first;
    const double count = static_cast<double>(pixels);
    const uint32_t size = epilogue.group_channels;
    GroupSums group = {};
    for (uint32_t i = 0; i < channels; ++i) {
        const NormSums& block = sums[i / kBlock];
        const double sum = block.sum(i % kBlock, is_float), squares = block.squares(i % kBlock, is_float);
        const double g = gains[i], h = offsets[i];
        if (size == 0) {
            const Affine affine = of_channel(epilogue, g, sum, squares, count, first + i);
            gain[i] = affine.gain;
            offset[i] = affine.offset;
            continue;
        }
        group.add(g, h, sum, squares, count);
        if ((i + 1) % size) continue;
        const double values = count * static_cast<double>(size), mean = group.total / values;
        double variance = group.squares / values;
        variance = variance - mean * mean;
        variance = variance > 0.0 ? variance : 0.0;
        const double root = 1.0 / sqrt(variance + epilogue.eps);
        for (uint32_t k = i + 1 - size; k <= i; ++k) {
            const Affine affine = of_group(epilogue, gains[k], offsets[k], mean, root, first + k);
            gain[k] = affine.gain;
            offset[k] = affine.offset;
        }
        group = {};
    }
    for (uint32_t i = channels; i < round_up(channels, kBlock); ++i) gain[i] = offset[i] = 0.0f;
}

EpilogueArrays arrays_from(const EpilogueArrays& arrays, uint32_t channel) {
    auto from = [channel](const float* values) { return values ? values + channel : nullptr; };
    return EpilogueArrays{from(arrays.gain), from(arrays.offset), from(arrays.slope), from(arrays.gain2),
                          from(arrays.offset2)};
}

}  // namespace uq
