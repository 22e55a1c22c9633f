// A 2-D model runs slice by slice, each normalised by itself; a 3-D one takes the volume at once, slices first. An
// image is extended at its end to a size that the model accepts, and the logits are cut back.
#include "segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mask.h"
#include "network.h"
#include "preprocess.h"

namespace tool {
namespace {

enum Phase { kLoad, kPreprocess, kRun, kWrite, kPhases };

struct Job {
    const Options* options;
    Image image;
    Network network;
    Mask mask;
    uint32_t image_size[3];  // of one run
    uint8_t values[256];     // in the mask, of each class
    float* slice;            // of the first look at the image
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

void print_size(char* text, size_t room, const uint32_t* size, uint32_t rank) {
    int used = 0;
    for (uint32_t a = 3 - rank; a < 3; ++a)
        used += snprintf(text + used, room - static_cast<size_t>(used), "%s%u", used ? " x " : "", size[a]);
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
    if (info.input_channels != 1)
        return fail(
            kUnsupported,
            "the model takes %u channels and an image file gives 1 (grey); use the library (unetq.h) with an array of "
            "all channels.",
            info.input_channels);
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

// The size that the runtime is called with.
Exit accepted_size(const Job& job, uint32_t size[3]) {
    const uq_model_info& info = job.network.info;
    char have[64], want[64];
    const uint32_t rank = info.spatial_rank;
    print_size(have, sizeof have, job.image_size, rank);
    bool small = false;
    for (uint32_t a = 0; a < 3; ++a) {
        const uint64_t length = job.image_size[a], step = info.input_multiple[a];
        const uint64_t padded = info.fixed_size[2] ? info.fixed_size[a] : (length + step - 1) / step * step;
        if (length > padded) {
            print_size(want, sizeof want, info.fixed_size, rank);
            return fail(
                kImage,
                "%.400s: the image has %s pixels and the model was made for exactly %s: larger ones do not fit; cut "
                "the image into parts.",
                job.options->image, have, want);
        }
        size[a] = padded > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(padded);
        small = small || (a >= 3 - rank && length < step);
    }
    if (!small) return kDone;
    print_size(want, sizeof want, info.input_multiple, rank);
    static const char kWhy[] =
        "the image (%s) is smaller than the model's stride (%s): most of what the model %s mirrored or repeated "
        "pixels.";
    char why[300];
    snprintf(why, sizeof why, kWhy, have, want, job.options->allow_small ? "saw was" : "would see are");
    if (!job.options->allow_small)
        return fail(kImage, "%.400s: %s Use a larger image, a model with fewer levels, or --allow-small.",
                    job.options->image, why);
    fprintf(stderr, "warning: %s\n", why);
    return kDone;
}

Exit prepare(Job* job) {
    TOOL_TRY(open_network(job->options->model, job->options->isa, &job->network));
    TOOL_TRY(read_labels(job));
    const bool volume = job->network.info.spatial_rank == 3;
    if (job->image.slices > UINT32_MAX)
        return fail(kImage, "%.400s has more slices than can be counted; cut it into parts.", job->options->image);
    job->image_size[0] = volume ? static_cast<uint32_t>(job->image.slices) : 1;
    job->image_size[1] = job->image.height;
    job->image_size[2] = job->image.width;
    uint32_t size[3];
    TOOL_TRY(accepted_size(*job, size));
    TOOL_TRY(plan_network(size, job->options->threads, &job->network));
    for (uint32_t a = 0; a < 3; ++a)
        if (job->network.sizes.output_size[a] < job->image_size[a])
            return fail(kUnsupported,
                        "the model's result is smaller than the image: it makes no mask; export a network that "
                        "keeps the size.");
    return kDone;
}

// Reads the next count slices, runs them, and leaves their mask where the input was.
Exit segment_part(Job* job, uint32_t count) {
    Network& n = job->network;
    const uint64_t plane = static_cast<uint64_t>(job->image.height) * job->image.width;
    for (uint32_t i = 0; i < count; ++i) TOOL_TRY(job->image.format->slice(&job->image, n.input + i * plane));
    spend(job, kLoad);
    if (!normalize(n.input, count * plane, n.info.normalize, n.info.window_low, n.info.window_high))
        return fail(kImage,
                    "%.400s is not finite after normalisation: intensities must be real numbers within float32; "
                    "replace NaN and infinite pixels first.",
                    job->options->image);
    pad(n.input, job->image_size, n.sizes.input_size);
    spend(job, kPreprocess);
    TOOL_TRY(run_network(&n));
    spend(job, kRun);
    auto* mask = reinterpret_cast<uint8_t*>(n.input);
    const uint32_t* out = n.sizes.output_size;
    const uint64_t channel = static_cast<uint64_t>(out[0]) * out[1] * out[2];
    for (uint32_t z = 0; z < count; ++z)
        for (uint32_t y = 0; y < job->image.height; ++y) {
            const float* row = n.output + (static_cast<uint64_t>(z) * out[1] + y) * out[2];
            for (uint32_t x = 0; x < job->image.width; ++x)
                *mask++ = job->values[decide(row + x, n.info.output_channels, channel)];
        }
    mask = reinterpret_cast<uint8_t*>(n.input);
    for (uint32_t i = 0; i < count; ++i) TOOL_TRY(put_slice(&job->mask, mask + i * plane));
    spend(job, kWrite);
    return kDone;
}

Exit run_job(Job* job) {
    TOOL_TRY(look_at_image(job));
    TOOL_TRY(prepare(job));
    TOOL_TRY(job->image.format->start(&job->image));
    TOOL_TRY(open_mask(job->options->out, job->mask.kind, job->image, &job->mask));
    const uint32_t at_once = job->image_size[0];
    for (uint64_t done = 0; done < job->image.slices; done += at_once) TOOL_TRY(segment_part(job, at_once));
    TOOL_TRY(commit_mask(&job->mask));
    spend(job, kWrite);
    return kDone;
}

void print_summary(const Job& job) {
    const Network& n = job.network;
    double total = 0;
    for (double seconds : job.seconds) total += seconds;
    printf("%s: %llu slice(s) of %u x %u in %.2f s (%s, %u thread(s), working memory %.1f MB)\n", job.options->out,
           static_cast<unsigned long long>(job.image.slices), job.image.height, job.image.width, total, n.info.isa,
           job.options->threads, static_cast<double>(n.sizes.arena_bytes) / 1e6);
    if (job.options->time)
        printf("time: load %.4f s, preprocess %.4f s, run %.4f s, write %.4f s\n", job.seconds[kLoad],
               job.seconds[kPreprocess], job.seconds[kRun], job.seconds[kWrite]);
    if (job.options->memory)
        printf("memory: arena %llu bytes, peak %llu bytes\n", static_cast<unsigned long long>(n.sizes.arena_bytes),
               static_cast<unsigned long long>(peak_memory()));
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
    close_network(&job->network);
    close_image(&job->image);
    free(job);
    return code;
}

}  // namespace tool
