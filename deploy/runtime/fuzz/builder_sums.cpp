// Operations that calculate, channel by channel.
#include <utility>

#include "builder.h"

namespace fuzz {

using namespace uq;

void Builder::add(uint32_t source) {
    std::vector<uint32_t> fellows;
    for (uint32_t t = 0; t < tensors_.size(); ++t)
        if (channels_of(t) == channels_of(source) && size_of(t) == size_of(source)) fellows.push_back(t);
    OpNote note = {};
    note.inputs = {source, fellows[s_.below(static_cast<uint32_t>(fellows.size()))]};
    if (s_.chance(30)) std::swap(note.inputs[0], note.inputs[1]);
    FileOp op = start_op(kAdd, note.inputs);
    for (float& gain : op.input_gain) gain = s_.numbers().spread();
    note.weight = (op.input_gain[0] < 0 ? -op.input_gain[0] : op.input_gain[0]) +
                  (op.input_gain[1] < 0 ? -op.input_gain[1] : op.input_gain[1]);
    const bool any_coded = grid_of(note.inputs[0]) || grid_of(note.inputs[1]);
    const Grid grid = random_grid();
    const Grid* target = any_coded && s_.chance(80) ? &grid : nullptr;
    epilogue(&op, channels_of(source), level_of(source) * 2, target, true, &note);  // its sums are floats always
    finish_op(op, channels_of(source), target, size_of(source), note);
}

// The second may have one channel for all, or one pixel.
void Builder::multiply(uint32_t source) {
    const Size whole = size_of(source);
    std::vector<uint32_t> fellows;
    for (uint32_t t = 0; t < tensors_.size(); ++t) {
        const bool channels = channels_of(t) == channels_of(source) || channels_of(t) == 1;
        const bool size = size_of(t) == whole || size_of(t).pixels() == 1;
        if (channels && size && !zero_of(t) && (floats_ || tensors_[t].coded || s_.chance(20))) fellows.push_back(t);
    }
    OpNote note = {};
    const auto count = static_cast<uint32_t>(fellows.size());
    note.inputs = {source, count ? fellows[s_.below(count)] : source};
    FileOp op = start_op(kMul, note.inputs);
    needs(kMethodsVersion);
    const bool both_coded = grid_of(note.inputs[0]) && grid_of(note.inputs[1]);
    const Grid grid = random_grid();
    const Grid* target = (both_coded || !floats_) && s_.chance(80) ? &grid : nullptr;
    epilogue(&op, channels_of(source), level_of(note.inputs[0]) * level_of(note.inputs[1]) / 2, target, true, &note);
    note.float_norm = note.float_norm && !both_coded;
    finish_op(op, channels_of(source), target, whole, note);
}

// Any function of a code, or one as networks have it.
void Builder::table(uint32_t source) {
    OpNote note = {};
    note.inputs = {source};
    FileOp op = start_op(kTable, note.inputs);
    needs(kMethodsVersion);
    const Grid& from = *grid_of(source);
    Grid to = random_grid();
    to.dynamic = false;
    if (s_.chance(50)) to.bits = from.bits;
    if (to.bits == 1) to.narrow = false;
    if (static_cast<int32_t>(to.zero_point) > to.high()) to.zero_point = 0;
    uint8_t entries[kTableBytes] = {};
    const uint32_t style = s_.below(3), span = static_cast<uint32_t>(to.high() - to.low()) + 1;
    for (int32_t code = from.low(); code <= from.high(); ++code) {
        int32_t entry = to.low() + static_cast<int32_t>(s_.numbers().below(span));
        if (style == 0) entry = code < to.low() ? to.low() : code > to.high() ? to.high() : code;
        if (style == 1) entry = to.high();
        entries[code & 0xff] = static_cast<uint8_t>(entry);
    }
    op.codebook = writer_.blob(entries, sizeof entries);
    finish_op(op, channels_of(source), &to, size_of(source), note);
}

void Builder::pointwise(uint32_t source, const Grid* grid) {
    OpNote note = {};
    note.inputs = {source};
    note.weight = 1;
    FileOp op = start_op(kPointwise, note.inputs);
    epilogue(&op, channels_of(source), level_of(source), grid, true, &note);
    note.float_norm = note.float_norm && !grid_of(source);
    finish_op(op, channels_of(source), grid, size_of(source), note);
}

}  // namespace fuzz
