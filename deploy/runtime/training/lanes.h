// Fake quantisation of one block of values; compiled once an instruction set, by lanes.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unetq_training {

constexpr size_t kBlock = 4096;
constexpr int kSums = 3;  // gradient times (code - value / step) inside the range; gradient below it; above it

struct Scale {
    float step, inverse, low, high;
};

// `wide` values are float32, others bfloat16 (the upper half of a float32). All results are the same bits on every
// instruction set. `grad_x` or `sums` may be null.
struct Lanes {
    void (*forward)(const void* x, void* y, bool wide, size_t count, const Scale& scale);
    void (*backward)(const void* grad, const void* x, void* grad_x, bool wide, size_t count, const Scale& scale,
                     double* sums);
};

namespace baseline {
Lanes lanes();
}
namespace avx2 {
Lanes lanes();
}
namespace avx512 {
Lanes lanes();
}

}  // namespace unetq_training
