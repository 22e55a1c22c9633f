#include "session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

namespace fuzz {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGuard = 0;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr size_t kGuard = 0;
#else
constexpr size_t kGuard = 64;
#endif
#else
constexpr size_t kGuard = 64;
#endif

constexpr uint8_t kGuardByte = 0xC3;

struct Tracer {
    const Graph* graph;
    const Way* way;
    Outcome* outcome;  // null where the run is not traced
    uint64_t calls;
    uint64_t cancel_after;
    uint64_t done;
    uint64_t total;
};

void on_tensor(void* user, const uq_tensor_view* view) {
    auto* tracer = static_cast<Tracer*>(user);
    const Graph& graph = *tracer->graph;
    if (view->op >= graph.ops.size() || view->tensor != graph.ops[view->op].output)
        finding(graph, *tracer->way, "on_tensor names operation %u, tensor %u", view->op, view->tensor);
    const TensorNote& note = graph.tensors[view->tensor];
    const uint64_t count = static_cast<uint64_t>(note.channels) * note.size[0] * note.size[1] * note.size[2];
    if (memcmp(view->size, note.size, sizeof note.size) != 0 || view->channels != note.channels ||
        (view->codes != nullptr) != note.coded || (view->values != nullptr) == note.coded)
        finding(graph, *tracer->way, "on_tensor gives another shape for tensor %u", view->tensor);
    if (view->codes) tracer->outcome->codes[view->op].assign(view->codes, view->codes + count);
    if (view->values) tracer->outcome->values[view->op].assign(view->values, view->values + count);
}

int on_progress(void* user, uint64_t done, uint64_t total) {
    auto* tracer = static_cast<Tracer*>(user);
    if (done < tracer->done || done > total || (tracer->total && total != tracer->total))
        finding(*tracer->graph, *tracer->way, "progress went from %llu to %llu of %llu",
                static_cast<unsigned long long>(tracer->done), static_cast<unsigned long long>(done),
                static_cast<unsigned long long>(total));
    tracer->done = done;
    tracer->total = total;
    return tracer->cancel_after && ++tracer->calls >= tracer->cancel_after;
}

}  // namespace

void finding(const Graph& graph, const Way& way, const char* format, ...) {
    fprintf(stderr, "\nFINDING on %s: ", way.text().c_str());
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nmodel of %zu bytes, input %u x %ux%ux%u\n", graph.file.size(), graph.tensors[0].channels,
            graph.size[0], graph.size[1], graph.size[2]);
    for (size_t i = 0; i < graph.ops.size(); ++i) fprintf(stderr, "  %zu: %s\n", i, graph.ops[i].text.c_str());
    abort();
}

std::string Way::text() const {
    return std::string(isa) + (scheme ? std::string(", scheme ") + scheme : "") + ", " + std::to_string(threads) +
           " thread" + (threads == 1 ? "" : "s");
}

Block::Block(uint64_t bytes, size_t skew, uint8_t fill) : base_(nullptr), data_(nullptr), bytes_(bytes) {
    const size_t whole = static_cast<size_t>(bytes) + skew + 2 * kGuard;
    void* base = nullptr;
    if (posix_memalign(&base, 64, whole ? whole : 1) != 0) abort();
    base_ = static_cast<uint8_t*>(base);
    data_ = base_ + kGuard + skew;
    memset(base_, kGuardByte, whole);
    memset(data_, fill, static_cast<size_t>(bytes));
}

Block::~Block() {
    free(base_);
}

bool Block::guards_whole() const {
    for (const uint8_t* p = base_; p < data_; ++p)
        if (*p != kGuardByte) return false;
    for (size_t i = 0; i < kGuard; ++i)
        if (data_[bytes_ + i] != kGuardByte) return false;
    return true;
}

bool knows_scheme(const Graph& graph, const char* scheme) {
    uq_model* model = nullptr;
    setenv("UNETQ_SCHEME", scheme, 1);
    const uq_status status = uq_model_open_memory(graph.file.data(), graph.file.size(), "scalar", &model);
    unsetenv("UNETQ_SCHEME");
    uq_model_close(model);
    return status != UQ_BAD_ARGUMENT;
}

Session::Session(const Graph& graph, const Way& way) : graph_(graph), way_(way) {
    if (way.scheme) setenv("UNETQ_SCHEME", way.scheme, 1);
    uq_status status = uq_model_open_memory(graph.file.data(), graph.file.size(), way.isa, &model_);
    if (way.scheme) unsetenv("UNETQ_SCHEME");
    if (status != UQ_OK) finding(graph, way, "open: %s: %s", uq_status_text(status), uq_last_detail());
#if UQ_API_VERSION >= 2
    status = uq_plan_threads(model_, graph.size[0], graph.size[1], graph.size[2], way.threads, &layout_);
    if (status == UQ_OK && way.threads > 1) status = uq_pool_open(way.threads, &pool_);
#else
    status = uq_plan(model_, graph.size[0], graph.size[1], graph.size[2], &layout_);
#endif
    if (status != UQ_OK) finding(graph, way, "plan: %s: %s", uq_status_text(status), uq_last_detail());
    check_layout();
}

Session::~Session() {
#if UQ_API_VERSION >= 2
    uq_pool_close(pool_);
#endif
    uq_layout_free(layout_);
    uq_model_close(model_);
}

// The plan against the sizes that the generator worked out by itself.
void Session::check_layout() {
    info_.struct_bytes = sizeof info_;
    if (uq_layout_get_info(layout_, &info_) != UQ_OK) finding(graph_, way_, "layout info: %s", uq_last_detail());
    if (info_.input_count != graph_.image.size())
        finding(graph_, way_, "%llu inputs", static_cast<unsigned long long>(info_.input_count));
    for (const OpNote& op : graph_.ops) {
        const TensorNote& note = graph_.tensors[op.output];
        uint32_t size[3];
        uint64_t bytes = 0;
        uq_layout_get_tensor(layout_, op.output, size, &bytes);
        if (memcmp(size, note.size, sizeof size) != 0)
            finding(graph_, way_, "tensor %u is %ux%ux%u", op.output, size[0], size[1], size[2]);
    }
}

std::string Session::choice(uint32_t op) const {
#if UQ_API_VERSION >= 2
    uq_op_info info = {};
    info.struct_bytes = sizeof info;
    if (uq_model_get_op(model_, op, &info) != UQ_OK) return "";
    return std::string(info.scheme ? info.scheme : "-") + " / " + (info.kernel ? info.kernel : "-");
#else
    (void)op;
    return "";
#endif
}

Outcome Session::run(bool traced, uint8_t garbage, uint64_t cancel_after, bool alone) const {
    Outcome outcome = {};
    outcome.values.resize(graph_.ops.size());
    outcome.codes.resize(graph_.ops.size());
    const uint64_t image_bytes = graph_.image.size() * sizeof(float), logit_bytes = info_.output_count * sizeof(float);
    Block arena(info_.arena_bytes, 0, garbage), image(image_bytes, 4, 0), logits(logit_bytes, 4, garbage);
    (void)alone;
    Block trace(traced ? info_.trace_bytes : 0, 4, garbage);
    memcpy(image.data(), graph_.image.data(), static_cast<size_t>(image_bytes));
    Tracer tracer = {&graph_, &way_, &outcome, 0, cancel_after, 0, 0};
    uq_run_options options = {};
    options.struct_bytes = sizeof options;
    options.user = &tracer;
    options.on_progress = on_progress;
    if (traced) {
        options.on_tensor = on_tensor;
        options.trace_buffer = trace.data();
        options.trace_buffer_bytes = info_.trace_bytes;
    }
#if UQ_API_VERSION >= 2
    options.pool = alone ? nullptr : pool_;
#endif
    outcome.status = uq_run(layout_, info_.arena_bytes ? arena.data() : nullptr, info_.arena_bytes,
                            reinterpret_cast<const float*>(image.data()), info_.input_count,
                            reinterpret_cast<float*>(logits.data()), info_.output_count, &options);
    if (!arena.guards_whole() || !image.guards_whole() || !logits.guards_whole() || !trace.guards_whole())
        finding(graph_, way_, "a guard byte beside the arena, the image, the logits or the trace was written");
    if (memcmp(image.data(), graph_.image.data(), static_cast<size_t>(image_bytes)) != 0)
        finding(graph_, way_, "the image was written");
    if (outcome.status == UQ_OK) {
        const bool all = tracer.done == tracer.total && tracer.total == info_.work_units;
        if (!graph_.ops.empty() && !all)
            finding(graph_, way_, "progress ended at %llu of %llu", static_cast<unsigned long long>(tracer.done),
                    static_cast<unsigned long long>(info_.work_units));
        const auto* found = reinterpret_cast<const float*>(logits.data());
        outcome.logits.assign(found, found + info_.output_count);
    } else if (outcome.status != UQ_CANCELLED || !cancel_after) {
        finding(graph_, way_, "run: %s: %s", uq_status_text(outcome.status), uq_last_detail());
    }
    return outcome;
}

}  // namespace fuzz
