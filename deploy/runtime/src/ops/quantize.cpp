// float32 onto a grid. The network's input is read in the caller's order (channels outermost), all else channels last.
#include "dynamic.h"

namespace uq {
namespace {

struct Work {
    uint8_t* codes;    // one row, [pixel][channel]
    uint8_t* channel;  // one row of one channel
};

Work carve(const Op& op, const uint32_t output[3], Carver* carver) {
    Work work;
    work.codes = carver->take<uint8_t>(product(output[2], op.output_channels));
    work.channel = carver->take<uint8_t>(output[2]);
    return work;
}

}  // namespace

uint64_t quantize_work_bytes(const Op& op, const uint32_t output[3]) {
    Carver carver(nullptr);
    carve(op, output, &carver);
    return carver.used();
}

bool run_quantize(Run* run, const Op& op, uint8_t* memory, Share share) {
    const Kernels& kernels = run->model->kernels;
    const uint32_t* size = run->layout->places[op.output].size;
    const Target target = run_target(*run, op);
    const bool planar = op.inputs[0] == run->model->program->input;
    const uint32_t channels = op.output_channels, width = size[2];
    Carver carver(memory);
    const Work work = carve(op, size, &carver);
    const uint64_t plane = pixels(size);
    const uint64_t rows = static_cast<uint64_t>(size[0]) * size[1];
    const uint64_t end = static_cast<uint64_t>(share.end(rows)) * width;
    for (uint64_t pixel = static_cast<uint64_t>(share.begin(rows)) * width; pixel < end; pixel += width) {
        const uint64_t values = static_cast<uint64_t>(width) * channels;
        if (run->looking) {
            for (uint32_t c = 0; planar && c < channels; ++c)
                look(run, share, run->input + c * plane + pixel, width, 1, width);
            if (!planar)
                look(run, share, reinterpret_cast<const float*>(run->row(op.inputs[0], pixel, width).data), values, 1,
                     static_cast<uint32_t>(values));
            if (!run->advance(values, share)) return false;
            continue;
        }
        if (planar) {
            for (uint32_t c = 0; c < channels; ++c) {
                kernels.quantize(run->input + c * plane + pixel, width, target, work.channel);
                for (uint32_t p = 0; p < width; ++p)
                    work.codes[static_cast<size_t>(p) * channels + c] = work.channel[p];
            }
        } else {
            const PackedRow row = run->row(op.inputs[0], pixel, width);
            kernels.quantize(reinterpret_cast<const float*>(row.data), static_cast<size_t>(width) * channels, target,
                             work.codes);
        }
        kernels.store_codes(work.codes, channels, run->row(op.output, pixel, width));
        if (!run->advance(values, share)) return false;
    }
    return true;
}

}  // namespace uq
