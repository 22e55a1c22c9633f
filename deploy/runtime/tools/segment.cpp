// The whole way: the image is looked at, the model opened, both laid over each other (plan.h), and every part goes
// through the network into the mask.
#include "segment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "logits.h"
#include "mask.h"

namespace tool {
namespace {

constexpr double kSameSpacing = 1e-3;  // by how much of itself a spacing told by hand may differ

enum Phase { kLoad, kPreprocess, kRun, kWrite, kPhases };

struct Job {
    const Options* options;
    Image image;
    Network network;
    Mask mask;
    Plan plan;
    Passage passage;
    uint64_t beside;      // bytes of passage
    uint8_t values[256];  // in the mask, of each class
    float* slice;         // of the first look at the image
    double seconds[kPhases];
    double since;
};

double now() {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The time since the last call belongs to phase.
void spend(Job* job, Phase phase) {
    const double time = now();
    job->seconds[phase] += time - job->since;
    job->since = time;
}

// The whole image is read once before anything is computed, so that a damaged one costs no time and no memory.
Exit look_at_image(Job* job) {
    TOOL_TRY(open_image(job->options->image, &job->image));
    Kind kind;
    TOOL_TRY(check_output(job->options->out, job->image, job->options->model, &kind));
    const uint64_t pixels = static_cast<uint64_t>(job->image.height) * job->image.width;
    const uint64_t available = available_memory();
    if (pixels < SIZE_MAX / 8 && (available == 0 || pixels * sizeof(float) <= available))
        job->slice = static_cast<float*>(malloc(static_cast<size_t>(pixels) * sizeof(float)));
    if (!job->slice)
        return fail(kRuntime, "not enough memory for a slice of %u x %u pixels; cut the image into parts.",
                    job->image.height, job->image.width);
    TOOL_TRY(check_image(&job->image, job->slice));
    free(job->slice);
    job->slice = nullptr;
    job->mask.kind = kind;
    return kDone;
}

Exit read_labels(Job* job) {
    const uq_model_info& info = job->network.info;
    const uint32_t taken = info.input_channels / (2 * info.context + 1);
    if (taken != job->image.channels || (info.context && taken != 1))
        return fail(
            kUnsupported,
            "the model takes %u channels and the image gives %u (grey gives 1): they must be equal; use a NIfTI "
            "file of all channels, or the library (unetq.h) with an array of them.",
            taken, job->image.channels);
    const uint32_t classes = info.output_channels == 1 ? 2 : info.output_channels;
    if (classes > 256 || info.label_count < classes)
        return fail(kUnsupported,
                    "the model has %u classes and %u labels: a mask holds at most 256; export it with fewer.", classes,
                    info.label_count);
    for (uint32_t i = 0; i < info.label_count; ++i) {
        const char* name = "";
        int32_t value = 0;
        if (uq_model_get_label(job->network.model, i, &name, &value) != UQ_OK || value < 0 || value > 255)
            return fail(kUnsupported,
                        "label '%.80s' has the value %d: a mask is uint8, 0 to 255; export the model with such values.",
                        name, value);
        if (i < classes) job->values[i] = static_cast<uint8_t>(value);
    }
    return kDone;
}

// What the command line says of the image's geometry, where the file does not.
Exit take_given(Job* job) {
    const Options& options = *job->options;
    Geometry& place = job->image.geometry;
    const char* path = options.image;
    if (options.axes && *place.axes && strcmp(options.axes, place.axes) != 0)
        return fail(kUsage, "--axes %.3s is given and %.400s says %.3s; leave it out.", options.axes, path, place.axes);
    if (options.axes) memcpy(place.axes, options.axes, sizeof place.axes);
    const double* given = options.spacing;
    if (!(given[0] > 0)) return kDone;
    for (unsigned a = 0; a < 3; ++a)
        if (place.sized && fabs(given[a] - place.spacing[a]) > kSameSpacing * place.spacing[a])
            return fail(kUsage, "--spacing %g,%g,%g is given and %.400s says %g,%g,%g mm; leave it out.", given[0],
                        given[1], given[2], path, place.spacing[0], place.spacing[1], place.spacing[2]);
    if (!place.sized) memcpy(place.spacing, given, sizeof place.spacing);
    place.sized = true;
    return kDone;
}

Exit prepare(Job* job) {
    TOOL_TRY(open_network(job->options->model, job->options->isa, &job->network));
    TOOL_TRY(read_labels(job));
    Network& n = job->network;
    Plan& plan = job->plan;
    TOOL_TRY(plan_image(job->image, n.info, job->options->allow_small, &plan));
    TOOL_TRY(plan_network(plan.tiles.call, job->options->threads, &n));
    for (uint32_t a = 0; a < 3; ++a) {
        const uint32_t made = n.sizes.output_size[a];
        if (plan.tiles.windows() > 1 ? made != plan.tiles.call[a] : made < plan.unit[a])
            return fail(kUnsupported,
                        "the model's result is smaller than the image: it makes no mask; export a network that "
                        "keeps the size.");
    }
    job->beside = passage_bytes(plan, n.info.output_channels);
    TOOL_TRY(allocate_network(job->beside, &n));
    return open_passage(plan, n, &job->passage) ? kDone : no_memory(n, job->beside);
}

// The next part of the image: through the network, and its classes into the mask.
Exit segment_part(Job* job) {
    Network& n = job->network;
    const Plan& plan = job->plan;
    TOOL_TRY(read_part(&job->image, &job->passage));
    spend(job, kLoad);
    TOOL_TRY(prepare_part(job->image, n.info, &job->passage));
    for (uint32_t unit = 0; unit < plan.units; ++unit) {
        for (uint64_t window = 0; window < plan.tiles.windows(); ++window) {
            fill_input(job->passage, n.info, unit, window);
            spend(job, kPreprocess);
            TOOL_TRY(run_network(&n));
            spend(job, kRun);
            take_logits(job->passage, n, window);
        }
        finish_unit(job->passage, n, unit, job->values);
    }
    const uint64_t plane = uint64_t{plan.stored[1]} * plan.stored[2];
    for (uint32_t i = 0; i < plan.stored[0]; ++i) TOOL_TRY(put_slice(&job->mask, job->passage.classes + i * plane));
    spend(job, kWrite);
    return kDone;
}

Exit run_job(Job* job) {
    TOOL_TRY(look_at_image(job));
    TOOL_TRY(take_given(job));
    TOOL_TRY(prepare(job));
    TOOL_TRY(job->image.format->start(&job->image));
    TOOL_TRY(open_mask(job->options->out, job->mask.kind, job->image, &job->mask));
    for (uint64_t done = 0; done < job->image.slices; done += job->plan.stored[0]) TOOL_TRY(segment_part(job));
    TOOL_TRY(commit_mask(&job->mask));
    spend(job, kWrite);
    return kDone;
}

void print_summary(const Job& job) {
    if (*job.image.warning) fprintf(stderr, "warning: %.400s: %s\n", job.options->image, job.image.warning);
    const Network& n = job.network;
    double total = 0;
    for (double seconds : job.seconds) total += seconds;
    printf("%s: %llu slice(s) of %u x %u in %.2f s (%s, %u thread(s), working memory %.1f MB)\n", job.options->out,
           static_cast<unsigned long long>(job.image.slices), job.image.height, job.image.width, total, n.info.isa,
           job.options->threads, static_cast<double>(n.sizes.arena_bytes) / 1e6);
    if (job.options->time)
        printf("time: load %.4f s, preprocess %.4f s, run %.4f s, write %.4f s\n", job.seconds[kLoad],
               job.seconds[kPreprocess], job.seconds[kRun], job.seconds[kWrite]);
    if (!job.options->memory) return;
    printf("memory: arena %llu bytes, peak %llu bytes\n", static_cast<unsigned long long>(n.sizes.arena_bytes),
           static_cast<unsigned long long>(peak_memory()));
    if (job.plan.held)
        printf("volume: held whole, %llu bytes beside the arena\n", static_cast<unsigned long long>(job.beside));
}

}  // namespace

Exit segment(const Options& options) {
    auto* job = static_cast<Job*>(calloc(1, sizeof(Job)));
    if (!job) return fail(kRuntime, "no memory to begin with; close other programs.");
    job->options = &options;
    job->image.file.descriptor = -1;
    job->since = now();
    const Exit code = run_job(job);
    if (code == kDone) print_summary(*job);
    discard_mask(&job->mask);
    free(job->slice);
    close_passage(&job->passage);
    close_network(&job->network);
    close_image(&job->image);
    free(job);
    return code;
}

}  // namespace tool
