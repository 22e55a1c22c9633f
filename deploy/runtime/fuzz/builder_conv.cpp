#include <utility>

#include "builder.h"

namespace fuzz {

using namespace uq;

namespace {

constexpr uint64_t kMaxOutput = 24000;

}  // namespace

// Other tensors on the same codes and of the same size join in: the concat that a convolution absorbs.
std::vector<uint32_t> Builder::conv_inputs(uint32_t source) {
    std::vector<uint32_t> inputs = {source};
    for (uint32_t t = 0; t < tensors_.size() && inputs.size() < 4 && !is_dynamic(source); ++t)
        if (same_codes(t, source) && size_of(t) == size_of(source) && s_.chance(40)) inputs.push_back(t);
    if (inputs.size() > 1 && s_.chance(50)) std::swap(inputs.front(), inputs.back());
    return inputs;
}

// The layers of U-Nets half of the time, anything that the format allows otherwise.
void Builder::shape_conv(FileOp* op) {
    for (int a = 0; a < 3; ++a) {
        op->kernel[a] = op->stride[a] = op->dilation[a] = 1;
        op->before[a] = op->output_padding[a] = 0;
        op->after[a] = 0;
    }
    const int from = flat_ ? 1 : 0;
    const uint32_t what = s_.below(10);
    op->mode = what == 3 || what == 4 || (what > 5 && s_.chance(30));
    if (what <= 2 || what == 5) {  // 3x3, padded as a rule; once in a while with stride 2
        for (int a = from; a < 3; ++a) {
            op->kernel[a] = 3;
            op->before[a] = s_.chance(80) ? 1 : s_.below(3);
            op->after[a] = s_.chance(80) ? static_cast<int32_t>(op->before[a]) : static_cast<int32_t>(s_.below(3));
            op->stride[a] = what == 5 ? 2 : 1;
        }
        if (what == 2) {  // 1x1
            for (int a = 0; a < 3; ++a) op->kernel[a] = 1, op->before[a] = 0, op->after[a] = 0;
        }
        return;
    }
    if (what == 3 || what == 4) {  // 2x2 and 3x3 transposed, stride 2
        for (int a = from; a < 3; ++a) {
            op->stride[a] = 2;
            op->kernel[a] = what == 3 ? 2 : 3;
            op->before[a] = what == 3 ? 0 : 1;
            op->after[a] = what == 3 ? 0 : 1;
            op->output_padding[a] = what == 3 ? 0 : s_.below(2);
        }
        return;
    }
    triple(1, s_.pick({2u, 3u, 3u, 5u, 9u}), 1, op->kernel);
    if (s_.chance(50)) triple(1, 3, 1, op->stride);
    if (s_.chance(40)) triple(1, 3, 1, op->dilation);
    triple(0, s_.pick({0u, 2u, 2u, 6u}), 0, op->before);
    for (int a = from; a < 3; ++a) {
        op->after[a] = s_.chance(60) ? static_cast<int32_t>(op->before[a]) : static_cast<int32_t>(s_.below(4));
        if (s_.chance(10)) op->after[a] = -static_cast<int32_t>(s_.below(3));  // cropped
        if (op->mode == 1 && s_.chance(30)) op->output_padding[a] = s_.below(op->stride[a] + 1);
    }
}

bool Builder::conv_size(const FileOp& op, const Size& in, Size* out) const {
    for (int a = 0; a < 3; ++a) {
        const int64_t n = in.at[a], span = static_cast<int64_t>(op.dilation[a]) * (op.kernel[a] - 1);
        const int64_t padding = static_cast<int64_t>(op.before[a]) + op.after[a];
        int64_t result = 0;
        if (op.mode == 1)
            result = (n - 1) * op.stride[a] - padding + span + op.output_padding[a] + 1;
        else if (n + padding > span)
            result = (n + padding - span - 1) / op.stride[a] + 1;
        if (result < 1 || result > static_cast<int64_t>(kMaxOutput)) return false;
        out->at[a] = static_cast<uint32_t>(result);
    }
    return true;
}

void Builder::conv(uint32_t source) {
    OpNote note = {};
    note.inputs = conv_inputs(source);
    uint32_t total = 0;
    for (uint32_t t : note.inputs) total += channels_of(t);
    FileOp op = start_op(kConv, note.inputs);
    op.groups = s_.chance(70) ? 1 : s_.pick({2u, 3u, 4u, total, total});
    if (total % op.groups) op.groups = 1;
    uint32_t outputs = s_.chance(70) ? s_.between(1, 20) : s_.pick({31u, 32u, 33u, 48u, 64u, 100u, 260u});
    outputs = (outputs + op.groups - 1) / op.groups * op.groups;
    const bool coded = grid_of(source) != nullptr;
    if ((coded && !floats_) || s_.chance(30))
        op.weight_kind =
            s_.pick({kTwosComplement, kTwosComplement, kTwosComplement, kTwosComplement, kBinary, kCodebook, kShifted});
    else
        op.weight_kind = kFloat32;
    op.weight_bits = op.weight_kind == kFloat32    ? 32
                     : op.weight_kind == kBinary   ? 1
                     : op.weight_kind == kCodebook ? s_.between(1, 4)
                     : house_ && s_.chance(75)     ? house_weight_
                                                   : s_.between(1, 8);
    if (op.weight_kind == kShifted && op.weight_bits < 2) op.weight_bits = 2;
    Size size = {};
    uint64_t work = 0;
    for (int attempt = 0;; ++attempt) {
        if (attempt == 4) return;
        shape_conv(&op);
        if (op.mode == 1 && zero_of(source)) continue;
        if (!conv_size(op, size_of(source), &size)) continue;
        const uint64_t taps = static_cast<uint64_t>(op.kernel[0]) * op.kernel[1] * op.kernel[2];
        const uint64_t positions = op.mode == 1 ? size_of(source).pixels() : size.pixels();
        if (positions * taps * (total / op.groups) * outputs > max_work_) outputs = op.groups;
        work = positions * taps * (total / op.groups) * outputs;
        if (work <= max_work_ && work_ + work <= 2 * max_work_ && size.pixels() * outputs <= kMaxOutput) break;
    }
    work_ += work;
    const uint32_t codes = op.kernel[0] * op.kernel[1] * op.kernel[2] * (total / op.groups);
    double mean = 0;
    note.weight = weights(&op, outputs, codes, &mean);
    note.float_sums = !coded || op.weight_kind == kFloat32;
    const Grid fresh = random_grid();
    // Sums of floats stay float: a code that flips at a tie would make everything behind it differ.
    const Grid* grid = note.float_sums ? (s_.chance(5) ? &fresh : nullptr) : s_.chance(85) ? &fresh : nullptr;
    double spread = level_of(source) * (mean + 0.1);
    for (double n = 1; n < codes; n *= 4) spread *= 2;  // about the square root of the number of products
    epilogue(&op, outputs, spread, grid, true, &note);
    note.float_norm = note.float_norm && note.float_sums;
    static const char* const kKinds[] = {"?", "W", "binary", "float", "codebook", "shifted"};
    note.text += std::string(op.mode ? " transposed " : " ") + kKinds[op.weight_kind] + std::to_string(op.weight_bits) +
                 " k" + std::to_string(op.kernel[0]) + std::to_string(op.kernel[1]) + std::to_string(op.kernel[2]) +
                 " s" + std::to_string(op.stride[0]) + std::to_string(op.stride[1]) + std::to_string(op.stride[2]) +
                 " d" + std::to_string(op.dilation[0]) + std::to_string(op.dilation[1]) +
                 std::to_string(op.dilation[2]) + " groups " + std::to_string(op.groups);
    finish_op(op, outputs, grid, size, note);
}

}  // namespace fuzz
