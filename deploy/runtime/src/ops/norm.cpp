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

// mean = S1 / N; variance = max(S2 / N - mean^2, 0), with S2 = high * 2^32 + low;
// gain' = (g / sqrt(variance * g * g + eps)) * weight; offset' = bias - mean * gain'. Both are rounded to float32 once.
void NormSums::affine(const Epilogue& epilogue, uint32_t first_channel, uint32_t channels, uint64_t pixels,
                      bool is_float, float* gain, float* offset) const {
    const double count = static_cast<double>(pixels);
    for (uint32_t o = 0; o < kBlock; ++o) {
        gain[o] = offset[o] = 0.0f;
        if (o >= channels) continue;
        double mean, mean_square;
        if (is_float) {
            mean = real_total[o] / count;
            mean_square = real_squares[o] / count;
        } else {
            mean = static_cast<double>(total[o]) / count;
            double upper = static_cast<double>(high[o]) * 4294967296.0;
            mean_square = (upper + static_cast<double>(low[o])) / count;
        }
        double squared_mean = mean * mean;
        double variance = mean_square - squared_mean;
        variance = variance > 0.0 ? variance : 0.0;
        const double g = epilogue.arrays.gain[first_channel + o];
        double t = variance * g;
        t = t * g;
        t = t + epilogue.eps;
        double root = 1.0 / sqrt(t);
        double a = g * root;
        a = a * static_cast<double>(epilogue.norm_weight[first_channel + o]);
        double b = mean * a;
        b = static_cast<double>(epilogue.norm_bias[first_channel + o]) - b;
        gain[o] = static_cast<float>(a);
        offset[o] = static_cast<float>(b);
    }
}

EpilogueArrays arrays_from(const EpilogueArrays& arrays, uint32_t channel) {
    auto from = [channel](const float* values) { return values ? values + channel : nullptr; };
    return EpilogueArrays{from(arrays.gain), from(arrays.offset), from(arrays.slope), from(arrays.gain2),
                          from(arrays.offset2)};
}

}  // namespace uq
