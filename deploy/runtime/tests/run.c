/* The C face from C99. Without arguments: every misuse gives its status. With MODEL DEPTH HEIGHT WIDTH OUT: runs a
 * deterministic image, proves that uq_run allocates nothing, and writes the logits to OUT as raw float32. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unetq.h"

static int failures = 0;
static unsigned long allocations = 0;

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* The program's own allocator wins over the C library's, for the shared library too; a sanitizer brings its own. */
extern void* __libc_malloc(size_t bytes);
extern void* __libc_calloc(size_t count, size_t bytes);
extern void* __libc_realloc(void* old, size_t bytes);
void* malloc(size_t bytes) {
    ++allocations;
    return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
    ++allocations;
    return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) {
    ++allocations;
    return __libc_realloc(old, bytes);
}
#endif

static void expect(uq_status found, uq_status wanted, const char* what) {
    if (found == wanted && (found == UQ_OK || uq_last_detail()[0] != 0)) return;
    ++failures;
    fprintf(stderr, "%s: status %d (%s), expected %d (%s); %s\n", what, (int)found, uq_status_text(found), (int)wanted,
            uq_status_text(wanted), uq_last_detail());
}

static int misuse(void) {
    static uint64_t room[32];
    uq_model* model = NULL;
    uq_layout* layout = NULL;
    uq_model_info info;
    int status;
    expect(uq_model_open(NULL, NULL, &model), UQ_BAD_ARGUMENT, "open NULL");
    expect(uq_model_open("/nowhere/at/all.uqm", NULL, &model), UQ_CANNOT_READ, "open a missing file");
    expect(uq_model_open("/", NULL, &model), UQ_CANNOT_READ, "open a folder");
    expect(uq_model_open_memory(room, sizeof room, NULL, &model), UQ_DAMAGED, "open zeros");
    expect(uq_model_open_memory(room, 3, NULL, &model), UQ_DAMAGED, "open 3 bytes");
    expect(uq_model_open_memory((const char*)room + 1, 64, NULL, &model), UQ_BAD_ARGUMENT, "open misaligned memory");
    expect(uq_model_open_memory(room, sizeof room, "mmx", &model), UQ_UNKNOWN_ISA, "open with an unknown ISA");
    expect(uq_plan(NULL, 1, 8, 8, &layout), UQ_BAD_ARGUMENT, "plan without a model");
    expect(uq_model_get_info(NULL, &info), UQ_BAD_ARGUMENT, "info without a model");
    expect(uq_run(NULL, NULL, 0, NULL, 0, NULL, 0, NULL), UQ_BAD_ARGUMENT, "run without a layout");
    uq_model_close(NULL);
    uq_layout_free(NULL);
    for (status = 0; status <= UQ_ISA_UNAVAILABLE + 1; ++status)
        if (uq_status_text((uq_status)status) == NULL) ++failures;
    if (uq_api_version() != UQ_API_VERSION) ++failures;
    printf("misuse: %d failures\n", failures);
    return failures != 0;
}

static int cancel(void* user, uint64_t done, uint64_t total) {
    (void)user;
    return done > 0 && total > 0;
}

static void* aligned(void* block) {
    uintptr_t at = (uintptr_t)block;
    return (char*)block + (UQ_ARENA_ALIGNMENT - at % UQ_ARENA_ALIGNMENT) % UQ_ARENA_ALIGNMENT;
}

static int run(char** argument) {
    uq_model* model = NULL;
    uq_layout* layout = NULL;
    uq_model_info about;
    uq_layout_info info;
    uq_run_options options;
    unsigned long before;
    uint64_t i;
    char* block;
    void* arena;
    float *input, *output;
    FILE* file;
    expect(uq_model_open(argument[0], NULL, &model), UQ_OK, "open");
    if (!model) return 1;
    memset(&about, 0, sizeof about);
    expect(uq_model_get_info(model, &about), UQ_BAD_ARGUMENT, "info without struct_bytes");
    about.struct_bytes = sizeof about;
    expect(uq_model_get_info(model, &about), UQ_OK, "info");
    expect(uq_plan(model, 0, 0, 0, &layout), UQ_BAD_SIZE, "plan nothing");
    expect(
        uq_plan(model, (uint32_t)atoi(argument[1]), (uint32_t)atoi(argument[2]), (uint32_t)atoi(argument[3]), &layout),
        UQ_OK, "plan");
    if (!layout) return 1;
    info.struct_bytes = sizeof info;
    expect(uq_layout_get_info(layout, &info), UQ_OK, "layout info");
    block = malloc((size_t)info.arena_bytes + 2 * UQ_ARENA_ALIGNMENT);
    input = malloc((size_t)info.input_count * sizeof *input);
    output = malloc((size_t)info.output_count * sizeof *output);
    if (!block || !input || !output) return 1;
    arena = aligned(block);
    memset(block, 0xA5, (size_t)info.arena_bytes + 2 * UQ_ARENA_ALIGNMENT);
    for (i = 0; i < info.input_count; ++i) input[i] = (float)((i * 2654435761u) % 4096u) / 512.0f - 4.0f;
    expect(uq_run(layout, arena, info.arena_bytes - 1, input, info.input_count, output, info.output_count, NULL),
           UQ_BAD_ARENA, "small");
    expect(uq_run(layout, (char*)arena + 4, info.arena_bytes, input, info.input_count, output, info.output_count, NULL),
           UQ_BAD_ARENA, "misaligned");
    expect(uq_run(layout, arena, info.arena_bytes, input, info.input_count + 1, output, info.output_count, NULL),
           UQ_BAD_BUFFER, "input");
    memset(&options, 0, sizeof options);
    options.struct_bytes = sizeof options;
    options.on_progress = cancel;
    expect(uq_run(layout, arena, info.arena_bytes, input, info.input_count, output, info.output_count, &options),
           UQ_CANCELLED, "cancel");
    before = allocations;
    expect(uq_run(layout, arena, info.arena_bytes, input, info.input_count, output, info.output_count, NULL), UQ_OK,
           "run");
    if (allocations != before) {
        ++failures;
        fprintf(stderr, "uq_run allocated %lu times\n", allocations - before);
    }
    for (i = info.arena_bytes; i < info.arena_bytes + UQ_ARENA_ALIGNMENT; ++i)
        if (((unsigned char*)arena)[i] != 0xA5) {
            ++failures;
            fprintf(stderr, "uq_run wrote behind the arena, at byte %lu\n", (unsigned long)i);
            break;
        }
    file = fopen(argument[4], "wb");
    if (!file || fwrite(output, sizeof *output, (size_t)info.output_count, file) != info.output_count ||
        fclose(file) != 0)
        ++failures;
    printf("%s on %s: arena %lu bytes, %d failures\n", about.name, about.isa, (unsigned long)info.arena_bytes,
           failures);
    uq_layout_free(layout);
    uq_model_close(model);
    free(block);
    free(input);
    free(output);
    return failures != 0;
}

int main(int count, char** argument) {
    if (count == 1) return misuse();
    if (count == 6) return run(argument + 1);
    fprintf(stderr, "usage: %s [MODEL DEPTH HEIGHT WIDTH OUT]\n", argument[0]);
    return 2;
}
