// The model file is mapped here and not by the library, so that its pages can be given back: the check at loading reads
// all of them, a run then one layer after another, and a small device should not hold weights that are done with. They
// stay in the system's cache, from where the next run gets them again.
#include "network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "file.h"

namespace tool {
namespace {

constexpr uint64_t kMegabyte = 1000000;

// A line "Name:   123 kB" of a file under /proc, in bytes; 0 where there is none.
uint64_t proc_bytes(const char* path, const char* name) {
    FILE* file = fopen(path, "re");
    if (!file) return 0;
    char line[256];
    unsigned long long kilobytes = 0;
    const size_t length = strlen(name);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && sscanf(line + length, "%llu", &kilobytes) == 1) break;
    fclose(file);
    return kilobytes * 1024;
}

void give_back_pages(const Network& n) {
    madvise(n.file, n.file_bytes, MADV_DONTNEED);
}

int on_progress(void* user, uint64_t done, uint64_t total) {
    auto* n = static_cast<Network*>(user);
    const auto sixteenths =
        static_cast<uint32_t>(total ? static_cast<double>(done) / static_cast<double>(total) * 16 : 16);
    if (sixteenths != n->progress) give_back_pages(*n);
    n->progress = sixteenths;
    return stopped() ? 1 : 0;
}

Exit map_file(const char* path, Network* n) {
    File file;
    TOOL_TRY(open_file(path, "model", kModel, &file));
    void* mapped = MAP_FAILED;
    if (file.bytes < SIZE_MAX / 2)
        mapped = mmap(nullptr, static_cast<size_t>(file.bytes), PROT_READ, MAP_PRIVATE, file.descriptor, 0);
    close_file(&file);
    if (mapped == MAP_FAILED)
        return fail(kModel, "model %.400s cannot be mapped: it is too large for this machine.", path);
    n->file = mapped;
    n->file_bytes = static_cast<size_t>(file.bytes);
    return kDone;
}

}  // namespace

Exit refused(uq_status status, const char* path) {
    const bool file = status == UQ_CANNOT_READ || status == UQ_DAMAGED || status == UQ_VERSION;
    const char* detail = uq_last_detail();
    const bool named = strncmp(detail, path, strlen(path)) == 0;
    return fail(file ? kModel : kRuntime, "%.400s%s%s", named ? "" : path, named ? "" : ": ", detail);
}

Exit open_network(const char* path, const char* isa, Network* n) {
    TOOL_TRY(map_file(path, n));
    uq_status status = uq_model_open_memory(n->file, n->file_bytes, isa, &n->model);
    give_back_pages(*n);
    n->info.struct_bytes = sizeof n->info;
    if (status == UQ_OK) status = uq_model_get_info(n->model, &n->info);
    return status == UQ_OK ? kDone : refused(status, path);
}

Exit plan_network(const uint32_t size[3], uint32_t threads, Network* n) {
    uq_status status = uq_plan_threads(n->model, size[0], size[1], size[2], threads, &n->layout);
    if (status == UQ_OK && threads > 1) status = uq_pool_open(threads, &n->pool);
    n->sizes.struct_bytes = sizeof n->sizes;
    if (status == UQ_OK) status = uq_layout_get_info(n->layout, &n->sizes);
    return status == UQ_OK ? kDone : refused(status, n->info.name);
}

Exit no_memory(const Network& n, uint64_t more) {
    const uint64_t bytes = n.sizes.arena_bytes + (n.sizes.input_count + n.sizes.output_count) * sizeof(float) + more;
    return fail(
        kRuntime,
        "not enough memory: an image of this size needs %llu MB and %llu MB are available; use a smaller image, or "
        "cut it into parts.",
        static_cast<unsigned long long>(bytes / kMegabyte + 1),
        static_cast<unsigned long long>(available_memory() / kMegabyte));
}

Exit allocate_network(uint64_t more, Network* n) {
    const uint64_t values = n->sizes.input_count + n->sizes.output_count;
    const uint64_t bytes = n->sizes.arena_bytes + values * sizeof(float) + more;
    const uint64_t available = available_memory();
    const bool addressable = n->sizes.arena_bytes < SIZE_MAX / 2 && values < SIZE_MAX / 8;
    if (addressable && (available == 0 || bytes <= available)) {
        void* arena = nullptr;
        const size_t arena_bytes = n->sizes.arena_bytes ? static_cast<size_t>(n->sizes.arena_bytes) : 1;
        if (posix_memalign(&arena, UQ_ARENA_ALIGNMENT, arena_bytes) == 0) n->arena = arena;
        n->input = static_cast<float*>(malloc(static_cast<size_t>(n->sizes.input_count) * sizeof(float)));
        n->output = static_cast<float*>(malloc(static_cast<size_t>(n->sizes.output_count) * sizeof(float)));
        if (n->arena && n->input && n->output) return kDone;
    }
    return no_memory(*n, more);
}

Exit run_network(Network* n) {
    uq_run_options options = {};
    options.struct_bytes = sizeof options;
    options.user = n;
    options.on_progress = on_progress;
    options.pool = n->pool;
    const uq_status status = uq_run(n->layout, n->arena, n->sizes.arena_bytes, n->input, n->sizes.input_count,
                                    n->output, n->sizes.output_count, &options);
    if (status == UQ_CANCELLED || stopped()) return stop_here();
    return status == UQ_OK ? kDone : refused(status, n->info.name);
}

void close_network(Network* n) {
    free(n->input);
    free(n->output);
    free(n->arena);
    uq_pool_close(n->pool);
    uq_layout_free(n->layout);
    uq_model_close(n->model);
    if (n->file) munmap(n->file, n->file_bytes);
    memset(n, 0, sizeof *n);
}

uint64_t peak_memory() {
    return proc_bytes("/proc/self/status", "VmHWM:");
}

uint64_t available_memory() {
    return proc_bytes("/proc/meminfo", "MemAvailable:");
}

}  // namespace tool
