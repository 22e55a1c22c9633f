// Where every tensor and working memory lies. Each lives from the operation that makes it to the last that reads it;
// the largest are placed first, each at the smallest gap that fits between those alive at the same time.
#include "ops/conv_shape.h"
#include "shapes.h"

namespace uq {
namespace {

constexpr uint32_t kMaxAxis = 1u << 20;
constexpr uint64_t kMaxBytes = uint64_t{1} << 46;

struct Item {
    uint64_t bytes;
    uint64_t offset;
    uint32_t first;  // operations, both included
    uint32_t last;
};

bool alive_together(const Item& a, const Item& b) {
    return a.first <= b.last && b.first <= a.last;
}

// Best fit among the gaps left by items placed so far; placed is sorted by offset.
uint64_t best_gap(const Array<Item>& items, const Array<uint32_t>& placed, size_t count, const Item& item) {
    uint64_t best = kTooLarge, best_size = kTooLarge, end = 0;
    for (size_t i = 0; i < count; ++i) {
        const Item& other = items[placed[i]];
        if (!alive_together(item, other)) continue;
        if (other.offset >= end) {
            uint64_t gap = other.offset - end;
            if (gap >= item.bytes && gap < best_size) {
                best = end;
                best_size = gap;
            }
        }
        if (other.offset + other.bytes > end) end = other.offset + other.bytes;
    }
    return best == kTooLarge ? end : best;
}

// Sets every offset; returns the arena's size, kTooLarge without memory.
uint64_t place_items(Array<Item>* items) {
    const size_t n = items->size();
    Array<uint32_t> order, placed;
    if (n == 0) return 0;
    if (!order.allocate(n) || !placed.allocate(n)) return kTooLarge;
    for (size_t i = 0; i < n; ++i) {  // insertion sort, by size falling
        size_t at = i;
        for (; at > 0 && (*items)[order[at - 1]].bytes < (*items)[i].bytes; --at) order[at] = order[at - 1];
        order[at] = static_cast<uint32_t>(i);
    }
    uint64_t arena = 0;
    for (size_t i = 0; i < n; ++i) {
        Item& item = (*items)[order[i]];
        item.offset = best_gap(*items, placed, i, item);
        if (item.offset + item.bytes > arena) arena = item.offset + item.bytes;
        size_t at = i;
        for (; at > 0 && (*items)[placed[at - 1]].offset > item.offset; --at) placed[at] = placed[at - 1];
        placed[at] = order[i];
    }
    return arena;
}

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
            if (memcmp(first.size, other.size, sizeof first.size) != 0)
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

uq_status place_all(uq_layout* layout) {
    const uq_model& model = *layout->model;
    const size_t tensors = layout->places.size(), ops = model.ops.size();
    const uint32_t end = ops ? static_cast<uint32_t>(ops - 1) : 0;
    Array<Item> items;
    Array<uint32_t> owner;
    for (size_t t = 0; t < tensors; ++t) {
        if (!layout->places[t].in_arena) continue;
        Item item = {padded(layout->places[t].bytes), 0, 0, 0};
        for (size_t i = 0; i < ops; ++i) {
            if (model.ops[i].output == t) item.first = item.last = static_cast<uint32_t>(i);
            for (uint32_t k = 0; k < model.ops[i].input_count; ++k)
                if (model.ops[i].inputs[k] == t) item.last = static_cast<uint32_t>(i);
        }
        if (t == model.program->output) item.last = end;
        if (!items.append(item) || !owner.append(static_cast<uint32_t>(t)))
            return fail(UQ_NO_MEMORY, "no memory for the plan.");
    }
    const size_t tensor_items = items.size();
    for (size_t i = 0; i < ops; ++i) {
        const Op& op = model.ops[i];
        const uint32_t* in = layout->places[op.inputs[0]].size;
        const uint32_t* out = layout->places[op.output].size;
        uint64_t bytes = work_bytes(model, op, in, out);
        if (bytes > kMaxBytes || bytes > SIZE_MAX / 8)
            return fail(UQ_BAD_SIZE, "%.80s: its working memory cannot be addressed. Use a smaller image.", op.name);
        if (!items.append(Item{padded(bytes), 0, static_cast<uint32_t>(i), static_cast<uint32_t>(i)}))
            return fail(UQ_NO_MEMORY, "no memory for the plan.");
    }
    uint64_t arena = place_items(&items);
    if (arena == kTooLarge) return fail(UQ_NO_MEMORY, "no memory for the plan.");
    if (arena > SIZE_MAX / 2)
        return fail(UQ_BAD_SIZE, "the arena would take more memory than can be addressed. Use a smaller image.");
    for (size_t i = 0; i < tensor_items; ++i) layout->places[owner[i]].offset = items[i].offset;
    uq_layout_info& info = layout->info;
    for (size_t i = 0; i < ops; ++i) {
        const Item& work = items[tensor_items + i];
        layout->work_offset[i] = work.offset;
        uint64_t alive = 0;
        for (size_t k = 0; k < tensor_items; ++k)
            if (items[k].first <= i && i <= items[k].last) alive += layout->places[owner[k]].bytes;
        if (alive > info.peak_tensor_bytes) info.peak_tensor_bytes = alive;
        if (work.bytes > info.peak_work_bytes) info.peak_work_bytes = work.bytes;
        info.work_units += work_units(model.ops[i], layout->places.data());
    }
    info.arena_bytes = arena;
    return UQ_OK;
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
    fill_info(layout);
    return place_all(layout);
}

}  // namespace

bool output_size(const Op& op, const uint32_t size[3], uint32_t out[3]) {
    for (int a = 0; a < 3; ++a) {
        int64_t n = size[a], span = static_cast<int64_t>(op.dilation[a]) * (static_cast<int64_t>(op.kernel[a]) - 1);
        int64_t padding = static_cast<int64_t>(op.before[a]) + op.after[a], result = n;
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

uq_status uq_plan(const uq_model* model, uint32_t depth, uint32_t height, uint32_t width, uq_layout** layout) {
    if (!model || !layout) return uq::fail(UQ_BAD_ARGUMENT, "uq_plan: model or layout is NULL. Pass both.");
    *layout = nullptr;
    auto* fresh = static_cast<uq_layout*>(calloc(1, sizeof(uq_layout)));
    if (!fresh) return uq::fail(UQ_NO_MEMORY, "uq_plan: no memory for the layout.");
    fresh->model = model;
    uq_status status = UQ_OK;
    if (!fresh->places.allocate(model->tensors.size()) || !fresh->work_offset.allocate(model->ops.size()))
        status = uq::fail(UQ_NO_MEMORY, "uq_plan: no memory for the layout.");
    const uint32_t size[3] = {depth, height, width};
    if (status == UQ_OK) status = uq::plan(fresh, size);
    if (status != UQ_OK) {
        uq_layout_free(fresh);
        return status;
    }
    *layout = fresh;
    return UQ_OK;
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
    if (!layout) return uq::fail(UQ_BAD_ARGUMENT, "uq_layout_get_tensor: layout is NULL.");
    if (index >= layout->places.size())
        return uq::fail(UQ_BAD_ARGUMENT, "uq_layout_get_tensor: tensor %u; there are %zu.", index,
                        layout->places.size());
    if (size) memcpy(size, layout->places[index].size, sizeof layout->places[index].size);
    if (bytes) *bytes = layout->places[index].bytes;
    return UQ_OK;
}

}  // extern "C"
