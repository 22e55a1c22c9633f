/* unetq runtime: runs a packed low-bit segmentation network (.uqm). C99.
 *
 *   uq_model_open -> uq_model_get_info -> uq_plan -> uq_layout_get_info -> uq_run ... -> uq_layout_free ->
 * uq_model_close
 *
 * Every function that can fail returns a uq_status; uq_last_detail() then gives a sentence with the value, the rule
 * and the remedy. A model and a layout are constant after they are made: several threads may run one model at once,
 * each with an arena of its own. uq_run allocates nothing. Structs start with struct_bytes, which the caller sets to
 * sizeof the struct it was compiled with, so that later versions can add fields at the end.
 */
#ifndef UNETQ_H
#define UNETQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define UQ_API __attribute__((visibility("default")))
#else
#define UQ_API
#endif

/* Grows when a function or a field is added; the meaning of what exists does not change. */
#define UQ_API_VERSION 4
#define UQ_ARENA_ALIGNMENT 64
#define UQ_MODEL_ALIGNMENT 8
#define UQ_MAX_THREADS 64

typedef enum uq_status {
    UQ_OK = 0,
    UQ_BAD_ARGUMENT = 1,    /* a null pointer, a wrong struct_bytes, an index out of range */
    UQ_CANNOT_READ = 2,     /* the file is missing, unreadable, or cannot be mapped */
    UQ_DAMAGED = 3,         /* not a model, cut, a flipped bit, or a rule of the format broken */
    UQ_VERSION = 4,         /* a model file of another version */
    UQ_NO_MEMORY = 5,       /* the small tables of a model or a layout could not be allocated */
    UQ_BAD_SIZE = 6,        /* an image size the model does not accept, or too large for this machine */
    UQ_BAD_ARENA = 7,       /* the arena is too small or not aligned to UQ_ARENA_ALIGNMENT */
    UQ_BAD_BUFFER = 8,      /* the input or output buffer has another number of values than the layout */
    UQ_NOT_FINITE = 9,      /* NaN or infinity in the input */
    UQ_CANCELLED = 10,      /* the progress call-back asked to stop; the output is unspecified */
    UQ_UNKNOWN_ISA = 11,    /* UNETQ_ISA (or the isa argument) names no instruction set of this library */
    UQ_ISA_UNAVAILABLE = 12 /* the instruction set is known but this processor does not have it */
} uq_status;

typedef struct uq_model uq_model;   /* an opened, checked model */
typedef struct uq_layout uq_layout; /* where every tensor of a model lies in the arena, for one image size */
typedef struct uq_pool uq_pool;     /* threads that run an image together */

/* UQ_API_VERSION of the library. */
UQ_API uint32_t uq_api_version(void);

/* A short constant English text for a status; never NULL. */
UQ_API const char* uq_status_text(uq_status status);

/* The instruction sets of this library that this processor has, from the least (index 0, "scalar") to the best;
 * NULL behind the last. */
UQ_API const char* uq_available_isa(uint32_t index);

/* What the last failing call on this thread found: value, rule, remedy. Valid until this thread's next failing call. */
UQ_API const char* uq_last_detail(void);

/* Maps the file at path, checks it whole, and chooses the kernels.
 * isa: "scalar", "neon", "dotprod", "i8mm", "avx2", "avxvnni", "avx512vnni", "amx" or NULL; NULL takes the environment
 * variable UNETQ_ISA, or else the best the processor has. The file must not be changed while the model is open. On
 * failure *model is NULL. Returns UQ_OK, UQ_BAD_ARGUMENT, UQ_CANNOT_READ, UQ_DAMAGED, UQ_VERSION, UQ_NO_MEMORY,
 * UQ_UNKNOWN_ISA or UQ_ISA_UNAVAILABLE. */
UQ_API uq_status uq_model_open(const char* path, const char* isa, uq_model** model);

/* The same from bytes in memory, which are borrowed: they must stay unchanged until uq_model_close.
 * data must be aligned to UQ_MODEL_ALIGNMENT. */
UQ_API uq_status uq_model_open_memory(const void* data, size_t bytes, const char* isa, uq_model** model);

/* Frees a model; NULL is allowed. Layouts made from it must be freed before. */
UQ_API void uq_model_close(uq_model* model);

typedef enum uq_normalize { UQ_NORMALIZE_NONE = 0, UQ_NORMALIZE_ZSCORE = 1, UQ_NORMALIZE_WINDOW = 2 } uq_normalize;

typedef struct uq_model_info {
    size_t struct_bytes;
    const char* name; /* UTF-8, lives as long as the model, as all strings below */
    const char* isa;  /* the kernels chosen */
    uint64_t file_bytes;
    uint64_t weight_bytes; /* packed weights alone */
    uint32_t spatial_rank; /* 2 or 3; a 2-D model has depth 1 */
    uint32_t input_channels;
    uint32_t output_channels;   /* 1: class 1 where the logit is above 0; K: the first largest of K */
    uint32_t input_multiple[3]; /* depth, height, width: a size is accepted when it is a positive multiple ... */
    uint32_t fixed_size[3];     /* ... or, where these are not 0, exactly this */
    uint32_t tensor_count;
    uint32_t op_count;
    uint32_t label_count;
    uint32_t normalize; /* uq_normalize: how raw intensities become the input, a channel of one image at a time */
    double window_low;  /* UQ_NORMALIZE_WINDOW: (clip(x, low, high) - low) / (high - low) in double */
    double window_high;
    const char* provenance; /* JSON, not terminated */
    uint64_t provenance_bytes;
    /* How a volume becomes the input, beside normalize; FORMAT.md has the arithmetic. Since version 4. */
    const char* orientation; /* "", or three letters: where rows, columns and slices increase to, such as "RAS" */
    double spacing[3];       /* slices, rows, columns: mm that the network sees; 0: as stored */
    uint32_t context;        /* 2-D: neighbour slices on each side, as channels */
    uint32_t over_volume;    /* UQ_NORMALIZE_ZSCORE of a 2-D model: 1: the statistics are those of the whole volume */
    uint32_t window[3];      /* pixels that the network sees at once; all 0: the whole image (depth 0 in 2-D) */
    double overlap;          /* of windows, 0 to 0.9 */
} uq_model_info;

/* Fills *info, as far as its struct_bytes say that it goes. Returns UQ_OK or UQ_BAD_ARGUMENT. */
UQ_API uq_status uq_model_get_info(const uq_model* model, uq_model_info* info);

/* The name of class index and the value it has in a mask. Either pointer may be NULL. */
UQ_API uq_status uq_model_get_label(const uq_model* model, uint32_t index, const char** name, int32_t* value);

typedef struct uq_tensor_info {
    size_t struct_bytes;
    const char* name;
    uint32_t channels;
    uint32_t bits;       /* 1 to 8, or 32 for float32 */
    uint32_t is_signed;  /* codes only */
    float scale;         /* codes only: value = (code - zero_point) * scale; 1 where is_dynamic */
    int32_t zero_point;  /* codes only: the code of the value 0. Since version 3, as is_dynamic */
    uint32_t is_dynamic; /* codes only: the scale is found for each image */
} uq_tensor_info;

/* Fills *info for tensor index, as far as its struct_bytes say that it goes. Returns UQ_OK or UQ_BAD_ARGUMENT. */
UQ_API uq_status uq_model_get_tensor(const uq_model* model, uint32_t index, uq_tensor_info* info);

typedef struct uq_op_info {
    size_t struct_bytes;
    const char* name; /* lives as long as the model, as all strings below */
    const char* kind;
    const char* scheme; /* of a convolution: how it is computed; else "" */
    const char* kernel; /* of a convolution: the micro-kernel; else "" */
    const char* reason; /* of a convolution: why this scheme; else "" */
} uq_op_info;

/* Fills *info for operation index. Returns UQ_OK or UQ_BAD_ARGUMENT. Since version 2. */
UQ_API uq_status uq_model_get_op(const uq_model* model, uint32_t index, uq_op_info* info);

/* Plans the arena for images of depth x height x width (depth 1 for a 2-D model). Only small tables are allocated,
 * no image memory. On failure *layout is NULL.
 * Returns UQ_OK, UQ_BAD_ARGUMENT, UQ_BAD_SIZE or UQ_NO_MEMORY. */
UQ_API uq_status uq_plan(const uq_model* model, uint32_t depth, uint32_t height, uint32_t width, uq_layout** layout);

/* The same for runs on several threads, 1 to UQ_MAX_THREADS (else UQ_BAD_ARGUMENT). Each takes some working memory, and
 * only one thread alone can write results over what it has read. Results do not depend on the number of threads.
 * uq_plan plans for one. Since version 2. */
UQ_API uq_status uq_plan_threads(const uq_model* model, uint32_t depth, uint32_t height, uint32_t width,
                                 uint32_t threads, uq_layout** layout);

/* Starts threads - 1 threads, 1 to UQ_MAX_THREADS with the caller's. One run at a time may use a pool.
 * Returns UQ_OK, UQ_BAD_ARGUMENT or UQ_NO_MEMORY. Since version 2. */
UQ_API uq_status uq_pool_open(uint32_t threads, uq_pool** pool);

/* Stops and frees the threads; NULL is allowed. */
UQ_API void uq_pool_close(uq_pool* pool);

/* Frees a layout; NULL is allowed. */
UQ_API void uq_layout_free(uq_layout* layout);

typedef struct uq_layout_info {
    size_t struct_bytes;
    uint64_t arena_bytes;       /* exactly what uq_run needs */
    uint64_t peak_tensor_bytes; /* the largest sum of tensors alive at one operation, without working memory */
    uint64_t peak_work_bytes;   /* the largest working memory of one operation */
    uint64_t trace_bytes;       /* buffer needed where on_tensor is used */
    uint64_t work_units;        /* what on_progress counts up to */
    uint64_t input_count;       /* float32 values: channels * depth * height * width */
    uint64_t output_count;
    uint32_t input_size[3]; /* depth, height, width */
    uint32_t output_size[3];
} uq_layout_info;

/* Fills *info. Returns UQ_OK or UQ_BAD_ARGUMENT. */
UQ_API uq_status uq_layout_get_info(const uq_layout* layout, uq_layout_info* info);

/* Size (depth, height, width) and bytes of tensor index in this layout; all 0 for one that no operation makes.
 * Either pointer may be NULL. */
UQ_API uq_status uq_layout_get_tensor(const uq_layout* layout, uint32_t index, uint32_t size[3], uint64_t* bytes);

/* One finished tensor: exactly one of codes and values is not NULL, (channels, depth, height, width), width innermost.
 */
typedef struct uq_tensor_view {
    uint32_t op;
    uint32_t tensor;
    uint32_t channels;
    uint32_t size[3];
    const int16_t* codes;
    const float* values;
} uq_tensor_view;

typedef struct uq_run_options {
    size_t struct_bytes;
    void* user; /* handed to the call-backs */
    /* Called after each operation with its result, valid during the call. Needs trace_buffer. */
    void (*on_tensor)(void* user, const uq_tensor_view* tensor);
    void* trace_buffer; /* at least trace_bytes of the layout, aligned to 4 */
    uint64_t trace_buffer_bytes;
    /* Called often, with done rising to total; a result other than 0 cancels the run. */
    int (*on_progress)(void* user, uint64_t done, uint64_t total);
    /* Threads to run on, at least as many as the layout was planned for; NULL: the calling thread alone, which then
     * does the parts of all. Call-backs are called on the calling thread. Since version 2. */
    uq_pool* pool;
} uq_run_options;

/* Runs one image.
 * arena: at least arena_bytes, aligned to UQ_ARENA_ALIGNMENT; its content before and after does not matter.
 * input: (channels, depth, height, width) float32, preprocessed. output: logits in the same order. They may not
 * overlap. options: NULL for none. Returns UQ_OK, UQ_BAD_ARGUMENT, UQ_BAD_ARENA, UQ_BAD_BUFFER, UQ_NOT_FINITE or
 * UQ_CANCELLED. */
UQ_API uq_status uq_run(const uq_layout* layout, void* arena, uint64_t arena_bytes, const float* input,
                        uint64_t input_count, float* output, uint64_t output_count, const uq_run_options* options);

#ifdef __cplusplus
}
#endif

#endif
