// Opening and asking a model: the C face of the loader.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"

namespace {

uq_status map_file(const char* path, uq::Mapping* mapping) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return uq::fail(UQ_CANNOT_READ, "%.400s: %s. Name an existing model file.", path, strerror(errno));
    struct stat about;
    uq_status status = UQ_OK;
    if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) {
        status = uq::fail(UQ_CANNOT_READ, "%.400s: not a regular file. Name a .uqm file.", path);
    } else if (about.st_size <= 0) {
        status = uq::fail(UQ_DAMAGED, "%.400s: 0 bytes. Copy or export the model again.", path);
    } else if (static_cast<uint64_t>(about.st_size) > SIZE_MAX / 2) {
        status = uq::fail(UQ_CANNOT_READ, "%.400s: too large for this machine. Use a 64-bit one.", path);
    } else {
        size_t bytes = static_cast<size_t>(about.st_size);
        void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
        if (data == MAP_FAILED)
            status = uq::fail(UQ_CANNOT_READ, "%.400s: %s. It could not be mapped.", path, strerror(errno));
        else
            *mapping = uq::Mapping{static_cast<const uint8_t*>(data), bytes, true};
    }
    close(file);
    return status;
}

void unmap(const uq::Mapping& mapping) {
    if (mapping.owned) munmap(const_cast<uint8_t*>(mapping.data), mapping.bytes);
}

// The schemes that UNETQ_SCHEME can force.
constexpr const char* kForced[] = {"direct", "winograd", "bits", "lookup"};

uq_status choose_scheme(const char** forced) {
    const char* name = getenv("UNETQ_SCHEME");
    *forced = name && *name ? name : nullptr;
    bool known = !*forced;
    for (const char* one : kForced) known = known || strcmp(name, one) == 0;
    if (known) return UQ_OK;
    return uq::fail(
        UQ_BAD_ARGUMENT,
        "UNETQ_SCHEME \"%.40s\": there are direct, winograd, bits and lookup. Unset it to take the cheapest.", name);
}

uq_status open_mapping(const uq::Mapping& mapping, const char* isa, uq_model** model) {
    auto* fresh = static_cast<uq_model*>(calloc(1, sizeof(uq_model)));
    if (!fresh) {
        unmap(mapping);
        return uq::fail(UQ_NO_MEMORY, "no memory for a model of %zu bytes. Free some first.", mapping.bytes);
    }
    fresh->mapping = mapping;
    uq_status status = uq::choose_kernels(isa, &fresh->kernels);
    if (status == UQ_OK) status = choose_scheme(&fresh->forced_scheme);
    if (status == UQ_OK) status = uq::read_model(fresh);
    if (status != UQ_OK) {
        uq_model_close(fresh);
        return status;
    }
    *model = fresh;
    return UQ_OK;
}

}  // namespace

extern "C" {

uq_status uq_model_open(const char* path, const char* isa, uq_model** model) {
    if (!path || !model) return uq::fail(UQ_BAD_ARGUMENT, "uq_model_open: path or model is NULL. Pass both.");
    *model = nullptr;
    uq::Mapping mapping = {};
    uq_status status = map_file(path, &mapping);
    return status == UQ_OK ? open_mapping(mapping, isa, model) : status;
}

uq_status uq_model_open_memory(const void* data, size_t bytes, const char* isa, uq_model** model) {
    if (!data || !model) return uq::fail(UQ_BAD_ARGUMENT, "uq_model_open_memory: data or model is NULL. Pass both.");
    *model = nullptr;
    if (reinterpret_cast<uintptr_t>(data) % UQ_MODEL_ALIGNMENT)
        return uq::fail(UQ_BAD_ARGUMENT, "model at %p: it must be aligned to %d bytes. Copy it to an aligned buffer.",
                        data, UQ_MODEL_ALIGNMENT);
    return open_mapping(uq::Mapping{static_cast<const uint8_t*>(data), bytes, false}, isa, model);
}

void uq_model_close(uq_model* model) {
    if (!model) return;
    unmap(model->mapping);
    model->~uq_model();
    free(model);
}

uq_status uq_model_get_info(const uq_model* model, uq_model_info* info) {
    if (!model || !info) return uq::fail(UQ_BAD_ARGUMENT, "uq_model_get_info: model or info is NULL. Pass both.");
    if (info->struct_bytes < offsetof(uq_model_info, orientation))  // as version 3 has it
        return uq::fail(UQ_BAD_ARGUMENT, "uq_model_get_info: struct_bytes %zu; set it to sizeof(uq_model_info), %zu.",
                        info->struct_bytes, sizeof *info);
    const uq::FileProgram& p = *model->program;
    info->name = model->strings + p.name_offset;
    info->isa = model->kernels.name;
    info->file_bytes = model->mapping.bytes;
    info->weight_bytes = model->weight_bytes;
    info->spatial_rank = p.spatial_rank;
    info->input_channels = model->tensors[p.input].channels;
    info->output_channels = model->tensors[p.output].channels;
    for (int a = 0; a < 3; ++a) {
        info->input_multiple[a] = p.input_multiple[a];
        info->fixed_size[a] = p.has_fixed_size ? p.fixed_size[a] : 0;
    }
    info->tensor_count = static_cast<uint32_t>(model->tensors.size());
    info->op_count = static_cast<uint32_t>(model->ops.size());
    info->label_count = model->label_count;
    info->normalize = p.normalize;
    info->window_low = p.low;
    info->window_high = p.high;
    info->provenance = reinterpret_cast<const char*>(model->provenance);
    info->provenance_bytes = model->provenance_bytes;
    if (info->struct_bytes < sizeof *info) return UQ_OK;
    info->orientation = p.orientation;
    info->context = p.context;
    info->over_volume = p.over;
    for (int a = 0; a < 3; ++a) {
        info->spacing[a] = p.spacing[a];
        info->window[a] = p.window[a];
    }
    info->overlap = model->overlap;
    return UQ_OK;
}

uq_status uq_model_get_label(const uq_model* model, uint32_t index, const char** name, int32_t* value) {
    if (!model || index >= model->label_count)
        return uq::fail(UQ_BAD_ARGUMENT,
                        "uq_model_get_label: label %u; there are %u, counted from 0. Ask for one of them.", index,
                        model ? model->label_count : 0);
    if (name) *name = model->strings + model->labels[index].name_offset;
    if (value) *value = model->labels[index].value;
    return UQ_OK;
}

uq_status uq_model_get_tensor(const uq_model* model, uint32_t index, uq_tensor_info* info) {
    if (!model || !info || index >= model->tensors.size())
        return uq::fail(UQ_BAD_ARGUMENT,
                        "uq_model_get_tensor: tensor %u; there are %zu, counted from 0. Ask for one of them.", index,
                        model ? model->tensors.size() : 0);
    if (info->struct_bytes < offsetof(uq_tensor_info, zero_point))  // as version 2 has it
        return uq::fail(UQ_BAD_ARGUMENT,
                        "uq_model_get_tensor: struct_bytes %zu; set it to sizeof(uq_tensor_info), %zu.",
                        info->struct_bytes, sizeof *info);
    const uq::Tensor& tensor = model->tensors[index];
    info->name = tensor.name;
    info->channels = tensor.channels;
    info->bits = tensor.bits;
    info->is_signed = tensor.is_signed;
    info->scale = tensor.scale;
    if (info->struct_bytes < sizeof *info) return UQ_OK;
    info->zero_point = tensor.zero_point;
    info->is_dynamic = tensor.dynamic;
    return UQ_OK;
}

uq_status uq_model_get_op(const uq_model* model, uint32_t index, uq_op_info* info) {
    static const char* const kKinds[] = {"",          "quantize", "convolution", "upsample", "max-pool", "add",
                                         "pointwise", "concat",   "pad",         "table",    "multiply"};
    static const char* const kSchemes[] = {"direct", "winograd", "words", "float32", "bit-serial", "look-up"};
    if (!model || !info || index >= model->ops.size())
        return uq::fail(UQ_BAD_ARGUMENT,
                        "uq_model_get_op: operation %u; there are %zu, counted from 0. Ask for one of them.", index,
                        model ? model->ops.size() : 0);
    if (info->struct_bytes < sizeof *info)
        return uq::fail(UQ_BAD_ARGUMENT, "uq_model_get_op: struct_bytes %zu; set it to sizeof(uq_op_info), %zu.",
                        info->struct_bytes, sizeof *info);
    const uq::Op& op = model->ops[index];
    info->name = op.name;
    info->kind = kKinds[op.kind];
    info->scheme = info->kernel = info->reason = "";
    if (op.kind != uq::kConv) return UQ_OK;
    info->scheme = kSchemes[static_cast<int>(op.conv.scheme)];
    info->kernel = op.conv.kernel                          ? op.conv.kernel->name
                   : op.conv.scheme == uq::Scheme::kBits   ? model->kernels.bit_conv->forms[op.conv.form].name
                   : op.conv.scheme == uq::Scheme::kLookup ? model->kernels.lookup_conv->forms[op.conv.lookup].name
                   : op.conv.scheme == uq::Scheme::kWords  ? "conv_w16a16"
                                                           : "conv_w32a32";
    info->reason = op.conv.reason;
    return UQ_OK;
}

}  // extern "C"
