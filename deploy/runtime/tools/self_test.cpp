#include "self_test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/crc32.h"
#include "network.h"
#include "npy.h"

namespace tool {
namespace {

struct Numbers32 {
    char path[PATH_MAX];
    File file;
    NpyHeader header;
    uint64_t count;
    float* values;
};

struct Test {
    char folder[PATH_MAX];
    char model[PATH_MAX];
    Numbers32 input, logits;
};

Exit join(char dst[PATH_MAX], const char* folder, const char* name) {
    const int length = snprintf(dst, PATH_MAX, "%s/%s", folder, name);
    if (length < 0 || length >= PATH_MAX) return fail(kUsage, "--self-test %.400s: the name is too long.", folder);
    return kDone;
}

// self-test beside the program, wherever it was started from.
Exit find_folder(const char* given, char dst[PATH_MAX]) {
    if (given) return join(dst, given, ".");
    char program[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return fail(kUsage, "--self-test: the program's own folder is unknown; name the test's folder.");
    program[length] = 0;
    char* slash = strrchr(program, '/');
    if (slash) *slash = 0;
    return join(dst, slash ? program : ".", "self-test");
}

Exit read_numbers(Numbers32* numbers) {
    TOOL_TRY(open_file(numbers->path, "golden vector", kImage, &numbers->file));
    TOOL_TRY(read_npy_header(numbers->file, &numbers->header));
    const NpyHeader& header = numbers->header;
    if (header.numbers.kind != 'f' || header.numbers.bytes != 4 || header.numbers.big_endian || header.fortran_order ||
        header.axes < 2)
        return fail(kImage, "%.400s: float32 in C order with 2 to 4 axes is expected; make the self-test again.",
                    numbers->path);
    numbers->count = 1;
    for (uint32_t a = 0; a < header.axes; ++a) numbers->count *= header.shape[a];
    const auto bytes = static_cast<size_t>(numbers->count) * sizeof(float);
    if (numbers->count < SIZE_MAX / 8) numbers->values = static_cast<float*>(malloc(bytes ? bytes : 1));
    if (!numbers->values) return fail(kRuntime, "no memory for %.400s; close other programs.", numbers->path);
    TOOL_TRY(read_at(numbers->file, header.data, numbers->values, bytes));
    if (header.numbers.big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__))
        return fail(kRuntime, "this processor is big-endian; the runtime is made for little-endian ones.");
    return kDone;
}

uint32_t crc_of(const float* values, uint64_t count) {
    return uq::crc32(0, reinterpret_cast<const uint8_t*>(values), static_cast<size_t>(count) * sizeof(float));
}

// The image's depth, height and width, of (H, W), (channels, H, W) or (channels, D, H, W).
void size_of(const NpyHeader& header, uint32_t size[3]) {
    size[0] = header.axes == 4 ? static_cast<uint32_t>(header.shape[1]) : 1;
    size[1] = static_cast<uint32_t>(header.shape[header.axes - 2]);
    size[2] = static_cast<uint32_t>(header.shape[header.axes - 1]);
}

Exit test_isa(const Test& test, const char* isa, uint32_t threads, bool* same) {
    Network network = {};
    uint32_t size[3];
    size_of(test.input.header, size);
    Exit code = open_network(test.model, isa, &network);
    if (code == kDone) code = plan_network(size, threads, &network);
    if (code == kDone) code = allocate_network(0, &network);
    const bool fits = network.sizes.input_count == test.input.count && network.sizes.output_count == test.logits.count;
    if (code == kDone && !fits)
        code = fail(kImage,
                    "%.400s: golden vectors of %llu and %llu numbers, the model takes %llu and gives %llu; make the "
                    "self-test again.",
                    test.folder, static_cast<unsigned long long>(test.input.count),
                    static_cast<unsigned long long>(test.logits.count),
                    static_cast<unsigned long long>(network.sizes.input_count),
                    static_cast<unsigned long long>(network.sizes.output_count));
    if (code == kDone) {
        memcpy(network.input, test.input.values, static_cast<size_t>(test.input.count) * sizeof(float));
        code = run_network(&network);
    }
    if (code == kDone) {
        const auto bytes = static_cast<size_t>(test.logits.count) * sizeof(float);
        *same = memcmp(network.output, test.logits.values, bytes) == 0;
        printf("%s: %s, logits %08x, expected %08x\n", isa, *same ? "ok" : "MISMATCH",
               crc_of(network.output, test.logits.count), crc_of(test.logits.values, test.logits.count));
    }
    close_network(&network);
    return code;
}

Exit run_test(const Options& options, Test* test) {
    TOOL_TRY(find_folder(options.self_test, test->folder));
    TOOL_TRY(join(test->model, test->folder, "model.uqm"));
    TOOL_TRY(join(test->input.path, test->folder, "input.npy"));
    TOOL_TRY(join(test->logits.path, test->folder, "logits.npy"));
    TOOL_TRY(read_numbers(&test->input));
    TOOL_TRY(read_numbers(&test->logits));
    uint32_t tested = 0, wrong = 0;
    for (uint32_t i = 0; uq_available_isa(i); ++i) {
        const char* isa = uq_available_isa(i);
        if (options.isa && strcmp(options.isa, isa) != 0) continue;
        bool same = false;
        TOOL_TRY(test_isa(*test, isa, options.threads, &same));
        ++tested;
        wrong += same ? 0 : 1;
    }
    if (tested == 0)
        return fail(kRuntime, "--isa %.40s: this processor does not have it; --version lists those it has.",
                    options.isa);
    if (wrong)
        return fail(kMismatch,
                    "self-test failed on %u of %u instruction sets; do not use this program on this processor, and "
                    "report its name.",
                    wrong, tested);
    printf("self-test passed on %u instruction set(s)\n", tested);
    return kDone;
}

}  // namespace

Exit self_test(const Options& options) {
    auto* test = static_cast<Test*>(calloc(1, sizeof(Test)));
    if (!test) return fail(kRuntime, "no memory to begin with; close other programs.");
    test->input.file.descriptor = test->logits.file.descriptor = -1;
    const Exit code = run_test(options, test);
    Numbers32* const both[] = {&test->input, &test->logits};
    for (Numbers32* numbers : both) {
        free(numbers->values);
        close_file(&numbers->file);
    }
    free(test);
    return code;
}

}  // namespace tool
