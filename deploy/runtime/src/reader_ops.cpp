// The records of operations, all but what convolutions alone have.
#include <math.h>

#include "reader.h"
#include "thresholds.h"

namespace uq {

uq_status Reader::read_ops() {
    Array<uint8_t> made;
    if (!model_->ops.allocate(count_[kOps]) || !made.allocate(count_[kTensors]))
        return fail(UQ_NO_MEMORY, "no memory for %u operation records. Free some first.", count_[kOps]);
    const auto* rows = reinterpret_cast<const FileOp*>(section_[kOps]);
    made[model_->program->input] = 1;
    for (uint32_t i = 0; i < count_[kOps]; ++i) {
        UQ_TRY(read_op(rows[i], made, &model_->ops[i]));
        made[model_->ops[i].output] = 1;
    }
    UQ_CHECK(made[model_->program->output], "the model's output tensor is never made. Export the model again.");
    return UQ_OK;
}

uq_status Reader::read_op(const FileOp& row, const Array<uint8_t>& made, Op* op) {
    UQ_TRY(name(row.name_offset, row.name_bytes, &op->name));
    UQ_CHECK(row.kind >= kQuantize && row.kind < kOpKindEnd,
             "%.80s: operation kind %u is not known; there are 1 to %u. Update the runtime, or export the model "
             "again for this one.",
             op->name, row.kind, kOpKindEnd - 1);
    op->kind = static_cast<OpKind>(row.kind);
    UQ_TRY(check_record(row, *op));
    UQ_TRY(check_operands(row, made, op));
    memcpy(op->kernel, row.kernel, sizeof op->kernel);
    memcpy(op->stride, row.stride, sizeof op->stride);
    memcpy(op->before, row.before, sizeof op->before);
    memcpy(op->after, row.after, sizeof op->after);
    memcpy(op->dilation, row.dilation, sizeof op->dilation);
    memcpy(op->output_padding, row.output_padding, sizeof op->output_padding);
    memcpy(op->input_gain, row.input_gain, sizeof op->input_gain);
    op->groups = row.groups;
    op->mode = row.mode;
    op->weight_bits = row.weight_bits;
    op->weight_kind = row.weight_kind;
    op->row_bytes = row.row_bytes;
    UQ_TRY(check_channels(*op));
    UQ_TRY(check_grids(*op));
    UQ_TRY(check_geometry(row, *op));
    if (op->kind == kTable) return read_table(row, op);
    if (row.flags & kEpilogue) {
        UQ_TRY(read_epilogue(row, op));
        drop_relu(op);
    }
    if (op->kind == kConv) {
        UQ_TRY(read_conv(row, op));
        UQ_TRY(prepare_conv(*model_, op));
    }
    return prepare_thresholds(*model_, op);
}

// Choices, and the fields that only some operations have.
uq_status Reader::check_record(const FileOp& row, const Op& op) {
    if (op.kind >= kTable) UQ_TRY(needs(kMethodsVersion, op.name, op.kind == kTable ? "tables" : "products"));
    if (row.norm_groups) UQ_TRY(needs(kMethodsVersion, op.name, "norm groups"));
    if (row.group_size) UQ_TRY(needs(kMethodsVersion, op.name, "group sizes"));
    const bool two_modes = op.kind == kConv || op.kind == kUpsample || op.kind == kPad;
    const bool epilogue = op.kind == kConv || op.kind == kAdd || op.kind == kPointwise || op.kind == kMul ||
                          (op.kind == kUpsample && row.mode == 1);
    UQ_CHECK(row.mode <= (two_modes ? 1u : 0u) && row.flags <= 15 &&
                 (epilogue ? (row.flags & kEpilogue) != 0 : row.flags == 0) &&
                 (op.kind == kConv || op.kind == kTable || row.codebook == 0) &&
                 (op.kind == kConv || row.group_size == 0) && (row.norm_groups == 0 || row.flags & kInstanceNorm) &&
                 all_zero(row.reserved, sizeof row.reserved),
             "%.80s: unknown mode or flags, or reserved bytes set. Export the model again.", op.name);
    return UQ_OK;
}

uq_status Reader::check_operands(const FileOp& row, const Array<uint8_t>& made, Op* op) {
    UQ_CHECK(row.operand_count >= 1 && row.operand_count <= kMaxCount && row.first_operand <= count_[kOperands] &&
                 row.operand_count <= count_[kOperands] - row.first_operand,
             "%.80s: its operands do not exist. Export the model again.", op->name);
    op->inputs = reinterpret_cast<const uint32_t*>(section_[kOperands]) + row.first_operand;
    op->input_count = row.operand_count;
    for (uint32_t i = 0; i < op->input_count; ++i)
        UQ_CHECK(op->inputs[i] < count_[kTensors] && made[op->inputs[i]],
                 "%.80s: it reads tensor %u before it is made. Export the model again.", op->name, op->inputs[i]);
    UQ_CHECK(row.output < count_[kTensors] && !made[row.output],
             "%.80s: it makes tensor %u, which does not exist or exists already. Export the model again.", op->name,
             row.output);
    op->output = row.output;
    op->output_channels = model_->tensors[row.output].channels;
    return UQ_OK;
}

uq_status Reader::check_channels(const Op& op) {
    const Tensor& output = model_->tensors[op.output];
    if (op.kind != kConv && op.kind != kConcat) {
        uint32_t wanted = op.kind == kAdd || op.kind == kMul ? 2 : 1;
        UQ_CHECK(op.input_count == wanted, "%.80s: %u inputs; %u needed. Export the model again.", op.name,
                 op.input_count, wanted);
        for (uint32_t i = 0; i < op.input_count; ++i) {
            const uint32_t channels = model_->tensors[op.inputs[i]].channels;
            UQ_CHECK(channels == output.channels || (op.kind == kMul && i == 1 && channels == 1),
                     "%.80s: inputs and output differ in channels. Export the model again.", op.name);
        }
    }
    if (op.kind == kConcat)
        UQ_CHECK(input_channels(op) == output.channels,
                 "%.80s: its inputs' channels do not add up to %u. Export the model again.", op.name, output.channels);
    return UQ_OK;
}

// Which grids an operation can take and make.
uq_status Reader::check_grids(const Op& op) {
    const Tensor& output = model_->tensors[op.output];
    const Tensor& first = model_->tensors[op.inputs[0]];
    if (op.kind == kQuantize)
        UQ_CHECK(first.is_float && !output.is_float, "%.80s: it takes float32 and makes codes. Export the model again.",
                 op.name);
    const bool keeps =
        op.kind == kMaxPool || op.kind == kConcat || op.kind == kPad || (op.kind == kUpsample && op.mode == 0);
    for (uint32_t i = 0; i < op.input_count; ++i) {
        const Tensor& input = model_->tensors[op.inputs[i]];
        UQ_CHECK(!keeps || same_codes(input, output),
                 "%.80s: inputs and output must share one grid. Export the model again.", op.name);
        UQ_CHECK(
            input.zero_point == 0 || !(op.kind == kMul || (op.kind == kConv && op.mode == 1)),
            "%.80s: an input has zero-point %d; products and transposed convolutions take 0 only. Export the model "
            "again.",
            op.name, input.zero_point);
        UQ_CHECK(
            !input.dynamic || !(op.kind == kConcat || (op.kind == kConv && op.input_count > 1)),
            "%.80s: several inputs, one of them on a dynamic grid; such have a scale each. Export the model again.",
            op.name);
    }
    if (op.kind == kTable)
        UQ_CHECK(!first.is_float && !output.is_float && !first.dynamic && !output.dynamic,
                 "%.80s: a table is between grids that are not dynamic. Export the model again.", op.name);
    return UQ_OK;
}

uq_status Reader::check_geometry(const FileOp& row, const Op& op) {
    const char* n = op.name;
    if (op.kind == kUpsample) {
        UQ_TRY(triple(n, "factor", row.kernel, 1, 1, flat_));
        for (int a = 0; a < 3; ++a)
            UQ_CHECK(row.mode == 0 || row.kernel[a] <= 2, "%.80s: linear factor %u; 1 or 2. Export the model again.", n,
                     row.kernel[a]);
    } else if (op.kind == kMaxPool) {
        UQ_TRY(triple(n, "kernel", row.kernel, 1, 1, flat_));
        UQ_TRY(triple(n, "stride", row.stride, 1, 1, flat_));
        UQ_TRY(triple(n, "padding", row.before, 0, 0, flat_));
        for (int a = 0; a < 3; ++a)
            UQ_CHECK(2 * row.before[a] <= row.kernel[a],
                     "%.80s: padding %u; at most half the kernel %u. Export the model again.", n, row.before[a],
                     row.kernel[a]);
    } else if (op.kind == kAdd) {
        UQ_CHECK(isfinite(row.input_gain[0]) && isfinite(row.input_gain[1]),
                 "%.80s: an input gain is not finite. Export the model again.", n);
    } else if (op.kind == kPad) {
        UQ_TRY(triple(n, "before", row.before, 0, 0, flat_));
        uint32_t after[3] = {static_cast<uint32_t>(row.after[0]), static_cast<uint32_t>(row.after[1]),
                             static_cast<uint32_t>(row.after[2])};
        UQ_TRY(triple(n, "after", after, 0, 0, flat_));
    }
    return UQ_OK;
}

uq_status Reader::read_epilogue(const FileOp& row, Op* op) {
    uint32_t c = op->output_channels;
    Epilogue& e = op->epilogue;
    op->has_epilogue = true;
    UQ_TRY(floats(op->name, row.gain, c, &e.arrays.gain));
    UQ_TRY(floats(op->name, row.offset, c, &e.arrays.offset));
    if (row.flags & kSlope) UQ_TRY(floats(op->name, row.slope, c, &e.arrays.slope));
    if (row.flags & kSecond) {
        UQ_TRY(floats(op->name, row.gain2, c, &e.arrays.gain2));
        UQ_TRY(floats(op->name, row.offset2, c, &e.arrays.offset2));
    }
    return row.flags & kInstanceNorm ? read_norm(row, op) : UQ_OK;
}

uq_status Reader::read_norm(const FileOp& row, Op* op) {
    Epilogue& e = op->epilogue;
    const uint32_t c = op->output_channels;
    UQ_TRY(floats(op->name, row.norm_weight, c, &e.norm_weight));
    UQ_TRY(floats(op->name, row.norm_bias, c, &e.norm_bias));
    UQ_CHECK(isfinite(row.eps) && row.eps > 0,
             "%.80s: instance norm eps %g; positive and finite is needed. Export the model again.", op->name, row.eps);
    UQ_CHECK(row.norm_groups == 0 || c % row.norm_groups == 0,
             "%.80s: group norm of %u groups; they must divide %u channels. Export the model again.", op->name,
             row.norm_groups, c);
    e.eps = row.eps;
    if (row.norm_groups == 0) return UQ_OK;
    e.group_channels = c / row.norm_groups;
    uint64_t reach = e.group_channels;  // to where the end of a group is the end of a block
    while (reach % kBlock) reach += e.group_channels;
    const uint64_t together = (reach < c ? reach + kBlock - 1 : c + kBlock - 1) / kBlock;
    op->conv.together = kBlock % e.group_channels && together > 1 ? static_cast<uint32_t>(together) : 0;
    return UQ_OK;
}

// An entry for every code that can enter is a code of the output; the others are 0.
uq_status Reader::read_table(const FileOp& row, Op* op) {
    const Tensor& input = model_->tensors[op->inputs[0]];
    const Tensor& output = model_->tensors[op->output];
    UQ_TRY(blob(op->name, row.codebook, kTableBytes, &op->table));
    for (int32_t i = 0; i < static_cast<int32_t>(kTableBytes); ++i) {
        const int32_t code = input.is_signed && i >= 128 ? i - 256 : i;
        const int32_t entry = output.is_signed ? static_cast<int8_t>(op->table[i]) : op->table[i];
        const bool enters = code >= input.low() && code <= input.high();
        UQ_CHECK(enters ? entry >= output.low() && entry <= output.high() : entry == 0,
                 "%.80s: entry %d of its table for code %d; %d to %d are allowed. Export the model again.", op->name,
                 entry, code, enters ? output.low() : 0, enters ? output.high() : 0);
    }
    return UQ_OK;
}

// ReLU before codes is what saturating at 0 does anyway. (Not where a sum times its gain could overflow: minus
// infinity times 0 has no such equal.)
void Reader::drop_relu(Op* op) {
    EpilogueArrays& arrays = op->epilogue.arrays;
    if (op->kind != kConv || !arrays.slope || arrays.gain2 || op->epilogue.norm_weight) return;
    // A dynamic grid is found from the values behind the ReLU.
    if (model_->tensors[op->output].is_float || model_->tensors[op->output].dynamic) return;
    if (model_->tensors[op->inputs[0]].dynamic) return;  // nor is the gain known
    for (uint32_t c = 0; c < op->output_channels; ++c) {
        const bool small = fabsf(arrays.gain[c]) < 1e28f && fabsf(arrays.offset[c]) < 1e37f;
        if (arrays.slope[c] != 0.0f || !small) return;
    }
    arrays.slope = nullptr;
    op->saturates_at_zero = true;
}

}  // namespace uq
