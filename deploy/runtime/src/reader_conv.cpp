// Convolutions: shapes and weights.
#include "reader.h"

namespace uq {
namespace {

constexpr int8_t kSigns[kLevels] = {-1, 1};
constexpr uint32_t kLeast[] = {0, 1, 1, 32, 1, 2};  // bits, by kind
constexpr uint32_t kMost[] = {0, 8, 1, 32, 4, 8};

uint64_t taps(const FileOp& row) {
    return product(product(row.kernel[0], row.kernel[1]), row.kernel[2]);
}

// Rows of codes whose input channels share shifts group by group.
struct ShiftedRows {
    const Kernels& kernels;
    const FileOp& record;
    const uint8_t* codes;
    const uint8_t* shifts;  // [output channel][group]
    uint32_t channels;      // of a tap

    uint32_t groups() const { return (channels + record.group_size - 1) / record.group_size; }
    uint64_t count() const { return product(taps(record), channels); }

    // Every weight of a row with its number, in their order.
    template <typename Take>
    void each(uint32_t output, const Take& take) const {
        constexpr uint32_t kChunk = 256;
        int8_t chunk[kChunk];
        const uint8_t* row = codes + static_cast<uint64_t>(output) * record.row_bytes;
        const uint8_t* own = shifts + static_cast<uint64_t>(output) * groups();
        for (uint64_t tap = 0; tap < taps(record); ++tap) {
            for (uint32_t c = 0; c < channels; c += kChunk) {
                const uint32_t n = channels - c < kChunk ? channels - c : kChunk;
                const uint64_t first = tap * channels + c;
                kernels.unpack_weights(row, first, n, record.weight_bits, nullptr, chunk);
                for (uint32_t i = 0; i < n; ++i) take(first + i, chunk[i] * (1 << own[(c + i) / record.group_size]));
            }
        }
    }
};

// Adds the lowest bits of a number to a row that begins with zeros; it may reach into a second byte.
void put_field(uint8_t* row, uint64_t at, uint32_t bits, int32_t value) {
    const uint32_t field = (static_cast<uint32_t>(value) & ((1u << bits) - 1)) << (at & 7);
    row[at >> 3] |= static_cast<uint8_t>(field);
    if (field >> 8) row[(at >> 3) + 1] |= static_cast<uint8_t>(field >> 8);
}

}  // namespace

uq_status Reader::read_conv(const FileOp& row, Op* op) {
    UQ_TRY(check_conv(row, *op));
    return read_weights(row, op);
}

uq_status Reader::check_conv(const FileOp& row, const Op& op) {
    const char* n = op.name;
    UQ_TRY(triple(n, "kernel", row.kernel, 1, 1, flat_));
    UQ_TRY(triple(n, "stride", row.stride, 1, 1, flat_));
    UQ_TRY(triple(n, "dilation", row.dilation, 1, 1, flat_));
    UQ_TRY(triple(n, "padding before", row.before, 0, 0, flat_));
    UQ_TRY(triple(n, "output padding", row.output_padding, 0, 0, flat_));
    bool output_padding = row.output_padding[0] || row.output_padding[1] || row.output_padding[2];
    UQ_CHECK(row.mode == 1 || !output_padding, "%.80s: output padding without transposition. Export the model again.",
             n);
    for (int a = 0; a < 3; ++a)
        UQ_CHECK(product(row.dilation[a], row.kernel[a] - 1) <= kMaxReach,
                 "%.80s: a kernel of %u with dilation %u is too wide. Export the model again.", n, row.kernel[a],
                 row.dilation[a]);
    for (int a = 0; a < 3; ++a)
        UQ_CHECK(row.after[a] >= -static_cast<int32_t>(kMaxExtent) && row.after[a] <= static_cast<int32_t>(kMaxExtent),
                 "%.80s: padding after = %d; at most %u either way. Export the model again.", n, row.after[a],
                 kMaxExtent);
    UQ_CHECK(!flat_ || row.after[0] == 0,
             "%.80s: padding after in depth = %d; a 2-D model has 0 there. Export the model again.", n, row.after[0]);
    uint64_t phases = product(product(row.stride[0], row.stride[1]), row.stride[2]);
    UQ_CHECK(row.mode == 0 || phases <= kMaxPhases,
             "%.80s: %llu phases of a transposed convolution; at most %u. Export the model again.", n,
             static_cast<unsigned long long>(phases), kMaxPhases);
    uint64_t total = input_channels(op);
    UQ_CHECK(total <= kMaxChannels && row.groups >= 1 && row.groups <= total && total % row.groups == 0 &&
                 op.output_channels % row.groups == 0,
             "%.80s: groups %u; they must divide %llu inputs and %u outputs. Export the model again.", n, row.groups,
             static_cast<unsigned long long>(total), op.output_channels);
    for (uint32_t i = 1; i < op.input_count; ++i)
        UQ_CHECK(same_codes(model_->tensors[op.inputs[0]], model_->tensors[op.inputs[i]]),
                 "%.80s: its inputs lie on different grids. Export the model again.", n);
    return UQ_OK;
}

uq_status Reader::read_weights(const FileOp& row, Op* op) {
    const char* n = op->name;
    UQ_CHECK(row.weight_kind >= kTwosComplement && row.weight_kind <= kShifted &&
                 row.weight_bits >= kLeast[row.weight_kind] && row.weight_bits <= kMost[row.weight_kind],
             "%.80s: weight kind %u at %u bits is not known. Update the runtime, or export the model again for "
             "this one.",
             n, row.weight_kind, row.weight_bits);
    UQ_TRY(read_levels(row, op));
    const uint64_t codes = product(taps(row), input_channels(*op) / row.groups);
    const uint64_t bits = product(codes, row.weight_bits);
    UQ_CHECK(bits < (uint64_t{1} << 40) && row.row_bytes == (bits + 7) / 8,
             "%.80s: weight rows of %u bytes do not hold their codes. Export the model again.", n, row.row_bytes);
    const uint64_t weight_bytes = static_cast<uint64_t>(row.row_bytes) * op->output_channels;
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
    return row.weight_kind == kShifted ? read_shifts(row, op) : UQ_OK;
}

// Binary weights are a codebook that every reader knows.
uq_status Reader::read_levels(const FileOp& row, Op* op) {
    if (row.weight_kind == kBinary) op->levels = kSigns;
    const bool shifted = row.weight_kind == kShifted;
    if (shifted) UQ_TRY(needs(kMethodsVersion, op->name, "shifted weights"));
    UQ_CHECK(shifted ? row.group_size >= 1 && row.group_size <= kMaxChannels : row.group_size == 0,
             "%.80s: weights of kind %u in groups of %u channels; 1 to %u for shifted ones, 0 for others. Export the "
             "model again.",
             op->name, row.weight_kind, row.group_size, kMaxChannels);
    if (shifted) return UQ_OK;
    if (row.weight_kind != kCodebook) {
        UQ_CHECK(row.codebook == 0, "%.80s: weights of kind %u have no codebook. Export the model again.", op->name,
                 row.weight_kind);
        return UQ_OK;
    }
    UQ_TRY(needs(kCodebookVersion, op->name, "codebook weights"));
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

// The weights as all kernels want them, two's complement: code << shift, at the width that the largest needs.
uq_status Reader::read_shifts(const FileOp& row, Op* op) {
    ShiftedRows rows = {model_->kernels, row, op->weights, nullptr,
                        static_cast<uint32_t>(input_channels(*op) / row.groups)};
    UQ_TRY(blob(op->name, row.codebook, product(op->output_channels, rows.groups()), &rows.shifts));
    for (uint64_t i = 0; i < product(op->output_channels, rows.groups()); ++i)
        UQ_CHECK(rows.shifts[i] <= kMaxShift,
                 "%.80s: a group of weights is shifted by %u; at most %u. Export the model again.", op->name,
                 rows.shifts[i], kMaxShift);
    int32_t low = 0, high = 0;
    for (uint32_t o = 0; o < op->output_channels; ++o)
        rows.each(o, [&](uint64_t, int32_t weight) {
            low = weight < low ? weight : low;
            high = weight > high ? weight : high;
        });
    UQ_CHECK(low >= INT8_MIN && high <= INT8_MAX,
             "%.80s: shifted weights of %d to %d; they must fit 8 bits. Export the model again.", op->name, low, high);
    uint32_t bits = 2;
    while (low < -(1 << (bits - 1)) || high >= 1 << (bits - 1)) ++bits;
    const uint64_t row_bytes = (product(rows.count(), bits) + 7) / 8, all = product(row_bytes, op->output_channels);
    if (row_bytes > UINT32_MAX || all > SIZE_MAX / 2 || !op->expanded.allocate(static_cast<size_t>(all) + kAlignment))
        return fail(UQ_NO_MEMORY, "%.80s: no memory for its weights. Free some first.", op->name);
    for (uint32_t o = 0; o < op->output_channels; ++o) {
        uint8_t* packed = op->expanded.data() + o * row_bytes;
        rows.each(o, [&](uint64_t i, int32_t weight) { put_field(packed, i * bits, bits, weight); });
    }
    op->weights = op->expanded.data();
    op->row_bytes = static_cast<uint32_t>(row_bytes);
    op->weight_bits = bits;
    op->weight_kind = kTwosComplement;
    return UQ_OK;
}

}  // namespace uq
