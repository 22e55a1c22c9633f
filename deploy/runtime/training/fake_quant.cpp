// Fake quantisation for training, forward and backward, each in one pass over memory.
//
// y = step * round(clip(x * inverse, low, high)), ties to even; the gradient to x passes inside the range. What a step
// size's gradient needs comes back as three sums a row (kSums in lanes.h). Loaded by unetq/quant/fused.py; no part
// of the runtime that goes to devices.
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "lanes.h"
#if defined(UNETQ_X86)
#include "../src/x86_features.h"
#endif

using namespace unetq_training;

namespace {

constexpr size_t kBlocksPerThread = 32;  // below this a thread costs more than it saves
constexpr size_t kMaxThreads = 64;

// The widest that the processor has; UNETQ_ISA=scalar or avx2 holds it back, for tests.
Lanes choose() {
#if defined(UNETQ_X86)
    const char* wish = std::getenv("UNETQ_ISA");
    if (wish != nullptr && std::strcmp(wish, "scalar") == 0) {
        return baseline::lanes();
    }
    if ((wish == nullptr || std::strcmp(wish, "avx2") != 0) && uq::x86_has_avx512()) {
        return avx512::lanes();
    }
    if (uq::x86_has_avx2()) {
        return avx2::lanes();
    }
#endif
    return baseline::lanes();
}

// Calls work(first, last) on parts of [0, blocks), each once. A thread that cannot be had leaves its part to the
// caller.
template <class Work>
struct Part {
    const Work* work;
    size_t first, last;
    pthread_t thread;
    bool started;

    static void* run(void* part) {
        const auto* self = static_cast<const Part*>(part);
        (*self->work)(self->first, self->last);
        return nullptr;
    }
};

template <class Work>
void share(size_t blocks, size_t threads, const Work& work) {
    threads = std::max<size_t>(1, std::min({threads, blocks / kBlocksPerThread, kMaxThreads}));
    Part<Work> parts[kMaxThreads];
    for (size_t i = 0; i < threads; ++i) {
        parts[i] = {&work, blocks * i / threads, blocks * (i + 1) / threads, {}, false};
        parts[i].started = i > 0 && pthread_create(&parts[i].thread, nullptr, Part<Work>::run, &parts[i]) == 0;
    }
    for (size_t i = 0; i < threads; ++i) {
        if (!parts[i].started) {
            Part<Work>::run(&parts[i]);
        }
    }
    for (size_t i = 1; i < threads; ++i) {
        if (parts[i].started) {
            pthread_join(parts[i].thread, nullptr);
        }
    }
}

struct Blocks {
    size_t row, per_row, width;  // values a row, blocks a row, bytes a value

    Blocks(size_t row_values, bool wide)
        : row(row_values), per_row((row_values + kBlock - 1) / kBlock), width(wide ? 4 : 2) {}

    size_t offset(size_t block) const { return ((block / per_row) * row + (block % per_row) * kBlock) * width; }

    size_t count(size_t block) const { return std::min(kBlock, row - (block % per_row) * kBlock); }
};

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int uqt_version(void) {
    return 1;
}

// x, y: `rows` rows of `row` values, float32 where `wide`, else bfloat16; step, inverse: one a row.
__attribute__((visibility("default"))) void uqt_forward(const void* x, void* y, int wide, size_t rows, size_t row,
                                                        const float* step, const float* inverse, float low, float high,
                                                        size_t threads) {
    const Lanes lanes = choose();
    const Blocks blocks(row, wide != 0);
    const auto work = [&](size_t first, size_t last) {
        for (size_t b = first; b < last; ++b) {
            const size_t r = b / blocks.per_row, at = blocks.offset(b);
            const Scale scale{step[r], inverse[r], low, high};
            lanes.forward(static_cast<const char*>(x) + at, static_cast<char*>(y) + at, wide != 0, blocks.count(b),
                          scale);
        }
    };
    share(rows * blocks.per_row, threads, work);
}

// grad_x or sums may be null; sums: rows times kSums. Returns 0, or 1 where memory is short.
__attribute__((visibility("default"))) int uqt_backward(const void* grad, const void* x, void* grad_x, float* sums,
                                                        int wide, size_t rows, size_t row, const float* inverse,
                                                        float low, float high, size_t threads) {
    const Lanes lanes = choose();
    const Blocks blocks(row, wide != 0);
    const size_t count = rows * blocks.per_row;
    std::unique_ptr<double[]> parts(sums ? new (std::nothrow) double[count * kSums]() : nullptr);
    if (sums != nullptr && parts == nullptr) {
        return 1;
    }
    const auto work = [&](size_t first, size_t last) {
        for (size_t b = first; b < last; ++b) {
            const size_t at = blocks.offset(b);
            const Scale scale{0.0f, inverse[b / blocks.per_row], low, high};
            lanes.backward(static_cast<const char*>(grad) + at, static_cast<const char*>(x) + at,
                           grad_x ? static_cast<char*>(grad_x) + at : nullptr, wide != 0, blocks.count(b), scale,
                           parts ? parts.get() + b * kSums : nullptr);
        }
    };
    share(count, threads, work);
    for (size_t r = 0; sums != nullptr && r < rows; ++r) {  // block by block, whatever the number of threads
        for (int k = 0; k < kSums; ++k) {
            double total = 0.0;
            for (size_t b = r * blocks.per_row; b < (r + 1) * blocks.per_row; ++b) {
                total += parts[b * kSums + static_cast<size_t>(k)];
            }
            sums[r * kSums + static_cast<size_t>(k)] = static_cast<float>(total);
        }
    }
    return 0;
}

}  // extern "C"
