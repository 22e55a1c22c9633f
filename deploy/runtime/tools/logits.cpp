#include "logits.h"

#include <math.h>
#include <string.h>

#include "preprocess.h"

namespace tool {
namespace {

// Where the logits of a unit lie: rows and planes may be longer than what counts of them.
struct Logits {
    const float* values;
    uint64_t channel;  // from one to the next
    uint32_t rows, columns;

    const float* row(uint32_t z, uint32_t y) const { return values + (uint64_t{z} * rows + y) * columns; }
};

void decide_pixels(const Logits& logits, uint32_t channels, const uint32_t size[3], uint8_t* winners) {
    for (uint32_t z = 0; z < size[0]; ++z)
        for (uint32_t y = 0; y < size[1]; ++y) {
            const float* row = logits.row(z, y);
            for (uint32_t x = 0; x < size[2]; ++x)
                *winners++ = static_cast<uint8_t>(decide(row + x, channels, logits.channel));
        }
}

// One channel on the turned grid, in one of the passage's buffers.
const float* resample_channel(const Passage& p, const Logits& logits, uint32_t channel) {
    const uint32_t* size = p.plan->unit;
    float* to = p.out_even;
    for (uint32_t z = 0; z < size[0]; ++z)
        for (uint32_t y = 0; y < size[1]; ++y, to += size[2])
            memcpy(to, logits.row(z, y) + channel * logits.channel, size[2] * sizeof(float));
    return resample(p.plan->back, p.out_even, p.out_odd);
}

// One channel after another, so that no more than two are there at once.
void decide_resampled(const Passage& p, const Logits& logits, uint32_t channels, uint64_t count, uint8_t* winners) {
    const float* found = resample_channel(p, logits, 0);
    for (uint64_t i = 0; i < count; ++i) winners[i] = channels == 1 && found[i] > 0 ? 1 : 0;
    if (channels == 1) return;
    memcpy(p.best, found, static_cast<size_t>(count) * sizeof(float));
    for (uint32_t c = 1; c < channels; ++c) {
        found = resample_channel(p, logits, c);
        for (uint64_t i = 0; i < count; ++i) {
            if (isnan(p.best[i]) || !(found[i] > p.best[i] || isnan(found[i]))) continue;
            p.best[i] = found[i];
            winners[i] = static_cast<uint8_t>(c);
        }
    }
}

}  // namespace

void take_logits(const Passage& p, const Network& network, uint64_t window) {
    if (!p.sum) return;
    const Tiles& tiles = p.plan->tiles;
    const uint32_t channels = network.info.output_channels;
    const uint64_t pixels = elements(tiles.whole), part = elements(tiles.call);
    if (window == 0) {
        memset(p.sum, 0, static_cast<size_t>(pixels * channels) * sizeof(float));
        memset(p.share, 0, static_cast<size_t>(pixels) * sizeof(float));
    }
    uint32_t corner[3];
    corner_of(tiles, window, corner);
    for (uint32_t c = 0; c < channels; ++c) add_window(tiles, network.output + c * part, corner, p.sum + c * pixels);
    add_weights(tiles, corner, p.share);
    if (window + 1 < tiles.windows()) return;
    for (uint32_t c = 0; c < channels; ++c) divide(p.sum + c * pixels, p.share, pixels);
}

void finish_unit(const Passage& p, const Network& network, uint32_t unit, const uint8_t values[256]) {
    const Plan& plan = *p.plan;
    const uint32_t* lies = p.sum ? plan.tiles.whole : network.sizes.output_size;
    const Logits logits = {p.sum ? p.sum : network.output, elements(lies), lies[1], lies[2]};
    const uint32_t channels = network.info.output_channels;
    const uint32_t* size = plan.back.size[plan.back.steps];
    const uint64_t count = elements(size);
    uint8_t* winners = p.winners ? p.winners : p.classes + unit * count;
    if (plan.back.steps)
        decide_resampled(p, logits, channels, count, winners);
    else
        decide_pixels(logits, channels, size, winners);
    for (uint64_t i = 0; i < count; ++i) winners[i] = values[winners[i]];
    if (!p.winners) return;
    const Walk walk = walk_back(plan.turn, plan.stored);
    for (uint32_t z = 0; z < size[0]; ++z)
        for (uint32_t y = 0; y < size[1]; ++y) {
            uint8_t* to = p.classes + walk.first + walk.step[0] * (int64_t{unit} + z) + walk.step[1] * y;
            for (uint32_t x = 0; x < size[2]; ++x) to[walk.step[2] * x] = *winners++;
        }
}

}  // namespace tool
