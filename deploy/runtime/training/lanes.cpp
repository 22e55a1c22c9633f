// Written for the compiler's vectoriser: plain loops over kLanes independent lanes, no branches. The lanes, not the
// instruction set, fix the order of summation, and -ffp-contract=off every rounding.
#include "lanes.h"

#include <cstring>

#ifndef UNETQ_LANES
#define UNETQ_LANES baseline
#endif

namespace unetq_training {
namespace UNETQ_LANES {
namespace {

constexpr size_t kLanes = 16;

// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even, any float32 below 2^22.
constexpr float kRound = 12582912.0f;

inline float bits_to_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float load(uint16_t value) {
    return bits_to_float(static_cast<uint32_t>(value) << 16);
}

inline float load(float value) {
    return value;
}

inline void store(float value, uint16_t& out) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    out = static_cast<uint16_t>(value == value ? rounded : 0x7fc0u);
}

inline void store(float value, float& out) {
    out = value;
}

inline float clip(float value, float low, float high) {
    value = low > value ? low : value;  // NaN fails both comparisons and passes through
    return high < value ? high : value;
}

template <class T>
void forward_as(const T* __restrict x, T* __restrict y, size_t count, const Scale& scale) {
    const float step = scale.step, inverse = scale.inverse, low = scale.low, high = scale.high;
    for (size_t i = 0; i < count; ++i) {
        const float code = (clip(load(x[i]) * inverse, low, high) + kRound) - kRound;
        store(code * step, y[i]);
    }
}

// Vectors of kLanes, which the compiler cuts to the registers that there are.
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

inline Words load_words(const uint16_t* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return __builtin_convertvector(halves, Words) << 16;
}

inline Words load_words(const float* from) {
    Words words;
    std::memcpy(&words, from, sizeof words);
    return words;
}

inline void store_words(const Words& words, uint16_t* to) {
    const Halves halves = __builtin_convertvector(words >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}

inline void store_words(const Words& words, float* to) {
    std::memcpy(to, &words, sizeof words);
}

struct Totals {
    Floats inside, below, above;
};

template <class T, bool kSum>
inline void backward_lanes(const T* grad, const T* x, T* grad_x, const Scale& scale, Totals& totals) {
    const Words words = load_words(grad);
    const Floats scaled = (Floats)load_words(x) * scale.inverse;
    const Ints below = scaled<scale.low, above = scaled> scale.high;
    const Ints inside = (scaled >= scale.low) & (scaled <= scale.high);  // NaN is in none of the three
    if (grad_x != nullptr) {
        store_words(words & (Words)inside, grad_x);
    }
    if (kSum) {
        const Floats error = (Floats)words * (((scaled + kRound) - kRound) - scaled);
        totals.inside += (Floats)((Ints)error & inside);
        totals.below += (Floats)((Ints)words & below);
        totals.above += (Floats)((Ints)words & above);
    }
}

template <class T, bool kSum>
void backward_as(const T* grad, const T* x, T* grad_x, size_t count, const Scale& scale, double* sums) {
    Totals totals = {};
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        backward_lanes<T, kSum>(grad + i, x + i, grad_x ? grad_x + i : nullptr, scale, totals);
    }
    if (i < count) {  // padded with gradients of 0
        T last_grad[kLanes] = {}, last_x[kLanes] = {}, last[kLanes];
        std::memcpy(last_grad, grad + i, (count - i) * sizeof(T));
        std::memcpy(last_x, x + i, (count - i) * sizeof(T));
        backward_lanes<T, kSum>(last_grad, last_x, last, scale, totals);
        if (grad_x != nullptr) {
            std::memcpy(grad_x + i, last, (count - i) * sizeof(T));
        }
    }
    for (size_t j = 0; kSum && j < kLanes; ++j) {
        sums[0] += totals.inside[j];
        sums[1] += totals.below[j];
        sums[2] += totals.above[j];
    }
}

template <class T>
void backward_of(const void* grad, const void* x, void* grad_x, size_t count, const Scale& scale, double* sums) {
    const auto* g = static_cast<const T*>(grad);
    const auto* values = static_cast<const T*>(x);
    auto* out = static_cast<T*>(grad_x);
    if (sums != nullptr) {
        backward_as<T, true>(g, values, out, count, scale, sums);
    } else {
        backward_as<T, false>(g, values, out, count, scale, sums);
    }
}

void forward(const void* x, void* y, bool wide, size_t count, const Scale& scale) {
    if (wide) {
        forward_as(static_cast<const float*>(x), static_cast<float*>(y), count, scale);
    } else {
        forward_as(static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y), count, scale);
    }
}

void backward(const void* grad, const void* x, void* grad_x, bool wide, size_t count, const Scale& scale,
              double* sums) {
    (wide ? backward_of<float> : backward_of<uint16_t>)(grad, x, grad_x, count, scale, sums);
}

}  // namespace

Lanes lanes() {
    return {forward, backward};
}

}  // namespace UNETQ_LANES
}  // namespace unetq_training
