#include "tiles.h"

#include <string.h>

namespace tool {
namespace {

// The pixel of an axis of length pixels that stands for pixel i of the axis extended to whole.
uint32_t source(uint32_t i, uint32_t length, uint32_t whole) {
    if (i < length) return i;
    const uint32_t extra = whole - length;
    return length > extra ? 2 * length - 2 - i : length - 1;
}

float ramp(uint32_t i, uint32_t length) {
    return static_cast<float>(i + 1 < length - i ? i + 1 : length - i);
}

// Calls visit(row of a window, row of the whole, their weight) for every row of the window at corner.
template <typename Visit>
void each_row(const Tiles& t, const uint32_t corner[3], const Visit& visit) {
    for (uint32_t z = 0; z < t.call[0]; ++z)
        for (uint32_t y = 0; y < t.call[1]; ++y) {
            const uint64_t row = (uint64_t{z} * t.call[1] + y) * t.call[2];
            const uint64_t place = (uint64_t{corner[0] + z} * t.whole[1] + corner[1] + y) * t.whole[2] + corner[2];
            visit(row, place, ramp(z, t.call[0]) * ramp(y, t.call[1]));
        }
}

}  // namespace

Tiles plan_tiles(const uint32_t size[3], const uint32_t call[3], double overlap) {
    Tiles t = {};
    for (uint32_t a = 0; a < 3; ++a) {
        t.size[a] = size[a];
        t.call[a] = call[a];
        t.whole[a] = size[a] > call[a] ? size[a] : call[a];
        t.step[a] = static_cast<uint32_t>(static_cast<double>(call[a]) * (1.0 - overlap));
        if (t.step[a] < 1) t.step[a] = 1;
        const uint32_t rest = t.whole[a] - call[a];
        t.count[a] = rest / t.step[a] + (rest % t.step[a] ? 1 : 0) + 1;
    }
    return t;
}

void corner_of(const Tiles& t, uint64_t window, uint32_t corner[3]) {
    for (uint32_t a = 3; a-- > 0;) {
        const uint64_t start = window % t.count[a] * t.step[a], last = t.whole[a] - t.call[a];
        corner[a] = static_cast<uint32_t>(start < last ? start : last);
        window /= t.count[a];
    }
}

void take_window(const Tiles& t, const float* image, const uint32_t corner[3], float* window) {
    const uint32_t left = corner[2] < t.size[2] ? t.size[2] - corner[2] : 0;
    const uint32_t inside = left < t.call[2] ? left : t.call[2];
    for (uint32_t z = 0; z < t.call[0]; ++z) {
        const uint64_t plane = uint64_t{source(corner[0] + z, t.size[0], t.whole[0])} * t.size[1];
        for (uint32_t y = 0; y < t.call[1]; ++y, window += t.call[2]) {
            const float* row = image + (plane + source(corner[1] + y, t.size[1], t.whole[1])) * t.size[2];
            memcpy(window, row + corner[2], inside * sizeof(float));
            for (uint32_t x = inside; x < t.call[2]; ++x) window[x] = row[source(corner[2] + x, t.size[2], t.whole[2])];
        }
    }
}

void add_window(const Tiles& t, const float* logits, const uint32_t corner[3], float* sum) {
    each_row(t, corner, [&](uint64_t row, uint64_t place, float weight) {
        for (uint32_t x = 0; x < t.call[2]; ++x) sum[place + x] += logits[row + x] * (weight * ramp(x, t.call[2]));
    });
}

void add_weights(const Tiles& t, const uint32_t corner[3], float* share) {
    each_row(t, corner, [&](uint64_t, uint64_t place, float weight) {
        for (uint32_t x = 0; x < t.call[2]; ++x) share[place + x] += weight * ramp(x, t.call[2]);
    });
}

void divide(float* sum, const float* share, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) sum[i] /= share[i];
}

}  // namespace tool
