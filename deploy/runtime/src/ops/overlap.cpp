// How far an operation may write over an input that it reads for the last time.
#include "conv_shape.h"
#include "ops.h"

namespace uq {
namespace {

uint64_t row_bytes(const uq_layout& layout, uint32_t tensor) {
    return layout.places[tensor].size[2] * layout.model->tensors[tensor].pixel_bytes();
}

// After output rows up to `written` are stored, input rows from `unread` on must still be there.
struct Need {
    uint64_t out_row;
    uint64_t in_row;
    uint64_t shift;

    void check(uint64_t written, uint64_t unread) {
        const uint64_t end = written * out_row, begin = unread * in_row;
        if (end > begin && end - begin > shift) shift = end - begin;
    }
};

// Strips go down the image, each reads before it writes, and rows that two strips read stay in the window.
uint64_t conv_shift(const Op& op, const uq_layout& layout, Need need) {
    const uint32_t* input = layout.places[op.inputs[0]].size;
    const uint32_t* output = layout.places[op.output].size;
    if (op.conv.phases.size() != 1 || conv_passes(op.conv) != 1 || op.epilogue.norm_weight || input[0] != 1 ||
        output[0] != 1)
        return kTooLarge;
    const Phase& phase = op.conv.phases[0];
    const Geometry g = conv_geometry(op.conv, phase, output);
    for (uint32_t s = 0; s + 1 < g.strips[1]; ++s) {
        const uint64_t written = static_cast<uint64_t>(s + 1) * g.strip[1];
        const int64_t unread = static_cast<int64_t>((written - 1) * op.conv.input_step[1]) + phase.most[1] + 1;
        if (unread >= static_cast<int64_t>(input[1])) break;
        need.check(written, unread < 0 ? 0 : static_cast<uint64_t>(unread));
    }
    return need.shift;
}

}  // namespace

uint64_t overlap_shift(const uq_layout& layout, const Op& op, uint32_t input) {
    if (layout.threads > 1 || layout.fused[layout.maker[op.output]]) return kTooLarge;
    Need need = {row_bytes(layout, op.output), row_bytes(layout, input), 0};
    if (op.kind == kConv) return conv_shift(op, layout, need);
    const bool by_rows = op.kind == kAdd || op.kind == kMul || op.kind == kPointwise || op.kind == kTable;
    if (!by_rows || op.epilogue.norm_weight) return kTooLarge;
    const uint32_t* size = layout.places[op.output].size;
    if (pixels(layout.places[input].size) != pixels(size)) return kTooLarge;  // every row of a product reads it
    const uint64_t rows = static_cast<uint64_t>(size[0]) * size[1];
    need.check(rows - 1, rows - 1);  // the distance grows from row to row, or there is none
    return need.shift;
}

}  // namespace uq
