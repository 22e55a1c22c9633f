// Linear x2 in both axes of a plane from codes of one bit to codes of one bit: all channels of a pixel at once.
//
// A result is told by 9 a + 3 b + 3 c + d > T, with a the nearest pixel, b and c its neighbours in the row and in the
// column, d the one across. T is the same for all channels, or this is not used.
#include "double_bits.h"

namespace uq {
namespace {

// What 9 a + 3 b + 3 c + d can be; number k of the functions below is 1 where that is more than kSums[k - 1].
constexpr int32_t kSums[] = {0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16};
constexpr uint32_t kFunctions = sizeof kSums / sizeof *kSums + 1;

template <uint32_t k>
uint64_t passed(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    switch (k) {
        case 0:
            return ~uint64_t{0};
        case 1:
            return a | b | c | d;
        case 2:
            return a | b | c;
        case 3:
            return a | (b & c) | ((b | c) & d);
        case 4:
            return a | (b & c);
        case 5:
            return a | (b & c & d);
        case 6:
            return a;
        case 7:
            return a & (b | c | d);
        case 8:
            return a & (b | c);
        case 9:
            return a & ((b & c) | ((b | c) & d));
        case 10:
            return a & b & c;
        case 11:
            return a & b & c & d;
        default:
            return 0;
    }
}

struct Pixels {
    const uint8_t* near;  // rows
    const uint8_t* far;
    size_t at;  // bytes to the nearest pixel of a row, and to its neighbour
    size_t beside;
};

// before flips the codes that enter, after those that leave.
template <uint32_t k>
void combine(const Pixels& pixels, size_t bytes, uint64_t before, uint64_t after, uint8_t* dst) {
    for (size_t i = 0; i < bytes; i += 8) {
        const size_t n = bytes - i < 8 ? bytes - i : 8;
        uint64_t a = 0, b = 0, c = 0, d = 0;
        if (n == 8) {
            memcpy(&a, pixels.near + pixels.at + i, 8);
            memcpy(&b, pixels.near + pixels.beside + i, 8);
            memcpy(&c, pixels.far + pixels.at + i, 8);
            memcpy(&d, pixels.far + pixels.beside + i, 8);
        } else {
            memcpy(&a, pixels.near + pixels.at + i, n);
            memcpy(&b, pixels.near + pixels.beside + i, n);
            memcpy(&c, pixels.far + pixels.at + i, n);
            memcpy(&d, pixels.far + pixels.beside + i, n);
        }
        const uint64_t result = passed<k>(a ^ before, b ^ before, c ^ before, d ^ before) ^ after;
        if (n == 8)
            memcpy(dst + i, &result, 8);
        else
            memcpy(dst + i, &result, n);
    }
}

using Combine = void (*)(const Pixels&, size_t, uint64_t, uint64_t, uint8_t*);
constexpr Combine kCombine[kFunctions] = {combine<0>,  combine<1>,  combine<2>, combine<3>, combine<4>,
                                          combine<5>,  combine<6>,  combine<7>, combine<8>, combine<9>,
                                          combine<10>, combine<11>, combine<12>};

}  // namespace

bool doubles_bits(const uq_model& model, const Op& op) {
    const ThresholdTable& table = op.thresholds;
    if (op.kind != kUpsample || op.mode != 1 || op.kernel[0] != 1 || op.kernel[1] != 2 || op.kernel[2] != 2)
        return false;
    return model.tensors[op.inputs[0]].bits == 1 && table.count == 1 && table.uniform;
}

void double_bits(const Run& run, const Op& op, const RowPart& part, const PackedRow& row) {
    const Tensor& tensor = run.model->tensors[op.inputs[0]];
    const uint32_t* in = run.layout->places[op.inputs[0]].size;
    const uint32_t last_row = in[1] - 1, last_column = in[2] - 1;
    auto other = [](uint32_t out, uint32_t last) {  // the neighbour of position out / 2, or itself at the border
        const uint32_t i = out / 2;
        return out % 2 ? (i < last ? i + 1 : i) : (i > 0 ? i - 1 : 0);
    };
    const uint64_t plane = static_cast<uint64_t>(part.depth) * in[1];
    Pixels pixels = {};
    pixels.near = run.row(op.inputs[0], (plane + part.row / 2) * in[2], 1).data;
    pixels.far = run.row(op.inputs[0], (plane + other(part.row, last_row)) * in[2], 1).data;
    // A signed code -1 is the bit 1: codes plus 1 enter, and 16 more than the sum comes out.
    const int64_t above = static_cast<int64_t>(op.thresholds.above[0]) + (tensor.is_signed ? 16 : 0);
    uint32_t k = 0;
    while (k < kFunctions - 1 && above >= kSums[k]) ++k;
    if (above < 0) k = 0;
    const size_t bytes = static_cast<size_t>(tensor.pixel_bytes());
    const uint64_t before = tensor.is_signed ? ~uint64_t{0} : 0;
    const uint64_t after = op.thresholds.first[0] & 1 ? ~uint64_t{0} : 0;
    for (uint32_t p = 0; p < part.count; ++p) {
        const uint32_t column = part.column + p;
        pixels.at = column / 2 * bytes;
        pixels.beside = other(column, last_column) * bytes;
        kCombine[k](pixels, bytes, before, after, row.data + p * row.pixel_stride);
    }
}

}  // namespace uq
