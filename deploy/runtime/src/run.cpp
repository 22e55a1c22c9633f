// Runs a layout: checks the call, executes the operations in order, hands tensors out where they are asked for.
#include <math.h>

#include "ops/conv_shape.h"
#include "ops/dynamic.h"
#include "pool.h"

namespace uq {
namespace {

bool execute(Run* run, const Op& op, Turn turn, uint8_t* shared, uint8_t* work, Share share) {
    switch (op.kind) {
        case kQuantize:
            return run_quantize(run, op, work, share);
        case kConv:
            return run_conv(run, op, turn, shared, work, share);
        case kMaxPool:
            return run_max_pool(run, op, work, share);
        case kUpsample:
            return op.mode == 1 ? run_rowwise(run, op, work, share) : run_copy(run, op, work, share);
        case kAdd:
        case kMul:
        case kPointwise:
            return run_rowwise(run, op, work, share);
        case kConcat:
        case kPad:
            return run_copy(run, op, work, share);
        case kTable:
            return run_table(run, op, work, share);
        case kOpKindEnd:
            break;
    }
    return false;
}

// Callers of version 1 of the header have no such field.
uq_pool* pool_of(const uq_run_options* options) {
    return options && options->struct_bytes >= sizeof *options ? options->pool : nullptr;
}

// One operation on all threads.
struct Round {
    Run* run;
    const Op* op;
    uint8_t* shared;
    uint8_t* work;  // of the first thread; the others' follow
    uint64_t work_bytes;
    Turn turn;     // of a convolution
    bool weights;  // they are unpacked before the pass
};

void run_share(void* context, uint32_t part) {
    const Round& round = *static_cast<const Round*>(context);
    const Share share = {part, round.run->layout->threads};
    uint8_t* work = round.work + part * round.work_bytes;
    if (round.weights)
        prepare_conv_weights(round.run, *round.op, round.turn.pass, round.shared, work, share);
    else
        execute(round.run, *round.op, round.turn, round.shared, work, share);
}

// The next use of the arena cuts it differently.
void forget_red_zones(const uq_layout& layout, uint8_t* arena) {
#ifdef UQ_RED_ZONES
    __asan_unpoison_memory_region(arena, layout.info.arena_bytes);
#else
    (void)layout;
    (void)arena;
#endif
}

// All of one operation.
void run_rounds(Round* round, uq_pool* pool) {
    const Run& run = *round->run;
    const uq_layout& layout = *run.layout;
    const Op& op = *round->op;
    const uint32_t passes = op.kind == kConv ? conv_passes(op.conv) : 1, stages = conv_stages(op);
    for (round->turn.pass = 0; round->turn.pass < passes && !run.cancelled; ++round->turn.pass) {
        round->weights = op.kind == kConv && (run.looking || !layout.keeps_sums(op));
        forget_red_zones(layout, run.arena);
        if (round->weights) run_parts(pool, layout.threads, run_share, round);
        round->weights = false;
        for (round->turn.stage = 0; round->turn.stage < stages && !run.cancelled; ++round->turn.stage) {
            forget_red_zones(layout, run.arena);
            run_parts(pool, layout.threads, run_share, round);
        }
    }
}

// False when the run was cancelled.
bool run_operation(Run* run, uint32_t index) {
    const uq_layout& layout = *run->layout;
    const Op& op = layout.model->ops[index];
    if (layout.fused[index]) return true;
    const uint32_t maker = layout.maker[op.inputs[0]];
    if (maker != kNoOp && layout.pool[maker] == index) return true;  // done with the convolution's rows
    Round round = {run, &op,  run->arena + layout.work_offset[index], nullptr, padded(work_bytes(layout, op)),
                   {},  false};
    round.work = round.shared + padded(shared_bytes(layout, op));
    uq_pool* pool = pool_of(run->options);
    if (finds_scale(*layout.model, op)) {
        start_looking(run);
        run_rounds(&round, pool);
        stop_looking(run, op);
    }
    run_rounds(&round, pool);
    // What the other threads did last, so that progress ends at its total.
    if (layout.threads > 1 && !run->cancelled) run->advance(0, Share{0, layout.threads});
    return !run->cancelled;
}

// Channels last, at their bits, to (channels, depth, height, width).
void to_planar(const Run& run, uint32_t tensor, float* values, int16_t* codes) {
    const Tensor& t = run.model->tensors[tensor];
    const uint64_t plane = pixels(run.layout->places[tensor].size);
    const PackedRow row = run.row(tensor, 0, 1);
    for (uint64_t p = 0; p < plane; ++p) {
        const uint8_t* pixel = row.data + p * row.pixel_stride;
        for (uint32_t c = 0; c < t.channels; ++c) {
            if (t.is_float) {
                memcpy(values + c * plane + p, pixel + c * sizeof(float), sizeof(float));
                continue;
            }
            uint32_t at = c * t.storage_bits;
            int32_t field = (pixel[at >> 3] >> (at & 7)) & ((1 << t.storage_bits) - 1);
            int32_t sign = t.is_signed ? 1 << (t.storage_bits - 1) : 0;
            codes[c * plane + p] = static_cast<int16_t>((field ^ sign) - sign);
        }
    }
}

// The tensor of a fused operation, made for the trace alone.
void fused_codes(Run* run, const Op& op, int16_t* codes, uint8_t* work) {
    const Tensor& t = run->model->tensors[op.output];
    const uint32_t* size = run->layout->places[op.output].size;
    const uint64_t plane = pixels(size), rows = static_cast<uint64_t>(size[0]) * size[1];
    const uint32_t stride = round_up(t.channels, kBlock);
    Carver carver(work);
    auto* row = carver.take<uint8_t>(static_cast<uint64_t>(size[2]) * stride);
    auto* memory = carver.take<uint8_t>(0);
    for (uint64_t r = 0; r < rows; ++r) {
        const RowPart part = {static_cast<uint32_t>(r / size[1]), static_cast<uint32_t>(r % size[1]), 0, size[2]};
        produce_codes(run, op, part, 0, row, stride, memory);
        for (uint32_t p = 0; p < size[2]; ++p)
            for (uint32_t c = 0; c < t.channels; ++c) {
                const uint8_t code = row[static_cast<size_t>(p) * stride + c];
                codes[c * plane + r * size[2] + p] = t.is_signed ? static_cast<int8_t>(code) : code;
            }
    }
}

void trace(Run* run, uint32_t op_index) {
    const Op& op = run->model->ops[op_index];
    const Tensor& tensor = run->model->tensors[op.output];
    auto* values = tensor.is_float ? static_cast<float*>(run->options->trace_buffer) : nullptr;
    auto* codes = tensor.is_float ? nullptr : static_cast<int16_t*>(run->options->trace_buffer);
    if (run->layout->fused[op_index])
        fused_codes(run, op, codes, run->arena + run->layout->work_offset[op_index]);
    else
        to_planar(*run, op.output, values, codes);
    uq_tensor_view view = {};
    view.op = op_index;
    view.tensor = op.output;
    view.channels = tensor.channels;
    memcpy(view.size, run->layout->places[op.output].size, sizeof view.size);
    view.codes = codes;
    view.values = values;
    run->options->on_tensor(run->options->user, &view);
}

// Where a tensor other than a quantiser's source is read from a many-channel input: channels last, into the arena.
void copy_input(const Run& run) {
    const uint32_t input = run.model->program->input;
    if (!run.layout->places[input].in_arena) return;
    const uint32_t channels = run.model->tensors[input].channels;
    const uint64_t plane = pixels(run.layout->places[input].size);
    auto* dst = reinterpret_cast<float*>(run.data(input));
    for (uint64_t p = 0; p < plane; ++p)
        for (uint32_t c = 0; c < channels; ++c) dst[p * channels + c] = run.input[c * plane + p];
}

void copy_output(const Run& run) {
    const uint32_t output = run.model->program->output;
    if (output == run.model->program->input)
        memcpy(run.output, run.input, run.layout->info.output_count * sizeof(float));
    else if (run.layout->places[output].in_arena)
        to_planar(run, output, run.output, nullptr);
}

uq_status check_call(const uq_layout* layout, const void* arena, uint64_t arena_bytes, const float* input,
                     uint64_t input_count, const float* output, uint64_t output_count, const uq_run_options* options) {
    if (!layout || !input || !output)
        return fail(UQ_BAD_ARGUMENT, "uq_run: layout, input or output is NULL. Pass all three.");
    const uq_layout_info& info = layout->info;
    if (info.arena_bytes > 0 && (!arena || arena_bytes < info.arena_bytes))
        return fail(UQ_BAD_ARENA, "arena of %llu bytes: this layout needs %llu. Allocate what uq_layout_get_info says.",
                    static_cast<unsigned long long>(arena ? arena_bytes : 0),
                    static_cast<unsigned long long>(info.arena_bytes));
    if (reinterpret_cast<uintptr_t>(arena) % UQ_ARENA_ALIGNMENT)
        return fail(UQ_BAD_ARENA, "arena at %p: it must be aligned to %d bytes. Use aligned_alloc or posix_memalign.",
                    arena, UQ_ARENA_ALIGNMENT);
    if (input_count != info.input_count || output_count != info.output_count)
        return fail(UQ_BAD_BUFFER, "%llu values in, %llu out: this layout takes %llu in, %llu out. Pass as many.",
                    static_cast<unsigned long long>(input_count), static_cast<unsigned long long>(output_count),
                    static_cast<unsigned long long>(info.input_count),
                    static_cast<unsigned long long>(info.output_count));
    if (reinterpret_cast<uintptr_t>(input) % sizeof(float) || reinterpret_cast<uintptr_t>(output) % sizeof(float))
        return fail(UQ_BAD_BUFFER, "input or output is not aligned to 4 bytes. Pass arrays of float.");
    if (options && options->struct_bytes < offsetof(uq_run_options, pool))
        return fail(UQ_BAD_ARGUMENT, "options: struct_bytes %zu; set it to sizeof(uq_run_options), %zu.",
                    options->struct_bytes, sizeof *options);
    uq_pool* pool = pool_of(options);
    if (pool && pool_threads(pool) < layout->threads)
        return fail(UQ_BAD_ARGUMENT, "a pool of %u threads: this layout was planned for %u. Plan for as many.",
                    pool_threads(pool), layout->threads);
    if (options && options->on_tensor &&
        (!options->trace_buffer || options->trace_buffer_bytes < info.trace_bytes ||
         reinterpret_cast<uintptr_t>(options->trace_buffer) % sizeof(float)))
        return fail(UQ_BAD_ARGUMENT,
                    "trace buffer: %llu bytes aligned to 4 are needed for on_tensor. Pass trace_bytes of the layout.",
                    static_cast<unsigned long long>(info.trace_bytes));
    for (uint64_t i = 0; i < input_count; ++i)
        if (!isfinite(input[i]))
            return fail(
                UQ_NOT_FINITE,
                "input value %llu is NaN or infinite; a model takes finite numbers only. Clean the image first.",
                static_cast<unsigned long long>(i));
    return UQ_OK;
}

}  // namespace

uint64_t shared_bytes(const uq_layout& layout, const Op& op) {
    return op.kind == kConv ? conv_shared_bytes(layout, op) : 0;
}

uint64_t work_bytes(const uq_layout& layout, const Op& op) {
    const uint32_t* input = layout.places[op.inputs[0]].size;
    const uint32_t* output = layout.places[op.output].size;
    const uq_model& model = *layout.model;
    switch (op.kind) {
        case kQuantize:
            return quantize_work_bytes(op, output);
        case kConv:
            return conv_work_bytes(layout, op);
        case kMaxPool:
            return max_pool_work_bytes(model, op, input, output);
        case kUpsample:
            return op.mode == 1 ? rowwise_work_bytes(model, op, input, output) : copy_work_bytes(model, op, output);
        case kAdd:
        case kMul:
        case kPointwise:
            return rowwise_work_bytes(model, op, input, output);
        case kConcat:
        case kPad:
            return copy_work_bytes(model, op, output);
        case kTable:
            return table_work_bytes(model, op, output);
        case kOpKindEnd:
            break;
    }
    return 0;
}

}  // namespace uq

extern "C" uq_status uq_run(const uq_layout* layout, void* arena, uint64_t arena_bytes, const float* input,
                            uint64_t input_count, float* output, uint64_t output_count, const uq_run_options* options) {
    uq_status status = uq::check_call(layout, arena, arena_bytes, input, input_count, output, output_count, options);
    if (status != UQ_OK) return status;
    uq::Run run = {layout, layout->model, static_cast<uint8_t*>(arena), input, output, options, 0, false};
    uq::Carver carver(run.arena + layout->scales_offset);
    run.scales = uq::carve_scales(*layout, &carver);
    uq::copy_input(run);
    for (uint32_t i = 0; i < layout->model->ops.size(); ++i) {
        const bool finished = uq::run_operation(&run, i);
        uq::forget_red_zones(*layout, run.arena);
        if (!finished)
            return uq::fail(UQ_CANCELLED,
                            "cancelled by on_progress in operation %u (%.80s); the output is unspecified.", i,
                            layout->model->ops[i].name);
        if (options && options->on_tensor) uq::trace(&run, i);
    }
    uq::copy_output(run);
    return UQ_OK;
}
