// Bounds of narrow lanes and of transformed weights.
//
// In a lane, each product w * a with a in [low, high] lies between min(w * low, w * high, 0) and
// max(w * low, w * high, 0). So every partial sum of a run of steps, in whatever order it is made, lies between the sum
// of the minima and the sum of the maxima. A run may go on as long as both stay inside the lane.
#include "prove.h"

namespace uq {

bool prove_flushes(const ByteConv& kernel, const int8_t* weights, size_t steps, Range range, uint8_t* flush_before) {
    if (kernel.lane_bits == 32) return true;
    const int32_t most = (1 << (kernel.lane_bits - 1)) - 1, least = -most - 1;
    int32_t high[kBlock][kMaxGroup] = {}, low[kBlock][kMaxGroup] = {};
    uint32_t lanes = 0;
    for (uint32_t i = 0; i < kernel.group; ++i)
        if (kernel.lane[i] >= lanes) lanes = kernel.lane[i] + 1u;
    for (size_t s = 0; s < steps; ++s) {
        int32_t step_high[kBlock][kMaxGroup] = {}, step_low[kBlock][kMaxGroup] = {};
        bool fits = true;
        for (uint32_t o = 0; o < kBlock; ++o) {
            for (uint32_t i = 0; i < kernel.group; ++i) {
                const int32_t w = weights[(s * kBlock + o) * kernel.group + i];
                const int32_t a = w * range.low, b = w * range.high, lane = kernel.lane[i];
                const int32_t larger = a > b ? a : b, smaller = a > b ? b : a;
                if (larger > 0) step_high[o][lane] += larger;
                if (smaller < 0) step_low[o][lane] += smaller;
            }
            for (uint32_t l = 0; l < lanes; ++l) {
                if (step_high[o][l] > most || step_low[o][l] < least) return false;
                if (high[o][l] + step_high[o][l] > most || low[o][l] + step_low[o][l] < least) fits = false;
            }
        }
        flush_before[s] = !fits;
        for (uint32_t o = 0; o < kBlock; ++o) {
            for (uint32_t l = 0; l < lanes; ++l) {
                high[o][l] = step_high[o][l] + (fits ? high[o][l] : 0);
                low[o][l] = step_low[o][l] + (fits ? low[o][l] : 0);
            }
        }
    }
    return true;
}

bool transformed_weights_fit(const int8_t* taps, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        int32_t half[4][3];
        for (uint32_t x = 0; x < 3; ++x) {
            const int32_t g0 = taps[x * count + i], g1 = taps[(3 + x) * count + i], g2 = taps[(6 + x) * count + i];
            half[0][x] = g0;
            half[1][x] = g0 + g1 + g2;
            half[2][x] = g0 - g1 + g2;
            half[3][x] = g2;
        }
        for (const auto& h : half) {
            const int32_t u[4] = {h[0], h[0] + h[1] + h[2], h[0] - h[1] + h[2], h[2]};
            for (int32_t value : u)
                if (value < INT8_MIN || value > INT8_MAX) return false;
        }
    }
    return true;
}

}  // namespace uq
