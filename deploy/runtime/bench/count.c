/* Runs a model once between the two markers of icount.c, on an image that is the same everywhere.
 *
 *   count MODEL.uqm HEIGHT WIDTH [DEPTH]
 *
 * Prints the kernels' instruction set and the FNV-1a hash of the logits, so that machines can be compared.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unetq.h"

#if defined(__aarch64__)
#define START() __asm__ volatile("hint #45" ::: "memory")
#define STOP() __asm__ volatile("hint #46" ::: "memory")
#elif defined(__arm__)
#define START() __asm__ volatile("mov r10, r10" ::: "memory")
#define STOP() __asm__ volatile("mov r11, r11" ::: "memory")
#else
#define START() (void)0
#define STOP() (void)0
#endif

static int fail(const char* what) {
    fprintf(stderr, "count: %s: %s\n", what, uq_last_detail());
    return 1;
}

/* Rough noise in -1 ... 1 from a 32-bit generator. */
static void fill(float* image, uint64_t count) {
    uint32_t state = 12345;
    uint64_t i;
    for (i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        image[i] = (float)((int32_t)(state >> 8) - (1 << 23)) / (float)(1 << 23);
    }
}

static uint64_t hash(const float* values, uint64_t count) {
    const unsigned char* bytes = (const unsigned char*)values;
    uint64_t h = UINT64_C(14695981039346656037), i;
    for (i = 0; i < count * sizeof *values; ++i) h = (h ^ bytes[i]) * UINT64_C(1099511628211);
    return h;
}

int main(int argc, char** argv) {
    uq_model* model = NULL;
    uq_layout* layout = NULL;
    uq_model_info info;
    uq_layout_info plan;
    unsigned char* memory;
    void* arena;
    float *input, *output;
    uq_status status;
    if (argc < 4) {
        fputs("usage: count MODEL.uqm HEIGHT WIDTH [DEPTH]\n", stderr);
        return 2;
    }
    memset(&info, 0, sizeof info);
    memset(&plan, 0, sizeof plan);
    info.struct_bytes = sizeof info;
    plan.struct_bytes = sizeof plan;
    if (uq_model_open(argv[1], NULL, &model) != UQ_OK) return fail(argv[1]);
    if (uq_model_get_info(model, &info) != UQ_OK) return fail("info");
    if (uq_plan(model, argc > 4 ? (uint32_t)atoi(argv[4]) : 1, (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]),
                &layout) != UQ_OK)
        return fail("plan");
    if (uq_layout_get_info(layout, &plan) != UQ_OK) return fail("layout");
    memory = malloc((size_t)plan.arena_bytes + UQ_ARENA_ALIGNMENT);
    input = malloc((size_t)plan.input_count * sizeof *input);
    output = malloc((size_t)plan.output_count * sizeof *output);
    if (memory == NULL || input == NULL || output == NULL) {
        fputs("count: no memory\n", stderr);
        return 1;
    }
    arena = memory + (UQ_ARENA_ALIGNMENT - (uintptr_t)memory % UQ_ARENA_ALIGNMENT) % UQ_ARENA_ALIGNMENT;
    fill(input, plan.input_count);
    START();
    status = uq_run(layout, arena, plan.arena_bytes, input, plan.input_count, output, plan.output_count, NULL);
    STOP();
    if (status != UQ_OK) return fail("run");
    printf("{\"isa\": \"%s\", \"hash\": \"%016" PRIx64 "\", \"arena_bytes\": %" PRIu64 "}\n", info.isa,
           hash(output, plan.output_count), plan.arena_bytes);
    free(output);
    free(input);
    free(memory);
    uq_layout_free(layout);
    uq_model_close(model);
    return 0;
}
