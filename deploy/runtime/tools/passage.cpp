#include "passage.h"

#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

namespace tool {
namespace {

constexpr uint64_t kMostValues = uint64_t{1} << 48;  // of a buffer: more than any machine has

// How many values each buffer holds; 0: it is not needed.
struct Rooms {
    uint64_t slice, even, odd, out_even, out_odd, best, sum, share, winners, classes;
};

uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

Rooms rooms_of(const Plan& plan, uint32_t channels) {
    Rooms rooms = {};
    const bool windows = plan.tiles.windows() > 1, resampled = plan.back.steps > 0;
    const uint64_t pixels = elements(plan.tiles.whole);
    rooms.slice = plan.turn.turns() ? uint64_t{plan.stored[1]} * plan.stored[2] : 0;
    rooms.even = plan.fills_input() ? 0 : even_room(plan.there);
    rooms.odd = plan.there.steps ? odd_room(plan.there) : 0;
    rooms.out_even = resampled ? even_room(plan.back) : 0;
    rooms.out_odd = resampled ? odd_room(plan.back) : 0;
    if (plan.shares_buffers()) {
        rooms.even = larger(rooms.even, rooms.out_even);
        rooms.odd = larger(rooms.odd, rooms.out_odd);
        rooms.out_even = rooms.out_odd = 0;
    }
    const uint64_t unit = elements(plan.back.size[plan.back.steps]);
    rooms.winners = plan.turn.turns() ? unit : 0;
    rooms.best = resampled && channels > 1 ? unit : 0;
    rooms.share = windows ? pixels : 0;
    rooms.sum = !windows ? 0 : pixels < kMostValues ? pixels * channels : pixels;
    rooms.classes = elements(plan.stored);
    return rooms;
}

template <typename T>
T* values_of(uint64_t count, bool* enough) {
    if (!count || !*enough) return nullptr;
    T* values = count < SIZE_MAX / 8 ? static_cast<T*>(malloc(static_cast<size_t>(count) * sizeof(T))) : nullptr;
    *enough = values != nullptr;
    return values;
}

}  // namespace

uint64_t passage_bytes(const Plan& plan, uint32_t channels) {
    const Rooms r = rooms_of(plan, channels);
    const uint64_t rooms[] = {r.slice, r.even, r.odd, r.out_even, r.out_odd, r.best, r.sum, r.share};
    uint64_t bytes = larger(r.winners, r.classes) < kMostValues ? r.winners + r.classes : kMostValues;
    for (uint64_t room : rooms) bytes += (room < kMostValues ? room : kMostValues) * sizeof(float);
    return bytes;
}

bool open_passage(const Plan& plan, const Network& network, Passage* p) {
    const Rooms rooms = rooms_of(plan, network.info.output_channels);
    bool enough = true;
    p->plan = &plan;
    p->slice = values_of<float>(rooms.slice, &enough);
    p->input = network.input;
    p->even = plan.fills_input() ? p->input : values_of<float>(rooms.even, &enough);
    p->odd = values_of<float>(rooms.odd, &enough);
    p->out_even = plan.shares_buffers() ? p->even : values_of<float>(rooms.out_even, &enough);
    p->out_odd = plan.shares_buffers() ? p->odd : values_of<float>(rooms.out_odd, &enough);
    p->best = values_of<float>(rooms.best, &enough);
    p->sum = values_of<float>(rooms.sum, &enough);
    p->share = values_of<float>(rooms.share, &enough);
    p->winners = values_of<uint8_t>(rooms.winners, &enough);
    p->classes = values_of<uint8_t>(rooms.classes, &enough);
    return enough;
}

void close_passage(Passage* p) {
    if (p->out_even != p->even) free(p->out_even);
    if (p->out_odd != p->odd) free(p->out_odd);
    if (p->even != p->input) free(p->even);
    void* const others[] = {p->slice, p->odd, p->best, p->sum, p->share, p->winners, p->classes};
    for (void* buffer : others) free(buffer);
    memset(p, 0, sizeof *p);
}

Exit read_part(Image* image, Passage* p) {
    const Plan& plan = *p->plan;
    const uint32_t rows = plan.stored[1], columns = plan.stored[2];
    const Walk walk = walk_there(plan.turn, plan.stored);
    const uint64_t plane = uint64_t{rows} * columns;
    for (uint64_t i = 0; i < uint64_t{plan.channels} * plan.stored[0]; ++i) {
        TOOL_TRY(image->format->slice(image, p->slice ? p->slice : p->even + i * plane));
        if (!p->slice) continue;
        const uint64_t volume = i / plan.stored[0] * plan.stored[0] * plane;
        const auto slice = static_cast<int64_t>(i % plan.stored[0]);
        const float* from = p->slice;
        for (uint32_t row = 0; row < rows; ++row) {
            float* to = p->even + volume + walk.first + walk.step[0] * slice + walk.step[1] * row;
            for (uint32_t column = 0; column < columns; ++column) to[walk.step[2] * column] = *from++;
        }
    }
    return kDone;
}

Exit prepare_part(const Image& image, const uq_model_info& info, Passage* p) {
    const Plan& plan = *p->plan;
    p->seen = resample(plan.there, p->even, p->odd);
    const uint64_t unit = elements(plan.unit);
    Moments moments = {};
    for (uint64_t i = 0; i < uint64_t{plan.channels} * plan.units; ++i) {
        if (stopped()) return stop_here();
        if (plan.by_part && i % plan.units == 0) moments = moments_of(p->seen + i * unit, unit * plan.units);
        if (!normalize(p->seen + i * unit, unit, info, plan.by_part ? &moments : nullptr))
            return fail(kImage,
                        "%.400s is not finite after normalisation: intensities must be real numbers within float32; "
                        "replace NaN and infinite pixels first.",
                        image.file.path);
    }
    return kDone;
}

void fill_input(const Passage& p, const uq_model_info& info, uint32_t unit, uint64_t window) {
    const Plan& plan = *p.plan;
    if (plan.fills_input()) return;
    uint32_t corner[3];
    corner_of(plan.tiles, window, corner);
    const uint64_t size = elements(plan.unit), channel = elements(plan.tiles.call);
    for (uint32_t c = 0; c < info.input_channels; ++c) {
        // A channel is one of the image, or a neighbour of the unit.
        const int64_t wanted = plan.context ? int64_t{unit} + c - plan.context : unit, last = int64_t{plan.units} - 1;
        const auto place = static_cast<uint64_t>(wanted < 0 ? 0 : wanted > last ? last : wanted);
        const uint64_t volume = plan.context ? 0 : uint64_t{c} * plan.units;
        take_window(plan.tiles, p.seen + (volume + place) * size, corner, p.input + c * channel);
    }
}

}  // namespace tool
