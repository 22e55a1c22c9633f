#include <math.h>

#include <algorithm>

#include "builder.h"

namespace fuzz {

using namespace uq;

// Levels that never fall, some of them more than once, and 0 behind them.
std::vector<int8_t> Builder::codebook(FileOp* op) {
    const uint32_t style = s_.below(4), used = 1u << op->weight_bits;
    std::vector<int8_t> levels(kLevels);
    for (uint32_t i = 0; i < used; ++i) {
        const int32_t any = static_cast<int32_t>(s_.numbers().below(256)) - 128;
        const int32_t middle = static_cast<int32_t>(i) - static_cast<int32_t>(used / 2);
        levels[i] = static_cast<int8_t>(style == 0 ? any / 32 : style == 1 ? middle : style == 2 ? any / 8 : any);
    }
    if (style == 3) levels[0] = -128, levels[used - 1] = 127;
    std::sort(levels.begin(), levels.begin() + used);
    op->codebook = writer_.blob(levels.data(), levels.size());
    needs(kCodebookVersion);
    return levels;
}

// A shift for each group of input channels, none of which can bring a code of these bits out of 8.
std::vector<uint8_t> Builder::shifts(FileOp* op, uint32_t outputs, uint32_t channels) {
    op->group_size = s_.pick({1u, 2u, 4u, 32u, channels, 1u + s_.below(channels)});
    std::vector<uint8_t> all(static_cast<size_t>(outputs) * ((channels + op->group_size - 1) / op->group_size));
    const uint32_t most = s_.chance(60) ? 8 - op->weight_bits : s_.below(9 - op->weight_bits);
    for (uint8_t& shift : all) shift = static_cast<uint8_t>(s_.numbers().below(most + 1));
    op->codebook = writer_.blob(all.data(), all.size());
    needs(kMethodsVersion);
    return all;
}

// Writes the rows; returns the largest sum of |weights| of an output, and their mean size.
double Builder::weights(FileOp* op, uint32_t outputs, uint32_t codes, double* mean) {
    const uint32_t bits = op->weight_bits;
    op->row_bytes = static_cast<uint32_t>((static_cast<uint64_t>(codes) * bits + 7) / 8);
    Bytes rows(static_cast<size_t>(op->row_bytes) * outputs);
    const int32_t low = -(1 << (bits < 32 ? bits - 1 : 0)), high = bits < 32 ? (1 << (bits - 1)) - 1 : 0;
    const uint32_t style = s_.below(12);
    Random& numbers = s_.numbers();
    const std::vector<int8_t> levels = op->weight_kind == kCodebook ? codebook(op) : std::vector<int8_t>();
    const uint32_t channels = codes / (op->kernel[0] * op->kernel[1] * op->kernel[2]);
    const std::vector<uint8_t> shift =
        op->weight_kind == kShifted ? shifts(op, outputs, channels) : std::vector<uint8_t>();
    double largest = 0, total = 0;
    for (uint32_t o = 0; o < outputs; ++o) {
        uint8_t* row = rows.data() + static_cast<size_t>(o) * op->row_bytes;
        double sum = 0;
        for (uint32_t i = 0; i < codes; ++i) {
            if (op->weight_kind == kFloat32) {
                const float value = numbers.spread();
                memcpy(row + i * sizeof value, &value, sizeof value);
                sum += fabs(static_cast<double>(value));
                continue;
            }
            int32_t code = low + static_cast<int32_t>(numbers.below(static_cast<uint32_t>(high - low) + 1));
            if (style == 0) code = low;
            if (style == 1) code = high;
            if (style == 2) code = numbers.chance(50) ? low : high;
            if (style == 3) code = numbers.chance(80) ? 0 : code;
            if (style == 4) code = code > 0 ? 1 : code < 0 ? -1 : 0;
            if (style >= 5 && style <= 7 && bits > 1 && code == low) code = low + 1;  // symmetric, as training makes it
            if (style == 8) code = o % 2 ? low : high;
            uint32_t field = static_cast<uint32_t>(code) & ((1u << bits) - 1);
            if (op->weight_kind == kBinary) {
                field = style == 0 ? 0 : style == 1 ? 1 : static_cast<uint32_t>(numbers.next() & 1);
                code = field ? 1 : -1;
            }
            const uint64_t at = static_cast<uint64_t>(i) * bits;
            for (uint32_t b = 0; b < bits; ++b)
                if (field >> b & 1) row[(at + b) / 8] |= static_cast<uint8_t>(1u << (at + b) % 8);
            if (op->weight_kind == kCodebook) code = levels[field];
            if (!shift.empty()) code *= 1 << shift[o * (shift.size() / outputs) + i % channels / op->group_size];
            sum += code < 0 ? -code : code;
        }
        total += sum;
        if (sum > largest) largest = sum;
    }
    *mean = total / (static_cast<double>(codes) * outputs);
    op->weight = writer_.blob(rows.data(), rows.size());
    op->weight_scale_count = s_.chance(50) ? 1 : outputs;
    op->weight_scale = writer_.floats(std::vector<float>(op->weight_scale_count, 1.0f));
    return largest;
}

}  // namespace fuzz
