/* Counts the pixels of each label. Input: raw float32, preprocessed, (channels, depth, height, width). */
#include <stdio.h>
#include <stdlib.h>

#include "unetq.h"

#define TRY(call) \
    if ((call) != UQ_OK) return fprintf(stderr, "%s\n", uq_last_detail()), 1

int main(int argc, char** argv) {
    uq_model* model = NULL;
    uq_layout* layout = NULL;
    uq_model_info about = {.struct_bytes = sizeof about};
    uq_layout_info plan = {.struct_bytes = sizeof plan};
    if (argc != 6) return fprintf(stderr, "usage: example MODEL.uqm INPUT.f32 DEPTH HEIGHT WIDTH\n"), 2;
    TRY(uq_model_open(argv[1], NULL, &model));
    TRY(uq_model_get_info(model, &about));
    TRY(uq_plan(model, atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), &layout));
    TRY(uq_layout_get_info(layout, &plan));
    char* memory = malloc(plan.arena_bytes + UQ_ARENA_ALIGNMENT); /* all that uq_run needs */
    float* input = malloc(plan.input_count * sizeof *input);
    float* logits = malloc(plan.output_count * sizeof *logits);
    size_t *counts = calloc(about.label_count, sizeof *counts), pixels = plan.output_count / about.output_channels;
    if (!memory || !input || !logits || !counts) return fprintf(stderr, "not enough memory\n"), 1;
    FILE* file = fopen(argv[2], "rb");
    if (!file || fread(input, sizeof *input, plan.input_count, file) != plan.input_count)
        return fprintf(stderr, "%s: not %lu float32 values\n", argv[2], (unsigned long)plan.input_count), 1;
    void* arena = memory + UQ_ARENA_ALIGNMENT - (size_t)memory % UQ_ARENA_ALIGNMENT;
    TRY(uq_run(layout, arena, plan.arena_bytes, input, plan.input_count, logits, plan.output_count, NULL));
    for (size_t i = 0; i < pixels; ++i) {
        size_t best = about.output_channels == 1 ? logits[i] > 0 : 0; /* one logit a pixel, or the largest of many */
        for (size_t c = 1; c < about.output_channels; ++c)
            if (logits[c * pixels + i] > logits[best * pixels + i]) best = c;
        ++counts[best];
    }
    for (uint32_t c = 0; c < about.label_count; ++c) {
        const char* name = NULL;
        TRY(uq_model_get_label(model, c, &name, NULL));
        printf("%s: %lu\n", name, (unsigned long)counts[c]);
    }
    return 0; /* a longer program would call uq_layout_free and uq_model_close */
}
