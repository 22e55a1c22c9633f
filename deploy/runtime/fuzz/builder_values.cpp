#include <math.h>

#include "builder.h"

namespace fuzz {

using namespace uq;

namespace {

// Small numbers. Armv7's NEON unit has no subnormal ones: it takes them for 0.
#if defined(__arm__)
constexpr float kTiny = 1e-30f;
#else
constexpr float kTiny = 1e-40f;
#endif

}  // namespace

Grid Builder::random_grid() {
    Grid grid = {};
    grid.bits = house_ && s_.chance(70) ? house_code_ : s_.between(1, 8);
    grid.is_signed = s_.chance(40);
    grid.toward_zero = s_.chance(15);
    grid.narrow = grid.is_signed && grid.bits > 1 && s_.chance(15);
    grid.scale =
        s_.chance(70) ? ldexpf(1.0f, static_cast<int>(s_.between(0, 8)) - 6) : 0.01f + 3.0f * s_.numbers().unit();
    if (grid.toward_zero) return grid;
    if (!grid.is_signed && s_.chance(20)) grid.zero_point = s_.below(static_cast<uint32_t>(grid.high()) + 1);
    grid.dynamic = !grid.zero_point && s_.chance(10);
    if (grid.dynamic) grid.scale = 1.0f;
    return grid;
}

void Builder::triple(uint32_t low, uint32_t high, uint32_t neutral, uint32_t out[3]) {
    for (int a = 0; a < 3; ++a) out[a] = a == 0 && flat_ ? neutral : s_.between(low, high);
}

// Arrays that bring sums of about spread onto the grid: half of them well inside, some far beyond, some hostile.
void Builder::epilogue(FileOp* op, uint32_t channels, double spread, const Grid* grid, bool may_norm, OpNote* note) {
    Random& numbers = s_.numbers();
    const double reach = grid ? grid->reach() : 4.0;
    const double size = reach / (spread > 1e-3 ? spread : 1e-3) * s_.pick({0.3, 1.0, 1.0, 5.0});
    const uint32_t style = s_.below(16), slopes = s_.below(5);
    const bool norm = may_norm && s_.chance(15), second = s_.chance(30);
    std::vector<float> gain(channels), offset(channels), slope(channels), gain2(channels), offset2(channels);
    std::vector<float> weight(channels), bias(channels);
    note->slope = 0;
    for (uint32_t c = 0; c < channels; ++c) {
        gain[c] = static_cast<float>(size) * numbers.spread();
        offset[c] = static_cast<float>(reach / 4) * numbers.spread();
        if (style == 0) gain[c] = 0.5f * (grid ? grid->scale : 1.0f), offset[c] = 0;  // ties everywhere
        if (style == 1) gain[c] = 0.0f;
        if (style == 2) gain[c] = 1e30f, offset[c] = -1e30f;
        if (style == 3) gain[c] = kTiny, offset[c] = kTiny / 10;
        slope[c] = slopes == 1 ? 0.0f : slopes == 2 ? 0.01f : slopes == 3 ? 0.25f : 0.3f * numbers.spread();
        gain2[c] = style == 4 ? 0.0f : numbers.spread();
        offset2[c] = static_cast<float>(reach / 4) * numbers.spread();
        weight[c] = static_cast<float>(reach / 3) * numbers.spread();
        bias[c] = static_cast<float>(reach / 4) * numbers.spread();
        double factor = fabs(static_cast<double>(gain[c]));
        if (slopes && fabs(slope[c]) > 1) factor *= fabs(static_cast<double>(slope[c]));
        if (second) factor *= fabs(static_cast<double>(gain2[c]));
        if (factor > note->slope) note->slope = factor;
    }
    if (norm) {
        const uint32_t divisor = s_.pick({1u, 2u, 3u, 4u, 8u, 16u, channels});
        op->norm_groups = s_.chance(50) ? (channels % divisor ? 1 : divisor) : 0;
        if (op->norm_groups) needs(kMethodsVersion);
        if (op->norm_groups == 0 || s_.chance(70)) gain.assign(channels, s_.pick({0.01f, 1.0f, 1e-6f}));
        if (op->norm_groups == 0 || s_.chance(30)) offset.assign(channels, 0.0f);
    }
    op->flags = kEpilogue | (slopes ? kSlope : 0u) | (second ? kSecond : 0u) | (norm ? kInstanceNorm : 0u);
    op->gain = writer_.floats(gain);
    op->offset = writer_.floats(offset);
    if (slopes) op->slope = writer_.floats(slope);
    if (second) {
        op->gain2 = writer_.floats(gain2);
        op->offset2 = writer_.floats(offset2);
    }
    if (norm) {
        op->eps = s_.pick({1e-5, 1e-3, 1e-12});
        op->norm_weight = writer_.floats(weight);
        op->norm_bias = writer_.floats(bias);
        note->float_norm = true;
        note->text += " norm" + std::to_string(op->norm_groups);
    }
}

// Noise, or pushed to the ends, or on the ties of the first grid.
std::vector<float> Builder::image(uint64_t count) {
    Random& numbers = s_.numbers();
    float scale = 1.0f;
    for (const OpNote& op : ops_)
        if (op.kind == kQuantize && op.inputs[0] == 0) scale = tensors_[op.output].grid.scale;
    const uint32_t style = s_.below(8);
    const float size = s_.pick({0.5f, 3.0f, 40.0f}) * scale;
    std::vector<float> values(count);
    for (float& x : values) {
        x = numbers.spread() * size;
        if (style == 0) x = x < 0 ? -1e6f : 1e6f;
        if (style == 1) x = (static_cast<float>(numbers.below(64)) - 32.0f + 0.5f) * scale;
        if (style == 2) x = numbers.chance(50) ? 0.0f : -0.0f;
        if (style == 3) x = numbers.chance(50) ? kTiny : -3e38f;
    }
    return values;
}

// What the library hands out and does not use itself.
void Builder::preprocessing(FileProgram* p) {
    needs(kGeometryVersion);
    static const char* const kCodes[] = {"", "RAS", "LPS", "SAL", "PIR"};
    const char* code = s_.pick({kCodes[0], kCodes[1], kCodes[2], kCodes[3], kCodes[4]});
    memcpy(p->orientation, code, strlen(code));
    if (flat_ && channels_of(0) % 3 == 0) p->context = 1;
    p->over = s_.below(2);
    p->overlap = s_.pick({0.0, 0.25, 0.5, kMaxOverlap});
    const bool spaced = s_.chance(50), tiled = s_.chance(50);
    for (int a = flat_ ? 1 : 0; a < 3; ++a) {
        if (spaced) p->spacing[a] = s_.pick({0.0, 0.25, 1.0, kMaxSpacing});
        if (tiled) p->window[a] = p->has_fixed_size ? p->fixed_size[a] : p->input_multiple[a] * s_.between(1, 8);
    }
}

}  // namespace fuzz
