/* Everything that a caller can do wrong with a good model: a status, a sentence with a remedy, and no harm done.
 * usage: errors MODEL, a 2-D one that takes several sizes. Also for 32-bit processors, where sizes overflow sooner. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unetq.h"

static int failures = 0;

static void fail(const char* what, const char* why) {
    ++failures;
    fprintf(stderr, "%s: %s; detail: %s\n", what, why, uq_last_detail());
}

static int has_remedy(void) {
    const char* last = strstr(uq_last_detail(), ". ");
    return strstr(uq_last_detail(), "; set it to ") ||
           (last && last[2] >= 'A' && last[2] <= 'Z' && last[strlen(last) - 1] == '.');
}

static void expect(uq_status found, uq_status wanted, const char* what) {
    if (found != wanted) {
        fprintf(stderr, "status %d (%s) in place of %d (%s)\n", (int)found, uq_status_text(found), (int)wanted,
                uq_status_text(wanted));
        fail(what, "another status");
    } else if (found != UQ_OK && !has_remedy()) {
        fail(what, "no sentence with a remedy");
    }
}

/* A size is refused, or its plan can be addressed by this machine. 1: it was accepted. */
static int plan_or_refuse(const uq_model* model, uint32_t depth, uint32_t height, uint32_t width, const char* what) {
    uq_layout* layout = NULL;
    uq_layout_info info;
    uq_status status = uq_plan(model, depth, height, width, &layout);
    if (status != UQ_OK) {
        expect(status, UQ_BAD_SIZE, what);
        if (layout) fail(what, "a layout beside a refusal");
        return 0;
    }
    info.struct_bytes = sizeof info;
    expect(uq_layout_get_info(layout, &info), UQ_OK, what);
    if (info.arena_bytes > SIZE_MAX / 2 || info.input_count > SIZE_MAX / sizeof(float) / 2 ||
        info.output_count > SIZE_MAX / sizeof(float) / 2)
        fail(what, "a plan that this machine cannot address");
    uq_layout_free(layout);
    return 1;
}

static void sizes(const uq_model* model, const uint32_t multiple[3]) {
    const uint32_t m = multiple[2], edge = ((1u << 20) / m + 1) * m;
    int accepted = 1;
    uint32_t shift;
    expect(uq_plan(model, 1, multiple[1], m, NULL), UQ_BAD_ARGUMENT, "a plan to NULL");
    if (plan_or_refuse(model, 0, multiple[1], m, "depth 0") || plan_or_refuse(model, 1, 0, m, "height 0") ||
        plan_or_refuse(model, 1, multiple[1], 0, "width 0") || plan_or_refuse(model, 2, multiple[1], m, "two slices") ||
        plan_or_refuse(model, 1, edge, m, "height beyond the limit") ||
        plan_or_refuse(model, 1, multiple[1], edge, "width beyond the limit") ||
        plan_or_refuse(model, 1, UINT32_MAX, UINT32_MAX, "the largest numbers") ||
        plan_or_refuse(model, UINT32_MAX, multiple[1], m, "the largest depth"))
        fail("sizes", "one that is not allowed was accepted");
    for (shift = 0; (m << shift) <= 1u << 20; ++shift) { /* up to 2^40 pixels: the product leaves 32 bits on the way */
        const int now = plan_or_refuse(model, 1, multiple[1] << shift, m << shift, "a growing square");
        if (now && !accepted) fail("a growing square", "accepted behind a smaller one that was refused");
        accepted = now;
    }
    if (sizeof(size_t) == 4 && accepted) fail("2^40 pixels", "accepted on a 32-bit machine");
}

struct Buffers {
    char* arena;
    uint64_t arena_bytes;
    float* input;
    uint64_t inputs;
    float* output;
    uint64_t outputs;
};

static uq_status run(const uq_layout* layout, const struct Buffers* b, const uq_run_options* options) {
    return uq_run(layout, b->arena, b->arena_bytes, b->input, b->inputs, b->output, b->outputs, options);
}

static void no_callback(void* user, const uq_tensor_view* tensor) {
    (void)user;
    (void)tensor;
}

static void runs(const uq_layout* layout, const struct Buffers* good) {
    const double bad[3] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    struct Buffers b = *good;
    uq_run_options options;
    int i, at;
    b.arena = NULL;
    expect(run(layout, &b, NULL), UQ_BAD_ARENA, "no arena");
    b.arena = good->arena + 1;
    expect(run(layout, &b, NULL), UQ_BAD_ARENA, "an arena at an odd address");
    b.arena = good->arena + UQ_ARENA_ALIGNMENT / 2;
    expect(run(layout, &b, NULL), UQ_BAD_ARENA, "an arena at half the alignment");
    b = *good;
    b.arena_bytes = good->arena_bytes - 1;
    expect(run(layout, &b, NULL), UQ_BAD_ARENA, "an arena of a byte less");
    b.arena_bytes = 0;
    expect(run(layout, &b, NULL), UQ_BAD_ARENA, "an arena of no bytes");
    b = *good;
    b.input = NULL;
    expect(run(layout, &b, NULL), UQ_BAD_ARGUMENT, "no input");
    b = *good;
    b.output = NULL;
    expect(run(layout, &b, NULL), UQ_BAD_ARGUMENT, "no output");
    expect(run(NULL, good, NULL), UQ_BAD_ARGUMENT, "no layout");
    b = *good;
    b.inputs -= 1;
    expect(run(layout, &b, NULL), UQ_BAD_BUFFER, "an input too short");
    b = *good;
    b.outputs += 1;
    expect(run(layout, &b, NULL), UQ_BAD_BUFFER, "an output too long");
    b = *good;
    b.input = (float*)(void*)((char*)good->input + 1);
    expect(run(layout, &b, NULL), UQ_BAD_BUFFER, "an input at an odd address");
    memset(&options, 0, sizeof options);
    expect(run(layout, good, &options), UQ_BAD_ARGUMENT, "options without struct_bytes");
    options.struct_bytes = sizeof options;
    options.on_tensor = no_callback;
    expect(run(layout, good, &options), UQ_BAD_ARGUMENT, "on_tensor without a buffer");
    for (i = 0; i < 3; ++i) {
        for (at = 0; at < 2; ++at) {
            float* place = good->input + (at ? good->inputs - 1 : 0);
            *place = (float)bad[i];
            expect(run(layout, good, NULL), UQ_NOT_FINITE, "NaN or infinity");
            *place = 0.0f;
        }
    }
    expect(run(layout, good, NULL), UQ_OK, "a good run behind all refusals");
}

static void threads(const uq_model* model, const uint32_t multiple[3]) {
#if UQ_API_VERSION >= 2
    const uint32_t counts[3] = {0, UQ_MAX_THREADS + 1, UINT32_MAX};
    uq_layout* layout = NULL;
    uq_pool* pool = NULL;
    int i;
    for (i = 0; i < 3; ++i) {
        expect(uq_plan_threads(model, 1, multiple[1], multiple[2], counts[i], &layout), UQ_BAD_ARGUMENT,
               "plan threads");
        expect(uq_pool_open(counts[i], &pool), UQ_BAD_ARGUMENT, "pool threads");
        if (layout || pool) fail("threads", "something was made beside a refusal");
    }
    expect(uq_plan_threads(NULL, 1, 8, 8, 1, &layout), UQ_BAD_ARGUMENT, "plan threads without a model");
    expect(uq_pool_open(1, NULL), UQ_BAD_ARGUMENT, "a pool to NULL");
    uq_pool_close(NULL);
#else
    (void)model;
    (void)multiple;
#endif
}

#if UQ_API_VERSION >= 2
static void small_pool(const uq_model* model, const uint32_t multiple[3], const struct Buffers* one) {
    struct Buffers b = *one;
    uq_layout* layout = NULL;
    uq_pool* pool = NULL;
    uq_layout_info info;
    uq_run_options options;
    void* room;
    expect(uq_plan_threads(model, 1, multiple[1], multiple[2], 3, &layout), UQ_OK, "plan 3 threads");
    expect(uq_pool_open(2, &pool), UQ_OK, "a pool of 2");
    if (!layout || !pool) return;
    info.struct_bytes = sizeof info;
    expect(uq_layout_get_info(layout, &info), UQ_OK, "layout info");
    room = malloc((size_t)info.arena_bytes + UQ_ARENA_ALIGNMENT);
    if (room) {
        b.arena = (char*)room + (UQ_ARENA_ALIGNMENT - (uintptr_t)room % UQ_ARENA_ALIGNMENT) % UQ_ARENA_ALIGNMENT;
        b.arena_bytes = info.arena_bytes;
        memset(&options, 0, sizeof options);
        options.struct_bytes = sizeof options;
        options.pool = pool;
        expect(run(layout, &b, &options), UQ_BAD_ARGUMENT, "a pool smaller than the plan");
        options.pool = NULL;
        expect(run(layout, &b, &options), UQ_OK, "no pool for a plan of 3");
    }
    free(room);
    uq_pool_close(pool);
    uq_layout_free(layout);
}
#endif

static void indices(const uq_model* model, const uq_layout* layout, const uq_model_info* about) {
    uq_tensor_info tensor;
    uq_model_info info;
    memset(&tensor, 0, sizeof tensor);
    memset(&info, 0, sizeof info);
    expect(uq_model_get_info(model, &info), UQ_BAD_ARGUMENT, "info without struct_bytes");
    expect(uq_model_get_tensor(model, 0, &tensor), UQ_BAD_ARGUMENT, "tensor info without struct_bytes");
    tensor.struct_bytes = sizeof tensor;
    expect(uq_model_get_tensor(model, about->tensor_count, &tensor), UQ_BAD_ARGUMENT, "a tensor too many");
#if UQ_API_VERSION >= 3
    tensor.zero_point = 77; /* a caller of version 2 has no such field */
    tensor.struct_bytes = offsetof(uq_tensor_info, zero_point);
    expect(uq_model_get_tensor(model, 0, &tensor), UQ_OK, "tensor info of version 2");
    if (!tensor.name || tensor.zero_point != 77) fail("tensor info of version 2", "another field was written");
    tensor.struct_bytes = sizeof tensor;
    expect(uq_model_get_tensor(model, 0, &tensor), UQ_OK, "tensor info of version 3");
    if (tensor.zero_point != 0) fail("tensor info of version 3", "the zero-point was not written");
#endif
#if UQ_API_VERSION >= 4
    info.overlap = 77; /* a caller of version 3 has no such field */
    info.struct_bytes = offsetof(uq_model_info, orientation);
    expect(uq_model_get_info(model, &info), UQ_OK, "model info of version 3");
    if (!info.name || info.overlap != 77) fail("model info of version 3", "another field was written");
    info.struct_bytes = sizeof info;
    expect(uq_model_get_info(model, &info), UQ_OK, "model info of version 4");
    if (info.overlap != 0.25 || info.orientation[0] || info.window[2] || info.spacing[1] != 0 || info.context)
        fail("model info of version 4", "an older file has no geometry and an overlap of 0.25");
#endif
    expect(uq_model_get_label(model, UINT32_MAX, NULL, NULL), UQ_BAD_ARGUMENT, "a label too many");
    expect(uq_layout_get_tensor(layout, about->tensor_count, NULL, NULL), UQ_BAD_ARGUMENT, "a place too many");
    expect(uq_layout_get_tensor(NULL, 0, NULL, NULL), UQ_BAD_ARGUMENT, "a place of nothing");
#if UQ_API_VERSION >= 2
    {
        uq_op_info op;
        memset(&op, 0, sizeof op);
        expect(uq_model_get_op(model, 0, &op), UQ_BAD_ARGUMENT, "op info without struct_bytes");
        op.struct_bytes = sizeof op;
        expect(uq_model_get_op(model, about->op_count, &op), UQ_BAD_ARGUMENT, "an operation too many");
    }
#endif
}

int main(int count, char** argument) {
    uq_model* model = NULL;
    uq_layout* layout = NULL;
    uq_model_info about;
    uq_layout_info info;
    struct Buffers b;
    void* room;
    if (count != 2) {
        fprintf(stderr, "usage: %s MODEL\n", argument[0]);
        return 2;
    }
    expect(uq_model_open(argument[1], "mmx", &model), UQ_UNKNOWN_ISA, "an unknown instruction set");
    expect(uq_model_open(argument[1], NULL, &model), UQ_OK, "open");
    if (!model) return 1;
    about.struct_bytes = sizeof about;
    expect(uq_model_get_info(model, &about), UQ_OK, "info");
    sizes(model, about.input_multiple);
    threads(model, about.input_multiple);
    expect(uq_plan(model, 1, about.input_multiple[1], about.input_multiple[2], &layout), UQ_OK, "plan");
    if (!layout) return 1;
    info.struct_bytes = sizeof info;
    expect(uq_layout_get_info(layout, &info), UQ_OK, "layout info");
    indices(model, layout, &about);
    room = malloc((size_t)info.arena_bytes + 2 * UQ_ARENA_ALIGNMENT);
    b.input = calloc((size_t)info.input_count + 1, sizeof(float));
    b.output = calloc((size_t)info.output_count + 1, sizeof(float));
    if (!room || !b.input || !b.output) return 1;
    b.arena = (char*)room + (UQ_ARENA_ALIGNMENT - (uintptr_t)room % UQ_ARENA_ALIGNMENT) % UQ_ARENA_ALIGNMENT;
    b.arena_bytes = info.arena_bytes;
    b.inputs = info.input_count;
    b.outputs = info.output_count;
    runs(layout, &b);
#if UQ_API_VERSION >= 2
    small_pool(model, about.input_multiple, &b);
#endif
    uq_layout_free(layout);
    uq_model_close(model);
    free(room);
    free(b.input);
    free(b.output);
    printf("errors on %u bits: %d failures\n", (unsigned)(8 * sizeof(size_t)), failures);
    return failures != 0;
}
