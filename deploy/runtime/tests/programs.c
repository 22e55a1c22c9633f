/* Runs a list of cases and compares every tensor of each, so that an emulator is started once for all of them.
 *
 *     programs LIST ISA
 *
 * LIST has a line "NAME DEPTH HEIGHT WIDTH TOLERANCE" a case; beside it lie NAME.uqm, NAME.in (float32) and NAME.out:
 * the tensors in the order of the operations, codes as int16, the others as float32, and the logits. TOLERANCE is
 * relative to a tensor's range; 0 means to the bit. ISA is what the dispatcher has to choose by itself, or "=NAME" to
 * force one. Every case runs as the model chooses, then with each scheme forced, on more threads each time.
 * Exit status 0: all agree; 1: some do not; 2: a wrong argument, a missing file, another instruction set. */
#define _POSIX_C_SOURCE 200112L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unetq.h"

static const char* const kSchemes[] = {"", "direct", "winograd", "bits", "lookup"};

typedef struct Case {
    char name[32];
    uint32_t size[3];
    double tolerance;
    char* expected; /* what is still to be compared */
    const char* end;
    unsigned failures;
    const char* scheme;
} Case;

static void* whole_file(const char* folder, const char* name, const char* suffix, size_t* bytes) {
    char path[512];
    FILE* file;
    long length;
    char* data = NULL;
    snprintf(path, sizeof path, "%s%s%s", folder, name, suffix);
    file = fopen(path, "rb");
    if (file && fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0) {
        data = malloc((size_t)length + 16);
        if (data && fread(data, 1, (size_t)length, file) != (size_t)length) {
            free(data);
            data = NULL;
        }
        *bytes = (size_t)length;
    }
    if (file) fclose(file);
    if (!data) fprintf(stderr, "%s: cannot be read\n", path);
    return data;
}

static void differs(Case* it, const char* what, uint64_t at, double expected, double found) {
    if (it->failures++ < 4)
        printf("  %s, scheme \"%s\", %s[%llu]: %.9g became %.9g\n", it->name, it->scheme, what, (unsigned long long)at,
               expected, found);
}

static void compare_floats(Case* it, const char* what, const float* found, uint64_t count) {
    const float* expected = (const float*)(void*)it->expected;
    double reach = 1e-3;
    uint64_t i;
    if (it->expected + count * sizeof(float) > it->end) {
        differs(it, what, 0, 0, 0);
        return;
    }
    for (i = 0; i < count; ++i)
        if (fabs((double)expected[i]) > reach) reach = fabs((double)expected[i]);
    for (i = 0; i < count; ++i) {
        const int same = it->tolerance > 0 ? fabs((double)expected[i] - (double)found[i]) <= it->tolerance * reach
                                           : expected[i] == found[i];
        if (!same) differs(it, what, i, (double)expected[i], (double)found[i]);
    }
    it->expected += count * sizeof(float);
}

static void on_tensor(void* user, const uq_tensor_view* tensor) {
    Case* it = user;
    const uint64_t count = (uint64_t)tensor->channels * tensor->size[0] * tensor->size[1] * tensor->size[2];
    char what[32];
    int16_t expected;
    uint64_t i;
    snprintf(what, sizeof what, "tensor %u", (unsigned)tensor->tensor);
    if (tensor->values) {
        compare_floats(it, what, tensor->values, count);
        return;
    }
    for (i = 0; i < count && it->expected + sizeof expected <= it->end; ++i, it->expected += sizeof expected) {
        memcpy(&expected, it->expected, sizeof expected);
        if (expected != tensor->codes[i]) differs(it, what, i, expected, tensor->codes[i]);
    }
    if (i < count) differs(it, what, i, 0, 0);
    it->expected += count % 2 * sizeof expected; /* every tensor begins at a multiple of 4 */
}

/* One case, one scheme. traced: every tensor is compared, otherwise the logits alone. */
static int run(Case* it, const char* isa, const void* model_bytes, size_t model_size, const float* input,
               size_t input_count, char* expected, size_t expected_size, uint32_t threads, int traced) {
    uq_model* model = NULL;
    uq_layout* layout = NULL;
    uq_pool* pool = NULL;
    uq_model_info about;
    uq_layout_info info;
    uq_run_options options;
    uq_status status;
    void *arena = NULL, *trace = NULL;
    float* logits = NULL;
    const char* forced = isa[0] == '=' ? isa + 1 : NULL;
    memset(&about, 0, sizeof about);
    memset(&info, 0, sizeof info);
    memset(&options, 0, sizeof options);
    about.struct_bytes = sizeof about;
    info.struct_bytes = sizeof info;
    options.struct_bytes = sizeof options;
    status = uq_model_open_memory(model_bytes, model_size, forced, &model);
    if (status == UQ_OK) status = uq_model_get_info(model, &about);
    if (status == UQ_OK && strcmp(about.isa, forced ? forced : isa) != 0) {
        fprintf(stderr, "the dispatcher took %s, not %s\n", about.isa, isa);
        uq_model_close(model);
        return 2;
    }
    if (status == UQ_OK) status = uq_plan_threads(model, it->size[0], it->size[1], it->size[2], threads, &layout);
    if (status == UQ_OK) status = uq_layout_get_info(layout, &info);
    if (status == UQ_OK) status = uq_pool_open(threads, &pool);
    if (status == UQ_OK) {
        if (posix_memalign(&arena, UQ_ARENA_ALIGNMENT, (size_t)info.arena_bytes + 1) != 0) arena = NULL;
        trace = malloc((size_t)info.trace_bytes + 4);
        logits = malloc((size_t)info.output_count * sizeof *logits);
        if (!arena || !trace || !logits) return 2;
        memset(arena, 0xA5, (size_t)info.arena_bytes);
        memset(logits, 0xA5, (size_t)info.output_count * sizeof *logits);
        it->expected = expected;
        it->end = expected + expected_size;
        options.pool = pool;
        if (traced) {
            options.user = it;
            options.on_tensor = on_tensor;
            options.trace_buffer = trace;
            options.trace_buffer_bytes = info.trace_bytes;
        }
        status = uq_run(layout, arena, info.arena_bytes, input, input_count, logits, info.output_count, &options);
    }
    if (status == UQ_OK) {
        if (!traced) it->expected = expected + expected_size - info.output_count * sizeof *logits;
        compare_floats(it, "logits", logits, info.output_count);
        if (it->expected != it->end) differs(it, "size", 0, 0, 0);
    } else {
        ++it->failures;
        printf("  %s, scheme \"%s\": %s\n", it->name, it->scheme, uq_last_detail());
    }
    free(arena);
    free(trace);
    free(logits);
    uq_pool_close(pool);
    uq_layout_free(layout);
    uq_model_close(model);
    return 0;
}

int main(int count, char** argument) {
    char folder[256] = "", line[256];
    const char* slash;
    unsigned cases = 0, runs = 0, failed = 0;
    FILE* list;
    if (count != 3) {
        fprintf(stderr, "usage: %s LIST ISA\n", argument[0]);
        return 2;
    }
    slash = strrchr(argument[1], '/');
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - argument[1] + 1), argument[1]);
    list = fopen(argument[1], "r");
    if (!list) {
        fprintf(stderr, "%s: cannot be read\n", argument[1]);
        return 2;
    }
    while (fgets(line, sizeof line, list)) {
        Case it;
        size_t model_size, input_size, expected_size, s;
        void *model, *input, *expected;
        int status = 0;
        memset(&it, 0, sizeof it);
        if (sscanf(line, "%31s %u %u %u %lf", it.name, &it.size[0], &it.size[1], &it.size[2], &it.tolerance) != 5)
            return 2;
        model = whole_file(folder, it.name, ".uqm", &model_size);
        input = whole_file(folder, it.name, ".in", &input_size);
        expected = whole_file(folder, it.name, ".out", &expected_size);
        if (!model || !input || !expected) return 2;
        ++cases;
        for (s = 0; s < sizeof kSchemes / sizeof *kSchemes && status == 0; ++s) {
            if (s && it.tolerance > 0) break;
            it.scheme = kSchemes[s];
            setenv("UNETQ_SCHEME", it.scheme, 1);
            if (!it.scheme[0]) unsetenv("UNETQ_SCHEME");
            status = run(&it, argument[2], model, model_size, input, input_size / sizeof(float), expected,
                         expected_size, (uint32_t)(s ? s : 1), s == 0);
            ++runs;
        }
        free(model);
        free(input);
        free(expected);
        if (status) return status;
        failed += it.failures != 0;
    }
    fclose(list);
    printf("%s: %u cases, %u runs, %u failed\n", argument[2], cases, runs, failed);
    return failed != 0 || cases == 0;
}
