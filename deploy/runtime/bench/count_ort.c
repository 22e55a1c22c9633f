/* Runs an ONNX file once in ONNX Runtime between the two markers of icount.c, one thread, 1 x 1 x HEIGHT x WIDTH.
 *
 *   count_ort LIBRARY MODEL.onnx HEIGHT WIDTH
 *
 * The library of its wheel comes without a header; what is used of its C interface is called by position in its table
 * of functions, which only ever grows at the end (its documentation promises that). The first run, which allocates, is
 * not counted.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__aarch64__)
#define START() __asm__ volatile("hint #45" ::: "memory")
#define STOP() __asm__ volatile("hint #46" ::: "memory")
#else
#define START() (void)0
#define STOP() (void)0
#endif

enum { API_VERSION = 17, FLOAT32 = 1, ALL_OPTIMISATIONS = 99, WARNING = 2, ARENA = 1, DEFAULT_MEMORY = 0 };

typedef struct {
    const void* const* (*table)(uint32_t version);
    const char* (*version)(void);
} api_base;

typedef const char* (*get_message_f)(const void* status);
typedef void* (*create_env_f)(int severity, const char* name, void** env);
typedef void* (*create_session_f)(void* env, const char* path, void* options, void** session);
typedef void* (*run_f)(void* session, void* options, const char* const* inputs, void* const* values, size_t count,
                       const char* const* outputs, size_t output_count, void** results);
typedef void* (*create_options_f)(void** options);
typedef void* (*set_int_f)(void* options, int value);
typedef void* (*create_tensor_f)(void* memory, void* data, size_t bytes, const int64_t* shape, size_t rank, int type,
                                 void** value);
typedef void* (*get_data_f)(void* value, void** data);
typedef void* (*create_memory_f)(int allocator, int kind, void** memory);

static const void* const* api;

static void require(void* status, const char* what) {
    if (status == NULL) return;
    fprintf(stderr, "count_ort: %s: %s\n", what, ((get_message_f)api[2])(status));
    exit(1);
}

int main(int argc, char** argv) {
    static const char* const input_name = "image";
    static const char* const output_name = "logits";
    const api_base* (*get_base)(void);
    void *library, *env, *options, *session, *memory, *input, *output = NULL, *logits;
    float* image;
    double sum = 0;
    int64_t shape[4] = {1, 1, 0, 0}, i;
    uint32_t state = 12345;
    if (argc != 5) {
        fputs("usage: count_ort LIBRARY MODEL.onnx HEIGHT WIDTH\n", stderr);
        return 2;
    }
    library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL || (*(void**)& get_base = dlsym(library, "OrtGetApiBase")) == NULL) {
        fprintf(stderr, "count_ort: %s\n", dlerror());
        return 1;
    }
    api = get_base()->table(API_VERSION);
    if (api == NULL) {
        fputs("count_ort: this library is too old\n", stderr);
        return 1;
    }
    shape[2] = atoi(argv[3]), shape[3] = atoi(argv[4]);
    require(((create_env_f)api[3])(WARNING, "count", &env), "environment");
    require(((create_options_f)api[10])(&options), "options");
    require(((set_int_f)api[23])(options, ALL_OPTIMISATIONS), "optimisation");
    require(((set_int_f)api[24])(options, 1), "threads");
    require(((create_session_f)api[7])(env, argv[2], options, &session), argv[2]);
    image = malloc((size_t)(shape[2] * shape[3]) * sizeof *image);
    if (image == NULL) return 1;
    for (i = 0; i < shape[2] * shape[3]; ++i) {
        state = state * 1664525u + 1013904223u;
        image[i] = (float)((int32_t)(state >> 8) - (1 << 23)) / (float)(1 << 23);
    }
    require(((create_memory_f)api[69])(ARENA, DEFAULT_MEMORY, &memory), "memory");
    require(((create_tensor_f)api[49])(memory, image, (size_t)(shape[2] * shape[3]) * sizeof *image, shape, 4, FLOAT32,
                                       &input),
            "input");
    require(((run_f)api[9])(session, NULL, &input_name, &input, 1, &output_name, 1, &output), "run");
    output = NULL;
    START();
    require(((run_f)api[9])(session, NULL, &input_name, &input, 1, &output_name, 1, &output), "run");
    STOP();
    require(((get_data_f)api[51])(output, &logits), "output");
    for (i = 0; i < shape[2] * shape[3]; ++i) sum += ((float*)logits)[i];
    printf("{\"version\": \"%s\", \"mean\": %.6f}\n", get_base()->version(), sum / (double)(shape[2] * shape[3]));
    return 0;
}
