// Any bytes as a model: refused with a status and a sentence, or opened, asked, planned for several sizes, and run.
// The library's checksum stands: the mutator makes it right again behind every change (mutate.cpp).
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mutate.h"
#include "session.h"
#include "target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t bytes, size_t room) __attribute__((weak));

bool always_threads = false;
bool spoil = false;

namespace fuzz {
namespace {

constexpr uint64_t kMaxArena = 1u << 22;
constexpr uint64_t kMaxWork = 1u << 19;
constexpr time_t kMaxSeconds = 1;

[[noreturn]] void broken(const char* what) {
    fprintf(stderr, "\nFINDING: %s; last detail: %s\n", what, uq_last_detail());
    abort();
}

void expect(bool condition, const char* what) {
    if (!condition) broken(what);
}

// A refusal has a status of those the header lists, and a sentence with a remedy.
void refused(uq_status status, std::initializer_list<uq_status> listed) {
    bool known = false;
    for (uq_status one : listed) known = known || one == status;
    expect(known, "a status that the header does not list for this call");
    const char* detail = uq_last_detail();
    expect(detail[0] && strchr(detail, '.'), "a refusal without a sentence");
}

void ask(const uq_model* model) {
    uq_model_info info = {};
    info.struct_bytes = sizeof info;
    expect(uq_model_get_info(model, &info) == UQ_OK, "uq_model_get_info of an opened model");
    size_t read = strlen(info.name) + strlen(info.orientation);
    expect(info.overlap >= 0 && info.overlap <= 0.9, "an overlap beyond its range");
    for (uint64_t i = 0; i < info.provenance_bytes; ++i) read += static_cast<uint8_t>(info.provenance[i]);
    for (uint32_t i = 0; i < info.label_count; ++i) {
        const char* name = nullptr;
        int32_t value = 0;
        expect(uq_model_get_label(model, i, &name, &value) == UQ_OK, "uq_model_get_label of an existing label");
        read += strlen(name);
    }
    for (uint32_t i = 0; i < info.tensor_count; ++i) {
        uq_tensor_info tensor = {};
        tensor.struct_bytes = sizeof tensor;
        expect(uq_model_get_tensor(model, i, &tensor) == UQ_OK, "uq_model_get_tensor of an existing tensor");
        read += strlen(tensor.name);
    }
    static volatile size_t sink;  // so that the reading is not left out
    sink = read;
    (void)sink;
    expect(uq_model_get_label(model, info.label_count, nullptr, nullptr) == UQ_BAD_ARGUMENT, "a label too many");
}

// A dilation of 65535 is allowed and slow: such a run ends here, within a row.
int stop_late(void* begin, uint64_t, uint64_t) {
    return time(nullptr) - *static_cast<time_t*>(begin) > kMaxSeconds;
}

void run(const uq_layout* layout, const uq_layout_info& info) {
    Block arena(info.arena_bytes, 0, 0xA5), image(info.input_count * sizeof(float), 4, 0);
    Block logits(info.output_count * sizeof(float), 4, 0xA5);
    auto* pixels = reinterpret_cast<float*>(image.data());
    for (uint64_t i = 0; i < info.input_count; ++i) pixels[i] = static_cast<float>(i * 37 % 101) / 8.0f - 6.0f;
    time_t begin = time(nullptr);
    uq_run_options options = {};
    options.struct_bytes = sizeof options;
    options.on_progress = stop_late;
    options.user = &begin;
    const uq_status status =
        uq_run(layout, info.arena_bytes ? arena.data() : nullptr, info.arena_bytes, pixels, info.input_count,
               reinterpret_cast<float*>(logits.data()), info.output_count, &options);
    expect(status == UQ_OK || (status == UQ_CANCELLED && time(nullptr) - begin > kMaxSeconds),
           "a model that opens and plans does not run");
    expect(arena.guards_whole() && image.guards_whole() && logits.guards_whole(), "a guard byte was written");
}

void plan(const uq_model* model, const uint32_t size[3]) {
    uq_layout* layout = nullptr;
    const uq_status status = uq_plan(model, size[0], size[1], size[2], &layout);
    expect((status == UQ_OK) == (layout != nullptr), "uq_plan's status and layout disagree");
    if (status != UQ_OK) return refused(status, {UQ_BAD_SIZE, UQ_NO_MEMORY});
    uq_layout_info info = {};
    info.struct_bytes = sizeof info;
    expect(uq_layout_get_info(layout, &info) == UQ_OK, "uq_layout_get_info of a layout");
    if (info.arena_bytes <= kMaxArena && info.work_units <= kMaxWork && info.input_count <= kMaxArena &&
        info.output_count <= kMaxArena)
        run(layout, info);
    uq_layout_free(layout);
}

void open(const uint8_t* data, size_t bytes, const char* isa) {
    uq_model* model = nullptr;
    const uq_status status = uq_model_open_memory(data, bytes, isa, &model);
    expect((status == UQ_OK) == (model != nullptr), "uq_model_open_memory's status and model disagree");
    if (status != UQ_OK) return refused(status, {UQ_DAMAGED, UQ_VERSION, UQ_NO_MEMORY});
    ask(model);
    uq_model_info info = {};
    info.struct_bytes = sizeof info;
    uq_model_get_info(model, &info);
    const uint32_t* m = info.input_multiple;
    plan(model, info.fixed_size);
    for (uint32_t times : {1u, 3u}) {
        const uint32_t size[3] = {m[0], m[1] * times, m[2] * (times + 1)};
        plan(model, size);
    }
    const uint32_t sizes[][3] = {{1, 8, 8}, {1, 33, 17}, {4, 6, 6}, {1, 1u << 20, 1u << 20}, {~0u, ~0u, ~0u}};
    for (const auto& size : sizes) plan(model, size);
    uq_model_close(model);
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
    // A block of its own: aligned as the header asks, and watched at its end.
    const fuzz::Block copy(bytes, 8, 0);
    if (bytes) memcpy(copy.data(), data, bytes);
    static volatile uint8_t behind;
    if (spoil) behind = copy.data()[bytes];  // what AddressSanitizer must not let pass
    (void)behind;
    const char* best = "scalar";
    for (uint32_t i = 0; const char* isa = uq_available_isa(i); ++i) best = isa;
    fuzz::open(copy.data(), bytes, best);
    if (bytes % 128 == 0 && strcmp(best, "scalar") != 0) fuzz::open(copy.data(), bytes, "scalar");
    return 0;
}

// Half of the changes aim at fields; the others are libFuzzer's own, with the checksum made right.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t bytes, size_t room, unsigned int seed) {
    fuzz::Random random(seed);
    if (LLVMFuzzerMutate && random.chance(40)) {
        bytes = LLVMFuzzerMutate(data, bytes, room);
        fuzz::repair_checksum(data, bytes);
        return bytes;
    }
    const Bytes changed = fuzz::mutate_model(Bytes(data, data + bytes), &random);
    if (changed.size() > room) return bytes;
    if (!changed.empty()) memcpy(data, changed.data(), changed.size());
    return changed.size();
}

Bytes random_input(uint64_t seed, const std::vector<Bytes>& pool) {
    fuzz::Random random(seed);
    Bytes file;
    if (!pool.empty() && random.chance(50)) {
        file = pool[random.below(static_cast<uint32_t>(pool.size()))];
    } else {
        uint8_t decisions[24];
        for (uint8_t& byte : decisions) byte = static_cast<uint8_t>(random.next() >> 56);
        fuzz::Source source(decisions, sizeof decisions);
        file = fuzz::random_graph(&source).file;
    }
    return fuzz::mutate_model(file, &random);
}

bool save_input(const Bytes& input, const std::string& prefix) {
    return fuzz::write_file(prefix + ".uqm", input);
}
