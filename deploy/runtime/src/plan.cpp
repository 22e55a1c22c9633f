// Where every tensor and working memory lies. Each lives from the operation that makes it to the last that reads it.
// An upsampling whose only reader is a convolution has no tensor: the convolution makes its rows as it needs them. And
// what an operation reads for the last time it may overwrite, where its order of rows allows.
#include "ops/dynamic.h"
#include "ops/window.h"
#include "placement.h"

namespace uq {
namespace {

constexpr uint32_t kMaxAxis = 1u << 20;
constexpr uint64_t kMaxBytes = uint64_t{1} << 46;

uq_status check_size(const uq_model& model, const uint32_t size[3]) {
    const FileProgram& p = *model.program;
    for (int a = 0; a < 3; ++a) {
        if (p.has_fixed_size) {
            if (size[a] != p.fixed_size[a])
                return fail(
                    UQ_BAD_SIZE,
                    "image %u x %u x %u: this model takes %u x %u x %u only. Resize the image or export for its size.",
                    size[0], size[1], size[2], p.fixed_size[0], p.fixed_size[1], p.fixed_size[2]);
        } else if (size[a] < 1 || size[a] % p.input_multiple[a] || size[a] > kMaxAxis) {
            return fail(
                UQ_BAD_SIZE,
                "image %u x %u x %u: each axis must be a positive multiple of %u x %u x %u, at most %u. Pad the image.",
                size[0], size[1], size[2], p.input_multiple[0], p.input_multiple[1], p.input_multiple[2], kMaxAxis);
        }
    }
    if (p.spatial_rank == 2 && size[0] != 1)
        return fail(UQ_BAD_SIZE, "depth %u: a 2-D model takes one slice (depth 1). Run slice by slice.", size[0]);
    return UQ_OK;
}

uq_status make_sizes(uq_layout* layout, const uint32_t size[3]) {
    const uq_model& model = *layout->model;
    Place& input = layout->places[model.program->input];
    memcpy(input.size, size, sizeof input.size);
    input.made = true;
    for (size_t i = 0; i < model.ops.size(); ++i) {
        const Op& op = model.ops[i];
        const Place& first = layout->places[op.inputs[0]];
        Place& out = layout->places[op.output];
        for (uint32_t k = 1; k < op.input_count; ++k) {
            const Place& other = layout->places[op.inputs[k]];
            const bool spreads = op.kind == kMul && pixels(other.size) == 1;  // one pixel for all
            if (!spreads && memcmp(first.size, other.size, sizeof first.size) != 0)
                return fail(
                    UQ_BAD_SIZE,
                    "%.80s: its inputs are %u x %u x %u and %u x %u x %u for this image. Choose another image size.",
                    op.name, first.size[0], first.size[1], first.size[2], other.size[0], other.size[1], other.size[2]);
        }
        if (!output_size(op, first.size, out.size))
            return fail(UQ_BAD_SIZE, "%.80s: an input of %u x %u x %u gives no output. Use another image size.",
                        op.name, first.size[0], first.size[1], first.size[2]);
        out.made = true;
    }
    for (size_t t = 0; t < layout->places.size(); ++t) {
        Place& place = layout->places[t];
        if (!place.made) continue;
        place.bytes = product(pixels(place.size), model.tensors[t].pixel_bytes());
        if (place.bytes > kMaxBytes || place.bytes > SIZE_MAX / 8)
            return fail(UQ_BAD_SIZE, "tensor %.80s would take more memory than can be addressed. Use a smaller image.",
                        model.tensors[t].name);
    }
    return UQ_OK;
}

// Who needs the arena: not the input where only quantisers (which read the caller's order) or one-channel readers use
// it, not a one-channel output, which is written in place.
void choose_memory(uq_layout* layout) {
    const uq_model& model = *layout->model;
    uint32_t input = model.program->input, output = model.program->output;
    for (size_t t = 0; t < layout->places.size(); ++t) layout->places[t].in_arena = layout->places[t].made;
    bool copied = false;
    for (size_t i = 0; i < model.ops.size(); ++i)
        for (uint32_t k = 0; k < model.ops[i].input_count; ++k)
            if (model.ops[i].inputs[k] == input && model.ops[i].kind != kQuantize) copied = true;
    layout->places[input].in_arena = copied && model.tensors[input].channels > 1;
    if (output != input) layout->places[output].in_arena = model.tensors[output].channels > 1;
}

// One pass over all operands, of which a model may have many: 4096 operations of 4096 each.
void find_readers(uq_layout* layout) {
    const uq_model& model = *layout->model;
    constexpr uint32_t kSeveral = kNoOp - 1;
    for (size_t t = 0; t < layout->maker.size(); ++t) layout->maker[t] = layout->reader[t] = kNoOp;
    for (uint32_t i = 0; i < model.ops.size(); ++i) {
        layout->maker[model.ops[i].output] = i;
        for (uint32_t k = 0; k < model.ops[i].input_count; ++k) {
            uint32_t& reader = layout->reader[model.ops[i].inputs[k]];
            reader = reader == kNoOp ? i : kSeveral;
        }
    }
    for (size_t t = 0; t < layout->reader.size(); ++t)
        if (layout->reader[t] == kSeveral) layout->reader[t] = kNoOp;
}

// Upsamplings that their only reader, a convolution of one pass over its input, makes row by row.
void choose_fused(uq_layout* layout) {
    const uq_model& model = *layout->model;
    for (size_t i = 0; i < model.ops.size(); ++i) {
        const Op& op = model.ops[i];
        const uint32_t number = layout->reader[op.output];
        if (!makes_rows(model, op) || op.output == model.program->output || number == kNoOp) continue;
        const Op& reader = model.ops[number];
        layout->fused[i] = reader.kind == kConv && reader.conv.phases.size() == 1 && !reader.epilogue.norm_weight;
        if (layout->fused[i]) layout->places[op.output].in_arena = false;
    }
}

// Max-pools that take the rows of a convolution as they are finished, while these are in the cache. One thread, in 2-D:
// the rows come in order then.
void choose_pools(uq_layout* layout) {
    const uq_model& model = *layout->model;
    for (size_t i = 0; i < model.ops.size(); ++i) {
        layout->pool[i] = kNoOp;
        const Op& op = model.ops[i];
        if (layout->threads > 1 || op.kind != kConv || op.epilogue.norm_weight || op.conv.phases.size() > 1) continue;
        if (conv_passes(op.conv) > 1 || layout->places[op.output].size[0] > 1) continue;
        for (size_t k = i + 1; k < model.ops.size() && layout->pool[i] == kNoOp; ++k)
            if (model.ops[k].kind == kMaxPool && model.ops[k].inputs[0] == op.output &&
                layout->places[model.ops[k].output].size[0] == 1)  // padding in depth makes more of one slice
                layout->pool[i] = static_cast<uint32_t>(k);
    }
}

// The operation during which operation number op runs.
uint32_t host_of(const uq_layout& layout, uint32_t op) {
    const uint32_t maker = layout.maker[layout.model->ops[op].inputs[0]];
    return maker != kNoOp && layout.pool[maker] == op ? maker : op;
}

// A fused operation runs by itself only to be traced: a row, and what making it takes.
uint64_t traced_row_bytes(const uq_layout& layout, const Op& op) {
    Carver carver(nullptr);
    carver.take<uint8_t>(product(layout.places[op.output].size[2], round_up(op.output_channels, kBlock)));
    const uint64_t row = carver.used(), memory = row_work_bytes(layout, op);
    return row == kTooLarge || memory == kTooLarge ? kTooLarge : row + memory;
}

// What lifetimes there are: tensors, then an operation's working memory each.
class Lifetimes {
  public:
    explicit Lifetimes(uq_layout* layout) : layout_(layout), model_(*layout->model) {}

    uq_status collect() {
        const size_t ops = model_.ops.size();
        if (!item_of_.allocate(layout_->places.size())) return no_memory();
        for (size_t t = 0; t < layout_->places.size(); ++t) {
            item_of_[t] = kNoItem;
            if (!layout_->places[t].in_arena) continue;
            item_of_[t] = static_cast<uint32_t>(items_.size());
            if (!items_.append(Item{padded(layout_->places[t].bytes), 0, 0, 0, kNoItem, 0}) ||
                !owner_.append(static_cast<uint32_t>(t)))
                return no_memory();
        }
        set_lives();
        for (size_t i = 0; i < ops; ++i) allow_overlap(model_.ops[i], static_cast<uint32_t>(i));
        for (size_t i = 0; i < ops; ++i) {
            const Op& op = model_.ops[i];
            const uint64_t shared = layout_->fused[i] ? 0 : shared_bytes(*layout_, op);
            const uint64_t own = layout_->fused[i] ? traced_row_bytes(*layout_, op) : work_bytes(*layout_, op);
            const uint64_t bytes = product(padded_work(own), layout_->threads);
            if (shared > kMaxBytes || bytes > kMaxBytes || shared + bytes > SIZE_MAX / 8)
                return fail(UQ_BAD_SIZE, "%.80s: its working memory cannot be addressed. Use a smaller image.",
                            op.name);
            const uint32_t at = host_of(*layout_, static_cast<uint32_t>(i));
            if (!items_.append(Item{padded(shared) + bytes, 0, at, at, kNoItem, 0})) return no_memory();
        }
        const uint64_t scales = padded(scales_bytes(*layout_));
        if (scales && !items_.append(Item{scales, 0, 0, static_cast<uint32_t>(ops - 1), kNoItem, 0}))
            return no_memory();
        return UQ_OK;
    }

    uq_status place() {
        uint64_t arena = place_items(&items_);
        if (arena == kTooLarge) return no_memory();
        if (arena > SIZE_MAX / 2)
            return fail(UQ_BAD_SIZE, "the arena would take more memory than can be addressed. Use a smaller image.");
        for (size_t i = 0; i < owner_.size(); ++i) layout_->places[owner_[i]].offset = items_[i].offset;
        const size_t scales = owner_.size() + model_.ops.size();
        if (scales < items_.size()) layout_->scales_offset = items_[scales].offset;
        uq_layout_info& info = layout_->info;
        info.peak_tensor_bytes = info.peak_work_bytes = info.work_units = 0;
        for (size_t i = 0; i < model_.ops.size(); ++i) {
            const Item& work = items_[owner_.size() + i];
            layout_->work_offset[i] = work.offset;
            uint64_t alive = 0;
            for (size_t k = 0; k < owner_.size(); ++k)
                if (items_[k].first <= i && i <= items_[k].last) alive += layout_->places[owner_[k]].bytes;
            if (alive > info.peak_tensor_bytes) info.peak_tensor_bytes = alive;
            if (work.bytes > info.peak_work_bytes) info.peak_work_bytes = work.bytes;
            const uint64_t units = layout_->fused[i] ? 0 : work_units(model_.ops[i], layout_->places.data());
            info.work_units += finds_scale(model_, model_.ops[i]) ? 2 * units : units;
        }
        info.arena_bytes = arena;
        return UQ_OK;
    }

  private:
    static uq_status no_memory() { return fail(UQ_NO_MEMORY, "no memory for the plan. Free some first."); }
    static uint64_t padded_work(uint64_t bytes) { return bytes > kMaxBytes ? kTooLarge : padded(bytes); }

    // From the operation that makes a tensor to the last that reads it; a fused one reads where its own reader does.
    void set_lives() {
        for (uint32_t i = 0; i < model_.ops.size(); ++i) {
            const Op& op = model_.ops[i];
            const uint32_t reader = layout_->fused[i] ? layout_->reader[op.output] : i, out = item_of_[op.output];
            if (out != kNoItem) {
                items_[out].first = host_of(*layout_, i);
                items_[out].last = i;
            }
            for (uint32_t k = 0; k < op.input_count; ++k) {
                const uint32_t in = item_of_[op.inputs[k]];
                if (in != kNoItem && items_[in].last < reader) items_[in].last = reader;
            }
        }
        const uint32_t output = item_of_[model_.program->output];
        if (output != kNoItem && model_.ops.size()) items_[output].last = static_cast<uint32_t>(model_.ops.size() - 1);
    }

    // The largest input that dies here.
    void allow_overlap(const Op& op, uint32_t index) {
        const uint32_t out = item_of_[op.output];
        if (out == kNoItem) return;
        for (uint32_t k = 0; k < op.input_count; ++k) {
            const uint32_t in = item_of_[op.inputs[k]];
            if (in == kNoItem || in == out || items_[in].last != index) continue;
            const uint64_t shift = overlap_shift(*layout_, op, op.inputs[k]);
            if (shift == kTooLarge) continue;
            if (items_[out].over != kNoItem && items_[items_[out].over].bytes >= items_[in].bytes) continue;
            items_[out].over = in;
            items_[out].shift = padded(shift);
        }
    }

    uq_layout* layout_;
    const uq_model& model_;
    Array<Item> items_;
    Array<uint32_t> owner_;
    Array<uint32_t> item_of_;
};

uq_status place_all(uq_layout* layout) {
    Lifetimes lifetimes(layout);
    uq_status status = lifetimes.collect();
    return status == UQ_OK ? lifetimes.place() : status;
}

// Convolutions onto dynamic grids keep their sums from the first run to the second where the arena does not grow by it.
uq_status keep_sums(uq_layout* layout) {
    constexpr size_t kMostOps = 512;  // of a model that is planned several times
    const uq_model& model = *layout->model;
    uq_status status = UQ_OK;
    for (size_t i = 0; i < model.ops.size() && model.ops.size() <= kMostOps; ++i) {
        const Op& op = model.ops[i];
        if (op.kind != kConv || !finds_scale(model, op) || op.epilogue.norm_weight) continue;
        const uint64_t arena = layout->info.arena_bytes;
        layout->kept[i] = 1;
        if (shared_bytes(*layout, op) < arena) {
            status = place_all(layout);
            if (status == UQ_OK && layout->info.arena_bytes <= arena) continue;
        }
        layout->kept[i] = 0;
        status = place_all(layout);
    }
    return status;
}

void fill_info(uq_layout* layout) {
    const uq_model& model = *layout->model;
    uq_layout_info& info = layout->info;
    const Place& input = layout->places[model.program->input];
    const Place& output = layout->places[model.program->output];
    info.struct_bytes = sizeof info;
    memcpy(info.input_size, input.size, sizeof info.input_size);
    memcpy(info.output_size, output.size, sizeof info.output_size);
    info.input_count = pixels(input.size) * model.tensors[model.program->input].channels;
    info.output_count = pixels(output.size) * model.tensors[model.program->output].channels;
    for (size_t i = 0; i < model.ops.size(); ++i) {
        const Tensor& tensor = model.tensors[model.ops[i].output];
        uint64_t bytes = pixels(layout->places[model.ops[i].output].size) * tensor.channels * (tensor.is_float ? 4 : 2);
        if (bytes > info.trace_bytes) info.trace_bytes = bytes;
    }
}

uq_status plan(uq_layout* layout, const uint32_t size[3]) {
    uq_status status = check_size(*layout->model, size);
    if (status == UQ_OK) status = make_sizes(layout, size);
    if (status != UQ_OK) return status;
    choose_memory(layout);
    find_readers(layout);
    choose_fused(layout);
    choose_pools(layout);
    fill_info(layout);
    status = place_all(layout);
    return status == UQ_OK ? keep_sums(layout) : status;
}

}  // namespace

bool output_size(const Op& op, const uint32_t size[3], uint32_t out[3]) {
    for (int a = 0; a < 3; ++a) {
        int64_t n = size[a], span = 0, padding = static_cast<int64_t>(op.before[a]) + op.after[a], result = n;
        // Other operations may have anything in these two fields.
        if (op.kind == kConv) span = static_cast<int64_t>(op.dilation[a]) * (static_cast<int64_t>(op.kernel[a]) - 1);
        if (op.kind == kConv && op.mode == 1) {
            result = (n - 1) * op.stride[a] - padding + span + op.output_padding[a] + 1;
        } else if (op.kind == kConv) {
            result = n + padding - span < 1 ? 0 : (n + padding - span - 1) / op.stride[a] + 1;
        } else if (op.kind == kUpsample) {
            result = n * op.kernel[a];
        } else if (op.kind == kMaxPool) {
            int64_t room = n + 2 * static_cast<int64_t>(op.before[a]) - op.kernel[a];
            result = room < 0 ? 0 : room / op.stride[a] + 1;
        } else if (op.kind == kPad) {
            result = n + padding;
        }
        if (result < 1 || result > kMaxAxis) return false;
        out[a] = static_cast<uint32_t>(result);
    }
    return true;
}

uint64_t work_units(const Op& op, const Place* places) {
    uint64_t values = pixels(places[op.output].size) * op.output_channels;
    return op.kind == kConv ? conv_work_units(op, places[op.output].size) : values;
}

}  // namespace uq

extern "C" {

uq_status uq_plan_threads(const uq_model* model, uint32_t depth, uint32_t height, uint32_t width, uint32_t threads,
                          uq_layout** layout) {
    if (!model || !layout) return uq::fail(UQ_BAD_ARGUMENT, "uq_plan: model or layout is NULL. Pass both.");
    *layout = nullptr;
    if (threads < 1 || threads > UQ_MAX_THREADS)
        return uq::fail(UQ_BAD_ARGUMENT, "%u threads: a layout is for 1 to %d. Ask for as many.", threads,
                        UQ_MAX_THREADS);
    auto* fresh = static_cast<uq_layout*>(calloc(1, sizeof(uq_layout)));
    if (!fresh) return uq::fail(UQ_NO_MEMORY, "uq_plan: no memory for the layout. Free some first.");
    fresh->model = model;
    fresh->threads = threads;
    const size_t tensors = model->tensors.size(), ops = model->ops.size();
    uq_status status = UQ_OK;
    if (!fresh->places.allocate(tensors) || !fresh->maker.allocate(tensors) || !fresh->reader.allocate(tensors) ||
        !fresh->work_offset.allocate(ops) || !fresh->fused.allocate(ops) || !fresh->kept.allocate(ops) ||
        !fresh->pool.allocate(ops))
        status = uq::fail(UQ_NO_MEMORY, "uq_plan: no memory for the layout. Free some first.");
    const uint32_t size[3] = {depth, height, width};
    if (status == UQ_OK) status = uq::plan(fresh, size);
    if (status != UQ_OK) {
        uq_layout_free(fresh);
        return status;
    }
    *layout = fresh;
    return UQ_OK;
}

uq_status uq_plan(const uq_model* model, uint32_t depth, uint32_t height, uint32_t width, uq_layout** layout) {
    return uq_plan_threads(model, depth, height, width, 1, layout);
}

void uq_layout_free(uq_layout* layout) {
    if (!layout) return;
    layout->~uq_layout();
    free(layout);
}

uq_status uq_layout_get_info(const uq_layout* layout, uq_layout_info* info) {
    if (!layout || !info) return uq::fail(UQ_BAD_ARGUMENT, "uq_layout_get_info: layout or info is NULL. Pass both.");
    if (info->struct_bytes < sizeof *info)
        return uq::fail(UQ_BAD_ARGUMENT, "uq_layout_get_info: struct_bytes %zu; set it to sizeof(uq_layout_info), %zu.",
                        info->struct_bytes, sizeof *info);
    *info = layout->info;
    return UQ_OK;
}

uq_status uq_layout_get_tensor(const uq_layout* layout, uint32_t index, uint32_t size[3], uint64_t* bytes) {
    if (!layout) return uq::fail(UQ_BAD_ARGUMENT, "uq_layout_get_tensor: layout is NULL. Pass one.");
    if (index >= layout->places.size())
        return uq::fail(UQ_BAD_ARGUMENT,
                        "uq_layout_get_tensor: tensor %u; there are %zu, counted from 0. Ask for one of them.", index,
                        layout->places.size());
    if (size) memcpy(size, layout->places[index].size, sizeof layout->places[index].size);
    if (bytes) *bytes = layout->places[index].bytes;
    return UQ_OK;
}

}  // extern "C"
