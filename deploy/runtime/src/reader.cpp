// Turns the records of a whole file into a model. Nothing read here is used before it is checked.
#include "reader.h"

#include <math.h>

namespace uq {
namespace {

// Three letters of different axes and a 0, or four zeros.
bool is_orientation(const char letters[4]) {
    static const char* const kPairs[3] = {"LR", "AP", "SI"};
    unsigned seen = 0;
    for (unsigned i = 0; i < 3; ++i)
        for (unsigned pair = 0; pair < 3; ++pair)
            if (letters[i] && (letters[i] == kPairs[pair][0] || letters[i] == kPairs[pair][1])) seen |= 1u << pair;
    const bool none = !letters[0] && !letters[1] && !letters[2];
    return letters[3] == 0 && (none || seen == 7);
}

}  // namespace

uq_status Reader::read() {
    UQ_TRY(check_whole());
    UQ_TRY(find_sections());
    UQ_TRY(read_program());
    UQ_TRY(read_tensors());
    UQ_TRY(read_labels());
    return read_ops();
}

uq_status Reader::read_program() {
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
    UQ_CHECK(p->has_fixed_size <= 1 && p->normalize <= 2 && p->reserved_a == 0,
             "the program record has an unknown choice or reserved bytes set. Export the model again.");
    flat_ = p->spatial_rank == 2;
    UQ_TRY(triple("program", "input multiple", p->input_multiple, 1, 1, flat_));
    if (p->has_fixed_size) UQ_TRY(triple("program", "fixed size", p->fixed_size, 1, 1, flat_));
    UQ_TRY(read_preprocessing(*p));
    UQ_CHECK(count_[kTensors] >= 1 && count_[kTensors] <= kMaxCount && count_[kOps] <= kMaxCount &&
                 count_[kLabels] <= kMaxChannels,
             "%u tensors, %u operations, %u labels: too many or none. Export the model again.", count_[kTensors],
             count_[kOps], count_[kLabels]);
    return UQ_OK;
}

uq_status Reader::read_preprocessing(const FileProgram& p) {
    UQ_CHECK(isfinite(p.low) && isfinite(p.high) && (p.normalize != 2 || p.high > p.low),
             "intensity window %g to %g: finite and rising is needed. Export the model again.", p.low, p.high);
    model_->overlap = kDefaultOverlap;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&p);
    const size_t start = offsetof(FileProgram, orientation);
    if (all_zero(bytes + start, sizeof p - start) && version_ < kGeometryVersion) return UQ_OK;
    UQ_TRY(needs(kGeometryVersion, "program", "orientation, spacing, context and windows"));
    model_->overlap = p.overlap;
    UQ_CHECK(p.over <= 1, "statistics over %u: 0 (image) or 1 (volume). Export the model again.", p.over);
    UQ_CHECK(is_orientation(p.orientation),
             "orientation: one letter of L and R, one of A and P, one of S and I, or none. Export the model again.");
    UQ_CHECK(p.overlap >= 0 && p.overlap <= kMaxOverlap, "overlap %g of windows: 0 to %g. Export the model again.",
             p.overlap, kMaxOverlap);
    UQ_CHECK(p.context == 0 || flat_, "context %u: neighbour slices are for 2-D networks. Export the model again.",
             p.context);
    const bool tiled = p.window[0] || p.window[1] || p.window[2];
    for (unsigned a = 0; a < 3; ++a) {
        const bool neutral = flat_ && a == 0;
        UQ_CHECK(p.spacing[a] >= 0 && p.spacing[a] <= (neutral ? 0 : kMaxSpacing),
                 "spacing %g of axis %u: 0 (as stored) to %g mm, 0 in depth of a 2-D program. Export the model again.",
                 p.spacing[a], a, kMaxSpacing);
        const bool whole = p.window[a] == 0 && (neutral || !tiled);
        const bool fits = p.window[a] <= kMaxExtent && p.window[a] % p.input_multiple[a] == 0 && p.window[a] > 0 &&
                          !neutral && (!p.has_fixed_size || p.window[a] == p.fixed_size[a]);
        UQ_CHECK(whole || fits,
                 "window %u of axis %u: a multiple of the network's stride %u up to %u, and the fixed size where there "
                 "is one; 0 in depth of a 2-D program. Export the model again.",
                 p.window[a], a, p.input_multiple[a], kMaxExtent);
    }
    return UQ_OK;
}

uq_status Reader::read_tensors() {
    const auto* rows = reinterpret_cast<const FileTensor*>(section_[kTensors]);
    if (!model_->tensors.allocate(count_[kTensors]))
        return fail(UQ_NO_MEMORY, "no memory for %u tensor records. Free some first.", count_[kTensors]);
    for (uint32_t i = 0; i < count_[kTensors]; ++i) {
        const FileTensor& row = rows[i];
        Tensor& tensor = model_->tensors[i];
        UQ_TRY(name(row.name_offset, row.name_bytes, &tensor.name));
        UQ_CHECK(row.channels >= 1 && row.channels <= kMaxChannels,
                 "tensor %.80s: %u channels; allowed are 1 to %u. Export the model again.", tensor.name, row.channels,
                 kMaxChannels);
        const bool choices = row.type <= 1 && row.is_signed <= 1 && row.rounding <= 1 && row.narrow <= 1 &&
                             row.dynamic <= 1 && all_zero(row.reserved, sizeof row.reserved);
        UQ_CHECK(choices,
                 "tensor %.80s: unknown type, sign or rounding, or reserved bytes set. Export the model again.",
                 tensor.name);
        if (row.zero_point != 0) UQ_TRY(needs(kMethodsVersion, tensor.name, "zero-points"));
        if (row.narrow) UQ_TRY(needs(kMethodsVersion, tensor.name, "narrow grids"));
        if (row.dynamic) UQ_TRY(needs(kMethodsVersion, tensor.name, "dynamic grids"));
        tensor.channels = row.channels;
        tensor.is_float = row.type == 0;
        if (!tensor.is_float) {
            UQ_TRY(read_grid(row, &tensor));
            continue;
        }
        UQ_CHECK(row.bits == 0 && row.is_signed == 0 && row.rounding == 0 && row.scale == 0.0f && row.zero_point == 0 &&
                     row.narrow == 0 && row.dynamic == 0,
                 "tensor %.80s: float32 has no grid. Export the model again.", tensor.name);
        tensor.bits = tensor.storage_bits = 32;
    }
    const FileProgram& p = *model_->program;
    UQ_CHECK(p.input < count_[kTensors] && p.output < count_[kTensors],
             "input or output tensor does not exist. Export the model again.");
    UQ_CHECK(model_->tensors[p.input].is_float && model_->tensors[p.output].is_float,
             "input or output is not float32. Export the model again.");
    const uint32_t channels = model_->tensors[p.input].channels;
    UQ_CHECK(channels % (2 * uint64_t{p.context} + 1) == 0,
             "context %u: %u input channels are no multiple of twice that and 1. Export the model again.", p.context,
             channels);
    return UQ_OK;
}

uq_status Reader::read_grid(const FileTensor& row, Tensor* tensor) {
    const char* n = tensor->name;
    UQ_CHECK(row.bits >= 1 && row.bits <= 8, "tensor %.80s: %u bits; a grid has 1 to 8. Export the model again.", n,
             row.bits);
    UQ_CHECK(isfinite(row.scale) && row.scale > 0 && isfinite(static_cast<float>(1.0 / static_cast<double>(row.scale))),
             "tensor %.80s: scale %g; a positive finite step with a finite inverse is needed. Export the model again.",
             n, static_cast<double>(row.scale));
    tensor->bits = row.bits;
    tensor->storage_bits = row.bits <= 2 ? row.bits : row.bits <= 4 ? 4 : 8;
    tensor->is_signed = row.is_signed != 0;
    tensor->toward_zero = row.rounding == 1;
    tensor->narrow = row.narrow != 0;
    tensor->dynamic = row.dynamic != 0;
    tensor->zero_point = row.zero_point;
    tensor->scale = row.scale;
    UQ_CHECK(
        !tensor->narrow || (tensor->is_signed && tensor->bits > 1),
        "tensor %.80s: a narrow grid of %u bits, signed %u; only signed ones of 2 to 8 bits are narrow. Export the "
        "model again.",
        n, row.bits, row.is_signed);
    UQ_CHECK(row.zero_point == 0 || (!tensor->is_signed && !tensor->toward_zero),
             "tensor %.80s: zero-point %d on a grid that is signed or rounds toward zero; it must be 0 there. Export "
             "the model again.",
             n, row.zero_point);
    UQ_CHECK(row.zero_point >= 0 && row.zero_point <= tensor->high(),
             "tensor %.80s: zero-point %d; it is a code, 0 to %d. Export the model again.", n, row.zero_point,
             tensor->high());
    UQ_CHECK(!tensor->dynamic || (row.zero_point == 0 && !tensor->toward_zero && row.scale == 1.0f),
             "tensor %.80s: a dynamic grid has zero-point 0, rounds half to even and says scale 1. Export the model "
             "again.",
             n);
    return UQ_OK;
}

uq_status Reader::read_labels() {
    uint32_t outputs = model_->tensors[model_->program->output].channels;
    uint32_t classes = outputs < 2 ? 2 : outputs;
    UQ_CHECK(count_[kLabels] == classes, "%u labels: the network decides between %u classes. Export the model again.",
             count_[kLabels], classes);
    model_->labels = reinterpret_cast<const FileLabel*>(section_[kLabels]);
    model_->label_count = count_[kLabels];
    for (uint32_t i = 0; i < count_[kLabels]; ++i) {
        const char* text = nullptr;
        UQ_TRY(name(model_->labels[i].name_offset, model_->labels[i].name_bytes, &text));
        UQ_CHECK(model_->labels[i].reserved == 0, "label %u: reserved bytes set. Export the model again.", i);
    }
    return UQ_OK;
}

// Narrow or not, and however they round: that is about what makes the codes.
bool Reader::same_codes(const Tensor& a, const Tensor& b) {
    if (a.is_float || b.is_float) return a.is_float == b.is_float;
    return a.bits == b.bits && a.is_signed == b.is_signed && a.scale == b.scale && a.zero_point == b.zero_point &&
           a.dynamic == b.dynamic;
}

uint64_t Reader::input_channels(const Op& op) const {
    uint64_t total = 0;
    for (uint32_t i = 0; i < op.input_count; ++i) total += model_->tensors[op.inputs[i]].channels;
    return total;
}

uq_status Reader::needs(uint32_t version, const char* where, const char* what) {
    UQ_CHECK(version_ >= version, "%.80s: %s in version %u of the format; they need %u. Export the model again.", where,
             what, version_, version);
    return UQ_OK;
}

uq_status read_model(uq_model* model) {
    return Reader(model).read();
}

}  // namespace uq
