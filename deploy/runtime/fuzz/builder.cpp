#include "builder.h"

namespace fuzz {

using namespace uq;

namespace {

constexpr uint64_t kMaxValues = 24000;  // of one tensor

bool fits(const Size& size, uint64_t channels) {
    return size.at[0] && size.at[1] && size.at[2] && size.pixels() * channels <= kMaxValues;
}

std::string extents(const Size& size) {
    return std::to_string(size.at[0]) + "x" + std::to_string(size.at[1]) + "x" + std::to_string(size.at[2]);
}

}  // namespace

Size Builder::size_of(uint32_t tensor) const {
    const uint32_t* size = tensors_[tensor].size;
    return Size{{size[0], size[1], size[2]}};
}

bool Builder::same_codes(uint32_t a, uint32_t b) const {
    const Grid *x = grid_of(a), *y = grid_of(b);
    if (!x || !y) return !x && !y;
    return x->bits == y->bits && x->is_signed == y->is_signed && x->scale == y->scale &&
           x->zero_point == y->zero_point && x->dynamic == y->dynamic;  // what makes codes may differ
}

// About the largest number in a tensor before its scale.
double Builder::level_of(uint32_t tensor) const {
    const Grid* grid = grid_of(tensor);
    return !grid ? 4.0 : grid->high() > -grid->low() ? grid->high() : -grid->low();
}

// Tiny ones for the tails; now and then more than one strip of rows.
Size Builder::start_size() {
    switch (s_.below(8)) {
        case 0:
            return Size{{flat_ ? 1u : s_.between(1, 3), 1, s_.between(1, 400)}};
        case 1:
            return Size{{flat_ ? 1u : s_.between(1, 3), s_.between(1, 400), s_.between(1, 3)}};
        case 2:
            return Size{{flat_ ? 1u : s_.between(1, 4), s_.between(8, 48), s_.between(8, 48)}};
        default:
            return Size{{flat_ ? 1u : s_.between(1, 6), s_.between(1, 13), s_.between(1, 17)}};
    }
}

uint32_t Builder::add_tensor(uint32_t channels, const Grid* grid, const Size& size) {
    FileTensor record = {};
    const auto index = static_cast<uint32_t>(tensors_.size());
    writer_.name("t" + std::to_string(index), &record.name_offset, &record.name_bytes);
    record.channels = channels;
    TensorNote note = {channels, grid != nullptr, {}, {size.at[0], size.at[1], size.at[2]}};
    if (grid) {
        record.type = 1;
        record.bits = static_cast<uint8_t>(grid->bits);
        record.is_signed = grid->is_signed;
        record.rounding = grid->toward_zero;
        record.narrow = grid->narrow;
        record.dynamic = grid->dynamic;
        record.zero_point = static_cast<int32_t>(grid->zero_point);
        if (grid->narrow || grid->dynamic || grid->zero_point) needs(kMethodsVersion);
        record.scale = grid->scale;
        note.grid = *grid;
    }
    writer_.tensors.push_back(record);
    tensors_.push_back(note);
    return index;
}

FileOp Builder::start_op(uint32_t kind, const std::vector<uint32_t>& inputs) {
    FileOp op = {};
    op.kind = kind;
    op.first_operand = static_cast<uint32_t>(writer_.operands.size());
    op.operand_count = static_cast<uint32_t>(inputs.size());
    return op;
}

void Builder::finish_op(FileOp op, uint32_t channels, const Grid* grid, const Size& size, OpNote note) {
    static const char* const kNames[] = {"?",         "quantize", "conv", "upsample", "max_pool", "add",
                                         "pointwise", "concat",   "pad",  "table",    "mul"};
    const Grid copied = grid ? *grid : Grid{};  // it may lie in the vector that grows here
    writer_.name(kNames[op.kind] + std::to_string(ops_.size()), &op.name_offset, &op.name_bytes);
    writer_.operands.insert(writer_.operands.end(), note.inputs.begin(), note.inputs.end());
    op.output = add_tensor(channels, grid ? &copied : nullptr, size);
    writer_.ops.push_back(op);
    note.kind = op.kind;
    note.output = op.output;
    std::string text = kNames[op.kind];
    for (uint32_t input : note.inputs) text += " t" + std::to_string(input);
    text += " -> t" + std::to_string(op.output) + " " + std::to_string(channels) + "x" + extents(size);
    text += !grid ? " float" : (copied.is_signed ? " s" : " u") + std::to_string(copied.bits);
    note.text = text + (copied.toward_zero ? "z" : "") + (copied.narrow ? "n" : "") + (copied.dynamic ? "d" : "") +
                (copied.zero_point ? "+" + std::to_string(copied.zero_point) : "") + note.text;
    ops_.push_back(note);
}

void Builder::quantize(uint32_t source) {
    OpNote note = {};
    note.inputs = {source};
    const Grid grid = random_grid();
    finish_op(start_op(kQuantize, note.inputs), channels_of(source), &grid, size_of(source), note);
}

void Builder::upsample(uint32_t source) {
    OpNote note = {};
    note.inputs = {source};
    FileOp op = start_op(kUpsample, note.inputs);
    op.mode = s_.below(2);
    triple(1, op.mode ? 2 : 3, 1, op.kernel);
    Size size = size_of(source);
    note.weight = 1;
    for (int a = 0; a < 3; ++a) {
        size.at[a] *= op.kernel[a];
        if (op.mode && op.kernel[a] == 2) note.weight *= 4;
    }
    if (!fits(size, channels_of(source))) return;
    const Grid fresh = random_grid();
    const Grid* grid = op.mode && grid_of(source) ? &fresh : grid_of(source);
    note.text = op.mode ? " linear" : " nearest";
    if (op.mode) {
        note.float_sums = false;
        epilogue(&op, channels_of(source), level_of(source) * note.weight, grid, true, &note);
        note.float_norm = note.float_norm && !grid_of(source);
    }
    finish_op(op, channels_of(source), grid, size, note);
}

void Builder::max_pool(uint32_t source) {
    OpNote note = {};
    note.inputs = {source};
    FileOp op = start_op(kMaxPool, note.inputs);
    if (s_.chance(50)) {
        for (int a = 0; a < 3; ++a) op.kernel[a] = op.stride[a] = a == 0 && flat_ ? 1 : 2;
    } else {
        triple(1, 4, 1, op.kernel);
        triple(1, 3, 1, op.stride);
    }
    Size size = size_of(source);
    for (int a = 0; a < 3; ++a) {
        op.before[a] = a == 0 && flat_ ? 0 : s_.below(op.kernel[a] / 2 + 1);
        const uint32_t room = size.at[a] + 2 * op.before[a];
        size.at[a] = room < op.kernel[a] ? 0 : (room - op.kernel[a]) / op.stride[a] + 1;
    }
    if (fits(size, channels_of(source))) finish_op(op, channels_of(source), grid_of(source), size, note);
}

void Builder::pad(uint32_t source) {
    OpNote note = {};
    note.inputs = {source};
    FileOp op = start_op(kPad, note.inputs);
    op.mode = s_.below(2);
    uint32_t after[3];
    triple(0, 3, 0, op.before);
    triple(0, 3, 0, after);
    Size size = size_of(source);
    for (int a = 0; a < 3; ++a) {
        op.after[a] = static_cast<int32_t>(after[a]);
        size.at[a] += op.before[a] + after[a];
    }
    note.text = op.mode ? " replicate" : " zero";
    if (fits(size, channels_of(source))) finish_op(op, channels_of(source), grid_of(source), size, note);
}

void Builder::concat(uint32_t source) {
    OpNote note = {};
    uint32_t channels = 0;
    for (uint32_t t = 0; t < tensors_.size(); ++t) {
        if (!same_codes(t, source) || is_dynamic(t) || !(size_of(t) == size_of(source)) || !s_.chance(60)) continue;
        note.inputs.push_back(t);
        channels += channels_of(t);
    }
    if (note.inputs.empty() || s_.chance(20)) {  // the same tensor may come twice
        note.inputs.push_back(source);
        channels += channels_of(source);
    }
    if (!fits(size_of(source), channels)) return;
    finish_op(start_op(kConcat, note.inputs), channels, grid_of(source), size_of(source), note);
}

void Builder::simple(uint32_t source) {
    const Grid grid = random_grid();
    switch (s_.below(10)) {
        case 0:
        case 1:
            return upsample(source);
        case 2:
            return max_pool(source);
        case 3:
            return pad(source);
        case 4:
            return add(source);
        case 5:
            if (!is_dynamic(source)) return concat(source);
            break;
        case 6:
        case 7:
            if (!zero_of(source)) return multiply(source);
            break;
        case 8:
            if (grid_of(source) && !is_dynamic(source)) return table(source);
            break;
        default:
            break;
    }
    pointwise(source, grid_of(source) ? &grid : nullptr);
}

// The output is float32; mostly the last tensor, now and then an earlier one, or the input as it is.
void Builder::finish(uint32_t last) {
    if (tensors_[last].coded || last == 0) pointwise(last, nullptr);
    uint32_t output = static_cast<uint32_t>(tensors_.size()) - 1;
    if (s_.chance(6)) {
        uint32_t other = s_.below(static_cast<uint32_t>(tensors_.size()));
        if (!tensors_[other].coded) output = other;
    }
    FileProgram& p = writer_.program;
    p.spatial_rank = flat_ ? 2 : 3;
    p.output = output;
    p.has_fixed_size = s_.chance(30);
    for (int a = 0; a < 3; ++a) {
        const uint32_t size = tensors_[0].size[a];
        p.input_multiple[a] = s_.chance(30) ? size : 1;
        if (p.has_fixed_size) p.fixed_size[a] = size;
    }
    if (s_.chance(25)) preprocessing(&p);
    writer_.name("fuzz", &p.name_offset, &p.name_bytes);
    const uint32_t classes = channels_of(output) < 2 ? 2 : channels_of(output);
    for (uint32_t i = 0; i < classes; ++i) {
        FileLabel label = {};
        writer_.name("c" + std::to_string(i), &label.name_offset, &label.name_bytes);
        label.value = static_cast<int32_t>(i);
        writer_.labels.push_back(label);
    }
    if (s_.chance(20)) writer_.provenance = "{}";  // without it (the C reader does not mind) the data end the file
}

Graph Builder::build() {
    flat_ = s_.chance(70);
    floats_ = s_.chance(12);
    house_ = s_.chance(60);
    house_weight_ = s_.pick({1u, 2u, 3u, 4u, 4u, 8u});
    house_code_ = s_.pick({1u, 2u, 4u, 6u, 6u, 8u});
    max_work_ = s_.chance(10) ? 400000 : 40000;  // hundreds of graphs a second; wide layers now and then
    const Size size = start_size();
    add_tensor(s_.chance(85) ? s_.between(1, 5) : s_.between(1, 20), nullptr, size);
    if (!floats_ || s_.chance(50)) quantize(0);
    if (s_.chance(30)) quantize(0);
    const uint32_t steps = s_.between(1, 7);
    for (uint32_t i = 0; i < steps; ++i) {
        std::vector<uint32_t> sources;
        for (uint32_t t = 0; t < tensors_.size(); ++t)
            if (floats_ || tensors_[t].coded || s_.chance(5)) sources.push_back(t);
        const auto count = static_cast<uint32_t>(sources.size());
        const uint32_t source = s_.chance(70) ? sources[count - 1] : sources[s_.below(count)];
        if (s_.chance(60))
            conv(source);
        else
            simple(source);
    }
    finish(static_cast<uint32_t>(tensors_.size()) - 1);
    Graph graph;
    graph.flat = flat_;
    memcpy(graph.size, size.at, sizeof graph.size);
    graph.image = image(size.pixels() * channels_of(0));
    graph.file = writer_.file();
    graph.tensors = tensors_;
    graph.ops = ops_;
    return graph;
}

Graph random_graph(Source* source) {
    return Builder(source).build();
}

}  // namespace fuzz
