#include "resample.h"

#include <math.h>

namespace tool {
namespace {

constexpr double kStepsPerMm = 10000;  // spacings are compared in tenths of a micrometre
constexpr double kMostSamples = 9007199254740992.0;

void resample_axis(const float* src, uint64_t outer, uint32_t have, uint64_t inner, uint32_t want, float* dst) {
    const double step = static_cast<double>(have) / static_cast<double>(want), last = static_cast<double>(have) - 1.0;
    for (uint64_t o = 0; o < outer; ++o, src += have * inner, dst += want * inner)
        for (uint32_t k = 0; k < want; ++k) {
            double position = (static_cast<double>(k) + 0.5) * step - 0.5;
            position = position < 0.0 ? 0.0 : position > last ? last : position;
            auto low = static_cast<uint32_t>(position);
            if (have >= 2 && low > have - 2) low = have - 2;
            const auto weight = static_cast<float>(position - static_cast<double>(low));
            const float rest = 1.0f - weight;
            const float* a = src + low * inner;
            const float* b = have >= 2 ? a + inner : a;
            float* to = dst + k * inner;
            for (uint64_t i = 0; i < inner; ++i) to[i] = a[i] * rest + b[i] * weight;
        }
}

uint64_t room(const Resampling& plan, uint32_t first) {
    uint64_t most = 0;
    for (uint32_t i = first; i <= plan.steps; i += 2) {
        uint64_t count = 0;
        if (__builtin_mul_overflow(elements(plan.size[i]), uint64_t{plan.volumes}, &count)) return UINT64_MAX;
        if (count > most) most = count;
    }
    return most;
}

}  // namespace

uint64_t elements(const uint32_t size[3]) {
    uint64_t plane = uint64_t{size[0]} * size[1], all = 0;
    return __builtin_mul_overflow(plane, uint64_t{size[2]}, &all) ? UINT64_MAX : all;
}

uint64_t resampled_length(uint32_t length, double have, double want) {
    if (want == 0) return length;
    const double rounded = floor(have * kStepsPerMm + 0.5) / kStepsPerMm;
    if (!(rounded > 0)) return 0;
    const double samples = floor(static_cast<double>(length) * rounded / want + 0.5);
    return samples < 1 ? 1 : samples > kMostSamples ? uint64_t{1} << 53 : static_cast<uint64_t>(samples);
}

Resampling plan_resampling(uint32_t volumes, const uint32_t from[3], const uint32_t to[3]) {
    Resampling plan = {};
    plan.volumes = volumes;
    for (uint32_t a = 0; a < 3; ++a) plan.size[0][a] = from[a];
    for (uint32_t axis = 0; axis < 3; ++axis) {
        if (from[axis] == to[axis]) continue;
        uint32_t* next = plan.size[plan.steps + 1];
        for (uint32_t a = 0; a < 3; ++a) next[a] = plan.size[plan.steps][a];
        next[axis] = to[axis];
        plan.axis[plan.steps++] = axis;
    }
    return plan;
}

uint64_t even_room(const Resampling& plan) {
    return room(plan, 0);
}

uint64_t odd_room(const Resampling& plan) {
    return room(plan, 1);
}

float* resample(const Resampling& plan, float* even, float* odd) {
    float *from = even, *to = odd;
    for (uint32_t i = 0; i < plan.steps; ++i) {
        const uint32_t* size = plan.size[i];
        const uint32_t axis = plan.axis[i];
        uint64_t outer = plan.volumes, inner = 1;
        for (uint32_t a = 0; a < axis; ++a) outer *= size[a];
        for (uint32_t a = axis + 1; a < 3; ++a) inner *= size[a];
        resample_axis(from, outer, size[axis], inner, plan.size[i + 1][axis], to);
        float* done = to;
        to = from;
        from = done;
    }
    return from;
}

}  // namespace tool
