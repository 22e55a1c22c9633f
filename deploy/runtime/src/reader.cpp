// Turns the records of a whole file into a model. Nothing read here is used before it is checked.
#include <math.h>

#include "container.h"
#include "model.h"
#include "thresholds.h"

namespace uq {
namespace {

constexpr int8_t kSigns[kLevels] = {-1, 1};

class Reader : public Container {
  public:
    explicit Reader(uq_model* model) : Container(model->mapping.data, model->mapping.bytes), model_(model) {}

    uq_status read() {
        UQ_TRY(check_whole());
        UQ_TRY(find_sections());
        UQ_TRY(read_program());
        UQ_TRY(read_tensors());
        UQ_TRY(read_labels());
        return read_ops();
    }

  private:
    uq_status read_program() {
        UQ_CHECK(count_[kProgram] == 1, "%u program records: exactly one is needed. Export the model again.",
                 count_[kProgram]);
        const auto* p = reinterpret_cast<const FileProgram*>(section_[kProgram]);
        model_->program = p;
        model_->strings = reinterpret_cast<const char*>(section_[kStrings]);
        model_->provenance = section_[kProvenance];
        model_->provenance_bytes = size_[kProvenance];
        const char* text = nullptr;
        UQ_TRY(name(p->name_offset, p->name_bytes, &text));
        UQ_CHECK(p->spatial_rank == 2 || p->spatial_rank == 3, "spatial rank %u: 2 or 3. Export the model again.",
                 p->spatial_rank);
        UQ_CHECK(p->has_fixed_size <= 1 && p->normalize <= 2 && p->reserved_a == 0 &&
                     all_zero(p->reserved, sizeof p->reserved),
                 "the program record has an unknown choice or reserved bytes set. Export the model again.");
        flat_ = p->spatial_rank == 2;
        UQ_TRY(triple("program", "input multiple", p->input_multiple, 1, 1, flat_));
        if (p->has_fixed_size) UQ_TRY(triple("program", "fixed size", p->fixed_size, 1, 1, flat_));
        UQ_CHECK(isfinite(p->low) && isfinite(p->high) && (p->normalize != 2 || p->high > p->low),
                 "intensity window %g to %g: finite and rising is needed. Export the model again.", p->low, p->high);
        UQ_CHECK(count_[kTensors] >= 1 && count_[kTensors] <= kMaxCount && count_[kOps] <= kMaxCount &&
                     count_[kLabels] <= kMaxChannels,
                 "%u tensors, %u operations, %u labels: too many or none. Export the model again.", count_[kTensors],
                 count_[kOps], count_[kLabels]);
        return UQ_OK;
    }

    uq_status read_tensors() {
        const auto* rows = reinterpret_cast<const FileTensor*>(section_[kTensors]);
        if (!model_->tensors.allocate(count_[kTensors]))
            return fail(UQ_NO_MEMORY, "no memory for %u tensor records. Free some first.", count_[kTensors]);
        for (uint32_t i = 0; i < count_[kTensors]; ++i) {
            const FileTensor& row = rows[i];
            Tensor& tensor = model_->tensors[i];
            UQ_TRY(name(row.name_offset, row.name_bytes, &tensor.name));
            UQ_CHECK(row.channels >= 1 && row.channels <= kMaxChannels,
                     "tensor %.80s: %u channels; allowed are 1 to %u. Export the model again.", tensor.name,
                     row.channels, kMaxChannels);
            UQ_CHECK(
                row.type <= 1 && row.is_signed <= 1 && row.rounding <= 1 && all_zero(row.reserved, sizeof row.reserved),
                "tensor %.80s: unknown type, sign or rounding, or reserved bytes set. Export the model again.",
                tensor.name);
            UQ_CHECK(row.zero_point == 0, "tensor %.80s: zero-point %d; only 0 is known. Export the model again.",
                     tensor.name, row.zero_point);
            tensor.channels = row.channels;
            tensor.is_float = row.type == 0;
            if (tensor.is_float) {
                UQ_CHECK(row.bits == 0 && row.is_signed == 0 && row.rounding == 0 && row.scale == 0.0f,
                         "tensor %.80s: float32 has no grid. Export the model again.", tensor.name);
                tensor.bits = tensor.storage_bits = 32;
                continue;
            }
            UQ_CHECK(row.bits >= 1 && row.bits <= 8,
                     "tensor %.80s: %u bits; a grid has 1 to 8. Export the model again.", tensor.name, row.bits);
            UQ_CHECK(isfinite(row.scale) && row.scale > 0 &&
                         isfinite(static_cast<float>(1.0 / static_cast<double>(row.scale))),
                     "tensor %.80s: scale %g; a positive finite step with a finite inverse is needed. Export the model "
                     "again.",
                     tensor.name, static_cast<double>(row.scale));
            tensor.bits = row.bits;
            tensor.storage_bits = row.bits <= 2 ? row.bits : row.bits <= 4 ? 4 : 8;
            tensor.is_signed = row.is_signed != 0;
            tensor.toward_zero = row.rounding == 1;
            tensor.scale = row.scale;
        }
        const FileProgram& p = *model_->program;
        UQ_CHECK(p.input < count_[kTensors] && p.output < count_[kTensors],
                 "input or output tensor does not exist. Export the model again.");
        UQ_CHECK(model_->tensors[p.input].is_float && model_->tensors[p.output].is_float,
                 "input or output is not float32. Export the model again.");
        return UQ_OK;
    }

    uq_status read_labels() {
        uint32_t outputs = model_->tensors[model_->program->output].channels;
        uint32_t classes = outputs < 2 ? 2 : outputs;
        UQ_CHECK(count_[kLabels] == classes,
                 "%u labels: the network decides between %u classes. Export the model again.", count_[kLabels],
                 classes);
        model_->labels = reinterpret_cast<const FileLabel*>(section_[kLabels]);
        model_->label_count = count_[kLabels];
        for (uint32_t i = 0; i < count_[kLabels]; ++i) {
            const char* text = nullptr;
            UQ_TRY(name(model_->labels[i].name_offset, model_->labels[i].name_bytes, &text));
            UQ_CHECK(model_->labels[i].reserved == 0, "label %u: reserved bytes set. Export the model again.", i);
        }
        return UQ_OK;
    }

    uq_status read_epilogue(const FileOp& row, Op* op) {
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
        if (row.flags & kInstanceNorm) {
            UQ_TRY(floats(op->name, row.norm_weight, c, &e.norm_weight));
            UQ_TRY(floats(op->name, row.norm_bias, c, &e.norm_bias));
            UQ_CHECK(isfinite(row.eps) && row.eps > 0,
                     "%.80s: instance norm eps %g; positive and finite is needed. Export the model again.", op->name,
                     row.eps);
            e.eps = row.eps;
        }
        return UQ_OK;
    }

    // ReLU before codes is what saturating at 0 does anyway. (Not where a sum times its gain could overflow: minus
    // infinity times 0 has no such equal.)
    void drop_relu(Op* op) {
        EpilogueArrays& arrays = op->epilogue.arrays;
        if (op->kind != kConv || !arrays.slope || arrays.gain2 || op->epilogue.norm_weight) return;
        if (model_->tensors[op->output].is_float) return;
        for (uint32_t c = 0; c < op->output_channels; ++c) {
            const bool small = fabsf(arrays.gain[c]) < 1e28f && fabsf(arrays.offset[c]) < 1e37f;
            if (arrays.slope[c] != 0.0f || !small) return;
        }
        arrays.slope = nullptr;
        op->saturates_at_zero = true;
    }

    bool same_codes(const Tensor& a, const Tensor& b) {
        if (a.is_float || b.is_float) return a.is_float == b.is_float;
        return a.bits == b.bits && a.is_signed == b.is_signed && a.scale == b.scale;
    }

    uint64_t input_channels(const Op& op) {
        uint64_t total = 0;
        for (uint32_t i = 0; i < op.input_count; ++i) total += model_->tensors[op.inputs[i]].channels;
        return total;
    }

    // Binary weights are a codebook that every reader knows.
    uq_status read_levels(const FileOp& row, Op* op) {
        if (row.weight_kind == kBinary) op->levels = kSigns;
        if (row.weight_kind != kCodebook) {
            UQ_CHECK(row.codebook == 0, "%.80s: weights of kind %u have no codebook. Export the model again.", op->name,
                     row.weight_kind);
            return UQ_OK;
        }
        UQ_CHECK(version_ >= kCodebookVersion,
                 "%.80s: codebook weights in version %u of the format; they need %u. Export the model again.", op->name,
                 version_, kCodebookVersion);
        const uint8_t* bytes = nullptr;
        UQ_TRY(blob(op->name, row.codebook, kLevels, &bytes));
        const auto* levels = reinterpret_cast<const int8_t*>(bytes);
        for (uint32_t i = 1; i < kLevels; ++i)
            UQ_CHECK(i < 1u << row.weight_bits ? levels[i - 1] <= levels[i] : levels[i] == 0,
                     "%.80s: codebook level %u is %d after %d; the %u levels must not fall, and 0 must follow. "
                     "Export the model again.",
                     op->name, i, levels[i], levels[i - 1], 1u << row.weight_bits);
        op->levels = levels;
        return UQ_OK;
    }

    uq_status read_conv(const FileOp& row, Op* op) {
        const char* n = op->name;
        UQ_TRY(triple(n, "kernel", row.kernel, 1, 1, flat_));
        UQ_TRY(triple(n, "stride", row.stride, 1, 1, flat_));
        UQ_TRY(triple(n, "dilation", row.dilation, 1, 1, flat_));
        UQ_TRY(triple(n, "padding before", row.before, 0, 0, flat_));
        UQ_TRY(triple(n, "output padding", row.output_padding, 0, 0, flat_));
        bool output_padding = row.output_padding[0] || row.output_padding[1] || row.output_padding[2];
        UQ_CHECK(row.mode == 1 || !output_padding,
                 "%.80s: output padding without transposition. Export the model again.", n);
        for (int a = 0; a < 3; ++a)
            UQ_CHECK(product(row.dilation[a], row.kernel[a] - 1) <= kMaxReach,
                     "%.80s: a kernel of %u with dilation %u is too wide. Export the model again.", n, row.kernel[a],
                     row.dilation[a]);
        for (int a = 0; a < 3; ++a)
            UQ_CHECK(
                row.after[a] >= -static_cast<int32_t>(kMaxExtent) && row.after[a] <= static_cast<int32_t>(kMaxExtent),
                "%.80s: padding after = %d; at most %u either way. Export the model again.", n, row.after[a],
                kMaxExtent);
        UQ_CHECK(!flat_ || row.after[0] == 0,
                 "%.80s: padding after in depth = %d; a 2-D model has 0 there. Export the model again.", n,
                 row.after[0]);
        uint64_t phases = product(product(row.stride[0], row.stride[1]), row.stride[2]);
        UQ_CHECK(row.mode == 0 || phases <= kMaxPhases,
                 "%.80s: %llu phases of a transposed convolution; at most %u. Export the model again.", n,
                 static_cast<unsigned long long>(phases), kMaxPhases);
        uint64_t total = input_channels(*op);
        UQ_CHECK(total <= kMaxChannels && row.groups >= 1 && row.groups <= total && total % row.groups == 0 &&
                     op->output_channels % row.groups == 0,
                 "%.80s: groups %u; they must divide %llu inputs and %u outputs. Export the model again.", n,
                 row.groups, static_cast<unsigned long long>(total), op->output_channels);
        for (uint32_t i = 1; i < op->input_count; ++i)
            UQ_CHECK(same_codes(model_->tensors[op->inputs[0]], model_->tensors[op->inputs[i]]),
                     "%.80s: its inputs lie on different grids. Export the model again.", n);
        uint32_t least = row.weight_kind == kFloat32 ? 32 : 1;
        constexpr uint32_t kMost[] = {0, 8, 1, 32, 4};  // bits, by kind
        UQ_CHECK(row.weight_kind >= kTwosComplement && row.weight_kind <= kCodebook && row.weight_bits >= least &&
                     row.weight_bits <= kMost[row.weight_kind],
                 "%.80s: weight kind %u at %u bits is not known. Update the runtime, or export the model again for "
                 "this one.",
                 n, row.weight_kind, row.weight_bits);
        UQ_TRY(read_levels(row, op));
        uint64_t codes = product(product(product(row.kernel[0], row.kernel[1]), row.kernel[2]), total / row.groups);
        uint64_t bits = product(codes, row.weight_bits);
        UQ_CHECK(bits < (uint64_t{1} << 40) && row.row_bytes == (bits + 7) / 8,
                 "%.80s: weight rows of %u bytes do not hold their codes. Export the model again.", n, row.row_bytes);
        uint64_t weight_bytes = static_cast<uint64_t>(row.row_bytes) * op->output_channels;
        if (row.weight_kind == kFloat32) {
            const float* values = nullptr;
            UQ_TRY(floats(n, row.weight, weight_bytes / 4, &values));
        }
        UQ_TRY(blob(n, row.weight, weight_bytes, &op->weights));
        UQ_CHECK(row.weight_scale_count == 1 || row.weight_scale_count == op->output_channels,
                 "%.80s: %u weight scales; 1 or %u. Export the model again.", n, row.weight_scale_count,
                 op->output_channels);
        const float* scale = nullptr;
        UQ_TRY(floats(n, row.weight_scale, row.weight_scale_count, &scale));
        model_->weight_bytes += weight_bytes;
        return UQ_OK;
    }

    uq_status check_geometry(const FileOp& row, const Op& op) {
        const char* n = op.name;
        if (op.kind == kUpsample) {
            UQ_TRY(triple(n, "factor", row.kernel, 1, 1, flat_));
            for (int a = 0; a < 3; ++a)
                UQ_CHECK(row.mode == 0 || row.kernel[a] <= 2,
                         "%.80s: linear factor %u; 1 or 2. Export the model again.", n, row.kernel[a]);
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

    uq_status check_channels(const Op& op) {
        const Tensor& output = model_->tensors[op.output];
        const Tensor& first = model_->tensors[op.inputs[0]];
        if (op.kind != kConv && op.kind != kConcat) {
            uint32_t wanted = op.kind == kAdd ? 2 : 1;
            UQ_CHECK(op.input_count == wanted, "%.80s: %u inputs; %u needed. Export the model again.", op.name,
                     op.input_count, wanted);
            for (uint32_t i = 0; i < op.input_count; ++i)
                UQ_CHECK(model_->tensors[op.inputs[i]].channels == output.channels,
                         "%.80s: inputs and output differ in channels. Export the model again.", op.name);
        }
        if (op.kind == kQuantize)
            UQ_CHECK(first.is_float && !output.is_float,
                     "%.80s: it takes float32 and makes codes. Export the model again.", op.name);
        if (op.kind == kConcat)
            UQ_CHECK(input_channels(op) == output.channels,
                     "%.80s: its inputs' channels do not add up to %u. Export the model again.", op.name,
                     output.channels);
        bool keeps =
            op.kind == kMaxPool || op.kind == kConcat || op.kind == kPad || (op.kind == kUpsample && op.mode == 0);
        for (uint32_t i = 0; keeps && i < op.input_count; ++i)
            UQ_CHECK(same_codes(model_->tensors[op.inputs[i]], output),
                     "%.80s: inputs and output must share one grid. Export the model again.", op.name);
        return UQ_OK;
    }

    uq_status read_op(const FileOp& row, const Array<uint8_t>& made, Op* op) {
        UQ_TRY(name(row.name_offset, row.name_bytes, &op->name));
        UQ_CHECK(row.kind >= kQuantize && row.kind < kOpKindEnd,
                 "%.80s: operation kind %u is not known; there are 1 to %u. Update the runtime, or export the model "
                 "again for this one.",
                 op->name, row.kind, kOpKindEnd - 1);
        op->kind = static_cast<OpKind>(row.kind);
        bool two_modes = row.kind == kConv || row.kind == kUpsample || row.kind == kPad;
        bool epilogue =
            row.kind == kConv || row.kind == kAdd || row.kind == kPointwise || (row.kind == kUpsample && row.mode == 1);
        UQ_CHECK(row.mode <= (two_modes ? 1u : 0u) && row.flags <= 15 &&
                     (epilogue ? (row.flags & kEpilogue) != 0 : row.flags == 0) && row.reserved_a == 0 &&
                     (row.kind == kConv || row.codebook == 0) && all_zero(row.reserved, sizeof row.reserved),
                 "%.80s: unknown mode or flags, or reserved bytes set. Export the model again.", op->name);
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
        UQ_TRY(check_geometry(row, *op));
        if (epilogue) {
            UQ_TRY(read_epilogue(row, op));
            drop_relu(op);
        }
        if (op->kind != kConv) return prepare_thresholds(*model_, op);
        UQ_TRY(read_conv(row, op));
        UQ_TRY(prepare_conv(*model_, op));
        return prepare_thresholds(*model_, op);
    }

    uq_status read_ops() {
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

    uq_model* model_;
    bool flat_ = false;  // a 2-D model
};

}  // namespace

uq_status read_model(uq_model* model) {
    return Reader(model).read();
}

}  // namespace uq
